"""Who there is: things of the world, the look-alikes of one by grade, and what is said of a thing in words.

Only ``random.Random.random`` is used, whose stream Python guarantees across versions.

Knows: looks.  Does not know: scenes, subjects, texts about places.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from prisbench.tabletop.looks import (
    BUILDS,
    COLOURS,
    MARKS,
    NOUNS,
    SEEN_PATTERNS,
    TOO_CLOSE,
    UNSEEN_PATTERNS,
    Individual,
)

T = TypeVar("T")

GRADES = ("colour", "second", "pattern", "swap", "build")
"""In what a look-alike differs from a subject; grades other than "build" keep its shape."""

_COLOURS = tuple(COLOURS)
_WITH = {"striped": "stripes", "lined": "lines", "dotted": "dots", "checked": "checks", "banded": "band"}
_ALIKE_PATTERNS = frozenset(
    map(frozenset, (("ringed", "crossed"), ("zigzag", "diagonal"), ("dotted", "ringed"), ("checked", "patched")))
)
"""Pairs of patterns that small pictures may make equal."""


def pick(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def between(rng: random.Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def apart(a: str, b: str) -> bool:
    """Whether two colours stay two in any light."""
    return a != b and frozenset((a, b)) not in TOO_CLOSE


def draw_individual(
    rng: random.Random, noun: str | None = None, *, held_out: bool = False, decorated: bool = False
) -> Individual:
    """A random individual.

    By default one that training may show.  ``held_out`` makes one whose pattern or colour pair training never shows,
    half of them each.  ``decorated`` excludes plain ones.
    """
    noun = noun or pick(rng, NOUNS)
    while True:
        main, second = pick(rng, _COLOURS), pick(rng, _COLOURS)
        if not apart(main, second) or (noun == "plant" and main == "green"):
            continue
        if held_out:
            pattern = pick(rng, UNSEEN_PATTERNS) if rng.random() < 0.5 else pick(rng, SEEN_PATTERNS[1:])
        else:
            pattern = pick(rng, SEEN_PATTERNS[1:]) if decorated or rng.random() > 0.25 else "plain"
        who = Individual(noun, main, second, pattern, *_body(rng))
        if who.held_out == held_out:
            return marked(rng, who)


def _body(rng: random.Random) -> tuple[int, tuple[float, float, float, float], tuple[float, float], float]:
    """Build, shape, tint and gloss."""
    build = int(rng.random() * BUILDS)
    a, b, c, d = (round(rng.random(), 3) for _ in range(4))
    tint = (round(between(rng, -1.0, 1.0), 3), round(between(rng, -1.0, 1.0), 3))
    return build, (a, b, c, d), tint, round(rng.random(), 3)


def marked(rng: random.Random, who: Individual) -> Individual:
    """With a mark on one side, every third time."""
    chance, turn = rng.random(), round(rng.random(), 3)
    mark = pick(rng, MARKS[1:]) if chance < 0.35 else "none"
    colour = pick(rng, [c for c in _COLOURS if apart(c, who.main) and apart(c, who.second)])
    return replace(who, mark=mark, mark_colour=colour, mark_turn=turn) if mark != "none" else who


def look_alike(rng: random.Random, who: Individual, grade: str) -> Individual:
    """Another instance of the same noun that differs in what the grade names and in nothing else, as new to training
    as the individual is.  Raises LookupError where there is none.
    """
    found = _look_alikes(who, grade)
    if not found:
        raise LookupError(f"no {who.noun} is a look-alike of {who.main} and {who.second} by {grade}")
    other = pick(rng, found)
    return _shaped(rng, other) if grade == "build" else other


def look_alikes(rng: random.Random, who: Individual, grade: str, most: int) -> list[Individual]:
    """Up to so many look-alikes of one grade that differ from each other in the same respect, so that none of them is
    nearer to the others than the individual is.  Of builds and colours one is kept back, of swaps there is one.
    """
    found = sorted(_look_alikes(who, grade), key=lambda _: rng.random())
    if not found:
        raise LookupError(f"no {who.noun} is a look-alike of {who.main} and {who.second} by {grade}")
    chosen = found[: min(most, max(1, len(found) - 1))]
    if grade == "build":
        return [_shaped(rng, one) for one in chosen]
    return chosen


def _shaped(rng: random.Random, who: Individual) -> Individual:
    """With other numbers of shape; the scale of the pattern stays."""
    a, b, c = (round(rng.random(), 3) for _ in range(3))
    return replace(who, shape=(a, b, c, who.shape[3]))


def both(who: Individual, first: Individual, second: Individual) -> Individual:
    """What differs from an individual in the respects of two of its look-alikes, which are not the same respect."""
    changed = {name: getattr(second, name) for name in _LOOKS if getattr(second, name) != getattr(who, name)}
    return replace(first, **changed)


def grade_between(who: Individual, other: Individual) -> str:
    """In what a thing of the same noun differs: one of ``GRADES``, "copy" for nothing, "compound" for several."""
    if (other.main, other.second) == (who.second, who.main):
        other = replace(other, main=who.main, second=who.second)
        return "swap" if grade_between(who, other) == "copy" else "compound"
    differs = [
        grade
        for grade, same in (
            ("colour", other.main == who.main),
            ("second", other.second == who.second),
            ("pattern", other.pattern == who.pattern),
            ("build", (other.build, other.shape) == (who.build, who.shape)),
        )
        if not same
    ]
    return "copy" if not differs else differs[0] if len(differs) == 1 else "compound"


_LOOKS = ("main", "second", "pattern", "build", "shape", "tint")


def has_look_alike(who: Individual, grade: str) -> bool:
    """Whether there is one; a pair of colours may leave no other colour."""
    return bool(_look_alikes(who, grade))


def _look_alikes(who: Individual, grade: str) -> list[Individual]:
    """All changes of one kind that leave the individual as new to training as it is."""
    found: list[Individual] = []
    if grade == "colour":
        found = [replace(who, main=c) for c in _COLOURS if apart(c, who.main) and apart(c, who.second)]
    elif grade == "second":
        found = [replace(who, second=c) for c in _COLOURS if apart(c, who.main) and apart(c, who.second)]
    elif grade == "pattern":
        patterns = [p for p in (*SEEN_PATTERNS[1:], *UNSEEN_PATTERNS) if p != who.pattern]
        found = [replace(who, pattern=p) for p in patterns if frozenset((p, who.pattern)) not in _ALIKE_PATTERNS]
    elif grade == "swap":
        found = [replace(who, main=who.second, second=who.main, tint=(who.tint[1], who.tint[0]))]
    elif grade == "build":
        found = [replace(who, build=build) for build in range(BUILDS) if build != who.build]
    else:
        raise ValueError(f"no grade {grade!r}")
    leafy = [one for one in found if (one.noun, one.main) != ("plant", "green")]  # green on green
    return [one for one in leafy if one.newness == who.newness]


def bystander(rng: random.Random, who: Individual, *nouns: str) -> Individual:
    """A thing with neither the individual's noun nor one of ``nouns``, as new to training."""
    while True:
        other = draw_individual(rng, held_out=True)
        if other.noun not in (who.noun, *nouns) and other.newness == who.newness:
            return other


