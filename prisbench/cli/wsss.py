"""``prisbench wsss ...``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from prisbench.cli.bars import say_table
from prisbench.cli.options import Full
from prisbench.errors import UsageError
from prisbench.runtime.console import Device, Format, OutputFormat, progress_bar, say, stage_bars, tell
from prisbench.runtime.devices import usable_device

app = typer.Typer(
    name="wsss",
    help="Masks from image labels: weakly supervised segmentation of VOC 2012, COCO 2014 or a folder.",
    no_args_is_help=True,
    add_completion=False,
)


class TableFormat(StrEnum):
    md = "md"
    csv = "csv"
    json = "json"


class Void(StrEnum):
    error = "error"
    background = "background"
    ignore = "ignore"


class Refine(StrEnum):
    none = "none"
    crf = "crf"
    adaptive = "adaptive"


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Optimizer(StrEnum):
    sgd = "sgd"
    adamw = "adamw"


class Crf(StrEnum):
    none = "none"
    published = "published"
    small = "small"


DatasetName = Annotated[str, typer.Option("--dataset", metavar="voc12|coco14|FOLDER", help="Which set.")]
Root = Annotated[Path, typer.Option(help="Where VOCdevkit/VOC2012 or COCO/COCO2014 is.")]
TrainSplit = Annotated[
    str | None, typer.Option(help="A list's name; default: train_aug where there is one, else train.")
]


@app.command()
def check(
    root: Annotated[Path, typer.Argument(help="The folder that holds VOCdevkit or COCO, one of these, or a set.")],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="voc12|coco14|folder", help="What to look for; default: every set that is found."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read every mask, not some of every list.")] = False,
    format: OutputFormat = Format.text,
) -> None:
    """What of a set is there, what is missing and how to get it; exit code 1 when it cannot be used."""
    from prisbench.wsss.check import examine_all
    from prisbench.wsss.reports import check_record, check_text

    with progress_bar("reading masks") as progress:
        reports = examine_all(root, dataset, full, progress)
    say([check_record(each) for each in reports], format, "\n\n".join(check_text(each) for each in reports))
    if not all(each.usable for each in reports):
        raise typer.Exit(1)


@app.command("coco-masks")
def coco_masks(
    root: Annotated[Path, typer.Argument(help="The folder COCO2014, or one that holds COCO/COCO2014.")],
    instances: Annotated[list[Path], typer.Argument(help="instances_train2014.json, instances_val2014.json.")],
    format: OutputFormat = Format.text,
) -> None:
    """Make COCO 2014's masks from its instances; run again to go on after an interruption."""
    from prisbench.wsss.coco import build_all

    with stage_bars() as show:
        built = build_all(instances, root, lambda path, done, total: show(f"masks of {path.name}", done, total))
    records = [
        {"instances": str(path), **each._asdict(), "list_path": str(each.list_path)}
        for path, each in zip(instances, built, strict=True)
    ]
    lines = [
        f"{each['instances']}: {each['written']} masks written, {each['kept']} were there, list {each['list_path']}"
        + (f"; {each['left_out']} polygons of under three corners left out" if each["left_out"] else "")
        + (f"; {each['empty']} masks hold no class: their instances cover no pixel" if each["empty"] else "")
        for each in records
    ]
    say(records, format, "\n".join(lines))


@app.command()
def evaluate(
    pred: Annotated[Path, typer.Option(help="Folder of masks, <id>.png; with --sweep of soft maps.")],
    dataset: DatasetName = "voc12",
    root: Root = Path("datasets"),
    split: Annotated[str, typer.Option(help="A list's name: train, train_aug, val ...")] = "val",
    before: Annotated[
        Path | None, typer.Option(help="A second folder to compare with, such as the masks before the CRF.")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Thresholds over soft maps, <id>.safetensors or <id>.npz.")
    ] = False,
    void: Annotated[
        Void, typer.Option(help="Predictions of 255: an error, background (as IRN), or ignored (as AFA).")
    ] = Void.error,
    format: Annotated[TableFormat, typer.Option(help="How to print it.")] = TableFormat.md,
) -> None:
    """mIoU of masks against the true ones, pooled over the whole split, with its interval over images."""
    from prisbench.wsss import reports
    from prisbench.wsss.scoring import PredictedVoid
    from prisbench.wsss.sets import open_set

    found = open_set(dataset, root)
    printers: dict[TableFormat, Callable[[dict[str, Any]], str]]
    if sweep:
        if before is not None:
            raise UsageError("--before compares two folders of masks; leave it out with --sweep")
        with progress_bar("thresholds") as progress:
            record = reports.sweep_record(found, split, pred, progress)
        printers = {TableFormat.csv: reports.sweep_csv, TableFormat.md: reports.sweep_table}
    else:
        with progress_bar("masks") as progress:
            record = reports.masks_record(found, split, pred, before, PredictedVoid(void.value), progress)
        printers = {TableFormat.csv: reports.masks_csv, TableFormat.md: reports.masks_table}
    print(json.dumps(record) if format is TableFormat.json else printers[format](record))


