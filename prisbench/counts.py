"""Masks -> counts: what metric spec 2 keeps of one query.  The same in words and formulas: ``docs/metrics.md``.

All of it is whole numbers and answers to yes/no questions, so that a record of it is exact; every metric follows.

Knows: what is counted, and what an empty mask means.  Does not know: metrics, runs, files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from prisbench.errors import DataError
from prisbench.images.outlines import band, band_width, contour, contour_tolerance, near
from prisbench.images.regions import Maskish, Region, nothing, overlap, overlap_outside, region
from prisbench.types import REFERENTLESS, Example


@dataclass(frozen=True)
class Counts:
    """The sufficient statistics of one query; areas and contours in pixels.

    ``area`` is the scene's, h * w.  ``look_alike_intersection`` is what the prediction covers of look-alikes and not of
    the truth (boxes may overlap).  Of the yes/no answers, None where the question makes no sense: ``pointing_hit``
    without a referent or a peak, ``wrong_instance`` without a referent or a look-alike, ``right_instance`` without a
    referent; ``absent_fp`` and ``contradicted_fp`` ("is the mask not empty?") but for queries of that type.  They are
    about the mask; a query that ``failed`` has an empty one, and metrics count it as wrong.

    ``matched_predicted_contour``: contour pixels of the prediction near the truth's contour; ``matched_truth_contour``
    the other way round.  ``candidates``: how many things the text could mean by all but its words, which is the subject
    and its copies.  Fields with a default are new in spec 2; None where a record of spec 1 does not have them.
    """

    intersection: int
    union: int
    predicted_area: int
    truth_area: int
    look_alike_intersection: int
    boundary_intersection: int
    boundary_union: int
    area: int
    pointing_hit: bool | None
    wrong_instance: bool | None
    absent_fp: bool | None
    failed: bool = False
    right_instance: bool | None = None
    contradicted_fp: bool | None = None
    matched_predicted_contour: int | None = None
    predicted_contour: int | None = None
    matched_truth_contour: int | None = None
    truth_contour: int | None = None
    candidates: int | None = None


@runtime_checkable
class Scored(Protocol):
    """A query as scores are made of it.  ``presence``: how sure the method is that the text has a referent, 0 to 1."""

    @property
    def query_id(self) -> str: ...
    @property
    def subject_id(self) -> str: ...
    @property
    def query_type(self) -> str: ...
    @property
    def counts(self) -> Counts: ...
    @property
    def presence(self) -> float | None: ...
    @property
    def pair_id(self) -> str | None: ...


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method answered: a mask, None for "absent"; the pixel (y, x) it is surest of; whether it failed."""

    mask: Maskish | None
    peak_yx: tuple[int, int] | None = None
    failed: bool = False


@dataclass(frozen=True, eq=False)
class Truth:
    """What a query's answer is held against.

    ``mask``: what the text means, empty for types in ``REFERENTLESS``.  ``look_alikes``: other instances of the noun,
    copies of the subject included; ``bystanders``: all further things that are known.  ``candidates``: the subject and
    its copies in the scene.
    """

    query_id: str
    query_type: str
    mask: Maskish
    look_alikes: tuple[Maskish, ...] = ()
    bystanders: tuple[Maskish, ...] = ()
    candidates: int = 1

    @classmethod
    def of(cls, example: Example) -> Truth:
        """The truth of an example, by its ``things`` where it has them, else by its ``look_alikes``."""
        meant = None if example.meant is None else example.things[example.meant]
        others = [
            each for each in example.things if each is not meant and not (meant is None and each.role == "subject")
        ]
        same = sum(each.role == "subject" or each.grade == "copy" for each in example.things)
        return cls(
            query_id=example.query.id,
            query_type=example.query_type,
            mask=example.mask,
            look_alikes=tuple(each.mask for each in others if each.role == "look-alike")
            if example.things
            else example.look_alikes,
            bystanders=tuple(each.mask for each in others if each.role != "look-alike"),
            candidates=same if example.things else int(example.query_type != "absent"),
        )


