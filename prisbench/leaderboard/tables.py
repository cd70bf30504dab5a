"""Runs -> one row each, seeds together -> Markdown, CSV, JSON, and the README of a leaderboard folder.

Knows: which runs may stand in one table, which are ranked, and how numbers are printed.
Does not know: masks, images, methods; how a metric is defined (``metrics``) or how sure it is (``statistics``).
"""

from __future__ import annotations

import difflib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd

from prisbench.concepts.recipes import UNLEARNED
from prisbench.errors import DataError, UnknownNameError
from prisbench.leaderboard.intervals import COUNTED, WITH_INTERVAL, interval_notes, missing, most_subjects, promise
from prisbench.metrics import METRIC_SPEC, METRICS, Metric, summarise
from prisbench.out_of_domain import TOLERATED
from prisbench.results import DatasetRef, QueryResult, Run, check_dataset, read_run
from prisbench.runtime.files import write_text
from prisbench.statistics import FEWEST_SUBJECTS, Roc, Sample, interval, paired_difference, rank_tiers, roc
from prisbench.types import QUERY_TYPES, REFERENTLESS

SUBSETS = ("present", *QUERY_TYPES)
"""Parts of a dataset that can have their own table; "present" is every type but those without a referent."""

COLUMNS = (
    *("method", "concept", "seeds", "tier", "n", "n_subjects", "n_errors"),
    *(column for name in METRICS for column in ((name, f"{name}_ci") if name in WITH_INTERVAL else (name,))),
    *("iou_mean_seed_sd", "presence_auc", "presence_auc_ci", "seconds_per_image", "learn_seconds", "concept_bytes"),
    *("gain_over_noun", "gain_over_noun_ci"),
    *(f"{name}_{part}" for name in METRICS for part in ("n", "n_undefined")),
    *(f"{name}_n_subjects" for name in COUNTED),
    "out_of_domain",
)

FORMATS = ("md", "csv", "json")


