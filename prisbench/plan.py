"""What a sweep will take, before it starts: trainings, images, hours, memory, disk.

Seconds are measured here, with the method and the dataset that are asked for: a few steps of one training, in a store
of its own that is removed, and the queries about two images.  What is not measured says so.

Knows: how to measure a little and multiply.  Does not know: any method.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prisbench.answers import as_list
from prisbench.bench.process import peak_bytes
from prisbench.cluster.job import shards_of
from prisbench.datasets.load import Dataset
from prisbench.errors import UsageError
from prisbench.methods import load_method
from prisbench.predict import manifest_of
from prisbench.predictions import PredictionRecord, lines_of
from prisbench.runs import run_folder
from prisbench.settings import MethodOptions
from prisbench.split_subjects import SplitSubjects
from prisbench.stored import SharedConcepts, answered_images, are_whole, keeper, known_subjects
from prisbench.sweep import Sweep
from prisbench.types import UNLEARNED, Concept, Method, Subject, WantsSubjects

STEPS = 4
"""Of a training, that are carried out; the first is left out of the mean, since much is set up in it."""

STEPS_SETTING = "learner.steps"

IMAGES = 2
"""That are answered; the first is left out of the mean."""

RECORD_BYTES = 200
"""Of ``run.json`` a query: 196 in the rows of tabletop-v3."""


@dataclass(frozen=True)
class Cost:
    """What one run of a sweep takes.

    ``learn_seconds`` a subject, of which ``steps`` of ``of_steps`` were measured (None: all that there is);
    ``locate_seconds`` an image.  ``query_bytes`` of predictions a query, ``concept_bytes`` a subject.  Of all runs,
    ``known`` subjects are learned and ``answered`` images answered.  ``kept``: whether the method keeps its concepts;
    otherwise every worker learns.
    """

    concept: str
    runs: int
    learned: bool
    learn_seconds: float
    steps: int | None
    of_steps: int | None
    locate_seconds: float
    query_bytes: float
    concept_bytes: int
    known: int = 0
    answered: int = 0
    kept: bool = True


@dataclass(frozen=True)
class Plan:
    """What a sweep takes on ``workers``: counts, seconds of one worker's time, and bytes.

    ``memory_bytes``: resident, at most, while it was measured; of the GPU's memory ``gpu_bytes``, None without one.
    """

    dataset: str
    subjects: int
    images: int
    queries: int
    workers: int
    costs: tuple[Cost, ...]
    memory_bytes: int | None
    gpu_bytes: int | None

    @property
    def trainings(self) -> int:
        """Those that are left."""
        return sum(self._trainings(cost) for cost in self.costs if cost.learned)

    def _trainings(self, cost: Cost) -> int:
        """What is left to learn; where no concept is kept, by each worker."""
        return (cost.runs * self.subjects - cost.known) * (1 if cost.kept else self.workers)

    @property
    def work_seconds(self) -> float:
        """Of all workers together, for what is left."""
        return sum(
            self._trainings(cost) * cost.learn_seconds + (cost.runs * self.images - cost.answered) * cost.locate_seconds
            for cost in self.costs
        )

    @property
    def wall_seconds(self) -> float:
        """From beginning to end: subjects and shards are shared as they are, none is cut in two."""
        if self.workers == 1:
            return self.work_seconds
        shards = shards_of(self.queries)
        locate = -(-shards // self.workers) * self.images / shards
        total = 0.0
        for cost in self.costs:
            left = -(-(cost.runs * self.subjects - cost.known) // cost.runs)
            learn = -(-left // self.workers) if cost.kept else left
            unanswered = 1 - cost.answered / (cost.runs * self.images)
            total += cost.runs * (learn * cost.learn_seconds + locate * unanswered * cost.locate_seconds)
        return total

    @property
    def disk_bytes(self) -> float:
        copies = 1 if self.workers == 1 else 2  # the shards', and the run's
        answers = sum(cost.runs * self.queries * (copies * cost.query_bytes + RECORD_BYTES) for cost in self.costs)
        return answers + sum(cost.runs * self.subjects * cost.concept_bytes for cost in self.costs)


def make_plan(sweep: Sweep, dataset: Dataset, workers: int, say: Callable[[str], None] = lambda _: None) -> Plan:
    """Measure a little of each of the sweep's concepts, the seeds being alike.  Nothing that is made is kept.

    Raises UsageError where there is no query, and what the method raises.
    """
    subjects, images, queries = set[str](), set[str](), 0
    for asked in sweep.scope.asked(dataset):
        subjects.add(asked.subject_id)
        images.add(asked.image_id)
        queries += 1
    if not queries:
        raise UsageError(f"{dataset.id} has no such queries in its {sweep.scope.split} split; there is nothing to plan")
    by_concept: dict[str | None, list[MethodOptions]] = {}
    for options in sweep.wanted:
        by_concept.setdefault(options.concept, []).append(options)
    costs = tuple(_measured(sweep, dataset, same, workers, say) for same in by_concept.values())
    return Plan(
        dataset.id,
        len(subjects),
        len(images),
        queries,
        workers,
        costs,
        peak_bytes(),
        _gpu_bytes(sweep.wanted[0].device),
    )


def _measured(
    sweep: Sweep, dataset: Dataset, same: Sequence[MethodOptions], workers: int, say: Callable[[str], None]
) -> Cost:
    with tempfile.TemporaryDirectory(prefix="prisbench-plan-") as store:
        options = replace(same[0], store=store, spare=None, say=say, warn=say)
        method, of_steps = _shortened(sweep.method, options)
        examples = list(itertools.islice(sweep.scope.examples(dataset), 200))
        ids = list(dict.fromkeys(example.image_id for example in examples))[:IMAGES]
        chosen = [[example for example in examples if example.image_id == id] for id in ids]
        wanted = {example.query.subject_id for group in chosen for example in group}
        everybody = SplitSubjects(dataset, sweep.scope.split, sweep.run.reference, sweep.run.deaf)
        if isinstance(method, WantsSubjects):
            method.subjects = everybody
        learned: dict[str, Concept] = {}
        seconds: list[float] = []
        for id, subject in everybody.of(sorted(wanted)).items():
            learned[id], took = _learn(method, subject, of_steps)
            seconds.append(took)
        times: list[float] = []
        lines: list[int] = []
        for group in chosen:
            start = time.perf_counter()
            asked = [example.query for example in group]
            answers = as_list(method.name, method.locate(group[0].image.copy(), asked, learned))
            times.append(time.perf_counter() - start)
            lines += [len(lines_of([PredictionRecord.of(answer)])) for answer in answers]
        concept = next(iter(learned.values()))
        return Cost(
            concept.learner,
            len(same),
            concept.learner not in UNLEARNED,
            min(seconds),
            None if of_steps is None else min(STEPS, of_steps),
            of_steps,
            times[-1],
            sum(lines) / len(lines),
            max(sum(tensor.nbytes for tensor in each.tensors.values()) for each in learned.values()),
            *_stored(sweep, dataset, same, concept.learner, everybody, workers),
            keeper(method) is not None or are_whole(method),
        )


def _stored(
    sweep: Sweep,
    dataset: Dataset,
    same: Sequence[MethodOptions],
    learner: str,
    everybody: SplitSubjects,
    workers: int,
) -> tuple[int, int]:
    """Of the runs of one learner: subjects whose concepts are kept, images that are answered."""
    asked = list(sweep.scope.asked(dataset))
    subjects = {query.subject_id for query in asked}
    known = answered = 0
    for options in same:
        method = load_method(sweep.method, replace(options, warn=lambda _: None))
        run = replace(sweep.run, seed=options.seed)
        shared = None
        if are_whole(method) and workers > 1:
            shared = SharedConcepts(method, manifest_of(dataset, method, sweep.scope, run))
        if shared is not None or keeper(method) is not None:
            known += known_subjects(method, everybody.of(subjects).values(), everybody, shared)
        folder = run_folder(sweep.out, dataset, method, learner, sweep.scope, run)
        if folder.is_dir():
            manifest = {**manifest_of(dataset, method, sweep.scope, run), "concept": learner, "concepts": {}}
            answered += answered_images(folder, manifest, asked, run.keep_errors)
    return known, answered


class _Clock:
    """Notes when steps end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def __call__(self, step: int, steps: int, loss: float) -> None:
        self.ends.append(time.perf_counter())

    def step_seconds(self) -> float | None:
        if len(self.ends) < 2:
            return None
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def _shortened(name: str, options: MethodOptions) -> tuple[Method, int | None]:
    """The method with few steps of learning, and how many it has by itself; None where it says nothing of steps."""
    method = load_method(name, replace(options, progress=_Clock()))
    learner: Any = method.settings.get("learner")
    steps = learner.get("steps") if isinstance(learner, dict) else None
    if not isinstance(steps, int) or steps <= STEPS:
        return method, None
    fewer = {**options.settings, STEPS_SETTING: STEPS}
    # whether the method shows that setting is no matter here
    return load_method(name, replace(options, settings=fewer, progress=_Clock(), warn=lambda _: None)), steps


