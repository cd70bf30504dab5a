"""Who the benchmark is about: its subjects and their reference photos.

Knows: the splits, the photos.  Does not know: queries.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from prisbench.tabletop.captions import WORLD
from prisbench.tabletop.individuals import GRADES, bystander, colour_twin, draw_individual, has_look_alike
from prisbench.tabletop.looks import NOUNS, Individual
from prisbench.tabletop.scenes import Plan, Scene, compose

SEED = 2309
"""The benchmark's seed."""
SPLITS = {"validation": 24, "test": 48}
PHOTOS = 5


@dataclass(frozen=True)
class TabletopSubject:
    """A subject before it has photos: its split, running number and who it is."""

    split: str
    number: int
    who: Individual

    @property
    def key(self) -> str:
        return f"{self.split}/{self.number}"

    @property
    def among_things(self) -> bool:
        """Whether it was photographed among other things: every second one."""
        return self.number % 2 == 1


def subjects(counts: Mapping[str, int] | None = None, seed: int = SEED) -> list[TabletopSubject]:
    """The benchmark's subjects, over all nouns in turn; no two of a split share noun, pattern and colours.

    A split's first subjects do not depend on how many follow, so a small set is a part of the large one.
    """
    out: list[TabletopSubject] = []
    for split, count in (counts or SPLITS).items():
        taken: set[tuple[str, str, str, str]] = set()
        for number in range(count):
            rng = random.Random(f"tabletop/{WORLD}/{seed}/{split}/{number}/who")
            while True:
                who = draw_individual(rng, NOUNS[number * 3 % len(NOUNS)], held_out=True)
                looks = (who.noun, who.pattern, who.main, who.second)
                if looks not in taken and all(has_look_alike(who, grade) for grade in GRADES):
                    break
            taken.add(looks)
            out.append(TabletopSubject(split, number, who))
    return out


def reference_photo(subject: TabletopSubject, index: int, seed: int = SEED) -> Scene:
    """Photo ``index`` of a subject: each time another side of it, another place and light.

    Every second subject stands alone; the others among two or three things that no other photo has.
    """
    rng = random.Random(f"tabletop/{WORLD}/{seed}/{subject.key}/photo/{index}")
    cast = [subject.who]
    if subject.among_things:
        for _ in range(2 + int(rng.random() * 2)):
            beside = colour_twin if rng.random() < 0.5 else bystander
            cast.append(beside(rng, subject.who, *(one.noun for one in cast)))
    scale = (36.0, 76.0) if len(cast) == 1 else (32.0, 54.0)
    first = random.Random(f"tabletop/{WORLD}/{seed}/{subject.key}/first side").random()
    colours = (subject.who.main, subject.who.second)
    return compose(rng, cast, Plan(scale, None, colours, 0.7, first + index / PHOTOS))


def photo_mask(subject: TabletopSubject, scene: Scene) -> int:
    """Which thing of a reference photo is the subject."""
    return next(i for i, thing in enumerate(scene.things) if thing.individual == subject.who)
