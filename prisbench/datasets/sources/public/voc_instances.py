"""PASCAL VOC's segmented objects, with a table that says which of them are the same particular thing.

Layout: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ (development kit, sections 2 and 8); CVAT and labelme2voc write
it too.

    VOC2012/JPEGImages/2007_000032.jpg
    VOC2012/SegmentationObject/2007_000032.png   0 background, 1 to 254 an object each, 255 border
    VOC2012/SegmentationClass/2007_000032.png    0 background, 1 to 20 a class, 255 border
    VOC2012/Annotations/2007_000032.xml          optional: objects by name, in the order of their numbers; origin
    subjects.csv                                 ours: image,object,subject and, optionally, scene

VOC does not know that the dog of two photos is one dog.  ``subjects.csv`` says it: image "2007_000032", object 1,
subject "anna's dog"; ``scene`` names the place or shoot, whose images are not divided between reference photos and
scenes.  Only images that the table names are read; their other objects are other things, or look-alikes.  Subjects,
scenes and object numbers compare by value, since a spreadsheet may write 14 as 14.0 (``identities``).

A noun is the class that most of an object's pixels have; where a class is not one of the twenty, the name that the XML
gives to the object.  The XML may not define entities.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

import numpy as np
from jaxtyping import Int

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.source import Source
from prisbench.datasets.sources.annotated_pictures import AnnotatedPicture, OpenedPicture, Thing
from prisbench.datasets.sources.frames import rule_of, turn_of
from prisbench.datasets.sources.identities import Identities, class_names_warning, key_of
from prisbench.datasets.sources.instances import INSTANCE_OPTIONS, plan, source_of
from prisbench.datasets.sources.mask_files import MaskRule, turned_question
from prisbench.datasets.sources.options import build_key, mask_rule, one_line
from prisbench.datasets.sources.plan import about
from prisbench.datasets.sources.reading.files import folders, inside, listing
from prisbench.datasets.sources.reading.images import check_size, image_file, label_file
from prisbench.datasets.sources.tables import Line, table
from prisbench.errors import DataError, UsageError
from prisbench.images.photos import orientation, turned
from prisbench.runtime.files import read_bytes

TITLE = "PASCAL VOC objects"
LICENCE = "Flickr terms of use"
"""The photos are Flickr's, under its terms; nothing is said of the annotations."""
HOMEPAGE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
LAYOUT = """
VOC2012/JPEGImages/2007_000032.jpg
VOC2012/SegmentationObject/2007_000032.png
VOC2012/SegmentationClass/2007_000032.png
VOC2012/Annotations/2007_000032.xml
subjects.csv
"""
OPTIONS = INSTANCE_OPTIONS | {
    "subjects": "the table image,object,subject[,scene], below the folder (default: subjects.csv)",
    "year": "which VOC<year> where the folder has several",
}
LIMITS = """\
- Which objects show the same particular thing: `subjects.csv` says it, and is believed.
- What is under the border (255) around each object: it is nobody's.
- Things of classes other than VOC's twenty: a scene may hold more than its annotations name."""
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog"),
    *("horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor"),
)
"""Class 1 and so on, in words where VOC writes them together."""

_BORDER = 255
_PARTS = ("JPEGImages", "SegmentationObject", "SegmentationClass")
_MOST_XML_BYTES = 2**20


class Xml(NamedTuple):
    """What an annotation file adds: the objects' names, and where the photo is from."""

    names: tuple[str, ...]
    origin: str | None


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file and the line for all else."""
    top = _top(root, options.get("year"))
    where = inside(root, options.get("subjects", "subjects.csv"), "subjects (image,object,subject)")
    by_image: dict[str, list[Line]] = {}
    for line in table(where, ("image", "object", "subject", "scene"), ("image", "object", "subject")):
        by_image.setdefault(_stem(line.cells["image"]), []).append(line)
    licence = one_line(options, "licence", LICENCE)
    rule, remarks = mask_rule(options), Remarks(root)
    pictures, files = [], [where]
    seen = Identities("subject")
    for image, lines in sorted(by_image.items()):
        photo, objects, classes = (
            inside(top, f"{part}/{image}{'.jpg' if part == 'JPEGImages' else '.png'}", lines[0].where)
            for part in _PARTS
        )
        annotation = top / "Annotations" / f"{image}.xml"
        xml = _xml(inside(top, f"Annotations/{image}.xml", lines[0].where)) if annotation.exists() else None
        ids, things = _things(objects, classes, xml, lines, seen)
        scenes = sorted({key_of(line.cells.get("scene")) or "" for line in lines})
        if len(scenes) > 1:
            raise DataError(f"{where}: the image {image} is from several scenes: {', '.join(map(repr, scenes))}")
        pictures.append(
            AnnotatedPicture(
                name=image,
                place=f"scene {scenes[0]}" if scenes[0] else image,
                things=things,
                licence=licence,
                source=f"{top.name} {image}" + (f" ({xml.origin})" if xml and xml.origin else ""),
                look=partial(_look, photo, objects, ids, rule, remarks),
            )
        )
        files += [photo, objects, classes, *([annotation] if xml else [])]
    if not pictures:
        raise DataError(f"{where} names no objects")
    left_out: Counter[str] = Counter()
    if unread := sum(path.stem not in by_image for path in listing(top / "SegmentationObject", {".png"})):
        left_out[f"images that {where.name} does not name"] = unread
    planned = plan(pictures, options, left_out, str(where))
    noun = {thing.subject: thing.noun for picture in pictures for thing in picture.things if thing.subject}
    warnings = (*seen.warnings(), *class_names_warning(noun, len(pictures)))
    card, key = about(TITLE, HOMEPAGE, LIMITS, options), build_key(TITLE, options, root, files)
    return replace(source_of("voc-instances", planned, card, key, left_out, warnings), remarks=remarks)


def _stem(image: str) -> str:
    """An image's name without the suffix that some lists have."""
    stem, dot, suffix = image.rpartition(".")
    return stem if dot and suffix.lower() in ("jpg", "jpeg", "png") else image


