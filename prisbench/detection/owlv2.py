"""OWLv2 (Minderer et al. 2023, arXiv 2306.09683) shown the subject's photos: boxes of what looks like it.

One-shot detection as OWL-ViT has it (arXiv 2205.06230, section 3.4 on image-conditioned detection): a photo's
predictions each have an embedding of their class; one of them is the query, instead of a text's.  Which one, is said by
the subject's mask in the photo, or without a mask by the model's own objectness, as transformers'
``image_guided_detection`` has it.  The embeddings of several photos are averaged.

A photo is padded to a square at the bottom and the right, then resized, by the processor that lies beside the weights.

Knows: ``Owlv2ForObjectDetection`` of transformers.  Does not know: masks of scenes, texts, truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from prisbench.detection.boxes import Boxes, from_centres, overlap
from prisbench.detection.method import BoxMethod
from prisbench.pretrained import load_network, load_part
from prisbench.sam.model import Sam
from prisbench.sam.persam import box_of
from prisbench.settings import MethodOptions, place_of, share_of, take_settings
from prisbench.types import Concept, Subject

NAME, MODEL, SAM = "owlv2-image-guided", "google/owlv2-base-patch16-ensemble", "facebook/sam-vit-huge"

NEAR = 0.8
"""Predictions whose overlap with the subject's box is at least this share of the best one's may be the query; the one
that is most an object is taken."""

VERSION = 1


class Seen(NamedTuple):
    """A photo's predictions: features, boxes in the photo's pixels."""

    features: Float[Tensor, "1 n c"]
    boxes: Float[np.ndarray, "n 4"]


class Owlv2:
    """The detector."""

    def __init__(self, model: str, device: str) -> None:
        from transformers import Owlv2ForObjectDetection, Owlv2ImageProcessorPil

        self.model, self.device = model, device
        self.settings: Mapping[str, Any] = {"model": model}
        self.network = load_network(Owlv2ForObjectDetection, model, MODEL, device)
        self.images = load_part(Owlv2ImageProcessorPil, model)

    @classmethod
    def make(cls, options: MethodOptions) -> BoxMethod:
        """``--model`` names the detector; ``--set sam=... threshold=...``.  Raises UsageError, BackboneError."""
        taken = take_settings({"sam": SAM, "threshold": 0.0}, options.settings)
        least, sam = share_of(taken, "threshold"), place_of(taken, "sam")
        return BoxMethod(NAME, cls(options.model or MODEL, options.device), Sam(sam, options.device), least)

    @torch.no_grad()
    def learn(self, subject: Subject) -> Concept:
        """The mean of one embedding a photo."""
        masks = [*subject.masks, *[None] * (len(subject.photos) - len(subject.masks))]
        found, digest = [], hashlib.sha256(repr((VERSION, self.model)).encode())
        for photo, mask in zip(subject.photos, masks, strict=True):
            box = None if mask is None else box_of(mask)
            digest.update(repr((photo.shape, box)).encode() + photo.tobytes())
            found.append(self._embedded(self.look(photo), box))
        query = torch.stack(found).mean(0).cpu().numpy()
        recipe = {"version": VERSION, "masks": sum(mask is not None for mask in masks)}
        return Concept(digest.hexdigest()[:16], subject.id, subject.noun, NAME, tensors={"query": query}, recipe=recipe)

    @torch.no_grad()
    def look(self, image: UInt8[np.ndarray, "h w 3"]) -> Seen:
        pixels = self.images(images=[image], return_tensors="pt")["pixel_values"].float().to(self.device)
        features, _ = self.network.image_embedder(pixel_values=pixels)
        flat = features.flatten(1, 2)
        boxes = self.network.box_predictor(flat, features)[0].double().cpu().numpy()
        h, w = image.shape[:2]
        return Seen(flat, from_centres(boxes, (max(h, w), max(h, w)), (h, w)))

    @torch.no_grad()
    def find(self, seen: Seen, text: str, concept: Concept) -> Boxes:
        """The text is not read."""
        query = torch.from_numpy(np.asarray(concept.tensors["query"])).to(seen.features)
        logits, _ = self.network.class_predictor(seen.features, query[None, None])
        return Boxes(seen.boxes, logits[0, :, 0].sigmoid().double().cpu().numpy())

    def _embedded(self, seen: Seen, box: tuple[int, int, int, int] | None) -> Float[Tensor, " d"]:
        """The embedding, of length 1, of the prediction that is the subject."""
        _, embeddings = self.network.class_predictor(seen.features)
        sure = self.network.objectness_predictor(seen.features)[0].double().cpu().numpy()
        if box is not None:
            left, top, right, bottom = box
            shared = overlap(seen.boxes, np.array([[left, top, right + 1, bottom + 1]], float))
            sure = np.where(shared >= NEAR * shared.max(), sure, -np.inf)
        return F.normalize(embeddings[0, int(sure.argmax())], dim=0)
