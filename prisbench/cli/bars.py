"""What commands show: progress, each display as the function that a long call is given, tables that fit, and subjects
by the names that people know.

Knows: rich's bars.  Does not know: what is going on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from prisbench.runtime.console import Format, progress, say, stages, table_bars, tell, width

if TYPE_CHECKING:
    from rich.progress import Progress

    from prisbench.datasets.load import Dataset


def say_table(record: Any, format: Format, text: str, full: bool = False) -> None:
    """Print a result: the record as one line of JSON, or its table with what of it fits the terminal, or all of it.

    Of text without a Markdown table nothing is left out: its lines are folded.
    """
    from prisbench.leaderboard.fitted import fitted

    say(record, format, text if full or format is Format.json else fitted(text, width()).rstrip("\n"))


def named_dataset(name: str, bar: Progress | None = None) -> Dataset:
    """The dataset that a user names, as every command reads it (``datasets.named.find_dataset``), with a bar where it
    has to be drawn first.
    """
    from prisbench.datasets.named import find_dataset

    if bar is not None:
        return find_dataset(name, table_bars(bar, "drawing", {}), tell)
    with progress() as bar:
        return find_dataset(name, table_bars(bar, "drawing", {}), tell)


class Names(dict[str, str]):
    """Id -> name of the subjects that a command is about; empty until it knows them."""

    def of(self, dataset: Dataset, split: str) -> Dataset:
        """The dataset, whose names are known from here on."""
        self.update(dataset.subject_names(split))
        return dataset

    def tell(self, line: str) -> None:
        from prisbench.datasets.subject_names import with_names

        tell(with_names(line, self))

    def in_errors(self) -> AbstractContextManager[None]:
        from prisbench.datasets.subject_names import told_by_name

        return told_by_name(self)


def learning_bar(bar: Progress, title: str) -> Callable[[int, int, float], None]:
    """A bar for ``(step, steps, loss)``."""
    task = bar.add_task(title, total=None, visible=False)

    def show(step: int, steps: int, loss: float) -> None:
        bar.update(task, completed=step, total=steps, visible=step < steps, description=f"{title}, loss {loss:.3f}")

    return show


def stage_bar(bar: Progress, names: Mapping[str, str] = {}) -> Callable[[str, int, int, str], None]:
    """A bar for ``(stage, done, total, id)``, one a stage, with the name of an id that has one."""
    show = stages(bar)
    return lambda stage, done, total, id: show(stage, done, total, names.get(id, ""))


def training_bar(bar: Progress) -> Callable[[str, int, int, dict[str, float]], None]:
    show = stages(bar)

    def report(stage: str, step: int, steps: int, numbers: dict[str, float]) -> None:
        show(stage, step, steps)
        if numbers and not bar.console.is_terminal:
            tell(f"{stage} {step}/{steps} {numbers}")

    return report
