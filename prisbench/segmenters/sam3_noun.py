"""SAM 3 asked for the subject's class word, or for the query's text: it knows kinds, not individuals.

Knows: SAM 3, nouns, texts.  Does not know: the subject's photos, truth, datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from prisbench.errors import UnknownNameError
from prisbench.images.arrays import as_image
from prisbench.segmenters.answers import Found, answer_of, candidates_of
from prisbench.segmenters.sam3 import MODEL, THRESHOLD, Sam3, Text
from prisbench.settings import MethodOptions, share_of, take_settings
from prisbench.types import SLOT, Candidate, Concept, Prediction, Query, Subject

READS = ("noun", "text")
"""What it is asked: the class word alone, as it was trained on short noun phrases; or the text with it in the slot."""


class Sam3Noun:
    """The method.  ``reads``: one of ``READS``."""

    name = "sam3-noun"
    tunable: Mapping[str, Any] = {"threshold": (0.0, 0.9)}

    def __init__(self, sam3: Sam3, threshold: float, reads: str) -> None:
        if reads not in READS:
            raise UnknownNameError("reads", reads, READS)
        self.sam3, self.model, self.device = sam3, sam3.model, sam3.device
        self.settings: Mapping[str, Any] = {"model": sam3.model, "threshold": threshold, "reads": reads}
        self._texts: dict[str, Text] = {}

    @classmethod
    def make(cls, options: MethodOptions) -> Sam3Noun:
        """``--model``, ``--set threshold=... reads=noun|text``.  Raises UsageError, BackboneError."""
        taken = take_settings({"threshold": THRESHOLD, "reads": READS[0]}, options.settings)
        return cls(Sam3(options.model or MODEL, options.device), share_of(taken, "threshold"), str(taken["reads"]))

    def learn(self, subject: Subject) -> Concept:
        return Concept("noun-only", subject.id, subject.noun, "noun-only")

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """The scene is encoded once; each text is looked for once."""
        whole = as_image(image)
        features, found = self.sam3.encode(whole), dict[str, Found]()
        answers = []
        for query in queries:
            text = self._asked(query.text, concepts[query.subject_id].noun)
            if text not in found:
                found[text] = self._find(features, text, (whole.shape[0], whole.shape[1]))
            answers.append(answer_of(query.id, found[text]))
        return answers

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """Every thing of the kind."""
        whole = as_image(image)
        asked = self._asked(SLOT, subject.noun)
        return candidates_of(self._find(self.sam3.encode(whole), asked, (whole.shape[0], whole.shape[1])))

    def _asked(self, text: str, noun: str) -> str:
        return noun if self.settings["reads"] == "noun" else text.replace(SLOT, noun)

    def _find(self, features: Any, text: str, size_hw: tuple[int, int]) -> Found:
        if text not in self._texts:
            self._texts = {**dict(list(self._texts.items())[-99:]), text: self.sam3.read(text)}
        return self.sam3.find(features, self._texts[text], size_hw).above(self.settings["threshold"])
