"""A look at a dataset: one sheet of pictures (PNG), and one page (HTML) that works from disk and fetches nothing.

Both show the same queries: the photos of a subject and, beside them, scenes with the subject and its look-alikes
outlined.  Knows: how a page is put together, and that nothing of a dataset may run in it.  Does not know: which queries
are shown (``choose``), how they are drawn (``picture``, ``sheet``), whether they are right (``validate``).

All pictures together are shrunk and every text is cut, so the page stays below 30 MB whatever is in the dataset; forty
queries of a usual set make 1 to 3 MB.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from prisbench.datasets.load import Dataset
from prisbench.datasets.show.choose import Block, Totals, blocks, side_by_side
from prisbench.datasets.show.picture import OutlinedPicture, shown
from prisbench.datasets.show.sheet import counts, draw_sheet
from prisbench.errors import UnknownNameError, UsageError
from prisbench.images.drawing import png
from prisbench.runtime.files import write_bytes, write_text
from prisbench.subsets import check_subset
from prisbench.types import QUERY_TYPES, SLOT

MOST = 400
"""Queries at a time; more than anybody looks at."""


class Shown(NamedTuple):
    """What was written."""

    sheet: Path
    page: Path


def show(
    dataset: Dataset,
    out: str | os.PathLike[str],
    split: str = "test",
    limit: int = 40,
    subset: str | None = None,
    subject: str | None = None,
) -> Shown:
    """Write ``sheet.png`` and ``page.html`` into the folder ``out``.

    ``limit`` queries are chosen, evenly over the subjects and over the query types; ``subset`` keeps one of
    ``subsets.SUBSETS``, ``subject`` one subject (``Dataset.find_subjects``).  The same dataset and choice give
    the same files.

    Raises UsageError for a limit outside 1..MOST, UnknownNameError for a split, subset or subject, DataError for a
    choice that leaves nothing and for a damaged row, WriteError.
    """
    if not 1 <= limit <= MOST:
        raise UsageError(f"a limit of {limit} queries: give 1 to {MOST}, and choose with --subset or --subject")
    check_subset(subset)
    if split not in dataset.splits:
        raise UnknownNameError(f"split of {dataset.id}", split, dataset.splits)
    subjects, totals = blocks(dataset, split, limit, subset, subject)
    folder, title = Path(out), f"{shown(dataset.id)}, {split} split"
    sheet = write_bytes(folder / "sheet.png", png(draw_sheet(subjects, totals, title)))
    page = write_text(folder / "page.html", render_page(subjects, totals, title, dataset.digest))
    return Shown(sheet, page)


def render_page(subjects: Sequence[Block], totals: Totals, title: str, digest: str) -> str:
    """The whole page.  Every text in it is escaped; its policy forbids to fetch anything or run another script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "policy_hash": _policy_hash,
        "side_by_side": side_by_side,
        "parts": _parts,
        "photo_uri": _photo_uri,
        "lines_uri": _lines_uri,
    }
    types = {query.query_type for block in subjects for query in block.queries}
    return environment.get_template("page.html.j2").render(
        title=title,
        digest=digest,
        counts=counts(subjects, totals),
        blocks=subjects,
        types=[kind for kind in QUERY_TYPES if kind in types],
        slot=SLOT,
    )


def _policy_hash(text: str) -> str:
    """How a Content-Security-Policy names a piece of the page itself."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _parts(text: str) -> tuple[str, str, str]:
    """The text before the slot, the slot, the text after it."""
    return text.partition(SLOT)


def _photo_uri(picture: OutlinedPicture) -> str:
    out = io.BytesIO()
    Image.fromarray(picture.image).save(out, format="WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _lines_uri(overlay: UInt8[np.ndarray, "h w 4"]) -> str:
    """The outlines alone, on nothing: a palette is enough, and a quarter of the bytes."""
    out = io.BytesIO()
    Image.fromarray(overlay).quantize(16, Image.Quantize.FASTOCTREE).save(out, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
