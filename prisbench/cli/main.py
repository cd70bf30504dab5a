"""The command line: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``--help`` answers at once.  A mistake a user can mend is one line
on stderr and exit code 1; an interruption says how to go on and exits with 130; a run in which some queries failed
exits with 2, as does a command line that makes no sense.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from prisbench.cli.datasets import app as dataset_commands
from prisbench.cli.wsss import app as wsss
from prisbench.errors import DataError, PrisbenchError, UsageError
from prisbench.runtime.console import (
    INTERRUPTED,
    SOME_FAILED,
    Device,
    Format,
    OutputFormat,
    Seed,
    known,
    nothing_on_stdout,
    progress,
    say,
    stages,
    table_bars,
    tell,
)
from prisbench.runtime.devices import let_waiting_threads_sleep, usable_device

if TYPE_CHECKING:
    from rich.progress import Progress

    from prisbench.results import Run
    from prisbench.settings import MethodOptions

app = typer.Typer(
    name="prisbench",
    help="Personalized referring image segmentation: learn a thing from photos, find it by text, compare methods.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


bench = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")
concepts = typer.Typer(help="Concepts to and from the files that other programs use.", no_args_is_help=True)
app.add_typer(concepts, name="concept")
app.add_typer(wsss, name="wsss")
app.add_typer(dataset_commands)


class TableFormat(StrEnum):
    md = "md"
    csv = "csv"
    json = "json"
    html = "html"
    summary = "summary"
    learners = "learners"


class Dtype(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"


Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a number, e.g. localizer.tau=0.3; repeatable."),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="ID_OR_FOLDER",
        help="A diffusers pipeline: hub id or folder. Default: the embedded one, which knows Tabletop only.",
    ),
]


Seeds = Annotated[list[int], typer.Option("--seed", help="Everything random follows from it; several: 0 1 2.")]


class SeveralValues(typer.core.TyperCommand):
    """A command without arguments, so that what follows an option that may be repeated can only be more of its values:
    ``--seed 0 1 2`` is ``--seed 0 --seed 1 --seed 2``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, spread(args, ("--seed", "--concept", "--learner")))


def spread(args: list[str], options: tuple[str, ...]) -> list[str]:
    """The arguments with the name of these options before each of their values."""
    spread_out: list[str] = []
    name, taken = "", False
    for arg in args:
        if name and taken and not arg.startswith("-"):
            spread_out += [name, arg]
            continue
        if name and not taken:
            taken = True
        else:
            name, equals, _ = arg.partition("=")
            name, taken = (name, bool(equals)) if name in options else ("", False)
        spread_out.append(arg)
    return spread_out


def main() -> None:
    """Entry point of the ``prisbench`` command."""
    let_waiting_threads_sleep()
    try:
        app()
    except PrisbenchError as error:
        tell(f"error: {' '.join(str(error).split())}")
        sys.exit(1)
    except MemoryError as error:
        tell(f"error: out of memory ({' '.join(str(error).split()) or 'no size given'}); close other programs")
        sys.exit(1)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as done:
        if done.code == INTERRUPTED:  # what typer makes of a KeyboardInterrupt inside a command
            _interrupted()
        raise
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _interrupted() -> NoReturn:
    tell("interrupted; what is finished is kept, and the same command goes on from there")
    sys.exit(INTERRUPTED)


# ---------------------------------------------------------------------------------------------------------------------
# commands


