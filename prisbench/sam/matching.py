"""Matching: features of the subject's photos find points in a scene, Segment Anything makes masks of them, and the mask
that looks likest the subject is the answer.

The scheme of Matcher (Liu et al. 2024, arXiv 2305.13310) with one encoder: its features come from DINOv2, here they are
Segment Anything's own.  The text is not read; parts to choose among are offered (``candidates``).

Knows: Segment Anything, photos, models of looks.  Does not know: texts, truth, datasets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from prisbench.errors import UnknownNameError, UsageError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.regions import distinct
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.foreground import known_or_guessed
from prisbench.network_free.likeness import NAMES, likeness
from prisbench.network_free.method import reference_of
from prisbench.network_free.model import SubjectModel, learn
from prisbench.network_free.predictors import PREDICTORS, check_installed
from prisbench.network_free.weights import FILE, weights_for
from prisbench.out_of_domain import Strangeness
from prisbench.own_task import own_task
from prisbench.own_world import strangeness_to
from prisbench.pretrained import EMBEDDED
from prisbench.sam.frame import Frame, cells_of
from prisbench.sam.model import Sam
from prisbench.sam.peaks import peaks
from prisbench.settings import MethodOptions, place_of, share_of, take_settings
from prisbench.types import Candidate, Concept, Prediction, Query, Subject

NAME = "sam-matching"
CHOICES = ("looks", "features")
"""What a mask is judged by: colours, textures, patches and keypoints (``network_free``), or the features again."""

DEFAULTS = {"sam": EMBEDDED, "choice": "looks", "points": 16, "threshold": 0.05}
"""``points``: prompts in a scene at most.  ``threshold``: the presence below which the subject is absent."""

SAME = 0.8
"""Intersection over union from which on two masks are one."""

LEAST, MOST = 0.0025, 0.6
"""Shares of the scene that a mask covers, as for parts of maps (``network_free.regions``)."""

OWN, OTHER = "cells.own", "cells.other"
"""What a concept calls the features of the subject's cells and of those around it."""

VERSION = 1


@dataclass(frozen=True, eq=False)
class Found:
    """The masks of a scene with the score of each in 0..1, the likeliest first, and where each was asked for."""

    masks: list[Bool[np.ndarray, "h w"]]
    scores: list[float]
    points: list[tuple[int, int]]


