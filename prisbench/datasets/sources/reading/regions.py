"""Polygons and run lengths to masks, or one line saying which record is none, and why.

Knows: the two forms in which COCO gives a region.  Does not know: which record belongs to what.

``where`` names the record in errors, like ``instances.json: annotation 12``.
"""

from __future__ import annotations

import math
import reprlib
from typing import Any

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as coco

from prisbench.errors import DataError
from prisbench.images.masks import from_rle

MOST_OUTLINE = 4_000_000
"""Pixels around one region.  COCO's rasteriser takes 40 bytes for each, and dies when it gets none."""


def polygons(parts: Any, size_hw: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """The pixels of a region given as COCO gives it: a list of polygons, each ``[x1, y1, x2, y2, ...]`` in pixels.

    What lies outside the image is cut off.  All false when a region is too thin for COCO's rasteriser.

    Raises DataError naming ``where`` when it is no list of such lists, a polygon has under three points, an odd count
    of numbers, one that is not finite, or a corner further outside than the image is large, and when the whole region
    lies outside of the image.
    """
    h, w = size_hw
    if not isinstance(parts, list) or not parts or not all(isinstance(part, list) for part in parts):
        raise DataError(f"{where}: {reprlib.repr(parts)} is no list of polygons ([x1, y1, x2, y2, ...] each)")
    outline, touches = 0.0, False
    for part in parts:
        corners = _corners(part, where)
        x, y = corners[:, 0], corners[:, 1]
        far = max(h, w)
        wrong = (x < -far) | (x > w + far) | (y < -far) | (y > h + far)
        if wrong.any():
            n = int(np.argmax(wrong))
            raise DataError(
                f"{where}: the corner ({x[n]:g}, {y[n]:g}) is far outside of the image of {h} x {w} (h x w)"
            )
        touches |= bool(x.min() < w and x.max() > 0 and y.min() < h and y.max() > 0)
        outline += float(np.abs(corners - np.roll(corners, -1, axis=0)).max(axis=1).sum())
    if not touches:
        raise DataError(f"{where}: its polygons lie outside of the image of {h} x {w} (h x w)")
    if outline > MOST_OUTLINE:
        raise DataError(
            f"{where}: its polygons are {outline:.0f} pixels long; {MOST_OUTLINE} are the most that is drawn"
        )
    merged = coco.merge(coco.frPyObjects([[float(n) for n in part] for part in parts], h, w))
    return np.asarray(coco.decode(merged)).astype(bool)


def rle(value: Any, size_hw: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """The mask behind a COCO run-length record ``{"size": [h, w], "counts": ...}``: counts as a list, or compressed.

    Raises DataError naming ``where`` when the record has another form, its size is not the image's, or its runs do not
    fill that size exactly.
    """
    h, w = size_hw
    if not isinstance(value, dict) or not isinstance(value.get("counts"), list | str | bytes):
        raise DataError(f"{where}: {reprlib.repr(value)} is no run-length record {{'size': [h, w], 'counts': ...}}")
    if not isinstance(value.get("size"), list | tuple) or list(value["size"]) != [h, w]:
        raise DataError(f"{where}: run lengths of size {reprlib.repr(value.get('size'))}, its image is {[h, w]} (h, w)")
    counts = value["counts"]
    if isinstance(counts, list):
        counts = [int(n) if isinstance(n, float) and n.is_integer() else n for n in counts]
        if not all(type(n) is int and 0 <= n <= h * w for n in counts) or sum(counts) != h * w:
            raise DataError(f"{where}: its run lengths do not add up to its size {h} x {w}; the record is corrupt")
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.array(counts, np.int64))
        return np.ascontiguousarray(flat.reshape(w, h).T)
    text = counts.decode("latin-1") if isinstance(counts, bytes) else counts
    if text.startswith(("b'", 'b"')):
        raise DataError(f"{where}: its counts are Python's way to print bytes (b'...'); write counts.decode() instead")
    return from_rle({"size": [h, w], "counts": text}, where)


def _corners(part: list[Any], where: str) -> np.ndarray:
    """``n 2`` corners, x y."""
    if not all(type(n) in (int, float) for n in part):
        odd = next(n for n in part if type(n) not in (int, float))
        raise DataError(f"{where}: a polygon holds {reprlib.repr(odd)}, which is no number")
    if len(part) % 2:
        raise DataError(f"{where}: a polygon of {len(part)} numbers; they come in pairs, x and y")
    if len(part) < 6:
        raise DataError(f"{where}: a polygon of {len(part) // 2} points; a region has at least 3")
    try:
        finite = all(math.isfinite(n) for n in part)
    except OverflowError:  # a whole number beyond what a float holds
        finite = False
    if not finite:
        raise DataError(f"{where}: a polygon holds a number that is not finite")
    return np.array(part, np.float64).reshape(-1, 2)
