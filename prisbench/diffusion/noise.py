"""Noise that belongs to an image, the forward process, and what the network is trained to predict.

There are two forward processes.  In flow matching (Esser et al. 2024, arXiv 2403.03206, section 2) a latent goes to
noise on a straight line, ``(1 - s) z0 + s eps``, and timestep t of n means ``s = t / n``.  How a model's own sampler
spaces its steps (its shift) plays no part: a timestep says how noisy a latent is.

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
    alphas_cumprod: Float[Tensor, "steps"],
    latents: Float[Tensor, "*b c h w"],
    eps: Float[Tensor, "b c h w"],
    t: Tensor,
    flow: bool = False,
) -> Float[Tensor, "b c h w"]:
    """``sqrt(abar_t) z0 + sqrt(1 - abar_t) eps`` with one timestep a row, in float32, then rounded as the latents are;
    with ``flow`` the point of the straight line.

    (``1 - abar`` of a small t is nothing but rounding error in bf16.)
    """
    if flow:
        share = noise_share(t, len(alphas_cumprod)).to(latents.device)[:, None, None, None]
        return ((1 - share) * latents + share * eps.to(latents.device)).to(latents.dtype)
    signal = _signal(alphas_cumprod, t, latents.device)
    return (signal.sqrt() * latents + (1 - signal).sqrt() * eps.to(latents.device)).to(latents.dtype)


def training_target(
    backbone: Backbone, latents: Float[Tensor, "*b c h w"], eps: Float[Tensor, "b c h w"], t: Tensor
) -> Float[Tensor, "b c h w"]:
    """What the network is trained to say of ``add_noise``'s result: the noise, or for a v-prediction model
    ``sqrt(abar_t) eps - sqrt(1 - abar_t) z0`` (Salimans and Ho 2022, arXiv 2202.00512, appendix D), in float32; of
    flow matching the line's direction, ``eps - z0``.
    """
    if backbone.prediction_type == "epsilon":
        return eps
    if backbone.flow:
        return eps.to(latents.device) - latents.float()
    signal = _signal(backbone.alphas_cumprod, t, latents.device)
    return signal.sqrt() * eps.to(latents.device) - (1 - signal).sqrt() * latents


def noise_share(t: Tensor, steps: int) -> Float[Tensor, "b"]:
    """The noise's share of a latent at these timesteps of flow matching."""
    return t.to(torch.float32) / steps


def flow_alphas(steps: int) -> Float[Tensor, "steps"]:
    """What stands for ``alphas_cumprod`` in flow matching: with it a latent of either process has one signal-to-noise
    ratio, ``abar / (1 - abar)``.
    """
    share = torch.arange(steps) / steps
    return (1 - share).square() / ((1 - share).square() + share.square())


def noise_error(backbone: Backbone, error: Float[Tensor, "b h w"], t: Tensor) -> Float[Tensor, "b h w"]:
    """A squared error of predictions in squared units of noise, whatever the model predicts.

    A velocity errs by ``eps / sqrt(abar)``, the direction of a straight line by ``eps / (1 - s)``.
    """
    if backbone.prediction_type == "v_prediction":
        return error * backbone.alphas_cumprod.to(error)[t][:, None, None]
    if backbone.flow:
        return error * (1 - noise_share(t, len(backbone.alphas_cumprod)).to(error)).square()[:, None, None]
    return error


def check_timesteps(backbone: Backbone, setting: str, timesteps: Sequence[int]) -> None:
    """Raises UsageError, naming the setting, for timesteps that the model's schedule of noise does not have."""
    last = len(backbone.alphas_cumprod) - 1
    if wrong := [t for t in timesteps if not 0 <= t <= last]:
        raise UsageError(f"{setting}: there is no timestep {wrong[0]}; those of {backbone.id} go from 0 to {last}")


def _signal(alphas_cumprod: Tensor, t: Tensor, device: torch.device) -> Float[Tensor, "b 1 1 1"]:
    return alphas_cumprod.to(device, torch.float32)[t.to(device)][:, None, None, None]
