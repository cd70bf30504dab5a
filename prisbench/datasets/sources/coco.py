"""COCO's instances: a JSON of polygons and run lengths, with a folder of images.

Layout: https://cocodataset.org/#format-data, part 1 (``images``, ``annotations``, ``categories``, ``licenses``).  LVIS,
Roboflow, CVAT and many tools write the same.

    annotations/instances_val2017.json
    val2017/000000000139.jpg

COCO has no field for which particular thing an annotation shows, and without it there is no subject: an annotation is
a thing of its own.  So some field of the annotations must say it, by the same value wherever the same thing is seen:
``subject``, ``subject_id``, ``instance_id``, ``track_id``, also among ``attributes`` as CVAT writes them, or the one
that the option ``identity`` names.  A value must mean one thing in the whole file: a ``track_id`` that starts anew in
every video does not.  Annotations of one value in one image are parts of one thing; with ``copies=true`` each is a
copy of it, like the cans of one make.  Identities and ids compare by value: 14, 14.0 and "14" are one (``identities``).

A crowd region (``iscrowd`` 1) shows nobody in particular: it is another thing of its scene, a look-alike where it has
the subject's noun.  So is an annotation without an identity.

Images are opened upright.  Of a photo that its EXIF orientation turns by a right angle, the recorded width and height
say whether it was annotated so or on its stored pixels; of others ``mask_frame`` can say it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.source import Source
from prisbench.datasets.sources.annotated_pictures import AnnotatedPicture, OpenedPicture, Thing
from prisbench.datasets.sources.coco_records import (
    Annotation,
    address_of,
    annotation_of,
    by_id,
    check_pixels,
    drawable,
    fields_of,
    identity_of,
    name_and_size,
    noun_of,
    place_of,
    records_of,
    spdx,
    with_brushed,
)
from prisbench.datasets.sources.frames import turn_of
from prisbench.datasets.sources.identities import Identities, Use, class_warnings, key_of
from prisbench.datasets.sources.instances import INSTANCE_OPTIONS, plan, source_of
from prisbench.datasets.sources.mask_files import MaskRule
from prisbench.datasets.sources.options import build_key, mask_rule, one_line, yes_or_no
from prisbench.datasets.sources.plan import about
from prisbench.datasets.sources.reading.files import inside, listing
from prisbench.datasets.sources.reading.images import image_file
from prisbench.datasets.sources.reading.regions import polygons, rle
from prisbench.datasets.sources.reading.values import json_file
from prisbench.errors import DataError, UsageError
from prisbench.images.photos import orientation, turned
from prisbench.runtime.files import as_stored, composed, read_bytes

TITLE = "COCO instances"
LICENCE = "unknown"
"""Where a file says nothing: the JSON names a licence for every image."""
HOMEPAGE = "https://cocodataset.org"
LAYOUT = """
annotations/instances_val2017.json
val2017/000000000139.jpg
"""
OPTIONS = INSTANCE_OPTIONS | {
    "instances": "the JSON, below the folder (default: the only annotations/instances_*.json, or the only *.json)",
    "images": "the folder of the images, below the folder (default: by the JSON's name, images, or where the JSON is)",
    "identity": "the annotations' field that says which thing it is, like attributes.instance_id (default: subject, "
    "subject_id, instance_id or track_id)",
    "scene": "an image's field like video_id, or 'folder': its images show one place and are not divided between "
    "reference photos and scenes (default: each image is its own)",
}
LIMITS = """\
- Which annotations show the same particular thing: COCO itself does not say; the field named above is believed.
- Whether every thing of a noun is annotated.  LVIS says itself that it is not: a look-alike may have no mask.
- What is hidden by what: masks may overlap, and are taken as they are.
- Reference photos are scenes of the same kind, taken with the same eye; they are not photos made for learning."""


class Shown(NamedTuple):
    """What has a mask in an image, the records behind it, and ``hidden`` and ``unnamed`` of ``AnnotatedPicture``."""

    things: tuple[Thing, ...]
    regions: tuple[dict[str, Any], ...]
    hidden: frozenset[str]
    unnamed: frozenset[str]


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file and the record for all else."""
    path = annotations_file(root, options, "instances", "instances_")
    value = json_file(path)
    images = by_id(value, "images", path)
    categories = {key: noun_of(category, path) for key, category in by_id(value, "categories", path).items()}
    licences = {key: spdx(record, LICENCE) for key, record in by_id(value, "licenses", path, wanted=False).items()}
    records = records_of(value, images, categories, path)
    check_pixels(records, path)
    identity = options.get("identity") or identity_of(records, path)
    seen = Identities(identity)
    left_out: Counter[str] = Counter()
    annotations, brushed = with_brushed([annotation_of(record, images, categories, seen, path) for record in records])
    left_out["crowd regions without an identity (they count as other things)"] += sum(
        each.crowd and each.subject is None for each in annotations
    )
    by_image: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        by_image.setdefault(annotation.image, []).append(annotation)
    known = {annotation.image for annotation in annotations if annotation.subject is not None}
    if not known:
        raise DataError(f"{path}: no annotation has a {identity!r}; {fields_of(records)}")
    _count_nameless(by_image, known, left_out)
    folder = images_folder(root, path, images, options)
    said = one_line(options, "licence", LICENCE) if "licence" in options else None
    rule, remarks = mask_rule(options), Remarks(root)
    pictures: dict[Path, AnnotatedPicture] = {}
    unlisted = 0
    for key in [*sorted(known), *for_absent(images, by_image, folder, options, left_out)]:
        image = images[key]
        name, size_hw = name_and_size(image, path)
        file = inside(folder, name, f"{path}: image {key}")
        if file in pictures:
            raise DataError(f"{path}: image {key} has the file_name {name!r}, and so has another image")
        shown = _things(by_image.get(key, ()), categories, size_hw, path, left_out)
        licence = key_of(image.get("license"))
        unlisted += licence is not None and licence not in licences and said is None
        pictures[file] = AnnotatedPicture(
            name=name,
            place=place_of(image, name, options.get("scene"), path),
            things=shown.things,
            licence=said or licences.get(licence or "", LICENCE),
            source=address_of(image, name),
            look=partial(_look, file, shown.regions, size_hw, path, rule, remarks),
            hidden=shown.hidden,
            unnamed=shown.unnamed,
        )
    left_out += Counter()  # no zeros
    planned = plan(pictures.values(), options, left_out, f"{path} (identity={identity})")
    uses = [Use(a.subject, a.where, a.image, a.category, a.crowd) for a in annotations if a.subject is not None]
    copies = yes_or_no(options, "copies", False)
    warnings = [*brushed, *class_warnings(identity, uses, categories, copies), *seen.warnings()]
    warnings += _video_warning(images, known, options) + _unnamed_warning(planned.unnamed_alike)
    if unlisted:
        warnings.append(f"{unlisted} images have a license that 'licenses' does not list; their rows say {LICENCE!r}")
    card, key = about(TITLE, HOMEPAGE, LIMITS, options), build_key(TITLE, options, root, [path, *pictures])
    source = source_of("coco", planned, card, key, left_out, tuple(f"{path.name}: {line}" for line in warnings))
    return replace(source, remarks=remarks)


