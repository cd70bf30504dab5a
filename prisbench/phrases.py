"""What a referring text says of place, and how well regions of an image keep it.

    reading = parse("the {subject} to the left of a blue bottle")
    reading.conditions                          (Condition("left_of", "a blue bottle"),)
    reading.rest                                "the {subject}"
    holds(reading.conditions[0], candidate, bottle)   a grade in 0..1

Knows: English phrases of place, boxes in the image plane.  Does not know: scenes in depth, words of looks, models.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.types import SLOT

TO_A_LANDMARK = ("left_of", "right_of", "in_front_of", "behind", "next_to")
"""Relations to another thing."""

AMONG_ALL = ("leftmost", "rightmost", "nearest", "farthest", "middle")
"""Places among all things that the text could mean."""


@dataclass(frozen=True)
class Condition:
    """One thing a text says of a place.  ``landmark`` is the phrase of the other thing, None for ``AMONG_ALL``."""

    relation: str
    landmark: str | None = None


@dataclass(frozen=True)
class Reading:
    """The conditions of a text in the order of its words, and the text without them.

    ``rest`` is the text itself, unchanged, where there is no condition.
    """

    conditions: tuple[Condition, ...]
    rest: str


class Box(NamedTuple):
    """The smallest box around a region, in pixels; ``right`` and ``bottom`` are one past the last."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def centre_x(self) -> float:
        return float(self.left + self.right) / 2

    @property
    def width(self) -> float:
        return float(self.right - self.left)

    @property
    def height(self) -> float:
        return float(self.bottom - self.top)


def _sides(word: str, one: str, most: str) -> dict[str, list[str]]:
    hand = [f"{word} side", f"{word}-hand side", f"{word} hand side"]
    return {
        one: [
            f"{word} of",
            f"{word}wards of",
            *(f"{way} the {side} of" for side in (word, *hand) for way in _WAYS),
            *(f"{way} {side} of" for side in hand for way in _WAYS),
        ],
        most: [
            f"{word}most",
            f"{word}-most",
            f"farthest {word}",
            f"furthest {word}",
            *(f"{far} to the {word}" for far in ("farthest", "furthest", "most", "all the way")),
            *(f"{way} the {how}{side}" for side in (word, *hand) for how in _HOW for way in _WAYS),
            *(f"{word} (?={re.escape(SLOT)})",),
        ],
    }


_WAYS = ("to", "on", "at")
_HOW = ("", "far ", "very ", "extreme ")
_US = ("us", "me", "you", "the camera", "the viewer", "the front", "the observer", "the photographer")

PHRASES: dict[str, list[str]] = {
    **_sides("left", "left_of", "leftmost"),
    **_sides("right", "right_of", "rightmost"),
    "in_front_of": [
        "in front of",
        "at the front of",
        "to the front of",
        "before",
        *(f"{near} than" for near in ("closer", "nearer")),
        *(f"{near} to {us} than" for near in ("closer", "nearer") for us in _US),
    ],
    "behind": [
        "behind",
        "in back of",
        "at the back of",
        "to the back of",
        "to the rear of",
        "beyond",
        *(f"{far}{away} than" for far in ("farther", "further") for away in ("", " away", " back", " off")),
        *(f"{far} away from {us} than" for far in ("farther", "further") for us in _US),
        *(f"{far} from {us} than" for far in ("farther", "further") for us in _US),
    ],
    "next_to": [
        "right next to",
        "right beside",
        "right by",
        "next to",
        "beside",
        "close to",
        "close by",
        "near to",
        "nearest to",
        "closest to",
        "adjacent to",
        "alongside",
        "near",
        "by",
    ],
    "nearest": [
        *(f"{near} to {us}" for near in ("nearest", "closest") for us in _US),
        "nearest",
        "closest",
        "frontmost",
        "front-most",
        "foremost",
        *(f"{way} the {very}front" for very in ("", "very ") for way in ("at", "in", "to")),
        "in the foreground",
        "in front",
        f"front (?={re.escape(SLOT)})",
    ],
    "farthest": [
        *(f"{far} {way}{us}" for far in ("farthest", "furthest") for us in _US for way in ("from ", "away from ")),
        *(f"{far} {away}" for far in ("farthest", "furthest") for away in ("away", "back", "off", "behind")),
        "farthest",
        "furthest",
        "most distant",
        "rearmost",
        "backmost",
        *(
            f"{way} the {very}{back}"
            for very in ("", "very ")
            for way in ("at", "in", "to")
            for back in ("back", "rear")
        ),
        "in the background",
        f"back (?={re.escape(SLOT)})",
    ],
    "middle": [
        "in the very middle",
        "in the middle",
        "at the middle",
        "between the other two",
        "between the two others",
        "in between the others",
        "between the others",
        "in between the other two",
        "middlemost",
        f"middle (?={re.escape(SLOT)})",
        f"central (?={re.escape(SLOT)})",
    ],
}
"""Relation -> its phrases.  Where several fit at one place, the longest is read.  "on the left" without "of" is a place
among all."""