def load_runs(folder: Path) -> list[Run]:
    """The runs in a leaderboard folder's ``*.json``, in the order of their file names.

    Raises DataError when there are none, when one is not sound, or when they may not stand in one table.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder}: no result files (*.json); make one with `prisbench evaluate`")
    runs = [read_run(path) for path in paths]
    _check_comparable(runs, [str(path) for path in paths])
    return runs


def rows(runs: Sequence[Run], subset: str | None = None) -> pd.DataFrame:
    """One row a method and concept, best first; ``COLUMNS``, object dtype, undefined values None.

    Runs that differ in their seed alone share a row: ``seeds`` lists them, each answer weighs the same, intervals stay
    over subjects (whose answers from all seeds are drawn together), and ``iou_mean_seed_sd`` is the standard deviation
    of the seeds' ``iou_mean``, None for one seed.  ``n`` counts queries, ``n_errors`` and the metrics' ``*_n`` answers.

    Scores are 0..1; ``*_ci`` are lists [low, high] over the ``*_n_subjects`` subjects that define the number, None
    where they are fewer than ``statistics.FEWEST_SUBJECTS``.  ``tier`` ranks by ``iou_mean``
    (``statistics.rank_tiers``); None for so few subjects, for a run that does not answer every query of the subset
    that another run answers, and where ``iou_mean`` is undefined.  ``gain_over_noun`` is the paired difference in
    ``iou_mean`` of a learned concept over the same method's "noun-only" control, when both are complete.
    ``presence_auc``: how well the run's belief "it is there" tells the subset's present queries from its absent ones
    (``statistics.roc``); None where there is no belief or only one kind.  ``seconds_per_image`` is the median over all
    images, whatever the subset; ``learn_seconds`` and ``concept_bytes`` are means over subjects.

    Raises UnknownNameError for an unknown subset, DataError for runs that may not stand in one table: of other
    dataset versions or metric specs, twice the same method, concept and seed, or of a method and concept whose
    settings differ in more than the seed.
    """
    if subset is not None and subset not in SUBSETS:
        raise UnknownNameError("subset", subset, SUBSETS)
    _check_comparable(runs, [_key(run) for run in runs])
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    asked = {key: _asked(group, subset) for key, group in groups.items()}
    every = {query.query_id for queries in asked.values() for query in queries}
    ious = {key: _sample(METRICS["iou_mean"], queries) for key, queries in asked.items()}
    ranked = {key: iou for key, iou in ious.items() if len(asked[key]) == len(every) * len(groups[key])}
    tiers = rank_tiers(ranked)
    records = [_row(group, subset, tiers.get(key), ranked) for key, group in groups.items()]
    records.sort(key=lambda row: (row["tier"] is None, -(row["iou_mean"] or 0.0), row["method"], row["concept"]))
    return pd.DataFrame(records, columns=list(COLUMNS), dtype=object)


def render(frame: pd.DataFrame, format: str = "md") -> str:
    """A frame of ``rows`` as text.

    "json" is a list of objects and "csv" has a header line, both with all columns and scores 0..1; "md" is a table
    to read, with the notes it needs below it.

    Raises UnknownNameError for another format.
    """
    writers: dict[str, Callable[[pd.DataFrame], str]] = {"md": _markdown, "csv": _csv, "json": _json}
    if format not in writers:
        raise UnknownNameError("format", format, FORMATS)
    return writers[format](frame)


def readme(runs: Sequence[Run]) -> str:
    """The README of a leaderboard folder: the table over all queries, then one for every query type.

    Raises DataError as ``rows``, and without runs.
    """
    if not runs:
        raise DataError("a leaderboard needs at least one run")
    data = runs[0].dataset
    parts = [
        f"# {data.name} {data.version}, {data.split} split",
        "Made by `prisbench leaderboard` from the result files in this folder; do not edit. "
        f"Dataset digest `{data.digest}`, metric spec {METRIC_SPEC} (`docs/metrics.md`).",
        "## All queries",
        render(rows(runs)),
    ]
    types = {query.query_type for run in runs for query in run.queries}
    for subset in (each for each in QUERY_TYPES if each in types):
        parts += [f"## Only {subset} queries", render(rows(runs, subset))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write_readme(folder: Path) -> Path:
    """Write the folder's README.md from its result files."""
    return write_text(folder / "README.md", readme(load_runs(folder)))


def check(folder: Path) -> list[str]:
    """What regenerating the folder's README.md would change, as lines of a unified diff; empty when it is current.

    Raises DataError as ``load_runs``.
    """
    path = folder / "README.md"
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    new = readme(load_runs(folder))
    names = (str(path), f"{path} (made again)")
    return list(difflib.unified_diff(old.splitlines(), new.splitlines(), *names, n=0, lineterm=""))


def summary(runs: Sequence[Run]) -> str:
    """The table for a project's front page: mIoU of each query type, wrong instances, absent FP, seconds.

    Raises DataError as ``rows``.
    """
    data, everything = runs[0].dataset, rows(runs)
    kinds = [kind for kind in QUERY_TYPES if kind not in (*REFERENTLESS, "referred")]
    by_kind = {kind: {_which(row): row for row in records_of(rows(runs, kind))} for kind in ("present", *kinds)}
    first = records_of(everything)[0]
    name = f"{data.name.capitalize()} v{data.version.removeprefix('v')}"
    lines = [
        f"{name}, {first['n_subjects']} {data.split} subjects, {first['n']} queries; "
        f"{promise(records_of(everything))}, wrong instance and absent FP as rates (less is better):",
        "",
        "| method | concept | all present | " + " | ".join(kinds) + " | wrong instance | absent FP | s / image |",
        "|---|---|" + "---|" * (len(kinds) + 4),
    ]
    for row in sorted(records_of(everything), key=lambda row: -(by_kind["present"][_which(row)]["iou_mean"] or 0.0)):
        ious = [by_kind[kind][_which(row)] for kind in ("present", *kinds)]
        cells = [row["method"], named(row), *(_short(each["iou_mean"], each["iou_mean_ci"]) for each in ious)]
        cells += [_short(row["wrong_instance_rate"]), _short(row["absent_fp_rate"])]
        cells.append("–" if row["seconds_per_image"] is None else f"{row['seconds_per_image']:.2g}")
        lines.append("| " + " | ".join(cells) + " |")
    alike = [row for row in by_kind["look-alike"].values() if row["gain_over_noun"] is not None]
    for row in alike:
        gain = _signed(row["gain_over_noun"], row["gain_over_noun_ci"])
        lines += ["", f"What {row['concept']} adds over the noun alone, paired, on look-alikes: **{gain}**."]
    lines += _missing(records_of(everything), by_kind)
    return "\n".join(lines) + "\n"


