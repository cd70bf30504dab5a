"""What is remembered of a subject as features, and what in a scene is like it.

Features of a network have much in common wherever they are taken, and few directions hold most of their variance.  So
cells are whitened first, by mean and covariance of all cells of the subject's own photos: what is everywhere in them
counts little.  A subject is the mean of its whitened cells in each photo, averaged over photos (a mask-pooled
prototype, as in few-shot segmentation; Wang et al. 2019, arXiv 1908.06391).

Knows: features on grids, masks.  Does not know: networks, texts, truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn import functional as F

from prisbench.errors import DataError
from prisbench.matching.cosegmentation import common_parts
from prisbench.matching.dense import Dense, nearest, thinned
from prisbench.types import Concept

RIDGE = 0.1
"""Added to the variances, as a share of their mean, so that directions of mere noise are not blown up."""

OWN = 400
"""Cells of the subject that are kept, to be looked up in regions of a scene."""

INSIDE = 0.5
"""A cell is in a mask that covers more than this share of it."""


@dataclass(frozen=True, eq=False)
class Memory:
    """``mean`` and ``whitening`` of cells; ``prototype`` of the subject; ``own``: some of its cells; ``typical``: the
    median, over its photos, of a cell's cosine with the prototype of the other photos, and of the likeness of its part
    there.
    """

    mean: Float[Tensor, " c"]
    whitening: Float[Tensor, "c c"]
    prototype: Float[Tensor, " c"]
    own: Float[Tensor, "n c"]
    typical: Float[Tensor, " 2"]

    def tensors(self) -> dict[str, Float32[np.ndarray, "..."]]:
        return {each.name: getattr(self, each.name).float().numpy() for each in fields(self)}

    @classmethod
    def of(cls, concept: Concept) -> Memory:
        """What ``tensors`` gave.  Raises DataError for the concept of another method."""
        names = [each.name for each in fields(cls)]
        if lacking := [name for name in names if name not in concept.tensors]:
            raise DataError(f"concept {concept.id} is not one of matched features: it has no {lacking[0]!r}")
        return cls(*(torch.from_numpy(np.array(concept.tensors[name], np.float32)) for name in names))

    def cells(self, dense: Dense) -> Float[Tensor, "n c"]:
        """A photo's cells, whitened, of length 1."""
        return F.normalize((dense.features.flatten(1).T - self.mean) @ self.whitening, dim=1)


def learn(photos: Sequence[Dense], masks: Sequence[Bool[np.ndarray, "_ _"] | None]) -> Memory:
    """From the cells in the masks; of photos without one, from those that the photos have in common."""
    mean, whitening = _whitening([photo.features.flatten(1) for photo in photos])
    blank = Memory(mean, whitening, mean, mean[None], torch.zeros(2))
    cells = [blank.cells(photo) for photo in photos]
    common: list[Tensor] = []
    if any(mask is None for mask in masks):
        common = common_parts(cells, [photo.grid_hw for photo in photos])
    inside = [
        common[n] if mask is None else in_mask(photo, mask)
        for n, (photo, mask) in enumerate(zip(photos, masks, strict=True))
    ]
    own = [of[where] for of, where in zip(cells, inside, strict=True)]
    means = torch.stack([each.mean(0) for each in own])
    kept = thinned(torch.cat(own), OWN)
    return Memory(mean, whitening, _pooled(means), kept, _typical(own, means))


def likeness(memory: Memory, cells: Float[Tensor, "n c"]) -> float:
    """How like the subject a region is, by its cells: the mean of its own cosine with the prototype and of what share
    of the subject is found in it; -1..1.
    """
    pooled = float(F.normalize(cells.mean(0), dim=0) @ memory.prototype)
    return (pooled + float(nearest(memory.own, cells).mean())) / 2


def in_mask(dense: Dense, mask: Bool[np.ndarray, "h w"]) -> Bool[Tensor, " n"]:
    """The cells in a mask; of one too small for that, the cell that it covers most."""
    shares = dense.shares(mask)
    found = shares > INSIDE
    if not bool(found.any()):
        found[int(shares.argmax())] = True
    return found


def _whitening(features: Sequence[Float[Tensor, "c _n"]]) -> tuple[Float[Tensor, " c"], Float[Tensor, "c c"]]:
    """The mean, and the symmetric matrix that gives every direction about the same variance; in float64."""
    all_ = torch.cat(list(features), dim=1).double()
    mean = all_.mean(1)
    centred = all_ - mean[:, None]
    values, vectors = torch.linalg.eigh(centred @ centred.T / all_.shape[1])
    values = values.clamp(min=0)
    scale = (values + RIDGE * values.mean()).clamp(min=1e-12).rsqrt()
    return mean.float(), (vectors * scale @ vectors.T).float()


def _pooled(means: Float[Tensor, "p c"]) -> Float[Tensor, " c"]:
    return F.normalize(means.mean(0), dim=0)


def _typical(own: Sequence[Tensor], means: Float[Tensor, "p c"]) -> Float[Tensor, " 2"]:
    """Each photo against the others; a photo alone against itself."""
    alike, parts = [], []
    for n, cells in enumerate(own):
        others = [m for m in range(len(own)) if m != n] or [n]
        prototype = _pooled(means[others])
        alike.append(float((cells @ prototype).mean()))
        rest = thinned(torch.cat([own[m] for m in others]), OWN)
        pooled = float(F.normalize(cells.mean(0), dim=0) @ prototype)
        parts.append((pooled + float(nearest(rest, cells).mean())) / 2)
    return torch.tensor([float(np.median(alike)), float(np.median(parts))])
