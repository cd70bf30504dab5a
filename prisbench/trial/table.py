"""A trial as the user sees it: a line a check.

Knows: rich.  Does not know: how checks are made.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prisbench.runtime.console import width
from prisbench.trial.records import CHECKS, Trial

COLOURS = {"ok": "green", "FAILED": "bold red", "note": "yellow", "skipped": "dim", "not reached": "dim"}


def show(trial: Trial) -> None:
    """Print the table on stdout."""
    console = Console(width=width())
    table = Table(title=f"{trial.method}: {len(trial.checks)} checks", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("looks at")
    table.add_column("result", no_wrap=True)
    table.add_column("seen", overflow="fold")
    for each in trial.checks:
        state = Text(each.state, style=COLOURS[each.state])
        table.add_row(each.name, CHECKS[each.name], state, Text(each.said))
    console.print(table)
    if trial.learn_seconds is not None and trial.image_seconds is not None:
        learning = f"learning {trial.learn_seconds:.1f} s"
        console.print(f"{learning}, slowest image {trial.image_seconds:.2f} s, in all {trial.seconds:.1f} s")
