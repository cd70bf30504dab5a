"""DAVIS 2016 and 2017: the things of a video clip, learned from its first frame, found in the later ones.

The layout is that of the published archives (https://davischallenge.org/davis2017/code.html; the reader
``davis2017/davis.py`` of https://github.com/davisvideochallenge/davis2017-evaluation): 2016 has one mask a frame, 0 and
255, in which all that moves together is one thing; 2017 has palette indices, one for each thing.  The nouns are those
of ``davis_semantics.json`` (archive ``DAVIS-2017_semantics-480p.zip``).

Every thing of DAVIS is in one clip only, so whoever learns it there and finds it there is tested on the scene that was
learned: same background, same light, a moment later.  That is the field's first-frame protocol, and no test of finding
"my thing" in a new scene.  So the set is read only when ``allow_same_clip=true`` says that this is understood, and the
written set says so too.  The frames of the second after the reference photo are nearly copies of it and are not asked
about, unless a clip has no others; the field's protocol is ``apart=1``.

Licence: CC-BY-NC-4.0.  The archives' README says CC-BY-4.0 for the sequences and CC-BY-NC for the 2017 set; the
stricter is taken.  Some sequences are from YouTube (``SOURCES.md`` in the archives), under the terms there.

It cannot know: things that nobody outlined; whether a thing without pixels in a frame is hidden or gone, so such frames
are left out, where DAVIS's own measure counts them; a noun, where there is no ``davis_semantics.json``: then the
clip's name stands for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source, kind_of_scene, split_of
from prisbench.datasets.sources.mask_files import mask_file
from prisbench.datasets.sources.options import (
    CUT_HELP,
    LICENCE_HELP,
    TEXT_HELP,
    build_key,
    one_line,
    query_text,
    share,
    whole_number,
    yes_or_no,
)
from prisbench.datasets.sources.plan import Candidate, about, from_nth, subjects_of
from prisbench.datasets.sources.reading.files import PHOTOS, folders, inside, listing, top
from prisbench.datasets.sources.reading.images import ImageFile, image_file, label_file
from prisbench.datasets.sources.reading.values import json_file
from prisbench.datasets.sources.reference_photos import Shot, cut_out
from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import read_bytes

TITLE = "DAVIS"
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
    "apart": "frames from the reference photo to the first that is asked about, where a clip has so many (default: 24, "
    "a second; the field's protocol: 1)",
    "step": "of the later frames every so many-th is asked about (default: 1)",
    "cut": f"{CUT_HELP} (default: true; the field's protocol: false, with the mask)",
    "validation_share": "share of the clips, 0 to 1, whose queries are for choosing settings (default: 0)",
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
**Reference and queries come from the same clip** (allow_same_clip=true): the first frame teaches, later ones ask.
Background and light are nearly those that were learned, so results here say nothing about finding a thing in a new
scene, and frames of a clip are no independent samples."""

_VOID = 255
"""Not decided (``davis2017/davis.py``, VOID_LABEL)."""


