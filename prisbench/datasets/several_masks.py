"""Photos with several masks each, one thing to learn: which masks of a folder are those of the thing.

    creature/img.jpg  mask0.png  mask1.png       a photo with a mask for each thing that it shows
    mine/a/img.jpg  a/mask0.png  b/img.jpg ...   a folder of such folders, one for each photo

The layout is that of Break-A-Scene (``sources.break_a_scene``).  A folder with as many photos as masks, ``0.jpg`` and
``mask0.png``, has a mask of each.

Knows: which masks a photo has, which of them a user means.  Does not know: what masks say, learning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from prisbench.datasets.sources.break_a_scene import masks_of, photos_beside
from prisbench.datasets.sources.reading.files import folders
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.runtime.files import stem_of


class MaskedPhoto(NamedTuple):
    """A photo's file and the files of its masks; the thing is where any of them is."""

    photo: Path
    masks: tuple[Path, ...]


def masked_photos(folder: Path, said: str | None) -> tuple[list[MaskedPhoto], list[str]]:
    """The photos of such a folder with the masks that ``said`` names, like "mask0" or "0", or "0,1" for all of these
    together; and lines that the user should know.  Nothing for a folder of another layout.

    Raises UsageError where photos have several masks and nothing is said, or something is said of another layout;
    UnknownNameError for a mask that no photo has; DataError for a folder inside with several photos.
    """
    there = _there(folder)
    if not there and said is not None:
        raise UsageError(
            f"--mask-name {said}: only for photos with several masks each, a folder of img.jpg, mask0.png, mask1.png "
            f"for each photo; {folder} is none"
        )
    several = next((photo for photo, masks in there.items() if len(masks) > 1), None)
    if said is None and several is not None:
        names = [*there[several]]
        raise UsageError(
            f"{several} has {len(names)} masks ({', '.join(names)}), one for each thing it shows, and one thing is "
            f"learned at a time: say which is yours, --mask-name {names[0]}, or --mask-name {','.join(names)} for all "
            "of them together"
        )
    if said is None:
        return [MaskedPhoto(photo, (*masks.values(),)) for photo, masks in there.items()], []
    wanted = [name if name.startswith("mask") else f"mask{name}" for name in _names(said)]
    known = Counter(name for masks in there.values() for name in masks)
    for name in wanted:
        if name not in known:
            raise UnknownNameError(f"mask of the photos in {folder}", name, known)
    chosen = {photo: tuple(masks[name] for name in wanted if name in masks) for photo, masks in there.items()}
    found = [MaskedPhoto(photo, masks) for photo, masks in chosen.items() if masks]
    lines = [f"{' and '.join(wanted)} of {len(found)} photos; other masks are other things"]
    if len(found) < len(there):
        lines.append(f"{len(there) - len(found)} photos in {folder} have no such mask and are left out")
    return found, lines


def _names(said: str) -> list[str]:
    """Raises UsageError."""
    names = [each.strip().removesuffix(".png") for each in said.split(",")]
    if not all(names):
        raise UsageError(f"--mask-name {said!r}: give the name of a mask, like mask0, or several, like mask0,mask1")
    return list(dict.fromkeys(names))


def _there(folder: Path) -> dict[Path, Mapping[str, Path]]:
    """Photo -> the names and files of its masks; photos of a folder without such masks, or whose masks nobody can
    tell apart, are none of this layout.
    """
    if not folder.is_dir():
        return {}
    if photos := photos_beside(folder):
        own = masks_of(folder)
        of_one = {f"mask{stem_of(photo)}": photo for photo in photos}
        if len(photos) > 1 and of_one.keys() == own.keys():
            return {photo: {name: own[name]} for name, photo in of_one.items()}
        return {photos[0]: own} if own and len(photos) == 1 else {}
    homes = [home for home in folders(folder) if masks_of(home) and photos_beside(home)]
    for home in homes:
        if len(photos := photos_beside(home)) > 1:
            raise DataError(
                f"{home} has {len(photos)} photos beside {', '.join(masks_of(home))}; put each photo into a folder of "
                "its own, with its masks"
            )
    return {photos_beside(home)[0]: masks_of(home) for home in homes}
