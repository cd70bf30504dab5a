"""PerSAM's published arithmetic written out on matrices, for the decoder of SAM and of SAM 2, and a walk through it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from prisbench.sam.frame import Frame
from prisbench.sam.model import Prompt, Sam


def shaken(kind: Any, config: Any) -> Any:
    """A random model whose every weight counts, norms apart."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = kind(config).eval()
        with torch.no_grad():
            for name, weight in network.named_parameters():
                if "layer_norm" not in name:
                    weight += torch.randn_like(weight) * 0.2
    return network


def attention(layer: Any, q: Tensor, k: Tensor, v: Tensor, similar: Tensor | None = None) -> Tensor:
    """One head at a time, from the projections on."""
    q, k, v = (F.linear(x, p.weight, p.bias) for x, p in ((q, layer.q_proj), (k, layer.k_proj), (v, layer.v_proj)))
    width = q.shape[-1] // layer.num_attention_heads
    out = []
    for n in range(layer.num_attention_heads):
        part = slice(n * width, (n + 1) * width)
        weights = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(width), dim=-1)
        if similar is not None:
            weights = torch.softmax(weights + similar, dim=-1)
        out.append(weights @ v[:, part])
    last = layer.out_proj if hasattr(layer, "out_proj") else layer.o_proj
    return F.linear(torch.cat(out, 1), last.weight, last.bias)


def norm(layer: Any, x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), layer.weight, layer.bias, layer.eps)


class Given(NamedTuple):
    """What goes through the decoder's transformer, rows by width; ``similar``, ``target``: PerSAM's additions."""

    tokens: Tensor
    image: Tensor
    place: Tensor
    similar: Tensor
    target: Tensor


def given(grid: int, width: int, seed: int = 5) -> Given:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((7, width), (grid**2, width), (grid**2, width))
    tokens, image, place = (torch.randn(shape, generator=generator) for shape in shapes)
    similar, target = torch.rand(grid**2, generator=generator), torch.randn(width, generator=generator)
    return Given(tokens, image, place, similar, target)


def transformer(inner: Any, given: Given, mlp: Callable[[Any, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The release's ``TwoWayTransformer.forward`` on matrices, with its additions in place; ``mlp`` of a block."""
    queries = point = given.tokens.clone()
    keys, place = given.image, given.place
    for number, block in enumerate(inner.layers):
        queries += given.target  # of the first block, this is ``point``, too
        if number == 0:
            queries = attention(block.self_attn, queries, queries, queries)
        else:
            q = queries + point
            queries = queries + attention(block.self_attn, q, q, queries)
        queries = norm(block.layer_norm1, queries)
        looked = attention(block.cross_attn_token_to_image, queries + point, keys + place, keys, given.similar)
        queries = norm(block.layer_norm2, queries + looked)
        queries = norm(block.layer_norm3, queries + mlp(block.mlp, queries))
        back = attention(block.cross_attn_image_to_token, keys + place, queries + point, queries)
        keys = norm(block.layer_norm4, keys + back)
    q = queries + point
    q += given.target
    queries = queries + attention(inner.final_attn_token_to_image, q, keys + place, keys)
    return norm(inner.layer_norm_final_attn, queries), keys


def through(module: Any, given: Given, grid: int) -> tuple[Tensor, Tensor]:
    """The same by a module."""
    image, place = (each.T.reshape(1, -1, grid, grid) for each in (given.image, given.place))
    with torch.no_grad():
        queries, keys = module(
            point_embeddings=given.tokens.clone()[None, None],
            image_embeddings=image,
            image_positional_embeddings=place,
            attention_similarity=given.similar[None, None, None],
            target_embedding=given.target[None, None],
        )
    return queries[0, 0], keys[0, 0]


def check_guided(sam: Sam, grid: int, width: int, mlp: Callable[[Any, Tensor], Tensor]) -> None:
    """The guided attention is the published one, and not what transformers does with the same arguments."""
    whole, guided = given(grid, width), sam.network.mask_decoder.transformer
    with torch.no_grad():
        expected = transformer(guided.inner, whole, mlp)
    for a, b in zip(through(guided, whole, grid), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    theirs = through(guided.inner, whole, grid)
    assert float((theirs[0] - expected[0]).abs().max()) > 1e-2, "one softmax is another method"


class Walked(NamedTuple):
    """Where PerSAM ends, and the pixel it began with, row first."""

    mask: np.ndarray
    peak_yx: tuple[int, int]


def walked(sam: Sam, frame: Frame, features: Tensor, similar: Tensor, added: Tensor, target: Tensor) -> Walked:
    """The three rounds: likest and unlikest pixel, the first mask, the box of the best; ``added``: of each cell."""
    (y1, x1), (y0, x0) = (np.unravel_index(int(i), similar.shape) for i in (similar.argmax(), similar.argmin()))
    at = ((int(x1), int(y1)), (int(x0), int(y0)))
    guided = Prompt(at, (1, 0), similarity=added[None, None, None], target=target[None, None])
    first = sam.decode(frame, features, guided, False)
    second = sam.decode(frame, features, Prompt(at, (1, 0), small=first.small[0]), True)
    best = int(second.quality.argmax())
    ys, xs = np.nonzero((second.logits[best] > 0).numpy())
    box = (int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())) if len(xs) else None
    third = sam.decode(frame, features, Prompt(at, (1, 0), box, second.small[best]), True)
    return Walked((third.logits[int(third.quality.argmax())] > 0).numpy(), (int(y1), int(x1)))
