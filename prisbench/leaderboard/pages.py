"""Markdown files that are made from runs: the README of a leaderboard, and the tables in a project's pages.

Knows: which files there are, and between which marks a table stands.  Does not know: what a table shows.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prisbench.errors import DataError
from prisbench.leaderboard.by_subset import by_subset
from prisbench.leaderboard.ceilings import HEADING, Ceilings, ceilings_markdown, read_ceilings
from prisbench.leaderboard.render import render
from prisbench.leaderboard.reported import HEADING as REPORTED
from prisbench.leaderboard.reported import reported as read_reported
from prisbench.leaderboard.reported import reported_markdown
from prisbench.leaderboard.rows import (
    board_name,
    load_runs,
    queries_within,
    records_of,
    retracted_lines,
    rows,
    standing,
)
from prisbench.leaderboard.summaries import front, learners, summary
from prisbench.leaderboard.tunings import HEADING as TUNED
from prisbench.leaderboard.tunings import tunings, tunings_markdown
from prisbench.results import Run
from prisbench.runtime.files import write_text
from prisbench.subsets import PRESENT, subsets_in
from prisbench.tuning.file import Tuned

PAGES: Mapping[str, tuple[str, Callable[[Sequence[Run]], str]]] = {
    "README.md": ("table", front),
    "docs/learners.md": ("learners", learners),
    "docs/real-photos.md": ("table", summary),
}
"""Files beside the folder of leaderboards that may hold a table: the word of its marks, and what makes it."""


def readme(
    runs: Sequence[Run],
    ceilings: Ceilings | None = None,
    reported: Sequence[Mapping[str, str]] = (),
    tuned: Sequence[Tuned] = (),
) -> str:
    """The README of a leaderboard folder: the table over all queries, that by subset, what was tuned, that of ceilings
    and floors where there are ceilings, one for every subset, numbers reported elsewhere, and the rows that were
    retracted.

    Raises DataError as ``rows``, and without runs.
    """
    if not runs:
        raise DataError("a leaderboard needs at least one run")
    data, everything = runs[0].dataset, rows(runs)
    parts = [
        f"# {data.id}, {data.split} split",
        "Made by `prisbench leaderboard` from the result files in this folder; do not edit. "
        f"Dataset digest `{data.digest}`, metric spec {runs[0].metric_spec} (`docs/metrics.md`).",
        "## All queries",
        render(everything),
    ]
    if any(row.get("headline") is not None for row in records_of(everything)):
        parts += ["## By subset", by_subset(runs)]
    if tuned:
        parts += [f"## {TUNED}", tunings_markdown(tuned)]
    if ceilings is not None:
        parts += [f"## {HEADING}", ceilings_markdown(ceilings, runs)]
    for subset in subsets_in(queries_within(standing(runs), None)):
        if subset == PRESENT:
            continue
        parts += [f"## Only {subset} queries", render(rows(runs, subset))]
    if reported:
        parts += [f"## {REPORTED}", reported_markdown(reported)]
    if lines := retracted_lines(runs):
        parts += ["## Retracted", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write_readme(folder: Path) -> Path:
    """Write the folder's README.md from its result files."""
    return write_text(folder / "README.md", _readme_of(folder))


def check(folder: Path) -> list[str]:
    """What regenerating the folder's README.md would change, as lines of a unified diff; empty when it is current.

    Raises DataError as ``load_runs``.
    """
    path = folder / "README.md"
    old = path.read_text(encoding="utf-8") if path.is_file() else ""
    new = _readme_of(folder)
    names = (str(path), f"{path} (made again)")
    return list(difflib.unified_diff(old.splitlines(), new.splitlines(), *names, n=0, lineterm=""))


def _readme_of(folder: Path) -> str:
    runs = load_runs(folder)
    return readme(runs, read_ceilings(folder, runs[0].dataset), read_reported(folder), tunings(folder, runs))


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


def _marks(word: str, runs: Sequence[Run]) -> tuple[str, str]:
    """What a page's table stands between."""
    return f"<!-- {word} {board_name(runs[0].dataset)} -->\n", f"<!-- /{word} -->"


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
