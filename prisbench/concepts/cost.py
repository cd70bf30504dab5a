"""What learning costs, in words: before anything was measured, and after the first steps.

Knows: numbers, seconds, memory.  Does not know: how learning goes.
"""

from __future__ import annotations

import math
import sys

import torch

from prisbench.concepts.loop import Training


def expected_cost(training: Training, first: int) -> str:
    """What learning from step ``first`` on will take."""
    loop, name = training.loop, training.task.name
    count = sum(parameter.numel() for parameter in training.moving.values())
    # float32: the values, their gradients, two moments, the average, and the frozen values where
    # they are the model's.
    held = 4 * count * (4 + bool(loop.average_last)) / 2**20
    pictures = loop.batch * loop.accumulate * len(training.objectives)
    begun = f", going on from step {first}" if first else ""
    return (
        f"{name} on {training.backbone.id}: {loop.steps} steps of {pictures} pictures{begun}; {count:,} numbers "
        f"learned, {max(1, math.ceil(held))} MB for them beside the network's own work"
    )


def measured_cost(seconds: float, left: int, device: torch.device) -> str:
    """What ``left`` steps of so many seconds will take, and the memory so far."""
    minutes, rest = divmod(round(seconds * left), 60)
    line = f"{seconds:.2f} s a step, {minutes}:{rest:02d} min to go"
    if device.type == "cuda":
        held = torch.cuda.max_memory_allocated(device) / 2**30
    elif sys.platform == "win32":
        return line
    else:
        import resource  # there is none on Windows

        # Kilobytes, but bytes on macOS.
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return f"{line}; {held:.1f} GB of memory at most so far"
