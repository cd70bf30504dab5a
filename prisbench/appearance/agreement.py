"""Which of the things in a subject's photos is the subject: the one that is in all of them.

    agreed   the photos' things, how much the words say of each, weights of looks  ->  a thing of each photo

Two things of two photos are counted as one network-free predictor would count them: the looks of one, and how like the
other is to them, both ways.  Where a network knows things again, what it says counts, too.  The choice whose pairs are
likest wins.  Words break ties: they are right less often than looks are (docs/decisions.md).

Knows: regions, looks, weights.  Does not know: networks, texts, truth.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32

from prisbench.appearance.known import Looks, rows
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.model import learn
from prisbench.network_free.weights import Weights
from prisbench.types import Subject

BOUND = 3.0
"""Log-odds of one pair, at most: a thing shows another side in another photo, so no pair may decide alone.  On the
validation subjects' photos bounds of 2 to 5 and weights of the words of 0.05 to 0.25 differ by less than 0.03 IoU."""

WORDS = 0.15
"""Weight of the logarithm of the words' map on a thing, beside the mean of its pairs with the other photos."""

LEAST_SHOWN = 1e-3
"""A map's height counts as this much at least."""

REACH = 4
"""A photo is compared with so many photos after it, in a circle: all of up to nine."""


@dataclass(frozen=True, eq=False)
class View:
    """A photo of a subject with the regions that may be it, at least one.

    ``shown``: how high the words' map is on each, 0..1; ``vectors``: of each, None where none are made.
    """

    scene: Scene
    things: Sequence[Bool[np.ndarray, "h w"]]
    shown: Sequence[float]
    vectors: Float32[np.ndarray, "n e"] | None = None


Pairs = Mapping[tuple[int, int], Float[np.ndarray, "_ _"]]
"""Two photos, the first before the second -> how alike each thing of one is to each of the other, in log-odds."""


def agreed(views: Sequence[View], weights: Weights, map_: str) -> list[int]:
    """For each photo the place of the thing that is the subject.  ``map_``: as ``likeness``.

    Every thing of every photo starts a choice, which is bettered a photo at a time; the best one is kept, the earliest
    of equals.  The same for any order of up to nine photos, but for exact ties.
    """
    counts = [len(view.things) for view in views]
    if max(counts, default=0) <= 1:
        return [0] * len(views)
    words = [WORDS * np.log(np.clip(view.shown, LEAST_SHOWN, 1)) for view in views]
    pairs = _pairs(views, weights, map_)
    best, value = [0] * len(views), -np.inf
    for start, thing in ((n, a) for n, count in enumerate(counts) for a in range(count)):
        found = _bettered(start, thing, words, pairs)
        total = _total(found, words, pairs)
        if total > value + 1e-9:
            best, value = found, total
    return best


def _pairs(views: Sequence[View], weights: Weights, map_: str) -> Pairs:
    models = [
        [learn(Subject("", "", (view.scene.image,), (thing,)), view.scene.balance) for thing in view.things]
        for view in views
    ]

    def seen(of: int, there: int) -> Float[np.ndarray, "n m"]:
        found = []
        for thing, model in enumerate(models[of]):
            vectors, view = views[of].vectors, views[there]
            looks = Looks(Evidence(view.scene, model), None if vectors is None else vectors[thing : thing + 1])
            numbers = rows(looks, view.things, view.vectors, map_, weights.names)
            chances = np.clip(weights.chance(numbers), 1e-9, 1 - 1e-9)
            found.append(np.clip(np.log(chances / (1 - chances)), -BOUND, BOUND))
        return np.array(found)

    count = len(views)
    pairs = itertools.combinations(range(count), 2)
    near = [(i, j) for i, j in pairs if min(j - i, count - j + i) <= REACH]
    return {(i, j): (seen(i, j) + seen(j, i).T) / 2 for i, j in near}


def _bettered(start: int, thing: int, words: Sequence[np.ndarray], pairs: Pairs) -> list[int]:
    """The choice that begins with one thing and what is likest it, bettered until no photo's change betters it."""
    found: list[int | None] = [None] * len(words)
    found[start] = thing
    order = [start, *(n for n in range(len(words)) if n != start)]
    for _ in range(10):
        before = list(found)
        for n in order[1:] if None in found else order:
            found[n] = int(np.argmax(_worth(n, found, words, pairs)))
        if found == before:
            break
    return [place or 0 for place in found]


def _worth(n: int, found: Sequence[int | None], words: Sequence[np.ndarray], pairs: Pairs) -> Float[np.ndarray, " n"]:
    """What each thing of a photo is worth beside what is chosen in the others: words, and the mean of the pairs."""
    beside = [
        pairs[n, m][:, place] if n < m else pairs[m, n][place]
        for m, place in enumerate(found)
        if place is not None and ((n, m) in pairs or (m, n) in pairs)
    ]
    return words[n] + (np.mean(beside, axis=0) if beside else 0.0)


def _total(found: Sequence[int], words: Sequence[np.ndarray], pairs: Pairs) -> float:
    """What a choice is worth: words, and each pair once."""
    worth = [words[n] + _worth(n, found, words, pairs) for n in range(len(found))]
    return float(sum(each[place] for each, place in zip(worth, found, strict=True))) / 2
