"""Draws Tabletop: things that stand on a table, with shading, contact shadows, occlusion, texture and sensor noise.

Knows: how a described scene becomes pixels and exact visible masks.
Does not know: which scenes exist, subjects, queries, captions (``tabletop.py``).

The same description gives the same bytes on every machine: pixels pass only through + - * /, square root, floor and
comparisons, which IEEE 754 fixes, never through a library's sine or a reduction whose order depends on the processor;
noise comes from raw PCG64 words.  Everything is drawn at twice the size and averaged 2 x 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.10, 0.10),
    "orange": (0.95, 0.48, 0.06),
    "yellow": (0.95, 0.84, 0.14),
    "green": (0.13, 0.58, 0.18),
    "teal": (0.08, 0.62, 0.62),
    "blue": (0.12, 0.24, 0.80),
    "purple": (0.48, 0.14, 0.66),
    "pink": (0.97, 0.56, 0.74),
    "brown": (0.42, 0.23, 0.09),
    "white": (0.95, 0.95, 0.93),
    "black": (0.09, 0.09, 0.10),
    "grey": (0.52, 0.53, 0.55),
}
HEIGHTS = {
    "mug": 0.82,
    "bowl": 0.52,
    "bottle": 1.30,
    "box": 0.86,
    "plant": 1.20,
    "ball": 0.72,
    "lamp": 1.34,
    "book": 1.02,
    "vase": 1.12,
    "teapot": 0.80,
}
"""Nouns, and how tall each thing is beside the others."""
SEEN_PATTERNS = ("plain", "striped", "lined", "dotted", "checked", "banded")
UNSEEN_PATTERNS = ("zigzag", "diagonal", "ringed", "crossed", "dipped", "patched")
SURFACES = ("wooden table", "marble counter", "checked cloth", "tiled floor", "woven mat", "plain desk")
SUPERSAMPLE = 2
TILT = 0.26
"""How much of a horizontal circle one sees: minor over major axis of its ellipse."""

Plane = Float[np.ndarray, "_h _w"]
Real = float | int


@dataclass(frozen=True)
class Individual:
    """One particular thing: the same shape, colours and pattern wherever it appears."""

    noun: str
    main: str
    second: str
    pattern: str
    shape: tuple[float, float, float, float]
    """Four numbers in 0..1 that the noun's drawing reads: girth, taper, detail, pattern scale."""
    tint: tuple[float, float]
    """Brightness shift of the two colours, -1..1."""


@dataclass(frozen=True)
class Placed:
    """An individual in a scene.  Pixels of the finished image; ``y`` is where it touches the table."""

    individual: Individual
    x: float
    y: float
    scale: float
    """Height in pixels of a thing of height 1 (see ``HEIGHTS``)."""
    turn: float
    """Rotation about the vertical axis, -1..1; moves patterns, handles and side faces."""


@dataclass(frozen=True)
class Stage:
    """Everything in a scene that is not a thing."""

    size_hw: tuple[int, int]
    surface: str
    surface_rgb: tuple[float, float, float]
    wall_rgb: tuple[float, float, float]
    horizon: float
    """Row where the wall ends, in pixels; negative for a view without wall."""
    light_x: float
    """Where the light comes from: -1 left .. 1 right."""
    light: float
    """Overall brightness, about 0.75..1.1."""
    warmth: float
    """-1 cold .. 1 warm."""
    noise: float
    """Standard deviation of the sensor noise, grey levels."""
    seed: int


def draw(
    stage: Stage, things: Sequence[Placed]
) -> tuple[UInt8[np.ndarray, "h w 3"], Int[np.ndarray, "h w"], list[float]]:
    """The picture, the front-most thing per pixel (index into ``things``, -1 for none), and each visible share.

    ``things`` are painted in the order given, the nearest last.  The share is visible pixels over all pixels the
    thing would cover alone inside the frame and out.
    """
    h, w = stage.size_hw
    s = SUPERSAMPLE
    rng = np.random.PCG64(stage.seed)
    background = _background(stage, rng)
    for thing in things:
        _shadow(background, stage, thing)
    canvas = background.repeat(s, axis=0).repeat(s, axis=1)
    ids = np.full((h * s, w * s), -1, dtype=np.int16)
    covered: list[int] = []
    for index, thing in enumerate(things):
        covered.append(_paint(canvas, ids, index, stage, thing))
    image = (canvas[0::2, 0::2] + canvas[0::2, 1::2] + canvas[1::2, 0::2] + canvas[1::2, 1::2]) * np.float32(0.25)
    shares = [float(np.count_nonzero(ids == i)) / max(n, 1) for i, n in enumerate(covered)]
    return _sense(image, stage, rng), _majority(ids, len(things)), shares


