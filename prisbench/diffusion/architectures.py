"""The numbers of published diffusion models: which layout a U-Net has, and what the full-size models are made of.

Knows: the keys of diffusers' and transformers' configurations.  Does not know: a model class, a file, a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# --- families -------------------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """What decides which transformer blocks a U-Net has, and so what their names mean; tuples have one entry a level.

    ``depths``: transformer blocks in one attention module.  ``text_only``: no self-attention (only_cross_attention).
    """

    down: tuple[str, ...]
    mid: str | None
    up: tuple[str, ...]
    layers: tuple[int, ...]
    depths: tuple[int, ...]
    text_only: tuple[bool, ...]


_MID = "UNetMidBlock2DCrossAttn"

FAMILIES = {
    "embedded": Layout(
        down=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid=_MID,
        up=("CrossAttnUpBlock2D",) * 3,
        layers=(1,) * 3,
        depths=(1,) * 3,
        text_only=(True, False, False),
    ),
    "sd": Layout(
        down=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        mid=_MID,
        up=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        layers=(2,) * 4,
        depths=(1,) * 4,
        text_only=(False,) * 4,
    ),
    "sdxl": Layout(
        down=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid=_MID,
        up=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers=(2,) * 3,
        depths=(1, 2, 10),
        text_only=(False,) * 3,
    ),
}
"""Family -> the layout of its U-Nets.  A preset speaks of blocks by name, so it fits whoever has the same blocks; and
a layout needs no mark in the folder: a backbone trained again by `prisbench train-backbone`, or a fine-tuned Stable
Diffusion, is of the family without having been told."""

OTHER = "other"
"""The family of every other layout (distilled models, say), for which no preset was made."""


def family(unet: Mapping[str, Any]) -> str:
    """The family of a U-Net with this configuration."""
    down = tuple(unet["down_block_types"])

    def each_level(key: str) -> tuple[Any, ...]:
        value = unet[key]
        return tuple(value) if isinstance(value, list | tuple) else (value,) * len(down)

    found = Layout(
        down,
        unet["mid_block_type"],
        tuple(unet["up_block_types"]),
        each_level("layers_per_block"),
        each_level("transformer_layers_per_block"),
        each_level("only_cross_attention"),
    )
    if unet["reverse_transformer_layers_per_block"] is not None:  # then the way up has depths of its own
        return OTHER
    return next((name for name, layout in FAMILIES.items() if found == layout), OTHER)


# --- sizes ----------------------------------------------------------------------------------------------------------


class Architecture(NamedTuple):
    """The arguments of the configurations that make a published model.

    ``text`` and ``paddings`` (the token that fills a prompt up) have one entry a text encoder.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: tuple[Mapping[str, Any], ...]
    paddings: tuple[str, ...]
    prediction_type: str = "epsilon"


_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "max_position_embeddings": 77,
}
_OPENCLIP_H = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
    "max_position_embeddings": 77,
}
_OPENCLIP_BIG_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
    "max_position_embeddings": 77,
}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}


def _unet(family: str, **settings: Any) -> dict[str, Any]:
    """The arguments of a U-Net whose blocks are the family's."""
    layout = FAMILIES[family]
    return {
        "down_block_types": layout.down,
        "mid_block_type": layout.mid,
        "up_block_types": layout.up,
        "layers_per_block": layout.layers,
        "transformer_layers_per_block": layout.depths,
        "only_cross_attention": layout.text_only,
        **settings,
    }


