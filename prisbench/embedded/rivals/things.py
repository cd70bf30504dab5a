"""Training the network that finds things: what it should see of a scene, and the loss.

Knows: scenes with the number of the thing that each pixel shows.  Does not know: nouns, texts, subjects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from prisbench.embedded.rivals.pools import Pool, draw_rows
from prisbench.embedded.rivals.recipes import ThingsRecipe
from prisbench.things.network import Config, ThingsNet

SPREAD = 3.5
"""Pixels: the deviation of the bell around a middle."""

MIDDLES = 40.0
"""The squared error of middles counts so many times the cross-entropy of things: nearly all cells are no middle."""

BRIGHTER, LIGHTER = 0.2, 0.1
"""Colours are scaled by as much, and brightness is moved by as much, up or down by lot."""

SWAPPED = 0.3
"""The share of the steps whose colour channels change places."""


def build_things(recipe: ThingsRecipe) -> ThingsNet:
    """The network before it has learned anything."""
    torch.manual_seed(recipe.seed)
    return ThingsNet(Config(recipe.widths))


def things_loss(
    network: ThingsNet, recipe: ThingsRecipe, pools: Sequence[Pool], step: int
) -> tuple[Tensor, dict[str, float]]:
    """The loss of a step's scenes, and what to show of it."""
    g = recipe.generator(step)
    rows = draw_rows(pools[step % len(pools)], recipe.batch, g)
    photos = torch.from_numpy(np.stack([row.image for row in rows])).permute(0, 3, 1, 2).float() / 127.5 - 1
    wanted = [targets(row.ids, network.config.reach) for row in rows]
    thing, middle, way = (torch.from_numpy(np.stack([each[n] for each in wanted])) for n in range(3))
    seen = network(recoloured(photos, g))
    things = binary_cross_entropy_with_logits(seen.thing, thing)
    middles = (torch.sigmoid(seen.middle) - middle).square().mean()
    ways = ((seen.way - way).abs() * thing[:, None]).sum() / (2 * thing.sum().clamp(min=1))
    with torch.no_grad():
        both = ((seen.thing > 0) & (thing > 0.5)).sum() / ((seen.thing > 0) | (thing > 0.5)).sum().clamp(min=1)
    shown = {"things": things.item(), "middles": middles.item(), "ways": ways.item(), "iou": both.item()}
    total = things + MIDDLES * middles + ways
    return total, {"loss": total.item(), **shown}


def targets(
    ids: UInt8[np.ndarray, "h w"], reach: float
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"], Float32[np.ndarray, "2 h w"]]:
    """Of each pixel: is it a thing's, how near it is to a middle (1 there), and the way to its own thing's middle.

    The middle is that of the box around what is seen of a thing.
    """
    grid = np.indices(ids.shape).astype(np.float32)
    rows, columns = grid[0], grid[1]
    middle, way = np.zeros(ids.shape, np.float32), np.zeros((2, *ids.shape), np.float32)
    for number in np.unique(ids[ids > 0]):
        inside = ids == number
        ys, xs = np.nonzero(inside)
        y, x = (ys.min() + ys.max()) / 2, (xs.min() + xs.max()) / 2
        bell = np.exp(-((rows[:, :1] - y) ** 2) / (2 * SPREAD**2)) * np.exp(-((columns[:1] - x) ** 2) / (2 * SPREAD**2))
        middle = np.maximum(middle, bell)
        way[:, inside] = np.stack([y - rows[inside], x - columns[inside]])
    return (ids > 0).astype(np.float32), middle.astype(np.float32), way / np.float32(reach)


def recoloured(photos: Float[Tensor, "n 3 h w"], g: torch.Generator) -> Float[Tensor, "n 3 h w"]:
    """Photos in another light, so that colours of training are not what a thing is known by."""
    n = len(photos)
    scale = 1 - BRIGHTER + 2 * BRIGHTER * torch.rand(n, 3, 1, 1, generator=g)
    moved = LIGHTER * (2 * torch.rand(n, 1, 1, 1, generator=g) - 1)
    changed = photos * scale + moved
    return changed[:, torch.randperm(3, generator=g)] if float(torch.rand((), generator=g)) < SWAPPED else changed
