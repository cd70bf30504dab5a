"""The bench of datasets: both sides see the same rows, a kill is a kill, and memory is the process's own."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from prisbench.bench.dataset import (
    EACH,
    TASKS,
    DatasetTask,
    KilledError,
    bench_dataset,
    drawn_source,
    in_a_process,
    render,
    resumed,
    run,
)
from prisbench.bench.process import peak_bytes
from prisbench.datasets.build import build
from prisbench.datasets.load import open_dataset
from prisbench.errors import UsageError

SIZE_HW = (12, 20)


def test_drawn_rows_are_a_dataset_with_every_type_in_both_splits(tmp_path: Path) -> None:
    manifest = build(tmp_path / "bench", drawn_source(11 * EACH, SIZE_HW))
    assert manifest.subjects == {"validation": 2, "test": 9}
    assert manifest.queries["validation"] == dict.fromkeys(manifest.queries["test"], 2 * EACH // 5)
    assert len(manifest.queries["test"]) == 5 and sum(manifest.images.values()) == 11 * EACH


def test_drawn_rows_go_on_anywhere_as_if_they_had_begun_there() -> None:
    source = drawn_source(2 * EACH + 7, SIZE_HW)
    for start in (0, EACH - 1, EACH, EACH + 3):
        there = itertools.islice(source.queries(0), start, None)
        assert [row.digest for row in source.queries(start)] == [row.digest for row in there]
    assert source.key != drawn_source(2 * EACH + 8, SIZE_HW).key
    assert {row.subject_id for row in source.queries(0)} == {row.id for row in source.subjects()}


def test_both_sides_read_and_write_the_same_rows(tmp_path: Path) -> None:
    found = {task: run(DatasetTask(task, tmp_path / task.split()[-1], 55, SIZE_HW)) for task in TASKS}
    assert found["load ours"]["checksum"] == found["load plain"]["checksum"]
    assert all(each["seconds"] > 0 and each["peak_mb"] > 50 for each in found.values())
    assert open_dataset(tmp_path / "ours").digest == found["build ours"]["digest"]
    assert found["build ours"]["files"] == len(list((tmp_path / "ours").glob("*/*.parquet")))


def test_other_rows_would_be_noticed(tmp_path: Path) -> None:
    run(DatasetTask("build ours", tmp_path / "a", 55, SIZE_HW))
    run(DatasetTask("build ours", tmp_path / "b", 55, (12, 21)))
    sums = [run(DatasetTask("load ours", tmp_path / name, 55, SIZE_HW))["checksum"] for name in "ab"]
    assert sums[0] != sums[1]


def test_a_killed_build_goes_on_and_ends_with_the_same_digest(tmp_path: Path) -> None:
    said: list[str] = []
    found = resumed(tmp_path / "killed", 600, SIZE_HW, said.append)
    assert found["killed_at"] == 400 and found["rows_kept"] > 0
    assert found["rows_kept"] + found["rows_redone"] == 400
    assert 0 <= found["rows_redone"] < 200
    assert found["digest"] == build(tmp_path / "whole", drawn_source(600, SIZE_HW)).digest
    assert said[0].startswith("killed at row 400") and said[1].endswith("rows made once more")


def test_a_process_that_dies_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(KilledError, match=r"the process for 'build ours' was killed, .*; take fewer --rows"):
        in_a_process(DatasetTask("build ours", tmp_path / "x", 55, SIZE_HW, killed_at=1))
    assert not (tmp_path / "x").exists()


def test_what_a_user_can_mend_comes_back_from_the_process(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dataset at"):
        in_a_process(DatasetTask("load ours", tmp_path / "nothing", 55, SIZE_HW))


def test_the_peak_of_the_process_grows_with_what_it_holds() -> None:
    before = peak_bytes()
    assert before is not None
    held = np.ones(before // 8 + 5_000_000)
    after = peak_bytes()
    assert after is not None and after - before > 30_000_000
    assert held.size


@pytest.mark.parametrize(("rows", "size_hw", "repeats"), [(EACH - 1, (32, 40), 1), (99, (7, 40), 1), (99, (32, 40), 0)])
def test_numbers_that_make_no_sense_are_refused(rows: int, size_hw: tuple[int, int], repeats: int) -> None:
    with pytest.raises(UsageError, match=rf"{rows} rows .* {repeats} repeats: give {EACH} rows, 8 pixels and 1 repeat"):
        bench_dataset(rows, size_hw, repeats)


@pytest.mark.slow
def test_the_record_says_what_was_measured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    record = json.loads(json.dumps(bench_dataset(60, SIZE_HW, work=tmp_path), allow_nan=False))
    assert list(tmp_path.iterdir()) == []
    assert record["same_rows"] and record["same_digest_after_kill"]
    assert record["ratio"] == pytest.approx(record["ours"] / record["reference"])
    assert record["ours"] == pytest.approx(60 / record["build_ours"]["seconds"])
    assert record["unit"] == "rows per second, built" and set(record["environment"]) >= {"python", "cpu_count"}
    text = render(record)
    assert "60 rows of 12 x 20 pixels, 2 subjects" in text and "the same digest: yes" in text
    assert all(any(line.startswith(task) for line in text.splitlines()) for task in TASKS)
