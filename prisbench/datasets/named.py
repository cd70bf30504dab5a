"""Datasets by name: ``tabletop-v1`` is drawn into the cache on first use; anything else is a folder.

Knows: which names there are and where their data lies.  Does not know: how scenes are drawn or rows are stored.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from prisbench.datasets.build import Progress, write_dataset
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import MANIFEST, Manifest
from prisbench.datasets.sources import tabletop
from prisbench.errors import DataError, UnknownNameError
from prisbench.files import cache_folder

NAMES = ("tabletop-v1",)

TABLETOP_CARD = """# Tabletop

A generated world for personalized referring image segmentation: things on a table, exact visible masks, subjects that
a text-to-image model trained on the rest of this world has never seen.  Drawn by `prisbench build-dataset tabletop`;
the same seed gives the same content.  The long card is `data_cards/tabletop-v1.md` in the prisbench repository.
"""


def build_tabletop(
    folder: str | os.PathLike[str],
    subjects: Mapping[str, int] | None = None,
    queries_each: Mapping[str, int] | None = None,
    seed: int = tabletop.SEED,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Draw a Tabletop set into a folder.  The defaults make ``tabletop-v1``, others ``tabletop-custom-v1``."""
    custom = subjects is not None or queries_each is not None or seed != tabletop.SEED
    table, queries = tabletop.rows(
        dict(subjects) if subjects else None, dict(queries_each) if queries_each else None, seed
    )
    name = "tabletop-custom" if custom else "tabletop"
    return write_dataset(
        folder, name, tabletop.VERSION, table, queries, TABLETOP_CARD, progress, seed=seed, overwrite=overwrite
    )


def find_dataset(name: str, progress: Progress | None = None) -> Dataset:
    """A dataset by name or folder; a named one that is not in the cache yet is drawn there first.

    Raises UnknownNameError, with the nearest name, when it is neither; DataError when the folder is damaged, or when
    the named one in the cache is not what this version draws.
    """
    if Path(name).is_dir():
        return open_dataset(name)
    if name not in NAMES:
        raise UnknownNameError("dataset (or no such folder)", name, NAMES)
    folder = cache_folder() / "datasets" / name
    if not (folder / MANIFEST).is_file():
        build_tabletop(folder, progress=progress)
    dataset = open_dataset(folder)
    if dataset.digest != tabletop.DIGEST:
        raise DataError(
            f"{folder} has the digest {dataset.digest[:16]}, {name} of this prisbench {tabletop.DIGEST[:16]}; "
            "remove that folder and it is drawn again"
        )
    return dataset
