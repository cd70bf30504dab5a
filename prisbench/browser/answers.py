"""Runs -> the columns of counts that a page computes every number from.

Knows: which counts a metric needs, and how yes, no and unknown share a number.  Does not know: metrics, pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prisbench.browser.packing import packed
from prisbench.results import QueryResult, Run
from prisbench.subsets import MIXED, NAMED, subset_of
from prisbench.types import GRADES

COUNTED = (
    *("intersection", "predicted_area", "look_alike_intersection", "boundary_intersection", "boundary_union"),
    *("matched_predicted_contour", "predicted_contour", "matched_truth_contour", "truth_contour"),
)
"""Counts that a page is given as they are; None as 0, and the flags say so."""

_GRADES = ("", *GRADES, MIXED)
_MILLION = 1e6


class About(NamedTuple):
    """What a page says of a query whoever answers it; areas in pixels, ``area`` the scene's, ``truth_area`` 0 without a
    referent.
    """

    subject_id: str
    query_type: str
    grade: str | None
    pair_id: str | None
    truth_area: int
    area: int


def queries_of(runs: Sequence[Run]) -> dict[str, About]:
    """Every query that a run answers, by its id, in the order in which they come."""
    queries: dict[str, About] = {}
    for run in runs:
        for query in run.queries:
            if query.query_id not in queries:
                counts = query.counts
                queries[query.query_id] = About(
                    *(query.subject_id, query.query_type, query.grade, query.pair_id),
                    *(counts.truth_area, counts.area),
                )
    return queries


def query_columns(queries: Mapping[str, About]) -> tuple[dict[str, Any], bytes]:
    """What is the same for every run: names of subjects, subsets and grades, the heads of the columns of places in
    them, and the columns packed.

    Subjects stand in sorted order, which is the order in which they are drawn (``statistics.draw_ratios``).
    """
    subjects = sorted({query.subject_id for query in queries.values()})
    place = {subject: n for n, subject in enumerate(subjects)}
    pairs = list(dict.fromkeys(query.pair_id for query in queries.values() if query.pair_id is not None))
    pair_place = {pair: n for n, pair in enumerate(pairs, 1)}
    columns = {
        "subject": [place[query.subject_id] for query in queries.values()],
        "named": [NAMED.index(subset_of(query.query_type, query.grade)) for query in queries.values()],
        "grade": [_GRADES.index(query.grade or "") for query in queries.values()],
        "pair": [0 if query.pair_id is None else pair_place[query.pair_id] for query in queries.values()],
        "truth_area": [query.truth_area for query in queries.values()],
        "area": [query.area for query in queries.values()],
    }
    heads, data = packed(columns)
    return {"n": len(queries), "subjects": subjects, "named": NAMED, "grades": _GRADES, "columns": heads}, data


def run_columns(run: Run, queries: Mapping[str, About]) -> tuple[list[list[str]], bytes]:
    """The run's counts, a number for each of ``queries``; ``flags`` say which it answers (``_flags``).

    ``presence`` is in millionths where all of the run's are whole millionths, which is how runs are written; dividing
    gives the same double again.  Else it is the double itself.
    """
    answered = {query.query_id: query for query in run.queries}
    there = [answered.get(query_id) for query_id in queries]
    columns: dict[str, list[Any]] = {"flags": [0 if query is None else _flags(query) for query in there]}
    for name in COUNTED:
        columns[name] = [0 if query is None else getattr(query.counts, name) or 0 for query in there]
    presence = [0.0 if query is None else query.presence or 0.0 for query in there]
    whole = [round(value * _MILLION) for value in presence]
    if all(n / _MILLION == value for n, value in zip(whole, presence, strict=True)):
        columns["presence"] = whole
    else:
        columns["presence_exact"] = presence
    return packed(columns)


def _flags(query: QueryResult) -> int:
    """Bits: answered; failed; then two each for the peak on the subject, a wrong and a right instance (0 unknown, 1 no,
    2 yes); a presence score; contours counted.
    """
    counts = query.counts
    yes_no = (counts.pointing_hit, counts.wrong_instance, counts.right_instance)
    flags = 1 | (2 * counts.failed)
    for n, answer in enumerate(yes_no):
        flags |= (0 if answer is None else 1 + answer) << (2 + 2 * n)
    return flags | (256 * (query.presence is not None)) | (512 * (counts.truth_contour is not None))
