"""PerSAM on a tiny random Sam2Model: the published arithmetic written out, the frame of SAM 2, and the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_persam import MASK, PHOTO, SCENE, SUBJECT
from test_trial import checks
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

from prisbench.methods import load_method
from prisbench.sam.frame import Frame, in_square
from prisbench.sam.model import Prompt, Sam
from prisbench.sam.persam import guidance, similarity
from prisbench.settings import MethodOptions
from prisbench.trial.scenes import draw_set
from prisbench.types import Query
from tests.published_persam import check_guided, shaken, walked

SIDE, GRID, WIDTH = 128, 8, 16


def tiny_sam2() -> Any:
    backbone = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[SIDE, SIDE], blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 4], window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[], window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=WIDTH,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    )  # fmt: skip
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=dict(hidden_size=WIDTH, image_size=SIDE, patch_size=16, mask_input_channels=8),
        mask_decoder_config=dict(
            hidden_size=WIDTH, num_attention_heads=2, mlp_dim=32, num_hidden_layers=2, iou_head_hidden_dim=16
        ),
    )
    return shaken(Sam2Model, config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sam2") / "tiny-sam2"
    tiny_sam2().save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def sam(folder: str) -> Sam:
    return Sam(folder, "cpu")


# --- the published attention, written out for the layers of SAM 2 ---------------------------------------------------


def mlp(layer: Any, x: Tensor) -> Tensor:
    hidden = F.relu(F.linear(x, layer.proj_in.weight, layer.proj_in.bias))
    for each in layer.layers:
        hidden = F.relu(F.linear(hidden, each.weight, each.bias))
    return F.linear(hidden, layer.proj_out.weight, layer.proj_out.bias)


def test_the_guided_attention_is_the_published_one_and_not_that_of_transformers(sam: Sam) -> None:
    check_guided(sam, GRID, WIDTH, mlp)


def test_without_guidance_the_model_is_as_it_was(sam: Sam, folder: str) -> None:
    theirs = Sam2Model.from_pretrained(folder).eval()
    frame, features = sam.encode(PHOTO)
    assert features.shape == (1, WIDTH, GRID, GRID) and [each.shape[-1] for each in frame.fine] == [32, 16]
    found = sam.decode(frame, features, Prompt(((20, 12),), (1,)), True)
    at = torch.tensor([[[[20.0 * SIDE / 50, 12.0 * SIDE / 30]]]])
    with torch.no_grad():
        wanted = theirs(
            pixel_values=in_square(PHOTO, frame),
            input_points=at,
            input_labels=torch.ones((1, 1, 1), dtype=torch.int),
        )
    torch.testing.assert_close(found.small, wanted.pred_masks[0, 0])
    back = F.interpolate(wanted.pred_masks[0], (30, 50), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found.logits, back)
    boxed = sam.decode(frame, features, Prompt((), (), (4, 5, 30, 20)), False)
    with torch.no_grad():
        box = torch.tensor([[[4 * SIDE / 50, 5 * SIDE / 30, 30 * SIDE / 50, 20 * SIDE / 30]]])
        wanted = theirs(pixel_values=in_square(PHOTO, frame), input_boxes=box, multimask_output=False)
    torch.testing.assert_close(boxed.small, wanted.pred_masks[0, 0])


@pytest.mark.parametrize("photo_hw", [(30, 50), (52, 36)])
def test_a_photo_fills_the_square_of_sam_2_and_a_map_comes_back_whole(photo_hw: tuple[int, int]) -> None:
    frame = Frame(photo_hw, SIDE, squashed=True)
    assert frame.inner_hw == (SIDE, SIDE)
    assert np.allclose(frame.points(np.array([[photo_hw[1], photo_hw[0]]], float)), SIDE)
    square = in_square(np.full((*photo_hw, 3), 255, np.uint8), frame)
    assert square.shape == (1, 3, SIDE, SIDE)
    for channel, (mean, deviation) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        assert torch.allclose(square[0, channel], torch.tensor((1 - mean) / deviation), atol=1e-3)
    ramp = torch.arange(GRID, dtype=torch.float32)[:, None].expand(1, 1, GRID, GRID)
    back = frame.to_photo(ramp)[0, 0, :, 0]
    assert back.shape == (photo_hw[0],) and float(back[0]) == 0 and float(back[-1]) == GRID - 1


def test_persam_on_sam_2_is_the_same_method_step_by_step(folder: str, sam: Sam) -> None:
    method = load_method("persam", MethodOptions(settings={"sam": folder}))
    concept = method.learn(SUBJECT)
    frame, features = sam.encode(SCENE)
    target = torch.from_numpy(concept.tensors["target"])
    similar = similarity(features, target, frame)
    cosine = F.cosine_similarity(features[0], target[:, None, None], dim=0)
    assert similar.shape == SCENE.shape[:2] and float(similar.max()) <= float(cosine.max()) + 1e-5
    end = walked(sam, frame, features, similar, guidance(similar, GRID).flatten(), target)
    (answer,) = method.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": concept})
    assert answer.mask is not None and np.array_equal(answer.mask, end.mask)
    assert answer.mask.shape == SCENE.shape[:2] == (52, 36) and answer.peak_yx == end.peak_yx
    assert MASK.any()


@pytest.mark.parametrize("name", ["persam", "persam-f", "sam-matching"])
def test_methods_keep_every_check_of_a_trial_on_sam_2(name: str, folder: str) -> None:
    settings = {"sam": folder, **({"steps": 5} if name == "persam-f" else {})}
    found = checks(draw_set(masks=True), lambda: load_method(name, MethodOptions(settings=settings)))
    assert {check.state for check in found.values()} <= {"ok", "skipped"}, found


def test_the_released_weights_say_that_they_are_of_the_video_class(folder: str, tmp_path: Path) -> None:
    copied = tmp_path / "video"
    copied.mkdir()
    for path in Path(folder).iterdir():
        text = path.read_bytes()
        if path.name == "config.json":
            text = text.replace(b'"model_type": "sam2"', b'"model_type": "sam2_video"')
            assert b'"sam2_video"' in text
        (copied / path.name).write_bytes(text)
    one, two = Sam(folder, "cpu"), Sam(str(copied), "cpu")
    assert two.second and torch.equal(one.encode(PHOTO)[1], two.encode(PHOTO)[1])
