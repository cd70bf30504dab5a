"""Runs -> one row each, seeds together.

Knows: which runs may stand in one table, and which are ranked.  Does not know: masks, images, methods; how a metric is
defined (``metrics``), how sure it is (``statistics``), how a number is printed (``render``).
"""

from __future__ import annotations

import html
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd

from prisbench.errors import DataError
from prisbench.headline import Scores, headline_interval, headline_tiers, subset_scores
from prisbench.leaderboard.ceilings import result_files
from prisbench.leaderboard.intervals import COUNTED, WITH_INTERVAL
from prisbench.leaderboard.strength import STRENGTH, is_weak, strength
from prisbench.metrics import METRICS, SPEC_1, Metric, mean
from prisbench.pairs import pair_accuracy
from prisbench.presence import Correlation, presence_mcc, presence_roc, risk_coverage
from prisbench.results import REFERENCES, DatasetRef, QueryResult, Run, check_dataset, read_run
from prisbench.statistics import Interval, Roc, Sample, gathered, interval, paired_difference, rank_tiers
from prisbench.subsets import NAMED, check_subset, is_within, subset_of
from prisbench.types import REFERENTLESS, UNLEARNED

SPECS = ("1", "2")
"""Metric specs that have tables."""


def metrics_of(spec: str) -> dict[str, Metric]:
    """The metrics that tables of a spec show.  Raises DataError for a spec that has none."""
    if spec not in SPECS:
        raise DataError(f"metric spec {spec!r} has no tables here; known: {', '.join(SPECS)}")
    return {name: metric for name, metric in METRICS.items() if spec != "1" or name in SPEC_1}


def columns_of(spec: str) -> tuple[str, ...]:
    """The columns of a table of a metric spec."""
    shown = metrics_of(spec)
    more = () if spec == "1" else MORE
    return (
        *("method", "concept", "seeds", "tier", "n", "n_subjects", "n_errors"),
        *(
            ()
            if spec == "1"
            else ("reference", "partial_run", *STRENGTH, *TUNED, "headline", "headline_ci", *SCORES.values())
        ),
        *(column for name in shown for column in ((name, f"{name}_ci") if name in WITH_INTERVAL else (name,))),
        *("iou_mean_seed_sd", "presence_auc", "presence_auc_ci", "seconds_per_image", "learn_seconds", "concept_bytes"),
        *("gain_over_noun", "gain_over_noun_ci"),
        *more,
        *(f"{name}_{part}" for name in shown for part in ("n", "n_undefined")),
        *(f"{name}_n_subjects" for name in COUNTED if name in (*shown, "presence_auc", "gain_over_noun")),
        *(() if spec == "1" else ("pair_accuracy_n_subjects", "headline_n_subjects")),
        "out_of_domain",
    )


class Column(NamedTuple):
    """A number that a table to read shows: its column, its head, and what it means."""

    name: str
    label: str
    meaning: str
    higher_is_better: bool = True


def shown_columns(frame: pd.DataFrame) -> list[Column]:
    """The numbers that a table to read shows: those of spec 1, and of the later ones those that any row has, but for
    ``UNSHOWN``.
    """
    shown = [
        Column(name, metric.label, metric.meaning, metric.higher_is_better)
        for name, metric in METRICS.items()
        if name in frame.columns
    ]
    shown = [column for column in (HEADLINE, *shown, *_PRESENCE_AND_PAIRS) if column.name in frame.columns]
    later = [column.name for column in shown if column.name not in (*SPEC_1, *UNSHOWN)]
    wanted = {*SPEC_1, *(name for name in later if frame[name].notna().any())}
    return [column for column in shown if column.name in wanted]


UNSHOWN = ("dice_mean", "two_class_iou_mean")
"""Numbers for comparison with other papers: in CSV and JSON, not in tables to read."""


HEADLINE = Column(
    "headline",
    "headline",
    "the mean over the subsets of a graded set, each weighing the same: mean IoU where texts have a referent, the "
    "share of empty masks where they have none",
)

SCORES = {subset: f"score_{subset}" for subset in NAMED}
"""Subset -> the column of its score, of which the headline is the mean."""

_PRESENCE_AND_PAIRS = (
    Column(
        "pair_accuracy",
        "pairs",
        "share of pairs of texts that differ in one phrase of which both are answered right: the right instance, or an "
        "empty mask where the text contradicts the scene",
    ),
    Column(
        "presence_mcc",
        "presence MCC",
        "Matthews' correlation of a mask that is not empty with a text that has a referent, -1 to 1",
    ),
)

