"""Masks from image-level labels, by a frozen text-to-image model.

After "From Text to Mask" (arXiv 2309.04109; ``scripts/SD_seg.py`` and ``run_scripts.sh`` of its
release): one prompt names all classes of an image, so that they compete for every pixel, and some
words of what else may be there, which only soak up attention.  The attention of a class's words,
spread by self-attention, is its map (``attention_maps``).

    make      photos, image labels, a backbone  ->  soft maps and masks    the network's work, then labelling
    remake    soft maps of an earlier run       ->  masks                  another threshold, another CRF

A run is a folder: ``run.json`` (what decides it), ``maps/`` (soft maps), and three folders of
palette PNGs: ``before/`` refinement, ``masks/`` after it, and ``labels/``, the same with unsure
pixels void, for training.  An image's files depend on the photo, its labels and the settings
alone: not on order, shards, workers or interruptions.

Knows: the loop over images, what an interrupted run left.  Does not know: words and numbers
(``wording``, ``mask_settings``), how a map becomes labels (``labelling``), scores.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from prisbench.diffusion.backbone import Backbone
from prisbench.errors import DataError, UsageError
from prisbench.localizer.refine import CrfParameters, dense_crf
from prisbench.runtime.files import read_json
from prisbench.runtime.locks import locked
from prisbench.runtime.workers import in_order, worker_processes
from prisbench.wsss.attention_maps import prompts, soft_map
from prisbench.wsss.label_checks import CheckedMasks, look_at_some
from prisbench.wsss.labelling import LabelSettings, as_record, from_record, is_labelled, label_into
from prisbench.wsss.maps import SoftMap, read_soft_map, write_soft_map
from prisbench.wsss.mask_job import Job, cost, labels_of, maps_identity, maps_in
from prisbench.wsss.mask_settings import Changes, PseudoMaskSettings, preset_of, settings_for
from prisbench.wsss.run_folders import claim_folder
from prisbench.wsss.sets import Item, read_photo

MAPS = "maps"
Progress = Callable[[int, int], None]


def make(
    backbone: Backbone,
    job: Job,
    settings: PseudoMaskSettings,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """Soft maps and masks of all images of a job, going on where the same command stopped.

    ``progress`` receives (done, to do).  ``say`` receives the cost, before it starts and when the
    second image is through.

    Raises DataError for a list, photo, mask or label file that is missing or damaged, an image
    without labels in the file, masks that cannot be right (``label_checks``), no class in any
    image, and a folder that holds another run; MissingExtraError before anything is computed.
    """
    items = job.items()
    labels = labels_of(job)
    _check_crf(settings.labelling)
    if job.image_labels is None and not all(is_labelled(job.out, item.id) for item in items):
        every = [(item.mask, item) for item in job.dataset.items(job.split)]
        look_at_some(CheckedMasks(job.dataset, f"true masks of {job.split}"), every)
    claim_folder(job.out, {"maps": maps_identity(backbone, job, settings), "labels": as_record(settings.labelling)})
    images = _images(job, items)

    def read(item: Item) -> _Photo:
        photo = read_photo(item)
        h, w = photo.shape[:2]
        return _Photo(item, photo, labels(item, (h, w)))

    if images.todo:
        h, w = read_photo(images.todo[0]).shape[:2]
        say(cost(backbone, settings, (h, w), job, len(images.todo)))
    maker = _MapMaker(backbone, job, settings, len(images.todo), say)
    seconds = _label_all(job, images, settings.labelling, _Maps(read, maker.map_of), progress)
    return Made(len(items), len(images.todo), seconds, maker.seconds, maker.shortened, maker.divided)


def remake(maps: Path, job: Job, settings: LabelSettings, progress: Progress | None = None) -> Made:
    """Masks of a job from the soft maps in a folder (of an earlier run, or ``maps/`` of one),
    without the network.

    The same files that ``make`` would write with these settings.  Raises DataError when the folder
    or a map is missing or damaged, and for a folder of results that holds another run.
    """
    folder = _maps_folder(maps)
    items = job.items()
    found = maps_in(folder, items, job.split)
    _check_crf(settings)
    record = _run_of(folder)
    origin = record["maps"] if record else {"folder": folder.name}
    claim_folder(job.out, {"maps": origin, "labels": as_record(settings)})
    images = _images(job, items)

    def map_of(photo: _Photo) -> SoftMap:
        return read_soft_map(found[photo.item.id], len(job.dataset.classes))

    maps_of_job = _Maps(lambda item: _Photo(item, read_photo(item), ()), map_of)
    seconds = _label_all(job, images, settings, maps_of_job, progress)
    return Made(len(items), len(images.todo), seconds, 0.0, 0, 0)


def make_with(
    changes: Changes,
    backbone: Backbone,
    job: Job,
    preset: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Made:
    """``make`` with the preset of the set or of the backbone, some of
    its numbers changed; alone in its part.
    """
    settings = changes.of(settings_for(backbone, job.dataset, preset))
    with locked(job.out, job.lock):
        return make(backbone, job, settings, progress, say)


def remake_with(
    changes: Changes, maps: Path, job: Job, preset: str | None = None, progress: Progress | None = None
) -> Made:
    """``remake`` as the run that made the maps labelled them, or as a preset
    does, some numbers changed; alone in its part.
    """
    earlier = earlier_labelling(maps) if preset is None else None
    base = earlier or preset_of(preset or job.dataset.layout.name).labelling
    with locked(job.out, job.lock):
        return remake(maps, job, dataclasses.replace(base, **changes.labelling()), progress)


class Made(NamedTuple):
    """How many images there are, how many were made now, how long it took, and how long the
    network worked.

    ``shortened``: images whose prompt lost background words; ``divided``: those that took several
    prompts.
    """

    images: int
    written: int
    seconds: float
    network_seconds: float
    shortened: int
    divided: int


def earlier_labelling(maps: Path) -> LabelSettings | None:
    """How the run that made these maps turned them into labels;
    None where the maps have no run.json.
    """
    record = _run_of(_maps_folder(maps))
    return from_record(record.get("labels"), f"{maps}: run.json") if record else None


def _maps_folder(maps: Path) -> Path:
    return maps / MAPS if (maps / MAPS).is_dir() else maps


def _run_of(folder: Path) -> dict[str, Any]:
    """The record of the run that a folder of maps is part of; empty without one."""
    path = folder.parent / "run.json"
    if folder.name != MAPS or not path.is_file():
        return {}
    record = read_json(path)
    if not isinstance(record, dict) or "maps" not in record:
        raise DataError(f"{path} is no record of pseudo masks; name the folder of the soft maps of another run")
    return record


class _Photo(NamedTuple):
    """An image as the reading threads hand it on, and its classes
    where its map is still to be made.
    """

    item: Item
    pixels: UInt8[np.ndarray, "h w 3"]
    labels: tuple[int, ...]


class _Maps(NamedTuple):
    """Where soft maps come from: what threads read ahead, and what
    is then done one image after the other.
    """

    read: Callable[[Item], _Photo]
    map_of: Callable[[_Photo], SoftMap]


class _Images(NamedTuple):
    """How many images a job has, and those that are not yet labelled."""

    total: int
    todo: list[Item]


def _images(job: Job, items: Sequence[Item]) -> _Images:
    return _Images(len(items), [item for item in items if not is_labelled(job.out, item.id)])


class _MapMaker:
    """Makes soft maps with the network, one after the other, and counts what it takes.

    Maps that an interrupted run has left are read.
    """

    def __init__(
        self,
        backbone: Backbone,
        job: Job,
        settings: PseudoMaskSettings,
        images: int,
        say: Callable[[str], None],
    ) -> None:
        self.backbone, self.job, self.settings, self.images, self.say = backbone, job, settings, images, say
        self.shortened = self.divided = self.made = 0
        self.seconds = 0.0

    def map_of(self, photo: _Photo) -> SoftMap:
        """The map of an image; the first ones also give the cost of the rest."""
        item, classes = photo.item, self.job.dataset.classes
        path = self.job.out / MAPS / f"{item.id}.safetensors"
        if path.is_file():
            return read_soft_map(path, len(classes))
        began = time.perf_counter()
        try:
            soft = soft_map(self.backbone, photo.pixels, photo.labels, classes, self.settings)
        except (DataError, UsageError) as error:
            raise DataError(f"{item.photo}: {error}") from None
        write_soft_map(path, soft)
        self.seconds += (seconds := time.perf_counter() - began)
        if photo.labels:
            found = prompts(self.backbone.tokenizer, [classes[label] for label in photo.labels], self.settings)
            self.divided += len(found) > 1
            self.shortened += any(len(each.background) < each.wanted for each in found)
        self.made += 1
        if self.made == min(2, self.images):
            left = seconds * (self.images - self.made)
            self.say(f"{seconds:.2f} s an image: about {_length(left)}; interrupt it at will, the same command goes on")
        return soft


def _label_all(job: Job, images: _Images, settings: LabelSettings, maps: _Maps, progress: Progress | None) -> float:
    """Read ahead, take one map after the other, label in worker
    processes; returns the seconds it took.
    """
    began, done = time.perf_counter(), images.total - len(images.todo)
    workers = min(job.workers, len(images.todo)) if settings.refine != "none" else 0
    with ThreadPoolExecutor(2) as readers, worker_processes(workers) as pool:

        def calls() -> Iterator[tuple[Any, ...]]:
            for photo in in_order(readers, maps.read, ((item,) for item in images.todo), ahead=4):
                yield job.out, photo.item.id, photo.pixels, maps.map_of(photo), settings

        for _ in in_order(pool, label_into, calls(), ahead=2 * workers):
            done += 1
            if progress is not None:
                progress(done, images.total)
    return time.perf_counter() - began


def _check_crf(settings: LabelSettings) -> None:
    """Raises MissingExtraError for a CRF that is not installed."""
    if settings.refine == "crf":
        nothing = CrfParameters(1, 1.0, 1.0, 1.0, 1.0, 1.0)
        dense_crf(np.zeros((2, 3, 3), np.uint8), np.full((2, 2, 3), 0.5, np.float32), nothing)


def _length(seconds: float) -> str:
    if seconds > 5400:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
