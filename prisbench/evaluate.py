"""Evaluate: predict, then score.  Interrupt it whenever you like; the same call goes on.

Knows: that a run is a prediction of every query and its score.  Does not know: how either is done.
"""

from __future__ import annotations

from pathlib import Path

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError
from prisbench.predict import Progress, predicting
from prisbench.results import Run, write_run
from prisbench.runs import RUN, RunOptions, Scope
from prisbench.score import score
from prisbench.test_log import log_look
from prisbench.types import Method


def evaluate(
    dataset: Dataset,
    method: Method,
    root: Path,
    scope: Scope | None = None,
    options: RunOptions | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[Run, Path]:
    """Run a method on a dataset and score it; returns the run and the path of its ``run.json``.

    Raises as ``predict``, and DataError when the method fails on every query; a failure on some is recorded with them.
    """
    scope, options = scope or Scope(), options or RunOptions()
    with predicting(dataset, method, root, scope, options, progress) as predicted:
        run = score(dataset, predicted.folder, scope, predicted.manifest)
        failed = [query for query in run.queries if query.error is not None]
        if failed and len(failed) == len(run.queries):
            raise DataError(
                f"{method.name} failed on every query: {failed[0].error}; mend it and run the same command again, with "
                "--fresh when its code has changed"
            )
        write_run(run, predicted.folder / RUN)
        log_look(run, root)
    return run, predicted.folder / RUN
