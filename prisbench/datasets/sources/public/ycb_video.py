"""YCB-Video: 21 groceries and tools in 92 videos of table tops; learned in one video, found in others.

The layout is that of Xiang, Schmidt, Narayanan, Fox, "PoseCNN" (RSS 2018, arXiv 1711.00199),
https://github.com/yuxng/YCB_Video_toolbox: ``data/<scene>/<frame>-color.png``, ``-label.png`` (the class of every
pixel, 0 background) and ``-box.txt`` (the objects of the scene, hidden ones too); classes are numbered by the
alphabetical list in ``ycb_video_frames``.  ``-depth.png``, ``-meta.mat`` and ``data_syn`` are not read.

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
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, with_others
from prisbench.datasets.sources.options import (
    LICENCE_HELP,
    RELATIONS_HELP,
    TEXT_HELP,
    build_key,
    one_line,
    query_text,
    whole_number,
    yes_or_no,
)
from prisbench.datasets.sources.plan import Candidate, IdOf, about, tables_of
from prisbench.datasets.sources.public.ycb_video_frames import (
    LABEL,
    NOUNS,
    TITLE,
    TOO_SMALL,
    ReferenceFrames,
    keyframes,
    label_path,
    labels,
    objects,
    scenes_of,
    stem,
)
from prisbench.datasets.sources.reading.images import ImageFile, image_file
from prisbench.datasets.sources.reference_photos import cut_out
from prisbench.datasets.sources.relations import related
from prisbench.errors import DataError, UsageError

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
    "relations": f"{RELATIONS_HELP}; no box is a landmark, since others stand about unlabelled",
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
Only the 21 objects are labelled; look-alikes are other objects of the same noun, never two of one make.  Other things
of the same noun may be there, like the cartons of scenes 0049 and 0050, and nobody marked them.
The frames of a scene look nearly alike: its queries are no independent samples."""


_UNCLEAR = ("box",)
"""Nouns of which unlabelled things stand about: the cartons of scenes 0049 and 0050."""


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    references, step = whole_number(options, "references", 4), whole_number(options, "step", 1)
    n_absent, text = whole_number(options, "absent", 1, least=0), query_text(options)
    licence = one_line(options, "licence", LICENCE)
    queried = _chosen(options.get("scenes", "0048-0059"))
    home, frames = scenes_of(root, LAYOUT)
    listed = keyframes(home)
    shows = {scene: objects(photos[0]) for scene, photos in frames.items()}
    left_out: Counter[str] = Counter()
    taught_by = _taught_by(root, shows, queried, left_out)
    scenes = {
        scene: [photo for photo in photos if not listed or f"{scene}/{stem(photo)}" in listed][::step]
        for scene, photos in frames.items()
        if scene in queried
    }
    if passed := sum(len(frames[scene]) - len(photos) for scene, photos in scenes.items()):
        left_out["frames that keyframe.txt or step passes over"] = passed
    chosen = ReferenceFrames(frames, taught_by, references, whole_number(options, "apart", 30))
    rows = _Rows(root, shows, scenes, chosen, n_absent, text, licence)
    candidates = related(rows.candidates, _UNCLEAR) if yes_or_no(options, "relations", False) else rows.candidates
    tables = tables_of(list(taught_by), rows.subject, candidates, left_out)
    learned = {scene for names in taught_by.values() for scene in names}
    used = [photo for scene in frames for photo in (frames[scene] if scene in learned else scenes.get(scene, []))]
    return Source(
        name="ycb-video",
        version="2",  # 1: photos from one scene, neighbouring frames too
        about=about(TITLE, HOMEPAGE, f"{LIMITS}\n{len(frames)} of the 92 published scenes are here.", options),
        key=build_key(TITLE, options, home, [*used, *map(label_path, used)]),
        subjects=lambda: chosen.counted(tables.subjects(), left_out),
        queries=tables.queries,
        n_subjects=len(taught_by),
        left_out=left_out,
    )


