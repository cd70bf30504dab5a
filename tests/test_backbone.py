"""Loading, prompts, photos to latents and back, noise: on a tiny pipeline of the real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import tiny
import torch
from diffusers import AutoencoderKL, DDPMScheduler, EDMEulerScheduler, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from prisbench.diffusion.architectures import ARCHITECTURES, FAMILIES, family
from prisbench.diffusion.attention import hop, record, transformer_blocks
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Geometry, encode_image, fit, to_photo
from prisbench.diffusion.loading import has_embedded, load_backbone, load_pretrained, random_backbone
from prisbench.diffusion.noise import add_noise, noise, training_target
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import Conditioning, condition, encode_text, learned_vectors
from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.speed.eager import _PlainWhereSmall, eager_attention

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


LONG = {padding: tiny.tokenizer(200, padding) for padding in ("<|endoftext|>", "!")}


@pytest.mark.parametrize("padding", LONG)
@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="{}"), max_size=30)
    | st.text("mug !'", max_size=30)
)
@settings(max_examples=150, deadline=None)
def test_a_prompt_has_the_ids_the_tokenizer_gives_the_whole_text(padding: str, text: str) -> None:
    long = LONG[padding]
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


# --- Stable Diffusion 1.x, 2.x and XL -------------------------------------------------------------------------------

GEOMETRY = Geometry((90, 150), (61, 101), (64, 128))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The pipeline folder of a kind, written when first asked for."""
    root = tmp_path_factory.mktemp("families")
    return lambda kind: root / kind if (root / kind).exists() else tiny.save(root / kind, kind=kind)


@pytest.fixture(scope="module")
def of(folders: Callable[[str], Path]) -> Callable[[str], Backbone]:
    """The backbone of a kind."""
    loaded: dict[str, Backbone] = {}
    return lambda kind: loaded.get(kind) or loaded.setdefault(kind, load_backbone(folders(kind)))


def run(backbone: Backbone, text: Conditioning, seed: int = 0, scale: float = 1.0) -> Tensor:
    """One pass of the U-Net at its own size."""
    h, w = backbone.unet.config["sample_size"]
    draw = torch.Generator().manual_seed(seed)
    latents = (torch.randn(len(text.states), 4, h, w, generator=draw) * scale).to(backbone.dtype)
    with torch.no_grad():
        return backbone.unet(
            latents, torch.tensor(150), encoder_hidden_states=text.states, added_cond_kwargs=text.added
        ).sample  # type: ignore[no-any-return]


def reading(backbone: Backbone, *texts: str, geometry: Geometry = GEOMETRY) -> Conditioning:
    with torch.no_grad():
        return condition(backbone, [compose(backbone.tokenizer, text, {}) for text in texts], None, geometry)


