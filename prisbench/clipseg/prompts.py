"""A photo of a subject as CLIPSeg's visual prompt.

Knows: photos, masks.  Does not know: models, texts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageFilter

MARGIN = 1.5
"""The prompt is a square of so many times the longer side of the mask's box, as far as the photo goes."""

DARK, BLUR = 0.1, 2.0
"""What is not the subject keeps so much of its light, and is blurred by so many pixels: with the crop, the best visual
prompt of the paper (section 4.1 and figure 3)."""


def visual_prompt(photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None) -> UInt8[np.ndarray, "a b 3"]:
    """The subject large and light in a blurred, dark surrounding; the whole photo where no mask is known or it is empty."""
    if mask is None or not mask.any():
        return photo
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    half = MARGIN * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) / 2
    y, x = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    place = (
        slice(max(int(y - half), 0), min(int(y + half) + 1, mask.shape[0])),
        slice(max(int(x - half), 0), min(int(x + half) + 1, mask.shape[1])),
    )
    sharp = photo[place]
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(BLUR)), np.float32) * DARK
    return np.where(mask[place][..., None], sharp, blurred.round()).astype(np.uint8)
