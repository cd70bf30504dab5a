"""The hierarchical bootstrap, standard errors, Holm's tiers, variance shares; beside scipy and plain loops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from prisbench.bench import coverage
from prisbench.bench.uncertainty import Size, bench_uncertainty, drawn_answers, render, scipy_errors
from prisbench.cli import main as cli
from prisbench.errors import DataError, UnknownNameError
from prisbench.headline import headline_interval, subset_scores
from prisbench.leaderboard.rows import load_runs
from prisbench.metrics import METRICS
from prisbench.results import Run
from prisbench.statistics import percentiles
from prisbench.uncertainty import report
from prisbench.uncertainty.answers import Answers, Entry, Seeds, answers_of
from prisbench.uncertainty.draws import LEVELS, OVER_SUBJECTS, drawn
from prisbench.uncertainty.ranking import holm, ranked, win_probabilities
from prisbench.uncertainty.shares import shares_of
from prisbench.uncertainty.spread import (
    Luck,
    Spread,
    error_of,
    freedom_of,
    gap_of,
    interval_of,
    score_interval,
    spread_of,
    subjects_needed,
)

BOARDS = Path(__file__).parents[1] / "leaderboards"


@pytest.fixture(scope="module")
def graded() -> list[Run]:
    """A committed leaderboard with a headline, one seed a row."""
    return load_runs(BOARDS / "tabletop-v3")[:6]


@pytest.fixture(scope="module")
def seeded() -> list[Run]:
    """A committed leaderboard with several learner seeds, 12 subjects."""
    return load_runs(BOARDS / "tabletop-v2-validation")


def made(above: np.ndarray, subject: list[int], image: list[int], seeds: tuple[Seeds, ...] | None = None) -> Answers:
    """Answers of one method, a column a seed."""
    columns = above.shape[1]
    entry = Entry("m", "c", tuple(range(columns)), seeds or tuple(Seeds(n, None) for n in range(columns)))
    whose, where = np.array(subject), np.array(image)
    return Answers("iou_mean", (entry,), above, np.ones_like(above), whose, where, np.zeros(len(whose), int), ("",))


def uneven(seed: int = 0, columns: int = 1) -> Answers:
    """Nine subjects of one to four images, with one to three queries each."""
    rng = np.random.default_rng(seed)
    subject, image = [], []
    for s in range(9):
        for _ in range(1 + s % 4):
            size = 1 + len(set(image)) % 3
            image += [len(set(image))] * size
            subject += [s] * size
    ease = rng.normal(0.5, 0.2, 9)[subject] + rng.normal(0, 0.1, max(image) + 1)[image]
    return made(ease[:, None] + rng.normal(0, 0.2, (len(subject), columns)), subject, image)


def plain_draw(answers: Answers, levels: tuple[str, ...], rng: np.random.Generator) -> float:
    """One draw of the hierarchical bootstrap, a list of rows at a time."""
    subjects = np.unique(answers.subject)
    rows: list[int] = []
    for subject in rng.choice(subjects, len(subjects)) if "subject" in levels else subjects:
        images = np.unique(answers.image[answers.subject == subject])
        for image in rng.choice(images, len(images)) if "image" in levels else images:
            queries = np.flatnonzero(answers.image == image)
            rows += list(rng.choice(queries, len(queries)) if "query" in levels else queries)
    columns = np.arange(answers.above.shape[1])
    seeds = rng.choice(columns, len(columns)) if "seed" in levels else columns
    return float(answers.above[rows][:, seeds].mean())


@pytest.mark.parametrize("levels", [("subject",), ("image",), ("query",), ("subject", "query"), LEVELS])
def test_draws_are_those_of_a_plain_loop(levels: tuple[str, ...]) -> None:
    answers, rng = uneven(columns=3), np.random.default_rng(5)
    slow = np.array([plain_draw(answers, levels, rng) for _ in range(500)])
    fast = drawn(answers, levels, 3000)[:, 0]
    assert fast.mean() == pytest.approx(slow.mean(), abs=4 * slow.std() / 500**0.5)
    assert fast.std() == pytest.approx(slow.std(), rel=0.12)
    ends = [0.025, 0.975]
    assert np.quantile(fast, ends) == pytest.approx(np.quantile(slow, ends), abs=0.4 * slow.std())


def test_what_is_not_drawn_stays_and_the_same_seed_gives_the_same_draws() -> None:
    answers = uneven(columns=2)
    assert np.ptp(drawn(answers, (), 100)) == 0
    assert drawn(answers, (), 100)[0, 0] == pytest.approx(answers.above.mean())
    assert (drawn(answers, LEVELS, 700) == drawn(answers, LEVELS, 700)).all()
    assert (drawn(answers, LEVELS, 700) != drawn(answers, LEVELS, 700, seed=1)).any()
    with pytest.raises(UnknownNameError, match="pixel"):
        drawn(answers, ("pixel",))


def test_draws_of_subjects_alone_are_the_boards(graded: list[Run]) -> None:
    answers = answers_of(graded)
    values = drawn(answers, OVER_SUBJECTS)
    for place in (2, 5):
        run = graded[answers.entries[place].columns[0]]
        assert percentiles(values[:, place], 48) == pytest.approx(headline_interval(subset_scores(run.queries)))


def test_percentiles_and_standard_error_agree_with_scipy() -> None:
    answers = uneven(3)
    sums, counts = (np.bincount(answers.subject, weights) for weights in (answers.above[:, 0], None))
    found = scipy.stats.bootstrap(
        (sums, counts), lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis), paired=True, vectorized=True,
        n_resamples=10_000, method="percentile", rng=np.random.default_rng(5),
    )  # fmt: skip
    ours = drawn(answers, ("subject",))[:, 0]
    assert percentiles(ours, 9) == pytest.approx(tuple(found.confidence_interval), abs=0.01)
    assert ours.std() == pytest.approx(found.standard_error, rel=0.05)


def test_bca_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    answers = made(rng.beta(0.4, 3, (30, 1)), list(range(30)), list(range(30)))
    found = scipy.stats.bootstrap(
        (answers.above[:, 0],), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(5)
    ).confidence_interval
    spread = spread_of(answers, answers.entries[0])
    ours = coverage.bca(spread.value, spread.shares, drawn(answers, ("subject",), 20_000)[:, 0])
    assert ours == pytest.approx(tuple(found), abs=0.004)
    between = interval_of(spread, 30)
    assert between is not None and between == pytest.approx(tuple(found), abs=0.02), "both know of the skew"


def test_a_wilson_interval_of_independent_answers_is_scipys() -> None:
    theirs = scipy.stats.binomtest(7, 40).proportion_ci(method="wilson")
    p = 7 / 40
    assert score_interval(p, p * (1 - p) / 40, 1e9, 40) == pytest.approx(tuple(theirs))
    none = scipy.stats.binomtest(0, 24).proportion_ci(method="wilson")
    assert score_interval(0.0, 0.0, 1e9, 24) == pytest.approx(tuple(none), abs=1e-9)
    assert score_interval(0.5, 0.0, 23.0, 24) == (0.5, 0.5), "alike by construction"


def test_a_paired_difference_is_scipys_t_test() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random((2, 20))
    spreads = []
    for values in (one, two):
        answers = made(values[:, None], list(range(20)), list(range(20)))
        spreads.append(spread_of(answers, answers.entries[0]))
    assert freedom_of(spreads[0].shares - spreads[1].shares) == pytest.approx(19)
    theirs = scipy.stats.ttest_rel(one, two)
    gap = gap_of(*spreads, units=20)
    assert gap.p == pytest.approx(theirs.pvalue) and gap.value == pytest.approx((one - two).mean())
    assert gap.interval == pytest.approx(tuple(theirs.confidence_interval()))
    assert gap_of(*spreads, units=5)[1:] == (None, None, None)


def test_the_freedom_of_a_variance_falls_with_its_kurtosis() -> None:
    rng = np.random.default_rng(1)
    for draw in (rng.normal, rng.laplace):
        variances = draw(size=(40_000, 24)).var(axis=1, ddof=1)
        true = 2 * variances.mean() ** 2 / variances.var()
        kurtosis = 3.0 if draw == rng.normal else 6.0
        assert 2 * 24 / (kurtosis - 21 / 23) == pytest.approx(true, rel=0.05)
    assert freedom_of(np.array([1.0, -1.0] * 12)) == pytest.approx(23), "never more than n - 1"
    assert freedom_of(np.array([1.0] + [0.0] * 23)) < 3


def test_holm_is_the_formula() -> None:
    p = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    # the smallest times 4, the next times 3, ..., none below the one before
    assert holm(p) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {} and holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    rng = np.random.default_rng(0)
    values = list(rng.random(9) ** 4)
    order = sorted(range(9), key=values.__getitem__)
    plain = {k: max(min(1.0, (9 - j) * values[order[j]]) for j in range(order.index(k) + 1)) for k in range(9)}
    assert holm(dict(enumerate(values))) == pytest.approx(plain)


def spreads_of(means: list[float], noise: float = 0.05, subjects: int = 24) -> list[Spread]:
    rng = np.random.default_rng(4)
    out = []
    for mean in means:
        shares = rng.normal(0, noise, subjects)
        out.append(Spread(mean, shares - shares.mean()))
    return out


def test_tiers_and_ranks_by_a_pencil() -> None:
    names = ["a", "b", "c", "d"]
    found = ranked(spreads_of([0.3, 0.8, 0.801, 0.5]), names, 24)
    assert found.order == [2, 1, 3, 0] and found.tiers == [3, 1, 1, 2]
    assert found.ranks == [(4, 4), (1, 2), (1, 2), (3, 3)]
    less = ranked(spreads_of([0.3, 0.8, 0.801, 0.5]), names, 24, higher_is_better=False)
    assert less.order == [0, 3, 1, 2] and less.tiers == [1, 3, 3, 2]
    assert ranked(spreads_of([0.3, 0.8]), names[:2], 5).tiers is None
    alone = ranked(spreads_of([0.3]), ["a"], 24)
    assert alone.tiers == [1] and alone.ranks == [(1, 1)]


def test_holm_needs_more_of_the_eighteenth_method_than_of_the_second() -> None:
    pair = spreads_of([0.5, 0.47])
    gap = gap_of(*pair, units=24)
    assert gap.p is not None and 0.005 < gap.p < 0.05
    assert ranked(pair, ["a", "b"], 24).tiers == [1, 2]
    many = [*pair, *spreads_of([0.5 - 0.001 * n for n in range(16)])]
    found = ranked(many, [f"m{n:02}" for n in range(18)], 24)
    assert found.tiers is not None and found.tiers[1] == 1


def test_win_probabilities_by_a_pencil() -> None:
    values = np.array([[1.0, 2.0], [3.0, 2.0], [2.0, 2.0], [np.nan, 1.0]])
    assert win_probabilities(values).tolist() == [[0.5, 0.5], [0.5, 0.5]]
    values[2, 0] = 5
    assert win_probabilities(values)[0, 1] == pytest.approx(2 / 3)
    assert win_probabilities(values, higher_is_better=False)[0, 1] == pytest.approx(1 / 3)


def test_the_subjects_needed_find_the_gap_in_four_of_five_samples() -> None:
    n = subjects_needed(0.5, 1.0)
    assert n is not None and 30 <= n <= 40
    rng = np.random.default_rng(0)
    found = scipy.stats.ttest_1samp(rng.normal(0.5, 1, (4000, n)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)
    assert subjects_needed(0.0, 1.0) is None and subjects_needed(9.0, 1.0) == 6
    assert subjects_needed(0.5, 1.0, seed_variance=0.1) is None, "more subjects take no luck of seeds away"


def test_seeds_that_matter_to_all_subjects_alike_widen_an_error_and_others_do_not() -> None:
    rng, subjects, seeds, added = np.random.default_rng(0), 30, 4, []
    for of_seed in (0.0, 0.1):
        parts = []
        for _ in range(150):
            x = (
                rng.normal(0, 0.2, (subjects, 1))
                + rng.normal(0, of_seed, seeds)
                + rng.normal(0, 0.3, (subjects, seeds))
            )
            answers = made(0.5 + x, list(range(subjects)), list(range(subjects)))
            parts.append(spread_of(answers, answers.entries[0]))
        added.append(np.mean([part.luck.seed - part.luck.both for part in parts if part.luck is not None]))
        means = np.var([part.value for part in parts])
        told = np.mean([error_of(part.shares, [part.luck])[0] for part in parts])
        assert told == pytest.approx(means, rel=0.25)
    assert added[1] == pytest.approx(0.1**2 / seeds, rel=0.3) and abs(added[0]) < 0.05 * added[1]


def test_the_error_of_crossed_subjects_and_seeds_by_a_pencil() -> None:
    shares = np.array([1.0, -1.0] * 12)
    over = 24 / 23 / 24
    assert error_of(shares, [None]) == pytest.approx((over, 23))
    luck = Luck(0.01, 0.02, 2, 46)
    variance, freedom = error_of(shares, [luck])
    assert variance == pytest.approx(over - 0.01), "seeds that vary less than both together count less than nothing"
    assert freedom == pytest.approx(variance**2 / (over**2 / 23 + 0.01**2 / 2 + 0.02**2 / 46))
    assert error_of(shares * 0.1, [luck]) == pytest.approx((0.02, 46)), "a mean is never surer than both allow"
    assert error_of(shares * 0, [None]) == (0.0, 23.0)
    assert error_of(shares * 0, [Luck(0.1, 0.0, 1, 23)]) == pytest.approx((0.1, 1))


def test_variance_shares_come_back() -> None:
    rng, truth = np.random.default_rng(3), {"subject": 0.3, "image": 0.2, "query": 0.1, "learner": 0.25, "noise": 0.15}
    subject = np.arange(400).repeat(12)
    image = np.arange(400 * 4).repeat(3)
    sd = {name: part**0.5 for name, part in truth.items()}
    ease = rng.normal(0, sd["subject"], 400)[subject] + rng.normal(0, sd["image"], 1600)[image]
    ease = ease + rng.normal(0, sd["query"], len(subject))
    columns, seeds = [], []
    for learner in range(3):
        luck = rng.normal(0, sd["learner"], 400)[subject]  # of a subject's concept, hence of all its queries
        for noise in range(2):
            columns.append(ease + luck + rng.normal(0, sd["noise"], len(subject)))
            seeds.append(Seeds(learner, noise))
    answers = made(np.stack(columns, axis=1), list(subject), list(image), tuple(seeds))
    found = shares_of(answers, answers.entries[0])
    assert found is not None and found.variance == pytest.approx(1, rel=0.1)
    for source, part in zip(("subject", "image", "query", "learner seed", "noise seed"), truth.values(), strict=True):
        assert found.shares[source] == pytest.approx(part, abs=0.05), source
    assert found.why == {}


def test_shares_of_a_balanced_case_are_the_mean_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (7, 1, 1)) + rng.normal(0, 1, (7, 5, 1)) + rng.normal(0, 1, (7, 5, 3))
    answers = made(x.reshape(-1, 1), list(np.arange(7).repeat(15)), list(np.arange(35).repeat(3)))
    of_query = x.var(axis=2, ddof=1).mean()
    of_image = 3 * x.mean(axis=2).var(axis=1, ddof=1).mean()
    of_subject = 15 * x.mean(axis=(1, 2)).var(ddof=1)
    parts = np.array([(of_subject - of_image) / 15, (of_image - of_query) / 3, of_query])
    found = shares_of(answers, answers.entries[0])
    assert found is not None and parts.min() > 0 and found.variance == pytest.approx(parts.sum())
    assert [found.shares[name] for name in ("subject", "image", "query")] == pytest.approx(list(parts / parts.sum()))
    assert found.shares["learner seed"] is None and found.shares["noise seed"] is None
    assert "no two rows differ in the learner's seed" in found.why["learner seed"]


def test_shares_say_what_cannot_be_told(seeded: list[Run]) -> None:
    answers = answers_of(seeded)
    by_name = {entry.name: shares_of(answers, entry) for entry in answers.entries}
    found = by_name["attn / textual-inversion"]
    assert found is not None and found.shares["query"] is None and "one query" in found.why["query"]
    assert found.shares["learner seed"] is not None and 0 < found.shares["learner seed"] < 0.3
    assert sum(part or 0 for part in found.shares.values()) == pytest.approx(1)
    alone = by_name["attn / noun-only"]
    assert alone is not None and alone.why["learner seed"] == "nothing is learned by lot"
    constant = made(np.ones((6, 1)), [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2])
    assert shares_of(constant, constant.entries[0]) is None


def test_answers_are_those_of_the_board(graded: list[Run], seeded: list[Run]) -> None:
    answers = answers_of(graded)
    assert answers.measure == "headline" and answers.units == 48 and len(answers.parts) == 12
    for place in (0, 4):
        run = graded[answers.entries[place].columns[0]]
        assert spread_of(answers, answers.entries[place]).value == pytest.approx(subset_scores(run.queries).value)
    alarms = answers_of(graded, "absent_fp_rate")
    assert not alarms.higher_is_better and alarms.below.sum(axis=0).tolist() == [240.0] * 6
    part = [*graded[:2], graded[2]]
    assert answers_of(part, subset="plain").measure == "iou_mean"
    assert answers_of(seeded).entries[1].seeds[0] == Seeds(1, None)
    assert answers_of(graded, "iou_pooled").below.std(axis=1).any(), "denominators of a method's own"
    assert METRICS["iou_pooled"].higher_is_better


def test_a_number_or_a_subset_that_is_not_there_is_said(graded: list[Run], seeded: list[Run]) -> None:
    with pytest.raises(UnknownNameError, match="iou_mean"):
        answers_of(graded, "iou_means")
    with pytest.raises(DataError, match="no headline here"):
        answers_of(seeded, "headline")
    with pytest.raises(DataError, match="no query here defines contradicted_fp_rate"):
        answers_of(seeded, "contradicted_fp_rate")
    with pytest.raises(DataError, match="at least one run"):
        report.analyse([])


def test_the_report_says_all_and_undefined_is_null(seeded: list[Run]) -> None:
    found = report.analyse(seeded, draws=500)
    record = json.loads(report.as_json(found))
    first = record["methods"][0]
    assert first["concept"] == "textual-inversion" and first["tier"] == 1 and len(first["seeds"]) == 3
    assert first["shares"]["noise seed"] is None and "noise seed" in first["shares_why"]
    assert len(record["pairs"]) == 21 and all(0 <= pair["p_holm"] <= 1 for pair in record["pairs"])
    assert all(pair["p"] <= pair["p_holm"] for pair in record["pairs"])
    text = report.markdown(found)
    for part in ("## Who is ahead", "The first two, attn / textual-inversion and attn / custom-diffusion, differ by",
                 "No noise seed", "| learner seed |", "## How often each is ahead"):  # fmt: skip
        assert part in text
    assert "nan" not in text.lower().replace("nano", "")


def test_few_subjects_have_no_tiers_and_say_so(seeded: list[Run]) -> None:
    import dataclasses

    few = sorted({query.subject_id for query in seeded[0].queries})[:5]
    cut = [
        dataclasses.replace(run, queries=tuple(query for query in run.queries if query.subject_id in few))
        for run in seeded
    ]
    found = report.analyse(cut, draws=200)
    text = report.markdown(found)
    assert "No intervals, tiers and ranks: 5 subjects; at least 6 are needed" in text
    methods = json.loads(report.as_json(found))["methods"]
    assert {(row["tier"], row["ranks"], row["interval"]) for row in methods} == {(None, None, None)}


def test_a_coverage_cell_by_a_fast_simulation() -> None:
    few = coverage.simulate(coverage.WORLDS[0], 24, 0.05, 250, draws=200)
    ours, board = (few.covered[kind] for kind in (next(iter(coverage.KINDS)), list(coverage.KINDS)[3]))
    assert 0.91 <= ours <= 0.985 and board < ours
    world = coverage.WORLDS[3]
    assert 0.91 <= coverage.simulate(world, 24, 0.5, 250, draws=200).covered[next(iter(coverage.KINDS))] <= 0.985
    assert "| 24 | BCa, subjects drawn |" in coverage.markdown([few])


def test_drawn_worlds_have_the_rate_and_the_share_they_say() -> None:
    answers = coverage.sample(coverage.World("w", 40, 0.2, 0.1), 300, 0.3, 4, np.random.default_rng(0))
    assert answers.above.mean() == pytest.approx(0.3, abs=0.02)
    found = shares_of(answers, answers.entries[0])
    assert found is not None and found.shares["subject"] == pytest.approx(0.2, abs=0.04)


def test_the_bench_compares_the_same_estimate() -> None:
    size = Size(12, 60, 3, 2)
    answers = drawn_answers(size)
    assert len(answers.entries) == 3 and answers.above.shape == (60, 6)
    for levels in (OVER_SUBJECTS, LEVELS):
        theirs = scipy_errors(answers, levels, 600)
        assert drawn(answers, levels, 3000).std(axis=0) == pytest.approx(theirs, rel=0.15)
    record = bench_uncertainty(size, 300, 20)
    lines = render(record)
    assert len(lines) == 3 and "times as long" in lines[2] and "reckoned from 20 draws" in lines[2]
    assert render(bench_uncertainty(size, 300, 0))[1].endswith("of one processor")


def test_the_command_prints_writes_and_says_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["prisbench", "uncertainty", *words, "--folder", str(BOARDS)])
        try:
            cli.main()
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    out = tmp_path / "sure.md"
    code, text, _ = run("tabletop-v2-validation", "--draws", "200", "--out", str(out), "--format", "json")
    assert code == 0 and json.loads(text)["levels"] == list(LEVELS) and "## Who is ahead" in out.read_text()
    code, text, _ = run("tabletop-v2-validation", "--draws", "200", "--draw", "image", "--subset", "plain")
    assert code == 0 and "They say nothing of other subjects" in " ".join(text.split())
    assert run("tabletop-v2-validation", "--out", "sure.txt")[0] == 1
    code, _, error = run("tabletop-v2-validation", "--by", "luck")
    assert code == 1 and "unknown measure 'luck'" in error
