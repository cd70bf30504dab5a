"""The loop that all learners share: something in a frozen model moves until it predicts the noise of photos better.

    shelves   the photos' latents, made once, those of one shape together
    lesson    shelves, and the texts their pictures are learned under
    group     what moves, and how fast
    run       lessons and groups -> the learned values, by name

Knows: latents, noise, the loss, the optimizer, checkpoints.  Does not know: what a learner moves or why, files of
concepts.

All chance in step n is drawn from a hash of the concept's key and n.  So a run that was stopped at any moment, however
it was stopped, goes on from its last checkpoint as if nothing had been, bit for bit; and several processes, which share
the batches of a step, draw what one would.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int16, Int32
from torch import Tensor, nn
from torch.nn import functional as F

from prisbench.concepts.recipes import Loop
from prisbench.diffusion.backbone import (
    Backbone,
    Conditioning,
    Geometry,
    add_noise,
    condition,
    eager_attention,
    training_target,
)
from prisbench.diffusion.encodings import latents_of
from prisbench.diffusion.prompts import Prompt, Words, compose
from prisbench.errors import BackboneError, DataError, UsageError, WriteError
from prisbench.images.photos import SMALLEST_SIDE, pixels_sha256
from prisbench.runtime.checkpoints import (
    Checkpoint,
    moments,
    put_moments,
    read_checkpoint,
    read_header,
    write_checkpoint,
)
from prisbench.runtime.devices import Together, side_by_side
from prisbench.runtime.files import write_errors
from prisbench.runtime.seeds import seed_of
from prisbench.speed.lean import lean
from prisbench.types import SLOT, Subject

FORMAT = 1
"""Of checkpoints."""

MEASURED = 3
"""After so many steps the time the rest will take is said."""

Progress = Callable[[int, int, float], None]
"""Called after each step with the step, their number, and the loss."""

Say = Callable[[str], None]
"""Called with one line for the user."""


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """What goes on beside learning and decides nothing of its result.

    ``store`` keeps checkpoints (None: none), one every ``checkpoint_seconds`` or, where writing takes long, so seldom
    that it takes a twentieth of the time; 0 writes one after every step.  ``spare`` keeps what the store cannot,
    where it may not be written or is full.  ``encodings`` keeps what the encoders made, by content.
    """

    progress: Progress | None = None
    say: Say = _silent
    store: Path | None = None
    checkpoint_seconds: float = 30.0
    encodings: Path | None = None
    spare: Path | None = None
    warn: Say | None = None

    def caution(self, line: str) -> None:
        """Say what the user should know in any case: to ``warn``, or to ``say`` where there is none."""
        (self.warn or self.say)(line)


# --- pictures -------------------------------------------------------------------------------------------------------


class Shelf(NamedTuple):
    """Pictures of one shape.  ``weights`` is the loss's weight of every latent cell: 0 in the padding."""

    geometry: Geometry
    latents: Float[Tensor, "n c h w"]
    weights: Float[Tensor, "n h w"]


def photo_shelves(backbone: Backbone, subject: Subject, loop: Loop, watch: Watch) -> tuple[Shelf, ...]:
    """A subject's photos, encoded once, and their mirror images where the recipe asks; a batch is drawn from one shelf.

    (SDXL hears the size a photo had, so there the photos of a shelf agree in that, too.)
    Raises DataError for photos that nothing can be learned from, and where masks are asked for and there are none.
    """
    _check_photos(subject, loop, watch.say)
    masks = subject.masks or (None,) * len(subject.photos)
    found: dict[tuple[Any, ...], list[tuple[Geometry, Tensor, Tensor]]] = {}
    for photo, mask in zip(subject.photos, masks, strict=True):
        for mirrored in (False, True) if loop.flip else (False,):
            view = np.ascontiguousarray(photo[:, ::-1]) if mirrored else photo
            latents, geometry = latents_of(watch.encodings, backbone, view, loop.working_size)
            weights = _valid(geometry, latents)
            if loop.masked and mask is not None:
                covered = _covered(torch.from_numpy(np.ascontiguousarray(mask)), geometry, backbone.vae_factor)
                covered = covered.flip(-1) if mirrored else covered
                h, w = covered.shape
                weights[..., :h, :w] *= (loop.outside + (1 - loop.outside) * covered).to(weights)
            shape: tuple[Any, ...] = (geometry.resized_hw, geometry.padded_hw)
            shape += (geometry.photo_hw,) if backbone.text_encoder_2 is not None else ()
            found.setdefault(shape, []).append((geometry, latents, weights))
    return tuple(
        Shelf(views[0][0], torch.cat([view[1] for view in views]), torch.cat([view[2] for view in views]))
        for views in found.values()
    )


