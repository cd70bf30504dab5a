"""What a frozen model makes of a photo or a prompt, kept on disk by content, so that it is computed once.

Knows: a folder of safetensors files named by hashes, what decides a photo's latents.  Does not know: models.

An entry is what was computed, bit for bit.  A cache that cannot be written is no error: the work is done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Encoded, encode_image, fit
from prisbench.errors import PrisbenchError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import image_id
from prisbench.runtime.files import sha256_json, write_bytes


def once(
    folder: Path | None, parts: Mapping[str, Any], device: torch.device, compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """``compute()``, or what it gave when it was last called for the same ``parts`` (plain JSON values that decide
    all).

    A damaged entry is computed again.  ``folder`` None computes always.
    """
    if folder is None:
        return compute()
    name = sha256_json({**parts, "device": device.type, "torch": torch.__version__})
    path = folder / name[:2] / f"{name[2:34]}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        return {key: tensor.to(device) for key, tensor in load(path.read_bytes()).items()}
    tensors = compute()
    with contextlib.suppress(PrisbenchError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}))
    return tensors


def made_by(backbone: Backbone) -> dict[str, str]:
    """The parts that name who computed."""
    return {"backbone": backbone.id, "dtype": str(backbone.dtype), "configuration": backbone.configuration}


def latents_of(folder: Path | None, backbone: Backbone, photo: ImageLike, working_size: str | int) -> Encoded:
    """``encode_image``, once."""
    photo = as_image(photo)
    h, w = photo.shape[:2]
    geometry = fit((h, w), working_size, backbone.native_area_px, backbone.stride)
    parts = made_by(backbone) | {"photo": image_id(photo), "working_size": working_size}
    made = once(
        folder, parts, backbone.device, lambda: {"latents": encode_image(backbone, photo, working_size).latents}
    )
    return Encoded(made["latents"], geometry)
