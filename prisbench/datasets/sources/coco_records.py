"""What the JSON of COCO's instances says: records by their ids, identities, sizes, places, licences.

Knows: the fields of a record, and what is wrong with one.  Does not know: image files, masks, which records are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from prisbench.datasets.sources.identities import Identities, key_of
from prisbench.errors import DataError

_IDENTITIES = ("subject", "subject_id", "instance_id", "track_id")
_CREATIVE_COMMONS = re.compile(r"https?://creativecommons[.]org/licenses/([a-z-]+)/([0-9.]+)/?.*")


class Annotation(NamedTuple):
    """A record, how errors call it, and its image, category and subject as compared values."""

    record: dict[str, Any]
    where: str
    image: str
    category: str
    subject: str | None
    crowd: bool


def by_id(value: Any, name: str, path: Path, wanted: bool = True) -> dict[str, dict[str, Any]]:
    """id -> record, of one of the lists of the JSON; ids compare by value."""
    records = value.get(name) if isinstance(value, dict) else None
    if records is None and not wanted:
        return {}
    if not isinstance(records, list) or (wanted and not records):
        raise DataError(f"{path} has no list {name!r}; is it COCO's instances?")
    found: dict[str, dict[str, Any]] = {}
    for n, record in enumerate(records):
        key = key_of(record.get("id")) if isinstance(record, dict) else None
        if key is None:
            raise DataError(f"{path}: number {n + 1} of {name} has no id that is a number or a text")
        if key in found:
            raise DataError(f"{path}: the id {record['id']!r} is in {name} twice")
        found[key] = record
    return found


def records_of(
    value: Any, images: Mapping[str, Any], categories: Mapping[str, Any], path: Path
) -> list[dict[str, Any]]:
    """The annotations, each with an id, of an image and a category that are there."""
    found = list(by_id(value, "annotations", path).values())
    for record in found:
        for name, known in (("image_id", images), ("category_id", categories)):
            if key_of(record.get(name)) not in known:
                raise DataError(
                    f"{path}: annotation {record['id']} has the {name} {record.get(name)!r}, which is not there"
                )
    return found


def annotation_of(
    record: dict[str, Any], images: Mapping[str, Any], categories: Mapping[str, Any], seen: Identities, path: Path
) -> Annotation:
    """A record with its image, category and subject as compared values."""
    where = f"annotation {record['id']}"
    image, category = (key_of(record[name]) or "" for name in ("image_id", "category_id"))
    subject = seen.read(field_of(record, seen.name), f"{path}: {where}")
    return Annotation(record, where, image, category, subject, _is_crowd(record, f"{path}: {where}"))


def with_brushed(annotations: Sequence[Annotation]) -> tuple[list[Annotation], list[str]]:
    """The annotations, run lengths with ``iscrowd`` 1 whose identity other images have too being that thing; and a
    line when there are some.  CVAT writes every mask that was brushed so.
    """
    images: dict[str, set[str]] = {}
    for each in annotations:
        if each.subject is not None:
            images.setdefault(each.subject, set()).add(each.image)
    found = [
        each.crowd and isinstance(each.record.get("segmentation"), dict) and len(images.get(each.subject or "", ())) > 1
        for each in annotations
    ]
    line = f"{sum(found)} run lengths with iscrowd 1 have an identity that other images show too: they are that thing"
    kept = [each._replace(crowd=each.crowd and not one) for each, one in zip(annotations, found, strict=True)]
    return kept, [line] if any(found) else []


def drawable(record: dict[str, Any], size_hw: tuple[int, int]) -> tuple[dict[str, Any], int, int]:
    """The record without those of its polygons that have no inside (under three points), and without those that lie
    beside the image, as far as it is large; and how many these were.  Run lengths without a run are none.
    """
    region = record.get("segmentation")
    if isinstance(region, dict) and region.get("counts") in ([], ""):
        return {**record, "segmentation": None}, 0, 0
    if not isinstance(region, list):
        return record, 0, 0
    full = [part for part in region if not _is_flat(part)]
    kept = [part for part in full if not _is_beside(part, size_hw)]
    return {**record, "segmentation": kept}, len(region) - len(full), len(full) - len(kept)


def _is_beside(part: Any, size_hw: tuple[int, int]) -> bool:
    """Whether a polygon touches no pixel of its image; one that is further away is of an image of another size."""
    if not isinstance(part, list) or len(part) % 2 or not all(type(n) in (int, float) for n in part):
        return False
    (h, w), far = size_hw, max(size_hw)
    x, y = part[::2], part[1::2]
    inside = max(x) > 0 and min(x) < w and max(y) > 0 and min(y) < h
    return not inside and all(-far <= n <= w + far for n in x) and all(-far <= n <= h + far for n in y)


def _is_flat(part: Any) -> bool:
    """Whether a polygon has under three different corners; what is no polygon at all is not for here."""
    if not isinstance(part, list) or len(part) % 2 or not all(type(n) in (int, float) and n == n for n in part):
        return False
    return len(set(zip(part[::2], part[1::2], strict=True))) < 3


def identity_of(records: Iterable[dict[str, Any]], path: Path) -> str:
    """The first of the usual fields that an annotation has."""
    for name in (*_IDENTITIES, *(f"attributes.{name}" for name in _IDENTITIES)):
        if any(_says(field_of(record, name)) for record in records):
            return name
    raise DataError(
        f"{path} does not say which annotations show the same particular thing, so there is no subject: give them a "
        f"'subject' each, or say identity=FIELD; {fields_of(records)}"
    )


def check_pixels(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Raises DataError when all polygons lie within one pixel: their corners are shares of the image, as YOLO's are."""
    found = False
    for record in records:
        region = record.get("segmentation")
        for part in region if isinstance(region, list) else ():
            if not isinstance(part, list) or not all(isinstance(n, int | float) and 0 <= n <= 1 for n in part):
                return
            found = True
    if found:
        raise DataError(
            f"{path}: all corners of all polygons are from 0 to 1, shares of the image; COCO's are pixels: multiply x "
            "by width and y by height"
        )


