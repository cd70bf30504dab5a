"""``attn``, the method of this project: attention of a text-to-image diffusion model behind the seam of all methods.

Knows: a learner or a control, a localizer's settings, where concepts are kept.  Does not know: datasets, truth, scores.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prisbench.concepts.recipes import (
    LEARNERS,
    Recipe,
    as_record,
    changed,
    default_recipe,
    numbers,
    on_device,
)
from prisbench.deaf import other_subject
from prisbench.errors import UnknownNameError, UsageError, WriteError
from prisbench.images.arrays import ImageLike
from prisbench.localizer.presence import CALIBRATED, Presence, calibrated, calibration_key, in_use
from prisbench.out_of_domain import Strangeness
from prisbench.runtime.devices import computes_bfloat16
from prisbench.runtime.files import cache_folder, check_writable
from prisbench.runtime.locks import locked
from prisbench.settings import MethodOptions, folded, take_settings
from prisbench.types import CONTROLS, SLOT, Candidate, Concept, Prediction, Query, Subject

if TYPE_CHECKING:
    from prisbench.diffusion.backbone import Backbone

CONCEPTS = (*LEARNERS, *CONTROLS)
"""What ``attn`` can know of a subject: a learner's concept, or a control's."""


ONE_OF_SEVERAL = {"localizer.timestep": "localizer.timesteps"}
"""The published method has one timestep, so users say it in the singular."""


TUNABLE = {
    "localizer.tau": (0.1, 0.6),
    "localizer.presence": (0.05, 0.6, "log"),
    "localizer.hops": [0, 1, 2],
    "localizer.places.power": [0.0, 0.5, 1.0, 2.0],
    "localizer.evidence.power": [0.0, 0.25, 0.5, 1.0],
}
"""What ``prisbench tune`` may change; nothing of it touches learning, so that concepts are learned once."""

PARTS = ("localizer.evidence", "localizer.places", "localizer.crf", "localizer.adaptive", "learner.prior")
"""Settings that have parts: ``localizer.places.power=1`` is one of them."""


class AttentionMethod:
    """``attn``: the attention of a text-to-image diffusion model, with a learned concept or a control."""

    name = "attn"
    tunable: Mapping[str, Any] = TUNABLE

    def __init__(
        self, backbone: Backbone, localizer: Any, concept: str, recipe: Recipe, seed: int, store: Path
    ) -> None:
        self.backbone, self.localizer, self.concept, self.recipe = backbone, localizer, concept, recipe
        self.seed, self.store, self.encodings = seed, store, cache_folder() / "encodings"
        self.progress: Callable[[int, int, float], None] | None = None
        self.say: Callable[[str], None] = lambda _: None
        self.warn: Callable[[str], None] | None = None
        """Told what the user should know in any case; None: ``say`` is."""
        self.spare: Path | None = None
        """Where concepts are kept when the store cannot be written; None: that is an error, before learning."""
        self._mentioned = False
        self.subjects: Sequence[Subject] = ()
        """Whose concept "another-subject" may take; whoever has the subjects puts them here."""

    @staticmethod
    def check(options: MethodOptions) -> str:
        """What is wrong with the options in any backbone's family, before weights are loaded; gives the learner.

        Raises UnknownNameError, UsageError.
        """
        concept, given = options.concept or LEARNERS[0], folded(options.settings, PARTS)
        if concept not in CONCEPTS:
            raise UnknownNameError("concept", concept, CONCEPTS)
        stray = [k for k in given if not k.startswith(("localizer.", "learner."))]
        if stray:
            raise UsageError(f"unknown setting {stray[0]!r}: those of attn begin with 'localizer.' or 'learner.'")
        # A control takes what it needs (how many vectors) from the numbers of the first learner.
        learner = concept if concept in LEARNERS else LEARNERS[0]
        _learner_recipe(default_recipe("sd", learner), given)
        return learner

    @classmethod
    def make(cls, options: MethodOptions, backbone: Backbone | None = None) -> AttentionMethod:
        """The method that the options ask for; ``backbone``, where it is loaded already."""
        learner = cls.check(options)
        key = ("backbone", options.model, options.device)
        given = {ONE_OF_SEVERAL.get(key, key): value for key, value in folded(options.settings, PARTS).items()}

        import torch

        from prisbench.concepts.store import default_store
        from prisbench.diffusion.loading import load_backbone
        from prisbench.diffusion.noise import check_timesteps
        from prisbench.localizer.presets import default_settings
        from prisbench.runtime.processes import processes

        processes(torch.device(options.device))  # where several were started, each takes its own GPU as "cuda"
        chosen = given.pop("localizer.preset", None)
        own_photos_decide = given.get("localizer.presence") == CALIBRATED and given.pop("localizer.presence")
        overrides = {k for k in given if k.startswith("localizer.")}
        backbone = backbone or options.shared.get(key) or load_backbone(options.model, options.device)
        options.shared[key] = backbone
        recipe = _learner_recipe(default_recipe(backbone.family, learner), given)
        recipe = on_device(recipe, computes_bfloat16(backbone.device.type))
        settings = default_settings(backbone, None if chosen is None else str(chosen))
        take_settings(dataclasses.asdict(settings), given, "localizer.")
        with _sensible(given):
            changes = {
                k.removeprefix("localizer."): _like(getattr(settings, k.removeprefix("localizer.")), given[k], k)
                for k in overrides
            }
            settings = dataclasses.replace(settings, **changes)
        settings = calibrated(settings) if own_photos_decide else settings
        check_timesteps(backbone, "localizer.timesteps", settings.timesteps)
        check_timesteps(backbone, "localizer.evidence", settings.evidence.timesteps)
        start, stop = recipe.loop.timesteps
        check_timesteps(backbone, "learner.timesteps", (start, stop - 1))
        store = Path(options.store) if options.store else default_store()
        method = cls(backbone, settings, options.concept or LEARNERS[0], recipe, options.seed, store)
        method.progress, method.say, method.warn = options.progress, options.say, options.warn
        method.spare = options.spare
        return method

    @property
    def settings(self) -> Mapping[str, Any]:
        learner: dict[str, Any] = {"seed": self.seed}
        if self.concept == "untrained-token":
            learner["vectors"] = numbers(self.recipe)["vectors"]
        elif self.concept != "noun-only":
            learner = as_record(self.recipe, self.seed)
        return {"localizer": self.localizer.as_record(), "learner": learner}

    @property
    def model(self) -> str:
        """The backbone's id, for the record of a run."""
        return self.backbone.id

    @property
    def weights(self) -> Mapping[str, str]:
        """What the backbone's id, which has a hash of its weights, does not say of it."""
        return {self.backbone.id: f"{self.backbone.configuration[:16]} {self.backbone.dtype}"}

    @property
    def template(self) -> str:
        return self.localizer.template

    @property
    def precision(self) -> str:
        return str(self.backbone.dtype).removeprefix("torch.")

    def cost(self, photo_hw: tuple[int, int]) -> str:
        """What a photo of that size takes, in words."""
        from prisbench.localizer.observe import cost

        return f"{cost(self.backbone, self.localizer, photo_hw)}; {self.presence().line}"

    def presence(self, concept: Concept | None = None) -> Presence:
        """The threshold below which the answer is "not here"; ``concept`` None: of one that is calibrated."""
        key = calibration_key(self.localizer)
        return in_use(self.localizer, self.backbone.family, key, concept)

    def strangeness(self, image: ImageLike) -> Strangeness | None:
        """How far a photo is from the world that the backbone was trained on; None where nobody measured that world."""
        from prisbench.own_world import strangeness

        return strangeness(self.backbone, image)

    def learn(self, subject: Subject) -> Concept:
        """The concept of a subject: from the store when it was learned before, else learned and stored.

        Also what its photos show the localizer, which "not here" is measured by.  Of several processes that want the
        same concept, one learns it and the others wait for it.
        """
        with self._turn(subject):
            return self._learn(subject)

    @contextlib.contextmanager
    def _turn(self, subject: Subject) -> Iterator[None]:
        """This process's turn at a concept of the store; a store that cannot be written says so when it is used."""
        from prisbench.concepts import learners
        from prisbench.runtime.processes import processes

        learned = self.concept in LEARNERS or self.concept == "another-subject"
        with contextlib.ExitStack() as stack:
            if learned and processes(self.backbone.device) is None:
                own = self.concept in LEARNERS
                thing = subject if own else other_subject(subject, self.subjects)
                learner = self.concept if own else LEARNERS[0]
                key = learners.key(self.backbone, thing, learner, self.recipe, self.seed)
                with contextlib.suppress(WriteError):
                    stack.enter_context(locked(self.store, f".lock-{key}", wait=True, say=self.say))
            yield

    def _learn(self, subject: Subject) -> Concept:
        from prisbench.concepts import controls, learners, store
        from prisbench.concepts.watch import Watch
        from prisbench.localizer.answer import calibrate

        vectors = numbers(self.recipe).get("vectors", 1)
        self._mention_encodings()
        watch = Watch(self.progress, self.say, self.store, encodings=self.encodings, spare=self.spare, warn=self.warn)
        if self.concept == "noun-only":
            concept = controls.noun_only(subject)
        elif self.concept == "untrained-token":
            concept = controls.untrained_token(self.backbone, subject, vectors, self.seed)
        elif self.concept == "another-subject":
            other = other_subject(subject, self.subjects)
            learned = learners.learn(self.backbone, other, LEARNERS[0], self.recipe, self.seed, watch)
            concept = controls.another_subject(learned, subject)
        else:
            concept = learners.learn(self.backbone, subject, self.concept, self.recipe, self.seed, watch)
        concept = dataclasses.replace(concept, subject_id=subject.id)
        known = dict(concept.calibration)
        concept = calibrate(self.backbone, concept, subject.photos, self.localizer, self.encodings)
        if self.concept in LEARNERS and concept.calibration != known:
            try:
                store.keep_concept(concept, [self.store, *([self.spare] if self.spare else [])], lambda _: None)
            except WriteError as error:  # what was measured is in hand, and measured again next time
                watch.caution(f"{error}; what the photos of {subject.id!r} show of its presence is not kept")
        return concept

    def known(self, subject: Subject) -> Path | None:
        """The folder of a subject's concept, where it was learned before; None for one that is to be learned."""
        from prisbench.concepts import learners

        if self.concept not in LEARNERS or not subject.photos:
            return None
        return self.kept(learners.key(self.backbone, subject, self.concept, self.recipe, self.seed))

    def kept(self, concept_id: str) -> Path | None:
        """The folder in which ``learn`` keeps a concept; None for one that is not kept, as a control."""
        places = [store / concept_id for store in (self.store, self.spare) if store is not None]
        return next((place for place in places if (place / "concept.json").is_file()), None)

    def _mention_encodings(self) -> None:
        """Say once where the encoders' results cannot be kept; they are computed each time then."""
        if self._mentioned:
            return
        self._mentioned = True
        try:
            check_writable(self.encodings)
        except WriteError as error:
            (self.warn or self.say)(f"{error}; what the encoders make is not kept, and computed each time")

    def locate(self, image: ImageLike, queries: Sequence[Query], concepts: Mapping[str, Concept]) -> list[Prediction]:
        from prisbench.localizer import answer

        self._mention_encodings()
        return answer.locate(self.backbone, image, queries, concepts, self.localizer, self.encodings)

    def candidates(self, image: ImageLike, subject: Subject) -> list[Candidate]:
        """The connected parts of the subject's mask in a photo, the highest in its map first; see ``GivesCandidates``.

        Learns the subject where that was not done before.
        """
        from prisbench.localizer import answer
        from prisbench.localizer.observe import observe_all
        from prisbench.localizer.texts import Reader

        concept, query = self.learn(subject), Query("candidates", subject.id, f"a photo of a {SLOT}")
        reader = Reader(self.backbone, self.localizer, self.encodings)
        (seen,) = observe_all(reader, image, [query], {subject.id: concept})
        return answer.candidates(seen, image, self.localizer)


