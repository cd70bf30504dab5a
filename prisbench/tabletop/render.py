"""Draws a stage and what stands on it: rays from the camera, rays to the light, a sensor.

The same description gives the same bytes on every machine (``numbers``).  Four rays a pixel are averaged in linear
light.

Knows: how a described scene becomes pixels and exact visible masks.
Does not know: which scenes exist, subjects, queries, captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from prisbench.tabletop import surfaces
from prisbench.tabletop.camera import Camera
from prisbench.tabletop.looks import Individual
from prisbench.tabletop.numbers import Plane, clip01, power, smooth
from prisbench.tabletop.paint import gloss, inner_openness, paint
from prisbench.tabletop.sensor import Sensor, expose
from prisbench.tabletop.solids import FAR, Vector, take
from prisbench.tabletop.things import shape

S = 2
"""Rays along each side of a pixel."""


Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Placed:
    """An individual in a scene: where on the table, and which way it is turned (cosine and sine)."""

    individual: Individual
    x: float
    y: float
    facing: tuple[float, float]


@dataclass(frozen=True)
class Light:
    """``toward``: unit vector to the light; ``key`` and ``fill``: its brightness and that of the room; ``softness``:
    radius of the lamp over its distance; ``rgb``: its colour, about 1.
    """

    toward: tuple[float, float, float]
    key: float
    fill: float
    softness: float
    rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Stage:
    """Everything in a scene that is not a thing."""

    camera: Camera
    surface: str
    surface_rgb: tuple[float, float, float]
    wall: str
    wall_rgb: tuple[float, float, float]
    wall_y: float
    second_rgb: tuple[Rgb, Rgb] | None
    """Second colours of table and wall, where their kind has two; None where they have one."""
    grain: tuple[float, float]
    """Which way the table's texture runs: cosine and sine."""
    light: Light
    sensor: Sensor
    seed: int


class _Hit(NamedTuple):
    """One thing alone: supersampled rows and columns of its window, depth and part of each ray; inf where none."""

    top: int
    left: int
    depth: Plane
    part: Plane


class Met(NamedTuple):
    """What the rays of a camera meet: depth and front-most thing of each (-1 for none), and each thing alone."""

    depth: Plane
    ids: Plane
    hits: list[_Hit]


class Drawn(NamedTuple):
    """``ids``: the front-most thing of each pixel, -1 for none; ``shares``: as the function of that name."""

    image: UInt8[np.ndarray, "h w 3"]
    ids: Int[np.ndarray, "h w"]
    shares: list[float]


def draw(stage: Stage, things: Sequence[Placed], met: Met | None = None) -> Drawn:
    """The picture of a stage with these things on it; ``met`` is what ``meet`` says of them, where that is known."""
    met = met or meet(stage.camera, things)
    rng = np.random.PCG64(stage.seed)
    light = _shaded(stage, things, met, rng)
    quarters = (light[0::2, 0::2], light[0::2, 1::2], light[1::2, 0::2], light[1::2, 1::2])
    linear = (quarters[0] + quarters[1] + quarters[2] + quarters[3]) * np.float32(0.25)
    return Drawn(expose(linear, stage.sensor, rng), _majority(met.ids, len(things)), shares(met))


def meet(camera: Camera, things: Sequence[Placed]) -> Met:
    """Which thing each ray meets first, and each thing alone."""
    h, w = camera.size_hw
    depth, ids = np.full((h * S, w * S), FAR, np.float32), np.full((h * S, w * S), -1, np.int16)
    hits = []
    for index, thing in enumerate(things):
        hit = _alone(camera, thing)
        hits.append(hit)
        y0, x0 = max(hit.top, 0), max(hit.left, 0)
        y1 = min(hit.top + hit.depth.shape[0], depth.shape[0])
        x1 = min(hit.left + hit.depth.shape[1], depth.shape[1])
        if y0 >= y1 or x0 >= x1:
            continue
        mine = hit.depth[y0 - hit.top : y1 - hit.top, x0 - hit.left : x1 - hit.left]
        nearer = mine < depth[y0:y1, x0:x1]
        depth[y0:y1, x0:x1][nearer] = mine[nearer]
        ids[y0:y1, x0:x1][nearer] = index
    return Met(depth, ids, hits)


def shares(met: Met) -> list[float]:
    """How much of each thing shows, of all it would cover alone, inside the frame and out."""
    return [
        float(np.count_nonzero(met.ids == i)) / max(int(np.count_nonzero(hit.depth < FAR)), 1)
        for i, hit in enumerate(met.hits)
    ]


