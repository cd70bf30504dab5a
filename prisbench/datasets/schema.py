"""The two tables of a dataset, the rules their rows keep, and the ids and digest that follow from content.

Knows: columns, rules, hashes.  Does not know: where rows come from, files, order.
The columns in words: ``docs/dataset.md``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from prisbench.datasets.subject_names import plain_name, title
from prisbench.datasets.things import (
    COLUMNS,
    NULLABLE,
    RLE,
    WORDS,
    check_things,
    known_things,
    things_content,
    things_record,
)
from prisbench.errors import DataError
from prisbench.images.arrays import ImageLike, MadeImage, MadeMask, as_image, as_mask
from prisbench.images.masks import mask_sha256, to_rle
from prisbench.images.perceptual import perceptual_hash
from prisbench.images.photos import encode_png, pixels_sha256
from prisbench.runtime.files import sha256_json
from prisbench.types import QUERY_TYPES, REFERENTLESS, SLOT, Thing

SCHEMA_VERSION = 3
"""Changes when a reader of the old version would misread the new one.  2: masks of photos, perceptual hashes.  3: all
things of a scene, and pairs of queries."""

READABLE = (2, 3)
"""The schema versions that are read.  Version 2 has no columns ``things.COLUMNS``; what they say follows."""

SPLITS = ("validation", "test")
"""Settings are chosen on the first; only results on the second are reported."""

MANIFEST = "dataset.json"

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

TABLES = {
    "subjects": pa.schema(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("noun", pa.string()),
            ("photos", pa.list_(_IMAGE)),
            ("masks", pa.list_(RLE)),
            ("split", pa.string()),
            ("licence", pa.string()),
            ("source", pa.string()),
        ]
    ),
    "queries": pa.schema(
        [
            ("id", pa.string()),
            ("subject_id", pa.string()),
            ("noun", pa.string()),
            ("image_id", pa.string()),
            ("image", _IMAGE),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("text", pa.string()),
            ("query_type", pa.string()),
            ("mask", RLE),
            ("look_alikes", pa.list_(RLE)),
            *COLUMNS,
            ("area_fraction", pa.float64()),
            ("split", pa.string()),
            ("licence", pa.string()),
            ("source", pa.string()),
            ("sha256", pa.string()),
            ("perceptual_hash", pa.string()),
        ]
    ),
}
"""Table name -> Arrow columns; ``features`` says the same in the words of Hugging Face."""


def features(table: str) -> Any:
    """The ``datasets.Features`` of a table, so that images open as images."""
    from datasets import Features, Image, List, Value

    rle = {"size": List(Value("int32")), "counts": Value("string")}
    images = {"photos": List(Image()), "image": Image()}
    words = {name: Value("string") for name in WORDS}
    special = {
        **images,
        "mask": rle,
        "masks": List(rle),
        "look_alikes": List(rle),
        "things": List({**rle, **words}),
    }
    return Features({field.name: special.get(field.name) or Value(str(field.type)) for field in TABLES[table]})


@dataclass(frozen=True, eq=False)
class SubjectRow:
    """A subject as a source yields it.  ``source`` says where the photos come from: an address, or a recipe's name.

    ``masks``: none at all, or for each photo the visible part of the subject in it, None where that is not known.
    ``files``: none at all, or for each photo the encoded file it was read from, None where a PNG is to be made.  The
    table keeps such a file as it is; it must decode to the photo's pixels.  Neither is part of ``id``.
    ``name``: what the set itself calls the subject, where it has a name for it; part of neither id nor digest.
    Photos and masks in any memory layout, or Pillow images, become arrays (``arrays.as_image``, ``as_mask``).
    """

    noun: str
    photos: tuple[MadeImage, ...]
    split: str
    licence: str
    source: str
    masks: tuple[MadeMask | None, ...] = ()
    files: tuple[bytes | None, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        photos = tuple(as_image(each, f"photo {n} of a {self.noun!r}") for n, each in enumerate(self.photos, 1))
        masks = tuple(
            None if each is None else as_mask(each, f"mask {n} of a {self.noun!r}")
            for n, each in enumerate(self.masks, 1)
        )
        object.__setattr__(self, "photos", photos)
        object.__setattr__(self, "masks", masks)

    @cached_property
    def id(self) -> str:
        return subject_id(self.noun, self.photos)

    @property
    def title(self) -> str:
        """The subject to a reader: its name and its id."""
        return title(self.id, self.name)

    @property
    def knows_masks(self) -> bool:
        """Whether there is a mask of any photo."""
        return any(mask is not None for mask in self.masks)

    def record(self) -> dict[str, Any]:
        """The row of the table."""
        files = self.files or (None,) * len(self.photos)
        photos = [_image(photo, file) for photo, file in zip(self.photos, files, strict=True)]
        masks = [None if mask is None else to_rle(mask) for mask in self.masks] if self.knows_masks else []
        return {"id": self.id, "name": self.name, **_plain(self), "photos": photos, "masks": masks}

    @cached_property
    def digest(self) -> str:
        """sha256 of what the row means, whatever wrote the images.  The masks are in it only when there is one."""
        photos = [pixels_sha256(photo) for photo in self.photos]
        content: dict[str, Any] = {"id": self.id, **_plain(self), "photos": photos}
        if self.knows_masks:
            content["masks"] = [None if mask is None else mask_sha256(mask) for mask in self.masks]
        return sha256_json(content)


@dataclass(frozen=True, eq=False)
class QueryRow:
    """A query with its scene and truth, as a source yields it.

    ``mask`` is the visible part of what the text means, empty exactly when ``query_type`` is in ``REFERENTLESS``.
    ``look_alikes`` are the visible parts of the other things with the same noun, none of them empty.  ``things`` are
    all things of the scene that are known, ``meant`` is the place among them of the one that the text means; left out,
    they are the subject and its look-alikes.  Queries with the same ``pair_id`` are about one scene and one subject, in
    texts that differ in one phrase.  All masks have the scene's size; that, and the other rules, are seen to by
    ``check_query``.  ``file`` is the encoded file the scene was read from, which the table
    keeps as it is; None when a PNG is to be made.  It must decode to the pixels of ``image``.  The scene and the masks
    in any memory layout, or Pillow images, become arrays, as in ``SubjectRow``.
    """

    subject_id: str
    noun: str
    image: MadeImage
    text: str
    query_type: str
    mask: MadeMask
    look_alikes: tuple[MadeMask, ...]
    split: str
    licence: str
    source: str
    file: bytes | None = None
    things: tuple[Thing, ...] = ()
    meant: int | None = None
    pair_id: str | None = None

    def __post_init__(self) -> None:
        where = f"query {self.text!r}"
        object.__setattr__(self, "image", as_image(self.image, f"{where}: the scene"))
        object.__setattr__(self, "mask", as_mask(self.mask, f"{where}: the mask"))
        others = tuple(as_mask(each, f"{where}: a look-alike") for each in self.look_alikes)
        object.__setattr__(self, "look_alikes", others)

    @cached_property
    def all_things(self) -> tuple[Thing, ...]:
        """``things``; where none are given, the subject and its look-alikes."""
        return self.things or known_things(self.noun, self.mask, self.look_alikes)

    @property
    def meant_thing(self) -> int | None:
        """``meant``, of ``all_things``."""
        return self.meant if self.things else 0 if self.mask.any() else None

    @cached_property
    def sha256(self) -> str:
        return pixels_sha256(self.image)

    @cached_property
    def perceptual_hash(self) -> str:
        """As ``perceptual.perceptual_hash``."""
        return perceptual_hash(self.image)

    @property
    def image_id(self) -> str:
        """As ``photos.image_id``."""
        return self.sha256[:16]

    @cached_property
    def id(self) -> str:
        return query_id(self.subject_id, self.image_id, self.text)

    @property
    def area_fraction(self) -> float:
        """The mask's share of the scene, 0..1."""
        return float(self.mask.mean())

    def derived(self) -> dict[str, Any]:
        """The columns that follow from the others."""
        return {
            "id": self.id,
            "image_id": self.image_id,
            "height": self.image.shape[0],
            "width": self.image.shape[1],
            "area_fraction": self.area_fraction,
            "sha256": self.sha256,
            "perceptual_hash": self.perceptual_hash,
        }

    def record(self) -> dict[str, Any]:
        """The row of the table."""
        return {
            **_plain(self),
            **self.derived(),
            "image": _image(self.image, self.file),
            "mask": to_rle(self.mask),
            "look_alikes": [to_rle(mask) for mask in self.look_alikes],
            **things_record(self),
        }

    @cached_property
    def digest(self) -> str:
        """sha256 of what the row means, whatever wrote the image and the run lengths, in any order of look-alikes."""
        content = {
            "id": self.id,
            **_plain(self),
            "image": self.sha256,
            "mask": mask_sha256(self.mask),
            "look_alikes": sorted(mask_sha256(mask) for mask in self.look_alikes),
            **things_content(self),
        }
        return sha256_json(content)


