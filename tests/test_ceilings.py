"""Ceilings: what they score by a pencil, the file of them, and whether it is held to the data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from prisbench.bench.by_eye import choose, shuffled
from prisbench.ceilings.measure import PERSON, checked, of_person, of_run, of_truth, row_of, together
from prisbench.ceilings.outlines import against, box_of, cut_out, kinds
from prisbench.ceilings.thresholds import Curve, curve, one_for_all, one_for_each, presence_known
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import build_tabletop
from prisbench.datasets.sources.tabletop import Size
from prisbench.errors import DataError, UsageError
from prisbench.evaluate import evaluate
from prisbench.headline import subset_scores
from prisbench.leaderboard.ceilings import (
    FILE,
    Ceilings,
    ceiling_rows,
    ceilings_markdown,
    read_ceilings,
    write_ceilings,
)
from prisbench.methods import load_method
from prisbench.results import DatasetRef, read_run
from prisbench.runs import RunOptions, Scope
from prisbench.types import Example, Query, Thing
from tests.command_line import called
from tests.drawing import draw_box

GROUPS = {"plain": 1, "look-alike:swap": 1, "relation": 1}
HW = (12, 20)
LEFT, RIGHT, LOW = draw_box(HW, 2, 2, 6, 6), draw_box(HW, 2, 10, 6, 14), draw_box(HW, 8, 8, 10, 10)


def example(meant: int | None, things: tuple[Thing, ...] | None = None) -> Example:
    """Two mugs and a box; the text means one of them, or nothing."""
    mugs = Thing(LEFT, "mug", "subject"), Thing(RIGHT, "mug", "look-alike", "swap")
    known = (*mugs, Thing(LOW, "box", "other")) if things is None else things
    mask = np.zeros(HW, bool) if meant is None else known[meant].mask
    image = np.full((*HW, 3), 30, np.uint8)
    image[LEFT] = (200, 30, 30)
    kind = "absent" if meant is None else "look-alike"
    return Example(Query("q", "s", "the {subject}"), kind, "i", image, mask, things=known, meant=meant)


def scores_of(given: Example) -> dict[str, float | None]:
    return {kind.name: kind.score(given) for kind in kinds()}


def test_outlines_by_lot_are_expectations_a_pencil_gives() -> None:
    found = scores_of(example(0))
    assert found["best outline"] == 1.0 and found["true box"] == 1.0
    assert found["an outline by lot"] == pytest.approx(1 / 3)
    assert found["an outline or none by lot"] == pytest.approx(1 / 4)
    assert found["an outline of the noun by lot"] == pytest.approx(1 / 2)


def test_where_nothing_is_meant_only_an_empty_mask_is_right() -> None:
    found = scores_of(example(None))
    assert found["best outline"] == found["true box"] == 1.0
    assert found["an outline by lot"] == found["an outline of the noun by lot"] == 0.0
    assert found["an outline or none by lot"] == pytest.approx(1 / 4)
    alone = scores_of(example(None, (Thing(LOW, "box", "other"),)))
    assert alone["an outline of the noun by lot"] == 1.0, "no thing of the class, so no answer"


def test_things_that_nobody_knows_give_no_score() -> None:
    found = scores_of(dataclasses.replace(example(0), things=(), meant=None))
    assert found["an outline by lot"] is None and found["best outline"] is None and found["true box"] == 1.0


def test_a_box_holds_its_mask_and_no_row_more() -> None:
    mask = np.zeros(HW, bool)
    mask[3, 4] = mask[5, 9] = True
    assert box_of(mask).sum() == 3 * 6 and not box_of(np.zeros(HW, bool)).any()
    assert against(dataclasses.replace(example(0), mask=mask), box_of(mask)) == pytest.approx(2 / 18)


def test_grabcut_finds_a_thing_in_its_box_and_gives_the_box_where_it_cannot() -> None:
    pytest.importorskip("cv2")
    y, x = np.mgrid[:60, :80]
    disc = (y - 30) ** 2 + (x - 40) ** 2 < 15**2
    image = np.random.default_rng(0).integers(20, 60, (60, 80, 3)).astype(np.uint8)
    image[disc] += np.array([150, 0, 90], np.uint8)
    found = cut_out(image, disc)
    boxed = disc.sum() / box_of(disc).sum()
    assert (found & disc).sum() / (found | disc).sum() > 0.95 > boxed
    np.testing.assert_array_equal(found, cut_out(image, disc))
    assert cut_out(image, np.ones((60, 80), bool)).all() and not cut_out(image, np.zeros((60, 80), bool)).any()


def test_the_curve_of_a_map_is_the_iou_of_every_cut() -> None:
    rng = np.random.default_rng(1)
    map_, truth = rng.integers(0, 256, HW).astype(np.uint8), rng.random(HW) < 0.3
    found = curve(map_, truth)
    for t in (0, 1, 100, 200, 255):
        mask = map_ >= t
        assert found[t] == pytest.approx((mask & truth).sum() / (mask | truth).sum())
    nothing = curve(np.minimum(map_, 90), np.zeros(HW, bool))
    assert nothing[90] == 0 and nothing[91] == 1
    with pytest.raises(DataError, match="resize it first"):
        curve(map_, truth[:4])


def test_the_best_threshold_moves_masks_and_leaves_presence_to_the_run() -> None:
    rising, falling = np.linspace(0, 1, 256), np.linspace(0.8, 0, 256)
    curves = {
        "a": Curve("plain", True, 0.1, True, rising),
        "b": Curve("plain", True, 0.0, False, falling),  # said "not here", wrongly
        "c": Curve("absent", False, 0.0, True, np.zeros(256)),
    }
    best, scores = one_for_all(curves)
    assert best == 255 and scores == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert one_for_each(curves) == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert presence_known(curves) == {"a": 1.0, "b": 0.8, "c": 1.0}
    kept = {**curves, "d": Curve("plain", True, 0.4, True, None)}
    assert one_for_each(kept)["d"] == 0.4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("world") / "set"
    build_tabletop(folder, Size({"validation": 1, "test": 1}, GROUPS))
    return open_dataset(folder)


def right_answers(dataset: Dataset) -> dict[str, int]:
    chosen = choose(dataset.examples("validation"), 1, 0)
    return {str(n): shuffled(each, 0)[1] for n, each in enumerate(chosen, 1)}


def made(dataset: Dataset) -> Ceilings:
    data = DatasetRef(dataset.name, dataset.version, dataset.digest, "test")
    return together(data, [of_truth(dataset, "test"), of_person(dataset, "validation", 1, 0, right_answers(dataset))])


def test_a_person_who_is_right_scores_one_and_who_says_nothing_only_what_is_absent(dataset: Dataset) -> None:
    answers = right_answers(dataset)
    _, (ceiling,) = of_person(dataset, "validation", 1, 0, answers)
    assert set(ceiling.scores.values()) == {1.0} and len(ceiling.scores) == len(answers)
    _, (silent,) = of_person(dataset, "validation", 1, 0, dict.fromkeys(answers, 0))
    assert sum(silent.scores.values()) == sum(number == 0 for number in answers.values())
    with pytest.raises(DataError, match="no answer to query 1 of the sheets"):
        of_person(dataset, "validation", 1, 0, {})
    with pytest.raises(DataError, match="the answer 99 to query 1 of the sheets"):
        of_person(dataset, "validation", 1, 0, dict.fromkeys(answers, 99))


def test_the_file_says_what_was_measured_and_is_held_to_the_data(dataset: Dataset, tmp_path: Path) -> None:
    found = made(dataset)
    write_ceilings(found, tmp_path)
    again = read_ceilings(tmp_path, found.dataset)
    assert again is not None and [each.scores for each in again.ceilings] == [each.scores for each in found.ceilings]
    before = (tmp_path / FILE).read_bytes()
    write_ceilings(again, tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    states = dict(checked(again, dataset, []))
    assert states["an outline by lot"].endswith("measured again: the same numbers") and PERSON in states
    assert "its data is not here" in dict(checked(again, None, []))["best outline"]
    wrong = json.loads(before)
    wrong["queries"][0][-2] = 0.123 if wrong["queries"][0][-2] != 0.123 else 0.2
    (tmp_path / FILE).write_text(json.dumps(wrong))
    changed = read_ceilings(tmp_path)
    assert changed is not None
    with pytest.raises(DataError, match=r"query .* has 0\.\d+, measured again"):
        list(checked(changed, dataset, []))
    with pytest.raises(DataError, match="another dataset version or split"):
        read_ceilings(tmp_path, dataclasses.replace(found.dataset, digest="0" * 64))
    (tmp_path / FILE).write_text(
        before.decode().replace(":1,", ":7,", 1).replace('"schema_version": 1', '"schema_version": 9')
    )
    with pytest.raises(DataError, match="of another version"):
        read_ceilings(tmp_path)


def test_the_table_ranks_nothing_and_shows_floors(dataset: Dataset, tmp_path: Path) -> None:
    run, _ = evaluate(dataset, load_method("always-absent"), tmp_path)
    found = made(dataset)
    rows = ceiling_rows(found, [run])
    assert rows[-1].name == "always-absent" and rows[-1].kind == "floor" and rows[-1].by_subset["plain"] == 0.0
    assert rows[-1].by_subset["contradicted"] == 1.0
    headlines = [row.headline for row in rows[:-1]]
    assert headlines == sorted(headlines, key=lambda each: -(each or 0.0)) and headlines[0] == 1.0
    text = ceilings_markdown(found, [run])
    assert "none is ranked" in text and "tier" not in text
    assert f"- {PERSON}: {len(right_answers(dataset))} queries of the validation split." in text
    assert ceilings_markdown(None, []) == ""


def test_a_run_needs_its_maps_and_its_whole_split(dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, load_method("center-box"), tmp_path, Scope("validation"))
    with pytest.raises(DataError, match="kept no soft map; run it again with --soft-maps"):
        of_run(dataset, path.parent, "validation")
    with pytest.raises(UsageError, match="a run of the validation split; ceilings of test"):
        of_run(dataset, path.parent, "test")
    _, path = evaluate(dataset, load_method("center-box"), tmp_path, Scope("validation", 2))
    with pytest.raises(UsageError, match="a run of a part of its split"):
        of_run(dataset, path.parent, "validation")


SOFT = """
from prisbench import Concept, Prediction
import numpy as np

