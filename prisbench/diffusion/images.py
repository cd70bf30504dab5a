"""Photos to latents, and maps back to photos: sizes, padding, the frame that a map belongs to.

Knows: the autoencoder.  Does not know: text, noise, attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from prisbench.diffusion.backbone import Backbone
from prisbench.errors import DataError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import resize_to

PADDING_RGB = (123, 117, 104)
"""The mean colour of photographs, as the published localizer pads (Text2Mask, ``scripts/SD_seg.py``)."""

NARROWEST = 8
"""A photo whose sides differ by more than this factor is refused."""

SMALLEST_SIDE_PX = 16


@dataclass(frozen=True)
class Geometry:
    """How a photo became the model's image: resized with its aspect kept, then padded at the bottom and the right."""

    photo_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    padded_hw: tuple[int, int]

    def valid_hw(self, grid_hw: tuple[int, int]) -> tuple[int, int]:
        """The rows and columns of a grid over the padded image that show any of the photo."""
        h, w = (
            math.ceil(n * cells / padded)
            for n, cells, padded in zip(self.resized_hw, grid_hw, self.padded_hw, strict=True)
        )
        return h, w


class Encoded(NamedTuple):
    """A photo as the U-Net sees it, already scaled; the mode of the posterior, so encoding is no source of noise."""

    latents: Float[Tensor, "1 c h w"]
    geometry: Geometry


@torch.no_grad()
def encode_image(backbone: Backbone, photo: ImageLike, working_size: str | int = "native") -> Encoded:
    """Latents of a photo in any size; they do not depend on what else is encoded."""
    photo = as_image(photo)
    h, w = photo.shape[:2]
    geometry = fit((h, w), working_size, backbone.native_area_px, backbone.stride)
    canvas = np.empty((*geometry.padded_hw, 3), np.uint8)
    canvas[:] = PADDING_RGB
    canvas[: geometry.resized_hw[0], : geometry.resized_hw[1]] = resize_to(photo, geometry.resized_hw)
    pixels = torch.from_numpy(canvas).permute(2, 0, 1)[None].to(backbone.device, backbone.vae.dtype) / 127.5 - 1
    latents = scaled(backbone.vae, backbone.vae.encode(pixels).latent_dist.mode())
    return Encoded(latents.to(backbone.dtype), geometry)


def scaled(vae: Any, codes: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
    """An autoencoder's codes as the network was trained on them.

    Stable Diffusion 3's and Flux.1's are shifted, too; Flux.2's become patches of two by two cells, each of their
    channels normalised by what the autoencoder saw.
    """
    if getattr(vae, "bn", None) is not None:
        b, c, h, w = codes.shape
        patches = codes.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)
        mean, deviation = _of_patches(vae, codes)
        return (patches - mean) / deviation
    if vae.config["shift_factor"] is not None:
        codes = codes - vae.config["shift_factor"]
    return codes * vae.config["scaling_factor"]


def unscaled(vae: Any, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
    """The codes of ``scaled``'s latents, for the autoencoder to decode."""
    if getattr(vae, "bn", None) is not None:
        mean, deviation = _of_patches(vae, latents)
        b, c, h, w = latents.shape
        patches = (latents * deviation + mean).view(b, c // 4, 2, 2, h, w)
        return patches.permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)
    codes = latents / vae.config["scaling_factor"]
    shift = vae.config["shift_factor"]
    return codes if shift is None else codes + shift


def _of_patches(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of Flux.2's patches."""
    variance = vae.bn.running_var.view(1, -1, 1, 1) + vae.config["batch_norm_eps"]
    return vae.bn.running_mean.view(1, -1, 1, 1).to(like), variance.sqrt().to(like)


def fit(photo_hw: tuple[int, int], working_size: str | int, native_area_px: int, stride: int) -> Geometry:
    """The geometry of a photo.

    ``working_size`` is "native" (the model's own image area; a photo within a quarter of it keeps its pixels), a number
    n (an area of n x n), or "paper" (the long side by the aspect, 704 to 1024; Text2Mask, ``scripts/SD_seg.py``).
    Raises DataError for a photo too small or too narrow to be looked at.
    """
    h, w = photo_hw
    if min(h, w) < SMALLEST_SIDE_PX or max(h, w) > NARROWEST * min(h, w):
        raise DataError(
            f"a photo of {h} x {w} pixels (height x width) cannot be used: sides must be at least {SMALLEST_SIDE_PX} "
            f"pixels and differ by at most a factor of {NARROWEST}; crop it"
        )
    if working_size == "paper":
        aspect = max(h, w) / min(h, w)
        steps = sum(aspect > limit for limit in (1.2, 13 / 9, 1.75, 1.875, 16 / 7))
        scale = (704 + 64 * steps) / max(h, w)
    else:
        area = native_area_px if working_size == "native" else int(working_size) ** 2
        scale = math.sqrt(area / (h * w))
        if working_size == "native" and 0.8 <= scale**2 <= 1.25:
            scale = 1.0
    resized = max(1, round(h * scale)), max(1, round(w * scale))
    padded = math.ceil(resized[0] / stride) * stride, math.ceil(resized[1] / stride) * stride
    return Geometry((h, w), resized, padded)


def to_photo(
    maps: Float[Tensor, "c valid_h valid_w"], grid_hw: tuple[int, int], geometry: Geometry
) -> Float[Tensor, "c h w"]:
    """Maps on the valid part of a grid, bilinear in the photo's own frame; no padding is left in them."""
    cell_h, cell_w = (padded // cells for padded, cells in zip(geometry.padded_hw, grid_hw, strict=True))
    _, h, w = maps.shape
    pixels = F.interpolate(maps[None], size=(h * cell_h, w * cell_w), mode="bilinear", align_corners=False)
    pixels = pixels[:, :, : geometry.resized_hw[0], : geometry.resized_hw[1]]
    if geometry.resized_hw != geometry.photo_hw:
        pixels = F.interpolate(pixels, size=geometry.photo_hw, mode="bilinear", align_corners=False, antialias=True)
    return pixels[0]
