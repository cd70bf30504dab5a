"""Are two pictures the same photograph, whole, shifted or cut out, and how does one lie on the other?

Knows: brightness, windows and their hashes, the fit of one picture on another.  Does not know: whose pictures they are.

A picture is looked at as a *thumbnail*, ``GRID x GRID`` cells of mean brightness whatever its size and proportions.
First cheaply: two pictures that share a part have a *window* in common, so one is hashed in all its ``WINDOWS``, the
other in few ``PROBES``, and hashes that nearly agree propose a fit.  Then strictly: ``fit`` moves and stretches the one
on the other until they agree best, and says how well they do over the whole of what they share.

What it cannot see: a copy turned by other than right angles, perspective, and another photo of the same thing, which is
not a copy.  Windows and probes do not propose a copy that shares less than 2/3 of a side; ``crops`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt64

from prisbench.images.perceptual import CELLS, COSINES, bits_of, weighted_luma

GRID = 120
"""Cells on each side of a thumbnail."""

SIDES = (120, 111, 99, 90, 81)
"""Heights and widths of windows, in cells: down to 2/3 of the picture."""

STEP = 3
"""Cells from a window to the next, 1/40 of the picture."""

QUIET = 0.1
"""Root mean square of the coefficients of a window (means of brightness times cosines) below which there is nothing to
know it by.  Noise of 6 grey levels has it, a smooth wall does not."""

PARTS = 8
"""Rows and columns of parts in which two pictures are compared when something may cover one of them."""

_PART_AGREEMENT = 0.9
_LEAST_PARTS = 8
_SHOWN = 0.05  # mean square of detail that is brought to the same contrast: a smooth wall has less
_SAMPLES = 96
_BLUR = 4
_NOISE = 4.0  # grey levels
_LEAST_SIDE = 0.6
_LEAST_AT_FIRST = 0.5
_LEAST_BRIGHTNESS = 0.93


class Window(NamedTuple):
    """A part of a thumbnail, in cells."""

    top: int
    left: int
    height: int
    width: int


WINDOWS = tuple(
    Window(top, left, height, width)
    for height in SIDES
    for width in SIDES
    for top in range(0, GRID - height + 1, STEP)
    for left in range(0, GRID - width + 1, STEP)
)
"""Where a reference photo is looked at; the first is the whole."""

PROBES = (
    Window(0, 0, GRID, GRID),
    *(Window(top, left, SIDES[-1], SIDES[-1]) for top in (0, GRID - SIDES[-1]) for left in (0, GRID - SIDES[-1])),
)
"""Where any picture is looked at: as a whole, which finds what was cut out of a reference photo, and in its four
corners, one of which a picture shifted by up to 1/3 shares with the reference photo."""


class Fit(NamedTuple):
    """How picture ``b`` lies on picture ``a``.

    ``agreement``: correlation over all they share, 1 for a perfect copy; the smaller of two, that of brightness and
    that of fine detail.  ``shared``: the part of ``b`` that lies on ``a``, 0..1.  ``shift_yx``: where the middle of
    ``b`` lies from the middle of ``a``, in heights and widths of ``a``.  ``scale_yx``: ``b``'s sides in ``a``'s.
    """

    agreement: float
    shared: float
    shift_yx: tuple[float, float]
    scale_yx: tuple[float, float]


def thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "g g"]:
    """Mean brightness, 0..255, of ``GRID x GRID`` equal parts."""
    h, w = image.shape[:2]
    return weighted_luma(image, _areas(0, h, GRID, h), _areas(0, w, GRID, w)) / 1000


def window_hashes(thumb: Float[np.ndarray, "g g"]) -> tuple[UInt64[np.ndarray, " w"], Bool[np.ndarray, " w"]]:
    """The perceptual hash of each of ``WINDOWS``, and whether the window shows anything (see ``QUIET``)."""
    found = []
    for height in SIDES:
        tops = range(0, GRID - height + 1, STEP)
        rows = np.stack([_TRANSFORMS[height] @ thumb[top : top + height] for top in tops])
        for width in SIDES:
            lefts = range(0, GRID - width + 1, STEP)
            blocks = [rows[:, :, left : left + width] @ _TRANSFORMS[width].T for left in lefts]
            found.append(np.stack(blocks, axis=1).reshape(-1, 8, 8))
    return _hashes(np.concatenate(found))


def probe_hashes(thumb: Float[np.ndarray, "g g"]) -> tuple[UInt64[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
    """As ``window_hashes``, of ``PROBES``."""
    parts = [thumb[one.top : one.top + one.height, one.left : one.left + one.width] for one in PROBES]
    return _hashes(np.stack([_TRANSFORMS[len(part)] @ part @ _TRANSFORMS[part.shape[1]].T for part in parts]))


def fit(a: Float[np.ndarray, "g g"], b: Float[np.ndarray, "g g"], window: Window, probe: Window) -> Fit:
    """The best fit of thumbnail ``b`` on ``a`` near the one where ``probe`` of ``b`` lies on ``window`` of ``a``.

    Found by coordinate descent on place and scale: first on brightness, which says where to go from some cells away,
    then on fine detail, down to a quarter of a cell.  What brightness finds unlike is left there.
    """
    scale = np.array([window.height / probe.height, window.width / probe.width])
    middle = np.array([window.top, window.left]) + scale * (GRID / 2 - np.array([probe.top, probe.left]))
    at = np.concatenate([middle, scale])
    if _brightness(a, b, at) >= _LEAST_AT_FIRST:
        at = _descend(_brightness, a, b, at, (2.0, 1.0))
        if _brightness(a, b, at) >= _LEAST_BRIGHTNESS:
            at = _descend(_detail, a, b, at, (1.0, 0.5, 0.25))
    return _fit(a, b, at)


def parts_that_agree(a: Float[np.ndarray, "g g"], b: Float[np.ndarray, "g g"]) -> tuple[float, float]:
    """Of ``PARTS x PARTS`` parts of two thumbnails that lie on each other, those that show detail on both: how many of
    them agree, 0..1, and how well these do.

    A part agrees from a correlation of 0.9 on.  Both are 0 where fewer than eight parts agree: that may be chance.
    """
    at = _descend(_detail, a, b, np.array([GRID / 2, GRID / 2, 1.0, 1.0]), (1.0, 0.5, 0.25))
    views = _shared_views(a, b, at, _SAMPLES)
    if views is None:
        return 0.0, 0.0
    on_a, on_b = (_parts(_even(view)) for view in views[:2])
    shown = np.minimum((on_a**2).mean(axis=(1, 2)), (on_b**2).mean(axis=(1, 2))) >= _SHOWN
    found = np.array([correlation(one, other) for one, other in zip(on_a[shown], on_b[shown], strict=True)])
    agree = found >= _PART_AGREEMENT
    if agree.sum() < _LEAST_PARTS:
        return 0.0, 0.0
    return float(agree.mean()), float(found[agree].mean())


def _parts(view: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "p n n"]:
    side = len(view) // PARTS
    return view.reshape(PARTS, side, PARTS, side).swapaxes(1, 2).reshape(-1, side, side)


def _descend(
    measure: Callable[..., float],
    a: Float[np.ndarray, "g g"],
    b: Float[np.ndarray, "g g"],
    at: Float[np.ndarray, " 4"],
    steps: Sequence[float],
) -> Float[np.ndarray, " 4"]:
    """Where ``measure`` is best, by steps of so many cells of place, and as many hundredths of scale."""
    best = measure(a, b, at)
    for step in steps:
        for _ in range(4):
            before = best
            for axis, size in enumerate((step, step, step / 100, step / 100)):
                for change in (size, -size):
                    moved = at.copy()
                    moved[axis] += change
                    agreement = measure(a, b, moved)
                    if agreement > best:
                        at, best = moved, agreement
            if best - before < 1e-4:
                break
    return at


def _fit(a: Float[np.ndarray, "g g"], b: Float[np.ndarray, "g g"], at: Float[np.ndarray, " 4"]) -> Fit:
    views = _shared_views(a, b, at, _SAMPLES)
    if views is None:
        return Fit(0.0, 0.0, (0.0, 0.0), (1.0, 1.0))
    on_a, on_b, shared = views
    agreement = min(correlation(on_a, on_b), correlation(_even(on_a), _even(on_b)))
    y, x, scale_y, scale_x = (float(n) for n in at)
    return Fit(agreement, shared, (y / GRID - 0.5, x / GRID - 0.5), (scale_y, scale_x))


def _brightness(a: Float[np.ndarray, "g g"], b: Float[np.ndarray, "g g"], at: Float[np.ndarray, " 4"]) -> float:
    views = _shared_views(a, b, at, _SAMPLES // 3)
    return 0.0 if views is None else correlation(views[0], views[1])


def _detail(a: Float[np.ndarray, "g g"], b: Float[np.ndarray, "g g"], at: Float[np.ndarray, " 4"]) -> float:
    views = _shared_views(a, b, at, _SAMPLES)
    return 0.0 if views is None else correlation(_fine(views[0]), _fine(views[1]))


def _shared_views(
    a: Float[np.ndarray, "g g"], b: Float[np.ndarray, "g g"], at: Float[np.ndarray, " 4"], samples: int
) -> tuple[Float[np.ndarray, "s s"], Float[np.ndarray, "s s"], float] | None:
    """What both show, from each, and its share of ``b``; None when that is little."""
    views_a, views_b, sides = [], [], []
    for middle, scale in ((at[0], at[2]), (at[1], at[3])):
        low = max(0.0, GRID / 2 - middle / scale)
        high = min(float(GRID), GRID / 2 + (GRID - middle) / scale)
        if high - low < _LEAST_SIDE * GRID:
            return None
        views_b.append(_areas(low, high - low, samples, GRID))
        start = max(0.0, middle + (low - GRID / 2) * scale)
        views_a.append(_areas(start, min((high - low) * scale, GRID - start), samples, GRID))
        sides.append((high - low) / GRID)
    return views_a[0] @ a @ views_a[1].T, views_b[0] @ b @ views_b[1].T, sides[0] * sides[1]


def _areas(start: float | int, length: float | int, cells: int, n: int) -> Float[np.ndarray, "cells n"]:
    """What takes ``length`` of ``n`` pixels, from ``start`` on, to the means of ``cells`` equal parts."""
    edges = start + length * np.arange(cells + 1) / cells
    pixels = np.arange(n)[None]
    both = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(both, 0) * (cells / length)


def _fine(view: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """Without what is coarser than nine samples: light and backgrounds are alike in many photos, detail is not."""
    return view - _means(view)


def _even(view: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """Fine detail with the same contrast everywhere: a carpet counts as much as the box on it, so that one thing before
    two backgrounds is no copy; noise stays small."""
    detail = _fine(view)
    return detail / (np.sqrt(np.maximum(_means(detail**2), 0)) + _NOISE)


def _means(view: Float[np.ndarray, "s s"]) -> Float[np.ndarray, "s s"]:
    """Of the nine by nine samples around each."""
    padded = np.pad(view, _BLUR, mode="edge")
    sums = np.pad(padded.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    n = 2 * _BLUR + 1
    return (sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2


def correlation(a: Float[np.ndarray, "s s"], b: Float[np.ndarray, "s s"]) -> float:
    """Pearson's; 0 where one of the two is flat, to a hundredth of a grey level: that says nothing."""
    a, b = a - a.mean(), b - b.mean()
    squares_a, squares_b = float((a * a).mean()), float((b * b).mean())
    if min(squares_a, squares_b) < 1e-4:
        return 0.0
    return float((a * b).mean()) / float(np.sqrt(squares_a * squares_b))


def _hashes(coefficients: Float[np.ndarray, "w 8 8"]) -> tuple[UInt64[np.ndarray, " w"], Bool[np.ndarray, " w"]]:
    loud = np.sqrt((coefficients**2).mean(axis=(1, 2))) >= QUIET
    return bits_of(coefficients), loud


_TRANSFORMS = {side: COSINES / 2**14 / CELLS @ _areas(0, side, CELLS, side) for side in SIDES}
"""A window's side -> what takes it to its eight low frequencies."""
