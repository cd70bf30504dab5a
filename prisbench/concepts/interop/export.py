"""A concept written into a file of another program.

Knows: which format holds what, and its keys.  Does not know: how a concept was learned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from prisbench.concepts.interop.formats import CUSTOM_FILE, EMBEDS, FORMATS, KEYS_AND_VALUES, LORA_FILE, XL_KEYS
from prisbench.concepts.interop.parameter_names import kohya_name, long_name
from prisbench.concepts.names import placeholders
from prisbench.concepts.store import check_backbone
from prisbench.concepts.weights import LORA, PARTS, adapted, low_rank
from prisbench.diffusion.backbone import VECTORS, Backbone
from prisbench.errors import UnknownNameError, UsageError
from prisbench.runtime.files import new_folder, write_bytes
from prisbench.types import Concept


def export_concept(
    concept: Concept, format: str, target: str | Path, backbone: Backbone | None = None, token: str | None = None
) -> tuple[Path, ...]:
    """Write a concept into the folder ``target`` in one of FORMATS; gives the files (of "folder":
    folders and files).

    ``token`` is what other programs call the vectors, ``<subject id>`` unless said.  With
    ``backbone`` it is checked against the tokenizer; "folder" needs the backbone.  Each file
    appears whole or not at all, older ones are replaced.

    Of "lora" the factor ``alpha / rank`` is multiplied into ``lora_B``, since programs differ in
    where they look for alpha; "kohya" has a place for it.  Raises UnknownNameError for the format,
    UsageError for a concept it cannot hold or a token that cannot be used, BackboneError for
    another backbone, WriteError.
    """
    if format not in FORMATS:
        raise UnknownNameError("concept format", format, FORMATS)
    # How learning went (``training.run``) is no part of what was learned.
    concept = replace(concept, tensors={name: each for name, each in concept.tensors.items() if name != "losses"})
    if not concept.tensors:
        raise UsageError(f"concept {concept.id} ({concept.learner}) holds nothing that was learned; nothing to export")
    _check_family(concept, format)
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


def _check_family(concept: Concept, format: str) -> None:
    """Raises UsageError for a format that no program reads for the concept's kind of model."""
    family = concept.recipe.get("family")
    has_vectors = any(name in VECTORS for name in concept.tensors)
    if family is None or format in ("lora", "folder"):
        return
    if format == "learned-embeds" and (family == "flux" or not has_vectors):
        return
    readers = {
        "learned-embeds": "diffusers loads learned tokens for Flux.1 alone of these models",
        "a1111": "its keys are those of Stable Diffusion 1, 2 and SDXL",
        "kohya": "its names of layers are those of U-Nets; the format lora holds the same updates",
        "custom-diffusion": "diffusers loads it into U-Nets alone",
    }
    raise UsageError(
        f"the format {format} cannot hold a concept of {family}: {readers[format]}; prisbench itself reads the concept "
        "as it is"
    )


def _kind(name: str) -> str:
    if name in VECTORS:
        return "vectors"
    if name.endswith(LORA):
        return "lora"
    return "keys and values" if KEYS_AND_VALUES.fullmatch(name) else "weights"


def _write(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    data = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, {"format": "pt"})
    return write_bytes(path, data)


def _embeddings(folder: Path, names: tuple[str, str], vectors: Mapping[str, np.ndarray], token: str) -> Iterator[Path]:
    for which, array in vectors.items():
        yield _write(folder / names[VECTORS.index(which)], {token: array})


def _peft_keys(concept: Concept) -> Iterator[tuple[str, np.ndarray]]:
    for module, down, up, alpha in low_rank(concept):
        name = long_name(module)
        yield name + LORA[0], down
        yield name + LORA[1], (up * (alpha / len(down))).astype(up.dtype)


def _kohya_keys(concept: Concept) -> Iterator[tuple[str, np.ndarray]]:
    two = any(name.startswith("text_encoder_2.") for name in concept.tensors)
    for module, down, up, alpha in low_rank(concept):
        name = kohya_name(module, "lora_te1_" if two else "lora_te_")
        yield f"{name}.lora_down.weight", down
        yield f"{name}.lora_up.weight", up
        yield f"{name}.alpha", np.array(alpha, np.float32)


def _custom_keys(concept: Concept) -> Iterator[tuple[str, np.ndarray]]:
    """With an empty tensor for each self-attention: diffusers wants to be told that nothing
    changes there.
    """
    halves: dict[str, set[str]] = {}
    for name, array in concept.tensors.items():
        if match := KEYS_AND_VALUES.fullmatch(name):
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
                backbone.models[part].save_pretrained(temp, safe_serialization=True)
            yield folder / part
