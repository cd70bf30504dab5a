"""Small patches as a few numbers each, and how near the nearest of two sets of patches is.

A patch of 7 x 7 pixels is described by the lowest frequencies of a cosine transform in brightness and the two opponent
colours; its frequencies, not its mean colour, are divided by its contrast.  The nearest neighbour is exact.

Knows: pixels.  Does not know: subjects, regions, texts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from prisbench.network_free.colours import balanced, opponent

SIDE = 7
"""Pixels of a patch's side."""

SCALES = (1.0, 0.75, 0.5)
"""Sizes at which the photos' patches are taken: things in scenes are often smaller than in photos of them alone."""

_FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2), (0, 3), (3, 0))
"""Of brightness; the colours have the first five."""

_COLOUR = 3.0
_EDGES = 0.35
_CONTRAST = 1.0
"""Weights of mean colour, of the frequencies, and of the contrast itself."""

ROWS = 2048
"""Patches compared at once."""


def describe(image: UInt8[np.ndarray, "h w 3"], balance: str = "none") -> Float32[np.ndarray, "h w d"]:
    """The description of the patch around every pixel; beyond the border lies the photo's mirror image."""
    planes = np.moveaxis(opponent(balanced(image, balance)), -1, 0)
    at = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    waves = [np.cos(k * at).astype(np.float32) * (2**0.5 if k else 1) / SIDE for k in range(4)]
    means, edges, power = [], [], np.zeros(image.shape[:2], dtype=np.float32)
    for n, plane in enumerate(planes):
        across = [ndimage.correlate1d(plane, wave, axis=1, mode="mirror") for wave in waves]
        means.append(ndimage.correlate1d(across[0], waves[0], axis=0, mode="mirror"))
        for y, x in _FREQUENCIES[: 10 if n == 0 else 5]:
            edges.append(ndimage.correlate1d(across[x], waves[y], axis=0, mode="mirror"))
            power += edges[-1] ** 2
    contrast = np.sqrt(power)
    light = means[0]
    steady = [
        light * 0.8,
        *(_COLOUR * 0.6 * mean / (light + 0.25) for mean in means[1:]),
        _CONTRAST * np.minimum(contrast, 0.4),
    ]
    shares = [_EDGES * edge / (contrast + 0.04) for edge in edges]
    return np.stack([*steady, *shares], axis=-1).astype(np.float32)


def nearest(asked: Float32[np.ndarray, "n d"], known: Float32[np.ndarray, "m d"]) -> Float32[np.ndarray, " n"]:
    """The distance of each asked patch to the nearest known one; 10 where none is known."""
    if not len(known):
        return np.full(len(asked), 10.0, dtype=np.float32)
    half = (known**2).sum(axis=1) / 2
    best = np.empty(len(asked), dtype=np.float32)
    for start in range(0, len(asked), ROWS):
        some = asked[start : start + ROWS]
        product = some @ known.T
        product -= half
        best[start : start + ROWS] = (some**2).sum(axis=1) - 2 * product.max(axis=1)
    return np.sqrt(np.maximum(best, 0))


def thinned(patches: Float32[np.ndarray, "n d"], most: int) -> Float32[np.ndarray, "m d"]:
    """At most so many of them, evenly from the whole list."""
    if len(patches) <= most:
        return patches
    return patches[np.linspace(0, len(patches) - 1, most).round().astype(np.int64)]
