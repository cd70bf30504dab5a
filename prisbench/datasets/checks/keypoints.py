"""Points by which a part of a picture can be found in another, whatever its size, mirrored or turned by right angles.

Knows: brightness to points, each with a place, a size, a turn and a 64-bit hash of what surrounds it.  Does not know:
which points of two pictures belong together (``crops``).

A point is an extremum of differences of Gaussians, over place and size: Lowe, "Distinctive Image Features from
Scale-Invariant Keypoints" (2004), sections 3 and 4.  In place of his histograms of gradients, the patch around it is
laid so that its mean gradient points to the right and down, more to the right than down, which is one of eight
``TURNS``; the hash is the signs of its 64 lowest cosines.  Measured on crops of DreamBooth photos, a tenth of the area,
scaled by 0.5 to 2 and saved as JPEG: the hashes of one place differ by 4 of 64 bits (median), those of two places by
less than 11 in one of a thousand pairs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8, UInt64
from PIL import Image

from prisbench.images.perceptual import TURNS

SIDE = 512
"""Pixels: points are sought in a picture no longer than this."""

SMALL = 128
"""Pixels: a picture that is no longer than this is enlarged to twice its size, or it would have few points."""

MOST_POINTS = 600
"""Of one picture: from each of ``CELLS x CELLS`` parts the strongest, then the second ..."""

CELLS = 8

FAINTEST = 0.4
"""Grey levels by which a point must differ from its surroundings."""

_STEPS = 3  # sizes per octave
_SIGMA = 1.6
_CAMERA = 0.5  # the blur that a picture comes with, in pixels
_EDGE = 10.0
_PATCH = 16
_PATCH_WIDTH = 12.0  # in sigmas
_BITS = 64
_LEAST_SIDE = 12


class Points(NamedTuple):
    """Of one picture.  ``yx``: in pixels from its top left corner.  ``size``: sigma, in pixels.  ``turn``: a place in
    ``TURNS``, which lays the patch as its hash wants it."""

    hashes: UInt64[np.ndarray, " n"]
    yx: Float32[np.ndarray, "n 2"]
    size: Float32[np.ndarray, " n"]
    turn: UInt8[np.ndarray, " n"]


def keypoints(image: UInt8[np.ndarray, "h w 3"]) -> Points:
    """The points of a picture, at most ``MOST_POINTS``."""
    h, w = image.shape[:2]
    luma = _small_luma(image)
    scale_yx = np.array([h / luma.shape[0], w / luma.shape[1]])
    octaves = list(_octaves(luma))
    found = [_extrema(levels) for levels in octaves]
    octave = np.repeat(np.arange(len(found)), [len(points) for points in found])
    points = np.concatenate([*found, np.zeros((0, 4))])
    grow = 2.0**octave
    chosen = _spread(points[:, 1:3] * grow[:, None] / luma.shape, points[:, 3])
    points, octave, grow = points[chosen], octave[chosen], grow[chosen]
    patches = np.empty((len(points), _PATCH, _PATCH), np.float32)
    for n, levels in enumerate(octaves):
        patches[octave == n] = _patches(levels, points[octave == n])
    hashes, turns = _hashes(patches)
    return Points(
        hashes,
        ((points[:, 1:3] * grow[:, None] + 0.5) * scale_yx).astype(np.float32),
        (_SIGMA * 2 ** (points[:, 0] / _STEPS) * grow * np.sqrt(scale_yx.prod())).astype(np.float32),
        turns,
    )


def _small_luma(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h2 w2"]:
    h, w = image.shape[:2]
    scale = 2.0 if max(h, w) <= SMALL else min(1.0, SIDE / max(h, w))
    pixels = image
    if scale != 1:
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        pixels = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))
    return pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _octaves(luma: Float32[np.ndarray, "h w"]) -> Iterator[Float32[np.ndarray, "k h2 w2"]]:
    """The picture at ``_STEPS + 3`` sizes of blur, then at half the resolution at twice these, and so on."""
    known = _CAMERA
    while min(luma.shape) >= _LEAST_SIDE:
        blurs = [_SIGMA * 2 ** (k / _STEPS) for k in range(_STEPS + 3)]
        down, across = (_gaussians(n, tuple(blurs), known) for n in luma.shape)
        levels = np.stack([rows @ luma @ columns.T for rows, columns in zip(down, across, strict=True)])
        yield levels
        luma, known = np.ascontiguousarray(levels[_STEPS, ::2, ::2]), _SIGMA


@lru_cache(maxsize=64)
def _gaussians(n: int, blurs: tuple[float, ...], known: float) -> tuple[Float32[np.ndarray, "n n"], ...]:
    """What takes ``n`` pixels of the blur ``known`` to each of the blurs, all in pixels."""
    apart = np.arange(n)[:, None] - np.arange(n)[None]
    found = []
    for blur in blurs:
        sigma = np.sqrt(blur**2 - known**2)
        weights = np.exp(-(apart**2) / (2 * sigma**2)) * (np.abs(apart) <= 4 * sigma) if sigma > 0 else np.eye(n)
        found.append((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
    return tuple(found)


def _extrema(levels: Float32[np.ndarray, "k h w"]) -> Float[np.ndarray, "n 4"]:
    """Level, y and x, between pixels, and contrast of the extrema among the differences of neighbouring levels."""
    steps = levels[1:] - levels[:-1]
    k, y, x = (axis + 1 for axis in np.nonzero(_peaks(steps) | _peaks(-steps)))
    value = steps[k, y, x]
    for dk, dy, dx in _AROUND:
        beyond = np.abs(value) - np.sign(value) * steps[k + dk, y + dy, x + dx] > 0
        k, y, x, value = k[beyond], y[beyond], x[beyond], value[beyond]

    def at(dk: int, dy: int, dx: int) -> Float32[np.ndarray, " n"]:
        found: Float32[np.ndarray, " n"] = steps[k + dk, y + dy, x + dx]
        return found

    moved = [
        (low - high) / (2 * (low - 2 * value + high))  # a parabola through three values; an extremum has no zero here
        for low, high in ((at(-1, 0, 0), at(1, 0, 0)), (at(0, -1, 0), at(0, 1, 0)), (at(0, 0, -1), at(0, 0, 1)))
    ]
    yy, xx = at(0, -1, 0) + at(0, 1, 0) - 2 * value, at(0, 0, -1) + at(0, 0, 1) - 2 * value
    yx = (at(0, 1, 1) + at(0, -1, -1) - at(0, 1, -1) - at(0, -1, 1)) / 4
    determinant = yy * xx - yx**2
    corner = (determinant > 0) & ((yy + xx) ** 2 * _EDGE < (_EDGE + 1) ** 2 * determinant)
    points = np.stack([k + moved[0], y + moved[1], x + moved[2], np.abs(value)], axis=1)
    return np.asarray(points[corner], np.float64)


def _peaks(steps: Float32[np.ndarray, "k h w"]) -> Bool[np.ndarray, "k2 h2 w2"]:
    """What is above ``FAINTEST`` and above its four neighbours of the same size; a first sieve.  Edges are left out."""
    inner = steps[1:-1, 1:-1, 1:-1]
    peaks = inner > FAINTEST
    for beside in (steps[1:-1, 1:-1, :-2], steps[1:-1, 1:-1, 2:], steps[1:-1, :-2, 1:-1], steps[1:-1, 2:, 1:-1]):
        peaks &= inner > beside
    return peaks


def _spread(share_yx: Float[np.ndarray, "n 2"], contrast: Float[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """Which points are kept, the first of each cell first, so that every part of a picture has some."""
    cell_yx = (share_yx * CELLS).astype(np.int64).clip(0, CELLS - 1)
    cell = cell_yx[:, 0] * CELLS + cell_yx[:, 1]
    order = np.lexsort((-contrast, cell))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(cell[order], cell[order])
    return np.lexsort((-contrast, rank))[:MOST_POINTS]


def _patches(levels: Float32[np.ndarray, "k h w"], points: Float[np.ndarray, "n 4"]) -> Float32[np.ndarray, "n p p"]:
    """What surrounds each point, ``_PATCH_WIDTH`` sigmas wide, from the level of its size; edges go on outwards."""
    _, h, w = levels.shape
    level = np.rint(points[:, 0]).astype(np.int64)
    steps = (np.arange(_PATCH) + 0.5) / _PATCH - 0.5
    reach = (_SIGMA * 2 ** (points[:, 0] / _STEPS) * _PATCH_WIDTH)[:, None] * steps
    y = (points[:, 1, None] + reach).clip(0, h - 1.001)[:, :, None]
    x = (points[:, 2, None] + reach).clip(0, w - 1.001)[:, None, :]
    top, left = y.astype(np.int64), x.astype(np.int64)
    down, right = (y - top).astype(np.float32), (x - left).astype(np.float32)
    first = (level[:, None, None] * h + top) * w + left
    flat = levels.reshape(-1)
    upper = flat[first] * (1 - right) + flat[first + 1] * right
    lower = flat[first + w] * (1 - right) + flat[first + w + 1] * right
    return np.asarray(upper * (1 - down) + lower * down, np.float32)


def _hashes(patches: Float32[np.ndarray, "n p p"]) -> tuple[UInt64[np.ndarray, " n"], UInt8[np.ndarray, " n"]]:
    """Of each patch, laid in the one of eight ways in which its mean gradient points right and down, and that way."""
    right = np.einsum("nyx,yx->n", patches[:, :, 1:] - patches[:, :, :-1], _WEIGHTS[:, 1:])
    down = np.einsum("nyx,yx->n", patches[:, 1:] - patches[:, :-1], _WEIGHTS[1:])
    way = 4 * (np.abs(down) > np.abs(right)) + 2 * (down < 0) + (right < 0)
    laid = np.empty_like(patches)
    for n, turn in enumerate(_WAYS):
        laid[way == n] = np.moveaxis(TURNS[turn](np.moveaxis(patches[way == n], 0, 2)), 2, 0)
    laid -= (laid * _WEIGHTS).sum(axis=(1, 2), keepdims=True) / _WEIGHTS.sum()
    coefficients = _COSINES @ (laid * _WEIGHTS) @ _COSINES.T
    bits = coefficients[:, _LOWEST[:, 0], _LOWEST[:, 1]] > 0
    hashes = np.ascontiguousarray(np.packbits(bits, axis=1)).view(">u8").reshape(-1).astype(np.uint64)
    return hashes, _TURN_OF_WAY[way]


_AROUND = [shift for shift in itertools.product((0, -1, 1), repeat=3) if any(shift)]

_WINDOW = np.exp(-((np.arange(_PATCH) - (_PATCH - 1) / 2) ** 2) / (2 * 5.0**2))
_WEIGHTS = np.outer(_WINDOW, _WINDOW).astype(np.float32)

_COSINES = np.cos(np.pi / _PATCH * np.outer(np.arange(_PATCH), np.arange(_PATCH) + 0.5)).astype(np.float32)
_LOWEST: Int[np.ndarray, "n 2"] = np.array(
    sorted(np.ndindex(_PATCH, _PATCH), key=lambda yx: (sum(yx), yx))[1 : _BITS + 1]
)

_WAYS = (
    "as it is",
    "mirrored",
    "upside down",
    "turned by 180 degrees",
    "mirrored and turned to the left",
    "turned to the left",
    "turned to the right",
    "mirrored and turned to the right",
)
"""What lays a patch whose mean gradient points: right and down; left; up; both; and the same, more down than right."""
_TURN_OF_WAY = np.array([list(TURNS).index(turn) for turn in _WAYS], np.uint8)
