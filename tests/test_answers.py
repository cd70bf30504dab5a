"""Every breach of a method's contract is one line: who, which query, what is wrong, and the cure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from prisbench.answers import as_list, check_method, checked, checked_concept
from prisbench.errors import DataError
from prisbench.types import Concept, Prediction, Query, Subject

HW = (3, 5)
MASK = np.ones(HW, bool)
QUERY = Query("q1", "mug", "the {subject}")


def prediction(**values: Any) -> Prediction:
    """One with whatever values: the tests check types where it is made, a user's program does not."""
    made = Prediction("q1", MASK)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def refused(answer: Any, queries: list[Query]) -> str:
    with pytest.raises(DataError) as caught:
        checked("mine", as_list("mine", answer), queries, HW)
    line = str(caught.value)
    assert "\n" not in line and line.startswith("mine")
    return line


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full(HW, 0.9), "the mask is of float64, not bool; threshold it, as in mask > 0.5, or pass it as score"),
        (np.full(HW, 0.9, np.float16), "the mask is of float16, not bool; threshold it"),
        (np.ones(HW, np.uint8), "the mask is of uint8, not bool; say which values are the subject, as in mask > 0"),
        (np.full(HW, 255, np.uint8), "the mask is of uint8, not bool; say which values"),
        (np.ones(HW, int), "the mask is of int64, not bool"),
        (np.ones(HW, object), "the mask is of object, not bool; give booleans"),
        (
            torch.ones(HW, dtype=torch.bool),
            "the mask is of type torch.Tensor; give a numpy array of booleans, height x",
        ),
        (Image.new("L", (5, 3)), "the mask is of type PIL.Image; give a numpy array of booleans"),
        ([[True] * 5] * 3, "the mask is of type list; give a numpy array of booleans"),
        (np.ma.masked_array(MASK, MASK), "the mask is of type numpy.MaskedArray; give a numpy array"),
        (MASK.T, "the prediction mask is 5 x 3, the scene 3 x 5 (height x width); height comes first"),
        (MASK[None], "the prediction mask is 1 x 3 x 5, the scene 3 x 5 (height x width); answer in its pixels"),
        (np.True_, "the mask is of type numpy.bool"),
    ],
)
def test_a_mask_is_a_boolean_array_of_the_scene(mask: Any, message: str) -> None:
    assert refused([prediction(mask=mask)], [QUERY]).startswith(f"mine, query 'q1': {message}")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"presence": 1.2}, "presence is 1.2; give a belief in 0..1, or None"),
        ({"presence": np.float32(-0.5)}, "presence is -0.5; give a belief in 0..1"),
        ({"presence": float("nan")}, "presence is nan, which is not a number; give None when there is none"),
        ({"presence": "0.5"}, "presence is of type str; give a number, such as float(x), or None"),
        ({"presence": torch.tensor(0.5)}, "presence is of type torch.Tensor; give a number, such as float(x)"),
        ({"seconds": -1.0}, "seconds is -1.0; give the seconds it took, or None"),
        ({"seconds": float("inf")}, "seconds is inf, which is not a number"),
        ({"peak_yx": (3, 0)}, "peak_yx is (3, 0), outside of the scene of 3 x 5 pixels; y comes first"),
        ({"peak_yx": (0, -1)}, "peak_yx is (0, -1), outside of the scene"),
        ({"peak_yx": (1.0, 2.0)}, "peak_yx is (1.0, 2.0); give two whole numbers, (y, x) in pixels, or None"),
        ({"peak_yx": (1, 2, 0)}, "peak_yx is (1, 2, 0); give two whole numbers"),
        ({"peak_yx": (True, False)}, "peak_yx is (True, False); give two whole numbers"),
        ({"peak_yx": 7}, "peak_yx is 7; give two whole numbers"),
        ({"score": np.full(HW, 1.5)}, "the score goes from 1.5 to 1.5; scale it to 0..1, or give None"),
        ({"score": np.full(HW, np.nan)}, "the score holds NaN or infinity; give numbers in 0..1, or None"),
        ({"score": np.ones((5, 3))}, "the score is 5 x 3, the scene 3 x 5 (height x width); height comes first"),
        ({"score": np.ones(HW, np.uint8)}, "the score is of uint8; give a numpy array of floats in 0..1"),
        ({"score": [[0.5]]}, "the score is of type list; give a numpy array of floats"),
    ],
)
def test_numbers_have_their_ranges(values: dict[str, Any], message: str) -> None:
    assert refused([prediction(**values)], [QUERY]).startswith(f"mine, query 'q1': {message}")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "mine: locate returned None; return a list with one Prediction for each query"),
        (Prediction("q1", MASK), "mine: locate returned of type prisbench.Prediction; return a list"),
        (MASK, "mine: locate returned of type numpy.ndarray; return a list"),
        ({"q1": Prediction("q1", MASK)}, "mine: locate returned of type dict; return a list"),
        ("mask", "mine: locate returned of type str; return a list"),
        (7, "mine: locate returned of type int; return a list"),
        ([MASK], "mine: answer 1 of locate is of type numpy.ndarray; return prisbench.Prediction(query.id, mask)"),
        ([Prediction("q1", MASK), None], "mine: answer 2 of locate is None; return prisbench.Prediction"),
        ([Prediction], "mine: answer 1 of locate is the class Prediction; return prisbench.Prediction"),
        ([], "mine answered [], asked ['q1']; answers keep their order, one for each query"),
        ([Prediction("q2", MASK)], "mine answered ['q2'], asked ['q1']; answers keep their order"),
        ([Prediction("q1", MASK)] * 2, "mine answered ['q1', 'q1'], asked ['q1']; answers keep their order"),
    ],
)
def test_answers_are_a_list_of_predictions_in_the_queries_order(answer: Any, message: str) -> None:
    assert refused(answer, [QUERY]).startswith(message)


