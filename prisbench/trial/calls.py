"""A method's calls with a guard: whatever it raises is one line, and what it is given is looked at afterwards.

Knows: the contract of ``answers``.  Does not know: which checks there are.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.answers import as_list, checked
from prisbench.errors import PrisbenchError
from prisbench.images.regions import iou
from prisbench.runtime.reads import Touched, watching
from prisbench.trial.scenes import TrialScene
from prisbench.types import Concept, Example, Method, Prediction, Query

DECOY_IOU = 0.9
"""From this overlap on, an answer is a decoy's mask: no pixel of a scene suggests one."""

Emit = Callable[[dict[str, Any]], None]


class Called(NamedTuple):
    """What a call gave, or in one line what was wrong with it."""

    value: Any
    wrong: str | None
    seconds: float


@dataclass
class Caller:
    """Calls a method.  ``emit`` is told when a call begins, how long it may take, and that it has ended."""

    method: Method
    emit: Emit
    image_limit: float
    concepts: dict[str, Concept] = field(default_factory=dict)
    slowest: float = 0.0
    changed: list[str] = field(default_factory=list)
    decoys_given: list[str] = field(default_factory=list)
    touched: Touched = field(default_factory=Touched)

    def timed(self, what: str, limit: float, call: Callable[[], Any]) -> Called:
        """The call, announced; everything it raises but an interruption becomes a line."""
        start = time.perf_counter()
        with self._announced(what, limit):
            try:
                with watching(self.touched):
                    value, wrong = call(), None
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                value, wrong = None, words(error)
        return Called(value, wrong, time.perf_counter() - start)

    def locate(self, scene: TrialScene, queries: Sequence[Query] | None = None) -> Called:
        """The checked answers about a scene, to all its queries or to these."""
        asked = list(scene.queries if queries is None else queries)
        image, given, hw = scene.image.copy(), list(asked), scene.image.shape[:2]
        examples = [decoy(scene, query) for query in asked]  # where a method would find them that looks for truths

        def call() -> list[Prediction]:
            found = self.method.locate(image, given, dict(self.concepts))
            return checked(self.method.name, as_list(self.method.name, found), asked, (hw[0], hw[1]))

        done = self.timed(scene.words, self.image_limit, call)
        self.slowest = max(self.slowest, done.seconds)
        if image.shape != scene.image.shape or not np.array_equal(image, scene.image):
            self.changed.append(f"locate wrote into the image of {scene.words}; work on image.copy()")
        if given != asked:
            self.changed.append(f"locate changed the list of queries of {scene.words}; make a new list")
        for example, answer in zip(examples, done.value or [], strict=False):
            if answer.mask is not None and iou(answer.mask, example.mask) > DECOY_IOU:
                self.decoys_given.append(scene.words)
        return done

    @contextmanager
    def _announced(self, what: str, limit: float) -> Iterator[None]:
        self.emit({"event": "begin", "what": what, "limit": limit})
        try:
            yield
        finally:
            self.emit({"event": "end"})


def decoy(scene: TrialScene, query: Query) -> Example:
    """An example whose truth is made up: a third of the scene's cells, by a hash of the query."""
    return Example(
        query, "plain", scene.words, scene.image, _cells(query.id, (scene.image.shape[0], scene.image.shape[1]))
    )


def _cells(name: str, size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    digest = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint8)
    grid = np.unpackbits(digest).reshape(16, 16) & np.unpackbits(digest[::-1].copy()).reshape(16, 16)
    rows = np.arange(size_hw[0]) * 16 // size_hw[0]
    columns = np.arange(size_hw[1]) * 16 // size_hw[1]
    return grid[np.ix_(rows, columns)].astype(bool)


def words(error: BaseException) -> str:
    """An error in one line: prisbench's own as they are, others with the last line of code that was not a library's."""
    text = " ".join(str(error).split())
    if isinstance(error, PrisbenchError):
        return text
    place = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and f"{'prisbench'}/trial" not in Path(frame.filename).as_posix():
            place = f" ({Path(frame.filename).name}, line {frame.lineno})"
            break
    cure = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        cure = f"; install {error.name.split('.')[0]}, and say in the method's card that it needs it"
    return f"{type(error).__name__}: {text[:300]}{place}{cure}"


def dataset_files(touched: Touched, known: Mapping[str, Any] | None = None) -> list[str]:
    """The files of datasets that were opened: they hold truths."""
    found = []
    for name in sorted(touched.read):
        path = Path(name)
        homes = (path.parent, path.parent.parent)
        if path.name == "dataset.json" or (
            path.suffix in (".parquet", ".arrow") and any((home / "dataset.json").is_file() for home in homes)
        ):
            found.append(name)
    return found
