"""A 64-bit hash of how an image looks: near-identical images get near-identical hashes, whatever file they came from.

Knows: pixels to bits, also those of the mirrored and turned image.  Does not know: which distance makes a duplicate
(``leaks``), files, rows.

The DCT hash of Christoph Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section
3.2.1: brightness, reduced to 32 x 32, its discrete cosine transform, of that the 8 x 8 lowest frequencies without the
zeroth row and column, each a bit: is it above their median?  One departure: the image is reduced by area, each cell the
exact mean of what it covers, where Zauner smooths with a 7 x 7 box and then samples; on photos of many sizes a box of
fixed size would make the hash depend on the resolution.

The same on every platform: all is done in integers (luma, areas, cosines rounded to 14 bits, the median of an even
count doubled), or in float64 on integers below 2**53, where a sum has no rounding and so no order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Num, UInt8, UInt64

from prisbench.images.arrays import ImageLike, as_image

CELLS = 32
"""The side of the reduced image."""

_FREQUENCIES = np.arange(1, 9)

_ANGLES = np.pi / (2 * CELLS) * np.outer(_FREQUENCIES, 2 * np.arange(CELLS) + 1)

COSINES = np.rint(2**14 * np.cos(_ANGLES)).astype(np.int64)
"""DCT-II in units of 2**-14: one row per kept frequency.  None lies within 0.01 of a half before it is rounded, so
every platform has the same integers."""

_STRIP = 2**20
"""Pixels that are turned to brightness at a time."""

_ODD = 1 - 2 * (_FREQUENCIES % 2)
"""What mirroring does to a frequency's coefficient: the odd ones change sign."""

TURNS: dict[str, Callable[[UInt8[np.ndarray, "_h _w *_c"]], UInt8[np.ndarray, "_h2 _w2 *_c"]]] = {
    "as it is": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "turned to the left": lambda image: np.rot90(image),
    "turned to the right": lambda image: np.rot90(image, -1),
    "mirrored and turned to the left": lambda image: np.rot90(image[:, ::-1]),
    "mirrored and turned to the right": lambda image: np.rot90(image[:, ::-1], -1),
}
"""The eight ways to lay a picture on a table, and how to do each to an ``h w`` or ``h w 3`` image."""


def perceptual_hash(image: ImageLike) -> str:
    """16 hexadecimal digits; the first bit is the lowest frequency, row by row.  A picture of one colour gives 0s."""
    return _digits(_coefficients(as_image(image)))


def turned_hashes(image: ImageLike) -> dict[str, str]:
    """The hashes of the image laid in each of the ``TURNS``, exactly as ``perceptual_hash`` of the turned pixels.

    Turning an image only changes signs of coefficients or swaps their axes, so this costs one transform.
    """
    straight = _coefficients(as_image(image))
    mirrored = straight * _ODD
    left = straight.T * _ODD[:, None]  # np.rot90 is a transposition, then upside down
    mirrored_left = mirrored.T * _ODD[:, None]
    turned = [
        straight,
        mirrored,
        straight * _ODD[:, None],
        mirrored * _ODD[:, None],
        left,
        straight.T * _ODD,
        mirrored_left,
        mirrored.T * _ODD,
    ]
    return {name: _digits(coefficients) for name, coefficients in zip(TURNS, turned, strict=True)}


def hamming(a: str, b: str) -> int:
    """In how many of the 64 bits two hashes differ.  Raises ValueError when one is not hexadecimal."""
    return (int(a, 16) ^ int(b, 16)).bit_count()


def bits_of(coefficients: Num[np.ndarray, "n 8 8"]) -> UInt64[np.ndarray, " n"]:
    """The hash of each block of coefficients: which are above their median, the first in the highest bit."""
    flat = coefficients.reshape(-1, 64)
    twice_the_median = np.sort(flat, axis=1)[:, 31:33].sum(axis=1, keepdims=True)
    return np.packbits(2 * flat > twice_the_median, axis=1).view(">u8").reshape(-1).astype(np.uint64)


def weighted_luma(
    image: UInt8[np.ndarray, "h w 3"], rows: Float[np.ndarray, "m h"], columns: Float[np.ndarray, "n w"]
) -> Float[np.ndarray, "m n"]:
    """``rows @ luma @ columns.T``, where luma is ITU-R BT.601's, in thousandths of a grey level, a strip at a time."""
    h, w = image.shape[:2]
    sums = np.zeros((len(rows), len(columns)))
    strip = max(1, _STRIP // w)
    for top in range(0, h, strip):
        red, green, blue = np.moveaxis(image[top : top + strip].astype(np.float64), 2, 0)
        sums += rows[:, top : top + strip] @ ((299 * red + 587 * green + 114 * blue) @ columns.T)
    return sums


def _coefficients(image: UInt8[np.ndarray, "h w 3"]) -> Int[np.ndarray, "8 8"]:
    """The low frequencies of the brightness, rows vertical; at most 56 bits each."""
    h, w = image.shape[:2]
    # Whole numbers, and below 2**53 for images of up to 35 thousand million pixels: no sum is rounded.
    sums = weighted_luma(image, _overlaps(h), _overlaps(w)).astype(np.int64)
    cells = (2 * sums + h * w) // (2 * h * w)
    return COSINES @ cells @ COSINES.T


def _overlaps(n: int) -> Float[np.ndarray, "32 n"]:
    """How much of each of ``n`` pixels lies in each of the 32 cells, in 32nds of a pixel; each row sums to ``n``."""
    cells, pixels = np.arange(CELLS)[:, None] * n, np.arange(n)[None] * CELLS
    both = np.minimum(cells + n, pixels + CELLS) - np.maximum(cells, pixels)
    return np.maximum(both, 0).astype(np.float64)


def _digits(coefficients: Int[np.ndarray, "8 8"]) -> str:
    return f"{int(bits_of(coefficients[None])[0]):016x}"
