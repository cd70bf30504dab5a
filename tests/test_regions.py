"""Regions, bands, contours and tolerances give what the full-size masks give, by other people's code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco
from skimage.morphology import dilation, disk, erosion, footprint_rectangle

from prisbench.errors import DataError
from prisbench.images.masks import to_rle
from prisbench.images.outlines import band, band_width, contour, contour_tolerance, near
from prisbench.images.regions import Region, iou, overlap, overlap_outside, region
from tests.drawing import draw_box

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 19))


@st.composite
def several_masks(draw: st.DrawFn, n: int) -> list[np.ndarray]:
    """``n`` masks of one size: solid shapes, noise, all, nothing."""
    h, w = draw(SHAPES)
    masks = []
    for _ in range(n):
        kind = draw(st.sampled_from(["boxes", "noise", "solid noise", "all", "nothing"]))
        if kind == "boxes":
            mask = np.zeros((h, w), dtype=bool)
            for _ in range(draw(st.integers(1, 2))):
                top, left = draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))
                mask |= draw_box((h, w), top, left, draw(st.integers(top + 1, h)), draw(st.integers(left + 1, w)))
        elif kind in ("all", "nothing"):
            mask = np.full((h, w), kind == "all")
        else:
            mask = draw(
                arrays(
                    bool, (h, w), elements=st.sampled_from([True, False] if kind == "noise" else [True] * 9 + [False])
                )
            )
        masks.append(mask)
    return masks


def full(region: Region, room: int = 40) -> np.ndarray:
    """The mask of a region, cut to the frame."""
    h, w = region.size_hw
    out = np.zeros((h + 2 * room, w + 2 * room), dtype=bool)
    rows, columns = region.pixels.shape
    out[room + region.top : room + region.top + rows, room + region.left : room + region.left + columns] = region.pixels
    return out[room : room + h, room : room + w]


def davis_contour(mask: np.ndarray) -> np.ndarray:
    """``seg2bmap`` of the evaluation code of DAVIS 2017, for a map as large as the mask."""
    e, s, se = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    e[:, :-1] = mask[:, 1:]
    s[:-1, :] = mask[1:, :]
    se[:-1, :-1] = mask[1:, 1:]
    found = mask ^ e | mask ^ s | mask ^ se
    found[-1, :] = mask[-1, :] ^ e[-1, :]
    found[:, -1] = mask[:, -1] ^ s[:, -1]
    found[-1, -1] = False
    return found


@settings(max_examples=80, deadline=None)
@given(several_masks(1))
def test_a_region_is_the_mask_whatever_its_form(masks: list[np.ndarray]) -> None:
    (mask,) = masks
    rle = to_rle(mask)
    for found in (region(mask), region(np.asfortranarray(mask)), region(rle)):
        assert np.array_equal(full(found), mask) and found.size_hw == mask.shape
        assert found.area == int(mask.sum()) == int(coco.area({**rle, "counts": rle["counts"].encode()}))
        box = [found.left, found.top, found.pixels.shape[1], found.pixels.shape[0]]
        if mask.any():
            assert box == coco.toBbox({**rle, "counts": rle["counts"].encode()}).tolist()
        assert all(found.holds((y, x)) == mask[y, x] for y in range(mask.shape[0]) for x in range(mask.shape[1]))


@settings(max_examples=80, deadline=None)
@given(several_masks(4))
def test_overlaps_are_those_of_the_masks(masks: list[np.ndarray]) -> None:
    a, b, c, d = masks
    one, two, three, four = (region(to_rle(mask)) for mask in masks)
    assert overlap(one, two) == int((a & b).sum())
    assert overlap_outside(one, [two, three], four) == int((a & (b | c) & ~d).sum())
    union = one.area + two.area - overlap(one, two)
    if union:
        rles = [{**to_rle(mask), "counts": to_rle(mask)["counts"].encode()} for mask in (a, b)]
        assert overlap(one, two) / union == coco.iou([rles[0]], [rles[1]], [0])[0, 0]


@settings(max_examples=80, deadline=None)
@given(several_masks(1), st.integers(1, 5))
def test_a_band_is_what_an_erosion_takes_away(masks: list[np.ndarray], d: int) -> None:
    (mask,) = masks
    inner = erosion(np.pad(mask, d + 1), footprint_rectangle((2 * d + 1, 2 * d + 1)))[d + 1 : -d - 1, d + 1 : -d - 1]
    found = band(region(mask), d)
    assert np.array_equal(full(found), mask & ~inner)
    assert found.area == int((mask & ~inner).sum())


@settings(max_examples=80, deadline=None)
@given(several_masks(2), st.integers(1, 9))
def test_contours_and_their_tolerance_are_those_of_davis(masks: list[np.ndarray], t: int) -> None:
    ours, theirs = (contour(region(mask)) for mask in masks)
    a, b = (davis_contour(mask) for mask in masks)
    assert np.array_equal(full(ours), a) and np.array_equal(full(theirs), b)
    assert (ours.area, theirs.area) == (a.sum(), b.sum())
    assert near(ours, theirs, t) == int((a & dilation(np.pad(b, t), disk(t))[t:-t, t:-t]).sum())


@pytest.mark.parametrize(
    ("size_hw", "d", "t"),
    [((1, 1), 1, 1), ((12, 20), 1, 1), ((75, 100), 2, 1), ((76, 100), 3, 2), ((480, 640), 16, 7), ((300, 400), 10, 4)],
)
def test_widths_follow_from_the_diagonal(size_hw: tuple[int, int], d: int, t: int) -> None:
    assert (band_width(size_hw), contour_tolerance(size_hw)) == (d, t)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_tolerance_is_that_of_davis_where_floats_do_not_stumble(h: int, w: int) -> None:
    float_one = math.ceil(0.008 * float(np.linalg.norm((h, w))))
    assert contour_tolerance((h, w)) == float_one or (h * h + w * w) % 125**2 == 0


def test_what_is_no_mask_is_named() -> None:
    with pytest.raises(DataError, match="query 'q': the RLE's runs do not add up to its size 3 x 4"):
        region({"size": [3, 4], "counts": "5"}, "query 'q'")
    with pytest.raises(DataError, match="query 'q' is an array of uint8"):
        region(np.zeros((3, 4), dtype=np.uint8), "query 'q'")


def test_the_overlap_of_full_masks() -> None:
    a, b = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    assert iou(a, b) == 0.0, "two empty masks"
    a[:2], b[1:3] = True, True
    assert iou(a, b) == 5 / 15 and iou(a, a) == 1.0 and iou(a, ~a) == 0.0
