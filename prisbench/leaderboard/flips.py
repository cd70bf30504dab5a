"""The queries that one of two runs answers right and the other wrong, as pictures.

Knows: how a sheet of them is put together.  Does not know: which are flips (``compare``), how outlines are drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from prisbench.datasets.load import Dataset
from prisbench.datasets.show.picture import draw, flat, shown
from prisbench.errors import UsageError
from prisbench.images.drawing import png, sheet
from prisbench.leaderboard.compare import Comparison, Pair, Side
from prisbench.predictions import PredictionRecord, read_predictions
from prisbench.runtime.files import write_bytes
from prisbench.types import Example

MOST = 24
"""Flips on a sheet, half of them won by each run where there are so many."""

TILE, ACROSS = 300, 2
"""Pixels of a picture, and flips in a row of the sheet."""


def chosen(comparison: Comparison, most: int = MOST) -> list[Pair]:
    """The flips to show: both runs taking turns, of each its query types, and of a type the largest differences."""
    won, lost = (_by_turns([pair for pair in comparison.pairs if pair.flip == sign]) for sign in (1, -1))
    first = max(most // 2, most - len(lost))
    return [*won[:first], *lost[: most - min(len(won), first)]]


def _by_turns(pairs: Sequence[Pair]) -> list[Pair]:
    turns = Counter[str]()
    placed = []
    for n, pair in enumerate(sorted(pairs, key=lambda pair: -abs(pair.gap))):
        kind = pair.first.query_type
        placed.append((turns[kind], n, pair))
        turns[kind] += 1
    return [pair for *_, pair in sorted(placed, key=lambda each: each[:2])]


def draw_flips(comparison: Comparison, sides: tuple[Side, Side], dataset: Dataset, out: Path) -> Path | None:
    """Write ``flips.png`` into a folder: the scene with its truth, then both answers; None where there is no flip.

    Raises UsageError where a run's predictions are not kept, DataError for damaged ones.
    """
    pairs = chosen(comparison)
    if not pairs:
        return None
    answers = []
    for side in sides:
        if side.predictions is None:
            raise UsageError(f"{side.name}: its predictions are not kept beside it, so there are no masks to draw")
        answers.append({record.query_id: record for record in read_predictions(side.predictions)})
    wanted = {pair.first.query_id for pair in pairs}
    split = sides[0].run.dataset.split
    examples = {each.query.id: each for each in dataset.examples(split, queries=wanted)}
    rows = [_row(pair, examples[pair.first.query_id], answers) for pair in pairs]
    together = [[tile for row in rows[n : n + ACROSS] for tile in row] for n in range(0, len(rows), ACROSS)]
    return write_bytes(out / "flips.png", png(sheet(together, TILE)))


def _row(
    pair: Pair, example: Example, answers: Sequence[Mapping[str, PredictionRecord]]
) -> list[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
    where = f"query {example.query.id}"
    kind = f"{example.query_type}: {shown(example.query.text)}"
    row = [(kind, flat(draw(example.image, example.mask, [], TILE, where)))]
    for letter, records, result in zip("AB", answers, pair, strict=True):
        record = records[example.query.id]
        mask = record.mask if record.mask is not None else np.zeros(example.mask.shape, bool)
        counts = result.counts
        iou = f"IoU {counts.intersection / counts.union:.2f}" if counts.truth_area else "a mask"
        words = "failed" if record.error is not None else iou if mask.any() else "not here"
        right = (pair.flip == 1) == (letter == "A")
        words = f"{letter}: {words}, {'right' if right else 'wrong'}"
        row.append((words, flat(draw(example.image, mask, [], TILE, where))))
    return row
