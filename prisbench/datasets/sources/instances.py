"""A benchmark from annotated pictures in which some things have a name of their own: COCO, labelme, VOC.

Such sets have no reference photos.  They are made: the first few pictures by file name that show a subject become its
reference photos, cut to its box since they show other things too; the other pictures of it are its scenes.  A picture
that is anybody's reference photo is nobody's scene.  Pictures may come from one place (a video, a shoot); a place
lends a subject either photos or scenes, and photos are taken from several places and spread over each, since
neighbouring frames are nearly copies.

A thing without a name may be any subject of its noun.  It is a look-alike where the subject has a mask of its own, and
no "absent" query is asked about its picture.

Knows: how subjects, reference photos, scenes and query types follow from things with names.
Does not know: annotation formats, files.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, split_of
from prisbench.datasets.sources.options import (
    CUT_HELP,
    FRAME_HELP,
    LICENCE_HELP,
    SHARE_HELP,
    TEXT_HELP,
    query_text,
    share,
    whole_number,
    yes_or_no,
)
from prisbench.datasets.sources.plan import QueryPlan, Subjects, in_one_split, queries_of, subjects_of
from prisbench.datasets.sources.reading.images import ImageFile
from prisbench.datasets.sources.reference_photos import cut_out, spread
from prisbench.errors import DataError

REFERENCES = 3
"""The fewest photos of a subject that Textual Inversion learns from (arXiv 2208.01618, section 4)."""

INSTANCE_OPTIONS = {
    "references": f"reference photos per subject, the first by file name, spread over the first places (default: "
    f"{REFERENCES}; one place is left for scenes)",
    "cut": f"{CUT_HELP} (default: true)",
    "absent": "scenes per subject that do not show it, those with its noun first (default: 0); honest only where every "
    "picture of a subject is annotated",
    "validation_share": SHARE_HELP,
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
    "mask_frame": FRAME_HELP,
}


_NAMELESS = "things without an identity, of a noun that subjects have (they count as other things)"


class Thing(NamedTuple):
    """Something annotated in a picture.  ``subject``: which one it is in the whole set; None when nobody says.
    ``group``: it is several, like a crowd."""

    noun: str
    subject: str | None
    group: bool = False


class Looked(NamedTuple):
    """An opened picture, and a mask of its size for each of its things, none empty."""

    image: ImageFile
    masks: tuple[Bool[np.ndarray, "_h _w"], ...]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what is known of it before it is opened.

    ``look`` opens it; several masks may belong to one subject.  ``hidden``: subjects of which something is there
    without a mask, so that nothing is asked about them.  ``unnamed``: nouns of things that are there without a mask and
    without a name.
    """

    name: str
    place: str
    things: tuple[Thing, ...]
    licence: str
    source: str
    look: Callable[[], Looked]
    hidden: frozenset[str] = frozenset()
    unnamed: frozenset[str] = frozenset()

    @property
    def named(self) -> frozenset[str]:
        return frozenset(thing.subject for thing in self.things if thing.subject is not None)

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects whose mask is whole."""
        return self.named - self.hidden

    def may_show(self, noun: str) -> bool:
        """Whether a thing of this noun is there of which nobody says which one it is."""
        return noun in self.unnamed or any(thing.noun == noun and thing.subject is None for thing in self.things)


class Plan(NamedTuple):
    """What the pictures allow: the two readers of rows, and their numbers.

    ``unnamed_alike``: the queries about a scene that has a thing of the subject's noun without a name, in words.
    """

    subjects: Callable[[], Iterator[SubjectRow]]
    queries: Callable[[int], Iterator[QueryRow]]
    n_subjects: int
    n_queries: int
    unnamed_alike: tuple[str, ...]


def source_of(
    name: str, planned: Plan, card: str, key: str, left_out: Counter[str], warnings: tuple[str, ...] = ()
) -> Source:
    """The set of a reader of annotated pictures."""
    return Source(
        name=name,
        version="2",  # 1: photos from the first place alone; "absent" asked where a nameless thing might be the subject
        about=card,
        key=key,
        subjects=planned.subjects,
        queries=planned.queries,
        n_subjects=planned.n_subjects,
        n_queries=planned.n_queries,
        left_out=left_out,
        warnings=warnings,
    )


def lost(left_out: Counter[str]) -> str:
    """What was left out, by reason, as the end of an error's line."""
    said = ", ".join(f"{n} ({reason})" for reason, n in sorted(left_out.items()) if n)
    return f"; left out: {said}" if said else ""


