"""Pipelines of diffusion transformers of the real classes, small enough to be made in a moment: random, but not flat.

Each has as many blocks as the published model, since presets speak of blocks by number, and nearly no width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tiny
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2TokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone

WIDE = 24
"""Of the long reader's rows."""


def t5_tokenizer() -> T5TokenizerFast:
    """mug, the and bowl are one token each; other words are spelled letter by letter."""
    letters = "abcdefghijklmnopqrstuvwxyz.,-"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("\u2581", -4.0)]
    pieces += [(f"\u2581{word}", -2.0) for word in ("mug", "the", "bowl", "z")] + [(letter, -5.0) for letter in letters]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def t5(vocabulary: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(vocab_size=vocabulary, d_model=WIDE, d_kv=8, d_ff=32, num_layers=2, num_heads=2, is_gated_act=True)
    )


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def qwen_tokenizer() -> Qwen2TokenizerFast:
    """A mug and a bowl after a space are one token each, as is a mug that begins the text."""
    letters = sorted(ByteLevel.alphabet())
    merges = [("m", "u"), ("mu", "g"), ("\u0120", "mug"), ("b", "o"), ("bo", "w"), ("bow", "l"), ("\u0120", "bowl")]
    words = [*letters, *("".join(pair) for pair in merges), "<|endoftext|>"]
    made = Qwen2TokenizerFast(vocab={word: i for i, word in enumerate(words)}, merges=merges, chat_template=CHAT)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.add_tokens(["<think>", "</think>"])
    return made


def qwen(vocabulary: int) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=WIDE // 3,
            intermediate_size=16,
            num_hidden_layers=28,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
        )
    )


def clip(vocabulary: int, width: int, projected: bool) -> Any:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


LEVELS: dict[str, Any] = {
    "block_out_channels": (4, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 4,
    "latent_channels": 4,
}


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        **LEVELS, scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False
    )


def sharpened(model: Any) -> Any:
    """Attention that is not nearly uniform."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight", "add_q_proj.weight", "add_k_proj.weight")):
                weight *= 3
            if name.endswith(("norm_q.weight", "norm_k.weight", "norm_added_q.weight", "norm_added_k.weight")):
                weight *= 1.5
    return model.eval()


def sd3(medium35: bool = False, with_t5: bool = True, **changes: Any) -> StableDiffusion3Pipeline:
    words, words_2, long = tiny.tokenizer(77), tiny.tokenizer(77, "!"), t5_tokenizer()
    later = {"qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))} if medium35 else {}
    size: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 24,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": WIDE,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 8 + 12,
        "pos_embed_max_size": 24,
    }
    return StableDiffusion3Pipeline(
        transformer=sharpened(SD3Transformer2DModel(**size | later | changes)),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=clip(len(words), 8, True),
        tokenizer=words,
        text_encoder_2=clip(len(words), 12, True),
        tokenizer_2=words_2,
        text_encoder_3=t5(len(long)) if with_t5 else None,
        tokenizer_3=long if with_t5 else None,
    )


def flux(dev: bool = False) -> FluxPipeline:
    words, long = tiny.tokenizer(77), t5_tokenizer()
    return FluxPipeline(
        transformer=sharpened(
            FluxTransformer2DModel(
                in_channels=16,
                num_layers=19,
                num_single_layers=38,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=WIDE,
                pooled_projection_dim=8,
                guidance_embeds=dev,
                axes_dims_rope=(2, 2, 4),
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=dev),
        vae=autoencoder(),
        text_encoder=clip(len(words), 8, False),
        tokenizer=words,
        text_encoder_2=t5(len(long)),
        tokenizer_2=long,
    )


def klein() -> Flux2KleinPipeline:
    words = qwen_tokenizer()
    vae = AutoencoderKLFlux2(**LEVELS)
    vae.bn.running_mean.uniform_(-0.2, 0.2)
    vae.bn.running_var.uniform_(0.5, 2)
    return Flux2KleinPipeline(
        transformer=sharpened(
            Flux2Transformer2DModel(
                in_channels=16,
                num_layers=5,
                num_single_layers=20,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=WIDE,
                guidance_embeds=False,
                axes_dims_rope=(4, 4, 4, 4),
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=qwen(len(words)),
        tokenizer=words,
        is_distilled=True,
    )


def pixart(sigma: bool = False) -> Any:
    words = t5_tokenizer()
    kind = PixArtSigmaPipeline if sigma else PixArtAlphaPipeline
    return kind(
        tokenizer=words,
        text_encoder=t5(len(words)),
        vae=AutoencoderKL(**LEVELS, scaling_factor=0.13025),
        transformer=sharpened(
            PixArtTransformer2DModel(
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=4,
                out_channels=8,
                num_layers=28,
                cross_attention_dim=24,
                sample_size=16 if sigma else 128,
                caption_channels=WIDE,
                use_additional_conditions=not sigma,
                interpolation_scale=1,
            )
        ),
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    )


KINDS: Mapping[str, Callable[[], Any]] = {
    "sd3": sd3,
    "sd35": lambda: sd3(medium35=True),
    "sd3-without-t5": lambda: sd3(with_t5=False),
    "flux-schnell": flux,
    "flux-dev": lambda: flux(dev=True),
    "klein": klein,
    "pixart-alpha": pixart,
    "pixart-sigma": lambda: pixart(sigma=True),
}


def pipeline(kind: str, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return KINDS[kind]()


def load(folder: Path, kind: str) -> Any:
    """The pipeline of a folder, as diffusers has it."""
    absent = {"text_encoder_3": None, "tokenizer_3": None} if kind == "sd3-without-t5" else {}
    return type(pipeline(kind)).from_pretrained(folder, **absent)


def folders_in(root: Path) -> Callable[[str], Path]:
    """A kind -> its pipeline's folder below ``root``, written when it is first asked for."""
    return lambda kind: root / kind if (root / kind).exists() else save(root / kind, kind)


def backbones_in(folders: Callable[[str], Path]) -> Callable[[str], Backbone]:
    """A kind -> the backbone of its folder, loaded once."""
    return functools.cache(lambda kind: load_backbone(folders(kind)))


def save(folder: Path, kind: str) -> Path:
    """The pipeline of that kind as a folder; returns the folder."""
    pipeline(kind).save_pretrained(folder, safe_serialization=True)
    return folder
