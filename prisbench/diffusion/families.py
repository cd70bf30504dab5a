"""What is particular to each family of diffusion transformers: the one place that says it.

    DIRECTIONS   who looks at whom; KINDS what a map is made of
    SEQUENCES    how image and text stand in the attention of a model class, and where its blocks are
    TEXTS        who reads a text, how long it may be, and what of it conditions the model

Read in diffusers 0.42 (``models/transformers``, ``pipelines``).  Where rotary embeddings enter, which projections are
fused and which are added does not matter here: queries and keys are read where all models hand them to the fused
attention (``diffusion.joint``).

Knows: names, orders, lengths.  Does not know: torch, a model class, a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from prisbench.diffusion.architectures import OTHER

# --- attention ------------------------------------------------------------------------------------------------------

DIRECTIONS = ("image", "text")
"""Who looks: image rows at words (how much of a place's attention a word has), or words at image rows (where a word
looks).  The second there is in joint attention alone."""

KINDS = ("attention", "outputs")
"""What a map is made of: attention itself; or in joint attention what it gave image rows and words, compared."""


class Sequence(NamedTuple):
    """How rows stand in a model's attention.

    ``order``: "image, text" and "text, image" are joint attention, one sequence of both; "cross" has image rows alone
    as queries, and the text as keys of an attention of its own.  ``lists``: the model's lists of blocks, in forward
    order, by the word that names their blocks here (``double.3``).  ``joint``, ``image``: names of the attention inside
    of a block that has the text, and of the one among image rows; the same one in joint attention.  ``patch``: latent
    cells along one side of an image row, None where the model's configuration says it (``patch_size``).
    """

    order: str
    lists: Mapping[str, str]
    joint: str
    image: str
    patch: int | None


SEQUENCES: Mapping[str, Sequence] = {
    "SD3Transformer2DModel": Sequence("image, text", {"joint": "transformer_blocks"}, "attn", "attn", None),
    "FluxTransformer2DModel": Sequence(
        "text, image", {"double": "transformer_blocks", "single": "single_transformer_blocks"}, "attn", "attn", 2
    ),
    "Flux2Transformer2DModel": Sequence(
        "text, image", {"double": "transformer_blocks", "single": "single_transformer_blocks"}, "attn", "attn", 1
    ),
    "PixArtTransformer2DModel": Sequence("cross", {"block": "transformer_blocks"}, "attn2", "attn1", None),
}
"""Model class -> how rows stand in its attention.  Flux.2's latents are patched before they are noised."""


# --- texts ----------------------------------------------------------------------------------------------------------


class Texts(NamedTuple):
    """Who reads a text.

    ``clip``, ``t5`` and ``qwen`` name the parts of the pipeline; ``length`` is how many tokens the long reader takes.
    ``pooled``: CLIP gives one vector, and no rows.  ``optional``: the pipeline works without the long reader, with
    zeros for its rows.  ``masked``: padding takes no part in the model's attention.
    """

    clip: tuple[str, ...] = ()
    t5: str | None = None
    qwen: str | None = None
    length: int = 0
    pooled: bool = False
    optional: bool = False
    masked: bool = False
    lower: bool = False


SHORT = "FluxPipeline without guidance"
"""Flux.1 schnell, which was trained with half the text of Flux.1 dev."""

TEXTS: Mapping[str, Texts] = {
    "StableDiffusion3Pipeline": Texts(
        clip=("text_encoder", "text_encoder_2"), t5="text_encoder_3", length=256, optional=True
    ),
    "FluxPipeline": Texts(clip=("text_encoder",), t5="text_encoder_2", length=512, pooled=True),
    SHORT: Texts(clip=("text_encoder",), t5="text_encoder_2", length=256, pooled=True),
    "Flux2KleinPipeline": Texts(qwen="text_encoder", length=512),
    "PixArtAlphaPipeline": Texts(t5="text_encoder", length=120, masked=True, lower=True),
    "PixArtSigmaPipeline": Texts(t5="text_encoder", length=300, masked=True, lower=True),
}
"""Pipeline class -> who reads its texts, with the lengths that the pipelines of diffusers take by default."""

QWEN_LAYERS = (9, 18, 27)
"""Whose hidden states of Qwen3 condition Flux.2 klein, side by side."""

GUIDANCE = 1.0
"""What a model distilled for guidance (Flux.1 dev) is told: 1 is the plain prediction, nothing is led away from."""

NATIVE_PX = 1024
"""The side of the square images that Flux was trained on, which its configuration does not say."""


# --- which family ---------------------------------------------------------------------------------------------------


def family(model: str, config: Mapping[str, Any]) -> str:
    """The family of a transformer: its class, and how many blocks it has, since presets speak of blocks by number."""
    depth = (int(config["num_layers"]), int(config.get("num_single_layers") or 0))
    return FAMILIES.get((model, *depth), OTHER)


FAMILIES: Mapping[tuple[str, int, int], str] = {
    ("SD3Transformer2DModel", 8, 0): "embedded-dit",
    ("SD3Transformer2DModel", 24, 0): "sd3",
    ("SD3Transformer2DModel", 38, 0): "sd3-large",
    ("FluxTransformer2DModel", 19, 38): "flux",
    ("Flux2Transformer2DModel", 5, 20): "klein",
    ("Flux2Transformer2DModel", 8, 24): "klein-9b",
    ("PixArtTransformer2DModel", 28, 0): "pixart",
}
"""Class, blocks, single blocks -> family: what `prisbench train-backbone --architecture sd3` trains; Stable Diffusion 3
and 3.5 medium; 3.5 large; Flux.1; Flux.2 klein 4B and 9B; PixArt-alpha and sigma."""
