"""PerSAM and PerSAM-F on a tiny random SamModel: the release's arithmetic, step by step, and the contract."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_trial import checks
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, SamConfig, SamModel

from prisbench.datasets.load import open_dataset
from prisbench.errors import BackboneError, UsageError
from prisbench.evaluate import evaluate
from prisbench.methods import load_method
from prisbench.runs import RunOptions
from prisbench.sam.frame import Frame, cells_of, in_square
from prisbench.sam.model import Prompt, Sam
from prisbench.sam.persam import PerSam, box_of, dice_and_focal, fit_weights, guidance, similarity
from prisbench.settings import MethodOptions
from prisbench.trial.scenes import draw_set
from prisbench.types import Concept, Query, Subject
from tests.drawing import draw_box, draw_scene
from tests.published_persam import check_guided, shaken, walked

SIDE, GRID, WIDTH = 64, 8, 16


def tiny_sam() -> Any:
    config = SamConfig(
        vision_config=dict(
            hidden_size=16, output_channels=WIDTH, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
            patch_size=SIDE // GRID, window_size=4, global_attn_indexes=[1], num_pos_feats=WIDTH // 2, mlp_dim=32,
        ),
        prompt_encoder_config=dict(
            hidden_size=WIDTH, image_size=SIDE, patch_size=SIDE // GRID, mask_input_channels=8
        ),
        mask_decoder_config=dict(
            hidden_size=WIDTH, num_attention_heads=2, mlp_dim=32, num_hidden_layers=2, iou_head_hidden_dim=16,
            attention_downsample_rate=2,
        ),
    )  # fmt: skip
    return shaken(SamModel, config)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sam") / "tiny-sam"
    tiny_sam().save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def sam(folder: str) -> Sam:
    return Sam(folder, "cpu")


PHOTO, MASK = draw_scene(1, (30, 50)), draw_box((30, 50), 6, 10, 24, 32)
SCENE = draw_scene(2, (52, 36))
SUBJECT = Subject("s", "mug", (draw_scene(9, (20, 30)), PHOTO), (None, MASK))


# --- the published attention, written out ---------------------------------------------------------------------------


def mlp(layer: Any, x: Tensor) -> Tensor:
    hidden = F.relu(F.linear(x, layer.lin1.weight, layer.lin1.bias))
    return F.linear(hidden, layer.lin2.weight, layer.lin2.bias)


def test_the_guided_attention_is_the_published_one_and_not_that_of_transformers(sam: Sam) -> None:
    check_guided(sam, GRID, WIDTH, mlp)


def test_without_guidance_the_model_is_as_it_was(sam: Sam, folder: str) -> None:
    theirs = SamModel.from_pretrained(folder).eval()
    frame, features = sam.encode(PHOTO)
    prompt = Prompt(((20, 12),), (1,))
    found = sam.decode(frame, features, prompt, True)
    points = torch.tensor(frame.points(np.array([[20.0, 12.0]])), dtype=torch.float32)[None, None]
    with torch.no_grad():
        pixels = in_square(PHOTO, frame)
        wanted = theirs(pixel_values=pixels, input_points=points, input_labels=torch.ones((1, 1, 1), dtype=torch.int))
    torch.testing.assert_close(found.small, wanted.pred_masks[0, 0])
    assert found.logits.shape == (3, 30, 50) and found.quality.shape == (3,)


# --- the frame ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("photo_hw", "inner_hw"), [((30, 50), (38, 64)), ((52, 36), (64, 44)), ((64, 64), (64, 64))])
def test_a_photo_lies_in_the_upper_left_of_the_square(photo_hw: tuple[int, int], inner_hw: tuple[int, int]) -> None:
    frame = Frame(photo_hw, SIDE)
    assert frame.inner_hw == inner_hw
    square = in_square(np.full((*photo_hw, 3), 255, np.uint8), frame)
    assert square.shape == (1, 3, SIDE, SIDE)
    assert float(square[0, 0, 0, 0]) == pytest.approx((255 - 123.675) / 58.395)
    assert not square[..., inner_hw[0] :, :].any() and not square[..., inner_hw[1] :].any()
    ramp = torch.arange(SIDE, dtype=torch.float32).expand(1, 1, SIDE, SIDE)
    back = frame.to_photo(ramp)
    assert back.shape == (1, 1, *photo_hw)
    middle = photo_hw[1] // 2
    assert float(back[0, 0, 0, middle]) == pytest.approx((middle + 0.5) * inner_hw[1] / photo_hw[1] - 0.5, abs=0.02)


def test_a_masks_cells_are_where_it_is_and_a_speck_has_one() -> None:
    frame = Frame((32, 64), SIDE)
    cells = cells_of(draw_box((32, 64), 8, 16, 24, 40), frame, GRID)
    expected = torch.zeros((GRID, GRID), dtype=torch.bool)
    expected[1:3, 2:5] = True
    assert torch.equal(cells, expected)
    speck = cells_of(draw_box((32, 64), 30, 50, 31, 51), frame, GRID)
    assert int(speck.sum()) == 1 and bool(speck[3, 6])


# --- the two methods, step by step ----------------------------------------------------------------------------------


def test_persam_is_what_the_release_does_step_by_step(folder: str, sam: Sam) -> None:
    method = load_method("persam", MethodOptions(settings={"sam": folder}))
    concept = method.learn(SUBJECT)
    frame, features = sam.encode(PHOTO)
    target = torch.stack([features[0, :, y, x] for y, x in np.argwhere(cells_of(MASK, frame, GRID).numpy())]).mean(0)
    assert np.allclose(concept.tensors["target"], target.numpy(), atol=1e-6)

    frame, features = sam.encode(SCENE)
    cosine = F.cosine_similarity(features[0], target[:, None, None], dim=0)[None, None]
    large = F.interpolate(F.interpolate(cosine, scale_factor=4, mode="bilinear"), (SIDE, SIDE), mode="bilinear")
    h, w = frame.inner_hw
    similar = F.interpolate(large[..., :h, :w], SCENE.shape[:2], mode="bilinear")[0, 0]
    torch.testing.assert_close(similarity(features, target, frame), similar, atol=1e-5, rtol=1e-4)
    standard = (similar - similar.mean()) / similar.std()
    added = torch.sigmoid(F.interpolate(standard[None, None], (GRID, GRID), mode="bilinear")).flatten()
    torch.testing.assert_close(guidance(similar, GRID).flatten(), added)

    end = walked(sam, frame, features, similar, added, target)
    (answer,) = method.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": concept})
    assert answer.mask is not None and answer.mask.any() and np.array_equal(answer.mask, end.mask)
    assert answer.peak_yx == end.peak_yx and answer.presence == pytest.approx(min(float(similar.max()), 1), abs=1e-5)


def test_persam_f_weighs_three_masks_with_numbers_fitted_on_the_photo(folder: str) -> None:
    method = load_method("persam-f", MethodOptions(settings={"sam": folder, "steps": 60}))
    concept = method.learn(SUBJECT)
    weights = concept.tensors["weights"]
    assert weights.shape == (3,) and float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert not np.allclose(weights, 1 / 3, atol=1e-3) and set(method.settings) == {"sam", "steps", "threshold"}
    (answer,) = method.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": concept})
    assert answer.mask is None or answer.mask.shape == (52, 36)


def test_the_fitted_weights_go_to_the_mask_that_fits() -> None:
    logits = torch.stack([torch.from_numpy(np.where(mask, 4.0, -4.0)).float() for mask in (~MASK, MASK, ~MASK)])
    weights = fit_weights(logits, MASK, 400)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6) and int(weights.argmax()) == 1


def test_the_losses_are_the_releases_on_a_pencils_example() -> None:
    logits, truth = torch.tensor([0.0, math.log(3.0)]), torch.tensor([0.0, 1.0])
    dice = 1 - (2 * 0.75 + 1) / (0.5 + 0.75 + 1 + 1)
    focal = (0.75 * math.log(2) * 0.5**2 + 0.25 * -math.log(0.75) * 0.25**2) / 2
    assert float(dice_and_focal(logits, truth)) == pytest.approx(dice + focal, abs=1e-6)


def test_a_box_has_its_last_pixels_inside_and_nothing_has_none() -> None:
    assert box_of(draw_box((12, 20), 2, 3, 8, 9)) == (3, 2, 8, 7)
    assert box_of(np.zeros((12, 20), bool)) is None


# --- as methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["persam", "persam-f"])
def test_both_keep_every_check_of_a_trial(name: str, folder: str) -> None:
    settings = {"sam": folder, **({"steps": 5} if name == "persam-f" else {})}
    found = checks(draw_set(masks=True), lambda: load_method(name, MethodOptions(settings=settings)))
    assert {check.state for check in found.values()} <= {"ok", "skipped"}, found


def test_photos_alone_are_refused_with_the_way_out(folder: str) -> None:
    method = load_method("persam", MethodOptions(settings={"sam": folder}))
    for masks in ((), (None, np.zeros((30, 50), bool))):
        with pytest.raises(UsageError, match=r"persam needs the subject's mask in a photo, and 's' .* photos\+masks"):
            method.learn(Subject("s", "mug", SUBJECT.photos, masks))


def test_a_concept_is_another_with_another_photo_mask_or_model(folder: str, tmp_path: Path) -> None:
    method = PerSam.make(False, MethodOptions(model=folder))
    ids = {
        method.learn(each).id
        for each in (
            SUBJECT,
            Subject("t", "mug", SUBJECT.photos, (None, ~MASK)),
            Subject("u", "mug", (PHOTO,), (MASK,)),
        )
    }
    assert len(ids) == 2 and method.model == folder and method.settings == {"sam": folder, "threshold": 0.0}


def test_a_run_of_persam_names_its_weights_and_what_it_was_given(folder: str, tmp_path: Path) -> None:
    from prisbench.datasets.build import NewDataset, write_dataset
    from prisbench.datasets.schema import QueryRow, SubjectRow

    subject = SubjectRow("mug", (PHOTO,), "test", "CC0-1.0", "drawn", masks=(MASK,))
    row = QueryRow(
        subject_id=subject.id, noun="mug", image=SCENE, text="the {subject}", query_type="plain",
        mask=draw_box((52, 36), 4, 4, 20, 20), look_alikes=(), split="test", licence="CC0-1.0", source="drawn",
    )  # fmt: skip
    write_dataset(tmp_path / "data", NewDataset("one", "1", [subject], [row], "# One\n"))
    method = load_method("persam", MethodOptions(settings={"sam": folder}))
    run, path = evaluate(
        open_dataset(tmp_path / "data"), method, tmp_path / "runs", options=RunOptions(reference="photos+masks")
    )
    assert run.n_errors == 0 and path.parent.name == "persam--persam--photos+masks"
    ((weights, content),) = run.identity["weights"].items()
    assert Path(weights).name == "tiny-sam" and content
    assert {"prisbench/sam/guided.py", "prisbench/sam/persam.py"} <= set(run.identity["code"])
    assert isinstance(run.backbone, str) and Path(run.backbone).name == "tiny-sam"
    assert isinstance(method.learn(SUBJECT), Concept)


@pytest.mark.parametrize("sam_folder", ["prisbench-tests/no-such-sam", "/nowhere/at/all"])
def test_weights_that_cannot_be_had_are_one_line(sam_folder: str) -> None:
    with pytest.raises(
        BackboneError, match=f"^{sam_folder} (cannot be loaded: |is not a folder, and the hub)"
    ) as caught:
        load_method("persam", MethodOptions(settings={"sam": sam_folder}))
    assert "\n" not in str(caught.value)


def test_weights_of_another_class_or_pickled_are_one_line(folder: str, tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    CLIPVisionModel(config).save_pretrained(tmp_path / "clip")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((Path(folder) / "config.json").read_bytes())
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("clip", "clip is of the class 'clip_vision_model', not 'sam'; give the folder or hub id of a SamModel"),
        ("empty", "empty cannot be loaded: its config.json names no class"),
        ("pickled", "holds only pickled weights .*convert to safetensors"),
    ):
        with pytest.raises(BackboneError, match=message) as caught:
            load_method("persam-f", MethodOptions(settings={"sam": str(tmp_path / name)}))
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="unknown setting 'samm': did you mean 'sam'"):
        load_method("persam", MethodOptions(settings={"samm": folder}))
