"""COCO's instances: a JSON of polygons and run lengths, with a folder of images.

Layout: https://cocodataset.org/#format-data, part 1 (``images``, ``annotations``, ``categories``, ``licenses``).  LVIS,
Roboflow, CVAT and many tools write the same.

    annotations/instances_val2017.json
    val2017/000000000139.jpg

COCO has no field for which particular thing an annotation shows, and without it there is no subject: an annotation is
a thing of its own.  So some field of the annotations must say it, by the same value wherever the same thing is seen:
``subject``, ``subject_id``, ``instance_id``, ``track_id``, also among ``attributes`` as CVAT writes them, or the one
that the option ``identity`` names.  A value must mean one thing in the whole file: a ``track_id`` that starts anew in
every video does not.  Annotations of one value in one image are parts of one thing.  Identities and ids compare by
value: 14, 14.0 and "14" are one (``identities``).

A crowd region (``iscrowd`` 1) shows nobody in particular: it is another thing of its scene, a look-alike where it has
the subject's noun.  So is an annotation without an identity.

Images are opened upright.  Of a photo that its EXIF orientation turns by a right angle, the recorded width and height
say whether it was annotated so or on its stored pixels; of others ``mask_frame`` can say it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.source import Source
from prisbench.datasets.sources.frames import turn_of
from prisbench.datasets.sources.identities import Identities, Use, class_warnings, key_of
from prisbench.datasets.sources.instances import INSTANCE_OPTIONS, Looked, Picture, Thing, plan, source_of
from prisbench.datasets.sources.mask_files import MaskRule
from prisbench.datasets.sources.options import build_key, mask_rule, one_line
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


class Shown(NamedTuple):
    """What has a mask in an image, the records behind it, and ``hidden`` and ``unnamed`` of ``Picture``."""

    things: tuple[Thing, ...]
    regions: tuple[dict[str, Any], ...]
    hidden: frozenset[str]
    unnamed: frozenset[str]


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file and the record for all else."""
    path = inside(root, options["instances"], "instances") if "instances" in options else _instances(root)
    value = json_file(path)
    images = _by_id(value, "images", path)
    categories = {key: _noun(category, path) for key, category in _by_id(value, "categories", path).items()}
    licences = {key: _spdx(record) for key, record in _by_id(value, "licenses", path, wanted=False).items()}
    records = _records(value, images, categories, path)
    _check_pixels(records, path)
    identity = options.get("identity") or _identity(records, path)
    seen = Identities(identity)
    annotations = [_annotation(record, images, categories, seen, path) for record in records]
    by_image: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        by_image.setdefault(annotation.image, []).append(annotation)
    known = {annotation.image for annotation in annotations if annotation.subject is not None}
    if not known:
        raise DataError(f"{path}: no annotation has a {identity!r}; {_has(records)}")
    left_out = _without_identity(images, by_image, known)
    folder = _images(root, path, images, options)
    said = one_line(options, "licence", LICENCE) if "licence" in options else None
    rule, remarks = mask_rule(options), Remarks(root)
    pictures: dict[Path, Picture] = {}
    unlisted = 0
    for key in sorted(known):
        image = images[key]
        name, size_hw = _name_and_size(image, path)
        file = inside(folder, name, f"{path}: image {key}")
        if file in pictures:
            raise DataError(f"{path}: image {key} has the file_name {name!r}, and so has another image")
        shown = _things(by_image[key], categories, size_hw, path, left_out)
        licence = key_of(image.get("license"))
        unlisted += licence is not None and licence not in licences and said is None
        pictures[file] = Picture(
            name=name,
            place=_place(image, name, options.get("scene"), path),
            things=shown.things,
            licence=said or licences.get(licence or "", LICENCE),
            source=_address(image, name),
            look=partial(_look, file, shown.regions, size_hw, path, rule, remarks),
            hidden=shown.hidden,
            unnamed=shown.unnamed,
        )
    planned = plan(pictures.values(), options, left_out, f"{path} (identity={identity})")
    uses = [Use(a.subject, a.where, a.image, a.category, a.crowd) for a in annotations if a.subject is not None]
    warnings = [*class_warnings(identity, uses, categories), *seen.warnings()]
    warnings += _video_warning(images, known, options) + _unnamed_warning(planned.unnamed_alike)
    if unlisted:
        warnings.append(f"{unlisted} images have a license that 'licenses' does not list; their rows say {LICENCE!r}")
    card, key = about(TITLE, HOMEPAGE, LIMITS, options), build_key(TITLE, options, root, [path, *pictures])
    source = source_of("coco", planned, card, key, left_out, tuple(f"{path.name}: {line}" for line in warnings))
    return replace(source, remarks=remarks)


