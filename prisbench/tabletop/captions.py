"""Ordinary scenes and sentences about them: what a backbone is trained on.

Training sees ``SEEN_PATTERNS`` and the colour pairs outside ``HELD_OUT_PAIRS``.  Every subject of the benchmark breaks
at least one of the two: its pattern or its pair of colours was never drawn, nor captioned.

Knows: who stands in an ordinary scene, how it is described.  Does not know: subjects, queries.
"""

from __future__ import annotations

import random
from collections import Counter

from prisbench.tabletop.individuals import (
    article,
    colour_twin,
    draw_individual,
    full_phrase,
    has_look_alike,
    look_alike,
    pick,
    short_phrase,
)
from prisbench.tabletop.looks import COLOURS, NOUNS, SEEN_PATTERNS, SURFACES, WALLS, Individual
from prisbench.tabletop.places import PLACES, place_among, relation
from prisbench.tabletop.scenes import Plan, Scene, compose

WORLD = "3"
"""Seeds what training shows, the subjects and their photos: while it stays, backbones and concepts stay valid."""
TRAINING_SCENES = 32_000
"""The embedded backbone was trained on the ordinary scenes "train/0" to "train/31999"."""
SCALES = {1: (30.0, 78.0), 2: (28.0, 64.0), 3: (26.0, 56.0), 4: (25.0, 48.0), 5: (24.0, 44.0), 6: (23.0, 40.0)}
"""Things in a scene -> range of pixels a unit of the table covers."""
LONGEST = 38
"""Words and commas of a caption, at most."""
GRAMMAR = (
    "a an the of and with on left right in front behind next to photo picture stripes lines dots checks band wall "
    "leftmost rightmost nearest farthest middle camera from it two three another"
)
"""Words of captions that name no thing, colour, pattern or surface."""


def ordinary_scene(name: str) -> tuple[Scene, str]:
    """A scene of one to five things that training may show, and its caption; ``name`` seeds it ("train/0", ...)."""
    rng = random.Random(f"tabletop/{WORLD}/{name}")
    who = _cast(rng)
    scene = compose(rng, who, Plan(SCALES[len(who)]))
    return scene, caption(scene, rng)


def ordinary_individuals(name: str) -> list[Individual]:
    """Who stands in ``ordinary_scene(name)``, in no particular order, without drawing it."""
    return _cast(random.Random(f"tabletop/{WORLD}/{name}"))


def _cast(rng: random.Random) -> list[Individual]:
    """Half of the scenes with several things hold two of a noun, so that words for colours and patterns matter; one in
    six holds copies of one thing, which only their places tell apart.
    """
    n = pick(rng, (1, 1, 2, 2, 3, 3, 4, 5))
    who = [draw_individual(rng) for _ in range(n)]
    if n == 1:
        return who
    chance = rng.random()
    if chance < 0.16:
        copies = 3 if n > 3 and rng.random() < 0.4 else 2
        who[1:copies] = [who[0]] * (copies - 1)
    elif chance < 0.36 and who[0].pattern != "plain":
        grade = pick(rng, ("colour", "second", "pattern", "swap"))
        who[1] = look_alike(rng, who[0], grade) if has_look_alike(who[0], grade) else who[1]
    elif chance < 0.60:
        twin = draw_individual(rng, who[0].noun)
        if (twin.main, twin.pattern) != (who[0].main, who[0].pattern):
            who[1] = twin
    elif chance < 0.75 and who[0].pattern != "plain":
        who[1] = colour_twin(rng, who[0])
    return who


def caption(scene: Scene, rng: random.Random) -> str:
    """A sentence about an ordinary scene: all or some of its things, in full or in short, at times how they stand.

    Copies of a thing are told apart by their places, at times.
    """
    things = [thing.individual for thing in scene.things]
    order = sorted(range(len(things)), key=lambda _: rng.random())
    copies = [i for i in order if Counter(map(id, things))[id(things[i])] > 1]
    if copies and rng.random() < 0.8:
        parts = _told_apart(scene, copies, rng)
        parts += [_described(things[i], rng) for i in order if i not in copies and rng.random() < 0.6]
        return _sentence(scene, parts, rng)
    if len(order) > 1 and rng.random() < 0.35:
        order = order[: 1 + int(rng.random() * (len(order) - 1))]
    words = {i: _described(things[i], rng) for i in order}
    parts = []
    if len(order) > 1 and rng.random() < 0.5:
        a, b = order[:2]
        how = relation(scene.stage.camera, scene.things[a], scene.things[b])
        if how is not None:
            parts.append(f"{words[a]} {how} {words[b]}")
            order = order[2:]
    parts += [words[i] for i in order]
    return _sentence(scene, parts, rng)


def _described(who: Individual, rng: random.Random) -> str:
    return article(full_phrase(who, rng) if rng.random() < 0.6 else short_phrase(who, rng))


def _told_apart(scene: Scene, copies: list[int], rng: random.Random) -> list[str]:
    """A phrase for each copy that has a clear place, among the copies or beside another thing."""
    camera, things = scene.stage.camera, scene.things
    one = things[copies[0]].individual
    words = full_phrase(one, rng) if rng.random() < 0.5 else short_phrase(one, rng)
    others = [i for i in range(len(things)) if i not in copies and things[i].individual.noun != one.noun]
    landmark = pick(rng, others) if others and rng.random() < 0.55 else None
    marked = _described(things[landmark].individual, rng) if landmark is not None else ""
    parts = []
    for i in copies:
        if landmark is not None:
            how = relation(camera, things[i], things[landmark])
            parts.append(f"{article(words)} {how} {marked}" if how else article(words))
        else:
            where = place_among(camera, i, [(n, things[n]) for n in copies], rng)
            parts.append(PLACES[where].replace("{}", words) if where else article(words))
    return parts


def _sentence(scene: Scene, parts: list[str], rng: random.Random) -> str:
    opener = pick(rng, ("a photo of ", "a photo of ", "a picture of ", ""))
    where = f" on {article(scene.stage.surface)}" if rng.random() < 0.4 else ""
    while sum(len(part.split()) + 1 for part in parts) + 8 > LONGEST:
        parts = parts[:-1]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return opener + text + where


def vocabulary() -> list[str]:
    """Every word of a caption, in the order of the alphabet."""
    named = {*NOUNS, *COLOURS, *SEEN_PATTERNS, *" ".join(SURFACES).split(), *WALLS}
    return sorted(named | set(GRAMMAR.split()))
