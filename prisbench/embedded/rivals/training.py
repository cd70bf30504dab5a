"""Training the rivals: draw scenes with masks, train, write the model's folder.

Everything of a run lies under one folder, which all rivals may share: the scenes, and for each rival its recipe, its
state and its model.  The data and the chance of step n follow from (seed, n) alone, so a resumed run goes on as if it
had never stopped.

Knows: the order of the stages, folders.  Does not know: losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPSegProcessor, CLIPTokenizer, ViTImageProcessorPil

from prisbench.clipseg.model import DEVIATION, MEAN
from prisbench.embedded.recipe import Report
from prisbench.embedded.rivals.clipseg import Names, Twins, build_clipseg, clipseg_loss, trained_parts
from prisbench.embedded.rivals.pools import Pool, read_pools
from prisbench.embedded.rivals.recipes import ClipSegRecipe, Recipe, ReIdRecipe, SamRecipe, ThingsRecipe
from prisbench.embedded.rivals.reid import Families, build_reid, reid_loss
from prisbench.embedded.rivals.sam import build_sam, sam_loss
from prisbench.embedded.rivals.things import build_things, things_loss
from prisbench.embedded.scenes import draw_scenes
from prisbench.embedded.stage import Stage, rate_shape
from prisbench.embedded.training import claim_recipe
from prisbench.embedded.words import make_tokenizer
from prisbench.reid import network as reid
from prisbench.runtime.files import new_folder
from prisbench.runtime.locks import locked
from prisbench.tabletop.captions import vocabulary
from prisbench.things import network as things

RUN, MODEL = "run", "model"
"""Folders of a rival's state and of its finished model."""

StepLoss = Callable[[int], tuple[Tensor, dict[str, float]]]


def train_rival(out: Path, recipe: Recipe, report: Report = lambda *_: None, checkpoint_seconds: float = 180.0) -> Path:
    """Run the recipe into ``out`` and return the model's folder ``out/NAME/model``.

    Raises DataError when ``out`` holds the beginnings of another recipe, WriteError when it cannot be written.
    """
    home = out / recipe.name
    with locked(home):
        claim_recipe(home, recipe)
        place = out / f"{recipe.kind.replace(' ', '-')}-{recipe.scenes}"
        with locked(place, wait=True):
            pools = read_pools(draw_scenes(place, recipe, report, recipe.kind))
        network, stage, loss = beginning(home, recipe, pools)
        stage.run(
            recipe.steps,
            recipe.name,
            loss,
            lambda step: recipe.rate * rate_shape(step, recipe.steps, recipe.decay_share),
            report,
            checkpoint_seconds,
        )
        stage.apply_average()
        return write_model(home, recipe, network)


def beginning(home: Path, recipe: Recipe, pools: Sequence[Pool]) -> tuple[Any, Stage, StepLoss]:
    """The model before the first step, the stage that trains it, and step -> its loss and what to show of it."""
    network: Any
    if isinstance(recipe, SamRecipe):
        network = build_sam(recipe).train()
        stage = Stage(home / RUN, {"sam": network}, recipe.rate, recipe.ema)
        return network, stage, lambda step: sam_loss(network, recipe, pools, step)
    if isinstance(recipe, ThingsRecipe):
        network = build_things(recipe).train()
        stage = Stage(home / RUN, {"things": network}, recipe.rate, recipe.ema)
        return network, stage, lambda step: things_loss(network, recipe, pools, step)
    if isinstance(recipe, ReIdRecipe):
        network, families = build_reid(recipe).train(), Families(pools)
        stage = Stage(home / RUN, {"reid": network}, recipe.rate, recipe.ema)
        return network, stage, lambda step: reid_loss(network, recipe, families, step)
    tokenizer, names = tokenizer_of(home, recipe), Names(pools, recipe)
    network = build_clipseg(recipe, tokenizer).train()
    parts = {**trained_parts(network), "names": names}
    given = pools, Twins(pools), tokenizer, names
    stage = Stage(home / RUN, parts, recipe.rate, recipe.ema, {"text": recipe.text_rate})
    return network, stage, lambda step: clipseg_loss(network, recipe, given, step)


def tokenizer_of(home: Path, recipe: ClipSegRecipe) -> CLIPTokenizer:
    """That of the embedded backbone: the words of training's captions, any other in pieces."""
    return make_tokenizer(home / "tokenizer", vocabulary(), recipe.positions)


def write_model(home: Path, recipe: Recipe, network: Any) -> Path:
    """The model as its class reads it, fp16 safetensors, and CLIPSeg's processor; replaces a model that stood there."""
    folder = home / MODEL
    with new_folder(folder, overwrite=True, marker="config.json") as temp:
        if isinstance(recipe, ThingsRecipe):
            things.save_network(network, temp)
        elif isinstance(recipe, ReIdRecipe):
            reid.save_network(network, temp)
        else:
            network.half().save_pretrained(temp, safe_serialization=True)
        if isinstance(recipe, ClipSegRecipe):
            size = {"height": recipe.side, "width": recipe.side}
            images = ViTImageProcessorPil(size=size, image_mean=list(MEAN), image_std=list(DEVIATION))
            CLIPSegProcessor(images, tokenizer_of(home, recipe)).save_pretrained(temp)
    network.float()
    return folder
