"""A benchmark from annotated pictures in which some things have a name of their own: COCO, labelme, VOC.

Such sets have no reference photos.  They are made: the first few pictures by file name that show a subject become its
reference photos, cut to its box since they show other things too; the other pictures of it are its scenes.  A picture
that is anybody's reference photo is nobody's scene.  Pictures may come from one place (a video, a shoot); a place
lends a subject either photos or scenes, and photos are taken from several places and spread over each, since
neighbouring frames are nearly copies.

A thing without a name may be any subject of its noun.  It is a look-alike where the subject has a mask of its own, and
its picture has no "absent" query.

Knows: how subjects, reference photos, scenes and query types follow from things with names.
Does not know: annotation formats, files, what a picture shows where it is not annotated.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, split_of, with_others
from prisbench.datasets.sources.annotated_pictures import AnnotatedPicture, Scene, scene_of
from prisbench.datasets.sources.options import (
    CUT_HELP,
    FRAME_HELP,
    LICENCE_HELP,
    RELATIONS_HELP,
    SHARE_HELP,
    TEXT_HELP,
    query_text,
    share,
    whole_number,
    yes_or_no,
)
from prisbench.datasets.sources.plan import Candidate, IdOf, QueryPlan, Tables, in_one_split, scene_by_scene, tables_of
from prisbench.datasets.sources.reference_photos import cut_out, spread
from prisbench.datasets.sources.relations import COPIES, with_relations
from prisbench.errors import DataError
from prisbench.types import Thing

REFERENCES = 3
"""The fewest photos of a subject that Textual Inversion learns from (arXiv 2208.01618, section 4)."""

INSTANCE_OPTIONS = {
    "references": f"reference photos per subject, the first by file name, spread over the first places (default: "
    f"{REFERENCES}; one place is left for scenes)",
    "cut": f"{CUT_HELP} (default: true)",
    "absent": "scenes per subject that do not show it, those with its noun first (default: 0); honest only where every "
    "picture of a subject is annotated",
    "validation_share": SHARE_HELP,
    "relations": RELATIONS_HELP,
    "copies": "true: masks of one identity in a picture are copies of a thing, like two cans of one make, which "
    "relations=true tells apart; false: parts of one thing (default: false)",
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
    "mask_frame": FRAME_HELP,
}


_NAMELESS = "things without an identity, of a noun that subjects have (they count as other things)"


class Plan(NamedTuple):
    """What the pictures allow: the two tables, and how many rows they have, where that is known before they are opened.

    ``unnamed_alike``: the queries about a scene that has a thing of the subject's noun without a name, in words.
    """

    tables: Tables
    n_subjects: int
    n_queries: int | None
    unnamed_alike: tuple[str, ...]


def source_of(
    name: str, planned: Plan, card: str, key: str, left_out: Counter[str], warnings: tuple[str, ...] = ()
) -> Source:
    """The set of a reader of annotated pictures."""
    return Source(
        name=name,
        # 1: photos from the first place alone; "absent" queries where a nameless thing might be the subject
        version="2",
        about=card,
        key=key,
        subjects=planned.tables.subjects,
        queries=planned.tables.queries,
        n_subjects=planned.n_subjects,
        n_queries=planned.n_queries,
        left_out=left_out,
        warnings=warnings,
    )


def lost(left_out: Counter[str]) -> str:
    """What was left out, by reason, as the end of an error's line."""
    said = ", ".join(f"{n} ({reason})" for reason, n in sorted(left_out.items()) if n)
    return f"; left out: {said}" if said else ""


