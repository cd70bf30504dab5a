"""Whether data cards and their data agree.

Knows: which data a card is held to.  Does not know: what a card must have (``structure``), how facts are counted.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prisbench.datasets.build import Progress
from prisbench.datasets.cards.facts import facts
from prisbench.datasets.cards.structure import structure
from prisbench.datasets.cards.text import block, cards_folder, read_card, read_text, with_facts, write_facts
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import NAMES, find_dataset, is_drawn
from prisbench.datasets.samples import DATA_VARIABLE, SAMPLES, build_sample, sample_root
from prisbench.datasets.schema import MANIFEST
from prisbench.errors import DataError, UsageError


def check_cards(
    paths: Sequence[str | os.PathLike[str]] = (),
    dataset: str | None = None,
    write: bool = False,
    data: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> list[CardReport]:
    """Check cards, folders of cards and built datasets (their README.md, or the card of a named one); by default the
    folder ``data_cards``.

    A card that says ``built: yes`` is held to its data: those of ``dataset`` (a name or a folder) when given, the named
    dataset if it is drawn already, or a small real set in the folder ``data`` (default: the one that PRISBENCH_DATA
    names); without that, and for ``built: no``, its structure alone.  ``write`` puts the facts of such data into the
    card first.

    Raises DataError when there is no card, or one cannot be read; UsageError for a ``dataset`` with several cards;
    WriteError.
    """
    found = _cards(paths, progress)
    if dataset is not None and len(found) != 1:
        raise UsageError(f"a dataset has one card, and here are {len(found)}: name the card that is {dataset}'s")
    reports = []
    for path in found:
        with _data_of(path, dataset, data, progress) as (held_to, note):
            if held_to is None:
                lines = structure(read_text(path), str(path))
            else:
                note = f"written, {note}" if write and write_facts(path, held_to) else note
                lines = check_card(path, held_to)
        reports.append(CardReport(path, tuple(lines), note))
    return reports


@dataclass(frozen=True)
class CardReport:
    """What a check of one card found: ``differences`` is empty when all is well; ``note`` says what it was held to."""

    path: Path
    differences: tuple[str, ...]
    note: str


def check_card(path: str | os.PathLike[str], dataset: Dataset) -> list[str]:
    """Where a card and its data differ, and what its structure lacks: one line each, none when all is well.

    Lines of the card that the data do not give start with ``-``, those that they give with ``+``.

    Raises DataError when the card cannot be read or the data are damaged.
    """
    text = read_text(path)
    lines = structure(text, str(path))
    name = Path(path).stem
    if name not in (dataset.id, "README"):
        lines.append(f"the card is called {name}, the dataset {dataset.id}; one of the two has the wrong version")
    if block(text, "facts") is None:
        return lines
    return lines + _difference(text, with_facts(text, facts(dataset), str(path)))


def render(reports: Sequence[CardReport]) -> str:
    """One line a card, its differences below it."""
    lines = []
    for report in reports:
        state = "differs" if report.differences else "ok"
        lines.append(f"{state:8}{report.path}  ({report.note})")
        lines += [f"        {line}" for line in report.differences]
    bad = sum(bool(report.differences) for report in reports)
    ending = "all agree" if not bad else f"{bad} to mend"
    return "\n".join([*lines, f"{len(reports)} card{'s' * (len(reports) != 1)}: {ending}"])


@contextlib.contextmanager
def _data_of(
    path: Path, dataset: str | None, data: str | os.PathLike[str] | None, progress: Progress | None
) -> Iterator[tuple[Dataset | None, str]]:
    """The dataset a card is held to, None when only its structure can be checked, and a note that says which.

    A small real set is built in a temporary folder, which is removed when the block ends.
    """
    name = path.stem
    if dataset is not None:
        yield find_dataset(dataset, progress), f"held to {dataset}"
    elif name == "README" and (path.parent / MANIFEST).is_file():
        yield open_dataset(path.parent), "held to the data beside it"
    elif not read_card(path).built:
        yield None, "not built here: its structure alone"
    elif is_drawn(name):
        yield find_dataset(name, progress), "held to the data"
    elif name in NAMES:
        yield None, f"{name} is not drawn yet: its structure alone; --dataset {name} draws it"
    elif name not in SAMPLES:
        yield None, "its data are not here: its structure alone; name them with --dataset"
    else:
        root = sample_root(name, data)
        if root is None:
            yield None, f"{DATA_VARIABLE} names no folder with {SAMPLES[name].folder}: its structure alone"
            return
        with tempfile.TemporaryDirectory(prefix="prisbench-card-") as temporary:
            yield build_sample(name, root, Path(temporary) / name, progress), "held to the real files"


def _cards(paths: Sequence[str | os.PathLike[str]], progress: Progress | None) -> list[Path]:
    """The cards that paths name.  Raises DataError for a path that holds none."""
    out: list[Path] = []
    for path in [_of_dataset(Path(path), progress) for path in paths] or [cards_folder()]:
        if (path / MANIFEST).is_file():
            out.append(path / "README.md")
        elif path.is_dir():
            found = sorted(file for file in path.glob("*.md") if file.name != "README.md")
            if not found:
                raise DataError(f"{path} holds no data card (*.md) and no dataset; name another folder")
            out += found
        else:
            out.append(path)
    return out


def _of_dataset(path: Path, progress: Progress | None) -> Path:
    """The path; of a dataset that is named (``find_dataset``) its card in ``data_cards``, or else its folder."""
    if path.exists() or path.suffix == ".md":
        return path
    card = cards_folder() / f"{path}.md"
    return card if str(path) in NAMES and card.is_file() else find_dataset(str(path), progress).folder


def _difference(found: str, wanted: str) -> list[str]:
    """The lines of a unified diff, without its headers."""
    diff = list(difflib.unified_diff(found.splitlines(), wanted.splitlines(), lineterm="", n=0))
    return [line for line in diff[2:] if not line.startswith("@@")]
