"""Where an interrupted build stands, and how the next one goes on from there.

While ``build`` runs, all it has made lies in a hidden folder beside the target::

    .NAME.partial/
      lock          held by the process that builds
      journal.json  what is finished; replaced in one step each time shards are full
      notes.jsonl   what is kept of the finished rows, only ever appended to; the journal says how much of it counts
      rows/         the shards

Shards of both splits are closed at the same row.  So "the first n rows" is all there is to say about where a build
stands, and an interrupted build ends with the same bytes as any other.

Knows: that folder, who holds it, what is finished in it.  Does not know: where rows come from, Parquet.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.seen_rows import SeenRows
from prisbench.errors import DataError, WriteError
from prisbench.runtime.files import read_json, write_errors, write_json
from prisbench.runtime.locks import holder, sign, take


@dataclass
class BuildState:
    """What is finished of a build.

    ``table`` is the one being written, ``rows`` how many of its rows are in full shards.  ``files``: path -> sha256.
    """

    folder: Path
    seen: SeenRows = field(default_factory=SeenRows)
    table: str = "subjects"
    rows: int = 0
    files: dict[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


class Journal:
    """The journal of a partial build; it counts only for the settings it was begun with."""

    def __init__(self, unfinished: Path, settings: dict[str, Any], remarks: Remarks) -> None:
        self._folder = unfinished
        self._settings = settings
        self._remarks = remarks  # those of rows read ahead too: when these are read again, they count once
        self._notes_bytes = 0
        self._notes_sha256 = hashlib.sha256()

    def write(self, state: BuildState, notes: bytes) -> None:
        """Say that the state is finished; ``notes`` are those of its rows that are new."""
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

    def read(self, say: Callable[[str], None] | None) -> BuildState:
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
        state = state or BuildState(self._folder / "rows")
        with write_errors(self._folder):
            _keep_only({state.folder / path for path in state.files}, state.folder)
            if not state.files:
                (self._folder / "journal.json").unlink(missing_ok=True)
        return state

    def _read(self) -> BuildState | None:
        """What is finished; None for other settings.  Raises whatever a damaged journal leads to."""
        value = read_json(self._folder / "journal.json")
        if value["settings"] != self._settings:
            return None
        folder, files = self._folder / "rows", value["files"]
        rows, length, digest = SeenRows(), 0, hashlib.sha256()
        with open(self._folder / "notes.jsonl", "rb") as file:
            while length < value["notes_bytes"]:
                line = file.readline()
                rows.read_note(line)
                digest.update(line)
                length += len(line)
        if digest.hexdigest() != value["notes_sha256"] or not all((folder / path).is_file() for path in files):
            raise ValueError("the journal speaks of what is not there")
        self._notes_bytes, self._notes_sha256 = length, digest
        self._remarks.restore(value["remarks"])
        return BuildState(folder, rows, value["table"], value["rows"], files, value["left_out"])


@contextlib.contextmanager
def partial_build(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """The partial build of a folder, this process's alone; gone afterwards, unless there is something to go on from.

    Raises WriteError when another process is building the folder.
    """
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
            take(handle)
        except BlockingIOError:
            os.close(handle)
            raise WriteError(
                f"cannot write {folder}: another process is building it; wait for it, or choose another folder "
                f"({holder(unfinished / 'lock')})"
            ) from None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), os.stat(unfinished / "lock")):
                sign(handle)
                return handle
        os.close(handle)  # locked in a folder that another process has just taken away


def _keep_only(kept: set[Path], folder: Path) -> None:
    """Remove what an interrupted build had begun and not finished."""
    for found in folder.glob("*/*"):
        if found not in kept:
            found.unlink()
