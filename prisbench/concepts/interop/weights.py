"""Learned weights from files: keys and values of attention, updates of low rank, whole models.

Knows: the keys of diffusers, peft and kohya, and which parameter each is.  Does not know: how they
are used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prisbench.concepts.interop.formats import CUSTOM_KEY, EMBEDS, LORA_KEY, MODEL_FILES, PICKLED
from prisbench.concepts.interop.parameter_names import (
    fitting,
    is_own,
    parameters,
    shapes_of,
    spellings,
    with_or_without,
    without_wrappers,
)
from prisbench.concepts.interop.reading import Read, tensors_of
from prisbench.concepts.interop.vectors import vectors_of
from prisbench.concepts.weights import LORA, PARTS
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import DataError
from prisbench.runtime.files import sha256_json


def custom_diffusion(file: Path, found: Mapping[str, Tensor], backbone: Backbone, hashes: dict[str, str]) -> Read:
    shapes, tensors = shapes_of(backbone), dict[str, np.ndarray]()
    for key, tensor in found.items():
        if tensor.numel() == 0:
            continue
        match = CUSTOM_KEY.fullmatch(key)
        name = f"unet.{match['block']}.{match['which']}{match['rest']}" if match else ""
        if name not in shapes:
            raise DataError(f"{file}: key {key!r} is no attention of {backbone.id}")
        tensors[name] = fitting(file, key, tensor, shapes[name], backbone)
    beside = [each for each in sorted(file.parent.glob("*.safetensors")) if each != file]
    firsts = [each for each in beside if not (each.stem.endswith("_2") and each.with_stem(each.stem[:-2]) in beside)]
    if len(firsts) > 1:
        raise DataError(
            f"{file.parent} holds several tokens ({', '.join(p.name for p in firsts)}); leave the subject's"
        )
    for first in firsts:
        tensors |= vectors_of(first, tensors_of(first, hashes)[0], backbone, hashes)
    return Read("custom-diffusion", tensors, {})


def low_rank_updates(file: Path, found: Mapping[str, Tensor], remarks: Mapping[str, str], backbone: Backbone) -> Read:
    shapes = shapes_of(backbone)
    per_block = backbone.unet.config.get("layers_per_block", 1)
    layers = per_block if isinstance(per_block, int) else per_block[0]
    spelled = {
        spelling: name.removesuffix(".weight")
        for name in shapes
        if name.endswith(".weight")
        for spelling in spellings(name.removesuffix(".weight"), layers)
    }
    updates: dict[str, dict[str, tuple[str, Tensor]]] = {}
    for key, tensor in found.items():
        match = LORA_KEY.fullmatch(key)
        module = (
            next((spelled[each] for each in without_wrappers(match["module"]) if each in spelled), "") if match else ""
        )
        if not match or not module:
            raise DataError(f"{file}: key {key!r} is no low-rank update of a layer of {backbone.id}")
        half = "a" if match["a"] else "b" if match["b"] else "alpha"
        if half in updates.setdefault(module, {}):
            raise DataError(f"{file}: {updates[module][half][0]!r} and {key!r} are updates of one layer")
        updates[module][half] = (key, tensor)

    tensors, common = dict[str, np.ndarray](), None
    for module, parts in updates.items():
        if not {"a", "b"} <= set(parts):
            raise DataError(f"{file}: {next(iter(parts.values()))[0]!r} stands alone, the other half is missing")
        (key, down), (key_up, up) = parts["a"], parts["b"]
        if min(down.ndim, up.ndim) < 2 or ("alpha" in parts and parts["alpha"][1].numel() != 1):
            raise DataError(f"{file}: {key!r} of shape {tuple(down.shape)}, its other half or its alpha is no update")
        shape = shapes[f"{module}.weight"]
        down = torch.from_numpy(fitting(file, key, down, (len(down), *shape[1:]), backbone))
        up = torch.from_numpy(fitting(file, key_up, up, (shape[0], len(down), *(1 for _ in shape[2:])), backbone))
        alpha = float(parts["alpha"][1]) if "alpha" in parts else _recorded_alpha(file, remarks, module, len(down))
        if alpha <= 0:
            raise DataError(f"{file}: alpha of {key!r} is {alpha}; it must be positive")
        common = common or alpha  # a concept has one: where the file has several, they go into the second half
        tensors[module + LORA[0]] = down.numpy()
        tensors[module + LORA[1]] = (up * (alpha / common)).numpy()
    if not any(tensor.any() for name, tensor in tensors.items() if name.endswith(LORA[1])):
        raise DataError(
            f"{file}: the second halves of all its updates are zeros, as before training; nothing was learned"
        )
    return Read("dreambooth-lora", tensors, {"alpha": common})


def _recorded_alpha(file: Path, remarks: Mapping[str, str], module: str, rank: int) -> float:
    """Alpha as diffusers keeps it beside the tensors ("lora_adapter_metadata"); without a word of
    it, the rank.
    """
    try:
        config = json.loads(remarks.get("lora_adapter_metadata", "{}"))
        part, _, name = module.partition(".")
        patterns = config.get(f"{part}.alpha_pattern") or {}
        own = [alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", name)]
        alpha = own[0] if own else config.get(f"{part}.lora_alpha", rank)
        return float(alpha) * (rank**0.5 if config.get(f"{part}.use_rslora") else 1)
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise DataError(f"{file}: its 'lora_adapter_metadata' cannot be read ({error})") from None


def _holds_models(path: Path) -> bool:
    """Whether a folder has models in folders of their own, not one model's files."""
    return (path / "unet").exists() or (path / "transformer").exists()