def latent_shelf(geometry: Geometry, latents: Float[Tensor, "n c h w"]) -> Shelf:
    """Pictures that are latents already."""
    return Shelf(geometry, latents, _valid(geometry, latents).expand(len(latents), -1, -1))


def _valid(geometry: Geometry, latents: Tensor) -> Float[Tensor, "1 h w"]:
    grid = int(latents.shape[-2]), int(latents.shape[-1])
    h, w = geometry.valid_hw(grid)
    weights = torch.zeros(1, *grid, device=latents.device)
    weights[:, :h, :w] = 1
    return weights


def _covered(mask: Tensor, geometry: Geometry, factor: int) -> Float[Tensor, "h w"]:
    """The share of every latent cell that a mask covers, on the part of the grid that shows the photo."""
    shown = F.interpolate(mask[None, None].float(), size=geometry.resized_hw, mode="area")
    bottom, right = (-n % factor for n in geometry.resized_hw)
    return F.avg_pool2d(F.pad(shown, (0, right, 0, bottom)), factor)[0, 0]


def _check_photos(subject: Subject, loop: Loop, say: Say) -> None:
    if not subject.photos:
        raise DataError(f"subject {subject.id!r} has no photos to learn from")
    for n, photo in enumerate(subject.photos, 1):
        h, w = photo.shape[:2]
        if min(h, w) < SMALLEST_SIDE:
            raise DataError(
                f"photo {n} of {subject.id!r} is {w} x {h} pixels, too small to learn from; the shorter side must have "
                f"at least {SMALLEST_SIDE}"
            )
    photos = [pixels_sha256(photo) for photo in subject.photos]
    if len(photos) > 1 and len(set(photos)) == 1:
        say(f"all {len(photos)} photos of {subject.id!r} are the same picture: this learns no more than from one")
    elif len(set(photos)) < len(photos):
        say(f"{len(photos) - len(set(photos))} photos of {subject.id!r} are copies of others; they count twice")
    if not loop.masked:
        return
    masks = [mask for mask in subject.masks if mask is not None]
    if not masks:
        raise DataError(
            f"learner.masked: no photo of {subject.id!r} has a mask; give masks beside the photos, or leave it out"
        )
    if len(subject.masks) != len(photos):
        raise DataError(
            f"learner.masked: {subject.id!r} has {len(subject.masks)} masks for {len(photos)} photos; give each photo "
            "one, None where there is none"
        )
    for n, (photo, mask) in enumerate(zip(subject.photos, subject.masks, strict=True), 1):
        if mask is not None and mask.shape != photo.shape[:2]:
            (h, w), (height, width) = mask.shape, photo.shape[:2]
            raise DataError(
                f"learner.masked: mask {n} of {subject.id!r} is {h} x {w}, its photo {height} x {width} (h x w)"
            )
    if not all(mask.any() for mask in masks):
        raise DataError(f"learner.masked: a mask of {subject.id!r} is empty; draw the subject white, or remove it")
    say(f"the loss of {len(masks)} of {len(photos)} photos weighs {loop.outside:g} outside of their masks")


# --- texts ----------------------------------------------------------------------------------------------------------

Hear = Callable[[Int[Tensor, "b"], Geometry], Conditioning]
"""The text of each picture of a batch, by its number, as the U-Net hears it."""


def captions(backbone: Backbone, templates: tuple[str, ...], words: Words) -> list[Prompt]:
    """The templates about these words.  Raises UsageError for a noun without tokens, and for texts too long."""
    return [compose(backbone.tokenizer, template, {SLOT.strip("{}"): words}) for template in templates]


def hearing(
    backbone: Backbone, prompts: Sequence[Prompt], vectors: Mapping[str, Tensor] | None = None, moving: bool = True
) -> Hear:
    """How prompts are heard, each once a batch.  ``vectors`` stand in their slot, by text encoder.

    ``moving``: they, or the text encoder's weights, are learned; otherwise the text is read once and for all.
    """
    read: dict[Geometry, Conditioning] = {}
    slots = None if vectors is None else {SLOT.strip("{}"): vectors}

    def moving_text(which: Tensor, geometry: Geometry) -> Conditioning:
        used, inverse = which.unique(return_inverse=True)
        return condition(backbone, [prompts[i] for i in used.tolist()], slots, geometry).rows(inverse)

    def fixed_text(which: Tensor, geometry: Geometry) -> Conditioning:
        if geometry not in read:
            with torch.no_grad():
                read[geometry] = condition(backbone, prompts, slots, geometry)
        return read[geometry].rows(which)

    return moving_text if moving else fixed_text


