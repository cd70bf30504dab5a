"""What a predictor may look at: numbers of a thing, of a scene and of a text; never the reference photos.

Knows: scenes before they are rows: things, order, masks.  Does not know: what is guessed from the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from prisbench.tabletop.looks import COLOURS, Individual
from prisbench.tabletop.places import Condition, judge
from prisbench.tabletop.queries import Asked, Group
from prisbench.tabletop.scenes import Scene
from prisbench.tabletop.texts import told


class _Light(NamedTuple):
    """A scene's planes, 0..1: colours, grey, how steep the grey is, how far a pixel is from its neighbours' mean."""

    rgb: Float[np.ndarray, "h w 3"]
    grey: Float[np.ndarray, "h w"]
    slope: Float[np.ndarray, "h w"]
    grain: Float[np.ndarray, "h w"]


class View(NamedTuple):
    """One thing of a scene.  ``rim``: its outermost pixels; ``core``: the others; ``ring``: those just outside."""

    scene: Scene
    place: int
    light: _Light
    mask: Bool[np.ndarray, "h w"]
    rim: Bool[np.ndarray, "h w"]
    core: Bool[np.ndarray, "h w"]
    ring: Bool[np.ndarray, "h w"]

    @property
    def who(self) -> Individual:
        return self.scene.things[self.place].individual

    @property
    def others(self) -> list[Individual]:
        """The other things of the scene."""
        return [thing.individual for i, thing in enumerate(self.scene.things) if i != self.place]

    @property
    def colour(self) -> Float[np.ndarray, "3"]:
        """The mean of its pixels."""
        found: Float[np.ndarray, "3"] = self.light.rgb[self.mask].mean(axis=0)
        return found


def _light(image: UInt8[np.ndarray, "h w 3"]) -> _Light:
    rgb = image.astype(np.float64) / 255
    grey = rgb.mean(axis=2)
    dy, dx = np.gradient(grey)
    return _Light(rgb, grey, np.hypot(dy, dx), np.abs(ndimage.laplace(grey)))


def views(scene: Scene) -> list[View]:
    """A view of each thing, in the scene's order."""
    light, found = _light(scene.image), []
    for i, mask in enumerate(scene.masks):
        core = ndimage.binary_erosion(mask)
        ring = ndimage.binary_dilation(mask, iterations=2) & ~mask
        found.append(View(scene, i, light, mask, mask & ~core, core if core.any() else mask, ring))
    return found


def _centroid(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float]:
    """Row and column of the mean pixel, 0..1 of the picture."""
    h, w = mask.shape
    y, x = np.nonzero(mask)
    return float((y.mean() + 0.5) / h), float((x.mean() + 0.5) / w)


def _off_centre(mask: Bool[np.ndarray, "h w"]) -> float:
    y, x = _centroid(mask)
    return float(np.hypot(y - 0.5, x - 0.5))


def _unlike_the_others(view: View) -> float:
    others = [mask for i, mask in enumerate(view.scene.masks) if i != view.place]
    if not others:
        return 0.0
    return float(np.abs(view.colour - view.light.rgb[np.any(others, axis=0)].mean(axis=0)).sum())


def _from_ground(view: View) -> float:
    """How far the nearer of its two named colours is from the nearest colour of table and wall."""
    stage = view.scene.stage
    ground = np.sqrt([stage.surface_rgb, stage.wall_rgb, *(stage.second_rgb or ())])
    own = np.asarray([COLOURS[view.who.main], COLOURS[view.who.second]])
    return float(np.abs(own[:, None] - ground[None]).sum(axis=2).min())


def _looks(who: Individual) -> tuple[str, ...]:
    """What tells things apart at a glance."""
    return who.noun, who.main, who.second, who.pattern, str(who.build), who.mark


def shared(one: Individual, other: Individual) -> int:
    """In how many of noun, two colours, pattern, build and mark two things agree."""
    return sum(a == b for a, b in zip(_looks(one), _looks(other), strict=True))


def _alike(view: View) -> int:
    return sum(shared(view.who, other) for other in view.others)


def _colours(who: Individual) -> set[str]:
    return {who.main, who.second}


