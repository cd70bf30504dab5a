"""always-absent: says "not here" to every query; the floor of presence, and all that an empty mask scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prisbench import Concept, MethodOptions, Prediction, Query, Subject, take_settings


class AlwaysAbsent:
    name = "always-absent"
    settings: Mapping[str, Any] = {}

    def learn(self, subject: Subject) -> Concept:
        return Concept(id="none", subject_id=subject.id, noun=subject.noun, learner="none")

    def locate(self, image: np.ndarray, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        return [Prediction(query.id, None) for query in queries]


def make(options: MethodOptions) -> AlwaysAbsent:
    take_settings({}, options.settings)
    return AlwaysAbsent()
