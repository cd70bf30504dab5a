"""The answers of several methods to the same queries as arrays: whose, in which image, from which seed.

Knows: which runs are compared, and by what number.  Does not know: draws, intervals, how a page looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from prisbench.errors import DataError, UnknownNameError
from prisbench.headline import score_of
from prisbench.leaderboard.intervals import marked
from prisbench.leaderboard.rows import queries_within, standing
from prisbench.metrics import METRICS
from prisbench.results import QueryResult, Run
from prisbench.subsets import GRADED, NAMED, check_subset, subset_of

HEADLINE = "headline"

MEASURES = (HEADLINE, *METRICS)
"""What methods may be compared by."""


class Entry(NamedTuple):
    """A method with a concept: its columns, and the seeds that each of them stands for (``seeds_of``)."""

    method: str
    concept: str
    columns: tuple[int, ...]
    seeds: tuple[Seeds, ...]

    @property
    def name(self) -> str:
        return f"{self.method} / {self.concept}"


class Seeds(NamedTuple):
    """What decides a run by lot: the seed that its concepts were learned with, and that of everything else."""

    learner: int | None
    noise: int | None


@dataclass(frozen=True, eq=False)
class Answers:
    """Terms of a number, a row a query and a column a run: ``above`` over ``below``, both 0 where it is not defined.

    Rows are sorted by subject, then image.  ``part``: the place among ``parts`` of each row's subset; a number is the
    mean over parts of the ratio of sums, and there is one part but for the headline.  ``left_out`` names the methods
    that do not answer every query.
    """

    measure: str
    entries: tuple[Entry, ...]
    above: Float[np.ndarray, "n runs"]
    below: Float[np.ndarray, "n runs"]
    subject: Int64[np.ndarray, " n"]
    image: Int64[np.ndarray, " n"]
    part: Int64[np.ndarray, " n"]
    parts: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """The subjects of that part which has the fewest."""
        return min(len(np.unique(self.subject[self.part == n])) for n in range(len(self.parts)))

    @property
    def higher_is_better(self) -> bool:
        return self.measure == HEADLINE or METRICS[self.measure].higher_is_better


def answers_of(runs: Sequence[Run], measure: str | None = None, subset: str | None = None) -> Answers:
    """The answers of all runs of a leaderboard that answer the whole of it, by ``measure``.

    By default the headline where the set has one, else mean IoU; of a subset always the latter.

    Raises UnknownNameError for another measure or subset, DataError where no query defines it, or no run is whole.
    """
    check_subset(subset)
    if measure is not None and measure not in MEASURES:
        raise UnknownNameError("measure", measure, MEASURES)
    runs = standing(runs)
    whole = [run for run in runs if not run.part.left_out]
    found = {id(run): {query.query_id: query for query in queries_within([run], subset)} for run in whole}
    every = max(found.values(), key=len, default={})
    whole = [run for run in whole if found[id(run)].keys() == every.keys()]
    if not every or not whole:
        raise DataError("no run here answers a whole split" + (f" of {subset} queries" if subset else ""))
    graded = any(subset_of(query.query_type, query.grade) in GRADED for query in every.values())
    headed = subset is None and runs[0].metric_spec != "1" and graded
    if measure == HEADLINE and not headed:
        raise DataError("no headline here: it is of all queries of a set with graded look-alikes; say --by iou_mean")
    measure = measure or (HEADLINE if headed else "iou_mean")
    kept = _defined(measure, list(every.values()), [found[id(run)] for run in whole])
    kept.sort(key=lambda query: (query.subject_id, query.image_id, query.query_id))
    terms = np.array([[_terms(measure, found[id(run)][query.query_id]) for run in whole] for query in kept], np.float64)
    named = [subset_of(query.query_type, query.grade) if measure == HEADLINE else "" for query in kept]
    parts = tuple(sorted(set(named), key=lambda name: NAMED.index(name) if name else 0))
    there = {_name(run) for run in whole}
    return Answers(
        measure,
        _entries(whole),
        terms[..., 0],
        terms[..., 1],
        _codes([query.subject_id for query in kept]),
        _codes([(query.subject_id, query.image_id) for query in kept]),
        np.array([parts.index(name) for name in named], np.int64),
        parts,
        tuple(sorted({_name(run) for run in runs} - there)),
    )


def seeds_of(run: Run) -> Seeds:
    """The seeds of a run: of its learner where one learned and its settings name it, and of what else it draws."""
    learner = run.settings.get("learner")
    if run.concept not in ("none", "noun-only") and isinstance(learner, dict) and isinstance(learner.get("seed"), int):
        others = [value for key, value in _seeds_in(run.settings, ()) if key[0] != "learner"]
        return Seeds(learner["seed"], others[0] if others else None)
    return Seeds(None, run.seed)


def _seeds_in(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], int]]:
    found: list[tuple[tuple[str, ...], int]] = []
    for key, each in value.items():
        if isinstance(each, dict):
            found += _seeds_in(each, (*path, key))
        elif key in ("seed", "noise_seed") and isinstance(each, int):
            found.append(((*path, key), each))
    return found


def _entries(runs: Sequence[Run]) -> tuple[Entry, ...]:
    groups: dict[tuple[str, str], list[int]] = {}
    for column, run in enumerate(runs):
        groups.setdefault((run.method, marked(run.concept, run.reference)), []).append(column)
    return tuple(
        Entry(method, concept, tuple(columns), tuple(seeds_of(runs[column]) for column in columns))
        for (method, concept), columns in groups.items()
    )


def _name(run: Run) -> str:
    return f"{run.method} / {marked(run.concept, run.reference)}"


def _defined(measure: str, queries: list[QueryResult], answers: Sequence[dict[str, QueryResult]]) -> list[QueryResult]:
    """The queries that define the number for any of the runs.  Raises DataError where there is none."""
    kept = [query for query in queries if any(_terms(measure, each[query.query_id])[1] for each in answers)]
    if not kept:
        raise DataError(f"no query here defines {measure}")
    return kept


def _terms(measure: str, query: QueryResult) -> tuple[float, float]:
    """Numerator and denominator of one answer; 0, 0 where the number is not defined for it."""
    if measure == HEADLINE:
        return score_of(query), 1.0
    metric = METRICS[measure]
    return (metric.terms(query.counts) if metric.scope(query.counts) else None) or (0.0, 0.0)


def _codes(names: Sequence[Any]) -> Int64[np.ndarray, " n"]:
    """The place of each name among all, in the order in which they come."""
    places: dict[Any, int] = {}
    return np.array([places.setdefault(name, len(places)) for name in names], np.int64)
