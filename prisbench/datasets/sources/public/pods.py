"""PODS: 100 household objects of five kinds, three photos to learn each from, twelve outlined test photos of each.

The layout is that of the archive ``pods.zip`` of Sundaram, Chae et al., "Personalized Representation from Personalized
Generation" (ICLR 2025), https://github.com/ssundaram21/personalized-rep: ``dataset/README.md`` (folders, the two JSON
files), ``downstream/dense_tasks.py`` (``test_dense``, its masks, a mask is what is not black).  The same photos as
Parquet (https://huggingface.co/datasets/chaenayo/PODS) are not read: the published split of the objects is not in it.

Its own splits are kept: a third of the objects is ``val``, here "validation".  Licence: MIT, by the card on the Hub.

It cannot know: the things around the object, which two of the four kinds of test photo (``distractors``,
``pose_and_distractors``) have, since they are not outlined: every query about a photo's own object is "plain", and its
kind stands in the column ``source`` where the set says it.  What the keys of ``pods_image_annos.json`` look like is not
documented: a photo is looked up by its path below ``test_dense``, its name, and its name without the ending.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source
from prisbench.datasets.sources.mask_files import mask_file
from prisbench.datasets.sources.options import LICENCE_HELP, TEXT_HELP, build_key, one_line, query_text, whole_number
from prisbench.datasets.sources.plan import Candidate, about, from_nth, subjects_of
from prisbench.datasets.sources.reading.files import PHOTOS, folders, inside, listing, top
from prisbench.datasets.sources.reading.images import image_file
from prisbench.datasets.sources.reading.values import json_file
from prisbench.datasets.sources.reference_photos import evenly
from prisbench.errors import DataError

TITLE = "PODS"
LICENCE = "MIT"
HOMEPAGE = "https://github.com/ssundaram21/personalized-rep"
LAYOUT = """\
pods_info.json (classes, class_to_sc, class_to_split)
pods_image_annos.json (photo -> test_split; may be missing)
train/<object>/0.jpg, train_masks/<object>/0.jpg
test_dense/<object>/0.jpg, test_dense_masks/<object>/0.jpg"""
OPTIONS = {
    "references": "photos to learn from (default: 3, all there are)",
    "absent": "each test photo is also asked for so many other objects of its kind, which are not there (default: 0)",
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
}
LIMITS = """\
Only the object is outlined: look-alikes in the photos with distractors are there, but nobody said where.  That another
object of the set is absent from a photo rests on the published evaluation, which counts it so."""


def read(root: Path, options: Mapping[str, str]) -> Source:
    """The set in a folder.  Raises DataError for another layout, UsageError for a value that makes no sense."""
    references, n_absent = whole_number(options, "references", 3), whole_number(options, "absent", 0, least=0)
    text, licence = query_text(options), one_line(options, "licence", LICENCE)
    root = top(root, ("pods_info.json", "train", "test_dense", "test_dense_masks"), TITLE, LAYOUT)
    nouns, splits = _classes(root / "pods_info.json")
    kinds = json_file(root / "pods_image_annos.json") if (root / "pods_image_annos.json").exists() else {}
    shown = {folder.name: evenly(listing(folder, PHOTOS), references) for folder in folders(root / "train")}
    asked = {folder.name: listing(folder, PHOTOS) for folder in folders(root / "test_dense")}
    remarks = Remarks(root)
    names = [name for name in nouns if shown.get(name) and asked.get(name)]
    left_out: Counter[str] = Counter()
    if len(names) < len(nouns):
        left_out["objects without photos"] = len(nouns) - len(names)
    if not names:
        raise DataError(f"{root}: no object of pods_info.json has photos in both train and test_dense")
    if unlisted := len((shown.keys() | asked.keys()) - nouns.keys()):
        left_out["folders that pods_info.json does not name"] = unlisted
    if (root / "test").is_dir():
        unmarked = sum(len(listing(folder, PHOTOS)) for folder in folders(root / "test"))
        left_out["test photos without a mask (test/)"] += unmarked

    def subject(name: str) -> SubjectRow:
        shots = [image_file(file) for file in shown[name]]
        masks = [
            _mask(root, "train_masks", file, remarks, shot.pixels.shape[:2])
            for file, shot in zip(shown[name], shots, strict=True)
        ]
        return SubjectRow(
            noun=nouns[name],
            photos=tuple(shot.pixels for shot in shots),
            split=splits[name],
            licence=licence,
            source=f"{HOMEPAGE} train/{name}",
            masks=tuple(mask if mask.any() else None for mask in masks),
            files=tuple(shot.file for shot in shots),
        )

    subjects = subjects_of(names, subject)

    def query(photo: Path, name: str, mask: Bool[np.ndarray, "_h _w"]) -> QueryRow:
        there = name == photo.parent.name
        shot = image_file(photo)
        place = f"test_dense/{photo.parent.name}/{photo.name}"
        return QueryRow(
            subject_id=subjects.id_of(name),
            noun=nouns[name],
            image=shot.pixels,
            text=text,
            query_type="plain" if there else "absent",
            mask=mask if there else np.zeros_like(mask),
            look_alikes=() if there else (mask,),
            split=splits[name],
            licence=licence,
            source=f"{HOMEPAGE} {place}{_kind(kinds, place)}",
            file=shot.file,
        )

    def candidates() -> Iterator[Candidate]:
        for name in names:
            alike = [other for other in names if (nouns[other], splits[other]) == (nouns[name], splits[name])]
            for photo in asked[name]:
                mask = _mask(root, "test_dense_masks", photo, remarks)
                if not mask.any():
                    yield "photos with an empty mask"
                    continue
                others = sorted(set(alike) - {name}, key=lambda other: _by_lot(f"{photo.name} {name} {other}"))
                for other in (name, *others[:n_absent]):
                    yield partial(query, photo, other, mask)
                for _ in range(n_absent - len(others)):
                    yield "absent queries for which there is no other object of the kind"

    photos = [file for name in names for file in (*shown[name], *asked[name])]
    masks = [file for name in names for file in listing(inside(root, f"test_dense_masks/{name}"))]
    lists = [file for file in listing(root, {".json"}) if file.name.startswith("pods_")]
    return Source(
        name="pods",
        version="1",
        about=about(TITLE, HOMEPAGE, f"{LIMITS}\n{len(names)} of the 100 published objects are here.", options),
        key=build_key(TITLE, options, root, [*photos, *masks, *lists]),
        subjects=subjects.rows,
        queries=lambda start: from_nth(start, candidates(), left_out),
        n_subjects=len(names),
        left_out=left_out,
        remarks=remarks,
    )


def _classes(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Object -> noun, and object -> split, of ``pods_info.json``."""
    info = json_file(path)
    nouns, splits = (info.get(key) if isinstance(info, dict) else None for key in ("class_to_sc", "class_to_split"))
    if not (isinstance(nouns, dict) and isinstance(splits, dict) and nouns and set(nouns) <= set(splits)):
        raise DataError(f"{path} must map each object by class_to_sc to its kind and by class_to_split to val or test")
    for name, noun in nouns.items():
        if splits[name] not in ("val", "test") or not isinstance(noun, str) or not noun.strip():
            raise DataError(f"{path}: the object {name!r} has the kind {noun!r} and the split {splits[name]!r}")
    return (
        {name: noun.replace("_", " ").strip() for name, noun in sorted(nouns.items())},
        {name: "validation" if splits[name] == "val" else "test" for name in nouns},
    )


