"""The one record of a run of its shards: the same bytes as of one process that answered everything.

Shards may come in any order, from several machines, of several divisions (``3-of-8`` beside ``1-of-4``), and twice:
what counts is that every query has one answer.

Knows: folders of shards, what of their manifests is a run's.  Does not know: methods, how a shard is carried out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, UsageError
from prisbench.evaluate import finish
from prisbench.predictions import PredictionRecord, lines_of, read_predictions
from prisbench.results import DatasetRef, Run
from prisbench.runs import (
    MANIFEST,
    PREDICTIONS,
    SOFT_MAPS,
    Scope,
    SubjectCost,
    check_claim,
    mean_cost,
    other_run,
    read_manifest,
    scope_of,
)
from prisbench.runtime.files import write_bytes, write_errors, write_json
from prisbench.runtime.locks import locked
from prisbench.sharding import SHARDS, Shard, shard_of

OF_A_SHARD = ("shard", "subjects", "learn_seconds", "concept_bytes", "out_of_domain")
"""Parts of a shard's manifest that are not the run's."""


class ShardFolder(NamedTuple):
    """A shard as it lies on disk."""

    shard: Shard
    folder: Path
    manifest: Mapping[str, Any]


class Merged(NamedTuple):
    """The record that shards made: the run, where it is, of how many shards, and how many answers came twice."""

    run: Run
    path: Path
    shards: int
    twice: int


def merge(folders: Sequence[Path], dataset: Dataset, out: Path | None = None, fresh: bool = False) -> Merged:
    """Make a run's ``manifest.json``, ``predictions.jsonl`` and ``run.json`` of its shards, which stay as they are.

    ``folders``: the run's, whose shards are all taken, or shards' own, from anywhere.  ``out``: the run's folder; by
    default the one that the shards lie in.  ``fresh`` replaces a run of something else there.

    Raises UsageError where there is no shard; DataError, naming them, for shards of different runs or of another
    content of the dataset, for two that answer a query differently, and for those that are missing or not finished;
    nothing is written then.  WriteError.
    """
    shards = sorted((_opened(path) for path in _shard_folders(folders)), key=lambda each: (each.shard, each.folder))
    _check_same(shards)
    made_on = shards[0].manifest["dataset"]
    if made_on["digest"] != dataset.digest:
        raise DataError(
            f"{shards[0].folder} was made on {DatasetRef(**made_on).id} (digest {made_on['digest'][:16]}), "
            f"{dataset.folder} has the digest {dataset.digest[:16]}; merge it with the dataset it was made on"
        )
    scope = scope_of(shards[0].manifest)
    answers, twice = _answers(shards)
    order = _order(dataset, scope)
    _check_complete(shards, answers, order)
    folder = out or _run_folder(shards[0].folder)
    manifest = _manifest(shards)
    with locked(folder):
        check_claim(folder, manifest, fresh)
        write_json(folder / MANIFEST, manifest)
        write_bytes(folder / PREDICTIONS, lines_of(answers[query_id] for query_id in order))
        for each in shards:
            _take_maps(each.folder / SOFT_MAPS, folder / SOFT_MAPS)
        run, path = finish(dataset, folder, scope, manifest)
    return Merged(run, path, len(shards), twice)


def _shard_folders(folders: Sequence[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for folder in folders:
        below = sorted((folder / SHARDS).glob(f"*/{MANIFEST}"))
        if not below and not (folder / MANIFEST).is_file():
            raise UsageError(
                f"{folder} holds no shards: no {SHARDS}/ with some in it; make them with prisbench evaluate --shard 1/8"
            )
        for place in [path.parent for path in below] or [folder]:
            found[place.resolve()] = place
    return list(found.values())


def _opened(folder: Path) -> ShardFolder:
    manifest = read_manifest(folder)
    if "shard" not in manifest:
        raise DataError(f"{folder} is a whole run, no shard; score it with prisbench score {folder}")
    if not (folder / PREDICTIONS).is_file():
        raise DataError(f"{folder} has no {PREDICTIONS} yet; run its shard again, or copy it whole")
    return ShardFolder(Shard(**manifest["shard"]), folder, manifest)


def _check_same(shards: Sequence[ShardFolder]) -> None:
    """Raises DataError for the first shard that is of another run than the first of all."""
    first = shards[0]
    concepts: dict[str, tuple[str, Path]] = {}
    for each in shards:
        words = other_run(_of_the_run(first.manifest), _of_the_run(each.manifest)) or _other_files(first, each)
        if words:
            raise DataError(
                f"{each.folder} is a shard of another run than {first.folder}, which is {words}; merge the shards of "
                "one run only"
            )
        for subject, concept in each.manifest["concepts"].items():
            known, place = concepts.setdefault(subject, (concept, each.folder))
            if known != concept:
                raise DataError(
                    f"{each.folder} has the concept {concept} of subject {subject!r}, {place} has {known}; learning "
                    "was not the same in both, so one of them has to be run again"
                )


def _of_the_run(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same in all shards; which files a method read is compared by ``_other_files``."""
    kept = {key: value for key, value in manifest.items() if key not in (*OF_A_SHARD, "concepts")}
    return {**kept, "identity": {key: value for key, value in kept["identity"].items() if key != "read"}}


def _other_files(first: ShardFolder, second: ShardFolder) -> str | None:
    one, two = (each.manifest["identity"].get("read", {}) for each in (first, second))
    changed = [name for name in one if name in two and one[name] != two[name]]
    return f"one that read another {changed[0]}" if changed else None