def window(camera: Camera, thing: Placed) -> tuple[int, int, int, int]:
    """Rows and columns around a thing, in the frame or out of it: top, left, bottom, right, in rays."""
    form = shape(thing.individual)
    corners = [
        camera.project(thing.x + dx * form.reach, thing.y + dy * form.reach, z)
        for dx in (-1, 1)
        for dy in (-1, 1)
        for z in (0.0, form.tall)
    ]
    rows, columns = [c[0] for c in corners], [c[1] for c in corners]
    return int(min(rows) * S) - 1, int(min(columns) * S) - 1, int(max(rows) * S) + 2, int(max(columns) * S) + 2


def _local(thing: Placed, v: Vector, point: bool) -> Vector:
    """A point or a direction of the world in the thing's own frame."""
    c, s = np.float32(thing.facing[0]), np.float32(thing.facing[1])
    x, y = (v.x - np.float32(thing.x), v.y - np.float32(thing.y)) if point else (v.x, v.y)
    return Vector(c * x + s * y, c * y - s * x, v.z)


def _alone(camera: Camera, thing: Placed) -> _Hit:
    top, left, bottom, right = window(camera, thing)
    rows = ((np.arange(top, bottom, dtype=np.float32) + np.float32(0.5)) * np.float32(1 / S))[:, None]
    columns = ((np.arange(left, right, dtype=np.float32) + np.float32(0.5)) * np.float32(1 / S))[None, :]
    size = (bottom - top, right - left)
    d = Vector(*(np.broadcast_to(a, size).reshape(-1) for a in camera.rays(rows, columns)))
    o = _local(thing, camera.origin, True)
    d = _local(thing, d, False)
    best = np.full(size[0] * size[1], FAR, np.float32)
    which = np.zeros(best.shape, np.int16)
    for number, part in enumerate(shape(thing.individual).parts):
        t = part.solid.meet(o, d)
        nearer = t < best
        best = np.where(nearer, t, best)
        which[nearer] = number
    return _Hit(top, left, best.reshape(size), which.reshape(size))


def _majority(ids: Int[np.ndarray, "_h2 _w2"], n: int) -> Int[np.ndarray, "_h _w"]:
    """Who owns most of each 2 x 2 block; the later thing on a tie."""
    quarters = (ids[0::2, 0::2], ids[0::2, 1::2], ids[1::2, 0::2], ids[1::2, 1::2])
    best = np.zeros(quarters[0].shape, np.int16)
    owner = np.full(quarters[0].shape, -1, np.int16)
    for index in range(-1, n):
        votes = np.zeros(best.shape, np.int16)
        for q in quarters:
            votes += q == index
        better = votes >= np.maximum(best, 1)
        owner[better] = index
        best[better] = votes[better]
    return owner


# ---------------------------------------------------------------------------------------------------------------------
# light


class _Points(NamedTuple):
    """What each ray shows: place, unit normal, what it reflects, gloss, how open it is to the room."""

    place: Vector
    normal: Vector
    rgb: Plane
    gloss: Plane
    open: Plane


def _shaded(stage: Stage, things: Sequence[Placed], found: Met, rng: np.random.PCG64) -> Plane:
    """The picture in linear light, one value a ray: h*2 w*2 3."""
    rays, points = _surfaces(stage, things, found, rng)
    lamp = stage.light
    lit = _visible(stage, things, found, points)
    n, t = points.normal, lamp.toward
    facing = np.maximum(n.x * np.float32(t[0]) + n.y * np.float32(t[1]) + n.z * np.float32(t[2]), np.float32(0))
    room = np.float32(lamp.fill) * (np.float32(0.62) + np.float32(0.38) * n.z) * points.open
    key = np.float32(lamp.key) * facing * lit
    colour = np.asarray(lamp.rgb, np.float32)
    diffuse = points.rgb * (room[..., None] + key[..., None] * colour)
    length = np.sqrt(rays.x * rays.x + rays.y * rays.y + rays.z * rays.z)
    view = Vector(-rays.x / length, -rays.y / length, -rays.z / length)
    shine = _shine(stage, points, view, lit)
    return diffuse + shine


