"""What evaluating and checking a set gives, as records (plain JSON values), tables (Markdown, CSV)
and text.

Knows: the numbers of ``evaluate`` and ``scoring``, the findings of ``check``.  Does not know: how
they came about.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prisbench.leaderboard.render import cell
from prisbench.statistics import interval_words
from prisbench.wsss.check import ListReport, Report
from prisbench.wsss.evaluate import THRESHOLDS, evaluate_masks, sweep
from prisbench.wsss.scoring import PredictedVoid, Scores, class_ious, difference, mean_iou, scores
from prisbench.wsss.sets import SegmentationSet


def masks_record(
    dataset: SegmentationSet,
    split: str,
    pred: Path,
    before: Path | None = None,
    predicted_void: PredictedVoid = PredictedVoid.error,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The numbers of a folder of masks as plain JSON values; ``before``: a second folder, to
    compare with.

    Raises as ``evaluate_masks``.
    """
    after_tally = evaluate_masks(dataset, split, pred, predicted_void, progress)
    before_tally = evaluate_masks(dataset, split, before, predicted_void, progress) if before is not None else None
    record: dict[str, Any] = {"dataset": dataset.name, "split": split, "pred": str(pred)}
    record["predicted_void"] = predicted_void.value
    record |= _scores_record(scores(after_tally), dataset.classes)
    record["notes"] = list(after_tally.notes)
    if before_tally is not None:
        record["before"] = {"pred": str(before), **_scores_record(scores(before_tally), dataset.classes)}
        gain = difference(after_tally, before_tally)
        record["gain"] = {"miou": gain.value, "interval": gain.interval, "images": gain.n}
    return record


def _scores_record(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    record = dataclasses.asdict(scores)
    ious, images = record.pop("ious"), record.pop("class_images")
    record["classes"] = [
        {"class": name, "images": n, "iou": iou} for name, n, iou in zip(classes, images, ious, strict=True)
    ]
    return record


def masks_table(record: dict[str, Any]) -> str:
    """A Markdown table: classes in rows, mIoU in the last.

    With a second folder, its columns come first, then the gain.
    """
    earlier = record.get("before")
    heads = ["class", "images", *(["before", "after", "gain"] if earlier else ["IoU"])]
    lines = ["| " + " | ".join(heads) + " |", "| :--- |" + " ---: |" * (len(heads) - 1)]
    for row in _rows(record):
        middle = [cell(row["before"]), cell(row["iou"]), _signed(row["gain"])] if earlier else [cell(row["iou"])]
        lines.append("| " + " | ".join([row["class"], str(row["images"]), *middle]) + " |")
    middle = [cell(record["miou"], record["interval"])]
    if earlier:
        gain = record["gain"]
        middle = [cell(earlier["miou"], earlier["interval"]), *middle, _signed(gain["miou"], gain["interval"])]
    lines.append("| " + " | ".join(["**mIoU**", str(record["images"]), *middle]) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(record))])


def _notes(record: dict[str, Any]) -> list[str]:
    notes = [
        f"mIoU over {record['n_classes']} of {len(record['classes'])} classes and {record['images']} images of "
        f"{record['dataset']} "
        f"{record['split']}: pooled pixels, void left out, background in; {interval_words(record['images'], 'image')}."
    ]
    if record["n_undefined"]:
        notes.append(
            f"{record['n_undefined']} classes occur in no pixel that counts, neither true nor predicted: undefined."
        )
    if record["n_spurious"]:
        notes.append(f"{record['n_spurious']} classes are predicted but never true: not in the mean.")
    if record["void_share"]:
        share, policy = record["void_share"], record["predicted_void"]
        loud = "MORE THAN HALF, " if share > 0.5 else ""
        notes.append(f"{loud}{share:.1%} of the pixels with a true label are void in the masks: counted as {policy}.")
    return notes + [each if each.endswith("?") else f"{each}." for each in record["notes"]]


