"""Training scenes with masks, as a step draws them.

Knows: the files of a run.  Does not know: models, losses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from prisbench.embedded.files import SceneFolder, read_array
from prisbench.runtime.files import read_json


class Pool(NamedTuple):
    """The scenes of one size: pictures, which thing each pixel shows (from 1), and ``phrases.Told``."""

    images: UInt8[np.ndarray, "n h w 3"]
    ids: UInt8[np.ndarray, "n h w"]
    things: list[dict[str, Any]]


class Drawn(NamedTuple):
    """A scene of a step, mirrored or as it is."""

    image: UInt8[np.ndarray, "h w 3"]
    ids: UInt8[np.ndarray, "h w"]
    told: dict[str, Any]


def read_pools(folder: SceneFolder) -> list[Pool]:
    """One for each size of scenes that has any."""
    found = [
        Pool(read_array(folder.scenes(hw)), read_array(folder.ids(hw)), read_json(folder.things(hw)))
        for hw in folder.sizes_hw
    ]
    return [pool for pool in found if len(pool.things)]


def draw_rows(pool: Pool, count: int, g: torch.Generator) -> list[Drawn]:
    """So many scenes by lot, each mirrored by lot; no phrase tells left from right."""
    rows = torch.randint(len(pool.things), (count,), generator=g).tolist()
    mirrored = (torch.rand(count, generator=g) < 0.5).tolist()
    return [drawn(pool, row, flip) for row, flip in zip(rows, mirrored, strict=True)]


def drawn(pool: Pool, row: int, mirrored: bool) -> Drawn:
    """One scene of a pool."""
    way = slice(None, None, -1 if mirrored else 1)
    image, ids = pool.images[row][:, way], pool.ids[row][:, way]
    return Drawn(np.ascontiguousarray(image), np.ascontiguousarray(ids), pool.things[row])
