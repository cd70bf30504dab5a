"""Tabletop as the two tables of a dataset.

Knows: how subjects and queries become rows.  Does not know: how scenes are composed or drawn (``prisbench.tabletop``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.tabletop import scenes


def rows(
    counts: dict[str, int] | None = None,
    queries_each: dict[str, int] | None = None,
    seed: int = scenes.SEED,
    start: int = 0,
) -> tuple[list[SubjectRow], Iterator[QueryRow]]:
    """The two tables of a Tabletop set: subjects with their photos, and their queries, drawn one at a time.

    ``counts``: split -> subjects; ``queries_each``: query type -> queries a subject.  Defaults make ``tabletop-v2``.
    ``start``: queries to leave out at the beginning, which are not drawn.
    """
    cast_list = scenes.subjects(counts, seed)
    table = [
        SubjectRow(
            noun=s.who.noun,
            photos=tuple(scenes.reference_photo(s, i, seed) for i in range(scenes.PHOTOS)),
            split=s.split,
            licence=scenes.LICENCE,
            source=f"{scenes.SOURCE} seed {seed} {s.key}",
        )
        for s in cast_list
    ]

    def drawn() -> Iterator[QueryRow]:
        plan = (
            (subject, row, kind, index)
            for subject, row in zip(cast_list, table, strict=True)
            for kind, count in (queries_each or scenes.QUERIES).items()
            for index in range(count)
        )
        for subject, row, kind, index in itertools.islice(plan, start, None):
            query = scenes.query(subject, kind, index, seed)
            things, masks = query.scene.things, query.scene.masks
            blank = np.zeros(query.scene.image.shape[:2], bool)
            yield QueryRow(
                subject_id=row.id,
                noun=row.noun,
                image=query.scene.image,
                text=query.text,
                query_type=query.query_type,
                mask=blank if query.target is None else masks[query.target],
                look_alikes=tuple(
                    mask
                    for i, (thing, mask) in enumerate(zip(things, masks, strict=True))
                    if thing.individual.noun == row.noun and i != query.target
                ),
                split=row.split,
                licence=scenes.LICENCE,
                source=row.source,
            )

    return table, drawn()
