"""A run carried out by several workers and merged: the same record as of one process.

Knows: the order of things.  Does not know: who the workers are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prisbench.cluster.job import Job, units
from prisbench.cluster.merge import merge
from prisbench.cluster.schedule import SHARD, SUBJECT, Unit, Workers, carry_out
from prisbench.datasets.load import Dataset
from prisbench.errors import UsageError
from prisbench.predict import Progress
from prisbench.results import Run

STAGES = {SUBJECT: "learn", SHARD: "locate"}


def evaluate_shared(
    job: Job,
    dataset: Dataset,
    workers: Callable[[Job], Workers],
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Run, Path]:
    """As ``evaluate.evaluate``; ``progress`` counts subjects, then shards.

    Raises UsageError where there is no query, as ``schedule.carry_out``, and as ``merge``.
    """
    todo = units(job, dataset)
    if not todo:
        kind = f" of the subset {job.scope.subset!r}" if job.scope.subset else ""
        raise UsageError(f"{dataset.id} has no queries{kind} in its {job.scope.split} split")
    total, so_far = Counter(unit.kind for unit in todo), Counter[str]()
    folders: list[Path] = []

    def done(unit: Unit, value: Any) -> None:
        so_far[unit.kind] += 1
        if unit.kind == SHARD:
            folders.append(Path(value))
        progress(STAGES[unit.kind], so_far[unit.kind], total[unit.kind], unit.name)

    team = workers(job)
    try:
        carry_out(team, todo, done, say)
    finally:
        team.close()
    merged = merge(folders, dataset, fresh=job.run.fresh)
    return merged.run, merged.path
