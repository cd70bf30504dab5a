"""Concepts that learned nothing: what a learner has to beat.

Knows: how a control is made.  Does not know: how concepts are used.
"""

from __future__ import annotations

import dataclasses

import torch

from prisbench.concepts.store import concept_key
from prisbench.diffusion.backbone import Backbone
from prisbench.types import Concept, Subject


def noun_only(subject: Subject) -> Concept:
    """The class word alone; fits every backbone."""
    key = concept_key(subject, "noun-only", None, {})
    return Concept(id=key, subject_id=subject.id, noun=subject.noun, learner="noun-only")


def untrained_token(backbone: Backbone, subject: Subject, vectors: int = 1, seed: int = 0) -> Concept:
    """Learned places that hold chance: vectors with the token table's mean and deviation in every
    dimension.
    """
    recipe = {"vectors": vectors, "seed": seed, "version": 1}
    key = concept_key(subject, "untrained-token", backbone.id, recipe)
    draw = torch.Generator().manual_seed(int(key, 16) % 2**63)
    tensors = {}
    for name, weights in backbone.token_tables.items():
        table = weights.float().cpu()
        chance = table.mean(dim=0) + table.std(dim=0) * torch.randn(vectors, table.shape[1], generator=draw)
        tensors[name] = chance.numpy()
    return Concept(
        id=key,
        subject_id=subject.id,
        noun=subject.noun,
        learner="untrained-token",
        backbone=backbone.id,
        tensors=tensors,
        recipe=recipe,
    )


def another_subject(learned: Concept, subject: Subject) -> Concept:
    """What was learned of one subject, taken for what is known of another, under that one's noun."""
    recipe = {**learned.recipe, "learned_of": learned.id}
    key = concept_key(subject, "another-subject", learned.backbone, recipe)
    return dataclasses.replace(
        learned,
        id=key,
        subject_id=subject.id,
        noun=subject.noun,
        learner="another-subject",
        recipe=recipe,
        calibration={},
    )