def count(answer: Answer, truth: Truth) -> Counts:
    """The counts of one query.

    Raises DataError, naming the query, when a mask has another size than the truth, when the peak lies outside of the
    scene, when the truth is empty for a type with a referent (or not empty for one without), and when a query that
    failed has a mask.
    """
    where = f"query {truth.query_id!r}"
    right = region(truth.mask, f"{where}: the truth")
    predicted = nothing(right.size_hw) if answer.mask is None else _like(right, answer.mask, f"{where}: the prediction")
    alike = [_like(right, each, f"{where}: the look-alike") for each in truth.look_alikes]
    beside = [_like(right, each, f"{where}: the bystander") for each in truth.bystanders]
    _check(answer, truth, right, where)

    meant = truth.query_type not in REFERENTLESS
    shared = overlap(predicted, right)
    wide, near_by = band_width(right.size_hw), contour_tolerance(right.size_hw)
    inner, outer = band(predicted, wide), band(right, wide)
    inner_and_outer = overlap(inner, outer)
    drawn, true = contour(predicted), contour(right)
    ours = shared, predicted.area + right.area - shared
    ahead = [_greater(_iou(predicted, each), ours) for each in alike]
    level = [not _greater(ours, _iou(predicted, each)) for each in (*alike, *beside)]
    return Counts(
        intersection=shared,
        union=ours[1],
        predicted_area=predicted.area,
        truth_area=right.area,
        look_alike_intersection=overlap_outside(predicted, alike, right),
        boundary_intersection=inner_and_outer,
        boundary_union=inner.area + outer.area - inner_and_outer,
        area=right.size_hw[0] * right.size_hw[1],
        pointing_hit=right.holds(answer.peak_yx) if meant and answer.peak_yx is not None else None,
        wrong_instance=any(ahead) if meant and alike else None,
        absent_fp=predicted.area > 0 if truth.query_type == "absent" else None,
        failed=answer.failed,
        right_instance=2 * shared >= ours[1] and not any(level) if meant else None,
        contradicted_fp=predicted.area > 0 if truth.query_type == "contradicted" else None,
        matched_predicted_contour=near(drawn, true, near_by),
        predicted_contour=drawn.area,
        matched_truth_contour=near(true, drawn, near_by),
        truth_contour=true.area,
        candidates=truth.candidates,
    )


def sound(counts: Counts) -> bool:
    """Whether counts could come from masks; numbers that contradict each other were not counted."""
    c = counts
    empty = c.truth_area == 0
    areas = (
        0 <= c.intersection <= min(c.predicted_area, c.truth_area)
        and 0 <= c.look_alike_intersection <= c.predicted_area - c.intersection
        and c.union == c.predicted_area + c.truth_area - c.intersection
        and c.union <= c.area
        and 0 <= c.boundary_intersection <= c.boundary_union <= c.union
        and c.boundary_intersection <= c.intersection
        and (c.boundary_union > 0) == (c.union > 0)
    )
    answers = (
        [c.absent_fp is None, c.contradicted_fp is None].count(False) == int(empty)
        and all(each in (None, c.predicted_area > 0) for each in (c.absent_fp, c.contradicted_fp))
        and not (empty and not (c.pointing_hit is c.wrong_instance is c.right_instance is None))
        and not (c.right_instance and (c.wrong_instance or 2 * c.intersection < c.union))
        and not (c.failed and c.predicted_area)
    )
    contours = [
        (c.matched_predicted_contour, c.predicted_contour, c.predicted_area),
        (c.matched_truth_contour, c.truth_contour, c.truth_area),
    ]
    outlines = all(
        (matched is None and whole is None)
        or (matched is not None and whole is not None and 0 <= matched <= whole and (whole > 0) == (0 < area < c.area))
        for matched, whole, area in contours
    )
    return areas and answers and outlines and (c.candidates is None or c.candidates >= int(not empty))


def _like(right: Region, mask: Maskish, name: str) -> Region:
    """A mask's region, of the scene's size."""
    found = region(mask, name)
    if found.size_hw != right.size_hw:
        (a, b), (h, w) = found.size_hw, right.size_hw
        raise DataError(f"{name} mask is {a} x {b}, the scene {h} x {w} (height x width); resize it to the scene first")
    return found


def _check(answer: Answer, truth: Truth, right: Region, where: str) -> None:
    h, w = right.size_hw
    if answer.peak_yx is not None and not (0 <= answer.peak_yx[0] < h and 0 <= answer.peak_yx[1] < w):
        raise DataError(f"{where}: the peak (y, x) = {answer.peak_yx} lies outside the scene of {h} x {w}")
    if (right.area > 0) == (truth.query_type in REFERENTLESS):
        what = "a non-empty" if right.area else "an empty"
        raise DataError(f"{where}: type {truth.query_type!r} with {what} truth mask; build the dataset again")
    if answer.failed and answer.mask is not None:
        raise DataError(f"{where}: failed, yet has a mask; a query that failed has none")


def _iou(a: Region, b: Region) -> tuple[int, int]:
    """Intersection over union as a fraction; 0 / 0 for two empty masks."""
    shared = overlap(a, b)
    return shared, a.area + b.area - shared


def _greater(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether one IoU is above another, in whole numbers; 0 / 0 is 0."""
    return a[0] * max(b[1], 1) > b[0] * max(a[1], 1)
