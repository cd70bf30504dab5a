"""The networks that give every pixel a class: how a run begins with one, and how it is kept in a
folder.

A network takes photos as they are (RGB, 0..255) and returns a list of logits: all of them are
taught, the last is the answer.

Knows: DeepLab v2 and models of transformers, weights in files.  Does not know: losses, data,
training.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.runtime.files import cannot_read, new_folder, read_json, write_json
from prisbench.wsss.borrowed import Borrowed, borrow, quiet, segmentation_model
from prisbench.wsss.deeplab import SIZES, Colours, DeepLab, DeepLabSize, deeplab

FORMAT = 1
LAPTOP = "laptop"

Network = DeepLab | Borrowed


class Start(NamedTuple):
    """What a run begins with: a DeepLab v2 of a size in SIZES (None: the preset's),
    or ``model``, a folder with a model of transformers.
    """

    size: str | None = None
    weights: Path | None = None
    from_scratch: bool = False
    model: Path | None = None


def starting_network(classes: Sequence[str], preset: str, start: Start, seed: int = 0) -> Network:
    """The network that a run of a training preset begins with.

    Raises as ``fresh_network`` and ``borrow``.
    """
    if start.model is None:
        default = LAPTOP if preset == LAPTOP else "resnet101"
        return fresh_network(classes, start.size or default, start.weights, start.from_scratch, seed)
    if start.size or start.weights or start.from_scratch:
        raise UsageError("--model brings its own network; leave out --size, --weights and --from-scratch")
    return borrow(start.model, classes, seed)


def fresh_network(
    classes: Sequence[str],
    size: str = "resnet101",
    weights: Path | None = None,
    from_scratch: bool = False,
    seed: int = 0,
) -> Network:
    """The DeepLab v2 that a run begins with, of a size in SIZES, with a ResNet of ImageNet's
    weights.

    Only "laptop" begins from nothing unless ``from_scratch`` says so.

    Raises UsageError, UnknownNameError, and as ``deeplab`` and ``load_imagenet``.
    """
    if size not in SIZES:
        raise UnknownNameError("network size", size, SIZES)
    if weights is None and size != LAPTOP and not from_scratch:
        raise UsageError(
            f"{size} begins with ImageNet's weights: give --weights {size}.safetensors (torchvision's key layout), "
            "or say --from-scratch, which costs many points of mIoU"
        )
    network = deeplab(SIZES[size], classes, seed)
    if weights is not None:
        load_imagenet(network, weights)
    return network


def load_imagenet(network: DeepLab, path: str | os.PathLike[str]) -> None:
    """Take the backbone's weights from a safetensors file in torchvision's layout, and freeze its
    normalisation.

    ``fc.*`` is left aside; ``num_batches_tracked``, which older files lack and nothing reads, may
    be missing.  Raises BackboneError, in one line, when a key is missing, unexpected, of another
    shape or not finite, and DataError when there is no such file.
    """
    given = {key: value for key, value in _tensors(path).items() if not key.startswith("fc.")}
    _fill(network.backbone, given, f"{path}: not torchvision's layout of this ResNet", optional="num_batches_tracked")
    network.freeze_norm()


def save_network(network: Network, folder: str | os.PathLike[str]) -> Path:
    """Write a network as ``network.json`` and safetensors, whole or not at all.

    Raises WriteError.
    """
    with new_folder(folder, overwrite=True, marker="network.json") as temp:
        if isinstance(network, Borrowed):
            with quiet():
                cast(Any, network.model).save_pretrained(temp)
        else:
            weights = {key: value.contiguous().cpu() for key, value in network.state_dict().items()}
            save_file(weights, temp / "network.safetensors")
        write_json(temp / "network.json", {"format": FORMAT, **network.describe()})
    return Path(folder)


def load_network(folder: str | os.PathLike[str]) -> Network:
    """The network of a folder that ``save_network`` or a training run wrote.

    Raises DataError when it is missing, of another format or damaged, BackboneError when its
    weights do not fit it.
    """
    folder = Path(folder)
    if (folder / "network" / "network.json").is_file():
        folder = folder / "network"
    record = read_json(folder / "network.json")
    try:
        if record["format"] != FORMAT:
            raise DataError(f"{folder}: network format {record['format']}, this version reads {FORMAT}; train it again")
        classes = [str(name) for name in record["classes"]]
        colours = Colours(tuple(record["colours"]["mean"]), tuple(record["colours"]["std"]))
        if record["kind"] == "transformers":
            model, missing = segmentation_model(folder, len(classes), seed=0)
            if missing:
                raise BackboneError(f"{folder} lacks {len(missing)} weights, first {missing[0]}; train it again")
            return Borrowed(model, classes, colours)
        sizes: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record["size"].items()}
        network = DeepLab(DeepLabSize(**sizes), classes, colours)
        frozen = bool(record["norm_frozen"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder}/network.json describes no network ({error!r}); train it again") from None
    weights = folder / "network.safetensors"
    _fill(network, _tensors(weights), f"{weights}: not the network of network.json")
    if frozen:
        network.freeze_norm()
    return network


def _tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise DataError(cannot_read(path, error)) from None
    except SafetensorError as error:
        raise BackboneError(
            f"{path} is not a safetensors file ({error}); it was cut short, or is a pickle, which is never loaded"
        ) from None


def _fill(module: nn.Module, given: Mapping[str, Tensor], what: str, optional: str | None = None) -> None:
    """Copy weights into a module: every key, no other key, the same shapes, finite.

    Raises BackboneError.
    """
    wanted = module.state_dict()
    missing = [k for k in wanted if k not in given and not (optional and k.endswith(optional))]
    unexpected = [k for k in given if k not in wanted]
    if missing or unexpected:
        lacks = f"lacks {missing[0]} (first of {len(missing)})" if missing else ""
        has = f"has the unknown {unexpected[0]} (first of {len(unexpected)})" if unexpected else ""
        raise BackboneError(f"{what}: it {' and '.join(part for part in (lacks, has) if part)}")
    for key, value in given.items():
        if value.shape != wanted[key].shape:
            shapes = f"{tuple(value.shape)}, not {tuple(wanted[key].shape)}"
            raise BackboneError(f"{what}: {key} is {shapes}; weights of another size")
        if not torch.isfinite(value).all():
            raise BackboneError(f"{what}: {key} holds NaN or infinity; the file is damaged")
    module.load_state_dict(dict(given), strict=False)
