"""How fast predictions become numbers: run lengths in, all metrics out, in worker processes; and a loop over
torchmetrics and pycocotools for what they have.

What every query gives is folded into sums of its subject at once, so memory does not grow with the predictions.

Knows: how to draw masks and time their scoring.  Does not know: methods, datasets, files.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from prisbench.counts import Answer, Counts, Truth, count
from prisbench.errors import MissingExtraError
from prisbench.images.masks import to_rle
from prisbench.metrics import METRICS
from prisbench.pairs import pair_accuracy
from prisbench.presence import confusions, correlation, loss_of, presence_score, risk_curve, sureness
from prisbench.statistics import Sample, interval, roc
from prisbench.types import REFERENTLESS

SIZE_HW = (480, 640)
SUBJECTS = 24
DRAWN = 96
"""Different scenes; larger sets ask about them again, and nothing is remembered from one time to the next."""
CHUNK = 198
"""Queries that a process takes at a time; the six about a scene stay together."""
TYPES = ("plain", "look-alike", "relation", "referred", "absent", "contradicted")


class Scene(NamedTuple):
    """Run lengths of a subject, of what was answered, and of two other things."""

    truth: dict[str, Any]
    prediction: dict[str, Any]
    others: tuple[dict[str, Any], ...]


class Scored(NamedTuple):
    """A counted query."""

    query_id: str
    subject_id: str
    query_type: str
    counts: Counts
    presence: float | None
    pair_id: str | None


class Sums(NamedTuple):
    """Numerators, denominators and n of every metric and of pair accuracy, and answers by right and wrong: a row a
    subject.
    """

    terms: Float[np.ndarray, "subjects metrics 3"]
    pairs: Float[np.ndarray, "subjects 2"]
    confusions: Int64[np.ndarray, "subjects 4"]


class Ranked(NamedTuple):
    """What cannot be summed: a value a query."""

    scores: Float[np.ndarray, " n"]
    positive: Bool[np.ndarray, " n"]
    subjects: Int64[np.ndarray, " n"]
    sureness: Float[np.ndarray, " n"]
    loss: Float[np.ndarray, " n"]


class Folded(NamedTuple):
    """A chunk's share, and the process that made it."""

    sums: Sums
    ranked: Ranked
    process: int
    peak_mb: float


def bench_score(n: int, workers: int, reference: int, seed: int) -> dict[str, Any]:
    """Scores ``n`` predictions in ``workers`` processes, and ``reference`` of them with the other libraries.

    A record that fits JSON: seconds, predictions a second, ``peak_mb`` of all processes together after the first tenth,
    at the middle and at the end, the metrics, and how many times as long the others take.  Raises MissingExtraError
    where they are to be compared with and are not installed.
    """
    if reference:
        _check_reference()
    chunks = [(seed, start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        peaks = dict(pool.map(_warm, [seed] * (4 * workers)))
        began = time.perf_counter()
        sums: Sums | None = None
        ranked: list[Ranked] = []
        marks: dict[str, float] = {}
        for done, part in enumerate(pool.map(_score_chunk, chunks), 1):
            sums = part.sums if sums is None else Sums(*(a + b for a, b in zip(sums, part.sums, strict=True)))
            ranked.append(part.ranked)
            peaks[part.process] = part.peak_mb
            for name, share in (("start", 0.1), ("middle", 0.5), ("end", 1.0)):
                if name not in marks and done >= share * len(chunks):
                    marks[name] = round(sum(peaks.values()) + _peak_mb(), 1)
        assert sums is not None
        numbers = _numbers(sums, Ranked(*(np.concatenate(each) for each in zip(*ranked, strict=True))))
        seconds = time.perf_counter() - began
    record: dict[str, Any] = {
        "n": n,
        "workers": workers,
        "size_hw": list(SIZE_HW),
        "seconds": round(seconds, 3),
        "per_second": round(n / seconds, 1),
        "peak_mb": marks,
        "metrics": numbers,
    }
    if reference:
        theirs = _reference_seconds(reference, seed)
        record["reference"] = {"n": reference, "seconds": round(theirs, 3), "per_second": round(reference / theirs, 1)}
        record["ratio"] = round((theirs / reference) / (seconds / n), 1)
    return record


def render(record: dict[str, Any]) -> list[str]:
    """The record in lines to read."""
    h, w = record["size_hw"]
    peaks = record["peak_mb"]
    lines = [
        f"{record['n']:,} predictions of {h} x {w}, all metrics and intervals, {record['workers']} processes: "
        f"{record['seconds']:.1f} s, {record['per_second']:,.0f} a second",
        f"peak memory of all processes: {peaks['start']:.0f} MB after a tenth, {peaks['middle']:.0f} at half, "
        f"{peaks['end']:.0f} at the end",
    ]
    if "ratio" in record:
        theirs = record["reference"]
        lines.append(
            f"torchmetrics (two-class IoU, Dice, MCC, AUROC) and pycocotools (decoding, IoU), {theirs['n']} of them: "
            f"{theirs['per_second']:,.0f} a second; ours is {record['ratio']:.1f} times as fast"
        )
    return lines


@lru_cache(maxsize=2)
def scenes(seed: int) -> tuple[Scene, ...]:
    """Drawn blobs: the subject, an answer that is off by some pixels and shape, and two other things."""
    h, w = SIZE_HW
    ys, xs = np.mgrid[:h, :w].astype(np.float64)
    found = []
    for index in range(DRAWN):
        rng = np.random.default_rng([seed, index])

        def blob(y: float, x: float, radius: float, wobble: np.ndarray) -> dict[str, Any]:
            angle, away = np.arctan2(ys - y, xs - x), np.hypot(ys - y, xs - x)
            edge = radius * (1 + sum(a * np.cos(k * angle + b) for k, (a, b) in enumerate(wobble, 2)))
            return to_rle(away < edge)

        def wobble(rng: np.random.Generator = rng) -> np.ndarray:
            return np.stack([rng.uniform(0, 0.1, 5), rng.uniform(0, 6.3, 5)], axis=1)

        y, x, radius = rng.uniform(0.25, 0.75) * h, rng.uniform(0.25, 0.75) * w, rng.uniform(25, 130)
        own = wobble()
        others = tuple(blob(rng.uniform(0, h), rng.uniform(0, w), radius, wobble()) for _ in range(2))
        off = own + np.array([0.0, rng.uniform(0, 0.5)])
        answer = blob(y + rng.uniform(-8, 8), x + rng.uniform(-8, 8), radius * rng.uniform(0.8, 1.1), off)
        found.append(Scene(blob(y, x, radius, own), answer, others))
    return tuple(found)


class Drawn(NamedTuple):
    """A query to score."""

    answer: Answer
    truth: Truth
    subject: str
    presence: float
    pair: str | None


def queries(seed: int, start: int, stop: int) -> Iterator[Drawn]:
    """Queries from the seed and their numbers alone, from a multiple of six on: six about a scene, one of each type, of
    which two are a pair.
    """
    nothing = to_rle(np.zeros(SIZE_HW, dtype=bool))
    for number in range(start // len(TYPES), -(-stop // len(TYPES))):
        scene, rng = scenes(seed)[number % DRAWN], np.random.default_rng([seed, number, 1])
        lots, scores = rng.random(len(TYPES)), rng.normal(0.7, 0.2, len(TYPES))
        for place, kind in enumerate(TYPES[: stop - number * len(TYPES)]):
            meant = kind not in REFERENTLESS
            yield Drawn(
                Answer(scene.prediction if lots[place] < (0.9 if meant else 0.3) else None),
                Truth(f"q{number}-{kind}", kind, scene.truth if meant else nothing, scene.others[:1], scene.others[1:]),
                f"s{number % SUBJECTS}",
                min(max(float(scores[place]) - (0.0 if meant else 0.3), 0.0), 1.0),
                f"p{number}" if kind in ("referred", "contradicted") else None,
            )


def _warm(seed: int) -> tuple[int, float]:
    """Draws the scenes; the process and the most memory it has held."""
    scenes(seed)
    time.sleep(0.2)  # so that every process takes its turn
    return os.getpid(), _peak_mb()


def _score_chunk(chunk: tuple[int, int, int]) -> Folded:
    """Counts a chunk's queries and folds them into sums."""
    scored = [
        Scored(each.truth.query_id, each.subject, each.truth.query_type, count(each.answer, each.truth),
               each.presence, each.pair)
        for each in queries(*chunk)
    ]  # fmt: skip
    rows = {f"s{n}": n for n in range(SUBJECTS)}
    terms = np.zeros((SUBJECTS, len(METRICS), 3))
    for column, metric in enumerate(METRICS.values()):
        for query in scored:
            term = metric.terms(query.counts) if metric.scope(query.counts) else None
            if term is not None:
                terms[rows[query.subject_id], column] += (*term, 1)
    table = np.zeros((SUBJECTS, 4), dtype=np.int64)
    for subject, cells in confusions(scored).items():
        table[rows[subject]] = cells
    of_pairs = pair_accuracy([scored]).sample
    pairs = np.zeros((SUBJECTS, 2))
    for subject, *both in zip(of_pairs.subject_ids, of_pairs.numerator, of_pairs.denominator, strict=True):
        pairs[rows[subject]] += both
    ranked = Ranked(
        scores=np.array([presence_score(query) for query in scored], dtype=np.float64),
        positive=np.array([query.query_type not in REFERENTLESS for query in scored]),
        subjects=np.array([rows[query.subject_id] for query in scored], dtype=np.int64),
        sureness=np.array([sureness(query) for query in scored], dtype=np.float64),
        loss=np.array([loss_of(query) for query in scored], dtype=np.float64),
    )
    return Folded(Sums(terms, pairs, table), ranked, os.getpid(), _peak_mb())


def _numbers(sums: Sums, ranked: Ranked) -> dict[str, Any]:
    """Every number with its interval, from the sums."""

    def shown(pairs: Float[np.ndarray, "subjects 2"]) -> dict[str, Any]:
        there = np.flatnonzero(pairs[:, 1] > 0)
        names = tuple(f"s{n}" for n in there)
        sample = Sample(names, names, pairs[there, 0], pairs[there, 1])
        return {"value": sample.value, "interval": interval(sample) if len(names) else None}

    out = {name: shown(sums.terms[:, column, :2]) for column, name in enumerate(METRICS)}
    out["pair_accuracy"] = shown(sums.pairs)
    mcc = correlation({f"s{n}": cells for n, cells in enumerate(sums.confusions) if cells.any()})
    curve = roc(ranked.scores, ranked.positive, [f"s{n}" for n in ranked.subjects])
    out["presence_mcc"] = {"value": mcc and mcc.value, "interval": mcc and mcc.interval}
    out["presence_auc"] = {"value": curve and curve.auc, "interval": curve and curve.interval}
    out["aurc"] = {"value": risk_curve(ranked.sureness, ranked.loss).aurc, "interval": None}
    return out


def _check_reference() -> None:
    """Raises MissingExtraError where torchmetrics is not installed; loads nothing, since it is large."""
    if importlib.util.find_spec("torchmetrics") is None:
        raise MissingExtraError("torchmetrics", "dev", "the comparison (--reference 0 leaves it out)")


def _reference_seconds(n: int, seed: int) -> float:
    """Seconds of the plain loop over ``n`` predictions that are not empty."""
    import torch
    from pycocotools import mask as coco
    from torchmetrics import AUROC, MatthewsCorrCoef
    from torchmetrics.segmentation import DiceScore, MeanIoU

    def encoded(rle: Any) -> dict[str, Any]:
        return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}

    given = [
        (encoded(scene.prediction), encoded(scene.truth), [encoded(other) for other in scene.others])
        for scene in (scenes(seed)[i % DRAWN] for i in range(n))
    ]
    iou = MeanIoU(num_classes=2, input_format="index")
    dice = DiceScore(num_classes=2, input_format="index")
    mcc, auc = MatthewsCorrCoef(task="binary"), AUROC(task="binary")
    began = time.perf_counter()
    for prediction, truth, others in given:
        coco.iou([prediction], [truth, *others], [0] * (1 + len(others)))
        both = [torch.from_numpy(coco.decode(rle).astype(np.int64))[None] for rle in (prediction, truth)]
        iou.update(*both)
        dice.update(*both)
    there = torch.arange(n) % 3 > 0
    mcc.update(there.float(), there.int())
    auc.update(torch.linspace(0, 1, n), there.int())
    for metric in (iou, dice, mcc, auc):
        metric.compute()
    return time.perf_counter() - began


def _peak_mb() -> float:
    """The most memory this process has held; of Linux, which counts in KiB (macOS: bytes)."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
