"""What each part is worth: rows stand on the same queries, and nothing of the method is changed for good."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny

from prisbench.bench import ablation
from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.errors import UnknownNameError, UsageError
from prisbench.localizer import presets
from prisbench.localizer.method import AttentionMethod
from prisbench.localizer.settings import Places
from prisbench.settings import MethodOptions, parse_settings
from prisbench.types import Example, Query
from tests.drawing import draw_box, draw_scene

SIZE = (112, 144)
QUICK = ["learner.steps=1", "learner.batch=1", "localizer.refine=none", "localizer.timesteps=100"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two mugs and a bowl, each with a plain, a look-alike and an absent query, and two more that nobody needs."""
    subjects, queries = [], []
    for n, noun in enumerate(("mug", "mug", "bowl")):
        photos = (draw_scene(n, SIZE), draw_scene(9 + n, SIZE))
        subject = SubjectRow(noun, photos, "validation", "CC0-1.0", "drawn")
        subjects.append(subject)
        for i, kind in enumerate(("plain", "plain", "plain", "look-alike", "absent")):
            queries.append(
                QueryRow(
                    subject_id=subject.id,
                    noun=noun,
                    image=draw_scene(1000 + 100 * n + i, SIZE),
                    text="the {subject}",
                    query_type=kind,
                    mask=draw_box(SIZE, 20, 30, 80, 90) & (kind != "absent"),
                    look_alikes=(draw_box(SIZE, 10, 100, 60, 140),) if kind == "look-alike" else (),
                    split="validation",
                    licence="CC0-1.0",
                    source="drawn",
                )
            )
    folder = tmp_path_factory.mktemp("ablation") / "set"
    write_dataset(folder, NewDataset("drawn", "1", subjects, queries, "# Drawn\n"))
    return open_dataset(folder)


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> AttentionMethod:
    home = tmp_path_factory.mktemp("tiny")
    folder = tiny.save(home / "pipeline")
    settings = parse_settings([*QUICK, 'localizer.evidence={"timesteps":[500],"samples":1}'])
    return AttentionMethod.make(MethodOptions(None, str(folder), 0, "cpu", settings, str(home / "store")))


def test_a_part_has_so_many_queries_of_each_kind_and_subject(dataset: Dataset) -> None:
    chosen = ablation.part_of(dataset, "validation", None)
    assert [each.query_type for each in chosen] == ["plain", "look-alike", "absent"] * 3
    assert len(ablation.part_of(dataset, "validation", 1)) == 3
    two = {each.query.subject_id for each in ablation.part_of(dataset, "validation", 2)}
    assert {s.noun for s in dataset.subjects("validation") if s.id in two} == {"mug", "bowl"}, "not the first two"
    with pytest.raises(UsageError, match="none of the queries relation"):
        ablation.part_of(dataset, "validation", None, {"relation": 1})


def test_rows_compare_changes_on_the_same_queries(dataset: Dataset, method: AttentionMethod) -> None:
    before, told = method.localizer, []
    names = ["the preset", "no evidence", "one timestep: 100", "two noises"]
    rows = ablation.table(method, dataset, names=names, progress=lambda name, n, of: told.append((name, n, of)))
    del names[2]  # it has that one timestep already
    assert method.localizer == before and told == [(name, n, 3) for n, name in enumerate(names)]
    assert [row["change"] for row in rows] == names and {(row["n"], row["n_subjects"]) for row in rows} == {(6, 3)}
    first, without, _ = rows
    assert first["gain"] == 0.0, "the preset against itself"
    assert {value for key, value in first.items() if key.endswith("_ci")} == {None}, "three subjects give no interval"
    assert first["presence_auc"] is not None and without["look_alike"] is not None
    assert without["gain"] == without["iou_mean"] - first["iou_mean"]
    assert first["absent_fp"] == 1.0, "random weights find everything"
    text = ablation.markdown(rows)
    assert text.count("\n| ") == 4 and "| no evidence | 0." in text and "[" not in text
    assert text.endswith("\n- No intervals: 3 subjects; at least 6 are needed for one that can be trusted.\n")