def _shine(stage: Stage, points: _Points, view: Vector, lit: Plane) -> Plane:
    """Highlights of the lamp, and the room mirrored at grazing angles."""
    n, lamp = points.normal, stage.light
    hx, hy, hz = (a + np.float32(b) for a, b in zip(view, lamp.toward, strict=True))
    inv = 1 / np.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-6))
    half = np.maximum((hx * n.x + hy * n.y + hz * n.z) * inv, np.float32(0))
    broad, sharp = power(half, 4), power(half, 7)
    spot = (np.float32(0.10) * broad + np.float32(0.75) * points.gloss * smooth(0.35, 0.75, sharp)) * points.gloss
    towards = np.maximum(view.x * n.x + view.y * n.y + view.z * n.z, np.float32(0))
    edge = power(1 - towards, 2)
    up = clip01(2 * towards * n.z - view.z + np.float32(0.3))
    room = np.asarray(stage.wall_rgb, np.float32) * np.float32(0.8 * lamp.fill)
    floor = np.asarray(stage.surface_rgb, np.float32) * np.float32(0.5 * lamp.fill)
    mirrored = floor + (room - floor) * up[..., None]
    return (spot * lit * np.float32(lamp.key))[..., None] * np.asarray(lamp.rgb, np.float32) + mirrored * (
        np.float32(0.35) * edge * points.gloss * points.open
    )[..., None]


def _surfaces(stage: Stage, things: Sequence[Placed], found: Met, rng: np.random.PCG64) -> tuple[Vector, _Points]:
    """Every ray's direction and what it shows."""
    size = found.depth.shape
    rows = ((np.arange(size[0], dtype=np.float32) + np.float32(0.5)) * np.float32(1 / S))[:, None]
    columns = ((np.arange(size[1], dtype=np.float32) + np.float32(0.5)) * np.float32(1 / S))[None, :]
    d = Vector(*(np.broadcast_to(a, size) for a in stage.camera.rays(rows, columns)))
    o = stage.camera.origin
    down = -o.z / np.minimum(d.z, np.float32(-1e-4))
    ahead = (np.float32(stage.wall_y) - o.y) / np.maximum(d.y, np.float32(1e-4))
    on_wall = (d.z >= np.float32(-1e-4)) | (ahead < down)
    t = np.where(found.ids >= 0, found.depth, np.where(on_wall, ahead, down)).astype(np.float32)
    place = Vector(o.x + t * d.x, o.y + t * d.y, o.z + t * d.z)
    rgb = np.zeros((*size, 3), np.float32)
    plain = found.ids < 0
    at = np.nonzero(plain & on_wall)
    wall = surfaces.wall(rng, stage.wall, place.x[at], place.z[at])
    x, z = place.x[at], place.z[at]
    rgb[at] = wall[:, None] * _hues(stage.wall, (stage.wall_rgb, stage.second_rgb and stage.second_rgb[1]), x, z)
    at = np.nonzero(plain & ~on_wall)
    x, y, c, s = place.x[at], place.y[at], np.float32(stage.grain[0]), np.float32(stage.grain[1])
    x, y = c * x + s * y, c * y - s * x
    table = surfaces.table(rng, stage.surface, x, y)
    hues = _hues(stage.surface, (stage.surface_rgb, stage.second_rgb and stage.second_rgb[0]), x, y)
    rgb[at] = table[:, None] * hues
    zero, one = np.float32(0), np.float32(1)
    points = _Points(
        place,
        Vector(np.zeros(size, np.float32), np.where(on_wall, -one, zero), np.where(on_wall, zero, one)),
        rgb,
        np.full(size, 0.08, np.float32),
        _openness(stage, things, place, on_wall),
    )
    for index, thing in enumerate(things):
        _put(points, index, thing, found, stage.camera)
    return d, points


def _hues(name: str, hues: tuple[Rgb, Rgb | None], x: Plane, y: Plane) -> Plane:
    """The colour of points of a table or a wall of one or two colours: 3, or n 3."""
    first, second = hues
    if second is None:
        return np.asarray(first, np.float32)
    there = surfaces.second_hue(name, x, y)
    return np.where(there[:, None], np.asarray(second, np.float32), np.asarray(first, np.float32))


def _openness(stage: Stage, things: Sequence[Placed], place: Vector, on_wall: Plane) -> Plane:
    """How much of the room a point of table or wall sees: less beside things and in the corner."""
    corner = np.where(on_wall, place.z, np.float32(stage.wall_y) - place.y)
    open_ = np.float32(0.72) + np.float32(0.28) * clip01(corner * np.float32(1.4))
    for thing in things:
        form = shape(thing.individual)
        dx, dy = place.x - np.float32(thing.x), place.y - np.float32(thing.y)
        away = np.sqrt(dx * dx + dy * dy + place.z * place.z) - np.float32(form.foot)
        near = 1 - clip01(away * np.float32(1 / (0.55 * form.tall)))
        open_ = open_ * (1 - np.float32(0.62) * near * near)
    return open_.astype(np.float32)


