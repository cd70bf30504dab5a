"""Every subject learned and every query answered; interrupt it whenever you like, the same call goes on.

Knows: the order of things, and what is written when.  Does not know: any method, how masks are scored or compared.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.answers import BreachError, as_list, check_method, checked, checked_concept
from prisbench.datasets.load import Dataset
from prisbench.deaf import check_deaf, deaf_name, deaf_queries, deaf_subjects
from prisbench.errors import DataError, PrisbenchError, UnknownNameError, UsageError
from prisbench.out_of_domain import count_outside
from prisbench.predictions import PredictionRecord, PredictionWriter, settle_predictions
from prisbench.provenance import current_provenance
from prisbench.results import REFERENCES, DatasetRef
from prisbench.runs import PREDICTIONS, SOFT_MAPS, RunOptions, Scope, check_claim, claim, note, note_files, run_folder
from prisbench.runtime.identity import identity
from prisbench.runtime.locks import locked
from prisbench.runtime.reads import watched
from prisbench.soft_maps import write_map
from prisbench.types import Concept, Example, Method, Subject, TellsForm, WantsSubjects

Progress = Callable[[str, int, int, str], None]
"""Called with "learn" or "locate", how many are done, of how many, and the id just done."""


class Predicted(NamedTuple):
    """A run whose every query has an answer, in its folder.

    ``out_of_domain``: scenes unlike anything the method's model was trained on; None where nothing is known.
    """

    folder: Path
    manifest: Mapping[str, Any]
    out_of_domain: int | None


def predict(
    dataset: Dataset,
    method: Method,
    root: Path,
    scope: Scope | None = None,
    options: RunOptions | None = None,
    progress: Progress = lambda *_: None,
) -> Predicted:
    """Learn every subject that a query is about and answer every query that has no answer yet.

    Raises DataError when an earlier run in the folder was of something else (naming the first field that differs), and
    when the method breaks its contract (``answers``); a failure on a query is recorded with it.  WriteError when
    another process has the run's folder, UsageError when there is no query.
    """
    with predicting(dataset, method, root, scope or Scope(), options or RunOptions(), progress) as predicted:
        return predicted


@contextlib.contextmanager
def predicting(
    dataset: Dataset, method: Method, root: Path, scope: Scope, options: RunOptions, progress: Progress
) -> Iterator[Predicted]:
    """As ``predict``; no other process has the run's folder while the body runs."""
    check_method(method)
    check_deaf(options.deaf)
    about = [example.query.subject_id for example in scope.examples(dataset)]
    if not about:
        kind = f" of the subset {scope.subset!r}" if scope.subset else ""
        raise UsageError(f"{dataset.id} has no queries{kind} in its {scope.split} split")
    everybody = deaf_subjects(given(dataset.subjects(scope.split), options.reference), options.deaf)
    manifest = _manifest(dataset, method, scope, options)
    with contextlib.ExitStack() as stack:
        folder = root

        def take_folder(concept: Concept) -> None:
            """Before the other subjects are learned, which may take hours."""
            nonlocal folder
            folder = run_folder(root, dataset, method, concept.learner, scope, options)
            manifest["concept"] = concept.learner
            stack.enter_context(locked(folder))
            check_claim(folder, {**manifest, "concepts": {concept.subject_id: concept.id}}, options.fresh)

        concepts, learn_seconds = _learn_some(everybody, method, progress, set(about), take_folder)
        learners = sorted({concept.learner for concept in concepts.values()})
        if len(learners) != 1:
            raise UsageError(f"{method.name} gave concepts of several kinds ({', '.join(learners)}); one run has one")
        manifest["concepts"] = {key: concept.id for key, concept in concepts.items()}
        manifest = claim(folder, manifest, learn_seconds, _tensor_bytes(concepts.values()))
        examples = partial(scope.examples, dataset)
        maps = folder / SOFT_MAPS if options.soft_maps else None
        answering = _Answering(method, concepts, options, partial(progress, "locate"), len(about), maps)
        _locate_all(answering, examples(), folder / PREDICTIONS)
        outside = count_outside(method, examples())
        yield Predicted(folder, {**manifest, **note(folder, out_of_domain=outside)}, outside)


def _manifest(dataset: Dataset, method: Method, scope: Scope, options: RunOptions) -> dict[str, Any]:
    """What is being run, as far as it is known before anything is learned."""
    return {
        "method": deaf_name(method.name, options.deaf),
        "concept": "",
        "dataset": vars(DatasetRef(dataset.name, dataset.version, dataset.digest, scope.split)),
        "settings": {**method.settings, **({"deaf": options.deaf} if options.deaf else {})},
        "backbone": getattr(method, "model", None),
        "seed": options.seed,
        "reference": options.reference,
        "part": asdict(scope.part),
        "template": method.template if isinstance(method, TellsForm) else None,
        "precision": method.precision if isinstance(method, TellsForm) else None,
        "identity": identity(method),
        "provenance": asdict(current_provenance(options.reason)),
    }


