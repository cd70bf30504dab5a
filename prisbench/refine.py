"""Snapping soft maps to the edges of the photo.

Knows: photos and class probabilities as arrays.  Does not know: where the probabilities come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from prisbench.errors import MissingExtraError


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
    iterations=10, smooth_weight=3.0, smooth_px=1.0, colour_weight=6.0, colour_px=30.0, colour_levels=10.0
)
"""For images of about 16,000 pixels."""


def dense_crf(
    image: UInt8[np.ndarray, "h w 3"], probabilities: Float[np.ndarray, "c h w"], parameters: CrfParameters
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
        rgbim=np.ascontiguousarray(image),
        compat=parameters.colour_weight,
    )
    return np.asarray(field.inference(parameters.iterations), dtype=np.float32).reshape(classes, h, w)
