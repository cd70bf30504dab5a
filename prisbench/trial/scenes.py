"""The tiny set of a trial: three subjects, five scenes, and queries about them.  Drawn in a second, anew each time.

It goes to the method's process as two files without any truth: who stands where is never written.

Knows: Tabletop's scenes.  Does not know: methods, checks.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from prisbench.runtime.files import write_json
from prisbench.tabletop.individuals import bystander, draw_individual
from prisbench.tabletop.looks import Individual
from prisbench.tabletop.scenes import Plan, compose
from prisbench.types import Query, Subject

SEED = "a method's trial"
PHOTO_SIZES = ((112, 144), (144, 112), (96, 160))
CUT_HW = (91, 133)
"""What is left of one scene, so that its sides are odd."""


@dataclass(frozen=True, eq=False)
class TrialScene:
    """A scene and what is asked about it; ``words`` say which one it is."""

    words: str
    image: UInt8[np.ndarray, "h w 3"]
    queries: tuple[Query, ...]


@dataclass(frozen=True, eq=False)
class TrialSet:
    """Whom a method learns, and the scenes by name."""

    subjects: tuple[Subject, ...]
    scenes: dict[str, TrialScene]


def draw_set(masks: bool = False) -> TrialSet:
    """Three subjects with photos (and, with ``masks``, their masks in them) and five scenes."""
    rng = random.Random(SEED)
    mug = draw_individual(rng, "mug", held_out=True)
    others = [draw_individual(rng, noun, held_out=True) for noun in ("bottle", "book")]
    who = dict(zip(("mug-1", "bottle-2", "book-3"), (mug, *others), strict=True))
    subjects = tuple(_subject(rng, name, one, n, masks) for n, (name, one) in enumerate(who.items()))
    a, b, c = who
    beside = bystander(rng, mug, "bottle", "book")
    drawn = {
        "landscape": ([mug, beside], (112, 144), [(a, "the {subject}"), (a, "a photo of the {subject}")]),
        "portrait": ([others[0]], (144, 112), [(b, "the {subject}")]),
        "odd": ([mug], (96, 160), [(a, "the {subject} on the table")]),
        "absent": ([beside, others[1]], (112, 144), [(a, "the {subject}")]),
        "several": (
            [mug, *others],
            (96, 160),
            [(a, "the {subject}"), (b, "the {subject}"), (a, "the {subject} to the left of the book"),
             (c, "the {subject} at the back"), (b, "the leftmost {subject}")],
        ),
    }  # fmt: skip
    scenes = {}
    for name, (cast, size_hw, asked) in drawn.items():
        image = _scene(rng, cast, size_hw)
        image = np.ascontiguousarray(image[: CUT_HW[0], : CUT_HW[1]]) if name == "odd" else image
        queries = tuple(Query(f"{name}-{n}", about, text) for n, (about, text) in enumerate(asked, 1))
        h, w = image.shape[:2]
        scenes[name] = TrialScene(f"the scene {name!r} of {h} x {w} pixels", image, queries)
    return TrialSet(subjects, scenes)


def _scene(rng: random.Random, cast: Sequence[Individual], size_hw: tuple[int, int]) -> np.ndarray:
    return compose(rng, cast, Plan((32.0, 50.0), size_hw=size_hw)).image


def _subject(rng: random.Random, name: str, one: Individual, n: int, masks: bool) -> Subject:
    photos = [compose(rng, [one], Plan((36.0, 70.0), size_hw=PHOTO_SIZES[(n + i) % 3])) for i in range(3)]
    known = tuple(photo.masks[0] for photo in photos) if masks else ()
    return Subject(name, one.noun, tuple(photo.image for photo in photos), known)


def write_set(folder: Path, drawn: TrialSet) -> None:
    """``set.json`` and ``arrays.npz`` in a folder."""
    arrays = {f"scene/{name}": scene.image for name, scene in drawn.scenes.items()}
    for subject in drawn.subjects:
        arrays |= {f"photo/{subject.id}/{n}": photo for n, photo in enumerate(subject.photos)}
        arrays |= {f"mask/{subject.id}/{n}": mask for n, mask in enumerate(subject.masks) if mask is not None}
    with (folder / "arrays.npz").open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    record = {
        "subjects": [[each.id, each.noun, len(each.photos), len(each.masks)] for each in drawn.subjects],
        "scenes": {
            name: [scene.words, [[query.id, query.subject_id, query.text] for query in scene.queries]]
            for name, scene in drawn.scenes.items()
        },
    }
    write_json(folder / "set.json", record)


def read_set(folder: Path) -> TrialSet:
    """What ``write_set`` wrote."""
    record = json.loads((folder / "set.json").read_text())
    with np.load(folder / "arrays.npz") as arrays:
        subjects = tuple(
            Subject(
                name,
                noun,
                tuple(arrays[f"photo/{name}/{n}"] for n in range(photos)),
                tuple(arrays[f"mask/{name}/{n}"] for n in range(masks)),
            )
            for name, noun, photos, masks in record["subjects"]
        )
        scenes = {
            name: TrialScene(words, arrays[f"scene/{name}"], tuple(Query(*each) for each in asked))
            for name, (words, asked) in record["scenes"].items()
        }
    return TrialSet(subjects, scenes)
