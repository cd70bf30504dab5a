"""Pictures in which things are annotated, some by a name of their own; and what each of them shows, once opened.

Knows: that several masks may belong to one thing, and sizes that do not fit.  Does not know: annotation formats, files,
which pictures are reference photos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.sources.reading.images import ImageFile
from prisbench.errors import DataError


class Thing(NamedTuple):
    """Something annotated in a picture.  ``subject``: which one it is in the whole set; None when nobody says.
    ``group``: it is several, like a crowd."""

    noun: str
    subject: str | None
    group: bool = False


class OpenedPicture(NamedTuple):
    """An opened picture, and a mask of its size for each of its things, none empty."""

    image: ImageFile
    masks: tuple[Bool[np.ndarray, "_h _w"], ...]


@dataclass(frozen=True, eq=False)
class AnnotatedPicture:
    """A picture and what is known of it before it is opened.

    ``look`` opens it; several masks may belong to one subject.  ``hidden``: subjects of which something is there
    without a mask, so that there is no query about them.  ``unnamed``: nouns of things that are there without a mask
    and without a name.
    """

    name: str
    place: str
    things: tuple[Thing, ...]
    licence: str
    source: str
    look: Callable[[], OpenedPicture]
    hidden: frozenset[str] = frozenset()
    unnamed: frozenset[str] = frozenset()

    @property
    def named(self) -> frozenset[str]:
        return frozenset(thing.subject for thing in self.things if thing.subject is not None)

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects whose mask is whole."""
        return self.named - self.hidden

    def may_show(self, noun: str) -> bool:
        """Whether a thing of this noun is there of which nobody says which one it is."""
        return noun in self.unnamed or any(thing.noun == noun and thing.subject is None for thing in self.things)


class Scene(NamedTuple):
    """An opened picture with the mask and the noun of each of its things.

    The key is a subject's name, whose parts are one mask, or the place of a thing without a name.
    """

    image: ImageFile
    masks: dict[str | int, Bool[np.ndarray, "_h _w"]]
    nouns: dict[str | int, str]


def scene_of(picture: AnnotatedPicture) -> Scene:
    """Opens a picture.  Raises DataError when it and its masks are of different sizes."""
    image, masks = _opened(picture)
    nouns = {_key(index, thing): thing.noun for index, thing in enumerate(picture.things)}
    return Scene(image, _united(masks, picture.things), nouns)


def _opened(picture: AnnotatedPicture) -> OpenedPicture:
    """Raises DataError when the picture and its masks are of different sizes."""
    opened = picture.look()
    h, w = opened.image.pixels.shape[:2]
    for mask in opened.masks:
        if mask.shape != (h, w):
            raise DataError(
                f"{picture.name} is {h} x {w}, its annotations {mask.shape[0]} x {mask.shape[1]} (height x width); "
                "take the picture that was annotated"
            )
    return opened


def _key(index: int, thing: Thing) -> str | int:
    """A subject's name, or the place of a thing without one."""
    return index if thing.subject is None else thing.subject


def _united(
    masks: Sequence[Bool[np.ndarray, "_h _w"]], things: Sequence[Thing]
) -> dict[str | int, Bool[np.ndarray, "_h _w"]]:
    """``_key`` -> mask: the parts of a subject are one."""
    united: dict[str | int, Bool[np.ndarray, "_h _w"]] = {}
    for index, (mask, thing) in enumerate(zip(masks, things, strict=True)):
        key = _key(index, thing)
        united[key] = united[key] | mask if key in united else mask
    return united
