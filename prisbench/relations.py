"""What a text says of place, read for any method: ``--set text.relations=true``.

The method hears the text without its places.  Of the parts that it offers (``types.GivesCandidates``), the one that
keeps what the text says is the answer; where none does, the answer is "not here".  A landmark ("left of a blue bottle")
is found by its colour words (``network_free.reader``), in every method alike: what differs between two methods is what
they know of the subject.

Knows: readings of texts, candidates.  Does not know: any method, networks, truth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from prisbench.errors import DataError, UsageError
from prisbench.images.arrays import as_image
from prisbench.images.regions import iou
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.evidence import Scene
from prisbench.network_free.reader import by_colour, grades
from prisbench.phrases import Reading, parse
from prisbench.settings import take_settings
from prisbench.types import Candidate, Concept, GivesCandidates, Method, Prediction, Query, Subject

PREFIX = "text."
"""Settings that begin so are the harness's; no method is given them."""

SUFFIX = "+relations"
"""What a method's name ends with when its texts are read for it: its runs are runs of their own."""

LANDMARKS = "colour words"
"""How a landmark is found, for the record."""

MOST_PARTS = 32
"""So many of the likeliest parts are compared."""

FAINT = 1e-6
"""The least score of a part: one of 0 can still be chosen where all are."""

SAME = 0.8
"""From this overlap on, a method's own mask is the chosen part already, and stays."""

PASSED_ON = (
    *("model", "weights", "template", "precision", "backbone", "device", "cost", "strangeness", "own_task"),
    "subjects",
    "look_ahead",
)
"""Members that a method may have; the reader has them where the method does."""


@dataclass(frozen=True)
class TextSettings:
    """``relations``: read what texts say of place.  ``power``: a part's score is multiplied by (how well it keeps the
    text, 0..1) ** power, and the highest product is chosen.  ``least``: below this share of the highest score, nothing
    keeps the text, and the answer is "not here".
    """

    relations: bool = False
    power: float = 2.0
    least: float = 0.2


def split_settings(given: Mapping[str, Any]) -> tuple[TextSettings, dict[str, Any]]:
    """The harness's settings, and those of the method.  Raises UsageError as ``take_settings``."""
    own = {key: value for key, value in given.items() if key.startswith(PREFIX)}
    taken = take_settings(dataclasses.asdict(TextSettings()), own, PREFIX)
    for name, value in taken.items():
        if value is None or value < 0 or (name == "least" and value > 1):
            raise UsageError(f"{PREFIX}{name}={value!r} makes no sense; give a number of at least 0, least at most 1")
    settings = TextSettings(taken["relations"], float(taken["power"]), float(taken["least"]))
    return settings, {key: value for key, value in given.items() if key not in own}


def with_relations(method: Method, settings: TextSettings) -> Method:
    """The method itself, or its texts read for it.  Raises UsageError for one that offers no parts to choose among."""
    if not settings.relations:
        return method
    if not isinstance(method, GivesCandidates) or not callable(method.candidates):
        raise UsageError(
            f"--set {PREFIX}relations=true: {method.name} offers no parts to choose among; give it "
            "candidates(image, subject), as in baselines/README.md, or leave the setting out"
        )
    return ReadsRelations(method, settings)