_WANT_ARTICLE = {"before", "by", "near", "beyond", "right by", "close by"}
"""Phrases that are read only before an article or the like: "by the mug", not "by candlelight"."""

_LONGEST_FIRST = sorted(
    ((phrase, relation) for relation, phrases in PHRASES.items() for phrase in phrases),
    key=lambda each: (-len(each[0].partition(" (?=")[0]), each),
)
_RELATION_OF = {phrase.partition(" (?=")[0]: relation for phrase, relation in reversed(_LONGEST_FIRST)}
_PHRASE = re.compile(
    r"(?<![\w-])(?:" + "|".join(phrase.replace(" ", r"\s+") for phrase, _ in _LONGEST_FIRST) + r")(?![\w-])",
    re.IGNORECASE,
)
_ARTICLE = r"(?:the|a|an|another|some|one|my|your|his|her|our|their|this|that)"
_BEFORE = re.compile(
    r"(?:,?\s*\b(?:that|which|who)\s+(?:is|stands|sits|lies)|\b(?:standing|sitting|lying|placed|located|seen))?"
    r"(?:\s*\b(?:just|directly|immediately|right|furthermore|also|the one))*\s*$",
    re.IGNORECASE,
)
"""Words that lead up to a phrase and go with it."""

_NOT_THE_ONE = re.compile(
    r"\bnot\s+(?:the\s+(?:other\s+)?(?:one|ones|thing)\s+)?(?:(?:that|which)(?:'s|\s+is)\s+)?(?:just\s+)?$",
    re.IGNORECASE,
)
"""Before a phrase of place that the text denies."""

_JOIN = re.compile(
    r"\s*,?\s*\b(?:and|but)\s+(?:also\s+|(?:that|which)\s+(?:is|stands)\s+|is\s+|stands\s+)?$", re.IGNORECASE
)
_END = re.compile(
    r"[,;.:!?()]|\b(?:on|in|at|under|over|from|that|which|who|where|while|is|are|stands|inside|against|upon"
    r"|not|there|here|i|we|you|please|pls)\b",
    re.IGNORECASE,
)
"""What ends a landmark's phrase, beside the next condition."""


def parse(text: str) -> Reading:
    """The conditions that a text states, and what it says beside them.

    A landmark's phrase goes from its article to the next condition, punctuation mark or preposition of place other than
    "with" and "of".  What relates another thing to the slot ("a mug left of the {subject}") or stands after "not" is
    no condition.  Texts without a place come back as they are.
    """
    found: list[tuple[Condition, int, int]] = []
    taken = 0
    marks = [mark for mark in _PHRASE.finditer(text) if _counts(text, mark)]
    for n, mark in enumerate(marks):
        if mark.start() < taken:
            continue
        relation = _relation(mark)
        end, landmark = mark.end(), None
        if relation in TO_A_LANDMARK:
            limit = next((later.start() for later in marks[n + 1 :]), len(text))
            landmark, end = _landmark(text, mark.end(), limit)
            if landmark is None:
                continue
        found.append((Condition(relation, landmark), mark.start(), end))
        taken = end
    if not found:
        return Reading((), text)
    conditions = tuple(dict.fromkeys(condition for condition, _, _ in found))  # one said twice is one
    return Reading(conditions, _without(text, [(a, b) for _, a, b in found]))


def _relation(mark: re.Match[str]) -> str:
    return _RELATION_OF[" ".join(mark.group().lower().split())]


