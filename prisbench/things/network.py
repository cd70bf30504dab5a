"""The network that finds things: from a photo to what each cell belongs to.

An encoder and decoder of convolutions at half of the photo's resolution, after Panoptic-DeepLab (Cheng et al. 2020,
arXiv 1911.10194): is there a thing, is here the middle of one, and how far away is the middle of the thing here.  Each
cell answers for its four pixels (sub-pixel convolution, Shi et al. 2016, arXiv 1609.05158).

Knows: layers, the files of a model.  Does not know: regions, training, what things are called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle

from prisbench import small_networks

STRIDE = 2
"""Pixels of a photo that a cell is wide; a cell has as many answers as pixels."""

KIND = small_networks.Kind("prisbench-things", "network that finds things", "things")


@dataclass(frozen=True)
class Config:
    """``widths``: channels at each resolution, the finest first; each is half of the one before.  ``groups``: of the
    normalisation.  ``reach``: pixels that an offset of 1 stands for.
    """

    widths: tuple[int, ...] = (24, 48, 96, 128)
    groups: int = 8
    reach: float = 16.0


class Seen(NamedTuple):
    """Of each pixel: how sure there is a thing and a middle, as logits, and the way to the middle, rows first."""

    thing: Float[Tensor, "n h w"]
    middle: Float[Tensor, "n h w"]
    way: Float[Tensor, "n 2 h w"]


class ThingsNet(nn.Module):
    """Photos in -1..1, sides a multiple of ``multiple``, to ``Seen``."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, widths = config, config.widths
        first = [widths[0], *widths[:-1]]
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 5, STRIDE, 2), nn.SiLU())
        self.down = nn.ModuleList(
            _block(before, after, 1 if n == 0 else 2, config.groups)
            for n, (before, after) in enumerate(zip(first, widths, strict=True))
        )
        self.middle = _block(widths[-1], widths[-1], 1, config.groups)
        coarse = [widths[-1], *widths[-2:0:-1]]
        fine = [*widths[-2:0:-1], 2 * widths[0]]
        kept = widths[-2::-1]
        self.up = nn.ModuleList(
            _block(above + beside, out, 1, config.groups) for above, beside, out in zip(coarse, kept, fine, strict=True)
        )
        self.head = nn.Conv2d(fine[-1], 4 * STRIDE**2, 1)

    @property
    def multiple(self) -> int:
        return int(STRIDE * 2 ** (len(self.config.widths) - 1))

    def forward(self, photos: Float[Tensor, "n 3 h w"]) -> Seen:
        return _parted(self.maps(photos))

    def maps(self, photos: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 4 h w"]:
        """What ``Seen`` is made of, side by side."""
        x, beside = self.stem(photos), []
        for block in self.down:
            x = block(x)
            beside.append(x)
        x = self.middle(x)
        for block, kept in zip(self.up, beside[-2::-1], strict=True):
            x = block(torch.cat([interpolate(x, size=kept.shape[-2:], mode="nearest"), kept], 1))
        return pixel_shuffle(self.head(x), STRIDE)


@torch.no_grad()
def see(network: ThingsNet, photo: UInt8[Tensor, "h w 3"]) -> Seen:
    """What the network sees of a photo, for n = 1: the mean of what it sees of the photo and of its mirror image."""
    maps, mirrored = _maps_of_both(network, photo)
    return _in_pixels(network, (maps + mirrored) / 2)


@torch.no_grad()
def see_both(network: ThingsNet, photo: UInt8[Tensor, "h w 3"]) -> tuple[Seen, Seen]:
    """The two that ``see`` is the mean of, the mirror image's turned back."""
    maps, mirrored = _maps_of_both(network, photo)
    return _in_pixels(network, maps), _in_pixels(network, mirrored)


def _maps_of_both(network: ThingsNet, photo: UInt8[Tensor, "h w 3"]) -> tuple[Tensor, Tensor]:
    h, w = photo.shape[:2]
    pixels = photo.permute(2, 0, 1)[None].float() / 127.5 - 1
    whole = pad(pixels, (0, -w % network.multiple, 0, -h % network.multiple), mode="replicate")
    maps, mirrored = network.maps(torch.cat([whole, whole.flip(3)])).split(1)
    back = mirrored.flip(3) * torch.tensor([1.0, 1.0, 1.0, -1.0])[:, None, None]
    return maps[:, :, :h, :w], back[:, :, :h, :w]


def _in_pixels(network: ThingsNet, maps: Float[Tensor, "1 4 h w"]) -> Seen:
    seen = _parted(maps)
    return seen._replace(way=network.config.reach * seen.way)


def save_network(network: ThingsNet, folder: Path) -> None:
    """``config.json`` and fp16 safetensors into a folder that is there.  Raises WriteError."""
    small_networks.save(KIND, network.config, network, folder)


def load_network(folder: Path) -> ThingsNet:
    """Of a folder that ``save_network`` wrote.  Raises BackboneError for another one."""
    return small_networks.load(KIND, _built, folder)


def _built(config: Mapping[str, Any]) -> ThingsNet:
    return ThingsNet(Config(tuple(map(int, config["widths"])), int(config["groups"]), float(config["reach"])))


def _parted(maps: Float[Tensor, "n 4 h w"]) -> Seen:
    return Seen(maps[:, 0], maps[:, 1], maps[:, 2:])


def _block(before: int, after: int, stride: int, groups: int) -> nn.Sequential:
    def layer(wide: int, step: int) -> list[nn.Module]:
        return [nn.Conv2d(wide, after, 3, step, 1, bias=False), nn.GroupNorm(groups, after), nn.SiLU()]

    return nn.Sequential(*layer(before, stride), *layer(after, 1))
