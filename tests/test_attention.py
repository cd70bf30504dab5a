"""The recorder against diffusers' own dense attention, with every kind of layer it promises to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from diffusers.models.attention_processor import (
    Attention as Layer,
)
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    CustomDiffusionAttnProcessor,
    CustomDiffusionAttnProcessor2_0,
    FusedAttnProcessor2_0,
    IPAdapterAttnProcessor2_0,
)
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from peft import LoraConfig
from torch import Tensor

from prisbench.diffusion.attention import Attention, Recording, hop, record, transformer_blocks
from prisbench.errors import BackboneError, UnknownNameError

BATCH, TOKENS = 2, 10


class Dense(AttnProcessor):
    """Diffusers' eager processor; keeps every probability matrix."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, attn: Layer, *args: Any, **kwargs: Any) -> Tensor:
        plain: Callable[..., Tensor] = attn.get_attention_scores

        def scores(*a: Any) -> Tensor:
            self.seen.append(plain(*a))
            return self.seen[-1]

        attn.get_attention_scores = scores  # type: ignore[method-assign]
        try:
            return super().__call__(attn, *args, **kwargs)
        finally:
            del attn.get_attention_scores


@pytest.fixture
def unet() -> Any:
    torch.manual_seed(0)
    return tiny.unet().requires_grad_(False)


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    latents = torch.randn(BATCH, 4, 20, 12, generator=draw)
    return latents, torch.tensor([100, 700]), torch.randn(BATCH, TOKENS, 24, generator=draw)


def columns() -> Tensor:
    weights = torch.zeros(1, TOKENS, 2)
    weights[:, 3, 0] = 1
    weights[:, 4:6, 1] = 0.5
    return weights


def names(unet: Any) -> tuple[list[str], list[str]]:
    blocks = transformer_blocks(unet)
    return list(blocks), [name for name, block in blocks.items() if block.has_self_attention]


def run(unet: Any, cross: list[str], self_: list[str]) -> Recording:
    with record(unet, columns(), cross, self_) as seen:
        unet(*inputs())
    return seen


def hooks(unet: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())


def width(name: str) -> int:
    """Channels of the tiny U-Net where a processor of that name stands."""
    levels = [8, 16, 16]
    if name.startswith("mid"):
        return levels[-1]
    level = int(name.split(".")[1])
    return levels[::-1][level] if name.startswith("up") else levels[level]


def dense(unet: Any, name: str, layer: str) -> Tensor:
    """Attention of one layer by diffusers, mean over heads: batch x queries x keys."""
    attn = getattr(transformer_blocks(unet)[name].module, layer)
    before, attn.processor = attn.processor, Dense()
    unet(*inputs())
    (scores,) = attn.processor.seen
    attn.processor = before
    return scores.unflatten(0, (BATCH, -1)).mean(1)


