"""What a predictor without a network remembers of a subject: histograms, patches and outlines, all as plain arrays.

Knows: subjects.  Does not know: scenes, texts, weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from prisbench.errors import DataError
from prisbench.network_free import keypoints as points
from prisbench.network_free.colours import codes, histogram, mask_resized, resized, shape_of, shrunk
from prisbench.network_free.foreground import known_or_guessed
from prisbench.network_free.patches import SCALES, describe, thinned
from prisbench.network_free.texture import BINS, SIGMAS, texture_codes
from prisbench.types import Concept, Subject

BANDS = 4
"""Layers of a thing from top to bottom, each with its own colours."""

PATCHES = 2500
"""Kept of the subject at most, and as many of what is around it."""


@dataclass(frozen=True, eq=False)
class SubjectModel:
    """A subject by what can be counted.

    ``colour``, ``chroma``, ``texture`` are shares of bins in the subject's pixels, ``around`` and ``texture_around`` in
    the other pixels of its photos; ``bands``: the colours of its layers from top to bottom; ``own`` and ``other``: its
    patches and those around it; ``outlines``: a row a photo, height over width and share of the box that is filled;
    ``counts``: how many keypoints each photo has, ``places`` and ``descriptors`` theirs, one photo after the other.
    """

    colour: Float32[np.ndarray, " c"]
    around: Float32[np.ndarray, " c"]
    chroma: Float32[np.ndarray, " l"]
    bands: Float32[np.ndarray, "b c"]
    texture: Float32[np.ndarray, "s t"]
    texture_around: Float32[np.ndarray, "s t"]
    own: Float32[np.ndarray, "n d"]
    other: Float32[np.ndarray, "m d"]
    outlines: Float32[np.ndarray, "p 2"]
    counts: Float32[np.ndarray, " p"]
    places: Float32[np.ndarray, "k 2"]
    descriptors: Float32[np.ndarray, "k e"]

    @cached_property
    def keypoints(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each photo, its keypoints on the subject (``keypoints.described``)."""
        ends = self.counts.astype(int).cumsum()
        starts = [0, *ends[:-1].tolist()]
        return [(self.places[a:b], self.descriptors[a:b]) for a, b in zip(starts, ends.tolist(), strict=True)]

    def tensors(self) -> dict[str, Float32[np.ndarray, "..."]]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of(cls, concept: Concept) -> SubjectModel:
        """What ``tensors`` gave.  Raises DataError for the concept of another method."""
        names = [each.name for each in fields(cls)]
        if lacking := [name for name in names if name not in concept.tensors]:
            raise DataError(f"concept {concept.id} is not one of a network-free method: it has no {lacking[0]!r}")
        return cls(**{name: np.asarray(concept.tensors[name], dtype=np.float32) for name in names})


def learn(subject: Subject, balance: str = "none", keypoints: bool = True) -> SubjectModel:
    """Count what the subject's photos show.  A photo's mask is used where the subject comes with one.

    Raises MissingExtraError where ``keypoints`` are wanted and cv2 is not installed.
    """
    photos = [shrunk(photo) for photo in subject.photos]
    masks = [
        None if mask is None else mask_resized(mask, photo.shape[:2])
        for photo, mask in zip(photos, subject.masks, strict=False)
    ]
    found = list(zip(photos, known_or_guessed(photos, masks), strict=True))
    marks = [points.described(photo, mask) if keypoints else points.NONE for photo, mask in found]
    own, other = _patches(found, balance)
    colour, around = _histograms(found, balance)
    chroma, _ = _histograms(found, "chromaticity")
    texture, texture_around = _textures(found, balance)
    return SubjectModel(
        colour=colour,
        around=around,
        chroma=chroma,
        bands=np.mean([banded(codes(photo, balance), mask, balance) for photo, mask in found], axis=0),
        texture=texture,
        texture_around=texture_around,
        own=own,
        other=other,
        outlines=np.array([outline(mask) for _, mask in found], dtype=np.float32),
        counts=np.array([len(places) for places, _ in marks], dtype=np.float32),
        places=np.concatenate([places for places, _ in marks]),
        descriptors=np.concatenate([descriptors for _, descriptors in marks]),
    )


def banded(
    found: np.ndarray, mask: Bool[np.ndarray, "h w"], balance: str, bands: int = BANDS
) -> Float32[np.ndarray, "b c"]:
    """The colours of a region's layers from top to bottom, each of the same height."""
    rows = np.flatnonzero(mask.any(axis=1))
    edges = np.linspace(rows[0], rows[-1] + 1, bands + 1).round().astype(int)
    shares = []
    for top, bottom in itertools.pairwise(edges):
        shares.append(histogram(found[top:bottom], mask[top:bottom].astype(np.float32), shape_of(balance)))
    return np.stack(shares)


def outline(mask: Bool[np.ndarray, "h w"]) -> tuple[float, float]:
    """Height over width of the smallest box, and the share of it that is filled."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    h, w = float(rows[-1] - rows[0] + 1), float(columns[-1] - columns[0] + 1)
    return h / w, float(mask.sum()) / (h * w)


Views = Sequence[tuple[UInt8[np.ndarray, "_ _ 3"], Bool[np.ndarray, "_ _"]]]


def _histograms(found: Views, balance: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the subject and of what is around it, the mean over photos."""
    inside, outside = [], []
    for photo, mask in found:
        each = codes(photo, balance)
        inside.append(histogram(each, mask.astype(np.float32), shape_of(balance)))
        outside.append(histogram(each, (~mask).astype(np.float32), shape_of(balance)))
    return np.mean(inside, axis=0), np.mean(outside, axis=0)


def _textures(found: Views, balance: str) -> tuple[np.ndarray, np.ndarray]:
    inside, outside = [], []
    for photo, mask in found:
        each = texture_codes(photo, balance)
        inside.append([histogram(code, mask.astype(np.float32), BINS, 0.0) for code in each])
        outside.append([histogram(code, (~mask).astype(np.float32), BINS, 0.0) for code in each])
    assert len(inside[0]) == len(SIGMAS)
    return np.mean(inside, axis=0), np.mean(outside, axis=0)


def _patches(found: Views, balance: str) -> tuple[np.ndarray, np.ndarray]:
    own, other = [], []
    for photo, mask in found:
        h, w = mask.shape
        for scale in SCALES:
            size_hw = max(round(h * scale), 8), max(round(w * scale), 8)
            small = mask_resized(mask, size_hw)
            seen = describe(resized(photo, size_hw) if scale < 1 else photo, balance)[::2, ::2]
            own.append(seen[small[::2, ::2]])
            other.append(seen[~ndimage.binary_dilation(small, iterations=2)[::2, ::2]])
    return thinned(np.concatenate(own), PATCHES), thinned(np.concatenate(other), PATCHES)
