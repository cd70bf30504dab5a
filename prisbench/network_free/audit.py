"""What of a dataset can be had without a network: scores by type and grade, and with inputs taken away.

Every answer is counted as a benchmark's is (``counts``).  With true outlines the predictors choose among the masks of
the scene's things, so that only recognition is measured, not segmentation.  The rows are judged by gates
(``gates``): what a benchmark has to keep from predictors without a network.

Knows: datasets with their truth.  Does not know: networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prisbench.counts import Answer, Counts, Truth, count
from prisbench.datasets.load import Dataset
from prisbench.deaf import deaf_queries, deaf_subjects
from prisbench.network_free.colours import mask_resized, shrunk
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.model import SubjectModel, learn
from prisbench.network_free.predictors import PREDICTORS, choose
from prisbench.network_free.reader import by_colour, grades
from prisbench.network_free.regions import snapped
from prisbench.network_free.weights import FILE, weights_for
from prisbench.phrases import parse
from prisbench.results import REFERENCES
from prisbench.statistics import Interval, Sample, interval
from prisbench.types import QUERY_TYPES, REFERENTLESS, Example, Subject

TEXT_ALONE = "text alone"
"""Chooses among true outlines by the text's place and nothing else; equals share."""

DEAF_ONES = ("combined", "reader")
"""Predictors that are also asked with an input taken away."""

BALANCE = "none"


@dataclass(frozen=True)
class Row:
    """One predictor's scores on one kind of queries.

    ``regions``: "found" or "outlines"; ``deaf``: the input that was taken away, None for none.  ``scope``: "all", a
    query type, or "look-alike: GRADE" for scenes whose look-alikes include that grade.  ``miou`` is over queries with a
    referent, with its 95 % interval over subjects; ``wrong`` the share of look-alike or copy scenes in which the mask
    is more another instance's than the truth's; ``right`` the share of referents that are the right instance;
    ``silent``: the share of texts without a referent that get no mask; ``auc``: presence of queries with a referent
    against those without.  None where no query defines it.
    """

    dataset: str
    split: str
    reference: str
    predictor: str
    regions: str
    deaf: str | None
    scope: str
    n: int
    miou: float | None
    interval: Interval | None
    wrong: float | None
    right: float | None
    silent: float | None
    auc: float | None


class _Scored(NamedTuple):
    query_id: str
    subject_id: str
    scopes: tuple[str, ...]
    counts: tuple[tuple[Counts, float], ...]
    presence: float


@dataclass(frozen=True)
class Options:
    """``limit``: so many queries, spread (``Dataset.examples``); ``weights``: the file of the predictors' weights."""

    limit: int | None = None
    weights: Path = FILE


Told = Callable[[str, int], None]


def measure(
    dataset: Dataset,
    split: str,
    subjects: Sequence[Subject],
    options: Options | None = None,
    told: Told = lambda *_: None,
) -> list[Row]:
    """The rows of one split for subjects as methods get them: with masks in the photos, or without.

    ``told`` is called with the input taken away ("" for none) and the number of queries seen.
    """
    options = options or Options()
    masked = all(any(mask is not None for mask in subject.masks) for subject in subjects)
    reference = REFERENCES[int(masked)]
    rows: list[Row] = []
    for deaf in (None, "relation", "subject"):
        models = {each.id: learn(each, BALANCE) for each in deaf_subjects(subjects, deaf)}
        scored: dict[tuple[str, str], list[_Scored]] = {}
        for n, example in enumerate(dataset.examples(split, options.limit), 1):
            for key, one in _answers(example, models[example.query.subject_id], (reference, options.weights), deaf):
                scored.setdefault(key, []).append(one)
            told(deaf or "", n)
        about = (dataset.id, split, reference)
        for (predictor, regions), ones in scored.items():
            rows += _rows(about, predictor, regions, deaf, ones)
    return rows


