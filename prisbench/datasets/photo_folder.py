"""One's own photos of one thing, with masks where somebody drew them.

    my_mug/
      01.jpg  02.heic  03.png     1 to 30 photos
      01.png                      a mask of 01.jpg: white where the thing is, black elsewhere
      masks/03.png                a mask of 03.png; those of other photos can lie there, too

A mask has two values, or soft edges of grey, or the user says which of its values are the thing: ``mask_files``.

Photos with several masks each are read, too (``several_masks``).

The layout of the dataset source ``folder`` is read as well: masks in ``photos_masks/``, inside of a folder of photos or
beside one that is called ``photos``; and where there is a folder ``scenes``, ``masks/`` belongs to the scenes.

Knows: which PNG is whose mask, which photos are nearly the same picture, what noun a folder's name suggests.
Does not know: learning, a dataset's tables.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from prisbench.datasets.checks.gallery import Gallery, PictureRecord
from prisbench.datasets.checks.leaks import audit
from prisbench.datasets.remarks import Remarks
from prisbench.datasets.several_masks import MaskedPhoto, mask_homes, masked_photos
from prisbench.datasets.sources.frames import rule_of, turn_of
from prisbench.datasets.sources.mask_files import PLAIN, MaskRule, mask_file
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.arrays import ImageLike
from prisbench.images.perceptual import hamming, perceptual_hash, turned_hashes
from prisbench.images.photos import (
    MOST_PHOTOS,
    SUFFIXES,
    Photo,
    fit_within,
    load_photo,
    load_photos,
    looks_like_mask,
    orientation,
    photo_files,
    photos_below,
    pixels_sha256,
    subject_photo,
)
from prisbench.runtime.files import cannot_read, read_bytes, stem_of

NEAR = 12
"""Bits of 64 in which the perceptual hashes of two photos, laid in any way, may differ to be nearly the same picture.

