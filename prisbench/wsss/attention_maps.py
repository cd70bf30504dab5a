"""Soft maps of an image's classes, by the attention of a frozen text-to-image model.

One prompt names all classes of an image, so that they compete for every pixel, and some words of
what else may be there.  The attention of a class's words, spread by self-attention, is its map.

Knows: prompts of several classes, attention, evidence.  Does not know: sets, files, thresholds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import Encoded, encode_image, to_photo
from prisbench.diffusion.noise import noise
from prisbench.diffusion.prompts import Prompt, Words, compose
from prisbench.diffusion.text import Conditioning, condition
from prisbench.errors import UsageError
from prisbench.images.photos import image_id
from prisbench.localizer import evidence
from prisbench.localizer.attend import Reading, attend, rows_at_once, span_columns
from prisbench.localizer.maps import self_cross
from prisbench.wsss.maps import SoftMap
from prisbench.wsss.mask_settings import MAP_SIDE, PseudoMaskSettings


@torch.no_grad()
def soft_map(
    backbone: Backbone,
    photo: UInt8[np.ndarray, "h w 3"],
    labels: Sequence[int],
    classes: Sequence[str],
    settings: PseudoMaskSettings,
) -> SoftMap:
    """The scores, 0..1, of the classes that an image has; ``classes[label]`` is a name, 0 the
    background.

    The scores are in the photo's frame, fp16, at its size or with a longer side of MAP_SIDE
    pixels.  Raises DataError for a photo too small or too narrow, UsageError for a phrase that no
    prompt holds.
    """
    h, w = photo.shape[:2]
    scale = min(1.0, MAP_SIDE / max(h, w))
    frame_hw = max(1, round(h * scale)), max(1, round(w * scale))
    if not labels:
        return SoftMap((), np.zeros((0, *frame_hw), np.float16))
    names = [classes[label] for label in labels]
    score = _scores(backbone, photo, names, frame_hw, settings)
    if settings.localizer.flip:
        other = _scores(backbone, np.ascontiguousarray(photo[:, ::-1]), names, frame_hw, settings)
        score = (score + other.flip(-1)) / 2
    return SoftMap(tuple(labels), score.cpu().numpy().astype(np.float16))


def _scores(
    backbone: Backbone,
    photo: UInt8[np.ndarray, "h w 3"],
    names: Sequence[str],
    frame_hw: tuple[int, int],
    settings: PseudoMaskSettings,
) -> Float[Tensor, "c fh fw"]:
    localizer = settings.localizer
    encoded = encode_image(backbone, photo, localizer.working_size)
    frame = dataclasses.replace(encoded.geometry, photo_hw=frame_hw)
    shape = tuple(encoded.latents.shape[1:])
    rows = [(t, k) for t in localizer.timesteps for k in range(localizer.samples)]
    name = image_id(photo)
    eps = torch.stack([noise(name, k, shape) for _, k in rows])
    times = torch.tensor([t for t, _ in rows])
    of_prompts = []
    for each in prompts(backbone.tokenizer, names, settings):
        text = condition(backbone, [each.prompt], None, encoded.geometry)
        spans = [each.prompt.groups[slot, "noun"] for slot in each.slots]
        reading = Reading(
            backbone.unet,
            backbone.alphas_cumprod,
            encoded.latents,
            eps,
            times,
            text,
            span_columns(spans, int(text.states.shape[1])),
            set(localizer.cross),
            {localizer.self_block} if localizer.hops else set(),
            per_head=localizer.weights == "consensus",
            flow=backbone.flow,
        )
        maps = self_cross(attend(reading), localizer, encoded.geometry)
        score = to_photo(maps.score, maps.grid_hw, frame).clamp(0, 1)
        if localizer.evidence and len(each.names) > 1:
            shares, grid_hw = _shares(backbone, encoded, name, each, text, settings)
            score = score * to_photo(shares, grid_hw, frame).clamp(0, 1).to(score) ** localizer.evidence.power
            top = score.amax((-2, -1), keepdim=True)
            score = score / torch.where(top > 0, top, torch.ones_like(top))
        of_prompts.append(score)
    return torch.cat(of_prompts).float()


def _shares(
    backbone: Backbone,
    encoded: Encoded,
    name: str,
    prompt: ClassPrompt,
    text: Conditioning,
    settings: PseudoMaskSettings,
) -> tuple[Float[Tensor, "c vh vw"], tuple[int, int]]:
    """How much each class has of the strongest class's evidence, 0..1, place by place, and the
    whole grid's size.

    The evidence for a class is the prompt against the same without its words
    (``localizer.evidence``).  Which classes are in the image is known, so it only decides whose a
    place is: where one class leads, the others step back; where no class has any, nobody does; how
    far a thing reaches is left to attention.
    """
    most = min(8, rows_at_once(backbone.unet, (int(encoded.latents.shape[2]), int(encoded.latents.shape[3]))))
    chosen = settings.localizer.evidence
    own, found = evidence.errors(backbone, encoded, name, text, chosen, most), []
    for left_out in prompt.slots:
        others = {slot: each for slot, each in zip(prompt.slots, prompt.names, strict=True) if slot != left_out}
        without = _prompt(backbone.tokenizer, others, prompt.background, settings)
        condition_without = condition(backbone, [without], None, encoded.geometry)
        errors = evidence.errors(backbone, encoded, name, condition_without, chosen, most)
        found.append(evidence.compare(own, errors, encoded.geometry, chosen))
    strength = np.stack([evidence.blurred(each.cells, chosen) for each in found]).clip(min=0)
    strongest = strength.max(axis=0, keepdims=True)
    shares = np.divide(strength, strongest, out=np.ones_like(strength), where=strongest > 0)
    return torch.from_numpy(shares).to(backbone.device), found[0].grid_hw


class ClassPrompt(NamedTuple):
    """A prompt about some of an image's classes: ``prompt.groups[slots[i], "noun"]`` are the
    positions of ``names[i]``.

    ``background``: the background words it holds; ``wanted`` what it should hold.
    """

    prompt: Prompt
    names: tuple[str, ...]
    slots: tuple[str, ...]
    background: tuple[str, ...]
    wanted: int


def prompts(tokenizer: Any, names: Sequence[str], settings: PseudoMaskSettings) -> list[ClassPrompt]:
    """The prompt of all classes of an image; several where one would be longer than the text
    encoder reads.

    Background words are left out from the end until it fits: the published truncation takes them
    away first.  Only then the classes are divided among two prompts, where the release would lose
    the last ones.

    Raises UsageError for a single phrase that is too long or has no token.
    """
    wanted = settings.wording.background_of(names)
    for kept in range(len(wanted), -1, -1):
        try:
            return [_one_prompt(tokenizer, names, wanted[:kept], len(wanted), settings)]
        except UsageError:
            if kept == 0 and len(names) == 1:
                raise
    half = (len(names) + 1) // 2
    return prompts(tokenizer, names[:half], settings) + prompts(tokenizer, names[half:], settings)


def _one_prompt(
    tokenizer: Any, names: Sequence[str], background: tuple[str, ...], wanted: int, settings: PseudoMaskSettings
) -> ClassPrompt:
    slots = tuple(f"class_{i}" for i in range(len(names)))
    prompt = _prompt(tokenizer, dict(zip(slots, names, strict=True)), background, settings)
    return ClassPrompt(prompt, tuple(names), slots, background, wanted)


def _prompt(
    tokenizer: Any, names: Mapping[str, str], background: tuple[str, ...], settings: PseudoMaskSettings
) -> Prompt:
    """The prompt of the classes in these slots; of none at all, the empty one."""
    wording = settings.wording
    phrases = {slot: wording.phrase(name) for slot, name in names.items()}
    words = {slot: Words(phrase) for slot, phrase in phrases.items()}
    things = [(_article(phrase) if wording.articles else "") + f"{{{slot}}}" for slot, phrase in phrases.items()]
    *first, last = [*things, *background] or [""]
    text = f"{', '.join(first)}{wording.last}{last}" if first else last
    return compose(tokenizer, text, words, settings.localizer.template if text else "{text}")


def _article(phrase: str) -> str:
    return "an " if phrase[:1].lower() in "aeiou" else "a "
