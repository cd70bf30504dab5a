"""A leaderboard folder with predictions, made on a small dataset; and runs of any size, drawn by lot."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np

from prisbench.datasets.load import open_dataset
from prisbench.evaluate import evaluate
from prisbench.leaderboard.publish import publish
from prisbench.methods import load_method
from prisbench.results import Run
from prisbench.runs import PREDICTIONS
from prisbench.settings import MethodOptions


def make(dataset: Path, folder: Path) -> Path:
    """The folder of result files of two methods without weights on a dataset, below ``folder``."""
    for name in ("whole-image", "center-box"):
        run, record = evaluate(open_dataset(dataset), load_method(name, MethodOptions()), folder / "runs")
        place = publish(run, folder / "boards", record.parent / PREDICTIONS)
    return place.parent


def big(run: Run, n: int, subjects: int = 48) -> Run:
    """The run on ``n`` queries about so many subjects, with counts drawn by lot."""
    rng = np.random.default_rng(n)
    queries = []
    for k in range(n):
        query = run.queries[k % len(run.queries)]
        counts = query.counts
        if counts.truth_area:
            truth, size, both = (int(rng.integers(low, high)) for low, high in ((20, 90), (20, 90), (5, 20)))
            counts = dataclasses.replace(
                counts, truth_area=truth, predicted_area=size, intersection=both, union=truth + size - both
            )
        presence = round(float(rng.random()), 6)
        about = {"query_id": f"{k:016x}", "subject_id": f"mug-{k % subjects:02d}", "pair_id": None}
        queries.append(dataclasses.replace(query, **about, counts=counts, presence=presence))
    return dataclasses.replace(run, queries=tuple(queries))


def block(page: str, name: str) -> str:
    """What a page that draws itself holds under a name."""
    found = re.search(rf'<script type="application/octet-stream" id="{name}">(.*?)</script>', page, re.S)
    assert found, name
    return found[1]
