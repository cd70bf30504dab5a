"""Workers as actors of a Ray cluster, one a device; the extra ``ray``.

An actor calls the function that a local worker calls; what it makes are files below ``--out``, which every machine of
the cluster has to see in the same place.  Nothing but names and folders travels.

Knows: Ray's actors, how a death is noticed.  Does not know: what a unit does (``job``), who gets which (``schedule``).
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from prisbench.cluster.job import Carrier, Job
from prisbench.cluster.local import carried_out
from prisbench.cluster.schedule import Outcome, Unit
from prisbench.errors import MissingExtraError, UsageError


class Actor:
    """What runs on a device of the cluster."""

    def __init__(self, job: Job, device: str, argv: list[str]) -> None:
        sys.argv = argv  # a run records the command that made it, not that of Ray's worker
        self.carrier = Carrier(job, device)

    def carry_out(self, unit: tuple[str, str, int]) -> tuple[Any, Any]:
        return carried_out(self.carrier.carry_out, Unit(*unit))


class RayWorkers:
    """``count`` actors, None: one for each GPU of the cluster, or for each core where the device is no GPU.

    Raises MissingExtraError without Ray, UsageError where the cluster has no room for so many.
    """

    def __init__(self, job: Job, device: str, count: int | None = None) -> None:
        self.ray = _ray()
        self.started = not self.ray.is_initialized()
        if self.started:
            self.ray.init(include_dashboard=False, log_to_driver=True)
        self.job, self.device = job, device.split(":")[0]
        self.resource = "GPU" if self.device == "cuda" else "CPU"
        there = int(self.ray.cluster_resources().get(self.resource, 0))
        count = there if count is None else count
        if not 1 <= count <= there:
            self.close()
            raise UsageError(
                f"--workers {count}: the Ray cluster has {there} {self.resource}s, and each worker takes one; "
                "give fewer, add nodes, or choose another --device"
            )
        self.names = [f"actor {n + 1}" for n in range(count)]
        self._actors: dict[int, Any] = {}
        self._at: dict[Any, tuple[int, Unit]] = {}

    def give(self, worker: int, unit: Unit) -> None:
        if worker not in self._actors:
            wanted = {"num_cpus": 1, "num_gpus": int(self.resource == "GPU"), "max_restarts": 0, "max_task_retries": 0}
            self._actors[worker] = self.ray.remote(**wanted)(Actor).remote(self.job, self.device, sys.argv)
        self._at[self._actors[worker].carry_out.remote(tuple(unit))] = worker, unit

    def wait(self) -> Outcome:
        [ready], _ = self.ray.wait(list(self._at), num_returns=1)
        worker, unit = self._at.pop(ready)
        try:
            value, error = self.ray.get(ready)
        except self.ray.exceptions.RayError as lost:
            self._end(worker)
            return Outcome(worker, unit, died=" ".join(f"{type(lost).__name__}: {lost}".split())[:200])
        if isinstance(error, str):
            self._end(worker)
            return Outcome(worker, unit, died=error)
        return Outcome(worker, unit, value, error=error)

    def close(self) -> None:
        for worker in list(getattr(self, "_actors", ())):
            self._end(worker)
        if self.started:
            self.ray.shutdown()

    def _end(self, worker: int) -> None:
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(self._actors.pop(worker))


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingExtraError("ray", "ray", "--executor ray") from None
    return ray
