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

from prisbench.diffusion.prompts import Sections
from prisbench.diffusion.transformer import Transformer

if TYPE_CHECKING:
    from prisbench.diffusion.domain import Domain

VECTORS = ("vectors", "vectors_2", "vectors_3")
"""The names of a concept's learned vectors, those of the first text encoder, of the second and of the third."""

FLOW = "flow"
"""The prediction type of flow matching: latents move on straight lines to noise, the model says which way and how far
(``diffusion.noise``)."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen model.  ``id`` is its name and a hash of its weights; ``family`` says which presets were made for it:
    "embedded", "sd" (Stable Diffusion 1.x and 2.x), "sdxl", those of ``diffusion.families``, or "other".

    ``unet`` is what predicts: a U-Net, or a ``diffusion.transformer`` with a U-Net's call.  ``prediction_type`` is
    "epsilon", "v_prediction" or FLOW.  The second tokenizer is SDXL's, the second text encoder SDXL's, Stable Diffusion
    3's and Flux.1's, the third Stable Diffusion 3's.  ``tokenizer`` is ``prompts.Sections`` where a transformer is.
    SDXL's autoencoder is float32 whatever ``dtype`` says: in fp16 it overflows.

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
    text_encoder_3: Any = None

    @property
    def is_transformer(self) -> bool:
        """Whether a transformer predicts, not a U-Net."""
        return isinstance(self.unet, Transformer)

    @property
    def flow(self) -> bool:
        """Whether the model was trained by flow matching."""
        return self.prediction_type == FLOW

    @property
    def sized(self) -> bool:
        """Whether the model is told how large the image is, so that a text is read for photos of one geometry."""
        if isinstance(self.unet, Transformer):
            return bool(getattr(self.unet.model, "use_additional_conditions", False))
        return self.text_encoder_2 is not None

    @property
    def models(self) -> dict[str, Any]:
        """The models that a concept may change, by the names that its tensors begin with."""
        network = {"transformer": self.unet.model} if isinstance(self.unet, Transformer) else {"unet": self.unet}
        encoders = (self.text_encoder, self.text_encoder_2, self.text_encoder_3)
        named = zip(("text_encoder", "text_encoder_2", "text_encoder_3"), encoders, strict=True)
        return network | {name: encoder for name, encoder in named if encoder is not None}

    @property
    def vae_factor(self) -> int:
        """Pixels per latent cell, along one side."""
        return pixels_a_cell(self.vae)

    @property
    def stride(self) -> int:
        """Image sides must be a multiple of this many pixels, so that every grid of the U-Net divides evenly."""
        if isinstance(self.unet, Transformer):
            return self.vae_factor * self.unet.patch
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
        encoders = (self.text_encoder, self.text_encoder_2, self.text_encoder_3)
        return {
            name: token_table(encoder).weight
            for name, encoder in zip(VECTORS, encoders, strict=True)
            if encoder is not None
        }

    def pieces(self, encoder: str, words: str) -> list[int]:
        """The tokens of some words, as the text encoder of that name (of VECTORS) gets them."""
        if isinstance(self.tokenizer, Sections):
            section = self.tokenizer.of(encoder)
            return [id for word in words.split() for id in section.ids(word)]
        return list(self.tokenizer(words, add_special_tokens=False).input_ids)


def pixels_a_cell(vae: Any) -> int:
    """Pixels per latent cell, along one side; Flux.2's latents are patches of two by two of its autoencoder's."""
    patched = int(getattr(vae, "bn", None) is not None)
    return int(2 ** (len(vae.config["block_out_channels"]) - 1 + patched))


def token_table(encoder: Any) -> Any:
    """The module that looks up a text encoder's tokens.  (T5's ``get_input_embeddings`` gives one that is not called;
    the weights are the same.)
    """
    inner = getattr(getattr(encoder, "encoder", None), "embed_tokens", None)
    return encoder.get_input_embeddings() if inner is None else inner
