"""``ceilings.json``: what an answer could score that is told parts of the truth, beside a leaderboard's result files.

No ceiling is ranked: none is a method.  They say how far a number is from what can be had, floors how far from nothing.

Knows: the file, the table made from it.  Does not know: how a ceiling is measured (``ceilings``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from prisbench.errors import DataError
from prisbench.headline import Scores, headline_interval, scores_of, subset_scores
from prisbench.metrics import METRIC_SPEC
from prisbench.results import DatasetRef, Run
from prisbench.runtime.files import read_bytes, write_bytes
from prisbench.runtime.strict_json import Strict, dump, read
from prisbench.statistics import interval_words
from prisbench.subsets import NAMED, subset_of
from prisbench.types import QUERY_TYPES, REFERENTLESS

FILE = "ceilings.json"
"""Its name in a leaderboard's folder; no result file has it."""

HEADING = "Ceilings and floors, not ranked"
"""Of the table of them, wherever it stands."""

FLOORS = ("always-absent", "whole-image", "center-box", "random-box")
"""Methods that know nothing: their rows are shown beside the ceilings, too."""

VERSION = 1
FIELDS = ("split", "query_id", "subject_id", "query_type", "grade")
"""Columns of the rows under "queries" in the file; behind them stands a column for each ceiling."""

KINDS = ("truth", "map", "person")
"""What a ceiling is made of: the truth alone, a method's soft maps, a person's choices."""


class Asked(NamedTuple):
    """A query that ceilings have a score of; ``grade`` is that of its scene's look-alikes."""

    split: str
    query_id: str
    subject_id: str
    query_type: str
    grade: str | None


@dataclass(frozen=True)
class Ceiling:
    """``scores``: query id -> 0..1, IoU where the text has a referent, else whether the mask is empty.

    ``told``: what it knows that no method does.  ``about``: what made it, so that it can be made again.
    """

    name: str
    kind: str
    told: str
    split: str
    about: Mapping[str, Any]
    scores: Mapping[str, float] = field(repr=False)


@dataclass(frozen=True)
class Ceilings:
    """All that are known of a leaderboard.  ``dataset``: its version and the board's split."""

    dataset: DatasetRef
    prisbench_version: str
    queries: Sequence[Asked]
    ceilings: Sequence[Ceiling]

    def scores(self, ceiling: Ceiling) -> Scores:
        """A ceiling's scores by subset."""
        return scores_of(
            (subset_of(each.query_type, each.grade), each.query_id, each.subject_id, ceiling.scores[each.query_id])
            for each in self.queries
            if each.split == ceiling.split and each.query_id in ceiling.scores
        )


def result_files(folder: Path) -> list[Path]:
    """The result files of a leaderboard's folder, sorted: all JSON files but the ceilings."""
    return sorted(path for path in folder.glob("*.json") if path.name != FILE)