_NEGATIVES = {"": REFERENTLESS, "_absent": ("absent",), "_contradicted": ("contradicted",)}
"""Which queries without a referent a number of presence is over, by the end of its name."""

MORE = (
    *("pair_accuracy", "pair_accuracy_ci", "pair_chance", "pair_accuracy_n", "pair_accuracy_n_undefined"),
    *(f"presence_auc{end}{ci}" for end in _NEGATIVES if end for ci in ("", "_ci")),
    *(f"presence_mcc{end}{ci}" for end in _NEGATIVES for ci in ("", "_ci")),
    *("aurc", "aurc_n", "aurc_n_undefined", "soft_ap", "soft_ap_n"),
)
"""Columns of metric spec 2 that are no ``METRICS``."""


def load_runs(folder: Path) -> list[Run]:
    """The runs in a leaderboard folder's ``*.json``, in the order of their file names.

    Raises DataError when there are none, when one is not sound, or when they may not stand in one table.
    """
    paths = result_files(folder)
    if not paths:
        raise DataError(f"{folder}: no result files (*.json); make one with `prisbench evaluate`")
    runs = [read_run(path) for path in paths]
    _check_comparable(runs, [str(path) for path in paths])
    return runs


def rows(runs: Sequence[Run], subset: str | None = None) -> pd.DataFrame:
    """One row a method, concept and reference setting, best first; ``columns_of`` the runs' metric spec, object dtype,
    undefined values None.  Runs that were retracted have none (``standing``).

    Runs that differ in their seed alone share a row: ``seeds`` lists them, each answer weighs the same, intervals stay
    over subjects (whose answers from all seeds are drawn together), and ``iou_mean_seed_sd`` is the standard deviation
    of the seeds' ``iou_mean``, None for one seed.  ``n`` counts queries, ``n_errors`` and the metrics' ``*_n`` answers.

    Scores are 0..1; ``*_ci`` are lists [low, high] over the ``*_n_subjects`` subjects that define the number, None
    where they are fewer than ``statistics.FEWEST_SUBJECTS``.  ``headline`` (``headline.Scores``) is that of all queries
    of a graded set, None in the table of a subset and for a run that is not whole; ``SCORES`` are those of the subsets
    it is the mean of.  ``tier`` ranks by it, and by ``iou_mean`` where there is none (``statistics.tiers``); None for
    so few subjects, for a run that does not answer every query of the subset that another run answers, for one whose
    model is too weak at its own task (``strength``), and where the number is undefined.
    ``gain_over_noun`` is the paired difference in ``iou_mean`` of a learned concept over the same method's
    "noun-only" control, when both are complete.
    ``presence_auc``: how well the run's presence scores tell the subset's present queries from its absent ones
    (``statistics.roc``); None where there are none or only one kind.  ``seconds_per_image`` is the median over all
    images, whatever the subset; ``learn_seconds`` and ``concept_bytes`` are means over subjects.

    Raises UnknownNameError for an unknown subset, DataError for runs that may not stand in one table: of other
    dataset versions or metric specs, twice the same method, concept and seed, or of a method and concept whose
    settings differ in more than the seed.
    """
    check_subset(subset)
    runs = standing(runs)
    _check_comparable(runs, [_name_of(run) for run in runs])
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_name_of(run), []).append(run)
    answers = {key: queries_within(group, subset) for key, group in groups.items()}
    every = {query.query_id for queries in answers.values() for query in queries}
    ious = {key: sample_of(METRICS["iou_mean"], queries) for key, queries in answers.items()}
    complete = {
        key: iou
        for key, iou in ious.items()
        if len(answers[key]) == len(every) * len(groups[key]) and not any(run.part.left_out for run in groups[key])
    }
    whole = subset is None and bool(runs) and runs[0].metric_spec != "1"  # spec 1 knows neither failures nor grades
    scores = {key: subset_scores(queries) for key, queries in answers.items()} if whole else {}
    headlines = {key: each for key, each in scores.items() if key in complete and each.value is not None}
    strong = {key for key, group in groups.items() if not any(is_weak(run) for run in group)}
    tiers = (
        headline_tiers({key: each for key, each in headlines.items() if key in strong})
        if headlines
        else rank_tiers({key: each for key, each in complete.items() if key in strong})
    )
    records = [_row(group, subset, tiers.get(key), complete) for key, group in groups.items()]
    for key, row in zip(groups, records, strict=True):
        row |= _scored(scores.get(key), key in headlines)
    records.sort(key=_rank)
    return pd.DataFrame(records, columns=list(columns_of(runs[0].metric_spec if runs else SPECS[-1])), dtype=object)


