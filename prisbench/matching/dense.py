"""Features on a grid over a photo.

Knows: cells, cosines.  Does not know: networks, subjects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

ROWS = 4096
"""Cells compared at once."""


@dataclass(frozen=True, eq=False)
class Dense:
    """``features`` of a photo of ``photo_hw``; a cell covers ``cell_hw`` of its pixels, the last may reach beyond."""

    features: Float[Tensor, "c h w"]
    cell_hw: tuple[float, float]
    photo_hw: tuple[int, int]

    @property
    def grid_hw(self) -> tuple[int, int]:
        return int(self.features.shape[1]), int(self.features.shape[2])

    def cells(self, mean: Float[Tensor, " c"] | None = None) -> Float[Tensor, "n c"]:
        """The cells' features, row by row, less a mean, of length 1."""
        flat = self.features.flatten(1).T
        return F.normalize(flat if mean is None else flat - mean, dim=1)

    def shares(self, mask: Bool[np.ndarray, "h w"]) -> Float[Tensor, " n"]:
        """The share of each cell's pixels that a mask covers, row by row; of cells without a pixel 0."""
        (gh, gw), (h, w) = self.grid_hw, self.photo_hw
        rows = np.minimum(((np.arange(h) + 0.5) / self.cell_hw[0]).astype(int), gh - 1)
        columns = np.minimum(((np.arange(w) + 0.5) / self.cell_hw[1]).astype(int), gw - 1)
        cell = (rows[:, None] * gw + columns).ravel()
        covered = np.bincount(cell, mask.ravel(), gh * gw) / np.maximum(np.bincount(cell, minlength=gh * gw), 1)
        return torch.from_numpy(covered).float()

    def to_photo(self, values: Float[Tensor, " n"]) -> Float[Tensor, "h w"]:
        """A number a cell, bilinear in the photo's pixels."""
        (gh, gw), (h, w) = self.grid_hw, self.photo_hw
        down, across = _weights(h, gh, self.cell_hw[0]), _weights(w, gw, self.cell_hw[1])
        return down @ values.reshape(gh, gw).float() @ across.T


def _weights(pixels: int, cells: int, cell: float) -> Float[Tensor, "pixels cells"]:
    """What each cell counts at each pixel along one axis: linear between the cells' middles, constant beyond."""
    at = ((torch.arange(pixels) + 0.5) / cell - 0.5).clamp(0, cells - 1)
    low = at.floor().long().clamp(max=max(cells - 2, 0))
    share = at - low
    weights = torch.zeros(pixels, cells)
    rows = torch.arange(pixels)
    weights[rows, low] += 1 - share
    weights[rows, (low + 1).clamp(max=cells - 1)] += share
    return weights


def nearest(asked: Float[Tensor, "n c"], known: Float[Tensor, "m c"]) -> Float[Tensor, " n"]:
    """The cosine of each asked cell with the most similar known one; -1 where none is known."""
    if not len(known):
        return torch.full((len(asked),), -1.0)
    return torch.cat([(asked[start : start + ROWS] @ known.T).amax(1) for start in range(0, len(asked), ROWS)])


def thinned(cells: Float[Tensor, "n c"], most: int) -> Float[Tensor, "m c"]:
    """At most so many of them, evenly from the whole list."""
    return cells if len(cells) <= most else cells[torch.linspace(0, len(cells) - 1, most).round().long()]
