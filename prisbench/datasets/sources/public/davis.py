"""DAVIS 2016 and 2017: the things of a video clip, learned from its first frame, found in the later ones.

The layout is that of the published archives (https://davischallenge.org/davis2017/code.html; the reader
``davis2017/davis.py`` of https://github.com/davisvideochallenge/davis2017-evaluation): 2016 has one mask a frame, 0 and
255, in which all that moves together is one thing; 2017 has palette indices, one for each thing.  The nouns are those
of ``davis_semantics.json`` (archive ``DAVIS-2017_semantics-480p.zip``).

Every thing of DAVIS is in one clip only, so whoever learns it there and finds it there is tested on the scene that was
learned: same background, same light, a moment later.  That is the field's first-frame protocol, and no test of finding
"my thing" in a new scene.  So the set is read only when ``allow_same_clip=true`` says that this is understood, and the
written set says so too.  The frames of the second after the reference photo are nearly copies of it and are not
queried, unless a clip has no others; the field's protocol is ``apart=1``.

Licence: CC-BY-NC-4.0.  The archives' README says CC-BY-4.0 for the sequences and CC-BY-NC for the 2017 set; the
stricter is taken.  Some sequences are from YouTube (``SOURCES.md`` in the archives), under the terms there.

It cannot know: things that nobody outlined; whether a thing without pixels in a frame is hidden or gone, so such frames
are left out, where DAVIS's own measure counts them; a noun, where there is no ``davis_semantics.json``: then the
clip's name stands for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, split_of, with_others
from prisbench.datasets.sources.options import (
    CUT_HELP,
    LICENCE_HELP,
    RELATIONS_HELP,
    TEXT_HELP,
    build_key,
    one_line,
    query_text,
    share,
    whole_number,
    yes_or_no,
)
from prisbench.datasets.sources.plan import Candidate, IdOf, about, tables_of
from prisbench.datasets.sources.public.davis_clips import (
    TITLE,
    Clip,
    Labels,
    Named,
    clips_of,
    folder_nouns_warning,
    is_2016,
    nouns_file,
)
from prisbench.datasets.sources.reading.files import top
from prisbench.datasets.sources.reading.images import ImageFile, image_file
from prisbench.datasets.sources.reading.values import json_file
from prisbench.datasets.sources.reference_photos import Shot, cut_out
from prisbench.datasets.sources.relations import related
from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import sha256_json

LICENCE = "CC-BY-NC-4.0"
HOMEPAGE = "https://davischallenge.org"
LAYOUT = """\
JPEGImages/480p/<clip>/00000.jpg, 00001.jpg, ...
Annotations/480p/<clip>/00000.png, 00001.png, ... (0 and 255, or palette indices)
ImageSets/2017/val.txt (clips; may be missing)
davis_semantics.json (nouns; may be missing where a clip has one thing)"""
OPTIONS = {
    "allow_same_clip": "must be true: reference and queries of DAVIS come from one clip, which is no new scene",
    "year": "2016 (one thing a clip) or 2017 (default: 2017 where its ImageSets or davis_semantics.json is, else 2016)",
    "resolution": "the folder below JPEGImages (default: 480p)",
    "clips": "a list of ImageSets, like 2017/val (default: every clip)",
    "nouns": 'what the things of the clips are, JSON like davis_semantics.json: {"dance": {"1": "dancer"}} '
    "(default: davis_semantics.json, else the clips' names)",
    "apart": "frames from the reference photo to the first that is asked about, where a clip has so many (default: 24, "
    "a second; the field's protocol: 1)",
    "step": "of the later frames every so many-th is asked about (default: 1)",
    "cut": f"{CUT_HELP} (default: true; the field's protocol: false, with the mask)",
    "validation_share": "share of the clips, 0 to 1, whose queries are for choosing settings (default: 0)",
    "relations": RELATIONS_HELP,
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
**Reference and queries come from the same clip** (allow_same_clip=true): the first frame teaches, later ones ask.
Background and light are nearly those that were learned, so results here say nothing about finding a thing in a new
scene, and frames of a clip are no independent samples."""


