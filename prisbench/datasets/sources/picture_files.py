"""Subjects of which everything is a file: reference photos, scenes, and a black and white PNG for each mask.

Knows: how such files become rows.  Does not know: which file plays which role (``folder``, ``mug19``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene
from prisbench.datasets.sources.frames import rule_of, turn_of
from prisbench.datasets.sources.mask_files import PLAIN, MaskRule, mask_file
from prisbench.datasets.sources.options import build_key, query_text, yes_or_no
from prisbench.datasets.sources.plan import Candidate, IdOf, QueryPlan, in_one_split, scene_by_scene, tables_of
from prisbench.datasets.sources.reading.files import listing
from prisbench.datasets.sources.reading.images import ImageFile, image_file
from prisbench.datasets.sources.relations import COPIES, with_relations
from prisbench.errors import DataError
from prisbench.images.photos import MOST_PHOTOS, SUFFIXES, orientation
from prisbench.runtime.files import read_bytes, sha256_json, stem_of
from prisbench.types import REFERENTLESS, Thing

_Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class QueryFiles:
    """What a query is made of.  ``kind`` is "" when the masks say it; no ``mask`` when the subject is not there.

    ``grades``: of each look-alike, "" where it is not known; none at all where no one's is.  ``landmarks`` and
    ``others``: class word, "" where unknown, and mask of further things.  ``pair``: what a query shares with its
    partner about the same subject, or "".  Of a contradicted query ``mask`` is where the subject is.
    """

    scene: Path
    text: str
    mask: Path | None
    look_alikes: tuple[Path, ...] = ()
    kind: str = ""
    grades: tuple[str, ...] = ()
    landmarks: tuple[tuple[str, Path], ...] = ()
    others: tuple[tuple[str, Path], ...] = ()
    pair: str = ""

    @property
    def n_known(self) -> int:
        """How many things the query knows; none where the subject is not there."""
        return 0 if self.mask is None else 1 + len(self.look_alikes) + len(self.further)

    @property
    def further(self) -> tuple[tuple[str, Path], ...]:
        """Landmarks, then others."""
        return (*self.landmarks, *self.others)


@dataclass(frozen=True)
class SubjectFiles:
    """What a subject is made of.

    ``masks`` has a path or None for each photo.  ``rule`` says how the masks in its folder are read.
    """

    name: str
    noun: str
    split: str
    licence: str
    source: str
    photos: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    queries: tuple[QueryFiles, ...]
    rule: MaskRule = PLAIN


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The photos of a folder that need not be there.  Raises DataError when two have one stem, hence one mask."""
    return tuple(_by_stem(folder, SUFFIXES).values())


def masks_in(folder: Path) -> dict[str, Path]:
    """Stem -> PNG, of a folder that need not be there.  Raises DataError when two have one stem."""
    return _by_stem(folder, frozenset({".png"}))


def source_of(
    name: str,
    root: Path,
    subjects: Sequence[SubjectFiles],
    options: Mapping[str, str],
    left_out: Counter[str],
    card: str,
) -> Source:
    """The source that the subjects' files make; scenes in the order of their paths.

    Raises DataError when a scene is somebody's reference photo, or a subject has more photos than are learned from.
    """
    subject_of = {subject.name: subject for subject in subjects}
    plans = in_one_split(_plans(root, subjects), {subject.name: subject.split for subject in subjects}, left_out)
    read = _MaskReader(root, subject_of, Remarks(root))
    relations = yes_or_no(options, "relations", False)

    def candidates(id_of: IdOf) -> Iterator[Candidate]:
        queries = scene_by_scene(plans, _scene, partial(_query_row, id_of, read))
        return _with_relations(plans, queries, query_text(options)) if relations else queries

    tables = tables_of(list(subject_of), lambda name: _subject_row(subject_of[name], read), candidates, left_out)
    return Source(
        name=name,
        version="1",
        about=card,
        key=_key(name, options, root, subjects, plans),
        subjects=tables.subjects,
        queries=tables.queries,
        n_subjects=len(subjects),
        n_queries=None if relations and plans else len(plans),
        left_out=left_out,
        remarks=read.remarks,
    )


def _with_relations(
    plans: Sequence[QueryPlan[QueryFiles]], queries: Iterator[Candidate], usual: str
) -> Iterator[Candidate]:
    """The queries, and after one about each subject in a scene those that its things allow: the one that knows most.

    Left out are those with the ``usual`` text about a scene with copies of the subject, which it does not tell apart.
    """
    about: dict[tuple[str, str], list[QueryPlan[QueryFiles]]] = {}
    for plan in plans:
        about.setdefault((plan.subject, plan.scene), []).append(plan)
    most = {key: max(group, key=lambda plan: plan.record.n_known) for key, group in about.items()}
    for plan, query in zip(plans, queries, strict=True):
        key = plan.subject, plan.scene
        asked = [each.record.text for each in about[key]]
        found = with_relations(query, (), asked) if plan is most[key] else iter((query,))
        if "copy" in plan.record.grades and plan.record.text == usual:
            next(found)
            yield COPIES
        yield from found


