"""The nouns of prisbench and the one seam a method implements.

Knows: what a subject, a concept, a query, an example and a prediction are.
Does not know: torch, files, models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from prisbench.images.arrays import MadeImage, MadeMask, as_image, as_mask

SLOT = "{subject}"
"""The place in a query's text where the subject's own words go."""

QUERY_TYPES = ("plain", "other-category", "look-alike", "relation", "referred", "absent", "contradicted")
"""What is in the scene besides the subject, and what the text says of it; see ``docs/dataset.md``.

"referred": the scene holds copies of the subject, and the text picks one.  "contradicted": the subject is there, but
not as the text says.
"""

REFERENTLESS = ("absent", "contradicted")
"""Types whose text means nothing in the scene: the truth is empty."""

ROLES = ("subject", "look-alike", "landmark", "other")
"""What a thing is to a query.  A copy of the subject that the text does not mean is a look-alike of grade "copy"."""

GRADES = ("colour", "second", "pattern", "swap", "build", "copy")
"""In what a look-alike differs from the subject: main colour, second colour, pattern, colours swapped, shape; nothing.
"""

CONTROLS = ("noun-only", "untrained-token", "another-subject")
"""Concepts that learned nothing of the subject: what a learner has to beat."""

UNLEARNED = (*CONTROLS, "none")
"""What a concept's learner may be called where nobody learned it; "none" is that of methods without concepts."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One particular thing, known by its class word and a few photos.

    ``masks`` are the visible parts of it in the photos, None where that is not known; empty when none is known.
    Photos and masks in any memory layout, or Pillow images, become arrays (``arrays.as_image``, ``as_mask``).
    Raises DataError, naming photo or mask, for what is none.
    """

    id: str
    noun: str
    photos: tuple[MadeImage, ...]
    masks: tuple[MadeMask | None, ...] = ()

    def __post_init__(self) -> None:
        photos = tuple(as_image(each, f"photo {n} of {self.id!r}") for n, each in enumerate(self.photos, 1))
        masks = tuple(
            None if each is None else as_mask(each, f"mask {n} of {self.id!r}") for n, each in enumerate(self.masks, 1)
        )
        object.__setattr__(self, "photos", photos)
        object.__setattr__(self, "masks", masks)


@dataclass(frozen=True, eq=False)
class Concept:
    """What a learner (or a control) remembers of a subject.

    ``id`` is a content hash: the same backbone, photos, recipe and seed give the same id.
    ``learner`` is a learner's name ("textual-inversion") or a control's ("noun-only", "untrained-token", "none").
    ``calibration`` holds, under the key of the settings that saw it, what the subject's own photos show a method.
    """

    id: str
    subject_id: str
    noun: str
    learner: str
    backbone: str | None = None
    tensors: Mapping[str, Float[np.ndarray, "..."]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Query:
    """A text about one scene, with the slot ``{subject}``.  Holds nothing of the truth."""

    id: str
    subject_id: str
    text: str


@dataclass(frozen=True, eq=False)
class Thing:
    """One thing of a scene, as far as it is known: its visible part, class word, role (``ROLES``), and for a look-alike
    in what it differs from the subject (``GRADES``), None where that is not known.
    """

    mask: Bool[np.ndarray, "h w"]
    noun: str | None
    role: str
    grade: str | None = None


@dataclass(frozen=True, eq=False)
class Example:
    """A query with its scene and its truth; methods never see one.

    ``mask`` is the visible part of what the text means; it is empty exactly when ``query_type`` is in ``REFERENTLESS``.
    ``look_alikes`` are the visible masks of other instances of the same noun.  ``things`` are all that is known of the
    scene, empty where nothing is; ``meant`` says which of them the text means.  The two queries of a pair share
    ``pair_id``: texts about one scene that differ in one phrase.
    """

    query: Query
    query_type: str
    image_id: str
    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    look_alikes: tuple[Bool[np.ndarray, "h w"], ...] = ()
    things: tuple[Thing, ...] = ()
    meant: int | None = None
    pair_id: str | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """A method's answer to one query.

    ``mask`` None means "the subject is not in this scene".  ``peak_yx`` is the pixel the method is surest of (for the
    pointing game); None when the method has no such notion.  ``presence`` in 0..1 is the method's confidence that the
    subject is there, None when it has none.  ``score`` is the soft map in 0..1 the mask was cut from, when kept.
    """

    query_id: str
    mask: Bool[np.ndarray, "h w"] | None
    peak_yx: tuple[int, int] | None = None
    presence: float | None = None
    score: Float[np.ndarray, "h w"] | None = None
    seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Candidate:
    """A part of a photo that a method considers as the subject; ``score`` in 0..1 says how much."""

    mask: Bool[np.ndarray, "h w"]
    score: float


@runtime_checkable
class TellsCost(Protocol):
    """What a method may also have: what a photo costs."""

    def cost(self, photo_hw: tuple[int, int]) -> str:
        """Seconds, memory or passes for a photo of that size, in a few words; printed before a run starts."""
        ...


@runtime_checkable
class WantsSubjects(Protocol):
    """What a method may also have: a place for all subjects of the split, set before any is learned.

    A control may learn another subject than the one it is called with.
    """

    subjects: Sequence[Subject]


@runtime_checkable
class KeepsConcepts(Protocol):
    """What a method may also have: concepts that it keeps on disk, where it finds what it learned before.

    Without it, each process of a run that is shared learns the subjects of its own share, unless ``WholeConcepts``.
    """

    def known(self, subject: Subject) -> Path | None:
        """Where the subject's concept is kept; None where ``learn`` would have to learn it."""
        ...


