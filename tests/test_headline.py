"""The headline by pencil: subsets that weigh the same, failures, draws of subjects, tiers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from prisbench.counts import Counts
from prisbench.errors import DataError
from prisbench.headline import headline_difference, headline_interval, headline_tiers, subset_scores
from prisbench.leaderboard.by_subset import by_subset
from prisbench.leaderboard.pages import readme
from prisbench.leaderboard.render import render
from prisbench.leaderboard.rows import columns_of, rows, shown_columns
from prisbench.leaderboard.summaries import summary
from prisbench.provenance import Environment
from prisbench.results import DatasetRef, Part, QueryResult, Run
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
    plain, alike, right = ([80, 90, 70, 60, 80, 100], [40, 45, 35, 30, 40, 50], [100, 100, 100, 0, 100, 0])
    by_hand = sum(weights @ each / 600 for each in (plain, alike, right)) / 3
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


# --- tables ---------------------------------------------------------------------------------------------------------


def run(name: str, queries: Sequence[QueryResult], spec: str = "2") -> Run:
    return Run(
        method=name,
        concept="none",
        dataset=DatasetRef("tabletop", "v3", "sha256:aaaa", "test"),
        metric_spec=spec,
        prisbench_version="0.1.0",
        settings={},
        backbone=None,
        seed=0,
        created="2026-01-31",
        environment=Environment("3.11.7", None, "2.4.6", "x86_64", 2),
        seconds_per_image=None,
        learn_seconds=None,
        concept_bytes=None,
        queries=tuple(queries),
    )


SHARP = run("sharp", method([80, 90, 70, 60, 80, 100], [False] * 6))
"""Better masks, and never silent: ahead by mIoU."""

QUIET = run("quiet", method([70, 80, 60, 50, 70, 90], [True] * 6))
"""Ahead by headline."""


def test_tables_of_a_graded_set_begin_with_the_headline_and_rank_by_it() -> None:
    frame = rows([SHARP, QUIET])
    assert list(frame["method"]) == ["quiet", "sharp"] and list(frame["tier"]) == [1, 2]
    assert list(frame["headline"]) == pytest.approx([(0.7 + 0.35 + 1) / 3, (0.8 + 0.4 + 0) / 3])
    assert frame["iou_mean"][1] > frame["iou_mean"][0] and list(frame["headline_n_subjects"]) == [6, 6]
    assert list(frame["score_look-alike:colour"]) == pytest.approx([0.35, 0.4])
    assert [column.name for column in shown_columns(frame)][:2] == ["headline", "iou_mean"]
    text = render(frame)
    assert text.splitlines()[0].startswith("| tier | method | concept | n | headline | mIoU |")
    assert "not told apart from its best by headline" in text
    assert "headline_low" in render(frame, "csv").splitlines()[0].split(",")


def test_the_table_of_a_subset_has_no_headline_and_ranks_by_miou() -> None:
    frame = rows([SHARP, QUIET], "look-alike:colour")
    assert list(frame["method"]) == ["sharp", "quiet"] and list(frame["n"]) == [6, 6]
    assert frame["headline"].isna().all() and "headline" not in render(frame)


def test_a_part_of_a_split_and_fewer_answers_have_no_headline() -> None:
    part = dataclasses.replace(QUIET, part=Part(limit=24))
    assert rows([part])["headline"].isna().all()
    fewer = dataclasses.replace(QUIET, queries=QUIET.queries[:-1])
    frame = rows([SHARP, fewer])
    assert list(frame["method"]) == ["sharp", "quiet"] and list(frame["tier"]) == [1, None]
    assert frame["headline"][0] == pytest.approx(0.4) and frame["headline"][1] is None
    assert "quiet / none answers 23 queries of at least 24: shown, not ranked." in render(frame)


def test_too_few_subjects_of_a_subset_are_told_and_nobody_is_ranked() -> None:
    few = [query for query in QUIET.queries if query.query_type != "absent" or query.subject_id != "a"]
    text = render(rows([dataclasses.replace(QUIET, queries=tuple(few))]))
    assert "| – | quiet | none | 23 | 0.683 |" in text
    assert "No interval for headline: 5 subjects; at least 6 are needed" in text and "shown, not ranked" not in text


def test_a_set_without_grades_and_spec_1_are_as_they_were() -> None:
    plain = run("plain", [query for query in SHARP.queries if query.query_type == "plain"])
    frame = rows([plain])
    assert frame["headline"].isna().all() and list(frame["tier"]) == [1] and "headline" not in render(frame)
    assert "By subset" not in readme([plain])
    assert not [column for column in columns_of("1") if "headline" in column or "score" in column]
    assert "headline" not in readme([dataclasses.replace(SHARP, metric_spec="1")])
    with pytest.raises(DataError, match="no whole run of a set with graded look-alikes here"):
        by_subset([plain])


def test_the_table_by_subset_has_a_column_a_subset() -> None:
    lines = by_subset([SHARP, QUIET]).splitlines()
    assert lines[0] == "| tier | method | concept | headline | plain | look-alike:colour | absent (nothing) |"
    assert lines[2].startswith("| 1 | quiet | none | 0.683 [0.") and lines[2].endswith("] | 0.70 | 0.35 | 1.00 |")
    assert lines[3].startswith("| 2 | sharp | none | 0.400 [0.") and lines[3].endswith("] | 0.80 | 0.40 | 0.00 |")
    text = readme([SHARP, QUIET])
    heads = [line for line in text.splitlines() if line.startswith("## ")]
    assert heads == [
        *("## All queries", "## By subset", "## Only plain queries", "## Only look-alike queries"),
        *("## Only look-alike:colour queries", "## Only absent queries"),
    ]
    assert lines[2] in text.splitlines()


def test_the_summary_knows_the_headline() -> None:
    table = summary([SHARP, QUIET]).splitlines()
    assert table[2].startswith("| method | concept | headline | all present |")
    assert [line.split(" | ")[0] for line in table[4:6]] == ["| quiet", "| sharp"]
    assert len({line.count("|") for line in table[2:6]}) == 1
