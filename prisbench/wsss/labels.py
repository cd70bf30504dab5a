"""Labels in files: masks as PNGs, and which classes an image has.

A mask is ``h w`` uint8: 0 background, 1.. the classes in their published order, 255 void.  On disk
it is a PNG of mode P with VOC's colours, so that people can look at it, or of mode L.

Knows: how a mask and a file of image labels are read and written.  Does not know: whether what a
mask holds can be right (``label_checks``), how COCO's masks are made (``coco``), models, scores.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, UnidentifiedImageError

from prisbench.errors import DataError, UnknownNameError
from prisbench.runtime.files import read_bytes, read_json, write_bytes
from prisbench.wsss.layouts import COCO_CLASSES, VOID
from prisbench.wsss.palettes import contradiction
from prisbench.wsss.sets import Item, SegmentationSet, read_photo


def read_mask(
    path: str | os.PathLike[str], classes: int, size_hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w"]:
    """The labels in a PNG: below ``classes``, or 255.

    Raises DataError naming the file when it is missing, damaged, no PNG, in colour (an RGB mask
    has lost its labels), of another size than ``size_hw``, has a palette that contradicts its
    labels (``palettes.contradiction``), or holds a label outside the classes.
    """
    return read_mask_file(path, classes, size_hw).labels


def read_mask_file(path: str | os.PathLike[str], classes: int, size_hw: tuple[int, int] | None = None) -> MaskFile:
    """The labels in a PNG and their colours.  Raises DataError as ``read_mask``."""
    data = read_bytes(path)
    if not data:
        raise DataError(f"{path} is empty (0 bytes); make it again")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            # Pillow stretches grey of fewer than 8 bits to 0..255, so labels would change.
            mode = f"{image.mode} of {data[24]} bits" if image.mode == "L" and data[24] != 8 else image.mode
            if mode not in ("P", "L"):
                raise DataError(f"{path} has mode {mode}; a mask is a PNG of mode P or L, one label a pixel")
            image.load()
            labels = np.array(image)
            palette = image.getpalette("RGB") if mode == "P" else None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a PNG; a mask is a PNG of mode P or L") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is damaged or cut short ({' '.join(str(error).split())}); make it again") from None
    if size_hw is not None and labels.shape != size_hw:
        (h, w), (height, width) = labels.shape, size_hw
        raise DataError(f"{path} is {h} x {w}, its image {height} x {width} (height x width)")
    colours = np.array(palette, np.uint8).reshape(-1, 3) if palette else None
    counts = np.bincount(labels.ravel(), minlength=256)
    used = [int(label) for label in np.flatnonzero(counts)]
    if colours is not None and (why := contradiction(colours, used, _standard_colours(), classes)):
        raise DataError(f"{path} {why}")
    outside = [label for label in used if classes <= label < VOID]
    if outside:
        more = f" (and {len(outside) - 1} more labels)" if len(outside) > 1 else ""
        raise DataError(
            f"{path} has label {outside[0]} on {counts[outside[0]]} pixels{more}; "
            f"the classes are 0..{classes - 1}, and {VOID} is void{_origin(used, classes)}"
        )
    return MaskFile(labels, counts, colours)


class MaskFile(NamedTuple):
    """What a mask's PNG holds: its labels, how many pixels have each,
    and, in mode P, the colours of its palette.
    """

    labels: UInt8[np.ndarray, "h w"]
    counts: Int[np.ndarray, "256"]
    colours: UInt8[np.ndarray, "n 3"] | None


def write_mask(path: str | os.PathLike[str], labels: UInt8[np.ndarray, "h w"]) -> Path:
    """Write labels as a PNG of mode P with VOC's colours, whole or not at all.

    Raises WriteError.
    """
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(voc_palette())
    out = io.BytesIO()
    image.save(out, format="PNG")
    return write_bytes(path, out.getvalue())


def voc_palette() -> bytes:
    """VOC's 256 colours as 768 bytes: ``VOClabelcolormap.m`` of the development kit.

    Bits 0, 3 and 6 of a label become the first bits of red, bits 1, 4 and 7 of green, bits 2 and 5
    of blue.
    """
    labels = np.arange(256)
    colours = [sum(((labels >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.stack(colours, axis=1).astype(np.uint8).tobytes()


@lru_cache(maxsize=1)
def _standard_colours() -> UInt8[np.ndarray, "256 3"]:
    return np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)


def _origin(used: Sequence[int], classes: int) -> str:
    """Where labels outside the classes may come from, as the end of a
    sentence; nothing when it cannot be told.
    """
    luma = {int(n) for n in np.array(Image.fromarray(_standard_colours()[None, : max(classes, 2)]).convert("L"))[0]}
    if classes == len(COCO_CLASSES) and max(label for label in used if label < VOID) <= 90:
        return "; COCO's category ids, 1..90 with gaps? number the classes 1..80, as `prisbench wsss coco-masks` does"
    if classes <= 38 and len(used) > 1 and {label for label in used if label != VOID} <= luma:
        return '; brightness of VOC\'s colours (convert("L"))? save the labels themselves'
    held = [label for label in used if label != VOID]
    if len(held) == 2 and held[0] == 0:
        return f"; save the number of the class instead of {held[1]}"
    if held[0] == 1:
        return "; labels counted from 1? background is 0, the first class 1"
    return ""


def read_truth(
    dataset: SegmentationSet, item: Item, size_hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w"]:
    """The mask of an item.

    Raises DataError as ``read_mask``, and naming the list's line when there is none.
    """
    if not item.mask.is_file():
        raise DataError(f"{item.where}: {item.id} has no mask {item.mask}")
    return read_mask(item.mask, len(dataset.classes), size_hw)


def read_example(dataset: SegmentationSet, item: Item) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Photo and mask of an item.

    Raises DataError naming the list's line when one of them is missing, and the file for the rest
    of ``load_photo`` and ``read_mask``.
    """
    photo = read_photo(item)
    h, w = photo.shape[:2]
    return photo, read_truth(dataset, item, (h, w))


