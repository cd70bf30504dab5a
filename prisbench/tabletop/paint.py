"""What points of a part reflect, and how much of the room they see.

Knows: paints, patterns, marks.  Does not know: scenes, where a thing stands.
"""

from __future__ import annotations

import numpy as np

from prisbench.tabletop.looks import COLOURS, Individual
from prisbench.tabletop.numbers import Plane, clip01, frac
from prisbench.tabletop.patterns import mark, second_colour
from prisbench.tabletop.solids import Disc, Frustum, Vector
from prisbench.tabletop.things import GLOW, LEAF, MAIN, PAPER, PATTERN, SECOND, SOIL, Part

_FIXED = {PAPER: (0.93, 0.90, 0.80), LEAF: (0.20, 0.50, 0.16), GLOW: (1.0, 0.94, 0.76), SOIL: (0.22, 0.15, 0.10)}


def paint(who: Individual, part: Part, turn: Plane, height: Plane) -> Plane:
    """What points of a part reflect: n 3."""
    colours = [_reflects(who.main, who.tint[0]), _reflects(who.second, who.tint[1])]
    if part.paint == PATTERN:
        high = height - np.float32(part.base)
        second = second_colour(who, turn, high, part.around, part.tall)
        rgb: Plane = np.where(second[:, None], colours[1], colours[0])
        if who.mark != "none":
            on, ink = mark(who, turn, high, part.around, part.tall)
            rgb = np.where(on[:, None], _reflects(who.mark_colour, 0.0), rgb)
            rgb = np.where(ink[:, None], rgb * np.float32(0.18), rgb)
        return np.asarray(rgb, np.float32)
    if part.paint in (MAIN, SECOND):
        return np.broadcast_to(colours[part.paint == SECOND], (len(turn), 3))
    fixed = np.asarray(_FIXED[part.paint], np.float32)
    base = fixed * fixed
    if part.paint == PAPER:
        lines = np.float32(0.82) + np.float32(0.18) * (frac(height * np.float32(24)) > np.float32(0.4))
        return (base * lines[:, None]).astype(np.float32)
    return np.broadcast_to(base * np.float32(1.25 if part.paint == GLOW else 1.0), (len(turn), 3))


def _reflects(name: str, tint: float) -> Plane:
    c = np.asarray(COLOURS[name], np.float32)
    c = c * np.float32(1 + 0.10 * tint) + np.float32(0.012 * tint)
    return clip01(c * c + np.float32(0.004))


def gloss(who: Individual, part: Part) -> Plane:
    """How glazed a part is: 0.1 for paper, leaves, light and soil; else 0.12 .. 1."""
    return np.float32(0.1 if part.paint in _FIXED else 0.12 + 0.88 * who.gloss)


def inner_openness(part: Part, p: Vector) -> Plane:
    """Less light of the room near the table and inside of a vessel."""
    low = np.float32(0.60) + np.float32(0.40) * clip01(p.z * np.float32(3.5))
    solid = part.solid
    if isinstance(solid, Frustum) and solid.inside and part.paint != GLOW:
        deep = clip01((p.z - np.float32(part.base)) * np.float32(1 / max(part.tall, 0.05)))
        return low * (np.float32(0.30) + np.float32(0.65) * deep)
    if isinstance(solid, Disc) and part.paint == SECOND and solid.z < 0.8 and solid.inner == 0:
        return low * np.float32(0.35)
    return low
