"""From what the network sees to regions: middles are found, and every pixel of a thing joins the middle it points to.

Knows: maps of a photo.  Does not know: layers, what a region is compared with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from scipy import ndimage

from prisbench.pretrained import located
from prisbench.things.network import Seen, ThingsNet, load_network, see

THING, MIDDLE = 0.5, 0.15
"""How sure a pixel is of a thing, and a middle a middle."""

APART = 11
"""Pixels of the square in which there is one middle at most."""

LEAST = 24
"""Pixels of the smallest region."""


FOLDER = Path(__file__).parents[1] / "embedded" / "rivals" / "weights" / "things"
"""The network that comes along."""


class Finder:
    """The network of a folder behind one call; ``where`` "embedded" is the one that comes along.

    Raises BackboneError without a network there.
    """

    def __init__(self, where: str = "embedded") -> None:
        folder, _ = located(where, FOLDER, "things", "finder of things", "--set features.things=FOLDER")
        self.folder = Path(folder)
        self.network = load_network(self.folder)

    def __call__(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Bool[np.ndarray, "h w"]]:
        return regions_of(self.network, photo)


def regions_of(network: ThingsNet, photo: UInt8[np.ndarray, "h w 3"]) -> list[Bool[np.ndarray, "h w"]]:
    """The things of a photo, one connected region each, disjoint, the surest first."""
    return grouped(see(network, torch.from_numpy(np.ascontiguousarray(photo))))


def grouped(seen: Seen) -> list[Bool[np.ndarray, "h w"]]:
    """The regions of one photo's maps.  Where no middle is sure, each connected part of what is a thing is one."""
    sure = torch.sigmoid(seen.thing)[0].numpy()
    things = sure > THING
    middles = found_middles(torch.sigmoid(seen.middle)[0].numpy())
    if len(middles):
        joined = 1 + ((pointed(seen)[:, :, None] - middles) ** 2).sum(-1).argmin(-1)
    else:
        joined, _ = ndimage.label(things)
    found = []
    for number in range(1, 1 + int(joined.max())):
        part = largest_part(things & (joined == number))
        if part.sum() >= LEAST:
            found.append((float(sure[part].mean()), part))
    return [part for _, part in sorted(found, key=lambda each: -each[0])]


def pointed(seen: Seen) -> Float[np.ndarray, "h w 2"]:
    """Row and column of the middle that each pixel points to."""
    way = seen.way[0].numpy()
    rows, columns = np.indices(way.shape[1:])
    return np.stack([rows + way[0], columns + way[1]], -1)


def found_middles(heat: Float32[np.ndarray, "h w"]) -> Float32[np.ndarray, "k 2"]:
    """Row and column of the peaks of a map in 0..1 that are above MIDDLE."""
    smooth = ndimage.gaussian_filter(heat, 1.0)
    peaks = (smooth == ndimage.maximum_filter(smooth, APART)) & (smooth > MIDDLE)
    labels, count = ndimage.label(peaks, np.ones((3, 3)))  # equally high neighbours are one
    found = ndimage.center_of_mass(peaks, labels, range(1, count + 1))
    return np.array(found, np.float32).reshape(-1, 2)


def largest_part(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Of a mask's connected parts the largest; an empty mask of an empty one."""
    labels, count = ndimage.label(mask)
    return labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()) if count else mask
