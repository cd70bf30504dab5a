"""Rows that others submit: the folder that a pull request adds, its checks, and rows that are retracted.

A submission is laid out as the folder of leaderboards is: ``<dataset>/<row>.json`` and, beside it, its predictions.

Knows: what a row needs before it may stand on a leaderboard.  Does not know: how a run is made.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from prisbench.answers import SAFE_NAME
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, UsageError
from prisbench.leaderboard.ceilings import read_ceilings, result_files
from prisbench.leaderboard.pages import readme, write_pages
from prisbench.leaderboard.publish import LARGEST, keep_predictions, kept_beside
from prisbench.leaderboard.reported import reported
from prisbench.leaderboard.rescore import Find, rescore_one
from prisbench.leaderboard.rows import board_name, load_runs
from prisbench.metrics import METRIC_SPEC
from prisbench.results import SCHEMA_VERSION, Run, read_run, write_run
from prisbench.runs import PREDICTIONS, run_name
from prisbench.runtime.files import write_text

LARGEST_ROW = 20_000_000
"""Bytes of a row's record; a file that is larger is not read."""


class Submission(NamedTuple):
    """A row of a submission that passed: its file, the run, how many predictions were scored again."""

    file: Path
    run: Run
    scored: int


def submit(run: Run, predictions: Path, out: Path) -> Path:
    """Write a run's row and predictions into the folder of a submission; the row's file.

    Raises as ``check_row``, and DataError for predictions that the run was not scored from, or too many.
    """
    place = out / board_name(run.dataset) / f"{run_name(run.method, run.concept, run.seed, run.reference)}.json"
    check_row(run, str(predictions.parent))
    keep_predictions(run, predictions, place)
    return write_run(run, place)


def predictions_of(folder: Path) -> Path:
    """The predictions in a run's folder.  Raises DataError where there are none."""
    path = folder / PREDICTIONS
    if not path.is_file():
        raise DataError(
            f"{folder} has no {PREDICTIONS}; make the run with prisbench evaluate, or score a file with --out"
        )
    return path


def check_row(run: Run, where: str) -> None:
    """Raises UsageError or DataError for a run that can be no row of today: a part, one of an older form, one with a
    name that no file can have.
    """
    if run.part.left_out:
        raise UsageError(f"{where}: a part of a split is no result to submit; run all of it")
    if run.schema_version != SCHEMA_VERSION or run.metric_spec != METRIC_SPEC:
        raise DataError(
            f"{where}: of schema version {run.schema_version} and metric spec {run.metric_spec}; this prisbench takes "
            f"{SCHEMA_VERSION} and {METRIC_SPEC}: score its predictions again"
        )
    for what, name in (("method", run.method), ("concept", run.concept)):
        if not SAFE_NAME.fullmatch(name):
            raise DataError(
                f"{where}: the {what} is called {name!r}; give 1 to 100 letters, digits, '-', '_' or '.', beginning "
                "with a letter or digit"
            )
    if run.retracted is not None:
        raise UsageError(f"{where}: it was retracted ({run.retracted}); submit a run that stands")


def check_submission(folder: Path, boards: Path, find: Find) -> Iterator[Submission]:
    """Every row of a submission: its form, its identity, that each query of its split has one answer, and that its
    masks, scored again, give its numbers.

    Raises DataError, naming the file, for the first fault; also for predictions without a row, for another file, for a
    row that the leaderboard has, and where the dataset is not here, since nothing is taken on trust.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = [path for path in files if path.suffix == ".json"]
    if not rows:
        raise DataError(f"{folder} holds no row: no <dataset>/<row>.json in it; make one with prisbench submit RUN")
    known = {*rows, *(kept_beside(path) for path in rows)}
    if strays := [path for path in files if path not in known]:
        raise DataError(f"{strays[0]} is no part of a submission; leave it out")
    found: dict[str, Dataset | None] = {}
    for path in rows:
        yield _checked(path, boards, found, find)


def _checked(path: Path, boards: Path, found: dict[str, Dataset | None], find: Find) -> Submission:
    kept = kept_beside(path)
    for file, most in ((path, LARGEST_ROW), (kept, LARGEST)):
        if not file.is_file():
            raise DataError(f"{file} is missing; a row comes with its predictions (prisbench submit RUN)")
        if file.stat().st_size > most:
            raise DataError(f"{file} has {file.stat().st_size / 1e6:.1f} MB, at most {most / 1e6:.0f} are read")
    run = read_run(path)
    check_row(run, str(path))
    named = f"{run_name(run.method, run.concept, run.seed, run.reference)}.json"
    if path.name != named or path.parent.name != board_name(run.dataset):
        raise DataError(f"{path}: a row of this run is {board_name(run.dataset)}/{named}; rename it")
    there = boards / path.parent.name
    if (there / path.name).is_file() and (there / path.name).resolve() != path.resolve():
        raise DataError(f"{path}: the leaderboard has such a row; retract that one, or give yours another name")
    if result_files(there) and load_runs(there)[0].dataset != run.dataset:
        raise DataError(f"{path}: made on another content of {path.parent.name} than the rows of {there} (its digest)")
    again = rescore_one(path, run, found, find)
    if again.state != "same":
        raise DataError(
            f"{path}: its dataset is not here, so it cannot be scored again; give the dataset's folder with --data"
        )
    return Submission(path, run, again.n)


def with_submission(boards: Path, board: str, submitted: Sequence[Submission]) -> list[Run]:
    """The runs of a leaderboard as they would be: those that are there, and the submitted ones of that name."""
    there = load_runs(boards / board) if result_files(boards / board) else []
    return [*there, *(each.run for each in submitted if each.file.parent.name == board)]


def retract(row: Path, reason: str) -> Run:
    """Mark a row of a leaderboard as retracted, and make the tables again: it is in no table any more, and listed
    below them with the reason.  The record and its predictions stay.

    Raises UsageError without a reason and for a row that is retracted already; nothing is written then.
    """
    words = " ".join(reason.split())
    if not words:
        raise UsageError("--reason: say in a few words why the row is no result any more")
    run = read_run(row)
    if run.retracted is not None:
        raise UsageError(f"{row} was retracted before: {run.retracted}")
    marked = replace(run, retracted=f"{words} ({datetime.date.today().isoformat()})")
    folder = row.parent
    runs = [marked if path == row else read_run(path) for path in result_files(folder)]
    text = readme(runs, read_ceilings(folder, marked.dataset), reported(folder))
    write_run(marked, row)
    write_text(folder / "README.md", text)
    write_pages(folder.parent.parent, runs)
    return marked
