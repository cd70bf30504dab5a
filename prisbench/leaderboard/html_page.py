"""The leaderboard as one HTML file that works from disk: tables, definitions, a gallery; nothing is fetched.

Knows: rows and images as bytes.
Does not know: how the images were drawn, or where the file goes.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from prisbench.errors import DataError
from prisbench.leaderboard.by_subset import subset_head, subset_table
from prisbench.leaderboard.ceilings import HEADING, Ceilings, ceiling_notes, ceiling_rows, subsets_of
from prisbench.leaderboard.render import cell, named, notes, render
from prisbench.leaderboard.rows import HEADLINE, SCORES, Column, queries_within, records_of, rows, shown_columns
from prisbench.results import Run
from prisbench.subsets import subsets_in


class Overlay(NamedTuple):
    """A picture of the gallery; ``image`` is an encoded PNG, WebP or JPEG, ``caption`` says what it shows."""

    title: str
    caption: str
    image: bytes


def render_page(runs: Sequence[Run], gallery: Sequence[Overlay] = (), ceilings: Ceilings | None = None) -> str:
    """The whole page.  Every text in it is escaped.

    Raises DataError as ``rows.rows``, without runs, and for a gallery image of another kind.
    """
    if not runs:
        raise DataError("a leaderboard needs at least one run")
    subsets = [None, *subsets_in(queries_within(runs, None))]
    everything = rows(runs)
    columns = shown_columns(everything)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        dataset=runs[0].dataset,
        metric_spec=runs[0].metric_spec,
        metrics={column.name: column for column in columns},
        tables=[_table(runs, subset, columns) for subset in subsets],
        by_subset=_by_subset(records_of(everything)),
        ceilings=_ceilings(ceilings, runs),
        gallery=[{"title": each.title, "caption": each.caption, "uri": _data_uri(each)} for each in gallery],
    )


def gallery_in(folder: Path) -> list[Overlay]:
    """The PNG files of a folder, in the order of their names, each under its name."""
    return [Overlay(path.stem, path.stem.replace("-", " "), path.read_bytes()) for path in sorted(folder.glob("*.png"))]


def _table(runs: Sequence[Run], subset: str | None, columns: Sequence[Column]) -> dict[str, Any]:
    """What the template shows of one subset, and the files behind its two download buttons."""
    frame = rows(runs, subset)
    columns = [column for column in columns if subset is None or column != HEADLINE]
    lines = []
    for record in records_of(frame):
        cells = [_cell(record[column.name], record.get(f"{column.name}_ci")) for column in columns]
        lines.append({**record, "named": named(record), "cells": cells})
    name = subset or "all"
    return {
        "name": name,
        "columns": columns,
        "lines": lines,
        "notes": notes(frame),
        "files": {"csv": render(frame, "csv"), "json": render(frame, "json")},
    }


def _by_subset(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What the template shows of the headline and the subsets it is the mean of; None where nobody has one."""
    table = subset_table(records)
    if table is None:
        return None
    lines = []
    for record in table.records:
        cells = [_cell(record["headline"], record["headline_ci"])]
        cells += [_cell(record[SCORES[subset]]) for subset in table.subsets]
        lines.append({**record, "named": named(record), "cells": cells})
    return {"heads": [subset_head(subset) for subset in table.subsets], "lines": lines, "notes": table.notes}


def _ceilings(ceilings: Ceilings | None, runs: Sequence[Run]) -> dict[str, Any] | None:
    """What the template shows of ceilings and floors; None where no ceilings are known."""
    if ceilings is None:
        return None
    found = ceiling_rows(ceilings, runs)
    subsets = subsets_of(found)
    lines = [
        {
            **row._asdict(),
            "cells": [_cell(row.headline, row.headline_ci), *(_cell(row.by_subset.get(s)) for s in subsets)],
        }
        for row in found
    ]
    notes_below = ceiling_notes(ceilings, found)
    return {"title": HEADING, "heads": [subset_head(each) for each in subsets], "lines": lines, "notes": notes_below}


def _cell(value: float | None, ci: Sequence[float] | None = None) -> dict[str, Any]:
    return {"text": cell(value, ci), "value": value, "ci": ci}


def _data_uri(overlay: Overlay) -> str:
    head = overlay.image[:12]
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = "png"
    elif head[:4] == b"RIFF" and head[8:] == b"WEBP":
        kind = "webp"
    elif head.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    else:
        raise DataError(f"gallery image {overlay.title!r} is not PNG, WebP or JPEG")
    return f"data:image/{kind};base64,{base64.b64encode(overlay.image).decode('ascii')}"
