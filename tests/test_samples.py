"""Samples of real photos by name: where they come from, and what is said where their files are not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from prisbench.datasets.cards.text import block, read_card
from prisbench.datasets.named import find_dataset
from prisbench.datasets.samples import DATA_VARIABLE, SAMPLES, has_sample, sample_root
from prisbench.errors import DataError, UnknownNameError
from prisbench.leaderboard.ceilings import result_files
from prisbench.leaderboard.rescore import finder, kept_records
from prisbench.leaderboard.rows import records_of, rows
from prisbench.results import DatasetRef, read_run
from tests.drawing import draw_scene

ROOT = Path(__file__).parents[1]
DATA = os.environ.get(DATA_VARIABLE)
PERSEG = "perseg-examples-v1"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def ref(name: str, digest: str = "0") -> DatasetRef:
    title, _, version = name.rpartition("-v")
    return DatasetRef(title, version, digest, "test")


def test_without_its_files_a_sample_is_one_line_and_rows_on_it_are_not_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, str(tmp_path), ""):
        monkeypatch.delenv(DATA_VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(DATA_VARIABLE, value)
        with pytest.raises(
            DataError, match=f"^{PERSEG} is made of files .*{DATA_VARIABLE}.* as perseg_examples; data_"
        ):
            find_dataset(PERSEG)
        assert not has_sample(PERSEG) and finder()(ref(PERSEG)) is None
    with pytest.raises(UnknownNameError, match="did you mean 'perseg-examples-v1'"):
        find_dataset("perseg-example-v1")
    assert not has_sample("tabletop-v3")


def test_files_of_another_content_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    for n in range(2):
        for kind, image in (("Images", draw_scene(n)), ("Annotations", (draw_scene(n)[..., 0] > 100).astype("uint8"))):
            folder = tmp_path / "perseg_examples" / kind / "mug"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"0{n}.{'jpg' if kind == 'Images' else 'png'}")
    assert has_sample(PERSEG) and sample_root(PERSEG) == tmp_path / "perseg_examples"
    for _ in range(2):
        with pytest.raises(DataError, match=f"{PERSEG} has cce5d6132747afb7: its files are others than data_cards/"):
            find_dataset(PERSEG)


def test_cards_and_rows_of_samples_are_of_the_same_content() -> None:
    for name, sample in SAMPLES.items():
        assert sample.digest in (block(read_card(ROOT / "data_cards" / f"{name}.md").body, "facts") or "")
        paths = result_files(ROOT / "leaderboards" / name)
        assert len(paths) == 16, "four floors, and six predictors in two reference settings"
        runs = [read_run(path) for path in paths]
        assert {run.dataset.digest for run in runs} == {sample.digest}
        for path, run in zip(paths, runs, strict=True):
            assert kept_records(path, run) is not None, "a row without its masks cannot be scored again"
        assert {row["tier"] for row in records_of(rows(runs))} == {None}, "three and five subjects rank nothing"


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason=f"{DATA_VARIABLE} names no folder with real photos")
def test_a_sample_is_built_once_and_then_in_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = find_dataset("ycb-video-sample-v2")
    assert (dataset.id, len(list(dataset.subjects("test")))) == ("ycb-video-sample-v2", 5)
    monkeypatch.delenv(DATA_VARIABLE)
    found = finder()(ref("ycb-video-sample-v2"))
    assert found is not None and found.digest == SAMPLES["ycb-video-sample-v2"].digest
    shutil.rmtree(cache)
    assert finder()(ref("ycb-video-sample-v2")) is None
