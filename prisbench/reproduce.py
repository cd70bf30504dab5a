"""A run made again as its manifest says, and whether its answers are the same, query by query.

Knows: what a manifest and its command say, which causes of a drift can be named.  Does not know: any method.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, PrisbenchError, UsageError
from prisbench.leaderboard.compare import open_side
from prisbench.methods import load_method, names
from prisbench.predict import Progress, manifest_of, predict
from prisbench.predictions import PredictionRecord, read_predictions
from prisbench.results import Run
from prisbench.runs import MANIFEST, PREDICTIONS, TUNED, RunOptions, Scope, read_manifest, scope_of
from prisbench.runtime.resume import differences
from prisbench.score import portable
from prisbench.settings import MethodOptions, parse_settings

DECIDING = ("backbone", "settings", "template", "precision", "concepts")
"""Parts of a manifest, beside the identity, that may name a cause."""


class Made(NamedTuple):
    """A run that was made: what says how, as ``runs.read_manifest``, and its answers."""

    name: str
    manifest: Mapping[str, Any]
    records: Sequence[PredictionRecord]


@dataclass(frozen=True)
class Drift:
    """What became of one query: ``iou`` of the old and the new mask, ``words`` where they are not the same."""

    query_id: str
    iou: float
    words: str | None


class Reproduced(NamedTuple):
    """A run made again: where, every query's drift, and the causes that can be named."""

    folder: Path
    drifts: list[Drift]
    causes: list[str]

    @property
    def changed(self) -> list[Drift]:
        return [drift for drift in self.drifts if drift.words is not None]


def open_made(path: Path) -> Made:
    """A run by its folder, or a leaderboard's row by its file.

    Raises DataError for neither, and where no predictions are kept.
    """
    if path.is_dir() and (path / MANIFEST).is_file():
        if not (path / PREDICTIONS).is_file():
            raise DataError(f"{path} has no {PREDICTIONS}; there is nothing to compare with")
        return Made(str(path), read_manifest(path), read_predictions(path / PREDICTIONS))
    side = open_side(path)
    if side.predictions is None:
        raise DataError(f"{path}: no predictions are kept beside it; there is nothing to compare with")
    return Made(str(path), _as_manifest(side.run), read_predictions(side.predictions))


def _as_manifest(run: Run) -> dict[str, Any]:
    kept = {name: getattr(run, name) for name in ("method", "concept", "settings", "backbone", "seed", "reference")}
    kept |= {name: getattr(run, name) for name in ("template", "precision", "identity", "concepts")}
    kept |= {"dataset": asdict(run.dataset), "part": asdict(run.part)}
    return {**kept, "provenance": run.provenance and asdict(run.provenance)}


def said(command: str | None) -> dict[str, list[str]]:
    """The options of a recorded command: name -> its values, in order; {} for a run made from Python."""
    options: dict[str, list[str]] = {}
    name = ""
    for word in shlex.split(command or "")[2:]:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            options.setdefault(name, []).extend([value] if equals else [])
        elif name:
            options[name].append(word)
    return options


def options_of(made: Made, method: str | None, device: str, store: Path | None) -> tuple[str, MethodOptions]:
    """The method's name or file and its options, as the run's command and manifest have them.

    ``method``: where its file lies now.  Raises UsageError for a run whose method nobody can name.
    """
    manifest, command = made.manifest, (made.manifest["provenance"] or {}).get("command")
    options = said(command)
    named = method or next(iter(options.get("--method", [])), None)
    if named is None:
        file = Path(str(manifest["identity"].get("file", "")))
        plain = str(manifest["method"]).removesuffix(TUNED).partition("-deaf-to-")[0]
        named = plain if plain in names() else str(file) if file.suffix == ".py" and file.is_file() else None
        named = "attn" if named is None and options else named
    if named is None:
        raise UsageError(f"{made.name} was made from Python; say with --method which file its method is in")
    model = next(iter([*options.get("--model", []), *options.get("--backbone", [])]), None)
    concept = manifest["concept"] if manifest["concept"] in options.get("--concept", []) else None
    tuned = manifest["settings"].get("tuned") or {}
    settings = {**tuned.get("fixed", {}), **tuned["settings"]} if tuned else parse_settings(options.get("--set", []))
    model = model or tuned.get("model")
    return named, MethodOptions(
        concept=concept or tuned.get("concept"),
        model=None if model is None else str(Path(model).expanduser()) if model.startswith("~") else model,
        seed=manifest["seed"],
        device=device,
        settings=settings,
        store=None if store is None else str(store),
    )


