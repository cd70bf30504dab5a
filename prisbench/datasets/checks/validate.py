"""Everything that can be wrong with a dataset, all of it at once, and how to mend it.

Knows: what is examined, in which order, and how copies become findings.  Does not know: what can be wrong with a folder
(``folder``), a row (``rows``) or photos (``pictures``), what makes a copy (``leaks``), how findings are told.

Unlike ``open_dataset(verify=True)``, which stops at the first error, this goes on: a damaged file, row or picture is a
finding and the next one is looked at.  A row group is in memory at a time, and a kilobyte of every picture.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from prisbench.datasets.checks.findings import Finding, Findings, Report
from prisbench.datasets.checks.folder import Examined, check_dataset
from prisbench.datasets.checks.gallery import Embed, Gallery
from prisbench.datasets.checks.leaks import SAME_PIXELS, Audit, Leak, Progress, audit
from prisbench.datasets.checks.pictures import add_other_set, check_photos, photos_in
from prisbench.datasets.checks.stored import one_line, picture_reader, shards_in
from prisbench.datasets.schema import MANIFEST, TABLES
from prisbench.datasets.subject_names import with_names
from prisbench.images.photos import SUFFIXES


def validate(
    path: str | os.PathLike[str],
    *,
    leaks: bool = True,
    against: Sequence[str | os.PathLike[str]] = (),
    embed: Embed | None = None,
    progress: Progress | None = None,
) -> Report:
    """Examine a dataset folder, or a folder of photos (of one subject, or one folder for each).

    ``leaks`` False leaves out the leak audit, which takes most of the time.
    ``against`` are other datasets or folders of photos that should share no picture with this one.
    ``embed`` also compares embeddings (``embedding.load_embedding``).

    Raises DataError when one of ``against`` holds no pictures; what is wrong with ``path`` is in the report.
    """
    folder = Path(path)
    gallery = Gallery(embed) if leaks else None
    findings = Findings()
    shards = shards_in(folder) if folder.is_dir() else []
    if (folder / MANIFEST).is_file() or shards:
        examined = check_dataset(folder, shards, findings, gallery, progress)
    elif folder.is_dir() and (photos := photos_in(folder)):
        examined = Examined("photos", check_photos(folder, photos, findings, gallery, progress))
    else:
        findings.add("not-a-dataset", _what_is_it(folder))
        examined = Examined("nothing", {})
    audited = None
    if gallery is not None and examined.kind != "nothing":
        for other in against:
            add_other_set(gallery, Path(other), findings, progress)
        audited = audit(gallery, picture_reader(), progress)
        _tell_leaks(audited, findings, examined.kind == "dataset")
    return Report(
        path=os.fspath(path),
        kind=examined.kind,
        id=examined.id,
        digest=examined.digest,
        counts=examined.counts,
        found=dict(findings.found),
        findings=tuple(_named(one, examined.names) for one in findings.ordered()),
        audit=audited,
    )


def _named(finding: Finding, names: Mapping[str, str]) -> Finding:
    """With subjects as people know them."""
    record, message = (with_names(text, names) for text in (finding.record, finding.message))
    return replace(finding, record=record, message=message)


def _tell_leaks(audited: Audit, findings: Findings, dataset: bool) -> None:
    told = audited.found - Counter(leak.kind for leak in audited.leaks)
    for leak in audited.leaks:
        if dataset and leak.kind == "leak" and leak.how == SAME_PIXELS and "scene" in (leak.a.role, leak.b.role):
            continue  # the rules between rows have told that
        file, _, record = (leak.a if leak.b.other else leak.b).where.partition(": ")
        findings.add(leak.kind, _leak_words(leak), file, record)
    for kind, n in told.items():
        findings.found[kind] += n
    if audited.left_out:
        findings.add("incomplete", f"{audited.left_out} pairs of pictures that might be copies were not compared")
    if not audited.wide:
        message = "so many pictures: shifted and cut-out copies were sought among the pictures of one subject only"
        findings.add("incomplete", message, cure="whole copies were sought everywhere; nothing to be done")
    elif not audited.scenes_wide:
        message = "so many scenes: between splits and sets only whole copies of scenes were sought"
        findings.add("incomplete", message, cure="reference photos were compared with every scene; nothing to be done")


def _leak_words(leak: Leak) -> str:
    """Of the second picture, or of the first when the second is another set's."""
    here, there = (leak.a, leak.b) if leak.b.other else (leak.b, leak.a)
    if not leak.proven:
        return f"looks like {there.where} (cosine {leak.agreement:.3f})"
    first = f"copy of {there.where}" if here is leak.b else f"{there.where} is a copy"
    return f"{first}: {leak.how}" + (f" (agreement {leak.agreement:.3f})" if leak.how != SAME_PIXELS else "")


def _what_is_it(folder: Path) -> str:
    """What a path is that is neither a dataset nor photos, for people."""
    if not folder.exists():
        return f"there is no {folder}"
    parquet = [folder] if folder.suffix == ".parquet" else []
    if not folder.is_dir() and not parquet:
        return f"{folder} is a file; a dataset is a folder (an archive is read by `prisbench build-dataset`)"
    parquet = parquet or sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    if parquet:
        try:
            columns = pq.read_schema(parquet[0]).names
        except (pa.ArrowException, OSError, ValueError) as error:
            return f"{folder} has no {MANIFEST}, and {parquet[0].name} cannot be read ({one_line(error)})"
        lacking = [name for name in TABLES["queries"].names if name not in columns]
        return (
            f"{folder} holds Parquet files, but not those of prisbench (subjects/ and queries/, with {MANIFEST}): "
            f"{parquet[0].name} has the columns {', '.join(columns[:12])}, of a table of queries it lacks "
            f"{', '.join(lacking) or 'none'}; write its rows with prisbench.datasets.build.write_dataset"
        )
    deeper = sorted({path.parent.parent for path in folder.glob("*/*/*") if path.suffix.lower() in SUFFIXES})
    hint = f"; there are photos below {deeper[0]}, try that" if deeper else ""
    return f"{folder} holds no {MANIFEST}, no Parquet files and no photos (or folders of photos){hint}"