ARCHITECTURES = {
    "sd15-random": Architecture(
        unet=_unet(
            "sd",
            sample_size=64,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=8,
            cross_attention_dim=768,
        ),
        vae={**_VAE, "sample_size": 512, "scaling_factor": 0.18215},
        text=(_CLIP_L,),
        paddings=("<|endoftext|>",),
    ),
    "sd21-random": Architecture(
        unet=_unet(
            "sd",
            sample_size=96,
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
            upcast_attention=True,
        ),
        vae={**_VAE, "sample_size": 768, "scaling_factor": 0.18215},
        text=(_OPENCLIP_H,),
        paddings=("!",),
        prediction_type="v_prediction",
    ),
    "sdxl-random": Architecture(
        unet=_unet(
            "sdxl",
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        ),
        vae={**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
        text=(_CLIP_L, _OPENCLIP_BIG_G),
        paddings=("<|endoftext|>", "!"),
    ),
}
"""Name -> the sizes of Stable Diffusion 1.5, 2.1 (768 px) and SDXL base 1.0, from those models' configuration files.
Their U-Nets have 859.5, 865.9 and 2567.5 million weights.  (``attention_head_dim`` counts heads: diffusers' name is
historical.)"""


class TransformerSize(NamedTuple):
    """The arguments that make a published transformer, and what stands around it.

    ``text_rows``: of a text of full length.  ``text_weights``: of all text encoders.  ``vae_factor``: pixels per latent
    cell, along one side.
    """

    model: str
    config: Mapping[str, Any]
    text_rows: int
    text_weights: int
    vae_factor: int = 8


_CLIP_L_WEIGHTS, _CLIP_G_WEIGHTS, _T5_XXL_WEIGHTS = 123_060_480, 694_659_840, 4_762_310_656
_QWEN3_4B_WEIGHTS, _QWEN3_8B_WEIGHTS = 4_022_468_096, 8_190_735_360
_SD3_TEXT = {"joint_attention_dim": 4096, "pooled_projection_dim": 2048, "in_channels": 16, "out_channels": 16}
_SD3_TEXT_WEIGHTS = _CLIP_L_WEIGHTS + _CLIP_G_WEIGHTS + _T5_XXL_WEIGHTS
_FLUX = {"guidance_embeds": True, "num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24}
_PIXART = {"num_layers": 28, "cross_attention_dim": 1152, "caption_channels": 4096, "sample_size": 128}

TRANSFORMERS: Mapping[str, TransformerSize] = {
    "sd3-medium": TransformerSize(
        "SD3Transformer2DModel",
        {
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 192,
            **_SD3_TEXT,
        },
        77 + 256,
        _SD3_TEXT_WEIGHTS,
    ),
    "sd3.5-medium": TransformerSize(
        "SD3Transformer2DModel",
        {
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 384,
            "qk_norm": "rms_norm",
            "dual_attention_layers": tuple(range(13)),
            **_SD3_TEXT,
        },
        77 + 256,
        _SD3_TEXT_WEIGHTS,
    ),
    "sd3.5-large": TransformerSize(
        "SD3Transformer2DModel",
        {
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
            **_SD3_TEXT,
        },
        77 + 256,
        _SD3_TEXT_WEIGHTS,
    ),
    "flux.1-dev": TransformerSize("FluxTransformer2DModel", _FLUX, 512, _CLIP_L_WEIGHTS + _T5_XXL_WEIGHTS),
    "flux.1-schnell": TransformerSize(
        "FluxTransformer2DModel", {**_FLUX, "guidance_embeds": False}, 256, _CLIP_L_WEIGHTS + _T5_XXL_WEIGHTS
    ),
    "flux.2-klein-4b": TransformerSize(
        "Flux2Transformer2DModel",
        {
            "num_layers": 5,
            "num_single_layers": 20,
            "num_attention_heads": 24,
            "joint_attention_dim": 7680,
            "guidance_embeds": False,
        },
        512,
        _QWEN3_4B_WEIGHTS,
        16,
    ),
    "flux.2-klein-9b": TransformerSize(
        "Flux2Transformer2DModel",
        {
            "num_layers": 8,
            "num_single_layers": 24,
            "num_attention_heads": 32,
            "joint_attention_dim": 12288,
            "guidance_embeds": False,
        },
        512,
        _QWEN3_8B_WEIGHTS,
        16,
    ),
    "pixart-alpha": TransformerSize("PixArtTransformer2DModel", _PIXART, 120, _T5_XXL_WEIGHTS),
    "pixart-sigma": TransformerSize(
        "PixArtTransformer2DModel", {**_PIXART, "use_additional_conditions": False}, 300, _T5_XXL_WEIGHTS
    ),
}
"""Name -> sizes of published transformers, after their configuration files and diffusers' defaults, from memory where
no file was at hand; ``tests/test_planned.py`` compares the numbers of weights with what is published."""
