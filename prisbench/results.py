"""The two files of a run: ``predictions.jsonl`` while it goes, ``run.json`` when it is scored.

``run.json`` holds what ran and the counts of every query, so any metric can be computed from it without the images.
Reading it and writing it again gives the same bytes.  ``predictions.jsonl`` has one line a query, appended as it is
answered; a last line without its line feed was cut off by a crash and is dropped.  A query that failed may be answered
by a later line; one that is answered twice alike counts once.

Knows: the two formats, and what a sound file looks like.
Does not know: metrics (only their counts), datasets (only their name and digest), how runs compare.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import IO, Annotated, Any

import numpy as np
from jaxtyping import Bool
from pydantic import AfterValidator

from prisbench.errors import DataError
from prisbench.images.masks import from_rle, to_rle
from prisbench.metrics import Counts
from prisbench.runtime import strict_json
from prisbench.runtime.files import read_bytes, write_bytes, write_errors
from prisbench.runtime.strict_json import Strict, dump, parse
from prisbench.types import QUERY_TYPES, Prediction

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class DatasetRef:
    """Which queries were asked.  ``digest`` is the content hash of the dataset version."""

    name: str
    version: str
    digest: str
    split: str


@dataclass(frozen=True)
class Environment:
    """Where it ran; ``torch`` is None where torch is not installed."""

    python: str
    torch: str | None
    numpy: str
    machine: str
    cpu_count: int


@dataclass(frozen=True)
class SecondsPerImage:
    """Wall time of ``locate`` per image."""

    median: float
    mean: float


@dataclass(frozen=True)
class QueryResult:
    """What became of one query.  ``error`` is the method's message when it failed; its counts are those of no mask."""

    query_id: str
    subject_id: str
    image_id: str
    query_type: str
    counts: Counts
    presence: float | None = None
    seconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """One method with one concept (a learner's name, a control's, or "none") on one dataset version.

    ``backbone`` is an id, None for methods without one; ``created`` is a date, YYYY-MM-DD.  Means over subjects:
    ``learn_seconds``, None when nothing was learned or all of it was known before, and ``concept_bytes``, the tensors
    that a subject's concept holds, None where it holds none.
    """

    method: str
    concept: str
    dataset: DatasetRef
    metric_spec: str
    prisbench_version: str
    settings: Mapping[str, Any]
    backbone: str | None
    seed: int
    created: str
    environment: Environment
    seconds_per_image: SecondsPerImage | None
    learn_seconds: float | None
    concept_bytes: float | None
    queries: tuple[QueryResult, ...]
    out_of_domain: int | None = None
    """Scenes unlike anything the method's model was trained on; None, and not in the file, where nothing is known."""

    @property
    def n_errors(self) -> int:
        """Queries on which the method failed."""
        return sum(query.error is not None for query in self.queries)


COUNT_FIELDS = tuple(field.name for field in fields(Counts))
QUERY_FIELDS = ("query_id", "subject_id", "image_id", "query_type", *COUNT_FIELDS, "presence", "seconds", "error")
"""The columns of the rows under "queries" in ``run.json``; the file names them too."""


def current_environment() -> Environment:
    """This machine, without importing torch."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = None
    return Environment(
        python=platform.python_version(),
        torch=torch,
        numpy=np.__version__,
        machine=platform.machine(),
        cpu_count=os.cpu_count() or 1,
    )


def write_run(run: Run, path: Path) -> None:
    """Write ``run.json`` in its one canonical form, whole or not at all.

    Raises DataError when the run is not sound (``read_run`` would refuse it), WriteError when the target cannot be
    written.
    """
    write_bytes(path, _run_bytes(run, str(path)))


def read_run(path: Path, dataset: DatasetRef | None = None) -> Run:
    """The run in a file; with ``dataset``, only one scored on exactly that version.

    Raises DataError, naming the file and the key, for anything missing, of a wrong type, not a number, or at odds
    with itself.
    """
    run = _run_from(read_bytes(path), str(path))
    if dataset is not None:
        check_dataset(run, dataset, str(path))
    return run


def check_dataset(run: Run, dataset: DatasetRef, where: str) -> None:
    """Raises DataError when the run was scored on another dataset version or split than ``dataset``."""
    if run.dataset != dataset:
        raise DataError(
            f"{where}: a result file of another dataset version: {_describe(run.dataset)}, expected "
            f"{_describe(dataset)}; run `prisbench evaluate --method {run.method}` again on this version, "
            "or remove the file"
        )


# predictions.jsonl


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
    """Appends records to ``predictions.jsonl``, each on disk when ``write`` returns.  A context manager.

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
    """All whole records of a file, one a query, in its order.

    Raises DataError, naming the line, for a line that is no record and for a query with two different answers.
    """
    return _records(_whole_lines(path), str(path))


def settle_predictions(path: Path, order: Iterable[str]) -> None:
    """Write a file's records again in the order of these query ids, one line each, unless it is so already: what was
    tried again, or written twice, leaves no trace.
    """
    records = {record.query_id: record for record in read_predictions(path)}
    places = {query_id: n for n, query_id in enumerate(order)}
    wanted = sorted(records.values(), key=lambda record: places.get(record.query_id, len(places)))
    data = b"".join(_line(record, str(path)) for record in wanted)
    if data != read_bytes(path):
        write_bytes(path, data)


def _line(record: PredictionRecord, where: str) -> bytes:
    return (dump(asdict(record), f"{where}: query {record.query_id!r}") + "\n").encode()


def _whole_lines(path: Path) -> bytes:
    """The file up to its last line feed: a line without one was being written when the run ended."""
    data = read_bytes(path)
    return data[: data.rfind(b"\n") + 1]


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


