"""What decides a run's answers: a change of any of it is noticed and named, and nothing else is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prisbench.datasets.load import Dataset, open_dataset
from prisbench.errors import DataError
from prisbench.evaluate import evaluate
from prisbench.methods import load_method
from prisbench.runs import RunOptions
from prisbench.runtime import identity as identities
from prisbench.runtime.identity import content_of, difference, identity
from prisbench.runtime.source_code import NO_NUMBERS, PACKAGE, sources_of
from prisbench.settings import MethodOptions

METHOD = """
import importlib, json, sys
from pathlib import Path
import numpy as np
import helper
from nets import model
from prisbench import Concept, Prediction

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "elsewhere"))
import outside

class Mine:
    name, settings = "mine", {}

    def learn(self, subject):
        return Concept("c", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        from late import LATE
        named = importlib.import_module("by_name").NAMED
        kept = json.loads((HERE / "data" / "params.json").read_text())
        level = helper.T + model.U + LATE + named + outside.O + kept + len((HERE / f"table.{1}.txt").read_text())
        return [Prediction(query.id, image[..., 0] > level, seconds=0.5) for query in queries]

def make(options):
    return Mine()
"""

FILES = {
    "method.py": METHOD,
    "helper.py": "from deeper import T\n",
    "deeper.py": "T = 61\n",
    "nets/model.py": "from .parts import U\n",
    "nets/parts.py": "U = 5\n",
    "late.py": "LATE = 4\n",
    "by_name.py": "NAMED = 3\n",
    "data/params.json": "2\n",
    "table.1.txt": "1\n",
    "../elsewhere/outside.py": "O = 1\n",
    "unused.py": "broken(\n",
    "README.md": "x\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A method with helpers, each of which moves a threshold."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mine"


@pytest.fixture(scope="module")
def dataset(tiny_dataset: Path) -> Dataset:
    return open_dataset(tiny_dataset)


def areas(run: Any) -> list[int]:
    return [query.counts.predicted_area for query in run.queries]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("method.py", "image[..., 0] > level", "image[..., 0] < level"),
        ("deeper.py", "61", "99"),
        ("nets/parts.py", "5", "9"),
        ("late.py", "4", "9"),
        ("by_name.py", "3", "9"),
        ("data/params.json", "2", "9"),
        ("table.1.txt", "1", "1" * 30),
        ("../elsewhere/outside.py", "1", "9"),
    ],
)
def test_a_change_of_what_a_method_is_made_of_is_named_and_never_answered_with_the_old_result(
    name: str, old: str, new: str, folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    def load() -> Any:
        sys.modules.pop("outside", None)  # of another folder: a new process would load it again
        return load_method(str(folder / "method.py"))

    first, path = evaluate(dataset, load(), tmp_path / "runs")
    before = path.read_bytes()
    changed = folder / name
    changed.write_text(changed.read_text().replace(old, new))
    shown = name if not name.startswith("..") else str(changed.resolve())
    with pytest.raises(DataError, match=rf"holds a run of mine as it was before: code of {shown} changed; choose"):
        evaluate(dataset, load(), tmp_path / "runs")
    assert path.read_bytes() == before
    again, _ = evaluate(dataset, load(), tmp_path / "runs", options=RunOptions(fresh=True))
    assert areas(again) != areas(first)


def test_what_a_method_does_not_use_changes_nothing(folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    first, path = evaluate(dataset, load_method(str(folder / "method.py")), tmp_path / "runs")
    before = path.read_bytes()
    for name in ("unused.py", "README.md", "new.json"):
        (folder / name).write_text("changed")
    moved = folder.rename(tmp_path / "moved")
    again, _ = evaluate(dataset, load_method(str(moved / "method.py")), tmp_path / "runs")
    assert path.read_bytes() == before and again == first


def test_another_file_with_the_same_name_gets_no_result_of_the_first(
    folder: Path, dataset: Dataset, tmp_path: Path
) -> None:
    evaluate(dataset, load_method(str(folder / "method.py")), tmp_path / "runs")
    other = folder / "other.py"
    other.write_text(METHOD.replace("Mine", "Other"))
    message = rf"class 'Mine' there, 'Other' now \({folder / 'method.py'} there, {other} now\); choose another --out"
    with pytest.raises(DataError, match=message):
        evaluate(dataset, load_method(str(other)), tmp_path / "runs")
    other.write_text(METHOD)
    with pytest.raises(DataError, match=r"code of other\.py is new \(.*method\.py there, .*other\.py now\)"):
        evaluate(dataset, load_method(str(other)), tmp_path / "runs")


def test_a_run_whose_code_was_not_recorded_is_not_gone_on_with(folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, load_method(str(folder / "method.py")), tmp_path / "runs")
    manifest = path.with_name("manifest.json")
    record = json.loads(manifest.read_text())
    del record["identity"]
    manifest.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"holds a run of an older prisbench, which did not record the method's code"):
        evaluate(dataset, load_method(str(folder / "method.py")), tmp_path / "runs")


def test_two_methods_have_helpers_of_their_own(folder: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    for name, text in FILES.items():
        path = second / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("61", "71"))
    for place, level in ((folder, 61), (second, 71), (folder, 61)):
        method = load_method(str(place / "method.py"))
        assert level == sys.modules[type(method).__module__].helper.T
        assert identity(method)["file"] == str(place / "method.py")
    assert not list(tmp_path.rglob("*.pyc"))


# --- packages, devices, weights -------------------------------------------------------------------------------------


def test_packages_are_those_that_the_code_imports_with_their_versions(folder: Path) -> None:
    found = identity(load_method(str(folder / "method.py"), MethodOptions(device="cuda:1")))
    assert list(found["packages"]) == ["numpy"] and found["device"] is None
    (folder / "late.py").write_text("import torch, no_such_package\nLATE = 4\n")
    found = identity(load_method(str(folder / "method.py"), MethodOptions(device="cuda:1")))
    assert set(found["packages"]) == {"numpy", "torch", "no_such_package"} and found["device"] == "cuda"
    assert found["packages"]["no_such_package"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packages": {"torch": "2.12.0"}}, "torch 2.13.0 there, 2.12.0 now"),
        ({"packages": {}}, "torch 2.13.0 there, not used or installed now"),
        ({"weights": {"a/b": "commit 2"}}, "weights of a/b changed"),
        ({"weights": {"a/b": "commit 1", "c": "3"}}, "weights of c is new"),
        ({"code": {}}, "code of m.py is not used any more"),
        ({"code": {"m.py": "2"}, "file": "/other/m.py"}, "code of m.py changed (/m.py there, /other/m.py now)"),
        ({"device": "cuda"}, "device 'cpu' there, 'cuda' now"),
        ({"file": "/other/m.py"}, None),
    ],
)
def test_a_difference_is_named(change: dict[str, Any], message: str | None) -> None:
    found = {"file": "/m.py", "class": "M", "code": {"m.py": "1"}, "device": "cpu"}
    found |= {"weights": {"a/b": "commit 1"}, "packages": {"torch": "2.13.0"}}
    assert difference(found, found | change) == message
    assert difference({}, found) is not None


def test_weights_are_told_apart_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.safetensors").write_bytes(b"1")
    first = content_of(tmp_path / "model")
    (tmp_path / "model" / ".cache").write_bytes(b"what a download leaves")
    assert content_of(tmp_path / "model") == first is not None
    (tmp_path / "model" / "w.safetensors").write_bytes(b"2")
    assert content_of(tmp_path / "model") != first
    assert content_of(tmp_path / "model" / "w.safetensors") == hashlib.sha256(b"2").hexdigest()[:16]
    assert content_of("no/such-model") is None and content_of("no model at all") is None
    place = str(tmp_path / "models--a--b" / "snapshots" / ("ab" * 20) / "config.json")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda id, name: place if id == "a/b" else None)
    assert content_of("a/b") == "commit " + "ab" * 20


@dataclasses.dataclass
class Plain:
    """A method of this file, with what weights it is told."""

    weights: Any = None
    model: str | None = None
    name: str = "plain"


def test_a_method_names_its_weights_or_has_a_model(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"1")
    at, digest = str(tmp_path / "w"), hashlib.sha256(b"1").hexdigest()[:16]
    for method, wanted in (
        (Plain(), {}),
        (Plain(model=at), {at: digest}),
        (Plain(weights=at), {at: digest}),
        (Plain(weights=[tmp_path / "w", "other"], model="ignored"), {at: digest, "other": None}),
        (Plain(weights={"net": "revision 3"}), {"net": "revision 3"}),
    ):
        assert identity(method)["weights"] == wanted


def test_a_class_without_a_file_is_known_by_its_functions() -> None:
    def made(body: str) -> Any:
        names: dict[str, Any] = {"__name__": "typed_in"}
        exec(f"class M:\n    def locate(self):\n        return {body}\n", names)
        return names["M"]()

    one, same, other = (identities.identity(made(body))["code"] for body in ("1", "1", "2"))
    assert one == same != other


# --- prisbench's own code -------------------------------------------------------------------------------------------


def closure(files: dict[Path, str]) -> set[str]:
    return {path.relative_to(PACKAGE).as_posix() for path in files if path.is_relative_to(PACKAGE)}


def test_attn_is_made_of_all_that_learns_and_locates_and_of_nothing_else() -> None:
    found = closure(sources_of(PACKAGE / "localizer" / "method.py").files)
    assert found >= {"localizer/method.py", "images/photos.py", "images/masks.py"}
    assert found >= {f"localizer/{name}.py" for name in ("answer", "evidence", "refine", "settings")}
    assert found >= {f"concepts/{name}.py" for name in ("learners", "training", "controls", "recipes", "weights")}
    assert found >= {f"diffusion/{name}.py" for name in ("backbone", "attention", "prompts", "encodings")}
    names = {name.removesuffix(".py").replace("/", ".") for name in found}
    parts = {".".join(name.split(".")[:n]) for name in names for n in range(1, name.count(".") + 2)}
    assert not parts & NO_NUMBERS
    files = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    every = {".".join(path.parts) for path in files} | {path.parts[0] for path in files}
    assert every >= NO_NUMBERS, "names that are gone are taken off the list"


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("from prisbench import Concept, take_settings, evaluate", set()),
        ("from prisbench.images import masks", {"images/masks.py"}),
        ("from prisbench import load_photo", {"images/photos.py"}),
        ("import prisbench.images.masks", {"images/masks.py"}),
        ("import prisbench\ndef f():\n    return prisbench.images.masks.to_rle", {"images/masks.py"}),
        ("import prisbench as p\np.images.masks.to_rle", {"images/masks.py"}),
        ("import importlib\nimportlib.import_module('prisbench.images.masks')", {"images/masks.py"}),
        ("from prisbench.images.masks import to_rle", {"images/masks.py"}),
    ],
)
def test_modules_of_prisbench_are_found_however_they_are_imported(code: str, wanted: set[str], tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(code)
    assert closure(sources_of(tmp_path / "m.py").files) >= wanted
    assert bool(closure(sources_of(tmp_path / "m.py").files)) == bool(wanted)


@pytest.mark.parametrize(
    "write", [lambda p: p.write_bytes(b"\0"), lambda p: p.write_text("def (")], ids=["nul", "syntax"]
)
def test_a_file_that_is_no_python_is_hashed_as_it_is(write: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("try:\n    import other\nexcept Exception:\n    pass\n")
    write(tmp_path / "other.py")
    assert [path.name for path in sources_of(tmp_path / "m.py").files] == ["m.py", "other.py"]


def test_line_ends_are_no_change(tmp_path: Path) -> None:
    digests = set()
    for end in (b"\n", b"\r\n"):
        (tmp_path / "m.py").write_bytes(b"x = 1" + end)
        digests |= set(sources_of(tmp_path / "m.py").files.values())
    assert len(digests) == 1


HIDING = """
from types import SimpleNamespace
from prisbench import Concept, Prediction

def make(options):
    level = options.settings.get("t", 0) + (len(open(options.model).read()) if options.model else 0)
    level += len(options.concept or "")
    locate = lambda image, queries, concepts: [Prediction(q.id, image[..., 0] > level) for q in queries]
    learn = lambda subject: Concept("c", subject.id, subject.noun, "none")
    settings = {"shown": options.settings.get("shown", 1)}
    return SimpleNamespace(name="hiding", settings=settings, learn=learn, locate=locate)
"""


def test_options_that_a_method_does_not_show_are_part_of_its_run(tmp_path: Path) -> None:
    path = tmp_path / "hiding.py"
    path.write_text(HIDING)
    for name, text in (("a", "x"), ("b", "xx")):
        (tmp_path / f"{name}.txt").write_text(text)
    warned: list[str] = []

    def of(**given: Any) -> dict[str, Any]:
        return identity(load_method(str(path), MethodOptions(warn=warned.append, **given)))

    plain = of()
    assert plain["given"] == {} and difference(plain, of()) is None
    assert difference(of(settings={"t": 50}), of(settings={"t": 150})) == "--set t 50 there, 150 now"
    assert difference(plain, of(settings={"t": 50})) == "--set t 'not given' there, 50 now"
    assert warned[0].startswith("hiding shows no setting 't'; if it has one of that name, put it into settings")
    assert of(settings={"shown": 2})["given"] == {}, "settings are compared by themselves"
    assert difference(of(concept="a"), of(concept="b")) == "--concept 'a' there, 'b' now"
    models = [of(model=str(tmp_path / f"{name}.txt")) for name in "ab"]
    assert (difference(*models) or "").startswith(f"--model '{tmp_path}/a.txt (")
    (tmp_path / "a.txt").write_text("xxxx")
    assert "a.txt (" in (difference(models[0], of(model=str(tmp_path / "a.txt"))) or "")
