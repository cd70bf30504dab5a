"""Sheets of queries for a person to answer from pictures alone, and how many answers were right.

Each row shows the reference photos of a subject, the scene as it is, and the scene with its things numbered; below
stands the text.  The answer is the number of the thing that the text means, 0 when there is none.

Knows: how sheets are drawn and answers counted.  Does not know: methods.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from prisbench import subsets
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError
from prisbench.images.drawing import png, sheet
from prisbench.runtime.files import read_json, write_bytes, write_json
from prisbench.subsets import grade_of
from prisbench.types import Example, Thing

ROWS = 5
"""Queries on a sheet."""
TIMES = 3
"""How much larger the scenes are drawn before they are numbered."""


class Asked(NamedTuple):
    """A query on a sheet: its id, subset, and the right answer."""

    query_id: str
    subset: str
    answer: int


def subset_of(example: Example) -> str:
    """The name of the subset that says most of it (``subsets.subset_of``)."""
    grade = grade_of(thing.grade for thing in example.things if thing.role == "look-alike")
    return subsets.subset_of(example.query_type, grade)


def choose(examples: Iterable[Example], each: int, seed: int) -> list[Example]:
    """So many queries of each subset, by lot but never two of a subject while others are left, in mixed order."""
    by_subset: dict[str, dict[str, list[Example]]] = {}
    for example in examples:
        if example.things:
            by_subset.setdefault(subset_of(example), {}).setdefault(example.query.subject_id, []).append(example)
    rng = random.Random(seed)
    chosen: list[Example] = []
    for subset in sorted(by_subset):
        piles = sorted(by_subset[subset].values(), key=lambda pile: pile[0].query.id)
        order = sorted(piles, key=lambda _: rng.random())
        rounds = [pile[n] for n in range(max(map(len, order))) for pile in order if n < len(pile)]
        chosen += rounds[:each]
    return sorted(chosen, key=lambda _: rng.random())


def draw_sheets(dataset: Dataset, split: str, out: Path, each: int, seed: int = 0) -> int:
    """Write ``sheet-01.png`` and so on, ``texts.json`` with the texts in full, and ``key.json`` with the right answers;
    returns how many sheets there are.
    """
    subjects = {subject.id: subject for subject in dataset.subjects(split)}
    chosen = choose(dataset.examples(split), each, seed)
    key: dict[str, Asked] = {}
    texts: dict[str, str] = {}
    number = 0
    for number, start in enumerate(range(0, len(chosen), ROWS), 1):
        rows = []
        for n, example in enumerate(chosen[start : start + ROWS], start + 1):
            things, answer = shuffled(example, seed)
            key[str(n)] = Asked(example.query.id, subset_of(example), answer)
            subject = subjects[example.query.subject_id]
            seen = [("photo", photo) for photo in subject.photos]
            text = texts[str(n)] = example.query.text.replace("{subject}", f"[{subject.noun}]")
            rows.append([*seen, (f"{n}: {text}", example.image), (f"{n}", numbered(example.image, things))])
        write_bytes(out / f"sheet-{number:02}.png", png(sheet(rows)))
    write_json(out / "texts.json", texts)
    write_json(out / "key.json", {n: one._asdict() for n, one in key.items()})
    return number


def shuffled(example: Example, seed: int) -> tuple[list[Thing], int]:
    """The things of a scene in random order, and the number of the one that is meant (from 1; 0 for none)."""
    rng = random.Random(f"{seed}/{example.query.id}")
    order = sorted(range(len(example.things)), key=lambda _: rng.random())
    return [example.things[n] for n in order], 0 if example.meant is None else order.index(example.meant) + 1


def picked(
    dataset: Dataset, split: str, each: int, seed: int, answers: Mapping[str, int]
) -> Iterator[tuple[Example, Thing | None]]:
    """Every query of the sheets that ``draw_sheets`` makes of the same arguments, and the thing that the answer names.

    Raises DataError when a query has no answer, and for a number that no thing of its scene has.
    """
    for n, example in enumerate(choose(dataset.examples(split), each, seed), 1):
        things, _ = shuffled(example, seed)
        number = answers.get(str(n))
        if number is None or not 0 <= number <= len(things):
            said = "no answer" if number is None else f"the answer {number}"
            raise DataError(f"{said} to query {n} of the sheets, whose scene has {len(things)} things; 0 says none")
        yield example, things[number - 1] if number else None


def numbered(image: UInt8[np.ndarray, "h w 3"], things: Sequence[Thing]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The picture, larger, with a number on the middle of each thing."""
    h, w = image.shape[:2]
    canvas = Image.fromarray(image).resize((w * TIMES, h * TIMES), Image.Resampling.LANCZOS)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=22)
    for n, thing in enumerate(things, 1):
        rows, columns = np.nonzero(thing.mask)
        middle = (float(columns.mean()) * TIMES, float(rows.mean()) * TIMES)
        pen.text(middle, str(n), fill="white", stroke_width=3, stroke_fill="black", font=font, anchor="mm")
    return np.asarray(canvas)


def count_right(key: Mapping[str, Mapping[str, object]], answers: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Subset -> (right, asked).  Raises DataError when a query of the key has no answer."""
    out: dict[str, tuple[int, int]] = {}
    for n, asked in key.items():
        if n not in answers:
            raise DataError(f"no answer to query {n} of the sheets; 0 says that nothing is meant")
        right, total = out.get(str(asked["subset"]), (0, 0))
        out[str(asked["subset"])] = (right + (answers[n] == asked["answer"]), total + 1)
    return dict(sorted(out.items()))


def read_right(key: Path, answers: Path) -> dict[str, tuple[int, int]]:
    """``count_right`` of two files.  Raises DataError, naming the file, for one that is none of these."""
    return count_right(_object(key), read_answers(answers))


def read_answers(path: Path) -> dict[str, int]:
    """The answers in a file, by the number of their query.  Raises DataError, naming it, for one that is none."""
    found = _object(path)
    if not all(type(n) is int for n in found.values()):
        raise DataError(f"{path}: an answer is the number of a thing, 0 for none")
    return found


def _object(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if not isinstance(record, dict):
        raise DataError(f"{path} is no JSON object of answers by number")
    return record
