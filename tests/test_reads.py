"""What a method reads while it works belongs to its run, whatever its code calls the file; what it writes does not."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from prisbench.datasets.load import Dataset, open_dataset
from prisbench.errors import DataError
from prisbench.evaluate import evaluate
from prisbench.methods import load_method
from prisbench.results import read_run
from prisbench.runtime.reads import Touched, files_of, watching
from prisbench.score import score_folder

METHOD = """
import importlib, os, sys
from pathlib import Path
from types import SimpleNamespace
from prisbench import Concept, Prediction

HERE = Path(__file__).parent
kinds = sorted(int(path.read_text()) for path in (HERE / "kinds").iterdir())

def learn(subject):
    with open(HERE / "log.txt", "a") as log:
        print(subject.id, file=log)
    seen = HERE / "seen.json"
    seen.with_name("seen.tmp").write_text((seen.read_text() if seen.is_file() else "") + ".")
    os.replace(seen.with_name("seen.tmp"), seen)
    return Concept("c", subject.id, subject.noun, "none")

def locate(image, queries, concepts):
    level = int((HERE.parent / "level.dat").read_text()) + importlib.import_module("late" + "r").T + kinds[0]
    return [Prediction(query.id, image[..., 0] > level, seconds=0.5) for query in queries]

def make(options):
    return SimpleNamespace(name="mine", settings={}, learn=learn, locate=locate)
"""


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return open_dataset(tiny_dataset)


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = tmp_path / "mine"
    (folder / "kinds").mkdir(parents=True)
    for name, text in {"method.py": METHOD, "later.py": "T = 1", "kinds/a": "2", "../level.dat": "60"}.items():
        (folder / name).write_text(text)
    return folder / "method.py"


@pytest.mark.parametrize(
    ("name", "now", "message"),
    [
        ("later.py", "T = 90", r"later\.py, which the method reads, changed"),
        ("kinds/a", "90", r"kinds/a, which the method reads, changed"),
        ("../level.dat", "90", r"level\.dat, which the method reads, changed"),
        ("method.py", METHOD.replace("> level", "< level"), r"code of method\.py changed"),
    ],
)
def test_a_file_that_the_code_does_not_name_is_noticed_when_it_changes(
    name: str, now: str, message: str, method: Path, dataset: Dataset, tmp_path: Path
) -> None:
    evaluate(dataset, load_method(str(method)), tmp_path / "runs")
    (method.parent / name).write_text(now)
    with pytest.raises(DataError, match=f"as it was before: .*{message}"):
        evaluate(dataset, load_method(str(method)), tmp_path / "runs")


def test_what_a_method_writes_itself_keeps_no_run_from_going_on(method: Path, dataset: Dataset, tmp_path: Path) -> None:
    first, path = evaluate(dataset, load_method(str(method)), tmp_path / "runs")
    for _ in range(2):
        again, _ = evaluate(dataset, load_method(str(method)), tmp_path / "runs")
        assert again.queries == first.queries
    record = json.loads((path.parent / "manifest.json").read_text())["identity"]
    assert sorted(record["read"]) == [str(tmp_path / "level.dat"), "kinds/a", "later.py"]
    assert record["written"] == ["log.txt", "seen.json", "seen.tmp"]


def test_the_record_of_a_run_names_what_was_read_and_written_without_the_places_of_this_machine(
    method: Path, dataset: Dataset, tmp_path: Path
) -> None:
    method.write_text(METHOD.replace('HERE / "log.txt"', 'HERE.parent / "log.txt"'))
    whole, path = evaluate(dataset, load_method(str(method)), tmp_path / "runs")
    assert sorted(whole.identity["read"]) == ["kinds/a", "later.py", "level.dat"]
    assert whole.identity["written"] == ["log.txt", "seen.json", "seen.tmp"]
    assert score_folder(path.parent, dataset).identity == whole.identity == read_run(path).identity


def test_only_what_is_opened_within_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c", ".cache"):
        Path(name).write_text(name)
    touched = Touched()
    Path("a").read_bytes()
    with watching(touched):
        Path("b").read_bytes()
        Path(".cache").read_bytes()
        Path("gone").exists()
        os.close(os.open("c", os.O_RDWR))
        Path(sys.executable).open("rb").close()
    assert list(touched.record(tmp_path, {})["read"]) == ["b"]
    assert touched.record(tmp_path, {"b": ""}) == {"read": {}, "written": ["c"]}


def test_files_stay_with_their_method_also_where_it_cannot_be_referred_to_weakly() -> None:
    one, other = SimpleNamespace(), 5.5
    assert files_of(one) is files_of(one) is not files_of(other)
    assert files_of(other) is files_of(other)
