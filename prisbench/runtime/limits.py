"""How long a call may take.

Python code is interrupted wherever it is.  Code of a library that does not return to Python is not; a process of its
own is needed there (``prisbench.trial``).

Knows: signals.  Does not know: what is called.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class OutOfTime(BaseException):
    """A call took longer than it may.  No ``Exception``, so that a method's own ``except Exception`` lets it pass."""


AGAIN = 1.0
"""A call that catches the signal is sent it again after so many seconds."""


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raises OutOfTime in the body after so many seconds; None and 0: no limit.

    Without signals (Windows, threads beside the main one) there is no limit.
    """
    if not seconds or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    running = [True]

    def ring(*_: Any) -> None:
        if running:
            raise OutOfTime

    former = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
            yield
        finally:
            running.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
