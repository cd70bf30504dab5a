"""COCO 2014's masks in VOC's form, made from the official instances.

Knows: COCO's category ids, its polygons and run lengths, which instance lies on top.  Does not
know: photos, scores.

Where instances overlap, the smaller one (by the file's ``area``) is on top; of equals, the first
in the file.  Crowds are painted like single instances.  Both are what alicranck/coco2voc does
(``coco2voc_aux.py``), the converter that the READMEs of rulixiang/afa and rulixiang/ToCo name, and
whose output the field shares; its labels are COCO's ids with their gaps, the shared masks' and
ours are 1..80.  There is no void, and an image without instances has no mask and is in no list.
Other conventions exist: torchvision's reference training leaves crowds out and makes overlaps
void.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from pycocotools import mask as coco

from prisbench.datasets.sources.reading.regions import rle
from prisbench.errors import DataError
from prisbench.runtime.files import read_json, sha256_file, write_text
from prisbench.runtime.resume import claim
from prisbench.wsss.labels import write_mask
from prisbench.wsss.layouts import COCO14, COCO_CLASSES
from prisbench.wsss.sets import find_home

CATEGORY_IDS = tuple(n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""COCO's 80 category ids in the order of ``COCO_CLASSES[1:]``; the
ten left out were planned and never annotated."""

RULE = "smallest area on top, crowds painted, labels 1..80"

RECORD = "made-from.json"

_PHOTO = re.compile(r"(COCO_(train2014|val2014)_\d{12})\.jpg")


def build_all(
    instances: Sequence[Path], root: Path, progress: Callable[[Path, int, int], None] = lambda path, done, total: None
) -> list[Built]:
    """``build_masks`` of each file, in the folder COCO2014 below ``root`` or in ``root`` itself.

    ``progress`` receives (file, done, to do).  Raises DataError when there is no such folder, and
    as ``build_masks``.
    """
    home = find_home(COCO14, root) or root
    if not home.is_dir():
        raise DataError(f"no folder {home}; make it, with the photos in {home / 'JPEGImages'}")
    return [build_masks(path, home, partial(progress, path)) for path in instances]


def build_masks(instances: Path, root: Path, progress: Callable[[int, int], None] | None = None) -> Built:
    """Make the masks of instances_train2014.json or instances_val2014.json below ``root``, and the
    list of them.

    ``SegmentationClass/train2014/<id>.png`` and, unless there is one,
    ``ImageSets/SegmentationClass/train.txt`` with the images that have instances, sorted.  Masks
    that are there are kept, so an interrupted run goes on; a note beside them says which file they
    are made from.  The whole file is in memory: some 2 GB for train2014.

    ``progress`` receives (done, to do) after every image.

    Raises DataError when the file is not COCO 2014's or damaged, naming the annotation, or when
    the folder holds masks that were made otherwise; WriteError.
    """
    part, images, annotations = _read_instances(instances)
    folder = root / "SegmentationClass" / part
    _claim(folder, {"instances_sha256": sha256_file(instances), "rule": RULE})
    there = {path.stem for path in folder.glob("*.png")}
    written = left_out = empty = 0
    ids = sorted(annotations)
    for done, image_id in enumerate(ids, 1):
        if image_id not in there:
            labels, bad = paint(annotations[image_id], images[image_id], str(instances))
            write_mask(folder / f"{image_id}.png", labels)
            written, left_out, empty = written + 1, left_out + bad, empty + (not labels.any())
        if progress is not None:
            progress(done, len(ids))
    list_path = root / COCO14.lists[0] / f"{part.removesuffix('2014')}.txt"
    if not list_path.exists():
        write_text(list_path, "".join(f"{each}\n" for each in ids))
    return Built(written, len(ids) - written, left_out, list_path, empty)


class Built(NamedTuple):
    """What ``build_masks`` did: masks it wrote, masks that were there, polygons of under three
    corners it left out.

    ``left_out`` counts those of written masks only, as does ``empty``: masks whose instances cover
    no pixel.
    """

    written: int
    kept: int
    left_out: int
    list_path: Path
    empty: int


