"""Answers that somebody else's code wrote, as prediction records.

Three forms are read:

- our lines (``predictions.jsonl``, or ``.jsonl.gz``);
- a COCO results file: a JSON list of ``{"query_id": ID, "segmentation": RLE or null, "score": 0..1}``, one entry a
  query; an ``image_id`` is read as the query's id, since a scene may have several queries;
- a JSON object of such entries by query id.

``score`` is taken as how sure the method is that the text means something in the scene.  No entry, two entries and an
unknown id are mistakes; "not here" is an entry whose ``segmentation`` is null.

Knows: the forms.  Does not know: truths, metrics.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError
from prisbench.images.masks import runs_of
from prisbench.predictions import PredictionRecord, read_predictions, unpacked
from prisbench.results import Run
from prisbench.runs import Scope
from prisbench.score import About, score_answers

IDS = ("query_id", "image_id", "id")


def read_answers(path: Path) -> list[PredictionRecord]:
    """The records in a file of any of the forms.

    Raises DataError, naming the file and the entry, for what is none of them.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; name a predictions.jsonl, or a COCO results file (.json)")
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return read_predictions(path)
    raw = _json(unpacked(path), str(path))
    records: dict[str, PredictionRecord] = {}
    for at, entry in _entries(raw, str(path)):
        record = _record(entry, at)
        if record.query_id in records:
            raise DataError(f"{at}: query {record.query_id!r} has an entry before; leave one of the two")
        records[record.query_id] = record
    return list(records.values())


def score_file(path: Path, dataset: Dataset, scope: Scope, about: About) -> Run:
    """The run that a file's answers make.  Raises DataError as ``read_answers`` and ``score_answers``."""
    return score_answers(read_answers(path), dataset, scope.within(dataset), about)


def _json(data: bytes, where: str) -> Any:
    def refuse(name: str) -> NoReturn:
        raise DataError(f"{where}: holds {name}, which is not a number; leave such a score out")

    try:
        return json.loads(data.decode(), parse_constant=refuse)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        hint = "; a file of lines wants the ending .jsonl" if data[:1] == b"{" and b"}\n{" in data[:100_000] else ""
        raise DataError(f"{where}: not JSON ({error}){hint}") from None


def _entries(raw: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(raw, dict) and not any(key in raw for key in ("segmentation", *IDS)):
        for key, entry in raw.items():
            if not isinstance(entry, dict):
                raise DataError(
                    f"{where}: {key!r} holds {type(entry).__name__}; expected an object with a segmentation"
                )
            yield f"{where}: {key!r}", {"query_id": key, **entry}
        return
    if not isinstance(raw, list):
        raise DataError(f"{where}: expected a list of COCO results, or an object of them by query id")
    for number, entry in enumerate(raw, 1):
        if not isinstance(entry, dict):
            raise DataError(f"{where}: entry {number} is {type(entry).__name__}; expected an object")
        yield f"{where}: entry {number}", entry


def _record(entry: Mapping[str, Any], at: str) -> PredictionRecord:
    query_id = next((entry[name] for name in IDS if name in entry), None)
    if not isinstance(query_id, str):
        raise DataError(f"{at}: its id is {query_id!r}; expected a query's id as text, under {' or '.join(IDS)}")
    if "segmentation" not in entry:
        raise DataError(f"{at}: query {query_id!r} has no 'segmentation'; write null for \"not here\"")
    mask, score = entry["segmentation"], entry.get("score", entry.get("presence"))
    if isinstance(score, bool) or not isinstance(score, int | float | None) or not 0 <= (score or 0) <= 1:
        raise DataError(f"{at}: query {query_id!r} has the score {score!r}; expected a number from 0 to 1, or none")
    if isinstance(mask, list):
        raise DataError(f"{at}: query {query_id!r} has polygons; encode its mask as RLE (pycocotools.mask.encode)")
    if mask is not None:
        runs_of(mask, f"{at}: query {query_id!r}")
    return PredictionRecord(query_id, mask, presence=None if score is None else float(score))
