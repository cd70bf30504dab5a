"""What the PNG of a mask holds: its numbers, how bright they are, and whether numbers and looks contradict each other.

Knows: channels, alpha, palettes.  Does not know: which of the numbers are the thing (``mask_files``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image

from prisbench.datasets.sources.reading.images import PngFile, grey_or_index, kind_of_png
from prisbench.errors import DataError


class Levels(NamedTuple):
    """The numbers in a file and the largest there could be.

    ``grey``: how bright they are, 0..top; None in colour.  ``conflict``: where a palette's numbers and looks contradict
    each other, as the end of a sentence.
    """

    numbers: Int[np.ndarray, "h w"]
    top: int
    grey: Int[np.ndarray, "h w"] | None
    conflict: str | None = None


def levels_of(png: PngFile, name: str) -> Levels:
    """The levels of a PNG in grey, in grey saved as colour, or with a palette.

    Raises DataError, calling the file ``name``, where colours or transparency leave open which pixels are meant.
    """
    image, bits = png.image, png.bits
    if image.mode in ("RGB", "RGBA", "LA"):
        if bits != 8:
            raise DataError(f"{name} is {kind_of_png(image, bits)}; save it as grey, or with 8 bits")
        numbers = _grey_of(np.array(image), image.mode in ("RGBA", "LA"), name)
        return Levels(numbers, 255, numbers)
    labels = grey_or_index(image, bits, name)
    if image.mode != "P":
        return Levels(labels, 1 if image.mode == "1" else 2**bits - 1, labels)
    alpha = _alpha_alone(image)
    if alpha is not None:
        return Levels(alpha, 255, alpha)
    colours = _palette(image)
    used = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    if (colours[used] == colours[used, :1]).all():
        return Levels(labels, 255, colours[:, 0].astype(np.int32)[labels], _palette_conflict(image, labels))
    return Levels(labels, 255, None, _palette_conflict(image, labels))


def coloured_levels(png: PngFile, name: str) -> Levels:
    """As ``levels_of``, for things painted on black in any one colour: its largest channel is the level."""
    if png.bits == 8 and png.image.mode in ("RGB", "RGBA"):
        colours = np.array(png.image)[:, :, :3]
        numbers = colours.max(axis=2).astype(np.int32)
        full = colours[numbers == numbers.max()]
        if (full != full[0]).any():
            both = np.unique(full, axis=0)[:2].tolist()
            raise DataError(f"{name} has things in the colours {tuple(both[0])} and {tuple(both[1])}; save one of them")
        return Levels(numbers, 255, numbers)
    return levels_of(png, name)


def _palette_conflict(image: Image.Image, labels: Int[np.ndarray, "h w"]) -> str | None:
    """Where the numbers and the looks of a palette image contradict each other, as the end of a sentence; else None.

    They do when index 0, by its number the background, is seen in a colour or in a lighter grey, and another index in
    black or in a darker grey.
    """
    colours = _palette(image)
    used = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    if 0 not in used or not colours[0].any():
        return None
    black = [int(n) for n in used if n and not colours[n].any()]
    if black:
        return f"index 0 in a colour and index {black[0]} in black"
    grey = [int(n) for n in used if n and len(set(colours[n].tolist())) == 1 and colours[n, 0] < colours[0, 0]]
    if grey and len(set(colours[0].tolist())) == 1:
        return f"index 0 in grey {colours[0, 0]} and index {grey[0]} in the darker grey {colours[grey[0], 0]}"
    return None


def _grey_of(channels: np.ndarray, has_alpha: bool, name: str) -> Int[np.ndarray, "h w"]:
    """Grey levels, or those of alpha where that is what was drawn with.

    Of any one colour on nothing, alpha is what was drawn.  Raises DataError for other colours, and where what
    is not black cannot be seen.
    """
    alpha = channels[:, :, -1].astype(np.int32) if has_alpha else None
    colours = channels[:, :, :-1] if has_alpha else channels
    shown = np.ones(colours.shape[:2], bool) if alpha is None else alpha > 0
    grey = colours[:, :, 0].astype(np.int32)
    wrong = (colours != colours[:, :, :1]).any(axis=2)
    drawn_by_alpha = alpha is not None and shown.any() and (alpha != alpha[0, 0]).any()
    if drawn_by_alpha and (colours[shown] == colours[shown][0]).all():
        return alpha  # type: ignore[return-value]
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise DataError(
            f"{name} is in colour ({tuple(int(n) for n in colours[y, x])} at x {x}, y {y}), so it does not say "
            "which pixels are meant; save black and white"
        )
    hidden = 0 if alpha is None else int(((grey > 0) & (alpha < 128)).sum())
    if hidden and (drawn_by_alpha or not shown.any()):
        raise DataError(
            f"{name} has {hidden} pixels that are not black but see-through, so it does not say which pixels are "
            "meant; save black and white without transparency"
        )
    return grey


def _alpha_alone(image: Image.Image) -> Int[np.ndarray, "h w"] | None:
    """The levels of alpha of a palette image that shows one colour, more or less of it; None for any other."""
    if "transparency" not in image.info:
        return None
    channels = np.array(image.convert("RGBA"))
    alpha = channels[:, :, 3].astype(np.int32)
    shown = channels[alpha > 0][:, :3]
    one = len(shown) > 0 and (shown == shown[0]).all() and (alpha != alpha[0, 0]).any()
    return alpha if one else None


def _palette(image: Image.Image) -> np.ndarray:
    """``256 3``: the colours of a palette image; black where it gives none."""
    colours = np.zeros((256, 3), np.uint8)
    given = np.array(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    colours[: len(given)] = given
    return colours
