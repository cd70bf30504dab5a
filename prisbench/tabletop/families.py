"""Families: a thing that training may show, what is easily taken for it, and some scenes that hold them.

The scenes are made as the benchmark's are, with look-alikes, copies, colour twins, and tables in a thing's colours, but
of things of which training may show pattern and colours.  So no subject of the benchmark is in them, nor any of its
look-alikes.  The first two scenes of a family are as reference photos are.

Knows: individuals, how scenes are composed.  Does not know: subjects, queries, texts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from prisbench.tabletop.captions import WORLD
from prisbench.tabletop.individuals import (
    GRADES,
    both,
    colour_twin,
    draw_individual,
    has_look_alike,
    look_alikes,
    marked,
    pick,
)
from prisbench.tabletop.looks import Individual
from prisbench.tabletop.queries import SCALES
from prisbench.tabletop.scenes import Crowded, Plan, Scene, compose

VIEWS = 6
"""Scenes of a family."""

PHOTOS = 2
"""Of them, those that are as reference photos are."""

TRIALS = 40
"""How often the things of a scene are drawn anew when they do not fit on the table."""


class Family(NamedTuple):
    """A thing, ``alike``: its look-alikes by grade, and things of other nouns, of which ``twins`` have its colours."""

    who: Individual
    alike: dict[str, list[Individual]]
    mixed: list[Individual]
    twins: list[Individual]
    others: list[Individual]

    @property
    def members(self) -> list[Individual]:
        """All of them, the thing first, each once."""
        all_ = [self.who, *(one for each in self.alike.values() for one in each), *self.mixed, *self.twins]
        return list(dict.fromkeys([*all_, *self.others]))


def family(number: int) -> Family:
    """The family of that number, the same on every machine."""
    rng = random.Random(f"tabletop/{WORLD}/family/{number}")
    while True:
        who = draw_individual(rng, decorated=rng.random() < 0.9)
        grades = [grade for grade in GRADES if has_look_alike(who, grade)]
        if who.pattern == "plain":
            grades = [grade for grade in grades if grade in ("colour", "build")]
        if grades:
            break
    alike = {grade: [one for one in look_alikes(rng, who, grade, 2) if not one.held_out] for grade in grades}
    alike = {grade: ones for grade, ones in alike.items() if ones}
    mixed = []
    if "build" in alike and (firsts := [grade for grade in alike if grade != "build"]):
        mixed = [both(who, alike[pick(rng, firsts)][0], alike["build"][0])]
    twins = [marked(rng, colour_twin(rng, pick(rng, [who, *mixed]))) for _ in range(2)]
    others = [draw_individual(rng) for _ in range(4)]
    return Family(who, alike, mixed, twins, [one for one in others if one.noun != who.noun])


def family_scene(number: int, view: int) -> tuple[Scene, list[int]]:
    """Scene ``view`` of a family, and which member each of its things is."""
    found = family(number)
    for trial in range(TRIALS):
        rng = random.Random(f"tabletop/{WORLD}/family/{number}/{view}/{trial}")
        cast = [replace(one) for one in (_photo if view < PHOTOS else _asked)(rng, found)]
        tone = pick(rng, cast)
        plan = Plan(_scale(rng, view, len(cast)), None, (tone.main, tone.second), 0.7 if view < PHOTOS else 0.5)
        try:
            scene = compose(rng, cast, plan)
        except Crowded:
            continue
        members = found.members
        return scene, [members.index(thing.individual) for thing in scene.things]
    raise AssertionError(f"family {number}: no scene found for view {view}")


def _scale(rng: random.Random, view: int, things: int) -> tuple[float, float]:
    if view < PHOTOS:
        return (36.0, 76.0) if things == 1 else (32.0, 54.0)
    return SCALES[min(things, max(SCALES))]


def _photo(rng: random.Random, found: Family) -> list[Individual]:
    """The thing alone, or among two or three of other nouns."""
    if rng.random() < 0.5:
        return [found.who]
    return [found.who, *_some(rng, [*found.twins, *found.others], 2 + int(rng.random() * 2))]


def _asked(rng: random.Random, found: Family) -> list[Individual]:
    """The thing, at times twice or not at all, beside look-alikes of one grade or of several, and others."""
    chance, cast = rng.random(), [found.who]
    if chance < 0.2:
        cast += [found.who] * (1 + int(rng.random() * 2))
    elif chance < 0.3:
        cast = []
    grade = pick(rng, tuple(found.alike))
    if (how := rng.random()) < 0.55:
        cast += found.alike[grade]
    elif how < 0.8:
        cast += _some(rng, [*found.mixed, *(ones[0] for ones in found.alike.values())], 3)
    cast = cast[:4]
    most = 2 if len(cast) > 2 else 3
    cast += _some(rng, [*found.twins, *found.others], int(rng.random() * (most + 1)))
    return cast or [found.twins[0]]


def _some(rng: random.Random, items: Sequence[Individual], count: int) -> list[Individual]:
    """Up to so many of them by lot, each once."""
    return sorted(items, key=lambda _: rng.random())[:count]
