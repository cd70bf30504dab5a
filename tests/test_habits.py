"""Habits of a command line: version, help, ``~``, tables that fit, options that nobody looks at, names of concepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tiny
from PIL import Image

import prisbench
from prisbench.cli import main as cli
from prisbench.concepts.store import concept_folder, named_folder, read_concept, renamed, write_concept
from prisbench.errors import DataError, UsageError
from prisbench.images.photos import scene_files
from prisbench.leaderboard.fitted import fitted
from prisbench.methods import check_options, load_method
from prisbench.runtime.files import cache_folder
from prisbench.settings import MethodOptions
from prisbench.types import Concept
from tests.command_line import Answer, called
from tests.drawing import draw_scene

QUICK = [
    f"--set={one}"
    for one in (
        *("learner.steps=2", "learner.batch=1", "localizer.refine=none", "localizer.samples=1"),
        'localizer.evidence={"timesteps":[500],"samples":1}',
    )
]


Run = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return partial(called, monkeypatch, capfd)


def test_version_and_short_help_are_there(run: Run) -> None:
    for option in ("--version", "-V"):
        assert run(option) == (0, f"prisbench {prisbench.__version__}\n", "")
    for words in ([], ["evaluate"], ["bench", "localizer"], ["concept", "export"]):
        short, long = run(*words, "-h"), run(*words, "--help")
        assert short == long and short.code == 0 and "Usage: prisbench" in short.out
    assert "--install-completion" in run("-h").out


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "prisbench", "--version"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.startswith("prisbench ")


def test_a_tilde_after_an_equals_sign_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/anna")
    for given, meant in (
        ("--out=~/x", "--out=/anna/x"),
        ("~/x", "/anna/x"),
        ("~", "/anna"),
        ("nouns=~/n.json", "nouns=/anna/n.json"),
        ("--text=the {subject} ~ there", "--text=the {subject} ~ there"),
        ("a~b", "a~b"),
    ):
        assert cli.at_home(given) == meant


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRISBENCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/prisbench")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == Path.home() / ".cache" / "prisbench"
    monkeypatch.setenv("PRISBENCH_HOME", "/mine")
    assert cache_folder() == Path("/mine")


TABLE = """\
| tier | method | concept | n | mIoU | absent FP |
| ---: | :--- | :--- | ---: | ---: | ---: |
| 1 | network-free-combined-by-colour | textual-inversion (photos+masks) | 1920 | 0.565 [0.54, 0.59] | 0.49 |

