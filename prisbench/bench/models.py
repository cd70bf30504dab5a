"""The models that are measured.

Knows: which there are, how large an image each takes.  Does not know: what is measured.
"""

from __future__ import annotations

import torch

from prisbench.bench import process
from prisbench.diffusion.architectures import ARCHITECTURES
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import UsageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

SD15_PARAMETERS = 1_066_000_000
"""U-Net, autoencoder and text encoder of Stable Diffusion 1.x: what must fit before anything can be measured."""

SHARPENED = 3.0
"""Queries and keys of random weights are multiplied by this.  As they come, attention is nearly even, a map's peaks
stand a few millionths above the rest, and scaling it to 0..1 would show rounding instead of differences."""


def measured_backbone(name: str, dtype: torch.dtype) -> Backbone:
    """ "sd15-random", "embedded", or a pipeline's folder, on the processor.

    Raises UsageError when memory will not do, BackboneError from loading.
    """
    if name == "sd15-random":
        cure = "free some, or measure another model with --backbone"
        process.refuse(SD15_PARAMETERS * dtype.itemsize, "Stable Diffusion 1.x", cure)
    backbone = load_backbone(None if name == "embedded" else name, "cpu", dtype)
    if name in ARCHITECTURES:
        for key, weight in backbone.unet.named_parameters():
            if key.endswith(("to_q.weight", "to_k.weight")):
                weight.data *= SHARPENED
    return backbone


def image_hw(backbone: Backbone, size: int | None, option: str, least: int = 1) -> tuple[int, int]:
    """The image's height and width in pixels: ``size`` twice, or the backbone's own.

    Raises UsageError for a size below ``least``, or that the backbone does not take.
    """
    if size is None:
        return backbone.native_hw
    if size < least or size % backbone.stride:
        near = max(-(-least // backbone.stride), round(size / backbone.stride)) * backbone.stride
        raise UsageError(f"{option} {size}: {backbone.id} takes multiples of {backbone.stride} pixels; try {near}")
    return size, size
