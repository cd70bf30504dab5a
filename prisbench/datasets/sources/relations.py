"""Queries that say where the subject stands, made from the masks of a scene that was asked about anyway.

Three types, each text held to the masks (``places``):

- "relation": the subject, which is there once, stands so to a landmark, and no look-alike does.  A landmark is a thing
  of another noun, which fits no further thing of the scene.
- "contradicted": the partner of each of these.  It differs in one phrase, the side or the landmark, and is clearly
  false of the subject; a look-alike may stand so, since a text speaks of the subject.
- "referred": the scene holds copies of the subject (look-alikes of grade "copy"), and two texts that differ in one
  phrase mean two of them: by where they are among all things of the noun, or by how they stand to a landmark.

Among look-alikes that are no copies there is no "referred" query: a text with the subject's own words means the subject
whatever it says else, so its partner would mean nothing, which is "contradicted".  Where there are copies no text is
"contradicted".

Validation and test are worded differently, so that no method is tuned to the words it is tested with.

Knows: nouns, roles, texts, pairs.  Does not know: where masks come from, files.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import NamedTuple

import numpy as np

from prisbench.datasets.schema import QueryRow
from prisbench.datasets.sources.places import OPPOSITE, Place, far, next_to, outermost, place_of, side
from prisbench.datasets.sources.plan import Candidate, IdOf
from prisbench.images.masks import mask_sha256
from prisbench.types import Thing

MOST_PAIRS = 2
"""Pairs about one subject in one scene, of different kinds where there are such."""

LEAST_SHARE = 0.002
"""A thing that a text means or names shows so much of the scene (614 pixels of 640 x 480), or more."""

PHRASES = {
    "validation": {
        "left": "the {subject} left of the {landmark}",
        "right": "the {subject} right of the {landmark}",
        "above": "the {subject} above the {landmark}",
        "below": "the {subject} below the {landmark}",
        "next": "the {subject} next to the {landmark}",
        "leftmost": "the leftmost {subject}",
        "rightmost": "the rightmost {subject}",
        "middle": "the {subject} in the middle",
    },
    "test": {
        "left": "the {subject} to the left of the {landmark}",
        "right": "the {subject} to the right of the {landmark}",
        "above": "the {subject} higher in the picture than the {landmark}",
        "below": "the {subject} lower in the picture than the {landmark}",
        "next": "the {subject} beside the {landmark}",
        "leftmost": "the {subject} farthest to the left",
        "rightmost": "the {subject} farthest to the right",
        "middle": "the {subject} between the other two",
    },
}
"""Split -> where -> text."""

_UNNAMED = "relations: scenes with a thing that nobody named, which may be what a landmark's noun says"
_NO_LANDMARK = "relations: subjects in scenes without a landmark"
_SEVERAL = "relations: things whose noun is no landmark's, since it fits the subject or several things"
_SMALL = f"relations: subjects and landmarks that show less than {LEAST_SHARE:.1%} of a scene".replace("%", " %")
_UNCLEAR = "relations: landmarks to which a subject stands in no clear way"
_ALIKE = "relations: pairs of which a look-alike may be meant, too"
_COPIES = "relations: landmarks that do not tell copies of a subject apart"
_IN_A_ROW = "relations: subjects and copies of which none is clearly leftmost, rightmost or in the middle"
_ASKED = "relations: pairs with a text that is asked about the scene anyway"
_MORE = f"relations: pairs beyond {MOST_PAIRS} about a subject in a scene"


COPIES = "queries with the common text about a scene with copies of the subject"
"""Why a query is left out that does not say which of the copies it means."""


class Statement(NamedTuple):
    """That one thing stands ``where`` (a key of ``PHRASES``); to the landmark, if one is named.  ``meant``: the place
    of the thing among the scene's, None where it is false of the subject.
    """

    where: str
    landmark: int | None
    meant: int | None


class Pair(NamedTuple):
    """Two statements that differ in one phrase.  ``kind``: what kind of relation, for variety."""

    kind: str
    first: Statement
    second: Statement


def related(
    candidates: Callable[[IdOf], Iterable[Candidate]], unclear: Collection[str] = ()
) -> Callable[[IdOf], Iterator[Candidate]]:
    """A set's candidates ``with_relations``."""
    return lambda id_of: (each for one in candidates(id_of) for each in with_relations(one, unclear))


