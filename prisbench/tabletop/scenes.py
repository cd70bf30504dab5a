"""Scenes: a stage in random light, and things placed on it until they fit.

Each scene has its own generator, seeded by text such as ``"tabletop/3/train/17"``, so any scene can be drawn alone and
in any order.

Knows: how things stand together, what a camera may be like.  Does not know: subjects, texts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.tabletop.camera import Camera
from prisbench.tabletop.individuals import between, pick
from prisbench.tabletop.looks import COLOURS, SURFACES, WALLS, Individual
from prisbench.tabletop.numbers import circle
from prisbench.tabletop.render import Light, Placed, Rgb, Stage, draw, meet, shares
from prisbench.tabletop.sensor import Sensor
from prisbench.tabletop.things import shape

SIZES_HW = ((112, 144), (144, 112), (96, 160))
"""Scene sizes: about 16,000 pixels, never square, sides multiples of 16 so that latents halve twice."""
LEAST_SHARE = 0.45
"""A thing that is named or asked for shows at least this share of itself."""
LEAST_TALL, MOST_TALL = 18.0, 90.0
"""How tall things are in a picture, in pixels."""


class Crowded(Exception):
    """Things do not fit on a table as they should."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawn scene: the picture, what stands in it (farthest first), and each thing's visible mask and share."""

    image: UInt8[np.ndarray, "h w 3"]
    things: tuple[Placed, ...]
    masks: tuple[Bool[np.ndarray, "h w"], ...]
    shares: tuple[float, ...]
    stage: Stage


@dataclass(frozen=True)
class Plan:
    """What a scene is to be: ``scale``, the range of pixels a unit of the table covers; ``accept``, whether things
    stand as they should; ``colours``, names that table and wall may take, each with the chance ``tinted``; ``turned``,
    in which eighth of a turn the first thing shows its front, None for any.
    """

    scale: tuple[float, float]
    accept: Callable[[Camera, Sequence[Placed]], bool] | None = None
    colours: tuple[str, ...] = ()
    tinted: float = 0.34
    turned: float | None = None
    size_hw: tuple[int, int] | None = None


def compose(rng: random.Random, who: Sequence[Individual], plan: Plan) -> Scene:
    """Stand these individuals on a table so that each shows at least ``LEAST_SHARE`` of itself; draws until it fits.

    Raises Crowded when no arrangement is found in many trials.
    """
    size = plan.size_hw or pick(rng, SIZES_HW)
    for attempt in range(60 if plan.accept else 400):
        shrink = 1.0 if plan.accept else max(0.55, 1.0 - 0.02 * max(attempt - 10, 0))
        camera, wall_y = _camera(rng, size, between(rng, *plan.scale) * shrink)
        placed = None
        for _ in range(80 if plan.accept else 2):
            placed = _placed(rng, who, camera, wall_y, plan)
            if placed is not None:
                break
        if placed is None:
            continue
        order = sorted(placed, key=lambda p: -p.y)
        met = meet(camera, order)
        if min(shares(met), default=1.0) < LEAST_SHARE:
            continue
        stage = _stage(rng, camera, wall_y, plan)
        drawn = draw(stage, order, met)
        masks = tuple(drawn.ids == i for i in range(len(order)))
        return Scene(drawn.image, tuple(order), masks, tuple(drawn.shares), stage)
    raise Crowded(f"no arrangement found for {len(who)} things in {size[0]} x {size[1]} pixels")


def _camera(rng: random.Random, size: tuple[int, int], scale: float) -> tuple[Camera, float]:
    """A camera that shows a unit at the middle of the table in ``scale`` pixels, and how far the wall is."""
    h, w = size
    down = between(rng, 0.20, 0.70)
    focal = between(rng, 1.05, 2.4) * w
    away = focal / scale
    level = (1 - down * down) ** 0.5
    camera = Camera(size, round(away * down, 4), round(away * level, 4), round(down, 4), round(focal, 3))
    row = between(rng, 0.08, 0.36) * h if rng.random() < 0.75 else -0.04 * h
    spot = camera.ground(row, w / 2)
    wall_y = spot[1] if spot else 9.0
    return camera, round(min(max(wall_y, 0.6), 9.0), 4)


def _placed(
    rng: random.Random, who: Sequence[Individual], camera: Camera, wall_y: float, plan: Plan
) -> list[Placed] | None:
    """A place for each, in the frame and not in each other; None where luck was against it."""
    h, w = camera.size_hw
    places: list[Placed] = []
    for number, individual in enumerate(who):
        form = shape(individual)
        for _ in range(14):
            spot = camera.ground(between(rng, 0.22 * h, h - 3.0), between(rng, 0.05 * w, 0.95 * w))
            if spot is None or spot[1] > wall_y - form.reach - 0.05:
                continue
            foot, head = camera.project(*spot, 0.0), camera.project(*spot, form.tall)
            side = camera.focal * form.reach * 0.8 / foot[2]
            tall = foot[0] - head[0]
            if max(tall, side * 1.2) < LEAST_TALL or max(tall, side * 1.8) > MOST_TALL or head[0] < -0.12 * tall:
                continue
            if foot[1] - side < -0.3 * side or foot[1] + side > w + 0.3 * side:
                continue
            if any(_near(spot, form.reach, p) for p in places):
                continue
            turn = rng.random()
            if number == 0 and plan.turned is not None:
                turn = plan.turned + (turn - 0.5) / 8
            facing = circle(turn)
            places.append(
                Placed(individual, round(spot[0], 3), round(spot[1], 3), (round(facing[0], 5), round(facing[1], 5)))
            )
            break
        else:
            return None
    if plan.accept is not None and not plan.accept(camera, places):
        return None
    return places


