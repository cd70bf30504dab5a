"""The charts: intervals by method, accuracy against time, scores by subset.

Knows: rows of a leaderboard, scores by subset.  Does not know: files, templates' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prisbench.figures.style import BAND, COLOURS, INK, MARKS, SOFT
from prisbench.leaderboard.intervals import name_of
from prisbench.statistics import Interval

LEAST_SECONDS = 1e-4
"""What took less is drawn there: a logarithm has no place for 0."""


class Point(NamedTuple):
    """A method's ranked number."""

    name: str
    tier: int | None
    value: float
    interval: Interval | None
    seconds: float | None


def points_of(records: Sequence[Mapping[str, Any]]) -> tuple[list[Point], str]:
    """The methods with a headline, else with mIoU, in the order of the rows; and what their number is called."""
    headed = any(row.get("headline") is not None for row in records)
    name, label = ("headline", "headline") if headed else ("iou_mean", "mIoU")
    known = [row for row in records if row.get(name) is not None]
    return [
        Point(
            name_of(row).removesuffix(" / none"),
            row["tier"],
            row[name],
            None if row[f"{name}_ci"] is None else (row[f"{name}_ci"][0], row[f"{name}_ci"][1]),
            row["seconds_per_image"],
        )
        for row in known
    ], label


def front(points: Sequence[Point]) -> list[Point]:
    """Those with a tier and a time that no other is both faster and better than, the fastest first."""
    timed = sorted(
        (p for p in points if p.seconds is not None and p.tier is not None), key=lambda p: (p.seconds, -p.value)
    )
    found: list[Point] = []
    for point in timed:
        if not found or point.value > found[-1].value:
            found.append(point)
    return found


def named(points: Sequence[Point]) -> list[Point]:
    """Those that the chart of time names: the front, or all where none is ranked; the fastest first."""
    return front(points) or sorted((point for point in points if point.seconds is not None), key=_seconds)


def intervals(axes: Any, points: Sequence[Point], label: str) -> None:
    """A dot and an interval a method, the best on top, its name above it; tiers as bands behind them."""
    for n, point in enumerate(points):
        if point.tier is not None and point.tier % 2:
            axes.axhspan(n - 0.5, n + 0.5, color=BAND, linewidth=0, zorder=0)
        middle = n + 0.22
        if point.interval is not None:
            axes.plot(
                point.interval, (middle, middle), color=COLOURS[0], linewidth=1.6, alpha=0.55, solid_capstyle="butt"
            )
        axes.plot(point.value, middle, "o", color=COLOURS[0], markersize=3.2)
        tier = "no tier" if point.tier is None else f"tier {point.tier}"
        for x, side, text, colour in ((0.01, "left", point.name, INK), (0.99, "right", tier, SOFT)):
            place = {"xycoords": ("axes fraction", "data"), "ha": side, "va": "center", "fontsize": "small"}
            axes.annotate(text, (x, n - 0.2), color=colour, **place)
    axes.set_yticks([])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.set_xlim(0, _end(points))
    sure = any(point.interval is not None for point in points)
    axes.set_xlabel(f"{label}, 95 % intervals over subjects" if sure else f"{label}, too few subjects for intervals")
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.set_axisbelow(True)


def accuracy_and_time(axes: Any, points: Sequence[Point], label: str) -> None:
    """Every method with a time; the front of those that are ranked as a line.

    Its members are numbered, and named below, the fastest first; all methods where none is ranked.
    """
    timed = [point for point in points if point.seconds is not None]
    edge = front(points)
    axes.set_xscale("log")
    axes.set_xlim(*_seconds_range(timed))
    axes.set_ylim(0, _end(points))
    steps = [(_seconds(point), point.value) for point in edge]
    if steps:
        line = [(steps[0][0], 0.0), *steps, (axes.get_xlim()[1], steps[-1][1])]
        axes.step(*zip(*line, strict=True), where="post", color=COLOURS[0], linewidth=0.9, linestyle="--", zorder=1)
    members = named(points)
    for point in timed:
        if point not in members:
            axes.plot(_seconds(point), point.value, "o", color="#9aa1aa", markersize=3)
    for n, point in enumerate(members, start=1):
        place = (_seconds(point), point.value)
        axes.plot(*place, "o", color=COLOURS[0], markersize=4)
        number = {"xytext": (-4, 3), "textcoords": "offset points", "ha": "right", "color": INK, "fontsize": "small"}
        axes.annotate(str(n), place, **number)
        axes.plot([], [], linestyle="none", marker=f"${n}$", mew=0, color=INK, markersize=4, label=point.name)
    if members:
        axes.figure.legend(loc="outside lower left", borderaxespad=0, handletextpad=0.1)
    axes.set_xlabel("seconds per image")
    axes.set_ylabel(label)
    axes.grid()
    axes.set_axisbelow(True)


def by_subset(axes: Any, scores: Mapping[str, Mapping[str, tuple[float, Interval | None]]]) -> None:
    """Bars: a group a subset, a colour a method.  ``scores``: method -> subset -> score and interval."""
    subsets = list(dict.fromkeys(subset for each in scores.values() for subset in each))
    wide = 0.8 / max(1, len(scores))
    for k, (name, each) in enumerate(scores.items()):
        places = [n - 0.4 + wide * (k + 0.5) for n, subset in enumerate(subsets) if subset in each]
        found = [each[subset] for subset in subsets if subset in each]
        axes.bar(places, [value for value, _ in found], wide * 0.92, color=COLOURS[k % len(COLOURS)], label=name)
        for place, (_, ends) in zip(places, found, strict=True):
            if ends is not None:
                axes.plot((place, place), ends, color=INK, linewidth=0.7)
        axes.plot([], [], MARKS[k % len(MARKS)])
    axes.set_xticks(range(len(subsets)), [subset.replace("look-alike:", "alike: ") for subset in subsets], rotation=35,
                    ha="right", rotation_mode="anchor")  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_ylabel("mIoU, or share of empty masks")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)


def _seconds(point: Point) -> float:
    return max(point.seconds or 0.0, LEAST_SECONDS)


def _seconds_range(points: Sequence[Point]) -> tuple[float, float]:
    seconds = [_seconds(point) for point in points] or [0.1]
    return min(seconds) / 2, max(seconds) * 4


def _end(points: Sequence[Point]) -> float:
    """A round end of the axis above every interval."""
    highest = max((max(point.value, (point.interval or (0, 0))[1]) for point in points), default=1.0)
    return min(1.0, float(np.ceil(10 * highest + 0.4) / 10))
