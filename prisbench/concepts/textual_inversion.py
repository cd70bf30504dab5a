"""Textual inversion: one or more new token embeddings that make a frozen model predict the noise of a subject's photos.

After Gal et al. 2022 (arXiv 2208.01618).  The learned vectors stand before the noun ("a photo of a <subject> mug") and
start as the noun.  Only they move: they are put into the text encoder's input for each call, so there is no table to
grow, to freeze row by row, or to restore.

Knows: the loop.  Does not know: diffusers' classes, where concepts are kept.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from prisbench.concepts.store import concept_key
from prisbench.diffusion.backbone import Backbone, Encoded, add_noise, eager_attention, encode_image, encode_text
from prisbench.diffusion.prompts import Words, compose
from prisbench.errors import BackboneError, DataError, UsageError
from prisbench.types import Concept, Subject

LEARNER = "textual-inversion"

Progress = Callable[[int, int, float], None]
"""Called after each step with the step, their number, and the loss."""


@dataclass(frozen=True)
class TextualInversionRecipe:
    """Every number that decides the vectors, apart from the seed.

    ``learning_rate`` and ``spread`` (the noise that sets several vectors apart at the start) are in units of the token
    table's root mean square, so one recipe suits text encoders of any scale.  ``timesteps`` is half open.
    ``average_last`` is the share of the steps, at the end, whose vectors are averaged.
    """

    vectors: int = 1
    steps: int = 350
    batch: int = 8
    learning_rate: float = 0.1
    warmup: int = 20
    weight_decay: float = 0.0
    average_last: float = 0.25
    spread: float = 0.1
    timesteps: tuple[int, int] = (0, 1000)
    flip: bool = False
    bfloat16: bool = True
    working_size: str | int = "native"
    templates: tuple[str, ...] = (
        "a photo of a {subject}",
        "a photo of the {subject}",
        "the {subject}",
        "a {subject} on a table",
        "one {subject}",
        "a picture of the {subject}",
    )
    version: int = 1

    def __post_init__(self) -> None:
        start, stop = self.timesteps
        if min(self.vectors, self.batch) < 1 or self.steps < 0 or not 0 <= start < stop or not self.templates:
            raise UsageError(f"textual inversion cannot run with {self}")

    def as_record(self, seed: int) -> dict[str, Any]:
        """What goes into the concept's key and file."""
        return {**dataclasses.asdict(self), "seed": seed}


RECIPES = {
    "embedded": TextualInversionRecipe(vectors=3, steps=120, timesteps=(450, 950)),
    "sd": TextualInversionRecipe(),
}
"""Backbone family -> what is learned by default, the second also for families not named.  The first was chosen on
Tabletop's validation subjects (``docs/decisions.md``); the second follows Gal et al. in kind and was not tuned.
"""


def default_recipe(backbone: Backbone) -> TextualInversionRecipe:
    """The recipe made for a backbone's family."""
    return RECIPES.get(backbone.family, RECIPES["sd"])


def key(backbone: Backbone, subject: Subject, recipe: TextualInversionRecipe, seed: int) -> str:
    """The id that ``learn`` would give its concept; look it up before learning."""
    return concept_key(subject, LEARNER, backbone.id, recipe.as_record(seed))


