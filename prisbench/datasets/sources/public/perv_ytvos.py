"""PerVL-YouTube-VOS: free text with a slot, about one of several alike things in a video frame.

The earlier formulation of this benchmark's task: Cohen, Gal, Meirom, Chechik, Atzmon, "This is my unicorn, Fluffy"
(PALAVRA, ECCV 2022).  A concept is learned from frames of a clip, cut to its box, and found by a caption, with ``*``
for the concept, in a later frame of the same clip.

The layout is that of https://github.com/NVlabs/PerVLBenchmark once its README is followed: the annotations of the
repository (``ytvos/prepare_YTVOS_initial_directory_structure.py`` shows their fields) and the training part of
YouTube-VOS 2019 in ``data/youtube_vos/train``.  The files of ``data/.../ytvos_PerVL`` that its scripts make are not
read: their masks hold the concept alone, not its look-alikes, which ``train/Annotations`` and ``meta.json`` have.

Its own splits are kept; three of its validation concepts are asked about in frames that are test frames too (clips
ff15a5eff6, c55784c766, 77610860e0), and are left out here.  Licence: captions CC-BY-NC-SA-4.0; annotations of
YouTube-VOS CC-BY-4.0; its frames may be used for research that is not commercial.

The boxes that are learned from are cut with a quarter around them, the published ones without.  Of the frames that the
set names, every fifth of a clip, those to learn from are spread evenly over what is ``apart``, no neighbour of another
and, where there are such, of the frame that is asked about.

Not public: the code and settings of the paper's segmentation experiment, and how many of a concept's frames it learned
from; here ``references`` says it.  It cannot know: things that YouTube-VOS has not outlined.  Reference and query come
from one clip, as published: a background seen in both may help; that the clip's later frames look different is left to
the leak audit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene
from prisbench.datasets.sources.options import LICENCE_HELP, build_key, one_line, whole_number
from prisbench.datasets.sources.plan import Candidate, about, from_nth, subjects_of
from prisbench.datasets.sources.reading.files import inside, top
from prisbench.datasets.sources.reading.images import ImageFile, image_file, label_file
from prisbench.datasets.sources.reading.values import json_file, yaml_file
from prisbench.datasets.sources.reference_photos import apart, cut_out, evenly
from prisbench.datasets.sources.tables import table
from prisbench.errors import DataError
from prisbench.types import SLOT

TITLE = "PerVL-YouTube-VOS"
LICENCE = "captions: CC-BY-NC-SA-4.0; frames: YouTube-VOS terms, non-commercial research"
HOMEPAGE = "https://github.com/NVlabs/PerVLBenchmark"
LAYOUT = """\
annotations/ytvos/ytvos_personalization_meta.yaml
annotations/ytvos/cleaned_captions_ytvos_val.csv, cleaned_captions_ytvos_test.csv
data/youtube_vos/train/meta.json
data/youtube_vos/train/JPEGImages/<clip>/00000.jpg
data/youtube_vos/train/Annotations/<clip>/00000.png"""
OPTIONS = {
    "references": "frames to learn from, spread over those the set names (default: 5)",
    "apart": "frames that two of them are apart, at least (default: 10, since every fifth is outlined)",
    "licence": LICENCE_HELP,
}
LIMITS = """\
References and query of a concept are frames of one clip, as published: what stands around it may be in both.
Only what YouTube-VOS outlined can be a look-alike.  The captions are left as they were written, slips included."""

_TRAIN = "data/youtube_vos/train"
_COLUMNS = ("image_name", "coarse_grained_class", "caption", "class_id")


class Concept(NamedTuple):
    """One thing in one clip, its frames, and what is asked.

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


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    references, distance = whole_number(options, "references", 5), whole_number(options, "apart", 10)
    licence = one_line(options, "licence", LICENCE)
    root = top(root, ("annotations/ytvos", _TRAIN), TITLE, LAYOUT)
    left_out: Counter[str] = Counter()
    concepts = {concept.name: concept for concept in _concepts(root, references, distance, left_out)}
    if not concepts:
        raise DataError(f"{root / 'annotations' / 'ytvos'} has no concept that could be asked about: {dict(left_out)}")

    known: dict[str, frozenset[int]] = {concept.clip: concept.known for concept in concepts.values()}

    def labels(clip: str, frame: str, size_hw: tuple[int, int] | None = None) -> Int[np.ndarray, "h w"]:
        path = inside(root, f"{_TRAIN}/Annotations/{clip}/{frame}.png", TITLE)
        return label_file(path, size_hw, "", known[clip])

    def picture(clip: str, frame: str) -> ImageFile:
        return image_file(inside(root, f"{_TRAIN}/JPEGImages/{clip}/{frame}.jpg", TITLE))

    def subject(name: str) -> SubjectRow:
        concept = concepts[name]
        cuts = []
        for frame in concept.frames:
            pixels = picture(concept.clip, frame).pixels
            mask = labels(concept.clip, frame, pixels.shape[:2]) == concept.label
            if not mask.any():
                raise DataError(
                    f"{name} is to be learned from frame {frame} of its clip, where no pixel is labelled so"
                )
            cuts.append(cut_out(pixels, mask))
        return SubjectRow(
            noun=concept.noun,
            photos=tuple(cut.photo for cut in cuts),
            split=concept.split,
            licence=licence,
            source=f"{HOMEPAGE} {concept.clip} frames {', '.join(concept.frames)}",
            masks=tuple(cut.mask for cut in cuts),
        )

    subjects = subjects_of(list(concepts), subject)

    def query(concept: Concept, scene: Callable[[], ImageFile]) -> QueryRow:
        pixels, file = scene()
        found = labels(concept.clip, concept.frame, pixels.shape[:2])
        there = [int(n) for n in np.unique(found) if n not in (0, concept.label)]
        look_alikes = tuple(found == n for n in there if n in concept.alike)
        return QueryRow(
            subject_id=subjects.id_of(concept.name),
            noun=concept.noun,
            image=pixels,
            text=concept.text,
            query_type=kind_of_scene(len(look_alikes), len(there) - len(look_alikes)),
            mask=found == concept.label,
            look_alikes=look_alikes,
            split=concept.split,
            licence=licence,
            source=f"{HOMEPAGE} {concept.clip} frame {concept.frame}",
            file=file,
        )

    def candidates() -> Iterator[Candidate]:
        for (clip, frame), asked in groupby(concepts.values(), key=lambda concept: (concept.clip, concept.frame)):
            scene, found = cache(partial(picture, clip, frame)), labels(clip, frame)
            for concept in asked:
                hidden = not (found == concept.label).any()
                yield "concepts that are hidden in their test frame" if hidden else partial(query, concept, scene)

    frames = {(concept.clip, frame) for concept in concepts.values() for frame in (*concept.frames, concept.frame)}
    pictures = [inside(root, f"{_TRAIN}/JPEGImages/{clip}/{frame}.jpg", TITLE) for clip, frame in sorted(frames)]
    return Source(
        name="perv-ytvos",
        version="2",  # 1: neighbouring frames to learn from
        about=about(TITLE, HOMEPAGE, f"{LIMITS}\n{len(concepts)} of the 498 published concepts are here.", options),
        key=build_key(TITLE, options, root, [*_lists(root), *pictures]),
        subjects=subjects.rows,
        queries=lambda start: from_nth(start, candidates(), left_out),
        n_subjects=len(concepts),
        n_queries=len(concepts),
        left_out=left_out,
    )


