"""Boxes of a photo with their scores.

Knows: corners, overlaps.  Does not know: detectors, masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

SAME = 0.5
"""Intersection over union from which the lower of two boxes says what the higher one says."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Left, top, right, bottom of each in the photo's pixels, and how sure the detector is of it, 0..1."""

    xyxy: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]

    def best_first(self, least: float, most: int) -> Boxes:
        """Those above ``least``, the surest first, each place once (``SAME``), at most so many."""
        kept: list[int] = []
        for n in np.argsort(-self.scores, kind="stable"):
            if len(kept) == most or not self.scores[n] > least:
                break
            if all(overlap(self.xyxy[n : n + 1], self.xyxy[[m]])[0] <= SAME for m in kept):
                kept.append(int(n))
        return Boxes(self.xyxy[kept], self.scores[kept])


def from_centres(boxes: Float[np.ndarray, "n 4"], size_hw: tuple[int, int], photo_hw: tuple[int, int]) -> np.ndarray:
    """Corners in the photo's pixels of boxes (centre x, centre y, width, height) that are shares of ``size_hw`` pixels
    of the photo, which is its own size or that of the padded square it lies in; cut off at the photo's border.
    """
    x, y, w, h = boxes.T
    corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
    corners = corners * np.array([size_hw[1], size_hw[0]] * 2)
    return np.clip(corners, 0, np.array([photo_hw[1], photo_hw[0]] * 2))


def overlap(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, " n"]:
    """The largest intersection over union of each box of ``a`` with any of ``b``; 0 for boxes without an area."""
    best = np.zeros(len(a))
    for one in b:
        sides = np.clip(np.minimum(a[:, 2:], one[2:]) - np.maximum(a[:, :2], one[:2]), 0, None)
        common = sides.prod(axis=1)
        union = (a[:, 2:] - a[:, :2]).prod(axis=1) + float((one[2:] - one[:2]).prod()) - common
        best = np.maximum(best, np.divide(common, union, out=np.zeros(len(a)), where=union > 0))
    return best
