"""A run's folder: what it is called, what says which run it is, and when a folder is of another run.

``manifest.json`` says what is being run; a resumed run must be the same.  ``predictions.jsonl`` has one line a query,
on disk as soon as it is answered, and ``run.json`` is there at the end.

Knows: the folder and its manifest.  Does not know: how queries are answered, how answers are scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError
from prisbench.runtime.files import read_json, write_errors, write_json
from prisbench.runtime.identity import difference, with_files
from prisbench.types import UNLEARNED, Method

PREDICTIONS, RUN = "predictions.jsonl", "run.json"
"""Files of a run beside its manifest."""


@dataclass(frozen=True)
class Scope:
    """Which part of a dataset is run: a split, at most ``limit`` queries spread over it, one query type or all."""

    split: str = "test"
    limit: int | None = None
    subset: str | None = None


@dataclass(frozen=True)
class RunOptions:
    """How a run goes.

    ``seed``: that of the method, for the record.  ``fresh`` forgets an earlier run of the same name, finished or not.
    By default, queries that the method fails on are recorded, the run goes on, and the same command tries them again:
    ``keep_errors`` does not try the failures of an earlier run again, ``fail_on_error`` ends the run at the first one.
    """

    seed: int = 0
    fresh: bool = False
    keep_errors: bool = False
    fail_on_error: bool = False


def run_name(method: str, concept: str, seed: int) -> str:
    """What a run's files are called; seed 0 goes without saying."""
    return "--".join([method, concept, *([f"seed-{seed}"] if seed else [])])


def run_folder(root: Path, dataset: Dataset, method: Method, concept: str, scope: Scope, seed: int = 0) -> Path:
    """``root/<dataset>/<method>--<concept>``, with the seed and what makes a run partial in its name."""
    parts = [run_name(method.name, concept, seed)]
    parts += [scope.split] if scope.split != "test" else []
    parts += [scope.subset] if scope.subset else []
    parts += [f"spread-{scope.limit}"] if scope.limit else []
    return root / dataset.id / "--".join(parts)


def check_claim(folder: Path, manifest: Mapping[str, Any], fresh: bool) -> None:
    """Raises DataError when the folder holds a run of something else; ``fresh`` empties it instead."""
    if fresh:
        for name in (RUN, PREDICTIONS, "manifest.json"):
            with write_errors(folder / name):
                (folder / name).unlink(missing_ok=True)
    path = folder / "manifest.json"
    if not path.exists():
        return
    found = read_json(path)
    start = "choose another --out, or say --fresh to start again"
    if not isinstance(found, dict) or "identity" not in found:
        raise DataError(f"{folder} holds a run of an older prisbench, which did not record the method's code; {start}")
    for key, value in json.loads(json.dumps({k: v for k, v in manifest.items() if k != "identity"})).items():
        there = found.get(key)
        if key == "concepts" and isinstance(there, dict):  # of those subjects that are learned so far
            there = {subject: id for subject, id in there.items() if subject in value}
        if there != value:
            raise DataError(f"{folder} holds a run with another {key} ({_difference(there, value)}); {start}")
    if change := difference(found["identity"], manifest["identity"]):
        raise DataError(f"{folder} holds a run of {manifest['method']} as it was before: {change}; {start}")


def claim(
    folder: Path, manifest: Mapping[str, Any], learn_seconds: float, concept_bytes: float | None
) -> dict[str, Any]:
    """Write the manifest, or find that what is there is the same run; either way what it says then."""
    check_claim(folder, manifest, fresh=False)
    path = folder / "manifest.json"
    if path.exists():
        return {"concept_bytes": concept_bytes, **read_json(path)}
    learned = manifest["concept"] not in UNLEARNED
    written: dict[str, Any] = json.loads(json.dumps(manifest))
    written["learn_seconds"] = round(learn_seconds, 2) if learned and learn_seconds > 0.5 else None
    written["concept_bytes"] = concept_bytes
    write_json(path, written)
    return written


def note_files(folder: Path, method: Method) -> None:
    """What the method read since: in the manifest before an answer that may come from it is written."""
    path = folder / "manifest.json"
    manifest = read_json(path)
    noted = with_files(manifest["identity"], method)
    if noted != manifest["identity"]:
        write_json(path, {**manifest, "identity": noted})


def _difference(found: Any, wanted: Any) -> str:
    """Where two values differ first, in a few words."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                return f"{key}: {_difference(found.get(key), wanted.get(key))}"
    return f"{found!r} there, {wanted!r} now"