def _answers(shards: Iterable[ShardFolder]) -> tuple[dict[str, PredictionRecord], int]:
    """Every query's answer, a sound one before a failure, and how many queries have it from two shards.

    Raises DataError for a query with two different ones.
    """
    found: dict[str, tuple[PredictionRecord, Path]] = {}
    twice = 0
    for each in shards:
        for record in read_predictions(each.folder / PREDICTIONS):
            known, place = found.get(record.query_id, (None, each.folder))
            if known is not None:
                twice += 1
                if known.error is None and record.error is None and replace(record, seconds=known.seconds) != known:
                    raise DataError(
                        f"{place} and {each.folder} answer query {record.query_id!r} differently; leave the wrong one "
                        "of the two out"
                    )
            if known is None or (known.error is not None and record.error is None):
                found[record.query_id] = record, each.folder
    return {query_id: record for query_id, (record, _) in found.items()}, twice


def _order(dataset: Dataset, scope: Scope) -> dict[str, str]:
    """Query id -> image id, in the order in which one process answers: all of an image together."""
    images: dict[str, list[str]] = {}
    for asked in scope.asked(dataset):
        images.setdefault(asked.image_id, []).append(asked.query_id)
    return {query_id: image_id for image_id, queries in images.items() for query_id in queries}


def _check_complete(
    shards: Sequence[ShardFolder], answers: Mapping[str, PredictionRecord], order: Mapping[str, str]
) -> None:
    """Raises DataError for answers to no query of the run, and, naming the shards to run, for queries without one."""
    if strays := answers.keys() - order.keys():
        raise DataError(
            f"{len(strays)} answers are to queries that are not in the dataset's split or part, first {min(strays)!r}"
        )
    lacking = [query_id for query_id in order if query_id not in answers]
    if not lacking:
        return
    divisions = Counter(each.shard.of for each in shards)
    of = max(divisions, key=lambda each: (divisions[each], each))
    there = {each.shard.number for each in shards if each.shard.of == of}
    wanted = Counter(shard_of(order[query_id], of) for query_id in lacking)
    missing = [f"{number}/{of}" for number in sorted(wanted) if number not in there]
    begun = [f"{number}/{of} ({wanted[number]} to go)" for number in sorted(wanted) if number in there]
    parts = [f"shard{'s' * (len(missing) > 1)} {_listed(missing)} missing"] if missing else []
    parts += [f"shard{'s' * (len(begun) > 1)} {_listed(begun)} not finished"] if begun else []
    example = next(iter([*missing, *begun])).split(" ")[0]
    raise DataError(
        f"{' and '.join(parts)}: {len(lacking)} of {len(order)} queries have no answer; run prisbench evaluate with "
        f"the same options and --shard {example}{' and so on' * (len(missing) + len(begun) > 1)}, then merge again"
    )


MOST_NAMED = 20
"""Shards that a message names."""


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:MOST_NAMED], *([f"{len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else [])]
    verb = "are" if len(names) > 1 else "is"
    return f"{', '.join(shown[:-1])} and {shown[-1]} {verb}" if len(shown) > 1 else f"{shown[0]} {verb}"


def _run_folder(shard: Path) -> Path:
    if shard.resolve().parent.name != SHARDS:
        raise UsageError(f"{shard} lies in no run's folder; say with --out which folder the run is to have")
    return shard.resolve().parent.parent


def _manifest(shards: Sequence[ShardFolder]) -> dict[str, Any]:
    """The run's, as one process would have written it."""
    first = shards[0].manifest
    manifest = {key: value for key, value in first.items() if key not in OF_A_SHARD}
    manifest["concepts"] = {key: id for each in shards for key, id in each.manifest["concepts"].items()}
    manifest["provenance"] = _together([each.manifest["provenance"] for each in shards])
    identities = [each.manifest["identity"] for each in shards]
    read = {name: digest for each in identities for name, digest in each.get("read", {}).items()}
    written = sorted({name for each in identities for name in each.get("written", ())})
    more = {"read": {name: digest for name, digest in read.items() if name not in written}, "written": written}
    kept = {key: value for key, value in first["identity"].items() if key not in more}
    manifest["identity"] = {**kept, **{key: value for key, value in more.items() if value}}
    costs: dict[str, SubjectCost] = {}
    for each in shards:
        for subject, (seconds, size) in each.manifest["subjects"].items():
            # who found it in the store, or waited for it, took no longer than who learned it
            costs[subject] = SubjectCost(max(seconds, costs.get(subject, (0.0, 0))[0]), int(size))
    manifest |= mean_cost(costs.values(), manifest["concept"])
    outside = {each.shard: each.manifest.get("out_of_domain") for each in shards}
    known = [n for n in outside.values() if n is not None]
    if known and len({shard.of for shard in outside}) == 1:
        manifest["out_of_domain"] = sum(known)
    return manifest


def _together(records: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """One provenance of several: what differs among machines is named side by side."""
    known = [record for record in records if record is not None]
    if not known:
        return None

    def joined(values: Sequence[Any]) -> Any:
        if all(value == values[0] for value in values):
            return values[0]
        if any(isinstance(value, bool) for value in values):
            return any(values)
        if any(isinstance(value, Mapping) for value in values):
            return {key: joined([value.get(key) for value in values]) for value in values for key in value}
        return "; ".join(dict.fromkeys(str(value) for value in values if value is not None))

    return {key: joined([record.get(key) for record in known]) for key in known[0]}


def _take_maps(there: Path, here: Path) -> None:
    """The soft maps of a shard in the run's folder: as links, where the file system has them."""
    for path in sorted(there.glob("*.png")):
        place = here / path.name
        with write_errors(place):
            here.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.link(path, place)
                continue
            shutil.copyfile(path, place)
