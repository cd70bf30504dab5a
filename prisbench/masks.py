"""The only place where a mask changes form: run lengths, PNG, another size.

Masks are boolean arrays, ``h w``.  COCO RLE is column-major; ``counts`` leave as ASCII text, so they fit JSON.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image
from pycocotools import mask as coco

from prisbench.errors import DataError


def to_rle(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    """Compressed COCO RLE ``{"size": [h, w], "counts": str}``."""
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def from_rle(rle: Any, where: str = "mask") -> Bool[np.ndarray, "h w"]:
    """The mask behind a COCO RLE.

    Raises DataError, naming ``where``, when the record is not an RLE or its runs do not fill its size.
    """
    try:
        h, w = (int(n) for n in rle["size"])
        counts = rle["counts"]
        raw = counts.encode("ascii") if isinstance(counts, str) else bytes(counts)
    except (KeyError, TypeError, ValueError, UnicodeEncodeError) as error:
        raise DataError(f"{where}: not a COCO RLE ({error!r}); expected {{'size': [h, w], 'counts': text}}") from None
    if h <= 0 or w <= 0 or h * w > 2**31 or _total(raw) != h * w:
        raise DataError(f"{where}: the RLE's runs do not add up to its size {h} x {w}; the record is corrupt")
    return np.asarray(coco.decode({"size": [h, w], "counts": raw})).astype(bool)


def _total(raw: bytes) -> int:
    """Sum of the runs of a compressed RLE; -1 when malformed.  (The C decoder writes out of bounds on bad input.)"""
    total, runs, at = 0, list[int](), 0
    while at < len(raw):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(raw) or shift > 60:
                return -1
            byte = raw[at] - 48
            if not 0 <= byte < 64:
                return -1
            value |= (byte & 0x1F) << shift
            more = bool(byte & 0x20)
            at, shift = at + 1, shift + 5
            if not more and byte & 0x10:
                value |= -1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            return -1
        runs.append(value)
        total += value
    return total


def to_png(mask: Bool[np.ndarray, "h w"]) -> bytes:
    """A grey PNG with 0 and 255."""
    out = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(out, format="PNG")
    return out.getvalue()


def resize_mask(mask: Bool[np.ndarray, "h w"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "h2 w2"]:
    """Nearest neighbour, so a mask stays a mask."""
    h, w = size_hw
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.resize((w, h), Image.Resampling.NEAREST)) > 127