def test_the_masks_that_are_measured_are_the_method_s(dataset: Dataset, method: AttentionMethod) -> None:
    before = method.localizer
    method.localizer = dataclasses.replace(before, tau=0.3, presence=None, places=Places(alone=1.0, least=0.1))
    try:
        examples = ablation.part_of(dataset, "validation", None)
        seen = ablation.measure(method, dataset, examples, "validation")
        concepts = {subject.id: method.learn(subject) for subject in dataset.subjects("validation")}
        for example in examples:
            if example.query_type != "absent":
                (answer,) = method.locate(example.image, [example.query], concepts)
                assert answer.mask is not None
                expected = (answer.mask & example.mask).sum() / (answer.mask | example.mask).sum()
                assert seen.ious[example.query.id][ablation.THRESHOLDS.index(0.3)] == pytest.approx(expected)
    finally:
        method.localizer = before


def test_a_row_over_six_subjects_has_intervals_and_says_which_columns_lack_them() -> None:
    part = {"plain": ("a", "b", "c", "d", "e", "f"), "look-alike": ("a", "b")}
    asked = [(f"{kind}/{subject}", subject, kind) for kind, subjects in part.items() for subject in subjects]
    image, mask = np.zeros((2, 3, 3), np.uint8), np.ones((2, 3), bool)
    examples = [Example(Query(id, who, "the {subject}"), kind, id, image, mask) for id, who, kind in asked]
    ious = {id: [0.1 * n + 0.01 * at for at in range(len(ablation.THRESHOLDS))] for n, (id, *_) in enumerate(asked)}
    seen = ablation.Measured(ious, [0.5] * len(asked), {}, [1.0] * len(asked))
    row = ablation._row(examples, seen, seen)
    assert row["iou_mean_ci"][0] < row["iou_mean"] < row["iou_mean_ci"][1] and row["gain_ci"] == (0.0, 0.0)
    assert row["look_alike"] == pytest.approx(0.72) and row["look_alike_ci"] is None
    text = ablation.markdown([{"change": "the preset", **row}])
    assert "- [low, high] are 95 % intervals over 6 subjects.\n" in text
    assert "- No interval for look-alike: fewer than 6 subjects have such queries.\n" in text
    assert "presence AUC:" not in text and "absent FP:" not in text, "these are undefined"


def test_absent_queries_that_get_a_mask_are_counted_at_the_settings_own_threshold(
    dataset: Dataset, method: AttentionMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ablation.CHANGES, "two noises", lambda s: dataclasses.replace(s, presence=1.0))
    row = ablation.table(method, dataset, names=["the preset", "two noises"])[1]
    assert row["absent_fp"] == 0.0 and row["absent_fp_ci"] is None


def test_presets_stand_beside_each_other(dataset: Dataset, method: AttentionMethod) -> None:
    rows = ablation.table(method, dataset, names=["the preset", "preset fast"])
    assert [row["change"] for row in rows] == ["the preset", "preset fast"]
    with pytest.raises(UnknownNameError, match="did you mean 'fast'"):
        ablation.table(method, dataset, names=["the preset", "preset fats"])


def test_every_change_changes_the_preset_it_was_made_for_or_is_it() -> None:
    base = presets.preset("accurate", "embedded")
    same = [name for name, change in ablation.CHANGES.items() if change(base) == base]
    assert same == ["the preset", "no self-attention hop"]


def test_the_method_has_its_settings_back_when_a_change_fails(
    dataset: Dataset, method: AttentionMethod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(settings: object) -> object:
        raise UsageError("no such change")

    before = method.localizer
    monkeypatch.setitem(ablation.CHANGES, "two noises", broken)
    with pytest.raises(UsageError, match="no such change"):
        ablation.table(method, dataset, names=["the preset", "two noises"])
    assert method.localizer == before
