"""The files of the small networks that are our own: ``config.json``, which says of what kind, and fp16 safetensors.

Knows: the two files.  Does not know: any network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from prisbench.errors import BackboneError
from prisbench.runtime.files import read_json, write_json

FILE, WEIGHTS = "config.json", "model.safetensors"

N = TypeVar("N", bound=nn.Module)


class Kind(NamedTuple):
    """``name``: what ``config.json`` says the folder holds; ``words``: what the network is, for people; ``rival``: what
    ``train-rival`` calls it.
    """

    name: str
    words: str
    rival: str


def save(kind: Kind, config: Any, network: nn.Module, folder: Path) -> None:
    """Both files into a folder that is there; ``config`` is a dataclass.  Raises WriteError."""
    write_json(folder / FILE, {"kind": kind.name, **asdict(config)})
    save_file({name: each.half().contiguous() for name, each in network.state_dict().items()}, folder / WEIGHTS)


def load(kind: Kind, build: Callable[[Mapping[str, Any]], N], folder: Path) -> N:
    """The network that ``build`` makes of the configuration, with its weights.  Raises BackboneError for a folder that
    ``save`` did not write for this kind.
    """
    if not (folder / FILE).is_file() or not (folder / WEIGHTS).is_file():
        raise BackboneError(f"{folder} holds no {kind.words}: no {FILE} and {WEIGHTS} in it")
    found = read_json(folder / FILE)
    if not isinstance(found, Mapping) or found.get("kind") != kind.name:
        raise BackboneError(f"{folder / FILE} is not of a {kind.words}; train one with train-rival {kind.rival}")
    try:
        network = build(found)
        network.load_state_dict({name: each.float() for name, each in load_file(folder / WEIGHTS).items()})
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        first = (str(error).splitlines() or [repr(error)])[0]
        raise BackboneError(f"{folder} does not hold what its {FILE} says: {first}") from None
    return network.eval()
