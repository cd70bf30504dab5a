"""Training the rivals: draw scenes with masks, train, write the model's folder.

Everything of a run lies under one folder, which both rivals may share: the scenes, and for each rival its recipe, its
state and its model.  The data and the chance of step n follow from (seed, n) alone, so a resumed run goes on as if it
had never stopped.

Knows: the order of the stages, folders.  Does not know: losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from prisbench.embedded.recipe import Report
from prisbench.embedded.rivals.pools import Pool, read_pools
from prisbench.embedded.rivals.recipes import Recipe, SamRecipe
from prisbench.embedded.rivals.sam import build_sam, sam_loss
from prisbench.embedded.scenes import draw_scenes
from prisbench.embedded.stage import Stage, rate_shape
from prisbench.embedded.training import claim_recipe
from prisbench.runtime.files import new_folder
from prisbench.runtime.locks import locked

RUN, MODEL = "run", "model"
"""Folders of a rival's state and of its finished model."""

Loss = Callable[[Any, Any, Sequence[Pool], int], tuple[Tensor, dict[str, float]]]


def train_rival(out: Path, recipe: Recipe, report: Report = lambda *_: None, checkpoint_seconds: float = 180.0) -> Path:
    """Run the recipe into ``out`` and return the model's folder ``out/NAME/model``.

    Raises DataError when ``out`` holds the beginnings of another recipe, WriteError when it cannot be written.
    """
    home = out / recipe.name
    with locked(home):
        claim_recipe(home, recipe)
        place = out / f"scenes-{recipe.scenes}"
        with locked(place, wait=True):
            pools = read_pools(draw_scenes(place, recipe, report, masks=True))
        network, stage = beginning(home, recipe)
        stage.run(
            recipe.steps,
            recipe.name,
            lambda step: LOSSES[recipe.name](network, recipe, pools, step),
            lambda step: recipe.rate * rate_shape(step, recipe.steps, recipe.decay_share),
            report,
            checkpoint_seconds,
        )
        stage.apply_average()
        return write_model(home / MODEL, network)


def beginning(home: Path, recipe: Recipe) -> tuple[Any, Stage]:
    """The model before the first step, and the stage that trains it."""
    network = BUILDERS[recipe.name](recipe)
    network.train()
    return network, Stage(home / RUN, {recipe.name: network}, recipe.rate, recipe.ema)


def averaged(home: Path, recipe: Recipe) -> tuple[Any, int]:
    """The running average of the newest checkpoint and its step, also while training goes on."""
    network, stage = beginning(home, recipe)
    stage.load()
    stage.apply_average()
    return network.eval(), stage.step


def write_model(folder: Path, network: Any) -> Path:
    """The model as its class reads it, fp16 safetensors; what stood there as a model is replaced."""
    with new_folder(folder, overwrite=True, marker="config.json") as temp:
        network.half().save_pretrained(temp, safe_serialization=True)
    network.float()
    return folder


BUILDERS: dict[str, Callable[[Any], Any]] = {SamRecipe.name: build_sam}
LOSSES: dict[str, Loss] = {SamRecipe.name: sam_loss}
