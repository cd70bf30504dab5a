"""The rows of a dataset, one by one: what is wrong with each is a finding, and the next one is examined.

Knows: nulls, pictures, masks, the rules of a row and between rows, columns that follow from others.  Does not know: the
manifest, how findings are told; the rules themselves (``schema``, ``seen_rows``).

A row group is in memory at a time, and what ``SeenRows`` keeps of each row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.datasets.checks.findings import Findings
from prisbench.datasets.checks.gallery import Gallery, PictureRecord
from prisbench.datasets.checks.leaks import Progress
from prisbench.datasets.checks.stored import Key, Shard, row_groups
from prisbench.datasets.schema import QueryRow, SubjectRow, check_query, check_subject
from prisbench.datasets.seen_rows import SeenRows
from prisbench.datasets.subject_names import plain_name
from prisbench.datasets.things import NULLABLE
from prisbench.errors import DataError, MissingExtraError
from prisbench.images.masks import from_rle
from prisbench.images.photos import decode_photo
from prisbench.types import SLOT, Thing

NEARLY_EMPTY = 1 / 4096
"""Of a picture: one cell of 64 x 64, the finest maps that attention has at the usual 512 x 512 pixels."""


class Spot(NamedTuple):
    """What a finding is about: ``record`` names the row of the shard, or a part of it, for people."""

    shard: Shard
    key: Key
    record: str

    def part(self, name: str) -> Spot:
        """A photo or a mask of the row."""
        return self._replace(record=f"{self.record}, {name}")


MOST_PIECES = 75
"""Of CLIP's 77 tokens two are the ends (Radford et al. 2021, arXiv 2103.00020, 2.4)."""

_PIECES = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W\d_]+|\d|[^\s\w]+|_+")
"""What CLIP's tokenizer makes at least one token of each: words, digits, runs of other marks."""


def text_faults(text: str) -> list[tuple[str, str]]:
    """What of a text no diffusion model can be asked, each with its cure; methods find it only when they are run."""
    rest = text.replace(SLOT, "", 1)
    found = []
    if odd := re.search(r"{\w*}|[{}]", rest):
        found.append(
            (f"the text has {odd[0]!r} beside {SLOT}", f"write out what it stands for; {SLOT} is the only slot")
        )
    if (n := len(_PIECES.findall(rest)) + 2) > MOST_PIECES:  # the subject's own are a learned vector and a noun
        message = f"the text has {n} words and marks or more, and text encoders like CLIP read {MOST_PIECES}"
        found.append((message, "shorten it: what is beyond would be lost"))
    return found


