"""The recipes of the embedded backbone and of the embedded DiT: every number that shapes them, and what carrying them
out costs.

Knows: numbers.  Does not know: models, scenes, how training goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from prisbench.runtime.devices import computes_bfloat16

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with stage, step, steps and the numbers to show."""


@dataclass(frozen=True)
class _Shared:
    """What both recipes have.  Sizes in scenes, pixels, steps."""

    architecture: str = field(init=False)
    """The word that ``train-backbone --architecture`` has for it, and the name of its stage."""
    seed: int = 0
    start: str = ""
    """The id of a finished pipeline that training begins with, "" for none.  All parts go on from its weights; words
    that it does not know have fresh embeddings, and layers that its text encoder does not have begin by doing
    nothing."""
    autoencoder: str = ""
    """The id of a finished pipeline, of any architecture, whose autoencoder is taken as it is; "" for none."""
    scenes: int = 32_000
    positions: int = 64
    """Positions the text encoder has."""
    context: int = 40
    """Tokens a prompt may have, and is padded to.  Padding takes attention and gives none: few are
    better.
    """
    vae_channels: tuple[int, ...] = (16, 32, 48)
    vae_steps: int = 3_000
    """0 takes the autoencoder of ``start``, or of ``autoencoder``, as it is."""
    vae_batch: int = 16
    vae_crop: int = 64
    vae_rate: float = 2e-3
    text_width: int = 128
    text_layers: int = 4
    steps: int = 9_000
    batch: int = 32
    rate: float = 1.5e-3
    decay_share: float = 0.25
    """The last share of the steps, over which the rate falls to zero."""
    ema: float = 0.999
    caption_dropout: float = 0.08
    token_spread: float = 0.3
    """Deviation of the first token embeddings, and the text encoder's share of the learning rate:
    words differ from the first step on.  With the library's small initial embeddings and the full
    rate, all outputs of the text encoder collapsed to one direction within a few hundred steps,
    and stayed there."""
    position_spread: float = 0.1
    text_rate: float = 0.2

    def generator(self, stage: int, step: int) -> torch.Generator:
        """The only source of chance in a step of a stage."""
        return step_generator(self.seed, stage, step)


@dataclass(frozen=True)
class Recipe(_Shared):
    """Every number that shapes the embedded backbone, whose denoiser is a U-Net."""

    architecture: str = field(default="unet", init=False)
    unet_channels: tuple[int, ...] = (32, 64, 128)
    strong_noise: tuple[int, int] = (450, 960)
    """``strong_noise_share`` of the timesteps come from this range, where only the caption can
    tell colours and patterns (a thing covers some 50 latent cells, so they show through any weaker
    noise), the rest from all; and the loss is divided by abar (at most ``most_weight``), as a
    velocity loss would weigh it.
    """
    strong_noise_share: float = 0.5
    most_weight: float = 25.0


@dataclass(frozen=True)
class DiTRecipe(_Shared):
    """Every number that shapes the embedded DiT: the classes of Stable Diffusion 3 in small, without its T5.

    It has as many parameters as the U-Net with its text encoder, to within 10 %, and the same scenes, captions, steps
    and batch.  It was not tuned.
    """

    architecture: str = field(default="sd3", init=False)
    width: int = 128
    layers: int = 8
    heads: int = 4
    patch: int = 2
    """Latent cells along a side of an image row.  A latent cell is 4 x 4 pixels, so a row is 8 x 8 and a scene of
    112 x 144 pixels a grid of 14 x 18; the U-Net's finest attention reads 28 x 36.  Masks come from this grid, so a
    patch of 1 would place outlines twice as finely.  It has four times the rows, and a step over three times the
    operations (``docs/backbones.md``): too dear for a model that must train in minutes.
    """
    places: int = 24
    """Image rows along the longest side that the model has positions for: 192 pixels."""
    text_width: int = 128
    """Of both text encoders side by side, each half as wide."""
    text_layers: int = 5
    """One more than the U-Net's: rows are read from the layer before the last, as Stable Diffusion 3 does."""
    rate: float = 1e-3
    noise_mean: float = 0.0
    """Of the normal distribution whose logistic function is the noise's share of a latent: 0 and 1 are the published
    numbers (Esser et al. 2024, arXiv 2403.03206, section 3.1)."""
    noise_spread: float = 1.0


AnyRecipe = Recipe | DiTRecipe

ARCHITECTURES: Mapping[str, type[Recipe] | type[DiTRecipe]] = {"unet": Recipe, "sd3": DiTRecipe}
"""Architecture -> its recipe."""

BEFORE = {"architecture": "unet", "autoencoder": ""}
"""What a written recipe means that is older than these numbers."""


def step_generator(seed: int, stage: int, step: int) -> torch.Generator:
    """A generator that seed, stage (0 to 7) and step decide alone."""
    return torch.Generator().manual_seed((seed * 8 + stage) * 1_000_003 + step)


def cost(recipe: AnyRecipe, device: str = "cpu") -> str:
    """What training will take, in words.  The U-Net's rates were measured on two cores of a 2024 server CPU with
    bfloat16: 75 scenes, 8 autoencoder steps, 400 encoded scenes and 2.4 denoiser steps a second.  The DiT's were not.
    """
    if not isinstance(recipe, Recipe):
        return (
            f"training {recipe.architecture}: {recipe.scenes} scenes, {recipe.vae_steps} + {recipe.steps} steps; how "
            "long it takes was not measured, a GPU is meant (--device cuda); interrupt it at will, the same command "
            "goes on"
        )
    seconds = recipe.scenes / 75 + recipe.vae_steps / 8 + recipe.scenes / 400 + recipe.steps / 2.4
    slower = "" if computes_bfloat16("cpu") else " (this processor has no bfloat16: several times that)"
    time = f"about {seconds / 3600:.1f} hours on two recent cores{slower}"
    if device != "cpu":
        time = f"{time}, how long on {device} was not measured"
    gigabytes = recipe.scenes * (16_000 * 3 + 2 * 8_000) / 1e9 + 0.2
    return (
        f"training: {recipe.scenes} scenes, {recipe.vae_steps} + {recipe.steps} steps; {time}, "
        f"{gigabytes:.1f} GB of disk; interrupt it at will, the same command goes on"
    )
