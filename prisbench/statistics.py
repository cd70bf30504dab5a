"""How sure a number is: intervals over subjects, paired differences, rank tiers, ROC curves.

Queries about one subject resemble each other, so subjects are drawn again, not queries (a cluster bootstrap).  As
every metric is a ratio of sums, a draw is one row of weights times the subjects' sums.

Every interval of the package is made by ``percentiles`` or ``bounded``: None below ``FEWEST_SUBJECTS``.

Knows: samples of numerators and denominators, by query and subject.
Does not know: masks, methods, files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int64

from prisbench.errors import DataError

DRAWS = 10_000
LEVEL = 0.95

FEWEST_SUBJECTS = 6
"""Independent units (subjects, images, scenes) below which there is no interval and no tier.

The percentile bootstrap covers too little with few units: simulated, the 95 % interval of a mean covers the truth in
50 % of samples of two subjects, 84 % of five, 86 % of six, 91 % of twelve (``docs/metrics.md``).  Six is also where a
difference with the same sign in every subject first counts: the two-sided sign test gives 2 * 0.5**5 = 0.062 for five
and 2 * 0.5**6 = 0.031 for six.
"""

_NO_WIDTH = 1e-9
"""A spread that rounding alone explains."""

SEED = 20_211_207
"""Of the draws when no Generator is passed: the same files give the same table."""

Interval = tuple[float, float]

Name = TypeVar("Name")


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

    @property
    def n_subjects(self) -> int:
        """How many subjects define it."""
        return len(set(self.subject_ids))


class Difference(NamedTuple):
    """First minus second on the ``n`` queries that define both; ``value`` and ``interval`` None when undefined."""

    value: float | None
    interval: Interval | None
    n: int


def interval(sample: Sample, rng: np.random.Generator | None = None) -> Interval | None:
    """The 95 % interval over subjects of the sample's value, which lies in 0..1 (``bounded``).

    None with fewer than ``FEWEST_SUBJECTS`` subjects.
    """
    ratios = draw_ratios([sample], rng)
    return None if ratios is None else bounded(ratios[0], sample.n_subjects)


def percentiles(values: Float[np.ndarray, " draws"], units: int) -> Interval | None:
    """From the 2.5th to the 97.5th percentile of a number's values under draws of ``units`` subjects or images.

    NaN marks a draw that does not define the number; such draws are left out.  None when no draw defines it, and
    below ``FEWEST_SUBJECTS`` units.
    """
    values = values[~np.isnan(values)]
    if units < FEWEST_SUBJECTS or not values.size:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def bounded(values: Float[np.ndarray, " draws"], units: int) -> Interval | None:
    """``percentiles`` of a number in 0..1, which has width at both ends of that range.

    When every unit has 0, or every unit 1, all draws agree and say nothing of units that differ.  If a share p of all
    units differed, n alike would be seen with chance (1 - p)**n, which is 5 % at q = 1 - 0.05**(1 / n), about 3 / n
    (the rule of three, Hanley and Lippman-Hand 1983); so the interval is 0..q, or 1 - q..1.  Between the ends units
    agree to the last digit by construction only, and the interval has no width.
    """
    found = percentiles(values, units)
    if found is None or found[1] - found[0] > _NO_WIDTH:
        return found
    q = 1 - (1 - LEVEL) ** (1 / units)
    if found[0] < _NO_WIDTH:
        return 0.0, q
    return (1 - q, 1.0) if found[1] > 1 - _NO_WIDTH else found


def no_interval(units: int, of: str = "subject") -> str:
    """Why a number from so few units has no interval, as words for a note."""
    few = f"{units} {of}" + ("" if units == 1 else "s")
    return f"{few}; at least {FEWEST_SUBJECTS} are needed for one that can be trusted"


def interval_words(units: int, of: str = "subject") -> str:
    """What [low, high] are in a table over so many units, or why there are none."""
    if units < FEWEST_SUBJECTS:
        return f"no interval: {no_interval(units, of)}"
    return f"[low, high] are 95 % intervals over {of}s"


def paired_difference(first: Sample, second: Sample, rng: np.random.Generator | None = None) -> Difference:
    """``first - second`` with its interval: both get the same draw of subjects.

    Joined by query id; a query that only one of the two defines is left out.  No interval with fewer than
    ``FEWEST_SUBJECTS`` subjects; one without width says that the difference is the same for every subject.

    Raises DataError when the two disagree on a query's subject.
    """
    one, two = joined(first, second)
    if one.value is None or two.value is None:
        return Difference(None, None, 0)
    ratios = draw_ratios([one, two], rng)
    spread = None if ratios is None else percentiles(ratios[0] - ratios[1], one.n_subjects)
    return Difference(one.value - two.value, spread, len(one.query_ids))


def joined(first: Sample, second: Sample) -> tuple[Sample, Sample]:
    """Both samples on the queries that both define, in the order of the first.

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
    return one, two


