"""Which part of a map a text means: the parts are told apart by where they are, as the text says.

    parts    map  ->  its peaks, each with the region that is its own
    grades   parts, conditions with their landmarks' maps  ->  how well each part keeps what the text says, 0..1
    chosen   map, grades  ->  the map with the parts that do not keep it made lower

A map of words is high on every copy of what the words name.  Which one is meant, only places can say (after ReCLIP,
arXiv 2204.05991: parse the text, find the landmark by its own words, compare boxes).

Knows: maps, conditions.  Does not know: networks, prompts, photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from prisbench.images.regions import iou
from prisbench.localizer.settings import Places
from prisbench.phrases import TO_A_LANDMARK, Condition, box_of, holds

LEVELS = 40
"""A map is flooded in so many steps."""

SMOOTH = 0.01
"""Deviation of the Gaussian that takes off ripples before peaks are counted, as a share of the photo's side."""

APART = 0.3
"""Overlap of two parts, intersection over union, from which a landmark's part is taken for the candidate itself."""

SHARPNESS = 3.0
"""Parts of a landmark's map weigh as their heights to this power: the likeliest counts far more."""


@dataclass(frozen=True, eq=False)
class Part:
    """A peak of a map, 0..1, and the region above its valley; ``yx`` is where the peak is."""

    mask: Bool[np.ndarray, "h w"]
    peak: float
    yx: tuple[int, int]


class Placed(NamedTuple):
    """A condition of a text, and the map of its landmark's phrase in the photo's frame, None where it has none."""

    condition: Condition
    landmark: Float32[np.ndarray, "h w"] | None


def parts(map_: Float[np.ndarray, "h w"], settings: Places) -> list[Part]:
    """The parts of a map, the highest first; none of a flat one.

    The map is flooded from its top.  A peak that meets a higher one is a part of its own when the level has fallen
    below ``settings.valley`` of it by then, and else belongs to the higher one.
    """
    side = float(np.sqrt(map_.size))
    smooth = ndimage.gaussian_filter(np.asarray(map_, np.float64), SMOOTH * side, mode="nearest")
    top = float(smooth.max())
    if top <= 0 or top - float(smooth.min()) < 1e-9:
        return []
    found: list[Part] = []
    for level in np.linspace(top, settings.least * top, LEVELS + 1)[1:]:
        labels, count = ndimage.label(smooth >= level, structure=np.ones((3, 3)))
        inside: list[list[Part]] = [[] for _ in range(count + 1)]
        for part in found:
            inside[labels[part.yx]].append(part)
        found = []
        for n, box in enumerate(ndimage.find_objects(labels), 1):
            region = np.zeros(smooth.shape, bool)
            region[box] = labels[box] == n
            found += _flooded(smooth, region, inside[n], float(level), settings.valley)
    return sorted(found, key=lambda part: (-part.peak, part.yx))


def _flooded(
    smooth: Float[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"], there: list[Part], level: float, valley: float
) -> list[Part]:
    """The parts of a region at a level, of those that were there at the one above."""
    if not there:
        y, x = np.unravel_index(int(np.where(region, smooth, -np.inf).argmax()), smooth.shape)
        return [Part(region, float(smooth[y, x]), (int(y), int(x)))]
    highest = max(there, key=lambda part: part.peak)
    kept = [part for part in there if part is not highest and level < valley * part.peak]
    if kept:
        return [highest, *kept]  # each keeps the region that it had when they met
    return [Part(region, highest.peak, highest.yx)]


def grades(found: Sequence[Part], conditions: Sequence[Placed], settings: Places) -> Float[np.ndarray, " n"]:
    """How well each part keeps all conditions: the product of grades, each 0..1, 0.5 for "cannot tell"."""
    product = np.ones(len(found))
    boxes = [box_of(part.mask) for part in found]
    for condition, landmark in conditions:
        marks = [] if landmark is None else parts(landmark, settings)
        for n, part in enumerate(found):
            if condition.relation in TO_A_LANDMARK:
                product[n] *= _to_landmark(
                    condition, part, [mark for mark in marks if iou(mark.mask, part.mask) < APART]
                )
            else:
                product[n] *= holds(condition, boxes[n], None, [box for m, box in enumerate(boxes) if m != n])
    return product


def _to_landmark(condition: Condition, part: Part, marks: Sequence[Part]) -> float:
    if not marks:
        return 0.5
    weights = np.array([mark.peak for mark in marks]) ** SHARPNESS
    each = [holds(condition, box_of(part.mask), box_of(mark.mask)) for mark in marks]
    return float((weights * each).sum() / weights.sum())


def chosen(
    map_: Float[np.ndarray, "h w"], found: Sequence[Part], graded: Float[np.ndarray, " n"], settings: Places
) -> Float32[np.ndarray, "h w"]:
    """The map times (a part's grade / the best part's) ** power, each pixel with the nearest part; scaled to reach 1.

    The best part is the one whose height times grade ** power is highest; the others lose ``settings.alone`` of theirs.
    """
    heights = np.array([part.peak for part in found])
    field = np.asarray(graded, np.float64) ** settings.power
    if not len(found) or float((heights * field).max()) <= 0:
        return np.asarray(map_, np.float32)
    field[np.arange(len(found)) != int((heights * field).argmax())] *= 1 - settings.alone
    owner = np.full(map_.shape, -1)
    for n in range(len(found) - 1, -1, -1):
        owner[found[n].mask] = n
    nearest = ndimage.distance_transform_edt(owner < 0, return_distances=False, return_indices=True)
    product = map_ * (field / field.max())[owner[tuple(nearest)]]
    top = float(product.max())
    return np.asarray(product / top if top > 0 else map_, np.float32)


def best(found: Sequence[Part], graded: Float[np.ndarray, " n"]) -> float:
    """What the text's places leave of a map's height, 0..1: the highest part times its grade, as a share."""
    if not len(found):
        return 1.0
    heights = np.array([part.peak for part in found])
    return float((heights * graded).max() / heights.max())
