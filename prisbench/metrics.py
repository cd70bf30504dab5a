"""Counts -> numbers: metric spec 2, in code.  The same in words and formulas: ``docs/metrics.md``.

A metric is a ratio of two sums over queries, so the same terms give the number, its n and its bootstrap interval.  What
is not such a ratio stands in ``presence`` and ``pairs``, names that other papers use in ``aliases``.  Rows that were
scored by spec 1 have their numbers from ``metrics``.

Knows: counts.  Does not know: masks, subjects, runs, files; intervals are made in ``statistics``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from prisbench.counts import Counts

METRIC_SPEC = "2"
"""Changes whenever the same masks would give other numbers."""


class Mean(NamedTuple):
    """A number, the queries it stands on, and the queries it should but cannot stand on.

    ``value`` is None when no query defines it.
    """

    value: float | None
    n: int
    n_undefined: int


@dataclass(frozen=True)
class Metric:
    """``sum of numerators / sum of denominators`` over the queries in ``scope``; 0..1.

    ``terms`` gives a query's numerator and denominator, or None where the metric is not defined for it.
    """

    name: str
    label: str
    meaning: str
    scope: Callable[[Counts], bool]
    terms: Callable[[Counts], tuple[float, float] | None]
    higher_is_better: bool = True


def summarise(counts: Iterable[Counts]) -> dict[str, Mean]:
    """Every metric over these queries, by name."""
    counts = list(counts)
    return {name: mean(metric, counts) for name, metric in METRICS.items()}


def mean(metric: Metric, counts: Iterable[Counts]) -> Mean:
    """One metric over these queries."""
    terms = [metric.terms(each) for each in counts if metric.scope(each)]
    defined = [each for each in terms if each is not None]
    below = math.fsum(denominator for _, denominator in defined)
    value = math.fsum(numerator for numerator, _ in defined) / below if below else None
    return Mean(value, len(defined), len(terms) - len(defined))


def has_referent(counts: Counts) -> bool:
    """Whether the text means something in the scene."""
    return counts.truth_area > 0


def boundary_f(counts: Counts) -> float | None:
    """F of precision a / b and recall c / d of the contours, as DAVIS has it; None where contours were not counted.

    2 (a / b) (c / d) / (a / b + c / d) = 2 a c / (a d + c b).  An empty mask scores 0; two masks without a contour are
    both the whole frame and score 1.
    """
    a, b = counts.matched_predicted_contour, counts.predicted_contour
    c, d = counts.matched_truth_contour, counts.truth_contour
    if a is None or b is None or c is None or d is None:
        return None
    if not b and not d:
        return float(counts.predicted_area > 0)
    below = a * d + c * b
    return 2 * a * c / below if below else 0.0


def two_class_iou(counts: Counts) -> float:
    """The mean of the IoU of what is inside and of what is outside; of the first alone where nothing is outside.

    Both masks may be empty: then nothing is inside, and all that counts is outside.
    """
    inside = counts.intersection / counts.union if counts.union else None
    outside_of_one = counts.area - counts.intersection
    outside = (counts.area - counts.union) / outside_of_one if outside_of_one else None
    known = [each for each in (inside, outside) if each is not None]
    return sum(known) / len(known)


def _precision_at(threshold: float) -> Metric:
    return Metric(
        name=f"p_at_{round(100 * threshold)}",
        label=f"P@{threshold}",
        meaning=f"share of queries with the subject in the scene whose IoU is at least {threshold}",
        scope=has_referent,
        terms=lambda c: (float(c.intersection / c.union >= threshold), 1.0),
    )


def _yes(answer: bool | None) -> tuple[float, float] | None:
    return None if answer is None else (float(answer), 1.0)


def _value(value: float | None) -> tuple[float, float] | None:
    return None if value is None else (value, 1.0)


def _share_of_mask(pixels: int, counts: Counts) -> tuple[float, float] | None:
    return (pixels / counts.predicted_area, 1.0) if counts.predicted_area else None


# What a text means has a non-empty truth, hence a non-empty union and boundary: no denominator below can be zero.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="iou_mean",
            label="mIoU",
            meaning="IoU of each query, then the mean over queries with the subject in the scene; "
            "an empty mask or an error scores 0",
            scope=has_referent,
            terms=lambda c: (c.intersection / c.union, 1.0),
        ),
        Metric(
            name="iou_pooled",
            label="pooled IoU",
            meaning="all intersections over all unions of queries with the subject in the scene; "
            "large subjects weigh more",
            scope=has_referent,
            terms=lambda c: (float(c.intersection), float(c.union)),
        ),
        Metric(
            name="boundary_iou_mean",
            label="boundary IoU",
            meaning="as mIoU, of the bands inside the two outlines, 2 % of the image diagonal wide",
            scope=has_referent,
            terms=lambda c: (c.boundary_intersection / c.boundary_union, 1.0),
        ),
        _precision_at(0.5),
        _precision_at(0.7),
        _precision_at(0.9),
        Metric(
            name="pointing",
            label="pointing",
            meaning="share of queries with the subject in the scene whose surest pixel lies on the subject; "
            "undefined, and counted, where the method names no pixel",
            scope=has_referent,
            terms=lambda c: (0.0, 1.0) if c.failed else _yes(c.pointing_hit),
        ),
        Metric(
            name="wrong_instance_rate",
            label="wrong instance",
            meaning="share of queries with the subject and a look-alike in the scene whose mask overlaps a look-alike "
            "(IoU) more than the subject; an empty mask is not wrong but stays in the count",
            scope=lambda c: c.wrong_instance is not None,
            terms=lambda c: _yes(c.failed or c.wrong_instance),
            higher_is_better=False,
        ),
        Metric(
            name="on_look_alikes",
            label="on look-alikes",
            meaning="share of a mask that lies on look-alikes, then the mean over queries with the subject and a "
            "look-alike in the scene: how far the subject is confused with its noun; undefined, and counted, for an "
            "empty mask",
            scope=lambda c: c.wrong_instance is not None,
            terms=lambda c: _share_of_mask(c.look_alike_intersection, c),
            higher_is_better=False,
        ),
        Metric(
            name="on_background",
            label="on background",
            meaning="share of a mask that lies neither on the subject nor on a look-alike, then the mean over queries "
            "with the subject in the scene; undefined, and counted, for an empty mask",
            scope=has_referent,
            terms=lambda c: _share_of_mask(c.predicted_area - c.intersection - c.look_alike_intersection, c),
            higher_is_better=False,
        ),
        Metric(
            name="absent_fp_rate",
            label="absent FP",
            meaning="share of queries without the subject in the scene that are answered with a non-empty mask",
            scope=lambda c: c.absent_fp is not None,
            terms=lambda c: _yes(c.failed or c.absent_fp),
            higher_is_better=False,
        ),
        Metric(
            name="contradicted_fp_rate",
            label="contradicted FP",
            meaning="share of queries whose text contradicts the scene that are answered with a non-empty mask",
            scope=lambda c: c.contradicted_fp is not None,
            terms=lambda c: _yes(c.failed or c.contradicted_fp),
            higher_is_better=False,
        ),
        Metric(
            name="instance_accuracy",
            label="right instance",
            meaning="share of queries with a referent whose mask has an IoU of at least 0.5 with it, and more than "
            "with every other known thing of the scene",
            scope=lambda c: c.right_instance is not None,
            terms=lambda c: _yes(c.right_instance),
        ),
        Metric(
            name="dice_mean",
            label="Dice",
            meaning="twice the intersection over the sum of both areas, then the mean over queries with a referent",
            scope=has_referent,
            terms=lambda c: (2 * c.intersection / (c.predicted_area + c.truth_area), 1.0),
        ),
        Metric(
            name="boundary_f_mean",
            label="boundary F",
            meaning="F of precision and recall of the contour pixels, met within 0.8 % of the image diagonal, then the "
            "mean over queries with a referent; an empty mask scores 0",
            scope=lambda c: has_referent(c) and c.truth_contour is not None,
            terms=lambda c: _value(boundary_f(c)),
        ),
        Metric(
            name="two_class_iou_mean",
            label="two-class IoU",
            meaning="the mean of the IoU of the mask and of the background, then the mean over queries with a "
            "referent; a small subject that is missed still scores nearly 0.5",
            scope=has_referent,
            terms=lambda c: (two_class_iou(c), 1.0),
        ),
    )
}
"""Metric spec 2, in the order of the table's columns."""

SPEC_1 = tuple(list(METRICS)[:11])
"""What tables of spec 1 hold.  Its rows have counts without failures, so these metrics give the numbers of spec 1."""
