"""Training a network on masks.

On a CPU a resumed run has the bits of one never interrupted.  A GPU's sums depend on their order,
so there it has the same state but the last digits may part.

Knows: the loop over steps, what it will take.  Does not know: how crops are drawn (``crops``),
rates and the loss (``schedule``), what a state holds (``train_run``), how masks are stored or
scored.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prisbench.errors import BackboneError, DataError, WriteError
from prisbench.runtime.locks import locked
from prisbench.wsss.crops import Batch, batches
from prisbench.wsss.networks import Network, save_network
from prisbench.wsss.samples import Sample
from prisbench.wsss.schedule import TrainSettings, autocast, loss_of, rate_at
from prisbench.wsss.train_run import Run, claim_run, identity, place_of


def train(
    network: Network,
    samples: Sequence[Sample],
    out: str | os.PathLike[str],
    settings: TrainSettings,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train ``network`` into the folder ``out``, going on where a run with the same arguments
    stopped.

    ``network`` is as it was at the run's beginning; afterwards it holds the trained weights.  Any
    exception, Ctrl-C too, leaves a state to go on from.  Started by ``accelerate launch`` or
    ``torchrun``, every process takes its share of each batch; the first writes and reports.
    Normalisation that learns does so from a process's own share.

    Raises DataError when ``out`` holds another run or a damaged one or a sample cannot be learned
    from, BackboneError when the loss stops being a number, UsageError for a batch that cannot be
    shared, WriteError.
    """
    if not samples:
        raise DataError("there is nothing to train on: the list of samples is empty")
    out = Path(out)
    record = identity(network, samples, settings)
    place = place_of(network, torch.device(device), settings)
    with locked(out) if place.rank == 0 else contextlib.nullcontext():
        if place.rank == 0:
            claim_run(out, record)
        run = Run(network, settings, out, place)
        run.load()
        cuda = [place.device] if place.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            _loop(run, samples, progress)
        place.finish()
    return Trained(out, out / "network", run.seconds, run.waiting / run.seconds)


class Progress(NamedTuple):
    """After a step: its number, how many there are, its loss, mean
    seconds per step, share of them spent waiting.
    """

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    waiting_share: float


class Trained(NamedTuple):
    """The run's folder, its network, its seconds, and the share of
    them in which the network waited for photos.
    """

    folder: Path
    network: Path
    seconds: float
    waiting_share: float


def _loop(run: Run, samples: Sequence[Sample], progress: Callable[[Progress], None] | None) -> None:
    settings, place = run.settings, run.place
    if run.step < settings.steps:
        run.network.train()
        source = batches(run.network, samples, settings, run.step, place.rank, place.world)
        with contextlib.closing(source):
            _steps(run, source, progress)
    if place.rank == 0 and not (run.out / "network" / "network.json").is_file():
        save_network(run.network, run.out / "network")


def _steps(run: Run, source: Iterator[Batch], progress: Callable[[Progress], None] | None) -> None:
    """All remaining steps, with a state on disk every so many seconds, at the end, and when
    anything is raised.

    Running statistics change before a step is done: when it is broken off they go back to where
    they were.  Only in the midst of an update, or when the loss is no number, is nothing written,
    and the state before stands.
    """
    settings = run.settings
    saved = time.monotonic()
    sound, statistics = True, [buffer.clone() for buffer in run.network.buffers()]
    try:
        while run.step < settings.steps:
            began = time.monotonic()
            batch = next(source)
            waited = time.monotonic() - began
            torch.manual_seed(_dropout_seed(settings.seed, run.step, run.place.rank))
            loss = _gradients(run, batch)
            sound = False
            if not np.isfinite(loss):
                raise BackboneError(f"the loss is {loss} at step {run.step + 1}; lower the learning rate")
            for group in run.optimizer.param_groups:
                group["lr"] = group["factor"] * settings.lr * rate_at(run.step, settings)
            run.scaler.step(run.optimizer)
            run.scaler.update()
            run.optimizer.zero_grad(set_to_none=True)
            now = time.monotonic()
            run.note(loss, now - began, waited)
            statistics = [buffer.clone() for buffer in run.network.buffers()]
            sound = True
            if progress and run.place.rank == 0:
                shares = run.seconds / run.step, run.waiting / run.seconds
                progress(Progress(run.step, settings.steps, loss, *shares))
            if now - saved > settings.checkpoint_seconds:
                run.save()
                saved = now
    except WriteError:
        raise
    except BaseException:
        if sound:
            _put_back(run.network, statistics)
            run.save()
        raise
    finally:
        run.optimizer.zero_grad(set_to_none=True)
    run.save()


