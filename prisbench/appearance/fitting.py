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
from typing import Any

import numpy as np

from prisbench.appearance.choice import FILE, MAP, NAME, landmarks, regions_of
from prisbench.appearance.method import FeaturesMethod, looks_of
from prisbench.datasets.load import Dataset
from prisbench.network_free.colours import shrunk
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.fitting import Seen, chosen_of, fit_rows, gain, merged, seen_of
from prisbench.network_free.likeness import COLOUR, KEYPOINTS, NAMES, OUTLINE, PATCHES, TEXTURE
from prisbench.runtime.files import read_json, write_json
from prisbench.types import REFERENTLESS, Concept

FOLDS = 4


def fit_file(
    seen: Sequence[Seen], reference: str, about: Mapping[str, Any], file: Path = FILE, regions: str = "found"
) -> None:
    """Fit the weights for one reference setting and kind of regions and put them into a file; ``about`` is kept beside
    them.

    Raises DataError where no query has a region, WriteError.
    """
    held = read_json(file) if file.exists() else {}
    found = {**held.get(reference, {}), regions: {NAME: fit_rows(seen, NAMES, reads=True).record()}}
    key = reference if regions == "found" else f"{reference}, {regions}"
    write_json(file, merged(held, reference, found, about, key))


CUES = {
    "colour": COLOUR,
    "colour and texture": (*COLOUR, *TEXTURE),
    "patches": PATCHES,
    "keypoints": KEYPOINTS,
    "all": (*COLOUR, *TEXTURE, *PATCHES, *KEYPOINTS),
}
"""What may be looked at; a region's outline always is."""


@dataclass(frozen=True)
class Worth:
    """What some cues are worth by themselves: ``miou`` of the chosen regions over ``n`` queries with a referent,
    ``silent`` the share of the other queries that are answered "not here".
    """

    cues: str
    n: int
    miou: float
    silent: float | None


def worth(seen: Sequence[Seen], subjects: Mapping[str, str]) -> list[Worth]:
    """Each subject answered by weights that others were fitted on.

    ``subjects``: query -> its subject.  Regions are as they were cut, before the photo's edges refine them.
    """
    who = sorted(set(subjects.values()))
    fold = {subject: n % FOLDS for n, subject in enumerate(who)}
    folds = [fold[subjects[each.query_id]] for each in seen]
    return [_worth(cues, (*names, *OUTLINE), seen, folds) for cues, names in CUES.items()]


def markdown(rows: Sequence[Worth]) -> str:
    """The rows as a table."""
    lines = [
        "| cues | queries | mIoU of regions | silent where nothing is meant |",
        "| :--- | ---: | ---: | ---: |",
    ]
    for row in rows:
        silent = "–" if row.silent is None else f"{row.silent:.3f}"
        lines.append(f"| {row.cues} | {row.n} | {row.miou:.3f} | {silent} |")
    return "\n".join(lines) + "\n"


def _worth(cues: str, names: Sequence[str], seen: Sequence[Seen], folds: Sequence[int]) -> Worth:
    columns = [NAMES.index(name) for name in names]
    some = [dataclasses.replace(each, rows=each.rows[:, columns]) for each in seen]
    referents: list[float] = []
    others: list[float] = []
    for k in range(FOLDS):
        weights = fit_rows([each for each, fold in zip(some, folds, strict=True) if fold != k], names, reads=True)
        for each in (each for each, fold in zip(some, folds, strict=True) if fold == k):
            score, meant, alike = chosen_of(weights, each, weights.power)
            value = gain(each, score, meant, alike, weights.threshold, reads=True)
            (others if each.query_type in REFERENTLESS else referents).append(value)
    return Worth(cues, len(referents), float(np.mean(referents)), float(np.mean(others)) if others else None)


def look_all(
    dataset: Dataset,
    method: FeaturesMethod,
    concepts: Mapping[str, Concept],
    limit: int | None = None,
) -> Iterator[Seen]:
    """What every validation query shows; ``limit``: as ``Dataset.examples``."""
    for _, group in itertools.groupby(dataset.examples("validation", limit), key=lambda example: example.image_id):
        examples = list(group)
        queries = [example.query for example in examples]
        scene = Scene(shrunk(examples[0].image), method.balance)
        sights = method.sights(examples[0].image, queries, concepts)
        things = method.things(scene)
        for example, sight in zip(examples, sights, strict=True):
            evidence = Evidence(scene, looks_of(concepts[example.query.subject_id]))
            find = landmarks(evidence, sight, method.words.localizer, things)
            yield seen_of(example, evidence, regions_of(evidence, sight, things), MAP, find)