def paint(
    annotations: Sequence[Mapping[str, Any]], size_hw: tuple[int, int], where: str
) -> tuple[UInt8[np.ndarray, "h w"], int]:
    """The labels of one image, and how many polygons of under three corners were left out.

    Raises DataError naming ``where`` and the annotation when one is not sound.
    """
    labels = np.zeros(size_hw, np.uint8)
    left_out = 0
    for each in sorted(annotations, key=lambda annotation: _area(annotation, where)):
        name = f"{where}: annotation {each.get('id')}"
        if each.get("category_id") not in CATEGORY_IDS:
            raise DataError(f"{name} has category {each.get('category_id')!r}, which COCO has not")
        region, bad = _region(each.get("segmentation"), size_hw, name)
        labels[region & (labels == 0)] = 1 + CATEGORY_IDS.index(each["category_id"])
        left_out += bad
    return labels, left_out


def _area(annotation: Mapping[str, Any], where: str) -> float:
    area = annotation.get("area")
    if not isinstance(area, int | float):
        raise DataError(f"{where}: annotation {annotation.get('id')} has the area {area!r}, not a number")
    return float(area)


def _region(segmentation: Any, size_hw: tuple[int, int], name: str) -> tuple[Bool[np.ndarray, "h w"], int]:
    """The pixels of polygons or run lengths."""
    h, w = size_hw
    if isinstance(segmentation, dict):
        return rle(segmentation, size_hw, name), 0
    if not isinstance(segmentation, list) or not all(_is_polygon(each) for each in segmentation):
        raise DataError(f"{name}: its segmentation is neither polygons nor run lengths")
    # Four numbers would be read as a box.
    corners = [each for each in segmentation if len(each) >= 6]
    if not corners:
        return np.zeros(size_hw, bool), len(segmentation)
    merged = coco.merge(coco.frPyObjects(corners, h, w))
    return np.asarray(coco.decode(merged)).astype(bool), len(segmentation) - len(corners)


def _is_polygon(value: Any) -> bool:
    return isinstance(value, list) and len(value) % 2 == 0 and all(isinstance(n, int | float) for n in value)


def _read_instances(path: Path) -> tuple[str, dict[str, tuple[int, int]], dict[str, list[dict[str, Any]]]]:
    """The part (train2014, val2014), the sizes of its images and, of
    those that have any, their annotations.
    """
    record = read_json(path)
    try:
        categories = {each["id"]: each["name"] for each in record["categories"]}
        names = {each["id"]: each["file_name"] for each in record["images"]}
        sizes = {each["id"]: (each["height"], each["width"]) for each in record["images"]}
        by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for each in record["annotations"]:
            by_image[each["image_id"]].append(each)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not an instances file of COCO ({error!r}); download it again") from None
    if categories != dict(zip(CATEGORY_IDS, COCO_CLASSES[1:], strict=True)):
        raise DataError(f"{path} has {len(categories)} categories, which are not COCO's 80; download it again")
    found = {number: _PHOTO.fullmatch(name) for number, name in names.items()}
    parts = {match[2] if match else names[number] for number, match in found.items()}
    if len(parts) != 1 or not parts <= {"train2014", "val2014"}:
        raise DataError(
            f"{path} names photos like {sorted(parts)[0] if parts else 'none'!r}; "
            "instances_train2014.json or instances_val2014.json is wanted"
        )
    if not by_image:
        raise DataError(f"{path} has {len(names)} images and no annotation, so there is no mask to make")
    lost = [number for number in by_image if number not in names]
    if lost:
        raise DataError(f"{path}: annotations of image {lost[0]}, which the file does not list; download it again")
    wrong = [number for number in by_image if not all(isinstance(n, int) and n > 0 for n in sizes[number])]
    if wrong:
        raise DataError(f"{path}: image {wrong[0]} has the size {sizes[wrong[0]]}; download it again")
    stem = {number: Path(names[number]).stem for number in by_image}
    return (
        parts.pop(),
        {stem[number]: sizes[number] for number in by_image},
        {stem[number]: listed for number, listed in by_image.items()},
    )


def _claim(folder: Path, record: dict[str, str]) -> None:
    """Note beside the masks what they are made from.

    Raises DataError when they are made from something else.
    """
    note = folder / RECORD
    if not note.exists() and any(folder.glob("*.png")):
        raise DataError(f"{folder} holds masks that were not made here; use them as they are, or remove the folder")
    claim(note, record, lambda _: f"{folder} holds masks of another file or rule (see {note}); remove the folder first")