# --- the loss -------------------------------------------------------------------------------------------------------


class Lesson(NamedTuple):
    """Pictures, the texts they are learned under (``texts`` of them), and what their loss weighs."""

    shelves: tuple[Shelf, ...]
    texts: int
    hear: Hear
    weight: float = 1.0


def denoising_loss(
    backbone: Backbone,
    latents: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "b h w"],
    eps: Float[Tensor, "b c h w"],
    t: Int[Tensor, "b"],
    text: Conditioning,
    min_snr: float | None = None,
) -> Float[Tensor, ""]:
    """Squared error of what the model says of the noise (or the velocity), the weighted mean of each row's cells, then
    the mean of the rows; ``min_snr``: see ``Loop``.
    """
    noisy = add_noise(backbone.alphas_cumprod, latents, eps, t)
    predicted = backbone.unet(
        noisy,
        t.to(backbone.device),
        encoder_hidden_states=text.states,
        added_cond_kwargs=text.added,
        return_dict=False,
    )[0]
    target = training_target(backbone, latents, eps, t)
    error = (predicted.float() - target.float()).square().mean(1)
    rows = (error * weights).sum((1, 2)) / weights.sum((1, 2))
    if min_snr is not None:
        signal = backbone.alphas_cumprod.to(rows)[t.to(rows.device)]
        ratio = signal / (1 - signal)
        # A velocity's error is already (ratio + 1) times that of the clean latents, a noise's error ratio times.
        rows = rows * ratio.clamp(max=min_snr) / (ratio + (backbone.prediction_type == "v_prediction"))
    return rows.mean()


def chance(key: str, step: int, part: int = 0) -> torch.Generator:
    """The only source of chance in a part of a step; step -1 is before the first."""
    return torch.Generator().manual_seed(seed_of(key, step, part))


def _at_once(device: torch.device, loop: Loop) -> int:
    """The rows of a batch that are computed in one piece.  Half of them on a CPU however many cores it has, so that
    what is learned does not depend on that; in bfloat16 all, since there two halves side by side were found to differ
    in their last bits from run to run (torch 2.13, a CPU without instructions for bfloat16).
    """
    return math.ceil(loop.batch / 2) if device.type == "cpu" and not loop.bfloat16 else loop.batch


