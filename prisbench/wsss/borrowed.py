"""A semantic-segmentation model of transformers in DeepLab's place, from a local folder.

Knows: how transformers loads such a model, what it lacked, which colours its folder names.
Does not know: losses, data, training.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from prisbench.errors import BackboneError, DataError
from prisbench.runtime.files import read_json
from prisbench.wsss.deeplab import IMAGENET, Colours, add_colours, check_classes, normalised, resized


def borrow(folder: str | os.PathLike[str], classes: Sequence[str], seed: int = 0) -> Borrowed:
    """A model of transformers from a local folder, with a classifier for these classes.

    What does not fit the classes, and a head the folder lacks, starts anew from ``seed``.  Colours
    are those of the folder's ``preprocessor_config.json``, else ImageNet's.  Raises BackboneError
    when the folder holds no such model, only pickled weights, or lacks weights of the backbone;
    DataError when it is missing.
    """
    check_classes(classes)
    model, missing = segmentation_model(Path(folder), len(classes), seed)
    lacking = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    if lacking:
        raise BackboneError(f"{folder} lacks {len(lacking)} weights of the backbone, first {lacking[0]}")
    return Borrowed(model, classes, _folder_colours(Path(folder)))


class Borrowed(nn.Module):
    """A semantic-segmentation model of transformers.  Build one with ``borrow``.

    Its logits are brought to the photo's size, where transformers' own losses look at them.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str], colours: Colours = IMAGENET) -> None:
        super().__init__()
        self.model, self.classes, self.colours = model, tuple(classes), colours
        add_colours(self, colours)

    def forward(self, images: Num[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c h w"]]:
        logits = self.model(pixel_values=normalised(self, images)).logits
        return [resized(logits, (images.shape[-2], images.shape[-1]))]

    def is_head(self, parameter: str) -> bool:
        """Whether a parameter stands outside the model's backbone, as transformers draws the line."""
        return not parameter.startswith(f"model.{self.model.base_model_prefix}.")

    def describe(self) -> dict[str, Any]:
        """What, with the model's own files, makes this network again: JSON."""
        architecture = type(self.model).__name__
        colours = self.colours._asdict()
        return {"kind": "transformers", "model": architecture, "classes": list(self.classes), "colours": colours}


def segmentation_model(folder: Path, classes: int, seed: int) -> tuple[Any, list[str]]:
    """The model of a folder and the weights it lacked or that did not fit, which are random."""
    from transformers import AutoModelForSemanticSegmentation

    if not (folder / "config.json").is_file():
        raise DataError(f"{folder} holds no config.json; name a local folder with a model of transformers")
    if not any(folder.glob("*.safetensors")):
        raise BackboneError(f"{folder} holds no safetensors weights (pickled ones are never loaded); convert them")
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        try:
            model, info = AutoModelForSemanticSegmentation.from_pretrained(
                folder,
                num_labels=classes,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # whatever a folder of another kind provokes in the library: the user mends it
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise BackboneError(f"{folder} holds no semantic-segmentation model of transformers: {reason}") from error
    return model.float(), sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars and no advice from transformers; what matters is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _folder_colours(folder: Path) -> Colours:
    path = folder / "preprocessor_config.json"
    record = read_json(path) if path.is_file() else {}
    if not record.get("image_mean") or not record.get("image_std"):
        return IMAGENET
    return Colours(tuple(record["image_mean"]), tuple(record["image_std"]))
