"""The colours of label PNGs against VOC's colour map and against one another.

A mask of mode P has numbers and colours.  ``Image.quantize``, ``convert("P", palette=ADAPTIVE)``
and programs that make PNGs smaller number the colours anew: the mask looks the same and holds
other labels.  What the colours still say is compared here.

Knows: palettes and the labels that are used.  Does not know: files, what classes are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image

CLOSE = 8
"""Levels a channel may differ in the same colour: some quantizers round.

VOC's first 64 colours are 64 apart."""

CURE = "save the labels themselves as grey (mode L), or with VOC's colours in their order"


def contradiction(
    colours: UInt8[np.ndarray, "n 3"], used: Sequence[int], standard: UInt8[np.ndarray, "256 3"], classes: int
) -> str | None:
    """Why a palette contradicts its labels, as the end of a sentence; None when it does not.

    ``used``: the labels in the mask.  It does when a label below 255 is shown in VOC's colour
    (``standard``) of another label, one of the classes or void; when a label is shown in black
    while 0 has another colour; and when all labels have the colours of Pillow's ``convert("P")``,
    which takes the nearest of a fixed palette.  A grey ramp and colours of one's own say nothing.
    255 is left alone, and so is black besides a black 0: many programs write the colours of the
    classes only, and the rest of the palette is black.
    """
    if _is_ramp(colours):
        return None
    void = len(standard) - 1
    shown = [label for label in used if 0 < label < min(void, len(colours))]
    if shown and all(colours[label].any() and (colours[label] == _web()[label]).all() for label in shown):
        return f'has the web palette of Pillow\'s convert("P"), which knows no labels; {CURE}'
    known = [*range(min(classes, void)), void]
    for label in used:
        if label == void or label >= len(colours) or _same(colours[label], standard[label]):
            continue
        if not colours[label].any():
            if colours[0].any():
                return (
                    f"shows label {label} in black and 0 in {_said(colours[0])}: its palette was numbered anew; {CURE}"
                )
            continue
        near = next((other for other in known if _same(colours[label], standard[other])), None)
        if near is not None:
            meant = "void" if near == void else "the background" if near == 0 else f"label {near}"
            return (
                f"shows label {label} in {_said(colours[label])}, VOC's colour of {meant}: its palette was numbered "
                f"anew; {CURE}"
            )
    return None


class SharedPalette:
    """One palette for all files of a folder: every label has one
    colour, and every colour one label.
    """

    def __init__(self, truth: SharedPalette | None = None) -> None:
        """``truth``: that of true masks, in which a colour must not be another label's, though
        labels may have others: predictions are often saved with VOC's colours, whatever the
        truth's are.
        """
        self._truth = truth
        self._of_label: dict[int, tuple[UInt8[np.ndarray, "3"], str]] = {}
        self._known: dict[bytes, set[int]] = {}

    def disagreement(self, name: str, colours: UInt8[np.ndarray, "n 3"] | None, used: Sequence[int]) -> str | None:
        """How a file's palette disagrees with those before it, as the end of a sentence; None when
        it does not.

        Grey files and grey ramps have no colours to compare, and void (255) may have any.
        """
        if colours is None or _is_ramp(colours):
            return None
        known = self._known.setdefault(colours.tobytes(), set())
        new = [label for label in used if label < min(255, len(colours)) and label not in known]
        for label in new:
            first, where = self._of_label.setdefault(label, (colours[label], name))
            if not _same(first, colours[label]):
                return f"shows label {label} in {_said(colours[label])}, {where} in {_said(first)}: {_ANEW}"
            for others in filter(None, (self, self._truth)):
                if why := others._moved(label, colours):
                    return why
        known.update(new)
        return None

    def _moved(self, label: int, colours: UInt8[np.ndarray, "n 3"]) -> str | None:
        """Where the colour of a label is another label's, which has another colour here."""
        for other, (colour, where) in list(self._of_label.items()):
            if other == label or not _same(colour, colours[label]):
                continue
            if other < len(colours) and not _same(colours[other], colour):
                return f"shows {_said(colours[label])} for label {label}, {where} for label {other}: {_ANEW}"
        return None


_ANEW = f"one of their palettes was numbered anew; {CURE}"


def _same(one: UInt8[np.ndarray, "3"], other: UInt8[np.ndarray, "3"]) -> bool:
    return bool((np.abs(one.astype(int) - other.astype(int)) <= CLOSE).all())


def _is_ramp(colours: UInt8[np.ndarray, "n 3"]) -> bool:
    return bool((colours == np.arange(len(colours))[:, None]).all())


@lru_cache(maxsize=1)
def _web() -> UInt8[np.ndarray, "256 3"]:
    """The palette that Pillow gives an RGB image without being told another."""
    colours = np.zeros((256, 3), np.uint8)
    given = Image.new("RGB", (1, 1)).convert("P").getpalette("RGB") or []
    colours[: len(given) // 3] = np.array(given, np.uint8).reshape(-1, 3)
    return colours


def _said(colour: UInt8[np.ndarray, "3"]) -> str:
    return "({}, {}, {})".format(*colour.tolist())
