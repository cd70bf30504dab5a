"""The loop: learn every subject, answer every query, score.  Interrupt it whenever you like; the same command goes on.

A run lives in a folder: ``manifest.json`` (what is being run; a resumed run must be the same), ``predictions.jsonl``
(one line a query, on disk as soon as it is answered) and, at the end, ``run.json``.  One process at a time has it.

Knows: the order of things, and what is written when.  Does not know: any method, how masks are scored or compared.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import prisbench
from prisbench.answers import BreachError, as_list, check_method, checked, checked_concept
from prisbench.concepts.recipes import UNLEARNED
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, PrisbenchError, UsageError
from prisbench.metrics import METRIC_SPEC, count
from prisbench.out_of_domain import count_outside
from prisbench.results import (
    DatasetRef,
    PredictionRecord,
    PredictionWriter,
    QueryResult,
    Run,
    SecondsPerImage,
    current_environment,
    read_predictions,
    settle_predictions,
    write_run,
)
from prisbench.runtime.files import read_json, write_errors, write_json
from prisbench.runtime.identity import difference, identity, with_files
from prisbench.runtime.locks import locked
from prisbench.runtime.reads import watched
from prisbench.types import Concept, Example, Method, Subject, WantsSubjects

Progress = Callable[[str, int, int, str], None]
"""Called with "learn" or "locate", how many are done, of how many, and the id just done."""


@dataclass(frozen=True)
class Scope:
    """Which part of a dataset is run: a split, at most ``limit`` queries spread over it, one query type or all."""

    split: str = "test"
    limit: int | None = None
    subset: str | None = None


@dataclass(frozen=True)
class OnFailure:
    """What becomes of queries that the method fails on.  By default they are recorded, the run goes on, and the same
    command tries them again.

    ``keep``: failures of an earlier run are not tried again.  ``stop``: the first failure ends the run.
    """

    keep: bool = False
    stop: bool = False


def run_name(method: str, concept: str, seed: int) -> str:
    """What a run's files are called; seed 0 goes without saying."""
    return "--".join([method, concept, *([f"seed-{seed}"] if seed else [])])


def run_folder(root: Path, dataset: Dataset, method: Method, concept: str, scope: Scope, seed: int = 0) -> Path:
    """``root/<dataset>/<method>--<concept>``, with the seed and what makes a run partial in its name."""
    parts = [run_name(method.name, concept, seed)]
    parts += [scope.split] if scope.split != "test" else []
    parts += [scope.subset] if scope.subset else []
    parts += [f"spread-{scope.limit}"] if scope.limit else []
    return root / dataset.id / "--".join(parts)


def learn_all(
    dataset: Dataset,
    method: Method,
    split: str,
    progress: Progress = lambda *_: None,
    only: Collection[str] | None = None,
    first: Callable[[Concept], None] = lambda _: None,
) -> tuple[dict[str, Concept], float]:
    """The concept of every subject of a split, and the mean seconds a subject took (stored ones take almost none).

    ``only`` leaves out the subjects whose id is not in it.  ``first`` is called with the first concept, before the
    second is learned.  Raises DataError, naming the subject, when the method fails or gives no concept.
    """
    everybody = dataset.subjects(split)
    if isinstance(method, WantsSubjects):
        method.subjects = everybody
    subjects = [subject for subject in everybody if only is None or subject.id in only]
    concepts: dict[str, Concept] = {}
    start = time.perf_counter()
    for n, subject in enumerate(subjects, 1):
        concepts[subject.id] = _learn(method, subject)
        if n == 1:
            first(concepts[subject.id])
        progress("learn", n, len(subjects), subject.id)
    return concepts, (time.perf_counter() - start) / max(len(subjects), 1)


