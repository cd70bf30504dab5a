"""What a network made of the last photos, so that none of them is encoded twice, and several at once where that is
faster.

Two texts about one scene that differ in one phrase are asked in two calls (``answering``); the scene is encoded once.

Knows: photos by their pixels.  Does not know: any network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import UInt8

from prisbench.images.photos import pixels_sha256

MOST = 32
"""Photos whose encodings are kept; more are never asked for at once."""

T = TypeVar("T")


class Seen(Generic[T]):
    """``encode`` gives an encoding a photo, the same to rounding whatever photos come along; nobody may change one."""

    def __init__(self, encode: Callable[[Sequence[UInt8[np.ndarray, "_h _w 3"]]], Sequence[T]]) -> None:
        self._encode = encode
        self._kept: dict[str, T] = {}

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> T:
        """A photo's encoding: one that is kept, else it is encoded alone."""
        key = pixels_sha256(image)
        found = self._kept.pop(key) if key in self._kept else self._encode([image])[0]
        self._keep({key: found})
        return found

    def ahead(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        """Encode together those that are not kept yet, ``MOST`` at most."""
        new = {key: image for image in images if (key := pixels_sha256(image)) not in self._kept}
        keys = list(new)[:MOST]
        if keys:
            self._keep(dict(zip(keys, self._encode([new[key] for key in keys]), strict=True)))

    def _keep(self, found: dict[str, T]) -> None:
        kept = {**self._kept, **found}
        self._kept = dict(list(kept.items())[-MOST:])
