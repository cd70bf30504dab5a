"""The network that knows things again: from a crop to a vector; the same thing has like vectors in any light and turn.

Convolutions over a crop of 48 pixels; at its end, the mean over what the mask shows, the mean over all, and the highest
of what the mask shows.  Re-identification as it is done for people and cars, in small (Hermans et al. 2017, arXiv
1703.07737).

Knows: layers, the files of a model.  Does not know: regions, training, what things are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from prisbench import small_networks
from prisbench.pretrained import located
from prisbench.reid.crops import crops

KIND = small_networks.Kind("prisbench-reid", "network that knows things again", "reid")

FOLDER = Path(__file__).parents[1] / "embedded" / "rivals" / "weights" / "reid"
"""The network that comes along."""


@dataclass(frozen=True)
class Config:
    """``widths``: channels at each resolution, the finest, half of the crop's, first; ``groups``: of the normalisation;
    ``size``: numbers of a vector.
    """

    widths: tuple[int, ...] = (40, 80, 144)
    groups: int = 8
    size: int = 64


class ReIdNet(nn.Module):
    """Crops (``crops``) to vectors of length 1."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        self.stem = nn.Sequential(nn.Conv2d(4, widths[0], 5, 2, 2), nn.SiLU())
        first = [widths[0], *widths[:-1]]
        self.blocks = nn.ModuleList(
            _Block(before, after, 1 if n == 0 else 2, config.groups)
            for n, (before, after) in enumerate(zip(first, widths, strict=True))
        )
        self.out = nn.Linear(3 * widths[-1] + 2 * widths[-2], config.size)

    def forward(self, crops: Float[Tensor, "n 4 s s"]) -> Float[Tensor, "n e"]:
        x, seen = self.stem(crops), []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        shown = adaptive_avg_pool2d(crops[:, 3:], seen[-1].shape[-2:])
        fine = adaptive_avg_pool2d(crops[:, 3:], seen[-2].shape[-2:])
        of = [_inside(seen[-1], shown), seen[-1].mean((2, 3)), _highest(seen[-1], shown)]
        of += [_inside(seen[-2], fine), _highest(seen[-2], fine)]
        return normalize(self.out(torch.cat(of, 1)), dim=1)


class Knower:
    """The network of a folder behind one call; ``where`` "embedded" is the one that comes along.

    Raises BackboneError without a network there.
    """

    def __init__(self, where: str = "embedded") -> None:
        folder, _ = located(where, FOLDER, "reid", "network that knows things again", "--set features.reid=FOLDER")
        self.folder = Path(folder)
        self.network = load_network(self.folder)

    def __call__(
        self, photo: UInt8[np.ndarray, "h w 3"], masks: Sequence[Bool[np.ndarray, "h w"]]
    ) -> Float32[np.ndarray, "n e"]:
        """A vector of length 1 for each mask, none of them empty."""
        return vectors(self.network, photo, masks)


@torch.no_grad()
def vectors(
    network: ReIdNet, photo: UInt8[np.ndarray, "h w 3"], masks: Sequence[Bool[np.ndarray, "h w"]]
) -> Float32[np.ndarray, "n e"]:
    """As ``Knower``."""
    if not len(masks):
        return np.zeros((0, network.config.size), np.float32)
    found: np.ndarray = network(crops(photo, masks)).numpy()
    return found


def save_network(network: ReIdNet, folder: Path) -> None:
    """``config.json`` and fp16 safetensors into a folder that is there.  Raises WriteError."""
    small_networks.save(KIND, network.config, network, folder)


def load_network(folder: Path) -> ReIdNet:
    """Of a folder that ``save_network`` wrote.  Raises BackboneError for another one."""
    return small_networks.load(KIND, _built, folder)


def _built(config: Mapping[str, Any]) -> ReIdNet:
    return ReIdNet(Config(tuple(map(int, config["widths"])), int(config["groups"]), int(config["size"])))


class _Block(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, before: int, after: int, stride: int, groups: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.GroupNorm(groups, after),
            nn.SiLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.GroupNorm(groups, after),
        )
        self.past = nn.Conv2d(before, after, 1, stride) if (before, stride) != (after, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.way(x) + self.past(x))


def _inside(x: Float[Tensor, "n c a b"], shown: Float[Tensor, "n 1 a b"]) -> Float[Tensor, "n c"]:
    return (x * shown).sum((2, 3)) / shown.sum((2, 3)).clamp(min=1e-3)


def _highest(x: Float[Tensor, "n c a b"], shown: Float[Tensor, "n 1 a b"]) -> Float[Tensor, "n c"]:
    return (x * shown).amax((2, 3))
