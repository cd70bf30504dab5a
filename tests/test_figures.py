"""A paper's figures: widths of templates, the same bytes twice, the queries of a grid, nothing without matplotlib."""

from __future__ import annotations

import builtins
import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from prisbench.cli.main import app
from prisbench.datasets.load import open_dataset
from prisbench.errors import MissingExtraError, UnknownNameError
from prisbench.figures import charts, grid, style
from prisbench.figures.chosen import CHOICES, disputed, failures, successes
from prisbench.figures.write import Plan, write_figures
from prisbench.leaderboard.rows import load_runs, records_of, rows
from tests import leaderboards


@pytest.fixture(scope="module")
def results(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return leaderboards.make(tiny_dataset, tmp_path_factory.mktemp("made"))


def test_figures_have_the_template_s_width_and_the_same_bytes_twice(
    results: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    plans = [Plan(tmp_path / name, style.template("cvpr"), style.FORMATS, 2) for name in "ab"]
    first, second = (write_figures(results, plan, lambda _: open_dataset(tiny_dataset)) for plan in plans)
    names = ["intervals", "accuracy-and-time", "by-subset", "examples"]
    assert [path.stem for path in first.paths[::3]] == names and first.why is None
    for one, two in zip(first.paths, second.paths, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name
    widths = {path.stem: Image.open(path).width / style.DPI for path in first.paths if path.suffix == ".png"}
    assert widths["intervals"] == pytest.approx(3.25, abs=0.01)
    assert widths["by-subset"] == widths["examples"] == pytest.approx(6.875, abs=0.01)
    svg = (tmp_path / "a" / "intervals.svg").read_text()
    assert 'width="234pt"' in svg and "<dc:date>" not in svg
    assert b"CreationDate" not in (tmp_path / "a" / "intervals.pdf").read_bytes()
    bare = write_figures(results, plans[0], lambda _: None)
    assert bare.why == "the dataset is not here; name its folder with --data" and len(bare.paths) == 9


def test_points_and_front_are_those_of_the_table(results: Path) -> None:
    points, label = charts.points_of(records_of(rows(load_runs(results))))
    assert label == "mIoU" and [point.name for point in points] == ["center-box", "whole-image"]
    numbers = [("slow", 0.9, 2.0), ("fast", 0.5, 0.1), ("worse", 0.4, 0.2), ("untimed", 1.0, None), ("level", 0.9, 3.0)]
    made = [charts.Point(name, 1, value, None, seconds) for name, value, seconds in numbers]
    assert [point.name for point in charts.front(made)] == ["fast", "slow"]
    assert charts.front(points) == [], "rows without a tier are on no front"
    assert charts.front([made[0], made[1]._replace(tier=None)]) == [made[0]]


def test_a_grid_shows_a_query_a_type_where_methods_disagree_most(results: Path, tiny_dataset: Path) -> None:
    runs = load_runs(results)
    kinds = {query.query_id: query.query_type for query in runs[0].queries}
    chosen = disputed(runs, 4)
    assert [kinds[each] for each in chosen] == ["look-alike", "relation", "absent", "other-category"]
    assert len(set(disputed(runs, 9))) == 9
    one = next(q for q in runs[0].queries if q.query_id == chosen[0])
    other = next(q for q in runs[0].queries if q.query_type == one.query_type and q.query_id != one.query_id)
    area = other.counts.truth_area
    counts = dataclasses.replace(other.counts, intersection=area, union=area, predicted_area=area)
    swayed = dataclasses.replace(
        runs[0], queries=tuple(dataclasses.replace(q, counts=counts) if q is other else q for q in runs[0].queries)
    )
    assert disputed([swayed, *runs[1:]], 1) == [other.query_id]
    example = next(open_dataset(tiny_dataset).examples("test"))
    blank = grid.painted(dataclasses.replace(example, look_alikes=()), None)
    assert np.array_equal((blank != example.image).any(-1), example.mask), "what is left out is painted, nothing else"


def test_successes_and_failures_are_the_ends_of_the_first_row(results: Path) -> None:
    boxes, whole = load_runs(results)
    scores = {query.query_id: query.counts for query in boxes.queries}
    best, worst = successes([boxes, whole], 5), failures([boxes, whole], 5)
    assert best != successes([whole, boxes], 5), "the first row's own"
    found = [(scores[one].intersection / scores[one].union, scores[two].intersection / scores[two].union)
             for one, two in zip(best, worst, strict=True) if scores[one].truth_area]  # fmt: skip
    assert len(found) >= 3 and all(one >= two for one, two in found) and any(one > two for one, two in found)
    absent = [query for query in boxes.queries if query.query_type == "absent"]
    assert all(query.counts.predicted_area for query in absent), "false alarms, all of them"
    surest = dataclasses.replace(absent[-1], presence=0.9)
    swayed = dataclasses.replace(
        boxes,
        queries=tuple(
            surest if query is absent[-1] else dataclasses.replace(query, presence=0.5) for query in boxes.queries
        ),
    )
    assert surest.query_id in failures([swayed], 5) and surest.query_id not in successes([swayed], 5)


def test_rows_are_shown_by_name(results: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plan = Plan(tmp_path, style.template("cvpr"), ("svg",), 2, "failures", ("whole-image / none",))
    drawn = write_figures(results, plan, lambda _: open_dataset(tiny_dataset))
    said = (tmp_path / "examples.svg").read_text()
    assert drawn.why is None and "whole-image" in said and "center-box" not in said
    with pytest.raises(UnknownNameError, match="unknown row of the table 'whole-image': "):
        write_figures(results, plan._replace(rows=("whole-image",)), lambda _: None)
    done = CliRunner().invoke(app, ["plot", "tiny-v1", "--folder", str(results.parent), "--examples", "succeses"])
    assert isinstance(done.exception, UnknownNameError) and "did you mean 'successes'?" in str(done.exception)
    assert sorted(CHOICES) == ["disputed", "failures", "successes"]


def test_mistakes_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match=re.escape("unknown template 'cvrp': did you mean 'cvpr'?")):
        style.template("cvrp")
    with pytest.raises(UnknownNameError, match="unknown format 'jpg'"):
        style.check_formats(("pdf", "jpg"))
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"drawing figures needs matplotlib.*pip install 'prisbench\[plot\]'"):
        style.check_matplotlib()
