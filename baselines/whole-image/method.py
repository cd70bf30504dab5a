"""whole-image: says that everything is the subject; the floor of the metrics, and the ceiling of recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prisbench import Concept, MethodOptions, Prediction, Query, Subject, take_settings


class WholeImage:
    name = "whole-image"
    settings: Mapping[str, Any] = {}

    def learn(self, subject: Subject) -> Concept:
        return Concept(id="none", subject_id=subject.id, noun=subject.noun, learner="none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        return [Prediction(query.id, np.ones(image.shape[:2], bool)) for query in queries]


def make(options: MethodOptions) -> WholeImage:
    take_settings({}, options.settings)
    return WholeImage()
