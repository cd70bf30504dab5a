"""Whether the masks of a folder hold what their set says: the classes that are expected, in
colours that agree.

Masks numbered from 1, or in COCO's ids, are PNGs like others.  Their scores are numbers like
others, too.  The checks look at what is read anyway, one mask at a time.

Knows: what masks hold together.  Does not know: which masks are there (``check``), what one mask
alone has wrong (``mask_faults``), scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from prisbench.errors import DataError
from prisbench.wsss.labels import MaskFile, read_mask_file
from prisbench.wsss.layouts import COCO14, COCO_CLASSES, VOID
from prisbench.wsss.mask_faults import (
    SAVED_AS_255,
    Finding,
    interpolated,
    interpolation_fault,
    is_solid,
    void_alone,
    void_fault,
)
from prisbench.wsss.palettes import SharedPalette
from prisbench.wsss.sets import Item, SegmentationSet

SOME = 32
"""So many masks of a list are read, evenly spread, where not all are."""

MOST_VOID_ALONE = 0.01
"""In COCO 2014's layout, the share of masks that may hold void and no
class: crowds are void in some conversions."""

_COCO_IDS_MISSING = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71))
"""Of 1..80, the numbers that are no category id of COCO (``coco.CATEGORY_IDS``)."""


class CheckedMasks:
    """Masks of a split, or of a folder, read and checked one after
    the other; the first fault is raised.
    """

    def __init__(
        self, dataset: SegmentationSet, what: str, true: bool = True, truth: CheckedMasks | None = None
    ) -> None:
        """``what`` names the masks in sentences; ``true``: they are the set's own, where void
        alone is a fault.

        ``truth``: the true masks, to compare the colours of predictions with.
        """
        self.dataset, self.true = dataset, true
        self.counts = LabelCounts(dataset, what)
        self.palette: SharedPalette = SharedPalette(truth.palette if truth else None)

    def read(self, path: Path, item: Item, size_hw: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w"]:
        """The labels of a mask.

        Raises DataError as ``read_mask``, naming the list's line when there is no such file, and
        for a mask that ``findings`` finds something wrong with.
        """
        if self.true and not path.is_file():
            raise DataError(f"{item.where}: {item.id} has no mask {path}")
        mask = read_mask_file(path, len(self.dataset.classes), size_hw)
        for each in self.count(path, item, mask):
            raise DataError(f"{path} {each.why}")
        return mask.labels

    def count(self, path: Path, item: Item, mask: MaskFile, splits: Sequence[LabelCounts] = ()) -> list[Finding]:
        """Count a mask, also for the ``splits`` it is part of, and say what is wrong with it: a
        palette unlike the others', void where a class should be, lines that scaling has left.

        Raises DataError for an annotation that cannot be read.
        """
        found = []
        counted = (self.counts, *splits)
        used = np.flatnonzero(mask.counts).tolist()
        if why := self.palette.disagreement(str(path), mask.colours, used):
            found.append(Finding("palette", why))
        if void_alone(mask.counts):
            if self.true and (why := void_fault(self.dataset, item, mask.labels)):
                found.append(Finding("void", why))
            else:
                for each in counted:
                    each.void_alone.append(str(path))
        thin = interpolated(mask.labels, mask.counts)
        if thin and (why := interpolation_fault(self.dataset, item, thin)):
            found.append(Finding("interpolated", why))
        for each in counted:
            each.add(mask, [label for label, _, _ in thin])
        return found

    def finish(self) -> None:
        """Raises DataError for what is wrong with all masks together; of
        predictions, when they hold void alone.
        """
        faults = self.counts.faults()
        if not self.true:
            why = self.counts.no_class()
            faults = [why] if why and self.counts.pixels[VOID] else []
        for fault in faults:
            raise DataError(fault)


def look_at_some(checked: CheckedMasks, masks: Sequence[tuple[Path, Item]]) -> None:
    """Read a few masks, evenly spread, before work begins; when none of them holds a class, more
    until one does.

    Raises DataError as ``CheckedMasks.read`` and ``finish``, and when no mask holds a class.
    """
    chosen = masks[:: -(-len(masks) // SOME) or 1]
    for path, item in chosen:
        checked.read(path, item)
    rest = iter([each for each in masks if each not in chosen] if checked.counts.no_class() else [])
    while checked.counts.no_class() and (more := next(rest, None)):
        checked.read(*more)
    checked.finish()
    if why := checked.counts.no_class():
        raise DataError(why)


class LabelCounts:
    """What the masks of a split, or of a folder, hold together."""

    def __init__(self, dataset: SegmentationSet, what: str) -> None:
        """``what`` names the masks in sentences, such as "masks of train"."""
        self.classes, self.layout, self.what = dataset.classes, dataset.layout, what
        self.pixels = np.zeros(256, np.int64)
        self.holding = np.zeros(256, np.int64)
        self.thin = np.zeros(256, np.int64)
        self.masks = self.solid = self.open = 0
        self.void_alone: list[str] = []

    def add(self, mask: MaskFile, thin: Sequence[int] = ()) -> None:
        """Count a mask; ``thin``: its labels that are thin lines (``interpolated``)."""
        self.pixels += mask.counts
        self.holding += mask.counts > 0
        self.masks += 1
        self.thin[list(thin)] += 1
        self.solid += bool(mask.counts[VOID]) and is_solid(mask.labels == VOID)
        self.open += 4 * int(mask.counts[0]) > mask.labels.size or is_solid(mask.labels == 0)

    def no_class(self) -> str | None:
        """The sentence that no mask holds a class; None when one does, or none was counted."""
        if not self.masks or self.holding[1:VOID].any():
            return None
        why = SAVED_AS_255 if self.pixels[VOID] else f"the numbers of the classes are 1..{len(self.classes) - 1}"
        why = why if self.pixels[0] else "nothing but void can be neither learned nor scored"
        return (
            f"none of the {self.masks} {self.what} holds a class "
            f"({_list(self.classes[1:], range(1, len(self.classes)))}); they hold {self._shares()}; {why}"
        )

    def faults(self) -> list[str]:
        """What is wrong with the masks as a whole, one sentence each, for true masks."""
        found = [why for why in (self.no_class(), self._background()) if why]
        thin = np.flatnonzero((self.thin > 0) & (self.thin == self.holding) & (self.holding > 1)).tolist()
        if thin:
            found.append(
                f"the {self.masks} {self.what} hold {_list([self.classes[n] for n in thin], thin)} only as thin lines "
                "between a lower and a higher label: scaled with interpolation? scale masks by nearest neighbour"
            )
        seen = {int(label) for label in np.flatnonzero(self.holding[1:VOID]) + 1}
        if self.classes == COCO_CLASSES and len(seen) >= 60 and not seen & _COCO_IDS_MISSING:
            found.append(
                f"the {self.what} hold {len(seen)} labels, and none that is not a category id of COCO: saved with the "
                "ids' gaps? number the classes 1..80, as `prisbench wsss coco-masks` does"
            )
        if len(self.void_alone) > MOST_VOID_ALONE * self.masks and self.layout is COCO14 and not found:
            found.append(
                f"{len(self.void_alone)} of the {self.masks} {self.what} hold 255 (void) and no class, "
                f"the first is {self.void_alone[0]}: {SAVED_AS_255}"
            )
        return found

    def notes(self, whole: bool = True) -> list[str]:
        """What is unusual about the masks, one sentence each; which classes
        are absent only when they are ``whole``.
        """
        if not self.masks or self.no_class():
            return []
        absent = [n for n in range(1, len(self.classes)) if whole and not self.holding[n]]
        notes = []
        if absent:
            names = [self.classes[n] for n in absent]
            line = (
                f"{_list(names, absent)} {'is' if len(absent) == 1 else 'are'} in none of the {self.masks} {self.what}"
            )
            solid = f", and 255 (void) fills whole regions in {self.solid} of them: saved as 255?" if self.solid else ""
            notes.append(line + solid)
        if not self.holding[0]:
            notes.append(f"0 ({self.classes[0]}) is in none of the {self.masks} {self.what}")
        void = self.pixels[VOID] / self.pixels.sum()
        if void > 0.5:
            notes.append(f"MORE THAN HALF of the pixels of the {self.what} are void (255): {void:.1%}")
        if self.void_alone:
            few = f"{len(self.void_alone)} of the {self.masks} {self.what} hold 255 (void) and no class"
            notes.append(f"{few}; the first is {self.void_alone[0]}")
        for label in np.flatnonzero((self.thin > 0) & (self.thin < self.holding)).tolist():
            notes.append(
                f"{self._name(label)} is only thin lines between two other labels in {self.thin[label]} of the "
                f"{self.holding[label]} {self.what} that hold it: scaled with interpolation?"
            )
        return notes

    def _background(self) -> str | None:
        """The sentence that 0 is not the background; None when it is, or when every pixel may have
        a class.

        What is in every mask and covers more than half of them is the background, whatever its
        label.
        """
        half = self.pixels.sum() / 2
        common = int(np.argmax(self.pixels[1:])) + 1
        if not self.masks or self.open or self.pixels[common] <= half or self.holding[common] < self.masks:
            return None
        where = "is only thin lines" if self.holding[0] else "is nowhere"
        return (
            f"in the {self.masks} {self.what} 0 ({self.classes[0]}) {where}; they hold {self._shares()}; "
            f"background saved as {common}, void as 0, or labels counted from 1? background is 0, the first class 1"
        )

    def _name(self, label: int) -> str:
        return f"{self.classes[label]} ({label})"

    def _shares(self) -> str:
        total = int(self.pixels.sum())
        held = [int(label) for label in np.argsort(-self.pixels, kind="stable")[:4] if self.pixels[label]]
        rest = np.count_nonzero(self.pixels) - len(held)
        names = {0: "0", VOID: f"{VOID} (void)"}
        said = [f"{names.get(n, self._name(n) if n < VOID else '')} on {self.pixels[n] / total:.1%}" for n in held]
        return ", ".join(said) + (f" and {rest} more labels" if rest else "") + " of the pixels"


def _list(names: Sequence[str], labels: Sequence[int]) -> str:
    said = [f"{name} ({label})" for name, label in zip(names, labels, strict=True)]
    if len(said) > 4:
        said = [*said[:3], f"{len(said) - 3} more classes"]
    return ", ".join(said[:-1]) + (" and " if len(said) > 1 else "") + said[-1]
