"""Which subsets a query is in, and that a dataset, a run and a table say the same of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench.datasets import load
from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.errors import UnknownNameError
from prisbench.methods import load_method
from prisbench.runs import Scope, run_folder
from prisbench.settings import MethodOptions
from prisbench.subsets import GRADED, NAMED, SUBSETS, check_subset, is_within, subset_of
from prisbench.types import QUERY_TYPES, Thing
from tests.drawing import draw_box, draw_scene

SIZE = (12, 20)
TRUTH, LEFT, RIGHT = (draw_box(SIZE, 2, x, 8, x + 4) for x in (1, 7, 13))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A mug with seven scenes; the last two are of types that have grades, too, and no subsets of them."""
    subject = SubjectRow("mug", (draw_scene(0),), "test", "CC0-1.0", "drawn")
    asked: list[tuple[str, tuple[str | None, ...], str | None]] = [
        ("plain", (), None),
        ("look-alike", ("colour",), None),
        ("look-alike", ("colour", "build"), None),
        ("look-alike", (None,), None),
        ("look-alike", ("copy",), None),
        ("relation", ("colour",), None),
        ("absent", ("colour",), None),
    ]
    rows = []
    for n, (kind, grades, pair) in enumerate(asked):
        there = kind != "absent"
        alike = [Thing(mask, "mug", "look-alike", grade) for mask, grade in zip((LEFT, RIGHT), grades, strict=False)]
        found: dict[str, Any] = {
            "things": (*([Thing(TRUTH, "mug", "subject")] if there else []), *alike),
            "meant": 0 if there else None,
            "pair_id": pair,
        }
        mask = TRUTH if there else np.zeros(SIZE, bool)
        look_alikes = tuple(each.mask for each in alike)
        rows.append(
            QueryRow(
                subject.id, "mug", draw_scene(n + 1, SIZE), f"the {{subject}} {n}", kind, mask, look_alikes,
                "test", "CC0-1.0", "drawn", **found,
            )
        )  # fmt: skip
    write_dataset(tmp_path / "set", NewDataset("graded", "1", [subject], rows, "# Graded\n"))
    return open_dataset(tmp_path / "set")


def test_a_query_has_one_name_that_says_most_of_it() -> None:
    assert subset_of("look-alike", "build") == "look-alike:build"
    assert subset_of("look-alike", "mixed") == "look-alike:mixed"
    assert subset_of("look-alike", None) == subset_of("look-alike", "copy") == "look-alike"
    assert subset_of("referred", "build") == "referred", "only the type look-alike is split"
    assert [each.partition(":")[2] for each in GRADED] == ["colour", "second", "pattern", "swap", "build", "mixed"]
    assert set(QUERY_TYPES) | set(GRADED) == set(NAMED) == set(SUBSETS) - {"present"}


@pytest.mark.parametrize(
    ("named", "inside"),
    [
        ("look-alike:colour", ["present", "look-alike", "look-alike:colour"]),
        ("look-alike", ["present", "look-alike"]),
        ("relation", ["present", "relation"]),
        ("absent", ["absent"]),
        ("contradicted", ["contradicted"]),
    ],
)
def test_a_name_is_inside_of_its_type_and_of_present(named: str, inside: list[str]) -> None:
    assert [subset for subset in SUBSETS if is_within(subset, named)] == inside
    assert is_within(None, named)


def test_an_unknown_subset_offers_the_nearest() -> None:
    check_subset(None)
    check_subset("look-alike:swap")
    with pytest.raises(UnknownNameError, match="unknown subset 'look-alike:color': did you mean 'look-alike:colour'"):
        check_subset("look-alike:color")


@pytest.mark.parametrize(
    ("subset", "texts"),
    [
        ("look-alike:colour", [1]),
        ("look-alike:mixed", [2]),
        ("look-alike", [1, 2, 3, 4]),
        ("look-alike:build", []),
        ("present", [0, 1, 2, 3, 4, 5]),
        ("absent", [6]),
    ],
)
def test_a_dataset_gives_the_examples_of_a_subset(dataset: Dataset, subset: str, texts: list[int]) -> None:
    found = [int(example.query.text[-1]) for example in dataset.examples("test", subset=subset)]
    assert found == texts
    assert [each.query.text for each in dataset.examples("test", 1, subset)] == [
        each.query.text for each in dataset.examples("test", subset=subset)
    ][:1] or len(texts) > 1


def test_a_limit_and_a_subject_go_with_a_graded_subset(dataset: Dataset) -> None:
    subject = dataset.subjects("test")[0].id
    found = list(dataset.examples("test", 3, "look-alike:colour", [subject]))
    assert [example.query.text for example in found] == ["the {subject} 1"]


def test_a_limit_meets_every_grade_and_reads_no_masks_to_choose(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    types, kinds = [0, 1, 1, 1, 1, 5, 6], [0, 1, 2, 3, 3, 5, 6]  # copies alone are no grade
    read: set[str] = set()
    whole = load.row_groups

    def noted(path: Path, table: str, columns: Sequence[str] | None = None) -> Iterator[Any]:
        read.update(columns or ("everything",))
        return whole(path, table, columns)

    monkeypatch.setattr(load, "row_groups", noted)
    parts = [[int(each.query.text[-1]) for each in dataset.examples("test", limit)] for limit in range(1, 8)]
    assert {types[n] for n in parts[3]} == {*types} and {kinds[n] for n in parts[5]} == {*kinds}
    assert all(set(less) < set(more) for less, more in itertools.pairwise(parts)) and parts[6] == [*range(7)]
    assert read == {
        *("image_id", "id", "subject_id", "noun", "query_type"),
        *("things.list.element.role", "things.list.element.grade"),
    }


def test_a_run_of_a_graded_subset_has_a_folder_that_every_file_system_takes(dataset: Dataset, tmp_path: Path) -> None:
    method = load_method("center-box", MethodOptions())
    folder = run_folder(tmp_path, dataset, method, "none", Scope(subset="look-alike:colour"))
    assert folder.name == "center-box--none--look-alike-colour"
