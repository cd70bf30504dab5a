"""The reference implementation of the localizer: the published procedure, written plainly.

"From Text to Mask" (arXiv 2309.04109; ``scripts/SD_seg.py`` and ``ldm/modules/attention.py`` of its release): what it
computes is computed, needed or not.

Where the release does more than the reference: a second U-Net pass a noise, whose result is dropped, is not made; the
mean over heads is taken at once, not at the end of the block; of each noise nothing but its map is kept.

Knows: what the published procedure computes, holds and wastes.  Does not know: images, truth, the code that users run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.bench.process import seconds_of
from prisbench.diffusion.attention import transformer_blocks
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.noise import noise
from prisbench.diffusion.text import Conditioning
from prisbench.localizer.presets import preset
from prisbench.localizer.settings import LocalizerSettings

TEXT_LENGTH = 77
"""Tokens of a prompt, as CLIP reads them."""

SPAN = (4, 5)
"""Positions of the subject's words in "a photo including ...", two tokens long."""


@dataclass(frozen=True, eq=False)
class MapJob:
    """What both sides are given; ``text`` and ``unconditional`` have one row.

    ``spans``: the positions of each class's tokens.  ``settings`` are the paper's.
    """

    unet: nn.Module
    alphas_cumprod: Float[Tensor, "steps"]
    latents: Float[Tensor, "1 c h w"]
    eps: Float[Tensor, "k c h w"]
    text: Conditioning
    unconditional: Conditioning
    spans: tuple[tuple[int, ...], ...]
    settings: LocalizerSettings


