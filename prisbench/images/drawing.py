"""Pictures for people: outlines on photos, maps as heat, sheets of several.

Knows: pixels and labels.  Does not know: models, datasets.
Colours are from the Okabe-Ito palette, which colour-blind readers tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from prisbench.images.arrays import ImageLike, MaskLike, as_image, as_mask

ORANGE = (230, 159, 0)
SKY = (86, 180, 233)
GREEN = (0, 158, 115)
VERMILION = (213, 94, 0)
PINK = (255, 64, 200)


def outline(
    image: ImageLike,
    mask: MaskLike,
    colour: tuple[int, int, int] = PINK,
    fill: float = 0.35,
    width: int = 1,
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a mask tinted (``fill`` 0..1) and its inner edge drawn ``width`` pixels wide."""
    out, mask = as_image(image).astype(np.float32), as_mask(mask)
    tint = np.asarray(colour, np.float32)
    out[mask] = out[mask] * (1 - fill) + tint * fill
    edge = mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=0)
    out[edge] = tint
    return out.round().astype(np.uint8)


def heat(image: ImageLike, score: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A map in 0..1 over a darkened grey image: black, violet, orange, yellow."""
    stops = np.asarray([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)
    at = np.clip(score, 0, 1) * (len(stops) - 1)
    low = np.minimum(at.astype(int), len(stops) - 2)
    colour = stops[low] + (stops[low + 1] - stops[low]) * (at - low)[..., None]
    grey = as_image(image).mean(axis=2, keepdims=True)
    return np.clip(0.75 * colour + 0.25 * grey, 0, 255).astype(np.uint8)


def sheet(rows: Sequence[Sequence[tuple[str, ImageLike]]], tile: int = 220) -> UInt8[np.ndarray, "h w 3"]:
    """Rows of labelled pictures on white; each is fitted into a ``tile`` x ``tile`` square, its aspect kept."""
    gap, label = 8, 18
    columns = max(len(row) for row in rows)
    canvas = Image.new("RGB", (columns * (tile + gap) + gap, len(rows) * (tile + label + gap) + gap), "white")
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=12)
    for i, row in enumerate(rows):
        for j, (text, picture) in enumerate(row):
            pixels = as_image(picture, text)
            h, w = pixels.shape[:2]
            scale = tile / max(h, w)
            size = max(1, round(w * scale)), max(1, round(h * scale))
            how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
            x, y = gap + j * (tile + gap), gap + i * (tile + label + gap)
            pen.text((x, y), _shorten(pen, text, font, tile), fill="black", font=font)
            canvas.paste(Image.fromarray(pixels).resize(size, how), (x, y + label))
    return np.array(canvas)


def png(image: ImageLike) -> bytes:
    out = io.BytesIO()
    pixels = Image.fromarray(as_image(image))
    pixels.save(out, format="PNG")  # "optimize" takes nine times as long and saves nothing on photos
    return out.getvalue()


def _shorten(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> str:
    if pen.textlength(text, font=font) <= width:
        return text
    while text and pen.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text + "..."
