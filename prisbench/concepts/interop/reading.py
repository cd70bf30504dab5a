"""What a file of another program holds, read without trust.

Knows: safetensors.  Does not know: keys, models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from prisbench.concepts.interop.formats import PICKLED
from prisbench.errors import DataError
from prisbench.runtime.files import read_bytes, sha256_bytes


class Read(NamedTuple):
    """What files hold: the learner that makes such, tensors as ``concepts.weights`` names them,
    recipe.
    """

    learner: str
    tensors: dict[str, np.ndarray]
    recipe: dict[str, Any]


def tensors_of(file: Path, hashes: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor in float32, and the file's own remarks."""
    if file.suffix.lower() in PICKLED:
        raise DataError(f"{file} is pickled and could run anything, so it is not read; convert it to .safetensors")
    data = read_bytes(file)
    try:
        found = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"{file} is no safetensors file, or was cut short ({error})") from None
    if not found:
        raise DataError(f"{file} holds no tensors")
    for key, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise DataError(f"{file}: {key!r} holds NaN or infinity; the file is damaged")
    hashes[file.name] = sha256_bytes(data)
    return {key: tensor.float().contiguous() for key, tensor in found.items()}, header.get("__metadata__", {})