class RowChecks:
    """The rows examined so far.

    ``sound``: whether all of them could be read and broke no rule.  ``seen``: what is kept of those that did not.
    ``counts``: table -> rows.  ``queries_of``: subject -> its queries.  ``types``: query type -> queries.
    ``split_of``: subject -> split.  ``names``: subject -> what its source calls it, "" for nothing.
    """

    def __init__(self, findings: Findings, gallery: Gallery | None) -> None:
        self.sound = True
        self.seen = SeenRows()
        self.counts: Counter[str] = Counter()
        self.queries_of: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.split_of: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self._add = findings.add
        self._gallery = gallery
        self._damaged: set[str] = set()

    def examine(self, shard: Shard, progress: Progress | None) -> None:
        """Look at all rows of a shard; those of ``subjects`` come before those of ``queries``."""
        check = self._subject if shard.table == "subjects" else self._query
        for group, table in row_groups(shard, self._problem_of_shard):
            for row in range(table.num_rows):
                self.counts[shard.table] += 1
                spot = Spot(shard, Key(shard.path, group, row), f"row {row + 1} of row group {group + 1}")
                try:
                    record = table.slice(row, 1).to_pylist()[0]
                    kind = "subject" if shard.table == "subjects" else "query"
                    spot = spot._replace(record=f"{kind} {record['id'] or spot.record}")
                    fine = check(record, spot)
                except Exception as error:  # a hostile row may break anything, and the next one is to be examined
                    self._problem("unreadable", f"{type(error).__name__}: {error}", spot)
                    fine = False
                self.sound &= fine
                if progress:
                    progress(f"checking {shard.table}", self.counts[shard.table])

    def _subject(self, record: dict[str, Any], spot: Spot) -> bool:
        if record["id"] is not None:
            self._damaged.add(record["id"])
            self.split_of[record["id"]] = spot.shard.split
            self.names[record["id"]] = plain_name(record.get("name") or "") or ""
        if not self._no_nulls(record, spot):
            return False
        photos = [self._image(photo, spot.part(f"photo {n}")) for n, photo in enumerate(record["photos"], 1)]
        self._add_to_gallery(photos, record["id"], spot)
        sizes = [None if photo is None else photo.shape[:2] for photo in photos]
        masks = [
            None if rle is None else self._mask(rle, size, spot.part(f"mask {n}"))
            for n, (rle, size) in enumerate(zip(record["masks"], _long(sizes, record["masks"]), strict=False), 1)
        ]
        if any(photo is None for photo in photos) or any(
            mask is None and rle is not None for mask, rle in zip(masks, record["masks"], strict=True)
        ):
            return False
        words = {name: record[name] for name in ("noun", "split", "licence", "source")}
        words["name"] = record.get("name")
        row = SubjectRow(photos=tuple(p for p in photos if p is not None), masks=tuple(masks), **words)
        fine = self._holds("rule", lambda: check_subject(row), spot)
        fine &= self._derived(record, {"id": row.id, "split": spot.shard.split}, spot)
        fine &= self._holds("between-rows", lambda: self.seen.add_subject(row), spot)
        for n, mask in enumerate(row.masks, 1):
            if mask is not None:
                self._tiny(mask, spot.part(f"mask {n}"))
        if fine:
            self._damaged.discard(record["id"])
        return fine

    def _query(self, record: dict[str, Any], spot: Spot) -> bool:
        if record["subject_id"] is not None:
            self.queries_of[record["subject_id"]] += 1
        if not self._no_nulls(record, spot):
            return False
        self.types[record["query_type"]] += 1
        image = self._image(record["image"], spot)
        size = None if image is None else image.shape[:2]
        mask = self._mask(record["mask"], size, spot.part("mask"))
        others = [self._mask(rle, size, spot.part(f"look-alike {n}")) for n, rle in enumerate(record["look_alikes"], 1)]
        if image is None or mask is None or any(other is None for other in others):
            return False
        words = {
            name: record[name] for name in ("subject_id", "noun", "text", "query_type", "split", "licence", "source")
        }
        things = self._things(record, size, spot)
        if things is None:
            return False
        row = QueryRow(
            image=image,
            mask=mask,
            look_alikes=tuple(o for o in others if o is not None),
            things=things,
            meant=record.get("meant"),
            pair_id=record.get("pair_id"),
            **words,
        )
        if self._gallery is not None:
            where = f"{spot.shard.name}: {spot.record}"
            shown = PictureRecord(where, "scene", (row.subject_id,), spot.shard.split, "")
            self._gallery.add(image, spot.key, shown, row.sha256)
        fine = self._holds("rule", lambda: check_query(row), spot)
        fine &= self._derived(record, {**row.derived(), "split": spot.shard.split}, spot)
        if row.subject_id not in self._damaged:  # else every query of a damaged subject would be told, too
            fine &= self._holds("between-rows", lambda: self.seen.add_query(row), spot)
        if mask.any():
            self._tiny(mask, spot.part("mask"))
        self._overlaps(row, spot)
        for message, cure in text_faults(row.text):
            self._add("rule", message, spot.shard.name, spot.record, cure)
        return fine

    def _problem(self, code: str, message: str, spot: Spot) -> None:
        self.sound = False
        self._add(code, message, spot.shard.name, spot.record)

    def _problem_of_shard(self, code: str, message: str, name: str) -> None:
        self.sound = False
        self._add(code, message, name)

    def _things(self, record: dict[str, Any], size: tuple[int, int] | None, spot: Spot) -> tuple[Thing, ...] | None:
        """The things of a query; None where one cannot be read, which is a finding."""
        found = []
        for n, thing in enumerate(record.get("things") or (), 1):
            if thing is None or thing["counts"] is None or thing["role"] is None:
                self._problem("null", f"thing {n} has no mask or no role", spot)
                return None
            mask = self._mask(thing, size, spot.part(f"thing {n}"))
            if mask is None:
                return None
            found.append(Thing(mask, thing["noun"], thing["role"], thing["grade"]))
        return tuple(found)

    def _no_nulls(self, record: dict[str, Any], spot: Spot) -> bool:
        nulls = [name for name, value in record.items() if value is None and name not in NULLABLE]
        if nulls:
            self._problem("null", f"{', '.join(nulls)} {'is' if len(nulls) == 1 else 'are'} null", spot)
        return not nulls

    def _image(self, image: Any, spot: Spot) -> UInt8[np.ndarray, "h w 3"] | None:
        data = image and image["bytes"]
        if data is None:
            path = image and image["path"]
            why = f"it only names the file {path!r}; the pictures belong into the table" if path else "it is null"
            self._problem("image", why, spot)
            return None
        try:
            return decode_photo(data, "the picture")
        except (DataError, MissingExtraError) as error:
            self._problem("image", str(error), spot)
            return None

    def _mask(self, rle: Any, size_hw: Any, spot: Spot) -> Bool[np.ndarray, "h w"] | None:
        """A mask; None when it is malformed or, which is looked at before it is unpacked, not of the picture's size."""
        size = rle["size"] if rle is not None else None
        if size_hw is not None and size is not None and tuple(size) != tuple(size_hw):
            h, w = size_hw
            self._problem("mask-size", f"a mask of {size} (h, w) on a picture of [{h}, {w}]", spot)
            return None
        if size_hw is None and (size is None or len(size) != 2 or None in size or size[0] * size[1] > 2**27):
            return None  # the picture cannot be decoded, and so is told already
        try:
            return from_rle(rle, "the mask")
        except DataError as error:
            self._problem("encoding", str(error), spot)
            return None

    def _holds(self, code: str, check: Callable[[], None], spot: Spot) -> bool:
        try:
            check()
        except DataError as error:
            self._problem(code, str(error), spot)
            return False
        return True

    def _derived(self, record: dict[str, Any], expected: dict[str, Any], spot: Spot) -> bool:
        wrong = [
            f"{name} is {record[name]!r}, not {value!r}" for name, value in expected.items() if record[name] != value
        ]
        if wrong:
            self._problem("derived", "; ".join(wrong), spot)
        return not wrong

    def _tiny(self, mask: Bool[np.ndarray, "h w"], spot: Spot) -> None:
        pixels = int(mask.sum())
        if 0 < pixels < NEARLY_EMPTY * mask.size:
            h, w = mask.shape
            message = f"{pixels} pixels of a picture of {w} x {h}, {pixels / mask.size:.4%}".replace("%", " %")
            self._add("mask-tiny", message, spot.shard.name, spot.record)

    def _overlaps(self, row: QueryRow, spot: Spot) -> None:
        for n, other in enumerate(row.look_alikes, 1):
            if shared := int((other & row.mask).sum()):
                message = f"look-alike {n} and the subject share {shared} pixels"
                self._add("mask-overlap", message, spot.shard.name, spot.record)

    def _add_to_gallery(self, photos: Sequence[Any], subject: str, spot: Spot) -> None:
        """Hand a subject's photos to the leak audit."""
        if self._gallery is not None:
            for n, photo in enumerate(photos):
                if photo is not None:
                    where = f"{spot.shard.name}: {spot.part(f'photo {n + 1}').record}"
                    shown = PictureRecord(where, "reference", (subject,), spot.shard.split, "")
                    self._gallery.add(photo, spot.key._replace(photo=n), shown)


def _long(sizes: Sequence[Any], wanted: Sequence[Any]) -> list[Any]:
    """As many as wanted; the rule about their number is another's."""
    return [*sizes, *[None] * (len(wanted) - len(sizes))]
