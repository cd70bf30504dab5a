"""From a public set's records to rows: its folder found, ids remembered, frames cut, the n-th query without the others.

Here whether a record is a query shows only when its mask is read; ``planned`` is for sets whose lists say so.

Knows: what the readers of public sets have in common.  Does not know: any layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.sources.reading import folders
from prisbench.errors import DataError

T = TypeVar("T")

PHOTOS = frozenset({".jpg", ".jpeg", ".png"})
"""What public sets store photos as, in small letters."""

MARGIN = 0.25
"""What ``cut_out`` keeps around a box, as a share of its sides."""

Candidate = str | Callable[[], QueryRow]
"""A query that can be had, not read yet; or why a record is no query."""


def top(root: Path, wanted: Sequence[str], title: str, layout: str) -> Path:
    """The folder that holds all of ``wanted``: ``root``, or the one folder in it that does, as archives wrap them.

    Raises DataError, showing the layout, when there is none.
    """
    for folder in (root, *folders(root)):
        if all((folder / name).exists() for name in wanted):
            return folder
    shown = "; ".join(line.strip() for line in layout.strip().splitlines())
    raise DataError(f"{root} is not laid out as {title} is: it wants {' and '.join(wanted)} ({shown})")


class Subjects(NamedTuple):
    """``rows`` reads and gives the subjects; ``id_of`` knows a subject's id, reading it only when nobody did."""

    rows: Callable[[], Iterator[SubjectRow]]
    id_of: Callable[[str], str]


def subjects_of(names: Sequence[str], read: Callable[[str], SubjectRow]) -> Subjects:
    """The subjects of these names, in this order; of each that was read the id is kept, nothing else."""
    ids: dict[str, str] = {}

    def rows() -> Iterator[SubjectRow]:
        for name in names:
            row = read(name)
            ids[name] = row.id
            yield row

    def id_of(name: str) -> str:
        if name not in ids:
            ids[name] = read(name).id
        return ids[name]

    return Subjects(rows, id_of)


def from_nth(start: int, candidates: Iterable[Candidate], left_out: Counter[str]) -> Iterator[QueryRow]:
    """The queries from the ``start``-th on, counting only those that can be had.

    Reasons are counted from there on, so that a build that goes on counts each once.
    """
    n = 0
    for candidate in candidates:
        if isinstance(candidate, str):
            if n >= start:
                left_out[candidate] += 1
            continue
        n += 1
        if n > start:
            yield candidate()


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of the items, spread from the first to the last."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[0]]
    return [items[i * (len(items) - 1) // (count - 1)] for i in range(count)]


def spread(groups: Sequence[Sequence[T]], count: int) -> list[T]:
    """At most ``count`` of the items: as many of each group as there are, evenly within it; in the groups' order."""
    quotas = [0] * len(groups)
    while sum(quotas) < count and any(quota < len(group) for quota, group in zip(quotas, groups, strict=True)):
        for n, group in enumerate(groups):
            if quotas[n] < len(group) and sum(quotas) < count:
                quotas[n] += 1
    return [item for quota, group in zip(quotas, groups, strict=True) for item in evenly(group, quota)]


def apart(frames: Iterable[T], number: Callable[[T], int], distance: int) -> list[T]:
    """The first frame and, in their order, each that is ``distance`` or more after the one taken before it.

    Neighbouring frames of a video are nearly copies of each other.
    """
    taken: list[T] = []
    for frame in frames:
        if not taken or number(frame) - number(taken[-1]) >= distance:
            taken.append(frame)
    return taken


class Shot(NamedTuple):
    """A reference photo, the subject's mask in it, and its file when it is shown as it is."""

    photo: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    file: bytes | None


class Cut(NamedTuple):
    """A part of a photo and of its mask."""

    photo: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]


def cut_out(photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], margin: float = MARGIN) -> Cut:
    """The box of a mask that is not empty, with ``margin`` of its sides added on each, as far as the photo goes.

    A frame full of things does not say which of them is meant to a learner that looks at photos alone.
    """
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    more_y, more_x = (int(margin * (line[-1] - line[0] + 1)) for line in (y, x))
    rows = slice(max(0, int(y[0]) - more_y), int(y[-1]) + 1 + more_y)
    columns = slice(max(0, int(x[0]) - more_x), int(x[-1]) + 1 + more_x)
    return Cut(np.ascontiguousarray(photo[rows, columns]), np.ascontiguousarray(mask[rows, columns]))
