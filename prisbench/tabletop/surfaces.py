"""Table tops and walls, as what they reflect at points of the world.

Knows: textures.  Does not know: rays, light, things.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prisbench.tabletop.numbers import Plane, cloud, frac, smooth

Rgb = tuple[float, float, float]


def _wood(rng: np.random.PCG64, x: Plane, y: Plane) -> Plane:
    plank = np.floor(y * np.float32(1.1))
    seam = smooth(0.0, 0.035, np.minimum(frac(y * np.float32(1.1)), 1 - frac(y * np.float32(1.1))))
    warp = cloud(rng, x * np.float32(0.8) + plank * np.float32(3.7), y * np.float32(3.1))
    rings = np.abs(frac(y * np.float32(3.2) + warp * np.float32(2.4) + plank * np.float32(0.37)) * 2 - 1)
    fine = cloud(rng, x * np.float32(2.0), y * np.float32(26.0))
    return (np.float32(0.66) + np.float32(0.2) * rings + np.float32(0.16) * fine) * (
        np.float32(0.5) + np.float32(0.5) * seam
    )


def _marble(rng: np.random.PCG64, x: Plane, y: Plane) -> Plane:
    warp = cloud(rng, x * np.float32(1.3), y * np.float32(1.3)) + np.float32(0.5) * cloud(
        rng, x * np.float32(3), y * np.float32(3)
    )
    vein = np.abs(frac(x * np.float32(0.35) + y * np.float32(0.22) + warp * np.float32(1.2)) * 2 - 1)
    soft = cloud(rng, x * np.float32(0.7), y * np.float32(0.7))
    return np.float32(0.90) + np.float32(0.12) * soft - np.float32(0.22) * np.maximum(1 - vein * np.float32(5), 0)


def _cloth(rng: np.random.PCG64, x: Plane, y: Plane) -> Plane:
    a, b = frac(x * np.float32(1.3)) < np.float32(0.5), frac(y * np.float32(1.3)) < np.float32(0.5)
    folds = cloud(rng, x * np.float32(0.9), y * np.float32(0.6))
    weave = (np.floor(x * np.float32(22)) + np.floor(y * np.float32(22))) % 2
    return (
        np.float32(0.42)
        + np.float32(0.24) * a
        + np.float32(0.24) * b
        + np.float32(0.2) * folds
        + np.float32(0.05) * weave.astype(np.float32)
    )


def _tiles(rng: np.random.PCG64, x: Plane, y: Plane) -> Plane:
    u, v = x * np.float32(0.9), y * np.float32(0.9)
    joint = smooth(0.0, 0.07, np.minimum(frac(u), frac(v)))
    each = frac(np.floor(u) * np.float32(0.37) + np.floor(v) * np.float32(0.61))
    mottle = cloud(rng, x * np.float32(4), y * np.float32(4))
    return (np.float32(0.72) + np.float32(0.16) * each + np.float32(0.12) * mottle) * (
        np.float32(0.45) + np.float32(0.55) * joint
    )


def _mat(rng: np.random.PCG64, x: Plane, y: Plane) -> Plane:
    over = (np.floor(x * np.float32(3.2)) + np.floor(y * np.float32(3.2))) % 2
    weave = np.where(
        over > 0,
        np.abs(frac(x * np.float32(9.6)) - np.float32(0.5)),
        np.abs(frac(y * np.float32(9.6)) - np.float32(0.5)),
    )
    return np.float32(0.60) + np.float32(0.6) * weave.astype(np.float32) + np.float32(0.1) * cloud(rng, x, y)


def _desk(rng: np.random.PCG64, x: Plane, y: Plane) -> Plane:
    return (
        np.float32(0.84)
        + np.float32(0.12) * cloud(rng, x * np.float32(0.6), y * np.float32(0.6))
        + np.float32(0.05) * cloud(rng, x * np.float32(12), y * np.float32(12))
    )


_TABLES: dict[str, Callable[[np.random.PCG64, Plane, Plane], Plane]] = {
    "wooden table": _wood,
    "marble counter": _marble,
    "checked cloth": _cloth,
    "tiled floor": _tiles,
    "woven mat": _mat,
    "plain desk": _desk,
}


def table(rng: np.random.PCG64, name: str, x: Plane, y: Plane) -> Plane:
    """How bright a table top is at points of its plane, about 0.3..1.1 times its colour."""
    return _TABLES[name](rng, x, y)


def wall(rng: np.random.PCG64, name: str, x: Plane, z: Plane) -> Plane:
    """How bright a wall is at points of it."""
    soft = np.float32(0.88) + np.float32(0.14) * cloud(rng, x * np.float32(0.4), z * np.float32(0.4))
    if name == "papered":
        return soft * np.where(frac(x * np.float32(1.1)) < np.float32(0.5), np.float32(1.0), np.float32(0.80))
    if name == "panelled":
        return soft * (np.float32(0.62) + np.float32(0.38) * smooth(0.0, 0.05, frac(x * np.float32(0.7))))
    if name == "tiled":
        row = np.floor(z * np.float32(1.3))
        joint = np.minimum(frac(x * np.float32(0.8) + np.float32(0.5) * (row % 2)), frac(z * np.float32(1.3)))
        return soft * (np.float32(0.68) + np.float32(0.32) * smooth(0.0, 0.06, joint))
    return soft


def second_hue(name: str, x: Plane, y: Plane) -> Plane:
    """Where a table top or a wall that has two colours shows the second: bool; nowhere where its kind has one."""
    if name == "checked cloth":
        return ((np.floor(x * np.float32(2.6)) + np.floor(y * np.float32(2.6))) % 2) > 0
    if name == "tiled floor":
        return ((np.floor(x * np.float32(0.9)) + np.floor(y * np.float32(0.9))) % 2) > 0
    if name == "woven mat":
        return ((np.floor(x * np.float32(3.2)) + np.floor(y * np.float32(3.2))) % 2) > 0
    if name == "plain desk":  # a runner along it
        return frac(x * np.float32(0.35) + np.float32(0.2)) < np.float32(0.4)
    if name == "papered":
        return frac(x * np.float32(1.1)) < np.float32(0.5)
    if name == "tiled":
        row = np.floor(y * np.float32(1.3))
        return ((np.floor(x * np.float32(0.8) + np.float32(0.5) * (row % 2)) + row) % 2) > 0
    return np.zeros(x.shape, bool)
