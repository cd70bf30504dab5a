"""``run.json``: what ran, and the counts of every query.

Any metric can be computed from it without the images.  Reading it and writing it again gives the same bytes, of a file
of schema version 2, too.

Knows: the format, and what a sound file looks like.
Does not know: metrics (only their counts), datasets (only their name and digest), how runs compare.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from prisbench.counts import Counts, sound
from prisbench.errors import DataError
from prisbench.own_task import OwnTask
from prisbench.provenance import Environment, Provenance
from prisbench.runtime import strict_json
from prisbench.runtime.files import read_bytes, write_bytes
from prisbench.runtime.strict_json import Strict, dump, parse
from prisbench.types import QUERY_TYPES, REFERENTLESS

SCHEMA_VERSION = 3
"""Changes when a reader of the old version would misread the new one.  3: what decides a run's answers, what it ran
on, its predictions' checksum, pairs and grades, counts of metric spec 2."""

READABLE = (2, 3)

REFERENCES = ("photos", "photos+masks")
"""What a method is given of a subject: its photos alone, or the masks of the subject in them, too."""


@dataclass(frozen=True)
class DatasetRef:
    """Which queries were asked.  ``digest`` is the content hash of the dataset version."""

    name: str
    version: str
    digest: str
    split: str

    @property
    def id(self) -> str:
        """Name and version, like ``tabletop-v3``: what every command calls the dataset."""
        return f"{self.name}-v{self.version.removeprefix('v')}"


@dataclass(frozen=True)
class SecondsPerImage:
    """Wall time of ``locate`` per image."""

    median: float
    mean: float


@dataclass(frozen=True)
class Part:
    """Which part of a dataset's queries was run: at most ``limit`` of them spread over the split, one subset, some
    subjects, some queries; all of them by default.
    """

    limit: int | None = None
    subset: str | None = None
    subjects: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()

    @property
    def left_out(self) -> bool:
        """Whether something was left out; a partial run is never ranked."""
        return self != Part()


@dataclass(frozen=True)
class Kept:
    """The predictions that the counts were made of: how many, and the SHA-256 of their lines (not compressed)."""

    n: int
    sha256: str


@dataclass(frozen=True)
class QueryResult:
    """What became of one query.  ``error`` is the method's message when it failed; its counts are those of no mask.

    ``pair_id``: what it shares with its partner, None without one.  ``grade``: the grade of the scene's look-alikes,
    "mixed" for several, None where there are none or nobody knows.  ``soft_ap``: average precision of the soft map,
    None where none was kept; never ranked.
    """

    query_id: str
    subject_id: str
    image_id: str
    query_type: str
    counts: Counts
    presence: float | None = None
    seconds: float | None = None
    error: str | None = None
    pair_id: str | None = None
    grade: str | None = None
    soft_ap: float | None = None


