"""Texts read for any method that offers parts: which part is taken, what is recorded, who cannot have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.evaluate import evaluate
from prisbench.methods import check_options, load_method
from prisbench.relations import ReadsRelations, TextSettings, split_settings, with_relations
from prisbench.runtime.identity import identity
from prisbench.settings import MethodOptions
from prisbench.types import Candidate, Concept, GivesCandidates, Method, Prediction, Query, Subject, TellsCost
from prisbench.types import TellsForm as Form
from tests.drawing import draw_box

READ = {"text.relations": True}
HW = (60, 90)
LEFT, RIGHT = draw_box(HW, 20, 8, 36, 24), draw_box(HW, 20, 66, 36, 82)
BOTTLE = draw_box(HW, 18, 54, 36, 62)


def scene() -> np.ndarray:
    """Two yellow mugs alike, and between them, nearer to the right one, a blue bottle on grey."""
    image = np.full((*HW, 3), 128, np.uint8)
    image[LEFT | RIGHT] = (240, 215, 50)
    image[BOTTLE] = (45, 80, 200)
    return image


class Both:
    """Sees both mugs alike and prefers the left one by a hair."""

    name = "both"

    def __init__(self, rest: Mapping[str, Any] | None = None) -> None:
        self.settings: Mapping[str, Any] = {"level": 3, **(rest or {})}
        self.heard: list[str] = []
        self.asked = 0

    def learn(self, subject: Subject) -> Concept:
        return Concept("both", subject.id, subject.noun, "none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        self.heard += [query.text for query in queries]
        return [Prediction(query.id, LEFT, (25, 10), 0.8, LEFT.astype(np.float32)) for query in queries]

    def candidates(self, image: np.ndarray, subject: Subject) -> list[Candidate]:
        self.asked += 1
        return [Candidate(LEFT, 0.8), Candidate(RIGHT, 0.79), Candidate(draw_box(HW, 0, 0, 2, 2), 0.01)]


MUG = Subject("m", "mug", (scene(),))


def answers(*texts: str, method: Any = None, **settings: float) -> list[Prediction]:
    inner = method or Both()
    reads = with_relations(inner, TextSettings(True, **settings))
    concepts = {"m": reads.learn(MUG)}
    return reads.locate(scene(), [Query(str(n), "m", text) for n, text in enumerate(texts)], concepts)


def side(answer: Prediction) -> str:
    assert answer.mask is not None
    return "left" if np.array_equal(answer.mask, LEFT) else "right" if np.array_equal(answer.mask, RIGHT) else "else"


def test_the_part_that_keeps_the_text_is_the_answer() -> None:
    found = answers(
        "the {subject}",
        "the {subject} to the right of a blue bottle",
        "the {subject} left of the blue bottle",
        "the rightmost {subject}",
        "the leftmost {subject}",
        "the {subject} next to a blue bottle",
    )
    assert [side(answer) for answer in found] == ["left", "right", "left", "right", "left", "right"]
    for answer in found:
        assert answer.mask is not None and answer.peak_yx is not None and answer.mask[answer.peak_yx]
        assert answer.presence is not None and 0 < answer.presence <= 0.8


def test_a_text_that_no_part_keeps_is_not_here() -> None:
    behind, right = answers("the {subject} behind a blue bottle", "the rightmost {subject}")
    assert behind.presence is not None and right.presence is not None and right.mask is not None
    (low,) = answers("the {subject} left of the blue bottle", method=_Only(RIGHT))
    assert low.mask is None and low.presence is not None and low.presence < 0.1
    (kept,) = answers("the {subject} left of the blue bottle", method=_Only(RIGHT), least=0.0)
    assert kept.mask is not None, "text.least=0: never silent"


class _Only(Both):
    def __init__(self, mask: np.ndarray) -> None:
        super().__init__()
        self.only = mask

    def candidates(self, image: np.ndarray, subject: Subject) -> list[Candidate]:
        return [Candidate(self.only, 0.8)]


def test_the_method_hears_no_places_and_is_asked_for_parts_once_a_subject() -> None:
    inner = Both()
    answers("the {subject} right of the bottle", "the rightmost {subject}", "the {subject}", method=inner)
    assert inner.heard == ["the {subject}"] * 3 and inner.asked == 1
    answers("the {subject}", method=inner)
    assert inner.asked == 1, "texts without places need no parts"


def test_what_a_method_says_is_not_there_stays_so_and_no_parts_leave_the_answer() -> None:
    class Absent(Both):
        def locate(self, image: Any, queries: Sequence[Query], concepts: Any) -> list[Prediction]:
            return [Prediction(query.id, None, presence=0.1) for query in queries]

    class None_(Both):
        def candidates(self, image: np.ndarray, subject: Subject) -> list[Candidate]:
            return []

    (absent,) = answers("the rightmost {subject}", method=Absent())
    assert absent.mask is None and absent.presence == 0.1
    (alone,) = answers("the rightmost {subject}", method=None_())
    assert side(alone) == "left" and alone.presence == 0.8


def test_settings_of_the_text_are_the_harnesses_and_no_methods() -> None:
    text, own = split_settings({"text.relations": True, "text.power": 1, "share": 0.3})
    assert text == TextSettings(True, 1.0) and own == {"share": 0.3}
    assert (
        load_method("center-box", MethodOptions(settings={"text.relations": False, "share": 0.3})).name == "center-box"
    )
    for settings, message in (
        ({"text.relation": True}, r"unknown setting 'text.relation': did you mean 'text.relations'"),
        (
            {"text.relations": "yes"},
            r"setting text.relations='yes' is of another kind than its default False; give true or false",
        ),
        ({"text.least": 2}, r"text.least=2 makes no sense; give a number of at least 0"),
    ):
        with pytest.raises(UsageError, match=message):
            load_method("center-box", MethodOptions(settings=settings))
        with pytest.raises(UsageError, match=message):
            check_options("attn", [MethodOptions(settings=settings)])
    with pytest.raises(UnknownNameError, match="unknown setting 'shar'"):
        load_method("center-box", MethodOptions(settings={"shar": 1, "text.relations": False}))


def test_a_method_without_parts_cannot_have_its_texts_read_and_is_told_why() -> None:
    with pytest.raises(UsageError, match=r"center-box offers no parts to choose among; give it candidates\(image"):
        load_method("center-box", MethodOptions(settings=READ))


def test_parts_that_are_none_and_subjects_never_learned_are_one_line() -> None:
    class Boxes(Both):
        def candidates(self, image: np.ndarray, subject: Subject) -> Any:
            return [(0, 0, 5, 5)]

    with pytest.raises(DataError, match=r"both: a candidate of 'm' is no prisbench.Candidate .* 60 x 90 pixels"):
        answers("the rightmost {subject}", method=Boxes())

    class Nothing(Both):
        def candidates(self, image: np.ndarray, subject: Subject) -> Any:
            return None

    with pytest.raises(DataError, match=r"both: candidates gave NoneType; `prisbench try` says more"):
        answers("the rightmost {subject}", method=Nothing())
    reads = with_relations(Both(), TextSettings(True))
    with pytest.raises(DataError, match=r"both\+relations has not learned 'm'"):
        reads.locate(scene(), [Query("q", "m", "the rightmost {subject}")], {"m": Both().learn(MUG)})


# --- through the loop -----------------------------------------------------------------------------------------------

FILE = """
import numpy as np
from prisbench import Candidate, Concept, Prediction

