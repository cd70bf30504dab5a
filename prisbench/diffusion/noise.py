"""Noise that belongs to an image, the forward process, and what the U-Net is trained to predict.

Knows: the schedule of a backbone.  Does not know: what is noised, and why.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prisbench.diffusion.backbone import Backbone
from prisbench.errors import UsageError
from prisbench.runtime.seeds import seed_of


def noise(image_id: str, sample: int, shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Standard normal noise that belongs to an image and a sample number: whatever the order, batch or device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed_of(image_id, sample)))


def add_noise(
    alphas_cumprod: Float[Tensor, "steps"], latents: Float[Tensor, "*b c h w"], eps: Float[Tensor, "b c h w"], t: Tensor
) -> Float[Tensor, "b c h w"]:
    """``sqrt(abar_t) z0 + sqrt(1 - abar_t) eps`` with one timestep a row, in float32, then rounded as the latents are.

    (``1 - abar`` of a small t is nothing but rounding error in bf16.)
    """
    signal = _signal(alphas_cumprod, t, latents.device)
    return (signal.sqrt() * latents + (1 - signal).sqrt() * eps.to(latents.device)).to(latents.dtype)


def training_target(
    backbone: Backbone, latents: Float[Tensor, "*b c h w"], eps: Float[Tensor, "b c h w"], t: Tensor
) -> Float[Tensor, "b c h w"]:
    """What the U-Net is trained to say of ``add_noise``'s result: the noise, or for a v-prediction model
    ``sqrt(abar_t) eps - sqrt(1 - abar_t) z0`` (Salimans and Ho 2022, arXiv 2202.00512, appendix D), in float32.
    """
    if backbone.prediction_type == "epsilon":
        return eps
    signal = _signal(backbone.alphas_cumprod, t, latents.device)
    return signal.sqrt() * eps.to(latents.device) - (1 - signal).sqrt() * latents


def check_timesteps(backbone: Backbone, setting: str, timesteps: Sequence[int]) -> None:
    """Raises UsageError, naming the setting, for timesteps that the model's schedule of noise does not have."""
    last = len(backbone.alphas_cumprod) - 1
    if wrong := [t for t in timesteps if not 0 <= t <= last]:
        raise UsageError(f"{setting}: there is no timestep {wrong[0]}; those of {backbone.id} go from 0 to {last}")


def _signal(alphas_cumprod: Tensor, t: Tensor, device: torch.device) -> Float[Tensor, "b 1 1 1"]:
    return alphas_cumprod.to(device, torch.float32)[t.to(device)][:, None, None, None]
