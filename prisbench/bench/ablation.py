"""What each part of the localizer is worth: the preset with one thing changed, side by side on the same queries; and
the presets side by side.

Every row's threshold is chosen anew on the same queries, because a change of the map moves the best threshold; all rows
are optimistic by that much alike, so compare rows, not with the leaderboard.  How many absent queries get a mask is
told at the settings' own thresholds.

Knows: the changes, how a row is measured.  Does not know: how a map is made.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prisbench.datasets.load import Dataset
from prisbench.datasets.spread import spread_subjects
from prisbench.errors import UsageError
from prisbench.localizer.answer import cut, predict
from prisbench.localizer.method import AttentionMethod
from prisbench.localizer.observe import observe_all
from prisbench.localizer.presets import default_settings
from prisbench.localizer.settings import Evidence, LocalizerSettings, Places
from prisbench.localizer.texts import Reader
from prisbench.results import REFERENCES
from prisbench.split_subjects import given
from prisbench.statistics import FEWEST_SUBJECTS, Sample, interval, no_interval, paired_difference, roc
from prisbench.types import REFERENTLESS, Example

THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
PART = {"plain": 1, "other-category": 2, "look-alike": 3, "absent": 2}
"""Queries taken of a subject, by type."""

Change = Callable[[LocalizerSettings], LocalizerSettings]


def _with(**changes: Any) -> Change:
    return lambda settings: dataclasses.replace(settings, **changes)


def _evidence(**changes: Any) -> Change:
    return lambda settings: dataclasses.replace(settings, evidence=dataclasses.replace(settings.evidence, **changes))


def _places(**changes: Any) -> Change:
    return lambda settings: dataclasses.replace(settings, places=dataclasses.replace(settings.places, **changes))


CHANGES: dict[str, Change] = {
    "the preset": _with(),
    "places are not read": _places(power=0.0, silence=0.0),
    "all parts stay": _places(alone=0.0),
    "neither": _with(places=Places()),
    "no evidence": _with(evidence=Evidence()),
    "evidence for presence only": _evidence(power=0.0),
    "evidence, power 1": _evidence(power=1.0),
    "evidence against the noun": _evidence(against=("noun",)),
    "evidence, two noises": _evidence(samples=2),
    "no refinement": _with(refine="none"),
    "pixel-adaptive refinement": _with(refine="adaptive"),
    "one timestep: 100": _with(timesteps=(100,)),
    "timesteps 100, 300": _with(timesteps=(100, 300)),
    "timesteps 100, 300, 500": _with(timesteps=(100, 300, 500)),
    "two noises": _with(samples=2),
    "four noises": _with(samples=4),
    "with the mirror image": _with(flip=True),
    "no self-attention hop": _with(hops=0),
    "one self-attention hop": _with(hops=1),
    "two self-attention hops": _with(hops=2),
    "one hop out of boxes": _with(hops=1, theta=0.2),
    "consensus of heads and blocks": _with(weights="consensus"),
    "share of content words": _with(share=True, template="{text} on a table"),
    "less 0.5 x bare noun": _with(contrast_noun=0.5),
    "less 0.5 x other subjects": _with(contrast_others=0.5),
    "learned vectors alone": _with(tokens=("token",)),
    "the vectors' own map multiplied in": _with(tokens=("subject", "token")),
    "a pass for each query": _with(caption=None),
}
"""A row's name -> what it changes in the preset."""

PRESET = "preset "
"""A row of this name is another preset, whole."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One setting on all queries: the IoU of each present query at each threshold, presences, whether each absent query
    got a mask all the same, seconds a query.
    """

    ious: Mapping[str, Sequence[float]]
    presences: Sequence[float]
    answered: Mapping[str, bool]
    seconds: Sequence[float]


def part_of(dataset: Dataset, split: str, subjects: int | None, part: Mapping[str, int] = PART) -> list[Example]:
    """The first few queries of each type and subject; of so many subjects, spread over nouns."""
    there = [(record["id"], record["noun"]) for _, record in dataset.records("subjects", split, ("id", "noun"))]
    chosen = set(spread_subjects(there)[:subjects])
    taken: Counter[tuple[str, str]] = Counter()
    examples = []
    for example in dataset.examples(split):
        kind = (example.query.subject_id, example.query_type)
        if example.query.subject_id in chosen and taken[kind] < part.get(example.query_type, 0):
            taken[kind] += 1
            examples.append(example)
    if not examples:
        raise UsageError(f"{dataset.id} has none of the queries {', '.join(part)} in its {split} split")
    return examples


def measure(method: AttentionMethod, dataset: Dataset, examples: Sequence[Example], split: str) -> Measured:
    """One setting: that of the method."""
    wanted = {example.query.subject_id for example in examples}
    photos_alone = given(dataset.subjects(split), REFERENCES[0])
    concepts = {subject.id: method.learn(subject) for subject in photos_alone if subject.id in wanted}
    settings = method.localizer
    ious: dict[str, list[float]] = {}
    presences, seconds = [], []
    answered: dict[str, bool] = {}
    for example in examples:
        start = time.perf_counter()
        (seen,) = observe_all(Reader(method.backbone, settings), example.image, [example.query], concepts)
        answer = predict(seen, example.image, example.query.id, settings)
        seconds.append(time.perf_counter() - start)
        presences.append(float(answer.presence or 0.0))
        if example.query_type in REFERENTLESS:
            answered[example.query.id] = answer.mask is not None and bool(answer.mask.any())
            continue
        assert answer.score is not None, "predict keeps the map that it cuts"
        score, row = torch.from_numpy(answer.score)[None], []
        for tau in THRESHOLDS:
            mask = cut(score, example.image, dataclasses.replace(settings, tau=tau))
            row.append(float((mask & example.mask).sum() / (mask | example.mask).sum()))
        ious[example.query.id] = row
    return Measured(ious, presences, answered, seconds)


