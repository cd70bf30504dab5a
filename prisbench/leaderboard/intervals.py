"""What a table says of its intervals: over how many subjects they are, why some are missing, what part was run.

Knows: the rows of ``rows``, as records.  Does not know: how an interval is made (``statistics``), how rows are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prisbench.metrics import METRICS
from prisbench.results import REFERENCES, Run
from prisbench.statistics import FEWEST_SUBJECTS, no_interval

WITH_INTERVAL = ("iou_mean", "instance_accuracy", "wrong_instance_rate", "absent_fp_rate", "contradicted_fp_rate")
"""Metrics whose tables show an interval."""

COUNTED = (*WITH_INTERVAL, "presence_auc", "gain_over_noun", "pair_accuracy", "headline")
"""Columns with an interval; ``*_n_subjects`` counts the subjects it is, or would be, over."""

_LABELS = {**{name: METRICS[name].label for name in WITH_INTERVAL}, "presence_auc": "presence AUC"}
_LABELS |= {"pair_accuracy": "pairs", "headline": "headline"}

Record = Mapping[str, Any]


def interval_notes(records: Sequence[Record]) -> list[str]:
    """Over how many subjects the intervals are, what a tier is, and which numbers have no interval and why."""
    subjects = max((row["n_subjects"] for row in records), default=0)
    also = ", absent FP and contradicted FP" if _any(records, "contradicted_fp_rate") else " and absent FP"
    less = f"Of wrong instance, on look-alikes, on background{also}, less is better."
    if records and most_subjects(records) < FEWEST_SUBJECTS:
        return [f"No intervals and no tiers: {no_interval(most_subjects(records))}. {less}"]
    by = "headline" if _any(records, "headline") else "mIoU"
    return [
        f"[low, high] are 95 % intervals over {subjects} subjects. Methods in a tier are not told apart from its best "
        f"by {by}: the interval of the paired difference includes zero. {less}",
        *missing(records),
    ]


def _any(records: Sequence[Record], name: str) -> bool:
    return any(row.get(name) is not None for row in records)


def most_subjects(records: Sequence[Record], names: Sequence[str] = COUNTED) -> int:
    """The most subjects that any of these numbers stands on."""
    found = (row[f"{name}_n_subjects"] for row in records for name in names if row.get(name) is not None)
    return max(found, default=0)


def missing(records: Sequence[Record], names: Sequence[str] = tuple(_LABELS), where: str = "") -> list[str]:
    """A note for each column of ``names`` in which rows have a value but too few subjects for an interval.

    ``where``: the table's part, such as "on look-alike".
    """
    notes = []
    for name in names:
        without = [row for row in records if row.get(name) is not None and row[f"{name}_ci"] is None]
        if not without:
            continue
        counts = sorted({row[f"{name}_n_subjects"] for row in without})
        whose = "" if len(without) == sum(row[name] is not None for row in records) else f" of {_named(without)}"
        few = no_interval(counts[-1]) if len(counts) == 1 else f"{counts[0]} to {no_interval(counts[-1])}"
        notes.append(f"No interval for {' '.join([_LABELS[name], *([where] if where else [])])}{whose}: {few}.")
    return notes


def promise(records: Sequence[Record]) -> str:
    """How a page's heading announces mIoU: with intervals, or why there are none."""
    most = most_subjects(records, ["iou_mean"])
    if most < FEWEST_SUBJECTS:
        return f"mean IoU (no intervals: {no_interval(most)})"
    return "mean IoU with 95 % intervals over subjects"


def part(runs: Sequence[Run], whole: int) -> dict[str, int] | None:
    """Which part of a split of ``whole`` queries the runs answer; None when one of them answers all.

    Queries, ``of`` how many, and how many subjects and query types they are about.
    """
    largest = max(runs, key=lambda run: len(run.queries))
    if len(largest.queries) >= whole:
        return None
    return {
        "queries": len(largest.queries),
        "of": whole,
        "subjects": len({query.subject_id for query in largest.queries}),
        "types": len({query.query_type for query in largest.queries}),
    }


def part_note(part: Mapping[str, int]) -> str:
    """``part`` in words."""
    parts = [_plural(part["subjects"], "subject"), _plural(part["types"], "query type")]
    return (
        f"Partial: {part['queries']} of {part['of']} queries of the split, about {' and '.join(parts)}; "
        "for trying out, not a result to report."
    )


def _plural(n: int, of: str) -> str:
    return f"{n} {of}" + ("" if n == 1 else "s")


def marked(concept: str, reference: str | None) -> str:
    """A concept to read, with what it saw of the photos where that is more than the photos."""
    return concept + (f" ({reference})" if reference == REFERENCES[1] else "")


def name_of(row: Record) -> str:
    """Whose row it is, to read."""
    return f"{row['method']} / {marked(row['concept'], row.get('reference'))}"


def _named(records: Sequence[Record]) -> str:
    return ", ".join(map(name_of, records))
