"""Everything that can be wrong with a dataset, all of it at once, and how to mend it.

Knows: the folder, its manifest and files, the rules of rows and between rows, what a set should beware of; also plain
folders of photos.  Does not know: how rows are made; the rules themselves (``schema``, ``book``), what makes a copy
(``leaks``), how findings are told (``findings``).

Unlike ``open_dataset(verify=True)``, which stops at the first error, this goes on: a damaged file, row or picture is a
finding and the next one is looked at.  A row group is in memory at a time, and a kilobyte of every picture.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, UInt8

from prisbench.datasets.book import Book
from prisbench.datasets.checks.findings import Findings, Report
from prisbench.datasets.checks.gallery import Embed, Gallery, PictureRecord
from prisbench.datasets.checks.leaks import SAME_PIXELS, Audit, Leak, audit
from prisbench.datasets.schema import (
    MANIFEST,
    SCHEMA_VERSION,
    SPLITS,
    TABLES,
    Manifest,
    QueryRow,
    SubjectRow,
    check_query,
    check_subject,
)
from prisbench.datasets.sources.reading.values import json_file
from prisbench.errors import DataError, MissingExtraError
from prisbench.images.masks import from_rle
from prisbench.images.photos import SMALLEST_SIDE, SUFFIXES, decode_photo, load_photo
from prisbench.runtime.files import sha256_file

NEARLY_EMPTY = 1 / 4096
"""Of a picture: one cell of 64 x 64, the finest maps that attention has at the usual 512 x 512 pixels."""

LOPSIDED = 10
"""A subject with so many times the queries of the median subject, or a query type so many times another."""

MOST_GROUP_BYTES = 2**31
"""A row group that says to be larger is not read; the writer's have 16 MiB."""

Progress = Callable[[str, int], None]
"""Called with what is done and how many rows or files of it so far."""


def validate(
    path: str | os.PathLike[str],
    *,
    leaks: bool = True,
    against: Sequence[str | os.PathLike[str]] = (),
    embed: Embed | None = None,
    progress: Progress | None = None,
) -> Report:
    """Examine a dataset folder, or a folder of photos (of one subject, or one folder for each).

    ``leaks`` False leaves out the leak audit, which takes most of the time.  ``against`` are other datasets or folders
    of photos that should share no picture with this one.  ``embed`` also compares embeddings (``load_embedding``).

    Raises DataError when one of ``against`` holds no pictures; what is wrong with ``path`` is in the report.
    """
    folder = Path(path)
    gallery = Gallery(embed) if leaks else None
    findings = Findings()
    shards = _shards(folder) if folder.is_dir() else []
    if (folder / MANIFEST).is_file() or shards:
        one = _DatasetCheck(folder, findings, gallery, progress)
        kind, counts, name, digest = one.run(shards)
    elif folder.is_dir() and (photos := _photo_files(folder)):
        counts, kind, name, digest = _check_photos(folder, photos, findings, gallery, progress), "photos", None, None
    else:
        findings.add("not-a-dataset", _what_is_it(folder))
        counts, kind, name, digest = {}, "nothing", None, None
    audited = None
    if gallery is not None and kind != "nothing":
        for other in against:
            _add_other(gallery, Path(other), findings, progress)
        audited = audit(gallery, _reader(), progress)
        _tell_leaks(audited, findings, kind == "dataset")
    return Report(os.fspath(path), kind, name, digest, counts, dict(findings.found), findings.ordered(), audited)


# --- a dataset ------------------------------------------------------------------------------------------------------


class _Shard(NamedTuple):
    """A Parquet file of a dataset.  ``name`` is its path inside the folder."""

    path: Path
    name: str
    table: str
    split: str


class _Key(NamedTuple):
    """Where a picture is: a photo's file, or a row of a shard and, of a subject, the number of its photo."""

    path: Path
    group: int = -1
    row: int = -1
    photo: int = -1