def learn(
    backbone: Backbone,
    subject: Subject,
    recipe: TextualInversionRecipe | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Concept:
    """A concept whose tensor ``vectors`` is ``n d``; the same arguments give the same bits on one machine.

    Raises DataError without photos, UsageError for a noun the tokenizer does not know, BackboneError when the loss
    stops being a number.  Interrupting it leaves nothing behind.
    """
    recipe = recipe or default_recipe(backbone)
    if not subject.photos:
        raise DataError(f"subject {subject.id!r} has no photos to learn from")
    draw = torch.Generator().manual_seed(seed)
    prompts = [
        compose(backbone.tokenizer, template, {"subject": Words(subject.noun, recipe.vectors)})
        for template in recipe.templates
    ]
    vectors = _start(backbone, subject.noun, recipe, draw).requires_grad_()
    scale = float(backbone.token_table.float().square().mean().sqrt())
    optimizer = torch.optim.AdamW([vectors], recipe.learning_rate * scale, weight_decay=recipe.weight_decay)
    warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (recipe.warmup + 1)))

    shelves = _by_shape(backbone, subject, recipe)
    sizes = torch.tensor([float(len(shelf)) for shelf in shelves])
    kept, total = 0, torch.zeros_like(vectors)
    for step in range(recipe.steps):
        shelf = shelves[int(torch.multinomial(sizes, 1, generator=draw))]
        rows = torch.randint(len(shelf), (recipe.batch,), generator=draw).tolist()
        which = torch.randint(len(prompts), (recipe.batch,), generator=draw)
        t = torch.randint(*recipe.timesteps, (recipe.batch,), generator=draw)
        latents = torch.cat([shelf[row].latents for row in rows])
        eps = torch.randn(latents.shape, generator=draw).to(latents)
        used, inverse = which.unique(return_inverse=True)

        optimizer.zero_grad()
        with eager_attention(backbone):
            with torch.autocast(backbone.device.type, torch.bfloat16, enabled=recipe.bfloat16):
                text = encode_text(backbone, [prompts[i] for i in used.tolist()], {"subject": vectors})[inverse]
                valid = shelf[0].geometry.valid_hw((latents.shape[-2], latents.shape[-1]))
                loss = denoising_loss(backbone, latents, valid, eps, t, text)
            loss.backward()
        optimizer.step()
        warmup.step()

        if not torch.isfinite(loss):
            raise BackboneError(f"learning {subject.id!r} diverged at step {step}: the loss is {loss.item()}")
        if step >= recipe.steps * (1 - recipe.average_last):
            kept, total = kept + 1, total + vectors.detach()
        if progress:
            progress(step + 1, recipe.steps, loss.item())

    learned = total / kept if kept else vectors.detach()
    return Concept(
        id=key(backbone, subject, recipe, seed),
        subject_id=subject.id,
        noun=subject.noun,
        learner=LEARNER,
        backbone=backbone.id,
        tensors={"vectors": learned.cpu().numpy()},
        recipe=recipe.as_record(seed),
    )


def denoising_loss(
    backbone: Backbone,
    latents: Float[Tensor, "b c h w"],
    valid_hw: tuple[int, int],
    eps: Float[Tensor, "b c h w"],
    t: Tensor,
    text: Float[Tensor, "b tokens d"],
) -> Float[Tensor, ""]:
    """Mean squared error of the model's prediction over the cells that show the photo, not its padding."""
    noisy = add_noise(backbone.alphas_cumprod, latents, eps, t)
    predicted = backbone.unet(noisy, t.to(backbone.device), encoder_hidden_states=text, return_dict=False)[0]
    target = eps
    if backbone.prediction_type == "v_prediction":
        signal = backbone.alphas_cumprod.to(latents)[t.to(latents.device)][:, None, None, None]
        target = signal.sqrt() * eps - (1 - signal).sqrt() * latents
    h, w = valid_hw
    return F.mse_loss(predicted[..., :h, :w].float(), target[..., :h, :w].float())


def _start(backbone: Backbone, noun: str, recipe: TextualInversionRecipe, draw: torch.Generator) -> Tensor:
    """The noun's embedding (the mean of its pieces) for each vector, the second and later ones a little apart."""
    table = backbone.token_table
    pieces = backbone.tokenizer(noun, add_special_tokens=False).input_ids
    vectors = table[pieces].float().mean(dim=0).repeat(recipe.vectors, 1)
    apart = torch.randn(vectors.shape, generator=draw).to(vectors) * table.float().square().mean().sqrt()
    apart[0] = 0
    return vectors + recipe.spread * apart


def _by_shape(backbone: Backbone, subject: Subject, recipe: TextualInversionRecipe) -> list[list[Encoded]]:
    """Every photo's latents (and their mirror image's), encoded once; a batch is drawn from photos of one shape."""
    shelves: dict[tuple[Any, ...], list[Encoded]] = {}
    for photo in subject.photos:
        for view in (photo, photo[:, ::-1]) if recipe.flip else (photo,):
            encoded = encode_image(backbone, view, recipe.working_size)
            shape = encoded.geometry.resized_hw, encoded.geometry.padded_hw
            shelves.setdefault(shape, []).append(encoded)
    return list(shelves.values())
