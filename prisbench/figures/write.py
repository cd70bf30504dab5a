"""The figures of a leaderboard folder, each in every format that is asked for.

Knows: which figures there are, which methods and queries they show.  Does not know: how they are drawn (``charts``,
``grid``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prisbench.datasets.load import Dataset
from prisbench.figures import charts, grid
from prisbench.figures.style import Template, check_matplotlib, drawing, save
from prisbench.headline import Scores, subset_scores
from prisbench.leaderboard.ceilings import result_files
from prisbench.leaderboard.intervals import name_of
from prisbench.leaderboard.rescore import Find, kept_records
from prisbench.leaderboard.rows import load_runs, records_of, rows, standing
from prisbench.predictions import PredictionRecord
from prisbench.results import QueryResult, Run
from prisbench.statistics import interval
from prisbench.types import QUERY_TYPES, REFERENTLESS, Example

COMPARED = 4
"""Methods of the bars and the grid: the first so many of the table."""

FIRST_ROWS = ("look-alike", "relation", "referred", "contradicted", "absent", "other-category", "plain")
"""Query types of the grid, the most telling first."""


class Plan(NamedTuple):
    """Where figures go, in which formats and sizes; ``queries`` are the rows of the grid."""

    out: Path
    template: Template
    formats: tuple[str, ...]
    queries: int = 4


class Drawn(NamedTuple):
    """What was written; ``why`` says why there is no grid, None where there is one."""

    paths: list[Path]
    why: str | None


def write_figures(results: Path, plan: Plan, find: Find) -> Drawn:
    """Draw the figures of a leaderboard folder; ``find`` gives the dataset, which the grid alone needs.

    Raises MissingExtraError without matplotlib; DataError as ``load_runs`` and ``kept_records``; WriteError.
    """
    check_matplotlib()
    runs = load_runs(results)
    records = records_of(rows(runs))
    paths = _charts(runs, records, plan)
    firsts = _firsts(runs, records)
    kept = {name: kept_records(results / file, run) for name, (file, run) in _files(results, runs, firsts).items()}
    known = {name: found for name, found in kept.items() if found is not None}
    if not known:
        return Drawn(paths, "no predictions are kept beside the result files")
    dataset = find(runs[0].dataset)
    if dataset is None:
        return Drawn(paths, "the dataset is not here; name its folder with --data")
    return Drawn([*paths, *_grid(dataset, {name: firsts[name] for name in known}, known, plan)], None)


def _charts(runs: Sequence[Run], records: Sequence[Mapping[str, object]], plan: Plan) -> list[Path]:
    points, label = charts.points_of(records)
    letters = plan.template.size
    paths: list[Path] = []
    with drawing((plan.template.column, 0.5 + 0.27 * max(1, len(points)) * letters / 8), letters) as figure:
        charts.intervals(figure.subplots(), points, label)
        paths += save(figure, plan.out, "intervals", plan.formats)
    named = 0.17 * len(charts.named(points)) * letters / 8
    with drawing((plan.template.column, 0.66 * plan.template.column + named), letters) as figure:
        charts.accuracy_and_time(figure.subplots(), points, label)
        paths += save(figure, plan.out, "accuracy-and-time", plan.formats)
    scores = {name: _by_subset(subset_scores(run.queries)) for name, run in _firsts(runs, records).items()}
    with drawing((plan.template.text, 0.42 * plan.template.text), letters) as figure:
        charts.by_subset(figure.subplots(), scores)
        paths += save(figure, plan.out, "by-subset", plan.formats)
    return paths


def _by_subset(scores: Scores) -> dict[str, tuple[float, tuple[float, float] | None]]:
    return {name: (scores.by_subset[name], interval(sample)) for name, sample in scores.samples.items()}


def _firsts(runs: Sequence[Run], records: Sequence[Mapping[str, object]]) -> dict[str, Run]:
    """The first run (of the first seed) of the first methods of the table, by name."""
    found: dict[str, Run] = {}
    for row in records[:COMPARED]:
        own = [run for run in standing(runs) if (run.method, run.concept) == (row["method"], row["concept"])]
        own = [run for run in own if row.get("reference") in (None, run.reference)]
        found[name_of(row)] = min(own, key=lambda run: run.seed)
    return found


def _files(results: Path, runs: Sequence[Run], wanted: Mapping[str, Run]) -> dict[str, tuple[str, Run]]:
    """Name -> the result file of its run."""
    names = [path.name for path in result_files(results)]
    return {name: (names[next(n for n, each in enumerate(runs) if each is run)], run) for name, run in wanted.items()}


def _grid(
    dataset: Dataset, runs: Mapping[str, Run], kept: Mapping[str, Sequence[PredictionRecord]], plan: Plan
) -> list[Path]:
    split = next(iter(runs.values())).dataset.split
    chosen = disputed(list(runs.values()), plan.queries)
    examples = {example.query.id: example for example in dataset.examples(split, queries=chosen)}
    subjects = {subject.id: subject for subject in dataset.subjects(split)}
    masks = {name: {record.query_id: record for record in records} for name, records in kept.items()}
    results = {name: {query.query_id: query for query in run.queries} for name, run in runs.items()}
    lines = []
    for query_id in chosen:
        example = examples[query_id]
        subject = subjects[example.query.subject_id]
        lines.append(
            grid.Row(
                example,
                subject.noun,
                subject.photos[0],
                {name: masks[name][query_id].mask for name in runs},
                {name: _words(results[name][query_id], example) for name in runs},
            )
        )
    wide = plan.template.text
    tile = wide / (2 + len(runs))
    with drawing((wide, 0.5 + len(lines) * (0.85 * tile + 0.35)), plan.template.size) as figure:
        grid.grid(figure, lines, list(runs))
        return save(figure, plan.out, "examples", plan.formats)


def disputed(runs: Sequence[Run], n: int) -> list[str]:
    """Ids of ``n`` queries, one a query type as long as there are types: each the one about which the runs disagree
    most (the standard deviation of IoU, of empty masks where nothing is meant), the first id where several do.
    """
    scores: dict[str, list[float]] = {}
    kinds: dict[str, list[str]] = {kind: [] for kind in (*FIRST_ROWS, *QUERY_TYPES)}
    for run in runs:
        for query in run.queries:
            if query.query_id not in scores:
                kinds[query.query_type].append(query.query_id)
            scores.setdefault(query.query_id, []).append(_good(query))
    order = {kind: sorted(ids, key=lambda each: (-float(np.std(scores[each])), each)) for kind, ids in kinds.items()}
    turns = [ids[turn] for turn in range(n) for ids in order.values() if turn < len(ids)]
    return turns[:n]


def _good(query: QueryResult) -> float:
    counts = query.counts
    if counts.failed:
        return 0.0
    return counts.intersection / counts.union if counts.truth_area else float(counts.predicted_area == 0)


def _words(query: QueryResult, example: Example) -> str:
    if query.error is not None:
        return "failed"
    if example.query_type in REFERENTLESS:
        return "false alarm" if query.counts.predicted_area else "empty, right"
    return f"IoU {query.counts.intersection / query.counts.union:.2f}"
