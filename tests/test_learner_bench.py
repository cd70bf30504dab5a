"""The plain loop is the one people know, both sides learn the same thing, and each number is measured as it says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from prisbench.bench import learner as learner_bench
from prisbench.bench.learner import (
    LearningComparison,
    bench_learner,
    drawn_photos,
    make_job,
    ours,
    plain_models,
    reference,
    render,
)
from prisbench.concepts.loss import captions
from prisbench.concepts.wordings import first_vectors
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.prompts import Words
from prisbench.diffusion.text import encode_text
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.photos import load_photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("learner_bench") / "tiny")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(folder)


@pytest.fixture(scope="module")
def photos(backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    drawn_photos(place, (64, 96))
    return place


def weights(backbone: Backbone) -> dict[str, torch.Tensor]:
    models = (backbone.text_encoder, backbone.vae, backbone.unet)
    return {f"{i}.{name}": w.clone() for i, model in enumerate(models) for name, w in model.state_dict().items()}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_only_the_new_tokens_move_and_the_backbone_stays_as_it_was(
    backbone: Backbone, photos: Path, dtype: str
) -> None:
    before = weights(backbone)
    job = make_job(backbone, photos, 2, 2, dtype)
    plain = plain_models(job)
    table = plain.text_encoder.get_input_embeddings().weight
    start, ticks = table.detach().clone(), []
    reference(job, plain, lambda: ticks.append("reference"))
    ours(job, lambda: ticks.append("ours"))
    assert ticks == ["reference"] * 2 + ["ours"] * 2
    moved = (table != start).any(dim=1)
    assert moved[-plain.new :].all() and not moved[: -plain.new].any()
    assert plain.new == job.recipe.vectors and len(table) == len(backbone.token_table) + plain.new
    assert all(torch.equal(before[name], weight) for name, weight in weights(backbone).items())


def test_both_sides_hear_the_same_text(backbone: Backbone, photos: Path) -> None:
    job = make_job(backbone, photos, 2, 2, "fp32")
    plain = plain_models(job)
    prompts = captions(backbone, job.recipe.loop.templates, Words("mug", job.recipe.vectors))
    vectors = first_vectors(backbone, "mug", job.recipe.vectors, job.recipe.spread, job.task.key)["vectors"]
    with torch.no_grad():
        heard = encode_text(backbone, prompts, {"subject": vectors})
        torch.testing.assert_close(plain.text_encoder(plain.ids)[0], heard)


def test_in_half_precision_the_plain_loop_has_half_as_many_bytes_of_weights(backbone: Backbone, photos: Path) -> None:
    plain = plain_models(make_job(backbone, photos, 2, 2, "bf16"))
    assert plain.unet.dtype == plain.vae.dtype == torch.bfloat16
    assert plain.text_encoder.dtype == torch.float32 == backbone.unet.dtype


def test_random_weights_have_the_table_they_would_have(
    backbone: Backbone, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner_bench, "ARCHITECTURES", {backbone.id.split("@")[0]: None})
    job = make_job(backbone, photos, 2, 2, "fp32")
    plain = plain_models(job)
    assert len(plain.text_encoder.get_input_embeddings().weight) == 49_408 + job.recipe.vectors


def test_a_comparison_is_one_record_and_says_what_it_costs(folder: Path) -> None:
    said: list[str] = []
    record = bench_learner(LearningComparison(str(folder), 3, 2, "fp32", 2, 64), said.append)
    assert len(said) == 1
    assert re.search(r"^tiny@\w+: 2 turns of 3 steps of 2 photos on each side, fp32, \d+ threads: about \d+ s", said[0])
    json.dumps(record, allow_nan=False)
    assert record["ratio"] == record["reference"] / record["ours"] and record["unit"] == "seconds a step"
    assert len(record["ours_each"]) == len(record["reference_each"]) == 2 * 2
    assert min(record["ours_each"]) <= record["ours"] <= max(record["ours_each"])
    assert record["concept_seconds"] == record["once_seconds"] + record["concept_steps"] * record["ours"]
    assert (record["size_hw"], record["batch"]) == ([64, 64], 2)
    assert torch.__version__.startswith(record["environment"]["torch"])
    assert (record["memory_reference_mb"] is not None) == sys.platform.startswith("linux")
    assert record["weights_reference_mb"] > record["weights_ours_mb"]
    assert record["photos_hw"] == [[64, 64]] * 5, "the least there is to read"
    text = render(record)
    assert "steps a s" in text and "the plain loop" in text
    assert "not measured" in render({**record, "memory_ratio": None, "memory_ours_mb": None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "--steps 1 makes no sense; give 2 or more"),
        ({"batch": 0}, "--batch 0 makes no sense; give 1 or more"),
        ({"rounds": 0}, "--rounds 0 makes no sense; give 1 or more"),
        ({"dtype": "fp16"}, "unknown dtype 'fp16'"),
        ({"size": 100}, r"--size 100: tiny@\w+ takes multiples of 16 pixels; try 96"),
        ({"size": 16}, r"--size 16: tiny@\w+ takes multiples of 16 pixels; try 64"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=message):
        bench_learner(LearningComparison(str(folder), **options))


def test_too_little_memory_is_said_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_bench, "free_bytes", lambda: 1_000)
    with pytest.raises(UsageError, match=r"Stable Diffusion 1\.x on both sides needs about 6\.4 GB"):
        bench_learner(LearningComparison("sd15-random", dtype="bf16"))


def test_a_model_with_two_text_encoders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two text encoders"):
        bench_learner(LearningComparison(str(tiny.save(tmp_path / "tiny", kind="sdxl"))))


def test_the_plain_loop_opens_its_photos_at_every_step_and_ours_once(
    backbone: Backbone, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(learner_bench, "load_photo", lambda path: opened.append(path) or load_photo(path))
    job = make_job(backbone, photos, 3, 4, "fp32", 64)
    ours(job, lambda: None)
    assert opened == list(job.files)
    opened.clear()
    reference(job, plain_models(job), lambda: None)
    assert len(opened) == 3 * 4


def test_own_photos_are_measured_in_the_size_asked_for(folder: Path, tmp_path: Path) -> None:
    drawn_photos(tmp_path, (130, 90))
    record = bench_learner(LearningComparison(str(folder), 2, 1, "fp32", 1, 64, tmp_path))
    assert (record["size_hw"], record["photos_hw"]) == ([64, 64], [[130, 90]] * 5)
    assert "the largest 130 x 90 px" in render(record)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no photos in"):
        bench_learner(LearningComparison(str(folder), photos=empty))
    assert not any(empty.iterdir())