def standing(runs: Sequence[Run]) -> list[Run]:
    """The runs that are not retracted."""
    return [run for run in runs if run.retracted is None]


def retracted_lines(runs: Sequence[Run]) -> list[str]:
    """What a page lists below its tables: each run that was retracted, struck, and why."""
    gone = [run for run in runs if run.retracted is not None]
    names = [_name_of(run) + (f", seed {run.seed}" if run.seed else "") for run in gone]
    return [html.escape(f"~~{name}~~: {run.retracted}", quote=False) for name, run in zip(names, gone, strict=True)]


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain dicts, in order."""
    return cast(list[dict[str, Any]], frame.to_dict(orient="records"))


def board_name(data: DatasetRef) -> str:
    """What a dataset's leaderboard is called: ``tabletop-v3``, or ``tabletop-v3-validation`` for another split."""
    return data.id + ("" if data.split == "test" else f"-{data.split}")


def queries_within(runs: Sequence[Run], subset: str | None) -> list[QueryResult]:
    """The answers to the queries of a subset."""
    return [
        query for run in runs for query in run.queries if is_within(subset, subset_of(query.query_type, query.grade))
    ]


def _scored(scores: Scores | None, whole: bool) -> dict[str, Any]:
    """The scores of the subsets, and of a run that is whole their mean."""
    known = {} if scores is None else scores.by_subset
    row: dict[str, Any] = {column: known.get(subset) for subset, column in SCORES.items()}
    if scores is None or not whole:
        return {**row, "headline": None, "headline_ci": None, "headline_n_subjects": 0}
    row |= {"headline": scores.value, "headline_ci": _listed(headline_interval(scores))}
    return {**row, "headline_n_subjects": scores.n_subjects}


