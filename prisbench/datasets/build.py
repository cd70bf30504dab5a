"""Rows to a dataset folder: Parquet shards, a card, a manifest; the folder appears whole or not at all.

Knows: the layout that ``datasets.load_dataset`` opens.  Does not know: where the rows come from.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

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
    digest_rows,
    features,
)
from prisbench.errors import DataError, UsageError
from prisbench.files import new_folder, replacing, sha256_file, write_json, write_text
from prisbench.photos import image_id
from prisbench.types import QUERY_TYPES

ROWS_PER_GROUP = 32
"""What a reader holds in memory at a time."""

SHARD_BYTES = 64 * 2**20
"""A shard is closed once its rows reach this size."""

Progress = Callable[[str, int], None]
"""Called with the table's name and the rows written of it so far."""


def write_dataset(
    folder: str | os.PathLike[str],
    name: str,
    version: str,
    subjects: Iterable[SubjectRow],
    queries: Iterable[QueryRow],
    card_text: str,
    progress: Progress | None = None,
    *,
    seed: int | None = None,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write a dataset version; rows are taken one at a time and kept in their order, subjects first.

    ``name`` "tabletop" and ``version`` "1" (or "1.2") make ``tabletop-v1``.  ``card_text`` is the Markdown under the
    front matter of README.md.  ``seed`` is recorded.  ``overwrite`` replaces a dataset, never another kind of folder.

    Raises UsageError for a name or version that cannot be a folder's name, DataError for a row that breaks a rule
    (``docs/dataset.md``) and WriteError; the target is then as it was.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UsageError(f"dataset name {name!r}: use small letters and digits, with single dashes between")
    if not re.fullmatch(r"[0-9]+([.][0-9]+)*", version):
        raise UsageError(f"dataset version {version!r}: use numbers with dots between, like 1 or 1.2")
    with new_folder(folder, overwrite, marker=MANIFEST) as temp:
        book = _Book()
        with _Shards(temp, "subjects", shard_bytes) as shards:
            for n, subject in enumerate(subjects, 1):
                book.add_subject(subject)
                shards.add(subject.split, subject.record())
                if progress:
                    progress("subjects", n)
        with _Shards(temp, "queries", shard_bytes) as shards:
            for n, query in enumerate(queries, 1):
                book.add_query(query)
                shards.add(query.split, query.record())
                if progress:
                    progress("queries", n)
        manifest = book.manifest(name, version, seed, _checksums(temp))
        write_text(temp / "README.md", _front_matter(manifest, book.licences) + card_text.strip() + "\n")
        write_json(temp / MANIFEST, manifest.to_json())
    return manifest


class _Known(NamedTuple):
    """What is kept of a subject once it is written."""

    noun: str
    split: str


class _Book:
    """What has been seen: the counts and digests for the manifest, and the rules that hold between rows."""

    def __init__(self) -> None:
        self._subjects: dict[str, _Known] = {}
        self._photo_of: dict[str, str] = {}
        self._queries: set[str] = set()
        self._image_split: dict[str, str] = {}
        self._types: dict[str, Counter[str]] = defaultdict(Counter)
        self._subject_digests: list[str] = []
        self._query_digests: list[str] = []
        self.licences: set[str] = set()

    def add_subject(self, row: SubjectRow) -> None:
        check_subject(row)
        if row.id in self._subjects:
            raise DataError(f"subject {row.id} comes twice: the same noun and photos")
        self._subject_digests.append(row.digest)
        self.licences.add(row.licence)
        self._photo_of.update((image_id(photo), row.id) for photo in row.photos)
        self._subjects[row.id] = _Known(row.noun, row.split)

    def add_query(self, row: QueryRow) -> None:
        check_query(row)
        subject = self._subjects.get(row.subject_id)
        if subject is None:
            raise DataError(
                f"query {row.id} ({row.text!r}) is about the subject {row.subject_id!r}, which is not there"
            )
        if (row.noun, row.split) != subject:
            raise DataError(
                f"query {row.id} is a {row.noun!r} in {row.split!r}, its subject {row.subject_id} a {subject.noun!r} "
                f"in {subject.split!r}; they must agree"
            )
        if row.id in self._queries:
            raise DataError(f"query {row.id} ({row.text!r}) comes twice: the same subject, scene and text")
        if row.image_id in self._photo_of:
            raise DataError(f"scene {row.image_id} is a reference photo of the subject {self._photo_of[row.image_id]}")
        if self._image_split.setdefault(row.image_id, row.split) != row.split:
            raise DataError(f"scene {row.image_id} is in both splits; a scene may be in one only")
        self._queries.add(row.id)
        self._query_digests.append(row.digest)
        self._types[row.split][row.query_type] += 1
        self.licences.add(row.licence)

    def manifest(self, name: str, version: str, seed: int | None, files: dict[str, str]) -> Manifest:
        for kind, seen in (("subjects", self._subjects), ("queries", self._queries)):
            if not seen:
                raise DataError(f"the dataset {name}-v{version} would have no {kind}")
        subjects = Counter(subject.split for subject in self._subjects.values())
        images = Counter(self._image_split.values())
        return Manifest(
            name=name,
            version=version,
            schema_version=SCHEMA_VERSION,
            seed=seed,
            subjects={split: subjects[split] for split in SPLITS if subjects[split]},
            queries={
                split: {kind: self._types[split][kind] for kind in QUERY_TYPES if self._types[split][kind]}
                for split in SPLITS
                if self._types[split]
            },
            images={split: images[split] for split in SPLITS if images[split]},
            digest=digest_rows(self._subject_digests, self._query_digests),
            files=files,
        )


class _Shards:
    """Writes the rows of one table to ``<table>/<split>-<number>.parquet``, a row group at a time."""

    def __init__(self, folder: Path, table: str, shard_bytes: int) -> None:
        self._folder = folder / table
        self._schema = TABLES[table].with_metadata(features(table).arrow_schema.metadata)
        self._shard_bytes = shard_bytes
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._groups: dict[str, list[pa.RecordBatch]] = defaultdict(list)
        self._written: Counter[str] = Counter()

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for split in sorted(self._rows):
                self._end_group(split)
                self._end_shard(split)

    def add(self, split: str, record: dict[str, Any]) -> None:
        self._rows[split].append(record)
        if len(self._rows[split]) == ROWS_PER_GROUP:
            self._end_group(split)
            if sum(group.nbytes for group in self._groups[split]) >= self._shard_bytes:
                self._end_shard(split)

    def _end_group(self, split: str) -> None:
        rows = self._rows[split]
        if rows:
            self._groups[split].append(pa.RecordBatch.from_pylist(rows, schema=self._schema))
            self._rows[split] = []

    def _end_shard(self, split: str) -> None:
        groups = self._groups[split]
        if not groups:
            return
        path = self._folder / f"{split}-{self._written[split]:05d}.parquet"
        with (
            replacing(path) as temp,
            pq.ParquetWriter(temp, self._schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            for group in groups:
                writer.write_batch(group)
        self._written[split] += 1
        self._groups[split] = []


def _checksums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(folder.glob("*/*.parquet"))}


def _front_matter(manifest: Manifest, licences: set[str]) -> str:
    """The YAML by which the Hub and ``datasets.load_dataset`` know the tables and splits."""
    licence = next(iter(licences)).lower() if len(licences) == 1 else "other"
    lines = [
        "---",
        f"pretty_name: {json.dumps(manifest.id)}",
        f"license: {json.dumps(licence)}",
        "language: en",
        "task_categories: [image-segmentation]",
        "tags: [personalised-referring-segmentation, prisbench]",
        "configs:",
    ]
    for table in ("queries", "subjects"):
        lines += [f"- config_name: {table}"] + ["  default: true"] * (table == "queries") + ["  data_files:"]
        for split in SPLITS:
            if any(path.startswith(f"{table}/{split}-") for path in manifest.files):
                lines += [f"  - split: {split}", f"    path: {table}/{split}-*.parquet"]
    return "\n".join([*lines, "---", "", ""])
