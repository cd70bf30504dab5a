"""JSON held to a model: what is accepted, and the one line about what is not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from prisbench.errors import DataError
from prisbench.runtime.strict_json import Strict, dump, parse, read


@dataclass(frozen=True)
class Place:
    name: str
    floor: int | None


def even(n: int) -> int:
    if n % 2:
        raise ValueError("an even number")
    return n


class House(Strict):
    area: float
    rooms: Annotated[int, AfterValidator(even)]
    place: Place
    before: Place | None


GOOD: dict[str, Any] = {"area": 80, "rooms": 4, "place": {"name": "here", "floor": None}, "before": None}


def of(**changes: Any) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


def test_values_of_the_kinds_that_are_named_are_read_and_whole_numbers_pass_as_floats() -> None:
    house = read(House, of(more="is left alone"), "h")
    assert house == House(area=80.0, rooms=4, place=Place("here", None), before=None)
    assert repr(house.area) == "80.0"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"area": "80"}, "h: 'area' is '80', expected float"),
        ({"area": True}, "h: 'area' is True, expected float"),
        ({"area": None}, "h: 'area' is None, expected float"),
        ({"rooms": 4.0}, "h: 'rooms' is 4.0, expected int"),
        ({"rooms": 3}, "h: 'rooms' is 3, expected an even number"),
        ({"place": 3}, "h: 'place' is 3, expected dict"),
        ({"before": [3]}, "h: 'before' is [3], expected dict or null"),
        ({"place": {"name": None, "floor": 1}}, "h: 'name' is None, expected str"),
        ({"before": {"name": "there", "floor": "1"}}, "h: 'floor' is '1', expected int or null"),
        ({"before": {"name": "there"}}, "h: the key 'floor' is missing; the file is incomplete, make it again"),
    ],
)
def test_the_first_thing_that_is_not_so_is_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError) as caught:
        read(House, of(**changes), "h")
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "h: not JSON (Expecting value: line 1 column 1 (char 0)); the file is corrupt, make it again"),
        (of()[:-1], "h: not JSON (Expecting ',' delimiter: "),
        (b"\xff{}", "h: not JSON ('utf-8' codec can't decode byte 0xff in position 0: "),
        (b"[" * 100_000, "h: not JSON ("),
        (b"[3]", "h: expected a JSON object, found list"),
        (b"null", "h: expected a JSON object, found NoneType"),
    ],
)
def test_what_is_no_json_object_is_told_alike_by_both_readers(data: bytes, line: str) -> None:
    for reader in (lambda: parse(data, "h"), lambda: read(House, data, "h")):
        with pytest.raises(DataError) as caught:
            reader()
        assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_text_that_json_cannot_hold_is_one_line_too() -> None:
    with pytest.raises(DataError, match=r"^h: not JSON \(.*\); the file is corrupt, make it again$"):
        read(House, of(name="x").replace(b'"x"', b'"\\ud800"'), "h")


def test_infinity_and_nan_are_no_numbers() -> None:
    with pytest.raises(DataError, match="h: 'area' is inf, which is not a number; undefined values are null"):
        read(House, of().replace(b"80", b"1e999"), "h")
    with pytest.raises(DataError, match="h: holds NaN, which is not a number"):
        parse(b'{"area": NaN}', "h")
    with pytest.raises(DataError, match="h: cannot be written as JSON"):
        dump(float("nan"), "h")
