"""A detector and Segment Anything as one method: the surest box, cut out.

Knows: boxes, Segment Anything's prompts.  Does not know: how a detector finds boxes, truth, datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from prisbench.detection.boxes import Boxes
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.seen import Seen
from prisbench.out_of_domain import Strangeness
from prisbench.own_task import own_task
from prisbench.own_world import strangeness_to
from prisbench.sam.frame import Frame
from prisbench.sam.model import Prompt, Sam
from prisbench.types import SLOT, Candidate, Concept, Prediction, Query, Subject

CANDIDATES = 12
"""So many boxes at most are cut out as parts to choose among; the published demonstrations draw fewer."""


@runtime_checkable
class Detector(Protocol):
    """What finds boxes.  ``model`` is its hub id or folder, ``settings`` what decides its boxes."""

    model: str
    settings: Mapping[str, Any]

    def learn(self, subject: Subject) -> Concept:
        """What it remembers of a subject."""
        ...

    def look(self, image: UInt8[np.ndarray, "h w 3"]) -> Any:
        """What it sees of a scene, once for all queries."""
        ...

    def find(self, seen: Any, text: str, concept: Concept) -> Boxes:
        """Boxes of what is looked for, in the scene's pixels, in any order."""
        ...


class BoxMethod:
    """The surest box that a detector finds becomes the mask that Segment Anything makes of it.

    ``threshold``: no box surer than this is "not here".  ``presence`` is the surest box's score.
    """

    tunable: Mapping[str, Any] = {"threshold": (0.0, 0.8)}

    def __init__(self, name: str, detector: Detector, sam: Sam, threshold: float) -> None:
        self.name, self.detector, self.sam, self.threshold = name, detector, sam, threshold
        self.model, self.device = detector.model, sam.device
        self.weights: Sequence[str] = (detector.model, sam.folder)
        self.own_task = own_task(sam.folder, "box")
        self._seen = Seen(lambda images: [self.detector.look(image) for image in images])
        self.settings: Mapping[str, Any] = {**detector.settings, "sam": sam.where, "threshold": threshold}

    def learn(self, subject: Subject) -> Concept:
        return self.detector.learn(subject)

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """Detector and Segment Anything see the scene once; each query has its own text or subject."""
        whole = as_image(image)
        seen, (frame, features) = self._seen(whole), self.sam.encode(whole)
        return [self._answer(seen, frame, features, query, concepts[query.subject_id]) for query in queries]

    def look_ahead(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        self.sam.look_ahead([as_image(image) for image in images])

    def strangeness(self, image: ImageLike) -> Strangeness | None:
        """How far a photo is from what the Segment Anything was trained on; None where it is not one of ours."""
        return strangeness_to(self.sam.folder, image)

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """The boxes above the threshold, cut out, the surest first; the text takes no part."""
        whole = as_image(image)
        seen, (frame, features) = self._seen(whole), self.sam.encode(whole)
        boxes = self.detector.find(seen, f"the {SLOT}", self.learn(subject)).best_first(self.threshold, CANDIDATES)
        found = []
        for box, score in zip(boxes.xyxy, boxes.scores, strict=True):
            mask, _ = self._cut(frame, features, box)
            if mask.any():
                found.append(Candidate(mask, float(score)))
        return found

    def _answer(self, seen: Any, frame: Frame, features: Tensor, query: Query, concept: Concept) -> Prediction:
        boxes = self.detector.find(seen, query.text, concept)
        presence = float(boxes.scores.max(initial=0.0))
        best = boxes.best_first(self.threshold, 1)
        if not len(best.scores):
            return Prediction(query.id, None, presence=presence)
        mask, score = self._cut(frame, features, best.xyxy[0])
        y, x = np.unravel_index(int(score.argmax()), score.shape)
        return Prediction(query.id, mask if mask.any() else None, (int(y), int(x)), presence, score)

    def _cut(self, frame: Frame, features: Tensor, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The one mask that a box means, and its soft map."""
        left, top, right, bottom = (float(each) for each in box)
        logits = self.sam.decode(frame, features, Prompt((), (), (left, top, right, bottom)), False).logits[0].cpu()
        return (logits > 0).numpy(), logits.sigmoid().numpy()