def _rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What rows are sorted by."""
    score = row["iou_mean"] if row["headline"] is None else row["headline"]
    return row["tier"] is None, -(score or 0.0), row["method"], row["concept"]


def sample_of(metric: Metric, queries: Sequence[QueryResult]) -> Sample:
    """A metric's terms, those of a query's answers from several seeds added up."""
    terms = ((query, metric.terms(query.counts)) for query in queries if metric.scope(query.counts))
    return gathered((query.query_id, query.subject_id, *term) for query, term in terms if term is not None)


def _row(group: Sequence[Run], subset: str | None, tier: int | None, complete: dict[str, Sample]) -> dict[str, Any]:
    run, queries, seeds = group[0], queries_within(group, subset), sorted(run.seed for run in group)
    shown = metrics_of(run.metric_spec)
    means = {name: mean(metric, (query.counts for query in queries)) for name, metric in shown.items()}
    by_seed = [sample_of(METRICS["iou_mean"], queries_within([run], subset)).value for run in group]
    known = [value for value in by_seed if value is not None]
    row: dict[str, Any] = {
        "method": run.method,
        "concept": run.concept,
        "seeds": seeds,
        "tier": tier,
        "n": len({query.query_id for query in queries}),
        "n_subjects": len({query.subject_id for query in queries}),
        "n_errors": sum(query.error is not None for query in queries),
        "reference": run.reference,
        "partial_run": any(each.part.left_out for each in group),
        **strength(run),
        **_tuned(run),
        "out_of_domain": _outside(run),
        "iou_mean_seed_sd": statistics.stdev(known) if len(known) > 1 else None,
        "seconds_per_image": _median([each.seconds_per_image.median for each in group if each.seconds_per_image]),
        "learn_seconds": _median([each.learn_seconds for each in group if each.learn_seconds is not None]),
        "concept_bytes": _median([each.concept_bytes for each in group if each.concept_bytes is not None]),
        "presence_auc": None,
        "presence_auc_ci": None,
        "presence_auc_n_subjects": 0,
        "gain_over_noun": None,
        "gain_over_noun_ci": None,
        "gain_over_noun_n_subjects": 0,
    }
    if curve := presence_roc(queries):
        row |= {"presence_auc": curve.auc, "presence_auc_ci": _listed(curve.interval)}
        row["presence_auc_n_subjects"] = curve.n_subjects
    for name, found in means.items():
        row |= {name: found.value, f"{name}_n": found.n, f"{name}_n_undefined": found.n_undefined}
    row |= _more(group, subset) if run.metric_spec != "1" else {}
    for name in (name for name in WITH_INTERVAL if name in shown):
        sample = sample_of(METRICS[name], queries)
        row |= {f"{name}_ci": _listed(interval(sample)), f"{name}_n_subjects": sample.n_subjects}
    ours, control = complete.get(_name_of(run)), complete.get(_name_of(replace(run, concept="noun-only")))
    if ours is not None and control is not None and run.concept not in UNLEARNED:
        gain = paired_difference(ours, control)
        row |= {"gain_over_noun": gain.value, "gain_over_noun_n_subjects": ours.n_subjects}
        row["gain_over_noun_ci"] = _listed(gain.interval)
    return row


TUNED = (
    *("tuned_settings", "tuned_budget", "tuned_queries", "tuned_metric", "tuned_score", "tuned_published"),
    *("tuned_gain", "tuned_gain_ci"),
)
"""Columns of a row whose settings were tuned: which they are, of how many they are the best, on how many queries and by
what, what they score there and what the published ones score, and the difference with its interval; None for others.
"""


def _tuned(run: Run) -> dict[str, Any]:
    told = run.settings.get("tuned")
    if not isinstance(told, Mapping):
        return dict.fromkeys(TUNED)
    chosen = told.get("settings") or {}
    row = {column: told.get(column.removeprefix("tuned_")) for column in TUNED}
    row["tuned_settings"] = " ".join(f"{key}={value}" for key, value in chosen.items()) or "as published"
    return {**row, "tuned_gain_ci": told.get("gain_interval")}


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _more(group: Sequence[Run], subset: str | None) -> dict[str, Any]:
    """``MORE``: pairs, presence over each kind of negatives, risk against coverage, soft maps."""
    queries = queries_within(group, subset)
    pairs = pair_accuracy([queries_within([run], subset) for run in group])
    soft = [query.soft_ap for query in queries if query.soft_ap is not None]
    risk = risk_coverage(queries)
    row: dict[str, Any] = {
        "pair_accuracy": pairs.value,
        "pair_accuracy_ci": _listed(pairs.interval),
        "pair_chance": pairs.chance,
        "pair_accuracy_n": pairs.n,
        "pair_accuracy_n_undefined": pairs.n_undefined,
        "pair_accuracy_n_subjects": pairs.sample.n_subjects,
        "aurc": None if risk is None else risk.aurc,
        "aurc_n": 0 if risk is None else risk.n,
        "aurc_n_undefined": len(queries) if risk is None else risk.n_undefined,
        "soft_ap": statistics.fmean(soft) if soft else None,
        "soft_ap_n": len(soft),
    }
    for end, negatives in _NEGATIVES.items():
        found: dict[str, Roc | Correlation | None] = {"presence_mcc": presence_mcc(queries, negatives)}
        found |= {"presence_auc": presence_roc(queries, negatives)} if end else {}
        for name, each in found.items():
            value = None if each is None else each.auc if isinstance(each, Roc) else each.value
            row |= {f"{name}{end}": value, f"{name}{end}_ci": None if each is None else _listed(each.interval)}
    return row


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _outside(run: Run) -> float | None:
    """The share of a run's scenes that are outside of what its model was trained on."""
    if run.out_of_domain is None:
        return None
    return run.out_of_domain / max(1, len({query.image_id for query in run.queries}))


def _name_of(run: Run) -> str:
    masks = f" / {run.reference}" if run.reference == REFERENCES[1] else ""
    return f"{run.method} / {run.concept}{masks}"


def _check_comparable(runs: Sequence[Run], where: Sequence[str]) -> None:
    seen: dict[tuple[str, int], str] = {}
    first: dict[str, tuple[Run, str]] = {}
    for run, name in zip(runs, where, strict=True):
        if run.metric_spec != runs[0].metric_spec or run.metric_spec not in SPECS:
            spec = runs[0].metric_spec if runs[0].metric_spec in SPECS else SPECS[-1]
            raise DataError(
                f"{name}: scored by metric spec {run.metric_spec}, this table is of {spec}; "
                "score its predictions again with `prisbench evaluate`"
            )
        check_dataset(run, runs[0].dataset, name)
        key = _name_of(run)
        if (key, run.seed) in seen:
            raise DataError(
                f"{name}: the same method, concept and seed ({key}, {run.seed}) as {seen[key, run.seed]}; "
                "remove one of the two"
            )
        seen[key, run.seed] = name
        other, its_name = first.setdefault(key, (run, name))
        if _but_for_the_seed(run) != _but_for_the_seed(other):
            raise DataError(
                f"{name} and {its_name} are both {key} but differ in more than the seed (settings or backbone); "
                "run both again with the same"
            )


def _but_for_the_seed(run: Run) -> Any:
    def without(value: Any) -> Any:
        return {k: without(v) for k, v in value.items() if k != "seed"} if isinstance(value, Mapping) else value

    return run.backbone, without(run.settings)