def _learner_recipe(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The recipe with the settings ``learner.NAME`` put in."""
    known = numbers(recipe)
    taken = take_settings(known, given, "learner.")
    with _sensible(given):
        return changed(recipe, **{name: _like(known[name], value, f"learner.{name}") for name, value in taken.items()})


@contextlib.contextmanager
def _sensible(given: Mapping[str, Any]) -> Iterator[None]:
    """Turn what values of a wrong kind provoke in the checks of settings into one line."""
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        said = ", ".join(f"{key}={value!r}" for key, value in given.items())
        raise UsageError(f"settings that make no sense ({said}): {error}") from None


def _like(old: Any, new: Any, name: str = "") -> Any:
    """``new`` in the shape of ``old``: JSON has lists where settings have tuples, and no dataclasses.

    Raises UnknownNameError and UsageError for parts of a dataclass, which are called ``name.PART``.
    """
    if isinstance(old, tuple):
        return tuple(new) if isinstance(new, list | tuple) else (new,)
    if isinstance(old, float) and isinstance(new, int):
        return float(new)  # 1 and 1.0 are one setting, and one concept
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {key: _like(1.0, value) for key, value in new.items()}
    if dataclasses.is_dataclass(old) and not isinstance(old, type) and isinstance(new, Mapping):
        known = {field.name: getattr(old, field.name) for field in dataclasses.fields(old)}
        taken = take_settings(known, {f"{name}.{key}": value for key, value in new.items()}, f"{name}.")
        return dataclasses.replace(
            old, **{key: _like(known[key], value, f"{name}.{key}") for key, value in taken.items()}
        )
    return new
