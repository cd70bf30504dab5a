"""Evaluation results as the Hugging Face Hub reads them: ``.eval_results/*.yaml``, and the model-index of a card.

Knows: the Hub's two forms, through its own classes.  Does not know: how anything is uploaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from prisbench.exports.numbers import dataset_name, notes_of, numbers_of, row_name
from prisbench.leaderboard.rows import board_name
from prisbench.results import Run
from prisbench.runtime.files import write_text

RANKING = ("headline", "iou_mean")
"""Numbers that a benchmark's leaderboard on the Hub may be of, as tasks; those that a run has are written."""


def write_hub(run: Run, out: Path, dataset_id: str | None = None) -> list[Path]:
    """Write ``.eval_results/<dataset>.yaml`` and a ``README.md`` that has the model-index alone, to put into a card.

    ``dataset_id``: the dataset's id on the Hub; by default the name that prisbench has for it.
    """
    name = board_name(run.dataset)
    results = write_text(out / ".eval_results" / f"{name}.yaml", _yaml(eval_results(run, dataset_id or name)))
    card = write_text(out / "README.md", f"---\n{_yaml(model_index(run, dataset_id or name))}---\n")
    return [results, card]


def eval_results(run: Run, dataset_id: str) -> list[dict[str, Any]]:
    """The entries of ``.eval_results/*.yaml``: the task is the number's name."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=dataset_id,
            task_id=number.name,
            value=round(number.value, 4),
            date=run.created,
            notes=f"{notes_of(run)}{_interval(number.interval)}",
        )
        for number in numbers_of(run)
        if number.name in RANKING
    ]
    return eval_result_entries_to_yaml(entries)


def model_index(run: Run, dataset_id: str) -> dict[str, Any]:
    """``{"model-index": [...]}`` with every number."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    results = [
        EvalResult(
            task_type="image-segmentation",
            task_name="Personalized referring image segmentation",
            dataset_type=dataset_id,
            dataset_name=dataset_name(run),
            dataset_split=run.dataset.split,
            dataset_args={"digest": run.dataset.digest, "metric_spec": run.metric_spec},
            metric_type=number.name,
            metric_name=number.label,
            metric_value=round(number.value, 4),
        )
        for number in numbers_of(run)
    ]
    return {"model-index": eval_results_to_model_index(row_name(run), results)}


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"; 95 % interval over subjects {interval[0]:.3f} to {interval[1]:.3f}"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
