"""Names that people know: subjects by name, id or how these begin, and datasets named one way in all commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.main import get_command

from prisbench.cli.main import app
from prisbench.cli.options import DATASET
from prisbench.datasets.load import open_dataset
from prisbench.datasets.named import build_source, find_dataset
from prisbench.datasets.photo_folder import OwnPhotos, read_own_photos
from prisbench.datasets.subject_names import find_subject, known_names, listed, title, told_by_name, with_names
from prisbench.errors import DataError, PrisbenchError, UnknownNameError, UsageError
from prisbench.runtime import hub
from tests.command_line import Answer, called
from tests.drawing import draw_box, draw_scene

Run = Callable[..., Answer]
SIZE = (48, 64)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return partial(called, monkeypatch, capfd)


def save(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_scene(seed, SIZE)).save(path)


def save_mask(path: Path, box: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(box.astype(np.uint8) * 255).save(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built dataset of three mugs and bowls, each a folder with a name."""
    root = tmp_path_factory.mktemp("own")
    for n, name in enumerate(("mug-anna", "mug-ben", "bowl-carla")):
        save(root / "things" / name / "photos" / "1.png", 10 * n)
        save(root / "things" / name / "scenes" / "desk.jpg", 10 * n + 1)
        save_mask(root / "things" / name / "masks" / "desk.png", draw_box(SIZE, 4, 5, 20, 30))
    build_source("folder", root / "things", {"validation_share": "0"}, root / "built")
    return root / "built"


NAMES = {"mug-3f9c21a07e": "mug-anna", "mug-3fa0000000": "mug-ben", "bowl-8204af8ee5": ""}


def test_a_subject_is_meant_by_its_name_id_hash_or_beginning() -> None:
    for said in ("mug-anna", "mug-a", "mug-3f9c21a07e", "mug-3f9", "3f9c21a07e", "3f9"):
        assert find_subject(said, NAMES, "here") == "mug-3f9c21a07e", said
    assert find_subject("bowl", NAMES, "here") == "bowl-8204af8ee5"
    assert find_subject("mug", {"mug-1": "mug", "mug-2": "mug-ben"}, "here") == "mug-1", "a whole name comes first"
    with pytest.raises(UsageError, match=r"'mug-' may be 2 subjects of here: mug-anna \(mug-3f9c21a07e\), mug-ben"):
        find_subject("mug-", NAMES, "here")
    with pytest.raises(UnknownNameError, match="unknown subject of here 'mug-ana': did you mean 'mug-anna'"):
        find_subject("mug-ana", NAMES, "here")
    with pytest.raises(UnknownNameError, match="unknown subject of here ''"):
        find_subject("", NAMES, "here")
    assert title("mug-1", "mug-anna") == "mug-anna (mug-1)" and title("mug-1", None) == "mug-1"
    assert listed({f"mug-{n}": "" for n in range(8)}, 6).endswith("mug-5 and 2 more")


def test_who_has_no_name_gets_one_that_nobody_else_of_the_set_has() -> None:
    ids = [f"mug-{n:010x}" for n in range(200)]
    names = known_names(dict.fromkeys(ids, ""))
    assert len(set(names.values())) == 200 and all(name.startswith("mug-") for name in names.values())
    assert names == known_names(dict.fromkeys(reversed(ids), ""))
    assert known_names({ids[2]: ""}) == {ids[2]: "mug-david"}
    own = {"mug-00000000aa": "mug-david", ids[2]: "", "spoon-00000000ab": "7", "mug-00000000ac": "mug:anna"}
    assert known_names(own) == own | {ids[2]: "mug-david-rosa", "spoon-00000000ab": "spoon-7"}
    assert find_subject("david-r", known_names(own), "here") == ids[2]
    assert find_subject("anna", known_names(own), "here") == "mug-00000000ac"


def test_lines_and_mistakes_for_people_name_subjects() -> None:
    for given, told in (
        ("learning mug-3f9c21a07e", "learning mug-anna (mug-3f9c21a07e)"),
        ("all photos of 'mug-3f9c21a07e'.", "all photos of 'mug-anna (mug-3f9c21a07e)'."),
        ("mug-anna (mug-3f9c21a07e): fine", "mug-anna (mug-3f9c21a07e): fine"),
        ("runs/mug-3f9c21a07e/a mug-3f9c21a07e.png", "runs/mug-3f9c21a07e/a mug-3f9c21a07e.png"),
        ("cup-0000000000", "cup-0000000000"),
    ):
        assert with_names(given, NAMES) == told
    with pytest.raises(UsageError, match=r"^no photo of mug-anna \(mug-3f9c21a07e\)$"), told_by_name(NAMES):
        raise UsageError("no photo of mug-3f9c21a07e")


