"""YCB-Video: 21 groceries and tools in 92 videos of table tops; learned in one video, found in others.

The layout is that of Xiang, Schmidt, Narayanan, Fox, "PoseCNN" (RSS 2018, arXiv 1711.00199),
https://github.com/yuxng/YCB_Video_toolbox: ``data/<scene>/<frame>-color.png``, ``-label.png`` (the class of every
pixel, 0 background) and ``-box.txt`` (the objects of the scene, hidden ones too); classes are numbered by the
alphabetical list below.  ``-depth.png``, ``-meta.mat`` and ``data_syn`` are not read.

The set is of poses, not of subjects; the protocol is ours.  Scenes 0048 to 0059, PoseCNN's test videos, are for
queries (in the frames of ``image_sets/keyframe.txt`` where that file is), the others for learning; no scene is for
both, for any object, since its frames look nearly alike.  An object's reference photos are cut, with a quarter around
its box, from frames of the scenes for learning that show it: from as many scenes as there are, evenly over those, and
over each of them evenly among frames that lie ``apart`` from each other and show a thousandth of the frame or more.
Where the scenes are too short for that there are fewer photos.  All queries are "test": a frame shows many objects, and
a frame can be in one split only.

Licence: MIT, by the toolbox's README.  The objects carry brand names.

It cannot know: things of other kinds than the 21, which are not labelled, though they may have the same noun: scene
0049 lies on a carton, and cartons stand in the back of 0050.  Look-alikes are other objects with the same
noun in ``NOUNS``, a box beside a box; there is one object of each class, so never two of a make.  That an object is
absent from a scene is certain, as far as the set's lists of objects are whole.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Int

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene
from prisbench.datasets.sources.options import (
    LICENCE_HELP,
    TEXT_HELP,
    build_key,
    one_line,
    query_text,
    whole_number,
)
from prisbench.datasets.sources.plan import Candidate, about, from_nth, subjects_of
from prisbench.datasets.sources.reading.files import folders, inside, listing
from prisbench.datasets.sources.reading.images import ImageFile, image_file, label_file
from prisbench.datasets.sources.reference_photos import apart, cut_out, evenly, spread
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.runtime.files import read_bytes

TITLE = "YCB-Video"
LICENCE = "MIT"
HOMEPAGE = "https://github.com/yuxng/YCB_Video_toolbox"
LAYOUT = """\
data/<scene>/<frame>-color.png, <frame>-label.png, <frame>-box.txt (scene: 0000 ...; or without data/)
image_sets/keyframe.txt (the frames to ask about; may be missing)"""
OPTIONS = {
    "scenes": "the scenes to ask about, like 0048-0059,0070 (default: 0048-0059); the others are for learning",
    "references": "photos to learn from, spread over the scenes (default: 4)",
    "apart": "frames that two photos of one scene are apart, at least (default: 30, a second)",
    "step": "of the frames of a scene every so many-th is asked about (default: 1)",
    "absent": "each frame is also asked for so many objects that are not in its scene (default: 1)",
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
Only the 21 objects are labelled; look-alikes are other objects of the same noun, never two of one make.  Other things
of the same noun may be there, like the cartons of scenes 0049 and 0050, and nobody marked them.
The frames of a scene look nearly alike: its queries are no independent samples."""

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

