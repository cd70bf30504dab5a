"""``prisbench bench ...``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from prisbench.cli.bars import Names, learning_bar, named_dataset, say_table, stage_bar
from prisbench.cli.options import (
    BENCHMARK,
    Backbone,
    DatasetName,
    Dtype,
    Full,
    Reference,
    ReferenceSetting,
    ScenesAtOnce,
    Settings,
)
from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import Device, Format, OutputFormat, Seed, known, progress, say, tell
from prisbench.runtime.devices import usable_device

app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@app.command("localizer")
def bench_localizer(
    backbone: Annotated[
        str,
        typer.Option(metavar="NAME_OR_FOLDER", help="sd15-random, embedded, or a pipeline's folder."),
    ] = "sd15-random",
    size: Annotated[int | None, typer.Option(min=1, help="Pixels of a square image; default: the backbone's.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Noises, the same on both sides.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each side, in turn; the median is told.")] = 1,
    dtype: Annotated[Dtype, typer.Option(help="The network's numbers, on both sides.")] = Dtype.fp32,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile on our side.")] = False,
    memory_size: Annotated[
        int | None, typer.Option(min=1, help="Measure memory at this size instead, in a process for each side.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Answers a scene's queries, on the embedded backbone.")] = "fast",
    queries: Annotated[int, typer.Option(min=1, help="Texts about one photo; ours answers them in one pass.")] = 1,
    format: OutputFormat = Format.text,
) -> None:
    """The localizer beside the published procedure: seconds, memory, ratios, and how far their maps differ."""
    from prisbench.bench.localizer import Comparison, compare, render

    comparison = Comparison(backbone, size, samples, repeats, dtype.value, compiled, memory_size, preset, queries)
    record = compare(comparison, tell)
    say_table(record, format, render(record))


@app.command("ablation")
def bench_ablation(
    dataset: DatasetName = BENCHMARK,
    split: Annotated[str, typer.Option(help="Settings are chosen on validation; leave test alone.")] = "validation",
    subjects: Annotated[int | None, typer.Option(min=1, help="So many subjects, spread over nouns.")] = None,
    only: Annotated[
        list[str], typer.Option(help='Only this change, or this preset ("preset fast"); may be said again.')
    ] = [],  # noqa: B006
    backbone: Backbone = None,
    seed: Seed = 0,
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """What each part of the localizer is worth: the preset with one thing changed, on the same queries."""
    from prisbench.bench import ablation
    from prisbench.concepts.recipes import LEARNERS
    from prisbench.localizer.method import AttentionMethod
    from prisbench.settings import MethodOptions, parse_settings

    for each in only:
        if not each.startswith(ablation.PRESET):
            known("change", each, tuple(ablation.CHANGES))
    first, *rest = ablation.CHANGES
    changes = [first, *(only or rest)]
    names = Names()
    data = names.of(named_dataset(dataset), split)
    options = MethodOptions(LEARNERS[0], backbone, seed, usable_device(device), parse_settings(settings))
    with progress() as bar, names.in_errors():
        method = AttentionMethod.make(options)
        method.progress = learning_bar(bar, "learning one")
        stage = stage_bar(bar)
        rows = ablation.table(method, data, split, subjects, changes, lambda name, n, of: stage("change", n, of, name))
    say_table(rows, format, ablation.markdown(rows), full)


@app.command("crf")
def bench_crf(
    images: Annotated[int, typer.Option(min=1, help="Photos of 375 x 500, drawn.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    format: OutputFormat = Format.text,
) -> None:
    """The dense CRF in worker processes beside the plain loop, and the refinement that needs no compiler."""
    from prisbench.bench import crf as crf_bench

    record = crf_bench.bench_crf(images, workers, say=tell)
    say_table(record, format, crf_bench.render(record))


@app.command("dataset")
def bench_dataset(
    rows: Annotated[int, typer.Option(help="Queries, with scenes of 32 x 40 pixels.")] = 3000,
    repeats: Annotated[int, typer.Option(help="Runs of each task; the median is told.")] = 1,
    work: Annotated[Path | None, typer.Option(help="Where files come and go; default: the system's folder.")] = None,
    format: OutputFormat = Format.text,
) -> None:
    """Building, validating and loading a dataset: rows per second and memory beside the plain way, and after a kill."""
    from prisbench.bench import dataset as dataset_bench

    record = dataset_bench.bench_dataset(rows, repeats=repeats, work=work, say=tell)
    say_table(record, format, dataset_bench.render(record))


@app.command("learner")
def bench_learner(
    backbone: Annotated[str, typer.Option(metavar="NAME_OR_FOLDER", help="embedded, sd15-random, or a folder.")] = (
        "embedded"
    ),
    steps: Annotated[int, typer.Option(min=2, help="Steps a turn; the first of each is dropped.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 3,
    batch: Annotated[int | None, typer.Option(min=1, help="Default: the recipe's.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels of a square image; default: the backbone's.")] = None,
    dtype: Annotated[
        Dtype | None, typer.Option(help="The network's numbers, on both sides; default: what learning takes here.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos; default: five files of the backbone's own size.")
    ] = None,
    format: OutputFormat = Format.text,
) -> None:
    """Textual inversion beside the plain loop of the diffusers example: steps a second, and memory."""
    from prisbench.bench import learner as learner_bench

    comparison = learner_bench.LearningComparison(backbone, steps, batch, dtype and dtype.value, rounds, size, photos)
    record = learner_bench.bench_learner(comparison, tell)
    say_table(record, format, learner_bench.render(record))


@app.command("methods")
def bench_methods(
    method: Annotated[
        list[str], typer.Option("--method", help="A name, or a Python file; default: all that have a name; repeatable.")
    ] = [],  # noqa: B006
    dataset: DatasetName = BENCHMARK,
    split: Annotated[str, typer.Option(help="Whose scenes; leave test alone.")] = "validation",
    subjects: Annotated[int, typer.Option(min=1, help="So many subjects, spread over nouns.")] = 2,
    queries: Annotated[int, typer.Option(min=1, help="Queries about them, spread over types and grades.")] = 24,
    reference: Reference = ReferenceSetting.photos,
    scenes_at_once: ScenesAtOnce = 8,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """Every method on the same scenes, each in a process of its own: seconds, the network's share of them, memory, and
    what several scenes at once bring where a method can.
    """
    from prisbench import methods
    from prisbench.bench import methods as methods_bench

    wanted = method or methods.names()
    for name in wanted:
        methods.method_file(name)
    data = named_dataset(dataset)
    jobs = [
        methods_bench.MethodJob(
            name, str(data.folder), split, subjects, queries, reference.value, at_once=scenes_at_once
        )
        for name in wanted
    ]
    rows = methods_bench.bench_methods(jobs, tell)
    say_table(rows, format, methods_bench.markdown(rows), full)


@app.command("operations")
def bench_operations(format: OutputFormat = Format.text, full: Full = False) -> None:
    """Operations of the methods that need outside weights, counted on their networks' shapes, and hours on a named GPU;
    no weights are needed.
    """
    from prisbench.bench import operations

    rows = operations.operations(tell)
    say_table(operations.records(rows), format, operations.markdown(rows), full)


@app.command("shortcuts")
def bench_shortcuts(format: OutputFormat = Format.text, full: Full = False) -> None:
    """How far Tabletop can be solved without knowing the subject: predictors that look at one thing only; fails when
    one of them is above chance.
    """
    from prisbench.tabletop.audit import report

    rows = report.measure(report.benchmark())
    say_table([dataclasses.asdict(row) for row in rows], format, report.markdown(rows), full)
    if flaws := report.flaws(rows):
        raise DataError(
            f"{len(flaws)} predictors are above chance, first {flaws[0].predictor!r}: a method could use it"
        )


@app.command("network-free")
def bench_network_free(
    dataset: DatasetName = BENCHMARK,
    split: Annotated[str, typer.Option(help="Weights are fitted on validation alone.")] = "validation",
    reference: Reference = ReferenceSetting.photos,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many queries, spread over subjects, types and grades.")
    ] = None,
    refit: Annotated[bool, typer.Option("--fit", help="Fit the weights first, on validation, and keep them.")] = False,
    weights: Annotated[Path | None, typer.Option(help="The file of weights; default: the package's own.")] = None,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """How far a dataset can be solved without a network: each predictor by type and grade, with true outlines, too, and
    with an input taken away.
    """
    from prisbench.network_free import audit, fitting
    from prisbench.network_free.weights import FILE
    from prisbench.split_subjects import given

    data, file = named_dataset(dataset), weights or FILE
    with progress() as bar:
        stage = stage_bar(bar)
        total = limit or data.manifest.n_queries(split)
        if refit:
            of = limit or data.manifest.n_queries("validation")
            fitting.fit_file(data, reference.value, file, limit, lambda n: stage("fit", n, of, ""))
        rows = audit.measure(
            data,
            split,
            given(data.subjects(split), reference.value),
            audit.Options(limit, file),
            lambda deaf, n: stage(f"deaf to {deaf}" if deaf else "locate", n, total, ""),
        )
    say_table(audit.records(rows), format, audit.markdown(rows), full)


@app.command("attn-features")
def bench_attn_features(
    dataset: DatasetName = BENCHMARK,
    reference: Reference = ReferenceSetting.photos,
    concept: Annotated[str, typer.Option(help="What the words are: a learner or a control.")] = "textual-inversion",
    backbone: Backbone = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many queries, spread over subjects, types and grades.")
    ] = None,
    refit: Annotated[bool, typer.Option("--fit", help="Keep the weights that are fitted on all subjects.")] = False,
    weights: Annotated[Path | None, typer.Option(help="The file of weights; default: the package's own.")] = None,
    settings: Settings = [],  # noqa: B006
    outlines: Annotated[
        bool, typer.Option("--outlines", help="Choose among the true outlines of a scene's things.")
    ] = False,
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """What each cue of looks is worth to attn-features, each subject answered by weights fitted on other subjects.

    Learns the subjects' concepts where that was not done before.
    """
    from prisbench.appearance import fitting
    from prisbench.appearance.choice import FILE
    from prisbench.appearance.method import FeaturesMethod
    from prisbench.settings import MethodOptions, parse_settings
    from prisbench.split_subjects import given

    names = Names()
    options = MethodOptions(concept=concept, model=backbone, settings=parse_settings(settings), say=names.tell)
    FeaturesMethod.check(options)
    data = names.of(named_dataset(dataset), "validation")
    method = FeaturesMethod.make(options)
    if refit and (method.own.wordless or outlines):
        raise UsageError("weights are fitted on found regions, with words; leave --outlines and features.wordless out")
    examples = data.examples("validation", limit)
    asked = {each.query.id: fitting.Asked(each.query.subject_id, each.pair_id) for each in examples}
    whose = {each.subject_id for each in asked.values()}
    subjects = [each for each in given(data.subjects("validation"), reference.value) if each.id in whose]
    concepts, seen = {}, []
    with progress() as bar, names.in_errors():
        stage = stage_bar(bar, names)
        for subject in subjects:
            concepts[subject.id] = method.remember(subject)
            stage("learn", len(concepts), len(subjects), subject.id)
        for each in fitting.look_all(data, method, concepts, limit, outlines):
            seen.append(each)
            stage("locate", len(seen), len(asked), "")
    if refit:
        about = {"dataset": data.id, "digest": data.digest, "split": "validation", "limit": limit, "concept": concept}
        about = {**about, "backbone": method.model}
        fitting.fit_file(seen, reference.value, about, weights or FILE, method.own.kind)
    rows = fitting.worth(seen, asked)
    say_table([dataclasses.asdict(row) for row in rows], format, fitting.markdown(rows), full)


@app.command("own-photos")
def bench_own_photos(
    dataset: DatasetName = BENCHMARK,
    concept: Annotated[str, typer.Option(help="What the words are: a learner or a control.")] = "noun-only",
    backbone: Backbone = None,
    settings: Settings = ["features.regions=things"],  # noqa: B006
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """How well attn-features finds subjects in their own photos, where validation knows their masks."""
    from prisbench.appearance.method import FeaturesMethod
    from prisbench.appearance.own_photos import markdown, overlaps
    from prisbench.settings import MethodOptions, parse_settings

    data = named_dataset(dataset)
    method = FeaturesMethod.make(
        MethodOptions(concept=concept, model=backbone, settings=parse_settings(settings), say=tell)
    )
    subjects, found = data.subjects("validation"), dict[str, dict[str, float]]()
    with progress() as bar:
        stage = stage_bar(bar)
        for n, subject in enumerate(subjects, 1):
            for way, of in overlaps(method, [subject]).items():
                found.setdefault(way, {}).update(of)
            stage("find", n, len(subjects), subject.id)
    records = [
        {"way": way, "subject": subject, "iou": each} for way, of in found.items() for subject, each in of.items()
    ]
    say_table(records, format, markdown(found), full)


@app.command("unseen")
def bench_unseen(
    scenes: Annotated[int | None, typer.Option(help="Training scenes to look at; default: all.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that draw the captions again.")] = 1,
    format: OutputFormat = Format.text,
) -> None:
    """Prove that no training scene or caption of the embedded backbone shows a subject's pattern or pair of colours."""
    from prisbench.tabletop.audit.unseen import drawn_captions, unseen
    from prisbench.tabletop.captions import TRAINING_SCENES

    wanted = TRAINING_SCENES if scenes is None else scenes
    found = unseen(wanted, drawn_captions(wanted, processes))
    record = dataclasses.asdict(found)
    record["pairs"] = {" and ".join(pair): n for pair, n in found.pairs.items()}
    say_table(record, format, found.render())
    if found.broken:
        raise DataError("training has shown what the benchmark's subjects should have kept to themselves")


@app.command("by-eye")
def bench_by_eye(
    out: Annotated[Path, typer.Option(help="Folder for the sheets, and for key.json with the right answers.")],
    dataset: DatasetName,
    split: Annotated[str, typer.Option(help="Whose queries.")] = "validation",
    each: Annotated[int, typer.Option(min=1, help="Queries of each type and grade.")] = 20,
    answers: Annotated[
        Path | None, typer.Option(help='Count these instead: JSON, {"1": number of the thing, 0 for none, ...}.')
    ] = None,
    seed: Seed = 0,
    format: OutputFormat = Format.text,
) -> None:
    """Sheets of queries to answer from pictures alone: what a person gets right."""
    from prisbench.bench import by_eye

    if answers is None:
        sheets = by_eye.draw_sheets(named_dataset(dataset), split, out, each, seed)
        say({"sheets": sheets, "folder": str(out)}, format, f"{sheets} sheets in {out}; the answers are in key.json")
        return
    right = by_eye.read_right(out / "key.json", answers)
    lines = [f"{subset:24} {n:3} of {total}" for subset, (n, total) in right.items()]
    say({subset: {"right": n, "asked": total} for subset, (n, total) in right.items()}, format, "\n".join(lines))
