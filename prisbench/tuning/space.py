"""The settings a method may be tuned in, and settings drawn from them.

A method declares ``tunable``: what ``--set`` calls a setting -> what it may be.

    [1, 2, "crf"]        one of these
    (0.1, 0.6)           a number between, each as likely; a whole one between whole ends
    (0.01, 0.5, "log")   a number between, each order of magnitude as likely

Knows: what is declared.  Does not know: methods, scores.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from prisbench.errors import DataError, UsageError

LOG = "log"
ATTEMPTS = 100
"""Draws in a row that give nothing new, after which a space is used up."""

DIGITS = 4
"""Significant digits of a drawn number: more would only look precise."""

Space = Mapping[str, Any]


def space_of(method: Any) -> Space:
    """What a method declares.  Raises UsageError where that is nothing, DataError for what is no space."""
    declared = getattr(method, "tunable", None)
    if not declared:
        raise UsageError(f"{method.name} declares nothing to tune; its published settings are its only row")
    if not isinstance(declared, Mapping):
        raise DataError(f"{method.name}: tunable is {type(declared).__name__}, expected a mapping of settings")
    for key, values in declared.items():
        if not _sound(values):
            forms = 'a list of values, (low, high) or (low, high, "log")'
            raise DataError(f"{method.name}: tunable {key!r} is {values!r}; give {forms}")
    published(method, declared)
    return dict(declared)


def published(method: Any, space: Space) -> dict[str, Any]:
    """The method's own value of each setting of a space.  Raises DataError for one that it does not have."""
    return {key: _value(method, key) for key in space}


def _value(method: Any, key: str) -> Any:
    """``localizer.tau`` is the part ``tau`` of the setting ``localizer``."""
    value: Any = method.settings
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = ", ".join(sorted(map(str, method.settings))) or "it has none"
            raise DataError(f"{method.name}: tunable {key!r} is no setting of it; known: {known}")
        value = value[part]
    return value


def _sound(values: Any) -> bool:
    if isinstance(values, list):
        return len(values) > 0
    if not isinstance(values, tuple) or len(values) not in (2, 3) or (len(values) == 3 and values[2] != LOG):
        return False
    low, high = values[:2]
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (low, high))
    return bool(numbers and low < high and (len(values) == 2 or low > 0))


def drawn(space: Space, seed: int, budget: int, own: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """So many different settings, the first one empty: the published ones, whose values are ``own`` and which are not
    drawn again.  Fewer where the space has no more.

    A larger budget begins with all of a smaller one's.
    """
    found: list[dict[str, Any]] = [{}]
    seen: set[str] = {"{}"} | ({json.dumps(own, sort_keys=True, default=str)} if own else set())
    for settings in _stream(space, seed):
        if len(found) >= budget:
            break
        key = json.dumps(settings, sort_keys=True)
        if key not in seen:
            seen.add(key)
            found.append(settings)
    return found


def _stream(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Settings without end; but ``ATTEMPTS`` in a row that were drawn before end it."""
    before: set[str] = set()
    number, idle = 0, 0
    while idle < ATTEMPTS:
        rng = random.Random(f"{seed}/{number}")
        settings = {key: _one(values, rng) for key, values in sorted(space.items())}
        key = json.dumps(settings, sort_keys=True)
        idle = idle + 1 if key in before else 0
        before.add(key)
        number += 1
        yield settings


def _one(values: Any, rng: random.Random) -> Any:
    if isinstance(values, list):
        return values[rng.randrange(len(values))]
    low, high = values[:2]
    if len(values) == 3:
        return _rounded(math.exp(rng.uniform(math.log(low), math.log(high))))
    if isinstance(low, int) and isinstance(high, int):
        return rng.randint(low, high)
    return _rounded(rng.uniform(low, high))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def in_words(values: Any) -> str:
    """A setting's values as a card has them."""
    if isinstance(values, list):
        return ", ".join(each if isinstance(each, str) else json.dumps(each) for each in values)
    low, high = values[:2]
    return f"{low:g} to {high:g}" + (" (log)" if len(values) == 3 else "")


def as_json(space: Space) -> dict[str, list[Any]]:
    """The space as JSON values, for the record."""
    return {key: list(values) for key, values in sorted(space.items())}
