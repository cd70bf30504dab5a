"""How fast the localizer is, and how much memory it takes, beside the published procedure, in one process.

``our_maps`` is the code that users run; ``published.reference_maps`` is the reference implementation.  Both get the
same latents, noises and text, so their maps can be compared, too.

Knows: what is compared and how.  Does not know: images and truth.  Encoding photo and text is left out: both sides
need it once, and alike.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prisbench.bench import process
from prisbench.bench.models import DTYPES, image_hw, measured_backbone
from prisbench.bench.network import Call, bare_network, calls_of, compiled_forwards, last_layer, noisy_latents
from prisbench.bench.process import seconds_of
from prisbench.bench.published import (
    MapJob,
    dense_bytes,
    make_job,
    plain_pass,
    reference_maps,
    self_attention_sizes,
    squares_seconds,
)
from prisbench.bench.scene import scene_multiple
from prisbench.diffusion.attention import transformer_blocks
from prisbench.diffusion.backbone import Backbone
from prisbench.errors import PrisbenchError, UnknownNameError, UsageError
from prisbench.localizer.attend import Reading, attend, span_columns
from prisbench.localizer.maps import self_cross
from prisbench.localizer.presets import preset
from prisbench.provenance import current_environment
from prisbench.runtime.devices import freed_memory_given_back, keep_freed_memory
from prisbench.speed.lean import in_place

CHILD_BYTES = 800_000_000
"""What a fresh process holds before it loads weights: torch and its libraries, rounded up."""


@dataclass(frozen=True)
class Comparison:
    """What is measured.

    ``backbone``: "sd15-random", "embedded", or a pipeline's folder.  ``size``: pixels of a square image; None is the
    backbone's own size.  ``samples``: noises a side.  ``dtype``: a name of DTYPES, for both sides.  ``compile``:
    torch.compile on our side, where no hook looks.  ``memory_size``: measure memory at this size instead, in a process
    for each side.  ``preset``: answers a scene's queries, where the backbone knows Tabletop.  ``queries``: texts about
    one photo, which ours answers in one pass; the reference takes them one at a time.
    """

    backbone: str = "sd15-random"
    size: int | None = None
    samples: int = 2
    repeats: int = 1
    dtype: str = "fp32"
    compile: bool = False
    memory_size: int | None = None
    preset: str = "fast"
    queries: int = 1

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownNameError("dtype", self.dtype, DTYPES)
        for name in ("samples", "repeats", "queries"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)} makes no sense; give 1 or more")


def compare(comparison: Comparison, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure; a record that fits JSON.  ``say`` is told what it will cost before it starts.

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
    """Both sides in turn, on the same numbers."""
    backbone = measured_backbone(comparison.backbone, DTYPES[comparison.dtype])
    size_hw = image_hw(backbone, comparison.size, "--size")
    job = make_job(backbone, size_hw, comparison.samples)
    answering = preset(comparison.preset, backbone.family) if backbone.family == "embedded" else None
    _say_cost(comparison, backbone, job, say)
    sides = _warmed_up(job, comparison.compile)
    last: dict[str, Tensor] = {}
    each: dict[str, list[float]] = {"reference": [], "ours": [], "floor": [], "shared": []}
    for _ in range(comparison.repeats):
        each["reference"].append(seconds_of(lambda: last.update(reference=sides.reference())))
        sides.floor()  # ours is measured as it goes among other photos, with the memory of the last one at hand
        each["ours"].append(seconds_of(lambda: last.update(ours=sides.ours())))
        each["floor"].append(seconds_of(sides.floor))
        if comparison.queries > 1:
            each["shared"].append(seconds_of(lambda: our_maps(job, comparison.queries)))
    peaks = {side: process.measure(getattr(sides, side)).peak_bytes for side in ("ours", "reference")}
    difference = float((last["ours"] - last["reference"]).abs().max())
    return {
        **_seconds_record(each, squares_seconds(job), sides.first_seconds),
        **_shared_record(each, comparison.queries),
        "largest_difference": difference if math.isfinite(difference) else None,
        "last_block": sides.last_block,
        "rows_of_calls": [len(noisy_latents(call)) for call in sides.calls],
        "memory_ratio": None,
        "memory_ours_mb": _megabytes(peaks["ours"]),
        "memory_reference_mb": _megabytes(peaks["reference"]),
        "memory_size_hw": list(size_hw),
        "size_hw": list(size_hw),
        "samples": comparison.samples,
        "repeats": comparison.repeats,
        "dtype": comparison.dtype,
        "compile": comparison.compile,
        "backbone": backbone.id,
        "threads": torch.get_num_threads(),
        "environment": dataclasses.asdict(current_environment()),
        **scene_multiple(backbone, answering, comparison.repeats),
    }


def _seconds_record(each: Mapping[str, list[float]], squares: float, first_seconds: float) -> dict[str, Any]:
    """What the record says of time.  ``each``: the seconds of every repeat of each side."""
    seconds = {side: statistics.median(of_side) for side, of_side in each.items() if of_side}
    return {
        "ratio": seconds["reference"] / seconds["ours"],
        "ours": seconds["ours"],
        "reference": seconds["reference"],
        "unit": "seconds",
        "ours_each": each["ours"],
        "reference_each": each["reference"],
        "floor_seconds": seconds["floor"],
        "floor_share": seconds["floor"] / seconds["ours"],
        "unread_squares_seconds": squares,
        "ratio_without_unread_squares": (seconds["reference"] - squares) / seconds["ours"],
        "first_call_seconds": first_seconds,
        "warm_up": "ours once in full, the reference once with one noise",
    }


def _shared_record(each: Mapping[str, list[float]], queries: int) -> dict[str, Any]:
    """Several texts about one photo: our one pass for all, and the reference so many times."""
    shared = statistics.median(each["shared"]) if each["shared"] else None
    return {
        "queries": queries,
        "ours_all_queries": shared,
        "ratio_a_query": None if shared is None else queries * statistics.median(each["reference"]) / shared,
    }


class _Sides(NamedTuple):
    """The sides as they are timed; ``floor`` makes our calls of the network again and reads nothing.

    ``calls``: what our side called the network with, up to ``last_block``.  ``first_seconds``: of our first call.
    """

    ours: Callable[[], Tensor]
    reference: Callable[[], Tensor]
    floor: Callable[[], None]
    last_block: str
    calls: list[Call]
    first_seconds: float


def _warmed_up(job: MapJob, compiled: bool) -> _Sides:
    """The sides, each run before: ours in full, the floor, and the reference on one noise.

    Raises UsageError when torch.compile does not work here.
    """
    name, layer = last_layer(job.unet, job.settings)
    forwards = compiled_forwards(job) if compiled else {}

    def ours() -> Tensor:
        with in_place(forwards):
            return our_maps(job)

    def reference() -> Tensor:
        with freed_memory_given_back():
            return reference_maps(job)

    def floor() -> None:
        with in_place(forwards):
            bare_network(job.unet, calls, layer)

    try:
        with calls_of(job.unet) as calls:
            first_seconds = seconds_of(ours)
        floor()
    except Exception as error:
        if not compiled or isinstance(error, PrisbenchError):
            raise
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UsageError(f"torch.compile does not work here ({reason}); leave out --compile") from error
    reference_maps(dataclasses.replace(job, eps=job.eps[:1]))
    return _Sides(ours, reference, floor, name, calls, first_seconds)


@torch.no_grad()
def our_maps(job: MapJob, queries: int = 1) -> Float[Tensor, "classes h w"]:
    """The maps by the code that users run; of several queries, from one pass on a caption that serves them all."""
    settings, columns = job.settings, span_columns(job.spans, job.text.states.shape[1])
    several = queries > 1
    reading = Reading(
        job.unet,
        job.alphas_cumprod,
        job.latents,
        job.eps,
        torch.full((len(job.eps),), settings.timesteps[0]),
        job.text,
        columns.expand(queries, -1, -1) if several else columns,
        settings.cross,
        [settings.self_block],
        job.text.states.expand(queries, -1, -1) if several else None,
    )
    return self_cross(attend(reading), settings).score


@torch.no_grad()
def expected_seconds(job: MapJob, repeats: int) -> float:
    """A guess, to a factor of two, from a pass over a small image and a product of two matrices."""
    h, w = job.latents.shape[-2:]
    step = max(block.stride for block in transformer_blocks(job.unet).values())
    small = [max(step, side // 4 // step * step) for side in (h, w)]
    latents = job.latents[:, :, : small[0], : small[1]]

    def one_pass() -> None:
        plain_pass(job, latents, [job.text])

    n = 512
    matrix = torch.full((n, n), 1 / n, dtype=job.latents.dtype)
    one_pass()
    passing = seconds_of(one_pass) * h * w / math.prod(small)
    multiplying = seconds_of(lambda: torch.matmul(matrix, matrix)) / (2 * n**3)
    squares = sum(2 * 2 * cells**3 for cells, _ in self_attention_sizes(job)) * multiplying
    reference, ours = 2 * passing + squares, passing
    k = len(job.eps)
    return reference * (1 + (repeats + 1) * k) + ours * k * (3 + 3 * repeats) + squares * k


def _say_cost(comparison: Comparison, backbone: Backbone, job: MapJob, say: Callable[[str], None]) -> None:
    """What it will take, said before it starts.  Raises UsageError when memory will not do."""
    h, w = (int(side) * backbone.vae_factor for side in job.latents.shape[-2:])
    needed = dense_bytes(job)
    process.refuse(needed, f"the reference at {h} x {w} px", "take a smaller --size")
    more = ""
    if comparison.memory_size is not None:
        size_hw = image_hw(backbone, comparison.memory_size, "--memory-size")
        of_child = dense_bytes(make_job(backbone, size_hw, 1)) + CHILD_BYTES  # its weights come where these have been
        process.refuse(of_child, f"the reference at {size_hw[0]} x {size_hw[1]} px", "take a smaller --memory-size")
        more = f", then about {of_child / 1e9:.1f} GB and some minutes more in two processes of their own"
    seconds = f"{expected_seconds(job, comparison.repeats):.0f} s{' and the compiling' if comparison.compile else ''}"
    free = process.free_bytes()
    say(
        f"{backbone.id}, {h} x {w} px, {comparison.samples} noises, {comparison.dtype}, "
        f"{torch.get_num_threads()} threads: about {seconds}, and about {needed / 1e9:.1f} GB above the weights{more} "
        f"({'unknown' if free is None else f'{free / 1e9:.1f} GB'} free)"
    )


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6


def _in_child(side: str, comparison: Comparison) -> int | None:
    """Peak bytes of one side in a fresh process.  Raises UsageError when the process comes to grief."""
    killed = UsageError(
        f"the process that measured {side} was killed, most likely for want of memory; take a smaller --memory-size"
    )
    return process.in_a_process(peak_of, side, comparison, killed=killed)


def peak_of(side: str, comparison: Comparison) -> int | str | None:
    """Peak bytes of "ours" or "reference" at ``memory_size``; what the user can mend comes back as text.

    A warm-up on the smallest image touches all weights first.  The reference takes its noises one by one, so its peak
    does not depend on their number: it gets one.
    """
    try:
        backbone = measured_backbone(comparison.backbone, DTYPES[comparison.dtype])
        keep_freed_memory(side == "ours")
        side_of, samples = (our_maps, comparison.samples) if side == "ours" else (reference_maps, 1)
        smallest = 2 * backbone.stride
        side_of(make_job(backbone, (smallest, smallest), 1))
        job = make_job(backbone, image_hw(backbone, comparison.memory_size, "--memory-size"), samples)
        return process.measure(lambda: side_of(job)).peak_bytes
    except PrisbenchError as error:
        return str(error)


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
    if record["ours_all_queries"] is not None:
        lines.append(
            f"{record['queries']} queries about one photo: {record['ours_all_queries']:.3g} s in one pass, "
            f"{record['ratio_a_query']:.1f} times as fast a query as the reference, which takes them one at a time"
        )
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
