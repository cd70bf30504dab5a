"""The loop: learn every subject, answer every query, score.  Interrupt it whenever you like; the same command goes on.

A run lives in a folder: ``manifest.json`` (what is being run; a resumed run must be the same), ``predictions.jsonl``
(one line a query, on disk as soon as it is answered) and, at the end, ``run.json``.

Knows: the order of things, and what is written when.  Does not know: any method, how masks are scored or compared.
"""

from __future__ import annotations

import datetime
import itertools
import json
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prisbench
from prisbench.concepts.recipes import UNLEARNED
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, PrisbenchError, UsageError
from prisbench.files import read_json, write_errors, write_json
from prisbench.metrics import METRIC_SPEC, count
from prisbench.results import (
    DatasetRef,
    PredictionRecord,
    PredictionWriter,
    QueryResult,
    Run,
    SecondsPerImage,
    current_environment,
    read_predictions,
    write_run,
)
from prisbench.types import Concept, Example, Method

Progress = Callable[[str, int, int, str], None]
"""Called with "learn" or "locate", how many are done, of how many, and the id just done."""


@dataclass(frozen=True)
class Scope:
    """Which part of a dataset is run: a split, at most ``limit`` queries of it, one query type or all."""

    split: str = "test"
    limit: int | None = None
    subset: str | None = None


def run_name(method: str, concept: str, seed: int) -> str:
    """What a run's files are called; seed 0 goes without saying."""
    return "--".join([method, concept, *([f"seed-{seed}"] if seed else [])])


def run_folder(root: Path, dataset: Dataset, method: Method, concept: str, scope: Scope, seed: int = 0) -> Path:
    """``root/<dataset>/<method>--<concept>``, with the seed and what makes a run partial in its name."""
    parts = [run_name(method.name, concept, seed)]
    parts += [scope.split] if scope.split != "test" else []
    parts += [scope.subset] if scope.subset else []
    parts += [f"first-{scope.limit}"] if scope.limit else []
    return root / dataset.id / "--".join(parts)


def learn_all(
    dataset: Dataset,
    method: Method,
    split: str,
    progress: Progress = lambda *_: None,
    only: Collection[str] | None = None,
) -> tuple[dict[str, Concept], float]:
    """The concept of every subject of a split, and the mean seconds a subject took (stored ones take almost none).

    ``only`` leaves out the subjects whose id is not in it.
    """
    everybody = dataset.subjects(split)
    if hasattr(method, "subjects"):  # a control may want another one's concept
        method.subjects = everybody
    subjects = [subject for subject in everybody if only is None or subject.id in only]
    concepts: dict[str, Concept] = {}
    start = time.perf_counter()
    for n, subject in enumerate(subjects, 1):
        concepts[subject.id] = method.learn(subject)
        progress("learn", n, len(subjects), subject.id)
    return concepts, (time.perf_counter() - start) / max(len(subjects), 1)


def evaluate(
    dataset: Dataset,
    method: Method,
    root: Path,
    scope: Scope | None = None,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    fresh: bool = False,
) -> tuple[Run, Path]:
    """Run a method on a dataset and score it; returns the run and the path of its ``run.json``.

    ``fresh`` forgets an earlier, unfinished or finished, run of the same name.

    Raises DataError when an earlier run in the folder was of something else (naming the first field that differs), and
    when the method fails on every query; a failure on some is recorded with them.  UsageError when nothing is asked.
    """
    scope = scope or Scope()
    about = [example.query.subject_id for example in dataset.examples(scope.split, scope.limit, scope.subset)]
    if not about:
        kind = f" of type {scope.subset!r}" if scope.subset else ""
        raise UsageError(f"{dataset.id} has no queries{kind} in its {scope.split} split")
    total = len(about)
    concepts, learn_seconds = learn_all(dataset, method, scope.split, progress, set(about))
    learners = sorted({concept.learner for concept in concepts.values()})
    if len(learners) != 1:
        raise UsageError(f"{method.name} gave concepts of several kinds ({', '.join(learners)}); one run has one")
    reference = DatasetRef(dataset.name, dataset.version, dataset.digest, scope.split)
    folder = run_folder(root, dataset, method, learners[0], scope, seed)
    manifest = {
        "method": method.name,
        "concept": learners[0],
        "dataset": vars(reference),
        "settings": dict(method.settings),
        "backbone": getattr(method, "model", None),
        "seed": seed,
        "concepts": {key: concept.id for key, concept in concepts.items()},
    }
    manifest = _claim(folder, manifest, learn_seconds, _held(concepts.values()), fresh)
    with PredictionWriter(folder / "predictions.jsonl") as writer:
        done = len(writer.done)
        for group in _by_image(dataset.examples(scope.split, scope.limit, scope.subset)):
            asked = [example for example in group if example.query.id not in writer.done]
            for record in _answer(method, asked, concepts):
                writer.write(record)
                done += 1
                progress("locate", done, total, record.query_id)
    run = score(dataset, folder, scope, manifest)
    failed = [query for query in run.queries if query.error is not None]
    if failed and len(failed) == len(run.queries):
        raise DataError(f"{method.name} failed on every query: {failed[0].error}; mend it and run again with --fresh")
    write_run(run, folder / "run.json")
    return run, folder / "run.json"


