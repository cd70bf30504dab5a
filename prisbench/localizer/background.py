"""Maps against the background: the scores that decide which pixels belong to a subject.

Knows: maps as arrays.  Does not know: torch, where the maps come from.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def with_background(maps: Float[np.ndarray, "c h w"], rule: str, tau: float) -> Float[np.ndarray, "c1 h w"]:
    """Scores of [background, map 1 .. map c]; a pixel belongs to the highest, of equals to the first.

    "squared" is the published ``(2 tau - max)^2`` against the maps as they are (Text2Mask, ``scripts/SD_seg.py``).
    "threshold" bends the maps piecewise linearly so that tau falls on a half.  The background gets the rest:
    probabilities, with equality at tau.
    """
    highest = maps.max(axis=0, keepdims=True)
    if rule == "squared":
        return np.concatenate([(2 * tau - highest) ** 2, maps])
    bent = np.where(maps > tau, 0.5 + 0.5 * (maps - tau) / (1 - tau), 0.5 * maps / tau)
    return np.concatenate([1 - bent.max(axis=0, keepdims=True), bent])
