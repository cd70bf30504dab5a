"""``prisbench plot``: parse, call one function, print.

Nothing heavy is imported before the command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.leaderboard import find_board
from prisbench.cli.options import BENCHMARK, DATASET, SameDataset, one_name
from prisbench.errors import UnknownNameError, UsageError
from prisbench.runtime.console import Format, OutputFormat, say, tell


def plot(
    dataset: Annotated[
        str | None,
        typer.Argument(help="Whose leaderboard, a folder below --folder. " + DATASET, show_default=BENCHMARK),
    ] = None,
    same: SameDataset = None,
    folder: Annotated[Path, typer.Option(help="Where result files are kept, one folder a dataset.")] = Path(
        "leaderboards"
    ),
    out: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("figures"),
    template: Annotated[
        str, typer.Option(help="Whose widths: cvpr, neurips, iclr, icml, eccv, acl, ieee, slides.")
    ] = "cvpr",
    kinds: Annotated[str, typer.Option("--formats", help="Some of pdf, svg and png, with commas.")] = "pdf,svg,png",
    queries: Annotated[int, typer.Option(help="Lines of the grid of examples.")] = 4,
    examples: Annotated[
        str,
        typer.Option(help="Which: disputed (among the rows), or successes or failures (of the first one)."),
    ] = "disputed",
    row: Annotated[
        list[str],
        typer.Option("--row", metavar="NAME", help="Of the table, as 'attn / noun-only'; repeatable; default: 4 best."),
    ] = [],  # noqa: B006
    data: Annotated[list[str], typer.Option("--data", help=f"For the grid of examples; repeatable. {DATASET}")] = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Figures for a paper: intervals, accuracy against time, scores by subset, a grid of examples."""
    from prisbench.figures import style
    from prisbench.figures.chosen import CHOICES
    from prisbench.figures.write import Plan, write_figures
    from prisbench.leaderboard.rescore import finder

    wanted = tuple(dict.fromkeys(kind.strip() for kind in kinds.split(",")))
    style.check_formats(wanted)
    if not 1 <= queries <= 20:
        raise UsageError(f"--queries {queries}: 1 to 20 rows fit a page")
    if examples not in CHOICES:
        raise UnknownNameError("choice of examples", examples, CHOICES)
    board = folder / find_board(folder, one_name(dataset, same, BENCHMARK))
    plan = Plan(out, style.template(template), wanted, queries, examples, tuple(dict.fromkeys(row)))
    drawn = write_figures(board, plan, finder(data, tell))
    record = {"figures": [str(path) for path in drawn.paths], "no_grid": drawn.why}
    lines = [f"wrote {path}" for path in drawn.paths] + ([f"no grid of examples: {drawn.why}"] if drawn.why else [])
    say(record, format, "\n".join(lines))
