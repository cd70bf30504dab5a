"""The plan of a set: its subjects by name and the candidates for its queries, before any picture is opened.

Whoever reads a set writes two functions, and ``tables_of`` makes the two tables of them:

- ``subject(name)`` opens a subject's reference photos and gives its row.
- ``candidates(id_of)`` goes through the set's records in a fixed order.  It yields for each a function without
  arguments that reads the query's row, or a text: the reason why the record is no query.

Names, lists and masks may be looked at to yield a candidate; pictures only by its function, which is not called for a
query that an earlier, interrupted build has written.  So a build goes on where it stood without opening what lies
before.  Queries about one scene stand together, so that its picture is opened once (``scene_by_scene``).

Knows: order, splits, what is counted.  Does not know: any layout, any mask.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Generic, NamedTuple, TypeVar

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.subject_names import plain_name

T = TypeVar("T")
Scene = TypeVar("Scene")

Candidate = str | Callable[[], QueryRow]
"""Reads a query's row; or the reason why a record is no query."""

IdOf = Callable[[str], str]
"""A subject's name in its set -> the id of its row.  The row is read for it where it has not been yet."""


class Tables(NamedTuple):
    """What ``Source`` wants of a set, each of the two to be called when its rows are wanted."""

    subjects: Callable[[], Iterator[SubjectRow]]
    queries: Callable[[int], Iterator[QueryRow]]


def tables_of(
    names: Sequence[str],
    subject: Callable[[str], SubjectRow],
    candidates: Callable[[IdOf], Iterable[Candidate]],
    left_out: Counter[str],
) -> Tables:
    """The two tables of a set, subjects in the order of their names, which their rows keep.

    Of each subject that was read the id is kept, nothing else.  Reasons are counted in ``left_out``.
    """
    ids: dict[str, str] = {}

    def subjects() -> Iterator[SubjectRow]:
        for name in names:
            row = replace(subject(name), name=plain_name(name))
            ids[name] = row.id
            yield row

    def id_of(name: str) -> str:
        if name not in ids:
            ids[name] = subject(name).id
        return ids[name]

    return Tables(subjects, lambda start: from_nth(start, candidates(id_of), left_out))


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
    """A query before anything is opened, of a set whose lists name all its queries.

    ``subject``: its name in the set.  ``scene``: the picture's name; queries about one stand together.  ``place``: what
    must not be divided between splits: the scene, or the video it is from.  ``record``: whatever the reader needs.
    """

    subject: str
    scene: str
    place: str
    record: T


def scene_by_scene(
    plans: Iterable[QueryPlan[T]], look: Callable[[T], Scene], row: Callable[[QueryPlan[T], Scene], QueryRow]
) -> Iterator[Candidate]:
    """A candidate for each plan.  ``look`` opens a scene, once for all neighbouring plans about it."""

    def read(plan: QueryPlan[T], scene: Callable[[], Scene]) -> QueryRow:
        return row(plan, scene())

    for _, neighbours in itertools.groupby(plans, key=lambda plan: plan.scene):
        group = list(neighbours)
        scene = cache(partial(look, group[0].record))
        for plan in group:
            yield partial(read, plan, scene)


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
