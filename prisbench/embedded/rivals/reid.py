"""Training the network that knows things again: crops of families, and the loss.

Knows: scenes of families, with which member each thing is.  Does not know: subjects, texts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy import ndimage
from torch import Tensor

from prisbench.embedded.rivals.pools import Pool
from prisbench.embedded.rivals.recipes import ReIdRecipe
from prisbench.reid.crops import Change, crop
from prisbench.reid.network import Config, ReIdNet

LEAST = 24
"""Pixels of the smallest thing that is shown."""

TURNED, RECOLOURED = 0.5, 0.5
"""Shares of the families whose photos are all turned by one angle, and whose colour channels all change places: stripes
become diagonals, and colours meet that training never shows together."""

SCALE, SHIFT = 0.2, 0.06
"""How much a crop's square is larger or smaller at most, and moved, in sides."""

WORN = 0.4
"""The share of the masks that lose or gain a pixel around them: found regions are not true outlines."""

LIGHTER = 0.12
"""How much each colour of a photo is scaled up or down at most."""


class Shown(NamedTuple):
    """A step's crops: which thing each shows, numbered over the step, and of which photo it is."""

    crops: Float[Tensor, "n 4 s s"]
    things: Int64[Tensor, " n"]
    photos: Int64[Tensor, " n"]


class Families:
    """Where the scenes of each family lie in the pools."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools, found = pools, dict[int, list[tuple[int, int]]]()
        for n, pool in enumerate(pools):
            for row, about in enumerate(pool.things):
                found.setdefault(int(about["family"]), []).append((n, row))
        self.places = [found[number] for number in sorted(found)]


def build_reid(recipe: ReIdRecipe) -> ReIdNet:
    """The network before it has learned anything."""
    torch.manual_seed(recipe.seed)
    return ReIdNet(Config(recipe.widths, size=recipe.size))


def reid_loss(network: ReIdNet, recipe: ReIdRecipe, families: Families, step: int) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step's families, and what to show of it."""
    shown = draw(families, recipe.batch, recipe.generator(step))
    vectors = network(shown.crops)
    loss = contrast(vectors, shown, recipe.sharpness)
    return loss, {"loss": loss.item(), "first": first(vectors.detach(), shown), "crops": float(len(shown.crops))}


def draw(families: Families, count: int, g: torch.Generator) -> Shown:
    """All scenes of so many families by lot, changed by lot: some changes are one family's, others one photo's."""
    found: list[Tensor] = []
    things: list[int] = []
    photos: list[int] = []
    for number, of in enumerate(torch.randint(len(families.places), (count,), generator=g).tolist()):
        angle = 2 * math.pi * _number(g) if _number(g) < TURNED else 0.0
        channels = torch.randperm(3, generator=g) if _number(g) < RECOLOURED else torch.arange(3)
        mirrored = _number(g) < 0.5
        for n, (pool, row) in enumerate(families.places[of]):
            photo = 100 * number + n
            light = 1 + LIGHTER * (2 * torch.rand(3, 1, 1, generator=g) - 1)
            image, ids = families.pools[pool].images[row], families.pools[pool].ids[row]
            for thing, member in enumerate(families.pools[pool].things[row]["members"], 1):
                mask = worn(ids == thing, g)
                change = Change(
                    (math.cos(angle), math.sin(angle)),
                    1 + SCALE * (2 * _number(g) - 1),
                    (SHIFT * (2 * _number(g) - 1), SHIFT * (2 * _number(g) - 1)),
                    mirrored,
                )
                if mask.sum() < LEAST:
                    continue
                one = crop(image, mask, change)
                colours = (one[:3][channels] + 1) * light - 1
                found.append(torch.cat([colours, one[3:]]))
                things.append(100 * number + int(member))
                photos.append(photo)
    return Shown(torch.stack(found), torch.tensor(things), torch.tensor(photos))


def worn(mask: Bool[np.ndarray, "h w"], g: torch.Generator) -> Bool[np.ndarray, "h w"]:
    """A mask as it is, or less or more by a pixel around it, by lot."""
    chance = _number(g)
    if chance < WORN / 2:
        less: np.ndarray = ndimage.binary_erosion(mask)
        return less
    if chance < WORN:
        more: np.ndarray = ndimage.binary_dilation(mask)
        return more
    return mask


def contrast(vectors: Float[Tensor, "n e"], shown: Shown, sharpness: float) -> Tensor:
    """The supervised contrastive loss (Khosla et al. 2020, arXiv 2004.11362, its first form): each crop against all
    others, those of the same thing in other photos wanted.  Copies in one photo are neither wanted nor unwanted.
    """
    likeness = sharpness * vectors @ vectors.T
    same = shown.things[:, None] == shown.things
    here = shown.photos[:, None] == shown.photos
    wanted = same & ~here
    out = likeness.masked_fill(same & here, float("-inf"))
    chance = out - torch.logsumexp(out, 1, keepdim=True)
    counted = wanted.any(1)
    sums = torch.where(wanted, chance, torch.zeros(())).sum(1)
    return -(sums[counted] / wanted.sum(1)[counted]).mean()


def first(vectors: Float[Tensor, "n e"], shown: Shown) -> float:
    """Of pairs of one thing in two photos, the share where no other thing of the second photo is liker."""
    likeness = vectors @ vectors.T
    right: list[bool] = []
    for photo in shown.photos.unique():
        there = (shown.photos == photo).nonzero()[:, 0]
        best = shown.things[there[likeness[:, there].argmax(1)]]
        asked = torch.isin(shown.things, shown.things[there]) & (shown.photos != photo)
        if len(shown.things[there].unique()) > 1:
            right += (best[asked] == shown.things[asked]).tolist()
    return float(np.mean(right)) if right else 1.0


def _number(g: torch.Generator) -> float:
    return float(torch.rand((), generator=g))
