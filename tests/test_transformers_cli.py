"""Each family of transformers from the command line: a photo, a photo with a learned concept, a dataset."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_transformers
from PIL import Image

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from tests.command_line import called
from tests.drawing import draw_box, draw_scene

FAMILIES = {"sd35": "sd3", "flux-dev": "flux", "klein": "klein", "pixart-sigma": "pixart"}
SIZE = ("--set=localizer.working_size=128", "--set=learner.working_size=128")
QUICK = (*SIZE, "--set=learner.steps=1", "--set=learner.batch=1")
FEW = ("--set=localizer.refine=none", '--set=localizer.evidence={"timesteps":[500],"samples":1}')


@pytest.fixture
def prisbench(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(called, monkeypatch, capfd)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, (h, w) in enumerate(((112, 144), (144, 112))):
        drawn = np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8)
        Image.fromarray(drawn).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_folder_answers_with_the_noun_and_with_a_learned_concept(
    kind: str, prisbench: Any, photos: Path, tmp_path: Path
) -> None:
    backbone = tiny_transformers.save(tmp_path / kind, kind)
    find = ["segment", photos / "0.png", "--text", "the {subject} on the table", "--backbone", backbone, *SIZE]
    plain = prisbench(*find, "--noun", "mug", "--out", tmp_path / "noun")
    assert plain.code == 0, plain.err
    assert Image.open(tmp_path / "noun" / "mask.png").size == (144, 112)
    assert "untuned" in plain.err + plain.out

    learn = ["learn-concept", "--photos", photos, "--noun", "mug", "--backbone", backbone, *QUICK]
    learned = prisbench(*learn, "--out", tmp_path / "mine", *FEW, "--set=localizer.preset=accurate")
    assert learned.code == 0, learned.err
    recipe = json.loads((tmp_path / "mine" / "concept.json").read_text())
    assert recipe["recipe"]["family"] == FAMILIES[kind] and recipe["calibration"]
    accurate = ["--set=localizer.preset=accurate", *FEW, "--concept", tmp_path / "mine", "--out", tmp_path / "mine-out"]
    found = prisbench(*find, *accurate)
    assert found.code == 0, found.err
    assert "0.2 (untuned)" in found.out + found.err or "off" in found.out + found.err
    sheet = prisbench("presets", "--family", FAMILIES[kind])
    assert sheet.code == 0 and "fast" in sheet.out


def test_a_dataset_is_evaluated_with_the_noun_and_with_learned_concepts(prisbench: Any, tmp_path: Path) -> None:
    size, texts = (64, 112), ("the {subject}", "the {subject} left of the box")
    mug = SubjectRow("mug", (draw_scene(1, size), draw_scene(2, size)), "validation", "CC0-1.0", "drawn")
    queries = [
        QueryRow(
            subject_id=mug.id,
            noun="mug",
            image=draw_scene(10 + i, size),
            text=text,
            query_type=kind,
            mask=draw_box(size, 8, 8, 40, 60),
            look_alikes=(),
            split="validation",
            licence="CC0-1.0",
            source="drawn",
        )
        for i, (text, kind) in enumerate(zip(texts, ("plain", "relation"), strict=True))
    ]
    small = tmp_path / "small-v1"
    write_dataset(small, NewDataset("small", "1", [mug], queries, "# Small\n\nDrawn by the tests.\n", seed=7))
    backbone = tiny_transformers.save(tmp_path / "klein", "klein")
    run = ["evaluate", "--dataset", small, "--split", "validation", "--limit", 2, "--backbone", backbone, *QUICK]
    for concept in ("noun-only", "textual-inversion"):
        answer = prisbench(*run, "--concept", concept, "--out", tmp_path / concept)
        assert answer.code == 0, answer.err
        (manifest,) = (tmp_path / concept).rglob("manifest.json")
        assert "klein@" in manifest.read_text() and '"outputs"' in manifest.read_text()
