"""A dataset folder as a whole: its manifest, files, card and counts, and the balance of its queries.

Knows: what stands in the folder beside the rows, and what the manifest says of them.  Does not know: what can be wrong
with a row (``rows``), how findings are told.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prisbench.datasets.checks.findings import Findings
from prisbench.datasets.checks.gallery import Gallery
from prisbench.datasets.checks.leaks import Progress
from prisbench.datasets.checks.rows import RowChecks
from prisbench.datasets.checks.stored import Shard
from prisbench.datasets.manifest import Manifest
from prisbench.datasets.schema import MANIFEST, READABLE, TABLES
from prisbench.datasets.sources.reading.values import json_file
from prisbench.datasets.subject_names import known_names
from prisbench.errors import DataError
from prisbench.runtime.files import sha256_file

LOPSIDED = 10
"""A subject with so many times the queries of the median subject, or a query type so many times another."""


class Examined(NamedTuple):
    """What was examined; the first fields are those of ``findings.Report``.  ``names``: of subjects, by id."""

    kind: str
    counts: dict[str, int]
    id: str | None = None
    digest: str | None = None
    names: Mapping[str, str] = {}


def check_dataset(
    folder: Path, shards: list[Shard], findings: Findings, gallery: Gallery | None, progress: Progress | None
) -> Examined:
    """Examine a folder that has the manifest or the ``shards`` of a dataset; pictures go into ``gallery``."""
    manifest = _manifest(folder, findings)
    if isinstance(manifest, str):
        findings.add("not-a-dataset", manifest, MANIFEST, cure="rebuild it, or use the prisbench that made it")
        return Examined("nothing", {})
    complete = _files(folder, manifest, shards, findings)
    _card(folder, findings)
    rows = RowChecks(findings, gallery)
    for table in TABLES:
        for shard in shards:
            if shard.table == table:
                rows.examine(shard, progress)
    if manifest is not None:
        if complete and rows.sound:
            _compare(manifest, rows, findings)
        else:
            message = "counts and digest are not compared with the manifest, since rows or files are damaged"
            findings.add("incomplete", message)
    if rows.counts["queries"]:
        _balance(rows, findings)
    id, digest = (manifest.id, manifest.digest) if manifest else (None, None)
    counts = {table: rows.counts[table] for table in TABLES}
    return Examined("dataset", counts, id, digest, known_names(rows.names))


def without_folder(error: Exception, folder: Path) -> str:
    """A message without the folder, which the report names once."""
    return str(error).replace(f"{folder}{os.sep}", "")


def _manifest(folder: Path, findings: Findings) -> Manifest | str | None:
    """The manifest; None when it is of no use; why, when the folder is of another schema version."""
    path = folder / MANIFEST
    if not path.is_file():
        findings.add("manifest", f"there is no {MANIFEST}, so whether these are all the rows cannot be known")
        return None
    try:
        value = json_file(path, 2**26)
        version = value.get("schema_version") if isinstance(value, dict) else None
        if isinstance(version, int) and version not in READABLE:
            return f"schema version {version}; this prisbench knows {' and '.join(map(str, READABLE))}"
        return Manifest.from_json(value, MANIFEST)
    except DataError as error:
        findings.add("manifest", without_folder(error, folder), MANIFEST)
        return None


def _files(folder: Path, manifest: Manifest | None, shards: list[Shard], findings: Findings) -> bool:
    """Whether there are the files that the manifest names and no others, and some of each table."""
    there = {shard.name: shard.path for shard in shards}
    wanted = dict(manifest.files) if manifest else {}
    complete = True
    for name in sorted(set(wanted) - set(there)):
        findings.add("file-missing", f"{MANIFEST} names {name!r}", name)
        complete = False
    for name in sorted(set(there) - set(wanted)) if manifest else ():
        findings.add("file-stray", f"{MANIFEST} does not name it", name)
        complete = False
    for name in sorted(set(wanted) & set(there)):
        try:
            if sha256_file(there[name]) != wanted[name]:
                findings.add("checksum", f"its sha256 is not the one in {MANIFEST}", name)
        except DataError as error:
            findings.add("parquet", without_folder(error, folder), name)
    for table in TABLES:
        if not any(shard.table == table for shard in shards):
            findings.add("file-missing", f"there is no file {table}/<split>-00000.parquet, so no {table}", table)
            complete = False
    return complete


def _card(folder: Path, findings: Findings) -> None:
    try:
        with open(folder / "README.md", encoding="utf-8", errors="replace") as file:
            head = file.read(2**20)
    except OSError:
        message = "there is no README.md: `datasets.load_dataset` would mix the two tables"
        findings.add("card", message, "README.md")
        return
    front = head.split("\n---", 1)[0] if head.startswith("---") else ""
    missing = [table for table in TABLES if not re.search(rf"config_name: ['\"]?{table}\b", front)]
    if missing:
        findings.add("card", f"its front matter does not name the table {' nor '.join(missing)}", "README.md")


def _compare(manifest: Manifest, rows: RowChecks, findings: Findings) -> None:
    """Counts and digest of the rows with those of the manifest."""
    try:
        found = rows.seen.manifest(manifest.name, manifest.version, manifest.seed, dict(manifest.files))
    except DataError as error:
        findings.add("counts", str(error))
        return
    for table in ("subjects", "queries", "images"):
        there, said = getattr(found, table), getattr(manifest, table)
        if there != said:
            message = f"{table}: {MANIFEST} says {_plain(said)}, there are {_plain(there)}"
            findings.add("counts", message, MANIFEST)
    if found.digest != manifest.digest:
        findings.add("digest", f"it is {found.digest}, {MANIFEST} says {manifest.digest}", MANIFEST)


def _balance(rows: RowChecks, findings: Findings) -> None:
    """Subjects without queries, a missing test split, and queries that are mostly about one subject or of one type."""
    for subject in (subject for subject in rows.split_of if not rows.queries_of[subject]):
        findings.add("unused", "no query is about it", "subjects", f"subject {subject}")
    if "test" not in rows.split_of.values():
        message = "there is no test split: nothing can be reported"
        findings.add("balance", message, cure="give some subjects to 'test'")
    queries, types = rows.queries_of, rows.types
    if queries:
        most, median = max(queries, key=lambda one: queries[one]), sorted(queries.values())[len(queries) // 2]
        if queries[most] >= LOPSIDED * median:
            findings.add("balance", f"{queries[most]} queries are about {most}, about the median subject {median}")
    if types:
        big, small = max(types, key=lambda one: types[one]), min(types, key=lambda one: types[one])
        if types[big] >= LOPSIDED * types[small]:
            findings.add("balance", f"{types[big]} queries are {big!r}, only {types[small]} {small!r}")


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
