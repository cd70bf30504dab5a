"""Rows that stand on a weak model: shown, and ranked nowhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from prisbench import own_task as tasks
from prisbench.clipseg.method import ClipSegMethod
from prisbench.exports.every_eval_ever import record as every_eval_ever
from prisbench.exports.latex import table
from prisbench.exports.numbers import notes_of
from prisbench.figures import charts
from prisbench.leaderboard.by_subset import by_subset
from prisbench.leaderboard.compare import Side, as_json, compare, markdown
from prisbench.leaderboard.pages import readme
from prisbench.leaderboard.rows import load_runs, records_of, rows
from prisbench.leaderboard.summaries import summary
from prisbench.own_task import LEAST, OwnTask, embedded_tasks, own_task
from prisbench.results import Run, read_run, write_run
from prisbench.sam.persam import PerSam
from prisbench.settings import MethodOptions

ROOT = Path(__file__).parents[1]
BOARD = ROOT / "leaderboards" / "tabletop-v3"
WEIGHTS = ROOT / "prisbench" / "embedded" / "rivals" / "weights"
POOR = OwnTask("phrase", 0.31, (0.28, 0.35), 700)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """The best row of a table, and two others."""
    names = ("attn-features--noun-only--photos+masks", "attn--textual-inversion", "center-box--none")
    return [read_run(BOARD / f"{name}.json") for name in names]


def weakened(runs: list[Run], own: OwnTask = POOR) -> list[Run]:
    return [dataclasses.replace(runs[0], own_task=own), *runs[1:]]


def test_a_weak_row_has_its_numbers_and_no_tier_and_stands_last(runs: list[Run]) -> None:
    before, after = records_of(rows(runs)), records_of(rows(weakened(runs)))
    assert [row["method"] for row in before] == ["attn-features", "attn", "center-box"]
    assert [row["tier"] for row in before] == [1, 2, 3]
    assert [row["method"] for row in after] == ["attn", "center-box", "attn-features"]
    assert [row["tier"] for row in after] == [1, 2, None], "the others are ranked as if it were not there"
    for name in ("headline", "headline_ci", "iou_mean", "iou_mean_ci", "n"):
        assert after[2][name] == before[0][name]
    assert (after[2]["own_task"], after[2]["own_task_iou"], after[2]["weak"]) == ("phrase", 0.31, True)
    assert not after[0]["weak"]
    for subset in ("plain", "look-alike"):
        assert [row["tier"] for row in records_of(rows(weakened(runs), subset)) if row["weak"]] == [None]


def test_the_bound_itself_is_enough(runs: list[Run]) -> None:
    assert not records_of(rows(weakened(runs, OwnTask("phrase", LEAST, None, 9))))[0]["weak"]
    assert records_of(rows(weakened(runs, OwnTask("phrase", LEAST - 1e-6, None, 9))))[2]["weak"]


def test_every_table_says_that_it_is_not_ranked_and_why(runs: list[Run]) -> None:
    weak = weakened(runs)
    why = "its model has a mean IoU of 0.310 [0.28, 0.35] on its own task (phrase, 700 cases), below 0.5"
    page = readme(weak)
    assert f"attn-features / noun-only (photos+masks): {why}: shown, not ranked." in page
    assert "answers 1920 queries of at least" not in page, "no other reason is made up"
    assert by_subset(weak).split("\n")[4].startswith("| – | attn-features |")
    front = summary(weak)
    assert "| attn-features (not ranked) |" in front.split("\n")[6] and why in front
    latex = table(weak)
    assert "-- & attn-features" in latex and "below 0.5: shown, not ranked." in latex
    assert "\\textbf{attn-features}" not in latex and "\\textbf{attn}" in latex
    assert why in notes_of(weak[0]) and "task" not in notes_of(weak[1])
    told = every_eval_ever(weak[0], "org")["model_info"]["additional_details"]
    assert why in told["not_ranked"]
    drawn, _ = charts.points_of(records_of(rows(weak)))
    assert "attn-features" not in {point.name.split(" ")[0] for point in charts.front(drawn)}


def test_comparing_with_a_weak_row_says_so(runs: list[Run]) -> None:
    sides = [Side(run.method, run, None) for run in weakened(runs)]
    found = compare(sides[0], sides[1])
    assert "attn-features: its model has" in markdown(found) and "shown, not ranked" in markdown(found)
    assert json.loads(as_json(found))["unranked"] == list(found.unranked) and len(found.unranked) == 1
    assert compare(sides[1], sides[2]).unranked == ()


def test_a_record_keeps_the_score_and_older_records_are_as_they_were(runs: list[Run], tmp_path: Path) -> None:
    path = write_run(weakened(runs)[0], tmp_path / "row.json")
    assert read_run(path).own_task == POOR
    assert write_run(read_run(path), tmp_path / "again.json").read_bytes() == path.read_bytes()
    old = BOARD / "center-box--none.json"
    assert b"own_task" not in old.read_bytes()
    assert write_run(read_run(old), tmp_path / "old.json").read_bytes() == old.read_bytes()


def test_an_older_record_is_judged_by_the_card_of_its_very_weights(runs: list[Run], monkeypatch: Any) -> None:
    known = {"embedded-clipseg@0123": POOR}
    monkeypatch.setattr("prisbench.leaderboard.strength.embedded_tasks", lambda: known)
    named = [dataclasses.replace(runs[0], backbone="embedded-clipseg@0123"), *runs[1:]]
    assert records_of(rows(named))[2]["weak"]
    other = [dataclasses.replace(runs[0], backbone="embedded-clipseg@4567"), *runs[1:]]
    assert not any(row["weak"] for row in records_of(rows(other)))
    recorded = [dataclasses.replace(named[0], own_task=OwnTask("phrase", 0.9, None, 9)), *runs[1:]]
    assert not any(row["weak"] for row in records_of(rows(recorded))), "what a record says itself comes first"


def test_models_that_come_along_are_judged_by_their_cards_ours_too() -> None:
    found = embedded_tasks()
    assert len(found) == 4, "the network that knows things again makes no masks"
    for name in ("sam", "clipseg", "things"):
        card = json.loads((WEIGHTS / name / "card.json").read_text())
        best = max(each["iou_mean"] for each in card["held_out"].values() if isinstance(each, dict))
        assert found[f"embedded-{name}@{card['weights']}"].iou_mean == best
    backbone = json.loads((ROOT / "prisbench/embedded/weights/card.json").read_text())
    assert found[backbone["backbone"]].iou_mean == backbone["held_out_phrases"]["iou_mean"]
    for run in load_runs(BOARD):
        assert run.backbone is None or run.backbone in found, "rows of other weights would never be judged"


@pytest.mark.parametrize(("prompt", "task"), [("query", "phrase"), ("noun", "noun"), ("photo", "photo")])
def test_clipseg_tells_the_task_that_it_is_asked_for(prompt: str, task: str) -> None:
    method = ClipSegMethod.make(MethodOptions(settings={"prompt": prompt}))
    facts = json.loads((WEIGHTS / "clipseg" / "card.json").read_text())["held_out"][task]
    assert method.own_task is not None
    assert (method.own_task.task, method.own_task.iou_mean) == (task, facts["iou_mean"])


def test_persam_stands_on_points() -> None:
    method = PerSam.make(False, MethodOptions())
    assert method.own_task is not None and method.own_task.task == "point" and not method.own_task.weak


@pytest.mark.parametrize("text", ["", "[]", "{", '{"held_out": 3}', '{"held_out": {"phrase": {"iou": 1}}}'])
def test_a_folder_without_a_card_of_ours_says_nothing(tmp_path: Path, text: str) -> None:
    assert own_task(tmp_path, "phrase") is None
    (tmp_path / tasks.CARD).write_text(text)
    assert own_task(tmp_path, "phrase") is None
