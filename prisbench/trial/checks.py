"""The checks of a trial, in the order of ``records.CHECKS``.

Knows: calls, scenes.  Does not know: processes, how checks are shown.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from prisbench.answers import check_method, checked_concept
from prisbench.concepts.store import read_concept, write_concept
from prisbench.errors import DataError
from prisbench.stored import are_whole
from prisbench.trial.calls import Called, Caller, dataset_files
from prisbench.trial.records import Check
from prisbench.trial.scenes import TrialScene, TrialSet
from prisbench.types import Candidate, Concept, GivesCandidates, LooksAhead, Method, Prediction, Subject, WantsSubjects

PIXELS, NUMBERS = 0.002, 1e-3
"""The share of pixels, and of a confidence in 0..1, in which the answers of two batches may differ: rounding."""

QUICK = 5.0
"""A method that loads and learns in so many seconds is loaded and taught a second time."""


@dataclass
class Bench:
    """A method under trial.  ``load`` makes another copy of it; ``first`` are the answers about each scene."""

    caller: Caller
    set_: TrialSet
    load: Callable[[], Method]
    learn_limit: float
    load_seconds: float = 0.0
    learn_seconds: float = 0.0
    first: dict[str, list[Prediction]] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        return self.caller.method


def all_checks(bench: Bench) -> Iterator[Check]:
    """Each check as soon as it is made; those that need what failed are skipped."""
    yield (protocol := _protocol(bench))
    if protocol.failed:
        return
    yield (learned := _learns(bench))
    if learned.failed:
        return
    yield _scenes(bench, "answers", ["landscape"])
    yield _scenes(bench, "sizes", ["portrait", "odd"])
    yield _scenes(bench, "absent", ["absent"], _absent_words)
    yield _scenes(bench, "several", ["several"])
    yield _alone(bench)
    yield _order(bench)
    yield _again(bench)
    yield _images(bench)
    yield _ahead(bench)
    yield _arguments(bench)
    yield _truth(bench)
    yield _candidates(bench)


def _protocol(bench: Bench) -> Check:
    done = bench.caller.timed("name and settings", bench.caller.image_limit, partial(check_method, bench.method))
    return _check(
        "protocol", done.wrong, f"{bench.method.name}, {len(bench.method.settings)} settings" if not done.wrong else ""
    )


def _learns(bench: Bench) -> Check:
    concepts, wrong, seconds = _learn_all(bench, bench.method)
    bench.learn_seconds = seconds
    if wrong is not None:
        return Check("learns", "FAILED", wrong)
    bench.caller.concepts = concepts
    kinds = sorted({concept.learner for concept in concepts.values()})
    if len(kinds) > 1:
        return Check(
            "learns", "FAILED", f"concepts of several kinds ({', '.join(kinds)}); one method gives one learner"
        )
    return Check("learns", "ok", f"{len(concepts)} subjects ({kinds[0]}) in {seconds:.1f} s")


def _learn_all(bench: Bench, method: Method) -> tuple[dict[str, Concept], str | None, float]:
    subjects, concepts, seconds = bench.set_.subjects, dict[str, Concept](), 0.0
    if isinstance(method, WantsSubjects):
        give = partial(setattr, method, "subjects", list(subjects))
        if wrong := bench.caller.timed("subjects", bench.learn_limit, give).wrong:
            return {}, f"the subjects cannot be put into it: {wrong}", 0.0
    for subject in subjects:
        call = partial(_concept, method, subject)
        done = bench.caller.timed(f"learning {subject.id!r}", bench.learn_limit, call)
        seconds += done.seconds
        if done.wrong is not None:
            return {}, f"learning {subject.id!r}: {done.wrong}", seconds
        concepts[subject.id] = done.value
    return concepts, None, seconds


def _concept(method: Method, subject: Subject) -> Concept:
    return checked_concept(method.name, subject, method.learn(subject))


def _scenes(
    bench: Bench, name: str, scenes: Sequence[str], say: Callable[[Sequence[Prediction]], str] | None = None
) -> Check:
    """The answers about these scenes keep the contract."""
    wrong = None
    for each in scenes:
        done = bench.caller.locate(bench.set_.scenes[each])
        if done.wrong is None:
            bench.first[each] = done.value
        else:
            wrong = wrong or f"{bench.set_.scenes[each].words}: {done.wrong}"
    answers = [answer for each in scenes for answer in bench.first.get(each, [])]
    return _check(name, wrong, say(answers) if say else f"{len(answers)} answers")


def _absent_words(answers: Sequence[Prediction]) -> str:
    given = [answer for answer in answers if answer.mask is not None and answer.mask.any()]
    return "answers with a mask all the same, which counts as a false positive" if given else 'says "not here"'


def _alone(bench: Bench) -> Check:
    def alone(scene: TrialScene) -> Called:
        answers = []
        for query in scene.queries:
            done = bench.caller.locate(scene, [query])
            if done.wrong is not None:
                return done._replace(wrong=f"query {query.text!r} alone: {done.wrong}")
            answers += done.value
        return Called(answers, None, 0.0)

    cure = "answer each query from image, text and concept alone"
    return _same(bench, "alone", _crowded(bench), alone, f"alone, its answer differs; {cure}")


def _order(bench: Bench) -> Check:
    def turned(scene: TrialScene) -> Called:
        done = bench.caller.locate(scene, scene.queries[::-1])
        return done._replace(value=done.value and done.value[::-1])

    cure = "answer each query from image, text and concept alone"
    return _same(bench, "order", _crowded(bench), turned, f"asked in another order, its answer differs; {cure}")


def _crowded(bench: Bench) -> list[str]:
    """The scene with the most queries, of those that have answers."""
    found: list[str] = [name for name in ("several", "landscape") if name in bench.first]
    return found[:1]


def _again(bench: Bench) -> Check:
    cure = "draw random numbers from a generator seeded with options.seed and the query's id in each call"
    check = _same(bench, "again", ["landscape"], bench.caller.locate, f"asked twice, its answer differs; {cure}", True)
    if check.state != "ok":
        return check
    if bench.load_seconds + bench.learn_seconds > QUICK:
        return Check("again", "ok", "asked twice; loading and learning take long, so no second copy was made")
    loaded = bench.caller.timed("a second copy", max(bench.learn_limit, 60.0), bench.load)
    if loaded.wrong is not None:
        return Check("again", "FAILED", f"it cannot be loaded a second time: {loaded.wrong}")
    kept, concepts = bench.method, bench.caller.concepts
    try:
        if are_whole(loaded.value) and (check := _untaught(bench, loaded.value)).state != "ok":
            return check
        taught, wrong, _ = _learn_all(bench, loaded.value)
        if wrong is not None:
            return Check("again", "FAILED", f"a second copy of it cannot learn: {wrong}")
        ids = [name for name in concepts if taught[name].id != concepts[name].id]
        if ids:
            return Check("again", "FAILED", f"the concept of {ids[0]!r} has another id when it is learned again; make "
                         "the id from what decides the concept: photos, noun, settings and seed")  # fmt: skip
        bench.caller.method, bench.caller.concepts = loaded.value, taught
        cure = "keep nothing random in learn or make; seed it with options.seed"
        return _same(bench, "again", ["landscape"], bench.caller.locate, f"a second copy differs; {cure}", True)
    finally:
        bench.caller.method, bench.caller.concepts = kept, concepts


def _untaught(bench: Bench, copy: Method) -> Check:
    """Whether a copy that learned nothing answers as the first, from concepts that were written and read back."""
    with tempfile.TemporaryDirectory() as folder:

        def through_disk() -> dict[str, Concept]:
            return {
                name: read_concept(write_concept(concept, Path(folder) / str(n)))
                for n, (name, concept) in enumerate(bench.caller.concepts.items())
            }

        read = bench.caller.timed("concepts on disk", bench.learn_limit, through_disk)
    if read.wrong is not None:
        return Check("again", "FAILED", f"it says concepts_are_whole, but they cannot be kept on disk: {read.wrong}")
    bench.caller.method, bench.caller.concepts = copy, read.value
    cure = "put all that locate needs into the concept, or do not say concepts_are_whole"
    return _same(bench, "again", ["landscape"], bench.caller.locate, f"a copy that did not learn differs; {cure}", True)


def _images(bench: Bench) -> Check:
    names = [name for name in ("several", "odd", "landscape") if name in bench.first]
    cure = "keep nothing of one image for the next"
    return _same(bench, "images", names, bench.caller.locate, f"its answer depends on the images before; {cure}", True)


def _ahead(bench: Bench) -> Check:
    """A copy that has looked at the scenes together answers as one that looked at each alone."""
    if not isinstance(bench.method, LooksAhead):
        return Check("ahead", "skipped", "it looks at no scenes ahead")
    if bench.load_seconds + bench.learn_seconds > QUICK:
        return Check("ahead", "skipped", "loading and learning take long, so no second copy was made")
    loaded = bench.caller.timed("a copy that looks ahead", max(bench.learn_limit, 60.0), bench.load)
    if loaded.wrong is not None:
        return Check("ahead", "FAILED", f"it cannot be loaded a second time: {loaded.wrong}")
    taught, wrong, _ = _learn_all(bench, loaded.value)
    if wrong is not None:
        return Check("ahead", "FAILED", f"a second copy of it cannot learn: {wrong}")
    images = [bench.set_.scenes[each].image.copy() for each in bench.first]
    looked = bench.caller.timed(
        "look_ahead", bench.caller.image_limit * len(images), partial(loaded.value.look_ahead, images)
    )
    if looked.wrong is not None:
        return Check("ahead", "FAILED", f"look_ahead, {len(images)} scenes of several sizes: {looked.wrong}")
    kept, concepts = bench.method, bench.caller.concepts
    bench.caller.method, bench.caller.concepts = loaded.value, taught
    cure = "keep each scene's encoding by its pixels"
    try:
        complaint = f"after a look at several scenes, its answer differs; {cure}"
        return _same(bench, "ahead", list(bench.first), bench.caller.locate, complaint)
    finally:
        bench.caller.method, bench.caller.concepts = kept, concepts


def _same(
    bench: Bench,
    name: str,
    scenes: Sequence[str],
    call: Callable[[TrialScene], Called],
    complaint: str,
    exact: bool = False,
) -> Check:
    """Another way to ask gives the answers that the scenes had at first."""
    there = [each for each in scenes if each in bench.first]
    if not there:
        return Check(name, "skipped", "there is no answer to compare with")
    for each in there:
        scene = bench.set_.scenes[each]
        done = call(scene)
        if done.wrong is not None:
            return Check(name, "FAILED", f"{scene.words}: {done.wrong}")
        for query, old, new in zip(scene.queries, bench.first[each], done.value, strict=True):
            if found := unlike(old, new, exact):
                return Check(name, "FAILED", f"{scene.words}, {query.text!r}: {complaint} ({found})")
    return Check(name, "ok", f"{sum(len(bench.first[each]) for each in there)} answers compared")


def unlike(old: Prediction, new: Prediction, exact: bool = False) -> str | None:
    """In what two answers differ, beyond the rounding of another batch unless ``exact``; None where in nothing."""
    if (old.mask is None) != (new.mask is None):
        return "a mask and no mask"
    if old.mask is not None and new.mask is not None:
        apart = int(np.count_nonzero(old.mask ^ new.mask))
        if apart > (0 if exact else PIXELS * old.mask.size):
            return f"{apart} of {old.mask.size} pixels"
    if (old.presence is None) != (new.presence is None):
        return "presence and no presence"
    if old.presence is not None and new.presence is not None:
        far = abs(old.presence - new.presence)
        if far > (0 if exact else NUMBERS):
            return f"presence {old.presence:.4g} and {new.presence:.4g}"
    if exact and old.peak_yx != new.peak_yx:
        return f"peak {old.peak_yx} and {new.peak_yx}"
    if (old.score is None) != (new.score is None):
        return "a score and none"
    if old.score is not None and new.score is not None:
        far = float(np.abs(old.score - new.score).max())
        if far > (0 if exact else NUMBERS):
            return f"scores by {far:.2g}"
    return None


def _arguments(bench: Bench) -> Check:
    return _check("arguments", next(iter(bench.caller.changed), None), "")


def _truth(bench: Bench) -> Check:
    if bench.caller.decoys_given:
        return Check("truth", "FAILED", f"{bench.caller.decoys_given[0]}: it answers with the mask of an Example that "
                     "it was not given; use image, queries and concepts only")  # fmt: skip
    if opened := dataset_files(bench.caller.touched):
        return Check("truth", "FAILED", f"it opened {opened[0]}, a dataset's table, which holds truths; use what learn "
                     "and locate are given")  # fmt: skip
    return Check("truth", "ok", "it was given none, and opened no dataset")


def _candidates(bench: Bench) -> Check:
    method = bench.method
    if not isinstance(method, GivesCandidates):
        return Check("candidates", "skipped", "it offers none")
    scene, subject = bench.set_.scenes["landscape"], bench.set_.subjects[0]

    def call() -> list[Any]:
        given: Any = method.candidates(scene.image.copy(), subject)
        if not isinstance(given, Iterable):
            raise DataError(f"candidates gave {type(given).__name__}; give a list of prisbench.Candidate(mask, score)")
        return list(given)  # what a generator raises is raised here

    done = bench.caller.timed(f"candidates, {scene.words}", bench.learn_limit, call)
    wrong = done.wrong
    found = [] if wrong else done.value
    for n, each in enumerate(found, 1):
        wrong = wrong or wrong_candidate(f"candidate {n}", each, (scene.image.shape[0], scene.image.shape[1]))
    scores = [] if wrong else [each.score for each in found]
    if scores != sorted(scores, reverse=True):
        wrong = "the candidates are not in the order of their scores; give the likeliest first"
    return _check("candidates", wrong, f"{len(found)} parts of {scene.words}")


def wrong_candidate(at: str, each: Any, size_hw: tuple[int, int]) -> str | None:
    """What a candidate breaks of the contract, with the mend."""
    if not isinstance(each, Candidate):
        return f"{at} is of type {type(each).__name__}; give prisbench.Candidate(mask, score)"
    mask = each.mask
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != size_hw:
        return f"{at}: its mask is no boolean array of {size_hw[0]} x {size_hw[1]}; give one in the photo's pixels"
    if not mask.any():
        return f"{at}: its mask is empty; leave such a candidate out"
    number = isinstance(each.score, int | float | np.number) and math.isfinite(float(each.score))
    if not number or not 0 <= float(each.score) <= 1:
        return f"{at}: its score is {each.score!r}; give a number in 0..1"
    return None


def _check(name: str, wrong: str | None, fine: str) -> Check:
    return Check(name, "ok", fine) if wrong is None else Check(name, "FAILED", wrong)


def slowest_words(bench: Bench, start: float) -> str:
    """The seconds of a trial, in words."""
    return (
        f"the slowest image {bench.caller.slowest:.2f} s of at most {bench.caller.image_limit:g} s; learning "
        f"{bench.learn_seconds:.1f} s; all of it {time.perf_counter() - start:.1f} s"
    )
