"""Runs that are shared by several processes: what a shard prints, ``prisbench merge``, ``prisbench plan``.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prisbench.cli.bars import Names, learning_bar, named_dataset, say_table, stage_bar
from prisbench.cli.options import (
    BENCHMARK,
    Concepts,
    DatasetName,
    Fresh,
    Full,
    Leaderboards,
    Limit,
    MethodModel,
    MethodName,
    Queries,
    Reference,
    ReferenceSetting,
    RunsFolder,
    Seeds,
    Settings,
    Split,
    Subjects,
    Subset,
)
from prisbench.runtime.console import (
    Device,
    Format,
    OutputFormat,
    nothing_on_stdout,
    progress,
    say,
    tell,
)
from prisbench.runtime.devices import usable_device

if TYPE_CHECKING:
    from rich.progress import Progress

    from prisbench.datasets.load import Dataset
    from prisbench.sharding import Shard
    from prisbench.sweep import Sweep


def shard_folders(sweep: Sweep, data: Dataset, bar: Progress) -> list[Path]:
    """Answer a shard's queries with each of a sweep's options: its folders, none where it holds no image."""
    from prisbench.sweep import predict_sweep

    share = sweep.scope.shard
    if share is not None and not any(share.holds(asked.image_id) for asked in sweep.scope.asked(data)):
        return []
    return predict_sweep(sweep, data, stage_bar(bar), learning_bar(bar, "learning one"), tell)


def print_shard(share: Shard, folders: list[Path], dataset: str, format: Format) -> None:
    """Where a shard's answers are, and how all of them become a record."""
    lines = [f"shard {share.words}: {folder}" for folder in folders] or [
        f"shard {share.words} holds none of the images; there is nothing to do"
    ]
    runs = [str(folder.parent.parent) for folder in folders]
    lines += [f"when all {share.of} are there: prisbench merge {run} --dataset {dataset}" for run in runs]
    say({"shard": share.words, "folders": [str(each) for each in folders], "runs": runs}, format, "\n".join(lines))


def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="A run's folder, or folders of its shards, also from elsewhere."),
    ],
    dataset: DatasetName = BENCHMARK,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: that which the shards lie in.")] = None,
    leaderboards: Leaderboards = None,
    fresh: Fresh = False,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Make a run's record of its shards, the same as of one process; names shards that are missing."""
    from prisbench.cli.evaluate import print_runs
    from prisbench.cluster.merge import merge as merge_shards
    from prisbench.leaderboard.publish import publish
    from prisbench.runs import PREDICTIONS
    from prisbench.test_log import publish_looks

    with progress() as bar:
        data = named_dataset(dataset, bar)
        merged = merge_shards(folders, data, out, fresh)
    if leaderboards is not None:
        row = publish(merged.run, leaderboards, merged.path.parent / PREDICTIONS)
        publish_looks(merged.path.parent.parent.parent, row.parent, merged.run.dataset.digest)
    twice = f"; {merged.twice} answers came twice, and count once" if merged.twice else ""
    tell(f"merged {merged.shards} shards{twice}")
    print_runs([merged.run], [str(merged.path)], data.manifest.n_queries(merged.run.dataset.split), format, full)


def plan(
    method: MethodName = "attn",
    dataset: DatasetName = BENCHMARK,
    concept: Concepts = [],  # noqa: B006
    reference: Reference = ReferenceSetting.photos,
    split: Split = "test",
    subset: Subset = None,
    subject: Subjects = [],  # noqa: B006
    query: Queries = [],  # noqa: B006
    limit: Limit = None,
    model: MethodModel = None,
    out: RunsFolder = Path("runs"),
    workers: Annotated[int, typer.Option("--workers", min=1, help="Who will share each run.")] = 1,
    seed: Seeds = [0],  # noqa: B006
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Trainings, images, hours, memory and disk of an evaluation, from a few steps measured here; starts nothing."""
    from prisbench.plan import lines_of_plan, make_plan, record_of_plan
    from prisbench.runs import RunOptions, Scope
    from prisbench.settings import MethodOptions, parse_settings, variants
    from prisbench.sweep import Sweep, check_sweep

    names = Names()
    shared = MethodOptions(
        model=model, device=usable_device(device), settings=parse_settings(settings), warn=names.tell
    )
    scope = Scope(split, limit, subset, tuple(subject), tuple(query))
    wanted = variants(shared, concept or [None], seed)
    sweep = Sweep(method, wanted, out, scope, RunOptions(reference=reference.value))
    with nothing_on_stdout():
        check_sweep(sweep)
    with progress() as bar, names.in_errors():
        data = names.of(named_dataset(dataset, bar), split)
        found = make_plan(sweep, data, workers, names.tell)
    say_table(record_of_plan(found), format, "\n".join(lines_of_plan(found, out)))
