"""The network alone: the calls that a side makes of it, the least that these calls cost, and its compiled parts.

Knows: hooks, the last layer that a map needs.  Does not know: how a map is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from prisbench.bench.published import MapJob
from prisbench.diffusion.attention import transformer_blocks
from prisbench.localizer.settings import LocalizerSettings


class Call(NamedTuple):
    """One call of the U-Net, to be made again."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Reached(Exception):
    """Ends a pass; never leaves ``bare_network``."""


@contextmanager
def calls_of(unet: nn.Module) -> Iterator[list[Call]]:
    """The calls of the U-Net that the body makes."""
    calls: list[Call] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(Call(args, kwargs))

    handle = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def last_layer(unet: nn.Module, settings: LocalizerSettings) -> tuple[str, nn.Module]:
    """The attention layer after which no map can change, and its block's name."""
    order = list(transformer_blocks(unet))
    needed = [(order.index(name), "attn2") for name in settings.cross]
    if settings.hops:
        needed.append((order.index(settings.self_block), "attn1"))
    place, part = max(needed)
    return order[place], getattr(transformer_blocks(unet)[order[place]].module, part)


@torch.no_grad()
def bare_network(unet: nn.Module, calls: list[Call], layer: Any) -> None:
    """The same calls, with nothing read, each up to the moment when the layer's keys are known."""

    def stop(*_: Any) -> None:
        raise _Reached

    handle = layer.to_k.register_forward_hook(stop)
    try:
        for call in calls:
            with suppress(_Reached):
                unet(*call.args, **call.kwargs)
    finally:
        handle.remove()


def one_row(value: Any) -> Any:
    """The first row of what a call was given."""
    if isinstance(value, Tensor):
        return value[:1] if value.ndim else value
    if isinstance(value, Mapping):
        return {key: one_row(each) for key, each in value.items()}
    return tuple(one_row(each) for each in value) if isinstance(value, tuple) else value


def hookless_parts(module: nn.Module, watched: set[nn.Module]) -> Iterator[nn.Module]:
    """The largest parts of a network that hold no watched layer; single layers are not worth compiling."""
    for child in module.children():
        if isinstance(child, nn.ModuleList) or any(each in watched for each in child.modules()):
            yield from hookless_parts(child, watched)
        elif any(child.children()):
            yield child


def compiled_forwards(job: MapJob, backend: str = "inductor") -> dict[nn.Module, Callable[..., Any]]:
    """A compiled ``forward`` for every part of the U-Net in which our side has no hook.

    Hooks are Python that changes from call to call: inside a compiled part they would be ignored or break its graph.
    Parts that share a class share dynamo's cache, hence its limit is raised above their number.
    """
    blocks, settings = transformer_blocks(job.unet), job.settings
    watched = {blocks[name].module.attn2 for name in settings.cross} | {blocks[settings.self_block].module.attn1}
    parts = list(hookless_parts(job.unet, watched))  # type: ignore[arg-type]
    limits: Any = importlib.import_module("torch._dynamo").config
    for limit in ("cache_size_limit", "accumulated_cache_size_limit"):
        setattr(limits, limit, max(getattr(limits, limit), 4 * len(parts)))
    return {part: torch.compile(part.forward, backend=backend, dynamic=False) for part in parts}


def noisy_latents(call: Call) -> Tensor:
    """The noisy latents a call was given."""
    return call.args[0] if call.args else call.kwargs["sample"]