@pytest.mark.parametrize(
    ("kind", "numbers", "blocks", "some"),
    [
        ("sd1", ("sd", "epsilon", 8, 64, 64 * 128), 16, {"down.0.0", "mid.0", "up.1.0", "up.3.2"}),
        ("sd2", ("sd", "v_prediction", 8, 64, 64 * 128), 16, {"down.0.0", "mid.0", "up.1.0", "up.3.2"}),
        ("sdxl", ("sdxl", "epsilon", 8, 32, 96 * 128), 70, {"down.1.0.1", "down.2.1.9", "mid.0.9", "up.1.2.1"}),
    ],
)
def test_each_generation_loads_and_knows_its_numbers(
    of: Callable[[str], Backbone], kind: str, numbers: tuple[object, ...], blocks: int, some: set[str]
) -> None:
    b = of(kind)
    assert (b.family, b.prediction_type, b.vae_factor, b.stride, b.native_area_px) == numbers
    names = transformer_blocks(b.unet)
    assert len(names) == blocks and some <= set(names)
    for model in (b.unet, b.vae, b.text_encoder, b.text_encoder_2):
        assert model is None or not (model.training or any(p.requires_grad for p in model.parameters()))
    assert run(b, reading(b, "the mug")).isfinite().all()


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_conditioning_is_what_diffusers_own_pipeline_makes_of_the_text(
    of: Callable[[str], Backbone], kind: str
) -> None:
    """The same weights: the pipeline of a kind is drawn from the same seed."""
    pipeline, texts = tiny.KINDS[kind](), ["the mug by the bowl", ""]
    ours = reading(of(kind), *texts)
    with torch.no_grad():
        states, _, *pooled = pipeline.encode_prompt(
            texts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    assert torch.equal(ours.states, states)
    if kind != "sdxl":
        assert ours.added is None
        return
    assert ours.added is not None
    assert torch.equal(ours.added["text_embeds"], pooled[0])
    sizes = pipeline._get_add_time_ids((90, 150), (0, 0), (64, 128), torch.float32, text_encoder_projection_dim=20)
    assert torch.equal(ours.added["time_ids"], sizes.expand(2, -1))


@pytest.mark.parametrize(("kind", "padding"), [("sd1", 520), ("sd2", 0)])
def test_a_prompt_is_padded_as_the_tokenizer_pads(of: Callable[[str], Backbone], kind: str, padding: int) -> None:
    ids = compose(of(kind).tokenizer, "the mug", {}).ids
    assert ids == (BOS, THE, MUG, EOS, *(padding,) * 36)


def test_the_second_encoder_reads_the_same_tokens_with_its_own_padding(of: Callable[[str], Backbone]) -> None:
    seen: list[Tensor] = []
    backbone = of("sdxl")
    handle = backbone.text_encoder_2.get_input_embeddings().register_forward_pre_hook(
        lambda _, ids: seen.append(ids[0])
    )
    full = "the mug " * 19
    try:
        reading(backbone, "the mug!", full, "")
    finally:
        handle.remove()
    mark = TOKENIZER("!", add_special_tokens=False).input_ids[0]
    assert seen[0].tolist() == [
        [BOS, THE, MUG, mark, EOS, *[0] * 35],
        [BOS, *[THE, MUG] * 19, EOS],
        [BOS, EOS, *[0] * 38],
    ]


def test_vectors_equal_to_words_embeddings_read_as_those_words_in_both_encoders(of: Callable[[str], Backbone]) -> None:
    backbone = of("sdxl")
    prompt = compose(backbone.tokenizer, "the {subject}", {"subject": Words("bowl", 2)})
    vectors = {name: table[[MUG, THE]] for name, table in backbone.token_tables.items()}
    assert {name: tuple(v.shape) for name, v in vectors.items()} == {"vectors": (2, 24), "vectors_2": (2, 32)}
    with torch.no_grad():
        ours = condition(backbone, [prompt], {"subject": vectors}, GEOMETRY)
        other = condition(backbone, [prompt], {"subject": vectors | {"vectors_2": 0 * vectors["vectors_2"]}}, GEOMETRY)
    plain = reading(backbone, "the mug the bowl")
    assert ours.added is not None and plain.added is not None and other.added is not None
    assert torch.equal(ours.states, plain.states) and torch.equal(ours.added["text_embeds"], plain.added["text_embeds"])
    assert torch.equal(other.states[..., :24], plain.states[..., :24]), "the first encoder read its own vectors"
    assert not torch.equal(other.states[..., 24:], plain.states[..., 24:])
    assert not torch.equal(other.added["text_embeds"], plain.added["text_embeds"])


def test_gradients_reach_the_vectors_of_both_encoders(of: Callable[[str], Backbone]) -> None:
    backbone = of("sdxl")
    vectors = {
        name: torch.zeros(1, table.shape[1], requires_grad=True) for name, table in backbone.token_tables.items()
    }
    prompt = compose(backbone.tokenizer, "the {subject}", {"subject": Words("mug", 1)})
    text = condition(backbone, [prompt, prompt], {"subject": vectors}, GEOMETRY)
    text.states.square().sum().backward()
    for encoder, tensor in zip((backbone.text_encoder, backbone.text_encoder_2), vectors.values(), strict=True):
        assert tensor.grad is not None and tensor.grad.abs().min() > 0
        assert not encoder.get_input_embeddings()._forward_hooks
        assert all(parameter.grad is None for parameter in encoder.parameters())


def test_rows_of_a_conditioning_may_come_again_in_any_order(of: Callable[[str], Backbone]) -> None:
    for kind in ("sd1", "sdxl"):
        text = reading(of(kind), "the mug", "the bowl")
        rows = text.rows([1, 1, 0])
        assert torch.equal(rows.states, text.states[[1, 1, 0]]) and (rows.added is None) == (kind == "sd1")
        for name, tensor in (rows.added or {}).items():
            assert text.added is not None and torch.equal(tensor, text.added[name][torch.tensor([1, 1, 0])])
        assert run(of(kind), rows).shape[0] == 3


def test_the_photos_size_and_the_pooled_text_reach_the_network(of: Callable[[str], Backbone]) -> None:
    backbone = of("sdxl")
    text = reading(backbone, "the mug")
    assert text.added is not None
    small = reading(backbone, "the mug", geometry=Geometry((45, 75), (61, 101), (64, 128)))
    mute = text._replace(added={**text.added, "text_embeds": 0 * text.added["text_embeds"]})
    for other in (small, mute):
        assert torch.equal(other.states, text.states)
        assert not torch.allclose(run(backbone, text), run(backbone, other))


def test_one_encoder_reads_by_either_name_and_two_only_by_conditioning(of: Callable[[str], Backbone]) -> None:
    for kind in ("sd1", "sd2"):
        backbone = of(kind)
        prompt = compose(backbone.tokenizer, "the {subject}", {"subject": Words("mug", 1)})
        vector = backbone.token_table[[THE]]
        ours = condition(backbone, [prompt], {"subject": {"vectors": vector}}, GEOMETRY)
        assert torch.equal(ours.states, encode_text(backbone, [prompt], {"subject": vector}))
    with pytest.raises(BackboneError, match=r"sdxl@\w+ reads text through two encoders"):
        encode_text(of("sdxl"), [compose(TOKENIZER, "the mug", {})])


def test_a_concepts_vectors_must_fit_the_encoders(of: Callable[[str], Backbone]) -> None:
    one, two = np.ones((2, 24), np.float32), np.ones((2, 32), np.float32)
    assert [v.shape for v in learned_vectors(of("sd1"), {"vectors": one}, "c").values()] == [(2, 24)]
    assert [v.shape for v in learned_vectors(of("sdxl"), {}, "c").values()] == [(0, 24), (0, 32)]
    both = learned_vectors(of("sdxl"), {"vectors": one, "vectors_2": two}, "c")
    assert [(name, v.shape) for name, v in both.items()] == [("vectors", (2, 24)), ("vectors_2", (2, 32))]
    with pytest.raises(BackboneError, match=r"concept c: vectors of shape \(2, 32\) do not fit sd1@"):
        learned_vectors(of("sd1"), {"vectors": two}, "c")
    with pytest.raises(BackboneError, match="concept c has 0 and 2 vectors for the two text encoders of sdxl@"):
        learned_vectors(of("sdxl"), {"vectors": one}, "c")


@pytest.mark.parametrize(
    ("kind", "block"),
    [("sd1", "up.3.2"), ("sd2", "down.2.0"), ("sd2", "mid.0"), ("sdxl", "down.1.0.1"), ("sdxl", "mid.0.9")],
)
def test_attention_is_recorded_as_diffusers_computes_it(of: Callable[[str], Backbone], kind: str, block: str) -> None:
    backbone = of(kind)
    text = reading(backbone, "the mug by the bowl", "the bowl")
    length = text.states.shape[1]
    with record(backbone.unet, torch.eye(length)[None], cross=[block], self_=[block]) as seen:
        run(backbone, text)
    attention = seen.self_attention[block]
    n = attention.queries.shape[2]
    assert attention.grid_hw[0] * attention.grid_hw[1] == n
    recorded = {
        "attn1": hop(attention, torch.eye(n).expand(2, -1, -1)),
        "attn2": seen.cross[block].reshape(2, length, n).transpose(1, 2),
    }
    for name, ours in recorded.items():
        theirs = dense_attention(backbone, block, name, text)
        assert (theirs.amax(-1) > 1.5 / theirs.shape[-1]).any(), "not flat"
        assert torch.allclose(ours, theirs, atol=1e-5)


def dense_attention(backbone: Backbone, block: str, layer: str, text: Conditioning) -> Tensor:
    """Attention of one layer by diffusers' eager processor, mean over heads: batch x queries x keys."""
    attention, kept = getattr(transformer_blocks(backbone.unet)[block].module, layer), []
    plain = attention.get_attention_scores
    attention.get_attention_scores = lambda *args: kept.append(plain(*args)) or kept[-1]
    try:
        with eager_attention(backbone):
            run(backbone, text)
    finally:
        del attention.get_attention_scores
    return kept[0].unflatten(0, (len(text.states), -1)).mean(1)


# --- half precision -------------------------------------------------------------------------------------------------


def test_upcast_attention_is_honoured_where_half_precision_would_overflow(
    folders: Callable[[str], Path], of: Callable[[str], Backbone]
) -> None:
    backbone = load_backbone(folders("sd2"), dtype=torch.float16)
    layers = [layer for b in transformer_blocks(backbone.unet).values() for layer in (b.module.attn1, b.module.attn2)]
    assert all(layer.upcast_attention for layer in layers)
    assert not any(b.module.attn1.upcast_attention for b in transformer_blocks(of("sd1").unet).values())
    with torch.no_grad():
        for layer in layers:
            for projection in (layer.to_q, layer.to_k):
                projection.weight *= 300
    text = reading(backbone, "the mug", "the bowl")
    names = ["down.0.0", "mid.0", "up.3.0"]
    columns = torch.eye(text.states.shape[1])[None]
    for name in names:
        with record(backbone.unet, columns, cross=[name], self_=[name]) as seen:
            run(backbone, text)
        attention = seen.self_attention[name]
        assert attention.queries.dtype == torch.float32
        logits = attention.queries @ attention.keys.transpose(-1, -2) * attention.scale
        cells = hop(attention, torch.eye(logits.shape[-1]).expand(2, -1, -1))
        assert torch.allclose(cells, logits.softmax(-1).mean(1), atol=1e-5)
        assert torch.allclose(seen.cross[name].sum(-3), torch.ones(()), atol=1e-3), "probabilities, none of them NaN"
    assert logits.abs().max() > 65504, "beyond fp16"
    assert run(backbone, text).isfinite().all()
    with eager_attention(backbone):
        assert run(backbone, text).isfinite().all()


def test_half_precision_keeps_the_autoencoder_of_sdxl_in_single(
    folders: Callable[[str], Path], of: Callable[[str], Backbone]
) -> None:
    dtype = torch.float16
    half, single, image = load_backbone(folders("sdxl"), dtype=dtype), of("sdxl"), photo(90, 140)
    dtypes = [{p.dtype for p in m.parameters()} for m in (half.vae, half.unet, half.text_encoder, half.text_encoder_2)]
    assert dtypes == [{torch.float32}, {dtype}, {dtype}, {dtype}]
    assert torch.equal(encode_image(half, image).latents, encode_image(single, image).latents.to(dtype))
    text = reading(half, "the mug")
    assert text.states.dtype == dtype and text.added is not None and text.added["time_ids"].dtype == torch.float32
    ours, theirs = run(half, text), run(single, reading(single, "the mug"))
    assert ours.dtype == dtype and (ours - theirs).abs().max() < 0.15 * theirs.abs().max()


def test_half_precision_of_the_others_holds_for_all_parts(folders: Callable[[str], Path]) -> None:
    backbone = load_backbone(folders("sd1"), dtype=torch.bfloat16)
    for model in (backbone.vae, backbone.unet, backbone.text_encoder):
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert encode_image(backbone, photo(64, 120)).latents.dtype == torch.bfloat16


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


def test_little_noise_is_not_lost_in_half_precision(backbone: Backbone) -> None:
    latents, eps, t = torch.randn(2, 4, 6, 8).bfloat16(), torch.randn(2, 4, 6, 8), torch.tensor([0, 20])
    ours = add_noise(backbone.alphas_cumprod, latents, eps, t)
    assert torch.equal(ours, add_noise(backbone.alphas_cumprod, latents.float(), eps, t).bfloat16())
    assert (ours - latents).abs().max() > 0.02


def test_the_training_target_is_noise_or_velocity_as_diffusers_has_it(of: Callable[[str], Backbone]) -> None:
    latents, eps, t = torch.randn(2, 4, 6, 8), torch.randn(2, 4, 6, 8), torch.tensor([150, 999])
    assert torch.equal(training_target(of("sd1"), latents, eps, t), eps)
    scheduler = DDPMScheduler(**tiny.BETAS)
    velocity = scheduler.get_velocity(latents, eps, t)
    assert torch.allclose(training_target(of("sd2"), latents, eps, t), velocity, atol=1e-6)
    assert torch.allclose(training_target(of("sd2"), latents[:1], eps, t)[:1], velocity[:1], atol=1e-6), "one photo"


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


def test_attention_whose_matrix_would_fill_the_memory_stays_fused(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents, text = torch.randn(1, 4, 14, 18), torch.randn(1, 7, backbone.unet.config["cross_attention_dim"])
    called: list[tuple[str, int]] = []
    for name in ("plain", "fused"):
        real = getattr(_PlainWhereSmall, name)

        def told(attn: Any, states: Tensor, *args: Any, name: str = name, real: Any = real, **kwargs: Any) -> Tensor:
            called.append((name, states.shape[1]))
            result: Tensor = real(attn, states, *args, **kwargs)
            return result

        monkeypatch.setattr(_PlainWhereSmall, name, staticmethod(told))
    monkeypatch.setattr("prisbench.speed.eager.PLAIN_CELLS", 7 * 9 * 10)
    with torch.no_grad(), eager_attention(backbone):
        backbone.unet(latents, torch.tensor([1]), encoder_hidden_states=text)
    assert {name for name, cells in called if cells == 7 * 9} == {"plain", "fused"}, (
        "to 7 words plainly, to cells fused"
    )
    assert {name for name, cells in called if cells < 25} == {"plain"}


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
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "SanaPipeline"}))
    with pytest.raises(BackboneError, match="a SanaPipeline is not supported"):
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


