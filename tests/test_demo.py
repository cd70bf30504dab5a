"""``prisbench demo``: the whole loop on a small world, here on a tiny pipeline of the real classes."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from prisbench import demo
from prisbench.datasets.load import open_dataset
from prisbench.datasets.sources.tabletop import Size
from prisbench.demo import Demo, gallery
from prisbench.images.drawing import GREEN, SKY
from prisbench.leaderboard.rows import load_runs
from prisbench.localizer.method import AttentionMethod
from prisbench.settings import MethodOptions
from prisbench.tabletop.queries import GROUPS
from prisbench.types import QUERY_TYPES, REFERENTLESS, Subject
from tests.leaderboards import block

SMALL = demo.SMALL
KINDS = ("plain", "other-category", "look-alike:build", "relation", "referred", "absent")
FEW = Size({"validation": 1, "test": 2}, dict.fromkeys(KINDS, 1))
ASKED = FEW.subjects["test"] * FEW.queries_each
ROWS = FEW.subjects["test"] * len(QUERY_TYPES)
EMBEDDED = Path(demo.__file__).parent / "embedded" / "weights" / "model_index.json"
QUICK = {
    **{"learner.steps": 2, "learner.batch": 1, "localizer.refine": "none", "localizer.samples": 1},
    "localizer.evidence": {"timesteps": [500], "samples": 1},
}


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A tiny pipeline in the place of the embedded one, one scene a type, few steps."""
    folder = tiny.save(tmp_path_factory.mktemp("demo") / "tiny")
    make = AttentionMethod.make
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prisbench.diffusion.loading.EMBEDDED", folder)
        patch.setattr(demo, "SMALL", FEW)
        patch.setattr(AttentionMethod, "make", lambda options: make(dataclasses.replace(options, settings=QUICK)))
        yield


def run(out: Path, seed: int = 0) -> tuple[Demo, list[str], int]:
    """The demo, the stages it went through, and how many steps it learned."""
    stages, steps, said = list[str](), list[int](), list[str]()
    done = demo.run(
        out,
        seed,
        "cpu",
        lambda stage, *_: stages.append(stage),
        lambda step, steps_, loss: steps.append(step),
        said.append,
    )
    assert said[0] == demo.COST, "what it costs is said first"
    return done, list(dict.fromkeys(stages)), len(steps)


@pytest.fixture(scope="module")
def finished(patched: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Demo]:
    out = tmp_path_factory.mktemp("demo") / "out"
    done, stages, steps = run(out)
    assert steps == 2 * 2, "two subjects are learned, once each"
    assert stages[:4] == [
        "attn textual-inversion: learn",
        "attn textual-inversion: locate",
        "attn noun-only: learn",
        "attn noun-only: locate",
    ]
    return out, done


