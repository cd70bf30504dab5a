"""Ceilings of one query that follow from the truth alone: outlines of the scene's things, and the truth's box.

Knows: examples with their truth.  Does not know: methods, datasets, files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.errors import MissingExtraError
from prisbench.images.regions import iou
from prisbench.types import Example, Thing

SAME_NOUN = ("subject", "look-alike")
"""Roles of things of the subject's class."""

ROUNDS = 5
"""Of GrabCut, as in OpenCV's own example."""


class Kind(NamedTuple):
    """A ceiling: what it is told, and its score of an example, 0..1; None where the scene's things are not known."""

    name: str
    told: str
    score: Callable[[Example], float | None]


def kinds() -> list[Kind]:
    """The ceilings of the truth alone; ``true box, GrabCut`` only where cv2 is installed."""
    found = [
        Kind("best outline", "every thing's outline, and which fits best", _of_things(_best)),
        Kind("an outline of the noun by lot", "outlines of the things of the class", _of_things(_lot_of_noun)),
        Kind("an outline by lot", "every thing's outline", _of_things(_lot)),
        Kind("an outline or none by lot", "every thing's outline", _of_things(_lot_or_none)),
        Kind(
            "true box", "the box of the truth, and where there is none", lambda each: against(each, box_of(each.mask))
        ),
    ]
    if grabcut_version() is not None:
        told = "the box of the truth, and where there is none"
        found.insert(1, Kind("true box, GrabCut", told, lambda each: against(each, cut_out(each.image, each.mask))))
    return found


def against(example: Example, mask: Bool[np.ndarray, "h w"] | None) -> float:
    """What a mask scores: its IoU where the text has a referent, else whether it is empty."""
    there = mask is not None and bool(mask.any())
    if not example.mask.any():
        return float(not there)
    return iou(mask, example.mask) if mask is not None and there else 0.0


def _of_things(score: Callable[[Example, Sequence[float]], float]) -> Callable[[Example], float | None]:
    """Of an example whose things are known: ``score`` gets what each thing's outline scores."""

    def scored(example: Example) -> float | None:
        if not example.things:
            return None
        return score(example, [against(example, thing.mask) for thing in example.things])

    return scored


def _best(example: Example, each: Sequence[float]) -> float:
    return max(each) if example.mask.any() else 1.0


def _lot(example: Example, each: Sequence[float]) -> float:
    """The mean over all draws of one thing: an expectation, not a draw."""
    return math.fsum(each) / len(each)


def _lot_or_none(example: Example, each: Sequence[float]) -> float:
    return (math.fsum(each) + against(example, None)) / (len(each) + 1)


def _lot_of_noun(example: Example, each: Sequence[float]) -> float:
    """Among things of the class; no answer where there are none."""
    same = [score for thing, score in zip(example.things, each, strict=True) if _is_same(thing)]
    return math.fsum(same) / len(same) if same else against(example, None)


def _is_same(thing: Thing) -> bool:
    return thing.role in SAME_NOUN


def box_of(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The smallest box that holds a mask, filled; empty of an empty one."""
    box = np.zeros_like(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows):
        box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def cut_out(image: UInt8[np.ndarray, "h w 3"], truth: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The truth's box cut out by GrabCut (Rother et al. 2004, OpenCV's): what is outside is background, what is inside
    is probably not.  The box itself where there is nothing outside, or where nothing of it is left.

    Deterministic: OpenCV's random numbers are seeded anew.  Raises MissingExtraError without cv2.
    """
    cv2 = _cv2()
    box = box_of(truth)
    if not box.any() or box.all():
        return box
    marks = np.where(box, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    try:
        # In BGR, as OpenCV has it; GrabCut treats the channels alike.
        cv2.grabCut(np.ascontiguousarray(image[..., ::-1]), marks, None, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # fewer pixels than its mixtures have parts
        return box
    found = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return np.asarray(found) if found.any() else box


def grabcut_version() -> str | None:
    """OpenCV's version; None where it is not installed."""
    try:
        return str(_cv2().__version__)
    except MissingExtraError:
        return None


def _cv2() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("opencv-python-headless", "network-free", "cutting the true box out") from None
    cv2.setNumThreads(1)
    return cv2