def test_a_folder_as_older_libraries_wrote_it_is_the_same_backbone(
    folders: Callable[[str], Path], of: Callable[[str], Backbone], tmp_path: Path
) -> None:
    folder = tiny.as_older_libraries_wrote_it(Path(shutil.copytree(folders("sdxl"), tmp_path / "old")))
    old, new = load_backbone(folder), of("sdxl")
    assert old.tokenizer.model_max_length == 40, "what the text encoder reads, not what the tokenizer says"
    ours, theirs = reading(old, "the mug, a bowl"), reading(new, "the mug, a bowl")
    assert ours.added is not None and theirs.added is not None
    for a, b in (
        (ours.states, theirs.states),
        (ours.added["text_embeds"], theirs.added["text_embeds"]),
        (encode_image(old, photo(60, 120)).latents, encode_image(new, photo(60, 120)).latents),
    ):
        assert torch.allclose(a, b, atol=1e-5), "but for the last bit, which follows from where a file's bytes lie"


def test_the_family_follows_from_the_blocks_not_from_sizes(of: Callable[[str], Backbone], backbone: Backbone) -> None:
    mine, sd, xl = (dict(b.unet.config) for b in (backbone, of("sd2"), of("sdxl")))
    assert [family(config) for config in (mine, sd, xl)] == list(FAMILIES)
    assert family(mine | {"block_out_channels": (32, 64, 128), "attention_head_dim": [1, 2, 4]}) == "embedded"
    assert family(sd | {"layers_per_block": [2, 2, 2, 2], "down_block_types": list(sd["down_block_types"])}) == "sd"
    for other in (
        mine | {"only_cross_attention": False},
        mine | {"layers_per_block": 2},
        sd | {"layers_per_block": 1},
        sd | {"mid_block_type": None},
        xl | {"transformer_layers_per_block": [0, 2, 4]},
        xl | {"reverse_transformer_layers_per_block": [4, 2, 1]},
    ):
        assert family(other) == "other"


