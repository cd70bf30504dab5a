"""Publishing: a run among the result files of its dataset, and every leaderboard held to its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from prisbench.errors import DataError
from prisbench.leaderboard.publish import check_leaderboards, publish
from prisbench.leaderboard.rows import load_runs
from prisbench.results import DatasetRef
from tests.test_leaderboard import CONTROL, FLOOR, LEARNED


def test_published_runs_stand_in_one_leaderboard_whose_tables_follow_from_them(tmp_path: Path) -> None:
    root = tmp_path / "leaderboards"
    (tmp_path / "README.md").write_text("# Mine\n\n<!-- table tabletop-v1 -->\n<!-- /table -->\n\nThe end.\n")
    places = [publish(run, root) for run in (LEARNED, CONTROL, FLOOR)]
    assert places[0] == root / "tabletop-v1" / "attn--textual-inversion.json"
    assert {run.concept for run in load_runs(root / "tabletop-v1")} == {"textual-inversion", "noun-only", "none"}
    assert "| center-box |" in (tmp_path / "README.md").read_text()
    (found,) = check_leaderboards(root)
    assert (found.folder, found.result_files, found.complaint, found.changes) == (root / "tabletop-v1", 3, None, ())


def test_another_split_and_another_seed_have_places_of_their_own(tmp_path: Path) -> None:
    chosen_on = dataclasses.replace(FLOOR, dataset=dataclasses.replace(FLOOR.dataset, split="validation"))
    assert publish(chosen_on, tmp_path / "l").parent.name == "tabletop-v1-validation"
    assert publish(dataclasses.replace(FLOOR, seed=3), tmp_path / "l").name == "center-box--none--seed-3.json"
    assert [each.folder.name for each in check_leaderboards(tmp_path / "l")] == [
        "tabletop-v1",
        "tabletop-v1-validation",
    ]


def test_nothing_is_written_for_a_run_that_may_not_stand_there(tmp_path: Path) -> None:
    publish(FLOOR, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = dataclasses.replace(LEARNED, dataset=DatasetRef("tabletop", "v1", "sha256:bbbb", "test"))
    with pytest.raises(DataError, match=r"center-box--none\.json: a result file of another dataset version"):
        publish(other, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_table_that_does_not_follow_from_the_files_is_told_with_its_cure(tmp_path: Path) -> None:
    root, page = tmp_path / "leaderboards", tmp_path / "README.md"
    page.write_text("<!-- table tabletop-v1 -->\n<!-- /table -->\n")
    publish(FLOOR, root)
    page.write_text(page.read_text().replace("center-box", "centre-box"))
    (found,) = check_leaderboards(root)
    assert found.complaint is not None and f"its table is not what {root / 'tabletop-v1'} says" in found.complaint
    assert any(line.startswith("-") and "centre-box" in line for line in found.changes)
    (root / "tabletop-v1" / "README.md").write_text("by hand\n")
    (found,) = check_leaderboards(root)
    assert found.complaint is not None and "does not agree with the result files beside it; make it" in found.complaint
    with pytest.raises(DataError, match="holds no leaderboards: no result files in its folders"):
        next(check_leaderboards(tmp_path / "gone"))
