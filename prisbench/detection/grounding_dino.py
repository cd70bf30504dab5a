"""Grounding DINO (Liu et al. 2023, arXiv 2303.05499): boxes of what a text names.

A photo is shrunk with its sides' ratio kept and not padded, by the processor that lies beside the weights.  A box's
score is its highest token's.  The vision backbone sees a scene once; texts meet it one by one, since they enter the
model's encoder, so an answer does not depend on the other queries.

Knows: ``GroundingDinoForObjectDetection`` of transformers.  Does not know: masks, photos of subjects, truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from prisbench.detection.boxes import Boxes, from_centres
from prisbench.detection.method import BoxMethod
from prisbench.errors import DataError, UnknownNameError
from prisbench.pretrained import load_network, load_part
from prisbench.sam.model import Sam
from prisbench.settings import MethodOptions, place_of, share_of, take_settings
from prisbench.types import SLOT, Concept, Subject

NAME, MODEL, SAM = "grounding-dino", "IDEA-Research/grounding-dino-base", "facebook/sam-vit-huge"

THRESHOLD = 0.35
"""Box threshold of the release's demonstration with Segment Anything (README of IDEA-Research/GroundingDINO)."""

READS = ("text", "noun")
"""What it is asked: the query's text with the class word in the slot, or the class word alone."""


class Seen(NamedTuple):
    """A scene as the model reads it."""

    pixels: Tensor
    mask: Tensor
    photo_hw: tuple[int, int]


class Once(nn.Module):
    """An image encoder that keeps what it made of the last photo, as long as it is given the same tensor again."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self._last: tuple[Tensor, Any] | None = None

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Any:
        if self._last is None or self._last[0] is not pixel_values:
            self._last = pixel_values, self.inner(pixel_values, pixel_mask)
        return self._last[1]


class GroundingDino:
    """The detector.  ``reads``: one of ``READS``."""

    def __init__(self, model: str, device: str, reads: str) -> None:
        from transformers import BertTokenizer, GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil

        if reads not in READS:
            raise UnknownNameError("reads", reads, READS)
        self.model, self.device = model, device
        self.settings: Mapping[str, Any] = {"model": model, "reads": reads}
        self.network = load_network(GroundingDinoForObjectDetection, model, MODEL, device)
        vision = self.network.model.backbone
        vision.conv_encoder = Once(vision.conv_encoder)
        self.tokenizer = load_part(BertTokenizer, model)
        self.images = load_part(GroundingDinoImageProcessorPil, model)

    @classmethod
    def make(cls, options: MethodOptions) -> BoxMethod:
        """``--model`` names the detector; ``--set sam=... threshold=... reads=text|noun``.

        Raises UsageError, UnknownNameError, BackboneError.
        """
        taken = take_settings({"sam": SAM, "threshold": THRESHOLD, "reads": READS[0]}, options.settings)
        least, sam = share_of(taken, "threshold"), place_of(taken, "sam")
        detector = cls(options.model or MODEL, options.device, str(taken["reads"]))
        return BoxMethod(NAME, detector, Sam(sam, options.device), least)

    def learn(self, subject: Subject) -> Concept:
        return Concept("noun-only", subject.id, subject.noun, "noun-only")

    def look(self, image: UInt8[np.ndarray, "h w 3"]) -> Seen:
        read = self.images(images=[image], return_tensors="pt").to(self.device)
        return Seen(read["pixel_values"], read["pixel_mask"], (image.shape[0], image.shape[1]))

    @torch.no_grad()
    def find(self, seen: Seen, text: str, concept: Concept) -> Boxes:
        """Raises DataError for a text longer than the model reads."""
        said = caption(text if self.settings["reads"] == "text" else SLOT, concept.noun)
        words = self.tokenizer([said], return_tensors="pt", return_token_type_ids=True).to(self.device)
        length, limit = words["input_ids"].shape[1], self.network.config.max_text_len
        if length > limit:
            raise DataError(f"the text {said!r} has {length} tokens, and {self.model} reads {limit}; shorten it")
        found = self.network(pixel_values=seen.pixels, pixel_mask=seen.mask, **words)
        scores = found.logits[0].sigmoid().amax(-1).double().cpu().numpy()
        return Boxes(from_centres(found.pred_boxes[0].double().cpu().numpy(), seen.photo_hw, seen.photo_hw), scores)


def caption(text: str, noun: str) -> str:
    """As the model was trained to be asked: in small letters, with one full stop at the end."""
    return text.replace(SLOT, noun).lower().strip().rstrip(".?!").rstrip() + "."
