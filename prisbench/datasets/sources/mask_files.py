"""The one reader of binary masks: a PNG to the pixels of one thing, or one line saying why it is not clear which.

Knows: which values of a file are the thing, soft edges, masks drawn on a turned photo.
Does not know: how a PNG stores them (``mask_levels``), labels of several things (``images.label_file``), layouts,
which photo a mask belongs to.

What is clear without being told:

- two values, one of them 0: the other one is the thing, whatever number it is;
- one value: 0 is an empty mask, 1 or the brightest level (255, 65535) a thing that fills the photo;
- soft edges of grey: cut at half of the file's range (of 0..255, 128 and more is the thing).  Most pixels are 0 or one
  level in the top 2 % of the range; all others lie within ``EDGE`` pixels of the cut, or are thin lines that hang on
  the thing, a tenth of its size at most; they are no even patches, and some of them are neither nearly black nor nearly
  white.  So noise, instance numbers, trimaps and probability maps are none.

Everything else is refused with its values and how many pixels have each; ``MaskRule.values`` then says which are meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from prisbench.datasets.remarks import Remarks
from prisbench.datasets.sources.mask_levels import Levels, coloured_levels, levels_of
from prisbench.datasets.sources.reading.images import check_size, png_data, png_file
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.photos import turned

EDGE = 8
"""Pixels.  A soft edge is no wider on either side: the tail of a blur of standard deviation 2.5, a block of JPEG."""

FRAMES = ("upright", "raw")
"""What a mask was drawn on: the photo as it is shown, or its stored pixels, before its EXIF orientation turns them."""

_TOP_SHARE = 0.02
_FAINT_SHARE = 0.1
_SAID = 8
"""So many values of a file are listed each; of more, the most frequent."""


@dataclass(frozen=True)
class MaskRule:
    """What a user says of masks.

    ``values``: ranges (first, last) of the file's own numbers that are the thing: palette indices, grey levels, or
    levels of alpha where that is all there is; None when nothing is said.  ``frame``: see ``FRAMES``; None when nothing
    is said.  ``value_option``, ``frame_option``: how the two are said where the masks are read from, like
    "mask_value="; empty where they cannot be.  ``absent``: somebody said that the thing is not there.
    """

    values: tuple[tuple[int, int], ...] | None = None
    frame: str | None = None
    value_option: str = ""
    frame_option: str = ""
    absent: bool = False


PLAIN = MaskRule()
"""Nothing is said, and nothing can be."""


def parse_rule(value: str | None, frame: str | None, value_option: str, frame_option: str) -> MaskRule:
    """The rule in words: ``value`` like "1", "1,2" or "128-255".  Raises UsageError for any other text or frame."""
    if frame is not None and frame not in FRAMES:
        raise UnknownNameError(f"frame ({frame_option.strip(' =')})", frame, FRAMES)
    return MaskRule(None if value is None else _ranges(value, value_option), frame, value_option, frame_option)


def mask_file(
    path: Path,
    size_hw: tuple[int, int] | None,
    where: str = "",
    rule: MaskRule = PLAIN,
    turn: int = 1,
    remarks: Remarks | None = None,
) -> Bool[np.ndarray, "h w"]:
    """The thing's pixels by a PNG, as the photo is shown.

    ``size_hw``: the photo's size as it is shown, None for any.  ``turn``: the photo's EXIF orientation where the mask
    was drawn on its stored pixels, else 1; a mask with an orientation of its own is turned by that one instead.
    ``remarks`` takes notes of soft edges, values that were taken as background, and masks that look turned inside out.

    Raises DataError naming ``where`` and the file when it is missing, damaged, no PNG, in colour, of another size or
    too large to open, and when it does not say which pixels are the thing.
    """
    name = f"{where}: {path}" if where else str(path)
    png = png_file(path, where)
    levels = levels_of(png, name)
    if png.turned != 1 and remarks is not None:
        remarks.add("masks turned by an EXIF orientation of their own", path, f"orientation {png.turned}")
    turn = turn if png.turned == 1 else 1
    h, w = levels.numbers.shape
    drawn_hw = size_hw[::-1] if size_hw is not None and turn >= 5 else size_hw
    check_size((h, w), drawn_hw, name, turned_question(rule))
    return turned(_mask(levels, name, rule, path, remarks), turn)


def turned_question(rule: MaskRule) -> str:
    """What to ask where a mask has its photo's height and width exchanged, and what to say then."""
    if rule.frame == "raw":
        return f"was it drawn on the photo as it is shown? then say {rule.frame_option}upright"
    cure = f" then say {rule.frame_option}raw" if rule.frame_option else ""
    return f"is the photo turned by its EXIF orientation, and the mask not?{cure}"


