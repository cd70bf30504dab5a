"""A frozen latent diffusion model, as the rest of prisbench sees it.

Knows: what its models are and what their configurations decide.  Does not know: where they come from
(``diffusion.loading``), what is done with them.

Nothing changes a model after loading.  Learned vectors enter a single call of the text encoder.
Randomness is a hash of content, so the noise of an image does not depend on what was computed before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from prisbench.diffusion.domain import Domain

VECTORS = ("vectors", "vectors_2")
"""The names of a concept's learned vectors, those of the first and of the second text encoder."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen model.  ``id`` is its name and a hash of its weights; ``family`` says which presets were made for it:
    "embedded", "sd" (Stable Diffusion 1.x and 2.x), "sdxl", or "other".

    ``prediction_type`` is "epsilon" or "v_prediction".  The second tokenizer and text encoder are SDXL's.  SDXL's
    autoencoder is float32 whatever ``dtype`` says: in fp16 it overflows.

    The models are diffusers' and transformers' (CLIPTokenizer, CLIPTextModel, AutoencoderKL, UNet2DConditionModel);
    type checkers see through neither library, hence ``Any``.
    """

    id: str
    family: str
    tokenizer: Any
    text_encoder: Any
    vae: Any
    unet: Any
    alphas_cumprod: Float[Tensor, "steps"]
    prediction_type: str
    device: torch.device
    dtype: torch.dtype
    tokenizer_2: Any = None
    text_encoder_2: Any = None
    configuration: str = ""
    """A hash of the folder's configuration files, which ``id`` leaves out; empty without a folder."""
    domain: Domain | None = None
    """What its own world looks like to it, where somebody measured that."""

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell, along one side."""
        return int(2 ** (len(self.vae.config["block_out_channels"]) - 1))

    @property
    def stride(self) -> int:
        """Image sides must be a multiple of this many pixels, so that every grid of the U-Net divides evenly."""
        return int(self.vae_factor * 2 ** (len(self.unet.config["block_out_channels"]) - 1))

    @property
    def native_area_px(self) -> int:
        """The image area the model was trained on."""
        return math.prod(self.native_hw)

    @property
    def native_hw(self) -> tuple[int, int]:
        """The pixels of the images the model was trained on."""
        size = self.unet.config["sample_size"]
        h, w = (size, size) if isinstance(size, int) else size
        return int(h * self.vae_factor), int(w * self.vae_factor)

    @property
    def token_table(self) -> Float[Tensor, "tokens d"]:
        """The (first) text encoder's embedding of each token."""
        return self.token_tables[VECTORS[0]]

    @property
    def token_tables(self) -> dict[str, Tensor]:
        """Each text encoder's embedding of each token (tokens x d), by the name that its learned vectors have."""
        encoders = (self.text_encoder, self.text_encoder_2)
        return {
            name: encoder.get_input_embeddings().weight
            for name, encoder in zip(VECTORS, encoders, strict=True)
            if encoder is not None
        }
