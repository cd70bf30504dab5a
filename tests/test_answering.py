"""A method that misbehaves on some images fails on those: the others are answered, and the failures are counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench.answering import PATIENCE
from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.errors import DataError
from prisbench.evaluate import evaluate
from prisbench.methods import check_options, load_method
from prisbench.runs import RunOptions
from prisbench.runtime.limits import OutOfTime, time_limit
from prisbench.settings import MethodOptions
from prisbench.types import Concept, Prediction, Query, Subject
from tests.drawn_rows import query_row, subject_row

SCENES = 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Six scenes with two queries each, about a mug and a bowl."""
    subjects = [subject_row(n, noun, photos=1) for n, noun in enumerate(("mug", "bowl"))]
    queries = [query_row(subject, n, f"the {{subject}} of scene {n}") for n in range(SCENES) for subject in subjects]
    folder = tmp_path_factory.mktemp("answering") / "data"
    write_dataset(folder, NewDataset("six", "1", subjects, queries, "# Six\n"))
    return open_dataset(folder)


class Quirky:
    """Does something else in one scene; ``answer(image, query)`` is what it does there."""

    name, settings = "quirky", {"tau": 0.5}

    def __init__(self, answer: Callable[[np.ndarray, Query], Any], scenes: Sequence[int]) -> None:
        self.odd, self.scenes = answer, scenes

    def learn(self, subject: Subject) -> Concept:
        return Concept("q", subject.id, subject.noun, "none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Any]:
        return [
            self.odd(image, query)
            if any(f"scene {n}" in query.text for n in self.scenes)
            else Prediction(query.id, np.ones(image.shape[:2], bool), seconds=0.1)
            for query in queries
        ]


def wrong(image: np.ndarray, query: Query) -> Prediction:
    return Prediction(query.id, np.ones((3, 4), bool))


def loop(image: np.ndarray, query: Query) -> Prediction:
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def nan(image: np.ndarray, query: Query) -> Prediction:
    return Prediction(query.id, None, score=np.full(image.shape[:2], np.nan))


def cancelled(image: np.ndarray, query: Query) -> Prediction:
    raise asyncio.CancelledError("not today")


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (wrong, "the prediction mask is 3 x 4, the scene 12 x 20"),
        (nan, "the score holds NaN or infinity"),
        (cancelled, "CancelledError: not today"),
        (loop, "took more than 0.3 seconds for one image"),
    ],
)
def test_an_image_that_a_method_fails_on_is_counted_and_the_others_go_on(
    odd: Callable[..., Any], message: str, dataset: Dataset, tmp_path: Path
) -> None:
    options = RunOptions(image_seconds=0.3)
    run, _ = evaluate(dataset, Quirky(odd, [2]), tmp_path / "odd", options=options)
    fine, _ = evaluate(dataset, Quirky(odd, []), tmp_path / "fine")
    failed = [query for query in run.queries if query.error is not None]
    assert run.n_errors == len(failed) == 2 and all(message in str(query.error) for query in failed)
    assert [a for a in run.queries if a.error is None] == [
        b for a, b in zip(run.queries, fine.queries, strict=True) if a.error is None
    ]


def test_a_breach_in_the_first_images_is_counted_once_another_image_is_sound(dataset: Dataset, tmp_path: Path) -> None:
    order = [example.query.text for example in dataset.examples("test")]
    first = int(order[0][-1])
    run, _ = evaluate(dataset, Quirky(wrong, [first]), tmp_path)
    assert run.n_errors == 2 and [query.error is None for query in run.queries].index(True) == 2
    mended, _ = evaluate(dataset, Quirky(wrong, []), tmp_path / "mended")
    again, _ = evaluate(dataset, Quirky(wrong, []), tmp_path)
    assert again.queries == mended.queries, "what failed is tried again"
    with pytest.raises(DataError, match=r"quirky failed on query '\w+': quirky, query .* is 3 x 4"):
        evaluate(dataset, Quirky(wrong, [first]), tmp_path / "strict", options=RunOptions(fail_on_error=True))


def test_a_method_that_is_sound_nowhere_is_stopped_after_a_few_images(dataset: Dataset, tmp_path: Path) -> None:
    asked: list[str] = []

    def note(image: np.ndarray, query: Query) -> Prediction:
        asked.append(query.text)
        return wrong(image, query)

    with pytest.raises(DataError, match="the prediction mask is 3 x 4"):
        evaluate(dataset, Quirky(note, range(SCENES)), tmp_path)
    assert len(asked) == 2 * PATIENCE < 2 * SCENES
    assert [path.read_bytes() for path in tmp_path.rglob("predictions.jsonl")] == [b""]


def test_what_a_method_writes_into_an_image_the_next_call_does_not_see(dataset: Dataset, tmp_path: Path) -> None:
    seen: list[int] = []

    def paint(image: np.ndarray, query: Query) -> Any:
        seen.append(int(image.sum()))
        image[:] = 0
        raise ValueError("try me alone")

    evaluate(dataset, Quirky(paint, [2]), tmp_path)
    assert len(seen) == 3 and len(set(seen)) == 1, "together, then each alone"


def test_a_limit_ends_python_code_again_and_again_and_only_there() -> None:
    start = time.perf_counter()
    with pytest.raises(OutOfTime), time_limit(0.05):
        time.sleep(5)
    assert time.perf_counter() - start < 2
    with time_limit(0.05):
        pass
    time.sleep(0.1)  # nothing rings afterwards
    with time_limit(0.0), time_limit(None):
        time.sleep(0.01)
    found: list[bool] = []

    def elsewhere() -> None:
        with time_limit(0.01):
            time.sleep(0.05)
        found.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [True], "no signals there, so no limit"


FILE = """
from prisbench import Concept, Prediction
class Odd:
    name = "odd"
    {line}
    def learn(self, subject): return Concept("c", subject.id, subject.noun, "none")
    def locate(self, image, queries, concepts): return [Prediction(query.id, None) for query in queries]
def make(options): return Odd()
{more}
"""


def test_members_that_raise_are_one_line(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "method.py"
    path.write_text(FILE.format(line="@property\n    def settings(self): raise ValueError('not yet')", more=""))
    with pytest.raises(DataError, match="name or settings of Odd raise ValueError: not yet; give plain values"):
        load_method(str(path))
    path.write_text(FILE.format(line="settings = {}", more="def check(options): raise KeyError('x')"))
    with pytest.raises(DataError, match=r"check\(options\) failed: KeyError: 'x'"):
        check_options(str(path), [MethodOptions()])
    path.write_text(FILE.format(line="settings = {}\n    subjects = property(lambda self: ())", more=""))
    with pytest.raises(DataError, match=r"odd: its subjects cannot be set: AttributeError.*make it a plain attribute"):
        evaluate(dataset, load_method(str(path)), tmp_path / "runs")
