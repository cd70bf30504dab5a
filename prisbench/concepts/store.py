"""Concepts on disk: a folder with ``concept.json`` and ``concept.safetensors``, found again by
what they were made of.

Knows: files and keys.  Does not know: models, how a concept is learned.

The JSON holds the hash of the tensors, so a folder put together from two concepts is noticed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from prisbench.errors import BackboneError, DataError, UsageError, WriteError
from prisbench.images.photos import pixels_sha256
from prisbench.runtime.files import (
    cache_folder,
    new_folder,
    read_bytes,
    read_json,
    sha256_bytes,
    sha256_json,
    write_bytes,
    write_json,
)
from prisbench.types import Concept, Subject

FORMAT = 1

_SAID = ("id", "noun", "learner", "subject_id")

MOST_BYTES = 200
"""Of a name; file systems take 255."""


def concept_key(subject: Subject, learner: str, backbone: str | None, recipe: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of all that decides a concept: backbone, photos in their order, noun,
    learner and recipe.

    ``recipe`` holds the seed and the recipe's version.
    """
    photos = [pixels_sha256(photo) for photo in subject.photos]
    parts = {"backbone": backbone, "photos": photos, "noun": subject.noun, "learner": learner, "recipe": dict(recipe)}
    return sha256_json(parts)[:16]


def default_store() -> Path:
    """``concepts`` in prisbench's cache folder (PRISBENCH_HOME)."""
    return cache_folder() / "concepts"


def concept_folder(given: str | Path) -> Path:
    """The folder that a user means: a concept's folder, or else what the store keeps under that name or key, or under
    the only one that begins so.

    Raises DataError for neither, with the nearest name of the store, or with the candidates where several begin so.
    """
    folder = Path(given).expanduser()
    kept = default_store() / folder
    if (folder / "concept.json").is_file():
        return folder
    if ".." not in folder.parts and (kept / "concept.json").is_file():
        return kept
    if folder.is_dir() and folder != Path():
        raise DataError(f"{folder} holds no concept.json; give a concept's folder, or the --name it was learned under")
    names = sorted(path.parent.name for path in default_store().glob("*/concept.json"))
    begun = [name for name in names if str(given) not in ("", ".") and name.startswith(str(given))]
    if len(begun) == 1:
        return default_store() / begun[0]
    if begun:
        some = ", ".join(begun[:6]) + (f" and {len(begun) - 6} more" if len(begun) > 6 else "")
        raise DataError(f"{str(given)!r} may be {len(begun)} concepts: {some}; say more of the name you mean")
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(
        f"no concept {str(given)!r}: {hint}give a concept's folder, or the --name it was learned under; "
        f"{len(names)} are in {default_store()}"
    )


def kept_concepts() -> list[dict[str, Any]]:
    """What the store keeps, as plain JSON values, in the order of names: a named concept comes once, with the keys it
    is kept under, too (``keys``).

    Raises DataError for a concept.json that is none.
    """
    names: dict[str, list[str]] = {}
    about: dict[str, Any] = {}
    for path in sorted(default_store().glob("**/concept.json")):
        if any(part.startswith(".") for part in path.relative_to(default_store()).parts):  # not written to its end
            continue
        record = read_json(path)
        if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in _SAID):
            raise DataError(f"{path} is no concept's; remove its folder, or learn the concept again")
        names.setdefault(record["id"], []).append(path.parent.relative_to(default_store()).as_posix())
        about[record["id"]] = record
    rows = []
    for id, kept in names.items():
        said = {"noun": about[id]["noun"], "learner": about[id]["learner"], "backbone": about[id].get("backbone")}
        own = [name for name in kept if name != id]
        keys = [id] if own and id in kept else []
        rows += [{"name": name, "keys": keys, "subject": about[id]["subject_id"], **said} for name in own or [id]]
    return sorted(rows, key=lambda row: str(row["name"]))