def _taught_by(
    root: Path, shows: Mapping[str, frozenset[str]], queried: frozenset[str], left_out: Counter[str]
) -> dict[str, list[str]]:
    """Object -> the scenes that it is learned from, of the objects that a scene for queries shows, too.

    Raises DataError when there are none.
    """
    tested = {name for scene, names in shows.items() if scene in queried for name in names}
    taught_by = {
        name: scenes
        for name in NOUNS
        if name in tested and (scenes := [s for s, names in shows.items() if s not in queried and name in names])
    }
    if not taught_by:
        raise DataError(
            f"{root}: no object is both in a scene to learn from and in one to ask about; say with scenes=... which of "
            f"{', '.join(shows)} are to ask about"
        )
    if n_one_kind := len(set().union(*shows.values())) - len(taught_by):
        left_out["objects that are only in scenes of one kind"] = n_one_kind
    return taught_by


@dataclass(frozen=True)
class _Rows:
    """Reads the rows.  ``shows``: scene -> its objects.  ``scenes``: scene for queries -> its frames."""

    root: Path
    shows: Mapping[str, frozenset[str]]
    scenes: Mapping[str, list[Path]]
    chosen: ReferenceFrames
    n_absent: int
    text: str
    licence: str

    def subject(self, name: str) -> SubjectRow:
        photos = self.chosen.photos(name)
        if not photos:
            scenes = ", ".join(self.chosen.taught_by[name])
            raise DataError(f"{self.root}: {name} is hidden in the frames taken from the scenes {scenes}")
        cuts = []
        for photo in photos:
            pixels = image_file(photo).pixels
            cuts.append(cut_out(pixels, labels(photo, pixels.shape[:2]) == LABEL[name]))
        places = ", ".join(f"{photo.parent.name}/{stem(photo)}" for photo in photos)
        return SubjectRow(
            noun=NOUNS[name],
            photos=tuple(cut.photo for cut in cuts),
            split="test",
            licence=self.licence,
            source=f"{HOMEPAGE} {name} in {places}",
            masks=tuple(cut.mask for cut in cuts),
        )

    def candidates(self, id_of: IdOf) -> Iterator[Candidate]:
        for scene, photos in self.scenes.items():
            away = [name for name in self.chosen.taught_by if name not in self.shows[scene]]
            for photo in photos:
                found, picture = labels(photo), cache(partial(image_file, photo))
                absent = _by_hash(away, photo)[: self.n_absent]
                for name in self.chosen.taught_by:
                    part = float((found == LABEL[name]).mean())
                    if part >= TOO_SMALL or (name in absent and not part):
                        yield partial(self._query, name, photo, picture, id_of)
                    elif part or name in self.shows[scene]:
                        yield "objects hidden in a frame, or showing less than a thousandth of it"
                for _ in range(self.n_absent - len(away)):
                    yield "absent queries for which there is no object"

    def _query(self, name: str, photo: Path, picture: Callable[[], ImageFile], id_of: IdOf) -> QueryRow:
        pixels, file = picture()
        found = labels(photo, pixels.shape[:2])
        mask = found == LABEL[name]
        others = [other for other in NOUNS if other != name and (found == LABEL[other]).any()]
        look_alikes = tuple(found == LABEL[other] for other in others if NOUNS[other] == NOUNS[name])
        row = QueryRow(
            subject_id=id_of(name),
            noun=NOUNS[name],
            image=pixels,
            text=self.text,
            query_type=kind_of_scene(len(look_alikes), len(others) - len(look_alikes)) if mask.any() else "absent",
            mask=mask,
            look_alikes=look_alikes,
            split="test",
            licence=self.licence,
            source=f"{HOMEPAGE} {photo.parent.name}/{photo.name}",
            file=file,
        )
        beside = ((found == LABEL[other], NOUNS[other]) for other in others if NOUNS[other] != NOUNS[name])
        return with_others(row, beside)


def _chosen(text: str) -> frozenset[str]:
    """The scenes of "0048-0059,0070".  Raises UsageError."""
    chosen: set[str] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{4})(?:-([0-9]{4}))?", part.strip())
        if not match:
            raise UsageError(f"scenes={text!r}: give scenes of four digits, like 0048-0059,0070")
        first, last = int(match[1]), int(match[2] or match[1])
        chosen.update(f"{scene:04d}" for scene in range(first, last + 1))
    return frozenset(chosen)


def _by_hash(names: list[str], photo: Path) -> list[str]:
    """The names in an order that follows from the frame's own name."""
    frame = f"{photo.parent.name}/{photo.name}"
    return sorted(names, key=lambda name: hashlib.sha256(f"{frame} {name}".encode()).digest())
