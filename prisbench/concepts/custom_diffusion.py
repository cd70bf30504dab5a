"""Custom Diffusion: new token embeddings, and what the U-Net's cross-attention makes of words.

After Kumari et al. 2022 (arXiv 2212.04488, section 3): beside the vectors only the keys and values
of cross-attention move, the few weights through which text reaches the picture.  Pictures that the
frozen model made of the noun are learned beside the photos.  (The publication retrieves real ones;
ours need no other data.)

Knows: what moves.  Does not know: the loop, where concepts are kept.
"""

from __future__ import annotations

import numpy as np

from prisbench.concepts.class_images import prior_objectives
from prisbench.concepts.latents import photo_latents
from prisbench.concepts.loop import Task
from prisbench.concepts.parameters import Group, trainable
from prisbench.concepts.recipes import CustomDiffusion
from prisbench.concepts.training import run
from prisbench.concepts.watch import Watch
from prisbench.concepts.wordings import of_subject, wordings
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import UsageError
from prisbench.types import Subject

MOVING = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""The keys and values of diffusers' cross-attention, by the end of their names."""


def teach(
    backbone: Backbone, subject: Subject, recipe: CustomDiffusion, task: Task, watch: Watch
) -> dict[str, np.ndarray]:
    """``vectors`` (and ``vectors_2``) and the new keys and values, by the names of
    ``concepts.weights``.

    Raises as ``training.run`` and ``photo_latents``, UsageError for a model without cross-attention.
    """
    loop = recipe.loop
    network, model = next(iter(backbone.models.items()))
    weights = {name: p for name, p in model.named_parameters() if f".{name}".endswith(MOVING)}
    if not weights or (backbone.is_transformer and backbone.unet.sequence.order != "cross"):
        raise UsageError(
            f"custom-diffusion learns the keys and values of cross-attention, which {backbone.id} does not have; "
            "textual-inversion and dreambooth-lora learn on it"
        )
    photos = photo_latents(backbone, subject, loop, watch)
    said = wordings(backbone, subject, recipe, photos, task.key)
    objectives = [said.objective, *prior_objectives(backbone, subject.noun, recipe.prior, loop, watch)]
    moving = Group({f"{network}.{name}": weight for name, weight in weights.items()}, loop.learning_rate)
    with trainable(weights):
        return of_subject(run(backbone, task, objectives, [*said.groups, moving], loop, watch))
