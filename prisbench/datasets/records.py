"""What a shard holds: its row groups one at a time, and its records as rows.

Knows: Parquet, the encoded images and masks of a record, what can be wrong with both.  Does not know: which shards a
dataset has, the rules that rows keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prisbench.datasets.schema import TABLES, QueryRow, SubjectRow
from prisbench.datasets.things import NULLABLE, things_of, wanted_columns
from prisbench.errors import DataError
from prisbench.images.masks import from_rle
from prisbench.images.photos import decode_photo

_ROW_OF = {"subjects": "subject", "queries": "query"}


def row_groups(path: Path, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a shard, one at a time.  Raises DataError, also for columns that are not the table's."""
    for number in range(_open(path, table).num_row_groups):
        yield row_group(path, number, columns)


def row_group(path: Path, number: int, columns: Sequence[str] | None = None) -> pa.Table:
    """One row group of a shard, or some of its columns.  Raises DataError."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read_row_group(number, columns=columns and list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise DataError(_damaged(path, error)) from None


def whole(record: dict[str, Any], table: str, path: Path) -> dict[str, Any]:
    """The record.  Raises DataError when something in it is null."""
    for name, value in record.items():
        if value is None and name not in NULLABLE:
            where = f"{path}: {_ROW_OF[table]} {record.get('id')}"
            raise DataError(f"{where} is damaged: {name} is null; rebuild the dataset")
    return record


def subject_row(record: dict[str, Any], path: Path) -> SubjectRow:
    """The row of a record.  Raises DataError, naming the file and the subject."""
    where = f"{path}: subject {record['id']}"
    files = tuple(_file(photo, f"{where}: photo {n}") for n, photo in enumerate(record["photos"], 1))
    row = SubjectRow(
        noun=record["noun"],
        photos=tuple(decode_photo(file, f"{where}: photo {n}") for n, file in enumerate(files, 1)),
        split=record["split"],
        licence=record["licence"],
        source=record["source"],
        masks=tuple(
            None if rle is None else from_rle(rle, f"{where}: the mask of photo {n}")
            for n, rle in enumerate(record["masks"], 1)
        ),
        files=files,
        name=record.get("name"),
    )
    if row.id != record["id"]:
        raise DataError(f"{where} is damaged: its content gives the id {row.id}; rebuild the dataset")
    fitting = [
        mask is None or mask.shape == photo.shape[:2] for photo, mask in zip(row.photos, row.masks, strict=False)
    ]
    if row.masks and (len(row.masks) != len(row.photos) or not all(fitting)):
        raise DataError(f"{where} is damaged: its masks do not fit its photos; rebuild the dataset")
    return row


def query_row(record: dict[str, Any], path: Path) -> QueryRow:
    """The row of a record.  Raises DataError, naming the file and the query."""
    where = f"{path}: query {record['id']}"
    file = _file(record["image"], f"{where}: image")
    image = decode_photo(file, f"{where}: image")
    masks = (record["mask"], *record["look_alikes"], *(record.get("things") or ()))
    sizes = [rle["size"] for rle in masks if rle]
    if any(size is not None and size != [*image.shape[:2]] for size in sizes):  # before anything is unpacked
        raise DataError(f"{where} is damaged: a mask has not the scene's size; rebuild the dataset")
    row = QueryRow(
        subject_id=record["subject_id"],
        noun=record["noun"],
        image=image,
        text=record["text"],
        query_type=record["query_type"],
        mask=from_rle(record["mask"], f"{where}: mask"),
        look_alikes=tuple(from_rle(rle, f"{where}: look-alike {n}") for n, rle in enumerate(record["look_alikes"], 1)),
        things=things_of(record, where),
        meant=record.get("meant"),
        pair_id=record.get("pair_id"),
        split=record["split"],
        licence=record["licence"],
        source=record["source"],
        file=file,
    )
    if (row.id, row.image_id) != (record["id"], record["image_id"]):
        raise DataError(f"{where} is damaged: its content gives the id {row.id}; rebuild the dataset")
    return row


def _open(path: Path, table: str) -> pq.FileMetaData:
    """A shard's metadata, once its columns are found to be right."""
    try:
        with pq.ParquetFile(path) as file:
            columns, metadata = file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError) as error:
        raise DataError(_damaged(path, error)) from None
    for field in wanted_columns(TABLES[table], columns.names):
        if field.name not in columns.names:
            raise DataError(f"{path} has no column {field.name!r}; rebuild the dataset")
        if columns.field(field.name).type != field.type:
            found = columns.field(field.name).type
            raise DataError(f"{path}: column {field.name!r} is {found}, not {field.type}; rebuild the dataset")
    return metadata


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is damaged ({' '.join(str(error).split())}); copy it again or rebuild the dataset"


def _file(image: dict[str, Any] | None, where: str) -> bytes:
    """The bytes of an image column."""
    if image is None or image["bytes"] is None:
        raise DataError(f"{where} is null, or only names a file; rebuild the dataset")
    file: bytes = image["bytes"]
    return file