def learners(runs: Sequence[Run]) -> str:
    """The table that compares what concepts are worth, and who is ahead where.

    One method's runs; ratios are shares of queries (wrong instance, absent FP) or of a mask (on look-alikes, on
    background).  Raises DataError as ``rows``, and without runs of a method with concepts.
    """
    chosen = [run for run in runs if run.concept != "none"]
    if len({run.method for run in chosen}) != 1:
        raise DataError("a table of learners is of one method with concepts; evaluate attn with several --concept")
    every = ("present", "plain", "other-category", "look-alike", "relation")
    asked = {query.query_type for run in chosen for query in run.queries}
    subsets = tuple(each for each in every if each == "present" or each in asked)
    by_subset = {subset: {_which(row): row for row in records_of(rows(chosen, subset))} for subset in subsets}
    everything = records_of(rows(chosen))
    first = everything[0]
    data = chosen[0].dataset
    heads = ["concept", *("all present" if subset == "present" else subset for subset in subsets), "wrong instance"]
    heads += ["on look-alikes", "on background", "absent FP", "presence AUC", "SD of seeds", "s to learn", "KB"]
    lines = [
        f"{data.name.capitalize()} v{data.version.removeprefix('v')}, {first['n_subjects']} {data.split} subjects, "
        f"{first['n']} queries of each seed; {promise(everything)}; of the rest, but for presence AUC, less is better:",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---|" * (len(heads) - 1),
    ]
    for row in sorted(everything, key=lambda row: -(by_subset["present"][_which(row)]["iou_mean"] or 0.0)):
        ious = [by_subset[subset][_which(row)] for subset in subsets]
        cells = [named(row), *(_short(each["iou_mean"], each["iou_mean_ci"]) for each in ious)]
        cells += [_short(row["wrong_instance_rate"], row["wrong_instance_rate_ci"])]
        cells += [_short(row["on_look_alikes"]), _short(row["on_background"])]
        cells += [_short(row["absent_fp_rate"]), _short(row["presence_auc"])]
        cells.append("–" if row["iou_mean_seed_sd"] is None else f"{row['iou_mean_seed_sd']:.3f}")
        cells.append("–" if row["learn_seconds"] is None else f"{row['learn_seconds']:.0f}")
        cells.append("–" if row["concept_bytes"] is None else f"{row['concept_bytes'] / 1e3:,.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Paired differences in mIoU, to the noun alone and to the concept that is ahead:", ""]
    lines += _ahead(chosen, subsets)
    lines += _missing(everything, by_subset)
    return "\n".join(lines) + "\n"


