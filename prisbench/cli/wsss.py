"""``prisbench wsss ...``: parse, call one function, print.

Nothing heavy is imported before a command runs, so ``prisbench --help`` answers at once.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prisbench.errors import DataError, UsageError
from prisbench.runtime.console import Device, Format, OutputFormat, progress_bar, say, stage_bars, tell
from prisbench.runtime.devices import usable_device
from prisbench.runtime.locks import locked

if TYPE_CHECKING:
    from prisbench.statistics import Difference
    from prisbench.wsss.examination import ListReport, Report
    from prisbench.wsss.scoring import Scores

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
    from prisbench.wsss import voc
    from prisbench.wsss.examination import examine

    if dataset is not None and dataset not in (*voc.LAYOUTS, voc.FOLDER.name):
        root, dataset = Path(dataset), None  # another folder, as --dataset FOLDER of the other commands
    names = [dataset] if dataset else list(voc.sets_in(root)) or list(voc.LAYOUTS)
    with progress_bar("reading masks") as progress:
        reports = [examine(name, root, full, progress) for name in names]
    say([_report_record(each) for each in reports], format, "\n\n".join(_report_text(each) for each in reports))
    if not all(each.usable for each in reports):
        raise typer.Exit(1)


@app.command("coco-masks")
def coco_masks(
    root: Annotated[Path, typer.Argument(help="The folder COCO2014, or one that holds COCO/COCO2014.")],
    instances: Annotated[list[Path], typer.Argument(help="instances_train2014.json, instances_val2014.json.")],
    format: OutputFormat = Format.text,
) -> None:
    """Make COCO 2014's masks from its instances; run again to go on after an interruption."""
    from prisbench.wsss import coco, voc

    home = voc.find_home(voc.COCO14, root) or root
    if not home.is_dir():
        raise DataError(f"no folder {home}; make it, with the photos in {home / 'JPEGImages'}")
    records = []
    for path in instances:
        with progress_bar(f"masks of {path.name}") as progress:
            built = coco.build_masks(path, home, progress)
        records.append({"instances": str(path), **built._asdict(), "list_path": str(built.list_path)})
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
    from prisbench.wsss import scoring
    from prisbench.wsss.voc import open_set

    found = open_set(dataset, root)
    if sweep:
        if before is not None:
            raise UsageError("--before compares two folders of masks; leave it out with --sweep")
        with progress_bar("thresholds") as progress:
            matrices = scoring.sweep(found, split, pred, progress=progress)
        record: dict[str, Any] = {"dataset": found.name, "split": split, "pred": str(pred)}
        record |= _sweep_record(scoring.THRESHOLDS, matrices, found.classes)
        print(_render_sweep(record, format))
        return
    policy = scoring.PredictedVoid(void.value)
    with progress_bar("masks") as progress:
        after_tally = scoring.evaluate(found, split, pred, policy, progress)
        before_tally = scoring.evaluate(found, split, before, policy, progress) if before is not None else None
    record = {"dataset": found.name, "split": split, "pred": str(pred), "predicted_void": void.value}
    record |= _scores_record(scoring.scores(after_tally), found.classes)
    record["notes"] = list(after_tally.notes)
    if before_tally is not None:
        record["before"] = {"pred": str(before), **_scores_record(scoring.scores(before_tally), found.classes)}
        record["gain"] = _gain_record(scoring.difference(after_tally, before_tally))
    print(_render_scores(record, format))


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

    from prisbench.wsss import pseudo_masks as making
    from prisbench.wsss.labelling import CONFIDENCES
    from prisbench.wsss.voc import LAYOUTS, open_set

    found = open_set(dataset, root)
    job = making.Job(found, split or _training_split(found.splits), out, image_labels, _shard(shard), workers)
    if refine is not None and confidence is None:
        confidence = CONFIDENCES[refine.value]
    numbers: dict[str, Any] = {"tau": tau, "refine": refine.value if refine else None, "confidence": confidence}
    numbers = {name: value for name, value in numbers.items() if value is not None}
    if from_maps is not None:
        asked = {"samples": samples, "theta": theta, "evidence": evidence, "backbone": backbone}
        for name, value in {**asked, "image-labels": image_labels}.items():
            if value is not None:
                raise UsageError(f"--{name} changes the maps; with --from-maps give --tau, --refine or --confidence")
        earlier = making.earlier_labelling(from_maps) if preset is None else None
        base = earlier or making.preset_of(preset or found.layout.name).labelling
        with progress_bar("masks") as progress, locked(out, f".lock-{shard.replace('/', '-of-')}"):
            made = making.remake(from_maps, job, dataclasses.replace(base, **numbers), progress)
    else:
        from prisbench.diffusion.loading import load_backbone

        if backbone is None and found.layout.name in LAYOUTS:
            raise UsageError(
                f"the embedded backbone knows Tabletop only, not the photographs of {found.name}: name Stable "
                "Diffusion's folder, or its id on the hub, with --backbone"
            )
        network = load_backbone(backbone, usable_device(device), getattr(torch, precision.value))
        settings = making.settings_for(network, found, preset)
        settings = making.changed(settings, samples=samples, theta=theta, evidence=evidence, **numbers)
        with progress_bar("pseudo masks") as progress, locked(out, f".lock-{shard.replace('/', '-of-')}"):
            made = making.make(network, job, settings, progress, tell)
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
    from prisbench.errors import UnknownNameError
    from prisbench.wsss import sets
    from prisbench.wsss import train as training
    from prisbench.wsss.deeplab import borrow
    from prisbench.wsss.voc import open_set

    found = open_set(dataset, root)
    name = preset or (found.layout.name if found.layout.name in training.PRESETS else sets.LAPTOP)
    if name not in training.PRESETS:
        raise UnknownNameError("training preset", name, training.PRESETS)
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
    settings = dataclasses.replace(training.PRESETS[name], **{k: v for k, v in given.items() if v is not None})
    taught = sets.samples(found, split or _training_split(found.splits), labels, tell)
    network: Any
    if model is None:
        default = sets.LAPTOP if name == sets.LAPTOP else "resnet101"
        network = sets.fresh_network(found.classes, size or default, weights, from_scratch, seed)
    elif size or weights or from_scratch:
        raise UsageError("--model brings its own network; leave out --size, --weights and --from-scratch")
    else:
        network = borrow(model, found.classes, seed)
    place = usable_device(device)
    first = os.environ.get("RANK", "0") == "0"
    if first and not (out / "network" / "network.json").is_file():
        tell(training.cost(network, settings, place).line(settings))
    with progress_bar("training") as progress:
        done = training.train(network, taught, out, settings, place, lambda now: progress(now.step, now.steps))
    if first:
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
    from prisbench.wsss import sets
    from prisbench.wsss.train import PredictSettings
    from prisbench.wsss.voc import open_set

    found = open_set(dataset, root)
    parameters = {Crf.none: None, Crf.published: refine.PUBLISHED_CRF, Crf.small: refine.EMBEDDED_CRF}[crf]
    settings = PredictSettings(_scales(scales), flip, parameters, precision.value, workers)
    with progress_bar("asking the network") as progress, locked(out):
        masks = sets.predict_set(network, found, split, out, settings, usable_device(device), progress)
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
) -> None:
    """All of it on generated scenes in minutes: pseudo masks, a network trained on them, and its ceiling."""
    from prisbench.diffusion.loading import load_backbone
    from prisbench.wsss import demo as demonstration

    settings = demonstration.DemoSettings(train_scenes, val_scenes)
    if steps is not None:
        settings = dataclasses.replace(settings, training=dataclasses.replace(settings.training, steps=steps))
    place = usable_device(device)
    with stage_bars() as show:
        result = demonstration.run(out, settings, load_backbone(backbone, place), place, workers, show, tell)
    say(result.record, format, f"{result.table}\n\npictures: {result.sheet}")


