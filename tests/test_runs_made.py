"""Runs that are made already: compared, made again, submitted, retracted."""

from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.errors import DataError, UsageError
from prisbench.evaluate import evaluate
from prisbench.images.photos import load_photo
from prisbench.leaderboard.compare import Pair, compare, is_right, open_side, score_of, size_of
from prisbench.leaderboard.flips import chosen
from prisbench.leaderboard.pages import check
from prisbench.leaderboard.publish import publish
from prisbench.leaderboard.rescore import finder
from prisbench.leaderboard.rows import load_runs, records_of, rows
from prisbench.leaderboard.submission import check_submission, retract, submit
from prisbench.methods import load_method
from prisbench.predictions import PredictionRecord
from prisbench.reproduce import causes_of, drift_of, said
from prisbench.results import read_run, write_run
from prisbench.settings import MethodOptions
from tests.command_line import called
from tests.drawing import draw_box
from tests.drawn_rows import query_row, subject_row

METHOD = '''
import numpy as np
from prisbench import Concept, Prediction


class Shifted:
    """Answers with a box that a setting moves; a file beside it makes it answer otherwise."""

    def __init__(self, options):
        self.shift = options.settings.get("shift", 0)
        self.name, self.settings = options.settings.get("name", "shifted"), {"shift": self.shift, "name": "NAME"}
        self.settings["name"] = self.name

    def learn(self, subject):
        return Concept(f"of-{subject.id}", subject.id, subject.noun, "boxes")

    def locate(self, image, queries, concepts):
        answers = []
        for query in queries:
            if "away" in query.text and self.shift == 0:
                answers.append(Prediction(query.id, None, presence=0.1))
                continue
            mask = np.zeros(image.shape[:2], bool)
            shift = self.shift if int(query.id[0], 16) % 2 else 0
            mask[2:8, 3 + shift : 9 + shift] = True
            answers.append(Prediction(query.id, mask, (2, 3), 0.9))
        return answers


def make(options):
    return Shifted(options)
'''

SUBJECTS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("made") / "data"
    subjects = [subject_row(n) for n in range(SUBJECTS)]
    asked = ("the {subject}", "plain"), ("the {subject} there", "look-alike"), ("the {subject} away", "absent")
    queries = [query_row(subject, n, text, kind) for n, subject in enumerate(subjects) for text, kind in asked]
    write_dataset(folder, NewDataset("tiny", "1", subjects, queries, "# Tiny\n"))
    return open_dataset(folder)


