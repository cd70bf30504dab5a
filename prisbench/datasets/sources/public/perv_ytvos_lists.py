"""What the lists of PerVL-YouTube-VOS say: each concept with its frames and the query about it.

Knows: which captions are queries, which frames are too near to each other.  Does not know: pictures, masks, rows.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from prisbench.datasets.sources.reading.files import inside
from prisbench.datasets.sources.reading.values import json_file, yaml_file
from prisbench.datasets.sources.reference_photos import apart, evenly
from prisbench.datasets.sources.tables import table
from prisbench.errors import DataError
from prisbench.types import SLOT

TRAIN = "data/youtube_vos/train"
"""The training part of YouTube-VOS, below the set's folder."""

_COLUMNS = ("image_name", "coarse_grained_class", "caption", "class_id")


class Concept(NamedTuple):
    """One thing in one clip, the frames it is learned from, and the query about it.

    ``alike``: the labels of its clip with its category; ``known``: all there are, and 0.
    """

    name: str
    noun: str
    clip: str
    label: int
    alike: frozenset[int]
    known: frozenset[int]
    frames: tuple[str, ...]
    frame: str
    text: str
    split: str


def lists_of(root: Path) -> list[Path]:
    """The set's own lists: concepts, validation captions, test captions, the categories of YouTube-VOS."""
    names = ["ytvos_personalization_meta.yaml", "cleaned_captions_ytvos_val.csv", "cleaned_captions_ytvos_test.csv"]
    return [inside(root, name) for name in (*(f"annotations/ytvos/{name}" for name in names), f"{TRAIN}/meta.json")]


def concepts_of(root: Path, references: int, distance: int, left_out: Counter[str]) -> list[Concept]:
    """The concepts that have a caption; those of one frame stand together."""
    concepts_file, *captions, categories_file = lists_of(root)
    fields, categories = yaml_file(concepts_file), json_file(categories_file)
    captioned = _captions(captions, left_out)
    try:
        if without := set(fields) - set(captioned):
            left_out["concepts without a caption"] = len(without)
        entries = {name: fields[name] for name in captioned}
        tests = {(entry["scene_id"], entry["test_frame"]) for entry in entries.values()}
        tested = {entries[name]["scene_id"] for name, (_, split) in captioned.items() if split == "test"}
        found = []
        for name, (caption, split) in captioned.items():
            entry = entries[name]
            clip, label = entry["scene_id"], entry["instance_id"]
            frames = [frame for frame in entry["train_frames"] if (clip, frame) not in tests]
            objects = categories["videos"][clip]["objects"]
            if split == "validation" and clip in tested:
                left_out["validation concepts in clips of test concepts"] += 1
            elif caption.count("*") != 1 or SLOT in caption:
                left_out["captions without just one *"] += 1
            elif not frames:
                left_out["concepts whose only frames are test frames"] += 1
            else:
                kind = objects[label]["category"]
                chosen = _to_learn_from(frames, entry["test_frame"], references, distance)
                if len(chosen) < min(references, len(frames)):
                    few = f"reference photos that no frame {distance} or more from the others could give"
                    left_out[few] += min(references, len(frames)) - len(chosen)
                concept = Concept(
                    name=name,
                    noun=entry["coarse_grained_class"].replace("_", " "),
                    clip=clip,
                    label=int(label),
                    alike=frozenset(int(n) for n, thing in objects.items() if thing["category"] == kind),
                    known=frozenset((0, *map(int, objects))),
                    frames=tuple(chosen),
                    frame=entry["test_frame"],
                    text=" ".join(caption.replace("*", SLOT).split()),
                    split=split,
                )
                found.append(concept)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{concepts_file}, its captions and {categories_file} do not fit together or lack a field ({error!r})"
        ) from None
    return sorted(found, key=lambda concept: (concept.split, concept.clip, concept.frame, concept.label))


def _captions(paths: list[Path], left_out: Counter[str]) -> dict[str, tuple[str, str]]:
    """Concept -> its caption and split; the last where it has several."""
    captioned: dict[str, tuple[str, str]] = {}
    for path, split in zip(paths, ("validation", "test"), strict=True):
        for line in table(path, _COLUMNS, _COLUMNS):
            if line.cells["class_id"] in captioned:
                left_out["captions of a concept that has another further down"] += 1
            captioned[line.cells["class_id"]] = (line.cells["caption"], split)
    return captioned


def _to_learn_from(frames: list[str], test_frame: str, references: int, distance: int) -> list[str]:
    """Frames that are no neighbours of each other, nor of the test frame where there are such, evenly spread.

    A name that is no number is no frame's, and is refused where its file is looked for.
    """
    if not all(re.fullmatch("[0-9]+", frame) for frame in (*frames, test_frame)):
        return evenly(frames, references)
    ordered = sorted(set(frames), key=int)
    far = [frame for frame in ordered if abs(int(frame) - int(test_frame)) >= distance]
    return evenly(apart(far or ordered, int, distance), references)
