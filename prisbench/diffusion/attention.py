"""Reads the attention of a U-Net while it runs, without changing it and without ever holding an attention matrix.

Knows: diffusers' transformer blocks and the seam between an ``Attention`` layer and its processor.
Does not know: images, prompts, what a map is used for.

Three facts make this small.  Queries and keys leave the projections ``to_q`` and ``to_k``, so hooks there see what the
processor in force will use (LoRA layers and Custom Diffusion's own projections included) while the processor itself
stays in place.  A weighted sum of attention columns is scaled dot-product attention with the weights as values:
``A_h @ V == SDPA(q_h, k_h, V)``, in O(n) memory.  And once the last block asked for has been seen, nothing after it can
matter, so the pass ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from prisbench.errors import BackboneError, UnknownNameError

READABLE_PROCESSORS = frozenset(
    {
        "AttnProcessor",
        "AttnProcessor2_0",
        "SlicedAttnProcessor",
        "CustomDiffusionAttnProcessor",
        "CustomDiffusionAttnProcessor2_0",
        "IPAdapterAttnProcessor",
        "IPAdapterAttnProcessor2_0",
    }
)
"""Processors known to compute ``softmax(scale to_q(x) to_k(y)^T)``, calling each projection once, queries first."""


class Block(NamedTuple):
    """One transformer block.  A token covers ``stride`` x ``stride`` latent cells."""

    module: nn.Module
    host: nn.Module
    stride: int

    @property
    def has_self_attention(self) -> bool:
        """False where ``only_cross_attention`` makes the first attention look at the text too."""
        return not getattr(self.module, "only_cross_attention", False)


class Attention(NamedTuple):
    """What is left of an attention layer: queries and keys per head, and the grid its queries stand on."""

    queries: Float[Tensor, "b heads n d"]
    keys: Float[Tensor, "b heads m d"]
    scale: float
    grid_hw: tuple[int, int]


@dataclass(frozen=True)
class Recording:
    """Per block name: cross-attention already summed into its columns, and self-attention as queries and keys.

    The batch axis is the U-Net's; k is the block's heads, or 1 where their mean is kept.  Everything is float32.
    """

    cross: dict[str, Float[Tensor, "b _k c _h _w"]] = field(default_factory=dict)
    self_attention: dict[str, Attention] = field(default_factory=dict)


def transformer_blocks(unet: nn.Module) -> dict[str, Block]:
    """Every transformer block in forward order (down, mid, up): ``down.1.0`` is the first of the second down stage.

    Where one attention module holds several blocks (SDXL), a fourth part counts them: ``down.1.0.3``.
    """
    unet_: Any = unet
    stages = [(f"down.{i}", stage) for i, stage in enumerate(unet_.down_blocks)]
    stages += [] if unet_.mid_block is None else [("mid", unet_.mid_block)]
    stages += [(f"up.{i}", stage) for i, stage in enumerate(unet_.up_blocks)]
    blocks: dict[str, Block] = {}
    stride = 1
    for place, stage in stages:
        for i, host in enumerate(getattr(stage, "attentions", None) or ()):
            inner = getattr(host, "transformer_blocks", ())
            for j, module in enumerate(inner):
                name = f"{place}.{i}" if len(inner) == 1 else f"{place}.{i}.{j}"
                blocks[name] = Block(module, host, stride)
        if place.startswith("down") and getattr(stage, "downsamplers", None):
            stride *= 2
        if place.startswith("up") and getattr(stage, "upsamplers", None):
            stride //= 2
    return blocks


def hop(attention: Attention, values: Float[Tensor, "b m c"]) -> Float[Tensor, "b n c"]:
    """``mean over heads of softmax(scale q k^T) @ values`` in float32; the n x m matrix is never formed."""
    return pull(attention, values).mean(dim=1)


def pull(
    attention: Attention, values: Float[Tensor, "b m c"], mask: Tensor | None = None
) -> Float[Tensor, "b heads n c"]:
    """``softmax(scale q k^T) @ values`` of each head; ``mask``: as torch's fused attention takes one.

    Queries, keys and values are padded with zeros to one width, which changes no product and lets the fused kernel run.
    """
    batch, heads, _, width = attention.queries.shape
    columns = values.shape[-1]
    width = max(width, columns)
    queries, keys = (F.pad(x.float(), (0, width - x.shape[-1])) for x in (attention.queries, attention.keys))
    padded = F.pad(values.float(), (0, width - columns))[:, None].expand(batch, heads, -1, -1)
    kind = queries.device.type
    with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
        pulled = F.scaled_dot_product_attention(queries, keys, padded, mask, scale=attention.scale)
    return pulled[..., :columns]


class EverythingSeen(Exception):
    """Ends a U-Net pass early; never leaves the recorder."""


@contextmanager
def record(
    unet: nn.Module,
    columns: Float[Tensor, "p t c"],
    cross: Collection[str] = (),
    self_: Collection[str] = (),
    prompts: Float[Tensor, "p t d"] | None = None,
    per_head: bool = False,
) -> Iterator[Recording]:
    """Record the blocks named while the body calls the U-Net once; the call must be the last thing in the body.

        with record(unet, columns, cross=["up.1.0"], self_=["up.1.1"]) as seen:
            unet(latents, timestep, encoder_hidden_states=text)
        seen.cross["up.1.0"]            # b 1 c h w

    ``columns`` weighs text positions: column j of the result is the attention, mean over heads (or ``per_head``),
    summed over positions with weights ``columns[0, :, j]``.  With ``prompts`` the text of the pass itself is not
    looked at: each prompt's keys are scored against the same queries, by the layer's own projection, and the columns
    of all prompts come one after the other (p c of them).  A prompt's columns do not depend on the others.  The pass
    ends after the last block needed (that call then returns nothing).  Hooks are removed however the body ends.  Raises
    UnknownNameError for a block the U-Net does not have, BackboneError for a processor we cannot read, for
    self-attention where there is none, and when a block was never reached.
    """
    blocks, recording = transformer_blocks(unet), Recording()
    wanted = [("self", name) for name in self_] + [("cross", name) for name in cross]
    missing = set(wanted)
    handles: list[RemovableHandle] = []

    def receiver(kind: str, name: str) -> Callable[[Attention], None]:
        def receive(seen: Attention) -> None:
            if kind == "self":
                recording.self_attention[name] = seen
            else:
                recording.cross[name] = _columns(blocks[name].module.attn2, seen, columns, prompts, per_head)
            missing.discard((kind, name))
            if not missing:
                raise EverythingSeen

        return receive

    try:
        for kind, name in wanted:
            if name not in blocks:
                raise UnknownNameError("transformer block", name, blocks)
            handles += _watch(blocks[name], kind, name, receiver(kind, name))
        yield recording
    except EverythingSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if missing:
        raise BackboneError(f"the U-Net never reached the blocks {sorted(name for _, name in missing)}")


def _columns(
    layer: Any, seen: Attention, columns: Tensor, prompts: Tensor | None, per_head: bool
) -> Float[Tensor, "b _k c _h _w"]:
    """The columns of one cross-attention."""
    batch = len(seen.queries)
    parts = []
    for i, weights in enumerate(columns.to(seen.queries.device)):
        of_prompt = seen if prompts is None else seen._replace(keys=_keys(layer, prompts[i : i + 1]))
        keys = of_prompt.keys.expand(batch, -1, -1, -1)
        parts.append(pull(of_prompt._replace(keys=keys), weights.expand(batch, -1, -1)))
        if not per_head:
            parts[-1] = parts[-1].mean(dim=1, keepdim=True)
    return torch.cat(parts, dim=-1).transpose(2, 3).unflatten(3, seen.grid_hw)


def _keys(layer: Any, text: Float[Tensor, "1 t d"]) -> Float[Tensor, "1 heads t e"]:
    """Another text's keys, as the processor in force would make them."""
    if layer.norm_cross:
        text = layer.norm_encoder_hidden_states(text)
    keys = getattr(layer.processor, "to_k_custom_diffusion", layer.to_k)(text)
    return _heads(layer, keys)


