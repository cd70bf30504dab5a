"""Snapping soft maps to the edges of the photo.

    dense_crf   every pixel depends on every other; wants the extra ``crf``, and with it a compiler
    adaptive    every pixel is averaged with some neighbours near and far, again and again; wants torch alone

Knows: photos and class probabilities as arrays.  Does not know: where the probabilities come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, UInt8

from prisbench.errors import MissingExtraError, UsageError
from prisbench.images.arrays import ImageLike, as_image


@dataclass(frozen=True)
class CrfParameters:
    """A fully connected CRF with one Gaussian smoothness and one bilateral appearance kernel (Kraehenbuehl 2011)."""

    iterations: int
    smooth_weight: float
    smooth_px: float
    colour_weight: float
    colour_px: float
    colour_levels: float


PUBLISHED_CRF = CrfParameters(
    iterations=10, smooth_weight=3.0, smooth_px=1.0, colour_weight=4.0, colour_px=67.0, colour_levels=3.0
)
"""Text2Mask (arXiv 2309.04109), ``scripts/SD_seg.py``.  Its mean-subtracted BGR image, cast to uint8, wraps around; we
pass the photo as it is."""

EMBEDDED_CRF = CrfParameters(
    iterations=10, smooth_weight=3.0, smooth_px=1.0, colour_weight=4.0, colour_px=30.0, colour_levels=7.0
)
"""For images of about 16,000 pixels."""


def dense_crf(
    image: ImageLike, probabilities: Float[np.ndarray, "c h w"], parameters: CrfParameters
) -> Float[np.ndarray, "c h w"]:
    """Mean-field marginals; each pixel's sum to 1.

    ``probabilities`` are non-negative and need not sum to 1: a pixel's common factor cancels out.
    Raises MissingExtraError without the extra ``crf``.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        raise MissingExtraError("pydensecrf2", "crf", "refining masks by a dense CRF") from None
    classes, h, w = probabilities.shape
    field = DenseCRF2D(w, h, classes)
    unary = -np.log(np.clip(probabilities, 1e-5, None))  # the published clip: no class is ever ruled out
    field.setUnaryEnergy(np.ascontiguousarray(unary.reshape(classes, -1), dtype=np.float32))
    field.addPairwiseGaussian(sxy=parameters.smooth_px, compat=parameters.smooth_weight)
    field.addPairwiseBilateral(
        sxy=parameters.colour_px,
        srgb=parameters.colour_levels,
        rgbim=as_image(image),
        compat=parameters.colour_weight,
    )
    return np.asarray(field.inference(parameters.iterations), dtype=np.float32).reshape(classes, h, w)


# --- without a compiler ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdaptiveParameters:
    """Local averaging that heeds colour, over and over (PAMR, arXiv 2005.08104).

    ``iterations``: how often the map is averaged; 0 leaves it.  ``dilations``: pixels from the centre to the ring of
    eight neighbours, one ring each.  ``contrast``: the distance in colour at which a neighbour's weight falls to 1/e of
    an equal one's, in standard deviations of the colour around the pixel, not in grey levels: a dim edge in a dim
    place holds as well as a bright one.  Raises UsageError.
    """

    iterations: int
    dilations: tuple[int, ...]
    contrast: float

    def __post_init__(self) -> None:
        rings = [isinstance(d, int) and d > 0 for d in self.dilations]
        checks = {
            "iterations": (isinstance(self.iterations, int) and self.iterations >= 0, "a whole number from 0 up"),
            "dilations": (len(rings) > 0 and all(rings), "whole pixels from 1 up"),
            "contrast": (0 < self.contrast < float("inf"), "a number above 0"),
        }
        for name, (fits, expected) in checks.items():
            if not fits:
                raise UsageError(f"adaptive.{name}={getattr(self, name)!r} makes no sense: expected {expected}")


PHOTO_ADAPTIVE = AdaptiveParameters(iterations=10, dilations=(1, 2, 4, 8, 12, 24), contrast=0.1)
"""The release, visinf/1-stage-wseg: ``core/config.py`` (iterations, dilations), ``models/mods/pamr.py`` (contrast).
There the photo is first shrunk to the map, 81 x 81 for a crop of 321 (``models/stage_net.py``), where 24 pixels are
almost a third of the side and grain is gone; later work (Talk2DINO, ``apply_pamr``) keeps the numbers at the size of
the photo."""

TABLETOP_ADAPTIVE = AdaptiveParameters(iterations=10, dilations=(1, 2, 4, 8), contrast=0.3)
"""For images of about 16,000 pixels: the published rings up to 8 pixels, about the share of the side that 24 are in a
photo of 500.  Contrast as in PAR (arXiv 2203.02664, ``wetr/PAR.py``; its distance is squared): with 0.1, every pixel of
an even but grainy surface depends on the one or two that have its own grain, and the map is hardly smoothed.  Derived,
not tuned."""

TILE_PX = 768
"""Side of the largest part of a photo that ``adaptive`` answers at once; around it, it looks at a margin."""

