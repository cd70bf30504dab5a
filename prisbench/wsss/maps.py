"""Soft maps: scores of the classes an image is said to have, before a threshold and a CRF.

Knows: maps as arrays and as files, what a threshold makes of them.  Does not know: where maps come
from, folders.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import read_bytes, write_bytes
from prisbench.wsss.layouts import VOID


@dataclass(frozen=True, eq=False)
class SoftMap:
    """Scores of the classes an image is said to have, before a threshold and a CRF.

    ``labels[i]`` (1..) is the class of ``scores[i]``; there is no row for the background, and
    there may be no row at all.  Scores are comparable across classes, 0..1 where thresholds of
    0..1 shall mean something.
    """

    labels: tuple[int, ...]
    scores: Float[np.ndarray, "c h w"]


def write_soft_map(path: str | os.PathLike[str], soft: SoftMap) -> Path:
    """Write ``scores`` (fp16) and ``labels`` as safetensors, whole or not at all.

    Raises WriteError.
    """
    tensors = {"scores": soft.scores.astype(np.float16), "labels": np.array(soft.labels, np.int16)}
    return write_bytes(path, save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))


def read_soft_map(path: str | os.PathLike[str], classes: int) -> SoftMap:
    """The map in a .safetensors or .npz file: ``scores`` float, c h w, and ``labels`` int, c.

    Raises DataError naming the file when it is missing, damaged, of another shape, not finite, or
    has labels twice or outside 1..classes - 1.
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
    """The highest class where its score (as float32) is over the threshold, else background; of
    equals, the first.

    ``size_hw``: the image's size, to which a smaller map is enlarged bilinearly.  Raises DataError
    when it is larger.
    """
    height, best = _best(soft, size_hw)
    return np.where(height > np.float32(threshold), best, 0).astype(np.uint8)


def published_threshold(tau: float) -> float:
    """The threshold of ``labels_at`` that does what Text2Mask's background score ``(2 tau -
    max)^2`` does.

    A class wins where its map m > (2 tau - m)^2, that is m > (4 tau + 1 - sqrt(8 tau + 1)) / 2:
    0.382 for VOC's tau of 0.5, 0.225 for COCO's 0.35.
    """
    return (4 * tau + 1 - math.sqrt(8 * tau + 1)) / 2


def sweep_maps(
    judged: Iterable[tuple[str, UInt8[np.ndarray, "_h _w"], SoftMap]], classes: int, thresholds: Sequence[float]
) -> Int[np.ndarray, "k n n"]:
    """The pooled confusion matrix at every threshold (rising), in one pass over (name, truth,
    map).

    Pixels are counted by how many thresholds their score is over, so the cost does not grow with
    the thresholds.

    Raises UsageError for thresholds that do not rise within 0..1, DataError for a map larger than
    the truth and for labels outside the classes.
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
    values = enlarged(values, (h, w))
    return values.max(axis=0), np.array(soft.labels, np.intp)[values.argmax(axis=0)]


def enlarged(scores: Float[np.ndarray, "c h w"], size_hw: tuple[int, int]) -> Float[np.ndarray, "c h2 w2"]:
    """The scores as float32 at another size, bilinear, as thresholds and the CRF see them."""
    layers = scores.astype(np.float32)
    h, w = size_hw
    if layers.shape[1:] == (h, w):
        return layers
    return np.stack([np.asarray(Image.fromarray(each).resize((w, h), Image.Resampling.BILINEAR)) for each in layers])
