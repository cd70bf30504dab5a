"""The models of the embedded DiT before they have learned anything, and the pipeline folder they ship as.

They are of the classes that Stable Diffusion 3 has: joint attention over image and text, normalised queries and keys
(as 3.5), two CLIP text encoders side by side, and 256 rows of zeros where a T5 would be.

Knows: the architecture, diffusers' classes.  Does not know: training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from prisbench.diffusion.families import TEXTS
from prisbench.diffusion.loading import quiet
from prisbench.embedded.recipe import DiTRecipe
from prisbench.runtime.files import new_folder

BLANK = TEXTS["StableDiffusion3Pipeline"].length
"""Rows of zeros behind CLIP's, where a T5 is left out."""

SAMPLE_SIDE = 32
"""Latent cells along a square of about as many as a scene of 112 x 144 pixels has: the size that the model names as its
own, of which its class knows squares alone."""


def build_dit(recipe: DiTRecipe) -> Any:
    """The transformer with the first weights of the DiT paper (Peebles and Xie 2023, arXiv 2212.09748, section 3.2):
    every block begins as the identity, and the prediction as zero.
    """
    dit = SD3Transformer2DModel(
        sample_size=SAMPLE_SIDE,
        patch_size=recipe.patch,
        in_channels=4,
        out_channels=4,
        num_layers=recipe.layers,
        attention_head_dim=recipe.width // recipe.heads,
        num_attention_heads=recipe.heads,
        joint_attention_dim=recipe.text_width,
        caption_projection_dim=recipe.width,
        pooled_projection_dim=recipe.text_width,
        pos_embed_max_size=recipe.places,
        qk_norm="rms_norm",
    )
    for name, module in dit.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if name == "proj_out" or name.startswith("norm_out.") or ".norm1" in name:
                nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return dit


def load_dit(folder: Path) -> Any:
    """The transformer that a folder holds, in float32."""
    return SD3Transformer2DModel.from_pretrained(folder, torch_dtype=torch.float32)


def build_readers(recipe: DiTRecipe, tokenizer: CLIPTokenizer) -> tuple[Any, Any]:
    """The two text encoders, each half as wide as the rows that the transformer reads."""
    width = recipe.text_width // 2
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=4,
        max_position_embeddings=recipe.positions,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return CLIPTextModelWithProjection(config), CLIPTextModelWithProjection(config)


class Read(NamedTuple):
    """A batch of texts as the transformer reads them: rows, and a vector for the whole text."""

    states: Float[Tensor, "b t d"]
    pooled: Float[Tensor, "b d"]


def read_texts(readers: Sequence[Any], tokens: Int[Tensor, "b c"]) -> Read:
    """The layer before the last of both, side by side, with the rows of zeros behind; as diffusers' pipeline does."""
    found = [reader(tokens, output_hidden_states=True) for reader in readers]
    rows = torch.cat([each.hidden_states[-2] for each in found], -1)
    return Read(F.pad(rows, (0, 0, 0, BLANK)), torch.cat([each.text_embeds for each in found], -1))


def assemble_sd3(folder: Path, vae: Any, dit: Any, readers: Sequence[Any], tokenizer: CLIPTokenizer) -> Path:
    """A diffusers pipeline folder, fp16 safetensors; replaces one that stood there.  Raises WriteError."""
    with quiet():
        from diffusers import StableDiffusion3Pipeline
    pipeline: Any = StableDiffusion3Pipeline(
        transformer=dit,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=readers[0],
        tokenizer=tokenizer,
        text_encoder_2=readers[1],
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    # Loaded from a checkpoint, it would ship the name of that folder; and the pipeline adds the shift, which is none.
    vae.register_to_config(_name_or_path="", shift_factor=0.0)
    for part in (vae, dit, *readers):
        part.half()
    with new_folder(folder, overwrite=True, marker="model_index.json") as temp:
        pipeline.save_pretrained(temp, safe_serialization=True)
    for part in (vae, dit, *readers):
        part.float()
    return folder
