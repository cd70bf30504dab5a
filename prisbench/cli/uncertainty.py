"""``prisbench uncertainty``: parse, call one function, print.

Nothing heavy is imported before the command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import say_table
from prisbench.cli.options import BENCHMARK, DATASET, Full, SameDataset, Subset, one_name
from prisbench.errors import UsageError
from prisbench.runtime.console import Format, OutputFormat, tell


class Level(StrEnum):
    subject = "subject"
    image = "image"
    query = "query"
    seed = "seed"


def uncertainty(
    dataset: Annotated[
        str | None,
        typer.Argument(help="Whose leaderboard, a folder below --folder. " + DATASET, show_default=BENCHMARK),
    ] = None,
    same: SameDataset = None,
    by: Annotated[
        str | None, typer.Option("--by", help="The number that methods are compared by. Default: as the board ranks.")
    ] = None,
    subset: Subset = None,
    levels: Annotated[
        list[Level], typer.Option("--draw", help="What is drawn again in the bootstrap; repeatable. Default: all.")
    ] = list(Level),  # noqa: B006
    draws: Annotated[int, typer.Option(min=100, help="Draws of the bootstrap.")] = 10_000,
    folder: Annotated[Path, typer.Option(help="Where result files are kept, one folder a dataset.")] = Path(
        "leaderboards"
    ),
    out: Annotated[
        Path | None, typer.Option(help="Also write the whole text here (.md), or what programs read (.json).")
    ] = None,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """How sure a leaderboard's order is: intervals, Holm's tiers, ranks, shares of variance, subjects that are lacking.

    Subjects, images and queries are drawn again, crossed with learner seeds.
    """
    from prisbench.cli.leaderboard import find_board
    from prisbench.leaderboard.rows import load_runs
    from prisbench.runtime.files import write_text
    from prisbench.uncertainty import report

    if out is not None and out.suffix not in (".md", ".json"):
        raise UsageError(f"--out {out}: give it a name that ends in .md or .json")
    runs = load_runs(folder / find_board(folder, one_name(dataset, same, BENCHMARK)))
    found = report.analyse(runs, by, subset, [level.value for level in levels], draws)
    text = report.markdown(found)
    if out is not None:
        tell(f"wrote {write_text(out, text if out.suffix == '.md' else report.as_json(found))}")
    say_table(report.record(found), format, text.rstrip("\n"), full)