def mask_in(data: bytes, name: str) -> Bool[np.ndarray, "h w"]:
    """The thing's pixels by the content of a PNG.  Raises DataError as ``mask_file``, calling it ``name``."""
    return _mask(levels_of(png_data(data, name), name), name, PLAIN, None, None)


def coloured_mask_file(
    path: Path, size_hw: tuple[int, int] | None, where: str = "", remarks: Remarks | None = None
) -> Bool[np.ndarray, "h w"]:
    """As ``mask_file``, for sets that paint their things on black in any one colour: its largest channel is the level.

    Alpha is ignored.  Raises DataError as ``mask_file``, but for one colour on black.
    """
    name = f"{where}: {path}" if where else str(path)
    png = png_file(path, where)
    levels = coloured_levels(png, name)
    check_size((levels.numbers.shape[0], levels.numbers.shape[1]), size_hw, name)
    return _mask(levels, name, PLAIN, path, remarks)


class _Remark(NamedTuple):
    """What the user is told of a file."""

    text: str
    detail: str = ""


def _mask(
    levels: Levels, name: str, rule: MaskRule, path: Path | None, remarks: Remarks | None
) -> Bool[np.ndarray, "h w"]:
    found = np.bincount(levels.numbers.ravel())
    counts = {int(n): int(found[n]) for n in np.flatnonzero(found)}
    if rule.values is None:
        mask, remark = _clear(levels, counts, name, rule)
    else:
        mask, remark = _chosen(levels.numbers, counts, name, rule)
    if remarks is None or path is None:
        return mask
    if remark is not None:
        remarks.add(remark.text, path, remark.detail)
    if mask.all():
        remarks.add("masks that take the whole photo for the thing", path)
    elif mask[[0, 0, -1, -1], [0, -1, 0, -1]].all():
        cure = f" (if the thing is black on white there, say {rule.value_option}0)" if rule.value_option else ""
        remarks.add(f"masks with the thing in all four corners{cure}", path)
    return mask


def _clear(
    levels: Levels, counts: dict[int, int], name: str, rule: MaskRule
) -> tuple[Bool[np.ndarray, "h w"], _Remark | None]:
    """The mask where no values are given, and what to remark of it.  Raises DataError where it is not clear."""
    numbers, top, grey, conflict = levels
    only = next(iter(counts)) if len(counts) == 1 else None
    if (len(counts) == 2 and 0 in counts) or only in (0, 1, top):
        if conflict is not None:
            cure = f", or say which index is the thing, like {rule.value_option}0" if rule.value_option else ""
            raise DataError(
                f"{name}: its palette shows {conflict}, so it does not say which pixels are meant; "
                f"save black and white{cure}"
            )
        return np.asarray(numbers != 0), None
    soft = _cut_at_half(grey, top) if grey is not None and len(counts) > 2 else None
    if soft is not None:
        half = (top + 1) // 2
        return soft, _Remark(f"masks with soft edges, cut at half ({half} and more of 0..{top} is the thing)")
    raise DataError(
        f"{name} does not say which pixels are the thing: it has {_described(counts)}; {_cure(levels, counts, rule)}"
    )