def _ahead(runs: Sequence[Run], subsets: Sequence[str]) -> list[str]:
    """Who is ahead in each subset, by how much, and what each concept adds to the noun."""

    def gap(first: Sample, second: Sample) -> str:
        found = paired_difference(first, second)
        return _signed(found.value, found.interval)

    concepts = list(dict.fromkeys(run.concept for run in runs))
    lines = []
    for subset in subsets:
        samples = {
            concept: _sample(METRICS["iou_mean"], _asked([run for run in runs if run.concept == concept], subset))
            for concept in concepts
        }
        order = sorted((concept for concept in concepts if samples[concept].value is not None),
                       key=lambda concept: -(samples[concept].value or 0.0))  # fmt: skip
        if not order:
            continue
        best, parts = order[0], []
        for concept in order:
            words = [] if concept == best else [f"{gap(samples[concept], samples[best])} to the first"]
            if "noun-only" in samples and concept not in UNLEARNED:
                words.append(f"{gap(samples[concept], samples['noun-only'])} over the noun")
            parts.append(concept + (f" ({', '.join(words)})" if words else ""))
        title = "all present" if subset == "present" else subset
        lines.append(f"- {title}: " + "; ".join(parts) + ".")
    return lines


def _missing(everything: Sequence[dict[str, Any]], tables: Mapping[str, Mapping[Any, dict[str, Any]]]) -> list[str]:
    """Why parts of a page's table have no interval, where others have; the heading says it of all."""
    if most_subjects(everything, ["iou_mean"]) < FEWEST_SUBJECTS:
        return []
    found = [note for part, rows in tables.items() for note in missing([*rows.values()], ["iou_mean"], f"({part})")]
    return ["", *(f"- {note}" for note in found)] if found else []


def _which(row: dict[str, Any]) -> tuple[str, str]:
    return row["method"], row["concept"]


