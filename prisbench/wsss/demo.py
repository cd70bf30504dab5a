"""``prisbench wsss demo``: from image labels to a trained network on a small Tabletop set, nothing mocked.

Knows: which set, which stages, which table and pictures.  Does not know: how any of it is done.
"""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from prisbench.diffusion.backbone import Backbone
from prisbench.errors import DataError, UsageError
from prisbench.images import drawing as pictures
from prisbench.images.photos import encode_png
from prisbench.leaderboard.render import cell
from prisbench.localizer.settings import Evidence
from prisbench.runtime.files import write_bytes, write_json, write_text
from prisbench.statistics import interval_words
from prisbench.tabletop import scenes as tabletop
from prisbench.wsss import pseudo_masks, scoring, sets, voc
from prisbench.wsss.deeplab import SIZES, DeepLabSize, deeplab
from prisbench.wsss.labelling import BEFORE, CONFIDENCES, MASKS, TAUGHT
from prisbench.wsss.pseudo_masks import Job, PseudoMaskSettings
from prisbench.wsss.scoring import Scores, Tally
from prisbench.wsss.train import PRESETS, PredictSettings, Progress, Trained, TrainSettings, train

CLASSES = (voc.BACKGROUND, *tabletop.NOUNS)

Show = Callable[[str, int, int], None]
"""Hears of (stage, done, to do)."""


SIZE = dataclasses.replace(SIZES["laptop"], scales=())
"""DeepLab v2 at one scale, which doubles the steps that fit into a minute; things are as large as the crops."""


@dataclass(frozen=True)
class DemoSettings:
    """How large the demonstration is.  ``train`` and ``val``: scenes.  The rest shapes the two networks."""

    train: int = 400
    val: int = 100
    size: DeepLabSize = SIZE
    training: TrainSettings = PRESETS["laptop"]

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 2:
            raise UsageError(f"{self.train} and {self.val} scenes are too few; give at least 2 of each")


class Row(NamedTuple):
    """A line of the table: what was judged, on which split, and the numbers; of a network, how it was trained."""

    what: str
    split: str
    tally: Tally
    scores: Scores
    training: Trained | None = None


class Demo(NamedTuple):
    """What the user is shown: the table as Markdown, the same as a record, and where the pictures are."""

    table: str
    record: dict[str, Any]
    sheet: Path


def run(
    out: Path, settings: DemoSettings, backbone: Backbone, device: str, workers: int, show: Show,
    say: Callable[[str], None],
) -> Demo:  # fmt: skip
    """Draw a set, make pseudo masks, train on them and on the truth, evaluate, draw; what is there already is reused.

    ``workers``: processes of the CRF, threads that read photos.  Raises DataError when ``out`` holds a demonstration of
    another size.
    """
    dataset = write_set(out / "dataset", {"train": settings.train, "val": settings.val}, show)
    chosen = pseudo_masks.settings_for(backbone, dataset)
    rows = judge_masks(dataset, backbone, chosen, out, workers, show, say)
    rows += judge_networks(dataset, settings, out, device, workers, show)
    sheet = write_bytes(out / "pictures.png", pictures.png(pictures.sheet(gallery(dataset, out))))
    record = _record(rows, settings, backbone, chosen)
    table = _table(rows, record)
    write_json(out / "result.json", record)
    write_text(out / "result.md", table + "\n")
    return Demo(table, record, sheet)


# --- the set --------------------------------------------------------------------------------------------------------


def write_set(folder: Path, sizes: dict[str, int], show: Show = lambda stage, done, total: None) -> voc.SegmentationSet:
    """Ordinary Tabletop scenes in VOC's layout, with exact masks; classes are nouns.  What is there is kept.

    The scenes are of names that neither the embedded backbone's training nor its measurements used.  Raises DataError
    when the folder holds a set of other sizes.
    """
    home = voc.FOLDER.lists[-1]
    lists = {split: "".join(f"{split}_{i:05}\n" for i in range(n)) for split, n in sizes.items()}
    for split, lines in lists.items():
        path = folder / home / f"{split}.txt"
        if path.is_file() and path.read_text() != lines:
            raise DataError(f"{path} is of a demonstration of another size; choose another folder")
    write_text(folder / voc.CLASSES_FILE, "".join(f"{name}\n" for name in CLASSES))
    names = [name for lines in lists.values() for name in lines.split()]
    for done, name in enumerate(names, 1):
        photo, mask = folder / f"JPEGImages/{name}.png", folder / f"SegmentationClass/{name}.png"
        if not (photo.is_file() and mask.is_file()):
            scene, _ = tabletop.ordinary_scene(f"wsss/{name}")
            write_bytes(photo, encode_png(scene.image))
            voc.write_mask(mask, labels_of(scene))
        show("drawing scenes", done, len(names))
    for split, lines in lists.items():
        write_text(folder / home / f"{split}.txt", lines)
    return voc.open_set(str(folder))