class SamMatching:
    """``choice``: one of ``CHOICES``.  ``sam``: a hub id or folder of a ``SamModel``, or "embedded"."""

    name = NAME
    tunable: Mapping[str, Any] = {"threshold": (0.0, 0.6)}
    concepts_are_whole = True

    def __init__(self, sam: str, choice: str, points: int, threshold: float, device: str = "cpu") -> None:
        self.settings: Mapping[str, Any] = {"sam": sam, "choice": choice, "points": points, "threshold": threshold}
        self.sam = Sam(sam, device)
        self.model, self.weights = self.sam.name, (self.sam.folder, str(FILE))
        self.own_task = own_task(self.sam.folder, "point")

    @classmethod
    def make(cls, options: MethodOptions) -> SamMatching:
        """What ``--set sam=... choice=... points=... threshold=...`` say.  Raises UsageError, BackboneError,
        MissingExtraError."""
        taken = take_settings({**DEFAULTS, "sam": options.model or EMBEDDED}, options.settings)
        if taken["choice"] not in CHOICES:
            raise UnknownNameError("choice", str(taken["choice"]), CHOICES)
        if (taken["points"] or 0) < 1:
            raise UsageError(f"points={taken['points']!r} makes no sense: expected 1 or more")
        threshold = share_of(taken, "threshold")
        if taken["choice"] == "looks":
            check_installed(PREDICTORS["combined"])
        return cls(place_of(taken, "sam"), taken["choice"], taken["points"], threshold, options.device)

    def learn(self, subject: Subject) -> Concept:
        """Features of the subject and of what is around it in every photo, and what can be counted of its looks.

        A photo without a mask is divided by what the photos share (``network_free.foreground``).
        """
        small = [shrunk(photo) for photo in subject.photos]
        given = [
            None if mask is None else mask_resized(mask, photo.shape[:2])
            for photo, mask in zip(small, subject.masks, strict=False)
        ]
        own, other = [], []
        for photo, mask in zip(subject.photos, known_or_guessed(small, given), strict=True):
            frame, features = self.sam.encode(photo)
            cells = features[0].permute(1, 2, 0)
            inside = cells_of(mask_resized(mask, photo.shape[:2]), frame, self.sam.grid).to(cells.device)
            own.append(_directions(cells[inside]))
            other.append(_directions(cells[_photo_cells(frame, self.sam.grid).to(cells.device) & ~inside]))
        tensors = {OWN: torch.cat(own).cpu().numpy(), OTHER: torch.cat(other).cpu().numpy()}
        recipe = {"version": VERSION, "sam": self.sam.name, "reference": reference_of(subject)}
        if self.settings["choice"] == "looks":
            tensors |= learn(subject).tensors()
        sums = hashlib.sha256()
        for name in sorted(tensors):
            sums.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
        key = hashlib.sha256(repr(sorted(recipe.items())).encode() + sums.digest()).hexdigest()[:16]
        return Concept(key, subject.id, subject.noun, NAME, tensors=tensors, recipe=recipe)

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """One mask a subject, whatever is asked; None below the threshold, and where there is no mask at all."""
        photo = as_image(image)
        seen = self.sam.encode(photo)
        found: dict[str, Found] = {}
        for query in queries:
            if query.subject_id not in found:
                found[query.subject_id] = self._found(photo, seen, concepts[query.subject_id])
        return [self._answer(query, found[query.subject_id]) for query in queries]

    def look_ahead(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        self.sam.look_ahead([as_image(image) for image in images])

    def strangeness(self, image: ImageLike) -> Strangeness | None:
        """How far a photo is from what the Segment Anything was trained on; None where it is not one of ours."""
        return strangeness_to(self.sam.folder, image)

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """The masks that were compared, the likeliest first."""
        photo = as_image(image)
        found = self._found(photo, self.sam.encode(photo), self.learn(subject))
        return [Candidate(mask, score) for mask, score in zip(found.masks, found.scores, strict=True)]

    def _answer(self, query: Query, found: Found) -> Prediction:
        if not found.masks:
            return Prediction(query.id, None, presence=0.0)
        if found.scores[0] < self.settings["threshold"]:
            return Prediction(query.id, None, presence=found.scores[0])
        x, y = found.points[0]
        return Prediction(query.id, found.masks[0], (y, x), found.scores[0])

    def _found(self, photo: UInt8[np.ndarray, "h w 3"], seen: tuple[Frame, Tensor], concept: Concept) -> Found:
        frame, features = seen
        map_ = match(features, concept, frame)
        apart = max(max(frame.photo_hw) // self.sam.grid // 2, 1)
        masks, points = self._masks(frame, features, peaks(map_, self.settings["points"], apart))
        if not masks:
            return Found([], [], [])
        scores = self._by_looks(photo, masks, concept) if self.settings["choice"] == "looks" else inside(map_, masks)
        order = sorted(range(len(masks)), key=lambda n: -scores[n])
        return Found([masks[n] for n in order], [scores[n] for n in order], [points[n] for n in order])

    def _masks(
        self, frame: Frame, features: Tensor, points: Sequence[tuple[int, int]]
    ) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
        """The masks of all points that hold a fair share of the scene, each once: those that the model is surest of
        first."""
        found: list[tuple[float, np.ndarray, tuple[int, int]]] = []
        for point, each in zip(points, self.sam.decode_each(frame, features, points), strict=True):
            for logits, quality in zip(each.logits, each.quality, strict=True):
                mask = (logits > 0).cpu().numpy()
                if LEAST <= mask.mean() <= MOST:
                    found.append((float(quality), mask, point))
        found.sort(key=lambda each: -each[0])
        kept = distinct([mask for _, mask, _ in found], SAME)
        return [found[n][1] for n in kept], [found[n][2] for n in kept]

    def _by_looks(
        self, photo: UInt8[np.ndarray, "h w 3"], masks: Sequence[np.ndarray], concept: Concept
    ) -> list[float]:
        """The chance of each mask by its looks, with the weights of the predictor "combined"."""
        scene = Scene(shrunk(photo), "none")
        evidence = Evidence(scene, SubjectModel.of(concept))
        regions = [mask_resized(mask, scene.size_hw) for mask in masks]
        kept = [n for n, region in enumerate(regions) if region.any()]
        weights = weights_for(concept.recipe["reference"], "found", "combined")
        rows = likeness(evidence, [regions[n] for n in kept], PREDICTORS["combined"].map_, NAMES)
        scores = dict(zip(kept, weights.chance(rows).tolist(), strict=True))
        return [float(scores.get(n, 0.0)) for n in range(len(masks))]


def match(features: Float[Tensor, "1 c g g"], concept: Concept, frame: Frame) -> Float[np.ndarray, "h w"]:
    """How much nearer each pixel is to the subject's features than to those around it, 0..1; 0.5 is as near.

    Cosines, each with the nearest of the subject's cells in any photo.
    """
    cells = features[0].permute(1, 2, 0)
    grid = cells.shape[0]
    here = _directions(cells.reshape(grid * grid, -1))
    own, other = (torch.from_numpy(np.asarray(concept.tensors[name])).to(here) for name in (OWN, OTHER))
    near = (here @ own.T).amax(1)
    if len(other):
        near = (near - (here @ other.T).amax(1)) / 2
    map_ = (0.5 + near / 2).reshape(1, 1, grid, grid)
    return frame.to_photo(interpolate(map_, scale_factor=4, mode="bilinear", align_corners=False))[0, 0].cpu().numpy()


def inside(map_: Float[np.ndarray, "h w"], masks: Sequence[Bool[np.ndarray, "h w"]]) -> list[float]:
    """The mean of a map in each mask, 0..1."""
    return [min(max(float(map_[mask].mean()), 0.0), 1.0) for mask in masks]


def _directions(cells: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
    return cells / cells.norm(dim=-1, keepdim=True)


def _photo_cells(frame: Frame, grid: int) -> Bool[Tensor, "g g"]:
    """The cells that hold the photo and no padding."""
    return cells_of(np.ones(frame.photo_hw, bool), frame, grid)
