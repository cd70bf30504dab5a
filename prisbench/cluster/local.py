"""Workers as processes of this machine.

Knows: processes, pipes, how a death is noticed.  Does not know: what a unit does (``job``), who gets which
(``schedule``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from prisbench.cluster.job import Carrier, Job
from prisbench.cluster.schedule import Outcome, Unit
from prisbench.errors import PrisbenchError
from prisbench.runtime.console import tell

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment by which a user decides how many threads a process has."""


class LocalWorkers:
    """One process a device of ``devices``; a device may be named several times."""

    def __init__(self, job: Job, devices: Sequence[str]) -> None:
        self.job, self.devices = job, list(devices)
        self.names = [f"worker {n + 1} ({device})" for n, device in enumerate(devices)]
        self._at: dict[int, Unit] = {}
        self._running: dict[int, tuple[Any, Connection]] = {}
        self._context = get_context("spawn")  # a GPU cannot be forked

    def give(self, worker: int, unit: Unit) -> None:
        if worker not in self._running:
            self._running[worker] = self._start(worker)
        self._at[worker] = unit
        with contextlib.suppress(OSError):  # it has died meanwhile, which ``wait`` notices
            self._running[worker][1].send(unit)

    def wait(self) -> Outcome:
        by_connection = {self._running[worker][1]: worker for worker in self._at}
        ready = wait(list(by_connection))
        worker = min(by_connection[each] for each in ready)  # type: ignore[index]
        process, connection = self._running[worker]
        unit = self._at.pop(worker)
        try:
            value, error = connection.recv()
        except (EOFError, OSError):
            process.join()
            connection.close()
            del self._running[worker]
            return Outcome(worker, unit, died=_how(process.exitcode))
        if error is not None and not isinstance(error, PrisbenchError):
            self._end(worker)
            return Outcome(worker, unit, died=str(error))
        return Outcome(worker, unit, value, error=error)

    def close(self) -> None:
        for worker in list(self._running):
            self._end(worker)

    def _end(self, worker: int) -> None:
        process, connection = self._running.pop(worker)
        process.terminate()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
        connection.close()

    def _start(self, worker: int) -> tuple[Any, Connection]:
        here, there = self._context.Pipe()
        share = max(1, (os.cpu_count() or 1) // len(self.devices))
        process = self._context.Process(
            target=_work, args=(there, self.job, self.devices[worker], share, worker == 0), daemon=True
        )
        process.start()
        there.close()
        return process, here


def _work(connection: Connection, job: Job, device: str, threads: int, first: bool) -> None:
    """The life of a worker: units come in, values go out.  It ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in THREADS:
        os.environ.setdefault(name, str(threads))
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    carrier = Carrier(job, device, tell if first else lambda _: None)
    while True:
        try:
            unit = connection.recv()
        except EOFError:
            return
        connection.send(carried_out(carrier.carry_out, unit))


def carried_out(carry_out: Callable[[Unit], Any], unit: Unit) -> tuple[Any, Any]:
    """What a unit gives and None, or None and its mistake; want of memory, as text, is a worker's death."""
    try:
        return carry_out(unit), None
    except PrisbenchError as error:
        return None, as_sent(error)
    except Exception as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())


def as_sent(error: PrisbenchError) -> PrisbenchError:
    """An error that another process can read: of its kind where that takes one text, with its text."""
    kind: Any = type(error)
    try:
        copy: PrisbenchError = kind(str(error))
    except TypeError:
        copy = PrisbenchError(str(error))
    return copy


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name if -exitcode in set(signal.Signals) else str(-exitcode)
        return f"killed by {name}" + (", perhaps for want of memory" if -exitcode == signal.SIGKILL else "")
    return f"exit code {exitcode}"
