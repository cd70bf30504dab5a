"""The process that a method under trial runs in: ``python -m prisbench.trial.child FOLDER``.

It tells what goes on in lines of JSON on the stdout that it was started with.  What the method prints there goes to a
file instead.  No truth is in this process.

Knows: the folder's files.  Does not know: the process that started it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from prisbench.methods import check_options, load_method
from prisbench.settings import MethodOptions
from prisbench.trial.calls import Caller, Emit
from prisbench.trial.checks import Bench, all_checks, slowest_words
from prisbench.trial.records import Check
from prisbench.trial.scenes import read_set
from prisbench.types import Method


def main(folder: Path) -> None:
    """Run all checks of the task in a folder."""
    start = time.perf_counter()
    threading.Thread(target=_leave_with, args=(os.getppid(), folder), daemon=True).start()
    emit, printed = _channel(folder / "printed.txt")
    task = json.loads((folder / "task.json").read_text())
    set_ = read_set(folder)
    learning = partial(_step, emit)
    options = MethodOptions(
        **task["options"],
        progress=learning,
        say=lambda line: emit({"event": "say", "line": str(line)}),
        spare=folder / "concepts",
    )

    def load() -> Method:
        check_options(task["method"], [options])
        return load_method(task["method"], options)

    nobody: Any = None
    caller = Caller(nobody, emit, task["image_limit"])
    loaded = caller.timed("loading it", task["learn_limit"], load)
    if loaded.wrong is not None:
        emit({"event": "refused", "line": loaded.wrong})
        return
    caller.method = loaded.value
    _tell(emit, Check("loads", "ok", f"{caller.method.name} in {loaded.seconds:.1f} s"))
    bench = Bench(caller, set_, load, task["learn_limit"], loaded.seconds)
    for check in all_checks(bench):
        _tell(emit, check)
    _tell(emit, _stdout(printed))
    _tell(emit, Check("time", "ok", slowest_words(bench, start)))
    seconds = {"learn_seconds": bench.learn_seconds, "image_seconds": caller.slowest}
    emit({"event": "done", "method": str(caller.method.name), **seconds})


def _channel(printed: Path) -> tuple[Emit, Path]:
    """The stdout that this process was started with, as a channel of its own; file descriptor 1 becomes a file."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    lock = threading.Lock()
    with printed.open("wb") as file:
        os.dup2(file.fileno(), 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), encoding="utf-8", errors="replace", line_buffering=True)

    def emit(event: dict[str, Any]) -> None:
        with lock:
            try:
                lines.write(json.dumps(event) + "\n")
                lines.flush()
            except BrokenPipeError:  # whoever started this process is gone
                _abandoned(printed.parent)

    return emit, printed


def _leave_with(parent: int, folder: Path) -> None:
    """End when the process that started this one has ended, however that went: nobody would stop an endless method, or
    remove the folder.
    """
    while os.getppid() == parent:
        time.sleep(1)
    _abandoned(folder)


def _abandoned(folder: Path) -> NoReturn:
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _step(emit: Emit, step: int, steps: int, loss: float) -> None:
    emit({"event": "step", "step": int(step), "steps": int(steps), "loss": float(loss)})


def _tell(emit: Emit, check: Check) -> None:
    emit({"event": "check", **vars(check)})


def _stdout(printed: Path) -> Check:
    with contextlib.suppress(OSError, ValueError):  # the method may have closed it
        sys.stdout.flush()
    lines = [line for line in printed.read_text(errors="replace").splitlines() if line.strip()]
    if not lines:
        return Check("stdout", "ok", "it prints nothing there")
    return Check("stdout", "note", f"it printed {len(lines)} lines there, first {lines[0][:60]!r}; runs send them to "
                 "stderr; say what users should know with options.say(line)")  # fmt: skip


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.stderr.flush()
    os._exit(code)  # threads that a method left behind keep nobody waiting
