"""Segmentation sets laid out as VOC 2012 is: photos, palette masks, lists of ids.

Knows: where a set's files are on this disk, how a list and the classes are read.  Does not know:
what a mask holds (``labels``), what is missing or wrong in a set (``check``, ``label_checks``),
models, scores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from prisbench.errors import DataError, UnknownNameError
from prisbench.images.photos import SUFFIXES, load_photo
from prisbench.runtime.files import cannot_read, read_bytes, sha256_bytes
from prisbench.wsss.layouts import BACKGROUND, CLASSES_FILE, COCO14, FOLDER, LAYOUTS, VOC12, VOID, Layout


def open_set(dataset: str, root: str | os.PathLike[str] = "datasets") -> SegmentationSet:
    """The set called ``dataset``: voc12 or coco14 below ``root``, or a folder.

    Below ``root`` the published trees are looked for (``VOCdevkit/VOC2012``, ``COCO/COCO2014``),
    then the root itself.  A folder is a set of one's own when it holds classes.txt, else a tree of
    VOC 2012 or COCO 2014.

    Raises DataError when it is not there or classes.txt is not sound, UnknownNameError for a name
    of neither kind.
    """
    if dataset in LAYOUTS:
        layout = LAYOUTS[dataset]
        home = find_home(layout, Path(root))
        if home is None:
            looked = ", ".join(str(Path(root) / each) for each in layout.homes)
            raise DataError(f"no {dataset} in {looked}; `prisbench wsss check {root}` says how to get it")
        return open_layout(layout, home, layout.classes)
    folder = Path(dataset)
    if not folder.is_dir():
        if len(folder.parts) > 1:
            raise DataError(f"no dataset at {folder}: there is no such folder")
        raise UnknownNameError("dataset", dataset, [*LAYOUTS, "a folder"])
    if (folder / CLASSES_FILE).is_file():
        return open_layout(FOLDER, folder, read_classes(folder / CLASSES_FILE))
    for name in sets_in(folder):
        return open_set(name, folder)
    raise DataError(
        f"{folder} is no segmentation set: no {CLASSES_FILE} in it (one class a line, the first {BACKGROUND!r}), "
        f"and no {VOC12.homes[0]} or {COCO14.homes[0]}"
    )


def sets_in(root: Path) -> tuple[str, ...]:
    """Which of voc12, coco14 and folder stand below a root, by
    their published trees or by classes.txt.
    """
    found = ["folder"] if (root / CLASSES_FILE).is_file() else []
    for layout in LAYOUTS.values():
        home = find_home(layout, root)
        if home is not None and (home != root or root.resolve().name == layout.homes[1]):
            found.append(layout.name)
    return tuple(found)


@dataclass(frozen=True)
class SegmentationSet:
    """A set on disk; nothing of it is in memory.

    ``photos`` and ``masks`` are the patterns of the layout that fit what is there.
    ``classes[label]`` is a name.
    """

    name: str
    root: Path
    photos: str
    masks: str
    classes: tuple[str, ...]
    layout: Layout

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the lists that are there."""
        found = [path.stem for path in _list_files(self.root, self.layout)]
        return tuple(dict.fromkeys(found))

    @property
    def training_split(self) -> str:
        """The split that is trained on where none is named:
        train_aug where there is one, else train.
        """
        return "train_aug" if "train_aug" in self.splits else "train"

    def list_path(self, split: str) -> Path:
        """The file of a split's list.

        Raises DataError when a published list (or any) is missing, UnknownNameError for a split
        nobody published.
        """
        places = [self.root / folder / f"{split}.txt" for folder in self.layout.lists]
        for path in places:
            if path.is_file():
                return path
        known = self.splits
        if known and split not in {each.split for each in self.layout.published}:
            raise UnknownNameError(f"split of {self.name}", split, known)
        raise DataError(
            f"no list {' or '.join(map(str, places))}; `prisbench wsss check` says where to get it"
            + (f" (there are: {', '.join(known)})" if known else "")
        )

    def items(self, split: str) -> list[Item]:
        """The images of a split, in the list's order; whether their files exist is not looked at.

        Raises as ``list_path``, and DataError naming the line for a list that is empty, names an
        id twice, or has a line that is neither an id nor paths of a photo and a mask below the
        root.
        """
        return read_list(self.list_path(split), self.root, self.photos, self.masks)


class Item(NamedTuple):
    """One line of a list: an image, where its photo and its mask
    should be, and where the line stands.
    """

    id: str
    photo: Path
    mask: Path
    where: str


