"""What the search for copies keeps of the pictures of a dataset: who they show, and their hashes and points.

Knows: reference photos and scenes of subjects, splits and sets; which copies would matter; the features kept of each
picture.  Does not know: how copies are found and proven (``candidates``, ``copies``), files, tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8, UInt64

from prisbench.datasets.checks.crops import PointStore
from prisbench.datasets.checks.hash_index import NOTHING
from prisbench.datasets.checks.registration import PROBES, probe_hashes, thumbnail
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.perceptual import TURNS, turned_hashes
from prisbench.images.photos import pixels_sha256

MIRRORED = tuple(TURNS)[:2]
"""As it is, and mirrored: the turns of which a gallery keeps the hash of a whole picture."""

Embed = Callable[[UInt8[np.ndarray, "h w 3"]], Float[np.ndarray, " d"]]
"""A picture to a vector of any length."""


class PictureRecord(NamedTuple):
    """Where a picture is and what it is for.

    ``where`` names file and record.  ``role`` is "reference" or "scene".  ``subjects``: those it shows, or that its
    queries are about.  ``split`` is "" where there are none.  ``other`` names another set, "" is the audited one.
    """

    where: str
    role: str
    subjects: tuple[str, ...]
    split: str
    other: str


class Gallery:
    """What is kept of pictures that have been looked at: about a kilobyte each, and their points (``PointStore``)."""

    def __init__(self, embed: Embed | None = None, parts: bool = True) -> None:
        """``parts`` False: no points are kept, and only copies that share two thirds of each side are sought."""
        self.pictures: list[PictureRecord] = []
        self.keys: list[Any] = []
        self.digests: list[bytes] = []
        self._scenes: dict[tuple[bytes, str, str], int] = {}
        self._whole: list[tuple[int, ...]] = []
        self._probes: list[UInt64[np.ndarray, " p"]] = []
        self.points = PointStore() if parts else None
        self._embed = embed
        self._vectors: list[np.ndarray] = []

    def add(self, image: ImageLike, key: Any, picture: PictureRecord, sha256: str | None = None) -> None:
        """Look at a picture.  ``sha256`` is of its pixels, where known.

        A scene that was added before, for another query, only gains subjects.
        """
        image = as_image(image)
        digest = bytes.fromhex(sha256 or pixels_sha256(image))
        if picture.role == "scene":
            seen = self._scenes.setdefault((digest, picture.split, picture.other), len(self.pictures))
            if seen < len(self.pictures):
                known = self.pictures[seen]
                subjects = tuple(dict.fromkeys(known.subjects + picture.subjects))
                self.pictures[seen] = known._replace(subjects=subjects)
                return
        probes, loud = probe_hashes(thumbnail(image))
        turned = turned_hashes(image)
        self.pictures.append(picture)
        self.keys.append(key)
        self.digests.append(digest)
        self._whole.append(tuple(int(turned[turn], 16) for turn in MIRRORED) if loud[0] else ())
        # What shows nothing is near nothing: its bits are chance.
        self._probes.append(np.where(loud, probes, NOTHING))
        if self.points is not None:
            self.points.add(image)
        if self._embed is not None:
            vector = self._embed(image)
            self._vectors.append((vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float16))

    def whole(self, turn: str) -> UInt64[np.ndarray, " n"]:
        """The hash of each picture as a whole, as it is or mirrored."""
        place = MIRRORED.index(turn)
        return np.array([hashes[place] if hashes else NOTHING for hashes in self._whole], np.uint64)

    def probes(self) -> UInt64[np.ndarray, "n p"]:
        """The hashes of each picture's parts."""
        return np.array(self._probes, np.uint64).reshape(-1, len(PROBES))

    def vectors(self) -> Float[np.ndarray, "n d"] | None:
        """The embeddings, of length 1; None when there was nothing to embed with."""
        return np.array(self._vectors) if self._vectors else None


def matters(a: PictureRecord, b: PictureRecord) -> bool:
    """Whether it would be of interest that ``b`` is a copy of ``a``."""
    if a.other and b.other:
        return False
    if a.other != b.other or a.split != b.split:
        return True
    return "reference" in (a.role, b.role)
