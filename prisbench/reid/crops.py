"""A thing of a photo as the network gets it: a square around it, and which of its pixels are the thing's.

Knows: photos, masks.  Does not know: networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

SIDE = 48
"""Pixels of a crop's side: about what a thing is tall in a photo of 128 pixels."""

ROOM = 1.3
"""The side of the square, in sides of the longer side of the box around a thing: light shows in what stands around."""


class Change(NamedTuple):
    """What a crop differs in from the plain one: ``turn`` as cosine and sine, ``scale`` of the square, ``shift`` in
    sides of the square, mirrored or not.  Training changes crops; nothing else does.
    """

    turn: tuple[float, float] = (1.0, 0.0)
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirrored: bool = False


PLAIN = Change()


def crop(
    photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], change: Change = PLAIN, side: int = SIDE
) -> Float32[Tensor, "4 s s"]:
    """Colours in -1..1 and the mask in 0..1 of the square around a mask that is not empty; the photo's edge goes on
    outside of it, the mask does not.
    """
    h, w = mask.shape
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    high, wide = ys[-1] + 1 - ys[0], xs[-1] + 1 - xs[0]
    half = max(int(high), int(wide)) * ROOM * change.scale / 2
    y = (ys[0] + ys[-1] + 1) / 2 + 2 * half * change.shift[0]
    x = (xs[0] + xs[-1] + 1) / 2 + 2 * half * change.shift[1]
    cos, sin = change.turn
    way = -1.0 if change.mirrored else 1.0
    theta = torch.tensor(
        [
            [[way * cos * 2 * half / w, -sin * 2 * half / w, 2 * x / w - 1],
             [way * sin * 2 * half / h, cos * 2 * half / h, 2 * y / h - 1]]
        ],
        dtype=torch.float32,
    )  # fmt: skip
    grid = affine_grid(theta, [1, 4, side, side], align_corners=False)
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 127.5 - 1
    inside = torch.from_numpy(np.array(mask))[None, None].float()
    colours = grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    shown = grid_sample(inside, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.cat([colours, shown], 1)[0]


def crops(photo: UInt8[np.ndarray, "h w 3"], masks: Sequence[Bool[np.ndarray, "h w"]]) -> Float32[Tensor, "n 4 s s"]:
    """The plain crop of each mask."""
    found = [crop(photo, mask) for mask in masks]
    return torch.stack(found) if found else torch.zeros(0, 4, SIDE, SIDE)
