"""What is known of the things in a query's scene: their columns, their rules, their part of the digest.

A source that says nothing of things still knows some: the subject, where its mask is, and its look-alikes
(``known_things``).  A source that says more says all of it (``check_things`` holds the two to each other).

Knows: roles, grades, which thing a text means.  Does not know: images, files, how a scene was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from prisbench.errors import DataError
from prisbench.images.masks import from_rle, mask_sha256, to_rle
from prisbench.types import GRADES, REFERENTLESS, ROLES, Thing

_RUNS = [("size", pa.list_(pa.int32())), ("counts", pa.string())]

RLE = pa.struct(_RUNS)

WORDS = ("noun", "role", "grade")
"""What a thing's record says of it beside its run lengths; noun and grade may be null."""

COLUMNS = [
    ("things", pa.list_(pa.struct([*_RUNS, *((name, pa.string()) for name in WORDS)]))),
    ("meant", pa.int32()),
    ("pair_id", pa.string()),
]
"""The columns that schema version 3 added to the table of queries."""

PAIRED = ("referred", "contradicted")
"""The types of queries that come with a partner: a text about the same scene that differs in one phrase."""

NULLABLE = ("meant", "pair_id", "name")
"""Columns that may be null: a text may mean nothing in its scene, most queries have no partner, and drawn subjects no
name."""


def wanted_columns(columns: pa.Schema, there: Sequence[str]) -> pa.Schema:
    """The columns that a file must have, which has the columns ``there``: a file of schema version 2 has none of
    ``COLUMNS``, and needs none; older files have no ``name``.
    """
    later = [name for name, _ in COLUMNS]
    missing = {"name"} - {*there} | ({*later} if not any(name in there for name in later) else set())
    return pa.schema([field for field in columns if field.name not in missing])


@runtime_checkable
class Scene(Protocol):
    """What the rules read of a row of the table of queries."""

    @property
    def noun(self) -> str: ...
    @property
    def query_type(self) -> str: ...
    @property
    def mask(self) -> Any: ...
    @property
    def look_alikes(self) -> tuple[Any, ...]: ...
    @property
    def all_things(self) -> tuple[Thing, ...]: ...
    @property
    def meant_thing(self) -> int | None: ...
    @property
    def pair_id(self) -> str | None: ...


def known_things(
    noun: str, mask: Bool[np.ndarray, "h w"], look_alikes: Sequence[Bool[np.ndarray, "h w"]]
) -> tuple[Thing, ...]:
    """The things that a mask and look-alikes speak of: the subject first, where it is there."""
    subject = (Thing(mask, noun, "subject"),) if mask.any() else ()
    return (*subject, *(Thing(other, noun, "look-alike") for other in look_alikes))


def things_record(row: Scene) -> dict[str, Any]:
    """The columns of a row."""
    return {
        "things": [
            {**to_rle(thing.mask), "noun": thing.noun, "role": thing.role, "grade": thing.grade}
            for thing in row.all_things
        ],
        "meant": row.meant_thing,
        "pair_id": row.pair_id,
    }


def things_of(record: Mapping[str, Any], where: str) -> tuple[Thing, ...]:
    """The things of a table's row; none for a row of schema version 2, which has no such column.

    Raises DataError, naming ``where``, for a mask that is none or a role or noun that is missing.
    """
    found = []
    for n, thing in enumerate(record.get("things") or (), 1):
        if thing is None or thing["counts"] is None or thing["role"] is None:
            raise DataError(f"{where} is damaged: thing {n} has no mask or no role; rebuild the dataset")
        mask = from_rle(thing, f"{where}: thing {n}")
        found.append(Thing(mask, thing["noun"], thing["role"], thing["grade"]))
    return tuple(found)


def things_content(row: Scene) -> dict[str, Any]:
    """What the digest holds of things: nothing where they say no more than mask and look-alikes do, so that a row
    means the same whichever way it was written.  In any order of things.
    """
    found: dict[str, Any] = {}
    if sorted(map(_line, row.all_things)) != sorted(map(_line, known_things(row.noun, row.mask, row.look_alikes))):
        found["things"] = sorted(map(_line, row.all_things))
        found["meant"] = None if row.meant_thing is None else _line(row.all_things[row.meant_thing])
    if row.pair_id is not None:
        found["pair_id"] = row.pair_id
    return found


def check_things(row: Scene, where: str) -> None:
    """Raises DataError, naming ``where``, when things, mask, look-alikes and type contradict each other."""
    things, meant, size_hw = row.all_things, row.meant_thing, row.mask.shape
    for n, thing in enumerate(things, 1):
        _check_thing(thing, size_hw, f"{where}: thing {n}")
    subjects = [n for n, thing in enumerate(things) if thing.role == "subject"]
    if len(subjects) > 1:
        raise DataError(f"{where}: {len(subjects)} things have the role subject; a copy of it is a look-alike")
    if (meant is None) != (row.query_type in REFERENTLESS):
        raise DataError(f"{where}: 'meant' is {meant!r} with the type {row.query_type!r}")
    if meant is not None:
        if not 0 <= meant < len(things) or things[meant].role != "subject":
            raise DataError(f"{where}: 'meant' is {meant}; it must be the place of the thing with the role subject")
        if not np.array_equal(things[meant].mask, row.mask):
            raise DataError(f"{where}: the mask is not that of the thing the text means")
    if row.query_type == "absent" and subjects:
        raise DataError(f"{where}: the type is 'absent', but a thing has the role subject")
    if row.query_type == "contradicted" and not subjects:
        raise DataError(f"{where}: the type is 'contradicted', but no thing has the role subject")
    alike = sorted(mask_sha256(thing.mask) for thing in things if thing.role == "look-alike")
    if alike != sorted(mask_sha256(mask) for mask in row.look_alikes):
        raise DataError(f"{where}: the look-alikes are not the things with the role look-alike")
    if row.query_type in PAIRED and row.pair_id is None:
        raise DataError(f"{where}: a query of type {row.query_type!r} needs the 'pair_id' it shares with its partner")
    if row.pair_id is not None and (not row.pair_id or row.pair_id != row.pair_id.strip() or "\n" in row.pair_id):
        raise DataError(f"{where}: 'pair_id' {row.pair_id!r} must be one line of text, without spaces around it")


def _check_thing(thing: Thing, size_hw: tuple[int, ...], where: str) -> None:
    if thing.mask.shape != size_hw:
        raise DataError(f"{where} has a mask of {thing.mask.shape} (h, w) on a scene of {size_hw}")
    if not thing.mask.any():
        raise DataError(f"{where} has an empty mask; leave out what is not visible")
    if thing.role not in ROLES:
        raise DataError(f"{where} has the role {thing.role!r}, which is none of {', '.join(ROLES)}")
    if thing.grade is not None and (thing.grade not in GRADES or thing.role != "look-alike"):
        raise DataError(
            f"{where} has the grade {thing.grade!r} and the role {thing.role!r}; a look-alike's grade is one of "
            f"{', '.join(GRADES)}, others have none"
        )
    if thing.noun is not None and (not thing.noun or thing.noun != thing.noun.strip() or "\n" in thing.noun):
        raise DataError(f"{where} has the noun {thing.noun!r}; it must be one line of text, or None where unknown")


def _line(thing: Thing) -> list[str]:
    return [mask_sha256(thing.mask), thing.noun or "", thing.role, thing.grade or ""]