@app.command("pseudo-masks")
def pseudo_masks(
    out: Annotated[Path, typer.Option(help="Folder for maps and masks; run again to go on.")],
    dataset: DatasetName = "voc12",
    root: Root = Path("datasets"),
    split: TrainSplit = None,
    image_labels: Annotated[
        Path | None,
        typer.Option(
            help="JSON or CSV of each image's classes; default: from the true masks, an oracle, as published."
        ),
    ] = None,
    from_maps: Annotated[
        Path | None, typer.Option(help="A run's soft maps: other thresholds and CRFs, without the network.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="voc12, coco14, folder, tabletop; default: the set's, or the backbone's.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="ID_OR_FOLDER", help="A diffusers pipeline. Default: the embedded one: Tabletop only."),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Noises; published: 10 (VOC), 1 (COCO).")] = None,
    theta: Annotated[
        float | None, typer.Option(help="Boxes that self-attention keeps to: 0.2 (VOC), 0.5 (COCO).")
    ] = None,
    evidence: Annotated[
        bool | None,
        typer.Option("--evidence/--no-evidence", help="Weigh maps by where a class's words explain the photo."),
    ] = None,
    tau: Annotated[float | None, typer.Option(help="The background's threshold: 0.5 (VOC), 0.35 (COCO).")] = None,
    refine: Annotated[Refine | None, typer.Option(help="How masks are snapped to edges.")] = None,
    confidence: Annotated[
        float | None, typer.Option(help="Refined pixels less sure are void in labels/: 0.95; 0.6 for adaptive.")
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="The I-th of N parts; all share --out.")] = "1/1",
    workers: Annotated[int, typer.Option(min=0, help="Processes that refine.")] = 2,
    precision: Annotated[
        Precision, typer.Option(help="The network's numbers; float16 on a GPU, as published.")
    ] = Precision.float32,
    device: Device = "auto",
    format: OutputFormat = Format.text,
) -> None:
    """Masks from image labels by a frozen diffusion model; run again to go on, as one process or as shards."""
    import torch

    from prisbench.wsss.mask_job import Job
    from prisbench.wsss.mask_settings import Changes, check_backbone
    from prisbench.wsss.pseudo_masks import make_with, remake_with
    from prisbench.wsss.sets import open_set

    found = open_set(dataset, root)
    job = Job(found, split or found.training_split, out, image_labels, _shard(shard), workers)
    changes = Changes(samples, theta, evidence, tau, refine.value if refine else None, confidence)
    if from_maps is not None:
        of_maps = {"samples": samples, "theta": theta, "evidence": evidence, "backbone": backbone}
        for name, value in {**of_maps, "image-labels": image_labels}.items():
            if value is not None:
                raise UsageError(f"--{name} changes the maps; with --from-maps give --tau, --refine or --confidence")
        with progress_bar("masks") as progress:
            made = remake_with(changes, from_maps, job, preset, progress)
    else:
        from prisbench.diffusion.loading import load_backbone

        check_backbone(backbone, found)
        network = load_backbone(backbone, usable_device(device), getattr(torch, precision.value))
        with progress_bar("pseudo masks") as progress:
            made = make_with(changes, network, job, preset, progress, tell)
    record = {**made._asdict(), "out": str(out), "labels": str(out / "labels"), "masks": str(out / "masks")}
    record["image_labels"] = str(image_labels) if image_labels else None if from_maps else "true masks (an oracle)"
    say(record, format, _made_text(record, from_maps is None))


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run; run again to go on.")],
    dataset: DatasetName = "voc12",
    root: Root = Path("datasets"),
    split: TrainSplit = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Folder of masks, <id>.png, such as labels/ of pseudo-masks; default: the true ones."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Schedule: voc12, coco14 or laptop; default: the set's, laptop for a folder.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="resnet101, resnet50, resnet18 or laptop; default: the preset's.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="The ResNet's ImageNet weights: safetensors with torchvision's keys.")
    ] = None,
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Begin a ResNet without weights.")] = False,
    model: Annotated[
        Path | None, typer.Option(help="Instead: a folder with a semantic-segmentation model of transformers.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; published: 20,000 for VOC.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Crops a step.")] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, help="Parts a batch is taken in, to spare memory.")] = None,
    crop: Annotated[tuple[int, int] | None, typer.Option(metavar="H W", help="Height and width of a crop.")] = None,
    optimizer: Annotated[Optimizer | None, typer.Option(help="sgd, as published, or adamw.")] = None,
    lr: Annotated[float | None, typer.Option(help="The rate of what was pretrained.")] = None,
    precision: Annotated[Precision | None, typer.Option(help="The numbers of the forward pass.")] = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    workers: Annotated[int | None, typer.Option(min=0, help="Threads that read photos.")] = None,
    device: Device = "auto",
    format: OutputFormat = Format.text,
) -> None:
    """Train DeepLab v2, or a model of transformers, on masks; run again to go on (several GPUs: accelerate launch)."""
    from prisbench.wsss import train as training
    from prisbench.wsss.networks import Start, starting_network
    from prisbench.wsss.samples import samples_of
    from prisbench.wsss.schedule import PRESETS, preset_for
    from prisbench.wsss.sets import open_set

    found = open_set(dataset, root)
    name = preset_for(found.layout.name, preset)
    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "accumulate": accumulate,
        "crop_hw": crop,
        "optimizer": optimizer.value if optimizer else None,
        "lr": lr,
        "precision": precision.value if precision else None,
        "workers": workers,
        "seed": seed,
    }
    settings = dataclasses.replace(PRESETS[name], **{k: v for k, v in given.items() if v is not None})
    taught = samples_of(found, split or found.training_split, labels, tell)
    network = starting_network(found.classes, name, Start(size, weights, from_scratch, model), seed)
    place = usable_device(device)
    if cost := training.cost_of_rest(network, settings, out, place):
        tell(cost.line(settings))
    with progress_bar("training") as progress:
        done = training.train(network, taught, out, settings, place, lambda now: progress(now.step, now.steps))
    if training.is_first():
        record = {**done._asdict(), "folder": str(done.folder), "network": str(done.network), "images": len(taught)}
        record["labels"] = str(labels) if labels else "true masks"
        waiting = f"waited for photos {done.waiting_share:.1%} of the time"
        say(record, format, f"network in {done.network}; {done.seconds:.0f} s of training, {waiting}")


