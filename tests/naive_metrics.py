"""Metric spec 2 once more: slow, over sets of pixels and fractions, after ``docs/metrics.md`` and with nothing of
prisbench.  It is what the golden cases were worked out with, where not by hand.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

Pixels = set[tuple[int, int]]

EMPTY_TRUTH = ("absent", "contradicted")


def pixels(mask: list[Any], size: list[int]) -> Pixels:
    found: Pixels = set()
    for row, part in enumerate(mask):
        if isinstance(part, str):
            assert len(part) == size[1]
            found |= {(row, x) for x, character in enumerate(part) if character == "#"}
        else:
            found |= {(y, x) for y in range(part[0], part[2]) for x in range(part[1], part[3])}
    assert all(0 <= y < size[0] and 0 <= x < size[1] for y, x in found)
    return found


def band(mask: Pixels, size: list[int]) -> Pixels:
    d = max(1, round(0.02 * math.sqrt(size[0] ** 2 + size[1] ** 2)))
    around = [(dy, dx) for dy in range(-d, d + 1) for dx in range(-d, d + 1)]
    return {(y, x) for y, x in mask if any((y + dy, x + dx) not in mask for dy, dx in around)}


def contour(mask: Pixels, size: list[int]) -> Pixels:
    found = set()
    for y in range(size[0]):
        for x in range(size[1]):
            for there in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if there[0] < size[0] and there[1] < size[1] and (there in mask) != ((y, x) in mask):
                    found.add((y, x))
    return found


def tolerance(size: list[int]) -> int:
    t = 1
    while t * t < Fraction(8, 1000) ** 2 * (size[0] ** 2 + size[1] ** 2):
        t += 1
    return t


def near(some: Pixels, others: Pixels, t: int) -> int:
    return sum(any((y - v) ** 2 + (x - u) ** 2 <= t * t for v, u in others) for y, x in some)


def iou(a: Pixels, b: Pixels) -> Fraction:
    return Fraction(len(a & b), len(a | b)) if a | b else Fraction(0)


def counts(case: dict[str, Any]) -> dict[str, Any]:
    size, kind = case["size_hw"], case["query_type"]
    truth = pixels(case["truth"], size)
    mask = set() if case["prediction"] is None else pixels(case["prediction"], size)
    alike = [pixels(each, size) for each in case.get("look_alikes", [])]
    others = alike + [pixels(each, size) for each in case.get("bystanders", [])]
    there = kind not in EMPTY_TRUTH
    peak = case.get("peak_yx")
    inner, outer = band(mask, size), band(truth, size)
    drawn, true = contour(mask, size), contour(truth, size)
    t = tolerance(size)
    return {
        "intersection": len(mask & truth),
        "union": len(mask | truth),
        "predicted_area": len(mask),
        "truth_area": len(truth),
        "look_alike_intersection": len((mask & set().union(*alike)) - truth),
        "boundary_intersection": len(inner & outer),
        "boundary_union": len(inner | outer),
        "area": size[0] * size[1],
        "pointing_hit": tuple(peak) in truth if there and peak is not None else None,
        "wrong_instance": any(iou(mask, each) > iou(mask, truth) for each in alike) if there and alike else None,
        "absent_fp": bool(mask) if kind == "absent" else None,
        "failed": case.get("failed", False),
        "right_instance": iou(mask, truth) >= Fraction(1, 2)
        and all(iou(mask, truth) > iou(mask, each) for each in others)
        if there
        else None,
        "contradicted_fp": bool(mask) if kind == "contradicted" else None,
        "matched_predicted_contour": near(drawn, true, t),
        "predicted_contour": len(drawn),
        "matched_truth_contour": near(true, drawn, t),
        "truth_contour": len(true),
        "candidates": case["candidates"],
    }


def mean(values: list[Any]) -> Fraction | None:
    return sum(values, Fraction(0)) / len(values) if values else None


def f_of(c: dict[str, Any]) -> Fraction:
    if c["predicted_area"] == 0:
        return Fraction(0)
    if c["predicted_contour"] == c["truth_contour"] == 0:
        return Fraction(1)
    if 0 in (c["predicted_contour"], c["truth_contour"]):
        return Fraction(0)
    precision = Fraction(c["matched_predicted_contour"], c["predicted_contour"])
    recall = Fraction(c["matched_truth_contour"], c["truth_contour"])
    return 2 * precision * recall / (precision + recall) if precision + recall else Fraction(0)


def two_class(c: dict[str, Any]) -> Fraction:
    parts = [(c["intersection"], c["union"]), (c["area"] - c["union"], c["area"] - c["intersection"])]
    known = [Fraction(a, b) for a, b in parts if b]
    return sum(known) / len(known)


def per_query(all_counts: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of every metric that is a mean, by name; None where a query does not define it."""
    there = [c for c in all_counts if c["truth_area"]]
    ious = [Fraction(c["intersection"], c["union"]) for c in there]
    alike = [c for c in there if c["wrong_instance"] is not None]

    def share(c: dict[str, Any], n: int) -> Fraction | None:
        return Fraction(n, c["predicted_area"]) if c["predicted_area"] else None

    def right_about_nothing(c: dict[str, Any]) -> bool:
        return c["predicted_area"] == 0 and not c["failed"]

    return {
        "iou_mean": ious,
        "boundary_iou_mean": [Fraction(c["boundary_intersection"], c["boundary_union"]) for c in there],
        "p_at_50": [each >= Fraction(1, 2) for each in ious],
        "p_at_70": [each >= Fraction(7, 10) for each in ious],
        "p_at_90": [each >= Fraction(9, 10) for each in ious],
        "pointing": [False if c["failed"] else c["pointing_hit"] for c in there],
        "wrong_instance_rate": [c["wrong_instance"] or c["failed"] for c in alike],
        "on_look_alikes": [share(c, c["look_alike_intersection"]) for c in alike],
        "on_background": [
            share(c, c["predicted_area"] - c["intersection"] - c["look_alike_intersection"]) for c in there
        ],
        "absent_fp_rate": [c["absent_fp"] or c["failed"] for c in all_counts if c["absent_fp"] is not None],
        "contradicted_fp_rate": [
            c["contradicted_fp"] or c["failed"] for c in all_counts if c["contradicted_fp"] is not None
        ],
        "instance_accuracy": [c["right_instance"] for c in there],
        "dice_mean": [Fraction(2 * c["intersection"], c["predicted_area"] + c["truth_area"]) for c in there],
        "boundary_f_mean": [f_of(c) for c in there],
        "two_class_iou_mean": [two_class(c) for c in there],
        "giou_grefcoco": [
            Fraction(c["intersection"], c["union"]) if c["truth_area"] else right_about_nothing(c) for c in all_counts
        ],
        "n_acc": [right_about_nothing(c) for c in all_counts if not c["truth_area"]],
        "t_acc": [c["predicted_area"] > 0 for c in there],
        "j_and_f_mean": [(each + f_of(c)) / 2 for each, c in zip(ious, there, strict=True)],
        "two_class_iou_all": [two_class(c) for c in all_counts],
    }