RING = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def adaptive(
    image: ImageLike, probabilities: Float[np.ndarray, "c h w"], parameters: AdaptiveParameters
) -> Float32[np.ndarray, "c h w"]:
    """Probabilities averaged along like colours; each pixel's are non-negative and sum to 1 (within 1e-6).

    ``probabilities`` are finite, non-negative and need not sum to 1: a pixel's common factor cancels out.  Where all
    are 0 the pixel starts undecided, 1/c each, and its neighbours decide.  Where a channel is the same all around, it
    says nothing; where all three are, the neighbours count alike, so that on a photo of one colour the map is blurred.
    Beyond the border lies the nearest pixel of the photo, as in the release.

    Deterministic.  A photo with a side above TILE_PX + 2 margins (a margin is iterations x the largest dilation) is
    answered in tiles that look at a margin around them, which gives the same values.  So working memory is bounded:
    for each pixel of a tile and its margin 32 bytes a dilation and about 50 more, which is at most 380 MB for two
    classes with PHOTO_ADAPTIVE, whatever the photo; besides it, the arrays that come in, go out, and lie between.
    """
    image = as_image(image)
    classes, h, w = probabilities.shape
    total = probabilities.sum(axis=0)
    assert probabilities.min() >= 0 and np.isfinite(total).all(), "probabilities are non-negative and finite"
    refined = np.ones((classes, h, w), dtype=np.float32)
    if classes == 1:
        return refined
    # The last class is what the others leave, and need not be averaged.
    shares = np.full((classes - 1, h, w), 1 / classes, dtype=np.float32)
    np.divide(probabilities[:-1], total, out=shares, where=total > 0)
    margin = parameters.iterations * max(parameters.dilations)
    for y in _spans(h, margin):
        for x in _spans(w, margin):
            seen = _average(image[y.seen, x.seen], shares[:, y.seen, x.seen], parameters)
            refined[:-1, y.answered, x.answered] = seen[:, y.within, x.within]
    refined[-1] -= refined[:-1].sum(axis=0)
    np.maximum(refined[-1], 0, out=refined[-1])  # rounding
    return refined


class _Span(NamedTuple):
    """Where a tile answers, what it looks at, and where in what it looks at its answer lies; along one axis."""

    answered: slice
    seen: slice
    within: slice


def _spans(length: int, margin: int) -> Iterator[_Span]:
    """Even tiles along an axis."""
    count = 1 if length <= TILE_PX + 2 * margin else -(-length // TILE_PX)
    for i in range(count):
        start, stop = i * length // count, (i + 1) * length // count
        first, last = max(0, start - margin), min(length, stop + margin)
        yield _Span(slice(start, stop), slice(first, last), slice(start - first, stop - first))


def _average(
    image: UInt8[np.ndarray, "h w 3"], maps: Float32[np.ndarray, "k h w"], parameters: AdaptiveParameters
) -> Float32[np.ndarray, "k h w"]:
    """The maps, averaged; neighbours one by one, so that only their weights are held for all of them."""
    import torch  # here, so that the numbers of a preset can be read without it
    from torch.nn import functional as F

    h, w = image.shape[:2]
    rings, reach = len(parameters.dilations), max(parameters.dilations)

    def around(x: torch.Tensor) -> Iterator[torch.Tensor]:
        """``x`` as each neighbour has it, in the order of the dilations."""
        padded = F.pad(x, [reach] * 4, mode="replicate")
        for dilation in parameters.dilations:
            for dy, dx in RING:
                top, left = reach + dilation * dy, reach + dilation * dx
                yield padded[:, top : top + h, left : left + w]

    # Sums of differences to the centre are whole numbers, below 2^24 and so exact: no variance is rounded to above 0.
    colour = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
    total, squares = torch.zeros_like(colour), torch.zeros_like(colour)
    for neighbour in around(colour):
        step = neighbour - colour
        total += step
        squares.addcmul_(step, step)
    count = 9 * rings  # the release counts the centre once a ring, and divides by count - 1
    variance = squares.addcmul_(total, total, value=-1 / count).div_(count - 1)
    rate = torch.where(variance > 0, variance.rsqrt() / (3 * parameters.contrast), 0.0)
    del total, squares, variance

    weights = torch.empty(8 * rings, h, w)
    for weight, neighbour in zip(weights, around(colour), strict=True):
        torch.sum((neighbour - colour).abs_().mul_(rate), dim=0, out=weight)
    weights.sub_(weights.amin(dim=0)).neg_().exp_()  # a softmax in place; the nearest colour's is 1 before division
    weights.div_(weights.sum(dim=0))

    averaged = torch.tensor(maps)
    for _ in range(parameters.iterations):
        gathered = torch.zeros_like(averaged)
        for weight, neighbour in zip(weights, around(averaged), strict=True):
            gathered.addcmul_(weight, neighbour)
        averaged = gathered
    return averaged.numpy()
