"""Data cards: prose by people, facts computed from the data, and the check that the two agree.

A card is ``data_cards/<dataset>-<version>.md``: Hugging Face front matter, the headings of ``HEADINGS``, and a block
between ``<!-- facts -->`` and ``<!-- /facts -->`` that says ``built: yes`` and what the data say, or ``built: no`` and,
fact by fact, what is known from a publication (with its address) and what only a build can tell (``NOT_BUILT``).  The
same text, with the facts of the data beside it, is the README.md of a built dataset.

Knows: cards.  Does not know: how facts are counted (``facts``), how rows are made, Croissant, methods.
The headings follow Gebru et al., "Datasheets for Datasets", Communications of the ACM 64(12), 2021, as far as they
apply here; the front matter is the Hub's (https://huggingface.co/docs/hub/datasets-cards).
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from prisbench.datasets.build import Progress, write_dataset
from prisbench.datasets.build_notes import BLOCK
from prisbench.datasets.cards.facts import Facts, facts, facts_markdown
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import NAMES, find_dataset, source_module
from prisbench.datasets.schema import MANIFEST, SPLITS
from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import read_bytes, write_text

HEADINGS = (
    "Why it exists",
    "How it was made",
    "How to use it",
    "Licences",
    "Known shortcuts and biases",
    "People in it",
    "Who could be harmed",
    "What it is not for",
)
"""What every card tells, in this order; others may stand between."""

NOT_BUILT = "not built here"
"""The value of a fact that only a build can tell."""

FACTS = (
    "subjects",
    "nouns",
    "reference photos a subject",
    "scenes",
    "scene sizes, h x w",
    "queries",
    "look-alikes",
    "area fraction",
    "centroid",
    "licences",
    "digest",
)
"""The rows of a ``built: no`` block, in this order."""

REQUIRED = ("pretty_name", "license", "language", "task_categories", "tags")
"""Keys of the front matter of every card; a built one has ``COMPUTED`` too."""

COMPUTED = ("license", "size_categories", "configs")
"""Keys of the front matter that follow from the data."""

HUB_LICENCES = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 bsd bsd-2-clause bsd-3-clause cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 etalab-2.0
    gpl gpl-2.0 gpl-3.0 lgpl-3.0 mit mpl-2.0 odbl odc-by other pddl unlicense unknown
    """.split()  # noqa: SIM905
)
"""The Hub's names of licences that data carry (https://huggingface.co/docs/hub/repositories-licenses)."""

SPDX_LICENCES = HUB_LICENCES - {"bsd", "cc", "gpl", "other", "unknown", "etalab-2.0", "odbl", "odc-by", "pddl"}
"""Those whose name is SPDX's in small letters."""

SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
"""The Hub's size categories, each ten times the one before; of queries, here."""

SAMPLES: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "perseg-examples-v1": ("perseg", "perseg_examples", {"licence": "masks: MIT; photos: CC-BY-4.0 (DreamBooth)"}),
    "ycb-video-sample-v2": ("ycb-video", "ycb_video", {}),
}
"""Cards of small real sets: their source, their folder inside the one that PRISBENCH_DATA names, options."""

DATA_VARIABLE = "PRISBENCH_DATA"

_FRONT = re.compile(r"\A---\r?\n(.*?)^---[ \t]*\r?\n", re.DOTALL | re.MULTILINE)
_PLACEHOLDER = re.compile(r"\[more information needed\]|\bTODO\b|\bTBD\b|\bFIXME\b|lorem ipsum", re.IGNORECASE)


# ---------------------------------------------------------------------------------------------------------------------
# the text of a card


@dataclass(frozen=True)
class Card:
    """A card's text, taken apart: ``front`` is the YAML between the ``---``, ``body`` all that follows."""

    front: Mapping[str, Any]
    body: str

    @property
    def title(self) -> str:
        """The text of the first heading; empty without one."""
        found = re.search(r"^# +(.+?) *$", self.body, re.MULTILINE)
        return found[1] if found else ""

    @property
    def about(self) -> str:
        """The first paragraph under the title, on one line."""
        after = re.split(r"^# .*$", self.body, maxsplit=1, flags=re.MULTILINE)[-1]
        return " ".join(re.split(r"\n\s*\n|\n#|\n<!--", after.strip(), maxsplit=1)[0].split())

    @property
    def sections(self) -> dict[str, str]:
        """Heading of the second level -> the prose under it, without markers and what stands between them."""
        prose = re.sub(r"<!-- (\S+) -->.*?<!-- /\1 -->", "", self.body, flags=re.DOTALL)
        parts = re.split(r"^## +(.+?) *$", prose, flags=re.MULTILINE)
        return {title: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)}

    @property
    def built(self) -> bool | None:
        """What the facts block says; None when there is none that says it."""
        inside = block(self.body, "facts")
        said = re.match(r"\s*built: (yes|no)\s*$", inside, re.MULTILINE) if inside is not None else None
        return None if said is None else said[1] == "yes"


