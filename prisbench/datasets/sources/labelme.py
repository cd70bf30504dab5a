"""labelme's JSON files: one per photo, with the shapes that somebody drew in it.

Layout: https://github.com/wkentaro/labelme (``labelme/_label_file.py``): ``shapes`` with ``label``, ``points``,
``shape_type``, ``group_id``, ``flags``, ``description``, ``mask``; ``imagePath`` from the JSON's folder, ``imageData``
(the photo itself, base64) or null.

    kitchen/01.jpg
    kitchen/01.json

labelme knows classes, not particular things.  Here a label with a colon names one: "mug:anna's" is the mug that is
"anna's" in every photo; "mug" is some mug.  Or else ``identity`` says where the name stands: ``group_id`` or
``description`` (with the label: "mug" and 3), or ``flags`` (the one flag that is set).  Shapes of one subject in a
photo are its parts, as are shapes with one label and ``group_id``, which is what labelme means by that.  Names and
groups compare by value: 3, 3.0 and "3" are one (``identities``).

Polygons, rectangles (by two corners or, as X-AnyLabeling writes them, four), turned rectangles ("rotation" there),
circles and masks are read; points, lines and what covers no pixel have no inside and are left out, as are labels
that start with "_".  A photo in ``imageData`` comes before the file, as labelme has it.
"""

from __future__ import annotations

import base64
import binascii
import math
import posixpath
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.source import Source
from prisbench.datasets.sources.annotated_pictures import AnnotatedPicture, OpenedPicture, Thing
from prisbench.datasets.sources.frames import turn_of
from prisbench.datasets.sources.identities import Identities, class_names_warning, key_of
from prisbench.datasets.sources.instances import INSTANCE_OPTIONS, lost, plan, source_of
from prisbench.datasets.sources.mask_files import MaskRule, mask_in
from prisbench.datasets.sources.options import build_key, mask_rule, one_line
from prisbench.datasets.sources.plan import about
from prisbench.datasets.sources.reading.files import folders, inside, listing
from prisbench.datasets.sources.reading.images import ImageFile, image_file
from prisbench.datasets.sources.reading.regions import polygons
from prisbench.datasets.sources.reading.values import json_file
from prisbench.errors import DataError, UnknownNameError
from prisbench.images.photos import SUFFIXES, decode_photo, orientation, turned
from prisbench.runtime.files import read_bytes

TITLE = "labelme annotations"
LICENCE = "unknown"
HOMEPAGE = "https://github.com/wkentaro/labelme"
LAYOUT = """
kitchen/01.jpg
kitchen/01.json
garden/07.jpg
garden/07.json
"""
IDENTITIES = ("label", "group_id", "description", "flags")
OPTIONS = INSTANCE_OPTIONS | {
    "identity": f"where a subject's name stands: {', '.join(IDENTITIES)} (default: label, as in \"mug:anna's\")",
    "scene": "'folder': the photos of a folder show one place and are not divided between reference photos and scenes "
    "(default: each photo is its own)",
}
LIMITS = """\
- Which shapes show the same particular thing, but by the name that the annotator gave.
- Whether every thing of a noun was drawn.
- What is hidden by what: shapes may overlap, and are taken as they are.
- The photos' licence."""

_BARE = "photos without a JSON file; one that is saved without shapes is a scene of absent queries"
_MOST_PLACES = 10_000
_MOST_SLIVER = 10_000_000
"""Pixels around a thin outline that is drawn to see whether it covers one."""
_OUTLINES = ("polygon", "rectangle", "oriented_rectangle", "rotation", "quadrilateral", "circle", "mask")


class Drawn(NamedTuple):
    """A thing in a photo and the shapes it is drawn with."""

    thing: Thing
    shapes: list[dict[str, Any]]


