"""Standard errors over subjects crossed with learner seeds, and the intervals that stand on them.

A subject's share of a number is what the ratio of sums changes with it, to first order (Woodruff 1971; Wolter 2007,
chapter 6), so nothing is drawn.  The interval of a number in 0..1 is Wilson's, with the number of answers that would be
worth as much if they were independent (Dean and Pagano 2015), and Student's t, whose degrees of freedom are fewer where
few subjects make the variance.  Why this one: ``docs/metrics.md`` has what it and others cover.

Knows: arrays of answers.  Does not know: draws, which methods are compared, how a page looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from prisbench.statistics import FEWEST_SUBJECTS, LEVEL, Interval
from prisbench.uncertainty.answers import Answers, Entry

NO_WIDTH = 1e-12
"""A variance that rounding alone explains."""


class Luck(NamedTuple):
    """What seeds make of a mean's variance: the mean squares of seeds and of subjects with seeds, as parts of it.

    What seeds add beyond what subjects show is ``seed - both``: expected 0, and as often below 0 as above, where a seed
    means to each subject something else.
    """

    seed: float
    both: float
    seed_freedom: int
    both_freedom: int


class Spread(NamedTuple):
    """A number and how it varies.

    ``shares``: of each subject, in units of the number, their mean 0: the number's variance over subjects is that of
    their mean.  ``luck``: that of its seeds; None where it has one.
    """

    value: float
    shares: Float[np.ndarray, " subjects"]
    luck: Luck | None = None


def spread_of(answers: Answers, entry: Entry) -> Spread:
    """One method's number, with the shares of its subjects and what its seeds make of it."""
    columns = list(entry.columns)
    subjects, seeds = int(answers.subject.max()) + 1, len(columns)
    value, each = 0.0, np.zeros((subjects, seeds))
    for number in range(len(answers.parts)):
        mine = answers.part == number
        above, below = (
            np.stack([np.bincount(answers.subject[mine], terms[mine, run], subjects) for run in columns], axis=1)
            for terms in (answers.above, answers.below)
        )
        ratio = float(above.sum() / below.sum())
        value += ratio
        each += (above - ratio * below) / below.sum()
    each *= subjects * seeds / len(answers.parts)
    return Spread(value / len(answers.parts), each.mean(axis=1), _luck(each))


def _luck(each: Float[np.ndarray, "subjects seeds"]) -> Luck | None:
    """The mean squares of a table whose mean is 0, divided by the number of its cells."""
    subjects, seeds = each.shape
    if seeds < 2:
        return None
    rows, columns = each.mean(axis=1, keepdims=True), each.mean(axis=0, keepdims=True)
    free = (subjects - 1) * (seeds - 1)
    of_seed = float((columns**2).sum()) / (seeds - 1) / seeds
    of_both = float(((each - rows - columns) ** 2).sum()) / free / each.size
    return Luck(of_seed, of_both, seeds - 1, free)


def error_of(shares: Float[np.ndarray, " subjects"], lucks: Sequence[Luck | None]) -> tuple[float, float]:
    """The variance of a number and its degrees of freedom: over subjects and seeds, which are crossed.

    MS(subject) + MS(seed) - MS(both) is the estimate without bias (Searle, Casella and McCulloch 1992, section 4.3).
    It is not taken below MS(both), which the variance of a mean is never below.  MS(seed) - MS(both) may be negative:
    cut off at 0, it made intervals that covered too much.  Freedom by Satterthwaite, at least 1.
    """
    n = len(shares)
    there = [luck for luck in lucks if luck is not None]
    least = [(luck.both, float(luck.both_freedom)) for luck in there]
    parts = [(float(((shares - shares.mean()) ** 2).sum()) / (n - 1) / n, freedom_of(shares))]
    parts += [(luck.seed, luck.seed_freedom) for luck in there] + [(-part, freedom) for part, freedom in least]
    if sum(part for part, _ in parts) < sum(part for part, _ in least):
        parts = least
    variance = sum(part for part, _ in parts)
    if variance <= NO_WIDTH**2:
        return 0.0, float(n - 1)
    return variance, max(1.0, variance**2 / sum(part**2 / freedom for part, freedom in parts))