def test_blocks_are_listed_in_forward_order_with_the_cells_a_token_covers(unet: Any) -> None:
    blocks = transformer_blocks(unet)
    assert {name: block.stride for name, block in blocks.items()} == {
        "down.1.0": 2, "down.2.0": 4, "mid.0": 4, "up.0.0": 4, "up.0.1": 4,
        "up.1.0": 2, "up.1.1": 2, "up.2.0": 1, "up.2.1": 1,
    }  # fmt: skip
    order: list[str] = []
    for name, block in blocks.items():
        block.module.register_forward_hook(lambda *_, name=name: order.append(name))
    unet(*inputs())
    assert order == list(blocks)
    cross, self_ = names(unet)
    assert set(cross) - set(self_) == {"up.2.0", "up.2.1"}
    for name, maps in run(unet, cross, self_).cross.items():
        assert maps.shape == (BATCH, 1, 2, 20 // blocks[name].stride, 12 // blocks[name].stride)


def test_several_blocks_in_one_module_are_numbered() -> None:
    blocks = list(transformer_blocks(tiny.unet(transformer_layers_per_block=(1, 2, 1))))
    assert blocks[:3] == ["down.1.0.0", "down.1.0.1", "down.2.0"]


@pytest.mark.parametrize("processor", [AttnProcessor2_0, AttnProcessor])
def test_recorded_attention_is_diffusers_dense_attention(unet: Any, processor: type) -> None:
    unet.set_attn_processor(processor())
    cross, self_ = names(unet)
    seen = run(unet, cross, self_)
    values = torch.rand(BATCH, 15, 3)
    for name in cross:
        expected = dense(unet, name, "attn2") @ columns()
        assert torch.allclose(seen.cross[name][:, 0].flatten(2).transpose(1, 2), expected, atol=1e-5)
        assert seen.cross[name].std() > 1e-3, "the test would pass on flat maps"
    for name in self_:
        attention = seen.self_attention[name]
        values = torch.rand(BATCH, attention.keys.shape[2], 3)
        assert torch.allclose(hop(attention, values), dense(unet, name, "attn1") @ values, atol=1e-5)
        assert attention.grid_hw[0] * attention.grid_hw[1] == values.shape[1]


def test_heads_can_be_kept_apart_and_their_mean_is_what_else_is_recorded(unet: Any) -> None:
    with record(unet, columns(), ["up.1.0"], per_head=True) as seen:
        unet(*inputs())
    heads = seen.cross["up.1.0"]
    assert heads.shape[1] == transformer_blocks(unet)["up.1.0"].module.attn2.heads > 1
    assert torch.allclose(heads.mean(1, keepdim=True), run(unet, ["up.1.0"], []).cross["up.1.0"], atol=1e-6)
    assert (heads[:, 0] - heads[:, 1]).abs().max() > 1e-3


def test_further_prompts_are_scored_against_the_same_queries_each_for_itself(unet: Any) -> None:
    draw = torch.Generator().manual_seed(5)
    others = torch.randn(3, TOKENS, 24, generator=draw)
    weights = torch.rand(3, TOKENS, 2, generator=draw)
    with record(unet, weights, ["up.1.0", "up.2.1"], prompts=others) as seen:
        unet(*inputs())
    attn = transformer_blocks(unet)["up.1.0"].module.attn2
    with record(unet, columns(), ["up.1.0"]) as own:
        unet(*inputs())
    assert seen.cross["up.1.0"].shape == (BATCH, 1, 6, *own.cross["up.1.0"].shape[-2:])

    queries: list[Tensor] = []
    handle = attn.to_q.register_forward_hook(lambda _, __, out: queries.append(out))
    unet(*inputs())
    handle.remove()
    for i in range(3):
        q, k = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (queries[0], attn.to_k(others[i : i + 1])))
        expected = (q @ k.mT * attn.scale).softmax(-1).mean(1) @ weights[i]
        got = seen.cross["up.1.0"][:, 0, 2 * i : 2 * i + 2].flatten(2).transpose(1, 2)
        assert torch.allclose(got, expected, atol=1e-5)

    with record(unet, weights[1:2], ["up.1.0"], prompts=others[1:2]) as alone:
        unet(*inputs())
    assert torch.equal(alone.cross["up.1.0"], seen.cross["up.1.0"][:, :, 2:4])
    assert hooks(unet) == 0


def test_two_hops_are_the_squared_matrix(unet: Any) -> None:
    attention = run(unet, [], ["up.1.1"]).self_attention["up.1.1"]
    matrix, values = dense(unet, "up.1.1", "attn1"), torch.rand(BATCH, 60, 1)
    assert torch.allclose(hop(attention, hop(attention, values)), matrix @ matrix @ values, atol=1e-5)


def test_more_columns_than_channels_are_pulled_in_one_go() -> None:
    attention = Attention(torch.randn(1, 2, 6, 4), torch.randn(1, 2, 9, 4), 0.5, (2, 3))
    matrix = (attention.queries @ attention.keys.mT * 0.5).softmax(-1).mean(1)
    assert torch.allclose(hop(attention, torch.eye(9)[None]), matrix, atol=1e-6)


def test_a_hop_never_holds_the_attention_matrix() -> None:
    n, heads = 1500, 2
    attention = Attention(torch.randn(1, heads, n, 8), torch.randn(1, heads, n, 8), 0.3, (30, 50))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        hop(attention, torch.rand(1, n, 1))
    largest = max(abs(event.cpu_memory_usage) for event in profile.events())
    assert 0 < largest < n * n * 4 / 4


def test_the_pass_ends_after_the_last_block_needed(unet: Any) -> None:
    reached: list[str] = []
    unet.up_blocks[1].register_forward_pre_hook(lambda *_: reached.append("up.1"))
    unet.up_blocks[2].register_forward_pre_hook(lambda *_: reached.append("up.2"))
    run(unet, ["up.1.0", "mid.0"], [])
    assert reached == ["up.1"]


def test_what_a_block_shows_does_not_depend_on_what_else_is_recorded(unet: Any) -> None:
    cross, self_ = names(unet)
    everything, alone = run(unet, cross, self_), run(unet, ["up.1.0"], [])
    assert torch.equal(everything.cross["up.1.0"], alone.cross["up.1.0"])


