"""How a query travels through the rooms of the house: a trace of one ``locate`` by its calls between rooms.

A room is a name at the top of the package.  A call is between rooms when the function that makes it and the function
that is called stand in two of them; what lies between (torch, numpy, decorators) is looked through, and a pair of
functions counts once.  A climb is a call into a room that stands later in the reading order than the caller's: a
reader who follows the query down has to go back up there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest
import tiny

from prisbench.methods import load_method
from prisbench.settings import MethodOptions
from prisbench.types import Query, Subject
from tests.test_house import ORDER, PACKAGE

MOST_ROOMS, MOST_CLIMBS = 8, 4

Place = tuple[str, str]
"""A room, and a function of it."""


def place_of(code: CodeType) -> Place | None:
    """None for a function outside of the package."""
    path = Path(code.co_filename)
    if not path.is_relative_to(PACKAGE):
        return None
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py"), f"{path.stem}.{code.co_qualname}"


def calls_between_rooms(run: Callable[[], Any]) -> tuple[set[str], list[tuple[Place, Place]]]:
    """The rooms that a call passes, and its calls between them, each pair of functions once, in their order."""
    rooms, calls = set[str](), dict[tuple[Place, Place], None]()

    def look(frame: FrameType, event: str, _: object) -> None:
        called = place_of(frame.f_code) if event == "call" else None
        if called is None:
            return
        rooms.add(called[0])
        above = frame.f_back
        while above is not None and (caller := place_of(above.f_code)) is None:
            above = above.f_back
        if above is not None and caller is not None and caller[0] != called[0]:
            calls[caller, called] = None

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(before)
    return rooms, list(calls)


def climbs(calls: list[tuple[Place, Place]]) -> list[tuple[Place, Place]]:
    return [each for each in calls if ORDER.index(each[1][0]) > ORDER.index(each[0][0])]


@pytest.mark.parametrize("preset", ["accurate", "fast"])
def test_a_query_passes_few_rooms_and_seldom_climbs_back(tmp_path: Path, preset: str) -> None:
    settings = {"localizer.preset": preset, "localizer.refine": "adaptive", "learner.steps": 1, "learner.batch": 1}
    options = MethodOptions(model=str(tiny.save(tmp_path / "tiny")), store=str(tmp_path / "store"), settings=settings)
    photo = np.random.default_rng(0).integers(0, 256, (112, 144, 3), dtype=np.uint8)
    method = load_method("attn", options)
    concepts = {"mine": method.learn(Subject("mine", "mug", (photo,)))}
    queries = [Query("q", "mine", "the {subject} left of a bowl")]
    rooms, calls = calls_between_rooms(lambda: method.locate(photo[:, ::-1], queries, concepts))
    up = climbs(calls)
    print(f"locate passes {len(rooms)} rooms ({', '.join(sorted(rooms))}) in {len(calls)} calls; {len(up)} climb: {up}")
    assert {"localizer", "diffusion", "images"} <= rooms, "the trace sees where the work is done"
    assert len(rooms) <= MOST_ROOMS and len(up) <= MOST_CLIMBS


def written(path: Path, source: str) -> Callable[..., Any]:
    """The function ``f`` of a source that stands in a file."""
    names: dict[str, Any] = {}
    exec(compile(source, str(path), "exec"), names)
    found: Callable[..., Any] = names["f"]
    return found


def test_a_climb_would_be_noticed(tmp_path: Path) -> None:
    above = written(PACKAGE / "localizer" / "made_up.py", "def f():\n    pass")
    below = written(PACKAGE / "images" / "made_up.py", "def f(run, *given):\n    run(*given)\n    run(*given)")
    outside = written(tmp_path / "library.py", "def f(run):\n    run()")
    rooms, calls = calls_between_rooms(lambda: below(above))
    assert rooms == {"images", "localizer"} and len(climbs(calls)) == len(calls) == 1, "a pair counts once"
    assert climbs(calls_between_rooms(lambda: below(outside, above))[1]) == climbs(calls), "a library is looked through"
    down = written(PACKAGE / "localizer" / "made_up.py", "def f(run):\n    run(id, 0)")
    rooms, calls = calls_between_rooms(lambda: down(below))
    assert rooms == {"images", "localizer"} and len(calls) == 1 and climbs(calls) == []