def masks_csv(record: dict[str, Any]) -> str:
    """The numbers of ``masks_record``, classes in rows, mIoU with its interval in the last."""
    rows, earlier = _rows(record), record.get("before")
    rows.append({"class": "mIoU", "images": record["images"], "iou": record["miou"]})
    rows[-1] |= _ends("iou", record["interval"])
    if earlier:
        rows[-1] |= {"before": earlier["miou"], **_ends("before", earlier["interval"])}
        rows[-1] |= {"gain": record["gain"]["miou"], **_ends("gain", record["gain"]["interval"])}
    return _csv(rows)


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every class; with a second folder, its IoU and the gain."""
    rows: list[dict[str, Any]] = [
        {"class": each["class"], "images": each["images"], "iou": each["iou"]} for each in record["classes"]
    ]
    if earlier := record.get("before"):
        for row, old in zip(rows, earlier["classes"], strict=True):
            both = row["iou"] is not None and old["iou"] is not None
            row |= {"before": old["iou"], "gain": row["iou"] - old["iou"] if both else None}
    return rows


def sweep_record(
    dataset: SegmentationSet, split: str, folder: Path, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """mIoU of a folder of soft maps at every threshold, and the classes at the best one, as plain
    JSON values.

    Raises as ``sweep``.
    """
    matrices = sweep(dataset, split, folder, progress=progress)
    mious = [mean_iou(each) for each in matrices]
    best = max(range(len(mious)), key=lambda at: mious[at] or 0.0)  # of equals, the lowest
    ious = class_ious(matrices[best])
    return {
        "dataset": dataset.name,
        "split": split,
        "pred": str(folder),
        "sweep": [{"threshold": t, "miou": miou} for t, miou in zip(THRESHOLDS, mious, strict=True)],
        "best": {"threshold": THRESHOLDS[best], "miou": mious[best]},
        "classes": [{"class": name, "iou": iou} for name, iou in zip(dataset.classes, ious, strict=True)],
    }


def sweep_table(record: dict[str, Any]) -> str:
    """Markdown tables: mIoU at every threshold; the classes at the best one."""
    best = record["best"]
    lines = ["| threshold | mIoU |", "| ---: | ---: |"]
    lines += [f"| {each['threshold']:.2f} | {cell(each['miou'])} |" for each in record["sweep"]]
    lines += [
        "",
        f"- Best: {best['threshold']:.2f}, mIoU {cell(best['miou'])}, on the images it is chosen on.",
    ]
    lines += ["", "| class | IoU at the best |", "| :--- | ---: |"]
    lines += [f"| {each['class']} | {cell(each['iou'])} |" for each in record["classes"]]
    return "\n".join(lines)


def sweep_csv(record: dict[str, Any]) -> str:
    """A line for every threshold."""
    return _csv(record["sweep"])


def _signed(value: float | None, ci: Sequence[float] | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:+.3f}" + (f" [{ci[0]:+.2f}, {ci[1]:+.2f}]" if ci else "")


def _ends(name: str, ci: Sequence[float] | None) -> dict[str, float | None]:
    low, high = ci or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    """One line a row, without a final newline; the last row has all columns."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[-1]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")


def check_record(report: Report) -> dict[str, Any]:
    record = dataclasses.asdict(report)
    record["lists"] = [{**dataclasses.asdict(each), "whole": each.whole} for each in report.lists]
    record["get"] = [{**each._asdict(), "splits": list(each.splits)} for each in report.get]
    return record


def check_text(report: Report) -> str:
    lines = [f"{report.dataset} in {report.root}: {'usable' if report.usable else 'NOT usable'}"]
    width = max((len(each.split) for each in report.lists), default=0)
    lines += [f"  {each.split:{width}}  {_list_text(each)}" for each in report.lists]
    lines += [f"  {report.masks_read} masks read, {len(report.wrong)} things wrong" + (":" if report.wrong else "")]
    lines += [f"    {each}" for each in report.wrong[:10]]
    lines += [f"    and {len(report.wrong) - 10} more"] if len(report.wrong) > 10 else []
    lines += [f"  note: {each}" for each in report.notes]
    lines += ["  to get what is missing:"] if report.get else []
    lines += [f"    {each.what}\n      {each.url} ({each.licence})" for each in report.get]
    return "\n".join(lines)


def _list_text(report: ListReport) -> str:
    if report.path is None:
        return f"no list; {report.expected} ids are wanted"
    parts = [f"{report.ids} ids"]
    if report.right is True:
        parts = [f"{report.ids} ids, the published list"]
    elif report.right is False:
        parts = [
            f"{report.ids} ids, NOT the published list ({report.expected} ids): numbers are not comparable to others'"
        ]
    if report.photos_missing:
        parts.append(f"{report.photos_missing} photos missing")
    if report.masks_missing and report.split != "test":
        parts.append(f"{report.masks_missing} masks missing")
    if report.first_missing is not None:
        parts.append(f"the first is {report.first_missing}")
    else:
        parts.append("photos are all there" if report.split == "test" else "photos and masks are all there")
    return "; ".join(parts)
