"""Who is ahead of whom: paired differences of all methods, Holm's correction, tiers, intervals of ranks.

Knows: spreads of numbers.  Does not know: answers, draws, how a page looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float

from prisbench.statistics import LEVEL, opened
from prisbench.uncertainty.spread import Gap, Spread, gap_of

Name = TypeVar("Name", bound=Hashable)


class Ranked(NamedTuple):
    """The methods in their order, best first, as places in the sequence they were given in; the rest by place.

    ``tier``: from 1; a method joins the open tier unless the tier's best is ahead of it after the correction, as on the
    board.  ``ranks``: the best and the worst rank that no corrected difference excludes.  ``gaps`` are of each two, the
    better one first, with ``adjusted`` p (``holm``).  No tier and no ranks below the fewest subjects.
    """

    order: list[int]
    tiers: list[int] | None
    ranks: list[tuple[int, int]] | None
    gaps: dict[tuple[int, int], Gap]
    adjusted: dict[tuple[int, int], float]


def ranked(spreads: Sequence[Spread], names: Sequence[str], units: int, higher_is_better: bool = True) -> Ranked:
    """All methods by their number, every two compared on the same subjects."""
    sign = 1 if higher_is_better else -1
    order = sorted(range(len(spreads)), key=lambda n: (-sign * spreads[n].value, names[n]))
    gaps = {(a, b): gap_of(spreads[a], spreads[b], units) for a, b in itertools.combinations(order, 2)}
    known = {pair: gap.p for pair, gap in gaps.items() if gap.p is not None}
    if len(known) < len(gaps) or len(spreads) < 1:
        return Ranked(order, None, None, gaps, {})
    adjusted = holm(known)
    apart = {pair for pair, p in adjusted.items() if p < 1 - LEVEL}
    tier_of = opened(order, lambda best, place: (best, place) in apart)
    tiers = [tier_of[place] for place in range(len(spreads))]
    ahead = [sum(pair[1] == place for pair in apart) for place in range(len(spreads))]
    behind = [sum(pair[0] == place for pair in apart) for place in range(len(spreads))]
    ranks = [(1 + a, len(spreads) - b) for a, b in zip(ahead, behind, strict=True)]
    return Ranked(order, tiers, ranks, gaps, adjusted)


def holm(p: Mapping[Name, float]) -> dict[Name, float]:
    """Holm's adjusted p (1979): those below 5 % are together wrong in at most 5 % of samples.

    The k-th smallest of m is taken times m - k + 1, and none is below a smaller one.
    """
    found: dict[Name, float] = {}
    highest = 0.0
    for place, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p) - place) * value))
        found[name] = highest
    return found


def win_probabilities(
    drawn: Float[np.ndarray, "draws entries"], higher_is_better: bool = True
) -> Float[np.ndarray, "entries entries"]:
    """The share of draws in which the row's method is ahead of the column's, ties counted half; 0.5 on the diagonal.

    Draws that do not define all numbers are left out.
    """
    drawn = drawn[~np.isnan(drawn).any(axis=1)] * (1 if higher_is_better else -1)
    out = np.empty((drawn.shape[1], drawn.shape[1]))
    for place in range(drawn.shape[1]):
        gaps = drawn[:, [place]] - drawn
        out[place] = ((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=0)
    return out
