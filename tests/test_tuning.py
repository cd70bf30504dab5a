"""Tuning: what is drawn, what is chosen, that it goes on where it was, and how its row is marked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import build_tabletop
from prisbench.datasets.sources.tabletop import Size
from prisbench.errors import DataError, UsageError
from prisbench.evaluate import evaluate
from prisbench.leaderboard.render import render
from prisbench.leaderboard.rows import rows
from prisbench.methods import baselines_folder, load_method
from prisbench.runs import RunOptions, Scope
from prisbench.settings import MethodOptions, folded
from prisbench.tuning.file import for_a_run, read_tuned
from prisbench.tuning.space import drawn, in_words, space_of
from prisbench.tuning.tune import Tuning, check_tuning, tune

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
    note = f"box-tuned / none: the best of 4 settings on queries of validation, mIoU {tuned.score:.3f} there"
    assert note in render(frame) and f"the published one has {tuned.published:.3f}" in render(frame)
    with pytest.raises(UsageError, match="the settings were tuned for box, not center-box"):
        evaluate(dataset, load_method("center-box"), tmp_path / "runs", Scope(), RunOptions(tuned=record))


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


@pytest.mark.parametrize(
    "name", ["attn", "attn-features", "clipseg", "network-free-colour", "persam", "persam-f", "sam-matching"]
)
def test_the_card_of_a_method_shows_what_may_be_tuned(name: str) -> None:
    from prisbench import AttentionMethod, ClipSegMethod, FeaturesMethod, NetworkFree, PerSam, SamMatching

    owners: dict[str, Any] = {
        "attn": AttentionMethod,
        "attn-features": FeaturesMethod,
        "clipseg": ClipSegMethod,
        "network-free": NetworkFree,
        "sam-matching": SamMatching,
    }
    owner = next((each for start, each in owners.items() if name in (start, f"{start}-colour")), PerSam)
    card = " ".join((baselines_folder() / name / "README.md").read_text().split())
    for key, values in owner.tunable.items():
        assert f"`{key}` {in_words(values)}" in card, f"{name}: say `{key}` {in_words(values)}"
