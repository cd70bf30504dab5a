"""Masks with scores to what a method answers.

Knows: soft masks, scores.  Does not know: models, texts, truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from prisbench.types import Candidate, Prediction

CUT = 0.5
"""A pixel belongs to a mask from this probability on, as SAM 3's and SegGPT's releases have it."""

MOST = 32
"""So many masks at most are kept of a scene."""


@dataclass(frozen=True, eq=False)
class Found:
    """Soft masks in the scene's own pixels, 0..1, and how sure the model is of each, the surest first.

    ``presence``: how sure it is that what was asked for is there at all.
    """

    soft: Float32[np.ndarray, "n h w"]
    scores: Float[np.ndarray, " n"]
    presence: float

    def above(self, threshold: float) -> Found:
        """The masks whose score is above a threshold; what is said of presence stays."""
        some = self.scores > threshold
        return Found(self.soft[some], self.scores[some], self.presence)


def answer_of(query_id: str, found: Found) -> Prediction:
    """The surest mask; "not here" where there is none, or nothing in it."""
    if not len(found.scores):
        return Prediction(query_id, None, presence=found.presence)
    soft = found.soft[0]
    mask = soft > CUT
    y, x = np.unravel_index(int(soft.argmax()), soft.shape)
    return Prediction(query_id, mask if mask.any() else None, (int(y), int(x)), found.presence, soft)


def candidates_of(found: Found) -> list[Candidate]:
    """All masks, the surest first."""
    masks = [soft > CUT for soft in found.soft]
    return [Candidate(mask, float(score)) for mask, score in zip(masks, found.scores, strict=True) if mask.any()]