def with_relations(
    candidate: Candidate, unclear: Collection[str] = (), asked: Collection[str] = ()
) -> Iterator[Candidate]:
    """A candidate and, after it, the queries that its scene allows to be made of it, or why there are none.

    The candidate's query is read to know how many there are, also when an earlier build has written it.  ``unclear``:
    nouns that are no landmark's, since further things of them may be there.  ``asked``: texts about this subject and
    scene that the source has itself.
    """
    if isinstance(candidate, str):
        yield candidate
        return
    read = cache(candidate)
    yield read
    for found in relational(read(), unclear, asked):
        yield found if isinstance(found, str) else partial(_itself, found)


def relational(row: QueryRow, unclear: Collection[str] = (), asked: Collection[str] = ()) -> list[QueryRow | str]:
    """The queries that follow from a row's things, partners together; and a text for each thing or pair left out.

    Nothing at all where the subject is not there.  The same for any order of things.
    """
    scene = _Scene(row, frozenset(map(_head, unclear)))
    if scene.subject is None:
        return []
    left_out: Counter[str] = Counter()
    pairs = []
    for pair in _referred(scene, left_out) if scene.copies else _told(scene, left_out):
        texts = {scene.text(pair.first), scene.text(pair.second)}
        if texts & set(asked):
            left_out[_ASKED] += 1
        else:
            pairs.append(pair)
    taken = _varied(scene, pairs)[:MOST_PAIRS]
    left_out[_MORE] += len(pairs) - len(taken)
    rows = [scene.row_of(statement, pair) for pair in taken for statement in (pair.first, pair.second)]
    return [*rows, *sorted(left_out.elements())]


def _itself(row: QueryRow) -> QueryRow:
    return row


def _head(noun: str) -> str:
    """What a noun is at least: a dining table is a table."""
    words = noun.casefold().split()
    return words[-1] if words else ""


@dataclass(frozen=True)
class _Scene:
    """A row's things, in an order that follows from what they are."""

    row: QueryRow
    unclear: frozenset[str]

    @cached_property
    def things(self) -> tuple[Thing, ...]:
        def order(thing: Thing) -> tuple[str, str, str, str]:
            return thing.role, thing.noun or "", thing.grade or "", mask_sha256(thing.mask)

        return tuple(sorted(self.row.all_things, key=order))

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return tuple(place_of(thing.mask) for thing in self.things)

    @cached_property
    def subject(self) -> int | None:
        return next(iter(self._of("subject")), None)

    @cached_property
    def alike(self) -> list[int]:
        """The subject's look-alikes, copies too."""
        return self._of("look-alike")

    @cached_property
    def copies(self) -> list[int]:
        return [n for n in self.alike if self.things[n].grade == "copy"]

    def _of(self, role: str) -> list[int]:
        return [n for n, thing in enumerate(self.things) if thing.role == role]

    def shows(self, n: int) -> bool:
        """Whether enough of a thing is seen to speak of it."""
        return float(self.things[n].mask.mean()) >= LEAST_SHARE

    def landmarks(self, left_out: Counter[str]) -> list[int]:
        """The things that a text may name."""
        others = [n for n, thing in enumerate(self.things) if thing.role not in ("subject", "look-alike")]
        heads = Counter(_head(thing.noun or "") for thing in self.things)
        if heads[""]:
            left_out[_UNNAMED] += 1
            return []
        found = []
        for n in others:
            head = _head(self.things[n].noun or "")
            if heads[head] > 1 or head in self.unclear:
                left_out[_SEVERAL] += 1
            elif not self.shows(n):
                left_out[_SMALL] += 1
            else:
                found.append(n)
        if not found:
            left_out[_NO_LANDMARK] += 1
        return found

    def neighbours(self, n: int, landmark: int) -> bool:
        """Whether a thing is next to a landmark, which is nearer than all others."""
        further = [place for k, place in enumerate(self.places) if k not in (n, landmark)]
        return next_to(self.places[n], self.places[landmark], further)

    def text(self, statement: Statement) -> str:
        named = "" if statement.landmark is None else self.things[statement.landmark].noun or ""
        return PHRASES[self.row.split][statement.where].replace("{landmark}", named)

    def lot(self, *words: str) -> str:
        """A number by which this scene's choices are made: the same whatever else the set holds."""
        return hashlib.sha256("\n".join((self.row.subject_id, self.row.image_id, *words)).encode()).hexdigest()

    def row_of(self, statement: Statement, pair: Pair) -> QueryRow:
        """The query of a statement."""
        texts = [self.text(pair.first), self.text(pair.second)]
        meant = statement.meant
        things = tuple(self._thing(n, statement) for n in range(len(self.things)))
        kind = "contradicted" if meant is None else "referred" if self.copies else "relation"
        return replace(
            self.row,
            text=self.text(statement),
            query_type=kind,
            mask=np.zeros(self.row.image.shape[:2], dtype=bool) if meant is None else things[meant].mask,
            look_alikes=tuple(thing.mask for thing in things if thing.role == "look-alike"),
            things=things,
            meant=meant,
            pair_id=self.lot(*texts)[:16],
        )

    def _thing(self, n: int, statement: Statement) -> Thing:
        """What a thing is to a statement: the copy that is meant is the subject, the others are look-alikes."""
        thing = self.things[n]
        if n == statement.landmark:
            return replace(thing, role="landmark")
        if thing.role == "landmark":
            return replace(thing, role="other")
        if statement.meant is None or not (thing.role == "subject" or n in self.copies):
            return thing
        role, grade = ("subject", None) if n == statement.meant else ("look-alike", "copy")
        return replace(thing, role=role, grade=grade)


