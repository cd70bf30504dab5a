"""The table by subset: one row a method, one column a subset, and the headline that is their mean.

Knows: how the table is laid out.  Does not know: what a subset's score is (``headline``), who is ranked (``rows``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from prisbench.errors import DataError
from prisbench.leaderboard.render import cell, named, short
from prisbench.leaderboard.rows import SCORES, records_of, rows
from prisbench.results import Run
from prisbench.statistics import interval_words
from prisbench.types import REFERENTLESS


class SubsetTable(NamedTuple):
    """What a table by subset shows: ``subsets`` that any row has a score of, the rows, and the notes below them."""

    subsets: list[str]
    records: list[dict[str, Any]]
    notes: list[str]


def subset_table(records: Sequence[dict[str, Any]]) -> SubsetTable | None:
    """The table of these records of ``rows`` over all queries, in their order; None where nobody has a headline."""
    headlines = [row for row in records if row.get("headline") is not None]
    if not headlines:
        return None
    subsets = [subset for subset, column in SCORES.items() if any(row[column] is not None for row in records)]
    units = headlines[0]["headline_n_subjects"]
    notes = [
        "Mean IoU of each subset; of those marked (nothing), whose texts have no referent, the share of empty masks.",
        f"The headline is the mean of these columns; {interval_words(units)}.",
    ]
    return SubsetTable(subsets, list(records), notes)


def by_subset(runs: Sequence[Run]) -> str:
    """A Markdown table of every subset's score, methods in the order of ``rows``.

    Raises DataError as ``rows``, and where nobody has a headline.
    """
    table = subset_table(records_of(rows(runs)))
    if table is None:
        raise DataError("no whole run of a set with graded look-alikes here, so no headline and no table by subset")
    heads = ["tier", "method", "concept", "headline", *(subset_head(subset) for subset in table.subsets)]
    lines = ["| " + " | ".join(heads) + " |", "| ---: | :--- | :--- |" + " ---: |" * (len(heads) - 3)]
    for row in table.records:
        cells = [
            "–" if row["tier"] is None else str(row["tier"]),
            *(name.replace("|", "\\|") for name in (row["method"], named(row))),
            cell(row["headline"], row["headline_ci"]),
            *(short(row[SCORES[subset]]) for subset in table.subsets),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes)]) + "\n"


def subset_head(subset: str) -> str:
    """What a subset's column is called."""
    return f"{subset} (nothing)" if subset in REFERENTLESS else subset
