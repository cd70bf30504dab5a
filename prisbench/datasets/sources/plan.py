"""A set as a plan: its subjects by name, and candidates for queries, before any picture is opened.

A reader looks at names, annotations and masks first; a picture is opened when its row is wanted.

Knows: order, splits, what is counted.  Does not know: any layout, any mask.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from prisbench.datasets.schema import QueryRow, SubjectRow

T = TypeVar("T")

Candidate = str | Callable[[], QueryRow]
"""A query that can be had, not read yet; or why a record is no query."""


class Subjects(NamedTuple):
    """``rows`` reads and gives the subjects; ``id_of`` knows a subject's id, reading it only when nobody did."""

    rows: Callable[[], Iterator[SubjectRow]]
    id_of: Callable[[str], str]


def subjects_of(names: Sequence[str], read: Callable[[str], SubjectRow]) -> Subjects:
    """The subjects of these names, in this order; of each that was read the id is kept, nothing else."""
    ids: dict[str, str] = {}

    def rows() -> Iterator[SubjectRow]:
        for name in names:
            row = read(name)
            ids[name] = row.id
            yield row

    def id_of(name: str) -> str:
        if name not in ids:
            ids[name] = read(name).id
        return ids[name]

    return Subjects(rows, id_of)


def from_nth(start: int, candidates: Iterable[Candidate], left_out: Counter[str]) -> Iterator[QueryRow]:
    """The queries from the ``start``-th on, counting only those that can be had.

    Reasons are counted from there on, so that a build that goes on counts each once.
    """
    n = 0
    for candidate in candidates:
        if isinstance(candidate, str):
            if n >= start:
                left_out[candidate] += 1
            continue
        n += 1
        if n > start:
            yield candidate()


@dataclass(frozen=True)
class QueryPlan(Generic[T]):
    """A query before anything is opened.

    ``subject``: its name in the set.  ``scene``: the picture's name; queries about one stand together.  ``place``: what
    must not be divided between splits: the scene, or the video it is from.  ``asked``: whatever the reader needs.
    """

    subject: str
    scene: str
    place: str
    asked: T


def queries_of(
    plans: Sequence[QueryPlan[T]], ask: Callable[[list[QueryPlan[T]]], Iterator[QueryRow]]
) -> Callable[[int], Iterator[QueryRow]]:
    """``Source.queries``.  ``ask`` reads a scene and gives a row for each of the neighbouring plans about it."""

    def queries(start: int) -> Iterator[QueryRow]:
        rest = itertools.islice(plans, start, None)
        for _, asked in itertools.groupby(rest, key=lambda plan: plan.scene):
            yield from ask(list(asked))

    return queries


def in_one_split(plans: Sequence[QueryPlan[T]], split: Mapping[str, str], left_out: Counter[str]) -> list[QueryPlan[T]]:
    """The plans without those that would put a place in both splits: on what is tested nothing is chosen.

    ``split``: a subject's name -> its split.  What goes is counted in ``left_out``.
    """
    tested = {plan.place for plan in plans if split[plan.subject] == "test"}
    kept = [plan for plan in plans if split[plan.subject] == "test" or plan.place not in tested]
    if len(kept) < len(plans):
        left_out["validation queries about scenes of test queries"] += len(plans) - len(kept)
    return kept


def about(title: str, homepage: str, limits: str, options: Mapping[str, str]) -> str:
    """``Source.about``: what the set is, what its reader cannot know, how it was read."""
    said = "\n".join(f"- `{name}`: {value}" for name, value in sorted(options.items())) or "None: the defaults."
    return f"# {title}\n\nOrigin: {homepage}\n\n## What is not known\n\n{limits}\n\n## Options\n\n{said}\n"
