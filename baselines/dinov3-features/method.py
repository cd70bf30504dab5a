"""dinov3-features: matching of DINOv3's features (Simeoni et al. 2025, arXiv 2508.10104); see prisbench/matching/."""

from __future__ import annotations

from prisbench import Dinov3, Method, MethodOptions


def make(options: MethodOptions) -> Method:
    return Dinov3.make(options)
