"""How fast a dataset is built, validated and loaded and how much memory that takes, beside plain ``datasets``.

The plain way is what one would write without prisbench: a list of all rows, ``Dataset.from_list(rows).to_parquet``
and, to read them, ``Dataset.from_parquet``.  Both sides get the same drawn rows and decode the same images and masks.
Ours does more on the way: it checks every row and what must hold between rows, hashes pixels and files, and can go on
after a kill; the plain way holds every row in memory.

Each measurement has a process of its own, whose peak is what the system says of the whole of it, imports and all.
Knows: how to draw rows that cost next to nothing, what to time.  Does not know: what a dataset is for.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.bench import process
from prisbench.datasets.schema import QueryRow, SubjectRow, features
from prisbench.datasets.source import Source
from prisbench.errors import PrisbenchError, UsageError
from prisbench.provenance import current_environment
from prisbench.runtime.files import sha256_json

EACH = 50
"""Queries about one subject."""

KINDS = ("plain", "other-category", "look-alike", "relation", "absent")
"""Take turns."""

KILLED_AT = 2 / 3
"""Where in the build the process is killed, as a share of its rows."""

SHARDS = 8
"""Into about so many shards the interrupted build is cut: an ordinary shard would hold a small bench whole."""


@dataclass(frozen=True)
class DatasetTask:
    """What a process is to do.  ``shard_bytes`` and ``killed_at`` (a row) are for "build" only."""

    task: str
    folder: Path
    rows: int
    size_hw: tuple[int, int]
    shard_bytes: int | None = None
    killed_at: int | None = None


def bench_dataset(
    rows: int = 3000,
    size_hw: tuple[int, int] = (32, 40),
    repeats: int = 1,
    work: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure; a record that fits JSON.

    ``rows`` queries with scenes of ``size_hw`` pixels, and one subject for every ``EACH`` of them.  ``ratio`` is
    ``ours`` / ``reference`` in rows a second, built; ``cpu_ratio`` is the plain way's processor time over ours, which a
    busy machine changes less; ``memory_ratio`` its peak over ours.  Seconds are medians of the repeats, peaks the
    highest.  Files come and go below ``work`` (default: the system's folder for temporary files).

    Raises UsageError for numbers that make no sense, for a full disk, and when a process is killed.
    """
    if rows < EACH or repeats < 1 or min(size_hw) < 8:
        raise UsageError(
            f"{rows} rows of {size_hw[0]} x {size_hw[1]} pixels, {repeats} repeats: give {EACH} rows, 8 pixels and 1 "
            "repeat at least"
        )
    say(f"{rows} rows of {size_hw[0]} x {size_hw[1]} pixels, 8 processes; the first says how long it takes")
    with tempfile.TemporaryDirectory(prefix="prisbench-bench-", dir=work) as temp:
        found: dict[str, dict[str, Any]] = {}
        for task in TASKS:
            jobs = [DatasetTask(task, Path(temp) / f"{task.split()[-1]}-{n}", rows, size_hw) for n in range(repeats)]
            found[task] = _measured(jobs, say)
        found["resume"] = resumed(Path(temp) / "killed", rows, size_hw, say)
    return {
        **_ratios(found),
        **{task.replace(" ", "_"): values for task, values in found.items()},
        "rows": rows,
        "subjects": -(-rows // EACH),
        "size_hw": list(size_hw),
        "repeats": repeats,
        "environment": dataclasses.asdict(current_environment()),
    }


def _measured(repeats: Sequence[DatasetTask], say: Callable[[str], None]) -> dict[str, Any]:
    """What the last repeat says, with the median seconds and the highest peak of all."""
    runs = []
    for job in repeats:
        runs.append(in_a_process(job))
        say(f"{job.task}: {runs[-1]['seconds']:.1f} s, {_megabytes(runs[-1]['peak_mb'])}")
    seconds, processor = (statistics.median(run[key] for run in runs) for key in ("seconds", "cpu_seconds"))
    peaks = [run["peak_mb"] for run in runs if run["peak_mb"] is not None]
    return {
        **runs[-1],
        "seconds": seconds,
        "cpu_seconds": processor,
        "rows_per_second": repeats[0].rows / seconds,
        "peak_mb": max(peaks, default=None),
    }


def _ratios(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How the sides compare; what was measured only for this is taken out of ``found``."""
    ours, reference = found["build ours"], found["build plain"]
    both = ours["peak_mb"] and reference["peak_mb"]
    del ours["began_at"]
    return {
        "ratio": ours["rows_per_second"] / reference["rows_per_second"],
        "ours": ours["rows_per_second"],
        "reference": reference["rows_per_second"],
        "unit": "rows per second, built",
        "cpu_ratio": reference["cpu_seconds"] / ours["cpu_seconds"],
        "memory_ratio": reference["peak_mb"] / ours["peak_mb"] if both else None,
        "load_ratio": found["load ours"]["rows_per_second"] / found["load plain"]["rows_per_second"],
        "same_rows": found["load ours"].pop("checksum") == found["load plain"].pop("checksum"),
        "same_digest_after_kill": found["resume"].pop("digest") == ours.pop("digest"),
    }


def resumed(folder: Path, rows: int, size_hw: tuple[int, int], say: Callable[[str], None]) -> dict[str, Any]:
    """A build that is killed (SIGKILL) at a row, and the one that goes on from there.

    ``rows_kept`` were in finished shards, ``rows_redone`` were made before and once more.
    """
    at = max(1, int(rows * KILLED_AT))
    job = DatasetTask("build ours", folder, rows, size_hw, shard_bytes=rows * size_hw[0] * size_hw[1] * 3 // SHARDS)
    start = time.perf_counter()
    try:
        in_a_process(dataclasses.replace(job, killed_at=at))
    except KilledError:
        say(f"killed at row {at}, after {time.perf_counter() - start:.1f} s")
    else:
        raise AssertionError("the build ended before it was to be killed")
    second = in_a_process(job)
    say(f"the same build again, to its end: {second['seconds']:.1f} s, {at - second['began_at']} rows made once more")
    return {
        "seconds": second["seconds"],
        "peak_mb": second["peak_mb"],
        "killed_at": at,
        "rows_kept": second["began_at"],
        "rows_redone": at - second["began_at"],
        "shard_bytes": job.shard_bytes,
        "digest": second["digest"],
    }


# --- drawn rows -----------------------------------------------------------------------------------------------------


def drawn_source(rows: int, size_hw: tuple[int, int]) -> Source:
    """Rows that cost next to nothing to make, no two alike; a tenth of the subjects are for validation."""

    def subject(n: int) -> SubjectRow:
        photos = tuple(_drawn((0, n, i), size_hw)[0] for i in range(2))
        return SubjectRow("thing", photos, "test" if n % 10 else "validation", "CC0-1.0", "drawn")

    def queries(start: int) -> Iterator[QueryRow]:
        about: SubjectRow | None = None
        for i in range(start, rows):
            if about is None or i % EACH == 0:
                about = subject(i // EACH)
            yield _query(i, about, size_hw)

    count = -(-rows // EACH)
    return Source(
        name="bench",
        version="1",
        about="# Bench\n\nDrawn to measure with.\n",
        key=sha256_json([rows, list(size_hw)]),
        subjects=lambda: (subject(n) for n in range(count)),
        queries=queries,
        n_subjects=count,
        n_queries=rows,
    )


def _query(i: int, about: SubjectRow, size_hw: tuple[int, int]) -> QueryRow:
    image, mask, other = _drawn((1, i), size_hw)
    kind = KINDS[i % len(KINDS)]
    return QueryRow(
        subject_id=about.id,
        noun=about.noun,
        image=image,
        text="a photo of the {subject}",
        query_type=kind,
        mask=mask & (kind != "absent"),
        look_alikes=(other,) if kind == "look-alike" else (),
        split=about.split,
        licence=about.licence,
        source="drawn",
    )


def _drawn(
    seed: tuple[int, ...], size_hw: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """A slope of colours with two boxes and a camera's noise, and the masks of the boxes."""
    rng = np.random.default_rng(seed)
    h, w = size_hw
    colours = rng.integers(20, 236, (4, 3))
    image = np.linspace(colours[0], colours[1], h)[:, None] + rng.integers(-6, 7, (h, w, 3))
    masks = np.zeros((2, h, w), bool)
    for n in range(2):
        top, left = int(rng.integers(0, h // 2)), n * w // 2 + int(rng.integers(0, w // 4))
        masks[n, top : top + h // 3, left : left + w // 4] = True
        image[masks[n]] += (colours[2 + n] - 128) / 2
    return np.clip(image, 0, 255).astype(np.uint8), masks[0], masks[1]


# --- in the process -------------------------------------------------------------------------------------------------


class KilledError(UsageError):
    """The process died before it could answer."""


def in_a_process(job: DatasetTask) -> dict[str, Any]:
    """What ``run`` says in a fresh process.  Raises KilledError when it died, UsageError for what a user can mend."""
    killed = KilledError(f"the process for {job.task!r} was killed, most likely for want of memory; take fewer --rows")
    return process.in_a_process(_answer, job, killed=killed)


def _answer(job: DatasetTask) -> dict[str, Any] | str:
    try:
        return run(job)
    except PrisbenchError as error:
        return str(error)


def run(job: DatasetTask) -> dict[str, Any]:
    """Do it here, and say how long it took (``seconds``, ``cpu_seconds``) and the process's peak (``peak_mb``)."""
    for name in ("datasets", "pyarrow.parquet", "prisbench.datasets.build"):
        __import__(name)  # loading the libraries is not what is measured
    start, processor = time.perf_counter(), time.process_time()
    more = TASKS[job.task](job)
    taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - processor}
    peak = process.peak_bytes()
    return {**taken, "peak_mb": None if peak is None else peak / 1e6, **more}


def _build_ours(job: DatasetTask) -> dict[str, Any]:
    from prisbench.datasets.build import build
    from prisbench.datasets.shards import SHARD_BYTES

    source = drawn_source(job.rows, job.size_hw)
    began: list[int] = []

    def queries(start: int) -> Iterator[QueryRow]:
        began.append(start)
        return source.queries(start)

    def progress(table: str, done: int) -> None:
        if table == "queries" and done == job.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)

    told = dataclasses.replace(source, queries=queries)
    manifest = build(job.folder, told, progress, shard_bytes=job.shard_bytes or SHARD_BYTES)
    size = sum((job.folder / path).stat().st_size for path in manifest.files)
    return {"digest": manifest.digest, "began_at": began[0], "files": len(manifest.files), "files_mb": size / 1e6}


def _build_plain(job: DatasetTask) -> dict[str, Any]:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    source = drawn_source(job.rows, job.size_hw)
    for table, rows in (("subjects", source.subjects()), ("queries", source.queries(0))):
        records = [row.record() for row in rows]
        Dataset.from_list(records, features=features(table)).to_parquet(job.folder / f"{table}.parquet")
    size = sum(path.stat().st_size for path in job.folder.glob("*.parquet"))
    return {"files": 2, "files_mb": size / 1e6}


def _validate_ours(job: DatasetTask) -> dict[str, Any]:
    from prisbench.datasets.checks.validate import validate

    return {"findings": len(validate(job.folder, leaks=False).findings)}


def _load_ours(job: DatasetTask) -> dict[str, Any]:
    from prisbench.datasets.load import open_dataset

    dataset = open_dataset(job.folder)
    return {"checksum": sum(_sum(e.query.id, e.image, e.mask) for s in dataset.splits for e in dataset.examples(s))}


def _load_plain(job: DatasetTask) -> dict[str, Any]:
    from datasets import Dataset, disable_progress_bars
    from pycocotools import mask as coco

    disable_progress_bars()
    path = str(job.folder / "queries.parquet")
    loaded = Dataset.from_parquet(path, cache_dir=str(job.folder / "cache"), features=features("queries"))
    total = 0
    for row in loaded:
        for rle in row["look_alikes"]:
            coco.decode(rle)
        total += _sum(row["id"], np.asarray(row["image"]), coco.decode(row["mask"]))
    return {"checksum": total}


def _draw(job: DatasetTask) -> dict[str, Any]:
    source = drawn_source(job.rows, job.size_hw)
    for _ in source.subjects():
        pass
    for _ in source.queries(0):
        pass
    return {}


TASKS: dict[str, Callable[[DatasetTask], dict[str, Any]]] = {
    "draw": _draw,
    "build ours": _build_ours,
    "build plain": _build_plain,
    "validate ours": _validate_ours,
    "load ours": _load_ours,
    "load plain": _load_plain,
}
"""In this order: later ones read what earlier ones wrote, into the folder of the last word.  "draw" only draws."""


def _sum(name: str, image: np.ndarray, mask: np.ndarray) -> int:
    """A number that shows, added up over rows in any order, whether two sides saw the same."""
    return int(name[:12], 16) + int(image.sum(dtype=np.int64)) + int(mask.sum(dtype=np.int64))


# --- for people -----------------------------------------------------------------------------------------------------


def render(record: Mapping[str, Any]) -> str:
    """The record for people, one fact a line."""
    h, w = record["size_hw"]
    lines = [
        f"{record['rows']} rows of {h} x {w} pixels, {record['subjects']} subjects, median of {record['repeats']}",
        f"{'':<16}{'rows/s':>9}{'seconds':>9}{'CPU s':>9}   peak memory",
    ]
    for task in TASKS:
        found = record[task.replace(" ", "_")]
        peak = _megabytes(found["peak_mb"])
        taken = f"{found['rows_per_second']:>9.0f}{found['seconds']:>9.1f}{found['cpu_seconds']:>9.1f}"
        lines.append(f"{task:<16}{taken}   {peak}")
    resume, memory = record["resume"], record["memory_ratio"]
    lines += [
        f"building: {record['ratio']:.2f} times as fast as Dataset.from_list ({record['cpu_ratio']:.2f} by CPU time), "
        + ("memory not measured" if memory is None else f"in memory {memory:.2f} times smaller"),
        f"loading: {record['load_ratio']:.2f} times as fast as Dataset.from_parquet; the same rows: "
        f"{'yes' if record['same_rows'] else 'NO'}",
        f"after a kill at row {resume['killed_at']}: {resume['rows_kept']} rows kept, {resume['rows_redone']} made "
        f"once more, {resume['seconds']:.1f} s to the end; the same digest: "
        f"{'yes' if record['same_digest_after_kill'] else 'NO'}",
    ]
    return "\n".join(lines)


def _megabytes(size: float | None) -> str:
    return "not measured" if size is None else f"{size:.0f} MB"