def annotations_file(root: Path, options: Mapping[str, str], option: str, prefix: str) -> Path:
    """The JSON that the option says; else that of ``annotations/`` whose name begins so, or the only one there is.

    Raises DataError, UsageError.
    """
    if option in options:
        return inside(root, options[option], option)
    inner = root / "annotations"
    found = listing(inner, {".json"}) if inner.is_dir() else []
    found = [path for path in found if path.name.startswith(prefix)] or found or listing(root, {".json"})
    if not found:
        raise DataError(
            f"{root} has no annotations/{option}_*.json; if it is elsewhere, say {option}=path/below/it.json"
        )
    if len(found) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise UsageError(f"{root} has several JSON files; say which one, {option}= one of {names}")
    return found[0]


def images_folder(root: Path, path: Path, images: Mapping[str, dict[str, Any]], options: Mapping[str, str]) -> Path:
    """The folder that the images' names are below."""
    if "images" in options:
        return inside(root, options["images"], "images")
    subset = path.stem.removeprefix("instances_").removeprefix("panoptic_")
    tried = [root / subset, root / "images" / subset, root / "images", path.parent, root]
    written = str(next(iter(images.values())).get("file_name"))
    first = written.replace("\\", "/")
    for folder in tried:
        if folder.is_dir() and as_stored((folder / first).parent, Path(first).name).is_file():
            return folder
    names = ", ".join(dict.fromkeys(str(folder) for folder in tried))
    cure = "write / for \\ in file_name" if "\\" in written else f"say images=FOLDER, below {root}"
    for folder in tried:
        near = [composed(path.name) for path in (listing(folder) if folder.is_dir() else [])]
        if found := next((name for name in near if name.casefold() == composed(first).casefold()), None):
            cure = f"{folder} has {found!r}: make the letters the same, capital or small"
        elif Path(first).name != first and composed(Path(first).name) in near:
            cure = f"{folder} has {Path(first).name!r}: leave the folders before it out of file_name"
    raise DataError(f"{path}: the image {first!r} is in none of {names}; {cure}")


