"""The figures of a leaderboard folder, each in every format that is asked for.

Knows: which figures there are, which methods they show.  Does not know: how they are drawn (``charts``, ``grid``),
which queries are chosen (``chosen``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prisbench.datasets.load import Dataset
from prisbench.errors import UnknownNameError
from prisbench.figures import charts, grid
from prisbench.figures.chosen import CHOICES
from prisbench.figures.style import Template, check_matplotlib, drawing, save
from prisbench.headline import Scores, subset_scores
from prisbench.leaderboard.ceilings import result_files
from prisbench.leaderboard.intervals import name_of
from prisbench.leaderboard.rescore import Find, kept_records
from prisbench.leaderboard.rows import load_runs, records_of, rows, standing
from prisbench.predictions import PredictionRecord
from prisbench.results import QueryResult, Run
from prisbench.statistics import interval
from prisbench.types import REFERENTLESS, Example

COMPARED = 4
"""Methods of the bars and the grid: the first so many of the table."""


class Plan(NamedTuple):
    """Where figures go, in which formats and sizes.

    ``queries``: lines of the grid of examples; ``examples``: the rule of ``figures.chosen`` that chooses them.
    ``rows``: names of the table's rows that bars and grid show, the first few of the table where none are named.
    """

    out: Path
    template: Template
    formats: tuple[str, ...]
    queries: int = 4
    examples: str = "disputed"
    rows: tuple[str, ...] = ()


class Drawn(NamedTuple):
    """What was written; ``why`` says why there is no grid, None where there is one."""

    paths: list[Path]
    why: str | None


def write_figures(results: Path, plan: Plan, find: Find) -> Drawn:
    """Draw the figures of a leaderboard folder; ``find`` gives the dataset, which the grid alone needs.

    Raises MissingExtraError without matplotlib; UnknownNameError for a row that the table has not; DataError as
    ``load_runs`` and ``kept_records``; WriteError.
    """
    check_matplotlib()
    runs = load_runs(results)
    records = records_of(rows(runs))
    firsts = _shown(runs, records, plan.rows)
    paths = _charts(runs, records, plan, firsts)
    kept = {name: kept_records(results / file, run) for name, (file, run) in _files(results, runs, firsts).items()}
    known = {name: found for name, found in kept.items() if found is not None}
    if not known:
        return Drawn(paths, "no predictions are kept beside the result files")
    dataset = find(runs[0].dataset)
    if dataset is None:
        return Drawn(paths, "the dataset is not here; name its folder with --data")
    return Drawn([*paths, *_grid(dataset, {name: firsts[name] for name in known}, known, plan)], None)


def _charts(
    runs: Sequence[Run], records: Sequence[Mapping[str, object]], plan: Plan, shown: Mapping[str, Run]
) -> list[Path]:
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
    scores = {name: _by_subset(subset_scores(run.queries)) for name, run in shown.items()}
    with drawing((plan.template.text, 0.42 * plan.template.text), letters) as figure:
        charts.by_subset(figure.subplots(), scores)
        paths += save(figure, plan.out, "by-subset", plan.formats)
    return paths


def _by_subset(scores: Scores) -> dict[str, tuple[float, tuple[float, float] | None]]:
    return {name: (scores.by_subset[name], interval(sample)) for name, sample in scores.samples.items()}


def _shown(runs: Sequence[Run], records: Sequence[Mapping[str, object]], names: Sequence[str]) -> dict[str, Run]:
    """The first run (of the first seed) of the rows of these names, else of the first rows of the table; by name."""
    known = {name_of(row): row for row in records}
    found: dict[str, Run] = {}
    for name in names or list(known)[:COMPARED]:
        if name not in known:
            raise UnknownNameError("row of the table", name, known)
        row = known[name]
        own = [run for run in standing(runs) if (run.method, run.concept) == (row["method"], row["concept"])]
        own = [run for run in own if row.get("reference") in (None, run.reference)]
        found[name] = min(own, key=lambda run: run.seed)
    return found


def _files(results: Path, runs: Sequence[Run], wanted: Mapping[str, Run]) -> dict[str, tuple[str, Run]]:
    """Name -> the result file of its run."""
    names = [path.name for path in result_files(results)]
    return {name: (names[next(n for n, each in enumerate(runs) if each is run)], run) for name, run in wanted.items()}


def _grid(
    dataset: Dataset, runs: Mapping[str, Run], kept: Mapping[str, Sequence[PredictionRecord]], plan: Plan
) -> list[Path]:
    split = next(iter(runs.values())).dataset.split
    chosen = CHOICES[plan.examples](list(runs.values()), plan.queries)
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


def _words(query: QueryResult, example: Example) -> str:
    if query.error is not None:
        return "failed"
    if example.query_type in REFERENTLESS:
        return "false alarm" if query.counts.predicted_area else "empty, right"
    return f"IoU {query.counts.intersection / query.counts.union:.2f}"
