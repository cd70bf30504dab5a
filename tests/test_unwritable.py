"""Places that cannot be written are found before the work, and what was learned is never lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import tiny
from PIL import Image

from prisbench import learning
from prisbench.concepts.checkpoints import checkpoint_path
from prisbench.concepts.learners import learn
from prisbench.concepts.recipes import Recipe, default_recipe
from prisbench.concepts.store import read_concept
from prisbench.concepts.watch import Watch
from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import BackboneError, WriteError
from prisbench.runtime.files import check_new_folder, check_writable
from prisbench.types import Subject
from tests.command_line import called
from tests.drawing import draw_box, draw_scene

QUICK = [
    f"--set={one}"
    for one in (
        *("learner.steps=2", "learner.batch=1", "localizer.refine=none", "localizer.samples=1"),
        'localizer.evidence={"timesteps":[500],"samples":1}',
    )
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A pipeline and photos that anybody can read; ``place`` makes places in it."""
    made = Path(tempfile.mkdtemp())
    tiny.save(made / "tiny")
    (made / "photos").mkdir()
    for i in range(2):
        Image.fromarray(draw_scene(i, (112, 144))).save(made / "photos" / f"{i}.png")
    for path in (made, *made.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(folder / "tiny")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that is there and that nobody may write."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o555)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


@pytest.fixture
def open_() -> Iterator[Path]:
    """A folder that anybody may write."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


Prisbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def taken(open_: Path) -> Path:
    """Where no folder can be made, for anybody: a file has its name.  (Commands load much that root alone may read.)"""
    (open_ / "taken").write_text("a file")
    return open_ / "taken"


@pytest.fixture
def prisbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Prisbench:
    """The command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    return partial(called, monkeypatch, capfd)


def subject() -> Subject:
    return Subject("mug", "mug", (draw_scene(0, (112, 144)),))


def short(steps: int = 4) -> Recipe:
    recipe = default_recipe("embedded", "textual-inversion")
    return dataclasses.replace(recipe, loop=dataclasses.replace(recipe.loop, steps=steps, batch=1))


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_root")
def test_whether_a_folder_can_be_written_is_tried_out_and_leaves_nothing(closed: Path, open_: Path) -> None:
    (open_ / "file").write_text("mine")
    for place in (open_, open_ / "new" / "one"):
        check_writable(place)
    with pytest.raises(
        WriteError, match=r"^cannot write .*/a/b: no permission; choose a place you may write to; cure$"
    ):
        check_writable(closed / "a" / "b", "cure")
    with pytest.raises(WriteError, match=r"^cannot write .*/file/in: a file stands where a folder is wanted$"):
        check_writable(open_ / "file" / "in")
    assert [path.name for path in open_.iterdir()] == ["file"] and not any(closed.iterdir())


@pytest.mark.usefixtures("without_root")
def test_what_a_new_folder_would_meet_is_told_before(closed: Path, open_: Path) -> None:
    (open_ / "full").mkdir()
    (open_ / "full" / "thesis.tex").write_text("mine")
    check_new_folder(open_ / "new")
    with pytest.raises(WriteError, match=r"holds something else \(no concept\.json in it\)"):
        check_new_folder(open_ / "full", overwrite=True, marker="concept.json")
    with pytest.raises(WriteError, match=r"full already exists"):
        check_new_folder(open_ / "full")
    with pytest.raises(WriteError, match="no permission"):
        check_new_folder(closed / "new")
    assert [path.name for path in open_.iterdir()] == ["full"]


# --- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_root")
def test_nothing_is_learned_in_vain(backbone: Backbone, closed: Path) -> None:
    steps: list[int] = []
    watch = Watch(lambda step, *_: steps.append(step), store=closed / "store")
    with pytest.raises(WriteError, match=r"^cannot write .*/store: no permission; .*; .*PRISBENCH_HOME names another"):
        learn(backbone, subject(), "textual-inversion", short(), 0, watch)
    assert steps == []


@pytest.mark.usefixtures("without_root")
def test_the_spare_place_keeps_what_the_store_cannot(backbone: Backbone, closed: Path, open_: Path) -> None:
    lines: list[str] = []
    watch = Watch(None, lines.append, closed / "store", spare=open_ / "spare")
    concept = learn(backbone, subject(), "textual-inversion", short(), 0, watch)
    whole = learn(backbone, subject(), "textual-inversion", short())
    kept = read_concept(open_ / "spare" / concept.id)
    assert np.array_equal(kept.tensors["vectors"], whole.tensors["vectors"])
    assert sum("are kept in" in line and "no permission" in line for line in lines) == 1
    again: list[int] = []
    learn(backbone, subject(), "textual-inversion", short(), 0, dataclasses.replace(watch, progress=again.append))
    assert again == []  # it was found there


class Stop(Exception):
    pass


@pytest.mark.usefixtures("without_root")
def test_a_store_that_is_lost_on_the_way_loses_nothing(backbone: Backbone, open_: Path) -> None:
    """As a disk that fills up: the second checkpoint and the concept find no place in the store."""
    store, spare, lines = open_ / "store", open_ / "spare", list[str]()

    def close(step: int, *_: object) -> None:
        if step == 2:
            store.chmod(0o555)
            next(store.iterdir()).chmod(0o555)
        if step == 4:
            raise Stop

    watch = Watch(close, lines.append, store, 0.0, spare=spare)
    with pytest.raises(Stop):
        learn(backbone, subject(), "textual-inversion", short(6), 0, watch)
    (earlier,) = store.iterdir()
    whole = learn(backbone, subject(), "textual-inversion", short(6))
    assert checkpoint_path(spare, whole.id).is_file()
    assert sum("learning goes on, its checkpoints are kept in" in line for line in lines) == 1
    steps: list[int] = []
    watch = dataclasses.replace(watch, progress=lambda step, *_: steps.append(step))
    learned = learn(backbone, subject(), "textual-inversion", short(6), 0, watch)
    assert steps[0] == 4 and np.array_equal(learned.tensors["vectors"], whole.tensors["vectors"])
    assert read_concept(spare / learned.id).id == learned.id and not checkpoint_path(spare, learned.id).exists()
    earlier.chmod(0o755)
    store.chmod(0o755)


@pytest.mark.usefixtures("without_root")
def test_a_concept_that_finds_no_place_in_the_store_at_the_end_is_kept(backbone: Backbone, open_: Path) -> None:
    store, spare, lines = open_ / "store", open_ / "spare", list[str]()
    store.mkdir()
    watch = Watch(lambda *_: store.chmod(0o555), lines.append, store, 3600.0, spare=spare)
    learned = learn(backbone, subject(), "textual-inversion", short(1), 0, watch)
    assert read_concept(spare / learned.id).id == learned.id
    assert any(line.endswith(f"concept {learned.id} is kept in {spare} instead") for line in lines)
    store.chmod(0o755)


# --- commands -------------------------------------------------------------------------------------------------------

STANDS = "a file stands where a folder is wanted"


def test_learn_concept_writes_to_out_where_the_cache_cannot_be_written(
    prisbench: Prisbench, folder: Path, taken: Path, open_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(taken / "home"))
    common = ["--photos", folder / "photos", "--noun", "mug", "--backbone", folder / "tiny", *QUICK]
    code, out, err = prisbench("learn-concept", *common, "--out", open_ / "mug", "--format", "json")
    assert code == 0, err
    assert read_concept(open_ / "mug").id == json.loads(out)["concept"]
    assert sorted(path.name for path in open_.iterdir()) == ["mug", "taken"]
    assert err.count("cannot write") == 2 and f"kept in {open_ / '.mug.learning'} instead" in err
    assert "what the encoders make is not kept" in err

    for further, message in (
        ([], "PRISBENCH_HOME names another place for the cache"),
        (["--out", taken / "mug"], f"cannot write {taken}: {STANDS}"),
        (["--out", open_ / "mug", "--sheet", taken / "sheets"], f"cannot write {taken / 'sheets'}: {STANDS}"),
        (["--out", folder / "photos"], "holds something else (no concept.json in it)"),
    ):
        code, out, err = prisbench("learn-concept", *common, *further)
        assert code == 1 and message in err.splitlines()[-1] and "steps of" not in err, err


def test_an_out_that_fails_at_the_end_says_where_the_concept_is(
    backbone: Backbone, open_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(open_ / "cache"))
    make = learning.AttentionMethod.make
    monkeypatch.setattr(learning.AttentionMethod, "make", lambda options, _: make(options, backbone))
    options = learning.MethodOptions(
        "textual-inversion", settings={"learner.steps": 1, "learner.batch": 1, "localizer.preset": "fast"}
    )
    jobs = learning.plan([options], [subject()], open_ / "mug", None)
    (open_ / "mug").write_text("a file, meanwhile")
    with pytest.raises(WriteError, match=r"a file has that name; the concept is kept in .*cache/concepts/[0-9a-f]{16}"):
        learning.carry_out(jobs, None, lambda _: None, lambda _: lambda *_: None)


def test_segment_looks_before_it_works_and_needs_no_cache(
    prisbench: Prisbench, folder: Path, taken: Path, open_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(taken / "home"))
    find = ["segment", folder / "photos" / "0.png", "--noun", "mug", "--backbone", folder / "tiny", *QUICK, "--out"]
    code, _, err = prisbench(*find, taken / "found")
    assert code == 1 and err == f"error: cannot write {taken / 'found'}: {STANDS}\n"
    code, _, err = prisbench(*find, open_ / "found")
    assert code == 0 and (open_ / "found" / "mask.png").is_file()
    assert err.count("what the encoders make is not kept") == 1


def test_evaluate_goes_on_without_the_cache_and_looks_before_it_learns(
    prisbench: Prisbench, folder: Path, taken: Path, open_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(taken / "home"))
    row = SubjectRow("mug", (draw_scene(0, (112, 144)),), "test", "CC0-1.0", "drawn")
    mask = draw_box((112, 144), 9, 30, 20, 60)
    query = QueryRow(
        row.id, "mug", draw_scene(1, (112, 144)), "the {subject}", "plain", mask, (), "test", "CC0-1.0", "drawn"
    )
    write_dataset(open_ / "set", NewDataset("tiny", "1", [row], [query], "# Tiny\n\nDrawn by the tests.\n"))
    run = ["evaluate", "--dataset", open_ / "set", "--backbone", folder / "tiny", *QUICK]
    for further in (["--out", taken / "runs"], ["--out", open_ / "runs", "--leaderboards", taken / "boards"]):
        code, _, err = prisbench(*run, *further)
        assert code == 1 and err.startswith("error: cannot write ") and err.endswith(f": {STANDS}\n")
    assert not (open_ / "runs").exists()
    code, out, err = prisbench(*run, "--out", open_ / "runs", "--format", "json")
    assert code == 0, err
    assert Path(json.loads(out)["run"]).is_file() and len(list((open_ / "runs" / ".concepts").iterdir())) == 1
    assert f"kept in {open_ / 'runs' / '.concepts'} instead" in err


def test_a_named_dataset_is_not_drawn_where_it_cannot_be_kept(
    prisbench: Prisbench, taken: Path, open_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(taken / "home"))
    code, _, err = prisbench("evaluate", "--method", "center-box", "--out", open_ / "runs")
    assert code == 1 and "PRISBENCH_HOME" in err and "build-dataset tabletop --out FOLDER" in err
    assert err.startswith(f"error: cannot write {taken / 'home' / 'datasets'}") and err.count("\n") == 1


def test_a_cache_of_the_hub_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", "/cache/hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(BackboneError, match=r"^owner/name: no permission to write /cache/hub; .*HF_HOME"):
        load_backbone("owner/name")
