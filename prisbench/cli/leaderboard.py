"""``prisbench leaderboard``: parse, call one function, print.

Nothing heavy is imported before the command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.options import BENCHMARK, DATASET, Full, only_with
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.runtime.console import progress_bar, tell, width


class TableFormat(StrEnum):
    md = "md"
    csv = "csv"
    json = "json"
    html = "html"
    summary = "summary"
    learners = "learners"
    subsets = "subsets"


def leaderboard(
    dataset: Annotated[str, typer.Option(help="Whose leaderboard, a folder below --folder. " + DATASET)] = BENCHMARK,
    folder: Annotated[Path, typer.Option(help="Where result files are kept, one folder a dataset.")] = Path(
        "leaderboards"
    ),
    subset: Annotated[str | None, typer.Option(help="One query type, look-alike:GRADE, or present.")] = None,
    format: Annotated[
        TableFormat | None,
        typer.Option(
            help="How to print it. Default: md, what of it fits the terminal; so do summary, learners and subsets."
        ),
    ] = None,
    full: Full = False,
    out: Annotated[
        Path | None, typer.Option(help="Write here instead of printing; for html a folder of pages, or one .html file.")
    ] = None,
    gallery: Annotated[Path | None, typer.Option(help="For html: a folder of pictures to show (PNG).")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only check that every README.md agrees with its result files, and these with their masks."
        ),
    ] = False,
    data: Annotated[
        list[str],
        typer.Option("--data", help=f"With --check or html: to score rows again, or to show; repeatable. {DATASET}"),
    ] = [],  # noqa: B006
    answers: Annotated[
        bool, typer.Option(help="For html in a folder: the page of answers, too, where predictions are kept.")
    ] = True,
) -> None:
    """The table of a dataset, from its committed result files."""
    from prisbench.leaderboard.fitted import fitted
    from prisbench.subsets import check_subset

    whole = (TableFormat.csv, TableFormat.json, TableFormat.html)
    only_with("a table for people, printed without --out", out is None and format not in whole, full=full)
    stated = format is TableFormat.md and not sys.stdout.isatty()  # Markdown for a program, or a file
    fits = out is None and not full and not stated and format not in whole
    format = format or TableFormat.md
    only_with("--format html", format is TableFormat.html, gallery=gallery)
    only_with("--check or --format html", check or format is TableFormat.html, data=data)
    only_with("a table, not with --check", not check, subset=subset, out=out)
    if check:
        _check(folder, data)
        return
    dataset = find_board(folder, dataset)
    if gallery is not None and not gallery.is_dir():
        raise DataError(f"no gallery in {gallery}: there is no such folder")
    if format is TableFormat.html:
        check_subset(subset)
        _html(folder / dataset, out, gallery or folder / dataset / "gallery", data if answers else None)
        return
    text = _table(folder / dataset, subset, format)
    _print(fitted(text, width()) if fits else text, out)


def _check(folder: Path, data: list[str]) -> None:
    """Every README.md against its result files, these against their masks, and ceilings against the dataset."""
    from prisbench.ceilings.measure import checked
    from prisbench.leaderboard.ceilings import FILE, read_ceilings
    from prisbench.leaderboard.publish import check_leaderboards
    from prisbench.leaderboard.rescore import WORDS, finder, rescore
    from prisbench.leaderboard.rows import load_runs

    if not folder.is_dir():
        raise DataError(f"no leaderboards to check: {_no_folder(folder)}")
    for each in check_leaderboards(folder):
        if each.complaint is not None:
            tell("\n".join(each.changes))
            raise DataError(each.complaint)
        find = finder(data, tell)
        for row in rescore(each.folder, find):
            print(f"{row.result_file}: {WORDS[row.state].format(n=row.n)}")
        runs = load_runs(each.folder)
        if (found := read_ceilings(each.folder, runs[0].dataset)) is not None:
            for name, state in checked(found, find(found.dataset), runs):
                print(f"{each.folder / FILE}: {name}: {state}")
        print(f"{each.folder}: README.md agrees with {each.result_files} result files")


def find_board(folder: Path, dataset: str) -> str:
    """The name of a dataset's leaderboard below ``folder``.

    Raises UnknownNameError, with the nearest name, UsageError without the folder, and DataError.
    """
    from prisbench.datasets.named import dataset_id

    dataset = dataset_id(dataset)
    if not (folder / dataset).is_dir():
        known = [path.name for path in folder.glob("*/")] if folder.is_dir() else []
        unknown = UnknownNameError(f"leaderboard in {folder}", dataset, known)
        raise unknown if folder.is_dir() else UsageError(f"{unknown}; {_no_folder(folder)}")
    return dataset


def _table(results: Path, subset: str | None, format: TableFormat) -> str:
    from prisbench.leaderboard import by_subset, summaries
    from prisbench.leaderboard.render import render
    from prisbench.leaderboard.rows import load_runs, rows

    runs = load_runs(results)
    if format is TableFormat.summary:
        return summaries.summary(runs)
    if format is TableFormat.learners:
        return summaries.learners(runs)
    if format is TableFormat.subsets:
        return by_subset.by_subset(runs)
    return render(rows(runs, subset), format.value)


def _html(results: Path, out: Path | None, gallery: Path, data: list[str] | None) -> None:
    """One page, printed or written; or a folder of pages, with answers unless ``data`` is None."""
    from prisbench.browser import write
    from prisbench.leaderboard.ceilings import read_ceilings
    from prisbench.leaderboard.reported import reported
    from prisbench.leaderboard.rescore import finder
    from prisbench.leaderboard.rows import load_runs

    overlays = write.gallery_in(gallery)
    if out is None or out.suffix == ".html":
        runs = load_runs(results)
        above = read_ceilings(results, runs[0].dataset)
        _print(write.page_of(runs, overlays, reported(results), ceilings=above), out)
        return
    find = None if data is None else finder(data, tell)
    with progress_bar("scenes") as step:
        pages = write.write_pages(results, out, overlays, find, step)
    print(f"wrote {pages.board}")
    print(f"wrote {pages.browse}" if pages.browse else f"no page of answers: {pages.why}")


def _print(text: str, out: Path | None) -> None:
    from prisbench.runtime.files import write_text

    print(text if out is None else f"wrote {write_text(out, text)}")


def _no_folder(folder: Path) -> str:
    return f"there is no folder {folder} here; say --folder DIR, such as leaderboards/ of a clone of prisbench"