_LABEL = {name: label for label, name in enumerate(NOUNS, 1)}
_TOO_SMALL = 0.001
"""A visible part under this share of a frame (307 pixels) is not asked for."""


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    references, step = whole_number(options, "references", 4), whole_number(options, "step", 1)
    n_absent, text = whole_number(options, "absent", 1, least=0), query_text(options)
    licence = one_line(options, "licence", LICENCE)
    to_ask = _chosen(options.get("scenes", "0048-0059"))
    home, frames = _frames(root)
    keyframes = _keyframes(home)
    shows = {scene: _objects(photos[0]) for scene, photos in frames.items()}
    taught_by = {name: [scene for scene in frames if scene not in to_ask and name in shows[scene]] for name in NOUNS}
    tested = {name for scene in frames if scene in to_ask for name in shows[scene]}
    names = [name for name in NOUNS if taught_by[name] and name in tested]
    if not names:
        raise DataError(
            f"{root}: no object is both in a scene to learn from and in one to ask about; say with scenes=... which of "
            f"{', '.join(frames)} are to ask about"
        )
    left_out: Counter[str] = Counter()
    if n_one_kind := len(set().union(*shows.values())) - len(names):
        left_out["objects that are only in scenes of one kind"] = n_one_kind
    asked = {
        scene: [photo for photo in photos if not keyframes or f"{scene}/{_stem(photo)}" in keyframes][::step]
        for scene, photos in frames.items()
        if scene in to_ask
    }
    if passed := sum(len(frames[scene]) - len(photos) for scene, photos in asked.items()):
        left_out["frames that keyframe.txt or step passes over"] = passed

    teaching = _Teaching(frames, references, whole_number(options, "apart", 30))

    def subject(name: str) -> SubjectRow:
        photos = teaching.photos(name, taught_by[name])
        if not photos:
            raise DataError(
                f"{root}: {name} is hidden in the frames taken from the scenes {', '.join(taught_by[name])}"
            )
        cuts = []
        for photo in photos:
            pixels = image_file(photo).pixels
            cuts.append(cut_out(pixels, _labels(photo, pixels.shape[:2]) == _LABEL[name]))
        places = ", ".join(f"{photo.parent.name}/{_stem(photo)}" for photo in photos)
        return SubjectRow(
            noun=NOUNS[name],
            photos=tuple(cut.photo for cut in cuts),
            split="test",
            licence=licence,
            source=f"{HOMEPAGE} {name} in {places}",
            masks=tuple(cut.mask for cut in cuts),
        )

    subjects = subjects_of(names, subject)

    def subject_rows() -> Iterator[SubjectRow]:
        reason = f"reference photos that no frame {teaching.distance} or more from the others could give"
        left_out.pop(reason, None)
        for row in subjects.rows():
            if len(row.photos) < references:
                left_out[reason] += references - len(row.photos)
            yield row

    def query(name: str, photo: Path, picture: Callable[[], ImageFile]) -> QueryRow:
        pixels, file = picture()
        found = _labels(photo, pixels.shape[:2])
        mask = found == _LABEL[name]
        others = [other for other in NOUNS if other != name and (found == _LABEL[other]).any()]
        look_alikes = tuple(found == _LABEL[other] for other in others if NOUNS[other] == NOUNS[name])
        return QueryRow(
            subject_id=subjects.id_of(name),
            noun=NOUNS[name],
            image=pixels,
            text=text,
            query_type=kind_of_scene(len(look_alikes), len(others) - len(look_alikes)) if mask.any() else "absent",
            mask=mask,
            look_alikes=look_alikes,
            split="test",
            licence=licence,
            source=f"{HOMEPAGE} {photo.parent.name}/{photo.name}",
            file=file,
        )

    def candidates() -> Iterator[Candidate]:
        for scene, photos in asked.items():
            away = [name for name in names if name not in shows[scene]]
            for photo in photos:
                found, picture = _labels(photo), cache(partial(image_file, photo))
                for name in names:
                    part = float((found == _LABEL[name]).mean())
                    if part >= _TOO_SMALL:
                        yield partial(query, name, photo, picture)
                    elif part or name in shows[scene]:
                        yield "objects hidden in a frame, or showing less than a thousandth of it"
                    elif name in _by_lot(away, photo)[:n_absent]:
                        yield partial(query, name, photo, picture)
                for _ in range(n_absent - len(away)):
                    yield "absent queries for which there is no object"

    learned = {scene for name in names for scene in taught_by[name]}
    used = [photo for scene in frames for photo in (frames[scene] if scene in learned else asked.get(scene, []))]
    return Source(
        name="ycb-video",
        version="2",  # 1: photos from one scene, neighbouring frames too
        about=about(TITLE, HOMEPAGE, f"{LIMITS}\n{len(frames)} of the 92 published scenes are here.", options),
        key=build_key(TITLE, options, home, [*used, *map(_label_path, used)]),
        subjects=subject_rows,
        queries=lambda start: from_nth(start, candidates(), left_out),
        n_subjects=len(names),
        left_out=left_out,
    )


