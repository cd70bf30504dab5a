"""Keypoints of a subject's photos that a scene has, too, in one consistent arrangement (SIFT, Lowe 2004; cv2).

Knows: photos with masks, scenes.  Does not know: regions, texts, weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from prisbench.errors import MissingExtraError

RATIO = 0.85
"""A match counts when its distance is below this share of the second best's, in the scene."""

FEWEST = 4
"""Matches of one photo that have to agree on one turn, size and shift."""

UPSIZED = 2
"""Times that a picture is enlarged before keypoints are looked for: things in scenes are small."""

NONE = np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
"""No keypoints, and no descriptors of them."""

TOLERANCE = 6.0
"""Pixels of the enlarged scene by which a match may miss the agreed place."""


def available() -> bool:
    """Whether cv2 is installed."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


def described(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (x, y in the enlarged picture) and their descriptors (Lowe's, root-normalised), those in the mask.

    Raises MissingExtraError without the extra ``network-free``.
    """
    cv2 = _cv2()
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, None, fx=UPSIZED, fy=UPSIZED, interpolation=cv2.INTER_CUBIC)
    inside = None
    if mask is not None:
        inside = cv2.resize(mask.astype(np.uint8) * 255, grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
    points, descriptors = _sift().detectAndCompute(grey, inside)
    if descriptors is None or not len(points):
        return NONE
    places = np.array([point.pt for point in points], dtype=np.float32)
    order = np.lexsort((places[:, 0], places[:, 1]))  # the detector's order is its own affair
    shares = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    return places[order], np.sqrt(shares)[order].astype(np.float32)


def agreeing(
    views: Sequence[tuple[np.ndarray, np.ndarray]], scene: tuple[np.ndarray, np.ndarray], size_hw: tuple[int, int]
) -> Int64[np.ndarray, "n 2"]:
    """Rows and columns of a scene's keypoints that match a photo's in an arrangement shared by ``FEWEST`` or more.

    Each photo votes for its own best turn, size and shift; keypoints of several photos stand there several times.
    """
    cv2 = _cv2()
    found = []
    places, descriptors = scene
    for theirs, known in views:
        if len(known) < FEWEST or len(descriptors) < FEWEST + 1:
            continue
        alike = known @ descriptors.T
        first = alike.argmax(axis=1)
        rows = np.arange(len(known))
        best = np.sqrt(np.maximum(2 - 2 * alike[rows, first], 0))
        alike[rows, first] = -1
        second = np.sqrt(np.maximum(2 - 2 * alike.max(axis=1), 0))
        good = np.flatnonzero(best < RATIO * second)
        if len(good) < FEWEST:
            continue
        cv2.setRNGSeed(0)
        _, inliers = cv2.estimateAffinePartial2D(
            theirs[good], places[first[good]], method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE, maxIters=1000
        )
        if inliers is not None and inliers.sum() >= FEWEST:
            found.append(places[first[good[inliers.ravel() > 0]]])
    if not found:
        return np.zeros((0, 2), np.int64)
    xy = np.concatenate(found) / UPSIZED
    yx = np.floor(xy[:, ::-1]).astype(np.int64)
    return np.clip(yx, 0, np.array(size_hw) - 1)


def _cv2() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("opencv-python-headless", "network-free", "matching keypoints") from None
    return cv2


@lru_cache(maxsize=1)
def _sift() -> Any:
    return _cv2().SIFT_create(nfeatures=600, contrastThreshold=0.02)
