"""What ``prisbench uncertainty`` says of a leaderboard: numbers with intervals, tiers, ranks, shares, who is ahead.

Knows: which numbers are shown, and in which words.  Does not know: how they come about, the command line.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from prisbench.errors import DataError
from prisbench.leaderboard.render import short, signed
from prisbench.leaderboard.rows import board_name
from prisbench.results import Run
from prisbench.statistics import DRAWS, Interval, no_interval, percentiles
from prisbench.uncertainty.answers import Answers, Entry, answers_of
from prisbench.uncertainty.draws import LEVELS, OVER_SUBJECTS, drawn
from prisbench.uncertainty.ranking import Ranked, ranked, win_probabilities
from prisbench.uncertainty.shares import SOURCES, Shares, shares_of
from prisbench.uncertainty.spread import Spread, interval_of, spread_of


@dataclass(frozen=True, eq=False)
class Analysis:
    """All of it, one of each for every entry of ``answers``.

    ``intervals``: over new subjects and seeds (``spread.interval_of``).  ``drawn_intervals``: percentiles of the
    hierarchical bootstrap of ``levels``.  ``ahead``: how often the row's method is ahead of the column's in draws of
    subjects and seeds.
    """

    board: str
    subset: str | None
    answers: Answers
    levels: tuple[str, ...]
    draws: int
    spreads: tuple[Spread, ...]
    intervals: tuple[Interval | None, ...]
    drawn_intervals: tuple[Interval | None, ...]
    shares: tuple[Shares | None, ...]
    ranked: Ranked
    ahead: Float[np.ndarray, "entries entries"]

    @property
    def label(self) -> str:
        return self.answers.measure.replace("_", " ").replace("iou mean", "mean IoU")


def analyse(
    runs: Sequence[Run],
    measure: str | None = None,
    subset: str | None = None,
    levels: Collection[str] = LEVELS,
    draws: int = DRAWS,
) -> Analysis:
    """The analysis of a leaderboard's runs; methods that leave queries out are named and left out.

    Raises DataError as ``answers_of`` and without runs, UnknownNameError for an unknown measure, subset or level.
    """
    if not runs:
        raise DataError("a leaderboard needs at least one run")
    answers = answers_of(runs, measure, subset)
    units = answers.units
    spreads = tuple(spread_of(answers, entry) for entry in answers.entries)
    values = drawn(answers, levels, draws)
    names = [entry.name for entry in answers.entries]
    return Analysis(
        board_name(runs[0].dataset),
        subset,
        answers,
        tuple(level for level in LEVELS if level in levels),
        draws,
        spreads,
        tuple(interval_of(spread, units) for spread in spreads),
        tuple(percentiles(values[:, place], units) for place in range(len(spreads))),
        tuple(shares_of(answers, entry) for entry in answers.entries),
        ranked(spreads, names, units, answers.higher_is_better),
        win_probabilities(drawn(answers, OVER_SUBJECTS, draws), answers.higher_is_better),
    )


def markdown(found: Analysis) -> str:
    """The analysis to read: who is ahead, where variance comes from, how often each is ahead of each."""
    answers, whole = found.answers, f"{found.board}, {found.subset} queries" if found.subset else found.board
    subjects = len(np.unique(answers.subject))
    parts = [
        f"# How sure the order of {whole} is",
        f"By {found.label}, {subjects} subjects, {len(np.unique(answers.image))} images, {len(answers.subject)} "
        "queries. Made by `prisbench uncertainty` from the result files; what it means and how it was checked: "
        "`docs/metrics.md`.",
        "## Who is ahead",
        _order_table(found),
        "\n".join(f"- {note}" for note in _notes(found)),
        "## Where the variance of an answer comes from",
        _shares_table(found),
        "\n".join(f"- {note}" for note in _shares_notes(found)),
    ]
    if len(answers.entries) > 1:
        parts += ["## How often each is ahead", _wins_table(found), f"- {_wins_note(found)}"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _order_table(found: Analysis) -> str:
    heads = ["tier", "ranks", "method", "concept", found.label, "drawn again", "behind the first", "p, Holm"]
    lines = [_line(heads), "| ---: | ---: | :--- | :--- |" + " ---: |" * (len(heads) - 4)]
    first, ranking = found.ranked.order[0], found.ranked
    for place in ranking.order:
        gap, p = ranking.gaps.get((first, place)), ranking.adjusted.get((first, place))
        ranks = None if ranking.ranks is None else ranking.ranks[place]
        cells = [
            "–" if ranking.tiers is None else str(ranking.tiers[place]),
            "–" if ranks is None else f"{ranks[0]} to {ranks[1]}" if ranks[0] < ranks[1] else str(ranks[0]),
            *_named(found.answers.entries[place]),
            short(found.spreads[place].value, found.intervals[place]),
            _ends(found.drawn_intervals[place]),
            "–" if gap is None else signed(gap.value, gap.interval),
            "–" if p is None else _p(p),
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def _notes(found: Analysis) -> list[str]:
    units, entries = found.answers.units, found.answers.entries
    left = [f"Left out, since they do not answer every query: {', '.join(found.answers.left_out)}."]
    if found.ranked.tiers is None:
        return [f"No intervals, tiers and ranks: {no_interval(units)}.", *(left if found.answers.left_out else [])]
    notes = [
        "[low, high] of a number and of a difference: 95 %, over new subjects and learner seeds. Differences are "
        "paired: of the same queries.",
        _draws_note(found),
        "A method is in a tier when the tier's best is not ahead of it after Holm's correction for every two methods "
        "(p below 0.05). Ranks are those that no corrected difference excludes.",
    ]
    if len(entries) > 1:
        notes.append(first_two(found))
    return notes + (left if found.answers.left_out else [])


def _draws_note(found: Analysis) -> str:
    """What the draws of the bootstrap are of, and how to read their interval."""
    names = [{"query": "queries"}.get(level, f"{level}s") for level in found.levels]
    note = f"Drawn again: percentiles of {found.draws:,} draws of {_listed(names)}."
    if {"image", "query"} & {*found.levels} and "subject" in found.levels:
        return f"{note} They are wider, since what varies within a subject is in it and is drawn once more."
    return note if "subject" in found.levels else f"{note} They say nothing of other subjects."


def first_two(found: Analysis) -> str:
    """How many subjects would separate the first two methods, in words."""
    a, b = found.ranked.order[:2]
    gap = found.ranked.gaps[a, b]
    names = f"{found.answers.entries[a].name} and {found.answers.entries[b].name}"
    if gap.p is None:
        return f"The first two, {names}: {no_interval(found.answers.units)}."
    said = f"The first two, {names}, differ by {signed(gap.value, gap.interval, 3)} (p {_p(gap.p)} without correction)"
    if gap.needed is None:
        return f"{said}; no number of subjects alone would separate them if that were the true difference."
    return (
        f"{said}; if that is the true difference, {gap.needed:,} subjects such as these would show it in four of five "
        "samples."
    )


def _shares_table(found: Analysis) -> str:
    lines = [_line(["method", "concept", "seeds", *SOURCES]), "| :--- | :--- |" + " ---: |" * (1 + len(SOURCES))]
    for place in found.ranked.order:
        entry, shares = found.answers.entries[place], found.shares[place]
        parts = [None if shares is None else shares.shares[source] for source in SOURCES]
        cells = ["–" if part is None else f"{part:.0%}" for part in parts]
        lines.append(_line([*_named(entry), str(len(entry.columns)), *cells]))
    return "\n".join(lines)


def _shares_notes(found: Analysis) -> list[str]:
    """What the shares are of, and for whom a dash stands."""
    notes = ["Shares of the variance of one answer about the mean of its subset."]
    whose: dict[tuple[str, str], list[str]] = {}
    for entry, shares in zip(found.answers.entries, found.shares, strict=True):
        for source, why in ({} if shares is None else shares.why).items():
            whose.setdefault((source, why), []).append(entry.name)
    known = sum(shares is not None for shares in found.shares)
    for (source, why), names in whose.items():
        who = "" if len(names) == known else f" of {_listed(names)}"
        notes.append(f"No {source}{who}: {why}.")
    nothing = [e.name for e, shares in zip(found.answers.entries, found.shares, strict=True) if shares is None]
    if nothing:
        notes.append(f"No shares of {_listed(nothing)}: nothing varies, or the number is no mean of answers.")
    return notes


def _wins_table(found: Analysis) -> str:
    order = found.ranked.order
    heads = ["", "method", "concept", *(str(n) for n in range(1, len(order) + 1))]
    lines = [_line(heads), "| ---: | :--- | :--- |" + " ---: |" * len(order)]
    for number, row in enumerate(order, 1):
        cells = ["" if row == column else f"{found.ahead[row, column]:.2f}" for column in order]
        lines.append(_line([str(number), *_named(found.answers.entries[row]), *cells]))
    return "\n".join(lines)


def _wins_note(found: Analysis) -> str:
    return (
        f"The share of {found.draws:,} draws of subjects and seeds, the same for all methods, in which the "
        "method of the row is ahead of that of the column; ties count half."
    )


def record(found: Analysis) -> dict[str, Any]:
    """The same for programs: undefined is null."""
    answers, ranking = found.answers, found.ranked
    methods = []
    for place in ranking.order:
        entry, shares = answers.entries[place], found.shares[place]
        methods.append(
            {
                "method": entry.method,
                "concept": entry.concept,
                "seeds": [each._asdict() for each in entry.seeds],
                "value": found.spreads[place].value,
                "interval": _list(found.intervals[place]),
                "interval_drawn": _list(found.drawn_intervals[place]),
                "tier": None if ranking.tiers is None else ranking.tiers[place],
                "ranks": None if ranking.ranks is None else list(ranking.ranks[place]),
                "variance": None if shares is None else shares.variance,
                "shares": {source: None if shares is None else shares.shares[source] for source in SOURCES},
                "shares_why": {} if shares is None else shares.why,
            }
        )
    pairs = [
        {
            "first": answers.entries[a].name,
            "second": answers.entries[b].name,
            "difference": gap.value,
            "interval": _list(gap.interval),
            "p": gap.p,
            "p_holm": ranking.adjusted.get((a, b)),
            "first_ahead": float(found.ahead[a, b]),
            "subjects_needed": gap.needed,
        }
        for (a, b), gap in ranking.gaps.items()
    ]
    return {
        "leaderboard": found.board,
        "subset": found.subset,
        "measure": answers.measure,
        "n_subjects": answers.units,
        "n_queries": len(answers.subject),
        "levels": list(found.levels),
        "draws": found.draws,
        "left_out": list(answers.left_out),
        "methods": methods,
        "pairs": pairs,
    }


def as_json(found: Analysis) -> str:
    return json.dumps(record(found), allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def _named(entry: Entry) -> list[str]:
    return [name.replace("|", "\\|") for name in (entry.method, entry.concept)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _ends(interval: Interval | None) -> str:
    return "–" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def _list(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
