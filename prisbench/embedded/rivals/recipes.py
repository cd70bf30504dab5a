"""The recipes of the rivals: every number that shapes them, and what carrying them out costs.

Knows: numbers.  Does not know: models, scenes, how training goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from prisbench.embedded.recipe import step_generator


@dataclass(frozen=True)
class _Recipe:
    """What all small models have.  Sizes in scenes, pixels, steps."""

    name: ClassVar[str]
    stage: ClassVar[int]
    """Tells the random numbers of one training from those of another."""
    kind: ClassVar[str] = "with masks"
    """Of the scenes (``embedded.scenes.KINDS``)."""

    seed: int = 0
    scenes: int = 3_000
    """The first so many of those that the embedded backbone was trained on, or of those of families."""
    batch: int = 8
    rate: float = 1e-3
    ema: float = 0.998

    def generator(self, step: int) -> torch.Generator:
        """The only source of chance in a step."""
        return step_generator(self.seed, self.stage, step)


@dataclass(frozen=True)
class _Transformer(_Recipe):
    """What both models of published classes have."""

    side: int = 144
    """Of the square that photos are brought into: the longest side of a Tabletop scene but one."""
    patch: int = 12
    width: int = 128
    """Of the image encoder."""
    layers: int = 4
    heads: int = 4
    prompts: int = 3
    """Of each scene, in a step."""


@dataclass(frozen=True)
class SamRecipe(_Transformer):
    """Every number that shapes the embedded Segment Anything."""

    name: ClassVar[str] = "sam"
    stage: ClassVar[int] = 4

    window: int = 6
    whole: tuple[int, ...] = (1, 3)
    """Layers whose attention sees the whole photo; the others' sees windows."""
    channels: int = 128
    """Of the features and of the decoder."""
    spread: float = 0.06
    """Deviation of the first weights.  The class's default for its encoder is 1e-10, made for loading."""
    steps: int = 2_800
    decay_share: float = 0.3
    again: float = 0.5
    """The share of steps that have a second round."""
    focal: float = 20.0
    """The focal loss counts so many times the Dice loss (Kirillov et al. 2023, appendix A)."""


@dataclass(frozen=True)
class ClipSegRecipe(_Transformer):
    """Every number that shapes the embedded CLIPSeg.  ``width`` is also that of the vectors that both towers give."""

    name: ClassVar[str] = "clipseg"
    stage: ClassVar[int] = 5

    scenes: int = 6_000
    positions: int = 64
    """Tokens that a text may have."""
    extract: tuple[int, ...] = (1, 2, 3)
    """Layers of the image tower that the decoder reads."""
    reduced: int = 64
    """Width of the decoder."""
    start: str = "embedded"
    """Whose text encoder the text tower begins as: the embedded backbone's, or a pipeline's folder."""
    text_rate: float = 0.1
    """The text tower's share of the rate.  From nothing and at the full rate, texts collapsed to one direction within
    400 steps, and words meant nothing."""
    steps: int = 5_000
    naming: float = 1.0
    """Naming what patches show counts so many times the Dice loss."""
    absent: float = 0.3
    """The share of the phrases that mean nothing in their scene."""
    strange: float = 0.3
    """The share of the phrases that have words of no meaning around them."""
    photos: int = 3
    """Visual prompts in a step, each asked of two scenes."""
    decay_share: float = 0.2
    cross: float = 5.0
    """The cross-entropy counts so many times the Dice loss."""


@dataclass(frozen=True)
class ThingsRecipe(_Recipe):
    """Every number that shapes the network that finds things (``prisbench/things``)."""

    name: ClassVar[str] = "things"
    stage: ClassVar[int] = 6
    kind: ClassVar[str] = "families"

    scenes: int = 18_000
    widths: tuple[int, ...] = (24, 48, 96, 128)
    """Channels at each resolution, the finest first."""
    rate: float = 2e-3
    steps: int = 4_000
    decay_share: float = 0.6


@dataclass(frozen=True)
class ReIdRecipe(_Recipe):
    """Every number that shapes the network that knows things again (``prisbench/reid``)."""

    name: ClassVar[str] = "reid"
    stage: ClassVar[int] = 7
    kind: ClassVar[str] = "families"

    scenes: int = 18_000
    batch: int = 6
    """Families in a step, of six scenes each: about 120 crops."""
    widths: tuple[int, ...] = (40, 80, 144)
    """Channels at each resolution, the finest first."""
    size: int = 64
    """Numbers of a vector."""
    sharpness: float = 12.0
    """What the cosine of two vectors is multiplied with in the loss."""
    rate: float = 2e-3
    steps: int = 2_800
    decay_share: float = 0.6


Recipe = SamRecipe | ClipSegRecipe | ThingsRecipe | ReIdRecipe

RIVALS: Mapping[str, type[SamRecipe] | type[ClipSegRecipe] | type[ThingsRecipe] | type[ReIdRecipe]] = {
    "sam": SamRecipe,
    "clipseg": ClipSegRecipe,
    "things": ThingsRecipe,
    "reid": ReIdRecipe,
}

SECONDS = {"sam": 0.55, "clipseg": 0.65, "things": 0.8, "reid": 1.1}
"""Of one core for a step of the default size, measured while other work ran on the processor's other threads."""


def cost(recipe: Recipe) -> str:
    """What training will take, in words; scenes are drawn at 13 a second and core."""
    hours = (recipe.scenes / 13 + recipe.steps * SECONDS[recipe.name]) / 3600
    megabytes = recipe.scenes * 16_000 * 4 / 1e6 + 30
    return (
        f"training {recipe.name}: {recipe.scenes} scenes, {recipe.steps} steps; about {hours:.1f} hours of one core, "
        f"{megabytes:.0f} MB of disk; interrupt it at will, the same command goes on"
    )
