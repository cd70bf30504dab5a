"""Training the embedded backbone: a latent diffusion pipeline from scratch, on Tabletop's
captioned scenes.

``train`` goes through five stages, each skipped when its result is on disk: draw the scenes, make
the tokenizer, train the autoencoder, encode the latents, train the U-Net together with its text
encoder.  Checkpoints are safetensors and JSON; the data and noise of step n follow from (seed, n)
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
from prisbench.embedded.models import assemble
from prisbench.embedded.recipe import Recipe, Report
from prisbench.embedded.scenes import draw_scenes
from prisbench.embedded.words import make_tokenizer
from prisbench.errors import UsageError
from prisbench.runtime.locks import locked
from prisbench.runtime.resume import claim
from prisbench.tabletop.captions import vocabulary


def train(
    out: Path,
    recipe: Recipe,
    report: Report = lambda *_: None,
    checkpoint_seconds: float = 180.0,
    start: Path | None = None,
) -> Path:
    """Run the recipe into ``out`` and return the finished pipeline folder ``out/pipeline``.

    ``start`` is the folder of the pipeline whose id the recipe's ``start`` is.

    Raises DataError when ``out`` holds the beginnings of another recipe, WriteError when it cannot
    be written.
    UsageError when the recipe's start and the folder do not come together, or it has no autoencoder.
    """
    if not (recipe.start or recipe.vae_steps):
        raise UsageError("an autoencoder of 0 steps needs a pipeline to take it from (--start)")
    if bool(recipe.start) != (start is not None):
        raise UsageError("a recipe with a start needs the folder of that pipeline, and one without takes none")
    with locked(out):
        claim_recipe(out, recipe)
        folder = draw_scenes(out, recipe, report)
        tokenizer = make_tokenizer(out / "tokenizer", vocabulary(), recipe.context)
        vae = train_autoencoder(folder, recipe, report, checkpoint_seconds, start)
        encode_latents(folder, vae, report)
        unet, text = train_denoiser(folder, recipe, tokenizer, report, checkpoint_seconds, start)
        return assemble(out / "pipeline", vae, unet, text, tokenizer)


def claim_recipe(out: Path, recipe: Any) -> None:
    """Write the recipe beside its results.  ``steps`` may grow on resuming: the schedule decays
    only at its end.
    """
    claim(
        out / "recipe.json",
        asdict(recipe),
        lambda changed: f"{out} holds another recipe ({changed[0].words}); choose an empty --out",
        free=("steps", "decay_share"),
    )
