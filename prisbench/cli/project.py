"""``prisbench demo``, ``doctor``, ``train-backbone``, ``train-rival``, and what compares backbones: parse, call, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import learning_bar, say_table, stage_bar, training_bar
from prisbench.cli.options import Full
from prisbench.runtime.console import Device, Format, OutputFormat, Seed, progress, say, tell
from prisbench.runtime.devices import usable_device


def demo(
    out: Annotated[Path, typer.Option(help="Where the set, the runs and the pictures go.")] = Path("demo"),
    seed: Seed = 0,
    device: Device = "auto",
    full: Full = False,
) -> None:
    """The whole loop in minutes: build a small set, learn two things, compare methods, draw pictures."""
    from prisbench.demo import run

    with progress() as bar:
        result = run(out, seed, usable_device(device), stage_bar(bar), learning_bar(bar, "learning one"), tell)
    say_table(None, Format.text, result.table, full)
    print(f"\npictures: {result.sheet}\npage:     {result.page}")


def doctor(
    format: OutputFormat = Format.text,
) -> None:
    """What is installed, which device is used, what is missing and how to get it."""
    from prisbench import doctor as examination

    record = examination.report(ask_torch=True)
    say_table(record, format, examination.render(record))


def train_backbone(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the finished pipeline; run again to go on.")],
    architecture: Annotated[
        str, typer.Option(help="unet, or sd3: a diffusion transformer of Stable Diffusion 3's classes.")
    ] = "unet",
    steps: Annotated[int | None, typer.Option(min=1, help="Denoiser steps; default: the recipe's.")] = None,
    scenes: Annotated[int | None, typer.Option(min=96, help="Training scenes; default: the recipe's.")] = None,
    vae_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Autoencoder steps; default: the recipe's, 0 with --autoencoder; 0: --start's."),
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.0, help="Denoiser's rate; default: the recipe's.")] = None,
    vae_rate: Annotated[float | None, typer.Option(min=0.0, help="Autoencoder's rate; default: the recipe's.")] = None,
    start: Annotated[
        Path | None, typer.Option(help="Folder of a finished pipeline to begin with; default: from nothing.")
    ] = None,
    autoencoder: Annotated[
        Path | None, typer.Option(help="Folder of a finished pipeline whose autoencoder alone is taken, as it is.")
    ] = None,
    device: Device = "cpu",
    quality_scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes to measure localization on.")] = 200,
    seed: Seed = 0,
    format: OutputFormat = Format.text,
) -> None:
    """Train the embedded backbone again, or the embedded DiT, from nothing or from another; resumable."""
    from prisbench.embedded.recipe import ARCHITECTURES, cost
    from prisbench.errors import UnknownNameError

    if architecture not in ARCHITECTURES:
        raise UnknownNameError("architecture", architecture, ARCHITECTURES)
    device = usable_device(device)
    from prisbench.diffusion.loading import load_backbone
    from prisbench.embedded.card import finish
    from prisbench.embedded.training import check_start, train

    given: dict[str, object] = {"steps": steps, "scenes": scenes, "vae_steps": vae_steps, "seed": seed}
    given |= {"rate": rate, "vae_rate": vae_rate}
    for name, where in (("start", start), ("autoencoder", autoencoder)):
        given |= {name: None if where is None else load_backbone(where).id.rpartition("@")[2]}
    if autoencoder is not None and vae_steps is None:
        given["vae_steps"] = 0
    recipe = ARCHITECTURES[architecture](**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    check_start(recipe, start or autoencoder)
    tell(cost(recipe, device))
    with progress() as bar:
        folder = train(out, recipe, training_bar(bar), start=start or autoencoder, device=device)
    quality = finish(folder, out, recipe, quality_scenes, device)
    say({"folder": str(folder), **quality}, format, f"pipeline in {folder}; held-out phrases: {quality}")


def train_rival(
    name: Annotated[str, typer.Argument(help="sam, clipseg, things or reid.")],
    out: Annotated[Path, typer.Option(help="Folder for scenes, checkpoints and the model; run again to go on.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; default: the recipe's.")] = None,
    scenes: Annotated[int | None, typer.Option(min=24, help="Training scenes; default: the recipe's.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.0, help="Learning rate; default: the recipe's.")] = None,
    quality_scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes to measure the model on.")] = 200,
    seed: Seed = 0,
    format: OutputFormat = Format.text,
) -> None:
    """Train one of the small models again that methods stand on; an hour on a CPU, resumable."""
    from prisbench.embedded.rivals.recipes import RIVALS, cost
    from prisbench.errors import UnknownNameError

    if name not in RIVALS:
        raise UnknownNameError("rival", name, RIVALS)
    from prisbench.embedded.rivals.card import finish
    from prisbench.embedded.rivals.training import train_rival

    given: dict[str, object] = {"steps": steps, "scenes": scenes, "rate": rate, "seed": seed}
    recipe = RIVALS[name](**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    tell(cost(recipe))
    with progress() as bar:
        folder = train_rival(out, recipe, training_bar(bar))
    quality = finish(folder, out / name, recipe, quality_scenes)
    say({"folder": str(folder), **quality}, format, f"model in {folder}; held-out scenes: {quality}")


def bench_backbones(
    pipelines: Annotated[
        list[str], typer.Argument(metavar="[NAME=]FOLDER...", help="Seeds of one NAME count together; or embedded.")
    ],
    scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes; four times as many for relations.")] = 200,
    preset: Annotated[str | None, typer.Option(help="The localizer's; default: each family's own.")] = None,
    device: Device = "cpu",
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Which backbone finds captioned phrases better on held-out Tabletop scenes, and at what cost."""
    from prisbench.bench import backbones

    candidates = [backbones.candidate(each) for each in pipelines]
    scope = backbones.Scope(scenes, preset, usable_device(device))
    with progress() as bar:
        stage = stage_bar(bar)
        rows = backbones.bench_backbones(candidates, scope, lambda id, n, of: stage("backbone", n, of, id))
    say_table(rows, format, backbones.markdown(rows), full)


def bench_transformers(
    model: Annotated[
        list[str], typer.Option("--model", help="Of the published ones; default: all; may be said again.")
    ] = [],  # noqa: B006
    recipes: Annotated[bool, typer.Option("--recipes", help="What train-backbone trains, instead.")] = False,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """What published transformers take, and what a step of train-backbone takes: computed, without any weights."""
    from prisbench.bench import transformers

    if recipes:
        rows = list(transformers.recipe_rows())
        say_table(rows, format, transformers.recipe_table(rows), full)
        return
    rows = list(transformers.transformer_rows(model) if model else transformers.transformer_rows())
    say_table(rows, format, transformers.transformer_table(rows), full)
