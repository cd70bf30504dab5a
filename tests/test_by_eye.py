"""Sheets of queries for a person, and the count of right answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prisbench.bench.by_eye import choose, count_right, draw_sheets, numbered, read_right, shuffled, subset_of
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import build_tabletop
from prisbench.datasets.sources.tabletop import Size
from prisbench.errors import DataError
from prisbench.types import Thing

GROUPS = {"plain": 1, "look-alike:swap": 1, "look-alike:mixed": 1, "relation": 1, "referred": 1}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("world") / "set"
    build_tabletop(folder, Size({"validation": 2}, GROUPS))
    return open_dataset(folder)


def test_each_subset_is_asked_as_often_and_subjects_take_turns(dataset: Dataset) -> None:
    chosen = choose(dataset.examples("validation"), 2, 0)
    subsets = sorted(subset_of(example) for example in chosen)
    names = ["contradicted", "look-alike:mixed", "look-alike:swap", "plain", "referred", "relation"]
    assert subsets == sorted(2 * names)
    for name in names:
        assert len({one.query.subject_id for one in chosen if subset_of(one) == name}) == 2, name
    again = choose(reversed(list(dataset.examples("validation"))), 2, 0)
    assert {one.query.id for one in again} <= {one.query.id for one in dataset.examples("validation")}


def test_the_answer_is_the_number_of_the_thing_that_is_meant(dataset: Dataset) -> None:
    for example in dataset.examples("validation"):
        things, answer = shuffled(example, 0)
        assert sorted(map(id, things)) == sorted(map(id, example.things))
        if answer:
            np.testing.assert_array_equal(things[answer - 1].mask, example.mask)
        else:
            assert not example.mask.any()
        assert shuffled(example, 0)[1] == answer


def test_numbers_stand_on_their_things() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    left, right = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    left[15:25, 5:15], right[15:25, 45:55] = True, True
    drawn = numbered(image, [Thing(left, "mug", "other"), Thing(right, "mug", "other")])
    assert drawn.shape == (120, 180, 3)
    bright = np.nonzero(drawn[..., 0] > 200)[1]
    assert set(bright // 60) == {0, 2}


def test_sheets_texts_and_key_go_together(dataset: Dataset, tmp_path: Path) -> None:
    sheets = draw_sheets(dataset, "validation", tmp_path, 2)
    key, texts = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("key", "texts"))
    assert key.keys() == texts.keys() == {str(n) for n in range(1, 13)} and sheets == 3
    assert all("[" in text and "{subject}" not in text for text in texts.values())
    assert Image.open(tmp_path / "sheet-01.png").width > 1000
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps({n: one["answer"] for n, one in key.items()}))
    assert set(read_right(tmp_path / "key.json", answers).values()) == {(2, 2)}
    answers.write_text(json.dumps({n: one["answer"] + 1 for n, one in key.items()}))
    assert set(read_right(tmp_path / "key.json", answers).values()) == {(0, 2)}


def test_a_missing_answer_and_a_file_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answer to query 2 of the sheets"):
        count_right({"1": {"subset": "plain", "answer": 1}, "2": {"subset": "plain", "answer": 0}}, {"1": 1})
    (tmp_path / "key.json").write_text("{}")
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(DataError, match=r"a\.json is no JSON object of answers by number"):
        read_right(tmp_path / "key.json", tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"1": "x"}')
    with pytest.raises(DataError, match="an answer is the number of a thing, 0 for none"):
        read_right(tmp_path / "key.json", tmp_path / "a.json")
