"""A run from its objectives to the learned values: the loop, with its checkpoints and what the
user is told.

Knows: what happens before, between and after the steps.  Does not know: what happens in a step
(``loop``), what a learner moves or why, files of concepts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from prisbench.concepts.checkpoints import Keeper, resumed
from prisbench.concepts.cost import expected_cost, measured_cost
from prisbench.concepts.loop import Task, Training, computing, learned_values, steps
from prisbench.concepts.loss import Objective
from prisbench.concepts.parameters import Group
from prisbench.concepts.recipes import Loop
from prisbench.concepts.watch import Watch
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import UsageError
from prisbench.runtime.processes import share_of

MEASURED = 3
"""After so many steps the time the rest will take is said."""


def run(
    backbone: Backbone, task: Task, objectives: Sequence[Objective], groups: Sequence[Group], loop: Loop, watch: Watch
) -> dict[str, np.ndarray]:
    """The learned values by name, and ``losses``, one a step.  The parameters hold the last step's
    values then.

    Nothing but the groups' parameters moves.  Raises BackboneError when the loss stops being a
    number, WriteError when a checkpoint cannot be written, UsageError when the batches of a step
    cannot be shared evenly by the processes.
    """
    share = share_of(backbone.device)
    if loop.accumulate % share.size:
        raise UsageError(
            f"{share.size} processes share the batches of a step: learner.accumulate must be a multiple of it"
        )
    training = Training(backbone, task, objectives, groups, loop)
    state = resumed(training, watch)
    first = share.rank == 0  # of the processes, this one writes and reports
    if first:
        watch.say(expected_cost(training, state.step))
    start, keeper = time.monotonic(), Keeper(training, watch)
    with computing(training) as together:
        for n, loss in enumerate(steps(training, state, share, together), start=1):
            if not first:
                continue
            if watch.progress:
                watch.progress(state.step, loop.steps, loss)
            if n == MEASURED:
                seconds = (time.monotonic() - start) / MEASURED
                watch.say(measured_cost(seconds, loop.steps - state.step, backbone.device))
            keeper.after(state)
    return learned_values(training, state) | {"losses": np.asarray(state.losses, np.float32)}
