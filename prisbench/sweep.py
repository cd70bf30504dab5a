"""A method evaluated with each of several options, such as every learner with every seed, and put on a leaderboard.

    sweep = Sweep("attn", variants(options, ["textual-inversion", "noun-only"], [0, 1, 2]), Path("runs"))
    check_sweep(sweep)
    finished = run_sweep(sweep, open_dataset("tabletop-v3"))

Knows: what is tried before hours are spent, and the order of things.  Does not know: any method, how one is run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from prisbench.cluster.job import Job, sendable
from prisbench.cluster.schedule import Workers
from prisbench.cluster.share import evaluate_shared
from prisbench.datasets.load import Dataset
from prisbench.errors import UsageError
from prisbench.evaluate import evaluate, tell_before
from prisbench.leaderboard.publish import publish
from prisbench.methods import check_options, load_method
from prisbench.predict import Progress, predict
from prisbench.results import Run
from prisbench.runs import PREDICTIONS, RunOptions, Scope
from prisbench.runtime.files import check_writable
from prisbench.settings import MethodOptions
from prisbench.test_log import publish_looks
from prisbench.types import Method


@dataclass(frozen=True)
class Sweep:
    """What is run.  ``method`` is a name or a Python file; each of ``wanted`` makes a run of it.

    ``out``: where runs are kept.  ``run``: how each goes; its seed is that of the method's options.  ``leaderboards``:
    a folder of leaderboards that the results are put on, too.  ``out_of_domain``: run also where the method's model
    knows nothing of the scenes.  ``workers`` makes those who share each run; None: this process does it.  ``tuned``:
    the file of the settings where they were tuned; the leaderboard keeps it.
    """

    method: str
    wanted: Sequence[MethodOptions]
    out: Path = Path("runs")
    scope: Scope = field(default_factory=Scope)
    run: RunOptions = field(default_factory=RunOptions)
    leaderboards: Path | None = None
    out_of_domain: bool = False
    workers: Callable[[Job], Workers] | None = None
    tuned: Path | None = None


class Finished(NamedTuple):
    """A run, and where its ``run.json`` is."""

    run: Run
    path: Path


def check_sweep(sweep: Sweep) -> None:
    """What can be found wrong before a dataset is opened or weights are loaded.

    Raises UsageError for a part of a split on a leaderboard, WriteError for folders that cannot be written, and what
    the method's own ``check`` raises.
    """
    if sweep.leaderboards is not None and sweep.scope.part.left_out:
        some = "--subset and --limit" if sweep.scope.subset or sweep.scope.limit else "--subject and --query"
        raise UsageError(f"--leaderboards wants a whole run of a split: leave out {some}")
    for target in [sweep.out] if sweep.leaderboards is None else [sweep.out, sweep.leaderboards]:
        check_writable(target)
    check_options(sweep.method, sweep.wanted)


def run_sweep(
    sweep: Sweep,
    dataset: Dataset,
    progress: Progress = lambda *_: None,
    learning: Callable[[int, int, float], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Finished]:
    """Evaluate the method with each of the options, in their order; each run is published as soon as it is scored.

    ``learning`` is called with (step, steps, loss) while a subject is learned.  ``say`` is told what a photo costs and
    whether the dataset's scenes are unlike what the method's model knows, before the first run.

    Raises as ``load_method``, ``check_dataset``, ``evaluate`` and ``publish``; what is finished then is kept.
    """
    sweep = replace(sweep, scope=sweep.scope.within(dataset))
    finished: list[Finished] = []
    for run, path in _runs(sweep, dataset, progress, learning, say):
        finished.append(Finished(run, path))
        if sweep.leaderboards is not None:
            place = publish(run, sweep.leaderboards, path.parent / PREDICTIONS, sweep.tuned)
            publish_looks(sweep.out, place.parent, run.dataset.digest)
    return finished


def _runs(
    sweep: Sweep,
    dataset: Dataset,
    progress: Progress,
    learning: Callable[[int, int, float], None],
    say: Callable[[str], None],
) -> Iterator[tuple[Run, Path]]:
    """One run after the other, by this process or by workers."""
    if sweep.workers is None:
        for method, run_options in _methods(sweep, dataset, learning, say):
            yield evaluate(dataset, method, sweep.out, sweep.scope, run_options, progress)
        return
    named = str(Path(sweep.method).resolve()) if sweep.method.endswith(".py") else sweep.method
    folder, out = dataset.folder.resolve(), sweep.out.resolve()  # another machine's process starts elsewhere
    for options in sweep.wanted:
        job = Job(named, sendable(options), folder, out, sweep.scope, sweep.run, sweep.out_of_domain)
        yield evaluate_shared(job, dataset, sweep.workers, progress, say)


def predict_sweep(
    sweep: Sweep,
    dataset: Dataset,
    progress: Progress = lambda *_: None,
    learning: Callable[[int, int, float], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """As ``run_sweep`` without scores: the folders of the runs."""
    sweep = replace(sweep, scope=sweep.scope.within(dataset))
    return [
        predict(dataset, method, sweep.out, sweep.scope, run_options, progress).folder
        for method, run_options in _methods(sweep, dataset, learning, say)
    ]


def _methods(
    sweep: Sweep, dataset: Dataset, learning: Callable[[int, int, float], None], say: Callable[[str], None]
) -> Iterator[tuple[Method, RunOptions]]:
    """The method with each of the options, one after the other."""
    for number, options in enumerate(sweep.wanted):
        method = load_method(sweep.method, replace(options, progress=learning))
        if number == 0:
            tell_before(dataset, method, sweep.scope.split, sweep.out_of_domain, say)
        yield method, replace(sweep.run, seed=options.seed)
