"""What each noun is built of: an individual as a list of painted solids.

Units are those of the table's plane; a thing stands at the origin, z up.  Handles and spouts point along x.

Knows: the shapes of nouns and their builds.  Does not know: rays, light, where things stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from prisbench.tabletop.looks import Individual
from prisbench.tabletop.numbers import circle
from prisbench.tabletop.solids import Block, Capsule, Disc, Ellipsoid, Frustum, Solid

PATTERN, MAIN, SECOND = "pattern", "main", "second"
PAPER, LEAF, GLOW, SOIL = "paper", "leaf", "glow", "soil"


class Part(NamedTuple):
    """A solid and its paint: one of the words above.  ``around`` and ``tall`` are the body's girth and height, by which
    a pattern repeats; ``base`` is the height where it begins.
    """

    solid: Solid
    paint: str
    around: float = 1.0
    tall: float = 1.0
    base: float = 0.0


class Shape(NamedTuple):
    """All of a thing.  ``foot``: radius of what stands on the table; ``reach``: of a circle around all of it, seen from
    above; ``tall``: its height.
    """

    parts: tuple[Part, ...]
    foot: float
    reach: float
    tall: float


Profile = Sequence[tuple[float, float]]
"""(height, radius) from below."""

_UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def _turned(profile: Profile, paint: str, *, inside: bool = False, sharp: bool = False) -> list[Part]:
    """The wall of a turned body; ``sharp`` keeps the edges between its rings."""
    rings = list(pairwise(profile))
    slopes = [(r1 - r0) / (z1 - z0) for (z0, r0), (z1, r1) in rings]
    at = [slopes[0], *((a + b) / 2 for a, b in pairwise(slopes)), slopes[-1]]
    around = 2 * 3.1416 * max(r for _, r in profile)
    base, tall = profile[0][0], profile[-1][0] - profile[0][0]
    return [
        Part(
            Frustum(z0, r0, z1, r1, *((slope, slope) if sharp else (at[i], at[i + 1])), inside),
            paint,
            around,
            tall,
            base,
        )
        for i, (((z0, r0), (z1, r1)), slope) in enumerate(zip(rings, slopes, strict=True))
    ]


def _vessel(profile: Profile, floor: float, wall: float = 0.90) -> list[Part]:
    """A turned body that is open above: wall, rim, inner wall in the second colour, inner floor."""
    z1, r1 = profile[-1]
    inner = [(max(z, floor), r * wall) for z, r in profile if z > floor - 1e-6] or [(floor, r1 * wall)]
    if inner[0][0] > floor:
        inner = [(floor, inner[0][1] * 0.9), *inner]
    return [
        *_turned(profile, PATTERN),
        Part(Disc(z1, r1, r1 * wall), MAIN),
        *_turned(inner, SECOND, inside=True),
        Part(Disc(floor + 0.002, inner[0][1]), SECOND),
    ]


def _chain(points: Sequence[tuple[float, float, float]], radii: Sequence[float], paint: str) -> list[Part]:
    """A bent rod through points."""
    return [
        Part(Capsule(a, b, (ra + rb) / 2), paint)
        for a, b, ra, rb in zip(points, points[1:], radii, radii[1:], strict=False)
    ]


def _handle(x: float, z: float, out: float, high: float, thick: float, angular: bool) -> list[Part]:
    """A handle at the side x, from z - high to z + high."""
    if angular:
        bends = [
            (x - 0.03, z + high),
            (x + out, z + high * 0.92),
            (x + out * 0.9, z - high * 0.3),
            (x - 0.03, z - high),
        ]
    else:
        bends = []
        for i in range(7):
            c, s = circle(0.25 - i / 12)
            bends.append((x - 0.03 + out * c, z + high * s))
    return _chain([(px, 0.0, pz) for px, pz in bends], [thick] * len(bends), MAIN)


def _mug(who: Individual) -> list[Part]:
    girth, taper, detail, _ = who.shape
    r = 0.32 + 0.07 * girth
    tall = (0.80, 0.94, 0.70)[who.build] + 0.06 * taper
    if who.build == 0:
        profile = [(0.0, r * 0.94), (0.05, r), (tall, r)]
    elif who.build == 1:
        profile = [(0.0, r * 0.60), (0.05, r * 0.62), (tall, r)]
    else:
        profile = [(0.0, r * 0.78), (0.05, r * 0.86), (tall * 0.3, r * 1.16), (tall * 0.62, r * 1.12), (tall, r * 0.84)]
    at = {0: r, 1: r * 0.84, 2: r * 1.08}[who.build]
    handle = _handle(at, tall * 0.52, 0.19 + 0.07 * detail, tall * 0.28, 0.05 + 0.012 * girth, who.build == 1)
    return [*_vessel(profile, 0.07), *handle]


def _bowl(who: Individual) -> list[Part]:
    girth, taper, _, _ = who.shape
    r = 0.50 + 0.10 * girth
    tall = (0.48, 0.42, 0.62)[who.build] + 0.05 * taper
    if who.build == 0:
        profile = [(0.0, r * 0.42), (0.06, r * 0.44), (0.12, r * 0.62), (tall * 0.55, r * 0.90), (tall, r)]
    elif who.build == 1:
        profile = [(0.0, r * 0.34), (0.09, r * 0.30), (0.13, r * 0.40), (tall, r * 1.08)]
    else:
        profile = [(0.0, r * 0.74), (0.05, r * 0.80), (tall * 0.85, r * 0.84), (tall, r * 0.92)]
    return _vessel(profile, 0.12, 0.92)


def _bottle(who: Individual) -> list[Part]:
    girth, taper, detail, _ = who.shape
    r, neck = 0.21 + 0.05 * girth, 0.075 + 0.02 * detail
    tall = (1.34, 1.16, 1.04)[who.build] + 0.06 * taper
    if who.build == 0:
        profile = [(0.0, r * 0.94), (0.04, r), (tall * 0.56, r), (tall * 0.70, neck * 1.3), (tall * 0.92, neck)]
    elif who.build == 1:
        profile = [(0.0, r * 1.42), (0.05, r * 1.5), (tall * 0.66, neck * 1.5), (tall * 0.92, neck * 1.25)]
    else:
        profile = [
            (0.0, r * 1.1),
            (0.05, r * 1.24),
            (tall * 0.68, r * 1.24),
            (tall * 0.80, r * 0.78),
            (tall * 0.9, r * 0.76),
        ]
    top = profile[-1]
    cap = [(top[0], top[1] * 1.22), (tall, top[1] * 1.22)]
    return [*_turned(profile, PATTERN), *_turned(cap, SECOND, sharp=True), Part(Disc(tall, top[1] * 1.22), SECOND)]


def _vase(who: Individual) -> list[Part]:
    girth, taper, detail, _ = who.shape
    r, neck = 0.33 + 0.07 * girth, 0.14 + 0.04 * detail
    tall = (1.06, 1.24, 1.10)[who.build] + 0.06 * taper
    if who.build == 0:
        share = ((0.0, 0.5), (0.05, 0.62), (0.22, 0.98), (0.36, 1.0), (0.55, 0.74))
        profile = [(tall * z, r * k) for z, k in share] + [(tall * 0.78, neck), (tall, neck * 1.5)]
    elif who.build == 1:
        share = ((0.0, 0.40), (0.05, 0.42), (0.35, 0.70), (0.62, 1.0), (0.76, 0.90))
        profile = [(tall * z, r * k) for z, k in share] + [(tall * 0.88, neck * 1.1), (tall, neck * 1.4)]
    else:
        profile = [(0.0, r * 0.72), (0.05, r * 0.74), (tall * 0.5, r * 0.5), (tall * 0.8, r * 0.66), (tall, r * 1.02)]
    return _vessel(profile, tall * 0.55)


def _teapot(who: Individual) -> list[Part]:
    girth, taper, detail, _ = who.shape
    r = 0.40 + 0.06 * girth
    tall = (0.68, 0.92, 0.52)[who.build] + 0.05 * taper
    share = (
        ((0.0, 0.66), (0.06, 0.74), (0.28, 0.98), (0.55, 1.0), (0.82, 0.80), (1.0, 0.52)),
        ((0.0, 0.86), (0.06, 0.92), (0.55, 0.72), (1.0, 0.46)),
        ((0.0, 0.86), (0.08, 0.98), (0.4, 1.22), (0.72, 1.16), (1.0, 0.62)),
    )[who.build]
    profile = [(tall * z, r * k) for z, k in share]
    top = profile[-1][1]
    lid = [(tall, top * 1.02), (tall + 0.05, top * 0.86), (tall + 0.12, top * 0.30)]
    knob = Part(Ellipsoid((0.0, 0.0, tall + 0.16), _UPRIGHT, (0.07, 0.07, 0.06)), SECOND)
    wide = r * (1.0, 0.76, 1.2)[who.build]
    long = 0.26 + 0.08 * detail
    spout = _chain(
        [(-wide * 0.86, 0.0, tall * 0.32), (-wide - long * 0.5, 0.0, tall * 0.52), (-wide - long, 0.0, tall * 0.96)],
        [0.10, 0.075, 0.05],
        MAIN,
    )
    handle = _handle(wide, tall * 0.55, 0.22, tall * 0.30, 0.045, who.build == 1)
    return [*_turned(profile, PATTERN), *_turned(lid, SECOND), knob, *spout, *handle]


def _ball(who: Individual) -> list[Part]:
    girth, taper, _, _ = who.shape
    r = 0.34 + 0.07 * girth
    wide, high = ((1.0, 1.0), (1.18, 0.72), (0.78, 1.22))[who.build]
    high = high * (1 + 0.05 * taper)
    radii = (r * wide, r * wide, r * high)
    body = Ellipsoid((0.0, 0.0, r * high), _UPRIGHT, radii)
    return [Part(body, PATTERN, 2 * 3.1416 * r * wide, 2.8 * r * high)]


def _lamp(who: Individual) -> list[Part]:
    girth, taper, detail, _ = who.shape
    foot = 0.22 + 0.05 * girth
    tall = 1.28 + 0.12 * detail
    stand = [
        *_turned([(0.0, foot), (0.07, foot * 0.9), (0.10, foot * 0.3)], SECOND, sharp=True),
        *_turned([(0.10, 0.045), (tall * 0.62, 0.035)], SECOND),
    ]
    wide = 0.36 + 0.06 * girth
    if who.build == 2:
        globe = Ellipsoid((0.0, 0.0, tall - wide * 0.95), _UPRIGHT, (wide, wide, wide * 0.95))
        return [*stand, Part(globe, PATTERN, 2 * 3.1416 * wide, 2.8 * wide)]
    narrow = wide * (0.40 + 0.15 * taper if who.build == 0 else 0.98)
    low = tall * (0.58 if who.build == 0 else 0.64)
    shade = [(low, wide), (tall, narrow)]
    return [
        *stand,
        *_turned(shade, PATTERN),
        Part(Disc(tall, narrow, narrow * 0.86), MAIN),
        *_turned([(low, wide * 0.97), (tall, narrow * 0.95)], GLOW, inside=True),
    ]


def _plant(who: Individual) -> list[Part]:
    girth, taper, detail, scale = who.shape
    r = 0.28 + 0.05 * girth
    pot_tall = (0.44, 0.34, 0.52)[who.build]
    foot = r * (0.68, 1.0, 0.86)[who.build]
    profile = [(0.0, foot), (pot_tall * 0.8, r), (pot_tall * 0.82, r * 1.12), (pot_tall, r * 1.12)]
    parts = [
        *_turned(profile, PATTERN),
        Part(Disc(pot_tall, r * 1.12, r * 0.98), MAIN),
        Part(Disc(pot_tall - 0.03, r), SOIL),
    ]
    n = (7, 9, 6)[who.build] + int(2.99 * detail)
    for i in range(n):
        c, s = circle(i / n + 0.13 * (i % 3))
        up = (0.72, 0.42, 0.94)[who.build] + 0.10 * ((i * 5) % 4) / 3
        out = max(1 - up * up, 0.05) ** 0.5
        long = (0.34, 0.36, 0.40)[who.build] * (0.85 + 0.3 * ((i * 7) % 5) / 4)
        broad = (0.12 + 0.03 * scale, 0.07, 0.05 + 0.02 * taper)[who.build]
        along = (c * out, s * out, up)
        across = (-s, c, 0.0)
        third = (-c * up, -s * up, out)
        centre = (c * out * long * 0.9, s * out * long * 0.9, pot_tall + up * long * 0.9)
        parts.append(Part(Ellipsoid(centre, (third, across, along), (0.03, broad, long)), LEAF))
    return parts


def _box(who: Individual) -> list[Part]:
    girth, taper, detail, _ = who.shape
    wide, deep, tall = ((0.84, 0.74, 0.74), (0.60, 0.52, 1.06), (1.04, 0.80, 0.46))[who.build]
    wide, deep, tall = wide * (0.92 + 0.16 * girth), deep * (0.92 + 0.16 * taper), tall * (0.94 + 0.12 * detail)
    lid = tall * 0.80
    around = 2 * (wide + deep)
    return [
        Part(Block(-wide / 2, wide / 2, -deep / 2, deep / 2, 0.0, lid), PATTERN, around, tall),
        Part(Block(-wide / 2 - 0.03, wide / 2 + 0.03, -deep / 2 - 0.03, deep / 2 + 0.03, lid, tall), MAIN),
    ]


def _book(who: Individual) -> list[Part]:
    girth, taper, detail, _ = who.shape
    wide, thick, tall = ((0.66, 0.24, 0.94), (0.50, 0.14, 1.12), (0.92, 0.66, 0.26))[who.build]
    wide, thick, tall = wide * (0.94 + 0.12 * girth), thick * (0.9 + 0.3 * taper), tall * (0.95 + 0.1 * detail)
    x, y = wide / 2, thick / 2
    if who.build == 2:  # lying
        covers = [
            Part(Block(-x, x, -y, y, 0.0, 0.04), MAIN),
            Part(Block(-x, x, -y, y, tall - 0.04, tall), PATTERN, 2 * (wide + thick), thick, -0.1),
            Part(Block(-x, -x + 0.05, -y, y, 0.04, tall - 0.04), SECOND),
        ]
        return [Part(Block(-x + 0.05, x - 0.03, -y + 0.03, y - 0.03, 0.04, tall - 0.04), PAPER), *covers]
    around = 2 * (wide + 0.04)
    return [
        Part(Block(-x + 0.03, x - 0.04, -y + 0.035, y - 0.035, 0.02, tall - 0.03), PAPER),
        Part(Block(-x, x, -y, -y + 0.035, 0.0, tall), PATTERN, around, tall),
        Part(Block(-x, x, y - 0.035, y, 0.0, tall), PATTERN, around, tall),
        Part(Block(-x, -x + 0.035, -y + 0.035, y - 0.035, 0.0, tall), SECOND),
    ]


_NOUNS: dict[str, Callable[[Individual], list[Part]]] = {
    "mug": _mug,
    "bowl": _bowl,
    "bottle": _bottle,
    "box": _box,
    "plant": _plant,
    "ball": _ball,
    "lamp": _lamp,
    "book": _book,
    "vase": _vase,
    "teapot": _teapot,
}


@lru_cache(maxsize=256)
def shape(who: Individual) -> Shape:
    """The solids of an individual, about as tall as its noun is (``looks.HEIGHTS``)."""
    parts = tuple(_NOUNS[who.noun](who))
    foot = reach = tall = 0.0
    for part in parts:
        solid = part.solid
        if isinstance(solid, Frustum):
            reach, tall = max(reach, solid.r0, solid.r1), max(tall, solid.z1)
            foot = max(foot, solid.r0 if solid.z0 < 0.1 else 0.0)
        elif isinstance(solid, Disc):
            tall = max(tall, solid.z)
        elif isinstance(solid, Block):
            corner = (max(solid.x1, -solid.x0) ** 2 + max(solid.y1, -solid.y0) ** 2) ** 0.5
            reach, tall = max(reach, corner), max(tall, solid.z1)
            foot = max(foot, corner if solid.z0 < 0.1 else 0.0)
        elif isinstance(solid, Capsule):
            for x, y, z in (solid.a, solid.b):
                reach, tall = max(reach, (x * x + y * y) ** 0.5 + solid.radius), max(tall, z + solid.radius)
        elif isinstance(solid, Ellipsoid):
            x, y, z = solid.centre
            long = max(solid.radii)
            high = sum((a[2] * r) ** 2 for a, r in zip(solid.axes, solid.radii, strict=True)) ** 0.5
            flat = max(solid.radii[0], solid.radii[1]) if abs(solid.axes[2][2]) > 0.99 else long
            reach, tall = max(reach, (x * x + y * y) ** 0.5 + flat), max(tall, z + high)
    return Shape(parts, foot or reach * 0.6, reach, tall)
