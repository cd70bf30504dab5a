"""Every number that decides a concept, apart from the seed: one recipe a learner, and the ones
made for each backbone.

Knows: names and numbers.  Does not know: torch, models, how learning goes.

A recipe is its learner's own numbers and ``loop``, those that all learners share; users say either
by name (``--set learner.rank=8``, ``--set learner.steps=200``), so no two have the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prisbench.errors import UnknownNameError, UsageError

LEARNERS = ("textual-inversion", "dreambooth", "dreambooth-lora", "custom-diffusion")


def _check(recipe: Any, checks: Mapping[str, bool], prefix: str = "") -> None:
    for name, fits in checks.items():
        if not fits:
            raise UsageError(f"learner.{prefix}{name}={getattr(recipe, name)!r} makes no sense")


@dataclass(frozen=True)
class Loop:
    """The numbers of every learner's loop.

    A step takes ``accumulate`` batches of ``batch`` photos, and one of its processes each where
    several run.  ``learning_rate`` is reached after ``warmup`` steps; gradients longer than
    ``clip`` are shortened to it.  ``average_last`` is the share of the steps, at the end, whose
    values are averaged.  ``timesteps`` is half open.  ``min_snr``: the loss of a timestep weighs
    no more than with this signal-to-noise ratio (Hang et al. 2023, arXiv 2303.09556, which
    suggests 5); None weighs all timesteps alike.  ``masked``: outside of a photo's mask the loss
    weighs ``outside``; None does so where the subject has masks.  ``flip``: also the photos' mirror
    images (nothing else is done to a photo, so the subject is always in sight).  ``bfloat16``
    computes in bfloat16 and keeps what is learned in float32; None does where the device has
    instructions for it (``devices.computes_bfloat16``).  The concept's record says what was done.  ``checkpointing``
    computes the U-Net's activations twice instead of keeping them.
    """

    steps: int = 350
    batch: int = 8
    accumulate: int = 1
    learning_rate: float = 0.1
    warmup: int = 20
    weight_decay: float = 0.0
    clip: float | None = None
    average_last: float = 0.25
    timesteps: tuple[int, int] = (0, 1000)
    min_snr: float | None = None
    masked: bool | None = None
    outside: float = 0.1
    flip: bool = False
    bfloat16: bool | None = None
    checkpointing: bool = False
    working_size: str | int = "native"
    templates: tuple[str, ...] = (
        "a photo of a {subject}",
        "a photo of the {subject}",
        "the {subject}",
        "a {subject} on a table",
        "one {subject}",
        "a picture of the {subject}",
    )

    def __post_init__(self) -> None:
        start, stop = self.timesteps
        checks = {
            "steps": self.steps >= 0,
            "batch": self.batch >= 1,
            "accumulate": self.accumulate >= 1,
            "learning_rate": self.learning_rate > 0,
            "warmup": self.warmup >= 0,
            "weight_decay": self.weight_decay >= 0,
            "clip": self.clip is None or self.clip > 0,
            "average_last": 0 <= self.average_last <= 1,
            "timesteps": 0 <= start < stop,
            "min_snr": self.min_snr is None or self.min_snr > 0,
            "outside": 0 <= self.outside <= 1,
            "bfloat16": self.bfloat16 is None or isinstance(self.bfloat16, bool),
            "masked": self.masked is None or isinstance(self.masked, bool),
            "working_size": self.working_size in ("native", "paper")
            or (isinstance(self.working_size, int) and self.working_size >= 64),
            "templates": len(self.templates) > 0 and all(text.count("{subject}") == 1 for text in self.templates),
        }
        _check(self, checks)


@dataclass(frozen=True)
class Prior:
    """Pictures of the noun that the backbone makes itself, learned beside the photos under the
    noun alone, so that the noun keeps its meaning (prior preservation: Ruiz et al. 2022, arXiv
    2208.12242, section 3.2).

    ``images`` 0 does without.  ``weight``: of their loss, the photos' being 1.  ``steps`` and
    ``guidance``: how they are made.
    """

    images: int = 0
    weight: float = 1.0
    steps: int = 30
    guidance: float = 7.5

    def __post_init__(self) -> None:
        checks = {"images": self.images >= 0, "weight": self.weight >= 0, "steps": self.steps >= 1}
        _check(self, checks, "prior.")


@dataclass(frozen=True)
class TextualInversion:
    """``learning_rate`` and ``spread`` (the noise that sets several vectors apart at the start)
    are in units of the token table's root mean square, so one recipe suits text encoders of any
    scale.  ``photo_vectors``: each photo has so many words of its own beside the subject's, which
    learn at ``photo_rate``, and which nobody keeps (``concepts.wordings``); none where masks already
    say what is the subject.
    """

    loop: Loop = Loop()
    vectors: int = 1
    spread: float = 0.1
    photo_vectors: int = 0
    photo_rate: float = 0.03
    version: int = 2

    def __post_init__(self) -> None:
        _check_vectors(self)


@dataclass(frozen=True)
class DreamBooth:
    """``rare``: the word that will mean the subject; "" takes one that the tokenizer has and
    nobody uses.  ``text_encoder``: the text encoders' weights are learned, too.
    """

    loop: Loop = Loop()
    rare: str = ""
    text_encoder: bool = False
    prior: Prior = Prior()
    version: int = 1


@dataclass(frozen=True)
class DreamBoothLora:
    """As ``DreamBooth``; the updates have ``rank``, are scaled by ``alpha / rank``, and stand
    beside the U-Net's layers whose names end as ``targets`` say.
    """

    loop: Loop = Loop()
    rare: str = ""
    text_encoder: bool = False
    rank: int = 8
    alpha: float = 8.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    prior: Prior = Prior()
    version: int = 1

    def __post_init__(self) -> None:
        _check(self, {"rank": self.rank >= 1, "alpha": self.alpha > 0, "targets": len(self.targets) > 0})


@dataclass(frozen=True)
class CustomDiffusion:
    """``learning_rate`` is of the keys and values, ``vector_rate`` of the vectors; the rest as in
    ``TextualInversion``.
    """

    loop: Loop = Loop()
    vectors: int = 1
    spread: float = 0.1
    vector_rate: float = 0.1
    photo_vectors: int = 0
    photo_rate: float = 0.03
    prior: Prior = Prior()
    version: int = 1

    def __post_init__(self) -> None:
        _check_vectors(self)
        _check(self, {"vector_rate": self.vector_rate > 0})


def _check_vectors(recipe: TextualInversion | CustomDiffusion) -> None:
    checks = {"vectors": recipe.vectors >= 1, "spread": recipe.spread >= 0}
    _check(recipe, checks | {"photo_vectors": recipe.photo_vectors >= 0, "photo_rate": recipe.photo_rate > 0})


Recipe = TextualInversion | DreamBooth | DreamBoothLora | CustomDiffusion

_TABLETOP = Loop(steps=120, timesteps=(450, 950))
_TABLETOP_WORDS = Loop(steps=200, timesteps=(200, 950))
_TABLETOP_PRIOR = Prior(images=12, steps=20, guidance=3.0)
_PHOTOS = Loop(batch=1, warmup=0, weight_decay=0.01, clip=1.0, average_last=0.0)
_PHOTOS_PRIOR = Prior(images=100)

_FOR_PHOTOS: Mapping[str, Recipe] = {
    "textual-inversion": TextualInversion(),
    "dreambooth": DreamBooth(dataclasses.replace(_PHOTOS, steps=800, learning_rate=2e-6), prior=_PHOTOS_PRIOR),
    "dreambooth-lora": DreamBoothLora(dataclasses.replace(_PHOTOS, steps=500, learning_rate=1e-4), prior=_PHOTOS_PRIOR),
    "custom-diffusion": CustomDiffusion(
        dataclasses.replace(_PHOTOS, steps=250, batch=2, learning_rate=1e-5), prior=_PHOTOS_PRIOR
    ),
}
"""After the publications and diffusers' examples in kind; not tuned."""