def whole_models(path: Path, backbone: Backbone, hashes: dict[str, str]) -> Read:
    """What differs from the backbone in a folder of models, or in one U-Net's folder."""
    shapes, own = shapes_of(backbone), dict(parameters(backbone))
    folders = {part: path / part for part in PARTS} if _holds_models(path) else {next(iter(backbone.models)): path}
    tensors: dict[str, np.ndarray] = {}
    for part, folder in folders.items():
        if not folder.exists():
            continue
        stem, seen = MODEL_FILES[part], set[str]()
        whole = folder / f"{stem}.safetensors"
        shards = [whole] if whole.is_file() else sorted(folder.glob(f"{stem}-?????-of-?????.safetensors"))
        if not shards:
            pickled = next((each for each in sorted(folder.glob(f"{stem}*")) if each.suffix in PICKLED), None)
            raise DataError(f"{pickled or whole} " + ("is pickled, never read" if pickled else "does not exist"))
        for file in shards:
            for key, tensor in tensors_of(file, hashes)[0].items():
                if key.endswith("position_ids"):
                    continue
                name = next((each for each in with_or_without(f"{part}.{key}") if each in shapes), "")
                if not name:
                    raise DataError(f"{file}: key {key!r} is no parameter of the {part} of {backbone.id}")
                seen.add(name)
                value = fitting(file, key, tensor, shapes[name], backbone)
                if not is_own(torch.from_numpy(value), own[name]):
                    tensors[name] = value
        if missing := sorted(name for name in shapes if name.startswith(f"{part}.") and name not in seen):
            raise DataError(f"{shards[0]} lacks {len(missing)} parameters, first {missing[0]!r}; it is incomplete")
        hashes[part] = sha256_json([hashes.pop(file.name) for file in shards])
    if (path / EMBEDS[0]).is_file():
        tensors |= vectors_of(path / EMBEDS[0], tensors_of(path / EMBEDS[0], hashes)[0], backbone, hashes)
    if not tensors:
        raise DataError(f"{path} holds nothing but {backbone.id} itself; nothing was learned there")
    return Read("dreambooth", tensors, {})
