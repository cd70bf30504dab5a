"""From light to the bytes of a photo: white balance, exposure, tone, blur, noise, lossy compression.

Knows: what a cheap camera does to a picture.  Does not know: scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from prisbench.tabletop.numbers import Plane, circle, clip01, uniform


@dataclass(frozen=True)
class Sensor:
    """``gains``: of red, green and blue.  ``gamma``: 0.7 (bright mid-tones) .. 1.4.  ``contrast``: -0.3 .. 0.5.
    ``blur``: 0 none .. 1 a binomial of three pixels.  ``noise``: deviation in grey levels.  ``loss``: step of the
    coarsest quantizer of 8 x 8 blocks, in grey levels; 0 keeps all.
    """

    gains: tuple[float, float, float]
    gamma: float
    contrast: float
    blur: float
    noise: float
    loss: float


def expose(light: Float[np.ndarray, "h w 3"], sensor: Sensor, rng: np.random.PCG64) -> UInt8[np.ndarray, "h w 3"]:
    """The photo of a picture in linear light, 1 the brightest white of ordinary things."""
    x = light * np.asarray(sensor.gains, np.float32)
    over = np.maximum(x - np.float32(0.8), np.float32(0))
    x = np.minimum(x, np.float32(0.8)) + over / (1 + over * np.float32(2.2))
    x = clip01(np.sqrt(clip01(x)))
    x = _gamma(x, sensor.gamma)
    x = clip01(x + np.float32(sensor.contrast * 2) * x * (1 - x) * (x - np.float32(0.45)))
    x = _blurred(x, sensor.blur) * np.float32(255)
    grain = uniform(rng, (3, *x.shape))
    bell = (grain[0] + grain[1] + grain[2] - np.float32(1.5)) * np.float32(2 * sensor.noise)
    x = x + bell * (np.float32(0.7) + np.float32(0.5) * (1 - x * np.float32(1 / 255)))
    if sensor.loss:
        x = _compressed(x, sensor.loss)
    return np.clip(np.floor(x + np.float32(0.5)), 0, 255).astype(np.uint8)


def _gamma(x: Plane, gamma: float) -> Plane:
    """About ``x ** gamma`` for gamma in 0.5..2, from square roots and products."""
    if gamma >= 1:
        share = np.float32(min(gamma - 1, 1.0))
        return x + (x * x - x) * share
    share = np.float32(min((1 - gamma) * 2, 1.0))
    return x + (np.sqrt(x) - x) * share


def _blurred(x: Plane, share: float) -> Plane:
    if share <= 0:
        return x
    for axis in (0, 1):
        pad = [(1, 1) if i == axis else (0, 0) for i in range(3)]
        wide = np.pad(x, pad, mode="edge")
        low = wide[:-2] if axis == 0 else wide[:, :-2]
        high = wide[2:] if axis == 0 else wide[:, 2:]
        x = x + (low + high - 2 * x) * np.float32(0.25 * share)
    return x


def _cosines() -> list[list[float]]:
    """The 8-point discrete cosine transform, orthonormal: row k, column n."""
    rows = []
    for k in range(8):
        scale = math.sqrt(1 / 8) if k == 0 else math.sqrt(2 / 8)
        rows.append([scale * circle((2 * n + 1) * k / 32)[0] for n in range(8)])
    return rows


_DCT = _cosines()
_STEPS = np.asarray([[1 + 0.55 * (i + j) for j in range(8)] for i in range(8)], np.float32) / np.float32(8.7)
"""How coarse each frequency is stored beside the coarsest."""


def _along(blocks: Plane, axis: int, inverse: bool) -> Plane:
    """The transform along one axis of length 8, summed in a fixed order."""
    parts = [blocks.take(n, axis) for n in range(8)]
    out = []
    for k in range(8):
        row = [_DCT[n][k] if inverse else _DCT[k][n] for n in range(8)]
        total = parts[0] * np.float32(row[0])
        for n in range(1, 8):
            total = total + parts[n] * np.float32(row[n])
        out.append(total)
    return np.stack(out, axis)


def _compressed(x: Plane, loss: float) -> Plane:
    """What is left after blocks of brightness and colour were rounded to multiples of their steps."""
    h, w, _ = x.shape
    padded = np.pad(x, ((0, -h % 8), (0, -w % 8), (0, 0)), mode="edge")
    r, g, b = (padded[..., i] for i in range(3))
    y = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
    planes = np.stack([y, (b - y) * np.float32(0.564), (r - y) * np.float32(0.713)])
    rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
    blocks = planes.reshape(3, rows, 8, columns, 8).transpose(0, 1, 3, 2, 4)
    steps = np.float32(loss) * _STEPS * np.asarray([1.0, 1.6, 1.6], np.float32)[:, None, None, None, None]
    steps = np.maximum(steps, np.float32(1))
    kept = np.floor(_along(_along(blocks, 3, False), 4, False) / steps + np.float32(0.5)) * steps
    back = _along(_along(kept, 3, True), 4, True)
    y, u, v = back.transpose(0, 1, 3, 2, 4).reshape(3, rows * 8, columns * 8)
    red, blue = y + v * np.float32(1 / 0.713), y + u * np.float32(1 / 0.564)
    green = (y - np.float32(0.299) * red - np.float32(0.114) * blue) * np.float32(1 / 0.587)
    return np.stack([red, green, blue], -1)[:h, :w]