def _add_gradients(
    backbone: Backbone,
    lesson: Lesson,
    loop: Loop,
    draw: torch.Generator,
    moving: Sequence[Tensor],
    scale: float,
    together: Together,
) -> Tensor:
    """The loss of one batch, ``scale`` times; its gradients are added to those of what moves.

    On a CPU in float32 the batch is computed in two halves, ``together``.  The text is heard once for both, so they
    learn what its gradient is, and what moves in the text encoders learns it from them.
    """
    sizes = torch.tensor([float(len(shelf.latents)) for shelf in lesson.shelves])
    shelf = lesson.shelves[int(torch.multinomial(sizes, 1, generator=draw))]
    rows = torch.randint(len(shelf.latents), (loop.batch,), generator=draw)
    which = torch.randint(lesson.texts, (loop.batch,), generator=draw)
    t = torch.randint(*loop.timesteps, (loop.batch,), generator=draw)
    rows = rows.to(shelf.latents.device)
    latents = shelf.latents[rows]
    eps = torch.randn(latents.shape, generator=draw).to(latents)
    weights = shelf.weights[rows]

    def mixed() -> torch.autocast:
        return torch.autocast(backbone.device.type, torch.bfloat16, enabled=bool(loop.bfloat16))

    with mixed():
        text = lesson.hear(which, shelf.geometry)
    heard = [tensor for tensor in (text.states, *(text.added or {}).values()) if tensor.requires_grad]

    def part(some: slice) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        cut = {id(tensor): tensor[some].detach().requires_grad_() for tensor in heard}
        added = text.added and {name: cut.get(id(x), x[some]) for name, x in text.added.items()}
        own = Conditioning(cut.get(id(text.states), text.states[some]), added)
        with mixed():
            loss = denoising_loss(backbone, latents[some], weights[some], eps[some], t[some], own, loop.min_snr)
        loss = loss * (scale * len(latents[some]) / loop.batch)
        return loss.detach(), torch.autograd.grad(loss, [*cut.values(), *moving], allow_unused=True)

    size = _at_once(backbone.device, loop)
    parts = together([partial(part, slice(i, i + size)) for i in range(0, loop.batch, size)])
    if heard:
        of_text = zip(*(gradients[: len(heard)] for _, gradients in parts), strict=True)
        torch.autograd.backward(heard, [torch.cat(rows) for rows in of_text])
    for _, gradients in parts:
        for parameter, gradient in zip(moving, gradients[len(heard) :], strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return torch.stack([loss for loss, _ in parts]).sum()


# --- what moves -----------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """Parameters that move together, by the name their values have in a concept."""

    parameters: Mapping[str, Tensor]
    learning_rate: float


@contextmanager
def loosened(parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """A frozen model's own parameters, free to be learned: as float32 copies, and with gradients.

    Afterwards the model has its own storage back, bit for bit, however the body ends.
    """
    before = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            parameter.data = parameter.data.to(torch.float32, copy=True)
            parameter.requires_grad_(True)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(False)
            parameter.grad = None
            parameter.data = before[name]


@contextmanager
def halved(backbone: Backbone, moving: Mapping[str, Tensor], wanted: bool) -> Iterator[None]:
    """The frozen weights that mixed precision would round to bfloat16 in every step, rounded once.

    The same numbers come out: those of linear and convolutional layers, and nothing that moves.  What rounding takes
    away is kept beside them, so the weights need no more memory than before, and afterwards they are what they were,
    bit for bit.
    """
    kept = {id(parameter) for parameter in moving.values()}
    remainders: list[tuple[Tensor, Remainder]] = []
    try:
        for model in (backbone.unet, backbone.text_encoder, backbone.text_encoder_2) if wanted else ():
            layers = [] if model is None else [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
            weights: dict[int, Tensor] = {id(p): p for layer in layers for p in layer.parameters(recurse=False)}
            for weight in weights.values():
                if id(weight) not in kept and weight.dtype is torch.float32:
                    weight.data, remainder = rounded(weight.data)
                    remainders.append((weight, remainder))
        yield
    finally:
        for weight, remainder in remainders:
            weight.data = whole(weight.data, remainder)


class Remainder(NamedTuple):
    """What the rounding of float32 to bfloat16 takes away: the difference of both as integers.  Where a number halfway
    between two was rounded down it is 2**15, one more than 16 bits hold; ``halfway`` says where.
    """

    low: Int16[Tensor, "..."]
    halfway: Int32[Tensor, "n"]


def rounded(value: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Remainder]:
    """float32 as torch rounds it to bfloat16, and the remainder."""
    high = value.to(torch.bfloat16)
    difference = value.contiguous().view(torch.int32) - (high.contiguous().view(torch.int16).to(torch.int32) << 16)
    halfway = (difference.flatten() == 2**15).nonzero()[:, 0].to(torch.int32)
    return high, Remainder((difference - (difference == 2**15).to(torch.int32) * 2**16).to(torch.int16), halfway)


def whole(high: Float[Tensor, "..."], remainder: Remainder) -> Float[Tensor, "..."]:
    """The float32 that was rounded, bit for bit."""
    bits = (high.contiguous().view(torch.int16).to(torch.int32) << 16) + remainder.low
    bits.view(-1)[remainder.halfway.long()] += 2**16
    return bits.view(torch.float32)


class Task(NamedTuple):
    """Which concept is learned.

    ``key`` is its id; ``versionless`` what that would be without the recipe's version, by which a checkpoint of another
    version is known; ``name`` says it to the user.
    """

    key: str
    versionless: str
    version: int
    name: str


@dataclass(eq=False)
class _State:
    """Where a run is: all that a checkpoint holds beside the parameters and the optimizer's moments."""

    step: int = 0
    losses: list[float] = field(default_factory=list)
    total: dict[str, Tensor] = field(default_factory=dict)


def run(
    backbone: Backbone, task: Task, lessons: Sequence[Lesson], groups: Sequence[Group], loop: Loop, watch: Watch
) -> dict[str, np.ndarray]:
    """The learned values by name, and ``losses``, one a step.  The parameters hold the last step's values then.

    Nothing but the groups' parameters moves.  Raises BackboneError when the loss stops being a number, WriteError when
    a checkpoint cannot be written, UsageError when the batches of a step cannot be shared evenly by the processes.
    """
    moving = {name: parameter for group in groups for name, parameter in group.parameters.items()}
    team = processes(backbone.device)
    rank, size = (team.process_index, team.num_processes) if team else (0, 1)
    if loop.accumulate % size:
        raise UsageError(f"{size} processes share the batches of a step: learner.accumulate must be a multiple of it")
    optimizer = torch.optim.AdamW(
        [{"params": list(group.parameters.values()), "lr": group.learning_rate} for group in groups],
        weight_decay=loop.weight_decay,
    )
    state = _State()
    if watch.store is not None:
        _mention_other_versions(task, watch)
        state = _resumed(task, moving, optimizer, _furthest(task, watch))
    first, averaged = state.step, loop.steps * (1 - loop.average_last)
    if not rank:
        watch.say(_cost(backbone, task.name, loop, len(lessons), moving, first))
    start = written = time.monotonic()
    wait = watch.checkpoint_seconds
    half = bool(loop.bfloat16)
    with (
        _recomputing(backbone, loop.checkpointing),
        eager_attention(backbone) if half else nullcontext(),  # in float32 the fused one is as fast and keeps less
        halved(backbone, moving, half),
        lean(backbone.unet),
        side_by_side(backbone.device.type) as together,
    ):
        for step in range(first, loop.steps):
            for param_group, group in zip(optimizer.param_groups, groups, strict=True):
                param_group["lr"] = group.learning_rate * min(1.0, (step + 1) / (loop.warmup + 1))
            optimizer.zero_grad()
            loss = torch.zeros((), device=backbone.device)
            for part in range(rank, loop.accumulate, size):
                draw = chance(task.key, step, part)
                for lesson in lessons:
                    scale = lesson.weight / loop.accumulate
                    loss += _add_gradients(backbone, lesson, loop, draw, list(moving.values()), scale, together)
            if team:
                _sum_up(loss, moving)
            if not torch.isfinite(loss):
                raise BackboneError(f"{task.name} diverged at step {step}: the loss is {loss.item()}")
            if loop.clip is not None:
                torch.nn.utils.clip_grad_norm_(list(moving.values()), loop.clip)
            optimizer.step()

            state.step = step + 1
            state.losses.append(loss.item())
            if loop.average_last and step >= averaged:
                for name, parameter in moving.items():
                    known = state.total.get(name)
                    state.total[name] = parameter.detach().clone() if known is None else known + parameter.detach()
            if rank:
                continue
            if watch.progress:
                watch.progress(step + 1, loop.steps, state.losses[-1])
            now = time.monotonic()
            if step + 1 == first + MEASURED:
                watch.say(_measured((now - start) / MEASURED, loop.steps - step - 1, backbone.device))
            if watch.store is not None and step + 1 < loop.steps and now - written >= wait:
                watch = _checkpointed(task, moving, optimizer, state, watch)
                written = time.monotonic()
                wait = wait and max(wait, 20 * (written - now))
    kept = sum(step >= averaged for step in range(loop.steps)) if state.total else 0
    values = {name: state.total[name] / kept if kept else p.detach() for name, p in moving.items()}
    for name, value in values.items():
        if not torch.isfinite(value).all():
            raise BackboneError(f"{task.name} diverged: {name} is no longer a number")
    learned = {name: value.float().cpu().numpy().copy() for name, value in values.items()}
    return learned | {"losses": np.asarray(state.losses, np.float32)}


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


# --- several processes ----------------------------------------------------------------------------------------------


def processes(device: torch.device) -> Any:
    """The processes that ``accelerate launch`` (or torchrun) started; None when this one is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import PartialState

    return PartialState(cpu=device.type == "cpu")


def _sum_up(loss: Tensor, moving: Mapping[str, Tensor]) -> None:
    """The loss and the gradients of all processes, in every one of them."""
    torch.distributed.all_reduce(loss)
    for parameter in moving.values():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)


# --- what it costs --------------------------------------------------------------------------------------------------


def _cost(backbone: Backbone, name: str, loop: Loop, lessons: int, moving: Mapping[str, Tensor], first: int) -> str:
    """What learning will take, in words, before anything was measured."""
    count = sum(parameter.numel() for parameter in moving.values())
    # float32: the values, their gradients, two moments, the average, and the frozen values where they are the model's.
    held = 4 * count * (4 + bool(loop.average_last)) / 2**20
    pictures = loop.batch * loop.accumulate * lessons
    begun = f", going on from step {first}" if first else ""
    return (
        f"{name} on {backbone.id}: {loop.steps} steps of {pictures} pictures{begun}; {count:,} numbers learned, "
        f"{max(1, math.ceil(held))} MB for them beside the network's own work"
    )


def _measured(seconds: float, left: int, device: torch.device) -> str:
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


# --- checkpoints ----------------------------------------------------------------------------------------------------


def checkpoint_path(store: Path, key: str) -> Path:
    """One file, replaced in one step: safetensors, whose header says what it is a part of."""
    return store / f".partial-{key}" / "checkpoint.safetensors"


def forget(store: Path, key: str) -> None:
    """Remove the checkpoint of a concept; call it once the concept is in the store."""
    shutil.rmtree(checkpoint_path(store, key).parent, ignore_errors=True)


def _furthest(task: Task, watch: Watch) -> Watch:
    """The watch over that one of its stores which holds the later checkpoint."""
    stores = [store for store in (watch.store, watch.spare) if store is not None]
    steps = [int((read_header(checkpoint_path(store, task.key)) or {}).get("step", -1)) for store in stores]
    return replace(watch, store=stores[steps.index(max(steps))])


def _checkpointed(
    task: Task, moving: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, state: _State, watch: Watch
) -> Watch:
    """Write a checkpoint into the store, or into the spare one where that fails; the watch to go on with."""
    assert watch.store is not None
    try:
        _write_checkpoint(task, moving, optimizer, state, watch.store)
        return watch
    except WriteError as error:
        if watch.spare is None:
            raise
        watch.caution(f"{error}; learning goes on, its checkpoints are kept in {watch.spare}")
        _write_checkpoint(task, moving, optimizer, state, watch.spare)
        return replace(watch, store=watch.spare, spare=None)


def _write_checkpoint(
    task: Task, moving: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, state: _State, store: Path
) -> None:
    """Raises WriteError; an earlier checkpoint is then as it was."""
    tensors = {f"value.{name}": parameter for name, parameter in moving.items()}
    tensors |= moments(optimizer, moving, "moment.")
    tensors |= {f"total.{name}": value for name, value in state.total.items()}
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    header = {"format": FORMAT, "key": task.key, "versionless": task.versionless, "version": task.version}
    header |= {"step": state.step}
    path = checkpoint_path(store, task.key)
    with write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(path, Checkpoint(tensors, {name: str(value) for name, value in header.items()}))


def _resumed(task: Task, moving: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, watch: Watch) -> _State:
    """The state in the task's checkpoint, parameters and moments in their places; a new state where there is none."""
    assert watch.store is not None
    path = checkpoint_path(watch.store, task.key)
    header = read_header(path)
    if header is None:
        if path.exists():
            watch.say(f"{path} is no checkpoint that can be read; learning starts again")
        return _State()
    if header.get("format") != str(FORMAT) or header.get("key") != task.key:
        watch.say(f"{path} is of another version of prisbench; learning starts again")
        return _State()
    tensors = read_checkpoint(path).tensors
    wanted = {name: f"value.{name}" for name in moving}
    if any(name not in tensors or tensors[name].shape != moving[own].shape for own, name in wanted.items()):
        watch.say(f"{path} holds something else; learning starts again")
        return _State()
    total = {}
    for name, parameter in moving.items():
        parameter.data.copy_(tensors[f"value.{name}"])
        if (value := tensors.get(f"total.{name}")) is not None:
            total[name] = value.to(parameter.device)
    put_moments(optimizer, moving, tensors, "moment.")
    return _State(int(header["step"]), tensors["losses"].tolist(), total)


def _mention_other_versions(task: Task, watch: Watch) -> None:
    """Say that a checkpoint of the same thing by another recipe version is there; it is left alone."""
    assert watch.store is not None
    for path in sorted(watch.store.glob(".partial-*/checkpoint.safetensors")):
        header = read_header(path) or {}
        if header.get("versionless") == task.versionless and header.get("key") != task.key:
            watch.say(
                f"{path.parent} is a checkpoint of {task.name} by recipe version {header.get('version')}, this is "
                f"version {task.version}: learning starts again; remove the folder, it is of no use here"
            )
