"""Which runs looked at a test split, when, at which commit and why: so that "looked at once" can be checked.

Every scored run of a test split adds a line to ``test-log.jsonl`` in the folder of runs; what is published takes its
dataset's lines along.  A run that is made again with the same answers is no other look.

Knows: the log's lines.  Does not know: how a run is made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prisbench.results import Run
from prisbench.runtime.files import read_bytes, write_bytes
from prisbench.runtime.locks import locked
from prisbench.runtime.strict_json import dump, parse

LOG = "test-log.jsonl"


def log_look(run: Run, root: Path) -> bool:
    """Note a look at a test split in the log below ``root``; False where it was no new one, or of another split."""
    if run.dataset.split != "test":
        return False
    entry = entry_of(run)
    return _merge(root / LOG, [entry]) > 0


def entry_of(run: Run) -> dict[str, Any]:
    """A run's line."""
    provenance = run.provenance
    return {
        "date": run.created,
        "dataset": run.dataset.id,
        "digest": run.dataset.digest,
        "method": run.method,
        "concept": run.concept,
        "reference": run.reference,
        "seed": run.seed,
        "part": asdict(run.part) if run.part.left_out else None,
        "commit": provenance and provenance.commit,
        "dirty": provenance and provenance.dirty,
        "reason": provenance and provenance.reason,
        "predictions": run.predictions and run.predictions.sha256,
    }


def publish_looks(root: Path, folder: Path, digest: str) -> None:
    """Take the lines of one dataset over into a leaderboard's log."""
    if (root / LOG).is_file():
        _merge(folder / LOG, (entry for entry in read_log(root / LOG) if entry.get("digest") == digest))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.  Raises DataError, naming the line, for one that is no JSON object."""
    return [parse(line, f"{path}, line {n}") for n, line in enumerate(read_bytes(path).splitlines(), 1) if line.strip()]


def _merge(path: Path, entries: Iterable[dict[str, Any]]) -> int:
    """Add what is not there; how many that are."""
    with locked(path.parent, ".test-log.lock", wait=True):
        there = read_log(path) if path.is_file() else []
        seen = {_look(entry) for entry in there}
        new = [entry for entry in entries if _look(entry) not in seen]
        if new:
            lines = [dump(entry, str(path)) for entry in [*there, *new]]
            write_bytes(path, ("\n".join(lines) + "\n").encode())
    return len(new)


def _look(entry: dict[str, Any]) -> str:
    """What makes a look the same one: what was run and what came out, not when."""
    same = {key: value for key, value in entry.items() if key not in ("date", "commit", "dirty", "reason")}
    return json.dumps(same, sort_keys=True)
