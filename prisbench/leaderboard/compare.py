"""Two runs of the same queries, compared query by query: by subset, grade and size, and where they part.

Knows: what a query's score is, in which groups queries are looked at.  Does not know: how masks are drawn (``flips``),
how sure a difference is (``statistics``, ``headline``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.counts import Counts
from prisbench.errors import DataError, UsageError
from prisbench.headline import headline_difference, subset_scores
from prisbench.leaderboard.publish import kept_beside
from prisbench.leaderboard.render import signed
from prisbench.leaderboard.strength import weak_notes
from prisbench.metrics import has_referent
from prisbench.results import QueryResult, Run, read_run
from prisbench.runs import PREDICTIONS, RUN
from prisbench.statistics import Difference, gathered, interval_words, paired_difference
from prisbench.subsets import is_within, subset_of, subsets_in

RIGHT = 0.5
"""The IoU from which an answer to a text with a referent is right; one to another text is where it is empty."""

SIZES = ((0.01, "small"), (0.1, "medium"), (1.0, "large"))
"""What is meant covers less than so much of the image (the last: up to all of it)."""

ALL = "all queries"

_SAME = 1e-9


class Group(NamedTuple):
    """Some queries: means of the scores of both, and of how many the first is better, the second, or neither.

    ``flips`` are those that one answers right and the other wrong: won by the first, won by the second.
    """

    name: str
    n: int
    subjects: int
    first: float
    second: float
    difference: Difference
    wins: int
    losses: int
    ties: int
    won_flips: int
    lost_flips: int


class Pair(NamedTuple):
    """A query's results in both runs."""

    first: QueryResult
    second: QueryResult

    @property
    def gap(self) -> float:
        """The first's score minus the second's."""
        return score_of(self.first.counts) - score_of(self.second.counts)

    @property
    def flip(self) -> int:
        """1 where the first is right and the second wrong, -1 the other way round, else 0."""
        return int(is_right(self.first.counts)) - int(is_right(self.second.counts))


class Comparison(NamedTuple):
    """Two runs; ``only_first`` and ``only_second`` count queries that one of them lacks.

    ``headline``: the difference of the headlines, None where the set is not graded or a run not whole.  ``unranked``
    says which of the two stands on a model too weak to be ranked.
    """

    names: tuple[str, str]
    headline: Difference | None
    groups: list[Group]
    pairs: list[Pair]
    only_first: int
    only_second: int
    unranked: tuple[str, ...] = ()


class Side(NamedTuple):
    """A run to compare: what it is called, its record, and its predictions where they are kept."""

    name: str
    run: Run
    predictions: Path | None


def open_side(path: Path) -> Side:
    """A run by its folder, or a row by its file.  Raises DataError for neither."""
    file = path / RUN if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{path} is no run and no row: no {RUN} in it; name a run's folder, or a leaderboard's .json")
    predictions = file.with_name(PREDICTIONS) if file.name == RUN else kept_beside(file)
    run = read_run(file)
    name = f"{run.method} / {run.concept}" + (f" / {run.reference}" if run.reference == "photos+masks" else "")
    name += f" / seed {run.seed}" if run.seed else ""
    return Side(name, run, predictions if predictions.is_file() else None)


def compare(first: Side, second: Side) -> Comparison:
    """Both on the queries that both answer.

    Raises DataError for runs of different datasets or metric specs, and UsageError for runs without a common query.
    """
    one, two = first.run, second.run
    if one.dataset != two.dataset:
        ours, theirs = (f"{each.id}, {each.split} split (digest {each.digest[:16]})" for each in
                        (one.dataset, two.dataset))  # fmt: skip
        raise DataError(f"{first.name} is of {ours}, {second.name} of {theirs}; only the same queries can be compared")
    if one.metric_spec != two.metric_spec:
        raise DataError(
            f"{first.name} is scored by metric spec {one.metric_spec}, {second.name} by {two.metric_spec}; score the "
            "predictions of the older one again"
        )
    theirs_by_id = {query.query_id: query for query in two.queries}
    pairs = [Pair(each, theirs_by_id[each.query_id]) for each in one.queries if each.query_id in theirs_by_id]
    if not pairs:
        raise UsageError(f"{first.name} and {second.name} have no query in common")
    names = (first.name, second.name) if first.name != second.name else (f"{first.name} (A)", f"{second.name} (B)")
    groups = [_group(name, chosen) for name, chosen in _groups(pairs).items()]
    whole = len(pairs) == len(one.queries) == len(two.queries) and one.metric_spec != "1"
    gap = headline_difference(subset_scores(one.queries), subset_scores(two.queries)) if whole else None
    return Comparison(
        names,
        None if gap is None or gap.value is None else gap,
        groups,
        pairs,
        len(one.queries) - len(pairs),
        len(two.queries) - len(pairs),
        tuple(note for name, run in zip(names, (one, two), strict=True) for note in weak_notes(name, run)),
    )