def _near(spot: tuple[float, float], reach: float, other: Placed) -> bool:
    """Whether a thing of this reach would stand in another."""
    dx, dy = spot[0] - other.x, spot[1] - other.y
    least = 0.92 * (reach + shape(other.individual).reach)
    return dx * dx + dy * dy < least * least


# ---------------------------------------------------------------------------------------------------------------------
# stage


def _stage(rng: random.Random, camera: Camera, wall_y: float, plan: Plan) -> Stage:
    return Stage(
        camera=camera,
        surface=pick(rng, SURFACES),
        surface_rgb=_ground_colour(rng, plan, 0.35, 0.85),
        wall=pick(rng, WALLS),
        wall_rgb=_ground_colour(rng, plan, 0.35, 0.90),
        wall_y=wall_y,
        second_rgb=_second_colours(rng, plan),
        grain=circle(between(rng, -0.08, 0.08) + (0.25 if rng.random() < 0.3 else 0.0)),
        light=_light(rng),
        sensor=_sensor(rng, plan.tinted > 0 and bool(plan.colours)),
        seed=int(rng.random() * 2**31),
    )


def _second_colours(rng: random.Random, plan: Plan) -> tuple[Rgb, Rgb] | None:
    """Second colours of table and wall: always where a plan has colours, else in three scenes of five."""
    if not plan.colours and rng.random() >= 0.6:
        return None
    return _ground_colour(rng, plan, 0.25, 0.9), _ground_colour(rng, plan, 0.25, 0.9)


def _ground_colour(rng: random.Random, plan: Plan, low: float, high: float) -> tuple[float, float, float]:
    """What a table or wall reflects: wood, neutral, a muted colour; or one of the plan's colours."""
    grey = between(rng, low, high)
    chance = rng.random()
    if plan.colours and chance < plan.tinted:
        rgb: Sequence[float] = COLOURS[pick(rng, plan.colours)]
        mute = between(rng, 0.0, 0.15)
    elif chance < 0.58:  # wood and straw
        rgb = (grey, grey * between(rng, 0.70, 0.84), grey * between(rng, 0.44, 0.66))
        mute = 0.0
    elif chance < 0.80:
        rgb = tuple(grey + between(rng, -0.05, 0.05) for _ in range(3))
        mute = 0.0
    else:
        rgb = COLOURS[pick(rng, tuple(COLOURS))]
        mute = between(rng, 0.25, 0.8)
    r, g, b = (min(max(c + (grey - c) * mute, 0.08), 0.97) for c in rgb)
    return round(r * r, 4), round(g * g, 4), round(b * b, 4)


def _light(rng: random.Random) -> Light:
    """A lamp or a window: from any side but straight behind the things, high or low, hard or soft."""
    up = between(rng, 0.38, 0.93)
    across, away = circle(between(rng, -0.60, 0.10))
    flat = (1 - up * up) ** 0.5
    warm = between(rng, -1.0, 1.0)
    return Light(
        toward=(round(across * flat, 5), round(away * flat, 5), round(up, 5)),
        key=round(between(rng, 0.55, 1.25), 3),
        fill=round(between(rng, 0.25, 0.62), 3),
        softness=round(between(rng, 0.02, 0.34), 3),
        rgb=(round(1 + 0.10 * max(warm, 0), 3), 1.0, round(1 - 0.16 * warm, 3)),
    )


def _sensor(rng: random.Random, strong: bool) -> Sensor:
    """A camera's settings; ``strong``: exposure and white balance from the outer parts of their ranges."""
    exposure = _share(rng, 0.78, 1.28, strong)
    r, b = _share(rng, 0.72, 1.28, strong), _share(rng, 0.70, 1.25, strong)
    return Sensor(
        gains=(round(exposure * r, 3), round(exposure, 3), round(exposure * b, 3)),
        gamma=round(between(rng, 0.76, 1.32), 3),
        contrast=round(between(rng, 0.0, 0.45), 3),
        blur=round(between(rng, 0.0, 0.8), 3),
        noise=round(between(rng, 0.6, 3.6), 3),
        loss=round(between(rng, 4.0, 26.0), 2) if rng.random() < 0.75 else 0.0,
    )


def _share(rng: random.Random, low: float, high: float, outer: bool) -> float:
    """A number of the range; of its outer thirds alone, if told."""
    t = rng.random()
    if outer:
        t = t * 2 / 3 if t < 0.5 else 1 - (1 - t) * 2 / 3
    return low + (high - low) * t
