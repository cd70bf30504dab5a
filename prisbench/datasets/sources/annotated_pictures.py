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

    def times(self, subject: str) -> int:
        """How many masks a subject has: those of its parts, or of its copies."""
        return sum(thing.subject == subject for thing in self.things)

    def may_show(self, noun: str) -> bool:
        """Whether a thing of this noun is there of which nobody says which one it is."""
        return noun in self.unnamed or any(thing.noun == noun and thing.subject is None for thing in self.things)


class Scene(NamedTuple):
    """An opened picture with the mask and the noun of each of its things.

    The key is a subject's name, whose parts are one mask, or the place of a thing without a name or of a copy.
    ``copy_of``: a copy's key -> the name of the subject that comes before it.
    """

    image: ImageFile
    masks: dict[str | int, Bool[np.ndarray, "_h _w"]]
    nouns: dict[str | int, str]
    copy_of: dict[str | int, str]


def scene_of(picture: AnnotatedPicture, copies: bool = False) -> Scene:
    """Opens a picture.  ``copies``: masks of one subject are several things, not parts of one.

    Raises DataError when it and its masks are of different sizes.
    """
    image, masks = _opened(picture)
    keys = _keys(picture.things, copies)
    nouns = {key: thing.noun for key, thing in zip(keys, picture.things, strict=True)}
    named = zip(keys, picture.things, strict=True)
    copy_of = {key: thing.subject for key, thing in named if thing.subject is not None and key != thing.subject}
    return Scene(image, _united(masks, keys), nouns, copy_of)


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


def _keys(things: Sequence[Thing], copies: bool) -> list[str | int]:
    """A subject's name, or the place of a thing without one or, where there are ``copies``, of a further one."""
    keys: list[str | int] = []
    for index, thing in enumerate(things):
        further = copies and thing.subject in keys
        keys.append(index if thing.subject is None or further else thing.subject)
    return keys


def _united(
    masks: Sequence[Bool[np.ndarray, "_h _w"]], keys: Sequence[str | int]
) -> dict[str | int, Bool[np.ndarray, "_h _w"]]:
    """``_keys`` -> mask: what has one key is one thing."""
    united: dict[str | int, Bool[np.ndarray, "_h _w"]] = {}
    for key, mask in zip(keys, masks, strict=True):
        united[key] = united[key] | mask if key in united else mask
    return united
