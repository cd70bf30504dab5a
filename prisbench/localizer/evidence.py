"""Is it really this one?  Where the subject's words explain a photo better than other words do.

A learned concept was made by one question: with these vectors in the prompt, is the noise of the subject's photos
predicted better?  The same question, asked of a new photo place by place, tells the subject from its look-alikes and
from the rest, and a photo that holds it from one that does not:

    evidence = |eps - eps(rival text)|^2 - |eps - eps(subject's text)|^2     over noises, on the latent grid

The rival text has the noun alone ("is it this mug?"), or not even that ("is it a mug?").  It is the likelihood ratio
of a diffusion classifier (Li et al. 2023, arXiv 2303.16203), kept in its place instead of summed over the image.  All
texts see the same noise, so what is hard to predict for each of them cancels.

Knows: the comparison and its scale.  Does not know: attention, masks, files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from prisbench.diffusion.backbone import Backbone, Conditioning, Encoded, Geometry, add_noise, noise, training_target
from prisbench.localizer.settings import Evidence


class Found(NamedTuple):
    """The evidence on the part of the latent grid that shows the photo; ``grid_hw`` is the whole grid."""

    cells: Float[Tensor, "h w"]
    grid_hw: tuple[int, int]


@torch.no_grad()
def errors(
    backbone: Backbone, encoded: Encoded, name: str, text: Conditioning, settings: Evidence, rows_at_once: int = 8
) -> list[Float[Tensor, "h w"]]:
    """How far off the noise is predicted under a text, in every latent cell: the sum over each batch of noises, in
    squared units of noise.  ``name`` is the photo's id, which decides the noise.
    """
    latents = encoded.latents
    draws = torch.stack([noise(name, k, tuple(latents.shape[1:])) for k in range(settings.samples)]).to(latents)
    eps = draws.repeat(len(settings.timesteps), 1, 1, 1)
    times = torch.tensor(settings.timesteps, device=latents.device).repeat_interleave(settings.samples)
    batches = torch.arange(len(times)).split(rows_at_once)
    return [_error(backbone, latents, eps[batch], times[batch], text) for batch in batches]


def compare(
    subject: Sequence[Float[Tensor, "h w"]],
    rival: Sequence[Float[Tensor, "h w"]],
    geometry: Geometry,
    settings: Evidence,
) -> Found:
    """The evidence for the subject against a rival, of their errors: mean over noises, positive where the subject's
    words help.
    """
    every = len(settings.timesteps) * settings.samples
    mean = sum((b - a for a, b in zip(subject, rival, strict=True)), torch.zeros_like(subject[0])) / every
    grid = int(mean.shape[0]), int(mean.shape[1])
    h, w = geometry.valid_hw(grid)
    return Found(mean[:h, :w], grid)


def _error(
    backbone: Backbone, clean: Tensor, eps: Float[Tensor, "n c h w"], t: Int[Tensor, "n"], text: Conditioning
) -> Float[Tensor, "h w"]:
    """Squared error of the network's prediction, summed over channels and rows."""
    noisy = add_noise(backbone.alphas_cumprod, clean, eps, t)
    heard = text.rows([0] * len(eps))
    predicted = backbone.unet(
        noisy, t, encoder_hidden_states=heard.states, added_cond_kwargs=heard.added, return_dict=False
    )[0]
    target = training_target(backbone, clean.expand_as(eps), eps, t)
    error = (target.float() - predicted.float()).square().sum(1)
    if backbone.prediction_type == "v_prediction":
        # A velocity errs by eps / sqrt(abar): in squared units of noise, whatever the model predicts.
        error = error * backbone.alphas_cumprod.to(error)[t][:, None, None]
    return error.sum(0)


def blurred(evidence: Float[Tensor, "h w"], settings: Evidence) -> Float[np.ndarray, "h w"]:
    """Gathered from the neighbourhood: one cell alone is mostly noise."""
    h, w = evidence.shape
    sigma = settings.blur * math.sqrt(h * w)
    return np.asarray(ndimage.gaussian_filter(evidence.cpu().numpy(), sigma, mode="nearest"), np.float32)


def strength(evidence: Float[Tensor, "h w"], settings: Evidence) -> float:
    """The highest gathered evidence of a photo; 0 where there is none."""
    return max(0.0, float(blurred(evidence, settings).max()))


def belief(evidence: Float[Tensor, "h w"], attention: float, settings: Evidence) -> float:
    """What a photo shows of the subject: the strength of the evidence, times ``attention ** settings.attention``, the
    highest attention that the subject's own words get.  The two err on different photos.
    """
    return strength(evidence, settings) * attention**settings.attention


def presence(found: float, typical: float) -> float:
    """A belief as a share, 0..1, of it and of what the subject's own photos show: 0.5 is "as much as there"."""
    return found / (found + typical)
