"""Teaching a network masks, and asking it for masks.

The schedule is the published one of DeepLab v2 (kazuto1011/deeplab-pytorch, ``configs/voc12.yaml``, ``main.py``,
``libs/datasets/base.py``, ``libs/utils/lr_scheduler.py``): 20,000 steps of 10 crops of 321 pixels, photos scaled by 0.5
to 1.5 and flipped, SGD whose rate falls by a power of 0.9, the classifiers learning 10 times (biases 20 times) as fast,
cross-entropy summed over all scales, void pixels left out.  Photos are scaled by Pillow, which does not alias when
shrinking, where the published code uses OpenCV's plain bilinear.

The crops of step n follow from (seed, n) alone, so neither workers, nor processes, nor interruptions change them.
A run is a folder: ``run.json`` (what was asked), ``state.safetensors`` (all that a resumed run needs, in one file),
``log.json`` (for people), and in the end ``network/``.  On a CPU a resumed run has the bits of one never interrupted; a
GPU's sums depend on their order, so there it has the same state but the last digits may part.

Knows: crops, the loss, the schedule, checkpoints, averaging over scales and flips.  Does not know: data sets, how masks
are stored or scored.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError, WriteError
from prisbench.localizer.refine import CrfParameters, dense_crf
from prisbench.runtime.files import read_json, replacing, sha256_bytes, sha256_json, write_json
from prisbench.runtime.locks import locked
from prisbench.wsss.deeplab import Borrowed, Network, save_network
from prisbench.wsss.labelling import in_order, worker_processes

FORMAT = 1
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPTIMIZERS = ("sgd", "adamw")

Out = TypeVar("Out")


class Sample(NamedTuple):
    """A photo and its labels, read when asked for: uint8 ``h w 3`` and uint8 ``h w`` (None where there are none).

    Both are called in threads, several at a time.
    """

    id: str
    load_image: Callable[[], np.ndarray]
    load_labels: Callable[[], np.ndarray | None]


@dataclass(frozen=True)
class TrainSettings:
    """Every number of a run.  The last three change nothing in its result and may differ when it is resumed.

    A step looks at ``batch`` crops, in ``accumulate`` parts to spare memory; with several GPUs each takes its share of
    the batch.  Rates: ``lr`` for what was pretrained, multiples of it for the head.  Every ``poly_every`` steps they
    are multiplied anew with (1 - step / steps) ** ``poly_power``.  Biases and normalisation do not decay.
    ``precision``: "float32", or autocast to "bfloat16" or "float16" (whose gradients are scaled).
    ``workers``: threads that read photos; 0 reads between the steps.
    """

    steps: int = 20_000
    batch: int = 10
    accumulate: int = 2
    crop_hw: tuple[int, int] = (321, 321)
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5)
    flip: bool = True
    optimizer: str = "sgd"
    lr: float = 2.5e-4
    head_weight_lr: float = 10.0
    head_bias_lr: float = 20.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    poly_power: float = 0.9
    poly_every: int = 10
    ignore: int = 255
    seed: int = 0
    precision: str = "float32"
    log_every: int = field(default=50, metadata={"free": True})
    checkpoint_seconds: float = field(default=300.0, metadata={"free": True})
    workers: int = field(default=4, metadata={"free": True})

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError("optimizer", self.optimizer, OPTIMIZERS)
        counts = (self.steps, self.batch, self.accumulate, *self.crop_hw, self.poly_every, self.log_every)
        if min(counts) < 1 or not self.scales or min(self.scales) <= 0 or self.lr <= 0 or self.workers < 0:
            raise UsageError(f"no training is possible with {self}")
        if self.batch % self.accumulate:
            raise UsageError(f"a batch of {self.batch} cannot be taken in {self.accumulate} equal parts")

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON has them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {f.name: values[f.name] for f in fields(self) if not f.metadata.get("free")}


PRESETS = {
    "voc12": TrainSettings(),
    "coco14": TrainSettings(steps=100_000),
    "laptop": TrainSettings(
        steps=1500,
        batch=8,
        accumulate=1,
        crop_hw=(96, 112),
        optimizer="adamw",
        lr=1e-3,
        head_weight_lr=1.0,
        head_bias_lr=2.0,
    ),
}
"""The first is published.  For COCO 2014 no schedule of the paper could be read; 100,000 steps is what the same
repository trains COCO-Stuff with (``configs/cocostuff164k.yaml``).  The last starts from random weights, where the head
need not run ahead of the rest and SGD takes far longer to leave "all is background": after 200 steps on 100 Tabletop
scenes, mIoU was 0.08 on other scenes, with AdamW 0.21."""


# ---------------------------------------------------------------------------------------------------------------------
# crops


class Crop(NamedTuple):
    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"]


class Batch(NamedTuple):
    images: UInt8[Tensor, "b 3 h w"]
    labels: UInt8[Tensor, "b h w"]


@lru_cache(maxsize=4)
def _order(samples: int, seed: int, epoch: int) -> list[int]:
    return [int(i) for i in np.random.default_rng([seed, 0, epoch]).permutation(samples)]


def sample_at(position: int, samples: int, seed: int) -> int:
    """Which sample the n-th crop of a run is from: each once before any comes again, in an order of its own."""
    return _order(samples, seed, position // samples)[position % samples]


def training_crop(
    sample: Sample, settings: TrainSettings, position: int, classes: int, fill: tuple[int, int, int]
) -> Crop:
    """The n-th crop of a run: ``settings.crop_hw`` pixels of the sample, scaled, padded, cut out and flipped by chance.

    A photo too small is padded below and to the right, with ``fill`` (R, G, B) and void.  Raises DataError, naming the
    sample, when it has no labels, labels of another size than the photo, or labels outside the classes.
    """
    image, labels = sample.load_image(), sample.load_labels()
    if labels is None:
        raise DataError(f"{sample.id} has no labels to learn from")
    if labels.shape != image.shape[:2]:
        sizes = f"{labels.shape[1]} x {labels.shape[0]}, not {image.shape[1]} x {image.shape[0]} as its photo"
        raise DataError(f"{sample.id}: the labels are {sizes}")
    strange = labels[(labels >= classes) & (labels != settings.ignore)]
    if strange.size:
        raise DataError(
            f"{sample.id}: label {int(strange[0])} on {strange.size} pixels; "
            f"the classes are 0 to {classes - 1}, void is {settings.ignore}"
        )
    rng = np.random.default_rng([settings.seed, 1, position])
    scale = settings.scales[int(rng.integers(len(settings.scales)))]
    h, w = (max(1, int(n * scale)) for n in labels.shape)
    if scale != 1:
        image = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
        labels = np.asarray(Image.fromarray(labels).resize((w, h), Image.Resampling.NEAREST))
    crop_h, crop_w = settings.crop_hw
    top, left = (int(rng.integers(max(n - crop, 0) + 1)) for n, crop in ((h, crop_h), (w, crop_w)))
    window = slice(top, top + crop_h), slice(left, left + crop_w)
    seen_h, seen_w = labels[window].shape
    pixels = np.empty((crop_h, crop_w, 3), np.uint8)
    pixels[:] = fill
    pixels[:seen_h, :seen_w] = image[window]
    truth = np.full((crop_h, crop_w), settings.ignore, np.uint8)
    truth[:seen_h, :seen_w] = labels[window]
    if rng.random() < 0.5 and settings.flip:
        pixels, truth = pixels[:, ::-1].copy(), truth[:, ::-1].copy()
    return Crop(pixels, truth)


def batches(
    network: Network, samples: Sequence[Sample], settings: TrainSettings, start: int = 0, rank: int = 0, world: int = 1
) -> Generator[Batch, None, None]:
    """This process's share of step ``start`` and of all after it, read ahead by ``settings.workers`` threads.

    Close the generator to end the threads.  Raises DataError as ``training_crop``, at the step the sample is part of.
    """
    share = settings.batch // world
    fill = _mean_colour(network)

    def crop(position: int) -> Crop:
        sample = samples[sample_at(position, len(samples), settings.seed)]
        return training_crop(sample, settings, position, len(network.classes), fill)

    mine = (step * settings.batch + rank * share + i for step in count(start) for i in range(share))
    with _threads(settings.workers) as pool:
        crops = in_order(pool, crop, ((position,) for position in mine), ahead=2 * share + settings.workers)
        while True:
            part = list(islice(crops, share))
            images = torch.from_numpy(np.stack([crop.image for crop in part]))
            yield Batch(images.permute(0, 3, 1, 2), torch.from_numpy(np.stack([crop.labels for crop in part])))


def _mean_colour(network: Network) -> tuple[int, int, int]:
    r, g, b = (round(255 * value) for value in network.colours.mean)
    return r, g, b


@contextlib.contextmanager
def _threads(workers: int) -> Iterator[Executor | None]:
    """A pool that, when left, drops what it has not begun; None without workers."""
    pool = ThreadPoolExecutor(workers) if workers else None
    try:
        yield pool
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


# ---------------------------------------------------------------------------------------------------------------------
# loss and schedule


def loss_of(outputs: list[Tensor], labels: Int[Tensor, "b h w"] | UInt8[Tensor, "b h w"], ignore: int) -> Tensor:
    """Cross-entropy of each output with the labels at its size, each a mean over pixels that are not void, summed.

    Labels are made smaller by taking the nearest pixel, as published.  An output that only meets void adds nothing.
    """
    return torch.stack([_cross_entropy(logits, labels, ignore) for logits in outputs]).sum()


def _cross_entropy(logits: Tensor, labels: Tensor, ignore: int) -> Tensor:
    h, w = logits.shape[-2:]
    small = labels[:, _nearest(labels.shape[1], h, labels.device)][:, :, _nearest(labels.shape[2], w, labels.device)]
    total = F.cross_entropy(logits.float(), small.long(), ignore_index=ignore, reduction="sum")
    # Pseudo masks leave whole crops void.  Their sum is 0, and 0 / 1 is what they should add; a mean would be NaN.
    return total / (small != ignore).sum().clamp(min=1)


def _nearest(size: int, wanted: int, device: torch.device) -> Tensor:
    """For each of ``wanted`` cells the pixel under its middle."""
    return ((torch.arange(wanted, device=device) * 2 + 1) * size) // (2 * wanted)


def rate_at(step: int, settings: TrainSettings) -> float:
    """What all learning rates are multiplied with at a step."""
    held = step // settings.poly_every * settings.poly_every
    return float((1 - held / settings.steps) ** settings.poly_power)


def parameter_groups(network: Network, settings: TrainSettings) -> list[dict[str, Any]]:
    """What learns, by how fast it learns and whether it decays."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            bias = name.endswith("bias")
            factor = (settings.head_bias_lr if bias else settings.head_weight_lr) if network.is_head(name) else 1.0
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "lr": factor * settings.lr, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