def reproduce(
    made: Made,
    dataset: Dataset,
    loaded: tuple[str, MethodOptions],
    out: Path,
    limit: int | None = None,
    progress: Progress = lambda *_: None,
) -> Reproduced:
    """Make a run again below ``out``, where an interrupted one is gone on with, and compare every answer.

    ``limit``: so many queries only, spread over the run's.  Raises DataError for a dataset of another content and as
    ``predict``.
    """
    manifest = made.manifest
    if manifest["dataset"]["digest"] != dataset.digest:
        raise DataError(
            f"{made.name} was made on a dataset with the digest {manifest['dataset']['digest'][:16]}, {dataset.folder} "
            f"has {dataset.digest[:16]}: its content is the cause of any drift; name the one it was made on"
        )
    scope = scope_of(manifest)
    if limit is not None:
        scope = replace(scope, limit=limit if scope.limit is None else min(limit, scope.limit))
    deaf, tuned = (manifest["settings"].get(key) for key in ("deaf", "tuned"))
    options = RunOptions(manifest["seed"], manifest["reference"], deaf=deaf, tuned=tuned, keep_errors=True)
    name, method_options = loaded
    try:
        method = load_method(name, method_options)
    except PrisbenchError as error:
        raise DataError(f"{made.name} cannot be made again here: {error}") from None
    now = manifest_of(dataset, method, scope, options)
    predicted = predict(dataset, method, out, scope, options, progress)
    causes = causes_of(manifest, {**now, "concepts": predicted.manifest["concepts"]})
    drifts = list(_drifts(made.records, read_predictions(predicted.folder / PREDICTIONS), scope, dataset))
    return Reproduced(predicted.folder, drifts, causes)


def causes_of(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what a run differs from one made now: settings, weights, code, versions, device; also what by itself changes
    no answer, the processor and the GPU, last.
    """
    found: list[str] = []
    concepts = {key: id for key, id in then["concepts"].items() if key in now["concepts"]}
    pairs = [({**{key: then.get(key) for key in DECIDING}, "concepts": concepts}, {key: now[key] for key in DECIDING})]
    ours, theirs = (portable(each["identity"]) for each in (then, now))
    kept = ("class", "code", "weights", "packages", "device", "given")
    pairs.append(tuple({key: each.get(key) or {} for key in kept} for each in (ours, theirs)))  # type: ignore[arg-type]
    machines = [each.get("provenance") or {} for each in (then, now)]
    pairs.append(tuple({key: each.get(key) for key in ("processor", "gpu")} for each in machines))  # type: ignore[arg-type]
    for old, new in pairs:
        for change in differences(_plain(old), _plain(new)):
            place = ": ".join(change.place)
            found.append(f"{place} was {_short(change.found)}, is {_short(change.wanted)}")
    return found


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = "not there" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _drifts(
    old: Sequence[PredictionRecord], new: Sequence[PredictionRecord], scope: Scope, dataset: Dataset
) -> Iterator[Drift]:
    before, after = ({record.query_id: record for record in records} for records in (old, new))
    for asked in scope.asked(dataset):
        if asked.query_id not in before:
            yield Drift(asked.query_id, 0.0, "has no answer in the run")
        else:
            yield drift_of(before[asked.query_id], after[asked.query_id])


def drift_of(old: PredictionRecord, new: PredictionRecord) -> Drift:
    """What became of one query.  Seconds do not count."""
    if (old.error is None) != (new.error is None):
        words = f"failed before ({old.error})" if old.error is not None else f"fails now ({new.error})"
        return Drift(old.query_id, 0.0, words)
    if old.rle == new.rle:
        same = (old.presence, old.peak_yx) == (new.presence, new.peak_yx)
        return Drift(old.query_id, 1.0, None if same else f"same mask, {_told(old)} before, {_told(new)} now")
    one, two = old.mask, new.mask
    if one is None or two is None:
        return Drift(
            old.query_id, 0.0, '"not here" before, a mask now' if one is None else 'a mask before, "not here" now'
        )
    if one.shape != two.shape:
        return Drift(old.query_id, 0.0, f"a mask of {one.shape} before, {two.shape} now")
    union = int(np.logical_or(one, two).sum())
    iou = float(np.logical_and(one, two).sum() / union) if union else 1.0
    return Drift(old.query_id, iou, f"IoU {iou:.4f} between the masks")


def _told(record: PredictionRecord) -> str:
    return f"presence {record.presence} and peak {record.peak_yx}"


def lines_of(found: Reproduced) -> list[str]:
    """What a reader wants: how many are the same, which are not, why that may be."""
    changed, n = found.changed, len(found.drifts)
    lines = [f"{n - len(changed)} of {n} answers are identical"]
    if changed:
        ious = [drift.iou for drift in changed]
        lines.append(
            f"{len(changed)} drifted: IoU of old and new {min(ious):.4f} at least, {np.mean(ious):.4f} on average"
        )
        lines += [f"  {drift.query_id}: {drift.words}" for drift in sorted(changed, key=lambda drift: drift.iou)[:10]]
        lines += [f"  and {len(changed) - 10} more"] if len(changed) > 10 else []
    if found.causes:
        lines += ["other than when it was made:" if changed else "all the same, other than when it was made:"]
        lines += [f"  {cause}" for cause in found.causes]
    elif changed:
        lines.append("no cause can be named: settings, code, weights, versions and device are as they were")
    return [*lines, f"the new run: {found.folder}"]


def record_of(found: Reproduced) -> dict[str, Any]:
    """The same for programs, every drift named."""
    return {
        "queries": len(found.drifts),
        "identical": len(found.drifts) - len(found.changed),
        "drifted": [asdict(drift) for drift in found.changed],
        "causes": found.causes,
        "folder": str(found.folder),
    }
