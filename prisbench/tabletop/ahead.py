"""Many scenes, drawn ahead by processes beside this one, one a free core: the same scenes in the same order.

Knows: groups, processes.  Does not know: how a scene is drawn, what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prisbench.runtime.workers import forked_processes, free_cores, in_order
from prisbench.tabletop import queries
from prisbench.tabletop.queries import Group
from prisbench.tabletop.scenes import Scene
from prisbench.tabletop.subjects import PHOTOS, TabletopSubject, reference_photo

MANY = 500
"""Scenes from which on several processes draw: most of a minute's work for one."""


def all_drawn(calls: Sequence[tuple[TabletopSubject, str, int, int]]) -> Iterator[Group]:
    """What ``queries.group`` makes of each call (subject, kind, index, seed), in their order."""
    workers = free_cores() if len(calls) >= MANY else 0
    with forked_processes(workers) as pool:
        yield from in_order(pool, queries.group, calls, 4 * workers)


def all_photos(cast: Sequence[TabletopSubject], seed: int) -> Iterator[list[Scene]]:
    """The reference photos of each subject, in their order."""
    workers = free_cores() if len(cast) * PHOTOS >= MANY / 2 else 0
    with forked_processes(workers) as pool:
        yield from in_order(pool, _photos, [(one, seed) for one in cast], 2 * workers)


def _photos(one: TabletopSubject, seed: int) -> list[Scene]:
    return [reference_photo(one, i, seed) for i in range(PHOTOS)]