def score(dataset: Dataset, folder: Path, scope: Scope, manifest: Mapping[str, Any]) -> Run:
    """The run that a folder's predictions make.  Raises DataError when a query has none."""
    path = folder / "predictions.jsonl"
    records = {record.query_id: record for record in read_predictions(path)}
    results: list[QueryResult] = []
    seconds: dict[str, float] = {}
    for example in dataset.examples(scope.split, scope.limit, scope.subset):
        record = records.get(example.query.id)
        if record is None:
            raise DataError(f"{path} has no answer to query {example.query.id!r}; run the same command again to go on")
        counts = count(
            record.mask,
            example.mask,
            example.look_alikes,
            query_id=example.query.id,
            query_type=example.query_type,
            peak_yx=record.peak_yx,
        )
        if record.seconds is not None:
            seconds[example.image_id] = seconds.get(example.image_id, 0.0) + record.seconds
        results.append(
            QueryResult(
                query_id=example.query.id,
                subject_id=example.query.subject_id,
                image_id=example.image_id,
                query_type=example.query_type,
                counts=counts,
                presence=None if record.presence is None else round(record.presence, 6),
                seconds=None if record.seconds is None else round(record.seconds, 4),
                error=record.error,
            )
        )
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


def _claim(
    folder: Path, manifest: dict[str, Any], learn_seconds: float, concept_bytes: float | None, fresh: bool
) -> dict[str, Any]:
    """Write the manifest, or find that what is there is the same run; either way what it says then."""
    path = folder / "manifest.json"
    manifest = json.loads(json.dumps(manifest))
    if fresh:
        for name in ("run.json", "predictions.jsonl", "manifest.json"):
            with write_errors(folder / name):
                (folder / name).unlink(missing_ok=True)
    if path.exists():
        found = read_json(path)
        for key, value in manifest.items():
            if found.get(key) != value:
                raise DataError(
                    f"{folder} holds a run with another {key} ({_difference(found.get(key), value)}); "
                    "choose another --out, or say --fresh to start again"
                )
        return {"concept_bytes": concept_bytes, **found}
    learned = manifest["concept"] not in UNLEARNED
    manifest["learn_seconds"] = round(learn_seconds, 2) if learned and learn_seconds > 0.5 else None
    manifest["concept_bytes"] = concept_bytes
    write_json(path, manifest)
    return manifest


def _held(concepts: Collection[Concept]) -> float | None:
    """Bytes of the tensors that localization reads, the mean over concepts; None where there are none."""
    sizes = [sum(t.nbytes for name, t in each.tensors.items() if name != "losses") for each in concepts]
    return round(float(statistics.mean(sizes)), 1) if any(sizes) else None


def _difference(found: Any, wanted: Any) -> str:
    """Where two values differ first, in a few words."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                return f"{key}: {_difference(found.get(key), wanted.get(key))}"
    return f"{found!r} there, {wanted!r} now"


def _by_image(examples: Iterator[Example]) -> Iterator[list[Example]]:
    for _, group in itertools.groupby(examples, key=lambda example: example.image_id):
        yield list(group)


def _answer(method: Method, asked: list[Example], concepts: Mapping[str, Concept]) -> Iterator[PredictionRecord]:
    """The records of one image's queries; a method that fails is asked query by query, so that it fails alone."""
    if not asked:
        return
    image, queries = asked[0].image, [example.query for example in asked]
    start = time.perf_counter()
    try:
        predictions = method.locate(image, queries, concepts)
    except Exception as error:
        if len(asked) > 1:
            for example in asked:
                yield from _answer(method, [example], concepts)
            return
        if isinstance(error, PrisbenchError | MemoryError) and not isinstance(error, DataError | UsageError):
            raise
        yield PredictionRecord(queries[0].id, None, error=" ".join(f"{type(error).__name__}: {error}".split()))
        return
    each = (time.perf_counter() - start) / len(queries)
    got = [prediction.query_id for prediction in predictions]
    if got != [query.id for query in queries]:
        raise DataError(
            f"{method.name} answered {got}, asked {[query.id for query in queries]}; answers keep their order"
        )
    for prediction in predictions:
        record = PredictionRecord.of(prediction)
        yield record if record.seconds is not None else PredictionRecord(**{**vars(record), "seconds": each})
