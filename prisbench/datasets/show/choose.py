"""Which queries of a dataset are shown, and what is read of them.

Knows: how a choice spreads over subjects and query types, how large pictures may be together.  Does not know: how
pictures are outlined (``picture``) and laid out (``sheet``, ``page``).

Reads only the rows it chooses, so a large dataset is looked at as fast as a small one.  All pictures together are
shrunk to ``PIXELS``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.datasets.load import SUBSET, Dataset
from prisbench.datasets.show.picture import GRADED, Beside, OutlinedPicture, beside, draw, shown
from prisbench.datasets.subject_names import title
from prisbench.datasets.things import things_of
from prisbench.errors import DataError
from prisbench.images.masks import from_rle
from prisbench.images.photos import decode_photo
from prisbench.subsets import is_within
from prisbench.types import QUERY_TYPES

SCENES = 6
"""Of a subject, as long as there are subjects enough: one of each query type where it has them, a pair being one."""

PHOTOS = 9
"""Reference photos of a subject that are shown."""

PIXELS = 16_000_000
"""In all pictures of a page, about.  Of a photo, WebP takes 0.1 to 0.3 bytes a pixel, of pure noise 1.1; outlines take
0.02, of a mask of noise 0.3; a third more in a page."""

LARGEST, SMALLEST = 480, 64
"""Long side of a picture, between: what a sharp screen shows of it, and what can still be recognised."""


@dataclass(frozen=True, eq=False)
class ShownQuery:
    """A query to show.  ``pair_id`` is what it shares with its partner, "" without one."""

    id: str
    text: str
    query_type: str
    origin: str
    picture: OutlinedPicture
    pair_id: str = ""


@dataclass(frozen=True, eq=False)
class Block:
    """A subject to show, with its queries; ``photos`` are the first ``PHOTOS`` of ``n_photos``.  ``title``: its name
    and its id.
    """

    title: str
    noun: str
    origin: str
    n_photos: int
    photos: tuple[OutlinedPicture, ...]
    queries: tuple[ShownQuery, ...]


class Totals(NamedTuple):
    """What could have been shown."""

    queries: int
    subjects: int


def blocks(
    dataset: Dataset, split: str, limit: int, subset: str | None, subject: str | None
) -> tuple[list[Block], Totals]:
    """The subjects to show, with their queries, and how many there were to choose from.

    Raises UnknownNameError for a subject; DataError for a choice that leaves nothing and for a damaged row.
    """
    if subject is not None:
        (subject,) = dataset.find_subjects([subject], split)
    places = list(dataset.places("queries", split, ("subject_id", SUBSET, "pair_id")))
    wanted = [place for place in places if subject in (None, place.keys[0]) and is_within(subset, place.keys[1])]
    people = {place.keys[0]: place for place in dataset.places("subjects", split, ("id",))}
    if not wanted:
        what = " and ".join([f"of the subset {subset}"] * (subset is not None) + [f"about {subject}"] * bool(subject))
        raise DataError(f"{dataset.id} has no queries {what} in its {split} split; leave out --subset or --subject")
    kinds = [(place.keys[0], place.keys[1].partition(":")[0]) for place in wanted]
    chosen = choose(kinds, limit, [place.keys[2] for place in wanted])
    taken = [wanted[i] for i in chosen]
    owners = list(dict.fromkeys(place.keys[0] for place in taken))
    for owner in owners:
        if owner not in people:
            raise DataError(f"{dataset.folder}: queries are about {owner!r}, which is not among the subjects")

    side = _side(len(taken) + PHOTOS * len(owners))
    queries: dict[str, list[ShownQuery]] = defaultdict(list)
    for place, record in dataset.records_at("queries", taken):
        queries[place.keys[0]].append(_query(record, place.path, side))
    names = dataset.subject_names(split)
    shown_subjects = [
        _block(record, names[record["id"]], place.path, side, queries[place.keys[0]])
        for place, record in dataset.records_at("subjects", [people[owner] for owner in owners])
    ]
    return shown_subjects, Totals(len(wanted), len({place.keys[0] for place in wanted}))


def choose(queries: Sequence[tuple[str, str]], limit: int, pair_ids: Sequence[str] = ()) -> list[int]:
    """At most ``limit`` of the queries, by index: subject after subject, its types taking turns.

    ``queries`` are (subject, query type); those with the same of ``pair_ids`` come together, "" is none.  Subjects
    stand evenly apart, as many as give ``SCENES`` each, and share the limit alike; more of them come in where these
    have too few.
    """
    of_subject: dict[str, list[int]] = defaultdict(list)
    for i, (subject, _) in enumerate(queries):
        of_subject[subject].append(i)
    turns = (_by_turns(indices, [queries[i][1] for i in indices]) for indices in of_subject.values())
    groups = [_together(order, [pair_ids[i] if pair_ids else "" for i in order]) for order in turns]

    def spread(n: int) -> list[list[list[int]]]:
        return [groups[i * len(groups) // n] for i in range(n)]

    def holds(n: int) -> int:
        return sum(len(scene) for group in spread(n) for scene in group[:SCENES])

    n = min(len(groups), math.ceil(limit / SCENES))
    if n < len(groups) and min(map(len, spread(n))) < SCENES:
        while n < len(groups) and holds(n) < limit:
            n += 1
        n = len(groups) if 2 * len(groups) <= limit else n
    return _alike(spread(n), limit)


def _alike(groups: Sequence[list[list[int]]], limit: int) -> list[int]:
    """At most ``limit`` of what the groups hold, as many of each as can be, and subject after subject."""
    taken: list[list[int]] = [[] for _ in groups]
    waiting = [list(group) for group in groups]
    left = limit
    while left > 0 and any(waiting):
        n = min((n for n, group in enumerate(waiting) if group), key=lambda n: len(taken[n]))
        scene = waiting[n].pop(0)[:left]
        taken[n] += scene
        left -= len(scene)
    return [i for own in taken for i in own]


def side_by_side(queries: Sequence[ShownQuery]) -> list[list[ShownQuery]]:
    """The queries in their order, the two of a pair together."""
    places = _together(list(range(len(queries))), [query.pair_id for query in queries])
    return [[queries[i] for i in scene] for scene in places]


def _together(indices: Sequence[int], pair_ids: Sequence[str]) -> list[list[int]]:
    """Each index, with its partner where it has one; a pair stands where the first of it stood."""
    scenes: dict[str, list[int]] = {}
    for index, pair_id in zip(indices, pair_ids, strict=True):
        scenes.setdefault(f"pair {pair_id}" if pair_id else f"{index}", []).append(index)
    return list(scenes.values())


def _by_turns(indices: list[int], types: list[str]) -> list[int]:
    """The first of each type, then the second of each, and so on."""
    turn: dict[str, int] = defaultdict(int)
    keys = []
    for index, kind in zip(indices, types, strict=True):
        keys.append((turn[kind], QUERY_TYPES.index(kind) if kind in QUERY_TYPES else len(QUERY_TYPES), index))
        turn[kind] += 1
    return [index for *_, index in sorted(keys)]


def _side(pictures: int) -> int:
    """Long side of a picture when there are so many."""
    return max(SMALLEST, min(LARGEST, int((PIXELS / pictures) ** 0.5)))


def _query(record: dict[str, Any], path: Path, side: int) -> ShownQuery:
    where = f"{path}: query {record['id']}"
    image = decode_photo(record["image"]["bytes"] or b"", f"{where}: image")
    mask = from_rle(record["mask"], f"{where}: mask")
    return ShownQuery(
        id=shown(record["id"]),
        text=shown(record["text"]),
        query_type=shown(record["query_type"]),
        origin=shown(f"{record['licence']}; {record['source']}"),
        # of a contradicted query the subject is there, where the text does not say: its empty mask says nothing of it
        picture=draw(
            image, None if record["query_type"] == "contradicted" else mask, _beside(record, where), side, where
        ),
        pair_id=record.get("pair_id") or "",
    )


def _beside(record: dict[str, Any], where: str) -> list[Beside]:
    """What stands beside the thing that the text means, as far as it is known; of a file of schema version 2 the
    look-alikes.
    """
    things = things_of(record, where)
    if not things:
        masks = (from_rle(rle, f"{where}: look-alike {n}") for n, rle in enumerate(record["look_alikes"], 1))
        return [Beside(mask) for mask in masks]
    kinds = [beside(thing.role, thing.grade, n == record["meant"]) for n, thing in enumerate(things)]
    return [
        Beside(thing.mask, what, thing.grade if what in GRADED else None)
        for thing, what in zip(things, kinds, strict=True)
        if what is not None
    ]


def _block(record: dict[str, Any], name: str, path: Path, side: int, queries: list[ShownQuery]) -> Block:
    where = f"{path}: subject {record['id']}"
    photos = []
    masks = record["masks"] or [None] * len(record["photos"])
    for n, (photo, rle) in enumerate(list(zip(record["photos"], masks, strict=False))[:PHOTOS], 1):
        image = decode_photo((photo or {}).get("bytes") or b"", f"{where}: photo {n}")
        mask = None if rle is None else from_rle(rle, f"{where}: mask {n}")
        photos.append(draw(image, mask, [], side, where))
    return Block(
        title=shown(title(record["id"], name)),
        noun=shown(record["noun"]),
        origin=shown(f"{record['licence']}; {record['source']}"),
        n_photos=len(record["photos"]),
        photos=tuple(photos),
        queries=tuple(queries),
    )
