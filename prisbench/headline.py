"""The headline: one number of a method on a graded set, in which every subset weighs the same.

Each named subset has a score: mean IoU where texts have a referent, the share of empty answers where they have none.
A failed query scores 0 in both.  The headline is the mean over the subsets, however many queries each has
(``docs/metrics.md``, "Headline").

Knows: counts by query, subject and subset.  Does not know: masks, runs, files; how subjects are drawn
(``statistics``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from prisbench.counts import Scored
from prisbench.metrics import has_referent
from prisbench.statistics import (
    FEWEST_SUBJECTS,
    Difference,
    Interval,
    Sample,
    bounded,
    draw_ratios,
    gathered,
    joined,
    percentiles,
    tiers,
)
from prisbench.subsets import GRADED, NAMED, subset_of


@runtime_checkable
class GradedQuery(Scored, Protocol):
    """A query as the headline is made of it; ``grade`` is that of its scene's look-alikes."""

    @property
    def grade(self) -> str | None: ...


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one method, one sample a subset, in the order of ``subsets.NAMED``; no sample is empty."""

    samples: Mapping[str, Sample]

    @property
    def by_subset(self) -> dict[str, float]:
        """Subset -> its score, 0..1."""
        return {name: float(each.numerator.sum() / each.denominator.sum()) for name, each in self.samples.items()}

    @property
    def value(self) -> float | None:
        """The headline, 0..1; None where no look-alike of the queries is graded."""
        if not any(name in GRADED for name in self.samples):
            return None
        return math.fsum(self.by_subset.values()) / len(self.samples)

    @property
    def n_subjects(self) -> int:
        """The subjects of that subset which has the fewest."""
        return min((each.n_subjects for each in self.samples.values()), default=0)


def subset_scores(queries: Iterable[GradedQuery]) -> Scores:
    """The scores of a method's answers; the answers to a query from several seeds weigh the same.

    Every query is in one subset (``subsets.subset_of``).  The queries of a dataset that a run left out would shift
    the headline: give all of them.
    """
    named = ((subset_of(each.query_type, each.grade), each) for each in queries)
    return scores_of((subset, each.query_id, each.subject_id, score_of(each)) for subset, each in named)


def scores_of(terms: Iterable[tuple[str, str, str, float]]) -> Scores:
    """The scores that (subset of ``subsets.NAMED``, query id, subject id, score 0..1) make."""
    gathering: dict[str, list[tuple[str, str, float, float]]] = {}
    for subset, query_id, subject_id, score in terms:
        gathering.setdefault(subset, []).append((query_id, subject_id, score, 1.0))
    return Scores({name: gathered(gathering[name]) for name in NAMED if name in gathering})


def headline_interval(scores: Scores, rng: np.random.Generator | None = None) -> Interval | None:
    """The 95 % interval over subjects: every draw of subjects gives a score of every subset, and their mean.

    ``statistics.DRAWS`` draws, without ``rng`` always those of ``statistics.SEED``.  A draw that has no subject of a
    subset is left out.  None without a headline and where a subset has fewer than ``FEWEST_SUBJECTS`` subjects.
    """
    if scores.value is None or scores.n_subjects < FEWEST_SUBJECTS:
        return None
    drawn = draw_ratios(list(scores.samples.values()), rng)
    return None if drawn is None else bounded(_mean(drawn), scores.n_subjects)


def headline_difference(first: Scores, second: Scores, rng: np.random.Generator | None = None) -> Difference:
    """The first headline minus the second, with its interval: both get the same draws of subjects.

    Joined by query id; a query that only one of the two defines is left out.  No interval where a subset has fewer
    than ``FEWEST_SUBJECTS`` subjects then.  Raises DataError when the two disagree on a query's subject.
    """
    both = [name for name in first.samples if name in second.samples]
    pairs = {name: joined(first.samples[name], second.samples[name]) for name in both}
    kept = {name: pair for name, pair in pairs.items() if pair[0].query_ids}
    ours, theirs = (Scores({name: pair[side] for name, pair in kept.items()}) for side in (0, 1))
    if ours.value is None or theirs.value is None:
        return Difference(None, None, 0)
    drawn = draw_ratios([each for pair in kept.values() for each in pair], rng)
    spread = None if drawn is None else percentiles(_mean(drawn[::2]) - _mean(drawn[1::2]), ours.n_subjects)
    return Difference(ours.value - theirs.value, spread, sum(len(each.query_ids) for each in ours.samples.values()))


def headline_tiers(scores: Mapping[str, Scores], rng: np.random.Generator | None = None) -> dict[str, int]:
    """Tiers from 1 by headline (``statistics.tiers``); a method without an interval gets none."""
    known = {
        name: each.value
        for name, each in scores.items()
        if each.value is not None and each.n_subjects >= FEWEST_SUBJECTS
    }
    return tiers(known, lambda best, name: headline_difference(scores[best], scores[name], rng).interval)


def score_of(query: GradedQuery) -> float:
    """The score of one answer, 0..1: IoU where the text has a referent, else 1 for an empty mask and 0 for another."""
    counts = query.counts
    if counts.failed:
        return 0.0
    return counts.intersection / counts.union if has_referent(counts) else float(counts.predicted_area == 0)


def _mean(drawn: list[Float[np.ndarray, " draws"]]) -> Float[np.ndarray, " draws"]:
    """Over the subsets; NaN in a draw that lacks one."""
    return np.asarray(np.mean(drawn, axis=0))
