"""Putting a run on a leaderboard, and holding every leaderboard to its result files.

A leaderboard is a folder of result files with a README.md made from them; pages beside the folder of leaderboards may
show its table, too (``pages.PAGES``).

Knows: which files change together.  Does not know: how a table is made, how a run came about.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prisbench.errors import DataError, UsageError
from prisbench.foreign import read_answers
from prisbench.leaderboard.ceilings import read_ceilings, result_files
from prisbench.leaderboard.pages import check, check_pages, readme, write_pages
from prisbench.leaderboard.reported import reported
from prisbench.leaderboard.rows import board_name, load_runs
from prisbench.leaderboard.tunings import keep_tuned, tunings
from prisbench.predictions import lines_of, packed
from prisbench.results import Run, read_run, write_run
from prisbench.runs import run_name
from prisbench.runtime.files import sha256_bytes, write_bytes, write_text

LARGEST = 10_000_000
"""Bytes of compressed predictions beside a row."""


def publish(run: Run, root: Path, predictions: Path | None = None, tuned: Path | None = None) -> Path:
    """Put a run among the result files of its dataset below ``root``, and make the tables again; its result file.

    ``predictions``: the file that the run was scored from; it is kept beside the result file, compressed.  ``tuned``:
    the file of its settings where they were tuned; kept, too (``tunings``).  A run of another split than test has a
    leaderboard of its own, ``<dataset>-<split>``.  A run of the same method, concept, reference setting and seed is
    replaced.

    Raises UsageError for a part of a split; DataError when the run may not stand among those that are there, when the
    predictions are not those it was scored from, and when they are larger than ``LARGEST`` compressed; nothing is
    written then.  WriteError.
    """
    if run.part.left_out:
        raise UsageError("a part of a split is no result to publish; run all of it")
    data = run.dataset
    folder = root / board_name(data)
    place = folder / f"{run_name(run.method, run.concept, run.seed, run.reference)}.json"
    kept = None if predictions is None else _packed(run, predictions)
    paths = sorted({*result_files(folder), place})
    runs = [run if path == place else read_run(path, data) for path in paths]
    text = readme(runs, read_ceilings(folder, data), reported(folder), tunings(folder, runs, tuned))
    if tuned is not None:
        keep_tuned(tuned, folder)
    if kept is not None:
        write_bytes(kept_beside(place), kept)
    write_run(run, place)
    write_text(folder / "README.md", text)
    write_pages(root.parent, runs)
    return place


def publish_tuning(tuned: Path, board: Path) -> Path:
    """Keep a file of tuned settings beside a leaderboard's rows, and make its README again: the line that stands for a
    second row where the published settings stay.  Where the file is kept.

    Raises UsageError for a folder without rows; DataError for a damaged file, and for one of another dataset version;
    nothing is written then.  WriteError.
    """
    check_has_rows(board)
    runs = load_runs(board)
    text = readme(runs, read_ceilings(board, runs[0].dataset), reported(board), tunings(board, runs, tuned))
    kept = keep_tuned(tuned, board)
    write_text(board / "README.md", text)
    return kept


def check_has_rows(board: Path, whose: str = "") -> None:
    """Raises UsageError for a folder without rows; ``whose``: what `prisbench evaluate` has to be told for one."""
    if not result_files(board):
        cure = " ".join(["prisbench evaluate", *filter(None, [whose]), f"--leaderboards {board.parent}"])
        raise UsageError(f"{board} holds no rows; put one there first: {cure}")


def keep_predictions(run: Run, predictions: Path, result_file: Path) -> Path:
    """Keep a run's predictions beside its result file, compressed.  Raises as ``publish``."""
    return write_bytes(kept_beside(result_file), _packed(run, predictions))


def kept_beside(result_file: Path) -> Path:
    """Where the predictions of a result file are kept."""
    return result_file.with_name(f"{result_file.stem}.predictions.jsonl.gz")


def _packed(run: Run, predictions: Path) -> bytes:
    lines = lines_of(read_answers(predictions))
    if run.predictions is None or sha256_bytes(lines) != run.predictions.sha256:
        raise DataError(f"{predictions} are not the predictions that the run was scored from; score them again")
    data = packed(lines)
    if len(data) > LARGEST:
        raise DataError(
            f"{predictions} has {len(data) / 1e6:.1f} MB compressed, and at most {LARGEST / 1e6:.0f} are kept beside a "
            "row; leave out --leaderboards, and publish the record alone from Python: "
            "prisbench.leaderboard.publish.publish(run, root)"
        )
    return data


class Checked(NamedTuple):
    """One leaderboard held to its result files.

    ``complaint`` is None when its tables follow from them; otherwise it says which does not and what to do, and
    ``changes`` are the lines of a diff.
    """

    folder: Path
    result_files: int
    complaint: str | None = None
    changes: tuple[str, ...] = ()


def check_leaderboards(root: Path) -> Iterator[Checked]:
    """Every leaderboard below ``root``, one after the other.

    Raises DataError when there are none, and as ``load_runs``.
    """
    folders = sorted({path.parent for path in root.glob("*/*.json")})
    if not folders:
        raise DataError(f"{root} holds no leaderboards: no result files in its folders")
    for folder in folders:
        yield _checked(folder, root)


def _checked(folder: Path, root: Path) -> Checked:
    files = len(result_files(folder))
    if changes := check(folder):
        complaint = (
            f"{folder}/README.md does not agree with the result files beside it; "
            "make it again with prisbench evaluate --leaderboards, or commit the regenerated one"
        )
        return Checked(folder, files, complaint, tuple(changes))
    if changes := check_pages(root.parent, load_runs(folder)):
        complaint = (
            f"{changes[0].removeprefix('--- ')}: its table is not what {folder} says; make it again with prisbench "
            "evaluate --leaderboards, or put there what leaderboard --format summary (learners.md: learners) prints"
        )
        return Checked(folder, files, complaint, tuple(changes))
    return Checked(folder, files)
