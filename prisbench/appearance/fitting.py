"""The weights of ``attn-features``, fitted on a validation split.

As those of the predictors without a network (``network_free.fitting``): what a region's numbers say of its being the
subject, and one number for what texts say of place.

Knows: examples with their truth.  Does not know: test splits; nothing here chooses one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.appearance.choice import FILE, MAP, NAME, landmarks, regions_of
from prisbench.appearance.known import KNOWN, NAMES, known_again
from prisbench.appearance.method import FeaturesMethod, looks_of
from prisbench.datasets.load import Dataset
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.evidence import Scene
from prisbench.network_free.fitting import RIGHT, Seen, chosen_of, fit_rows, merged, seen_of
from prisbench.network_free.likeness import COLOUR, KEYPOINTS, OUTLINE, PATCHES, TEXTURE
from prisbench.network_free.weights import Weights
from prisbench.runtime.files import read_json, write_json
from prisbench.types import REFERENTLESS, Concept, Example

FOLDS = 4


def fit_file(
    seen: Sequence[Seen], reference: str, about: Mapping[str, Any], file: Path = FILE, regions: str = "found"
) -> None:
    """Fit the weights for one reference setting and kind of regions and put them into a file; ``about`` is kept beside
    them.

    Raises DataError where no query has a region, WriteError.
    """
    held = read_json(file) if file.exists() else {}
    names = NAMES[: seen[0].rows.shape[1]] if seen else NAMES
    found = {**held.get(reference, {}), regions: {NAME: fit_rows(seen, names, reads=True).record()}}
    key = reference if regions == "found" else f"{reference}, {regions}"
    write_json(file, merged(held, reference, found, about, key))


CUES = {
    "colour": COLOUR,
    "colour and texture": (*COLOUR, *TEXTURE),
    "patches": PATCHES,
    "keypoints": KEYPOINTS,
    "all that is counted": (*COLOUR, *TEXTURE, *PATCHES, *KEYPOINTS),
    "known again": KNOWN,
    "all": (*COLOUR, *TEXTURE, *PATCHES, *KEYPOINTS, *KNOWN),
}
"""What may be looked at; a region's outline always is."""

TOLD = "looks known"
"""The row that is told which regions look like the subject; what it loses, regions and reading lose."""

LIKE, UNLIKE = 0.9, 0.02
"""Its chances."""


class Asked(NamedTuple):
    """Whose query it is, and the pair that it belongs to."""

    subject_id: str
    pair_id: str | None


@dataclass(frozen=True)
class Worth:
    """What some cues are worth by themselves: ``miou`` of the chosen regions over ``n`` queries with a referent,
    ``silent`` the share of the other queries that are answered "not here", ``pairs`` the share of pairs of texts that
    are both answered right.
    """

    cues: str
    n: int
    miou: float
    silent: float | None
    pairs: float | None


def worth(seen: Sequence[Seen], asked: Mapping[str, Asked]) -> list[Worth]:
    """Each subject answered by weights that others were fitted on, and at the end the row that knows all looks.

    ``asked``: query -> whose it is.  Regions are as they were cut, before the photo's edges refine them.
    """
    who = sorted({asked[each.query_id].subject_id for each in seen})
    fold = {subject: n % FOLDS for n, subject in enumerate(who)}
    folds = [fold[asked[each.query_id].subject_id] for each in seen]
    learned = any(each.rows.shape[1] == len(NAMES) for each in seen)
    of = {cues: names for cues, names in CUES.items() if learned or not set(KNOWN) & set(names)}
    rows = [(cues, _answers((*names, *OUTLINE), seen, folds)) for cues, names in of.items()]
    return [_worth(cues, seen, answers, asked) for cues, answers in [*rows, (TOLD, list(map(_told, seen)))]]


