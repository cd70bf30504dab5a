"""The colours of label PNGs against VOC's colour map and against one another.

A mask of mode P has numbers and colours.  ``Image.quantize``, ``convert("P", palette=ADAPTIVE)`` and programs that make
PNGs smaller number the colours anew: the mask looks the same and holds other labels.  What the colours still say is
compared here.

Knows: palettes and the labels that are used.  Does not know: files, what classes are called.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

CLOSE = 8
"""Levels a channel may differ in the same colour: some quantizers round.  VOC's first 64 colours are 64 apart."""

CURE = "save the labels themselves as grey (mode L), or with VOC's colours in their order"


def contradiction(
    colours: UInt8[np.ndarray, "n 3"], used: Sequence[int], standard: UInt8[np.ndarray, "256 3"], classes: int
) -> str | None:
    """Why a palette contradicts its labels, as the end of a sentence; None when it does not.

    ``used``: the labels in the mask.  It does when a label below 255 is shown in VOC's colour (``standard``) of another
    label, one of the classes or void; and when a label is shown in black while 0 has another colour.  A grey ramp and
    colours of one's own say nothing.  255 is left alone, and so is black besides a black 0: many programs write the
    colours of the classes only, and the rest of the palette is black.
    """
    if _is_ramp(colours):
        return None
    void = len(standard) - 1
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
    """One palette for all files of a folder: every label has one colour, and every colour one label."""

    def __init__(self) -> None:
        self._of_label: dict[int, tuple[UInt8[np.ndarray, "3"], str]] = {}

    def disagreement(self, name: str, colours: UInt8[np.ndarray, "n 3"] | None, used: Sequence[int]) -> str | None:
        """How a file's palette disagrees with those before it, as the end of a sentence; None when it does not.

        Grey files and grey ramps have no colours to compare.
        """
        if colours is None or _is_ramp(colours):
            return None
        for label in used:
            if label >= len(colours):
                continue
            known = self._of_label.setdefault(label, (colours[label], name))
            if label < 255 and not _same(known[0], colours[label]):
                return (
                    f"shows label {label} in {_said(colours[label])}, {known[1]} in {_said(known[0])}: "
                    f"one of their palettes was numbered anew; {CURE}"
                )
            for other, (colour, first) in list(self._of_label.items()):
                moved = other != label and other < len(colours) and not _same(colours[other], colour)
                if moved and max(other, label) < 255 and _same(colour, colours[label]):
                    return (
                        f"shows {_said(colours[label])} for label {label}, {first} for label {other}: "
                        f"one of their palettes was numbered anew; {CURE}"
                    )
        return None


def _same(one: UInt8[np.ndarray, "3"], other: UInt8[np.ndarray, "3"]) -> bool:
    return bool((np.abs(one.astype(int) - other.astype(int)) <= CLOSE).all())


def _is_ramp(colours: UInt8[np.ndarray, "n 3"]) -> bool:
    return bool((colours == np.arange(len(colours))[:, None]).all())


def _said(colour: UInt8[np.ndarray, "3"]) -> str:
    return "({}, {}, {})".format(*colour.tolist())