def _instances(root: Path) -> Path:
    """The JSON where nobody says which."""
    inner = root / "annotations"
    found = listing(inner, {".json"}) if inner.is_dir() else []
    found = [path for path in found if path.name.startswith("instances_")] or found or listing(root, {".json"})
    if not found:
        raise DataError(
            f"{root} has no annotations/instances_*.json; if it is elsewhere, say instances=path/below/it.json"
        )
    if len(found) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise UsageError(f"{root} has several JSON files; say which one, instances= one of {names}")
    return found[0]


def _images(root: Path, path: Path, images: Mapping[str, dict[str, Any]], options: Mapping[str, str]) -> Path:
    """The folder that the images' names are below."""
    if "images" in options:
        return inside(root, options["images"], "images")
    subset = path.stem.removeprefix("instances_")
    tried = [root / subset, root / "images" / subset, root / "images", path.parent, root]
    first = str(next(iter(images.values())).get("file_name"))
    for folder in tried:
        if folder.is_dir() and as_stored((folder / first).parent, Path(first).name).is_file():
            return folder
    names = ", ".join(dict.fromkeys(str(folder) for folder in tried))
    cure = "write / for \\ in file_name" if "\\" in first else f"say images=FOLDER, below {root}"
    for folder in tried:
        near = (path.name for path in (listing(folder) if folder.is_dir() else []))
        if found := next((name for name in near if composed(name).casefold() == composed(first).casefold()), None):
            cure = f"{folder} has {found!r}: make the letters the same, capital or small"
    raise DataError(f"{path}: the image {first!r} is in none of {names}; {cure}")


def _by_id(value: Any, name: str, path: Path, wanted: bool = True) -> dict[str, dict[str, Any]]:
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