@runtime_checkable
class WholeConcepts(Protocol):
    """What a method may also have: its word that ``locate`` needs nothing of ``learn`` but the concept that it gave.

    Then the processes that share a run learn each subject once, and read its concept from disk otherwise: ``tensors``,
    and ``recipe`` and ``calibration`` as JSON gives them back.
    """

    concepts_are_whole: bool


@runtime_checkable
class KnowsItsWorld(Protocol):
    """What a method may also have: a measure of how far a photo is from what its model was trained on."""

    name: str

    def strangeness(self, image: Any) -> Any:
        """An ``out_of_domain.Strangeness``; None where nobody measured it."""
        ...


@runtime_checkable
class GivesCandidates(Protocol):
    """What a method may also have: the parts of a photo to choose among, before it chooses itself."""

    def candidates(self, image: UInt8[np.ndarray, "h w 3"], subject: Subject) -> Sequence[Candidate]:
        """The parts that may be the subject, the likeliest first; none where nothing is considered.

        Masks have the photo's size, hold a pixel each, and may overlap.  The scores of one photo are
        comparable with each other.  Whether the subject is there at all is not said: see ``locate``.
        """
        ...


@runtime_checkable
class TellsForm(Protocol):
    """What a method may also have, for the record of a run."""

    @property
    def template(self) -> str:
        """The text around the subject's words, with ``{text}`` in their place."""
        ...

    @property
    def precision(self) -> str:
        """The type of its numbers, like "float32"."""
        ...


@runtime_checkable
class LooksAhead(Protocol):
    """What a method may also have: a look at several scenes at once, before it is asked about each of them.

    Answers are the same without it, to rounding.  It is called where a run is told to (``RunOptions.scenes_at_once``).
    """

    def look_ahead(self, images: Sequence[UInt8[np.ndarray, "_h _w 3"]]) -> None:
        """Encode these scenes together, of one size or of several; the next calls of ``locate`` are about them."""
        ...


@runtime_checkable
class KnowsItsTask(Protocol):
    """What a method may also have: how well its model does what it was trained for."""

    @property
    def own_task(self) -> Any:
        """An ``own_task.OwnTask``; None where nobody measured it."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """What a method may also have: the settings that ``prisbench tune`` may change, as ``--set`` names them.

    A list holds the values; ``(low, high)`` and ``(low, high, "log")`` are numbers between (``tuning.space``).
    """

    tunable: Mapping[str, Any]


@runtime_checkable
class Method(Protocol):
    """What is compared.  No base class: anything with these members is a method.

    ``settings`` are the numbers that decide the masks; they are recorded in every run.  A method may also have
    ``model`` (the name of its weights, for the record of a run) and ``weights``: the files, folders or hub ids whose
    content decides the masks, or a mapping of names to what identifies their content; default: ``model``.  A run goes
    on only with the same settings, code and weights.  Further members that are used where a method has them:
    ``TellsCost``, ``TellsForm``, ``WantsSubjects``, ``KeepsConcepts``, ``WholeConcepts``, ``KnowsItsWorld``,
    ``KnowsItsTask``, ``Tunable`` and ``LooksAhead``.  ``GivesCandidates`` is for people and programs that choose among
    parts.  What a method may use itself is in ``MethodOptions``.
    """

    name: str

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain JSON values."""
        ...

    def learn(self, subject: Subject) -> Concept:
        """Remember a subject from its photos and noun."""
        ...

    def locate(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        queries: Sequence[Query],
        concepts: Mapping[str, Concept],
    ) -> list[Prediction]:
        """Answer all queries about one image, in their order.

        ``concepts`` maps subject ids to what ``learn`` returned.  The same image, query and concept give the same
        prediction whatever other queries are in the same call.
        """
        ...
