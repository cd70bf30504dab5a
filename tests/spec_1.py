"""Metric spec 1 as it was, masks to counts to numbers: what spec 2 is held to where it says the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.errors import DataError
from prisbench.images.arrays import MaskLike, as_mask

METRIC_SPEC = "1"
"""Changes whenever the same masks would give other numbers."""

BOUNDARY_RATIO = 0.02
"""Boundary width as a share of the image diagonal: the default of Cheng et al. 2021, arXiv 2103.16562."""


@dataclass(frozen=True)
class Counts:
    """The sufficient statistics of one query; areas in pixels.

    ``area`` is the image's, h * w.  ``look_alike_intersection`` is what the prediction covers of look-alikes and not of
    the subject (boxes may overlap).  ``pointing_hit`` is None when the subject is absent or the method gave no peak,
    ``wrong_instance`` when the subject is absent or has no look-alike here, ``absent_fp`` when the subject is present.
    """

    intersection: int
    union: int
    predicted_area: int
    truth_area: int
    look_alike_intersection: int
    boundary_intersection: int
    boundary_union: int
    area: int
    pointing_hit: bool | None
    wrong_instance: bool | None
    absent_fp: bool | None


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


def count(
    mask: MaskLike | None,
    truth: MaskLike,
    look_alikes: Sequence[MaskLike] = (),
    *,
    query_id: str,
    query_type: str,
    peak_yx: tuple[int, int] | None = None,
) -> Counts:
    """The counts of one query.

    ``mask`` is the method's answer; None, for "absent" and for a method that failed, counts as an empty mask.

    Raises DataError, naming the query, when a mask has another size than the truth, when the peak lies outside the
    image, or when the truth is empty for a query that is not "absent" (or not empty for one that is).
    """
    mask = None if mask is None else as_mask(mask, f"query {query_id!r}: the prediction")
    truth = as_mask(truth, f"query {query_id!r}: the truth")
    others = [as_mask(each, f"query {query_id!r}: a look-alike") for each in look_alikes]
    h, w = truth.shape
    for name, other in (("prediction", mask), *(("look-alike", each) for each in others)):
        if other is not None and other.shape != truth.shape:
            raise DataError(
                f"query {query_id!r}: the {name} mask is {other.shape[0]} x {other.shape[1]}, the scene {h} x {w} "
                "(height x width); resize it to the scene first"
            )
    if peak_yx is not None and not (0 <= peak_yx[0] < h and 0 <= peak_yx[1] < w):
        raise DataError(f"query {query_id!r}: the peak (y, x) = {peak_yx} lies outside the scene of {h} x {w}")
    present = query_type != "absent"
    if bool(truth.any()) != present:
        what = "an empty" if present else "a non-empty"
        raise DataError(f"query {query_id!r}: type {query_type!r} with {what} truth mask; build the dataset again")

    predicted = np.zeros_like(truth) if mask is None else mask
    boundary, truth_boundary = boundary_of(predicted), boundary_of(truth)
    iou = _iou(predicted, truth)
    elsewhere = np.logical_or.reduce([np.zeros_like(truth), *others])
    return Counts(
        intersection=int((predicted & truth).sum()),
        union=int((predicted | truth).sum()),
        predicted_area=int(predicted.sum()),
        truth_area=int(truth.sum()),
        look_alike_intersection=int((predicted & elsewhere & ~truth).sum()),
        boundary_intersection=int((boundary & truth_boundary).sum()),
        boundary_union=int((boundary | truth_boundary).sum()),
        area=h * w,
        pointing_hit=bool(truth[peak_yx]) if present and peak_yx is not None else None,
        wrong_instance=any(_iou(predicted, each) > iou for each in others) if present and others else None,
        absent_fp=None if present else bool(predicted.any()),
    )


def boundary_of(mask: MaskLike) -> Bool[np.ndarray, "h w"]:
    """The pixels of a mask no farther than d (Chebyshev) from a pixel outside it; the frame counts as outside.

    d is 2 % of the diagonal, rounded, at least 1.  Cheng et al. 2021 erode d times by 3 x 3 behind a one-pixel zero
    border; that is one erosion by a square of 2d + 1, done here by sums over windows.
    """
    mask = as_mask(mask)
    h, w = mask.shape
    d = max(1, round(BOUNDARY_RATIO * math.hypot(h, w)))
    sums = np.pad(mask.astype(np.int32), ((d + 1, d), (d + 1, d))).cumsum(0).cumsum(1)
    side = 2 * d + 1
    windows: np.ndarray = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return mask & (windows < side * side)


def summarise(counts: Iterable[Counts]) -> dict[str, Mean]:
    """Every metric over these queries, by name."""
    counts = list(counts)
    return {name: _mean(metric, counts) for name, metric in METRICS.items()}


def _mean(metric: Metric, counts: list[Counts]) -> Mean:
    terms = [metric.terms(each) for each in counts if metric.scope(each)]
    defined = [each for each in terms if each is not None]
    below = math.fsum(denominator for _, denominator in defined)
    value = math.fsum(numerator for numerator, _ in defined) / below if defined else None
    return Mean(value, len(defined), len(terms) - len(defined))


def _iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """0 for two empty masks: no caller compares IoUs of an empty prediction to anything but each other."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def _present(counts: Counts) -> bool:
    return counts.truth_area > 0


