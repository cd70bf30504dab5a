"""The ceilings of a dataset's split, of runs that kept soft maps, and of a person's choices; and whether a file of them
says what measuring again gives.

Truths are read here and by ``score`` alone: no method takes part.

Knows: datasets, runs' folders, the file of ceilings.  Does not know: any method, tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import prisbench
from prisbench.bench.by_eye import picked
from prisbench.ceilings.outlines import against, grabcut_version, kinds
from prisbench.ceilings.thresholds import (
    Curve,
    curve,
    curves_of,
    one_for_all,
    one_for_each,
    presence_known,
    without_map,
)
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, UsageError
from prisbench.headline import score_of
from prisbench.leaderboard.ceilings import Asked, Ceiling, Ceilings
from prisbench.leaderboard.intervals import marked
from prisbench.results import DatasetRef, Run
from prisbench.runs import SOFT_MAPS
from prisbench.score import score_folder
from prisbench.soft_maps import read_map
from prisbench.subsets import grade_of, subset_of
from prisbench.types import Example

Found = tuple[list[Asked], list[Ceiling]]
Progress = Callable[[str, int, int], None]

DIGITS = 6
"""Of a score in the file."""

CHECKED_EVERY = 8
"""Of so many queries one is cut out by GrabCut again when a file is checked: it takes nine tenths of the time."""

PERSON = "a person, true outlines"


def asked(example: Example, split: str) -> Asked:
    """What the file says of a query."""
    grade = grade_of(thing.grade for thing in example.things if thing.role == "look-alike")
    return Asked(split, example.query.id, example.query.subject_id, example.query_type, grade)


def of_truth(dataset: Dataset, split: str, progress: Progress = lambda *_: None, cut_out_every: int = 1) -> Found:
    """The ceilings of ``outlines.kinds`` over every query of a split; those that no query defines are left out.

    ``cut_out_every``: one in so many queries is cut out by GrabCut.
    """
    wanted, total = kinds(), dataset.manifest.n_queries(split)
    queries: list[Asked] = []
    scores: list[dict[str, float]] = [{} for _ in wanted]
    for example in dataset.examples(split):
        queries.append(asked(example, split))
        for kind, found in zip(wanted, scores, strict=True):
            left_out = "GrabCut" in kind.name and (len(queries) - 1) % cut_out_every
            value = None if left_out else kind.score(example)
            if value is not None:
                found[example.query.id] = round(value, DIGITS)
        progress("truth", len(queries), total)
    if not queries:
        raise UsageError(f"{dataset.id} has no queries in its {split} split")
    about = {"opencv": grabcut_version()}
    ceilings = [
        Ceiling(kind.name, "truth", kind.told, split, about if "GrabCut" in kind.name else {}, found)
        for kind, found in zip(wanted, scores, strict=True)
        if found
    ]
    return queries, ceilings


def of_run(
    dataset: Dataset, folder: Path, split: str, progress: Progress = lambda *_: None, rows: Sequence[Run] = ()
) -> list[Ceiling]:
    """What the run in a folder would score with its maps cut at the best threshold: one for all queries, one for each,
    and one for each with presence known.  Masks are the maps' own: what refines them is left out.

    They are held to the row among ``rows`` that the run made again (``row_of``), else to the run itself.

    Raises as ``score_folder``; DataError where it kept no map, UsageError for a run of a part, or of another split.
    """
    run = score_folder(folder, dataset)
    if run.dataset.split != split or run.part.left_out:
        what = "a part of its split" if run.part.left_out else f"the {run.dataset.split} split"
        raise UsageError(f"{folder} is a run of {what}; ceilings of {split} want a run of all of {split}")
    curves = curves_of(list(_curves(run, dataset, folder / SOFT_MAPS, split, progress)))
    threshold, all_ = one_for_all(curves)
    name = f"{run.method} / {marked(run.concept, run.reference)}"
    name += f" / seed {run.seed}" if run.seed else ""
    row = row_of(run, rows) or run
    kept = None if row.predictions is None else row.predictions.sha256
    about: dict[str, Any] = {"predictions": kept, "without_map": without_map(curves)}
    notes = [f"{about['without_map']} answers without a map stay as they are"] if about["without_map"] else []
    ceilings = []
    for what, told, scores, note in (
        ("one best threshold", "the threshold that fits the truths best", all_, f"threshold {threshold / 255:.3f}"),
        ("best threshold of each query", "the best threshold of each map", one_for_each(curves), ""),
        ("best thresholds, presence known", "that, and whether it is there", presence_known(curves), ""),
    ):
        said = "; ".join([*([note] if note else []), *notes])
        rounded = {query_id: round(value, DIGITS) for query_id, value in scores.items()}
        noted = {**about, **({"note": said} if said else {})}
        ceilings.append(Ceiling(f"{name}: {what}", "map", told, split, noted, rounded))
    return ceilings


def row_of(run: Run, rows: Sequence[Run]) -> Run | None:
    """The row whose answers a run gave again: the same method, concept, seed and reference setting, and for every query
    a mask with the same counts.  Seconds and soft maps do not count, so a row need not be replaced to get ceilings.
    """

    def answers(of: Run) -> Any:
        return {query.query_id: (query.counts, query.error is None) for query in of.queries}

    def what(of: Run) -> Any:
        return of.dataset, of.method, of.concept, of.seed, of.reference

    return next((row for row in rows if what(row) == what(run) and answers(row) == answers(run)), None)


def _curves(run: Run, dataset: Dataset, maps: Path, split: str, progress: Progress) -> Iterator[tuple[str, Curve]]:
    results = {query.query_id: query for query in run.queries}
    for n, example in enumerate(dataset.examples(split), 1):
        result, path = results[example.query.id], maps / f"{example.query.id}.png"
        scores = curve(read_map(path), example.mask) if path.is_file() else None
        subset = subset_of(result.query_type, result.grade)
        answered = result.counts.predicted_area > 0
        yield example.query.id, Curve(subset, bool(example.mask.any()), score_of(result), answered, scores)
        progress("maps", n, len(results))


def of_person(dataset: Dataset, split: str, each: int, seed: int, answers: Mapping[str, int]) -> Found:
    """A person's choices among true outlines (``bench.by_eye``), scored as masks.  Raises as ``by_eye.picked``."""
    queries: list[Asked] = []
    scores: dict[str, float] = {}
    for example, thing in picked(dataset, split, each, seed, answers):
        queries.append(asked(example, split))
        scores[example.query.id] = round(against(example, None if thing is None else thing.mask), DIGITS)
    about = {"each": each, "seed": seed, "answers": dict(answers)}
    return queries, [Ceiling(PERSON, "person", "every thing's outline, drawn", split, about, scores)]


