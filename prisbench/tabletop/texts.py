"""Texts of queries.  Validation has other phrasings than test, and neither has those of training's captions alone.

Knows: words.  Does not know: geometry, who is where.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from prisbench.tabletop.individuals import pick, short_phrase
from prisbench.tabletop.looks import SEEN_PATTERNS, Individual

SUBJECT = "{subject}"

_WHOLE: Mapping[str, Sequence[str]] = {
    "validation": ("the {subject}", "a photo of the {subject}", "the {subject} on the {surface}", "find the {subject}"),
    "test": (
        "where is the {subject}?",
        "an image that shows the {subject}",
        "the {subject} standing on the {surface}",
        "segment the {subject}",
        "the {subject} in this scene",
    ),
}
"""Texts that say nothing of a place among things."""

_RELATIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "validation": {
        "left of": ("left of {}",),
        "right of": ("right of {}",),
        "in front of": ("in front of {}",),
        "behind": ("behind {}",),
        "next to": ("next to {}",),
    },
    "test": {
        "left of": ("to the left of {}", "on the left-hand side of {}"),
        "right of": ("to the right of {}", "on the right-hand side of {}"),
        "in front of": ("closer to us than {}", "before {}"),
        "behind": ("farther away than {}", "at the back of {}"),
        "next to": ("beside {}", "close by {}"),
    },
}
_POSITIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "validation": {
        "leftmost": ("the leftmost {subject}",),
        "rightmost": ("the rightmost {subject}",),
        "nearest": ("the {subject} nearest to the camera",),
        "farthest": ("the {subject} farthest from the camera",),
        "middle": ("the {subject} in the middle",),
    },
    "test": {
        "leftmost": ("the {subject} furthest to the left", "the {subject} on the far left"),
        "rightmost": ("the {subject} furthest to the right", "the {subject} on the far right"),
        "nearest": ("the {subject} closest to us", "the {subject} at the very front"),
        "farthest": ("the {subject} at the very back", "the {subject} most distant from us"),
        "middle": ("the {subject} between the other two", "the middle one of the three: the {subject}"),
    },
}
_SAID = sorted(
    (
        (form.replace("{}", "").strip(), word)
        for forms in _RELATIONS.values()
        for word, all_ in forms.items()
        for form in all_
    ),
    key=lambda pair: -len(pair[0]),
)
"""Every phrase for a relation, the longest first."""


def whole_text(split: str, surface: str, rng: random.Random) -> str:
    return pick(rng, _WHOLE[split]).replace("{surface}", surface)


def related(split: str, words: Sequence[tuple[str, str]], rng: random.Random) -> str:
    """ "the {subject} left of the blue box and behind the bottle": of (relation, landmark phrase) pairs."""
    parts = [pick(rng, _RELATIONS[split][word]).replace("{}", f"the {phrase}") for word, phrase in words]
    return f"the {SUBJECT} " + " and ".join(parts)


def positioned(split: str, word: str, variant: int) -> str:
    """ "the leftmost {subject}"; the same ``variant`` of two positions makes texts that differ in one phrase."""
    forms = _POSITIONS[split][word]
    return forms[variant % len(forms)]


def told(text: str) -> list[str]:
    """The relations that a text names, in its order, or the position; empty for a text that says nothing of a place."""
    for positions in _POSITIONS.values():
        for word, forms in positions.items():
            if text in forms:
                return [word]
    _, found, rest = text.partition(SUBJECT)
    words = []
    for part in rest.split(" and ") if found else []:
        words += [word for phrase, word in _SAID if part.strip().startswith(f"{phrase} the ")][:1]
    return words


def landmark_phrase(who: Individual, things: Sequence[Individual], rng: random.Random, by_noun: bool) -> str | None:
    """A short phrase that fits this thing and no other of the scene, in words that training captions have; None where
    luck was against it.  ``by_noun`` leaves out the colour.
    """
    if by_noun:
        return who.noun if sum(one.noun == who.noun for one in things) == 1 else None
    if who.pattern in SEEN_PATTERNS:
        phrase = short_phrase(who, rng)
    else:
        phrase = f"{who.main} {who.noun}" if rng.random() < 0.75 else who.noun
    return phrase if sum(fits(phrase, one) for one in things) == 1 else None


def fits(phrase: str, who: Individual) -> bool:
    """Whether a phrase could mean this thing: its noun, and each further word one of its pattern or colours."""
    words = set(phrase.split()) - {"and", "with", "plain"}
    return who.noun in words and words <= {who.noun, who.main, who.second, who.pattern}
