"""Locks: who has one is named, the kernel frees it with its holder, and nothing of it is left."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from prisbench.errors import WriteError
from prisbench.runtime.locks import LOCK, holder, locked

HOLDS = """
import sys
from prisbench.runtime.locks import locked
with locked(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for folder in (tmp_path / "kept", tmp_path / "new" / "run"):
        with locked(folder):
            assert [path.name for path in folder.iterdir()] == [LOCK]
            message = rf"{folder} is in use by process {os.getpid()} on \S+ \(since 20\d\d-.*: .*\); wait for it"
            with pytest.raises(WriteError, match=message), locked(folder):
                raise AssertionError
            with locked(folder, "another-name"):
                pass
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_a_folder_with_something_in_it_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "file").touch()
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "run"):
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_a_killed_holder_frees_its_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        with pytest.raises(WriteError, match=rf"in use by process {other.pid} on "), locked(tmp_path):
            raise AssertionError
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (tmp_path / LOCK).is_file(), "what is left of it"
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in holder(tmp_path / LOCK)
    assert not list(tmp_path.iterdir())


def test_who_waits_says_so_and_is_next(tmp_path: Path) -> None:
    said, order = list[str](), list[str]()
    waiting = threading.Event()

    def hear(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with locked(tmp_path, wait=True, say=hear):
            with pytest.raises(WriteError, match="is in use by process"), locked(tmp_path):
                raise AssertionError
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path):
        thread.start()
        assert waiting.wait(10)
        time.sleep(0.2)  # until it waits for this very file, which is removed then
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"] and len(said) == 1
    assert said[0].startswith(f"waiting for process {os.getpid()} on ")
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_said_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    said: list[str] = []
    with locked(tmp_path, say=said.append), locked(tmp_path, say=said.append):
        pass
    assert said == [f"{tmp_path}: this file system has no locks; make sure that one process at a time works there"] * 2


def test_a_lock_file_that_says_nothing_is_anothers(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("{")
    assert holder(tmp_path / LOCK) == holder(tmp_path / "gone") == "another process"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, without_root: None) -> None:
    with pytest.raises(WriteError, match=r"cannot write .*run: no permission"), locked(tmp_path / "run"):
        raise AssertionError
