"""The frame of Segment Anything: the longer side is scaled to the model's, the rest is padded below and to the right.

As ``ResizeLongestSide`` and ``Sam.preprocess`` of the release have it.  SAM 2 squashes the photo into its square, and
its masks are brought back in one step (``SAM2Transforms`` of its release).  Both have the same mean colours.

Knows: sizes, the mean colours of the release.  Does not know: models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate, pad

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Frame:
    """Where a photo of ``photo_hw`` lies in the model's square of ``side`` pixels; ``squashed``: it fills the square.

    ``fine``: features of the photo in finer cells, which the decoder of SAM 2 reads beside the others.
    """

    photo_hw: tuple[int, int]
    side: int
    squashed: bool = False
    fine: tuple[Tensor, ...] = field(default=(), compare=False, repr=False)

    @property
    def inner_hw(self) -> tuple[int, int]:
        """The size of the photo in the square."""
        if self.squashed:
            return self.side, self.side
        scale = self.side / max(self.photo_hw)
        return max(int(self.photo_hw[0] * scale + 0.5), 1), max(int(self.photo_hw[1] * scale + 0.5), 1)

    def points(self, xy: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Points of the photo, x first, in the square."""
        (h, w), (inner_h, inner_w) = self.photo_hw, self.inner_hw
        return xy * np.array([inner_w / w, inner_h / h])

    def to_photo(self, maps: Float[Tensor, "b c a d"]) -> Float[Tensor, "b c h w"]:
        """Maps of the whole square, of any size, in the photo's pixels."""
        if self.squashed:
            return interpolate(maps, self.photo_hw, mode="bilinear", align_corners=False)
        whole = interpolate(maps, (self.side, self.side), mode="bilinear", align_corners=False)
        h, w = self.inner_hw
        return interpolate(whole[..., :h, :w], self.photo_hw, mode="bilinear", align_corners=False)


def in_square(image: UInt8[np.ndarray, "h w 3"], frame: Frame) -> Float[Tensor, "1 3 s s"]:
    """A photo as the model reads it."""
    h, w = frame.inner_hw
    resized = np.array(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR), np.float32)
    values = torch.from_numpy((resized - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)).permute(
        2, 0, 1
    )[None]
    return pad(values, (0, frame.side - w, 0, frame.side - h))


def cells_of(mask: Bool[np.ndarray, "h w"], frame: Frame, grid: int) -> Bool[Tensor, "g g"]:
    """The cells of a grid over the square that a mask covers, at least one.

    As released: the mask, 0 or 255, goes through the same steps as a photo, and cells above zero count, which is a
    little less than half.  Where there is none, the cell of its middle counts; the release fails there.
    """
    levels = in_square(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2), frame)[:, :1]
    small = interpolate(levels, (grid, grid), mode="bilinear", align_corners=False)[0, 0]
    if bool((small > 0).any()):
        return small > 0
    covered = np.argwhere(mask).mean(axis=0)  # a thing smaller than a cell
    x, y = (frame.points(covered[None, ::-1].astype(float))[0] * grid / frame.side).astype(int)
    found = torch.zeros((grid, grid), dtype=torch.bool)
    found[min(int(y), grid - 1), min(int(x), grid - 1)] = True
    return found
