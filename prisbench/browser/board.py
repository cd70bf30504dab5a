"""The data of ``board.html``: counts of every answer, what is known of the methods, and the rows of all queries.

Knows: rows and counts, and which words a page needs.  Does not know: how a page looks (``web``), masks, images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prisbench.browser.answers import About, queries_of, query_columns, run_columns
from prisbench.browser.bundle import page
from prisbench.browser.packing import deflated
from prisbench.errors import DataError
from prisbench.leaderboard.intervals import COUNTED, WITH_INTERVAL, marked
from prisbench.leaderboard.render import named, notes
from prisbench.leaderboard.rows import SCORES, records_of, rows, shown_columns
from prisbench.leaderboard.strength import is_weak, own_task_of
from prisbench.out_of_domain import TOLERATED
from prisbench.own_task import LEAST
from prisbench.results import REFERENCES, DatasetRef, Run
from prisbench.statistics import DRAWS, FEWEST_SUBJECTS, LEVEL, SEED
from prisbench.subsets import subsets_in

LIBRARY = ("draws.js", "statistics.js", "metrics.js", "rows.js", "unpack.js", "dom.js", "state.js", "filters.js")
"""What both pages are made of, in the order in which they need each other."""

BOARD = (*LIBRARY, "columns.js", "charts.js", "clipboard.js", "copying.js", "table.js", "sections.js", "board.js")
STYLES = ("page.css", "board.css")

SIZES = (("small", 0.03), ("medium", 0.1), ("large", math.inf))
"""How much of its scene a referent covers: less than 3 %, less than 10 %, more."""

_MORE = (
    ("presence_auc", "presence AUC", "the chance that the presence score of a query with a referent is above that of "
     "one without; 0.5 is guessing", True),
    ("aurc", "AURC", "the mean risk (1 - IoU) of the surest answers, over all shares of them: how much is wrong when "
     "only sure answers are taken", False),
    ("gain_over_noun", "gain over noun", "mIoU of a learned concept minus that of the noun alone, query by query",
     True),
)  # fmt: skip


def board_data(runs: Sequence[Run], nouns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The blocks of the page but for extras: ``data``, and ``counts`` as packed columns.

    ``nouns``: subject id -> class word, where the dataset is at hand.  Raises DataError as ``rows.rows``, and without
    runs.
    """
    if not runs:
        raise DataError("a leaderboard needs at least one run")
    frame, queries = rows(runs), queries_of(runs)
    groups, records = _groups(runs), records_of(frame)
    packs = [run_columns(run, queries) for run in runs]
    about, columns = query_data(runs[0].dataset, queries, nouns)
    data = {
        **about,
        "metric_spec": runs[0].metric_spec,
        "spec1": runs[0].metric_spec == "1",
        "headline": runs[0].metric_spec != "1",
        "statistics": {"draws": DRAWS, "level": LEVEL, "fewest": FEWEST_SUBJECTS, "seed": _seed()},
        "methods": [_method(key, group, records) for key, group in groups.items()],
        "runs": [
            {"method": list(groups).index(_key(run)), "seed": run.seed, "columns": heads}
            for run, (heads, _) in zip(runs, packs, strict=True)
        ],
        "order": [_place(groups, record) for record in records],
        "columns": _columns(frame),
        "rows": [_first_row(record) for record in records],
        "tolerated": TOLERATED,
        "least_own_task": LEAST,
        "notes": notes(frame),
    }
    return {"data": data, "counts": deflated(columns + b"".join(packed for _, packed in packs))}


def query_data(
    dataset: DatasetRef, queries: Mapping[str, About], nouns: Mapping[str, str] | None
) -> tuple[dict[str, Any], bytes]:
    """What both pages say of a dataset and its queries, and the queries' columns."""
    about, columns = query_columns(queries)
    kinds = [_Kind(query.query_type, query.grade) for query in queries.values()]
    named_nouns = None if nouns is None else [nouns.get(subject, "") for subject in about["subjects"]]
    data = {
        "dataset": vars(dataset),
        "sizes": [{"name": name, "below": None if math.isinf(end) else end} for name, end in SIZES],
        "subsets": subsets_in(kinds),
        "queries": {**about, "nouns": named_nouns},
    }
    return data, columns


@dataclass(frozen=True)
class _Kind:
    query_type: str
    grade: str | None


def board_page(blocks: Mapping[str, Any]) -> str:
    """The page of ``board_data``."""
    data = blocks["data"]["dataset"]
    return page(f"{data['name']} {data['version']} · prisbench leaderboard", BOARD, STYLES, blocks)


def _seed() -> dict[str, str]:
    """The state of the generator of the draws, for the page's own."""
    state: Any = np.random.default_rng(SEED).bit_generator.state["state"]
    return {name: format(value, "x") for name, value in state.items()}


def _key(run: Run) -> str:
    return f"{run.method} / {marked(run.concept, run.reference)}"


def _place(groups: Mapping[str, Sequence[Run]], record: Mapping[str, Any]) -> int:
    """The place of a row's method among the methods."""
    which = record["method"], record["concept"], record.get("reference")
    return next(n for n, group in enumerate(groups.values()) if _which(group[0]) == which)


def _which(run: Run) -> tuple[str, str, str | None]:
    return run.method, run.concept, run.reference if run.metric_spec != "1" else None


def _groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    return groups


def _method(key: str, group: Sequence[Run], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a page says of a method; ``key`` is its name in ties, as ``rows`` has it."""
    run = group[0]
    masks = f" / {run.reference}" if run.reference == REFERENCES[1] else ""
    row = next(row for row in records if (row["method"], row["concept"], row.get("reference")) == _which(run))
    return {
        "key": f"{run.method} / {run.concept}{masks}",
        "label": key,
        "method": run.method,
        "concept": run.concept,
        "shown": named({**vars(run), "seeds": [each.seed for each in group]}),
        "reference": run.reference,
        "weights": bool(run.backbone or run.identity.get("weights")),
        "backbone": run.backbone,
        "partial": any(each.part.left_out for each in group),
        "weak": any(is_weak(each) for each in group),
        "own_task": None if (own := own_task_of(run)) is None else own.words,
        "seconds": row["seconds_per_image"],
        "outside": row["out_of_domain"] or 0,
        "created": run.created,
        "machine": f"{run.environment.machine}, {run.environment.cpu_count} cores",
    }


def _columns(frame: Any) -> list[dict[str, Any]]:
    """The numbers of the table, in order; ``interval`` where a row has one."""
    found = [(each.name, each.label, each.meaning, each.higher_is_better) for each in shown_columns(frame)]
    found += [more for more in _MORE if more[0] in frame.columns and frame[more[0]].notna().any()]
    with_interval = {*WITH_INTERVAL, *COUNTED, "presence_mcc"}
    heads = ("name", "label", "meaning", "higher", "interval")
    return [dict(zip(heads, (*column, column[0] in with_interval), strict=True)) for column in found]


def _first_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row of all queries, as the page shows it first; later ones it computes itself."""
    kept = ("method", "concept", "reference", "tier", "n", "n_subjects", "n_errors")
    row = {name: record.get(name) for name in kept}
    numbers = [name for name in record if f"{name}_ci" in record or f"{name}_n" in record or name in SCORES.values()]
    row["values"] = {name: [record[name], record.get(f"{name}_ci")] for name in dict.fromkeys((*numbers, "aurc"))
                     if record.get(name) is not None}  # fmt: skip
    return row
