"""Is one picture cut out of another, and where does it lie?

Knows: which points of two pictures belong together, the place that they agree on, and its proof by pixels.  Does not
know: whose pictures they are, what a copy means (``leaks``).

Pairs of points with nearly the same hash propose a place: a turn, a scale and a shift.  Where enough of them propose
the same one, the part that both pictures show is taken from each and registered (``registration``), so that no number
of points makes a copy, only pixels do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from prisbench.datasets.checks.hash_index import HashIndex
from prisbench.datasets.checks.keypoints import Points, keypoints
from prisbench.datasets.checks.registration import GRID, PROBES, WINDOWS, Fit, correlation, fit, parts_that_agree
from prisbench.images.perceptual import TURNS
from prisbench.images.photos import fit_within

LEAST_POINTS = 3
"""That must agree on a place before pixels are looked at."""

LEAST_PIXELS = 32
"""On each side of what two pictures share, or nothing is said about it."""

MORE_POINTS = 8
MORE_PIXELS = 80
"""On each side, where parts alone are to prove a copy, see ``LEAST_PARTS``: ten pixels for each part."""

LEAST_SHARED = 0.4
"""Of the area of the smaller of two pictures, as they lie on each other."""

AGREEMENT = 0.82
"""From this correlation on, over all that two pictures share, one is a copy of the other."""

LEAST_PARTS = 0.5
"""Of the parts that show something on both pictures must agree where something covers others, as text does, or all but
the subject was replaced by white.  On two photos no more than 0.35 did: two shots of one bowl, seconds apart."""

LARGEST = 1024
"""Pixels: larger pictures are looked at in this size."""

_ALIKE_AT_ALL = 0.5
_SCALE_OFF = 0.35  # octaves, between a pair of points and the place it supports
_FLAT = 6  # grey levels, what JPEG makes of a border of one colour
_SPECKS = 0.02  # of a border may have another colour
_BESIDE = 4  # pixels
_IN_MEMORY = 2**26  # bytes
_AT_A_TIME = 4000  # pictures in one index, up to 150 MB
_RECORD = np.dtype([("hash", "<u8"), ("yx", "<f4", 2), ("size", "<f4"), ("turn", "u1")])
_MOST_HYPOTHESES = 64
_TURNS = tuple(TURNS)

# What each turn does to y and x: whether they change places, then whether they are counted from the other end.
_SWAPS = np.array([0, 0, 0, 0, 1, 1, 1, 1], bool)
_FLIPS = np.array([(0, 0), (0, 1), (1, 0), (1, 1), (1, 0), (0, 1), (0, 0), (1, 1)], bool)


class Place(NamedTuple):
    """Where picture ``a`` lies on ``b``: in pixels of ``b``, ``scale`` times those of ``a``, turned, plus ``shift_yx``.

    ``points``: how many agree on it.
    """

    turn: str
    scale: float
    shift_yx: tuple[float, float]
    points: int


class Proof(NamedTuple):
    """How two pictures lie on each other, and whether only parts of them agree, see ``LEAST_PARTS``."""

    fit: Fit
    covered: bool


class Candidate(NamedTuple):
    """Two pictures, by their numbers, and where ``a`` may lie on ``b``."""

    a: int
    b: int
    place: Place


class PointStore:
    """The points of many pictures, by number: in memory up to ``_IN_MEMORY`` bytes, beyond that in a temporary file."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  closed with the store
        self._ends = [0]
        self._sizes: list[tuple[int, int]] = []

    def add(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """The next picture."""
        image = fit_within(image, LARGEST)
        points = keypoints(image)
        records = np.empty(len(points.hashes), _RECORD)
        for name, values in zip(_RECORD.names or (), points, strict=True):
            records[name] = values
        self._file.seek(0, 2)
        self._file.write(records.tobytes())
        self._ends.append(self._ends[-1] + len(records))
        self._sizes.append((image.shape[0], image.shape[1]))

    def size_hw(self, n: int) -> tuple[int, int]:
        """Of a picture, in the pixels that its points are told in: no longer than ``LARGEST``."""
        return self._sizes[n]

    def points(self, n: int) -> Points:
        """Of a picture."""
        start, end = self._ends[n], self._ends[n + 1]
        self._file.seek(start * _RECORD.itemsize)
        records = np.frombuffer(self._file.read((end - start) * _RECORD.itemsize), _RECORD)
        return Points(*(records[name] for name in _RECORD.names or ()))


def candidates(
    store: PointStore, asking: Sequence[int], among: Sequence[int], matters: Callable[[int, int], bool]
) -> Iterator[list[Candidate]]:
    """Which of ``asking`` may share a part with which of ``among``, where that matters; a list for each of ``asking``
    and each ``_AT_A_TIME`` of ``among``, the likeliest first."""
    for start in range(0, len(among), _AT_A_TIME):
        block = list(among[start : start + _AT_A_TIME])
        points = [store.points(n) for n in block]
        starts = np.cumsum([0, *(len(one.hashes) for one in points)])
        index = HashIndex(np.concatenate([one.hashes for one in points]))
        for a in asking:
            of_a = store.points(a)
            on_a, slots = index.likely(of_a.hashes)
            owner = np.searchsorted(starts, slots, side="right") - 1
            found = []
            for n in np.flatnonzero(np.bincount(owner, minlength=len(block)) >= LEAST_POINTS):
                if matters(a, block[n]):
                    some = owner == n
                    pairs = (on_a[some], slots[some] - starts[n])
                    placed = places(of_a, store.size_hw(a), points[n], pairs)
                    found += [Candidate(a, block[n], place) for place in placed]
            yield sorted(found, key=lambda one: (-one.place.points, one.b, one.place.turn))


def places(
    a: Points, a_hw: tuple[int, int], b: Points, pairs: tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]
) -> list[Place]:
    """The places of ``a`` on ``b`` that enough of the pairs of points agree on, at most one for each turn."""
    on_a, on_b = pairs
    turns = _BETWEEN[a.turn[on_a], b.turn[on_b]]
    found = []
    for turn in np.flatnonzero(np.bincount(turns, minlength=len(_TURNS)) >= LEAST_POINTS):
        some = turns == turn
        n, m = on_a[some], on_b[some]
        place = _agreed(_turned(a.yx[n], a_hw, int(turn)), a.size[n], b.yx[m], b.size[m])
        if place is not None:
            found.append(place._replace(turn=_TURNS[turn]))
    return sorted(found, key=lambda one: -one.points)