def freedom_of(shares: Float[np.ndarray, " subjects"]) -> float:
    """The degrees of freedom of a variance of n values of kurtosis k, 2 n / (k - (n - 3) / (n - 1)) (O'Neill 2014).

    That is n - 1 for the normal's k = 3; k is taken from the values, and not below 3.

    A rate near 0 or 1 has few subjects that are not alike, and their variance is known badly.
    """
    n = len(shares)
    squares = (shares - shares.mean()) ** 2
    second = float(squares.mean())
    kurtosis = 3.0 if second <= NO_WIDTH**2 else max(3.0, float((squares**2).mean()) / second**2)
    return 2 * n / (kurtosis - (n - 3) / (n - 1))


def interval_of(spread: Spread, units: int) -> Interval | None:
    """The 95 % interval of a number in 0..1, over new subjects and seeds; None below ``FEWEST_SUBJECTS``."""
    if units < FEWEST_SUBJECTS:
        return None
    variance, freedom = error_of(spread.shares, [spread.luck])
    return score_interval(spread.value, variance, freedom, units)


def score_interval(value: float, variance: float, freedom: float, units: int) -> Interval:
    """Wilson's interval of a number in 0..1 of known variance, with Student's t: the p that are at most t standard
    errors away, when the error goes with sqrt(p (1 - p)).

    Where all subjects have 0, or 1, nothing is known of the variance, and each counts as one answer.  Elsewhere no
    variance is no width.
    """
    t = float(special.stdtrit(freedom, (1 + LEVEL) / 2))
    inside = value * (1 - value)
    if variance <= NO_WIDTH**2 and inside > NO_WIDTH:
        return value, value
    n = units if variance <= NO_WIDTH**2 or inside <= NO_WIDTH else inside / variance
    middle = (value + t * t / (2 * n)) / (1 + t * t / n)
    half = t / (1 + t * t / n) * (max(inside, 0.0) / n + (t / (2 * n)) ** 2) ** 0.5
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


class Gap(NamedTuple):
    """A number minus another one of the same subjects: ``p`` that a gap so large comes by chance where there is none.

    ``needed``: the subjects with which a gap of that size is told from none in four of five samples; None where none
    are enough, because there is no gap, or seeds alone hide it.
    """

    value: float
    interval: Interval | None
    p: float | None
    needed: int | None


def gap_of(first: Spread, second: Spread, units: int) -> Gap:
    """The paired difference, with Student's t over subjects and what the seeds of both add."""
    value = first.value - second.value
    if units < FEWEST_SUBJECTS:
        return Gap(value, None, None, None)
    shares = first.shares - second.shares
    lucks = [each.luck for each in (first, second) if each.luck is not None]
    variance, freedom = error_of(shares, lucks)
    if abs(value) <= NO_WIDTH:
        value = 0.0
    if variance == 0:
        return Gap(value, (value, value), float(value == 0), None if value == 0 else FEWEST_SUBJECTS)
    error = variance**0.5
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    p = 2 * float(special.stdtr(freedom, -abs(value) / error))
    only = error_of(shares, [])[0] * len(shares)
    added = max(0.0, sum(luck.seed - luck.both for luck in lucks))
    return Gap(value, (value - half, value + half), p, subjects_needed(value, only, added))


POWER = 0.8
"""How often a difference is to be found that is there."""

MOST_NEEDED = 10_000_000


def subjects_needed(gap: float, variance: float, seed_variance: float = 0.0) -> int | None:
    """The fewest subjects n at which a paired t test at 5 % finds ``gap`` in ``POWER`` of samples, to the usual
    approximation: gap >= (t(0.975) + t(0.8)) sqrt(variance / n + seed_variance), t of n - 1 degrees of freedom.

    ``variance``: of the gap between subjects.  None where no number is enough; at least ``FEWEST_SUBJECTS``.
    """

    def enough(n: int) -> bool:
        t = special.stdtrit(n - 1, (1 + LEVEL) / 2) + special.stdtrit(n - 1, POWER)
        return bool(abs(gap) >= t * (variance / n + seed_variance) ** 0.5)

    if gap == 0 or not enough(MOST_NEEDED):
        return None
    low, high = FEWEST_SUBJECTS - 1, MOST_NEEDED
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
