"""Seconds and memory of a call, in this process or in one of its own.

Knows: how Linux says what a process holds, how long a call takes.  Does not know: what is called.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from prisbench.errors import UsageError

PROC = Path("/proc")

T = TypeVar("T")


class Measured(NamedTuple):
    """``peak_bytes``: the most memory the process held above what it held before; None where it cannot be known."""

    result: Any
    seconds: float
    peak_bytes: int | None


def measure(call: Callable[[], Any]) -> Measured:
    """One call: its result, its seconds, its peak memory.

    Memory is resident memory of the whole process: what was freed is given back to the system first, the kernel's
    high-water mark is set to the present, and read after the call (Linux only).
    """
    gc.collect()
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (PROC / "self" / "clear_refs").write_text("5")
        before = _status("VmRSS")
    except (OSError, KeyError):
        before = None
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    return Measured(result, seconds, None if before is None else max(0, _status("VmHWM") - before))


def _status(key: str) -> int:
    """A number of bytes from the process's status.  Raises KeyError, OSError where there is none."""
    lines = (PROC / "self" / "status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)[key].split()[0]) * 1024


def free_bytes() -> int | None:
    """Memory that can be had without swapping, in this container; None where the system does not say."""
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
        free = int(dict(line.split(":", 1) for line in lines)["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return None
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, max(0, limit - used))
    return free


def peak_bytes() -> int | None:
    """The most memory this process has held, resident, since it began or since ``measure`` last began; None where the
    system does not say.
    """
    try:  # of this program alone; the other also counts what its parent held when it was started
        return _status("VmHWM")
    except (OSError, KeyError):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def refuse(needed: int, what: str, cure: str) -> None:
    """Raises UsageError when memory will not do."""
    free = free_bytes()
    if free is not None and needed > free:
        raise UsageError(f"{what} needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; {cure}")


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_a_process(call: Callable[..., T | str], *given: Any, killed: UsageError) -> T:
    """What a call gives in a fresh process.  Text is a mistake that the user can mend.

    Raises it as UsageError, and ``killed`` when the process comes to grief.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            answer = pool.submit(call, *given).result()
        except BrokenProcessPool:
            raise killed from None
    if isinstance(answer, str):
        raise UsageError(answer)
    return answer