def _plans(root: Path, subjects: Sequence[SubjectFiles]) -> list[QueryPlan[QueryFiles]]:
    """All queries, by scene.  Raises DataError as ``source_of``."""
    lent = {path: subject.name for subject in subjects for path in subject.photos}
    plans = []
    for subject in subjects:
        if len(subject.photos) > MOST_PHOTOS:
            raise DataError(
                f"{subject.photos[0].parent} has {len(subject.photos)} reference photos; {MOST_PHOTOS} are the most "
                "that are learned from, 3 to 6 are enough; say references=5"
            )
        for query in subject.queries:
            if query.scene in lent:
                raise DataError(f"{query.scene} is a reference photo of {lent[query.scene]}, so it is no scene")
            scene = query.scene.relative_to(root).as_posix()
            plans.append(QueryPlan(subject.name, scene, scene, query))
    return sorted(plans, key=lambda plan: plan.scene)


def _key(
    name: str,
    options: Mapping[str, str],
    root: Path,
    subjects: Sequence[SubjectFiles],
    plans: Sequence[QueryPlan[QueryFiles]],
) -> str:
    """``Source.key``: the files, and what is said of them."""
    files = {path for subject in subjects for path in (*subject.photos, *subject.masks)}
    files |= {path for plan in plans for path in (plan.record.scene, plan.record.mask, *plan.record.look_alikes)}
    files |= {path for plan in plans for _, path in plan.record.further}
    said = [[one.name, one.noun, one.split, one.licence, one.source, repr(one.rule)] for one in subjects]
    said += [[plan.subject, plan.scene, plan.record.text, plan.record.kind, str(plan.record.mask)] for plan in plans]
    said += [[str(plan.record)] for plan in plans if plan.record.pair or plan.record.further or any(plan.record.grades)]
    return sha256_json([build_key(name, options, root, (path for path in files if path)), said])


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
    subjects: Mapping[str, SubjectFiles]
    remarks: Remarks

    def read(self, path: Path, photo: _Photo, subject: SubjectFiles, absent: bool = False) -> _Mask:
        """A mask of a photo.  Raises DataError as ``mask_file``."""
        rule = replace(self.subjects.get(path.relative_to(self.root).parts[0], subject).rule, absent=absent)
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


def _subject_row(subject: SubjectFiles, read: _MaskReader) -> SubjectRow:
    images = [image_file(path) for path in subject.photos]
    masks: list[Bool[np.ndarray, "_h _w"] | None] = []
    for image, photo, path in zip(images, subject.photos, subject.masks, strict=True):
        mask = read.read(path, _photo(photo, image.pixels), subject) if path else None
        if mask is not None and not mask.any():
            raise DataError(f"{path} is all black, but a reference photo shows its subject")
        masks.append(mask)
    return SubjectRow(
        noun=subject.noun,
        photos=tuple(image.pixels for image in images),
        split=subject.split,
        licence=subject.licence,
        source=subject.source,
        masks=tuple(masks),
        files=tuple(image.file for image in images),
    )


class _Scene(NamedTuple):
    """An opened scene."""

    image: ImageFile
    photo: _Photo


def _scene(query: QueryFiles) -> _Scene:
    image = image_file(query.scene)
    return _Scene(image, _photo(query.scene, image.pixels))


def _query_row(id_of: IdOf, read: _MaskReader, plan: QueryPlan[QueryFiles], scene: _Scene) -> QueryRow:
    query, subject, (image, photo) = plan.record, read.subjects[plan.subject], scene
    mask = np.zeros(photo.size_hw, dtype=bool)
    if query.mask:
        mask = read.read(query.mask, photo, subject, query.kind == "absent")
    alike = tuple(read.read(path, photo, subject) for path in query.look_alikes)
    for path, other in zip(query.look_alikes, alike, strict=True):
        if not other.any():
            raise DataError(f"{path} is all black; draw the look-alike, or remove the file")
    further = tuple(read.read(path, photo, subject) for _, path in query.further)
    for (_, path), other in zip(query.further, further, strict=True):
        if not other.any():
            raise DataError(f"{path} is all black; draw the thing, or leave it out")
    kind = query.kind or (kind_of_scene(len(alike), len(further)) if mask.any() else "absent")
    if (kind == "absent") == bool(mask.any()):
        shown = "shows the subject" if mask.any() else "is all black"
        raise DataError(f"{query.mask} {shown}, but the query about {query.scene} is {kind!r}")
    if kind == "look-alike" and not alike:
        raise DataError(f"the query about {query.scene} is 'look-alike', but there is no mask of a look-alike")
    things: list[Thing] = [Thing(mask, subject.noun, "subject")] if mask.any() else []
    grades = query.grades or ("",) * len(alike)
    things += [
        Thing(each, subject.noun, "look-alike", grade or None) for each, grade in zip(alike, grades, strict=True)
    ]
    roles = ["landmark"] * len(query.landmarks) + ["other"] * len(query.others)
    named = zip(further, query.further, roles, strict=True)
    things += [Thing(each, noun or None, role) for each, (noun, _), role in named]
    return QueryRow(
        subject_id=id_of(subject.name),
        noun=subject.noun,
        image=image.pixels,
        text=query.text,
        query_type=kind,
        mask=np.zeros_like(mask) if kind == "contradicted" else mask,
        things=tuple(things),
        meant=None if kind in REFERENTLESS or not mask.any() else 0,
        pair_id=f"{subject.name} {query.pair}" if query.pair else None,
        look_alikes=alike,
        split=subject.split,
        licence=subject.licence,
        source=f"{subject.source}: {plan.scene}",
        file=image.file,
    )
