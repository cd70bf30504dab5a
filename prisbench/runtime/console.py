"""What commands share: how a result is printed, how progress is shown, and the options that many have.

Knows: typer, rich, stdout and stderr.  Does not know: what any command does.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress


class Format(StrEnum):
    text = "text"
    json = "json"


OutputFormat = Annotated[Format, typer.Option("--format", help="How to print the result.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]


def say(record: Any, format: Format, text: str) -> None:
    """Print a result: the record as one line of JSON, or the text."""
    print(json.dumps(record, allow_nan=False) if format is Format.json else text)


def tell(line: str) -> None:
    """Print a line beside the result: on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def width() -> int:
    """Columns of the terminal, or of the environment's COLUMNS; 80 where nobody says, as in a pipe."""
    return shutil.get_terminal_size((80, 24)).columns


def known(kind: str, name: str, names: Collection[str]) -> None:
    """Raises UnknownNameError, with the nearest name, for one that is not among ``names``."""
    if name not in names:
        from prisbench.errors import UnknownNameError

        raise UnknownNameError(kind, name, names)


INTERRUPTED, SOME_FAILED = 130, 2
"""Exit codes beside 0 (fine) and 1 (a mistake): as shells have it after Ctrl-C, and when some queries failed."""


@contextlib.contextmanager
def nothing_on_stdout() -> Iterator[None]:
    """Whatever the body prints goes to stderr, so that stdout holds the result alone: Python's prints, and those of
    libraries and child processes.
    """
    with contextlib.redirect_stdout(sys.stderr):
        try:
            sys.__stdout__.flush()  # type: ignore[union-attr]
            kept = os.dup(1)
        except (OSError, ValueError, AttributeError):  # there is no stdout
            yield
            return
        try:
            with contextlib.suppress(OSError):
                os.dup2(2, 1)
            yield
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.__stdout__.flush()  # type: ignore[union-attr]
            with contextlib.suppress(OSError, AttributeError, TypeError):
                ctypes.CDLL(None).fflush(None)  # what C code printed and the C library still holds
            os.dup2(kept, 1)
            os.close(kept)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr where that is a terminal; interrupting it leaves the terminal clean.

    Nothing that runs within it prints on stdout.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with (
        nothing_on_stdout(),
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        yield bar


def stages(bar: Progress) -> Callable[..., None]:
    """Called with (stage, done, total), and with what is at hand where that has a name; shows a bar for each stage."""
    tasks: dict[str, Any] = {}

    def show(stage: str, done: int, total: int, at_hand: str = "") -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done, total=total, description=f"{stage} {at_hand}".rstrip())

    return show


def table_bars(bar: Progress, verb: str, totals: dict[str, int]) -> Callable[[str, int], None]:
    """Called with (table, rows); shows a bar for each table.  ``totals``: how many rows are to come, where known."""
    show = stages(bar)
    return lambda table, rows: show(f"{verb} {table}", rows, max(totals.get(table, rows), rows))


@contextlib.contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A display that is called with (stage, done, total)."""
    with progress() as bar:
        yield stages(bar)


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A display that is called with (done, total)."""
    with stage_bars() as show:
        yield lambda done, total: show(title, done, total)