def _majority(ids: Int[np.ndarray, "_h2 _w2"], n: int) -> Int[np.ndarray, "_h _w"]:
    """Who owns most of each 2 x 2 block; the nearer thing on a tie."""
    quarters = (ids[0::2, 0::2], ids[0::2, 1::2], ids[1::2, 0::2], ids[1::2, 1::2])
    best = np.zeros(quarters[0].shape, dtype=np.int16)
    owner = np.full(quarters[0].shape, -1, dtype=np.int16)
    for index in range(-1, n):
        votes = sum((q == index).astype(np.int16) for q in quarters)
        better = votes >= np.maximum(best, 1)
        owner[better] = index
        best[better] = np.asarray(votes)[better]
    return owner


# ---------------------------------------------------------------------------------------------------------------------
# light, noise, background


def _uniform(rng: np.random.PCG64, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Uniform in 0..1 from raw words, two values a word."""
    n = math.prod(shape)
    words = np.atleast_1d(rng.random_raw((n + 1) // 2)).view(np.uint32)[:n]
    return ((words >> 8).astype(np.float32) * np.float32(1 / 2**24)).reshape(shape)


def _cloud(rng: np.random.PCG64, size_hw: tuple[int, int], cell_hw: tuple[int, int]) -> Plane:
    """Smooth value noise in 0..1: a random grid, blended with a smoothstep."""
    h, w = size_hw
    rows, columns = h // cell_hw[0] + 2, w // cell_hw[1] + 2
    grid = _uniform(rng, (rows, columns))
    y = (np.arange(h, dtype=np.float32) + np.float32(0.5)) / np.float32(cell_hw[0])
    x = (np.arange(w, dtype=np.float32) + np.float32(0.5)) / np.float32(cell_hw[1])
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = y - i, x - j
    fy, fx = (fy * fy * (3 - 2 * fy)).astype(np.float32)[:, None], (fx * fx * (3 - 2 * fx)).astype(np.float32)
    left = grid[i][:, j] * (1 - fy) + grid[i + 1][:, j] * fy
    right = grid[i][:, j + 1] * (1 - fy) + grid[i + 1][:, j + 1] * fy
    return left * (1 - fx) + right * fx


def _background(stage: Stage, rng: np.random.PCG64) -> Float[np.ndarray, "_h _w 3"]:
    h, w = stage.size_hw
    y, x = np.meshgrid(np.arange(h, dtype=np.float32), np.arange(w, dtype=np.float32), indexing="ij")
    horizon = np.float32(stage.horizon)
    depth = np.maximum((y - horizon) / np.float32(h), np.float32(0.02))
    perspective = np.float32(0.35) + np.float32(0.9) * depth
    tx = (x - np.float32(w / 2)) / perspective
    ty = np.float32(60.0) * depth / perspective * np.float32(2.2)
    texture = _SURFACES[stage.surface](rng, stage.size_hw, tx, ty)
    fine = _cloud(rng, stage.size_hw, (3, 3)) - np.float32(0.5)
    shade = texture + np.float32(0.06) * fine
    table = shade[..., None] * np.asarray(stage.surface_rgb, dtype=np.float32)
    wall_shade = np.float32(0.86) + np.float32(0.16) * _cloud(rng, stage.size_hw, (40, 48))
    wall = wall_shade[..., None] * np.asarray(stage.wall_rgb, dtype=np.float32)
    edge = np.clip((y - horizon) * np.float32(0.7), 0, 1)[..., None]
    dark = np.float32(1) - np.float32(0.25) * np.clip(1 - np.abs(y - horizon) / np.float32(5), 0, 1)[..., None]
    return ((wall * (1 - edge) + table * edge) * dark).astype(np.float32)


def _frac(t: Plane) -> Plane:
    return t - np.floor(t)


def _wood(rng: np.random.PCG64, size: tuple[int, int], x: Plane, y: Plane) -> Plane:
    warp = _cloud(rng, size, (24, 60)) * np.float32(16)
    rings = np.abs(_frac((y + warp) * np.float32(0.11)) * 2 - 1)
    plank = (_frac(y * np.float32(0.028)) < np.float32(0.05)).astype(np.float32)
    return np.float32(0.72) + np.float32(0.26) * rings - np.float32(0.25) * plank


def _marble(rng: np.random.PCG64, size: tuple[int, int], x: Plane, y: Plane) -> Plane:
    warp = _cloud(rng, size, (18, 22)) + np.float32(0.5) * _cloud(rng, size, (8, 9))
    vein = np.abs(_frac(x * np.float32(0.012) + y * np.float32(0.007) + warp * np.float32(1.4)) * 2 - 1)
    return np.float32(0.98) - np.float32(0.35) * np.maximum(1 - vein * np.float32(6), 0)


def _cloth(rng: np.random.PCG64, size: tuple[int, int], x: Plane, y: Plane) -> Plane:
    a = _frac(x * np.float32(0.035)) < np.float32(0.5)
    b = _frac(y * np.float32(0.035)) < np.float32(0.5)
    folds = _cloud(rng, size, (30, 40)) * np.float32(0.16)
    return np.float32(0.62) + np.float32(0.17) * a + np.float32(0.17) * b + folds - np.float32(0.08)


def _tiles(rng: np.random.PCG64, size: tuple[int, int], x: Plane, y: Plane) -> Plane:
    u, v = x * np.float32(0.02), y * np.float32(0.022)
    joint = (np.minimum(_frac(u), _frac(v)) < np.float32(0.07)).astype(np.float32)
    each = _frac(np.floor(u) * np.float32(0.37) + np.floor(v) * np.float32(0.61))
    return np.float32(0.82) + np.float32(0.16) * each - np.float32(0.36) * joint


def _mat(rng: np.random.PCG64, size: tuple[int, int], x: Plane, y: Plane) -> Plane:
    over = (np.floor(x * np.float32(0.09)) + np.floor(y * np.float32(0.11))) % 2
    weave = np.where(
        over > 0,
        np.abs(_frac(x * np.float32(0.27)) - np.float32(0.5)),
        np.abs(_frac(y * np.float32(0.33)) - np.float32(0.5)),
    )
    return np.float32(0.72) + np.float32(0.42) * weave.astype(np.float32)


def _desk(rng: np.random.PCG64, size: tuple[int, int], x: Plane, y: Plane) -> Plane:
    return np.float32(0.82) + np.float32(0.2) * _cloud(rng, size, (50, 60))


_SURFACES: dict[str, Callable[..., Plane]] = dict(
    zip(SURFACES, (_wood, _marble, _cloth, _tiles, _mat, _desk), strict=True)
)


def _shadow(background: Float[np.ndarray, "_h _w 3"], stage: Stage, thing: Placed) -> None:
    """A soft dark ellipse where the thing stands, drawn out away from the light."""
    h, w = stage.size_hw
    height = thing.scale * HEIGHTS[thing.individual.noun]
    radius = thing.scale * _GIRTH[thing.individual.noun]
    y, x = np.meshgrid(np.arange(h, dtype=np.float32), np.arange(w, dtype=np.float32), indexing="ij")
    for reach, strength, size in ((0.0, 0.62, 1.12), (0.34, 0.34, 1.5)):
        cx = thing.x - stage.light_x * reach * height
        dx = (x - np.float32(cx)) / np.float32(radius * size + abs(stage.light_x) * reach * height * 0.7)
        dy = (y - np.float32(thing.y - 0.10 * radius)) / np.float32(radius * size * 0.42)
        fall = np.maximum(1 - dx * dx - dy * dy, 0)
        background *= (1 - np.float32(strength) * fall * (2 - fall))[..., None]


def _sense(image: Float[np.ndarray, "_h _w 3"], stage: Stage, rng: np.random.PCG64) -> UInt8[np.ndarray, "_h _w 3"]:
    h, w = stage.size_hw
    side = (np.arange(w, dtype=np.float32) / np.float32(w) - np.float32(0.5)) * np.float32(0.30 * stage.light_x)
    warm = np.asarray([1 + 0.07 * stage.warmth, 1.0, 1 - 0.09 * stage.warmth], dtype=np.float32)
    lit = image * (np.float32(stage.light) * (1 + side))[None, :, None] * warm
    grain = _uniform(rng, (3, h, w, 3))
    bell = (grain[0] + grain[1] + grain[2] - np.float32(1.5)) * np.float32(2 * stage.noise)
    return np.clip(np.floor(lit * np.float32(255) + bell + np.float32(0.5)), 0, 255).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# things: each is a list of layers on a grid whose unit is the thing's own height, x to the right, y up from the table


@dataclass
class _Grid:
    x: Plane
    y: Plane
    rgb: Float[np.ndarray, "_h _w 3"]
    inside: Bool[np.ndarray, "_h _w"]
    light_x: float
    who: Individual
    turn: float

    def colour(self, which: int) -> Float[np.ndarray, "3"]:
        base = np.asarray(COLOURS[(self.who.main, self.who.second)[which]], dtype=np.float32)
        return np.clip(
            base * np.float32(1 + 0.12 * self.who.tint[which]) + np.float32(0.015 * self.who.tint[which]), 0, 1
        )

    def put(self, where: Bool[np.ndarray, "_h _w"], rgb: np.ndarray, shade: Plane | float) -> None:
        """Paint ``rgb`` (one colour, or one a pixel) times ``shade`` where told."""
        lit = np.asarray(shade, dtype=np.float32)
        self.rgb[where] = (rgb[where] if rgb.ndim == 3 else rgb) * (lit[where][:, None] if lit.ndim else lit)
        self.inside |= where

    def patterned(self, u: Plane, v: Plane, height: float) -> Float[np.ndarray, "_h _w 3"]:
        on = _pattern(self.who.pattern, u, v, 0.30 + 0.12 * self.who.shape[3], height)
        return np.where(on[..., None], self.colour(1), self.colour(0))


def _paint(canvas: np.ndarray, ids: np.ndarray, index: int, stage: Stage, thing: Placed) -> int:
    """Paint one thing; returns how many supersampled pixels it covers, in the frame or out of it."""
    s = SUPERSAMPLE
    who = thing.individual
    height = thing.scale * HEIGHTS[who.noun] * s
    half = thing.scale * _REACH[who.noun] * s
    bottom, centre = thing.y * s, thing.x * s
    top, left = math.floor(bottom - height * 1.08), math.floor(centre - half)
    rows, columns = math.ceil(bottom + height * 0.30) - top, math.ceil(centre + half) - left
    py = np.arange(rows, dtype=np.float32) + np.float32(top + 0.5)
    px = np.arange(columns, dtype=np.float32) + np.float32(left + 0.5)
    y, x = np.meshgrid(
        (np.float32(bottom) - py) / np.float32(height), (px - np.float32(centre)) / np.float32(height), indexing="ij"
    )
    grid = _Grid(
        x, y, np.zeros((rows, columns, 3), np.float32), np.zeros((rows, columns), bool), stage.light_x, who, thing.turn
    )
    _THINGS[who.noun](grid)
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + rows, canvas.shape[0]), min(left + columns, canvas.shape[1])
    if y0 < y1 and x0 < x1:
        inside = grid.inside[y0 - top : y1 - top, x0 - left : x1 - left]
        canvas[y0:y1, x0:x1][inside] = grid.rgb[y0 - top : y1 - top, x0 - left : x1 - left][inside]
        ids[y0:y1, x0:x1][inside] = index
    return int(np.count_nonzero(grid.inside))


def _pattern(name: str, u: Plane, v: Plane, period: float, height: float) -> Bool[np.ndarray, "_h _w"]:
    """Where the second colour shows.  ``u`` along, ``v`` up the surface, in units of the thing's height."""
    p = np.float32(period)
    if name == "plain":
        return np.zeros(u.shape, bool)
    if name == "striped":
        return _frac(v / p) < np.float32(0.5)
    if name == "lined":
        return _frac(u / p) < np.float32(0.45)
    if name == "checked":
        return (np.floor(u / p * np.float32(1.5)) + np.floor(v / p * np.float32(1.5))) % 2 > 0
    if name == "banded":
        return (v > np.float32(0.30 * height)) & (v < np.float32(0.64 * height))
    if name == "zigzag":
        wave = np.abs(2 * _frac(u / p) - 1) * p * np.float32(0.8)
        return _frac((v + wave) / p) < np.float32(0.5)
    if name == "diagonal":
        return _frac((u + v) / (p * np.float32(1.25))) < np.float32(0.5)
    if name == "dipped":
        return v < np.float32(0.46 * height)
    if name == "patched":
        i, j = np.floor(u / p * np.float32(1.6)), np.floor(v / p * np.float32(1.6))
        return (i * 7 + j * 3 + i * j * 5) % 4 < 2
    row = np.floor(v / p)
    a, b = _frac(u / p + np.float32(0.5) * (row % 2)) - np.float32(0.5), _frac(v / p) - np.float32(0.5)
    square = a * a + b * b
    if name == "dotted":
        return square < np.float32(0.085)
    if name == "ringed":
        return (square < np.float32(0.19)) & (square > np.float32(0.055))
    if name == "crossed":
        return (np.minimum(np.abs(a), np.abs(b)) < np.float32(0.13)) & (
            np.maximum(np.abs(a), np.abs(b)) < np.float32(0.42)
        )
    raise ValueError(f"no pattern {name!r}")


def _round_shade(light_x: float, nx: Plane, gloss: float = 0.22) -> Plane:
    """Brightness of an upright round surface whose normal leans ``nx`` to the right."""
    lx = np.float32(0.75 * light_x)
    nz = np.sqrt(np.maximum(1 - nx * nx, 0))
    diffuse = np.maximum(lx * nx + np.float32(0.72) * nz, 0)
    spot = (nx - lx) * np.float32(5.5)
    return np.float32(0.42) + np.float32(0.66) * diffuse + np.float32(gloss) * np.maximum(1 - spot * spot, 0)


def _lathe(
    g: _Grid,
    y0: Real,
    y1: Real,
    profile: Sequence[tuple[Real, Real]],
    *,
    pattern: bool,
    colour: int = 0,
    gloss: float = 0.22,
) -> float:
    """A turned body between two heights; ``profile`` lists (height share, radius).  Returns the radius at the top."""
    at = np.asarray([p[0] for p in profile])
    radius = np.asarray([p[1] for p in profile])
    span = np.float32(y1 - y0)
    r0 = np.interp(np.clip((g.y - np.float32(y0)) / span, 0, 1), at, radius).astype(np.float32)
    across = np.clip(1 - (g.x / r0) * (g.x / r0), 0, 1)
    v = (g.y - np.float32(y0) + np.float32(TILT) * r0 * np.sqrt(across)) / span
    r = np.interp(np.clip(v, 0, 1), at, radius).astype(np.float32)
    inside = (v >= 0) & (v <= 1) & (np.abs(g.x) <= r)
    nx = np.clip(g.x / r, -1, 1)
    widest = np.float32(float(radius.max()))
    angle = nx * (np.float32(0.95) + np.float32(0.45) * nx * nx)
    u = angle * widest + np.float32(g.turn)
    rgb = g.patterned(u, v * span, y1 - y0) if pattern else np.broadcast_to(g.colour(colour), (*g.x.shape, 3))
    g.put(inside, rgb, _round_shade(g.light_x, nx, gloss))
    return float(radius[-1])


def _opening(g: _Grid, y: float, radius: float, colour: int, rim: float = 0.86) -> None:
    """The mouth of a hollow thing: rim, dark inside, lit far wall."""
    ex, ey = g.x / np.float32(radius), (g.y - np.float32(y)) / np.float32(radius * TILT)
    d = ex * ex + ey * ey
    g.put(d <= 1, g.colour(0), 1.04)
    inner = d <= np.float32(rim * rim)
    g.put(
        inner,
        g.colour(colour),
        np.clip(np.float32(0.52) + np.float32(0.20) * ey - np.float32(0.16 * g.light_x) * ex, 0.2, 1),
    )


def _ellipse(g: _Grid, cx: Real, cy: Real, rx: Real, ry: Real) -> Plane:
    dx, dy = (g.x - np.float32(cx)) / np.float32(rx), (g.y - np.float32(cy)) / np.float32(ry)
    return dx * dx + dy * dy


def _handle(g: _Grid, radius: float, cy: float, rx: float, ry: float, thick: float) -> None:
    """A ring at the side the thing is turned to; behind the body when it points away."""
    side = 1.0 if g.turn >= 0 else -1.0
    out = 0.55 + 0.45 * min(1.0, 2.2 * abs(g.turn))
    cx = side * (radius - 0.02)
    ring = (_ellipse(g, cx, cy, rx * out + thick, ry + thick) <= 1) & (
        _ellipse(g, cx, cy, max(rx * out - thick * 0.6, 0.02), ry - thick * 0.6) > 1
    )
    g.put(
        ring,
        g.colour(0),
        np.float32(0.78) + np.float32(0.22 * g.light_x * side) + np.float32(0.3) * (g.y - np.float32(cy)),
    )


def _mug(g: _Grid) -> None:
    girth, taper, detail, _ = g.who.shape
    r = 0.34 + 0.14 * girth
    foot = r * (0.74 + 0.26 * taper)
    top = 1 - TILT * r
    _handle(g, r, 0.52, 0.17 + 0.07 * detail, 0.22 + 0.06 * detail, 0.055)
    _lathe(g, TILT * foot * 0.5, top, ((0, foot * 0.96), (0.06, foot), (1, r)), pattern=True)
    _opening(g, top, r, 1)


def _bowl(g: _Grid) -> None:
    girth, taper, _, _ = g.who.shape
    r = 0.86 + 0.22 * girth
    foot = 0.34 + 0.12 * taper
    top = 1 - TILT * r
    _lathe(g, TILT * foot, top, ((0, foot), (0.1, foot), (0.3, r * 0.66), (0.6, r * 0.89), (1, r)), pattern=True)
    _opening(g, top, r, 1, 0.92)


def _bottle(g: _Grid) -> None:
    girth, taper, detail, _ = g.who.shape
    r = 0.155 + 0.055 * girth
    neck = 0.055 + 0.02 * detail
    shoulder = 0.52 + 0.14 * taper
    _lathe(
        g, TILT * r, 0.90, ((0, r), (shoulder, r), (shoulder + 0.16, neck * 1.2), (1, neck)), pattern=True, gloss=0.4
    )
    _lathe(g, 0.885, 1.0, ((0, neck * 1.3), (1, neck * 1.3)), pattern=False, colour=1)


def _vase(g: _Grid) -> None:
    girth, taper, detail, _ = g.who.shape
    belly = 0.27 + 0.09 * girth
    waist = 0.10 + 0.05 * detail
    high = 0.32 + 0.22 * taper
    lip = waist + 0.09
    top = 1 - TILT * lip
    _lathe(
        g,
        TILT * 0.15,
        top,
        (
            (0, 0.15),
            (0.06, 0.16),
            (high * 0.6, belly * 0.9),
            (high, belly),
            (high + 0.14, belly * 0.86),
            (0.82, waist),
            (1, lip),
        ),
        pattern=True,
        gloss=0.34,
    )
    _opening(g, top, lip, 1)


def _teapot(g: _Grid) -> None:
    girth, taper, detail, _ = g.who.shape
    r = 0.44 + 0.10 * girth
    side = -1.0 if g.turn >= 0 else 1.0
    out = 0.5 + 0.5 * min(1.0, 2.2 * abs(g.turn))
    _handle(g, r, 0.42, 0.20, 0.23, 0.055)
    t = np.clip((g.x * np.float32(side) - np.float32(r * 0.7)) / np.float32((0.34 + 0.1 * detail) * out), 0, 1)
    middle = np.float32(0.22) + np.float32(0.50) * t * t
    spout = (t > 0) & (t < 1) & (np.abs(g.y - middle) < np.float32(0.12) - np.float32(0.055) * t)
    g.put(spout, g.colour(0), np.float32(0.72) + np.float32(0.25 * g.light_x * side) + np.float32(0.6) * (g.y - middle))
    neck = r * (0.5 + 0.2 * taper)
    _lathe(
        g,
        TILT * r * 0.5,
        0.80,
        ((0, r * 0.62), (0.12, r * 0.82), (0.4, r), (0.62, r * 0.97), (0.85, r * 0.80), (1, neck)),
        pattern=True,
        gloss=0.34,
    )
    _lathe(g, 0.72, 0.90, ((0, neck * 1.04), (0.5, neck * 0.8), (1, neck * 0.3)), pattern=False, colour=1)
    knob = _ellipse(g, 0, 0.93, 0.07, 0.07)
    g.put(knob <= 1, g.colour(1), 1.1 - 0.4 * knob)


def _ball(g: _Grid) -> None:
    nx, ny = g.x * 2, g.y * 2 - 1
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, 0))
    inside = nx * nx + ny * ny <= 1
    u = nx * (np.float32(0.95) + np.float32(0.45) * nx * nx) * np.float32(0.5) + np.float32(g.turn)
    v = ny * (np.float32(0.95) + np.float32(0.45) * ny * ny) * np.float32(0.5) + np.float32(0.66)
    lx = np.float32(0.6 * g.light_x)
    diffuse = np.maximum(lx * nx + np.float32(0.42) * ny + np.float32(0.62) * nz, 0)
    sx, sy = (nx - lx * np.float32(0.8)) * np.float32(5), (ny - np.float32(0.5)) * np.float32(5)
    g.put(
        inside,
        g.patterned(u, v, 1.3),
        np.float32(0.36) + np.float32(0.74) * diffuse + np.float32(0.4) * np.maximum(1 - sx * sx - sy * sy, 0),
    )


