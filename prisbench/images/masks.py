"""The only place where a mask changes form: run lengths, PNG, another size.

Masks are boolean arrays, ``h w``; functions take any that ``arrays.as_mask`` takes.  COCO RLE is
column-major; ``counts`` leave as ASCII text, so they fit JSON.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64
from PIL import Image
from pycocotools import mask as coco

from prisbench.errors import DataError
from prisbench.images.arrays import MaskLike, as_mask

MOST_PIXELS = 2**29
"""More than any photo has; what RLE's numbers of six characters can count."""


def to_rle(mask: MaskLike) -> dict[str, Any]:
    """Compressed COCO RLE ``{"size": [h, w], "counts": str}``."""
    rle = coco.encode(np.asfortranarray(as_mask(mask).astype(np.uint8)))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def from_rle(rle: Any, where: str = "mask") -> Bool[np.ndarray, "h w"]:
    """The mask behind a COCO RLE.

    Raises DataError, naming ``where``, when the record is not an RLE or its runs do not fill its size.
    """
    (h, w), raw, _ = _checked(rle, where)
    return np.asarray(coco.decode({"size": [h, w], "counts": raw})).astype(bool)


def runs_of(rle: Any, where: str = "mask") -> tuple[tuple[int, int], Int64[np.ndarray, " runs"]]:
    """The size ``(h, w)`` of a COCO RLE and the lengths of its runs, outside and inside by turns, column after column.

    Raises DataError as ``from_rle``.
    """
    size_hw, _, runs = _checked(rle, where)
    return size_hw, runs


def _checked(rle: Any, where: str) -> tuple[tuple[int, int], bytes, Int64[np.ndarray, " runs"]]:
    """Size, text and run lengths of an RLE that is sound."""
    try:
        h, w = (int(n) for n in rle["size"])
        counts = rle["counts"]
        raw = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except (KeyError, TypeError, ValueError, UnicodeEncodeError) as error:
        raise DataError(f"{where}: not a COCO RLE ({error!r}); expected {{'size': [h, w], 'counts': text}}") from None
    runs = _runs(raw)
    if h <= 0 or w <= 0 or h * w > MOST_PIXELS or runs is None or int(runs.sum()) != h * w:
        raise DataError(f"{where}: the RLE's runs do not add up to its size {h} x {w}; the record is corrupt")
    return (h, w), raw, runs


def _runs(raw: bytes) -> Int64[np.ndarray, " runs"] | None:
    """The runs of a compressed RLE; None when malformed.  (The C decoder writes out of bounds on bad input.)

    A run is written in groups of five bits, lowest first, with a sixth bit while more follow; from the fourth run on,
    as the difference to the run before the last.
    """
    groups = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not len(groups):
        return groups
    last = (groups & 0x20) == 0
    if groups.min() < 0 or groups.max() >= 64 or not last[-1]:
        return None
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    if lengths.max() > 5:  # thirty bits hold any run; pycocotools reads longer numbers in ways of its own
        return None
    place = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths + 1))
    runs = np.add.reduceat((groups & 0x1F) << place, starts)
    runs -= np.where(groups[ends] & 0x10, np.int64(1) << (place[ends] + 5), 0)
    for start in (1, 2):
        runs[start::2] = runs[start::2].cumsum()
    return None if runs.min() < 0 else runs


def mask_sha256(mask: MaskLike) -> str:
    """64 hexadecimal digits of the shape and the pixels."""
    mask = as_mask(mask)
    h, w = mask.shape
    return hashlib.sha256(f"{h} {w}\n".encode("ascii") + np.packbits(mask).tobytes()).hexdigest()


def to_png(mask: MaskLike) -> bytes:
    """A grey PNG with 0 and 255."""
    out = io.BytesIO()
    Image.fromarray(as_mask(mask).astype(np.uint8) * 255).save(out, format="PNG")
    return out.getvalue()


def resize_mask(mask: MaskLike, size_hw: tuple[int, int]) -> Bool[np.ndarray, "h2 w2"]:
    """Nearest neighbour, so a mask stays a mask."""
    h, w = size_hw
    image = Image.fromarray(as_mask(mask).astype(np.uint8) * 255)
    return np.asarray(image.resize((w, h), Image.Resampling.NEAREST)) > 127
