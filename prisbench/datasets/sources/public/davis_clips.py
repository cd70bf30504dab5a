"""The files of DAVIS: its clips, their frames and labels, and what the things in a clip are called.

Layout: https://davischallenge.org/davis2017/code.html; ``davis`` says it in words.

Knows: lists, palettes, what is void, nouns.  Does not know: which frames are queried, rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.sources.mask_files import mask_file
from prisbench.datasets.sources.reading.files import PHOTOS, folders, inside, listing
from prisbench.datasets.sources.reading.images import label_file
from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import read_bytes

TITLE = "DAVIS"

_VOID = 255
"""Not decided (``davis2017/davis.py``, VOID_LABEL)."""


class Clip(NamedTuple):
    """The frames of a clip that have a mask; the first is the reference."""

    name: str
    frames: tuple[Path, ...]


class Named(NamedTuple):
    """Label -> noun: of the things that the first frame of a clip shows, and of all that a list has for the clip."""

    first: dict[int, str]
    listed: dict[int, str]


def is_2016(root: Path, options: Mapping[str, str]) -> bool:
    """Whether all that moves in a clip is one thing.  Raises UsageError for another year than 2016 and 2017."""
    year = options.get("year", "2017" if _has_2017(root) else "2016")
    if year not in ("2016", "2017"):
        raise UsageError(f"year={year!r}: give 2016 or 2017")
    return year == "2016"


def clips_of(root: Path, resolution: str, wanted: str | None, left_out: Counter[str]) -> list[Clip]:
    """The clips with at least two frames that have a mask."""
    there = {folder.name: folder for folder in folders(inside(root, f"JPEGImages/{resolution}"))}
    names = sorted(there) if wanted is None else _clip_names(inside(root, f"ImageSets/{wanted}.txt"))
    clips = []
    for name in names:
        if name not in there:
            raise DataError(
                f"{root}: the clip {name!r} is in ImageSets/{wanted}.txt, but not in JPEGImages/{resolution}"
            )
        marked = root / "Annotations" / resolution / name
        masks = {file.stem for file in listing(marked, {".png"})} if marked.is_dir() else set()
        frames = listing(there[name], PHOTOS)
        without = [frame for frame in frames if frame.stem not in masks]
        frames = [frame for frame in frames if frame.stem in masks]
        if without:
            left_out["frames without a mask"] += len(without)
        if len(frames) > 1:
            clips.append(Clip(name, tuple(frames)))
        else:
            left_out["clips without two frames that have a mask"] += 1
    return clips


def nouns_file(root: Path, named: str | None = None) -> Path | None:
    """The list of nouns, where there is one; ``named``: the file that a user names, in the folder or from here.

    Raises DataError when that one is not there.
    """
    path = root / (named or "davis_semantics.json")
    path = Path(named).expanduser() if named and not path.exists() else path
    if named and not path.is_file():
        raise DataError(f"nouns={named}: there is no such file, neither in {root} nor from here")
    return path if path.exists() else None


def folder_nouns_warning(named: Mapping[str, Named], nouns: object) -> list[str]:
    """A line when the names of clips stand for nouns, which they are not: "bmx-trees" shows no tree of that kind."""
    known = nouns if isinstance(nouns, dict) else {}
    called = [(clip, noun) for clip, each in named.items() if clip not in known for noun in each.first.values()]
    if not called:
        return []
    clip, noun = called[0]
    return [
        f"{len(called)} nouns are names of folders ({noun!r} of the clip {clip}), which are no words for things: "
        "say what the clips show with nouns=FILE, JSON as davis_semantics.json has it: "
        f'{{"{clip}": {{"1": "bicycle"}}}}'
    ]


@dataclass(frozen=True)
class Labels:
    """Reads the labels of frames, and what they are called.

    ``single``: as 2016 has it, one thing a clip.  ``nouns``: what ``davis_semantics.json`` holds, None without it.
    """

    root: Path
    resolution: str
    single: bool
    nouns: object
    remarks: Remarks

    def path(self, photo: Path, where: str = "") -> Path:
        """The file with a frame's labels.  Raises DataError when it is not there."""
        return inside(self.root, f"Annotations/{self.resolution}/{photo.parent.name}/{photo.stem}.png", where)

    def read(
        self, photo: Path, size_hw: tuple[int, int] | None = None, named: Named | None = None
    ) -> Int[np.ndarray, "h w"]:
        """The label of every pixel, 0 where nothing is; only the labels that are ``named``, if any are."""
        path = self.path(photo, TITLE)
        if self.single and not _has_2017(self.root):
            return mask_file(path, size_hw, TITLE, remarks=self.remarks).astype(np.int32)
        listed = named.listed if named is not None and not self.single else {}
        found = label_file(path, size_hw, TITLE, frozenset((0, _VOID, *listed)) if listed else None)
        if self.single and set(np.unique(found)) <= {0, _VOID}:  # masks of 2016 with the nouns of 2017
            return (found != 0).astype(np.int32)
        found = np.where(found == _VOID, 0, found)
        return (found != 0).astype(np.int32) if self.single else found

    def named(self, clip: Clip) -> Named:
        """What the things of a clip are called.

        Raises DataError where a clip has several things and nobody says what they are: they might be alike.
        """
        return Named(_first(clip, self.read(clip.frames[0]), self.nouns, self.single), _listed_nouns(clip, self.nouns))


def _has_2017(root: Path) -> bool:
    """Whether something of 2017's is there."""
    return (root / "ImageSets" / "2017").exists() or nouns_file(root) is not None


def _clip_names(path: Path) -> list[str]:
    """The clips of a list: 2017 has their names, 2016 a frame and its mask on each line."""
    lines = read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()
    first = [line.split()[0] for line in lines if line.strip()]
    return list(dict.fromkeys(word.split("/")[-2] if "/" in word else word for word in first))


def _listed_nouns(clip: Clip, nouns: object) -> dict[int, str]:
    """Label -> noun of all that a clip shows anywhere, where somebody says it."""
    said = nouns.get(clip.name) if isinstance(nouns, dict) else None
    found = said.items() if isinstance(said, dict) else ()
    return {int(n): str(noun).strip() for n, noun in found if str(n).isdecimal()}


def _first(clip: Clip, found: Int[np.ndarray, "h w"], nouns: object, single: bool) -> dict[int, str]:
    """Label -> noun of what the first frame shows.

    Raises DataError where a clip has several things and nobody says what they are: they might be alike.
    """
    labels = [int(label) for label in np.unique(found) if label]
    said = nouns.get(clip.name) if isinstance(nouns, dict) else None
    if isinstance(said, dict) and all(isinstance(noun, str) and noun.strip() for noun in said.values()) and said:
        if single:  # all that moves is one thing
            return {label: " and ".join(dict.fromkeys(said.values())) for label in labels}
        if missing := [label for label in labels if str(label) not in said]:
            raise DataError(f"davis_semantics.json: the clip {clip.name!r} has no noun for its thing {missing[0]}")
        return {label: said[str(label)].strip() for label in labels}
    if len(labels) > 1:
        raise DataError(
            f"the clip {clip.name!r} has {len(labels)} things and davis_semantics.json does not say what they are; "
            "unpack DAVIS-2017_semantics-480p.zip beside JPEGImages, or say nouns=FILE"
        )
    return {label: re.sub(r"[-_]+", " ", clip.name) for label in labels}
