"""``prisbench evaluate`` and ``prisbench leaderboard``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prisbench.cli.bars import learning_bar, stage_bar
from prisbench.cli.cluster import print_shard, shard_folders
from prisbench.cli.options import (
    BENCHMARK,
    Concepts,
    DatasetName,
    Deaf,
    Executor,
    ExecutorOption,
    FailOnError,
    Fresh,
    Full,
    ImageSeconds,
    KeepErrors,
    Limit,
    MethodModel,
    MethodName,
    OutOfDomain,
    Queries,
    Reason,
    Reference,
    ReferenceSetting,
    RunsFolder,
    Seeds,
    Settings,
    ShardOption,
    SoftMaps,
    Split,
    Subjects,
    Subset,
    WorkersOption,
    only_with,
)
from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import (
    SOME_FAILED,
    Device,
    Format,
    OutputFormat,
    nothing_on_stdout,
    progress,
    table_bars,
    tell,
    width,
)
from prisbench.runtime.devices import usable_device

if TYPE_CHECKING:
    from prisbench.cluster.job import Job
    from prisbench.cluster.schedule import Workers
    from prisbench.results import Run


class TableFormat(StrEnum):
    md = "md"
    csv = "csv"
    json = "json"
    html = "html"
    summary = "summary"
    learners = "learners"
    subsets = "subsets"


def evaluate(
    method: MethodName = "attn",
    dataset: DatasetName = BENCHMARK,
    concept: Concepts = [],  # noqa: B006
    reference: Reference = ReferenceSetting.photos,
    deaf: Deaf = None,
    split: Split = "test",
    subset: Subset = None,
    subject: Subjects = [],  # noqa: B006
    query: Queries = [],  # noqa: B006
    limit: Limit = None,
    model: MethodModel = None,
    out: RunsFolder = Path("runs"),
    leaderboards: Annotated[
        Path | None, typer.Option(help="Also put the results into DIR/<dataset>/ and make its README again.")
    ] = None,
    fresh: Fresh = False,
    keep_errors: KeepErrors = False,
    fail_on_error: FailOnError = False,
    image_seconds: ImageSeconds = 3600.0,
    out_of_domain: OutOfDomain = False,
    reason: Reason = None,
    soft_maps: SoftMaps = False,
    shard: ShardOption = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    seed: Seeds = [0],  # noqa: B006
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Run a method on a dataset and score it; run again to go on.  Exit code 2 when it failed on some queries."""
    from prisbench.datasets.named import find_dataset
    from prisbench.runs import RunOptions, Scope
    from prisbench.settings import MethodOptions, parse_settings, variants
    from prisbench.sharding import parse_shard
    from prisbench.sweep import Sweep, check_sweep, run_sweep

    only_with("--executor", executor is not None, workers=workers)
    if shard is not None and executor is not None:
        raise UsageError("--shard is one share, --executor hands out all of them; leave one of the two out")
    only_with("a whole run, not with --shard", shard is None, leaderboards=leaderboards)
    share = None if shard is None else parse_shard(shard, os.environ)
    shared = MethodOptions(model=model, device=usable_device(device), settings=parse_settings(settings))
    shared = dataclasses.replace(shared, warn=tell, spare=out / ".concepts")
    run_options = RunOptions(
        fresh=fresh,
        keep_errors=keep_errors,
        fail_on_error=fail_on_error,
        image_seconds=image_seconds,
        reference=reference.value,
        reason=reason,
        deaf=deaf.value if deaf else None,
        soft_maps=soft_maps,
    )
    scope = Scope(split, limit, subset, tuple(subject), tuple(query), share)
    team = None if executor is None else _team(executor, shared.device, workers)
    wanted = variants(shared, concept or [None], seed)
    sweep = Sweep(method, wanted, out, scope, run_options, leaderboards, out_of_domain, team)
    with nothing_on_stdout():
        check_sweep(sweep)
    with progress() as bar:
        data = find_dataset(dataset, table_bars(bar, "drawing", {}), tell)
        if share is not None:
            folders = shard_folders(sweep, data, bar)
    if share is not None:
        print_shard(share, folders, dataset, format)
        return
    with progress() as bar:
        finished = run_sweep(sweep, data, stage_bar(bar), learning_bar(bar, "learning one"), tell)
    runs = [each.run for each in finished]
    print_runs(runs, [str(each.path) for each in finished], data.manifest.n_queries(split), format, full)
    if failures := [query for run in runs for query in run.queries if query.error is not None]:
        tell(
            f"{len(failures)} of {sum(len(run.queries) for run in runs)} queries failed, first "
            f"{failures[0].query_id!r} ({failures[0].error}); the same command tries them again"
        )
        raise typer.Exit(SOME_FAILED)


