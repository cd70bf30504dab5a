"""clipseg: CLIPSeg (Lüddecke and Ecker 2022, arXiv 2112.10003) asked with the class word in the slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from prisbench import Concept, MethodOptions, Prediction, Query, Subject, load_pretrained, take_settings

MODEL = "CIDAS/clipseg-rd64-refined"


class ClipSeg:
    name = "clipseg"
    tunable: Mapping[str, Any] = {"threshold": (0.05, 0.8, "log")}

    def __init__(self, model: str, device: str, threshold: float) -> None:
        from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

        self.network = load_pretrained(CLIPSegForImageSegmentation, model).to(device).eval()
        self.processor: Any = load_pretrained(CLIPSegProcessor, model)
        self.model, self.device = model, device
        self.settings = {"threshold": threshold, "model": model}

    def learn(self, subject: Subject) -> Concept:
        return Concept(id="noun-only", subject_id=subject.id, noun=subject.noun, learner="noun-only")

    @torch.no_grad()
    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        texts = [query.text.replace("{subject}", concepts[query.subject_id].noun) for query in queries]
        inputs = self.processor(text=texts, images=[image] * len(texts), padding=True, return_tensors="pt")
        logits = self.network(**inputs.to(self.device)).logits
        logits = logits.reshape(len(texts), 1, *logits.shape[-2:])  # a single query comes without its batch axis
        maps = interpolate(logits.sigmoid(), size=image.shape[:2], mode="bilinear", align_corners=False)[:, 0]
        return [self._answer(query, each) for query, each in zip(queries, maps.cpu().numpy(), strict=True)]

    def _answer(self, query: Query, score: np.ndarray) -> Prediction:
        y, x = np.unravel_index(int(score.argmax()), score.shape)
        mask = score > self.settings["threshold"]
        return Prediction(query.id, mask, (int(y), int(x)), presence=float(score.max()), score=score)


def make(options: MethodOptions) -> ClipSeg:
    values = take_settings({"threshold": 0.4}, options.settings)
    return ClipSeg(options.model or MODEL, options.device, values["threshold"])
