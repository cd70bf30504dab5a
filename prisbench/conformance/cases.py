"""The golden cases of metric spec 2: masks small enough for a pencil, and what must come out.

``cases.json`` lies beside this file.  Its numbers were worked out by hand or by a slow implementation that shares no
code with this package (``tests/naive_metrics.py``), never by this package.

Knows: the form of the cases, and how to have this package answer them.  Does not know: other implementations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Bool

from prisbench.aliases import ELSEWHERE, foreground_background_iou
from prisbench.counts import Answer, Counts, Truth, count
from prisbench.metrics import METRICS, mean
from prisbench.pairs import pair_accuracy
from prisbench.presence import presence_mcc, presence_roc, risk_coverage
from prisbench.soft_maps import soft_average_precision

Number = bool | int | float | None
Numbers = dict[str, dict[str, Number]]
"""Name of a case or a set -> name of a number -> the number."""


@dataclass(frozen=True)
class SetQuery:
    """A case as a query of a set: what numbers over several queries need to know of it besides its counts."""

    query_id: str
    subject_id: str
    query_type: str
    counts: Counts
    presence: float | None
    pair_id: str | None


def text() -> str:
    """``cases.json`` as it is."""
    return resources.files(__package__).joinpath("cases.json").read_text(encoding="utf-8")


def load() -> dict[str, Any]:
    """The cases: ``metric_spec``, ``about``, and lists under ``cases``, ``sets`` and ``soft_maps``."""
    loaded: dict[str, Any] = json.loads(text())
    return loaded


def expected(golden: Mapping[str, Any]) -> dict[str, Numbers]:
    """What must come out, under ``cases``, ``sets`` and ``soft_maps``; fractions such as "7/12" become floats."""
    return {
        part: {each["name"]: {key: _number(value) for key, value in each["expected"].items()} for each in golden[part]}
        for part in ("cases", "sets", "soft_maps")
    }


def ours(golden: Mapping[str, Any]) -> dict[str, Numbers]:
    """What this package makes of the cases, in the same form."""
    cases = {case["name"]: case for case in golden["cases"]}
    counted = {name: count_case(case) for name, case in cases.items()}
    return {
        "cases": {name: dict(vars(counts)) for name, counts in counted.items()},
        "sets": {
            each["name"]: set_numbers([_query(member, cases, counted, n) for n, member in enumerate(each["queries"])])
            for each in golden["sets"]
        },
        "soft_maps": {
            each["name"]: {
                "average_precision": soft_average_precision(
                    np.array(each["score"], dtype=np.uint8), drawn(each["truth"], np.shape(each["score"]))
                )
            }
            for each in golden["soft_maps"]
        },
    }


def count_case(case: Mapping[str, Any]) -> Counts:
    """This package's counts of a case."""
    size = case["size_hw"]
    peak = case.get("peak_yx")
    return count(
        Answer(
            mask=None if case["prediction"] is None else drawn(case["prediction"], size),
            peak_yx=None if peak is None else (peak[0], peak[1]),
            failed=case.get("failed", False),
        ),
        Truth(
            query_id=case["name"],
            query_type=case["query_type"],
            mask=drawn(case["truth"], size),
            look_alikes=tuple(drawn(each, size) for each in case.get("look_alikes", [])),
            bystanders=tuple(drawn(each, size) for each in case.get("bystanders", [])),
            candidates=case["candidates"],
        ),
    )


def set_numbers(queries: Sequence[SetQuery]) -> dict[str, Number]:
    """Every number over several queries, by name."""
    counts = [query.counts for query in queries]
    numbers: dict[str, Number] = {}
    for name, metric in (METRICS | ELSEWHERE).items():
        found = mean(metric, counts)
        numbers |= {name: found.value, f"{name}_n": found.n, f"{name}_n_undefined": found.n_undefined}
    numbers["fb_iou"] = foreground_background_iou(counts).value
    for part, negatives in (
        ("", ("absent", "contradicted")),
        ("_absent", ("absent",)),
        ("_contradicted", ("contradicted",)),
    ):
        mcc, curve = presence_mcc(queries, negatives), presence_roc(queries, negatives)
        numbers[f"presence_mcc{part}"] = None if mcc is None else mcc.value
        numbers[f"presence_auc{part}"] = None if curve is None else curve.auc
    risk = risk_coverage(queries)
    numbers["aurc"] = None if risk is None else risk.aurc
    for part, kind in (("", None), ("_referred", "referred"), ("_contradicted", "contradicted")):
        pairs = pair_accuracy([queries], kind)
        numbers |= {f"pair_accuracy{part}": pairs.value, f"pair_chance{part}": pairs.chance}
        numbers |= {f"pair_n{part}": pairs.n, f"pair_n_undefined{part}": pairs.n_undefined}
    return numbers


def drawn(mask: Sequence[Any], size_hw: Sequence[int]) -> Bool[np.ndarray, "h w"]:
    """A mask from its rows of text ("#" inside) or its boxes [top, left, bottom, right], the last two excluded."""
    out = np.zeros(tuple(size_hw), dtype=bool)
    for row, part in enumerate(mask):
        if isinstance(part, str):
            out[row] = [character == "#" for character in part]
        else:
            top, left, bottom, right = part
            out[top:bottom, left:right] = True
    return out


def _query(member: Mapping[str, Any], cases: Mapping[str, Any], counted: Mapping[str, Counts], n: int) -> SetQuery:
    name = member["case"]
    return SetQuery(
        query_id=str(n),
        subject_id=member.get("subject", "a"),
        query_type=cases[name]["query_type"],
        counts=counted[name],
        presence=member.get("presence"),
        pair_id=member.get("pair"),
    )


def _number(value: Any) -> Number:
    if isinstance(value, str):
        above, below = value.split("/")
        return int(above) / int(below)
    number: Number = value
    return number
