"""Candidates laid on each other by registration: a pair is a copy when its fit agrees by ``AGREEMENT``.

Knows: how a candidate is proven, and how a copy lies on its original, in words.  Does not know: how candidates are
found (``candidates``), what a copy means for a dataset (``leaks``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from prisbench.datasets.checks import crops
from prisbench.datasets.checks.candidates import WindowMatch
from prisbench.datasets.checks.crops import AGREEMENT
from prisbench.datasets.checks.gallery import Gallery
from prisbench.datasets.checks.registration import PROBES, WINDOWS, Fit, fit, thumbnail
from prisbench.errors import DataError
from prisbench.images.perceptual import TURNS

Read = Callable[[Any], UInt8[np.ndarray, "h w 3"]]
"""A picture again, by the key under which it was added."""


class Copy(NamedTuple):
    """Picture ``b`` shows picture ``a``, by their numbers in the gallery; ``how`` as in ``leaks.Leak``."""

    a: int
    b: int
    how: str
    agreement: float


class Proofs:
    """Candidates that were registered, and the copies among them."""

    def __init__(self, gallery: Gallery, read: Read) -> None:
        self._gallery = gallery
        self._read = read
        self._kept: dict[int, Float[np.ndarray, "g g"] | None] = {}
        self._last = lru_cache(maxsize=64)(self._look)
        self._pixels = lru_cache(maxsize=64)(self._brightness)
        self.copies: list[Copy] = []
        self._known: set[tuple[int, int]] = set()
        self.registered = 0
        self.unread: set[tuple[int, int]] = set()

    def thumb(self, i: int) -> Float[np.ndarray, "g g"] | None:
        """A picture's thumbnail, kept until the block of its reference photo is done; None when it cannot be read."""
        if i not in self._kept:
            self._kept[i] = self._look(i)
        return self._kept[i]

    def look_at(self, candidates: list[WindowMatch], keep: Iterable[int]) -> None:
        """Register the candidates, in the order of the later picture, then forget the thumbnails of ``keep``."""
        ordered = sorted(candidates, key=lambda one: (max(one.a, one.b), min(one.a, one.b), one.a > one.b, *one[2:]))
        for pair, some in itertools.groupby(ordered, key=lambda one: (min(one.a, one.b), max(one.a, one.b))):
            if pair in self._known:
                continue
            thumbs = {i: self._kept[i] if i in self._kept else self._last(i) for i in pair}
            self.registered += 1
            for one in some:
                on_a, on_b = thumbs[one.a], thumbs[one.b]
                if on_a is None or on_b is None:
                    self.registered -= 1
                    self.unread.add(pair)
                    break
                found = fit(np.ascontiguousarray(TURNS[one.turn](on_a)), on_b, WINDOWS[one.window], PROBES[one.probe])
                if found.agreement >= AGREEMENT:
                    self._known.add(pair)
                    self.copies.append(Copy(one.a, one.b, words(one.turn, found), found.agreement))
                    break
        for i in keep:
            self._kept.pop(i, None)

    def look_for_parts(self, candidates: Iterable[crops.Candidate]) -> None:
        """Prove the candidates that are not known as copies."""
        for a, b, place in sorted(candidates, key=lambda one: one.b):
            pair = (min(a, b), max(a, b))
            if pair in self._known:
                continue
            on_a, on_b = self._pixels(a), self._pixels(b)
            if on_a is None or on_b is None:
                self.unread.add(pair)
                continue
            self.registered += 1
            found, covered = crops.prove(on_a, on_b, place)
            if found.agreement >= AGREEMENT:
                self._known.add(pair)
                how = words(place.turn, found) + (", partly covered" if covered else "")
                self.copies.append(Copy(a, b, how, found.agreement))

    def _brightness(self, i: int) -> UInt8[np.ndarray, "h w"] | None:
        try:
            return crops.brightness(self._read(self._gallery.keys[i]))
        except DataError:
            return None

    def _look(self, i: int) -> Float[np.ndarray, "g g"] | None:
        try:
            return thumbnail(self._read(self._gallery.keys[i])).astype(np.float32)
        except DataError:
            return None


def words(turn: str, found: Fit) -> str:
    """How a copy lies on its original, for people: "the same picture, mirrored, shifted by 28 % of its width"."""
    parts = ["the same picture"] + [turn] * (turn != "as it is")
    if max(found.scale_yx) > 1.04 and min(found.scale_yx) < 0.96:
        parts.append("cut otherwise")
    elif min(found.scale_yx) < 0.96:
        parts.append("a part of it")
    elif max(found.scale_yx) > 1.04:
        parts.append("with more around it")
    else:
        shifts = [
            f"{abs(shift):.0%} of its {side}".replace("%", " %")
            for shift, side in zip(found.shift_yx, ("height", "width"), strict=True)
            if abs(shift) >= 0.01
        ]
        parts += [f"shifted by {' and '.join(shifts)}"] if shifts else []
    return ", ".join(parts)
