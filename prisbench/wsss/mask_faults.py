"""Whether one mask can be right: void only where nothing is known, no lines that scaling has left.

Masks saved as 0 and 255, or resized with interpolation, are PNGs like others.  Their scores are
numbers like others, too.

Knows: labels, VOC's annotations of an image.  Does not know: the other masks of its folder
(``label_checks``), scores.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from prisbench.datasets.sources.reading.values import text_file
from prisbench.errors import DataError
from prisbench.wsss.layouts import COCO14, VOID
from prisbench.wsss.sets import Item, SegmentationSet

THIN_PX = 4
"""The widest line that scaling a mask with interpolation leaves
between two labels, up to a factor of four."""

_MOST_XML_BYTES = 2**20

SAVED_AS_255 = "masks saved as 0 and 255? save the number of the class instead (of a single class: divide by 255)"


class Finding(NamedTuple):
    """Something wrong with one mask.  ``kind``: "void", "interpolated" or
    "palette"; ``why`` ends a sentence that begins with the file.
    """

    kind: str
    why: str


def void_fault(dataset: SegmentationSet, item: Item, labels: UInt8[np.ndarray, "h w"]) -> str | None:
    region = labels == VOID
    holds = f"holds 255 (void) on {region.mean():.1%} of its pixels, and no class"
    listed = annotated(dataset, item)
    if listed:
        return f"{holds}, and its annotation lists {', '.join(listed)}: {SAVED_AS_255}"
    if dataset.layout is not COCO14 and is_solid(region):
        return f"{holds}: {SAVED_AS_255}; leave the image out of the list when all that it shows is void"
    return None


def interpolation_fault(dataset: SegmentationSet, item: Item, found: Sequence[tuple[int, int, int]]) -> str | None:
    """Two such labels in one mask, or one that its annotation does not
    list: rims of things are thin lines, too.
    """
    listed = annotated(dataset, item)
    if len(found) == 1 and (not listed or dataset.classes[found[0][0]] in listed):
        return None
    label, below, above = found[0]
    names = ", ".join(f"{dataset.classes[n]} ({n})" for n, _, _ in found[:3]) + (" ..." if len(found) > 3 else "")
    return (
        f"holds {names} only as thin lines, such as {label} between {below} and {above}: "
        "scaled with interpolation? scale masks by nearest neighbour"
    )


def void_alone(counts: Int[np.ndarray, "256"]) -> bool:
    """Whether a mask, of these pixel counts, holds 255 and no class:
    there is void that cannot be a class's border.
    """
    return bool(counts[VOID]) and not counts[1:VOID].any()


def is_solid(region: Bool[np.ndarray, "h w"]) -> bool:
    """Whether a region is wider somewhere than a drawn border: it holds a
    square of 13 pixels in a VOC photo, of 5 in a tiny one.
    """
    side = 2 * max(2, max(region.shape) // 80) + 1
    if min(region.shape) < side:
        return False
    for axis in (0, 1):  # what lies right and below is added in steps that double
        region = np.moveaxis(region, axis, 0)
        width = 1
        while width < side:
            step = min(width, side - width)
            region = region[: len(region) - step] & region[step:]
            width += step
        region = np.moveaxis(region, 0, axis)
    return bool(region.any())


def interpolated(
    labels: UInt8[np.ndarray, "h w"], counts: Int[np.ndarray, "256"] | None = None
) -> list[tuple[int, int, int]]:
    """Labels that are thin lines between a lower and a higher label, as (label, one neighbour, the
    other one).

    Scaling labels 0 and 15 with interpolation leaves such lines of 4 and 11 between them.  Nine
    tenths of a label's pixels must lie in runs of at most THIN_PX pixels, along a row or a column,
    whose neighbours are below and above.  ``counts``: the pixels of every label.
    """
    counts = np.bincount(labels.ravel(), minlength=256) if counts is None else counts
    present = np.flatnonzero(counts[:VOID])
    fewest = max(8, sum(labels.shape) // 8)
    between = [int(label) for label in present[1:-1] if counts[label] >= fewest]
    if not between:
        return []
    # So many runs of THIN_PX pixels hold nine tenths of them, or none of this needs to be looked at pixel by pixel.
    runs = [np.bincount(each[:, 1:][each[:, 1:] != each[:, :-1]], minlength=256) for each in (labels, labels.T)]
    between = [n for n in between if 0.9 * counts[n] <= THIN_PX * (runs[0][n] + runs[1][n] + sum(labels.shape))]
    if not between:
        return []
    ramp = _ramps(labels) | _ramps(labels.T).T
    inside = np.bincount(labels[ramp], minlength=256)
    thin = [label for label in between if inside[label] >= 0.9 * counts[label]]
    rest = [int(label) for label in present if label not in thin]
    found = []
    for label in thin:
        below, above = [n for n in rest if n < label], [n for n in rest if n > label]
        if below and above:
            found.append((label, below[-1], above[0]))
    return found


def _ramps(labels: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of short runs along the rows whose left neighbour is
    below and right one above, or the other way.
    """
    h, w = labels.shape
    flat = np.ascontiguousarray(labels).ravel().astype(np.int16)
    begins = np.ones((h, w), bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, flat.size))
    values = flat[starts]
    first, last = starts % w == 0, (starts + lengths) % w == 0
    before, after = np.roll(values, 1), np.roll(values, -1)
    monotone = ((before < values) & (values < after)) | ((before > values) & (values > after))
    known = (before != VOID) & (after != VOID) & ~first & ~last
    return np.repeat(monotone & known & (lengths <= THIN_PX), lengths).reshape(h, w)


def annotated(dataset: SegmentationSet, item: Item) -> tuple[str, ...]:
    """The classes that VOC's annotation of an image lists, difficult objects aside; none without
    an annotation.

    Raises DataError when the file cannot be read.
    """
    path = dataset.root / "Annotations" / f"{item.id}.xml"
    if dataset.layout is COCO14 or not path.is_file():
        return ()
    text = text_file(path, _MOST_XML_BYTES)
    try:
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise DataError(f"{path} defines entities; VOC's annotations have none")
        objects = ElementTree.fromstring(text).findall("object")
    except ElementTree.ParseError as error:
        raise DataError(f"{path} is not XML ({error}); copy it again") from None
    names = {each.findtext("name", "").strip() for each in objects if each.findtext("difficult", "0").strip() != "1"}
    return tuple(name for name in dataset.classes[1:] if name in names)
