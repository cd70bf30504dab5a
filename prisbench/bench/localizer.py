"""How fast the localizer is, and how much memory it takes, beside the published procedure, in one process.

``reference_maps`` is the published procedure ("From Text to Mask", arXiv 2309.04109; ``scripts/SD_seg.py`` and
``ldm/modules/attention.py`` of its release) written plainly: what it computes is computed, needed or not.  ``our_maps``
is the code that users run.  Both get the same latents, noises and text, so their maps can be compared, too.

Knows: how to time, how to read the peak memory of a process on Linux, what the published procedure wastes.
Does not know: images and truth.  Encoding photo and text is left out: both sides need it once, and alike.

Where the release does more than the reference: a second U-Net pass a noise, whose result is dropped, is not made; the
mean over heads is taken at once, not at the end of the block; of each noise nothing but its map is kept.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import importlib
import itertools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.concepts.controls import noun_only
from prisbench.diffusion.architectures import ARCHITECTURES
from prisbench.diffusion.attention import transformer_blocks
from prisbench.diffusion.backbone import Backbone, Conditioning, load_backbone, noise
from prisbench.errors import PrisbenchError, UnknownNameError, UsageError
from prisbench.localizer.answer import locate
from prisbench.localizer.attend import Reading, attend, span_columns
from prisbench.localizer.maps import self_cross
from prisbench.localizer.presets import preset
from prisbench.localizer.settings import LocalizerSettings
from prisbench.results import current_environment
from prisbench.runtime.devices import freed_memory_given_back, keep_freed_memory
from prisbench.speed.lean import in_place
from prisbench.tabletop import scenes as tabletop
from prisbench.types import Query, Subject

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

TEXT_LENGTH = 77
"""Tokens of a prompt, as CLIP reads them."""

SPAN = (4, 5)
"""Positions of the subject's words in "a photo including ...", two tokens long."""

SD15_PARAMETERS = 1_066_000_000
"""U-Net, autoencoder and text encoder of Stable Diffusion 1.x: what must fit before anything can be measured."""

SHARPENED = 3.0
"""Queries and keys of random weights are multiplied by this.  As they come, attention is nearly even, a map's peaks
stand a few millionths above the rest, and scaling it to 0..1 would show rounding instead of differences."""

CHILD_BYTES = 800_000_000
"""What a fresh process holds before it loads weights: torch and its libraries, rounded up."""

PROC = Path("/proc")


@dataclass(frozen=True)
class Comparison:
    """What is measured.

    ``backbone``: "sd15-random", "embedded", or a pipeline's folder.  ``size``: pixels of a square image; None is the
    backbone's own size.  ``samples``: noises a side.  ``dtype``: a name of DTYPES, for both sides.  ``compile``:
    torch.compile on our side, where no hook looks.  ``memory_size``: measure memory at this size instead, in a process
    for each side.  ``preset``: answers a scene's queries, where the backbone knows Tabletop.
    """

    backbone: str = "sd15-random"
    size: int | None = None
    samples: int = 2
    repeats: int = 1
    dtype: str = "fp32"
    compile: bool = False
    memory_size: int | None = None
    preset: str = "fast"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownNameError("dtype", self.dtype, DTYPES)
        for name in ("samples", "repeats"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} makes no sense; give 1 or more")


@dataclass(frozen=True, eq=False)
class Job:
    """What both sides are given; ``text`` and ``unconditional`` have one row.

    ``spans``: the positions of each class's tokens.  ``settings`` are the paper's.
    """

    unet: nn.Module
    alphas_cumprod: Float[Tensor, "steps"]
    latents: Float[Tensor, "1 c h w"]
    eps: Float[Tensor, "k c h w"]
    text: Conditioning
    unconditional: Conditioning
    spans: tuple[tuple[int, ...], ...]
    settings: LocalizerSettings


