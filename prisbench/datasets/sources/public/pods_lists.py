"""What the files of PODS say: its objects with their photos, and the kinds of its test photos.

Knows: the folders and the two JSON files.  Does not know: masks, which queries there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.datasets.sources.reading.files import PHOTOS, folders, listing
from prisbench.datasets.sources.reading.values import json_file
from prisbench.datasets.sources.reference_photos import evenly
from prisbench.errors import DataError


class PodsLists(NamedTuple):
    """``nouns``, ``splits``: by object.  ``annotations``: what ``pods_image_annos.json`` holds, {} without it."""

    nouns: Mapping[str, str]
    splits: Mapping[str, str]
    annotations: Any


class PodsObject(NamedTuple):
    """An object's noun, split, photos to learn from, and test photos."""

    noun: str
    split: str
    references: list[Path]
    scenes: list[Path]


def lists_of(root: Path) -> PodsLists:
    """What the two JSON files say.  Raises DataError where they are not as published."""
    nouns, splits = _classes(root / "pods_info.json")
    path = root / "pods_image_annos.json"
    return PodsLists(nouns, splits, json_file(path) if path.exists() else {})


def objects_of(root: Path, lists: PodsLists, references: int, left_out: Counter[str]) -> dict[str, PodsObject]:
    """The objects that have photos of both kinds, by name.  Raises DataError when there are none."""
    nouns = lists.nouns
    kept = {folder.name: evenly(listing(folder, PHOTOS), references) for folder in folders(root / "train")}
    scenes = {folder.name: listing(folder, PHOTOS) for folder in folders(root / "test_dense")}
    names = [name for name in nouns if kept.get(name) and scenes.get(name)]
    if len(names) < len(nouns):
        left_out["objects without photos"] = len(nouns) - len(names)
    if not names:
        raise DataError(f"{root}: no object of pods_info.json has photos in both train and test_dense")
    if unlisted := len((kept.keys() | scenes.keys()) - nouns.keys()):
        left_out["folders that pods_info.json does not name"] = unlisted
    if (root / "test").is_dir():
        unmarked = sum(len(listing(folder, PHOTOS)) for folder in folders(root / "test"))
        left_out["test photos without a mask (test/)"] += unmarked
    return {name: PodsObject(nouns[name], lists.splits[name], kept[name], scenes[name]) for name in names}


def kind_of(lists: PodsLists, place: str) -> str:
    """``" (pose)"``: what the set says of a test photo; nothing when it says nothing."""
    path = place.removeprefix("test_dense/")
    name = path.split("/")[1]
    for key in (path, path.rsplit(".", 1)[0], name, name.rsplit(".", 1)[0]):
        entry = lists.annotations.get(key) if isinstance(lists.annotations, dict) else None
        if isinstance(entry, dict) and entry.get("class") == path.split("/")[0] and entry.get("test_split"):
            return f" ({entry['test_split']})"
    return ""


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
