"""Result files -> tables and page, on runs small enough for a pencil."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from prisbench.counts import Counts
from prisbench.errors import DataError, UnknownNameError
from prisbench.leaderboard import intervals
from prisbench.leaderboard.pages import check, check_pages, readme, write_pages, write_readme
from prisbench.leaderboard.render import render
from prisbench.leaderboard.rows import columns_of, load_runs, rows
from prisbench.leaderboard.summaries import SHOWN, front, learners, summary
from prisbench.provenance import Environment
from prisbench.results import DatasetRef, QueryResult, Run, SecondsPerImage, write_run

SUBJECTS = ("a", "b", "c", "d", "e", "f")


def query(subject: str, kind: str, percent: int, hit: bool | None = None, error: str | None = None) -> QueryResult:
    """A truth of 100 pixels of which ``percent`` are found, and nothing else; wrong instance below 30 %.

    For an absent query, a mask of ``percent`` pixels.
    """
    absent = kind == "absent"
    counts = Counts(
        intersection=0 if absent else percent,
        union=percent if absent else 100,
        predicted_area=percent,
        truth_area=0 if absent else 100,
        look_alike_intersection=0,
        boundary_intersection=0,
        boundary_union=min(percent, 10) if absent else 10,
        area=40 * 60,
        pointing_hit=hit,
        wrong_instance=percent < 30 if kind == "look-alike" else None,
        absent_fp=percent > 0 if absent else None,
    )
    return QueryResult(f"{subject}/{kind}", subject, f"scene-{subject}", kind, counts, error=error)


def make_run(method: str, concept: str, percents: Callable[[int], int], points: bool = False) -> Run:
    """Six subjects, each with a plain, a look-alike and an absent query; ``percents`` of the subject's number."""
    queries = []
    for i, subject in enumerate(SUBJECTS):
        hit = percents(i) >= 50 if points else None
        queries += [query(subject, "plain", percents(i), hit), query(subject, "look-alike", percents(i) // 2, hit)]
        queries += [query(subject, "absent", i)]
    return Run(
        method=method,
        concept=concept,
        dataset=DatasetRef("tabletop", "v1", "sha256:aaaa", "test"),
        metric_spec="1",
        prisbench_version="0.1.0",
        settings={},
        backbone=None,
        seed=0,
        created="2026-01-31",
        environment=Environment("3.11.7", None, "2.4.6", "x86_64", 2),
        seconds_per_image=SecondsPerImage(median=0.25, mean=0.5),
        learn_seconds=None,
        concept_bytes=None,
        queries=tuple(queries),
    )


LEARNED = make_run("attn", "textual-inversion", lambda i: 80 + i, points=True)
CONTROL = make_run("attn", "noun-only", lambda i: 38 + 2 * i, points=True)
FLOOR = make_run("center-box", "none", lambda i: 10)
RUNS = [FLOOR, CONTROL, LEARNED]


def by_concept(frame: pd.DataFrame, concept: str) -> dict[str, Any]:
    return next(row for row in frame.to_dict(orient="records") if row["concept"] == concept)


def test_rows_hold_the_numbers_a_pencil_gives() -> None:
    frame = rows(RUNS)
    assert tuple(frame.columns) == columns_of("1")
    assert list(frame["concept"]) == ["textual-inversion", "noun-only", "none"]
    row = by_concept(frame, "noun-only")
    # plain 38 40 42 44 46 48, look-alike 19 20 21 22 23 24 %: 12 queries of 100 pixels
    assert row["iou_mean"] == pytest.approx(3.87 / 12) == row["iou_pooled"]
    assert (row["p_at_50"], row["pointing"], row["pointing_n"]) == (0.0, 0.0, 12)
    assert (row["wrong_instance_rate"], row["wrong_instance_rate_n"]) == (1.0, 6)
    assert (row["absent_fp_rate"], row["absent_fp_rate_n"]) == (5 / 6, 6)
    assert (row["n"], row["n_subjects"], row["n_errors"], row["seconds_per_image"]) == (18, 6, 0, 0.25)
    low, high = row["iou_mean_ci"]
    assert 0.285 <= low < 3.87 / 12 < high <= 0.36
    assert row["wrong_instance_rate_ci"] == pytest.approx([0.05 ** (1 / 6), 1.0]), "six of six are not all there are"


def test_tiers_and_the_paired_gain_follow_from_the_subjects() -> None:
    frame = rows(RUNS)
    assert list(frame["tier"]) == [1, 2, 3]
    learned = by_concept(frame, "textual-inversion")
    gains = [(80 + i + (80 + i) // 2 - 38 - 2 * i - 19 - i) / 200 for i in range(6)]
    assert learned["gain_over_noun"] == pytest.approx(sum(gains) / 6)
    low, high = learned["gain_over_noun_ci"]
    assert min(gains) <= low < sum(gains) / 6 < high <= max(gains)
    assert by_concept(frame, "noun-only")["gain_over_noun"] is None
    assert by_concept(frame, "none")["gain_over_noun"] is None


def test_undefined_is_none_and_counted_never_zero_or_nan() -> None:
    row = by_concept(rows(RUNS), "none")
    assert (row["pointing"], row["pointing_n"], row["pointing_n_undefined"]) == (None, 0, 12)
    absent = by_concept(rows(RUNS, "absent"), "none")
    assert (absent["iou_mean"], absent["iou_mean_ci"], absent["tier"]) == (None, None, None)
    one = dataclasses.replace(LEARNED, queries=LEARNED.queries[:3])
    assert rows([one]).iloc[0]["iou_mean_ci"] is None
    assert "NaN" not in render(rows(RUNS, "absent"), "json")


@pytest.mark.parametrize(("subset", "n"), [(None, 18), ("present", 12), ("plain", 6), ("absent", 6), ("relation", 0)])
def test_a_subset_keeps_its_queries_only(subset: str | None, n: int) -> None:
    frame = rows(RUNS, subset)
    assert list(frame["n"]) == [n] * 3
    if subset == "plain":
        assert by_concept(frame, "none")["iou_mean"] == pytest.approx(0.1)


def test_an_unknown_subset_or_format_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown subset 'lookalike': did you mean 'look-alike'"):
        rows(RUNS, "lookalike")
    with pytest.raises(UnknownNameError, match="unknown format 'markdown'"):
        render(rows(RUNS), "markdown")


def test_a_run_that_answers_fewer_queries_is_shown_but_not_ranked_and_gives_no_gain() -> None:
    part = dataclasses.replace(LEARNED, queries=LEARNED.queries[:-1])
    frame = rows([FLOOR, CONTROL, part])
    assert list(frame["concept"]) == ["noun-only", "none", "textual-inversion"]
    assert list(frame["tier"]) == [1, 2, None]
    assert by_concept(frame, "textual-inversion")["gain_over_noun"] is None
    assert "attn / textual-inversion answers 17 queries of at least 18: shown, not ranked." in render(frame)
    assert list(rows([FLOOR, CONTROL, part], "plain")["tier"]) == [1, 2, 3]


def test_runs_that_do_not_belong_together_are_refused() -> None:
    other = dataclasses.replace(CONTROL, dataset=dataclasses.replace(CONTROL.dataset, digest="sha256:bbbb"))
    with pytest.raises(DataError, match=r"attn / noun-only: .*another dataset version: .*bbbb.*expected .*aaaa"):
        rows([FLOOR, other])
    with pytest.raises(DataError, match="attn / noun-only: scored by metric spec 0, this table is of 1"):
        rows([FLOOR, dataclasses.replace(CONTROL, metric_spec="0")])
    with pytest.raises(DataError, match=r"center-box / none: the same method, concept and seed .*remove one"):
        rows([FLOOR, CONTROL, FLOOR])


def test_markdown_prints_scores_with_their_intervals_and_says_what_is_missing() -> None:
    failed = dataclasses.replace(CONTROL, queries=(query("a", "plain", 0, error="boom"), *CONTROL.queries[1:]))
    text = render(rows([LEARNED, failed, FLOOR]))
    lines = text.splitlines()
    learned = lines[2].split(" | ")
    assert learned[:4] == ["| 1", "attn", "textual-inversion", "18"]
    assert learned[4] == "0.618 [0.61, 0.63]"
    assert lines[4].split(" | ")[10] == "–"  # center-box names no pixel
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert re.search(r"^- attn: textual-inversion over noun-only, paired: mIoU \+0\.\d{3} \[\+0", text, re.M)
    assert "- attn / noun-only failed on 1 queries; they count as empty masks." in text
    assert "- attn / noun-only names no pixel in 1 queries" in text
    assert "center-box / none names no pixel" not in text


def test_a_pipe_in_a_name_does_not_break_the_table() -> None:
    text = render(rows([dataclasses.replace(FLOOR, method="a|b")]))
    assert "a\\|b" in text.splitlines()[2]


def test_json_and_csv_carry_the_same_rows_unrounded() -> None:
    frame = rows(RUNS)
    found = json.loads(render(frame, "json"))
    assert [set(row) for row in found] == [set(columns_of("1"))] * 3
    assert found[1]["iou_mean"] == by_concept(frame, "noun-only")["iou_mean"]
    assert found[1]["iou_mean_ci"] == by_concept(frame, "noun-only")["iou_mean_ci"]
    table = pd.read_csv(io.StringIO(render(frame, "csv")))
    assert table["iou_mean"].tolist() == [row["iou_mean"] for row in found]
    assert table["iou_mean_low"].tolist() == [row["iou_mean_ci"][0] for row in found]
    assert table["gain_over_noun_high"].notna().tolist() == [True, False, False]
    assert table["tier"].tolist() == [1, 2, 3]
    assert not [name for name in table.columns if name.endswith("_ci")]


@pytest.mark.parametrize("format", ["json", "csv", "md"])
def test_a_table_of_no_runs_can_be_printed(format: str) -> None:
    assert render(rows([]), format)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    board = tmp_path / "tabletop-v1"
    for run in RUNS:
        write_run(run, board / f"{run.method}-{run.concept}.json")
    return board


def test_the_folder_is_current_after_writing_and_stale_after_a_change(folder: Path) -> None:
    assert any("# tabletop-v1, test split" in line for line in check(folder))
    write_readme(folder)
    assert check(folder) == []
    text = (folder / "README.md").read_text()
    assert text == readme(load_runs(folder)) and "## Only look-alike queries" in text
    assert "## Only relation queries" not in text
    (folder / "README.md").write_text(text.replace("0.618", "0.718"))
    changed = check(folder)
    assert any(line.startswith("-") and "0.718" in line for line in changed)
    assert any(line.startswith("+") and "0.618" in line for line in changed)


def test_the_readme_does_not_depend_on_the_order_of_files(folder: Path) -> None:
    assert readme(load_runs(folder)) == readme(RUNS) == readme(RUNS[::-1])


def test_a_folder_with_nothing_or_with_strangers_is_refused_by_file_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no result files \(\*\.json\); make one with `prisbench evaluate`"):
        load_runs(tmp_path / "nowhere")
    other = dataclasses.replace(FLOOR, dataset=DatasetRef("tabletop", "v2", "sha256:bbbb", "test"))
    write_run(other, folder / "z.json")
    with pytest.raises(DataError, match=r"z\.json: a result file of another dataset version: .*bbbb.*aaaa"):
        load_runs(folder)
    write_run(FLOOR, folder / "z.json")
    with pytest.raises(DataError, match=r"z\.json: the same method, concept and seed .* as .*center-box-none\.json"):
        load_runs(folder)


def believing(run: Run, beliefs: dict[str, float]) -> Run:
    """The run with a belief in each query's subject, by query type."""
    queries = [dataclasses.replace(query, presence=beliefs[query.query_type]) for query in run.queries]
    return dataclasses.replace(run, queries=tuple(queries))


def test_a_row_says_how_well_beliefs_tell_present_from_absent() -> None:
    sure = believing(LEARNED, {"plain": 0.9, "look-alike": 0.2, "absent": 0.4})
    (row,) = rows([sure]).to_dict(orient="records")
    assert (row["presence_auc"], row["presence_auc_ci"], row["presence_auc_n_subjects"]) == (0.5, [0.5, 0.5], 6), (
        "plain right, look-alikes wrong"
    )
    assert "area under the ROC of 0.500" in render(rows([sure]))
    assert by_concept(rows(RUNS), "noun-only")["presence_auc"] is None, "no belief, no curve"
    (row,) = rows([sure], "plain").to_dict(orient="records")
    assert row["presence_auc"] is None, "nothing absent in this table"


def few(run: Run, subjects: int, kind: str = "") -> Run:
    """The run about its first subjects only; with ``kind``, of that type only."""
    kept = [q for q in run.queries if q.subject_id in SUBJECTS[:subjects] or (kind and q.query_type != kind)]
    return dataclasses.replace(run, queries=tuple(kept))


@pytest.mark.parametrize("subjects", [1, 2, 5])
def test_from_fewer_than_six_subjects_no_interval_and_no_tier_is_shown_anywhere(subjects: int) -> None:
    runs = [believing(few(run, subjects), {"plain": 0.9, "look-alike": 0.2, "absent": 0.4}) for run in RUNS]
    frame = rows(runs)
    records = frame.to_dict(orient="records")
    assert {row[name] for row in records for name in row if name.endswith("_ci")} == {None}
    assert {row["tier"] for row in records} == {None} and [row["iou_mean_n_subjects"] for row in records] == [
        subjects
    ] * 3
    assert by_concept(frame, "textual-inversion")["gain_over_noun"] > 0.2
    for row in json.loads(render(frame, "json")):
        assert row["iou_mean_ci"] is None and row["presence_auc_ci"] is None and row["presence_auc"] == 0.5
    table = pd.read_csv(io.StringIO(render(frame, "csv")))
    assert table[[name for name in table if name.endswith(("_low", "_high"))]].isna().all(axis=None)
    why = f"{subjects} subject{'s' * (subjects > 1)}; at least 6 are needed for one that can be trusted"
    text = render(frame)
    assert f"- No intervals and no tiers: {why}. " in text and "not ranked" not in text
    for page in (text, summary(runs), learners(runs), readme(runs)):
        assert not re.search(r"\d \[", page)
        assert why in page, "and it is said why"


def test_a_number_that_fewer_subjects_define_lacks_its_interval_alone() -> None:
    text = render(rows([few(run, 5, "look-alike") for run in RUNS]))
    assert text.splitlines()[2].split(" | ")[4] == "0.635 [0.61, 0.69]", "699 pixels of 1100"
    assert "- [low, high] are 95 % intervals over 6 subjects. Methods in a tier" in text
    why = "5 subjects; at least 6 are needed for one that can be trusted"
    assert f"- No interval for wrong instance: {why}." in text and "No interval for mIoU" not in text
    for page in (summary, learners):
        assert f"- No interval for mIoU (look-alike): {why}." in page([few(run, 5, "look-alike") for run in RUNS])
    part = few(CONTROL, 2)
    text = render(rows([FLOOR, LEARNED, part]))
    few_of = "No interval for mIoU of attn / noun-only: 2 subjects; at least 6"
    assert few_of in text and "attn / noun-only answers 6 queries of at least 18: shown, not ranked." in text


def test_six_subjects_of_whom_none_defines_enough_give_no_interval_either() -> None:
    spread = [
        q
        for i, s in enumerate(SUBJECTS)
        for q in LEARNED.queries
        if q.subject_id == s and q.query_type == ("absent" if i == 0 else "plain")
    ]
    run = dataclasses.replace(LEARNED, queries=tuple(spread))
    why = "5 subjects; at least 6 are needed for one that can be trusted"
    text = render(rows([run]))
    assert rows([run]).iloc[0]["n_subjects"] == 6 and "[low, high]" not in text
    assert f"- No intervals and no tiers: {why}." in text
    assert f"mean IoU (no intervals: {why})" in summary([run])


def test_a_part_of_a_split_is_counted() -> None:
    assert intervals.part(RUNS, 18) is None and intervals.part([few(FLOOR, 2), LEARNED], 18) is None
    found = intervals.part([few(FLOOR, 1)], 18)
    assert found == {"queries": 3, "of": 18, "subjects": 1, "types": 3}
    assert intervals.part_note(found or {}) == (
        "Partial: 3 of 18 queries of the split, about 1 subject and 3 query types; "
        "for trying out, not a result to report."
    )


def test_pages_show_their_tables_and_are_checked(tmp_path: Path) -> None:
    page, learned = tmp_path / "README.md", tmp_path / "docs" / "learners.md"
    learned.parent.mkdir()
    page.write_text("# p\n\n<!-- table tabletop-v1 -->\nold\n<!-- /table -->\nmore\n")
    learned.write_text("<!-- learners tabletop-v1 -->\nolder\n<!-- /learners -->\nrest\n")
    changes = "\n".join(check_pages(tmp_path, RUNS))
    assert "-old\n" in changes and "-older\n" in changes
    assert write_pages(tmp_path, RUNS) == [page, learned]
    text = page.read_text()
    assert text.startswith("# p\n\n<!-- table") and text.endswith("<!-- /table -->\nmore\n")
    assert check_pages(tmp_path, RUNS) == []
    assert "| attn | textual-inversion | 0.62 [0.61, 0.63] | 0.83 [0.81, 0.84] |" in text
    assert "paired, on look-alikes: **+0.19" in summary(RUNS)
    validation = [dataclasses.replace(run, dataset=DatasetRef("tabletop", "v1", "d", "validation")) for run in RUNS]
    assert check_pages(tmp_path, validation) == [], "another split's tables have marks of their own"
    page.write_text("no table")
    learned.unlink()
    assert write_pages(tmp_path, RUNS) == [] and page.read_text() == "no table"


def seeded(run: Run, seed: int, change: int) -> Run:
    """The run with another seed, which found so many per cent more, or fewer."""
    queries = []
    for each in run.queries:
        kind, percent = each.query_type, each.counts.predicted_area + change
        queries.append(query(each.subject_id, kind, percent, each.counts.pointing_hit))
    return dataclasses.replace(run, seed=seed, queries=tuple(queries), settings={"learner": {"seed": seed}})


def test_seeds_share_a_row_and_every_answer_weighs_the_same() -> None:
    runs = [seeded(LEARNED, seed, change) for seed, change in ((0, 0), (1, -6), (2, 3))]
    frame = rows([*runs, CONTROL])
    row = by_concept(frame, "textual-inversion")
    each = [by_concept(rows([run]), "textual-inversion") for run in runs]
    assert row["seeds"] == [0, 1, 2] and row["n"] == 18 and row["iou_mean_n"] == 36
    assert row["iou_mean"] == pytest.approx(np.mean([one["iou_mean"] for one in each]))
    assert row["iou_mean_seed_sd"] == pytest.approx(np.std([one["iou_mean"] for one in each], ddof=1))
    assert each[0]["iou_mean_seed_sd"] is None and each[0]["seeds"] == [0]
    gains = [by_concept(rows([run, CONTROL]), "textual-inversion")["gain_over_noun"] for run in runs]
    assert row["gain_over_noun"] == pytest.approx(np.mean(gains))
    assert row["tier"] == 1 and "| textual-inversion (3 seeds) | 18 |" in render(frame)
    low, high = row["iou_mean_ci"]
    assert low < row["iou_mean"] < high


def test_seeds_share_no_row_with_other_settings_nor_with_themselves() -> None:
    one, two = seeded(LEARNED, 0, 0), seeded(LEARNED, 1, 0)
    other = dataclasses.replace(two, settings={"learner": {"seed": 1, "steps": 7}})
    with pytest.raises(DataError, match="differ in more than the seed"):
        rows([one, other])
    with pytest.raises(DataError, match=r"the same method, concept and seed \(attn / textual-inversion, 1\)"):
        rows([one, two, two])


def test_the_table_of_learners_says_who_is_ahead_where() -> None:
    text = learners([*RUNS, dataclasses.replace(seeded(LEARNED, 0, -9), concept="dreambooth", concept_bytes=2500.0)])
    assert "| textual-inversion | 0.62" in text and "center-box" not in text
    assert text.index("| textual-inversion |") < text.index("| dreambooth |") < text.index("| noun-only |")
    assert "| 2.5 |" in text
    ahead = next(line for line in text.splitlines() if line.startswith("- look-alike"))
    assert (
        ahead.startswith("- look-alike: textual-inversion (+0.19")
        and "dreambooth (-0.09 [-0.09, -0.09] to the first" in ahead
    )
    with pytest.raises(DataError, match="a method with several concepts"):
        learners([FLOOR])


def test_each_method_with_several_concepts_has_its_table_of_learners() -> None:
    other = [dataclasses.replace(run, method="attn-features") for run in (LEARNED, CONTROL)]
    alone = dataclasses.replace(LEARNED, method="persam", concept="persam")
    text = learners([LEARNED, CONTROL, *other, alone, FLOOR])
    assert text == f"**attn**\n\n{learners([LEARNED, CONTROL])}\n**attn-features**\n\n{learners(other)}"


def test_rows_of_two_reference_settings_have_each_its_own_numbers_in_short_tables() -> None:
    """One method and concept, with the photos' masks and without."""
    alone, masks = (
        dataclasses.replace(
            make_run("attn", "textual-inversion", lambda i, share=share: share), reference=setting, metric_spec="2"
        )
        for setting, share in (("photos", 40), ("photos+masks", 80))
    )
    control = dataclasses.replace(CONTROL, metric_spec="2")
    for table in (summary([alone, masks, control]), learners([alone, masks, control])):
        (first,) = [line for line in table.splitlines() if "| textual-inversion (photos+masks) |" in line]
        (second,) = [line for line in table.splitlines() if "| textual-inversion |" in line]
        assert "| 0.80 [" in first and "| 0.40 [" in second, "plain"
    assert "textual-inversion (photos+masks) (" in table, "who is ahead, by how much"


def test_a_front_page_has_the_best_row_of_each_method_in_each_reference_setting() -> None:
    def run(method: str, concept: str, share: int, reference: str = "photos") -> Run:
        made = make_run(method, concept, lambda i: share)
        return dataclasses.replace(made, reference=reference, metric_spec="2")

    runs = [run("attn", "textual-inversion", 60), run("attn", "noun-only", 20), run("clipseg", "photo", 50)]
    runs += [run("attn", "textual-inversion", 80, "photos+masks"), run("sam", "sam", 90, "photos+masks")]
    _, alone, masked = front(runs).split("**Given photos")
    assert alone.startswith(" alone**") and masked.startswith(" and the masks in them**")
    shown = [
        [line.split(" | ")[:2] for line in part.splitlines() if line.startswith("| ")][1:] for part in (alone, masked)
    ]
    assert shown[0] == [["| attn", "textual-inversion"], ["| clipseg", "photo"]]
    assert shown[1] == [["| sam", "sam (photos+masks)"], ["| attn", "textual-inversion (photos+masks)"]]
    assert "; 1 more rows, of other concepts" in masked and "What textual-inversion adds to attn" in masked
    many = front([run(f"m{n}", "noun-only", n) for n in range(SHOWN + 3)])
    assert "| m3 |" in many and "| m2 |" not in many and f"{SHOWN} at most; 3 more rows" in many