def parse_card(text: str, where: str) -> Card:
    """Raises DataError, naming ``where``, when the front matter is not a YAML mapping; without any it is empty."""
    match = _FRONT.match(text)
    if match is None:
        if text.startswith("---"):
            raise DataError(f"{where}: the front matter has no closing line ---")
        return Card({}, text)
    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: the front matter is not YAML ({' '.join(str(error).split())})") from None
    if front is not None and not isinstance(front, dict):
        raise DataError(f"{where}: the front matter must be a YAML mapping, `key: value` lines; it is {front!r:.80}")
    return Card(front or {}, text[match.end() :])


def read_card(path: str | os.PathLike[str]) -> Card:
    """Raises DataError when the file is missing, not UTF-8, or its front matter is not YAML."""
    return parse_card(_read(path), str(path))


def block(text: str, name: str) -> str | None:
    """What stands between ``<!-- name -->`` and ``<!-- /name -->``; None unless each is there once, in this order."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        return None
    return text[text.index(start) + len(start) : text.index(end)]


def with_block(text: str, name: str, content: str, where: str) -> str:
    """The text with other content between its markers ``name``.

    Without any markers, they and the content are put at the end.  Raises DataError when markers are there, but not
    each once and in order.
    """
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if start not in text and end not in text:
        return f"{text.rstrip()}\n\n## {name.capitalize()}\n\n{start}\n{content}\n{end}\n"
    if block(text, name) is None:
        raise DataError(f"{where}: {start} and {end} must stand in it once each, in this order")
    return f"{text[: text.index(start)]}{start}\n{content}\n{text[text.index(end) :]}"


def with_facts(text: str, found: Facts, where: str = "card") -> str:
    """The card with the facts block and the computed keys of the front matter as the data have them.

    A front matter that says the same already keeps its bytes.  Raises DataError for a text that is no card.
    """
    card = parse_card(text, where)
    wanted = _with_computed(card.front, found)
    body = with_block(card.body, "facts", facts_markdown(found), where)
    head = text[: len(text) - len(card.body)]
    return (head if wanted == card.front else _front_text(wanted)) + body


def readme(text: str, dataset: Dataset, where: str = "card") -> str:
    """The README.md of a built dataset from a card's text (or from a source's few words, without front matter).

    The card's front matter is kept and the keys that the Hub and ``datasets.load_dataset`` read are put in; the facts
    are those of this dataset.  Raises DataError for a text that is no card and for damaged data.
    """
    card = parse_card(text, where)
    usual = {
        "pretty_name": dataset.id,
        "license": "other",
        "language": "en",
        "task_categories": ["image-segmentation"],
        "tags": ["personalised-referring-segmentation", "prisbench"],
    }
    return with_facts(_front_text({**usual, **card.front}) + card.body, facts(dataset), where)


def write_readme(folder: str | os.PathLike[str], text: str | None = None) -> Path:
    """Give a built dataset its full card as README.md, and return its path.

    ``text`` is the card; without one it is the card of that name in ``data_cards/``, or else the README.md that is
    there.  What the build left out and warned of stays in it.  Raises DataError and WriteError.
    """
    dataset = open_dataset(folder)
    target = dataset.folder / "README.md"
    ready = cards_folder() / f"{dataset.id}.md"
    notes = block(_read(target), BLOCK) if target.is_file() else None
    if text is None:
        text = _read(ready if ready.is_file() else target)
    text = readme(text, dataset, f"the card of {dataset.id}")
    return write_text(target, text if notes is None else with_block(text, BLOCK, notes.strip("\n"), str(target)))


def write_facts(path: str | os.PathLike[str], dataset: Dataset) -> bool:
    """Put the dataset's facts into a card; whether that changed it.  Raises DataError and WriteError."""
    text = _read(path)
    changed = with_facts(text, facts(dataset), str(path))
    if changed != text:
        write_text(path, changed)
    return changed != text


def cards_folder() -> Path:
    """``data_cards/`` of a checkout, or its copy in an installed wheel."""
    checkout = Path(__file__).parents[3] / "data_cards"
    return checkout if checkout.is_dir() else Path(__file__).parents[2] / "_data_cards"


