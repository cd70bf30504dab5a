"""``prisbench wsss demo``: from image labels to a trained network on a small Tabletop set, nothing
mocked.

Knows: which set, which stages, which table and pictures.  Does not know: how any of it is done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from prisbench.diffusion.backbone import Backbone
from prisbench.errors import DataError, UsageError
from prisbench.images import drawing
from prisbench.images.photos import encode_png
from prisbench.localizer.settings import Evidence
from prisbench.runtime.files import write_bytes, write_json, write_text
from prisbench.tabletop.captions import ordinary_scene
from prisbench.tabletop.looks import NOUNS
from prisbench.tabletop.scenes import Scene
from prisbench.wsss import scoring
from prisbench.wsss.deeplab import SIZES, DeepLabSize, deeplab
from prisbench.wsss.demo_report import Judgement, gallery, record_of, table_of
from prisbench.wsss.evaluate import THRESHOLDS, evaluate_masks, sweep
from prisbench.wsss.labelling import CONFIDENCES, MASKS, TAUGHT
from prisbench.wsss.labels import read_truth, write_mask
from prisbench.wsss.layouts import BACKGROUND, CLASSES_FILE, FOLDER
from prisbench.wsss.maps import labels_at, read_soft_map
from prisbench.wsss.mask_job import Job
from prisbench.wsss.mask_settings import PseudoMaskSettings, settings_for
from prisbench.wsss.predict import PredictSettings, predict_set
from prisbench.wsss.pseudo_masks import MAPS, make, remake
from prisbench.wsss.samples import samples_of
from prisbench.wsss.schedule import PRESETS, TrainSettings
from prisbench.wsss.sets import SegmentationSet, open_set
from prisbench.wsss.train import Progress, train

CLASSES = (BACKGROUND, *NOUNS)

Show = Callable[[str, int, int], None]
"""Receives (stage, done, to do)."""

SIZE = dataclasses.replace(SIZES["laptop"], scales=())
"""DeepLab v2 at one scale, which doubles the steps that fit into a
minute; things are as large as the crops."""


def run(out: Path, settings: DemoSettings, backbone: Backbone, device: str, workers: int, feedback: Feedback) -> Demo:
    """Draw a set, make pseudo masks, train on them and on the truth, evaluate, draw; what is there
    already is reused.

    ``workers``: processes of the CRF, threads that read photos.  Raises DataError when ``out``
    holds a demonstration of another size.
    """
    dataset = write_set(out / "dataset", {"train": settings.train, "val": settings.val}, feedback.show)
    chosen = settings_for(backbone, dataset)
    rows = judge_masks(dataset, backbone, chosen, out, workers, feedback)
    rows += judge_networks(dataset, settings, out, device, workers, feedback.show)
    sheet = write_bytes(out / "pictures.png", drawing.png(drawing.sheet(gallery(dataset, out))))
    record = record_of(rows, _made_with(settings, backbone, chosen))
    table = table_of(rows, record)
    write_json(out / "result.json", record)
    write_text(out / "result.md", table + "\n")
    return Demo(table, record, sheet)


@dataclass(frozen=True)
class DemoSettings:
    """How large the demonstration is.

    ``train`` and ``val``: scenes.  The rest shapes the two networks.
    """

    train: int = 400
    val: int = 100
    size: DeepLabSize = SIZE
    training: TrainSettings = PRESETS["laptop"]

    def __post_init__(self) -> None:
        if min(self.train, self.val) < 2:
            raise UsageError(f"{self.train} and {self.val} scenes are too few; give at least 2 of each")


class Feedback(NamedTuple):
    """What the user sees while it runs: bars, and lines of text."""

    show: Show
    say: Callable[[str], None]


class Demo(NamedTuple):
    """What the user is shown: the table as Markdown, the same as a
    record, and where the pictures are.
    """

    table: str
    record: dict[str, Any]
    sheet: Path


def _made_with(settings: DemoSettings, backbone: Backbone, chosen: PseudoMaskSettings) -> dict[str, Any]:
    return {
        "classes": list(CLASSES),
        "scenes": {"train": settings.train, "val": settings.val},
        "backbone": backbone.id,
        "pseudo_masks": {**chosen.maps_record(), "tau": chosen.localizer.tau, "refine": chosen.localizer.refine},
        "training": {**settings.training.identity(), "size": dataclasses.asdict(settings.size)},
    }


def write_set(folder: Path, sizes: dict[str, int], show: Show = lambda stage, done, total: None) -> SegmentationSet:
    """Ordinary Tabletop scenes in VOC's layout, with exact masks; classes are nouns.  What is
    there is kept.

    The scenes are of names that neither the embedded backbone's training nor its measurements
    used.  Raises DataError when the folder holds a set of other sizes.
    """
    home = FOLDER.lists[-1]
    lists = {split: "".join(f"{split}_{i:05}\n" for i in range(n)) for split, n in sizes.items()}
    for split, lines in lists.items():
        path = folder / home / f"{split}.txt"
        if path.is_file() and path.read_text() != lines:
            raise DataError(f"{path} is of a demonstration of another size; choose another folder")
    write_text(folder / CLASSES_FILE, "".join(f"{name}\n" for name in CLASSES))
    names = [name for lines in lists.values() for name in lines.split()]
    for done, name in enumerate(names, 1):
        photo, mask = folder / f"JPEGImages/{name}.png", folder / f"SegmentationClass/{name}.png"
        if not (photo.is_file() and mask.is_file()):
            scene, _ = ordinary_scene(f"wsss/{name}")
            write_bytes(photo, encode_png(scene.image))
            write_mask(mask, labels_of(scene))
        show("drawing scenes", done, len(names))
    for split, lines in lists.items():
        write_text(folder / home / f"{split}.txt", lines)
    return open_set(str(folder))


def labels_of(scene: Scene) -> UInt8[np.ndarray, "h w"]:
    """The class of every pixel of a scene."""
    labels = np.zeros(scene.image.shape[:2], np.uint8)
    for thing, mask in zip(scene.things, scene.masks, strict=True):
        labels[mask] = CLASSES.index(thing.individual.noun)
    return labels


def judge_masks(
    dataset: SegmentationSet,
    backbone: Backbone,
    settings: PseudoMaskSettings,
    out: Path,
    workers: int,
    feedback: Feedback,
) -> list[Judgement]:
    """The training scenes, part by part: map, with self-attention, with
    evidence; then masks, refined in two ways.
    """
    localizer = settings.localizer
    plain = dataclasses.replace(localizer, hops=0, evidence=Evidence(), refine="none")
    parts = {"map": plain, "map + self-attention": dataclasses.replace(plain, hops=localizer.hops or 2)}
    parts[_name(settings)] = localizer
    rows = []
    for name, each in parts.items():
        folder = out / "pseudo" if each is localizer else out / "parts" / name.replace(" + ", "-")
        job = Job(dataset, "train", folder, workers=workers)
        bar = _progress(feedback.show, f"pseudo masks: {name}")
        made = make(backbone, job, dataclasses.replace(settings, localizer=each), bar, feedback.say)
        if made.written:
            share = made.network_seconds / made.seconds
            feedback.say(f"{name}: {made.written} images in {made.seconds:.0f} s, {share:.0%} of them the network's")
        rows.append(_judged_maps(name, dataset, folder / MAPS))
    cheap = dataclasses.replace(settings.labelling, refine="adaptive", confidence=CONFIDENCES["adaptive"])
    job = Job(dataset, "train", out / "parts" / "adaptive", workers=workers)
    remake(out / "pseudo", job, cheap, _progress(feedback.show, "pseudo masks: adaptive"))
    kinds = {"CRF": out / "pseudo", "adaptive refinement instead of the CRF": job.out}
    return rows + [_judged(f"pseudo masks: {name}", dataset, "train", each / MASKS) for name, each in kinds.items()]


def _judged_maps(name: str, dataset: SegmentationSet, folder: Path) -> Judgement:
    """Maps at the threshold that suits them best on these very scenes,
    so that no part suffers from another's.
    """
    matrices = sweep(dataset, "train", folder)
    mious = [scoring.mean_iou(each) or 0.0 for each in matrices]
    best = THRESHOLDS[mious.index(max(mious))]

    def judged() -> Iterator[scoring.Judged]:
        for item in dataset.items("train"):
            soft = read_soft_map(folder / f"{item.id}.safetensors", len(dataset.classes))
            truth = read_truth(dataset, item)
            h, w = truth.shape
            yield scoring.Judged(item.id, truth, labels_at(soft, best, (h, w)))

    tally = scoring.tally(judged(), len(dataset.classes))
    return Judgement(f"{name}, cut at its best, {best:.2f}", "train", tally, scoring.scores(tally))


def _name(settings: PseudoMaskSettings) -> str:
    """What the settings' maps are made of."""
    parts = ["map"] + ["self-attention"] * bool(settings.localizer.hops)
    return " + ".join(parts + ["evidence"] * bool(settings.localizer.evidence))


