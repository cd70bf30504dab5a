"""Does a method know whether the text has a referent?  Correlation, ROC, and risk against coverage.

Positive is a text with a referent in the scene; negative are absent and contradicted queries, together or apart.  A
query that failed counts as wrong: its mask the wrong way round, its score the worst there could be.

Knows: counts and presence scores, by query and subject.  Does not know: masks, runs, files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from prisbench.counts import Scored
from prisbench.statistics import FEWEST_SUBJECTS, Interval, Roc, bounded, roc, subject_weights
from prisbench.types import REFERENTLESS


class Correlation(NamedTuple):
    """Matthews' correlation of "the mask is not empty" with "the text has a referent", -1 to 1.

    ``n_subjects``: subjects with positive queries or subjects with negative ones, whichever are fewer.
    """

    value: float
    interval: Interval | None
    n: int
    n_subjects: int


class RiskCoverage(NamedTuple):
    """What is at risk when only the surest answers are taken.

    ``aurc``: the mean over coverages 1/n, 2/n, ..., 1 of the mean loss of the surest answers.  ``points``: at most 101
    pairs (coverage, risk), the last at coverage 1.  ``n_undefined``: queries without a score.
    """

    aurc: float
    points: list[tuple[float, float]]
    n: int
    n_undefined: int


def presence_mcc(
    queries: Sequence[Scored], negatives: Sequence[str] = REFERENTLESS, rng: np.random.Generator | None = None
) -> Correlation | None:
    """Of queries with a referent and those of the types in ``negatives``; None unless both kinds are there.

    0 for a method that always answers with a mask, or never: what does not vary correlates with nothing.  The interval
    is over subjects, as in ``statistics.roc``; where all draws agree on -1 or 1 it has the width that ``bounded`` gives
    to (1 + MCC) / 2.
    """
    return correlation(confusions(queries, negatives), rng)


def confusions(queries: Iterable[Scored], negatives: Sequence[str] = REFERENTLESS) -> dict[str, Int64[np.ndarray, "4"]]:
    """Each subject's true positives, false negatives, false positives and true negatives."""
    tables: dict[str, Int64[np.ndarray, "4"]] = {}
    for query in _of_types(queries, negatives):
        positive, answered = query.query_type not in REFERENTLESS, query.counts.predicted_area > 0
        if query.counts.failed:
            answered = not positive
        table = tables.setdefault(query.subject_id, np.zeros(4, dtype=np.int64))
        table[2 * (not positive) + (not answered)] += 1
    return tables


def correlation(
    tables: Mapping[str, Int64[np.ndarray, "4"]], rng: np.random.Generator | None = None
) -> Correlation | None:
    """``presence_mcc`` of the subjects' ``confusions``."""
    table = np.array([tables[name] for name in sorted(tables)], dtype=np.float64).reshape(-1, 4)
    with_positives, with_negatives = (int((table[:, cells].sum(1) > 0).sum()) for cells in ([0, 1], [2, 3]))
    fewer = min(with_positives, with_negatives)
    if not fewer:
        return None
    found: Interval | None = None
    if fewer >= FEWEST_SUBJECTS:
        ends = bounded((1 + _correlations(subject_weights(len(table), rng) @ table)) / 2, fewer)
        found = None if ends is None else (2 * ends[0] - 1, 2 * ends[1] - 1)
    value = float(_correlations(table.sum(0, keepdims=True))[0])
    return Correlation(value, found, int(table.sum()), fewer)


def presence_roc(
    queries: Sequence[Scored], negatives: Sequence[str] = REFERENTLESS, rng: np.random.Generator | None = None
) -> Roc | None:
    """The ROC of the presence score, of the same queries; None unless both kinds are there, and for a method without.

    A query without a score is left out; one that failed has the worst one, below all or above all.
    """
    chosen = [query for query in _of_types(queries, negatives) if query.counts.failed or query.presence is not None]
    if not any(query.presence is not None and not query.counts.failed for query in chosen):
        return None
    return roc(
        np.array([presence_score(query) for query in chosen], dtype=np.float64),
        np.array([query.query_type not in REFERENTLESS for query in chosen], dtype=bool),
        [query.subject_id for query in chosen],
        rng,
    )


def risk_coverage(queries: Sequence[Scored]) -> RiskCoverage | None:
    """Of all queries with a score; None when there are none.

    How sure an answer is: the presence score of a mask, one minus it for "not here"; a failure counts as the surest, so
    it costs at every coverage.  The loss is 1 - IoU with a referent; without one it is 0 for an empty mask and 1 for
    any other.  A failure's is 1.  Equally sure answers come in every order alike, which means: their mean each.
    """
    chosen = [query for query in queries if query.counts.failed or query.presence is not None]
    if not any(query.presence is not None and not query.counts.failed for query in chosen):
        return None
    sure, loss = ([of(query) for query in chosen] for of in (sureness, loss_of))
    return risk_curve(np.array(sure), np.array(loss), len(queries) - len(chosen))


def risk_curve(sure: Float[np.ndarray, " n"], loss: Float[np.ndarray, " n"], n_undefined: int = 0) -> RiskCoverage:
    """``risk_coverage`` of answers with these degrees of sureness and these losses."""
    _, of, sizes = np.unique(-sure, return_inverse=True, return_counts=True)
    n = len(sure)
    risks = np.repeat(np.bincount(of, loss) / sizes, sizes).cumsum() / np.arange(1, n + 1)
    rows = np.unique(np.ceil(np.linspace(0, 1, 101) * n).astype(int).clip(1) - 1)
    points = [((row + 1) / n, float(risks[row])) for row in map(int, rows)]
    return RiskCoverage(float(risks.mean()), points, n, n_undefined)


def sureness(query: Scored) -> float:
    """How sure an answer is; infinity for a failure."""
    if query.counts.failed or query.presence is None:
        return math.inf
    return query.presence if query.counts.predicted_area else 1 - query.presence


def loss_of(query: Scored) -> float:
    """1 - IoU, of a text without a referent 0 or 1."""
    counts = query.counts
    if counts.failed:
        return 1.0
    return 1 - counts.intersection / counts.union if counts.union else 0.0


def _of_types(queries: Iterable[Scored], negatives: Sequence[str]) -> list[Scored]:
    return [query for query in queries if query.query_type not in REFERENTLESS or query.query_type in negatives]


def presence_score(query: Scored) -> float:
    """The score of a query that has one, and the worst of one that failed."""
    if query.counts.failed or query.presence is None:
        return math.inf if query.query_type in REFERENTLESS else -math.inf
    return query.presence


def _correlations(tables: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """MCC of each row of counts; NaN without positives or without negatives, 0 where all answers are alike."""
    tp, fn, fp, tn = tables.T
    below = np.sqrt((tp + fn) * (fp + tn)) * np.sqrt((tp + fp) * (fn + tn))
    out = np.divide(tp * tn - fp * fn, below, out=np.zeros(len(tables)), where=below > 0)
    out[((tp + fn) == 0) | ((fp + tn) == 0)] = np.nan
    return out.clip(-1, 1)
