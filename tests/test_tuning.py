"""Tuning: what is drawn, what is chosen, that it goes on where it was, and how its row is marked."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import prisbench
from prisbench.cli.main import app
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import build_tabletop
from prisbench.datasets.sources.tabletop import Size
from prisbench.detection.method import BoxMethod
from prisbench.errors import DataError, UsageError
from prisbench.evaluate import evaluate
from prisbench.leaderboard.ceilings import FLOORS
from prisbench.leaderboard.publish import check_leaderboards, publish
from prisbench.leaderboard.render import render
from prisbench.leaderboard.rows import rows
from prisbench.matching.method import FeatureMatching
from prisbench.methods import baselines_folder, load_method, names
from prisbench.network_free.predictors import PREDICTORS
from prisbench.provenance import current_provenance
from prisbench.reproduce import open_made, options_of, reproduce
from prisbench.results import Run
from prisbench.runs import RunOptions, Scope
from prisbench.settings import MethodOptions, folded
from prisbench.tuning.file import doubt, for_a_run, read_tuned
from prisbench.tuning.space import drawn, in_words, space_of
from prisbench.tuning.tune import Tuning, check_tuning, interval_between, tune
from tests.leaderboards import big
from tests.test_leaderboard import FLOOR

METHOD = """
from prisbench import Concept, Prediction, take_settings
import numpy as np

class Box:
    name, tunable = "box", {"share": (0.2, 1.0), "silent": [True, False]}

    def __init__(self, share, silent):
        self.settings = {"share": share, "silent": silent}

    def learn(self, subject):
        return Concept("c", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        mask = np.zeros(image.shape[:2], bool)
        mask[: round(image.shape[0] * self.settings["share"])] = True
        return [Prediction(query.id, None if self.settings["silent"] else mask) for query in queries]

def make(options):
    with open(__file__ + ".log", "a") as log:
        log.write("made\\n")
    return Box(**take_settings({"share": 0.5, "silent": False}, options.settings))
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("world") / "set"
    build_tabletop(folder, Size({"validation": 2, "test": 1}, {"plain": 1, "relation": 1}))
    return open_dataset(folder)


@pytest.fixture
def method(tmp_path: Path) -> str:
    (tmp_path / "box.py").write_text(METHOD)
    return str(tmp_path / "box.py")


def tuning_of(method: str, out: Path, **changes: Any) -> Tuning:
    return dataclasses.replace(Tuning(method, MethodOptions(), out, budget=4, subjects=2, queries=6), **changes)


def test_the_published_setting_is_tried_first_and_a_larger_budget_goes_on() -> None:
    space = {"a": (0.1, 0.9), "b": (1, 9), "c": (0.001, 1.0, "log"), "d": ["x", None]}
    few, many = drawn(space, 0, 4), drawn(space, 0, 40)
    assert few[0] == {} and many[:4] == few and drawn(space, 1, 4)[1:] != few[1:]
    assert all(0.1 <= each["a"] <= 0.9 and isinstance(each["b"], int) and 1 <= each["b"] <= 9 for each in many[1:])
    assert {each["d"] for each in many[1:]} == {"x", None}
    below = sum(each["c"] < 0.0316 for each in drawn(space, 0, 400)[1:])
    assert 150 < below < 250, "half of the draws lie in half of the orders of magnitude"


def test_a_small_space_is_tried_whole_and_no_setting_twice() -> None:
    found = drawn({"a": [1, 2], "b": [True, False]}, 0, 50)
    assert len(found) == 5 and len({json.dumps(each) for each in found}) == 5


@pytest.mark.parametrize("values", [(), [], (1,), (2, 1), (0, 1, "log"), (0.1, 1, "ln"), "crf", (0, True)])
def test_what_is_no_space_is_refused(values: object) -> None:
    class Odd:
        name, tunable = "odd", {"a": values}

    with pytest.raises(DataError, match=r"odd: tunable 'a' is .*; give a list of values"):
        space_of(Odd())


def test_boxes_say_that_there_is_nothing_to_tune(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="center-box declares nothing to tune"):
        tune(dataset, tuning_of("center-box", tmp_path))


def test_nothing_is_chosen_on_test_and_a_choice_needs_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="settings are never chosen on test"):
        check_tuning(tuning_of("center-box", tmp_path, split="test"))
    with pytest.raises(UsageError, match="--budget 1 leaves nothing to choose"):
        check_tuning(tuning_of("center-box", tmp_path, budget=1))


