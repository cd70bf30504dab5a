"""Prompts to what the network is conditioned on, with learned vectors in their places.

Knows: the text encoders: one, SDXL's two, those of transformers.  Does not know: images but for their sizes, how a
vector is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.diffusion.backbone import VECTORS, Backbone, token_table
from prisbench.diffusion.families import QWEN_LAYERS
from prisbench.diffusion.images import Geometry
from prisbench.diffusion.prompts import Prompt, Section, Sections
from prisbench.errors import BackboneError

TIME_IDS = ("original_h", "original_w", "crop_top", "crop_left", "target_h", "target_w")
"""SDXL's micro-conditioning (arXiv 2307.01952, section 2.2), in pixels."""

NUMBERS = {1: "one", 2: "two", 3: "three"}


class Conditioning(NamedTuple):
    """What the network is conditioned on: ``encoder_hidden_states``, and ``added_cond_kwargs`` of SDXL.

    Of transformers ``added`` holds what ``diffusion.transformer`` hands on: "pooled", "mask" and "positions" of the
    rows, "resolution" and "aspect_ratio".
    """

    states: Float[Tensor, "b t d"]
    added: dict[str, Tensor] | None

    def rows(self, which: Sequence[int] | Tensor) -> Conditioning:
        """These rows, in this order; a row may come again (``[0] * n``: n noises of the first prompt).

        Its gradients are then summed in that order.  (Indexing sums them as the cores come to it, so one more bit or
        less is a matter of chance: torch's CPU adds by atomics there.)
        """
        order = which.tolist() if isinstance(which, Tensor) else list(which)

        def taken(x: Tensor) -> Tensor:
            rows = x.unbind()
            return torch.stack([rows[i] for i in order])

        return Conditioning(taken(self.states), self.added and {name: taken(x) for name, x in self.added.items()})


def condition(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    vectors: Mapping[str, Mapping[str, Float[Tensor, "_n _d"]]] | None,
    geometry: Geometry,
) -> Conditioning:
    """What the network is conditioned on when it looks at an image of this geometry, one row a prompt.

    ``vectors`` maps slots to learned vectors by text encoder (``learned_vectors``); gradients reach them.

    SDXL reads two text encoders, the layer before the last of each, side by side; the pooled text of the second; and
    sizes: the photo's own, no crop, and the padded image's.  Its second encoder gets the first tokenizer's tokens with
    its own padding.  That is what its own tokenizer gives but for "!", which transformers takes for padding there even
    inside a text and the model's training (OpenCLIP's tokenizer) did not.
    """
    given = vectors or {}
    if isinstance(backbone.tokenizer, Sections):
        return _of_sections(backbone, backbone.tokenizer, prompts, given, geometry)
    if backbone.text_encoder_2 is None:
        return Conditioning(encode_text(backbone, prompts, {slot: of[VECTORS[0]] for slot, of in given.items()}), None)
    paddings = [int(tokenizer.pad_token_id) for tokenizer in (backbone.tokenizer, backbone.tokenizer_2)]
    read = [
        _read(
            encoder,
            [_padded(prompt.ids, paddings[0], padding, backbone.tokenizer.eos_token_id) for prompt in prompts],
            prompts,
            {slot: of[name] for slot, of in given.items()},
            output_hidden_states=True,
        )
        for name, encoder, padding in zip(
            VECTORS[:2], (backbone.text_encoder, backbone.text_encoder_2), paddings, strict=True
        )
    ]
    sizes = torch.tensor([*geometry.photo_hw, 0, 0, *geometry.padded_hw], dtype=torch.float32, device=backbone.device)
    return Conditioning(
        torch.cat([output.hidden_states[-2] for output in read], dim=-1),
        {"text_embeds": read[1].text_embeds, "time_ids": sizes.expand(len(prompts), -1)},
    )


