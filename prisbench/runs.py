"""A run's folder: what it is called, what says which run it is, and when a folder is of another run.

``manifest.json`` says what is being run; a resumed run must be the same.  ``predictions.jsonl`` has one line a query,
on disk as soon as it is answered, and ``run.json`` is there at the end.  A shard's folder, below ``shards/`` of its
run's, has the first two.

Knows: the folder and its manifest.  Does not know: how queries are answered, how answers are scored.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from prisbench.datasets.load import Asked, Dataset
from prisbench.deaf import deaf_name
from prisbench.errors import DataError
from prisbench.own_task import OwnTask
from prisbench.provenance import Provenance
from prisbench.results import REFERENCES, DatasetRef, Part
from prisbench.runtime.files import read_bytes, sha256_json, write_errors, write_json
from prisbench.runtime.identity import difference, with_files
from prisbench.runtime.resume import Difference, as_json, differences
from prisbench.runtime.strict_json import Strict, parse, read
from prisbench.sharding import SHARDS, Shard
from prisbench.split_subjects import SplitSubjects
from prisbench.types import UNLEARNED, Concept, Example, Method

MANIFEST = "manifest.json"
PREDICTIONS, RUN, SOFT_MAPS = "predictions.jsonl", "run.json", "soft-maps"
"""Files of a run beside its manifest."""

IMAGE_SECONDS = 3600.0
"""How long the queries about one image may take unless it is said otherwise."""

TUNED = "-tuned"
"""What the name of a method with tuned settings ends with; its published settings have a row without it."""

UNCOMPARED = ("identity", "provenance", "own_task")
"""Parts of a manifest that are not compared as they are: the first has rules of its own, the others decide nothing."""


@dataclass(frozen=True)
class Scope:
    """Which part of a dataset is run: a split, and of it at most ``limit`` queries spread over it, one subset
    (``subsets.SUBSETS``), some subjects, some queries; all of it by default.

    ``shard``: of all that, what this process answers; the run is the same one.
    """

    split: str = "test"
    limit: int | None = None
    subset: str | None = None
    subjects: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    shard: Shard | None = None

    @property
    def part(self) -> Part:
        """The same without the split and the shard, for the record."""
        return Part(self.limit, self.subset, tuple(sorted(set(self.subjects))), tuple(sorted(set(self.queries))))

    def within(self, dataset: Dataset) -> Scope:
        """The same with the ids of the subjects that names, hashes or beginnings of them mean, so that it is one run
        whichever way they were said.

        Raises what ``Dataset.examples`` raises before the first example.
        """
        found = replace(self, subjects=dataset.find_subjects(self.subjects, self.split))
        found.examples(dataset)
        return found

    def examples(self, dataset: Dataset) -> Iterator[Example]:
        """The examples of it.  Raises as ``Dataset.examples``."""
        images = None if self.shard is None else self.shard.holds
        return dataset.examples(self.split, self.limit, self.subset, self.subjects, self.queries, images)

    def asked(self, dataset: Dataset) -> Iterator[Asked]:
        """The ids of all examples, whatever the shard, in no order to rely on; no image is read."""
        return dataset.asked(self.split, self.limit, self.subset, self.subjects, self.queries)


def scope_of(manifest: Mapping[str, Any]) -> Scope:
    """Which part of its dataset a run is of, by its manifest (``read_manifest``)."""
    part = manifest["part"]
    split = manifest["dataset"]["split"]
    return Scope(split, part["limit"], part["subset"], tuple(part["subjects"]), tuple(part["queries"]))


@dataclass
class Kept:
    """What a process that makes several shards keeps: the subjects of the split, as a method gets them, and the
    concepts of those that it learned, with the seconds they took.  So none is read or learned twice.
    """

    subjects: SplitSubjects | None = None
    concepts: dict[str, tuple[Concept, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class RunOptions:
    """How a run goes.

    ``seed``: that of the method, for the record.  ``fresh`` forgets an earlier run of the same name, finished or not.
    By default, queries that the method fails on are recorded, the run goes on, and the same command tries them again:
    ``keep_errors`` does not try the failures of an earlier run again, ``fail_on_error`` ends the run at the first one.
    ``scenes_at_once``: so many are shown together to a method that can look ahead (``types.LooksAhead``).
    ``image_seconds``: longer than this the queries about one image take in vain, and fail; None and 0: no limit.
    ``reference``: what a method is given of a subject, one of ``results.REFERENCES``.  ``deaf``: an input that is kept
    from the method, one of ``deaf.DEAF``.  ``tuned``: what the record says of settings that ``tuning`` chose; such a
    run has a name of its own.  ``reason``: why a test split is looked at, for its log.  ``soft_maps`` keeps the maps
    that masks were cut from, as 8-bit PNG files.  ``kept`` is what a process that makes several shards keeps from one
    to the next.
    """

    seed: int = 0
    reference: str = REFERENCES[0]
    reason: str | None = None
    deaf: str | None = None
    tuned: Mapping[str, Any] | None = None
    soft_maps: bool = False
    fresh: bool = False
    keep_errors: bool = False
    fail_on_error: bool = False
    image_seconds: float | None = IMAGE_SECONDS
    scenes_at_once: int = 1
    kept: Kept | None = field(default=None, compare=False, repr=False)


def known_as(method: str, options: RunOptions) -> str:
    """What a run's method is called: with the input that is kept from it, and whether its settings were tuned."""
    return deaf_name(method, options.deaf) + (TUNED if options.tuned else "")


