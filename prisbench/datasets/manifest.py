"""``dataset.json``: what a dataset folder holds, and how to know that it is whole.

Knows: the manifest's fields.  Does not know: how a digest is made, files, rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prisbench.datasets.schema import READABLE, SPLITS
from prisbench.errors import DataError
from prisbench.types import QUERY_TYPES


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
        well_formed = (
            all(isinstance(value[key], str) for key in ("name", "version", "digest"))
            and isinstance(value["seed"], int | None)
            and _is_table(value["subjects"], SPLITS, int)
            and _is_table(value["images"], SPLITS, int)
            and _is_table(value["queries"], SPLITS, dict)
            and all(_is_table(counts, QUERY_TYPES, int) for counts in value["queries"].values())
            and _is_table(value["files"], None, str)
        )
        if not well_formed:
            raise DataError(f"{where} is damaged (a field of the wrong kind); rebuild the dataset")
        return Manifest(**value)


def _is_table(value: Any, keys: tuple[str, ...] | None, kind: type) -> bool:
    """Whether a JSON value is an object with these keys at most and values of one kind."""
    return isinstance(value, dict) and all(
        (keys is None or key in keys) and isinstance(entry, kind) for key, entry in value.items()
    )
