"""Where things stand beside each other, seen from the camera, and the words for it.

A relation holds with a margin, or clearly does not hold, or neither; texts are made only of the first two.

Knows: the geometry of the table.  Does not know: who the things are, texts of queries.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prisbench.tabletop.camera import Camera
from prisbench.tabletop.render import Placed
from prisbench.tabletop.things import shape

RELATIONS = ("left of", "right of", "in front of", "behind", "next to")
"""To a landmark."""
POSITIONS = ("leftmost", "rightmost", "nearest", "farthest", "middle")
"""Among copies; "middle" is that of three."""
MARGIN = 0.55
"""How far beyond a landmark a relation begins, in units of the table (a mug is 0.8 tall)."""
SLANT = 1.2
"""How much longer the way along the relation is than the way across it."""
COLUMNS, ROWS = 9.0, 5.0
"""How far apart the two must look in the picture, in pixels, beside or before each other."""
BESIDE = 0.40
"""Things "next to" each other leave at most this gap, in units; one that leaves twice as much is not next to it."""

PLACES = {
    "leftmost": "the leftmost {}",
    "rightmost": "the rightmost {}",
    "nearest": "the {} nearest to the camera",
    "farthest": "the {} farthest from the camera",
    "middle": "the {} in the middle",
}
"""A position as captions say it."""


@dataclass(frozen=True)
class Condition:
    """What a text says of a place: a relation to ``landmark`` (an index of the scene's things), or a position."""

    word: str
    landmark: int | None = None


def _column(camera: Camera, p: Placed) -> float:
    return camera.project(p.x, p.y, 0.3)[1]


def _row(camera: Camera, p: Placed) -> float:
    return camera.project(p.x, p.y, 0.0)[0]


def stands_there(camera: Camera, condition: Condition, i: int, things: Sequence[Placed], rivals: Sequence[int]) -> bool:
    """Whether thing ``i`` stands where a condition points, beside the ``rivals``, without the margin of a text."""
    one, others = things[i], [things[n] for n in rivals if n != i]
    if condition.landmark is not None:
        b = things[condition.landmark]
        return _side(camera, condition.word, one, b) > 0 and holds(camera, condition.word, one, b) is not False
    if condition.word == "middle":
        return at(camera, "middle", one, others) is not False
    way = {"leftmost": "left of", "rightmost": "right of", "nearest": "in front of", "farthest": "behind"}[
        condition.word
    ]
    return all(_side(camera, way, one, p) > 0 for p in others)


def _side(camera: Camera, word: str, a: Placed, b: Placed) -> float:
    """How far ``a`` is on that side of ``b``: pixels, or units for depth."""
    if word in ("left of", "right of"):
        return (_column(camera, a) - _column(camera, b)) * (-1.0 if word == "left of" else 1.0)
    return (a.y - b.y) * (-1.0 if word == "in front of" else 1.0)


def _beyond(along: float, across: float, seen: float, least: float) -> bool | None:
    """Whether something lies clearly on the side; clearly not; or neither."""
    if along >= MARGIN and along >= SLANT * abs(across) and seen >= least:
        return True
    if along <= 0.1 or abs(across) >= 2.0 * along:
        return False
    return None


def holds(camera: Camera, word: str, a: Placed, b: Placed) -> bool | None:
    """Whether ``a`` stands so to ``b``; None where neither is clear."""
    dx, dy = a.x - b.x, a.y - b.y
    right, lower = _column(camera, a) - _column(camera, b), _row(camera, a) - _row(camera, b)
    if word == "left of":
        return _beyond(-dx, dy, -right, COLUMNS)
    if word == "right of":
        return _beyond(dx, dy, right, COLUMNS)
    if word == "in front of":
        return _beyond(-dy, dx, lower, ROWS)
    if word == "behind":
        return _beyond(dy, dx, -lower, ROWS)
    gap = (dx * dx + dy * dy) ** 0.5 - shape(a.individual).reach - shape(b.individual).reach
    return True if gap <= BESIDE else False if gap >= 2 * BESIDE else None


def relation(camera: Camera, a: Placed, b: Placed) -> str | None:
    """One of the first four ``RELATIONS`` that holds, else "next to" where that does; None where none is clear."""
    return next((word for word in RELATIONS if holds(camera, word, a, b)), None)


def at(camera: Camera, word: str, one: Placed, others: Sequence[Placed]) -> bool | None:
    """Whether ``one`` has the position among the others; None where it is not clear."""
    if word == "middle":
        if len(others) != 2:
            return False
        left, right = (at(camera, side, one, others) for side in ("leftmost", "rightmost"))
        if left or right:
            return False
        low, high = sorted(_column(camera, p) for p in others)
        mine = _column(camera, one)
        return True if low + COLUMNS <= mine <= high - COLUMNS else None
    if word in ("leftmost", "rightmost"):
        sign = -1.0 if word == "leftmost" else 1.0
        gaps = [sign * (_column(camera, one) - _column(camera, p)) for p in others]
        least = COLUMNS
    else:
        sign = -1.0 if word == "nearest" else 1.0
        gaps = [sign * (one.y - p.y) for p in others]
        least = MARGIN
    if all(gap >= least for gap in gaps):
        return True
    return False if any(gap <= -least for gap in gaps) else None


def judge(camera: Camera, condition: Condition, i: int, things: Sequence[Placed], rivals: Sequence[int]) -> bool | None:
    """Whether thing ``i`` meets a condition; a position is one among the ``rivals`` (indices, ``i`` may be in them)."""
    if condition.landmark is not None:
        return holds(camera, condition.word, things[i], things[condition.landmark])
    return at(camera, condition.word, things[i], [things[n] for n in rivals if n != i])


def place_among(camera: Camera, i: int, copies: Sequence[tuple[int, Placed]], rng: random.Random) -> str | None:
    """A position that thing ``i`` has among copies, by lot where it has several."""
    others = [p for n, p in copies if n != i]
    one: Mapping[int, Placed] = dict(copies)
    found = [word for word in POSITIONS if at(camera, word, one[i], others)]
    return found[int(rng.random() * len(found))] if found else None
