"""Another implementation's answers to the golden cases: read, and compared number by number.

Knows: the file of answers.  Does not know: how numbers are made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prisbench.conformance.cases import Number, Numbers
from prisbench.errors import DataError, UnknownNameError
from prisbench.runtime.files import read_bytes

TOLERANCE = 1e-9
"""How far a value may be off; counts may not be off at all."""

PARTS = ("cases", "sets", "soft_maps")


def read_answers(path: Path, expected: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """The answers in a JSON file: ``{"metric_spec": "2", "cases": {name: {number: value}}, "sets": ..., ...}``.

    Raises DataError, in one line, for a file that is missing or not JSON, for a case that is missing or that there is
    not, and for a value of another type than number, true, false or null.
    """
    try:
        raw = json.loads(read_bytes(path).decode())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}); see docs/metrics.md for the form of answers") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path}: expected a JSON object with {', '.join(PARTS)}, found {type(raw).__name__}")
    answers: dict[str, Numbers] = {}
    for part in PARTS:
        given, wanted = raw.get(part), expected[part]
        if not isinstance(given, dict):
            found = "nothing" if given is None else type(given).__name__
            raise DataError(f"{path}: {part!r} holds {found}; expected an object with a case's numbers under its name")
        for name, numbers in given.items():
            if name not in wanted:
                raise DataError(f"{path}: {part}: {UnknownNameError('case', name, wanted)}")
            if not isinstance(numbers, dict):
                raise DataError(f"{path}: {part}: {name!r} is {type(numbers).__name__}; expected an object of numbers")
            for key, value in numbers.items():
                _check_number(value, f"{path}: {part}: {name!r}: {key!r}")
        if missing := [name for name in wanted if name not in given]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DataError(f"{path}: {part}: no answer to {missing[0]!r}{more}; answer every case")
        answers[part] = given
    return answers


def differences(answers: Mapping[str, Numbers], expected: Mapping[str, Numbers]) -> list[str]:
    """A line for each number that is missing or another than expected; numbers nobody expects are not looked at."""
    lines = []
    for part, numbers in expected.items():
        for name, wanted in numbers.items():
            found = answers[part][name]
            for key, value in wanted.items():
                if key not in found:
                    lines.append(f"{part}: {name}: {key} is missing, expected {_show(value)}")
                elif not _same(found[key], value):
                    lines.append(f"{part}: {name}: {key} is {_show(found[key])}, expected {_show(value)}")
    return lines


def _check_number(value: Any, where: str) -> None:
    if value is not None and not isinstance(value, bool | int | float):
        raise DataError(f"{where} is {value!r}; expected a number, true, false or null")
    if isinstance(value, float) and value - value != 0:
        raise DataError(f"{where} is {value!r}, which is not a number; undefined values are null")


def _same(found: Number, wanted: Number) -> bool:
    """True and 1 differ, as do null and 0; whole numbers may be written as floats."""
    if wanted is None or found is None or isinstance(wanted, bool) or isinstance(found, bool):
        return found is wanted
    return found == wanted if isinstance(wanted, int) else abs(found - wanted) <= TOLERANCE


def _show(value: Number) -> str:
    return json.dumps(value)
