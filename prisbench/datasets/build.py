"""Rows to a dataset folder: Parquet shards, a card, a manifest; the folder appears whole or not at all.

Knows: the layout that ``datasets.load_dataset`` opens, and how an interrupted build goes on.  Does not know: where the
rows come from.

While ``build`` runs, all it has made lies in a hidden folder beside the target::

    .NAME.partial/
      lock          held by the process that builds
      journal.json  what is finished; replaced in one step each time shards are full
      notes.jsonl   the book of the finished rows, only ever appended to; the journal says how much of it counts
      rows/         the shards

Shards of both splits are closed at the same row.  So "the first n rows" is all there is to say about where a build
stands, and an interrupted build ends with the same bytes as any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import PIL
import pyarrow as pa
import pyarrow.parquet as pq

import prisbench
from prisbench.datasets.book import Book
from prisbench.datasets.build_notes import build_notes
from prisbench.datasets.remarks import Remarks
from prisbench.datasets.schema import (
    MANIFEST,
    SCHEMA_VERSION,
    SPLITS,
    TABLES,
    Manifest,
    QueryRow,
    SubjectRow,
    check_query,
    check_subject,
    features,
)
from prisbench.datasets.source import Source
from prisbench.errors import DataError, UsageError, WriteError
from prisbench.images.photos import decode_photo
from prisbench.runtime.files import new_folder, read_json, replacing, sha256_file, write_errors, write_json, write_text
from prisbench.runtime.locks import holder, sign

try:
    import fcntl
except ImportError:  # Windows: there, two builds into one folder do not notice each other
    fcntl = None  # type: ignore[assignment]

ROWS_PER_GROUP = 100
"""A row group ends after so many rows, the number the Hub's viewer shows at a time ..."""

GROUP_BYTES = 16 * 2**20
"""... or so many bytes: it is what a reader holds in memory at a time.  The viewer refuses groups of 300 MB."""

SHARD_BYTES = 64 * 2**20
"""The shards are closed once their rows reach this size ..."""

SHARD_ROWS = 10_000
"""... or this number: it is what an interrupted build makes again."""

THREADS = 2
"""Encode large images beside the thread that reads; more would hold more photos in memory."""

LARGE = 2**17
"""Pixels from which on a row is worth another thread."""

AHEAD = 4
"""Rows read before they are written."""

Progress = Callable[[str, int], None]
"""Called with the table's name and the rows written of it so far."""

Say = Callable[[str], None]
"""Called with a line the user should read."""

Row = SubjectRow | QueryRow


