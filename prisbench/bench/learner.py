"""How fast textual inversion learns, and how much memory it takes, beside the example people start from.

``reference`` is what the training example of diffusers does in a step (``examples/textual_inversion/
textual_inversion.py``, release 0.42): the batch's photos opened, made smaller and encoded anew, their latents drawn
from the posterior; the text encoder with a token table grown by the new tokens and gradients for all of it; the U-Net
with its default attention; AdamW over the whole table, whose other rows are then put back.  ``ours`` is the code that
users run, from files too.  Both take turns in one process, on the same weights, photos, captions, batch and precision.

What a step of the reference takes depends on how large the photos are.  Without ``photos`` they are PNG files of the
backbone's own size, the least there is to read.  Also in favour of the reference: captions are tokens already, nothing
is logged or saved.  In "bf16" both are as they come: the example casts U-Net and autoencoder to bfloat16 and computes
the text encoder in mixed precision; ours computes all in mixed precision on float32 weights.

Knows: both sides, how to time a step.  Does not know: what is learned, whether it is any good.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.bench.localizer import shown
from prisbench.bench.models import DTYPES, SD15_PARAMETERS, image_hw
from prisbench.bench.process import Measured, free_bytes, measure
from prisbench.concepts.loop import Task
from prisbench.concepts.loss import captions
from prisbench.concepts.recipes import TextualInversion, default_recipe
from prisbench.concepts.textual_inversion import teach
from prisbench.concepts.watch import Watch
from prisbench.concepts.wordings import first_vectors
from prisbench.diffusion.architectures import ARCHITECTURES
from prisbench.diffusion.backbone import VECTORS, Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.noise import add_noise, training_target
from prisbench.diffusion.prompts import Words
from prisbench.errors import UnknownNameError, UsageError
from prisbench.images.drawing import png
from prisbench.images.photos import load_photo, photo_files, resize_to
from prisbench.provenance import current_environment
from prisbench.runtime.devices import computes_bfloat16, freed_memory_given_back
from prisbench.types import Subject

NOUN, PHOTOS, KEY = "mug", 5, "learner bench"

CLIP_TOKENS = 49_408
"""Rows of the token table of Stable Diffusion 1.x and 2.x (their ``text_encoder/config.json``).  Random weights come
with a smaller vocabulary, so there the reference's table is grown to what it would be."""

RATE, DECAY = 5e-4, 1e-2
"""The example's AdamW, as its README runs it."""

Tick = Callable[[], None]
"""Called after every step."""


@dataclass(frozen=True)
class LearningComparison:
    """What is measured.

    ``backbone``: "embedded", "sd15-random", or a pipeline's folder.  The sides take turns, ``rounds`` times ``steps``
    steps each.  ``batch`` None is the recipe's; ``dtype`` None is bfloat16 where the processor has instructions for it,
    else float32, as when learning.  ``size``: pixels of a square image; None is the backbone's own size.  ``photos``: a
    folder; None is five of the backbone's own size.
    """

    backbone: str = "embedded"
    steps: int = 10
    batch: int | None = None
    dtype: str | None = None
    rounds: int = 3
    size: int | None = None
    photos: str | os.PathLike[str] | None = None


