"""SegGPT and SAM 3 on tiny random models of the real classes: frames, prompts, and the contract."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_detection import shaken
from test_trial import checks
from torch.nn import functional as F
from transformers import (
    Sam3Config,
    Sam3Model,
    SegGptConfig,
    SegGptForImageSegmentation,
    SegGptImageProcessorPil,
)

from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.methods import load_method
from prisbench.segmenters.answers import Found, answer_of, candidates_of
from prisbench.segmenters.canvas import canvas_of
from prisbench.segmenters.sam3 import Sam3
from prisbench.segmenters.seggpt import SegGpt, parts_of
from prisbench.settings import MethodOptions
from prisbench.trial.scenes import draw_set
from prisbench.types import Query, Subject
from tests.drawing import draw_box, draw_scene

SCENE = draw_scene(2, (52, 36))
PHOTO, MASK = draw_scene(1, (30, 50)), draw_box((30, 50), 6, 10, 24, 32)
SUBJECT = Subject("s", "mug", (draw_scene(9, (20, 30)), PHOTO), (None, MASK))
QUERY = Query("q", "s", "the {subject}")


def save_seggpt(folder: Path) -> str:
    config = SegGptConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=(64, 32), patch_size=8,
        pretrain_image_size=16, decoder_hidden_size=8, merge_index=0, intermediate_hidden_state_indices=[0, 1, 2, 3],
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = shaken(SegGptForImageSegmentation(config), 0.2)
    network.save_pretrained(folder)
    SegGptImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def save_sam3(folder: Path) -> str:
    words = tiny.tokenizer(length=32)
    small = dict(hidden_size=32, num_layers=1, num_attention_heads=2, intermediate_size=32)
    config = Sam3Config(
        vision_config=dict(
            backbone_config=dict(
                model_type="sam3_vit_model", hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=2, image_size=56, patch_size=14, window_size=2, global_attn_indexes=[1],
                pretrain_image_size=28,
            ),
            fpn_hidden_size=32, backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        ),
        text_config=dict(
            vocab_size=len(words), hidden_size=24, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=32, projection_dim=16, bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
        ),
        geometry_encoder_config=small, detr_encoder_config=small, detr_decoder_config={**small, "num_queries": 5},
        mask_decoder_config=dict(hidden_size=32, num_attention_heads=2),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = shaken(Sam3Model(config), 0.1)
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


SAVERS = {"seggpt": save_seggpt, "sam3-noun": save_sam3, "sam3-canvas": save_sam3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    top = tmp_path_factory.mktemp("segmenters")
    found = {"seggpt": save_seggpt(top / "seggpt"), "sam3-noun": save_sam3(top / "sam3")}
    return {**found, "sam3-canvas": found["sam3-noun"]}


def roi_align(features: torch.Tensor, boxes: tuple[torch.Tensor, ...], side: int) -> torch.Tensor:
    """torchvision's operation with one sample a bin, which its own default is not."""
    h, w = features.shape[-2:]
    ((left, top, right, bottom),) = boxes[0].tolist()
    middle = (torch.arange(side) + 0.5) / side
    x, y = left + (right - left) * middle - 0.5, top + (bottom - top) * middle - 0.5
    places = torch.stack(torch.meshgrid((y + 0.5) * 2 / h - 1, (x + 0.5) * 2 / w - 1, indexing="ij"), -1)
    return F.grid_sample(features, places.flip(-1)[None], padding_mode="border", align_corners=False)


@pytest.fixture
def regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What SAM 3's example boxes want of torchvision."""
    from transformers.models.sam3 import modeling_sam3

    from prisbench.segmenters import sam3_canvas

    known = SimpleNamespace(ops=SimpleNamespace(roi_align=roi_align))
    monkeypatch.setattr(modeling_sam3, "torchvision", known, raising=False)
    monkeypatch.setattr(sam3_canvas, "has_torchvision", lambda: True)


# --- answers and canvases -------------------------------------------------------------------------------------------


def test_the_surest_mask_is_the_answer_and_all_are_candidates() -> None:
    soft = np.zeros((2, 4, 6), np.float32)
    soft[0, 1:3, 1:3], soft[1, 0, 5], soft[0, 2, 2] = 0.8, 0.9, 0.95
    found = Found(soft, np.array([0.7, 0.4]), 0.7)
    answer = answer_of("q", found)
    assert answer.mask is not None and answer.mask.sum() == 4 and answer.peak_yx == (2, 2) and answer.presence == 0.7
    assert [each.score for each in candidates_of(found)] == [0.7, 0.4]
    assert [len(found.above(least).scores) for least in (0.3, 0.5, 0.7)] == [2, 1, 0]
    nothing = answer_of("q", found.above(0.9))
    assert nothing.mask is None and nothing.presence == 0.7
    assert answer_of("q", Found(soft * 0.1, np.array([0.7, 0.4]), 0.7)).mask is None


