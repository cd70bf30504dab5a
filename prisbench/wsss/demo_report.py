"""What a demonstration shows: its table, the same as a record, and its pictures.

Knows: what was judged, on which scenes, what the errors are.  Does not know: how masks and
networks came about.
"""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from prisbench.images import drawing
from prisbench.leaderboard.render import cell
from prisbench.statistics import interval_words
from prisbench.wsss import scoring
from prisbench.wsss.labelling import BEFORE, MASKS, TAUGHT
from prisbench.wsss.labels import read_example, read_mask
from prisbench.wsss.layouts import VOID
from prisbench.wsss.maps import read_soft_map
from prisbench.wsss.pseudo_masks import MAPS
from prisbench.wsss.scoring import Scores, Tally
from prisbench.wsss.sets import SegmentationSet
from prisbench.wsss.train import Trained


def table_of(rows: Sequence[Judgement], record: dict[str, Any]) -> str:
    """mIoU of every row; below, the ratio, and what the errors are."""
    lines = ["| judged | scenes | mIoU | missed | swapped | spilled |", "| :--- | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        errors = [f"{each:.1%}" if each is not None else "–" for each in errors_of(row.tally).values()]
        cells = [row.what, f"{row.scores.images} {row.split}", cell(row.scores.miou, row.scores.interval), *errors]
        lines.append("| " + " | ".join(cells) + " |")
    most = max((row.scores.images for row in rows), default=0)
    ratio = "undefined" if record["ratio"] is None else f"{record['ratio']:.1%}"
    lines += [
        "",
        f"- Trained on pseudo masks, the network reaches {ratio} of the ceiling, the same network on true masks.",
        f"- mIoU over the classes in the truth, background in; {interval_words(most, 'scene')}.",
        "- Missed: pixels of things called background; swapped: called another class; spilled: background called a "
        "thing; all as shares of the things' true pixels.",
        "- Image labels (an oracle, as in the published protocol) and the best cut of maps come from the true masks.",
    ]
    return "\n".join(lines)


def record_of(rows: Sequence[Judgement], made_with: dict[str, Any]) -> dict[str, Any]:
    """The numbers of every row, how the last but one compares with
    the last, and what all was made with.
    """
    taught, ceiling = rows[-2], rows[-1]
    gap = scoring.difference(taught.tally, ceiling.tally)
    a, b = taught.scores.miou, ceiling.scores.miou
    return {
        "rows": [
            {
                "what": row.what,
                "split": row.split,
                **dataclasses.asdict(row.scores),
                "errors": errors_of(row.tally),
                "training_seconds": row.training and row.training.seconds,
                "waiting_share": row.training and row.training.waiting_share,
            }
            for row in rows
        ],
        "ratio": a / b if a is not None and b else None,
        "difference": {"miou": gap.value, "interval": gap.interval},
        **made_with,
    }


def errors_of(counted: Tally) -> dict[str, float | None]:
    """What share of the things' true pixels is missed (called background) or swapped (called
    another class), and how many pixels of the background are called a thing, as a share of the
    same.
    """
    matrix = counted.confusion
    things = int(matrix[1:].sum())
    if not things:
        return {"missed": None, "swapped": None, "spilled": None}
    swapped = matrix[1:, 1:].sum() - matrix[1:, 1:].trace()
    pixels = {"missed": matrix[1:, 0].sum(), "swapped": swapped, "spilled": matrix[0, 1:].sum()}
    return {name: int(each) / things for name, each in pixels.items()}


class Judgement(NamedTuple):
    """A line of the table: what was judged, on which split, and the
    numbers; of a network, how it was trained.
    """

    what: str
    split: str
    tally: Tally
    scores: Scores
    training: Trained | None = None


def gallery(dataset: SegmentationSet, out: Path, scenes: int = 5) -> list[list[tuple[str, np.ndarray]]]:
    """Rows of labelled pictures: training scenes with their pseudo
    masks, then held-out scenes with both networks'.
    """
    rows = []
    for item in dataset.items("train")[:scenes]:
        photo, truth = read_example(dataset, item)
        soft = read_soft_map(out / "pseudo" / MAPS / f"{item.id}.safetensors", len(dataset.classes))
        row = [("training scene", photo), ("truth", painted(photo, truth))]
        row += [(f"map: {dataset.classes[soft.labels[0]]}", drawing.heat(photo, soft.scores[0].astype(np.float32)))]
        for name, kind in (("before refinement", BEFORE), ("pseudo mask", MASKS), ("taught", TAUGHT)):
            labels = read_mask(out / "pseudo" / kind / f"{item.id}.png", len(dataset.classes))
            row.append((name, painted(photo, labels)))
        rows.append(row)
    for item in dataset.items("val")[:scenes]:
        photo, truth = read_example(dataset, item)
        row = [("held-out scene", photo), ("truth", painted(photo, truth))]
        for name in ("pseudo masks", "true masks"):
            masks = out / f"network-on-{name.replace(' ', '-')}" / "val" / MASKS
            labels = read_mask(masks / f"{item.id}.png", len(dataset.classes))
            row.append((f"trained on {name}", painted(photo, labels)))
        rows.append(row)
    return rows


def painted(photo: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in grey with every class in a hue of its own; void is white.

    (VOC's palette has greys.)
    """
    hues = [colorsys.hsv_to_rgb(label * 0.381966 % 1, 0.9, 0.95) for label in range(256)]
    palette = np.asarray(hues, np.float32) * 255
    palette[VOID] = 255
    grey = np.repeat(photo.mean(axis=2, keepdims=True), 3, axis=2)
    mixed = np.where((labels != 0)[..., None], 0.35 * grey + 0.65 * palette[labels], grey)
    return mixed.round().astype(np.uint8)
