"""The recipe of the embedded backbone: every number that shapes it, and what carrying it out
costs.

Knows: numbers.  Does not know: models, scenes, how training goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from prisbench.runtime.devices import computes_bfloat16

Report = Callable[[str, int, int, dict[str, float]], None]
"""Called with stage, step, steps and the numbers to show."""


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the embedded backbone.  Sizes in scenes, pixels, steps."""

    seed: int = 0
    start: str = ""
    """The id of a finished pipeline that training begins with, "" for none.  All parts go on from its weights; words
    that it does not know have fresh embeddings, and layers that its text encoder does not have begin by doing
    nothing."""
    scenes: int = 32_000
    positions: int = 64
    """Positions the text encoder has."""
    context: int = 40
    """Tokens a prompt may have, and is padded to.  Padding takes attention and gives none: few are
    better.
    """
    vae_channels: tuple[int, ...] = (16, 32, 48)
    vae_steps: int = 3_000
    """0 takes the autoencoder of ``start`` as it is."""
    vae_batch: int = 16
    vae_crop: int = 64
    vae_rate: float = 2e-3
    unet_channels: tuple[int, ...] = (32, 64, 128)
    text_width: int = 128
    text_layers: int = 4
    steps: int = 9_000
    batch: int = 32
    rate: float = 1.5e-3
    decay_share: float = 0.25
    """The last share of the steps, over which the rate falls to zero."""
    ema: float = 0.999
    caption_dropout: float = 0.08
    strong_noise: tuple[int, int] = (450, 960)
    """``strong_noise_share`` of the timesteps come from this range, where only the caption can
    tell colours and patterns (a thing covers some 50 latent cells, so they show through any weaker
    noise), the rest from all; and the loss is divided by abar (at most ``most_weight``), as a
    velocity loss would weigh it.
    """
    strong_noise_share: float = 0.5
    most_weight: float = 25.0
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


def step_generator(seed: int, stage: int, step: int) -> torch.Generator:
    """A generator that seed, stage and step decide alone."""
    return torch.Generator().manual_seed((seed * 8 + stage) * 1_000_003 + step)


def cost(recipe: Recipe) -> str:
    """What training will take, in words.  Rates measured on two cores of a 2024 server CPU with bfloat16: 75 scenes, 8
    autoencoder steps, 400 encoded scenes and 2.4 denoiser steps a second.
    """
    seconds = recipe.scenes / 75 + recipe.vae_steps / 8 + recipe.scenes / 400 + recipe.steps / 2.4
    gigabytes = recipe.scenes * (16_000 * 3 + 2 * 8_000) / 1e9 + 0.2
    slower = "" if computes_bfloat16("cpu") else " (this processor has no bfloat16: several times that)"
    return (
        f"training: {recipe.scenes} scenes, {recipe.vae_steps} + {recipe.steps} steps; "
        f"about {seconds / 3600:.1f} hours on two recent cores{slower}, {gigabytes:.1f} GB of disk; "
        "interrupt it at will, the same command goes on"
    )