def _team(executor: Executor, device: str, workers: int | None) -> Callable[[Job], Workers]:
    """What makes the workers of a run."""
    if executor is Executor.ray:
        from prisbench.cluster.rayed import RayWorkers

        return lambda job: RayWorkers(job, device, workers)
    from prisbench.cluster.local import LocalWorkers
    from prisbench.runtime.devices import devices_for

    devices = devices_for(device, workers)
    return lambda job: LocalWorkers(job, devices)


def print_runs(runs: list[Run], paths: list[str], whole: int, format: Format, full: bool = False) -> None:
    """The table of runs of one split, which has ``whole`` queries, and where their records are; ``full``: however wide
    it is.
    """
    from prisbench.leaderboard import intervals
    from prisbench.leaderboard.fitted import fitted
    from prisbench.leaderboard.render import render
    from prisbench.leaderboard.rows import records_of, rows

    frame, part = rows(runs), intervals.part(runs, whole)
    if format is not Format.json:
        text = render(frame, "md") + (f"- {intervals.part_note(part)}\n" if part else "")
        print(text if full else fitted(text, width()))
        print("\n".join(f"full record: {path}" for path in paths))
    elif len(runs) == 1:
        print(json.dumps({"run": paths[0], "partial": part, **records_of(frame)[0]}))
    else:
        print(json.dumps({"runs": paths, "partial": part, "rows": records_of(frame)}))


def leaderboard(
    dataset: Annotated[str, typer.Option(help="Whose leaderboard: a folder below --folder.")] = BENCHMARK,
    folder: Annotated[Path, typer.Option(help="Where result files are kept, one folder a dataset.")] = Path(
        "leaderboards"
    ),
    subset: Annotated[str | None, typer.Option(help="One query type, look-alike:GRADE, or present.")] = None,
    format: Annotated[
        TableFormat | None, typer.Option(help="How to print it; default: what of md fits the terminal.")
    ] = None,
    full: Full = False,
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
    gallery: Annotated[Path | None, typer.Option(help="For html: a folder of pictures to show (PNG).")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only check that every README.md agrees with its result files, and these with their masks."
        ),
    ] = False,
    data: Annotated[
        list[Path], typer.Option("--data", help="With --check: a dataset folder to score rows on again; repeatable.")
    ] = [],  # noqa: B006
) -> None:
    """The table of a dataset, from its committed result files."""
    from prisbench.leaderboard import by_subset, html_page, summaries
    from prisbench.leaderboard.fitted import fitted
    from prisbench.leaderboard.publish import check_leaderboards
    from prisbench.leaderboard.render import render
    from prisbench.leaderboard.rescore import WORDS, finder, rescore
    from prisbench.leaderboard.rows import load_runs, rows
    from prisbench.runtime.files import write_text

    only_with("the table that is printed without --format and --out", format is None and out is None, full=full)
    fits = format is None and out is None and not full
    format = format or TableFormat.md
    only_with("--format html", format is TableFormat.html, gallery=gallery)
    only_with("--check", check, data=data)
    only_with("a table, not with --check", not check, subset=subset, out=out)
    if check and not folder.is_dir():
        raise DataError(f"no leaderboards to check: {_no_folder(folder)}")
    if check:
        for each in check_leaderboards(folder):
            if each.complaint is not None:
                tell("\n".join(each.changes))
                raise DataError(each.complaint)
            for row in rescore(each.folder, finder(data, tell)):
                print(f"{row.result_file}: {WORDS[row.state].format(n=row.n)}")
            print(f"{each.folder}: README.md agrees with {each.result_files} result files")
        return
    if not (folder / dataset).is_dir():
        from prisbench.errors import UnknownNameError

        known = [path.name for path in folder.glob("*/")] if folder.is_dir() else []
        unknown = UnknownNameError(f"leaderboard in {folder}", dataset, known)
        raise unknown if folder.is_dir() else UsageError(f"{unknown}; {_no_folder(folder)}")
    runs = load_runs(folder / dataset)
    frame = rows(runs, subset)
    if gallery is not None and not gallery.is_dir():
        raise DataError(f"no gallery in {gallery}: there is no such folder")
    if format is TableFormat.html:
        text = html_page.render_page(runs, html_page.gallery_in(gallery or folder / dataset / "gallery"))
    elif format is TableFormat.summary:
        text = summaries.summary(runs)
    elif format is TableFormat.learners:
        text = summaries.learners(runs)
    elif format is TableFormat.subsets:
        text = by_subset.by_subset(runs)
    else:
        text = render(frame, format.value)
        text = fitted(text, width()) if fits else text
    if out is None:
        print(text)
    else:
        write_text(out, text)
        print(f"wrote {out}")


def _no_folder(folder: Path) -> str:
    return f"there is no folder {folder} here; say --folder DIR, such as leaderboards/ of a clone of prisbench"