def together(data: DatasetRef, parts: Sequence[Found], before: Ceilings | None = None) -> Ceilings:
    """The parts as one file; ceilings ``before`` them that no part makes again are kept.

    Raises DataError where those are of another dataset version.
    """
    if before is not None and before.dataset != data:
        raise DataError("the ceilings that are there are of another dataset version; remove ceilings.json first")
    queries = {each.query_id: each for found, _ in parts for each in found}
    ceilings = {each.name: each for _, found in parts for each in found}
    for each in () if before is None else before.ceilings:
        if each.name not in ceilings:
            ceilings[each.name] = each
            queries |= {one.query_id: one for one in before.queries if one.query_id in each.scores}  # type: ignore[union-attr]
    order = sorted(queries.values(), key=lambda one: one.split != data.split)
    return Ceilings(data, prisbench.__version__, order, list(ceilings.values()))


def checked(found: Ceilings, dataset: Dataset | None, runs: Sequence[Run]) -> Iterator[tuple[str, str]]:
    """(ceiling, what became of it): measured again where the dataset is here, and held to the rows beside it.

    Raises DataError for the first score that measuring again does not give, and for a run that no row is of.
    """
    again = (
        {}
        if dataset is None
        else {each.name: each for each in of_truth(dataset, found.dataset.split, cut_out_every=CHECKED_EVERY)[1]}
    )
    rows = {run.predictions.sha256 for run in runs if run.predictions is not None}
    for each in found.ceilings:
        if each.kind == "map":
            if each.about.get("predictions") not in rows:
                raise DataError(f"ceiling {each.name!r}: no row has the predictions of its run; measure it again")
            yield each.name, "of a row's run; its soft maps are not kept here, so it is not measured again"
            continue
        if dataset is None:
            yield each.name, "not measured again, its data is not here"
            continue
        if each.kind == "person":
            about = each.about
            made = of_person(dataset, each.split, about["each"], about["seed"], about["answers"])[1][0]
        elif "opencv" in each.about and each.about["opencv"] != grabcut_version():
            yield each.name, f"not measured again: made with OpenCV {each.about['opencv']}, here {grabcut_version()}"
            continue
        else:
            made = again[each.name]
        _compare(each, made, part="GrabCut" in each.name)
        of = f" of {len(each.scores)}" if len(made.scores) < len(each.scores) else ""
        yield each.name, f"{len(made.scores)}{of} queries measured again: the same numbers"


def _compare(there: Ceiling, made: Ceiling, part: bool) -> None:
    if not made.scores.keys() <= there.scores.keys() or not (part or len(made.scores) == len(there.scores)):
        raise DataError(f"ceiling {there.name!r}: its queries are not those of its dataset; measure it again")
    for query_id, value in made.scores.items():
        if abs(value - there.scores[query_id]) > 10**-DIGITS:
            raise DataError(
                f"ceiling {there.name!r}: query {query_id!r} has {there.scores[query_id]}, measured again {value}; "
                "make it again with `prisbench ceilings`"
            )
