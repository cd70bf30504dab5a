"""Pictures of a noun that the frozen model makes itself: what a learner holds on to so that the
noun keeps its meaning.

They are latents from first to last: the loop learns from latents, so nothing is decoded, saved as
a picture and encoded again.  Every picture is drawn from the noise of its noun and number, and
kept by content, so all subjects of a noun share them.

Knows: deterministic sampling (DDIM; Euler's steps in flow matching) with guidance.
Does not know: subjects, what is learned.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prisbench.concepts.latents import latent_batch
from prisbench.concepts.loss import Objective, captions, text_condition
from prisbench.concepts.recipes import Loop, Prior
from prisbench.concepts.watch import Watch
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.encodings import made_by, once
from prisbench.diffusion.images import Geometry, fit
from prisbench.diffusion.noise import noise
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import Conditioning, condition

AT_ONCE = 4
"""Pictures made by one call of the network, always: their last bits may depend on it."""


def prior_objectives(
    backbone: Backbone, noun: str, prior: Prior, loop: Loop, watch: Watch, moving_text: bool = False
) -> list[Objective]:
    """The objective that the noun means what it meant; none where the recipe does without.

    ``moving_text``: the text encoder's weights are learned.
    """
    if not prior.images or not prior.weight:
        return []
    prompts = captions(backbone, loop.templates, Words(noun))
    geometry, shape = canvas(backbone)
    without = nothing(backbone, geometry)
    made, said = [], False
    for start in range(0, prior.images, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, prior.images))
        texts = [prompts[n % len(prompts)] for n in numbers]

        def compute(numbers: range = numbers, texts: list[Any] = texts) -> dict[str, Tensor]:
            nonlocal said
            if not said:
                watch.say(
                    f"making {prior.images} pictures of {noun!r}, {prior.steps} steps each, for the prior; "
                    "they are kept for other subjects of that noun"
                )
                said = True
            eps = torch.stack([noise(f"class image of {noun}", n, shape) for n in numbers])
            with torch.no_grad():
                text = condition(backbone, texts, None, geometry)
                return {"latents": sample(backbone, text, without, eps, prior.steps, prior.guidance)}

        parts = made_by(backbone) | {
            "class images": [list(prompt.ids) for prompt in texts],
            "noun": noun,
            "numbers": list(numbers),
            "steps": prior.steps,
            "guidance": prior.guidance,
        }
        made.append(once(watch.encodings, parts, backbone.device, compute)["latents"])
    batch = latent_batch(geometry, torch.cat(made))
    return [Objective((batch,), len(prompts), text_condition(backbone, prompts, None, moving_text), prior.weight)]


class Canvas(NamedTuple):
    """What a picture in the model's own size is drawn on: ``shape`` is that of its latents, c h w."""

    geometry: Geometry
    shape: tuple[int, int, int]


def canvas(backbone: Backbone) -> Canvas:
    """The canvas of pictures in the size the model was trained on."""
    geometry = fit(backbone.native_hw, "native", backbone.native_area_px, backbone.stride)
    h, w = (side // backbone.vae_factor for side in geometry.padded_hw)
    return Canvas(geometry, (int(backbone.unet.config["in_channels"]), h, w))


def nothing(backbone: Backbone, geometry: Geometry) -> Conditioning:
    """What guidance leads away from: how the model reads an empty text; SDXL's pipeline has zeros
    for it.
    """
    empty = condition(backbone, [compose(backbone.tokenizer, "", {})], None, geometry)
    if empty.added is None or "text_embeds" not in empty.added:
        return empty
    added = {**empty.added, "text_embeds": torch.zeros_like(empty.added["text_embeds"])}
    return Conditioning(torch.zeros_like(empty.states), added)


@torch.no_grad()
def sample(
    backbone: Backbone,
    text: Conditioning,
    without: Conditioning,
    eps: Float[Tensor, "b c h w"],
    steps: int,
    guidance: float,
) -> Float[Tensor, "b c h w"]:
    """Latents that follow the texts, one a row, from noise: DDIM without further noise (Song et
    al. 2020, arXiv 2010.02502, equation 12), evenly spaced steps from the last timestep on,
    classifier-free guidance.  In flow matching it is Euler's method, which goes from each clean
    picture and noise that the model sees to the next line's point in the same way.

    ``without`` has one row, the condition beside it; ``guidance`` 1 does not need it.
    """
    signal = backbone.alphas_cumprod.to(backbone.device, torch.float32)
    times = [round(len(signal) * (1 - i / steps)) - 1 for i in range(steps)]
    latents = eps.to(backbone.device, torch.float32)
    texts = [text] if guidance == 1 else [text, without.rows([0] * len(eps))]
    for now, after in zip(times, [*times[1:], None], strict=True):
        t = torch.full((len(eps),), now, device=backbone.device)
        predictions = [
            backbone.unet(
                latents.to(backbone.dtype),
                t,
                encoder_hidden_states=each.states,
                added_cond_kwargs=each.added,
                return_dict=False,
            )[0].float()
            for each in texts
        ]
        predicted = predictions[0]
        if len(predictions) == 2:
            predicted = predictions[1] + guidance * (predicted - predictions[1])
        a = float(signal[now])
        if backbone.flow:
            share, next_share = now / len(signal), 0.0 if after is None else after / len(signal)
            latents = latents + (next_share - share) * predicted
            continue
        if backbone.prediction_type == "v_prediction":
            clean = math.sqrt(a) * latents - math.sqrt(1 - a) * predicted
            left = math.sqrt(a) * predicted + math.sqrt(1 - a) * latents
        else:
            clean, left = (latents - math.sqrt(1 - a) * predicted) / math.sqrt(a), predicted
        b = 1.0 if after is None else float(signal[after])
        latents = math.sqrt(b) * clean + math.sqrt(1 - b) * left
    return latents.to(backbone.dtype)