def _counts(text: str, mark: re.Match[str]) -> bool:
    """Whether a match is a phrase of place here."""
    words = " ".join(mark.group().lower().split())
    after = text[mark.end() :]
    if _NOT_THE_ONE.search(text[: mark.start()]):
        return False
    if words in _WANT_ARTICLE and not re.match(rf"\s+(?!the\s+way\b){_ARTICLE}\b", after, re.IGNORECASE):
        return False
    return not (words == "in front" and re.match(r"\s+of\b", after, re.IGNORECASE))


def _landmark(text: str, start: int, limit: int) -> tuple[str | None, int]:
    """The phrase of a landmark that begins at ``start``, and where it ends; None where there is none."""
    piece = text[start:limit]
    if limit < len(text):
        for lead in (_BEFORE, _JOIN, _BEFORE):
            if joined := lead.search(piece):
                piece = piece[: joined.start()]
    article = re.match(rf"\s*{_ARTICLE}\b", piece, re.IGNORECASE)
    if ends := _END.search(piece, article.end() if article else 0):
        piece = piece[: ends.start()]
    piece = re.sub(r"\s+(?:and|but|or)\s*$", "", piece.rstrip(), flags=re.IGNORECASE)
    phrase = " ".join(piece.split())
    bare = re.sub(rf"^{_ARTICLE}\b", "", phrase, flags=re.IGNORECASE).strip()
    if not bare or SLOT in phrase:
        return None, start
    return phrase, start + len(piece.rstrip())


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """The text without these parts and the words that lead to them."""
    pieces, at = [], 0
    for start, end in spans:
        piece = text[at:start]
        for lead in (_BEFORE, _JOIN, _BEFORE):
            if led := lead.search(piece):
                piece = piece[: led.start()]
        pieces.append(piece)
        at = end
    rest = " ".join(" ".join([*pieces, text[at:]]).split())
    rest = re.sub(r"\s+([,;.:!?])", r"\1", rest)
    rest = re.sub(r"^(?:[,;.:]|and\b|but\b)\s*|(?:\s*(?:[,;:]|\band|\bbut))+$", "", rest, flags=re.IGNORECASE)
    return rest.strip()


# ---------------------------------------------------------------------------------------------------------------------
# do regions of an image keep it?

SOFTNESS = 0.15
"""How far apart two regions are when a comparison is 73 % sure (a logistic function), in sizes of the two."""


def box_of(mask: Bool[np.ndarray, "h w"]) -> Box:
    """The smallest box around a mask that holds a pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert len(rows), "an empty mask has no place"
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def holds(condition: Condition, candidate: Box, landmark: Box | None = None, others: Sequence[Box] = ()) -> float:
    """How well a candidate keeps a condition, a grade in 0..1 with 0.5 for "cannot tell".

    Left and right go by the middles of the boxes.  In front and behind go by their lowest rows, since what stands
    nearer on a surface stands lower in the image.  ``landmark`` is the thing that the condition speaks of, None where
    it is not known; ``others`` are the further candidates, of which places among all speak.  The grade of "next to"
    falls with the gap between the boxes, to 0.5 at half of their mean size.
    """
    if condition.relation in TO_A_LANDMARK:
        return 0.5 if landmark is None else _to_landmark(condition.relation, candidate, landmark)
    if not others:
        return 0.5
    if condition.relation == "middle":
        left, right = (max(_to_landmark(way, candidate, each) for each in others) for way in ("left_of", "right_of"))
        return min(left, right)
    way = {"leftmost": "left_of", "rightmost": "right_of", "nearest": "in_front_of", "farthest": "behind"}
    return min(_to_landmark(way[condition.relation], candidate, each) for each in others)


def _to_landmark(relation: str, a: Box, b: Box) -> float:
    across, down = (a.width + b.width) / 2, (a.height + b.height) / 2
    if relation == "next_to":
        dx = max(a.left - b.right, b.left - a.right, 0.0)
        dy = max(a.top - b.bottom, b.top - a.bottom, 0.0)
        return float(0.5 ** (2 * math.hypot(dx, dy) / max((across + down) / 2, 1.0)))
    ahead = {
        "left_of": (b.centre_x - a.centre_x) / max(across, 1.0),
        "right_of": (a.centre_x - b.centre_x) / max(across, 1.0),
        "in_front_of": (a.bottom - b.bottom) / max(down, 1.0),
        "behind": (b.bottom - a.bottom) / max(down, 1.0),
    }[relation]
    return float(1 / (1 + math.exp(-max(min(ahead / SOFTNESS, 50.0), -50.0))))
