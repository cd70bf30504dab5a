"""Every query answered, image by image; a method that fails on some fails on those alone.

What it raises, an answer that breaks the contract, and an image that takes too long are failures of their queries, and
the other images go on.  A method that has kept the contract nowhere is stopped after ``PATIENCE`` images.

Knows: the order of things, and what is written when.  Does not know: any method, learning, how masks are scored.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prisbench.answers import BreachError, as_list, in_order, one_checked
from prisbench.deaf import deaf_queries
from prisbench.errors import DataError, PrisbenchError, UsageError
from prisbench.predictions import PredictionRecord, PredictionWriter, settle_predictions
from prisbench.runs import RunOptions, note_files
from prisbench.runtime.limits import OutOfTime, time_limit
from prisbench.runtime.reads import watched
from prisbench.soft_maps import write_map
from prisbench.types import Concept, Example, LooksAhead, Method, Prediction, Query

PATIENCE = 3
"""Images with a breach of the contract, and no answer that keeps it, after which a run ends: the code has to change."""


class Answering(NamedTuple):
    """What answering takes: a method, its concepts, and who is told how many queries of ``total`` are done."""

    method: Method
    concepts: Mapping[str, Concept]
    options: RunOptions
    progress: Callable[[int, int, str], None]
    total: int
    maps: Path | None


class _Answered(NamedTuple):
    """The record of a query; ``breach``: it broke the contract."""

    record: PredictionRecord
    breach: bool = False


def locate_all(answering: Answering, examples: Iterator[Example], path: Path) -> None:
    """Answer every query that has no answer yet, image by image.

    Raises BreachError where no answer keeps the contract; nothing is written then.
    """
    order: list[str] = []
    note_files(path.parent, answering.method)
    with PredictionWriter(path, answering.options.keep_errors) as writer:
        keeper = _Keeper(answering, writer)
        for group, ahead in _ahead(answering, _by_image(examples), writer.done):
            order += [example.query.id for example in group]
            todo = [example for example in group if example.query.id not in writer.done]
            calls = _calls(todo)
            for answered in itertools.chain.from_iterable(
                _answer(answering, call, ahead / len(calls)) for call in calls
            ):
                keeper.keep(answered)
            keeper.image_done()
        keeper.finish()
    settle_predictions(path, order)


class _Keeper:
    """Writes records; those of breaches only once some answer has kept the contract."""

    def __init__(self, answering: Answering, writer: PredictionWriter) -> None:
        self.answering, self.writer = answering, writer
        self.done, self.sound, self.images = len(writer.done), bool(writer.done), 0
        self.held: list[PredictionRecord] = []

    def keep(self, answered: _Answered) -> None:
        record = answered.record
        if answered.breach and not self.sound:
            self.held.append(record)
            self._stop_at_failure(record)
            return
        if record.error is None:
            self.sound = True
            held, self.held = self.held, []
            for each in held:
                self._write(each)
        self._write(record)
        self._stop_at_failure(record)

    def image_done(self) -> None:
        """Raises BreachError after too many images without a sound answer."""
        self.images += bool(self.held)
        if self.images >= PATIENCE:
            self.finish()

    def finish(self) -> None:
        """Raises BreachError where breaches are all there is."""
        if self.held:
            raise BreachError(str(self.held[0].error))

    def _write(self, record: PredictionRecord) -> None:
        note_files(self.writer.path.parent, self.answering.method)
        self.writer.write(record)
        self.done += 1
        self.answering.progress(self.done, self.answering.total, record.query_id)

    def _stop_at_failure(self, record: PredictionRecord) -> None:
        if record.error is not None and self.answering.options.fail_on_error:
            raise DataError(f"{self.answering.method.name} failed on query {record.query_id!r}: {record.error}")


def _calls(examples: Sequence[Example]) -> list[list[Example]]:
    """One image's queries, so that the two of a pair are in different calls: a method must not learn from the company
    that a text comes in.
    """
    calls: list[list[Example]] = []
    for example in examples:
        free = (
            call for call in calls if example.pair_id is None or all(each.pair_id != example.pair_id for each in call)
        )
        call = next(free, None)
        if call is None:
            calls.append([example])
        else:
            call.append(example)
    return calls


def _by_image(examples: Iterator[Example]) -> Iterator[list[Example]]:
    for _, group in itertools.groupby(examples, key=lambda example: example.image_id):
        yield list(group)


def _ahead(
    answering: Answering, groups: Iterator[list[Example]], done: Collection[str]
) -> Iterator[tuple[list[Example], float]]:
    """The groups, and the seconds that the method looked at each one's image before; 0 where it does not look ahead.

    A look that fails is the last one: every image is looked at again when its turn comes, and fails alone.
    """
    method, options = answering.method, answering.options
    looks = method.look_ahead if options.scenes_at_once > 1 and isinstance(method, LooksAhead) else None
    while batch := list(itertools.islice(groups, options.scenes_at_once if looks else 1)):
        wanted = [group for group in batch if any(example.query.id not in done for example in group)]
        start = time.perf_counter()
        if looks and len(wanted) > 1:
            try:
                with time_limit((options.image_seconds or 0) * len(wanted)), watched(method):
                    looks([group[0].image.copy() for group in wanted])
            except (Exception, OutOfTime):
                looks = None
        each = (time.perf_counter() - start) / max(len(wanted), 1)
        yield from ((group, each) for group in batch)


def _answer(answering: Answering, examples: Sequence[Example], ahead: float = 0.0) -> Iterator[_Answered]:
    """The records of one image's queries; a method that fails is given them one by one, so that it fails on few.

    ``ahead``: seconds that it has looked at the image before.
    """
    if not examples:
        return
    image, options = examples[0].image, answering.options
    queries = deaf_queries([example.query for example in examples], options.deaf)
    start = time.perf_counter()
    try:
        with time_limit(options.image_seconds), watched(answering.method):
            answers = _located(answering, examples[0], queries)
    except KeyboardInterrupt:
        raise
    except (BreachError, OutOfTime) as error:
        breach = isinstance(error, BreachError)
        words = str(error) if breach else f"took more than {options.image_seconds:g} seconds for one image"
        yield from (_Answered(PredictionRecord(query.id, None, error=words), breach) for query in queries)
        return
    except BaseException as error:
        if len(examples) > 1:
            for example in examples:
                yield from _answer(answering, [example])
            return
        if isinstance(error, PrisbenchError | MemoryError) and not isinstance(error, DataError | UsageError):
            raise
        yield _Answered(PredictionRecord(queries[0].id, None, error=words_of(error)))
        return
    each = (time.perf_counter() - start + ahead) / len(queries)
    for answer in answers:
        yield _kept(answering, answer, (image.shape[0], image.shape[1]), each)


def _located(answering: Answering, example: Example, queries: Sequence[Query]) -> list[Prediction]:
    """The answers in the queries' order.  The image is the method's own copy: another call gets it as it was."""
    method = answering.method
    found = method.locate(example.image.copy(), queries, answering.concepts)
    return in_order(method.name, as_list(method.name, found), queries)


def _kept(answering: Answering, answer: Prediction, scene_hw: tuple[int, int], seconds: float) -> _Answered:
    """The record of an answer, or of how it breaks the contract."""
    try:
        prediction = one_checked(answering.method.name, answer, scene_hw)
    except BreachError as error:
        return _Answered(PredictionRecord(answer.query_id, None, error=str(error)), True)
    record = PredictionRecord.of(prediction)
    if answering.maps is not None and prediction.score is not None:
        write_map(prediction.score, answering.maps / f"{prediction.query_id}.png")
    return _Answered(record if record.seconds is not None else PredictionRecord(**{**vars(record), "seconds": seconds}))


def words_of(error: BaseException) -> str:
    """An error's kind and text in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
