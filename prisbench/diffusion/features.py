"""Features of a U-Net: what its layers make of a noised photo, read without changing anything.

As DIFT (Tang et al. 2023, arXiv 2306.03881, section 4) reads them: a photo's latents are noised a little, one pass of
the U-Net, the output of a layer on the way up.  "Where's Waldo" (Samuel et al. 2024, arXiv 2405.18025, section 3) takes
queries and keys of a self-attention for an individual's looks; a layer's name says which.

    module_features      a context: names of modules -> their outputs
    features_of          a photo -> its features on the grid of the finest layer named
    features_of_all      photos of one size -> the same of each, in one pass

Knows: modules of a U-Net by name, noise.  Does not know: subjects, what features are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.diffusion.attention import EverythingSeen
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Encoded
from prisbench.diffusion.noise import add_noise, noise
from prisbench.diffusion.text import Conditioning
from prisbench.errors import BackboneError, UnknownNameError


@contextmanager
def module_features(unet: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The outputs of the modules named, while the body calls the U-Net once; the call must be the last thing in it.

        with module_features(unet, ["up_blocks.1"]) as seen:
            unet(latents, timestep, encoder_hidden_states=text)
        seen["up_blocks.1"]            # b c h w, or b n c for projections of an attention

    The pass ends after the last of them (that call then returns nothing).  Hooks are removed however the body ends.
    Raises UnknownNameError for a module the U-Net does not have, BackboneError when one was never reached.
    """
    modules, seen, handles = dict(unet.named_modules()), dict[str, Tensor](), []

    def keep(name: str, out: Any) -> None:
        seen[name] = (out[0] if isinstance(out, tuple) else getattr(out, "sample", out)).detach()
        if len(seen) == len(set(layers)):
            raise EverythingSeen

    try:
        check_layers(unet, layers)
        for name in dict.fromkeys(layers):
            handles.append(modules[name].register_forward_hook(lambda _, __, out, name=name: keep(name, out)))
        yield seen
    except EverythingSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if missing := sorted(set(layers) - set(seen)):
        raise BackboneError(f"the U-Net never reached the layers {missing}")


def check_layers(unet: nn.Module, layers: Sequence[str]) -> None:
    """Raises UnknownNameError for a module that the U-Net does not have."""
    known = [name for name, _ in unet.named_modules() if name]
    for name in layers:
        if name not in known:
            raise UnknownNameError("layer of the U-Net", name, known)


@dataclass(frozen=True)
class Tap:
    """Which features are read: layers by their names in the U-Net, the timestep of the noise, how many noises are
    averaged.
    """

    layers: tuple[str, ...]
    timestep: int
    samples: int


class Grid(NamedTuple):
    """Features of the cells that show any of the photo; ``grid_hw`` counts those of the padded image."""

    features: Float[Tensor, "c _h _w"]
    grid_hw: tuple[int, int]


class Noised(NamedTuple):
    """A photo's latents, and the id that its noises belong to."""

    encoded: Encoded
    image_id: str


def features_of(backbone: Backbone, encoded: Encoded, image_id: str, text: Conditioning, tap: Tap) -> Grid:
    """``features_of_all`` of one photo."""
    return features_of_all(backbone, [Noised(encoded, image_id)], text, tap)[0]


@torch.no_grad()
def features_of_all(backbone: Backbone, photos: Sequence[Noised], text: Conditioning, tap: Tap) -> list[Grid]:
    """Features of photos of one size, float32, in one pass: each layer's vectors of length 1, coarser grids
    interpolated to the finest one.

    The noises are those that belong to the image, so a photo's features do not depend on the others but for rounding;
    their mean is taken, as DIFT does.  Cells beyond the photo (padding) are cut off.
    """
    times = torch.full((tap.samples,), tap.timestep)
    noisy = []
    for encoded, image_id in photos:
        latents = encoded.latents
        eps = torch.stack([noise(image_id, k, tuple(latents.shape[1:])) for k in range(tap.samples)])
        noisy.append(add_noise(backbone.alphas_cumprod, latents, eps.to(latents), times, backbone.flow))
    rows = text.rows([0] * tap.samples * len(photos))
    device = photos[0].encoded.latents.device
    with module_features(backbone.unet, tap.layers) as seen:
        backbone.unet(
            torch.cat(noisy), times.repeat(len(photos)).to(device), encoder_hidden_states=rows.states,
            added_cond_kwargs=rows.added,
        )  # fmt: skip
    means = {name: found.float().unflatten(0, (len(photos), tap.samples)).mean(1) for name, found in seen.items()}
    return [
        _grid({name: mean[n] for name, mean in means.items()}, photo.encoded, tap) for n, photo in enumerate(photos)
    ]


def _grid(seen: dict[str, Tensor], encoded: Encoded, tap: Tap) -> Grid:
    """One photo's layers on the finest grid among them."""
    latent_hw = int(encoded.latents.shape[-2]), int(encoded.latents.shape[-1])
    maps = [_on_a_grid(seen[name], latent_hw) for name in tap.layers]
    finest = max((tuple(each.shape[-2:]) for each in maps), key=math.prod)
    sized = [F.interpolate(each[None], finest, mode="bilinear", align_corners=False)[0] for each in maps]
    whole = torch.cat([F.normalize(each, dim=0) for each in sized])
    grid_hw = int(whole.shape[-2]), int(whole.shape[-1])
    h, w = encoded.geometry.valid_hw(grid_hw)
    return Grid(whole[:, :h, :w], grid_hw)


def _on_a_grid(found: Tensor, latent_hw: tuple[int, int]) -> Float[Tensor, "c h w"]:
    """A layer's output as a map; a list of tokens stands on the grid that has as many cells."""
    if found.ndim == 3:
        return found
    h, w = latent_hw
    while h * w > len(found):
        h, w = math.ceil(h / 2), math.ceil(w / 2)
    if h * w != len(found):
        raise BackboneError(
            f"a layer of {len(found)} tokens fits no grid over latents of {latent_hw[0]} x {latent_hw[1]}"
        )
    return found.T.unflatten(1, (h, w))
