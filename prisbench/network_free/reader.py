"""How well each region of a scene keeps what a text says of place, the landmark found by its colours.

A landmark's noun says nothing here; its colour words do.  Without one any other thing may be the landmark, and the
grade is a mean over all of them.

Knows: readings of texts, regions, pixels.  Does not know: truth, how like a region is to the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from prisbench.images.regions import iou
from prisbench.network_free.colour_words import likeness_to, named
from prisbench.network_free.evidence import Scene
from prisbench.network_free.foreground import border
from prisbench.network_free.regions import parts
from prisbench.phrases import TO_A_LANDMARK, Condition, Reading, box_of, holds

RIVALS = 0.25
"""Regions whose chance is at least this share of the best one's are those that a place among all is among."""

LANDMARKS = 8
"""Regions of a colour that are considered."""

Mask = Bool[np.ndarray, "h w"]

FindLandmark = Callable[[Condition], Sequence[tuple[Mask, float]]]
"""A condition's landmark: regions that may be it, with weights above 0."""


def grades(
    reading: Reading, regions: Sequence[Mask], chances: Float[np.ndarray, " n"], find: FindLandmark
) -> Float[np.ndarray, " n"]:
    """A grade in 0..1 for each region: the product over conditions; 1 for a text without any."""
    product = np.ones(len(regions))
    boxes = [box_of(region) for region in regions]
    for condition in reading.conditions:
        if condition.relation in TO_A_LANDMARK:
            found = find(condition)
            for n, region in enumerate(regions):
                product[n] *= _told(condition, boxes[n], [each for each in found if iou(each[0], region) < 0.3])
        else:
            rivals = _apart(regions, chances)
            for n, region in enumerate(regions):
                others = [boxes[m] for m in rivals if iou(regions[m], region) < 0.3 and not _within(regions[m], region)]
                product[n] *= holds(condition, boxes[n], None, others)
    return product


def by_colour(scene: Scene, things: Sequence[Mask] | None = None) -> FindLandmark:
    """Landmarks by their colour words, among regions cut from the scene, or among ``things``, which are all of its."""
    return lambda condition: landmarks(condition, scene, things)


def landmarks(condition: Condition, scene: Scene, things: Sequence[Mask] | None = None) -> list[tuple[Mask, float]]:
    """Regions that may be the landmark of a condition, with weights above 0; of ``things``, or cut from the scene."""
    words = named(condition.landmark or "")
    maps = [likeness_to(scene.image, word) for word in words]
    if things is not None:
        weights = [float(np.prod([_held(map_, thing) for map_ in maps])) if maps else 1.0 for thing in things]
        return [(thing, weight) for thing, weight in zip(things, weights, strict=True) if weight > 0]
    salient = _salient(scene)
    map_ = np.clip(np.sum(maps, axis=0), 0, 1) * (0.4 + 0.6 * salient) if maps else salient
    found = parts(ndimage.gaussian_filter(map_.astype(np.float32), 1.0))[:LANDMARKS]
    weights = [
        float(np.prod([_held(each, part) for each in maps]) if maps else 1.0)
        * float(np.sqrt(part.mean()))
        * float(map_[part].mean())
        for part in found
    ]
    return [(part, weight) for part, weight in zip(found, weights, strict=True) if weight > 0]


def _told(condition: Condition, box: tuple[float, ...], found: Sequence[tuple[Mask, float]]) -> float:
    """The mean grade over landmarks, the likelier ones counting far more."""
    if not found:
        return 0.5
    weights = np.array([weight for _, weight in found]) ** 3
    each = [holds(condition, box, box_of(mask)) for mask, _ in found]  # type: ignore[arg-type]
    return float((weights * each).sum() / weights.sum())


def _held(map_: np.ndarray, mask: Mask) -> float:
    """How much of a region is of a colour, with a colour that covers a quarter counting almost whole."""
    return float(1 - np.exp(-6 * map_[mask].mean())) + 1e-4


def _salient(scene: Scene) -> np.ndarray:
    """How unlike the colours of the scene's border each pixel's colour is, 0..1."""
    edge = border(scene.size_hw)
    bins = int(scene.colours.max()) + 1
    there = np.bincount(scene.colours[edge], minlength=bins).astype(np.float64)
    here = np.bincount(scene.colours[~edge], minlength=bins).astype(np.float64)
    there, here = there / max(there.sum(), 1), here / max(here.sum(), 1)
    return ndimage.gaussian_filter((here / (here + there + 1e-4))[scene.colours], 1.0)


def _apart(regions: Sequence[Mask], chances: np.ndarray) -> list[int]:
    """The likeliest regions, each place once."""
    kept: list[int] = []
    for n in np.argsort(-chances, kind="stable"):
        if chances[n] < RIVALS * chances.max():
            break
        if all(not (regions[n] & regions[m]).any() for m in kept):
            kept.append(int(n))
    return kept


def _within(a: Mask, b: Mask) -> bool:
    """Whether most of the smaller one lies in the other."""
    return bool(np.count_nonzero(a & b) > 0.5 * min(np.count_nonzero(a), np.count_nonzero(b)))