def plan(pictures: Iterable[Picture], options: Mapping[str, str], left_out: Counter[str], where: str) -> Plan:
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
    lent = {name: photos for name, shown in seen.items() if (photos := _lent(shown, references))}
    split = {name: split_of(name, validation_share) for name in lent}
    plans = in_one_split(_plans(pictures, lent, noun, n_absent, left_out), split, left_out)
    asked = {query.subject for query in plans if query.subject in query.asked.subjects}
    unasked = Counter(query.subject for query in plans if query.subject not in asked)
    plans = [query for query in plans if query.subject in asked]
    scenes = {query.scene for query in plans}
    if not asked:
        raise DataError(
            f"{where}: none of {len(noun)} subjects in {len(pictures)} pictures is seen in two places, so none has "
            f"both a reference photo and a scene{lost(left_out)}"
        )
    _count(
        left_out,
        {
            "subjects without both a reference photo and a scene": len(noun) - len(asked),
            "pictures of subjects that are seen in one place only": sum(
                len(shown) for name, shown in seen.items() if name not in lent
            ),
            "reference photos of subjects that no scene shows": sum(
                len(photos) for name, photos in lent.items() if name not in asked
            ),
            "absent queries about subjects that no scene shows": unasked.total(),
            _NAMELESS: _nameless(pictures, set(noun.values())),
            "pictures without a subject": sum(
                not picture.named | picture.hidden for picture in pictures if picture.name not in scenes
            ),
        },
    )
    subjects = subjects_of(sorted(asked), lambda name: _subject_row(name, noun[name], split[name], lent[name], cut))
    return Plan(
        subjects.rows,
        queries_of(plans, lambda some: _query_rows(some, noun, split, text, subjects)),
        len(asked),
        len(plans),
        tuple(
            f"{noun[query.subject]} {query.subject!r} in {query.scene}"
            for query in plans
            if query.subject in query.asked.named and query.asked.may_show(noun[query.subject])
        ),
    )


def _count(left_out: Counter[str], found: Mapping[str, int]) -> None:
    """Add the reasons that something was left out for."""
    left_out.update({reason: n for reason, n in found.items() if n})


def _nouns(pictures: Iterable[Picture], where: str) -> dict[str, str]:
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


def _nameless(pictures: Iterable[Picture], nouns: Collection[str]) -> int:
    things = (thing for picture in pictures for thing in picture.things if not thing.group)
    return sum(thing.subject is None and thing.noun in nouns for thing in things)


def _seen(pictures: Iterable[Picture], left_out: Counter[str]) -> dict[str, list[Picture]]:
    """Subject -> the pictures that show it."""
    seen: dict[str, list[Picture]] = {}
    for picture in pictures:
        partly = len(picture.named & picture.hidden)
        _count(left_out, {"pictures where a part of the subject has no mask of its own": partly})
        for name in sorted(picture.subjects):
            seen.setdefault(name, []).append(picture)
    return seen


