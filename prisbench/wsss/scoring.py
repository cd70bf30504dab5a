"""Masks against masks over a whole set: a pooled confusion matrix, mIoU, its interval, a sweep of thresholds.

Knows: labels as arrays and as files, one image at a time.  Does not know: photos, models, tables.

What is counted, as Text2Mask (``scripts/SD_seg.py``) and kazuto1011/deeplab-pytorch (``libs/utils/metric.py``) do:
pixels that are void in the truth are left out; the background is a class; one matrix is summed over all images, the
IoU of a class is its diagonal over row + column - diagonal, and mIoU is the mean over the classes that occur in the
truth.  A class in neither truth nor prediction has no IoU.  One that is predicted only has an IoU of 0 and is not in
the mean (jiwoon-ahn/irn would count it; where the truth has all classes, as in VOC and COCO, that is the same).
"""

from __future__ import annotations

import io
import math
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save
from scipy import sparse

from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import read_bytes, write_bytes
from prisbench.statistics import FEWEST_SUBJECTS, SEED, Difference, Interval, bounded, percentiles
from prisbench.wsss.label_checks import SAVED_AS_255, CheckedMasks, void_alone
from prisbench.wsss.voc import VOID, Item, SegmentationSet

DRAWS = 2_000
"""Of images, with replacement; enough for the second digit of a percentile, and seconds for 80,000 images."""

THRESHOLDS = tuple(n / 50 for n in range(1, 50))

Progress = Callable[[int, int], None]
T = TypeVar("T")


class PredictedVoid(StrEnum):
    """What a void pixel of a prediction counts as, where the truth is not void.

    ``background``: as jiwoon-ahn/irn (``step/eval_sem_seg.py``).  ``ignore``: left out, as rulixiang/afa
    (``pseudo_scores``), which flatters masks that leave out what is hard.  ``error``: nothing, such masks are refused.
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
    """What is kept of a set: pooled pixel counts (rows: truth, columns: prediction), and each image's areas.

    ``areas`` has a row for every class in every image that has or predicts it: image (0..), label, pixels of both, of
    the truth, of the prediction.  ``predicted_void`` pixels of ``pixels`` were void in the prediction; ``true_void``
    more were void in the truth.  ``notes``: what is unusual about the masks, one sentence each.
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

    ``miou`` is the mean over ``n_classes`` classes.  ``ious`` has one entry a class, background first, and
    ``class_images`` the images whose truth has it.  Of the other classes ``n_undefined`` occur nowhere, ``n_spurious``
    in predictions only.  ``void_share`` is the share of pixels that were void in the prediction, ``true_void_share`` of
    all pixels those that are void in the truth and were not counted.
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


# --- counting -------------------------------------------------------------------------------------------------------


def confusion(
    truth: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "_h _w"], classes: int, where: str = "the prediction"
) -> Int[np.ndarray, "n m"]:
    """Pixel counts, truth by prediction, without the truth's void; the last of the m = n + 1 columns is the
    prediction's void.

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


def tally(judged: Iterable[Judged], classes: int, predicted_void: PredictedVoid = PredictedVoid.error) -> Tally:
    """Count a set, one image in memory at a time.

    Raises DataError as ``confusion``, and for a void prediction when ``predicted_void`` is "error".
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


# --- how sure -------------------------------------------------------------------------------------------------------


