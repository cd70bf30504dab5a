"""What every card must have, whatever its data: front matter, headings, prose, an honest facts block.

Knows: the headings and keys, and how a fact that was not counted here must say where it is known from.  Does not know:
the data (``check``).  The headings follow Gebru et al., "Datasheets for Datasets", Communications of the ACM 64(12),
2021, as far as they apply here; the front matter is the Hub's (https://huggingface.co/docs/hub/datasets-cards).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from prisbench.datasets.cards.front_matter import HUB_LICENCES, SIZES
from prisbench.datasets.cards.text import Card, block, parse_card

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

_PLACEHOLDER = re.compile(r"\[more information needed\]|\bTODO\b|\bTBD\b|\bFIXME\b|lorem ipsum", re.IGNORECASE)


def structure(text: str, where: str) -> list[str]:
    """What a card's text lacks, whatever its data: front matter, headings, an honest facts block; one line each.

    Raises DataError, naming ``where``, when the front matter is not YAML.
    """
    card = parse_card(text, where)
    return [*_front_problems(card), *_prose_problems(card), *_block_problems(card)]


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