Of the 158 photos of the DreamBooth set, no two of one subject differ by fewer than 14, however they are laid, but for a
mirrored copy; by 14, two shots of a dog that turns its head.  53 of them at half size as JPEG of quality 40 differ from
themselves by 2 at most, with another gamma by 6, moved by 2 % of the width by 12 or less in 98 of 100, by 4 % in 94."""

_COMPARED_SIDE = 512
"""Pixels; photos are compared no larger than this."""

_NO_NOUNS = {"data", "dcim", "download", "image", "images", "img", "photo", "photos", "pictures", "refs", "tmp"}


class OwnPhotos(NamedTuple):
    """The photos of a folder by file name.  ``masks``: None for a photo without one; empty when none has one.

    ``noticed``: what the owner should know of how photos and masks were read, a line each.
    """

    names: tuple[str, ...]
    photos: tuple[UInt8[np.ndarray, "_h _w 3"], ...]
    masks: tuple[Bool[np.ndarray, "_h2 _w2"] | None, ...]
    noticed: tuple[str, ...] = ()


def read_own_photos(folder: str | os.PathLike[str], rule: MaskRule = PLAIN, mask_name: str | None = None) -> OwnPhotos:
    """The photos in a folder and their masks, upright, in their own sizes; ``rule``: what the user says of the masks.

    Photos may have several masks each, of which ``mask_name`` says those of the thing (``several_masks``).

    Raises DataError as ``photos.load_photos``, and naming the file for a mask that belongs to no photo, or to two, that
    is one of two, all black, or no mask of its photo by ``mask_files``.  Raises UsageError when something is said of
    masks, but there are none.
    """
    several, lines = masked_photos(Path(folder), mask_name)
    if several:
        return _with_several(several, lines, Path(folder), rule)
    loaded = load_photos(folder, check_beside=False)
    files = photo_files(folder)
    masks = {file.path.name: file.beside for file in files if file.beside is not None}
    named = Counter(stem_of(Path(photo.name)) for photo in loaded)
    for path in _mask_files(Path(folder)):
        if stem_of(path) not in named:
            raise DataError(f"{path} belongs to no photo: {UnknownNameError('photo', stem_of(path), named)}")
        if named[stem_of(path)] > 1:
            raise DataError(
                f"{path} belongs to {named[stem_of(path)]} photos of that name in {folder}; rename one of them"
            )
        name = next(photo.name for photo in loaded if stem_of(Path(photo.name)) == stem_of(path))
        if name in masks:
            raise DataError(f"{name} in {folder} has two masks, {masks[name]} and {path}; remove one")
        masks[name] = path
    if not masks and (rule.values or rule.frame):
        said = rule.value_option if rule.values else rule.frame_option
        raise UsageError(f"{said.strip(' =')} is said of masks, but no photo in {folder} has one")
    beside = {file.beside for file in files}
    remarks = Remarks(Path(folder))
    found = tuple(
        _mask(masks[photo.name], photo, Path(folder) / photo.name, rule, remarks, masks[photo.name] in beside)
        if photo.name in masks
        else None
        for photo in loaded
    )
    names, images = tuple(photo.name for photo in loaded), tuple(photo.image for photo in loaded)
    return OwnPhotos(names, images, found if masks else (), (*_deeper(Path(folder)), *remarks.lines()))


def _with_several(found: Sequence[MaskedPhoto], lines: Sequence[str], folder: Path, rule: MaskRule) -> OwnPhotos:
    """The photos with their chosen masks; a photo of a folder of its own is called by that, too."""
    remarks = Remarks(folder)
    names, photos, masks = [], [], []
    for each in found:
        photo = subject_photo(each.photo)
        own = [_mask(path, photo, each.photo, rule, remarks, beside=True) for path in each.masks]
        names.append(each.photo.relative_to(folder).as_posix())
        photos.append(photo.image)
        masks.append(np.logical_or.reduce(own) if own else None)
    if len(photos) > MOST_PHOTOS:
        raise DataError(f"{len(photos)} photos in {folder}: at most {MOST_PHOTOS} of one subject; 3 to 6 are enough")
    return OwnPhotos(tuple(names), tuple(photos), tuple(masks), (*lines, *remarks.lines()))


_ROLES = ("masks", "photos_masks", "scenes")
"""Folders in a folder of photos that have a role of their own."""


def _deeper(folder: Path) -> list[str]:
    """A line when folders inside have photos, which are not read."""
    found = {path: n for path, n in photos_below(folder).items() if path.relative_to(folder).parts[0] not in _ROLES}
    if not found:
        return []
    names = ", ".join(path.relative_to(folder).as_posix() for path in list(found)[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"{sum(found.values())} photos in folders inside of {folder} are not read ({names}{more}); move them up"]


def remarks(own: OwnPhotos) -> list[str]:
    """What the owner of the photos should know before they are learned from, a line each: photos that are nearly the
    same picture, how masks were read, and what they are good for.
    """
    lines = list(own.noticed)
    if groups := near_duplicates(own.photos):
        said = "; ".join(_listed([own.names[i] for i in group]) for group in groups)
        lines.append(f"nearly the same picture: {said}; they teach little more than one of them does")
    if own.masks:
        n = sum(mask is not None for mask in own.masks)
        lines.append(f"{n} of {len(own.photos)} photos have a mask; what lies outside of it is learned little")
    return lines


def near_duplicates(photos: Sequence[ImageLike]) -> list[tuple[int, ...]]:
    """Groups of photos, by their places, that are nearly the same picture: saved again, smaller, lighter, mirrored,
    turned by right angles, cut out of another, shifted, or taken a moment later without moving.

    Copies are proven as in ``datasets.leaks``; moments later are known by their hashes, see ``NEAR``.  No group when
    all photos have the very same pixels, which every learner says itself.
    """
    if len({pixels_sha256(photo) for photo in photos}) == 1:
        return []
    small = [fit_within(photo, _COMPARED_SIDE) for photo in photos]
    gallery = Gallery(parts=False)
    for i, photo in enumerate(small):
        gallery.add(photo, i, PictureRecord(str(i), "reference", (), "", ""))
    pairs = [(int(leak.a.where), int(leak.b.where)) for leak in audit(gallery, lambda i: small[i]).leaks]
    hashes = [perceptual_hash(photo) for photo in small]
    turned = [set(turned_hashes(photo).values()) for photo in small]
    for i, j in itertools.combinations(range(len(small)), 2):
        if min(hamming(hashes[i], other) for other in turned[j]) <= NEAR:
            pairs.append((i, j))
    group = list(range(len(small)))
    for a, b in pairs:
        group = [group[a] if each == group[b] else each for each in group]
    groups = [tuple(i for i, each in enumerate(group) if each == name) for name in dict.fromkeys(group)]
    return [places for places in groups if len(places) > 1]


def folder_name(folder: str | os.PathLike[str]) -> str:
    """What the owner calls the thing: the name of its folder, or of that around its folder ``photos``."""
    path = Path(os.path.abspath(folder))
    return (path.parent if path.name == "photos" else path).name


def suggested_noun(folder: str | os.PathLike[str]) -> str | None:
    """The class word that a folder's name suggests: mug for "my_mug", "mug-anna" and "red_mug2/photos"; else None."""
    name = folder_name(folder).lower()
    head = re.split(r"[-\d]", re.sub(r"^(my|our|the)[-_ ]+", "", name))[0]
    word = (re.findall(r"[^\W_]+", head) or [""])[-1]
    return word if len(word) > 1 and word not in _NO_NOUNS else None


def _mask_files(folder: Path) -> list[Path]:
    """What lies in the folders of masks, by name; of any format, so that one that is no PNG is not passed over."""
    found = []
    for home in mask_homes(folder):
        try:
            paths = sorted(home.iterdir()) if home.is_dir() else []
        except OSError as error:
            raise DataError(cannot_read(home, error)) from None
        found += [path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return found


def _mask(
    path: Path, photo: Photo, file: Path, rule: MaskRule, remarks: Remarks, beside: bool
) -> Bool[np.ndarray, "h w"]:
    """The mask of the photo in ``file``; ``beside`` it, where a PNG may be another photo.  Raises DataError."""
    h, w = photo.image.shape[:2]
    exif = orientation(read_bytes(file), str(file))
    turn = turn_of(file, exif, (h, w), rule, remarks)
    try:
        mask = mask_file(path, (h, w), "", rule_of(rule, exif), turn, remarks)
    except DataError as error:
        if beside and rule.values is None and not looks_like_mask(load_photo(path)):
            raise DataError(f"{error}; if it is another photo than {photo.name}, rename it") from None
        raise
    if not mask.any():
        raise DataError(f"{path} is all black, but its photo shows the thing; draw it white, or remove the file")
    return mask


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
