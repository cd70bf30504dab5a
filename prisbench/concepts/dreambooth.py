"""DreamBooth: the network's own weights learn that a rare word before the noun means the subject.

After Ruiz et al. 2022 (arXiv 2208.12242).  All weights of the U-Net move ("dreambooth"), or
updates of low rank beside its attention's ("dreambooth-lora"; Hu et al. 2021, arXiv 2106.09685, by
peft); the text encoders' too where the recipe says so.  Pictures that the frozen model made of the
noun are learned beside the photos, so that the noun keeps its meaning.  The backbone is as it was
afterwards, bit for bit.

Knows: what moves.  Does not know: the loop, how the rare word is chosen, where concepts are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from prisbench.concepts.class_images import prior_objectives
from prisbench.concepts.latents import photo_latents
from prisbench.concepts.loop import Task
from prisbench.concepts.loss import Objective, captions, chance, text_condition
from prisbench.concepts.parameters import Group, trainable
from prisbench.concepts.recipes import DreamBooth, DreamBoothLora
from prisbench.concepts.training import run
from prisbench.concepts.watch import Watch
from prisbench.concepts.weights import LORA
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.prompts import Words
from prisbench.errors import UsageError
from prisbench.types import Subject

TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The attention of CLIP's text encoder."""


def teach(
    backbone: Backbone, subject: Subject, recipe: DreamBooth | DreamBoothLora, task: Task, watch: Watch
) -> dict[str, np.ndarray]:
    """New values of the parameters, or the two halves of each update; the names are those of
    ``concepts.weights``.

    ``recipe.rare`` is a word by now.  Raises as ``training.run`` and ``photo_latents``, and
    UsageError for targets that the network does not have, and for text encoders that cannot be learned.
    """
    loop, text = recipe.loop, recipe.text_encoder
    if text and backbone.is_transformer:
        raise UsageError(
            f"learner.text_encoder: only CLIP's text encoders of U-Nets can be learned, not those of {backbone.id}"
        )
    prompts = captions(backbone, loop.templates, Words(subject.noun, rare=recipe.rare))
    photos = photo_latents(backbone, subject, loop, watch)
    objectives = [Objective(photos, len(prompts), text_condition(backbone, prompts, None, moving=text))]
    objectives += prior_objectives(backbone, subject.noun, recipe.prior, loop, watch, moving_text=text)
    models = {part: model for part, model in backbone.models.items() if not part.startswith("text_encoder") or text}
    with ExitStack() as stack:
        moving: dict[str, Tensor] = {}
        for part, model in models.items():
            if isinstance(recipe, DreamBooth):
                own = dict(model.named_parameters())
                stack.enter_context(trainable(own))
            else:
                targets = TEXT_TARGETS if part.startswith("text_encoder") else recipe.targets
                draw = chance(f"{task.key}:{part}", -1)
                own = stack.enter_context(adapters(model, targets, recipe.rank, recipe.alpha, draw))
            moving |= {f"{part}.{name}": parameter for name, parameter in own.items()}
        return run(backbone, task, objectives, [Group(moving, loop.learning_rate)], loop, watch)


@contextmanager
def adapters(
    model: nn.Module, targets: Sequence[str], rank: int, alpha: float, draw: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """Updates of low rank beside the layers whose names end so, by the names they have in a
    concept.

    The first half begins with deviation ``1 / rank``, the second at zero, so the model begins as
    it was.  The layers themselves are back in their places afterwards.  Raises UsageError when no
    linear or convolutional layer fits.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and any(f".{name}".endswith(f".{target}") for target in targets)
    }
    for target in targets:
        if not any(f".{name}".endswith(f".{target}") for name in layers):
            raise UsageError(f"learner.targets: there is no linear layer {target!r}; attention has to_q, to_k, to_v")
    scale: Any = alpha  # a float is as good, whatever its annotation says
    config = LoraConfig(r=rank, lora_alpha=scale, target_modules=list(layers))
    before = set(vars(model))
    try:
        with torch.random.fork_rng(devices=[]):  # peft draws a beginning of its own
            inject_adapter_in_model(config, model)
        moving: dict[str, Tensor] = {}
        for name in layers:
            adapted: Any = model.get_submodule(name)
            down, up = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
            down.data = (torch.randn(down.shape, generator=draw) / rank).to(down)
            up.data.zero_()
            moving |= {name + LORA[0]: down, name + LORA[1]: up}
        yield moving
    finally:
        for name, layer in layers.items():
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
        for added in set(vars(model)) - before:
            delattr(model, added)
