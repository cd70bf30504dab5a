"""PerSAM on a tiny random Sam2Model: the published arithmetic written out, the frame of SAM 2, and the contract."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_persam import MASK, PHOTO, SCENE, SUBJECT, parts
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
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Sam2Model(config).eval()
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "layer_norm" not in name:
                    weight += torch.randn_like(weight) * 0.2
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sam2") / "tiny-sam2"
    tiny_sam2().save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def sam(folder: str) -> Sam:
    return Sam(folder, "cpu")


# --- the published attention, written out for the layers of SAM 2 ---------------------------------------------------


def attention(layer: Any, q: Tensor, k: Tensor, v: Tensor, similar: Tensor | None = None) -> Tensor:
    """One head at a time."""
    q, k, v = (F.linear(x, p.weight, p.bias) for x, p in ((q, layer.q_proj), (k, layer.k_proj), (v, layer.v_proj)))
    width, out = q.shape[-1] // 2, []
    for part in (slice(0, width), slice(width, 2 * width)):
        weights = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(width), dim=-1)
        if similar is not None:
            weights = torch.softmax(weights + similar, dim=-1)
        out.append(weights @ v[:, part])
    return F.linear(torch.cat(out, 1), layer.o_proj.weight, layer.o_proj.bias)


def norm(layer: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), layer.weight, layer.bias, layer.eps)


def mlp(layer: Any, x: Tensor) -> Tensor:
    hidden = F.relu(F.linear(x, layer.proj_in.weight, layer.proj_in.bias))
    for each in layer.layers:
        hidden = F.relu(F.linear(hidden, each.weight, each.bias))
    return F.linear(hidden, layer.proj_out.weight, layer.proj_out.bias)


def transformer(inner: Any, tokens: Tensor, image: Tensor, place: Tensor, similar: Tensor, target: Tensor) -> Any:
    """PerSAM's ``TwoWayTransformer.forward`` on matrices, with its additions in place."""
    queries = point = tokens.clone()
    keys = image
    for number, block in enumerate(inner.layers):
        queries += target
        if number == 0:
            queries = attention(block.self_attn, queries, queries, queries)
        else:
            q = queries + point
            queries = queries + attention(block.self_attn, q, q, queries)
        queries = norm(block.layer_norm1, queries)
        looked = attention(block.cross_attn_token_to_image, queries + point, keys + place, keys, similar)
        queries = norm(block.layer_norm2, queries + looked)
        queries = norm(block.layer_norm3, queries + mlp(block.mlp, queries))
        keys = norm(
            block.layer_norm4, keys + attention(block.cross_attn_image_to_token, keys + place, queries + point, queries)
        )
    q = queries + point
    q += target
    queries = queries + attention(inner.final_attn_token_to_image, q, keys + place, keys)
    return norm(inner.layer_norm_final_attn, queries), keys


def through(module: Any, tokens: Tensor, image: Tensor, place: Tensor, similar: Tensor, target: Tensor) -> Any:
    grid = [each.T.reshape(1, WIDTH, GRID, GRID) for each in (image, place)]
    with torch.no_grad():
        queries, keys = module(
            point_embeddings=tokens.clone()[None, None],
            image_embeddings=grid[0],
            image_positional_embeddings=grid[1],
            attention_similarity=similar[None, None, None],
            target_embedding=target[None, None],
        )
    return queries[0, 0], keys[0, 0]


def test_the_guided_attention_is_the_published_one_and_not_that_of_transformers(sam: Sam) -> None:
    given = parts()
    guided = sam.network.mask_decoder.transformer
    with torch.no_grad():
        expected = transformer(guided.inner, *given)
    for a, b in zip(through(guided, *given), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    theirs = through(guided.inner, *given)
    assert float((theirs[0] - expected[0]).abs().max()) > 1e-2, "one softmax is another method"


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
    (y1, x1), (y0, x0) = (np.unravel_index(int(i), similar.shape) for i in (similar.argmax(), similar.argmin()))
    at = ((int(x1), int(y1)), (int(x0), int(y0)))
    added = guidance(similar, GRID).reshape(1, 1, 1, -1)
    first = sam.decode(frame, features, Prompt(at, (1, 0), similarity=added, target=target[None, None]), False)
    second = sam.decode(frame, features, Prompt(at, (1, 0), small=first.small[0]), True)
    best = int(second.quality.argmax())
    ys, xs = np.nonzero((second.logits[best] > 0).numpy())
    box = (int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())) if len(xs) else None
    third = sam.decode(frame, features, Prompt(at, (1, 0), box, second.small[best]), True)
    (answer,) = method.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": concept})
    expected = (third.logits[int(third.quality.argmax())] > 0).numpy()
    assert answer.mask is not None and np.array_equal(answer.mask, expected)
    assert answer.mask.shape == SCENE.shape[:2] == (52, 36) and answer.peak_yx == (y1, x1)
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
