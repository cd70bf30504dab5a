"""The YAML front matter of a card: by it the Hub and ``datasets.load_dataset`` know licence, tables, splits.

Knows: the Hub's words (https://huggingface.co/docs/hub/datasets-cards), how front matter is read and written.
Does not know: the prose of cards, how rows are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

from prisbench.datasets.schema import SPLITS
from prisbench.errors import DataError

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

_FRONT = re.compile(r"\A---\r?\n(.*?)^---[ \t]*\r?\n", re.DOTALL | re.MULTILINE)


def read_front(text: str, where: str) -> tuple[dict[str, Any], str]:
    """The front matter of a card, and the text that follows it.

    Raises DataError, naming ``where``, when the front matter is not a YAML mapping; without any it is empty.
    """
    match = _FRONT.match(text)
    if match is None:
        if text.startswith("---"):
            raise DataError(f"{where}: the front matter has no closing line ---")
        return {}, text
    try:
        front = yaml.safe_load(match[1])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: the front matter is not YAML ({' '.join(str(error).split())})") from None
    if front is not None and not isinstance(front, dict):
        raise DataError(f"{where}: the front matter must be a YAML mapping, `key: value` lines; it is {front!r:.80}")
    return front or {}, text[match.end() :]


def front_text(front: Mapping[str, Any], quoted: Collection[str] = (), block: Collection[str] = ()) -> str:
    """Front matter between its ``---``: lists on one line, mappings a line a key.

    The texts of the keys ``quoted`` stand in quotes; the lists of the keys ``block`` have a line an entry.
    """
    lines = []
    for key, value in front.items():
        if key in quoted:
            lines.append(f"{key}: {json.dumps(value)}\n")
        else:
            flow = None if isinstance(value, list) and key not in block else False
            style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 120}
            lines.append(yaml.safe_dump({key: value}, default_flow_style=flow, **style))
    return f"---\n{''.join(lines)}---\n"


def usual_front(name: str, licence: str) -> dict[str, Any]:
    """The front matter that a card has when nobody wrote another; without tables."""
    return {
        "pretty_name": name,
        "license": licence,
        "language": "en",
        "task_categories": ["image-segmentation"],
        "tags": ["personalised-referring-segmentation", "prisbench"],
    }


def configs(splits: Mapping[str, Iterable[str]]) -> list[dict[str, Any]]:
    """The files of each table, from the splits it has; ``queries`` is the table that is loaded by default."""
    return [
        {"config_name": table}
        | ({"default": True} if table == "queries" else {})
        | {
            "data_files": [
                {"split": split, "path": f"{table}/{split}-*.parquet"}
                for split in SPLITS
                if split in set(splits[table])
            ]
        }
        for table in ("queries", "subjects")
    ]


def hub_licence(licences: Iterable[str]) -> str | list[str]:
    """The Hub's names for licences as rows carry them: one, or a sorted list; what it does not know is ``other``."""
    names = {text.lower() if text.lower() in HUB_LICENCES else "other" for text in licences}
    ordered = sorted(names, key=lambda name: (name == "other", name))
    return ordered[0] if len(ordered) == 1 else ordered


def size_category(queries: int) -> str:
    """The Hub's size category of so many queries."""
    return next((name for power, name in enumerate(SIZES, 3) if queries < 10**power), "n>1T")
