"""Tabletop as the two tables of a dataset.

Knows: how subjects and queries become rows.  Does not know: how scenes are composed or drawn
(``prisbench.tabletop``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.tabletop.ahead import all_drawn, all_photos
from prisbench.tabletop.queries import GROUPS, VERSION, Asked, Group, plan, queries_of
from prisbench.tabletop.scenes import Scene
from prisbench.tabletop.subjects import SEED, SPLITS, TabletopSubject, photo_mask, subjects
from prisbench.types import GRADES, Thing

LICENCE = "CC0-1.0"
SOURCE = f"prisbench tabletop {VERSION}"


@dataclass(frozen=True)
class Size:
    """How large a set is: split -> subjects, and kind of scene (``queries.GROUPS``) -> scenes a subject."""

    subjects: Mapping[str, int] = field(default_factory=lambda: dict(SPLITS))
    groups: Mapping[str, int] = field(default_factory=lambda: dict(GROUPS))

    @property
    def queries_each(self) -> int:
        """Queries about a subject."""
        return sum(queries_of(kind) * count for kind, count in self.groups.items())


BENCHMARK = Size()
SMALL = Size(
    {"validation": 2, "test": 2},
    {kind: max(1, count // 2) for kind, count in GROUPS.items()},
)
"""The configuration ``small``, for a demonstration: a part of the benchmark's subjects and scenes."""
SIZES: Mapping[str, Size] = {"full": BENCHMARK, "small": SMALL}


def rows(size: Size = BENCHMARK, seed: int = SEED, start: int = 0) -> tuple[list[SubjectRow], Iterator[QueryRow]]:
    """The two tables of a Tabletop set: subjects with their photos and masks, and their queries; a scene is drawn when
    it is wanted, and in a large set some are drawn ahead by processes beside this one.  ``start``: queries to leave out
    at the beginning; only a scene that is cut in two is drawn for nothing.
    """
    cast = subjects(size.subjects, seed)
    table = [_subject(one, photos, seed) for one, photos in zip(cast, all_photos(cast, seed), strict=True)]
    return table, _queries(list(zip(cast, table, strict=True)), size, seed, start)


def _subject(one: TabletopSubject, photos: list[Scene], seed: int) -> SubjectRow:
    return SubjectRow(
        noun=one.who.noun,
        photos=tuple(scene.image for scene in photos),
        split=one.split,
        licence=LICENCE,
        source=f"{SOURCE} seed {seed} {one.key}",
        masks=tuple(scene.masks[photo_mask(one, scene)] for scene in photos),
    )


def _queries(about: list[tuple[TabletopSubject, SubjectRow]], size: Size, seed: int, start: int) -> Iterator[QueryRow]:
    wanted: list[tuple[TabletopSubject, SubjectRow, str, int]] = []
    skipped = start
    for subject, row in about:
        for kind, index in plan(size.groups):
            if not wanted and skipped >= queries_of(kind):
                skipped -= queries_of(kind)
            else:
                wanted.append((subject, row, kind, index))
    calls = [(subject, kind, index, seed) for subject, _, kind, index in wanted]
    for (_, row, _, _), found in zip(wanted, all_drawn(calls), strict=True):
        yield from [_row(found, asked, row) for asked in found.asked][skipped:]
        skipped = 0


def _row(found: Group, asked: Asked, row: SubjectRow) -> QueryRow:
    scene, blank = found.scene, np.zeros(found.scene.image.shape[:2], bool)
    things = tuple(_thing(found, asked, i) for i in range(len(scene.things)))
    paired = len(found.asked) > 1
    return QueryRow(
        subject_id=row.id,
        noun=row.noun,
        image=scene.image,
        text=asked.text,
        query_type=asked.query_type,
        mask=blank if asked.meant is None else scene.masks[asked.meant],
        look_alikes=tuple(thing.mask for thing in things if thing.role == "look-alike"),
        split=row.split,
        licence=LICENCE,
        source=row.source,
        things=things,
        meant=asked.meant,
        pair_id=f"{found.subject.key}/{found.subset}/{found.index}" if paired else None,
    )


def _thing(found: Group, asked: Asked, i: int) -> Thing:
    """Thing ``i`` of a scene as a query sees it; a copy of the subject that is not meant is a look-alike."""
    role, mask, noun = found.roles[i], found.scene.masks[i], found.scene.things[i].individual.noun
    if role == "subject" or i == asked.meant:
        return Thing(mask, noun, "subject")
    if role in (*GRADES, "compound"):  # a compound differs in two respects and has no grade of its own
        return Thing(mask, noun, "look-alike", role if role in GRADES else None)
    return Thing(mask, noun, "landmark" if i in asked.landmarks else "other")