def prove(a: UInt8[np.ndarray, "h w"], b: UInt8[np.ndarray, "h2 w2"], place: Place) -> Proof:
    """How well two pictures, ``brightness`` of each, agree on what both show, and how ``b`` lies on the turned ``a``.

    A border of one colour around a picture is not of it.  The agreement is 0 where they share little, see
    ``LEAST_SHARED``.
    """
    a = np.ascontiguousarray(TURNS[place.turn](a))
    shift = np.array(place.shift_yx)
    inner_a, inner_b = _inner(a), (_inner(b) - shift) / place.scale
    low, high = np.maximum(inner_a[0], inner_b[0]), np.minimum(inner_a[1], inner_b[1])
    sides = np.maximum(high - low, 0)
    shared = float(sides.prod() / min((inner_a[1] - inner_a[0]).prod(), (inner_b[1] - inner_b[0]).prod()))
    y, x = ((np.array(b.shape) / 2 - shift) / place.scale / a.shape - 0.5).tolist()
    height, width = (np.array(b.shape) / place.scale / a.shape).tolist()
    pixels = sides * min(1.0, place.scale)
    lies = Fit(0.0, shared, (y, x), (height, width))
    if pixels.min() < LEAST_PIXELS or shared < LEAST_SHARED:
        return Proof(lies, False)
    cells = np.minimum(pixels, GRID).astype(int)
    on_a = _view(a, np.array([low, high]), cells)
    on_b = _view(b, np.array([low, high]) * place.scale + shift, cells)
    if place.points < MORE_POINTS and correlation(on_a, on_b) < _ALIKE_AT_ALL:
        return Proof(lies, False)  # the fit would end here, too
    agreement = fit(on_a, on_b, WINDOWS[0], PROBES[0]).agreement
    if agreement < AGREEMENT and place.points >= MORE_POINTS and pixels.min() >= MORE_PIXELS:
        share, of_parts = parts_that_agree(on_a, on_b)
        if share >= LEAST_PARTS:
            return Proof(lies._replace(agreement=of_parts), True)
    return Proof(lies._replace(agreement=agreement), False)