def _gradients(run: Run, batch: Batch) -> float:
    """Leave the gradients of a step in the parameters; returns this process's loss."""
    settings, place, total = run.settings, run.place, 0.0
    parts = settings.accumulate
    pairs = zip(batch.images.chunk(parts), batch.labels.chunk(parts), strict=True)
    for i, (images, labels) in enumerate(pairs):
        with place.apart() if i < parts - 1 else contextlib.nullcontext():
            with autocast(place.device, settings.precision):
                outputs = place.network(images.to(place.device))
            loss = loss_of(outputs, labels.to(place.device), settings.ignore) / parts
            run.scaler.scale(loss).backward()
        total += loss.item()
    return total


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, 2, step, rank]).generate_state(1, np.uint64)[0] >> 1)


class Cost(NamedTuple):
    """Measured seconds of a step and, on a GPU, the bytes it took; seconds of all steps."""

    seconds_per_step: float
    seconds: float
    gpu_bytes: int | None

    def line(self, settings: TrainSettings) -> str:
        memory = f", {self.gpu_bytes / 1e9:.1f} GB of GPU memory" if self.gpu_bytes else ""
        length = f"{self.seconds / 3600:.1f} hours" if self.seconds > 5400 else f"{self.seconds / 60:.1f} minutes"
        return (
            f"training: {settings.steps} steps of {settings.batch} crops of {settings.crop_hw[1]} x "
            f"{settings.crop_hw[0]}, about {self.seconds_per_step:.2f} s each{memory}: {length} in all; "
            "interrupt it at will, the same command goes on"
        )


def is_first() -> bool:
    """Whether this process is the one that writes and reports."""
    return os.environ.get("RANK", "0") == "0"


def cost_of_rest(network: Network, settings: TrainSettings, out: Path, device: str = "cpu") -> Cost | None:
    """``cost``, where there is something left to train and this
    process is the one to say so; else None.
    """
    if is_first() and not (out / "network" / "network.json").is_file():
        return cost(network, settings, device)
    return None


def cost(network: Network, settings: TrainSettings, device: str = "cpu") -> Cost:
    """Time two steps' forward and backward passes on grey crops, the first to warm up.  The
    network stays as it is.

    With ``accumulate``, one part is timed and multiplied.
    """
    place = torch.device(device)
    network.to(place).train()
    before = [buffer.clone() for buffer in network.buffers()]
    images = torch.full((settings.batch // settings.accumulate, 3, *settings.crop_hw), 128, dtype=torch.uint8)
    labels = torch.zeros((len(images), *settings.crop_hw), dtype=torch.uint8)
    seconds, cuda = 0.0, place.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(place)
    with torch.random.fork_rng(devices=[place] if cuda else []):
        for _ in range(2):
            began = time.monotonic()
            with autocast(place, settings.precision):
                outputs = network(images.to(place))
            loss = loss_of(outputs, labels.to(place), settings.ignore)
            loss.backward()
            loss.item()  # waits for the GPU
            seconds = time.monotonic() - began
    network.zero_grad(set_to_none=True)
    _put_back(network, before)
    step = seconds * settings.accumulate
    return Cost(step, step * settings.steps, torch.cuda.max_memory_allocated(place) if cuda else None)


def _put_back(network: nn.Module, buffers: list[Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(value)
