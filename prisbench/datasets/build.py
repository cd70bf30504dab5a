"""Rows to a dataset folder: Parquet shards, a card, a manifest; the folder appears whole or not at all.

Knows: the layout that ``datasets.load_dataset`` opens, and what stands beside the shards.
Does not know: where rows come from, how shards are written (``shards``), how a build goes on (``journal``).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import PIL
import pyarrow as pa

import prisbench
from prisbench.datasets.build_notes import build_notes
from prisbench.datasets.cards.front_matter import configs, front_text, usual_front
from prisbench.datasets.journal import BuildState, Journal, partial_build
from prisbench.datasets.manifest import NAME, VERSION, Manifest
from prisbench.datasets.schema import MANIFEST, SCHEMA_VERSION, TABLES, QueryRow, SubjectRow
from prisbench.datasets.shards import (
    GROUP_BYTES,
    ROWS_PER_GROUP,
    SHARD_BYTES,
    SHARD_ROWS,
    Shards,
    TableRow,
    encoded,
)
from prisbench.datasets.source import Source
from prisbench.errors import UsageError
from prisbench.runtime.files import new_folder, write_errors, write_json, write_text

Progress = Callable[[str, int], None]
"""Called with the table's name and the rows written of it so far."""

Say = Callable[[str], None]
"""Called with a line the user should read."""


@dataclass(frozen=True)
class NewDataset:
    """A dataset version to be written at once; a ``Source`` is for those that may be interrupted.

    ``name`` "tabletop" and ``version`` "1" (or "1.2") make ``tabletop-v1``.  Rows keep their order.  ``about`` is the
    Markdown under the front matter of README.md.  ``seed`` is recorded.
    """

    name: str
    version: str
    subjects: Iterable[SubjectRow]
    queries: Iterable[QueryRow]
    about: str
    seed: int | None = None


def write_dataset(
    folder: str | os.PathLike[str],
    new: NewDataset,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write a dataset version; rows are taken one at a time, subjects first.

    ``overwrite`` replaces a dataset, never another kind of folder.

    Raises UsageError for a name or version that cannot be a folder's name, DataError for a row that breaks a rule
    (``docs/dataset.md``) and WriteError; the target is then as it was.
    """
    _check_name(new.name, new.version)
    with new_folder(folder, overwrite, marker=MANIFEST) as temp:
        state = BuildState(temp)
        writer = _TableWriter(state, shard_bytes, progress)
        writer.write("subjects", new.subjects)
        writer.write("queries", new.queries)
        return _finish(state, temp, new, new.about)


def build(
    folder: str | os.PathLike[str],
    source: Source,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    say: Say | None = None,
) -> Manifest:
    """Write what a source yields; after an interruption, even a kill, the same call goes on after the last full shard.

    It goes on only for the same ``source.key``, settings and versions of prisbench, pyarrow and Pillow; a partial
    build of something else is discarded, and ``say`` is told so, as it is of ``source.warnings``.  The bytes do not
    depend on interruptions.  ``source.left_out`` and ``source.remarks`` are then as if there had been none.  README.md
    lists all three.

    Raises UsageError, DataError and WriteError as ``write_dataset``; WriteError too when another process is building
    the same folder.  The target is then as it was.  A DataError removes what was finished, since the data must be
    mended first; all else leaves it, if a shard was full.
    """
    _check_name(source.name, source.version)
    check_target(folder, overwrite)
    if say:
        for line in source.warnings:
            say(f"warning: {line}")
    with partial_build(folder) as unfinished:
        journal = Journal(unfinished, _settings(source, shard_bytes), source.remarks)
        state = journal.read(say)
        writer = _TableWriter(state, shard_bytes, progress, source.left_out, journal)
        if state.table == "subjects":
            writer.write("subjects", islice(source.subjects(), state.rows, None))
            state.table, state.rows = "queries", 0
        else:
            source.left_out.clear()
            source.left_out.update(state.left_out)
        writer.write("queries", source.queries(state.rows))
        with new_folder(folder, overwrite, marker=MANIFEST) as temp:
            for path in state.files:
                _link(state.folder / path, temp / path)
            notes = build_notes(source.warnings, source.left_out, source.remarks.lines())
            return _finish(state, temp, source, source.about + notes)


def check_target(folder: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises WriteError, before any work is done, when ``build`` may not write the folder."""
    with contextlib.suppress(_EnoughError), new_folder(folder, overwrite, marker=MANIFEST):
        raise _EnoughError


class _EnoughError(Exception):
    """Ends a block that was only entered to see whether it can be."""


@dataclass(frozen=True)
class _TableWriter:
    """Writes the rows of the tables; the state, and with it the journal, moves on whenever shards are full.

    ``left_out`` is the source's count, which grows while its rows are read.
    """

    state: BuildState
    shard_bytes: int
    progress: Progress | None
    left_out: Counter[str] = field(default_factory=Counter)
    journal: Journal | None = None

    def write(self, table: str, rows: Iterable[TableRow]) -> None:
        """Write a table, or the rest of one of which the state has the first rows."""
        state = self.state
        written = state.rows
        with Shards(state.folder, table, state.files, self.shard_bytes) as shards:
            for row, record, left_out in encoded(rows, self.left_out):
                if isinstance(row, SubjectRow):
                    state.seen.add_subject(row)
                else:
                    state.seen.add_query(row)
                shards.add(row.split, record)
                written += 1
                if self.progress:
                    self.progress(table, written)
                if shards.full:
                    shards.close()
                    state.table, state.rows, state.left_out = table, written, left_out
                    notes = state.seen.new_notes()
                    if self.journal:
                        self.journal.write(state, notes)
            shards.close()
        state.rows = 0


def _settings(source: Source, shard_bytes: int) -> dict[str, Any]:
    """All that decides the bytes, as JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": source.name,
        "version": source.version,
        "key": source.key,
        "seed": source.seed,
        "limits": [ROWS_PER_GROUP, GROUP_BYTES, SHARD_ROWS, shard_bytes],
        "made_with": [prisbench.__version__, pa.__version__, PIL.__version__],
    }


def _check_name(name: str, version: str) -> None:
    if not re.fullmatch(NAME, name):
        raise UsageError(f"dataset name {name!r}: use small letters and digits, with single dashes between")
    if not re.fullmatch(VERSION, version):
        raise UsageError(f"dataset version {version!r}: use numbers with dots between, like 1 or 1.2")


def _link(path: Path, target: Path) -> None:
    """A second name for a file, so that a kill in between loses nothing; moved where the file system has no links."""
    with write_errors(target):
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            os.replace(path, target)


def _finish(state: BuildState, folder: Path, new: NewDataset | Source, card_text: str) -> Manifest:
    """Write what stands beside the shards."""
    manifest = state.seen.manifest(new.name, new.version, new.seed, dict(sorted(state.files.items())))
    front = _front_matter(manifest, state.seen.licences)
    write_text(folder / "README.md", f"{front}\n{card_text.strip()}\n")
    write_json(folder / MANIFEST, manifest.to_json())
    return manifest


def _front_matter(manifest: Manifest, licences: set[str]) -> str:
    licence = next(iter(licences)).lower() if len(licences) == 1 else "other"
    splits = {
        table: {path.split("/")[1].split("-")[0] for path in manifest.files if path.startswith(f"{table}/")}
        for table in TABLES
    }
    front = {**usual_front(manifest.id, licence), "configs": configs(splits)}
    return front_text(front, quoted=("pretty_name", "license"), block=("configs",))
