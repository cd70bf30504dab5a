"""The rows of a table to Parquet shards: rules checked, large images encoded ahead, a row group written at a time.

Knows: how large row groups and shards are, and what each row must keep to.  Does not know: rules between rows, what
stands beside the shards, how an interrupted build goes on.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prisbench.datasets.schema import TABLES, QueryRow, SubjectRow, check_query, check_subject, features
from prisbench.errors import DataError
from prisbench.images.photos import decode_photo
from prisbench.runtime.files import replacing, sha256_file

ROWS_PER_GROUP = 100
"""A row group ends after so many rows, the number the Hub's viewer shows at a time ..."""

GROUP_BYTES = 16 * 2**20
"""... or so many bytes: it is what a reader holds in memory at a time.  The viewer refuses groups of 300 MB."""

SHARD_BYTES = 64 * 2**20
"""The shards are closed once their rows reach this size ..."""

SHARD_ROWS = 10_000
"""... or this number: it is what an interrupted build makes again."""

THREADS = 2
"""Encode large images beside the thread that reads; more would hold more photos in memory."""

LARGE = 2**17
"""Pixels from which on a row is worth another thread."""

AHEAD = 4
"""Rows read before they are written."""

TableRow = SubjectRow | QueryRow


class Shards:
    """The open shards of a table, one a split: ``<table>/<split>-<number>.parquet``, written a row group at a time.

    ``files``: path -> sha256 of the shards that are closed; theirs are put in.  ``most_bytes``: see ``SHARD_BYTES``.
    """

    def __init__(self, folder: Path, table: str, files: dict[str, str], most_bytes: int) -> None:
        self._folder = folder
        self._table = table
        self._schema = TABLES[table].with_metadata(features(table).arrow_schema.metadata)
        self._files = files
        self._most_bytes = most_bytes
        self._open: dict[str, _Shard] = {}
        self._stack = contextlib.ExitStack()
        self._rows = 0
        self._bytes = 0

    def __enter__(self) -> Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def full(self) -> bool:
        """Whether the open shards are to be closed."""
        return self._bytes >= self._most_bytes or self._rows >= SHARD_ROWS

    def add(self, split: str, record: dict[str, Any]) -> None:
        if split not in self._open:
            self._open[split] = self._begin(split)
        size = _size(record)
        self._open[split].add(record, size)
        self._rows += 1
        self._bytes += size

    def close(self) -> None:
        """End the shards; they are now in the folder and in ``files``."""
        for shard in self._open.values():
            shard.end_group()
        self._stack.close()
        for shard in self._open.values():
            self._files[shard.path] = sha256_file(self._folder / shard.path)
        self._open = {}
        self._rows = self._bytes = 0

    def _begin(self, split: str) -> _Shard:
        number = sum(path.startswith(f"{self._table}/{split}-") for path in self._files)
        path = f"{self._table}/{split}-{number:05d}.parquet"
        temp = self._stack.enter_context(replacing(self._folder / path))
        writer = pq.ParquetWriter(
            temp, self._schema, compression="zstd", write_page_index=True, write_page_checksum=True
        )
        return _Shard(path, self._stack.enter_context(writer), self._schema)


class Encoded(NamedTuple):
    """A row, its record, and what the source had left out when it gave the row."""

    row: TableRow
    record: dict[str, Any]
    left_out: Mapping[str, int]


def encoded(rows: Iterable[TableRow], left_out: Counter[str]) -> Iterator[Encoded]:
    """The rows in their order; the next few large ones are encoded meanwhile.

    Raises DataError for a row that breaks a rule of its table.
    """
    ahead: deque[tuple[TableRow, Callable[[], dict[str, Any]], Mapping[str, int]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for row in rows:
            images = row.photos if isinstance(row, SubjectRow) else (row.image,)
            large = sum(image.size for image in images) // 3 >= LARGE
            ahead.append((row, pool.submit(_record, row).result if large else partial(_record, row), dict(left_out)))
            if len(ahead) > AHEAD:
                row, record, counted = ahead.popleft()
                yield Encoded(row, record(), counted)
        for row, record, counted in ahead:
            yield Encoded(row, record(), counted)


@dataclass
class _Shard:
    """An open shard and the rows of the group that is not yet written."""

    path: str
    writer: pq.ParquetWriter
    schema: pa.Schema
    rows: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0

    def add(self, record: dict[str, Any], size: int) -> None:
        self.rows.append(record)
        self.bytes += size
        if len(self.rows) >= ROWS_PER_GROUP or self.bytes >= GROUP_BYTES:
            self.end_group()

    def end_group(self) -> None:
        if self.rows:
            self.writer.write_batch(pa.RecordBatch.from_pylist(self.rows, schema=self.schema))
            self.rows, self.bytes = [], 0


def _record(row: TableRow) -> dict[str, Any]:
    """The row of the table, once the row is found to keep the rules.  Raises DataError."""
    if isinstance(row, SubjectRow):
        check_subject(row)
        for n, (photo, file) in enumerate(zip(row.photos, row.files, strict=False), 1):
            _check_file(photo, file, f"subject {row.id}: photo {n}")
    else:
        check_query(row)
        _check_file(row.image, row.file, f"query {row.id}: image")
    _ = row.digest  # made now, perhaps in another thread; the row keeps it
    return row.record()


def _check_file(image: np.ndarray, file: bytes | None, where: str) -> None:
    if file is not None and not np.array_equal(decode_photo(file, where), image):
        raise DataError(f"{where}: the file to keep shows other pixels than the row has; leave the file out")


def _size(record: dict[str, Any]) -> int:
    """The bytes of a row's images and masks; the rest is small."""
    images = record.get("photos") or [record["image"]]
    masks = [*record.get("masks", ()), *record.get("look_alikes", ()), record.get("mask")]
    masks += record.get("things", ())
    return sum(len(image["bytes"]) for image in images) + sum(len(mask["counts"]) for mask in masks if mask)