# --- what is there --------------------------------------------------------------------------------------------------


def _report_record(report: Report) -> dict[str, Any]:
    record = dataclasses.asdict(report)
    record["lists"] = [{**dataclasses.asdict(each), "whole": each.whole} for each in report.lists]
    record["get"] = [{**each._asdict(), "splits": list(each.splits)} for each in report.get]
    return record


def _report_text(report: Report) -> str:
    lines = [f"{report.dataset} in {report.root}: {'usable' if report.usable else 'NOT usable'}"]
    width = max((len(each.split) for each in report.lists), default=0)
    lines += [f"  {each.split:{width}}  {_list_text(each)}" for each in report.lists]
    lines += [f"  {report.masks_read} masks read, {len(report.wrong)} things wrong" + (":" if report.wrong else "")]
    lines += [f"    {each}" for each in report.wrong[:10]]
    lines += [f"    and {len(report.wrong) - 10} more"] if len(report.wrong) > 10 else []
    lines += [f"  note: {each}" for each in report.notes]
    lines += ["  to get what is missing:"] if report.get else []
    lines += [f"    {each.what}\n      {each.url} ({each.licence})" for each in report.get]
    return "\n".join(lines)


def _list_text(report: ListReport) -> str:
    if report.path is None:
        return f"no list; {report.expected} ids are wanted"
    parts = [f"{report.ids} ids"]
    if report.right is True:
        parts = [f"{report.ids} ids, the published list"]
    elif report.right is False:
        parts = [
            f"{report.ids} ids, NOT the published list ({report.expected} ids): numbers are not comparable to others'"
        ]
    if report.photos_missing:
        parts.append(f"{report.photos_missing} photos missing")
    if report.masks_missing and report.split != "test":
        parts.append(f"{report.masks_missing} masks missing")
    if report.first_missing is not None:
        parts.append(f"the first is {report.first_missing}")
    else:
        parts.append("photos are all there" if report.split == "test" else "photos and masks are all there")
    return "; ".join(parts)


# --- scores ---------------------------------------------------------------------------------------------------------