def interval(counted: Tally, rng: np.random.Generator | None = None) -> Interval | None:
    """The percentile 95 % interval of mIoU when images are drawn again: ``DRAWS`` times as many as there are.

    In every draw areas are pooled and averaged as in the whole set, over the classes in that draw's truth.  It tells
    how far the number depends on these images, not on the training or the labelling.  None for fewer than
    ``FEWEST_SUBJECTS`` images (``statistics``).
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


# --- soft maps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SoftMap:
    """Scores of the classes an image is said to have, before a threshold and a CRF.

    ``labels[i]`` (1..) is the class of ``scores[i]``; there is no row for the background, and there may be no row at
    all.  Scores are comparable across classes, 0..1 where thresholds of 0..1 shall mean something.
    """

    labels: tuple[int, ...]
    scores: Float[np.ndarray, "c h w"]


def write_soft_map(path: str | os.PathLike[str], soft: SoftMap) -> Path:
    """Write ``scores`` (fp16) and ``labels`` as safetensors, whole or not at all.  Raises WriteError."""
    tensors = {"scores": soft.scores.astype(np.float16), "labels": np.array(soft.labels, np.int16)}
    return write_bytes(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def read_soft_map(path: str | os.PathLike[str], classes: int) -> SoftMap:
    """The map in a .safetensors or .npz file: ``scores`` float, c h w, and ``labels`` int, c.

    Raises DataError naming the file when it is missing, damaged, of another shape, not finite, or has labels twice or
    outside 1..classes - 1.
    """
    data = read_bytes(path)
    try:
        if Path(path).suffix == ".npz":
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                tensors = {name: archive[name] for name in archive.files}
        else:
            tensors = load(data)
    except (SafetensorError, OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path} is damaged or no soft map ({' '.join(str(error).split())}); make it again") from None
    except Exception as error:  # zipfile and zlib raise their own
        raise DataError(f"{path} is damaged ({type(error).__name__}); make it again") from None
    values, labels = tensors.get("scores"), tensors.get("labels")
    if values is None or labels is None:
        raise DataError(f"{path} is no soft map: it holds {sorted(tensors)}, not scores and labels")
    if values.ndim != 3 or not np.issubdtype(values.dtype, np.floating) or labels.shape != values.shape[:1]:
        raise DataError(
            f"{path} is no soft map: scores {values.dtype} {values.shape} and labels {labels.shape}; "
            "floats (c, h, w) and (c,) are wanted"
        )
    numbers = tuple(int(label) for label in labels)
    if len(set(numbers)) != len(numbers) or not all(0 < label < classes for label in numbers):
        raise DataError(f"{path} has the labels {numbers}; each of 1..{classes - 1} may stand there once")
    if not np.isfinite(values).all():
        raise DataError(f"{path} has scores that are not finite; make it again")
    return SoftMap(numbers, values)


def labels_at(soft: SoftMap, threshold: float, size_hw: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h2 w2"]:
    """The highest class where its score (as float32) is over the threshold, else background; of equals, the first.

    ``size_hw``: the image's size, to which a smaller map is enlarged bilinearly.  Raises DataError when it is larger.
    """
    height, best = _best(soft, size_hw)
    return np.where(height > np.float32(threshold), best, 0).astype(np.uint8)


def published_threshold(tau: float) -> float:
    """The threshold of ``labels_at`` that does what Text2Mask's background score ``(2 tau - max)^2`` does.

    A class wins where its map m > (2 tau - m)^2, that is m > (4 tau + 1 - sqrt(8 tau + 1)) / 2: 0.382 for VOC's tau of
    0.5, 0.225 for COCO's 0.35.
    """
    return (4 * tau + 1 - math.sqrt(8 * tau + 1)) / 2


def sweep_maps(
    judged: Iterable[tuple[str, UInt8[np.ndarray, "_h _w"], SoftMap]], classes: int, thresholds: Sequence[float]
) -> Int[np.ndarray, "k n n"]:
    """The pooled confusion matrix at every threshold (rising), in one pass over (name, truth, map).

    Pixels are counted by how many thresholds their score is over, so the cost does not grow with the thresholds.

    Raises UsageError for thresholds that do not rise within 0..1, DataError for a map larger than the truth and for
    labels outside the classes.
    """
    edges = np.asarray(thresholds, np.float32)  # as the scores, so that a score written as 0.4 is not over 0.4
    if not edges.size or (np.diff(edges) <= 0).any() or edges[0] < 0 or edges[-1] >= 1:
        raise UsageError(f"thresholds must rise within 0 <= t < 1, not {tuple(thresholds)}")
    steps = len(edges) + 1
    flat = np.zeros(steps * classes * classes, np.int64)
    for where, truth, soft in judged:
        try:
            height, best = _best(soft, truth.shape)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        over = np.searchsorted(edges, height, side="left")  # how many thresholds are below the score
        counted = truth != VOID
        if max(truth[counted].max(initial=0), *soft.labels, 0) >= classes:
            raise DataError(f"{where}: map or truth has labels outside the classes 0..{classes - 1}")
        codes = (over[counted] * classes + truth[counted]) * classes + best[counted]
        flat += np.bincount(codes, minlength=flat.size)
    counts = flat.reshape(steps, classes, classes)
    total = counts.sum(axis=0)
    below = counts.cumsum(axis=0)[:-1]
    matrices: np.ndarray = total - below
    matrices[:, :, 0] += below.sum(axis=2)
    return matrices


def _best(soft: SoftMap, size_hw: tuple[int, int] | None) -> tuple[Float[np.ndarray, "h w"], Int[np.ndarray, "h w"]]:
    """The highest score of every pixel (0 without classes), and whose it is."""
    values = soft.scores.astype(np.float32)
    h, w = size_hw or values.shape[1:]
    if values.shape[1] > h or values.shape[2] > w:
        raise DataError(f"the map is {values.shape[1]} x {values.shape[2]}, larger than its image {h} x {w}")
    if not len(values):
        return np.zeros((h, w), np.float32), np.zeros((h, w), np.intp)
    if values.shape[1:] != (h, w):
        layers = (Image.fromarray(each).resize((w, h), Image.Resampling.BILINEAR) for each in values)
        values = np.stack([np.asarray(each) for each in layers])
    return values.max(axis=0), np.array(soft.labels, np.intp)[values.argmax(axis=0)]


# --- a set on disk --------------------------------------------------------------------------------------------------


def evaluate(
    dataset: SegmentationSet,
    split: str,
    folder: Path,
    predicted_void: PredictedVoid = PredictedVoid.error,
    progress: Progress | None = None,
) -> Tally:
    """Count the masks in a folder, ``<id>.png`` (or named as the true masks are), against a split's.

    ``progress`` hears of (done, to do) after every image.

    Raises DataError before the first image when a list, a folder or any prediction is missing, then, naming the file,
    as ``CheckedMasks.read`` and ``tally``, and in the end when the masks as a whole cannot be right (``label_checks``).
    """
    items = dataset.items(split)
    files = _answers(items, split, folder, (".png",))
    truths = CheckedMasks(dataset, f"true masks of {split}")
    answers = CheckedMasks(dataset, f"masks in {folder}", true=False, truth=truths)
    in_void = np.zeros(256, np.int64)

    def judged() -> Iterator[Judged]:
        for item, file in zip(items, files, strict=True):
            truth, predicted = truths.read(item.mask, item), answers.read(file, item)
            if predicted.shape == truth.shape:
                in_void[:] += np.bincount(predicted[truth == VOID], minlength=256)
            yield Judged(str(file), truth, predicted)

    counted = tally(_counted(judged(), len(items), progress), len(dataset.classes), predicted_void)
    truths.finish()
    answers.finish()
    notes = truths.counts.notes()
    for label in np.flatnonzero((in_void > 0) & (truths.counts.holding == 0)).tolist():
        notes.append(
            f"{in_void[label]} of the {answers.counts.pixels[label]} pixels that are predicted to be "
            f"{dataset.classes[label]} ({label}) are void in the truth, which never holds that class: saved as 255?"
        )
    return replace(counted, notes=tuple(notes))


def sweep(
    dataset: SegmentationSet,
    split: str,
    folder: Path,
    thresholds: Sequence[float] = THRESHOLDS,
    progress: Progress | None = None,
) -> Int[np.ndarray, "k n n"]:
    """The confusion matrix of a split at every threshold, from a folder of soft maps, ``<id>.safetensors`` or ``.npz``.

    Raises as ``evaluate``, ``read_soft_map`` and ``sweep_maps``.
    """
    items = dataset.items(split)
    files = _answers(items, split, folder, (".safetensors", ".npz"))
    truths = CheckedMasks(dataset, f"true masks of {split}")
    judged = (
        (str(file), truths.read(item.mask, item), read_soft_map(file, len(dataset.classes)))
        for item, file in zip(items, files, strict=True)
    )
    matrices = sweep_maps(_counted(judged, len(items), progress), len(dataset.classes), thresholds)
    truths.finish()
    return matrices


def _answers(items: Sequence[Item], split: str, folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file of every item in a folder.  Raises DataError when the folder or any of them is missing."""
    if not folder.is_dir():
        raise DataError(f"no predictions in {folder}: there is no such folder")
    there = {entry.name for entry in os.scandir(folder)}
    found: list[Path] = []
    missing: list[str] = []
    for item in items:
        names = [f"{stem}{suffix}" for stem in (item.id, item.mask.stem) for suffix in suffixes]
        first = next((name for name in names if name in there), None)
        if first is None:
            missing.append(names[0])
        else:
            found.append(folder / first)
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(items)} images of {split}; the first is {missing[0]}"
            + (f" (or {', '.join(suffixes[1:])})" if len(suffixes) > 1 else "")
        )
    return found


def _counted(values: Iterable[T], total: int, progress: Progress | None) -> Iterator[T]:
    for done, value in enumerate(values, 1):
        yield value
        if progress is not None:
            progress(done, total)
