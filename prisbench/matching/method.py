"""Dense features of any frozen network as a method: photos of the subject are encoded once, a scene once.

Regions are cut from the map of likeness at several heights, the region that is most like the subject is the answer, and
its outline is the photo's (as in the predictors without a network, ``network_free.regions``).

Knows: memories, regions.  Does not know: which network, texts, truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import pixels_sha256
from prisbench.images.seen import Seen
from prisbench.matching.dense import Dense
from prisbench.matching.memory import Memory, in_mask, learn, likeness
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.evidence import Scene
from prisbench.network_free.method import answer_of, candidates_of, reference_of
from prisbench.network_free.predictors import Choice
from prisbench.network_free.regions import parts
from prisbench.out_of_domain import Strangeness
from prisbench.runtime.files import sha256_json
from prisbench.types import Candidate, Concept, Prediction, Query, Subject

VERSION = 1

FLOOR = 0.05
"""The least that a typical cosine counts as; below it the photos have nothing in common to go by."""

TOP = 1.5
"""The map is 1 where a cell is so many times as like the subject as its own cells typically are."""


@runtime_checkable
class Encoder(Protocol):
    """A frozen network.  ``name``: of the method; ``model``: its weights, and ``weights`` what identifies their content
    (as of a ``Method``); ``settings``: what decides its features.
    """

    name: str
    model: str
    weights: Any
    device: str
    settings: Mapping[str, Any]

    def encode(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> list[Dense]:
        """Features of photos of one size; each one's are the same, to rounding, whatever else is encoded."""
        ...

    def cost(self, photo_hw: tuple[int, int]) -> str:
        """What a photo of that size takes, in words."""
        ...

    def strangeness(self, image: UInt8[np.ndarray, "h w 3"]) -> Strangeness | None:
        """How far a photo is from what the network was trained on; None where nobody measured that."""
        ...


class FeatureMatching:
    """``threshold``: the presence below which the subject is said to be absent.

    ``presence``: the chosen region's likeness as a share of what the subject's own photos have among each other, halved
    (0.5: as like as they are), 0..1.
    """

    tunable: Mapping[str, Any] = {"threshold": (0.0, 0.6)}
    concepts_are_whole = True

    def __init__(self, encoder: Encoder, threshold: float) -> None:
        self.encoder, self.threshold, self.name = encoder, threshold, encoder.name
        self.model, self.weights, self.device = encoder.model, encoder.weights, encoder.device
        self.settings: Mapping[str, Any] = {**encoder.settings, "threshold": threshold}
        self._seen = Seen(self._encode)

    def cost(self, photo_hw: tuple[int, int]) -> str:
        return self.encoder.cost(photo_hw)

    def strangeness(self, image: ImageLike) -> Strangeness | None:
        return self.encoder.strangeness(as_image(image))

    def look_ahead(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        """Encode these scenes, those of one size in one pass."""
        self._seen.ahead([as_image(image) for image in images])

    def _encode(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> list[Dense]:
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        found: dict[int, Dense] = {}
        for size in dict.fromkeys(sizes):
            which = [n for n, each in enumerate(sizes) if each == size]
            found |= dict(zip(which, self.encoder.encode([images[n] for n in which]), strict=True))
        return [found[n] for n in range(len(images))]

    def learn(self, subject: Subject) -> Concept:
        """Features of the masks' cells; of photos without a mask, of what the photos have in common."""
        masks = [*subject.masks, *[None] * (len(subject.photos) - len(subject.masks))]
        masks = [None if mask is None or not mask.any() else mask for mask in masks]
        memory = learn([self._seen(photo) for photo in subject.photos], masks)
        own = {"version": VERSION, "reference": reference_of(subject), **self.encoder.settings}
        seen = [pixels_sha256(photo) for photo in subject.photos]
        drawn = [None if mask is None else np.packbits(mask).tobytes().hex() for mask in masks]
        key = sha256_json([self.model, own, seen, drawn, subject.noun])[:16]
        return Concept(key, subject.id, subject.noun, "features", tensors=memory.tensors(), recipe=own)

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """One answer a subject, whatever is asked: the text is not read."""
        whole = as_image(image)
        dense, scene = self._seen(whole), Scene(shrunk(whole), "none")
        found: dict[str, Prediction] = {}
        for query in queries:
            if query.subject_id not in found:
                found[query.subject_id] = self._answer(dense, scene, concepts[query.subject_id])
        return [dataclasses.replace(found[query.subject_id], query_id=query.id) for query in queries]

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> list[Candidate]:
        """The regions that were compared, the likeliest first."""
        whole = as_image(image)
        memory = Memory.of(self.learn(subject))
        dense = self._seen(whole)
        map_ = _at(map_of(memory, dense), shrunk(whole).shape[:2])
        return candidates_of(choose(memory, dense, map_), dense.photo_hw)

    def _answer(self, dense: Dense, scene: Scene, concept: Concept) -> Prediction:
        memory = Memory.of(concept)
        soft = map_of(memory, dense)
        map_ = _at(soft, scene.size_hw)
        answer = answer_of("", scene, map_, choose(memory, dense, map_), self.threshold, dense.photo_hw)
        return dataclasses.replace(answer, score=soft)


def map_of(memory: Memory, dense: Dense) -> Float32[np.ndarray, "h w"]:
    """How like the subject each pixel of a photo is, 0..1."""
    typical = max(float(memory.typical[0]), FLOOR)
    alike = memory.cells(dense) @ memory.prototype / typical
    return (dense.to_photo(alike).clamp(0, TOP) / TOP).numpy()


def choose(memory: Memory, dense: Dense, map_: Float32[np.ndarray, "a b"]) -> Choice:
    """The regions of a map, at any size of the photo, and how like the subject each is."""
    regions, cells = parts(map_), memory.cells(dense)
    if not regions:
        return Choice((), np.zeros(0), None)
    typical = max(float(memory.typical[1]), FLOOR)
    there = [in_mask(dense, mask_resized(region, dense.photo_hw)) for region in regions]
    alike = np.array([likeness(memory, cells[where]) / typical / 2 for where in there])
    scores = np.clip(alike, 0, 1)
    return Choice(regions, scores, int(alike.argmax()))


def _at(map_: Float32[np.ndarray, "h w"], size_hw: tuple[int, ...]) -> Float32[np.ndarray, "a b"]:
    """A map at another size, averaged where it shrinks."""
    if map_.shape == size_hw:
        return map_
    square = torch.from_numpy(map_)[None, None]
    return torch.nn.functional.interpolate(square, size_hw, mode="area")[0, 0].numpy()