def table(
    method: AttentionMethod,
    dataset: Dataset,
    split: str = "validation",
    subjects: int | None = None,
    names: Sequence[str] = tuple(CHANGES),
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[dict[str, Any]]:
    """One row a change: mean IoU and its paired difference to the preset's, look-alikes, how presences order, absent
    queries that got a mask, seconds.

    Means are over queries, intervals over subjects.  A change that the preset has already gets no row.  A name may also
    be "preset NAME".  Raises UnknownNameError for a preset nobody knows.
    """
    examples = part_of(dataset, split, subjects)
    base, rows = method.localizer, []

    def changed(name: str) -> LocalizerSettings:
        if name.startswith(PRESET):
            return default_settings(method.backbone, name.removeprefix(PRESET))
        return CHANGES[name](base)

    names = [name for n, name in enumerate(names) if not n or changed(name) != base]
    first: Measured | None = None
    try:
        for n, name in enumerate(names):
            progress(name, n, len(names))
            method.localizer = changed(name)
            seen = measure(method, dataset, examples, split)
            first = first or seen
            rows.append({"change": name, **_row(examples, seen, first)})
    finally:
        method.localizer = base
    return rows


def _row(examples: Sequence[Example], seen: Measured, first: Measured) -> dict[str, Any]:
    def sample(of: Measured, kinds: Sequence[str], at: int) -> Sample:
        chosen = [e.query for e in examples if e.query.id in of.ious and e.query_type in kinds]
        values = np.array([of.ious[query.id][at] for query in chosen])
        return Sample(tuple(q.id for q in chosen), tuple(q.subject_id for q in chosen), values, np.ones(len(values)))

    present = [kind for kind in PART if kind not in REFERENTLESS]

    def best(of: Measured) -> int:
        means: dict[int, float] = defaultdict(float)
        for row in of.ious.values():
            for at, value in enumerate(row):
                means[at] += value
        return max(range(len(THRESHOLDS)), key=lambda at: means[at])

    at = best(seen)
    all_, alike = sample(seen, present, at), sample(seen, ["look-alike"], at)
    gain = paired_difference(all_, sample(first, present, best(first)))
    absent = [e.query for e in examples if e.query.id in seen.answered]
    wrong = Sample(
        tuple(query.id for query in absent),
        tuple(query.subject_id for query in absent),
        np.array([float(seen.answered[query.id]) for query in absent]),
        np.ones(len(absent)),
    )
    there = np.array([e.query_type not in REFERENTLESS for e in examples])
    curve = roc(np.array(seen.presences), there, [e.query.subject_id for e in examples])
    return {
        "tau": THRESHOLDS[at],
        "n": len(all_.query_ids),
        "n_subjects": all_.n_subjects,
        "iou_mean": all_.value,
        "iou_mean_ci": interval(all_),
        "gain": gain.value,
        "gain_ci": gain.interval,
        "look_alike": alike.value,
        "look_alike_ci": interval(alike),
        "presence_auc": curve.auc if curve else None,
        "presence_auc_ci": curve.interval if curve else None,
        "absent_fp": wrong.value,
        "absent_fp_ci": interval(wrong) if absent else None,
        "seconds": float(np.median(seen.seconds)),
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table to read."""

    def cell(value: float | None, ci: Sequence[float] | None, sign: str = "") -> str:
        if value is None:
            return "–"
        return f"{value:{sign}.3f}" + (f" [{ci[0]:{sign}.2f}, {ci[1]:{sign}.2f}]" if ci else "")

    lines = [
        "| change | mIoU | against the preset | look-alike | presence AUC | absent FP | tau | s / query |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        cells = [
            row["change"],
            cell(row["iou_mean"], row["iou_mean_ci"]),
            "" if row is rows[0] else cell(row["gain"], row["gain_ci"], "+"),
            cell(row["look_alike"], row["look_alike_ci"]),
            cell(row["presence_auc"], row["presence_auc_ci"]),
            cell(row["absent_fp"], row["absent_fp_ci"]),
            f"{row['tau']:.2f}",
            f"{row['seconds']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    subjects = sorted({row["n_subjects"] for row in rows})
    sure = [f"[low, high] are 95 % intervals over {n} subjects." for n in subjects if n >= FEWEST_SUBJECTS]
    few = [f"No intervals: {no_interval(n)}." for n in subjects if n < FEWEST_SUBJECTS]
    for key, label in (("look_alike", "look-alike"), ("presence_auc", "presence AUC"), ("absent_fp", "absent FP")):
        if sure and any(row[key] is not None and row[f"{key}_ci"] is None for row in rows):
            few.append(f"No interval for {label}: fewer than {FEWEST_SUBJECTS} subjects have such queries.")
    return "\n".join([*lines, "", *(f"- {note}" for note in (*sure, *few))]) + "\n"