- A note that is longer than the eighty columns of the terminal, so it has to go on in the next line.
"""


def test_a_table_fits_the_columns_of_the_terminal() -> None:
    for width in (60, 80, 103):
        lines = fitted(TABLE, width).splitlines()
        assert max(map(len, lines)) <= width, width
    narrow, wide = fitted(TABLE, 80), fitted(TABLE, 103)
    assert "network-free-" in narrow and "[0.54, 0.59]" in narrow and "Not shown" not in narrow
    assert "| 0.565 [0.54, 0.59] |\n" in wide and "- Not shown in 103 columns: absent FP; --full shows all." in wide
    assert fitted(TABLE, 200) == TABLE
    for width in (1, 20):  # who it is stays, however narrow
        lines = fitted(TABLE, width).splitlines()
        assert lines[0].split() == ["tier", "method"] and f"in {width} columns" in " ".join(" ".join(lines).split())


def test_lines_that_are_no_table_are_folded_below_their_second_column() -> None:
    text = f"paper on sd\n  crf       {'word ' * 20}\n  layers: {'word ' * 20}\n0.512  {'a=1 ' * 30}\n"
    lines = fitted(text, 80).splitlines()
    assert max(map(len, lines)) <= 80 and " ".join(" ".join(lines).split()) == " ".join(text.split())
    starts = [len(line) - len(line.lstrip()) for line in lines]
    assert starts == [0, 2, 12, 2, 4, 0, 7]


def test_what_other_commands_print_fits_eighty_columns(
    run: Run, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    boards = ["--dataset", "tiny-v1", "--folder", "boards"]
    for method in ("center-box", "whole-image"):
        run("evaluate", "--method", method, "--dataset", tiny_dataset, "--leaderboards", "boards")
    rows = sorted((tmp_path / "boards" / "tiny-v1").glob("*.json"))
    for words in (
        ["presets"],
        ["doctor"],
        ["plan", "--method", "center-box", "--dataset", tiny_dataset, "--seed", 0],
        ["compare", *rows[:2]],
        ["uncertainty", *boards, "--draws", 100],
        ["leaderboard", *boards, "--format", "summary"],
        ["try", "center-box"],
        ["bench", "unseen", "--scenes", 20],
    ):
        code, out, err = run(*words)
        assert out and code in (0, 1), (words, err)
        assert max(len(line) for line in out.splitlines()) <= 80, (words, out)


def test_the_leaderboard_fits_unless_all_of_it_is_wanted(
    run: Run, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    evaluate = ["evaluate", "--method", "center-box", "--dataset", tiny_dataset, "--out", tmp_path / "runs"]
    short = run(*evaluate, "--leaderboards", tmp_path / "boards").out
    assert max(map(len, short.split("full record")[0].splitlines())) <= 80 and "--full shows all" in short
    assert "full record" in short and len(run(*evaluate, "--full").out.splitlines()[0]) > 100
    table = ["leaderboard", "--folder", tmp_path / "boards", "--dataset", "tiny-v1"]
    assert max(map(len, run(*table).out.splitlines())) <= 80
    whole = run(*table, "--full").out
    assert max(map(len, whole.splitlines())) > 100 and whole == run(*table, "--format", "md").out
    assert "--full: only with a table for people" in run(*table, "--format", "csv", "--full").err
    summary = [*table, "--format", "summary"]
    assert max(map(len, run(*summary).out.splitlines())) <= 80 and "--full shows all" in run(*summary).out
    whole = run(*summary, "--full").out
    assert max(map(len, whole.splitlines())) > 80
    run(*summary, "--out", tmp_path / "summary.md")
    assert (tmp_path / "summary.md").read_text() + "\n" == whole, "files stay whole"


def test_a_leaderboard_that_is_not_here_names_the_option(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for more in ([], ["--check"]):
        code, out, err = run("leaderboard", *more)
        assert (code, out) == (1, "") and "there is no folder leaderboards here; say --folder DIR" in err


@pytest.mark.parametrize("given", [{"concept": "noun-only"}, {"model": "a/b"}, {"seed": 3}])
def test_an_option_that_a_method_does_not_look_at_is_an_error(given: dict[str, object]) -> None:
    options = MethodOptions(**given)  # type: ignore[arg-type]
    (name, value), *_ = given.items()
    for method in ("center-box", "whole-image", "network-free-colour"):
        with pytest.raises(UsageError, match=rf"{method} does not look at --{name} {value}; leave it out"):
            load_method(method, options)
    with pytest.raises(UsageError, match="center-box does not look at"):
        check_options("center-box", [options])
    assert load_method("random-box", MethodOptions(seed=3)).settings["seed"] == 3


@pytest.mark.parametrize(
    ("body", "used"),
    [
        ("return Mine()", False),
        ("return Mine(options.settings)", False),
        ("return Mine(options.concept)", True),
        ("return Mine(options)", True),
        ("return Mine(lambda: options.concept)", True),
        ("return Mine(vars(options))", True),
        ("import dataclasses; return Mine(dataclasses.replace(options, seed=1))", True),
    ],
)
def test_who_keeps_the_options_may_look_at_them_later(tmp_path: Path, body: str, used: bool) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"""
class Mine:
    name, settings = "mine", {{}}
    def __init__(self, given=None): self.given = given
    def learn(self, subject): ...
    def locate(self, image, queries, concepts): ...
def make(options):
    {body}