class _Teaching:
    """The frames to learn from; what they show is looked at once a scene, when the scene is wanted."""

    def __init__(self, frames: Mapping[str, list[Path]], references: int, distance: int) -> None:
        self._frames = frames
        self._references = references
        self._shown: dict[str, dict[Path, frozenset[str]]] = {}
        self.distance = distance

    def photos(self, name: str, scenes: list[str]) -> list[Path]:
        """An object's reference photos, spread over the scenes and over each, in their order."""
        first = evenly(scenes, self._references)
        showing: dict[str, list[Path]] = {}
        for scene in [*first, *(scene for scene in scenes if scene not in first)]:
            if len(showing) < self._references and (photos := self._showing(name, scene)):
                showing[scene] = photos
        return spread([showing[scene] for scene in sorted(showing)], self._references)

    def _showing(self, name: str, scene: str) -> list[Path]:
        if scene not in self._shown:
            photos = apart(self._frames[scene], _number, self.distance)
            self._shown[scene] = {photo: _shown(photo) for photo in photos}
        return [photo for photo, shown in self._shown[scene].items() if name in shown]


def _frames(root: Path) -> tuple[Path, dict[str, list[Path]]]:
    """The set's own folder, and scene -> its colour pictures; scenes without any are not there."""
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
    shown = "; ".join(LAYOUT.splitlines())
    raise DataError(f"{root} is not laid out as {TITLE} is: it has no scene with -color.png pictures ({shown})")


def _is_scene(folder: Path) -> bool:
    return bool(re.fullmatch(r"[0-9]{4}", folder.name))


def _stem(photo: Path) -> str:
    return photo.name.removesuffix("-color.png")


def _number(photo: Path) -> int:
    """A frame's number in its scene.  Raises DataError."""
    if not re.fullmatch(r"[0-9]{1,9}", _stem(photo)):
        raise DataError(f"{photo} is no frame of {TITLE}: its name must be a number and -color.png")
    return int(_stem(photo))


def _label_path(photo: Path) -> Path:
    return photo.with_name(f"{_stem(photo)}-label.png")


def _labels(photo: Path, size_hw: tuple[int, int] | None = None) -> Int[np.ndarray, "h w"]:
    """The class of every pixel of a frame."""
    return label_file(inside(photo.parent, _label_path(photo).name, TITLE), size_hw, TITLE, (0, *_LABEL.values()))


def _shown(photo: Path) -> frozenset[str]:
    """The objects that are not too small in a frame."""
    found = _labels(photo)
    return frozenset(name for name in NOUNS if float((found == _LABEL[name]).mean()) >= _TOO_SMALL)


def _objects(photo: Path) -> frozenset[str]:
    """The objects of a frame's scene, by the list of their boxes; hidden ones too."""
    path = inside(photo.parent, f"{_stem(photo)}-box.txt", TITLE)
    names = [line.split()[0] for line in _lines(path)]
    for name in names:
        if name not in NOUNS:
            raise DataError(f"{path}: {UnknownNameError('object', name, NOUNS)}")
    return frozenset(names)


def _keyframes(home: Path) -> frozenset[str]:
    """``0048/000001`` and so on; empty when the set has no list of them."""
    path = home / "image_sets" / "keyframe.txt"
    return frozenset(_lines(path)) if path.exists() else frozenset()


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    text = read_bytes(path).decode("utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _chosen(text: str) -> frozenset[str]:
    """The scenes of "0048-0059,0070".  Raises UsageError."""
    chosen: set[str] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{4})(?:-([0-9]{4}))?", part.strip())
        if not match:
            raise UsageError(f"scenes={text!r}: give scenes of four digits, like 0048-0059,0070")
        first, last = int(match[1]), int(match[2] or match[1])
        chosen.update(f"{number:04d}" for number in range(first, last + 1))
    return frozenset(chosen)


def _by_lot(names: list[str], photo: Path) -> list[str]:
    """The names in an order that follows from the frame's own name."""
    frame = f"{photo.parent.name}/{photo.name}"
    return sorted(names, key=lambda name: hashlib.sha256(f"{frame} {name}".encode()).digest())
