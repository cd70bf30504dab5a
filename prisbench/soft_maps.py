"""Average precision of a soft map, for methods that have one: shown with a mark, never ranked, since a mask is what the
task wants and most methods give nothing else.

Knows: maps of 0 to 255, and their files.  Does not know: how a method makes them, thresholds.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from prisbench.errors import DataError
from prisbench.runtime.files import read_bytes, write_bytes

RANKED = False
"""Whether a table may order methods by it."""


def quantised(score: Float[np.ndarray, "h w"], where: str = "the soft map") -> UInt8[np.ndarray, "h w"]:
    """A map of 0..1 in 256 steps: 255 times the value, rounded, halves to even.  Raises DataError outside of 0..1."""
    if not ((score >= 0) & (score <= 1)).all():
        raise DataError(f"{where} has values outside 0..1 (from {score.min()} to {score.max()}); scale it first")
    return np.rint(score * 255).astype(np.uint8)


def soft_average_precision(score_u8: UInt8[np.ndarray, "h w"], truth: Bool[np.ndarray, "h2 w2"]) -> float | None:
    """Average precision of the pixels of one map, by a histogram; None for an empty truth.

    Pixels are taken from the highest value down, equal ones together: the sum over values of (recall there - recall
    before) * precision there.  Exact but for one rounding a term.

    Raises DataError when the sizes differ.
    """
    if score_u8.shape != truth.shape:
        raise DataError(f"the soft map is {score_u8.shape} (h, w), the truth {truth.shape}; resize it first")
    total = int(np.count_nonzero(truth))
    if not total:
        return None
    inside = np.bincount(score_u8[truth], minlength=256)[::-1]
    taken = np.bincount(score_u8.ravel(), minlength=256)[::-1].cumsum()
    hits = inside.cumsum()
    return math.fsum(
        int(step) * int(hit) / (total * int(all_)) for step, hit, all_ in zip(inside, hits, taken, strict=True) if step
    )


def write_map(score: Float[np.ndarray, "h w"], path: Path) -> None:
    """Keep a map of 0..1 as a grey PNG.  Raises DataError outside of 0..1, WriteError."""
    out = io.BytesIO()
    Image.fromarray(quantised(score, str(path))).save(out, format="PNG")
    write_bytes(path, out.getvalue())


def read_map(path: Path) -> UInt8[np.ndarray, "h w"]:
    """A map that ``write_map`` kept.  Raises DataError for what is no grey 8-bit PNG."""
    try:
        with Image.open(io.BytesIO(read_bytes(path)), formats=["PNG"]) as image:
            if image.mode != "L":
                raise DataError(f"{path} is no soft map: a PNG of mode {image.mode!r}, expected 8-bit grey")
            return np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no soft map, or damaged ({error}); remove it or run again") from None
