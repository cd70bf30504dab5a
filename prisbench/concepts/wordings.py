"""The texts that new token embeddings are learned under.

A photo shows more than its subject, and what all texts of a photo have in common is learned with the subject: the
table, the light, the things beside it.  So each photo may have words of its own beside the subject's:

    a photo of a <subject> mug with <photo 3>

Only the subject's words stand in all photos, so what differs from photo to photo goes into the words of each photo,
which are thrown away.  (What only one picture shows was split off for pictures of one class before, with words for
whole images: DisenBooth, arXiv 2305.03374.)

Knows: the texts, what of them moves.  Does not know: the loop, the U-Net, what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prisbench.concepts.latents import LatentBatch
from prisbench.concepts.loss import Objective, captions, chance, text_condition
from prisbench.concepts.parameters import Group
from prisbench.concepts.recipes import CustomDiffusion, TextualInversion
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.prompts import Words, compose
from prisbench.types import SLOT, Subject

_SLOT = SLOT.strip("{}")

_OF_PHOTO = "of photo {}: "
"""Before the names of what is learned of one photo alone."""


class Wordings(NamedTuple):
    """``objective``: the photos under texts about them.  ``groups``: the vectors that stand in the texts."""

    objective: Objective
    groups: list[Group]


def wordings(
    backbone: Backbone,
    subject: Subject,
    recipe: TextualInversion | CustomDiffusion,
    photos: tuple[LatentBatch, ...],
    key: str,
) -> Wordings:
    """The texts of a recipe about a subject's photos.  ``key`` decides where vectors start.

    Raises UsageError for a noun without tokens, and for texts too long.
    """
    templates, own = recipe.loop.templates, Words(subject.noun, recipe.vectors)
    vectors = first_vectors(backbone, subject.noun, recipe.vectors, recipe.spread, key)
    rate = recipe.vector_rate if isinstance(recipe, CustomDiffusion) else recipe.loop.learning_rate
    groups = vector_groups(backbone, vectors, rate)
    if not recipe.photo_vectors:
        prompts = captions(backbone, templates, own)
        said = text_condition(backbone, prompts, {_SLOT: vectors})
        return Wordings(Objective(photos, len(prompts), said), groups)
    prompts, slots = [], {_SLOT: vectors}
    for n in range(len(subject.photos)):
        slot = f"photo_{n}"
        slots[slot] = _first_of_photo(backbone, recipe.photo_vectors, recipe.spread, f"{key}:{slot}")
        words = {_SLOT: own, slot: Words(None, recipe.photo_vectors)}
        prompts += [compose(backbone.tokenizer, f"{text} with {{{slot}}}", words) for text in templates]
        for name, table in backbone.token_tables.items():
            moving = {_OF_PHOTO.format(n) + name: slots[slot][name]}
            groups.append(Group(moving, recipe.photo_rate * _scale(table)))
    return Wordings(
        Objective(photos, len(templates), text_condition(backbone, prompts, slots), each_photo=True), groups
    )


def of_subject(learned: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What was learned, without what single photos had for themselves."""
    return {name: value for name, value in learned.items() if not name.startswith(_OF_PHOTO.partition("{}")[0])}


def first_vectors(backbone: Backbone, noun: str, n: int, spread: float, key: str) -> dict[str, Float[Tensor, "n _d"]]:
    """The noun's embedding (the mean of its pieces) for each vector, the second and later ones a
    little apart.
    """
    starts = {name: table[backbone.pieces(name, noun)] for name, table in backbone.token_tables.items()}
    return _about(backbone, starts, n, spread, key, first_as_it_is=True)


def _first_of_photo(backbone: Backbone, n: int, spread: float, key: str) -> dict[str, Float[Tensor, "n _d"]]:
    """The mean of all embeddings for each vector, a little apart: words that say nothing yet."""
    return _about(backbone, backbone.token_tables, n, spread, key)


def _about(
    backbone: Backbone, starts: Mapping[str, Tensor], n: int, spread: float, key: str, first_as_it_is: bool = False
) -> dict[str, Float[Tensor, "n _d"]]:
    """Vectors by text encoder, each near the mean of some embeddings."""
    draw, vectors = chance(key, -1), {}
    for name, rows in starts.items():
        start = rows.float().mean(dim=0).repeat(n, 1)
        apart = torch.randn(start.shape, generator=draw).to(start) * _scale(backbone.token_tables[name])
        if first_as_it_is:
            apart[0] = 0
        vectors[name] = (start + spread * apart).requires_grad_()
    return vectors


def vector_groups(backbone: Backbone, vectors: Mapping[str, Tensor], rate: float) -> list[Group]:
    """Each text encoder's vectors, at a rate in units of its token table's root mean square."""
    return [Group({name: vectors[name]}, rate * _scale(table)) for name, table in backbone.token_tables.items()]


def _scale(table: Tensor) -> float:
    return float(table.float().square().mean().sqrt())
