"""``dataset.json``: what a dataset folder holds, and how to know that it is whole.

Knows: the manifest's fields.  Does not know: how a digest is made, files, rows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prisbench.datasets.schema import READABLE, SPLITS
from prisbench.errors import DataError
from prisbench.types import QUERY_TYPES

NAME, VERSION = r"[a-z0-9]+(-[a-z0-9]+)*", r"[0-9]+([.][0-9]+)*"
"""What a dataset may be called, as patterns: its id is a folder's name, too."""


@dataclass(frozen=True)
class Manifest:
    """``dataset.json``: what the folder holds and how to know that it is whole.

    ``subjects``: split -> count.  ``queries``: split -> query type -> count.  ``images``: split -> count of different
    scenes.  ``digest``: see ``digest_rows``.  ``files``: path inside the folder -> sha256 of its bytes.
    """

    name: str
    version: str
    schema_version: int
    seed: int | None
    subjects: Mapping[str, int]
    queries: Mapping[str, Mapping[str, int]]
    images: Mapping[str, int]
    digest: str
    files: Mapping[str, str]

    @property
    def id(self) -> str:
        """Name and version, like ``tabletop-v3``: the name of its card and of its leaderboard."""
        return f"{self.name}-v{self.version}"

    def n_queries(self, split: str) -> int:
        """How many queries a split has; 0 for one that is not there."""
        return sum(self.queries.get(split, {}).values())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Manifest:
        """Raises DataError, naming ``where``, when the value is not a manifest of this schema version."""
        if not isinstance(value, dict) or "schema_version" not in value:
            raise DataError(f"{where} is not a dataset's manifest; rebuild the dataset")
        if value["schema_version"] not in READABLE:
            raise DataError(
                f"{where} has schema version {value['schema_version']!r}, this prisbench reads "
                f"{' and '.join(map(str, READABLE))}; "
                "rebuild the dataset or install the prisbench that made it"
            )
        names = {field.name for field in dataclasses.fields(cls)}
        if set(value) != names:
            wrong = ", ".join(sorted(names.symmetric_difference(value)))
            raise DataError(f"{where} is damaged (missing or unknown: {wrong}); rebuild the dataset")
        if damaged := [name for name in sorted(names) if not _KINDS[name](value[name])]:
            which = ", ".join(damaged)
            raise DataError(f"{where} is damaged ({which}: a field of the wrong kind); rebuild the dataset")
        if not set(value["subjects"]) >= set(value["queries"]) == set(value["images"]):
            raise DataError(
                f"{where} is damaged (subjects, queries and images are not of the same splits); rebuild the dataset"
            )
        return Manifest(**value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_table(value: Any, keys: tuple[str, ...] | None, of: Callable[[Any], bool]) -> bool:
    """Whether a JSON value is an object with these keys at most, and its values are such."""
    return isinstance(value, dict) and all((keys is None or key in keys) and of(entry) for key, entry in value.items())


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "name": lambda value: _is_text(value) and bool(re.fullmatch(NAME, value)),
    "version": lambda value: _is_text(value) and bool(re.fullmatch(VERSION, value)),
    "schema_version": lambda value: type(value) is int,
    "seed": lambda value: value is None or type(value) is int,
    "subjects": lambda value: _is_table(value, SPLITS, _is_count),
    "queries": lambda value: _is_table(value, SPLITS, lambda types: _is_table(types, QUERY_TYPES, _is_count)),
    "images": lambda value: _is_table(value, SPLITS, _is_count),
    "digest": _is_text,
    "files": lambda value: _is_table(value, None, _is_text),
}
"""A field -> whether a JSON value can be it."""
