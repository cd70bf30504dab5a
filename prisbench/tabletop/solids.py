"""Solids and rays: where a ray first meets a solid, and what is there.

A thing stands at the origin of its own frame, x and y in the table's plane, z up.  Rays are given as three arrays of
directions and an origin of three arrays or floats; ``t`` counts lengths of the direction, infinite where nothing is
met.

Knows: closed-form intersections.  Does not know: nouns, colours, cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from prisbench.tabletop.numbers import Plane, turns

FAR = np.float32(np.inf)
_NEAR = np.float32(1e-4)


class Vector(NamedTuple):
    """Three coordinates of many points, or of one."""

    x: Plane
    y: Plane
    z: Plane


def take(v: Vector, where: Plane) -> Vector:
    """The vectors at some places; what is one number for all stays so."""
    return Vector(*(a[where] if np.ndim(a) else a for a in v))


class Skin(NamedTuple):
    """What is at points of a surface: the outward normal (not of unit length), where around (0..1) and how high."""

    normal: Vector
    turn: Plane
    height: Plane


@runtime_checkable
class Solid(Protocol):
    def meet(self, o: Vector, d: Vector) -> Plane:
        """The first ``t`` of each ray."""
        ...

    def skin(self, p: Vector) -> Skin:
        """What is at these points of the surface."""
        ...


def _first(t: Plane, ok: Plane) -> Plane:
    return np.where(ok & (t > _NEAR), t, FAR)


@dataclass(frozen=True)
class Frustum:
    """A ring of a turned body between two heights.  ``slope_*``: change of radius with height, for smooth shading;
    ``inside``: seen from within, as the inner wall of a cup.
    """

    z0: float
    r0: float
    z1: float
    r1: float
    slope0: float
    slope1: float
    inside: bool = False

    def meet(self, o: Vector, d: Vector) -> Plane:
        k = np.float32((self.r1 - self.r0) / (self.z1 - self.z0))
        at = np.float32(self.r0) + k * (o.z - np.float32(self.z0))
        kd = k * d.z
        a = d.x * d.x + d.y * d.y - kd * kd
        b = o.x * d.x + o.y * d.y - at * kd
        c = o.x * o.x + o.y * o.y - at * at
        square = b * b - a * c
        root = np.sqrt(np.maximum(square, np.float32(0)))
        a = np.where(np.abs(a) < np.float32(1e-7), np.float32(1e-7), a)
        t = (-b + root) / a if self.inside else (-b - root) / a
        z = o.z + t * d.z
        return _first(t, (square > 0) & (z >= np.float32(self.z0)) & (z <= np.float32(self.z1)))

    def skin(self, p: Vector) -> Skin:
        share = (p.z - np.float32(self.z0)) * np.float32(1 / (self.z1 - self.z0))
        slope = np.float32(self.slope0) + np.float32(self.slope1 - self.slope0) * share
        r = np.sqrt(p.x * p.x + p.y * p.y) + np.float32(1e-6)
        sign = np.float32(-1 if self.inside else 1)
        return Skin(Vector(sign * p.x / r, sign * p.y / r, -sign * slope), turns(p.x, p.y), p.z)


@dataclass(frozen=True)
class Disc:
    """A flat ring at one height, facing up; ``inner`` 0 makes a disc."""

    z: float
    radius: float
    inner: float = 0.0

    def meet(self, o: Vector, d: Vector) -> Plane:
        t = (np.float32(self.z) - o.z) / np.where(np.abs(d.z) < np.float32(1e-7), np.float32(1e-7), d.z)
        x, y = o.x + t * d.x, o.y + t * d.y
        square = x * x + y * y
        return _first(t, (square <= np.float32(self.radius**2)) & (square >= np.float32(self.inner**2)))

    def skin(self, p: Vector) -> Skin:
        zero = np.zeros_like(p.x)
        return Skin(Vector(zero, zero, zero + np.float32(1)), turns(p.x, p.y), p.z)


@dataclass(frozen=True)
class Block:
    """A box, upright.  Its skin's ``turn`` goes around the four sides; on top it is measured along x."""

    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float

    def meet(self, o: Vector, d: Vector) -> Plane:
        near: Plane = np.float32(-np.inf)
        far: Plane = FAR
        for a, b, low, high in (
            (o.x, d.x, self.x0, self.x1),
            (o.y, d.y, self.y0, self.y1),
            (o.z, d.z, self.z0, self.z1),
        ):
            step = np.float32(1) / np.where(np.abs(b) < np.float32(1e-7), np.float32(1e-7), b)
            one, two = (np.float32(low) - a) * step, (np.float32(high) - a) * step
            near, far = np.maximum(near, np.minimum(one, two)), np.minimum(far, np.maximum(one, two))
        return _first(near, near <= far)

    def skin(self, p: Vector) -> Skin:
        wide, deep = self.x1 - self.x0, self.y1 - self.y0
        gaps = np.stack(
            [
                np.abs(p.x - np.float32(self.x0)),
                np.abs(p.x - np.float32(self.x1)),
                np.abs(p.y - np.float32(self.y0)),
                np.abs(p.y - np.float32(self.y1)),
                np.abs(p.z - np.float32(self.z1)),
                np.abs(p.z - np.float32(self.z0)) + np.float32(1e-3),
            ]
        )
        side = gaps.argmin(0)
        pick = np.asarray([(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, 1), (0, 0, -1)], np.float32)[side]
        along = np.choose(
            side,
            [
                np.float32(2 * wide + deep) + np.float32(self.y1) - p.y,
                np.float32(wide) + p.y - np.float32(self.y0),
                p.x - np.float32(self.x0),
                np.float32(wide + deep) + np.float32(self.x1) - p.x,
                p.x - np.float32(self.x0),
                p.x - np.float32(self.x0),
            ],
        ).astype(np.float32)
        height = np.where(side >= 4, np.float32(self.z1) + p.y - np.float32(self.y0), p.z).astype(np.float32)
        return Skin(
            Vector(pick[..., 0], pick[..., 1], pick[..., 2]), along * np.float32(1 / (2 * (wide + deep))), height
        )


