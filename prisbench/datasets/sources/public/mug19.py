"""Mug19, the set of the paper that set the task, read by a map that you write.

The set is linked from https://github.com/Big-Brother-Pikachu/Text2Mask (arXiv 2309.04109), without a licence and
without a word on its layout, and nothing else documents it.  So this reader does not know the layout: a small YAML,
``layout.yaml`` or the option ``layout``, says which folders play which role.  ``{name}`` stands for a subject.

    noun: mug
    subjects: concepts            # the folders in it are the subjects' names; or a list: [mug_01, mug_02]
    photos: concepts/{name}       # a subject's reference photos
    scenes: images/{name}         # where it is looked for
    masks: labels/{name}          # white where it is, same stem, PNG; all black: not there
    photo_masks: ...              # optional: where it is in the reference photos
    look_alikes: ...              # optional: a folder of masks of other mugs, named <stem>.png or <stem>.<anything>.png
    licence: unknown              # optional
    source: ...                   # optional: an address

Every other set with a folder for each role can be read by such a map.  What does not fit: masks of several subjects in
one file, and texts of each scene; for the latter copy the files as ``folder`` wants them.  Numbers that the paper gives
cannot be compared with numbers on the set as it is read here until somebody has checked the two against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prisbench.datasets.source import Source, split_of
from prisbench.datasets.sources.folder import only_known, words
from prisbench.datasets.sources.options import (
    LICENCE_HELP,
    MASK_OPTIONS,
    SHARE_HELP,
    TEXT_HELP,
    mask_rule,
    one_line,
    query_text,
    share,
    whole_number,
)
from prisbench.datasets.sources.picture_files import QueryFiles, SubjectFiles, masks_in, pictures_in, source_of
from prisbench.datasets.sources.plan import about
from prisbench.datasets.sources.reading.files import folders, inside
from prisbench.datasets.sources.reading.values import yaml_file
from prisbench.errors import DataError
from prisbench.runtime.files import stem_of

TITLE = "Mug19"
LICENCE = "unknown"
"""None is stated."""
HOMEPAGE = "https://github.com/Big-Brother-Pikachu/Text2Mask"
LAYOUT = """
layout.yaml (ours; the set's own layout is not documented):
noun: mug
subjects: concepts
photos: concepts/{name}
scenes: images/{name}
masks: labels/{name}
"""
OPTIONS = {
    "layout": "the YAML that says which folders are what, below the folder (default: layout.yaml)",
    "references": "reference photos per subject, the first by file name (default: all)",
    "validation_share": SHARE_HELP,
    "text": TEXT_HELP,
    "licence": LICENCE_HELP,
    **MASK_OPTIONS,
}
LIMITS = """\
- The set's own layout, splits, texts and protocol: they are not public.  What is here is what the map says.
- The licence: none is stated, so do not publish what is built from it.
- Whether every look-alike has a mask."""

_ROLES = ("photos", "scenes", "masks", "photo_masks", "look_alikes")
_ENTRIES = ("noun", "subjects", *_ROLES, "licence", "source")


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file for all else."""
    path = inside(root, options.get("layout", "layout.yaml"), "layout (the map that says which folders are what)")
    layout = only_known(yaml_file(path), _ENTRIES, str(path))
    for name in ("noun", "subjects", "photos", "scenes", "masks"):
        if name not in layout:
            raise DataError(f"{path} does not say {name!r}; it wants noun, subjects, photos, scenes and masks")
    for name in layout.keys() - {"subjects"}:
        if "{name}" not in words(layout[name], f"{path}: {name}") and name in ("photos", "scenes", "masks"):
            raise DataError(f"{path}: {name} is {layout[name]!r}; put {{name}} where the subject's name stands")
    left_out: Counter[str] = Counter()
    names = _names(root, path, layout["subjects"])
    subjects = [_subject_files(root, path, layout, name, options, left_out) for name in names]
    return source_of(
        "mug19",
        root,
        subjects,
        options,
        left_out,
        about(
            TITLE, HOMEPAGE, LIMITS, {**options, **{f"layout.yaml {name}": str(said) for name, said in layout.items()}}
        ),
    )


def _names(root: Path, path: Path, subjects: Any) -> list[str]:
    """The subjects' names: a list, or the folders of a folder."""
    if isinstance(subjects, str):
        found = [folder.name for folder in folders(inside(root, subjects, f"{path}: subjects"))]
    elif isinstance(subjects, list):
        for name in subjects:
            if not isinstance(name, str):
                raise DataError(f"{path}: subjects has {name!r}, which YAML takes for no text; put names in quotes")
        found = list(subjects)
    else:
        raise DataError(f"{path}: subjects is {subjects!r}; a folder or a list of names is wanted")
    if not found or len(set(found)) < len(found):
        raise DataError(f"{path}: subjects are none, or one comes twice: {', '.join(found)}")
    return found


def _subject_files(
    root: Path,
    path: Path,
    layout: Mapping[str, str],
    name: str,
    options: Mapping[str, str],
    left_out: Counter[str],
) -> SubjectFiles:
    places = {
        role: inside(root, layout[role].replace("{name}", name), f"{path}: {role}") for role in _ROLES if role in layout
    }
    photos = pictures_in(places["photos"])
    scenes = pictures_in(places["scenes"])
    for role, found in (("photos", photos), ("scenes", scenes)):
        if not found:
            raise DataError(f"{path}: {role} of {name}: {places[role]} has no photos")
    photos = photos[: whole_number(options, "references", len(photos))]
    photo_masks = masks_in(places["photo_masks"]) if "photo_masks" in places else {}
    masks = masks_in(places["masks"])
    others = masks_in(places["look_alikes"]) if "look_alikes" in places else {}
    queries = []
    alike_of: set[str] = set()
    for scene in scenes:
        if stem_of(scene) not in masks:
            raise DataError(f"{scene} has no mask {places['masks'] / scene.stem}.png; all black says 'not there'")
        alike = [
            other for stem, other in others.items() if stem == stem_of(scene) or stem.startswith(f"{stem_of(scene)}.")
        ]
        alike_of.update(stem_of(other) for other in alike)
        queries.append(QueryFiles(scene, query_text(options), masks[stem_of(scene)], tuple(alike)))
    unused = {
        "masks of no scene": masks.keys() - alike_of - {stem_of(scene) for scene in scenes},
        "look_alikes of no scene": others.keys() - alike_of,
        "photo_masks of no reference photo": photo_masks.keys() - {stem_of(photo) for photo in photos},
    }
    left_out.update({reason: len(stems) for reason, stems in unused.items() if stems})
    return SubjectFiles(
        name=name,
        noun=words(layout["noun"], "noun"),
        split=split_of(name, share(options)),
        licence=one_line(options, "licence", layout.get("licence", LICENCE).strip()),
        source=layout.get("source", HOMEPAGE).strip(),
        photos=photos,
        masks=tuple(photo_masks.get(stem_of(photo)) for photo in photos),
        queries=tuple(queries),
        rule=mask_rule(options),
    )
