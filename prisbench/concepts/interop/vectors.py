"""Learned vectors from a file: one for each token of a concept, for each text encoder.

Knows: the layouts of diffusers and of AUTOMATIC1111's program.  Does not know: weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prisbench.concepts.interop.formats import EMBEDS, FLUX_KEYS, FORMATS, XL_KEYS
from prisbench.concepts.interop.reading import tensors_of
from prisbench.diffusion.backbone import VECTORS, Backbone
from prisbench.errors import DataError


def vectors_of(file: Path, found: Mapping[str, Tensor], backbone: Backbone, hashes: dict[str, str]) -> dict[str, Any]:
    """The vectors for each text encoder; of SDXL in diffusers' layout, with the second file that
    stands beside.
    """
    tables = backbone.token_tables
    both = next((keys for keys in (XL_KEYS, FLUX_KEYS) if set(found) == set(keys)), None)
    if both is not None:
        rows = {name: (file, key, found[key]) for name, key in zip(VECTORS[:2], both, strict=True)}
    elif len(found) == 1:
        rows = {VECTORS[0]: (file, *next(iter(found.items())))}
        second = file.with_name(f"{file.stem}_2.safetensors")
        if len(tables) == 2:
            if not second.is_file():
                raise DataError(f"{file} has vectors for one text encoder, {backbone.id} has two: no {second.name}")
            more, _ = tensors_of(second, hashes)
            if len(more) != 1:
                raise DataError(f"{second}: one token is wanted, it has {', '.join(sorted(more)[:3])}, ...")
            rows[VECTORS[1]] = (second, *next(iter(more.items())))
    else:
        raise DataError(f"{file}: key {sorted(found)[0]!r} is of no format we know ({', '.join(FORMATS)})")
    if len(rows) != len(tables):
        raise DataError(f"{file} has vectors for {len(rows)} text encoders, {backbone.id} has {len(tables)}")
    vectors = {}
    places = backbone.tokenizer.model_max_length - 2
    for name, (where, key, tensor) in rows.items():
        if not _is_token(where, key):
            raise DataError(
                f"{where}: {key!r} is no token, so nothing says that this is a concept; if it is one, call the file "
                f"{EMBEDS[0]}, as diffusers does, or by its token"
            )
        n_d = torch.atleast_2d(tensor)
        if n_d.ndim != 2 or not len(n_d) or n_d.shape[1] != tables[name].shape[1]:
            raise DataError(
                f"{where}: {key!r} of shape {tuple(tensor.shape)} does not fit {backbone.id}, whose tokens are vectors "
                f"of {tables[name].shape[1]}"
            )
        if len(n_d) > places:
            raise DataError(f"{where}: {key!r} has {len(n_d)} vectors, and a prompt {places} places: it is no concept")
        if not n_d.any(dim=1).all():
            raise DataError(f"{where}: {key!r} holds a vector of zeros; nothing was learned there")
        vectors[name] = n_d.numpy()
    if len({len(each) for each in vectors.values()}) != 1:
        raise DataError(f"{file}: the two text encoders have different numbers of vectors")
    return vectors


def _is_token(file: Path, key: str) -> bool:
    """Whether a key says that its tensor is a token's: by the name that its program gives it, by angle brackets, or by
    the file's name.  What is called as parameters of models are is none.
    """
    if re.search(r"(^|[._])(weight|bias|alpha|mean|var|position_ids)$", key) or not key.strip():
        return False
    named = file.name.startswith("learned_embeds") or key.strip("<>") == file.stem.removesuffix("_2").strip("<>")
    return (
        key in (*XL_KEYS, *FLUX_KEYS, "emb_params", "*")
        or bool(re.fullmatch(r"<.+>", key))
        or (named and "." not in key)
    )