@dataclass(frozen=True)
class Run:
    """One method with one concept (a learner's name, a control's, or "none") on one dataset version.

    ``backbone`` is an id, None for methods without one; ``created`` is a date, YYYY-MM-DD.  Means over subjects:
    ``learn_seconds``, None when nothing was learned or all of it was known before, and ``concept_bytes``, the tensors
    that a subject's concept holds, None where it holds none.

    Of schema version 3: ``reference`` is one of ``REFERENCES``, None where it is not known; ``template`` is the text
    around the subject's words and ``precision`` the numbers' type, None where the method tells none; ``identity`` is
    what decides the answers beside the settings (``runtime.identity``); ``concepts`` are the subjects' concept ids;
    ``provenance`` says how and on what it ran.
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
    schema_version: int = SCHEMA_VERSION
    reference: str | None = REFERENCES[0]
    part: Part = Part()
    template: str | None = None
    precision: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    concepts: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance | None = None
    predictions: Kept | None = None
    retracted: str | None = None
    """Why it is no result any more, with the date; None, and not in the file, where it is one."""
    own_task: OwnTask | None = None
    """How well its model does what it was trained for; None, and not in the file, where nobody measured it."""

    @property
    def n_errors(self) -> int:
        """Queries on which the method failed."""
        return sum(query.error is not None for query in self.queries)


_COUNTS = tuple(each.name for each in fields(Counts))

COUNT_FIELDS = {2: _COUNTS[: _COUNTS.index("absent_fp") + 1], 3: _COUNTS}
"""Schema version -> the counts of a query that a file of it holds."""

QUERY_FIELDS = {
    2: ("query_id", "subject_id", "image_id", "query_type", *COUNT_FIELDS[2], "presence", "seconds", "error"),
    3: (
        *("query_id", "subject_id", "image_id", "query_type", "pair_id", "grade", *COUNT_FIELDS[3]),
        *("presence", "soft_ap", "seconds", "error"),
    ),
}
"""Schema version -> the columns of the rows under "queries" in ``run.json``; the file names them too."""

_MAY_LACK = ("out_of_domain", "retracted", "own_task")
"""Keys that are not in the file where nothing is known."""

_ONLY_3 = ("reference", "part", "template", "precision", "identity", "concepts", "provenance", "predictions")


def write_run(run: Run, path: Path) -> Path:
    """Write ``run.json`` in its one canonical form, whole or not at all; its path.

    Raises DataError when the run is not sound (``read_run`` would refuse it), WriteError when the target cannot be
    written.
    """
    return write_bytes(path, _run_bytes(run, str(path)))


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


# the form of run.json


def _run_bytes(run: Run, where: str) -> bytes:
    """A head with one key a line, then one line a query: small, and a diff shows which queries changed."""
    version = run.schema_version
    left_out = {"queries", "schema_version", *(_ONLY_3 if version == 2 else ())}
    head: dict[str, Any] = {"schema_version": version}
    for each in fields(Run):
        if each.name in left_out or (each.name in _MAY_LACK and getattr(run, each.name) is None):
            continue
        value = getattr(run, each.name)
        head[each.name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    head["n_errors"] = run.n_errors
    head["query_fields"] = list(QUERY_FIELDS[version])
    sorted_ = ("settings", "identity", "concepts", "provenance")
    lines = [f"{json.dumps(key)}: {dump(value, where, sort=key in sorted_)}" for key, value in head.items()]
    rows = []
    for query in run.queries:
        record = {**vars(query), **vars(query.counts)}
        rows.append(dump([record[name] for name in QUERY_FIELDS[version]], where))
    data = ("{\n" + ",\n".join(lines) + ',\n"queries": [\n' + ",\n".join(rows) + "\n]\n}\n").encode()
    _run_from(data, where)
    return data


def _run_from(data: bytes, where: str) -> Run:
    version = parse(data, where).get("schema_version")
    if version not in READABLE:
        raise DataError(
            f"{where}: 'schema_version' is {version!r}, this prisbench reads {' and '.join(map(str, READABLE))}; "
            "write the file again with `prisbench evaluate`"
        )
    file = dict(strict_json.read(_RunFile if version == 2 else _RunFile3, data, where))
    stated, columns, rows = (file.pop(key) for key in ("n_errors", "query_fields", "queries"))
    if tuple(columns) != QUERY_FIELDS[version]:
        raise DataError(f"{where}: 'query_fields' is {columns}, expected {list(QUERY_FIELDS[version])}; score it again")
    if version == 2:
        file["reference"] = None
    run = Run(**file, schema_version=version, queries=_queries(rows, version, where))
    if stated != run.n_errors:
        raise DataError(f"{where}: 'n_errors' is {stated}, but {run.n_errors} queries carry an error; score it again")
    return run


def _queries(rows: Sequence[Any], version: int, where: str) -> tuple[QueryResult, ...]:
    names, model = QUERY_FIELDS[version], _QueryRow if version == 2 else _QueryRow3
    queries: dict[str, QueryResult] = {}
    for number, row in enumerate(rows, start=1):
        at = f"{where}: query row {number}"
        if not isinstance(row, list) or len(row) != len(names):
            raise DataError(f"{at}: expected a list of the {len(names)} values in 'query_fields'")
        record = dict(strict_json.read(model, dict(zip(names, row, strict=True)), at))
        counts = Counts(**{name: record.pop(name) for name in COUNT_FIELDS[version]})
        if not sound(counts):
            raise DataError(f"{at}: the counts contradict each other ({vars(counts)}); score it again")
        query = QueryResult(**record, counts=counts)
        if query.query_type not in QUERY_TYPES:
            raise DataError(f"{at}: 'query_type' is {query.query_type!r}, known: {', '.join(QUERY_TYPES)}")
        if (query.query_type in REFERENTLESS) != (counts.truth_area == 0):
            raise DataError(f"{at}: type {query.query_type!r} with a truth of {counts.truth_area} pixels")
        if version > 2 and counts.failed != (query.error is not None):
            raise DataError(f"{at}: 'failed' is {counts.failed} with the error {query.error!r}; score it again")
        if query.query_id in queries:
            raise DataError(f"{at}: query {query.query_id!r} comes twice; score it again")
        queries[query.query_id] = query
    return tuple(queries.values())


def _describe(dataset: DatasetRef) -> str:
    return f"{dataset.id}, {dataset.split} split (digest {dataset.digest})"


# what the files must look like


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
    retracted: str = None  # type: ignore[assignment]  # or it is not in the file
    own_task: OwnTask = None  # type: ignore[assignment]  # or it is not in the file
    n_errors: int
    query_fields: list[Any]
    queries: list[Any]


def _reference(value: str | None) -> str | None:
    if value in (None, *REFERENCES):
        return value
    raise ValueError(" or ".join(map(repr, REFERENCES)))


class _RunFile3(_RunFile):
    reference: Annotated[str | None, AfterValidator(_reference)]
    part: Part
    template: str | None
    precision: str | None
    identity: dict[str, Any]
    concepts: dict[str, str]
    provenance: Provenance | None
    predictions: Kept | None


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


class _QueryRow3(_QueryRow):
    pair_id: str | None
    grade: str | None
    failed: bool
    right_instance: bool | None
    contradicted_fp: bool | None
    matched_predicted_contour: int | None
    predicted_contour: int | None
    matched_truth_contour: int | None
    truth_contour: int | None
    candidates: int | None
    soft_ap: float | None
