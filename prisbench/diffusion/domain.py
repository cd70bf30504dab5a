"""What a backbone's own world looks like to it, in numbers that are larger on photos of another world.

Of the autoencoder's reconstruction error, which is noise, that no model could know, and structure that it does not
know:

    structure     log of the squared error of the brightness after a mean over 5 x 5 pixels, in which noise cancels
    share         the same, less log of the photo's own noise: of colour, in the calmest tenth of the photo
    texture       minus the correlation of the error with itself two pixels away: errors of unknown texture alternate

Of the finder of things, which is at one with itself on what it knows (``own_world`` measures these):

    mirror        log of the pixels by which its ways to a thing's middle differ in the photo and in its mirror image
    scatter       log of the mean distance of where a thing's pixels point to, in roots of its area

The sum of these numbers, each in deviations from its mean over scenes of the backbone's own world, is a photo's
strangeness; beyond the 99th percentile of those scenes a photo counts as unlike them.  All numbers of a world are in
``domain.json`` in the backbone's folder; a backbone without that file says nothing.

Knows: statistics of reconstructions, the file.  Does not know: networks, where scenes come from, what is done with the
answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from prisbench.errors import BackboneError
from prisbench.runtime.files import read_json, write_json

FILE = "domain.json"

RECONSTRUCTED, FOUND = ("structure", "share", "texture"), ("mirror", "scatter")

FEATURES = (*RECONSTRUCTED, *FOUND)

FORMATS = {1: RECONSTRUCTED, 2: FEATURES}
"""Format of the file -> the numbers in it.  Folders from before the finder took part are of format 1."""

QUANTILE = 0.99
"""Of the backbone's own scenes, so many are no stranger than the threshold."""

_FLOOR = 1e-6
"""Added before a logarithm; an error of 0.13 grey levels, squared."""


@dataclass(frozen=True)
class Domain:
    """What a backbone's own world looks like to it: mean and deviation of each of its numbers, the threshold, and what
    it was measured on; ``finder``: the SHA-256 of the finder's weights, None where it took no part.
    """

    mean: Mapping[str, float]
    deviation: Mapping[str, float]
    threshold: float
    scenes: int
    world: str
    finder: str | None = None

    def strangeness(self, features: Mapping[str, float]) -> float:
        """How far a photo's features are beyond those of the world, in deviations, summed; one that a photo does not
        have, because nothing is found in it, adds nothing.
        """
        known = [name for name in self.mean if name in features]
        return sum((features[name] - self.mean[name]) / self.deviation[name] for name in known)


def statistics_of(photo: UInt8[np.ndarray, "h w 3"], error: Float[np.ndarray, "3 h w"]) -> dict[str, float]:
    """The numbers that RECONSTRUCTED names, of a photo and of what its reconstruction (-1..1) has too much."""
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


def measured(found: Sequence[Mapping[str, float]], world: str, finder: str | None = None) -> Domain:
    """The domain whose scenes have these features; ``world`` says which they are."""
    columns = {name: np.asarray([each[name] for each in found if name in each]) for name in FEATURES}
    columns = {name: values for name, values in columns.items() if len(values)}
    mean = {name: round(float(values.mean()), 6) for name, values in columns.items()}
    deviation = {name: round(max(float(values.std()), 1e-6), 6) for name, values in columns.items()}
    domain = Domain(mean, deviation, 0.0, len(found), world, finder)
    threshold = float(np.quantile([domain.strangeness(each) for each in found], QUANTILE))
    return Domain(mean, deviation, round(threshold, 4), len(found), world, finder)


def write_domain(domain: Domain, folder: Path) -> Path:
    """Put a domain into a backbone's folder.  Raises WriteError."""
    number = next(number for number, names in FORMATS.items() if set(names) == set(domain.mean))
    return write_json(folder / FILE, {"format": number, "quantile": QUANTILE, **asdict(domain)})


def read_domain(folder: Path) -> Domain | None:
    """The domain in a backbone's folder; None where there is none.  Raises BackboneError when it cannot be used."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        if found["format"] not in FORMATS:
            known = " and ".join(map(str, FORMATS))
            raise BackboneError(f"{path} has format {found['format']}, this version reads {known}; measure it again")
        names = FORMATS[found["format"]]
        mean, deviation = ({name: float(found[key][name]) for name in names} for key in ("mean", "deviation"))
        domain = Domain(
            mean, deviation, float(found["threshold"]), int(found["scenes"]), str(found["world"]), found.get("finder")
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(f"{path} does not say what this version reads ({error!r}); measure it again") from None
    if not all(np.isfinite([*mean.values(), *deviation.values(), domain.threshold])) or min(deviation.values()) <= 0:
        raise BackboneError(f"{path} holds numbers that make no sense; measure it again")
    return domain
