"""The data of ``browse.html``: every query with its scene, its truth and each method's mask.

Knows: cases, counts and predictions, and which words a page needs.  Does not know: how a page looks (``web``), how
pictures are written (``cases``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prisbench.browser.board import LIBRARY, board_data, query_data
from prisbench.browser.bundle import page
from prisbench.browser.cases import PHOTOS, SCENES, Cases
from prisbench.browser.packing import deflated
from prisbench.predictions import PredictionRecord
from prisbench.results import DatasetRef, Run
from prisbench.types import SLOT

BROWSE = (*LIBRARY, "masks.js", "outcomes.js", "figures.js", "clipboard.js", "case.js", "list.js", "browse.js")
STYLES = ("page.css", "browse.css")

Kept = Mapping[int, Sequence[PredictionRecord]]
"""Place of a run among the runs -> its predictions."""


def browse_page(runs: Sequence[Run], cases: Cases, kept: Kept, dataset: DatasetRef) -> str:
    """The page.  Without runs it shows the dataset alone; a run without predictions shows no masks."""
    if runs:
        blocks = board_data(runs, cases.nouns)
        data = {**blocks["data"], "rows": [], "notes": []}
        order = {query_id: n for n, query_id in enumerate(_order(runs))}
        counts = blocks["counts"]
    else:
        about, columns = query_data(dataset, cases.queries, cases.nouns)
        data = {**about, "metric_spec": None, "methods": [], "runs": [], "order": []}
        data["statistics"] = {"draws": 4, "level": 0.95, "fewest": 6, "seed": {"state": "1", "inc": "1"}}
        order = {query_id: n for n, query_id in enumerate(cases.queries)}
        counts = deflated(columns)
    data["cases"] = {"slot": SLOT, "scenes": SCENES, "photos": PHOTOS, "subjects": cases.subjects}
    masks = {f"masks-{n}": _masks(records, order) for n, records in kept.items()}
    name = dataset.id
    return page(
        f"{name} · {'answers' if runs else 'queries'} · prisbench",
        BROWSE,
        STYLES,
        {
            "data": data,
            "counts": counts,
            "shown": deflated(json.dumps(_aligned(cases.shown, cases.queries, order), ensure_ascii=False)),
            "truth": deflated(json.dumps(_aligned(cases.masks, cases.queries, order))),
            **masks,
        },
    )


def _order(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(query.query_id for run in runs for query in run.queries))


def _aligned(values: Sequence[Any], queries: Mapping[str, Any], order: Mapping[str, int]) -> list[Any]:
    """The values in the order of the page's queries; None for a query that the dataset does not have."""
    by_id = dict(zip(queries, values, strict=True))
    return [by_id.get(query_id) for query_id in order]


def _masks(records: Sequence[PredictionRecord], order: Mapping[str, int]) -> str:
    """Run lengths of the answered masks in the order of the page's queries, null for none; deflated."""
    found: list[Any] = [None] * len(order)
    for record in records:
        if record.rle is not None and record.query_id in order:
            found[order[record.query_id]] = record.rle["counts"]
    return deflated(json.dumps(found))
