"""Custom Diffusion: new token embeddings, and what the U-Net's cross-attention makes of words.

After Kumari et al. 2022 (arXiv 2212.04488, section 3): beside the vectors only the keys and values of cross-attention
move, the few weights through which text reaches the picture.  Pictures that the frozen model made of the noun are
learned beside the photos.  (The publication retrieves real ones; ours need no other data.)

Knows: what moves.  Does not know: the loop, where concepts are kept.
"""

from __future__ import annotations

import numpy as np

from prisbench.concepts.class_images import prior_lesson
from prisbench.concepts.recipes import CustomDiffusion
from prisbench.concepts.textual_inversion import first_vectors, vector_groups
from prisbench.concepts.training import Group, Lesson, Task, Watch, captions, hearing, loosened, photo_shelves, run
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.prompts import Words
from prisbench.types import Subject

MOVING = (".attn2.to_k.weight", ".attn2.to_v.weight")
"""The keys and values of diffusers' cross-attention, by the end of their names."""


def teach(
    backbone: Backbone, subject: Subject, recipe: CustomDiffusion, task: Task, watch: Watch
) -> dict[str, np.ndarray]:
    """``vectors`` (and ``vectors_2``) and the new keys and values, by the names of ``concepts.weights``.

    Raises as ``training.run`` and ``photo_shelves``.
    """
    loop = recipe.loop
    prompts = captions(backbone, loop.templates, Words(subject.noun, recipe.vectors))
    vectors = first_vectors(backbone, subject.noun, recipe.vectors, recipe.spread, task.key)
    photos = Lesson(photo_shelves(backbone, subject, loop, watch), len(prompts), hearing(backbone, prompts, vectors))
    lessons = [photos, *prior_lesson(backbone, subject.noun, recipe.prior, loop, watch)]
    weights = {name: p for name, p in backbone.unet.named_parameters() if f".{name}".endswith(MOVING)}
    groups = vector_groups(backbone, vectors, recipe.vector_rate)
    groups += [Group({f"unet.{name}": weight for name, weight in weights.items()}, loop.learning_rate)]
    with loosened(weights):
        return run(backbone, task, lessons, groups, loop, watch)
