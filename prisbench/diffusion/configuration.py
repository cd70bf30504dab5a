"""What a pipeline's folder says of its models beside their weights: two models may share weights and differ in it.

Knows: which files of a folder decide numbers, and which of their keys are stamps.  Does not know: models.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prisbench.runtime.files import read_bytes, sha256_json

FILES = (
    "scheduler/scheduler_config.json",
    *(
        f"{part}/config.json"
        for part in ("unet", "vae", "text_encoder", "text_encoder_2", "transformer", "text_encoder_3")
    ),
    *(
        f"{part}/{name}.json"
        for part in ("tokenizer", "tokenizer_2", "tokenizer_3")
        for name in ("tokenizer_config", "special_tokens_map")
    ),
)

STAMPS = {"transformers_version", "torch_dtype", "dtype"}
"""Keys that say what wrote a file; so do those that begin with an underscore."""


def configuration_sha256(folder: Path) -> str:
    """64 hexadecimal digits of a pipeline folder's configuration files, but for stamps of versions and names.

    Raises DataError for a file that cannot be read.
    """
    found = {}
    for name in FILES:
        if (folder / name).is_file():
            data = read_bytes(folder / name)
            try:
                found[name] = _plain(json.loads(data))
            except ValueError:
                found[name] = data.decode(errors="replace")  # what loads the model says what is wrong with it
    return sha256_json(found)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if not k.startswith("_") and k not in STAMPS}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return repr(value) if isinstance(value, float) else value