def given(subjects: Sequence[Subject], reference: str) -> list[Subject]:
    """The subjects as a method gets them: without the photos' masks, or with them.

    Raises UnknownNameError for another reference setting, UsageError where masks are wanted and none are known.
    """
    if reference not in REFERENCES:
        raise UnknownNameError("reference setting", reference, REFERENCES)
    if reference == REFERENCES[0]:
        return [replace(subject, masks=()) for subject in subjects]
    lacking = [subject.id for subject in subjects if not any(mask is not None for mask in subject.masks)]
    if lacking:
        raise UsageError(
            f"--reference {reference}: {len(lacking)} of {len(subjects)} subjects have no mask of any photo, first "
            f"{lacking[0]!r}; use --reference {REFERENCES[0]}"
        )
    return list(subjects)


def learn_all(
    dataset: Dataset,
    method: Method,
    split: str,
    progress: Progress = lambda *_: None,
) -> tuple[dict[str, Concept], float]:
    """The concept of every subject of a split from its photos alone, and the mean seconds a subject took (stored ones
    take almost none).

    Raises DataError, naming the subject, when the method fails or gives no concept.
    """
    everybody = given(dataset.subjects(split), REFERENCES[0])
    return _learn_some(everybody, method, progress, {subject.id for subject in everybody}, lambda _: None)


def _learn_some(
    everybody: Sequence[Subject],
    method: Method,
    progress: Progress,
    only: Collection[str],
    first: Callable[[Concept], None],
) -> tuple[dict[str, Concept], float]:
    """As ``learn_all``, of the subjects whose id is in ``only``.  ``first`` is called with the first concept, before
    the second is learned.
    """
    if isinstance(method, WantsSubjects):
        method.subjects = list(everybody)
    subjects = [subject for subject in everybody if subject.id in only]
    concepts: dict[str, Concept] = {}
    start = time.perf_counter()
    for n, subject in enumerate(subjects, 1):
        concepts[subject.id] = _learn(method, subject)
        if n == 1:
            first(concepts[subject.id])
        progress("learn", n, len(subjects), subject.id)
    return concepts, (time.perf_counter() - start) / max(len(subjects), 1)


def _learn(method: Method, subject: Subject) -> Concept:
    """One subject's concept.  What the method raises itself, other than mistakes a user can mend, is one line."""
    try:
        with watched(method):
            concept = method.learn(subject)
    except (PrisbenchError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"{method.name} cannot learn subject {subject.id!r}: {_words(error)}") from error
    return checked_concept(method.name, subject, concept)


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


class _Answering(NamedTuple):
    """What answering takes: a method, its concepts, and who is told how many queries of ``total`` are done."""

    method: Method
    concepts: Mapping[str, Concept]
    options: RunOptions
    progress: Callable[[int, int, str], None]
    total: int
    maps: Path | None


def _locate_all(answering: _Answering, examples: Iterator[Example], path: Path) -> None:
    """Answer every query that has no answer yet, image by image."""
    method, options = answering.method, answering.options
    order: list[str] = []
    note_files(path.parent, method)
    with PredictionWriter(path, options.keep_errors) as writer:
        done = len(writer.done)
        for group in _by_image(examples):
            order += [example.query.id for example in group]
            todo = [example for example in group if example.query.id not in writer.done]
            for record in itertools.chain.from_iterable(_answer(answering, call) for call in _calls(todo)):
                note_files(path.parent, method)
                writer.write(record)
                done += 1
                answering.progress(done, answering.total, record.query_id)
                if record.error is not None and options.fail_on_error:
                    raise DataError(f"{method.name} failed on query {record.query_id!r}: {record.error}")
    settle_predictions(path, order)


def _tensor_bytes(concepts: Collection[Concept]) -> float | None:
    """Bytes of the tensors that localization reads, the mean over concepts; None where there are none."""
    sizes = [sum(t.nbytes for name, t in each.tensors.items() if name != "losses") for each in concepts]
    return round(float(statistics.mean(sizes)), 1) if any(sizes) else None


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


def _answer(answering: _Answering, examples: Sequence[Example]) -> Iterator[PredictionRecord]:
    """The records of one image's queries; a method that fails is given them one by one, so that it fails on few.

    What breaks the contract is no failure of a query: it raises DataError.
    """
    if not examples:
        return
    method = answering.method
    image = examples[0].image
    queries = deaf_queries([example.query for example in examples], answering.options.deaf)
    start = time.perf_counter()
    try:
        with watched(method):
            answers = as_list(method.name, method.locate(image, queries, answering.concepts))
    except BreachError:
        raise
    except (Exception, SystemExit) as error:
        if len(examples) > 1:
            for example in examples:
                yield from _answer(answering, [example])
            return
        if isinstance(error, PrisbenchError | MemoryError) and not isinstance(error, DataError | UsageError):
            raise
        yield PredictionRecord(queries[0].id, None, error=_words(error))
        return
    each = (time.perf_counter() - start) / len(queries)
    h, w = image.shape[:2]
    for prediction in checked(method.name, answers, queries, (h, w)):
        record = PredictionRecord.of(prediction)
        if answering.maps is not None and prediction.score is not None:
            write_map(prediction.score, answering.maps / f"{prediction.query_id}.png")
        yield record if record.seconds is not None else PredictionRecord(**{**vars(record), "seconds": each})
