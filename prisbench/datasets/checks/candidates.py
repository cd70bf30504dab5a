"""Which pairs of pictures might be copies: proposed by hashes and points, to be proven by registration (``copies``).

Whole copies, and those that share two thirds of each side, are proposed by hashes of windows; smaller parts by points
(``crops``).  Knows: the features in a gallery, how many pairs are affordable.  Does not know: pixels, proofs.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt64

from prisbench.datasets.checks import crops
from prisbench.datasets.checks.gallery import MIRRORED, Gallery, matters
from prisbench.datasets.checks.hash_index import NOTHING, HashIndex
from prisbench.datasets.checks.registration import PROBES, probe_hashes, window_hashes
from prisbench.images.perceptual import TURNS

WIDE = 20_000_000
"""Pairs of a reference photo and any picture up to which shifted and cut-out copies are sought across subjects.  Above
(a thousand photos and twenty thousand scenes), only among the photos and scenes of one subject."""

MOST_CANDIDATES = 1000
"""Of one reference photo; more, of which the least likely are left out and counted, come of pictures all alike."""


class WindowMatch(NamedTuple):
    """That picture ``b`` might show picture ``a``: a window of ``a``, laid as ``turn`` says, on a part of ``b``.

    ``distance``: bits in which the two hashes differ.  Pictures have their numbers in the gallery.
    """

    a: int
    b: int
    distance: int
    turn: str
    window: int
    probe: int


class Search:
    """The pairs of a gallery that are worth registering; ``wide`` and ``scenes_wide`` as in ``leaks.Audit``."""

    def __init__(self, gallery: Gallery, references: list[int]) -> None:
        self._gallery = gallery
        self._references = references
        self.wide = len(references) * len(gallery.pictures) <= WIDE
        self._whole = gallery.whole("as it is")
        self._probes = gallery.probes()
        self._near_whole = HashIndex(self._whole)
        self._near_parts = HashIndex(self._probes.reshape(-1)) if self.wide else None
        self._of_subject: dict[str, list[int]] = defaultdict(list)
        for i, picture in enumerate(gallery.pictures):
            for subject in picture.subjects:
                self._of_subject[subject].append(i)
        self.scenes_wide = self.wide and len(self._scenes_to_query()) * len(gallery.pictures) <= WIDE
        self.left_out = 0

    def of_reference(self, i: int, thumb: Float[np.ndarray, "g g"]) -> list[WindowMatch]:
        """Of a reference photo and its thumbnail: copies of all kinds, the likeliest first."""
        found: dict[tuple[int, int], WindowMatch] = {}
        for turn, turned in TURNS.items():
            laid = np.ascontiguousarray(turned(thumb))
            if turn in MIRRORED:
                hashes, loud = window_hashes(laid)
            else:
                hashes, loud = (each[:1] for each in probe_hashes(laid))  # the first window and probe are the whole
            windows = np.flatnonzero(loud)
            for window, slot, distance in self._parts_near(hashes[windows], i, turn):
                candidate = WindowMatch(
                    i, slot // len(PROBES), distance, turn, int(windows[window]), slot % len(PROBES)
                )
                best = found.get((candidate.b, candidate.probe))
                if best is None or candidate.distance < best.distance:
                    found[candidate.b, candidate.probe] = candidate
        return self._likeliest(found.values())

    def cut_out(self) -> Iterator[list[crops.Candidate]]:
        """Parts of pictures in other pictures: of reference photos, and of scenes in another split or set."""
        pictures, points = self._gallery.pictures, self._gallery.points
        if points is None:
            return
        if self._near_parts is not None:
            queries = self._references + (self._scenes_to_query() if self.scenes_wide else [])
            yield from self._fewer(crops.candidates(points, queries, range(len(pictures)), self._matters))
            return
        for own in self._of_subject.values():
            queries = [i for i in own if pictures[i].role == "reference"]
            yield from self._fewer(crops.candidates(points, queries, own, self._matters))

    def of_scenes(self) -> list[WindowMatch]:
        """Of scenes: whole copies in another split or set; scenes of the largest split are no queries."""
        pictures = self._gallery.pictures
        queries = self._scenes_to_query()
        found: dict[tuple[int, int], WindowMatch] = {}
        for turn in MIRRORED:
            hashes = self._gallery.whole(turn)
            for start in range(0, len(queries), 1000):
                block = [i for i in queries[start : start + 1000] if hashes[i] != NOTHING]
                for n, j, distance in self._near_whole.near(hashes[block]):
                    a, b = sorted((block[n], j))
                    if pictures[j].role == "scene" and self._matters(a, b):
                        # The same in both directions: a mirrored copy's mirrored copy is the picture.
                        candidate = WindowMatch(a, b, distance, turn, 0, 0)
                        if distance < found.get((a, b), candidate._replace(distance=65)).distance:
                            found[a, b] = candidate
        return list(found.values())

    def _scenes_to_query(self) -> list[int]:
        """The scenes of all sets and splits but the largest."""
        pictures = self._gallery.pictures
        scenes = [i for i, picture in enumerate(pictures) if picture.role == "scene"]
        sizes = Counter((pictures[i].other, pictures[i].split) for i in scenes)
        return [i for i in scenes if (pictures[i].other, pictures[i].split) != sizes.most_common(1)[0][0]]

    def _fewer(self, found: Iterable[list[crops.Candidate]]) -> Iterator[list[crops.Candidate]]:
        for some in found:
            kept = some[:MOST_CANDIDATES]
            self.left_out += len({one.b for one in some} - {one.b for one in kept})
            yield kept

    def _parts_near(self, hashes: UInt64[np.ndarray, " w"], i: int, turn: str) -> Iterator[tuple[int, int, int]]:
        """(window, place in all probes, distance) of what is near, at most once for each place."""
        pairs: Iterable[tuple[int, int, int]]
        if turn not in MIRRORED:
            pairs = ((n, j * len(PROBES), distance) for n, j, distance in self._near_whole.near(hashes))
        elif self._near_parts is not None:
            pairs = self._near_parts.near(hashes)
        else:
            own = sorted({j for subject in self._gallery.pictures[i].subjects for j in self._of_subject[subject]})
            slots = (np.array(own)[:, None] * len(PROBES) + np.arange(len(PROBES))).reshape(-1)
            parts = ((n, int(slots[s]), d) for n, s, d in HashIndex(self._probes[own].reshape(-1)).near(hashes))
            wholes = ((0, j * len(PROBES), distance) for _, j, distance in self._near_whole.near(hashes[:1]))
            pairs = itertools.chain(parts, wholes)
        return ((n, slot, distance) for n, slot, distance in pairs if self._matters(i, slot // len(PROBES)))

    def _matters(self, i: int, j: int) -> bool:
        gallery = self._gallery
        return i != j and gallery.digests[i] != gallery.digests[j] and matters(gallery.pictures[i], gallery.pictures[j])

    def _likeliest(self, candidates: Iterable[WindowMatch]) -> list[WindowMatch]:
        ordered = sorted(candidates, key=lambda one: (one.distance, one.b, one.probe))
        kept = ordered[:MOST_CANDIDATES]
        self.left_out += len({one.b for one in ordered} - {one.b for one in kept})
        return kept