def run_name(method: str, concept: str, seed: int, reference: str | None = None) -> str:
    """What a run's files are called; seed 0 and photos alone go without saying."""
    masks = [REFERENCES[1]] if reference == REFERENCES[1] else []
    return "--".join([method, concept, *masks, *([f"seed-{seed}"] if seed else [])])


def run_folder(
    root: Path, dataset: Dataset, method: Method, concept: str, scope: Scope, options: RunOptions | None = None
) -> Path:
    """``root/<dataset>/<method>--<concept>``, with the seed, the reference setting, and what makes a run partial; below
    it ``shards/3-of-8`` for a shard.
    """
    options = options or RunOptions()
    parts = [run_name(known_as(method.name, options), concept, options.seed, options.reference)]
    parts += [scope.split] if scope.split != "test" else []
    parts += [scope.subset.replace(":", "-")] if scope.subset else []
    parts += [f"spread-{scope.limit}"] if scope.limit else []
    for kind, ids in (("subject", scope.part.subjects), ("query", scope.part.queries)):
        if len(ids) == 1:
            parts.append(f"{kind}-{ids[0]}")
        elif ids:
            parts.append(f"{len(ids)}-{kind.replace('query', 'querie')}s-{sha256_json(list(ids))[:8]}")
    folder = root / dataset.id / "--".join(parts)
    return folder if scope.shard is None else folder / SHARDS / scope.shard.folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest, every part of the kind that it is written as; what nobody knows in ``dataset``, ``part`` and
    ``provenance`` is left out.

    Raises DataError, naming the file and the part, for a damaged one and for one of an older prisbench.
    """
    path = folder / MANIFEST
    data = read_bytes(path)
    found = parse(data, str(path))
    older = f"{folder} holds a run of an older prisbench, which did not record"
    if "identity" not in found:
        raise DataError(f"{older} the method's code; make it again")
    if not {"reference", "part"} <= found.keys():
        raise DataError(f"{older} all that decides it; make it again")
    parts = read(_Manifest, data, str(path))
    known: dict[str, Any] = {"dataset": asdict(parts.dataset), "part": asdict(parts.part)}
    known["provenance"] = parts.provenance and asdict(parts.provenance)
    known |= {"shard": asdict(parts.shard)} if parts.shard else {}
    return {**found, **as_json(known)}


def check_claim(folder: Path, manifest: Mapping[str, Any], fresh: bool) -> None:
    """Raises DataError when the folder holds a run of something else; ``fresh`` removes a run's files instead."""
    if fresh:
        _forget(folder)
    path = folder / MANIFEST
    if not path.exists():
        return
    start = "choose another --out, or say --fresh to start again"
    try:
        found = read_manifest(folder)
    except DataError as error:
        raise DataError(f"{error}; {start}") from None
    if words := other_run(found, manifest):
        raise DataError(f"{folder} holds a run {words}; {start}")


def other_run(found: Mapping[str, Any], manifest: Mapping[str, Any]) -> str | None:
    """In what a manifest is of another run than ``manifest``, in words; None when it is of the same.

    Concepts count only of those subjects that both know.
    """
    wanted = as_json({key: value for key, value in manifest.items() if key not in UNCOMPARED})
    there = {key: found.get(key) for key in wanted}
    if "concepts" in wanted and isinstance(there["concepts"], dict):  # of those subjects that are learned so far
        there["concepts"] = {key: id for key, id in there["concepts"].items() if key in wanted["concepts"]}
    if changes := list(differences(there, wanted)):
        first, *rest = changes
        also = f"; also another {'; '.join(_words(each) for each in rest)}" if rest else ""
        return f"with another {_words(first)}{also}"
    change = difference(found["identity"], manifest["identity"])
    return f"of {manifest['method']} as it was before: {change}" if change else None


