"""Which of many 64-bit hashes are near a hash?

Knows: blocks of bits, buckets, distances in bits.  Does not know: what a hash is of.

Multi-index hashing: Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index Hashing" (2012).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, UInt8, UInt64

NEAR = 8
"""Bits of 64 in which two hashes may differ to be near.  Those of ``perceptual`` differ by even numbers."""

NOTHING = 2**64 - 1
"""A hash that is near no other.  No picture has it: half of the bits of a perceptual hash are 0."""

_PAIRS_AT_A_TIME = 2**21
_BLOCKS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))


class HashIndex:
    """Finds the hashes within ``NEAR`` bits of a hash: of five blocks of its bits, one has one wrong bit at most."""

    def __init__(self, hashes: UInt64[np.ndarray, " n"]) -> None:
        self._places = np.flatnonzero(hashes != np.uint64(NOTHING))
        self._hashes = hashes[self._places]
        self._blocks = []
        for shift, width in _BLOCKS:
            keys = (self._hashes >> np.uint64(shift)) & np.uint64(2**width - 1)
            order = np.argsort(keys, kind="stable").astype(np.int32)
            starts = np.searchsorted(keys[order], np.arange(2**width + 1, dtype=np.uint64))
            self._blocks.append((order, starts))

    def near(self, wanted: UInt64[np.ndarray, " m"]) -> Iterator[tuple[int, int, int]]:
        """(index in ``wanted``, place, distance): for every place the nearest of ``wanted``, where one is near."""
        best = np.full(len(self._hashes), 65, np.uint8)
        nearest = np.zeros(len(self._hashes), np.int32)
        for n, found, distances in self._all_near(wanted, wrong_bits=1):
            closer = distances < best[found]
            n, found, distances = n[closer], found[closer], distances[closer]
            order = np.lexsort((-n, -distances.astype(np.int16)))  # of one place the nearest, then the first, is last
            best[found[order]], nearest[found[order]] = distances[order], n[order]
        for at in np.flatnonzero(best <= NEAR):
            yield int(nearest[at]), int(self._places[at]), int(best[at])

    def likely(self, wanted: UInt64[np.ndarray, " m"]) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """(indices in ``wanted``, places) of pairs within ``NEAR`` bits that agree in one of the five blocks, by index
        and place.  That is a fifteenth of the work, and loses few of those within 5 bits, a third of those at 8."""
        keys = [n * len(self._hashes) + found for n, found, _ in self._all_near(wanted, wrong_bits=0)]
        n, found = np.divmod(np.unique(np.concatenate(keys)) if keys else np.zeros(0, np.int64), len(self._hashes) or 1)
        return n, self._places[found]

    def _all_near(
        self, wanted: UInt64[np.ndarray, " m"], wrong_bits: int
    ) -> Iterator[tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], UInt8[np.ndarray, " k"]]]:
        """Every pair that is near, some of them several times, and their distances; a bounded number at a time."""
        for (shift, width), (order, starts) in zip(_BLOCKS, self._blocks, strict=True):
            keys = ((wanted >> np.uint64(shift)) & np.uint64(2**width - 1)).astype(np.int64)
            for flip in (0, *(1 << bit for bit in range(width * wrong_bits))):
                low, high = starts[keys ^ flip], starts[(keys ^ flip) + 1]
                for some in _portions(high - low):
                    counts = (high - low)[some]
                    n = np.repeat(np.arange(some.start, some.start + len(counts)), counts)
                    steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
                    found = order[np.repeat(low[some], counts) + steps]
                    distances = np.bitwise_count(wanted[n] ^ self._hashes[found])
                    close = distances <= NEAR
                    yield n[close], found[close], distances[close]


def _portions(counts: Int[np.ndarray, " m"]) -> Iterator[slice]:
    """Slices of about ``_PAIRS_AT_A_TIME`` each."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts) and ends[-1]:
        before = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + _PAIRS_AT_A_TIME, side="right")))
        yield slice(start, end)
        start = end
