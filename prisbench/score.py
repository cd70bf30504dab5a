"""The answers of a run, held to the truth: counts of every query, and the record of the run that they make.

Knows: how an answer becomes counts and a run.  Does not know: methods; it needs no torch and no weights.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import prisbench
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError
from prisbench.metrics import METRIC_SPEC, count
from prisbench.results import (
    DatasetRef,
    PredictionRecord,
    QueryResult,
    Run,
    SecondsPerImage,
    current_environment,
    read_predictions,
)
from prisbench.runs import PREDICTIONS, Scope
from prisbench.types import Example


def score(dataset: Dataset, folder: Path, scope: Scope, manifest: Mapping[str, Any]) -> Run:
    """The run that a folder's predictions make.  Raises DataError when a query has none."""
    path = folder / PREDICTIONS
    records = {record.query_id: record for record in read_predictions(path)}
    results: list[QueryResult] = []
    seconds: dict[str, float] = {}
    for example in dataset.examples(scope.split, scope.limit, scope.subset):
        record = records.get(example.query.id)
        if record is None:
            raise DataError(f"{path} has no answer to query {example.query.id!r}; run the same command again to go on")
        if record.seconds is not None:
            seconds[example.image_id] = seconds.get(example.image_id, 0.0) + record.seconds
        results.append(_result(record, example))
    times = list(seconds.values())
    return Run(
        method=manifest["method"],
        concept=manifest["concept"],
        dataset=DatasetRef(**manifest["dataset"]),
        metric_spec=METRIC_SPEC,
        prisbench_version=prisbench.__version__,
        settings=manifest["settings"],
        backbone=manifest["backbone"],
        seed=manifest["seed"],
        created=datetime.date.today().isoformat(),
        environment=current_environment(),
        seconds_per_image=SecondsPerImage(round(statistics.median(times), 4), round(statistics.mean(times), 4))
        if times
        else None,
        learn_seconds=manifest["learn_seconds"],
        concept_bytes=manifest["concept_bytes"],
        queries=tuple(results),
    )


def _result(record: PredictionRecord, example: Example) -> QueryResult:
    """What became of one query."""
    return QueryResult(
        query_id=example.query.id,
        subject_id=example.query.subject_id,
        image_id=example.image_id,
        query_type=example.query_type,
        counts=count(
            record.mask,
            example.mask,
            example.look_alikes,
            query_id=example.query.id,
            query_type=example.query_type,
            peak_yx=record.peak_yx,
        ),
        presence=None if record.presence is None else round(record.presence, 6),
        seconds=None if record.seconds is None else round(record.seconds, 4),
        error=record.error,
    )
