"""Intervals over subjects, paired differences, tiers; scipy is the other implementation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from prisbench import statistics
from prisbench.errors import DataError
from prisbench.statistics import (
    DRAWS,
    FEWEST_SUBJECTS,
    Sample,
    interval,
    interval_words,
    paired_difference,
    rank_tiers,
    roc,
)


def sample(numerator: list[float], subjects: str, denominator: list[float] | None = None, first: int = 0) -> Sample:
    """One query a letter of ``subjects``."""
    return Sample(
        query_ids=tuple(f"q{first + i}" for i in range(len(subjects))),
        subject_ids=tuple(subjects),
        numerator=np.array(numerator, dtype=float),
        denominator=np.array([1.0] * len(subjects) if denominator is None else denominator, dtype=float),
    )


def drawn(seed: int, subjects: int = 20, queries: int = 6, mean: float = 0.5) -> Sample:
    """Queries of one subject share its luck; denominators differ."""
    rng = np.random.default_rng(seed)
    luck = rng.normal(mean, 0.15, subjects).repeat(queries)
    denominator = rng.integers(10, 200, subjects * queries).astype(float)
    return Sample(
        query_ids=tuple(f"q{i}" for i in range(subjects * queries)),
        subject_ids=tuple(f"s{i // queries}" for i in range(subjects * queries)),
        numerator=np.clip(luck + rng.normal(0, 0.1, luck.size), 0, 1) * denominator,
        denominator=denominator,
    )


def per_subject(values: np.ndarray, queries: int = 6) -> np.ndarray:
    return values.reshape(-1, queries).sum(axis=1)


def test_interval_agrees_with_scipy_on_sums_per_subject() -> None:
    one = drawn(1)
    reference = scipy.stats.bootstrap(
        (per_subject(one.numerator), per_subject(one.denominator)),
        lambda above, below, axis: above.sum(axis=axis) / below.sum(axis=axis),
        paired=True, vectorized=True, n_resamples=DRAWS, method="percentile", rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    found = interval(one)
    assert found == pytest.approx((reference.low, reference.high), abs=0.004)
    assert found is not None and found[1] - found[0] > 0.05


def test_paired_difference_agrees_with_scipy() -> None:
    one, two = drawn(1), drawn(2, mean=0.4)
    reference = scipy.stats.bootstrap(
        tuple(per_subject(each) for each in (one.numerator, one.denominator, two.numerator, two.denominator)),
        lambda a, b, c, d, axis: a.sum(axis=axis) / b.sum(axis=axis) - c.sum(axis=axis) / d.sum(axis=axis),
        paired=True, vectorized=True, n_resamples=DRAWS, method="percentile", rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    found = paired_difference(one, two)
    assert found.interval == pytest.approx((reference.low, reference.high), abs=0.005)


def test_interval_of_subjects_is_wider_than_that_of_queries() -> None:
    one = drawn(1)
    alone = Sample(one.query_ids, one.query_ids, one.numerator, one.denominator)
    over_subjects, over_queries = interval(one), interval(alone)
    assert over_subjects is not None and over_queries is not None
    assert over_subjects[1] - over_subjects[0] > 1.5 * (over_queries[1] - over_queries[0])


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        luck = rng.normal(0.5, 0.1, 24).repeat(2)
        found = interval(sample(list(luck + rng.normal(0, 0.05, 48)), "".join(chr(65 + i // 2) for i in range(48))))
        assert found is not None
        hits += found[0] <= 0.5 <= found[1]
    assert 0.88 <= hits / 200 <= 0.98


@pytest.mark.parametrize("subjects", ["a", "ab", "abcde"])
def test_fewer_than_six_subjects_give_no_interval_and_no_tier_however_many_queries(subjects: str) -> None:
    rng, many = np.random.default_rng(0), subjects * 40
    one, two = (sample(list(rng.random(len(many))), many) for _ in range(2))
    assert FEWEST_SUBJECTS == 6 and one.n_subjects == len(subjects)
    assert interval(one) is None and one.value is not None
    found = paired_difference(one, two)
    assert found.value is not None and found.interval is None
    assert rank_tiers({"one": one, "two": two}) == {}
    curve = roc(one.numerator, two.numerator > 0.5, list(many))
    assert curve is not None and curve.interval is None and curve.n_subjects == len(subjects)


def test_six_subjects_give_intervals_and_tiers() -> None:
    one, two = sample([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], "abcdef"), sample([0.1, 0.2, 0.2, 0.3, 0.4, 0.5], "abcdef")
    assert interval(one) is not None and paired_difference(one, two).interval is not None
    assert rank_tiers({"one": one, "two": two}) == {"one": 1, "two": 2}


@pytest.mark.parametrize(("subjects", "least", "most"), [(2, 0.40, 0.60), (6, 0.78, 0.93)])
def test_why_six_two_subjects_cover_the_truth_half_of_the_time(
    subjects: int, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "FEWEST_SUBJECTS", 2)
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        found = interval(sample(list(rng.normal(0.5, 0.15, subjects)), "abcdef"[:subjects]))
        assert found is not None
        hits += found[0] <= 0.5 <= found[1]
    assert least < hits / 300 < most


def test_six_subjects_of_six_are_not_all_there_are() -> None:
    rule = 1 - 0.05 ** (1 / 6)
    assert 1 - (1 - rule) ** 6 == pytest.approx(0.95)
    assert interval(sample([0] * 12, "abcdef" * 2)) == pytest.approx((0.0, rule))
    assert interval(sample([1] * 6, "abcdef")) == pytest.approx((1 - rule, 1.0))
    assert interval(sample([0.7, 0.5] * 6, "abcdef" * 2, [0.7, 0.5] * 6)) == pytest.approx((1 - rule, 1.0))
    assert interval(sample([0] * 24, "abcdefghijklmnopqrstuvwx")) == pytest.approx((0.0, 0.117), abs=1e-3)
    assert interval(sample([0, 1] * 6, "aabbccddeeff")) == (0.5, 0.5), "alike by construction"
    sure = roc(np.array([0.9, 0.1] * 6), np.array([True, False] * 6), list("aabbccddeeff"))
    assert sure is not None and sure.auc == 1.0
    assert sure.interval == pytest.approx((1 - rule, 1.0))


def test_a_rounding_error_tells_no_methods_apart() -> None:
    one, two = (sample([*terms] * 6, "aaabbbcccdddeeefff") for terms in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)))
    assert one.n_subjects == 6 and rank_tiers({"one": one, "two": two}) == {"one": 1, "two": 1}


def test_a_note_says_how_many_there_are_and_how_many_are_needed() -> None:
    assert interval_words(1) == "no interval: 1 subject; at least 6 are needed for one that can be trusted"
    assert interval_words(5, "image").startswith("no interval: 5 images; at least 6")
    assert interval_words(6, "image") == "[low, high] are 95 % intervals over images"


def test_one_subject_or_none_gives_no_interval_rather_than_zero() -> None:
    assert interval(sample([1, 0, 1], "aaa")) is None
    assert interval(sample([], "")) is None and sample([], "").value is None
    alone = paired_difference(sample([1, 0], "aa"), sample([0, 0], "aa"))
    assert alone == (0.5, None, 2)
    assert paired_difference(sample([1], "a"), sample([1], "a", first=5)) == (None, None, 0)


def test_the_seed_is_fixed_and_a_generator_may_be_passed() -> None:
    one = drawn(1)
    assert interval(one) == interval(one)
    assert interval(one, np.random.default_rng(1)) == interval(one, np.random.default_rng(1)) != interval(one)


def test_paired_difference_joins_by_query_id_and_is_far_narrower_than_two_intervals() -> None:
    one = drawn(1)
    order = np.random.default_rng(0).permutation(len(one.query_ids))
    lower = Sample(
        query_ids=tuple(one.query_ids[i] for i in order),
        subject_ids=tuple(one.subject_ids[i] for i in order),
        numerator=(one.numerator - 0.02 * one.denominator)[order],
        denominator=one.denominator[order],
    )
    found = paired_difference(one, lower)
    assert found.value == pytest.approx(0.02) and found.n == 120
    assert found.interval == pytest.approx((0.02, 0.02))


def test_paired_difference_leaves_out_queries_only_one_defines() -> None:
    found = paired_difference(sample([1, 1, 0, 1], "abcd"), sample([0, 1, 0], "bcd", first=1))
    assert found.value == pytest.approx(1 / 3) and found.n == 3


def test_a_query_about_two_subjects_is_an_error() -> None:
    with pytest.raises(DataError, match="query 'q1' is about subject 'b' in one run and 'c' in the other"):
        paired_difference(sample([1, 1], "ab"), sample([1, 1], "ac"))


def test_methods_share_a_tier_until_the_difference_to_its_best_excludes_zero() -> None:
    best, rng = drawn(1, mean=0.7), np.random.default_rng(3)
    noise = rng.normal(0, 0.05, 20).repeat(6)
    near = Sample(
        best.query_ids, best.subject_ids, best.numerator + (noise - 0.01) * best.denominator, best.denominator
    )
    far = drawn(2, mean=0.3)
    none = sample([], "")
    assert rank_tiers({"far": far, "near": near, "best": best, "none": none}) == {"best": 1, "near": 1, "far": 2}


def test_tiers_count_on_from_the_best_of_the_open_tier() -> None:
    subjects = "abcdefgh"
    steps = {f"m{i}": sample([1 - 0.1 * i] * 8, subjects) for i in range(3)}
    assert rank_tiers(steps) == {"m0": 1, "m1": 2, "m2": 3}
    assert rank_tiers(steps | {"twin": steps["m1"]}) == {"m0": 1, "m1": 2, "twin": 2, "m2": 3}
    assert rank_tiers({}) == {}
    assert rank_tiers({"twin": steps["m0"], "same": steps["m0"]}) == {"same": 1, "twin": 1}


def test_the_roc_of_a_pencils_example_and_its_interval_over_subjects() -> None:
    belief = np.array([0.9, 0.4, 0.6, 0.4, 0.1] * 3)
    present = np.array([True, True, True, False, False] * 3)
    found = roc(belief, present, ["a", "b", "a", "b", "a", "c", "d", "c", "d", "c", "e", "f", "e", "f", "e"])
    assert found is not None
    assert found.auc == pytest.approx((2 + 1.5 + 2) / 6)
    assert np.allclose(found.points, [(0, 0), (0, 1 / 3), (0, 2 / 3), (0.5, 1), (1, 1)])
    assert found.interval is not None and found.interval[0] <= found.auc <= found.interval[1] <= 1
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(found.points))
    assert area == pytest.approx(found.auc), "the area under the points is the chance of a right order"


def test_a_roc_needs_six_subjects_of_each_kind_for_an_interval() -> None:
    subjects, rng = list("abcdefgh" * 4), np.random.default_rng(2)
    for without in (3, 2):
        present = np.array([i % 3 > 0 or subjects[i] in "abcdefgh"[:without] for i in range(len(subjects))])
        found = roc(rng.random(len(subjects)), present, subjects)
        assert found is not None and found.n_subjects == 8 - without
        assert (found.interval is None) == (without == 3)


def test_a_roc_needs_both_kinds() -> None:
    assert roc(np.array([0.5, 0.6]), np.array([True, True]), ["a", "b"]) is None
    alone = roc(np.array([0.5, 0.6]), np.array([True, False]), ["a", "a"])
    assert alone is not None and alone.auc == 0 and alone.interval is None


def test_the_rocs_interval_is_that_of_drawing_subjects_again() -> None:
    rng = np.random.default_rng(3)
    subjects = [f"s{i}" for i in range(6) for _ in range(8)]
    present = rng.random(48) < 0.6
    belief = rng.random(48) + 0.5 * present + np.repeat(rng.normal(0, 0.3, 6), 8)
    found = roc(belief, present, subjects)
    assert found is not None and found.interval is not None
    slow = []
    codes = np.repeat(np.arange(6), 8)
    for _ in range(1500):
        rows = np.concatenate([np.flatnonzero(codes == s) for s in rng.integers(0, 6, 6)])
        again = roc(belief[rows], present[rows], ["x"] * len(rows))
        assert again is not None
        slow.append(again.auc)
    assert found.interval == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.03)
