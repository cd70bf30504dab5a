"""``prisbench tune``: parse, call one function, print."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prisbench.cli.bars import Names, learning_bar, named_dataset, say_table, stage_bar
from prisbench.cli.options import BENCHMARK, DatasetName, MethodModel, Reference, ReferenceSetting, Settings
from prisbench.runtime.console import (
    Device,
    Format,
    OutputFormat,
    Seed,
    nothing_on_stdout,
    progress,
)
from prisbench.runtime.devices import usable_device

if TYPE_CHECKING:
    from prisbench.tuning.file import Tuned


def tune(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="A method's name, or a Python file.")],
    dataset: DatasetName = BENCHMARK,
    concept: Annotated[str | None, typer.Option(help="For attn: a learner or a control.")] = None,
    reference: Reference = ReferenceSetting.photos,
    split: Annotated[str, typer.Option(help="Where settings are chosen; never test.")] = "validation",
    budget: Annotated[int, typer.Option(help="Settings to try, the published one among them.")] = 16,
    subjects: Annotated[int, typer.Option(min=1, help="So many of the split's subjects, spread over nouns.")] = 8,
    queries: Annotated[int, typer.Option(min=1, help="Queries about them, spread over types and grades.")] = 240,
    draws: Annotated[int, typer.Option(help="Seed of the settings that are drawn.")] = 0,
    model: MethodModel = None,
    out: Annotated[Path, typer.Option(help="Where what was tried is kept.")] = Path("tuned"),
    leaderboards: Annotated[
        Path | None, typer.Option(help="Also keep it beside the rows in DIR/<dataset>/ and make its README again.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Try settings of a method on validation, the same number for every method; run again to go on."""
    from prisbench.leaderboard.publish import check_has_rows, publish_tuning
    from prisbench.settings import MethodOptions, parse_settings
    from prisbench.tuning import tune as tuning

    options = MethodOptions(concept, model, seed, usable_device(device), parse_settings(settings))
    names = Names()
    options = dataclasses.replace(options, warn=names.tell, spare=out / ".concepts")
    wanted = tuning.Tuning(method, options, out, budget, draws, subjects, queries, split, reference.value)
    with nothing_on_stdout():
        tuning.check_tuning(wanted)
    with progress() as bar, names.in_errors():
        data = names.of(named_dataset(dataset, bar), split)
        if leaderboards is not None:
            check_has_rows(leaderboards / data.id, f"--method {method} --dataset {dataset}")
        wanted = dataclasses.replace(
            wanted, options=dataclasses.replace(options, progress=learning_bar(bar, "learning one"))
        )
        tuned, path = tuning.tune(data, wanted, stage_bar(bar, names), names.tell)
    if leaderboards is not None:
        publish_tuning(path, leaderboards / data.id)
    say_table({"file": str(path), **dataclasses.asdict(tuned)}, format, _text(tuned, path, method))


def _text(tuned: Tuned, path: Path, method: str) -> str:
    """What was tried, the best first, and how sure the choice is."""
    from prisbench.tuning.file import doubt

    order = sorted(range(len(tuned.tried)), key=lambda n: -tuned.tried[n].score)
    lines = [f"{tuned.metric} of {tuned.queries} queries, {tuned.subjects} subjects of {tuned.split}:", ""]
    for n in order:
        each = tuned.tried[n]
        words = " ".join(f"{key}={value}" for key, value in each.settings.items()) or "as published"
        lines.append(f"{each.score:.3f}  {words}" + (f"  ({each.errors} failed)" if each.errors else ""))
    low_high = "" if tuned.gain_interval is None else " [{:+.3f}, {:+.3f}]".format(*tuned.gain_interval)
    lines += ["", f"chosen:   {tuned.score:.3f}, published {tuned.published:.3f}: {tuned.gain:+.3f}{low_high}"]
    lines += [line] if (line := doubt(tuned)) else []
    lines += [f"settings: {path}", f"a row:    prisbench evaluate --method {method} --settings-file {path}"]
    return "\n".join(lines)
