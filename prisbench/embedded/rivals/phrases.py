"""What may be said of the things of a scene, and which of them each phrase means; phrases that mean nothing there.

Knows: nouns, colours and patterns of training.  Does not know: pixels, models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

from prisbench.tabletop.individuals import full_phrase, pick
from prisbench.tabletop.looks import COLOURS, NOUNS, SEEN_PATTERNS, Individual

ABSENT = 6
"""Tries for a phrase that means nothing in a scene."""

FORMS: tuple[tuple[str, ...], ...] = (
    ("noun",),
    ("noun", "main"),
    ("noun", "pattern"),
    ("noun", "main", "pattern"),
    ("noun", "main", "pattern", "second"),
)
"""What a phrase may tell; the last form has all there is to tell."""


class Told(TypedDict):
    """``looks``: of each thing in words, equal for things that no words tell apart.  ``phrases``: texts, and the
    numbers of the things that each means, from 0; none for a phrase about what is not there.
    """

    looks: list[str]
    phrases: list[tuple[str, list[int]]]


def told(cast: Sequence[Individual], rng: random.Random) -> Told:
    """Phrases of every form about every thing of a scene, and some about things that are not there."""
    found: dict[str, list[int]] = {}
    for one in cast:
        for form in FORMS:
            found.setdefault(phrase(one, form, rng), meant(cast, one, form))
    for _ in range(ABSENT):
        other = changed(pick(rng, cast), rng)
        form = pick(rng, FORMS)
        if not meant(cast, other, form):
            found.setdefault(phrase(other, form, rng), [])
    return {"looks": [looks(one) for one in cast], "phrases": list(found.items())}


def phrase(one: Individual, form: Sequence[str], rng: random.Random) -> str:
    """Words without an article: "mug", "red mug", "striped red mug", "red mug with white stripes"."""
    if "second" in form:
        return full_phrase(one, rng)
    words = [one.pattern] * ("pattern" in form) + [one.main] * ("main" in form)
    return " ".join([*words, one.noun])


def meant(cast: Sequence[Individual], one: Individual, form: Sequence[str]) -> list[int]:
    """Numbers of the things that agree with one in all that a phrase of this form tells.

    A plain thing shows no second colour, and shows its pattern in no words where only colour is told.
    """
    told = [name for name in form if name != "second" or one.pattern != "plain"]
    return [n for n, other in enumerate(cast) if all(getattr(other, name) == getattr(one, name) for name in told)]


def changed(one: Individual, rng: random.Random) -> Individual:
    """Another noun, another colour, another pattern, or another thing altogether."""
    chance = rng.random()
    if chance < 0.4:
        return replace(one, noun=pick(rng, NOUNS))
    if chance < 0.7:
        return replace(one, main=pick(rng, [colour for colour in COLOURS if colour != one.second]))
    if chance < 0.85:
        return replace(one, pattern=pick(rng, SEEN_PATTERNS))
    main, second = sorted(COLOURS, key=lambda _: rng.random())[:2]
    return replace(one, noun=pick(rng, NOUNS), main=main, second=second, pattern=pick(rng, SEEN_PATTERNS))


def looks(one: Individual) -> str:
    """All that words tell of a thing."""
    return " ".join([one.pattern, one.main, *([one.second] if one.pattern != "plain" else []), one.noun])
