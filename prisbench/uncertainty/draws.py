"""The hierarchical bootstrap: subjects, their images and the images' queries are drawn again, crossed with seeds.

A draw is a row of weights: how often each query is in it.  A subject that is drawn twice has its images drawn twice,
each time anew, so of a subject of n images that is drawn w times w n images are drawn, and so on down.  No answer is
copied, and every method has the same draws.

Knows: weights and what answers are worth under them.  Does not know: what a draw is used for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from prisbench.errors import UnknownNameError
from prisbench.statistics import DRAWS, SEED
from prisbench.uncertainty.answers import Answers

LEVELS = ("subject", "image", "query", "seed")
"""What may be drawn again.  What is not stays as it is: without "subject", the answer is about these subjects."""

OVER_SUBJECTS = ("subject", "seed")
"""New subjects and seeds.  The images and queries of a subject come with it, so their part of the variance is in it."""

_AT_ONCE = 500
"""Draws of which the weights are in memory: 10 MB for 2,500 queries."""


def drawn(
    answers: Answers, levels: Collection[str] = LEVELS, draws: int = DRAWS, seed: int = SEED
) -> Float[np.ndarray, "draws entries"]:
    """Every method's number in every draw; NaN in a draw that has no query of a part.

    The draws follow from ``seed`` and the numbers of subjects, images and queries alone, those of a method's seeds from
    its name: another method beside it changes nothing.  Raises UnknownNameError for an unknown level.
    """
    for level in levels:
        if level not in LEVELS:
            raise UnknownNameError("level", level, LEVELS)
    nested = tuple(level for level in LEVELS[:3] if level in levels)
    units, parts = _parts(answers, nested)
    out = np.empty((draws, len(answers.entries)))
    lots = [_seed_weights(entry.name, len(entry.columns), "seed" in levels, draws, seed) for entry in answers.entries]
    start = 0
    for weights in _weights(units, nested, draws, np.random.default_rng(seed)):
        stop = start + len(weights)
        sums = [_sums(part, weights) for part in parts]
        for place, entry in enumerate(answers.entries):
            some, columns = lots[place][start:stop], list(entry.columns)
            ratios = [_ratio(above[:, columns] * some, below[:, columns] * some) for above, below in sums]
            out[start:stop, place] = np.mean(ratios, axis=0)
        start = stop
    return out


class Units(NamedTuple):
    """The units of the lowest level that is drawn, each in its image (or itself) and subject, sorted.

    ``images_of`` and ``queries_of`` count the images of each subject, the queries of each image.
    """

    subject: Int64[np.ndarray, " images"]
    image: Int64[np.ndarray, " units"]
    images_of: Int64[np.ndarray, " subjects"]
    queries_of: Int64[np.ndarray, " images"]


def _weights(
    units: Units, nested: tuple[str, ...], draws: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "some units"]]:
    """How often each unit of the lowest level is in each draw, ``_AT_ONCE`` draws at a time."""
    subjects = len(units.images_of)
    for start in range(0, draws, _AT_ONCE):
        some = min(_AT_ONCE, draws - start)
        weights: Int64[np.ndarray, "some units"] = np.ones((some, subjects), np.int64)
        if "subject" in nested:
            weights = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=some)
        if nested and nested[-1] != "subject":
            weights = _within(weights, units.images_of, units.subject, "image" in nested, rng)
        if nested and nested[-1] == "query":
            weights = _within(weights, units.queries_of, units.image, True, rng)
        yield weights.astype(np.float64)


def _within(
    weights: Int64[np.ndarray, "some groups"],
    sizes: Int64[np.ndarray, " groups"],
    group: Int64[np.ndarray, " members"],
    again: bool,
    rng: np.random.Generator,
) -> Int64[np.ndarray, "some members"]:
    """How often each member is drawn of groups that are drawn ``weights`` times; members of a group stand together.

    A group of n members that is in a draw w times has w n members drawn.
    """
    if not again:
        return weights[:, group]
    some, groups, members = len(weights), len(sizes), len(group)
    starts = np.cumsum(sizes) - sizes
    picks = (weights * sizes).ravel()
    of = np.repeat(np.arange(some * groups), picks)
    first, size = (np.tile(each, some)[of] for each in (starts, sizes))
    member = first + (rng.random(len(of)) * size).astype(np.int64)
    draw = np.repeat(np.arange(some) * members, picks.reshape(some, groups).sum(axis=1))
    return np.bincount(draw + member, minlength=some * members).reshape(some, members)


class Part(NamedTuple):
    """The units that a part has, and the sums of each: of ``above`` a column a run, of ``below`` a column for each
    ``which`` of the runs, one for all where they have the same.
    """

    units: Int64[np.ndarray, " some"]
    above: Float[np.ndarray, "some runs"]
    below: Float[np.ndarray, "some distinct"]
    which: Int64[np.ndarray, " runs"]


def _parts(answers: Answers, nested: tuple[str, ...]) -> tuple[Units, list[Part]]:
    """The units of the lowest level drawn, and the sums of every part."""
    first = np.unique(answers.image, return_index=True)[1]
    subject_of_image = answers.subject[first]
    lowest = nested[-1] if nested else "subject"
    unit = {"subject": answers.subject, "image": answers.image, "query": np.arange(len(answers.subject))}[lowest]
    units = Units(
        subject_of_image,
        answers.image if lowest == "query" else np.arange(len(first)),
        np.bincount(subject_of_image),
        np.bincount(answers.image),
    )
    parts = []
    for number in range(len(answers.parts)):
        mine = answers.part == number
        there, starts = np.unique(unit[mine], return_index=True)
        above, below = (np.add.reduceat(terms[mine], starts, axis=0) for terms in (answers.above, answers.below))
        same = bool((below == below[:, :1]).all())
        which = np.zeros(below.shape[1], np.int64) if same else np.arange(below.shape[1])
        parts.append(Part(there, above, below[:, :1] if same else below, which))
    return units, parts


def _sums(
    part: Part, weights: Float[np.ndarray, "some units"]
) -> tuple[Float[np.ndarray, "some runs"], Float[np.ndarray, "some runs"]]:
    """Numerator and denominator of each run in each draw."""
    mine = weights if len(part.units) == weights.shape[1] else weights[:, part.units]
    return mine @ part.above, (mine @ part.below)[:, part.which]


def _ratio(
    above: Float[np.ndarray, "some seeds"], below: Float[np.ndarray, "some seeds"]
) -> Float[np.ndarray, " some"]:
    """Sum over sum of each draw; NaN where nothing defines it."""
    top, bottom = above.sum(axis=1), below.sum(axis=1)
    return np.divide(top, bottom, out=np.full(len(bottom), np.nan), where=bottom > 0)


def _seed_weights(name: str, seeds: int, again: bool, draws: int, seed: int) -> Float[np.ndarray, "draws seeds"]:
    """How often each of a method's seeds is in each draw; once where seeds are not drawn."""
    if not again or seeds == 1:
        return np.ones((draws, seeds))
    own = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return np.random.default_rng([seed, own]).multinomial(seeds, np.full(seeds, 1 / seeds), size=draws).astype(float)
