"""Numbers that other papers print, from a file beside the result files; tables and pages show them apart, without a
rank.

Knows: the file.  Does not know: whether a number is right, runs, pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prisbench.errors import DataError
from prisbench.runtime.files import read_bytes

FILE = "reported.yaml"
"""A list of records with the texts of ``FIELDS``, beside a leaderboard's result files."""

FIELDS = ("method", "data", "number", "protocol", "source")
"""What a record holds; ``protocol`` says by which rules the number came about, where it differs from ours."""

HEADING = "Reported elsewhere, not measured here"


def reported(folder: Path) -> list[dict[str, str]]:
    """The records of a leaderboard folder, in their order; none without the file.

    Raises DataError, naming file and record, for what is not such a list.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        found: Any = yaml.safe_load(read_bytes(path).decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no YAML in UTF-8 ({str(error).splitlines()[0]}); mend it or remove it") from None
    if not isinstance(found, list):
        raise DataError(f"{path}: expected a list of records with {', '.join(FIELDS)}")
    for n, record in enumerate(found, 1):
        if not isinstance(record, dict) or set(record) != set(FIELDS):
            raise DataError(f"{path}: record {n} must have exactly {', '.join(FIELDS)}")
    return [{name: str(record[name]) for name in FIELDS} for record in found]


def reported_markdown(records: Sequence[Mapping[str, str]]) -> str:
    """The table of them and what a reader must know; empty without records."""
    if not records:
        return ""
    lines = ["| " + " | ".join(FIELDS) + " |", "| :--- " * len(FIELDS) + "|"]
    lines += ["| " + " | ".join(record[name].replace("|", "\\|") for name in FIELDS) + " |" for record in records]
    note = "As their sources print them, on other images and by other rules: never ranked, not comparable with rows."
    return "\n".join([*lines, "", f"- {note}"]) + "\n"
