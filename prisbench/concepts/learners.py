"""Learning a concept by the learner's name, once: what was learned before is taken from the store.

Knows: which learner is which, what decides a concept's key.  Does not know: how any of them
learns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from prisbench.concepts import custom_diffusion, dreambooth, textual_inversion
from prisbench.concepts.checkpoints import forget
from prisbench.concepts.loop import Task
from prisbench.concepts.names import check_rare_word, rare_word, unfamiliar
from prisbench.concepts.recipes import (
    CustomDiffusion,
    DreamBooth,
    DreamBoothLora,
    Recipe,
    TextualInversion,
    as_record,
    changed,
    default_recipe,
    on_device,
)
from prisbench.concepts.store import concept_key, find_concept, keep_concept
from prisbench.concepts.watch import Watch
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import WriteError
from prisbench.images.masks import mask_sha256
from prisbench.runtime.devices import computes_bfloat16
from prisbench.runtime.files import check_writable, sha256_json
from prisbench.runtime.processes import processes
from prisbench.types import Concept, Subject

TEACHERS: Mapping[str, Any] = {
    "textual-inversion": textual_inversion.teach,
    "dreambooth": dreambooth.teach,
    "dreambooth-lora": dreambooth.teach,
    "custom-diffusion": custom_diffusion.teach,
}
"""Learner -> ``teach(backbone, subject, recipe, task, watch)``, which gives the concept's tensors.
"""


def key(backbone: Backbone, subject: Subject, learner: str, recipe: Recipe | None = None, seed: int = 0) -> str:
    """The id that ``learn`` would give its concept."""
    recipe = _completed(backbone, subject, recipe or default_recipe(backbone.family, learner))
    return concept_key(subject, learner, backbone.id, _record(backbone, subject, recipe, seed))


def learn(
    backbone: Backbone,
    subject: Subject,
    learner: str,
    recipe: Recipe | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> Concept:
    """The concept that a learner makes of a subject: the same arguments give the same bits on one
    machine.

    With a store in ``watch`` it is looked up there first, kept there when it is new, and an
    interrupted call goes on where the last checkpoint was.  Where the store cannot be written,
    ``watch.spare`` takes its place; without one, nothing is learned in vain: the error comes
    first.  ``recipe`` None is the one made for the backbone's family.

    Raises UnknownNameError for the learner, DataError without photos or with photos nothing can be
    learned from, UsageError for a noun the tokenizer does not know, BackboneError when learning
    diverges, WriteError.
    """
    recipe, watch = _completed(backbone, subject, recipe or default_recipe(backbone.family, learner)), watch or Watch()
    record = _record(backbone, subject, recipe, seed)
    id = concept_key(subject, learner, backbone.id, record)
    stores = [store for store in (watch.store, watch.spare) if store is not None]
    known = next((concept for store in stores if (concept := find_concept(store, id)) is not None), None)
    if known is None:
        versionless = {name: value for name, value in record.items() if name != "version"}
        task = Task(
            id,
            concept_key(subject, learner, backbone.id, versionless),
            record["version"],
            f"{learner} of {subject.id!r}",
        )
        watch = _kept(watch)
        if line := unfamiliar(backbone.tokenizer, subject.noun):
            watch.say(line)
        tensors = TEACHERS[learner](backbone, subject, recipe, task, watch)
        known = Concept(id, subject.id, subject.noun, learner, backbone.id, tensors, record)
        team = processes(backbone.device)
        if watch.store is not None and (team is None or team.is_main_process):
            places = [watch.store] if watch.spare is None else [watch.store, watch.spare]
            keep_concept(known, places, watch.caution)
        if team is not None:
            team.wait_for_everyone()
    for store in stores:
        forget(store, id)
    return known


def _kept(watch: Watch) -> Watch:
    """The watch with a store that can be written now.  Raises WriteError when there is none."""
    if watch.store is None:
        return watch
    if watch.spare is None:
        check_writable(watch.store, "the environment's PRISBENCH_HOME names another place for the cache")
        return watch
    try:
        check_writable(watch.store)
    except WriteError as error:
        check_writable(watch.spare)
        watch.caution(f"{error}; checkpoints and concepts are kept in {watch.spare} instead")
        return dataclasses.replace(watch, store=watch.spare, spare=None)
    return watch


def _completed(backbone: Backbone, subject: Subject, recipe: Recipe) -> Recipe:
    """The recipe as it is carried out here, by masks where there are some, with a rare word where it needs one and
    names none.
    """
    recipe = on_device(recipe, computes_bfloat16(backbone.device.type))
    if recipe.loop.masked is None:
        recipe = changed(recipe, masked=any(mask is not None for mask in subject.masks))
    if recipe.loop.masked and isinstance(recipe, TextualInversion | CustomDiffusion):
        recipe = changed(recipe, photo_vectors=0)
    if not isinstance(recipe, DreamBooth | DreamBoothLora):
        return recipe
    if not recipe.rare:
        word = rare_word(backbone.tokenizer, [subject.noun, *recipe.loop.templates])
        return dataclasses.replace(recipe, rare=word)
    check_rare_word(backbone.tokenizer, recipe.rare, subject.noun)
    return recipe


def _record(backbone: Backbone, subject: Subject, recipe: Recipe, seed: int) -> dict[str, Any]:
    """The recipe with what else it takes from the subject, as plain JSON values.

    Of a transformer also its family, which decides what other programs can read.
    """
    record = as_record(recipe, seed)
    if backbone.is_transformer:
        record["family"] = backbone.family
    if recipe.loop.masked:
        record["masks"] = sha256_json([None if mask is None else mask_sha256(mask) for mask in subject.masks])
    return record
