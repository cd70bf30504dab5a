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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn

from prisbench.errors import DataError, UsageError
from prisbench.runtime.files import read_json, replacing, sha256_bytes, sha256_json, write_json
from prisbench.wsss.borrowed import Borrowed
from prisbench.wsss.networks import Network
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
        for name, parameter in self.network.named_parameters():
            for slot, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{slot}.{name}"] = value
        counters = {"step": self.step, "seconds": self.seconds, "waiting": self.waiting}
        record = {**counters, "log": self.log, "recent": self.recent, "scaler": self.scaler.state_dict()}
        with replacing(self.state) as temp:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temp, {"run": json.dumps(record)})
        write_json(self.out / "log.json", self.log)

    def load(self) -> None:
        """Go on from the last state, when there is one.  Raises DataError when it is damaged."""
        if not self.state.exists():
            return
        try:
            with safe_open(str(self.state), "pt") as file:
                record = json.loads(file.metadata()["run"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.step, self.seconds, self.waiting = record["step"], record["seconds"], record["waiting"]
            self.log, self.recent = record["log"], record["recent"]
            if record["scaler"]:
                self.scaler.load_state_dict(record["scaler"])
            prefix = "network."
            weights = {k.removeprefix(prefix): tensors.pop(k) for k in list(tensors) if k.startswith(prefix)}
            self.network.load_state_dict(weights)
            parameters = dict(self.network.named_parameters())
            for key, value in tensors.items():
                slot, name = key.split(".", 1)
                kept = value if slot == "step" else value.to(self.place.device)  # Adam's counters stay on the CPU
                self.optimizer.state[parameters[name]][slot] = kept
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


def claim(out: Path, asked: dict[str, Any]) -> None:
    """Write what was asked into the folder; DataError when it holds another run."""
    path = out / "run.json"
    if path.exists():
        found, wanted = _flat(read_json(path)), _flat(asked)
        changed = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        if changed:
            k = changed[0]
            raise DataError(
                f"{out} holds another run ({k} is {found.get(k)!r}, asked for {wanted.get(k)!r}); choose another folder"
            )
    elif (out / "state.safetensors").exists():
        raise DataError(f"{out} holds a state.safetensors without its run.json; choose another folder")
    write_json(path, asked)


def _flat(value: Any) -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``; anything but a record is nothing."""
    flat: dict[str, Any] = {}
    for key, inner in value.items() if isinstance(value, dict) else ():
        flat |= {f"{key}.{k}": v for k, v in _flat(inner).items()} if isinstance(inner, dict) else {key: inner}
    return flat


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