class Soft:
    name, settings = "soft", {}
    def learn(self, subject):
        return Concept("c", subject.id, subject.noun, "none")
    def locate(self, image, queries, concepts):
        score = np.linspace(0, 1, image.shape[1])[None].repeat(image.shape[0], 0)
        return [Prediction(query.id, score > 0.9, score=score) for query in queries]

def make(options):
    return Soft()
"""


def test_thresholds_of_a_run_are_at_least_what_it_scored_itself(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "soft.py").write_text(SOFT)
    method = load_method(str(tmp_path / "soft.py"))
    run, path = evaluate(dataset, method, tmp_path, Scope("validation"), RunOptions(soft_maps=True))
    all_, each, known = of_run(dataset, path.parent, "validation")
    assert all_.name == "soft / none: one best threshold" and all_.about["note"].startswith("threshold ")
    own = {query.query_id: query.counts.intersection / max(1, query.counts.union) for query in run.queries}
    assert all(each.scores[one] >= own[one] - 1e-6 for one in own)
    assert sum(known.scores.values()) >= sum(each.scores.values()) >= sum(all_.scores.values()) - 1e-6
    data = DatasetRef(dataset.name, dataset.version, dataset.digest, "validation")
    found = together(data, [of_truth(dataset, "validation"), (of_truth(dataset, "validation")[0], [all_])])
    assert "of a row's run" in dict(checked(found, None, [run]))[all_.name]
    with pytest.raises(DataError, match="no row has the predictions of its run"):
        list(checked(found, None, []))


def test_a_run_made_again_for_its_maps_is_held_to_the_row_that_is_there(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "soft.py").write_text(SOFT)
    row, _ = evaluate(dataset, load_method(str(tmp_path / "soft.py")), tmp_path / "row", Scope("validation"))
    options = RunOptions(soft_maps=True)
    again, path = evaluate(
        dataset, load_method(str(tmp_path / "soft.py")), tmp_path / "maps", Scope("validation"), options
    )
    assert row.predictions and again.predictions and row.predictions != again.predictions, "seconds differ"
    assert row_of(again, [row]) is row
    found = of_run(dataset, path.parent, "validation", rows=[row])
    assert {each.about["predictions"] for each in found} == {row.predictions.sha256}
    counts = dataclasses.replace(row.queries[0].counts, intersection=row.queries[0].counts.intersection + 1)
    other = dataclasses.replace(row, queries=(dataclasses.replace(row.queries[0], counts=counts), *row.queries[1:]))
    assert row_of(again, [other, dataclasses.replace(row, seed=1)]) is None
    own = of_run(dataset, path.parent, "validation", rows=[other])
    assert {each.about["predictions"] for each in own} == {again.predictions.sha256}


def test_maps_are_not_asked_of_answers_that_were_kept_without_them(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "soft.py").write_text(SOFT)

    def run(soft_maps: bool = False, fresh: bool = False) -> Path:
        method = load_method(str(tmp_path / "soft.py"))
        return evaluate(dataset, method, tmp_path, Scope("validation"), RunOptions(soft_maps=soft_maps, fresh=fresh))[1]

    run()
    with pytest.raises(DataError, match="kept without their soft maps; choose another --out, or say --fresh"):
        run(soft_maps=True)
    path = run(soft_maps=True, fresh=True)
    first = {map_.name: map_.read_bytes() for map_ in (path.parent / "soft-maps").iterdir()}
    assert first
    assert run(soft_maps=True) == path, "the same command goes on"
    assert {map_.name: map_.read_bytes() for map_ in (path.parent / "soft-maps").iterdir()} == first


def test_the_best_thresholds_of_a_run_reach_the_board_from_the_command_line(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> str:
        answer = called(monkeypatch, capfd, *arguments)
        assert answer.code == 0, answer.err
        return answer.out

    (tmp_path / "soft.py").write_text(SOFT)
    boards, runs = tmp_path / "boards", tmp_path / "runs"
    of = ("--dataset", dataset.folder, "--split", "test")
    keep = ("--soft-maps", "--out", runs, "--leaderboards", boards)
    run("evaluate", "--method", tmp_path / "soft.py", *of, *keep)
    (made_run,) = (path.parent for path in runs.rglob("run.json"))
    assert list((made_run / "soft-maps").glob("*.png"))
    run("ceilings", *of, "--run", made_run, "--leaderboards", boards)
    (board,) = boards.glob("*/")
    page = (board / "README.md").read_text()
    below = page.partition("## Ceilings and floors, not ranked")[2].partition("\n## ")[0]
    for name in ("one best threshold", "best threshold of each query", "best thresholds, presence known"):
        assert f"| soft / none: {name} |" in below
        assert name not in page.partition("## Ceilings")[0], "no ceiling stands among the methods"
    found = read_ceilings(board)
    assert found is not None
    own = subset_scores(read_run(board / "soft--none.json").queries).value
    at_best = {each.name: found.scores(each).value for each in found.ceilings if each.kind == "map"}
    best = at_best["soft / none: one best threshold"]
    assert own is not None and best is not None and best >= own - 1e-9 and len(at_best) == 3
    html = run("leaderboard", "--folder", boards, "--dataset", board.name, "--format", "html")
    shown = json.loads(html.partition('id="extra">')[2].partition("</script>")[0])["ceilings"]
    assert {each["name"] for each in shown} >= set(at_best) and not any("tier" in each for each in shown)
    said = run("leaderboard", "--check", "--folder", boards, "--data", dataset.folder)
    assert said.count("of a row's run") == 3 and "the same numbers" in said
