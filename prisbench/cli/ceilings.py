"""``prisbench ceilings``: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import named_dataset, say_table
from prisbench.cli.options import BENCHMARK, DatasetName, Full, Split
from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import Format, OutputFormat, Seed, progress, stages


def ceilings(
    dataset: DatasetName = BENCHMARK,
    split: Split = "test",
    run: Annotated[
        list[Path],
        typer.Option("--run", help="A run's folder with soft maps: its best thresholds are ceilings, too; repeatable."),
    ] = [],  # noqa: B006
    by_eye: Annotated[
        Path | None, typer.Option(help="A person's answers to the sheets of bench by-eye, JSON: scored, too.")
    ] = None,
    by_eye_split: Annotated[str, typer.Option(help="Whose queries those sheets ask.")] = "validation",
    each: Annotated[int, typer.Option(min=1, help="Queries of each type and grade on those sheets.")] = 20,
    seed: Seed = 0,
    leaderboards: Annotated[
        Path | None, typer.Option(help="Also keep them in DIR/<dataset>/ceilings.json and make its README again.")
    ] = None,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """What could be scored with parts of the truth in hand: outlines by lot, true boxes, best thresholds, a person."""
    from prisbench.bench.by_eye import read_answers
    from prisbench.ceilings import measure
    from prisbench.leaderboard.ceilings import ceiling_rows, ceilings_markdown, read_ceilings, write_ceilings
    from prisbench.leaderboard.pages import write_readme
    from prisbench.leaderboard.rows import board_name, load_runs
    from prisbench.results import DatasetRef

    answers = None if by_eye is None else read_answers(by_eye)
    with progress() as bar:
        data = named_dataset(dataset, bar)
        there = DatasetRef(data.name, data.version, data.digest, split)
        board = None if leaderboards is None else leaderboards / board_name(there)
        runs = [] if board is None else load_runs(board)
        if runs and runs[0].dataset != there:
            raise DataError(f"{board} is of another version of {data.id}; name its folder with --leaderboards")
        before = None if board is None else read_ceilings(board, there)
        parts = [measure.of_truth(data, split, stages(bar))]
        parts += [(parts[0][0], measure.of_run(data, folder, split, stages(bar), runs)) for folder in run]
        if answers is not None:
            parts.append(measure.of_person(data, by_eye_split, each, seed, answers))
    found = measure.together(there, parts, before)
    if board is not None:
        checked_maps = [one for one in found.ceilings if one.kind == "map"]
        kept = {one.predictions.sha256 for one in runs if one.predictions is not None}
        if stray := [one.name for one in checked_maps if one.about.get("predictions") not in kept]:
            raise UsageError(
                f"{stray[0]!r}: no row in {board} has its run's answers; put the run there first (score --leaderboards)"
            )
        write_ceilings(found, board)
        write_readme(board)
    rows = ceiling_rows(found, runs)
    say_table([one._asdict() for one in rows], format, ceilings_markdown(found, runs), full)
