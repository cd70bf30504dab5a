"""How sure a number is: intervals over subjects, paired differences, rank tiers, ROC curves.

Queries about one subject resemble each other, so subjects are drawn again, not queries (a cluster bootstrap).  As
every metric is a ratio of sums, a draw is one row of weights times the subjects' sums.

Knows: samples of numerators and denominators, by query and subject.
Does not know: masks, methods, files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from prisbench.errors import DataError

DRAWS = 10_000
LEVEL = 0.95
SEED = 20_211_207
"""Of the draws when no Generator is passed: the same files give the same table."""

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Sample:
    """One metric of one run: the terms of every query that defines it.  Denominators are positive."""

    query_ids: tuple[str, ...]
    subject_ids: tuple[str, ...]
    numerator: Float[np.ndarray, " n"]
    denominator: Float[np.ndarray, " n"]

    @property
    def value(self) -> float | None:
        """Sum over sum; None without a query."""
        return float(self.numerator.sum() / self.denominator.sum()) if len(self.query_ids) else None


class Difference(NamedTuple):
    """First minus second on the ``n`` queries that define both; ``value`` and ``interval`` None when undefined."""

    value: float | None
    interval: Interval | None
    n: int


def interval(sample: Sample, rng: np.random.Generator | None = None) -> Interval | None:
    """The percentile 95 % interval of the sample's value over subjects.

    None with fewer than two subjects: one subject says nothing about others.
    """
    ratios = _draw_ratios(sample.subject_ids, [sample], rng)
    return None if ratios is None else _percentiles(ratios[0])


def paired_difference(first: Sample, second: Sample, rng: np.random.Generator | None = None) -> Difference:
    """``first - second`` with its interval: both get the same draw of subjects.

    Joined by query id; a query that only one of the two defines is left out.

    Raises DataError when the two disagree on a query's subject.
    """
    at = {query: row for row, query in enumerate(second.query_ids)}
    rows = [(row, at[query]) for row, query in enumerate(first.query_ids) if query in at]
    one, two = _take(first, [a for a, _ in rows]), _take(second, [b for _, b in rows])
    for query, a, b in zip(one.query_ids, one.subject_ids, two.subject_ids, strict=True):
        if a != b:
            raise DataError(
                f"query {query!r} is about subject {a!r} in one run and {b!r} in the other; score both again"
            )
    if one.value is None or two.value is None:
        return Difference(None, None, 0)
    ratios = _draw_ratios(one.subject_ids, [one, two], rng)
    return Difference(one.value - two.value, None if ratios is None else _percentiles(ratios[0] - ratios[1]), len(rows))


def rank_tiers(samples: Mapping[str, Sample], rng: np.random.Generator | None = None) -> dict[str, int]:
    """Tiers from 1, higher values first; a sample without a value gets none.

    The best opens tier 1.  Going down, a method joins the open tier when the interval of its paired difference to the
    tier's best includes zero (or cannot be made); else it opens the next tier.  So members of a tier are not told
    apart from its best, which is not to say that they are equal.
    """
    values = {name: sample.value for name, sample in samples.items()}
    order = sorted((-value, name) for name, value in values.items() if value is not None)
    tiers: dict[str, int] = {}
    best, tier = "", 0
    for _, name in order:
        if tier:
            gap = paired_difference(samples[best], samples[name], rng).interval
        if not tier or (gap is not None and gap[0] > 0.0):
            best, tier = name, tier + 1
        tiers[name] = tier
    return tiers


class Roc(NamedTuple):
    """How well a belief tells what is there from what is not.

    ``auc``: the chance that a present query's belief is higher than an absent one's, ties counted half.  ``points``:
    the thresholds' (false positive rate, true positive rate), from (0, 0) to (1, 1), the strictest first.
    """

    auc: float
    interval: Interval | None
    points: list[tuple[float, float]]


def roc(
    belief: Float[np.ndarray, " n"],
    present: Bool[np.ndarray, " n"],
    subject_ids: Sequence[str],
    rng: np.random.Generator | None = None,
) -> Roc | None:
    """The ROC of beliefs, "present" where they are at least a threshold; None unless both kinds are there.

    The interval is over subjects: each draw weighs the pairs of queries by how often both their subjects were drawn.
    """
    there, not_there = belief[present], belief[~present]
    if not len(there) or not len(not_there):
        return None
    thresholds = np.unique(belief)[::-1]
    points = [(0.0, 0.0)]
    points += [(float((not_there >= t).mean()), float((there >= t).mean())) for t in thresholds]
    wins = (there[:, None] > not_there) + 0.5 * (there[:, None] == not_there)

    names, codes = np.unique(np.asarray(subject_ids, dtype=object), return_inverse=True)
    spread: Interval | None = None
    if len(names) > 1:
        won, pairs = np.zeros((len(names),) * 2), np.zeros((len(names),) * 2)
        of_pair = np.broadcast_arrays(codes[present][:, None], codes[~present][None])
        np.add.at(won, (of_pair[0], of_pair[1]), wins)
        np.add.at(pairs, (of_pair[0], of_pair[1]), 1.0)
        weights = _fixed_weights(len(names)) if rng is None else _weights(len(names), rng)
        total = np.einsum("ds,st,dt->d", weights, pairs, weights, optimize=True)
        some = total > 0  # a draw of subjects without one of the kinds says nothing
        if some.any():
            spread = _percentiles(np.einsum("ds,st,dt->d", weights, won, weights, optimize=True)[some] / total[some])
    return Roc(float(wins.mean()), spread, points)


def _take(sample: Sample, rows: list[int]) -> Sample:
    return Sample(
        query_ids=tuple(sample.query_ids[row] for row in rows),
        subject_ids=tuple(sample.subject_ids[row] for row in rows),
        numerator=sample.numerator[rows],
        denominator=sample.denominator[rows],
    )


def _draw_ratios(
    subject_ids: tuple[str, ...], samples: Sequence[Sample], rng: np.random.Generator | None
) -> list[Float[np.ndarray, " draws"]] | None:
    """Each sample's value under the same draws of subjects; every subject drawn brings a positive denominator."""
    names, codes = np.unique(np.asarray(subject_ids, dtype=object), return_inverse=True)
    if len(names) < 2:
        return None
    weights = _fixed_weights(len(names)) if rng is None else _weights(len(names), rng)
    return [
        (weights @ np.bincount(codes, each.numerator)) / (weights @ np.bincount(codes, each.denominator))
        for each in samples
    ]


def _weights(subjects: int, rng: np.random.Generator) -> Float[np.ndarray, "draws subjects"]:
    """How often each subject is drawn, in ``DRAWS`` draws of ``subjects`` with replacement."""
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=DRAWS).astype(np.float64)


@lru_cache(maxsize=4)
def _fixed_weights(subjects: int) -> Float[np.ndarray, "draws subjects"]:
    return _weights(subjects, np.random.default_rng(SEED))


def _percentiles(values: Float[np.ndarray, " draws"]) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
