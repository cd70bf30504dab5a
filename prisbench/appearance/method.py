"""``attn-features`` behind the seam of all methods: ``attn``'s words, and looks of the subject where they find it.

Knows: ``attn``, models of looks, weights.  Does not know: truth, datasets.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from prisbench.appearance.agreement import agreed
from prisbench.appearance.choice import FILE, MAP, NAME, choose
from prisbench.appearance.known import Looks, Things
from prisbench.appearance.sight import OWN_PHOTO, Among, Sight, blank, look, outlined
from prisbench.errors import UnknownNameError, UsageError
from prisbench.images.arrays import ImageLike, as_image
from prisbench.images.photos import pixels_sha256
from prisbench.localizer.method import AttentionMethod
from prisbench.localizer.observe import cost
from prisbench.localizer.settings import Evidence as EvidenceSettings
from prisbench.localizer.texts import Reader
from prisbench.network_free.colours import BALANCES, mask_resized, shrunk
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.method import answer_of, candidates_of, reference_of
from prisbench.network_free.model import SubjectModel, learn
from prisbench.network_free.predictors import PREDICTORS, check_installed
from prisbench.network_free.weights import Weights, weights_for
from prisbench.out_of_domain import Strangeness
from prisbench.own_world import strangeness_to
from prisbench.reid.network import Knower
from prisbench.results import REFERENCES
from prisbench.runtime.files import read_bytes, sha256_bytes, sha256_json
from prisbench.settings import MethodOptions, take_settings
from prisbench.small_networks import WEIGHTS
from prisbench.things.regions import Finder
from prisbench.types import Candidate, Concept, Prediction, Query, Subject

VERSION = 1
"""Of how looks are counted; a concept's id holds it."""

REGIONS = ("found", "things")
"""What is compared: regions cut from maps, and the things that a network finds which was trained on outlines."""

LOOKS = ("counted", "learned")
"""How looks are compared: counted, and also by a network that learned on look-alikes to know things again."""


@dataclass(frozen=True)
class Own:
    """This method's own settings.

    ``balance``: one of ``colours.BALANCES``.  ``threshold``: the presence below which the subject is said to be absent;
    -1 is the one that was fitted on validation.  ``regions``: one of REGIONS; ``looks``: one of LOOKS.  ``things``,
    ``reid``: folders of the networks that find things and know them again, "embedded" for those that come along.
    ``wordless``: the control that asks no word of the backbone.
    """

    balance: str = "none"
    threshold: float = -1.0
    regions: str = "found"
    things: str = "embedded"
    looks: str = "counted"
    reid: str = "embedded"
    wordless: bool = False

    @property
    def kind(self) -> str:
        """Under which weights are kept: the regions, and the looks that are not counted."""
        return self.regions if self.looks == LOOKS[0] else f"{self.regions}, {self.looks}"


PLAIN = Own()
DEFAULTS = asdict(PLAIN)

PREFIX, VECTORS = "features.", "vectors"
"""Of this method's settings, and of the tensors that it keeps in a concept; the tensor that a network made."""

SUFFIX, REID, WORDLESS = "+things", "+reid", "-wordless"
"""Of the names of the method that compares things, of the one that knows them again, and of the control: their rows are
other methods'."""