def _learn(method: Method, subject: Subject) -> Concept:
    """One subject's concept.  What the method raises itself, other than mistakes a user can mend, is one line."""
    try:
        with watched(method):
            concept = method.learn(subject)
    except (PrisbenchError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{method.name} cannot learn subject {subject.id!r}: {_words(error)}") from error
    return checked_concept(method.name, subject, concept)


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def evaluate(
    dataset: Dataset,
    method: Method,
    root: Path,
    scope: Scope | None = None,
    seed: int = 0,
    progress: Progress = lambda *_: None,
    fresh: bool = False,
    on_failure: OnFailure = OnFailure(),
) -> tuple[Run, Path]:
    """Run a method on a dataset and score it; returns the run and the path of its ``run.json``.

    ``fresh`` forgets an earlier, unfinished or finished, run of the same name.

    Raises DataError when an earlier run in the folder was of something else (naming the first field that differs), when
    the method breaks its contract (``answers``), and when it fails on every query; a failure on some is recorded with
    them.  WriteError when another process has the run's folder, UsageError when nothing is asked.
    """
    check_method(method)
    scope = scope or Scope()
    about = [example.query.subject_id for example in dataset.examples(scope.split, scope.limit, scope.subset)]
    if not about:
        kind = f" of type {scope.subset!r}" if scope.subset else ""
        raise UsageError(f"{dataset.id} has no queries{kind} in its {scope.split} split")
    reference = DatasetRef(dataset.name, dataset.version, dataset.digest, scope.split)
    manifest: dict[str, Any] = {
        "method": method.name,
        "concept": "",
        "dataset": vars(reference),
        "settings": dict(method.settings),
        "backbone": getattr(method, "model", None),
        "seed": seed,
        "identity": identity(method),
    }
    with contextlib.ExitStack() as stack:
        folder = root

        def claim(concept: Concept) -> None:
            """Take the folder before the other subjects are learned, which may take hours."""
            nonlocal folder
            folder = run_folder(root, dataset, method, concept.learner, scope, seed)
            manifest["concept"] = concept.learner
            stack.enter_context(locked(folder))
            _check_claim(folder, {**manifest, "concepts": {concept.subject_id: concept.id}}, fresh)

        concepts, learn_seconds = learn_all(dataset, method, scope.split, progress, set(about), claim)
        learners = sorted({concept.learner for concept in concepts.values()})
        if len(learners) != 1:
            raise UsageError(f"{method.name} gave concepts of several kinds ({', '.join(learners)}); one run has one")
        manifest["concepts"] = {key: concept.id for key, concept in concepts.items()}
        manifest = _claim(folder, manifest, learn_seconds, _held(concepts.values()))
        examples = partial(dataset.examples, scope.split, scope.limit, scope.subset)
        _locate_all(method, examples, concepts, folder / "predictions.jsonl", _Asked(len(about), progress, on_failure))
        run = replace(score(dataset, folder, scope, manifest), out_of_domain=count_outside(method, examples()))
        failed = [query for query in run.queries if query.error is not None]
        if failed and len(failed) == len(run.queries):
            raise DataError(
                f"{method.name} failed on every query: {failed[0].error}; mend it and run the same command again, with "
                "--fresh when its code has changed"
            )
        write_run(run, folder / "run.json")
    return run, folder / "run.json"


class _Asked(NamedTuple):
    total: int
    progress: Progress
    on_failure: OnFailure


def _locate_all(
    method: Method,
    examples: Callable[[], Iterator[Example]],
    concepts: Mapping[str, Concept],
    path: Path,
    asked: _Asked,
) -> None:
    """Answer every query that has no answer yet."""
    order: list[str] = []
    _note_files(path.parent, method)
    with PredictionWriter(path, asked.on_failure.keep) as writer:
        done = len(writer.done)
        for group in _by_image(examples()):
            order += [example.query.id for example in group]
            todo = [example for example in group if example.query.id not in writer.done]
            for record in _answer(method, todo, concepts):
                _note_files(path.parent, method)
                writer.write(record)
                done += 1
                asked.progress("locate", done, asked.total, record.query_id)
                if record.error is not None and asked.on_failure.stop:
                    raise DataError(f"{method.name} failed on query {record.query_id!r}: {record.error}")
    settle_predictions(path, order)


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


def _check_claim(folder: Path, manifest: Mapping[str, Any], fresh: bool) -> None:
    """Raises DataError when the folder holds a run of something else; ``fresh`` empties it instead."""
    if fresh:
        for name in ("run.json", "predictions.jsonl", "manifest.json"):
            with write_errors(folder / name):
                (folder / name).unlink(missing_ok=True)
    path = folder / "manifest.json"
    if not path.exists():
        return
    found = read_json(path)
    start = "choose another --out, or say --fresh to start again"
    if not isinstance(found, dict) or "identity" not in found:
        raise DataError(f"{folder} holds a run of an older prisbench, which did not record the method's code; {start}")
    for key, value in json.loads(json.dumps({k: v for k, v in manifest.items() if k != "identity"})).items():
        there = found.get(key)
        if key == "concepts" and isinstance(there, dict):  # of those subjects that are learned so far
            there = {subject: id for subject, id in there.items() if subject in value}
        if there != value:
            raise DataError(f"{folder} holds a run with another {key} ({_difference(there, value)}); {start}")
    if change := difference(found["identity"], manifest["identity"]):
        raise DataError(f"{folder} holds a run of {manifest['method']} as it was before: {change}; {start}")


def _claim(
    folder: Path, manifest: Mapping[str, Any], learn_seconds: float, concept_bytes: float | None
) -> dict[str, Any]:
    """Write the manifest, or find that what is there is the same run; either way what it says then."""
    _check_claim(folder, manifest, fresh=False)
    path = folder / "manifest.json"
    if path.exists():
        return {"concept_bytes": concept_bytes, **read_json(path)}
    learned = manifest["concept"] not in UNLEARNED
    written: dict[str, Any] = json.loads(json.dumps(manifest))
    written["learn_seconds"] = round(learn_seconds, 2) if learned and learn_seconds > 0.5 else None
    written["concept_bytes"] = concept_bytes
    write_json(path, written)
    return written


def _note_files(folder: Path, method: Method) -> None:
    """What the method read since: in the manifest before an answer that may come from it is written."""
    path = folder / "manifest.json"
    manifest = read_json(path)
    noted = with_files(manifest["identity"], method)
    if noted != manifest["identity"]:
        write_json(path, {**manifest, "identity": noted})


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


def _answer(method: Method, asked: Sequence[Example], concepts: Mapping[str, Concept]) -> Iterator[PredictionRecord]:
    """The records of one image's queries; a method that fails is asked query by query, so that it fails alone.

    What breaks the contract is no failure of a query: it raises DataError.
    """
    if not asked:
        return
    image, queries = asked[0].image, [example.query for example in asked]
    start = time.perf_counter()
    try:
        with watched(method):
            answers = as_list(method.name, method.locate(image, queries, concepts))
    except BreachError:
        raise
    except (Exception, SystemExit) as error:
        if len(asked) > 1:
            for example in asked:
                yield from _answer(method, [example], concepts)
            return
        if isinstance(error, PrisbenchError | MemoryError) and not isinstance(error, DataError | UsageError):
            raise
        yield PredictionRecord(queries[0].id, None, error=_words(error))
        return
    each = (time.perf_counter() - start) / len(queries)
    h, w = image.shape[:2]
    for prediction in checked(method.name, answers, queries, (h, w)):
        record = PredictionRecord.of(prediction)
        yield record if record.seconds is not None else PredictionRecord(**{**vars(record), "seconds": each})