_JOINT = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The attention of joint blocks, of image and of text."""


def _for_transformer(targets: tuple[str, ...], guidance: float) -> Mapping[str, Recipe]:
    """``_FOR_PHOTOS`` with the layers of a transformer's attention, and with the guidance its pictures are made by: 1
    for models that were distilled for few steps or for guidance.
    """
    lora, full = _FOR_PHOTOS["dreambooth-lora"], _FOR_PHOTOS["dreambooth"]
    custom = _FOR_PHOTOS["custom-diffusion"]
    prior = dataclasses.replace(_PHOTOS_PRIOR, guidance=guidance)
    return {
        "textual-inversion": _FOR_PHOTOS["textual-inversion"],
        "dreambooth": changed(full, prior=prior),
        "dreambooth-lora": changed(lora, prior=prior, targets=targets),
        "custom-diffusion": changed(custom, prior=prior),
    }


def changed(recipe: Recipe, **values: Any) -> Recipe:
    """The recipe with these numbers.  Raises UsageError for numbers that make no sense."""
    shared = {field.name for field in dataclasses.fields(Loop)}
    loop = dataclasses.replace(recipe.loop, **{name: value for name, value in values.items() if name in shared})
    own = {name: value for name, value in values.items() if name not in shared}
    return dataclasses.replace(recipe, loop=loop, **own)


# Chosen on Tabletop's validation subjects (docs/decisions.md, docs/learners.md).
_EMBEDDED: Mapping[str, Recipe] = {
    "textual-inversion": TextualInversion(_TABLETOP_WORDS, vectors=3),
    "dreambooth": DreamBooth(dataclasses.replace(_TABLETOP, batch=4, learning_rate=2e-4, clip=1.0), text_encoder=True),
    "dreambooth-lora": DreamBoothLora(
        dataclasses.replace(_TABLETOP, batch=4, learning_rate=1e-3, clip=1.0),
        text_encoder=True,
        prior=_TABLETOP_PRIOR,
    ),
    "custom-diffusion": CustomDiffusion(
        dataclasses.replace(_TABLETOP_WORDS, steps=160, batch=4, learning_rate=5e-4, clip=1.0), vectors=3
    ),
}

RECIPES: Mapping[str, Mapping[str, Recipe]] = {
    "embedded": _EMBEDDED,
    # The same without text encoders, which transformers do not learn; not tuned.
    "embedded-dit": {
        **_EMBEDDED,
        "dreambooth": changed(_EMBEDDED["dreambooth"], text_encoder=False),
        "dreambooth-lora": changed(_EMBEDDED["dreambooth-lora"], text_encoder=False, targets=_JOINT),
    },
    "sd": _FOR_PHOTOS,
    "sdxl": _FOR_PHOTOS,
    "sd3": _for_transformer(_JOINT, 5.0),
    "sd3-large": _for_transformer(_JOINT, 5.0),
    "flux": _for_transformer(_JOINT, 1.0),
    "klein": _for_transformer((*_JOINT, "to_qkv_mlp_proj"), 1.0),
    "klein-9b": _for_transformer((*_JOINT, "to_qkv_mlp_proj"), 1.0),
    "pixart": _for_transformer(("to_q", "to_k", "to_v", "to_out.0"), 4.5),
}
"""Backbone family -> learner -> recipe."""


def default_recipe(family: str, learner: str) -> Recipe:
    """What is learned by default; a family nobody made recipes for has those of "sd".  Raises
    UnknownNameError.
    """
    if learner not in LEARNERS:
        raise UnknownNameError("learner", learner, LEARNERS)
    return RECIPES.get(family, RECIPES["sd"])[learner]


def numbers(recipe: Recipe) -> dict[str, Any]:
    """A recipe's numbers by the names that users know."""
    own = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe) if field.name != "loop"}
    return own | {field.name: getattr(recipe.loop, field.name) for field in dataclasses.fields(Loop)}


def on_device(recipe: Recipe, native_bfloat16: bool) -> Recipe:
    """The recipe as it is carried out on a device, which has instructions for bfloat16 or not."""
    return recipe if recipe.loop.bfloat16 is not None else changed(recipe, bfloat16=native_bfloat16)


def as_record(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Plain JSON values: what goes into the concept's key and file.

    Words of each photo are left out where there are none, so that concepts from before there were any keep their keys.
    """
    record: dict[str, Any] = {"seed": seed}
    plain = numbers(recipe)
    if not plain.get("photo_vectors"):
        plain = {name: value for name, value in plain.items() if not name.startswith("photo_")}
    for name, value in plain.items():
        record[name] = dataclasses.asdict(value) if isinstance(value, Prior) else value
    return record