def _lent(seen: Iterable[Picture], references: int) -> list[Picture]:
    """The reference photos, spread over the first places; none when there is but one place.

    Places: as few as have so many pictures, or, when they have many, one for each photo up to half of the places; one
    is always left for scenes.
    """
    by_place: dict[str, list[Picture]] = {}
    for picture in seen:
        by_place.setdefault(picture.place, []).append(picture)
    places = list(by_place.values())
    sums = list(itertools.accumulate(map(len, places)))
    fewest = next((n for n, total in enumerate(sums, 1) if total >= references), len(places))
    return spread(places[:-1][: max(fewest, min(references, len(places) // 2))], references)


def _plans(
    pictures: Sequence[Picture],
    lent: Mapping[str, Sequence[Picture]],
    noun: Mapping[str, str],
    n_absent: int,
    left_out: Counter[str],
) -> list[QueryPlan[Picture]]:
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


def _without(pictures: Iterable[Picture], name: str, noun: str, taken: set[str], places: set[str]) -> list[Picture]:
    """The scenes that do not show a subject: with its noun first, else by a hash, so that none is asked too often."""

    def order(picture: Picture) -> tuple[bool, str]:
        alike = any(thing.noun == noun for thing in picture.things)
        return not alike, hashlib.sha256(f"{name}\n{picture.name}".encode()).hexdigest()

    free = (picture for picture in pictures if picture.name not in taken and picture.place not in places)
    return sorted((picture for picture in free if name not in picture.named | picture.hidden), key=order)


def _subject_row(name: str, noun: str, split: str, lent: Sequence[Picture], cut: bool) -> SubjectRow:
    photos, masks, files = [], [], []
    for picture in lent:
        looked = _look(picture)
        photo, mask, file = looked.image.pixels, _united(looked.masks, picture.things)[name], looked.image.file
        if cut:
            photo, mask = cut_out(photo, mask)
            file = None
        photos.append(photo)
        masks.append(mask)
        files.append(file)
    return SubjectRow(
        noun=noun,
        photos=tuple(photos),
        split=split,
        licence="; ".join(dict.fromkeys(picture.licence for picture in lent)),
        source="; ".join(dict.fromkeys(picture.source for picture in lent)),
        masks=tuple(masks),
        files=tuple(files),
    )


def _query_rows(
    plans: Sequence[QueryPlan[Picture]],
    noun: Mapping[str, str],
    split: Mapping[str, str],
    text: str,
    subjects: Subjects,
) -> Iterator[QueryRow]:
    """The queries about one picture."""
    picture = plans[0].asked
    image, masks = _look(picture)
    united = _united(masks, picture.things)
    nouns = {_key(index, thing): thing.noun for index, thing in enumerate(picture.things)}
    nowhere = np.zeros(image.pixels.shape[:2], dtype=bool)
    for query in plans:
        mine = noun[query.subject]
        alike = tuple(mask for key, mask in united.items() if nouns[key] == mine and key != query.subject)
        others = sum(other != mine for other in nouns.values())
        yield QueryRow(
            subject_id=subjects.id_of(query.subject),
            noun=mine,
            image=image.pixels,
            text=text,
            query_type=kind_of_scene(len(alike), others) if query.subject in united else "absent",
            mask=united.get(query.subject, nowhere),
            look_alikes=alike,
            split=split[query.subject],
            licence=picture.licence,
            source=picture.source,
            file=image.file,
        )


def _look(picture: Picture) -> Looked:
    """Raises DataError when the picture and its masks are of different sizes."""
    looked = picture.look()
    h, w = looked.image.pixels.shape[:2]
    for mask in looked.masks:
        if mask.shape != (h, w):
            raise DataError(
                f"{picture.name} is {h} x {w}, its annotations {mask.shape[0]} x {mask.shape[1]} (height x width); "
                "take the picture that was annotated"
            )
    return looked


def _key(index: int, thing: Thing) -> str | int:
    """A subject's name, or the place of a thing without one."""
    return index if thing.subject is None else thing.subject


def _united(
    masks: Sequence[Bool[np.ndarray, "_h _w"]], things: Sequence[Thing]
) -> dict[str | int, Bool[np.ndarray, "_h _w"]]:
    """``_key`` -> mask: the parts of a subject are one."""
    united: dict[str | int, Bool[np.ndarray, "_h _w"]] = {}
    for index, (mask, thing) in enumerate(zip(masks, things, strict=True)):
        key = _key(index, thing)
        united[key] = united[key] | mask if key in united else mask
    return united
