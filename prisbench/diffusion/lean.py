"""The U-Net's layers, computed for learning: the same numbers, less kept for the backward pass, fewer copies made.

A learner moves few numbers, or none, of the network itself.  The libraries' layers keep for their backward pass what
only the gradients of their own weights would need (a convolution its input), and what can be had again for next to
nothing (a normalisation its output).  ``lean`` puts other forwards in their place for as long as a body runs:

    convolution     frozen weights: keeps no activation at all
    residual block  normalisation and activation are one step, which keeps its input
    gated linear    keeps its projection, and writes both halves of its gradient into one tensor

Knows: torch's layers, diffusers' residual block and gated linear unit.  Does not know: what is learned, attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input


@contextmanager
def in_place(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let these forwards stand before the modules' own; afterwards the modules are as they were."""
    try:
        for module, forward in forwards.items():
            vars(module)["forward"] = forward
        yield
    finally:
        for module in forwards:
            vars(module).pop("forward", None)


def lean(network: nn.Module) -> Any:
    """A context in which the network's layers keep less.  Layers whose weights move, and those of other kinds, stay.

    Enter it once it is known what moves (``requires_grad``).
    """
    forwards: dict[nn.Module, Callable[..., Any]] = {}
    for module in network.modules():
        if "forward" in vars(module):
            continue
        if type(module) is nn.Conv2d and _frozen(module) and module.padding_mode == "zeros":
            forwards[module] = _convolution(module)
        elif type(module) is GEGLU and type(module.proj) is nn.Linear and _frozen(module):
            forwards[module] = _gated_linear(module)
        elif type(module) is ResnetBlock2D and _plain(module):
            forwards[module] = _residual(module)
    return in_place(forwards)


def _frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


# --- convolution ----------------------------------------------------------------------------------------------------


class _Convolution(torch.autograd.Function):
    """A convolution by weights that do not move."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, numbers: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.numbers = x.shape, numbers
        return F.conv2d(x, weight, bias, *numbers)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (grad,) = ctx.saved_tensors, grads
        return conv2d_input(ctx.shape, weight.to(grad.dtype), grad, *ctx.numbers), None, None, None


def _convolution(layer: nn.Conv2d) -> Callable[..., Tensor]:
    numbers = layer.stride, layer.padding, layer.dilation, layer.groups

    def forward(x: Tensor) -> Tensor:
        return _Convolution.apply(x, layer.weight, layer.bias, numbers)

    return forward


# --- residual block -------------------------------------------------------------------------------------------------


class _NormSilu(torch.autograd.Function):
    """``silu(group_norm(x))``; what lies between is computed twice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        ctx.numbers = x.shape[0], x.shape[1], x[0, 0].numel(), groups
        normed, mean, deviation = torch.ops.aten.native_group_norm(x, weight, bias, *ctx.numbers, eps)
        ctx.save_for_backward(x, weight, bias, mean, deviation)
        ctx.eps = eps
        return F.silu(normed, inplace=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, deviation = ctx.saved_tensors
        normed, _, _ = torch.ops.aten.native_group_norm(x, weight, bias, *ctx.numbers, ctx.eps)
        grad = torch.ops.aten.silu_backward(grads[0], normed)
        moving = [True, *ctx.needs_input_grad[1:3]]
        of = torch.ops.aten.native_group_norm_backward(grad, x, mean, deviation, weight, *ctx.numbers, moving)
        return *of, None, None


def _norm_silu(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    return _NormSilu.apply(x, norm.weight, norm.bias, norm.num_groups, norm.eps)


def _plain(block: ResnetBlock2D) -> bool:
    """Whether the block is the one whose forward stands below."""
    return (
        block.upsample is None
        and block.downsample is None
        and block.time_embedding_norm == "default"
        and type(block.nonlinearity) is nn.SiLU
        and not block.skip_time_act
        and block.time_emb_proj is not None
        and block.dropout.p == 0
    )


def _residual(block: Any) -> Callable[..., Tensor]:
    def forward(x: Tensor, temb: Tensor, *_: Any, **__: Any) -> Tensor:
        hidden = block.conv1(_norm_silu(x, block.norm1))
        hidden = hidden + block.time_emb_proj(F.silu(temb))[:, :, None, None]
        hidden = block.conv2(_norm_silu(hidden, block.norm2))
        skipped = x if block.conv_shortcut is None else block.conv_shortcut(x)
        hidden = skipped + hidden
        return hidden if block.output_scale_factor == 1 else hidden / block.output_scale_factor

    return forward


# --- gated linear unit ----------------------------------------------------------------------------------------------


class _Gated(torch.autograd.Function):
    """``values * gelu(gate)``."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(values, gate)
        return F.gelu(gate).mul_(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (values, gate), (grad,) = ctx.saved_tensors, grads
        return F.gelu(gate).mul_(grad), torch.ops.aten.gelu_backward(values * grad, gate)


def _gated_linear(unit: Any) -> Callable[..., Tensor]:
    def forward(x: Tensor, *_: Any, **__: Any) -> Tensor:
        weights, biases = unit.proj.weight.chunk(2), unit.proj.bias.chunk(2)
        return _Gated.apply(*(F.linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)))

    return forward