def judge_networks(
    dataset: SegmentationSet, settings: DemoSettings, out: Path, device: str, workers: int, show: Show
) -> list[Judgement]:
    """Two networks that begin with the same weights and see the same crops, on held-out scenes."""
    rows = []
    training = dataclasses.replace(settings.training, workers=workers)
    for name, labels in (("pseudo masks", out / "pseudo" / TAUGHT), ("true masks", None)):
        folder = out / f"network-on-{name.replace(' ', '-')}"
        network = deeplab(settings.size, dataset.classes, training.seed)
        taught = samples_of(dataset, "train", labels)
        trained = train(network, taught, folder, training, device, partial(_steps, show, f"training on {name}"))
        bar = _progress(show, f"masks of the network trained on {name}")
        predicting = PredictSettings(workers=workers, device=device)
        masks = predict_set(folder, dataset, "val", folder / "val", predicting, bar)
        rows.append(_judged(f"network trained on {name}", dataset, "val", masks)._replace(training=trained))
    return rows


def _judged(what: str, dataset: SegmentationSet, split: str, folder: Path) -> Judgement:
    tally = evaluate_masks(dataset, split, folder)
    return Judgement(what, split, tally, scoring.scores(tally))


def _steps(show: Show, stage: str, now: Progress) -> None:
    show(stage, now.step, now.steps)


def _progress(show: Show, stage: str) -> Callable[[int, int], None]:
    return lambda done, total: show(stage, done, total)