def rank_tiers(samples: Mapping[str, Sample], rng: np.random.Generator | None = None) -> dict[str, int]:
    """Tiers from 1, higher values first; a sample of fewer than ``FEWEST_SUBJECTS`` subjects gets none (``tiers``)."""
    values = {name: sample.value for name, sample in samples.items() if sample.n_subjects >= FEWEST_SUBJECTS}
    known = {name: value for name, value in values.items() if value is not None}
    return tiers(known, lambda best, name: paired_difference(samples[best], samples[name], rng).interval)


def tiers(values: Mapping[str, float], gap: Callable[[str, str], Interval | None]) -> dict[str, int]:
    """Tiers from 1 of methods with a value, higher values first; ``gap`` is the interval of the first method's value
    minus the second's.

    The best opens tier 1.  Going down, a method joins the open tier when the interval of its paired difference to the
    tier's best includes zero (or cannot be made); else it opens the next tier.  So the data do not
    separate the members of a tier from its best, which does not make them equal.
    """

    def apart(best: str, name: str) -> bool:
        between = gap(best, name)
        return between is not None and between[0] > _NO_WIDTH

    return opened([name for _, name in sorted((-value, name) for name, value in values.items())], apart)


def opened(order: Iterable[Name], apart: Callable[[Name, Name], bool]) -> dict[Name, int]:
    """Tiers from 1 of names in their order: one that is told ``apart`` from the open tier's first opens the next."""
    found: dict[Name, int] = {}
    first: list[Name] = []
    for name in order:
        if not first or apart(first[-1], name):
            first.append(name)
        found[name] = len(first)
    return found


class Roc(NamedTuple):
    """How well a presence score separates present from absent queries.

    ``auc``: the chance that a present query's score is higher than an absent one's, ties counted half.  ``points``:
    the thresholds' (false positive rate, true positive rate), from (0, 0) to (1, 1), the strictest first.
    ``n_subjects``: subjects with present queries or subjects with absent ones, whichever are fewer.
    """

    auc: float
    interval: Interval | None
    points: list[tuple[float, float]]
    n_subjects: int


def roc(
    presence: Float[np.ndarray, " n"],
    present: Bool[np.ndarray, " n"],
    subject_ids: Sequence[str],
    rng: np.random.Generator | None = None,
) -> Roc | None:
    """The ROC of presence scores, "present" where they are at least a threshold; None unless both kinds are there.

    The interval is over subjects: each draw weighs the pairs of queries by how often both their subjects were drawn.
    None when fewer than ``FEWEST_SUBJECTS`` subjects have queries of either kind.  A draw without one of the kinds
    defines no area and is left out: with six subjects of a kind that is at most one draw in 400, (1 - 6 / n)**n.
    """
    there, not_there = presence[present], presence[~present]
    if not len(there) or not len(not_there):
        return None
    thresholds = np.unique(presence)[::-1]
    rates = [(len(each) - np.searchsorted(np.sort(each), thresholds)) / len(each) for each in (not_there, there)]
    points = [(0.0, 0.0), *zip(rates[0].tolist(), rates[1].tolist(), strict=True)]

    names, codes = np.unique(np.asarray(subject_ids, dtype=object), return_inverse=True)
    fewer = min(len(np.unique(codes[present])), len(np.unique(codes[~present])))
    won, pairs = _won(there, not_there, codes[present], codes[~present], len(names))
    spread: Interval | None = None
    if fewer >= FEWEST_SUBJECTS:
        weights = subject_weights(len(names), rng)
        above, total = (np.einsum("ds,st,dt->d", weights, of, weights, optimize=True) for of in (won, pairs))
        areas = np.divide(above, total, out=np.full(len(total), np.nan), where=total > 0)
        spread = bounded(areas, fewer)
    return Roc(float(won.sum() / pairs.sum()), spread, points, fewer)