def _answers(
    example: Example, model: SubjectModel, fitted: tuple[str, Path], deaf: str | None
) -> Iterator[tuple[tuple[str, str], _Scored]]:
    """What every predictor answers, under (predictor, regions)."""
    reference, file = fitted
    (query,) = deaf_queries([example.query], deaf)
    evidence = Evidence(Scene(shrunk(example.image), BALANCE), model)
    h, w = example.mask.shape
    small = [mask_resized(thing.mask, evidence.scene.size_hw) for thing in example.things]
    seen = [n for n, mask in enumerate(small) if mask.any()]
    truth, scopes = Truth.of(example), scopes_of(example)
    cut: dict[tuple[str, int], np.ndarray] = {}

    def scored(answers: Sequence[tuple[np.ndarray | None, float]], presence: float) -> _Scored:
        counted = tuple((count(Answer(mask), truth), share) for mask, share in answers)
        return _Scored(example.query.id, example.query.subject_id, scopes, counted, presence)

    for name, predictor in PREDICTORS.items():
        if deaf and name not in DEAF_ONES:
            continue
        weights = weights_for(reference, "found", name, file)
        found = choose(evidence, predictor, weights, query.text)
        mask = None
        if found.place is not None and found.presence >= weights.threshold:
            key = predictor.map_, found.place
            if key not in cut:
                region = found.regions[found.place]
                cut[key] = snapped(evidence.scene.image, getattr(evidence, predictor.map_), region)
            mask = mask_resized(cut[key], (h, w))
        yield (name, "found"), scored([(mask, 1.0)], found.presence)
        if seen:
            weights = weights_for(reference, "outlines", name, file)
            chosen = choose(evidence, predictor, weights, query.text, [small[n] for n in seen])
            there = chosen.place is not None and chosen.presence >= weights.threshold
            mask = example.things[seen[chosen.place]].mask if there and chosen.place is not None else None
            yield (name, "outlines"), scored([(mask, 1.0)], chosen.presence)
    if seen and not deaf:
        yield (TEXT_ALONE, "outlines"), scored(*_text_alone(example, evidence.scene, [small[n] for n in seen], seen))


def _text_alone(
    example: Example, scene: Scene, regions: Sequence[np.ndarray], seen: Sequence[int]
) -> tuple[list[tuple[np.ndarray | None, float]], float]:
    told = grades(parse(example.query.text), regions, np.ones(len(regions)), by_colour(scene, regions))
    best = np.flatnonzero(told >= told.max() - 1e-9)
    return [(example.things[seen[n]].mask, 1 / len(best)) for n in best.tolist()], float(told.max())


def scopes_of(example: Example) -> tuple[str, ...]:
    """The kinds of queries that an example belongs to."""
    grades_there = sorted({thing.grade for thing in example.things if thing.grade is not None})
    return ("all", example.query_type, *(f"look-alike: {grade}" for grade in grades_there))


def _rows(
    about: tuple[str, str, str], predictor: str, regions: str, deaf: str | None, scored: Sequence[_Scored]
) -> Iterator[Row]:
    scopes = dict.fromkeys(scope for one in scored for scope in one.scopes)
    order = ["all", *QUERY_TYPES]
    for scope in sorted(scopes, key=lambda each: (order.index(each) if each in order else len(order), each)):
        some = [one for one in scored if scope in one.scopes]
        present = [one for one in some if one.counts[0][0].truth_area]
        empty = [one for one in some if not one.counts[0][0].truth_area]
        ious = [sum(c.intersection / c.union * share for c, share in one.counts) for one in present]
        sample = Sample(
            tuple(one.query_id for one in present),
            tuple(one.subject_id for one in present),
            np.array(ious),
            np.ones(len(present)),
        )
        yield Row(
            *about,
            predictor,
            regions,
            deaf,
            scope,
            len(some),
            sample.value,
            interval(sample) if present else None,
            _share(present, "wrong_instance"),
            _share(present, "right_instance"),
            float(np.mean([sum((not c.predicted_area) * share for c, share in one.counts) for one in empty]))
            if empty
            else None,
            _auc([one.presence for one in present], [one.presence for one in empty]),
        )


def _share(scored: Sequence[_Scored], name: str) -> float | None:
    """The mean answer to one of the yes/no questions of ``Counts``, over those that it is asked of."""
    asked = [one for one in scored if getattr(one.counts[0][0], name) is not None]
    if not asked:
        return None
    return float(np.mean([sum(bool(getattr(c, name)) * share for c, share in one.counts) for one in asked]))


def _auc(present: Sequence[float], empty: Sequence[float]) -> float | None:
    """The chance that a query with a referent has the higher presence; ties count half."""
    if not present or not empty:
        return None
    a, b = np.array(present)[:, None], np.array(empty)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


# ---------------------------------------------------------------------------------------------------------------------
# for people


def records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows as JSON has them, numbers rounded to four digits."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 4)
        return [plain(each) for each in value] if isinstance(value, tuple) else value

    return [{key: plain(value) for key, value in dataclasses.asdict(row).items()} for row in rows]


