"""Every subject learned and every query answered; interrupt it whenever you like, the same call goes on.

Knows: the order of things, and what is written when.  Does not know: any method, how masks are scored or compared.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.answering import Answering, locate_all, words_of
from prisbench.answers import check_method, checked_concept
from prisbench.datasets.load import Dataset
from prisbench.deaf import check_deaf
from prisbench.errors import DataError, PrisbenchError, UsageError
from prisbench.out_of_domain import count_outside
from prisbench.own_task import OwnTask
from prisbench.predictions import read_predictions
from prisbench.provenance import current_provenance
from prisbench.results import REFERENCES, DatasetRef
from prisbench.runs import (
    PREDICTIONS,
    SOFT_MAPS,
    RunOptions,
    Scope,
    SubjectCost,
    check_claim,
    claim,
    known_as,
    note,
    run_folder,
)
from prisbench.runtime.files import write_errors
from prisbench.runtime.identity import identity
from prisbench.runtime.locks import locked
from prisbench.runtime.reads import watched
from prisbench.sharding import turned
from prisbench.split_subjects import SplitSubjects
from prisbench.stored import SharedConcepts, are_whole, keeper
from prisbench.types import Concept, KeepsConcepts, KnowsItsTask, Method, Subject, TellsForm, WantsSubjects

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
    when the method keeps its contract (``answers``) nowhere; a failure on a query is recorded with it.  WriteError when
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
    held = (lambda _: True) if scope.shard is None else scope.shard.holds
    about = [each.subject_id for each in scope.asked(dataset) if held(each.image_id)]
    if not about:
        kind = f" of the subset {scope.subset!r}" if scope.subset else ""
        kind += f" in shard {scope.shard.words}" if scope.shard else ""
        raise UsageError(f"{dataset.id} has no queries{kind} in its {scope.split} split")
    everybody = _everybody(dataset, scope.split, options)
    manifest = manifest_of(dataset, method, scope, options)
    with contextlib.ExitStack() as stack:
        folder = root

        def take_folder(concept: Concept) -> None:
            """Before the other subjects are learned, which may take hours."""
            nonlocal folder
            folder = run_folder(root, dataset, method, concept.learner, scope, options)
            manifest["concept"] = concept.learner
            stack.enter_context(locked(folder))
            known = {**manifest, "concepts": {concept.subject_id: concept.id}}
            check_claim(folder, known, options.fresh)
            if scope.shard is not None and not options.fresh:  # what it could not be merged into
                whole = run_folder(root, dataset, method, concept.learner, replace(scope, shard=None), options)
                check_claim(whole, {key: value for key, value in known.items() if key != "shard"}, fresh=False)

        wanted = set(about)
        order = [id for id in turned(everybody.ids, scope.shard) if id in wanted]
        known = None if options.kept is None else options.kept.concepts
        shared = SharedConcepts(method, manifest) if scope.shard is not None and are_whole(method) else None
        learning = _Learning(method, order, known, progress, take_folder, shared)
        concepts, cost = _learn_some(everybody, learning)
        learners = sorted({concept.learner for concept in concepts.values()})
        if len(learners) != 1:
            raise UsageError(f"{method.name} gave concepts of several kinds ({', '.join(learners)}); one run has one")
        manifest["concepts"] = {key: concept.id for key, concept in concepts.items()}
        manifest = claim(folder, manifest, cost)
        examples = partial(scope.examples, dataset)
        maps = _place_of_maps(folder) if options.soft_maps else None
        answering = Answering(method, concepts, options, partial(progress, "locate"), len(about), maps)
        locate_all(answering, examples(), folder / PREDICTIONS)
        outside = None
        with contextlib.suppress(Exception):  # a measure that fails is no reason to lose the run
            outside = count_outside(method, examples())
        yield Predicted(folder, {**manifest, **note(folder, out_of_domain=outside)}, outside)


def _place_of_maps(folder: Path) -> Path:
    """Where a run keeps its soft maps.  Raises DataError where it has answers that were kept without theirs."""
    maps = folder / SOFT_MAPS
    if not maps.is_dir() and (folder / PREDICTIONS).is_file() and read_predictions(folder / PREDICTIONS):
        raise DataError(
            f"{folder} has answers that were kept without their soft maps; choose another --out, or say --fresh to "
            "start again"
        )
    with write_errors(maps):
        maps.mkdir(parents=True, exist_ok=True)
    return maps


def manifest_of(dataset: Dataset, method: Method, scope: Scope, options: RunOptions) -> dict[str, Any]:
    """What is being run, as far as it is known before anything is learned."""
    return {
        "method": known_as(method.name, options),
        "concept": "",
        "dataset": vars(DatasetRef(dataset.name, dataset.version, dataset.digest, scope.split)),
        "settings": {**method.settings, **_own_settings(method.name, options)},
        "backbone": getattr(method, "model", None),
        "seed": options.seed,
        "reference": options.reference,
        "part": asdict(scope.part),
        "template": method.template if isinstance(method, TellsForm) else None,
        "precision": method.precision if isinstance(method, TellsForm) else None,
        "identity": identity(method),
        "provenance": asdict(current_provenance(options.reason)),
        **_own_task(method),
        **({"shard": asdict(scope.shard)} if scope.shard else {}),
    }


def _own_task(method: Method) -> dict[str, Any]:
    """What a method says of its model's own task; nothing where it knows nothing."""
    found = method.own_task if isinstance(method, KnowsItsTask) else None
    return {"own_task": asdict(found)} if isinstance(found, OwnTask) else {}


