"""``prisbench evaluate`` and ``prisbench leaderboard``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from prisbench.cli.bars import Names, learning_bar, named_dataset, stage_bar
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
    Leaderboards,
    Limit,
    MethodModel,
    MethodName,
    OutOfDomain,
    Queries,
    Reason,
    Reference,
    ReferenceSetting,
    RunsFolder,
    ScenesAtOnce,
    Seeds,
    Settings,
    SettingsFile,
    ShardOption,
    SoftMaps,
    Split,
    Subjects,
    Subset,
    WorkersOption,
    only_with,
    with_tuned,
)
from prisbench.errors import UsageError
from prisbench.runtime.console import (
    SOME_FAILED,
    Device,
    Format,
    OutputFormat,
    nothing_on_stdout,
    progress,
    tell,
    width,
)
from prisbench.runtime.devices import usable_device

if TYPE_CHECKING:
    from prisbench.cluster.job import Job
    from prisbench.cluster.schedule import Workers
    from prisbench.results import Run


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
    leaderboards: Leaderboards = None,
    fresh: Fresh = False,
    keep_errors: KeepErrors = False,
    fail_on_error: FailOnError = False,
    image_seconds: ImageSeconds = 3600.0,
    scenes_at_once: ScenesAtOnce = 1,
    out_of_domain: OutOfDomain = False,
    reason: Reason = None,
    soft_maps: SoftMaps = False,
    shard: ShardOption = None,
    executor: ExecutorOption = None,
    workers: WorkersOption = None,
    seed: Seeds = [0],  # noqa: B006
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    settings_file: SettingsFile = None,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Run a method on a dataset and score it; run again to go on.  Exit code 2 when it failed on some queries."""
    from prisbench.runs import RunOptions, Scope
    from prisbench.settings import MethodOptions, parse_settings, variants
    from prisbench.sharding import parse_shard
    from prisbench.sweep import Sweep, check_sweep, run_sweep

    only_with("--executor", executor is not None, workers=workers)
    if shard is not None and executor is not None:
        raise UsageError("--shard is one share, --executor hands out all of them; leave one of the two out")
    only_with("a whole run, not with --shard", shard is None, leaderboards=leaderboards)
    share = None if shard is None else parse_shard(shard, os.environ)
    names = Names()
    shared = MethodOptions(model=model, device=usable_device(device), settings=parse_settings(settings))
    shared = dataclasses.replace(shared, warn=names.tell, spare=out / ".concepts")
    shared, tuned = with_tuned(settings_file, shared, concept, reference.value)
    run_options = RunOptions(
        fresh=fresh,
        keep_errors=keep_errors,
        fail_on_error=fail_on_error,
        image_seconds=image_seconds,
        scenes_at_once=scenes_at_once,
        reference=reference.value,
        reason=reason,
        deaf=deaf.value if deaf else None,
        tuned=tuned,
        soft_maps=soft_maps,
    )
    scope = Scope(split, limit, subset, tuple(subject), tuple(query), share)
    team = None if executor is None else _team(executor, shared.device, workers)
    wanted = variants(shared, concept or [shared.concept], seed)
    sweep = Sweep(method, wanted, out, scope, run_options, leaderboards, out_of_domain, team, settings_file)
    with nothing_on_stdout():
        check_sweep(sweep)
    with progress() as bar, names.in_errors():
        data = names.of(named_dataset(dataset, bar), split)
        if share is not None:
            folders = shard_folders(sweep, data, bar)
    if share is not None:
        print_shard(share, folders, dataset, format)
        return
    with progress() as bar, names.in_errors():
        finished = run_sweep(sweep, data, stage_bar(bar, names), learning_bar(bar, "learning one"), names.tell)
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