def test_a_backbone_of_another_layout_loads_as_other(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders("sd1"), tmp_path / "distilled"))
    tiny.unet(sample_size=(8, 16), **tiny.SD_LAYOUT | {"layers_per_block": 1}).save_pretrained(folder / "unet")
    assert load_backbone(folder).family == "other"


def test_the_id_covers_the_second_text_encoder(
    folders: Callable[[str], Path], of: Callable[[str], Backbone], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders("sdxl"), tmp_path / "sdxl"))
    weights = load_file(folder / "text_encoder_2" / "model.safetensors")
    weights["text_projection.weight"] += 1
    save_file(weights, folder / "text_encoder_2" / "model.safetensors", {"format": "pt"})
    assert load_backbone(folder).id != of("sdxl").id


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def break_tokenizer(folder: Path) -> None:
    other = tiny.tokenizer(padding="!")
    other.add_tokens(["<new>"])
    other.save_pretrained(folder / "tokenizer_2")


@pytest.mark.parametrize(
    ("kind", "harm", "message"),
    [
        ("sdxl", lambda f: shutil.rmtree(f / "text_encoder_2"), "the pipeline has no text_encoder_2 folder"),
        ("sdxl", lambda f: shutil.rmtree(f / "tokenizer_2"), "the pipeline has no tokenizer_2 folder"),
        ("sdxl", break_tokenizer, "its two tokenizers have different vocabularies"),
        (
            "sdxl",
            lambda f: tiny.sdxl_unet(projection_class_embeddings_input_dim=60).save_pretrained(f / "unet"),
            "the U-Net adds 60 numbers to its timestep, pooled text and sizes are 68; give SDXL's base model",
        ),
        (
            "sd1",
            lambda f: rewrite(f / "model_index.json", _class_name="StableDiffusionInpaintPipeline"),
            "a StableDiffusionInpaintPipeline is not supported; give a StableDiffusionPipeline .* or a StableDiff",
        ),
        (
            "sd1",
            lambda f: tiny.unet(in_channels=9, **tiny.SD_LAYOUT).save_pretrained(f / "unet"),
            "the U-Net reads 9 channels and the autoencoder makes 4; models for inpainting",
        ),
        (
            "sd1",
            lambda f: tiny.unet(cross_attention_dim=32, **tiny.SD_LAYOUT).save_pretrained(f / "unet"),
            "the U-Net reads text of width 32, its text encoders write 24",
        ),
        (
            "sd1",
            lambda f: rewrite(f / "vae" / "config.json", latents_mean=[0.0] * 4),
            "an autoencoder with latents_mean is not supported",
        ),
        (
            "sd1",
            lambda f: EDMEulerScheduler().save_pretrained(f / "scheduler"),
            r"the noise of its scheduler \(EDMEulerScheduler, prediction_type 'epsilon'\) is not supported",
        ),
        (
            "sd1",
            lambda f: rewrite(f / "scheduler" / "scheduler_config.json", prediction_type="sample"),
            r"the noise of its scheduler \(PNDMScheduler, prediction_type 'sample'\) is not supported",
        ),
    ],
)
def test_parts_that_do_not_belong_together_are_each_one_line(
    folders: Callable[[str], Path], tmp_path: Path, kind: str, harm: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(folders(kind), tmp_path / "harmed"))
    harm(folder)
    with pytest.raises(BackboneError, match=f"^harmed: {message}") as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)


