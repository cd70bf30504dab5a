"""The state of a training run in one file: safetensors, whose header says what it is a part of.

Knows: how a file appears whole or not at all, an optimizer's moments as tensors.  Does not know:
what is trained, when a checkpoint is due, whose run it is (``runtime.resume``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prisbench.runtime.files import replacing

SLOTS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
"""What AdamW and SGD keep of a parameter."""


class Checkpoint(NamedTuple):
    """Tensors by name, and the words of the header."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, str]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Raises WriteError; an earlier checkpoint is then as it was."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with replacing(path) as temp:
        try:
            save_file(tensors, temp, dict(checkpoint.header))
        except SafetensorError as error:  # which hides the system's reason in its text
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else 0, str(error)) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors, on the CPU, and the header.  Raises OSError or SafetensorError when it is
    missing or damaged.
    """
    with safe_open(path, "pt") as file:
        return Checkpoint({key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {}))  # noqa: SIM118


def read_header(path: Path) -> dict[str, str] | None:
    """What a checkpoint says of itself; None when there is none, or it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return None


def moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """What the optimizer keeps of the parameters: ``<prefix><slot>.<parameter's name>``
    (``exp_avg.conv.weight``).
    """
    return {
        f"{prefix}{slot}.{name}": value
        for name, parameter in parameters.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def put_moments(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    prefix: str = "",
) -> None:
    """Put back what ``moments`` gave; of a parameter that has none there, the optimizer knows
    nothing then.
    """
    for name, parameter in parameters.items():
        found = {slot: tensors[key] for slot in SLOTS if (key := f"{prefix}{slot}.{name}") in tensors}
        # The counter of steps stays on the CPU, where AdamW keeps it.
        placed = {slot: value if slot == "step" else value.to(parameter.device) for slot, value in found.items()}
        optimizer.state.pop(parameter, None)
        if placed:
            optimizer.state[parameter] = placed
