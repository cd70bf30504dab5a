"""Dense features of frozen networks: frames, what photos share, and both encoders as methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_detection import shaken
from test_trial import checks
from torch.nn import functional as F
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from prisbench.diffusion.features import module_features
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.matching.cosegmentation import common_parts, shared
from prisbench.matching.dense import Dense, nearest, thinned
from prisbench.matching.dinov3 import Dinov3Encoder
from prisbench.matching.memory import Memory, in_mask, learn, likeness
from prisbench.matching.method import choose, map_of
from prisbench.methods import load_method
from prisbench.settings import MethodOptions
from prisbench.trial.scenes import draw_set
from prisbench.types import Concept, GivesCandidates, Query, Subject
from tests.drawing import draw_box, draw_scene

SCENE = draw_scene(2, (52, 36))


def dense(features: torch.Tensor, cell: float = 4.0) -> Dense:
    h, w = features.shape[1:]
    return Dense(features, (cell, cell), (int(h * cell), int(w * cell)))


def noise(seed: int, c: int, h: int, w: int) -> torch.Tensor:
    return torch.randn((c, h, w), generator=torch.Generator().manual_seed(seed))


def photo_with_thing(seed: int, at: tuple[int, int], size: int = 3, c: int = 12) -> tuple[Dense, np.ndarray]:
    """Noise of its own, and a thing whose cells are the same in every photo; and its mask."""
    features, thing = noise(seed, c, 9, 11), noise(0, c, size, size) * 3
    y, x = at
    features[:, y : y + size, x : x + size] = thing
    found = dense(features)
    return found, draw_box(found.photo_hw, 4 * y, 4 * x, 4 * (y + size), 4 * (x + size))


# --- frames ---------------------------------------------------------------------------------------------------------


def test_a_mask_covers_cells_and_a_map_covers_pixels() -> None:
    found = Dense(torch.zeros(2, 3, 4), (4.0, 4.0), (12, 15))  # the last column reaches beyond the photo
    shares = found.shares(draw_box((12, 15), 0, 4, 8, 15)).reshape(3, 4)
    assert torch.equal(shares, torch.tensor([[0.0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]))
    half = found.shares(draw_box((12, 15), 0, 0, 2, 2)).reshape(3, 4)
    assert half[0, 0] == 0.25 and half.sum() == 0.25
    assert torch.equal(in_mask(found, draw_box((12, 15), 0, 0, 2, 2)).nonzero().flatten(), torch.tensor([0]))
    up = found.to_photo(torch.arange(12.0))
    whole = F.interpolate(torch.arange(12.0).reshape(1, 1, 3, 4), (12, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(up, whole[0, 0, :, :15])
    one = Dense(torch.ones(1, 1, 1), (5.0, 7.0), (5, 7))
    assert one.to_photo(torch.tensor([2.0])).shape == (5, 7) and bool((one.to_photo(torch.tensor([2.0])) == 2).all())


def test_nearest_neighbours_are_exact_and_thinning_keeps_the_ends() -> None:
    a, b = F.normalize(noise(1, 5, 6, 1).flatten(1).T, dim=1), F.normalize(noise(2, 5, 7, 1).flatten(1).T, dim=1)
    torch.testing.assert_close(nearest(a, b), torch.stack([max(x @ y for y in b) for x in a]))
    assert bool((nearest(a, b[:0]) == -1).all())
    assert torch.equal(thinned(b, 3), b[[0, 3, 6]]) and thinned(b, 9) is b


# --- what photos share, what is remembered ---------------------------------------------------------------------------


def test_photos_without_masks_share_their_subject() -> None:
    photos = [photo_with_thing(n, at) for n, at in enumerate(((3, 4), (2, 6), (4, 3), (3, 5)), 1)]
    parts = common_parts([photo.cells() for photo, _ in photos], [photo.grid_hw for photo, _ in photos])
    for (photo, mask), part in zip(photos, parts, strict=True):
        truth = photo.shares(mask) > 0.5
        assert int((part & truth).sum()) >= 8 and int((part & ~truth).sum()) <= 8, "9 cells are the thing, 90 are not"
    agreed = shared([photo.cells() for photo, _ in photos], [photo.grid_hw for photo, _ in photos])
    assert all(float(each.min()) >= 0 for each in agreed)
    (alone,) = common_parts([photos[0][0].cells()], [photos[0][0].grid_hw])
    assert alone.reshape(9, 11)[4, 5] and not alone.reshape(9, 11)[0, 0], "one photo goes by its middle"


def test_a_memory_finds_its_subject_and_not_what_all_photos_have() -> None:
    photos = [photo_with_thing(n, at) for n, at in enumerate(((3, 4), (2, 6), (4, 3)), 1)]
    memory = learn([photo for photo, _ in photos], [mask for _, mask in photos])
    scene, truth = photo_with_thing(77, (5, 7))
    map_ = map_of(memory, scene)
    y, x = np.unravel_index(int(map_.argmax()), map_.shape)
    assert truth[y, x] and map_.shape == truth.shape and map_.min() >= 0 and map_.max() <= 1
    found = choose(memory, scene, map_)
    assert found.place is not None and (found.regions[found.place] & truth).sum() > 0.5 * truth.sum()
    other, _ = photo_with_thing(78, (5, 7))
    other.features[:] = noise(79, 12, 9, 11)
    assert choose(memory, other, map_of(memory, other)).presence < found.presence
    here, there = (likeness(memory, memory.cells(scene)[in_mask(scene, mask)]) for mask in (truth, ~truth))
    assert -1 <= there < here <= 1
    assert learn([photos[0][0]], [None]).own.shape[0] > 0, "one photo without a mask"


def test_a_memory_survives_its_concept_and_refuses_anothers() -> None:
    photo, mask = photo_with_thing(1, (3, 4))
    memory = learn([photo], [mask])
    back = Memory.of(Concept("c", "s", "mug", "features", tensors=memory.tensors()))
    assert all(torch.equal(getattr(memory, f.name), getattr(back, f.name)) for f in dataclasses.fields(Memory))
    with pytest.raises(DataError, match="not one of matched features: it has no 'mean'"):
        Memory.of(Concept("c", "s", "mug", "none"))


# --- the U-Net ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    top = tmp_path_factory.mktemp("unets")
    return {kind: str(tiny.save(top / kind, kind=kind)) for kind in ("embedded", "sd1", "sdxl")}


def test_features_are_the_layers_outputs_and_the_pass_ends_there(backbones: dict[str, str]) -> None:
    unet = load_backbone(backbones["embedded"]).unet
    latents, text = noise(3, 4, 12, 16)[None], noise(4, 1, 40, 24)
    later: list[int] = []
    handle = unet.up_blocks[2].register_forward_hook(lambda *_: later.append(1))
    with torch.no_grad(), module_features(unet, ["up_blocks.1.attentions.1", "down_blocks.0"]) as seen:
        unet(latents, 1, encoder_hidden_states=text)
    handle.remove()
    assert seen["up_blocks.1.attentions.1"].shape == (1, 16, 6, 8) and not later
    assert not any(module._forward_hooks for module in unet.modules())
    with (
        pytest.raises(UnknownNameError, match=r"layer of the U-Net 'up_block.1'"),
        module_features(unet, ["up_block.1"]),
    ):
        pass
    with pytest.raises(BackboneError, match="never reached the layers"), module_features(unet, ["conv_out"]):
        pass


@pytest.mark.parametrize("kind", ["embedded", "sd1", "sdxl"])
def test_unet_features_of_a_photo_that_is_not_square(kind: str, backbones: dict[str, str]) -> None:
    method: Any = load_method("unet-features", MethodOptions(model=backbones[kind]))
    found = method.encoder.encode([SCENE])[0]
    assert found.photo_hw == (52, 36) and found.features.dtype == torch.float32
    (gh, gw), (ch, cw) = found.grid_hw, found.cell_hw
    assert gh * ch >= 52 > (gh - 1) * ch and gw * cw >= 36 > (gw - 1) * cw, "the cells cover the photo, no more"
    assert gh > gw
    assert torch.equal(found.features, method.encoder.encode([SCENE.copy()])[0].features)
    assert "noises a photo" in method.cost((52, 36))


def test_several_layers_stand_on_the_finest_grid(backbones: dict[str, str]) -> None:
    key = "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_k"
    for layers, width in (("up_blocks.1.attentions.1+down_blocks.0", 24), (key, 16)):
        given = MethodOptions(model=backbones["embedded"], settings={"layers": layers, "samples": 2})
        method: Any = load_method("unet-features", given)
        assert method.encoder.encode([SCENE])[0].features.shape[0] == width and method.settings["layers"] == layers


def test_unet_features_refuse_what_makes_no_sense(backbones: dict[str, str]) -> None:
    for settings, error, said in (
        ({"samples": 0}, UsageError, "samples at least 1"),
        ({"timestep": 1000}, UsageError, "timestep: there is no timestep 1000"),
        ({"threshold": 2.0}, UsageError, r"threshold=2.0 makes no sense"),
        ({"layer": "up_blocks.1"}, UsageError, "did you mean 'layers'"),
    ):
        with pytest.raises(error, match=said):
            load_method("unet-features", MethodOptions(model=backbones["embedded"], settings=settings))
    wrong = MethodOptions(model=backbones["embedded"], settings={"layers": "up_blocks.9"})
    with pytest.raises(UnknownNameError, match=r"layer of the U-Net 'up_blocks.9'"):
        load_method("unet-features", wrong)


# --- DINOv3 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dino") / "tiny-dinov3"
    config = DINOv3ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=64,
        num_register_tokens=3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        shaken(DINOv3ViTModel(config), 0.2).save_pretrained(folder)
    return str(folder)


def test_dinov3_sees_a_photo_in_its_own_shape(dino: str) -> None:
    encoder = Dinov3Encoder(dino, "cpu", 80)
    (found,) = encoder.encode([SCENE])
    assert found.grid_hw == (10, 7) and found.cell_hw == (5.2, 36 / 7) and found.photo_hw == (52, 36)
    pixels = F.interpolate(
        torch.from_numpy(SCENE).permute(2, 0, 1)[None] / 255, (80, 56), mode="bilinear", antialias=True
    )
    normal = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.no_grad():
        out = DINOv3ViTModel.from_pretrained(dino).eval()(pixel_values=normal).last_hidden_state[0]
    torch.testing.assert_close(found.features[:, 3, 4], out[1 + 3 + 3 * 7 + 4], atol=1e-5, rtol=1e-4)


# --- as methods -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unet-features", "dinov3-features"])
@pytest.mark.parametrize("masks", [False, True])
def test_both_keep_every_check_of_a_trial(name: str, masks: bool, backbones: dict[str, str], dino: str) -> None:
    given = MethodOptions(model=backbones["embedded"])
    if name == "dinov3-features":
        given = MethodOptions(model=dino, settings={"side": 80})
    found = checks(draw_set(masks=masks), lambda: load_method(name, given))
    assert {check.state for check in found.values()} <= {"ok", "skipped"}, found


def test_masks_and_photos_make_another_concept_and_a_threshold_says_not_here(dino: str) -> None:
    photo, mask = draw_scene(1, (30, 50)), draw_box((30, 50), 6, 10, 24, 32)
    method: Any = load_method("dinov3-features", MethodOptions(model=dino, settings={"side": 80, "threshold": 1.0}))
    bare, masked = (method.learn(Subject("s", "mug", (photo, SCENE), masks)) for masks in ((), (mask, None)))
    assert bare.id != masked.id and bare.recipe["reference"] == masked.recipe["reference"] == "photos"
    empty = method.learn(Subject("s", "mug", (photo, SCENE), (np.zeros((30, 50), bool), None)))
    assert np.array_equal(empty.tensors["prototype"], bare.tensors["prototype"]), "an empty mask says nothing"
    (answer,) = method.locate(SCENE, [Query("q", "s", "the {subject}")], {"s": masked})
    assert answer.mask is None and answer.presence < 1 and answer.score.shape == (52, 36)
    assert isinstance(method, GivesCandidates)
    scores = [each.score for each in method.candidates(SCENE, Subject("s", "mug", (photo,), (mask,)))]
    assert scores == sorted(scores, reverse=True)


def test_dinov3s_weights_that_cannot_be_had_are_one_line(dino: str, backbones: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((Path(dino) / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    for where, said in (
        ("/nowhere/at/all", "there is no such folder; give the folder or hub id of a DINOv3ViTModel"),
        (str(tmp_path), "holds only pickled weights"),
        (f"{backbones['embedded']}/text_encoder", "is of the class 'clip_text_model', not 'dinov3_vit'"),
    ):
        with pytest.raises(BackboneError, match=said) as caught:
            load_method("dinov3-features", MethodOptions(model=where))
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="side=8 makes no sense"):
        load_method("dinov3-features", MethodOptions(model=dino, settings={"side": 8}))