class ReadsRelations:
    """A method whose texts are read for it."""

    def __init__(self, wrapped: Method, settings: TextSettings) -> None:
        self.wrapped, self.text = wrapped, settings
        self.name = f"{wrapped.name}{SUFFIX}"
        self._learned: dict[str, Subject] = {}
        for name in PASSED_ON:
            if hasattr(wrapped, name):
                setattr(self, name, getattr(wrapped, name))

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of the method, and under "text" what reads it, with what that sees."""
        text = {**dataclasses.asdict(self.text), "landmarks": LANDMARKS, "sees": "places in texts"}
        return {**self.wrapped.settings, "text": text}

    def learn(self, subject: Subject) -> Concept:
        if hasattr(self.wrapped, "subjects"):
            self.wrapped.subjects = getattr(self, "subjects", ())
        self._learned[subject.id] = subject
        return self.wrapped.learn(subject)

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> Sequence[Any]:
        offered: Any = self.wrapped
        given: Any = offered.candidates(image, subject)
        if not isinstance(given, Iterable):
            raise DataError(f"{self.wrapped.name}: candidates gave {type(given).__name__}; `prisbench try` says more")
        return list(given)

    def locate(
        self, image: UInt8[np.ndarray, "h w 3"], queries: Sequence[Query], concepts: Mapping[str, Concept]
    ) -> list[Prediction]:
        """The method's answers to the texts without their places; of those with places, the part that keeps them."""
        readings = [parse(query.text) for query in queries]
        plain = [dataclasses.replace(query, text=each.rest) for query, each in zip(queries, readings, strict=True)]
        answers = list(self.wrapped.locate(image, plain, concepts))
        if len(answers) != len(queries):
            return answers  # the caller says what is wrong
        parts: dict[str, list[Candidate]] = {}
        scene = Scene(shrunk(as_image(image)), "none")
        chosen = []
        for query, reading, answer in zip(queries, readings, answers, strict=True):
            if reading.conditions and isinstance(answer, Prediction) and answer.mask is not None:
                if query.subject_id not in parts:
                    parts[query.subject_id] = self._parts(image, query.subject_id)
                answer = choose(answer, parts[query.subject_id], reading, scene, self.text)
            chosen.append(answer)
        return chosen

    def _parts(self, image: UInt8[np.ndarray, "h w 3"], subject_id: str) -> list[Candidate]:
        if subject_id not in self._learned:
            raise DataError(f"{self.name} has not learned {subject_id!r}, whose parts it chooses among; learn it first")
        found = list(self.candidates(image, self._learned[subject_id]))
        size_hw = image.shape[0], image.shape[1]
        for each in found:
            if not isinstance(each, Candidate) or np.shape(each.mask) != size_hw:
                raise DataError(
                    f"{self.wrapped.name}: a candidate of {subject_id!r} is no prisbench.Candidate with a mask of "
                    f"{size_hw[0]} x {size_hw[1]} pixels; `prisbench try` says more"
                )
        return sorted((each for each in found if each.mask.any()), key=lambda each: -each.score)[:MOST_PARTS]


def choose(
    answer: Prediction, parts: Sequence[Candidate], reading: Reading, scene: Scene, settings: TextSettings
) -> Prediction:
    """The answer with the part that keeps the text for its mask, None where no part does.

    ``presence`` is multiplied by what the text leaves of the highest score.  Without parts the answer stays as it is.
    """
    kept, graded = _graded(parts, reading, scene)
    if not kept:
        return answer
    scores = np.array([max(float(part.score), FAINT) for part in kept])
    told = scores * graded**settings.power
    best = int(np.argmax(told))
    share = float(told[best] / scores.max())
    presence = None if answer.presence is None else float(answer.presence) * share
    if share < settings.least:
        return dataclasses.replace(answer, mask=None, presence=presence)
    mask = kept[best].mask
    if answer.mask is not None and iou(answer.mask, mask) >= SAME:
        return dataclasses.replace(answer, presence=presence)
    score = None if answer.score is None else np.where(mask, answer.score, answer.score * 0.5)
    return dataclasses.replace(answer, mask=mask, peak_yx=_peak(answer, mask), presence=presence, score=score)


def _graded(
    parts: Sequence[Candidate], reading: Reading, scene: Scene
) -> tuple[list[Candidate], Float[np.ndarray, " n"]]:
    """The parts that are large enough to have a place, and how well each keeps the text, 0..1."""
    small = [mask_resized(part.mask, scene.size_hw) for part in parts]
    kept = [n for n, region in enumerate(small) if region.any()]
    scores = np.array([max(float(parts[n].score), FAINT) for n in kept])
    if not kept:
        return [], scores
    return [parts[n] for n in kept], grades(reading, [small[n] for n in kept], scores, by_colour(scene))


def _peak(answer: Prediction, mask: Bool[np.ndarray, "h w"]) -> tuple[int, int] | None:
    """The method's own peak where it lies in the part; else the part's innermost pixel."""
    if answer.peak_yx is None or mask[answer.peak_yx]:
        return answer.peak_yx
    inner = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return int(y), int(x)
