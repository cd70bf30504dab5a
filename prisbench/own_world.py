"""Is a photo of the world that an embedded model was trained on?

Two networks of that world are asked: how well the backbone's autoencoder draws the photo again, and whether the finder
of things agrees with itself about it (``diffusion.domain`` says which numbers are taken).  The small models that come
along saw the same scenes, so they are judged by the embedded backbone's measure; it says whether a photo is of their
world, and nothing of how a model does there.

Knows: reconstructions, what the finder sees, which folders hold a model of ours.  Does not know: any method.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from prisbench.diffusion.domain import Domain, measured, statistics_of
from prisbench.errors import BackboneError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import resize_to
from prisbench.out_of_domain import Strangeness
from prisbench.own_task import CARD
from prisbench.runtime.files import sha256_file
from prisbench.small_networks import WEIGHTS

if TYPE_CHECKING:
    from prisbench.diffusion.backbone import Backbone
    from prisbench.things.regions import Finder


def strangeness(backbone: Backbone, photo: ImageLike) -> Strangeness | None:
    """How far a photo is from the world that the backbone was trained on; None where nobody measured that world.

    Raises DataError for a photo that cannot be looked at.
    """
    domain = backbone.domain
    return None if domain is None else Strangeness(domain.strangeness(features(backbone, photo)), domain.threshold)


def strangeness_to(folder: str | Path, image: ImageLike) -> Strangeness | None:
    """How far a photo is from what the model in a folder was trained on.

    None for a model without a card of ours, which may know anything, and where the embedded backbone is not installed.
    Raises DataError for a photo that cannot be looked at.
    """
    backbone = _embedded() if (Path(folder) / CARD).is_file() else None
    return None if backbone is None else strangeness(backbone, image)


def measure(backbone: Backbone, scenes: Iterable[ImageLike], world: str) -> Domain:
    """The domain of a backbone, on scenes of its own world that it was not trained on; ``world`` says which."""
    finder = _finder()
    known = None if finder is None else sha256_file(finder.folder / WEIGHTS)
    return measured([features(backbone, scene) for scene in scenes], world, known)


def features(backbone: Backbone, photo: ImageLike) -> dict[str, float]:
    """The numbers that ``domain.FEATURES`` names, of a photo in the backbone's own size; those of the finder are left
    out where it finds nothing.  Raises DataError as ``encode_image``.
    """
    import torch

    from prisbench.diffusion.images import encode_image, unscaled

    photo = as_image(photo)
    latents, geometry = encode_image(backbone, photo)
    h, w = geometry.resized_hw
    small = resize_to(photo, (h, w))
    with torch.no_grad():
        codes = unscaled(backbone.vae, latents.to(backbone.vae.dtype))
        drawn = backbone.vae.decode(codes).sample[0, :, :h, :w].float().cpu().numpy()
    error = drawn - (small.transpose(2, 0, 1) / 127.5 - 1).astype(np.float32)
    finder = _finder()
    return statistics_of(small, error) | ({} if finder is None else disagreement(finder, small))


def disagreement(finder: Finder, photo: UInt8[np.ndarray, "h w 3"]) -> dict[str, float]:
    """The numbers that ``domain.FOUND`` names; none where nothing is found."""
    import torch

    from prisbench.things.network import Seen, see_both
    from prisbench.things.regions import THING, grouped, pointed

    seen, mirrored = see_both(finder.network, torch.from_numpy(np.ascontiguousarray(photo)))
    mean = Seen(*((one + other) / 2 for one, other in zip(seen, mirrored, strict=True)))
    there = torch.sigmoid(mean.thing)[0] > THING
    found = grouped(mean)
    if not found:
        return {}
    apart = (seen.way - mirrored.way)[0].norm(dim=0)[there].mean()
    ends = pointed(mean)
    scattered = [_scatter(ends[region]) for region in found]
    return {"mirror": float(torch.log(apart + 1e-3)), "scatter": float(np.log(np.mean(scattered) + 1e-3))}


def _scatter(ends: np.ndarray) -> float:
    """Mean distance of points from their median, in roots of their number."""
    return float(np.hypot(*(ends - np.median(ends, axis=0)).T).mean() / np.sqrt(len(ends)))


@functools.cache
def _finder() -> Finder | None:
    from prisbench.things.regions import Finder

    try:
        return Finder()
    except BackboneError:
        return None


@functools.cache
def _embedded() -> Backbone | None:
    from prisbench.diffusion.loading import load_backbone

    try:
        return load_backbone()
    except BackboneError:
        return None
