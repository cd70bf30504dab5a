"""Evaluate: predict, then score.  Interrupt it whenever you like; the same call goes on.

Knows: that a run is a prediction of every query and its score.  Does not know: how either is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from prisbench.answering import words_of
from prisbench.datasets.checks.rows import text_faults
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, PrisbenchError
from prisbench.out_of_domain import check_dataset
from prisbench.predict import Progress, predicting
from prisbench.results import Run, write_run
from prisbench.runs import RUN, RunOptions, Scope
from prisbench.score import score
from prisbench.test_log import log_look
from prisbench.types import Method, TellsCost


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
        return finish(dataset, predicted.folder, scope, predicted.manifest)


def finish(dataset: Dataset, folder: Path, scope: Scope, manifest: Mapping[str, Any]) -> tuple[Run, Path]:
    """Score a run's predictions and write its record; the caller holds the folder's lock.

    Raises DataError when the method failed on every query.
    """
    run = score(dataset, folder, scope, manifest)
    failed = [query for query in run.queries if query.error is not None]
    if failed and len(failed) == len(run.queries):
        raise DataError(
            f"{run.method} failed on every query: {failed[0].error}; mend it and run the same command again, with "
            "--fresh when its code has changed"
        )
    write_run(run, folder / RUN)
    log_look(run, folder.parent.parent)
    return run, folder / RUN


def tell_before(
    dataset: Dataset, method: Method, split: str, allowed: bool, say: Callable[[str], None] = lambda _: None
) -> None:
    """What a photo costs, whether the scenes are out of the method's domain, and which texts may fail.

    Raises DataError when most scenes are out of it, unless ``allowed``.
    """
    if isinstance(method, TellsCost):
        first = next(iter(dataset.examples(split, 1)), None)
        with contextlib.suppress(Exception):  # a photo it cannot look at fails alone, when its turn comes
            if first is not None:
                say(method.cost(first.image.shape[:2]))
    try:
        line = check_dataset(dataset, method, split, allowed)
    except (PrisbenchError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{method.name}: strangeness(image) failed: {words_of(error)}") from error
    if line:
        say(line)
    texts = [str(place.keys[0]) for place in dataset.places("queries", split, ("text",))]
    if odd := [(text, faults[0][0]) for text in texts if (faults := text_faults(text))]:
        which = f"first {odd[0][0]!r}: {odd[0][1]}"
        say(f"{len(odd)} of {len(texts)} texts may fail, {which}; prisbench validate lists them")
