"""SegGPT (Wang et al. 2023, arXiv 2304.03284): photos with masks as examples, the scene as the next one.

All masked photos are shown at once, and their features are averaged in the encoder, as the release does for several
examples ("feature ensemble").  The photo's and the scene's sides are squashed to the model's square, by the processor
that lies beside the weights; a mask is white on black.  The drawn answer's brightness, 0..1, is the soft map.

Knows: ``SegGptForImageSegmentation`` of transformers.  Does not know: texts, truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from prisbench.images.arrays import as_image
from prisbench.pretrained import load_network, load_part, masked_photos
from prisbench.segmenters.answers import CUT, MOST, Found, answer_of, candidates_of
from prisbench.settings import MethodOptions, share_of, take_settings
from prisbench.types import Candidate, Concept, Prediction, Query, Subject

NAME, MODEL = "seggpt", "BAAI/seggpt-vit-large"

VERSION = 1


class SegGpt:
    """The method.  ``model``: a hub id or folder.

    ``threshold``: the presence, 0..1, below which the answer is "not here"; 0, as released, says so of nothing bright.
    """

    name = NAME
    tunable: Mapping[str, Any] = {"threshold": (0.5, 1.0)}

    def __init__(self, model: str, device: str, threshold: float = 0.0) -> None:
        from transformers import SegGptForImageSegmentation, SegGptImageProcessorPil

        self.model, self.device = model, device
        self.settings: Mapping[str, Any] = {"model": model, "threshold": threshold}
        self.network = load_network(SegGptForImageSegmentation, model, MODEL, device)
        self.images = load_part(SegGptImageProcessorPil, model)

    @classmethod
    def make(cls, options: MethodOptions) -> SegGpt:
        """``--model`` names the weights; ``--set threshold=...``.  Raises UsageError, BackboneError."""
        taken = take_settings({"threshold": 0.0}, options.settings)
        return cls(options.model or MODEL, options.device, share_of(taken, "threshold"))

    def learn(self, subject: Subject) -> Concept:
        """The masked photos, as the model reads them.  Raises UsageError where none has a mask."""
        photos, masks, digest = [], [], hashlib.sha256(repr((VERSION, self.model)).encode())
        for photo, mask in masked_photos(subject, self.name):
            digest.update(repr(photo.shape).encode() + photo.tobytes() + np.packbits(mask).tobytes())
            white = mask.astype(np.uint8) * 255
            read = self.images(images=None, prompt_images=[photo], prompt_masks=[white], return_tensors="np")
            photos.append(read["prompt_pixel_values"][0])
            masks.append(read["prompt_masks"][0])
        tensors = {"photos": np.stack(photos).astype(np.float32), "masks": np.stack(masks).astype(np.float32)}
        key = digest.hexdigest()[:16]
        return Concept(key, subject.id, subject.noun, self.name, tensors=tensors, recipe={"version": VERSION})

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """One pass a subject, whatever is asked: the text is not read."""
        scene, whole = self._read(image), as_image(image)
        size_hw, found = (whole.shape[0], whole.shape[1]), dict[str, Found]()
        for query in queries:
            if query.subject_id not in found:
                found[query.subject_id] = parts_of(self._drawn(scene, concepts[query.subject_id], size_hw))
        return [self._whole(query.id, found[query.subject_id]) for query in queries]

    def _whole(self, query_id: str, found: Found) -> Prediction:
        """All parts together, as the model drew them."""
        if not len(found.scores) or found.presence < self.settings["threshold"]:
            return Prediction(query_id, None, presence=found.presence)
        together = Found(found.soft.max(axis=0)[None], found.scores[:1], found.presence)
        return answer_of(query_id, together)

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """The connected parts of the mask, the brightest first."""
        drawn = self._drawn(self._read(image), self.learn(subject), (image.shape[0], image.shape[1]))
        return candidates_of(parts_of(drawn))

    def _read(self, image: UInt8[np.ndarray, "h w 3"]) -> Tensor:
        return torch.from_numpy(np.array(self.images(images=[as_image(image)], return_tensors="np")["pixel_values"]))

    @torch.no_grad()
    def _drawn(self, scene: Tensor, concept: Concept, size_hw: tuple[int, int]) -> Float32[np.ndarray, "h w"]:
        """The brightness of the model's drawing, 0..1, in the scene's pixels."""
        photos, masks = (torch.from_numpy(np.asarray(concept.tensors[name])) for name in ("photos", "masks"))
        found = self.network(
            pixel_values=scene.float().expand(len(photos), -1, -1, -1).to(self.device),
            prompt_pixel_values=photos.to(self.device),
            prompt_masks=masks.to(self.device),
            feature_ensemble=len(photos) > 1,
        ).pred_masks[:1]
        below = found[:, :, found.shape[2] // 2 :].float().cpu()  # the upper half repeats the example
        deviation, mean = (
            torch.tensor(each)[:, None, None] for each in (self.images.image_std, self.images.image_mean)
        )
        drawn = (below * deviation + mean).clamp(0, 1).mean(dim=1, keepdim=True)
        return interpolate(drawn, size_hw, mode="bilinear", align_corners=False)[0, 0].numpy()


def parts_of(drawn: Float32[np.ndarray, "h w"]) -> Found:
    """The connected parts (8 neighbours) of what is bright, the highest score first: their share of all brightness.

    ``presence`` is the mean brightness of what is bright, 0 where nothing is.
    """
    labels, count = ndimage.label(drawn > CUT, structure=np.ones((3, 3)))
    inside = [labels == n for n in range(1, count + 1)]
    inside = sorted(inside, key=lambda part: -float(drawn[part].sum()))[:MOST]
    bright = float(drawn[labels > 0].sum())
    soft = np.array([np.where(part, drawn, 0) for part in inside], np.float32).reshape(len(inside), *drawn.shape)
    scores = np.array([float(drawn[part].sum()) / bright for part in inside])
    return Found(soft, scores, bright / int((labels > 0).sum()) if count else 0.0)
