"""A Markdown table and its notes in so many columns of a terminal: fewer columns of the table, lines that are folded.

Knows: Markdown's tables.  Does not know: what the numbers mean.
"""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

ENOUGH = 5
"""Columns of a Markdown table that are worth a table: the tier, who it is, how many queries, and a score."""

_WIDEST, _NARROWEST = 20, 8
"""Letters of a cell in a folded table, fewer in narrow terminals; names are folded at their hyphens."""


class Layout(NamedTuple):
    """The lines of a table, and the heads of the columns that found no place."""

    lines: list[str]
    left_out: list[str]


def fitted(text: str, width: int) -> str:
    """The text with every line of at most ``width`` columns; neighbouring lines that begin with "|" are a table.

    A table that is too wide keeps the columns that find a place, from the left; where these would be too few its cells
    are folded.  A line at the end says which are left out.  Words longer than ``width`` stay whole.
    """
    lines = text.rstrip("\n").split("\n")
    if max(map(len, lines), default=0) <= width:
        return text
    out: list[str] = []
    left_out: list[str] = []
    for is_table, group in itertools.groupby(lines, key=lambda line: line.startswith("|")):
        block = [*group]
        if is_table and len(block) > 1:
            layout = _layout([_cells(line) for line in block], width)
            out += layout.lines
            left_out += layout.left_out
        else:
            out += _wrapped(block, width)
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        out += _wrapped([f"- Not shown in {width} columns: {names}; --full shows all."], width)
    return "\n".join(out) + "\n"


def _layout(rows: Sequence[Sequence[str]], width: int) -> Layout:
    """The table as it is, as far as it finds a place; folded where that is too little."""
    if max(sum(len(cell) + 3 for cell in row) + 1 for row in rows) <= width:
        return _markdown(rows, width)
    layout = _markdown(rows, width)
    return layout if len(layout.lines[0].split(" | ")) >= ENOUGH else _folded(rows, width)


def _wrapped(lines: Sequence[str], width: int) -> list[str]:
    out: list[str] = []
    for line in lines:
        indent = " " * _indent(line, width)
        fold = textwrap.wrap(
            line, max(width, _NARROWEST), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        out += fold or [""]
    return out


def _indent(line: str, width: int) -> int:
    """Where the lines that go on with a line begin: at its second column, below a list's text, further in than it."""
    if (column := re.match(r" *\S+  +(?=\S)", line)) and column.end() <= width // 2:
        return column.end()
    lead = len(line) - len(line.lstrip(" "))
    return lead + 2 if lead or line.startswith("- ") else 0


def _cells(line: str) -> list[str]:
    """A row's cells; a "|" inside of one is written with a backslash."""
    inner = line.strip().strip("|").replace("\\|", "\0").split("|")
    return [cell.strip().replace("\0", "\\|") for cell in inner]


def _markdown(rows: Sequence[Sequence[str]], width: int) -> Layout:
    """The table as Markdown, its cells as they are."""
    fits = [max(sum(len(cell) + 3 for cell in row[: n + 1]) + 1 for row in rows) <= width for n in range(len(rows[0]))]
    lines = ["| " + " | ".join(row[: sum(fits)]) + " |" for row in rows]
    return Layout(lines, list(rows[0][sum(fits) :]))


def _folded(rows: Sequence[Sequence[str]], width: int) -> Layout:
    """The table in columns of equal width, its cells on several lines where they are long."""
    heads, marks, body = rows[0], rows[1], rows[2:]
    widest = min(_WIDEST, max(_NARROWEST, width - len(heads[0]) - 2))
    columns = [[_fold(row[n], widest) for row in (heads, *body)] for n in range(len(heads))]
    widths = [max(len(line) for cell in column for line in cell) for column in columns]
    fits = sum(end - 2 <= width for end in itertools.accumulate(wide + 2 for wide in widths))
    chosen = range(min(max(fits, 2), len(heads)))  # a tier without a name says nothing
    lines: list[str] = []
    for n in range(len(body) + 1):
        cells = [columns[k][n] for k in chosen]
        for height in range(max(map(len, cells))):
            texts = [cell[height] if height < len(cell) else "" for cell in cells]
            aligned = (
                text.rjust(widths[k]) if marks[k].endswith(":") else text.ljust(widths[k])
                for k, text in zip(chosen, texts, strict=True)
            )
            lines.append("  ".join(aligned).rstrip())
        lines += ["  ".join("-" * widths[k] for k in chosen)] if n == 0 else []
    return Layout(lines, list(heads[len(chosen) :]))


def _fold(cell: str, widest: int) -> list[str]:
    """A cell's lines: a score above its interval, a name folded at spaces and hyphens."""
    if " [" in cell:
        score, _, interval = cell.partition(" [")
        return [score, f"[{interval}"]
    return textwrap.wrap(cell, widest) or [""]
