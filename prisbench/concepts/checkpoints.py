"""The checkpoints of a concept that is being learned: where they are kept, when one is due, and
how a run goes on.

Knows: stores, the names of a checkpoint's tensors.  Does not know: how learning goes.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch

from prisbench.concepts.loop import State, Task, Training
from prisbench.concepts.watch import Watch
from prisbench.errors import WriteError
from prisbench.runtime.checkpoints import (
    Checkpoint,
    moments,
    put_moments,
    read_checkpoint,
    read_header,
    write_checkpoint,
)
from prisbench.runtime.files import write_errors

FORMAT = 1
"""Of checkpoints."""

SHARE = 20
"""Writing takes one part in so many of the time at most."""


def checkpoint_path(store: Path, key: str) -> Path:
    """One file, replaced in one step: safetensors, whose header says what it is a part of."""
    return store / f".partial-{key}" / "checkpoint.safetensors"


def forget(store: Path, key: str) -> None:
    """Remove the checkpoint of a concept; call it once the concept is in the store."""
    shutil.rmtree(checkpoint_path(store, key).parent, ignore_errors=True)


def resumed(training: Training, watch: Watch) -> State:
    """Where the run's checkpoint was, parameters and moments in their places; a new state where
    there is none.

    Of two stores that which has the later checkpoint counts.  What cannot be gone on from is said.
    """
    stores = [store for store in (watch.store, watch.spare) if store is not None]
    if watch.store is None:
        return State()
    _mention_other_versions(training.task, watch.store, watch)
    paths = [checkpoint_path(store, training.task.key) for store in stores]
    reached = [int((read_header(path) or {}).get("step", -1)) for path in paths]
    return _read(training, paths[reached.index(max(reached))], watch)


def _read(training: Training, path: Path, watch: Watch) -> State:
    header = read_header(path)
    if header is None:
        if path.exists():
            watch.say(f"{path} is no checkpoint that can be read; learning starts again")
        return State()
    if header.get("format") != str(FORMAT) or header.get("key") != training.task.key:
        watch.say(f"{path} is of another version of prisbench; learning starts again")
        return State()
    tensors, moving = read_checkpoint(path).tensors, training.moving
    values = {name: tensors.get(f"value.{name}") for name in moving}
    if any(value is None or value.shape != moving[name].shape for name, value in values.items()):
        watch.say(f"{path} holds something else; learning starts again")
        return State()
    total = {}
    for name, parameter in moving.items():
        parameter.data.copy_(tensors[f"value.{name}"])
        if (value := tensors.get(f"total.{name}")) is not None:
            total[name] = value.to(parameter.device)
    put_moments(training.optimizer, moving, tensors, "moment.")
    return State(int(header["step"]), tensors["losses"].tolist(), total)


def _mention_other_versions(task: Task, store: Path, watch: Watch) -> None:
    """Say that a checkpoint of the same thing by another recipe version is there; it is left
    alone.
    """
    for path in sorted(store.glob(".partial-*/checkpoint.safetensors")):
        header = read_header(path) or {}
        if header.get("versionless") == task.versionless and header.get("key") != task.key:
            watch.say(
                f"{path.parent} is a checkpoint of {task.name} by recipe version {header.get('version')}, this is "
                f"version {task.version}: learning starts again; remove the folder, it is of no use here"
            )


class Keeper:
    """Writes a run's checkpoints when they are due, into the store or, where that fails, into the
    spare one.
    """

    def __init__(self, training: Training, watch: Watch) -> None:
        self.training, self.watch = training, watch
        self.store, self.spare = watch.store, watch.spare
        self.wait, self.written = watch.checkpoint_seconds, time.monotonic()

    def after(self, state: State) -> None:
        """After each step: write where it is time.  Raises WriteError when neither store takes it."""
        now = time.monotonic()
        if self.store is None or state.step >= self.training.loop.steps or now - self.written < self.wait:
            return
        self._keep(state, self.store)
        self.written = time.monotonic()
        self.wait = self.wait and max(self.wait, SHARE * (self.written - now))

    def _keep(self, state: State, store: Path) -> None:
        try:
            _write(self.training, state, store)
        except WriteError as error:
            if self.spare is None:
                raise
            self.watch.caution(f"{error}; learning goes on, its checkpoints are kept in {self.spare}")
            _write(self.training, state, self.spare)
            self.store, self.spare = self.spare, None


def _write(training: Training, state: State, store: Path) -> None:
    """Raises WriteError; an earlier checkpoint is then as it was."""
    task, moving = training.task, training.moving
    tensors = {f"value.{name}": parameter for name, parameter in moving.items()}
    tensors |= moments(training.optimizer, moving, "moment.")
    tensors |= {f"total.{name}": value for name, value in state.total.items()}
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    header = {"format": FORMAT, "key": task.key, "versionless": task.versionless, "version": task.version}
    header |= {"step": state.step}
    path = checkpoint_path(store, task.key)
    with write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, Checkpoint(tensors, {name: str(value) for name, value in header.items()}))
