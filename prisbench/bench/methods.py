"""Every method on the same few scenes: seconds an image, what of them is the network, memory, and what several scenes
at once bring to those that can look ahead; a process for each.

Knows: how a run is made, hooks of torch's modules.  Does not know: any method.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.bench.process import in_a_process, peak_bytes
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.spread import spread_subjects
from prisbench.errors import PrisbenchError, UsageError
from prisbench.evaluate import evaluate
from prisbench.methods import check_options, load_method
from prisbench.results import REFERENCES, Run
from prisbench.runs import RunOptions, Scope
from prisbench.settings import MethodOptions
from prisbench.types import LooksAhead

CONCEPT = "noun-only"
"""For methods with concepts: what answering costs does not depend on what was learned, and learning takes minutes."""


AT_ONCE = 8
"""Scenes that are shown together to a method that can look ahead."""


@dataclass(frozen=True)
class MethodJob:
    """One method on one part of a dataset; ``folder`` is the dataset's."""

    method: str
    folder: str
    split: str = "validation"
    subjects: int = 2
    queries: int = 24
    reference: str = REFERENCES[0]
    concept: str = CONCEPT
    at_once: int = AT_ONCE


class Clock:
    """Seconds in some calls, ``total`` of the wall's clock and ``cpu`` of this process; of calls within calls only the
    outermost count.
    """

    def __init__(self) -> None:
        self.total, self.cpu, self.calls = 0.0, 0.0, 0
        self._depth, self._start = 0, (0.0, 0.0)

    def enter(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._start = time.perf_counter(), time.process_time()

    def leave(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.total += time.perf_counter() - self._start[0]
            self.cpu += time.process_time() - self._start[1]
            self.calls += 1

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, on this clock."""

        def inner(*args: Any, **kwargs: Any) -> Any:
            self.enter()
            try:
                return call(*args, **kwargs)
            finally:
                self.leave()

        return inner


@contextmanager
def inside_modules(clock: Clock) -> Iterator[None]:
    """The clock runs while any module of torch does; without torch in this process it never does."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    hooks = torch.nn.modules.module
    before = hooks.register_module_forward_pre_hook(lambda *_: clock.enter())
    after = hooks.register_module_forward_hook(lambda *_: clock.leave(), always_call=True)  # a pass may end early
    try:
        yield
    finally:
        before.remove()
        after.remove()


def bench_methods(jobs: Sequence[MethodJob], say: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """A row a method, in the jobs' order; one that does not run here has its reason under "error"."""
    rows = []
    for job in jobs:
        say(f"{job.method} ...")
        killed = UsageError(f"the process for {job.method} was killed, probably for its memory; leave it out")
        rows.append(in_a_process(measured, job, killed=killed))
    return rows


def measured(job: MethodJob) -> dict[str, Any]:
    """One method, measured in this process: loaded, warmed up on one query, then a run and its score."""
    with tempfile.TemporaryDirectory() as work:
        os.environ["PRISBENCH_HOME"] = work  # nothing that was kept before makes a method faster
        try:
            return {"method": job.method, "error": None, **_measured(job, Path(work))}
        except PrisbenchError as error:
            return {"method": job.method, "error": " ".join(str(error).split())}


def _measured(job: MethodJob, work: Path) -> dict[str, Any]:
    dataset = open_dataset(job.folder)
    method = load_method(job.method, _options(job))
    scope = scope_of(dataset, job)
    how = RunOptions(reference=job.reference)
    evaluate(dataset, method, work / "warm", replace(scope, limit=1), how)
    looks_ahead = isinstance(method, LooksAhead)
    if looks_ahead:  # one that has kept nothing of the scene that it was warmed up on
        del method
        method = load_method(job.method, _options(job))
    run, taken = _clocked(dataset, method, work / "run", scope, how)
    peak, together = peak_bytes(), None
    images = len({query.image_id for query in run.queries})
    if looks_ahead:
        del method
        method = load_method(job.method, _options(job))
        how = replace(how, scenes_at_once=job.at_once)
        together = _clocked(dataset, method, work / "together", scope, how)[1].locating.cpu / images
    learning, locating = taken.learning, taken.locating
    return {
        "concept": run.concept,
        "images": images,
        "queries": len(run.queries),
        "failed": run.n_errors,
        "learn_cpu_seconds": learning.cpu / max(1, learning.calls),
        "seconds": locating.total / images,
        "cpu_seconds": locating.cpu / images,
        "network_cpu_seconds": taken.network.cpu / images,
        "harness_cpu_seconds": (taken.whole.cpu - learning.cpu - locating.cpu) / images,
        "peak_bytes": peak,
        "at_once": job.at_once,
        "together_cpu_seconds": together,
    }


class _Taken(NamedTuple):
    """Clocks of a run: all of it, learning, locating with what was looked at before, and the networks meanwhile."""

    whole: Clock
    learning: Clock
    locating: Clock
    network: Clock


def _clocked(dataset: Dataset, method: Any, root: Path, scope: Scope, how: RunOptions) -> tuple[Run, _Taken]:
    """A run with every part of it on a clock."""
    taken = _Taken(Clock(), Clock(), Clock(), Clock())

    def inside(call: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*given: Any) -> Any:
            with inside_modules(taken.network):  # what the network does while learning is not counted
                return call(*given)

        return taken.locating.timed(inner)

    method.learn = taken.learning.timed(method.learn)
    method.locate = inside(method.locate)
    if isinstance(method, LooksAhead):
        method.look_ahead = inside(method.look_ahead)  # type: ignore[method-assign]
    run, _ = taken.whole.timed(evaluate)(dataset, method, root, scope, how)
    return run, taken


def _options(job: MethodJob) -> MethodOptions:
    """With the job's concept, where the method looks at concepts."""
    wanted = MethodOptions(concept=job.concept)
    try:
        check_options(job.method, [wanted])
    except UsageError:
        return MethodOptions()
    return wanted


def scope_of(dataset: Dataset, job: MethodJob) -> Scope:
    """So many queries of so many subjects, spread as tuning spreads them."""
    records = [record for _, record in dataset.records("subjects", job.split, ("id", "noun"))]
    chosen = spread_subjects([(record["id"], record["noun"]) for record in records])[: job.subjects]
    return Scope(job.split, job.queries, None, tuple(sorted(chosen)))


AGAINST = "attn"
"""The method that the others' seconds are compared with."""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a table to read, the slowest first, and why the others are missing.

    Ratios and shares are of the process's own seconds, which other programs on the machine hardly change.
    """
    there = sorted((row for row in rows if row["error"] is None), key=lambda row: -row["cpu_seconds"])
    base = next((row for row in there if row["method"] == AGAINST), there[0] if there else None)
    lines = [
        f"| method | CPU s / image | x {base['method'] if base else ''} | network | rest of the method "
        "| harness, CPU s / image | CPU s to learn | s / image | peak memory | several at once |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in there:
        ratio = row["cpu_seconds"] / base["cpu_seconds"] if base and base["cpu_seconds"] else None
        share = row["network_cpu_seconds"] / row["cpu_seconds"] if row["cpu_seconds"] else 0.0
        cells = [
            row["method"],
            f"{row['cpu_seconds']:.3g}",
            "–" if ratio is None else f"{ratio:.2g}",
            f"{share:.0%}",
            f"{1 - share:.0%}",
            f"{row['harness_cpu_seconds']:.2g}",
            f"{row['learn_cpu_seconds']:.2g}",
            f"{row['seconds']:.2g}",
            "–" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f} MB",
            f"{row['cpu_seconds'] / row['together_cpu_seconds']:.2f} x" if row["together_cpu_seconds"] else "–",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"{row['method']} does not run here: {row['error']}" for row in rows if row["error"] is not None]
    notes += [
        f"{row['method']} failed on {row['failed']} of {row['queries']} queries" for row in there if row["failed"]
    ]
    if there:
        notes.insert(
            0, f"{there[0]['queries']} queries about {there[0]['images']} scenes, each method in its own process"
        )
        if any(row["together_cpu_seconds"] for row in there):
            notes.insert(1, f"Several at once: as many times as fast with {there[0]['at_once']} scenes in one pass")
    return "\n".join([*lines, "", *(f"- {note}." for note in notes)]) + "\n"
