"""Training the embedded backbone or the embedded DiT: a latent diffusion pipeline from scratch, on
Tabletop's captioned scenes.

``train`` goes through five stages, each skipped when its result is on disk: draw the scenes, make
the tokenizer, train the autoencoder, encode the latents, train the denoiser together with its text
encoders.  Checkpoints are safetensors and JSON; the data and noise of step n follow from (seed, n)
alone, so a resumed run goes on as if it had never stopped.

Knows: the order of the stages.  Does not know: masks.  Only scenes and captions teach the
backbone; where things are is never shown to it.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from prisbench.embedded.autoencoder import encode_latents, train_autoencoder
from prisbench.embedded.denoiser import train_denoiser
from prisbench.embedded.dit import assemble_sd3
from prisbench.embedded.models import assemble
from prisbench.embedded.recipe import BEFORE, AnyRecipe, DiTRecipe, Report
from prisbench.embedded.rectified_flow import train_dit
from prisbench.embedded.scenes import draw_scenes
from prisbench.embedded.stage import Running
from prisbench.embedded.words import make_tokenizer
from prisbench.errors import UsageError
from prisbench.runtime.files import read_json
from prisbench.runtime.locks import locked
from prisbench.runtime.resume import claim
from prisbench.tabletop.captions import vocabulary

PIPELINES = {"unet": "StableDiffusionPipeline", "sd3": "StableDiffusion3Pipeline"}
"""Architecture -> the class of its pipeline."""

CELL_PX, CHANNELS = 4, 4
"""Pixels along a latent cell, and the latents' channels, of every autoencoder here."""


def train(
    out: Path,
    recipe: AnyRecipe,
    report: Report = lambda *_: None,
    checkpoint_seconds: float = 180.0,
    start: Path | None = None,
    device: str = "cpu",
) -> Path:
    """Run the recipe into ``out`` and return the finished pipeline folder ``out/pipeline``.

    ``start`` is the folder of the pipeline whose id the recipe's ``start`` or ``autoencoder`` is.  The stages compute
    on ``device``; scenes are drawn on the CPU, and checkpoints hold tensors of the CPU, so another device may go on.

    Raises DataError when ``out`` holds the beginnings of another recipe, WriteError when it cannot
    be written.
    UsageError when the recipe's start and the folder do not come together, or it has no autoencoder.
    """
    check_start(recipe, start)
    running = Running(report, checkpoint_seconds, device)
    with locked(out):
        claim_recipe(out, recipe)
        folder = draw_scenes(out, recipe, report)
        tokenizer = make_tokenizer(out / "tokenizer", vocabulary(), recipe.context)
        vae = train_autoencoder(folder, recipe, running, start)
        encode_latents(folder, vae, running)
        begun = start if recipe.start else None
        if isinstance(recipe, DiTRecipe):
            dit, readers = train_dit(folder, recipe, tokenizer, running, begun)
            for part in (vae, dit, *readers):
                part.to("cpu")
            return assemble_sd3(out / "pipeline", vae, dit, readers, tokenizer)
        unet, text = train_denoiser(folder, recipe, tokenizer, running, begun)
        parts: tuple[Any, ...] = (vae, unet, text)
        for part in parts:
            part.to("cpu")
        return assemble(out / "pipeline", vae, unet, text, tokenizer)


def check_start(recipe: AnyRecipe, start: Path | None) -> None:
    """Raises UsageError for a folder that the recipe cannot begin with, or that does not come with it."""
    if recipe.start and recipe.autoencoder:
        raise UsageError("--start brings its own autoencoder; leave --autoencoder out")
    if not (recipe.start or recipe.autoencoder or recipe.vae_steps):
        raise UsageError("an autoencoder of 0 steps needs a pipeline to take it from (--start or --autoencoder)")
    if recipe.autoencoder and recipe.vae_steps:
        raise UsageError(f"--autoencoder is taken as it is; leave --vae-steps {recipe.vae_steps} out")
    if bool(recipe.start or recipe.autoencoder) != (start is not None):
        raise UsageError("a recipe with a start needs the folder of that pipeline, and one without takes none")
    if start is None:
        return
    if recipe.start and (kind := str(read_json(start / "model_index.json")["_class_name"])) != _wanted(recipe):
        raise UsageError(
            f"--start {start}: a {kind}, and {recipe.architecture} goes on from a {_wanted(recipe)}; "
            "--autoencoder takes the autoencoder of any"
        )
    if recipe.autoencoder:
        config = read_json(start / "vae" / "config.json")
        found = 2 ** (len(config["block_out_channels"]) - 1), config["latent_channels"]
        if found != (CELL_PX, CHANNELS):
            raise UsageError(
                f"--autoencoder {start}: latent cells of {found[0]} pixels and {found[1]} channels; these recipes have "
                f"cells of {CELL_PX} and {CHANNELS} channels"
            )


def _wanted(recipe: AnyRecipe) -> str:
    return PIPELINES[recipe.architecture]


def claim_recipe(out: Path, recipe: Any) -> None:
    """Write the recipe beside its results.  ``steps`` may grow on resuming: the schedule decays
    only at its end.
    """
    claim(
        out / "recipe.json",
        asdict(recipe),
        lambda changed: f"{out} holds another recipe ({changed[0].words}); choose an empty --out",
        free=("steps", "decay_share"),
        before=BEFORE,
    )