def set_numbers(queries: list[dict[str, Any]], by_name: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All numbers of a set; ``by_name``: case name -> counts with "query_type"."""
    members = [{"presence": None, "pair": None, "subject": "a", **each, **by_name[each["case"]]} for each in queries]
    out: dict[str, Any] = {}
    for name, values in per_query(members).items():
        known = [value for value in values if value is not None]
        out |= {name: mean(known), f"{name}_n": len(known), f"{name}_n_undefined": len(values) - len(known)}
    there = [c for c in members if c["truth_area"]]
    for name, chosen in (("iou_pooled", there), ("ciou_grefcoco", members)):
        above, below = sum(c["intersection"] for c in chosen), sum(c["union"] for c in chosen)
        out |= {name: Fraction(above, below) if below else None, f"{name}_n": len(chosen), f"{name}_n_undefined": 0}
    parts = [
        (sum(c["intersection"] for c in members), sum(c["union"] for c in members)),
        (sum(c["area"] - c["union"] for c in members), sum(c["area"] - c["intersection"] for c in members)),
    ]
    out["fb_iou"] = mean([Fraction(a, b) for a, b in parts if b])
    for part, negatives in (("", EMPTY_TRUTH), ("_absent", ("absent",)), ("_contradicted", ("contradicted",))):
        without = [c for c in members if c["query_type"] in negatives]
        out |= {f"presence_mcc{part}": mcc(there, without), f"presence_auc{part}": auc(there, without)}
    out["aurc"] = aurc(members)
    for part, kind in (("", None), ("_referred", "referred"), ("_contradicted", "contradicted")):
        out |= {f"{name}{part}": value for name, value in pairs(members, kind).items()}
    return out


def mcc(there: list[dict[str, Any]], without: list[dict[str, Any]]) -> float | None:
    """Pearson's correlation of two columns of 0 and 1."""
    if not there or not without:
        return None
    rows = [(1, int(c["predicted_area"] > 0)) for c in there]
    rows += [(0, int(c["predicted_area"] > 0 or c["failed"])) for c in without]
    x, y = (Fraction(sum(row[i] for row in rows), len(rows)) for i in (0, 1))
    both = sum((a - x) * (b - y) for a, b in rows)
    spread = sum((a - x) ** 2 for a, _ in rows) * sum((b - y) ** 2 for _, b in rows)
    return float(both) / math.sqrt(spread) if spread else 0.0


def auc(there: list[dict[str, Any]], without: list[dict[str, Any]]) -> Fraction | None:
    def scores(chosen: list[dict[str, Any]], worst: float) -> list[float]:
        return [worst if c["failed"] else c["presence"] for c in chosen if c["failed"] or c["presence"] is not None]

    if not any(c["presence"] is not None and not c["failed"] for c in there + without):
        return None
    ups, downs = scores(there, -math.inf), scores(without, math.inf)
    if not ups or not downs:
        return None
    return mean([Fraction(1 if a > b else 0) + Fraction(a == b) / 2 for a in ups for b in downs])


def aurc(members: list[dict[str, Any]]) -> Fraction | None:
    answers = []
    for c in members:
        if c["failed"]:
            answers.append((math.inf, Fraction(1)))
        elif c["presence"] is not None:
            loss = 1 - Fraction(c["intersection"], c["union"]) if c["union"] else Fraction(0)
            answers.append((c["presence"] if c["predicted_area"] else 1 - c["presence"], loss))
    if not any(sure < math.inf for sure, _ in answers):
        return None
    expected = {sure: mean([loss for other, loss in answers if other == sure]) for sure, _ in answers}
    ordered = [expected[sure] for sure, _ in sorted(answers, key=lambda each: -each[0])]
    return mean([mean(ordered[: k + 1]) for k in range(len(ordered))])


def pairs(members: list[dict[str, Any]], kind: str | None) -> dict[str, Any]:
    right, chance, missing = [], [], 0
    for name in dict.fromkeys(c["pair"] for c in members if c["pair"] is not None):
        both = [c for c in members if c["pair"] == name]
        contradicted = any(not c["truth_area"] for c in both)
        if len(both) == 1:
            missing += kind is None or contradicted == (kind == "contradicted") or not contradicted
            continue
        if kind is not None and (kind == "contradicted") != contradicted:
            continue
        right.append(
            all(
                not c["failed"] and (c["right_instance"] if c["truth_area"] else c["predicted_area"] == 0) for c in both
            )
        )
        chance.append(Fraction(1, math.prod(c["candidates"] + contradicted for c in both)))
    return {
        "pair_accuracy": mean(right),
        "pair_chance": mean(chance),
        "pair_n": len(right),
        "pair_n_undefined": missing,
    }


def average_precision(score: list[list[int]], truth: list[Any]) -> Fraction | None:
    """The mean over pixels of the truth of the precision among all pixels with at least their value."""
    size = [len(score), len(score[0])]
    inside = pixels(truth, size)
    values = {(y, x): score[y][x] for y in range(size[0]) for x in range(size[1])}
    precisions = []
    for pixel in sorted(inside):
        taken = {each for each, value in values.items() if value >= values[pixel]}
        precisions.append(Fraction(len(taken & inside), len(taken)))
    return mean(precisions)
