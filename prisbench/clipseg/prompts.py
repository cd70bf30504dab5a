"""What CLIPSeg is asked with instead of a query: a photo of the subject, or a description of it.

Knows: photos, masks, colours by their names.  Does not know: models, queries.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

from prisbench.network_free.colour_words import likeness_to
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.foreground import known_or_guessed
from prisbench.types import Subject

MARGIN = 1.5
"""The prompt is a square of so many times the longer side of the mask's box, as far as the photo goes."""

DARK, BLUR = 0.1, 2.0
"""What is not the subject keeps so much of its light, and is blurred by so many pixels: with the crop, the best visual
prompt of the paper (section 4.1 and figure 3)."""


def visual_prompt(
    photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None
) -> UInt8[np.ndarray, "a b 3"]:
    """The subject large and light in a blurred, dark surrounding; the whole photo where no mask says where it is."""
    if mask is None or not mask.any():
        return photo
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    half = MARGIN * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) / 2
    y, x = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    place = (
        slice(max(int(y - half), 0), min(int(y + half) + 1, mask.shape[0])),
        slice(max(int(x - half), 0), min(int(x + half) + 1, mask.shape[1])),
    )
    sharp = photo[place]
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(BLUR)), np.float32) * DARK
    return np.where(mask[place][..., None], sharp, blurred.round()).astype(np.uint8)


BASIC = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "white", "grey", "black")
"""The colours of a description: the eleven basic terms of English (Berlin and Kay 1969), and teal."""

SECOND = 0.2
"""The share of the subject's pixels from which on its second colour is told."""


def views(subject: Subject) -> list[tuple[UInt8[np.ndarray, "_ _ 3"], Bool[np.ndarray, "_ _"]]]:
    """Each photo with its mask; one that has none is divided by what the photos share (``network_free.foreground``)."""
    small = [shrunk(photo) for photo in subject.photos]
    given = [
        None if mask is None else mask_resized(mask, photo.shape[:2])
        for photo, mask in zip(small, subject.masks, strict=False)
    ]
    masks = known_or_guessed(small, given)
    return [(photo, mask_resized(mask, photo.shape[:2])) for photo, mask in zip(subject.photos, masks, strict=True)]


def visual_prompts(subject: Subject) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """One of each photo."""
    return [visual_prompt(photo, mask) for photo, mask in views(subject)]


def description(subject: Subject) -> str:
    """The class word with the colours that the photos show: "red mug", "red and white mug".

    It is counted, not written by a person: the nearest basic colour of each pixel of the subject, all photos alike.
    """
    shares = np.mean([colour_shares(shrunk(photo), mask) for photo, mask in views(subject)], axis=0)
    first, second = np.argsort(-shares, kind="stable")[:2]
    words = [BASIC[first], *(["and", BASIC[second]] if shares[second] >= SECOND else [])]
    return " ".join([*words, subject.noun])


def colour_shares(photo: UInt8[np.ndarray, "a b 3"], mask: Bool[np.ndarray, "_ _"]) -> np.ndarray:
    """The share of the subject's pixels whose nearest colour is each of ``BASIC``."""
    region = mask_resized(mask, (photo.shape[0], photo.shape[1]))
    nearest = np.argmax([likeness_to(photo, word) for word in BASIC], axis=0)
    return np.bincount(nearest[region], minlength=len(BASIC)) / max(int(region.sum()), 1)