def _top(root: Path, year: str | None) -> Path:
    """The folder with JPEGImages: ``root``, VOC<year> in it, or that in VOCdevkit."""
    near = [root, *folders(root)]
    near += [inner for folder in near[1:] if folder.name == "VOCdevkit" for inner in folders(folder)]
    found = [folder for folder in near if all((folder / part).is_dir() for part in _PARTS)]
    if year is not None:
        found = [folder for folder in found if folder.name == f"VOC{year}"]
    if not found:
        named = f"VOC{year} " if year else ""
        raise DataError(f"{root} has no {named}folder with {', '.join(_PARTS)}; VOC without them has no objects")
    if len(found) > 1:
        raise UsageError(f"{root} has {', '.join(folder.name for folder in found)}; say which one, like year=2012")
    return found[0]


def _things(
    objects: Path, classes: Path, xml: Xml | None, lines: list[Line], seen: Identities
) -> tuple[tuple[int, ...], tuple[Thing, ...]]:
    """An image's object numbers, and what each of them is."""
    labels = label_file(objects, None)
    h, w = labels.shape
    kinds = label_file(classes, (h, w))
    ids = tuple(int(n) for n in np.unique(labels) if n not in (0, _BORDER))
    subject_of: dict[int, str | None] = {}
    for line in lines:
        number = key_of(line.cells["object"]) or ""
        if not (number.isascii() and number.isdigit() and len(number) < 4 and int(number) in ids):
            known = ", ".join(map(str, ids)) or "none"
            raise DataError(f"{line.where}: {objects} has no object {line.cells['object']!r}; it has {known}")
        if int(number) in subject_of:
            raise DataError(f"{line.where}: object {number} of {line.cells['image']} is named twice")
        subject_of[int(number)] = seen.read(line.cells["subject"], line.where)
    return ids, tuple(Thing(_noun(labels == n, n, kinds, xml, classes), subject_of.get(n)) for n in ids)


def _noun(mask: np.ndarray, number: int, kinds: Int[np.ndarray, "h w"], xml: Xml | None, classes: Path) -> str:
    found = kinds[mask]
    found = found[(found > 0) & (found != _BORDER)]
    most = int(np.bincount(found).argmax()) if found.size else 0
    if 1 <= most <= len(CLASSES):
        return CLASSES[most - 1]
    if xml is not None and number <= len(xml.names):
        return xml.names[number - 1]
    if not most:
        raise DataError(f"{classes}: object {number} has no class there, and no name in Annotations")
    raise DataError(f"{classes}: object {number} is of class {most}, which is none of VOC's 20; name it in Annotations")


def _look(photo: Path, objects: Path, ids: tuple[int, ...], rule: MaskRule, remarks: Remarks) -> OpenedPicture:
    image = image_file(photo)
    h, w = image.pixels.shape[:2]
    exif = orientation(read_bytes(photo), str(photo))
    turn = turn_of(photo, exif, (h, w), rule, remarks)
    labels = turned(label_file(objects, None), turn)
    check_size((labels.shape[0], labels.shape[1]), (h, w), str(objects), turned_question(rule_of(rule, exif)))
    return OpenedPicture(image, tuple(labels == n for n in ids))


def _xml(path: Path) -> Xml:
    """Raises DataError when the file is no XML, is too large, or declares a document type (so, entities)."""
    if path.stat().st_size > _MOST_XML_BYTES:
        raise DataError(f"{path} is larger than {_MOST_XML_BYTES // 2**20} MiB; an annotation is not")
    data = read_bytes(path)

    def refuse(*_: object) -> None:
        raise DataError(f"{path} declares a document type, which may define entities; take that out")

    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = refuse
    try:
        guard.Parse(data, True)
        top = ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, LookupError, ValueError) as error:
        raise DataError(f"{path} is not XML that can be read ({error})") from None
    names = tuple(_words(found.findtext("name")) for found in top.findall("object"))
    if not all(names):
        raise DataError(f"{path}: object {names.index('') + 1} has no name")
    flickr = _words(top.findtext("source/flickrid"))
    return Xml(names, f"Flickr {flickr}" if flickr else None)


def _words(text: str | None) -> str:
    return " ".join((text or "").replace("_", " ").split())[:100]
