"""A method's trial: its process started, listened to, and ended when a call does not come back.

    trial = try_method("path/to/method.py")
    trial.complaint                      None, or one line

Knows: processes, limits.  Does not know: what is checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prisbench.errors import DataError
from prisbench.methods import method_file
from prisbench.results import REFERENCES
from prisbench.runtime.files import write_json
from prisbench.settings import MethodOptions
from prisbench.split_subjects import given
from prisbench.trial.records import CHECKS, Check, Trial
from prisbench.trial.scenes import draw_set, write_set

IMAGE_SECONDS, LEARN_SECONDS = 60.0, 1800.0
"""How long an image, and loading or learning one subject, may take unless it is said otherwise."""

STARTING = 120.0
"""How long Python may take to start and import."""


@dataclass(frozen=True)
class Limits:
    """Seconds that a call about one image, and loading or learning one subject, may take."""

    image: float = IMAGE_SECONDS
    learn: float = LEARN_SECONDS


@dataclass
class _Heard:
    """What the process told so far.  ``what`` is the call that runs, until ``until`` of the monotonic clock."""

    checks: dict[str, Check] = field(default_factory=dict)
    what: str = "starting"
    limit: float = STARTING
    until: float = 0.0
    refused: str | None = None
    done: dict[str, Any] | None = None


def try_method(
    method: str,
    options: MethodOptions | None = None,
    reference: str = REFERENCES[0],
    limits: Limits | None = None,
    learning: Callable[[int, int, float], None] = lambda *_: None,
) -> Trial:
    """Run every check on a method, by name or path, in a process of its own.

    ``reference``: what it is given of a subject, as in a run.  ``options.say`` is told what the method says.  Raises
    UnknownNameError and DataError for a method that cannot be loaded.
    """
    options, limits = options or MethodOptions(), limits or Limits()
    method_file(method)
    start = time.perf_counter()
    drawn = draw_set(masks=reference != REFERENCES[0])
    given(drawn.subjects, reference)
    with tempfile.TemporaryDirectory(prefix="prisbench-try-") as name:
        folder = Path(name)
        write_set(folder, drawn)
        plain = {key: getattr(options, key) for key in ("concept", "model", "seed", "device", "settings", "store")}
        task = {"method": method, "options": plain, "image_limit": limits.image, "learn_limit": limits.learn}
        write_json(folder / "task.json", task)
        heard, code = _listen(folder, options.say, learning)
    if heard.refused is not None:
        raise DataError(heard.refused)
    return _trial(method, heard, code, time.perf_counter() - start)


def _listen(
    folder: Path, say: Callable[[str], None], learning: Callable[[int, int, float], None]
) -> tuple[_Heard, int | None]:
    """What the process tells until it ends; its exit code, None where it was ended."""
    command = [sys.executable, "-P", "-m", "prisbench.trial.child", str(folder)]
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    heard, lines = _Heard(until=time.monotonic() + STARTING), queue.Queue[str | None]()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # so that what the method starts ends with it
    )
    assert process.stdout is not None
    threading.Thread(target=_forward, args=(process.stdout, lines.put), daemon=True).start()
    try:
        while True:
            try:
                line = lines.get(timeout=max(heard.until - time.monotonic(), 0))
            except queue.Empty:
                return heard, None
            if line is None:
                return heard, _exit_code(process)
            with contextlib.suppress(ValueError):  # a line that is none of the process's own
                _hear(heard, json.loads(line), say, learning)
            if heard.done is not None or heard.refused is not None:
                return heard, 0
    finally:
        _end(process)


def _exit_code(process: subprocess.Popen[str]) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(10)
    return None


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and what it started."""
    with contextlib.suppress(OSError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _forward(stream: Iterable[str], put: Callable[[str | None], None]) -> None:
    """Every line as it comes, and None at the end."""
    try:
        for line in stream:
            put(line)
    finally:
        put(None)


def _hear(
    heard: _Heard, event: dict[str, Any], say: Callable[[str], None], learning: Callable[[int, int, float], None]
) -> None:
    kind = event.pop("event")
    if kind == "begin":
        heard.what, heard.limit = event["what"], event["limit"]
        heard.until = time.monotonic() + event["limit"]
    elif kind == "end":
        heard.until = time.monotonic() + STARTING
    elif kind == "check":
        heard.checks[event["name"]] = Check(**event)
    elif kind == "say":
        say(event["line"])
    elif kind == "step":
        learning(event["step"], event["steps"], event["loss"])
    elif kind == "refused":
        heard.refused = event["line"]
    elif kind == "done":
        heard.done = event


def _trial(method: str, heard: _Heard, code: int | None, seconds: float) -> Trial:
    checks = dict(heard.checks)
    if heard.done is None:
        checks["time"] = Check("time", "FAILED", _ended(heard, code))
    every = tuple(checks.get(name, Check(name, "not reached")) for name in CHECKS)
    done = heard.done or {}
    name = str(done.get("method", method))
    return Trial(name, every, done.get("learn_seconds"), done.get("image_seconds"), seconds)


def _ended(heard: _Heard, code: int | None) -> str:
    """What became of a process that did not finish."""
    if code is None:
        return (
            f"{heard.what}: it did not come back within {heard.limit:g} s and was ended; let every loop end, or "
            "give it more time with --image-seconds or --learn-seconds"
        )
    kind = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    return f"{heard.what}: its process ended with {kind}; return answers, and raise errors instead of ending Python"
