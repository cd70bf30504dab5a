"""Masks against masks over a whole set: a pooled confusion matrix, mIoU and its interval.

Knows: labels as arrays, one image at a time.  Does not know: files (``evaluate``), photos, models,
tables.

What is counted, as Text2Mask (``scripts/SD_seg.py``) and kazuto1011/deeplab-pytorch
(``libs/utils/metric.py``) do: pixels that are void in the truth are left out; the background is a
class; one matrix is summed over all images, the IoU of a class is its diagonal over row + column -
diagonal, and mIoU is the mean over the classes that occur in the truth.  A class in neither truth
nor prediction has no IoU.  One that is predicted only has an IoU of 0 and is not in the mean
(jiwoon-ahn/irn would count it; where the truth has all classes, as in VOC and COCO, that is the
same).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import sparse

from prisbench.errors import DataError, UsageError
from prisbench.statistics import FEWEST_SUBJECTS, SEED, Difference, Interval, bounded, percentiles
from prisbench.wsss.layouts import VOID
from prisbench.wsss.mask_faults import SAVED_AS_255, void_alone

DRAWS = 2_000
"""Of images, with replacement; enough for the second digit of a
percentile, and seconds for 80,000 images."""


class PredictedVoid(StrEnum):
    """What a void pixel of a prediction counts as, where the truth is not void.

    ``background``: as jiwoon-ahn/irn (``step/eval_sem_seg.py``).  ``ignore``: left out, as
    rulixiang/afa (``pseudo_scores``), which flatters masks that leave out what is hard.
    ``error``: nothing, such masks are refused.
    """

    error = "error"
    background = "background"
    ignore = "ignore"


class Judged(NamedTuple):
    """One image: a name for errors, its true labels, the predicted ones."""

    where: str
    truth: UInt8[np.ndarray, "h w"]
    predicted: UInt8[np.ndarray, "_h _w"]


@dataclass(frozen=True, eq=False)
class Tally:
    """What is kept of a set: pooled pixel counts (rows: truth, columns: prediction), and each
    image's areas.

    ``areas`` has a row for every class in every image that has or predicts it: image (0..), label,
    pixels of both, of the truth, of the prediction.  ``predicted_void`` pixels of ``pixels`` were
    void in the prediction; ``true_void`` more were void in the truth.  ``notes``: what is unusual
    about the masks, one sentence each.
    """

    confusion: Int[np.ndarray, "n n"]
    areas: Int[np.ndarray, "k 5"]
    images: int
    pixels: int
    predicted_void: int
    true_void: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """The numbers of a set, 0..1; None where undefined.

    ``miou`` is the mean over ``n_classes`` classes.  ``ious`` has one entry a class, background
    first, and ``class_images`` the images whose truth has it.  Of the other classes
    ``n_undefined`` occur nowhere, ``n_spurious`` in predictions only.  ``void_share`` is the share
    of pixels that were void in the prediction, ``true_void_share`` of all pixels those that are
    void in the truth and were not counted.
    """

    miou: float | None
    interval: Interval | None
    ious: tuple[float | None, ...]
    class_images: tuple[int, ...]
    images: int
    n_classes: int
    n_undefined: int
    n_spurious: int
    pixel_accuracy: float | None
    void_share: float | None
    true_void_share: float | None


def tally(judged: Iterable[Judged], classes: int, predicted_void: PredictedVoid = PredictedVoid.error) -> Tally:
    """Count a set, one image in memory at a time.

    Raises DataError as ``confusion``, and for a void prediction when ``predicted_void`` is
    "error".
    """
    pooled = np.zeros((classes, classes), np.int64)
    areas = array("q")
    images = void = true_void = 0
    for where, truth, predicted in judged:
        counts = confusion(truth, predicted, classes, where)
        matrix = counts[:, :classes]
        here = int(counts[:, classes].sum())
        if here and predicted_void is PredictedVoid.error:
            why = (
                f"it holds no class: {SAVED_AS_255}; else "
                if void_alone(np.bincount(predicted.ravel(), minlength=256))
                else ""
            )
            raise DataError(
                f"{where} leaves {here} pixels void ({VOID}) that have a true label; {why}choose how they count: "
                "background (as IRN) or ignore (as AFA)"
            )
        if predicted_void is PredictedVoid.background:
            matrix[:, 0] += counts[:, classes]
        pooled += matrix
        both, true, given = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
        for label in np.flatnonzero(true + given):
            areas.extend((images, int(label), int(both[label]), int(true[label]), int(given[label])))
        images, void, true_void = images + 1, void + here, true_void + truth.size - int(counts.sum())
    rows = np.frombuffer(areas, np.int64).reshape(-1, 5) if areas else np.zeros((0, 5), np.int64)
    ignored = void if predicted_void is PredictedVoid.ignore else 0
    return Tally(pooled, rows, images, int(pooled.sum()) + ignored, void, true_void)


def scores(counted: Tally, rng: np.random.Generator | None = None) -> Scores:
    """The numbers of a set, with the interval of its mIoU over images (``interval``)."""
    matrix = counted.confusion
    true, given = matrix.sum(axis=1), matrix.sum(axis=0)
    pixels, everywhere = int(matrix.sum()), counted.pixels + counted.true_void
    with_truth = counted.areas[counted.areas[:, 3] > 0, 1]
    return Scores(
        miou=mean_iou(matrix),
        interval=interval(counted, rng),
        ious=class_ious(matrix),
        class_images=tuple(int(n) for n in np.bincount(with_truth, minlength=len(matrix))),
        images=counted.images,
        n_classes=int((true > 0).sum()),
        n_undefined=int(((true == 0) & (given == 0)).sum()),
        n_spurious=int(((true == 0) & (given > 0)).sum()),
        pixel_accuracy=int(matrix.trace()) / pixels if pixels else None,
        void_share=counted.predicted_void / counted.pixels if counted.pixels else None,
        true_void_share=counted.true_void / everywhere if everywhere else None,
    )


def confusion(
    truth: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "_h _w"], classes: int, where: str = "the prediction"
) -> Int[np.ndarray, "n m"]:
    """Pixel counts, truth by prediction, without the truth's void; the last of the m = n + 1
    columns is the prediction's void.

    Raises DataError naming ``where`` for another size and for labels outside the classes.
    """
    if truth.shape != predicted.shape:
        (h, w), (height, width) = predicted.shape, truth.shape
        raise DataError(f"{where} is {h} x {w}, the true mask {height} x {width} (height x width)")
    for name, labels in (("the true mask of ", truth), ("", predicted)):
        wrong = labels[(labels >= classes) & (labels != VOID)]
        if wrong.size:
            raise DataError(f"{name}{where} has label {wrong[0]}; the classes are 0..{classes - 1}, and {VOID} is void")
    counted = truth != VOID
    columns = np.minimum(predicted[counted], classes)
    codes = truth[counted].astype(np.intp) * (classes + 1) + columns
    return np.bincount(codes, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def class_ious(confusion: Int[np.ndarray, "n n"]) -> tuple[float | None, ...]:
    """Every class's IoU; None for one in neither truth nor prediction."""
    both = confusion.diagonal()
    union = confusion.sum(axis=1) + confusion.sum(axis=0) - both
    return tuple(int(b) / int(u) if u else None for b, u in zip(both, union, strict=True))


