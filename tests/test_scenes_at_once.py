"""Several scenes at once: nothing is encoded twice, and every answer is the one that a scene alone gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_persam2 import tiny_sam2
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.evaluate import evaluate
from prisbench.images.seen import MOST, Seen
from prisbench.methods import load_method
from prisbench.predictions import read_predictions
from prisbench.runs import PREDICTIONS, RunOptions
from prisbench.settings import MethodOptions
from prisbench.types import Concept, LooksAhead, Prediction, Query, Subject
from tests.drawing import draw_box
from tests.drawn_rows import query_row, subject_row

# --- what is kept ---------------------------------------------------------------------------------------------------


def test_no_photo_is_encoded_twice_while_it_is_kept() -> None:
    passes: list[int] = []

    def encode(images: Sequence[np.ndarray]) -> list[int]:
        passes.append(len(images))
        return [int(image.sum()) for image in images]

    seen, photos = Seen(encode), [np.full((2, 3 + n % 2, 3), n, np.uint8) for n in range(MOST + 4)]
    seen.ahead([photos[1], photos[2], photos[1].copy()])
    assert passes == [2], "two of them are the same photo"
    assert [seen(photos[n]) for n in (1, 2, 1)] == [24, 36, 24] and passes == [2]
    seen.ahead(photos[:3])
    assert passes == [2, 1] and seen(photos[0]) == 0
    seen.ahead(photos)
    assert passes == [2, 1, MOST], "no more at once than are kept"
    assert seen(photos[-1]) == int(photos[-1].sum()) and passes[-1] == 1


# --- the methods that come along ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny models of the classes that have no embedded one."""
    top = tmp_path_factory.mktemp("ahead")
    tiny_sam2().save_pretrained(top / "sam2")
    config = DINOv3ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=64
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        DINOv3ViTModel(config).save_pretrained(top / "dinov3")
    return {"sam2": str(top / "sam2"), "dinov3": str(top / "dinov3")}


def shown(size_hw: tuple[int, int], at_yx: tuple[int, int]) -> np.ndarray:
    """A red and white thing on a grey ground."""
    y, x = at_yx
    image = np.full((*size_hw, 3), 110, np.uint8)
    image[y : y + 40, x : x + 36] = (200, 30, 40)
    image[y + 10 : y + 20, x : x + 36] = 240
    return image


SCENES = [
    shown((112, 144), (30, 20)),
    shown((112, 144), (50, 90)),
    shown((90, 60), (10, 12)),
    shown((112, 144), (2, 2)),
]
SUBJECT = Subject("s", "mug", (shown((96, 120), (20, 30)),), (draw_box((96, 120), 20, 30, 60, 66),))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("clipseg", None),
        ("sam-matching", None),
        ("unet-features", None),
        ("dinov3-features", "dinov3"),
    ],
)
def test_an_answer_is_the_same_whatever_scenes_were_looked_at_with_it(
    name: str, model: str | None, folders: dict[str, str]
) -> None:
    if name == "sam-matching":
        pytest.importorskip("cv2")
    settings = {} if name == "clipseg" else {"threshold": 0.0}
    options = MethodOptions(model=folders[model] if model else None, settings=settings)
    method: Any = load_method(name, options)
    concepts = {"s": method.learn(SUBJECT)}
    assert isinstance(method, LooksAhead)

    def answers(together: int) -> list[Prediction]:
        fresh: Any = load_method(name, options)
        for start in range(0, len(SCENES), together):
            if together > 1:
                fresh.look_ahead(SCENES[start : start + together])
        return [fresh.locate(scene, [Query("q", "s", "the {subject}")], concepts)[0] for scene in SCENES]

    alone = answers(1)
    assert any(each.mask is not None and each.mask.any() for each in alone), "or nothing is compared"
    for together in (2, 4):
        for one, other in zip(alone, answers(together), strict=True):
            assert (one.mask is None) == (other.mask is None)
            if one.mask is not None and other.mask is not None:
                assert np.array_equal(one.mask, other.mask)
            assert one.presence == pytest.approx(other.presence, abs=1e-5)
            if one.score is not None:
                assert other.score is not None and np.abs(one.score - other.score).max() <= 1e-5


def test_persam_does_not_look_ahead() -> None:
    """It begins with the one most similar pixel, which rounding may change."""
    assert not isinstance(load_method("persam", MethodOptions()), LooksAhead)


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Five scenes with two queries each, about a mug and a bowl."""
    subjects = [subject_row(n, noun, photos=1) for n, noun in enumerate(("mug", "bowl"))]
    queries = [query_row(subject, n, f"the {{subject}} of scene {n}") for n in range(5) for subject in subjects]
    folder = tmp_path_factory.mktemp("at-once") / "data"
    write_dataset(folder, NewDataset("five", "1", subjects, queries, "# Five\n"))
    return open_dataset(folder)


class Ahead:
    """Says how it was called; ``fails`` at its second look ahead."""

    name, settings = "ahead", {"tau": 0.5}

    def __init__(self, fails: bool = False) -> None:
        self.looks: list[int] = []
        self.fails = fails

    def look_ahead(self, images: Sequence[np.ndarray]) -> None:
        self.looks.append(len(images))
        images[0][:] = 0  # a method's copy: the scene stays as it was
        if self.fails and len(self.looks) == 2:
            raise RuntimeError("out of memory")

    def learn(self, subject: Subject) -> Concept:
        return Concept("a", subject.id, subject.noun, "none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        return [Prediction(query.id, image[..., 0] > 99) for query in queries]


def run(dataset: Dataset, method: Ahead, root: Path, at_once: int) -> list[tuple[str, Any]]:
    made, path = evaluate(dataset, method, root, None, RunOptions(scenes_at_once=at_once))
    assert made.n_errors == 0
    records = read_predictions(path.parent / PREDICTIONS)
    assert all(record.seconds is not None and record.seconds >= 0 for record in records)
    return [(record.query_id, record.rle) for record in records]


def test_a_run_looks_ahead_where_it_is_told_to_and_answers_alike(dataset: Dataset, tmp_path: Path) -> None:
    alone, two, all_, failing = Ahead(), Ahead(), Ahead(), Ahead(fails=True)
    wanted = run(dataset, alone, tmp_path / "1", 1)
    assert alone.looks == []
    assert run(dataset, two, tmp_path / "2", 2) == wanted and two.looks == [2, 2], "one scene alone needs no look"
    assert run(dataset, all_, tmp_path / "8", 8) == wanted and all_.looks == [5]
    assert run(dataset, failing, tmp_path / "f", 2) == wanted and failing.looks == [2, 2], "the last look is the last"


def test_a_run_that_goes_on_looks_at_what_is_left(dataset: Dataset, tmp_path: Path) -> None:
    wanted = run(dataset, Ahead(), tmp_path, 1)
    (path,) = tmp_path.rglob(PREDICTIONS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))  # the first scene, and half of the second
    method = Ahead()
    assert run(dataset, method, tmp_path, 3) == wanted and method.looks == [2, 2]
