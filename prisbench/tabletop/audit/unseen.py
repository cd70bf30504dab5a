"""A proof: that training shows no subject's pattern, or not its pair of colours.

Knows: what training shows and says, who the subjects are.  Does not know: queries, models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from prisbench.tabletop.captions import TRAINING_SCENES, ordinary_individuals, ordinary_scene
from prisbench.tabletop.looks import COLOURS, NOUNS, SEEN_PATTERNS, UNSEEN_PATTERNS
from prisbench.tabletop.subjects import TabletopSubject
from prisbench.tabletop.subjects import subjects as cast


@dataclass(frozen=True)
class Unseen:
    """What the training scenes and captions show beside the subjects' looks.

    ``patterns``, ``pairs``: what is shown -> on how many things.  ``phrases``: how often captions name two colours of a
    thing.  ``by_pattern``, ``by_pair``: subjects whose pattern, whose pair of colours is never shown;
    some are in both.  ``broken``: a line for each subject of which both are shown, and for each word or pair of
    colours of a caption that no scene may have; empty when all is proven.
    """

    scenes: int
    things: int
    captions: int
    phrases: int
    patterns: Mapping[str, int]
    pairs: Mapping[tuple[str, str], int]
    subjects: int
    by_pattern: int
    by_pair: int
    broken: tuple[str, ...]

    def render(self) -> str:
        both = self.by_pattern + self.by_pair - self.subjects
        lines = [
            f"training scenes {self.scenes}, things in them {self.things}",
            f"patterns shown {len(self.patterns)}: " + ", ".join(f"{k} {v}" for k, v in self.patterns.items()),
            f"pairs of colours shown {len(self.pairs)} of {len(COLOURS) * (len(COLOURS) - 1) // 2}",
            f"captions read {self.captions}, phrases in them that name two colours of a thing {self.phrases}",
            f"subjects {self.subjects}: pattern never shown {self.by_pattern}, "
            f"pair of colours never shown {self.by_pair}, of these both {both}",
        ]
        return "\n".join([*lines, *(self.broken or ("proven: no subject's looks are shown or named in training",))])


def unseen(
    scenes: int = TRAINING_SCENES,
    captions: Iterable[str] | None = None,
    subjects: Sequence[TabletopSubject] | None = None,
) -> Unseen:
    """Look through the first training scenes, and through captions, for the subjects' patterns and pairs of colours.

    Who stands in a scene is known without drawing it, 16,000 scenes in seconds.  ``captions``: those of a training run
    (its ``captions-*.json``) or ``drawn_captions(scenes)``, which takes an hour of a core; None reads none.
    """
    subjects = cast() if subjects is None else subjects
    patterns: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for n in range(scenes):
        for who in ordinary_individuals(f"train/{n}"):
            patterns[who.pattern] += 1
            pairs[_pair(who.main, who.second)] += 1
    read, phrases, broken = 0, 0, []
    for caption in captions or ():
        read += 1
        named_patterns, named_pairs = _named(caption)
        phrases += len(named_pairs)
        for what in [*(named_patterns - set(patterns)), *(" and ".join(p) for p in named_pairs if p not in pairs)]:
            broken.append(f"the caption {caption!r} names {what}, which no scene shows")
    new_pattern = [s.key for s in subjects if s.who.pattern not in patterns]
    new_pair = [s.key for s in subjects if _pair(s.who.main, s.who.second) not in pairs]
    broken += [
        f"subject {s.key}: training shows {s.who.pattern} things and {s.who.main} with {s.who.second}"
        for s in subjects
        if s.key not in new_pattern and s.key not in new_pair
    ]
    return Unseen(
        scenes=scenes,
        things=patterns.total(),
        captions=read,
        phrases=phrases,
        patterns=dict(sorted(patterns.items())),
        pairs=dict(sorted(pairs.items())),
        subjects=len(subjects),
        by_pattern=len(new_pattern),
        by_pair=len(new_pair),
        broken=tuple(broken),
    )


def drawn_captions(scenes: int = TRAINING_SCENES, processes: int = 1) -> Iterator[str]:
    """The captions of the first training scenes, in order; each scene is drawn, for where things stand decides some."""
    if processes == 1:
        yield from map(_caption, range(scenes))
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(_caption, range(scenes), chunksize=64)


def _caption(n: int) -> str:
    return ordinary_scene(f"train/{n}")[1]


_COLOUR, _NOUN = "|".join(COLOURS), "|".join(NOUNS)
_TWO_COLOURS = re.compile(
    rf"\b({_COLOUR}) and ({_COLOUR}) (?:{_NOUN})\b|\b({_COLOUR}) (?:{_NOUN}) with (?:an? )?({_COLOUR})\b"
)
"""The two ways in which ``individuals.full_phrase`` names both colours of a thing."""


def _named(caption: str) -> tuple[set[str], list[tuple[str, str]]]:
    """The patterns a caption names, and the pairs of colours it names of one thing."""
    words = set(re.findall(r"\w+", caption))
    found = [_pair(*(colour for colour in match if colour)) for match in _TWO_COLOURS.findall(caption)]
    return words & {*SEEN_PATTERNS, *UNSEEN_PATTERNS}, found


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)
