"""The attention of Segment Anything's decoder under PerSAM's guidance, with the release's arithmetic.

PerSAM (Zhang et al. 2023, arXiv 2305.03048, section 3.2; ``per_segment_anything/modeling/transformer.py``): where
tokens look at the image, the similarity is added to the attention after its softmax, and a second softmax follows.  The
target's embedding is added to the tokens before each block (before the first, also to what is added to queries
later), and to the queries of the last attention.  ``SamModel`` of transformers adds the similarity before its one
softmax, and no embedding in the last attention, so its own arguments give other numbers.  ``Sam2Model`` has the same
decoder blocks under the same names, but for the last layer of attention, and the same departure.

Knows: the decoder's layers.  Does not know: photos, prompts.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GuidedTransformer(nn.Module):
    """In the place of a decoder's ``transformer``: guided where a similarity is given, and as it was elsewhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner: Any = inner

    def forward(
        self,
        point_embeddings: Float[Tensor, "b p n c"],
        image_embeddings: Float[Tensor, "bp c g g"],
        image_positional_embeddings: Float[Tensor, "bp c g g"],
        attention_similarity: Float[Tensor, "1 1 1 gg"] | None = None,
        target_embedding: Float[Tensor, "1 1 c"] | None = None,
        **more: Any,
    ) -> Any:
        """The tokens and the image after all layers."""
        given = (point_embeddings, image_embeddings, image_positional_embeddings)
        if attention_similarity is None or target_embedding is None:
            return self.inner(
                point_embeddings=given[0],
                image_embeddings=given[1],
                image_positional_embeddings=given[2],
                attention_similarity=attention_similarity,
                target_embedding=target_embedding,
                **more,
            )
        return self.guided(given, attention_similarity, target_embedding)

    def guided(self, given: tuple[Tensor, Tensor, Tensor], similarity: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As the release computes it."""
        keys, key_place = (each.flatten(2).transpose(1, 2).unsqueeze(1) for each in given[1:])
        place = given[0] + target  # the release adds it in place, so the first addition stays for good
        queries = place
        for number, layer in enumerate(self.inner.layers):
            queries = queries if number == 0 else queries + target
            queries, keys = _block(layer, queries, keys, (place, key_place), similarity)
        looking = queries + place + target
        found = _first(self.inner.final_attn_token_to_image(query=looking, key=keys + key_place, value=keys))
        return self.inner.layer_norm_final_attn(queries + found), keys


def _block(
    layer: Any, queries: Tensor, keys: Tensor, places: tuple[Tensor, Tensor], similarity: Tensor
) -> tuple[Tensor, Tensor]:
    """One two-way block: tokens among themselves, tokens to image, tokens alone, image to tokens."""
    place, key_place = places
    if layer.skip_first_layer_pe:
        queries = _first(layer.self_attn(query=queries, key=queries, value=queries))
    else:
        placed = queries + place
        queries = queries + _first(layer.self_attn(query=placed, key=placed, value=queries))
    queries = layer.layer_norm1(queries)
    looked = guided_attention(layer.cross_attn_token_to_image, queries + place, keys + key_place, keys, similarity)
    queries = layer.layer_norm2(queries + looked)
    queries = layer.layer_norm3(queries + layer.mlp(queries))
    back = _first(layer.cross_attn_image_to_token(query=keys + key_place, key=queries + place, value=queries))
    return queries, layer.layer_norm4(keys + back)


def guided_attention(attention: Any, query: Tensor, key: Tensor, value: Tensor, similarity: Tensor) -> Tensor:
    """Softmax, the similarity added, softmax again."""
    b, p, n, _ = query.shape
    heads = attention.num_attention_heads

    def split(states: Tensor) -> Tensor:
        return states.reshape(b * p, states.shape[2], heads, -1).transpose(1, 2)

    q, k, v = split(attention.q_proj(query)), split(attention.k_proj(key)), split(attention.v_proj(value))
    weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)
    weights = torch.softmax(weights + similarity, dim=-1)
    joined = (weights @ v).transpose(1, 2).reshape(b, p, n, -1)
    outwards: Tensor = (attention.out_proj if hasattr(attention, "out_proj") else attention.o_proj)(joined)
    return outwards


def _first(found: Any) -> Tensor:
    """What attention gives, without its weights."""
    return found[0] if isinstance(found, tuple) else found