def labels_of(scene: tabletop.Scene) -> UInt8[np.ndarray, "h w"]:
    """The class of every pixel of a scene."""
    labels = np.zeros(scene.image.shape[:2], np.uint8)
    for thing, mask in zip(scene.things, scene.masks, strict=True):
        labels[mask] = CLASSES.index(thing.individual.noun)
    return labels


# --- what is judged -------------------------------------------------------------------------------------------------


def judge_masks(
    dataset: voc.SegmentationSet,
    backbone: Backbone,
    settings: PseudoMaskSettings,
    out: Path,
    workers: int,
    show: Show,
    say: Callable[[str], None],
) -> list[Row]:
    """The training scenes, part by part: map, with self-attention, with evidence; then masks, refined in two ways."""
    localizer = settings.localizer
    plain = dataclasses.replace(localizer, hops=0, evidence=Evidence(), refine="none")
    parts = {"map": plain, "map + self-attention": dataclasses.replace(plain, hops=localizer.hops or 2)}
    parts[_name(settings)] = localizer
    rows = []
    for name, each in parts.items():
        folder = out / "pseudo" if each is localizer else out / "parts" / name.replace(" + ", "-")
        job = Job(dataset, "train", folder, workers=workers)
        bar = _progress(show, f"pseudo masks: {name}")
        made = pseudo_masks.make(backbone, job, dataclasses.replace(settings, localizer=each), bar, say)
        if made.written:
            share = made.network_seconds / made.seconds
            say(f"{name}: {made.written} images in {made.seconds:.0f} s, {share:.0%} of them the network's")
        rows.append(_judged_maps(name, dataset, folder / pseudo_masks.MAPS))
    cheap = dataclasses.replace(settings.labelling, refine="adaptive", confidence=CONFIDENCES["adaptive"])
    job = Job(dataset, "train", out / "parts" / "adaptive", workers=workers)
    pseudo_masks.remake(out / "pseudo", job, cheap, _progress(show, "pseudo masks: adaptive"))
    kinds = {"CRF": out / "pseudo", "adaptive refinement instead of the CRF": job.out}
    return rows + [_judged(f"pseudo masks: {name}", dataset, "train", each / MASKS) for name, each in kinds.items()]


def _judged_maps(name: str, dataset: voc.SegmentationSet, folder: Path) -> Row:
    """Maps at the threshold that suits them best on these very scenes, so that no part suffers from another's."""
    matrices = scoring.sweep(dataset, "train", folder)
    mious = [scoring.mean_iou(each) or 0.0 for each in matrices]
    best = scoring.THRESHOLDS[mious.index(max(mious))]

    def judged() -> Iterator[scoring.Judged]:
        for item in dataset.items("train"):
            soft = scoring.read_soft_map(folder / f"{item.id}.safetensors", len(dataset.classes))
            truth = voc.read_truth(dataset, item)
            h, w = truth.shape
            yield scoring.Judged(item.id, truth, scoring.labels_at(soft, best, (h, w)))

    tally = scoring.tally(judged(), len(dataset.classes))
    return Row(f"{name}, cut at its best, {best:.2f}", "train", tally, scoring.scores(tally))


def _name(settings: PseudoMaskSettings) -> str:
    """What the settings' maps are made of."""
    parts = ["map"] + ["self-attention"] * bool(settings.localizer.hops)
    return " + ".join(parts + ["evidence"] * bool(settings.localizer.evidence))


def judge_networks(
    dataset: voc.SegmentationSet, settings: DemoSettings, out: Path, device: str, workers: int, show: Show
) -> list[Row]:
    """Two networks that begin with the same weights and see the same crops, on held-out scenes."""
    rows = []
    training = dataclasses.replace(settings.training, workers=workers)
    for name, labels in (("pseudo masks", out / "pseudo" / TAUGHT), ("true masks", None)):
        folder = out / f"network-on-{name.replace(' ', '-')}"
        network = deeplab(settings.size, dataset.classes, training.seed)
        taught = sets.samples(dataset, "train", labels)
        trained = train(network, taught, folder, training, device, partial(_steps, show, f"training on {name}"))
        bar = _progress(show, f"asking the network trained on {name}")
        asked = PredictSettings(workers=workers)
        masks = sets.predict_set(folder, dataset, "val", folder / "val", asked, device, bar)
        rows.append(_judged(f"network trained on {name}", dataset, "val", masks)._replace(training=trained))
    return rows


def _judged(what: str, dataset: voc.SegmentationSet, split: str, folder: Path) -> Row:
    tally = scoring.evaluate(dataset, split, folder)
    return Row(what, split, tally, scoring.scores(tally))


def _steps(show: Show, stage: str, now: Progress) -> None:
    show(stage, now.step, now.steps)


