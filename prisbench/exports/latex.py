"""A table of runs in LaTeX, with the rules of booktabs; what stands in the best tier is bold.

Knows: LaTeX's special characters.  Does not know: how rows are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prisbench.errors import DataError
from prisbench.exports.numbers import dataset_name
from prisbench.leaderboard.render import named
from prisbench.leaderboard.rows import board_name, records_of, rows
from prisbench.leaderboard.strength import weak_note
from prisbench.results import Run
from prisbench.statistics import FEWEST_SUBJECTS, no_interval

COLUMNS = (
    ("headline", "headline", True),
    ("iou_mean", "mIoU", True),
    ("p_at_50", "P@0.5", True),
    ("wrong_instance_rate", "wrong inst.", False),
    ("absent_fp_rate", "absent FP", False),
)
"""A row's number, its head, and whether higher is better."""

ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def escaped(text: str) -> str:
    """A text as LaTeX prints it, in one line."""
    return "".join(ESCAPES.get(sign, sign) for sign in " ".join(text.split()))


def table(runs: Sequence[Run]) -> str:
    """A ``table`` with a caption and a label; it wants ``\\usepackage{booktabs}``.

    Raises DataError as ``rows``, and where no run stands.
    """
    records = records_of(rows(runs))
    if not records:
        raise DataError("no run stands here, so there is no table to export")
    columns = [each for each in COLUMNS if any(row.get(each[0]) is not None for row in records)]
    heads = ["tier", "method", "concept", *(f"{head} {_arrow(up)}" for _, head, up in columns)]
    data = runs[0].dataset
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_caption(runs, records)}}}",
        f"  \\label{{tab:{board_name(data)}}}".replace("_", "-"),
        f"  \\begin{{tabular}}{{rll{'r' * len(columns)}}}",
        "    \\toprule",
        f"    {' & '.join(heads)} \\\\",
        "    \\midrule",
    ]
    for row in records:
        best = row["tier"] == 1
        cells = ["--" if row["tier"] is None else str(row["tier"]), escaped(row["method"]), escaped(named(row))]
        cells += [_cell(row.get(name), row.get(f"{name}_ci")) for name, _, _ in columns]
        lines.append(f"    {' & '.join(_bold(cell) if best else cell for cell in cells)} \\\\")
    return "\n".join([*lines, "    \\bottomrule", "  \\end{tabular}", "\\end{table}"]) + "\n"


def _caption(runs: Sequence[Run], records: Sequence[dict[str, Any]]) -> str:
    most = max(row["iou_mean_n_subjects"] for row in records)
    intervals = " Brackets: 95\\,\\% intervals over subjects."
    if most < FEWEST_SUBJECTS:
        intervals = f" Not ranked, and no intervals: {escaped(no_interval(most))}."
    bold = " Bold: the best tier, whose members the data do not tell apart." if records[0]["tier"] == 1 else ""
    weak = "".join(f" {escaped(weak_note(row['method'], row))}" for row in records if row.get("weak"))
    name = escaped(dataset_name(runs[0]))
    n, subjects = records[0]["n"], records[0]["n_subjects"]
    return f"{name}: {n} queries about {subjects} subjects.{intervals}{bold}{weak}"


def _arrow(up: bool) -> str:
    return "$\\uparrow$" if up else "$\\downarrow$"


def _cell(value: float | None, ci: Sequence[float] | None) -> str:
    if value is None:
        return "--"
    return f"{value:.3f}" + (f" [{ci[0]:.2f}, {ci[1]:.2f}]" if ci else "")


def _bold(cell: str) -> str:
    return f"\\textbf{{{cell}}}"