def mean_iou(confusion: Int[np.ndarray, "n n"]) -> float | None:
    """The mean IoU of the classes in the truth; None without any."""
    present = np.flatnonzero(confusion.sum(axis=1))
    ious = class_ious(confusion)
    defined = [iou for label in present if (iou := ious[label]) is not None]
    return math.fsum(defined) / len(defined) if defined else None


def interval(counted: Tally, rng: np.random.Generator | None = None) -> Interval | None:
    """The percentile 95 % interval of mIoU when images are drawn again: ``DRAWS`` times as many as
    there are.

    In every draw areas are pooled and averaged as in the whole set, over the classes in that
    draw's truth.  It tells how far the number depends on these images, not on the training or the
    labelling.  None for fewer than ``FEWEST_SUBJECTS`` images (``statistics``).
    """
    drawn = _draw_mious(counted, rng)
    return None if drawn is None else bounded(drawn, counted.images)


def difference(first: Tally, second: Tally, rng: np.random.Generator | None = None) -> Difference:
    """``first - second`` in mIoU on the same images in the same order: both get the same draws.

    Raises UsageError for another number of images.
    """
    if first.images != second.images:
        raise UsageError(f"the two were scored on {first.images} and {second.images} images; score the same ones")
    seed = int((rng or np.random.default_rng(SEED)).integers(2**63))
    one, two = (_draw_mious(each, np.random.default_rng(seed)) for each in (first, second))
    a, b = mean_iou(first.confusion), mean_iou(second.confusion)
    if a is None or b is None:
        return Difference(None, None, 0)
    spread = None if one is None or two is None else percentiles(one - two, first.images)
    return Difference(a - b, spread, first.images)


def _draw_mious(counted: Tally, rng: np.random.Generator | None) -> Float[np.ndarray, " draws"] | None:
    """mIoU of every draw, NaN where a draw has no truth at all."""
    images, classes = counted.images, len(counted.confusion)
    if images < FEWEST_SUBJECTS:
        return None
    rng = rng or np.random.default_rng(SEED)
    image, label, *values = counted.areas.T
    both, true, given = (
        sparse.csr_array((each.astype(np.float64), (image, label)), shape=(images, classes)) for each in values
    )
    mious = []
    for start in range(0, DRAWS, 100):
        draws = min(100, DRAWS - start)
        drawn = rng.integers(images, size=(draws, images)) + images * np.arange(draws)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=draws * images).reshape(draws, images).astype(np.float64)
        inter, truth, answer = (np.asarray(weights @ each) for each in (both, true, given))
        present = truth > 0
        iou = np.divide(inter, truth + answer - inter, out=np.zeros_like(inter), where=present)
        n = present.sum(axis=1)
        mious.append(np.divide(iou.sum(axis=1), n, out=np.full(draws, np.nan), where=n > 0))
    return np.concatenate(mious)
