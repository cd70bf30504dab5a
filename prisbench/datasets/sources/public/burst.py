"""BURST's annotations, from which PerMIS is drawn: the videos with a subject, and three frames of each.

Layout: https://github.com/Ali2500/BURST-benchmark (``README.md``, ``ANNOTATION_FORMAT.md``).  The rule is that of
``PerMIRS/permirs_gen_dataset.py`` of https://github.com/dvirsamuel/PDM: ``permis`` says it in words.

Knows: tracks, boxes, which frames are far apart.  Does not know: pictures, rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.sources.reading.files import folders
from prisbench.datasets.sources.reading.regions import rle
from prisbench.datasets.sources.reading.values import json_file
from prisbench.errors import DataError

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


def episodes_of(root: Path, files: Sequence[Path], left_out: Counter[str]) -> dict[str, Episode]:
    """The videos that have a subject, by name.  Raises DataError when there are none.

    A file is parsed whole, once; what is kept of it is three frames a video.
    """
    episodes: dict[str, Episode] = {}
    for found in (found for path in files for found in _episodes(root, path, left_out)):
        if episodes.setdefault(found.name, found) is not found:
            left_out["videos that come twice"] += 1
    if not episodes:
        raise DataError(
            f"{root / 'annotations'}: no video has what PerMIS wants ({dict(left_out) or 'no all_classes.json'})"
        )
    return episodes


def mask_of(runs: str, episode: Episode, where: str) -> Bool[np.ndarray, "h w"]:
    """The mask behind run lengths of an episode's video.  Raises DataError as ``rle``."""
    return rle({"size": list(episode.size_hw), "counts": runs}, episode.size_hw, where)


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


def _noun(name: str) -> str:
    """LVIS's name in plain words: "car" for ``car_(automobile)``."""
    return re.sub(r"_?\([^)]*\)", "", name).replace("_", " ").strip() or name
