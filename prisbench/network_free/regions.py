"""Parts of a scene that may be the subject, cut from a map, and the final mask of one of them.

Knows: maps in 0..1, the scene's pixels.  Does not know: subjects, texts, truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from prisbench.images.regions import distinct, iou
from prisbench.localizer.refine import EMBEDDED_CRF, dense_crf

LEVELS = (0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
"""Where a map is cut; a part at one level may fall apart at the next."""

LEAST, MOST = 0.0025, 0.6
"""Shares of the scene that a part covers."""

SAME = 0.8
"""Intersection over union above which two parts are one."""

PARTS = 14
"""At most so many are kept, those that hold most of the map first."""


def parts(map_: Float32[np.ndarray, "h w"]) -> list[Bool[np.ndarray, "h w"]]:
    """The connected parts at all levels, holes filled, each once; those that hold most of the map come first."""
    found: list[tuple[float, np.ndarray]] = []
    for level in LEVELS:
        labels, _ = ndimage.label(ndimage.binary_opening(map_ > level))
        for n, box in enumerate(ndimage.find_objects(labels), 1):
            inside = ndimage.binary_fill_holes(labels[box] == n)
            if not LEAST <= inside.sum() / map_.size <= MOST:
                continue
            mask = np.zeros(map_.shape, dtype=bool)
            mask[box] = inside
            weight = float(np.maximum(map_[mask] - 0.2, 0).sum())
            found.append((weight, mask))
    found.sort(key=lambda each: -each[0])
    masks = [mask for _, mask in found]
    return [masks[place] for place in distinct(masks, SAME, PARTS)]


def snapped(
    image: UInt8[np.ndarray, "h w 3"],
    map_: Float32[np.ndarray, "h w"],
    part: Bool[np.ndarray, "h w"],
    others: Sequence[Bool[np.ndarray, "h w"]] = (),
) -> Bool[np.ndarray, "h w"]:
    """The part with the outline that the photo has there: the dense CRF on the map near the part.

    The part itself where nothing would be left.  ``others`` are parts that are not this one.
    """
    reach = 2 + round(0.05 * np.sqrt(part.sum()))
    near = ndimage.binary_dilation(part, iterations=reach)
    for other in others:
        near &= ~(other & ~part)
    inside = np.clip(np.where(part, 0.55 + 0.35 * map_, 0.55 * map_), 0.02, 0.98) * np.where(near, 1, 0.03)
    inside = inside.astype(np.float32)
    kept = dense_crf(image, np.stack([1 - inside, inside]), EMBEDDED_CRF)[1] > 0.5
    kept = ndimage.binary_fill_holes(kept)
    return kept if iou(kept, part) > 0.2 else part
