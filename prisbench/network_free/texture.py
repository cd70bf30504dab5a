"""Colour and texture together: a coarse colour, and which way brightness and colour change, as numbers of bins.

Knows: pixels.  Does not know: subjects, regions, texts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from scipy import ndimage

from prisbench.network_free.colours import balanced, opponent

COARSE = (3, 5, 5)
"""Bins of brightness and of the two opponent colours."""

WAYS = 4
"""Directions of change, of half a turn; a bin more is for pixels where nothing changes."""

SIGMAS = (1.0, 2.0)
"""Pixels over which changes are measured; each is a histogram of its own."""

STRONG = 0.035
"""The change per pixel, of a plane in 0..1, above which there is a direction."""

BINS = (*COARSE, WAYS + 1)


def texture_codes(image: UInt8[np.ndarray, "h w 3"], balance: str = "none") -> list[Int32[np.ndarray, "h w"]]:
    """For each of ``SIGMAS`` the number of each pixel's bin, below the product of ``BINS``."""
    planes = opponent(balanced(image, balance))
    light, *axes = np.moveaxis(planes, -1, 0)
    colour = np.clip((np.sqrt(light) * COARSE[0]).astype(np.int32), 0, COARSE[0] - 1)
    for axis, count in zip(axes, COARSE[1:], strict=True):
        place = 0.5 + np.sign(axis) * np.sqrt(np.minimum(np.abs(axis), 1)) / 2
        colour = colour * count + np.clip((place * count).astype(np.int32), 0, count - 1)
    return [colour * (WAYS + 1) + _ways(planes, sigma) for sigma in SIGMAS]


def _ways(planes: Float32[np.ndarray, "h w 3"], sigma: float) -> Int32[np.ndarray, "h w"]:
    """0 where nothing changes, else 1 + the direction in which the plane of the strongest change changes."""
    dy = np.stack([ndimage.gaussian_filter(planes[..., n], sigma, (1, 0)) for n in range(3)])
    dx = np.stack([ndimage.gaussian_filter(planes[..., n], sigma, (0, 1)) for n in range(3)])
    strength = np.hypot(dy, dx)
    best = strength.argmax(axis=0)[None]
    turn = np.arctan2(np.take_along_axis(dy, best, 0)[0], np.take_along_axis(dx, best, 0)[0])
    way = 1 + np.floor((turn / np.pi + 0.5 / WAYS) % 1 * WAYS).astype(np.int32) % WAYS
    strong = np.take_along_axis(strength, best, 0)[0] > STRONG / sigma
    return np.where(strong, way, 0).astype(np.int32)
