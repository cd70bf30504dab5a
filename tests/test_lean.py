"""Layers that keep less for the backward pass: the same numbers, the same gradients, and everything back afterwards."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import tiny
import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.speed import lean as module
from prisbench.speed.lean import in_place, lean

LAYOUTS = {"embedded": tiny.unet, "sd1": lambda: tiny.unet(**tiny.SD_LAYOUT, attention_head_dim=2)}


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    text = torch.randn(2, 7, 24, generator=draw).requires_grad_()
    return torch.randn(2, 4, 16, 24, generator=draw), torch.tensor([50, 800]), text


def gradients(unet: Any, moving: list[Tensor]) -> list[Tensor]:
    latents, times, text = inputs()
    loss = unet(latents, times, encoder_hidden_states=text).sample.square().mean()
    return [loss.detach(), *torch.autograd.grad(loss, [text, *moving])]


def kept_bytes(unet: Any) -> int:
    """What the backward pass of a forward pass holds, each storage once, the network's own weights not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (at := tensor.untyped_storage().data_ptr()) not in own:
            kept[at] = tensor.untyped_storage().nbytes()
        return tensor

    latents, times, text = inputs()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = unet(latents, times, encoder_hidden_states=text).sample
    assert held.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lean_layers_give_the_same_numbers_and_gradients_and_keep_less(layout: str) -> None:
    unet = LAYOUTS[layout]().requires_grad_(False)
    expected, before = gradients(unet, []), kept_bytes(unet)
    with lean(unet):
        found, after = gradients(unet, []), kept_bytes(unet)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(a.abs().max()))
    assert after < 0.75 * before
    assert all("forward" not in vars(module) for module in unet.modules())
    assert kept_bytes(unet) == before, "as it was afterwards"


def test_weights_that_move_get_their_gradients() -> None:
    unet = tiny.unet()
    moving = list(unet.parameters())
    expected = gradients(unet, moving)
    with lean(unet):
        found = gradients(unet, moving)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_only_layers_with_frozen_weights_forget_their_input() -> None:
    unet = tiny.unet().requires_grad_(False)
    unet.conv_out.weight.requires_grad_(True)
    with lean(unet):
        assert "forward" not in vars(unet.conv_out) and "forward" in vars(unet.conv_in)
        *_, of_weight = gradients(unet, [unet.conv_out.weight])
    assert of_weight.abs().sum() > 0


def test_activations_computed_twice_are_lean_too() -> None:
    unet = tiny.unet().requires_grad_(False)
    expected = gradients(unet, [])
    unet.enable_gradient_checkpointing()
    unet.train()  # without, diffusers does not compute twice
    with lean(unet):
        found = gradients(unet, [])
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_in_mixed_precision_gradients_have_the_type_of_what_they_belong_to() -> None:
    unet = tiny.unet().requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        expected = gradients(unet, [])
        with lean(unet):
            found = gradients(unet, [])
    assert [tensor.dtype for tensor in found] == [tensor.dtype for tensor in expected]
    torch.testing.assert_close(found[1], expected[1], rtol=0.1, atol=float(expected[1].abs().max()) / 20)


def test_forwards_are_taken_away_however_the_body_ends() -> None:
    layer = nn.Linear(2, 3)
    with contextlib.suppress(KeyboardInterrupt), in_place({layer: lambda x: x + 1}):
        assert torch.equal(layer(torch.zeros(2)), torch.ones(2))
        raise KeyboardInterrupt
    assert layer(torch.zeros(2)).shape == (3,)


def test_a_forward_that_somebody_put_in_place_stays() -> None:
    unet = tiny.unet().requires_grad_(False)
    mine = unet.conv_in.forward
    vars(unet.conv_in)["forward"] = mine
    with lean(unet):
        assert vars(unet.conv_in)["forward"] is mine
    assert vars(unet.conv_in)["forward"] is mine


def _calls(monkeypatch: pytest.MonkeyPatch, function: type) -> list[int]:
    seen: list[int] = []
    apply = function.apply
    monkeypatch.setattr(function, "apply", lambda *args: seen.append(1) or apply(*args))
    return seen


def test_transformers_and_upsampling_are_computed_by_hand_where_that_was_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unet = tiny.unet().requires_grad_(False)
    tokens, doubled = _calls(monkeypatch, module._ToTokens), _calls(monkeypatch, module._Doubled)
    kinds = [sum(isinstance(m, kind) for m in unet.modules()) for kind in (Transformer2DModel, Upsample2D)]
    with lean(unet):
        gradients(unet, [])
        assert [len(tokens), len(doubled)] == kinds and min(kinds) > 0
        with torch.autocast("cpu", torch.bfloat16):
            gradients(unet, [])
        assert [len(tokens), len(doubled)] == kinds, "mixed precision is computed by the libraries"


def test_projections_that_move_are_computed_by_the_libraries() -> None:
    unet = tiny.unet().requires_grad_(False)
    host = next(m for m in unet.modules() if isinstance(m, Transformer2DModel))
    up = next(m for m in unet.modules() if isinstance(m, Upsample2D))
    host.proj_in.weight.requires_grad_(True)
    up.conv.weight.requires_grad_(True)
    with lean(unet):
        assert "forward" not in vars(host) and "forward" not in vars(up)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (8, 6)])
def test_an_image_is_doubled_and_convolved_as_the_library_does_it(size_hw: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    layer = Upsample2D(3, use_conv=True, out_channels=5).requires_grad_(False)
    x = torch.randn(2, 3, *size_hw, generator=draw).requires_grad_()
    weights = torch.randn(2, 5, *(2 * n for n in size_hw), generator=draw)
    expected = layer(x)
    (of_expected,) = torch.autograd.grad((expected * weights).sum(), x)
    with lean(nn.Sequential(layer)):
        found = layer(x)
        assert type(found.grad_fn).__name__ == "_DoubledBackward"
        (of_found,) = torch.autograd.grad((found * weights).sum(), x)
        torch.testing.assert_close(layer(x, [2 * n for n in size_hw]), expected)
        other = layer(x, [2 * n - 1 for n in size_hw])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(of_found, of_expected)
    smaller = F.interpolate(x, size=[2 * n - 1 for n in size_hw], mode="nearest")
    torch.testing.assert_close(other, F.conv2d(smaller, layer.conv.weight, layer.conv.bias, padding=1))


def test_a_transformer_that_is_asked_for_more_is_the_librarys() -> None:
    unet = tiny.unet().requires_grad_(False)
    host = next(m for m in unet.modules() if isinstance(m, Transformer2DModel))
    draw = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, host.config.in_channels, 4, 6, generator=draw), torch.randn(1, 7, 24, generator=draw)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0]])
    expected = host(x, text, encoder_attention_mask=mask).sample
    with lean(unet):
        torch.testing.assert_close(host(x, text, encoder_attention_mask=mask).sample, expected)
        assert not torch.allclose(host(x, text, return_dict=False)[0], expected)
