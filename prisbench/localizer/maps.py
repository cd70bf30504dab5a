"""Attention to maps: a recording of attention becomes soft maps of where the words' attention lies.

Knows: recordings, the settings of the part "attention to map", the columns of a query.
Does not know: the network, prompts, masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from prisbench.diffusion.attention import Attention, Recording, hop
from prisbench.diffusion.images import Geometry
from prisbench.diffusion.prompts import CONTENT
from prisbench.localizer.settings import LocalizerSettings
from prisbench.localizer.texts import COLUMNS


class Maps(NamedTuple):
    """``score``: 0..1, the mean over rows of each row's own min-max scaled map, on the photo's part of ``grid_hw``.

    ``raw`` is the cross-attention before any scaling: mean probability, comparable between photos.
    """

    score: Float[Tensor, "c h w"]
    raw: Float[Tensor, "rows c h w"]
    grid_hw: tuple[int, int]


def self_cross(
    recording: Recording,
    settings: LocalizerSettings,
    geometry: Geometry | None = None,
    columns: Sequence[int] | None = None,
) -> Maps:
    """The maps of all columns, or of some of COLUMNS, which then are shared and contrasted as the settings say.

    Without a geometry the whole grid shows the photo.  Padding is cut from queries, keys and maps alike, so it takes no
    attention and no part in any scaling.  (The release leaves it in; photos that need no padding are treated alike.)
    """
    if settings.hops:
        grid = recording.self_attention[settings.self_block].grid_hw
    else:
        grid = max((_grid(recording.cross[name]) for name in settings.cross), key=math.prod)
    h, w = geometry.valid_hw(grid) if geometry else grid

    stack = torch.cat([_enlarged(recording.cross[name], grid) for name in settings.cross], 1)[..., :h, :w]
    heads = [recording.cross[name].shape[1] for name in settings.cross]
    given = [weight / k for weight, k in zip(settings.cross.values(), heads, strict=True) for _ in range(k)]
    weights = torch.tensor(given, device=stack.device) / sum(settings.cross.values())
    if settings.weights == "consensus":
        weights = consensus(stack if columns is None else stack[:, :, list(columns)], weights)
    raw = torch.einsum("bkchw,k->bchw", stack, weights)
    plain = raw if columns is None else raw[:, list(columns)]
    maps = min_max(plain if columns is None else _contrasted(raw, plain, settings))
    if settings.hops:
        seen = recording.self_attention[settings.self_block]
        cut = Attention(_cut(seen.queries, grid, (h, w)), _cut(seen.keys, grid, (h, w)), seen.scale, (h, w))
        if settings.theta is not None:
            maps = maps * boxes(maps, settings.theta, settings.published_boxes)
        values = maps.flatten(2).transpose(1, 2)
        for _ in range(settings.hops):
            values = hop(cut, values)
        maps = min_max(values.transpose(1, 2).unflatten(2, (h, w)))
    return Maps(maps.mean(dim=0), plain, grid)


def consensus(stack: Float[Tensor, "b k c h w"], given: Float[Tensor, "k"]) -> Float[Tensor, "k"]:
    """Weights of blocks and heads: the given ones times how each one's maps correlate with the mean of the others'.

    Those that contradict the rest get none; where all do, the given weights stand.
    """
    flat = stack.flatten(3).permute(1, 0, 2, 3).flatten(1, 2)  # k, maps, cells
    flat = flat - flat.mean(-1, keepdim=True)
    size = flat.norm(dim=-1, keepdim=True)
    flat = flat / torch.where(size > 0, size, torch.ones_like(size))
    rest = torch.einsum("k,kmn->mn", given, flat) - given[:, None, None] * flat
    length = rest.norm(dim=-1)
    agreement = ((flat * rest).sum(-1) / torch.where(length > 0, length, torch.ones_like(length))).mean(-1).clamp(min=0)
    weights = given * agreement
    return weights / weights.sum() if weights.sum() > 0 else given


def _contrasted(
    raw: Float[Tensor, "b c h w"], chosen: Float[Tensor, "b d h w"], settings: LocalizerSettings
) -> Float[Tensor, "b d h w"]:
    """The chosen columns as shares of the content words' attention, less what the bare noun and other subjects get."""
    taken_off = settings.contrast_noun * raw[:, [COLUMNS.index("bare")]]
    taken_off = taken_off + settings.contrast_others * raw[:, [COLUMNS.index("others")]]
    difference = (chosen - taken_off).clamp(min=0)
    if not settings.share:
        return difference
    content = raw[:, [COLUMNS.index(CONTENT)]]
    return torch.where(content > 0, difference / torch.where(content > 0, content, 1), torch.zeros_like(difference))


def _enlarged(cross: Float[Tensor, "b k c h w"], grid: tuple[int, int]) -> Float[Tensor, "b k c h2 w2"]:
    flat = F.interpolate(cross.flatten(1, 2), size=grid, mode="bilinear", align_corners=False)
    return flat.unflatten(1, cross.shape[1:3])


def min_max(maps: Float[Tensor, "*n h w"]) -> Float[Tensor, "*n h w"]:
    """Each map scaled to 0..1; a flat map says nothing about place and becomes zero everywhere."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    spread = torch.where(high > low, high - low, torch.ones_like(low))
    return (maps - low) / spread


def boxes(maps: Float[Tensor, "n c h w"], theta: float, published: bool) -> Float[Tensor, "n c h w"]:
    """1 inside the union of the bounding boxes of {map > theta max}'s connected parts (8 neighbours), else 0.

    Levels are bytes, as in the released code.  ``published``: there, a box's lower right corner is clamped to the last
    index and then taken as exclusive, so no box holds the last row or column.
    """
    inside = np.zeros(maps.shape, np.float32)
    levels = (maps * 255).to(torch.uint8).cpu().numpy()
    for at in np.ndindex(*levels.shape[:2]):
        parts, _ = ndimage.label(levels[at] > int(theta * levels[at].max()), structure=np.ones((3, 3)))
        for box in ndimage.find_objects(parts):
            inside[at][box] = 1
    if published:
        inside[..., -1, :] = 0
        inside[..., -1] = 0
    return torch.from_numpy(inside).to(maps)


def _grid(maps: Tensor) -> tuple[int, int]:
    return int(maps.shape[-2]), int(maps.shape[-1])


def _cut(x: Float[Tensor, "b heads n d"], grid: tuple[int, int], to: tuple[int, int]) -> Float[Tensor, "b heads m d"]:
    """The queries or keys of the grid's upper left part."""
    return x.unflatten(2, grid)[:, :, : to[0], : to[1]].flatten(2, 3)
