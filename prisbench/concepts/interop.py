"""Concepts in the files that other programs read and write, and back.

    learned-embeds    diffusers' textual inversion: ``learned_embeds.safetensors`` {token: n x d}; SDXL's second text
                      encoder has ``learned_embeds_2.safetensors`` (diffusers ``loaders/textual_inversion.py``)
    a1111             one file named as its token: {"emb_params": n x d}, of SDXL {"clip_l", "clip_g"}
    lora              diffusers and peft: ``pytorch_lora_weights.safetensors``, ``unet.<module>.lora_A.weight``, ...
    kohya             one file: ``lora_unet_<module with _ for .>.lora_down.weight``, ``.lora_up.weight``, ``.alpha``
    custom-diffusion  diffusers: ``pytorch_custom_diffusion_weights.safetensors``, the token in ``<token>.safetensors``
    folder            whole models with the concept's weights in them, as ``save_pretrained`` writes: ``unet``, and
                      ``text_encoder`` where it was changed; vectors beside them as learned-embeds

A learned token stands before its noun here ("a photo of a <token> mug"); write it so in the other program, too.
Only safetensors is read; a pickled file could run anything.

Knows: file names, keys and shapes.  Does not know: how anything is learned or used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import save
from safetensors.torch import load
from torch import Tensor

from prisbench.concepts.names import check_rare_word, placeholders
from prisbench.concepts.store import check_backbone
from prisbench.concepts.weights import LORA, PARTS, adapted, low_rank
from prisbench.diffusion.backbone import VECTORS, Backbone
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.runtime.files import new_folder, read_bytes, sha256_bytes, sha256_json, write_bytes
from prisbench.types import Concept

FORMATS: Mapping[str, tuple[str, ...]] = {
    "learned-embeds": ("vectors",),
    "a1111": ("vectors",),
    "lora": ("lora",),
    "kohya": ("lora",),
    "custom-diffusion": ("vectors", "keys and values"),
    "folder": ("vectors", "lora", "keys and values", "weights"),
}
"""Format -> the kinds of tensors it can hold."""

EMBEDS = ("learned_embeds.safetensors", "learned_embeds_2.safetensors")
LORA_FILE = "pytorch_lora_weights.safetensors"
CUSTOM_FILE = "pytorch_custom_diffusion_weights.safetensors"
MODEL_FILES = {"unet": "diffusion_pytorch_model", "text_encoder": "model", "text_encoder_2": "model"}
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
XL_KEYS = ("clip_l", "clip_g")

_CUSTOM = re.compile(
    r"(?P<block>.+\.attn2)\.processor\."
    r"(?P<which>to_[kvq]|to_out)_custom_diffusion(?P<rest>\.weight|\.0\.weight|\.0\.bias)"
)
_HALF = re.compile(
    r"(?P<module>.+?)\.(?:(?P<a>lora_A|lora\.down|lora_down|down)\.weight|(?P<b>lora_B|lora\.up|lora_up|up)\.weight|alpha)"
)
_KEYS_AND_VALUES = re.compile(r"unet\.(?P<block>.+\.attn2)\.(?P<which>to_[kv])\.weight")


# --- out ------------------------------------------------------------------------------------------------------------


def export_concept(
    concept: Concept, format: str, target: str | Path, backbone: Backbone | None = None, token: str | None = None
) -> tuple[Path, ...]:
    """Write a concept into the folder ``target`` in one of FORMATS; gives the files (of "folder": folders and files).

    ``token`` is what other programs call the vectors, ``<subject id>`` unless said.  With ``backbone`` it is checked
    against the tokenizer; "folder" needs the backbone.  Each file appears whole or not at all, older ones are replaced.

    Of "lora" the factor ``alpha / rank`` is multiplied into ``lora_B``, since programs differ in where they look for
    alpha; "kohya" has a place for it.  Raises UnknownNameError for the format, UsageError for a concept it cannot hold
    or a token that cannot be used, BackboneError for another backbone, WriteError.
    """
    if format not in FORMATS:
        raise UnknownNameError("concept format", format, FORMATS)
    # How learning went (``training.run``) is no part of what was learned.
    concept = replace(concept, tensors={name: each for name, each in concept.tensors.items() if name != "losses"})
    if not concept.tensors:
        raise UsageError(f"concept {concept.id} ({concept.learner}) holds nothing that was learned; nothing to export")
    for name in concept.tensors:
        if _kind(name) not in FORMATS[format]:
            kinds = {_kind(each) for each in concept.tensors}
            fitting = [each for each, held in FORMATS.items() if kinds <= set(held)]
            raise UsageError(
                f"the format {format} cannot hold {name} of concept {concept.id} ({concept.learner}); "
                f"it fits into {' or '.join(fitting)}"
            )
    if backbone is not None:
        check_backbone(concept, backbone.id)
    token = token or f"<{'-'.join(concept.subject_id.split())}>"
    vectors = {name: concept.tensors[name] for name in VECTORS if name in concept.tensors}
    if vectors:
        if re.search(r"[\s/\\]", token):
            raise UsageError(f"a token's name must be one word without slashes, such as <my-mug>; not {token!r}")
        if backbone is not None:
            placeholders(backbone.tokenizer, token, max(map(len, vectors.values())))
    folder = Path(target)
    plain = re.sub(r"[^\w.-]", "-", token.strip("<>")).strip("-.") or "concept"
    if format == "a1111":
        keys = XL_KEYS if len(vectors) == 2 else ("emb_params",)
        both = dict(zip(keys, vectors.values(), strict=True))
        return (_write(folder / f"{plain}.safetensors", both),)
    if format == "lora":
        return (_write(folder / LORA_FILE, dict(_peft_keys(concept))),)
    if format == "kohya":
        return (_write(folder / f"{plain}.safetensors", dict(_kohya_keys(concept))),)
    if format == "custom-diffusion":
        names = (f"{token}.safetensors", f"{token}_2.safetensors")
        return (_write(folder / CUSTOM_FILE, dict(_custom_keys(concept))), *_embeddings(folder, names, vectors, token))
    models: tuple[Path, ...] = ()
    if format == "folder":
        if backbone is None:
            raise UsageError("the format folder holds whole models, so it needs the backbone; say --backbone")
        models = tuple(_write_models(concept, folder, backbone))
    return (*models, *_embeddings(folder, EMBEDS, vectors, token))


def _kind(name: str) -> str:
    if name in VECTORS:
        return "vectors"
    if name.endswith(LORA):
        return "lora"
    return "keys and values" if _KEYS_AND_VALUES.fullmatch(name) else "weights"


def _write(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    data = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, {"format": "pt"})
    return write_bytes(path, data)


def _embeddings(folder: Path, names: tuple[str, str], vectors: Mapping[str, np.ndarray], token: str) -> Iterator[Path]:
    for which, array in vectors.items():
        yield _write(folder / names[VECTORS.index(which)], {token: array})


def _peft_keys(concept: Concept) -> Iterator[tuple[str, np.ndarray]]:
    for module, down, up, alpha in low_rank(concept):
        name = _long(module)
        yield name + LORA[0], down
        yield name + LORA[1], (up * (alpha / len(down))).astype(up.dtype)


def _kohya_keys(concept: Concept) -> Iterator[tuple[str, np.ndarray]]:
    two = any(name.startswith("text_encoder_2.") for name in concept.tensors)
    for module, down, up, alpha in low_rank(concept):
        name = _kohya(module, "lora_te1_" if two else "lora_te_")
        yield f"{name}.lora_down.weight", down
        yield f"{name}.lora_up.weight", up
        yield f"{name}.alpha", np.array(alpha, np.float32)


def _custom_keys(concept: Concept) -> Iterator[tuple[str, np.ndarray]]:
    """With an empty tensor for each self-attention: diffusers wants to be told that nothing changes there."""
    halves: dict[str, set[str]] = {}
    for name, array in concept.tensors.items():
        if match := _KEYS_AND_VALUES.fullmatch(name):
            halves.setdefault(match["block"], set()).add(match["which"])
            yield f"{match['block']}.processor.{match['which']}_custom_diffusion.weight", array
    for block, which in halves.items():
        if which != {"to_k", "to_v"}:
            raise UsageError(f"custom-diffusion wants keys and values; concept {concept.id} has {which} of {block}")
        yield block.removesuffix("attn2") + "attn1.processor", np.zeros(0, np.float32)


def _write_models(concept: Concept, folder: Path, backbone: Backbone) -> Iterator[Path]:
    """A folder for each model that the concept changes."""
    for part in PARTS:
        if any(name.startswith(f"{part}.") for name in concept.tensors):
            with new_folder(folder / part, overwrite=True, marker="config.json") as temp, adapted(backbone, concept):
                getattr(backbone, part).save_pretrained(temp, safe_serialization=True)
            yield folder / part


# --- in -------------------------------------------------------------------------------------------------------------


class _Read(NamedTuple):
    """What files hold: the learner that makes such, tensors as ``concepts.weights`` names them, recipe."""

    learner: str
    tensors: dict[str, np.ndarray]
    recipe: dict[str, Any]


def import_concept(
    path: str | Path, backbone: Backbone, noun: str, subject_id: str = "imported", rare: str = ""
) -> Concept:
    """A concept from a file of another program, or from a folder that has such files by their usual names.

    What it is, its keys say.  ``rare`` is the word that DreamBooth or a LoRA was taught ("sks"); files do not say it.
    Of whole models only the parameters that differ from the backbone's are kept.  The id is a hash of the files, the
    backbone, the noun and the rare word.

    Raises DataError, in one line that names file and key, for what is pickled, corrupt, unknown or of other shapes, and
    UsageError for a noun without tokens or a rare word that is none.
    """
    if not backbone.tokenizer(noun, add_special_tokens=False).input_ids:
        raise UsageError(f"the noun {noun!r} is no word for the tokenizer; give the class word, such as 'mug'")
    if rare:
        check_rare_word(backbone.tokenizer, rare, noun)
    path, hashes = Path(path).expanduser(), dict[str, str]()
    read = _models(path, backbone, hashes) if _is_models(path) else _file(_chosen(path), backbone, hashes)
    recipe = {**read.recipe, "imported": hashes, **({"rare": rare} if rare else {})}
    id = sha256_json({"backbone": backbone.id, "noun": noun, "recipe": recipe})[:16]
    return Concept(id, subject_id, noun, read.learner, backbone.id, read.tensors, recipe)


def _is_models(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in ("unet", "config.json"))


def _chosen(path: Path) -> Path:
    """The file meant by a path."""
    if not path.is_dir():
        return path
    for name in (CUSTOM_FILE, LORA_FILE, EMBEDS[0]):
        if (path / name).is_file():
            return path / name
    there = sorted(path.glob("*.safetensors"))
    if len(there) == 1:
        return there[0]
    if not there and (pickled := [each for each in sorted(path.iterdir()) if each.suffix in PICKLED]):
        return pickled[0]
    raise DataError(f"{path} holds {len(there)} .safetensors files; name the file that is the concept")


def _tensors(file: Path, hashes: dict[str, str]) -> tuple[dict[str, Tensor], dict[str, str]]:
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


def _file(file: Path, backbone: Backbone, hashes: dict[str, str]) -> _Read:
    found, remarks = _tensors(file, hashes)
    if any("custom_diffusion" in key for key in found):
        return _custom(file, found, backbone, hashes)
    if any(_HALF.fullmatch(key) for key in found):
        return _lora(file, found, remarks, backbone)
    return _Read("textual-inversion", _vectors(file, found, backbone, hashes), {})


def _vectors(file: Path, found: Mapping[str, Tensor], backbone: Backbone, hashes: dict[str, str]) -> dict[str, Any]:
    """The vectors for each text encoder; of SDXL in diffusers' layout, with the second file that stands beside."""
    tables = backbone.token_tables
    if set(found) == set(XL_KEYS):
        rows = {name: (file, key, found[key]) for name, key in zip(VECTORS, XL_KEYS, strict=True)}
    elif len(found) == 1:
        rows = {VECTORS[0]: (file, *next(iter(found.items())))}
        second = file.with_name(f"{file.stem}_2.safetensors")
        if len(tables) == 2:
            if not second.is_file():
                raise DataError(f"{file} has vectors for one text encoder, {backbone.id} has two: no {second.name}")
            more, _ = _tensors(second, hashes)
            if len(more) != 1:
                raise DataError(f"{second}: one token is wanted, it has {', '.join(sorted(more)[:3])}, ...")
            rows[VECTORS[1]] = (second, *next(iter(more.items())))
    else:
        raise DataError(f"{file}: key {sorted(found)[0]!r} is of no format we know ({', '.join(FORMATS)})")
    if len(rows) != len(tables):
        raise DataError(f"{file} has vectors for {len(rows)} text encoders, {backbone.id} has {len(tables)}")
    vectors = {}
    for name, (where, key, tensor) in rows.items():
        n_d = torch.atleast_2d(tensor)
        if n_d.ndim != 2 or not len(n_d) or n_d.shape[1] != tables[name].shape[1]:
            raise DataError(
                f"{where}: {key!r} of shape {tuple(tensor.shape)} does not fit {backbone.id}, whose tokens are vectors "
                f"of {tables[name].shape[1]}"
            )
        vectors[name] = n_d.numpy()
    if len({len(each) for each in vectors.values()}) != 1:
        raise DataError(f"{file}: the two text encoders have different numbers of vectors")
    return vectors


