"""Scenes and masks for tests: small enough for a pencil, and never square."""

from __future__ import annotations

import numpy as np

FIVE_TYPES = ("plain", "other-category", "look-alike", "relation", "absent")
"""The query types of datasets whose scenes hold one subject at most, and whose queries have no partners."""


def draw_scene(seed: int, size_hw: tuple[int, int] = (12, 20)) -> np.ndarray:
    """Noise, ``h w 3``: every seed another scene."""
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def draw_box(size_hw: tuple[int, int], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """A mask, ``h w``, true in the box; bottom and right are outside."""
    mask = np.zeros(size_hw, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask
