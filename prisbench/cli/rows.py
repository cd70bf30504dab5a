"""Commands about runs that are made: compare, reproduce, submit, retract, export.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import named_dataset, say_table, stage_bar
from prisbench.cli.options import DATASET, Full, RowsData, only_with
from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import Device, Format, OutputFormat, progress, say, tell
from prisbench.runtime.devices import usable_device

RunOrRow = Annotated[Path, typer.Argument(metavar="RUN_OR_ROW", help="A run's folder, or a leaderboard's .json.")]


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, or a leaderboard's .json.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other one, of the same queries.")],
    out: Annotated[
        Path | None, typer.Option(help="Also write comparison.md and .json here, and flips.png where there are some.")
    ] = None,
    data: RowsData = [],  # noqa: B006
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Two runs query by query: by subset, grade and size, with intervals, wins, losses, and the flips as pictures."""
    from prisbench.leaderboard import compare as comparing
    from prisbench.leaderboard.flips import draw_flips
    from prisbench.leaderboard.rescore import finder
    from prisbench.runtime.files import write_text

    sides = comparing.open_side(first), comparing.open_side(second)
    only_with("--out, which is where pictures go", out is not None, data=data)
    found = comparing.compare(*sides)
    picture = None
    if out is not None:
        dataset = finder(data, tell)(sides[0].run.dataset)
        if dataset is None:
            raise DataError(f"{sides[0].run.dataset.id} is not here, so no flip can be drawn; name it with --data")
        picture = draw_flips(found, sides, dataset, out)
        write_text(out / "comparison.md", comparing.markdown(found))
        write_text(out / "comparison.json", comparing.as_json(found))
    say_table(comparing.record(found), format, comparing.markdown(found).rstrip("\n"), full)
    if out is not None:
        flips = sum(pair.flip != 0 for pair in found.pairs)
        tell(f"wrote {out}" + (f" with {picture.name} of {flips} flips" if picture else "; there is no flip to draw"))