# ---------------------------------------------------------------------------------------------------------------------
# checks


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
    text = _read(path)
    lines = structure(text, str(path))
    name = Path(path).stem
    if name not in (dataset.id, "README"):
        lines.append(f"the card is called {name}, the dataset {dataset.id}; one of the two has the wrong version")
    if block(text, "facts") is None:
        return lines
    return lines + _difference(text, with_facts(text, facts(dataset), str(path)))


def structure(text: str, where: str) -> list[str]:
    """What a card's text lacks, whatever its data: front matter, headings, an honest facts block; one line each.

    Raises DataError, naming ``where``, when the front matter is not YAML.
    """
    card = parse_card(text, where)
    return [*_front_problems(card), *_prose_problems(card), *_block_problems(card)]


def check_cards(
    paths: Sequence[str | os.PathLike[str]] = (),
    dataset: str | None = None,
    write: bool = False,
    data: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> list[CardReport]:
    """Check cards, folders of cards and built datasets (their README.md); by default the folder ``data_cards``.

    A card that says ``built: yes`` is held to its data: those of ``dataset`` (a name or a folder) when given, the named
    dataset, or a small real set in the folder ``data`` (default: the one that PRISBENCH_DATA names); without that, and
    for ``built: no``, its structure alone.  ``write`` puts the facts of such data into the card first.

    Raises DataError when there is no card, or one cannot be read; UsageError for a ``dataset`` with several cards;
    WriteError.
    """
    data = data or os.environ.get(DATA_VARIABLE) or None
    found = _cards(paths)
    if dataset is not None and len(found) != 1:
        raise UsageError(f"a dataset has one card, and here are {len(found)}: name the card that is {dataset}'s")
    reports = []
    for path in found:
        with _data_of(path, dataset, data, progress) as (held_to, note):
            if held_to is None:
                lines = structure(_read(path), str(path))
            else:
                note = f"written, {note}" if write and write_facts(path, held_to) else note
                lines = check_card(path, held_to)
        reports.append(CardReport(path, tuple(lines), note))
    return reports


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
    elif name in NAMES:
        yield find_dataset(name, progress), "held to the data"
    elif name not in SAMPLES:
        yield None, "its data are not here: its structure alone; name them with --dataset"
    else:
        folder = SAMPLES[name][1]
        root = Path(data) / folder if data is not None else None
        if root is None or not root.is_dir():
            yield None, f"{DATA_VARIABLE} names no folder with {folder}: its structure alone"
            return
        with tempfile.TemporaryDirectory(prefix="prisbench-card-") as temporary:
            yield _sample(root, Path(temporary) / name, progress), "held to the real files"


def _sample(root: Path, target: Path, progress: Progress | None) -> Dataset:
    """A small real set, read by its source and built under the name of its card."""
    name, _, version = target.name.rpartition("-v")
    origin, _, options = SAMPLES[target.name]
    source = source_module(origin).read(root, options)
    source = replace(source, name=name, version=version)
    write_dataset(target, name, version, source.subjects(), source.queries(0), source.about, progress)
    return open_dataset(target)


def _cards(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The cards that paths name.  Raises DataError for a path that holds none."""
    out: list[Path] = []
    for path in [Path(path) for path in paths] or [cards_folder()]:
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


def _difference(found: str, wanted: str) -> list[str]:
    """The lines of a unified diff, without its headers."""
    diff = list(difflib.unified_diff(found.splitlines(), wanted.splitlines(), lineterm="", n=0))
    return [line for line in diff[2:] if not line.startswith("@@")]


def _front_problems(card: Card) -> Iterator[str]:
    front = card.front
    wanted = (*REQUIRED, *(key for key in COMPUTED if key not in REQUIRED)) if card.built else REQUIRED
    for key in wanted:
        if not front.get(key):
            yield f"the front matter has no {key}"
    licences = front.get("license") or []
    licences = licences if isinstance(licences, list) else [licences]
    for licence in licences:
        if licence not in HUB_LICENCES:
            yield f"the front matter's license {licence!r} is no licence of the Hub; write `other` and a license_name"
    if "other" in licences and not front.get("license_name"):
        yield "the front matter's license is `other`, so it must have a license_name"
    sizes = front.get("size_categories") or []
    for size in sizes if isinstance(sizes, list) else [sizes]:
        if size not in SIZES:
            yield f"the front matter's size category {size!r} is none of {', '.join(SIZES)}"
    about = front.get("croissant") or {}
    if not isinstance(about, dict) or not about.get("creator"):
        yield "the front matter has no croissant: creator: who made the data"
    elif unknown := sorted(set(about) - {"creator", "url", "published", "cite_as", "derived_from"}):
        yield f"the front matter's croissant has unknown keys: {', '.join(unknown)}"


def _prose_problems(card: Card) -> Iterator[str]:
    if not card.title or not card.about:
        yield "there is no title (# ...) with a sentence under it that says what the dataset is"
    sections = card.sections
    for heading in HEADINGS:
        if heading not in sections:
            yield f"there is no heading `## {heading}`"
        elif not sections[heading]:
            yield f"nothing stands under `## {heading}`"
    there = [heading for heading in sections if heading in HEADINGS]
    if there != [heading for heading in HEADINGS if heading in sections]:
        yield f"the headings stand in another order than {', '.join(HEADINGS)}"
    for found in _PLACEHOLDER.finditer(card.body):
        yield f"{found.group()!r} is a placeholder; say it, or say that nobody knows"


def _block_problems(card: Card) -> Iterator[str]:
    inside = block(card.body, "facts")
    if inside is None:
        yield "there must be one facts block, between <!-- facts --> and <!-- /facts -->"
        return
    if card.built is None:
        yield "the facts block must begin with `built: yes` or `built: no`"
    elif card.built:
        if not re.search(r"Digest of the content: `[0-9a-f]{64}`", inside):
            yield "the facts block says `built: yes` without the digest of the content"
    else:
        yield from _unbuilt_problems(inside)


def _unbuilt_problems(inside: str) -> Iterator[str]:
    """What is not honest in a ``built: no`` block: every fact is either sourced or said to be unknown here."""
    lines = [line.strip() for line in inside.splitlines() if line.strip().startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    if [row[:3] for row in cells[:1]] != [["fact", "value", "known from"]]:
        yield "the facts block says `built: no`, so its table must be | fact | value | known from |"
        return
    rows = cells[2:]
    if tuple(row[0] for row in rows) != FACTS:
        yield f"the facts block must have the rows {', '.join(FACTS)}, in this order"
    for row in rows:
        value, source = (*row[1:], "", "")[:2]
        if value == NOT_BUILT and source:
            yield f"the fact {row[0]!r} is {NOT_BUILT!r} and yet known from {source!r}"
        elif value != NOT_BUILT and not re.search(r"https?://\S+", source):
            yield f"the fact {row[0]!r} must say the address it is known from, or {NOT_BUILT!r}"
    if any(row[0] == "digest" and row[1] != NOT_BUILT for row in rows):
        yield f"nobody knows a digest before a build: write {NOT_BUILT!r}"


# ---------------------------------------------------------------------------------------------------------------------
# the front matter


def hub_licence(licences: Iterable[str]) -> str | list[str]:
    """The Hub's names for licences as rows carry them: one, or a sorted list; what it does not know is ``other``."""
    names = {text.lower() if text.lower() in HUB_LICENCES else "other" for text in licences}
    ordered = sorted(names, key=lambda name: (name == "other", name))
    return ordered[0] if len(ordered) == 1 else ordered


def size_category(queries: int) -> str:
    """The Hub's size category of so many queries."""
    return next((name for power, name in enumerate(SIZES, 3) if queries < 10**power), "n>1T")


def configs(splits: Iterable[str]) -> list[dict[str, Any]]:
    """By which the Hub and ``datasets.load_dataset`` know the tables and splits."""
    there = [split for split in SPLITS if split in set(splits)]
    return [
        {"config_name": table}
        | ({"default": True} if table == "queries" else {})
        | {"data_files": [{"split": split, "path": f"{table}/{split}-*.parquet"} for split in there]}
        for table in ("queries", "subjects")
    ]


def _with_computed(front: Mapping[str, Any], found: Facts) -> dict[str, Any]:
    """The front matter with the keys that follow from the data; a name for a licence that the Hub has none for."""
    wanted = {
        **front,
        "license": hub_licence(found.licences),
        "size_categories": [size_category(found.n_queries)],
        "configs": configs(found.splits),
    }
    if "other" in wanted["license"] and not front.get("license_name"):
        wanted["license_name"] = "; ".join(found.licences)
    return wanted


def _front_text(front: Mapping[str, Any]) -> str:
    """Lists of words on one line, mappings a line a key."""
    lines = (
        yaml.safe_dump(
            {key: value},
            sort_keys=False,
            allow_unicode=True,
            width=120,
            default_flow_style=None if isinstance(value, list) else False,
        )
        for key, value in front.items()
    )
    return f"---\n{''.join(lines)}---\n"


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