@app.command("learn-concept", cls=SeveralValues)
def learn_concept(
    photos: Annotated[Path | None, typer.Option(help="A folder with 1-30 photos of one thing.")] = None,
    noun: Annotated[str | None, typer.Option(help="The thing's class word, such as mug.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Instead of photos: a dataset's name or folder...")] = None,
    subject: Annotated[str | None, typer.Option(help="...and one of its subjects; all when left out.")] = None,
    split: Annotated[str, typer.Option(help="The dataset's split.")] = "test",
    learner: Annotated[
        list[str], typer.Option(help="textual-inversion, dreambooth, dreambooth-lora or custom-diffusion; or several.")
    ] = ["textual-inversion"],  # noqa: B006
    mask_value: Annotated[
        str | None,
        typer.Option(help="The values of mask files that are the thing, like 255, 1,2 or 128-255; default: not 0."),
    ] = None,
    mask_frame: Annotated[
        str | None,
        typer.Option(help="Masks of photos turned by EXIF lie on the photo as shown (upright) or as stored (raw)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the concept; default: the store in the cache.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Folder for a picture of each concept: photos, maps, samples, loss.")
    ] = None,
    backbone: Backbone = None,
    seed: Seeds = [0],  # noqa: B006
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Learn one particular thing from a few photos."""
    from prisbench import learning
    from prisbench.concepts.recipes import LEARNERS
    from prisbench.localizer.method import AttentionMethod
    from prisbench.settings import MethodOptions, parse_settings

    for each in learner:
        known("learner", each, LEARNERS)
    shared = MethodOptions(model=backbone, device=usable_device(device), settings=parse_settings(settings))
    wanted = _each(shared, learner, seed)
    for options in wanted:
        AttentionMethod.check(options)
    things = _subjects(photos, noun, dataset, subject, split, (mask_value, mask_frame))
    jobs = learning.plan(wanted, things, out, sheet)
    spare = out and out.resolve().with_name(f".{out.resolve().name}.learning")
    with progress() as bar:
        learned = learning.carry_out(jobs, spare, tell, lambda title: _bar(bar, title))
    say(
        learned if len(learned) != 1 else learned[0],
        format,
        "\n".join(f"{r['subject']}: {r['folder']}" for r in learned),
    )


@concepts.command("export")
def export_concept(
    concept: Annotated[Path, typer.Argument(help="A concept's folder, from learn-concept.")],
    to: Annotated[str, typer.Option("--to", help="learned-embeds, a1111, lora, kohya, custom-diffusion or folder.")],
    out: Annotated[Path, typer.Option(help="The folder to write into.")],
    token: Annotated[str | None, typer.Option(help="The word that other programs will know it by.")] = None,
    backbone: Backbone = None,
    format: OutputFormat = Format.text,
) -> None:
    """Write a concept in a form that diffusers, kohya's scripts or web UIs load."""
    from prisbench.concepts import interop
    from prisbench.concepts.store import read_concept
    from prisbench.diffusion.backbone import load_backbone

    known("concept format", to, interop.FORMATS)
    written = interop.export_concept(read_concept(concept), to, out, load_backbone(backbone), token)
    say({"files": [str(path) for path in written]}, format, "\n".join(map(str, written)))


@concepts.command("import")
def import_concept(
    path: Annotated[Path, typer.Argument(help="A safetensors file, or the folder another program wrote.")],
    noun: Annotated[str, typer.Option(help="The thing's class word, such as mug.")],
    rare: Annotated[str, typer.Option(help="For LoRA and DreamBooth: the rare word it was trained with.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for the concept; default: the store in the cache.")] = None,
    backbone: Backbone = None,
    format: OutputFormat = Format.text,
) -> None:
    """Take up a concept that another program learned on the same backbone."""
    from prisbench.concepts import interop
    from prisbench.concepts.store import default_store, write_concept
    from prisbench.diffusion.backbone import load_backbone

    concept = interop.import_concept(path, load_backbone(backbone), noun, rare=rare)
    folder = write_concept(concept, out or default_store() / concept.id)
    say({"concept": concept.id, "folder": str(folder), "learner": concept.learner}, format, str(folder))


@app.command(cls=SeveralValues)
def evaluate(
    method: Annotated[str, typer.Option(help="A method's name, or a Python file that defines make(options).")] = "attn",
    dataset: Annotated[str, typer.Option(help="A dataset's name or folder.")] = "tabletop-v2",
    concept: Annotated[
        list[str],
        typer.Option(
            help="For attn: a learner, or a control: noun-only, untrained-token, another-subject; or several of them."
        ),
    ] = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="Settings are chosen on validation; test is reported.")] = "test",
    subset: Annotated[str | None, typer.Option(help="One query type only.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="So many queries, spread over subjects and types, for trying out.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--backbone", metavar="ID_OR_FOLDER", help="Weights for the method.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where runs are kept.")] = Path("runs"),
    leaderboards: Annotated[
        Path | None, typer.Option(help="Also put the results into DIR/<dataset>/ and make its README again.")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Forget an earlier run instead of going on with it.")] = False,
    keep_errors: Annotated[
        bool, typer.Option("--keep-errors", help="Do not try queries again that failed in an earlier run.")
    ] = False,
    fail_on_error: Annotated[bool, typer.Option("--fail-on-error", help="Stop at the first query that fails.")] = False,
    out_of_domain: Annotated[
        bool, typer.Option("--out-of-domain", help="Run also where the backbone knows nothing of the scenes.")
    ] = False,
    seed: Seeds = [0],  # noqa: B006
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Run a method on a dataset and score it; run again to go on.  Exit code 2 when it failed on some queries."""
    from prisbench.datasets.named import find_dataset
    from prisbench.evaluate import OnFailure, Scope
    from prisbench.evaluate import evaluate as run_method
    from prisbench.leaderboard import intervals, tables
    from prisbench.methods import check_options, load_method
    from prisbench.out_of_domain import check_dataset
    from prisbench.runtime.files import check_writable
    from prisbench.settings import MethodOptions, parse_settings
    from prisbench.types import TellsCost

    if leaderboards is not None and (subset is not None or limit is not None):
        raise UsageError("--leaderboards wants a whole run of a split: leave out --subset and --limit")
    for target in [out] if leaderboards is None else [out, leaderboards]:
        check_writable(target)
    shared = MethodOptions(model=model, device=usable_device(device), settings=parse_settings(settings))
    shared = dataclasses.replace(shared, warn=tell, spare=out / ".concepts")
    wanted = _each(shared, concept or [None], seed)
    with nothing_on_stdout():
        check_options(method, wanted)
    runs: list[Run] = []
    paths: list[str] = []
    with progress() as bar:
        data = find_dataset(dataset, table_bars(bar, "drawing", {}), tell)
        for options in wanted:
            chosen = load_method(method, dataclasses.replace(options, progress=_bar(bar, "learning one")))
            if isinstance(chosen, TellsCost) and not runs:
                first = next(iter(data.examples(split, 1)), None)
                with contextlib.suppress(DataError):  # a photo it cannot look at fails alone, when its turn comes
                    if first is not None:
                        tell(chosen.cost(first.image.shape[:2]))
            if not runs and (line := check_dataset(data, chosen, split, out_of_domain)):
                tell(line)
            scope = Scope(split, limit, subset)
            on_failure = OnFailure(keep_errors, fail_on_error)
            run, path = run_method(data, chosen, out, scope, options.seed, _stage_bar(bar), fresh, on_failure)
            runs.append(run)
            paths.append(str(path))
            if leaderboards is not None:
                _publish(run, leaderboards / (data.id if split == "test" else f"{data.id}-{split}"))
    frame, part = tables.rows(runs), intervals.part(runs, sum(data.manifest.queries[split].values()))
    if format is not Format.json:
        print(tables.render(frame, "md") + (f"- {intervals.part_note(part)}\n" if part else ""))
        print("\n".join(f"full record: {path}" for path in paths))
    elif len(runs) == 1:
        print(json.dumps({"run": paths[0], "partial": part, **tables.records_of(frame)[0]}))
    else:
        print(json.dumps({"runs": paths, "partial": part, "rows": tables.records_of(frame)}))
    if failures := [query for run in runs for query in run.queries if query.error is not None]:
        tell(
            f"{len(failures)} of {sum(len(run.queries) for run in runs)} queries failed, first "
            f"{failures[0].query_id!r} ({failures[0].error}); the same command tries them again"
        )
        raise typer.Exit(SOME_FAILED)


@app.command()
def leaderboard(
    dataset: Annotated[str, typer.Option(help="Whose leaderboard: a folder below --folder.")] = "tabletop-v2",
    folder: Annotated[Path, typer.Option(help="Where result files are kept, one folder a dataset.")] = Path(
        "leaderboards"
    ),
    subset: Annotated[str | None, typer.Option(help="One query type, or present (all but absent).")] = None,
    format: Annotated[TableFormat, typer.Option(help="How to print it.")] = TableFormat.md,
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
    gallery: Annotated[Path | None, typer.Option(help="For html: a folder of pictures to show (PNG).")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check that every README.md agrees with its result files.")
    ] = False,
) -> None:
    """The table of a dataset, from its committed result files."""
    from prisbench.leaderboard import page, tables
    from prisbench.runtime.files import write_text

    if check:
        _check_leaderboards(folder)
        return
    if not (folder / dataset).is_dir():
        from prisbench.errors import UnknownNameError

        known = [path.name for path in folder.glob("*/")] if folder.is_dir() else []
        raise UnknownNameError(f"leaderboard in {folder}", dataset, known)
    runs = tables.load_runs(folder / dataset)
    frame = tables.rows(runs, subset)
    if gallery is not None and not gallery.is_dir():
        raise DataError(f"no gallery in {gallery}: there is no such folder")
    if format is TableFormat.html:
        pictures = gallery or folder / dataset / "gallery"
        overlays = [
            page.Overlay(p.stem, p.stem.replace("-", " "), p.read_bytes()) for p in sorted(pictures.glob("*.png"))
        ]
        text = page.render_page(runs, overlays)
    elif format is TableFormat.summary:
        text = tables.summary(runs)
    elif format is TableFormat.learners:
        text = tables.learners(runs)
    else:
        text = tables.render(frame, format.value)
    if out is None:
        print(text)
    else:
        write_text(out, text)
        print(f"wrote {out}")


@app.command()
def segment(
    photo: Annotated[Path, typer.Argument(help="The photo to search.")],
    text: Annotated[str, typer.Option(help="What to look for, with the slot {subject}.")] = "a photo of the {subject}",
    concept: Annotated[Path | None, typer.Option(help="A concept's folder, from learn-concept.")] = None,
    noun: Annotated[str | None, typer.Option(help="Another class word than the concept's; or the word alone.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for mask.png, overlay.png and map.png.")] = Path("segmented"),
    backbone: Backbone = None,
    device: Device = "auto",
    settings: Settings = [],  # noqa: B006
    format: OutputFormat = Format.text,
) -> None:
    """Find the thing in one photo, or find that it is not there."""
    import time

    from prisbench.concepts.controls import noun_only
    from prisbench.concepts.store import read_concept
    from prisbench.images import drawing as pictures
    from prisbench.images import masks
    from prisbench.images.photos import load_photo
    from prisbench.localizer.method import AttentionMethod
    from prisbench.out_of_domain import in_domain, look, warning
    from prisbench.runtime.files import check_writable, write_bytes
    from prisbench.settings import MethodOptions, parse_settings
    from prisbench.types import SLOT, Query, Subject

    if SLOT not in text:
        raise UsageError(
            f"--text {text!r} has no slot: write {SLOT} where the thing's own words go, as in 'the {SLOT} on the desk'"
        )
    if concept is None and noun is None:
        raise UsageError("give --concept FOLDER (from learn-concept) or --noun WORD (the class word alone)")
    check_writable(out)
    image = load_photo(photo)
    known = read_concept(concept) if concept else noun_only(Subject("photo", noun or "", ()))
    known = dataclasses.replace(known, noun=noun) if noun else known
    with nothing_on_stdout():
        method = AttentionMethod.make(
            MethodOptions("noun-only", backbone, 0, usable_device(device), parse_settings(settings))
        )
        method.say = tell
        strange = look(method, image)
        if line := warning([strange], "photo"):
            tell(line)
        start = time.perf_counter()
        answer = method.locate(image, [Query("photo", known.subject_id, text)], {known.subject_id: known})[0]
    seconds = time.perf_counter() - start
    import numpy as np

    mask = answer.mask if answer.mask is not None else np.zeros(image.shape[:2], bool)
    write_bytes(out / "mask.png", masks.to_png(mask))
    write_bytes(out / "overlay.png", pictures.png(pictures.outline(image, mask, width=max(1, max(image.shape) // 300))))
    if answer.score is not None:
        write_bytes(out / "map.png", pictures.png(pictures.heat(image, answer.score)))
    threshold = method.presence(known)
    record = {
        "found": bool(mask.any()),
        "presence": answer.presence,
        "presence_threshold": threshold.threshold,
        "in_domain": in_domain(strange),
        "area_fraction": float(mask.mean()),
        "seconds": round(seconds, 3),
        "out": str(out),
    }
    where = f"covers {mask.mean():.1%} of the photo" if mask.any() else "not here"
    seen = f"presence {answer.presence:.3f} ({threshold.line})"
    say(record, format, f"{where}; {seen}; {seconds:.2f} s; pictures in {out}")


@app.command("presets")
def show_presets(
    name: Annotated[str | None, typer.Argument(help="paper, fast or accurate; all when left out.")] = None,
    family: Annotated[str, typer.Option(help="embedded, sd (Stable Diffusion 1.x, 2.x) or sdxl.")] = "embedded",
    format: OutputFormat = Format.text,
) -> None:
    """Every number of the localizer's presets; each can be overridden with --set localizer.NAME=VALUE."""
    from prisbench.localizer import presence
    from prisbench.localizer import settings as presets

    known("backbone family", family, tuple(presets.PRESETS))
    names = [name] if name else list(presets.PRESETS[family])
    records = {each: presets.preset(each, family).as_record() for each in names}
    if format is Format.json:
        print(json.dumps(records))
        return
    width = max(len(key) for record in records.values() for key in record)
    for each, record in records.items():
        standard = " (the default)" if presets.DEFAULTS[family] == each else ""
        threshold = presence.in_use(presets.preset(each, family), family, "")
        print(f"{each} on {family}{standard}; {threshold.line}")
        print("\n".join(f"  {key:{width}}  {json.dumps(value)}" for key, value in record.items()) + "\n")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the set, the runs and the pictures go.")] = Path("demo"),
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """The whole loop in minutes: build a small set, learn two things, compare methods, draw pictures."""
    from prisbench.demo import run

    with progress() as bar:
        result = run(out, seed, usable_device(device), _stage_bar(bar), _bar(bar, "learning one"), tell)
    print(result.table)
    print(f"\npictures: {result.sheet}\npage:     {result.page}")


@app.command()
def doctor(
    format: OutputFormat = Format.text,
) -> None:
    """What is installed, which device is used, what is missing and how to get it."""
    from prisbench import doctor as examination

    record = examination.report(ask_torch=True)
    say(record, format, examination.render(record))


@bench.command("localizer")
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
    format: OutputFormat = Format.text,
) -> None:
    """The localizer beside the published procedure: seconds, memory, ratios, and how far their maps differ."""
    from prisbench.bench.localizer import Comparison, compare, render

    comparison = Comparison(backbone, size, samples, repeats, dtype.value, compiled, memory_size, preset)
    record = compare(comparison, tell)
    say(record, format, render(record))


@bench.command("ablation")
def bench_ablation(
    dataset: Annotated[str, typer.Option(help="A dataset's name or folder.")] = "tabletop-v2",
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
) -> None:
    """What each part of the localizer is worth: the preset with one thing changed, on the same queries."""
    from prisbench.bench import ablation
    from prisbench.concepts.recipes import LEARNERS
    from prisbench.datasets.named import find_dataset
    from prisbench.localizer.method import AttentionMethod
    from prisbench.settings import MethodOptions, parse_settings

    for each in only:
        if not each.startswith(ablation.PRESET):
            known("change", each, tuple(ablation.CHANGES))
    first, *rest = ablation.CHANGES
    names = [first, *(only or rest)]
    data = find_dataset(dataset)
    options = MethodOptions(LEARNERS[0], backbone, seed, usable_device(device), parse_settings(settings))
    with progress() as bar:
        method = AttentionMethod.make(options)
        method.progress = _bar(bar, "learning one")
        stage = _stage_bar(bar)
        rows = ablation.table(method, data, split, subjects, names, lambda name, n, of: stage("change", n, of, name))
    say(rows, format, ablation.markdown(rows))


@bench.command("crf")
def bench_crf(
    images: Annotated[int, typer.Option(min=1, help="Photos of 375 x 500, drawn.")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    format: OutputFormat = Format.text,
) -> None:
    """The dense CRF in worker processes beside the plain loop, and the refinement that needs no compiler."""
    from prisbench.bench import crf as crf_bench

    record = crf_bench.bench_crf(images, workers, say=tell)
    say(record, format, crf_bench.render(record))


@bench.command("dataset")
def bench_dataset(
    rows: Annotated[int, typer.Option(help="Queries, with scenes of 32 x 40 pixels.")] = 3000,
    repeats: Annotated[int, typer.Option(help="Runs of each task; the median is told.")] = 1,
    work: Annotated[Path | None, typer.Option(help="Where files come and go; default: the system's folder.")] = None,
    format: OutputFormat = Format.text,
) -> None:
    """Building, validating and loading a dataset: rows per second and memory beside the plain way, and after a kill."""
    from prisbench.bench import dataset as dataset_bench

    record = dataset_bench.bench_dataset(rows, repeats=repeats, work=work, say=tell)
    say(record, format, dataset_bench.render(record))


@bench.command("learner")
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

    record = learner_bench.bench_learner(
        backbone, steps, batch, dtype and dtype.value, rounds, size, photos=photos, say=tell
    )
    say(record, format, learner_bench.render(record))


@bench.command("shortcuts")
def bench_shortcuts(format: OutputFormat = Format.text) -> None:
    """How far Tabletop can be solved without knowing the subject: predictors that look at one thing only; fails when
    one of them is above chance.
    """
    from prisbench.tabletop import audit as shortcuts

    rows = shortcuts.measure(shortcuts.benchmark())
    say([dataclasses.asdict(row) for row in rows], format, shortcuts.markdown(rows))
    if flaws := shortcuts.flaws(rows):
        raise DataError(
            f"{len(flaws)} predictors are above chance, first {flaws[0].predictor!r}: a method could use it"
        )


@bench.command("unseen")
def bench_unseen(
    scenes: Annotated[int | None, typer.Option(help="Training scenes to look at; default: all.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that draw the captions again.")] = 1,
    format: OutputFormat = Format.text,
) -> None:
    """Prove that no training scene or caption of the embedded backbone shows a subject's pattern or pair of colours."""
    from prisbench.tabletop import audit as shortcuts
    from prisbench.tabletop import scenes as tabletop

    wanted = tabletop.TRAINING_SCENES if scenes is None else scenes
    found = shortcuts.unseen(wanted, shortcuts.drawn_captions(wanted, processes))
    record = dataclasses.asdict(found)
    record["pairs"] = {" and ".join(pair): n for pair, n in found.pairs.items()}
    say(record, format, found.render())
    if found.broken:
        raise DataError("training has shown what the benchmark's subjects should have kept to themselves")


@app.command("train-backbone")
def train_backbone(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the finished pipeline; run again to go on.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Denoiser steps; default: the recipe's.")] = None,
    scenes: Annotated[int | None, typer.Option(min=96, help="Training scenes; default: the recipe's.")] = None,
    vae_steps: Annotated[int | None, typer.Option(min=1, help="Autoencoder steps; default: the recipe's.")] = None,
    quality_scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes to measure localization on.")] = 200,
    seed: Seed = 0,
    format: OutputFormat = Format.text,
) -> None:
    """Train the embedded backbone again, from nothing; hours on a CPU, resumable."""
    from prisbench.embedded import recipe as recipes
    from prisbench.embedded.card import finish

    given = {"steps": steps, "scenes": scenes, "vae_steps": vae_steps, "seed": seed}
    recipe = recipes.Recipe(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    tell(recipes.cost(recipe))
    with progress() as bar:
        folder = recipes.train(out, recipe, _training_bar(bar))
    quality = finish(folder, out, recipe, quality_scenes)
    say({"folder": str(folder), **quality}, format, f"pipeline in {folder}; held-out phrases: {quality}")


# ---------------------------------------------------------------------------------------------------------------------
# what commands share


def _each(shared: MethodOptions, concepts: Sequence[str | None], seeds: Sequence[int]) -> list[MethodOptions]:
    """The shared options with every concept and every seed, each named once."""
    pairs = itertools.product(dict.fromkeys(concepts), dict.fromkeys(seeds))
    return [dataclasses.replace(shared, concept=concept, seed=seed) for concept, seed in pairs]


def _subjects(
    photos: Path | None,
    noun: str | None,
    dataset: str | None,
    subject: str | None,
    split: str,
    mask_rule: tuple[str | None, str | None] = (None, None),
) -> list[Any]:
    """The subjects to learn.  ``mask_rule``: what is said of the photos' masks, value and frame."""
    from prisbench.datasets.named import find_dataset
    from prisbench.datasets.photo_folder import read_own_photos, remarks, suggested_noun
    from prisbench.datasets.schema import subject_id
    from prisbench.datasets.sources.mask_files import parse_rule
    from prisbench.errors import UnknownNameError
    from prisbench.types import Subject

    if (photos is None) == (dataset is None):
        raise UsageError("give either --photos FOLDER with --noun WORD, or --dataset NAME")
    if dataset is not None and mask_rule != (None, None):
        raise UsageError("--mask-value and --mask-frame are said of masks beside --photos, not of a dataset")
    if photos is not None:
        if not noun:
            raise UsageError(
                f"--photos needs --noun, the thing's class word, such as --noun {suggested_noun(photos) or 'mug'}"
            )
        own = read_own_photos(photos, parse_rule(*mask_rule, "--mask-value ", "--mask-frame "))
        for line in remarks(own):
            tell(line)
        return [Subject(subject_id(noun, own.photos), noun, own.photos, own.masks)]
    found = find_dataset(str(dataset)).subjects(split)
    if subject is None:
        return found
    chosen = [each for each in found if each.id == subject]
    if not chosen:
        raise UnknownNameError("subject", subject, [each.id for each in found])
    return chosen


def _publish(run: Run, folder: Path) -> None:
    """Put a run among the result files of its dataset; nothing is written when it may not stand among them."""
    from prisbench.evaluate import run_name
    from prisbench.leaderboard import tables
    from prisbench.results import read_run, write_run
    from prisbench.runtime.files import write_text

    place = folder / f"{run_name(run.method, run.concept, run.seed)}.json"
    paths = sorted({*folder.glob("*.json"), place})
    runs = [run if path == place else read_run(path, run.dataset) for path in paths]
    text = tables.readme(runs)
    write_run(run, place)
    write_text(folder / "README.md", text)
    tables.write_pages(folder.parent.parent, runs)


def _check_leaderboards(folder: Path) -> None:
    from prisbench.leaderboard import tables

    folders = sorted({path.parent for path in folder.glob("*/*.json")})
    if not folders:
        raise DataError(f"{folder} holds no leaderboards: no result files in its folders")
    for each in folders:
        changes = tables.check(each)
        if changes:
            tell("\n".join(changes))
            raise DataError(
                f"{each}/README.md does not agree with the result files beside it; "
                "make it again with prisbench evaluate --leaderboards, or commit the regenerated one"
            )
        if changes := tables.check_pages(folder.parent, tables.load_runs(each)):
            tell("\n".join(changes))
            raise DataError(
                f"{changes[0].removeprefix('--- ')}: its table is not what {each} says; make it again with prisbench "
                "evaluate --leaderboards, or put there what leaderboard --format summary (learners.md: learners) prints"
            )
        print(f"{each}: README.md agrees with {len(list(each.glob('*.json')))} result files")


def _bar(bar: Progress, title: str) -> Callable[[int, int, float], None]:
    """A bar for ``(step, steps, loss)``."""
    task = bar.add_task(title, total=None, visible=False)

    def show(step: int, steps: int, loss: float) -> None:
        bar.update(task, completed=step, total=steps, visible=step < steps, description=f"{title}, loss {loss:.3f}")

    return show


def _stage_bar(bar: Progress) -> Callable[[str, int, int, str], None]:
    """A bar for ``(stage, done, total, id)``, one a stage."""
    show = stages(bar)
    return lambda stage, done, total, name: show(stage, done, total)


def _training_bar(bar: Progress) -> Callable[[str, int, int, dict[str, float]], None]:
    show = stages(bar)

    def report(stage: str, step: int, steps: int, numbers: dict[str, float]) -> None:
        show(stage, step, steps)
        if numbers and not bar.console.is_terminal:
            tell(f"{stage} {step}/{steps} {numbers}")

    return report


if __name__ == "__main__":
    main()