def _lists(root: Path) -> list[Path]:
    """The set's own lists: concepts, validation captions, test captions, the categories of YouTube-VOS."""
    names = ["ytvos_personalization_meta.yaml", "cleaned_captions_ytvos_val.csv", "cleaned_captions_ytvos_test.csv"]
    return [inside(root, name) for name in (*(f"annotations/ytvos/{name}" for name in names), f"{_TRAIN}/meta.json")]


def _concepts(root: Path, references: int, distance: int, left_out: Counter[str]) -> list[Concept]:
    """The concepts that have a caption; those of one frame stand together."""
    concepts_file, *captions, categories_file = _lists(root)
    fields, categories = yaml_file(concepts_file), json_file(categories_file)
    captioned: dict[str, tuple[str, str]] = {}
    for path, split in zip(captions, ("validation", "test"), strict=True):
        for line in table(path, _COLUMNS, _COLUMNS):
            if line.cells["class_id"] in captioned:
                left_out["captions of a concept that has another further down"] += 1
            captioned[line.cells["class_id"]] = (line.cells["caption"], split)
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


def _to_learn_from(frames: list[str], test_frame: str, references: int, distance: int) -> list[str]:
    """Frames that are no neighbours of each other, nor of the test frame where there are such, evenly spread.

    A name that is no number is no frame's, and is refused where its file is looked for.
    """
    if not all(re.fullmatch("[0-9]+", frame) for frame in (*frames, test_frame)):
        return evenly(frames, references)
    ordered = sorted(set(frames), key=int)
    far = [frame for frame in ordered if abs(int(frame) - int(test_frame)) >= distance]
    return evenly(apart(far or ordered, int, distance), references)
