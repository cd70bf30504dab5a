"""Crops of photos and their labels, step by step.

The crops of step n follow from (seed, n) alone, so neither workers, nor processes, nor
interruptions change them.  Photos are scaled by Pillow, which does not alias when shrinking, where
the published code (kazuto1011/deeplab-pytorch, ``libs/datasets/base.py``) uses OpenCV's plain
bilinear.

Knows: samples, what is drawn for a position of the run.  Does not know: networks, losses.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from prisbench.errors import DataError
from prisbench.runtime.workers import in_order, worker_threads
from prisbench.wsss.networks import Network
from prisbench.wsss.samples import Sample
from prisbench.wsss.schedule import TrainSettings


def batches(
    network: Network, samples: Sequence[Sample], settings: TrainSettings, start: int = 0, rank: int = 0, world: int = 1
) -> Generator[Batch, None, None]:
    """This process's share of step ``start`` and of all after it, read ahead by
    ``settings.workers`` threads.

    Close the generator to end the threads.  Raises DataError as ``training_crop``, at the step the
    sample is part of.
    """
    share = settings.batch // world
    fill = _mean_colour(network)

    def crop(position: int) -> Crop:
        sample = samples[sample_at(position, len(samples), settings.seed)]
        return training_crop(sample, settings, position, len(network.classes), fill)

    mine = (step * settings.batch + rank * share + i for step in count(start) for i in range(share))
    with worker_threads(settings.workers) as pool:
        crops = in_order(pool, crop, ((position,) for position in mine), ahead=2 * share + settings.workers)
        while True:
            part = list(islice(crops, share))
            images = torch.from_numpy(np.stack([crop.image for crop in part]))
            yield Batch(images.permute(0, 3, 1, 2), torch.from_numpy(np.stack([crop.labels for crop in part])))


def training_crop(
    sample: Sample, settings: TrainSettings, position: int, classes: int, fill: tuple[int, int, int]
) -> Crop:
    """The n-th crop of a run: ``settings.crop_hw`` pixels of the sample, scaled, padded, cut out
    and flipped by chance.

    A photo too small is padded below and to the right, with ``fill`` (R, G, B) and void.  Raises
    DataError, naming the sample, when it has no labels, labels of another size than the photo, or
    labels outside the classes.
    """
    image, labels = sample.load_image(), sample.load_labels()
    if labels is None:
        raise DataError(f"{sample.id} has no labels to learn from")
    if labels.shape != image.shape[:2]:
        sizes = f"{labels.shape[1]} x {labels.shape[0]}, not {image.shape[1]} x {image.shape[0]} as its photo"
        raise DataError(f"{sample.id}: the labels are {sizes}")
    strange = labels[(labels >= classes) & (labels != settings.ignore)]
    if strange.size:
        raise DataError(
            f"{sample.id}: label {int(strange[0])} on {strange.size} pixels; "
            f"the classes are 0 to {classes - 1}, void is {settings.ignore}"
        )
    rng = np.random.default_rng([settings.seed, 1, position])
    scale = settings.scales[int(rng.integers(len(settings.scales)))]
    h, w = (max(1, int(n * scale)) for n in labels.shape)
    if scale != 1:
        image = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
        labels = np.asarray(Image.fromarray(labels).resize((w, h), Image.Resampling.NEAREST))
    crop_h, crop_w = settings.crop_hw
    top, left = (int(rng.integers(max(n - crop, 0) + 1)) for n, crop in ((h, crop_h), (w, crop_w)))
    window = slice(top, top + crop_h), slice(left, left + crop_w)
    seen_h, seen_w = labels[window].shape
    pixels = np.empty((crop_h, crop_w, 3), np.uint8)
    pixels[:] = fill
    pixels[:seen_h, :seen_w] = image[window]
    truth = np.full((crop_h, crop_w), settings.ignore, np.uint8)
    truth[:seen_h, :seen_w] = labels[window]
    if rng.random() < 0.5 and settings.flip:
        pixels, truth = pixels[:, ::-1].copy(), truth[:, ::-1].copy()
    return Crop(pixels, truth)


def sample_at(position: int, samples: int, seed: int) -> int:
    """Which sample the n-th crop of a run is from: each once before
    any comes again, in an order of its own.
    """
    return _order(samples, seed, position // samples)[position % samples]


@lru_cache(maxsize=4)
def _order(samples: int, seed: int, epoch: int) -> list[int]:
    return [int(i) for i in np.random.default_rng([seed, 0, epoch]).permutation(samples)]


class Crop(NamedTuple):
    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"]


class Batch(NamedTuple):
    images: UInt8[Tensor, "b 3 h w"]
    labels: UInt8[Tensor, "b h w"]


def _mean_colour(network: Network) -> tuple[int, int, int]:
    r, g, b = (round(255 * value) for value in network.colours.mean)
    return r, g, b