def markdown(rows: Sequence[Worth]) -> str:
    """The rows as a table."""
    lines = [
        "| cues | queries | mIoU of regions | silent where nothing is meant | pairs |",
        "| :--- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        silent, pairs = ("–" if each is None else f"{each:.3f}" for each in (row.silent, row.pairs))
        lines.append(f"| {row.cues} | {row.n} | {row.miou:.3f} | {silent} | {pairs} |")
    return "\n".join(lines) + "\n"


def _answers(names: Sequence[str], seen: Sequence[Seen], folds: Sequence[int]) -> list[float | None]:
    """Each query's overlap of the chosen region with what is meant, None for "not here"."""
    columns = [NAMES.index(name) for name in names]
    some = [dataclasses.replace(each, rows=each.rows[:, columns]) for each in seen]
    fitted = {
        k: fit_rows([each for each, fold in zip(some, folds, strict=True) if fold != k], names, reads=True)
        for k in set(folds)
    }
    return [_answer(fitted[fold], each) for each, fold in zip(some, folds, strict=True)]


def _answer(weights: Weights, seen: Seen) -> float | None:
    score, meant, _ = chosen_of(weights, seen, weights.power)
    return None if score < weights.threshold else meant


def _told(seen: Seen) -> float | None:
    """The answer where the looks are known, and a text is kept at half."""
    like = np.where(seen.alike >= RIGHT, LIKE, UNLIKE)
    scores = like if seen.grade is None or not len(like) else like * seen.grade(like)
    return float(seen.meant[scores.argmax()]) if len(scores) and scores.max() >= LIKE / 2 else None


def _worth(cues: str, seen: Sequence[Seen], answers: Sequence[float | None], asked: Mapping[str, Asked]) -> Worth:
    referents: list[float] = []
    others: list[bool] = []
    pairs: dict[str, list[bool]] = {}
    for each, answer in zip(seen, answers, strict=True):
        if each.query_type in REFERENTLESS:
            others.append(right := answer is None)
        else:
            referents.append(answer or 0.0)
            right = (answer or 0.0) >= RIGHT
        if (pair := asked[each.query_id].pair_id) is not None:
            pairs.setdefault(pair, []).append(right)
    silent = float(np.mean(others)) if others else None
    whole = [all(both) for both in pairs.values() if len(both) == 2]
    return Worth(cues, len(referents), float(np.mean(referents)), silent, float(np.mean(whole)) if whole else None)


def look_all(
    dataset: Dataset,
    method: FeaturesMethod,
    concepts: Mapping[str, Concept],
    limit: int | None = None,
    outlines: bool = False,
) -> Iterator[Seen]:
    """What every validation query shows; ``limit``: as ``Dataset.examples``.  ``outlines``: the regions are the true
    ones of all things that the dataset knows in the scene.
    """
    for _, group in itertools.groupby(dataset.examples("validation", limit), key=lambda example: example.image_id):
        examples = list(group)
        queries = [example.query for example in examples]
        scene = Scene(shrunk(examples[0].image), method.own.balance)
        sights = method.sights(examples[0].image, queries, concepts)
        things = method.things(scene, _outlines(examples[0], scene) if outlines else None)
        for example, sight in zip(examples, sights, strict=True):
            looks = looks_of(scene, concepts[example.query.subject_id])
            find = landmarks(looks.evidence, sight, method.words.localizer, things.masks)
            found = regions_of(looks.evidence, sight, things.masks)
            seen = seen_of(example, looks.evidence, found, MAP, find)
            if things.vectors is not None and looks.vectors is not None:
                known = known_again(things.vectors, looks.vectors) if found else np.zeros((0, len(KNOWN)))
                seen = dataclasses.replace(seen, rows=np.hstack([seen.rows, known]))
            yield seen


def _outlines(example: Example, scene: Scene) -> list[Bool[np.ndarray, "h w"]]:
    found = [mask_resized(thing.mask, scene.size_hw) for thing in example.things]
    return [mask for mask in found if mask.any()]