class Thing(NamedTuple):
    """One thing of one clip; ``beside``: label -> noun of the others."""

    clip: Clip
    label: int
    noun: str
    beside: dict[int, str]


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.

    Raises UsageError without ``allow_same_clip=true`` and for a value that makes no sense, DataError for another
    layout.
    """
    if not yes_or_no(options, "allow_same_clip", False):
        raise UsageError(
            "DAVIS has each thing in one clip only, so it would be tested in the scene it was learned in; say "
            "allow_same_clip=true to build that all the same (the field's first-frame protocol), or take another set"
        )
    step, distance = whole_number(options, "step", 1), whole_number(options, "apart", 24)
    cut, validation_share = yes_or_no(options, "cut", True), share(options)
    text, licence = query_text(options), one_line(options, "licence", LICENCE)
    root = top(root, ("JPEGImages", "Annotations"), TITLE, LAYOUT)
    resolution = one_line(options, "resolution", "480p")
    single = is_2016(root, options)
    left_out: Counter[str] = Counter()
    clips = clips_of(root, resolution, options.get("clips"), left_out)
    scenes = {clip.name: clip.frames[distance:] or clip.frames[1:] for clip in clips}
    if near := sum(len(clip.frames) - 1 - len(scenes[clip.name]) for clip in clips):
        left_out[f"frames less than {distance} after the reference photo"] = near
    nouns = nouns_file(root, options.get("nouns"))
    labels = Labels(root, resolution, single, json_file(nouns) if nouns else None, Remarks(root))
    named = {clip.name: labels.named(clip) for clip in clips}
    things = _things(clips, named, cut, left_out)
    if not things:
        raise DataError(f"{root}: no clip of {resolution} shows a thing in its first frame and has a second one")
    queried = {clip: frames[::step] for clip, frames in scenes.items()}
    rows = _Rows(labels, named, things, queried, cut, validation_share, text, licence)
    candidates = related(rows.candidates) if yes_or_no(options, "relations", False) else rows.candidates
    tables = tables_of(list(things), rows.subject, candidates, left_out)
    used = [photo for clip in clips for photo in clip.frames]
    masks = [labels.path(photo) for photo in used]
    lists = [nouns] if nouns is not None and labels.nouns is not None and nouns.is_relative_to(root) else []
    said = sha256_json(labels.nouns) if "nouns" in options else ""
    return Source(
        name="davis-2016" if single else "davis-2017",
        version="2",  # 1: the frame right after the reference photo was queried
        about=about(f"{TITLE} {'2016' if single else '2017'}", HOMEPAGE, LIMITS, options),
        key=build_key(f"{TITLE}{said}", options, root, [*used, *masks, *lists]),
        subjects=tables.subjects,
        queries=tables.queries,
        n_subjects=len(things),
        left_out=left_out,
        warnings=tuple(folder_nouns_warning(named, labels.nouns)),
        remarks=labels.remarks,
    )


def _things(clips: list[Clip], named: Mapping[str, Named], cut: bool, left_out: Counter[str]) -> dict[str, Thing]:
    """The subjects, by name.  A whole frame is no photo of one of two things of one noun."""
    things: dict[str, Thing] = {}
    for clip in clips:
        first, listed = named[clip.name]
        for label, noun in first.items():
            if cut or list(first.values()).count(noun) == 1:
                beside = {n: word for n, word in (listed | first).items() if n != label}
                things[f"{clip.name} {label}"] = Thing(clip, label, noun, beside)
            else:
                left_out["things of one noun in one frame, which is no photo of either (cut=false)"] += 1
    return things


@dataclass(frozen=True)
class _Rows:
    """Reads the rows.  ``named``, ``scenes``: by clip.  ``things``: by subject."""

    labels: Labels
    named: Mapping[str, Named]
    things: Mapping[str, Thing]
    scenes: Mapping[str, tuple[Path, ...]]
    cut: bool
    validation_share: float
    text: str
    licence: str

    def subject(self, name: str) -> SubjectRow:
        thing = self.things[name]
        photo = thing.clip.frames[0]
        pixels, file = image_file(photo)
        mask = self._labels(photo, pixels.shape[:2]) == thing.label
        shot = Shot(*cut_out(pixels, mask), None) if self.cut else Shot(pixels, mask, file)
        return SubjectRow(
            noun=thing.noun,
            photos=(shot.photo,),
            split=split_of(thing.clip.name, self.validation_share),
            licence=self.licence,
            source=f"{HOMEPAGE} {thing.clip.name}/{photo.name}, thing {thing.label}",
            masks=(shot.mask,),
            files=(shot.file,),
        )

    def candidates(self, id_of: IdOf) -> Iterator[Candidate]:
        for clip, photos in self.scenes.items():
            subjects = {name: thing for name, thing in self.things.items() if thing.clip.name == clip}
            for photo in photos:
                found, picture = self._labels(photo), cache(partial(image_file, photo))
                for name, thing in subjects.items():
                    hidden = not (found == thing.label).any()
                    yield (
                        "things without a pixel in a frame"
                        if hidden
                        else partial(self._query, name, photo, picture, id_of)
                    )
                for _ in set(np.unique(found)) - {0, *self.named[clip].first}:
                    yield "things that the first frame of their clip does not show"

    def _query(self, name: str, photo: Path, picture: Callable[[], ImageFile], id_of: IdOf) -> QueryRow:
        thing = self.things[name]
        pixels, file = picture()
        found = self._labels(photo, pixels.shape[:2])
        there = [(found == label, noun) for label, noun in thing.beside.items() if (found == label).any()]
        look_alikes = tuple(mask for mask, noun in there if noun == thing.noun)
        row = QueryRow(
            subject_id=id_of(name),
            noun=thing.noun,
            image=pixels,
            text=self.text,
            query_type=kind_of_scene(len(look_alikes), len(there) - len(look_alikes)),
            mask=found == thing.label,
            look_alikes=look_alikes,
            split=split_of(thing.clip.name, self.validation_share),
            licence=self.licence,
            source=f"{HOMEPAGE} {thing.clip.name}/{photo.name}",
            file=file,
        )
        return with_others(row, ((mask, noun) for mask, noun in there if noun != thing.noun))

    def _labels(self, photo: Path, size_hw: tuple[int, int] | None = None) -> Int[np.ndarray, "h w"]:
        return self.labels.read(photo, size_hw, self.named[photo.parent.name])
