"""COCO's panoptic format: a JSON of segments, and for each image a PNG whose colours are the segments' numbers.

Layout: https://cocodataset.org/#format-data, part 4: ``annotations`` with ``image_id``, ``file_name`` (of the PNG) and
``segments_info`` (``id``, ``category_id``, ``iscrowd``); ``categories`` with ``isthing``.  A pixel's number is
R + 256 G + 65536 B, 0 where nothing is; a grey PNG holds the numbers themselves.

    annotations/panoptic_val2017.json
    annotations/panoptic_val2017/000000000139.png
    val2017/000000000139.jpg

As in ``coco``, some field of the segments must say which particular thing one shows: ``subject``, ``subject_id``,
``instance_id``, ``track_id``, or the one that ``identity`` names (``id`` in video sets that keep it over all frames).
Stuff (``isthing`` 0) is no thing and left out; a crowd is another thing of its scene.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.source import Source
from prisbench.datasets.sources.annotated_pictures import AnnotatedPicture, OpenedPicture, Thing
from prisbench.datasets.sources.coco import LICENCE as LICENCE
from prisbench.datasets.sources.coco import annotations_file, for_absent, images_folder
from prisbench.datasets.sources.coco_records import (
    address_of,
    by_id,
    field_of,
    fields_of,
    identity_of,
    name_and_size,
    noun_of,
    place_of,
    spdx,
)
from prisbench.datasets.sources.frames import turn_of
from prisbench.datasets.sources.identities import Identities, Use, class_warnings, key_of
from prisbench.datasets.sources.instances import INSTANCE_OPTIONS, plan, source_of
from prisbench.datasets.sources.mask_files import MaskRule
from prisbench.datasets.sources.options import build_key, mask_rule, one_line, yes_or_no
from prisbench.datasets.sources.plan import about
from prisbench.datasets.sources.reading.files import inside
from prisbench.datasets.sources.reading.images import check_size, colours_file, grey_or_index, image_file, png_file
from prisbench.datasets.sources.reading.values import json_file
from prisbench.errors import DataError
from prisbench.images.photos import orientation, turned
from prisbench.runtime.files import read_bytes

TITLE = "COCO panoptic"
HOMEPAGE = "https://cocodataset.org"
LAYOUT = """
annotations/panoptic_val2017.json
annotations/panoptic_val2017/000000000139.png
val2017/000000000139.jpg
"""
OPTIONS = INSTANCE_OPTIONS | {
    "panoptic": "the JSON, below the folder (default: the only annotations/panoptic_*.json, or the only *.json)",
    "masks": "the folder of the PNG files, below the folder (default: beside the JSON, with its name)",
    "images": "the folder of the images, below the folder (default: by the JSON's name, images, or where the JSON is)",
    "identity": "the segments' field that says which thing it is (default: subject, subject_id, instance_id, track_id)",
    "scene": "an image's field like video_id, or 'folder': its images show one place and are not divided between "
    "reference photos and scenes (default: each image is its own)",
}
LIMITS = """\
- Which segments show the same particular thing: COCO itself does not say; the field named above is believed.
- What stuff is made of: it is left out, so a scene may hold more than its things."""


@dataclass(frozen=True)
class Picture:
    """What is opened of an image: its file, the PNG, the segments' numbers, and the image's recorded size."""

    file: Path
    png: Path
    ids: tuple[int, ...]
    size_hw: tuple[int, int]
    rule: MaskRule
    remarks: Remarks

    def look(self) -> OpenedPicture:
        image = image_file(self.file)
        h, w = image.pixels.shape[:2]
        exif = orientation(read_bytes(self.file), str(self.file))
        turn = turn_of(self.file, exif, (h, w), self.rule, self.remarks, self.size_hw)
        numbers = turned(numbers_of(self.png, self.size_hw), turn)
        return OpenedPicture(image, tuple(numbers == n for n in self.ids))


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file and the record for all else."""
    path = annotations_file(root, options, "panoptic", "panoptic")
    value = json_file(path)
    images = by_id(value, "images", path)
    categories = by_id(value, "categories", path)
    licences = {key: spdx(record, LICENCE) for key, record in by_id(value, "licenses", path, wanted=False).items()}
    records = _records(value, images, categories, path)
    identity = options.get("identity") or identity_of([seg for _, segs in records.values() for seg in segs], path)
    folder = images_folder(root, path, images, options)
    home = inside(root, options["masks"], "masks") if "masks" in options else path.with_suffix("")
    if not home.is_dir():
        raise DataError(
            f"{path}: the PNG files should be in {home}, which is not there; say masks=FOLDER, below {root}"
        )
    said = one_line(options, "licence", LICENCE) if "licence" in options else None
    left_out: Counter[str] = Counter()
    seen, rule, remarks = Identities(identity), mask_rule(options), Remarks(root)
    pictures, files, uses = [], [path], []
    for key, (png_name, segments) in sorted(records.items()):
        image = images[key]
        name, size_hw = name_and_size(image, path)
        found = _things(segments, categories, seen, f"{path}: image {key}", left_out)
        if not any(thing.subject for _, thing in found):
            left_out["images where no segment has an identity"] += bool(segments)
            continue
        file, png = inside(folder, name, f"{path}: image {key}"), inside(home, png_name, f"{path}: image {key}")
        drawn = set(np.unique(numbers_of(png, size_hw)).tolist())
        left_out["segments without a pixel in their PNG"] += sum(n not in drawn for n, _ in found)
        left_out["numbers of a PNG that its segments do not list"] += len(
            drawn - {0} - {n for n, _ in segments_ids(segments)}
        )
        shown = [(n, thing) for n, thing in found if n in drawn]
        uses += [Use(t.subject, f"segment {n}", key, t.noun, t.group) for n, t in shown if t.subject is not None]
        pictures.append(
            AnnotatedPicture(
                name=name,
                place=place_of(image, name, options.get("scene"), path),
                things=tuple(thing for _, thing in shown),
                licence=said or licences.get(key_of(image.get("license")) or "", LICENCE),
                source=address_of(image, name),
                look=Picture(file, png, tuple(n for n, _ in shown), size_hw, rule, remarks).look,
            )
        )
        files += [file, png]
    segmented = [key for key, (_, segments) in records.items() if segments]
    for key in for_absent(images, segmented, folder, options, left_out):
        pictures.append(_without_segments(images[key], folder, path, options.get("scene"), said or licences))
        files.append(folder / pictures[-1].name)
    if not uses:
        raise DataError(
            f"{path}: no segment has a {identity!r}; {fields_of(s for _, segs in records.values() for s in segs)}"
        )
    left_out += Counter()  # no zeros
    planned = plan(pictures, options, left_out, f"{path} (identity={identity})")
    titles = {use.category: use.category for use in uses}
    warnings = [*class_warnings(identity, uses, titles, yes_or_no(options, "copies", False)), *seen.warnings()]
    card, build = about(TITLE, HOMEPAGE, LIMITS, options), build_key(TITLE, options, root, files)
    lines = tuple(f"{path.name}: {line}" for line in warnings)
    return replace(source_of("coco-panoptic", planned, card, build, left_out, lines), remarks=remarks)