def _custom(file: Path, found: Mapping[str, Tensor], backbone: Backbone, hashes: dict[str, str]) -> _Read:
    shapes, tensors = _shapes(backbone), dict[str, np.ndarray]()
    for key, tensor in found.items():
        if tensor.numel() == 0:
            continue
        match = _CUSTOM.fullmatch(key)
        name = f"unet.{match['block']}.{match['which']}{match['rest']}" if match else ""
        if name not in shapes:
            raise DataError(f"{file}: key {key!r} is no attention of {backbone.id}")
        tensors[name] = _fitting(file, key, tensor, shapes[name], backbone)
    beside = [each for each in sorted(file.parent.glob("*.safetensors")) if each != file]
    firsts = [each for each in beside if not (each.stem.endswith("_2") and each.with_stem(each.stem[:-2]) in beside)]
    if len(firsts) > 1:
        raise DataError(
            f"{file.parent} holds several tokens ({', '.join(p.name for p in firsts)}); leave the subject's"
        )
    for first in firsts:
        tensors |= _vectors(first, _tensors(first, hashes)[0], backbone, hashes)
    return _Read("custom-diffusion", tensors, {})


def _lora(file: Path, found: Mapping[str, Tensor], remarks: Mapping[str, str], backbone: Backbone) -> _Read:
    shapes = _shapes(backbone)
    per_block = backbone.unet.config["layers_per_block"]
    layers = per_block if isinstance(per_block, int) else per_block[0]
    spelled = {
        spelling: name.removesuffix(".weight")
        for name in shapes
        if name.endswith(".weight")
        for spelling in _spellings(name.removesuffix(".weight"), layers)
    }
    updates: dict[str, dict[str, tuple[str, Tensor]]] = {}
    for key, tensor in found.items():
        match = _HALF.fullmatch(key)
        if not match or match["module"] not in spelled:
            raise DataError(f"{file}: key {key!r} is no low-rank update of a layer of {backbone.id}")
        half = "a" if match["a"] else "b" if match["b"] else "alpha"
        updates.setdefault(spelled[match["module"]], {})[half] = (key, tensor)

    tensors, common = dict[str, np.ndarray](), None
    for module, parts in updates.items():
        if not {"a", "b"} <= set(parts):
            raise DataError(f"{file}: {next(iter(parts.values()))[0]!r} stands alone, the other half is missing")
        (key, down), (key_up, up) = parts["a"], parts["b"]
        if min(down.ndim, up.ndim) < 2 or ("alpha" in parts and parts["alpha"][1].numel() != 1):
            raise DataError(f"{file}: {key!r} of shape {tuple(down.shape)}, its other half or its alpha is no update")
        shape = shapes[f"{module}.weight"]
        down = torch.from_numpy(_fitting(file, key, down, (len(down), *shape[1:]), backbone))
        up = torch.from_numpy(_fitting(file, key_up, up, (shape[0], len(down), *(1 for _ in shape[2:])), backbone))
        alpha = float(parts["alpha"][1]) if "alpha" in parts else _recorded_alpha(file, remarks, module, len(down))
        if alpha <= 0:
            raise DataError(f"{file}: alpha of {key!r} is {alpha}; it must be positive")
        common = common or alpha  # a concept has one: where the file has several, they go into the second half
        tensors[module + LORA[0]] = down.numpy()
        tensors[module + LORA[1]] = (up * (alpha / common)).numpy()
    return _Read("dreambooth-lora", tensors, {"alpha": common})