def _told(scene: _Scene, left_out: Counter[str]) -> Iterator[Pair]:
    """A true statement about a subject that is there once, and a false one."""
    subject = scene.subject
    if subject is None:
        return
    if not scene.shows(subject):
        left_out[_SMALL] += 1
        return
    landmarks = scene.landmarks(left_out)
    for landmark in landmarks:
        where = side(scene.places[subject], scene.places[landmark])
        remote = [n for n in landmarks if far(scene.places[subject], scene.places[n])]
        near = bool(remote) and scene.neighbours(subject, landmark)
        if where is None and not near:
            left_out[_UNCLEAR] += 1
        if where is not None:
            stands = {side(scene.places[n], scene.places[landmark]) for n in scene.alike}
            if None in stands or where in stands:
                left_out[_ALIKE] += 1
            else:
                false = Statement(OPPOSITE[where], landmark, None)
                yield Pair(_kind(where), Statement(where, landmark, subject), false)
        if near:
            if all(far(scene.places[n], scene.places[landmark]) for n in scene.alike):
                away = min(remote, key=lambda n: scene.lot("away", scene.things[n].noun or ""))
                yield Pair("next", Statement("next", landmark, subject), Statement("next", away, None))
            else:
                left_out[_ALIKE] += 1


def _referred(scene: _Scene, left_out: Counter[str]) -> Iterator[Pair]:
    """Two statements that mean two of the copies of a subject."""
    subject = scene.subject
    if subject is None:
        return
    kin, copies = [subject, *scene.alike], {subject, *scene.copies}
    if not all(map(scene.shows, copies)):
        left_out[_SMALL] += 1
        return
    in_a_row = outermost([scene.places[n] for n in kin])
    statements = [Statement(where, None, kin[n]) for where, n in in_a_row.items() if kin[n] in copies]
    yield from _drawn(scene, "row", statements, left_out, _IN_A_ROW)
    near = []
    for landmark in scene.landmarks(left_out):
        stands = {n: side(scene.places[n], scene.places[landmark]) for n in kin}
        told = Counter(stands.values())
        there = {n: where for n, where in stands.items() if where is not None and told[where] == 1 and n in copies}
        statements = [Statement(where, landmark, n) for n, where in there.items()] if not told[None] else []
        yield from _drawn(scene, "side", statements, left_out, _COPIES)
        beside = [n for n in copies if scene.neighbours(n, landmark)]
        if len(beside) == 1 and all(far(scene.places[n], scene.places[landmark]) for n in kin if n != beside[0]):
            near.append(Statement("next", landmark, beside[0]))
    if near:
        yield from _drawn(scene, "next", near, left_out, _COPIES)


def _drawn(
    scene: _Scene, kind: str, statements: Sequence[Statement], left_out: Counter[str], why_not: str
) -> Iterator[Pair]:
    """One pair of statements, each about another thing, where there are two; else the reason is counted."""
    pairs = list(itertools.combinations(statements, 2))
    if not pairs:
        left_out[why_not] += 1
        return
    first, second = min(pairs, key=lambda pair: scene.lot(*map(scene.text, pair)))
    yield Pair(_kind(first.where) if kind == "side" else kind, first, second)


def _kind(where: str) -> str:
    return "level" if where in ("left", "right") else "upright"


def _varied(scene: _Scene, pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs in the order in which they are taken: one of each kind before a second of any, else by lot."""

    def lot(pair: Pair) -> str:
        return scene.lot(scene.text(pair.first), scene.text(pair.second))

    rank: Counter[str] = Counter()
    ranked = []
    for pair in sorted(pairs, key=lot):
        ranked.append((rank[pair.kind], lot(pair), pair))
        rank[pair.kind] += 1
    return [pair for _, _, pair in sorted(ranked, key=lambda each: each[:2])]
