"""Which cells of photos without masks are the subject: what the photos share.

A cell counts in as many other photos as have a cell that is its nearest neighbour both ways, the way back ending near
where it began.  Such agreement is rare by chance, and what changes from photo to photo has none.  The middle of a photo
counts more: people point cameras at what they show.

Then each photo is compared with what the others share: the cells that share most are their subject, and a cell's
cosine with the mean of those counts as well (one round; more rounds were no better).

Knows: features on grids.  Does not know: nouns, scenes, truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

BACK = 0.5
"""Deviation, in cells, of a Gaussian of how far from its start the way back may end."""

POOL = 3
"""Cells of the square that agreement is averaged over."""

SHARE = 0.12
"""The share of a photo's cells that is taken for the subject when photos are compared with each other."""

LEAST = 0.05
"""The least that sharing counts where a cell is compared with the other photos' subject."""


def common_parts(
    cells: Sequence[Float[Tensor, "_n c"]], grids_hw: Sequence[tuple[int, int]]
) -> list[Bool[Tensor, " _n"]]:
    """The cells of each photo that are the subject, at least one; ``cells``: of length 1, row by row."""
    return [_part(values, hw) for values, hw in zip(likely(cells, grids_hw), grids_hw, strict=True)]


def likely(cells: Sequence[Float[Tensor, "_n c"]], grids_hw: Sequence[tuple[int, int]]) -> list[Float[Tensor, " _n"]]:
    """How likely each cell is the subject, at least 0.  A photo alone shares nothing, and goes by its middle."""
    if len(cells) == 1:
        return [middle_first(grids_hw[0])]
    agreed = shared(cells, grids_hw)
    pairs = list(zip(cells, agreed, strict=True))
    means = [own[values.topk(max(int(SHARE * len(own)), 1)).indices].mean(0) for own, values in pairs]
    found = []
    for n, (own, values) in enumerate(pairs):
        others = torch.stack([mean for m, mean in enumerate(means) if m != n]).mean(0)
        alike = own @ F.normalize(others, dim=0)
        found.append(_scaled(alike - alike.amin()) * _scaled(values).clamp(min=LEAST).sqrt())
    return found


def shared(cells: Sequence[Float[Tensor, "_n c"]], grids_hw: Sequence[tuple[int, int]]) -> list[Float[Tensor, " _n"]]:
    """How much each cell of each of several photos is shared by the others, at least 0."""
    found = []
    for n, (own, hw) in enumerate(zip(cells, grids_hw, strict=True)):
        agreed = torch.stack([_agreeing(own, other, hw) for m, other in enumerate(cells) if m != n]).sum(0)
        found.append(_pooled(agreed, hw) * middle_first(hw).sqrt())
    return found


def _part(values: Tensor, grid_hw: tuple[int, int]) -> Bool[Tensor, " n"]:
    """The connected cells around the highest one that are at least half as high."""
    high = (values >= values.amax() / 2).reshape(grid_hw).numpy()
    labels, _ = ndimage.label(high)
    return torch.from_numpy(labels.ravel() == labels.ravel()[int(values.argmax())])


def _scaled(values: Tensor) -> Tensor:
    """With a maximum of 1; where nothing is above 0, all 1."""
    top = values.amax()
    return values / top if float(top) > 0 else torch.ones_like(values)


def middle_first(grid_hw: tuple[int, int]) -> Float[Tensor, " n"]:
    """1 in the middle, falling to 0.14 at the corners."""
    y, x = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in grid_hw)
    return torch.exp(-(y[:, None] ** 2 + x[None] ** 2)).flatten()


def _agreeing(own: Tensor, other: Tensor, grid_hw: tuple[int, int]) -> Float[Tensor, " n"]:
    """The cosine with the nearest neighbour, by how near to its start the way back ends."""
    alike = own @ other.T
    back = alike.argmax(0)[alike.argmax(1)]
    width, start = grid_hw[1], torch.arange(len(own))
    far = (start // width - back // width) ** 2 + (start % width - back % width) ** 2
    return alike.amax(1).clamp(min=0) * torch.exp(-far / (2 * BACK**2))


def _pooled(values: Tensor, grid_hw: tuple[int, int]) -> Float[Tensor, " n"]:
    square = values.reshape(1, 1, *grid_hw)
    return F.avg_pool2d(square, POOL, 1, POOL // 2, count_include_pad=False).flatten()
