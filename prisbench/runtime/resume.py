"""Is this the same run?  What decides a run's result stands in a JSON file of its folder; who goes
on must agree.

    differences   where two records part, value by value
    claim         the folder is this run's from now on, or it is refused

Knows: records, and which of their values differ.  Does not know: what a run computes, its
checkpoints (``runtime.checkpoints``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from prisbench.errors import DataError
from prisbench.runtime.files import read_json, write_json


class Difference(NamedTuple):
    """A value in which two records differ: its keys from the outermost to its own, and both values
    (None: there is none).  ``min`` of several is the first in the alphabet.
    """

    place: tuple[str, ...]
    found: Any
    wanted: Any

    @property
    def words(self) -> str:
        return f"{'.'.join(self.place)} is {self.found!r}, asked for {self.wanted!r}"


Refusal = Callable[[Sequence[Difference]], str]
"""What to tell the user about a folder whose record differs so; there is one difference at least.
"""


def claim(
    path: Path,
    record: Mapping[str, Any],
    refusal: Refusal,
    free: Collection[str] = (),
    before: Mapping[str, Any] = MappingProxyType({}),
) -> bool:
    """Write into ``path`` what decides a run's result, or find that the record there is of the
    same run.

    True where there was one: a run to go on with.  The record's values called ``free`` may differ,
    and are then brought up to date.  What else stands in the file beside the record's own keys is
    a note and decides nothing.  ``before``: what a record means that was written before it had these
    values.

    Raises DataError with ``refusal``'s text for another run's record, and for a damaged one;
    WriteError.
    """
    if not path.exists():
        write_json(path, record)
        return False
    wanted, there = as_json(record), read_json(path)
    found = {**before, **there} if isinstance(there, dict) else {}
    changed = list(differences({key: found.get(key) for key in wanted}, wanted))
    if decisive := [each for each in changed if each.place[0] not in free]:
        raise DataError(refusal(decisive))
    if changed:
        write_json(path, {**there, **wanted})
    return True


def differences(found: Any, wanted: Any, place: tuple[str, ...] = ()) -> Iterator[Difference]:
    """Where two JSON values differ, in the order of what is wanted; mappings are compared key by
    key.
    """
    if found == wanted:
        return
    inner: list[Difference] = []
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in dict.fromkeys([*wanted, *found]):
            inner += differences(found.get(key), wanted.get(key), (*place, key))
    yield from inner or [Difference(place, found, wanted)]


def as_json(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as it comes back from its file: a tuple is a list there."""
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain
