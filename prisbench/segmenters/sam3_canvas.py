"""SAM 3 shown one photo of the subject beside the scene, with the subject's box as the example of what to find.

Only positive examples are given: negative ones are reported to hurt (Tsai et al. 2026, arXiv 2604.05433).

Knows: SAM 3, canvases, photos with masks.  Does not know: texts, truth, datasets.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from prisbench.errors import BackboneError
from prisbench.images.arrays import as_image
from prisbench.pretrained import masked_photos
from prisbench.sam.persam import box_of
from prisbench.segmenters.answers import CUT, Found, answer_of, candidates_of
from prisbench.segmenters.canvas import canvas_of
from prisbench.segmenters.sam3 import MODEL, THRESHOLD, Sam3
from prisbench.settings import MethodOptions, share_of, take_settings
from prisbench.types import Candidate, Concept, Prediction, Query, Subject

VISUAL = "visual"
"""The text that goes with an example alone (``Sam3Processor``)."""

VERSION = 1


def has_torchvision() -> bool:
    """Whether transformers' ``Sam3GeometryEncoder`` can read boxes."""
    return importlib.util.find_spec("torchvision") is not None


class Sam3Canvas:
    """The method."""

    name = "sam3-canvas"
    tunable: Mapping[str, Any] = {"threshold": (0.0, 0.9)}

    def __init__(self, sam3: Sam3, threshold: float) -> None:
        self.sam3, self.model, self.device = sam3, sam3.model, sam3.device
        self.settings: Mapping[str, Any] = {"model": sam3.model, "threshold": threshold}
        self._text = sam3.read(VISUAL)

    @classmethod
    def make(cls, options: MethodOptions) -> Sam3Canvas:
        """``--model``, ``--set threshold=...``.  Raises UsageError, BackboneError."""
        taken = take_settings({"threshold": THRESHOLD}, options.settings)
        if not has_torchvision():
            raise BackboneError(
                f"{cls.name} needs torchvision for its example boxes (roi_align), which is not installed: "
                "pip install torchvision"
            )
        return cls(Sam3(options.model or MODEL, options.device), share_of(taken, "threshold"))

    def learn(self, subject: Subject) -> Concept:
        """The photo in which the subject is largest, and its box.  Raises UsageError where no photo has a mask."""
        pairs = masked_photos(subject, self.name)
        photo, mask = max(pairs, key=lambda pair: float(pair[1].mean()))
        left, top, right, bottom = box_of(mask) or (0, 0, 0, 0)
        box = np.array([left, top, right + 1, bottom + 1], np.float64)
        key = hashlib.sha256(repr((VERSION, self.model, photo.shape)).encode() + photo.tobytes() + box.tobytes())
        tensors: dict[str, np.ndarray] = {"photo": photo.astype(np.float32), "box": box}
        return Concept(
            key.hexdigest()[:16], subject.id, subject.noun, self.name, tensors=tensors, recipe={"version": VERSION}
        )

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """One canvas a subject, whatever is asked: the text is not read."""
        found: dict[str, Found] = {}
        for query in queries:
            if query.subject_id not in found:
                found[query.subject_id] = self._find(image, concepts[query.subject_id])
        return [answer_of(query.id, found[query.subject_id]) for query in queries]

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """Every thing of the scene that looks like the boxed one."""
        return candidates_of(self._find(image, self.learn(subject)))

    def _find(self, image: UInt8[np.ndarray, "h w 3"], concept: Concept) -> Found:
        """The masks in the scene's part of the canvas; those that lie in the photo's part are the example itself."""
        photo = np.asarray(concept.tensors["photo"]).astype(np.uint8)
        canvas = canvas_of(photo, as_image(image))
        left, top, right, bottom = (float(each) for each in concept.tensors["box"])
        size_hw = canvas.image.shape[0], canvas.image.shape[1]
        found = self.sam3.find(
            self.sam3.encode(canvas.image), self._text, size_hw, canvas.box((left, top, right, bottom))
        )
        inside = canvas.of_scene(found.soft)
        mostly = (inside > CUT).sum((1, 2)) > (found.soft > CUT).sum((1, 2)) / 2
        scores = found.scores[mostly]
        return Found(inside[mostly], scores, float(scores.max(initial=0.0))).above(self.settings["threshold"])