def encode_text(
    backbone: Backbone, prompts: Sequence[Prompt], vectors: Mapping[str, Float[Tensor, "_n d"]] | None = None
) -> Float[Tensor, "b t d2"]:
    """Text embeddings of a backbone with one text encoder.

    ``vectors`` maps slots to learned vectors, which stand in the token embedding's output for this call alone;
    gradients reach them and nothing else moves.  Raises BackboneError for SDXL: see ``condition``.
    """
    if backbone.text_encoder_2 is not None or isinstance(backbone.tokenizer, Sections):
        raise BackboneError(f"{backbone.id} reads text through two encoders; this part of prisbench knows one")
    return cast(Tensor, _read(backbone.text_encoder, [prompt.ids for prompt in prompts], prompts, vectors)[0])


def learned_vectors(
    backbone: Backbone, tensors: Mapping[str, np.ndarray], concept_id: str
) -> dict[str, Float[Tensor, "_n _d"]]:
    """A concept's vectors by text encoder, on the backbone's device; empty ones for a concept that has none.

    Raises BackboneError when their width is not the text encoder's, or one encoder has fewer than the other.
    """
    vectors = {}
    for name, table in backbone.token_tables.items():
        array = tensors.get(name, np.empty((0, table.shape[1]), np.float32))
        if array.ndim != 2 or array.shape[1] != table.shape[1]:
            raise BackboneError(f"concept {concept_id}: {name} of shape {array.shape} do not fit {backbone.id}")
        vectors[name] = torch.tensor(array).to(backbone.device)
    if len(counts := {len(tensor) for tensor in vectors.values()}) > 1:
        raise BackboneError(
            f"concept {concept_id} has {' and '.join(map(str, sorted(counts)))} vectors for the "
            f"{NUMBERS[len(vectors)]} text encoders of {backbone.id}; learn it again"
        )
    return vectors


def _read(
    encoder: Any,
    ids: Sequence[tuple[int, ...]],
    prompts: Sequence[Prompt],
    vectors: Mapping[str, Tensor] | None,
    **options: Any,
) -> Any:
    """The encoder's output for ``ids``, with the vectors in the prompts' learned places."""
    learned = [(row, *place) for row, prompt in enumerate(prompts) for place in prompt.learned]

    def place_vectors(_: nn.Module, __: Any, out: Tensor) -> Tensor | None:
        if not learned:
            return None
        assert vectors is not None, "the prompts hold learned places; their vectors must come along"
        rows, positions = (torch.tensor([place[i] for place in learned], device=out.device) for i in (0, 1))
        values = torch.stack([vectors[slot][n] for _, _, slot, n in learned])
        return out.index_put((rows, positions), values.to(out))

    table = token_table(encoder)
    handle = table.register_forward_hook(place_vectors)
    try:
        return encoder(input_ids=torch.tensor(ids, device=table.weight.device), **options)
    finally:
        handle.remove()


def _padded(ids: tuple[int, ...], old: int, new: int, eos: int) -> tuple[int, ...]:
    """The ids with another padding after the end of the text."""
    end = len(ids)
    while ids[end - 1] == old:
        end -= 1
    end += old == eos  # of the EOS that pad, the first one ends the text
    return ids[:end] + (new,) * (len(ids) - end)


# --- transformers ---------------------------------------------------------------------------------------------------


def _of_sections(
    backbone: Backbone, readers: Sections, prompts: Sequence[Prompt], vectors: Mapping[str, Any], geometry: Geometry
) -> Conditioning:
    """The condition of a transformer: the rows of its readers one after the other, and what is beside them."""
    all_encoders = backbone.text_encoder, backbone.text_encoder_2, backbone.text_encoder_3
    encoders = dict(zip(VECTORS, all_encoders, strict=True))
    width, at = backbone.unet.model.config.get("joint_attention_dim"), 0
    states, added = list[Tensor](), dict[str, Tensor]()
    for number, section in enumerate(readers.each):
        part = _Part(section, tuple(_cut(prompt, at, section.length, number) for prompt in prompts), vectors)
        at += section.length
        read = [(encoders[name], name) for name in section.encoders]
        rows, beside = READERS[type(read[0][0]).__name__](read, part)
        added |= beside
        if section.rows:
            states.append(F.pad(rows, (0, (width or rows.shape[-1]) - rows.shape[-1])))
    if readers.blank:
        states.append(states[0].new_zeros(len(prompts), readers.blank, states[0].shape[-1]))
    if backbone.sized:
        h, w = geometry.padded_hw
        sizes = {"resolution": torch.tensor([[h, w]]), "aspect_ratio": torch.tensor([[h / w]])}
        added |= {name: x.to(states[0]).expand(len(prompts), -1) for name, x in sizes.items()}
    return Conditioning(torch.cat(states, 1), added or None)


