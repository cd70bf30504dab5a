"""Textual inversion: one or more new token embeddings that make a frozen model predict the noise
of a subject's photos.

After Gal et al. 2022 (arXiv 2208.01618).  The learned vectors stand before the noun ("a photo of a
<subject> mug") and start as the noun.  Only they move: they are put into the text encoder's input
for each call, so there is no table to grow, to freeze row by row, or to restore.  A model with two
text encoders has vectors for both.

Knows: what moves, and where it starts.  Does not know: the loop, where concepts are kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prisbench.concepts.latents import photo_latents
from prisbench.concepts.loop import Task
from prisbench.concepts.loss import Objective, captions, chance, text_condition
from prisbench.concepts.parameters import Group
from prisbench.concepts.recipes import TextualInversion
from prisbench.concepts.training import run
from prisbench.concepts.watch import Watch
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.prompts import Words
from prisbench.types import Subject


def teach(
    backbone: Backbone, subject: Subject, recipe: TextualInversion, task: Task, watch: Watch
) -> dict[str, np.ndarray]:
    """The tensors ``vectors`` (and ``vectors_2``), each ``n d``.  Raises as ``training.run`` and
    ``photo_latents``.
    """
    prompts = captions(backbone, recipe.loop.templates, Words(subject.noun, recipe.vectors))
    vectors = first_vectors(backbone, subject.noun, recipe.vectors, recipe.spread, task.key)
    photos = photo_latents(backbone, subject, recipe.loop, watch)
    objective = Objective(photos, len(prompts), text_condition(backbone, prompts, vectors))
    groups = vector_groups(backbone, vectors, recipe.loop.learning_rate)
    return run(backbone, task, [objective], groups, recipe.loop, watch)


def first_vectors(backbone: Backbone, noun: str, n: int, spread: float, key: str) -> dict[str, Float[Tensor, "n _d"]]:
    """The noun's embedding (the mean of its pieces) for each vector, the second and later ones a
    little apart.
    """
    draw, pieces = chance(key, -1), backbone.tokenizer(noun, add_special_tokens=False).input_ids
    vectors = {}
    for name, table in backbone.token_tables.items():
        start = table[pieces].float().mean(dim=0).repeat(n, 1)
        apart = torch.randn(start.shape, generator=draw).to(start) * _scale(table)
        apart[0] = 0
        vectors[name] = (start + spread * apart).requires_grad_()
    return vectors


def vector_groups(backbone: Backbone, vectors: Mapping[str, Tensor], rate: float) -> list[Group]:
    """Each text encoder's vectors, at a rate in units of its token table's root mean square."""
    return [Group({name: vectors[name]}, rate * _scale(table)) for name, table in backbone.token_tables.items()]


def _scale(table: Tensor) -> float:
    return float(table.float().square().mean().sqrt())
