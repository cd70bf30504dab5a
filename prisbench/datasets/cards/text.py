"""Data cards: prose by people, and the facts of the data put into it.

A card is ``data_cards/<dataset>-<version>.md``: front matter, the headings of ``structure.HEADINGS``, and a
block between ``<!-- facts -->`` and ``<!-- /facts -->``.
The block says ``built: yes`` and what the data say.
Or it says ``built: no``, what is known from a publication (with its address), and what only a build can tell.
The same text, with the facts of the data beside it, is the README.md of a built dataset.

Knows: the parts of a card, what of it follows from the data.
Does not know: how facts are counted (``facts``), what a card must have (``structure``), Croissant, methods.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prisbench.datasets.build_notes import BLOCK
from prisbench.datasets.cards.facts import Facts, facts, facts_markdown
from prisbench.datasets.cards.front_matter import (
    configs,
    front_text,
    hub_licence,
    read_front,
    size_category,
    usual_front,
)
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import TABLES
from prisbench.errors import DataError
from prisbench.runtime.files import read_bytes, write_text


def write_readme(folder: str | os.PathLike[str], text: str | None = None) -> Path:
    """Give a built dataset its full card as README.md, and return its path.

    ``text`` is the card; without one it is the card of that name in ``data_cards/``, or else the README.md that is
    there.  What the build left out and warned of stays in it.  Raises DataError and WriteError.
    """
    dataset = open_dataset(folder)
    target = dataset.folder / "README.md"
    ready = cards_folder() / f"{dataset.id}.md"
    notes = block(read_text(target), BLOCK) if target.is_file() else None
    if text is None:
        text = read_text(ready if ready.is_file() else target)
    text = readme(text, dataset, f"the card of {dataset.id}")
    return write_text(target, text if notes is None else with_block(text, BLOCK, notes.strip("\n"), str(target)))


def write_facts(path: str | os.PathLike[str], dataset: Dataset) -> bool:
    """Put the dataset's facts into a card; whether that changed it.  Raises DataError and WriteError."""
    text = read_text(path)
    changed = with_facts(text, facts(dataset), str(path))
    if changed != text:
        write_text(path, changed)
    return changed != text


def readme(text: str, dataset: Dataset, where: str = "card") -> str:
    """The README.md of a built dataset from a card's text (or from a source's few words, without front matter).

    The card's front matter is kept and the keys that the Hub and ``datasets.load_dataset`` read are put in; the facts
    are those of this dataset.  Raises DataError for a text that is no card and for damaged data.
    """
    card = parse_card(text, where)
    front = {**usual_front(dataset.id, "other"), **card.front}
    return with_facts(front_text(front) + card.body, facts(dataset), where)


def with_facts(text: str, found: Facts, where: str = "card") -> str:
    """The card with the facts block and the computed keys of the front matter as the data have them.

    A front matter that says the same already keeps its bytes.  Raises DataError for a text that is no card.
    """
    card = parse_card(text, where)
    wanted = _with_computed(card.front, found)
    body = with_block(card.body, "facts", facts_markdown(found), where)
    head = text[: len(text) - len(card.body)]
    return (head if wanted == card.front else front_text(wanted)) + body


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
    return Card(*read_front(text, where))


def read_card(path: str | os.PathLike[str]) -> Card:
    """Raises DataError when the file is missing, not UTF-8, or its front matter is not YAML."""
    return parse_card(read_text(path), str(path))


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


def cards_folder() -> Path:
    """``data_cards/`` of a checkout, or its copy in an installed wheel."""
    checkout = Path(__file__).parents[3] / "data_cards"
    return checkout if checkout.is_dir() else Path(__file__).parents[2] / "_data_cards"


def read_text(path: str | os.PathLike[str]) -> str:
    """Raises DataError when the file is missing or not UTF-8."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _with_computed(front: Mapping[str, Any], found: Facts) -> dict[str, Any]:
    """The front matter with the keys that follow from the data; a name for a licence that the Hub has none for."""
    wanted = {
        **front,
        "license": hub_licence(found.licences),
        "size_categories": [size_category(found.n_queries)],
        "configs": configs(dict.fromkeys(TABLES, found.splits)),
    }
    if "other" in wanted["license"] and not front.get("license_name"):
        wanted["license_name"] = "; ".join(found.licences)
    return wanted
