"""The baselines: the controls score what a pencil says, CLIPSeg runs through the real class at tiny size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPSegProcessor, ViTImageProcessor

from prisbench.datasets.load import open_dataset
from prisbench.errors import BackboneError, UsageError
from prisbench.evaluate import evaluate
from prisbench.leaderboard.rows import records_of, rows
from prisbench.methods import load_method
from prisbench.settings import MethodOptions
from prisbench.types import Concept, Method, Query, Subject
from tests.drawing import draw_box, draw_scene

SCENE = draw_scene(0, (40, 60))
SUBJECT = Subject("s", "mug", (draw_scene(1),))
QUERIES = [Query(f"q{i}", "s", "the {subject}" + " the" * i) for i in range(3)]


def masks(method: Method, queries: list[Query] = QUERIES, scene: np.ndarray = SCENE) -> list[np.ndarray]:
    answers = method.locate(scene, queries, {"s": method.learn(SUBJECT)})
    assert [answer.query_id for answer in answers] == [query.id for query in queries]
    found = []
    for answer in answers:
        assert answer.mask is not None and answer.mask.shape == scene.shape[:2] and answer.mask.dtype == bool
        if answer.peak_yx is not None and answer.score is None:
            assert answer.mask[answer.peak_yx], "the peak lies in the box"
        found.append(answer.mask)
    return found


def test_center_box_is_the_middle_of_the_scene() -> None:
    for mask in masks(load_method("center-box")):
        assert np.array_equal(mask, draw_box((40, 60), 12, 18, 28, 42))
    (wide, *_) = masks(load_method("center-box", MethodOptions(settings={"share": 0.5})))
    assert np.array_equal(wide, draw_box((40, 60), 10, 15, 30, 45))
    (answer,) = load_method("center-box").locate(SCENE, QUERIES[:1], {})
    assert answer.peak_yx == (20, 30)


def test_whole_image_says_everything_and_names_no_pixel() -> None:
    method = load_method("whole-image")
    assert all(mask.all() for mask in masks(method))
    assert method.locate(SCENE, QUERIES[:1], {})[0].peak_yx is None


def test_random_box_follows_from_seed_and_query_alone() -> None:
    method = load_method("random-box", MethodOptions(seed=3))
    first = masks(method)
    assert all(np.array_equal(a, b) for a, b in zip(first, masks(method, QUERIES[::-1])[::-1], strict=True))
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], masks(load_method("random-box", MethodOptions(seed=4)))[0])


def test_random_boxes_are_of_all_sizes_and_places_within_their_limits() -> None:
    queries = [Query(str(i), "s", "the {subject}") for i in range(300)]
    boxes = [np.argwhere(mask) for mask in masks(load_method("random-box"), queries)]
    tall = [int(np.ptp(box[:, 0])) + 1 for box in boxes]
    wide = [int(np.ptp(box[:, 1])) + 1 for box in boxes]
    assert (min(tall), max(tall)) == (6, 24) and (min(wide), max(wide)) == (9, 36)
    everywhere = np.mean(masks(load_method("random-box"), queries), axis=0)
    assert all(edge.any() for edge in (everywhere[0], everywhere[-1], everywhere[:, 0], everywhere[:, -1]))
    assert 0.1 < everywhere[20, 30] < 0.6


@pytest.mark.parametrize("name", ["center-box", "random-box", "whole-image"])
def test_a_control_that_does_not_learn_says_so(name: str) -> None:
    method = load_method(name)
    assert method.learn(SUBJECT) == Concept("none", "s", "mug", "none") or method.learn(SUBJECT).learner == "none"
    assert method.learn(SUBJECT).tensors == {}


def test_the_controls_score_as_they_should(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset, found = open_dataset(tiny_dataset), {}
    for name in ("whole-image", "center-box", "random-box"):
        run, _ = evaluate(dataset, load_method(name), tmp_path)
        found[name] = records_of(rows([run]))[0]
        assert run.n_errors == 0 and run.concept == "none"
        if name == "whole-image":
            present = [query.counts for query in run.queries if query.query_type != "absent"]
            assert all(counts.intersection == counts.truth_area for counts in present), "its recall is one"
            shares = [counts.truth_area / counts.area for counts in present]
            assert found[name]["iou_mean"] == pytest.approx(np.mean(shares))
    assert found["whole-image"]["absent_fp_rate"] == 1.0 and found["whole-image"]["pointing"] is None
    assert found["center-box"]["absent_fp_rate"] == 1.0
    truth, box = [draw_box((12, 20), 2, 3 + n, 8, 9) for n in (1, 2)], draw_box((12, 20), 3, 6, 8, 14)
    assert box.sum() == 40
    expected = np.mean([(one & box).sum() / (one | box).sum() for one in truth])
    assert found["center-box"]["iou_mean"] == pytest.approx(expected)


# --- clipseg --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIPSeg of the real classes, random, in a folder."""
    words = tiny.tokenizer(length=24)
    text = dict(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=24,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    vision = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    config = CLIPSegConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=12,
        reduce_dim=8,
        extract_layers=[0, 1],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = CLIPSegForImageSegmentation(config)
        with torch.no_grad():
            for weight in network.parameters():
                weight *= 3
    target = tmp_path_factory.mktemp("clipseg") / "tiny-clipseg"
    network.save_pretrained(target)
    images = ViTImageProcessor(size={"height": 32, "width": 32})
    CLIPSegProcessor(image_processor=images, tokenizer=words).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def clipseg(folder: Path) -> Method:
    return load_method("clipseg", MethodOptions(model=str(folder)))


def test_clipseg_answers_one_query_or_several_alike_in_the_photos_own_frame(clipseg: Method) -> None:
    concepts = {"s": clipseg.learn(SUBJECT)}
    together = clipseg.locate(SCENE, QUERIES, concepts)
    for query, answer in zip(QUERIES, together, strict=True):
        (single,) = clipseg.locate(SCENE, [query], concepts)
        for one in (answer, single):
            assert (
                one.score is not None and one.score.shape == (40, 60) and 0 <= one.score.min() <= one.score.max() <= 1
            )
            assert one.mask is not None and np.array_equal(one.mask, one.score > 0.4)
            assert one.peak_yx is not None and one.score[one.peak_yx] == one.score.max() == one.presence
        assert answer.query_id == single.query_id == query.id
        assert answer.score is not None and single.score is not None
        assert np.allclose(answer.score, single.score, atol=1e-5)
    scores = [answer.score for answer in together if answer.score is not None]
    assert np.abs(scores[0] - scores[1]).max() > 1e-3, "other words, other answers"


def test_clipseg_is_asked_with_the_class_word_in_the_slot(clipseg: Method, folder: Path) -> None:
    concept = clipseg.learn(SUBJECT)
    assert (concept.learner, concept.noun) == ("noun-only", "mug")
    bowl = dataclasses.replace(concept, noun="bowl")
    (mug_map,) = clipseg.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": concept})
    (bowl_map,) = clipseg.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": bowl})
    (said,) = clipseg.locate(SCENE, [Query("q", "s", "the mug")], {"s": bowl})
    assert mug_map.score is not None and bowl_map.score is not None and said.score is not None
    assert np.array_equal(mug_map.score, said.score) and not np.array_equal(mug_map.score, bowl_map.score)
    assert clipseg.settings == {"prompt": "query", "threshold": 0.4, "model": str(folder)}


def test_clipseg_maps_are_those_of_the_published_way(clipseg: Method, folder: Path) -> None:
    """Squashed to a square, a sigmoid over the logits, stretched back; done here step by step."""
    network = CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    processor: Any = CLIPSegProcessor.from_pretrained(folder)
    inputs = processor(text=["the mug"], images=[SCENE], return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, 32, 32)
    with torch.no_grad():
        probability = network(**inputs).logits.reshape(1, 1, 32, 32).sigmoid()
    wide = torch.nn.functional.interpolate(probability, (40, 60), mode="bilinear", align_corners=False)[0, 0].numpy()
    (answer,) = clipseg.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": clipseg.learn(SUBJECT)})
    assert answer.score is not None and np.allclose(answer.score, wide, atol=1e-6)


def test_clipseg_takes_a_threshold(folder: Path) -> None:
    low, high = (
        masks(load_method("clipseg", MethodOptions(model=str(folder), settings={"threshold": t})))[0] for t in (0, 1.0)
    )
    assert low.all() and not high.any()
    with pytest.raises(UsageError, match="unknown setting 'treshold': did you mean 'threshold'"):
        load_method("clipseg", MethodOptions(model=str(folder), settings={"treshold": 0.5}))


def test_clipseg_runs_through_the_whole_loop(folder: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    method = load_method("clipseg", MethodOptions(model=str(folder)))
    run, path = evaluate(open_dataset(tiny_dataset), method, tmp_path)
    assert (run.method, run.concept, run.n_errors, run.backbone) == ("clipseg", "noun-only", 0, str(folder))
    assert path.parent.name == "clipseg--noun-only" and len(run.queries) == 10


@pytest.mark.parametrize("model", ["prisbench-tests/no-such-model", "/nowhere/at/all"])
def test_clipseg_weights_that_cannot_be_had_are_one_clear_error(model: str) -> None:
    with pytest.raises(
        BackboneError, match=f"^{model} (cannot be loaded: |is not a folder, and the hub does not give it: )"
    ) as caught:
        load_method("clipseg", MethodOptions(model=model))
    assert "\n" not in str(caught.value)


def test_clipseg_without_its_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    for name in ("config.json", "processor_config.json"):
        if (folder / name).exists():
            (tmp_path / "half" / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(BackboneError, match="half cannot be loaded: "):
        load_method("clipseg", MethodOptions(model=str(tmp_path / "half")))
