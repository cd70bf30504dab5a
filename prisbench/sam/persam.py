"""PerSAM and PerSAM-F (Zhang et al. 2023, arXiv 2305.03048; ``persam.py`` and ``persam_f.py`` of the release).

A subject is the mean feature of its pixels in one photo.  In a scene, the most similar pixel is a point prompt (PerSAM
also takes the least similar one, as what is not meant), the decoder is guided by the similarity (PerSAM), or the masks
of its three sizes are weighed by two numbers fitted on the photo (PerSAM-F); two refinements follow.

Knows: Segment Anything, photos with masks.  Does not know: texts, truth, datasets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from prisbench.errors import UsageError
from prisbench.images.arrays import ImageLike
from prisbench.images.regions import distinct
from prisbench.out_of_domain import Strangeness
from prisbench.own_task import own_task
from prisbench.own_world import strangeness_to
from prisbench.pretrained import EMBEDDED, masked_photos
from prisbench.sam.frame import Frame, cells_of
from prisbench.sam.model import Masks, Prompt, Sam
from prisbench.sam.peaks import peaks
from prisbench.settings import MethodOptions, place_of, share_of, take_settings
from prisbench.types import Candidate, Concept, Prediction, Query, Subject

STEPS, RATE, EPSILON = 1000, 1e-3, 1e-4
"""How the two weights of PerSAM-F are fitted, as released."""

CANDIDATES = 6
"""Points that are tried for candidates, at most."""

SAME = 0.8
"""Intersection over union from which on two candidates are one."""

VERSION = 1


class PerSam:
    """PerSAM; with ``fitted``, PerSAM-F.  ``sam``: a hub id or folder of a ``SamModel``, or "embedded".

    ``threshold``: the highest similarity, 0..1, below which the answer is "not here"; 0, as released, never says so.
    """

    tunable: Mapping[str, Any] = {"threshold": (0.3, 0.95)}
    concepts_are_whole = True

    def __init__(self, fitted: bool, sam: str, device: str, steps: int = STEPS, threshold: float = 0.0) -> None:
        self.fitted, self.name = fitted, "persam-f" if fitted else "persam"
        self.settings: Mapping[str, Any] = {"sam": sam, "threshold": threshold, **({"steps": steps} if fitted else {})}
        self.sam, self.device = Sam(sam, device), device
        self.model, self.weights = self.sam.name, self.sam.folder
        self.own_task = own_task(self.sam.folder, "point")

    @classmethod
    def make(cls, fitted: bool, options: MethodOptions) -> PerSam:
        """What ``--set sam=ID_OR_FOLDER`` (or ``--model``) says.  Raises UsageError, BackboneError."""
        known = {"sam": options.model or EMBEDDED, "threshold": 0.0, **({"steps": STEPS} if fitted else {})}
        taken = take_settings(known, options.settings)
        if fitted and not (taken["steps"] or 0) > 0:
            raise UsageError(f"steps={taken['steps']!r} makes no sense: expected 1 or more")
        threshold = share_of(taken, "threshold")
        return cls(fitted, place_of(taken, "sam"), options.device, taken.get("steps", STEPS), threshold)

    def learn(self, subject: Subject) -> Concept:
        """From the first photo that has a mask.  Raises UsageError where none has."""
        photo, mask = masked_photos(subject, self.name)[0]
        frame, features = self.sam.encode(photo)
        cells = features[0].permute(1, 2, 0)[cells_of(mask, frame, self.sam.grid).to(features.device)]
        mean, largest = cells.mean(0), cells.amax(0)
        target = (largest / 2 + mean / 2) if self.fitted else mean
        tensors = {"target": target.cpu().numpy()}
        if self.fitted:
            similar = similarity(features, target, frame)
            masks = self.sam.decode(frame, features, Prompt((_point(similar, True),), (1,)), True)
            tensors["weights"] = fit_weights(masks.logits, mask, self.settings["steps"]).cpu().numpy()
        recipe = {"version": VERSION, **{key: value for key, value in self.settings.items() if key != "threshold"}}
        said = repr(sorted(recipe.items())) + repr(photo.shape)
        key = hashlib.sha256(said.encode() + photo.tobytes() + np.packbits(mask).tobytes()).hexdigest()[:16]
        return Concept(key, subject.id, subject.noun, self.name, tensors=tensors, recipe=recipe)

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """One mask a subject, whatever is asked: the text is not read.  "Not here" is said of empty masks, and below
        the threshold.
        """
        frame, features = self.sam.encode(image)
        found: dict[str, Prediction] = {}
        for query in queries:
            if query.subject_id not in found:
                found[query.subject_id] = self._answer(frame, features, concepts[query.subject_id])
        return [_for(query, found[query.subject_id]) for query in queries]

    def strangeness(self, image: ImageLike) -> Strangeness | None:
        """How far a photo is from what the Segment Anything was trained on; None where it is not one of ours."""
        return strangeness_to(self.sam.folder, image)

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """What the same steps give from each point that is more similar than all around it, the likeliest first.

        The score is the similarity at the point; the likeliest one is the answer of ``locate``.
        """
        concept = self.learn(subject)
        frame, features = self.sam.encode(image)
        similar = similarity(features, self._target(concept, features), frame)
        apart = max(max(frame.photo_hw) // self.sam.grid, 1)
        found = []
        for x, y in peaks(similar.cpu().numpy(), CANDIDATES, apart):
            mask = self._answer(frame, features, concept, (x, y)).mask
            if mask is not None:
                found.append(Candidate(mask, float(similar[y, x].clamp(0, 1))))
        kept = distinct([each.mask for each in found], SAME)
        return [found[n] for n in kept]

    def _target(self, concept: Concept, features: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(concept.tensors["target"])).to(features)

    def _answer(
        self, frame: Frame, features: Tensor, concept: Concept, start: tuple[int, int] | None = None
    ) -> Prediction:
        """``start``: the point to begin with, x first; default: the most similar one."""
        target = self._target(concept, features)
        similar = similarity(features, target, frame)
        peak = start or _point(similar, True)
        presence = float(similar[peak[1], peak[0]].clamp(0, 1))
        if start is None and presence < self.settings["threshold"]:
            return Prediction("", None, presence=presence)
        if self.fitted:
            weights = torch.from_numpy(np.asarray(concept.tensors["weights"])).to(features)
            masks = self._weighed(frame, features, peak, weights)
        else:
            masks = self._guided(frame, features, (peak, _point(similar, False)), (similar, target))
        if masks is None:
            return Prediction("", None, presence=presence)
        best = masks.logits[int(masks.quality.argmax())].cpu()
        mask = (best > 0).numpy()
        score = best.sigmoid().numpy()
        return Prediction("", mask if mask.any() else None, (peak[1], peak[0]), presence, score)

    def _guided(
        self, frame: Frame, features: Tensor, at: tuple[tuple[int, int], ...], guide: tuple[Tensor, Tensor]
    ) -> Masks | None:
        """PerSAM: a guided mask, then refined by itself, then also by its box."""
        labels, target = (1, 0), guide[1][None, None]
        first = Prompt(at, labels, similarity=guidance(guide[0], self.sam.grid), target=target)
        masks = self.sam.decode(frame, features, first, False)
        masks = self.sam.decode(frame, features, Prompt(at, labels, small=masks.small[0]), True)
        return self._boxed(frame, features, (at, labels), masks)

    def _weighed(self, frame: Frame, features: Tensor, peak: tuple[int, int], weights: Tensor) -> Masks | None:
        """PerSAM-F: the three masks weighed, then refined twice by box and logits."""
        at, labels = (peak,), (1,)
        masks = self.sam.decode(frame, features, Prompt(at, labels), True)
        box = box_of(((masks.logits * weights[:, None, None]).sum(0) > 0).cpu().numpy())
        if box is None:
            return None
        small = (masks.small * weights[:, None, None]).sum(0)
        masks = self.sam.decode(frame, features, Prompt(at, labels, box, small), True)
        return self._boxed(frame, features, (at, labels), masks)

    def _boxed(
        self, frame: Frame, features: Tensor, points: tuple[tuple[tuple[int, int], ...], tuple[int, ...]], masks: Masks
    ) -> Masks | None:
        """The best mask once more, with its own box; None where it is empty (the release fails there)."""
        best = int(masks.quality.argmax())
        box = box_of((masks.logits[best] > 0).cpu().numpy())
        if box is None:
            return None
        return self.sam.decode(frame, features, Prompt(*points, box, masks.small[best]), True)


def similarity(features: Float[Tensor, "1 c g g"], target: Float[Tensor, " c"], frame: Frame) -> Float[Tensor, "h w"]:
    """The cosine between a target and each pixel of a photo."""
    normed = features[0] / features[0].norm(dim=0, keepdim=True)
    cosine = torch.einsum("c,cyx->yx", target / target.norm(), normed)[None, None]
    return frame.to_photo(interpolate(cosine, scale_factor=4, mode="bilinear", align_corners=False))[0, 0]


def guidance(similar: Float[Tensor, "h w"], grid: int) -> Float[Tensor, "1 1 1 gg"]:
    """What is added to the attention: the similarity standardized, squashed to the grid, through a sigmoid.

    As released, the photo is stretched to the grid here, though its features lie in a padded square.
    """
    spread = torch.std(similar)
    standard = (similar - similar.mean()) / spread if float(spread) > 0 else torch.zeros_like(similar)
    small = interpolate(standard[None, None], (grid, grid), mode="bilinear", align_corners=False)
    return small.sigmoid().flatten(2)[:, :, None]


def fit_weights(logits: Float[Tensor, "3 h w"], mask: Bool[np.ndarray, "h w"], steps: int) -> Float[Tensor, " 3"]:
    """The weights of three masks, their sum 1, with which they come nearest to a mask: Dice and focal loss, AdamW."""
    flat = logits.detach().flatten(1)
    truth = torch.from_numpy(mask).to(flat).flatten()
    free = torch.full((2,), 1 / 3, device=flat.device, requires_grad=True)
    optimizer = torch.optim.AdamW([free], lr=RATE, eps=EPSILON)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with torch.enable_grad():
        for _ in range(steps):
            loss = dice_and_focal((flat * _three(free)[:, None]).sum(0), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return _three(free.detach())


def _three(free: Float[Tensor, " 2"]) -> Float[Tensor, " 3"]:
    return torch.cat([1 - free.sum(0, keepdim=True), free])


def dice_and_focal(
    logits: Float[Tensor, "*b n"], truth: Float[Tensor, "*b n"], focal: float = 1.0
) -> Float[Tensor, "*b"]:
    """The Dice loss, and the focal loss (alpha 0.25, gamma 2) as released, which counts ``focal`` times."""
    chance = logits.sigmoid()
    right = chance * truth + (1 - chance) * (1 - truth)
    balance = 0.25 * truth + 0.75 * (1 - truth)
    cross = binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return dice(logits, truth) + focal * (balance * cross * (1 - right) ** 2).mean(-1)


def dice(logits: Float[Tensor, "*b n"], truth: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
    """The Dice loss with one added above and below, as released."""
    chance = logits.sigmoid()
    return 1 - (2 * (chance * truth).sum(-1) + 1) / (chance.sum(-1) + truth.sum(-1) + 1)


def box_of(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom, the last pixels inside; None of an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _point(similar: Tensor, most: bool) -> tuple[int, int]:
    """The pixel that is most, or least, similar; x first."""
    place = int(similar.argmax() if most else similar.argmin())
    return place % similar.shape[1], place // similar.shape[1]


def _for(query: Query, answer: Prediction) -> Prediction:
    return Prediction(query.id, answer.mask, answer.peak_yx, answer.presence, answer.score)
