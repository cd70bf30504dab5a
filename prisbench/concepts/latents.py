"""What is learned from: photos as latents, made once, those of one shape together.

Knows: photos, masks, the grid of latents.  Does not know: texts, the loss.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from prisbench.concepts.recipes import Loop
from prisbench.concepts.watch import Say, Watch
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.encodings import latents_of
from prisbench.diffusion.images import Geometry
from prisbench.errors import DataError
from prisbench.images.photos import SMALLEST_SIDE, pixels_sha256
from prisbench.types import Subject


class LatentBatch(NamedTuple):
    """Latents of one shape.  ``weights`` is the loss's weight of every cell: 0 in the padding.  ``photos``: the number
    of the subject's photo that each is of.
    """

    geometry: Geometry
    latents: Float[Tensor, "n c h w"]
    weights: Float[Tensor, "n h w"]
    photos: tuple[int, ...]


def photo_latents(backbone: Backbone, subject: Subject, loop: Loop, watch: Watch) -> tuple[LatentBatch, ...]:
    """A subject's photos, encoded once, and their mirror images where the recipe wants them.

    The rows of a step are drawn from one latent batch.  (SDXL is given the size a photo had, so
    there the photos of a latent batch agree in that, too.)  Raises DataError for photos that
    nothing can be learned from, and where the recipe wants masks and there are none.
    """
    _check_photos(subject, watch.say)
    if loop.masked:
        _check_masks(subject, loop.outside, watch.say)
    masks = subject.masks or (None,) * len(subject.photos)
    found: dict[tuple[Any, ...], list[tuple[Geometry, Tensor, Tensor, int]]] = {}
    for n, (photo, mask) in enumerate(zip(subject.photos, masks, strict=True)):
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
            shape += (geometry.photo_hw,) if backbone.sized else ()
            found.setdefault(shape, []).append((geometry, latents, weights, n))
    return tuple(
        LatentBatch(
            views[0][0],
            torch.cat([view[1] for view in views]),
            torch.cat([view[2] for view in views]),
            tuple(view[3] for view in views),
        )
        for views in found.values()
    )


def latent_batch(geometry: Geometry, latents: Float[Tensor, "n c h w"]) -> LatentBatch:
    """Pictures that are latents already."""
    n = len(latents)
    return LatentBatch(geometry, latents, _valid(geometry, latents).expand(n, -1, -1), tuple(range(n)))


def _valid(geometry: Geometry, latents: Tensor) -> Float[Tensor, "1 h w"]:
    grid = int(latents.shape[-2]), int(latents.shape[-1])
    h, w = geometry.valid_hw(grid)
    weights = torch.zeros(1, *grid, device=latents.device)
    weights[:, :h, :w] = 1
    return weights


def _covered(mask: Tensor, geometry: Geometry, factor: int) -> Float[Tensor, "h w"]:
    """The share of every latent cell that a mask covers, on the part of the grid that shows the
    photo.
    """
    shown = F.interpolate(mask[None, None].float(), size=geometry.resized_hw, mode="area")
    bottom, right = (-n % factor for n in geometry.resized_hw)
    return F.avg_pool2d(F.pad(shown, (0, right, 0, bottom)), factor)[0, 0]


def _check_photos(subject: Subject, say: Say) -> None:
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


def _check_masks(subject: Subject, outside: float, say: Say) -> None:
    """Raises DataError where a loss that counts within the masks, and ``outside`` of them less,
    has none to go by.
    """
    photos = subject.photos
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
    for n, (photo, mask) in enumerate(zip(photos, subject.masks, strict=True), 1):
        if mask is not None and mask.shape != photo.shape[:2]:
            (h, w), (height, width) = mask.shape, photo.shape[:2]
            raise DataError(
                f"learner.masked: mask {n} of {subject.id!r} is {h} x {w}, its photo {height} x {width} (h x w)"
            )
    if not all(mask.any() for mask in masks):
        raise DataError(f"learner.masked: a mask of {subject.id!r} is empty; draw the subject white, or remove it")
    say(f"the loss of {len(masks)} of {len(photos)} photos weighs {outside:g} outside of their masks")
