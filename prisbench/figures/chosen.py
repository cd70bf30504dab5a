"""Which queries a grid of examples shows: by a rule that a reader can name, not by hand.

    disputed     where the rows disagree most
    successes    where the first row is best
    failures     where the first row is worst, and was surest of it

Each takes the query types in turn, the most telling first.

Knows: scores of queries.  Does not know: pictures, tables, files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from prisbench.results import QueryResult, Run
from prisbench.types import QUERY_TYPES

FIRST_ROWS = ("look-alike", "relation", "referred", "contradicted", "absent", "other-category", "plain")
"""Query types of the grid, the most telling first."""

Chooser = Callable[[Sequence[Run], int], list[str]]


def disputed(runs: Sequence[Run], n: int) -> list[str]:
    """Ids of ``n`` queries, one a query type as long as there are types: each the one about which the runs disagree
    most (the standard deviation of IoU, of empty masks where nothing is meant), the first id where several do.
    """
    scores: dict[str, list[float]] = {}
    for run in runs:
        for query in run.queries:
            scores.setdefault(query.query_id, []).append(_good(query))
    return _in_turn(runs[0], n, lambda query: -float(np.std(scores[query.query_id])))


def successes(runs: Sequence[Run], n: int) -> list[str]:
    """As ``disputed``: those that the first run answers best; where nothing is meant, those that it believed least."""
    return _in_turn(runs[0], n, lambda query: (-_good(query), _belief(query)))


def failures(runs: Sequence[Run], n: int) -> list[str]:
    """As ``disputed``: those that the first run answers worst; of equal ones first those where it believed most that
    the subject is there.
    """
    return _in_turn(runs[0], n, lambda query: (_good(query), -_belief(query)))


CHOICES: Mapping[str, Chooser] = {"disputed": disputed, "successes": successes, "failures": failures}
"""Name -> the rule."""


def _in_turn(run: Run, n: int, key: Callable[[QueryResult], object]) -> list[str]:
    """The query of each type that ``key`` puts first, then the second one of each, up to ``n``; equal ones by id."""
    kinds: dict[str, list[QueryResult]] = {kind: [] for kind in (*FIRST_ROWS, *QUERY_TYPES)}
    for query in run.queries:
        kinds[query.query_type].append(query)
    order = [sorted(each, key=lambda query: (key(query), query.query_id)) for each in kinds.values()]
    turns = [queries[turn].query_id for turn in range(n) for queries in order if turn < len(queries)]
    return turns[:n]


def _belief(query: QueryResult) -> float:
    return 0.0 if query.presence is None else query.presence


def _good(query: QueryResult) -> float:
    counts = query.counts
    if counts.failed:
        return 0.0
    return counts.intersection / counts.union if counts.truth_area else float(counts.predicted_area == 0)