def rows_of(found: Iterable[Mapping[str, Any]]) -> list[Row]:
    """What ``records`` gave."""
    return [Row(**{**each, "interval": tuple(each["interval"]) if each["interval"] else None}) for each in found]


def markdown(rows: Sequence[Row]) -> str:
    """A table for each reference setting and kind of regions: mIoU by scope, then wrong instances, silence, AUC."""
    lines: list[str] = []
    for reference in dict.fromkeys(row.reference for row in rows):
        for regions in ("found", "outlines"):
            some = [row for row in rows if (row.reference, row.regions) == (reference, regions)]
            if some:
                lines += [*_table(some, f"{some[0].dataset}, {some[0].split}, {reference}, regions: {regions}"), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Sequence[Row], title: str) -> Iterator[str]:
    scopes = [row.scope for row in rows if (row.predictor, row.deaf) == (rows[0].predictor, rows[0].deaf)]
    scopes = [scope for scope in scopes if scope not in REFERENTLESS]
    by = {(row.predictor, row.deaf, row.scope): row for row in rows}
    n = {row.scope: row.n for row in rows}
    yield f"### {title}"
    yield ""
    yield f"| predictor | {' | '.join(f'{scope} ({n[scope]})' for scope in scopes)} | wrong instance | silent | AUC |"
    yield "| --- " * (len(scopes) + 4) + "|"
    for name, deaf in dict.fromkeys((row.predictor, row.deaf) for row in rows):
        all_ = by[name, deaf, "all"]
        cells = [_cell(by[name, deaf, scope].miou) if (name, deaf, scope) in by else "" for scope in scopes]
        label = name if deaf is None else f"{name}, deaf to {deaf}"
        yield f"| {label} | {' | '.join(cells)} | {_cell(all_.wrong)} | {_cell(all_.silent)} | {_cell(all_.auc)} |"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


# ---------------------------------------------------------------------------------------------------------------------
# gates


@dataclass(frozen=True)
class Gate:
    """A number that a benchmark has to keep on one side of ``limit``; ``value`` None where the rows do not say."""

    name: str
    value: float | None
    limit: float
    at_most: bool

    @property
    def shut(self) -> bool:
        """Whether it is kept; a gate that nothing measures counts as shut."""
        return self.value is None or (self.value <= self.limit if self.at_most else self.value >= self.limit)


def gates(rows: Sequence[Row]) -> list[Gate]:
    """The gates of each reference setting.

    A network-free predictor must not solve look-alikes, neither by found regions nor by true outlines; presence must
    not be told by it; texts must matter where copies stand, and the subject's photos where look-alikes do.  The limits
    are goals, not measurements.
    """
    found = []
    for reference in dict.fromkeys(row.reference for row in rows):
        some = [row for row in rows if row.reference == reference]

        def best(field: str, scope: str, regions: str, rows: Sequence[Row] = some) -> float | None:
            values = [
                value
                for row in rows
                if (row.scope, row.regions, row.deaf) == (scope, regions, None)
                and row.predictor != TEXT_ALONE
                and (value := getattr(row, field)) is not None
            ]
            return max(values, default=None)

        grades_there = sorted({row.scope for row in some if row.scope.startswith("look-alike")})
        for scope in grades_there:
            found.append(
                Gate(f"{reference}: {scope}: best mIoU, regions found", best("miou", scope, "found"), 0.6, True)
            )
            found.append(
                Gate(
                    f"{reference}: {scope}: best share right, true outlines",
                    best("right", scope, "outlines"),
                    0.8,
                    True,
                )
            )
        found.append(Gate(f"{reference}: presence: best AUC", best("auc", "all", "found"), 0.85, True))
        for deaf, scope in (("relation", "referred"), ("subject", "look-alike")):
            found.append(
                Gate(
                    f"{reference}: {scope}: share right lost when deaf to {deaf}", _lost(some, deaf, scope), 0.2, False
                )
            )
    return found


def _lost(rows: Sequence[Row], deaf: str, scope: str) -> float | None:
    """What the reader loses of its share of right instances with an input taken away, with true outlines."""
    by = {
        row.deaf: row.right for row in rows if (row.predictor, row.regions, row.scope) == ("reader", "outlines", scope)
    }
    whole, less = by.get(None), by.get(deaf)
    return None if whole is None or less is None else whole - less


def open_gates(rows: Sequence[Row]) -> list[str]:
    """The names of the gates that are not shut."""
    return [gate.name for gate in gates(rows) if not gate.shut]
