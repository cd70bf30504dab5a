"""A photo and a scene on one canvas, so that a model that finds alike things within one image finds them across two.

The published idea is plain concatenation (Tsai et al. 2026, arXiv 2604.05433).  Here both keep their sides' ratio: the
photo is resized to the scene's width and set above it where the scene is wide, or to its height and set left of it
where it is tall, since the model squashes the canvas to a square.

Knows: sizes.  Does not know: models, subjects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8

from prisbench.images.photos import resize_to


@dataclass(frozen=True, eq=False)
class Canvas:
    """``image`` holds the photo at its upper left corner and the scene, unchanged, at ``scene_yx``."""

    image: UInt8[np.ndarray, "h w 3"]
    photo_hw: tuple[int, int]
    scene_hw: tuple[int, int]
    scene_yx: tuple[int, int]
    scale: float

    def box(self, xyxy: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """A box of the photo on the canvas."""
        h, w = self.photo_hw
        left, top, right, bottom = (each * self.scale for each in xyxy)
        return left, top, min(right, w), min(bottom, h)

    def of_scene(self, maps: Shaped[np.ndarray, "n h w"]) -> Shaped[np.ndarray, "n a b"]:
        """The scene's part of maps of the canvas."""
        (y, x), (h, w) = self.scene_yx, self.scene_hw
        return maps[:, y : y + h, x : x + w]


def canvas_of(photo: UInt8[np.ndarray, "_ _ 3"], scene: UInt8[np.ndarray, "_h _w 3"]) -> Canvas:
    """The photo above a scene that is at least as wide as tall, else left of it."""
    (a, b), (h, w) = photo.shape[:2], scene.shape[:2]
    above = w >= h
    scale = w / b if above else h / a
    photo_hw = (max(round(a * scale), 1), w) if above else (h, max(round(b * scale), 1))
    shown = resize_to(photo, photo_hw)
    yx = (photo_hw[0], 0) if above else (0, photo_hw[1])
    return Canvas(np.concatenate([shown, scene], axis=0 if above else 1), photo_hw, (h, w), yx, scale)