def test_the_best_of_what_was_tried_is_kept_and_finished_settings_are_not_run_again(
    dataset: Dataset, method: str, tmp_path: Path
) -> None:
    said: list[str] = []
    tuned, path = tune(dataset, tuning_of(method, tmp_path / "out"), say=said.append)
    assert tuned.budget == len(tuned.tried) == 4 and tuned.score == max(each.score for each in tuned.tried)
    assert not tuned.settings.get("silent"), "silence has an IoU of 0"
    assert said[0].startswith("tuning box: 4 settings, each on the same 6 queries about ")
    assert said[1].startswith("published: ") and read_tuned(path) == tuned
    assert tuned.gain == pytest.approx(tuned.score - tuned.published, abs=1e-6)
    assert tuned.gain_interval is None and "2 subjects are too few for an interval" in (doubt(tuned) or "")
    made = Path(f"{method}.log").read_text().count("made")
    again, _ = tune(dataset, tuning_of(method, tmp_path / "out", budget=6))
    assert again.tried[:4] == tuned.tried and len(again.tried) == 6
    assert Path(f"{method}.log").read_text().count("made") == made + 1 + 2, "one to ask it, two new settings"
    Path(method).write_text(METHOD.replace("0.5", "0.6"))
    with pytest.raises(DataError, match=r"holds a tuning with another plan: published\.share is 0\.5"):
        tune(dataset, tuning_of(method, tmp_path / "out"))


def test_a_sample_without_some_type_is_refused(dataset: Dataset, method: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"2 queries of 1 subjects hold no '.*', which validation has"):
        tune(dataset, tuning_of(method, tmp_path, subjects=1, queries=2))


def test_a_tuned_row_stands_beside_the_published_one_and_says_how(
    dataset: Dataset, method: str, tmp_path: Path
) -> None:
    tuned, path = tune(dataset, tuning_of(method, tmp_path / "out"))
    options, record = for_a_run(path, MethodOptions(), "photos")
    assert options.settings == tuned.settings
    own, _ = evaluate(dataset, load_method(method), tmp_path / "runs")
    run, place = evaluate(
        dataset, load_method(method, options), tmp_path / "runs", Scope(), RunOptions(tuned=record)
    )  # fmt: skip
    assert run.method == "box-tuned" and place.parent.name == "box-tuned--none"
    frame = rows([own, run])
    assert set(frame["method"]) == {"box", "box-tuned"}
    chosen = " ".join(f"{key}={value}" for key, value in tuned.settings.items())
    note = f"box-tuned / none: {chosen}, the best of 4 settings on 6 queries of validation, mIoU {tuned.score:.3f}"
    gain = f"the published one has {tuned.published:.3f} ({tuned.gain:+.3f}; not told apart there)."
    assert f"{note} there; {gain}" in render(frame)
    kept = run.settings["tuned"]
    assert [each["settings"] for each in kept["tried"]] == [each.settings for each in tuned.tried], "all that was tried"
    board = publish(own, tmp_path / "boards").parent
    publish(run, tmp_path / "boards", tuned=path)
    assert (board / "tuned" / "box.json").read_bytes() == path.read_bytes()
    table = (board / "README.md").read_text().split("## Tuned on validation")[1].split("##")[0]
    assert f"| box | photos | 4 | 6 of 2 subjects | {tuned.published:.3f} | {tuned.score:.3f} |" in table
    assert next(check_leaderboards(tmp_path / "boards")).complaint is None
    (board / "tuned" / "box.json").unlink()
    with pytest.raises(DataError, match=r"box-tuned / none was tuned, and .*tuned has not the file that says how"):
        next(check_leaderboards(tmp_path / "boards"))
    made = open_made(place.parent)
    again = reproduce(made, dataset, options_of(made, method, "cpu", None), tmp_path / "again")
    assert again.drifts and not again.changed, "with the tuned settings"
    assert again.folder.name == "box-tuned--none" and not again.causes
    with pytest.raises(UsageError, match="the settings were tuned for box, not center-box"):
        evaluate(dataset, load_method("center-box"), tmp_path / "runs", Scope(), RunOptions(tuned=record))