def colour_twin(rng: random.Random, who: Individual, *nouns: str) -> Individual:
    """A thing of another noun in the individual's colours and pattern."""
    noun = pick(rng, [n for n in NOUNS if n not in (who.noun, *nouns) and (n, who.main) != ("plant", "green")])
    build, shape, _, gloss = _body(rng)
    return Individual(noun, who.main, who.second, who.pattern, build, shape, who.tint, gloss)


# ---------------------------------------------------------------------------------------------------------------------
# words


def full_phrase(who: Individual, rng: random.Random) -> str:
    """Words that tell all there is to tell, without article: "striped red and white mug"."""
    if who.pattern == "plain":
        return pick(rng, (f"{who.main} {who.noun}", f"plain {who.main} {who.noun}"))
    if rng.random() < 0.6:
        return f"{who.pattern} {who.main} and {who.second} {who.noun}"
    mark = _WITH[who.pattern]
    return f"{who.main} {who.noun} with " + (
        article(f"{who.second} {mark}") if mark == "band" else f"{who.second} {mark}"
    )


def short_phrase(who: Individual, rng: random.Random) -> str:
    """Some of it: "red mug", "striped mug", "striped red mug", "mug"."""
    chance = rng.random()
    if chance < 0.40:
        return f"{who.pattern} {who.main} {who.noun}"
    if chance < 0.75:
        return f"{who.main} {who.noun}"
    return f"{who.pattern} {who.noun}" if chance < 0.85 else who.noun


def article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase
