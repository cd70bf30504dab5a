"""One process at a time in a folder: a lock that names its holder and that the system frees when the holder ends.

Knows: lock files, the holder's process, host, start and command.  Does not know: what is written in the folder.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from prisbench.errors import WriteError
from prisbench.runtime.console import tell
from prisbench.runtime.files import write_errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
"""The lock file of a folder.  It is removed with the lock; after a kill it stays, and means nothing."""

COMMAND_LENGTH = 160


@contextlib.contextmanager
def locked(
    folder: str | os.PathLike[str], name: str = LOCK, wait: bool = False, say: Callable[[str], None] = tell
) -> Iterator[None]:
    """Hold the lock file ``name`` of a folder, which is made when it is missing, for as long as the body runs.

    When another process holds it: ``wait`` says so and waits; otherwise raises WriteError, naming the holder.
    On a file system without locks, one line says that nothing keeps other processes out.
    """
    path = Path(folder) / name
    made = [each for each in (path.parent, *path.parent.parents) if not os.path.exists(each)]
    handle = _open(path, wait, say)
    try:
        yield
    finally:
        # Removed before it is released: who waits for it notices that the file has gone, and makes another.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                path.unlink()
                for each in made:
                    each.rmdir()  # unless something is in it
        os.close(handle)


def _open(path: Path, wait: bool, say: Callable[[str], None]) -> int:
    """The open file, locked."""
    waiting = False
    while True:
        with write_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:
                continue  # its last holder has just removed the empty folder
        try:
            if not take(handle, wait=waiting):
                say(f"{path.parent}: this file system has no locks; make sure that one process at a time works there")
                return handle
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    sign(handle)
                    return handle
        except BlockingIOError:
            who = holder(path)
            if not wait:
                os.close(handle)
                raise WriteError(f"{path.parent} is in use by {who}; wait for it, or choose another folder") from None
            say(f"waiting for {who}, which works on the same in {path.parent}")
            waiting = True
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # of a file that its last holder has just removed


def take(handle: int, wait: bool = False) -> bool:
    """Lock an open file; False where there are no locks.  Raises BlockingIOError when another process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def sign(handle: int) -> None:
    """Write into a locked file who holds it."""
    record = {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:COMMAND_LENGTH],
    }
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, (json.dumps(record) + "\n").encode(), 0)


def holder(path: Path) -> str:
    """Who holds a lock file, in words; it may have been locked a moment ago, and say nothing yet."""
    try:
        record = json.loads(path.read_bytes())
        return f"process {record['pid']} on {record['host']} (since {record['since']}: {record['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
