"""One picture with its outlines, and one text, as they are shown on a sheet or a page.

Knows: how masks are outlined, how large a picture is drawn, which characters are printable.  Does not know: which
queries are shown, how pictures are laid out, whether masks are right (``validate``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from scipy import ndimage

from prisbench.errors import DataError
from prisbench.images.drawing import GREEN, ORANGE, PINK, SKY
from prisbench.images.photos import fit_within

LONGEST = 400
"""Characters of a text that are shown."""


@dataclass(frozen=True, eq=False)
class OutlinedPicture:
    """An image and what is outlined in it; ``seen`` says that in words.

    ``overlay`` is as large as the image, red, green, blue and opacity; None when there is nothing to outline.
    ``beside`` is the part of ``seen`` that tells what stands beside the subject.
    """

    image: UInt8[np.ndarray, "h w 3"]
    overlay: UInt8[np.ndarray, "h w 4"] | None
    seen: str
    beside: str = ""


UNMEANT = "subject (not meant)"

DASHED = {"look-alike": SKY, "copy": ORANGE, UNMEANT: ORANGE, "landmark": GREEN}
"""What may stand beside the thing that a text means, and the colour of its dashes."""

GRADED = ("look-alike", "landmark")
"""Of these a grade says more than what they are."""


def beside(role: str, grade: str | None, meant: bool) -> str | None:
    """What a thing of a scene is beside the one that the text means, a key of ``DASHED``; None for the one that is
    meant and for what is nothing to the query.
    """
    if grade == "copy":
        return "copy"
    if role in ("look-alike", "landmark"):
        return role
    return UNMEANT if role == "subject" and not meant else None


@dataclass(frozen=True, eq=False)
class Beside:
    """A thing beside the one that a text means: its mask, what it is (a key of ``DASHED``), a look-alike's grade."""

    mask: Bool[np.ndarray, "h w"]
    what: str = "look-alike"
    grade: str | None = None


def draw(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "_h _w"] | None,
    others: Sequence[Beside],
    side: int,
    where: str,
) -> OutlinedPicture:
    """A picture at most ``side`` pixels long; outlines are drawn after shrinking, so none gets lost.

    A very small image is enlarged by a whole number, without blur.  ``mask`` None: nothing is known about it.
    Raises DataError, naming ``where``, for a mask of another size.
    """
    h, w = image.shape[:2]
    for each in (mask, *(other.mask for other in others)):
        if each is not None and each.shape != (h, w):
            raise DataError(f"{where} is damaged: a mask of {each.shape} (h, w) on an image of {(h, w)}")
    times = max(1, side // max(h, w))
    small = np.repeat(np.repeat(image, times, axis=0), times, axis=1) if times > 1 else fit_within(image, side)
    size_hw = small.shape[0], small.shape[1]
    overlay = np.zeros((*size_hw, 4), np.uint8)
    for other in others:
        _paint(overlay, _mask_at(other.mask, size_hw), DASHED[other.what], dashed=True)
    if mask is not None and mask.any():
        _paint(overlay, _mask_at(mask, size_hw), PINK, dashed=False)
    seen = f"{w} × {h} pixels"
    if mask is not None:
        seen += f", the subject covers {_percent(float(mask.mean()))}" if mask.any() else ", without the subject"
    words = beside_words(others)
    seen += f", {words}" if words else ""
    return OutlinedPicture(small, overlay if overlay.any() else None, seen, words)


def beside_words(others: Sequence[Beside]) -> str:
    """What stands beside the subject: "2 look-alikes (colour, swap), 1 copy"."""
    parts = []
    for what, plural in zip(DASHED, ("look-alikes", "copies", UNMEANT, "landmarks"), strict=True):
        found = [other for other in others if other.what == what]
        grades = ", ".join(other.grade or "unknown" for other in found) if any(o.grade for o in found) else ""
        if what == UNMEANT:
            parts += [f"the {what}"] * bool(found)
        elif found:
            parts.append(f"{len(found)} {what if len(found) == 1 else plural}" + (f" ({grades})" if grades else ""))
    return ", ".join(parts)


def flat(picture: OutlinedPicture) -> UInt8[np.ndarray, "h w 3"]:
    """The image with its outlines on it."""
    if picture.overlay is None:
        return picture.image
    opacity = picture.overlay[..., 3:].astype(np.float32) / 255
    mixed = picture.image * (1 - opacity) + picture.overlay[..., :3] * opacity
    return np.asarray(mixed.round(), np.uint8)


def shown(text: str) -> str:
    """A text as one short line of printable characters.

    Line ends, tabs and marks that turn the direction of writing around would reach beyond the text; all else stays.
    """
    cut = text[: LONGEST + 1]
    line = "".join(c if c.isprintable() or c in "\u200c\u200d" else " " if c.isspace() else "\ufffd" for c in cut)
    line = " ".join(line.split())
    return line if len(line) <= LONGEST and len(text) <= LONGEST else line[: LONGEST - 1] + "…"


def _percent(share: float) -> str:
    if share < 1e-4:
        return "less than 0.01%"
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.2g}%"


def _mask_at(mask: Bool[np.ndarray, "h w"], size_hw: tuple[int, int]) -> Bool[np.ndarray, "h2 w2"]:
    """The mask at another size: shrunk, a pixel counts when half of what it covers does; the fullest if none would."""
    h, w = size_hw
    if h >= mask.shape[0] and w >= mask.shape[1]:
        return np.repeat(np.repeat(mask, h // mask.shape[0], axis=0), w // mask.shape[1], axis=1)
    share = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((w, h), Image.Resampling.BOX))
    return share > min(0.5, 0.999 * float(share.max()))


def _paint(
    overlay: UInt8[np.ndarray, "h w 4"], mask: Bool[np.ndarray, "h w"], colour: tuple[int, int, int], dashed: bool
) -> None:
    """Outline a mask in a dark casing, so that it stands out on any ground; a tint inside when it is not dashed.

    What is too small to be seen gets a ring around it.
    """
    h, w = mask.shape
    rows, columns = np.indices((h, w))
    ys, xs = np.nonzero(mask)
    width = max(1, round(max(h, w) / 120))
    edge = mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=0)
    least = max(h, w) / 24
    if max(np.ptp(ys), np.ptp(xs)) < least:
        distance = np.hypot(rows - ys.mean(), columns - xs.mean())
        edge |= np.abs(distance - 1.5 * least) <= width / 2 + 0.2
    casing = ndimage.binary_dilation(edge, iterations=1) & ~edge & ~mask
    if not dashed:
        inside = mask & ~edge
        overlay[inside] = (*colour, 40)
    else:
        casing |= edge
        edge = edge & ((rows + columns) // (3 * width + 2) % 2 == 0)
    overlay[casing] = (20, 20, 20, 160)
    overlay[edge] = (*colour, 255)