class Found(NamedTuple):
    """The things in a photo, in the order of their first shapes, and those that only a point or a line marks."""

    drawn: list[Drawn]
    marked: list[Thing]


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file and the shape for all else."""
    identity, scene = options.get("identity", "label"), options.get("scene")
    if identity not in IDENTITIES:
        raise UnknownNameError("identity", identity, IDENTITIES)
    if scene not in (None, "folder"):
        raise UnknownNameError("scene", scene, ["folder"])
    licence = one_line(options, "licence", LICENCE)
    left_out: Counter[str] = Counter()
    rule, remarks = mask_rule(options), Remarks(root)
    pictures, files, photos = [], [], set[Path]()
    seen = Identities(f"identity={identity}")
    for path in _json_files(root):
        value = _value(path)
        found = _drawn(value, seen, path, left_out)
        named = {drawn.thing.subject for drawn in found.drawn}
        files.append(path)
        if value.get("imageData") is None:
            files.append(_photo_path(root, path, value))
        photos.add(_beside(path, value))
        name = path.relative_to(root).as_posix()
        pictures.append(
            AnnotatedPicture(
                name=name,
                place=path.parent.relative_to(root).as_posix() if scene else name,
                things=tuple(drawn.thing for drawn in found.drawn),
                licence=licence,
                source=f"labelme {name}",
                look=partial(_look, root, path, identity, rule, remarks),
                hidden=frozenset(
                    thing.subject for thing in found.marked if thing.subject and thing.subject not in named
                ),
                unnamed=frozenset(thing.noun for thing in found.marked if thing.subject is None),
            )
        )
    left_out[_BARE] += sum(path not in photos for path in _all_files(root, SUFFIXES))
    left_out += Counter()  # no zeros
    if not any(picture.subjects for picture in pictures):
        raise DataError(
            f'{root}: no shape of {len(pictures)} labelme files names a subject; label it like "mug:anna\'s", or say '
            f"where the name stands: identity=group_id, description or flags{lost(left_out)}"
        )
    planned = plan(pictures, options, left_out, str(root))
    noun = {thing.subject: thing.noun for picture in pictures for thing in picture.things if thing.subject}
    warnings = (*seen.warnings(), *class_names_warning(noun, len(pictures)))
    card, key = about(TITLE, HOMEPAGE, LIMITS, options), build_key(TITLE, options, root, files)
    return replace(source_of("labelme", planned, card, key, left_out, warnings), remarks=remarks)


def _beside(path: Path, value: Mapping[str, Any]) -> Path:
    """Where the photo of a JSON file lies, whether or not the JSON holds it itself."""
    name = str(value.get("imagePath") or path.name).replace("\\", "/")
    return path.parent / posixpath.normpath(name)


def _json_files(root: Path) -> list[Path]:
    """The JSON files of a folder and of the folders in it, however deep."""
    if not (found := _all_files(root, {".json"})):
        raise DataError(f"{root} has no .json files; labelme writes one beside each photo")
    return found


def _all_files(root: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a folder and of the folders in it, however deep, that have one of the suffixes."""
    found: list[Path] = []
    waiting, seen = [root], 0
    while waiting:
        folder = waiting.pop()
        seen += 1
        if seen > _MOST_PLACES:
            raise DataError(f"{root} has more than {_MOST_PLACES} folders in it; is it the right one?")
        found += listing(folder, suffixes)
        waiting += [inner for inner in folders(folder) if not inner.is_symlink()]
    return sorted(found)


def _value(path: Path) -> dict[str, Any]:
    value = json_file(path)
    if not isinstance(value, dict) or not isinstance(value.get("shapes"), list):
        raise DataError(f"{path} is not labelme's: it has no list 'shapes'")
    return value


def _drawn(value: Mapping[str, Any], seen: Identities, path: Path, left_out: Counter[str]) -> Found:
    """What the shapes of a photo show."""
    found: dict[Any, Drawn] = {}
    marked = []
    for n, shape in enumerate(value["shapes"], 1):
        where = f"{path}: shape {n}"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.strip():
            raise DataError(f"{where} has no label")
        if label.startswith("_"):
            left_out["shapes with a label that starts with _"] += 1
            continue
        kind = shape.get("shape_type") or "polygon"
        noun, subject = _who(shape, label, seen, where)
        thing = Thing(noun, subject)
        if kind not in _OUTLINES:
            left_out[f"shapes without an inside ({str(kind)[:20]})"] += 1
            marked.append(thing)
            continue
        if _is_flat(kind, shape.get("points")):
            left_out[f"shapes without an inside ({kind}s that cover no pixel)"] += 1
            marked.append(thing)
            continue
        group = key_of(shape.get("group_id"))
        key = ("subject", subject) if subject else (label, group) if group is not None else n
        if found.setdefault(key, Drawn(thing, [])).thing != thing:
            raise DataError(f"{where}: {subject!r} is a {noun!r} here and a {found[key].thing.noun!r} before")
        found[key].shapes.append(shape)
    return Found(list(found.values()), marked)


def _is_flat(kind: str, points: Any) -> bool:
    """Whether an outline of finite points has no inside: under three different points, no area, or not a pixel."""
    if kind == "mask" or not isinstance(points, list) or not all(_is_point(point) for point in points):
        return False
    if kind == "circle" or (kind == "rectangle" and len(points) < 4):
        among = {tuple(point) for point in points}
        flat = kind == "rectangle" and any(len({point[axis] for point in points}) < 2 for axis in (0, 1))
        return len(points) <= 2 and (len(among) < 2 or flat)
    turns = list(zip(points, [*points[1:], *points[:1]], strict=True))
    if len(points) < 3 or sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in turns) == 0:
        return True
    spans = [(min(point[axis] for point in points), max(point[axis] for point in points)) for axis in (0, 1)]
    if min(high - low for low, high in spans) >= 2:
        return False
    w, h = (math.ceil(high) - math.floor(low) + 2 for low, high in spans)
    shifted = [float(point[axis] - math.floor(spans[axis][0])) for point in points for axis in (0, 1)]
    return w * h < _MOST_SLIVER and not polygons([shifted], (h, w), "").any()


