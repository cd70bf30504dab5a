"""What a step of a recipe takes, computed: parameters, and the operations of one scene's loss and its gradients.

The models are built on torch's device "meta", where tensors have shapes and no numbers, so nothing is trained and no
weights are needed.  How long a step takes on a machine is not known.

Knows: the recipes' models and losses, torch's counter of operations.  Does not know: scenes, devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTokenizer

from prisbench.embedded.denoiser import noise_loss
from prisbench.embedded.dit import build_dit, build_readers
from prisbench.embedded.models import build_autoencoder, build_denoiser, build_text_encoder
from prisbench.embedded.recipe import AnyRecipe, DiTRecipe
from prisbench.embedded.rectified_flow import flow_loss

LATENT_HW = (28, 36)
"""Of a scene of 112 x 144 pixels; the other sizes have about as many cells."""


class StepPlan(NamedTuple):
    """Parameters of the denoiser, of the text encoders together and of the autoencoder; operations, of which a
    multiplication and an addition are two, of the loss and the gradients of one scene; and of one look without them.
    """

    architecture: str
    denoiser: int
    text: int
    autoencoder: int
    training: int
    looking: int

    @property
    def learned(self) -> int:
        """Parameters that the denoiser's stage trains."""
        return self.denoiser + self.text


def plan_step(recipe: AnyRecipe, tokenizer: CLIPTokenizer) -> StepPlan:
    """The plan of a recipe with the words of that tokenizer."""
    with torch.device("meta"):
        vae = build_autoencoder(recipe)
        modules: Sequence[Any]
        if isinstance(recipe, DiTRecipe):
            modules, loss = (build_dit(recipe), *build_readers(recipe, tokenizer)), flow_loss("meta")
        else:
            modules, loss = (build_denoiser(recipe), build_text_encoder(recipe, tokenizer)), noise_loss(recipe, "meta")
        latents = torch.empty(1, 4, *LATENT_HW)
        tokens = torch.zeros(1, recipe.context, dtype=torch.long)
        t = torch.empty(1) if isinstance(recipe, DiTRecipe) else torch.zeros(1, dtype=torch.long)
        counted = []
        for learning in (True, False):
            counter = FlopCounterMode(display=False)
            with counter, torch.set_grad_enabled(learning):
                found = loss(*modules, latents, tokens, t, latents)
                if learning:
                    found.backward()
            counted.append(int(counter.get_total_flops()))
    text = sum(weights(module) for module in modules[1:])
    return StepPlan(recipe.architecture, weights(modules[0]), text, weights(vae), *counted)


def weights(module: nn.Module) -> int:
    """How many parameters a module has."""
    return sum(parameter.numel() for parameter in module.parameters())
