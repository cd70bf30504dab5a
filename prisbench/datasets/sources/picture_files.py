"""Subjects of which everything is a file: reference photos, scenes, and a black and white PNG for each mask.

Knows: how such files become rows.  Does not know: which file plays which role (``folder``, ``mug19``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene
from prisbench.datasets.sources.frames import rule_of, turn_of
from prisbench.datasets.sources.mask_files import PLAIN, MaskRule, mask_file
from prisbench.datasets.sources.options import build_key
from prisbench.datasets.sources.plan import QueryPlan, Subjects, in_one_split, queries_of, subjects_of
from prisbench.datasets.sources.reading.files import listing
from prisbench.datasets.sources.reading.images import image_file
from prisbench.errors import DataError
from prisbench.images.photos import MOST_PHOTOS, SUFFIXES, orientation
from prisbench.runtime.files import read_bytes, sha256_json, stem_of

_Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Asked:
    """A query.  ``kind`` "" when the masks say it; no ``mask`` when the subject is not there."""

    scene: Path
    text: str
    mask: Path | None
    look_alikes: tuple[Path, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Told:
    """A subject.  ``masks`` has a path or None for each photo; ``rule`` says how the masks in its folder are read."""

    name: str
    noun: str
    split: str
    licence: str
    source: str
    photos: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    asked: tuple[Asked, ...]
    rule: MaskRule = PLAIN


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The photos of a folder that need not be there.  Raises DataError when two have one stem, hence one mask."""
    return tuple(_by_stem(folder, SUFFIXES).values())


def masks_in(folder: Path) -> dict[str, Path]:
    """Stem -> PNG, of a folder that need not be there.  Raises DataError when two have one stem."""
    return _by_stem(folder, frozenset({".png"}))


def source_of(
    name: str, root: Path, told: Sequence[Told], options: Mapping[str, str], left_out: Counter[str], card: str
) -> Source:
    """The source that the subjects' files make; scenes in the order of their paths.

    Raises DataError when a scene is somebody's reference photo, or a subject has more photos than are learned from.
    """
    subject_of = {one.name: one for one in told}
    lent = {path: one.name for one in told for path in one.photos}
    plans = []
    for one in told:
        if len(one.photos) > MOST_PHOTOS:
            raise DataError(
                f"{one.photos[0].parent} has {len(one.photos)} reference photos; {MOST_PHOTOS} are the most that are "
                "learned from, 3 to 6 are enough; say references=5"
            )
        for asked in one.asked:
            if asked.scene in lent:
                raise DataError(f"{asked.scene} is a reference photo of {lent[asked.scene]}, so it is no scene")
            scene = asked.scene.relative_to(root).as_posix()
            plans.append(QueryPlan(one.name, scene, scene, asked))
    plans.sort(key=lambda plan: plan.scene)
    plans = in_one_split(plans, {one.name: one.split for one in told}, left_out)
    files = {path for one in told for path in (*one.photos, *one.masks)}
    files |= {path for plan in plans for path in (plan.asked.scene, plan.asked.mask, *plan.asked.look_alikes)}
    read = _MaskReader(root, subject_of, Remarks(root))
    subjects = subjects_of(list(subject_of), lambda name: _subject_row(subject_of[name], read))
    said = [[one.name, one.noun, one.split, one.licence, one.source, repr(one.rule)] for one in told]
    said += [[plan.subject, plan.scene, plan.asked.text, plan.asked.kind, str(plan.asked.mask)] for plan in plans]
    return Source(
        name=name,
        version="1",
        about=card,
        key=sha256_json([build_key(name, options, root, (path for path in files if path)), said]),
        subjects=subjects.rows,
        queries=queries_of(plans, lambda some: _query_rows(some, subject_of, subjects, read)),
        n_subjects=len(told),
        n_queries=len(plans),
        left_out=left_out,
        remarks=read.remarks,
    )


class _Photo(NamedTuple):
    """A photo's file, its EXIF orientation, and its size as it is shown."""

    path: Path
    orientation: int
    size_hw: tuple[int, int]


def _photo(path: Path, pixels: UInt8[np.ndarray, "h w 3"]) -> _Photo:
    h, w = pixels.shape[:2]
    return _Photo(path, orientation(read_bytes(path), str(path)), (h, w))


@dataclass(frozen=True)
class _MaskReader:
    """Reads masks as the subject says in whose folder they lie, or else the one that they are read for."""

    root: Path
    told: Mapping[str, Told]
    remarks: Remarks

    def read(self, path: Path, photo: _Photo, told: Told, absent: bool = False) -> _Mask:
        """A mask of a photo.  Raises DataError as ``mask_file``."""
        rule = replace(self.told.get(path.relative_to(self.root).parts[0], told).rule, absent=absent)
        turn = turn_of(photo.path, photo.orientation, photo.size_hw, rule, self.remarks)
        return mask_file(path, photo.size_hw, "", rule_of(rule, photo.orientation), turn, self.remarks)


def _by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in listing(folder, suffixes) if folder.is_dir() else []:
        if stem_of(path) in found:
            raise DataError(
                f"{found[stem_of(path)]} and {path.name} have the same stem, which pairs photos and masks; rename one"
            )
        found[stem_of(path)] = path
    return found


def _subject_row(told: Told, read: _MaskReader) -> SubjectRow:
    images = [image_file(path) for path in told.photos]
    masks: list[Bool[np.ndarray, "_h _w"] | None] = []
    for image, photo, path in zip(images, told.photos, told.masks, strict=True):
        mask = read.read(path, _photo(photo, image.pixels), told) if path else None
        if mask is not None and not mask.any():
            raise DataError(f"{path} is all black, but a reference photo shows its subject")
        masks.append(mask)
    return SubjectRow(
        noun=told.noun,
        photos=tuple(image.pixels for image in images),
        split=told.split,
        licence=told.licence,
        source=told.source,
        masks=tuple(masks),
        files=tuple(image.file for image in images),
    )


def _query_rows(
    plans: Sequence[QueryPlan[Asked]], subject_of: Mapping[str, Told], subjects: Subjects, read: _MaskReader
) -> Iterator[QueryRow]:
    """The queries about one scene."""
    image = image_file(plans[0].asked.scene)
    scene = _photo(plans[0].asked.scene, image.pixels)
    for plan in plans:
        asked, told = plan.asked, subject_of[plan.subject]
        mask = np.zeros(scene.size_hw, dtype=bool)
        if asked.mask:
            mask = read.read(asked.mask, scene, told, asked.kind == "absent")
        alike = tuple(read.read(path, scene, told) for path in asked.look_alikes)
        for path, other in zip(asked.look_alikes, alike, strict=True):
            if not other.any():
                raise DataError(f"{path} is all black; draw the look-alike, or remove the file")
        kind = asked.kind or (kind_of_scene(len(alike), 0) if mask.any() else "absent")
        if (kind == "absent") == bool(mask.any()):
            shown = "shows the subject" if mask.any() else "is all black"
            raise DataError(f"{asked.mask} {shown}, but the query about {asked.scene} is {kind!r}")
        if kind == "look-alike" and not alike:
            raise DataError(f"the query about {asked.scene} is 'look-alike', but there is no mask of a look-alike")
        yield QueryRow(
            subject_id=subjects.id_of(told.name),
            noun=told.noun,
            image=image.pixels,
            text=asked.text,
            query_type=kind,
            mask=mask,
            look_alikes=alike,
            split=told.split,
            licence=told.licence,
            source=f"{told.source}: {plan.scene}",
            file=image.file,
        )