def read_photo(item: Item) -> UInt8[np.ndarray, "h w 3"]:
    """The photo of an item.  Raises DataError, naming the list's line when there is none."""
    if not item.photo.is_file():
        raise DataError(f"{item.where}: {item.id} has no photo {item.photo}")
    return load_photo(item.photo)


def photo_size(path: Path) -> tuple[int, int]:
    """Height and width of a photo as ``load_photo`` will turn it, from its header.

    Raises DataError.
    """
    try:
        with Image.open(path) as image:
            w, h = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a photo that can be read; copy it again") from None
    except OSError as error:
        raise DataError(cannot_read(path, error)) from None
    return (w, h) if turned else (h, w)


def find_home(layout: Layout, root: Path) -> Path | None:
    """The first of the layout's homes that holds photos or lists."""
    tops = {Path(each).parts[0] for each in (*layout.photos, *layout.lists) if not each.startswith("{")}
    for home in layout.homes:
        if any((root / home / top).is_dir() for top in tops):
            return root / home
    return None


def open_layout(layout: Layout, root: Path, classes: tuple[str, ...]) -> SegmentationSet:
    ids: list[str] = []
    for path in _list_files(root, layout):
        lines = read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()
        ids += [_id_of(line.split()[0]) for line in lines if line.strip()][:5]

    def hits(pattern: str) -> int:
        return sum((root / _place(pattern, each)).is_file() for each in ids)

    photos, masks = max(layout.photos, key=hits), max(layout.masks, key=hits)  # of equals, the first
    name = root.resolve().name if layout is FOLDER else layout.name
    return SegmentationSet(name, root, photos, masks, classes, layout)


def read_list(path: Path, root: Path, photos: str, masks: str) -> list[Item]:
    """The images of a list file; see ``SegmentationSet.items``.

    A line is an id, a photo's path, or the paths of photo and mask, as kazuto1011/deeplab-pytorch
    writes them ("/JPEGImages/x.jpg /SegmentationClassAug/x.png"); paths are below the root, with
    or without the slash.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text ({error.reason}); download the list again") from None
    items: dict[str, Item] = {}
    for number, line in enumerate(text.splitlines(), 1):
        tokens = line.split()
        if not tokens:
            continue
        where = f"{path} line {number}"
        if len(tokens) > 2 or (len(tokens) == 2 and not all("/" in token for token in tokens)):
            raise DataError(f"{where}: {line.strip()!r} is neither an id nor the paths of a photo and a mask")
        image_id = _id_of(tokens[0])
        if image_id in items:
            raise DataError(f"{where}: {image_id} stands in the list twice (first in {items[image_id].where})")
        photo = tokens[0].lstrip("/") if "/" in tokens[0] else _place(photos, image_id)
        mask = tokens[1].lstrip("/") if len(tokens) == 2 else _place(masks, image_id)
        items[image_id] = Item(image_id, root / photo, root / mask, where)
    if not items:
        raise DataError(f"{path} is empty; download the list again")
    return list(items.values())


def _id_of(token: str) -> str:
    """A list's first word is an id, an id with a photo's suffix, or the path of a photo."""
    if "/" in token:
        return Path(token).stem
    stem, dot, suffix = token.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else token


def _place(pattern: str, image_id: str) -> str:
    pieces = image_id.split("_")
    part = pieces[1] if len(pieces) == 3 else ""
    return pattern.format(id=image_id, part=part, short=part.removesuffix("2014"), number=pieces[-1])


def _list_files(root: Path, layout: Layout) -> list[Path]:
    return [path for folder in layout.lists for path in sorted((root / folder).glob("*.txt"))]


def ids_sha256(ids: Sequence[str]) -> str:
    """64 hexadecimal digits of the sorted ids, one a line: the same for every way to write a list."""
    return sha256_bytes("".join(f"{each}\n" for each in sorted(ids)).encode("utf-8"))


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in classes.txt.

    Raises DataError unless the first is background, all differ, and 255 suffice.
    """
    lines = read_bytes(path).decode("utf-8-sig", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or names[0] != BACKGROUND:
        raise DataError(f"{path}: the first line must be {BACKGROUND!r} (label 0), not {names[0] if names else ''!r}")
    twice = [name for n, name in enumerate(names) if name in names[:n]]
    if twice or not 2 <= len(names) <= VOID:
        why = f"{twice[0]!r} stands there twice" if twice else f"{len(names)} names, but labels are 0..254"
        raise DataError(f"{path}: {why}; write one class a line")
    return names