def _own_settings(name: str, options: RunOptions) -> dict[str, Any]:
    """What the harness decides beside the method's settings.  Raises UsageError for settings tuned for another."""
    if options.tuned and options.tuned.get("method") != name:
        raise UsageError(f"the settings were tuned for {options.tuned.get('method')}, not {name}; take its own")
    own = {"deaf": options.deaf, "tuned": dict(options.tuned) if options.tuned else None}
    return {key: value for key, value in own.items() if value}


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
    everybody = SplitSubjects(dataset, split, REFERENCES[0])
    concepts, cost = _learn_some(everybody, _Learning(method, everybody.ids, None, progress))
    return concepts, sum(each.seconds for each in cost.values()) / max(len(cost), 1)


def learn_one(dataset: Dataset, method: Method, scope: Scope, options: RunOptions, subject_id: str) -> SubjectCost:
    """Learn one subject as a shared run with these options would, and keep the concept in ``options.kept``."""
    known = None if options.kept is None else options.kept.concepts
    shared = SharedConcepts(method, manifest_of(dataset, method, scope, options)) if are_whole(method) else None
    learning = _Learning(method, [subject_id], known, shared=shared)
    return _learn_some(_everybody(dataset, scope.split, options), learning)[1][subject_id]


def _everybody(dataset: Dataset, split: str, options: RunOptions) -> SplitSubjects:
    """The subjects of a split as a method gets them, kept where the process keeps what it has read."""
    kept = options.kept
    if kept is not None and kept.subjects is not None:
        return kept.subjects
    found = SplitSubjects(dataset, split, options.reference, options.deaf)
    if kept is not None:
        kept.subjects = found
    return found


class _Learning(NamedTuple):
    """Whose concepts are wanted, in this order.  ``known``: those that this process learned before, with their seconds.
    ``first`` is called with the first concept, before the second is learned.  ``shared``: concepts of other processes.
    """

    method: Method
    order: Sequence[str]
    known: dict[str, tuple[Concept, float]] | None = None
    progress: Progress = lambda *_: None
    first: Callable[[Concept], None] = lambda _: None
    shared: SharedConcepts | None = None


def _learn_some(everybody: SplitSubjects, learning: _Learning) -> tuple[dict[str, Concept], dict[str, SubjectCost]]:
    """The concepts, and what each of them took."""
    method, known = learning.method, {} if learning.known is None else learning.known
    if isinstance(method, WantsSubjects):
        try:
            method.subjects = everybody
        except Exception as error:
            raise DataError(
                f"{method.name}: its subjects cannot be set: {words_of(error)}; make it a plain attribute"
            ) from error
    by_id = everybody.of([id for id in learning.order if id not in known])
    keeps = keeper(method)
    concepts: dict[str, Concept] = {}
    cost: dict[str, SubjectCost] = {}
    for n, id in enumerate(learning.order, 1):
        if id not in known:
            known[id] = _learn_shared(method, keeps, by_id[id], learning.shared)
        concepts[id], seconds = known[id]
        cost[id] = SubjectCost(seconds, _tensor_bytes(concepts[id]))
        if n == 1:
            learning.first(concepts[id])
        learning.progress("learn", n, len(learning.order), id)
    return concepts, cost


def _learn_shared(
    method: Method, keeps: KeepsConcepts | None, subject: Subject, shared: SharedConcepts | None
) -> tuple[Concept, float]:
    """As ``_learn``; found where another process has learned it, or learned and left for the others."""
    if shared is None:
        return _learn(method, keeps, subject)
    with shared.turn(subject.id):
        if (concept := shared.find(subject.id)) is not None:
            return concept, 0.0
        concept, seconds = _learn(method, keeps, subject)
        return shared.keep(concept), seconds


def _learn(method: Method, keeps: KeepsConcepts | None, subject: Subject) -> tuple[Concept, float]:
    """One subject's concept, and the seconds it took, 0 for one that ``keeps`` knew before.

    What the method raises itself, other than mistakes a user can mend, is one line.
    """
    start = time.perf_counter()
    try:
        there = keeps is not None and keeps.known(subject) is not None
        with watched(method):
            concept = method.learn(subject)
    except (PrisbenchError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise DataError(f"{method.name} cannot learn subject {subject.id!r}: {words_of(error)}") from error
    return checked_concept(method.name, subject, concept), 0.0 if there else time.perf_counter() - start


def _tensor_bytes(concept: Concept) -> int:
    """Bytes of the tensors that localization reads."""
    return sum(tensor.nbytes for name, tensor in concept.tensors.items() if name != "losses")
