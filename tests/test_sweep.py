"""Sweeps from Python: a method with several concepts and seeds, each a run, each on the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prisbench.datasets.load import open_dataset
from prisbench.errors import UnknownNameError, UsageError, WriteError
from prisbench.leaderboard.rows import load_runs, rows
from prisbench.runs import RunOptions, Scope
from prisbench.settings import MethodOptions, variants
from prisbench.sweep import Sweep, check_sweep, run_sweep

METHOD = """
import numpy as np
from prisbench import Concept, Prediction, UsageError

def check(options):
    if options.concept == "nonsense":
        raise UsageError("nonsense is no concept")

class Boxes:
    def __init__(self, options):
        self.name, self.settings, self.options = "boxes", {}, options

    def learn(self, subject):
        self.options.progress(1, 1, 0.5)
        return Concept(f"{self.options.concept}-{subject.id}", subject.id, subject.noun, self.options.concept)

    def cost(self, size_hw):
        return f"about a second for {size_hw}"

    def locate(self, image, queries, concepts):
        mask = np.zeros(image.shape[:2], bool)
        mask[: 2 + self.options.seed, :4] = True
        return [Prediction(query.id, mask, seconds=0.5) for query in queries]

def make(options):
    return Boxes(options)
"""


@pytest.fixture
def method(tmp_path: Path) -> str:
    (tmp_path / "method.py").write_text(METHOD)
    return str(tmp_path / "method.py")


def test_every_concept_with_every_seed_is_a_run_and_stands_on_the_leaderboard(
    method: str, tiny_dataset: Path, tmp_path: Path
) -> None:
    wanted = variants(MethodOptions(), ["big", "small"], [0, 1])
    sweep = Sweep(method, wanted, tmp_path / "runs", leaderboards=tmp_path / "boards")
    check_sweep(sweep)
    lines: list[str] = []
    steps: list[tuple[int, int, float]] = []
    stages: list[str] = []
    finished = run_sweep(
        sweep,
        open_dataset(tiny_dataset),
        progress=lambda stage, *_: stages.append(stage),
        learning=lambda *step: steps.append(step),
        say=lines.append,
    )
    assert [(each.run.concept, each.run.seed) for each in finished] == [
        ("big", 0), ("big", 1), ("small", 0), ("small", 1)
    ]  # fmt: skip
    assert all(json.loads(each.path.read_text())["seed"] == each.run.seed for each in finished)
    assert lines == ["about a second for (12, 20)"], "once, before the first run"
    assert steps == [(1, 1, 0.5)] * 8 and set(stages) == {"learn", "locate"}
    runs = load_runs(tmp_path / "boards" / "tiny-v1")
    assert len(runs) == 4 and [row["seeds"] for row in rows(runs).to_dict("records")] == [[0, 1], [0, 1]]


def test_a_part_of_a_split_is_run_but_not_put_on_a_leaderboard(method: str, tiny_dataset: Path, tmp_path: Path) -> None:
    wanted = variants(MethodOptions(), ["big"])
    part = Sweep(method, wanted, tmp_path / "runs", Scope(limit=3), RunOptions(fail_on_error=True))
    check_sweep(part)
    (finished,) = run_sweep(part, open_dataset(tiny_dataset))
    assert len(finished.run.queries) == 3 and finished.path.parent.name == "boxes--big--spread-3"
    with pytest.raises(UsageError, match="--leaderboards wants a whole run of a split"):
        check_sweep(Sweep(method, wanted, tmp_path / "runs", Scope(limit=3), leaderboards=tmp_path / "boards"))


def test_what_makes_no_sense_is_found_before_anything_is_run(method: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nonsense is no concept"):
        check_sweep(Sweep(method, variants(MethodOptions(), ["big", "nonsense"]), tmp_path / "runs"))
    with pytest.raises(UnknownNameError, match="centre-box"):
        check_sweep(Sweep("centre-box", [MethodOptions()], tmp_path / "runs"))
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file"):
        check_sweep(Sweep(method, [MethodOptions()], tmp_path / "file"))
