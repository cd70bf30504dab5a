"""The qualitative grid: a row a query, with a photo of the subject, the truth, and the answers of a few methods.

Knows: examples and masks.  Does not know: who is ranked how, files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.figures.style import EXTRA, HIT, INK, MISSED, SOFT
from prisbench.images.drawing import outline
from prisbench.types import SLOT, Example

OPACITY = 0.62


class Row(NamedTuple):
    """A query: a photo of its subject, the class word, and each method's mask, None for "not here"."""

    example: Example
    noun: str
    photo: UInt8[np.ndarray, "h w 3"]
    answers: Mapping[str, Bool[np.ndarray, "_h _w"] | None]
    words: Mapping[str, str]


def grid(figure: Any, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Fill a figure; a column a method of ``names`` behind those of photo and truth."""
    heads = ["a photo", "truth", *names]
    axes = figure.subplots(len(rows), len(heads), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        pictures = [row.photo, painted(row.example, row.example.mask)]
        pictures += [painted(row.example, row.answers[name]) for name in names]
        for place, picture in zip(line, pictures, strict=True):
            place.imshow(picture, interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
            for spine in place.spines.values():
                spine.set_visible(False)
        line[1].set_xlabel(f"“{row.example.query.text.replace(SLOT, row.noun)}”", color=INK, fontsize="x-small")
        for place, name in zip(line[2:], names, strict=True):
            place.set_xlabel(row.words[name], color=SOFT, fontsize="x-small")
    for place, head in zip(axes[0], heads, strict=True):
        place.set_title(head, fontsize="small", color=INK)


def painted(example: Example, answer: Bool[np.ndarray, "_h _w"] | None) -> UInt8[np.ndarray, "h w 3"]:
    """The scene with an answer: on the referent, beside it and left out in three colours; look-alikes outlined."""
    image = example.image.astype(np.float32)
    mask = np.zeros_like(example.mask) if answer is None else answer
    kinds = ((mask & example.mask, HIT), (mask & ~example.mask, EXTRA), (~mask & example.mask, MISSED))
    for where, colour in kinds:
        image[where] = (1 - OPACITY) * image[where] + OPACITY * np.array(colour, np.float32)
    shown = image.round().astype(np.uint8)
    for other in example.look_alikes:
        shown = outline(shown, other, (255, 255, 255), fill=0)
    return shown
