"""Parts of a map, and which of them a text means."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from prisbench.errors import UsageError
from prisbench.localizer.places import Placed, best, chosen, grades, parts
from prisbench.localizer.presets import PRESETS
from prisbench.localizer.settings import LocalizerSettings, Places
from prisbench.localizer.texts import landmark, told
from prisbench.phrases import Condition
from prisbench.types import SLOT, Query

READ = Places(power=1.0, silence=1.0)


def blobs(*at: tuple[int, int, float], sigma: float = 4.0, hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Gaussians of (y, x, height)."""
    y, x = np.mgrid[: hw[0], : hw[1]]
    each = [height * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * sigma**2)) for a, b, height in at]
    return np.max(each, axis=0).astype(np.float32)


def test_each_blob_is_a_part_the_highest_first() -> None:
    found = parts(blobs((20, 50, 0.7), (22, 12, 1.0), (40, 32, 0.5)), READ)
    assert [part.yx for part in found] == [(22, 12), (20, 50), (40, 32)]
    assert all(part.mask[part.yx] for part in found)
    assert not (found[0].mask & found[1].mask).any()


def test_low_parts_and_ripples_are_none() -> None:
    assert len(parts(blobs((20, 12, 1.0), (20, 50, 0.2)), READ)) == 1
    ripple = blobs((20, 28, 1.0), (20, 34, 0.95), sigma=6.0)
    assert len(parts(ripple, READ)) == 1, "the map hardly falls between them"
    assert len(parts(blobs((20, 22, 1.0), (20, 40, 0.95), sigma=6.0), READ)) == 2


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_flat_map_has_no_parts_and_stays(value: float) -> None:
    flat = np.full((9, 9), value, np.float32)
    assert parts(flat, READ) == [] and best([], np.zeros(0)) == 1.0
    np.testing.assert_array_equal(chosen(flat, [], np.zeros(0), READ), flat)


@pytest.mark.parametrize(("relation", "meant"), [("left_of", (20, 10)), ("right_of", (20, 54)), ("next_to", (20, 10))])
def test_the_part_that_keeps_its_place_to_the_landmark_is_meant(relation: str, meant: tuple[int, int]) -> None:
    map_ = blobs((20, 10, 0.9), (20, 54, 1.0))
    mark = blobs((20, 24, 1.0))
    found = parts(map_, READ)
    graded = grades(found, [Placed(Condition(relation, "a box"), mark)], READ)
    lowered = chosen(map_, found, graded, READ)
    assert np.unravel_index(lowered.argmax(), lowered.shape) == meant and lowered.max() == 1
    assert parts(lowered, dataclasses.replace(READ, least=0.6))[0].yx == meant


@pytest.mark.parametrize(
    ("relation", "meant"),
    [
        ("leftmost", (20, 8)),
        ("rightmost", (22, 56)),
        ("middle", (30, 32)),
        ("nearest", (30, 32)),
        ("farthest", (20, 8)),
    ],
)
def test_places_among_all(relation: str, meant: tuple[int, int]) -> None:
    map_ = blobs((20, 8, 0.9), (30, 32, 0.8), (22, 56, 1.0))
    found = parts(map_, READ)
    graded = grades(found, [Placed(Condition(relation), None)], READ)
    assert found[int((graded * [part.peak for part in found]).argmax())].yx == meant


def test_a_text_that_no_part_keeps_leaves_little() -> None:
    map_ = blobs((20, 10, 1.0), (22, 20, 0.9), sigma=2.5)
    found = parts(map_, READ)
    right = grades(found, [Placed(Condition("right_of", "a box"), blobs((20, 54, 1.0)))], READ)
    left = grades(found, [Placed(Condition("left_of", "a box"), blobs((20, 54, 1.0)))], READ)
    assert best(found, right) < 0.05 and best(found, left) > 0.95
    unknown = grades(found, [Placed(Condition("left_of", "a box"), np.zeros((48, 64), np.float32))], READ)
    np.testing.assert_allclose(unknown, 0.5)


def test_one_thing_is_meant() -> None:
    map_ = blobs((20, 12, 1.0), (20, 50, 0.9))
    found = parts(map_, READ)
    both = chosen(map_, found, np.ones(2), Places(alone=0.0))
    one = chosen(map_, found, np.ones(2), Places(alone=1.0))
    np.testing.assert_allclose(both, map_, atol=1e-6)
    assert one[20, 12] == 1 and one[20, 50] == 0
    nearer = chosen(map_, found, np.array([0.5, 1.0]), Places(alone=1.0, power=1.0))
    assert nearer[20, 12] == 0 and nearer[20, 50] == 1


def test_the_landmark_is_not_the_part_itself() -> None:
    """A landmark's words are heard on the subject, too, when it looks like it: what lies there says nothing."""
    map_ = blobs((20, 10, 1.0), (20, 54, 0.9))
    mark = blobs((20, 10, 1.0), (20, 32, 0.8))
    found = parts(map_, READ)
    graded = grades(found, [Placed(Condition("left_of", "a red mug"), mark)], READ)
    assert graded[0] > 0.9 and graded[1] < 0.1


@pytest.mark.parametrize(
    ("phrase", "text", "noun"),
    [
        ("a blue bottle", f"a blue {SLOT}", "bottle"),
        ("the mug with red stripes", f"the {SLOT} with red stripes", "mug"),
        ("box", SLOT, "box"),
        ("a vase,", f"a {SLOT}", "vase"),
    ],
)
def test_a_landmark_s_noun_gets_the_slot(phrase: str, text: str, noun: str) -> None:
    found, wording = landmark(phrase)
    assert found == text and wording.concept.noun == noun and not wording.concept.tensors


def test_texts_are_read_where_the_settings_say_so() -> None:
    query = Query("q", "s", f"the {SLOT} left of a blue bottle")
    plain = PRESETS["embedded"]["fast"]
    assert told(query, dataclasses.replace(plain, places=Places())) == (query, ())
    for text in ("{subject} near the {box}", "{subject} left of {subject}", "left of the box"):
        strange = Query("q", "s", text)
        assert told(strange, dataclasses.replace(plain, places=READ)) == (strange, ()), "refused as it is, by compose"
    asked, conditions = told(query, dataclasses.replace(plain, places=READ))
    assert asked.text == f"the {SLOT}" and conditions == (Condition("left_of", "a blue bottle"),)


@pytest.mark.parametrize(
    "bad", [Places(power=-1.0), Places(alone=1.5), Places(silence=-0.1), Places(least=0.0), Places(valley=1.0)]
)
def test_settings_that_make_no_sense_are_refused(bad: Places) -> None:
    with pytest.raises(UsageError, match="places"):
        dataclasses.replace(PRESETS["embedded"]["fast"], places=bad)
    assert isinstance(PRESETS["embedded"]["fast"], LocalizerSettings)
