"""The files of YCB-Video: scenes, their frames, which of its 21 objects these show, and which are learned from.

Layout: https://github.com/yuxng/YCB_Video_toolbox; ``ycb_video`` says it in words.

Knows: file names, labels, nouns.  Does not know: which scenes are for learning, queries.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from prisbench.datasets.schema import SubjectRow
from prisbench.datasets.sources.reading.files import folders, inside, listing
from prisbench.datasets.sources.reading.images import label_file
from prisbench.datasets.sources.reference_photos import apart, evenly, spread
from prisbench.errors import DataError, UnknownNameError
from prisbench.runtime.files import read_bytes

TITLE = "YCB-Video"

NOUNS = {
    "002_master_chef_can": "can",
    "003_cracker_box": "box",
    "004_sugar_box": "box",
    "005_tomato_soup_can": "can",
    "006_mustard_bottle": "bottle",
    "007_tuna_fish_can": "can",
    "008_pudding_box": "box",
    "009_gelatin_box": "box",
    "010_potted_meat_can": "can",
    "011_banana": "banana",
    "019_pitcher_base": "pitcher",
    "021_bleach_cleanser": "bottle",
    "024_bowl": "bowl",
    "025_mug": "mug",
    "035_power_drill": "drill",
    "036_wood_block": "block",
    "037_scissors": "scissors",
    "040_large_marker": "marker",
    "051_large_clamp": "clamp",
    "052_extra_large_clamp": "clamp",
    "061_foam_brick": "brick",
}
"""The objects in the order of their labels, from 1; the nouns are ours."""

LABEL = {name: label for label, name in enumerate(NOUNS, 1)}
"""Object -> its label."""

TOO_SMALL = 0.001
"""A visible part under this share of a frame (307 pixels) is not queried."""


def scenes_of(root: Path, layout: str) -> tuple[Path, dict[str, list[Path]]]:
    """The set's own folder, and scene -> its colour pictures; scenes without any are not there.

    Raises DataError, showing the layout, when there are none.
    """
    wrapped = [home for home in folders(root) if home.name != "data" and not _is_scene(home)]
    for home in (root, *wrapped):
        for base in (home / "data", home):
            scenes = [folder for folder in folders(base) if _is_scene(folder)] if base.is_dir() else []
            frames = {
                folder.name: [file for file in listing(folder, {".png"}) if file.name.endswith("-color.png")]
                for folder in scenes
            }
            if any(frames.values()):
                return home, {scene: photos for scene, photos in frames.items() if photos}
    lines = "; ".join(layout.splitlines())
    raise DataError(f"{root} is not laid out as {TITLE} is: it has no scene with -color.png pictures ({lines})")


class ReferenceFrames:
    """Chooses the frames to learn from.  What a scene shows is looked at once, when the scene is wanted.

    ``taught_by``: object -> the scenes for learning that show it.  ``distance``: between two frames of one scene.
    """

    def __init__(
        self, frames: Mapping[str, list[Path]], taught_by: Mapping[str, list[str]], references: int, distance: int
    ) -> None:
        self._frames = frames
        self.taught_by = taught_by
        self._references = references
        self._distance = distance
        self._shown: dict[str, dict[Path, frozenset[str]]] = {}

    def photos(self, name: str) -> list[Path]:
        """An object's reference photos, spread over the scenes and over each, in their order."""
        scenes = self.taught_by[name]
        first = evenly(scenes, self._references)
        showing: dict[str, list[Path]] = {}
        for scene in [*first, *(scene for scene in scenes if scene not in first)]:
            if len(showing) < self._references and (photos := self._showing(name, scene)):
                showing[scene] = photos
        return spread([showing[scene] for scene in sorted(showing)], self._references)

    def counted(self, subjects: Iterator[SubjectRow], left_out: Counter[str]) -> Iterator[SubjectRow]:
        """The subjects; the photos that they lack are counted anew."""
        reason = f"reference photos that no frame {self._distance} or more from the others could give"
        left_out.pop(reason, None)
        for row in subjects:
            if len(row.photos) < self._references:
                left_out[reason] += self._references - len(row.photos)
            yield row

    def _showing(self, name: str, scene: str) -> list[Path]:
        if scene not in self._shown:
            photos = apart(self._frames[scene], number, self._distance)
            self._shown[scene] = {photo: shown(photo) for photo in photos}
        return [photo for photo, names in self._shown[scene].items() if name in names]


def stem(photo: Path) -> str:
    """A frame's name without its ending."""
    return photo.name.removesuffix("-color.png")


def number(photo: Path) -> int:
    """A frame's number in its scene.  Raises DataError."""
    if not re.fullmatch(r"[0-9]{1,9}", stem(photo)):
        raise DataError(f"{photo} is no frame of {TITLE}: its name must be a number and -color.png")
    return int(stem(photo))


def label_path(photo: Path) -> Path:
    """The file with a frame's labels; it need not be there."""
    return photo.with_name(f"{stem(photo)}-label.png")


def labels(photo: Path, size_hw: tuple[int, int] | None = None) -> Int[np.ndarray, "h w"]:
    """The class of every pixel of a frame."""
    return label_file(inside(photo.parent, label_path(photo).name, TITLE), size_hw, TITLE, (0, *LABEL.values()))


def shown(photo: Path) -> frozenset[str]:
    """The objects that are not too small in a frame."""
    found = labels(photo)
    return frozenset(name for name in NOUNS if float((found == LABEL[name]).mean()) >= TOO_SMALL)


def objects(photo: Path) -> frozenset[str]:
    """The objects of a frame's scene, by the list of their boxes; hidden ones too."""
    path = inside(photo.parent, f"{stem(photo)}-box.txt", TITLE)
    names = [line.split()[0] for line in _lines(path)]
    for name in names:
        if name not in NOUNS:
            raise DataError(f"{path}: {UnknownNameError('object', name, NOUNS)}")
    return frozenset(names)


def keyframes(home: Path) -> frozenset[str]:
    """``0048/000001`` and so on; empty when the set has no list of them."""
    path = home / "image_sets" / "keyframe.txt"
    return frozenset(_lines(path)) if path.exists() else frozenset()


def _is_scene(folder: Path) -> bool:
    return bool(re.fullmatch(r"[0-9]{4}", folder.name))


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]
