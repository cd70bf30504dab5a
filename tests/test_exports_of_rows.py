"""Results in the forms of other programs, each read back by that program's own reader where it is here."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from prisbench.datasets.load import Dataset, open_dataset
from prisbench.errors import DataError, UsageError, WriteError
from prisbench.evaluate import evaluate
from prisbench.exports.coco import write_coco, write_fiftyone
from prisbench.exports.every_eval_ever import record, write_every_eval_ever
from prisbench.exports.hub import write_hub
from prisbench.exports.latex import escaped, table
from prisbench.exports.numbers import Number, numbers_of
from prisbench.images.photos import load_photo
from prisbench.methods import load_method
from prisbench.predictions import PredictionRecord, read_predictions
from prisbench.results import Run, read_run
from tests.command_line import called

BOARD = Path(__file__).parents[1] / "leaderboards" / "tabletop-v3"


@pytest.fixture(scope="module")
def row() -> Run:
    return read_run(BOARD / "center-box--none.json")


@pytest.fixture(scope="module")
def known(row: Run) -> dict[str, Number]:
    return {number.name: number for number in numbers_of(row)}


@pytest.fixture(scope="module")
def made(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of center-box on fifteen queries."""
    root = tmp_path_factory.mktemp("runs")
    return evaluate(open_dataset(tiny_dataset), load_method("center-box"), root)[1].parent


@pytest.fixture(scope="module")
def data(tiny_dataset: Path) -> Dataset:
    return open_dataset(tiny_dataset)


def test_the_hub_reads_what_it_is_given(row: Run, known: dict[str, Number], tmp_path: Path) -> None:
    from huggingface_hub import ModelCard, parse_eval_result_entries

    results, card = write_hub(row, tmp_path, "someone/tabletop-v3")
    assert results == tmp_path / ".eval_results" / "tabletop-v3.yaml"
    entries = {entry.task_id: entry for entry in parse_eval_result_entries(yaml.safe_load(results.read_text()))}
    assert sorted(entries) == ["headline", "iou_mean"]
    for name, entry in entries.items():
        assert entry.dataset_id == "someone/tabletop-v3" and entry.value == round(known[name].value, 4)
        assert row.dataset.digest in entry.notes and "95 % interval over subjects 0.0" in entry.notes
    [*found] = ModelCard.load(card).data.eval_results
    assert {each.metric_type for each in found} == set(known)
    assert {each.dataset_type for each in found} == {"someone/tabletop-v3"}
    assert found[0].dataset_args["digest"] == row.dataset.digest and found[0].task_type == "image-segmentation"


REQUIRED = {
    "": "schema_version evaluation_id retrieved_timestamp source_metadata model_info eval_library evaluation_results",
    "source_metadata": "source_type source_organization_name evaluator_relationship",
    "eval_library": "name version",
    "model_info": "name id",
    "evaluation_results": "evaluation_name source_data metric_config score_details",
}
"""Of eval.schema.json 0.3.0, which forbids other keys at the top."""

ALLOWED = {*REQUIRED[""].split(), "evaluation_timestamp", "detailed_evaluation_results"}


