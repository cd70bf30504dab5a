"""The weights of the predictors, fitted on a validation split: what a region's likeness says of its being the subject.

Places among copies are the text's affair: a copy of the subject is as right as the subject itself here, and the subject
of a text that contradicts the scene is right, too.  What texts say of place gets one number, the reader's ``power``.

Knows: examples with their truth.  Does not know: test splits; nothing here chooses one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.regions import iou
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.likeness import NAMES, likeness
from prisbench.network_free.model import SubjectModel, learn
from prisbench.network_free.predictors import PREDICTORS
from prisbench.network_free.reader import FindLandmark, by_colour, grades
from prisbench.network_free.regions import parts
from prisbench.network_free.weights import FILE, Weights, fit_logistic, read_weights
from prisbench.phrases import parse
from prisbench.results import REFERENCES
from prisbench.runtime.files import read_json, write_json
from prisbench.types import REFERENTLESS, Example, Subject

RIGHT = 0.5
"""Intersection over union from which a region is the subject."""

POWERS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Weights of the text that are tried."""

THRESHOLDS = (0.0, 0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
"""Presences that are tried as the least."""

REGIONS = ("found", "outlines")
"""Regions cut from a map, and the true outlines of a scene's things."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One query's regions: their likeness, columns as ``NAMES``; their overlap with what the text means, and with all
    that looks like the subject; what grades the regions by the text, from their chances, None without a condition.
    """

    query_id: str
    query_type: str
    rows: Float[np.ndarray, "n f"]
    meant: Float[np.ndarray, " n"]
    alike: Float[np.ndarray, " n"]
    grade: Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]] | None


Told = Callable[[int], None]


def fit(
    subjects: Iterable[Subject], examples: Iterable[Example], balance: str = "none", told: Told = lambda _: None
) -> dict[str, dict[str, Any]]:
    """Kind of regions -> predictor -> ``Weights.record``, for subjects as a method gets them (with masks or without).

    ``told`` is called with the number of queries seen.  Raises DataError where a kind has no region.
    """
    models = {subject.id: learn(subject, balance) for subject in subjects}
    seen: dict[str, dict[str, list[Seen]]] = {kind: {name: [] for name in PREDICTORS} for kind in REGIONS}
    for n, example in enumerate(examples, 1):
        for kind, predictor, each in look(example, models[example.query.subject_id], balance):
            seen[kind][predictor].append(each)
        told(n)
    found: dict[str, dict[str, Any]] = {}
    for kind in REGIONS:
        found[kind] = {}
        for name, rows in seen[kind].items():
            try:
                found[kind][name] = fit_one(name, rows).record()
            except DataError as error:
                raise DataError(f"{name}, {kind} regions: {error}") from None
    return found


def look(example: Example, model: SubjectModel, balance: str) -> Iterator[tuple[str, str, Seen]]:
    """What each predictor sees of an example, by kind of regions."""
    evidence = Evidence(Scene(shrunk(example.image), balance), model)
    size_hw = evidence.scene.size_hw
    things = [mask_resized(thing.mask, size_hw) for thing in example.things]
    things = [thing for thing in things if thing.any()]
    of_map: dict[str, Seen] = {}
    for name, predictor in PREDICTORS.items():
        if predictor.map_ not in of_map:
            cut = parts(getattr(evidence, predictor.map_))
            of_map[predictor.map_] = seen_of(example, evidence, cut, predictor.map_, by_colour(evidence.scene))
        yield "found", name, of_map[predictor.map_]
    if things:
        whole = seen_of(example, evidence, things, "together", by_colour(evidence.scene, things))
        for name, predictor in PREDICTORS.items():
            if predictor.map_ == "together":
                yield "outlines", name, whole
            else:
                rows = whole.rows.copy()
                rows[:, -2:] = likeness(evidence, things, predictor.map_, NAMES[-2:])
                yield "outlines", name, dataclasses.replace(whole, rows=rows)


def seen_of(example: Example, evidence: Evidence, regions: Sequence[np.ndarray], map_: str, find: FindLandmark) -> Seen:
    """What an example's regions show; ``map_``: as ``likeness``; ``find``: how the text's landmarks are found."""
    size_hw, reading = evidence.scene.size_hw, parse(example.query.text)
    truth = mask_resized(example.mask, size_hw)
    alike = [
        mask_resized(thing.mask, size_hw)
        for thing in example.things
        if thing.role == "subject" or thing.grade == "copy"
    ]
    return Seen(
        example.query.id,
        example.query_type,
        likeness(evidence, regions, map_) if regions else np.zeros((0, len(NAMES))),
        np.array([iou(region, truth) for region in regions]),
        np.array([max((iou(region, each) for each in alike), default=0.0) for region in regions]),
        partial(grades, reading, regions, find=find) if reading.conditions else None,
    )


