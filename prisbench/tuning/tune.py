"""A method's settings tried one after the other on the same validation queries, and the best of them kept in a file.

Interrupt it whenever you like: each setting's result is a file, and a larger budget goes on from a smaller one's.

Knows: the order of things.  Does not know: any method, how one is run or scored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import prisbench
from prisbench.datasets.load import SUBSET, Dataset
from prisbench.datasets.spread import spread_subjects
from prisbench.errors import UsageError
from prisbench.evaluate import tell_before
from prisbench.headline import headline_difference, subset_scores
from prisbench.methods import check_options, load_method
from prisbench.metrics import METRICS, has_referent, mean
from prisbench.predict import Progress, predict
from prisbench.results import REFERENCES, Run, read_run, write_run
from prisbench.runs import RUN, RunOptions, Scope, run_name
from prisbench.runtime.files import check_writable, read_bytes, sha256_json, write_json
from prisbench.runtime.identity import identity
from prisbench.runtime.locks import locked
from prisbench.runtime.resume import Difference, claim
from prisbench.runtime.resume import as_json as jsonable
from prisbench.runtime.strict_json import Strict, read
from prisbench.score import score_folder
from prisbench.settings import MethodOptions
from prisbench.statistics import Interval, Sample, gathered, paired_difference
from prisbench.subsets import grade_of, subset_of
from prisbench.tuning.file import Tried, Tuned, best_of, gain_of, write_tuned
from prisbench.tuning.space import Space, as_json, drawn, published, space_of
from prisbench.types import Method

PLAN, FILE = "plan.json", "tuned.json"


@dataclass(frozen=True)
class Tuning:
    """What is tuned.  ``options``: the method's; its ``settings`` are the same in all that is tried.

    ``budget``: settings tried, the published one among them.  ``seed``: of the draws.  ``subjects``, ``queries``: of
    the split, spread over nouns, and over subjects, types and grades.
    """

    method: str
    options: MethodOptions = field(default_factory=MethodOptions)
    out: Path = Path("tuned")
    budget: int = 16
    seed: int = 0
    subjects: int = 8
    queries: int = 240
    split: str = "validation"
    reference: str = REFERENCES[0]


class Asked(NamedTuple):
    """The queries that every setting answers: their scope, how many scenes they are about, and a hash of their ids."""

    scope: Scope
    queries: int
    images: int
    sha256: str


def check_tuning(tuning: Tuning) -> None:
    """What can be found wrong before a dataset is opened or weights are loaded.  Raises UsageError, WriteError, and
    what the method's own ``check`` raises.
    """
    if tuning.split == "test":
        raise UsageError("--split test: settings are never chosen on test, which is what rows report; take validation")
    if tuning.budget < 2:
        raise UsageError(f"--budget {tuning.budget} leaves nothing to choose; give 2 or more")
    check_writable(tuning.out)
    check_options(tuning.method, [tuning.options])


def tune(
    dataset: Dataset, tuning: Tuning, progress: Progress = lambda *_: None, say: Callable[[str], None] = lambda _: None
) -> tuple[Tuned, Path]:
    """Try the settings, and write the best of them; what was chosen, and the file.

    ``say`` is told the cost before anything runs, and again once the published setting has shown it.  What does not
    depend on the settings, such as concepts, is learned once, where the method keeps it.

    Raises UsageError for a method that declares nothing to tune and for a sample that lacks a type or grade;
    DataError where the folder holds another tuning; as ``load_method`` and ``predict``.
    """
    method = load_method(tuning.method, tuning.options)
    space = space_of(method)
    wanted = drawn(space, tuning.seed, tuning.budget, published(method, space))
    sample = sample_of(dataset, tuning)
    folder = folder_of(dataset, tuning, method.name)
    with locked(folder):
        claim(folder / PLAN, jsonable(_plan(dataset, tuning, method, space, sample)), _refusal(folder))
        _tell_before(dataset, tuning, method, sample, len(wanted), say)
        tried: list[_Result] = []
        for number, settings in enumerate(wanted):
            progress("settings", number, len(wanted), "")
            tried.append(_try(dataset, tuning, folder, (number, settings), sample, progress))
            if number == 0:
                first = tried[0].result
                rest = first.seconds * (len(wanted) - 1)
                say(f"published: {first.score:.3f} in {first.seconds:.0f} s; the others take about {rest:.0f} s")
        progress("settings", len(wanted), len(wanted), "")
        results, interval = [each.result for each in tried], _gain_interval(folder, tried)
        tuned = _tuned(dataset, tuning, method, results, sample, interval)
        return tuned, write_tuned(tuned, folder / FILE)


def folder_of(dataset: Dataset, tuning: Tuning, name: str) -> Path:
    """Where a tuning keeps what it tried."""
    parts = [run_name(name, tuning.options.concept or "default", tuning.options.seed, tuning.reference)]
    parts += [f"draws-{tuning.seed}"] if tuning.seed else []
    parts += [sha256_json(dict(tuning.options.settings))[:8]] if tuning.options.settings else []
    return tuning.out / dataset.id / "--".join(parts)


def sample_of(dataset: Dataset, tuning: Tuning) -> Asked:
    """The queries.  Raises UsageError where they lack a type or grade that the split has."""
    records = [record for _, record in dataset.records("subjects", tuning.split, ("id", "noun"))]
    chosen = spread_subjects([(record["id"], record["noun"]) for record in records])[: tuning.subjects]
    scope = Scope(tuning.split, tuning.queries, None, tuple(sorted(chosen)))
    ids, images, kinds = [], set(), set()
    for example in scope.examples(dataset):
        ids.append(example.query.id)
        images.add(example.image_id)
        grade = grade_of(thing.grade for thing in example.things if thing.role == "look-alike")
        kinds.add(subset_of(example.query_type, grade))
    everything = {place.keys[0] for place in dataset.places("queries", tuning.split, (SUBSET,))}
    if lacking := sorted(everything - kinds):
        raise UsageError(
            f"{len(ids)} queries of {len(chosen)} subjects hold no {lacking[0]!r}, which {tuning.split} has; give more "
            "--queries or --subjects"
        )
    return Asked(scope, len(ids), len(images), sha256_json(sorted(ids)))


def score_of_run(run: Run) -> tuple[str, float, dict[str, float]]:
    """(what it is, the number that settings are chosen by, the scores by subset): the headline, or without one mIoU."""
    scores = subset_scores(run.queries)
    rounded = {name: round(value, 6) for name, value in scores.by_subset.items()}
    if scores.value is not None:
        return "headline", round(scores.value, 6), rounded
    found = mean(METRICS["iou_mean"], [query.counts for query in run.queries]).value
    return "iou_mean", round(found or 0.0, 6), rounded


def interval_between(better: Run, published: Run) -> Interval | None:
    """The 95 % interval over subjects of what one run scores more than another on the same queries, in the number that
    settings are chosen by (``score_of_run``).
    """
    ours, theirs = subset_scores(better.queries), subset_scores(published.queries)
    if ours.value is not None:
        return headline_difference(ours, theirs).interval
    return paired_difference(_ious(better), _ious(published)).interval


def _ious(run: Run) -> Sample:
    """The queries that have an IoU."""
    terms = ((query, METRICS["iou_mean"].terms(query.counts)) for query in run.queries if has_referent(query.counts))
    return gathered((query.query_id, query.subject_id, *each) for query, each in terms if each is not None)


def _gain_interval(folder: Path, tried: list[_Result]) -> list[float] | None:
    chosen = best_of([each.result for each in tried])
    best = next(each for each in tried if each.result == chosen)
    found = interval_between(read_run(folder / best.run), read_run(folder / tried[0].run))
    return None if found is None else [round(each, 6) for each in found]


def _plan(dataset: Dataset, tuning: Tuning, method: Method, space: Space, sample: Asked) -> dict[str, Any]:
    """What must be the same for results to stand side by side; the budget need not."""
    return {
        "method": method.name,
        "published": method.settings,
        "concept": tuning.options.concept,
        "model": tuning.options.model,
        "seed": tuning.options.seed,
        "fixed": tuning.options.settings,
        "reference": tuning.reference,
        "draws": {"seed": tuning.seed, "space": as_json(space)},
        "dataset": {"id": dataset.id, "digest": dataset.digest, "split": tuning.split},
        "sample": {"queries": sample.queries, "subjects": len(sample.scope.subjects), "sha256": sample.sha256},
        "code": sha256_json(jsonable({key: identity(method)[key] for key in ("code", "weights", "packages")})),
    }


def _refusal(folder: Path) -> Callable[[Sequence[Difference]], str]:
    cure = "choose another --out, or remove that folder"
    return lambda changed: f"{folder} holds a tuning with another plan: {changed[0].words}; {cure}"


def _tell_before(
    dataset: Dataset, tuning: Tuning, method: Method, sample: Asked, wanted: int, say: Callable[[str], None]
) -> None:
    """How much is run, what a scene costs, and whether the scenes are unlike what the method's model knows."""
    few = f" (it has no more than {wanted})" if wanted < tuning.budget else ""
    each = f"{sample.queries} queries about {sample.images} scenes, {len(sample.scope.subjects)} subjects"
    say(f"tuning {method.name}: {wanted} settings{few}, each on the same {each} of {tuning.split}")
    tell_before(dataset, method, tuning.split, True, say)


