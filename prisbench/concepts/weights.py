"""A concept's weights in the frozen backbone, for as long as a body runs.

Of a concept's tensors, ``unet.<parameter>`` (or ``transformer.<parameter>``) and
``text_encoder.<parameter>`` (``text_encoder_2``, ``text_encoder_3``) are new values of parameters
(DreamBooth; the keys and values of Custom Diffusion), and ``<part>.<module>.lora_A.weight`` with
its ``lora_B`` is an update of low rank to that module's weight (Hu et al. 2021, arXiv 2106.09685):
``W + alpha / rank B A``.  So every learner's result is used in one way, and whatever reads the
network reads what was learned.

Knows: names and storage of parameters.  Does not know: how weights were learned, attention, texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prisbench.concepts.store import check_backbone
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import BackboneError
from prisbench.types import Concept

PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
"""The models of a backbone that a concept may change."""

LORA = (".lora_A.weight", ".lora_B.weight")


def weights_key(concept: Concept) -> str | None:
    """What tells the concept's weights from others'; None when it has none and speaks through its
    vectors alone.
    """
    return concept.id if any(name.split(".")[0] in PARTS for name in concept.tensors) else None


def text_key(concept: Concept) -> str | None:
    """As ``weights_key``, of the text encoders alone: None where a text reads as in the frozen
    model.
    """
    return concept.id if any(name.startswith("text_encoder") for name in concept.tensors) else None


@contextmanager
def adapted(backbone: Backbone, concept: Concept) -> Iterator[None]:
    """The backbone with the concept's weights in the place of its own, which are back however the
    body ends.

    Parameters change their storage, nothing is copied.  Do not nest.  Raises BackboneError when
    the concept was learned on another backbone, or its weights do not fit this one.
    """
    if weights_key(concept) is None:
        yield
        return
    check_backbone(concept, backbone.id)
    before: list[tuple[Tensor, Tensor]] = []
    try:
        for parameter, value in _changes(backbone, concept):
            before.append((parameter, parameter.data))
            parameter.data = value
        yield
    finally:
        for parameter, value in reversed(before):
            parameter.data = value


def _changes(backbone: Backbone, concept: Concept) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter that the concept changes, and its value then."""
    known: dict[str, Tensor] = {}
    for part, model in backbone.models.items():
        known |= {f"{part}.{name}": parameter for name, parameter in model.named_parameters()}

    def fitting(name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in known:
            raise BackboneError(f"concept {concept.id} changes {name}, which {backbone.id} does not have")
        if tuple(known[name].shape) != shape:
            raise BackboneError(
                f"concept {concept.id}: {name} of shape {shape} does not fit {backbone.id}, where it has "
                f"{tuple(known[name].shape)}"
            )
        return known[name]

    for name, array in concept.tensors.items():
        if name.split(".")[0] in PARTS and not name.endswith(LORA):
            parameter = fitting(name, array.shape)
            yield parameter, torch.from_numpy(array).to(parameter)
    for module, *halves, alpha in low_rank(concept):
        down, up = (torch.from_numpy(half) for half in halves)
        shape = (up.shape[0], *down.shape[1:])
        parameter = fitting(f"{module}.weight", shape)
        update = alpha / len(down) * (up.flatten(1).float() @ down.flatten(1).float()).reshape(shape)
        yield parameter, (parameter.data.float() + update.to(parameter.device)).to(parameter.dtype)


class LowRank(NamedTuple):
    """An update of a module's weight: both halves and alpha."""

    module: str
    down: np.ndarray
    up: np.ndarray
    alpha: float


def low_rank(concept: Concept) -> Iterator[LowRank]:
    """The concept's updates of low rank.  Raises BackboneError for one whose halves do not fit."""
    for name, down in concept.tensors.items():
        if not name.endswith(LORA[0]):
            continue
        module = name.removesuffix(LORA[0])
        up = concept.tensors.get(module + LORA[1])
        if up is None or down.shape[0] != up.shape[1]:
            raise BackboneError(
                f"concept {concept.id}: the two halves of the update of {module} do not fit; learn it again"
            )
        yield LowRank(module, down, up, float(concept.recipe.get("alpha", len(down))))
