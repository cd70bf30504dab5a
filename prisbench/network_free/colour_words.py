"""Colours by their English names: the only words of looks that are understood without a network.

Knows: names of colours, pixels.  Does not know: things, nouns.
"""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float32, UInt8

from prisbench.network_free.colours import balanced

WORDS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((200, 30, 30), (140, 20, 25)),
    "orange": ((240, 130, 30), (200, 100, 20)),
    "yellow": ((240, 215, 50), (190, 165, 30)),
    "green": ((50, 150, 60), (30, 95, 40)),
    "teal": ((20, 130, 130), (60, 160, 155)),
    "turquoise": ((60, 200, 190), (30, 150, 145)),
    "cyan": ((60, 200, 220), (30, 150, 170)),
    "blue": ((45, 80, 200), (30, 50, 130)),
    "navy": ((25, 35, 90), (20, 25, 65)),
    "purple": ((120, 50, 160), (85, 35, 115)),
    "violet": ((140, 70, 190), (100, 50, 140)),
    "pink": ((240, 140, 175), (200, 105, 140)),
    "magenta": ((210, 40, 150), (150, 30, 110)),
    "brown": ((125, 75, 40), (85, 50, 28)),
    "beige": ((220, 200, 165), (180, 160, 130)),
    "white": ((240, 240, 238), (195, 195, 193)),
    "grey": ((135, 135, 135), (95, 95, 95)),
    "gray": ((135, 135, 135), (95, 95, 95)),
    "black": ((30, 30, 32), (55, 55, 57)),
}
"""A colour in the light and in the shade, red, green and blue in 0..255; written down from what the words mean, with no
data set at hand."""

REACH = 0.16
"""The distance at which a pixel's likeness to a colour has fallen to 1/e."""


def named(phrase: str) -> list[str]:
    """The colours of a phrase, in its order, each once."""
    return list(dict.fromkeys(word for word in re.findall(r"[a-z]+", phrase.lower()) if word in WORDS))


def likeness_to(image: UInt8[np.ndarray, "h w 3"], word: str) -> Float32[np.ndarray, "h w"]:
    """How much each pixel is of a colour of ``WORDS``, 0..1; hue counts for more than light."""
    rgb = balanced(image, "none")
    light = rgb.mean(axis=2, keepdims=True)
    best = np.full(image.shape[:2], np.inf, dtype=np.float32)
    for each in WORDS[word]:
        goal = np.array(each, dtype=np.float32) / 255
        hue = (rgb / (light + 0.1) - goal / (goal.mean() + 0.1)) * 0.35
        distance = (hue**2).sum(axis=2) + 0.5 * (light[..., 0] - goal.mean()) ** 2
        best = np.minimum(best, distance)
    return np.exp(-best / REACH**2).astype(np.float32)
