"""A Stable Diffusion pipeline of the real classes, small enough to be made in a moment: random, but not flat.

Attention of random weights is nearly uniform; its projections are scaled up so that maps have places.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

MERGES = [("m", "u"), ("mu", "g</w>"), ("t", "h"), ("th", "e</w>"), ("b", "o"), ("bo", "w"), ("bow", "l</w>")]
"""mug, the and bowl are one token each; other words are spelled letter by letter."""


def tokenizer(length: int = 40) -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in MERGES)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=MERGES, model_max_length=length)


def text_encoder(vocabulary: int, length: int = 40) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=length,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def unet(**changes: object) -> UNet2DConditionModel:
    """Three levels; the finest looks at the text only (``only_cross_attention``)."""
    settings = dict(
        sample_size=(28, 36),
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        only_cross_attention=(True, False, False),
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    model = UNet2DConditionModel(**{**settings, **changes})
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                weight *= 4
    return model.eval()


def pipeline(seed: int = 0) -> StableDiffusionPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words = tokenizer()
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            norm_num_groups=4,
            latent_channels=4,
            mid_block_add_attention=False,
        )
        return StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder(len(words)),
            tokenizer=words,
            unet=unet(),
            scheduler=PNDMScheduler(
                beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def save(folder: Path, seed: int = 0) -> Path:
    """The pipeline as a folder; returns the folder."""
    pipeline(seed).save_pretrained(folder, safe_serialization=True)
    return folder
