"""Arithmetic whose result is the same on every machine, to the last bit.

Pixels pass only through + - * /, square root, floor and comparisons, which IEEE 754 fixes; never through a library's
sine or power, or a sum whose order depends on the processor.  Noise comes from raw PCG64 words.

Knows: arrays of float32.  Does not know: what they mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Plane = Any
"""An array of float32 of any shape, or a float that meets one."""


def uniform(rng: np.random.PCG64, shape: tuple[int, ...]) -> Plane:
    """Uniform in 0..1 from raw words, two values a word."""
    n = math.prod(shape)
    words = np.atleast_1d(rng.random_raw((n + 1) // 2)).view(np.uint32)[:n]
    return ((words >> 8).astype(np.float32) * np.float32(1 / 2**24)).reshape(shape)


def frac(t: Plane) -> Plane:
    return t - np.floor(t)


def clip01(t: Plane) -> Plane:
    return np.minimum(np.maximum(t, np.float32(0)), np.float32(1))


def smooth(low: float, high: float, t: Plane) -> Plane:
    """0 below ``low``, 1 above ``high``, smooth between."""
    s = clip01((t - np.float32(low)) * np.float32(1 / (high - low)))
    return s * s * (np.float32(3) - np.float32(2) * s)


def circle(turn: float) -> tuple[float, float]:
    """Cosine and sine of an angle given in turns, by Taylor polynomials (error under 2e-9)."""
    t = turn - math.floor(turn)
    quarter = math.floor(t * 4 + 0.5)
    a = (t - quarter / 4) * 2 * math.pi  # within an eighth of a turn of an axis
    s = a * a
    sine = a * (1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72))))
    cosine = 1 - s / 2 * (1 - s / 12 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90))))
    return ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[quarter % 4]


def turns(x: Plane, y: Plane) -> Plane:
    """The angle of (x, y) in turns, 0..1, by a polynomial (error under 1e-5 of a turn)."""
    ax, ay = np.abs(x), np.abs(y)
    a = np.minimum(ax, ay) / np.maximum(np.maximum(ax, ay), np.float32(1e-9))
    s = a * a
    r = a * (
        np.float32(0.99986)
        + s
        * (
            np.float32(-0.3302995)
            + s * (np.float32(0.180141) + s * (np.float32(-0.085133) + s * np.float32(0.0208351)))
        )
    )
    r = np.where(ay > ax, np.float32(math.pi / 2) - r, r)
    r = np.where(x < 0, np.float32(math.pi) - r, r)
    r = np.where(y < 0, -r, r)
    return frac(r * np.float32(1 / (2 * math.pi)))


def cloud(rng: np.random.PCG64, x: Plane, y: Plane, cells: int = 16) -> Plane:
    """Smooth value noise in 0..1 at (x, y), whose unit is a cell; it repeats after ``cells`` of them."""
    grid = uniform(rng, (cells * cells,))
    i, j = np.floor(y), np.floor(x)
    fy, fx = y - i, x - j
    i0, j0 = i.astype(np.int32) % cells, j.astype(np.int32) % cells
    i1, j1 = (i0 + 1) % cells * cells, (j0 + 1) % cells
    i0 = i0 * cells
    fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
    top, low = grid[i0 + j0], grid[i1 + j0]
    top = top + (grid[i0 + j1] - top) * fx
    low = low + (grid[i1 + j1] - low) * fx
    return (top + (low - top) * fy).astype(np.float32)


def power(t: Plane, doublings: int) -> Plane:
    """``t`` to the power of two to the ``doublings``."""
    for _ in range(doublings):
        t = t * t
    return t
