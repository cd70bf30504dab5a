"""Attention of the network over many noises of one photo, in passes that fit into the memory.

Knows: the network, how much a pass takes.  Does not know: queries, concepts, what a map is used for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prisbench.diffusion.attention import Attention, Recording
from prisbench.diffusion.joint import How, Wanted, recorder
from prisbench.diffusion.noise import add_noise
from prisbench.diffusion.text import Conditioning
from prisbench.diffusion.transformer import Streams, Transformer

ROWS_BYTES = 2**29
"""The memory that the rows of one call may take, above the weights; one row may take more."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the network reads, and which of its attention is kept.

    ``eps`` and ``timesteps`` are the noises of the photo's latents, one a row, ``text`` the condition of all of them.
    ``cross`` and ``self_`` name blocks.  ``columns`` and ``prompts`` (with what is beside them, ``beside``) are those
    of ``joint.recorder``, and ``per_head``, ``direction`` and ``maps`` those of ``joint.How``.  ``flow``: see
    ``add_noise``.
    """

    unet: nn.Module
    alphas_cumprod: Float[Tensor, "steps"]
    latents: Float[Tensor, "1 c h w"]
    eps: Float[Tensor, "rows c h w"]
    timesteps: Int[Tensor, "rows"]
    text: Conditioning
    columns: Float[Tensor, "*p t spans"]
    cross: Collection[str]
    self_: Collection[str]
    prompts: Float[Tensor, "_p t d"] | None = None
    per_head: bool = False
    beside: Mapping[str, Tensor] | None = None
    direction: str = "image"
    maps: str = "attention"
    flow: bool = False


@torch.no_grad()
def attend(reading: Reading) -> Recording:
    """Attention of the conditional branch alone, one row a noise, up to the last block named, in bounded batches."""
    latents, eps = reading.latents, reading.eps
    at_once = rows_at_once(reading.unet, (int(latents.shape[-2]), int(latents.shape[-1])))
    parts = [_one_batch(reading, slice(start, start + at_once)) for start in range(0, len(eps), at_once)]
    first = parts[0].self_attention
    return Recording(
        {name: torch.cat([part.cross[name] for part in parts]) for name in reading.cross},
        {
            name: Attention(
                torch.cat([part.self_attention[name].queries for part in parts]),
                torch.cat([part.self_attention[name].keys for part in parts]),
                first[name].scale,
                first[name].grid_hw,
            )
            for name in reading.self_
        },
    )


def _one_batch(reading: Reading, part: slice) -> Recording:
    """The attention of some rows, in one call of the network."""
    latents, columns, added = reading.latents, reading.columns, reading.text.added
    columns = columns if columns.ndim == 3 else columns[None]
    noisy = add_noise(
        reading.alphas_cumprod, latents, reading.eps[part].to(latents), reading.timesteps[part], reading.flow
    )
    n = len(noisy)
    states = reading.text.states.expand(n, -1, -1)
    added = None if added is None else {key: value.expand(n, *value.shape[1:]) for key, value in added.items()}
    streams = None if reading.prompts is None else Streams(reading.prompts, reading.beside)
    how = How(reading.per_head, reading.direction, reading.maps)
    with recorder(reading.unet, columns, Wanted(reading.cross, reading.self_), streams, how) as seen:
        times = reading.timesteps[part].to(latents.device)
        reading.unet(noisy, times, encoder_hidden_states=states, added_cond_kwargs=added)
    return seen


def rows_at_once(unet: nn.Module, latent_hw: tuple[int, int]) -> int:
    """How many noises one call takes.

    A row's peak of a U-Net is near 32 maps of the first level's width (skip connections and the widest feed-forward
    layer; measured by ``prisbench bench localizer``); of a transformer, see ``Transformer.numbers_a_row``.
    """
    unet_: Any = unet
    weight = next(unet.parameters())
    if isinstance(unet, Transformer):
        return max(1, ROWS_BYTES // (unet.numbers_a_row(latent_hw) * weight.element_size()))
    row = 32 * math.prod(latent_hw) * unet_.config["block_out_channels"][0] * weight.element_size()
    return max(1, ROWS_BYTES // row)


def span_columns(spans: Sequence[Iterable[int]], length: int) -> Float[Tensor, "length spans"]:
    """One column a span: weights that take the mean over its positions."""
    columns = torch.zeros(length, len(spans))
    for i, span in enumerate(spans):
        positions = list(span)
        columns[positions, i] = 1 / len(positions)
    return columns