THING: Mapping[str, tuple[str, Callable[[View], float]]] = {
    "order (the nearest comes last)": ("scene", lambda v: v.place),
    "distance from the centre": ("scene", lambda v: _off_centre(v.mask)),
    "how far to the right": ("scene", lambda v: _centroid(v.mask)[1]),
    "how far down": ("scene", lambda v: _centroid(v.mask)[0]),
    "area": ("scene", lambda v: v.mask.sum()),
    "height": ("scene", lambda v: v.mask.any(axis=1).sum()),
    "visible share": ("scene", lambda v: v.scene.shares[v.place]),
    "brightness": ("scene", lambda v: v.light.grey[v.mask].mean()),
    "saturation": ("scene", lambda v: np.ptp(v.light.rgb[v.mask], axis=1).mean()),
    "contrast within": ("scene", lambda v: v.light.grey[v.mask].std()),
    "contrast with what is around": (
        "scene",
        lambda v: np.abs(v.colour - v.light.rgb[v.ring].mean(axis=0)).sum() if v.ring.any() else 0.0,
    ),
    "strength of the outline": ("scene", lambda v: v.light.slope[v.rim].mean()),
    "grain within": ("scene", lambda v: np.median(v.light.grain[v.core])),
    "colour unlike the other things'": ("scene", _unlike_the_others),
    "how near its colours are to those of table and wall": ("scene", lambda v: -_from_ground(v)),
    "a mark": ("scene", lambda v: v.who.mark != "none"),
    "looks it shares with the other things": ("scene", _alike),
    "things that look the same": ("scene", lambda v: sum(_looks(v.who) == _looks(other) for other in v.others)),
    "things in its colours": ("scene", lambda v: sum(_colours(v.who) == _colours(other) for other in v.others)),
    "things of its pattern": ("scene", lambda v: sum(v.who.pattern == other.pattern for other in v.others)),
    "things of its noun": ("noun", lambda v: sum(v.who.noun == other.noun for other in v.others)),
    "a pattern that training never shows": ("training", lambda v: v.who.newness[0]),
    "a pair of colours that training never shows": ("training", lambda v: v.who.newness[1]),
}
"""Predictor -> what it needs, and its number for one thing."""

SCENE: Mapping[str, tuple[str, Callable[[Sequence[View], str], float]]] = {
    "number of things": ("scene", lambda views, noun: len(views)),
    "number of kinds of things": ("scene", lambda views, noun: len({v.who.noun for v in views})),
    "number of different looks": ("scene", lambda views, noun: len({_looks(v.who) for v in views})),
    "things that look like another": (
        "scene",
        lambda views, noun: len(views) - len({_looks(v.who) for v in views}),
    ),
    "looks that the most typical thing shares": ("scene", lambda views, noun: max(_alike(v) for v in views)),
    "how far the most typical thing leads": ("scene", lambda views, noun: _lead([_alike(v) for v in views])),
    "share that is covered": ("scene", lambda views, noun: sum(v.mask.mean() for v in views)),
    "area of the largest thing": ("scene", lambda views, noun: max(v.mask.mean() for v in views)),
    "distance of the most central thing": ("scene", lambda views, noun: min(_off_centre(v.mask) for v in views)),
    "visible share of the most hidden thing": ("scene", lambda views, noun: min(views[0].scene.shares)),
    "brightness": ("scene", lambda views, noun: views[0].light.grey.mean()),
    "contrast": ("scene", lambda views, noun: views[0].light.grey.std()),
    "saturation": ("scene", lambda views, noun: np.ptp(views[0].light.rgb, axis=2).mean()),
    "noise": ("scene", lambda views, noun: np.median(views[0].light.grain)),
    "edges": ("scene", lambda views, noun: views[0].light.slope.mean()),
    "height of the picture": ("scene", lambda views, noun: len(views[0].mask)),
    "pixels a unit of the table covers": ("scene", lambda views, noun: _scale(views[0].scene)),
    "things with a mark": ("scene", lambda views, noun: sum(v.who.mark != "none" for v in views)),
    "things of a pattern that training never shows": (
        "training",
        lambda views, noun: sum(v.who.newness[0] for v in views),
    ),
    "things of a pair of colours that training never shows": (
        "training",
        lambda views, noun: sum(v.who.newness[1] for v in views),
    ),
    "a thing of the subject's noun": ("noun", lambda views, noun: any(v.who.noun == noun for v in views)),
    "number of things of the subject's noun": ("noun", lambda views, noun: sum(v.who.noun == noun for v in views)),
}
"""Predictor -> what it needs, and its number for a scene and the subject's noun."""


