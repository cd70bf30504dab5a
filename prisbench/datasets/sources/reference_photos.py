"""A subject's reference photos: which of its frames they are, and the cut to its box.

Knows: frames that are evenly spread, or apart from each other; boxes.  Does not know: any layout, files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, UInt8

T = TypeVar("T")

MARGIN = 0.25
"""What ``cut_out`` keeps around a box, as a share of its sides."""


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
