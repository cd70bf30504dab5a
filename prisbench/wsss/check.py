"""What of a segmentation set is there, what is missing or wrong, and where to get it.

Knows: the files that a layout wants, how to look at some or all of them.  Does not know: how they
are read (``sets``), what a mask may hold (``label_checks``), what is printed.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from prisbench.errors import DataError, UnknownNameError
from prisbench.wsss.label_checks import SOME, CheckedMasks, LabelCounts
from prisbench.wsss.labels import read_mask_file
from prisbench.wsss.layouts import CLASSES_FILE, FOLDER, LAYOUTS, PublishedList, Source
from prisbench.wsss.sets import (
    Item,
    SegmentationSet,
    find_home,
    ids_sha256,
    open_layout,
    photo_size,
    read_classes,
    sets_in,
)


def examine_all(
    root: Path,
    dataset: str | None = None,
    full: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Report]:
    """``examine`` for the sets below ``root``, or for both published ones where none is found.

    ``dataset``: only this one, of voc12, coco14 and folder; or another folder to look in, instead
    of ``root``.
    """
    if dataset is not None and dataset not in (*LAYOUTS, FOLDER.name):
        root, dataset = Path(dataset), None
    names = [dataset] if dataset else list(sets_in(root)) or list(LAYOUTS)
    return [examine(name, root, full, progress) for name in names]


def examine(
    dataset: str,
    root: Path,
    full: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """What of a set is there: ``voc12`` or ``coco14`` below ``root``, or ``folder`` for the root
    itself.

    Of every split the photos and masks are looked for; masks are read, with the size of their
    photos, in 32 places of every list (``full``: all), and checked as ``label_checks`` does; when
    none of the 32 holds a class, more are read until one does.  Usable means: of every group of
    splits the layout needs one is whole, and nothing that was read is wrong.  A list with other
    ids than the published one stays usable: its numbers are not comparable.

    ``progress`` receives (read, to read).  Raises DataError and UnknownNameError as ``open_set``,
    but not when voc12 or coco14 is missing: that is reported.
    """
    layout = {**LAYOUTS, FOLDER.name: FOLDER}.get(dataset)
    if layout is None:
        raise UnknownNameError("dataset", dataset, [*LAYOUTS, FOLDER.name])
    if layout is FOLDER:
        found = open_layout(FOLDER, root, read_classes(root / CLASSES_FILE))
    else:
        found = open_layout(layout, find_home(layout, root) or root / layout.homes[0], layout.classes)

    wrong: list[str] = []
    reports: list[ListReport] = []
    there: dict[str, list[Item]] = {}
    names = lru_cache(maxsize=None)(_names_in)
    expected = {each.split: each for each in layout.published}
    for split in dict.fromkeys([*(each.split for each in layout.published), *found.splits]):
        if split not in found.splits:
            if split in ("trainval", "trainval_aug"):  # unions of others; nothing here needs them
                continue
            reports.append(ListReport(split, None, 0, expected[split].ids, None, 0, 0, None))
            continue
        try:
            items = found.items(split)
        except DataError as error:
            wrong.append(str(error))
            continue
        reports.append(_list_report(split, found.list_path(split), items, expected.get(split), names))
        photos = [each for each in items if each.photo.name in names(each.photo.parent)]
        there[split] = [each for each in photos if each.mask.name in names(each.mask.parent)]
    read = _read_masks(found, there, full, progress)
    wrong += read.wrong

    whole = {each.split for each in reports if each.whole}
    needed = layout.needed or (tuple(each.split for each in reports),)
    nothing = not found.splits
    get = tuple(each for each in layout.sources if nothing or any(_lacks(report, each) for report in reports))
    usable = not wrong and all(whole & set(group) for group in needed)
    return Report(
        found.name, str(found.root), usable, tuple(reports), read.number, tuple(wrong), tuple(read.notes), get
    )


@dataclass(frozen=True)
class Report:
    """What was found of a set.

    ``wrong`` are lines about damaged files and labels that cannot be right, ``notes`` about what
    is unusual and may be; ``get`` the sources of what is missing.
    """

    dataset: str
    root: str
    usable: bool
    lists: tuple[ListReport, ...]
    masks_read: int
    wrong: tuple[str, ...]
    notes: tuple[str, ...]
    get: tuple[Source, ...]


@dataclass(frozen=True)
class ListReport:
    """What was found of one split.

    ``path`` is None when there is no list; ``right`` None when none is published.
    """

    split: str
    path: str | None
    ids: int
    expected: int | None
    right: bool | None
    photos_missing: int
    masks_missing: int
    first_missing: str | None

    @property
    def whole(self) -> bool:
        """Every id has its photo and (but of the test split) its mask."""
        return self.ids > 0 and self.photos_missing == 0 and (self.masks_missing == 0 or self.split == "test")


class _Read(NamedTuple):
    """How many masks were read, what is wrong with them and what is unusual."""

    number: int
    wrong: list[str]
    notes: list[str]


def _read_masks(
    found: SegmentationSet, there: dict[str, list[Item]], full: bool, progress: Callable[[int, int], None] | None
) -> _Read:
    """Read masks of every split, a file once; check each, and what a split holds."""
    chosen = {split: items[:: 1 if full else -(-len(items) // SOME) or 1] for split, items in there.items()}
    counts = {split: LabelCounts(found, f"masks of {split}") for split in there}
    to_read = {item.mask: item for items in chosen.values() for item in items}
    splits_of: dict[Path, list[str]] = defaultdict(list)
    for split, items in chosen.items():
        for item in items:
            splits_of[item.mask].append(split)
    checked = CheckedMasks(found, "masks")
    alike: dict[str, list[str]] = defaultdict(list)

    def look(item: Item, splits: Iterable[str]) -> None:
        try:
            mask = read_mask_file(item.mask, len(found.classes), photo_size(item.photo))
            findings = checked.count(item.mask, item, mask, [counts[split] for split in splits])
        except DataError as error:
            alike[str(error)].append(str(error))
            return
        for each in findings:
            alike[each.kind].append(f"{item.mask} {each.why}")

    for number, item in enumerate(to_read.values(), 1):
        look(item, splits_of[item.mask])
        if progress is not None:
            progress(number, len(to_read))
    read = len(to_read)
    for split, items in there.items():
        rest = iter([item for item in items if item.mask not in to_read])
        while counts[split].no_class() and (more := next(rest, None)):
            look(more, [split])
            read += 1
    wrong = [f"{lines[0]}" + (f" (and {len(lines) - 1} more like it)" if lines[1:] else "") for lines in alike.values()]
    notes = []
    for split, each in counts.items():
        wrong += each.faults()
        notes += each.notes(whole=each.masks == len(there[split]))
    return _Read(read, wrong, notes)


def _list_report(
    split: str,
    path: Path,
    items: list[Item],
    published: PublishedList | None,
    names: Callable[[Path], frozenset[str]],
) -> ListReport:
    photos = [each.photo for each in items if each.photo.name not in names(each.photo.parent)]
    masks = [each.mask for each in items if each.mask.name not in names(each.mask.parent)]
    missing = photos or ([] if split == "test" else masks)
    return ListReport(
        split=split,
        path=str(path),
        ids=len(items),
        expected=published.ids if published else None,
        right=ids_sha256([each.id for each in items]).startswith(published.sha256) if published else None,
        photos_missing=len(photos),
        masks_missing=len(masks),
        first_missing=str(missing[0]) if missing else None,
    )


def _lacks(report: ListReport, source: Source) -> bool:
    """Whether a source would give a split something that it has not."""
    if report.split not in source.splits:
        return False
    missing = {
        "lists": not report.path or report.right is False,
        "photos": report.photos_missing > 0,
        "masks": report.masks_missing > 0,
    }
    return missing[source.gives]


def _names_in(folder: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except OSError:
        return frozenset()
