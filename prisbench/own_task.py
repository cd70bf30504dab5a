"""How well a method's model does what it was trained for, and how well it must for a method's row to be ranked.

A row says how a method does on a model.  Where the model fails at its own task, as a small one may that was trained for
a short while, the row says little of the method: it is shown and not ranked (``docs/decisions.md``).

Knows: the cards that lie beside weights.  Does not know: models, methods, rows.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAST = 0.5
"""The mean IoU on its own task below which a model is weak: from there on an answer counts as right everywhere here."""

CARD = "card.json"
"""The facts of a model that was trained by a recipe of ours, beside its weights."""

EMBEDDED = Path(__file__).parent / "embedded"
"""Where the models lie that come with prisbench."""


@dataclass(frozen=True)
class OwnTask:
    """Mean IoU over ``n`` cases outside of training of what a model was trained for; ``task`` says what that is.

    ``iou_mean_ci``: its 95 % interval, None where there were too few scenes.
    """

    task: str
    iou_mean: float
    iou_mean_ci: tuple[float, float] | None
    n: int

    @property
    def weak(self) -> bool:
        """Whether a row that stands on this model is kept out of the ranking."""
        return self.iou_mean < LEAST

    @property
    def words(self) -> str:
        """The score to read."""
        low_high = f" [{self.iou_mean_ci[0]:.2f}, {self.iou_mean_ci[1]:.2f}]" if self.iou_mean_ci else ""
        return f"a mean IoU of {self.iou_mean:.3f}{low_high} on its own task ({self.task}, {self.n} cases)"


def own_task(folder: str | Path, task: str) -> OwnTask | None:
    """What the card in a model's folder says of a task; None without a card, and where the card says nothing of it."""
    return _tasks(_card(Path(folder))).get(task)


def known_as_told(told: Mapping[str, Any] | None) -> OwnTask | None:
    """An own task from plain JSON, as a run's manifest has it."""
    if told is None:
        return None
    ends = told["iou_mean_ci"]
    return OwnTask(told["task"], told["iou_mean"], None if ends is None else (ends[0], ends[1]), told["n"])


@functools.cache
def embedded_tasks() -> Mapping[str, OwnTask]:
    """The best that each model that comes along has on any of its tasks, by the name that records have for it."""
    found = {}
    for path in sorted(EMBEDDED.rglob(CARD)):
        card = _card(path.parent)
        name = card.get("backbone") or f"embedded-{card.get('name')}@{card.get('weights')}"
        if tasks := _tasks(card):
            found[str(name)] = max(tasks.values(), key=lambda each: each.iou_mean)
    return found


def _card(folder: Path) -> dict[str, Any]:
    """The card's facts; none of a folder without one, and of a file that is no card of ours."""
    try:
        card = json.loads((folder / CARD).read_bytes())
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _tasks(card: Mapping[str, Any]) -> dict[str, OwnTask]:
    """What a card says of each task: a rival's ``held_out``, a backbone's ``held_out_phrases``."""
    found: dict[str, OwnTask] = {}
    given = card.get("held_out")
    parts = dict(given) if isinstance(given, Mapping) else {}
    if "held_out_phrases" in card:
        parts["phrase"] = card["held_out_phrases"]
    for task, facts in parts.items():
        if not isinstance(facts, Mapping) or not isinstance(facts.get("iou_mean"), int | float):
            continue
        told = {"task": task, "iou_mean": float(facts["iou_mean"]), "n": int(facts.get("n", 0))}
        found[task] = OwnTask(iou_mean_ci=_ends(facts.get("iou_mean_ci")), **told)
    return found


def _ends(given: Any) -> tuple[float, float] | None:
    return (float(given[0]), float(given[1])) if isinstance(given, list) and len(given) == 2 else None
