"""Names that other papers use for these numbers, and the few numbers of theirs that are none of ours.

Knows: metrics.  Does not know: anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from prisbench.counts import Counts
from prisbench.metrics import Mean, Metric, boundary_f, has_referent, two_class_iou


class Alias(NamedTuple):
    """``name``, as ``where`` has it, is our ``metric`` (in ``METRICS`` or ``ELSEWHERE``), ``when`` that holds."""

    name: str
    where: str
    metric: str
    when: str = "always"


def _answered_right(counts: Counts) -> bool:
    return not counts.failed and not counts.predicted_area


ELSEWHERE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="giou_grefcoco",
            label="gIoU (gRefCOCO)",
            meaning="mean IoU over all queries; where the truth is empty, an empty mask has IoU 1 and any other 0",
            scope=lambda c: True,
            terms=lambda c: (c.intersection / c.union if has_referent(c) else float(_answered_right(c)), 1.0),
        ),
        Metric(
            name="ciou_grefcoco",
            label="cIoU (gRefCOCO)",
            meaning="all intersections over all unions, also of queries whose truth is empty",
            scope=lambda c: True,
            terms=lambda c: (float(c.intersection), float(c.union)),
        ),
        Metric(
            name="n_acc",
            label="N-acc",
            meaning="share of queries whose truth is empty that are answered with an empty mask",
            scope=lambda c: not has_referent(c),
            terms=lambda c: (float(_answered_right(c)), 1.0),
        ),
        Metric(
            name="t_acc",
            label="T-acc",
            meaning="share of queries with a referent that are answered with a mask",
            scope=has_referent,
            terms=lambda c: (float(c.predicted_area > 0), 1.0),
        ),
        Metric(
            name="j_and_f_mean",
            label="J&F",
            meaning="the mean of IoU and boundary F, then the mean over queries with a referent",
            scope=lambda c: has_referent(c) and c.truth_contour is not None,
            terms=lambda c: ((c.intersection / c.union + (boundary_f(c) or 0.0)) / 2, 1.0),
        ),
        Metric(
            name="two_class_iou_all",
            label="two-class IoU, all",
            meaning="the mean of the IoU of the mask and of the background, then the mean over all queries",
            scope=lambda c: True,
            terms=lambda c: (two_class_iou(c), 1.0),
        ),
    )
}
"""What other papers report and ``METRICS`` leaves out; not ranked by."""

ALIASES: tuple[Alias, ...] = (
    Alias("mIoU", "RefCOCO papers", "iou_mean"),
    Alias("gIoU", "LISA, reasoning segmentation", "iou_mean", "where every text has a referent"),
    Alias("oIoU", "RefCOCO papers, LAVT", "iou_pooled"),
    Alias("cIoU", "LISA, ReLA", "iou_pooled", "where every text has a referent"),
    Alias("overall IoU", "RefCOCO papers", "iou_pooled"),
    Alias("bIoU", "Cheng et al. 2021", "boundary_iou_mean"),
    Alias("P@0.5", "RefCOCO papers", "p_at_50"),
    Alias("Pr@0.7", "RefCOCO papers, ReLA", "p_at_70"),
    Alias("Pr@0.9", "RefCOCO papers, ReLA", "p_at_90"),
    Alias("Dice", "medical imaging", "dice_mean"),
    Alias("J", "DAVIS", "iou_mean", "of single frames, a query an object"),
    Alias("F", "DAVIS", "boundary_f_mean", "of single frames, a query an object; an empty mask scores 0"),
    Alias("J&F", "DAVIS", "j_and_f_mean", "of single frames, a query an object; an empty mask scores 0"),
    Alias("mIoU", "torchmetrics' MeanIoU with two classes", "two_class_iou_all"),
    Alias("gIoU", "gRefCOCO, ReLA", "giou_grefcoco", "when N-acc is read off the mask"),
    Alias("cIoU", "gRefCOCO, ReLA", "ciou_grefcoco", "when N-acc is read off the mask"),
    Alias("N-acc", "gRefCOCO, ReLA", "n_acc", "when it is read off the mask"),
    Alias("T-acc", "gRefCOCO, ReLA", "t_acc", "when it is read off the mask"),
)
"""One name may be several numbers; that is why ours have other names.  FB-IoU is ``foreground_background_iou``, IL_MCC
of SA-Co is ``presence.presence_mcc``.
"""


def foreground_background_iou(counts: Iterable[Counts]) -> Mean:
    """FB-IoU, the two-class mIoU of semantic segmentation: pooled IoU of the masks and of all that is outside of them,
    and the mean of the two; over all queries.
    """
    counts = list(counts)
    inside = sum(c.intersection for c in counts), sum(c.union for c in counts)
    outside = sum(c.area - c.union for c in counts), sum(c.area - c.intersection for c in counts)
    known = [above / below for above, below in (inside, outside) if below]
    return Mean(math.fsum(known) / len(known) if known else None, len(counts), 0)