def make_job(backbone: Backbone, size_hw: tuple[int, int], samples: int) -> Job:
    """The published procedure's numbers on drawn latents and embeddings: no second depends on what is in them."""
    config: Any = backbone.unet.config
    h, w = (side // backbone.vae_factor for side in size_hw)
    latents = (config["in_channels"], h, w)

    def drawn(name: str, n: int, shape: tuple[int, ...]) -> Tensor:
        rows = torch.stack([noise(f"bench {name}", i, shape) for i in range(n)])
        return rows.to(backbone.device, backbone.dtype)

    def words(name: str) -> Conditioning:
        states = drawn(name, 1, (TEXT_LENGTH, config["cross_attention_dim"]))
        if backbone.text_encoder_2 is None:
            return Conditioning(states, None)
        pooled = drawn(f"{name}, pooled", 1, (backbone.text_encoder_2.config.projection_dim,))
        sizes = torch.tensor([[*size_hw, 0, 0, *size_hw]], dtype=torch.float32, device=backbone.device)
        return Conditioning(states, {"text_embeds": pooled, "time_ids": sizes})

    return Job(
        unet=backbone.unet,
        alphas_cumprod=backbone.alphas_cumprod,
        latents=drawn("latents", 1, latents),
        eps=drawn("noise", samples, latents),
        text=words("text"),
        unconditional=words("unconditional"),
        spans=(SPAN,),
        settings=dataclasses.replace(preset("paper", backbone.family), samples=samples),
    )


# --- the two sides --------------------------------------------------------------------------------------------------


@torch.no_grad()
def our_maps(job: Job) -> Float[Tensor, "classes h w"]:
    """The maps by the code that users run."""
    settings = job.settings
    reading = Reading(
        job.unet,
        job.alphas_cumprod,
        job.latents,
        job.eps,
        torch.full((len(job.eps),), settings.timesteps[0]),
        job.text,
        span_columns(job.spans, job.text.states.shape[1]),
        settings.cross,
        [settings.self_block],
    )
    return self_cross(attend(reading), settings).score


@torch.no_grad()
def reference_maps(job: Job) -> Float[Tensor, "classes h w"]:
    """The maps by the published procedure, step by step.

    Noises one by one; both guidance halves; the whole U-Net; every attention matrix of every block, squared where it is
    self-attention.  Reads of the settings: the first timestep, ``cross`` (evenly), ``self_block``, ``theta``.
    """
    settings, blocks = job.settings, transformer_blocks(job.unet)
    h, w = job.latents.shape[-2:]
    grids = {name: (math.ceil(h / block.stride), math.ceil(w / block.stride)) for name, block in blocks.items()}
    grid = grids[settings.self_block]
    step = settings.timesteps[0]
    signal = job.alphas_cumprod[step].to(job.latents)

    of_noises = []
    for eps in job.eps.to(job.latents):
        noisy = signal.sqrt() * job.latents + (1 - signal).sqrt() * eps
        with dense_attention(job.unet) as kept:
            _predict(job, torch.cat([noisy, noisy]), [job.unconditional, job.text])
        conditional = {place: matrices[1].float() for place, matrices in kept.items() if _is_read(place, settings)}
        del kept
        squared = conditional[settings.self_block, "attn1"]
        maps = []
        for span in job.spans:
            of_blocks = []
            for name in settings.cross:
                of_span = conditional[name, "attn2"][:, list(span)].mean(dim=1).reshape(1, 1, *grids[name])
                of_blocks.append(F.interpolate(of_span, size=grid, mode="bilinear", align_corners=False)[0, 0])
            cross = _scaled(torch.stack(of_blocks).mean(dim=0))
            inside = cross if settings.theta is None else _inside_boxes(cross, settings.theta)
            restricted = squared * inside.flatten()[None, :]
            maps.append(_scaled((restricted @ cross.flatten()).reshape(grid)))
        of_noises.append(torch.stack(maps))
    return torch.stack(of_noises).mean(dim=0)


@contextmanager
def dense_attention(unet: nn.Module) -> Iterator[dict[tuple[str, str], Float[Tensor, "b n m"]]]:
    """Every attention matrix of the passes made in the body, by block and layer ("attn1", "attn2"), heads averaged.

    Self-attention comes squared, as in the release's transformer block.  Processors are back however the body ends.
    """
    kept: dict[tuple[str, str], Tensor] = {}
    blocks = transformer_blocks(unet)
    layers: dict[tuple[str, str], Any] = {
        (name, part): getattr(block.module, part) for name, block in blocks.items() for part in ("attn1", "attn2")
    }
    before = {place: layer.processor for place, layer in layers.items()}

    def processor(place: tuple[str, str], square: bool) -> Callable[..., Tensor]:
        def attention(
            layer: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
        ) -> Tensor:
            read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
            queries = layer.head_to_batch_dim(layer.to_q(hidden_states))
            keys, values = (layer.head_to_batch_dim(project(read)) for project in (layer.to_k, layer.to_v))
            probabilities = layer.get_attention_scores(queries, keys)
            out = layer.to_out[0](layer.batch_to_head_dim(probabilities @ values))
            mean = probabilities.unflatten(0, (-1, layer.heads)).mean(dim=1)
            kept[place] = mean @ mean if square else mean
            return out

        return attention

    try:
        for (name, part), layer in layers.items():
            layer.set_processor(processor((name, part), part == "attn1" and blocks[name].has_self_attention))
        yield kept
    finally:
        for place, layer in layers.items():
            layer.set_processor(before[place])


def _predict(job: Job, noisy: Tensor, halves: list[Conditioning]) -> None:
    """A plain pass of the whole network, one row a conditioning."""
    added: dict[str, list[Tensor]] = {}
    for half in halves:
        for name, value in (half.added or {}).items():
            added.setdefault(name, []).append(value)
    job.unet(
        noisy,
        job.settings.timesteps[0],
        encoder_hidden_states=torch.cat([half.states for half in halves]),
        added_cond_kwargs={name: torch.cat(values) for name, values in added.items()} or None,
    )


def _is_read(place: tuple[str, str], settings: LocalizerSettings) -> bool:
    name, part = place
    return name in settings.cross if part == "attn2" else name == settings.self_block


def _scaled(map_: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    return (map_ - map_.min()) / (map_.max() - map_.min())


def _inside_boxes(cross: Float[Tensor, "h w"], theta: float) -> Float[Tensor, "h w"]:
    """1 inside the bounding boxes of {map > theta max} in bytes; a box's last corner is clamped, then exclusive."""
    h, w = cross.shape
    levels = (cross.cpu().numpy() * 255).astype(np.uint8)
    parts, _ = ndimage.label(levels > int(theta * levels.max()), structure=np.ones((3, 3)))
    inside = torch.zeros_like(cross)
    for rows, columns in ndimage.find_objects(parts):
        inside[rows.start : min(rows.stop, h - 1), columns.start : min(columns.stop, w - 1)] = 1
    return inside


# --- the floor: the network alone -----------------------------------------------------------------------------------


class Call(NamedTuple):
    """One call of the U-Net, to be made again."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Reached(Exception):
    """Ends a pass; never leaves ``bare_network``."""


@contextmanager
def calls_of(unet: nn.Module) -> Iterator[list[Call]]:
    """The calls of the U-Net that the body makes."""
    calls: list[Call] = []

    def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(Call(args, kwargs))

    handle = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def last_layer(unet: nn.Module, settings: LocalizerSettings) -> tuple[str, nn.Module]:
    """The attention layer after which no map can change, and its block's name."""
    order = list(transformer_blocks(unet))
    needed = [(order.index(name), "attn2") for name in settings.cross]
    if settings.hops:
        needed.append((order.index(settings.self_block), "attn1"))
    place, part = max(needed)
    return order[place], getattr(transformer_blocks(unet)[order[place]].module, part)


@torch.no_grad()
def bare_network(unet: nn.Module, calls: list[Call], layer: Any) -> None:
    """The same calls, with nothing read, each up to the moment when the layer's keys are known."""

    def stop(*_: Any) -> None:
        raise _Reached

    handle = layer.to_k.register_forward_hook(stop)
    try:
        for call in calls:
            with suppress(_Reached):
                unet(*call.args, **call.kwargs)
    finally:
        handle.remove()


def _one_row(value: Any) -> Any:
    """The first row of what a call was given."""
    if isinstance(value, Tensor):
        return value[:1] if value.ndim else value
    if isinstance(value, Mapping):
        return {key: _one_row(each) for key, each in value.items()}
    return tuple(_one_row(each) for each in value) if isinstance(value, tuple) else value


# --- torch.compile --------------------------------------------------------------------------------------------------


def hookless_parts(module: nn.Module, watched: set[nn.Module]) -> Iterator[nn.Module]:
    """The largest parts of a network that hold no watched layer; single layers are not worth compiling."""
    for child in module.children():
        if isinstance(child, nn.ModuleList) or any(each in watched for each in child.modules()):
            yield from hookless_parts(child, watched)
        elif any(child.children()):
            yield child


def compiled_forwards(job: Job, backend: str = "inductor") -> dict[nn.Module, Callable[..., Any]]:
    """A compiled ``forward`` for every part of the U-Net in which our side has no hook.

    Hooks are Python that changes from call to call: inside a compiled part they would be ignored or break its graph.
    Parts that share a class share dynamo's cache, hence its limit is raised above their number.
    """
    blocks, settings = transformer_blocks(job.unet), job.settings
    watched = {blocks[name].module.attn2 for name in settings.cross} | {blocks[settings.self_block].module.attn1}
    parts = list(hookless_parts(job.unet, watched))  # type: ignore[arg-type]
    limits: Any = importlib.import_module("torch._dynamo").config
    for limit in ("cache_size_limit", "accumulated_cache_size_limit"):
        setattr(limits, limit, max(getattr(limits, limit), 4 * len(parts)))
    return {part: torch.compile(part.forward, backend=backend, dynamic=False) for part in parts}


# --- seconds and bytes ----------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """``peak_bytes``: the most memory the process held above what it held before; None where it cannot be known."""

    result: Any
    seconds: float
    peak_bytes: int | None


def measure(call: Callable[[], Any]) -> Measured:
    """One call: its result, its seconds, its peak memory.

    Memory is resident memory of the whole process: what was freed is given back to the system first, the kernel's
    high-water mark is set to the present, and read after the call (Linux only).
    """
    gc.collect()
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (PROC / "self" / "clear_refs").write_text("5")
        before = _status("VmRSS")
    except (OSError, KeyError):
        before = None
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    return Measured(result, seconds, None if before is None else max(0, _status("VmHWM") - before))


def _status(key: str) -> int:
    """A number of bytes from the process's status.  Raises KeyError, OSError where there is none."""
    lines = (PROC / "self" / "status").read_text().splitlines()
    return int(dict(line.split(":", 1) for line in lines)[key].split()[0]) * 1024


def free_bytes() -> int | None:
    """Memory that can be had without swapping, in this container; None where the system does not say."""
    try:
        lines = (PROC / "meminfo").read_text().splitlines()
        free = int(dict(line.split(":", 1) for line in lines)["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return None
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, max(0, limit - used))
    return free


# --- what it will cost ----------------------------------------------------------------------------------------------


def dense_bytes(job: Job) -> int:
    """About what the reference holds at its worst: one layer's scores and probabilities, and every matrix kept."""
    size, largest, kept = job.latents.element_size(), 0, 0
    for cells, heads in _self_attention(job):
        matrix = 2 * cells**2 * size  # both guidance halves
        largest, kept = max(largest, 2 * heads * matrix + matrix), kept + matrix
    return largest + kept


def _self_attention(job: Job, leave_out: str | None = None) -> list[tuple[int, int]]:
    """(cells, heads) of every self-attention."""
    h, w = job.latents.shape[-2:]
    return [
        (math.ceil(h / block.stride) * math.ceil(w / block.stride), int(block.module.attn1.heads))  # type: ignore[union-attr, arg-type]
        for name, block in transformer_blocks(job.unet).items()
        if block.has_self_attention and name != leave_out
    ]


def squares_seconds(job: Job) -> float:
    """What the reference spends on squaring the self-attention that no map reads, measured on matrices of the sizes."""
    once: dict[int, float] = {}
    total = 0.0
    for cells, _ in _self_attention(job, leave_out=job.settings.self_block):
        if cells not in once:
            matrices = torch.full((2, cells, cells), 1 / cells, dtype=job.latents.dtype)
            start = time.perf_counter()
            torch.matmul(matrices, matrices)
            once[cells] = time.perf_counter() - start
        total += once[cells] * len(job.eps)
    return total


@torch.no_grad()
def expected_seconds(job: Job, repeats: int) -> float:
    """A guess, to a factor of two, from a pass over a small image and a product of two matrices."""
    h, w = job.latents.shape[-2:]
    step = max(block.stride for block in transformer_blocks(job.unet).values())
    small = [max(step, side // 4 // step * step) for side in (h, w)]
    latents = job.latents[:, :, : small[0], : small[1]]

    def one_pass() -> None:
        _predict(job, latents, [job.text])

    n = 512
    matrix = torch.full((n, n), 1 / n, dtype=job.latents.dtype)
    one_pass()
    passing = _seconds(one_pass) * h * w / math.prod(small)
    multiplying = _seconds(lambda: torch.matmul(matrix, matrix)) / (2 * n**3)
    squares = sum(2 * 2 * cells**3 for cells, _ in _self_attention(job)) * multiplying
    reference, ours = 2 * passing + squares, passing
    k = len(job.eps)
    return reference * (1 + (repeats + 1) * k) + ours * k * (3 + 3 * repeats) + squares * k


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _refuse(needed: int, what: str, cure: str) -> None:
    """Raises UsageError when memory will not do."""
    free = free_bytes()
    if free is not None and needed > free:
        raise UsageError(f"{what} needs about {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; {cure}")


# --- the comparison -------------------------------------------------------------------------------------------------


def compare(comparison: Comparison, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure; a record that fits JSON.  ``say`` hears what it will cost before it starts.

    Seconds and bytes are medians of the repeats; what was not or cannot be measured is null.  Raises UsageError, in one
    line, when memory will not do, for a size the backbone cannot take, and when torch.compile does not work here;
    BackboneError from loading.
    """
    record = _side_by_side(comparison, say)
    if comparison.memory_size is not None:
        gc.collect()
        for side in ("ours", "reference"):
            say(f"memory of {side} at {comparison.memory_size} px, in a process of its own")
            record |= {f"memory_{side}_mb": _megabytes(_in_child(side, comparison))}
        record["memory_size_hw"] = [comparison.memory_size] * 2
    ours, reference = record["memory_ours_mb"], record["memory_reference_mb"]
    record["memory_ratio"] = reference / ours if ours and reference is not None else None
    return record


def _side_by_side(comparison: Comparison, say: Callable[[str], None]) -> dict[str, Any]:
    backbone = _load(comparison)
    size_hw = image_hw(backbone, comparison.size, "--size")
    job = make_job(backbone, size_hw, comparison.samples)
    answering = preset(comparison.preset, backbone.family) if backbone.family == "embedded" else None
    _say_cost(comparison, backbone, job, say)
    name, layer = last_layer(job.unet, job.settings)
    forwards = compiled_forwards(job) if comparison.compile else {}

    def ours() -> Tensor:
        with in_place(forwards):
            return our_maps(job)

    def floor() -> None:
        with in_place(forwards):
            bare_network(job.unet, calls, layer)

    try:  # the warm-up: ours whole, the floor, and the reference on one noise
        with calls_of(job.unet) as calls:
            first_seconds = _seconds(ours)
        floor()
    except Exception as error:
        if not comparison.compile or isinstance(error, PrisbenchError):
            raise
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(f"torch.compile does not work here ({reason}); leave out --compile") from error
    reference_maps(dataclasses.replace(job, eps=job.eps[:1]))

    def theirs() -> Tensor:
        with freed_memory_given_back():
            return reference_maps(job)

    last: dict[str, Tensor] = {}
    each: dict[str, list[float]] = {"reference": [], "ours": [], "floor": []}
    for _ in range(comparison.repeats):
        each["reference"].append(_seconds(lambda: last.update(reference=theirs())))
        floor()  # ours is measured as it goes among other photos, with the memory of the last one at hand
        each["ours"].append(_seconds(lambda: last.update(ours=ours())))
        each["floor"].append(_seconds(floor))
    peaks = {"ours": measure(ours).peak_bytes, "reference": measure(theirs).peak_bytes}
    seconds = {side: statistics.median(of_side) for side, of_side in each.items()}
    difference = float((last["ours"] - last["reference"]).abs().max())
    squares = squares_seconds(job)

    return {
        "ratio": seconds["reference"] / seconds["ours"],
        "ours": seconds["ours"],
        "reference": seconds["reference"],
        "unit": "seconds",
        "ours_each": each["ours"],
        "reference_each": each["reference"],
        "largest_difference": difference if math.isfinite(difference) else None,
        "floor_seconds": seconds["floor"],
        "floor_share": seconds["floor"] / seconds["ours"],
        "last_block": name,
        "rows_of_calls": [len(_sample(call)) for call in calls],
        "unread_squares_seconds": squares,
        "ratio_without_unread_squares": (seconds["reference"] - squares) / seconds["ours"],
        "memory_ratio": None,
        "memory_ours_mb": _megabytes(peaks["ours"]),
        "memory_reference_mb": _megabytes(peaks["reference"]),
        "memory_size_hw": list(size_hw),
        "size_hw": list(size_hw),
        "samples": comparison.samples,
        "repeats": comparison.repeats,
        "dtype": comparison.dtype,
        "compile": comparison.compile,
        "first_call_seconds": first_seconds,
        "warm_up": "ours once in full, the reference once with one noise",
        "backbone": backbone.id,
        "threads": torch.get_num_threads(),
        "environment": dataclasses.asdict(current_environment()),
        **scene_multiple(backbone, answering, comparison.repeats),
    }


def _load(comparison: Comparison) -> Backbone:
    dtype = DTYPES[comparison.dtype]
    if comparison.backbone == "sd15-random":
        cure = "free some, or measure another model with --backbone"
        _refuse(SD15_PARAMETERS * dtype.itemsize, "Stable Diffusion 1.x", cure)
    backbone = load_backbone(None if comparison.backbone == "embedded" else comparison.backbone, "cpu", dtype)
    if comparison.backbone in ARCHITECTURES:
        for name, weight in backbone.unet.named_parameters():
            if name.endswith(("to_q.weight", "to_k.weight")):
                weight.data *= SHARPENED
    return backbone


def image_hw(backbone: Backbone, size: int | None, option: str, least: int = 1) -> tuple[int, int]:
    """The image's height and width in pixels: ``size`` twice, or the backbone's own.

    Raises UsageError for a size below ``least``, or that the backbone does not take.
    """
    if size is None:
        return backbone.native_hw
    if size < least or size % backbone.stride:
        near = max(-(-least // backbone.stride), round(size / backbone.stride)) * backbone.stride
        raise UsageError(f"{option} {size}: {backbone.id} takes multiples of {backbone.stride} pixels; try {near}")
    return size, size


def _say_cost(comparison: Comparison, backbone: Backbone, job: Job, say: Callable[[str], None]) -> None:
    """What it will take, said before it starts.  Raises UsageError when memory will not do."""
    h, w = (int(side) * backbone.vae_factor for side in job.latents.shape[-2:])
    needed = dense_bytes(job)
    _refuse(needed, f"the reference at {h} x {w} px", "take a smaller --size")
    more = ""
    if comparison.memory_size is not None:
        size_hw = image_hw(backbone, comparison.memory_size, "--memory-size")
        of_child = dense_bytes(make_job(backbone, size_hw, 1)) + CHILD_BYTES  # its weights come where these have been
        _refuse(of_child, f"the reference at {size_hw[0]} x {size_hw[1]} px", "take a smaller --memory-size")
        more = f", then about {of_child / 1e9:.1f} GB and some minutes more in two processes of their own"
    seconds = f"{expected_seconds(job, comparison.repeats):.0f} s{' and the compiling' if comparison.compile else ''}"
    free = free_bytes()
    say(
        f"{backbone.id}, {h} x {w} px, {comparison.samples} noises, {comparison.dtype}, "
        f"{torch.get_num_threads()} threads: about {seconds}, and about {needed / 1e9:.1f} GB above the weights{more} "
        f"({'unknown' if free is None else f'{free / 1e9:.1f} GB'} free)"
    )


def _sample(call: Call) -> Tensor:
    """The noisy latents a call was given."""
    return call.args[0] if call.args else call.kwargs["sample"]


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6


# --- memory in a process of its own ---------------------------------------------------------------------------------


def _in_child(side: str, comparison: Comparison) -> int | None:
    """Peak bytes of one side in a fresh process.  Raises UsageError when the process comes to grief."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            answer = pool.submit(peak_of, side, comparison).result()
        except BrokenProcessPool:
            raise UsageError(
                f"the process that measured {side} was killed, most likely for want of memory; "
                "take a smaller --memory-size"
            ) from None
    if isinstance(answer, str):
        raise UsageError(answer)
    return answer


def peak_of(side: str, comparison: Comparison) -> int | str | None:
    """Peak bytes of "ours" or "reference" at ``memory_size``; what the user can mend comes back as text.

    A warm-up on the smallest image touches all weights first.  The reference takes its noises one by one, so its peak
    does not depend on their number: it gets one.
    """
    try:
        backbone = _load(comparison)
        keep_freed_memory(side == "ours")
        side_of, samples = (our_maps, comparison.samples) if side == "ours" else (reference_maps, 1)
        smallest = 2 * backbone.stride
        side_of(make_job(backbone, (smallest, smallest), 1))
        job = make_job(backbone, image_hw(backbone, comparison.memory_size, "--memory-size"), samples)
        return measure(lambda: side_of(job)).peak_bytes
    except PrisbenchError as error:
        return str(error)


# --- a scene's queries ----------------------------------------------------------------------------------------------


def scene_multiple(backbone: Backbone, settings: LocalizerSettings | None, repeats: int) -> dict[str, Any]:
    """Answering all queries of one scene, as users do, in passes of the network up to the last block needed.

    The scene has three things, and each is asked for.  A pass has one row and reads nothing.  Without settings: nulls.
    """
    if settings is None:
        return dict.fromkeys(("multiple", "multiple_seconds", "multiple_pass_seconds", "multiple_queries"))
    scenes = (tabletop.ordinary_scene(f"bench/{i}")[0] for i in itertools.count())
    scene = next(scene for scene in scenes if len(scene.things) == 3)
    queries, concepts = [], {}
    for i, thing in enumerate(scene.things):
        subject = Subject(f"thing-{i}", thing.individual.noun, ())
        concepts[subject.id] = noun_only(subject)
        queries.append(Query(f"query-{i}", subject.id, "a photo of the {subject}"))

    def answer() -> None:
        locate(backbone, scene.image, queries, concepts, settings)

    with calls_of(backbone.unet) as calls:
        answer()
    _, layer = last_layer(backbone.unet, settings)
    one = [Call(_one_row(calls[0].args), _one_row(calls[0].kwargs))]
    bare_network(backbone.unet, one, layer)
    answering, passing = [], []
    for _ in range(max(5, repeats)):  # short, so that one interruption would decide
        answering.append(_seconds(answer))
        passing.append(_seconds(lambda: bare_network(backbone.unet, one, layer)))
    answered, passed = statistics.median(answering), statistics.median(passing)
    return {
        "multiple": answered / passed,
        "multiple_seconds": answered,
        "multiple_pass_seconds": passed,
        "multiple_queries": len(queries),
    }


# --- for people -----------------------------------------------------------------------------------------------------


def render(record: Mapping[str, Any]) -> str:
    """The record for people, one fact a line."""
    h, w = record["size_hw"]
    compiled = ", torch.compile" if record["compile"] else ""
    memory_hw = " x ".join(map(str, record["memory_size_hw"]))
    lines = [
        f"{record['backbone']}, {h} x {w} px, {record['samples']} noises, {record['dtype']}{compiled}, "
        f"{record['threads']} threads, median of {record['repeats']}",
        f"{'':<12}{'seconds':>10}   MB above the weights ({memory_hw} px)",
    ]
    for side in ("reference", "ours"):
        lines.append(f"{side:<12}{record[side]:>10.3g}   {shown(record[f'memory_{side}_mb'], '.0f')}")
    lines += [
        f"{'ratio':<12}{record['ratio']:>10.1f}   {shown(record['memory_ratio'], '.1f')}",
        f"largest map difference: {shown(record['largest_difference'], '.1e')}",
        f"floor: the bare network up to {record['last_block']}, {record['floor_seconds']:.3g} s, "
        f"{record['floor_share']:.0%} of ours",
        f"squares that no map reads: {record['unread_squares_seconds']:.3g} s of the reference; ratio without them "
        f"{record['ratio_without_unread_squares']:.1f}",
    ]
    if record["compile"]:
        lines.append(f"first call, which compiles: {record['first_call_seconds']:.3g} s")
    if record["multiple"] is not None:
        lines.append(
            f"a scene's {record['multiple_queries']} queries: {record['multiple_seconds']:.3g} s, "
            f"{record['multiple']:.1f} passes of the network"
        )
    return "\n".join(lines)


def shown(value: float | None, form: str) -> str:
    """A number for people, who are told where there is none."""
    return "not measured" if value is None else format(value, form)