class Yellow:
    name, settings = "yellow", {}

    def learn(self, subject):
        return Concept("y", subject.id, subject.noun, "none")

    def locate(self, image, queries, concepts):
        return [Prediction(query.id, self.candidates(image, None)[0].mask) for query in queries]

    def candidates(self, image, subject):
        yellow = (image[..., 0] > 200) & (image[..., 2] < 100)
        left = np.arange(image.shape[1]) < image.shape[1] // 2
        return [Candidate(yellow & left, 0.8), Candidate(yellow & ~left, 0.7)]

def make(options):
    return Yellow()
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    subject = SubjectRow("mug", (scene()[14:42, 2:30].copy(),), "test", "CC0-1.0", "drawn")
    asked = [("the {subject} left of a blue bottle", LEFT), ("the {subject} right of a blue bottle", RIGHT)]
    queries = [
        QueryRow(
            subject_id=subject.id,
            noun="mug",
            image=scene(),
            text=text,
            query_type="relation",
            mask=mask,
            look_alikes=(),
            split="test",
            licence="CC0-1.0",
            source="drawn",
        )
        for text, mask in asked
    ]
    folder = tmp_path_factory.mktemp("relations") / "data"
    write_dataset(folder, NewDataset("pair", "1", [subject], queries, "# Pair\n"))
    return open_dataset(folder)