def test_the_unet_is_as_before_afterwards_also_when_the_body_fails(unet: Any) -> None:
    before, expected = dict(unet.attn_processors), unet(*inputs()).sample
    run(unet, *names(unet))
    with pytest.raises(KeyboardInterrupt), record(unet, columns(), ["up.1.0"], []):
        raise KeyboardInterrupt
    with pytest.raises(UnknownNameError):
        run(unet, ["up.1.0", "up.9.9"], [])
    assert hooks(unet) == 0
    assert all(unet.attn_processors[name] is processor for name, processor in before.items())
    assert torch.equal(unet(*inputs()).sample, expected)


@pytest.mark.parametrize("kind", [CustomDiffusionAttnProcessor, CustomDiffusionAttnProcessor2_0])
def test_custom_diffusions_own_projections_are_what_is_recorded(unet: Any, kind: type) -> None:
    plain = run(unet, ["up.1.0"], [])
    torch.manual_seed(1)
    layer: Any = transformer_blocks(unet)["up.1.0"].module.attn2
    custom = kind(train_kv=True, train_q_out=False, hidden_size=16, cross_attention_dim=24)
    layer.set_processor(custom)
    seen = run(unet, ["up.1.0"], [])
    assert layer.processor is custom
    assert not torch.allclose(seen.cross["up.1.0"], plain.cross["up.1.0"], atol=1e-3)
    layer.set_processor(AttnProcessor())  # the same keys through the plain layer, seen densely
    layer.to_k.weight.copy_(custom.to_k_custom_diffusion.weight)
    expected = dense(unet, "up.1.0", "attn2") @ columns()
    assert torch.allclose(seen.cross["up.1.0"][:, 0].flatten(2).transpose(1, 2), expected, atol=1e-5)


def test_lora_layers_stay_in_force(unet: Any) -> None:
    plain = run(unet, ["up.1.1"], ["up.1.1"])
    torch.manual_seed(1)
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    seen = run(unet, ["up.1.1"], ["up.1.1"])
    assert not torch.allclose(seen.cross["up.1.1"], plain.cross["up.1.1"], atol=1e-3)
    expected = dense(unet, "up.1.1", "attn2") @ columns()
    assert torch.allclose(seen.cross["up.1.1"][:, 0].flatten(2).transpose(1, 2), expected, atol=1e-5)
    values = torch.rand(BATCH, 60, 1)
    expected = dense(unet, "up.1.1", "attn1") @ values
    assert torch.allclose(hop(seen.self_attention["up.1.1"], values), expected, atol=1e-5)


def test_ip_adapter_weights_stay_in_force() -> None:
    torch.manual_seed(0)
    unet: Any = tiny.unet(only_cross_attention=False).requires_grad_(False)
    cross = [name for name in unet.attn_processors if ".attn2." in name]
    adapters = {name: IPAdapterAttnProcessor2_0(width(name), 24, num_tokens=(3,), scale=0.9) for name in cross}
    unet.set_attn_processor({name: adapters.get(name, AttnProcessor2_0()) for name in unet.attn_processors})
    unet.encoder_hid_proj = MultiIPAdapterImageProjection([ImageProjection(7, 24, num_image_text_embeds=3)])
    unet.config.encoder_hid_dim_type = "ip_image_proj"
    latents, times, text = inputs()
    added = {"image_embeds": [torch.randn(BATCH, 1, 7)]}
    expected = unet(latents, times, text, added_cond_kwargs=added).sample
    without = unet(latents, times, text, added_cond_kwargs={"image_embeds": [torch.zeros(BATCH, 1, 7)]}).sample
    assert not torch.allclose(expected, without, atol=1e-4), "the picture prompt must matter"

    with record(unet, columns(), ["up.2.1"], ["up.1.0"]) as seen:
        unet(latents, times, text, added_cond_kwargs=added)
    assert seen.cross["up.2.1"].std() > 1e-4
    assert all(unet.attn_processors[name] is adapter for name, adapter in adapters.items())
    assert torch.equal(unet(latents, times, text, added_cond_kwargs=added).sample, expected)


def test_what_cannot_be_read_is_an_error_not_a_wrong_map(unet: Any) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown transformer block 'up.1.9': did you mean 'up.1"):
        run(unet, ["up.1.9"], [])
    with pytest.raises(BackboneError, match=r"block up.2.0 has no self-attention"):
        run(unet, [], ["up.2.0"])
    with (
        pytest.raises(BackboneError, match=r"never reached the blocks \['up.1.0'\]"),
        record(unet, columns(), ["up.1.0"]),
    ):
        pass
    transformer_blocks(unet)["up.1.0"].module.attn2.processor = FusedAttnProcessor2_0()  # type: ignore[union-attr]
    with pytest.raises(BackboneError, match=r"block up.1.0: unsupported attention processor FusedAttnProcessor2_0"):
        run(unet, ["up.1.0"], [])
    assert hooks(unet) == 0