@dataclass(frozen=True)
class Ellipsoid:
    """Centre, three axes at right angles (rows of unit vectors), three radii.  Its skin turns about the third axis."""

    centre: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...]
    radii: tuple[float, float, float]

    def _inner(self, v: Vector, centred: bool) -> Vector:
        x, y, z = (
            (v.x - np.float32(self.centre[0]), v.y - np.float32(self.centre[1]), v.z - np.float32(self.centre[2]))
            if centred
            else (v.x, v.y, v.z)
        )
        return Vector(
            *(
                (x * np.float32(a[0]) + y * np.float32(a[1]) + z * np.float32(a[2])) * np.float32(1 / r)
                for a, r in zip(self.axes, self.radii, strict=True)
            )
        )

    def meet(self, o: Vector, d: Vector) -> Plane:
        p, q = self._inner(o, True), self._inner(d, False)
        a = q.x * q.x + q.y * q.y + q.z * q.z
        b = p.x * q.x + p.y * q.y + p.z * q.z
        c = p.x * p.x + p.y * p.y + p.z * p.z - np.float32(1)
        square = b * b - a * c
        t = (-b - np.sqrt(np.maximum(square, np.float32(0)))) / a
        return _first(t, square > 0)

    def skin(self, p: Vector) -> Skin:
        q = self._inner(p, True)
        parts = [
            q.x * np.float32(1 / self.radii[0]),
            q.y * np.float32(1 / self.radii[1]),
            q.z * np.float32(1 / self.radii[2]),
        ]
        n = [sum(part * np.float32(axis[i]) for part, axis in zip(parts, self.axes, strict=True)) for i in range(3)]
        height = q.z * (np.float32(0.95) + np.float32(0.45) * q.z * q.z) * np.float32(self.radii[2])
        return Skin(Vector(*n), turns(q.x, q.y), height + np.float32(self.radii[2] * 1.4))


@dataclass(frozen=True)
class Capsule:
    """All points within a radius of a line from ``a`` to ``b``: a piece of a handle or a spout."""

    a: tuple[float, float, float]
    b: tuple[float, float, float]
    radius: float

    def meet(self, o: Vector, d: Vector) -> Plane:
        (ax, ay, az), (bx, by, bz) = self.a, self.b
        u = (bx - ax, by - ay, bz - az)
        length = u[0] * u[0] + u[1] * u[1] + u[2] * u[2]
        px, py, pz = o.x - np.float32(ax), o.y - np.float32(ay), o.z - np.float32(az)
        ud = d.x * np.float32(u[0]) + d.y * np.float32(u[1]) + d.z * np.float32(u[2])
        up = px * np.float32(u[0]) + py * np.float32(u[1]) + pz * np.float32(u[2])
        dd = d.x * d.x + d.y * d.y + d.z * d.z
        pd = px * d.x + py * d.y + pz * d.z
        pp = px * px + py * py + pz * pz
        inv = np.float32(1 / length)
        a, b = dd - ud * ud * inv, pd - up * ud * inv
        c = pp - up * up * inv - np.float32(self.radius**2)
        square = b * b - a * c
        t = (-b - np.sqrt(np.maximum(square, np.float32(0)))) / np.maximum(a, np.float32(1e-9))
        along = (up + t * ud) * inv
        best = _first(t, (square > 0) & (along >= 0) & (along <= 1))
        for x, y, z in (self.a, self.b):
            qx, qy, qz = o.x - np.float32(x), o.y - np.float32(y), o.z - np.float32(z)
            b = qx * d.x + qy * d.y + qz * d.z
            c = qx * qx + qy * qy + qz * qz - np.float32(self.radius**2)
            square = b * b - dd * c
            t = (-b - np.sqrt(np.maximum(square, np.float32(0)))) / dd
            best = np.minimum(best, _first(t, square > 0))
        return best

    def skin(self, p: Vector) -> Skin:
        (ax, ay, az), (bx, by, bz) = self.a, self.b
        u = (bx - ax, by - ay, bz - az)
        length = u[0] * u[0] + u[1] * u[1] + u[2] * u[2]
        px, py, pz = p.x - np.float32(ax), p.y - np.float32(ay), p.z - np.float32(az)
        along = (px * np.float32(u[0]) + py * np.float32(u[1]) + pz * np.float32(u[2])) * np.float32(1 / length)
        along = np.minimum(np.maximum(along, np.float32(0)), np.float32(1))
        n = Vector(px - along * np.float32(u[0]), py - along * np.float32(u[1]), pz - along * np.float32(u[2]))
        return Skin(n, np.zeros_like(p.x), p.z)
