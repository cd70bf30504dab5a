"""What in the photos of a subject is the subject, where nobody drew a mask.

It is what the photos share and their borders do not have: its colours are in most of the photos, and seldom at the
border of any.  Two or three rounds of estimating colours from masks and masks from colours follow, as in GrabCut
(Rother, Kolmogorov and Blake 2004), each mask made smooth by the dense CRF where that is installed.

Knows: photos.  Does not know: nouns, scenes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from prisbench.localizer.refine import EMBEDDED_CRF, dense_crf
from prisbench.network_free.colours import LEVELS, codes, histogram

ROUNDS = 3
BORDER = 8
"""The border is this fraction's denominator of height and width on each side."""


def border(size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels near the photo's edge."""
    h, w = size_hw
    inside = np.ones(size_hw, dtype=bool)
    y, x = max(h // BORDER, 1), max(w // BORDER, 1)
    inside[y : h - y, x : w - x] = False
    return inside


def centre_prior(size_hw: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """1 in the middle, falling to 0.14 at the corners: people point cameras at what they show."""
    h, w = size_hw
    y, x = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)[None]
    return np.exp(-(y**2 + x**2)).astype(np.float32)


def soft_foreground(photos: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> list[Float32[np.ndarray, "_ _"]]:
    """For each photo, how likely each pixel shows the subject, 0..1.

    One photo alone has nothing to share, and goes by its border and its middle.
    """
    found = [codes(photo, "none") for photo in photos]
    soft = [centre_prior(photo.shape[:2]) * ~border(photo.shape[:2]) for photo in photos]
    behind = [histogram(code, border(code.shape).astype(np.float32), LEVELS) for code in found]
    first = np.stack([histogram(code, weight, LEVELS) for code, weight in zip(found, soft, strict=True)])
    surplus = np.stack([np.maximum(own - back, 0) for own, back in zip(first, behind, strict=True)])
    shared = _normal(np.quantile(surplus, 0.4, axis=0)) if len(photos) > 1 else _normal(surplus[0])
    for turn in range(ROUNDS):
        soft = []
        for photo, code, back in zip(photos, found, behind, strict=True):
            likely = shared / (shared + 0.5 * back + 2e-5)
            weight = ndimage.gaussian_filter(likely[code], 1.0) * (0.6 + 0.4 * centre_prior(code.shape))
            soft.append(_one_piece(_snapped(photo, weight)))
        inside = np.stack([histogram(code, each, LEVELS) for code, each in zip(found, soft, strict=True)])
        behind = [histogram(code, 1 - each, LEVELS) for code, each in zip(found, soft, strict=True)]
        shared = _normal(np.median(inside, axis=0) if turn < ROUNDS - 1 else inside.mean(axis=0))
    return soft


def known_or_guessed(
    photos: Sequence[UInt8[np.ndarray, "_ _ 3"]], masks: Sequence[Bool[np.ndarray, "_ _"] | None]
) -> list[Bool[np.ndarray, "_ _"]]:
    """A mask for each photo: its own where it has one, else the foreground; the whole photo where that is empty.

    Photos beyond the last of ``masks`` have none.
    """
    given = [*masks, *[None] * (len(photos) - len(masks))]
    guessed = soft_foreground(photos) if any(mask is None for mask in given) else []
    found = [guessed[n] > 0.5 if mask is None else mask for n, mask in enumerate(given)]
    return [mask if mask.any() else np.ones(mask.shape, bool) for mask in found]


def _normal(shares: np.ndarray) -> np.ndarray:
    return shares / max(float(shares.sum()), 1e-9)


def _snapped(photo: UInt8[np.ndarray, "h w 3"], likely: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """The map with the photo's edges."""
    inside = np.clip(likely, 0.03, 0.97).astype(np.float32)
    return dense_crf(photo, np.stack([1 - inside, inside]), EMBEDDED_CRF)[1]


def _one_piece(soft: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """The map on its heaviest connected part and parts almost as heavy, holes filled; faint elsewhere."""
    parts, count = ndimage.label(soft > 0.5)
    if not count:
        return soft
    weights = ndimage.sum(soft * centre_prior(soft.shape), parts, range(1, count + 1))
    kept = np.isin(parts, 1 + np.flatnonzero(weights >= 0.35 * weights.max()))
    filled = ndimage.binary_fill_holes(kept)
    return np.where(filled, np.maximum(soft, 0.5), 0.0).astype(np.float32)
