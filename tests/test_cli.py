"""The command line: every command, and every mistake a user can make as one line."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image

from prisbench.cli import main as cli
from prisbench.cli.options import spread
from prisbench.concepts.store import read_concept
from prisbench.datasets.load import open_dataset
from prisbench.datasets.named import NAMES
from prisbench.datasets.sources import tabletop
from prisbench.diffusion.loading import has_embedded
from prisbench.results import read_run
from prisbench.tabletop import queries
from tests.command_line import Answer, called
from tests.drawing import FIVE_TYPES, draw_scene

ROOT = Path(__file__).parents[1]
QUICK = [
    f"--set={one}"
    for one in (
        *("learner.steps=2", "learner.batch=1", "localizer.refine=none", "localizer.samples=1"),
        'localizer.evidence={"timesteps":[500],"samples":1}',
    )
]
SMALL = ("--set", "size=small", "--validation", "1", "--test", "1")
EACH = tabletop.SMALL.queries_each
"""A subject a split, and the queries about each."""


Prisbench = Callable[..., Answer]


@pytest.fixture
def prisbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Prisbench:
    """``prisbench("evaluate", "--method", ...)`` in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    return partial(called, monkeypatch, capfd)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("cli") / "tiny")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, size_hw in enumerate(((112, 144), (144, 112), (90, 150))):
        Image.fromarray(draw_scene(i, size_hw)).save(folder / f"{i}.png")
    (folder / "notes.txt").write_text("not a photo")
    return folder


def tree(*folders: Path) -> dict[str, bytes | None]:
    """Every file below the folders with its content."""
    found = (path for folder in folders for path in sorted(folder.rglob("*")))
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def home() -> Path:
    return Path(os.environ["PRISBENCH_HOME"])


# --- help and doctor ------------------------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """Every command, as the words that call it."""
    import typer.main

    def below(group: Any, words: list[str]) -> list[list[str]]:
        if not hasattr(group, "commands"):
            return [words]
        return [each for name in sorted(group.commands) for each in below(group.commands[name], [*words, name])]

    return below(typer.main.get_command(cli.app), [])


def options() -> set[str]:
    """Every option of any command."""
    import typer.main

    def below(group: Any) -> set[str]:
        own = {name for each in group.params for name in (*each.opts, *each.secondary_opts)}
        return own.union(*map(below, getattr(group, "commands", {}).values()))

    return below(typer.main.get_command(cli.app)) | {"--help"}