def _learn(method: Method, subject: Subject, of_steps: int | None) -> tuple[Concept, float]:
    """A concept of few steps, and the seconds that all of them would take."""
    start = time.perf_counter()
    clock = _clock_of(method)
    if clock is not None:
        clock.ends.clear()
    concept = method.learn(subject)
    seconds = time.perf_counter() - start
    step = None if clock is None else clock.step_seconds()
    if of_steps is None or step is None:
        return concept, seconds
    return concept, seconds + (of_steps - STEPS) * step


def _clock_of(method: Any) -> _Clock | None:
    """The clock that the method was given, wherever it keeps it."""
    for each in (method, *vars(method).values()):
        clock = getattr(each, "progress", None)
        if isinstance(clock, _Clock):
            return clock
    return None


def _gpu_bytes(device: str) -> int | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def lines_of_plan(plan: Plan, out: Path) -> list[str]:
    """A plan to read."""
    runs = sum(cost.runs for cost in plan.costs)
    lines = [
        f"{plan.dataset}: {plan.subjects} subjects, {plan.images} images, {plan.queries} queries; {runs} runs, "
        f"{plan.trainings} trainings"
    ]
    for cost in plan.costs:
        how = "" if cost.of_steps is None else f" ({cost.steps} of {cost.of_steps} steps measured)"
        learn = f"{_duration(cost.learn_seconds)} a subject{how}" if cost.learned else "nothing to learn"
        there = [f"{cost.known} concepts"] if cost.known else []
        there += [f"answers about {cost.answered} images"] if cost.answered else []
        already = f"; there already: {' and '.join(there)}" if there else ""
        lines.append(
            f"  {cost.concept}, {cost.runs} seed{'s' * (cost.runs > 1)}: {learn}, {_duration(cost.locate_seconds)} an "
            f"image, {_size(cost.concept_bytes)} a concept{already}"
        )
        if cost.learned and not cost.kept and plan.workers > 1:
            lines.append("    no concept is kept on disk, so each worker learns the subjects that it answers about")
    memory = "unknown" if plan.memory_bytes is None else _size(plan.memory_bytes)
    gpu = "" if plan.gpu_bytes is None else f", {_size(plan.gpu_bytes)} of the GPU's"
    return [
        *lines,
        f"work: {_duration(plan.work_seconds)} of one worker",
        f"time: {_duration(plan.wall_seconds)} with {plan.workers} worker{'s' * (plan.workers > 1)}",
        f"memory: {memory}{gpu} for each worker, at most so far",
        f"disk: {_size(plan.disk_bytes)} in {out} and in the store of concepts, soft maps not counted",
    ]


def record_of_plan(plan: Plan) -> dict[str, Any]:
    """The same for programs: seconds and bytes."""
    own = {key: value for key, value in vars(plan).items() if key != "costs"}
    more = {name: getattr(plan, name) for name in ("trainings", "work_seconds", "wall_seconds", "disk_bytes")}
    return {**own, **more, "costs": [dict(vars(cost)) for cost in plan.costs]}


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _size(count: int | float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
