"""What of a run is there already: concepts that a method keeps, or that the processes of a shared run keep for it;
answers in the run's folder and in its shards.

Knows: where concepts and answers lie, and which of them count.  Does not know: how anything is learned or answered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prisbench.concepts.store import read_concept, write_concept
from prisbench.datasets.load import Asked
from prisbench.errors import DataError, WriteError
from prisbench.predictions import read_predictions
from prisbench.runs import MANIFEST, PREDICTIONS, other_run, read_manifest
from prisbench.runtime.files import cache_folder, read_json, sha256_json, write_json
from prisbench.runtime.identity import with_files
from prisbench.runtime.locks import locked
from prisbench.runtime.reads import changed_since, files_of
from prisbench.sharding import SHARDS
from prisbench.types import Concept, KeepsConcepts, Method, Subject, WantsSubjects, WholeConcepts


def keeper(method: Method) -> KeepsConcepts | None:
    """Who keeps a method's concepts: itself, or the method that it has inside; None where nobody does."""
    for each in (method, *getattr(method, "__dict__", {}).values()):
        if isinstance(each, KeepsConcepts) and callable(each.known) and isinstance(each, Method):
            return each
    return None


def are_whole(method: Method) -> bool:
    """Whether a method that keeps no concepts itself says that they can be kept for it."""
    return keeper(method) is None and isinstance(method, WholeConcepts) and method.concepts_are_whole is True


_DECIDES = ("method", "dataset", "settings", "backbone", "seed", "reference")


class SharedConcepts:
    """Concepts of whole runs' methods (``are_whole``), one folder a subject, below ``learned`` in PRISBENCH_HOME.

    They are found again by all that decides them: dataset, method, settings, code, weights, packages, device, seed, and
    the files that the method read while it learned.
    """

    def __init__(self, method: Method, manifest: Mapping[str, Any]) -> None:
        """``manifest``: of the run, or of a shard of it."""
        known = {key: value for key, value in manifest["identity"].items() if key not in ("file", "read", "written")}
        key = sha256_json({**{name: manifest[name] for name in _DECIDES}, "identity": known})
        self.method, self.identity = method, manifest["identity"]
        self.home = Path(self.identity["file"]).parent
        self.folder = cache_folder() / "learned" / key[:16]

    @contextlib.contextmanager
    def turn(self, subject_id: str) -> Iterator[None]:
        """One process at a time; others wait.  Where nothing can be written, each goes on by itself."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(WriteError):
                stack.enter_context(locked(self.folder, f".lock-{self._place(subject_id).name}", wait=True))
            yield

    def find(self, subject_id: str) -> Concept | None:
        """The concept that some process of the run learned; None where none did, or a file that it read changed."""
        place = self._place(subject_id)
        with contextlib.suppress(DataError):  # one that is damaged is learned again
            read = read_json(place.with_suffix(".json"))["read"]
            if changed_since(read, self.home) is None and (concept := read_concept(place)).subject_id == subject_id:
                files_of(self.method).read.update(str(self.home / name) for name in read)
                return concept
        return None

    def keep(self, concept: Concept) -> Concept:
        """Write it; what comes back is what other processes will find, or the same where it cannot be written."""
        place = self._place(concept.subject_id)
        with contextlib.suppress(WriteError):
            write_concept(concept, place)
            read = with_files(self.identity, self.method).get("read", {})
            write_json(place.with_suffix(".json"), {"read": read})
            return read_concept(place)
        return concept

    def _place(self, subject_id: str) -> Path:
        return self.folder / sha256_json(subject_id)[:16]


def known_subjects(
    method: Method, subjects: Iterable[Subject], everybody: Any, shared: SharedConcepts | None = None
) -> int:
    """How many of these subjects the method need not learn: it, or else ``shared``, keeps their concepts."""
    keeps = keeper(method)
    if keeps is None:
        return 0 if shared is None else sum(shared.find(subject.id) is not None for subject in subjects)
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
