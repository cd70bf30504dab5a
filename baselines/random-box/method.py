"""random-box: a box whose place and size follow from a hash of the query; what chance scores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from prisbench import Concept, MethodOptions, Prediction, Query, Subject, take_settings


class RandomBox:
    name = "random-box"

    def __init__(self, smallest: float, largest: float, seed: int) -> None:
        self.settings = {"smallest": smallest, "largest": largest, "seed": seed}

    def learn(self, subject: Subject) -> Concept:
        return Concept(id="none", subject_id=subject.id, noun=subject.noun, learner="none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        return [self._answer(image.shape[0], image.shape[1], query) for query in queries]

    def _answer(self, h: int, w: int, query: Query) -> Prediction:
        digest = hashlib.sha256(f"{self.settings['seed']}:{query.id}".encode()).digest()
        a, b, c, d = (int.from_bytes(digest[i : i + 4], "big") / 2**32 for i in (0, 4, 8, 12))
        low, high = self.settings["smallest"], self.settings["largest"]
        tall, wide = max(1, round(h * (low + (high - low) * a))), max(1, round(w * (low + (high - low) * b)))
        top, left = round((h - tall) * c), round((w - wide) * d)
        mask = np.zeros((h, w), bool)
        mask[top : top + tall, left : left + wide] = True
        return Prediction(query.id, mask, peak_yx=(top + tall // 2, left + wide // 2))


def make(options: MethodOptions) -> RandomBox:
    values = take_settings({"smallest": 0.15, "largest": 0.6}, options.settings)
    return RandomBox(values["smallest"], values["largest"], options.seed)