def _optimizer(network: Network, settings: TrainSettings) -> torch.optim.Optimizer:
    groups = parameter_groups(network, settings)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


# ---------------------------------------------------------------------------------------------------------------------
# what it will take


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


def cost(network: Network, settings: TrainSettings, device: str = "cpu") -> Cost:
    """Time two steps' forward and backward passes on grey crops, the first to warm up.  The network stays as it is.

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
            with _autocast(place, settings.precision):
                outputs = network(images.to(place))
            loss = loss_of(outputs, labels.to(place), settings.ignore)
            loss.backward()
            loss.item()  # waits for the GPU
            seconds = time.monotonic() - began
    network.zero_grad(set_to_none=True)
    _put_back(network, before)
    step = seconds * settings.accumulate
    return Cost(step, step * settings.steps, torch.cuda.max_memory_allocated(place) if cuda else None)


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    dtype = PRECISIONS[precision]
    on = dtype is not torch.float32
    return torch.autocast(device.type, dtype if on else torch.bfloat16, enabled=on)


def _put_back(network: nn.Module, buffers: list[Tensor]) -> None:
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(value)


# ---------------------------------------------------------------------------------------------------------------------
# training


class Progress(NamedTuple):
    """After a step: its number, how many there are, its loss, mean seconds per step, share of them spent waiting."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    waiting_share: float