# the form of run.json


def _run_bytes(run: Run, where: str) -> bytes:
    """A head with one key a line, then one line a query: small, and a diff shows which queries changed."""
    head: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for field in fields(Run):
        if field.name == "queries" or (field.name == "out_of_domain" and run.out_of_domain is None):
            continue
        value = getattr(run, field.name)
        head[field.name] = asdict(value) if isinstance(value, (DatasetRef, Environment, SecondsPerImage)) else value
    head["n_errors"] = run.n_errors
    head["query_fields"] = list(QUERY_FIELDS)
    lines = [f"{json.dumps(key)}: {dump(value, where, sort=key == 'settings')}" for key, value in head.items()]
    rows = []
    for query in run.queries:
        record = {**vars(query), **vars(query.counts)}
        rows.append(dump([record[name] for name in QUERY_FIELDS], where))
    data = ("{\n" + ",\n".join(lines) + ',\n"queries": [\n' + ",\n".join(rows) + "\n]\n}\n").encode()
    _run_from(data, where)
    return data


def _run_from(data: bytes, where: str) -> Run:
    found = parse(data, where).get("schema_version")
    if found != SCHEMA_VERSION:
        raise DataError(
            f"{where}: 'schema_version' is {found!r}, this prisbench reads {SCHEMA_VERSION}; "
            "write the file again with `prisbench evaluate`"
        )
    file = dict(strict_json.read(_RunFile, data, where))
    stated, columns, rows = (file.pop(key) for key in ("n_errors", "query_fields", "queries"))
    if tuple(columns) != QUERY_FIELDS:
        raise DataError(f"{where}: 'query_fields' is {columns}, expected {list(QUERY_FIELDS)}; score it again")
    run = Run(**file, queries=_queries(rows, where))
    if stated != run.n_errors:
        raise DataError(f"{where}: 'n_errors' is {stated}, but {run.n_errors} queries carry an error; score it again")
    return run


def _queries(rows: Sequence[Any], where: str) -> tuple[QueryResult, ...]:
    queries: dict[str, QueryResult] = {}
    for number, row in enumerate(rows, start=1):
        at = f"{where}: query row {number}"
        if not isinstance(row, list) or len(row) != len(QUERY_FIELDS):
            raise DataError(f"{at}: expected a list of the {len(QUERY_FIELDS)} values in 'query_fields'")
        record = dict(strict_json.read(_QueryRow, dict(zip(QUERY_FIELDS, row, strict=True)), at))
        counts = _sound(Counts(**{name: record.pop(name) for name in COUNT_FIELDS}), at)
        query = QueryResult(**record, counts=counts)
        if query.query_type not in QUERY_TYPES:
            raise DataError(f"{at}: 'query_type' is {query.query_type!r}, known: {', '.join(QUERY_TYPES)}")
        if (query.query_type == "absent") != (query.counts.truth_area == 0):
            raise DataError(f"{at}: type {query.query_type!r} with a truth of {query.counts.truth_area} pixels")
        if query.query_id in queries:
            raise DataError(f"{at}: query {query.query_id!r} comes twice; score it again")
        queries[query.query_id] = query
    return tuple(queries.values())


def _sound(counts: Counts, where: str) -> Counts:
    """Counts that could come from masks.  Raises DataError for numbers that contradict each other."""
    sound = (
        0 <= counts.intersection <= min(counts.predicted_area, counts.truth_area)
        and 0 <= counts.look_alike_intersection <= counts.predicted_area - counts.intersection
        and counts.union == counts.predicted_area + counts.truth_area - counts.intersection
        and counts.union <= counts.area
        and 0 <= counts.boundary_intersection <= counts.boundary_union <= counts.union
        and counts.boundary_intersection <= counts.intersection
        and (counts.boundary_union > 0) == (counts.union > 0)
        and (counts.absent_fp is not None) == (counts.truth_area == 0)
        and counts.absent_fp in (None, counts.predicted_area > 0)
        and not (counts.truth_area == 0 and (counts.pointing_hit is not None or counts.wrong_instance is not None))
    )
    if not sound:
        raise DataError(f"{where}: the counts contradict each other ({vars(counts)}); score it again")
    return counts


def _describe(dataset: DatasetRef) -> str:
    return f"{dataset.name} {dataset.version} {dataset.split} (digest {dataset.digest})"


# what the files must look like


class _PredictionLine(Strict):
    peak_yx: list[Any] | None
    query_id: str
    rle: dict[str, Any] | None
    presence: float | None
    seconds: float | None
    error: str | None


def _date(text: str) -> str:
    with suppress(ValueError):
        if datetime.date.fromisoformat(text).isoformat() == text:
            return text
    raise ValueError("a date such as 2026-01-31")


class _RunFile(Strict):
    method: str
    concept: str
    dataset: DatasetRef
    metric_spec: str
    prisbench_version: str
    settings: dict[str, Any]
    backbone: str | None
    seed: int
    created: Annotated[str, AfterValidator(_date)]
    environment: Environment
    seconds_per_image: SecondsPerImage | None
    learn_seconds: float | None
    concept_bytes: float | None
    out_of_domain: int = None  # type: ignore[assignment]  # or it is not in the file
    n_errors: int
    query_fields: list[Any]
    queries: list[Any]


class _QueryRow(Strict):
    query_id: str
    subject_id: str
    image_id: str
    query_type: str
    intersection: int
    union: int
    predicted_area: int
    truth_area: int
    look_alike_intersection: int
    boundary_intersection: int
    boundary_union: int
    area: int
    pointing_hit: bool | None
    wrong_instance: bool | None
    absent_fp: bool | None
    presence: float | None
    seconds: float | None
    error: str | None
