"""Which queries and subjects a part of a set takes: spread out, the same in any order, each part within the larger."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from prisbench.datasets.spread import QueryTraits, spread_queries, spread_subjects
from prisbench.subsets import GRADED, subset_of
from prisbench.tabletop.queries import plan
from prisbench.tabletop.subjects import subjects
from prisbench.types import QUERY_TYPES
from tests.drawing import FIVE_TYPES

NOUNS = {f"s{n}": noun for n, noun in enumerate(["mug"] * 5 + ["bowl"] * 2 + ["book"])}
EACH = {"plain": 3, "other-category": 4, "look-alike": 4, "relation": 3, "absent": 3}
QUERIES = [
    QueryTraits(f"{subject}/{kind}/{n}", subject, noun, kind)
    for subject, noun in NOUNS.items()
    for kind, many in EACH.items()
    for n in range(many)
]


def taken(queries: list[QueryTraits], limit: int) -> list[QueryTraits]:
    return [queries[i] for i in spread_queries(queries, limit)]


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 8, 40, 41])
def test_a_part_is_about_as_many_subjects_and_types_as_it_can_be(limit: int) -> None:
    part = taken(QUERIES, limit)
    subjects, kinds = Counter(q.subject_id for q in part), Counter(q.kind for q in part)
    assert len(part) == limit
    assert len(subjects) == min(limit, 8) and max(subjects.values()) - min(subjects.values()) <= 1
    assert len(kinds) == min(limit, 5) and max(kinds.values()) - min(kinds.values()) <= 1


def test_five_rounds_ask_every_subject_every_type() -> None:
    assert {(q.subject_id, q.kind) for q in taken(QUERIES, 40)} == {(s, k) for s in NOUNS for k in FIVE_TYPES}


def test_a_part_is_the_same_whatever_the_order_of_rows_and_holds_every_smaller_one() -> None:
    shuffled = random.Random(1).sample(QUERIES, len(QUERIES))
    parts = [{q.id for q in taken(QUERIES, n)} for n in range(1, len(QUERIES) + 3)]
    assert parts[:30] == [{q.id for q in taken(shuffled, n)} for n in range(1, 31)]
    assert all(less <= more for less, more in itertools.pairwise(parts))
    assert parts[-1] == {q.id for q in QUERIES} == parts[len(QUERIES) - 1]
    assert spread_queries(QUERIES, 9) == sorted(spread_queries(QUERIES, 9)), "rows keep their order"
    assert spread_queries([], 3) == []


def test_a_type_that_one_subject_alone_has_is_in_a_small_part() -> None:
    rare = [q for q in QUERIES if q.kind != "absent" or q.subject_id == "s3"]
    assert Counter(q.kind for q in taken(rare, 8))["absent"] == 1


def test_a_subject_that_runs_out_leaves_its_turns_to_the_others() -> None:
    few = [q for q in QUERIES if q.subject_id == "s0"] + [q for q in QUERIES if q.subject_id == "s5"][:1]
    assert Counter(q.subject_id for q in taken(few, 10)) == {"s0": 9, "s5": 1}


def test_one_type_is_spread_over_subjects() -> None:
    part = taken([q for q in QUERIES if q.kind == "absent"], 8)
    assert len({q.subject_id for q in part}) == 8


def test_subjects_are_spread_over_nouns_whatever_their_order() -> None:
    order = spread_subjects(list(NOUNS.items()))
    assert sorted(order) == sorted(NOUNS)
    assert {NOUNS[s] for s in order[:3]} == {"mug", "bowl", "book"} and [NOUNS[s] for s in order[5:]] == ["mug"] * 3
    assert order == spread_subjects([*reversed(NOUNS.items()), ("s0", "mug")])
    assert spread_subjects([]) == []


def test_six_queries_of_tabletop_are_about_six_subjects_and_of_six_types() -> None:
    both = {"relation": ("relation", "contradicted"), "referred": ("referred", "referred")}
    asked = [
        QueryTraits(f"{subject.key}/{kind}/{n}/{number}", subject.key, subject.who.noun, named)
        for subject in subjects()
        if subject.split == "test"
        for kind, n in plan()
        for number, named in enumerate(both.get(kind, (subset_of(*kind.partition(":")[::2]),)))
    ]
    assert len(asked) == 48 * 40 and len({q.kind for q in asked}) == 12, "the subsets of the headline"
    for limit in (6, 7):
        part = taken(asked, limit)
        types = {q.kind.partition(":")[0] for q in part}
        assert len({q.subject_id for q in part}) == len(types) == limit
    assert types == set(QUERY_TYPES) and len({q.noun for q in part}) >= 6
    assert {q.kind for q in taken(asked, 12)} == {q.kind for q in asked}
    assert set(Counter(q.kind for q in taken(asked, 48)).values()) == {4}


def test_no_grade_and_several_are_kinds_of_their_own() -> None:
    graded = [
        QueryTraits(f"{subject}/{kind}/{n}", subject, "mug", kind)
        for subject in ("s0", "s1", "s2")
        for kind in ("plain", *GRADED, "look-alike")
        for n in range(9 if kind == "look-alike:swap" else 1)
    ]
    assert {q.kind for q in taken(graded, 8)} == {q.kind for q in graded}
    assert [q.kind.partition(":")[0] for q in sorted(taken(graded, 2), key=lambda q: q.kind)] == ["look-alike", "plain"]
    parts = [{q.id for q in taken(graded, n)} for n in range(1, len(graded) + 1)]
    assert all(less < more for less, more in itertools.pairwise(parts))
