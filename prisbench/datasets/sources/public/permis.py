"""PerMIS: one thing among others of its class, in frames of a video far apart; drawn here from BURST by its rule.

Samuel, Ben-Ari, Levy, Darshan, Chechik, "Where's Waldo: Diffusion Features for Personalized Segmentation and Retrieval"
(NeurIPS 2024), https://github.com/dvirsamuel/PDM: the set is a script (``PerMIRS/permirs_gen_dataset.py``,
``video.py``, ``dataset.py``) that copies frames of BURST and pickles masks.  A pickle may run any program, so the
copies are not read: this takes BURST itself, in the layout that https://github.com/Ali2500/BURST-benchmark documents
(``README.md``, ``ANNOTATION_FORMAT.md``), and applies the script's rule:

- videos of HACS, AVA and LaSOT are out;
- in a frame, a track counts when another track of its class is in that frame;
- the subject is the track that counts in most frames (of several, the one with the lowest number);
- the reference is the frame in which its box is largest; the two queries are the next largest that are more than 15
  annotated frames away; a video without three such frames is out.

Beyond the script: the other tracks of the class are kept as look-alikes.  Not done here, since only its evaluation
does it: square crops placed by the true mask, and leaving out what is under 0.5 % of a crop.

Licence: BURST's annotations MIT, which its ``LICENSE`` says not to hold for the frames: those are TAO's, under the
terms of their sources (ArgoVerse, BDD, Charades, YFCC100M).

Not public: the parts of BURST (train, val, test) that the published 150 videos were drawn from; all that are there are
read.  It cannot know: things of the class that BURST has not outlined (its annotations are not exhaustive).
Reference and queries are of one video, as published.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, split_of
from prisbench.datasets.sources.options import (
    CUT_HELP,
    LICENCE_HELP,
    SHARE_HELP,
    TEXT_HELP,
    build_key,
    one_line,
    query_text,
    share,
    yes_or_no,
)
from prisbench.datasets.sources.plan import Candidate, about, from_nth, subjects_of
from prisbench.datasets.sources.reading.files import folders, inside, top
from prisbench.datasets.sources.reading.images import image_file
from prisbench.datasets.sources.reading.regions import rle
from prisbench.datasets.sources.reading.values import json_file
from prisbench.datasets.sources.reference_photos import Shot, cut_out
from prisbench.errors import DataError

TITLE = "PerMIS"
LICENCE = "annotations: MIT (BURST); frames: the terms of TAO's sources"
HOMEPAGE = "https://github.com/dvirsamuel/PDM"
LAYOUT = """\
annotations/<part>/all_classes.json (part: train, val or test; any of them)
images/<part>/<dataset>/<video>/<frame>.jpg"""
OPTIONS = {
    "cut": f"{CUT_HELP} (default: true; published: false, with the mask)",
    "validation_share": SHARE_HELP,
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
Reference and queries are frames of one video, as published: a background may be in both.
BURST did not outline everything, so a scene may hold look-alikes that nobody marked.
Drawn from BURST by the published rule; numbers of papers that used their own copy are not comparable."""

_LEFT_OUT_DATASETS = ("HACS", "AVA", "LaSOT")
_APART = 15


class Frame(NamedTuple):
    """A picture, the subject's run lengths in it, its look-alikes', and how many other things are there."""

    path: str
    mask: str
    look_alikes: tuple[str, ...]
    others: int


