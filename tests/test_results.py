"""run.json and predictions.jsonl: the same bytes again, and one clear line for each kind of damage."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench.counts import Answer, Truth, count
from prisbench.errors import DataError, WriteError
from prisbench.predictions import PredictionRecord, PredictionWriter, read_predictions
from prisbench.provenance import current_environment
from prisbench.results import QUERY_FIELDS, DatasetRef, QueryResult, Run, SecondsPerImage, read_run, write_run
from prisbench.types import Prediction
from tests.drawing import FIVE_TYPES

DATASET = DatasetRef("tabletop", "v1", "sha256:aaaa", "test")


def make_query(i: int, rng: np.random.Generator) -> QueryResult:
    kind = FIVE_TYPES[i % 5]
    truth = np.zeros((24, 32), dtype=bool)
    if kind != "absent":
        truth[4:12, 6 : 8 + int(rng.integers(1, 20))] = True
    mask = rng.random((24, 32)) < 0.3
    alike = [np.roll(truth, 9, axis=0)] if kind == "look-alike" else []
    return QueryResult(
        query_id=f"test-scene-{i:05d}/subject-{i % 24:02d}",
        subject_id=f"subject-{i % 24:02d}",
        image_id=f"test-scene-{i:05d}",
        query_type=kind,
        counts=count(Answer(mask, (5, 7)), Truth("q", kind, truth, tuple(alike))),
        presence=float(rng.random()),
        seconds=float(rng.random()),
    )


def make_run(n: int = 7, **changes: Any) -> Run:
    rng = np.random.default_rng(0)
    run = Run(
        method="attn",
        concept="textual-inversion",
        dataset=DATASET,
        metric_spec="1",
        prisbench_version="0.1.0",
        settings={"threshold": 0.4, "blocks": ["up-16"], "crf": None, "noises": 3},
        backbone="embedded@1f2e",
        seed=0,
        created="2026-01-31",
        environment=current_environment(),
        seconds_per_image=SecondsPerImage(median=0.5, mean=0.625),
        learn_seconds=61.5,
        concept_bytes=4096.0,
        queries=tuple(make_query(i, rng) for i in range(n)),
    )
    return dataclasses.replace(run, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "attn.json"
    write_run(make_run(), target)
    return target


def damage(path: Path, change: Any) -> None:
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


def test_a_run_comes_back_equal_and_is_written_again_as_the_same_bytes(path: Path, tmp_path: Path) -> None:
    run = read_run(path)
    assert run == make_run()
    write_run(run, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again.json", "attn.json"]


def test_the_order_of_settings_does_not_change_the_bytes(path: Path, tmp_path: Path) -> None:
    turned = dict(reversed(list(make_run().settings.items())))
    write_run(make_run(settings=turned), tmp_path / "turned.json")
    assert (tmp_path / "turned.json").read_bytes() == path.read_bytes()


def test_a_run_without_backbone_times_or_queries_is_sound(tmp_path: Path) -> None:
    bare = make_run(0, backbone=None, seconds_per_image=None, learn_seconds=None, concept_bytes=None, settings={})
    write_run(bare, tmp_path / "bare.json")
    assert read_run(tmp_path / "bare.json") == bare


def test_eight_hundred_queries_fit_in_250_kilobytes_one_on_each_line(tmp_path: Path) -> None:
    write_run(make_run(800), tmp_path / "large.json")
    data = (tmp_path / "large.json").read_bytes()
    assert len(data) < 250_000
    assert data.count(b'\n["test-scene-') == 800


def test_errors_are_counted_from_the_queries(path: Path) -> None:
    run = make_run()
    nothing = np.zeros((24, 32), dtype=bool)
    truth = nothing | np.eye(24, 32, dtype=bool)
    counts = count(Answer(None, failed=True), Truth("q", run.queries[0].query_type, truth))
    failed = dataclasses.replace(run.queries[0], error="out of memory", counts=counts)
    run = dataclasses.replace(run, queries=(failed, *run.queries[1:]))
    write_run(run, path)
    assert json.loads(path.read_text())["n_errors"] == read_run(path).n_errors == 1


OPTIONAL = {"out_of_domain", "own_task", "retracted", "schema_version"}


@pytest.mark.parametrize(
    "key", [*sorted({field.name for field in dataclasses.fields(Run)} - OPTIONAL), "n_errors", "query_fields"]
)
def test_a_missing_key_is_named(path: Path, key: str) -> None:
    damage(path, lambda raw: raw.pop(key))
    with pytest.raises(DataError, match=rf"attn\.json: the key '{key}' is missing"):
        read_run(path)


def no_boundary(raw: Any) -> None:
    set_cell("boundary_intersection", 0)(raw)
    set_cell("boundary_union", 0)(raw)


def set_cell(name: str, value: Any, row: int = 0) -> Any:
    return lambda raw: raw["queries"][row].__setitem__(QUERY_FIELDS[3].index(name), value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(schema_version=4), "'schema_version' is 4, this prisbench reads 2 and 3"),
        (lambda raw: raw.pop("schema_version"), "'schema_version' is None, this prisbench reads 2 and 3"),
        (lambda raw: raw.update(reference="masks"), r"'reference' is 'masks', expected 'photos' or 'photos\+masks'"),
        (lambda raw: raw["part"].update(limit="3"), "'limit' is '3', expected int or null"),
        (lambda raw: raw.update(method=3), "'method' is 3, expected str"),
        (lambda raw: raw.update(seed=True), "'seed' is True, expected int"),
        (lambda raw: raw.update(backbone=1.5), "'backbone' is 1.5, expected str or null"),
        (lambda raw: raw.update(created="31.1.2026"), "'created' is '31.1.2026', expected a date"),
        (lambda raw: raw.update(created="2026-01-31T10:00"), "'created' is '2026-01-31T10:00', expected a date"),
        (lambda raw: raw["dataset"].pop("digest"), "the key 'digest' is missing"),
        (lambda raw: raw["environment"].update(cpu_count="2"), "'cpu_count' is '2', expected int"),
        (lambda raw: raw.update(n_errors=3), "'n_errors' is 3, but 0 queries carry an error"),
        (lambda raw: raw["query_fields"].reverse(), r"'query_fields' is \['error'"),
        (lambda raw: raw["queries"][2].pop(), "query row 3: expected a list of the 29 values"),
        (lambda raw: raw["queries"].append(raw["queries"][0]), "query row 8: query '.*' comes twice"),
        (set_cell("query_type", "plane"), "query row 1: 'query_type' is 'plane', known: plain, other-category"),
        (set_cell("query_type", "absent"), "query row 1: type 'absent' with a truth of"),
        (set_cell("intersection", 1.5), "query row 1: 'intersection' is 1.5, expected int"),
        (set_cell("intersection", 10**6), "query row 1: the counts contradict each other"),
        (set_cell("look_alike_intersection", 10**6), "query row 1: the counts contradict each other"),
        (set_cell("boundary_union", 0), "query row 1: the counts contradict each other"),
        (no_boundary, "query row 1: the counts contradict each other"),
        (set_cell("absent_fp", False, row=4), "query row 5: the counts contradict each other"),
        (set_cell("failed", True), "query row 1: the counts contradict each other"),
        (set_cell("error", "no memory"), "query row 1: 'failed' is False with the error 'no memory'"),
        (set_cell("predicted_contour", -1), "query row 1: the counts contradict each other"),
        (set_cell("presence", "yes"), "query row 1: 'presence' is 'yes', expected float or null"),
    ],
)
def test_damage_is_named_with_its_place(path: Path, change: Any, message: str) -> None:
    damage(path, change)
    with pytest.raises(DataError, match=message):
        read_run(path)


@pytest.mark.parametrize(("text", "name"), [("NaN", "NaN"), ("-Infinity", "-Infinity"), ("1e999", "inf")])
def test_what_is_not_a_number_is_refused(path: Path, text: str, name: str) -> None:
    path.write_text(path.read_text().replace('"learn_seconds": 61.5', f'"learn_seconds": {text}'))
    with pytest.raises(DataError, match=f"{name}, which is not a number; undefined values are null"):
        read_run(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\ufeff{}"])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json: (not JSON|expected a JSON object)"):
        read_run(tmp_path / "x.json")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.json does not exist"):
        read_run(tmp_path / "no.json")
    with pytest.raises(DataError, match="is a folder"):
        read_run(tmp_path)


def test_a_result_of_another_dataset_version_names_both_digests_and_the_cure(path: Path) -> None:
    assert read_run(path, DATASET) == make_run()
    with pytest.raises(DataError) as caught:
        read_run(path, DatasetRef("tabletop", "v1", "sha256:bbbb", "test"))
    line = str(caught.value)
    assert re.search(r"attn\.json: a result file of another dataset version", line)
    assert "sha256:aaaa" in line and "sha256:bbbb" in line and "prisbench evaluate --method attn" in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learn_seconds": float("nan")}, "cannot be written as JSON"),
        ({"settings": {"threshold": float("inf")}}, "cannot be written as JSON"),
        ({"settings": {"folder": Path("x")}}, "cannot be written as JSON .*Path.* is not JSON serializable"),
        ({"created": "today"}, "'created' is 'today'"),
    ],
)
def test_an_unsound_run_is_not_written_and_the_old_file_stays(path: Path, changes: Any, message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(DataError, match=message):
        write_run(make_run(**changes), path)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_a_target_that_cannot_be_written_is_a_write_error(path: Path) -> None:
    with pytest.raises(WriteError, match="cannot write"):
        write_run(make_run(), path / "below" / "a-file.json")


def prediction(i: int) -> Prediction:
    mask = np.zeros((5, 9), dtype=bool)
    mask[1:3, 2 : 3 + i] = True
    return Prediction(f"q{i}", mask, peak_yx=(1, 2), presence=0.75, seconds=0.25)


def test_predictions_come_back_as_they_were_answered(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "predictions.jsonl"
    absent = Prediction("q1", None, presence=0.1)
    failed = PredictionRecord("q2", None, error="RuntimeError: köln\nline two")
    with PredictionWriter(path) as writer:
        for record in (PredictionRecord.of(prediction(0)), PredictionRecord.of(absent), failed):
            writer.write(record)
    first, second, third = read_predictions(path)
    assert first.mask is not None and np.array_equal(first.mask, prediction(0).mask)  # type: ignore[arg-type]
    assert (first.peak_yx, first.presence, first.seconds, first.error) == ((1, 2), 0.75, 0.25, None)
    assert second == PredictionRecord("q1", None, presence=0.1) and second.mask is None
    assert third == failed
    assert len(path.read_text().splitlines()) == 3


def test_an_empty_mask_is_not_the_answer_absent(tmp_path: Path) -> None:
    record = PredictionRecord.of(Prediction("q", np.zeros((3, 4), dtype=bool)))
    assert record.rle is not None and record.mask is not None and not record.mask.any()


@pytest.mark.parametrize("kept", [1, 20, -1])
def test_a_half_written_last_line_is_dropped_and_written_over_on_resume(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "predictions.jsonl"
    with PredictionWriter(path) as writer:
        for i in range(3):
            writer.write(PredictionRecord.of(prediction(i)))
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    path.write_bytes(whole[:start] + whole[start:][:kept])
    assert [record.query_id for record in read_predictions(path)] == ["q0", "q1"]
    with PredictionWriter(path) as writer:
        assert writer.done == {"q0", "q1"}
        writer.write(PredictionRecord.of(prediction(2)))
    assert path.read_bytes() == whole


def test_a_line_cut_inside_a_letter_is_dropped_too(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    path.write_bytes(b'{"query_id": "k' + "ö".encode()[:1])
    assert read_predictions(path) == []


def test_a_record_is_on_disk_before_the_writer_closes(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "p.jsonl") as writer:
        writer.write(PredictionRecord("q0", None))
        assert [record.query_id for record in read_predictions(writer.path)] == ["q0"]


def test_a_query_is_answered_once(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with PredictionWriter(path) as writer:
        writer.write(PredictionRecord("q0", None))
        with pytest.raises(DataError, match="query 'q0' is answered already"):
            writer.write(PredictionRecord("q0", None))
    path.write_bytes(path.read_bytes() * 2)
    assert len(read_predictions(path)) == 1, "twice the same answer is one"
    path.write_bytes(path.read_bytes().replace(b'"presence":null', b'"presence":0.5', 1))
    with pytest.raises(DataError, match=r"p\.jsonl, line 2: query 'q0' has another answer in line 1; remove the wrong"):
        read_predictions(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", r"line 2: not JSON"),
        ('{"query_id": "q1"}', r"line 2: the key 'peak_yx' is missing"),
        ('{"query_id": 1, "peak_yx": null}', r"line 2: 'query_id' is 1, expected str"),
        ('{"peak_yx": [1]}', r"line 2: 'peak_yx' is \[1\]; expected \[y, x\]"),
        ('{"peak_yx": [1, 2.5]}', r"line 2: 'peak_yx' is \[1, 2.5\]"),
        ('{"query_id": "q1", "peak_yx": null, "rle": null, "presence": NaN}', "line 2: holds NaN"),
    ],
)
def test_a_broken_line_before_the_end_stops_reader_and_writer(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    with PredictionWriter(path) as writer:
        writer.write(PredictionRecord("q0", None))
    path.write_text(path.read_text() + line + "\n")
    before = path.read_bytes()
    for reader in (read_predictions, PredictionWriter):
        with pytest.raises(DataError, match=message):
            reader(path)
    assert path.read_bytes() == before


def test_a_corrupt_rle_names_its_query() -> None:
    with pytest.raises(DataError, match="query 'q9': the RLE's runs do not add up to its size 5 x 9"):
        _ = PredictionRecord("q9", {"size": [5, 9], "counts": "0"}).mask


def test_a_belief_that_is_not_a_number_is_not_written(tmp_path: Path) -> None:
    with PredictionWriter(tmp_path / "p.jsonl") as writer:
        with pytest.raises(DataError, match="query 'q0': cannot be written as JSON"):
            writer.write(PredictionRecord("q0", None, presence=float("nan")))
        writer.write(PredictionRecord("q0", None, presence=0.5))
    assert len(read_predictions(tmp_path / "p.jsonl")) == 1


def test_a_writer_without_a_place_is_a_write_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        PredictionWriter(tmp_path / "file" / "p.jsonl")
