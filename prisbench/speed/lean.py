"""The U-Net's layers, computed for learning: the same numbers but for their rounding, less kept for the backward pass,
less copied and multiplied.

A learner moves few numbers, or none, of the network itself.  The libraries' layers keep for their backward pass what
only the gradients of their own weights would need (a convolution its input), and what can be had again for next to
nothing (a normalisation its output).  ``lean`` puts other forwards in their place for as long as a body runs:

    convolution     frozen weights: keeps no activation at all
    residual block  normalisation and activation are one step, which keeps its input
    gated linear    keeps its projection, and writes both halves of its gradient into one tensor
    transformer     goes from pixels to tokens and back inside its projections, by no copy (CPU, float32)
    upsampling      convolves the small image, by four kernels in place of one: 16 products for 36 (CPU, float32)

Knows: torch's layers, diffusers' residual block, gated linear unit, transformer and upsampling.  Does not know: what is
learned, attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.upsampling import Upsample2D
from jaxtyping import Float
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
        elif type(module) is Transformer2DModel and _continuous(module):
            forwards[module] = _transformer(module)
        elif type(module) is Upsample2D and _doubling(module):
            forwards[module] = _upsampling(module)
    return in_place(forwards)


def _frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _by_hand(x: Tensor, weight: Tensor) -> bool:
    """Whether an image is of the kind that the last two layers were made, and measured, for."""
    single = x.dtype is weight.dtype is torch.float32
    return single and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


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


# --- transformer ----------------------------------------------------------------------------------------------------


class _ToTokens(torch.autograd.Function):
    """A convolution of single pixels, from an image to tokens."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape = x.shape
        return torch.baddbmm(bias, x.flatten(2).transpose(1, 2), weight.t().expand(len(x), -1, -1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (grad,) = ctx.saved_tensors, grads
        return torch.bmm(weight.t().expand(len(grad), -1, -1), grad.transpose(1, 2)).view(ctx.shape), None, None


class _ToImage(torch.autograd.Function):
    """A convolution of single pixels, from tokens to an image, and the image it is added to."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor, image: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        added = torch.baddbmm(image.flatten(2), weight.expand(len(tokens), -1, -1), tokens.transpose(1, 2))
        return added.add_(bias[:, None]).view(image.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (grad,) = ctx.saved_tensors, grads
        return torch.bmm(grad.flatten(2).transpose(1, 2), weight.expand(len(grad), -1, -1)), None, None, grad


def _continuous(host: Transformer2DModel) -> bool:
    """Whether a transformer takes images through projections that are convolutions and do not move."""
    projections = getattr(host, "proj_in", None), getattr(host, "proj_out", None)
    return bool(host.is_input_continuous) and all(type(p) is nn.Conv2d and _frozen(p) for p in projections)


def _transformer(host: Any) -> Callable[..., Any]:
    into, back = host.proj_in, host.proj_out

    def forward(hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **given: Any) -> Any:
        further = [
            name for name, value in given.items() if value is not None and name not in ("timestep", "return_dict")
        ]
        if (
            further
            or given.get("return_dict", True)
            or host.gradient_checkpointing
            or not _by_hand(hidden_states, into.weight)
        ):
            return type(host).forward(host, hidden_states, encoder_hidden_states, **given)
        x = _ToTokens.apply(host.norm(hidden_states), into.weight.flatten(1), into.bias)
        for block in host.transformer_blocks:
            x = block(x, encoder_hidden_states=encoder_hidden_states, timestep=given.get("timestep"))
        return (_ToImage.apply(x, back.weight.flatten(1), back.bias, hidden_states),)

    return forward


# --- upsampling -----------------------------------------------------------------------------------------------------

PHASES = ((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""Where every row is doubled, a kernel of three rows sees only two: on the first of a double the row before and, twice,
this one; on the second this one twice, and the next.  So two rows do, sums of the three: which of the double it stands
on, which row it sees, which of its own rows are summed.  Columns alike.
"""

MOST_KERNELS = 2**20
"""Numbers in a kernel of three rows.  The kernels of two are made once and kept, which would be 240 MB for those of
Stable Diffusion; made anew for each pass, they take longer (0.4 s) than they save (0.1 s).
"""


class _Doubled(torch.autograd.Function):
    """``conv2d(nearest(x), weight, padding=1)`` of the image with every pixel doubled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(kernels)
        ctx.shape = x.shape
        (n, _, h, w), to = x.shape, len(bias)
        phases = F.conv2d(x, kernels, padding=1).view(n, 2, 2, to, h + 1, w + 1)
        doubled = x.new_empty(n, to, h, 2, w, 2)
        for i, j in product(range(2), range(2)):
            torch.add(phases[:, i, j, :, i : i + h, j : j + w], bias[:, None, None], out=doubled[:, :, :, i, :, j])
        return doubled.view(n, to, 2 * h, 2 * w)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (kernels,), (n, _, h, w) = ctx.saved_tensors, ctx.shape
        doubled = grads[0].reshape(n, len(kernels) // 4, h, 2, w, 2)
        phases = doubled.new_zeros(n, 2, 2, len(kernels) // 4, h + 1, w + 1)
        for i, j in product(range(2), range(2)):
            phases[:, i, j, :, i : i + h, j : j + w] = doubled[:, :, :, i, :, j]
        return conv2d_input(ctx.shape, kernels, phases.flatten(1, 3), padding=1), None, None


def _kernels(weight: Float[Tensor, "o c 3 3"]) -> Float[Tensor, "4*o c 2 2"]:
    """The four kernels of two rows and columns that see of the small image what ``weight`` sees of the doubled one."""
    rows = weight.new_tensor(PHASES)
    return torch.einsum("ocyx,apy,bqx->abocpq", weight, rows, rows).reshape(-1, weight.shape[1], 2, 2)


def _doubling(layer: Any) -> bool:
    """Whether a layer doubles every pixel, and convolves that by three rows and columns which do not move."""
    conv = layer.conv if layer.use_conv and layer.name == "conv" else None
    if layer.norm is not None or layer.use_conv_transpose or not layer.interpolate or type(conv) is not nn.Conv2d:
        return False
    square = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
    if conv.weight.numel() > MOST_KERNELS:
        return False
    return _frozen(conv) and square and conv.groups == 1 and conv.padding_mode == "zeros" and conv.bias is not None


def _upsampling(layer: Any) -> Callable[..., Tensor]:
    with torch.no_grad():
        kernels = _kernels(layer.conv.weight)

    def forward(hidden_states: Tensor, output_size: Any = None, *others: Any, **given: Any) -> Tensor:
        doubled = output_size is None or list(output_size) == [2 * n for n in hidden_states.shape[-2:]]
        if not doubled or not _by_hand(hidden_states, layer.conv.weight):
            return type(layer).forward(layer, hidden_states, output_size, *others, **given)
        return _Doubled.apply(hidden_states, kernels, layer.conv.bias)

    return forward
