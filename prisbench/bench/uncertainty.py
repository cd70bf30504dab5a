"""How fast the hierarchical bootstrap is, beside scipy.stats.bootstrap given the same estimate.

Knows: how to draw answers and time both.  Does not know: leaderboards, methods, files.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from prisbench.statistics import FEWEST_SUBJECTS
from prisbench.uncertainty.answers import Answers, Entry, Seeds
from prisbench.uncertainty.draws import LEVELS, OVER_SUBJECTS, drawn


class Size(NamedTuple):
    """How much is drawn; an image has two queries."""

    subjects: int = 48
    queries: int = 2500
    methods: int = 15
    seeds: int = 3


def drawn_answers(size: Size, seed: int = 0) -> Answers:
    """Right and wrong answers by lot, better for some subjects and images than for others."""
    rng = np.random.default_rng(seed)
    image = np.arange(size.queries) // 2
    order = np.argsort(image % size.subjects, kind="stable")
    subject = np.sort(image % size.subjects)
    _, image = np.unique(np.stack([subject, image[order]]), axis=1, return_inverse=True)
    image = image.reshape(-1)
    ease = rng.normal(0, 0.5, size.subjects)[subject] + rng.normal(0, 0.5, image.max() + 1)[image]
    skill = np.linspace(-1, 1, size.methods).repeat(size.seeds)
    chance = 1 / (1 + np.exp(-(skill + ease[:, None])))
    entries = tuple(
        Entry(f"method-{n}", "drawn", tuple(range(n * size.seeds, (n + 1) * size.seeds)),
              tuple(Seeds(seed, None) for seed in range(size.seeds)))
        for n in range(size.methods)
    )  # fmt: skip
    above = (rng.random(chance.shape) < chance).astype(np.float64)
    part = np.zeros(size.queries, np.int64)
    return Answers("iou_mean", entries, above, np.ones_like(above), subject, image, part, ("",))


def bench_uncertainty(size: Size, draws: int, scipy_draws: int) -> dict[str, Any]:
    """Processor seconds of ``draws`` draws of every method, of subjects and seeds, and of all levels; beside scipy's.

    A record that fits JSON.  scipy is given a statistic of all methods: for subjects one that works on arrays, for all
    levels one that draws images and queries of each subject, ``scipy_draws`` times, from which all draws are reckoned.
    ``differ``: the largest difference of standard deviations, in parts of ours.
    """
    answers = drawn_answers(size)
    record: dict[str, Any] = {"size": size._asdict(), "draws": draws, "scipy_draws": scipy_draws, "parts": {}}
    drawn(answers, OVER_SUBJECTS, 100)
    for name, levels in (("subjects and seeds", OVER_SUBJECTS), ("all levels", LEVELS)):
        start = time.process_time()
        ours = drawn(answers, levels, draws)
        seconds = time.process_time() - start
        part: dict[str, Any] = {"seconds": round(seconds, 3), "scipy_seconds": None, "ratio": None, "differ": None}
        if scipy_draws:
            times = draws if levels == OVER_SUBJECTS else scipy_draws
            start = time.process_time()
            theirs = scipy_errors(answers, levels, times)
            theirs_seconds = (time.process_time() - start) * draws / times
            spread = ours.std(axis=0, ddof=1)
            part |= {"scipy_seconds": round(theirs_seconds, 1), "ratio": round(theirs_seconds / seconds, 1)}
            part["differ"] = round(float(np.abs(theirs / spread - 1).max()), 3)
        record["parts"][name] = part
    return record


def scipy_errors(answers: Answers, levels: tuple[str, ...], draws: int) -> Float[np.ndarray, " entries"]:
    """The standard error of every method by scipy.stats.bootstrap, whose unit is the subject."""
    from scipy import stats

    rng = np.random.default_rng(1)
    subjects = int(answers.subject.max()) + 1
    columns = np.array([entry.columns for entry in answers.entries])
    rows_of = [np.flatnonzero(answers.subject == subject) for subject in range(subjects)]
    images_of = [[rows[answers.image[rows] == image] for image in np.unique(answers.image[rows])] for rows in rows_of]
    sums = np.stack([answers.above[rows].sum(axis=0) for rows in rows_of])
    counts = np.array([len(rows) for rows in rows_of])

    def seeds(values: Float[np.ndarray, "batch runs"]) -> Float[np.ndarray, "methods batch"]:
        """The mean over seeds that are drawn again, another lot of them for each method and draw."""
        picked = rng.integers(0, columns.shape[1], (len(values), *columns.shape))
        return np.take_along_axis(values[:, columns], picked, axis=2).mean(axis=2).T

    def of_subjects(chosen: Int64[np.ndarray, "batch n"], axis: int = -1) -> Float[np.ndarray, "methods batch"]:
        chosen = np.atleast_2d(chosen)
        return seeds(sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)[:, None])

    def of_all(chosen: Int64[np.ndarray, "batch n"], axis: int = -1) -> Float[np.ndarray, "methods batch"]:
        values = []
        for draw in np.atleast_2d(chosen):
            rows = []
            for subject in draw:
                images = images_of[subject]
                for number in rng.integers(0, len(images), len(images)):
                    rows.append(rng.choice(images[number], len(images[number])))
            values.append(answers.above[np.concatenate(rows)].mean(axis=0))
        return seeds(np.array(values))

    found = stats.bootstrap(
        (np.arange(subjects),),
        of_subjects if levels == OVER_SUBJECTS else of_all,
        n_resamples=draws,
        vectorized=True,
        batch=min(draws, 500),
        method="percentile",
        rng=rng,
    )
    return np.asarray(found.standard_error)


def render(record: dict[str, Any]) -> list[str]:
    """The record in lines to read."""
    size = Size(**record["size"])
    lines = [
        f"{record['draws']:,} draws, {size.subjects} subjects, {size.queries:,} queries, {size.methods} methods x "
        f"{size.seeds} seeds"
    ]
    for name, part in record["parts"].items():
        line = f"{name}: {part['seconds']:.2f} s of one processor"
        if part["ratio"] is not None:
            reckoned = "" if name != "all levels" else f", reckoned from {record['scipy_draws']} draws"
            line += (
                f"; scipy.stats.bootstrap with the same estimate {part['scipy_seconds']:.1f} s{reckoned}, "
                f"{part['ratio']:.1f} times as long; standard errors differ by at most {part['differ']:.1%}"
            )
        lines.append(line)
    return lines


def check_size(size: Size) -> str | None:
    """What is wrong with a size, in words; None where nothing is."""
    if size.subjects < FEWEST_SUBJECTS or size.queries < 2 * size.subjects:
        return f"{size.subjects} subjects and {size.queries} queries: at least {FEWEST_SUBJECTS}, and two for each"
    return None