def plan(pictures: Iterable[AnnotatedPicture], options: Mapping[str, str], left_out: Counter[str], where: str) -> Plan:
    """The subjects and queries that pictures allow; what they do not is counted in ``left_out``.

    Raises UsageError for an option's value, and DataError, naming ``where``, when a subject has two nouns or when no
    subject is seen in two places.
    """
    references = whole_number(options, "references", REFERENCES)
    n_absent = whole_number(options, "absent", 0, least=0)
    cut, text, validation_share = yes_or_no(options, "cut", True), query_text(options), share(options)
    pictures = sorted(pictures, key=lambda picture: picture.name)
    noun = _nouns(pictures, where)
    seen = _seen(pictures, left_out)
    if yes_or_no(options, "copies", False):  # photos that show it once teach most
        seen = {name: sorted(shown, key=lambda each: each.times(name) > 1) for name, shown in seen.items()}
    lent = {name: photos for name, shown in seen.items() if (photos := _lent(shown, references))}
    split = {name: split_of(name, validation_share) for name in lent}
    plans = in_one_split(_plans(pictures, lent, noun, n_absent, left_out), split, left_out)
    queried = {query.subject for query in plans if query.subject in query.record.subjects}
    unqueried = Counter(query.subject for query in plans if query.subject not in queried)
    plans = [query for query in plans if query.subject in queried]
    scenes = {query.scene for query in plans}
    if not queried:
        raise DataError(
            f"{where}: none of {len(noun)} subjects in {len(pictures)} pictures is seen in two places, so none has "
            f"both a reference photo and a scene{lost(left_out)}"
        )
    _count(
        left_out,
        {
            "subjects without both a reference photo and a scene": len(noun) - len(queried),
            "pictures of subjects that are seen in one place only": sum(
                len(shown) for name, shown in seen.items() if name not in lent
            ),
            "reference photos of subjects that no scene shows": sum(
                len(photos) for name, photos in lent.items() if name not in queried
            ),
            "absent queries about subjects that no scene shows": unqueried.total(),
            _NAMELESS: _nameless(pictures, set(noun.values())),
            "pictures without a subject": sum(
                not picture.named | picture.hidden for picture in pictures if picture.name not in scenes
            ),
        },
    )
    how = _How(cut, text, yes_or_no(options, "relations", False), yes_or_no(options, "copies", False))
    rows = _Rows(noun, split, lent, plans, how)
    tables = tables_of(sorted(queried), rows.subject, rows.candidates, left_out)
    return Plan(
        tables,
        len(queried),
        None if how.relations or how.copies else len(plans),
        tuple(
            f"{noun[query.subject]} {query.subject!r} in {query.scene}"
            for query in plans
            if query.subject in query.record.named and query.record.may_show(noun[query.subject])
        ),
    )


def _count(left_out: Counter[str], found: Mapping[str, int]) -> None:
    """Add the reasons that something was left out for."""
    left_out.update({reason: n for reason, n in found.items() if n})


def _nouns(pictures: Iterable[AnnotatedPicture], where: str) -> dict[str, str]:
    """Subject -> noun."""
    noun: dict[str, str] = {}
    for picture in pictures:
        for thing in picture.things:
            if thing.subject is not None and noun.setdefault(thing.subject, thing.noun) != thing.noun:
                raise DataError(
                    f"{where}: the subject {thing.subject!r} is a {thing.noun!r} in {picture.name} and a "
                    f"{noun[thing.subject]!r} before; a subject is one thing in the whole set"
                )
    return noun


def _nameless(pictures: Iterable[AnnotatedPicture], nouns: Collection[str]) -> int:
    things = (thing for picture in pictures for thing in picture.things if not thing.group)
    return sum(thing.subject is None and thing.noun in nouns for thing in things)


def _seen(pictures: Iterable[AnnotatedPicture], left_out: Counter[str]) -> dict[str, list[AnnotatedPicture]]:
    """Subject -> the pictures that show it."""
    seen: dict[str, list[AnnotatedPicture]] = {}
    for picture in pictures:
        partly = len(picture.named & picture.hidden)
        _count(left_out, {"pictures where a part of the subject has no mask of its own": partly})
        for name in sorted(picture.subjects):
            seen.setdefault(name, []).append(picture)
    return seen


