"""Queries that are planned before anything is opened, and read one scene at a time.

A reader looks at names and annotations first and plans who is asked about in which scene; a picture is opened when its
rows are wanted, once for all its queries.

Knows: order, splits.  Does not know: any layout, any mask.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prisbench.datasets.schema import QueryRow

T = TypeVar("T")


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
