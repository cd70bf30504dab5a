"""The recorder of transformers against attention that is written out: every matrix of every kind of block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny_transformers
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor

from prisbench.diffusion.attention import hop
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Encoded, encode_image, scaled, unscaled
from prisbench.diffusion.joint import How, Wanted, blocks_of, recorder
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import Conditioning, condition
from prisbench.diffusion.transformer import Streams
from prisbench.errors import BackboneError, UnknownNameError, UsageError
from prisbench.localizer.attend import Reading, attend

JOINT = ("sd3", "sd35", "sd3-without-t5", "flux-schnell", "flux-dev", "klein")
KINDS = (*JOINT, "pixart-alpha", "pixart-sigma")
CHOSEN = {
    "sd3": ("joint.0", "joint.9", "joint.23"),
    "flux": ("double.0", "double.15", "single.3"),
    "klein": ("double.3", "single.0", "single.19"),
    "pixart": ("block.0", "block.13"),
}
PHOTOS = ((64, 112), (144, 96))
T = 600


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tiny_transformers.folders_in(tmp_path_factory.mktemp("transformers"))


@pytest.fixture(scope="session")
def backbones(folders: Callable[[str], Path]) -> Callable[[str], Backbone]:
    return tiny_transformers.backbones_in(folders)


class Seen(NamedTuple):
    """One attention, written out: scores before softmax, and what each row was given, per head."""

    scores: Tensor
    given: Tensor


class Plain:
    """Attention by matrices, for every kind of block; ``hidden`` says which rows must not see which."""

    def __init__(self, heads: int, joint_order: str) -> None:
        self.heads, self.order = heads, joint_order
        self.seen: list[Seen] = []
        self.hidden: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        **_: Any,
    ) -> Any:
        mlp = None
        if isinstance(attention_mask, tuple):  # a parallel block has no other rows, and so one argument less
            encoder_hidden_states, attention_mask, image_rotary_emb = None, encoder_hidden_states, attention_mask
        if hasattr(attn, "to_qkv_mlp_proj"):
            every = attn.to_qkv_mlp_proj(hidden_states)
            q, k, v, mlp = every.split([attn.inner_dim] * 3 + [every.shape[-1] - 3 * attn.inner_dim], -1)
        else:
            cross = encoder_hidden_states is not None and getattr(attn, "add_q_proj", None) is None
            source = encoder_hidden_states if cross else hidden_states
            q, k, v = attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source)
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in (q, k, v))
        q = q if attn.norm_q is None else attn.norm_q(q)
        k = k if attn.norm_k is None else attn.norm_k(k)
        added = encoder_hidden_states is not None and getattr(attn, "add_q_proj", None) is not None
        if added:
            layers = (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
            aq, ak, av = (f(encoder_hidden_states).unflatten(-1, (self.heads, -1)) for f in layers)
            aq = aq if attn.norm_added_q is None else attn.norm_added_q(aq)
            ak = ak if attn.norm_added_k is None else attn.norm_added_k(ak)
            pairs = ((q, aq), (k, ak), (v, av))
            first = self.order == "image, text"
            q, k, v = (torch.cat(pair if first else pair[::-1], 1) for pair in pairs)
        if image_rotary_emb is not None:
            q, k = (rotated(x, *image_rotary_emb) for x in (q, k))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if attention_mask is not None:
            scores = scores + attention_mask.view(len(scores), 1, -1, scores.shape[-1])[:, :, :1]
        hides = self.hidden is not None and self.hidden.shape == scores.shape[-2:]
        allowed = scores.masked_fill(self.hidden, -torch.inf) if hides else scores
        given = allowed.softmax(-1) @ v
        self.seen.append(Seen(scores, given))
        out = given.transpose(1, 2).flatten(2)
        if mlp is not None:
            return attn.to_out(torch.cat([out, attn.mlp_act_fn(mlp)], -1))
        if added:
            sizes = [hidden_states.shape[1], encoder_hidden_states.shape[1]]
            parts = out.split(sizes if self.order == "image, text" else sizes[::-1], 1)
            image, text = parts if self.order == "image, text" else parts[::-1]
            text = text if getattr(attn, "context_pre_only", None) is True else attn.to_add_out(text)
            return attn.to_out[1](attn.to_out[0](image)), text
        return out if getattr(attn, "pre_only", False) is True else attn.to_out[1](attn.to_out[0](out))


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of numbers turned by the angle of their row."""
    a, b = x[..., 0::2], x[..., 1::2]
    c, s = cos[:, None, 0::2], sin[:, None, 0::2]
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def photo(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def noisy(backbone: Backbone, size: tuple[int, int]) -> Tensor:
    encoded = encode_image(backbone, photo(*size), 128)
    draw = torch.Generator().manual_seed(3)
    return 0.6 * torch.randn(encoded.latents.shape, generator=draw) + 0.4 * encoded.latents


def text_of(backbone: Backbone, text: str, encoded: Encoded) -> tuple[Any, Conditioning]:
    prompt = compose(backbone.tokenizer, text, {"subject": Words("mug")})
    return prompt, condition(backbone, [prompt], None, encoded.geometry)


def columns_of(backbone: Backbone, prompt: Any, length: int) -> Tensor:
    weights = torch.zeros(1, length, 2)
    noun, content = prompt.groups["subject", "noun"], prompt.groups["subject", "content"]
    weights[0, list(noun), 0] = 1 / len(noun)
    weights[0, list(content), 1] = 1
    return weights


def written_out(backbone: Backbone, call: Callable[[], Any], hidden: Tensor | None = None) -> dict[str, list[Seen]]:
    """Every attention of a call, by block, in the order of their layers."""
    network: Any = backbone.unet
    plain = Plain(network.model.config["num_attention_heads"], network.sequence.order)
    plain.hidden = hidden
    at: dict[str, list[Seen]] = {name: [] for name in blocks_of(network)}
    modules = dict(network.model.named_modules())
    changed, handles = {}, []
    for layer in modules.values():
        if hasattr(layer, "processor"):
            changed[layer] = layer.processor
            layer.processor = plain
    for name, block in blocks_of(network).items():

        def left(*_: Any, name: str = name) -> None:
            at[name] += plain.seen
            plain.seen.clear()

        handles.append(block.module.register_forward_hook(left))
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
        for layer, processor in changed.items():
            layer.processor = processor
    return at


def parts(backbone: Backbone, scores: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The image's rows, with the keys of the image first and the text's behind; the text's rows alike."""
    image_first = backbone.unet.sequence.order == "image, text"
    n = scores.shape[-1]
    image = range(cells) if image_first else range(n - cells, n)
    text = range(cells, n) if image_first else range(n - cells)
    order = [*image, *text]
    return scores[..., image, :][..., order], scores[..., text, :][..., order]


def call_of(backbone: Backbone, latents: Tensor, text: Conditioning) -> Callable[[], Any]:
    return lambda: backbone.unet(
        latents, torch.tensor([T]), encoder_hidden_states=text.states, added_cond_kwargs=text.added
    )


def recorded(
    backbone: Backbone,
    latents: Tensor,
    text: Conditioning,
    columns: Tensor,
    how: How | None = None,
    streams: Any = None,
) -> Any:
    names = CHOSEN["pixart" if backbone.family == "pixart" else backbone.family]
    with torch.no_grad(), recorder(backbone.unet, columns, Wanted(names, names), streams, how or How()) as seen:
        call_of(backbone, latents, text)()
    return seen


class Asked(NamedTuple):
    """A backbone asked about a photo: latents, the prompt, what it conditions, columns of its words, image rows."""

    latents: Tensor
    prompt: Any
    text: Conditioning
    columns: Tensor
    grid_hw: tuple[int, int]


def asked(backbone: Backbone, size_hw: tuple[int, int]) -> Asked:
    encoded, latents = encode_image(backbone, photo(*size_hw), 128), noisy(backbone, size_hw)
    prompt, text = text_of(backbone, "a photo of the {subject}", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])
    return Asked(latents, prompt, text, columns, backbone.unet.tokens(tuple(latents.shape[-2:])))


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_as_the_pipeline_of_diffusers_reads_them(kind: str, backbones: Any, folders: Any) -> None:
    backbone, pipe = backbones(kind), tiny_transformers.load(folders(kind), kind)
    said = "A photo of the mug, by the bowl."
    encoded = encode_image(backbone, photo(64, 112), 128)
    prompt, text = text_of(backbone, said.replace("mug", "{subject}"), encoded)
    if kind.startswith("sd3"):
        states, _, pooled, _ = pipe.encode_prompt(said, said, said, do_classifier_free_guidance=False)
    elif kind.startswith("flux"):
        length = 512 if kind == "flux-dev" else 256
        states, pooled, _ = pipe.encode_prompt(said, said, max_sequence_length=length)
    elif kind == "klein":
        states, pooled = pipe.encode_prompt(said)[0], None
    else:
        length = 120 if kind == "pixart-alpha" else 300
        made = pipe.encode_prompt(said, do_classifier_free_guidance=False, max_sequence_length=length)
        states, pooled = made[0], None
        assert torch.equal(text.added["mask"], made[1])
    if kind == "sd3" or kind == "sd35":  # CLIP's tokenizer splits punctuation off, the words stay
        assert states.shape == text.states.shape
    # Sums over 512 tokens differ by some 1e-5 between processors.
    torch.testing.assert_close(text.states, states, atol=1e-4, rtol=1e-4)
    if pooled is not None:
        torch.testing.assert_close(text.added["pooled"], pooled, atol=1e-4, rtol=1e-4)
    noun = prompt.groups["subject", "noun"]
    spelled = [pipe_token for i in noun for pipe_token in [prompt.ids[i]]]
    assert len(set(spelled)) <= 2, "mug is one token of each reader"


@pytest.mark.parametrize("size", PHOTOS)
@pytest.mark.parametrize("kind", KINDS)
def test_recorded_attention_is_the_matrix_written_out(kind: str, size: tuple[int, int], backbones: Any) -> None:
    backbone = backbones(kind)
    encoded = encode_image(backbone, photo(*size), 128)
    latents = noisy(backbone, size)
    prompt, text = text_of(backbone, "a photo of the {subject} by the bowl", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])
    h, w = backbone.unet.tokens(tuple(latents.shape[-2:]))
    assert (h, w) == tuple(side // backbone.stride for side in encoded.geometry.padded_hw) and h != w
    seen = recorded(backbone, latents, text, columns)
    plain = written_out(backbone, call_of(backbone, latents, text))
    for name, maps in seen.cross.items():
        assert maps.shape == (1, 1, 2, h, w)
        if backbone.family == "pixart":
            of_image, cross = plain[name][0].scores, plain[name][1].scores
            expected, own = cross.softmax(-1).mean(1) @ columns, of_image
        else:
            rows, _ = parts(backbone, plain[name][0].scores, h * w)
            expected, own = rows.softmax(-1)[..., h * w :].mean(1) @ columns, rows[..., : h * w]
        assert torch.allclose(maps[0, 0].flatten(1).T, expected[0], atol=1e-5)
        assert expected[0, :, 0].std() > 1e-2 * expected[0, :, 0].mean(), "the test would pass on flat maps"
        values = torch.rand(1, h * w, 2)
        spread = own.softmax(-1).mean(1) @ values
        assert torch.allclose(hop(seen.self_attention[name], values), spread, atol=1e-5)
        assert seen.self_attention[name].grid_hw == (h, w)


@pytest.mark.parametrize("kind", ["sd35", "flux-dev", "klein"])
def test_words_look_at_the_image_where_their_rows_of_the_matrix_say(kind: str, backbones: Any) -> None:
    backbone = backbones(kind)
    latents, _, text, columns, (h, w) = asked(backbone, PHOTOS[0])
    seen = recorded(backbone, latents, text, columns, How(direction="text"))
    plain = written_out(backbone, call_of(backbone, latents, text))
    for name, maps in seen.cross.items():
        _, rows = parts(backbone, plain[name][0].scores, h * w)
        expected = torch.einsum("htn,tc->cn", rows.softmax(-1)[0, :, :, : h * w], columns[0]) / rows.shape[1]
        assert torch.allclose(maps[0, 0].flatten(1), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["sd3", "flux-schnell", "klein"])
def test_outputs_are_compared_as_what_attention_gave_places_and_words(kind: str, backbones: Any) -> None:
    backbone = backbones(kind)
    latents, prompt, text, columns, (h, w) = asked(backbone, PHOTOS[1])
    content = list(prompt.groups["subject", "content"])
    seen = recorded(backbone, latents, text, columns, How(maps="outputs"))
    logits = recorded(backbone, latents, text, columns)
    plain = written_out(backbone, call_of(backbone, latents, text))
    for name, maps in seen.cross.items():
        given = plain[name][0].given[0].transpose(0, 1).flatten(1)
        image_first = backbone.unet.sequence.order == "image, text"
        image, rows = (given[: h * w], given[h * w :]) if image_first else (given[-h * w :], given[: -h * w])
        expected = (image @ rows[content].T).softmax(-1) @ columns[0][content]
        assert torch.allclose(maps[0, 0].flatten(1).T, expected, atol=1e-4)
        assert torch.allclose(maps[0, 0, 1], torch.ones(h, w), atol=1e-5), "shares of the content words"
        assert (maps - logits.cross[name]).abs().max() > 1e-3, "another kind of map"


def streams_of(texts: list[Conditioning]) -> Streams:
    added = texts[0].added and {name: torch.cat([each.added[name] for each in texts]) for name in texts[0].added}
    return Streams(torch.cat([each.states for each in texts]), added)


@pytest.mark.parametrize("kind", KINDS)
def test_several_texts_share_a_pass_in_which_none_notices_another(kind: str, backbones: Any) -> None:
    backbone = backbones(kind)
    encoded, latents = encode_image(backbone, photo(*PHOTOS[0]), 128), noisy(backbone, PHOTOS[0])
    _, caption = text_of(backbone, "{subject}", encoded)
    said = [text_of(backbone, f"{words} {{subject}}", encoded) for words in ("the", "a bowl by the", "no")]
    weights = torch.cat([columns_of(backbone, prompt, caption.states.shape[1]) for prompt, _ in said])
    texts = [text for _, text in said]
    before = backbone.unet(latents, torch.tensor([T]), caption.states, caption.added)[0]
    every = recorded(backbone, latents, caption, weights, streams=streams_of(texts))
    for i, text in enumerate(texts):
        alone = recorded(backbone, latents, caption, weights[i : i + 1], streams=streams_of([text]))
        for name, maps in every.cross.items():
            assert torch.allclose(maps[:, :, 2 * i : 2 * i + 2], alone.cross[name], atol=1e-6)
            assert torch.allclose(
                hop(every.self_attention[name], torch.eye(maps[0, 0, 0].numel())[None]),
                hop(alone.self_attention[name], torch.eye(maps[0, 0, 0].numel())[None]),
                atol=1e-6,
            )
    # A stream that says what the text says sees what the text sees.
    text = texts[1]
    own = recorded(backbone, latents, text, weights[1:2])
    beside = recorded(backbone, latents, text, weights[1:2], streams=streams_of([text]))
    for name, maps in own.cross.items():
        assert torch.allclose(maps, beside.cross[name], atol=1e-6)
        assert name == next(iter(own.cross)) or (maps - every.cross[name][:, :, 2:4]).abs().max() > 1e-6
    assert backbone.unet.streams is None
    assert torch.equal(backbone.unet(latents, torch.tensor([T]), caption.states, caption.added)[0], before)


@pytest.mark.parametrize("kind", ["sd35", "flux-dev", "klein", "pixart-alpha"])
def test_a_stream_is_what_a_mask_over_one_long_text_makes_of_it(kind: str, backbones: Any) -> None:
    backbone = backbones(kind)
    encoded, latents = encode_image(backbone, photo(*PHOTOS[1]), 128), noisy(backbone, PHOTOS[1])
    _, caption = text_of(backbone, "the {subject}", encoded)
    prompt, text = text_of(backbone, "a bowl by the {subject}", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])
    seen = recorded(backbone, latents, caption, columns, streams=streams_of([text]))
    h, w = backbone.unet.tokens(tuple(latents.shape[-2:]))
    cells, t = h * w, text.states.shape[1]
    # image, caption and stream: who must not see whom
    groups = torch.tensor([0] * cells + [1] * t + [2] * t)
    if backbone.unet.sequence.order == "text, image":
        groups = torch.cat([groups[cells:], groups[:cells]])
    q, k = groups[:, None], groups[None]
    hidden = ((q < 2) & (k == 2)) | ((q == 2) & (k == 1))
    if backbone.family == "pixart":
        hidden = (groups[cells:] == 2).expand(cells, -1)
    backbone.unet.streams = streams_of([text])
    try:
        plain = written_out(backbone, call_of(backbone, latents, caption), hidden)
    finally:
        backbone.unet.streams = None
    for name, maps in seen.cross.items():
        if backbone.family == "pixart":
            expected = plain[name][1].scores[..., t:].softmax(-1).mean(1) @ columns
        else:
            rows, _ = parts(backbone, plain[name][0].scores, cells)
            kept = torch.cat([rows[..., :cells], rows[..., cells + t :]], -1)
            expected = kept.softmax(-1)[..., cells:].mean(1) @ columns
        assert torch.allclose(maps[0, 0].flatten(1).T, expected[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["sd3", "flux-schnell", "klein", "pixart-sigma"])
def test_lora_layers_stay_in_force(kind: str, backbones: Any, folders: Any) -> None:
    backbone = load_backbone(folders(kind))
    encoded, latents = encode_image(backbone, photo(*PHOTOS[0]), 128), noisy(backbone, PHOTOS[0])
    prompt, text = text_of(backbone, "the {subject}", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])
    before = recorded(backbone, latents, text, columns)
    torch.manual_seed(1)
    targets = ["to_q", "to_k", "to_qkv_mlp_proj"] if kind == "klein" else ["to_q", "to_k"]
    inject_adapter_in_model(LoraConfig(r=4, target_modules=targets, init_lora_weights=False), backbone.unet.model)
    seen = recorded(backbone, latents, text, columns)
    plain = written_out(backbone, call_of(backbone, latents, text))
    h, w = backbone.unet.tokens(tuple(latents.shape[-2:]))
    for name, maps in seen.cross.items():
        assert not torch.allclose(maps, before.cross[name], atol=1e-5)
        if backbone.family == "pixart":
            expected = plain[name][1].scores.softmax(-1).mean(1) @ columns
        else:
            rows, _ = parts(backbone, plain[name][0].scores, h * w)
            expected = rows.softmax(-1)[..., h * w :].mean(1) @ columns
        assert torch.allclose(maps[0, 0].flatten(1).T, expected[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["sd3", "flux-dev"])
def test_fused_projections_are_read_like_separate_ones(kind: str, backbones: Any, folders: Any) -> None:
    backbone = load_backbone(folders(kind))
    encoded, latents = encode_image(backbone, photo(*PHOTOS[0]), 128), noisy(backbone, PHOTOS[0])
    prompt, text = text_of(backbone, "the {subject}", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])
    before = recorded(backbone, latents, text, columns)
    if kind == "sd3":
        backbone.unet.model.fuse_qkv_projections()
    else:
        for block in (*backbone.unet.model.transformer_blocks, *backbone.unet.model.single_transformer_blocks):
            block.attn.fuse_projections()
    after = recorded(backbone, latents, text, columns)
    for name, maps in after.cross.items():
        assert torch.allclose(maps, before.cross[name], atol=1e-5)


