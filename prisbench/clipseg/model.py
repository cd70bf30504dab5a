"""CLIPSeg's network: photos squashed into its square, prompts to maps.

Knows: the classes of transformers.  Does not know: subjects, methods.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

MEAN = DEVIATION = (0.5, 0.5, 0.5)
"""Of the embedded model's pixels; others say theirs in ``preprocessor_config.json``."""


def as_pixels(photos: Sequence[UInt8[np.ndarray, "_ _ 3"]], side: int) -> Float[Tensor, "n 3 s s"]:
    """Photos as the embedded model's processor gives them: squashed to a square, bilinear, -1..1."""
    small = [np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.BILINEAR)) for photo in photos]
    return (torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / DEVIATION[0]
