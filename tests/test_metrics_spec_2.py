"""Counts -> numbers by metric spec 2: by hand, by torchmetrics, by what other papers do; and what spec 1 gave."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.segmentation import DiceScore, MeanIoU

from prisbench.aliases import ALIASES, ELSEWHERE, foreground_background_iou
from prisbench.counts import Answer, Counts, Truth, count
from prisbench.errors import DataError
from prisbench.metrics import METRIC_SPEC, METRICS, SPEC_1, boundary_f, mean, summarise
from prisbench.soft_maps import RANKED, quantised, soft_average_precision
from tests import naive_metrics, spec_1
from tests.drawing import draw_box

DOCS = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()
SIZE = (4, 6)
TRUTH, NOTHING = draw_box(SIZE, 0, 0, 2, 4), np.zeros(SIZE, dtype=bool)


def counted(mask: Any, truth: Any = TRUTH, kind: str = "plain", **more: Any) -> Counts:
    return count(Answer(mask, failed=more.pop("failed", False)), Truth("q", kind, truth, **more))


def test_four_numbers_are_called_miou() -> None:
    """A half hit, a large hit, and two scenes without the subject of which one gets a mask; worked out by hand."""
    large = draw_box(SIZE, 0, 0, 4, 5)
    queries = [
        counted(draw_box(SIZE, 0, 2, 2, 6)),  # 8 pixels of which 4 are right: IoU 4 / 12
        counted(draw_box(SIZE, 0, 0, 4, 4), large),  # 16 of 20 pixels: IoU 4 / 5
        counted(None, NOTHING, "absent"),
        counted(draw_box(SIZE, 0, 0, 1, 2), NOTHING, "absent"),  # 2 pixels
    ]
    found = summarise(queries) | {name: mean(metric, queries) for name, metric in ELSEWHERE.items()}
    assert found["iou_mean"].value == pytest.approx((1 / 3 + 4 / 5) / 2)  # RefCOCO: over queries with a referent
    assert found["iou_pooled"].value == pytest.approx((4 + 16) / (12 + 20))  # "mIoU" of some personal-segmentation code
    assert found["giou_grefcoco"].value == pytest.approx((1 / 3 + 4 / 5 + 1 + 0) / 4)  # the empty answer scores 1
    inside, outside = 20 / (12 + 20 + 2), (12 + 4 + 24 + 22) / (20 + 8 + 24 + 24)
    assert foreground_background_iou(queries).value == pytest.approx((inside + outside) / 2)  # semantic segmentation
    four = [
        found["iou_mean"].value,
        found["iou_pooled"].value,
        found["giou_grefcoco"].value,
        foreground_background_iou(queries).value,
    ]
    assert len({round(value or 0, 3) for value in four}) == 4
    assert found["ciou_grefcoco"].value == pytest.approx(20 / 34)
    assert (found["n_acc"], found["t_acc"]) == ((0.5, 2, 0), (1.0, 2, 0))


def test_a_failure_is_wrong_everywhere() -> None:
    failures = [
        counted(None, failed=True),
        counted(None, NOTHING, "absent", failed=True),
        counted(None, NOTHING, "contradicted", failed=True),
        counted(None, TRUTH, "look-alike", failed=True, look_alikes=(~TRUTH,)),
    ]
    found = summarise(failures)
    for name in ("iou_mean", "p_at_50", "pointing", "instance_accuracy", "dice_mean", "boundary_f_mean"):
        assert found[name] == (0.0, 2, 0), name
    for name, n in (("absent_fp_rate", 1), ("contradicted_fp_rate", 1), ("wrong_instance_rate", 1)):
        assert found[name] == (1.0, n, 0), name
    assert found["on_background"] == (None, 0, 2)
    assert [mean(ELSEWHERE[name], failures).value for name in ("giou_grefcoco", "n_acc", "t_acc")] == [0, 0, 0]


def test_without_queries_nothing_is_defined() -> None:
    assert set(summarise([]).values()) == {(None, 0, 0)}
    assert foreground_background_iou([]) == (None, 0, 0)
    assert mean(ELSEWHERE["ciou_grefcoco"], [counted(None, NOTHING, "absent")]).value is None


def test_boundary_f_by_hand() -> None:
    """A square moved by two columns, tolerance 1: of 2 x 2 pixels in a scene of 4 x 8."""
    truth, mask = draw_box((4, 8), 1, 1, 3, 3), draw_box((4, 8), 1, 3, 3, 5)
    found = count(Answer(mask), Truth("q", "plain", truth))
    # A contour is 3 x 3 without its middle: rows 0 to 2, columns 0 to 2 of the truth and 2 to 4 of the mask.
    assert (found.predicted_contour, found.truth_contour) == (8, 8)
    # Column 2 of both is the same, column 3 of the mask and column 1 of the truth (2 pixels each) lie beside it.
    assert (found.matched_predicted_contour, found.matched_truth_contour) == (5, 5)
    assert boundary_f(found) == 5 / 8
    whole = np.ones((4, 8), dtype=bool)
    assert boundary_f(count(Answer(whole), Truth("q", "plain", whole))) == 1.0
    assert boundary_f(count(Answer(None), Truth("q", "plain", whole))) == 0.0
    assert boundary_f(count(Answer(whole), Truth("q", "plain", truth))) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_overlap_is_that_of_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths, masks = rng.random((3, 5, 8)) < rng.random((3, 1, 1)), rng.random((3, 5, 8)) < rng.random((3, 1, 1))
    truths[:, 2, 3] = True
    queries = [count(Answer(mask), Truth("q", "plain", truth)) for mask, truth in zip(masks, truths, strict=True)]
    theirs = MeanIoU(num_classes=2, input_format="index")
    dice = DiceScore(num_classes=2, include_background=False, input_format="index", aggregation_level="samplewise")
    for mask, truth in zip(masks, truths, strict=True):
        pair = torch.from_numpy(mask).long()[None], torch.from_numpy(truth).long()[None]
        theirs.update(*pair)
        dice.update(*pair)
    found = summarise(queries)
    assert found["two_class_iou_mean"].value == pytest.approx(float(theirs.compute()), abs=1e-6)
    assert found["dice_mean"].value == pytest.approx(float(dice.compute()), abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_numbers_of_spec_1_follow_from_the_counts_of_spec_2(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = [], []
    for n in range(6):
        kind = ("plain", "look-alike", "absent")[n % 3]
        truth = (rng.random((5, 8)) < 0.4) & (kind != "absent")
        truth[1, 1] |= kind != "absent"
        alike = [rng.random((5, 8)) < 0.3] if kind == "look-alike" else []
        mask = rng.random((5, 8)) < rng.random() if rng.random() < 0.8 else None
        peak = (int(rng.integers(5)), int(rng.integers(8))) if rng.random() < 0.8 else None
        old.append(spec_1.count(mask, truth, alike, query_id="q", query_type=kind, peak_yx=peak))
        new.append(count(Answer(mask, peak), Truth("q", kind, truth, tuple(alike))))
    assert [vars(each) for each in old] == [{k: v for k, v in vars(each).items() if k in vars(old[0])} for each in new]
    found = summarise(new)
    assert spec_1.summarise(old) == {name: found[name] for name in SPEC_1}
    assert [(m.label, m.higher_is_better) for m in spec_1.METRICS.values()] == [
        (METRICS[name].label, METRICS[name].higher_is_better) for name in SPEC_1
    ]
    records = [Counts(**vars(each)) for each in old]  # a record of spec 1, read as counts
    assert spec_1.summarise(old) == {name: summarise(records)[name] for name in SPEC_1}
    assert summarise(records)["boundary_f_mean"] == summarise(records)["instance_accuracy"] == (None, 0, 0)


def test_every_number_is_defined_in_the_docs_and_every_alias_named() -> None:
    assert f"# Metrics (spec {METRIC_SPEC})" in DOCS
    described = set(re.findall(r"`(\w+)`", DOCS))
    assert {*METRICS, *ELSEWHERE} <= described
    assert {alias.metric for alias in ALIASES} <= {*METRICS, *ELSEWHERE}
    table = {re.sub(r"\s+", " ", line) for line in DOCS.splitlines()}
    for alias in ALIASES:
        assert f"| {alias.name} | {alias.where} | `{alias.metric}` | {alias.when} |" in table, alias


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_average_precision_of_a_map_is_that_of_the_slow_one(h: int, w: int, data: st.DataObject) -> None:
    score = [[data.draw(st.sampled_from([0, 1, 7, 128, 255])) for _ in range(w)] for _ in range(h)]
    rows = ["".join(data.draw(st.sampled_from("#.")) for _ in range(w)) for _ in range(h)]
    truth = np.array([[each == "#" for each in row] for row in rows])
    expected = naive_metrics.average_precision(score, rows)
    found = soft_average_precision(np.array(score, dtype=np.uint8), truth)
    assert found == (None if expected is None else pytest.approx(float(expected), abs=1e-12))


def test_soft_maps_are_quantised_checked_and_never_ranked() -> None:
    assert quantised(np.array([[0.0, 0.5, 1.0, 0.001]])).tolist() == [[0, 128, 255, 0]]
    assert RANKED is False
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match=r"values outside 0\.\.1"):
            quantised(np.array([[0.0, value]]))
    with pytest.raises(DataError, match="resize it first"):
        soft_average_precision(np.zeros((2, 3), dtype=np.uint8), np.zeros((3, 2), dtype=bool))


def test_values_of_a_mask_by_hand() -> None:
    found = counted(draw_box(SIZE, 0, 2, 2, 6))
    assert METRICS["dice_mean"].terms(found) == (0.5, 1.0)
    assert METRICS["two_class_iou_mean"].terms(found) == (float((Fraction(4, 12) + Fraction(12, 20)) / 2), 1.0)