class Episode(NamedTuple):
    """A video's subject; the first frame is the reference."""

    name: str
    noun: str
    size_hw: tuple[int, int]
    frames: tuple[Frame, ...]


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense.

    BURST's largest file is parsed whole here, once; what is kept of it is three frames a video.
    """
    cut, validation_share = yes_or_no(options, "cut", True), share(options)
    text, licence = query_text(options), one_line(options, "licence", LICENCE)
    root = top(root, ("annotations", "images"), TITLE, LAYOUT)
    files = [
        path for part in ("train", "val", "test") if (path := root / f"annotations/{part}/all_classes.json").exists()
    ]
    left_out: Counter[str] = Counter()
    episodes: dict[str, Episode] = {}
    for found in (found for path in files for found in _episodes(root, path, left_out)):
        if episodes.setdefault(found.name, found) is not found:
            left_out["videos that come twice"] += 1
    if not episodes:
        raise DataError(
            f"{root / 'annotations'}: no video has what PerMIS wants ({dict(left_out) or 'no all_classes.json'})"
        )

    def shot(episode: Episode, frame: Frame) -> Shot:
        pixels, file = image_file(inside(root, frame.path, TITLE))
        if pixels.shape[:2] != episode.size_hw:
            raise DataError(f"{root / frame.path} is {pixels.shape[:2]}, its annotations {episode.size_hw} (h, w)")
        return Shot(pixels, _decode(frame.mask, episode, frame.path), file)

    def subject(name: str) -> SubjectRow:
        episode = episodes[name]
        photo, mask, file = shot(episode, episode.frames[0])
        if cut:
            (photo, mask), file = cut_out(photo, mask), None
        return SubjectRow(
            noun=episode.noun,
            photos=(photo,),
            split=split_of(name, validation_share),
            licence=licence,
            source=f"{HOMEPAGE} BURST {episode.frames[0].path}",
            masks=(mask,),
            files=(file,),
        )

    subjects = subjects_of(list(episodes), subject)

    def query(episode: Episode, frame: Frame) -> QueryRow:
        pixels, mask, file = shot(episode, frame)
        decoded = [_decode(runs, episode, frame.path) for runs in frame.look_alikes]
        look_alikes = tuple(other for other in decoded if other.any())
        if len(look_alikes) < len(decoded):
            left_out["look-alikes without a pixel"] += len(decoded) - len(look_alikes)
        return QueryRow(
            subject_id=subjects.id_of(episode.name),
            noun=episode.noun,
            image=pixels,
            text=text,
            query_type=kind_of_scene(len(look_alikes), frame.others),
            mask=mask,
            look_alikes=look_alikes,
            split=split_of(episode.name, validation_share),
            licence=licence,
            source=f"{HOMEPAGE} BURST {frame.path}",
            file=file,
        )

    asked = [(episode, frame) for episode in episodes.values() for frame in episode.frames[1:]]

    def candidates() -> Iterator[Candidate]:
        return (partial(query, episode, frame) for episode, frame in asked)

    return Source(
        name="permis",
        version="1",
        about=about(TITLE, HOMEPAGE, LIMITS, options),
        key=build_key(TITLE, options, root, files),
        subjects=subjects.rows,
        queries=lambda start: from_nth(start, candidates(), left_out),
        n_subjects=len(episodes),
        n_queries=len(asked),
        left_out=left_out,
    )


def _episodes(root: Path, path: Path, left_out: Counter[str]) -> Iterator[Episode]:
    """The videos of one part of BURST that have a subject."""
    part = path.parent.name
    there = {f"{one.name}/{two.name}" for one in folders(root / "images" / part) for two in folders(one)}
    value = json_file(path)
    where = str(path)
    try:
        classes = {int(entry["id"]): str(entry["name"]) for entry in value["categories"]}
        for video in value["sequences"]:
            place = f"{video['dataset']}/{video['seq_name']}"
            where = f"{path}: {place}"
            if video["dataset"] in _LEFT_OUT_DATASETS:
                left_out[f"videos of {', '.join(_LEFT_OUT_DATASETS)}"] += 1
            elif place not in there:
                left_out["videos whose frames are not there"] += 1
            elif frames := _frames(video, f"images/{part}/{place}", where):
                noun = classes[int(video["track_category_ids"][str(frames[0])])]
                yield Episode(f"{part}/{place}", _noun(noun), _size(video), frames[1])
            else:
                left_out["videos without three frames of one thing among its like, far apart"] += 1
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} is not as BURST's ANNOTATION_FORMAT.md says ({error!r})") from None


def _frames(video: Mapping[str, Any], folder: str, where: str) -> tuple[int, tuple[Frame, ...]] | None:
    """The video's subject and its three frames by the rule above; None when there are none."""
    kind = {int(track): int(value) for track, value in video["track_category_ids"].items()}
    seen = [{int(track): str(entry["rle"]) for track, entry in frame.items()} for frame in video["segmentations"]]
    counting = [{track for track in frame if sum(kind[other] == kind[track] for other in frame) > 1} for frame in seen]
    counts = Counter(track for tracks in counting for track in tracks)
    if not counts:
        return None
    subject = min(counts, key=lambda track: (-counts[track], track))
    areas = {}
    for index, tracks in enumerate(counting):
        if subject in tracks:
            mask = rle(
                {"size": list(_size(video)), "counts": seen[index][subject]}, _size(video), f"{where} frame {index}"
            )
            if mask.any():
                areas[index] = int(np.ptp(np.flatnonzero(mask.any(axis=1))) + 1) * int(
                    np.ptp(np.flatnonzero(mask.any(axis=0))) + 1
                )
    largest = sorted(areas, key=lambda index: -areas[index])
    chosen = largest[:1] + [index for index in largest if abs(index - largest[0]) > _APART][:2]
    if len(chosen) < 3:
        return None
    return subject, tuple(
        _frame(seen[i], kind, subject, f"{folder}/{video['annotated_image_paths'][i]}") for i in chosen
    )


def _frame(seen: Mapping[int, str], kind: Mapping[int, int], subject: int, path: str) -> Frame:
    alike = tuple(runs for track, runs in sorted(seen.items()) if kind[track] == kind[subject] and track != subject)
    return Frame(path, seen[subject], alike, len(seen) - len(alike) - 1)


def _size(video: Mapping[str, Any]) -> tuple[int, int]:
    return int(video["height"]), int(video["width"])


def _decode(runs: str, episode: Episode, where: str) -> Any:
    return rle({"size": list(episode.size_hw), "counts": runs}, episode.size_hw, where)


def _noun(name: str) -> str:
    """LVIS's name in plain words: "car" for ``car_(automobile)``."""
    return re.sub(r"_?\([^)]*\)", "", name).replace("_", " ").strip() or name