def test_a_source_names_its_subjects_and_neither_ids_nor_digest_depend_on_it(own: Path) -> None:
    dataset = open_dataset(own, verify=True)
    names = dataset.subject_names("test")
    assert sorted(names.values()) == ["bowl-carla", "mug-anna", "mug-ben"]
    rows = list(dataset.subject_rows("test"))
    assert {row.id: row.name for row in rows} == names
    for row in rows:
        nameless = replace(row, name=None)
        assert (nameless.id, nameless.digest) == (row.id, row.digest)


def test_a_dataset_of_an_older_prisbench_gets_names_and_reads_the_same(own: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(own, old)
    for path in old.glob("subjects/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["name"]), path)
    dataset = open_dataset(old)
    given = dataset.subject_names("test")
    assert given == known_names({id: "" for id in sorted(given, reverse=True)}), "by the ids alone"
    assert [one.id for one in dataset.subjects("test")] == [one.id for one in open_dataset(own).subjects("test")]


def test_commands_take_and_print_the_names(run: Run, own: Path, tmp_path: Path) -> None:
    evaluate = ["evaluate", "--method", "center-box", "--dataset", own, "--out", tmp_path / "runs", "--format", "json"]
    by_name = json.loads(run(*evaluate, "--subject", "mug-anna").out)
    (anna,) = open_dataset(own).find_subjects(["mug-anna"], "test")
    by_hash = json.loads(run(*evaluate, "--subject", anna.rpartition("-")[2][:6]).out)
    assert by_name == by_hash and anna in by_name["run"] and by_name["n"] == 1, "one run, whichever way it is said"
    code, out, err = run(*evaluate, "--subject", "mug")
    assert code == 1 and out == "" and err.count("\n") == 1 and "'mug' may be 2 subjects of the test split: mug-" in err
    assert run("show", own, "--subject", "mug-anna", "--out", tmp_path / "shown").code == 0
    assert f"mug-anna ({anna})" in (tmp_path / "shown" / "page.html").read_text()
    assert "may be 2 subjects" in run("show", own, "--subject", "mug-").err
    assert "may be 2 subjects" in run("learn-concept", "--dataset", own, "--subject", "mug-").err
    things = own.parent / "things"
    built = run("build-dataset", "folder", "--root", things, "--out", tmp_path / "again", "--set", "validation_share=0")
    assert f"mug-anna ({anna})" in built.out


def test_every_command_names_a_dataset_alike(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = set()
    for words in (
        ["evaluate", "--method", "center-box", "--dataset"],
        ["predict", "--method", "center-box", "--dataset"],
        ["show"],
        ["validate"],
        ["learn-concept", "--dataset"],
        ["card"],
        ["bench", "network-free", "--dataset"],
        ["bench", "methods", "--method", "center-box", "--dataset"],
        ["plan", "--method", "center-box", "--dataset"],
        ["tune", "persam", "--dataset"],
        ["ceilings", "--dataset"],
        ["push", "things", "--dataset"],
    ):
        code, out, err = run(*words, "tabletop-v33")
        assert code in (1, 2) and out == "", words
        lines.add(err)
    assert len(lines) == 1 and "did you mean 'tabletop-v3'" in lines.pop()


def test_a_dataset_of_the_hub_is_fetched_and_opened(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def give(where: str, *, repo_type: str, **_: object) -> str:
        asked.append((where, repo_type))
        return str(own)

    monkeypatch.setattr(hub, "out_of_reach", lambda: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", give)
    assert find_dataset("anna/things").digest == open_dataset(own).digest and asked == [("anna/things", "dataset")]
    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"nobody/things is not a folder, and the hub does not .* with the dataset"):
        find_dataset("nobody/things")


# Photos with several masks each.


@pytest.fixture
def creature(tmp_path: Path) -> Path:
    for n, home in enumerate(("creature", "kitchen")):
        save(tmp_path / "mine" / home / "img.jpg", n)
        save_mask(tmp_path / "mine" / home / "mask0.png", draw_box(SIZE, 4, 4, 20, 20))
    save_mask(tmp_path / "mine" / "creature" / "mask1.png", draw_box(SIZE, 25, 30, 40, 60))
    return tmp_path / "mine"


def test_of_several_masks_of_a_photo_the_user_says_which(creature: Path) -> None:
    with pytest.raises(UsageError, match=r"img.jpg has 2 masks \(mask0, mask1\), .* or --mask-name mask0,"):
        read_own_photos(creature / "creature")

    def areas(own: OwnPhotos) -> list[int]:
        return [int(mask.sum()) for mask in own.masks if mask is not None]

    for said in ("0", "mask0", "mask0.png"):
        assert areas(read_own_photos(creature / "creature", mask_name=said)) == [256]
    assert areas(read_own_photos(creature / "creature", mask_name="0,1")) == [256 + 450]
    both = read_own_photos(creature, mask_name="0")
    assert both.names == ("creature/img.jpg", "kitchen/img.jpg") and areas(both) == [256, 256]
    one = read_own_photos(creature, mask_name="mask1")
    assert one.names == ("creature/img.jpg",) and "1 photos in" in one.noticed[1]
    assert areas(read_own_photos(creature / "kitchen")) == [256], "one mask needs no name"
    with pytest.raises(UnknownNameError, match=r"unknown mask of the photos in .* 'mask7': did you mean 'mask"):
        read_own_photos(creature, mask_name="7")
    with pytest.raises(UsageError, match="--mask-name '0,': give the name of a mask"):
        read_own_photos(creature, mask_name="0,")


def test_other_folders_are_read_as_before(creature: Path, tmp_path: Path) -> None:
    for n in range(2):
        save(tmp_path / "plain" / f"{n}.jpg", n)
    assert read_own_photos(tmp_path / "plain").masks == ()
    with pytest.raises(UsageError, match="--mask-name 0: only for photos with several masks each"):
        read_own_photos(tmp_path / "plain", mask_name="0")
    for n in range(2):
        save_mask(tmp_path / "plain" / f"mask{n}.png", draw_box(SIZE, 4, 4, 20, 20 + n))
    assert [int(mask.sum()) for mask in read_own_photos(tmp_path / "plain").masks if mask is not None] == [256, 272]
    save(creature / "kitchen" / "img2.jpg", 5)
    with pytest.raises(PrisbenchError, match=r"kitchen has 2 photos beside mask0; put each photo into a folder"):
        read_own_photos(creature, mask_name="0")


@pytest.mark.parametrize("name", ["{n}_mask{k}.png", "masks/{n}-{k}.png", "masks/{n}/{k}.png", "masks/{k}/{n}.png"])
def test_names_say_which_photo_a_mask_is_of_and_which_thing_or_part(tmp_path: Path, name: str) -> None:
    for n in ("a", "b", "c"):
        save(tmp_path / f"{n}.jpg", ord(n))
        for k in (0, 1) if n != "c" else ():
            save_mask(tmp_path / name.format(n=n, k=k), draw_box(SIZE, 4, 5 + 20 * k, 20, 25 + 20 * k))
    with pytest.raises(UsageError, match=r"a.jpg has 2 masks \((mask)?0, (mask)?1\), each of a thing or of a part of"):
        read_own_photos(tmp_path)
    own = read_own_photos(tmp_path, mask_name="0")
    assert [None if mask is None else mask.sum() for mask in own.masks] == [320, 320, None]
    both = read_own_photos(tmp_path, mask_name="0,1").masks[0]
    assert both is not None and both.sum() == 640
    save_mask(tmp_path / "masks" / "d_1.png", draw_box(SIZE, 4, 4, 20, 20))
    with pytest.raises(DataError, match=r"d_1.png belongs to no photo: unknown photo 'd_1'.*or 01_NAME.png"):
        read_own_photos(tmp_path, mask_name="0")


def test_a_noun_of_nothing_is_told_before_a_model_is_loaded(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "1.jpg", 0)
    for noun in ("", "  "):
        code, out, err = run("segment", tmp_path / "1.jpg", "--noun", noun, "--backbone", tmp_path / "missing")
        assert code == 1 and out == "" and "is no word" in err and err.count("\n") == 1


def test_help_says_the_same_of_every_dataset() -> None:
    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        for word, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, f"{name} {word}".strip())
        if not hasattr(command, "commands"):
            yield name, command

    found = set()
    for name, command in walk(get_command(app), ""):
        if name.startswith("wsss"):
            continue  # VOC and COCO, which are no datasets of prisbench
        for one in command.params:
            if {"--dataset", "--data"} & set(one.opts) and not getattr(one, "hidden", False):
                assert DATASET in one.help or one.help == "The same, as the other commands have it.", name
                found.add(name)
    assert len(found) >= 24 and {"push", "plot", "uncertainty", "compare", "submit", "export", "reproduce"} <= found
