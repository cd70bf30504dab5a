"""``prisbench try``: parse, call one function, print.

Nothing heavy is imported before the command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from prisbench.cli.bars import learning_bar
from prisbench.cli.options import MethodModel, Reference, ReferenceSetting, Settings
from prisbench.errors import DataError
from prisbench.runtime.console import Device, Format, OutputFormat, Seed, progress, tell


def try_method(
    method: Annotated[str, typer.Argument(help="A method's name, or a Python file that defines make(options).")],
    concept: Annotated[str | None, typer.Option("--concept", help="For attn: a learner, or a control.")] = None,
    reference: Reference = ReferenceSetting.photos,
    model: MethodModel = None,
    seed: Seed = 0,
    device: Device = "cpu",
    settings: Settings = [],  # noqa: B006
    image_seconds: Annotated[
        float, typer.Option("--image-seconds", min=0.1, help="How long one image may take.")
    ] = 60.0,
    learn_seconds: Annotated[
        float, typer.Option("--learn-seconds", min=0.1, help="How long loading, or learning one subject, may take.")
    ] = 1800.0,
    format: OutputFormat = Format.text,
) -> None:
    """Try a method on a tiny set, check what it has to keep, and say what to mend.  Exit code 1 when a check fails."""
    from prisbench.runtime.devices import usable_device
    from prisbench.settings import MethodOptions, parse_settings
    from prisbench.trial import run, table

    device = device if device == "cpu" else usable_device(device)  # the latter loads torch
    options = MethodOptions(concept, model, seed, device, parse_settings(settings), say=tell, warn=tell)
    limits = run.Limits(image_seconds, learn_seconds)
    with progress() as bar:
        trial = run.try_method(method, options, reference.value, limits, learning_bar(bar, "learning one"))
    if format is Format.json:
        print(json.dumps(trial.as_record(), allow_nan=False))
    else:
        table.show(trial)
    if trial.complaint is not None:
        raise DataError(trial.complaint)