@pytest.mark.parametrize(
    ("scene_hw", "canvas_hw", "at"), [((40, 60), (40 + 36, 60), (36, 0)), ((60, 40), (60, 140), (0, 100))]
)
def test_a_canvas_holds_the_scene_as_it_is_and_the_photo_in_its_own_shape(
    scene_hw: tuple[int, int], canvas_hw: tuple[int, int], at: tuple[int, int]
) -> None:
    scene = draw_scene(4, scene_hw)
    canvas = canvas_of(PHOTO, scene)
    assert canvas.image.shape[:2] == canvas_hw and canvas.scene_yx == at
    assert np.array_equal(canvas.of_scene(canvas.image.transpose(2, 0, 1)), scene.transpose(2, 0, 1))
    left, top, right, bottom = canvas.box((10.0, 6.0, 32.0, 24.0))
    assert (right - left) / (bottom - top) == pytest.approx(22 / 18) and right <= canvas.photo_hw[1]
    shown = canvas_of(np.where(MASK[..., None], 255, 0).repeat(3, axis=2).astype(np.uint8), scene).image
    white = np.argwhere(shown[: canvas.photo_hw[0], : canvas.photo_hw[1], 0] > 127)
    assert np.allclose(white.min(0), (top, left), atol=1) and np.allclose(white.max(0) + 1, (bottom, right), atol=1)


# --- SegGPT ---------------------------------------------------------------------------------------------------------


def test_seggpts_drawing_is_the_librarys(folders: dict[str, str]) -> None:
    method = SegGpt(folders["seggpt"], "cpu")
    (answer,) = method.locate(SCENE, [QUERY], {"s": method.learn(SUBJECT)})
    network = SegGptForImageSegmentation.from_pretrained(folders["seggpt"]).eval()
    images = SegGptImageProcessorPil.from_pretrained(folders["seggpt"])
    inputs = images(
        images=[SCENE], prompt_images=[PHOTO], prompt_masks=[MASK.astype(np.uint8) * 255], return_tensors="pt"
    )
    with torch.no_grad():
        out = network(**inputs)
    (read,) = images.post_process_semantic_segmentation(out, target_sizes=[(32, 32)])
    drawn = method._drawn(method._read(SCENE), method.learn(SUBJECT), (32, 32))
    np.testing.assert_allclose(drawn * 255, read.numpy(), atol=1.001)  # the library cuts to whole levels
    assert answer.mask is None or answer.mask.shape == (52, 36)


def test_seggpt_shows_all_masked_photos_at_once(folders: dict[str, str]) -> None:
    method = SegGpt(folders["seggpt"], "cpu")
    both = method.learn(Subject("s", "mug", (SCENE, PHOTO), (draw_box((52, 36), 4, 4, 30, 20), MASK)))
    one = method.learn(SUBJECT)
    assert both.tensors["photos"].shape == (2, 3, 32, 32) and one.tensors["photos"].shape == (1, 3, 32, 32)
    assert not np.allclose(*(method._drawn(method._read(SCENE), each, (8, 8)) for each in (both, one)), atol=1e-4)
    assert both.id != one.id


def test_bright_parts_are_told_apart_the_brightest_sum_first() -> None:
    drawn = np.zeros((6, 9), np.float32)
    drawn[0, 0], drawn[3:6, 4:9] = 0.9, 0.6
    found = parts_of(drawn)
    assert found.scores.tolist() == pytest.approx([9 / 9.9, 0.9 / 9.9]) and found.presence == pytest.approx(9.9 / 16)
    assert parts_of(drawn * 0.1).presence == 0 and len(parts_of(drawn * 0.1).scores) == 0


# --- SAM 3 ----------------------------------------------------------------------------------------------------------


