"""Rows -> Markdown, CSV and JSON.

Knows: how numbers are printed, and what a reader of a table must know.  Does not know: how rows are made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from prisbench.errors import UnknownNameError
from prisbench.leaderboard.intervals import interval_notes, marked, name_of
from prisbench.leaderboard.rows import records_of, shown_columns
from prisbench.leaderboard.strength import weak_note
from prisbench.out_of_domain import TOLERATED
from prisbench.results import REFERENCES
from prisbench.statistics import FEWEST_SUBJECTS

FORMATS = ("md", "csv", "json")


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


def _markdown(frame: pd.DataFrame) -> str:
    columns = shown_columns(frame)
    heads = ["tier", "method", "concept", "n", *(column.label for column in columns), "s / image"]
    lines = ["| " + " | ".join(heads) + " |", "| ---: | :--- | :--- |" + " ---: |" * (len(heads) - 3)]
    for row in records_of(frame):
        seconds = row["seconds_per_image"]
        cells = [
            "–" if row["tier"] is None else str(row["tier"]),
            *(name.replace("|", "\\|") for name in (row["method"], named(row))),
            str(row["n"]),
            *(cell(row[column.name], row.get(f"{column.name}_ci")) for column in columns),
            "–" if seconds is None else f"{seconds:.3g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes_below = notes(frame)
    return "\n".join([*lines, "", *(f"- {note}" for note in notes_below)]) + "\n"


def notes(frame: pd.DataFrame) -> list[str]:
    """What a reader of the table must know: gains, what is ranked, what is missing."""
    records = records_of(frame)
    out = []
    for row in records:
        if row["gain_over_noun"] is not None:
            gain = signed(row["gain_over_noun"], row["gain_over_noun_ci"], 3)
            out.append(f"{name_of(row).replace(' /', ':')} over noun-only, paired: mIoU {gain}.")
    for row in records:
        if row["presence_auc"] is not None:
            out.append(
                f"{name_of(row)}: its belief tells present from absent with an area under the ROC of "
                f"{cell(row['presence_auc'], row['presence_auc_ci'])}."
            )
    out += interval_notes(records)
    for row in records:
        if row["iou_mean_seed_sd"] is not None:
            spread = f"mIoU has a standard deviation of {row['iou_mean_seed_sd']:.3f} over seeds"
            out.append(f"{name_of(row)}: {spread}.")
    if any(row.get("reference") == REFERENCES[1] for row in records):
        out.append(f"Methods are given a subject's photos alone; rows marked ({REFERENCES[1]}) also its masks in them.")
    complete = max((row["n"] for row in records), default=0)
    for row in records:
        name = name_of(row)
        out += _unranked(name, row, complete)
        if row.get("tuned_budget") is not None:
            out.append(_tuned(name, row))
        if (row["out_of_domain"] or 0) > TOLERATED:
            out.append(
                f"{name}: {row['out_of_domain']:.0%} of the scenes are unlike anything its model was trained on; "
                "its masks there are meaningless."
            )
        if row["n_errors"]:
            counted = "as wrong" if "reference" in row else "as empty masks"
            out.append(f"{name} failed on {row['n_errors']} queries; they count {counted}.")
        if row.get("pair_accuracy") is not None:
            missing = f", {row['pair_accuracy_n_undefined']} more lack a member" * bool(
                row["pair_accuracy_n_undefined"]
            )
            out.append(
                f"{name}: {row['pair_accuracy_n']} pairs{missing}; answers drawn by lot would get "
                f"{row['pair_chance']:.2f} of them right, a method deaf to the text none."
            )
        if row.get("soft_ap") is not None:
            out.append(
                f"{name}: average precision of its soft maps {row['soft_ap']:.3f} over {row['soft_ap_n']} queries; "
                "most methods have none, so nothing is ranked by it, and masks alone cannot give it again."
            )
        if row["pointing_n"] and row["pointing_n_undefined"]:
            out.append(f"{name} names no pixel in {row['pointing_n_undefined']} queries; pointing leaves them out.")
    return out


def _unranked(name: str, row: Mapping[str, Any], complete: int) -> list[str]:
    """Why a row has no tier, where that is its own doing; ``complete``: queries that a whole run answers."""
    out = []
    ranked = row["tier"] is not None or row["iou_mean"] is None or row.get("headline") is not None
    known = row["iou_mean_n_subjects"] >= FEWEST_SUBJECTS and not row.get("weak")
    if not ranked and (row["n"] < complete or known):
        out.append(f"{name} answers {row['n']} queries of at least {complete}: shown, not ranked.")
    elif row.get("partial_run"):
        out.append(f"{name} is a part of its split: shown, not ranked.")
    return [*out, weak_note(name, row)] if row.get("weak") else out


def _tuned(name: str, row: Mapping[str, Any]) -> str:
    """How the settings of a row were chosen, and whether that gained anything where it was done."""
    measure = "headline" if row["tuned_metric"] == "headline" else "mIoU"
    low_high = row["tuned_gain_ci"]
    doubtful = row["tuned_settings"] != "as published" and (low_high is None or low_high[0] <= 0)
    return (
        f"{name}: {row['tuned_settings']}, the best of {row['tuned_budget']} settings on {row['tuned_queries']} "
        f"queries of validation, {measure} {row['tuned_score']:.3f} there; the published one has "
        f"{row['tuned_published']:.3f} ({signed(row['tuned_gain'], low_high, 3)}"
        + ("; not told apart there)." if doubtful else ").")
    )


def named(row: Mapping[str, Any]) -> str:
    """A row's concept to read, with the number of its seeds where they are several, and with what it saw of the photos
    where that is more than the photos.
    """
    return marked(row["concept"], row.get("reference")) + (
        f" ({len(row['seeds'])} seeds)" if len(row["seeds"]) > 1 else ""
    )


def cell(value: float | None, ci: Sequence[float] | None = None) -> str:
    """A score to read: ``0.652 [0.61, 0.69]``, or a dash when undefined."""
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" [{ci[0]:.2f}, {ci[1]:.2f}]" if ci else "")


def short(value: float | None, ci: Sequence[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" + (f" [{ci[0]:.2f}, {ci[1]:.2f}]" if ci else "")


def signed(value: float | None, ci: Sequence[float] | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    return f"{value:+.{digits}f}" + (f" [{ci[0]:+.2f}, {ci[1]:+.2f}]" if ci else "")


def _json(frame: pd.DataFrame) -> str:
    return json.dumps(records_of(frame), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _csv(frame: pd.DataFrame) -> str:
    """An interval becomes two columns, ``*_low`` and ``*_high``."""
    columns: dict[str, pd.Series] = {}
    for column in frame.columns:
        if not column.endswith("_ci"):
            columns[column] = frame[column]
            continue
        for offset, end in enumerate(("low", "high")):
            values = [None if pair is None else pair[offset] for pair in frame[column]]
            columns[f"{column.removesuffix('_ci')}_{end}"] = pd.Series(values, frame.index, dtype=object)
    flat = pd.DataFrame(columns, dtype=object)
    return cast(str, flat.to_csv(index=False, lineterminator="\n"))