""")
    for declared in (None, used, not used):  # what a file says itself comes first
        if declared is not None:
            file.write_text(f"USES = {('concept', 'settings') if declared else ('seed',)}\n{file.read_text()}")
        if used if declared is None else declared:
            assert load_method(str(file), MethodOptions(concept="noun-only")).name == "mine"
        else:
            with pytest.raises(UsageError, match=r"mine\.py does not look at --concept noun-only"):
                load_method(str(file), MethodOptions(concept="noun-only"))


def test_a_method_that_declares_an_option_nobody_can_give_is_told(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    for said in ('("concepts",)', "NAMES", '"seed"'):
        file.write_text(f"NAMES = ()\nUSES = {said}\n")
        with pytest.raises(DataError, match=r"mine\.py: USES is .*; give a tuple of some of 'concept', 'model'"):
            check_options(str(file), [MethodOptions()])


def test_options_without_what_they_need_are_errors(run: Run, tmp_path: Path) -> None:
    for arguments, message in (
        (["learn-concept", "--photos", tmp_path, "--noun", "mug", "--split", "test"], "--split: only with --dataset"),
        (["learn-concept", "--dataset", tmp_path, "--noun", "mug"], "--noun: only with --photos"),
        (["learn-concept", "--photos", tmp_path, "--noun", "mug", "--name", "a/b"], "--name 'a/b': one short word of"),
        (["build-dataset", "folder", "--root", tmp_path, "--out", tmp_path / "x", "--private"], "--private: only with"),
        (["leaderboard", "--gallery", tmp_path], "--gallery: only with --format html"),
        (["validate", tmp_path, "--no-leaks", "--against", tmp_path], "--against: only with the leak audit"),
    ):
        code, out, err = run(*arguments)
        assert code == 1 and out == "" and message in err and err.count("\n") == 1, err


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, size_hw in enumerate(((112, 144), (144, 112), (90, 150))):
        Image.fromarray(draw_scene(i, size_hw)).save(folder / f"{i}.png")
    return folder


def record_backbone(record: dict[str, str]) -> str | None:
    return read_concept(record["folder"]).backbone


def test_a_concept_has_a_name_and_is_known_the_second_time(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    backbone = tiny.save(tmp_path / "tiny")
    learn = ["learn-concept", "--photos", photos, "--noun", "mug", "--name", "mug-anna", "--backbone", backbone]
    first, second = (run(*learn, *QUICK, "--format", "json") for _ in range(2))
    record = json.loads(first.out)
    assert record["subject"] == "mug-anna" and Path(record["folder"]) == named_folder("mug-anna")
    assert json.loads(second.out) == record | {"known": True} and not record["known"]
    assert "mug-anna is known already" in second.err and "known already" not in first.err
    assert read_concept(concept_folder("mug-anna")).subject_id == "mug-anna"
    with pytest.raises(DataError, match="no concept 'mug-ana': did you mean 'mug-anna'"):
        concept_folder("mug-ana")
    with pytest.raises(DataError, match="no concept '': give a concept's folder, or the --name"):
        concept_folder("")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"bare holds no concept\.json; give a concept's folder"):
        concept_folder(tmp_path / "bare")
    assert concept_folder(record["concept"]) == tmp_path / "home" / "concepts" / record["concept"]
    assert concept_folder("mug-an") == named_folder("mug-anna"), "the beginning of one name is enough"
    both = run(*learn[:5], "--name", "mug-ben", *learn[7:], *QUICK, "--out", tmp_path / "out").out
    assert both == f"mug-ben: {tmp_path / 'out'}, and by the name mug-ben\n"
    assert read_concept(named_folder("mug-ben")).id == read_concept(tmp_path / "out").id
    with pytest.raises(DataError, match="'mug-' may be 2 concepts: mug-anna, mug-ben; say more"):
        concept_folder("mug-")
    kept = run("concept", "list").out.splitlines()
    assert kept[0] == f"mug-anna: mug, textual-inversion on {record_backbone(record)}; also {record['concept']}"
    assert kept[1].startswith("mug-ben: mug") and kept[2] == f"2 concepts in {tmp_path / 'home' / 'concepts'}"

    (photos / "bad.jpg").write_bytes(b"no photo")
    find = ["segment", photos, "--concept", "mug-anna", "--backbone", backbone, *QUICK, "--format", "json"]
    code, out, err = run(*find)
    (photos / "bad.jpg").unlink()
    found = json.loads(out)
    assert code == 2 and [Path(each["photo"]).name for each in found] == ["0.png", "1.png", "2.png"]
    assert "bad.jpg is not a photo" in err and "1 of 4 photos could not be searched" in err
    assert sorted(os.listdir(tmp_path / "segmented")) == ["0", "1", "2"]
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where the extra is not installed
    code, out, err = run("segment", tmp_path / "phone.heic", photos / "0.png", *find[2:])
    assert code == 2 and len(json.loads(out)) == 1 and "pip install" in err
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "1").write_text("a file where a folder is wanted")
    code, out, err = run(*find, "--out", tmp_path / "part")
    assert code == 1 and [Path(each["photo"]).name for each in json.loads(out)] == ["0.png", "2.png"]
    assert "1 of 3 photos could not be searched (1 because their pictures could not be written)" in err
    half = json.loads(run(*find[:1], photos / "0.png", *find[2:], "--dtype", "bf16").out)
    assert half["out"] == "segmented" and half["presence"] != found[0]["presence"]


def test_a_name_of_another_concept_is_told_and_what_nothing_else_keeps_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path))
    here, concept = named_folder("mug-anna"), Concept("0" * 16, "mug-anna", "mug", "none", None, {}, {})
    assert renamed(here, concept.id) is None
    write_concept(concept, here)
    assert renamed(here, concept.id) is None
    with pytest.raises(UsageError, match="'mug-anna' is the name of another concept, of noun 'mug', which is kept no"):
        renamed(here, "1" * 16)
    write_concept(concept, here.with_name(concept.id))
    assert concept.id in str(renamed(here, "1" * 16))


def test_concepts_below_a_name_are_found_and_names_no_file_system_takes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path))
    one = write_concept(Concept("0" * 16, "x", "mug", "none", None, {}, {}), named_folder("mug-anna") / "dreambooth")
    assert concept_folder("mug-anna/dreambooth") == one
    assert named_folder("Tässä-1.2").name == "Tässä-1.2"
    for name in ("a/b", "..", "", "mug anna", "a" * 101, "\u93e1" * 90, "a" * 16):
        with pytest.raises(UsageError, match="one short word"):
            named_folder(name)


def test_what_the_system_refuses_is_one_line(run: Run) -> None:
    for words in (["try"], ["segment", "--noun", "mug"], ["evaluate", "--method"], ["validate", "--dataset"]):
        code, out, err = run(*words, "a" * 300)
        assert (code, out, err.count("\n")) == (1, "", 1) and "File name too long" in err, err


def test_names_that_no_encoding_knows_are_printed(tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    code = "import sys; from prisbench.cli import main as cli; cli.app = lambda: print(sys.argv[1]); cli.main()"
    command = [sys.executable, "-c", code, os.fsencode(folder)]
    assert b"\\udcff" in subprocess.run(command, check=True, capture_output=True).stdout


def test_what_of_a_folder_is_not_searched_is_told(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("1.png", "0.png"):
        (tmp_path / name).write_bytes((photos / name).read_bytes())
    Image.open(photos / "0.png").save(tmp_path / "0.jpg")
    said: list[str] = []
    assert [path.name for path in scene_files([tmp_path, photos / "2.png"], said.append)] == ["0.jpg", "1.png", "2.png"]
    assert said == [f"{tmp_path}: 2 photos; 2 other files and folders are not searched"]


def test_a_dataset_is_named_alike_in_all_commands(run: Run, tiny_dataset: Path, tmp_path: Path) -> None:
    for words in ([tiny_dataset], ["--dataset", tiny_dataset]):
        assert "tiny-v1" in run("validate", *words, "--no-leaks").out
        assert run("show", *words, "--out", tmp_path / "shown", "--limit", 2).code == 0
    for command in ("validate", "show"):
        assert "name the dataset once: a, or --dataset b" in run(command, "a", "--dataset", "b").err
    assert "name a dataset" in run("validate").err
