"""The subject of several photos is the thing that is in all of them, whatever words say of each photo alone."""

from __future__ import annotations

import numpy as np
import pytest

from prisbench.appearance.agreement import View, agreed
from prisbench.appearance.choice import FILE, MAP, NAME
from prisbench.network_free.evidence import Scene
from prisbench.network_free.weights import Weights, weights_for
from tests.test_network_free import RED, put, table

OTHERS = (
    ((40, 60, 190), (220, 220, 220)),
    ((30, 140, 60), (20, 20, 20)),
    ((120, 50, 160), (240, 215, 50)),
    ((240, 240, 238), (125, 75, 40)),
)
"""Colours of what stands beside the subject, others in each photo."""


@pytest.fixture(scope="module")
def weights() -> Weights:
    return weights_for("photos+masks", "things", NAME, FILE)


def view(n: int, shown: tuple[float, float] = (0.2, 0.6), subject: bool = True) -> View:
    """A photo with the subject as its first thing; the words are surer of the second."""
    image = table(n)
    things = [put(image, 20 + 2 * n, 8 + 3 * n, RED if subject else OTHERS[n - 1]), put(image, 10, 60, OTHERS[n])]
    return View(Scene(image, "none"), things, shown)


def test_the_thing_that_is_in_all_photos_is_the_subject(weights: Weights) -> None:
    views = [view(n) for n in range(4)]
    assert agreed(views, weights, MAP) == [0, 0, 0, 0]
    turned = [View(each.scene, each.things[::-1], each.shown[::-1]) for each in reversed(views)]
    assert agreed(turned, weights, MAP) == [1, 1, 1, 1], "whatever the order of photos and things"
    lonely = [*views[:3], View(views[3].scene, views[3].things[1:], (0.9,))]
    assert agreed(lonely, weights, MAP) == [0, 0, 0, 0], "a photo that does not show it has one thing to choose"


def test_words_choose_where_photos_cannot(weights: Weights) -> None:
    assert agreed([view(1)], weights, MAP) == [1], "one photo has nothing to agree with"
    twice = View(Scene(table(5), "none"), [np.eye(72, 96, dtype=bool)] * 2, (0.1, 0.4))
    assert agreed([twice, view(2)], weights, MAP)[0] == 1, "the same looks"


def test_one_thing_a_photo_is_not_counted(weights: Weights) -> None:
    single = View(Scene(np.zeros((8, 8, 3), np.uint8), "no such balance"), [np.ones((8, 8), bool)], (0.0,))
    assert agreed([single] * 3, weights, MAP) == [0, 0, 0] and agreed([], weights, MAP) == []


def test_many_photos_are_compared_with_their_neighbours(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    from prisbench.appearance import agreement

    monkeypatch.setattr(agreement, "REACH", 1)
    views = [view(n) for n in range(4)]
    assert len(agreement._pairs(views, weights, MAP)) == 4
    assert agreed(views, weights, MAP) == [0, 0, 0, 0]