def reproduce(
    run: RunOrRow,
    dataset: Annotated[str | None, typer.Option("--dataset", help=f"{DATASET} Default: by the run's record.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="Where its method's file lies now.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many queries only, spread.")] = None,
    out: Annotated[Path, typer.Option(help="Where the new run is kept.")] = Path("reproduced"),
    relearn: Annotated[bool, typer.Option("--relearn", help="Learn again what the store knows, too.")] = False,
    device: Device = "auto",
    format: OutputFormat = Format.text,
) -> None:
    """Make a run again as its record says, and compare every answer.  Exit code 1 when one has drifted."""
    from prisbench import reproduce as making
    from prisbench.leaderboard.rescore import finder
    from prisbench.results import DatasetRef

    made = making.open_made(run)
    command = (made.manifest["provenance"] or {}).get("command")
    named = dataset or next(iter(making.said(command).get("--dataset", [])), None)
    given = making.options_of(made, method, usable_device(device), out / ".concepts" if relearn else None)
    with progress() as bar:
        known = DatasetRef(**made.manifest["dataset"])
        data = named_dataset(named, bar) if named is not None else finder((), tell)(known)
        if data is None:
            raise UsageError(f"{made.name} was made on {known.id}; say with --dataset where it is")
        found = making.reproduce(made, data, given, out, limit, stage_bar(bar))
    say(making.record_of(found), format, "\n".join(making.lines_of(found)))
    if found.changed:
        raise DataError(f"{len(found.changed)} of {len(found.drifts)} answers of {run} drifted")


def submit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder; with --check, a submission's.")],
    out: Annotated[Path, typer.Option(help="Where the submission's files go.")] = Path("submission"),
    check: Annotated[
        bool, typer.Option("--check", help="Check a submission and show the table as it would be.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="With --check: the leaderboards it is to join.")] = Path("leaderboards"),
    data: RowsData = [],  # noqa: B006
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Write the folder that a pull request adds, a row and its predictions; or check one, scoring it again."""
    from prisbench.leaderboard import submission
    from prisbench.leaderboard.render import render
    from prisbench.leaderboard.rescore import finder
    from prisbench.leaderboard.rows import records_of, rows
    from prisbench.results import read_run
    from prisbench.runs import RUN

    only_with("--check", check, data=data)
    if not check:
        if not (run / RUN).is_file():
            raise DataError(f"{run} holds no finished run: no {RUN} in it; make one with prisbench evaluate")
        place = submission.submit(read_run(run / RUN), submission.predictions_of(run), out)
        text = f"wrote {place}\ncheck it with: prisbench submit {out} --check\nthen add its files to leaderboards/"
        say({"row": str(place)}, format, text)
        return
    passed = list(submission.check_submission(run, folder, finder(data, tell)))
    boards = dict.fromkeys(each.file.parent.name for each in passed)
    tables = {board: rows(submission.with_submission(folder, board, passed)) for board in boards}
    if format is Format.json:
        found = [{"row": str(each.file), "scored_again": each.scored} for each in passed]
        print(json.dumps({"rows": found, "tables": {board: records_of(frame) for board, frame in tables.items()}}))
        return
    for each in passed:
        whose = "by the record" if each.run.identity else "none: made by another program"
        print(f"{each.file}: {each.scored} predictions scored again, the same numbers; identity {whose}")
    for board, frame in tables.items():
        say_table(None, format, f"\n{board} as it would be:\n\n{render(frame)}", full)


def retract(
    row: Annotated[Path, typer.Argument(metavar="ROW", help="A leaderboard's .json.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it is no result any more, in a few words.")],
    format: OutputFormat = Format.text,
) -> None:
    """Take a row out of the tables; its record stays, and the reason stands below them."""
    from prisbench.leaderboard import submission

    marked = submission.retract(row, reason)
    say({"row": str(row), "retracted": marked.retracted}, format, f"{row} is retracted: {marked.retracted}")


class ExportFormat(StrEnum):
    hub = "hub"
    every_eval_ever = "every-eval-ever"
    latex = "latex"
    coco = "coco"
    fiftyone = "fiftyone"


def export(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN_OR_ROW", help="A run's folder, or a leaderboard's .json; for latex its folder."),
    ],
    to: Annotated[ExportFormat, typer.Option("--to", help="Whose form.")],
    out: Annotated[Path, typer.Option(help="A folder; for latex, a file.")],
    data: RowsData = [],  # noqa: B006
    hub_dataset: Annotated[
        str | None, typer.Option("--hub-dataset", metavar="OWNER/NAME", help="For hub: the dataset's id there.")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="For every-eval-ever: who evaluated.")] = None,
    format: OutputFormat = Format.text,
) -> None:
    """Results in the forms of other programs: the Hub's, Every Eval Ever's, LaTeX, COCO's, FiftyOne's."""
    from prisbench.exports import coco, every_eval_ever, hub, latex
    from prisbench.leaderboard.compare import open_side
    from prisbench.leaderboard.rescore import finder
    from prisbench.leaderboard.rows import load_runs
    from prisbench.predictions import read_predictions
    from prisbench.runs import RUN
    from prisbench.runtime.files import write_text

    with_masks = to in (ExportFormat.coco, ExportFormat.fiftyone)
    only_with("--to coco and --to fiftyone", with_masks, data=data)
    only_with("--to hub", to is ExportFormat.hub, hub_dataset=hub_dataset)
    only_with("--to every-eval-ever", to is ExportFormat.every_eval_ever, organization=organization)
    if to is ExportFormat.latex:
        runs = load_runs(run) if run.is_dir() and not (run / RUN).is_file() else [open_side(run).run]
        files = [write_text(out, latex.table(runs))]
    elif to is ExportFormat.hub:
        files = hub.write_hub(open_side(run).run, out, hub_dataset)
    elif to is ExportFormat.every_eval_ever:
        files = [every_eval_ever.write_every_eval_ever(open_side(run).run, out, organization)]
    else:
        side = open_side(run)
        if side.predictions is None:
            raise UsageError(f"{run}: its predictions are not kept beside it, so there are no masks to export")
        dataset = finder(data, tell)(side.run.dataset)
        if dataset is None:
            raise UsageError(f"{side.run.dataset.id} is not here, so there is no truth to export; name it with --data")
        records = read_predictions(side.predictions)
        if to is ExportFormat.coco:
            files = coco.write_coco(side.run, records, dataset, out)
        else:
            files = [coco.write_fiftyone(side.run, records, dataset, out)]
    say({"files": [str(file) for file in files]}, format, "\n".join(f"wrote {file}" for file in files))
