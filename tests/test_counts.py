"""Masks -> counts by metric spec 2: what a slow implementation counts, in any form of mask; rules and errors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import erosion, footprint_rectangle

from prisbench.counts import Answer, Counts, Truth, count, sound
from prisbench.errors import DataError
from prisbench.images.masks import from_rle, to_rle
from prisbench.types import GRADES, QUERY_TYPES, REFERENTLESS, ROLES, Example, Query, Thing
from tests import naive_metrics
from tests.drawing import draw_box, draw_scene

SIZE = (4, 6)
LEFT, RIGHT = draw_box(SIZE, 0, 0, 2, 2), draw_box(SIZE, 0, 4, 2, 6)
NOTHING = np.zeros(SIZE, dtype=bool)


@st.composite
def drawn_cases(draw: st.DrawFn) -> dict[str, Any]:
    """A case as of the golden file, of any query type and any masks that may be."""
    h, w = draw(st.integers(1, 9)), draw(st.integers(1, 13))
    kind = draw(st.sampled_from(QUERY_TYPES))

    def mask() -> np.ndarray:
        found = draw(
            arrays(bool, (h, w), elements=st.sampled_from(draw(st.sampled_from([[False, True], [True] * 5 + [False]]))))
        )
        if draw(st.booleans()):
            found[:] = False
            found[draw(st.integers(0, h - 1)) :, draw(st.integers(0, w - 1)) :] = True
        return found

    truth = np.zeros((h, w), bool) if kind in REFERENTLESS else mask()
    if kind not in REFERENTLESS:
        truth[draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))] = True
    failed = draw(st.booleans()) and draw(st.booleans())
    rows = lambda each: ["".join("#" if on else "." for on in row) for row in each]  # noqa: E731
    return {
        "name": "q",
        "size_hw": [h, w],
        "query_type": kind,
        "truth": rows(truth),
        "prediction": None if failed or draw(st.integers(0, 4)) == 0 else rows(draw(st.sampled_from([truth, mask()]))),
        "failed": failed,
        "peak_yx": draw(st.sampled_from([None, [draw(st.integers(0, h - 1)), draw(st.integers(0, w - 1))]])),
        "look_alikes": [rows(mask()) for _ in range(draw(st.integers(0, 2)))],
        "bystanders": [rows(mask()) for _ in range(draw(st.integers(0, 2)))],
        "candidates": 0 if kind == "absent" else draw(st.integers(1, 3)),
    }


def count_case(case: dict[str, Any], as_rle: bool) -> Counts:
    def mask(rows: list[str]) -> Any:
        found = np.array([[each == "#" for each in row] for row in rows])
        return to_rle(found) if as_rle else found

    peak = case["peak_yx"]
    return count(
        Answer(None if case["prediction"] is None else mask(case["prediction"]), peak and tuple(peak), case["failed"]),
        Truth(
            *("q", case["query_type"], mask(case["truth"])),
            tuple(mask(each) for each in case["look_alikes"]),
            tuple(mask(each) for each in case["bystanders"]),
            case["candidates"],
        ),
    )


@settings(max_examples=80, deadline=None)
@given(drawn_cases())
def test_counts_are_those_of_the_slow_implementation_from_arrays_and_run_lengths(case: dict[str, Any]) -> None:
    expected = naive_metrics.counts(case)
    assert vars(count_case(case, as_rle=False)) == expected == vars(count_case(case, as_rle=True))
    assert sound(count_case(case, as_rle=False))


@pytest.mark.parametrize("size_hw", [(480, 640), (75, 100), (130, 61)])
def test_counts_of_a_full_size_scene_are_those_of_the_plain_definition(size_hw: tuple[int, int]) -> None:
    h, w = size_hw
    ys, xs = np.mgrid[:h, :w]
    truth = (ys - h / 2) ** 2 + (xs - w / 3) ** 2 < (h / 4) ** 2
    mask = ((ys - h / 2.2) ** 2 + (xs - w / 2.8) ** 2 < (h / 3.5) ** 2) & (xs % 37 > 2)
    alike = draw_box(size_hw, h // 3, w // 2, h, w)
    found = count(Answer(to_rle(mask)), Truth("q", "look-alike", to_rle(truth), (to_rle(alike),)))
    d = max(1, round(0.02 * float(np.hypot(h, w))))
    inner = (erosion(np.pad(each, d + 1), footprint_rectangle((2 * d + 1, 2 * d + 1))) for each in (mask, truth))
    bands = [each & ~cut[d + 1 : -d - 1, d + 1 : -d - 1] for each, cut in zip((mask, truth), inner, strict=True)]
    assert found.intersection == int((mask & truth).sum()) and found.union == int((mask | truth).sum())
    assert found.look_alike_intersection == int((mask & alike & ~truth).sum())
    assert found.boundary_intersection == int((bands[0] & bands[1]).sum())
    assert found.boundary_union == int((bands[0] | bands[1]).sum())


@pytest.mark.data
def test_boundary_iou_of_real_masks_is_that_of_repeated_erosion(real_data: Callable[[str], Path]) -> None:
    golden = json.loads((real_data("golden") / "golden_masks.json").read_text())
    for each in golden["lvis_rle_first100"][::4]:
        truth = from_rle(each["rle"])
        mask = np.roll(truth, (2, -3), axis=(0, 1))
        found = count(Answer(to_rle(mask)), Truth("q", "plain", each["rle"]))
        assert (found.truth_area, found.area) == (each["raster_area"], truth.size)
        bands = []
        for one in (mask, truth):  # mask_to_boundary of boundary-iou-api
            inside = np.pad(one, 1)
            for _ in range(max(1, round(0.02 * float(np.hypot(*truth.shape))))):
                inside = erosion(inside, footprint_rectangle((3, 3)))
            bands.append(one & ~inside[1:-1, 1:-1])
        assert found.boundary_intersection == int((bands[0] & bands[1]).sum())
        assert found.boundary_union == int((bands[0] | bands[1]).sum())


@pytest.mark.parametrize(
    ("mask", "right", "wrong"),
    [
        (LEFT, True, False),
        (RIGHT, False, True),
        (LEFT | RIGHT, False, False),
        (None, False, False),
        (draw_box(SIZE, 0, 0, 1, 1), False, False),
    ],
)
def test_the_right_instance_is_half_covered_and_above_every_other(mask: Any, right: bool, wrong: bool) -> None:
    found = count(Answer(mask), Truth("q", "referred", LEFT, (RIGHT,), candidates=2))
    assert (found.right_instance, found.wrong_instance, found.candidates) == (right, wrong, 2)


def test_an_example_says_which_things_are_look_alikes_and_how_many_the_text_could_mean() -> None:
    things = (
        Thing(LEFT, "mug", "subject"),
        Thing(RIGHT, "mug", "look-alike", "copy"),
        Thing(draw_box(SIZE, 3, 0, 4, 2), "mug", "look-alike", "colour"),
        Thing(draw_box(SIZE, 3, 3, 4, 6), "box", "landmark"),
    )
    query, image = Query("q", "s", "the {subject}"), draw_scene(0, SIZE)
    truth = Truth.of(Example(query, "referred", "i", image, LEFT, (RIGHT,), things, meant=0, pair_id="p"))
    assert [len(each) for each in (truth.look_alikes, truth.bystanders)] == [2, 1] and truth.candidates == 2
    assert np.array_equal(truth.look_alikes[0], RIGHT) and np.array_equal(truth.bystanders[0], things[3].mask)
    other = Truth.of(Example(query, "contradicted", "i", image, NOTHING, (), things))
    assert (len(other.look_alikes), len(other.bystanders), other.candidates) == (2, 1, 2)
    assert other.mask is NOTHING
    plain, absent = (
        Truth.of(Example(query, kind, "i", image, mask, (RIGHT,)))
        for kind, mask in (("plain", LEFT), ("absent", NOTHING))
    )
    assert plain.look_alikes == absent.look_alikes == (RIGHT,) and plain.bystanders == ()
    assert (plain.candidates, absent.candidates) == (1, 0)
    assert {each.role for each in things} <= {*ROLES} and {each.grade for each in things if each.grade} <= {*GRADES}


def test_a_failure_is_told_apart_from_an_empty_answer() -> None:
    failed = count(Answer(None, failed=True), Truth("q", "absent", NOTHING))
    empty = count(Answer(None), Truth("q", "absent", NOTHING))
    assert (failed.failed, failed.absent_fp, empty.failed) == (True, False, False)
    with pytest.raises(DataError, match="query 'q': failed, yet has a mask"):
        count(Answer(LEFT, failed=True), Truth("q", "plain", LEFT))


def test_what_does_not_fit_is_an_error_that_names_the_query() -> None:
    large = np.ones((6, 4), dtype=bool)
    with pytest.raises(DataError, match=r"query 'q-7': the prediction mask is 6 x 4, the scene 4 x 6 .*resize it"):
        count(Answer(large), Truth("q-7", "plain", LEFT))
    with pytest.raises(DataError, match=r"query 'q-7': the look-alike mask is 6 x 4"):
        count(Answer(None), Truth("q-7", "plain", LEFT, (large,)))
    with pytest.raises(DataError, match=r"query 'q-7': the bystander mask is 6 x 4"):
        count(Answer(None), Truth("q-7", "plain", LEFT, (), (large,)))
    with pytest.raises(DataError, match=r"query 'q-7': the prediction: the RLE's runs do not add up"):
        count(Answer({"size": [4, 6], "counts": "1"}), Truth("q-7", "plain", LEFT))
    for peak in ((4, 0), (0, 6), (-1, 0)):
        with pytest.raises(DataError, match=r"query 'q': the peak .* lies outside the scene of 4 x 6"):
            count(Answer(None, peak), Truth("q", "plain", LEFT))
    for kind in REFERENTLESS:
        with pytest.raises(DataError, match=f"type '{kind}' with a non-empty truth mask"):
            count(Answer(None), Truth("q", kind, LEFT))
    with pytest.raises(DataError, match="type 'referred' with an empty truth mask"):
        count(Answer(None), Truth("q", "referred", NOTHING))


GOOD = count(Answer(LEFT), Truth("q", "referred", LEFT, (RIGHT,), candidates=2))


@pytest.mark.parametrize(
    "change",
    [
        {"intersection": 5},
        {"union": 5},
        {"area": 3},
        {"failed": True},
        {"absent_fp": False},
        {"contradicted_fp": False},
        {"wrong_instance": True},
        {"matched_predicted_contour": 99},
        {"predicted_contour": 0, "matched_predicted_contour": 0},
        {"truth_contour": None},
        {"candidates": 0},
        {"look_alike_intersection": 1},
        {"boundary_union": 0, "boundary_intersection": 0},
    ],
)
def test_counts_that_no_masks_give_are_noticed(change: dict[str, Any]) -> None:
    assert sound(GOOD)
    assert not sound(dataclasses.replace(GOOD, **change))


def test_counts_of_spec_1_are_sound_without_what_spec_2_added() -> None:
    new = {
        field.name: field.default for field in dataclasses.fields(Counts) if field.default is not dataclasses.MISSING
    }
    assert len(new) == 8 and sound(dataclasses.replace(GOOD, **new))
