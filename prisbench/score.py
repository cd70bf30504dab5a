"""The answers of a run, held to the truth: counts of every query, and the record of the run that they make.

Numbers are recomputed from masks, never believed.

Knows: how an answer becomes counts and a run.  Does not know: methods; it needs no torch and no weights.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import prisbench
from prisbench.counts import Answer, Truth, count
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, UsageError
from prisbench.metrics import METRIC_SPEC
from prisbench.own_task import known_as_told
from prisbench.predictions import PredictionRecord, lines_of, read_predictions
from prisbench.provenance import Provenance, current_environment, current_provenance
from prisbench.results import REFERENCES, DatasetRef, Kept, QueryResult, Run, SecondsPerImage
from prisbench.runs import MANIFEST, PREDICTIONS, SOFT_MAPS, Scope, read_manifest, scope_of
from prisbench.runtime.files import sha256_bytes
from prisbench.soft_maps import read_map, soft_average_precision
from prisbench.subsets import grade_of
from prisbench.types import Example

GO_ON = "run the same command again to go on"
"""What helps where a query has no answer yet."""


def score(dataset: Dataset, folder: Path, scope: Scope, manifest: Mapping[str, Any]) -> Run:
    """The run that a folder's predictions make.

    Raises DataError when a query has no prediction, and when a prediction is of no query.
    """
    path = folder / PREDICTIONS
    maps = folder / SOFT_MAPS
    records = read_predictions(path)
    results = tuple(score_records(records, scope.examples(dataset), str(path), maps if maps.is_dir() else None))
    times = list(_seconds_per_image(records, results).values())
    provenance = manifest["provenance"]
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
        concept_bytes=manifest.get("concept_bytes"),
        queries=results,
        out_of_domain=manifest.get("out_of_domain"),
        reference=manifest["reference"],
        part=scope.part,
        template=manifest["template"],
        precision=manifest["precision"],
        identity=portable(manifest["identity"]),
        concepts=manifest["concepts"],
        provenance=None if provenance is None else Provenance(**provenance),
        predictions=Kept(len(records), sha256_bytes(lines_of(records))),
        own_task=known_as_told(manifest.get("own_task")),
    )


def score_folder(folder: Path, dataset: Dataset) -> Run:
    """The run in a folder that ``predict`` made.

    Raises DataError when it is none, is not finished, was made on another content of the dataset, or its manifest does
    not hold what a run's does, naming the key.
    """
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} holds no run: no {MANIFEST} in it; make one with `prisbench predict`")
    manifest = read_manifest(folder)
    made_on = manifest["dataset"]
    here = DatasetRef(dataset.name, dataset.version, dataset.digest, "")
    if made_on["digest"] != here.digest:
        raise DataError(
            f"{folder} was made on {DatasetRef(**made_on).id} (digest {made_on['digest'][:16]}), "
            f"{dataset.folder} has the digest {here.digest[:16]}; score it on the dataset it was made on"
        )
    return score(dataset, folder, scope_of(manifest), manifest)


def score_answers(records: Sequence[PredictionRecord], dataset: Dataset, scope: Scope, about: About) -> Run:
    """The run that answers of unknown origin make.  Raises as ``score_records``, and UsageError without queries."""
    cure = 'give every query an entry, one whose segmentation is null for "not here"'
    results = tuple(score_records(records, scope.examples(dataset), about.file, cure=cure))
    if not results:
        raise UsageError(f"{dataset.id} has no such queries in its {scope.split} split")
    data = DatasetRef(dataset.name, dataset.version, dataset.digest, scope.split)
    return Run(
        method=about.method,
        concept=about.concept,
        dataset=data,
        metric_spec=METRIC_SPEC,
        prisbench_version=prisbench.__version__,
        settings={},
        backbone=None,
        seed=about.seed,
        created=datetime.date.today().isoformat(),
        environment=current_environment(),
        seconds_per_image=None,
        learn_seconds=None,
        concept_bytes=None,
        queries=results,
        reference=about.reference,
        part=scope.part,
        provenance=current_provenance(about.reason),
        predictions=Kept(len(records), sha256_bytes(lines_of(records))),
    )


class About(NamedTuple):
    """What is said of answers that another program made: the file they are in, a method's and a concept's name."""

    file: str
    method: str
    concept: str = "none"
    seed: int = 0
    reference: str = REFERENCES[0]
    reason: str | None = None


def score_records(
    records: Sequence[PredictionRecord],
    examples: Iterable[Example],
    where: str,
    soft_maps: Path | None = None,
    cure: str = GO_ON,
) -> Iterator[QueryResult]:
    """What became of every query, in the order of the examples.

    ``soft_maps``: a folder of ``<query id>.png``, 8-bit maps that masks were cut from.

    Raises DataError, naming ``where`` and the id, when a query has no prediction, and at the end when a prediction is
    of no query.
    """
    by_id = {record.query_id: record for record in records}
    for example in examples:
        yield score_one(_taken(by_id, example, where, cure), example, Truth.of(example), soft_maps)
    _check_nothing_left(by_id, where)


def score_together(
    runs: Mapping[str, Sequence[PredictionRecord]], examples: Iterable[Example]
) -> dict[str, list[QueryResult]]:
    """As ``score_records``, for several runs on the same examples: where their records stand -> what became of each
    query.  Each example is read once.
    """
    left = {where: {record.query_id: record for record in records} for where, records in runs.items()}
    found: dict[str, list[QueryResult]] = {where: [] for where in runs}
    for example in examples:
        truth = Truth.of(example)
        for where, by_id in left.items():
            found[where].append(score_one(_taken(by_id, example, where, GO_ON), example, truth))
    for where, by_id in left.items():
        _check_nothing_left(by_id, where)
    return found


def _taken(by_id: dict[str, PredictionRecord], example: Example, where: str, cure: str) -> PredictionRecord:
    record = by_id.pop(example.query.id, None)
    if record is None:
        raise DataError(f"{where} has no answer to query {example.query.id!r}; {cure}")
    return record


def _check_nothing_left(by_id: Mapping[str, PredictionRecord], where: str) -> None:
    if by_id:
        raise DataError(
            f"{where}: {len(by_id)} of its queries are not in the dataset's split or part, first "
            f"{next(iter(by_id))!r}; score it on those that it was made on"
        )


def score_one(record: PredictionRecord, example: Example, truth: Truth, soft_maps: Path | None = None) -> QueryResult:
    """What became of one query."""
    answer = Answer(record.rle, record.peak_yx, record.error is not None)
    return QueryResult(
        query_id=example.query.id,
        subject_id=example.query.subject_id,
        image_id=example.image_id,
        query_type=example.query_type,
        counts=count(answer, truth),
        presence=None if record.presence is None else round(record.presence, 6),
        seconds=None if record.seconds is None else round(record.seconds, 4),
        error=record.error,
        pair_id=example.pair_id,
        grade=grade_of(thing.grade for thing in example.things if thing.role == "look-alike"),
        soft_ap=_soft_ap(example, soft_maps),
    )


def portable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without the places where its files lie on this machine."""

    def name(key: str) -> str:
        return PurePath(key).name if PurePath(key).is_absolute() else key

    out = {key: value for key, value in identity.items() if key != "file"}
    for key in ("code", "weights", "read"):
        if isinstance(out.get(key), Mapping):
            out[key] = {name(each): value for each, value in out[key].items()}
    if isinstance(out.get("read"), dict) and isinstance(out.get("code"), dict):
        known = set(out["code"].values())  # the method's own files, read again where it was moved to
        out["read"] = {each: value for each, value in out["read"].items() if value not in known}
        out = out if out["read"] else {key: value for key, value in out.items() if key != "read"}
    if isinstance(out.get("written"), list):
        out["written"] = sorted({name(each) for each in out["written"]})
    return {"file": name(str(identity.get("file", ""))), **out}


def _soft_ap(example: Example, folder: Path | None) -> float | None:
    path = None if folder is None else folder / f"{example.query.id}.png"
    if path is None or not path.is_file():
        return None
    found = soft_average_precision(read_map(path), example.mask)
    return None if found is None else round(found, 6)


def _seconds_per_image(records: Sequence[PredictionRecord], results: Sequence[QueryResult]) -> dict[str, float]:
    known = {record.query_id: record.seconds for record in records}
    seconds: dict[str, float] = {}
    for result in results:
        each = known[result.query_id]
        if each is not None:
            seconds[result.image_id] = seconds.get(result.image_id, 0.0) + each
    return seconds
