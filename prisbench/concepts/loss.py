"""The loss that all learners share: a frozen model predicts the noise of latents better, under a
text.

    Objective        latents, and the texts they are learned under
    denoising_loss   how well the noise of a batch is predicted
    add_gradients    draw a batch of an objective; its gradients are added to those of what moves

Knows: latents, texts, noise.  Does not know: the optimizer, what a learner moves or why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from prisbench.concepts.latents import LatentBatch
from prisbench.concepts.recipes import Loop
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Geometry
from prisbench.diffusion.noise import add_noise, noise_share, training_target
from prisbench.diffusion.prompts import Prompt, Words, compose
from prisbench.diffusion.text import Conditioning, condition
from prisbench.runtime.devices import Together
from prisbench.runtime.seeds import seed_of
from prisbench.types import SLOT

Condition = Callable[[Int[Tensor, "b"], Geometry], Conditioning]
"""The text of each row of a batch, by its number, as the U-Net reads it."""


class Objective(NamedTuple):
    """Latents, the texts they are learned under (``texts`` of them), and what their loss weighs.

    ``each_photo``: so many of its own for each photo, those of the first one first.
    """

    batches: tuple[LatentBatch, ...]
    texts: int
    condition: Condition
    weight: float = 1.0
    each_photo: bool = False


class Batch(NamedTuple):
    """Rows of latents and what each cell weighs, with the noise and the timestep drawn for every
    row.
    """

    latents: Float[Tensor, "b c h w"]
    weights: Float[Tensor, "b h w"]
    eps: Float[Tensor, "b c h w"]
    t: Int[Tensor, "b"]

    def rows(self, some: slice) -> Batch:
        return Batch(self.latents[some], self.weights[some], self.eps[some], self.t[some])


def denoising_loss(
    backbone: Backbone, batch: Batch, text: Conditioning, min_snr: float | None = None
) -> Float[Tensor, ""]:
    """Squared error of the noise (or the velocity) that the model predicts, the weighted mean of
    each row's cells, then the mean of the rows; ``min_snr``: see ``Loop``.
    """
    latents, weights, eps, t = batch
    noisy = add_noise(backbone.alphas_cumprod, latents, eps, t, backbone.flow)
    predicted = backbone.unet(
        noisy,
        t.to(backbone.device),
        encoder_hidden_states=text.states,
        added_cond_kwargs=text.added,
        return_dict=False,
    )[0]
    target = training_target(backbone, latents, eps, t)
    error = (predicted.float() - target.float()).square().mean(1)
    rows = (error * weights).sum((1, 2)) / weights.sum((1, 2))
    if min_snr is not None:
        signal = backbone.alphas_cumprod.to(rows)[t.to(rows.device)]
        ratio = signal / (1 - signal)
        # A velocity's error is already (ratio + 1) times that of the clean latents, a noise's error
        # ratio times, that of a straight line's direction 1 / s^2 times.
        if backbone.flow:
            share = noise_share(t, len(backbone.alphas_cumprod)).to(rows)
            return (rows * ratio.clamp(max=min_snr) * share.square()).mean()
        rows = rows * ratio.clamp(max=min_snr) / (ratio + (backbone.prediction_type == "v_prediction"))
    return rows.mean()


def captions(backbone: Backbone, templates: tuple[str, ...], words: Words) -> list[Prompt]:
    """The templates about these words.  Raises UsageError for a noun without tokens, and for texts
    too long.
    """
    return [compose(backbone.tokenizer, template, {SLOT.strip("{}"): words}) for template in templates]


def text_condition(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    vectors: Mapping[str, Mapping[str, Tensor]] | None = None,
    moving: bool = True,
) -> Condition:
    """How the model reads prompts, each once a batch.  ``vectors``: those of each slot, by text
    encoder.

    ``moving``: they, or the text encoder's weights, are learned; otherwise the text is read once
    and for all.
    """
    read: dict[Geometry, Conditioning] = {}

    def moving_text(which: Tensor, geometry: Geometry) -> Conditioning:
        used, inverse = which.unique(return_inverse=True)
        return condition(backbone, [prompts[i] for i in used.tolist()], vectors, geometry).rows(inverse)

    def fixed_text(which: Tensor, geometry: Geometry) -> Conditioning:
        if geometry not in read:
            with torch.no_grad():
                read[geometry] = condition(backbone, prompts, vectors, geometry)
        return read[geometry].rows(which)

    return moving_text if moving else fixed_text


# --- gradients ----------------------------------------------------------------------------------


def chance(key: str, step: int, part: int = 0) -> torch.Generator:
    """The only source of chance in a part of a step; step -1 is before the first."""
    return torch.Generator().manual_seed(seed_of(key, step, part))


class Setup(NamedTuple):
    """What stays the same from batch to batch: the model, its recipe, what moves, and how calls
    run side by side.
    """

    backbone: Backbone
    loop: Loop
    moving: Sequence[Tensor]
    together: Together

    def mixed(self) -> torch.autocast:
        return torch.autocast(self.backbone.device.type, torch.bfloat16, enabled=bool(self.loop.bfloat16))


def add_gradients(setup: Setup, objective: Objective, draw: torch.Generator, scale: float) -> Tensor:
    """The loss of one batch, ``scale`` times; its gradients are added to those of what moves.

    On a CPU in float32 the batch is computed in two parts, ``together``.  The text is read once
    for both, so they give its gradient, and what moves in the text encoders learns from that.
    """
    backbone, loop, moving, together = setup
    batch, which, geometry = _drawn(objective, loop, draw)
    with setup.mixed():
        text = objective.condition(which, geometry)
    learned = [tensor for tensor in (text.states, *(text.added or {}).values()) if tensor.requires_grad]

    def part(some: slice) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        cut = {id(tensor): tensor[some].detach().requires_grad_() for tensor in learned}
        added = text.added and {name: cut.get(id(x), x[some]) for name, x in text.added.items()}
        own = Conditioning(cut.get(id(text.states), text.states[some]), added)
        rows = batch.rows(some)
        with setup.mixed():
            loss = denoising_loss(backbone, rows, own, loop.min_snr)
        loss = loss * (scale * len(rows.latents) / loop.batch)
        return loss.detach(), torch.autograd.grad(loss, [*cut.values(), *moving], allow_unused=True)

    size = _at_once(backbone.device, loop)
    parts = together([partial(part, slice(i, i + size)) for i in range(0, loop.batch, size)])
    if learned:
        of_text = zip(*(gradients[: len(learned)] for _, gradients in parts), strict=True)
        torch.autograd.backward(learned, [torch.cat(rows) for rows in of_text])
    for _, gradients in parts:
        for parameter, gradient in zip(moving, gradients[len(learned) :], strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return torch.stack([loss for loss, _ in parts]).sum()


def _drawn(objective: Objective, loop: Loop, draw: torch.Generator) -> tuple[Batch, Int[Tensor, "b"], Geometry]:
    """A batch, the number of each row's text, and the geometry of the photos."""
    sizes = torch.tensor([float(len(each.latents)) for each in objective.batches])
    chosen = objective.batches[int(torch.multinomial(sizes, 1, generator=draw))]
    rows = torch.randint(len(chosen.latents), (loop.batch,), generator=draw)
    which = torch.randint(objective.texts, (loop.batch,), generator=draw)
    t = torch.randint(*loop.timesteps, (loop.batch,), generator=draw)
    if objective.each_photo:
        which += torch.tensor([chosen.photos[row] for row in rows.tolist()]) * objective.texts
    rows = rows.to(chosen.latents.device)
    latents = chosen.latents[rows]
    eps = torch.randn(latents.shape, generator=draw).to(latents)
    return Batch(latents, chosen.weights[rows], eps, t), which, chosen.geometry


def _at_once(device: torch.device, loop: Loop) -> int:
    """The rows of a batch that are computed in one piece.  Half of them on a CPU however many
    cores it has, so that what is learned does not depend on that; in bfloat16 all, since there two
    parts side by side were found to differ in their last bits from run to run (torch 2.13, a CPU
    without instructions for bfloat16).
    """
    return math.ceil(loop.batch / 2) if device.type == "cpu" and not loop.bfloat16 else loop.batch
