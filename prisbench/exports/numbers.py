"""The numbers of a run that other programs are told, each with what it means and how sure it is.

Knows: which numbers those are.  Does not know: any form that they are written in.
"""

from __future__ import annotations

from typing import NamedTuple

from prisbench.errors import DataError, UsageError
from prisbench.leaderboard.rows import board_name, records_of, rows, shown_columns
from prisbench.leaderboard.strength import weak_notes
from prisbench.results import REFERENCES, Run


class Number(NamedTuple):
    """A metric's value, 0..1 (a correlation: -1..1), and its 95 % interval over subjects, None where there is none."""

    name: str
    label: str
    meaning: str
    value: float
    interval: tuple[float, float] | None
    n: int
    higher_is_better: bool


def numbers_of(run: Run) -> list[Number]:
    """Every number of a run's row that is defined, the headline first.

    Raises UsageError for a retracted run and for a part of a split: neither is a result.
    """
    if run.retracted is not None:
        raise UsageError(f"{run.method} / {run.concept} is retracted ({run.retracted}); it is exported no more")
    if run.part.left_out:
        raise UsageError(f"{run.method} / {run.concept} is a part of a split, which is no result to export")
    frame = rows([run])
    [row] = records_of(frame)
    found = []
    for column in shown_columns(frame):
        value, ci = row[column.name], row.get(f"{column.name}_ci")
        if value is not None:
            interval = None if ci is None else (float(ci[0]), float(ci[1]))
            n = int(row.get(f"{column.name}_n") or row["n"])
            found.append(
                Number(column.name, column.label, column.meaning, float(value), interval, n, column.higher_is_better)
            )
    if not found:
        raise DataError(f"{run.method} / {run.concept} has no number that is defined; there is nothing to export")
    return found


def row_name(run: Run) -> str:
    """What a row is called in one line: method, concept, and what it saw of the photos where that is more than they."""
    masks = f" ({run.reference})" if run.reference == REFERENCES[1] else ""
    return f"{run.method} / {run.concept}{masks}" + (f", seed {run.seed}" if run.seed else "")


def dataset_name(run: Run) -> str:
    """The dataset and split to read: ``tabletop-v3, test``."""
    data = run.dataset
    return f"{data.id}, {data.split}"


def notes_of(run: Run) -> str:
    """How a number came about, in one line."""
    weak = "".join(f"; {note.rstrip('.')}" for note in weak_notes(run.method, run))
    return (
        f"{row_name(run)}; prisbench {run.prisbench_version}, metric spec {run.metric_spec}; dataset "
        f"{board_name(run.dataset)}, digest {run.dataset.digest}; {len(run.queries)} queries{weak}"
    )
