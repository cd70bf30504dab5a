"""Stable Diffusion pipelines of the real classes, small enough to be made in a moment: random, but not flat.

``pipeline`` is built like the embedded backbone, the others like Stable Diffusion 1.x, 2.x and SDXL, block for block.
Attention of random weights is nearly uniform; its projections are scaled up so that maps have places.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

MERGES = [("m", "u"), ("mu", "g</w>"), ("t", "h"), ("th", "e</w>"), ("b", "o"), ("bo", "w"), ("bow", "l</w>")]
"""mug, the and bowl are one token each; other words are spelled letter by letter."""


def tokenizer(length: int = 40, padding: str = "<|endoftext|>") -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in MERGES)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=MERGES, model_max_length=length, pad_token=padding)


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


BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

SD_LAYOUT: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "layers_per_block": 2,
    "only_cross_attention": False,
    "block_out_channels": (8, 16, 16, 16),
}
"""Without the levels' number of heads: that is what Stable Diffusion 2.x changed."""

SDXL_LAYOUT: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "only_cross_attention": False,
    "block_out_channels": (8, 16, 16),
    "transformer_layers_per_block": (1, 2, 10),
}


def autoencoder(scaling: float) -> AutoencoderKL:
    """Eight pixels a latent cell, as all of Stable Diffusion has."""
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=scaling,
    )


def sd1(seed: int = 0) -> StableDiffusionPipeline:
    """Like Stable Diffusion 1.x; 64 x 128 pixels."""
    return _one_encoder(seed, tokenizer(), PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1))


def sd2(seed: int = 0) -> StableDiffusionPipeline:
    """Like Stable Diffusion 2.x: predicts v, upcasts attention, projects by linear layers, pads with "!" (id 0)."""
    return _one_encoder(
        seed,
        tokenizer(padding="!"),
        DDIMScheduler(**BETAS, prediction_type="v_prediction", steps_offset=1, clip_sample=False),
        attention_head_dim=(1, 2, 2, 4),
        use_linear_projection=True,
        upcast_attention=True,
    )


def _one_encoder(seed: int, words: CLIPTokenizer, scheduler: object, **changes: object) -> StableDiffusionPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return StableDiffusionPipeline(
            vae=autoencoder(0.18215),
            text_encoder=text_encoder(len(words)),
            tokenizer=words,
            unet=unet(sample_size=(8, 16), **SD_LAYOUT, **changes),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def sdxl_unet(**changes: object) -> UNet2DConditionModel:
    settings = dict(
        sample_size=(12, 16),
        cross_attention_dim=24 + 32,
        attention_head_dim=(1, 2, 2),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 20,
    )
    return unet(**SDXL_LAYOUT, **settings | changes)


def sdxl(seed: int = 0) -> StableDiffusionXLPipeline:
    """Like SDXL: two text encoders (24 and 32 wide), the second padding with "!"; 96 x 128 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words, words_2 = tokenizer(), tokenizer(padding="!")
        second = text_encoder(len(words)).config
        for name, value in {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "hidden_act": "gelu",
            "projection_dim": 20,
        }.items():
            setattr(second, name, value)
        return StableDiffusionXLPipeline(
            vae=autoencoder(0.13025),
            text_encoder=text_encoder(len(words)),
            text_encoder_2=CLIPTextModelWithProjection(second),
            tokenizer=words,
            tokenizer_2=words_2,
            unet=sdxl_unet(),
            scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1),
        )


KINDS = {"embedded": pipeline, "sd1": sd1, "sd2": sd2, "sdxl": sdxl}


def save(folder: Path, seed: int = 0, kind: str = "embedded") -> Path:
    """The pipeline of that kind as a folder; returns the folder."""
    KINDS[kind](seed).save_pretrained(folder, safe_serialization=True)
    return folder


def as_older_libraries_wrote_it(folder: Path) -> Path:
    """The folder rewritten as transformers 4 and diffusers before 0.12 did, and as published models still are."""
    for path in folder.glob("text_encoder*/model.safetensors"):
        weights = {
            name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": weight
            for name, weight in load_file(path).items()
        }
        positions = len(weights["text_model.embeddings.position_embedding.weight"])
        weights["text_model.embeddings.position_ids"] = torch.arange(positions)[None]
        save_file(weights, path, {"format": "pt"})

    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        weights = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): w for name, w in weights.items()}
    assert any(".query." in name for name in weights)
    save_file(weights, path, {"format": "pt"})

    for words in folder.glob("tokenizer*"):
        padding = json.loads((words / "tokenizer_config.json").read_text())["pad_token"]
        shutil.rmtree(words)
        words.mkdir()
        (words / "vocab.json").write_text(json.dumps(tokenizer().get_vocab()))
        (words / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, MERGES), ""]))
        flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
        ends = {
            f"{end}_token": {"content": f"<|{word}oftext|>", **flags}
            for end, word in (("bos", "start"), ("eos", "end"))
        }
        (words / "special_tokens_map.json").write_text(json.dumps({**ends, "pad_token": padding}))
        config: dict[str, Any] = {name: {"__type": "AddedToken", **token} for name, token in ends.items()}
        config |= {"pad_token": padding, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
        config |= {"add_prefix_space": False, "do_lower_case": True, "errors": "replace"}
        (words / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