def _lead(numbers: Sequence[int]) -> int:
    """The highest number less the next."""
    first, second = sorted([*numbers, 0 if len(numbers) == 1 else min(numbers)])[-1:-3:-1]
    return first - second if len(numbers) > 1 else 0


def _scale(scene: Scene) -> float:
    camera = scene.stage.camera
    return float(camera.focal / (camera.height**2 + camera.back**2) ** 0.5)


class Facts(NamedTuple):
    """What is kept of a query.  ``things``: a row a thing, columns as ``THING``; ``scene``: as ``SCENE``; ``pointed``:
    how far each thing stands where the text points, ``fulfils``: whether it stands there; ``landmarks``: how many
    things the text names; ``rivals``: among which a "referred" text picks; ``noun``: which things have the subject's.
    """

    id: str
    subject: str
    split: str
    kind: str
    subset: str
    text: str
    target: int | None
    things: Float[np.ndarray, "n f"]
    scene: Float[np.ndarray, " s"]
    pointed: Float[np.ndarray, " n"]
    fulfils: Bool[np.ndarray, " n"]
    landmarks: int
    rivals: Bool[np.ndarray, " n"]
    noun: Bool[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n h w"]

    @property
    def truth(self) -> Bool[np.ndarray, "h w"]:
        assert self.target is not None, "asked of queries that mean something"
        mask: Bool[np.ndarray, "h w"] = self.masks[self.target]
        return mask


def facts(groups: Iterable[Group]) -> Iterator[Facts]:
    """The facts of every query, one scene at a time."""
    for group in groups:
        seen, noun = views(group.scene), group.subject.who.noun
        things = np.asarray([[float(of(view)) for _, of in THING.values()] for view in seen])
        scene = np.asarray([float(of(seen, noun)) for _, of in SCENE.values()])
        rivals = np.asarray([role == "copy" for role in group.roles])
        for number, asked in enumerate(group.asked):
            pointed, fulfils = _places(group, asked)
            yield Facts(
                id=f"{group.subject.key}/{group.subset}/{group.index}/{number}",
                subject=group.subject.key,
                split=group.subject.split,
                kind=asked.query_type,
                subset=group.subset,
                text=asked.text,
                target=asked.meant,
                things=things,
                scene=scene,
                pointed=pointed,
                fulfils=fulfils,
                landmarks=len(asked.landmarks),
                rivals=rivals if rivals.any() else np.ones(len(seen), bool),
                noun=np.asarray([view.who.noun == noun for view in seen]),
                masks=np.asarray(group.scene.masks),
            )


def _places(group: Group, asked: Asked) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """How far each thing stands where the text points (landmarks last), and whether it does; 0 and false without such
    words.
    """
    words, things = told(asked.text), group.scene.things
    n = len(things)
    pointed, fulfils = np.zeros(n), np.zeros(n, bool)
    if not words:
        return pointed, fulfils
    x, y = np.asarray([(thing.x, thing.y) for thing in things]).T
    copies = [i for i, role in enumerate(group.roles) if role == "copy"]
    middle = -np.abs(x - np.median(x[copies])) if copies else 0 * x
    ways = {"left of": -x, "leftmost": -x, "right of": x, "rightmost": x, "in front of": -y, "nearest": -y}
    ways |= {"behind": y, "farthest": y, "middle": middle, "next to": 0 * x}
    pointed = np.sum([ways[word] for word in words], axis=0)
    conditions = [Condition(*pair) for pair in zip(words, asked.landmarks, strict=False)]
    if len(conditions) == len(words) or not asked.landmarks:
        conditions = conditions or [Condition(word) for word in words]
        camera, rivals = group.scene.stage.camera, copies or list(range(n))
        missing = not asked.landmarks and asked.query_type == "contradicted"
        for i in range(n):
            fulfils[i] = not missing and all(judge(camera, c, i, things, rivals) for c in conditions)
    pointed[list(asked.landmarks)] = -99.0
    fulfils[list(asked.landmarks)] = False
    return pointed, fulfils