def _try(
    dataset: Dataset,
    tuning: Tuning,
    folder: Path,
    which: tuple[int, dict[str, Any]],
    sample: Asked,
    progress: Progress,
) -> _Result:
    """One setting's result, from its file where it is there."""
    number, settings = which
    path = folder / f"{number:03}.json"
    if path.is_file():
        return read(_Result, read_bytes(path), str(path))
    options = replace(tuning.options, settings={**tuning.options.settings, **settings})
    method, start = load_method(tuning.method, options), time.perf_counter()
    how = RunOptions(seed=options.seed, reference=tuning.reference)

    def show(stage: str, done: int, total: int, name: str) -> None:
        progress(f"{stage} {number + 1}", done, total, name)

    predicted = predict(dataset, method, folder / "runs" / f"{number:03}", sample.scope, how, show)
    run = score_folder(predicted.folder, dataset)
    _, value, by_subset = score_of_run(run)
    result = Tried(settings, value, by_subset, run.n_errors, round(time.perf_counter() - start, 1))
    kept = write_run(run, predicted.folder / RUN).relative_to(folder)
    write_json(path, {"run": str(kept), "result": asdict(result)})
    return _Result(run=str(kept), result=result)


def _tuned(
    dataset: Dataset,
    tuning: Tuning,
    method: Method,
    tried: list[Tried],
    sample: Asked,
    interval: list[float] | None,
) -> Tuned:
    best = best_of(tried)
    graded = any(name.startswith("look-alike:") for name in best.by_subset)
    return Tuned(
        method=method.name,
        concept=tuning.options.concept,
        model=tuning.options.model,
        reference=tuning.reference,
        fixed=dict(tuning.options.settings),
        settings=best.settings,
        budget=len(tried),
        seed=tuning.seed,
        metric="headline" if graded else "iou_mean",
        score=best.score,
        published=tried[0].score,
        gain=gain_of(best, tried[0]),
        gain_interval=interval,
        dataset=dataset.id,
        digest=dataset.digest,
        split=tuning.split,
        subjects=len(sample.scope.subjects),
        queries=sample.queries,
        sample=sample.sha256,
        space=as_json(space_of(method)),
        prisbench_version=prisbench.__version__,
        tried=tried,
    )


class _Result(Strict):
    """The file of a setting: its scored run, below the tuning's folder, and what it is told by."""

    run: str
    result: Tried
