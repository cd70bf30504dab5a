"""What a source hands to the writer: a set's name, what identifies it, and its rows, read one at a time.

Knows: the seam between the files of ``sources/`` and ``build``.  Does not know: any layout, Parquet.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.types import SLOT, Thing

DEFAULT_TEXT = f"a photo of the {SLOT}"
"""The text of a query where a set has none of its own."""


@dataclass(frozen=True)
class Source:
    """A set ready to be written.

    ``about`` is the Markdown under the front matter of the folder's README.  ``key`` is a sha256 of all that decides
    the rows (settings; names, sizes and times of files): an interrupted build goes on only with the same key.
    ``queries(n)`` starts at the n-th query, cheaply: skipped scenes are not read.  ``n_subjects`` and ``n_queries`` are
    for the progress bar, None when only reading tells.  ``left_out`` counts the records that rows cannot express,
    by reason; it may grow while rows are read, but ``queries(n)`` adds nothing for what lies before the n-th query.
    ``warnings``: a line for each thing that was read in one way and may have been meant in another.
    ``remarks`` is what the user should know of files that were read; it grows while rows are read.
    """

    name: str
    version: str
    about: str
    key: str
    subjects: Callable[[], Iterator[SubjectRow]]
    queries: Callable[[int], Iterator[QueryRow]]
    n_subjects: int | None = None
    n_queries: int | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    seed: int | None = None
    warnings: tuple[str, ...] = ()
    remarks: Remarks = field(default_factory=Remarks)


def split_of(subject: str, validation_share: float) -> str:
    """ "validation" or "test" for a subject's own name in its set: the same whatever else the set holds."""
    place = int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big") / 2**64
    return "validation" if place < validation_share else "test"


def with_others(row: QueryRow, others: Iterable[tuple[Bool[np.ndarray, "h w"], str | None]]) -> QueryRow:
    """The row with further things of its scene, each a mask and a class word, None where nobody named it; those that
    are not visible are left out.
    """
    more = tuple(Thing(mask, noun, "other") for mask, noun in others if mask.any())
    return replace(row, things=(*row.all_things, *more), meant=row.meant_thing) if more else row


def kind_of_scene(look_alikes: int, others: int) -> str:
    """The query type of a scene that shows the subject among so many things of its noun and so many of others."""
    if look_alikes:
        return "look-alike"
    return "other-category" if others else "plain"
