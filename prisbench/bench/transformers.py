"""What published transformers, and the recipes of the embedded models, take: computed, for docs/backbones.md.

Knows: plans, presets.  Does not know: weights, photos, how long anything takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prisbench.diffusion.architectures import TRANSFORMERS
from prisbench.diffusion.families import family
from prisbench.diffusion.loading import EMBEDDED, load_pretrained
from prisbench.diffusion.planned import plan
from prisbench.embedded.planned import plan_step
from prisbench.embedded.recipe import AnyRecipe, DiTRecipe, Recipe
from prisbench.errors import UnknownNameError
from prisbench.localizer.presets import ROLES

PHOTO_HW = (1024, 1024)
QUERIES = (1, 8)


def transformer_rows(names: Sequence[str] = tuple(TRANSFORMERS)) -> Iterator[dict[str, Any]]:
    """One look of ``fast`` at a photo of PHOTO_HW pixels, in half precision: a record for each transformer.

    Raises UnknownNameError.
    """
    for name in names:
        if name not in TRANSFORMERS:
            raise UnknownNameError("transformer", name, TRANSFORMERS)
    for name in names:
        size = TRANSFORMERS[name]
        last = ROLES[family(size.model, {"num_layers": 0, **size.config})].meaning[-1:]
        one, several = (plan(name, PHOTO_HW, last, queries) for queries in QUERIES)
        yield {
            "model": name,
            "weights": one.weights,
            "text_weights": one.text_weights,
            "image_rows": one.rows[0],
            "text_rows": one.rows[1],
            "bytes": one.bytes(),
            "operations": one.operations,
            "operations_of_eight": several.operations,
        }


RECIPES: Mapping[str, AnyRecipe] = {
    "U-Net": Recipe(),
    "DiT": DiTRecipe(),
    "DiT, patch 1": dataclasses.replace(DiTRecipe(), patch=1, places=2 * DiTRecipe.places),
}
"""What a reader compares: both recipes, and the grid that was too dear."""


def recipe_rows() -> Iterator[dict[str, Any]]:
    """Parameters, and operations of a scene of 112 x 144 pixels and of a whole training: a record for each recipe.

    The tokenizer is the embedded backbone's.  Raises BackboneError where that is not installed.
    """
    from transformers import CLIPTokenizer

    tokenizer = load_pretrained(CLIPTokenizer, EMBEDDED / "tokenizer")
    for name, recipe in RECIPES.items():
        found = plan_step(recipe, tokenizer)
        yield {
            "model": name,
            "denoiser": found.denoiser,
            "text": found.text,
            "learned": found.learned,
            "looking": found.looking,
            "training": found.training,
            "whole": found.training * recipe.batch * recipe.steps,
        }


def transformer_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The records as the table of docs/backbones.md."""
    lines = [
        "| model | weights | of text encoders | rows, image + text | memory | one query | eight queries |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['weights'] / 1e9:.2f} G | {row['text_weights'] / 1e9:.2f} G "
            f"| {row['image_rows']} + {row['text_rows']} | {row['bytes'] / 2**30:.1f} GiB "
            f"| {row['operations'] / 1e12:.1f} T | {row['operations_of_eight'] / 1e12:.1f} T |"
        )
    return "\n".join(lines)


def recipe_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The records as the table of docs/backbones.md."""
    lines = [
        "| recipe | denoiser | text encoders | together | one look | loss and gradients | whole training |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['denoiser'] / 1e6:.2f} M | {row['text'] / 1e6:.2f} M "
            f"| {row['learned'] / 1e6:.2f} M | {row['looking'] / 1e9:.2f} G | {row['training'] / 1e9:.2f} G "
            f"| {row['whole'] / 1e15:.2f} P |"
        )
    return "\n".join(lines)
