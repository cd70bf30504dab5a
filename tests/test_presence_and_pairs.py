"""Presence and pairs: by hand, by other formulas, and what their intervals, chances and errors are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from torchmetrics.functional.classification import binary_auroc

from prisbench.counts import Answer, Counts, Truth, count
from prisbench.errors import DataError
from prisbench.pairs import pair_accuracy
from prisbench.presence import presence_mcc, presence_roc, risk_coverage
from prisbench.statistics import interval, paired_difference, roc
from prisbench.types import REFERENTLESS
from tests.drawing import draw_box

SIZE = (4, 6)
LEFT, RIGHT, NOTHING = draw_box(SIZE, 0, 0, 2, 2), draw_box(SIZE, 0, 4, 2, 6), np.zeros(SIZE, dtype=bool)


@dataclass(frozen=True)
class Scored:
    query_id: str
    subject_id: str
    query_type: str
    counts: Counts
    presence: float | None = None
    pair_id: str | None = None


def scored(name: str, kind: str, answer: np.ndarray | str | None, truth: np.ndarray = LEFT, **more: object) -> Scored:
    """``answer`` "failed" is a failure."""
    meant = kind not in REFERENTLESS
    other = RIGHT if truth is LEFT else LEFT
    given = Answer(None, failed=True) if isinstance(answer, str) else Answer(answer)
    counts = count(
        given, Truth(name, kind, truth if meant else NOTHING, (other,) if meant else (LEFT, RIGHT), candidates=2)
    )
    return Scored(name, str(more.pop("subject", "a")), kind, counts, **more)  # type: ignore[arg-type]


def a_pair(
    n: int, first: np.ndarray | str | None, second: np.ndarray | str | None, contradicted: bool = False
) -> list[Scored]:
    """The first text means the left copy, the second the right one or nothing."""
    more = {"subject": f"s{n % 7}", "pair_id": f"p{n}"}
    kind = "contradicted" if contradicted else "referred"
    return [scored(f"{n}a", "referred", first, **more), scored(f"{n}b", kind, second, RIGHT, **more)]


def test_a_pair_is_right_when_both_are_and_chance_follows_from_the_candidates() -> None:
    queries = [
        *a_pair(0, LEFT, RIGHT),
        *a_pair(1, LEFT, LEFT),
        *a_pair(2, LEFT, None),
        *a_pair(3, LEFT, "failed"),
        *a_pair(4, LEFT, None, contradicted=True),
        *a_pair(5, LEFT, "failed", contradicted=True),
        *a_pair(6, LEFT, RIGHT, contradicted=True),
    ]
    every, referred, contradicted = (pair_accuracy([queries], kind) for kind in (None, "referred", "contradicted"))
    assert (every.value, every.n, every.n_undefined) == (pytest.approx(2 / 7), 7, 0)
    assert (referred.value, referred.n, referred.chance) == (1 / 4, 4, pytest.approx(1 / 4))
    assert (contradicted.value, contradicted.n, contradicted.chance) == (pytest.approx(1 / 3), 3, pytest.approx(1 / 9))
    assert every.chance == pytest.approx((4 / 4 + 3 / 9) / 7)
    assert every.interval == interval(every.sample) and every.interval is not None
    assert every.sample.n_subjects == 7 and every.sample.query_ids[:2] == ("p0", "p1")


@pytest.mark.parametrize("answer", [LEFT, RIGHT, LEFT | RIGHT, ~LEFT, None, "failed", draw_box(SIZE, 0, 0, 2, 6)])
def test_a_method_deaf_to_the_text_scores_exactly_zero(answer: np.ndarray | str | None) -> None:
    queries = [each for n in range(8) for each in a_pair(n, answer, answer, contradicted=n % 2 == 1)]
    found = pair_accuracy([queries])
    assert (found.value, found.n) == (0.0, 8) and found.chance == pytest.approx((1 / 4 + 1 / 9) / 2)


def test_a_member_that_is_missing_leaves_its_pair_undefined_and_counted() -> None:
    queries = [*a_pair(0, LEFT, RIGHT), a_pair(1, LEFT, RIGHT)[0], a_pair(2, LEFT, None, contradicted=True)[1]]
    assert [pair_accuracy([queries], kind)[3:5] for kind in (None, "referred", "contradicted")] == [
        (1, 2),
        (1, 1),
        (0, 2),
    ]
    nobody = pair_accuracy([[scored("q", "plain", LEFT)]])
    assert nobody[:5] == (None, None, None, 0, 0)


def test_seeds_of_a_method_are_taken_together_and_two_methods_compared_in_pairs() -> None:
    right = [each for n in range(7) for each in a_pair(n, LEFT, RIGHT)]
    wrong = [each for n in range(7) for each in a_pair(n, LEFT, LEFT)]
    both = pair_accuracy([right, wrong])
    assert (both.value, both.n) == (0.5, 14) and len(both.sample.query_ids) == 7
    gap = paired_difference(pair_accuracy([right]).sample, pair_accuracy([wrong]).sample)
    assert (gap.value, gap.interval, gap.n) == (1.0, (1.0, 1.0), 7)


def test_what_is_no_pair_is_an_error() -> None:
    three = [*a_pair(0, LEFT, RIGHT), scored("c", "referred", LEFT, subject="s0", pair_id="p0")]
    with pytest.raises(DataError, match=r"pair 'p0' has 3 members \('0a', '0b', 'c'\); a pair has two"):
        pair_accuracy([three])
    one, two = a_pair(0, LEFT, RIGHT)
    with pytest.raises(DataError, match=r"pair 'p0' .* is about two subjects"):
        pair_accuracy([[one, dataclasses.replace(two, subject_id="x")]])
    none = [scored(name, "contradicted", None, pair_id="p") for name in ("a", "b")]
    with pytest.raises(DataError, match=r"pair 'p' .*neither text has a referent"):
        pair_accuracy([none])


def answered(rng: np.random.Generator, n: int, subjects: int = 7) -> list[Scored]:
    """Queries of all kinds with answers, scores and failures as they come."""
    found = []
    for i in range(n):
        kind = ("plain", "absent", "referred", "contradicted")[int(rng.integers(4))]
        answer = ("failed", None, LEFT, RIGHT)[int(rng.choice(4, p=[0.1, 0.2, 0.5, 0.2]))]
        score = None if rng.random() < 0.1 else round(float(rng.random()), 1)
        found.append(scored(f"q{i}", kind, answer, subject=f"s{rng.integers(subjects)}", presence=score))
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([REFERENTLESS, ("absent",), ("contradicted",)]))
def test_presence_is_told_by_other_formulas_too(seed: int, negatives: tuple[str, ...]) -> None:
    queries = answered(np.random.default_rng(seed), 40)
    chosen = [each for each in queries if each.query_type not in REFERENTLESS or each.query_type in negatives]
    there = np.array([each.query_type not in REFERENTLESS for each in chosen])
    wrong_way = [each.counts.failed != (each.counts.predicted_area > 0) for each in chosen]
    mask = np.where(there, [each.counts.predicted_area > 0 for each in chosen], wrong_way)
    if there.any() and not there.all():
        found = presence_mcc(queries, negatives)
        expected = np.corrcoef(there, mask)[0, 1] if mask.any() and not mask.all() else 0.0
        assert found is not None and found.value == pytest.approx(expected, abs=1e-12) and found.n == len(chosen)
    known = [each for each in chosen if each.counts.failed or each.presence is not None]
    worst = {True: -1.0, False: 2.0}
    here = [each.query_type not in REFERENTLESS for each in known]
    scores = np.array([worst[h] if e.counts.failed else e.presence for e, h in zip(known, here, strict=True)])
    curve = presence_roc(queries, negatives)
    if curve is not None:
        up, down = scores[here], scores[~np.array(here)]
        assert curve.auc == pytest.approx(mannwhitneyu(up, down).statistic / (len(up) * len(down)), abs=1e-12)
        theirs = binary_auroc(torch.tensor((scores + 1) / 3), torch.tensor(here).int())
        assert curve.auc == pytest.approx(float(theirs), abs=1e-6)


def test_intervals_of_correlation_are_over_subjects_and_have_width_at_the_ends() -> None:
    queries = answered(np.random.default_rng(3), 300)
    found = presence_mcc(queries)
    assert found is not None and found.interval is not None
    assert found.interval[0] < found.value < found.interval[1] and found.n_subjects == 7
    tenth = presence_mcc(queries, rng=np.random.default_rng(5))
    assert tenth is not None and tenth.interval == pytest.approx(found.interval, abs=0.02)
    good = [
        scored(f"{n}{kind}", kind, None if kind == "absent" else LEFT, subject=f"s{n}")
        for n in range(6)
        for kind in ("plain", "absent")
    ]
    best = presence_mcc(good)
    assert best is not None and best.value == 1.0 and best.interval == pytest.approx((2 * 0.05 ** (1 / 6) - 1, 1.0))
    few = presence_mcc(good[:10])
    assert few is not None and (few.value, few.interval) == (1.0, None)
    always = [scored(f"{n}{kind}", kind, LEFT, subject=f"s{n}") for n in range(6) for kind in ("plain", "absent")]
    flat = presence_mcc(always)
    assert flat is not None and (flat.value, flat.interval) == (0.0, (0.0, 0.0))


def test_without_one_of_the_kinds_or_without_a_score_nothing_is_defined() -> None:
    present, absent = scored("a", "plain", LEFT), scored("b", "absent", None)
    assert presence_mcc([present]) is presence_mcc([absent]) is presence_mcc([]) is None
    assert presence_mcc([present, absent], ("contradicted",)) is None
    assert presence_roc([present, absent]) is risk_coverage([present, absent]) is risk_coverage([]) is None
    failed = [scored("a", "plain", "failed", presence=None), scored("b", "absent", "failed")]
    assert presence_roc(failed) is risk_coverage(failed) is None


def test_risk_grows_with_coverage_by_hand() -> None:
    """Sureness 0.9, 0.8, 0.8, 0.4 and a failure; losses 0, 1, 0, 1 and 1: ties have 1/2 each."""
    queries = [
        scored("a", "plain", LEFT, presence=0.9),
        scored("b", "absent", LEFT, presence=0.8),
        scored("c", "absent", None, presence=0.2),
        scored("d", "plain", RIGHT, presence=0.4),
        scored("e", "absent", "failed"),
        scored("f", "plain", LEFT),
    ]
    found = risk_coverage(queries)
    assert found is not None and (found.n, found.n_undefined) == (5, 1)
    risks = [1 / 1, 1 / 2, 1.5 / 3, 2 / 4, 3 / 5]
    assert found.points == [pytest.approx(point) for point in zip([0.2, 0.4, 0.6, 0.8, 1.0], risks, strict=True)]
    assert found.aurc == pytest.approx(sum(risks) / 5)
    many = risk_coverage(queries[:1] * 1000)
    assert many is not None and len(many.points) <= 101 and many.points[-1] == (1.0, 0.0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_areas_by_sorting_are_those_by_comparing_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    belief, present = rng.integers(0, 6, 60) / 5, rng.random(60) < 0.5
    subjects = [f"s{n}" for n in rng.integers(0, 8, 60)]
    found = roc(belief, present, subjects)
    up, down = belief[present], belief[~present]
    assert found is not None and found.auc == float(((up[:, None] > down) + 0.5 * (up[:, None] == down)).mean())
    thresholds = np.unique(belief)[::-1]
    assert found.points == [(0.0, 0.0), *[(float((down >= t).mean()), float((up >= t).mean())) for t in thresholds]]