def fit_one(name: str, seen: Sequence[Seen]) -> Weights:
    """The weights of one predictor on one kind of regions, with threshold and power."""
    predictor = PREDICTORS[name]
    columns = [NAMES.index(each) for each in predictor.names]
    some = [dataclasses.replace(each, rows=each.rows[:, columns]) for each in seen]
    return fit_rows(some, predictor.names, predictor.reads)


def fit_rows(seen: Sequence[Seen], names: Sequence[str], reads: bool) -> Weights:
    """Weights of numbers called ``names``, and the threshold and power under which answers are worth most (``gain``).

    Raises DataError where no query has a region.
    """
    rows = np.concatenate([each.rows for each in seen])
    right: Bool[np.ndarray, " n"] = np.concatenate([each.alike for each in seen]) >= RIGHT
    groups = [each.query_id for each in seen for _ in each.alike]
    weights = fit_logistic(rows, right, names, groups)
    best = (-1.0, 0.0, 0.0)
    for power in POWERS if reads else (0.0,):
        chosen = [chosen_of(weights, each, power) for each in seen]
        for threshold in THRESHOLDS:
            gains = [gain(each, *pick, threshold, reads) for each, pick in zip(seen, chosen, strict=True)]
            best = max(best, (float(np.mean(gains)), power, threshold), key=lambda each: each[0])
    return dataclasses.replace(weights, power=best[1], threshold=best[2])


def chosen_of(weights: Weights, seen: Seen, power: float) -> tuple[float, float, float]:
    """The score of the region that is chosen, and its overlaps with what is meant and with what looks alike."""
    if not len(seen.rows):
        return 0.0, 0.0, 0.0
    scores = weights.chance(seen.rows)
    if power and seen.grade is not None:
        scores = scores * seen.grade(scores) ** power
    place = int(scores.argmax())
    return float(scores[place]), float(seen.meant[place]), float(seen.alike[place])


def gain(seen: Seen, score: float, meant: float, alike: float, threshold: float, reads: bool) -> float:
    """What an answer is worth: the overlap with the truth; for a text without a referent 1 for an empty mask.

    A predictor that does not read is judged by what the subject's looks say.
    """
    empty = score < threshold
    if reads:
        return float(empty) if seen.query_type in REFERENTLESS else (0.0 if empty else meant)
    return float(empty) if seen.query_type == "absent" else (0.0 if empty else alike)


def fit_file(
    dataset: Dataset, reference: str, file: Path = FILE, limit: int | None = None, told: Told = lambda _: None
) -> None:
    """Fit the weights of one reference setting on a dataset's validation split, and put them into a file.

    Raises as ``fit``; UsageError where masks are wanted and the dataset has none; WriteError.
    """
    if reference not in REFERENCES:
        raise UnknownNameError("--reference", reference, REFERENCES)
    subjects = dataset.subjects("validation")
    masked = all(any(mask is not None for mask in subject.masks) for subject in subjects)
    if reference == REFERENCES[1] and not masked:
        raise UsageError(f"--reference {reference}: {dataset.id} has no masks of its photos; use {REFERENCES[0]}")
    if reference == REFERENCES[0]:
        subjects = without_masks(subjects)
    found = fit(subjects, dataset.examples("validation", limit), told=told)
    about = {"dataset": dataset.id, "digest": dataset.digest, "split": "validation", "limit": limit}
    write_json(file, merged(read_json(file) if file.exists() else {}, reference, found, about))
    read_weights.cache_clear()


def without_masks(subjects: Iterable[Subject]) -> list[Subject]:
    """The subjects as the setting of photos alone gives them."""
    return [dataclasses.replace(subject, masks=()) for subject in subjects]


def merged(
    old: Mapping[str, Any], setting: str, found: Mapping[str, Any], about: Mapping[str, Any], key: str | None = None
) -> dict[str, Any]:
    """The file of weights with one reference setting put in; ``key``: what ``about`` stands under, if not that."""
    return {**old, setting: dict(found), "about": {**old.get("about", {}), key or setting: dict(about)}}