def subject_id(noun: str, photos: Iterable[ImageLike]) -> str:
    """The noun and 10 hexadecimal digits that follow from noun and photos, like ``mug-3f9c21a07e``."""
    slug = re.sub(r"[^a-z0-9]+", "-", noun.lower()).strip("-") or "subject"
    return f"{slug}-{sha256_json([noun, [pixels_sha256(photo) for photo in photos]])[:10]}"


def query_id(subject: str, image: str, text: str) -> str:
    """16 hexadecimal digits that follow from the subject's id, the scene's id and the text."""
    return sha256_json([subject, image, text])[:16]


def check_subject(row: SubjectRow) -> None:
    """Raises DataError, naming the subject, when a row breaks a rule of its table."""
    where = f"subject {row.title}"
    _check_words(row, where)
    if row.name is not None and plain_name(row.name) != row.name:
        raise DataError(f"{where}: name {row.name!r} must be one line of text, without spaces around it")
    if not row.photos:
        raise DataError(f"{where} has no photos")
    for name, found in (("masks", row.masks), ("files", row.files)):
        if found and len(found) != len(row.photos):
            raise DataError(f"{where} has {len(found)} {name} for {len(row.photos)} photos; give one each, or none")
    for n, (photo, mask) in enumerate(zip(row.photos, row.masks, strict=False), 1):
        if mask is not None and mask.shape != photo.shape[:2]:
            raise DataError(f"{where}: a mask of {mask.shape} (h, w) on photo {n} of {photo.shape[:2]}")
        if mask is not None and not mask.any():
            raise DataError(f"{where}: the mask of photo {n} is empty; give None where it is not known")


