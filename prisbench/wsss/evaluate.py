"""Folders of masks, or of soft maps, against the true masks of a split.

Knows: which file answers which item, what is checked on the way.  Does not know: how pixels become
numbers (``scoring``), what is printed (``reports``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from prisbench.errors import DataError
from prisbench.wsss.label_checks import CheckedMasks
from prisbench.wsss.layouts import VOID
from prisbench.wsss.maps import read_soft_map, sweep_maps
from prisbench.wsss.scoring import Judged, PredictedVoid, Tally, tally
from prisbench.wsss.sets import Item, SegmentationSet

THRESHOLDS = tuple(n / 50 for n in range(1, 50))

Progress = Callable[[int, int], None]
T = TypeVar("T")


def evaluate_masks(
    dataset: SegmentationSet,
    split: str,
    folder: Path,
    predicted_void: PredictedVoid = PredictedVoid.error,
    progress: Progress | None = None,
) -> Tally:
    """Count the masks in a folder, ``<id>.png`` (or named as the true masks are), against a
    split's.

    ``progress`` receives (done, to do) after every image.

    Raises DataError before the first image when a list, a folder or any prediction is missing,
    then, naming the file, as ``CheckedMasks.read`` and ``tally``, and in the end when the masks as
    a whole cannot be right (``label_checks``).
    """
    items = dataset.items(split)
    files = _answers(items, split, folder, (".png",))
    truths = CheckedMasks(dataset, f"true masks of {split}")
    answers = CheckedMasks(dataset, f"masks in {folder}", true=False, truth=truths)
    in_void = np.zeros(256, np.int64)

    def judged() -> Iterator[Judged]:
        for item, file in zip(items, files, strict=True):
            truth, predicted = truths.read(item.mask, item), answers.read(file, item)
            if predicted.shape == truth.shape:
                in_void[:] += np.bincount(predicted[truth == VOID], minlength=256)
            yield Judged(str(file), truth, predicted)

    counted = tally(_counted(judged(), len(items), progress), len(dataset.classes), predicted_void)
    truths.finish()
    answers.finish()
    notes = truths.counts.notes()
    for label in np.flatnonzero((in_void > 0) & (truths.counts.holding == 0)).tolist():
        notes.append(
            f"{in_void[label]} of the {answers.counts.pixels[label]} pixels that are predicted to be "
            f"{dataset.classes[label]} ({label}) are void in the truth, which never holds that class: saved as 255?"
        )
    return replace(counted, notes=tuple(notes))


def sweep(
    dataset: SegmentationSet,
    split: str,
    folder: Path,
    thresholds: Sequence[float] = THRESHOLDS,
    progress: Progress | None = None,
) -> Int[np.ndarray, "k n n"]:
    """The confusion matrix of a split at every threshold, from a folder of soft maps,
    ``<id>.safetensors`` or ``.npz``.

    Raises as ``evaluate_masks``, ``read_soft_map`` and ``sweep_maps``.
    """
    items = dataset.items(split)
    files = _answers(items, split, folder, (".safetensors", ".npz"))
    truths = CheckedMasks(dataset, f"true masks of {split}")
    judged = (
        (str(file), truths.read(item.mask, item), read_soft_map(file, len(dataset.classes)))
        for item, file in zip(items, files, strict=True)
    )
    matrices = sweep_maps(_counted(judged, len(items), progress), len(dataset.classes), thresholds)
    truths.finish()
    return matrices


def _answers(items: Sequence[Item], split: str, folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file of every item in a folder.

    Raises DataError when the folder or any of them is missing.
    """
    if not folder.is_dir():
        raise DataError(f"no predictions in {folder}: there is no such folder")
    there = {entry.name for entry in os.scandir(folder)}
    found: list[Path] = []
    missing: list[str] = []
    for item in items:
        names = [f"{stem}{suffix}" for stem in (item.id, item.mask.stem) for suffix in suffixes]
        first = next((name for name in names if name in there), None)
        if first is None:
            missing.append(names[0])
        else:
            found.append(folder / first)
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(items)} images of {split}; the first is {missing[0]}"
            + (f" (or {', '.join(suffixes[1:])})" if len(suffixes) > 1 else "")
        )
    return found


def _counted(values: Iterable[T], total: int, progress: Progress | None) -> Iterator[T]:
    for done, value in enumerate(values, 1):
        yield value
        if progress is not None:
            progress(done, total)
