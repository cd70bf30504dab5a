"""Standard errors over subjects crossed with learner seeds, and the intervals that stand on them.

A subject's share of a number is what the ratio of sums changes with it, to first order (Woodruff 1971; Wolter 2007,
chapter 6), so nothing is drawn.  The interval of a number in 0..1 is Wilson's, with the number of answers that would be
worth as much if they were independent (Dean and Pagano 2015), and Student's t, whose degrees of freedom are fewer where
few subjects make the variance.  Why this one: ``docs/metrics.md`` has what it and others cover.

Knows: arrays of answers.  Does not know: draws, which methods are compared, how a page looks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from prisbench.statistics import FEWEST_SUBJECTS, LEVEL, Interval
from prisbench.uncertainty.answers import Answers, Entry

NO_WIDTH = 1e-12
"""A variance that rounding alone explains."""


class Spread(NamedTuple):
    """A number and how it varies.

    ``shares``: of each subject, in units of the number, their mean 0: the number's variance over subjects is that of
    their mean.  ``seed_variance``: what seeds add that subjects do not show, with the degrees of freedom of that
    estimate (0 where nothing is added).
    """

    value: float
    shares: Float[np.ndarray, " subjects"]
    seed_variance: float = 0.0
    seed_freedom: float = 0.0


def spread_of(answers: Answers, entry: Entry) -> Spread:
    """One method's number, with the shares of its subjects and what its seeds add.

    Subjects and seeds are crossed: the mean squares of subjects, seeds and both together give what seeds alone add,
    MS(seed) - MS(both), not below 0 (Searle, Casella and McCulloch 1992, section 4.3).
    """
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
    shares = each.mean(axis=1)
    seed_variance, freedom = _seeds(each)
    return Spread(value / len(answers.parts), shares, seed_variance, freedom)


def _seeds(each: Float[np.ndarray, "subjects seeds"]) -> tuple[float, float]:
    """The variance that seeds add to the mean beyond what subjects show, and its degrees of freedom (Satterthwaite)."""
    subjects, seeds = each.shape
    if seeds < 2:
        return 0.0, 0.0
    rows, columns = each.mean(axis=1, keepdims=True), each.mean(axis=0, keepdims=True)
    of_seed = subjects * float((columns**2).sum()) / (seeds - 1)
    free = (subjects - 1) * (seeds - 1)
    of_both = float(((each - rows - columns) ** 2).sum()) / free
    added = of_seed - of_both
    if added <= 0:
        return 0.0, 0.0
    freedom = added**2 / (of_seed**2 / (seeds - 1) + of_both**2 / free)
    return added / (subjects * seeds), freedom


def error_of(shares: Float[np.ndarray, " subjects"], seeds: list[tuple[float, float]]) -> tuple[float, float]:
    """The variance of a number and its degrees of freedom (Satterthwaite): that over subjects, with what seeds add."""
    n = len(shares)
    over_subjects = float(((shares - shares.mean()) ** 2).sum()) / (n - 1) / n
    parts = [(over_subjects, freedom_of(shares)), *(each for each in seeds if each[0] > 0)]
    variance = sum(part for part, _ in parts)
    if variance <= NO_WIDTH**2:
        return 0.0, float(n - 1)
    return variance, variance**2 / sum(part**2 / freedom for part, freedom in parts)


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
    variance, freedom = error_of(spread.shares, [(spread.seed_variance, spread.seed_freedom)])
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
    seeds = [(each.seed_variance, each.seed_freedom) for each in (first, second)]
    variance, freedom = error_of(shares, seeds)
    if abs(value) <= NO_WIDTH:
        value = 0.0
    if variance == 0:
        return Gap(value, (value, value), float(value == 0), None if value == 0 else FEWEST_SUBJECTS)
    error = variance**0.5
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * error
    p = 2 * float(special.stdtr(freedom, -abs(value) / error))
    only = error_of(shares, [])[0] * len(shares)
    return Gap(value, (value - half, value + half), p, subjects_needed(value, only, sum(part for part, _ in seeds)))


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
