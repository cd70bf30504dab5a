"""Pair accuracy: does a method read?  Two texts about one scene that differ in one phrase must both be answered right.

Knows: counts by query, subject and pair.  Does not know: masks, texts, runs, files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from prisbench.counts import Counts, Scored
from prisbench.errors import DataError
from prisbench.statistics import Interval, Sample, interval

KINDS = ("referred", "contradicted")
"""Both texts have a referent; or one has, and the other contradicts the scene."""


class Pairs(NamedTuple):
    """Pair accuracy of one method: ``value`` and ``interval`` None when undefined.

    ``chance``: what drawing each answer by lot would give, from the candidates of a text, and in a contradicted pair
    from these and "not here".  ``n`` counts pairs, ``n_undefined`` those with a member missing.  ``sample`` has a row a
    pair, for paired differences between methods.
    """

    value: float | None
    interval: Interval | None
    chance: float | None
    n: int
    n_undefined: int
    sample: Sample


def pair_accuracy(
    runs: Iterable[Sequence[Scored]], kind: str | None = None, rng: np.random.Generator | None = None
) -> Pairs:
    """The share of pairs of which both members are right, over runs of one method (its seeds; often just one).

    A text with a referent is right when its mask is the right instance's (``Counts.right_instance``), one without when
    its mask is empty; an empty answer to the first and a failure of either is wrong.  So a method that answers both
    members alike is never right: the answers to two referents, or to one and none, differ.

    Raises DataError for a pair of more than two members, of several subjects, and of none or two without a referent
    where both are there.
    """
    right: dict[str, list[bool]] = {}
    chances: dict[str, float] = {}
    subjects: dict[str, str] = {}
    missing = 0
    for queries in runs:
        members: dict[str, list[Scored]] = {}
        for query in queries:
            if query.pair_id is not None:
                members.setdefault(query.pair_id, []).append(query)
        for pair_id, pair in members.items():
            if len(pair) == 1 and (kind is None or (_kind(pair) in (kind, None))):
                missing += 1
            if len(pair) != 1 and kind in (None, _kind(_checked(pair_id, pair))):
                right.setdefault(pair_id, []).append(all(_right(query.counts) for query in pair))
                chances[pair_id] = _chance(pair)
                subjects[pair_id] = pair[0].subject_id
    sample = Sample(
        query_ids=tuple(right),
        subject_ids=tuple(subjects[pair_id] for pair_id in right),
        numerator=np.array([sum(each) for each in right.values()], dtype=np.float64),
        denominator=np.array([len(each) for each in right.values()], dtype=np.float64),
    )
    n = int(sample.denominator.sum())
    chance = sum(chances[pair_id] * len(each) for pair_id, each in right.items()) / n if n else None
    return Pairs(sample.value, interval(sample, rng) if n else None, chance, n, missing, sample)


def _checked(pair_id: str, pair: Sequence[Scored]) -> Sequence[Scored]:
    names = ", ".join(repr(query.query_id) for query in pair)
    if len(pair) > 2:
        raise DataError(f"pair {pair_id!r} has {len(pair)} members ({names}); a pair has two")
    if len({query.subject_id for query in pair}) != 1:
        raise DataError(f"pair {pair_id!r} ({names}) is about two subjects; a pair is about one")
    if not any(query.counts.truth_area for query in pair):
        raise DataError(f"pair {pair_id!r} ({names}): neither text has a referent; at most one may have none")
    return pair


def _kind(pair: Sequence[Scored]) -> str | None:
    """What kind of pair it is; None for a lone member that may be of either."""
    if any(not query.counts.truth_area for query in pair):
        return "contradicted"
    return "referred" if len(pair) > 1 else None


def _right(counts: Counts) -> bool:
    if counts.failed:
        return False
    return counts.right_instance is True if counts.truth_area else counts.predicted_area == 0


def _chance(pair: Sequence[Scored]) -> float:
    """Of answers drawn by lot, both right."""
    none = _kind(pair) == "contradicted"
    product = 1
    for query in pair:
        product *= max(query.counts.candidates or 0, 1) + none
    return 1 / product
