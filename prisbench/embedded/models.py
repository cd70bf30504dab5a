"""The models of the embedded backbone before they have learned anything, and the pipeline folder
they ship as.

Knows: the architecture, diffusers' classes.  Does not know: training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from prisbench.diffusion.loading import quiet
from prisbench.embedded.recipe import AnyRecipe, Recipe

SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
"""Noise schedule of Stable Diffusion 1.x."""


WITHOUT = {"text_encoder_3": None, "tokenizer_3": None}
"""What diffusers wants to be told of a StableDiffusion3Pipeline that was saved without its T5."""


def build_autoencoder(recipe: AnyRecipe) -> Any:
    c = recipe.vae_channels
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(c),
        up_block_types=("UpDecoderBlock2D",) * len(c),
        block_out_channels=c,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=128,
    )


def load_autoencoder(folder: Path) -> Any:
    """The autoencoder that a folder holds."""
    return AutoencoderKL.from_pretrained(folder)


def build_denoiser(recipe: Recipe) -> Any:
    """Three levels.  At the finest, cross-attention only and only on the way up: a 4-pixel grid at
    little cost.
    """
    return UNet2DConditionModel(
        sample_size=(28, 36),
        layers_per_block=1,
        block_out_channels=recipe.unet_channels,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        only_cross_attention=(True, False, False),
        cross_attention_dim=recipe.text_width,
        attention_head_dim=(1, 2, 4),  # heads a level; diffusers' name is historical
        norm_num_groups=8,
    )


def load_denoiser(folder: Path) -> Any:
    """The U-Net that a folder holds, in float32."""
    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)


def build_text_encoder(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.positions,
            projection_dim=recipe.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )


def alphas_cumprod() -> Tensor:
    betas = torch.linspace(SD_BETAS["beta_start"] ** 0.5, SD_BETAS["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2  # type: ignore[operator]
    return torch.cumprod(1 - betas, 0).float()


def _pipeline_class() -> Any:
    """Imported where it is used: its libraries print advice, which :func:`quiet` keeps back."""
    with quiet():
        from diffusers import StableDiffusionPipeline
    return StableDiffusionPipeline


def _any_pipeline() -> Any:
    with quiet():
        from diffusers import DiffusionPipeline
    return DiffusionPipeline


def assemble(folder: Path, vae: Any, unet: Any, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> Path:
    """A diffusers pipeline folder, fp16 safetensors."""
    scheduler = PNDMScheduler(**SD_BETAS, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    pipeline: Any = _pipeline_class()(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    # Loaded from a checkpoint, it would ship the name of that folder; from the DiT's, a shift that is none.
    vae.register_to_config(_name_or_path="", shift_factor=None)
    for part in (vae, unet, text):
        part.half()
    pipeline.save_pretrained(folder, safe_serialization=True)
    for part in (vae, unet, text):
        part.float()
    return folder


def samples_sheet(
    folder: Path, prompts: list[str], size_hw: tuple[int, int] = (112, 144), steps: int = 30, seed: int = 0
) -> np.ndarray:
    """Pictures the pipeline makes of the prompts, in rows of four: uint8 rows*h 4*w 3."""
    with quiet():
        absent = WITHOUT if (folder / "transformer").is_dir() else {}
        pipeline: Any = _any_pipeline().from_pretrained(folder, torch_dtype=torch.float32, **absent)
    pipeline.set_progress_bar_config(disable=True)
    h, w = size_hw
    pictures = []
    for i, prompt in enumerate(prompts):
        g = torch.Generator().manual_seed(seed + i)
        result: Any = pipeline(
            prompt, height=h, width=w, num_inference_steps=steps, guidance_scale=4.0, generator=g, output_type="np"
        )
        pictures.append((result.images[0] * 255).round().astype(np.uint8))
    pictures += [np.zeros((h, w, 3), np.uint8)] * (-len(pictures) % 4)
    return np.concatenate([np.concatenate(pictures[i : i + 4], 1) for i in range(0, len(pictures), 4)], 0)
