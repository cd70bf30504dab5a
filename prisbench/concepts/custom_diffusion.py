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
from prisbench.concepts.loss import Objective, captions, text_condition
from prisbench.concepts.parameters import Group, trainable
from prisbench.concepts.recipes import CustomDiffusion
from prisbench.concepts.textual_inversion import first_vectors, vector_groups
from prisbench.concepts.training import run
from prisbench.concepts.watch import Watch
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.prompts import Words
from prisbench.types import Subject

MOVING = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""The keys and values of diffusers' cross-attention, by the end of their names."""


def teach(
    backbone: Backbone, subject: Subject, recipe: CustomDiffusion, task: Task, watch: Watch
) -> dict[str, np.ndarray]:
    """``vectors`` (and ``vectors_2``) and the new keys and values, by the names of
    ``concepts.weights``.

    Raises as ``training.run`` and ``photo_latents``.
    """
    loop = recipe.loop
    prompts = captions(backbone, loop.templates, Words(subject.noun, recipe.vectors))
    vectors = first_vectors(backbone, subject.noun, recipe.vectors, recipe.spread, task.key)
    photos = photo_latents(backbone, subject, loop, watch)
    objectives = [Objective(photos, len(prompts), text_condition(backbone, prompts, vectors))]
    objectives += prior_objectives(backbone, subject.noun, recipe.prior, loop, watch)
    weights = {name: p for name, p in backbone.unet.named_parameters() if f".{name}".endswith(MOVING)}
    groups = vector_groups(backbone, vectors, recipe.vector_rate)
    groups += [Group({f"unet.{name}": weight for name, weight in weights.items()}, loop.learning_rate)]
    with trainable(weights):
        return run(backbone, task, objectives, groups, loop, watch)