def _short(value: float | None, ci: Sequence[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + (f" [{ci[0]:.2f}, {ci[1]:.2f}]" if ci else "")


def _signed(value: float | None, ci: Sequence[float] | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" + (f" [{ci[0]:+.2f}, {ci[1]:+.2f}]" if ci else "")


PAGES: Mapping[str, tuple[str, Callable[[Sequence[Run]], str]]] = {
    "README.md": ("table", summary),
    "docs/learners.md": ("learners", learners),
}
"""Files beside the folder of leaderboards that may hold a table: the word of its marks, and what makes it."""


def _marks(word: str, runs: Sequence[Run]) -> tuple[str, str]:
    """What a page's table stands between."""
    return f"<!-- {word} {board_name(runs[0].dataset)} -->\n", f"<!-- /{word} -->"


def board_name(data: DatasetRef) -> str:
    """What a dataset's leaderboard is called: ``tabletop-v2``, or ``tabletop-v2-validation`` for another split."""
    return f"{data.name}-v{data.version.removeprefix('v')}" + ("" if data.split == "test" else f"-{data.split}")


class _Place(NamedTuple):
    """A dataset's table in a page: what stands before it, the table as it is and as it should be, what follows."""

    path: Path
    head: str
    found: str
    made: str
    rest: str


def _places(root: Path, runs: Sequence[Run]) -> Iterator[_Place]:
    for name, (word, make) in PAGES.items():
        path, (start, end) = root / name, _marks(word, runs)
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        head, mark, tail = text.partition(start)
        if mark:
            found, _, rest = tail.partition(end)
            yield _Place(path, head + start, found, make(runs), end + rest)


def check_pages(root: Path, runs: Sequence[Run]) -> list[str]:
    """How the dataset's tables in PAGES differ from what the runs say, as lines of a diff; empty when they do not, or
    when no page has a table of this dataset.
    """
    changes: list[str] = []
    for each in _places(root, runs):
        names = (str(each.path), f"{each.path} (made again)")
        changes += difflib.unified_diff(each.found.splitlines(), each.made.splitlines(), *names, n=0, lineterm="")
    return changes


def write_pages(root: Path, runs: Sequence[Run]) -> list[Path]:
    """Put the tables where PAGES have the dataset's; pages without one stay as they are."""
    return [write_text(each.path, each.head + each.made + each.rest) for each in _places(root, runs)]


def _key(run: Run) -> str:
    return f"{run.method} / {run.concept}"


def _check_comparable(runs: Sequence[Run], where: Sequence[str]) -> None:
    seen: dict[tuple[str, int], str] = {}
    first: dict[str, tuple[Run, str]] = {}
    for run, name in zip(runs, where, strict=True):
        if run.metric_spec != METRIC_SPEC:
            raise DataError(
                f"{name}: scored by metric spec {run.metric_spec}, this table is of {METRIC_SPEC}; "
                "score its predictions again with `prisbench evaluate`"
            )
        check_dataset(run, runs[0].dataset, name)
        key = _key(run)
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


def _asked(runs: Sequence[Run], subset: str | None) -> list[QueryResult]:
    return [query for run in runs for query in run.queries if _within(query, subset)]


def _within(query: QueryResult, subset: str | None) -> bool:
    return subset in (None, query.query_type) or (subset == "present" and query.query_type not in REFERENTLESS)


def _sample(metric: Metric, queries: Sequence[QueryResult]) -> Sample:
    """A metric's terms, those of a query's answers from several seeds added up."""
    subjects: dict[str, str] = {}
    above: dict[str, float] = {}
    below: dict[str, float] = {}
    for query in queries:
        term = metric.terms(query.counts) if metric.scope(query.counts) else None
        if term is not None:
            subjects[query.query_id] = query.subject_id
            above[query.query_id] = above.get(query.query_id, 0.0) + term[0]
            below[query.query_id] = below.get(query.query_id, 0.0) + term[1]
    return Sample(
        query_ids=tuple(subjects),
        subject_ids=tuple(subjects.values()),
        numerator=np.array(list(above.values()), dtype=np.float64),
        denominator=np.array(list(below.values()), dtype=np.float64),
    )


def _outside(run: Run) -> float | None:
    """The share of a run's scenes that are outside of what its model was trained on."""
    if run.out_of_domain is None:
        return None
    return run.out_of_domain / max(1, len({query.image_id for query in run.queries}))


def _row(group: Sequence[Run], subset: str | None, tier: int | None, ranked: dict[str, Sample]) -> dict[str, Any]:
    run, queries, seeds = group[0], _asked(group, subset), sorted(run.seed for run in group)
    means = summarise(query.counts for query in queries)
    by_seed = [_sample(METRICS["iou_mean"], _asked([run], subset)).value for run in group]
    known = [value for value in by_seed if value is not None]
    row: dict[str, Any] = {
        "method": run.method,
        "concept": run.concept,
        "seeds": seeds,
        "tier": tier,
        "n": len({query.query_id for query in queries}),
        "n_subjects": len({query.subject_id for query in queries}),
        "n_errors": sum(query.error is not None for query in queries),
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
        row |= {"presence_auc": curve.auc, "presence_auc_ci": None if curve.interval is None else list(curve.interval)}
        row["presence_auc_n_subjects"] = curve.n_subjects
    for name, mean in means.items():
        row |= {name: mean.value, f"{name}_n": mean.n, f"{name}_n_undefined": mean.n_undefined}
    for name in WITH_INTERVAL:
        sample = _sample(METRICS[name], queries)
        found = interval(sample)
        row |= {f"{name}_ci": None if found is None else list(found), f"{name}_n_subjects": sample.n_subjects}
    ours, control = ranked.get(_key(run)), ranked.get(f"{run.method} / noun-only")
    if ours is not None and control is not None and run.concept not in UNLEARNED:
        gain = paired_difference(ours, control)
        row |= {"gain_over_noun": gain.value, "gain_over_noun_n_subjects": ours.n_subjects}
        row["gain_over_noun_ci"] = None if gain.interval is None else list(gain.interval)
    return row


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def presence_roc(queries: Sequence[QueryResult]) -> Roc | None:
    """How well beliefs tell present queries from absent ones; queries without a belief are left out."""
    sure = [query for query in queries if query.presence is not None]
    return roc(
        np.array([query.presence for query in sure], dtype=np.float64),
        np.array([query.query_type not in REFERENTLESS for query in sure], dtype=bool),
        [query.subject_id for query in sure],
    )


def _json(frame: pd.DataFrame) -> str:
    return json.dumps(records_of(frame), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def records_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain dicts, in order."""
    return cast(list[dict[str, Any]], frame.to_dict(orient="records"))


def _csv(frame: pd.DataFrame) -> str:
    """An interval becomes two columns, ``*_low`` and ``*_high``."""
    flat = frame.copy()
    for column in [name for name in flat.columns if name.endswith("_ci")]:
        at = flat.columns.get_loc(column)
        pairs = flat.pop(column)
        for offset, end in enumerate(("low", "high")):
            values = pd.Series([None if pair is None else pair[offset] for pair in pairs], flat.index, dtype=object)
            flat.insert(at + offset, column.removesuffix("_ci") + f"_{end}", values)
    return cast(str, flat.to_csv(index=False, lineterminator="\n"))


def cell(value: float | None, ci: Sequence[float] | None = None) -> str:
    """A score to read: ``0.652 [0.61, 0.69]``, or a dash when undefined."""
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" [{ci[0]:.2f}, {ci[1]:.2f}]" if ci else "")


def _markdown(frame: pd.DataFrame) -> str:
    heads = ["tier", "method", "concept", "n", *(metric.label for metric in METRICS.values()), "s / image"]
    lines = ["| " + " | ".join(heads) + " |", "| ---: | :--- | :--- |" + " ---: |" * (len(heads) - 3)]
    for row in records_of(frame):
        seconds = row["seconds_per_image"]
        cells = [
            "–" if row["tier"] is None else str(row["tier"]),
            *(name.replace("|", "\\|") for name in (row["method"], named(row))),
            str(row["n"]),
            *(cell(row[name], row.get(f"{name}_ci")) for name in METRICS),
            "–" if seconds is None else f"{seconds:.3g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes_below = notes(frame)
    return "\n".join([*lines, "", *(f"- {note}" for note in notes_below)]) + "\n"


def named(row: Mapping[str, Any]) -> str:
    """A row's concept to read, with the number of its seeds where they are several."""
    return row["concept"] + (f" ({len(row['seeds'])} seeds)" if len(row["seeds"]) > 1 else "")


def notes(frame: pd.DataFrame) -> list[str]:
    """What a reader of the table must know: gains, what is ranked, what is missing."""
    records = records_of(frame)
    out = []
    for row in records:
        if row["gain_over_noun"] is not None:
            gain = _signed(row["gain_over_noun"], row["gain_over_noun_ci"], 3)
            out.append(f"{row['method']}: {row['concept']} over noun-only, paired: mIoU {gain}.")
    for row in records:
        if row["presence_auc"] is not None:
            out.append(
                f"{row['method']} / {row['concept']}: its belief tells present from absent with an area under the ROC "
                f"of {cell(row['presence_auc'], row['presence_auc_ci'])}."
            )
    out += interval_notes(records)
    for row in records:
        if row["iou_mean_seed_sd"] is not None:
            spread = f"mIoU has a standard deviation of {row['iou_mean_seed_sd']:.3f} over seeds"
            out.append(f"{row['method']} / {row['concept']}: {spread}.")
    complete = max((row["n"] for row in records), default=0)
    for row in records:
        name = f"{row['method']} / {row['concept']}"
        ranked = row["tier"] is not None or row["iou_mean"] is None
        if not ranked and (row["n"] < complete or row["iou_mean_n_subjects"] >= FEWEST_SUBJECTS):
            out.append(f"{name} answers {row['n']} queries of at least {complete}: shown, not ranked.")
        if (row["out_of_domain"] or 0) > TOLERATED:
            out.append(
                f"{name}: {row['out_of_domain']:.0%} of the scenes are unlike anything its backbone was trained on; "
                "its masks there are meaningless."
            )
        if row["n_errors"]:
            out.append(f"{name} failed on {row['n_errors']} queries; they count as empty masks.")
        if row["pointing_n"] and row["pointing_n_undefined"]:
            out.append(f"{name} names no pixel in {row['pointing_n_undefined']} queries; pointing leaves them out.")
    return out