def _mask(
    root: Path, folder: str, photo: Path, remarks: Remarks, size_hw: tuple[int, int] | None = None
) -> Bool[np.ndarray, "h w"]:
    """The mask of a photo, stored under the same name.

    As JPEG it is cut at half: the published code takes all that is not black, and so the ringing at the edges too.
    """
    stem = f"{folder}/{photo.parent.name}/{photo.stem}"
    found = [ending for ending in (".png", ".jpg", ".jpeg") if (root / f"{stem}{ending}").exists()]
    path = inside(root, f"{stem}{found[0] if found else photo.suffix}", TITLE)
    if path.suffix.lower() == ".png":
        return mask_file(path, size_hw, TITLE, remarks=remarks)
    grey = image_file(path, TITLE).pixels
    if size_hw is not None and grey.shape[:2] != size_hw:
        raise DataError(f"{path} is {grey.shape[:2]}, its photo {size_hw} (h, w)")
    return np.asarray(grey.max(axis=2) >= 128)


def _kind(annotations: Any, place: str) -> str:
    """``" (pose)"``: what the set says of a test photo; nothing when it says nothing."""
    path = place.removeprefix("test_dense/")
    name = path.split("/")[1]
    for key in (path, path.rsplit(".", 1)[0], name, name.rsplit(".", 1)[0]):
        entry = annotations.get(key) if isinstance(annotations, dict) else None
        if isinstance(entry, dict) and entry.get("class") == path.split("/")[0] and entry.get("test_split"):
            return f" ({entry['test_split']})"
    return ""


def _by_lot(text: str) -> str:
    """A place that follows from the words alone."""
    return sha256(text.encode()).hexdigest()
