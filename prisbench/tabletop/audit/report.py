"""Shortcuts of Tabletop: what could give a subject away without knowing it, measured by trivial predictors.

Three questions.  Each predictor looks at one thing, or at all of them together, and never at the reference photos:

- *which* of the things in the scene is it?  Accuracy among the things' true masks.
- is it *there*?  Area under the ROC curve.
- *where* is it?  mIoU of a mask that ignores who is asked for.

Directions ("most" or "least"), weights and thresholds are fitted on validation, scores are of test, intervals over
subjects.

Knows: the three questions, tables for people.  Does not know: files, methods, models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import NormalDist

from prisbench.statistics import FEWEST_SUBJECTS, LEVEL
from prisbench.tabletop.ahead import all_drawn
from prisbench.tabletop.audit.rows import Row
from prisbench.tabletop.audit.there import there
from prisbench.tabletop.audit.views import facts
from prisbench.tabletop.audit.where import where
from prisbench.tabletop.audit.which import which
from prisbench.tabletop.queries import Group, plan
from prisbench.tabletop.subjects import SEED, subjects


def benchmark() -> Iterator[Group]:
    """All groups of the benchmark: a few minutes of a free core, shared among those that are there."""
    return all_drawn([(subject, kind, index, SEED) for subject in subjects() for kind, index in plan()])


def measure(asked: Iterable[Group]) -> list[Row]:
    """Every predictor on every question.  ``asked`` must hold both splits, absent queries and scenes of several things.

    Scenes are taken one at a time; what is kept of one is its masks and some numbers.
    """
    found = list(facts(asked))
    fit, test = ([q for q in found if q.split == split] for split in ("validation", "test"))
    return [*which(fit, test), *there(fit, test), *where(fit, test)]


def flaws(rows: Iterable[Row]) -> list[Row]:
    """The rows that a method could gain by without doing the task: above chance, needing neither noun nor relation.

    Intervals are widened for the number of rows (Bonferroni, as if gains were normal), so that of rows that say
    nothing not one in twenty audits has any here; one such row in forty is above chance at its own level.
    """
    counted = [row for row in rows if row.gain is not None and row.needs not in ("noun", "relation")]
    if not counted:
        return []
    wide = NormalDist().inv_cdf(1 - (1 - LEVEL) / len(counted)) / NormalDist().inv_cdf((1 + LEVEL) / 2)
    return [row for row in counted if row.above_chance and _gain(row) > wide * (_gain(row) - row.gain[0])]  # type: ignore[index]


def _gain(row: Row) -> float:
    assert row.chance is not None
    return row.value - row.chance


def markdown(rows: Sequence[Row]) -> str:
    """Three tables, one a question.  Bold: above chance, the whole interval."""
    which, there, where = (
        [row for row in rows if row.question == question] for question in ("which", "there", "where")
    )
    chances = {row.scope: row.chance for row in which}
    parts = [
        '### Which of the things is it?\n\nAccuracy among the things\' true masks; for "referred", among the copies.',
        _table(which, ["chance", "", *(f"{chances[scope]:.2f}" for scope in _scopes(which))]),
        "### Is it there?\n\nArea under the ROC curve; chance is 0.50.",
        _table(there),
        "### Where is it?\n\nmIoU.",
        _table(where),
    ]
    if any(row.interval is None for row in rows):
        parts.append(f"Rows without an interval are of fewer than {FEWEST_SUBJECTS} subjects and never in bold.")
    return "\n\n".join(parts) + "\n"


def _scopes(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.scope for row in rows))


def _table(rows: Sequence[Row], first: Sequence[str] = ()) -> str:
    scopes = _scopes(rows)
    sizes = {row.scope: row.n for row in rows}
    lines = [["predictor", "needs", *(f"{scope} ({sizes[scope]})" for scope in scopes)], ["---"] * (2 + len(scopes))]
    lines += [list(first)] if first else []
    for predictor, needs in dict.fromkeys((_name(row), row.needs) for row in rows):
        found = {row.scope: row for row in rows if (_name(row), row.needs) == (predictor, needs)}
        lines.append([predictor, needs, *(_cell(found[scope]) if scope in found else "" for scope in scopes)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _name(row: Row) -> str:
    """Of its line: the direction of "there" differs between scopes and stands in the cell."""
    return row.predictor.rpartition(": ")[0] or row.predictor if row.question == "there" else row.predictor


def _cell(row: Row) -> str:
    word = row.predictor.rpartition(": ")[2] + " " if row.question == "there" and ": " in row.predictor else ""
    text = f"{row.value + 0.0:.2f}" + (f" [{row.interval[0]:.2f}, {row.interval[1]:.2f}]" if row.interval else "")
    return f"{word}**{text}**" if row.above_chance else word + text
