"""Tabletop's arithmetic, solids, patterns and light: against a library's, a march along the ray, and a pencil."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from prisbench.tabletop.camera import Camera
from prisbench.tabletop.looks import NOUNS, SEEN_PATTERNS, UNSEEN_PATTERNS, Individual
from prisbench.tabletop.numbers import circle, cloud, power, smooth, turns, uniform
from prisbench.tabletop.patterns import mark, second_colour
from prisbench.tabletop.render import Light, Placed, Stage, draw, meet, shares
from prisbench.tabletop.sensor import Sensor, expose
from prisbench.tabletop.solids import FAR, Block, Capsule, Disc, Ellipsoid, Frustum, Solid, Vector
from prisbench.tabletop.things import shape

MUG = Individual("mug", "blue", "yellow", "striped", 0, (0.5, 0.5, 0.5, 0.5), (0.0, 0.0), 0.3)
CAMERA = Camera((112, 144), 2.0, 3.0, 0.55, 200.0)
CLEAR = Sensor((1.0, 1.0, 1.0), 1.0, 0.0, 0.0, 0.0, 0.0)
STAGE = Stage(
    camera=CAMERA,
    surface="plain desk",
    surface_rgb=(0.4, 0.4, 0.4),
    wall="painted",
    wall_rgb=(0.5, 0.5, 0.5),
    wall_y=4.0,
    second_rgb=None,
    grain=(1.0, 0.0),
    light=Light((-0.48, -0.6, 0.64), 1.0, 0.4, 0.1, (1.0, 1.0, 1.0)),
    sensor=CLEAR,
    seed=1,
)


# --- numbers --------------------------------------------------------------------------------------------------------


def test_circle_is_cosine_and_sine_of_a_turn() -> None:
    for t in np.linspace(-2.0, 2.0, 801).tolist():
        assert circle(t) == pytest.approx((math.cos(2 * math.pi * t), math.sin(2 * math.pi * t)), abs=2e-9)


def test_turns_is_the_angle_to_a_hundred_thousandth_of_a_turn() -> None:
    angle = np.linspace(0.0, 1.0, 4000, endpoint=False)
    x, y = np.cos(2 * np.pi * angle).astype(np.float32), np.sin(2 * np.pi * angle).astype(np.float32)
    apart = np.abs(turns(x, y) - angle)
    assert np.minimum(apart, 1 - apart).max() < 1.2e-5
    assert turns(np.float32(0), np.float32(0)) == 0


def test_noise_comes_from_the_words_of_its_generator_alone() -> None:
    one, two = (uniform(np.random.PCG64(7), (3, 5)) for _ in range(2))
    assert np.array_equal(one, two) and one.dtype == np.float32 and one.min() >= 0 and one.max() < 1
    assert not np.array_equal(one, uniform(np.random.PCG64(8), (3, 5)))
    many = uniform(np.random.PCG64(1), (20_001,))
    assert many.mean() == pytest.approx(0.5, abs=0.01) and many.var() == pytest.approx(1 / 12, abs=0.002)


def test_clouds_repeat_and_are_smooth() -> None:
    x = np.linspace(0, 16, 1601).astype(np.float32)
    found = cloud(np.random.PCG64(3), x, np.full_like(x, 2.5))
    assert found[0] == pytest.approx(found[-1], abs=1e-5) and np.abs(np.diff(found)).max() < 0.03
    assert found.min() >= 0 and found.max() <= 1 and np.ptp(found) > 0.2
    assert power(np.float32(3), 2) == 81 and smooth(1.0, 3.0, np.float32(2)) == 0.5


# --- solids ---------------------------------------------------------------------------------------------------------

LEANING = ((0.8, 0.0, 0.6), (0.0, 1.0, 0.0), (-0.6, 0.0, 0.8))
SOLIDS: dict[str, Solid] = {
    "cylinder": Frustum(0.1, 0.4, 0.9, 0.4, 0.0, 0.0),
    "cone": Frustum(0.1, 0.5, 0.9, 0.2, -0.375, -0.375),
    "inner wall": Frustum(0.1, 0.3, 0.9, 0.5, 0.25, 0.25, inside=True),
    "disc": Disc(0.5, 0.6),
    "ring": Disc(0.5, 0.6, 0.4),
    "block": Block(-0.4, 0.3, -0.2, 0.5, 0.1, 0.8),
    "ellipsoid": Ellipsoid((0.1, -0.1, 0.5), LEANING, (0.2, 0.35, 0.5)),
    "capsule": Capsule((-0.3, 0.1, 0.3), (0.4, -0.1, 0.7), 0.15),
}


def distance(solid: Solid, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Changes its sign where a ray passes through the surface: negative inside."""
    r = np.hypot(x, y)
    if isinstance(solid, Frustum):
        wall = solid.r0 + (solid.r1 - solid.r0) * (z - solid.z0) / (solid.z1 - solid.z0)
        there = (z >= solid.z0) & (z <= solid.z1)
        return np.where(there, (wall - r) if solid.inside else (r - wall), np.nan)
    if isinstance(solid, Disc):
        return np.where((r <= solid.radius) & (r >= solid.inner), z - solid.z, np.nan)
    if isinstance(solid, Block):
        low, high = (np.asarray(v) for v in ((solid.x0, solid.y0, solid.z0), (solid.x1, solid.y1, solid.z1)))
        p = np.stack([x, y, z])
        return np.max(np.maximum(low[:, None] - p, p - high[:, None]), axis=0)
    if isinstance(solid, Ellipsoid):
        p = np.stack([x, y, z]) - np.asarray(solid.centre)[:, None]
        return np.linalg.norm(np.asarray(solid.axes) @ p / np.asarray(solid.radii)[:, None], axis=0) - 1
    assert isinstance(solid, Capsule)
    a, b = np.asarray(solid.a), np.asarray(solid.b)
    p = np.stack([x, y, z]).T
    along = np.clip((p - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.linalg.norm(p - a - along[:, None] * (b - a), axis=1) - solid.radius


def marched(solid: Solid, o: np.ndarray, d: np.ndarray) -> float:
    """Where a ray first passes from outside to inside, found by many small steps; infinite for nowhere."""
    t = np.linspace(0, 6, 60_001)
    found = distance(solid, *(o[i] + t * d[i] for i in range(3)))
    with np.errstate(invalid="ignore"):
        into = np.flatnonzero((found[:-1] > 0) & (found[1:] <= 0))
    return float(t[into[0]]) if len(into) else math.inf


def rays(n: int) -> tuple[np.ndarray, np.ndarray]:
    """From all around and above, towards the solids."""
    draw = np.random.default_rng(5)
    turn = draw.uniform(0, 2 * np.pi, n)
    o = np.stack([2 * np.cos(turn), 2 * np.sin(turn), draw.uniform(0.6, 2.2, n)], 1)
    aim = np.stack([draw.uniform(-0.6, 0.6, n), draw.uniform(-0.6, 0.6, n), draw.uniform(0.0, 1.0, n)], 1)
    return o, aim - o


@pytest.mark.parametrize("name", SOLIDS)
def test_rays_meet_a_solid_where_a_march_along_them_does(name: str) -> None:
    solid, (o, d) = SOLIDS[name], rays(120)
    t = solid.meet(Vector(*o.T.astype(np.float32)), Vector(*d.T.astype(np.float32)))
    met = missed = edges = 0
    for i in range(len(o)):
        slow = marched(solid, o[i], d[i])
        if (slow < math.inf) != (t[i] < FAR):
            edges += 1  # a ray that grazes an edge
        elif slow < math.inf:
            assert t[i] == pytest.approx(slow, abs=2e-3), (o[i], d[i])
            met += 1
        else:
            missed += 1
    assert met > 15 and missed > 5 and edges <= 2


@pytest.mark.parametrize("name", SOLIDS)
def test_normals_are_the_gradient_of_the_distance(name: str) -> None:
    solid, (o, d) = SOLIDS[name], rays(120)
    t = solid.meet(Vector(*o.T.astype(np.float32)), Vector(*d.T.astype(np.float32)))
    p = (o + np.where(t < FAR, t, 0.0)[:, None] * d)[t < FAR]
    n = np.stack(np.broadcast_arrays(*solid.skin(Vector(*p.T.astype(np.float32))).normal), 1)
    n = n / np.linalg.norm(n, axis=1)[:, None]
    step = 1e-4
    gradient = np.zeros_like(p)
    for k in range(3):
        plus, minus = p.copy(), p.copy()
        plus[:, k] += step
        minus[:, k] -= step
        gradient[:, k] = distance(solid, *plus.T) - distance(solid, *minus.T)
    inside = np.isfinite(gradient).all(axis=1) & (np.linalg.norm(gradient, axis=1) > step / 10)
    if isinstance(solid, Disc):
        assert np.allclose(n, (0, 0, 1))
        return
    gradient = gradient[inside] / np.linalg.norm(gradient[inside], axis=1)[:, None]
    agree = (gradient * n[inside]).sum(axis=1)
    assert len(agree) > 15 and np.quantile(agree, 0.1) > 0.999, "but at an edge"


def test_every_part_of_every_thing_lies_within_its_reach_and_height() -> None:
    for noun in NOUNS:
        for build in range(3):
            who = dataclasses.replace(MUG, noun=noun, build=build)
            form = shape(who)
            met = meet(dataclasses.replace(CAMERA, focal=110.0), [Placed(who, 0.0, 0.0, (1.0, 0.0))])
            assert 0 < form.foot <= form.reach < 1.1 and 0.2 < form.tall < 1.6, noun
            hit = met.hits[0].depth < FAR
            assert hit.any() and not (hit[0].any() or hit[-1].any() or hit[:, 0].any() or hit[:, -1].any()), noun


# --- camera ---------------------------------------------------------------------------------------------------------


def test_a_point_of_the_table_shows_where_its_ray_meets_the_table() -> None:
    for row, column in ((30.0, 20.0), (100.5, 72.0), (60.0, 140.0)):
        spot = CAMERA.ground(row, column)
        assert spot is not None
        assert CAMERA.project(*spot, 0.0)[:2] == pytest.approx((row, column), abs=1e-6)
        d = CAMERA.rays(np.float32(row), np.float32(column))
        t = -CAMERA.height / d.z
        assert (t * d.x, t * d.y - CAMERA.back) == pytest.approx(spot, abs=1e-4)
    assert CAMERA.ground(-200.0, 72.0) is None, "above the horizon"


# --- patterns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", (*SEEN_PATTERNS, *UNSEEN_PATTERNS))
def test_a_pattern_closes_around_the_body(pattern: str) -> None:
    who = dataclasses.replace(MUG, pattern=pattern)
    high = np.linspace(0.0, 0.8, 400).astype(np.float32)
    ends = [second_colour(who, np.full_like(high, turn), high, 2.1, 0.8) for turn in (1e-4, 1 - 1e-4)]
    if pattern not in ("lined", "checked", "patched"):  # these change their colour where a period begins
        assert (ends[0] == ends[1]).mean() > 0.97
    around = np.linspace(0, 1, 720, endpoint=False).astype(np.float32)
    for level in (0.13, 0.31, 0.52):
        row = second_colour(who, around, np.full_like(around, level), 2.1, 0.8)
        runs = np.diff(np.flatnonzero(np.diff(np.concatenate([row, row[:1]])) != 0))
        assert not len(runs) or runs.min() >= 4, "no sliver where the ends meet"


def test_plain_things_have_one_colour_and_patterned_ones_two() -> None:
    turn, high = (a.astype(np.float32).ravel() for a in np.meshgrid(np.linspace(0, 1, 99), np.linspace(0, 0.8, 99)))
    for pattern in (*SEEN_PATTERNS, *UNSEEN_PATTERNS):
        share = second_colour(dataclasses.replace(MUG, pattern=pattern), turn, high, 2.1, 0.8).mean()
        assert share == 0 if pattern == "plain" else 0.15 < share < 0.62, pattern


@pytest.mark.parametrize("kind", ["label", "patch", "chip"])
def test_a_mark_stands_on_one_side_only(kind: str) -> None:
    who = dataclasses.replace(MUG, mark=kind, mark_colour="black", mark_turn=0.9)
    turn, high = (a.astype(np.float32).ravel() for a in np.meshgrid(np.linspace(0, 1, 360), np.linspace(0, 0.8, 200)))
    on, ink = mark(who, turn, high, 2.1, 0.8)
    away = np.minimum(np.abs(turn - 0.9), 1 - np.abs(turn - 0.9))
    assert 0.005 < on.mean() < 0.2 and away[on].max() < 0.15 and not (ink & ~on).any()
    none, _ = mark(MUG, turn, high, 2.1, 0.8)
    assert not none.any()


# --- scenes in light ------------------------------------------------------------------------------------------------


def test_masks_are_the_nearest_things_and_shares_what_is_left_of_each() -> None:
    things = [Placed(MUG, 0.1, 0.6, (1.0, 0.0)), Placed(dataclasses.replace(MUG, noun="ball"), -0.1, -0.1, (0.0, 1.0))]
    both, alone = meet(CAMERA, things), [meet(CAMERA, [thing]) for thing in things]
    nearer = np.minimum(alone[0].depth, alone[1].depth)
    assert np.array_equal(both.depth, nearer)
    assert np.array_equal(both.ids == 0, (alone[0].depth < alone[1].depth) & (alone[0].ids == 0))
    assert np.array_equal(both.ids == 1, (alone[1].depth < alone[0].depth) & (alone[1].ids == 0))
    hidden = (alone[0].ids == 0) & (both.ids == 1)
    assert hidden.sum() > 50, "one stands before the other"
    whole = int((alone[0].hits[0].depth < FAR).sum())  # in the frame and out
    assert shares(both)[0] == pytest.approx((both.ids == 0).sum() / whole) and shares(both)[1] > 0.9
    drawn = draw(STAGE, things, both)
    votes = np.stack([both.ids[a::2, b::2] for a in (0, 1) for b in (0, 1)])
    for i in range(2):
        sure = (votes == i).sum(axis=0) >= 3
        assert (drawn.ids[sure] == i).all() and (drawn.ids == i)[(votes == i).sum(axis=0) < 2].sum() == 0


def test_what_is_outside_of_the_frame_counts_as_hidden() -> None:
    spot = CAMERA.ground(70.0, 142.0)
    assert spot is not None
    found = shares(meet(CAMERA, [Placed(MUG, *spot, (1.0, 0.0))]))
    assert 0.3 < found[0] < 0.7


def test_a_thing_casts_a_shadow_on_the_side_away_from_the_lamp() -> None:
    empty, thing = draw(STAGE, []), Placed(MUG, 0.0, 0.2, (1.0, 0.0))
    full = draw(STAGE, [thing])
    dark = (empty.image.astype(int) - full.image.astype(int)).mean(axis=2) > 40
    dark &= full.ids < 0
    columns = np.nonzero(dark)[1]
    foot = CAMERA.project(0.0, 0.2, 0.0)[1]
    assert dark.sum() > 100 and (columns > foot).mean() > 0.8, "the lamp stands on the left"


def test_turning_a_thing_by_a_whole_turn_changes_nothing_and_by_half_moves_its_handle() -> None:
    one, two = (draw(STAGE, [Placed(MUG, 0.0, 0.2, (c, 0.0))]) for c in (1.0, -1.0))
    columns = [np.nonzero(each.ids == 0)[1] for each in (one, two)]
    assert columns[0].max() - columns[1].max() > 5 and columns[0].min() - columns[1].min() > 5
    again = draw(STAGE, [Placed(MUG, 0.0, 0.2, (1.0, 0.0))])
    assert np.array_equal(one.image, again.image)


def test_colours_do_not_change_a_shape() -> None:
    masks = []
    for main, pattern in (("black", "plain"), ("white", "zigzag")):
        who = dataclasses.replace(MUG, main=main, pattern=pattern)
        masks.append(draw(STAGE, [Placed(who, 0.0, 0.2, (1.0, 0.0))]).ids == 0)
    assert np.array_equal(*masks) and masks[0].sum() > 500


def test_every_pattern_can_be_told_from_every_other_on_a_mug_and_a_box() -> None:
    for noun in ("mug", "box"):
        pictures = []
        for pattern in (*SEEN_PATTERNS, *UNSEEN_PATTERNS):
            who = Individual(noun, "black", "white", pattern, 0, (0.5,) * 4, (0.0, 0.0), 0.0)
            drawn = draw(STAGE, [Placed(who, 0.0, 0.0, (0.8, 0.6))])
            pictures.append(drawn.image[drawn.ids == 0].astype(int))
        for i, one in enumerate(pictures):
            for other in pictures[:i]:
                assert (np.abs(one - other).max(axis=1) > 60).mean() > 0.05


def test_a_clear_sensor_shows_grey_as_its_square_root_and_gains_tint_it() -> None:
    light = np.full((8, 16, 3), 0.25, np.float32)
    assert (expose(light, CLEAR, np.random.PCG64(0)) == 128).all()
    warm = expose(light, dataclasses.replace(CLEAR, gains=(1.2, 1.0, 0.8)), np.random.PCG64(0))
    assert (warm[..., 0] > 128).all() and (warm[..., 1] == 128).all() and (warm[..., 2] < 128).all()


def test_compression_keeps_a_grey_and_loses_faint_grain() -> None:
    grain = np.where(np.indices((16, 24)).sum(axis=0) % 2 > 0, 0.2479, 0.2521)[..., None].repeat(3, 2)
    plain = expose(grain.astype(np.float32), CLEAR, np.random.PCG64(0)).astype(int)
    lossy = expose(grain.astype(np.float32), dataclasses.replace(CLEAR, loss=24.0), np.random.PCG64(0)).astype(int)
    assert len(np.unique(plain)) == 2 and len(np.unique(lossy)) == 1 and abs(lossy.mean() - plain.mean()) < 3
