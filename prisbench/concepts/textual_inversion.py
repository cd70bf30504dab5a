"""Textual inversion: one or more new token embeddings that make a frozen model predict the noise
of a subject's photos.

After Gal et al. 2022 (arXiv 2208.01618).  The learned vectors stand before the noun ("a photo of a
<subject> mug") and start as the noun.  Only they move: they are put into the text encoder's input
for each call, so there is no table to grow, to freeze row by row, or to restore.  A model with two
text encoders has vectors for both.

Knows: what moves, and where it starts.  Does not know: the loop, where concepts are kept.
"""

from __future__ import annotations

import numpy as np

from prisbench.concepts.latents import photo_latents
from prisbench.concepts.loop import Task
from prisbench.concepts.recipes import TextualInversion
from prisbench.concepts.training import run
from prisbench.concepts.watch import Watch
from prisbench.concepts.wordings import of_subject, wordings
from prisbench.diffusion.backbone import Backbone
from prisbench.types import Subject


def teach(
    backbone: Backbone, subject: Subject, recipe: TextualInversion, task: Task, watch: Watch
) -> dict[str, np.ndarray]:
    """The tensors ``vectors`` (and ``vectors_2``), each ``n d``.  Raises as ``training.run`` and
    ``photo_latents``.
    """
    photos = photo_latents(backbone, subject, recipe.loop, watch)
    said = wordings(backbone, subject, recipe, photos, task.key)
    return of_subject(run(backbone, task, [said.objective], said.groups, recipe.loop, watch))
