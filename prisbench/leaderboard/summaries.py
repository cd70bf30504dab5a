"""The short tables of a project's pages: the methods of a dataset, and what concepts are worth.

Knows: which numbers such a page shows, in words.  Does not know: where a table stands (``pages``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prisbench.errors import DataError
from prisbench.leaderboard.intervals import marked, missing, most_subjects, name_of, promise
from prisbench.leaderboard.render import named, short, signed
from prisbench.leaderboard.rows import queries_within, records_of, rows, sample_of, standing
from prisbench.leaderboard.strength import weak_note
from prisbench.metrics import METRICS
from prisbench.results import Run
from prisbench.statistics import FEWEST_SUBJECTS, Sample, paired_difference
from prisbench.types import QUERY_TYPES, REFERENTLESS, UNLEARNED

SHOWN = 8
"""Methods of each reference setting on a front page."""

SETTINGS = {"photos": "Given photos alone", "photos+masks": "Given photos and the masks in them"}
"""Reference setting -> the heading of its part of a front page."""


def summary(runs: Sequence[Run]) -> str:
    """A table of all rows: mIoU of each query type, wrong instances, absent FP, seconds.

    Raises DataError as ``rows``.
    """
    board = _board(runs)
    lines = [board.promise, "", *_table(board, board.order), *_gains(board, board.order)]
    for row in board.order:
        lines += ["", weak_note(name_of(row), row)] if row.get("weak") else []
    lines += _missing(board.order, board.by_kind)
    return "\n".join(lines) + "\n"


def front(runs: Sequence[Run]) -> str:
    """The table for a project's front page: of each reference setting the best row of each method, the first ``SHOWN``
    of them, and how many rows more there are.

    Raises DataError as ``rows``.
    """
    board = _board(runs)
    parts, shown = [board.promise], list[dict[str, Any]]()
    for setting, title in SETTINGS.items():
        best: dict[str, dict[str, Any]] = {}
        for row in board.order:
            if (row.get("reference") or "photos") == setting:
                best.setdefault(row["method"], row)
        if chosen := list(best.values())[:SHOWN]:
            parts.append("\n".join([f"**{title}**", "", *_table(board, chosen)]))
            shown += chosen
    if more := len(board.order) - len(shown):
        parts.append(
            f"The best row of each method is shown, {SHOWN} at most; {more} more rows, of other concepts, controls and "
            "floors, are in the full table."
        )
    parts += [line for line in _gains(board, shown) if line]
    parts += [weak_note(name_of(row), row) for row in shown if row.get("weak")]
    return "\n\n".join(parts) + "\n"


class _Board(NamedTuple):
    """What both tables are made of: ``order``, all rows, the best first; ``by_kind``: query type -> whose row -> it."""

    runs: Sequence[Run]
    promise: str
    order: list[dict[str, Any]]
    by_kind: Mapping[str, Mapping[Any, dict[str, Any]]]
    headed: bool


def _board(runs: Sequence[Run]) -> _Board:
    runs = standing(runs)
    if not runs:
        raise DataError("every row is retracted; there is nothing to show")
    data, order = runs[0].dataset, records_of(rows(runs))
    types = {query.query_type for run in runs for query in run.queries}
    kinds = [kind for kind in QUERY_TYPES if kind not in REFERENTLESS and (kind != "referred" or kind in types)]
    by_kind = {kind: {_which(row): row for row in records_of(rows(runs, kind))} for kind in ("present", *kinds)}
    told = (
        f"{data.id}, {order[0]['n_subjects']} {data.split} subjects, {order[0]['n']} queries; "
        f"{promise(order)}, wrong instance and absent FP as rates (less is better):"
    )
    headed = any(row.get("headline") is not None for row in order)
    if not headed:
        order.sort(key=lambda row: (bool(row.get("weak")), -(by_kind["present"][_which(row)]["iou_mean"] or 0.0)))
    return _Board(runs, told, order, by_kind, headed)


def _table(board: _Board, shown: Sequence[dict[str, Any]]) -> list[str]:
    kinds = [kind for kind in board.by_kind if kind != "present"]
    lines = [
        f"| method | concept |{' headline |' * board.headed} all present | {' | '.join(kinds)} | wrong instance "
        "| absent FP | s / image |",
        "|---|---|" + "---|" * (len(kinds) + 4 + board.headed),
    ]
    for row in shown:
        ious = [of[_which(row)] for of in board.by_kind.values()]
        method = f"{row['method']} (not ranked)" if row.get("weak") else row["method"]
        cells = [method, named(row), *([short(row["headline"], row["headline_ci"])] if board.headed else [])]
        cells += [short(each["iou_mean"], each["iou_mean_ci"]) for each in ious]
        cells += [short(row["wrong_instance_rate"]), short(row["absent_fp_rate"])]
        cells.append("–" if row["seconds_per_image"] is None else f"{row['seconds_per_image']:.2g}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _gains(board: _Board, shown: Sequence[dict[str, Any]]) -> list[str]:
    """What the shown concepts add to the noun, a line each, a blank one before it."""
    lines = []
    for row in board.by_kind["look-alike"].values():
        if row["gain_over_noun"] is not None and _which(row) in {_which(each) for each in shown}:
            who, gain = f"{named(row)} adds to {row['method']}", signed(row["gain_over_noun"], row["gain_over_noun_ci"])
            lines += ["", f"What {who} over the noun alone, paired, on look-alikes: **{gain}**."]
    return lines


def learners(runs: Sequence[Run]) -> str:
    """The table that compares what concepts are worth, and who is ahead where.

    A table for each method that has several concepts, below its name where there is more than one such method;
    ratios are shares of queries (wrong instance, absent FP) or of a mask (on look-alikes, on background).  Raises
    DataError as ``rows``, and where no method has several concepts.
    """
    of_method: dict[str, list[Run]] = {}
    for run in standing(runs):
        of_method.setdefault(run.method, []).append(run)
    several = {method: own for method, own in of_method.items() if len({run.concept for run in own}) > 1}
    if not several:
        raise DataError(
            "learners are compared within a method with several concepts; evaluate attn with several --concept"
        )
    if len(several) == 1:
        return _learners(*several.values())
    return "\n".join(f"**{method}**\n\n{_learners(own)}" for method, own in several.items())


def _learners(chosen: Sequence[Run]) -> str:
    """The table of one method."""
    every = ("present", "plain", "other-category", "look-alike", "relation", "referred")
    types = {query.query_type for run in chosen for query in run.queries}
    subsets = tuple(each for each in every if each == "present" or each in types)
    by_subset = {subset: {_which(row): row for row in records_of(rows(chosen, subset))} for subset in subsets}
    everything = records_of(rows(chosen))
    first = everything[0]
    data = chosen[0].dataset
    headed = any(row.get("headline") is not None for row in everything)
    heads = ["concept", *["headline"] * headed]
    heads += [*("all present" if subset == "present" else subset for subset in subsets), "wrong instance"]
    heads += ["on look-alikes", "on background", "absent FP", "presence AUC", "SD of seeds", "s to learn", "KB"]
    lines = [
        f"{data.id}, {first['n_subjects']} {data.split} subjects, "
        f"{first['n']} queries of each seed; {promise(everything)}; of the rest, but for presence AUC, less is better:",
        "",
        "| " + " | ".join(heads) + " |",
        "|---|" + "---|" * (len(heads) - 1),
    ]
    for row in sorted(everything, key=lambda row: -(by_subset["present"][_which(row)]["iou_mean"] or 0.0)):
        ious = [by_subset[subset][_which(row)] for subset in subsets]
        cells = [named(row), *([short(row["headline"], row["headline_ci"])] if headed else [])]
        cells += [short(each["iou_mean"], each["iou_mean_ci"]) for each in ious]
        cells += [short(row["wrong_instance_rate"], row["wrong_instance_rate_ci"])]
        cells += [short(row["on_look_alikes"]), short(row["on_background"])]
        cells += [short(row["absent_fp_rate"]), short(row["presence_auc"])]
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
        return signed(found.value, found.interval)

    by_concept: dict[str, list[Run]] = {}
    for run in runs:
        by_concept.setdefault(marked(run.concept, run.reference), []).append(run)
    lines = []
    for subset in subsets:
        samples = {
            concept: sample_of(METRICS["iou_mean"], queries_within(of_concept, subset))
            for concept, of_concept in by_concept.items()
        }
        order = sorted((concept for concept in by_concept if samples[concept].value is not None),
                       key=lambda concept: -(samples[concept].value or 0.0))  # fmt: skip
        if not order:
            continue
        best, parts = order[0], []
        for concept in order:
            words = [] if concept == best else [f"{gap(samples[concept], samples[best])} to the first"]
            if "noun-only" in samples and concept.partition(" (")[0] not in UNLEARNED:
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


def _which(row: dict[str, Any]) -> tuple[str, str, str | None]:
    """Whose row it is; one method and concept may have a row in each reference setting."""
    return row["method"], row["concept"], row.get("reference")
