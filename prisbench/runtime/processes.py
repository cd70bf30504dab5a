"""Several processes that share one run: what ``accelerate launch`` or torchrun started.

Knows: the environment they are started with, sums over all of them.  Does not know: what is
shared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Share(NamedTuple):
    """Which of a run's processes this one is, and how many there are."""

    rank: int = 0
    size: int = 1


def processes(device: torch.device) -> Any:
    """The processes that ``accelerate launch`` (or torchrun) started; None when this one is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import PartialState

    return PartialState(cpu=device.type == "cpu")


def share_of(device: torch.device) -> Share:
    """This process's share; the whole when it is alone."""
    team = processes(device)
    return Share(team.process_index, team.num_processes) if team else Share()


def sum_up(loss: Tensor, parameters: Iterable[Tensor]) -> None:
    """The loss and the parameters' gradients of all processes, in every one of them."""
    torch.distributed.all_reduce(loss)
    for parameter in parameters:
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