def test_the_demo_builds_learns_evaluates_and_ranks(finished: tuple[Path, Demo]) -> None:
    out, done = finished
    dataset = open_dataset(out / "dataset")
    assert dataset.manifest.subjects == {"validation": 1, "test": 2}
    assert len(list((out / "concepts").iterdir())) == 2
    runs = load_runs(out / "leaderboard")
    found = {(run.method, run.concept): len(run.queries) for run in runs}
    assert found == {
        ("attn", "textual-inversion"): ASKED,
        ("attn", "noun-only"): ASKED,
        ("attn", "untrained-token"): ASKED,
        ("center-box", "none"): ASKED,
        ("random-box", "none"): ASKED,
        ("whole-image", "none"): ASKED,
    }
    assert not any(run.n_errors for run in runs)
    rows = [line for line in done.table.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 6 and "textual-inversion over noun-only, paired" in done.table
    assert (out / "leaderboard" / "README.md").read_text().count("untrained-token") >= 6


def test_the_demo_draws_a_row_for_each_type_of_query_of_each_subject(finished: tuple[Path, Demo]) -> None:
    out, done = finished
    assert (done.sheet, done.page) == (out / "pictures.png", out / "leaderboard.html")
    size = Image.open(done.sheet).size
    assert size == (6 * (220 + 8) + 8, ROWS * (220 + 18 + 8) + 8)
    page = done.page.read_text()
    pictures = json.loads(block(page, "extra"))["gallery"]
    assert [each["uri"].startswith("data:image/png;base64,") for each in pictures] == [True] * ROWS
    captions = [each["caption"].rpartition(": ") for each in pictures]
    assert [caption.split(";")[0] for _, _, caption in captions] == [*QUERY_TYPES] * 2
    assert all("{subject}" in title for title, _, _ in captions)
    assert sum(caption.endswith("it is not here") for _, _, caption in captions) == 2 * len(REFERENTLESS)


def test_the_gallery_shows_photos_scene_truth_map_and_mask(finished: tuple[Path, Demo]) -> None:
    out, _ = finished
    dataset = open_dataset(out / "dataset")
    method = AttentionMethod.make(MethodOptions("textual-inversion", store=str(out / "concepts")))
    rows = gallery(dataset, method)
    photos = {subject.id: subject.photos for subject in dataset.subjects("test")}
    ids = {name: id for id, name in dataset.subject_names("test").items()}
    examples = {(e.query.subject_id, e.query_type): e for e in reversed([*dataset.examples("test")])}  # the first stays
    assert len(rows) == ROWS
    for row in rows:
        subject, kind = ids[row[0][0].removesuffix(": photo")], row[1][0].removesuffix(": another photo")
        example = examples[subject, kind]
        assert np.array_equal(row[0][1], photos[subject][0]) and np.array_equal(row[1][1], photos[subject][1])
        assert row[2][0] == example.query.text and np.array_equal(row[2][1], example.image)
        drawn = (row[3][1] != example.image).any(axis=2)
        marked = np.any([example.mask, *example.look_alikes], axis=0)
        assert not (drawn & ~marked).any() and drawn.any() == marked.any()
        blue, green = ((row[3][1] == colour).all(axis=2) for colour in (SKY, GREEN))
        assert all((blue & other).sum() > 8 and not (green & other).any() for other in example.look_alikes)
        assert not (blue & example.mask).any() and (green & example.mask).any() == example.mask.any()
        assert row[4][0].startswith("map, presence 0.")
        assert all(picture.shape == example.image.shape for _, picture in row[2:])
        (answer,) = method.locate(example.image, [example.query], {subject: method.learn(subject_of(out, subject))})
        mask = answer.mask
        assert mask is not None
        assert np.array_equal((row[5][1] != example.image).any(axis=2) | ~mask, np.ones(mask.shape, bool))
        if kind not in REFERENTLESS:
            overlap = (mask & example.mask).sum() / (mask | example.mask).sum()
            assert row[5][0] == f"mask, IoU {overlap:.2f}"


def subject_of(out: Path, subject_id: str) -> Subject:
    """As the demo's runs get it: photos alone."""
    there = open_dataset(out / "dataset").subjects("test")
    return next(dataclasses.replace(one, masks=()) for one in there if one.id == subject_id)


def test_a_second_demo_takes_what_is_there(finished: tuple[Path, Demo]) -> None:
    out, first = finished
    kept = {path: path.read_bytes() for path in (out / "runs").rglob("*") if path.is_file()}
    again, _, steps = run(out)
    assert steps == 0 and again.table == first.table
    assert {path: path.read_bytes() for path in (out / "runs").rglob("*") if path.is_file()} == kept


def test_a_demo_with_another_seed_shares_the_table(finished: tuple[Path, Demo], tmp_path: Path) -> None:
    out, first = finished
    shutil.copytree(out, tmp_path / "demo")
    second, _, _ = run(tmp_path / "demo", seed=1)
    assert "| textual-inversion (2 seeds) |" in second.table and "seeds" not in first.table
    assert len(load_runs(tmp_path / "demo" / "leaderboard")) == 2 * len(load_runs(out / "leaderboard"))


def test_the_small_set_has_every_type_of_query() -> None:
    assert set(SMALL.groups) == set(GROUPS) and min(SMALL.groups.values()) >= 1 and SMALL.subjects["test"] == 2
    assert demo.RUNS[0] == ("attn", "textual-inversion"), "the gallery shows the first that learns"


@pytest.mark.slow
def test_the_demo_runs_on_the_embedded_backbone_within_minutes(tmp_path: Path) -> None:
    if not EMBEDDED.is_file():
        pytest.skip("the embedded backbone has no weights yet")
    command = [sys.executable, "-m", "prisbench.cli.main", "demo", "--out", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "| textual-inversion |" in done.stdout and f"pictures: {tmp_path / 'demo' / 'pictures.png'}" in done.stdout
    runs = {(run.method, run.concept): run for run in load_runs(tmp_path / "demo" / "leaderboard")}
    score = {
        key: np.mean([q.counts.intersection / q.counts.union for q in run.queries if q.query_type not in REFERENTLESS])
        for key, run in runs.items()
    }
    learned = score["attn", "textual-inversion"]
    assert learned > max(score[key] for key in score if key[0] != "attn"), json.dumps(
        {str(k): v for k, v in score.items()}
    )
    assert Image.open(io.BytesIO((tmp_path / "demo" / "pictures.png").read_bytes())).format == "PNG"