def _progress(show: Show, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: show(stage, done, total)


# --- table ----------------------------------------------------------------------------------------------------------


def errors_of(counted: Tally) -> dict[str, float | None]:
    """What share of the things' true pixels is missed (called background) or swapped (called another class), and how
    many pixels of the background are called a thing, as a share of the same.
    """
    matrix = counted.confusion
    things = int(matrix[1:].sum())
    if not things:
        return {"missed": None, "swapped": None, "spilled": None}
    swapped = matrix[1:, 1:].sum() - matrix[1:, 1:].trace()
    pixels = {"missed": matrix[1:, 0].sum(), "swapped": swapped, "spilled": matrix[0, 1:].sum()}
    return {name: int(each) / things for name, each in pixels.items()}


def _record(
    rows: Sequence[Row], settings: DemoSettings, backbone: Backbone, chosen: PseudoMaskSettings
) -> dict[str, Any]:
    taught, ceiling = rows[-2], rows[-1]
    gap = scoring.difference(taught.tally, ceiling.tally)
    a, b = taught.scores.miou, ceiling.scores.miou
    return {
        "rows": [
            {
                "what": row.what,
                "split": row.split,
                **dataclasses.asdict(row.scores),
                "errors": errors_of(row.tally),
                "training_seconds": row.training and row.training.seconds,
                "waiting_share": row.training and row.training.waiting_share,
            }
            for row in rows
        ],
        "ratio": a / b if a is not None and b else None,
        "difference": {"miou": gap.value, "interval": gap.interval},
        "classes": list(CLASSES),
        "scenes": {"train": settings.train, "val": settings.val},
        "backbone": backbone.id,
        "pseudo_masks": {**chosen.maps_record(), "tau": chosen.localizer.tau, "refine": chosen.localizer.refine},
        "training": {**settings.training.identity(), "size": dataclasses.asdict(settings.size)},
    }


def _table(rows: Sequence[Row], record: dict[str, Any]) -> str:
    """mIoU of every row; below, the ratio, and what the errors are."""
    lines = ["| judged | scenes | mIoU | missed | swapped | spilled |", "| :--- | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        errors = [f"{each:.1%}" if each is not None else "–" for each in errors_of(row.tally).values()]
        cells = [row.what, f"{row.scores.images} {row.split}", cell(row.scores.miou, row.scores.interval), *errors]
        lines.append("| " + " | ".join(cells) + " |")
    most = max((row.scores.images for row in rows), default=0)
    ratio = "undefined" if record["ratio"] is None else f"{record['ratio']:.1%}"
    lines += [
        "",
        f"- Trained on pseudo masks, the network reaches {ratio} of the ceiling, the same network on true masks.",
        f"- mIoU over the classes in the truth, background in; {interval_words(most, 'scene')}.",
        "- Missed: pixels of things called background; swapped: called another class; spilled: background called a "
        "thing; all as shares of the things' true pixels.",
        "- Image labels (an oracle, as in the published protocol) and the best cut of maps come from the true masks.",
    ]
    return "\n".join(lines)


# --- pictures -------------------------------------------------------------------------------------------------------


def gallery(dataset: voc.SegmentationSet, out: Path, scenes: int = 5) -> list[list[tuple[str, np.ndarray]]]:
    """Rows of labelled pictures: training scenes with their pseudo masks, then held-out scenes with both networks'."""
    rows = []
    for item in dataset.items("train")[:scenes]:
        photo, truth = voc.read_example(dataset, item)
        soft = scoring.read_soft_map(
            out / "pseudo" / pseudo_masks.MAPS / f"{item.id}.safetensors", len(dataset.classes)
        )
        row = [("training scene", photo), ("truth", painted(photo, truth))]
        row += [(f"map: {CLASSES[soft.labels[0]]}", pictures.heat(photo, soft.scores[0].astype(np.float32)))]
        for name, kind in (("before refinement", BEFORE), ("pseudo mask", MASKS), ("taught", TAUGHT)):
            labels = voc.read_mask(out / "pseudo" / kind / f"{item.id}.png", len(dataset.classes))
            row.append((name, painted(photo, labels)))
        rows.append(row)
    for item in dataset.items("val")[:scenes]:
        photo, truth = voc.read_example(dataset, item)
        row = [("held-out scene", photo), ("truth", painted(photo, truth))]
        for name in ("pseudo masks", "true masks"):
            masks = out / f"network-on-{name.replace(' ', '-')}" / "val" / MASKS
            labels = voc.read_mask(masks / f"{item.id}.png", len(dataset.classes))
            row.append((f"trained on {name}", painted(photo, labels)))
        rows.append(row)
    return rows


def painted(photo: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in grey with every class in a hue of its own; void is white.  (VOC's palette has greys.)"""
    hues = [colorsys.hsv_to_rgb(label * 0.381966 % 1, 0.9, 0.95) for label in range(256)]
    palette = np.asarray(hues, np.float32) * 255
    palette[voc.VOID] = 255
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    mixed = np.where((labels != 0)[..., None], 0.35 * grey + 0.65 * palette[labels], grey)
    return mixed.round().astype(np.uint8)
