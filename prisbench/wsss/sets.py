"""Networks and sets on disk: samples from a list, answers as folders of masks.

Knows: where photos and labels of a set are, what ``wsss train`` and ``wsss predict`` begin from and leave behind.
Does not know: how a network is made, taught or asked (``deeplab``, ``train``), scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.runtime.files import sha256_file
from prisbench.wsss.deeplab import SIZES, Network, deeplab, load_imagenet, load_network
from prisbench.wsss.label_checks import CheckedMasks, look_at_some
from prisbench.wsss.labelling import BEFORE, MASKS, claim
from prisbench.wsss.train import PredictSettings, Sample, predict
from prisbench.wsss.voc import Item, SegmentationSet, photo_size, read_photo, write_mask

FORMAT = 1
LAPTOP = "laptop"


def samples(
    dataset: SegmentationSet, split: str, labels: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> list[Sample]:
    """What a network is taught: the photos of a split with the masks in a folder, ``<id>.png``; without one, with the
    true masks.

    Photos and masks are read when asked for, and then raise DataError as ``read_photo`` and ``CheckedMasks.read``.
    Raises DataError at once when the list, the folder or any of its masks is missing, and as ``look_at_some``.
    ``say`` gets what is unusual about those masks.
    """
    items = dataset.items(split)
    if labels is None:
        return _samples(CheckedMasks(dataset, f"true masks of {split}"), items, [item.mask for item in items], say)
    if not labels.is_dir():
        raise DataError(f"no labels in {labels}: there is no such folder")
    missing = [item for item in items if not (labels / f"{item.id}.png").is_file()]
    if missing:
        raise DataError(
            f"{labels} lacks {len(missing)} of the {len(items)} images of {split}; the first is {missing[0].id}.png"
        )
    given = CheckedMasks(dataset, f"masks in {labels}", true=False)
    return _samples(given, items, [labels / f"{item.id}.png" for item in items], say)


def _samples(
    checked: CheckedMasks, items: Sequence[Item], masks: Sequence[Path], say: Callable[[str], None]
) -> list[Sample]:
    look_at_some(checked, list(zip(masks, items, strict=True)))
    for note in checked.counts.notes(whole=checked.counts.masks == len(items)):
        say(f"note: {note}")

    def sample(item: Item, mask: Path) -> Sample:
        def load_labels() -> np.ndarray:
            return checked.read(mask, item, photo_size(item.photo))

        return Sample(item.id, lambda: read_photo(item), load_labels)

    return [sample(item, mask) for item, mask in zip(items, masks, strict=True)]


def fresh_network(
    classes: Sequence[str],
    size: str = "resnet101",
    weights: Path | None = None,
    from_scratch: bool = False,
    seed: int = 0,
) -> Network:
    """The DeepLab v2 that a run begins with, of a size in SIZES, with a ResNet of ImageNet's weights.

    Only "laptop" begins from nothing without being asked to.  Raises UsageError, UnknownNameError, and as ``deeplab``
    and ``load_imagenet``.
    """
    if size not in SIZES:
        raise UnknownNameError("network size", size, SIZES)
    if weights is None and size != LAPTOP and not from_scratch:
        raise UsageError(
            f"{size} begins with ImageNet's weights: give --weights {size}.safetensors (torchvision's key layout), "
            "or say --from-scratch, which costs many points of mIoU"
        )
    network = deeplab(SIZES[size], classes, seed)
    if weights is not None:
        load_imagenet(network, weights)
    return network


def predict_set(
    network_folder: Path,
    dataset: SegmentationSet,
    split: str,
    out: Path,
    settings: PredictSettings,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The masks of a split by a trained network, going on where the same command stopped; returns their folder.

    With a CRF, the masks before it go into the folder beside.  Raises DataError when the network has other classes than
    the set, a list or a photo is missing, or ``out`` holds another run.
    """
    network = load_network(network_folder)
    if network.classes != dataset.classes:
        differ = [pair for pair in zip(network.classes, dataset.classes, strict=False) if pair[0] != pair[1]]
        first = f"{differ[0][0]!r}, not {differ[0][1]!r}" if differ else f"{len(network.classes)} of them"
        raise DataError(
            f"{network_folder} was trained for other classes than the {len(dataset.classes)} of {dataset.name}: {first}"
        )
    items = {item.id: item for item in dataset.items(split)}
    claim(out, {"format": FORMAT, "network": _network_sha256(network_folder), "settings": _record(settings)})
    kinds = (MASKS, BEFORE) if settings.crf else (MASKS,)

    def path(kind: str, name: str) -> Path:
        return out / kind / f"{name}.png"

    def is_done(name: str) -> bool:
        return all(path(kind, name).is_file() for kind in kinds)

    done = sum(is_done(name) for name in items)
    asked = [Sample(item.id, lambda item=item: read_photo(item), lambda: None) for item in items.values()]  # type: ignore[misc]
    for answer in predict(network, asked, settings, device, is_done):
        for kind, labels in zip(kinds, (answer.labels, answer.labels_before_crf), strict=False):
            write_mask(path(kind, answer.id), labels)
        done += 1
        if progress is not None:
            progress(done, len(items))
    return out / MASKS


def _network_sha256(folder: Path) -> dict[str, str]:
    """Of every file that is the network."""
    place = folder / "network" if (folder / "network" / "network.json").is_file() else folder
    files = [place / "network.json", *sorted(place.glob("*.safetensors"))]
    return {path.name: sha256_file(path) for path in files}


def _record(settings: PredictSettings) -> dict[str, object]:
    record = dataclasses.asdict(settings)
    del record["workers"]
    return record