def _won(
    there: Float[np.ndarray, " p"],
    not_there: Float[np.ndarray, " q"],
    whose: Int64[np.ndarray, " p"],
    whose_not: Int64[np.ndarray, " q"],
    subjects: int,
) -> tuple[Float[np.ndarray, "subjects subjects"], Float[np.ndarray, "subjects subjects"]]:
    """For each two subjects, in how many pairs of queries the first one's belief "present" beats the second one's
    "absent", ties counted half; and how many pairs there are.  Whole and half numbers, so the sums are exact.
    """
    won = np.zeros((subjects, subjects))
    for second in np.unique(whose_not):
        lower = np.sort(not_there[whose_not == second])
        wins = (np.searchsorted(lower, there, "left") + np.searchsorted(lower, there, "right")) / 2
        won[:, second] = np.bincount(whose, wins, minlength=subjects)
    counts = [np.bincount(each, minlength=subjects).astype(np.float64) for each in (whose, whose_not)]
    return won, np.outer(*counts)


def gathered(terms: Iterable[tuple[str, str, float, float]]) -> Sample:
    """The sample of (query id, subject id, numerator, denominator); those of a query's several answers add up."""
    subjects: dict[str, str] = {}
    above: dict[str, float] = {}
    below: dict[str, float] = {}
    for query_id, subject_id, numerator, denominator in terms:
        subjects[query_id] = subject_id
        above[query_id] = above.get(query_id, 0.0) + numerator
        below[query_id] = below.get(query_id, 0.0) + denominator
    return Sample(
        query_ids=tuple(subjects),
        subject_ids=tuple(subjects.values()),
        numerator=np.array(list(above.values()), dtype=np.float64),
        denominator=np.array(list(below.values()), dtype=np.float64),
    )


def _take(sample: Sample, rows: list[int]) -> Sample:
    return Sample(
        query_ids=tuple(sample.query_ids[row] for row in rows),
        subject_ids=tuple(sample.subject_ids[row] for row in rows),
        numerator=sample.numerator[rows],
        denominator=sample.denominator[rows],
    )


def draw_ratios(
    samples: Sequence[Sample], rng: np.random.Generator | None = None
) -> list[Float[np.ndarray, " draws"]] | None:
    """Each sample's value under the same draws of the subjects of all samples; NaN in a draw that has none of a
    sample's own.  None with fewer than ``FEWEST_SUBJECTS`` subjects in all.
    """
    names = sorted({subject for sample in samples for subject in sample.subject_ids})
    if len(names) < FEWEST_SUBJECTS:
        return None
    code = {name: n for n, name in enumerate(names)}
    weights = subject_weights(len(names), rng)
    ratios = []
    for each in samples:
        codes = np.array([code[subject] for subject in each.subject_ids], np.int64)
        above, below = (
            weights @ np.bincount(codes, terms, minlength=len(names)) for terms in (each.numerator, each.denominator)
        )
        ratios.append(np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0))
    return ratios


def subject_weights(subjects: int, rng: np.random.Generator | None = None) -> Float[np.ndarray, "draws subjects"]:
    """How often each subject is drawn, in every draw; without ``rng`` always the same draws."""
    return _fixed_weights(subjects) if rng is None else _weights(subjects, rng)


def _weights(subjects: int, rng: np.random.Generator) -> Float[np.ndarray, "draws subjects"]:
    """How often each subject is drawn, in ``DRAWS`` draws of ``subjects`` with replacement."""
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=DRAWS).astype(np.float64)


@lru_cache(maxsize=4)
def _fixed_weights(subjects: int) -> Float[np.ndarray, "draws subjects"]:
    return _weights(subjects, np.random.default_rng(SEED))