def image_labels(mask: UInt8[np.ndarray, "h w"]) -> tuple[int, ...]:
    """The classes seen in a mask, sorted, without background and void.

    The published protocol takes a training image's labels from its true mask (Text2Mask,
    ``scripts/SD_seg.py``): an oracle, a perfect classifier.
    """
    return tuple(int(label) for label in np.unique(mask) if label not in (0, VOID))


def read_image_labels(path: str | os.PathLike[str], classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Each image's labels, sorted, by id, from what somebody or a classifier wrote; an image may
    have none.

    JSON: ``{"2007_000032": ["aeroplane", "person"]}``.  CSV: a header ``id,labels``, labels
    between semicolons: ``2007_000032,aeroplane;person``.

    Raises DataError naming file and image for another shape or an id twice, UnknownNameError for
    an unknown class.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        pairs = list(_csv_pairs(path))
    else:
        record = read_json(path)
        if not isinstance(record, dict):
            raise DataError(f"{path}: an object is wanted that gives each image id its list of class names")
        pairs = list(record.items())
    labels: dict[str, tuple[int, ...]] = {}
    for image_id, names in pairs:
        if image_id in labels:
            raise DataError(f"{path}: image {image_id!r} stands there twice")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path}: image {image_id!r} has {names!r}, not a list of class names")
        for name in names:
            if name not in classes[1:]:
                raise UnknownNameError(f"class of image {image_id} in {path}", name, classes[1:])
        labels[image_id] = tuple(sorted({classes.index(name) for name in names}))
    return labels


def _csv_pairs(path: Path) -> Iterator[tuple[str, list[str]]]:
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(text))
    if next(rows, None) != ["id", "labels"]:
        raise DataError(f"{path}: the first line must be id,labels")
    for row in rows:
        if len(row) not in (0, 2):
            raise DataError(
                f"{path} line {rows.line_num}: {','.join(row)!r} is not an id and labels between semicolons"
            )
        if row:
            yield row[0].strip(), [name.strip() for name in row[1].split(";") if name.strip()]