def test_a_run_with_read_texts_is_a_run_of_its_own_that_says_what_it_sees(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "method.py"
    path.write_text(FILE)
    plain, _ = evaluate(dataset, load_method(str(path)), tmp_path / "runs")
    read = load_method(str(path), MethodOptions(settings=READ))
    run, where = evaluate(dataset, read, tmp_path / "runs")
    right = [sum(query.counts.intersection == query.counts.union for query in each.queries) for each in (plain, run)]
    assert right == [1, 2]
    assert (plain.method, run.method, where.parent.name) == ("yellow", "yellow+relations", "yellow+relations--none")
    text = {"relations": True, "power": 2.0, "least": 0.2, "landmarks": "colour words", "sees": "places in texts"}
    assert run.settings == {"text": text} and plain.settings == {}
    code = run.identity["code"]
    assert {"method.py", "prisbench/relations.py", "prisbench/phrases.py", "prisbench/network_free/reader.py"} <= set(
        code
    )
    assert run.identity["class"] == "ReadsRelations(Yellow)" and "prisbench/relations.py" not in plain.identity["code"]
    path.write_text(FILE.replace("0.7", "0.6"))
    with pytest.raises(DataError, match=r"yellow\+relations as it was before: code of method.py changed"):
        evaluate(dataset, load_method(str(path), MethodOptions(settings=READ)), tmp_path / "runs")


def test_the_predictors_without_a_network_have_their_texts_read() -> None:
    method = load_method("network-free-colour", MethodOptions(settings={**READ, "threshold": 0.0}))
    mug = Subject(
        "m", "mug", (scene()[14:42, 2:30].copy(), scene()[10:44, 0:32].copy()), (LEFT[14:42, 2:30], LEFT[10:44, :32])
    )
    concepts = {"m": method.learn(mug)}
    texts = ("the {subject} left of the blue bottle", "the {subject} to the right of the blue bottle")
    left, right = method.locate(scene(), [Query(str(n), "m", text) for n, text in enumerate(texts)], concepts)
    assert left.mask is not None and right.mask is not None
    assert (left.mask & LEFT).sum() > 0.7 * LEFT.sum() and not (left.mask & RIGHT).any()
    assert (right.mask & RIGHT).sum() > 0.7 * RIGHT.sum() and not (right.mask & LEFT).any()


def test_attn_has_its_texts_read_and_keeps_its_members(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "tiny")
    settings = {"localizer.refine": "none", "localizer.samples": 1, "localizer.presence": None, **READ}
    method = load_method("attn", MethodOptions("noun-only", str(folder), settings=settings, store=str(tmp_path / "c")))
    plain = load_method(
        "attn",
        MethodOptions("noun-only", str(folder), settings={k: v for k, v in settings.items() if k != "text.relations"}),
    )
    assert isinstance(method, ReadsRelations) and isinstance(method, Method) and isinstance(method, GivesCandidates)
    assert isinstance(method, TellsCost) and isinstance(method, Form) and method.name == "attn+relations"
    photo = np.random.default_rng(7).integers(0, 256, (112, 144, 3), dtype=np.uint8)
    subject = Subject("mine", "mug", (photo,))
    concepts = {"mine": method.learn(subject)}
    where, without = Query("a", "mine", "the leftmost {subject}"), Query("b", "mine", "the {subject}")
    first, second = method.locate(photo, [where, without], concepts)
    (as_ever,) = plain.locate(photo, [without], concepts)
    assert second.mask is not None and as_ever.mask is not None and np.array_equal(second.mask, as_ever.mask)
    parts = method.candidates(photo, subject)
    assert first.mask is None or any(np.array_equal(first.mask, part.mask) for part in parts)
    there, plainly = identity(method), identity(plain)
    assert set(plainly["code"]) < set(there["code"]) and there["weights"] == plainly["weights"]