class FeaturesMethod:
    """A method beside ``attn``, which stays words alone."""

    tunable: Mapping[str, Any] = {
        "features.threshold": (0.0, 0.6),
        "features.balance": list(BALANCES),
        "localizer.hops": [0, 1, 2],
    }
    """What ``prisbench tune`` may change; concepts of words are learned once, looks are counted again by balance."""

    def __init__(self, words: AttentionMethod, own: Own = PLAIN) -> None:
        check_installed(PREDICTORS["combined"])
        self.words, self.own, self.threshold = words, own, own.threshold
        self.finder = Finder(own.things) if own.regions == "things" else None
        self.knower = Knower(own.reid) if own.looks == LOOKS[1] else None
        more = ((SUFFIX, self.finder), (REID, self.knower), (WORDLESS, own.wordless or None))
        self.name = NAME + "".join(suffix for suffix, there in more if there is not None)
        self._counted: dict[str, Mapping[str, np.ndarray]] = {}

    @staticmethod
    def check(options: MethodOptions) -> None:
        """What is wrong with the options, before weights are loaded.  Raises UnknownNameError, UsageError."""
        own, others = _parted(options)
        if own.wordless and options.concept not in (None, "noun-only"):
            raise UsageError(f"{PREFIX}wordless=true learns nothing; it needs --concept noun-only")
        AttentionMethod.check(others)

    @classmethod
    def make(cls, options: MethodOptions) -> FeaturesMethod:
        """``localizer.*`` and ``learner.*`` are ``attn``'s; ``features.balance``, ``features.threshold`` this one's."""
        own, others = _parted(options)
        return cls(AttentionMethod.make(others), own)

    @property
    def settings(self) -> Mapping[str, Any]:
        own: dict[str, Any] = {"balance": self.own.balance, "threshold": self.threshold}
        return {**self.words.settings, "features": own | self._unusual()}

    def _unusual(self) -> dict[str, Any]:
        """Those settings that make it another method, where they are not as they come."""
        return {
            name: getattr(self.own, name)
            for name in ("regions", "looks", "wordless")
            if getattr(self.own, name) != DEFAULTS[name]
        }

    @property
    def model(self) -> str:
        """The backbone's id, for the record of a run."""
        return self.words.model

    @property
    def weights(self) -> Mapping[str, str]:
        own = {FILE.name: sha256_bytes(read_bytes(FILE))[:16]}
        if self.finder is not None:
            own["things"] = sha256_bytes(read_bytes(self.finder.folder / WEIGHTS))[:16]
        if self.knower is not None:
            own["reid"] = sha256_bytes(read_bytes(self.knower.folder / WEIGHTS))[:16]
        return {**self.words.weights, **own}

    @property
    def template(self) -> str:
        return self.words.template

    @property
    def precision(self) -> str:
        return self.words.precision

    @property
    def subjects(self) -> Sequence[Subject]:
        """Whose concept "another-subject" may take."""
        return self.words.subjects

    @subjects.setter
    def subjects(self, subjects: Sequence[Subject]) -> None:
        self.words.subjects = subjects

    def cost(self, photo_hw: tuple[int, int]) -> str:
        """What a photo of that size takes, in words."""
        return f"{cost(self.words.backbone, self.reader().settings, photo_hw)}; and its colours, textures and patches"

    def strangeness(self, image: ImageLike) -> Strangeness | None:
        """As ``attn``'s; on a backbone that knows anything, that of the finder of things."""
        found = self.words.strangeness(image)
        return strangeness_to(self.finder.folder, image) if found is None and self.finder is not None else found

    def learn(self, subject: Subject) -> Concept:
        """``attn``'s concept, from its store or learned now, and what the subject looks like where its words find it.

        Raises DataError, before anything is learned, where no weights were fitted for what is given of the subject.
        """
        self._fitted(reference_of(subject))
        return self.remember(subject)

    def remember(self, subject: Subject) -> Concept:
        """``learn``, whether or not weights were fitted, for those who fit them.

        Looks are counted once for each set of photos and masks, which takes about as long as a scene for each photo.
        """
        concept = self.words.learn(subject)
        key = sha256_json([concept.id, *map(pixels_sha256, subject.photos), *map(_mask_sha256, subject.masks)])
        if key not in self._counted:
            whole = outlined(self.photo_reader(), subject, concept, self.among(subject))
            self._counted[key] = learn(whole, self.own.balance).tensors() | self._vectors(whole)
        looks = self._counted[key]
        own = {"balance": self.own.balance, "reference": reference_of(subject), "version": VERSION} | self._unusual()
        sums = {name: sha256_bytes(np.ascontiguousarray(each).tobytes()) for name, each in looks.items()}
        return dataclasses.replace(
            concept,
            id=sha256_json([concept.id, own, sums])[:16],
            tensors={**concept.tensors, **{PREFIX + name: each for name, each in looks.items()}},
            recipe={**concept.recipe, "features": own},
        )

    def _vectors(self, subject: Subject) -> dict[str, Float32[np.ndarray, "p e"]]:
        """Of the subject in each of its photos, masks known; nothing without a network that makes them."""
        if self.knower is None:
            return {}
        found = []
        for photo, mask in zip(subject.photos, subject.masks, strict=True):
            small = shrunk(photo)
            whole = np.ones(small.shape[:2], bool) if mask is None else mask_resized(mask, small.shape[:2])
            found.append(self.knower(small, [whole if whole.any() else ~whole])[0])
        return {VECTORS: np.stack(found)}

    def locate(self, image: ImageLike, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        """Each query's mask has the image's size; None where the presence is below the threshold."""
        start, whole = time.perf_counter(), as_image(image)
        sights = self.sights(whole, queries, concepts)
        scene, seen = Scene(shrunk(whole), self.own.balance), dict[str, Looks]()
        things = self.things(scene)
        shared, answers = (time.perf_counter() - start) / max(1, len(queries)), []
        for query, sight in zip(queries, sights, strict=True):
            start, concept = time.perf_counter(), concepts[query.subject_id]
            looks = seen.setdefault(query.subject_id, looks_of(scene, concept))
            weights = self._fitted(concept.recipe["features"]["reference"])
            found = choose(looks, sight, self.words.localizer, weights, query.text, things)
            threshold = weights.threshold if self.threshold < 0 else self.threshold
            map_ = (getattr(looks.evidence, MAP) + sight.map_) / 2
            answer = answer_of(query.id, scene, map_, found, threshold, whole.shape[:2])
            answers.append(dataclasses.replace(answer, seconds=shared + time.perf_counter() - start))
        return answers

    def candidates(self, image: ImageLike, subject: Subject) -> list[Candidate]:
        """The regions that were compared, the likeliest first; the text takes no part."""
        concept, query, whole = self.learn(subject), Query("candidates", subject.id, OWN_PHOTO), as_image(image)
        (sight,) = self.sights(whole, [query], {subject.id: concept})
        scene = Scene(shrunk(whole), self.own.balance)
        weights = self._fitted(reference_of(subject))
        looks, things = looks_of(scene, concept), self.things(scene)
        found = choose(looks, sight, self.words.localizer, weights, query.text, things)
        return candidates_of(found, whole.shape[:2])

    def sights(self, photo: ImageLike, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Sight]:
        """What the words of each query show; nothing, where none is asked."""
        if not self.own.wordless:
            return look(self.reader(), photo, queries, concepts)
        return [blank(photo)] * len(queries)

    def photo_reader(self) -> Reader | None:
        """What a subject's own photos are read with, None where no word is asked."""
        return None if self.own.wordless else self.reader(evidence=True)

    def reader(self, evidence: bool = False) -> Reader:
        """What the words are read with.  Evidence is worth its passes where nothing else is known of the subject."""
        settings = self.words.localizer
        settings = settings if evidence else dataclasses.replace(settings, evidence=EvidenceSettings())
        return Reader(self.words.backbone, settings, self.words.encodings)

    def things(self, scene: Scene, masks: Sequence[Bool[np.ndarray, "h w"]] | None = None) -> Things:
        """Those of a scene at its working size, or ``masks`` instead; none where regions are cut from maps."""
        if masks is None:
            masks = () if self.finder is None else self.finder(scene.image)
        return Things(masks, None if self.knower is None else self.knower(scene.image, masks))

    def among(self, subject: Subject) -> Among | None:
        """How the subject is found in its own photos: among found things, the one that all photos agree on."""
        if self.finder is None or reference_of(subject) == REFERENCES[1]:
            return None
        choice = partial(agreed, weights=self._fitted(REFERENCES[1]), map_=MAP)
        return Among(self.finder, choice, self.own.balance, self.knower)

    def _fitted(self, reference: str) -> Weights:
        given = {name: each for name, each in self._unusual().items() if name != "wordless"}
        more = "".join(f" --set {PREFIX}{name}={each}" for name, each in given.items())
        more = f" --reference {reference}{more}" if more else ""
        return weights_for(reference, self.own.kind, NAME, FILE, command=NAME + more)


def _mask_sha256(mask: np.ndarray | None) -> str | None:
    return None if mask is None else sha256_bytes(np.packbits(mask).tobytes() + repr(mask.shape).encode())


def looks_of(scene: Scene, concept: Concept) -> Looks:
    """What ``learn`` counted, in a scene.  Raises DataError for a concept of another method."""
    counted = {name.removeprefix(PREFIX): each for name, each in concept.tensors.items() if name.startswith(PREFIX)}
    model = SubjectModel.of(dataclasses.replace(concept, tensors=counted))
    return Looks(Evidence(scene, model), counted.get(VECTORS))


def _parted(options: MethodOptions) -> tuple[Own, MethodOptions]:
    """This method's own settings, and the options of ``attn``."""
    known = (PREFIX, "localizer.", "learner.")
    if stray := [key for key in options.settings if not key.startswith(known)]:
        raise UsageError(f"unknown setting {stray[0]!r}: those of {NAME} begin with {', '.join(map(repr, known))}")
    own = take_settings(DEFAULTS, options.settings, PREFIX)
    if own["balance"] not in BALANCES:
        raise UnknownNameError("balance", str(own["balance"]), BALANCES)
    if own["regions"] not in REGIONS:
        raise UnknownNameError("kind of regions", str(own["regions"]), REGIONS)
    if own["looks"] not in LOOKS:
        raise UnknownNameError("kind of looks", str(own["looks"]), LOOKS)
    if own["looks"] != DEFAULTS["looks"] and own["regions"] != "things":
        raise UsageError(f"{PREFIX}looks={own['looks']} knows things again; it needs {PREFIX}regions=things")
    if own["reid"] != DEFAULTS["reid"] and own["looks"] != LOOKS[1]:
        raise UsageError(f"{PREFIX}reid names a network that knows things again; it needs {PREFIX}looks=learned")
    if own["things"] != DEFAULTS["things"] and own["regions"] != "things":
        raise UsageError(f"{PREFIX}things names a network that finds things; it needs {PREFIX}regions=things")
    threshold = own["threshold"]
    if threshold is None or (threshold != DEFAULTS["threshold"] and not 0 <= threshold <= 1):
        raise UsageError(f"{PREFIX}threshold={threshold}: give a presence in 0..1, or -1 for the one that was fitted")
    others = {key: value for key, value in options.settings.items() if not key.startswith(PREFIX)}
    return Own(**own), dataclasses.replace(options, settings=others)
