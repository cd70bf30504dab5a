"""Controls of an input: any method runs without the place in a text, or with another subject's photos."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench.datasets.load import open_dataset
from prisbench.deaf import deaf_queries, deaf_subjects, other_subject
from prisbench.errors import UnknownNameError
from prisbench.evaluate import evaluate
from prisbench.runs import RunOptions
from prisbench.types import Concept, Prediction, Query, Subject
from tests.drawing import draw_scene


class Listens:
    """Keeps what it is given, and says that nothing is there."""

    name = "listens"

    def __init__(self) -> None:
        self.settings: Mapping[str, Any] = {"a": 1}
        self.texts: dict[str, str] = {}
        self.photos: dict[str, np.ndarray] = {}

    def learn(self, subject: Subject) -> Concept:
        self.photos[subject.id] = subject.photos[0]
        return Concept("none", subject.id, subject.noun, "none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        self.texts |= {query.id: query.text for query in queries}
        return [Prediction(query.id, None) for query in queries]


def test_texts_lose_their_place_and_nothing_else() -> None:
    asked = [Query("a", "s", "the {subject} left of the box"), Query("b", "s", "a photo of the {subject}")]
    assert deaf_queries(asked, None) == asked and deaf_queries(asked, "subject") == asked
    assert deaf_queries(asked, "relation") == [Query("a", "s", "the {subject}"), asked[1]]


def test_subjects_change_their_photos_and_keep_their_names() -> None:
    several = [
        Subject(id, noun, (draw_scene(n),)) for n, (id, noun) in enumerate((("a", "mug"), ("b", "mug"), ("c", "jar")))
    ]
    changed = deaf_subjects(several, "subject")
    assert [(each.id, each.noun) for each in changed] == [("a", "mug"), ("b", "mug"), ("c", "jar")]
    for own, lent in zip(several, changed, strict=True):
        assert np.array_equal(lent.photos[0], other_subject(own, several).photos[0])
        assert not np.array_equal(lent.photos[0], own.photos[0])
    assert deaf_subjects(several, None) == several


def test_a_run_without_an_input_says_so_in_its_name_and_settings(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset, heard = open_dataset(tiny_dataset), {}
    for deaf in (None, "relation", "subject"):
        method = heard[deaf] = Listens()
        run, path = evaluate(dataset, method, tmp_path, options=RunOptions(deaf=deaf))
        name = "listens" if deaf is None else f"listens-deaf-to-{deaf}"
        assert run.method == name and path.parent.name == f"{name}--none"
        assert json.loads(path.read_text())["settings"] == {"a": 1, **({"deaf": deaf} if deaf else {})}
        assert method.name == "listens", "the method is not changed"
    assert any("left of" in text for text in heard[None].texts.values())
    assert set(heard["relation"].texts.values()) == {"the {subject}"}
    assert heard["subject"].texts == heard[None].texts
    shown, lent = heard[None].photos, heard["subject"].photos
    assert set(shown) == set(lent) and all(not np.array_equal(shown[key], lent[key]) for key in shown)


def test_an_input_that_cannot_be_kept_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown input to be deaf to 'relations': did you mean 'relation'"):
        evaluate(open_dataset(tiny_dataset), Listens(), tmp_path, options=RunOptions(deaf="relations"))
