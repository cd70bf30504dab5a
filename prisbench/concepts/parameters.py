"""What moves while a concept is learned: groups of parameters, and a frozen model's own, made
trainable for a while.

Knows: parameters and their storage.  Does not know: how they are learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class Group(NamedTuple):
    """Parameters that move together, by the name their values have in a concept."""

    parameters: Mapping[str, Tensor]
    learning_rate: float


@contextmanager
def trainable(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """A frozen model's own parameters, free to be learned: as float32 copies, and with gradients.

    Afterwards the model has its own storage back, bit for bit, however the body ends.
    """
    before = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.data = parameter.data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(False)
            parameter.grad = None
            parameter.data = before[name]
