"""What a worker is told of a run, and the one function that carries out a unit of it, wherever it is called.

Knows: how a method is loaded, a subject learned, a shard answered.  Does not know: processes, Ray, the other workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prisbench.cluster.schedule import SHARD, SUBJECT, Unit
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.evaluate import tell_before
from prisbench.methods import load_method
from prisbench.predict import learn_one, predict
from prisbench.runs import Kept, RunOptions, Scope
from prisbench.runtime.console import tell
from prisbench.settings import MethodOptions
from prisbench.sharding import parse_shard, shard_of
from prisbench.types import Method

PER_SHARD = 64
"""Queries of a shard, about, where there are many."""

FEWEST, MOST = 8, 1024
"""Shards of a run, as long as there are so many queries.  Their number follows from the queries alone, so that a run
goes on with another number of workers."""


@dataclass(frozen=True)
class Job:
    """A run that is shared: the method by name, and all that decides how it goes, as it can be sent to a process."""

    method: str
    options: MethodOptions
    dataset: Path
    out: Path
    scope: Scope
    run: RunOptions
    out_of_domain: bool = False


def sendable(options: MethodOptions) -> MethodOptions:
    """The options without what belongs to this process alone."""
    return replace(options, progress=None, say=_silent, warn=None, shared={})


def units(job: Job, dataset: Dataset) -> list[Unit]:
    """The subjects that a query is about, then the shards that have an image.  No image is read."""
    subjects = dict[str, None]()
    queries = 0
    for asked in job.scope.asked(dataset):
        subjects[asked.subject_id] = None
        queries += 1
    of = shards_of(queries)
    filled = {shard_of(asked.image_id, of) for asked in job.scope.asked(dataset)}
    return [
        *(Unit(SUBJECT, subject) for subject in subjects),
        *(Unit(SHARD, f"{number}/{of}") for number in sorted(filled)),
    ]


def shards_of(queries: int) -> int:
    """How many shards a run of so many queries has."""
    return max(1, min(queries, max(FEWEST, min(MOST, -(-queries // PER_SHARD)))))


class Carrier:
    """Carries out units of one job in one process: loads the method once and learns no subject twice."""

    def __init__(self, job: Job, device: str, say: Callable[[str], None] = lambda _: None) -> None:
        self.job, self.device, self.say = job, device, say
        self.kept = Kept()
        self._loaded: tuple[Dataset, Method] | None = None

    def carry_out(self, unit: Unit) -> Any:
        """The folder of a shard, as text; nothing of a subject.  Raises as ``predict``."""
        dataset, method = self._load()
        # what an earlier try has answered is kept, also where the user wants to start again
        options = replace(
            self.job.run, seed=self.job.options.seed, kept=self.kept, fresh=self.job.run.fresh and not unit.tried
        )
        if unit.kind == SUBJECT:
            learn_one(dataset, method, self.job.scope, options, unit.name)
            return None
        scope = replace(self.job.scope, shard=parse_shard(unit.name, {}))
        return str(predict(dataset, method, self.job.out, scope, options).folder)

    def _load(self) -> tuple[Dataset, Method]:
        if self._loaded is None:
            dataset = open_dataset(self.job.dataset)
            method = load_method(self.job.method, replace(self.job.options, device=self.device, warn=tell))
            tell_before(dataset, method, self.job.scope.split, self.job.out_of_domain, self.say)
            self._loaded = dataset, method
        return self._loaded


def _silent(_: str) -> None:
    """Says nothing."""
