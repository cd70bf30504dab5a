"""Phrases: texts are read for what they say of place, and boxes are graded by it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prisbench.phrases import AMONG_ALL, PHRASES, TO_A_LANDMARK, Box, Condition, box_of, holds, parse
from prisbench.tabletop.texts import _WHOLE

WITH_LANDMARK = {
    "left_of": ("left of", "to the left of", "on the left of", "on the left-hand side of", "at the left of"),
    "right_of": ("right of", "to the right of", "on the right of", "on the right-hand side of"),
    "in_front_of": ("in front of", "before", "closer to us than", "nearer than", "nearer to the camera than"),
    "behind": ("behind", "at the back of", "farther away than", "further from the camera than"),
    "next_to": ("next to", "beside", "by", "near", "right beside", "right next to"),
}
ALONE = {
    "leftmost": ("furthest to the left", "farthest left", "on the far left", "on the left"),
    "rightmost": ("furthest to the right", "farthest right", "on the far right", "on the right-hand side"),
    "nearest": ("nearest to the camera", "closest to us", "closest to the camera", "at the very front", "in front"),
    "farthest": ("farthest from the camera", "at the very back", "farthest away"),
    "middle": ("in the middle", "between the other two"),
}
BEFORE_THE_NOUN = {"leftmost": "leftmost", "rightmost": "rightmost", "frontmost": "nearest", "middle": "middle"}


@pytest.mark.parametrize(("relation", "phrase"), [(r, p) for r, phrases in WITH_LANDMARK.items() for p in phrases])
def test_a_relation_is_read_with_its_landmark_however_it_is_phrased(relation: str, phrase: str) -> None:
    reading = parse(f"a photo of the {{subject}} {phrase} the striped red and white mug")
    assert reading.conditions == (Condition(relation, "the striped red and white mug"),)
    assert reading.rest == "a photo of the {subject}"


@pytest.mark.parametrize(("relation", "phrase"), [(r, p) for r, phrases in ALONE.items() for p in phrases])
def test_a_place_among_all_is_read_without_a_landmark(relation: str, phrase: str) -> None:
    for text in (f"the {{subject}} {phrase}", f"the {{subject}} that is {phrase}"):
        assert parse(text).conditions == (Condition(relation),) and parse(text).rest == "the {subject}"


@pytest.mark.parametrize(("word", "relation"), BEFORE_THE_NOUN.items())
def test_a_place_is_read_before_the_slot_too(word: str, relation: str) -> None:
    assert parse(f"where is the {word} {{subject}}?").conditions == (Condition(relation),)
    assert parse(f"where is the {word} {{subject}}?").rest == "where is the {subject}?"


@pytest.mark.parametrize(
    ("text", "wanted", "rest"),
    [
        (
            "the {subject} left of the red and white mug and behind a blue bottle",
            (Condition("left_of", "the red and white mug"), Condition("behind", "a blue bottle")),
            "the {subject}",
        ),
        (
            "the leftmost {subject} in front of the green can",
            (Condition("leftmost"), Condition("in_front_of", "the green can")),
            "the {subject}",
        ),
        (
            "the {subject}, right beside the mug with a band, closest to the camera",
            (Condition("next_to", "the mug with a band"), Condition("nearest")),
            "the {subject}",
        ),
        (
            "a photo of the {subject} by the lamp on the cloth",
            (Condition("next_to", "the lamp"),),
            "a photo of the {subject} on the cloth",
        ),
        (
            "In front of the bowl stands the {subject}",
            (Condition("in_front_of", "the bowl"),),
            "stands the {subject}",
        ),
    ],
)
def test_two_conditions_and_what_is_left_of_the_text(text: str, wanted: tuple[Condition, ...], rest: str) -> None:
    assert parse(text).conditions == wanted and parse(text).rest == rest


@pytest.mark.parametrize(
    "text",
    [
        *(text for texts in _WHOLE.values() for text in texts),
        "the {subject} by candlelight",
        "the {subject} before dawn",
        "a mug left of the {subject}",
        "the {subject} that is not left of the mug",
        "the {subject} with a bright handle",
        "what is left: the {subject}",
        "the {subject} between the mug and the bowl",
    ],
)
def test_texts_without_a_place_of_the_subject_come_back_as_they_are(text: str) -> None:
    assert parse(text) == (parse(text)) and parse(text).conditions == () and parse(text).rest == text


@given(
    relation=st.sampled_from(TO_A_LANDMARK),
    pick=st.integers(0, 10**6),
    thing=st.sampled_from(["a blue bottle", "the checked mug", "the green and white lamp", "an orange box with dots"]),
    other=st.sampled_from(["the red bowl", "a vase"]),
    second=st.sampled_from([None, "behind", "to the left of"]),
)
def test_every_phrase_is_read_and_the_slot_stays(
    relation: str, pick: int, thing: str, other: str, second: str | None
) -> None:
    phrase = PHRASES[relation][pick % len(PHRASES[relation])]
    more = "" if second is None else f" and {second} {other}"
    reading = parse(f"the {{subject}} {phrase} {thing}{more}")
    assert reading.conditions[0] == Condition(relation, thing) and reading.rest == "the {subject}"
    assert [each.landmark for each in reading.conditions[1:]] == [other] * (second is not None)
    assert parse(reading.rest) == (reading.rest and parse("the {subject}")), "reading again finds nothing more"


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ,.", max_size=60))
def test_any_text_can_be_read(words: str) -> None:
    reading = parse(f"{words} {{subject}}")
    assert reading.rest.count("{subject}") == 1
    assert bool(reading.conditions) or reading.rest == f"{words} {{subject}}"


# --- boxes ----------------------------------------------------------------------------------------------------------


LOW_LEFT, HIGH_RIGHT, MIDDLE = Box(0, 50, 20, 80), Box(100, 10, 120, 40), Box(50, 30, 70, 60)


def test_boxes_are_where_the_pixels_are() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:5, 7:11] = True
    assert box_of(mask) == Box(7, 2, 11, 5) and box_of(mask).centre_x == 9
    with pytest.raises(AssertionError, match="an empty mask has no place"):
        box_of(np.zeros((10, 20), bool))


@pytest.mark.parametrize(("relation", "opposite"), [("left_of", "right_of"), ("in_front_of", "behind")])
def test_a_relation_holds_one_way_round(relation: str, opposite: str) -> None:
    assert holds(Condition(relation, "x"), LOW_LEFT, HIGH_RIGHT) > 0.95
    assert holds(Condition(relation, "x"), HIGH_RIGHT, LOW_LEFT) < 0.05
    assert holds(Condition(opposite, "x"), HIGH_RIGHT, LOW_LEFT) > 0.95
    assert holds(Condition(relation, "x"), MIDDLE, MIDDLE) == 0.5
    assert holds(Condition(relation, "x"), LOW_LEFT, None) == 0.5, "an unknown landmark says nothing"


def test_grades_grow_with_the_distance_and_next_to_falls_with_it() -> None:
    steps = [Box(x, 30, x + 20, 60) for x in (60, 75, 90, 140)]
    right = [holds(Condition("right_of", "x"), box, MIDDLE) for box in steps]
    near = [holds(Condition("next_to", "x"), box, MIDDLE) for box in steps]
    assert right == sorted(right) and right[0] < right[-1]
    assert near == sorted(near, reverse=True) and near[0] == 1.0 and near[-1] < 0.2


@pytest.mark.parametrize("relation", AMONG_ALL)
def test_a_place_among_all_goes_to_the_one_that_has_it(relation: str) -> None:
    boxes = [LOW_LEFT, MIDDLE, HIGH_RIGHT]
    grades = [holds(Condition(relation), box, None, [b for b in boxes if b is not box]) for box in boxes]
    wanted = {"leftmost": 0, "nearest": 0, "middle": 1, "rightmost": 2, "farthest": 2}[relation]
    assert int(np.argmax(grades)) == wanted and grades[wanted] > 0.9 and sorted(grades)[1] < 0.1
    assert holds(Condition(relation), LOW_LEFT) == 0.5, "alone, it cannot be told"


FREE = Path(__file__).with_name("free_sentences.json")
"""A hundred requests, written freely by somebody who never saw the parser, with the conditions that they state."""


def test_sentences_that_were_written_freely_are_read() -> None:
    """87 were read right before anything was changed for them (docs/localizer.md)."""
    wrong = []
    for each in json.loads(FREE.read_text()):
        reading = parse(each["text"])
        assert reading.rest.count("{subject}") == 1, each["text"]
        if reading.conditions != tuple(Condition(relation, landmark) for relation, landmark in each["conditions"]):
            wrong.append(each["text"])
    assert wrong == ["Have I got the right {subject} here? Highlight it, would you."], "right, or on the right?"


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("By the way, show me the {subject}", ()),
        ("the {subject} by the window", (Condition("next_to", "the window"),)),
        ("Behind that big jar there is a {subject}", (Condition("behind", "that big jar"),)),
        ("the {subject} at the back, the one farthest away", (Condition("farthest"),)),
        ("{subject} on left-hand side of the tin please", (Condition("left_of", "the tin"),)),
        ("the {subject} left of this jar, not the one behind it", (Condition("left_of", "this jar"),)),
    ],
)
def test_words_around_a_place_are_no_part_of_it(text: str, conditions: tuple[Condition, ...]) -> None:
    assert parse(text).conditions == conditions