def _records(value: Any, images: Mapping[str, Any], categories: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """The annotations, each with an id, of an image and a category that are there."""
    found = list(_by_id(value, "annotations", path).values())
    for record in found:
        for name, known in (("image_id", images), ("category_id", categories)):
            if key_of(record.get(name)) not in known:
                raise DataError(
                    f"{path}: annotation {record['id']} has the {name} {record.get(name)!r}, which is not there"
                )
    return found


def _check_pixels(records: Iterable[Mapping[str, Any]], path: Path) -> None:
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


def _annotation(
    record: dict[str, Any], images: Mapping[str, Any], categories: Mapping[str, Any], seen: Identities, path: Path
) -> Annotation:
    where = f"annotation {record['id']}"
    image, category = (key_of(record[name]) or "" for name in ("image_id", "category_id"))
    subject = seen.read(_field(record, seen.name), f"{path}: {where}")
    return Annotation(record, where, image, category, subject, _is_crowd(record, f"{path}: {where}"))


def _is_crowd(record: Mapping[str, Any], where: str) -> bool:
    value = record.get("iscrowd")
    if value is None or isinstance(value, bool) or value != value:  # NaN stands for no value
        return value is True
    if key_of(value) not in ("0", "1"):
        raise DataError(f"{where}: iscrowd is {value!r}; 0 or 1 is wanted")
    return key_of(value) == "1"


def _identity(records: Iterable[dict[str, Any]], path: Path) -> str:
    """The first of the usual fields that an annotation has."""
    for name in (*_IDENTITIES, *(f"attributes.{name}" for name in _IDENTITIES)):
        if any(_says(_field(record, name)) for record in records):
            return name
    raise DataError(
        f"{path} does not say which annotations show the same particular thing, so there is no subject: give them a "
        f"'subject' each, or say identity=FIELD; {_has(records)}"
    )


def _says(value: Any) -> bool:
    return value is not None and value == value and key_of(value) != "-1" and value != ""


def _without_identity(
    images: Mapping[str, Any], by_image: Mapping[str, Sequence[Annotation]], known: Collection[str]
) -> Counter[str]:
    """What is not read, since an image without a subject can be neither a reference photo nor a scene of one."""
    left_out: Counter[str] = Counter()
    for key in images:
        if key not in by_image:
            left_out["images without annotations"] += 1
        elif key not in known:
            left_out["images where no annotation has an identity"] += 1
            left_out["annotations of images where none has an identity"] += len(by_image[key])
    return left_out


def _video_warning(images: Mapping[str, Any], known: Collection[str], options: Mapping[str, str]) -> list[str]:
    """A line where several images are of one video and nobody asked for videos to be kept together."""
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


def _has(annotations: Iterable[dict[str, Any]]) -> str:
    fields: set[str] = set()
    for annotation in annotations:
        attributes = annotation.get("attributes")
        inner = attributes if isinstance(attributes, dict) else {}
        fields |= {*map(str, annotation), *(f"attributes.{name}" for name in inner)} - {"attributes"}
    return f"the annotations have {', '.join(sorted(fields)[:20])}"


def _field(record: Mapping[str, Any], dotted: str) -> Any:
    """The value of a field, or of one inside a field; None where there is none."""
    value: Any = record
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


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
        if not annotation.record.get("segmentation"):
            left_out["annotations without a mask"] += 1
            (unnamed if subject is None else partly).add(subject or noun)
        elif not _mask(annotation.record, size_hw, path).any():
            left_out["annotations too small for a pixel"] += 1
            (unnamed if subject is None else tiny).add(subject or noun)
        else:
            things.append(Thing(noun, None if annotation.crowd else subject, annotation.crowd))
            regions.append(annotation.record)
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
) -> Looked:
    image = image_file(file)
    h, w = image.pixels.shape[:2]
    turn = turn_of(file, orientation(read_bytes(file), str(file)), (h, w), rule, remarks, size_hw)
    return Looked(image, tuple(turned(_mask(annotation, size_hw, path), turn) for annotation in regions))


def _name_and_size(image: Mapping[str, Any], path: Path) -> tuple[str, tuple[int, int]]:
    where = f"{path}: image {image['id']}"
    name = image.get("file_name")
    h, w = (int(n) if isinstance(n, float) and n.is_integer() else n for n in map(image.get, ("height", "width")))
    if not isinstance(name, str):
        raise DataError(f"{where} has no file_name")
    if type(h) is not int or type(w) is not int or h < 1 or w < 1 or h * w > (Image.MAX_IMAGE_PIXELS or h * w):
        raise DataError(f"{where}: height {h!r} and width {w!r} are no size of an image that can be opened")
    return name, (h, w)


def _noun(category: Mapping[str, Any], path: Path) -> str:
    name = category.get("name")
    noun = " ".join(str(name).replace("_", " ").split())
    if not isinstance(name, str) or not noun:
        raise DataError(f"{path}: category {category['id']} has no name")
    return noun


def _place(image: Mapping[str, Any], name: str, scene: str | None, path: Path) -> str:
    if scene is None:
        return name
    place = PurePosixPath(name).parent.as_posix() if scene == "folder" else key_of(_field(image, scene))
    if place is None:
        raise DataError(f"{path}: image {image['id']} has no {scene!r}, which scene={scene} asks for")
    return place


def _spdx(licence: Mapping[str, Any]) -> str:
    """The SPDX name of a Creative Commons licence, by its address; else the licence's name."""
    found = _CREATIVE_COMMONS.fullmatch(str(licence.get("url", "")))
    return f"CC-{found[1].upper()}-{found[2]}" if found else " ".join(str(licence.get("name") or LICENCE).split())


def _address(image: Mapping[str, Any], name: str) -> str:
    for field in ("flickr_url", "coco_url"):
        address = image.get(field)
        if isinstance(address, str) and re.fullmatch(r"https?://\S+", address):
            return address
    return f"coco {' '.join(name.split())}"
