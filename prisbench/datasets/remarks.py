"""What a reader noticed of files and went on: each remark once a file, and a line for each remark in the end.

Knows: how files are listed and counted in a line.  Does not know: what is remarked, where lines are printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

MOST_NAMES = 5
"""More files than this are counted; the first three are named."""


class Remarks:
    """Remark -> the files it is about, in the order in which they were read; a file that is read again counts once.

    Files below ``root`` are named from there, so that the names do not depend on where a set lies.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._files: dict[str, dict[str, str]] = {}

    def add(self, remark: str, path: Path, detail: str = "") -> None:
        """Note a remark about a file; ``detail`` stands in brackets behind its name."""
        below = self._root is not None and path.is_relative_to(self._root)
        name = path.relative_to(self._root).as_posix() if self._root is not None and below else str(path)
        self._files.setdefault(remark, {})[name] = f"{name} ({detail})" if detail else name

    def lines(self) -> list[str]:
        """``REMARK: FILE, FILE`` for each remark."""
        return [f"{remark}: {_listed(list(files.values()))}" for remark, files in self._files.items()]

    def to_json(self) -> dict[str, dict[str, str]]:
        return {remark: dict(files) for remark, files in self._files.items()}

    def restore(self, value: Mapping[str, Mapping[str, str]]) -> None:
        """Put what ``to_json`` gave in the place of what is known."""
        self._files = {remark: dict(files) for remark, files in value.items()}


def _listed(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{len(names)} files ({', '.join(names[:3])} and {len(names) - 3} more)"