def _lamp(g: _Grid) -> None:
    girth, taper, detail, _ = g.who.shape
    foot = 0.17 + 0.06 * girth
    _lathe(g, TILT * foot, 0.11, ((0, foot), (1, foot * 0.85)), pattern=False, colour=1)
    _lathe(g, 0.09, 0.60, ((0, 0.035 + 0.02 * detail), (1, 0.035)), pattern=False, colour=1)
    wide, narrow = 0.30 + 0.08 * girth, 0.13 + 0.14 * taper
    top = 1 - TILT * narrow
    _lathe(g, 0.50 + 0.06 * detail, top, ((0, wide), (1, narrow)), pattern=True, gloss=0.0)
    d = _ellipse(g, 0, top, narrow, narrow * TILT)
    g.put(d <= 1, g.colour(0), 0.62)
    g.put(d <= np.float32(0.66), np.asarray([1.0, 0.96, 0.80], np.float32), 1.1)


def _plant(g: _Grid) -> None:
    girth, taper, detail, scale = g.who.shape
    n = 5 + int(4 * detail)
    for i in [*range(0, n, 2), *range(1, n, 2)]:
        lean = (i - (n - 1) / 2) / n * (2.3 + 0.5 * taper) + 0.12 * g.turn
        c, s = round(math.cos(lean), 4), round(math.sin(lean), 4)
        length = 0.29 + 0.05 * ((i * 7) % 3) / 2 - 0.03 * abs(lean)
        dx, dy = g.x - np.float32(0.9 * length * s), g.y - np.float32(0.42 + 0.95 * length * c)
        along, across = (
            (dx * np.float32(s) + dy * np.float32(c)) / np.float32(length),
            (dx * np.float32(c) - dy * np.float32(s)) / np.float32(0.075 + 0.035 * scale),
        )
        leaf = along * along + across * across
        green = np.asarray([0.16 + 0.10 * ((i * 5) % 4) / 3, 0.46 + 0.14 * ((i * 3) % 4) / 3, 0.14], np.float32)
        vein = np.float32(0.22) * (np.abs(across) < np.float32(0.16))
        g.put(
            leaf <= 1, green, np.float32(0.80) + np.float32(0.25) * along + vein + np.float32(0.2 * g.light_x) * across
        )
    r = 0.25 + 0.08 * girth
    _lathe(
        g,
        TILT * r * 0.5,
        0.40,
        ((0, r * (0.62 + 0.25 * taper)), (0.78, r), (0.79, r * 1.09), (1, r * 1.09)),
        pattern=True,
    )