def test_numpys_numbers_become_pythons_and_kinds_of_predictions_are_predictions() -> None:
    class Mine(Prediction):
        pass

    given = Mine("q1", MASK, score=np.zeros(HW, np.float32))
    for name, value in (("peak_yx", np.array([2, 4])), ("presence", np.float32(0.25)), ("seconds", np.float64(2))):
        object.__setattr__(given, name, value)
    (answer,) = checked("mine", as_list("mine", iter([given])), [QUERY], HW)
    assert (answer.peak_yx, answer.presence, answer.seconds) == ((2, 4), 0.25, 2.0)
    assert [type(value) for value in (*answer.peak_yx, answer.presence, answer.seconds)] == [int, int, float, float]
    for presence, wanted in ((True, 1.0), (np.False_, 0.0), (1, 1.0), (1 + 1e-7, 1.0), (-1e-9, 0.0)):
        (answer,) = checked("mine", [prediction(mask=None, presence=presence)], [QUERY], HW)
        assert (answer.presence, type(answer.presence)) == (wanted, float)


def test_learning_gives_a_concept_whose_learner_can_name_a_folder() -> None:
    subject = Subject("mug-1", "mug", ())
    concept = Concept("c", "mug-1", "mug", "none")
    assert checked_concept("mine", subject, concept) is concept
    unnamed = Concept("c", "mug-1", "mug", "none")
    object.__setattr__(unnamed, "id", 7)
    for wrong, message in (
        (None, "mine: learn returned None for subject 'mug-1'; return a prisbench.Concept"),
        ({"id": "c"}, "mine: learn returned of type dict for subject 'mug-1'"),
        (Concept, "mine: learn returned the class Concept for subject 'mug-1'"),
        (
            Concept("c", "mug-1", "mug", "../up"),
            "mine: the learner of the concept of 'mug-1' is '../up', which no file",
        ),
        (unnamed, "mine: the id of the concept of 'mug-1' is of type int; give text"),
    ):
        with pytest.raises(DataError) as caught:
            checked_concept("mine", subject, wrong)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "a\nb", "con:", "-x", "a ", "x" * 101, None, 3])
def test_a_name_that_no_file_can_have_is_refused(name: Any) -> None:
    with pytest.raises(
        DataError, match=r"the name of SimpleNamespace is .*, which no file can be called; give 1 to 100"
    ):
        check_method(SimpleNamespace(name=name, settings={}))


@pytest.mark.parametrize("name", ["a", "attn", "my-method_2.1", "méthode", "x" * 100, "two words"])
def test_other_names_are_fine(name: str) -> None:
    check_method(SimpleNamespace(name=name, settings={"tau": 0.5, "sizes": (1, 2), "none": None}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": np.float32(0.5)}, "mine: the setting 'tau' cannot be written as JSON (Object of type float32 is not"),
        ({"tau": float("nan")}, "mine: the setting 'tau' cannot be written as JSON (Out of range float values"),
        ({"on": {1, 2}}, "mine: the setting 'on' cannot be written as JSON (Object of type set is not"),
        (None, "mine: settings is None; give a dict, {} when there are none"),
        ([("tau", 1)], "mine: settings is of type list; give a dict"),
        (dict, "mine: settings is a function; write @property above it"),
    ],
)
def test_settings_are_plain_json(settings: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        check_method(SimpleNamespace(name="mine", settings=settings))
    assert str(caught.value).startswith(message)