class _DatasetCheck:
    """One look at a dataset folder."""

    def __init__(self, folder: Path, findings: Findings, gallery: Gallery | None, progress: Progress | None) -> None:
        self._folder = folder
        self._add = findings.add
        self._gallery = gallery
        self._progress = progress
        self._book = Book()
        self._whole = True
        self._damaged: set[str] = set()
        self._rows: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._types: Counter[str] = Counter()
        self._split_of: dict[str, str] = {}

    def run(self, shards: list[_Shard]) -> tuple[str, dict[str, int], str | None, str | None]:
        """What it is, how many rows there are, and the id and digest of the manifest."""
        manifest = self._manifest()
        if isinstance(manifest, str):
            self._add("not-a-dataset", manifest, MANIFEST, cure="rebuild it, or use the prisbench that made it")
            return "nothing", {}, None, None
        self._files(manifest, shards)
        self._card()
        for table in TABLES:
            for shard in shards:
                if shard.table == table:
                    self._shard(shard)
        self._against_manifest(manifest)
        self._balance()
        id, digest = (manifest.id, manifest.digest) if manifest else (None, None)
        return "dataset", {table: self._rows[table] for table in TABLES}, id, digest

    def _manifest(self) -> Manifest | str | None:
        """The manifest; None when it is of no use; why, when the folder is of another schema version."""
        path = self._folder / MANIFEST
        if not path.is_file():
            self._add("manifest", f"there is no {MANIFEST}, so whether these are all the rows cannot be known")
            return None
        try:
            value = json_file(path, 2**26)
            version = value.get("schema_version") if isinstance(value, dict) else None
            if isinstance(version, int) and version != SCHEMA_VERSION:
                return f"schema version {version}; this prisbench knows {SCHEMA_VERSION}"
            return Manifest.from_json(value, MANIFEST)
        except DataError as error:
            self._add("manifest", _less(error, self._folder), MANIFEST)
            return None

    def _files(self, manifest: Manifest | None, shards: list[_Shard]) -> None:
        there = {shard.name: shard.path for shard in shards}
        wanted = dict(manifest.files) if manifest else {}
        for name in sorted(set(wanted) - set(there)):
            self._add("file-missing", f"{MANIFEST} names {name!r}", name)
            self._whole = False
        for name in sorted(set(there) - set(wanted)) if manifest else ():
            self._add("file-stray", f"{MANIFEST} does not name it", name)
            self._whole = False
        for name in sorted(set(wanted) & set(there)):
            try:
                if sha256_file(there[name]) != wanted[name]:
                    self._add("checksum", f"its sha256 is not the one in {MANIFEST}", name)
            except DataError as error:
                self._add("parquet", _less(error, self._folder), name)
        for table in TABLES:
            if not any(shard.table == table for shard in shards):
                self._add("file-missing", f"there is no file {table}/<split>-00000.parquet, so no {table}", table)
                self._whole = False

    def _card(self) -> None:
        try:
            with open(self._folder / "README.md", encoding="utf-8", errors="replace") as file:
                head = file.read(2**20)
        except OSError:
            self._add("card", "there is no README.md: `datasets.load_dataset` would mix the two tables", "README.md")
            return
        front = head.split("\n---", 1)[0] if head.startswith("---") else ""
        missing = [table for table in TABLES if not re.search(rf"config_name: ['\"]?{table}\b", front)]
        if missing:
            self._add("card", f"its front matter does not name the table {' nor '.join(missing)}", "README.md")

    def _shard(self, shard: _Shard) -> None:
        check = self._subject if shard.table == "subjects" else self._query
        for group, table in _groups(shard, self._problem):
            for row in range(table.num_rows):
                self._rows[shard.table] += 1
                key = _Key(shard.path, group, row)
                at = f"row {row + 1} of row group {group + 1}"
                try:
                    record = table.slice(row, 1).to_pylist()[0]
                    at = f"{shard.table[:-1] if shard.table == 'subjects' else 'query'} {record['id'] or at}"
                    fine = check(record, shard, key, at)
                except Exception as error:  # a hostile row may break anything, and the next one is to be examined
                    self._problem("unreadable", f"{type(error).__name__}: {error}", shard.name, at)
                    fine = False
                self._whole &= fine
                if self._progress:
                    self._progress(f"checking {shard.table}", self._rows[shard.table])

    def _problem(self, code: str, message: str, file: str = "", record: str = "") -> None:
        self._whole = False
        self._add(code, message, file, record)

    def _subject(self, record: dict[str, Any], shard: _Shard, key: _Key, at: str) -> bool:
        if record["id"] is not None:
            self._damaged.add(record["id"])
            self._split_of[record["id"]] = shard.split
        if not self._no_nulls(record, shard, at):
            return False
        photos = [self._image(photo, shard, f"{at}, photo {n}") for n, photo in enumerate(record["photos"], 1)]
        self._show(photos, record["id"], shard, key, at)
        sizes = [None if photo is None else photo.shape[:2] for photo in photos]
        masks = [
            None if rle is None else self._mask(rle, size, shard, f"{at}, mask {n}")
            for n, (rle, size) in enumerate(zip(record["masks"], _long(sizes, record["masks"]), strict=False), 1)
        ]
        if any(photo is None for photo in photos) or any(
            mask is None and rle is not None for mask, rle in zip(masks, record["masks"], strict=True)
        ):
            return False
        words = {name: record[name] for name in ("noun", "split", "licence", "source")}
        row = SubjectRow(photos=tuple(p for p in photos if p is not None), masks=tuple(masks), **words)
        fine = self._holds("rule", lambda: check_subject(row), shard, at)
        fine &= self._derived(record, {"id": row.id, "split": shard.split}, shard, at)
        fine &= self._holds("between-rows", lambda: self._book.add_subject(row), shard, at)
        for n, mask in enumerate(row.masks, 1):
            if mask is not None:
                self._tiny(mask, shard, f"{at}, mask {n}")
        if fine:
            self._damaged.discard(record["id"])
        return fine

    def _query(self, record: dict[str, Any], shard: _Shard, key: _Key, at: str) -> bool:
        if record["subject_id"] is not None:
            self._asked[record["subject_id"]] += 1
        if not self._no_nulls(record, shard, at):
            return False
        self._types[record["query_type"]] += 1
        image = self._image(record["image"], shard, at)
        size = None if image is None else image.shape[:2]
        mask = self._mask(record["mask"], size, shard, f"{at}, mask")
        others = [
            self._mask(rle, size, shard, f"{at}, look-alike {n}") for n, rle in enumerate(record["look_alikes"], 1)
        ]
        if image is None or mask is None or any(other is None for other in others):
            return False
        words = {
            name: record[name] for name in ("subject_id", "noun", "text", "query_type", "split", "licence", "source")
        }
        row = QueryRow(image=image, mask=mask, look_alikes=tuple(o for o in others if o is not None), **words)
        if self._gallery is not None:
            where = f"{shard.name}: {at}"
            self._gallery.add(image, key, PictureRecord(where, "scene", (row.subject_id,), shard.split, ""), row.sha256)
        fine = self._holds("rule", lambda: check_query(row), shard, at)
        fine &= self._derived(record, {**row.derived(), "split": shard.split}, shard, at)
        if row.subject_id not in self._damaged:  # else every query of a damaged subject would be told, too
            fine &= self._holds("between-rows", lambda: self._book.add_query(row), shard, at)
        if mask.any():
            self._tiny(mask, shard, f"{at}, mask")
        for n, other in enumerate(row.look_alikes, 1):
            common = int((other & mask).sum())
            if common:
                self._add("mask-overlap", f"look-alike {n} and the subject share {common} pixels", shard.name, at)
        return fine

    def _no_nulls(self, record: dict[str, Any], shard: _Shard, at: str) -> bool:
        nulls = [name for name, value in record.items() if value is None]
        if nulls:
            self._problem("null", f"{', '.join(nulls)} {'is' if len(nulls) == 1 else 'are'} null", shard.name, at)
        return not nulls

    def _image(self, image: Any, shard: _Shard, at: str) -> UInt8[np.ndarray, "h w 3"] | None:
        data = image and image["bytes"]
        if data is None:
            path = image and image["path"]
            why = f"it only names the file {path!r}; the pictures belong into the table" if path else "it is null"
            self._problem("image", why, shard.name, at)
            return None
        try:
            return decode_photo(data, "the picture")
        except (DataError, MissingExtraError) as error:
            self._problem("image", str(error), shard.name, at)
            return None

    def _mask(self, rle: Any, size_hw: Any, shard: _Shard, at: str) -> Bool[np.ndarray, "h w"] | None:
        """A mask; None when it is malformed or, which is looked at before it is unpacked, not of the picture's size."""
        size = rle["size"] if rle is not None else None
        if size_hw is not None and size is not None and tuple(size) != tuple(size_hw):
            h, w = size_hw
            self._problem("mask-size", f"a mask of {size} (h, w) on a picture of [{h}, {w}]", shard.name, at)
            return None
        if size_hw is None and (size is None or len(size) != 2 or None in size or size[0] * size[1] > 2**27):
            return None  # the picture cannot be decoded, and so is told already
        try:
            return from_rle(rle, "the mask")
        except DataError as error:
            self._problem("encoding", str(error), shard.name, at)
            return None

    def _holds(self, code: str, check: Callable[[], None], shard: _Shard, at: str) -> bool:
        try:
            check()
        except DataError as error:
            self._problem(code, str(error), shard.name, at)
            return False
        return True

    def _derived(self, record: dict[str, Any], expected: dict[str, Any], shard: _Shard, at: str) -> bool:
        wrong = [
            f"{name} is {record[name]!r}, not {value!r}" for name, value in expected.items() if record[name] != value
        ]
        if wrong:
            self._problem("derived", "; ".join(wrong), shard.name, at)
        return not wrong

    def _tiny(self, mask: Bool[np.ndarray, "h w"], shard: _Shard, at: str) -> None:
        pixels = int(mask.sum())
        if 0 < pixels < NEARLY_EMPTY * mask.size:
            h, w = mask.shape
            message = f"{pixels} pixels of a picture of {w} x {h}, {pixels / mask.size:.4%}".replace("%", " %")
            self._add("mask-tiny", message, shard.name, at)

    def _show(self, photos: Sequence[Any], subject: str, shard: _Shard, key: _Key, at: str) -> None:
        """Hand a subject's photos to the leak audit."""
        if self._gallery is not None:
            for n, photo in enumerate(photos):
                if photo is not None:
                    picture = PictureRecord(
                        f"{shard.name}: {at}, photo {n + 1}", "reference", (subject,), shard.split, ""
                    )
                    self._gallery.add(photo, key._replace(photo=n), picture)

    def _against_manifest(self, manifest: Manifest | None) -> None:
        if manifest is None:
            return
        if not self._whole:
            self._add(
                "incomplete", "counts and digest are not compared with the manifest, since rows or files are damaged"
            )
            return
        try:
            found = self._book.manifest(manifest.name, manifest.version, manifest.seed, dict(manifest.files))
        except DataError as error:
            self._add("counts", str(error))
            return
        for table in ("subjects", "queries", "images"):
            there, said = getattr(found, table), getattr(manifest, table)
            if there != said:
                self._add("counts", f"{table}: {MANIFEST} says {_plain(said)}, there are {_plain(there)}", MANIFEST)
        if found.digest != manifest.digest:
            self._add("digest", f"it is {found.digest}, {MANIFEST} says {manifest.digest}", MANIFEST)

    def _balance(self) -> None:
        unasked = [subject for subject in self._split_of if not self._asked[subject]]
        for subject in unasked if self._rows["queries"] else ():
            self._add("unused", "no query is about it", "subjects", f"subject {subject}")
        if not self._rows["queries"]:
            return
        if "test" not in self._split_of.values():
            self._add("balance", "there is no test split: nothing can be reported", cure="give some subjects to 'test'")
        asked = sorted(self._asked.values())
        most, median = max(self._asked, key=lambda one: self._asked[one]), asked[len(asked) // 2]
        if self._asked[most] >= LOPSIDED * median:
            self._add("balance", f"{self._asked[most]} queries are about {most}, about the median subject {median}")
        big = max(self._types, key=lambda one: self._types[one])
        small = min(self._types, key=lambda one: self._types[one])
        if self._types[big] >= LOPSIDED * self._types[small]:
            self._add("balance", f"{self._types[big]} queries are {big!r}, only {self._types[small]} {small!r}")


def _shards(folder: Path) -> list[_Shard]:
    """The Parquet files that lie as those of a dataset do, whatever a manifest says."""
    found = []
    for table in TABLES:
        for path in sorted((folder / table).glob("*.parquet")):
            split = path.name.split("-")[0]
            found.append(_Shard(path, f"{table}/{path.name}", table, split))
    return found


def _groups(shard: _Shard, problem: Callable[[str, str, str], None]) -> Iterator[tuple[int, pa.Table]]:
    """The row groups of a shard that can be read, one at a time; what cannot is told to ``problem``."""
    if shard.split not in SPLITS:
        problem("columns", f"its name begins with no split ({', '.join(SPLITS)})", shard.name)
    try:
        file = pq.ParquetFile(shard.path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        problem("parquet", _one_line(error), shard.name)
        return
    with file:
        wanted = TABLES[shard.table]
        there = file.schema_arrow
        missing = [name for name in wanted.names if name not in there.names]
        if missing:
            problem("columns", f"no column {', '.join(missing)}", shard.name)
            return
        other = [
            f"{name} is {there.field(name).type}, not {wanted.field(name).type}"
            for name in wanted.names
            if there.field(name).type != wanted.field(name).type
        ]
        if other:
            problem("columns", "; ".join(other), shard.name)
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).total_byte_size
            if size > MOST_GROUP_BYTES:
                problem(
                    "parquet", f"row group {group + 1} has {size / 2**30:.1f} GiB, too large to be read", shard.name
                )
                continue
            try:
                yield group, _read_group(file, group, shard.table)
            except (pa.ArrowException, OSError, ValueError, TypeError) as error:
                if not other:
                    problem("parquet", f"row group {group + 1}: {_one_line(error)}", shard.name)


def _read_group(file: pq.ParquetFile, group: int, table: str) -> pa.Table:
    """A row group with the columns of its table, in the types of its table."""
    wanted = TABLES[table]
    return file.read_row_group(group, columns=wanted.names, use_threads=False).select(wanted.names).cast(wanted)


# --- photos and other sets ------------------------------------------------------------------------------------------


def _photo_files(folder: Path) -> dict[str, list[Path]]:
    """Subject -> photos: of the folder itself, or of the folders in it."""
    own = _photos_in(folder)
    if own:
        return {folder.absolute().name: own}
    found = {one.name: _photos_in(one) for one in _entries(folder) if one.is_dir() and not one.name.startswith(".")}
    return {name: photos for name, photos in found.items() if photos}


def _photos_in(folder: Path) -> list[Path]:
    return [
        path
        for path in _entries(folder)
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _check_photos(
    folder: Path,
    photos: dict[str, list[Path]],
    findings: Findings,
    gallery: Gallery | None,
    progress: Progress | None,
) -> dict[str, int]:
    """A folder of photos for each subject: do they open, are they large enough.  They are reference photos."""
    n = 0
    for subject, paths in photos.items():
        for path in paths:
            n += 1
            name = path.relative_to(folder).as_posix()
            try:
                image = load_photo(path)
            except (DataError, MissingExtraError) as error:
                findings.add("image", _less(error, folder), name)
                continue
            h, w = image.shape[:2]
            if min(h, w) < SMALLEST_SIDE:
                findings.add("photo-small", f"{w} x {h} pixels; the shorter side should have {SMALLEST_SIDE}", name)
            if gallery is not None:
                gallery.add(image, _Key(path), PictureRecord(name, "reference", (subject,), "", ""))
            if progress:
                progress("checking photos", n)
    return {"subjects": len(photos), "photos": n}


def _add_other(gallery: Gallery, folder: Path, findings: Findings, progress: Progress | None) -> None:
    """The pictures of another set, for the leak audit only; what cannot be read is counted."""
    name, bad, n, read = folder.absolute().name, 0, 0, _reader()
    for n, (key, picture) in enumerate(_other_pictures(folder, name), 1):
        try:
            gallery.add(read(key), key, picture)
        except (DataError, MissingExtraError):
            bad += 1
        if progress:
            progress(f"reading {name}", n)
    if not n:
        raise DataError(f"{folder} holds neither a dataset nor photos, so there is nothing to compare with")
    if bad:
        findings.add("incomplete", f"{bad} of {n} pictures of {folder} cannot be read")


def _other_pictures(folder: Path, name: str) -> Iterator[tuple[_Key, PictureRecord]]:
    """Every picture of a dataset, each scene once, or every photo below a folder."""
    shards = _shards(folder)
    for path in sorted(folder.rglob("*")) if not shards else ():
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield _Key(path), PictureRecord(f"{name}/{path.relative_to(folder).as_posix()}", "scene", (), "", name)
    seen: set[str] = set()
    for shard in shards:
        role = "reference" if shard.table == "subjects" else "scene"
        for group, table in _groups(shard, lambda *_: None):
            for row in range(table.num_rows):
                try:
                    record = table.slice(row, 1).to_pylist()[0]
                except ValueError:  # text that is not UTF-8
                    continue
                where = f"{name}/{shard.name}: {role} of {record['id']}"
                if role == "scene" and record["sha256"] not in seen:
                    seen.add(record["sha256"])
                    yield _Key(shard.path, group, row), PictureRecord(where, role, (), shard.split, name)
                for n in range(len(record.get("photos") or ())):
                    subject = (f"{name}/{record['id']}",)
                    yield _Key(shard.path, group, row, n), PictureRecord(where, role, subject, shard.split, name)


def _reader() -> Callable[[_Key], UInt8[np.ndarray, "h w 3"]]:
    """Reads pictures; DataError when one cannot be read (any more).  Rows that stand together are read together."""

    @lru_cache(maxsize=2)
    def group(path: Path, number: int, column: str) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(number, columns=[column], use_threads=False)

    def read(key: _Key) -> UInt8[np.ndarray, "h w 3"]:
        if key.group < 0:
            return load_photo(key.path)
        column = "image" if key.photo < 0 else "photos"
        try:
            found = group(key.path, key.group, column).column(column)[key.row].as_py()
            data = (found if key.photo < 0 else found[key.photo])["bytes"]
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{key.path} cannot be read ({_one_line(error)})") from None
        return decode_photo(data or b"", str(key.path))

    return read


def _tell_leaks(audited: Audit, findings: Findings, dataset: bool) -> None:
    told = audited.found - Counter(leak.kind for leak in audited.leaks)
    for leak in audited.leaks:
        if dataset and leak.kind == "leak" and leak.how == SAME_PIXELS and "scene" in (leak.a.role, leak.b.role):
            continue  # the rules between rows have told that
        file, _, record = (leak.a if leak.b.other else leak.b).where.partition(": ")
        findings.add(leak.kind, _leak_words(leak), file, record)
    for kind, n in told.items():
        findings.found[kind] += n
    if audited.left_out:
        findings.add("incomplete", f"{audited.left_out} pairs of pictures that might be copies were not compared")
    if not audited.wide:
        message = "so many pictures: shifted and cut-out copies were sought among the pictures of one subject only"
        findings.add("incomplete", message, cure="whole copies were sought everywhere; nothing to be done")
    elif not audited.scenes_wide:
        message = "so many scenes: between splits and sets only whole copies of scenes were sought"
        findings.add("incomplete", message, cure="reference photos were compared with every scene; nothing to be done")


def _leak_words(leak: Leak) -> str:
    """Of the second picture, or of the first when the second is another set's."""
    here, there = (leak.a, leak.b) if leak.b.other else (leak.b, leak.a)
    if not leak.proven:
        return f"looks like {there.where} (cosine {leak.agreement:.3f})"
    first = f"copy of {there.where}" if here is leak.b else f"{there.where} is a copy"
    return f"{first}: {leak.how}" + (f" (agreement {leak.agreement:.3f})" if leak.how != SAME_PIXELS else "")


def _what_is_it(folder: Path) -> str:
    """What a path is that is neither a dataset nor photos, for people."""
    if not folder.exists():
        return f"there is no {folder}"
    parquet = [folder] if folder.suffix == ".parquet" else []
    if not folder.is_dir() and not parquet:
        return f"{folder} is a file; a dataset is a folder (an archive is read by `prisbench build-dataset`)"
    parquet = parquet or sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    if parquet:
        try:
            columns = pq.read_schema(parquet[0]).names
        except (pa.ArrowException, OSError, ValueError) as error:
            return f"{folder} has no {MANIFEST}, and {parquet[0].name} cannot be read ({_one_line(error)})"
        lacking = [name for name in TABLES["queries"].names if name not in columns]
        return (
            f"{folder} holds Parquet files, but not those of prisbench (subjects/ and queries/, with {MANIFEST}): "
            f"{parquet[0].name} has the columns {', '.join(columns[:12])}, of a table of queries it lacks "
            f"{', '.join(lacking) or 'none'}; write its rows with prisbench.datasets.build.write_dataset"
        )
    deeper = sorted({path.parent.parent for path in folder.glob("*/*/*") if path.suffix.lower() in SUFFIXES})
    hint = f"; there are photos below {deeper[0]}, try that" if deeper else ""
    return f"{folder} holds no {MANIFEST}, no Parquet files and no photos (or folders of photos){hint}"


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _long(sizes: Sequence[Any], wanted: Sequence[Any]) -> list[Any]:
    """As many as wanted; the rule about their number is another's."""
    return [*sizes, *[None] * (len(wanted) - len(sizes))]


def _less(error: Exception, folder: Path) -> str:
    """A message without the folder, which the report names once."""
    return str(error).replace(f"{folder}{os.sep}", "")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