def _cut_at_half(grey: Int[np.ndarray, "h w"], top: int) -> Bool[np.ndarray, "h w"] | None:
    """What is at least half as bright as can be, when a mask with soft edges looks so; None for any other picture."""
    counts = np.bincount(grey.ravel(), minlength=top + 1)
    bright = int(np.ceil(top * (1 - _TOP_SHARE)))
    white = bright + int(counts[bright:].argmax())
    between = (grey != 0) & (grey != white)
    some = grey[between]
    if not counts[0] or not counts[white] or some.size >= counts[0] + counts[white]:
        return None
    if not ((some > top // 10) & (some < top - top // 10)).any():
        return None
    lowest = ndimage.minimum_filter(grey, 3, mode="constant", cval=-1)
    if (between & (lowest == ndimage.maximum_filter(grey, 3, mode="constant", cval=-1))).any():
        return None
    mask = grey >= (top + 1) // 2
    side = 2 * EDGE + 1
    near = ndimage.maximum_filter(mask, side) & ~ndimage.minimum_filter(mask, side)
    return mask if _are_faint_lines(between & ~near, grey, mask) else None


def _are_faint_lines(far: Bool[np.ndarray, "h w"], grey: Int[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> bool:
    """Whether grey that is far from the cut is where thin parts of the thing cover less than half of a pixel: wires,
    spokes, hairs.  They are few, no wider than anti-aliasing leaves them, and hang together with the mask."""
    if not far.any():
        return True
    pieces, _ = ndimage.label(grey > 0, np.ones((3, 3)))
    hang = np.isin(pieces, np.unique(pieces[mask]))
    thin = ndimage.minimum_filter(grey, 3) == 0
    return bool(far.sum() <= _FAINT_SHARE * mask.sum() and (hang & thin)[far].all())


def _chosen(
    numbers: Int[np.ndarray, "h w"], counts: dict[int, int], name: str, rule: MaskRule
) -> tuple[Bool[np.ndarray, "h w"], _Remark | None]:
    """The mask of the values that are given, and what to remark of the others.

    Raises DataError when the file has other values than 0, but none of these: more likely it is another kind of file.
    """
    ranges = rule.values or ()
    others = {n: count for n, count in counts.items() if not any(first <= n <= last for first, last in ranges)}
    said = f"{rule.value_option}{','.join(str(a) if a == b else f'{a}-{b}' for a, b in ranges)}"
    if len(others) == len(counts) and any(others) and not rule.absent:
        raise DataError(
            f"{name} has none of {said}: it has {_described(counts)}; give the value that is the thing in this file, "
            "or make it all black if the thing is not there"
        )
    mask = np.zeros(numbers.shape, bool)
    for first, last in ranges:
        mask |= (numbers >= first) & (numbers <= last)
    more = {n: count for n, count in others.items() if n}
    if not more or len(others) == 1:
        return mask, None
    return mask, _Remark(f"masks with values beside 0 and {said}, which count as background", _described(more))


def _described(counts: dict[int, int]) -> str:
    """``the values 0 (95 px), 1 (3 px) and 255 (20 px)``."""
    shown = sorted(sorted(counts, key=lambda n: -counts[n])[:_SAID])
    listed = [f"{n} ({counts[n]} px)" for n in shown]
    if len(counts) > len(shown):
        return f"{len(counts)} values from {min(counts)} to {max(counts)}, most often {', '.join(listed)}"
    several = f"{', '.join(listed[:-1])} and {listed[-1]}" if len(listed) > 1 else listed[0]
    return f"the value{'s' * (len(listed) > 1)} {several}"


def _cure(levels: Levels, counts: dict[int, int], rule: MaskRule) -> str:
    save = "save the thing white and all else black"
    if not rule.value_option:
        return save
    if len(counts) > _SAID and levels.grey is levels.numbers:
        half = f"{rule.value_option}{(levels.top + 1) // 2}-{levels.top}"
        return f"{save}, or say {half}, if what is at least half as bright as white is the thing"
    known = sorted(n for n in counts if n or 0 not in counts) or [0]
    several = f", or {rule.value_option}{known[0]},{known[1]} for both" if len(known) > 1 else ""
    return f"{save}, or say which value is the thing, like {rule.value_option}{known[-1]}{several}"


def _ranges(text: str, option: str) -> tuple[tuple[int, int], ...]:
    """The ranges of "1,2" or "128-255".  Raises UsageError."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:-\s*([0-9]{1,5})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last > 65535:
            raise UsageError(
                f"{option}{text!r}: give the values of a mask that are the thing, 0 to 65535, like 255, 1,2 or 128-255"
            )
        found.append((first, last))
    return tuple(found)