@app.command()
def predict(
    network: Annotated[Path, typer.Option(help="A folder from train.")],
    out: Annotated[Path, typer.Option(help="Folder for masks/, and before/ the CRF; run again to go on.")],
    dataset: DatasetName = "voc12",
    root: Root = Path("datasets"),
    split: Annotated[str, typer.Option(help="A list's name.")] = "val",
    scales: Annotated[
        str, typer.Option(help="Sizes that are averaged; published: 1. Others mostly 0.5,0.75,1,1.25,1.5 with --flip.")
    ] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored photo, too.")] = False,
    crf: Annotated[Crf, typer.Option(help="published, or small for images of about 16,000 pixels.")] = Crf.none,
    precision: Annotated[Precision, typer.Option(help="The network's numbers.")] = Precision.float32,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read, processes that refine.")] = 2,
    device: Device = "auto",
    format: OutputFormat = Format.text,
) -> None:
    """Masks of a split by a trained network; run again to go on."""
    from prisbench.localizer import refine
    from prisbench.wsss.predict import PredictSettings, predict_set
    from prisbench.wsss.sets import open_set

    found = open_set(dataset, root)
    parameters = {Crf.none: None, Crf.published: refine.PUBLISHED_CRF, Crf.small: refine.EMBEDDED_CRF}[crf]
    settings = PredictSettings(_scales(scales), flip, parameters, precision.value, workers, usable_device(device))
    with progress_bar("masks") as progress:
        masks = predict_set(network, found, split, out, settings, progress)
    say({"masks": str(masks), "split": split}, format, f"masks of {split} in {masks}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the set, the runs and the pictures go; run again to go on.")] = Path(
        "wsss-demo"
    ),
    train_scenes: Annotated[int, typer.Option("--train", min=2, help="Training scenes.")] = 400,
    val_scenes: Annotated[int, typer.Option("--val", min=2, help="Held-out scenes.")] = 100,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of each network.")] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Another backbone that knows Tabletop.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that refine, threads that read.")] = 2,
    device: Device = "auto",
    format: OutputFormat = Format.text,
    full: Full = False,
) -> None:
    """All of it on generated scenes in minutes: pseudo masks, a network trained on them, and its ceiling."""
    from prisbench.diffusion.loading import load_backbone
    from prisbench.wsss import demo as demonstration

    settings = demonstration.DemoSettings(train_scenes, val_scenes)
    if steps is not None:
        settings = dataclasses.replace(settings, training=dataclasses.replace(settings.training, steps=steps))
    place = usable_device(device)
    with stage_bars() as show:
        result = demonstration.run(
            out, settings, load_backbone(backbone, place), place, workers, demonstration.Feedback(show, tell)
        )
    say_table(result.record, format, f"{result.table}\n\npictures: {result.sheet}", full)


# --- what the longer commands share ---------------------------------------------------------------------------------


def _shard(text: str) -> tuple[int, int]:
    """``2/4`` -> (2, 4).  Raises UsageError."""
    part, _, of = text.partition("/")
    if not (part.isdecimal() and of.isdecimal()):
        raise UsageError(f"--shard {text!r} makes no sense; write I/N, such as 1/4")
    return int(part), int(of)


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise UsageError(
            f"--scales {text!r} makes no sense; write numbers between commas, such as 0.75,1,1.25"
        ) from None


def _made_text(record: dict[str, Any], by_network: bool) -> str:
    """What was made, where the time went, what comes next."""
    lines = [f"{record['written']} of {record['images']} images made now, in {record['seconds']:.0f} s"]
    if by_network and record["written"]:
        share = record["network_seconds"] / record["seconds"]
        lines[0] += f", {share:.0%} of them the network's"
        if share < 0.5:
            lines.append(
                "refinement takes longer than the network: more --workers, or --refine adaptive (docs/wsss.md)"
            )
    if record["shortened"] or record["divided"]:
        lines.append(
            f"{record['shortened']} prompts lost background words, {record['divided']} images took several prompts: "
            "too many classes for one"
        )
    if record["image_labels"]:
        lines.append(f"image labels: {record['image_labels']}")
    lines.append(f"to train on: {record['labels']}; to evaluate: {record['masks']}")
    return "\n".join(lines)
