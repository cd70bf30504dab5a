"""The record of a result: what decides it is in it, its predictions are kept, and anybody can score them again."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.evaluate import evaluate
from prisbench.foreign import read_answers, score_file
from prisbench.images.masks import to_rle
from prisbench.leaderboard.publish import kept_beside, publish
from prisbench.leaderboard.render import render
from prisbench.leaderboard.rescore import finder, rescore
from prisbench.leaderboard.rows import records_of, rows
from prisbench.predict import learn_all, predict
from prisbench.predictions import read_predictions
from prisbench.results import QUERY_FIELDS, Run, read_run, write_run
from prisbench.runs import RunOptions, Scope
from prisbench.score import About, score_folder
from prisbench.subsets import grade_of
from prisbench.test_log import LOG, read_log
from prisbench.types import Concept, Prediction, Query, Subject, Thing
from tests.drawing import draw_box, draw_scene

ROOT = Path(__file__).parent.parent
SIZE = (12, 20)
LEFT, RIGHT, BOX = draw_box(SIZE, 2, 1, 8, 6), draw_box(SIZE, 2, 8, 8, 13), draw_box(SIZE, 2, 15, 8, 19)


@dataclasses.dataclass
class Reader:
    """Marks the left copy, or the right one where the text says so; "not here" far away."""

    tau: float = 0.5
    name: str = "reader"
    deaf: bool = False
    seen: list[Subject] = dataclasses.field(default_factory=list)
    calls: list[list[str]] = dataclasses.field(default_factory=list)
    template: str = "a photo of {subject}"
    precision: str = "float32"

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"tau": self.tau, "deaf": self.deaf}

    def learn(self, subject: Subject) -> Concept:
        self.seen.append(subject)
        return Concept(f"of-{subject.id}", subject.id, subject.noun, "boxes")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        self.calls.append([query.text for query in queries])
        return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Prediction:
        if "away" in query.text and not self.deaf:
            return Prediction(query.id, None, presence=0.1, seconds=0.25)
        mask = RIGHT if "right" in query.text and not self.deaf else LEFT
        return Prediction(query.id, mask, (3, 3), 0.75, np.where(mask, 0.9, 0.1), seconds=0.25)


def scene(subject: SubjectRow, n: int, text: str, means: int | None, pair: str | None) -> QueryRow:
    roles = ["subject", "look-alike"] if means != 1 else ["look-alike", "subject"]
    grades = [None if role == "subject" else "copy" for role in roles]
    return QueryRow(
        subject_id=subject.id,
        noun="mug",
        image=draw_scene(100 + n, SIZE),
        text=text,
        query_type="contradicted" if means is None else "referred",
        mask=LEFT & False if means is None else (LEFT, RIGHT)[means],
        look_alikes=(LEFT if means == 1 else RIGHT,),
        split="test",
        licence="CC0-1.0",
        source="drawn",
        things=(
            Thing(LEFT, "mug", roles[0], grades[0]),
            Thing(RIGHT, "mug", roles[1], grades[1]),
            Thing(BOX, "box", "landmark"),
        ),
        meant=means,
        pair_id=pair,
    )


def subjects(masks: bool = True) -> list[SubjectRow]:
    found = []
    for n in range(7):
        photos = tuple(draw_scene(9 * n + i, (9, 14)) for i in range(2))
        known = (draw_box((9, 14), 1, 1, 5, 6), None) if masks else ()
        found.append(SubjectRow("mug", photos, "test", "CC0-1.0", "drawn", known))
    return found


def queries(about: Sequence[SubjectRow]) -> list[QueryRow]:
    return [
        row
        for n, subject in enumerate(about)
        for row in (
            scene(subject, 2 * n, "the {subject} left of the box", 0, f"{n}-referred"),
            scene(subject, 2 * n, "the {subject} right of the other", 1, f"{n}-referred"),
            scene(subject, 2 * n + 1, "the {subject} on the left", 0, f"{n}-contradicted"),
            scene(subject, 2 * n + 1, "the {subject} far away", None, f"{n}-contradicted"),
        )
    ]


def make(folder: Path, masks: bool = True, **changes: Any) -> Dataset:
    about = subjects(masks)
    write_dataset(folder, NewDataset("tiny", "1", about, queries(about), "# Tiny\n", **changes))
    return open_dataset(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("record") / "data")


# --- what the record holds ------------------------------------------------------------------------------------------


def test_the_record_holds_all_that_decides_a_run(dataset: Dataset, tmp_path: Path) -> None:
    run, path = evaluate(dataset, Reader(), tmp_path, options=RunOptions(reason="a look"))
    raw = json.loads(path.read_text())
    assert raw["schema_version"] == 3 and raw["metric_spec"] == "2"
    assert raw["reference"] == "photos" and raw["template"] == "a photo of {subject}" and raw["precision"] == "float32"
    assert raw["part"] == {"limit": None, "subset": None, "subjects": [], "queries": []}
    assert raw["concepts"] == {subject.id: f"of-{subject.id}" for subject in dataset.subjects("test")}
    assert "test_record.py" in raw["identity"]["code"] and "file" in raw["identity"]
    assert str(ROOT) not in json.dumps(raw["identity"]), "no paths of this machine"
    assert raw["provenance"]["reason"] == "a look" and raw["provenance"]["packages"]["numpy"] == np.__version__
    assert re.fullmatch(r"[0-9a-f]{40}", raw["provenance"]["commit"] or "0" * 40)
    assert raw["predictions"]["n"] == len(run.queries) == 28
    assert raw["query_fields"] == list(QUERY_FIELDS[3])
    again = tmp_path / "again.json"
    write_run(read_run(path), again)
    assert again.read_bytes() == path.read_bytes()
    kinds = {(query.query_type, query.grade, query.pair_id is None) for query in run.queries}
    assert kinds == {("referred", "copy", False), ("contradicted", "copy", False)}


def test_records_of_version_2_are_read_and_written_back_as_they_were(tmp_path: Path) -> None:
    paths = sorted(ROOT.glob("leaderboards/tabletop-v2*/*.json"))
    assert len(paths) > 10
    for path in paths[:3]:
        run = read_run(path)
        assert (run.schema_version, run.reference, run.predictions, run.metric_spec) == (2, None, None, "1")
        write_run(run, tmp_path / "x.json")
        assert (tmp_path / "x.json").read_bytes() == path.read_bytes()


def test_the_grade_of_a_scene_is_that_of_its_look_alikes() -> None:
    assert grade_of([]) is grade_of([None]) is grade_of(["copy", None]) is None
    assert [grade_of(each) for each in (["swap"], ["swap", "swap"], ["copy"], ["copy", "build"])] == [
        *("swap", "swap", "copy", "build"),
    ]
    assert grade_of(["swap", "build"]) == "mixed"


# --- reference settings and pairs -----------------------------------------------------------------------------------


def test_the_masks_of_photos_are_withheld_or_given(dataset: Dataset, tmp_path: Path) -> None:
    without, given = Reader(), Reader()
    one, _ = evaluate(dataset, without, tmp_path)
    two, path = evaluate(dataset, given, tmp_path, options=RunOptions(reference="photos+masks"))
    assert all(subject.masks == () for subject in without.seen)
    assert all(subject.masks[0] is not None and subject.masks[1] is None for subject in given.seen)
    assert path.parent.name == "reader--boxes--photos+masks" and two.reference == "photos+masks"
    found = records_of(rows([one, two]))
    assert [row["reference"] for row in found] == ["photos", "photos+masks"]
    note = "- Methods are given a subject's photos alone; rows marked (photos+masks) also its masks in them.\n"
    assert "| boxes (photos+masks) |" in (text := render(rows([one, two]))) and text.count(note) == 1
    assert note in render(rows([two])) and note not in render(rows([one]))


def test_concepts_that_are_learned_without_a_run_come_from_photos_alone(dataset: Dataset) -> None:
    assert all(subject.masks for subject in dataset.subjects("test"))
    method = Reader()
    concepts, _ = learn_all(dataset, method, "test")
    assert len(concepts) == len(method.seen) == 7 and all(subject.masks == () for subject in method.seen)


def test_masks_that_nobody_knows_cannot_be_given(tmp_path: Path) -> None:
    bare = make(tmp_path / "bare", masks=False)
    message = r"--reference photos\+masks: 7 of 7 subjects have no mask of any photo, first 'mug-"
    with pytest.raises(UsageError, match=message):
        evaluate(bare, Reader(), tmp_path, options=RunOptions(reference="photos+masks"))
    with pytest.raises(UnknownNameError, match="unknown reference setting 'masks'"):
        evaluate(bare, Reader(), tmp_path, options=RunOptions(reference="masks"))


def test_the_members_of_a_pair_come_in_different_calls(dataset: Dataset, tmp_path: Path) -> None:
    method = Reader()
    run, _ = evaluate(dataset, method, tmp_path)
    assert [len(call) for call in method.calls] == [1] * 28
    row = records_of(rows([run]))[0]
    assert (row["pair_accuracy"], row["pair_accuracy_n"], row["instance_accuracy"]) == (1.0, 14, 1.0)
    assert row["contradicted_fp_rate"] == 0.0 and row["presence_mcc"] == 1.0
    assert row["pair_chance"] == pytest.approx((7 * 0.25 + 7 / 9) / 14)


def test_a_method_that_is_deaf_to_the_text_gets_no_pair_right(dataset: Dataset, tmp_path: Path) -> None:
    run, _ = evaluate(dataset, Reader(deaf=True, name="deaf"), tmp_path)
    row = records_of(rows([run]))[0]
    assert (row["pair_accuracy"], row["contradicted_fp_rate"]) == (0.0, 1.0)
    assert row["instance_accuracy"] == pytest.approx(14 / 21) and row["presence_mcc"] == 0.0
    text = render(rows([run]))
    assert "| pairs |" in text and "14 pairs; answers drawn by lot would get 0.18 of them right" in text


# --- parts ----------------------------------------------------------------------------------------------------------


def test_a_part_by_subject_or_query_says_so_and_is_not_ranked(dataset: Dataset, tmp_path: Path) -> None:
    first = dataset.subjects("test")[0].id
    run, path = evaluate(dataset, Reader(), tmp_path, Scope(subjects=(first,)))
    assert {query.subject_id for query in run.queries} == {first} and len(run.queries) == 4
    assert path.parent.name == f"reader--boxes--subject-{first}" and run.part.subjects == (first,)
    some = tuple(query.query_id for query in run.queries[:2])
    few, path = evaluate(dataset, Reader(), tmp_path, Scope(queries=some))
    assert {query.query_id for query in few.queries} == {*some}
    assert re.fullmatch(r"reader--boxes--2-queries-[0-9a-f]{8}", path.parent.name)
    both, _ = evaluate(dataset, Reader(), tmp_path, Scope(subjects=(first,), subset="contradicted", limit=1))
    assert [query.query_type for query in both.queries] == ["contradicted"]
    assert records_of(rows([run]))[0]["tier"] is None
    with pytest.raises(UsageError, match="a part of a split is no result to publish"):
        publish(run, tmp_path / "boards")


def test_unknown_subjects_and_queries_are_named(dataset: Dataset, tmp_path: Path) -> None:
    first = dataset.subjects("test")[0].id
    with pytest.raises(UnknownNameError, match=f"unknown subject of the test split '{first}x': did you mean '{first}'"):
        evaluate(dataset, Reader(), tmp_path, Scope(subjects=(f"{first}x",)))
    with pytest.raises(UnknownNameError, match="unknown query of the test split 'q'"):
        evaluate(dataset, Reader(), tmp_path, Scope(queries=("q",)))
    with pytest.raises(UnknownNameError, match="unknown split of tiny-v1 'tset': did you mean 'test'"):
        evaluate(dataset, Reader(), tmp_path, Scope("tset"))


def test_every_field_in_which_a_run_differs_is_named(dataset: Dataset, tmp_path: Path) -> None:
    evaluate(dataset, Reader(), tmp_path)
    changed = Reader(0.6, deaf=True, template="{subject}", precision="bfloat16")
    with pytest.raises(DataError) as caught:
        evaluate(dataset, changed, tmp_path)
    assert "holds a run with another settings (tau: 0.5 there, 0.6 now); also another " in str(caught.value)
    for each in (
        "settings (deaf: False there, True now)",
        "template ('a photo of {subject}' there, '{subject}' now)",
        "precision ('float32' there, 'bfloat16' now)",
        "choose another --out, or say --fresh to start again",
    ):
        assert f"; {each}" in str(caught.value) or f"another {each}" in str(caught.value), each


# --- predictions beside a row ---------------------------------------------------------------------------------------


@pytest.fixture
def board(dataset: Dataset, tmp_path: Path) -> Path:
    """A leaderboard with one row and its predictions."""
    run, path = evaluate(dataset, Reader(), tmp_path / "runs")
    return publish(run, tmp_path / "boards", path.parent / "predictions.jsonl").parent


def states(board: Path, *data: Path) -> list[tuple[str, int]]:
    return [(row.state, row.n) for row in rescore(board, finder(data))]


def test_a_row_is_scored_again_from_the_predictions_beside_it(board: Path, dataset: Dataset) -> None:
    assert states(board, dataset.folder) == [("same", 28)]
    assert states(board) == [("checksum", 28)], "its data is not here"
    row = next(board.glob("*.json"))
    assert len(read_predictions(kept_beside(row))) == 28 and kept_beside(row).stat().st_size < 10_000
    kept_beside(row).unlink()
    assert states(board, dataset.folder) == [("none", 28)]


def _count(run: Run) -> Run:
    """A query whose mask covered one pixel more."""
    first, *rest = run.queries
    more = dataclasses.replace(first.counts, intersection=first.counts.intersection - 1, union=first.counts.union + 1)
    return dataclasses.replace(run, queries=(dataclasses.replace(first, counts=more), *rest))


def _presence(run: Run) -> Run:
    first, *rest = run.queries
    return dataclasses.replace(run, queries=(dataclasses.replace(first, presence=0.99), *rest))


@pytest.mark.parametrize(("change", "named"), [(_count, "intersection"), (_presence, "presence")])
def test_a_number_that_no_mask_made_is_found(
    change: Callable[[Run], Run], named: str, board: Path, dataset: Dataset
) -> None:
    path = next(board.glob("*.json"))
    write_run(change(read_run(path)), path)
    with pytest.raises(
        DataError, match=rf"query '\w+' has {named} .*, its prediction scored again .*not made by these"
    ):
        states(board, dataset.folder)


def test_other_predictions_than_those_that_were_scored_are_found(board: Path, dataset: Dataset) -> None:
    kept = kept_beside(next(board.glob("*.json")))
    lines = gzip.decompress(kept.read_bytes())
    kept.write_bytes(gzip.compress(lines.replace(b"0.75", b"0.85", 1)))
    with pytest.raises(DataError, match=r"are not the predictions that reader--boxes.json was scored from"):
        states(board, dataset.folder)
    kept.write_bytes(gzip.compress(lines)[:-20])
    with pytest.raises(DataError, match="is no gzip file, or damaged"):
        states(board, dataset.folder)
    kept.write_bytes(gzip.compress(lines))
    (board / "gone--boxes.predictions.jsonl.gz").write_bytes(gzip.compress(lines))
    with pytest.raises(DataError, match="has no result file beside it"):
        states(board, dataset.folder)


def test_only_the_predictions_of_a_run_are_kept_beside_it(dataset: Dataset, tmp_path: Path) -> None:
    run, _ = evaluate(dataset, Reader(), tmp_path / "runs")
    _, other = evaluate(dataset, Reader(deaf=True, name="deaf"), tmp_path / "runs")
    with pytest.raises(DataError, match="are not the predictions that the run was scored from"):
        publish(run, tmp_path / "boards", other.parent / "predictions.jsonl")
    assert not (tmp_path / "boards").exists()


def test_predictions_that_are_too_large_to_keep_are_told_with_what_to_do(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, path = evaluate(dataset, Reader(), tmp_path / "runs")
    monkeypatch.setattr("prisbench.leaderboard.publish.LARGEST", 100)
    with pytest.raises(DataError, match=r"at most 0 are kept .*; leave out --leaderboards, .*publish\(run, root\)$"):
        publish(run, tmp_path / "boards", path.parent / "predictions.jsonl")
    assert not (tmp_path / "boards").exists()
    assert states(publish(run, tmp_path / "boards").parent, dataset.folder) == [("none", 28)]


AGAIN = "; choose another --out, or say --fresh to start again"


def without(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != key}


# --- predict, then score; other programs' files ---------------------------------------------------------------------


def test_predicting_and_scoring_apart_is_evaluating(dataset: Dataset, tmp_path: Path) -> None:
    whole, _ = evaluate(dataset, Reader(), tmp_path / "whole")
    folder = predict(dataset, Reader(), tmp_path / "apart").folder
    assert not (folder / "run.json").exists()
    apart = score_folder(folder, dataset)
    assert apart.queries == whole.queries and apart.identity == whole.identity
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "part": {}}))
    assert score_folder(folder, dataset) == apart, "a part that says nothing is the whole"


def test_a_dataset_that_changed_under_a_run_is_noticed(dataset: Dataset, tmp_path: Path) -> None:
    folder = predict(dataset, Reader(), tmp_path / "runs").folder
    other = make(tmp_path / "other", masks=False)
    with pytest.raises(DataError, match=rf"was made on tiny-v1 \(digest {dataset.digest[:16]}\), .* has the digest"):
        score_folder(folder, other)
    with pytest.raises(DataError, match=r"holds no run: no manifest\.json in it"):
        score_folder(tmp_path, dataset)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda raw: [raw], "expected a JSON object, found list"),
        (lambda raw: "{", "not JSON (Expecting property name"),
        (lambda raw: json.dumps(raw).replace("0.5", "NaN"), "holds NaN, which is not a number"),
        (lambda raw: {**raw, "method": ["reader"]}, "'method' is ['reader'], expected str"),
        (lambda raw: without(raw, "method"), "the key 'method' is missing; the file is incomplete, make it again"),
        (lambda raw: {**raw, "part": "all"}, "'part' is 'all', expected dict"),
        (lambda raw: {**raw, "part": {**raw["part"], "limit": "3"}}, "'limit' is '3', expected int or null"),
        (lambda raw: {**raw, "part": {**raw["part"], "subjects": [3]}}, "0 is 3, expected str"),
        (lambda raw: {**raw, "dataset": None}, "'dataset' is None, expected dict"),
        (lambda raw: {**raw, "dataset": {"name": "tiny"}}, "the key 'version' is missing"),
        (lambda raw: {**raw, "seed": "0"}, "'seed' is '0', expected int"),
        (lambda raw: {**raw, "settings": []}, "'settings' is [], expected dict"),
        *((lambda raw, x=x: {**raw, "identity": x}, f"'identity' is {x!r}, expected dict") for x in (None, [], "x", 3)),
        *(
            (lambda raw, key=key: {**raw, "identity": {**raw["identity"], key: 3}}, f"'{key}' is 3, expected ")
            for key in ("file", "code", "weights", "packages", "given", "read", "written")
        ),
        (lambda raw: {**raw, "identity": without(raw["identity"], "code")}, "the key 'code' is missing"),
        (lambda raw: {**raw, "identity": {**raw["identity"], "code": {"a.py": 3}}}, "'a.py' is 3, expected str"),
        (lambda raw: {**raw, "concepts": {"mug": 1}}, "'mug' is 1, expected str"),
        (lambda raw: {**raw, "learn_seconds": "1"}, "'learn_seconds' is '1', expected float or null"),
        (lambda raw: {**raw, "provenance": {"command": "x"}}, "the key 'commit' is missing"),
        (lambda raw: {**raw, "out_of_domain": "2"}, "'out_of_domain' is '2', expected int or null"),
    ],
)
def test_a_damaged_manifest_is_one_line(
    change: Callable[[Any], Any], line: str, dataset: Dataset, tmp_path: Path
) -> None:
    path = predict(dataset, Reader(), tmp_path).folder / "manifest.json"
    write(path, change(json.loads(path.read_text())))
    for use, cure in (
        (lambda: score_folder(path.parent, dataset), ""),
        (lambda: predict(dataset, Reader(), tmp_path), AGAIN),
    ):
        with pytest.raises(DataError) as caught:
            use()
        told = str(caught.value)
        assert told.startswith(f"{path}: {line}") and told.endswith(cure) and "\n" not in told


def entries(dataset: Dataset) -> list[dict[str, Any]]:
    """What ``Reader`` answers, as a COCO results file."""
    found = []
    for example in dataset.examples("test"):
        answer = Reader()._answer(example.query)
        mask = None if answer.mask is None else to_rle(answer.mask)
        found.append({"image_id": example.query.id, "segmentation": mask, "score": answer.presence})
    return found


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_anybodys_file_is_scored_as_the_same_masks_are(dataset: Dataset, tmp_path: Path) -> None:
    own, path = evaluate(dataset, Reader(), tmp_path)
    theirs = write(tmp_path / "theirs.json", entries(dataset))
    by_id = write(tmp_path / "by-id.json", {each.pop("image_id"): each for each in entries(dataset)})
    for file in (theirs, by_id, path.parent / "predictions.jsonl"):
        run = score_file(file, dataset, Scope(), About(str(file), "theirs"))
        assert run.queries[0].counts.intersection == own.queries[0].counts.intersection
        assert rows([run])["iou_mean"][0] == rows([own])["iou_mean"][0] == 1.0
        assert (run.method, run.concept, run.settings) == ("theirs", "none", {})


Change = Callable[[list[dict[str, Any]]], Any]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e[:-1], r"has no answer to query '\w{16}'"),
        (
            lambda e: [*e, {**e[0], "image_id": "nobody"}],
            "1 of its queries are not in the dataset's split",
        ),
        (lambda e: [*e, e[0]], r"entry 29: query '\w{16}' has an entry before; leave one of the two"),
        (
            lambda e: [{**e[0], "score": 1.5}, *e[1:]],
            r"entry 1: query '\w+' has the score 1.5; expected a number",
        ),
        (lambda e: [{**e[0], "score": True}, *e[1:]], "has the score True"),
        (
            lambda e: [{**e[0], "segmentation": {"size": [12, 20], "counts": "b'0h'"}}, *e[1:]],
            r"entry 1: query '\w+': ",
        ),
        (lambda e: [{**e[0], "segmentation": {"size": [12, 20], "counts": [3, 4]}}, *e[1:]], r"entry 1: query '\w+'"),
        (lambda e: [{**e[0], "segmentation": [[1, 2, 3, 4, 5, 6]]}, *e[1:]], "has polygons; encode its mask as RLE"),
        (
            lambda e: [{**e[0], "segmentation": to_rle(np.ones((20, 12), bool))}, *e[1:]],
            "is 20 x 12, the scene 12",
        ),
        (lambda e: [{"image_id": 7, "segmentation": None}], "entry 1: its id is 7; expected a query's id as text"),
        (lambda e: [{"query_id": "q"}], "query 'q' has no 'segmentation'; write null"),
        (lambda e: [1], "entry 1 is int; expected an object"),
        (lambda e: "[1", "not JSON"),
        (lambda e: "[NaN]", "holds NaN, which is not a number"),
        (lambda e: "3", "expected a list of COCO results, or an object of them by query id"),
        (lambda e: "[" * 100_000, "not JSON"),
    ],
)
def test_a_mistake_in_anybodys_file_is_one_line(change: Change, message: str, dataset: Dataset, tmp_path: Path) -> None:
    file = write(tmp_path / "theirs.json", change(entries(dataset)))
    with pytest.raises(DataError, match=message) as caught:
        score_file(file, dataset, Scope(), About(str(file), "theirs"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_line_that_is_no_json_is_named_by_its_number(dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, Reader(), tmp_path)
    file = path.parent / "predictions.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:9], "{not json}\n", *lines[10:]]))
    with pytest.raises(DataError, match=r"predictions.jsonl, line 10: not JSON"):
        read_answers(file)
    for bad, message in (('"presence":7', "'presence' is 7"), ('"presence":-0.1', "'presence' is -0.1")):
        file.write_text("".join(lines).replace('"presence":0.75', bad, 1))
        with pytest.raises(DataError, match=f"line 1: {message}.*; expected a number from 0 to 1, or null"):
            read_answers(file)
    with pytest.raises(DataError, match=r"is no file; name a predictions\.jsonl"):
        read_answers(tmp_path / "nothing.json")


# --- soft maps, the log of looks ------------------------------------------------------------------------------------


def test_soft_maps_are_scored_where_they_are_kept_and_rank_nothing(dataset: Dataset, tmp_path: Path) -> None:
    plain, _ = evaluate(dataset, Reader(), tmp_path / "plain")
    assert all(query.soft_ap is None for query in plain.queries)
    run, path = evaluate(dataset, Reader(), tmp_path / "soft", options=RunOptions(soft_maps=True))
    assert len(list((path.parent / "soft-maps").glob("*.png"))) == 21
    assert {query.soft_ap for query in run.queries} == {None, 1.0}
    assert "average precision of its soft maps 1.000 over 21 queries; most methods have none, so nothing is ranked" in (
        render(rows([run]))
    )
    place = publish(run, tmp_path / "boards", path.parent / "predictions.jsonl")
    assert states(place.parent, dataset.folder) == [("same", 28)], "masks alone cannot give it, so it is not compared"


def test_starting_again_removes_the_soft_maps_of_the_run_before(dataset: Dataset, tmp_path: Path) -> None:
    _, path = evaluate(dataset, Reader(), tmp_path, options=RunOptions(soft_maps=True))
    maps = path.parent / "soft-maps"
    (maps / "notes.txt").write_text("mine")
    again, _ = evaluate(dataset, Reader(), tmp_path, options=RunOptions(fresh=True))
    assert [each.name for each in maps.iterdir()] == ["notes.txt"], "what no run wrote stays"
    assert all(query.soft_ap is None for query in again.queries)
    (maps / "notes.txt").unlink()
    folder = predict(dataset, Reader(), tmp_path, options=RunOptions(fresh=True)).folder
    assert sorted(each.name for each in folder.iterdir()) == ["manifest.json", "predictions.jsonl"]


def test_every_look_at_a_test_split_is_logged_once(dataset: Dataset, tmp_path: Path) -> None:
    first = RunOptions(reason="before the freeze")
    for options in (first, RunOptions(reason="again"), RunOptions(fresh=True)):
        run, _ = evaluate(dataset, Reader(), tmp_path / "runs", options=options)
    log = read_log(tmp_path / "runs" / LOG)
    assert [(entry["method"], entry["reason"], entry["part"]) for entry in log] == [
        ("reader", "before the freeze", None)
    ]
    assert log[0]["digest"] == dataset.digest and log[0]["predictions"] == run.predictions.sha256  # type: ignore[union-attr]
    evaluate(dataset, Reader(0.7), tmp_path / "runs", options=RunOptions(fresh=True))
    evaluate(dataset, Reader(), tmp_path / "runs", Scope(limit=2))
    log = read_log(tmp_path / "runs" / LOG)
    assert len(log) == 2 and log[1]["part"]["limit"] == 2, "the same answers under other settings are no other look"
