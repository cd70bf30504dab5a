"""Frozen weights rounded to bfloat16 once, where mixed precision would round them in every step.

The same numbers come out.  What rounding takes away is kept beside the weights, so they need no
more memory than before, and come back bit for bit.

Knows: the bits of float32 and bfloat16, which layers mixed precision rounds.  Does not know: what
is learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int16, Int32
from torch import Tensor, nn

from prisbench.diffusion.backbone import Backbone


@contextmanager
def frozen_in_bfloat16(backbone: Backbone, moving: Iterable[Tensor], wanted: bool) -> Iterator[None]:
    """For as long as the body runs, the weights of linear and convolutional layers are those of
    bfloat16, apart from what is ``moving``.  Nothing is done where it is not ``wanted``.
    """
    kept = {id(parameter) for parameter in moving}
    remainders: list[tuple[Tensor, Remainder]] = []
    try:
        for model in backbone.models.values() if wanted else ():
            layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
            weights: dict[int, Tensor] = {id(p): p for layer in layers for p in layer.parameters(recurse=False)}
            for weight in weights.values():
                if id(weight) not in kept and weight.dtype is torch.float32:
                    weight.data, remainder = rounded(weight.data)
                    remainders.append((weight, remainder))
        yield
    finally:
        for weight, remainder in remainders:
            weight.data = whole(weight.data, remainder)


class Remainder(NamedTuple):
    """What the rounding of float32 to bfloat16 takes away: the difference of both as integers.
    Where a number halfway between two was rounded down it is 2**15, one more than 16 bits hold;
    ``halfway`` says where.
    """

    low: Int16[Tensor, "..."]
    halfway: Int32[Tensor, "n"]


def rounded(value: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Remainder]:
    """float32 as torch rounds it to bfloat16, and the remainder."""
    high = value.to(torch.bfloat16)
    difference = value.contiguous().view(torch.int32) - (high.contiguous().view(torch.int16).to(torch.int32) << 16)
    halfway = (difference.flatten() == 2**15).nonzero()[:, 0].to(torch.int32)
    return high, Remainder((difference - (difference == 2**15).to(torch.int32) * 2**16).to(torch.int16), halfway)


def whole(high: Float[Tensor, "..."], remainder: Remainder) -> Float[Tensor, "..."]:
    """The float32 that was rounded, bit for bit."""
    bits = (high.contiguous().view(torch.int16).to(torch.int32) << 16) + remainder.low
    bits.view(-1)[remainder.halfway.long()] += 2**16
    return bits.view(torch.float32)
