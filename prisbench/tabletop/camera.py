"""The camera: where it stands, which ray belongs to a pixel, where a point of the world shows.

The table is the plane z = 0; x points right, y away from the camera, z up.  The camera stands above the line x = 0 and
looks along y, pitched down.

Knows: a pinhole.  Does not know: things, light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prisbench.tabletop.numbers import Plane
from prisbench.tabletop.solids import Vector


@dataclass(frozen=True)
class Camera:
    """``height`` above the table, at y = ``-back``; ``down`` is the sine of its pitch; ``focal`` in pixels."""

    size_hw: tuple[int, int]
    height: float
    back: float
    down: float
    focal: float

    @property
    def level(self) -> float:
        """Cosine of the pitch."""
        return float((1 - self.down * self.down) ** 0.5)

    @property
    def origin(self) -> Vector:
        return Vector(np.float32(0), np.float32(-self.back), np.float32(self.height))

    def rays(self, rows: Plane, columns: Plane) -> Vector:
        """Directions of rays through image points (pixels of the finished image), of length 1 along the view."""
        h, w = self.size_hw
        u = (columns - np.float32(w / 2)) * np.float32(1 / self.focal)
        v = (np.float32(h / 2) - rows) * np.float32(1 / self.focal)
        return Vector(
            u, np.float32(self.level) + v * np.float32(self.down), v * np.float32(self.level) - np.float32(self.down)
        )

    def project(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Row, column and depth of a point."""
        h, w = self.size_hw
        forward, up = y + self.back, z - self.height
        depth = forward * self.level - up * self.down
        rise = forward * self.down + up * self.level
        depth = max(depth, 1e-3)
        return h / 2 - self.focal * rise / depth, w / 2 + self.focal * x / depth, depth

    def ground(self, row: float, column: float) -> tuple[float, float] | None:
        """Where on the table an image point lies; None above the horizon."""
        h, w = self.size_hw
        u, v = (column - w / 2) / self.focal, (h / 2 - row) / self.focal
        dz = v * self.level - self.down
        if dz > -1e-3:
            return None
        t = -self.height / dz
        return u * t, (self.level + v * self.down) * t - self.back