def _who(shape: Mapping[str, Any], label: str, seen: Identities, where: str) -> tuple[str, str | None]:
    """A shape's noun, and its subject's name in the set when it has one."""
    noun, _, own = (part.strip() for part in label.partition(":"))
    noun = " ".join(noun.split())
    if not noun:
        raise DataError(f"{where}: the label {label!r} has no noun before its colon")
    identity = seen.name.removeprefix("identity=")
    value: Any = own
    if identity == "flags":
        flags = shape.get("flags")
        names = [name for name, told in flags.items() if told == 1] if isinstance(flags, dict) else []
        if len(names) > 1:
            raise DataError(f"{where} has several flags set ({', '.join(names)}); set the one that names the subject")
        value = names[0] if names else None
    elif identity != "label":
        value = shape.get(identity)
    name = seen.read(value, where)
    return noun, f"{noun}:{name}" if name else None


def _photo_path(root: Path, path: Path, value: Mapping[str, Any]) -> Path:
    """Where the JSON says that its photo is, seen from ``root``; a "\\" of Windows divides as "/" does."""
    name = value.get("imagePath")
    if not isinstance(name, str) or not name:
        raise DataError(f"{path} has neither imageData nor an imagePath")
    folder = path.parent.relative_to(root).as_posix()
    return inside(root, posixpath.normpath(posixpath.join(folder, name.replace("\\", "/"))), f"{path}: imagePath")


def _look(root: Path, path: Path, identity: str, rule: MaskRule, remarks: Remarks) -> OpenedPicture:
    value = _value(path)
    if value.get("imageData") is None:
        photo = _photo_path(root, path, value)
        image, data, name = image_file(photo), read_bytes(photo), str(photo)
    else:
        photo, name = path, f"{path}: imageData"
        data = _decoded(value["imageData"], name)
        image = ImageFile(decode_photo(data, name), None)
    h, w = image.pixels.shape[:2]
    recorded = value.get("imageHeight"), value.get("imageWidth")
    turn = turn_of(photo, orientation(data, name), (h, w), rule, remarks, recorded)
    size_hw = (w, h) if turn >= 5 else (h, w)
    for name, size in zip(("imageHeight", "imageWidth"), size_hw, strict=True):
        if value.get(name) not in (None, size):
            raise DataError(f"{path}: {name} is {value[name]!r}, its photo {h} x {w} (height x width)")
    masks = []
    for drawn in _drawn(value, Identities(f"identity={identity}"), path, Counter()).drawn:
        where = f"{path}: {drawn.thing.subject or drawn.thing.noun!r}"
        parts = [turned(_mask(shape, size_hw, where), turn) for shape in drawn.shapes]
        mask = np.logical_or.reduce(parts)
        if not mask.any():
            raise DataError(f"{path}: {drawn.thing.subject or drawn.thing.noun!r} covers no pixel; draw it larger")
        masks.append(mask)
    return OpenedPicture(image, tuple(masks))


def _mask(shape: Mapping[str, Any], size_hw: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        raise DataError(f"{where}: its points are not a list of [x, y] of finite numbers")
    usual = {"rectangle": (2, 4, 5), "circle": (2,), "mask": (2,)}.get(kind)  # 5: the first again at the end
    if usual is not None and len(points) not in usual:
        raise DataError(f"{where}: a {kind} of {len(points)} points; it has 2")
    if kind == "mask":
        return _pasted(shape.get("mask"), points, size_hw, where)
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
    elif kind == "circle":
        (x0, y0), (x1, y1) = points
        radius, corners = math.hypot(x1 - x0, y1 - y0), 64
        turns = [2 * math.pi * n / corners for n in range(corners)]
        points = [[x0 + radius * math.cos(turn), y0 + radius * math.sin(turn)] for turn in turns]
    return polygons([[float(n) for point in points for n in point]], size_hw, where)


def _pasted(mask: Any, points: list[Any], size_hw: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """A mask that is kept as a PNG of its box; the first point is the box's upper left corner."""
    patch = mask_in(_decoded(mask, f"{where}: mask"), f"{where}: mask")
    left, top = (round(n) for n in points[0])
    (h, w), (height, width) = size_hw, patch.shape
    whole = np.zeros(size_hw, dtype=bool)
    y, x = slice(max(top, 0), min(top + height, h)), slice(max(left, 0), min(left + width, w))
    if y.start >= y.stop or x.start >= x.stop:
        raise DataError(f"{where}: its mask lies outside of the photo of {h} x {w} (h x w)")
    whole[y, x] = patch[y.start - top : y.stop - top, x.start - left : x.stop - left]
    return whole


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(type(n) in (int, float) and abs(n) < 1e9 for n in point)


def _decoded(text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise DataError(f"{where} is not base64; save the file again with labelme") from None
