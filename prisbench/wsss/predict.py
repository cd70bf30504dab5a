"""Masks of a network: class probabilities averaged over scales and flips, then the dense CRF.

Knows: averaging over scales and flips, the CRF, folders of masks.  Does not know: how a network is
trained, scores.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional as F

from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.localizer.refine import CrfParameters, dense_crf
from prisbench.runtime.files import sha256_file
from prisbench.runtime.locks import locked
from prisbench.runtime.workers import in_order, worker_processes, worker_threads
from prisbench.wsss.labelling import BEFORE, MASKS
from prisbench.wsss.labels import write_mask
from prisbench.wsss.networks import Network, load_network
from prisbench.wsss.run_folders import claim_folder
from prisbench.wsss.samples import Sample
from prisbench.wsss.schedule import PRECISIONS, autocast
from prisbench.wsss.sets import Item, SegmentationSet, read_photo

FORMAT = 1


@dataclass(frozen=True)
class PredictSettings:
    """How a network predicts.  The defaults are the published test: the photo as it is, then
    (``crf``) the dense CRF.

    ``scales`` and ``flip``: class probabilities are averaged over the photo at these sizes, each
    also mirrored.  Other work on masks from image labels mostly averages over 0.5, 0.75, 1, 1.25,
    1.5 with flips: name it when comparing.
    ``workers``: threads that read photos, and processes that run the CRF; 0 does both in between.
    ``device``: where the network is.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: CrfParameters | None = None
    precision: str = "float32"
    workers: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if not self.scales or min(self.scales) <= 0 or self.workers < 0:
            raise UsageError(f"no prediction is possible with {self}")


def predict_set(
    network_folder: Path,
    dataset: SegmentationSet,
    split: str,
    out: Path,
    settings: PredictSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The masks of a split by a trained network, going on where the same command stopped; returns
    their folder.

    With a CRF, the masks before it go into the folder beside.  Raises DataError when the network
    has other classes than the set, a list or a photo is missing, or ``out`` holds another run.
    """
    network = load_network(network_folder)
    if network.classes != dataset.classes:
        differ = [pair for pair in zip(network.classes, dataset.classes, strict=False) if pair[0] != pair[1]]
        first = f"{differ[0][0]!r}, not {differ[0][1]!r}" if differ else f"{len(network.classes)} of them"
        raise DataError(
            f"{network_folder} was trained for other classes than the {len(dataset.classes)} of {dataset.name}: {first}"
        )
    items = {item.id: item for item in dataset.items(split)}
    with locked(out):
        claim_folder(out, {"format": FORMAT, "network": _network_sha256(network_folder), "settings": _record(settings)})
        _write_missing(network, items, out, settings, progress)
    return out / MASKS


def _write_missing(
    network: Network,
    items: Mapping[str, Item],
    out: Path,
    settings: PredictSettings,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Predict the images that have no masks yet."""
    kinds = (MASKS, BEFORE) if settings.crf else (MASKS,)

    def path(kind: str, name: str) -> Path:
        return out / kind / f"{name}.png"

    def is_done(name: str) -> bool:
        return all(path(kind, name).is_file() for kind in kinds)

    done = sum(is_done(name) for name in items)
    photos = [Sample(item.id, lambda item=item: read_photo(item), lambda: None) for item in items.values()]  # type: ignore[misc]
    for answer in predict(network, photos, settings, is_done):
        for kind, labels in zip(kinds, (answer.labels, answer.labels_before_crf), strict=False):
            write_mask(path(kind, answer.id), labels)
        done += 1
        if progress is not None:
            progress(done, len(items))


class Predicted(NamedTuple):
    """Labels of a photo at its own size, and what they were before the CRF (the same without one)."""

    id: str
    labels: UInt8[np.ndarray, "h w"]
    labels_before_crf: UInt8[np.ndarray, "h w"]


def predict(
    network: Network,
    samples: Iterable[Sample],
    settings: PredictSettings,
    done: Callable[[str], bool] = lambda _: False,
) -> Iterator[Predicted]:
    """Labels of each sample for which ``done(id)`` is not yet true, in their order; a few at a
    time are in memory.

    Only photos are read.  Raises MissingExtraError for a CRF that is not installed, before
    anything is computed.
    """
    network.to(torch.device(settings.device)).eval()
    crf = settings.crf
    if crf is not None:
        dense_crf(np.zeros((2, 3, 3), np.uint8), np.full((2, 2, 3), 0.5, np.float32), crf)
    wanted = ((sample,) for sample in samples if not done(sample.id))
    seen = deque[tuple[str, UInt8[np.ndarray, "h w"]]]()

    def fields_of(photos: Iterator[tuple[str, np.ndarray]]) -> Iterator[tuple[Any, ...]]:
        for name, image in photos:
            probabilities = class_probabilities(network, image, settings)
            seen.append((name, probabilities.argmax(axis=0).astype(np.uint8)))
            yield image, probabilities, crf

    with worker_threads(settings.workers) as readers, worker_processes(settings.workers if crf else 0) as pool:
        calls = fields_of(in_order(readers, _photo, wanted, ahead=2 * settings.workers))
        for refined in in_order(pool, dense_crf if crf else _unrefined, calls, ahead=2 * settings.workers):
            name, before = seen.popleft()
            yield Predicted(name, refined.argmax(axis=0).astype(np.uint8), before)


def class_probabilities(
    network: Network, image: UInt8[np.ndarray, "h w 3"], settings: PredictSettings
) -> Float[np.ndarray, "c h w"]:
    """Softmax at the photo's size, averaged over scales and flips; each pixel's sum to 1."""
    h, w = image.shape[:2]
    device = next(network.parameters()).device
    whole = torch.tensor(np.ascontiguousarray(image), device=device).permute(2, 0, 1)[None].float()
    total = torch.zeros((len(network.classes), h, w), device=device)
    with torch.inference_mode():
        for scale in settings.scales:
            size = max(1, int(h * scale)), max(1, int(w * scale))
            x = whole if scale == 1 else F.interpolate(whole, size=size, mode="bilinear", align_corners=False)
            if settings.flip:
                x = torch.cat([x, x.flip(-1)])
            with autocast(device, settings.precision):
                logits = network(x)[-1]
            softmax = F.interpolate(logits.float(), size=(h, w), mode="bilinear", align_corners=False).softmax(dim=1)
            total += softmax[0]
            if settings.flip:
                total += softmax[1].flip(-1)
        total /= len(settings.scales) * (2 if settings.flip else 1)
    return total.cpu().numpy()


def _photo(sample: Sample) -> tuple[str, np.ndarray]:
    return sample.id, sample.load_image()


def _unrefined(image: np.ndarray, probabilities: np.ndarray, crf: None) -> np.ndarray:
    return probabilities


def _network_sha256(folder: Path) -> dict[str, str]:
    """Of every file that is the network."""
    place = folder / "network" if (folder / "network" / "network.json").is_file() else folder
    files = [place / "network.json", *sorted(place.glob("*.safetensors"))]
    return {path.name: sha256_file(path) for path in files}


def _record(settings: PredictSettings) -> dict[str, object]:
    record = dataclasses.asdict(settings)
    del record["workers"], record["device"]
    return record
