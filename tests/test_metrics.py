"""Masks -> counts -> numbers: golden cases, an independent boundary, and the rules for empty masks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prisbench import counts, metrics
from prisbench.counts import Answer, Counts, Truth
from prisbench.errors import DataError
from prisbench.images.outlines import band, band_width
from prisbench.images.regions import region
from prisbench.metrics import METRICS, SPEC_1, Mean

ROOT = Path(__file__).parent.parent
GOLDEN = json.loads((Path(__file__).parent / "data" / "metrics_golden.json").read_text())
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def count(
    mask: np.ndarray | None,
    truth: np.ndarray,
    look_alikes: Sequence[np.ndarray] = (),
    *,
    query_id: str,
    query_type: str,
    peak_yx: tuple[int, int] | None = None,
) -> Counts:
    return counts.count(Answer(mask, peak_yx), Truth(query_id, query_type, truth, tuple(look_alikes)))


def summarise(found: Iterable[Counts]) -> dict[str, Mean]:
    """What tables of spec 1 hold."""
    return {name: mean for name, mean in metrics.summarise(found).items() if name in SPEC_1}


def boundary_of(mask: np.ndarray) -> np.ndarray:
    found = region(mask)
    inner, whole = band(found, band_width(found.size_hw)), np.zeros_like(mask)
    h, w = inner.pixels.shape
    whole[inner.top : inner.top + h, inner.left : inner.left + w] = inner.pixels
    return whole


def draw_boxes(boxes: list[list[int]], size_hw: list[int]) -> np.ndarray:
    mask = np.zeros(size_hw, dtype=bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def count_case(case: dict[str, Any]) -> Counts:
    size = case["size_hw"]
    return count(
        None if case["prediction"] is None else draw_boxes(case["prediction"], size),
        draw_boxes(case["truth"], size),
        [draw_boxes(each, size) for each in case["look_alikes"]],
        query_id=case["name"],
        query_type=case["query_type"],
        peak_yx=None if case["peak_yx"] is None else tuple(case["peak_yx"]),
    )


@pytest.mark.parametrize("name", CASES)
def test_golden_case_is_counted_as_written(name: str) -> None:
    found = vars(count_case(CASES[name]))
    assert {key: found[key] for key in CASES[name]["expected"]} == CASES[name]["expected"]


@pytest.mark.parametrize("chosen", GOLDEN["sets"], ids=lambda chosen: chosen["name"])
def test_golden_set_gives_the_written_values(chosen: dict[str, Any]) -> None:
    found = summarise(count_case(CASES[name]) for name in chosen["cases"])
    assert list(found) == list(chosen["expected"])
    for name, expected in chosen["expected"].items():
        assert (found[name].n, found[name].n_undefined) == (expected["n"], expected["n_undefined"]), name
        if expected["value"] is None:
            assert found[name].value is None, name
        else:
            assert found[name].value == pytest.approx(expected["value"][0] / expected["value"][1], rel=1e-12), name


def test_golden_file_is_of_this_spec_and_large_enough() -> None:
    assert GOLDEN["metric_spec"] == "1"
    assert len(CASES) == len(GOLDEN["cases"]) >= 20


def slow_boundary(mask: np.ndarray) -> np.ndarray:
    """d erosions by a 3 x 3 square behind a one-pixel border of zeros, pixel by pixel."""
    h, w = mask.shape
    d = max(1, round(0.02 * (h * h + w * w) ** 0.5))
    inside = np.pad(mask, 1)
    for _ in range(d):
        before = inside.copy()
        for y in range(1, h + 1):
            for x in range(1, w + 1):
                inside[y, x] = before[y - 1 : y + 2, x - 1 : x + 2].all()
    return mask & ~inside[1:-1, 1:-1]


@settings(max_examples=60, deadline=None)
@given(
    arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 13)), elements=st.sampled_from([True, True, True, False]))
)
def test_boundary_agrees_with_the_slow_one_on_any_small_mask(mask: np.ndarray) -> None:
    assert np.array_equal(boundary_of(mask), slow_boundary(mask))


@pytest.mark.parametrize("size_hw", [(30, 90), (110, 40), (40, 140)])
def test_boundary_agrees_with_the_slow_one_where_it_is_wider_than_a_pixel(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros(size_hw, dtype=bool)
    for _ in range(4):
        y, x = rng.integers(0, size_hw[0]), rng.integers(0, size_hw[1])
        mask[max(0, y - 12) : y + 12, max(0, x - 20) : x + 20] = True
    assert np.array_equal(boundary_of(mask), slow_boundary(mask))
    assert 0 < boundary_of(mask).sum() < mask.sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_counts_keep_their_inequalities(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, mask = (rng.random((5, 8)) < rng.random() for _ in range(2))
    truth[2, 3] = True
    found = count(mask, truth, query_id="q", query_type="plain")
    assert found.union == found.predicted_area + found.truth_area - found.intersection
    assert 0 <= found.boundary_intersection <= found.intersection
    assert 0 < found.boundary_union <= found.union <= found.area == 40


TRUTH = draw_boxes([[1, 1, 3, 4]], [4, 6])


def test_a_mask_of_another_size_is_an_error_that_names_the_query() -> None:
    with pytest.raises(DataError, match=r"query 'q-7': the prediction mask is 6 x 4, the scene 4 x 6"):
        count(np.ones((6, 4), dtype=bool), TRUTH, query_id="q-7", query_type="plain")
    with pytest.raises(DataError, match=r"query 'q-7': the look-alike mask is 2 x 2"):
        count(None, TRUTH, [np.ones((2, 2), dtype=bool)], query_id="q-7", query_type="plain")


@pytest.mark.parametrize("peak", [(4, 0), (0, 6), (-1, 0)])
def test_a_peak_outside_the_scene_is_an_error(peak: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"query 'q': the peak .* lies outside the scene of 4 x 6"):
        count(None, TRUTH, query_id="q", query_type="plain", peak_yx=peak)


def test_truth_and_query_type_must_agree() -> None:
    with pytest.raises(DataError, match="type 'absent' with a non-empty truth mask"):
        count(None, TRUTH, query_id="q", query_type="absent")
    with pytest.raises(DataError, match="type 'plain' with an empty truth mask"):
        count(None, np.zeros_like(TRUTH), query_id="q", query_type="plain")


def test_answering_nothing_scores_the_floor_but_is_never_wrong() -> None:
    absent = count(None, np.zeros_like(TRUTH), query_id="a", query_type="absent")
    present = count(None, TRUTH, [~TRUTH], query_id="b", query_type="look-alike")
    found = summarise([absent, present])
    assert [found[name].value for name in ("iou_mean", "iou_pooled", "boundary_iou_mean", "p_at_50")] == [0, 0, 0, 0]
    assert found["wrong_instance_rate"] == (0.0, 1, 0)
    assert found["absent_fp_rate"] == (0.0, 1, 0)
    assert found["pointing"] == (None, 0, 1)


def test_every_metric_is_defined_in_the_docs() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert "spec 1" in text
    described = set(re.findall(r"`(\w+)`", text))
    assert set(METRICS) <= described