def test_the_published_values_are_not_drawn_again() -> None:
    space = {"share": [20.0, 40.0, 60.0]}
    found = drawn(space, 0, 9, {"share": 40.0})
    assert found[0] == {} and sorted(each["share"] for each in found[1:]) == [20.0, 60.0]
    assert drawn(space, 0, 3, {"share": 41.0})[1:] == drawn(space, 0, 3)[1:]


def test_a_tunable_that_is_no_setting_is_refused_before_anything_runs(
    dataset: Dataset, method: str, tmp_path: Path
) -> None:
    (tmp_path / "box.py").write_text(METHOD.replace('{"share": (0.2, 1.0)', '{"shares": (0.2, 1.0)'))
    with pytest.raises(DataError, match="box: tunable 'shares' is no setting of it; known: share, silent"):
        tune(dataset, tuning_of(method, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"is a folder; name the Python file in it .*method\.py"):
        load_method(str(tmp_path))


def test_what_was_tried_is_kept_beside_the_rows_without_a_second_row(
    dataset: Dataset, method: str, tmp_path: Path
) -> None:
    boards = tmp_path / "boards"
    ask = ["tune", method, "--dataset", str(dataset.folder), "--budget", "2", "--subjects", "2", "--queries", "6"]
    ask += ["--out", str(tmp_path / "out"), "--leaderboards", str(boards)]
    early = CliRunner().invoke(app, ask)
    assert isinstance(early.exception, UsageError) and "holds no rows; put one there first" in str(early.exception)
    assert f"evaluate --method {method} --dataset {dataset.folder} --leaderboards {boards}" in str(early.exception)
    assert not (tmp_path / "box.py.log").exists(), "before anything is tried"
    board = publish(evaluate(dataset, load_method(method), tmp_path / "runs")[0], boards).parent
    before = (board / "README.md").read_text()
    done = CliRunner().invoke(app, ask)
    assert done.exit_code == 0, done.output
    assert read_tuned(board / "tuned" / "box.json").budget == 2
    assert "## Tuned on validation" in (board / "README.md").read_text() and "## Tuned" not in before
    assert next(check_leaderboards(boards)).complaint is None and len(list(board.glob("*.json"))) == 1


def test_a_gain_is_told_with_its_interval_and_doubted_where_that_holds_0(
    dataset: Dataset, method: str, tmp_path: Path
) -> None:
    def moved(run: Run, by: dict[str, int]) -> Run:
        """The same run, its masks nearer to the truth by so many pixels, by subject."""
        counts = [dataclasses.replace(q.counts, intersection=q.counts.intersection + by[q.subject_id]) for q in some]
        return dataclasses.replace(
            run, queries=tuple(dataclasses.replace(q, counts=each) for q, each in zip(some, counts, strict=True))
        )

    run = big(FLOOR, 60, 10)
    some = [query for query in run.queries if query.counts.truth_area]
    subjects = sorted({query.subject_id for query in some})
    published = moved(run, dict.fromkeys(subjects, 0))
    all_gain = interval_between(moved(run, dict.fromkeys(subjects, 4)), published)
    by_lot = interval_between(moved(run, {each: (4, -4)[n % 2] for n, each in enumerate(subjects)}), published)
    assert all_gain is not None and all_gain[0] > 0
    assert by_lot is not None and by_lot[0] < 0 < by_lot[1]
    tuned, _ = tune(dataset, tuning_of(method, tmp_path))
    assert tuned.settings and doubt(dataclasses.replace(tuned, gain_interval=list(all_gain))) is None
    line = doubt(dataclasses.replace(tuned, gain=0.01, gain_interval=[-0.02, 0.03]))
    assert line is not None and "+0.010 [-0.020, +0.030]" in line and "not told apart" in line
    assert "they stay" in (doubt(dataclasses.replace(tuned, settings={})) or "")


def test_a_file_that_was_changed_or_is_used_otherwise_is_refused(dataset: Dataset, method: str, tmp_path: Path) -> None:
    _, path = tune(dataset, tuning_of(method, tmp_path / "out"))
    for options, reference, message in (
        (MethodOptions(settings={"share": 0.3}), "photos", "--set share: not with --settings-file"),
        (MethodOptions("noun-only"), "photos", "was tuned with no --concept"),
        (MethodOptions(), "photos+masks", "was tuned with --reference photos, not photos\\+masks"),
    ):
        with pytest.raises(UsageError, match=message):
            for_a_run(path, options, reference)
    file = json.loads(path.read_text())
    path.write_text(json.dumps({**file, "settings": {"share": 0.9}}))
    with pytest.raises(DataError, match=r"'settings' is .*, but of what was tried it would be"):
        read_tuned(path)
    path.write_text(json.dumps({**file, "split": "test"}))
    with pytest.raises(DataError, match="chosen on test, which no row may be"):
        read_tuned(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="holds no tuned settings"):
        read_tuned(path)


def test_parts_of_a_setting_are_named_with_a_dot() -> None:
    given = {"localizer.places.power": 1.0, "localizer.places": {"alone": 0.5}, "localizer.tau": 0.3}
    assert folded(given, ("localizer.places",)) == {
        "localizer.places": {"alone": 0.5, "power": 1.0},
        "localizer.tau": 0.3,
    }
    with pytest.raises(UsageError, match="cannot both be given"):
        folded({"localizer.places": 3, "localizer.places.power": 1.0}, ("localizer.places",))


OWNERS: dict[str, Any] = {
    "attn": prisbench.AttentionMethod,
    "attn-features": prisbench.FeaturesMethod,
    "clipseg": prisbench.ClipSegMethod,
    **dict.fromkeys((f"network-free-{each}" for each in PREDICTORS), prisbench.NetworkFree),
    **dict.fromkeys(("persam", "persam-f"), prisbench.PerSam),
    "sam-matching": prisbench.SamMatching,
    **dict.fromkeys(("unet-features", "dinov3-features"), FeatureMatching),
    **dict.fromkeys(("grounding-dino", "owlv2-image-guided"), BoxMethod),
    "sam3-noun": prisbench.Sam3Noun,
    "sam3-canvas": prisbench.Sam3Canvas,
    "seggpt": prisbench.SegGpt,
}
"""Which class a baseline is of; the others are floors."""


@pytest.mark.parametrize("name", names())
def test_the_card_of_a_method_shows_what_may_be_tuned(name: str) -> None:
    card = " ".join((baselines_folder() / name / "README.md").read_text().split())
    if name not in OWNERS:
        assert name in FLOORS and "Nothing is tuned" in card, f"{name}: say `Nothing is tuned`"
        return
    assert f"`prisbench tune {name}`" in card
    for key, values in OWNERS[name].tunable.items():
        assert f"`{key}` {in_words(values)}" in card, f"{name}: say `{key}` {in_words(values)}"


def test_a_command_names_the_file_of_settings_and_not_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (["--settings-file", "/some/where/box.json"], ["--settings-file=/some/where/box.json"]):
        monkeypatch.setattr(sys, "argv", ["prisbench", "evaluate", "--method", "box", *given])
        command = current_provenance().command
        assert command is not None and "box.json" in command and "/some" not in command
    monkeypatch.setattr(sys, "argv", ["prisbench", "evaluate", "--settings-file", "boards/tuned/box.json"])
    assert current_provenance().command == "prisbench evaluate --settings-file boards/tuned/box.json"