def claim(folder: Path, manifest: Mapping[str, Any], cost: Mapping[str, SubjectCost]) -> dict[str, Any]:
    """Write the manifest, or find that what is there is the same run; either way what it says then.

    ``cost``: what each subject took.  A shard's manifest keeps all of it, that of a run the means.
    """
    check_claim(folder, manifest, fresh=False)
    path = folder / MANIFEST
    means = mean_cost(cost.values(), manifest["concept"])
    if path.exists():
        return {"concept_bytes": means["concept_bytes"], **read_manifest(folder)}
    written = {**as_json(manifest), **means}
    if manifest.get("shard") is not None:
        written["subjects"] = {key: list(each) for key, each in cost.items()}
    write_json(path, written)
    return written


LEAST_SECONDS = 0.5
"""A method that learns in less than that learns nothing worth a number, which would differ from run to run."""


class SubjectCost(NamedTuple):
    """What a subject took: seconds to learn, 0 where its concept was kept from before, and bytes of the tensors that
    localization reads.
    """

    seconds: float
    bytes: int


def mean_cost(costs: Collection[SubjectCost], concept: str) -> dict[str, float | None]:
    """A manifest's ``learn_seconds``, the mean over what was learned now, None where nothing was or in no time, and
    ``concept_bytes``, None where there are no tensors.
    """
    taken = [each.seconds for each in costs if each.seconds > 0]
    seconds = statistics.mean(taken) if taken else 0.0
    sizes = [each.bytes for each in costs]
    return {
        "learn_seconds": round(seconds, 2) if concept not in UNLEARNED and seconds >= LEAST_SECONDS else None,
        "concept_bytes": round(float(statistics.mean(sizes)), 1) if any(sizes) else None,
    }


def note_files(folder: Path, method: Method) -> None:
    """What the method read since: in the manifest before an answer that may come from it is written."""
    manifest = read_manifest(folder)
    noted = with_files(manifest["identity"], method)
    if noted != manifest["identity"]:
        write_json(folder / MANIFEST, {**manifest, "identity": noted})


def note(folder: Path, **found: Any) -> dict[str, Any]:
    """What is found out once every query has an answer: in the manifest, without what is None.  What it says then."""
    manifest = read_manifest(folder)
    noted = {**manifest, **{name: value for name, value in found.items() if value is not None}}
    if noted != manifest:
        write_json(folder / MANIFEST, noted)
    return noted


def _forget(folder: Path) -> None:
    """Remove a run's files, the manifest last: until then they are a run's.  Files of somebody else stay."""
    maps = folder / SOFT_MAPS
    for path in (folder / RUN, folder / PREDICTIONS, *sorted(maps.glob("*.png"))):
        with write_errors(path):
            path.unlink(missing_ok=True)
    with write_errors(maps):
        if maps.is_dir() and not maps.is_symlink() and not any(maps.iterdir()):
            maps.rmdir()
    with write_errors(folder / MANIFEST):
        (folder / MANIFEST).unlink(missing_ok=True)


def _words(change: Difference) -> str:
    """``settings (tau: 0.5 there, 0.6 now)``."""
    key, *inner = change.place
    place = "".join(f"{name}: " for name in inner)
    return f"{key} ({place}{change.found!r} there, {change.wanted!r} now)"


class _Identity(Strict):
    """What is read of ``runtime.identity``'s part."""

    file: str
    code: dict[str, str]
    weights: dict[str, str | None]
    packages: dict[str, str | None]
    given: dict[str, Any] = Field(default_factory=dict)
    read: dict[str, str] = Field(default_factory=dict)
    written: list[str] = Field(default_factory=list)


class _Manifest(Strict):
    """What a manifest holds; ``concept_bytes`` is not in those of runs that are older than it."""

    method: str
    concept: str
    dataset: DatasetRef
    settings: dict[str, Any]
    backbone: str | None
    seed: int
    learn_seconds: float | None
    concept_bytes: float | None = None
    out_of_domain: int | None = None
    reference: str
    part: Part
    template: str | None
    precision: str | None
    identity: _Identity
    concepts: dict[str, str]
    provenance: Provenance | None
    own_task: OwnTask | None = None
    shard: Shard | None = None
    subjects: dict[str, list[float]] = Field(default_factory=dict)
