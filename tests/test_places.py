"""How things stand to each other, on boxes whose truth a pencil finds."""

from __future__ import annotations

import numpy as np
import pytest

from prisbench.datasets.sources.places import OPPOSITE, Place, far, gap, next_to, outermost, place_of, side
from tests.drawing import draw_box

HW = (60, 100)


def box(top: int, left: int, height: int = 10, width: int = 10) -> Place:
    return place_of(draw_box(HW, top, left, top + height, left + width))


def test_a_place_is_a_box_and_the_centre_of_the_pixels() -> None:
    mask = draw_box(HW, 20, 10, 30, 20)
    mask[20:30, 50] = True
    place = place_of(mask)
    assert place[:4] == (20, 10, 30, 51) and place.size == pytest.approx((10 * 41) ** 0.5)
    assert (place.y, place.x) == (25.0, pytest.approx((100 * 15 + 10 * 50.5) / 110))
    with pytest.raises(ValueError, match="an empty mask has no place"):
        place_of(np.zeros(HW, dtype=bool))


@pytest.mark.parametrize(
    ("thing", "other", "where"),
    [
        (box(20, 10), box(20, 40), "left"),
        (box(20, 10), box(40, 40), "left"),  # 30 along, 20 across
        (box(20, 10), box(41, 40), None),  # 30 along, 21 across
        (box(5, 40), box(35, 40), "above"),
        (box(5, 40), box(35, 20), "above"),
        (box(5, 40), box(35, 19), None),
        (box(20, 40), box(20, 40), None),
        (box(10, 10, 40, 80), box(25, 45), None),  # one centre
        (box(20, 10), box(20, 18, 10, 20), "left"),  # 2 of 10 columns shared
        (box(20, 10), box(20, 17, 10, 20), None),  # 3 of 10
        (box(30, 2, 4, 30), box(20, 0, 30, 100), None),  # a pencil on the left half of a table
        (box(0, 0, 10, 5), box(0, 90), "left"),  # both cut by the frame
        (box(0, 95, 60, 5), box(25, 0), "right"),
    ],
)
def test_a_side_needs_a_margin(thing: Place, other: Place, where: str | None) -> None:
    assert side(thing, other) == where
    assert side(other, thing) == (OPPOSITE[where] if where else None)


def test_centres_that_lie_near_in_long_boxes_are_on_no_side() -> None:
    left, right = draw_box(HW, 15, 30, 25, 40), draw_box(HW, 15, 38, 25, 48)
    left[20, :30], right[20, 48:80] = True, True
    a, b = place_of(left), place_of(right)
    assert b.x - a.x == pytest.approx(48.1 - 30.4, abs=0.1) and a.right - b.left == 2
    assert side(a, b) is None, "17.7 is less than half of 41"
    left[:, :30], right[:, 48:] = False, False
    assert side(place_of(left), place_of(right)) == "left", "8 is more than half of 10"


def test_a_mirrored_picture_has_mirrored_sides_and_the_same_gaps() -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(200):
        masks = []
        for _ in range(2):
            top, left = rng.integers(0, 50), rng.integers(0, 90)
            masks.append(draw_box(HW, top, left, top + rng.integers(1, 30), left + rng.integers(1, 40)))
        here, mirrored = map(place_of, masks), map(place_of, (mask[:, ::-1] for mask in masks))
        (a, b), (c, d) = here, mirrored
        where = side(a, b)
        assert side(c, d) == (OPPOSITE[where] if where in ("left", "right") else where)
        assert gap(a, b) == gap(b, a) == gap(c, d)
        seen.add(where)
    assert seen == {"left", "right", "above", "below", None}


def test_a_gap_is_what_lies_between_two_things() -> None:
    assert gap(box(20, 10), box(20, 24)) == 4
    assert gap(box(20, 10), box(20, 20)) == gap(box(20, 10), box(25, 15)) == 0
    assert gap(box(20, 10), box(23, 13, 4, 4)) == 2, "one inside of the other"
    assert gap(box(20, 10), box(33, 24)) == pytest.approx((4**2 + 5**2) ** 0.5 - 1)


def test_a_gap_in_a_large_frame_is_right_to_a_256th_of_it() -> None:
    size_hw = (1200, 1601)
    a, b = draw_box(size_hw, 100, 101, 700, 503), draw_box(size_hw, 1, 806, 1200, 1601)
    assert abs(gap(place_of(a), place_of(b)) - (806 - 503)) < 1601 / 256
    assert place_of(b).edge[:, 1].min() == 804, "the block of four pixels that holds column 806"


def test_neighbours_stand_on_a_level_with_a_small_gap() -> None:
    mug = box(20, 10)
    assert next_to(mug, box(20, 22), ()) and next_to(mug, box(25, 22), ())
    assert not next_to(mug, box(20, 23), ()), "3 pixels are more than a quarter of 10"
    assert not next_to(mug, box(26, 22), ()), "4 of 10 rows are no level"
    assert not next_to(mug, box(31, 10), ()), "below is not beside"
    assert not next_to(mug, box(20, 12), ()), "one hides the other"


def test_nothing_else_is_as_near_as_a_neighbour() -> None:
    mug, bowl = box(20, 10), box(20, 22)
    assert not next_to(mug, bowl, (box(20, 0, 10, 8),)), "2 pixels as well"
    assert next_to(mug, bowl, (box(20, 0, 10, 7),)), "3 pixels are a tenth of 10 more"
    assert not next_to(mug, bowl, (box(15, 12, 5, 5),)), "what touches it above is nearer"


def test_what_is_far_has_room_for_the_larger_one_between() -> None:
    assert far(box(20, 10), box(20, 30)) and not far(box(20, 10), box(20, 29))
    assert not far(box(20, 10), box(20, 30, 20, 20))


def test_things_in_a_row_have_ends_and_a_middle() -> None:
    row = [box(20, 70), box(22, 10), box(20, 40)]
    assert outermost(row) == {"leftmost": 1, "rightmost": 0, "middle": 2}
    assert outermost(row[:2]) == {"leftmost": 1, "rightmost": 0}
    assert outermost([*row, box(0, 55)]) == {"leftmost": 1, "rightmost": 0}, "of four none is the middle"
    assert outermost([row[0], row[1], box(45, 40)]) == {"leftmost": 1, "rightmost": 0}, "25 of 60 off the line"
    assert outermost([box(0, 40), box(20, 40), box(40, 40)]) == {}, "one above the other"
    assert outermost([box(0, 10), box(40, 12), box(20, 70)]) == {"rightmost": 2}
    assert outermost(row[:1]) == outermost([]) == {}
