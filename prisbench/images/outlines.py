"""Bands inside an outline, contours, and how much of one contour lies near another.

A region is laid into a flat array with room around it, so that moving it by some pixels is one slice, and a square or a
disk is put together from such moves.

Knows: regions.  Does not know: what they are of.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Bool

from prisbench.images.regions import Region, overlap

BAND_RATIO = 0.02
"""Width of the band as a share of the diagonal: the default of Cheng et al. 2021, arXiv 2103.16562."""


def band_width(size_hw: tuple[int, int]) -> int:
    """d = max(1, round(0.02 * diagonal)), halves to even."""
    return max(1, round(BAND_RATIO * math.hypot(*size_hw)))


def contour_tolerance(size_hw: tuple[int, int]) -> int:
    """t: the smallest whole number of at least 0.8 % of the diagonal, in whole numbers (125 t)² >= h² + w²; at least 1.

    Perazzi et al. 2016: the tolerance of DAVIS's F.
    """
    square = size_hw[0] ** 2 + size_hw[1] ** 2
    root = math.isqrt(square - 1) + 1  # rounded up
    return -(-root // 125)


def band(region: Region, d: int) -> Region:
    """The pixels of a mask no farther than d (Chebyshev) from a pixel outside it; the frame counts as outside.

    Cheng et al. 2021 erode d times by 3 x 3 behind a one-pixel border of zeros; that is one erosion by a square of
    2 d + 1.  Outside of its box a mask is empty, so the box stands for the frame.
    """
    h, w = region.pixels.shape
    inner = _eroded(_eroded(region.pixels, d, 0), d, 1)
    pixels = region.pixels.copy()
    if inner.size:
        core = pixels[d : h - d, d : w - d]
        np.greater(core, inner, out=core)
    return Region(region.size_hw, region.top, region.left, pixels, int(np.count_nonzero(pixels)))


def _eroded(pixels: Bool[np.ndarray, "h w"], d: int, axis: int) -> Bool[np.ndarray, "h2 w2"]:
    """Where 2 d + 1 pixels along an axis are all set: 2 d shorter along it; by windows of 1, 2, 4, ... pixels."""
    width, wanted = 1, 2 * d + 1
    length = pixels.shape[axis]
    if length < wanted:
        return pixels[:0, :0]
    out = pixels
    while width < wanted:
        step = min(width, wanted - width)
        head = out[: out.shape[0] - step] if axis == 0 else out[:, : out.shape[1] - step]
        tail = out[step:] if axis == 0 else out[:, step:]
        out = head & tail
        width += step
    return out


def contour(region: Region) -> Region:
    """The pixels that differ from their right, lower or lower right neighbour: DAVIS's ``seg2bmap``.

    In the last column only the lower neighbour counts, in the last row only the right one; so the frame is no contour.
    """
    h, w = region.size_hw
    rows, columns = region.pixels.shape
    if not region.area:
        return region
    above, before = int(region.top > 0), int(region.left > 0)  # a pixel above or left of the box can differ from it
    below, after = int(region.top + rows < h), int(region.left + columns < w)
    grown = np.zeros((rows + above + below, columns + before + after), dtype=bool)
    grown[above : above + rows, before : before + columns] = region.pixels
    found = np.zeros_like(grown)
    found[:, :-1] |= grown[:, :-1] ^ grown[:, 1:]
    found[:-1] |= grown[:-1] ^ grown[1:]
    found[:-1, :-1] |= grown[:-1, :-1] ^ grown[1:, 1:]
    top, left = region.top - above, region.left - before
    return Region(region.size_hw, top, left, found, int(np.count_nonzero(found)))


def near(points: Region, others: Region, t: int) -> int:
    """How many pixels of ``points`` have one of ``others`` within t (Euclid): a dilation by the disk y² + x² <= t²."""
    if not points.area or not others.area:
        return 0
    return overlap(points, _dilated(others, t))


def _dilated(region: Region, t: int) -> Region:
    """A mask grown by a disk of radius t; it may stand out of the frame."""
    rows, columns = region.pixels.shape
    stride = columns + 2 * t
    flat = np.zeros((rows + 2 * t) * stride + 2 * t, dtype=bool)  # the tail takes what the last row is moved by
    grid = flat[: (rows + 2 * t) * stride].reshape(rows + 2 * t, stride)
    grid[t : t + rows, t : t + columns] = region.pixels
    n = rows * stride
    source = flat[t * stride : t * stride + n + 2 * t].copy()  # the rows of the mask, t columns of room on both sides
    wide = source[:n].copy()
    reach = 0
    for dy in range(t, -1, -1):
        for k in range(reach + 1, _half_width(t, dy) + 1):  # a mask grown by k to both sides, from one grown by k - 1
            np.logical_or(wide[k:], source[: n - k], out=wide[k:])
            np.logical_or(wide[: n - k], source[k:n], out=wide[: n - k])
            reach = k
        for start in {(t - dy) * stride, (t + dy) * stride}:
            place = flat[start : start + n]
            np.logical_or(place, wide, out=place)
    return Region(region.size_hw, region.top - t, region.left - t, grid, -1)


@lru_cache(maxsize=4096)
def _half_width(t: int, dy: int) -> int:
    return math.isqrt(t * t - dy * dy)
