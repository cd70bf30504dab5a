"""The network-free predictors as methods: ``learn`` counts what the photos show, ``locate`` chooses a region.

Knows: predictors, their weights.  Does not know: truth, datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from prisbench.errors import UnknownNameError
from prisbench.images.arrays import as_image
from prisbench.images.masks import mask_sha256
from prisbench.images.photos import pixels_sha256
from prisbench.network_free.colours import BALANCES, mask_resized, shrunk
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.model import SubjectModel, learn
from prisbench.network_free.predictors import PREDICTORS, Choice, check_installed, choose
from prisbench.network_free.regions import snapped
from prisbench.network_free.weights import FILE, weights_for
from prisbench.results import REFERENCES
from prisbench.runtime.files import sha256_json
from prisbench.settings import MethodOptions, take_settings
from prisbench.types import Candidate, Concept, Prediction, Query, Subject

DEFAULTS = {"balance": "none", "threshold": -1.0}
"""``balance``: one of ``colours.BALANCES``.  ``threshold``: the presence below which the subject is said to be absent;
-1 is the one that was fitted on validation."""


class NetworkFree:
    """A predictor of ``predictors.PREDICTORS`` as a method.

    The weights for photos with masks are used for a subject that was learned with all of its masks.
    """

    weights = str(FILE)
    tunable: Mapping[str, Any] = {"threshold": (0.0, 0.9), "balance": list(BALANCES)}
    """What ``prisbench tune`` may change; the weights were fitted without a balance."""
    concepts_are_whole = True

    def __init__(self, predictor: str, balance: str, threshold: float) -> None:
        if predictor not in PREDICTORS:
            raise UnknownNameError("network-free predictor", predictor, PREDICTORS)
        if balance not in BALANCES:
            raise UnknownNameError("balance", balance, BALANCES)
        self.predictor = PREDICTORS[predictor]
        check_installed(self.predictor)
        self.name = f"network-free-{predictor}"
        self.settings: Mapping[str, Any] = {"balance": balance, "threshold": threshold}
        self.counted: dict[Any, SubjectModel] = {}
        """What photos showed, by what decides it; methods of one command share it."""

    @classmethod
    def make(cls, predictor: str, options: MethodOptions) -> NetworkFree:
        """What ``--set balance=... threshold=...`` say.  Raises UsageError, MissingExtraError."""
        method = cls(predictor, **take_settings(DEFAULTS, options.settings))
        method.counted = options.shared.setdefault("network-free", method.counted)
        return method

    def learn(self, subject: Subject) -> Concept:
        recipe = {"balance": self.settings["balance"], "reference": reference_of(subject), "version": 1}
        tensors = self._counted(subject).tensors()
        sums = {
            name: [float(each.sum()), float((each * np.arange(1, each.size + 1).reshape(each.shape)).sum())]
            for name, each in tensors.items()
        }
        key = sha256_json([subject.id, subject.noun, recipe, sums])[:16]
        return Concept(key, subject.id, subject.noun, "counted", tensors=tensors, recipe=recipe)

    def _counted(self, subject: Subject) -> SubjectModel:
        balance, keypoints = self.settings["balance"], self.predictor.wants_keypoints
        masks = tuple(None if mask is None else mask_sha256(mask) for mask in subject.masks)
        key = balance, keypoints, tuple(map(pixels_sha256, subject.photos)), masks
        if key not in self.counted:
            self.counted[key] = learn(subject, balance, keypoints)
        return self.counted[key]

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """Each query's mask has the image's size; None where the presence is below the threshold."""
        whole = as_image(image)
        scene = Scene(shrunk(whole), self.settings["balance"])
        evidence: dict[str, Evidence] = {}
        for query in queries:
            if query.subject_id not in evidence:
                evidence[query.subject_id] = Evidence(scene, SubjectModel.of(concepts[query.subject_id]))
        size_hw = whole.shape[0], whole.shape[1]
        return [
            self._answer(query, evidence[query.subject_id], concepts[query.subject_id], size_hw) for query in queries
        ]

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """The regions that were compared, the likeliest first; the text takes no part."""
        concept = self.learn(subject)
        scene = Scene(shrunk(as_image(image)), self.settings["balance"])
        weights = weights_for(concept.recipe["reference"], "found", self.predictor.name)
        found = choose(Evidence(scene, SubjectModel.of(concept)), self.predictor, weights, "")
        size_hw = image.shape[0], image.shape[1]
        return candidates_of(found, size_hw)

    def _answer(self, query: Query, evidence: Evidence, concept: Concept, size_hw: tuple[int, int]) -> Prediction:
        weights = weights_for(concept.recipe["reference"], "found", self.predictor.name)
        found = choose(evidence, self.predictor, weights, query.text)
        threshold = self.settings["threshold"]
        threshold = weights.threshold if threshold < 0 else threshold
        map_ = getattr(evidence, self.predictor.map_)
        return answer_of(query.id, evidence.scene, map_, found, threshold, size_hw)


def reference_of(subject: Subject) -> str:
    """The reference setting that a subject's masks tell: with all of them, or photos alone."""
    known = len(subject.masks) == len(subject.photos) and all(mask is not None for mask in subject.masks)
    return REFERENCES[int(known)]


def answer_of(
    query_id: str,
    scene: Scene,
    map_: Float[np.ndarray, "h w"],
    found: Choice,
    threshold: float,
    size_hw: tuple[int, int],
) -> Prediction:
    """The chosen region in a photo of ``size_hw``, with the photo's edges unless it is an outline already; its peak is
    the map's in the region.

    No mask where the presence is below the threshold.
    """
    if found.place is None or found.presence < threshold:
        return Prediction(query_id, None, presence=found.presence)
    region = found.regions[found.place]
    mask = mask_resized(region if found.outlined else snapped(scene.image, map_, region), size_hw)
    y, x = np.unravel_index(int(np.where(region, map_, -1).argmax()), map_.shape)
    (h, w), (a, b) = size_hw, map_.shape
    peak = min(int((y + 0.5) * h / a), h - 1), min(int((x + 0.5) * w / b), w - 1)
    return Prediction(query_id, mask, peak, presence=found.presence)


def candidates_of(found: Choice, size_hw: tuple[int, int]) -> list[Candidate]:
    """The regions that were compared, in a photo of ``size_hw``, the likeliest first."""
    listed = [
        Candidate(mask_resized(region, size_hw), float(score))
        for region, score in zip(found.regions, found.scores, strict=True)
    ]
    return sorted(listed, key=lambda each: -each.score)
