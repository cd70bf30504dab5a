"""Attention of the U-Net over many noises of one photo, in passes that fit into the memory.

Knows: the U-Net, how much a pass takes.  Does not know: queries, concepts, what a map is used for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prisbench.diffusion.attention import Attention, Recording, record
from prisbench.diffusion.noise import add_noise
from prisbench.diffusion.text import Conditioning

ROWS_BYTES = 2**29
"""The memory that the rows of one U-Net call may take, above the weights; one row may take more."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the U-Net reads, and which of its attention is kept.

    ``eps`` and ``timesteps`` are the noises of the photo's latents, one a row, ``text`` the condition of all of them.
    ``cross`` and ``self_`` name blocks.  ``columns``, ``prompts`` and ``per_head`` are those of ``record``.
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
    """The attention of some rows, in one call of the U-Net."""
    latents, columns, added = reading.latents, reading.columns, reading.text.added
    columns = columns if columns.ndim == 3 else columns[None]
    noisy = add_noise(reading.alphas_cumprod, latents, reading.eps[part].to(latents), reading.timesteps[part])
    n = len(noisy)
    states = reading.text.states.expand(n, -1, -1)
    added = None if added is None else {key: value.expand(n, *value.shape[1:]) for key, value in added.items()}
    kept = (reading.cross, reading.self_, reading.prompts, reading.per_head)
    with record(reading.unet, columns, *kept) as seen:
        times = reading.timesteps[part].to(latents.device)
        reading.unet(noisy, times, encoder_hidden_states=states, added_cond_kwargs=added)
    return seen


def rows_at_once(unet: nn.Module, latent_hw: tuple[int, int]) -> int:
    """How many noises one U-Net call takes.

    A row's peak is near 32 maps of the first level's width (skip connections and the widest feed-forward layer;
    measured by ``prisbench bench localizer``).
    """
    unet_: Any = unet
    weight = next(unet.parameters())
    row = 32 * math.prod(latent_hw) * unet_.config["block_out_channels"][0] * weight.element_size()
    return max(1, ROWS_BYTES // row)


def span_columns(spans: Sequence[Iterable[int]], length: int) -> Float[Tensor, "length spans"]:
    """One column a span: weights that take the mean over its positions."""
    columns = torch.zeros(length, len(spans))
    for i, span in enumerate(spans):
        positions = list(span)
        columns[positions, i] = 1 / len(positions)
    return columns
