"""A training between two steps, in memory and on disk.

A run is a folder: ``run.json`` (what decides it), ``state.safetensors`` (all that a resumed run
needs, in one file), ``log.json`` (for people), and in the end ``network/``.

Knows: counters, the log, the state of network, optimizer and scaler.  Does not know: crops, the
loss.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import nn

from prisbench.errors import DataError, UsageError
from prisbench.runtime.checkpoints import Checkpoint, moments, put_moments, read_checkpoint, write_checkpoint
from prisbench.runtime.files import sha256_bytes, sha256_json, write_json
from prisbench.wsss.borrowed import Borrowed
from prisbench.wsss.networks import Network
from prisbench.wsss.run_folders import claim_folder
from prisbench.wsss.samples import Sample
from prisbench.wsss.schedule import TrainSettings, optimizer_of

FORMAT = 1


class Run:
    """A run between steps, in memory and on disk."""

    def __init__(self, network: Network, settings: TrainSettings, out: Path, place: Place) -> None:
        self.network, self.settings, self.out, self.place = network, settings, out, place
        self.optimizer = optimizer_of(network, settings)
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=settings.precision == "float16")
        self.step, self.seconds, self.waiting = 0, 0.0, 0.0
        self.log: list[dict[str, float]] = []
        self.recent = {"steps": 0.0, "loss": 0.0, "seconds": 0.0, "waiting": 0.0}

    @property
    def state(self) -> Path:
        return self.out / "state.safetensors"

    def note(self, loss: float, seconds: float, waiting: float) -> None:
        """Count a finished step; every ``log_every`` of them make a row of means."""
        self.step += 1
        self.seconds += seconds
        self.waiting += waiting
        for key, value in (("steps", 1.0), ("loss", loss), ("seconds", seconds), ("waiting", waiting)):
            self.recent[key] += value
        if self.step % self.settings.log_every == 0 or self.step == self.settings.steps:
            means = {key: self.recent[key] / self.recent["steps"] for key in ("loss", "seconds", "waiting")}
            self.log.append({"step": self.step, **{key: round(value, 5) for key, value in means.items()}})
            self.recent = dict.fromkeys(self.recent, 0.0)

    def save(self) -> None:
        """Write everything into one file, then the log for people.

        Only the first process does.
        """
        if self.place.rank:
            return
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= moments(self.optimizer, dict(self.network.named_parameters()))
        counters = {"step": self.step, "seconds": self.seconds, "waiting": self.waiting}
        record = {**counters, "log": self.log, "recent": self.recent, "scaler": self.scaler.state_dict()}
        write_checkpoint(self.state, Checkpoint(tensors, {"run": json.dumps(record)}))
        write_json(self.out / "log.json", self.log)

    def load(self) -> None:
        """Go on from the last state, when there is one.  Raises DataError when it is damaged."""
        if not self.state.exists():
            return
        try:
            tensors, header = read_checkpoint(self.state)
            record = json.loads(header["run"])
            self.step, self.seconds, self.waiting = record["step"], record["seconds"], record["waiting"]
            self.log, self.recent = record["log"], record["recent"]
            if record["scaler"]:
                self.scaler.load_state_dict(record["scaler"])
            prefix = "network."
            weights = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            self.network.load_state_dict(weights)
            put_moments(self.optimizer, dict(self.network.named_parameters()), tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            why = str(error).splitlines()[0] if str(error) else repr(error)
            raise DataError(f"{self.state} is damaged ({why}); delete it to begin this run anew") from None


def identity(network: Network, samples: Sequence[Sample], settings: TrainSettings) -> dict[str, Any]:
    """All that decides a run's result, as JSON has it."""
    start = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    return {
        "format": FORMAT,
        "settings": settings.identity(),
        "network": json.loads(json.dumps(network.describe())),
        "weights_at_start": sha256_bytes(save(start)),
        "samples": {"number": len(samples), "sha256": sha256_json([sample.id for sample in samples])},
    }


def claim_run(out: Path, record: dict[str, Any]) -> None:
    """Write what decides the run into the folder; DataError when it holds another run."""
    if (out / "state.safetensors").exists() and not (out / "run.json").exists():
        raise DataError(f"{out} holds a state.safetensors without its run.json; choose another folder")
    claim_folder(out, record)


class Place(NamedTuple):
    """Where this process trains, and what it shares with others."""

    device: torch.device
    rank: int
    world: int
    network: nn.Module
    apart: Callable[[], contextlib.AbstractContextManager[Any]]
    """In this context gradients are not yet exchanged."""
    finish: Callable[[], None]


def place_of(network: Network, device: torch.device, settings: TrainSettings) -> Place:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch % (world * settings.accumulate):
        raise UsageError(
            f"a batch of {settings.batch} cannot be shared by {world} processes in {settings.accumulate} parts each; "
            f"choose a multiple of {world * settings.accumulate}, or fewer parts"
        )
    if world == 1:
        return Place(device, 0, 1, network.to(device), contextlib.nullcontext, lambda: None)
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError:
        raise UsageError(f"training in {world} processes needs accelerate: pip install accelerate") from None
    spare = DistributedDataParallelKwargs(find_unused_parameters=isinstance(network, Borrowed))
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no", kwargs_handlers=[spare])
    wrapped = accelerator.prepare_model(network.to(accelerator.device))

    def finish() -> None:
        accelerator.wait_for_everyone()
        accelerator.end_training()

    apart = partial(accelerator.no_sync, wrapped)
    return Place(accelerator.device, accelerator.process_index, world, wrapped, apart, finish)