def _count_nameless(
    by_image: Mapping[str, Sequence[Annotation]], known: Collection[str], left_out: Counter[str]
) -> None:
    """Count what is not read, since an image without a subject can be neither a reference photo nor a scene of one."""
    for key, found in by_image.items():
        if key not in known:
            left_out["images where no annotation has an identity"] += 1
            left_out["annotations of images where none has an identity"] += len(found)


def for_absent(
    images: Mapping[str, dict[str, Any]],
    annotated: Collection[str],
    folder: Path,
    options: Mapping[str, str],
    left_out: Counter[str],
) -> list[str]:
    """The images without annotations that "absent" queries may be about: those whose files are there."""
    empty = sorted(key for key in images if key not in annotated)
    if options.get("absent", "0") == "0":
        left_out["images without annotations"] += len(empty)
        return []
    there = [key for key in empty if (folder / str(images[key].get("file_name")).replace("\\", "/")).is_file()]
    left_out["images without annotations whose files are not there"] += len(empty) - len(there)
    return there


def _video_warning(images: Mapping[str, Any], known: Collection[str], options: Mapping[str, str]) -> list[str]:
    """A line where several images are of one video and no option keeps videos together."""
    if "scene" in options:
        return []
    videos = Counter(key_of(images[key].get("video_id")) for key in known)
    shared = sum(n for video, n in videos.items() if video is not None and n > 1)
    line = f"{shared} images share a video_id with another; say scene=video_id, or photos and scenes are its neighbours"
    return [line] if shared else []


def _unnamed_warning(alike: Sequence[str]) -> list[str]:
    """A line where things without an identity count as look-alikes."""
    line = f"{len(alike)} queries count annotations without an identity as look-alikes (first: {next(iter(alike), '')})"
    return [f"{line}; a part of the subject needs the subject's identity"] if alike else []


def _things(
    annotations: Iterable[Annotation],
    categories: Mapping[str, str],
    size_hw: tuple[int, int],
    path: Path,
    left_out: Counter[str],
) -> Shown:
    """What an image shows."""
    things, regions = [], []
    named: set[str] = set()
    partly: set[str] = set()
    tiny: set[str] = set()
    unnamed: set[str] = set()
    for annotation in annotations:
        noun, subject = categories[annotation.category], annotation.subject
        record, flat, outside = drawable(annotation.record, size_hw)
        left_out["polygons of under three points"] += flat
        left_out["polygons outside of their image"] += outside
        if not record.get("segmentation"):
            left_out["annotations without a mask"] += 1
            (unnamed if subject is None else partly).add(subject or noun)
        elif not _mask(record, size_hw, path).any():
            left_out["annotations too small for a pixel"] += 1
            (unnamed if subject is None else tiny).add(subject or noun)
        else:
            things.append(Thing(noun, None if annotation.crowd else subject, annotation.crowd))
            regions.append(record)
            if subject is not None and annotation.crowd:
                left_out["crowd regions as subjects (they count as other things)"] += 1
            if subject is not None:
                (partly if annotation.crowd else named).add(subject)
    return Shown(tuple(things), tuple(regions), frozenset(partly | (tiny - named)), frozenset(unnamed))


def _mask(annotation: Mapping[str, Any], size_hw: tuple[int, int], path: Path) -> Bool[np.ndarray, "h w"]:
    where, region = f"{path}: annotation {annotation['id']}", annotation["segmentation"]
    return polygons(region, size_hw, where) if isinstance(region, list) else rle(region, size_hw, where)


def _look(
    file: Path,
    regions: Iterable[dict[str, Any]],
    size_hw: tuple[int, int],
    path: Path,
    rule: MaskRule,
    remarks: Remarks,
) -> OpenedPicture:
    image = image_file(file)
    h, w = image.pixels.shape[:2]
    turn = turn_of(file, orientation(read_bytes(file), str(file)), (h, w), rule, remarks, size_hw)
    return OpenedPicture(image, tuple(turned(_mask(annotation, size_hw, path), turn) for annotation in regions))
