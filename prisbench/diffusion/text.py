"""Prompts to what the U-Net is conditioned on, with learned vectors in their places.

Knows: the text encoders, one or SDXL's two.  Does not know: images but for their sizes, how a vector is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from prisbench.diffusion.backbone import VECTORS, Backbone
from prisbench.diffusion.images import Geometry
from prisbench.diffusion.prompts import Prompt
from prisbench.errors import BackboneError

TIME_IDS = ("original_h", "original_w", "crop_top", "crop_left", "target_h", "target_w")
"""SDXL's micro-conditioning (arXiv 2307.01952, section 2.2), in pixels."""


class Conditioning(NamedTuple):
    """What the U-Net is conditioned on: ``encoder_hidden_states``, and ``added_cond_kwargs`` of SDXL."""

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
    """What the U-Net is conditioned on when it looks at an image of this geometry, one row a prompt.

    ``vectors`` maps slots to learned vectors by text encoder (``learned_vectors``); gradients reach them.

    SDXL reads two text encoders, the layer before the last of each, side by side; the pooled text of the second; and
    sizes: the photo's own, no crop, and the padded image's.  Its second encoder gets the first tokenizer's tokens with
    its own padding.  That is what its own tokenizer gives but for "!", which transformers takes for padding there even
    inside a text and the model's training (OpenCLIP's tokenizer) did not.
    """
    given = vectors or {}
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
            VECTORS, (backbone.text_encoder, backbone.text_encoder_2), paddings, strict=True
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
    if backbone.text_encoder_2 is not None:
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
            f"concept {concept_id} has {' and '.join(map(str, sorted(counts)))} vectors for the two text encoders of "
            f"{backbone.id}; learn it again"
        )
    return vectors


def _read(
    encoder: Any,
    ids: Sequence[tuple[int, ...]],
    prompts: Sequence[Prompt],
    vectors: Mapping[str, Tensor] | None,
    **options: bool,
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

    table = encoder.get_input_embeddings()
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