class Trained(NamedTuple):
    """The run's folder, its network, its seconds, and the share of them in which the network waited for photos."""

    folder: Path
    network: Path
    seconds: float
    waiting_share: float


class _Place(NamedTuple):
    """Where this process trains, and what it shares with others."""

    device: torch.device
    rank: int
    world: int
    network: nn.Module
    apart: Callable[[], contextlib.AbstractContextManager[Any]]
    """In this context gradients are not yet exchanged."""
    finish: Callable[[], None]


def train(
    network: Network,
    samples: Sequence[Sample],
    out: str | os.PathLike[str],
    settings: TrainSettings,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Trained:
    """Train ``network`` into the folder ``out``, going on where a run with the same arguments stopped.

    ``network`` is as it was at the run's beginning; afterwards it holds the trained weights.  Any exception, Ctrl-C
    too, leaves a state to go on from.  Started by ``accelerate launch`` or ``torchrun``, every process takes its share
    of each batch; the first writes and reports.  Normalisation that learns does so from a process's own share.

    Raises DataError when ``out`` holds another run or a damaged one or a sample cannot be learned from, BackboneError
    when the loss stops being a number, UsageError for a batch that cannot be shared, WriteError.
    """
    if not samples:
        raise DataError("there is nothing to train on: the list of samples is empty")
    out = Path(out)
    asked = _asked(network, samples, settings)
    place = _place(network, torch.device(device), settings)
    with locked(out) if place.rank == 0 else contextlib.nullcontext():
        if place.rank == 0:
            _claim(out, asked)
        run = _Run(network, settings, out, place)
        run.load()
        cuda = [place.device] if place.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            _loop(run, samples, progress)
        place.finish()
    return Trained(out, out / "network", run.seconds, run.waiting / run.seconds)


def _place(network: Network, device: torch.device, settings: TrainSettings) -> _Place:
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if settings.batch % (world * settings.accumulate):
        raise UsageError(
            f"a batch of {settings.batch} cannot be shared by {world} processes in {settings.accumulate} parts each; "
            f"choose a multiple of {world * settings.accumulate}, or fewer parts"
        )
    if world == 1:
        return _Place(device, 0, 1, network.to(device), contextlib.nullcontext, lambda: None)
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
    return _Place(accelerator.device, accelerator.process_index, world, wrapped, apart, finish)


def _asked(network: Network, samples: Sequence[Sample], settings: TrainSettings) -> dict[str, Any]:
    """All that decides a run's result, as JSON has it."""
    start = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    return {
        "format": FORMAT,
        "settings": settings.identity(),
        "network": json.loads(json.dumps(network.describe())),
        "weights_at_start": sha256_bytes(save(start)),
        "samples": {"number": len(samples), "sha256": sha256_json([sample.id for sample in samples])},
    }


def _claim(out: Path, asked: dict[str, Any]) -> None:
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


class _Run:
    """A run between steps, in memory and on disk."""

    def __init__(self, network: Network, settings: TrainSettings, out: Path, place: _Place) -> None:
        self.network, self.settings, self.out, self.place = network, settings, out, place
        self.optimizer = _optimizer(network, settings)
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
        """Write everything into one file, then the log for people.  Only the first process does."""
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


def _loop(run: _Run, samples: Sequence[Sample], progress: Callable[[Progress], None] | None) -> None:
    settings, place = run.settings, run.place
    if run.step < settings.steps:
        run.network.train()
        source = batches(run.network, samples, settings, run.step, place.rank, place.world)
        with contextlib.closing(source):
            _steps(run, source, progress)
    if place.rank == 0 and not (run.out / "network" / "network.json").is_file():
        save_network(run.network, run.out / "network")


def _steps(run: _Run, source: Iterator[Batch], progress: Callable[[Progress], None] | None) -> None:
    """All remaining steps, with a state on disk every so many seconds, at the end, and when anything is raised.

    Running statistics change before a step is done: when it is broken off they go back to where they were.  Only in
    the midst of an update, or when the loss is no number, is nothing written, and the state before stands.
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


def _gradients(run: _Run, batch: Batch) -> float:
    """Leave the gradients of a step in the parameters; returns this process's loss."""
    settings, place, total = run.settings, run.place, 0.0
    parts = settings.accumulate
    pairs = zip(batch.images.chunk(parts), batch.labels.chunk(parts), strict=True)
    for i, (images, labels) in enumerate(pairs):
        with place.apart() if i < parts - 1 else contextlib.nullcontext():
            with _autocast(place.device, settings.precision):
                outputs = place.network(images.to(place.device))
            loss = loss_of(outputs, labels.to(place.device), settings.ignore) / parts
            run.scaler.scale(loss).backward()
        total += loss.item()
    return total


def _dropout_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, 2, step, rank]).generate_state(1, np.uint64)[0] >> 1)