def _lent(seen: Iterable[AnnotatedPicture], references: int) -> list[AnnotatedPicture]:
    """The reference photos, spread over the first places; none when there is but one place.

    Places: as few as have so many pictures, or, when they have many, one for each photo up to half of the places; one
    is always left for scenes.
    """
    by_place: dict[str, list[AnnotatedPicture]] = {}
    for picture in seen:
        by_place.setdefault(picture.place, []).append(picture)
    places = list(by_place.values())
    sums = list(itertools.accumulate(map(len, places)))
    fewest = next((n for n, total in enumerate(sums, 1) if total >= references), len(places))
    return spread(places[:-1][: max(fewest, min(references, len(places) // 2))], references)


def _plans(
    pictures: Sequence[AnnotatedPicture],
    lent: Mapping[str, Sequence[AnnotatedPicture]],
    noun: Mapping[str, str],
    n_absent: int,
    left_out: Counter[str],
) -> list[QueryPlan[AnnotatedPicture]]:
    """All queries, by picture and then by subject."""
    taken = {picture.name for photos in lent.values() for picture in photos}
    places = {name: {picture.place for picture in photos} for name, photos in lent.items()}
    absent: dict[str, list[str]] = {}
    for name in lent if n_absent else ():
        free = _without(pictures, name, noun[name], taken, places[name])
        sure = [picture for picture in free if not picture.may_show(noun[name])]
        reasons = {
            "scenes for absent queries that have a thing of the subject's noun without an identity": len(free)
            - len(sure),
            "absent queries for which there is no scene": max(0, n_absent - len(sure)),
        }
        _count(left_out, reasons)
        for picture in sure[:n_absent]:
            absent.setdefault(picture.name, []).append(name)
    plans = []
    for picture in pictures:
        for name in sorted([*(picture.subjects & lent.keys()), *absent.get(picture.name, ())]):
            if picture in lent[name]:
                continue
            if picture.name in taken:
                left_out["scenes that are another subject's reference photo"] += 1
            elif picture.place in places[name]:
                left_out["scenes from the place of the subject's reference photos"] += 1
            else:
                plans.append(QueryPlan(name, picture.name, picture.place, picture))
    return plans


def _without(
    pictures: Iterable[AnnotatedPicture], name: str, noun: str, taken: set[str], places: set[str]
) -> list[AnnotatedPicture]:
    """The scenes that do not show a subject: with its noun first, else by a hash, so that none is taken too often."""

    def order(picture: AnnotatedPicture) -> tuple[bool, str]:
        alike = any(thing.noun == noun for thing in picture.things)
        return not alike, hashlib.sha256(f"{name}\n{picture.name}".encode()).hexdigest()

    free = (picture for picture in pictures if picture.name not in taken and picture.place not in places)
    return sorted((picture for picture in free if name not in picture.named | picture.hidden), key=order)


class _How(NamedTuple):
    """What the options say of rows."""

    cut: bool
    text: str
    relations: bool
    copies: bool


@dataclass(frozen=True)
class _Rows:
    """Reads the rows.  ``noun``, ``split`` and ``lent``, the reference photos: of a subject, by its name."""

    noun: Mapping[str, str]
    split: Mapping[str, str]
    lent: Mapping[str, Sequence[AnnotatedPicture]]
    plans: Sequence[QueryPlan[AnnotatedPicture]]
    how: _How

    def subject(self, name: str) -> SubjectRow:
        photos, masks, files = [], [], []
        for picture in self.lent[name]:
            scene = self._scene(picture)
            photo, mask, file = scene.image.pixels, scene.masks[name], scene.image.file
            if self.how.cut:
                photo, mask = cut_out(photo, mask)
                file = None
            photos.append(photo)
            masks.append(mask)
            files.append(file)
        return SubjectRow(
            noun=self.noun[name],
            photos=tuple(photos),
            split=self.split[name],
            licence="; ".join(dict.fromkeys(picture.licence for picture in self.lent[name])),
            source="; ".join(dict.fromkeys(picture.source for picture in self.lent[name])),
            masks=tuple(masks),
            files=tuple(files),
        )

    def candidates(self, id_of: IdOf) -> Iterator[Candidate]:
        queries = scene_by_scene(self.plans, self._scene, partial(self._query, id_of))
        for plan, query in zip(self.plans, queries, strict=True):
            unclear = self._unclear(plan.record)
            found = with_relations(query, unclear) if self.how.relations else iter((query,))
            if self.how.copies and plan.record.times(plan.subject) > 1:
                next(found)
                yield COPIES
            yield from found

    def _scene(self, picture: AnnotatedPicture) -> Scene:
        return scene_of(picture, self.how.copies)

    def _unclear(self, picture: AnnotatedPicture) -> frozenset[str]:
        """Nouns that may fit more things of a picture than have a mask of their own."""
        several = {thing.noun for thing in picture.things if thing.group}
        return picture.unnamed | several | {self.noun[name] for name in picture.hidden if name in self.noun}

    def _query(self, id_of: IdOf, plan: QueryPlan[AnnotatedPicture], scene: Scene) -> QueryRow:
        noun = self.noun[plan.subject]
        kin = [key for key in scene.masks if scene.nouns[key] == noun and key != plan.subject]
        others = sum(other != noun for other in scene.nouns.values())
        nowhere = np.zeros(scene.image.pixels.shape[:2], dtype=bool)
        row = QueryRow(
            subject_id=id_of(plan.subject),
            noun=noun,
            image=scene.image.pixels,
            text=self.how.text,
            query_type=kind_of_scene(len(kin), others) if plan.subject in scene.masks else "absent",
            mask=scene.masks.get(plan.subject, nowhere),
            look_alikes=tuple(scene.masks[key] for key in kin),
            split=self.split[plan.subject],
            licence=plan.record.licence,
            source=plan.record.source,
            file=scene.image.file,
            things=tuple(self._kin(plan.subject, key, scene) for key in (plan.subject, *kin) if key in scene.masks),
            meant=0 if plan.subject in scene.masks else None,
        )
        beside = ((mask, scene.nouns[key]) for key, mask in scene.masks.items() if scene.nouns[key] != noun)
        return with_others(row, beside)

    def _kin(self, subject: str, key: str | int, scene: Scene) -> Thing:
        """A subject, or a thing of its noun."""
        role = "subject" if key == subject else "look-alike"
        return Thing(scene.masks[key], self.noun[subject], role, "copy" if scene.copy_of.get(key) == subject else None)
