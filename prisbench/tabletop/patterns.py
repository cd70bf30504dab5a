"""Patterns that wrap around a body, and marks that stand on one side of it.

Knows: where the second colour and a mark show.  Does not know: solids, light.
"""

from __future__ import annotations

import numpy as np

from prisbench.tabletop.looks import Individual
from prisbench.tabletop.numbers import Plane, frac


def second_colour(who: Individual, turn: Plane, high: Plane, around: float, tall: float) -> Plane:
    """Where the second colour shows: bool.

    ``turn`` 0..1 around the body, ``high`` above the pattern's beginning; ``around`` and ``tall`` are the body's
    girth and height.  Whole numbers of periods go around, so that patterns close.
    """
    period = 0.24 + 0.09 * who.shape[3]
    n = max(3, round(around / period))
    name, a, v = who.pattern, turn * np.float32(n), high * np.float32(1 / period)
    if name == "plain":
        return np.zeros(turn.shape, bool)
    if name == "striped":
        return frac(v) < np.float32(0.36)
    if name == "lined":
        return frac(a) < np.float32(0.34)
    if name == "banded":
        return (high > np.float32(0.30 * tall)) & (high < np.float32(0.60 * tall))
    if name == "dipped":
        return high < np.float32(0.42 * tall)
    if name == "zigzag":
        return frac(v + np.abs(frac(a) - np.float32(0.5)) * np.float32(1.5)) < np.float32(0.38)
    if name == "diagonal":
        return frac(a + v) < np.float32(0.36)
    if name == "checked":
        m = max(2, round(around / period * 0.65)) * 2
        b, w = turn * np.float32(m), high * np.float32(1.3 / period)
        return ((np.floor(b) + np.floor(w)) % 2 > 0) & (np.abs(frac(w) - np.float32(0.5)) < np.float32(0.43))
    if name == "patched":
        m = max(4, round(around / period * 0.8))
        i, j = np.floor(turn * np.float32(m)), np.floor(high * np.float32(0.9 / period))
        return (i * 7 + j * 3 + i * j * 5) % 5 < 2
    return _spots(name, a, v, n)


def _spots(name: str, a: Plane, v: Plane, n: int) -> Plane:
    """Patterns of single signs in rows; every second row is shifted by half."""
    row = np.floor(v)
    x = frac(a + np.float32(0.5) * (row % 2)) - np.float32(0.5)
    y = frac(v) - np.float32(0.5)
    square = x * x + y * y
    if name == "dotted":
        return square < np.float32(0.095)
    if name == "ringed":
        return (square < np.float32(0.20)) & (square > np.float32(0.055))
    if name == "crossed":
        thin, long = np.minimum(np.abs(x), np.abs(y)), np.maximum(np.abs(x), np.abs(y))
        return (thin < np.float32(0.13)) & (long < np.float32(0.42))
    raise ValueError(f"no pattern {name!r}")


def mark(who: Individual, turn: Plane, high: Plane, around: float, tall: float) -> tuple[Plane, Plane]:
    """Where the mark of an individual covers its pattern, and where in it something darker is drawn: bool, bool."""
    x = (frac(turn - np.float32(who.mark_turn) + np.float32(0.5)) - np.float32(0.5)) * np.float32(around)
    y = high - np.float32(0.52 * tall)
    size = min(0.20, 0.16 * around, 0.3 * tall)
    if who.mark == "label":
        on = (np.abs(x) < np.float32(size * 1.15)) & (np.abs(y) < np.float32(size * 0.9))
        ink = (np.abs(x) < np.float32(size * 0.8)) & (
            np.abs(frac(y / np.float32(size * 0.72) + np.float32(0.5)) - np.float32(0.5)) < np.float32(0.17)
        )
        return on, on & ink & (np.abs(y) < np.float32(size * 0.62))
    if who.mark == "patch":
        square = x * x + y * y
        return square < np.float32(size * size), np.zeros(turn.shape, bool)
    if who.mark == "chip":
        down = np.float32(tall) - high
        on = np.abs(x) < np.float32(size * 0.8) - down * np.float32(0.9)
        return on & (down < np.float32(size)), np.zeros(turn.shape, bool)
    none = np.zeros(turn.shape, bool)
    return none, none
