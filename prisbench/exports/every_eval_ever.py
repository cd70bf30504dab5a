"""A run in the schema of Every Eval Ever (github.com/evaleval/every_eval_ever, ``eval.schema.json``).

Knows: the schema's required parts and where prisbench's numbers belong in them.  Does not know: its database.
"""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from typing import Any

from prisbench.exports.numbers import Number, dataset_name, numbers_of, row_name
from prisbench.leaderboard.rows import board_name
from prisbench.leaderboard.strength import weak_notes
from prisbench.results import Run
from prisbench.runtime.files import sha256_json, write_json
from prisbench.statistics import DRAWS, LEVEL

SCHEMA_VERSION = "0.3.0"
"""Wants to be told how a model is deployed and whether it can be had, and lets "unknown" stand."""

UNKNOWN = "unknown"


def write_every_eval_ever(run: Run, out: Path, organization: str | None = None) -> Path:
    """Write ``data/<dataset>/<developer>/<model>/<id>.json``, as their repository is laid out; the file."""
    found = record(run, organization)
    developer, _, model = found["model_info"]["id"].partition("/")
    id = sha256_json({"id": found["evaluation_id"], "run": run.predictions and run.predictions.sha256})[:32]
    return write_json(out / "data" / board_name(run.dataset) / developer / model / f"{id}.json", found)


def record(run: Run, organization: str | None = None) -> dict[str, Any]:
    """The aggregate record.  ``organization``: who evaluated; whether that is who made the method is not known."""
    name = re.sub(r"[^\w.+@=-]+", "-", f"{run.method}--{run.concept}").lstrip(".")
    model = f"{UNKNOWN}/{name}"
    stamp = str(int(datetime.datetime.fromisoformat(run.created).replace(tzinfo=datetime.UTC).timestamp()))
    data = board_name(run.dataset)
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{data}/{model}/{stamp}",
        "evaluation_timestamp": run.created,
        "retrieved_timestamp": stamp,
        "source_metadata": {
            "source_name": "prisbench",
            "source_type": "evaluation_run",
            "source_organization_name": organization or UNKNOWN,
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "prisbench",
            "version": run.prisbench_version,
            "additional_details": {"metric_spec": run.metric_spec, "run_fingerprint": _fingerprint(run)},
        },
        "model_info": {
            "name": row_name(run),
            "id": model,
            "additional_details": {
                "deployment_type": UNKNOWN,
                "model_availability": UNKNOWN,
                "backbone": run.backbone or "none",
                "reference": run.reference or UNKNOWN,
                "seed": str(run.seed),
                "settings": json.dumps(run.settings, sort_keys=True),
                **({"not_ranked": weak[0]} if (weak := weak_notes(run.method, run)) else {}),
            },
        },
        "evaluation_results": [_result(run, number) for number in numbers_of(run)],
    }


def _fingerprint(run: Run) -> str:
    """The same for two runs of the same method with the same settings on the same dataset."""
    return sha256_json([run.settings, run.identity, run.seed, run.reference, run.dataset.digest])


def _result(run: Run, number: Number) -> dict[str, Any]:
    details: dict[str, Any] = {"score": number.value}
    if number.interval is not None:
        low, high = number.interval
        how = "percentile bootstrap over subjects"
        between = {"lower": low, "upper": high, "confidence_level": LEVEL, "method": how}
        details["uncertainty"] = {
            "confidence_interval": between,
            "num_samples": number.n,
            "num_bootstrap_samples": DRAWS,
        }
    found = {
        "evaluation_name": number.name,
        "source_data": {
            "dataset_name": dataset_name(run),
            "source_type": "other",
            "additional_details": {"digest": run.dataset.digest, "split": run.dataset.split},
        },
        "evaluation_timestamp": run.created,
        "metric_config": {
            "evaluation_description": number.meaning,
            "lower_is_better": not number.higher_is_better,
            "score_type": "continuous",
            "min_score": -1.0 if number.name.startswith("presence_mcc") else 0.0,
            "max_score": 1.0,
        },
        "score_details": details,
    }
    command = run.provenance and run.provenance.command
    if command:
        found["generation_config"] = {"generation_args": {"execution_command": command}}
    return found