def _cuboid(
    g: _Grid, half: float, depth: float, slide: float, top_rgb: np.ndarray | None, side_colour: int
) -> tuple[Plane, Plane, Bool[np.ndarray, "_h _w"], float]:
    """Front face with a top and one side face behind it; returns front coordinates, front mask and front height."""
    dy = depth * 0.42
    front = 1 - dy
    dx = slide * depth
    x0 = -dx / 2
    up = (g.y - np.float32(front)) / np.float32(dy)
    top = (up >= 0) & (up <= 1) & (np.abs(g.x - np.float32(x0) - np.float32(dx) * up) <= half)
    g.put(top, g.colour(0) if top_rgb is None else top_rgb, 1.06)
    if abs(dx) > 0.01:
        back = (g.x - np.float32(x0) - np.float32(math.copysign(half, dx))) / np.float32(dx)
        low = g.y - np.float32(dy) * back
        side = (back >= 0) & (back <= 1) & (low >= 0) & (low <= front)
        g.put(side, g.colour(side_colour), 0.58 + 0.25 * g.light_x * math.copysign(1, dx))
    u, v = g.x - np.float32(x0), g.y
    return u, v, (np.abs(u) <= half) & (v >= 0) & (v <= front), front


def _box(g: _Grid) -> None:
    girth, taper, detail, _ = g.who.shape
    u, v, front, height = _cuboid(g, 0.42 + 0.22 * girth, 0.40 + 0.2 * taper, 0.9 * g.turn, None, 0)
    shade = np.float32(0.90) + np.float32(0.10 * g.light_x) * u
    g.put(front, g.patterned(u + np.float32(0.1), v, height), shade)
    lid = front & (np.abs(v - np.float32(height * (0.74 + 0.1 * detail))) < np.float32(0.014))
    g.put(lid, g.colour(0), 0.45)


