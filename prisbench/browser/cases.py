"""A dataset's queries for a page to show: texts, masks as run lengths, and pictures in folders beside the page.

Knows: what is read of a dataset's rows, how pictures are written.  Does not know: methods, how a page looks (``web``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from prisbench.browser.answers import About
from prisbench.datasets.load import Dataset
from prisbench.datasets.show.picture import GRADED, beside, shown
from prisbench.datasets.subject_names import title
from prisbench.images.masks import runs_of
from prisbench.images.photos import decode_photo, fit_within
from prisbench.runtime.files import write_errors
from prisbench.subsets import grade_of

SCENES, PHOTOS = "scenes", "photos"
"""Folders of pictures beside the page."""

LARGEST = 1024
"""Long side of a picture in pixels; masks keep the size they have."""

QUALITY = 88
"""Of WebP; a scene of 16,000 pixels takes 4 kB."""


class Cases(NamedTuple):
    """``queries`` by id; ``shown`` what a page shows of each, in the same order; ``masks`` their run lengths; name,
    photos and class word of each subject.
    """

    queries: dict[str, About]
    shown: list[dict[str, Any]]
    masks: list[dict[str, Any]]
    subjects: dict[str, dict[str, Any]]

    @property
    def nouns(self) -> dict[str, str]:
        """Subject id -> class word."""
        return {subject: about["noun"] for subject, about in self.subjects.items()}


def write_cases(
    dataset: Dataset,
    split: str,
    folder: Path,
    wanted: Collection[str],
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Cases:
    """Read these queries, and write their scenes and their subjects' photos below ``folder``.

    ``step`` is called with how many queries of how many are done.  Raises DataError at a damaged row, WriteError.
    """
    with write_errors(folder):
        for name in (SCENES, PHOTOS):
            (folder / name).mkdir(parents=True, exist_ok=True)
    queries: dict[str, About] = {}
    texts: list[dict[str, Any]] = []
    masks: list[dict[str, Any]] = []
    written: set[str] = set()
    for path, record in dataset.records("queries", split):
        if record["id"] not in wanted:
            continue
        where = f"{path}: query {record['id']}"
        name = f"{record['image_id']}.webp"
        if name not in written:
            _write_picture(folder / SCENES / name, record["image"]["bytes"] or b"", f"{where}: image")
            written.add(name)
        queries[record["id"]] = _about(record, where)
        texts.append(_shown(record, name))
        masks.append(_masks(record))
        step(len(queries), len(wanted))
    people = {about.subject_id for about in queries.values()}
    return Cases(queries, texts, masks, _subjects(dataset, split, folder, people))


def _about(record: Mapping[str, Any], where: str) -> About:
    (h, w), runs = runs_of(record["mask"], f"{where}: mask")
    things = [thing for thing in record.get("things") or () if thing]
    return About(
        subject_id=record["subject_id"],
        query_type=record["query_type"],
        grade=grade_of(thing["grade"] for thing in things if thing["role"] == "look-alike"),
        pair_id=record.get("pair_id"),
        truth_area=int(runs[1::2].sum()),
        area=h * w,
    )


def _shown(record: Mapping[str, Any], scene: str) -> dict[str, Any]:
    h, w = record["mask"]["size"]
    return {
        "id": record["id"],
        "text": shown(record["text"]),
        "scene": scene,
        "size": [int(h), int(w)],
        "origin": shown(f"{record['licence']}; {record['source']}"),
    }


def _masks(record: Mapping[str, Any]) -> dict[str, Any]:
    """Run lengths of the truth, and of what stands beside it: [what it is, its grade, run lengths]."""
    things = record.get("things") or [{**rle, "role": "look-alike", "grade": None} for rle in record["look_alikes"]]
    around = []
    for n, thing in enumerate(things):
        what = beside(thing["role"], thing["grade"], n == record.get("meant"))
        if what is not None:
            around.append([what, thing["grade"] if what in GRADED else None, thing["counts"]])
    return {"truth": record["mask"]["counts"], "beside": around}


def _subjects(dataset: Dataset, split: str, folder: Path, people: Collection[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    known = dataset.subject_names(split)
    for path, record in dataset.records("subjects", split):
        if record["id"] not in people:
            continue
        names = []
        for n, photo in enumerate(record["photos"], 1):
            where = f"{path}: subject {record['id']}: photo {n}"
            names.append(f"{len(found)}-{n}.webp")
            _write_picture(folder / PHOTOS / names[-1], (photo or {}).get("bytes") or b"", where)
        name = shown(title(record["id"], known[record["id"]]))
        found[record["id"]] = {"noun": shown(record["noun"]), "name": name, "photos": names}
    return found


def _write_picture(path: Path, data: bytes, where: str) -> None:
    image: UInt8[np.ndarray, "h w 3"] = fit_within(decode_photo(data, where), LARGEST)
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="WEBP", quality=QUALITY)
    with write_errors(path):
        path.write_bytes(out.getvalue())
