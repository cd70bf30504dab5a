"""What of a run is there already: concepts that a method keeps, answers in the run's folder and in its shards.

Knows: where answers lie, and which of them count.  Does not know: how anything is learned or answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prisbench.datasets.load import Asked
from prisbench.predictions import read_predictions
from prisbench.runs import MANIFEST, PREDICTIONS, other_run, read_manifest
from prisbench.sharding import SHARDS
from prisbench.types import KeepsConcepts, Method, Subject, WantsSubjects


def keeper(method: Method) -> KeepsConcepts | None:
    """Who keeps a method's concepts: itself, or the method that it has inside; None where nobody does."""
    for each in (method, *getattr(method, "__dict__", {}).values()):
        if isinstance(each, KeepsConcepts) and callable(each.known) and isinstance(each, Method):
            return each
    return None


def known_subjects(method: Method, subjects: Iterable[Subject], everybody: Any) -> int:
    """How many of these subjects the method need not learn, since their concepts are kept."""
    keeps = keeper(method)
    if keeps is None:
        return 0
    if isinstance(method, WantsSubjects):
        method.subjects = everybody
    return sum(keeps.known(subject) is not None for subject in subjects)


def answered_images(
    folder: Path, manifest: Mapping[str, Any], asked: Iterable[Asked], keep_errors: bool = False
) -> int:
    """Of how many images every query has an answer that the same command would not make again.

    Counted are the run's own folder and its shards, where they hold the run of ``manifest`` and nothing else.
    """
    answered: set[str] = set()
    for each in (folder, *sorted((folder / SHARDS).glob("*"))):
        if not (each / MANIFEST).is_file() or not (each / PREDICTIONS).is_file():
            continue
        if other_run(read_manifest(each), manifest) is None:
            records = read_predictions(each / PREDICTIONS)
            answered |= {record.query_id for record in records if record.error is None or keep_errors}
    left: dict[str, bool] = {}
    for query in asked:
        left[query.image_id] = left.get(query.image_id, True) and query.query_id in answered
    return sum(left.values())