@pytest.mark.parametrize("kind", ["sd35", "flux-schnell", "klein", "pixart-alpha"])
def test_the_network_predicts_what_the_pipeline_of_diffusers_would_be_told(
    kind: str, backbones: Any, folders: Any
) -> None:
    backbone, pipe = backbones(kind), tiny_transformers.load(folders(kind), kind)
    encoded, latents = encode_image(backbone, photo(*PHOTOS[0]), 128), noisy(backbone, PHOTOS[0])
    _, text = text_of(backbone, "the {subject}", encoded)
    h, w = latents.shape[-2:]
    called: list[dict[str, Any]] = []

    def note(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        called.append({"first": args[0] if args else kwargs["hidden_states"], **kwargs})
        raise KeyboardInterrupt

    handle = pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
    side = 16 if kind == "klein" else 8
    given: dict[str, Any] = {"prompt": "the mug", "height": h * side, "width": w * side, "num_inference_steps": 1}
    if kind.startswith("pixart"):
        given |= {"use_resolution_binning": False, "guidance_scale": 1.0, "clean_caption": False}
    if kind.startswith("flux"):
        given |= {"max_sequence_length": 256}
    if kind in ("sd35",):
        given |= {"guidance_scale": 0.0}
    start = latents
    if kind.startswith("flux"):
        start = pipe._pack_latents(latents, 1, 4, h, w)
    with pytest.raises(KeyboardInterrupt):
        pipe(latents=start, **given)
    handle.remove()
    arguments = {**called[0], "return_dict": False}
    first = arguments.pop("first")
    arguments.pop("hidden_states", None)
    with torch.no_grad():
        expected = pipe.transformer(first, **arguments)[0]
    time = arguments["timestep"].flatten()[0].item() * (1000 if kind in ("flux-schnell", "klein") else 1)
    mine = []
    handle = backbone.unet.model.register_forward_hook(lambda _, __, out: mine.append(out[0]))
    with torch.no_grad():
        scale = first.std() / start.std()  # PixArt's sampler may scale what it is given
        assert abs(scale - 1) < 1e-5
        backbone.unet(latents, torch.tensor([time]), text.states, text.added)
    handle.remove()
    assert torch.allclose(mine[0], expected, atol=1e-4)


def test_latents_are_shifted_scaled_and_patched_as_pipelines_do(backbones: Any, folders: Any) -> None:
    for kind in ("sd3", "klein", "pixart-alpha"):
        backbone, pipe = backbones(kind), tiny_transformers.load(folders(kind), kind)
        pixels = torch.rand(1, 3, 64, 96) * 2 - 1
        with torch.no_grad():
            codes = pipe.vae.encode(pixels).latent_dist.mode()
            made = scaled(backbone.vae, codes)
            if kind == "klein":
                assert torch.allclose(made, pipe._encode_vae_image(pixels, None), atol=1e-6)
            else:
                shift = pipe.vae.config.shift_factor or 0
                assert torch.allclose(made, (codes - shift) * pipe.vae.config.scaling_factor, atol=1e-6)
        assert torch.allclose(unscaled(backbone.vae, made), codes, atol=1e-5)


def test_attention_over_many_noises_is_gathered_in_batches(backbones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbones("flux-schnell")
    encoded = encode_image(backbone, photo(*PHOTOS[0]), 128)
    prompt, text = text_of(backbone, "the {subject}", encoded)
    eps = torch.randn(3, *encoded.latents.shape[1:])
    reading = Reading(
        backbone.unet,
        backbone.alphas_cumprod,
        encoded.latents,
        eps,
        torch.tensor([100, 500, 900]),
        text,
        columns_of(backbone, prompt, text.states.shape[1]),
        {"double.1"},
        {"double.1"},
        text.states,
        beside=text.added,
        flow=True,
    )
    whole = attend(reading)
    monkeypatch.setattr("prisbench.localizer.attend.ROWS_BYTES", 1)
    single = attend(reading)
    assert torch.allclose(whole.cross["double.1"], single.cross["double.1"], atol=1e-6)
    one = attend(dataclasses.replace(reading, eps=eps[1:2], timesteps=reading.timesteps[1:2]))
    assert torch.allclose(one.cross["double.1"][0], whole.cross["double.1"][1], atol=1e-6)


def test_nothing_of_the_size_of_an_attention_matrix_is_formed(backbones: Any) -> None:
    backbone = backbones("flux-schnell")
    latents = torch.randn(1, 4, 96, 64)  # 48 x 32 = 1536 rows of image
    encoded = encode_image(backbone, photo(*PHOTOS[0]), 128)
    prompt, text = text_of(backbone, "the {subject}", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])
    with (
        torch.no_grad(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile,
        recorder(backbone.unet, columns, Wanted(["double.1"], ["double.1"]), streams_of([text]), How()),
    ):
        call_of(backbone, latents, text)()
    largest = max(abs(event.self_cpu_memory_usage) for event in profile.events())
    assert 0 < largest < 1536**2 * 4 / 4


def test_what_cannot_be_read_is_an_error_not_a_wrong_map(backbones: Any) -> None:
    backbone = backbones("flux-schnell")
    encoded, latents = encode_image(backbone, photo(*PHOTOS[0]), 128), noisy(backbone, PHOTOS[0])
    prompt, text = text_of(backbone, "the {subject}", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])

    def look(names: list[str], network: Any = backbone.unet, how: How | None = None) -> None:
        with torch.no_grad(), recorder(network, columns, Wanted(names, []), None, how or How()):
            call_of(backbone, latents, text)()

    with pytest.raises(UnknownNameError, match=r"unknown transformer block 'double.77'"):
        look(["double.77"])
    attention: Any = backbone.unet.model.transformer_blocks[2].attn
    before = attention.processor
    attention.processor = Plain(2, "text, image")
    try:
        with pytest.raises(BackboneError, match=r"block double.2: its processor Plain does not call torch's fused"):
            look(["double.2"])
    finally:
        attention.processor = before
    pixart = backbones("pixart-alpha")
    for how, said in ((How(direction="text"), "direction=text"), (How(maps="outputs"), "maps=outputs")):
        with pytest.raises(UsageError, match=rf"localizer.{said} needs joint attention"):
            look(["block.0"], pixart.unet, how)
    with (
        pytest.raises(BackboneError, match=r"never reached the blocks \['double.1'\]"),
        recorder(backbone.unet, columns, Wanted(["double.1"], []), None, How()),
    ):
        pass
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in backbone.unet.modules()) == 0


def test_image_rows_must_be_as_many_as_the_photo_has_cells(backbones: Any) -> None:
    backbone = backbones("sd3")
    encoded, latents = encode_image(backbone, photo(*PHOTOS[0]), 128), noisy(backbone, PHOTOS[0])
    prompt, text = text_of(backbone, "the {subject}", encoded)
    columns = columns_of(backbone, prompt, text.states.shape[1])
    embed = backbone.unet.model.pos_embed
    handle = embed.register_forward_hook(lambda _, __, out: out[:, :-1])
    try:
        with pytest.raises(BackboneError, match=r"block joint.0 has \d+ queries .* an image of 7 x 11 rows"):
            recorded(backbone, latents, text, columns)
    finally:
        handle.remove()
    big = torch.randn(1, 4, 64, 16)
    with pytest.raises(BackboneError, match=r"at most 48 latent cells a side, not 64"):
        backbone.unet(big, torch.tensor([T]), text.states, text.added)
