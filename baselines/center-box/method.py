"""center-box: the middle of every scene, a fixed share of its height and width; what knowing nothing scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prisbench import Concept, MethodOptions, Prediction, Query, Subject, take_settings


class CenterBox:
    name = "center-box"

    def __init__(self, share: float) -> None:
        self.settings = {"share": share}

    def learn(self, subject: Subject) -> Concept:
        return Concept(id="none", subject_id=subject.id, noun=subject.noun, learner="none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        h, w = image.shape[:2]
        tall, wide = round(h * self.settings["share"]), round(w * self.settings["share"])
        mask = np.zeros((h, w), bool)
        mask[(h - tall) // 2 : (h + tall) // 2, (w - wide) // 2 : (w + wide) // 2] = True
        return [Prediction(query.id, mask, peak_yx=(h // 2, w // 2)) for query in queries]


def make(options: MethodOptions) -> CenterBox:
    return CenterBox(**take_settings({"share": 0.4}, options.settings))