def make_job(backbone: Backbone, size_hw: tuple[int, int], samples: int) -> MapJob:
    """The published procedure's numbers on drawn latents and embeddings: no second depends on what is in them."""
    config: Any = backbone.unet.config
    h, w = (side // backbone.vae_factor for side in size_hw)
    latents = (config["in_channels"], h, w)

    def drawn(name: str, n: int, shape: tuple[int, ...]) -> Tensor:
        rows = torch.stack([noise(f"bench {name}", i, shape) for i in range(n)])
        return rows.to(backbone.device, backbone.dtype)

    def words(name: str) -> Conditioning:
        states = drawn(name, 1, (TEXT_LENGTH, config["cross_attention_dim"]))
        if backbone.text_encoder_2 is None:
            return Conditioning(states, None)
        pooled = drawn(f"{name}, pooled", 1, (backbone.text_encoder_2.config.projection_dim,))
        sizes = torch.tensor([[*size_hw, 0, 0, *size_hw]], dtype=torch.float32, device=backbone.device)
        return Conditioning(states, {"text_embeds": pooled, "time_ids": sizes})

    return MapJob(
        unet=backbone.unet,
        alphas_cumprod=backbone.alphas_cumprod,
        latents=drawn("latents", 1, latents),
        eps=drawn("noise", samples, latents),
        text=words("text"),
        unconditional=words("unconditional"),
        spans=(SPAN,),
        settings=dataclasses.replace(preset("paper", backbone.family), samples=samples),
    )


@torch.no_grad()
def reference_maps(job: MapJob) -> Float[Tensor, "classes h w"]:
    """The maps by the published procedure, step by step.

    Noises one by one; both guidance halves; the whole U-Net; every attention matrix of every block, squared where it is
    self-attention.  Reads of the settings: the first timestep, ``cross`` (evenly), ``self_block``, ``theta``.
    """
    settings, blocks = job.settings, transformer_blocks(job.unet)
    h, w = job.latents.shape[-2:]
    grids = {name: (math.ceil(h / block.stride), math.ceil(w / block.stride)) for name, block in blocks.items()}
    grid = grids[settings.self_block]
    step = settings.timesteps[0]
    signal = job.alphas_cumprod[step].to(job.latents)

    of_noises = []
    for eps in job.eps.to(job.latents):
        noisy = signal.sqrt() * job.latents + (1 - signal).sqrt() * eps
        with dense_attention(job.unet) as kept:
            plain_pass(job, torch.cat([noisy, noisy]), [job.unconditional, job.text])
        conditional = {place: matrices[1].float() for place, matrices in kept.items() if _is_read(place, settings)}
        del kept
        squared = conditional[settings.self_block, "attn1"]
        maps = []
        for span in job.spans:
            of_blocks = []
            for name in settings.cross:
                of_span = conditional[name, "attn2"][:, list(span)].mean(dim=1).reshape(1, 1, *grids[name])
                of_blocks.append(F.interpolate(of_span, size=grid, mode="bilinear", align_corners=False)[0, 0])
            cross = _scaled(torch.stack(of_blocks).mean(dim=0))
            inside = cross if settings.theta is None else _inside_boxes(cross, settings.theta)
            restricted = squared * inside.flatten()[None, :]
            maps.append(_scaled((restricted @ cross.flatten()).reshape(grid)))
        of_noises.append(torch.stack(maps))
    return torch.stack(of_noises).mean(dim=0)


@contextmanager
def dense_attention(unet: nn.Module) -> Iterator[dict[tuple[str, str], Float[Tensor, "b n m"]]]:
    """Every attention matrix of the passes made in the body, by block and layer ("attn1", "attn2"), heads averaged.

    Self-attention comes squared, as in the release's transformer block.  Processors are back however the body ends.
    """
    kept: dict[tuple[str, str], Tensor] = {}
    blocks = transformer_blocks(unet)
    layers: dict[tuple[str, str], Any] = {
        (name, part): getattr(block.module, part) for name, block in blocks.items() for part in ("attn1", "attn2")
    }
    before = {place: layer.processor for place, layer in layers.items()}

    def processor(place: tuple[str, str], square: bool) -> Callable[..., Tensor]:
        def attention(
            layer: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
        ) -> Tensor:
            read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            queries = layer.head_to_batch_dim(layer.to_q(hidden_states))
            keys, values = (layer.head_to_batch_dim(project(read)) for project in (layer.to_k, layer.to_v))
            probabilities = layer.get_attention_scores(queries, keys)
            out = layer.to_out[0](layer.batch_to_head_dim(probabilities @ values))
            mean = probabilities.unflatten(0, (-1, layer.heads)).mean(dim=1)
            kept[place] = mean @ mean if square else mean
            return out

        return attention

    try:
        for (name, part), layer in layers.items():
            layer.set_processor(processor((name, part), part == "attn1" and blocks[name].has_self_attention))
        yield kept
    finally:
        for place, layer in layers.items():
            layer.set_processor(before[place])


def plain_pass(job: MapJob, noisy: Tensor, halves: list[Conditioning]) -> None:
    """A plain pass of the whole network, one row a conditioning."""
    added: dict[str, list[Tensor]] = {}
    for half in halves:
        for name, value in (half.added or {}).items():
            added.setdefault(name, []).append(value)
    job.unet(
        noisy,
        job.settings.timesteps[0],
        encoder_hidden_states=torch.cat([half.states for half in halves]),
        added_cond_kwargs={name: torch.cat(values) for name, values in added.items()} or None,
    )


def _is_read(place: tuple[str, str], settings: LocalizerSettings) -> bool:
    name, part = place
    return name in settings.cross if part == "attn2" else name == settings.self_block


def _scaled(map_: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    return (map_ - map_.min()) / (map_.max() - map_.min())


def _inside_boxes(cross: Float[Tensor, "h w"], theta: float) -> Float[Tensor, "h w"]:
    """1 inside the bounding boxes of {map > theta max} in bytes; a box's last corner is clamped, then exclusive."""
    h, w = cross.shape
    levels = (cross.cpu().numpy() * 255).astype(np.uint8)
    parts, _ = ndimage.label(levels > int(theta * levels.max()), structure=np.ones((3, 3)))
    inside = torch.zeros_like(cross)
    for rows, columns in ndimage.find_objects(parts):
        inside[rows.start : min(rows.stop, h - 1), columns.start : min(columns.stop, w - 1)] = 1
    return inside


def dense_bytes(job: MapJob) -> int:
    """About what the reference holds at its worst: one layer's scores and probabilities, and every matrix kept."""
    size, largest, kept = job.latents.element_size(), 0, 0
    for cells, heads in self_attention_sizes(job):
        matrix = 2 * cells**2 * size  # both guidance halves
        largest, kept = max(largest, 2 * heads * matrix + matrix), kept + matrix
    return largest + kept


def self_attention_sizes(job: MapJob, leave_out: str | None = None) -> list[tuple[int, int]]:
    """(cells, heads) of every self-attention."""
    h, w = job.latents.shape[-2:]
    return [
        (math.ceil(h / block.stride) * math.ceil(w / block.stride), int(block.module.attn1.heads))  # type: ignore[union-attr, arg-type]
        for name, block in transformer_blocks(job.unet).items()
        if block.has_self_attention and name != leave_out
    ]


def squares_seconds(job: MapJob) -> float:
    """What the reference spends on squaring the self-attention that no map reads, measured on matrices of the sizes."""
    once: dict[int, float] = {}
    total = 0.0
    for cells, _ in self_attention_sizes(job, leave_out=job.settings.self_block):
        if cells not in once:
            matrices = torch.full((2, cells, cells), 1 / cells, dtype=job.latents.dtype)
            once[cells] = seconds_of(partial(torch.matmul, matrices, matrices))
        total += once[cells] * len(job.eps)
    return total
