"""SAM 3 (Carion et al. 2025, arXiv 2511.16719): every thing that a noun names, or that looks like a boxed one.

A photo is squashed to the model's square of 1008 pixels and scaled to -1..1 (``Sam3ImageProcessor`` of transformers,
which wants torchvision; these are its steps).  A mask's score is its own times that of the presence token, as there.

Knows: ``Sam3Model`` of transformers.  Does not know: subjects, methods.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from prisbench.errors import DataError
from prisbench.images.seen import Seen
from prisbench.pretrained import load_network, load_part
from prisbench.segmenters.answers import MOST, Found

MODEL = "facebook/sam3"

THRESHOLD = 0.3
"""Masks above this score are kept (``post_process_instance_segmentation`` of transformers)."""

WORDS = 32
"""Tokens of a text; shorter ones are padded (``Sam3Processor``)."""


class Text(NamedTuple):
    """A text as the model reads it."""

    embeddings: Any
    mask: Tensor


class Sam3:
    """The network on its device.  ``side``: of its square."""

    def __init__(self, model: str, device: str) -> None:
        from transformers import CLIPTokenizer, Sam3Model

        self.model, self.device = model, device
        self.network = load_network(Sam3Model, model, MODEL, device)
        self.tokenizer = load_part(CLIPTokenizer, model)
        size = self.network.config.vision_config.backbone_config.image_size
        self.side = int(size if isinstance(size, int) else size[0])
        self._seen = Seen(lambda images: [self._encode(image) for image in images])

    def encode(self, image: UInt8[np.ndarray, "h w 3"]) -> Any:
        """The image's features, for any number of prompts."""
        return self._seen(image)

    @torch.no_grad()
    def _encode(self, image: UInt8[np.ndarray, "h w 3"]) -> Any:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        squashed = interpolate(pixels, (self.side, self.side), mode="bilinear", align_corners=False, antialias=True)
        return self.network.get_vision_features(pixel_values=((squashed - 0.5) / 0.5).to(self.device))

    @torch.no_grad()
    def read(self, text: str) -> Text:
        """Raises DataError for a text longer than the model reads."""
        words = self.tokenizer([text], padding="max_length", max_length=WORDS, return_tensors="pt").to(self.device)
        if (length := words["input_ids"].shape[1]) > WORDS:
            raise DataError(f"the text {text!r} has {length} tokens, and {self.model} reads {WORDS}; shorten it")
        return Text(self.network.get_text_features(**words), words["attention_mask"])

    @torch.no_grad()
    def find(
        self, features: Any, text: Text, size_hw: tuple[int, int], box: tuple[float, float, float, float] | None = None
    ) -> Found:
        """The likeliest masks of an image of ``size_hw``; ``box``: an example in it, its corners in pixels.

        ``presence`` is the surest mask's score.
        """
        given: dict[str, Any] = {}
        if box is not None:
            h, w = size_hw
            x0, y0, x1, y1 = box[0] / w, box[1] / h, box[2] / w, box[3] / h
            centre = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
            given["input_boxes"] = torch.tensor([[centre]], dtype=torch.float32, device=self.device)
            given["input_boxes_labels"] = torch.ones((1, 1), dtype=torch.long, device=self.device)
        out = self.network(vision_embeds=features, text_embeds=text.embeddings, attention_mask=text.mask, **given)
        scores = out.pred_logits[0].sigmoid()
        if out.presence_logits is not None:
            scores = scores * out.presence_logits[0].sigmoid()
        order = scores.argsort(descending=True, stable=True)[:MOST]
        soft = interpolate(out.pred_masks[:, order].sigmoid(), size_hw, mode="bilinear", align_corners=False)[0]
        found = scores[order].double().cpu().numpy()
        return Found(soft.float().cpu().numpy(), found, float(found.max(initial=0.0)))
