"""The words of Tabletop, and what a thing looks like: colours, patterns, marks, nouns.

Knows: names, and the numbers behind them.  Does not know: geometry, pixels, scenes.
"""

from __future__ import annotations

from dataclasses import dataclass

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.10, 0.10),
    "orange": (0.95, 0.48, 0.06),
    "yellow": (0.95, 0.84, 0.14),
    "green": (0.13, 0.58, 0.18),
    "teal": (0.08, 0.62, 0.62),
    "blue": (0.12, 0.24, 0.80),
    "purple": (0.48, 0.14, 0.66),
    "pink": (0.97, 0.56, 0.74),
    "brown": (0.42, 0.23, 0.09),
    "white": (0.95, 0.95, 0.93),
    "black": (0.09, 0.09, 0.10),
    "grey": (0.52, 0.53, 0.55),
}
"""As a screen shows them, 0..1; the square of each number is what the material reflects."""


def _pairs(text: str) -> frozenset[frozenset[str]]:
    """Unordered pairs of words: "a-b c-d"."""
    return frozenset(frozenset(pair.split("-")) for pair in text.split())


TOO_CLOSE = _pairs(
    "red-orange orange-yellow orange-brown red-brown brown-black black-grey grey-white green-teal teal-blue "
    "blue-purple purple-pink pink-white yellow-white red-pink purple-black teal-grey blue-black purple-brown"
)
"""Pairs that shade or a tinted light may make equal: they never meet on one thing, and never tell two things apart."""

HEIGHTS = {
    "mug": 0.82,
    "bowl": 0.56,
    "bottle": 1.34,
    "box": 0.86,
    "plant": 1.20,
    "ball": 0.76,
    "lamp": 1.36,
    "book": 1.02,
    "vase": 1.14,
    "teapot": 0.86,
}
"""Nouns, and about how tall each thing is, in units of the table's plane."""

NOUNS = tuple(HEIGHTS)
BUILDS = 3
"""Each noun comes in so many builds, which differ at a glance."""

SEEN_PATTERNS = ("plain", "striped", "lined", "dotted", "checked", "banded")
UNSEEN_PATTERNS = ("zigzag", "diagonal", "ringed", "crossed", "dipped", "patched")
MARKS = ("none", "label", "patch", "chip")
"""What stands on one side only."""

SURFACES = ("wooden table", "marble counter", "checked cloth", "tiled floor", "woven mat", "plain desk")
WALLS = ("painted", "papered", "panelled", "tiled")

HELD_OUT_PAIRS = _pairs(
    "red-yellow red-teal red-black red-grey orange-green orange-purple orange-pink orange-black yellow-green "
    "yellow-brown yellow-grey green-blue green-purple green-pink teal-purple teal-white blue-brown blue-white "
    "blue-grey pink-grey brown-white white-black"
)
"""Unordered colour pairs that never meet on one thing in training: 22 of the 48 that may.  Each colour has three or
more of them and four or more of the others, and for every pair either colour can be replaced by another.
"""


@dataclass(frozen=True)
class Individual:
    """One particular thing: the same build, colours, pattern and mark wherever it appears."""

    noun: str
    main: str
    second: str
    pattern: str
    build: int
    """Which of the noun's ``BUILDS``."""
    shape: tuple[float, float, float, float]
    """Four numbers in 0..1 within the build: girth, taper, detail, scale of the pattern."""
    tint: tuple[float, float]
    """Brightness of the two colours, -1..1."""
    gloss: float
    """0 matt .. 1 glazed."""
    mark: str = "none"
    mark_colour: str = "white"
    mark_turn: float = 0.0
    """Where around the body the mark stands, 0..1."""

    @property
    def newness(self) -> tuple[bool, bool]:
        """Whether training never shows its pattern, and whether it never shows its pair of colours."""
        return self.pattern in UNSEEN_PATTERNS, frozenset((self.main, self.second)) in HELD_OUT_PAIRS

    @property
    def held_out(self) -> bool:
        """Whether training never shows this pattern or this pair of colours."""
        return any(self.newness)
