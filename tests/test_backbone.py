"""Loading, prompts, photos to latents and back, noise: on a tiny pipeline of the real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import tiny
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from prisbench.diffusion.backbone import (
    Backbone,
    Geometry,
    add_noise,
    eager_attention,
    encode_image,
    encode_text,
    fit,
    has_embedded,
    load_backbone,
    load_pretrained,
    noise,
    to_photo,
)
from prisbench.diffusion.prompts import Words, compose
from prisbench.errors import BackboneError, DataError, UsageError

TOKENIZER = tiny.tokenizer()
MUG, THE, BOS, EOS = (
    TOKENIZER.convert_tokens_to_ids(t) for t in ("mug</w>", "the</w>", "<|startoftext|>", "<|endoftext|>")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(folder, tmp_path / "copy"))


def photo(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


# --- prompts --------------------------------------------------------------------------------------------------------


@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="{}"), max_size=30))
@settings(max_examples=200, deadline=None)
def test_a_prompt_has_the_ids_the_tokenizer_gives_the_whole_text(text: str) -> None:
    long = tiny.tokenizer(length=200)
    assert list(compose(long, text, {}).ids) == long(text, padding="max_length").input_ids


def test_learned_places_stand_before_the_noun_and_every_group_knows_its_positions() -> None:
    prompt = compose(TOKENIZER, "the {subject} left of the bowl", {"subject": Words("mug", vectors=2)}, "a {text}, mug")
    a, comma = TOKENIZER("a,", add_special_tokens=False).input_ids
    start = prompt.ids.index(THE)
    assert prompt.ids[: start + 4] == (BOS, a, THE, BOS, BOS, MUG)[: start + 4]
    assert prompt.learned == ((3, "subject", 0), (4, "subject", 1))
    assert prompt.groups["subject", "token"] == (3, 4)
    assert prompt.groups["subject", "noun"] == (5,)
    assert prompt.groups["subject", "subject"] == (3, 4, 5)
    bowl = prompt.ids.index(TOKENIZER.convert_tokens_to_ids("bowl</w>"))
    assert prompt.groups["subject", "phrase"] == (3, 4, 5, bowl), "no function words, nothing of the template"
    assert prompt.ids[bowl + 1 : bowl + 4] == (comma, MUG, EOS)
    assert len(prompt.ids) == 40


def test_the_same_word_outside_the_slot_is_not_the_subject() -> None:
    prompt = compose(TOKENIZER, "the mug by the {subject}, not the mug", {"subject": Words("mug", 1)})
    (noun,) = prompt.groups["subject", "noun"]
    assert [i for i, id in enumerate(prompt.ids) if id == MUG].index(noun) == 1


def test_a_noun_of_several_pieces_or_words_is_one_span() -> None:
    prompt = compose(TOKENIZER, "a {subject}'s lid", {"subject": Words("red pot")})
    assert prompt.groups["subject", "noun"] == tuple(range(2, 8))
    assert prompt.groups["subject", "token"] == prompt.groups["subject", "noun"], "without vectors: the noun"


def test_slots_that_are_prefixes_of_one_another_keep_apart() -> None:
    slots = {"subject": Words("mug", 1), "subject_1": Words("bowl", 2)}
    prompt = compose(TOKENIZER, "{subject_1} and {subject}", slots)
    assert prompt.groups["subject_1", "token"] == (1, 2)
    assert sorted(prompt.learned) == [(1, "subject_1", 0), (2, "subject_1", 1), (prompt.learned[0][0], "subject", 0)]
    assert prompt.groups["subject", "noun"] == (prompt.ids.index(MUG),)


def test_a_prompt_too_long_names_the_words_that_would_be_lost() -> None:
    with pytest.raises(UsageError, match="46 tokens long and this model reads 40: 'far away' would be lost"):
        compose(
            TOKENIZER, "the {subject} near some very very old grey elephants far far away", {"subject": Words("mug")}
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a mug", r"'a mug' must hold \{subject\} once, it holds it 0 times"),
        ("{subject} {subject}", r"must hold \{subject\} once, it holds it 2 times"),
        ("{subject} {thing}", r"unknown slot \{thing\} in .*; known: \{subject\}"),
    ],
)
def test_a_text_with_the_wrong_slots_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compose(TOKENIZER, text, {"subject": Words("mug")})


def test_a_noun_without_a_token_is_refused() -> None:
    with pytest.raises(UsageError, match="the noun '  ' is no word"):
        compose(TOKENIZER, "{subject}", {"subject": Words("  ", 1)})


def test_text_is_encoded_as_transformers_does(backbone: Backbone) -> None:
    ids = backbone.tokenizer("the bowl", padding="max_length", return_tensors="pt").input_ids
    ours = encode_text(backbone, [compose(backbone.tokenizer, "the bowl", {})])
    assert torch.equal(ours, backbone.text_encoder(ids)[0])


def test_a_learned_vector_equal_to_a_words_embedding_reads_as_that_word(backbone: Backbone) -> None:
    prompts = [compose(backbone.tokenizer, f"the {s} bowl", {}) for s in ("mug",)]
    learned = compose(backbone.tokenizer, "the {subject}", {"subject": Words("bowl", 1)})
    ours = encode_text(backbone, [learned], {"subject": backbone.token_table[[MUG]]})
    assert torch.equal(ours, encode_text(backbone, prompts))
    assert not torch.equal(ours, encode_text(backbone, [learned], {"subject": backbone.token_table[[THE]]}))


def test_gradients_reach_the_learned_vectors_and_nothing_stays_in_the_encoder(backbone: Backbone) -> None:
    before = {name: tensor.clone() for name, tensor in backbone.text_encoder.state_dict().items()}
    vectors = torch.zeros(1, 24, requires_grad=True)
    prompt = compose(backbone.tokenizer, "the {subject}", {"subject": Words("mug", 1)})
    encode_text(backbone, [prompt, prompt], {"subject": vectors}).square().sum().backward()
    assert vectors.grad is not None and vectors.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in backbone.text_encoder.parameters())
    with pytest.raises(IndexError):
        encode_text(backbone, [prompt], {"subject": vectors[:0]})
    assert not backbone.text_encoder.get_input_embeddings()._forward_hooks
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.text_encoder.state_dict().items())


# --- photos ---------------------------------------------------------------------------------------------------------


def test_a_native_photo_keeps_its_pixels_and_latents_are_the_posteriors_mode(backbone: Backbone) -> None:
    image = photo(112, 144)
    latents, geometry = encode_image(backbone, image)
    assert geometry == Geometry((112, 144), (112, 144), (112, 144))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = backbone.vae.encode(pixels).latent_dist.mean
    assert torch.equal(latents, mean * backbone.vae.config.scaling_factor)
    assert latents.shape == (1, 4, 28, 36)


@pytest.mark.parametrize(("h", "w"), [(100, 150), (333, 517), (517, 333), (60, 41), (64, 500)])
def test_any_shape_keeps_its_aspect_and_comes_back_to_its_own_frame(backbone: Backbone, h: int, w: int) -> None:
    latents, geometry = encode_image(backbone, photo(h, w))
    assert geometry.padded_hw == (latents.shape[2] * 4, latents.shape[3] * 4)
    assert all(n % 16 == 0 for n in geometry.padded_hw)
    assert geometry.resized_hw[0] / geometry.resized_hw[1] == pytest.approx(h / w, rel=0.03)
    assert 0.75 < geometry.resized_hw[0] * geometry.resized_hw[1] / backbone.native_area_px < 1.3
    grid = latents.shape[2] // 2, latents.shape[3] // 2
    rows, cols = geometry.valid_hw(grid)
    assert (rows - 1) * 8 < geometry.resized_hw[0] <= rows * 8 and (cols - 1) * 8 < geometry.resized_hw[1] <= cols * 8
    ramp = torch.arange(cols).float().expand(1, rows, cols)
    back = to_photo(ramp, grid, geometry)[0]
    assert back.shape == (h, w)
    assert back[:, -1].mean() == pytest.approx(geometry.resized_hw[1] / 8 - 0.5, abs=0.5), "no padding in the map"
    assert (back[:, 1:] >= back[:, :-1] - 1e-4).all(), "left stays left"


@pytest.mark.parametrize(
    ("hw", "long"), [((500, 500), 704), ((500, 650), 768), ((800, 500), 832), ((901, 500), 896), ((500, 1000), 960)]
)
def test_the_papers_long_side_follows_the_aspect(hw: tuple[int, int], long: int) -> None:
    geometry = fit(hw, "paper", 512 * 512, 64)
    assert max(geometry.resized_hw) == long
    assert all(padded - 64 < n <= padded for n, padded in zip(geometry.resized_hw, geometry.padded_hw, strict=True))


@pytest.mark.parametrize(("h", "w"), [(3, 4000), (15, 20), (100, 801)])
def test_a_photo_too_small_or_too_narrow_is_refused(backbone: Backbone, h: int, w: int) -> None:
    with pytest.raises(DataError, match=rf"a photo of {h} x {w} pixels .* cannot be used"):
        encode_image(backbone, photo(h, w))


# --- noise ----------------------------------------------------------------------------------------------------------


def test_noise_belongs_to_image_and_sample_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first = noise("a", 0, (4, 28, 36))
    torch.manual_seed(1)
    assert torch.equal(first, noise("a", 0, (4, 28, 36)))
    torch.set_rng_state(state)
    assert torch.equal(torch.get_rng_state(), state)
    for other in (noise("a", 1, (4, 28, 36)), noise("b", 0, (4, 28, 36))):
        assert (first * other).mean().abs() < 0.1
    assert abs(first.std() - 1) < 0.05


def test_noise_is_added_as_diffusers_adds_it(backbone: Backbone) -> None:
    latents, eps, t = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 6, 8), torch.tensor([150, 999])
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    ours = add_noise(backbone.alphas_cumprod, latents, eps, t)
    assert torch.allclose(ours, scheduler.add_noise(latents, eps, t), atol=1e-6)


# --- loading --------------------------------------------------------------------------------------------------------


def test_a_backbone_is_frozen_and_knows_its_numbers(backbone: Backbone) -> None:
    assert (backbone.vae_factor, backbone.stride, backbone.native_area_px) == (4, 16, 112 * 144)
    assert (backbone.family, backbone.prediction_type) == ("embedded", "epsilon")
    for model in (backbone.unet, backbone.vae, backbone.text_encoder):
        assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_the_id_follows_from_the_weights_alone(backbone: Backbone, copy: Path) -> None:
    assert load_backbone(copy).id == backbone.id.replace("tiny@", "copy@")
    weights = load_file(copy / "unet" / "diffusion_pytorch_model.safetensors")
    weights["conv_in.bias"] += 1
    save_file(weights, copy / "unet" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    assert load_backbone(copy).id.split("@")[1] != backbone.id.split("@")[1]


def test_half_precision_weights_load_into_single_precision(copy: Path) -> None:
    for part in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        path = copy / f"{part}.safetensors"
        save_file(
            {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()}, path, {"format": "pt"}
        )
    backbone = load_backbone(copy)
    for model in (backbone.unet, backbone.vae, backbone.text_encoder):
        assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_eager_attention_is_the_same_function_and_is_put_back(backbone: Backbone) -> None:
    before = dict(backbone.unet.attn_processors)
    inputs = torch.randn(2, 4, 28, 36), torch.tensor([10, 900]), torch.randn(2, 40, 24)
    with torch.no_grad():
        expected = backbone.unet(*inputs).sample
        with pytest.raises(KeyboardInterrupt), eager_attention(backbone):
            assert set(map(type, backbone.unet.attn_processors.values())) != set(map(type, before.values()))
            assert torch.allclose(backbone.unet(*inputs).sample, expected, atol=1e-4)
            raise KeyboardInterrupt
    assert all(backbone.unet.attn_processors[name] is processor for name, processor in before.items())


@pytest.mark.parametrize(
    ("where", "message"),
    [("./nowhere", "no such backbone folder: ./nowhere"), ("nowhere", "no such backbone folder: nowhere")],
)
def test_a_missing_folder_is_named(where: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(where)


def test_a_hub_model_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match=r"nobody/nothing is not a folder, and the hub does not give it") as caught:
        load_backbone("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="not a diffusers pipeline folder"):
        load_backbone(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(BackboneError, match="a FluxPipeline is not supported"):
        load_backbone(tmp_path)


def test_a_missing_part_pickles_damage_gaps_and_nan_are_each_one_line(copy: Path) -> None:
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)

    weights["conv_in.bias"][0] = torch.nan
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(BackboneError, match=r"copy: unet holds NaN or infinite weights \(conv_in.bias\)"):
        load_backbone(copy)

    del weights["conv_in.bias"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(BackboneError, match=r"copy: unet lacks 1 weights, first conv_in.bias"):
        load_backbone(copy)

    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="copy: unet cannot be loaded: ") as caught:
        load_backbone(copy)
    assert "\n" not in str(caught.value)

    path.rename(path.with_suffix(".bin"))
    with pytest.raises(BackboneError, match=r"unet holds only pickled weights \(diffusion_pytorch_model.bin\), never"):
        load_backbone(copy)

    shutil.rmtree(copy / "unet")
    with pytest.raises(BackboneError, match="copy: the pipeline has no unet folder"):
        load_backbone(copy)


def test_any_model_of_the_two_libraries_loads_under_the_same_rules(tmp_path: Path) -> None:
    tiny.text_encoder(len(TOKENIZER)).save_pretrained(tmp_path)
    assert isinstance(load_pretrained(CLIPTextModel, tmp_path), CLIPTextModel)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=rf"{tmp_path} holds only pickled weights \(pytorch_model.bin\)"):
        load_pretrained(CLIPTextModel, tmp_path)
    with pytest.raises(BackboneError, match="nowhere cannot be loaded: "):
        load_pretrained(CLIPTextModel, str(tmp_path / "nowhere"))


@pytest.mark.skipif(
    not has_embedded(), reason="the embedded backbone's weights are not in prisbench/diffusion/embedded"
)
def test_the_embedded_backbone_loads_and_is_small() -> None:
    backbone = load_backbone()
    assert backbone.id.startswith("embedded@") and backbone.family == "embedded"
    assert 15_000 < backbone.native_area_px < 17_000 and backbone.stride == 16
    parts = (backbone.unet, backbone.vae, backbone.text_encoder)
    assert sum(p.numel() for model in parts for p in model.parameters()) * 2 < 12e6
