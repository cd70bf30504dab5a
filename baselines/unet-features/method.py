"""unet-features: matching of a diffusion model's features between photos and scene; see prisbench/matching/."""

from __future__ import annotations

from prisbench import Method, MethodOptions, UnetFeatures


def make(options: MethodOptions) -> Method:
    return UnetFeatures.make(options)