def check_query(row: QueryRow) -> None:
    """Raises DataError, naming the query, when a row breaks a rule of its table."""
    where = f"query {row.id} ({row.text!r})"
    _check_words(row, where)
    if row.text.count(SLOT) != 1:
        raise DataError(f"{where}: the text must have {SLOT} once, where the subject's own words go")
    if row.query_type not in QUERY_TYPES:
        raise DataError(f"{where}: query type {row.query_type!r} is none of {', '.join(QUERY_TYPES)}")
    size_hw = row.image.shape[:2]
    for mask in (row.mask, *row.look_alikes):
        if mask.shape != size_hw:
            raise DataError(f"{where}: a mask of {mask.shape} (h, w) on a scene of {size_hw}")
    if (row.query_type in REFERENTLESS) == bool(row.mask.any()):
        empty = "contradicted" if row.query_type == "contradicted" else "absent"
        raise DataError(f"{where}: the mask must be empty exactly when the type is {empty!r}; it is {row.query_type!r}")
    if not all(mask.any() for mask in row.look_alikes):
        raise DataError(f"{where}: a look-alike's mask is empty; leave out what is not visible")
    if row.query_type == "look-alike" and not row.look_alikes:
        raise DataError(f"{where}: a look-alike query without look-alikes")
    check_things(row, where)


def digest_rows(subjects: Iterable[str], queries: Iterable[str]) -> str:
    """The digest of a dataset from the digests of its rows: the same in any order, any shards, any encoder.

    Holds 32 bytes a row, not the 64 digits.
    """
    whole = hashlib.sha256()
    for kind, digests in ((b"query", queries), (b"subject", subjects)):  # as the lines sort
        packed = np.array([bytes.fromhex(digest) for digest in digests], dtype="S32")
        for digest in np.sort(packed).view(np.uint8).reshape(-1, 32):
            whole.update(b"%s %s\n" % (kind, digest.tobytes().hex().encode("ascii")))
    return whole.hexdigest()


def _plain(row: SubjectRow | QueryRow) -> dict[str, str]:
    """The columns that are text and stand in the row as they are."""
    return {
        field.name: value
        for field in dataclasses.fields(row)
        if field.name not in NULLABLE and isinstance(value := getattr(row, field.name), str)
    }


def _image(pixels: UInt8[np.ndarray, "h w 3"], file: bytes | None) -> dict[str, Any]:
    """An image as the tables hold it."""
    return {"bytes": encode_png(pixels) if file is None else file, "path": None}


def _check_words(row: SubjectRow | QueryRow, where: str) -> None:
    if row.split not in SPLITS:
        raise DataError(f"{where}: split {row.split!r} is none of {', '.join(SPLITS)}")
    for name, text in _plain(row).items():
        if not text or text != text.strip() or "\n" in text:
            raise DataError(f"{where}: {name} {text!r} must be one line of text, without spaces around it")
