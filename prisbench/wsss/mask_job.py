"""What is to be labelled: the images of a split, where their classes or their maps come from, what
it will take.

Knows: sets, label files, folders of maps.  Does not know: how a map is made, how it becomes
labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import fit
from prisbench.errors import DataError, UsageError
from prisbench.localizer.attend import rows_at_once
from prisbench.runtime.files import sha256_file
from prisbench.wsss.label_checks import CheckedMasks
from prisbench.wsss.labels import image_labels, read_image_labels
from prisbench.wsss.mask_settings import PseudoMaskSettings
from prisbench.wsss.sets import Item, SegmentationSet, ids_sha256

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Job:
    """What is to be labelled, and where it goes.

    ``image_labels``: a file of labels (``read_image_labels``); None takes them from the true
    masks, an oracle: a perfect classifier, as the published protocol does.  ``shard`` (i, n): the
    i-th of n parts, from 1; all parts share ``out``.  ``workers``: processes that refine; 0 does
    it in between.
    """

    dataset: SegmentationSet
    split: str
    out: Path
    image_labels: Path | None = None
    shard: tuple[int, int] = (1, 1)
    workers: int = 2

    def __post_init__(self) -> None:
        part, of = self.shard
        if not 1 <= part <= of:
            raise UsageError(f"--shard {part}/{of} makes no sense; of 4 parts there are 1/4, 2/4, 3/4 and 4/4")
        if self.workers < 0:
            raise UsageError(f"--workers {self.workers} makes no sense; 0 refines in between")

    @property
    def lock(self) -> str:
        """The name of the lock file of this part."""
        part, of = self.shard
        return f".lock-{part}-of-{of}"

    def items(self) -> list[Item]:
        """The images of this part.  Raises as ``SegmentationSet.items``."""
        part, of = self.shard
        return self.dataset.items(self.split)[part - 1 :: of]


def labels_of(job: Job) -> Callable[[Item, tuple[int, int]], tuple[int, ...]]:
    """What gives an image its labels; a file is read once and must know every image of the split."""
    if job.image_labels is None:
        masks = CheckedMasks(job.dataset, f"true masks of {job.split}")
        return lambda item, size_hw: image_labels(masks.read(item.mask, item, size_hw))
    known = read_image_labels(job.image_labels, job.dataset.classes)
    listed = job.dataset.items(job.split)
    missing = [item for item in listed if item.id not in known]
    if missing:
        raise DataError(
            f"{job.image_labels} has no labels for {len(missing)} images of {job.split}; the first is "
            f"{missing[0].id} ({missing[0].where})"
        )
    if not any(known[item.id] for item in listed):
        raise DataError(f"{job.image_labels} gives none of the {len(listed)} images of {job.split} a class")
    return lambda item, size_hw: known[item.id]


def maps_in(folder: Path, items: Sequence[Item], split: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"no soft maps in {folder}: there is no such folder")
    places = {item.id: [folder / f"{item.id}{suffix}" for suffix in (".safetensors", ".npz")] for item in items}
    found = {name: next((path for path in each if path.is_file()), None) for name, each in places.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise DataError(
            f"{folder} lacks the soft maps of {len(missing)} of the {len(items)} images of {split}; the first is "
            f"{missing[0]}.safetensors"
        )
    return {name: path for name, path in found.items() if path is not None}


def maps_identity(backbone: Backbone, job: Job, settings: PseudoMaskSettings) -> dict[str, Any]:
    """All that decides the soft maps of a job, as JSON has it; shards of one job share it."""
    source = {"from": "true masks (an oracle)"}
    if job.image_labels is not None:
        source = {"from": "file", "sha256": sha256_file(job.image_labels)}
    items = job.dataset.items(job.split)
    return {
        "format": FORMAT,
        "backbone": backbone.id,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "dataset": {
            "name": job.dataset.name,
            "split": job.split,
            "ids": ids_sha256([item.id for item in items]),
            "classes": list(job.dataset.classes),
        },
        "image_labels": source,
        "settings": settings.maps_record(),
    }


def cost(backbone: Backbone, settings: PseudoMaskSettings, photo_hw: tuple[int, int], job: Job, images: int) -> str:
    """What a job takes of the network, in words."""
    localizer = settings.localizer
    geometry = fit(photo_hw, localizer.working_size, backbone.native_area_px, backbone.stride)
    h, w = (n // backbone.vae_factor for n in geometry.padded_hw)
    noises = len(localizer.timesteps) * localizer.samples * (1 + localizer.flip)
    at_once = min(noises, rows_at_once(backbone.unet, (h, w)))
    compared = len(localizer.evidence.timesteps) * localizer.evidence.samples * (1 + localizer.flip)
    more = f", and {compared} times 1 + its number of classes for the evidence" if compared else ""
    where = "labels from the true masks (an oracle)" if job.image_labels is None else f"labels from {job.image_labels}"
    return (
        f"pseudo masks of {images} images by {backbone.id} on {backbone.device}, {where}: {noises} passes of the "
        f"network an image in batches of {at_once}, latents {h} x {w}{more}; refinement: {localizer.refine}"
        + (f" in {job.workers} processes" if job.workers and localizer.refine != "none" else "")
    )
