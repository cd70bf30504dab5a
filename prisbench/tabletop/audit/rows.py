"""The score of a predictor, and the numbers behind it: means over queries, logistic regression.

Knows: statistics.  Does not know: scenes, what a predictor looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from prisbench.statistics import Interval, Sample, interval


@dataclass(frozen=True)
class Row:
    """One predictor's score on one kind of queries.

    ``question``: "which", "there" or "where".  ``needs`` says what the predictor must know: "scene" (pixels, outlines,
    how things look), "text", "training" (what the backbone never saw); or, which is part of the task and no shortcut,
    "noun" (which things carry the subject's noun) and "relation" (what the text says of the place).  ``scope``: which
    queries.  ``value`` is an accuracy, an AUC or a mIoU, ``interval`` its 95 % interval over subjects, ``chance`` what
    knowing nothing gives, ``gain`` the interval of value - chance; the last two are None for "where".
    """

    question: str
    predictor: str
    needs: str
    scope: str
    n: int
    value: float
    interval: Interval | None
    chance: float | None
    gain: Interval | None

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval of the gain lies above zero."""
        return self.gain is not None and self.gain[0] > 1e-9  # rounding


@runtime_checkable
class Asked(Protocol):
    """A query as far as a mean over queries goes."""

    @property
    def id(self) -> str: ...

    @property
    def subject(self) -> str: ...


def mean(values: Sequence[float], some: Sequence[Asked]) -> tuple[float, Interval | None]:
    """The mean over queries and its interval over subjects."""
    return float(np.mean(values)), interval(sample(values, some))


def sample(values: Sequence[float], some: Sequence[Asked]) -> Sample:
    """One value a query, each of weight 1."""
    ids, subjects = tuple(q.id for q in some), tuple(q.subject for q in some)
    return Sample(ids, subjects, np.asarray(values, dtype=np.float64), np.ones(len(some)))


def logistic(
    x: Float[np.ndarray, "n f"], y: Bool[np.ndarray, " n"], ridge: float = 3.0
) -> Callable[[Float[np.ndarray, "m f"]], Float[np.ndarray, " m"]]:
    """Ridge logistic regression by Newton's method, without a constant term; gives the log odds of new rows."""
    scale = np.sqrt((x**2).mean(axis=0))
    scale[scale == 0] = 1.0
    z, weights = x / scale, np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(z @ weights, -30, 30)))
        slope = z.T @ (y - p) - ridge * weights
        curve = (z * (p * (1 - p))[:, None]).T @ z + ridge * np.eye(len(weights))
        step = np.linalg.solve(curve, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-8:
            break
    return lambda new: new / scale @ weights
