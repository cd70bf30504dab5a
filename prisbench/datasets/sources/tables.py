"""Small tables that people write beside their photos: CSV to lines, with an error for each that cannot be meant.

Knows: CSV.  Does not know: what a column means.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from prisbench.datasets.sources.reading.values import text_file
from prisbench.errors import DataError, UnknownNameError

MOST_BYTES = 64 * 2**20
"""A larger one is not written by hand."""


class Line(NamedTuple):
    """A line of a table: where it stands, for errors, and its cells by column, "" where there is nothing."""

    where: str
    cells: dict[str, str]


def table(path: Path, columns: Collection[str], required: Collection[str]) -> list[Line]:
    """The lines of a CSV file: UTF-8, commas, the names of the columns first, empty lines skipped.

    Raises DataError, naming file and line, for another encoding, an unknown, double or missing column, a required cell
    that is empty, and a line with more cells than columns.
    """
    reader = csv.reader(io.StringIO(text_file(path, MOST_BYTES), newline=""), strict=True)
    lines: list[Line] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        for name in header:
            if name not in columns:
                error = UnknownNameError("column", name, columns)
                raise DataError(f"{path}: {error}; the first line names the columns, with commas between")
        for name in required:
            if name not in header:
                raise DataError(f"{path} has no column {name!r}; the first line names the columns")
        if len(set(header)) != len(header):
            raise DataError(f"{path} names a column twice: {', '.join(header)}")
        for cells in reader:
            where = f"{path}, line {reader.line_num}"
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if len(cells) > len(header):
                raise DataError(f'{where} has {len(cells)} cells for {len(header)} columns; put " around texts with ,')
            line = Line(where, dict(itertools.zip_longest(header, cells, fillvalue="")))
            for name in required:
                if not line.cells[name]:
                    raise DataError(f"{where} has no {name}")
            lines.append(line)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is not CSV ({error})") from None
    return lines