def write_ceilings(found: Ceilings, folder: Path) -> Path:
    """Write ``ceilings.json``: a head, a line a ceiling, a line a query; small, and a diff shows what changed."""
    path = folder / FILE
    head = {"schema_version": VERSION, "dataset": asdict(found.dataset), "metric_spec": METRIC_SPEC}
    head |= {"prisbench_version": found.prisbench_version}
    lines = [f"{json.dumps(key)}: {dump(value, str(path))}" for key, value in head.items()]
    told = [{key: value for key, value in vars(each).items() if key != "scores"} for each in found.ceilings]
    heads = ",\n".join(dump(each, str(path)) for each in told)
    rows = []
    for query in found.queries:
        values = [each.scores.get(query.query_id) if each.split == query.split else None for each in found.ceilings]
        rows.append(dump([*query, *values], str(path)))
    body = ",\n".join(rows)
    lines += [f'"ceilings": [\n{heads}\n]', f'"query_fields": {dump(FIELDS, str(path))}', f'"queries": [\n{body}\n]']
    return write_bytes(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def read_ceilings(folder: Path, dataset: DatasetRef | None = None) -> Ceilings | None:
    """The ceilings of a leaderboard's folder, None where there are none; with ``dataset``, only those of that version.

    Raises DataError, naming the file and the key, for a damaged file, and for one of another dataset version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    file = read(_File, read_bytes(path), str(path))
    cure = "make it again with `prisbench ceilings`"
    if file.schema_version != VERSION or file.metric_spec != METRIC_SPEC or tuple(file.query_fields) != FIELDS:
        raise DataError(f"{path}: of another version, or of metric spec {file.metric_spec}; {cure}")
    if dataset is not None and file.dataset != dataset:
        raise DataError(f"{path}: made on another dataset version or split than the result files beside it; {cure}")
    queries, scores = _queries(file.queries, len(file.ceilings), str(path))
    ceilings = [Ceiling(**asdict(each), scores=found) for each, found in zip(file.ceilings, scores, strict=True)]
    if len({each.name for each in ceilings}) != len(ceilings):
        raise DataError(f"{path}: two ceilings have one name; {cure}")
    return Ceilings(file.dataset, file.prisbench_version, queries, ceilings)


def _queries(rows: Sequence[Any], columns: int, where: str) -> tuple[list[Asked], list[dict[str, float]]]:
    queries: list[Asked] = []
    scores: list[dict[str, float]] = [{} for _ in range(columns)]
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        at = f"{where}: query row {number}"
        if not isinstance(row, list) or len(row) != len(FIELDS) + columns:
            raise DataError(f"{at}: expected {len(FIELDS) + columns} values; make the file again")
        query = Asked(*row[: len(FIELDS)])
        if not all(isinstance(each, str) for each in query[:4]) or query.query_type not in QUERY_TYPES:
            raise DataError(f"{at}: 'query_type' is {query.query_type!r}, known: {', '.join(QUERY_TYPES)}")
        if query.query_id in seen:
            raise DataError(f"{at}: query {query.query_id!r} comes twice; make the file again")
        seen.add(query.query_id)
        queries.append(query)
        for found, value in zip(scores, row[len(FIELDS) :], strict=True):
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
                raise DataError(f"{at}: the score {value!r} is not in 0..1; make the file again")
            if value is not None:
                found[query.query_id] = float(value)
    return queries, scores


class Row(NamedTuple):
    """A row of the table: ``kind`` is one of ``KINDS`` or "floor"; ``by_subset`` subset -> score."""

    name: str
    kind: str
    told: str
    n: int
    n_subjects: int
    headline: float | None
    headline_ci: tuple[float, float] | None
    by_subset: Mapping[str, float]


def ceiling_rows(found: Ceilings | None, runs: Sequence[Run] = ()) -> list[Row]:
    """The ceilings, the highest first, then the floors among the runs; without a headline by the mean over subsets."""
    rows = (
        [] if found is None else [_row(each.name, each.kind, each.told, found.scores(each)) for each in found.ceilings]
    )
    floors = [run for run in runs if run.method in FLOORS and not run.part.left_out]
    below = [_row(run.method, "floor", "nothing", subset_scores(run.queries)) for run in floors]
    return sorted(rows, key=_place) + sorted(below, key=_place)


def _row(name: str, kind: str, told: str, scores: Scores) -> Row:
    samples = scores.samples.values()
    subjects = {subject for each in samples for subject in each.subject_ids}
    n = sum(len(each.query_ids) for each in samples)
    return Row(name, kind, told, n, len(subjects), scores.value, headline_interval(scores), scores.by_subset)


def _place(row: Row) -> tuple[float, str]:
    mean = sum(row.by_subset.values()) / max(1, len(row.by_subset))
    return -(mean if row.headline is None else row.headline), row.name


def subsets_of(rows: Sequence[Row]) -> list[str]:
    """The subsets that any row has a score of, in their order."""
    return [name for name in NAMED if any(name in row.by_subset for row in rows)]


def ceiling_notes(found: Ceilings | None, rows: Sequence[Row]) -> list[str]:
    """What a reader of the table must know."""
    subjects = max((row.n_subjects for row in rows), default=0)
    notes = [
        "None of these is a method, and none is ranked: a ceiling is told parts of the truth, a floor knows nothing. "
        f"Columns are those of the table by subset; {interval_words(subjects)}."
    ]
    for each in () if found is None else found.ceilings:
        if each.split != found.dataset.split:  # type: ignore[union-attr]
            notes.append(f"{each.name}: {len(each.scores)} queries of the {each.split} split.")
        if note := each.about.get("note"):
            notes.append(f"{each.name}: {note}.")
    return notes


def ceilings_markdown(found: Ceilings | None, runs: Sequence[Run] = ()) -> str:
    """The table and its notes; empty without a row."""
    rows = ceiling_rows(found, runs)
    if not rows:
        return ""
    subsets = subsets_of(rows)
    heads = ["ceiling or floor", "what it is told", "n", "headline"]
    heads += [f"{name} (nothing)" if name in REFERENTLESS else name for name in subsets]
    lines = ["| " + " | ".join(heads) + " |", "| :--- | :--- |" + " ---: |" * (len(heads) - 2)]
    for row in rows:
        cells = [row.name.replace("|", "\\|"), row.told.replace("|", "\\|"), str(row.n), headline_cell(row)]
        cells += [f"{row.by_subset[name]:.2f}" if name in row.by_subset else "–" for name in subsets]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in ceiling_notes(found, rows))]) + "\n"


def headline_cell(row: Row) -> str:
    """The headline to read, with its interval where there is one."""
    if row.headline is None:
        return "–"
    low_high = f" [{row.headline_ci[0]:.2f}, {row.headline_ci[1]:.2f}]" if row.headline_ci else ""
    return f"{row.headline:.3f}{low_high}"


def _kind(value: str) -> str:
    if value in KINDS:
        return value
    raise ValueError(" or ".join(map(repr, KINDS)))


@dataclass(frozen=True)
class _Head:
    name: str
    kind: Annotated[str, AfterValidator(_kind)]
    told: str
    split: str
    about: dict[str, Any]


class _File(Strict):
    schema_version: int
    dataset: DatasetRef
    metric_spec: str
    prisbench_version: str
    ceilings: list[_Head]
    query_fields: list[str]
    queries: list[Any]
