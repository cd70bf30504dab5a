"""The Parquet files and pictures of a dataset folder as they lie there, whatever its manifest says of them.

Knows: where shards lie, which row groups can be read, a picture by its place.  Does not know: what rows should hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8

from prisbench.datasets.schema import SPLITS, TABLES
from prisbench.datasets.things import wanted_columns
from prisbench.errors import DataError
from prisbench.images.photos import decode_photo, load_photo

MOST_GROUP_BYTES = 2**31
"""A row group that says to be larger is not read; the writer's have 16 MiB."""

Problem = Callable[[str, str, str], None]
"""Called with a code of ``findings.CODES``, a message and the name of a shard."""


class Shard(NamedTuple):
    """A Parquet file of a dataset.  ``name`` is its path inside the folder."""

    path: Path
    name: str
    table: str
    split: str


class Key(NamedTuple):
    """Where a picture is: a photo's file, or a row of a shard and, of a subject, the number of its photo."""

    path: Path
    group: int = -1
    row: int = -1
    photo: int = -1


def shards_in(folder: Path) -> list[Shard]:
    """The Parquet files that lie as those of a dataset do, whatever a manifest says."""
    found = []
    for table in TABLES:
        for path in sorted((folder / table).glob("*.parquet")):
            split = path.name.split("-")[0]
            found.append(Shard(path, f"{table}/{path.name}", table, split))
    return found


def row_groups(shard: Shard, problem: Problem) -> Iterator[tuple[int, pa.Table]]:
    """The row groups of a shard that can be read, one at a time; what cannot is told to ``problem``."""
    if shard.split not in SPLITS:
        problem("columns", f"its name begins with no split ({', '.join(SPLITS)})", shard.name)
    try:
        file = pq.ParquetFile(shard.path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        problem("parquet", one_line(error), shard.name)
        return
    with file:
        there = file.schema_arrow
        wanted = wanted_columns(TABLES[shard.table], there.names)
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
                    problem("parquet", f"row group {group + 1}: {one_line(error)}", shard.name)


def picture_reader() -> Callable[[Key], UInt8[np.ndarray, "h w 3"]]:
    """Reads pictures; DataError when one cannot be read (any more).  Rows that stand together are read together."""

    @lru_cache(maxsize=2)
    def group(path: Path, number: int, column: str) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(number, columns=[column], use_threads=False)

    def read(key: Key) -> UInt8[np.ndarray, "h w 3"]:
        if key.group < 0:
            return load_photo(key.path)
        column = "image" if key.photo < 0 else "photos"
        try:
            found = group(key.path, key.group, column).column(column)[key.row].as_py()
            data = (found if key.photo < 0 else found[key.photo])["bytes"]
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{key.path} cannot be read ({one_line(error)})") from None
        return decode_photo(data or b"", str(key.path))

    return read


def one_line(error: Exception) -> str:
    """The message of an error on one line, or the name of its class."""
    return " ".join(str(error).split()) or type(error).__name__


def _read_group(file: pq.ParquetFile, group: int, table: str) -> pa.Table:
    """A row group with the columns of its table, in the types of its table."""
    wanted = wanted_columns(TABLES[table], file.schema_arrow.names)
    return file.read_row_group(group, columns=wanted.names, use_threads=False).select(wanted.names).cast(wanted)