def score_of(counts: Counts) -> float:
    """A query's score, 0..1, as the headline has it: IoU, or whether the mask is empty where nothing is meant."""
    if counts.failed:
        return 0.0
    return counts.intersection / counts.union if has_referent(counts) else float(counts.predicted_area == 0)


def is_right(counts: Counts) -> bool:
    """Whether an answer is right (``RIGHT``)."""
    return score_of(counts) >= RIGHT


def size_of(counts: Counts) -> str | None:
    """Which of ``SIZES`` what is meant has; None where nothing is."""
    if not has_referent(counts):
        return None
    share = counts.truth_area / counts.area
    return next((name for below, name in SIZES if share < below), SIZES[-1][1])


def _groups(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """All, then by subset (grades of look-alikes among them), then by size; none is empty."""
    found: dict[str, list[Pair]] = {ALL: list(pairs)}
    for subset in subsets_in(pair.first for pair in pairs):
        found[subset] = [
            pair for pair in pairs if is_within(subset, subset_of(pair.first.query_type, pair.first.grade))
        ]
    for _, size in SIZES:
        of_size = [pair for pair in pairs if size_of(pair.first.counts) == size]
        if of_size:
            found[f"size:{size}"] = of_size
    return found


def _group(name: str, pairs: Sequence[Pair]) -> Group:
    samples = []
    sides: tuple[Callable[[Pair], QueryResult], ...] = (lambda pair: pair.first, lambda pair: pair.second)
    for side in sides:
        queries = [side(pair) for pair in pairs]
        samples.append(gathered((each.query_id, each.subject_id, score_of(each.counts), 1.0) for each in queries))
    gaps, flips = [pair.gap for pair in pairs], [pair.flip for pair in pairs]
    wins, losses = sum(gap > _SAME for gap in gaps), sum(gap < -_SAME for gap in gaps)
    first, second = (float(sample.numerator.mean()) for sample in samples)
    return Group(
        name,
        len(pairs),
        samples[0].n_subjects,
        first,
        second,
        paired_difference(samples[0], samples[1]),
        wins,
        losses,
        len(pairs) - wins - losses,
        flips.count(1),
        flips.count(-1),
    )


def markdown(comparison: Comparison) -> str:
    """The comparison to read."""
    one, two = (name.replace("|", "\\|") for name in comparison.names)
    lines = [f"A: {one}", f"B: {two}", ""]
    heads = ["queries", "n", "A", "B", "A - B", "A better", "B better", "alike", "only A right", "only B right"]
    lines += ["| " + " | ".join(heads) + " |", "| :--- |" + " ---: |" * (len(heads) - 1)]
    for each in comparison.groups:
        gap = signed(each.difference.value, each.difference.interval, 3)
        cells = [each.name, each.n, f"{each.first:.3f}", f"{each.second:.3f}", gap, each.wins, each.losses, each.ties]
        lines.append("| " + " | ".join(map(str, [*cells, each.won_flips, each.lost_flips])) + " |")
    notes = [
        "Paired by query; a query's score is its IoU, or whether the mask is empty where the text has no referent.",
        f"{interval_words(comparison.groups[0].subjects)}; sizes are shares of the image: below "
        f"{SIZES[0][0]:.0%} small, below {SIZES[1][0]:.0%} medium.",
        f"Right is an IoU of at least {RIGHT}, or an empty mask where the text has no referent.",
    ]
    if comparison.headline is not None:
        gap = signed(comparison.headline.value, comparison.headline.interval, 3)
        notes.insert(0, f"Headline, every subset weighing the same: A - B {gap}.")
    if comparison.only_first or comparison.only_second:
        notes.append(f"Left out: {comparison.only_first} queries that only A answers, {comparison.only_second} only B.")
    return "\n".join([*lines, "", *(f"- {note}" for note in [*notes, *comparison.unranked])]) + "\n"


def record(comparison: Comparison) -> dict[str, Any]:
    """The same for programs, with every flip."""

    def plain(group: Group) -> dict[str, Any]:
        return {**group._asdict(), "difference": _listed(group.difference)}

    flips = [{"query_id": pair.first.query_id, "gap": pair.gap} for pair in comparison.pairs if pair.flip]
    return {
        "first": comparison.names[0],
        "second": comparison.names[1],
        "headline": None if comparison.headline is None else _listed(comparison.headline),
        "groups": [plain(group) for group in comparison.groups],
        "flips": flips,
        "only_first": comparison.only_first,
        "only_second": comparison.only_second,
        "unranked": list(comparison.unranked),
    }


def _listed(difference: Difference) -> Mapping[str, Any]:
    interval = None if difference.interval is None else list(difference.interval)
    return {"value": difference.value, "interval": interval, "n": difference.n}


def as_json(comparison: Comparison) -> str:
    return json.dumps(record(comparison), allow_nan=False, ensure_ascii=False, indent=1) + "\n"