def brightness(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2"]:
    """What places are proven by: a picture in grey, no longer than ``LARGEST``."""
    return np.asarray(Image.fromarray(fit_within(image, LARGEST)).convert("L"))


def _inner(image: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "2 2"]:
    """Top left and bottom right corner of what a border of one colour leaves; of the whole where it leaves little."""
    whole = np.array([(0, 0), image.shape], float)
    inner = whole.copy()
    for axis, lines in enumerate((image, image.T)):
        for end, ordered in enumerate((lines, lines[::-1])):
            edge = int(np.median(ordered[0]))  # a border has the colour of the outermost line
            n = 0
            for start in range(0, len(ordered), _BESIDE):
                unlike = np.abs(ordered[start : start + _BESIDE].astype(np.int16) - edge) > _FLAT
                if unlike.mean() > _SPECKS:
                    break
                n = min(start + 2 * _BESIDE, len(ordered))  # and a few lines where JPEG blurs the border into the rest
            inner[end, axis] += -n if end else n
    return whole if (inner[1] - inner[0] < 0.2 * whole[1]).any() else inner


def _view(
    image: UInt8[np.ndarray, "h w"], corners: Float[np.ndarray, "2 2"], cells: Int[np.ndarray, " 2"]
) -> Float[np.ndarray, "g g"]:
    """A part of a picture as ``GRID x GRID`` cells, with no more detail than ``cells`` can hold."""
    box = corners.clip(0, image.shape)[:, ::-1].reshape(-1)
    whole = Image.fromarray(image).convert("F")
    part = whole.resize((int(cells[1]), int(cells[0])), Image.Resampling.BILINEAR, box=tuple(box.tolist()))
    return np.asarray(part.resize((GRID, GRID), Image.Resampling.BICUBIC), np.float64)


def _turned(yx: Float[np.ndarray, "n 2"], hw: tuple[int, int], turn: int) -> Float[np.ndarray, "n 2"]:
    """Where points of a picture are when it is turned."""
    sides = np.array(hw, float)
    if _SWAPS[turn]:
        yx, sides = yx[:, ::-1], sides[::-1]
    return np.where(_FLIPS[turn], sides - yx, yx)


def _agreed(
    a: Float[np.ndarray, "n 2"],
    a_size: Float[np.ndarray, " n"],
    b: Float[np.ndarray, "n 2"],
    b_size: Float[np.ndarray, " n"],
) -> Place | None:
    """The place that most pairs of points agree on; each pair proposes one."""
    octaves = np.log2(b_size / a_size)
    tried = np.arange(len(a))[:: max(1, -(-len(a) // _MOST_HYPOTHESES))]
    grown = 2 ** octaves[tried][:, None, None] * (a[None] - a[tried][:, None])
    away = np.abs(b[None] - b[tried][:, None] - grown).max(axis=2)
    fits = away <= 1.5 * b_size[None] + 0.15 * np.abs(grown).max(axis=2)
    fits &= np.abs(octaves[None] - octaves[tried][:, None]) <= _SCALE_OFF
    best = max(range(len(tried)), key=lambda n: _different(a, b, fits[n]))
    some = fits[best]
    for _ in range(3):
        if _different(a, b, some) < LEAST_POINTS:
            return None
        scale, shift = _least_squares(a[some], b[some])
        if scale <= 0:
            return None
        away, apart = np.abs(scale * a + shift - b).max(axis=1), np.abs(octaves - np.log2(scale))
        some = (away <= b_size + 0.5) & (apart <= _SCALE_OFF)
        if _different(a, b, some) <= LEAST_POINTS:  # so few must agree closely
            some = (away <= 0.5 * b_size + 0.25) & (apart <= _SCALE_OFF / 2)
    points = _different(a, b, some)
    return Place("", scale, (float(shift[0]), float(shift[1])), points) if points >= LEAST_POINTS else None


def _different(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "n 2"], some: Bool[np.ndarray, " n"]) -> int:
    """How many pairs there are of which no two share a point: one point may resemble many of a pattern."""
    if not some.any():
        return 0
    return min(len({tuple(one) for one in np.rint(points[some]).tolist()}) for points in (a, b))


def _least_squares(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "n 2"]) -> tuple[float, Float[np.ndarray, " 2"]]:
    """The scale and shift that take ``a`` to ``b``; the scale is 0 where all points are one."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    spread = float(((a - mean_a) ** 2).sum())
    scale = float(((a - mean_a) * (b - mean_b)).sum()) / spread if spread > 1e-9 else 0.0
    return scale, mean_b - scale * mean_a


def _between() -> UInt8[np.ndarray, "8 8"]:
    """[turn of a, turn of b] -> the turn that takes what is seen on ``a`` to what is seen on ``b``."""
    one = np.arange(6).reshape(2, 3)
    laid = [turned(one).tobytes() + bytes(turned(one).shape) for turned in TURNS.values()]
    table = np.zeros((8, 8), np.uint8)
    for j, to in enumerate(TURNS.values()):
        for k, turned in enumerate(TURNS.values()):
            both = np.ascontiguousarray(to(turned(one)))
            table[laid.index(both.tobytes() + bytes(both.shape)), j] = k
    return table


_BETWEEN = _between()
