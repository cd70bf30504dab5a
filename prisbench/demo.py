"""``prisbench demo``: the whole loop on a small Tabletop set, with nothing prepared and nothing mocked.

Knows: which small set, which methods, which pictures.  Does not know: how any of it is done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prisbench.browser.write import Overlay, page_of
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import build_tabletop
from prisbench.datasets.sources.tabletop import SMALL
from prisbench.evaluate import evaluate
from prisbench.images import drawing
from prisbench.leaderboard.pages import write_readme
from prisbench.leaderboard.publish import keep_predictions
from prisbench.leaderboard.render import render
from prisbench.leaderboard.rows import load_runs, rows
from prisbench.methods import load_method
from prisbench.predict import Progress, learn_all
from prisbench.results import write_run
from prisbench.runs import PREDICTIONS, RunOptions, run_name
from prisbench.runtime.files import write_bytes, write_text
from prisbench.settings import MethodOptions
from prisbench.types import QUERY_TYPES, Example, Method, Prediction

RUNS = (
    ("attn", "textual-inversion"),
    ("attn", "noun-only"),
    ("attn", "untrained-token"),
    ("center-box", None),
    ("random-box", None),
    ("whole-image", None),
)

_WITHOUT_CHANCE = ("center-box", "whole-image")
"""No seed changes their answers, and they refuse one."""


class Demo(NamedTuple):
    """What the user is shown: the table as Markdown, and where the pictures are."""

    table: str
    sheet: Path
    page: Path


COST = (
    "the demo draws a small set, learns two things, runs six methods on it and draws pictures: a minute and a half on "
    "two recent cores, several minutes on older ones; interrupt it at will, the same command goes on"
)


def run(
    out: Path,
    seed: int,
    device: str,
    progress: Progress,
    learning: Callable[[int, int, float], None],
    say: Callable[[str], None] = lambda _: None,
) -> Demo:
    """Build, learn, evaluate, rank, draw; everything lands below ``out``, and what is there already is reused.

    ``say`` is called with what it costs.  A second seed in the same folder shares the table with the first.
    """
    say(COST)
    folder = out / "dataset"
    if not (folder / "dataset.json").is_file():
        build_tabletop(folder, SMALL)
    dataset = open_dataset(folder)
    options = MethodOptions(seed=seed, device=device, store=str(out / "concepts"))
    learned: Method | None = None
    for name, concept in RUNS:
        own = dataclasses.replace(options, concept=concept, progress=learning, say=say)
        method = load_method(name, dataclasses.replace(own, seed=0) if name in _WITHOUT_CHANCE else own)
        learned = learned or method
        label = f"{name} {concept or ''}".strip()

        def show(stage: str, done: int, total: int, what: str, label: str = label) -> None:
            progress(f"{label}: {stage}", done, total, what)

        result, record = evaluate(dataset, method, out / "runs", options=RunOptions(seed=seed), progress=show)
        row = write_run(result, out / "leaderboard" / f"{run_name(result.method, result.concept, seed)}.json")
        keep_predictions(result, record.parent / PREDICTIONS, row)
    runs = load_runs(out / "leaderboard")
    assert learned is not None
    drawn = gallery(dataset, learned)
    sheet = write_bytes(out / "pictures.png", drawing.png(drawing.sheet(drawn)))
    write_readme(out / "leaderboard")
    overlays = [
        Overlay(row[2][0], f"{row[1][0].partition(':')[0]}; {row[-1][0]}", drawing.png(drawing.sheet([row])))
        for row in drawn
    ]
    html = write_text(out / "leaderboard.html", page_of(runs, overlays))
    return Demo(render(rows(runs)), sheet, html)


def gallery(dataset: Dataset, method: Method, split: str = "test") -> list[list[tuple[str, np.ndarray]]]:
    """A row for each query type of each subject: two photos, the scene, its truth, the map, the mask."""
    concepts, _ = learn_all(dataset, method, split)
    photos = {subject.id: subject.photos for subject in dataset.subjects(split)}
    names = dataset.subject_names(split)
    chosen: dict[tuple[str, str], Example] = {}
    for example in dataset.examples(split):
        chosen.setdefault((example.query.subject_id, example.query_type), example)
    rows = []
    for (subject, kind), example in sorted(
        chosen.items(), key=lambda item: (item[0][0], QUERY_TYPES.index(item[0][1]))
    ):
        answer = method.locate(example.image, [example.query], concepts)[0]
        rows.append(_row(photos[subject], names[subject], kind, example, answer))
    return rows


def _row(
    photos: tuple[np.ndarray, ...], subject: str, kind: str, example: Example, answer: Prediction
) -> list[tuple[str, np.ndarray]]:
    truth = example.image
    for other in example.look_alikes:
        truth = drawing.outline(truth, other, drawing.SKY, fill=0.0)
    truth = drawing.outline(truth, example.mask, drawing.GREEN)
    mask = answer.mask if answer.mask is not None else np.zeros(example.mask.shape, bool)
    union = int((mask | example.mask).sum())
    verdict = "right, it is not here" if answer.mask is None else "wrong, it is not here"
    if example.mask.any():
        verdict = f"IoU {(mask & example.mask).sum() / union:.2f}"
    score = answer.score if answer.score is not None else np.zeros(example.mask.shape, np.float32)
    return [
        (f"{subject}: photo", photos[0]),
        (f"{kind}: another photo", photos[1]),
        (example.query.text, example.image),
        ("truth (blue: look-alike)", truth),
        (f"map, presence {answer.presence or 0:.3f}", drawing.heat(example.image, score)),
        (f"mask, {verdict}", drawing.outline(example.image, mask, drawing.VERMILION)),
    ]
