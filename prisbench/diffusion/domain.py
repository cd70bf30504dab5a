"""Is a photo of the world that a backbone was trained on?  Its reconstruction error says so.

The autoencoder encodes and decodes a photo.  The error is noise, which no model could know, and
structure that it does not know.  Three numbers tell the two apart, each larger on what was never
seen:

    structure     log of the squared error of the brightness after a mean over 5 x 5 pixels, in which noise cancels
    share         the same, less log of the photo's own noise: of colour, in the calmest tenth of the photo
    texture       minus the correlation of the error with itself two pixels away: errors of unknown texture alternate

Their sum, each in deviations from its mean over scenes of the backbone's own world, is the photo's
strangeness; beyond the 99th percentile of those scenes a photo counts as unlike them.  All numbers
of a world are in ``domain.json`` in the backbone's folder; a backbone without that file says
nothing.

Knows: reconstructions and their statistics.  Does not know: where scenes come from, what is done with the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import encode_image, unscaled
from prisbench.errors import BackboneError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import resize_to
from prisbench.out_of_domain import Strangeness
from prisbench.runtime.files import read_json, write_json

FILE = "domain.json"

FORMAT = 1

FEATURES = ("structure", "share", "texture")

QUANTILE = 0.99
"""Of the backbone's own scenes, so many are no stranger than the threshold."""

_FLOOR = 1e-6
"""Added before a logarithm; an error of 0.13 grey levels, squared."""


@dataclass(frozen=True)
class Domain:
    """What a backbone's own world looks like to it: mean and deviation of each of FEATURES, the threshold, and what it
    was measured on.
    """

    mean: Mapping[str, float]
    deviation: Mapping[str, float]
    threshold: float
    scenes: int
    world: str

    def strangeness(self, features: Mapping[str, float]) -> float:
        """How far a photo's features are beyond those of the world, in deviations, summed."""
        return sum((features[name] - self.mean[name]) / self.deviation[name] for name in FEATURES)


def strangeness(backbone: Backbone, photo: ImageLike) -> Strangeness | None:
    """How far a photo is from the world that the backbone was trained on; None where nobody measured that world."""
    domain = backbone.domain
    return None if domain is None else Strangeness(domain.strangeness(features(backbone, photo)), domain.threshold)


@torch.no_grad()
def features(backbone: Backbone, photo: ImageLike) -> dict[str, float]:
    """The numbers that FEATURES names, of a photo in the backbone's own size.  Raises DataError as ``encode_image``."""
    photo = as_image(photo)
    latents, geometry = encode_image(backbone, photo)
    h, w = geometry.resized_hw
    small = resize_to(photo, (h, w))
    codes = unscaled(backbone.vae, latents.to(backbone.vae.dtype))
    drawn = backbone.vae.decode(codes).sample[0, :, :h, :w].float().cpu().numpy()
    return statistics_of(small, drawn - (small.transpose(2, 0, 1) / 127.5 - 1).astype(np.float32))


def statistics_of(photo: UInt8[np.ndarray, "h w 3"], error: Float[np.ndarray, "3 h w"]) -> dict[str, float]:
    """The numbers that FEATURES names, of a photo and of what its reconstruction (-1..1) has too much."""
    structure = float(np.log((ndimage.uniform_filter(error.mean(0), 5) ** 2).mean() + _FLOOR))
    pixels = photo.astype(np.float32)
    fine = pixels - ndimage.uniform_filter(pixels, (3, 3, 1))
    colour = ndimage.uniform_filter(((fine - fine.mean(2, keepdims=True)) ** 2).mean(2), 7)
    noise = float(np.log(np.quantile(colour, 0.1) + _FLOOR))
    centred = error - error.mean((1, 2), keepdims=True)
    power = float((centred**2).mean())
    apart = (centred[:, :, 2:] * centred[:, :, :-2]).mean() + (centred[:, 2:] * centred[:, :-2]).mean()
    return {
        "structure": structure,
        "share": structure - noise,
        "texture": -float(apart) / (2 * power) if power > 0 else 0.0,
    }


def measure(backbone: Backbone, scenes: Iterable[ImageLike], world: str) -> Domain:
    """The domain of a backbone, on scenes of its own world that it was not trained on; ``world`` says which."""
    found = [features(backbone, scene) for scene in scenes]
    columns = {name: np.asarray([each[name] for each in found]) for name in FEATURES}
    mean = {name: round(float(values.mean()), 6) for name, values in columns.items()}
    deviation = {name: round(max(float(values.std()), 1e-6), 6) for name, values in columns.items()}
    domain = Domain(mean, deviation, 0.0, len(found), world)
    threshold = float(np.quantile([domain.strangeness(each) for each in found], QUANTILE))
    return Domain(mean, deviation, round(threshold, 4), len(found), world)


def write_domain(domain: Domain, folder: Path) -> Path:
    """Put a domain into a backbone's folder.  Raises WriteError."""
    return write_json(folder / FILE, {"format": FORMAT, "quantile": QUANTILE, **asdict(domain)})


def read_domain(folder: Path) -> Domain | None:
    """The domain in a backbone's folder; None where there is none.  Raises BackboneError when it cannot be used."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        if found["format"] != FORMAT:
            raise BackboneError(f"{path} has format {found['format']}, this version reads {FORMAT}; measure it again")
        mean, deviation = ({name: float(found[key][name]) for name in FEATURES} for key in ("mean", "deviation"))
        domain = Domain(mean, deviation, float(found["threshold"]), int(found["scenes"]), str(found["world"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(f"{path} does not say what this version reads ({error!r}); measure it again") from None
    if not all(np.isfinite([*mean.values(), *deviation.values(), domain.threshold])) or min(deviation.values()) <= 0:
        raise BackboneError(f"{path} holds numbers that make no sense; measure it again")
    return domain