class _Part(NamedTuple):
    """What one reader gets of the prompts, and the learned vectors by slot and text encoder."""

    section: Section
    prompts: tuple[Prompt, ...]
    vectors: Mapping[str, Any]

    def read(self, encoder: Any, name: str, padding: int | None = None, **options: Any) -> Any:
        """The output of one of the reader's text encoders; ``padding``: its own token for that."""
        ids = [prompt.ids for prompt in self.prompts]
        if padding is not None:
            ids = [
                each[: prompt.used[0]] + (padding,) * (len(each) - prompt.used[0])
                for each, prompt in zip(ids, self.prompts, strict=True)
            ]
        return _read(encoder, ids, self.prompts, {slot: of[name] for slot, of in self.vectors.items()}, **options)

    def mask(self, device: torch.device) -> Int[Tensor, "b t"]:
        """1 for what is no padding."""
        used = torch.tensor([prompt.used[0] for prompt in self.prompts], device=device)
        return (torch.arange(self.section.length, device=device) < used[:, None]).long()


def _cut(prompt: Prompt, at: int, length: int, number: int) -> Prompt:
    """What one reader gets of a prompt."""
    learned = tuple((i - at, slot, n) for i, slot, n in prompt.learned if at <= i < at + length)
    return Prompt(prompt.text, prompt.ids[at : at + length], learned, {}, prompt.used[number : number + 1])


_Read = tuple[Tensor, dict[str, Tensor]]


def _clip(encoders: Sequence[tuple[Any, str]], part: _Part) -> _Read:
    """CLIP's, one or two side by side: the layer before the last, and the vectors of the whole text.

    The second gets the first tokenizer's tokens with its own padding, as SDXL's does.
    """
    read = [
        part.read(encoder, name, part.section.paddings[i], output_hidden_states=True)
        for i, (encoder, name) in enumerate(encoders)
    ]
    whole = [getattr(each, "text_embeds", None) for each in read]
    pooled = [each.pooler_output if text is None else text for each, text in zip(read, whole, strict=True)]
    return torch.cat([each.hidden_states[-2] for each in read], -1), {"pooled": torch.cat(pooled, -1)}


def _t5(encoders: Sequence[tuple[Any, str]], part: _Part) -> _Read:
    ((encoder, name),) = encoders
    if not part.section.masked:
        return part.read(encoder, name)[0], {}
    mask = part.mask(encoder.device)
    return part.read(encoder, name, attention_mask=mask)[0], {"mask": mask}


def _qwen(encoders: Sequence[tuple[Any, str]], part: _Part) -> _Read:
    """Three layers of Qwen3 side by side; its language head is not asked."""
    ((encoder, name),) = encoders
    options: dict[str, Any] = {
        "attention_mask": part.mask(encoder.device),
        "output_hidden_states": True,
        "use_cache": False,
    }
    layers = part.read(encoder.model, name, **options).hidden_states
    rows = torch.cat([layers[i] for i in QWEN_LAYERS], -1)
    return rows, {"positions": torch.arange(rows.shape[1], device=rows.device).expand(len(rows), -1)}


READERS: Mapping[str, Callable[[Sequence[tuple[Any, str]], _Part], _Read]] = {
    "CLIPTextModel": _clip,
    "CLIPTextModelWithProjection": _clip,
    "T5EncoderModel": _t5,
    "Qwen3ForCausalLM": _qwen,
}
"""Class of a text encoder -> what is read of it: rows, and what is beside them."""
