"""CLIPSeg as a method: asked with the query, the class word, a description of the subject, or its photos.

Knows: the network, prompts.  Does not know: truth, datasets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from prisbench.clipseg.model import ClipSeg
from prisbench.clipseg.prompts import description, visual_prompts
from prisbench.errors import UnknownNameError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.regions import parts
from prisbench.out_of_domain import Strangeness
from prisbench.own_task import own_task
from prisbench.own_world import strangeness_to
from prisbench.pretrained import EMBEDDED
from prisbench.settings import MethodOptions, share_of, take_settings
from prisbench.types import SLOT, Candidate, Concept, Prediction, Query, Subject

NAME = "clipseg"
PROMPTS = ("query", "noun", "description", "photo")
"""``query``: its text with the class word in the slot.  ``noun``: "a photo of a mug".  ``description``: its text with
the class word and the colours that the photos show.  ``photo``: the subject's photos, the text is not read."""

TEMPLATE = "a photo of a {}"
"""Around a class word alone, as published."""

DEFAULTS = {"prompt": "query", "threshold": 0.4}
OWN_THRESHOLD = 0.3
"""Where the embedded model's scores are cut: chosen on validation, for all prompts alike."""


class ClipSegMethod:
    """``model``: a hub id or folder of a ``CLIPSegForImageSegmentation``, or "embedded"."""

    name = NAME
    tunable: Mapping[str, Any] = {"threshold": (0.05, 0.8, "log")}
    concepts_are_whole = True

    def __init__(self, model: str, prompt: str, threshold: float, device: str = "cpu") -> None:
        self.clipseg = ClipSeg(model, device)
        self.model, self.weights = self.clipseg.name, self.clipseg.folder
        self.own_task = own_task(self.clipseg.folder, {"noun": "noun", "photo": "photo"}.get(prompt, "phrase"))
        self.settings: Mapping[str, Any] = {"model": model, "prompt": prompt, "threshold": threshold}

    @classmethod
    def make(cls, options: MethodOptions) -> ClipSegMethod:
        """What ``--model ID_OR_FOLDER`` and ``--set prompt=... threshold=...`` say.

        Raises UsageError, UnknownNameError, BackboneError.
        """
        model = options.model or EMBEDDED
        known = {**DEFAULTS, "threshold": OWN_THRESHOLD} if model == EMBEDDED else DEFAULTS
        taken = take_settings(known, options.settings)
        if taken["prompt"] not in PROMPTS:
            raise UnknownNameError("prompt", str(taken["prompt"]), PROMPTS)
        threshold = share_of(taken, "threshold")
        return cls(model, taken["prompt"], threshold, options.device)

    def learn(self, subject: Subject) -> Concept:
        """Nothing but the class word, unless the prompt is a description or photos."""
        how = self.settings["prompt"]
        if how == "description":
            said = description(subject)
            key = hashlib.sha256(said.encode()).hexdigest()[:16]
            return Concept(key, subject.id, subject.noun, how, recipe={"description": said})
        if how == "photo":
            vectors = [self.clipseg.of_photo(photo) for photo in visual_prompts(subject)]
            mean = torch.cat(vectors).mean(0, keepdim=True).cpu().numpy()
            key = hashlib.sha256(mean.tobytes()).hexdigest()[:16]
            return Concept(key, subject.id, subject.noun, how, self.model, {"prompt": mean})
        return Concept("noun-only", subject.id, subject.noun, "noun-only")

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """A mask a query, which may be empty.  The photo is encoded once, and each prompt is decoded alone."""
        layers = self.clipseg.encode(image)
        scores: dict[str, Float32[np.ndarray, "h w"]] = {}
        answers = []
        for query in queries:
            concept = concepts[query.subject_id]
            asked = self._asked(query, concept)
            if asked not in scores:
                vector = self._vector(asked, concept)
                scores[asked] = self.clipseg.score(layers, vector, (image.shape[0], image.shape[1]))
            answers.append(self._answer(query, scores[asked]))
        return answers

    def look_ahead(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        self.clipseg.look_ahead([as_image(image) for image in images])

    def strangeness(self, image: ImageLike) -> Strangeness | None:
        """How far a photo is from what the network was trained on; None where it is not one of ours."""
        return strangeness_to(self.clipseg.folder, image)

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """Connected parts of the map of "the {subject}", cut at several levels, the highest mean score first.

        They are cut from the map of a photo made smaller, and brought back to its size.
        """
        whole = as_image(image)
        small, concept = shrunk(whole), self.learn(subject)
        asked = self._asked(Query("", subject.id, f"the {SLOT}"), concept)
        h, w = small.shape[:2]
        score = self.clipseg.score(self.clipseg.encode(whole), self._vector(asked, concept), (h, w))
        found = [(float(score[part].mean()), mask_resized(part, whole.shape[:2])) for part in parts(score)]
        kept = sorted((each for each in found if each[1].any()), key=lambda each: -each[0])
        return [Candidate(mask, mean) for mean, mask in kept]

    def _asked(self, query: Query, concept: Concept) -> str:
        """The text that is asked; the concept's id where it is a photo."""
        how = self.settings["prompt"]
        if how == "photo":
            return concept.id
        if how == "noun":
            return TEMPLATE.format(concept.noun)
        return query.text.replace(SLOT, concept.recipe["description"] if how == "description" else concept.noun)

    def _vector(self, asked: str, concept: Concept) -> torch.Tensor:
        if self.settings["prompt"] == "photo":
            return torch.from_numpy(np.asarray(concept.tensors["prompt"], np.float32))
        return self.clipseg.of_text(asked)

    def _answer(self, query: Query, score: Float32[np.ndarray, "h w"]) -> Prediction:
        y, x = np.unravel_index(int(score.argmax()), score.shape)
        mask = score > self.settings["threshold"]
        return Prediction(query.id, mask, (int(y), int(x)), presence=float(score.max()), score=score)
