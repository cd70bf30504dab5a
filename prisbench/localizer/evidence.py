"""Is it really this one?  Where the subject's words explain a photo better than other words do.

A concept is learned by one objective: with these vectors in the prompt, the noise of the subject's photos is predicted
better.  The same difference on a new photo, place by place, tells the subject from its look-alikes and from the rest,
and a photo that holds it from one that does not:

    evidence = |eps - eps(other text)|^2 - |eps - eps(subject's text)|^2     over noises, on the latent grid

The other text, an alternative, has the noun alone ("is it this mug?"), or not even that ("is it
a mug?").  The difference is the likelihood ratio of a diffusion classifier (Li et al. 2023, arXiv
2303.16203), kept in its place instead of summed over the image.  All texts see the same noise, so
what is hard to predict for each of them cancels.

Knows: the alternatives, the comparison and its scale.  Does not know: attention, masks, files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import ndimage
from torch import Tensor

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Encoded, Geometry
from prisbench.diffusion.noise import add_noise, noise, noise_error, training_target
from prisbench.diffusion.prompts import Prompt, compose
from prisbench.diffusion.text import Conditioning
from prisbench.localizer.attend import rows_at_once
from prisbench.localizer.settings import Evidence
from prisbench.localizer.texts import Reader, rare_word
from prisbench.types import SLOT, Concept


class Found(NamedTuple):
    """The evidence on the part of the latent grid that shows the photo; ``grid_hw`` is the whole grid."""

    cells: Float[Tensor, "h w"]
    grid_hw: tuple[int, int]


class Scene(NamedTuple):
    """A photo whose evidence is gathered: its id, which decides the noise, and its latents.

    ``known`` keeps the errors under each text, by whose learned words it holds and its tokens: what several queries
    have in common is computed once.
    """

    name: str
    encoded: Encoded
    known: dict[tuple[tuple[str, ...], tuple[int, ...]], list[Tensor]]


def gather(reader: Reader, scene: Scene, text: str, concept: Concept) -> Iterator[Found]:
    """The evidence for the subject's words against each alternative in the same text, or in the settings' own."""
    settings, latents, geometry = reader.settings.evidence, scene.encoded.latents, scene.encoded.geometry
    text = text if settings.text is None else settings.text
    most = min(8, rows_at_once(reader.backbone.unet, (int(latents.shape[2]), int(latents.shape[3]))))

    def errors_of(whose: tuple[str, ...], prompt: Prompt, words: Callable[[], Conditioning]) -> list[Tensor]:
        key = whose, prompt.ids
        if key not in scene.known:
            scene.known[key] = errors(reader.backbone, scene.encoded, scene.name, words(), settings, most)
        return scene.known[key]

    for prompt in alternatives(reader, text, concept):
        mine = concept.subject_id, concept.id
        own = errors_of(mine, reader.prompt(text, concept), lambda: reader.text(text, concept, geometry))
        other = errors_of((), prompt, partial(reader.condition, prompt, {}, geometry))
        yield compare(own, other, geometry, settings)


def alternatives(reader: Reader, text: str, concept: Concept) -> list[Prompt]:
    """The text with other words than the subject's own; one that would say the same is left out."""
    prompts = []
    for words in reader.settings.evidence.against:
        if words == "nothing":
            # Where the map is of the whole phrase, nothing of it may stand.
            rest = "" if "phrase" in reader.settings.tokens else " ".join(text.replace(SLOT, " ").split())
            prompts.append(compose(reader.backbone.tokenizer, rest, {}, reader.settings.template))
        elif reader.count(concept) or rare_word(concept):
            prompts.append(reader.prompt(text, concept, learned=False))
    return prompts


@torch.no_grad()
def errors(
    backbone: Backbone, encoded: Encoded, name: str, text: Conditioning, settings: Evidence, at_once: int = 8
) -> list[Float[Tensor, "h w"]]:
    """How far off the noise is predicted under a text, in every latent cell: the sum over each batch of noises, in
    squared units of noise.  ``name`` is the photo's id, which decides the noise.
    """
    latents = encoded.latents
    draws = torch.stack([noise(name, k, tuple(latents.shape[1:])) for k in range(settings.samples)]).to(latents)
    eps = draws.repeat(len(settings.timesteps), 1, 1, 1)
    times = torch.tensor(settings.timesteps, device=latents.device).repeat_interleave(settings.samples)
    batches = torch.arange(len(times)).split(at_once)
    return [_error(backbone, latents, eps[batch], times[batch], text) for batch in batches]


def compare(
    subject: Sequence[Float[Tensor, "h w"]],
    other: Sequence[Float[Tensor, "h w"]],
    geometry: Geometry,
    settings: Evidence,
) -> Found:
    """The evidence for the subject against an alternative, of their errors.

    A mean over noises, positive where the subject's words help.
    """
    every = len(settings.timesteps) * settings.samples
    mean = sum((b - a for a, b in zip(subject, other, strict=True)), torch.zeros_like(subject[0])) / every
    grid = int(mean.shape[0]), int(mean.shape[1])
    h, w = geometry.valid_hw(grid)
    return Found(mean[:h, :w], grid)


def _error(
    backbone: Backbone, clean: Tensor, eps: Float[Tensor, "n c h w"], t: Int[Tensor, "n"], text: Conditioning
) -> Float[Tensor, "h w"]:
    """Squared error of the network's prediction, summed over channels and rows."""
    noisy = add_noise(backbone.alphas_cumprod, clean, eps, t, backbone.flow)
    words = text.rows([0] * len(eps))
    predicted = backbone.unet(
        noisy, t, encoder_hidden_states=words.states, added_cond_kwargs=words.added, return_dict=False
    )[0]
    target = training_target(backbone, clean.expand_as(eps), eps, t)
    error = (target.float() - predicted.float()).square().sum(1)
    return noise_error(backbone, error, t).sum(0)


def blurred(evidence: Float[Tensor, "h w"], settings: Evidence) -> Float[np.ndarray, "h w"]:
    """Gathered from the neighbourhood: one cell alone is mostly noise."""
    h, w = evidence.shape
    sigma = settings.blur * math.sqrt(h * w)
    return np.asarray(ndimage.gaussian_filter(evidence.cpu().numpy(), sigma, mode="nearest"), np.float32)


def strength(evidence: Float[Tensor, "h w"], settings: Evidence) -> float:
    """The highest gathered evidence of a photo; 0 where there is none."""
    return max(0.0, float(blurred(evidence, settings).max()))


def unscaled_presence(evidence: Float[Tensor, "h w"], attention: float, settings: Evidence) -> float:
    """What a photo shows of the subject: the strength of the evidence, times ``attention ** settings.attention``, the
    highest attention that the subject's own words get.  The two err on different photos.
    """
    return strength(evidence, settings) * attention**settings.attention


def presence(found: float, typical: float) -> float:
    """An unscaled presence as a share, 0..1, of it and of what the subject's own photos show (``typical``).

    0.5 is "as much as there".
    """
    return found / (found + typical)