def _scores_record(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    record = dataclasses.asdict(scores)
    ious, images = record.pop("ious"), record.pop("class_images")
    record["classes"] = [
        {"class": name, "images": n, "iou": iou} for name, n, iou in zip(classes, images, ious, strict=True)
    ]
    return record


def _gain_record(gain: Difference) -> dict[str, Any]:
    return {"miou": gain.value, "interval": gain.interval, "images": gain.n}


def _sweep_record(thresholds: Sequence[float], matrices: Any, classes: Sequence[str]) -> dict[str, Any]:
    from prisbench.wsss.scoring import class_ious, mean_iou

    mious = [mean_iou(each) for each in matrices]
    best = max(range(len(mious)), key=lambda at: mious[at] or 0.0)  # of equals, the lowest
    ious = class_ious(matrices[best])
    return {
        "sweep": [{"threshold": t, "miou": miou} for t, miou in zip(thresholds, mious, strict=True)],
        "best": {"threshold": thresholds[best], "miou": mious[best]},
        "classes": [{"class": name, "iou": iou} for name, iou in zip(classes, ious, strict=True)],
    }


def _render_scores(record: dict[str, Any], format: TableFormat) -> str:
    """Classes in rows, mIoU in the last; with a second folder its columns come first, then the gain."""
    if format is TableFormat.json:
        return json.dumps(record)
    from prisbench.leaderboard.render import cell

    earlier = record.get("before")
    rows: list[dict[str, Any]] = [
        {"class": each["class"], "images": each["images"], "iou": each["iou"]} for each in record["classes"]
    ]
    if earlier:
        for row, old in zip(rows, earlier["classes"], strict=True):
            both = row["iou"] is not None and old["iou"] is not None
            row |= {"before": old["iou"], "gain": row["iou"] - old["iou"] if both else None}
    if format is TableFormat.csv:
        rows.append({"class": "mIoU", "images": record["images"], "iou": record["miou"]})
        rows[-1] |= _ends("iou", record["interval"])
        if earlier:
            rows[-1] |= {"before": earlier["miou"], **_ends("before", earlier["interval"])}
            rows[-1] |= {"gain": record["gain"]["miou"], **_ends("gain", record["gain"]["interval"])}
        return _csv(rows)
    heads = ["class", "images", *(["before", "after", "gain"] if earlier else ["IoU"])]
    lines = ["| " + " | ".join(heads) + " |", "| :--- |" + " ---: |" * (len(heads) - 1)]
    for row in rows:
        middle = [cell(row["before"]), cell(row["iou"]), _signed(row["gain"])] if earlier else [cell(row["iou"])]
        lines.append("| " + " | ".join([row["class"], str(row["images"]), *middle]) + " |")
    middle = [cell(record["miou"], record["interval"])]
    if earlier:
        gain = record["gain"]
        middle = [cell(earlier["miou"], earlier["interval"]), *middle, _signed(gain["miou"], gain["interval"])]
    lines.append("| " + " | ".join(["**mIoU**", str(record["images"]), *middle]) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(record))])


def _notes(record: dict[str, Any]) -> list[str]:
    from prisbench.statistics import interval_words

    notes = [
        f"mIoU over {record['n_classes']} of {len(record['classes'])} classes and {record['images']} images of "
        f"{record['dataset']} "
        f"{record['split']}: pooled pixels, void left out, background in; {interval_words(record['images'], 'image')}."
    ]
    if record["n_undefined"]:
        notes.append(
            f"{record['n_undefined']} classes occur in no pixel that counts, neither true nor predicted: undefined."
        )
    if record["n_spurious"]:
        notes.append(f"{record['n_spurious']} classes are predicted but never true: not in the mean.")
    if record["void_share"]:
        share, policy = record["void_share"], record["predicted_void"]
        loud = "MORE THAN HALF, " if share > 0.5 else ""
        notes.append(f"{loud}{share:.1%} of the pixels with a true label are void in the masks: counted as {policy}.")
    return notes + [each if each.endswith("?") else f"{each}." for each in record["notes"]]


def _render_sweep(record: dict[str, Any], format: TableFormat) -> str:
    if format is TableFormat.json:
        return json.dumps(record)
    if format is TableFormat.csv:
        return _csv(record["sweep"])
    from prisbench.leaderboard.render import cell

    best = record["best"]
    lines = ["| threshold | mIoU |", "| ---: | ---: |"]
    lines += [f"| {each['threshold']:.2f} | {cell(each['miou'])} |" for each in record["sweep"]]
    lines += [
        "",
        f"- Best: {best['threshold']:.2f}, mIoU {cell(best['miou'])}, on the images it is chosen on.",
    ]
    lines += ["", "| class | IoU at the best |", "| :--- | ---: |"]
    lines += [f"| {each['class']} | {cell(each['iou'])} |" for each in record["classes"]]
    return "\n".join(lines)


def _signed(value: float | None, ci: Sequence[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:+.3f}" + (f" [{ci[0]:+.2f}, {ci[1]:+.2f}]" if ci else "")


def _ends(name: str, ci: Sequence[float] | None) -> dict[str, float | None]:
    low, high = ci or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """One line a row, without a final newline; the last row has all columns."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


# --- what the longer commands share ---------------------------------------------------------------------------------


def _training_split(splits: Sequence[str]) -> str:
    return "train_aug" if "train_aug" in splits else "train"


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
