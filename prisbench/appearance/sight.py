"""What a subject's words show of a photo, at the size at which pixels are compared.

    look       reader, photo, queries, concepts  ->  a sight for each query
    outlined   a subject  ->  the subject with a mask in every photo: its own, or one that words and photos agree on

Knows: the localizer's observations.  Does not know: how like a region is to the subject, truth.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from prisbench.appearance.agreement import View
from prisbench.images.arrays import ImageLike, as_image
from prisbench.localizer import answer
from prisbench.localizer.observe import Observation, observe_all
from prisbench.localizer.settings import LocalizerSettings
from prisbench.localizer.texts import Reader
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.evidence import Scene
from prisbench.network_free.foreground import known_or_guessed
from prisbench.types import SLOT, Concept, Query, Subject

OWN_PHOTO = f"a photo of a {SLOT}"


@dataclass(frozen=True, eq=False)
class Sight:
    """``map_`` is the words' map before places are read, 0..1; ``landmarks``: a landmark's phrase -> its map, 0..1."""

    map_: Float32[np.ndarray, "h w"]
    landmarks: Mapping[str, Float32[np.ndarray, "h w"]]


def look(reader: Reader, photo: ImageLike, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Sight]:
    """What the words of each query show, at the size of ``colours.shrunk``; the photo is encoded once."""
    size_hw = shrunk(as_image(photo)).shape[:2]
    return [_sight(seen, reader.settings, size_hw) for seen in observe_all(reader, photo, queries, concepts)]


def blank(photo: ImageLike) -> Sight:
    """What is seen where no words are asked."""
    return Sight(np.zeros(shrunk(as_image(photo)).shape[:2], np.float32), {})


def _sight(seen: Observation, settings: LocalizerSettings, size_hw: tuple[int, int]) -> Sight:
    score, _ = answer.soft_map(seen, settings)
    said = answer.conditions(seen, settings)
    marks = {of.landmark: resized(map_, size_hw) for of, map_ in said if map_ is not None and of.landmark is not None}
    return Sight(resized(score[0].float().cpu().numpy(), size_hw), marks)


Find = Callable[[UInt8[np.ndarray, "h w 3"]], Sequence[Bool[np.ndarray, "h w"]]]
"""The things of a photo, whatever they are."""


Know = Callable[[UInt8[np.ndarray, "h w 3"], Sequence[Bool[np.ndarray, "h w"]]], Float32[np.ndarray, "n e"]]
"""A vector for each thing of a photo, by which a network knows it again."""


class Among(NamedTuple):
    """How the subject is found among the things of its photos: ``find`` lists a photo's, ``choose`` takes one of each
    photo, compared under ``balance`` and by what ``know`` says, where there is such a network.
    """

    find: Find
    choose: Callable[[Sequence[View]], Sequence[int]]
    balance: str = "none"
    know: Know | None = None


def outlined(reader: Reader | None, subject: Subject, concept: Concept, among: Among | None = None) -> Subject:
    """The subject with a mask in every photo; those that came with the photos are as they were.

    The others have the size of the shrunk photo: what is chosen ``among`` the regions of ``own_views``.
    """
    views = own_views(reader, subject, concept, among)
    chosen = among.choose(views) if among else [0] * len(views)
    found = [view.things[place] for view, place in zip(views, chosen, strict=True)]
    masks = [own if own is not None else each for own, each in itertools.zip_longest(subject.masks, found)]
    return dataclasses.replace(subject, masks=tuple(masks))


def own_views(reader: Reader | None, subject: Subject, concept: Concept, among: Among | None = None) -> list[View]:
    """What may be the subject in each of its photos: its mask there, where it has one; else the photo's things.

    Without ``among``, or where a photo has none, the part that the words' mask has there.  Without a reader there are
    no words: things count alike, and where a photo has none its foreground stands for one.
    """
    query = Query("own photo", subject.id, OWN_PHOTO)

    def seen(scene: Scene, things: Sequence[Bool[np.ndarray, "_ _"]], shown: Sequence[float]) -> View:
        return View(scene, things, shown, among.know(scene.image, things) if among and among.know else None)

    def view(photo: UInt8[np.ndarray, "_ _ 3"], mask: Bool[np.ndarray, "_ _"] | None) -> View:
        scene = Scene(shrunk(photo), among.balance if among else "none")
        if mask is not None:
            given = mask_resized(mask, scene.size_hw)
            return seen(scene, [given if given.any() else ~given], [1.0])
        things = list(among.find(scene.image)) if among else []
        if reader is None:
            things = things or known_or_guessed([scene.image], [None])
            return seen(scene, things, [1.0] * len(things))
        (sight,) = look(reader, photo, [query], {subject.id: concept})
        things = things or [found_part(sight.map_, scene.image, reader.settings)]
        return seen(scene, things, [float(sight.map_[thing].mean()) for thing in things])

    return [view(photo, mask) for photo, mask in itertools.zip_longest(subject.photos, subject.masks)]


def found_part(
    map_: Float32[np.ndarray, "h w"], photo: UInt8[np.ndarray, "h w 3"], settings: LocalizerSettings
) -> Bool[np.ndarray, "h w"]:
    """The part of the mask that holds the map's highest pixel; where the refinement left none there, the upper half of
    the map's heights around it.
    """
    y, x = np.unravel_index(int(map_.argmax()), map_.shape)
    top = int(y), int(x)
    for mask in (answer.cut(torch.from_numpy(map_)[None], photo, settings), map_ >= 0.5 * map_[top]):
        if mask[top]:
            return answer.part_at(mask, top)
    raise AssertionError("a map is at least half as high as its highest pixel there")


def resized(map_: np.ndarray, size_hw: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
    """A map of another size, bilinear, averaged where it shrinks."""
    if map_.shape == size_hw:
        return np.asarray(map_, np.float32)
    return np.asarray(Image.fromarray(np.asarray(map_, np.float32)).resize(size_hw[::-1], Image.Resampling.BILINEAR))
