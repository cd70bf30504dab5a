"""``tuned/``: what `prisbench tune` tried for each method, beside a leaderboard's result files, and the table of it.

A method whose published settings stay the best has a line there and needs no second row: it would be the same one.

Knows: the files, the table made from them.  Does not know: how settings are tried.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from prisbench.errors import DataError
from prisbench.leaderboard.render import cell, signed
from prisbench.results import Run
from prisbench.runtime.files import read_bytes, sha256_bytes, write_bytes
from prisbench.tuning.file import Tuned, read_tuned

FOLDER = "tuned"

HEADING = "Tuned on validation"


def keep_tuned(path: Path, board: Path) -> Path:
    """Put a file that `prisbench tune` wrote beside a leaderboard's result files; one of the same tuning is replaced.

    Raises DataError for a damaged one, WriteError.
    """
    return write_bytes(_place(path, board), read_bytes(path))


def _place(path: Path, board: Path) -> Path:
    """Where such a file is kept, named for what was tuned."""
    tuned = read_tuned(path)
    parts = [tuned.method, tuned.concept or "", *(f"{key}={value}" for key, value in sorted(tuned.fixed.items()))]
    parts.append("" if tuned.reference == "photos" else tuned.reference)
    name = "--".join(re.sub(r"[^\w.+=-]+", "-", part) for part in parts if part)
    return board / FOLDER / f"{name}.json"


def tunings(board: Path, runs: Sequence[Run], new: Path | None = None) -> list[Tuned]:
    """What was tuned for a leaderboard, in the order of the files' names; ``new``: with this file, not kept there yet.

    Raises DataError for a damaged file, for one of another dataset, and for a tuned run whose file is not there.
    """
    found: dict[str, Tuned] = {}
    paths = {path: path for path in (board / FOLDER).glob("*.json")}
    paths |= {} if new is None else {_place(new, board): new}
    for _, path in sorted(paths.items()):
        tuned = read_tuned(path)
        if tuned.digest != runs[0].dataset.digest:
            raise DataError(f"{path}: tuned on another dataset version than the result files; tune again, or remove it")
        found[sha256_bytes(read_bytes(path))] = tuned
    for run in runs:
        told = run.settings.get("tuned")
        if isinstance(told, Mapping) and told.get("sha256") not in found:
            raise DataError(
                f"{run.method} / {run.concept} was tuned, and {board / FOLDER} has not the file that says how; put it "
                "there with the row: prisbench evaluate --settings-file FILE --leaderboards DIR"
            )
    return list(found.values())


def tunings_markdown(found: Sequence[Tuned]) -> str:
    """The table, what gained most first, and what a reader must know; empty without a tuning."""
    if not found:
        return ""
    lines = ["| method | given | settings tried | queries | published | best | gain | chosen |"]
    lines.append("| :--- | :--- | ---: | ---: | ---: | ---: | ---: | :--- |")
    for each in sorted(found, key=lambda each: -each.gain):
        given = [each.concept or "", *(f"{key}={value}" for key, value in each.fixed.items()), each.reference]
        chosen = " ".join(f"`{key}={value}`" for key, value in each.settings.items())
        doubtful = bool(each.settings) and not each.told_apart
        cells = [
            *(each.method, ", ".join(filter(None, given)), str(each.budget)),
            f"{each.queries} of {each.subjects} subjects",
            *(cell(each.published), cell(each.score), signed(each.gain, each.gain_interval, 3)),
            (chosen or "published settings stay") + " (not told apart)" * doubtful,
        ]
        lines.append("| " + " | ".join(part.replace("|", "\\|") for part in cells) + " |")
    measures = " and ".join(sorted({each.metric for each in found}))
    note = (
        f"Scores are those of the validation queries that settings were chosen on ({measures}), so a gain flatters. "
        "Intervals are over subjects, both settings on the same queries. Settings are drawn by lot, the published ones "
        f"first; all that was tried is in `{FOLDER}/`. Where the published settings stay there is no second row."
    )
    return "\n".join([*lines, "", f"- {note}"]) + "\n"
