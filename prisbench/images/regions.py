"""A mask as the box around it and the pixels in the box: what is counted of masks costs what they cover, not the
size of the scene.

Every function gives the number that the full-size masks give, exactly.

Knows: boxes, overlaps.  Does not know: what a mask is of (``counts``), outlines (``outlines``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool

from prisbench.images.arrays import MaskLike, as_mask
from prisbench.images.masks import runs_of

Maskish: TypeAlias = MaskLike | Mapping[str, Any]
"""A mask in any of its forms: a boolean array, a Pillow image of mode "1", a COCO RLE."""


@dataclass(frozen=True, eq=False)
class Region:
    """A mask in a frame of ``size_hw``: all its pixels lie in the box at (``top``, ``left``), as large as ``pixels``.

    The box is the smallest one; an empty mask has one of 0 x 0 at (0, 0).
    """

    size_hw: tuple[int, int]
    top: int
    left: int
    pixels: Bool[np.ndarray, "rows columns"]
    area: int

    def holds(self, yx: tuple[int, int]) -> bool:
        """Whether a pixel of the frame is in the mask."""
        y, x = yx[0] - self.top, yx[1] - self.left
        h, w = self.pixels.shape
        return 0 <= y < h and 0 <= x < w and bool(self.pixels[y, x])


def region(mask: Maskish, where: str = "mask") -> Region:
    """The region of a mask.  Raises DataError, naming ``where``, for what is no mask (``as_mask``, ``from_rle``)."""
    if isinstance(mask, Mapping):
        return _of_runs(*runs_of(mask, where))
    pixels = as_mask(mask, where)
    h, w = pixels.shape
    return _tight((h, w), 0, 0, pixels)


def nothing(size_hw: tuple[int, int]) -> Region:
    """The empty mask of a frame."""
    return Region(size_hw, 0, 0, np.zeros((0, 0), dtype=bool), 0)


def overlap(a: Region, b: Region) -> int:
    """How many pixels two masks of one frame share."""
    common = shared_box(a, b)
    return 0 if common is None else int(np.count_nonzero(common[0] & common[1]))


def shared_box(a: Region, b: Region) -> tuple[Bool[np.ndarray, "r c"], Bool[np.ndarray, "r c"]] | None:
    """The pixels of two masks in what their boxes share (views); None when they share nothing."""
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.pixels.shape[0], b.top + b.pixels.shape[0])
    right = min(a.left + a.pixels.shape[1], b.left + b.pixels.shape[1])
    if bottom <= top or right <= left:
        return None
    one, two = (
        each.pixels[top - each.top : bottom - each.top, left - each.left : right - each.left] for each in (a, b)
    )
    return one, two


def overlap_outside(a: Region, others: Sequence[Region], but: Region) -> int:
    """How many pixels of ``a`` lie in any of the others and not in ``but``."""
    covered = np.zeros_like(a.pixels)
    for other in others:
        if (common := shared_box(Region(a.size_hw, a.top, a.left, covered, 0), other)) is not None:
            np.logical_or(common[0], common[1], out=common[0])
    if (common := shared_box(Region(a.size_hw, a.top, a.left, covered, 0), but)) is not None:
        np.greater(common[0], common[1], out=common[0])
    return int(np.count_nonzero(covered & a.pixels))


def _of_runs(size_hw: tuple[int, int], runs: np.ndarray) -> Region:
    """Decodes the columns between the first and the last pixel alone."""
    h, _ = size_hw
    filled = np.flatnonzero(runs[1::2])
    if not len(filled):
        return nothing(size_hw)
    ends = runs.cumsum()
    first, last = 2 * int(filled[0]) + 1, 2 * int(filled[-1]) + 1
    left, right = int(ends[first - 1]) // h, (int(ends[last]) - 1) // h + 1
    lengths = np.append(runs[first - 1 : last + 1], right * h - ends[last])  # and what is left of the last column
    lengths[0] = ends[first - 1] - left * h
    values = np.zeros(len(lengths), dtype=bool)
    values[1::2] = True
    columns = np.repeat(values, lengths).reshape(right - left, h)
    rows = np.flatnonzero(columns.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return Region(size_hw, top, left, np.ascontiguousarray(columns[:, top:bottom].T), int(runs[1::2].sum()))


def _tight(size_hw: tuple[int, int], top: int, left: int, pixels: np.ndarray) -> Region:
    """Cuts pixels that stand at (``top``, ``left``) to the smallest box."""
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return nothing(size_hw)
    box = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = np.ascontiguousarray(box)
    return Region(size_hw, top + int(rows[0]), left + int(columns[0]), box, int(np.count_nonzero(box)))


def iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union of two masks of one size, 0..1; 0 for two empty ones."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def distinct(masks: Sequence[Bool[np.ndarray, "h w"]], same: float, most: int | None = None) -> list[int]:
    """The places of masks that overlap with no earlier kept one by ``same`` (intersection over union) or more.

    ``most``: so many are kept.
    """
    kept: list[int] = []
    for place, mask in enumerate(masks):
        if len(kept) == most:
            break
        if all(iou(mask, masks[other]) < same for other in kept):
            kept.append(place)
    return kept