def _book(g: _Grid) -> None:
    girth, taper, detail, _ = g.who.shape
    half = 0.30 + 0.08 * girth
    u, v, front, height = _cuboid(
        g, half, 0.22 + 0.14 * taper, 0.9 * g.turn, np.asarray([0.93, 0.91, 0.82], np.float32), 1
    )
    g.put(front, g.patterned(u + np.float32(0.1), v, height), np.float32(0.94) + np.float32(0.10 * g.light_x) * u)
    spine = front & (u < np.float32(-half + 0.07))
    g.put(spine, g.colour(0), 0.70)
    high = height * (0.66 + 0.1 * detail)
    label = (
        front
        & (np.abs(u - np.float32(0.03)) < np.float32(half * 0.55))
        & (np.abs(v - np.float32(high)) < np.float32(0.075))
    )
    g.put(label, np.asarray([0.94, 0.92, 0.84], np.float32), 1.0)
    line = (
        label
        & (np.abs(v - np.float32(high)) < np.float32(0.02))
        & (np.abs(u - np.float32(0.03)) < np.float32(half * 0.4))
    )
    g.put(line, np.asarray([0.2, 0.2, 0.2], np.float32), 1.0)


_THINGS: dict[str, Callable[[_Grid], None]] = {
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
# Half widths beside a thing of height 1 times its scale: of the foot (for the shadow) and of all that is painted.
_GIRTH = {
    "mug": 0.34,
    "bowl": 0.36,
    "bottle": 0.26,
    "box": 0.52,
    "plant": 0.36,
    "ball": 0.28,
    "lamp": 0.28,
    "book": 0.40,
    "vase": 0.30,
    "teapot": 0.40,
}
_REACH = {
    "mug": 0.68,
    "bowl": 0.60,
    "bottle": 0.32,
    "box": 0.78,
    "plant": 0.80,
    "ball": 0.40,
    "lamp": 0.58,
    "book": 0.56,
    "vase": 0.46,
    "teapot": 0.84,
}
