"""A foundation model of transformers, from a folder or the hub, or one line that says why not; what methods that stand
on one share.

    located           a model's folder and its name in records; "embedded" is the small one that comes with prisbench
    class_of          what a configuration calls the class of its model
    load_network      the model of one class, frozen, on its device
    masked_photos     what a method that learns from masks is given, or one line

Knows: folders of transformers, the words for what is wrong with one.  Does not know: any model, any method.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.diffusion.loading import load_pretrained
from prisbench.errors import BackboneError, UsageError
from prisbench.runtime.files import sha256_file
from prisbench.types import Subject

EMBEDDED = "embedded"
"""The name of the small model of a class that comes with prisbench, trained on Tabletop."""


def located(where: str, folder: Path, name: str, model: str, example: str) -> tuple[str, str]:
    """Where a model lies, and what it is called in records.

    ``folder`` is the embedded one's; ``name`` is what ``train-rival`` calls it, ``model`` what its authors do;
    ``example`` is an option that names another.
    Raises BackboneError where the embedded one is missing.
    """
    if where != EMBEDDED:
        return where, where
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise BackboneError(
            f"the embedded {model} is not installed; train it with `prisbench train-rival {name} --out DIR`, or "
            f"name another, such as {example}"
        )
    return str(folder), f"embedded-{name}@{sha256_file(weights)[:12]}"


def class_of(where: str) -> str | None:
    """What the configuration of a model in a folder or on the hub calls its class; None where that cannot be read."""
    from transformers import PreTrainedConfig

    with _quiet_hub(), contextlib.suppress(Exception):  # whatever is wrong is said when the model is loaded
        found, _ = PreTrainedConfig.get_config_dict(where, local_files_only=Path(where).expanduser().is_dir())
        return str(found.get("model_type"))
    return None


def load_network(kind: Any, where: str, example: str, device: str, also: Sequence[str] = ()) -> Any:
    """``kind``'s model in a folder or on the hub, in float32, frozen.  ``example``: a hub id that has one.  ``also``:
    classes of configurations that hold such a model, too.

    Raises BackboneError, in one line, for what is not there, gated, pickled, damaged, or of another class.
    """
    _check_folder(kind, where, also, f"give the folder or hub id of a {kind.__name__}, such as {example}")
    with _quiet_hub():
        network: Any = load_pretrained(kind, where)
    return network.requires_grad_(False).eval().to(device)


def load_part(kind: Any, where: str) -> Any:
    """A tokenizer or an image processor that lies beside a model's weights.  Raises BackboneError as above."""
    with _quiet_hub():
        return load_pretrained(kind, where)


def masked_photos(subject: Subject, name: str) -> list[tuple[UInt8[np.ndarray, "_h _w 3"], Bool[np.ndarray, "_h _w"]]]:
    """The photos that have a mask with a pixel in it, and their masks.  Raises UsageError where none has."""
    pairs = zip(subject.photos, subject.masks, strict=False)
    found = [(photo, mask) for photo, mask in pairs if mask is not None and mask.any()]
    if not found:
        raise UsageError(
            f"{name} needs the subject's mask in a photo, and {subject.id!r} comes without one; say "
            "--reference photos+masks, on a dataset whose photos have masks"
        )
    return found


def _check_folder(kind: Any, where: str, also: Sequence[str], cure: str) -> None:
    """Raises BackboneError for a folder that is not there, or holds a model of another class."""
    folder = Path(where).expanduser()
    if not folder.is_dir():
        if where.startswith(("/", "./", "../", "~")):
            raise BackboneError(f"{where} cannot be loaded: there is no such folder; {cure}")
        return
    try:
        found = json.loads((folder / "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"{type(error).__name__}: {error}"
        raise BackboneError(f"{where} cannot be loaded: its config.json names no class ({said}); {cure}") from None
    if found not in (kind.config_class.model_type, *also):
        raise BackboneError(f"{where} is of the class {found!r}, not {kind.config_class.model_type!r}; {cure}")


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """The hub's client tries again for a while, and says so each time; that it failed is said once, by the caller."""
    logger = logging.getLogger("huggingface_hub")
    former = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(former)
