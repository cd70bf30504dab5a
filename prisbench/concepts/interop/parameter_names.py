"""A model's parameters by name and shape, and how files of other programs spell those names.

Knows: the backbone's parameters, the spellings of diffusers, peft and kohya.  Does not know:
files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prisbench.concepts.weights import PARTS
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import DataError


def parameters(backbone: Backbone) -> Iterator[tuple[str, Tensor]]:
    for part, model in backbone.models.items():
        yield from ((f"{part}.{name}", parameter.data) for name, parameter in model.named_parameters())


def shapes_of(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in parameters(backbone)}


def fitting(file: Path, key: str, tensor: Tensor, shape: tuple[int, ...], backbone: Backbone) -> np.ndarray:
    """The tensor in that shape; a 1 x 1 convolution may be written as a matrix, and the other way
    round.
    """

    def matrix(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return sizes[:2] if sizes[2:] == (1, 1) else sizes

    if matrix(tuple(tensor.shape)) != matrix(shape):
        raise DataError(f"{file}: {key!r} of shape {tuple(tensor.shape)} does not fit {backbone.id}, which has {shape}")
    return tensor.reshape(shape).numpy()


def long_name(module: str) -> str:
    """CLIP's modules with "text_model", as published files name them whatever transformers'
    version.
    """
    part, _, name = module.partition(".")
    outside = part in ("unet", "transformer") or name.startswith(("text_model.", "text_projection"))
    return module if outside else f"{part}.text_model.{name}"


def is_own(value: Tensor, own: Tensor) -> bool:
    """Whether a value in float32 is the model's own, as it is or as a file in half precision has
    it.
    """
    kinds = {own.dtype, torch.float16, torch.bfloat16}
    return any(torch.equal(value.to(own.device), own.to(kind).float()) for kind in kinds)


def with_or_without(name: str) -> tuple[str, ...]:
    return name, name.replace(".text_model.", ".", 1), long_name(name)


def kohya_name(module: str, text: str) -> str:
    prefix = {"unet": "lora_unet_", "text_encoder": text, "text_encoder_2": "lora_te2_", "text_encoder_3": "lora_te3_"}
    prefix["transformer"] = "lora_transformer_"
    part, _, name = long_name(module).partition(".")
    return prefix[part] + name.replace(".", "_")


def without_wrappers(module: str) -> Iterator[str]:
    """A layer's name in a file, and what it is called there without peft's wrapper or with the part it leaves out:
    files of one model alone do not say which model it is.
    """
    plain = re.sub(r"(^|\.)base_model\.model\.", r"\1", module)
    yield from (module, plain)
    yield from (f"{part}.{plain}" for part in PARTS)


def spellings(module: str, layers: int) -> Iterator[str]:
    """How files name a layer.

    Peft's way; kohya's; kohya's of SDXL, the blocks of Stable Diffusion's first code, counted
    through all levels; and diffusers' of 2023, where updates were attention processors' (diffusers
    ``loaders/lora_conversion_utils.py``).
    """
    yield from (module, long_name(module), kohya_name(module, "lora_te_"), kohya_name(module, "lora_te1_"))
    first, last = module.rpartition(".")[::2]
    if last.endswith("_proj") and first.endswith(".self_attn"):
        yield f"{long_name(first)}.to_{last.removesuffix('_proj')}_lora"
    if re.search(r"\.attn[12]$", first):
        yield f"{first}.processor.{last}_lora"
    elif first.endswith(".to_out"):
        yield f"{first.removesuffix('.to_out')}.processor.to_out_lora"
    if match := re.fullmatch(r"unet\.(down|mid|up)_blocks?\.(?:(\d+)\.)?attentions\.(\d+)\.(.+)", module):
        level, layer, rest = int(match[2] or 0), int(match[3]), match[4].replace(".", "_")
        blocks = {
            "down": f"input_blocks_{level * (layers + 1) + layer + 1}",
            "mid": "middle_block",
            "up": f"output_blocks_{level * (layers + 1) + layer}",
        }
        yield f"lora_unet_{blocks[match[1]]}_1_{rest}"
