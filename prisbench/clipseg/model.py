"""CLIPSeg's network: photos squashed into its square, prompts to vectors, vectors to maps.

The class encodes a photo again for every prompt; here its parts are called one by one, with the same numbers, so that
a photo is encoded once.

Knows: the classes of transformers.  Does not know: subjects, methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from prisbench.errors import BackboneError
from prisbench.images.seen import Seen
from prisbench.pretrained import load_network, load_part, located

MEAN = DEVIATION = (0.5, 0.5, 0.5)
"""Of the embedded model's pixels; others say theirs in their processor's file."""

FOLDER = Path(__file__).parents[1] / "embedded" / "rivals" / "weights" / "clipseg"
"""Where the small model lies that comes with prisbench, trained on Tabletop."""


class ClipSeg:
    """A model on its device: "embedded", a folder or a hub id.

    ``folder``: where its weights lie; ``name``: for the record of a run.
    """

    def __init__(self, where: str, device: str) -> None:
        from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

        self.folder, self.name = located(where, FOLDER, "clipseg", "CLIPSeg", "--model CIDAS/clipseg-rd64-refined")
        example = "CIDAS/clipseg-rd64-refined"
        self.network: Any = load_network(CLIPSegForImageSegmentation, self.folder, example, device)
        self.processor: Any = load_part(CLIPSegProcessor, self.folder)
        self.device = device
        self._seen = Seen(self._encode)

    def encode(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Float[Tensor, "1 t c"]]:
        """What the decoder reads of a photo."""
        return self._seen(photo)

    def look_ahead(self, photos: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        """Encode these photos in one pass, whatever their sizes."""
        self._seen.ahead(photos)

    def _encode(self, photos: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> list[list[Float[Tensor, "1 t c"]]]:
        layers = activations(self.network, torch.cat([self._pixels(photo) for photo in photos]))[0]
        return [[layer[n : n + 1] for layer in layers] for n in range(len(photos))]

    @torch.no_grad()
    def of_text(self, text: str) -> Float[Tensor, "1 p"]:
        """The vector of a text.  Raises BackboneError for one that is longer than the model reads."""
        encoded = self.processor.tokenizer([text], return_tensors="pt").to(self.device)
        length, most = encoded["input_ids"].shape[1], self.network.config.text_config.max_position_embeddings
        if length > most:
            raise BackboneError(f"{self.name} reads texts of {most} tokens, and {text!r} has {length}; shorten it")
        found: Tensor = self.network.clip.get_text_features(**encoded).pooler_output
        return found

    def of_photo(self, photo: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 p"]:
        """The vector of a visual prompt (``prompts.visual_prompt``)."""
        return activations(self.network, self._pixels(photo))[1]

    @torch.no_grad()
    def score(
        self, layers: Sequence[Float[Tensor, "1 t c"]], vector: Float[Tensor, "1 p"], size_hw: tuple[int, int]
    ) -> Float32[np.ndarray, "h w"]:
        """What a vector means of an encoded photo, 0..1, in the photo's pixels."""
        chance = self.network.decoder(list(layers), vector.to(self.device)).logits.sigmoid()
        side = chance.shape[-2:]  # a single prompt may come without its batch axis
        wide = interpolate(chance.reshape(1, 1, *side), size=size_hw, mode="bilinear", align_corners=False)
        return np.asarray(wide[0, 0].cpu().numpy(), np.float32)

    def _pixels(self, photo: UInt8[np.ndarray, "h w 3"]) -> Float[Tensor, "1 3 s s"]:
        found: Tensor = self.processor.image_processor(images=[photo], return_tensors="pt")["pixel_values"]
        return found.to(self.device)


def activations(network: Any, pixels: Float[Tensor, "n 3 s s"]) -> tuple[list[Float[Tensor, "n t c"]], Tensor]:
    """The layers that the decoder reads, and each photo's own vector; with gradients where they are asked for."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and network.training):
        seen = network.clip.get_image_features(pixels, output_hidden_states=True)
    return [seen.hidden_states[n + 1] for n in network.extract_layers], seen.pooler_output


def as_pixels(photos: Sequence[UInt8[np.ndarray, "_ _ 3"]], side: int) -> Float[Tensor, "n 3 s s"]:
    """Photos as the embedded model's processor gives them: squashed to a square, bilinear, -1..1."""
    small = [np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.BILINEAR)) for photo in photos]
    return (torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / DEVIATION[0]
