"""Parts of a dataset's queries by name: a query type, a look-alike type with its grade, "present".

Knows: names, and which of them a query is in.  Does not know: images, answers, files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from prisbench.errors import UnknownNameError
from prisbench.types import GRADES, QUERY_TYPES, REFERENTLESS

PRESENT = "present"
"""All queries whose text has a referent."""

MIXED = "mixed"
"""The grade of a scene whose look-alikes are of several."""

_ALIKE = "look-alike"

GRADED = tuple(f"{_ALIKE}:{grade}" for grade in (*(grade for grade in GRADES if grade != "copy"), MIXED))
"""Subsets of the type look-alike, by the grade of the scene's look-alikes.

A scene with copies alone is in none of them: its text cannot say which one is meant unless its type is "referred".
"""

NAMED = tuple(name for kind in QUERY_TYPES for name in ((kind, *GRADED) if kind == _ALIKE else (kind,)))
"""The subsets that a query may be in, types with their grades behind them."""

SUBSETS = (PRESENT, *NAMED)
"""All names of subsets."""


@runtime_checkable
class Typed(Protocol):
    """What decides which subsets a query is in; ``grade`` is that of its scene's look-alikes (``grade_of``)."""

    @property
    def query_type(self) -> str: ...
    @property
    def grade(self) -> str | None: ...


def grade_of(grades: Iterable[str | None]) -> str | None:
    """The grade of a scene from those of its look-alikes: "mixed" for several; None where there are none, or where one
    has none and the others do not have several.  A copy that the text does not mean counts only where nothing else
    stands beside it.
    """
    found = set(grades)
    found = found - {"copy"} or found
    if len(found - {None}) > 1:
        return MIXED
    return None if not found or None in found else found.pop()


def subset_of(query_type: str, grade: str | None) -> str:
    """The one name of ``NAMED`` that says most of a query: its type, with the grade where that is one of ``GRADED``."""
    graded = f"{query_type}:{grade}"
    return graded if graded in GRADED else query_type


def is_within(subset: str | None, named: str) -> bool:
    """Whether a query with the name ``named`` (``subset_of``) is in a subset; None is all queries."""
    kind = named.partition(":")[0]
    return subset in (None, named, kind) or (subset == PRESENT and kind not in REFERENTLESS)


def subsets_in(queries: Iterable[Typed]) -> list[str]:
    """The names of ``SUBSETS`` that hold a query, in that order."""
    there = {subset_of(query.query_type, query.grade) for query in queries}
    return [subset for subset in SUBSETS if any(is_within(subset, named) for named in there)]


def check_subset(subset: str | None) -> None:
    """Raises UnknownNameError, with the nearest name, for what is no subset; None is all queries."""
    if subset is not None and subset not in SUBSETS:
        raise UnknownNameError("subset", subset, SUBSETS)
