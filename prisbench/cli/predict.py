"""``prisbench predict`` and ``prisbench score``: the two halves of ``evaluate``.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import Names, learning_bar, named_dataset, stage_bar
from prisbench.cli.cluster import print_shard, shard_folders
from prisbench.cli.evaluate import print_runs
from prisbench.cli.options import (
    BENCHMARK,
    Concepts,
    DatasetName,
    Deaf,
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
    with_tuned,
)
from prisbench.errors import UsageError
from prisbench.runtime.console import Device, Format, OutputFormat, nothing_on_stdout, progress
from prisbench.runtime.devices import usable_device


def predict(
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
    fresh: Fresh = False,
    keep_errors: KeepErrors = False,
    fail_on_error: FailOnError = False,
    image_seconds: ImageSeconds = 3600.0,
    scenes_at_once: ScenesAtOnce = 1,
    out_of_domain: OutOfDomain = False,
    reason: Reason = None,
    soft_maps: SoftMaps = False,
    shard: ShardOption = None,
    seed: Seeds = [0],  # noqa: B006
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    settings_file: SettingsFile = None,
    format: OutputFormat = Format.text,
) -> None:
    """Learn the subjects and answer the queries; score does the rest, and needs no torch."""
    from prisbench.runs import RunOptions, Scope
    from prisbench.settings import MethodOptions, parse_settings, variants
    from prisbench.sharding import parse_shard
    from prisbench.sweep import Sweep, check_sweep, predict_sweep

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
    wanted = variants(shared, concept or [shared.concept], seed)
    scope = Scope(split, limit, subset, tuple(subject), tuple(query), share)
    sweep = Sweep(method, wanted, out, scope, run_options, None, out_of_domain)
    with nothing_on_stdout():
        check_sweep(sweep)
    with progress() as bar, names.in_errors():
        data = names.of(named_dataset(dataset, bar), split)
        if share is not None:
            folders = shard_folders(sweep, data, bar)
        else:
            learning = learning_bar(bar, "learning one")
            folders = predict_sweep(sweep, data, stage_bar(bar, names), learning, names.tell)
    if share is not None:
        print_shard(share, folders, dataset, format)
        return
    if format is Format.json:
        print(json.dumps({"folders": [str(folder) for folder in folders]}))
        return
    for folder in folders:
        print(f"predictions: {folder}\nscore them with: prisbench score {folder} --dataset {dataset}")


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER_OR_FILE",
            help="A run's folder, or anybody's file: predictions.jsonl, or COCO results (docs/results.md).",
        ),
    ],
    dataset: DatasetName = BENCHMARK,
    name: Annotated[str | None, typer.Option(help="Of a file: the method's name. Default: the file's.")] = None,
    concept: Annotated[
        str | None, typer.Option(help="Of a file: what it learned of the subjects. Default: none.")
    ] = None,
    reference: Annotated[
        ReferenceSetting | None, typer.Option(help="Of a file: what the method was given. Default: photos.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a file: its queries' split. Default: test.")] = None,
    subset: Subset = None,
    subject: Subjects = [],  # noqa: B006
    query: Queries = [],  # noqa: B006
    limit: Limit = None,
    out: Annotated[Path | None, typer.Option(help="Of a file: where to write the record (run.json).")] = None,
    leaderboards: Leaderboards = None,
    reason: Reason = None,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Score predictions: those that ``predict`` made, or a file of another program.  Needs no torch and no weights."""
    from prisbench.foreign import score_file
    from prisbench.leaderboard.publish import publish
    from prisbench.results import write_run
    from prisbench.runs import PREDICTIONS, RUN, Scope
    from prisbench.score import About, score_folder
    from prisbench.test_log import log_look, publish_looks

    of_a_file: dict[str, object] = {"name": name, "concept": concept, "reference": reference, "split": split}
    of_a_file |= {"subset": subset, "subject": subject or None, "query": query or None, "limit": limit, "out": out}
    given = [f"--{option}" for option, value in of_a_file.items() if value is not None]
    if given and predictions.is_dir():
        raise UsageError(f"{', '.join(given)}: only for a file of predictions; {predictions} is a run's folder")
    with progress() as bar:
        data = named_dataset(dataset, bar)
    if predictions.is_dir():
        run, place, file = score_folder(predictions, data), predictions / RUN, predictions / PREDICTIONS
        root = predictions.parent.parent
    else:
        method, setting = name or predictions.name.partition(".")[0], reference or ReferenceSetting.photos
        about = About(str(predictions), method, "none" if concept is None else concept, 0, setting.value, reason)
        scope = Scope("test" if split is None else split, limit, subset, tuple(subject), tuple(query))
        run = score_file(predictions, data, scope, about)
        place, file = out or predictions.with_name(f"{predictions.name.partition('.')[0]}.run.json"), predictions
        root = place.parent
    write_run(run, place)
    log_look(run, root)
    if leaderboards is not None:
        row = publish(run, leaderboards, file)
        publish_looks(root, row.parent, run.dataset.digest)
    print_runs([run], [str(place)], data.manifest.n_queries(run.dataset.split), format, full)
