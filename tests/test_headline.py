"""The headline by pencil: subsets that weigh the same, failures, draws of subjects, tiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from prisbench.counts import Counts
from prisbench.errors import DataError
from prisbench.headline import headline_difference, headline_interval, headline_tiers, subset_scores
from prisbench.results import QueryResult
from prisbench.statistics import FEWEST_SUBJECTS, subject_weights

SUBJECTS = tuple("abcdef")


def answer(
    subject: str, kind: str, percent: int, grade: str | None = None, n: int = 0, failed: bool = False
) -> QueryResult:
    """A truth of 100 pixels of which ``percent`` are found; without a referent, a mask of ``percent`` pixels."""
    there = kind not in ("absent", "contradicted")
    counts = Counts(
        intersection=percent if there else 0,
        union=100 if there else percent,
        predicted_area=percent,
        truth_area=100 if there else 0,
        look_alike_intersection=0,
        boundary_intersection=0,
        boundary_union=10,
        area=2400,
        pointing_hit=None,
        wrong_instance=None,
        absent_fp=percent > 0 if kind == "absent" else None,
        contradicted_fp=percent > 0 if kind == "contradicted" else None,
        failed=failed,
    )
    id = f"{subject}/{kind}/{grade}/{n}"
    return QueryResult(id, subject, f"scene-{id}", kind, counts, grade=grade, error="boom" if failed else None)


def method(percents: Sequence[int], empty: Sequence[bool]) -> list[QueryResult]:
    """Of each subject two plain queries, one with a look-alike of another colour, and one absent."""
    queries = []
    for subject, percent, right in zip(SUBJECTS, percents, empty, strict=False):
        queries += [answer(subject, "plain", percent, n=n) for n in range(2)]
        queries.append(answer(subject, "look-alike", percent // 2, "colour"))
        queries.append(answer(subject, "absent", 0 if right else 7))
    return queries


FIRST = method([80, 90, 70, 60, 80, 100], [True, True, True, False, True, False])
SECOND = method([40, 50, 20, 30, 40, 60], [False, True, True, False, False, False])


def test_every_subset_weighs_the_same_however_many_queries_it_has() -> None:
    scores = subset_scores(FIRST)
    assert scores.by_subset == pytest.approx({"plain": 0.8, "look-alike:colour": 0.4, "absent": 4 / 6})
    assert scores.value == pytest.approx((0.8 + 0.4 + 4 / 6) / 3)
    assert scores.n_subjects == 6
    more = subset_scores([*FIRST, *(answer("a", "plain", 80, n=n) for n in range(2, 50))])
    assert more.value == pytest.approx(scores.value), "fifty more queries of a subset do not weigh more"


def test_a_scene_with_several_grades_is_a_subset_of_its_own_and_referred_is_one() -> None:
    kinds = [("look-alike", "mixed"), ("look-alike", "swap"), ("look-alike", None), ("referred", "build")]
    kinds += [("referred", "copy"), ("relation", "swap"), ("contradicted", None)]
    scores = subset_scores([answer("a", kind, 50, grade) for kind, grade in kinds])
    assert list(scores.samples) == [
        "look-alike", "look-alike:swap", "look-alike:mixed", "relation", "referred", "contradicted",
    ]  # fmt: skip
    assert scores.value == pytest.approx(5 * 0.5 / 6), "a mask where the text contradicts the scene scores 0"


def test_a_failed_query_scores_nothing_even_where_nothing_was_right() -> None:
    queries = [answer("a", "look-alike", 50, "swap"), answer("a", "absent", 0), answer("b", "absent", 0, failed=True)]
    assert subset_scores(queries).by_subset == {"look-alike:swap": 0.5, "absent": 0.5}


def test_without_graded_look_alikes_there_is_no_headline() -> None:
    scores = subset_scores([answer(subject, kind, 50) for subject in SUBJECTS for kind in ("plain", "look-alike")])
    assert scores.by_subset == {"plain": 0.5, "look-alike": 0.5}
    assert (scores.value, headline_interval(scores)) == (None, None)
    assert headline_tiers({"a": scores}) == {}
    assert headline_difference(scores, scores) == (None, None, 0)
    assert subset_scores([]).value is None


def test_answers_from_several_seeds_weigh_the_same() -> None:
    one, two = subset_scores(FIRST), subset_scores(SECOND)
    both = subset_scores([*FIRST, *SECOND])
    assert both.value == pytest.approx(((one.value or 0) + (two.value or 0)) / 2)
    assert len(both.samples["plain"].query_ids) == 12


def test_a_draw_of_subjects_scores_every_subset_again() -> None:
    found = headline_interval(subset_scores(FIRST))
    weights = subject_weights(6)
    plain, right = np.array([80, 90, 70, 60, 80, 100]) / 100, np.array([1, 1, 1, 0, 1, 0])
    by_hand = sum(weights @ each / 6 for each in (plain, plain // 0.01 // 2 / 100, right)) / 3
    assert found == pytest.approx(np.quantile(by_hand, [0.025, 0.975]), abs=1e-9)


def test_a_draw_without_a_subset_is_left_out() -> None:
    graded = [answer(subject, "look-alike", 50, "swap") for subject in (*SUBJECTS, "g", "h")]
    scores = subset_scores([*graded, *(answer(subject, "plain", 20 * n) for n, subject in enumerate(SUBJECTS))])
    assert scores.n_subjects == 6
    low, high = headline_interval(scores, np.random.default_rng(3)) or (0, 0)
    assert 0.25 < low < 0.5 < high <= 0.75


def test_with_too_few_subjects_of_one_subset_there_is_no_interval_and_no_tier() -> None:
    few = [query for query in FIRST if query.query_type != "absent" or query.subject_id != "a"]
    scores = subset_scores(few)
    assert scores.n_subjects == FEWEST_SUBJECTS - 1 and scores.value is not None
    assert headline_interval(scores) is None
    assert headline_tiers({"few": scores}) == {}
    assert headline_difference(scores, scores).interval is None


def test_all_subjects_alike_leave_room_for_one_that_is_not() -> None:
    perfect = [answer(subject, "look-alike", 100, "swap") for subject in SUBJECTS]
    assert headline_interval(subset_scores(perfect)) == pytest.approx((0.05 ** (1 / 6), 1.0))


def test_two_methods_get_the_same_draws() -> None:
    first, second = subset_scores(FIRST), subset_scores(SECOND)
    gap = headline_difference(first, second)
    assert gap.value == pytest.approx((first.value or 0) - (second.value or 0)) and gap.n == len(FIRST)
    assert headline_difference(first, first).interval == (0.0, 0.0)
    shifted = subset_scores(method([70, 80, 60, 50, 70, 90], [True, True, True, False, True, False]))
    low, high = headline_difference(first, shifted).interval or (0, 0)
    assert (low, high) == pytest.approx((0.05, 0.05)), "0.1, 0.05 and 0 in every draw"


def test_a_difference_is_over_the_queries_of_both() -> None:
    part = subset_scores([query for query in SECOND if query.query_type != "absent"])
    gap = headline_difference(subset_scores(FIRST), part)
    assert gap.n == 18 and gap.value == pytest.approx((0.8 + 0.4) / 2 - (0.4 + 0.2) / 2)
    other = subset_scores([answer("z", "look-alike", 50, "colour")])
    assert headline_difference(subset_scores(FIRST), other) == (None, None, 0)
    moved = [QueryResult("a/plain/None/0", "b", "s", "plain", FIRST[0].counts), *FIRST[1:]]
    with pytest.raises(DataError, match="query 'a/plain/None/0' is about subject 'a' in one run and 'b' in the other"):
        headline_difference(subset_scores(FIRST), subset_scores(moved))


def test_tiers_go_by_headline() -> None:
    scores = {"first": subset_scores(FIRST), "second": subset_scores(SECOND), "again": subset_scores(FIRST)}
    assert headline_tiers(scores) == {"again": 1, "first": 1, "second": 2}
