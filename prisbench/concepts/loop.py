"""The loop that all learners share, as a generator: each ``next`` is one step, and its caller
logs, saves or stops.

All chance in step n is drawn from a hash of the concept's key and n.  So a run that was stopped at
any moment, however it was stopped, goes on from its last checkpoint as if nothing had been, bit
for bit; and several processes, which share the batches of a step, draw what one would.

Knows: the schedule, the optimizer, the average of the last steps.  Does not know: files, what the
user is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prisbench.concepts.loss import Objective, Setup, add_gradients, chance
from prisbench.concepts.parameters import Group
from prisbench.concepts.recipes import Loop
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import BackboneError
from prisbench.runtime.devices import Together, side_by_side
from prisbench.runtime.processes import Share, sum_up
from prisbench.speed.eager import eager_attention
from prisbench.speed.lean import lean
from prisbench.speed.rounding import frozen_in_bfloat16


class Task(NamedTuple):
    """Which concept is learned.

    ``key`` is its id; ``versionless`` what that would be without the recipe's version, by which a
    checkpoint of another version is known; ``name`` says it to the user.
    """

    key: str
    versionless: str
    version: int
    name: str


@dataclass(eq=False)
class State:
    """Where a run is: all that a checkpoint holds beside the parameters and the optimizer's
    moments.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    total: dict[str, Tensor] = field(default_factory=dict)
    """Sums of the values of those steps that are averaged."""


@dataclass(frozen=True, eq=False)
class Training:
    """What is learned: the objectives, the groups of parameters that move, and the recipe's
    numbers.
    """

    backbone: Backbone
    task: Task
    objectives: Sequence[Objective]
    groups: Sequence[Group]
    loop: Loop

    @cached_property
    def moving(self) -> dict[str, Tensor]:
        return {name: parameter for group in self.groups for name, parameter in group.parameters.items()}

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        groups = [{"params": list(group.parameters.values()), "lr": group.learning_rate} for group in self.groups]
        return torch.optim.AdamW(groups, weight_decay=self.loop.weight_decay)

    @property
    def averaged_from(self) -> float:
        """The first step whose values are averaged."""
        return self.loop.steps * (1 - self.loop.average_last)


def steps(training: Training, state: State, share: Share, together: Together) -> Iterator[float]:
    """Carry out what is left of the run, step by step; gives each step's loss, ``state`` being up
    to date then.

    Call it within ``computing``, which gives ``together``.  Raises BackboneError when the loss
    stops being a number.
    """
    loop, optimizer, parameters = training.loop, training.optimizer, list(training.moving.values())
    setup = Setup(training.backbone, loop, parameters, together)
    for step in range(state.step, loop.steps):
        for param_group, group in zip(optimizer.param_groups, training.groups, strict=True):
            param_group["lr"] = group.learning_rate * min(1.0, (step + 1) / (loop.warmup + 1))
        optimizer.zero_grad()
        loss = _accumulated(training, setup, step, share)
        if not torch.isfinite(loss):
            raise BackboneError(f"{training.task.name} diverged at step {step}: the loss is {loss.item()}")
        if loop.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, loop.clip)
        optimizer.step()
        state.step = step + 1
        state.losses.append(loss.item())
        if loop.average_last and step >= training.averaged_from:
            for name, parameter in training.moving.items():
                known = state.total.get(name)
                state.total[name] = parameter.detach().clone() if known is None else known + parameter.detach()
        yield state.losses[-1]


def _accumulated(training: Training, setup: Setup, step: int, share: Share) -> Tensor:
    """The loss of a step's batches, of all processes; the gradients are in the parameters."""
    loop = training.loop
    loss = torch.zeros((), device=training.backbone.device)
    for part in range(share.rank, loop.accumulate, share.size):
        draw = chance(training.task.key, step, part)
        for objective in training.objectives:
            loss += add_gradients(setup, objective, draw, objective.weight / loop.accumulate)
    if share.size > 1:
        sum_up(loss, setup.moving)
    return loss


def learned_values(training: Training, state: State) -> dict[str, np.ndarray]:
    """The values of what moved, the mean of the last steps where the recipe wants it.

    Raises BackboneError when one is no longer a number.
    """
    count = sum(step >= training.averaged_from for step in range(training.loop.steps)) if state.total else 0
    moving = training.moving.items()
    values = {name: state.total[name] / count if count else parameter.detach() for name, parameter in moving}
    for name, value in values.items():
        if not torch.isfinite(value).all():
            raise BackboneError(f"{training.task.name} diverged: {name} is no longer a number")
    return {name: value.float().cpu().numpy().copy() for name, value in values.items()}


@contextmanager
def computing(training: Training) -> Iterator[Together]:
    """The model as it computes fastest under the recipe; afterwards it is as it was.  Gives a way
    to call two things side by side.
    """
    backbone, half = training.backbone, bool(training.loop.bfloat16)
    with (
        _recomputing(backbone, training.loop.checkpointing),
        eager_attention(backbone) if half else nullcontext(),  # in float32 the fused one is as fast and keeps less
        frozen_in_bfloat16(backbone, training.moving.values(), half),
        lean(backbone.unet),
        side_by_side(backbone.device.type) as together,
    ):
        yield together


@contextmanager
def _recomputing(backbone: Backbone, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing for as long as the body runs."""
    if not wanted:
        yield
        return
    backbone.unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        backbone.unet.disable_gradient_checkpointing()