# --- random weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "unet", "vae", "text"),
    [
        ("sd15-random", 859_520_964, 83_653_863, [123_060_480]),
        ("sd21-random", 865_910_724, 83_653_863, [340_387_840]),
        ("sdxl-random", 2_567_463_684, 83_653_863, [123_060_480, 694_659_840]),
    ],
)
def test_an_architecture_has_as_many_weights_as_the_published_model(
    name: str, unet: int, vae: int, text: list[int]
) -> None:
    """Counted without memory; the text encoders with CLIP's own vocabulary."""
    numbers, kinds = ARCHITECTURES[name], (CLIPTextModel, CLIPTextModelWithProjection)
    with torch.device("meta"):
        encoders = [
            kind(CLIPTextConfig(vocab_size=49408, **text)) for kind, text in zip(kinds, numbers.text, strict=False)
        ]
        models = [UNet2DConditionModel(**numbers.unet), AutoencoderKL(**numbers.vae), *encoders]
    assert [sum(p.numel() for p in model.parameters()) for model in models] == [unet, vae, *text]
    assert family(models[0].config) == ("sdxl" if name == "sdxl-random" else "sd")
    assert len(numbers.paddings) == len(numbers.text)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Architectures made thin enough to be built; everything else about them stays."""
    names = {}
    for name in ("sd15-random", "sd21-random", "sdxl-random"):
        whole = ARCHITECTURES[name]
        text = tuple(
            {**each, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2}
            for each in whole.text
        )
        levels = len(whole.unet["block_out_channels"])
        unet: dict[str, Any] = {
            **whole.unet,
            "block_out_channels": (8,) * levels,
            "attention_head_dim": 2,
            "norm_num_groups": 4,
            "cross_attention_dim": 8 * len(text),
            "sample_size": (8, 16),
        }
        vae = {**whole.vae, "block_out_channels": (4,) * 4, "norm_num_groups": 4}
        monkeypatch.setitem(ARCHITECTURES, f"small-{name}", whole._replace(unet=unet, vae=vae, text=text))
        names[name] = f"small-{name}"
    return names


needs_tokenizer = pytest.mark.skipif(not has_embedded(), reason="the tokenizer comes with the embedded backbone")


@needs_tokenizer
@pytest.mark.parametrize(
    ("name", "numbers", "paddings"),
    [
        ("sd15-random", ("sd", "epsilon", torch.bfloat16), ("<|endoftext|>",)),
        ("sd21-random", ("sd", "v_prediction", torch.bfloat16), ("!",)),
        ("sdxl-random", ("sdxl", "epsilon", torch.float32), ("<|endoftext|>", "!")),
    ],
)
def test_random_weights_make_a_whole_backbone(
    small: dict[str, str], name: str, numbers: tuple[object, ...], paddings: tuple[str, ...]
) -> None:
    state = torch.get_rng_state()
    backbone = load_backbone(small[name], dtype=torch.bfloat16)
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.id == f"{small[name]}@seed-0"
    assert (backbone.family, backbone.prediction_type, backbone.vae.dtype) == numbers
    assert {p.dtype for p in backbone.unet.parameters()} == {torch.bfloat16}
    tokenizers = [tokenizer for tokenizer in (backbone.tokenizer, backbone.tokenizer_2) if tokenizer]
    assert tuple(tokenizer.pad_token for tokenizer in tokenizers) == paddings
    text = reading(backbone, "the mug")
    assert text.states.shape == (1, 77, backbone.unet.config["cross_attention_dim"])
    assert run(backbone, text).isfinite().all()
    assert encode_image(backbone, photo(64, 128), 64).latents.isfinite().all()


@needs_tokenizer
def test_random_weights_follow_from_the_seed_and_half_precision_rounds_them(small: dict[str, str]) -> None:
    name = small["sd15-random"]
    backbone, again, other = (random_backbone(name, seed) for seed in (0, 0, 1))
    half = random_backbone(name, dtype=torch.bfloat16)
    for part in ("unet", "vae", "text_encoder"):
        weights = getattr(backbone, part).state_dict()
        assert all(torch.equal(weights[k], v) for k, v in getattr(again, part).state_dict().items())
        assert any(not torch.equal(weights[k], v) for k, v in getattr(other, part).state_dict().items())
        assert all(torch.equal(weights[k].bfloat16(), v) for k, v in getattr(half, part).state_dict().items())
        assert not any(p.requires_grad for p in getattr(backbone, part).parameters())


def test_an_unknown_architecture_offers_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown random backbone 'sd15': did you mean 'sd15-random'"):
        random_backbone("sd15")
    with pytest.raises(BackboneError, match="with random weights there are sd15-random, sd21-random, sdxl-random"):
        load_backbone("sd15")


@pytest.mark.skipif(not has_embedded(), reason="the embedded backbone's weights are not in prisbench/embedded/weights")
def test_the_embedded_backbone_loads_and_is_small() -> None:
    backbone = load_backbone()
    assert backbone.id.startswith("embedded@") and backbone.family == "embedded"
    assert 15_000 < backbone.native_area_px < 17_000 and backbone.stride == 16
    parts = (backbone.unet, backbone.vae, backbone.text_encoder)
    assert sum(p.numel() for model in parts for p in model.parameters()) * 2 < 12e6


def test_gradients_of_a_text_heard_often_are_summed_in_order_whatever_the_cores_do() -> None:
    draw = torch.Generator().manual_seed(0)
    text = torch.randn(3, 77, 768, generator=draw).requires_grad_()
    which = torch.tensor([0, 1, 1, 0, 2, 0, 0, 1])
    given = torch.randn(8, 77, 768, generator=draw)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        sums = [torch.autograd.grad(Conditioning(text, None).rows(which).states, text, given)[0] for _ in range(10)]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(sums[0], other) for other in sums[1:])
    torch.testing.assert_close(sums[0], torch.zeros_like(text).index_add(0, which, given))
    heard = Conditioning(text, {"sizes": text[:, 0]}).rows(which)
    assert torch.equal(heard.states, text[which]) and heard.added is not None
    assert torch.equal(heard.added["sizes"], text[which, 0])