def unknown_options(source: str, known: set[str]) -> set[str]:
    """Options that the strings of a source name and no command has."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    words = {word for text in texts if isinstance(text, str) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    return words - known


def test_an_option_that_a_message_names_is_one() -> None:
    known = options() | {"--error-unmatch", "--porcelain", "--untracked-files", "--array"}  # of git, and Slurm
    wrong = {str(path): unknown_options(path.read_text(), known) for path in (ROOT / "prisbench").rglob("*.py")}
    assert {path: found for path, found in wrong.items() if found} == {}
    assert unknown_options('"keep the maps (--soft-maps), or f --no-maps=x; a--b"', known) == {"--no-maps"}


def test_every_command_of_the_readme_is_there() -> None:
    assert [" ".join(words) for words in commands()] == [
        "bench ablation",
        "bench attn-features",
        "bench backbones",
        "bench by-eye",
        "bench coverage",
        "bench crf",
        "bench dataset",
        "bench learner",
        "bench localizer",
        "bench methods",
        "bench network-free",
        "bench operations",
        "bench own-photos",
        "bench score",
        "bench shortcuts",
        "bench transformers",
        "bench uncertainty",
        "bench unseen",
        "build-dataset",
        "card",
        "ceilings",
        "compare",
        "concept export",
        "concept import",
        "concept list",
        "conformance",
        "demo",
        "doctor",
        "evaluate",
        "export",
        "leaderboard",
        "learn-concept",
        "merge",
        "plan",
        "plot",
        "predict",
        "presets",
        "push",
        "reproduce",
        "retract",
        "score",
        "segment",
        "show",
        "submit",
        "train-backbone",
        "train-rival",
        "try",
        "tune",
        "uncertainty",
        "validate",
        "wsss check",
        "wsss coco-masks",
        "wsss demo",
        "wsss evaluate",
        "wsss predict",
        "wsss pseudo-masks",
        "wsss train",
    ]


def test_help_says_what_each_command_does_and_takes(prisbench: Prisbench) -> None:
    code, out, err = prisbench("--help")
    assert (code, err) == (0, "")
    assert all(command[0] in out for command in commands())
    for command in commands():
        code, out, err = prisbench(*command, "--help")
        assert (code, err) == (0, "") and "Usage: " in out and f" {' '.join(command)} " in out
        if command[0] in ("learn-concept", "evaluate", "demo"):
            assert "--seed" in out and "--device" in out
        if command[-1] not in ("demo", "coco-masks"):
            assert "--format" in out, command


def test_no_help_loads_torch() -> None:
    script = (
        "import sys\nfrom prisbench.cli.main import main\n"
        f"for command in {commands()!r}:\n"
        "    sys.argv = ['prisbench', *command, '--help']\n"
        "    try:\n        main()\n    except SystemExit:\n        pass\n"
        "print({'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()" and done.stdout.count("Usage:") == len(commands())


def test_no_command_at_all_shows_the_help(prisbench: Prisbench) -> None:
    assert "learn-concept" in prisbench().out + prisbench().err


def test_doctor_tells_people_and_programs(prisbench: Prisbench) -> None:
    code, out, err = prisbench("doctor", "--format", "json")
    record = json.loads(out)
    assert (code, err) == (0, "") and record["packages"]["torch"] and record["device"]
    assert record["cache"]["folder"] == str(home())
    assert f"torch         {record['packages']['torch']}" in prisbench("doctor").out


# --- learning and finding -------------------------------------------------------------------------------------------


def test_photos_become_a_concept_that_finds_itself_in_another_photo(
    prisbench: Prisbench, backbone: Path, photos: Path, tmp_path: Path
) -> None:
    learn = ["learn-concept", "--photos", photos, "--noun", "mug", "--backbone", backbone, *QUICK]
    code, out, err = prisbench(*learn, "--out", tmp_path / "mine", "--format", "json")
    assert code == 0 and err.startswith("textual-inversion of 'photos") and err.count("\n") == 1, (
        "the cost, and no more"
    )
    record = json.loads(out)
    assert record["folder"] == str(tmp_path / "mine") and record["learner"] == "textual-inversion"
    concept = read_concept(tmp_path / "mine")
    assert (concept.id, concept.noun, concept.recipe["steps"]) == (record["concept"], "mug", 2)
    assert concept.subject_id == record["subject"] and concept.subject_id.startswith("mug-")

    again = prisbench(*learn)
    stored = home() / "concepts" / concept.id
    assert again[:2] == (0, f"{photos.name} ({concept.subject_id}): {stored}\n") and again.err.count("\n") == 1
    assert again.err.startswith(
        f"{photos.name} ({concept.subject_id}) is known already: same photos, noun and settings; taken from"
    )
    assert read_concept(stored).tensors["vectors"].tolist() == concept.tensors["vectors"].tolist()

    scene = tmp_path / "scene.png"
    Image.fromarray(draw_scene(9, (100, 160))).save(scene)
    find = ["segment", scene, "--concept", tmp_path / "mine", "--backbone", backbone, *QUICK]
    code, out, err = prisbench(
        *find, "--out", tmp_path / "found", "--text", "the {subject} on a bowl", "--format", "json"
    )
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert sorted(path.name for path in (tmp_path / "found").iterdir()) == ["map.png", "mask.png", "overlay.png"]
    pictures = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "found").iterdir()}
    assert pictures["mask"].shape == (100, 160) and set(np.unique(pictures["mask"])) <= {0, 255}
    assert pictures["overlay"].shape == pictures["map"].shape == (100, 160, 3)
    assert record["area_fraction"] == pytest.approx((pictures["mask"] > 0).mean())
    assert record["found"] is bool(pictures["mask"].any()) and 0 <= record["presence"] <= 1
    changed = (pictures["overlay"] != draw_scene(9, (100, 160))).any(axis=2)
    assert not (changed & (pictures["mask"] == 0)).any()


def test_a_photo_can_be_searched_by_the_class_word_alone(
    prisbench: Prisbench, backbone: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = prisbench("segment", photos / "2.png", "--noun", "bowl", "--backbone", backbone, *QUICK)
    assert (code, err) == (0, "") and out.endswith("pictures in segmented\n") and "presence 0." in out


def test_a_thing_that_is_not_there_gets_an_empty_mask_and_a_short_answer(
    prisbench: Prisbench, backbone: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    learn = ["learn-concept", "--photos", photos, "--noun", "mug", "--backbone", backbone, *QUICK, "--out", "mine"]
    assert prisbench(*learn).code == 0
    find = ["segment", photos / "2.png", "--concept", "mine", "--backbone", backbone, *QUICK]
    nothing = prisbench(*find, "--set", "localizer.presence=1.5")
    assert nothing.out.startswith("not here; presence 0.") and nothing.code == 0
    assert not np.asarray(Image.open(tmp_path / "segmented" / "mask.png")).any()
    assert prisbench(*find, "--set", "localizer.presence=1e-9").out.startswith("covers ")


def test_the_subjects_of_a_dataset_are_learned_one_by_one_or_all(
    prisbench: Prisbench, backbone: Path, small: Path, tmp_path: Path
) -> None:
    (subject,) = open_dataset(small).subjects("validation")
    learn = ["learn-concept", "--dataset", small, "--split", "validation", "--backbone", backbone, *QUICK]
    one = json.loads(prisbench(*learn, "--subject", subject.id, "--format", "json").out)
    code, out, _ = prisbench(*learn, "--seed", 1, "--out", tmp_path / "all")
    assert one["subject"] == subject.id and (code, out) == (
        0,
        f"{one['name']} ({subject.id}): {tmp_path / 'all'}\n",
    )
    assert read_concept(tmp_path / "all").id != one["concept"]
    masked = prisbench(*learn, "--subject", subject.id, "--reference", "photos+masks", "--format", "json")
    assert "outside of their masks" in masked.err and json.loads(masked.out)["concept"] != one["concept"]


# --- datasets, runs, leaderboards -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Tabletop set, built by the command in a process of its own."""
    folder = tmp_path_factory.mktemp("small") / "set"
    command = [sys.executable, "-m", "prisbench.cli.main", "build-dataset", "tabletop", "--out", str(folder)]
    done = subprocess.run(
        [*command, *SMALL, "--format", "json"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    record = json.loads(done.stdout)
    assert record == json.loads((folder / "dataset.json").read_text()) | {"left_out": {}, "hub": None}
    assert record["subjects"] == {"validation": 1, "test": 1} and sum(record["queries"]["test"].values()) == EACH
    return folder


def test_a_dataset_is_replaced_only_when_asked(prisbench: Prisbench, small: Path, tmp_path: Path) -> None:
    shutil.copytree(small, tmp_path / "set")
    build = ["build-dataset", "tabletop", "--out", tmp_path / "set", *SMALL]
    before = tree(tmp_path)
    fails(prisbench(*build), "already exists; choose another folder, or say --overwrite")
    assert tree(tmp_path) == before
    code, out, err = prisbench(*build, "--seed", 3, "--overwrite")
    assert (code, err) == (0, "")
    assert out.startswith(f"tabletop-custom-v{tabletop.VERSION} in {tmp_path / 'set'}\ndigest ")
    assert f"validation: 1 subjects, {EACH} queries\ntest: 1 subjects, {EACH} queries\nsubjects: mug-" in out
    assert open_dataset(tmp_path / "set").digest != open_dataset(small).digest


def test_attn_and_its_controls_run_on_a_tiny_pipeline(
    prisbench: Prisbench, backbone: Path, small: Path, tmp_path: Path
) -> None:
    for concept in ("textual-inversion", "noun-only", "untrained-token"):
        code, out, err = prisbench(
            *("evaluate", "--dataset", small, "--concept", concept, "--backbone", backbone, "--limit", 2),
            *("--out", tmp_path, "--format", "json", *QUICK),
        )
        assert code == 0 and err.startswith("attn on tiny@") and err.count("\n") == 1, "the cost, and nothing else"
        record = json.loads(out)
        assert (record["method"], record["concept"], record["n"], record["n_errors"]) == ("attn", concept, 2, 0)
        wanted = {"iou_mean", "iou_mean_ci", "wrong_instance_rate", "absent_fp_rate", "seconds_per_image", "run"}
        assert wanted <= set(record)
        run = read_run(Path(record["run"]))
        assert run.backbone is not None and run.backbone.startswith("tiny@")
        assert run.settings["localizer"]["samples"] == 1


def test_several_concepts_and_seeds_are_one_table(
    prisbench: Prisbench, backbone: Path, small: Path, tmp_path: Path
) -> None:
    boards = tmp_path / "boards"
    code, out, _ = prisbench(
        *("evaluate", "--dataset", small, "--split", "validation", "--concept", "noun-only", "textual-inversion"),
        *("--seed", 0, 1, "--backbone", backbone, "--out", tmp_path / "runs", "--leaderboards", boards),
        *(
            "--set",
            "learner.steps=1",
            "--set",
            "localizer.preset=fast",
            "--set",
            'localizer.evidence={"timesteps": []}',
        ),
    )
    assert code == 0 and f"| textual-inversion (2 seeds) | {EACH} |" in out
    assert f"| noun-only (2 seeds) | {EACH} |" in out
    assert out.count("full record: ") == 4
    (place,) = boards.iterdir()
    assert place.name.endswith("-validation")
    names = {"attn--noun-only.json", "attn--textual-inversion--seed-1.json"}
    assert names < {path.name for path in place.iterdir()}
    run = read_run(place / "attn--textual-inversion--seed-1.json")
    assert run.seed == 1 and run.concept_bytes == 4 * 3 * 24 and run.settings["learner"]["seed"] == 1
    other = read_run(place / "attn--textual-inversion.json")
    assert [query.counts for query in other.queries] != [query.counts for query in run.queries]
    code, out, err = prisbench("leaderboard", "--dataset", place.name, "--folder", boards, "--format", "learners")
    assert (code, err) == (0, "") and "| textual-inversion (2 seeds) |" in out and "- look-alike: " in out


def test_several_seeds_and_learners_make_a_folder_each(
    prisbench: Prisbench, backbone: Path, photos: Path, tmp_path: Path
) -> None:
    code, out, _ = prisbench(
        *("learn-concept", "--photos", photos, "--noun", "mug", "--backbone", backbone, "--out", tmp_path / "mug"),
        *("--learner", "textual-inversion", "custom-diffusion", "--seed", 3, 4, "--format", "json"),
        *("--set", "learner.steps=1", "--set", "learner.batch=1", "--set", 'learner.prior={"images": 0}'),
    )
    assert code == 1 and "unknown setting" in _ and not (tmp_path / "mug").exists(), "textual inversion has no prior"
    code, out, _ = prisbench(
        *("learn-concept", "--photos", photos, "--noun", "mug", "--backbone", backbone, "--out", tmp_path / "mug"),
        *("--seed", 3, 4, 3, "--format", "json", "--set", "learner.steps=1", "--set", "learner.batch=1"),
    )
    learned = json.loads(out)
    assert code == 0 and [each["seed"] for each in learned] == [3, 4]
    assert sorted(path.name for path in (tmp_path / "mug").iterdir()) == ["seed-3", "seed-4"]
    assert len({read_concept(Path(each["folder"])).id for each in learned}) == 2


def test_values_may_follow_their_option_without_its_name() -> None:
    options = ("--seed", "--concept")
    assert spread(["--seed", "0", "1", "--out", "x"], options) == ["--seed", "0", "--seed", "1", "--out", "x"]
    assert spread(["--concept", "a", "--seed=2", "3"], options) == ["--concept", "a", "--seed=2", "--seed", "3"]
    assert spread(["--seed", "-1", "2"], options) == ["--seed", "-1", "--seed", "2"]
    assert spread(["photo", "--out", "a", "b"], options) == ["photo", "--out", "a", "b"]


@pytest.fixture
def boards(prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path) -> Path:
    """Leaderboards of the tiny dataset with two methods on it, made by ``evaluate``."""
    folder = tmp_path / "boards"
    for method in ("whole-image", "center-box"):
        code, out, err = prisbench(
            *("evaluate", "--method", method, "--dataset", tiny_dataset),
            *("--out", tmp_path / "runs", "--leaderboards", folder),
        )
        assert (code, err) == (0, "")
        assert out.startswith("| tier | method |") and f"full record: {tmp_path / 'runs' / 'tiny-v1'}" in out
    assert sorted(path.name for path in (folder / "tiny-v1").iterdir()) == [
        "README.md",
        "center-box--none.json",
        "center-box--none.predictions.jsonl.gz",
        "test-log.jsonl",
        "whole-image--none.json",
        "whole-image--none.predictions.jsonl.gz",
    ]
    return folder


def test_a_leaderboard_prints_in_every_format(prisbench: Prisbench, boards: Path, tmp_path: Path) -> None:
    table = ["leaderboard", "--dataset", "tiny-v1", "--folder", boards]
    assert prisbench(*table).out.count("\n| ") == 3
    rows = json.loads(prisbench(*table, "--format", "json").out)
    assert {row["method"] for row in rows} == {"whole-image", "center-box"} and rows[0]["n"] == 10
    frame = pd.read_csv(io.StringIO(prisbench(*table, "--format", "csv").out))
    assert list(frame["method"]) == [row["method"] for row in rows]
    few = json.loads(prisbench(*table, "--format", "json", "--subset", "look-alike").out)
    assert [row["n"] for row in few] == [2, 2] and few[0]["wrong_instance_rate"] is not None
    assert [row["n"] for row in json.loads(prisbench(*table, "--format", "json", "--subset", "present").out)] == [8, 8]

    (tmp_path / "gallery").mkdir()
    Image.fromarray(draw_scene(0)).save(tmp_path / "gallery" / "a-mug.png")
    code, out, err = prisbench(
        *table, "--format", "html", "--gallery", tmp_path / "gallery", "--out", tmp_path / "page.html"
    )
    assert (code, out, err) == (0, f"wrote {tmp_path / 'page.html'}\n", "")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 1 and "a mug" in page and "whole-image" in page
    assert prisbench(*table, "--format", "html").out.startswith("<!doctype html>")


def test_a_leaderboard_and_its_answers_become_pages(
    prisbench: Prisbench, boards: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    table = ["leaderboard", "--dataset", "tiny-v1", "--folder", boards, "--format", "html", "--out", tmp_path / "pages"]
    why = "no page of answers: the dataset tiny-v1 is not here; name it with --data"
    assert prisbench(*table) == (0, f"wrote {tmp_path / 'pages' / 'board.html'}\n{why}\n", "")
    code, out, err = prisbench(*table, "--data", tiny_dataset)
    assert (code, err) == (0, "") and out.endswith(f"wrote {tmp_path / 'pages' / 'browse.html'}\n")
    assert prisbench(*table, "--no-answers").out.endswith("no page of answers: not asked for\n")
    shown = prisbench("show", tiny_dataset, "--out", tmp_path / "shown", "--format", "json")
    assert json.loads(shown.out)["browse"] == str(tmp_path / "shown" / "browse.html")


def test_check_tells_whether_the_readmes_follow_from_the_results(prisbench: Prisbench, boards: Path) -> None:
    code, out, err = prisbench("leaderboard", "--check", "--folder", boards)
    assert (code, err) == (0, "") and out.endswith("tiny-v1: README.md agrees with 2 result files\n")
    readme = boards / "tiny-v1" / "README.md"
    readme.write_text(readme.read_text().replace("center-box", "centre-box", 1))
    code, out, err = prisbench("leaderboard", "--check", "--folder", boards)
    assert code == 1 and out == ""
    *changes, last = err.splitlines()
    assert last.startswith("error: ") and "README.md does not agree with the result files beside it" in last
    assert any(line.startswith("-") and "centre-box" in line for line in changes)


def test_a_part_of_a_split_says_so_and_asks_several_subjects(
    prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path
) -> None:
    center = ["evaluate", "--method", "center-box", "--dataset", tiny_dataset, "--out", tmp_path]
    code, out, _ = prisbench(*center, "--limit", 5)
    said = "- Partial: 5 of 10 queries of the split, about 2 subjects and 5 query types; for trying out, not a result"
    why = "- No intervals and no tiers: 2 subjects; at least 6 are needed for one that can be trusted."
    assert code == 0 and said in out and why in out and "[" not in out
    record = json.loads(prisbench(*center, "--limit", 5, "--format", "json")[1])
    assert record["partial"] == {"queries": 5, "of": 10, "subjects": 2, "types": 5}
    assert record["iou_mean_ci"] is None and record["absent_fp_rate_ci"] is None and record["tier"] is None
    assert Path(record["run"]).parent.name == "center-box--none--spread-5"
    subset = json.loads(prisbench(*center, "--subset", "absent", "--format", "json")[1])
    assert subset["partial"] == {"queries": 2, "of": 10, "subjects": 2, "types": 1}
    for whole in ([], ["--limit", 999]):
        assert json.loads(prisbench(*center, *whole, "--format", "json")[1])["partial"] is None
    assert "Partial" not in prisbench(*center)[1]


def test_a_run_is_put_on_a_leaderboard_only_where_it_belongs(
    prisbench: Prisbench, boards: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    path = boards / "tiny-v1" / "center-box--none.json"
    path.write_text(path.read_text().replace(open_dataset(tiny_dataset).digest, "0" * 64))
    before = tree(boards)
    random_box = ["evaluate", "--method", "random-box", "--dataset", tiny_dataset, "--out", tmp_path / "runs"]
    fails(
        prisbench(*random_box, "--leaderboards", boards),
        "center-box--none.json: a result file of another dataset version",
    )
    assert tree(boards) == before, "nothing is half-written"
    for option in (["--limit", 3], ["--limit", 0], ["--limit", 999], ["--subset", "plain"]):
        fails(prisbench(*random_box, "--leaderboards", boards, *option), "--leaderboards wants a whole run of a split")
    assert tree(boards) == before


def test_what_is_committed_is_scored_again_by_every_change() -> None:
    """Not here, where checking the shape of every array makes it ten times slower: ``make test`` has a line for it."""
    lines = (ROOT / "Makefile").read_text().split("\ntest: ")[1].split("\n\n")[0].splitlines()
    assert "\t$(BIN)/prisbench leaderboard --check" in lines and "\t$(BIN)/prisbench card --check" in lines
    assert len(list((ROOT / "leaderboards").glob("*/README.md"))) >= 2


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------

STOPS = """
import os, signal
from prisbench import Concept, Prediction

class Stops:
    name, settings, asked = "stops", {}, 0

    def learn(self, subject):
        return Concept("c", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        self.asked += 1
        if self.asked == int(os.environ.get("STOP_AT", 0)):
            signal.raise_signal(signal.SIGINT)
        return [Prediction(query.id, image[..., 0] > 100, seconds=0.5) for query in queries]

def make(options):
    return Stops()
"""


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (tmp_path / "stops.py").write_text(STOPS)
    evaluate = ["evaluate", "--method", tmp_path / "stops.py", "--dataset", tiny_dataset, "--out"]
    monkeypatch.setenv("STOP_AT", "4")
    code, out, err = prisbench(*evaluate, tmp_path / "parts")
    assert (code, out) == (130, "")
    assert err == "interrupted; what is finished is kept, and the same command goes on from there\n"
    folder = tmp_path / "parts" / "tiny-v1" / "stops--none"
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 3 and not (folder / "run.json").exists()
    monkeypatch.delenv("STOP_AT")
    for out_folder in ("parts", "whole"):
        assert prisbench(*evaluate, tmp_path / out_folder).code == 0
    for name in ("predictions.jsonl", "run.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / "tiny-v1" / "stops--none" / name).read_bytes()


def test_ctrl_c_while_a_dataset_is_built_leaves_nothing(
    prisbench: Prisbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, asked = queries.group, []

    def group(*arguments: object) -> object:
        asked.append(arguments)
        if len(asked) == 5:
            signal.raise_signal(signal.SIGINT)
        return inner(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(queries, "group", group)
    code, _, err = prisbench("build-dataset", "tabletop", "--out", tmp_path / "set", *SMALL)
    assert code == 130 and err.startswith("interrupted; ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


LOUD = """
import os, subprocess, sys
from prisbench import Concept, Prediction

print("imported")

class Loud:
    name, settings = "loud", {}

    def learn(self, subject):
        print("learned", file=sys.__stdout__)
        return Concept("c", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        os.write(1, b"written\\n")
        subprocess.run(["echo", "said by a child"], check=True)
        if os.environ.get("FAIL") and "left" in queries[0].text:
            raise RuntimeError("out of memory")
        return (Prediction(query.id, None) for query in queries)

def make(options):
    return Loud()
"""


def test_what_a_method_prints_goes_to_stderr_and_failures_have_an_exit_code_of_their_own(
    prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    evaluate = ["evaluate", "--method", tmp_path / "loud.py", "--dataset", tiny_dataset, "--out", tmp_path]
    evaluate += ["--format", "json"]
    monkeypatch.setenv("FAIL", "yes")
    code, out, err = prisbench(*evaluate)
    assert code == 2 and json.loads(out)["n_errors"] == 2
    assert {"imported", "learned", "written", "said by a child"} <= set(err.splitlines())
    assert err.splitlines()[-1].startswith("2 of 10 queries failed, first '")
    assert err.endswith("' (RuntimeError: out of memory); the same command tries them again\n")
    assert prisbench(*evaluate, "--keep-errors").code == 2
    fails(prisbench(*evaluate, "--fail-on-error"), "loud failed on query '", lines=6)
    monkeypatch.delenv("FAIL")
    code, out, err = prisbench(*evaluate)
    assert (code, json.loads(out)["n_errors"]) == (0, 0) and err.count("written") == 2, "asked about what failed alone"
    assert prisbench(*evaluate, "--fresh").code == 0


# --- mistakes -------------------------------------------------------------------------------------------------------


def fails(answer: Answer, message: str, lines: int = 1) -> None:
    """One line on stderr, exit code 1, nothing on stdout."""
    assert answer.code == 1 and answer.out == "", answer
    assert answer.err.endswith("\n") and answer.err.count("\n") == lines, answer.err
    last = answer.err.splitlines()[-1]
    assert last.startswith("error: ") and message in last, answer.err
    assert "Traceback" not in answer.err


def test_options_of_a_file_are_refused_for_a_run_s_folder(
    prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path
) -> None:
    wanted = ["--method", "center-box", "--dataset", tiny_dataset, "--out", tmp_path]
    assert prisbench("predict", *wanted).code == 0
    folder = tmp_path / "tiny-v1" / "center-box--none"
    before = tree(tmp_path)
    score = ["score", folder, "--dataset", tiny_dataset]
    wrong = f"--name, --split: only for a file of predictions; {folder} is a run's folder"
    fails(prisbench(*score, "--split", "test", "--name", "theirs"), wrong)
    for option, value in (
        *(("name", "theirs"), ("concept", "none"), ("reference", "photos"), ("split", "test"), ("subset", "plain")),
        *(("subject", "mug"), ("query", "q"), ("limit", 1), ("out", tmp_path / "run.json")),
    ):
        fails(prisbench(*score, f"--{option}", value), f"--{option}: only for a file of predictions; {folder}")
    assert tree(tmp_path) == before
    assert prisbench(*score).code == 0 and (folder / "run.json").is_file()
    theirs = ["score", folder / "predictions.jsonl", *score[2:], "--name", "theirs", "--split", "test"]
    assert prisbench(*theirs, "--out", tmp_path / "run.json").code == 0
    assert read_run(tmp_path / "run.json").method == "theirs"


@pytest.mark.parametrize("identity", [None, [], "x", {}, {"file": "m.py", "code": []}])
def test_a_run_with_a_damaged_manifest_is_refused_in_one_line_until_it_is_made_again(
    prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path, identity: object
) -> None:
    wanted = ["--method", "center-box", "--dataset", tiny_dataset, "--out", tmp_path]
    assert prisbench("predict", *wanted).code == 0
    path = tmp_path / "tiny-v1" / "center-box--none" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "identity": identity}))
    before = tree(tmp_path)
    for command in ("predict", "evaluate"):
        fails(prisbench(command, *wanted), "; choose another --out, or say --fresh to start again")
    fails(prisbench("score", path.parent, "--dataset", tiny_dataset), f"{path}: ")
    assert tree(tmp_path) == before
    assert prisbench("evaluate", *wanted, "--fresh").code == 0


@pytest.mark.parametrize("changes", [{"queries": []}, {"queries": {"test": {"plain": "2"}}}, {"digest": 3}])
def test_a_dataset_with_a_damaged_manifest_is_refused_in_one_line(
    prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    shutil.copytree(tiny_dataset, tmp_path / "set")
    path = tmp_path / "set" / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    said = f"{path} is damaged ({next(iter(changes))}: a field of the wrong kind); rebuild the dataset"
    for command in ("predict", "evaluate"):
        wanted = ["--method", "center-box", "--dataset", path.parent, "--out", tmp_path / "runs"]
        fails(prisbench(command, *wanted), said)
    fails(prisbench("show", path.parent, "--out", tmp_path / "sheet"), said)


def test_every_command_s_own_dataset_is_the_benchmark_of_this_version() -> None:
    named = set()
    for module in ("bench", "evaluate", "leaderboard", "predict"):
        commands = importlib.import_module(f"prisbench.cli.{module}")
        for _, function in inspect.getmembers(commands, inspect.isfunction):
            parameter = inspect.signature(function).parameters.get("dataset")
            if parameter and isinstance(parameter.default, str):
                named.add(f"{module}.{function.__name__}")
                assert parameter.default == NAMES[0], function
    assert named >= {
        *("bench.bench_ablation", "bench.bench_network_free"),
        *("evaluate.evaluate", "leaderboard.leaderboard", "predict.predict", "predict.score"),
    }


def test_an_unknown_split_is_told_by_what_measures_a_dataset(prisbench: Prisbench, tiny_dataset: Path) -> None:
    fails(prisbench("bench", "network-free", "--dataset", tiny_dataset, "--split", "tset"), "did you mean 'test'")


def corrupt(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    whole = io.BytesIO()
    Image.fromarray(draw_scene(0, (40, 60))).save(whole, "PNG")
    (folder / "1.png").write_bytes(whole.getvalue())
    (folder / "2.png").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    return folder


def test_bad_photos_are_one_line_and_leave_nothing(
    prisbench: Prisbench, backbone: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    corrupt(tmp_path / "corrupt")
    out = tmp_path / "out"
    before = tree(tmp_path, home())
    learn = ["learn-concept", "--noun", "mug", "--backbone", backbone, "--out", out, "--photos"]
    find = ["segment", "--noun", "mug", "--backbone", backbone, "--out", out]
    for arguments, message in (
        ([*learn, tmp_path / "gone"], "gone does not exist"),
        ([*learn, tmp_path / "empty"], "empty (0 other files); put 3 to 6 .jpg or .png files there"),
        ([*learn, photos / "0.png"], "0.png is a file; a folder of photos is wanted"),
        ([*learn, tmp_path / "corrupt"], "2.png is damaged or cut short"),
        ([*find, tmp_path / "gone.png"], "gone.png does not exist"),
        ([*find, tmp_path / "empty"], "empty is a folder; a file is wanted"),
        ([*find, tmp_path / "corrupt" / "2.png"], "2.png is damaged or cut short"),
        ([*find, photos / "notes.txt"], "notes.txt is not a photo that can be read"),
    ):
        fails(prisbench(*arguments), message)
    assert tree(tmp_path, home()) == before


def test_bad_names_are_one_line_with_the_nearest_name(
    prisbench: Prisbench, backbone: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    (bowl,) = [subject.id for subject in open_dataset(tiny_dataset).subjects("test") if subject.noun == "bowl"]
    evaluate = ["evaluate", "--out", tmp_path / "runs", "--dataset", tiny_dataset, "--method"]
    attn = [*evaluate, "attn", "--backbone", backbone]
    learn = ["learn-concept", "--backbone", backbone, "--dataset"]
    before = tree(tmp_path, home())
    for arguments, message in (
        ([*evaluate, "centre-box"], "unknown method 'centre-box': did you mean 'center-box'?"),
        ([*evaluate, tmp_path / "gone.py"], "gone.py: give a path to a Python file that defines make(options)"),
        (["evaluate", "--dataset", "tabeltop-v3"], "'tabeltop-v3': did you mean 'tabletop-v3'?"),
        (["evaluate", "--dataset", tmp_path], "is not a dataset: no dataset.json in it"),
        ([*evaluate, "center-box", "--split", "tset"], "unknown split of tiny-v1 'tset': did you mean 'test'?"),
        ([*evaluate, "center-box", "--subset", "lookalike"], "'lookalike': did you mean 'look-alike'?"),
        ([*evaluate, "center-box", "--limit", "0"], "a limit of 0 examples leaves nothing"),
        ([*evaluate, "center-box", "--set", "sahre=0.5"], "unknown setting 'sahre': did you mean 'share'?"),
        ([*evaluate, "center-box", "--set", "share=large"], "setting share='large' is of another kind"),
        ([*evaluate, "center-box", "--set", "share"], "--set 'share': expected KEY=VALUE"),
        ([*evaluate, "center-box", "--device", "cudda"], "device 'cudda' cannot be used here"),
        ([*attn, "--concept", "noun"], "unknown concept 'noun': did you mean 'noun-only'?"),
        ([*attn, "--set", "localizer.tua=1"], "did you mean 'localizer.tau'?"),
        ([*evaluate, "attn", "--backbone", tmp_path / "gone"], "no such backbone folder"),
        ([*evaluate, "clipseg", "--model", tmp_path / "gone"], "gone cannot be loaded: "),
        ([*learn, tiny_dataset, "--subject", bowl + "s"], f"of the test split '{bowl}s': did you mean '{bowl}'?"),
        ([*learn, tiny_dataset, "--learner", "text-inversion"], "did you mean 'textual-inversion'?"),
        ([*learn, "tabletop-v9"], "did you mean 'tabletop-v3'?"),
        (["build-dataset", "tabeltop", "--out", tmp_path / "x"], "unknown source 'tabeltop': did you mean 'tabletop'?"),
    ):
        fails(prisbench(*arguments), message)
    assert tree(tmp_path, home()) == before


def test_options_that_do_not_go_together_are_one_line(
    prisbench: Prisbench, backbone: Path, photos: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    find = ["segment", photos / "0.png", "--backbone", backbone, "--out", tmp_path / "out", *QUICK]
    for arguments, message in (
        (["learn-concept"], "give either --photos FOLDER with --noun WORD, or --dataset NAME"),
        (["learn-concept", "--photos", photos, "--dataset", tiny_dataset], "give either --photos FOLDER"),
        (["learn-concept", "--photos", photos], "--photos needs --noun"),
        ([*find, "--noun", "mug", "--text", "the mug"], "--text 'the mug' has no slot: write {subject} where"),
        ([*find], "give --concept FOLDER (from learn-concept) or --noun WORD"),
        ([*find, "--concept", tmp_path / "gone"], "give a concept's folder, or the --name it was learned under"),
        ([*find, "--noun", ""], "--noun '' is no word"),
        ([*find, "--noun", "mug", "--text", "{subject} {subject}"], "must hold {subject} once, it holds it 2 times"),
        ([*find, "--noun", "mug", "--text", "{subject} near the {box}"], "unknown slot {box}"),
        ([*find, "--noun", "mug", "--text", "the {subject} " + "the " * 40], "would be lost; shorten the text"),
    ):
        fails(prisbench(*arguments), message)
    assert not (tmp_path / "out").exists()


def test_a_concept_of_another_backbone_is_one_line(
    prisbench: Prisbench, backbone: Path, photos: Path, tmp_path: Path
) -> None:
    learn = ["learn-concept", "--photos", photos, "--noun", "mug", "--backbone", backbone, *QUICK]
    assert prisbench(*learn, "--out", tmp_path / "mine").code == 0
    other = tiny.save(tmp_path / "other", seed=1)
    find = ["segment", photos / "0.png", "--concept", tmp_path / "mine", "--out", tmp_path / "out", *QUICK]
    fails(prisbench(*find, "--backbone", other), "was learned on tiny@")
    assert not (tmp_path / "out").exists()


def test_photos_a_backbone_cannot_look_at_are_one_line(
    prisbench: Prisbench, backbone: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    evaluate = ["evaluate", "--dataset", tiny_dataset, "--backbone", backbone, "--out", tmp_path, *QUICK]
    for more, message in (
        ([], "is 14 x 9 pixels, too small to learn from; the shorter side must have at least 32"),
        (["--concept", "noun-only"], "a photo of 9 x 14 pixels (height x width) cannot be used"),
    ):
        fails(prisbench(*evaluate, *more), message)
        assert not list(tmp_path.iterdir()), "learning failed before anything was written"
    blind = ["--concept", "noun-only", '--set=localizer.evidence={"timesteps":[]}']
    fails(prisbench(*evaluate, *blind), "attn failed on every query: DataError: a photo of 12 x 20")


def test_bad_leaderboards_are_one_line(prisbench: Prisbench, boards: Path, tmp_path: Path) -> None:
    table = ["leaderboard", "--folder", boards, "--dataset"]
    path = boards / "tiny-v1" / "center-box--none.json"
    fails(prisbench(*table, "tiny-v2"), f"unknown leaderboard in {boards} 'tiny-v2': did you mean 'tiny-v1'?")
    fails(prisbench("leaderboard", "--folder", tmp_path / "gone"), "unknown leaderboard in")
    for format in ("md", "html"):
        wrong = [*table, "tiny-v1", "--format", format, "--subset", "lookalike"]
        fails(prisbench(*wrong), "unknown subset 'lookalike': did you mean 'look-alike'?")
    gallery = [*table, "tiny-v1", "--format", "html", "--gallery", tmp_path / "gone"]
    fails(prisbench(*gallery), "no gallery in")
    fails(prisbench("leaderboard", "--check", "--folder", tmp_path / "runs" / "tiny-v1" / "gone"), "no leaderboards")

    run = read_run(path)
    text = path.read_text()
    path.write_text(text.replace(f'"version":"{run.dataset.version}"', '"version":"2"'))
    for arguments in ([*table, "tiny-v1"], ["leaderboard", "--check", "--folder", boards]):
        answer = prisbench(*arguments)
        fails(answer, "a result file of another dataset version: tiny")
        assert "or remove the file" in answer.err
    path.write_text(text[:-30])
    fails(prisbench(*table, "tiny-v1"), "center-box--none.json: not JSON")
    path.unlink()
    (boards / "tiny-v1" / "whole-image--none.json").unlink()
    fails(prisbench(*table, "tiny-v1"), "no result files (*.json); make one with `prisbench evaluate`")


@pytest.fixture
def open_to_all(tiny_dataset: Path, boards: Path, photos: Path) -> Iterator[Path]:
    """Copies that somebody who is not root can read, in a folder nobody can write."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(tiny_dataset, folder / "tiny-v1")
    shutil.copytree(boards, folder / "boards")
    shutil.copytree(photos, folder / "photos")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(folder)


def test_no_permission_to_write_is_one_line(
    prisbench: Prisbench, open_to_all: Path, request: pytest.FixtureRequest
) -> None:
    for late in ("card", "training"):  # loads now, as somebody who may read it, what is loaded late
        importlib.import_module(f"prisbench.embedded.{late}")
    request.getfixturevalue("without_root")
    evaluate = ["evaluate", "--method", "center-box", "--dataset", open_to_all / "tiny-v1", "--out"]
    for arguments, lines in (
        (["build-dataset", "tabletop", "--out", open_to_all / "set", *SMALL], 1),
        ([*evaluate, open_to_all / "runs"], 1),
        (["leaderboard", "--folder", open_to_all / "boards", "--dataset", "tiny-v1", "--out", open_to_all / "x.md"], 1),
        (["train-backbone", "--out", open_to_all / "run", "--steps", 1, "--scenes", 96], 2),
    ):
        answer = prisbench(*arguments)
        fails(answer, f"cannot write {open_to_all}", lines)
        assert "no permission; choose a place you may write to" in answer.err
    assert sorted(path.name for path in open_to_all.iterdir()) == ["boards", "photos", "tiny-v1"]


def test_training_another_recipe_into_a_folder_is_one_line_after_its_cost(prisbench: Prisbench, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"seed": 3}')
    before = tree(tmp_path)
    answer = prisbench("train-backbone", "--out", tmp_path, "--steps", 1)
    fails(answer, "holds another recipe", lines=2)
    assert answer.err.startswith("training: 32000 scenes") and tree(tmp_path) == before


def test_training_a_rival_that_is_none_is_one_line(prisbench: Prisbench, tmp_path: Path) -> None:
    answer = prisbench("train-rival", "clip-seg", "--out", tmp_path / "run")
    fails(answer, "unknown rival 'clip-seg': did you mean 'clipseg'")
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_option_is_a_usage_error_without_traceback(prisbench: Prisbench) -> None:
    for arguments in (["evaluate", "--metod", "attn"], ["leaderboard", "--format", "xml"], ["learn"]):
        code, out, err = prisbench(*arguments)
        assert code == 2 and out == "" and "Usage: " in err and "Traceback" not in err


def test_a_mistake_is_one_line_in_a_process_of_its_own_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prisbench.cli.main", "leaderboard", "--folder", str(tmp_path / "gone")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    fails(Answer(done.returncode, done.stdout, done.stderr), "unknown leaderboard in")


# --- the weights that come along ------------------------------------------------------------------------------------


def test_without_weights_the_embedded_backbone_says_how_to_get_them(
    prisbench: Prisbench, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prisbench.diffusion.loading.EMBEDDED", tmp_path)
    answer = prisbench("segment", photos / "0.png", "--noun", "mug", "--out", tmp_path / "out")
    fails(answer, "the embedded backbone's weights are not installed; train them with `prisbench train-backbone`")


def test_the_embedded_backbone_finds_a_thing_of_its_world(prisbench: Prisbench, tmp_path: Path) -> None:
    if not has_embedded():
        pytest.skip("the embedded backbone has no weights yet")
    from prisbench.tabletop.captions import ordinary_scene

    overlaps = []
    for n in range(40):
        scene, _ = ordinary_scene(f"segment/{n}")
        if len(scene.things) != 2 or scene.things[0].individual.noun == scene.things[1].individual.noun:
            continue
        Image.fromarray(scene.image).save(tmp_path / "scene.png")
        noun = scene.things[0].individual.noun
        find = ["segment", tmp_path / "scene.png", "--noun", noun, "--out", tmp_path, "--set", "localizer.refine=none"]
        code, _, err = prisbench(*find)
        assert (code, err) == (0, "")
        mask = np.asarray(Image.open(tmp_path / "mask.png")) > 0
        overlaps.append((mask & scene.masks[0]).sum() / (mask | scene.masks[0]).sum())
    assert len(overlaps) >= 3 and np.median(overlaps) > 0.4, overlaps


def test_query_types_can_all_be_asked_for_alone(prisbench: Prisbench, tiny_dataset: Path, tmp_path: Path) -> None:
    for kind in FIVE_TYPES:
        code, out, _ = prisbench(
            *("evaluate", "--method", "center-box", "--dataset", tiny_dataset, "--out", tmp_path),
            *("--subset", kind, "--format", "json"),
        )
        assert code == 0 and json.loads(out)["n"] == 2
