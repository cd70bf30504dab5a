"""Several things at a time: threads that read, processes that compute, results in the order of the
calls.

Nothing here loads torch, so that a worker process starts in a moment.

Knows: pools, how they end when their work is no longer wanted.  Does not know: what is computed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from prisbench.errors import UsageError

Out = TypeVar("Out")


def in_order(
    pool: Executor | None, function: Callable[..., Out], calls: Iterable[tuple[Any, ...]], ahead: int
) -> Iterator[Out]:
    """The results of the calls, in their order; at most ``ahead`` are being computed or wait to be
    fetched.

    Raises UsageError when a worker process has died: killed for want of memory, or unable to
    start.
    """
    if pool is None:
        yield from (function(*call) for call in calls)
        return
    pending = deque[Future[Out]]()
    try:
        for call in calls:
            pending.append(pool.submit(function, *call))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise UsageError("a worker process died, perhaps for want of memory; try --workers 1, or 0 for none") from None


@contextmanager
def worker_threads(workers: int) -> Iterator[Executor | None]:
    """A pool that, when left, drops what it has not begun; None without workers."""
    pool = ThreadPoolExecutor(workers) if workers else None
    try:
        yield pool
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


@contextmanager
def worker_processes(workers: int) -> Iterator[Executor | None]:
    """Processes that start afresh (a GPU cannot be forked); None without workers.

    When left, what has not begun is dropped.  Ctrl-C is the main process's business alone.
    """
    if not workers:
        yield None
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_heed_no_interruption)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def forked_processes(workers: int) -> Iterator[Executor | None]:
    """Copies of this process, for work in numpy alone: nothing is imported again, so a script without a main guard may
    use them.  None, so that this process does the work, with fewer than two, and where that cannot be or is not safe:
    in a child that may have no children, without semaphores, and off Linux.  They end when left, and when this process
    is killed.
    """
    if workers < 2 or sys.platform != "linux" or multiprocessing.current_process().daemon:
        yield None
        return
    try:
        pool = ProcessPoolExecutor(
            workers, mp_context=get_context("fork"), initializer=_follow, initargs=(os.getpid(),)
        )
    except (ImportError, NotImplementedError, OSError):  # a system without semaphores, or with too few
        yield None
        return
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def free_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _heed_no_interruption() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _follow(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end when it has ended, however that went."""
    _heed_no_interruption()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