# ---------------------------------------------------------------------------------------------------------------------
# predicting


@dataclass(frozen=True)
class PredictSettings:
    """How a network is asked.  The defaults are the published test: the photo as it is, then (``crf``) the dense CRF.

    ``scales`` and ``flip``: class probabilities are averaged over the photo at these sizes, each also mirrored.  Other
    work on masks from image labels mostly averages over 0.5, 0.75, 1, 1.25, 1.5 with flips: name it when comparing.
    ``workers``: threads that read photos, and processes that run the CRF; 0 does both in between.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: CrfParameters | None = None
    precision: str = "float32"
    workers: int = 2

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        if not self.scales or min(self.scales) <= 0 or self.workers < 0:
            raise UsageError(f"no prediction is possible with {self}")


class Predicted(NamedTuple):
    """Labels of a photo at its own size, and what they were before the CRF (the same without one)."""

    id: str
    labels: UInt8[np.ndarray, "h w"]
    labels_before_crf: UInt8[np.ndarray, "h w"]


def predict(
    network: Network,
    samples: Iterable[Sample],
    settings: PredictSettings,
    device: str = "cpu",
    done: Callable[[str], bool] = lambda _: False,
) -> Iterator[Predicted]:
    """Labels of each sample for which ``done(id)`` is not yet true, in their order; a few at a time are in memory.

    Only photos are read.  Raises MissingExtraError for a CRF that is not installed, before anything is computed.
    """
    network.to(torch.device(device)).eval()
    crf = settings.crf
    if crf is not None:
        dense_crf(np.zeros((2, 3, 3), np.uint8), np.full((2, 2, 3), 0.5, np.float32), crf)
    wanted = ((sample,) for sample in samples if not done(sample.id))
    seen = deque[tuple[str, UInt8[np.ndarray, "h w"]]]()

    def fields_of(photos: Iterator[tuple[str, np.ndarray]]) -> Iterator[tuple[Any, ...]]:
        for name, image in photos:
            probabilities = class_probabilities(network, image, settings)
            seen.append((name, probabilities.argmax(axis=0).astype(np.uint8)))
            yield image, probabilities, crf

    with _threads(settings.workers) as readers, worker_processes(settings.workers if crf else 0) as pool:
        asked = fields_of(in_order(readers, _photo, wanted, ahead=2 * settings.workers))
        for refined in in_order(pool, dense_crf if crf else _unrefined, asked, ahead=2 * settings.workers):
            name, before = seen.popleft()
            yield Predicted(name, refined.argmax(axis=0).astype(np.uint8), before)


def class_probabilities(
    network: Network, image: UInt8[np.ndarray, "h w 3"], settings: PredictSettings
) -> Float[np.ndarray, "c h w"]:
    """Softmax at the photo's size, averaged over scales and flips; each pixel's sum to 1."""
    h, w = image.shape[:2]
    device = next(network.parameters()).device
    whole = torch.tensor(np.ascontiguousarray(image), device=device).permute(2, 0, 1)[None].float()
    total = torch.zeros((len(network.classes), h, w), device=device)
    with torch.inference_mode():
        for scale in settings.scales:
            size = max(1, int(h * scale)), max(1, int(w * scale))
            x = whole if scale == 1 else F.interpolate(whole, size=size, mode="bilinear", align_corners=False)
            if settings.flip:
                x = torch.cat([x, x.flip(-1)])
            with _autocast(device, settings.precision):
                logits = network(x)[-1]
            softmax = F.interpolate(logits.float(), size=(h, w), mode="bilinear", align_corners=False).softmax(dim=1)
            total += softmax[0]
            if settings.flip:
                total += softmax[1].flip(-1)
        total /= len(settings.scales) * (2 if settings.flip else 1)
    return total.cpu().numpy()


def _photo(sample: Sample) -> tuple[str, np.ndarray]:
    return sample.id, sample.load_image()


def _unrefined(image: np.ndarray, probabilities: np.ndarray, crf: None) -> np.ndarray:
    return probabilities
