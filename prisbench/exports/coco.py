"""A run as COCO files: what is true, and what was answered; for pycocotools, and as a folder that FiftyOne opens.

An image of these files is a query: a scene has several, and each has one mask.  A text without a referent is an image
without an annotation; "not here" is an image without a result.

Knows: COCO's JSON.  Does not know: how answers are scored.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from prisbench.datasets.load import Dataset
from prisbench.errors import DataError
from prisbench.images.masks import to_rle
from prisbench.images.photos import encode_png
from prisbench.predictions import PredictionRecord
from prisbench.results import Run
from prisbench.runtime.files import new_folder, write_bytes, write_text
from prisbench.types import Example

CATEGORY = {"id": 1, "name": "subject", "supercategory": "subject"}

LABELS, ANSWERS, IMAGES = "labels.json", "predictions.json", "data"
"""Of a folder that FiftyOne opens as COCODetectionDataset; answers are added with ``add_coco_labels``."""


class Files(NamedTuple):
    """The ground truth and the results, as JSON values."""

    truth: dict[str, Any]
    results: list[dict[str, Any]]


def coco_files(
    run: Run, records: Iterable[PredictionRecord], examples: Iterable[Example], names: Mapping[str, str] | None = None
) -> Files:
    """Both files.  ``names``: the file of each query's image; by default the image's id.

    Raises DataError for a query without an answer, and for a damaged one.
    """
    answers = {record.query_id: record for record in records}
    truth: dict[str, Any] = {"info": _info(run), "licenses": [], "categories": [CATEGORY]}
    truth |= {"images": [], "annotations": []}
    results: list[dict[str, Any]] = []
    for number, example in enumerate(examples, 1):
        record = answers.get(example.query.id)
        if record is None:
            raise DataError(f"query {example.query.id!r} has no answer; the predictions are not those of this run")
        truth["images"].append(_image(number, example, names))
        if example.mask.any():
            ids = {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            truth["annotations"].append({**ids, **_of_mask(example.mask)})
        mask = record.mask
        if mask is not None and mask.any():
            place = {"image_id": number, "query_id": example.query.id, "category_id": 1}
            score = 1.0 if record.presence is None else record.presence
            results.append({**place, "score": score, **_of_mask(mask)})
    return Files(truth, results)


def write_coco(run: Run, records: Iterable[PredictionRecord], dataset: Dataset, out: Path) -> list[Path]:
    """Write ``annotations.json`` and ``results.json``; the images stay in the dataset."""
    files = coco_files(run, records, dataset.examples(run.dataset.split))
    truth = write_text(out / "annotations.json", _json(files.truth))
    return [truth, write_text(out / "results.json", _json(files.results))]


def write_fiftyone(run: Run, records: Iterable[PredictionRecord], dataset: Dataset, out: Path) -> Path:
    """Write a folder that FiftyOne opens as COCODetectionDataset: the images, the truth, and the answers beside it.

    Each query has an image of its own; those of one scene are links to one file where the file system has them.

    Raises WriteError where the folder is there already.
    """
    with new_folder(out) as temp:
        scenes: dict[str, Path] = {}
        names: dict[str, str] = {}

        def written(examples: Iterable[Example]) -> Iterable[Example]:
            for example in examples:
                names[example.query.id] = f"{example.query.id}.png"
                _write_image(temp / IMAGES / names[example.query.id], example, scenes)
                yield example

        files = coco_files(run, records, written(dataset.examples(run.dataset.split)), names)
        write_text(temp / LABELS, _json(files.truth))
        write_text(temp / ANSWERS, _json(files.results))
    return out


def _write_image(path: Path, example: Example, scenes: dict[str, Path]) -> None:
    first = scenes.setdefault(example.image_id, path)
    if first == path:
        write_bytes(path, encode_png(example.image))
        return
    with contextlib.suppress(OSError):
        os.link(first, path)
        return
    shutil.copyfile(first, path)


def _image(number: int, example: Example, names: Mapping[str, str] | None) -> dict[str, Any]:
    h, w = example.image.shape[:2]
    return {
        "id": number,
        "file_name": f"{example.image_id}.png" if names is None else names[example.query.id],
        "height": h,
        "width": w,
        "query_id": example.query.id,
        "subject_id": example.query.subject_id,
        "query_type": example.query_type,
        "text": example.query.text,
    }


def _of_mask(mask: Bool[np.ndarray, "h w"]) -> dict[str, Any]:
    ys, xs = np.nonzero(mask)
    top, left = int(ys.min()), int(xs.min())
    box = [left, top, int(xs.max()) + 1 - left, int(ys.max()) + 1 - top]
    return {"segmentation": to_rle(mask), "area": len(ys), "bbox": box}


def _info(run: Run) -> dict[str, Any]:
    data = run.dataset
    return {
        "description": f"{data.id}, {data.split} split: {run.method} / {run.concept}",
        "version": run.metric_spec,
        "digest": data.digest,
        "date_created": run.created,
    }


def _json(value: Any) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n"
