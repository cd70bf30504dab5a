"""Photos at one working size, and colours as numbers of a histogram's bins.

Knows: pixels.  Does not know: subjects, regions, texts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8
from PIL import Image
from scipy import ndimage

WORKING_AREA = 128 * 144
"""Pixels of a photo at most; a larger one is made smaller first."""

BALANCES = ("none", "grey-world", "chromaticity")
"""How the light's colour is taken out: not at all; by a common grey of the whole photo; by comparing the shares of red,
green and blue in a pixel, with three levels of brightness."""

LEVELS = (8, 14, 14)
"""Bins of brightness, of red against green, and of blue against yellow."""

FEW_LEVELS = (3, 14, 14)
"""The same for "chromaticity"."""


def shrunk(image: UInt8[np.ndarray, "h w 3"], area: int = WORKING_AREA) -> UInt8[np.ndarray, "a b 3"]:
    """The photo itself, or where it has more pixels than ``area``, a smaller one of the same shape."""
    h, w = image.shape[:2]
    if h * w <= area:
        return np.ascontiguousarray(image)
    share = (area / (h * w)) ** 0.5
    return resized(image, (max(round(h * share), 8), max(round(w * share), 8)))


def resized(image: UInt8[np.ndarray, "h w 3"], size_hw: tuple[int, int]) -> UInt8[np.ndarray, "a b 3"]:
    """Of another size, averaged where it shrinks."""
    return np.asarray(Image.fromarray(image).resize(size_hw[::-1], Image.Resampling.BOX), dtype=np.uint8)


def mask_resized(mask: Bool[np.ndarray, "h w"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "a b"]:
    """A mask of another size; where it grows its outline stays smooth."""
    if mask.shape == size_hw:
        return mask
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    return np.asarray(grey) > 127


def balanced(image: UInt8[np.ndarray, "h w 3"], balance: str) -> Float32[np.ndarray, "h w 3"]:
    """Red, green and blue in 0..1; with "grey-world" each has the photo's mean brightness as its mean, cut at 1."""
    rgb = image.astype(np.float32) / 255
    if balance == "grey-world":
        means = rgb.reshape(-1, 3).mean(axis=0)
        rgb = np.minimum(rgb * (means.mean() / np.maximum(means, 1e-3)), 1)
    return rgb


def opponent(rgb: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Brightness in 0..1, and red against green and blue against yellow in -1..1."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return np.stack([(red + green + blue) / 3, red - green, blue - (red + green) / 2], axis=-1)


def shape_of(balance: str) -> tuple[int, int, int]:
    return FEW_LEVELS if balance == "chromaticity" else LEVELS


def codes(image: UInt8[np.ndarray, "h w 3"], balance: str) -> Int32[np.ndarray, "h w"]:
    """The number of each pixel's bin, below the product of ``shape_of(balance)``.

    The two colour axes are compressed by a square root, so that pale colours have bins of their own.
    """
    rgb = balanced(image, balance)
    light, *axes = np.moveaxis(opponent(rgb), -1, 0)
    levels = shape_of(balance)
    places = [np.sqrt(light)]
    for axis in axes:
        share = axis / (3 * light + 0.15) if balance == "chromaticity" else axis
        places.append(0.5 + np.sign(share) * np.sqrt(np.minimum(np.abs(share), 1)) / 2)
    found = np.zeros(image.shape[:2], dtype=np.int32)
    for place, count in zip(places, levels, strict=True):
        found = found * count + np.clip((place * count).astype(np.int32), 0, count - 1)
    return found


def histogram(
    found: Int32[np.ndarray, "h w"], weight: Float32[np.ndarray, "h w"], levels: tuple[int, ...], blur: float = 0.6
) -> Float32[np.ndarray, " n"]:
    """The share of each bin, blurred a little into neighbouring bins; the sum is 1, or 0 without any weight."""
    counts = np.bincount(found.ravel(), weight.ravel(), minlength=int(np.prod(levels))).reshape(levels)
    if blur:
        counts = ndimage.gaussian_filter(counts, blur, mode="nearest")
    total = counts.sum()
    shares = counts.ravel() / total if total > 0 else counts.ravel()
    return shares.astype(np.float32)
