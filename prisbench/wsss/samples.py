"""What a network learns from: photos of a set, and masks that are the true ones or those of a
folder.

Knows: where photos and labels of a set are.  Does not know: how a network is made or trained,
scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prisbench.errors import DataError
from prisbench.wsss.label_checks import CheckedMasks, look_at_some
from prisbench.wsss.sets import Item, SegmentationSet, photo_size, read_photo


class Sample(NamedTuple):
    """A photo and its labels, read when they are needed: uint8 ``h w 3`` and uint8 ``h w`` (None
    where there are none).

    Both are called in threads, several at a time.
    """

    id: str
    load_image: Callable[[], np.ndarray]
    load_labels: Callable[[], np.ndarray | None]


def samples_of(
    dataset: SegmentationSet, split: str, labels: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> list[Sample]:
    """What a network is taught: the photos of a split with the masks in a folder, ``<id>.png``;
    without one, with the true masks.

    Photos and masks are read when they are needed, and then raise DataError as ``read_photo`` and
    ``CheckedMasks.read`` do.  Raises DataError at once when the list, the folder or any of its
    masks is missing, and as ``look_at_some``.  ``say`` gets what is unusual about those masks.
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