def details(value: Any) -> Iterator[Any]:
    """Every value under a key additional_details, which have to be text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from inner.values() if key == "additional_details" else details(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from details(inner)


def test_every_eval_ever_finds_what_its_schema_wants(row: Run, known: dict[str, Number], tmp_path: Path) -> None:
    path = write_every_eval_ever(row, tmp_path, "A Laboratory")
    assert re.fullmatch(
        r"data/tabletop-v3/unknown/center-box--none/[0-9a-f]{32}\.json", str(path.relative_to(tmp_path))
    )
    found = json.loads(path.read_text())
    assert set(REQUIRED[""].split()) <= found.keys() <= ALLOWED
    for part in ("source_metadata", "eval_library", "model_info"):
        assert set(REQUIRED[part].split()) <= found[part].keys()
    assert found["schema_version"] == "0.3.0"
    model = found["model_info"]["additional_details"]
    assert model["deployment_type"] == model["model_availability"] == "unknown", "0.3.0 wants both to be said"
    assert re.fullmatch("[0-9a-f]{64}", found["eval_library"]["additional_details"]["run_fingerprint"])
    assert found["source_metadata"]["source_organization_name"] == "A Laboratory"
    assert found["source_metadata"]["source_type"] == "evaluation_run" and found["retrieved_timestamp"].isdigit()
    assert all(isinstance(value, str) for value in details(found))
    results = {each["evaluation_name"]: each for each in found["evaluation_results"]}
    assert set(results) == set(known)
    for each in results.values():
        assert set(REQUIRED["evaluation_results"].split()) <= each.keys()
        config, score = each["metric_config"], each["score_details"]["score"]
        assert config["score_type"] == "continuous" and config["min_score"] <= score <= config["max_score"]
        assert each["source_data"]["source_type"] == "other" and each["source_data"]["dataset_name"]
    assert results["absent_fp_rate"]["metric_config"]["lower_is_better"] is True
    between = results["iou_mean"]["score_details"]["uncertainty"]["confidence_interval"]
    assert between["lower"] < results["iou_mean"]["score_details"]["score"] < between["upper"]


def test_a_number_without_an_interval_gets_none(made: Path) -> None:
    run = read_run(made / "run.json")
    found = record(run)
    assert record(run) == found, "the same run, the same record"
    assert record(dataclasses.replace(run, method="../<b>/x"))["model_info"]["id"] == "unknown/-b-x--none"
    assert found["evaluation_results"] and not any(
        "uncertainty" in each["score_details"] for each in found["evaluation_results"]
    )


def test_a_table_in_latex_is_ruled_and_its_best_tier_bold(row: Run) -> None:
    names = ("network-free-reader--counted--photos+masks", "whole-image--none")
    text = table([row, *(read_run(BOARD / f"{name}.json") for name in names)])
    assert text.count("\\toprule") == text.count("\\midrule") == text.count("\\bottomrule") == 1
    body = text.split("\\midrule\n")[1].split("    \\bottomrule")[0].splitlines()
    assert all(line.endswith(" \\\\") and line.count(" & ") == 7 for line in body) and len(body) == 3
    assert [line.count("\\textbf{") for line in body] == [8, 0, 0]
    assert body[0].strip().startswith("\\textbf{1} & \\textbf{network-free-reader} & \\textbf{counted (photos+masks)}")
    assert "headline $\\uparrow$" in text and "absent FP $\\downarrow$" in text and "tabletop-v3, test: 1920" in text


def test_a_table_in_latex_of_few_subjects_says_that_nothing_is_ranked(made: Path) -> None:
    text = table([read_run(made / "run.json")])
    why = "Not ranked, and no intervals: 2 subjects; at least 6 are needed for one that can be trusted."
    assert why in text and "\\textbf" not in text and "Brackets" not in text
    assert text.split("\\midrule\n")[1].strip().startswith("-- & ")


def test_what_is_special_in_latex_is_escaped(made: Path) -> None:
    assert escaped(r"a_b & 50% #1 {x} ~ ^ \ $ < > |") == (
        r"a\_b \& 50\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$ \textless{} \textgreater{} "
        r"\textbar{}"
    )
    run = read_run(made / "run.json")
    text = table([dataclasses.replace(run, method="50%_&", concept="x\n\\input{y}")])
    assert "50\\%\\_\\&" in text and "x \\textbackslash{}input\\{y\\}" in text and "\\input" not in text


def test_what_is_no_result_is_not_exported(row: Run) -> None:
    for wrong in (
        dataclasses.replace(row, retracted="wrong (2026-01-01)"),
        dataclasses.replace(row, part=dataclasses.replace(row.part, limit=3)),
    ):
        with pytest.raises(UsageError, match=r"is retracted \(wrong|is a part of a split, which is no result"):
            numbers_of(wrong)
    with pytest.raises(DataError, match=r"no run stands here"):
        table([dataclasses.replace(row, retracted="wrong (2026-01-01)")])


def test_pycocotools_gives_the_same_iou(made: Path, data: Dataset, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    run, records = read_run(made / "run.json"), read_predictions(made / "predictions.jsonl")
    truth_file, results_file = write_coco(run, records, data, tmp_path)
    truth = COCO(str(truth_file))
    found = COCOeval(truth, truth.loadRes(str(results_file)), "segm")
    found.evaluate()
    ours = {query.query_id: query.counts for query in run.queries}
    assert len(truth.getImgIds()) == len(ours) == 10
    compared = 0
    for image in truth.loadImgs(truth.getImgIds()):
        counts, ious = ours[image["query_id"]], np.asarray(found.ious[image["id"], 1])
        if counts.truth_area and counts.predicted_area:
            assert ious.item() == pytest.approx(counts.intersection / counts.union)
            compared += 1
    assert compared == 8, "all but the absent ones"
    with pytest.raises(DataError, match=r"has no answer; the predictions are not those of this run"):
        write_coco(run, [PredictionRecord("other", None)], data, tmp_path)


def test_a_folder_for_fiftyone_holds_an_image_for_each_query(made: Path, data: Dataset, tmp_path: Path) -> None:
    run, records = read_run(made / "run.json"), read_predictions(made / "predictions.jsonl")
    out = write_fiftyone(run, records, data, tmp_path / "view")
    labels, answers = (json.loads((out / name).read_text()) for name in ("labels.json", "predictions.json"))
    assert sorted(path.name for path in out.iterdir()) == ["data", "labels.json", "predictions.json"]
    assert sorted(each["file_name"] for each in labels["images"]) == sorted(p.name for p in (out / "data").iterdir())
    for each, example in zip(labels["images"], data.examples("test"), strict=True):
        assert (load_photo(out / "data" / each["file_name"]) == example.image).all()
        assert each["text"] == example.query.text and (each["height"], each["width"]) == example.image.shape[:2]
    assert {each["category_id"] for each in [*labels["annotations"], *answers]} == {1}
    assert {each["image_id"] for each in answers} <= {each["id"] for each in labels["images"]}
    with pytest.raises(WriteError, match="already exists"):
        write_fiftyone(run, records, data, out)


def test_the_command_writes_each_form(
    made: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    more: dict[str, list[object]] = {"coco": ["--data", data.folder], "fiftyone": ["--data", data.folder]}
    for form in ("hub", "every-eval-ever", "latex", "coco", "fiftyone"):
        out = tmp_path / form
        code, text, err = called(monkeypatch, capfd, "export", made, "--to", form, "--out", out, *more.get(form, []))
        assert code == 0 and text.startswith(f"wrote {out}") and out.exists(), err
    code, _, err = called(monkeypatch, capfd, "export", made, "--to", "latex", "--out", tmp_path / "x", *more["coco"])
    assert code == 1 and "--data: only with --to coco and --to fiftyone" in err
    code, _, err = called(monkeypatch, capfd, "export", made, "--to", "coco", "--out", tmp_path / "x")
    assert code == 1 and "tiny-v1 is not here, so there is no truth to export; name it with --data" in err
    code, _, err = called(monkeypatch, capfd, "export", tmp_path, "--to", "hub", "--out", tmp_path / "x")
    assert code == 1 and "is no run and no row" in err
