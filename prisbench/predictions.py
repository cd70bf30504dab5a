"""Answers on disk: ``predictions.jsonl``, one line a query, appended as it is answered.

A last line without its line feed was cut off by a crash and is dropped.  A query that failed may be answered by a later
line; one that is answered twice alike counts once.

Knows: the format, and what a sound file looks like.  Does not know: datasets, truths, scores.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from jaxtyping import Bool

from prisbench.errors import DataError
from prisbench.images.masks import from_rle, to_rle
from prisbench.runtime import strict_json
from prisbench.runtime.files import read_bytes, write_bytes, write_errors
from prisbench.runtime.strict_json import Strict, dump, parse
from prisbench.types import Prediction

MOST_BYTES = 2**31
"""Unpacked, of one file: some ten million answers."""


@dataclass(frozen=True)
class PredictionRecord:
    """One line: what a method answered to one query.

    ``rle`` is a COCO RLE, None for "absent" and for a query the method failed on (then ``error`` says how).
    """

    query_id: str
    rle: Mapping[str, Any] | None
    peak_yx: tuple[int, int] | None = None
    presence: float | None = None
    seconds: float | None = None
    error: str | None = None

    @classmethod
    def of(cls, prediction: Prediction) -> PredictionRecord:
        """The record of an answer."""
        y, x = prediction.peak_yx or (0, 0)
        return cls(
            query_id=prediction.query_id,
            rle=None if prediction.mask is None else to_rle(prediction.mask),
            peak_yx=None if prediction.peak_yx is None else (int(y), int(x)),
            presence=prediction.presence,
            seconds=prediction.seconds,
        )

    @property
    def mask(self) -> Bool[np.ndarray, "h w"] | None:
        """The answered mask.  Raises DataError, naming the query, when the RLE is corrupt."""
        return None if self.rle is None else from_rle(self.rle, f"query {self.query_id!r}")


class PredictionWriter:
    """Appends records to ``predictions.jsonl``, each on the disk itself when ``write`` returns.  A context manager.

    Opening an existing file continues it: a half-written last line is cut off, and ``done`` holds the query ids that
    are answered already.  A failure counts as an answer only with ``keep_errors``.

    Raises DataError when the file is corrupt elsewhere than at its end, WriteError when it cannot be written.
    """

    def __init__(self, path: Path, keep_errors: bool = False) -> None:
        self.path = path
        whole = _whole_lines(path) if path.exists() else b""
        records = _records(whole, str(path))
        self.done = {record.query_id for record in records if keep_errors or record.error is None}
        with write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
            self._file.truncate(len(whole))

    def write(self, record: PredictionRecord) -> None:
        """Append one record; refuses, with DataError, a query that has one."""
        if record.query_id in self.done:
            raise DataError(f"{self.path}: query {record.query_id!r} is answered already; start again in a new folder")
        line = _line(record, str(self.path))
        with write_errors(self.path):
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        self.done.add(record.query_id)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_predictions(path: Path) -> list[PredictionRecord]:
    """All whole records of a file, one a query, in its order; of a compressed one, too (``.gz``).

    Raises DataError, naming the line, for a line that is no record and for a query with two different answers.
    """
    return _records(_whole_lines(path), str(path))


def lines_of(records: Iterable[PredictionRecord]) -> bytes:
    """The records as the lines of a file."""
    return b"".join(_line(record, "the predictions") for record in records)


def settle_predictions(path: Path, order: Iterable[str]) -> None:
    """Write a file's records again in the order of these query ids, one line each, unless it is so already: what was
    tried again, or written twice, leaves no trace.
    """
    records = {record.query_id: record for record in read_predictions(path)}
    places = {query_id: n for n, query_id in enumerate(order)}
    wanted = sorted(records.values(), key=lambda record: places.get(record.query_id, len(places)))
    data = lines_of(wanted)
    if data != read_bytes(path):
        write_bytes(path, data)


def _line(record: PredictionRecord, where: str) -> bytes:
    return (dump(asdict(record), f"{where}: query {record.query_id!r}") + "\n").encode()


def _whole_lines(path: Path) -> bytes:
    """The file up to its last line feed: a line without one was being written when the run ended."""
    data = unpacked(path)
    return data[: data.rfind(b"\n") + 1]


def unpacked(path: Path) -> bytes:
    """The bytes of a file; those inside of a compressed one.  Raises DataError for a damaged or hostile archive."""
    data = read_bytes(path)
    if path.suffix != ".gz":
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            inside = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no gzip file, or damaged ({error}); copy it again") from None
    if len(inside) > MOST_BYTES:
        raise DataError(f"{path} unpacks to more than {MOST_BYTES >> 20} MiB; it is not read")
    return inside


def packed(lines: bytes) -> bytes:
    """The lines compressed: the same bytes whenever and wherever it is done with one zlib."""
    return gzip.compress(lines, compresslevel=9, mtime=0)


def _records(lines: bytes, where: str) -> list[PredictionRecord]:
    records: dict[str, PredictionRecord] = {}
    numbers: dict[str, int] = {}
    for number, line in enumerate(lines.split(b"\n")[:-1], start=1):
        at = f"{where}, line {number}"
        raw = parse(line, at)
        peak = raw.get("peak_yx")
        if isinstance(peak, list) and (len(peak) != 2 or any(type(n) is not int for n in peak)):
            raise DataError(f"{at}: 'peak_yx' is {peak!r}; expected [y, x] in pixels")
        values = dict(strict_json.read(_PredictionLine, raw, at))
        if not 0 <= (values["presence"] or 0) <= 1:
            raise DataError(f"{at}: 'presence' is {values['presence']!r}; expected a number from 0 to 1, or null")
        if values["error"] is not None and values["rle"] is not None:
            raise DataError(f"{at}: a query that failed ({values['error']!r}) with a mask; one of the two is wrong")
        record = PredictionRecord(**{**values, "peak_yx": None if peak is None else tuple(peak)})
        known = records.get(record.query_id)
        if known is not None and known.error is None:
            if record.error is None and replace(record, seconds=known.seconds) != known:
                raise DataError(
                    f"{at}: query {record.query_id!r} has another answer in line {numbers[record.query_id]}; remove "
                    "the wrong one of the two lines, or say --fresh to start again"
                )
            continue
        records[record.query_id], numbers[record.query_id] = record, number
    return list(records.values())


class _PredictionLine(Strict):
    peak_yx: list[Any] | None
    query_id: str
    rle: dict[str, Any] | None
    presence: float | None
    seconds: float | None
    error: str | None