def named_folder(name: str) -> Path:
    """Where the store keeps the concept that a user calls ``name``.  Raises UsageError for what can be no name."""
    word = re.fullmatch(r"\w[\w.-]{0,99}", name) and len(os.fsencode(name)) <= MOST_BYTES
    if not word or re.fullmatch(r"[0-9a-f]{16}", name):
        raise UsageError(
            f"--name {name[:40]!r}: one short word of letters, digits, '-', '_' and '.', such as mug-anna (and no 16 "
            "hexadecimal digits, which are what unnamed concepts are kept under)"
        )
    return default_store() / name


def renamed(folder: Path, id: str | None) -> str | None:
    """One line when a named folder holds another concept than that with this id; that one is to take its place.

    Raises UsageError where the store does not keep the former one under its key, too: it would be lost.
    """
    if not (folder / "concept.json").is_file():
        return None
    former = read_concept(folder)
    if former.id == id:
        return None
    if not (default_store() / former.id / "concept.json").is_file():
        raise UsageError(
            f"{folder.name!r} is the name of another concept, of noun {former.noun!r}, which is kept nowhere else; "
            f"take another --name, or remove {folder}"
        )
    return f"{folder.name} was another concept until now; that one is {default_store() / former.id}"


def find_concept(store: str | Path, key: str) -> Concept | None:
    """The concept with this key, None when it was never learned.  Raises DataError when it is
    there and corrupt.
    """
    folder = Path(store) / key
    return read_concept(folder) if (folder / "concept.json").is_file() else None


def write_concept(concept: Concept, folder: str | Path) -> Path:
    """Write a concept, whole or not at all; an older concept there is replaced, anything else is
    not.

    Raises WriteError.
    """
    tensors = save({name: np.ascontiguousarray(tensor) for name, tensor in concept.tensors.items()})
    record = {
        "format": FORMAT,
        "id": concept.id,
        "subject_id": concept.subject_id,
        "noun": concept.noun,
        "learner": concept.learner,
        "backbone": concept.backbone,
        "recipe": dict(concept.recipe),
        "calibration": dict(concept.calibration),
        "tensors_sha256": sha256_bytes(tensors),
    }
    with new_folder(folder, overwrite=True, marker="concept.json") as temp:
        write_bytes(temp / "concept.safetensors", tensors)
        write_json(temp / "concept.json", record)
    return Path(folder)


def keep_concept(concept: Concept, stores: Sequence[Path], say: Callable[[str], None]) -> Path:
    """Write a concept into the first of the stores that takes it; ``say`` is told why the others
    did not.

    Returns its folder.  Raises WriteError when none takes it.
    """
    *others, last = stores
    for store in others:
        try:
            return write_concept(concept, store / concept.id)
        except WriteError as error:
            say(f"{error}; concept {concept.id} is kept in {last} instead")
    return write_concept(concept, last / concept.id)


def read_concept(folder: str | Path) -> Concept:
    """The concept in a folder.  Raises DataError when it is missing, of another format, or
    corrupt.
    """
    folder = Path(folder)
    record = read_json(folder / "concept.json")
    try:
        if record["format"] != FORMAT:
            raise DataError(f"{folder}: concept format {record['format']}, this version reads {FORMAT}; learn it again")
        data = read_bytes(folder / "concept.safetensors")
        if sha256_bytes(data) != record["tensors_sha256"]:
            raise DataError(f"{folder}: concept.safetensors is not the file concept.json speaks of; learn it again")
        return Concept(
            id=str(record["id"]),
            subject_id=str(record["subject_id"]),
            noun=str(record["noun"]),
            learner=str(record["learner"]),
            backbone=record["backbone"],
            tensors=load(data),
            recipe=record["recipe"],
            calibration=record.get("calibration", {}),
        )
    except (KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"{folder}: not a prisbench concept ({error!r}); learn it again") from None


def check_backbone(concept: Concept, backbone_id: str) -> None:
    """Raises BackboneError, naming both, when the concept was learned on another backbone."""
    if concept.backbone not in (None, backbone_id):
        raise BackboneError(
            f"concept {concept.id} of {concept.subject_id!r} was learned on {concept.backbone}, not on {backbone_id}; "
            "use that backbone or learn the concept again"
        )