def bench_learner(comparison: LearningComparison, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Measure; a record that fits JSON.  ``say`` is told what it will cost once the first steps are known.

    Seconds are the median of all steps but each turn's first, bytes the median of the turns.  Memory is above the
    weights, which are given beside it.

    Raises UsageError, in one line, for what makes no sense and when memory will not do; DataError for photos;
    BackboneError from loading.
    """
    name, size, photos = comparison.backbone, comparison.size, comparison.photos
    dtype = comparison.dtype or ("bf16" if computes_bfloat16("cpu") else "fp32")
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    if comparison.rounds < 1:
        raise UsageError(f"--rounds {comparison.rounds} makes no sense; give 1 or more")
    _check_memory(name, dtype)
    backbone = load_backbone(None if name == "embedded" else name)
    with TemporaryDirectory(prefix="prisbench-") as drawn:
        if photos is None:
            drawn_photos(Path(drawn), image_hw(backbone, size, "--size", least=64))
        files = Path(drawn if photos is None else photos)
        job = make_job(backbone, files, comparison.steps, comparison.batch, dtype, size)
        return _compared(job, dtype, comparison.rounds, say)


def _compared(job: LearningJob, dtype: str, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    plain, steps = plain_models(job), job.recipe.loop.steps

    def theirs(job: LearningJob, tick: Tick) -> None:
        with freed_memory_given_back():
            reference(job, plain, tick)

    sides: dict[str, Callable[[LearningJob, Tick], None]] = {"reference": theirs, "ours": ours}
    short = job._replace(recipe=dataclasses.replace(job.recipe, loop=dataclasses.replace(job.recipe.loop, steps=2)))
    first = {name: _turn(side, short) for name, side in sides.items()}
    seconds = sum(turn.each[-1] for turn in first.values()) * steps * rounds
    say(
        f"{job.backbone.id}: {rounds} turns of {steps} steps of {job.recipe.loop.batch} photos on each side, {dtype}, "
        f"{torch.get_num_threads()} threads: about {seconds:.0f} s"
    )
    turns: dict[str, list[_Turn]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            turns[name].append(_turn(side, job))
    return _record(job, plain, turns, dtype, rounds)


class _Turn(NamedTuple):
    """``before``: seconds to the end of the first step; ``each``: of each further one."""

    before: float
    each: tuple[float, ...]
    peak_bytes: int | None


def _turn(side: Callable[[LearningJob, Tick], None], job: LearningJob) -> _Turn:
    times: list[float] = []

    def whole() -> None:
        times.append(time.perf_counter())
        side(job, lambda: times.append(time.perf_counter()))

    measured: Measured = measure(whole)
    before, *each = (later - earlier for earlier, later in pairwise(times))
    return _Turn(before, tuple(each), measured.peak_bytes)


def _record(
    job: LearningJob, plain: ReferenceModels, turns: Mapping[str, list[_Turn]], dtype: str, rounds: int
) -> dict[str, Any]:
    step = {name: statistics.median(s for turn in of_side for s in turn.each) for name, of_side in turns.items()}
    peaks = {name: _median([turn.peak_bytes for turn in of_side]) for name, of_side in turns.items()}
    once = max(0.0, statistics.median(turn.before for turn in turns["ours"]) - step["ours"])
    recipe = default_recipe(job.backbone.family, "textual-inversion")
    concept = {"ours": once + recipe.loop.steps * step["ours"], "reference": recipe.loop.steps * step["reference"]}
    held = {
        "ours": [job.backbone.text_encoder, job.backbone.vae, job.backbone.unet],
        "reference": [plain.text_encoder, plain.vae, plain.unet],
    }
    weights = {
        name: sum(p.numel() * p.element_size() for model in models for p in model.parameters()) / 1e6
        for name, models in held.items()
    }
    known = peaks["ours"] and peaks["reference"] is not None
    return {
        "ratio": step["reference"] / step["ours"],
        "ours": step["ours"],
        "reference": step["reference"],
        "unit": "seconds a step",
        "ours_each": [s for turn in turns["ours"] for s in turn.each],
        "reference_each": [s for turn in turns["reference"] for s in turn.each],
        "once_seconds": once,
        "concept_steps": recipe.loop.steps,
        "concept_seconds": concept["ours"],
        "concept_seconds_reference": concept["reference"],
        "concept_ratio": concept["reference"] / concept["ours"],
        "memory_ratio": peaks["reference"] / peaks["ours"] if known else None,  # type: ignore[operator]
        "memory_ours_mb": peaks["ours"],
        "memory_reference_mb": peaks["reference"],
        "weights_ours_mb": weights["ours"],
        "weights_reference_mb": weights["reference"],
        "size_hw": list(job.size_hw),
        "photos_hw": [list(load_photo(file).shape[:2]) for file in job.files],
        "batch": job.recipe.loop.batch,
        "vectors": job.recipe.vectors,
        "tokens": len(plain.text_encoder.get_input_embeddings().weight),
        "steps": job.recipe.loop.steps,
        "rounds": rounds,
        "dtype": dtype,
        "backbone": job.backbone.id,
        "threads": torch.get_num_threads(),
        "environment": dataclasses.asdict(current_environment()),
    }


def _median(sizes: list[int | None]) -> float | None:
    """In megabytes; None where nothing is known."""
    known = [size for size in sizes if size is not None]
    return statistics.median(known) / 1e6 if known else None


def _check_memory(backbone: str, dtype: str) -> None:
    free, needed = free_bytes(), SD15_PARAMETERS * (4 + 2 * (dtype == "bf16"))
    if backbone == "sd15-random" and free is not None and free < needed:
        raise UsageError(
            f"Stable Diffusion 1.x on both sides needs about {needed / 1e9:.1f} GB of memory for its weights and "
            f"{free / 1e9:.1f} GB are free; free some, or measure another model with --backbone"
        )


# --- what both sides are given ------------------------------------------------------------------------------------


class LearningJob(NamedTuple):
    """What both sides are given: photos, the size they are learned in, and how many steps there are, of which batch."""

    backbone: Backbone
    files: tuple[Path, ...]
    size_hw: tuple[int, int]
    recipe: TextualInversion
    task: Task


class ReferenceModels(NamedTuple):
    """The models of the reference: the text encoder is its own, grown by the new tokens; in bf16 the others, too.

    ``ids`` are the captions.  ``new`` is the number of the new tokens, which are the table's last.
    """

    text_encoder: Any
    vae: Any
    unet: Any
    ids: Int[Tensor, "texts t"]
    new: int


def drawn_photos(folder: Path, size_hw: tuple[int, int]) -> None:
    """PNG files of soft spots of colour, in this size: small files, quickly read."""
    draw = np.random.default_rng(0)
    for n in range(PHOTOS):
        spots = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        (folder / f"{n}.png").write_bytes(png(resize_to(spots, size_hw)))


def make_job(
    backbone: Backbone, photos: Path, steps: int, batch: int | None, dtype: str, size: int | None = None
) -> LearningJob:
    """The photos of a folder, in the backbone's own size or ``size`` x ``size`` pixels, and the family's recipe.

    Raises DataError for a folder without photos, UsageError for numbers that make no sense and for models that read
    text through two encoders.
    """
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)
    for name, value, least in (("steps", steps, 2), ("batch", batch, 1)):
        if value is not None and value < least:
            raise UsageError(f"--{name} {value} makes no sense; give {least} or more")
    if backbone.text_encoder_2 is not None:
        raise UsageError(f"{backbone.id} has two text encoders, and the plain loop knows one; give a model like SD 1.x")
    size_hw = image_hw(backbone, size, "--size", least=64)
    files = tuple(photo.path for photo in photo_files(photos))
    recipe = default_recipe(backbone.family, "textual-inversion")
    assert isinstance(recipe, TextualInversion)
    loop = dataclasses.replace(
        recipe.loop,
        steps=steps,
        batch=batch or recipe.loop.batch,
        accumulate=1,
        flip=False,
        bfloat16=dtype == "bf16",
        working_size=size or "native",
    )
    recipe = dataclasses.replace(recipe, loop=loop)
    return LearningJob(backbone, files, size_hw, recipe, Task(KEY, KEY, recipe.version, KEY))


# --- the two sides --------------------------------------------------------------------------------------------------


def pixels_of(job: LearningJob, n: int) -> UInt8[np.ndarray, "h w 3"]:
    """Photo ``n`` of the job, from its file, in the size of the job (whatever its shape, as in the example)."""
    return resize_to(load_photo(job.files[n]), job.size_hw)


def ours(job: LearningJob, tick: Tick) -> None:
    """Textual inversion by the code that users run; the photos are read and encoded before the first step."""
    subject = Subject("bench", NOUN, tuple(pixels_of(job, n) for n in range(len(job.files))))
    teach(job.backbone, subject, job.recipe, job.task, Watch(progress=lambda *_: tick()))


def plain_models(job: LearningJob) -> ReferenceModels:
    """The reference's models, made once; the backbone stays as it is."""
    backbone, n = job.backbone, job.recipe.vectors
    vae, unet = backbone.vae, backbone.unet
    if job.recipe.loop.bfloat16:  # by torch's own call: diffusers' warns of an empty list
        vae, unet = (nn.Module.to(copy.deepcopy(model), torch.bfloat16) for model in (vae, unet))
    text_encoder = copy.deepcopy(backbone.text_encoder)
    old = CLIP_TOKENS if backbone.id.split("@")[0] in ARCHITECTURES else len(backbone.token_table)
    text_encoder.resize_token_embeddings(old + n, mean_resizing=False)
    table = text_encoder.get_input_embeddings().weight
    text_encoder.requires_grad_(False)
    table.requires_grad_(True)
    start = first_vectors(backbone, NOUN, n, job.recipe.spread, job.task.key)[VECTORS[0]]
    table.data[old:] = start.detach()

    rows = []
    for prompt in captions(backbone, job.recipe.loop.templates, Words(NOUN, n)):
        ids = list(prompt.ids)
        for position, _, number in prompt.learned:
            ids[position] = old + number
        rows.append(ids)
    return ReferenceModels(text_encoder, vae, unet, torch.tensor(rows, device=backbone.device), n)


def reference(job: LearningJob, plain: ReferenceModels, tick: Tick) -> None:
    """The training example, one step after the other; the new rows of its text encoder's table move."""
    backbone, loop = job.backbone, job.recipe.loop
    table = plain.text_encoder.get_input_embeddings().weight
    optimizer = torch.optim.AdamW([table], lr=RATE, weight_decay=DECAY)
    before = table.detach().clone()
    others = torch.ones(len(table), dtype=torch.bool, device=table.device)
    others[-plain.new :] = False
    draw = torch.Generator(backbone.device).manual_seed(0)
    device = backbone.device
    for _ in range(loop.steps):
        photos = torch.randint(len(job.files), (loop.batch,), generator=draw, device=device)
        read = np.stack([(pixels_of(job, n) / 127.5 - 1.0).astype(np.float32) for n in photos.tolist()])
        pixels = torch.from_numpy(read).permute(0, 3, 1, 2).to(device, plain.vae.dtype)
        with torch.no_grad():
            latents = plain.vae.encode(pixels).latent_dist.sample(generator=draw)
            latents = latents * plain.vae.config["scaling_factor"]
        eps = torch.randn(latents.shape, generator=draw, device=device).to(latents)
        t = torch.randint(len(backbone.alphas_cumprod), (loop.batch,), generator=draw, device=device)
        noisy = add_noise(backbone.alphas_cumprod, latents, eps, t)
        ids = plain.ids[torch.randint(len(plain.ids), (loop.batch,), generator=draw, device=device)]
        with torch.autocast(device.type, torch.bfloat16, enabled=bool(loop.bfloat16)):
            states = plain.text_encoder(ids)[0]
        predicted = plain.unet(noisy, t, encoder_hidden_states=states.to(latents)).sample
        target = training_target(backbone, latents, eps, t)
        F.mse_loss(predicted.float(), target.float()).backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            table[others] = before[others]
        tick()


# --- for people -----------------------------------------------------------------------------------------------------


def render(record: Mapping[str, Any]) -> str:
    """The record for people, one fact a line."""
    return "\n".join(_lines(record))


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    h, w = record["size_hw"]
    yield (
        f"textual inversion on {record['backbone']}, {h} x {w} px, batch {record['batch']}, {record['dtype']}, "
        f"{record['threads']} threads, {record['rounds']} turns of {record['steps']} steps"
    )
    photo_h, photo_w = max(record["photos_hw"])
    yield (
        f"{len(record['photos_hw'])} photos, the largest {photo_h} x {photo_w} px: the reference opens its batch's at "
        "every step, ours all of them once"
    )
    yield f"{'':<12}{'steps a s':>10}{'s a step':>10}   MB above the weights, and weights"
    for side in ("reference", "ours"):
        memory = shown(record[f"memory_{side}_mb"], ".0f")
        weights = f"{record[f'weights_{side}_mb']:.0f}"
        yield f"{side:<12}{1 / record[side]:>10.3g}{record[side]:>10.3g}   {memory}, {weights}"
    yield f"{'ratio':<12}{record['ratio']:>10.2f}{'':>10}   {shown(record['memory_ratio'], '.2f')}"
    yield (
        f"a concept ({record['concept_steps']} steps): {record['concept_seconds']:.0f} s, of which "
        f"{record['once_seconds']:.1f} s before the first step; the plain loop "
        f"{record['concept_seconds_reference']:.0f} s, ratio {record['concept_ratio']:.2f}"
    )