def _without_segments(
    image: Mapping[str, Any], folder: Path, path: Path, scene: str | None, licence: str | Mapping[str, str]
) -> AnnotatedPicture:
    """An image that shows nothing that has a segment.  ``licence``: as somebody says, or by the image's field."""
    name, _ = name_and_size(image, path)
    return AnnotatedPicture(
        name=name,
        place=place_of(image, name, scene, path),
        things=(),
        licence=licence if isinstance(licence, str) else licence.get(key_of(image.get("license")) or "", LICENCE),
        source=address_of(image, name),
        look=partial(_look_bare, inside(folder, name, f"{path}: image {image['id']}")),
    )


def _look_bare(file: Path) -> OpenedPicture:
    return OpenedPicture(image_file(file), ())


def numbers_of(png: Path, size_hw: tuple[int, int]) -> Int[np.ndarray, "h w"]:
    """The number of every pixel of a panoptic PNG.  Raises DataError as ``colours_file``."""
    image, bits, _ = png_file(png)
    if image.mode in ("1", "L", "P", "I", "I;16", "LA"):
        numbers = grey_or_index(image, bits, str(png))
        check_size((numbers.shape[0], numbers.shape[1]), size_hw, str(png))
        return numbers
    colours = colours_file(png, size_hw).astype(np.int32)
    return colours[:, :, 0] + 256 * colours[:, :, 1] + 65536 * colours[:, :, 2]


def segments_ids(segments: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Number -> segment, of those whose number is one."""
    return [(int(key), one) for one in segments if (key := key_of(one.get("id"))) is not None and key.isdigit()]


def _records(
    value: Any, images: Mapping[str, Any], categories: Mapping[str, Any], path: Path
) -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Image -> the name of its PNG and its segments."""
    found = value.get("annotations")
    if not isinstance(found, list) or not found:
        raise DataError(f"{path} has no list 'annotations'; is it COCO's panoptic format?")
    records: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    for n, record in enumerate(found, 1):
        where = f"{path}: number {n} of annotations"
        segments = record.get("segments_info") if isinstance(record, dict) else None
        if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
            raise DataError(f"{where} has no list 'segments_info'; COCO's instances are read by the source coco")
        image, png = key_of(record.get("image_id")), record.get("file_name")
        if image not in images or image is None:
            raise DataError(f"{where} has the image_id {record.get('image_id')!r}, which is not there")
        if image in records or not isinstance(png, str):
            raise DataError(
                f"{where}: " + (f"image {image} comes twice" if image in records else "it has no file_name")
            )
        for one in segments:
            if key_of(one.get("category_id")) not in categories or not str(key_of(one.get("id"))).isdigit():
                raise DataError(
                    f"{where}: a segment with id {one.get('id')!r} and category_id {one.get('category_id')!r}; ids are "
                    "whole numbers, and categories must be there"
                )
        twice = [n for n, count in Counter(n for n, _ in segments_ids(segments)).items() if count > 1]
        if twice:
            raise DataError(f"{where} has the segment {twice[0]} twice")
        records[image] = (png.replace("\\", "/"), segments)
    return records


def _things(
    segments: list[dict[str, Any]],
    categories: Mapping[str, dict[str, Any]],
    seen: Identities,
    where: str,
    left_out: Counter[str],
) -> list[tuple[int, Thing]]:
    """The things of an image by their numbers; a crowd is nobody in particular."""
    found = []
    for n, one in segments_ids(segments):
        category = categories[key_of(one["category_id"]) or ""]
        if category.get("isthing") in (0, False):
            left_out["segments of stuff (isthing 0)"] += 1
            continue
        crowd = one.get("iscrowd") in (1, True)
        subject = None if crowd else seen.read(field_of(one, seen.name), f"{where}, segment {n}")
        found.append((n, Thing(noun_of(category, Path(where)), subject, crowd)))
    return found
