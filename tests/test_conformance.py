"""The golden cases: two implementations agree on them; a third one's answers are compared; scoring is timed."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from prisbench.bench.score import bench_score, render
from prisbench.cli.main import main
from prisbench.conformance import cases
from prisbench.conformance.check import differences, read_answers
from prisbench.counts import sound
from prisbench.errors import DataError
from prisbench.metrics import METRIC_SPEC
from tests import naive_metrics

ROOT = Path(__file__).parent.parent
GOLDEN = cases.load()
EXPECTED = cases.expected(GOLDEN)
OURS = cases.ours(GOLDEN)
CASES = {case["name"]: case for case in GOLDEN["cases"]}


def test_the_file_is_of_this_spec_large_and_its_names_are_different() -> None:
    assert GOLDEN["metric_spec"] == METRIC_SPEC
    assert len(CASES) == len(GOLDEN["cases"]) >= 40
    assert f"{len(CASES)} cases" in " ".join((ROOT / "docs" / "metrics.md").read_text().split())


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_counted_as_written_and_slowly_too(name: str) -> None:
    assert vars(cases.count_case(CASES[name])) == CASES[name]["expected"] == naive_metrics.counts(CASES[name])
    assert sound(cases.count_case(CASES[name]))


@pytest.mark.parametrize("chosen", GOLDEN["sets"], ids=lambda chosen: chosen["name"])
def test_a_set_gives_the_written_numbers_and_slowly_too(chosen: dict[str, Any]) -> None:
    by_name = {name: {**case["expected"], "query_type": case["query_type"]} for name, case in CASES.items()}
    slow = naive_metrics.set_numbers(chosen["queries"], by_name)
    assert list(slow) == list(chosen["expected"])
    for name, value in chosen["expected"].items():
        exact = Fraction(value) if isinstance(value, str) else value
        assert slow[name] == (pytest.approx(exact, abs=1e-12) if isinstance(exact, float) else exact), name
    assert (
        differences({**OURS, "sets": {**EXPECTED["sets"], chosen["name"]: OURS["sets"][chosen["name"]]}}, EXPECTED)
        == []
    )


def test_cases_of_spec_1_which_were_made_by_hand_are_counted_as_they_were() -> None:
    old = json.loads((ROOT / "tests" / "data" / "metrics_golden.json").read_text())
    assert len(old["cases"]) == 31
    for case in old["cases"]:
        found = CASES[case["name"]]["expected"]
        assert {name: found[name] for name in case["expected"]} == case["expected"]


BY_HAND = {
    # 2 x 2 pixels in each upper corner.  Contour of the left one: all but its corner of the frame, (0, 0); of the right
    # one: what is below, (1, 4) and (1, 5), and what lies left of it, (0, 3) and (1, 3).
    "referred, the other copy": {
        **{
            "intersection": 0,
            "union": 8,
            "look_alike_intersection": 4,
            "wrong_instance": True,
            "right_instance": False,
        },
        **{"predicted_contour": 4, "truth_contour": 3, "matched_predicted_contour": 0, "matched_truth_contour": 0},
    },
    "referred, both copies marked: no instance is right, none wrong": {
        **{"intersection": 4, "union": 8, "wrong_instance": False, "right_instance": False, "candidates": 2},
    },
    "contradicted, failed": {"contradicted_fp": False, "failed": True, "right_instance": None, "truth_area": 0},
    "contradicted, answered with the subject": {"contradicted_fp": True, "absent_fp": None, "predicted_area": 4},
    "IoU of 0.5 with the truth, level with a bystander: not right": {
        **{"intersection": 2, "union": 4, "right_instance": False, "wrong_instance": None},
    },
    "full truth, empty mask: neither has a contour, the score is 0": {"truth_contour": 0, "predicted_contour": 0},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_cases_of_spec_2_are_what_a_pencil_gives(name: str) -> None:
    found = CASES[name]["expected"]
    assert {key: found[key] for key in BY_HAND[name]} == BY_HAND[name]


def test_sets_of_spec_2_are_what_a_pencil_gives() -> None:
    sets = {each["name"]: each["expected"] for each in GOLDEN["sets"]}
    pairs = sets["pairs: both right, one right, one empty, contradicted right and wrong, one missing"]
    assert (pairs["pair_accuracy"], pairs["pair_n"], pairs["pair_n_undefined"]) == ("1/3", 6, 2)
    assert sets["pairs: a method deaf to the text scores 0"]["pair_accuracy"] == 0
    assert sets["presence: a mask for every query correlates with nothing"]["presence_mcc"] == 0
    assert {each["name"]: each["expected"]["average_precision"] for each in GOLDEN["soft_maps"]} == {
        "all of the truth above all else": 1,
        "ties count together": "1/3",  # 2 of 6 pixels, all at once
        "a background pixel first": "29/45",  # (2/3 + 2/3 + 3/5) / 3: two at 200 after one at 255, one of two at 10
        "empty truth": None,
    }


@pytest.fixture
def prisbench(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """``prisbench("conformance", ...)`` in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["prisbench", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as done:
            code = int(done.code or 0)
        return code, *capfd.readouterr()

    return run


def written(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    answers: Any = {"metric_spec": "2", **copy.deepcopy(OURS)}
    answers = change(answers) or answers
    path = tmp_path / "answers.json"
    path.write_text(answers if isinstance(answers, str) else json.dumps(answers))
    return path


def test_our_own_answers_agree_and_what_differs_is_named(prisbench: Any, tmp_path: Path) -> None:
    code, out, _ = prisbench("conformance", written(tmp_path, lambda answers: None))
    total = sum(len(numbers) for part in EXPECTED.values() for numbers in part.values())
    assert (code, out) == (0, f"all {total} numbers agree with metric spec 2\n")

    def worse(answers: dict[str, Any]) -> None:
        answers["cases"]["exact"]["union"] = 7
        answers["cases"]["exact"]["failed"] = 0
        del answers["sets"]["only absent"]["n_acc"]
        answers["sets"]["only absent"]["iou_mean"] = 0
        answers["soft_maps"]["ties count together"]["average_precision"] += 2e-9
        answers["cases"]["disjoint"]["union"] = 10.0
        answers["cases"]["disjoint"]["something of theirs"] = 1

    code, out, err = prisbench("conformance", written(tmp_path, worse))
    assert code == 1 and out.splitlines() == [
        "cases: exact: union is 7, expected 6",
        "cases: exact: failed is 0, expected false",
        "sets: only absent: iou_mean is 0, expected null",
        "sets: only absent: n_acc is missing, expected 0.6",
        f"soft_maps: ties count together: average_precision is {1 / 3 + 2e-9}, expected {1 / 3}",
    ]
    record = json.loads(prisbench("conformance", tmp_path / "answers.json", "--format", "json")[1])
    assert record == {"metric_spec": "2", "numbers": total, "differences": out.splitlines()}
    assert err.splitlines()[-1].endswith(f"answers.json: 5 of {total} numbers differ from metric spec 2")


def test_without_a_file_the_cases_are_printed(prisbench: Any) -> None:
    code, out, _ = prisbench("conformance")
    assert code == 0 and json.loads(out) == GOLDEN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: "{", "answers.json: not JSON"),
        (lambda a: "[1]", "expected a JSON object with cases, sets, soft_maps, found list"),
        (lambda a: a.pop("sets") and None, "'sets' holds nothing; expected an object with a case's numbers"),
        (lambda a: a.update(cases=[1]), "'cases' holds list; expected an object with a case's numbers"),
        (lambda a: a["cases"].update(exakt={}), "cases: unknown case 'exakt': did you mean 'exact'?"),
        (lambda a: a["cases"].update(exact=3), "cases: 'exact' is int; expected an object of numbers"),
        (lambda a: a["cases"]["exact"].update(union="6"), "cases: 'exact': 'union' is '6'; expected a number, true"),
        (lambda a: a["cases"]["exact"].update(union=float("nan")), "'union' is nan, which is not a number"),
        (lambda a: a["cases"].pop("exact") and None, "cases: no answer to 'exact'; answer every case"),
        (lambda a: a.update(sets={}), "sets: no answer to 'no query' and 12 more; answer every case"),
    ],
)
def test_a_file_that_holds_no_answers_is_one_clear_line(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(DataError) as raised:
        read_answers(written(tmp_path, change), EXPECTED)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_file_is_named(prisbench: Any, tmp_path: Path) -> None:
    code, out, err = prisbench("conformance", tmp_path / "none.json")
    assert (code, out) == (1, "") and err.count("\n") == 1 and "none.json" in err


@pytest.mark.slow
def test_scoring_is_timed_beside_the_other_libraries_and_its_memory_does_not_grow() -> None:
    record = bench_score(1200, 2, 4, 0)
    assert record["n"] == 1200 and record["ratio"] > 2
    assert record["peak_mb"]["end"] < 1.1 * record["peak_mb"]["start"]
    metrics = record["metrics"]
    assert 0.5 < metrics["iou_mean"]["value"] < 0.9 and metrics["pair_accuracy"]["interval"] is not None
    assert metrics["presence_mcc"]["interval"][0] < metrics["presence_mcc"]["value"]
    again = bench_score(1200, 1, 0, 0)
    assert again["metrics"] == metrics and "ratio" not in again
    assert len(render(record)) == 3 and len(render(again)) == 2
