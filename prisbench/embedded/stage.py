"""A stage of training: steps, a running average of the weights, and its state on disk.

Knows: the optimizer, the schedule of the rate, checkpoints.  Does not know: what is trained, the
loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from prisbench.embedded.recipe import Report
from prisbench.runtime.checkpoints import Checkpoint, moments, put_moments, read_checkpoint, write_checkpoint
from prisbench.runtime.devices import computes_bfloat16
from prisbench.runtime.files import read_json, write_json

REPORTED = 50
"""Every so many steps a row of means goes into the log and is shown."""


class Running(NamedTuple):
    """How a run goes on: what is told of it, seconds between checkpoints, and where it computes.

    Chance comes from generators of the CPU on every device, so data and noise are the same everywhere.
    """

    report: Report
    checkpoint_seconds: float
    device: str = "cpu"


class Stage:
    """Parameters, their average and the optimizer's moments of one stage, on disk between steps."""

    def __init__(
        self,
        folder: Path,
        modules: dict[str, nn.Module],
        rate: float,
        ema: float,
        scale: dict[str, float] | None = None,
    ) -> None:
        self.folder, self.decay, self.step, self.seconds, self.log = folder, ema, 0, 0.0, list[dict[str, float]]()
        self.scale = scale or {}  # a module's share of the rate
        self.between_steps = True
        self.parameters = {f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters()}
        self.average = {k: p.detach().clone() for k, p in self.parameters.items()}
        groups = []
        for module in modules:
            mine = [p for k, p in self.parameters.items() if k.startswith(f"{module}.")]
            for decay, params in ((0.01, [p for p in mine if p.ndim >= 2]), (0.0, [p for p in mine if p.ndim < 2])):
                groups.append({"params": params, "weight_decay": decay, "module": module})
        self.optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)

    def update(self, loss: Tensor | None, rate: float) -> None:
        """A step; ``loss`` None: its gradients are there already."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.scale.get(group["module"], 1.0)
        if loss is not None:
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.between_steps = False
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(self.decay, (1 + self.step) / (10 + self.step))
        averages = list(self.average.values())
        torch._foreach_lerp_(averages, [p.detach() for p in self.parameters.values()], 1 - keep)
        self.between_steps = True

    def save(self) -> None:
        """Write the state; the log first, because rows past the state's step are dropped on
        loading.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "log.json", self.log)
        tensors: dict[str, Tensor] = {f"now.{k}": p for k, p in self.parameters.items()}
        tensors |= {f"average.{k}": p for k, p in self.average.items()}
        tensors |= moments(self.optimizer, self.parameters)
        header = {"step": str(self.step), "seconds": str(self.seconds)}
        write_checkpoint(self.folder / "state.safetensors", Checkpoint(tensors, header))

    def load(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        tensors, header = read_checkpoint(path)
        self.step, self.seconds = int(header["step"]), float(header["seconds"])
        self.log = [row for row in read_json(self.folder / "log.json") if row["step"] <= self.step]
        with torch.no_grad():
            for k, p in self.parameters.items():
                p.copy_(tensors[f"now.{k}"])
                self.average[k].copy_(tensors[f"average.{k}"])
        put_moments(self.optimizer, self.parameters, tensors)

    def apply_average(self) -> None:
        with torch.no_grad():
            for k, p in self.parameters.items():
                p.copy_(self.average[k])

    def run(
        self,
        steps: int,
        name: str,
        step_loss: Callable[[int], tuple[Tensor | None, dict[str, float]]],
        rate: Callable[[int], float],
        report: Report,
        every: float,
    ) -> None:
        """Steps until done, saving every so many seconds and at the end; also when interrupted,
        unless in the middle of an update: then the last saved state stands.
        """
        self.load()
        saved = last = time.monotonic()
        sums: dict[str, float] = {}
        counted = 0
        try:
            while self.step < steps:
                loss, numbers = step_loss(self.step)
                self.update(loss, rate(self.step))
                now = time.monotonic()
                self.seconds += now - last
                last = now
                counted += 1
                for k, v in numbers.items():
                    sums[k] = sums.get(k, 0.0) + v
                if self.step % REPORTED == 0:
                    means = {k: round(v / counted, 5) for k, v in sums.items()}
                    sums, counted = {}, 0
                    self.log.append({"step": self.step, "seconds": round(self.seconds, 1), **means})
                    report(name, self.step, steps, means)
                if now - saved > every:
                    self.save()
                    saved = time.monotonic()
        finally:
            if self.between_steps:
                self.save()


def rate_shape(step: int, steps: int, decay_share: float, warmup: int = 100) -> float:
    """What the rate is multiplied with: it warms up, stays, and falls to zero over the last share."""
    left = (steps - step) / max(steps * decay_share, 1)
    return min(1.0, (step + 1) / warmup, max(left, 0.0))


def in_bfloat16(device: str = "cpu") -> torch.autocast:
    """Compute in bfloat16 where the device has instructions for it; elsewhere that would take ten
    times as long.
    """
    enabled = computes_bfloat16(device)
    return torch.autocast(torch.device(device).type if enabled else "cpu", torch.bfloat16, enabled=enabled)