class Clip(NamedTuple):
    """The frames of a clip that have a mask; the first is the reference."""

    name: str
    frames: tuple[Path, ...]


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
    single = _year(root, options) == "2016"
    left_out: Counter[str] = Counter()
    remarks = Remarks(root)
    clips = _clips(root, resolution, options.get("clips"), left_out)
    later = {clip.name: clip.frames[distance:] or clip.frames[1:] for clip in clips}
    if near := sum(len(clip.frames) - 1 - len(later[clip.name]) for clip in clips):
        left_out[f"frames less than {distance} after the reference photo"] = near

    nouns = json_file(root / "davis_semantics.json") if (root / "davis_semantics.json").exists() else None
    known: dict[str, frozenset[int]] = {}  # a clip's labels, where davis_semantics.json lists them

    def labels(photo: Path, size_hw: tuple[int, int] | None = None) -> Int[np.ndarray, "h w"]:
        path = inside(root, f"Annotations/{resolution}/{photo.parent.name}/{photo.stem}.png", TITLE)
        if single and not _has_later(root):
            return mask_file(path, size_hw, TITLE, remarks=remarks).astype(np.int32)
        found = label_file(path, size_hw, TITLE, known.get(photo.parent.name))
        if single and set(np.unique(found)) <= {0, _VOID}:  # masks of 2016 with the nouns of 2017
            return (found != 0).astype(np.int32)
        found = np.where(found == _VOID, 0, found)
        return (found != 0).astype(np.int32) if single else found

    things: dict[str, Thing] = {}
    first: dict[str, set[int]] = {}
    for clip in clips:
        shown = _things(clip, labels(clip.frames[0]), nouns, single)
        first[clip.name] = set(shown)
        if not single and (listed := _later(clip, nouns)):
            known[clip.name] = frozenset((0, _VOID, *listed))
        for label, noun in shown.items():
            if cut or list(shown.values()).count(noun) == 1:
                things[f"{clip.name} {label}"] = Thing(
                    clip, label, noun, {n: word for n, word in (_later(clip, nouns) | shown).items() if n != label}
                )
            else:
                left_out["things of one noun in one frame, which is no photo of either (cut=false)"] += 1
    if not things:
        raise DataError(f"{root}: no clip of {resolution} shows a thing in its first frame and has a second one")

    def subject(name: str) -> SubjectRow:
        thing = things[name]
        photo = thing.clip.frames[0]
        pixels, file = image_file(photo)
        mask = labels(photo, pixels.shape[:2]) == thing.label
        shot = Shot(*cut_out(pixels, mask), None) if cut else Shot(pixels, mask, file)
        return SubjectRow(
            noun=thing.noun,
            photos=(shot.photo,),
            split=split_of(thing.clip.name, validation_share),
            licence=licence,
            source=f"{HOMEPAGE} {thing.clip.name}/{photo.name}, thing {thing.label}",
            masks=(shot.mask,),
            files=(shot.file,),
        )

    subjects = subjects_of(list(things), subject)

    def query(name: str, photo: Path, picture: Callable[[], ImageFile]) -> QueryRow:
        thing = things[name]
        pixels, file = picture()
        found = labels(photo, pixels.shape[:2])
        there = [(found == label, noun) for label, noun in thing.beside.items() if (found == label).any()]
        look_alikes = tuple(mask for mask, noun in there if noun == thing.noun)
        return QueryRow(
            subject_id=subjects.id_of(name),
            noun=thing.noun,
            image=pixels,
            text=text,
            query_type=kind_of_scene(len(look_alikes), len(there) - len(look_alikes)),
            mask=found == thing.label,
            look_alikes=look_alikes,
            split=split_of(thing.clip.name, validation_share),
            licence=licence,
            source=f"{HOMEPAGE} {thing.clip.name}/{photo.name}",
            file=file,
        )

    def candidates() -> Iterator[Candidate]:
        for clip in clips:
            asked = [name for name, thing in things.items() if thing.clip is clip]
            for photo in later[clip.name][::step]:
                found, picture = labels(photo), cache(partial(image_file, photo))
                for name in asked:
                    hidden = not (found == things[name].label).any()
                    yield "things without a pixel in a frame" if hidden else partial(query, name, photo, picture)
                for _ in range(len(set(np.unique(found)) - {0} - first[clip.name])):
                    yield "things that the first frame of their clip does not show"

    used = [photo for clip in clips for photo in clip.frames]
    masks = [inside(root, f"Annotations/{resolution}/{photo.parent.name}/{photo.stem}.png") for photo in used]
    lists = [root / "davis_semantics.json"] if nouns is not None else []
    return Source(
        name="davis-2016" if single else "davis-2017",
        version="2",  # 1: the frame right after the reference photo was asked about
        about=about(f"{TITLE} {'2016' if single else '2017'}", HOMEPAGE, LIMITS, options),
        key=build_key(TITLE, options, root, [*used, *masks, *lists]),
        subjects=subjects.rows,
        queries=lambda start: from_nth(start, candidates(), left_out),
        n_subjects=len(things),
        left_out=left_out,
        remarks=remarks,
    )


def _year(root: Path, options: Mapping[str, str]) -> str:
    year = options.get("year", "2017" if _has_later(root) else "2016")
    if year not in ("2016", "2017"):
        raise UsageError(f"year={year!r}: give 2016 or 2017")
    return year


def _has_later(root: Path) -> bool:
    """Whether something of 2017's is there."""
    return (root / "ImageSets" / "2017").exists() or (root / "davis_semantics.json").exists()


def _clips(root: Path, resolution: str, wanted: str | None, left_out: Counter[str]) -> list[Clip]:
    """The clips with at least two frames that have a mask."""
    there = {folder.name: folder for folder in folders(inside(root, f"JPEGImages/{resolution}"))}
    names = sorted(there) if wanted is None else _listed(inside(root, f"ImageSets/{wanted}.txt"))
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


def _listed(path: Path) -> list[str]:
    """The clips of a list: 2017 has their names, 2016 a frame and its mask on each line."""
    lines = read_bytes(path).decode("utf-8", errors="replace").split("\n")
    first = [line.split()[0] for line in lines if line.strip()]
    return list(dict.fromkeys(word.split("/")[-2] if "/" in word else word for word in first))


def _later(clip: Clip, nouns: object) -> dict[int, str]:
    """Label -> noun of all that a clip shows anywhere, where somebody says it."""
    said = nouns.get(clip.name) if isinstance(nouns, dict) else None
    found = said.items() if isinstance(said, dict) else ()
    return {int(n): str(noun).strip() for n, noun in found if str(n).isdecimal()}


def _things(clip: Clip, found: Int[np.ndarray, "h w"], nouns: object, single: bool) -> dict[int, str]:
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
            "unpack DAVIS-2017_semantics-480p.zip beside JPEGImages"
        )
    return {label: re.sub(r"[-_]+", " ", clip.name) for label in labels}