@pytest.fixture(scope="module")
def made(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two runs of one method with two settings: their folders; copy them before they are changed."""
    root = tmp_path_factory.mktemp("runs")
    path = root / "shifted.py"
    path.write_text(METHOD)
    folders = {}
    for shift in (0, 5):
        settings = {"shift": shift, "name": f"shifted-{shift}"}
        method = load_method(str(path), MethodOptions(settings=settings))
        folders[f"{shift}"] = evaluate(data, method, root)[1].parent
    return folders


@pytest.fixture
def runs(made: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {
        name: Path(shutil.copytree(folder, tmp_path / "runs/tiny-v1" / folder.name)) for name, folder in made.items()
    }


# --- compare --------------------------------------------------------------------------------------------------------


def test_two_runs_are_compared_query_by_query(made: dict[str, Path]) -> None:
    first, second = open_side(made["0"]), open_side(made["5"])
    found = compare(first, second)
    groups = {each.name: each for each in found.groups}
    assert list(groups) == ["all queries", "present", "plain", "look-alike", "absent", "size:large"]
    every, present = groups["all queries"], groups["present"]
    moved = sum(pair.gap > 0.5 for pair in found.pairs if pair.first.query_type != "absent")
    assert 0 < moved < present.n == 2 * SUBJECTS, "about half of the boxes moved"
    iou = 6 / (36 + 36 - 6)
    assert present.first == 1.0 and present.second == pytest.approx(1 - moved * (1 - iou) / present.n)
    assert present.difference.value == pytest.approx(present.first - present.second)
    assert present.difference.interval is not None and present.difference.interval[0] > 0
    assert (present.wins, present.losses, present.ties) == (moved, 0, present.n - moved)
    assert (present.won_flips, present.lost_flips) == (moved, 0)
    assert groups["absent"].won_flips == SUBJECTS and every.n == 3 * SUBJECTS
    turned = compare(second, first)
    assert turned.groups[0].losses == every.wins and turned.groups[0].lost_flips == every.won_flips
    same = compare(first, first)
    assert all(each.ties == each.n and each.difference.value == 0 for each in same.groups)
    assert same.names[0] != same.names[1]


def test_flips_are_drawn_and_both_runs_have_their_turn(
    data: Dataset,
    made: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    code, text, err = called(monkeypatch, capfd, "compare", made["0"], made["5"], "--out", out, "--data", data.folder)
    assert code == 0 and "| present | 16 |" in text and "wrote" in err and "flips.png" in err
    assert sorted(path.name for path in out.iterdir()) == ["comparison.json", "comparison.md", "flips.png"]
    found = json.loads((out / "comparison.json").read_text())
    picture = load_photo(out / "flips.png")
    assert picture.shape[1] > 6 * 300 and picture.shape[0] > 300 * (len(found["flips"]) // 2), "scene, A, B, twice"
    code, text, _ = called(monkeypatch, capfd, "compare", made["0"], made["5"], "--format", "json")
    assert json.loads(text) == found
    code, _, err = called(monkeypatch, capfd, "compare", made["0"], made["5"], "--data", data.folder)
    assert code == 1 and "--data: only with --out" in err
    code, text, err = called(monkeypatch, capfd, "compare", made["0"], made["0"], "--out", out, "--data", data.folder)
    assert code == 0 and "there is no flip to draw" in err


def test_of_many_flips_each_run_gets_half(made: dict[str, Path]) -> None:
    found = compare(open_side(made["0"]), open_side(made["5"]))
    won = [pair for pair in found.pairs if pair.flip == 1]
    mixed = found._replace(pairs=[*won, *(Pair(pair.second, pair.first) for pair in won)])
    shown = chosen(mixed, 6)
    assert [pair.flip for pair in shown] == [1, 1, 1, -1, -1, -1]
    assert len(chosen(found, 6)) == 6 and all(pair.flip == 1 for pair in chosen(found, 6))


def test_what_cannot_be_compared_is_one_line(made: dict[str, Path], tmp_path: Path) -> None:
    first = open_side(made["0"])
    other = dataclasses.replace(first.run, dataset=dataclasses.replace(first.run.dataset, digest="f" * 64))
    with pytest.raises(DataError, match=r"only the same queries can be compared"):
        compare(first, first._replace(run=other))
    with pytest.raises(DataError, match=r"scored by metric spec 2, .* by 1; score the predictions of the older"):
        compare(first, first._replace(run=dataclasses.replace(first.run, metric_spec="1")))
    with pytest.raises(UsageError, match=r"have no query in common"):
        compare(first, first._replace(run=dataclasses.replace(first.run, queries=())))
    with pytest.raises(DataError, match=r"is no run and no row: no run\.json in it"):
        open_side(tmp_path)
    part = first._replace(run=dataclasses.replace(first.run, queries=first.run.queries[3:]))
    assert (compare(first, part).only_first, compare(part, first).only_second) == (3, 3)


def test_a_query_is_right_and_has_a_size(made: dict[str, Path]) -> None:
    run = read_run(made["0"] / "run.json")
    present, absent = run.queries[0].counts, next(q.counts for q in run.queries if q.query_type == "absent")
    assert (score_of(present), is_right(present), size_of(present)) == (1.0, True, "large")
    assert (score_of(absent), is_right(absent), size_of(absent)) == (1.0, True, None)
    assert score_of(dataclasses.replace(present, failed=True)) == 0.0
    assert size_of(dataclasses.replace(present, area=360)) == "large", "a tenth is large"
    assert size_of(dataclasses.replace(present, area=361)) == "medium" and size_of(
        dataclasses.replace(present, area=3601)) == "small"  # fmt: skip


# --- reproduce ------------------------------------------------------------------------------------------------------


def record(mask: np.ndarray | None, **more: object) -> PredictionRecord:
    from prisbench.images.masks import to_rle

    return PredictionRecord("q", None if mask is None else to_rle(mask), **more)  # type: ignore[arg-type]


def test_a_drift_is_measured() -> None:
    box, other = draw_box((12, 20), 2, 3, 8, 9), draw_box((12, 20), 2, 3, 8, 12)
    assert drift_of(record(box, seconds=1.0), record(box, seconds=9.0)).words is None
    assert drift_of(record(None), record(None)).words is None
    assert drift_of(record(box), record(other)).iou == pytest.approx(36 / 54)
    assert drift_of(record(box), record(None)).words == 'a mask before, "not here" now'
    assert drift_of(record(None), record(box)).iou == 0
    assert drift_of(record(box, presence=0.5), record(box, presence=0.6)).words is not None
    assert drift_of(record(None, error="x"), record(None)).words == "failed before (x)"


def test_a_recorded_command_is_read_again() -> None:
    command = "prisbench evaluate --method attn --concept a b --set x=1 --set=y=2 --seed 0 1 --fresh"
    assert said(command) == {
        "--method": ["attn"], "--concept": ["a", "b"], "--set": ["x=1", "y=2"], "--seed": ["0", "1"], "--fresh": [],
    }  # fmt: skip
    assert said(None) == {}


def test_a_run_is_made_again_and_what_drifted_is_named_with_its_cause(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    method = tmp_path / "shifted.py"
    method.write_text(METHOD)
    options = ["--method", method, "--dataset", data.folder, "--device", "cpu", "--set", "shift=5", "--out", "runs"]
    assert called(monkeypatch, capfd, "evaluate", *options)[0] == 0
    [run] = Path("runs/tiny-v1").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["settings"]["shift"] == 5
    code, out, _ = called(monkeypatch, capfd, "reproduce", run, "--device", "cpu")
    assert code == 0 and out.startswith("24 of 24 answers are identical\n")
    code, out, _ = called(monkeypatch, capfd, "reproduce", run, "--device", "cpu", "--limit", 5, "--format", "json")
    assert code == 0 and json.loads(out)["queries"] == json.loads(out)["identical"] == 5
    method.write_text(METHOD.replace("3 + shift : 9 + shift", "4 + shift : 9 + shift"))
    code, out, err = called(monkeypatch, capfd, "reproduce", run, "--device", "cpu", "--out", "again")
    assert code == 1 and "code: shifted.py was " in out and "drifted: IoU of old and new 0.8333 at least" in out
    assert "24 of 24 answers of runs/tiny-v1/shifted--boxes drifted" in err
    path = run / "manifest.json"
    path.write_text(json.dumps({**manifest, "dataset": {**manifest["dataset"], "digest": "f" * 64}}))
    code, out, err = called(monkeypatch, capfd, "reproduce", run, "--device", "cpu")
    assert code == 1 and "its content is the cause of any drift" in err
    assert called(monkeypatch, capfd, "reproduce", tmp_path)[0] == 1


def test_causes_are_named(made: dict[str, Path]) -> None:
    then = json.loads((made["0"] / "manifest.json").read_text())
    assert causes_of(then, then) == []
    now = json.loads(json.dumps(then))
    now["settings"]["shift"] = 1
    now["identity"]["packages"]["numpy"] = "99"
    now["identity"]["weights"]["model"] = "abc"
    found = causes_of(then, now)
    assert "settings: shift was 0, is 1" in found and "weights: model was not there, is abc" in found
    assert any(line.startswith("packages: numpy was ") and line.endswith("is 99") for line in found)


# --- submit and retract ---------------------------------------------------------------------------------------------


@pytest.fixture
def boards(data: Dataset, runs: dict[str, Path], tmp_path: Path) -> Path:
    publish(read_run(runs["0"] / "run.json"), tmp_path / "leaderboards", runs["0"] / "predictions.jsonl")
    return tmp_path / "leaderboards"


def test_a_row_is_submitted_checked_and_shown_as_it_would_stand(
    data: Dataset,
    runs: dict[str, Path],
    boards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "submission"
    code, text, _ = called(monkeypatch, capfd, "submit", runs["5"], "--out", out)
    assert code == 0 and f"wrote {out}/tiny-v1/shifted-5--boxes.json" in text
    assert sorted(path.name for path in (out / "tiny-v1").iterdir()) == [
        "shifted-5--boxes.json", "shifted-5--boxes.predictions.jsonl.gz",
    ]  # fmt: skip
    command = ["submit", out, "--check", "--folder", boards, "--data", data.folder]
    code, text, err = called(monkeypatch, capfd, *command)
    assert code == 0, err
    assert "24 predictions scored again, the same numbers; identity by the record" in text
    assert "tiny-v1 as it would be:" in text and "| shifted-0 |" in text and "| shifted-5 |" in text
    code, text, _ = called(monkeypatch, capfd, *command, "--format", "json")
    assert [row["method"] for row in json.loads(text)["tables"]["tiny-v1"]] == ["shifted-0", "shifted-5"]
    assert not (boards / "tiny-v1/shifted-5--boxes.json").exists(), "checking adds nothing"


def faults(data: Dataset, runs: dict[str, Path], tmp_path: Path) -> Path:
    return submit(read_run(runs["5"] / "run.json"), runs["5"] / "predictions.jsonl", tmp_path / "submission")


def test_what_is_wrong_with_a_submission_is_one_line(
    data: Dataset, runs: dict[str, Path], boards: Path, tmp_path: Path
) -> None:
    place, folder, find = faults(data, runs, tmp_path), tmp_path / "submission", finder([data.folder])
    kept = place.with_name("shifted-5--boxes.predictions.jsonl.gz")
    row, answers = place.read_bytes(), kept.read_bytes()

    def complains(message: str) -> None:
        with pytest.raises((DataError, UsageError), match=message):
            list(check_submission(folder, boards, find))
        place.write_bytes(row)
        kept.write_bytes(answers)

    assert [each.scored for each in check_submission(folder, boards, find)] == [24]
    kept.unlink()
    complains(r"predictions\.jsonl\.gz is missing; a row comes with its predictions")
    run = read_run(place)
    wrong = next(n for n, each in enumerate(run.queries) if each.counts.intersection == 6)
    better = dataclasses.replace(run.queries[wrong].counts, intersection=7, union=65)
    queries = [*run.queries]
    queries[wrong] = dataclasses.replace(queries[wrong], counts=better)
    write_run(dataclasses.replace(run, queries=tuple(queries)), place)
    complains(r"has intersection 7, its prediction scored again 6; the number was not made by these masks")
    lines = gzip.decompress(answers).splitlines(keepends=True)
    kept.write_bytes(gzip.compress(b"".join(lines[1:])))
    complains(r"are not the predictions that shifted-5--boxes\.json was scored from \(another checksum\)")
    write_run(dataclasses.replace(run, method="../up"), place)
    complains(r"the method is called '\.\./up'; give 1 to 100 letters")
    write_run(dataclasses.replace(run, seed=1), place)
    complains(r"a row of this run is tiny-v1/shifted-5--boxes--seed-1\.json; rename it")
    write_run(dataclasses.replace(run, queries=run.queries[1:]), place)
    complains(r"its queries are not those of its dataset|scored from|score its predictions again")
    (folder / "notes.txt").touch()
    complains(r"notes\.txt is no part of a submission; leave it out")
    (folder / "notes.txt").unlink()
    publish(run, boards, runs["5"] / "predictions.jsonl")
    complains(r"the leaderboard has such a row; retract that one, or give yours another name")
    with pytest.raises(DataError, match=r"its dataset is not here, so it cannot be scored again"):
        list(check_submission(folder, tmp_path / "none", lambda _: None))
    with pytest.raises(DataError, match=r"holds no row: no <dataset>/<row>\.json in it"):
        list(check_submission(runs["5"] / "soft-maps", boards, find))
    with pytest.raises(UsageError, match=r"a part of a split is no result to submit"):
        part = dataclasses.replace(run.part, limit=3)
        submit(dataclasses.replace(run, part=part), runs["5"] / "predictions.jsonl", folder)


def test_a_row_that_is_retracted_leaves_the_tables_and_stays_in_the_record(
    data: Dataset,
    runs: dict[str, Path],
    boards: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    row = publish(read_run(runs["5"] / "run.json"), boards, runs["5"] / "predictions.jsonl")
    before = read_run(row)
    code, out, _ = called(monkeypatch, capfd, "retract", row, "--reason", "tuned on <test> | by mistake")
    assert code == 0 and "is retracted: tuned on <test> | by mistake (20" in out
    marked = read_run(row)
    assert marked.retracted is not None and dataclasses.replace(marked, retracted=None) == before
    assert [each["method"] for each in records_of(rows(load_runs(row.parent)))] == ["shifted-0"]
    page = (row.parent / "README.md").read_text()
    assert "## Retracted\n\n- ~~shifted-5 / boxes~~: tuned on &lt;test&gt; | by mistake (20" in page
    assert page.count("shifted-5") == 1 and check(row.parent) == []
    assert called(monkeypatch, capfd, "leaderboard", "--check", "--folder", boards, "--data", data.folder)[0] == 0
    with pytest.raises(UsageError, match=r"was retracted before: tuned on"):
        retract(row, "again")
    with pytest.raises(UsageError, match=r"--reason: say in a few words why"):
        retract(boards / "tiny-v1/shifted-0--boxes.json", "  ")