def _put(points: _Points, index: int, thing: Placed, found: Met, camera: Camera) -> None:
    """Write into ``points`` what the visible rays of one thing show."""
    hit = found.hits[index]
    rows, columns = np.nonzero(found.ids == index)
    parts = hit.part[rows - hit.top, columns - hit.left]
    who, form = thing.individual, shape(thing.individual)
    c, s = np.float32(thing.facing[0]), np.float32(thing.facing[1])
    for number in np.unique(parts):
        mine = parts == number
        at = rows[mine], columns[mine]
        part = form.parts[number]
        p = _local(thing, take(points.place, at), True)
        skin = part.solid.skin(p)
        n = skin.normal
        inv = 1 / np.sqrt(n.x * n.x + n.y * n.y + n.z * n.z + np.float32(1e-9))
        nx, ny, nz = n.x * inv, n.y * inv, n.z * inv
        points.normal.x[at], points.normal.y[at], points.normal.z[at] = c * nx - s * ny, s * nx + c * ny, nz
        points.rgb[at] = paint(who, part, skin.turn, skin.height)
        points.gloss[at] = gloss(who, part)
        points.open[at] = inner_openness(part, p)


def _visible(stage: Stage, things: Sequence[Placed], found: Met, points: _Points) -> Plane:
    """How much of the lamp each point sees, 0..1: one ray to one of sixteen places on it, then their mean over table
    and wall.
    """
    lamp, size = stage.light, found.depth.shape
    step = np.arange(4)
    order = (step[:, None] * 2 + step[None, :] * 3) % 4 + 4 * ((step[:, None] + step[None, :] * 2) % 4)
    order = np.tile(order, (size[0] // 4 + 1, size[1] // 4 + 1))[: size[0], : size[1]]
    a: Plane = (np.asarray(order % 4, np.float32) - np.float32(1.5)) * np.float32(lamp.softness / 2)
    b: Plane = (np.asarray(order // 4, np.float32) - np.float32(1.5)) * np.float32(lamp.softness / 2)
    x, y, z = lamp.toward
    flat = max((x * x + y * y) ** 0.5, 1e-3)
    sx, sy = -y / flat, x / flat  # level, across the light
    ux, uy, uz = -x * z / flat, -y * z / flat, flat  # upward, across the light
    to = Vector(
        np.float32(x) + a * np.float32(sx) + b * np.float32(ux),
        np.float32(y) + a * np.float32(sy) + b * np.float32(uy),
        np.float32(z) + b * np.float32(uz),
    )
    n, p = points.normal, points.place
    start = Vector(*(q + m * np.float32(0.012) for q, m in zip(p, n, strict=True)))
    lit = np.ones(size, np.float32)
    turned = n.x * to.x + n.y * to.y + n.z * to.z <= 0
    for thing in things:
        form = shape(thing.individual)
        radius = 0.5 * form.tall + form.reach * 0.75
        cx, cy, cz = start.x - np.float32(thing.x), start.y - np.float32(thing.y), start.z - np.float32(form.tall / 2)
        along = cx * to.x + cy * to.y + cz * to.z
        square = cx * cx + cy * cy + cz * cz - along * along * np.float32(0.985)
        near = (square < np.float32(radius * radius)) & (along < np.float32(radius)) & (lit > 0) & ~turned
        where = np.nonzero(near)
        if not len(where[0]):
            continue
        o, d = _local(thing, take(start, where), True), _local(thing, take(to, where), False)
        blocked = np.zeros(len(where[0]), bool)
        for part in form.parts:
            blocked |= part.solid.meet(o, d) < FAR
        lit[where[0][blocked], where[1][blocked]] = 0
    return _softened(lit, found.ids < 0)


def _softened(lit: Plane, plain: Plane) -> Plane:
    """The mean over 4 x 4 rays, which look at sixteen places of the lamp; of table and wall alone."""
    weight = plain.astype(np.float32)
    total, count = _box(lit * weight), _box(weight)
    return np.where(plain, total / np.maximum(count, np.float32(1)), lit).astype(np.float32)


def _box(x: Plane) -> Plane:
    """Sums over 4 x 4 neighbours."""
    wide = np.pad(x, ((2, 1), (2, 1)))
    h, w = x.shape
    rows = wide[0:h] + wide[1 : h + 1] + wide[2 : h + 2] + wide[3 : h + 3]
    return rows[:, 0:w] + rows[:, 1 : w + 1] + rows[:, 2 : w + 2] + rows[:, 3 : w + 3]
