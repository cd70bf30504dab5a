"""Photos with several masks each, one thing to learn: which masks of a folder are those of the thing.

    creature/img.jpg  mask0.png  mask1.png       a photo with a mask for each thing that it shows
    mine/a/img.jpg  a/mask0.png  b/img.jpg ...   a folder of such folders, one for each photo
    mine/01.jpg  01_mask0.png  01_mask1.png      photos in one folder, and which one a mask is of in its name
    mine/01.jpg  masks/01_cup.png                the same in the folder of masks, whatever the masks are called
    mine/01.jpg  masks/01/cup.png                a folder of masks for each photo
    mine/01.jpg  masks/cup/01.png                or for each thing, or each part of one

The first two are the layout of Break-A-Scene (``sources.break_a_scene``).  A folder with as many photos as masks,
``0.jpg`` or ``img0.jpg`` and ``mask0.png``, has a mask of each.

Knows: which masks a photo has, which of them a user means.  Does not know: what masks say, learning.
"""

from __future__ import annotations

import os
import re
import string
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prisbench.datasets.sources.break_a_scene import masks_of, photos_beside
from prisbench.datasets.sources.reading.files import folders, listing
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.photos import photo_files
from prisbench.runtime.files import stem_of


class MaskedPhoto(NamedTuple):
    """A photo's file and the files of its masks; the thing is where any of them is, and nobody knows where, of none."""

    photo: Path
    masks: tuple[Path, ...]


def masked_photos(folder: Path, said: str | None) -> tuple[list[MaskedPhoto], list[str]]:
    """The photos of such a folder with the masks that ``said`` names, like "mask0" or "0", or "0,1" for all of these
    together; and lines that the user should know.  Nothing for a folder of another layout.

    Raises UsageError where photos have several masks and nothing is said, or something is said of another layout;
    UnknownNameError for a mask that no photo has; DataError for a folder inside with several photos, and for a mask of
    no photo.
    """
    there = _there(folder) or _named(folder)
    if not there and said is not None:
        raise UsageError(
            f"--mask-name {said}: only for photos with several masks each, a folder of img.jpg, mask0.png, mask1.png "
            f"for each photo, or masks/01_NAME.png beside 01.jpg; {folder} has none"
        )
    several = next((photo for photo, masks in there.items() if len(masks) > 1), None)
    if said is None and several is not None:
        names = [*there[several]]
        raise UsageError(
            f"{several} has {len(names)} masks ({', '.join(names)}), each of a thing or of a part of one, and one "
            f"thing is learned at a time: say which is yours, --mask-name {names[0]}, or --mask-name {','.join(names)} "
            "for all of them together"
        )
    if said is None:
        return [MaskedPhoto(photo, (*masks.values(),)) for photo, masks in there.items()], []
    known = Counter(name for masks in there.values() for name in masks)
    wanted = [name if name in known or name.startswith("mask") else f"mask{name}" for name in _names(said)]
    for name in wanted:
        if name not in known:
            raise UnknownNameError(f"mask of the photos in {folder}", name, known)
    chosen = {photo: tuple(masks[name] for name in wanted if name in masks) for photo, masks in there.items()}
    found = [MaskedPhoto(photo, masks) for photo, masks in chosen.items() if masks or not there[photo]]
    with_one = sum(bool(masks) for masks in chosen.values())
    lines = [f"{' and '.join(wanted)} of {with_one} photos; other masks are other things"]
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
        if of_one.keys() != own.keys():
            of_one = {f"mask{stem_of(photo).lstrip(string.ascii_letters)}": photo for photo in photos}
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


def _named(folder: Path) -> dict[Path, Mapping[str, Path]]:
    """Photo -> the names and files of its masks, where names say which photo a mask is of, and one says more than that;
    else nothing.
    """
    if not folder.is_dir() or not listing(folder):
        return {}
    files = photo_files(folder)
    stems = {stem_of(file.path) for file in files}
    own = {file.path: part for file in files if (part := _part(file.path, stems)) and part[1].startswith("mask")}
    photos = {stem_of(file.path): file.path for file in files if file.path not in own}
    found: dict[Path, dict[str, Path]] = {path: {} for path in photos.values()}
    plain = [(stem_of(file.path), _PLAIN, file.beside) for file in files if file.beside is not None]
    named = [(stem, name, path) for path, (stem, name) in own.items()]
    inside = [each for home in mask_homes(folder) if home.is_dir() for each in _in_home(home, photos)]
    if not named and all(name == _PLAIN for _, name, _ in inside):
        return {}
    for stem, name, path in (*plain, *named, *inside):
        if stem not in photos:
            raise DataError(
                f"{path} belongs to no photo: {UnknownNameError('photo', stem, photos)}; a mask of 01.jpg is called "
                "01.png, or 01_NAME.png, 01/NAME.png and NAME/01.png in masks/"
            )
        if (other := found[photos[stem]].setdefault(name, path)) != path:
            raise DataError(f"{photos[stem]} has two masks of one name, {other} and {path}; remove one")
    return {photo: masks for photo, masks in found.items()}


def mask_homes(folder: Path) -> list[Path]:
    """Where masks of a folder of photos may lie; where it has scenes, ``masks/`` is theirs."""
    homes = [folder / "photos_masks", *([] if (folder / "scenes").is_dir() else [folder / "masks"])]
    home = Path(os.path.abspath(folder))
    return [*homes, home.parent / "photos_masks"] if home.name == "photos" else homes


_PLAIN = "mask"
"""What a mask is called that has its photo's name and no other."""


def _in_home(home: Path, photos: Collection[str]) -> Iterator[tuple[str, str, Path]]:
    """(photo's stem, mask's name, file) of what lies in a folder of masks and in the folders in it."""
    for path in listing(home, {".png"}):
        stem, name = _part(path, photos) or (stem_of(path), _PLAIN)
        yield stem, name, path
    for inner in folders(home):
        for path in listing(inner, {".png"}):
            by_thing = inner.name not in photos and stem_of(path) in photos
            yield (stem_of(path), inner.name, path) if by_thing else (inner.name, path.stem, path)


def _part(path: Path, photos: Collection[str]) -> tuple[str, str] | None:
    """The photo's stem and the mask's own name in that of a PNG like ``01_cup.png``; None where it is none of these."""
    stem = stem_of(path)
    owners = [photo for photo in photos if photo != stem and stem.startswith(photo)]
    if path.suffix.lower() != ".png" or (stem in photos and "mask" not in stem) or not owners:
        return None
    owner = max(owners, key=len)
    rest = re.fullmatch(r"[-_. ]+(.+)", stem[len(owner) :])
    return (owner, rest[1]) if rest else None