def _recorded_alpha(file: Path, remarks: Mapping[str, str], module: str, rank: int) -> float:
    """Alpha as diffusers keeps it beside the tensors ("lora_adapter_metadata"); without a word of it, the rank."""
    try:
        config = json.loads(remarks.get("lora_adapter_metadata", "{}"))
        part, _, name = module.partition(".")
        patterns = config.get(f"{part}.alpha_pattern") or {}
        own = [alpha for pattern, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({pattern})", name)]
        alpha = own[0] if own else config.get(f"{part}.lora_alpha", rank)
        return float(alpha) * (rank**0.5 if config.get(f"{part}.use_rslora") else 1)
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise DataError(f"{file}: its 'lora_adapter_metadata' cannot be read ({error})") from None


def _models(path: Path, backbone: Backbone, hashes: dict[str, str]) -> _Read:
    """What differs from the backbone in a folder of models, or in one U-Net's folder."""
    shapes, own = _shapes(backbone), dict(_parameters(backbone))
    folders = {part: path / part for part in PARTS} if (path / "unet").exists() else {"unet": path}
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
            for key, tensor in _tensors(file, hashes)[0].items():
                if key.endswith("position_ids"):
                    continue
                name = next((each for each in _with_or_without(f"{part}.{key}") if each in shapes), "")
                if not name:
                    raise DataError(f"{file}: key {key!r} is no parameter of the {part} of {backbone.id}")
                seen.add(name)
                value = _fitting(file, key, tensor, shapes[name], backbone)
                if not _rounded(torch.from_numpy(value), own[name]):
                    tensors[name] = value
        if missing := sorted(name for name in shapes if name.startswith(f"{part}.") and name not in seen):
            raise DataError(f"{shards[0]} lacks {len(missing)} parameters, first {missing[0]!r}; it is incomplete")
        hashes[part] = sha256_json([hashes.pop(file.name) for file in shards])
    if (path / EMBEDS[0]).is_file():
        tensors |= _vectors(path / EMBEDS[0], _tensors(path / EMBEDS[0], hashes)[0], backbone, hashes)
    if not tensors:
        raise DataError(f"{path} holds nothing but {backbone.id} itself; nothing was learned there")
    return _Read("dreambooth", tensors, {})


# --- names ----------------------------------------------------------------------------------------------------------


def _parameters(backbone: Backbone) -> Iterator[tuple[str, Tensor]]:
    for part in PARTS:
        model: Any = getattr(backbone, part)
        if model is not None:
            yield from ((f"{part}.{name}", parameter.data) for name, parameter in model.named_parameters())


def _shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in _parameters(backbone)}