def test_sam3s_masks_are_those_of_its_published_processing(folders: dict[str, str]) -> None:
    sam3 = Sam3(folders["sam3-noun"], "cpu")
    found = sam3.find(sam3.encode(SCENE), sam3.read("mug"), (52, 36))
    pixels = F.interpolate(
        torch.from_numpy(SCENE).permute(2, 0, 1)[None] / 255, (56, 56), mode="bilinear", antialias=True
    )
    words = sam3.tokenizer(["mug"], padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        out = Sam3Model.from_pretrained(folders["sam3-noun"]).eval()(pixel_values=(pixels - 0.5) / 0.5, **words)
    scores = out.pred_logits[0].sigmoid() * out.presence_logits[0].sigmoid()
    best = int(scores.argmax())
    soft = F.interpolate(out.pred_masks[:, [best]].sigmoid(), (52, 36), mode="bilinear")[0, 0]
    np.testing.assert_allclose(found.soft[0], soft.numpy(), atol=1e-5)
    assert found.scores[0] == pytest.approx(float(scores[best]), abs=1e-6) == found.presence
    assert (np.diff(found.scores) <= 0).all() and len(found.scores) == 5


def test_sam3_is_asked_for_the_noun_or_the_text(folders: dict[str, str]) -> None:
    other = Query("r", "s", "the {subject} the bowl")
    scores = {}
    for reads in ("noun", "text"):
        given = MethodOptions(model=folders["sam3-noun"], settings={"threshold": 0.0, "reads": reads})
        method = load_method("sam3-noun", given)
        answers = method.locate(SCENE, [QUERY, other], {"s": method.learn(SUBJECT)})
        scores[reads] = [answer.presence for answer in answers]
    assert scores["noun"][0] == scores["noun"][1] and scores["text"][0] != scores["text"][1]
    with pytest.raises(UnknownNameError, match="reads"):
        load_method("sam3-noun", MethodOptions(model=folders["sam3-noun"], settings={"reads": "words"}))
    with pytest.raises(DataError, match=r"tokens, and .* reads 32; shorten it"):
        Sam3(folders["sam3-noun"], "cpu").read("a bowl of the mug " * 12)


def test_sam3s_canvas_shows_the_photo_and_answers_in_the_scene(folders: dict[str, str], regions: None) -> None:
    given = MethodOptions(model=folders["sam3-canvas"], settings={"threshold": 0.0})
    method: Any = load_method("sam3-canvas", given)
    concept = method.learn(SUBJECT)
    assert concept.tensors["box"].tolist() == [10, 6, 32, 24]
    for part in method.candidates(SCENE, SUBJECT):
        assert part.mask.shape == (52, 36) and part.mask.any()
    canvas, sam3 = canvas_of(PHOTO, SCENE), method.sam3
    seen, text = sam3.encode(canvas.image), sam3.read("visual")
    boxes = (None, (0.0, 0.0, 20.0, 40.0), (30.0, 10.0, 60.0, 20.0))
    assert len({sam3.find(seen, text, (52, 123), box).presence for box in boxes}) == 3, "the box is looked at"


def test_sam3s_canvas_says_that_it_wants_torchvision(folders: dict[str, str]) -> None:
    with pytest.raises(BackboneError, match=r"sam3-canvas needs torchvision .*: pip install torchvision"):
        load_method("sam3-canvas", MethodOptions(model=folders["sam3-canvas"]))


# --- as methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAVERS)
def test_segmenters_keep_every_check_of_a_trial(name: str, folders: dict[str, str], regions: None) -> None:
    settings = {} if name == "seggpt" else {"threshold": 0.0}
    given = MethodOptions(model=folders[name], settings=settings)
    found = checks(draw_set(masks=True), lambda: load_method(name, given))
    assert {check.state for check in found.values()} <= {"ok", "skipped"}, found


@pytest.mark.parametrize("name", ["seggpt", "sam3-canvas"])
def test_photos_without_masks_are_refused_with_the_way_out(name: str, folders: dict[str, str], regions: None) -> None:
    method = load_method(name, MethodOptions(model=folders[name]))
    for masks in ((), (None, np.zeros((30, 50), bool))):
        with pytest.raises(UsageError, match=rf"{name} needs the subject's mask in a photo, and 's' .* photos\+masks"):
            method.learn(Subject("s", "mug", SUBJECT.photos, masks))


@pytest.mark.parametrize("name", SAVERS)
def test_what_is_wrong_with_weights_is_one_line(
    name: str, folders: dict[str, str], tmp_path: Path, regions: None
) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((Path(folders[name]) / "config.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    wrong = folders["sam3-noun" if name == "seggpt" else "seggpt"]
    for where, message in (
        ("/nowhere/at/all", "there is no such folder; give the folder or hub id of a"),
        (wrong, "is of the class '(sam3|seggpt)', not '(sam3|seggpt)'"),
        (str(tmp_path / "pickled"), "holds only pickled weights .*convert to safetensors"),
    ):
        with pytest.raises(BackboneError, match=message) as caught:
            load_method(name, MethodOptions(model=where))
        assert "\n" not in str(caught.value)