def write_dataset(
    folder: str | os.PathLike[str],
    name: str,
    version: str,
    subjects: Iterable[SubjectRow],
    queries: Iterable[QueryRow],
    card_text: str,
    progress: Progress | None = None,
    *,
    seed: int | None = None,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Manifest:
    """Write a dataset version; rows are taken one at a time and kept in their order, subjects first.

    ``name`` "tabletop" and ``version`` "1" (or "1.2") make ``tabletop-v2``.  ``card_text`` is the Markdown under the
    front matter of README.md.  ``seed`` is recorded.  ``overwrite`` replaces a dataset, never another kind of folder.

    Raises UsageError for a name or version that cannot be a folder's name, DataError for a row that breaks a rule
    (``docs/dataset.md``) and WriteError; the target is then as it was.
    """
    _check_name(name, version)
    with new_folder(folder, overwrite, marker=MANIFEST) as temp:
        state = _State(temp)
        _write_table(state, "subjects", subjects, shard_bytes, progress)
        _write_table(state, "queries", queries, shard_bytes, progress)
        return _finish(temp, state, name, version, seed, card_text)


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
    with _partial(folder) as unfinished:
        journal = _Journal(unfinished, _settings(source, shard_bytes), source.remarks)
        state = journal.read(say)
        if state.table == "subjects":
            rows = islice(source.subjects(), state.rows, None)
            _write_table(state, "subjects", rows, shard_bytes, progress, source.left_out, journal)
            state.table, state.rows = "queries", 0
        else:
            source.left_out.clear()
            source.left_out.update(state.left_out)
        queries = source.queries(state.rows)
        _write_table(state, "queries", queries, shard_bytes, progress, source.left_out, journal)
        with new_folder(folder, overwrite, marker=MANIFEST) as temp:
            for path in state.files:
                _link(state.folder / path, temp / path)
            card_text = source.about + build_notes(source.warnings, source.left_out, source.remarks.lines())
            return _finish(temp, state, source.name, source.version, source.seed, card_text)


@dataclass
class _State:
    """Where a build stands: what is finished, and the book of it.

    ``table`` is the one being written, ``rows`` how many of its rows are in full shards.  ``files``: path -> sha256.
    """

    folder: Path
    book: Book = field(default_factory=Book)
    table: str = "subjects"
    rows: int = 0
    files: dict[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


def _write_table(
    state: _State,
    table: str,
    rows: Iterable[Row],
    shard_bytes: int,
    progress: Progress | None,
    left_out: Counter[str] | None = None,
    journal: _Journal | None = None,
) -> None:
    """Write the rest of a table; the state, and with it the journal, moves on whenever shards are full."""
    written = state.rows
    with _Shards(state.folder, table, state.files) as shards:
        for row, record, counted in _recorded(rows, Counter() if left_out is None else left_out):
            if isinstance(row, SubjectRow):
                state.book.add_subject(row)
            else:
                state.book.add_query(row)
            shards.add(row.split, record)
            written += 1
            if progress:
                progress(table, written)
            if shards.bytes >= shard_bytes or shards.rows >= SHARD_ROWS:
                shards.close()
                state.table, state.rows, state.left_out = table, written, counted
                notes = state.book.new_notes()
                if journal:
                    journal.write(state, notes)
        shards.close()
    state.rows = 0


class _Recorded(NamedTuple):
    """A row, its record, and what the source had left out when it gave the row."""

    row: Row
    record: dict[str, Any]
    left_out: Mapping[str, int]


def _recorded(rows: Iterable[Row], left_out: Counter[str]) -> Iterator[_Recorded]:
    """The rows in their order; the next few large ones are encoded meanwhile."""
    ahead: deque[tuple[Row, Callable[[], dict[str, Any]], Mapping[str, int]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for row in rows:
            images = row.photos if isinstance(row, SubjectRow) else (row.image,)
            large = sum(image.size for image in images) // 3 >= LARGE
            ahead.append((row, pool.submit(_record, row).result if large else partial(_record, row), dict(left_out)))
            if len(ahead) > AHEAD:
                row, record, counted = ahead.popleft()
                yield _Recorded(row, record(), counted)
        for row, record, counted in ahead:
            yield _Recorded(row, record(), counted)


def _record(row: Row) -> dict[str, Any]:
    """The row of the table, once the row is found to keep the rules.  Raises DataError."""
    if isinstance(row, SubjectRow):
        check_subject(row)
        for n, (photo, file) in enumerate(zip(row.photos, row.files, strict=False), 1):
            _check_file(photo, file, f"subject {row.id}: photo {n}")
    else:
        check_query(row)
        _check_file(row.image, row.file, f"query {row.id}: image")
    _ = row.digest  # made now, perhaps in another thread; the row keeps it
    return row.record()


def _check_file(image: np.ndarray, file: bytes | None, where: str) -> None:
    if file is not None and not np.array_equal(decode_photo(file, where), image):
        raise DataError(f"{where}: the file to keep shows other pixels than the row has; leave the file out")


class _Shards:
    """The open shards of a table, one a split: ``<table>/<split>-<number>.parquet``, written a row group at a time."""

    def __init__(self, folder: Path, table: str, files: dict[str, str]) -> None:
        self._folder = folder
        self._table = table
        self._schema = TABLES[table].with_metadata(features(table).arrow_schema.metadata)
        self._files = files
        self._open: dict[str, _Shard] = {}
        self._stack = contextlib.ExitStack()
        self.rows = 0
        self.bytes = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, split: str, record: dict[str, Any]) -> None:
        if split not in self._open:
            self._open[split] = self._begin(split)
        size = _size(record)
        self._open[split].add(record, size)
        self.rows += 1
        self.bytes += size

    def close(self) -> None:
        """End the shards; they are now in the folder and in ``files``."""
        for shard in self._open.values():
            shard.end_group()
        self._stack.close()
        for shard in self._open.values():
            self._files[shard.path] = sha256_file(self._folder / shard.path)
        self._open = {}
        self.rows = self.bytes = 0

    def _begin(self, split: str) -> _Shard:
        number = sum(path.startswith(f"{self._table}/{split}-") for path in self._files)
        path = f"{self._table}/{split}-{number:05d}.parquet"
        temp = self._stack.enter_context(replacing(self._folder / path))
        writer = pq.ParquetWriter(
            temp, self._schema, compression="zstd", write_page_index=True, write_page_checksum=True
        )
        return _Shard(path, self._stack.enter_context(writer), self._schema)


@dataclass
class _Shard:
    """An open shard and the rows of the group that is not yet written."""

    path: str
    writer: pq.ParquetWriter
    schema: pa.Schema
    rows: list[dict[str, Any]] = field(default_factory=list)
    bytes: int = 0

    def add(self, record: dict[str, Any], size: int) -> None:
        self.rows.append(record)
        self.bytes += size
        if len(self.rows) >= ROWS_PER_GROUP or self.bytes >= GROUP_BYTES:
            self.end_group()

    def end_group(self) -> None:
        if self.rows:
            self.writer.write_batch(pa.RecordBatch.from_pylist(self.rows, schema=self.schema))
            self.rows, self.bytes = [], 0


def _size(record: dict[str, Any]) -> int:
    """The bytes of a row's images and masks; the rest is small."""
    images = record.get("photos") or [record["image"]]
    masks = record.get("masks") or [*record.get("look_alikes", ()), record.get("mask")]
    return sum(len(image["bytes"]) for image in images) + sum(len(mask["counts"]) for mask in masks if mask)


class _Journal:
    """The journal of a partial build; it counts only for the settings it was begun with."""

    def __init__(self, unfinished: Path, settings: dict[str, Any], remarks: Remarks) -> None:
        self._folder = unfinished
        self._settings = settings
        self._remarks = remarks  # those of rows read ahead too: when these are read again, they count once
        self._notes_bytes = 0
        self._notes_sha256 = hashlib.sha256()

    def write(self, state: _State, notes: bytes) -> None:
        """Say that the state is finished; ``notes`` are those of its book that are new."""
        path = self._folder / "notes.jsonl"
        with write_errors(path), open(path, "r+b" if self._notes_bytes else "wb") as file:
            file.seek(self._notes_bytes)
            file.write(notes)
            file.truncate()
            os.fsync(file.fileno())
        self._notes_bytes += len(notes)
        self._notes_sha256.update(notes)
        value = {
            "settings": self._settings,
            "table": state.table,
            "rows": state.rows,
            "files": state.files,
            "left_out": state.left_out,
            "remarks": self._remarks.to_json(),
            "notes_bytes": self._notes_bytes,
            "notes_sha256": self._notes_sha256.hexdigest(),
        }
        write_json(self._folder / "journal.json", value)

    def read(self, say: Say | None) -> _State:
        """Where the build stands, with nothing in the folder but what is finished; at the start when there is none."""
        say = say or (lambda line: None)
        state = None
        if (self._folder / "journal.json").exists():
            try:
                state = self._read()
            except (DataError, OSError, ValueError, KeyError, TypeError):
                say(f"{self._folder} is damaged: the interrupted build starts again")
            else:
                if state is None:
                    say(f"{self._folder} is of another build (other data, settings or versions): it is discarded")
                else:
                    say(f"going on with an interrupted build: {state.rows} {state.table} are finished")
        state = state or _State(self._folder / "rows")
        with write_errors(self._folder):
            _keep_only({state.folder / path for path in state.files}, state.folder)
            if not state.files:
                (self._folder / "journal.json").unlink(missing_ok=True)
        return state

    def _read(self) -> _State | None:
        """What is finished; None for other settings.  Raises whatever a damaged journal leads to."""
        value = read_json(self._folder / "journal.json")
        if value["settings"] != self._settings:
            return None
        folder, files = self._folder / "rows", value["files"]
        book, length, seen = Book(), 0, hashlib.sha256()
        with open(self._folder / "notes.jsonl", "rb") as file:
            while length < value["notes_bytes"]:
                line = file.readline()
                book.read_note(line)
                seen.update(line)
                length += len(line)
        if seen.hexdigest() != value["notes_sha256"] or not all((folder / path).is_file() for path in files):
            raise ValueError("the journal speaks of what is not there")
        self._notes_bytes, self._notes_sha256 = length, seen
        self._remarks.restore(value["remarks"])
        return _State(folder, book, value["table"], value["rows"], files, value["left_out"])


def _keep_only(kept: set[Path], folder: Path) -> None:
    """Remove what an interrupted build had begun and not finished."""
    for found in folder.glob("*/*"):
        if found not in kept:
            found.unlink()


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


@contextlib.contextmanager
def _partial(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """The partial build of a folder, this process's alone; gone afterwards, unless there is something to go on from."""
    final = Path(os.path.realpath(folder))
    unfinished = final.with_name(f".{final.name}.partial")
    handle = _lock(unfinished, folder)
    keep = False
    try:
        yield unfinished
    except DataError:
        raise
    except BaseException:
        keep = (unfinished / "journal.json").exists()
        raise
    finally:
        if not keep:
            # Renamed first: who comes now begins a folder of their own, and loses nothing when this one is removed.
            trash = final.with_name(f".{secrets.token_hex(8)}.tmp")
            with contextlib.suppress(OSError):
                os.rename(unfinished, trash)
            shutil.rmtree(trash, ignore_errors=True)
        os.close(handle)


def _lock(unfinished: Path, folder: str | os.PathLike[str]) -> int:
    """The open lock file of a partial build.  Raises WriteError when another process has it."""
    while True:
        with write_errors(folder):
            unfinished.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(unfinished / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:
                continue  # another process has just finished and taken the folder away
        try:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise WriteError(
                f"cannot write {folder}: another process is building it; wait for it, or choose another folder "
                f"({holder(unfinished / 'lock')})"
            ) from None
        except OSError:
            pass  # a file system that knows no locks
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), os.stat(unfinished / "lock")):
                sign(handle)
                return handle
        os.close(handle)  # locked in a folder that another process has just taken away


class _EnoughError(Exception):
    """Ends a block that was only entered to see whether it can be."""


def check_target(folder: str | os.PathLike[str], overwrite: bool) -> None:
    """Raises WriteError, before any work is done, when ``build`` may not write the folder."""
    with contextlib.suppress(_EnoughError), new_folder(folder, overwrite, marker=MANIFEST):
        raise _EnoughError


def _check_name(name: str, version: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise UsageError(f"dataset name {name!r}: use small letters and digits, with single dashes between")
    if not re.fullmatch(r"[0-9]+([.][0-9]+)*", version):
        raise UsageError(f"dataset version {version!r}: use numbers with dots between, like 1 or 1.2")


def _link(path: Path, target: Path) -> None:
    """A second name for a file, so that a kill in between loses nothing; moved where the file system has no links."""
    with write_errors(target):
        target.parent.mkdir(exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            os.replace(path, target)


def _finish(folder: Path, state: _State, name: str, version: str, seed: int | None, card_text: str) -> Manifest:
    """Write what stands beside the shards."""
    manifest = state.book.manifest(name, version, seed, dict(sorted(state.files.items())))
    write_text(folder / "README.md", _front_matter(manifest, state.book.licences) + card_text.strip() + "\n")
    write_json(folder / MANIFEST, manifest.to_json())
    return manifest


def _front_matter(manifest: Manifest, licences: set[str]) -> str:
    """The YAML by which the Hub and ``datasets.load_dataset`` know the tables and splits."""
    licence = next(iter(licences)).lower() if len(licences) == 1 else "other"
    lines = [
        "---",
        f"pretty_name: {json.dumps(manifest.id)}",
        f"license: {json.dumps(licence)}",
        "language: en",
        "task_categories: [image-segmentation]",
        "tags: [personalised-referring-segmentation, prisbench]",
        "configs:",
    ]
    for table in ("queries", "subjects"):
        lines += [f"- config_name: {table}"] + ["  default: true"] * (table == "queries") + ["  data_files:"]
        for split in SPLITS:
            if any(path.startswith(f"{table}/{split}-") for path in manifest.files):
                lines += [f"  - split: {split}", f"    path: {table}/{split}-*.parquet"]
    return "\n".join([*lines, "---", "", ""])
