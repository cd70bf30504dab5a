"""How things stand to each other in the plane of a picture, by their masks: clearly so, or not said at all.

A photo's mask says nothing of depth.  So there is no "in front of" and no "behind", and "above" means higher up in the
picture.  Each answer needs a margin, stated here in shares of the things' sizes; the margins are ours, chosen so that
a person who looks at the picture would not hesitate.

Knows: masks, boxes, gaps.  Does not know: nouns, texts, which thing is the subject.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
"""A side -> the one that is false where it is true."""

SLOPE = 1.5
"""A thing is on one side of another when the centres lie so many times farther apart along it than across it."""

APART = 0.5
"""The centres lie so many times the mean of the two lengths apart along the side, or more."""

SHARED = 0.25
"""Along the side the two boxes overlap by so much of the shorter one at most."""

NEAR = 0.25
"""Neighbours have a gap of so much of the smaller one's size at most; the size is the root of the box's area."""

NEARER = 0.1
"""Every further thing is so much of the smaller one's size farther away than a neighbour, or more."""

LEVEL = 0.5
"""Neighbours stand on one level: their boxes share so much of the height of the lower one, or more."""

BENT = 0.35
"""The middle one of three lies so much of the outer ones' distance off the line between them, at most."""

_GRID = 512
"""Gaps are measured on masks of this length at most: wrong by less than 1/256 of the frame's longer side."""


class Place(NamedTuple):
    """Where a thing is.  The box in pixels, bottom and right outside; the centre of its mask's pixels; ``edge``: y and
    x of the pixels of its outline, coarser in large frames.
    """

    top: int
    left: int
    bottom: int
    right: int
    y: float
    x: float
    edge: Float[np.ndarray, "n 2"]

    @property
    def size(self) -> float:
        """The root of the box's area, pixels."""
        return math.sqrt((self.bottom - self.top) * (self.right - self.left))


def place_of(mask: Bool[np.ndarray, "h w"]) -> Place:
    """Raises ValueError for an empty mask, which is nowhere."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("an empty mask has no place")
    top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    y, x = np.nonzero(mask[top:bottom, left:right])
    block = -(-max(mask.shape) // _GRID)
    first = top - top % block, left - left % block
    edge = np.array(first) + block * _edge(mask[first[0] : bottom, first[1] : right], block)
    return Place(top, left, bottom, right, top + float(y.mean()) + 0.5, left + float(x.mean()) + 0.5, edge)


def side(thing: Place, other: Place) -> str | None:
    """On which side of the other the thing is: "left", "right", "above", "below"; None where none is clear."""
    dy, dx = thing.y - other.y, thing.x - other.x
    if _clear(dx, dy, (thing.left, thing.right), (other.left, other.right)):
        return "left" if dx < 0 else "right"
    if _clear(dy, dx, (thing.top, thing.bottom), (other.top, other.bottom)):
        return "above" if dy < 0 else "below"
    return None


def gap(thing: Place, other: Place) -> float:
    """Pixels between the outlines of two things, 0 where these touch or cross."""
    nearest = math.inf
    for start in range(0, len(thing.edge), 256):
        apart = thing.edge[start : start + 256, None] - other.edge[None]
        nearest = min(nearest, float((apart**2).sum(axis=2).min()))
    return max(0.0, math.sqrt(nearest) - 1)


def next_to(thing: Place, other: Place, further: Sequence[Place]) -> bool:
    """Whether two things are clearly neighbours: side by side on one level, with a small gap, and nothing else among
    ``further`` as near to the thing.
    """
    smaller = min(thing.size, other.size)
    across = _shared((thing.left, thing.right), (other.left, other.right))
    level = _shared((thing.top, thing.bottom), (other.top, other.bottom))
    if across > SHARED or level < LEVEL or (between := gap(thing, other)) > NEAR * smaller:
        return False
    return all(gap(thing, each) >= between + NEARER * smaller for each in further)


def far(thing: Place, other: Place) -> bool:
    """Whether two things are clearly no neighbours: the larger one would fit into the gap."""
    return gap(thing, other) >= max(thing.size, other.size)


def outermost(things: Sequence[Place]) -> dict[str, int]:
    """ "leftmost" and "rightmost" of two or more, and "middle" of three -> the number of the thing that clearly is it;
    what is not clear is not there.
    """
    if len(things) < 2:
        return {}
    order = sorted(range(len(things)), key=lambda n: things[n].x)
    first, second, last = (things[order[n]] for n in (0, 1, -1))
    found = {}
    if all(_beside(first, each) for each in things if each is not first):
        found["leftmost"] = order[0]
    if all(_beside(each, last) for each in things if each is not last):
        found["rightmost"] = order[-1]
    if len(things) == 3 and len(found) == 2 and _on_the_line(first, second, last):
        found["middle"] = order[1]
    return found


def _beside(thing: Place, other: Place) -> bool:
    """Whether a thing is clearly farther to the left, however high."""
    return _clear(thing.x - other.x, 0.0, (thing.left, thing.right), (other.left, other.right)) and thing.x < other.x


def _on_the_line(first: Place, middle: Place, last: Place) -> bool:
    dy, dx = last.y - first.y, last.x - first.x
    across = abs(dx * (middle.y - first.y) - dy * (middle.x - first.x))
    return across <= BENT * (dx**2 + dy**2)


def _clear(along: float, across: float, span: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether a thing is clearly on one side of another along an axis, by the centres' distances and the spans."""
    mean = (span[1] - span[0] + other[1] - other[0]) / 2
    return abs(along) >= max(SLOPE * abs(across), APART * mean) and _shared(span, other) <= SHARED


def _shared(span: tuple[int, int], other: tuple[int, int]) -> float:
    """What two spans have in common, as a share of the shorter one."""
    common = min(span[1], other[1]) - max(span[0], other[0])
    return max(0, common) / min(span[1] - span[0], other[1] - other[0])


def _edge(mask: Bool[np.ndarray, "h w"], block: int) -> Float[np.ndarray, "n 2"]:
    """Row and column of the outline's squares of so many pixels a side, each one that holds any of the mask."""
    h, w = mask.shape
    padded = np.pad(mask, ((0, -h % block), (0, -w % block)))
    coarse = padded.reshape(len(padded) // block, block, -1, block).any(axis=(1, 3))
    framed = np.pad(coarse, 1)
    inside = framed[1:-1, 1:-1].copy()
    for axis, step in itertools.product((0, 1), (1, -1)):
        inside &= np.roll(framed, step, axis)[1:-1, 1:-1]
    return np.argwhere(coarse & ~inside).astype(np.float64)
