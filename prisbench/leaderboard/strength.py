"""Rows that stand on a weak model: which they are, and what a table says of them.

The mark follows from what is kept: the row's own record of its model's score, or, where a record is older than that,
the card of the very weights that the row names.

Knows: records of runs, cards of the models that come along.  Does not know: how rows are ranked, how they are printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prisbench.own_task import LEAST, OwnTask, embedded_tasks
from prisbench.results import Run

STRENGTH = ("own_task", "own_task_iou", "own_task_words", "weak")
"""Columns of a row: its model's own task, the mean IoU there, both in words, and whether that keeps it from a rank."""


def own_task_of(run: Run) -> OwnTask | None:
    """How well a run's model does its own task; None where nobody measured it."""
    return run.own_task or embedded_tasks().get(run.backbone or "")


def is_weak(run: Run) -> bool:
    """Whether a run's model is too weak at its own task for the run to be ranked."""
    found = own_task_of(run)
    return found is not None and found.weak


def strength(run: Run) -> dict[str, Any]:
    """The columns ``STRENGTH``."""
    found = own_task_of(run)
    if found is None:
        return {**dict.fromkeys(STRENGTH), "weak": False}
    return dict(zip(STRENGTH, (found.task, found.iou_mean, found.words, found.weak), strict=True))


def weak_note(name: str, row: Mapping[str, Any]) -> str:
    """What a table says of a weak row."""
    return f"{name}: its model has {row['own_task_words']}, below {LEAST}: shown, not ranked."


def weak_notes(name: str, run: Run) -> list[str]:
    """The same of a run; nothing of one that is ranked."""
    return [weak_note(name, strength(run))] if is_weak(run) else []