def _heads(layer: Any, x: Float[Tensor, "b n e"]) -> Float[Tensor, "b heads n d"]:
    return x.detach().unflatten(-1, (layer.heads, -1)).transpose(1, 2).float()


def _watch(block: Block, kind: str, name: str, receive: Callable[[Attention], None]) -> list[RemovableHandle]:
    """Hooks that hand one attention layer's queries, keys and grid to ``receive``."""
    if kind == "self" and not block.has_self_attention:
        raise BackboneError(f"block {name} has no self-attention (only_cross_attention); choose another block")
    layer: Any = block.module.attn1 if kind == "self" else block.module.attn2
    processor = getattr(layer, "processor", None)
    if type(processor).__name__ not in READABLE_PROCESSORS or layer.norm_q is not None or layer.norm_k is not None:
        raise BackboneError(
            f"cannot read the {kind}-attention of block {name}: unsupported attention processor "
            f"{type(processor).__name__}; supported: {', '.join(sorted(READABLE_PROCESSORS))}"
        )
    to_queries = getattr(processor, "to_q_custom_diffusion", layer.to_q)
    to_keys = getattr(processor, "to_k_custom_diffusion", layer.to_k)
    grid: list[tuple[int, int]] = []
    held: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        grid[:] = [(int(hidden.shape[-2]), int(hidden.shape[-1]))]

    def on_queries(_: nn.Module, __: Any, out: Tensor) -> None:
        held[:] = [out.detach()]

    def on_keys(_: nn.Module, __: Any, out: Tensor) -> None:
        if held:  # else the receiver asks for the keys of further prompts
            queries, keys = _heads(layer, held.pop()), _heads(layer, out)
            receive(Attention(queries, keys, float(layer.scale), grid[0]))

    return [
        block.host.register_forward_pre_hook(enter, with_kwargs=True),
        to_queries.register_forward_hook(on_queries),
        to_keys.register_forward_hook(on_keys),
    ]