def _precision_at(threshold: float) -> Metric:
    return Metric(
        name=f"p_at_{round(100 * threshold)}",
        label=f"P@{threshold}",
        meaning=f"share of queries with the subject in the scene whose IoU is at least {threshold}",
        scope=_present,
        terms=lambda c: (float(c.intersection / c.union >= threshold), 1.0),
    )


def _yes(answer: bool | None) -> tuple[float, float] | None:
    return None if answer is None else (float(answer), 1.0)


def _share_of_mask(pixels: int, counts: Counts) -> tuple[float, float] | None:
    return (pixels / counts.predicted_area, 1.0) if counts.predicted_area else None


# A present subject has a non-empty truth, hence a non-empty union and boundary: no denominator below can be zero.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="iou_mean",
            label="mIoU",
            meaning="IoU of each query, then the mean over queries with the subject in the scene; "
            "an empty mask or an error scores 0",
            scope=_present,
            terms=lambda c: (c.intersection / c.union, 1.0),
        ),
        Metric(
            name="iou_pooled",
            label="pooled IoU",
            meaning="all intersections over all unions of queries with the subject in the scene; "
            "large subjects weigh more",
            scope=_present,
            terms=lambda c: (float(c.intersection), float(c.union)),
        ),
        Metric(
            name="boundary_iou_mean",
            label="boundary IoU",
            meaning="as mIoU, of the bands inside the two outlines, 2 % of the image diagonal wide",
            scope=_present,
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
            scope=_present,
            terms=lambda c: _yes(c.pointing_hit),
        ),
        Metric(
            name="wrong_instance_rate",
            label="wrong instance",
            meaning="share of queries with the subject and a look-alike in the scene whose mask overlaps a look-alike "
            "(IoU) more than the subject; an empty mask is not wrong but stays in the count",
            scope=lambda c: c.wrong_instance is not None,
            terms=lambda c: _yes(c.wrong_instance),
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
            scope=_present,
            terms=lambda c: _share_of_mask(c.predicted_area - c.intersection - c.look_alike_intersection, c),
            higher_is_better=False,
        ),
        Metric(
            name="absent_fp_rate",
            label="absent FP",
            meaning="share of queries without the subject in the scene that are answered with a non-empty mask",
            scope=lambda c: c.absent_fp is not None,
            terms=lambda c: _yes(c.absent_fp),
            higher_is_better=False,
        ),
    )
}
"""Metric spec 1, in the order of the table's columns."""