def name_and_size(image: Mapping[str, Any], path: Path) -> tuple[str, tuple[int, int]]:
    """An image's ``file_name``, height and width.  Raises DataError where it has none that can be."""
    where = f"{path}: image {image['id']}"
    name = image.get("file_name")
    h, w = (int(n) if isinstance(n, float) and n.is_integer() else n for n in map(image.get, ("height", "width")))
    if not isinstance(name, str):
        raise DataError(f"{where} has no file_name")
    if type(h) is not int or type(w) is not int or h < 1 or w < 1 or h * w > (Image.MAX_IMAGE_PIXELS or h * w):
        raise DataError(f"{where}: height {h!r} and width {w!r} are no size of an image that can be opened")
    return name.replace("\\", "/"), (h, w)  # a "\\" of Windows divides as "/" does


def noun_of(category: Mapping[str, Any], path: Path) -> str:
    """A category's name in plain words.  Raises DataError where it has none."""
    name = category.get("name")
    noun = " ".join(str(name).replace("_", " ").split())
    if not isinstance(name, str) or not noun:
        raise DataError(f"{path}: category {category['id']} has no name")
    return noun


def place_of(image: Mapping[str, Any], name: str, scene: str | None, path: Path) -> str:
    """What an image shares with its neighbours: the value of the field ``scene``, its folder, or its own name."""
    if scene is None:
        return name
    place = PurePosixPath(name).parent.as_posix() if scene == "folder" else key_of(field_of(image, scene))
    if place is None:
        raise DataError(f"{path}: image {image['id']} has no {scene!r}, which scene={scene} asks for")
    return place


def spdx(licence: Mapping[str, Any], unknown: str) -> str:
    """The SPDX name of a Creative Commons licence, by its address; else the licence's name, or ``unknown``."""
    found = _CREATIVE_COMMONS.fullmatch(str(licence.get("url", "")))
    return f"CC-{found[1].upper()}-{found[2]}" if found else " ".join(str(licence.get("name") or unknown).split())


def address_of(image: Mapping[str, Any], name: str) -> str:
    """Where an image is from."""
    for field in ("flickr_url", "coco_url"):
        address = image.get(field)
        if isinstance(address, str) and re.fullmatch(r"https?://\S+", address):
            return address
    return f"coco {' '.join(name.split())}"


def field_of(record: Mapping[str, Any], dotted: str) -> Any:
    """The value of a field, or of one inside a field; None where there is none."""
    value: Any = record
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def fields_of(annotations: Iterable[dict[str, Any]]) -> str:
    """Which fields the annotations have, as the end of a sentence."""
    fields: set[str] = set()
    for annotation in annotations:
        attributes = annotation.get("attributes")
        inner = attributes if isinstance(attributes, dict) else {}
        fields |= {*map(str, annotation), *(f"attributes.{name}" for name in inner)} - {"attributes"}
    return f"the annotations have {', '.join(sorted(fields)[:20])}"


def _is_crowd(record: Mapping[str, Any], where: str) -> bool:
    value = record.get("iscrowd")
    if value is None or isinstance(value, bool) or value != value:  # NaN stands for no value
        return value is True
    if key_of(value) not in ("0", "1"):
        raise DataError(f"{where}: iscrowd is {value!r}; 0 or 1 is wanted")
    return key_of(value) == "1"


def _says(value: Any) -> bool:
    return value is not None and value == value and key_of(value) != "-1" and value != ""
