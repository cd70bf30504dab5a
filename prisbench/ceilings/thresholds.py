"""Ceilings of a run that kept its soft maps: their masks cut at the best threshold, which only the truth tells.

Knows: maps of 0..255, truths.  Does not know: how a method makes maps, or cuts and refines them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from prisbench.errors import DataError
from prisbench.subsets import NAMED

LEVELS = 256
"""Thresholds t of a map: the mask is map >= t, for t = 0..255."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One query.  ``subset``: its name of ``subsets.NAMED``; ``own``: the score of the run's own mask; ``answered``:
    whether that mask has a pixel; ``scores``: those of the map at every threshold, None where no map was kept.
    """

    subset: str
    has_referent: bool
    own: float
    answered: bool
    scores: Float64[np.ndarray, " 256"] | None


def curve(map_: UInt8[np.ndarray, "h w"], truth: Bool[np.ndarray, "h2 w2"]) -> Float64[np.ndarray, " 256"]:
    """The score of a map cut at every threshold: IoU, or for an empty truth whether the mask is empty.

    Raises DataError when the sizes differ.
    """
    if map_.shape != truth.shape:
        raise DataError(f"the soft map is {map_.shape} (h, w), the truth {truth.shape}; resize it first")
    inside = _at_least(np.bincount(map_[truth], minlength=LEVELS))
    taken = _at_least(np.bincount(map_.ravel(), minlength=LEVELS))
    total = int(truth.sum())
    if not total:
        return (taken == 0).astype(np.float64)
    return inside / (taken + total - inside)


def _at_least(histogram: np.ndarray) -> np.ndarray:
    """How many pixels have each value or more."""
    return histogram[::-1].cumsum()[::-1]


def one_for_all(curves: Mapping[str, Curve]) -> tuple[int, dict[str, float]]:
    """The one threshold with the highest mean over subsets, and every query's score with it.

    Where the run said "not here", or kept no map, its own answer stays.  The lowest of equal thresholds.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for each in curves.values():
        rows.setdefault(each.subset, []).append(_kept(each))
    means = np.mean([np.mean(rows[name], axis=0) for name in NAMED if name in rows], axis=0)
    best = int(means.argmax())
    return best, {query_id: float(_kept(each)[best]) for query_id, each in curves.items()}


def one_for_each(curves: Mapping[str, Curve]) -> dict[str, float]:
    """Every query's score with its own best threshold; whether there is an answer at all stays as the run said."""
    return {
        query_id: float(each.scores.max()) if _cuts(each) and each.scores is not None else each.own
        for query_id, each in curves.items()
    }


def presence_known(curves: Mapping[str, Curve]) -> dict[str, float]:
    """As ``one_for_each``, also where the run was wrong about whether the thing is there."""
    return {
        query_id: 1.0 if not each.has_referent else each.own if each.scores is None else float(each.scores.max())
        for query_id, each in curves.items()
    }


def without_map(curves: Mapping[str, Curve]) -> int:
    """How many queries with an answer have no map."""
    return sum(each.answered and each.scores is None for each in curves.values())


def _cuts(each: Curve) -> bool:
    """Whether a threshold per query says anything: there is an answer, a map, and something to find."""
    return each.answered and each.has_referent and each.scores is not None


def _kept(each: Curve) -> Float64[np.ndarray, " 256"]:
    if each.answered and each.scores is not None:
        return each.scores
    return np.full(LEVELS, each.own)


def curves_of(found: Sequence[tuple[str, Curve]]) -> dict[str, Curve]:
    """By query id.  Raises DataError where no query has a map."""
    curves = dict(found)
    if all(each.scores is None for each in curves.values()):
        raise DataError("the run kept no soft map; run it again with --soft-maps")
    return curves
