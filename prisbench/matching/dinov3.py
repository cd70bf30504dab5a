"""Features of DINOv3 (Simeoni et al. 2025, arXiv 2508.10104), a network trained on photographs without any labels.

A photo keeps its sides' ratio, to the nearest multiple of the patches' side, so that a cell is nearly square; the
published processor squashes to a square for classification.  Scaling to 0..1, an antialiased resize and ImageNet's mean
and deviation follow ``DINOv3ViTImageProcessor`` of transformers, in its order; that one wants torchvision.

Matching of such features with a mask in a reference photo is what INSID3 does, with clusters and a positional debiasing
of its own; this is the plain matching of ``matching.method``, not INSID3.

Knows: ``DINOv3ViTModel`` of transformers.  Does not know: matching, truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from prisbench.errors import UsageError
from prisbench.matching.dense import Dense
from prisbench.matching.method import FeatureMatching
from prisbench.out_of_domain import Strangeness
from prisbench.pretrained import load_network
from prisbench.settings import MethodOptions, share_of, take_settings

NAME, MODEL = "dinov3-features", "facebook/dinov3-vitl16-pretrain-lvd1689m"

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as the published processor has them."""

SIDE = 768
"""Pixels of the longer side; a choice, not a tuned number."""


class Dinov3Encoder:
    """The encoder.  ``side``: pixels of the longer side at most, before it is rounded to whole patches."""

    name = NAME

    def __init__(self, model: str, device: str, side: int) -> None:
        from transformers import DINOv3ViTModel

        self.model, self.weights, self.device, self.side = model, (model,), device, side
        self.network = load_network(DINOv3ViTModel, model, MODEL, device)
        self.patch = int(self.network.config.patch_size)
        self.settings: Mapping[str, Any] = {"model": model, "side": side}

    @torch.no_grad()
    def encode(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> list[Dense]:
        h, w = images[0].shape[:2]
        grid_hw = self.grid_hw((h, w))
        pixels = torch.cat([self.pixels(image, grid_hw) for image in images])
        read = self.network(pixel_values=pixels.to(self.device)).last_hidden_state
        patches = read[:, 1 + self.network.config.num_register_tokens :].float().cpu()
        cell_hw = h / grid_hw[0], w / grid_hw[1]
        return [Dense(each.T.unflatten(1, grid_hw), cell_hw, (h, w)) for each in patches]

    def grid_hw(self, photo_hw: tuple[int, int]) -> tuple[int, int]:
        """Patches along both sides."""
        h, w = (max(round(n * self.side / max(photo_hw) / self.patch), 1) for n in photo_hw)
        return h, w

    def pixels(self, image: UInt8[np.ndarray, "h w 3"], grid_hw: tuple[int, int]) -> Float[Tensor, "1 3 a b"]:
        """A photo as the network reads it."""
        scaled = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        size_hw = [n * self.patch for n in grid_hw]
        resized = interpolate(scaled, size_hw, mode="bilinear", align_corners=False, antialias=True)
        mean, deviation = (torch.tensor(each)[:, None, None] for each in (MEAN, DEVIATION))
        return (resized - mean) / deviation

    def strangeness(self, image: UInt8[np.ndarray, "h w 3"]) -> Strangeness | None:
        return None

    def cost(self, photo_hw: tuple[int, int]) -> str:
        h, w = self.grid_hw(photo_hw)
        return f"{NAME} with {self.model}: one pass a photo over {h} x {w} patches on {self.device}"


class Dinov3:
    """``make`` gives the method."""

    @staticmethod
    def make(options: MethodOptions) -> FeatureMatching:
        """``--model`` names the weights; ``--set side=... threshold=...``.  Raises UsageError, BackboneError."""
        taken = take_settings({"side": SIDE, "threshold": 0.0}, options.settings)
        if not (taken["side"] or 0) >= 32:
            raise UsageError(f"side={taken['side']!r} makes no sense: expected at least 32 pixels")
        encoder = Dinov3Encoder(options.model or MODEL, options.device, int(taken["side"]))
        return FeatureMatching(encoder, share_of(taken, "threshold"))
