"""How often a 95 % interval holds the truth: samples of subjects with a known rate, and every kind of interval of each.

Rates of subjects vary as a beta distribution does about the rate of all, those of images and of a learner's seeds about
their subject's, so the truth is the rate.  How much they vary is said as a share of the variance of one answer.

Knows: how to draw answers and count hits.  Does not know: leaderboards, files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from prisbench.statistics import LEVEL, Interval, bounded
from prisbench.uncertainty.answers import Answers, Entry, Seeds
from prisbench.uncertainty.draws import LEVELS, drawn
from prisbench.uncertainty.spread import Spread, error_of, interval_of, spread_of

RATES = (0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.95)

AT_ONCE = 250
"""Samples that share their draws."""


class World(NamedTuple):
    """Where samples come from: images of a subject, of which every fourth has two queries; shares of the variance of an
    answer between subjects, between images of a subject, between seeds, which mean to each subject something else;
    what the right answers score, as a beta distribution's two numbers (None: 1).

    ``luck``: the variance of what a seed adds to all subjects alike, to the normal quantile of their rates.
    """

    name: str
    images: int
    subject: float
    image: float
    seeds: int = 1
    seed: float = 0.0
    score: tuple[float, float] | None = None
    luck: float = 0.0

    @property
    def mean_score(self) -> float:
        """What a right answer scores on average."""
        return 1.0 if self.score is None else self.score[0] / sum(self.score)


WORLDS = (
    World("yes or no, subjects 5 %", 32, 0.05, 0.15),
    World("yes or no, subjects 10 %", 32, 0.10, 0.15),
    World("IoU, subjects 5 %", 32, 0.05, 0.15, score=(8.0, 2.0)),
    World("three seeds, subjects 5 %, seeds 10 %", 32, 0.05, 0.0, seeds=3, seed=0.10),
)
"""As on the boards: methods of tabletop-v3 have 1 to 9 % between subjects."""

ELSEWHERE = (
    World("yes or no, subjects 20 %", 32, 0.20, 0.15),
    World("yes or no, eight images, subjects 10 %", 8, 0.10, 0.15),
    World("three seeds, alike for all subjects", 32, 0.05, 0.0, seeds=3, seed=0.10, luck=0.01),
)


class Cell(NamedTuple):
    """The share of samples whose interval holds the truth, for each of ``KINDS``."""

    world: str
    subjects: int
    rate: float
    samples: int
    covered: dict[str, float]


def simulate(world: World, subjects: int, rate: float, samples: int, draws: int = 1000, seed: int = 0) -> Cell:
    """One cell of the table; the same numbers give the same cell."""
    rng = np.random.default_rng([seed, subjects, world.images, round(1000 * rate)])
    truth, hits = rate * world.mean_score, dict.fromkeys(KINDS, 0)
    for start in range(0, samples, AT_ONCE):
        answers = sample(world, subjects, rate, min(AT_ONCE, samples - start), rng)
        nested = drawn(answers, LEVELS, draws, seed + start)
        over = drawn(answers, ("subject",), draws, seed + start)
        for place, entry in enumerate(answers.entries):
            spread = spread_of(answers, entry)
            for kind, make in KINDS.items():
                found = make(spread, subjects, over[:, place], nested[:, place])
                hits[kind] += found is not None and found[0] - 1e-12 <= truth <= found[1] + 1e-12
    return Cell(world.name, subjects, rate, samples, {kind: hit / samples for kind, hit in hits.items()})


def sample(world: World, subjects: int, rate: float, samples: int, rng: np.random.Generator) -> Answers:
    """``samples`` independent samples, as methods that answer the same queries."""
    of_image = np.arange(subjects).repeat(world.images)
    queries_of = np.where(np.arange(len(of_image)) % 4 == 0, 2, 1)
    image = np.arange(len(of_image)).repeat(queries_of)
    subject = of_image[image]
    rates = _beta(np.full((subjects, samples), rate), world.subject, rng)
    of_images = _beta(rates[of_image], world.image, rng)[image] if world.image else rates[subject]
    runs = []
    for _ in range(world.seeds):
        chances = _shifted(_beta(rates, world.seed, rng), world.luck, rng)[subject] if world.seed else of_images
        right = (rng.random(chances.shape) < chances).astype(np.float64)
        runs.append(right if world.score is None else right * rng.beta(*world.score, size=right.shape))
    above = np.stack(runs, axis=2).reshape(len(image), samples * world.seeds)
    entries = tuple(
        Entry(str(n), "", tuple(range(n * world.seeds, (n + 1) * world.seeds)),
              tuple(Seeds(k, None) for k in range(world.seeds)))
        for n in range(samples)
    )  # fmt: skip
    part = np.zeros(len(image), np.int64)
    return Answers("iou_mean", entries, above, np.ones_like(above), subject, image, part, ("",))


def _beta(mean: Float[np.ndarray, "*n"], share: float, rng: np.random.Generator) -> Float[np.ndarray, "*n"]:
    """Rates about a mean, whose variance is ``share`` of mean (1 - mean)."""
    many = (1 - share) / share
    inside = np.clip(mean, 1e-9, 1 - 1e-9)
    return np.clip(rng.beta(inside * many, (1 - inside) * many), 1e-9, 1 - 1e-9)


def _shifted(
    rates: Float[np.ndarray, "subjects samples"], luck: float, rng: np.random.Generator
) -> Float[np.ndarray, "subjects samples"]:
    """Rates of which a seed moves all of a sample by one normal number; their expectation stays as it is.

    For z of variance ``luck``, the mean of Phi(sqrt(1 + luck) Phi^-1(p) + z) is p.
    """
    if not luck:
        return rates
    moved = (1 + luck) ** 0.5 * special.ndtri(rates) + rng.normal(0, luck**0.5, rates.shape[1])
    return np.asarray(special.ndtr(moved))


Draws = Float[np.ndarray, " draws"]


def _ours(spread: Spread, units: int, over: Draws, nested: Draws) -> Interval | None:
    return interval_of(spread, units)


def _student(spread: Spread, units: int, over: Draws, nested: Draws) -> Interval:
    variance, freedom = error_of(spread.shares, [spread.luck])
    half = float(special.stdtrit(freedom, (1 + LEVEL) / 2)) * variance**0.5
    return spread.value - half, spread.value + half


def _corrected(spread: Spread, units: int, over: Draws, nested: Draws) -> Interval:
    return bca(spread.value, spread.shares, over)


def _board(spread: Spread, units: int, over: Draws, nested: Draws) -> Interval | None:
    return bounded(over, units)


def _nested(spread: Spread, units: int, over: Draws, nested: Draws) -> Interval | None:
    return bounded(nested, units)


def bca(value: float, shares: Float[np.ndarray, " subjects"], values: Draws) -> Interval:
    """Efron's bias-corrected and accelerated interval (1987) of draws of subjects, from the subjects' shares."""
    squares = float((shares**2).sum())
    if squares == 0 or np.ptp(values) == 0:
        return value, value
    bias = float(special.ndtri(np.clip((values < value).mean() + (values == value).mean() / 2, 1e-6, 1 - 1e-6)))
    speed = float((shares**3).sum()) / (6 * squares**1.5)
    ends = bias + special.ndtri([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(values, special.ndtr(bias + ends / (1 - speed * ends)))
    return float(low), float(high)


KINDS: dict[str, Callable[[Spread, int, Draws, Draws], Interval | None]] = {
    "Wilson, effective answers, t": _ours,
    "Student's t": _student,
    "BCa, subjects drawn": _corrected,
    "percentiles, subjects drawn (the board's)": _board,
    "percentiles, all levels drawn": _nested,
}
"""The first is that of ``prisbench uncertainty``."""


def table(
    worlds: Sequence[World], subjects: Sequence[int], rates: Sequence[float], samples: int, draws: int
) -> Iterator[Cell]:
    """Every cell, one after the other."""
    for world in worlds:
        for n in subjects:
            for rate in rates:
                yield simulate(world, n, rate, samples, draws)


def markdown(cells: Sequence[Cell]) -> str:
    """A row for each world, number of subjects and kind, a column for each rate."""
    rates = sorted({cell.rate for cell in cells})
    lines = ["| answers | subjects | interval | " + " | ".join(f"{rate:g}" for rate in rates) + " |"]
    lines.append("| :--- | ---: | :--- |" + " ---: |" * len(rates))
    for world, n in dict.fromkeys((cell.world, cell.subjects) for cell in cells):
        here = {cell.rate: cell for cell in cells if (cell.world, cell.subjects) == (world, n)}
        for kind in KINDS:
            shown = [f"{here[rate].covered[kind]:.3f}" if rate in here else "–" for rate in rates]
            lines.append(f"| {world} | {n} | {kind} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def records(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [cell._asdict() for cell in cells]