def _fitting(file: Path, key: str, tensor: Tensor, shape: tuple[int, ...], backbone: Backbone) -> np.ndarray:
    """The tensor in that shape; a 1 x 1 convolution may be written as a matrix, and the other way round."""

    def matrix(sizes: tuple[int, ...]) -> tuple[int, ...]:
        return sizes[:2] if sizes[2:] == (1, 1) else sizes

    if matrix(tuple(tensor.shape)) != matrix(shape):
        raise DataError(f"{file}: {key!r} of shape {tuple(tensor.shape)} does not fit {backbone.id}, which has {shape}")
    return tensor.reshape(shape).numpy()


def _long(module: str) -> str:
    """CLIP's modules with "text_model", as published files name them whatever transformers' version."""
    part, _, name = module.partition(".")
    outside = part == "unet" or name.startswith(("text_model.", "text_projection"))
    return module if outside else f"{part}.text_model.{name}"


def _rounded(value: Tensor, own: Tensor) -> bool:
    """Whether a value in float32 is the model's own, as it is or as a file in half precision has it."""
    kinds = {own.dtype, torch.float16, torch.bfloat16}
    return any(torch.equal(value.to(own.device), own.to(kind).float()) for kind in kinds)


def _with_or_without(name: str) -> tuple[str, ...]:
    return name, name.replace(".text_model.", ".", 1), _long(name)


def _kohya(module: str, text: str) -> str:
    prefix = {"unet": "lora_unet_", "text_encoder": text, "text_encoder_2": "lora_te2_"}
    part, _, name = _long(module).partition(".")
    return prefix[part] + name.replace(".", "_")


def _spellings(module: str, layers: int) -> Iterator[str]:
    """How files name a layer.

    Peft's way; kohya's; kohya's of SDXL, the blocks of Stable Diffusion's first code, counted through all levels; and
    diffusers' of 2023, where updates were attention processors' (diffusers ``loaders/lora_conversion_utils.py``).
    """
    yield from (module, _long(module), _kohya(module, "lora_te_"), _kohya(module, "lora_te1_"))
    first, last = module.rpartition(".")[::2]
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
