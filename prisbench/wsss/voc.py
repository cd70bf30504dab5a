"""Segmentation sets laid out as VOC 2012 is: photos, palette masks, lists of ids; and what should be in them.

Knows: where VOC 2012, COCO 2014 and a folder of one's own keep things, their classes, how a list and a mask are read
and written, where the data comes from.  Does not know: what is missing or wrong in a set (``examination``,
``label_checks``), how COCO's masks are made (``coco``), models, scores.

A mask is ``h w`` uint8: 0 background, 1.. the classes in their published order, 255 void.  On disk it is a PNG of mode
P with VOC's colours, so that people can look at it, or of mode L.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, UnidentifiedImageError

from prisbench.errors import DataError, UnknownNameError
from prisbench.images.photos import load_photo
from prisbench.runtime.files import cannot_read, read_bytes, read_json, sha256_bytes, write_bytes
from prisbench.wsss.palettes import contradiction

VOID = 255
"""Neither right nor wrong: VOC's object outlines, and whatever a pseudo mask is not sure of."""

BACKGROUND = "background"

VOC_CLASSES = (
    *(BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""VOC 2012's, in the order of its labels: Everingham et al., development kit, section 2."""

COCO_CLASSES = (
    *(BACKGROUND, "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep"),
    *("cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich"),
    *("orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed"),
    *("dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven"),
    *("toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
"""COCO's 80 in the order of its category ids, without the ids' gaps: 1..80, as the published masks have them."""


class Source(NamedTuple):
    """Where a part of a set comes from.  ``gives`` is photos, masks or lists; ``splits`` those it serves."""

    what: str
    gives: str
    splits: tuple[str, ...]
    url: str
    licence: str


class PublishedList(NamedTuple):
    """A list everybody uses: how many ids, and the sha256 (or its first digits) of the sorted ids, one a line."""

    split: str
    ids: int
    sha256: str


@dataclass(frozen=True)
class Layout:
    """Where a set keeps things, and what should be there.

    ``homes`` are places below a root, the first that is there counts.  ``photos`` and ``masks`` are patterns below the
    home, ``lists`` folders, in order of preference.  In patterns ``{id}`` is an id of a list; of COCO's ids, such as
    COCO_train2014_000000000009, ``{part}`` is train2014, ``{short}`` train and ``{number}`` the digits.  ``needed``: of
    every group one split must be whole for the set to be of use.
    """

    name: str
    homes: tuple[str, ...]
    photos: tuple[str, ...]
    masks: tuple[str, ...]
    lists: tuple[str, ...]
    classes: tuple[str, ...] = ()
    published: tuple[PublishedList, ...] = ()
    needed: tuple[tuple[str, ...], ...] = ()
    sources: tuple[Source, ...] = ()


_VOC_LISTS = ("ImageSets/SegmentationAug", "ImageSets/Segmentation")
_VOC_MASKS = ("SegmentationClassAug/{id}.png", "SegmentationClass/{id}.png")

VOC12 = Layout(
    name="voc12",
    homes=("VOCdevkit/VOC2012", "VOC2012", ""),
    photos=("JPEGImages/{id}.jpg",),
    masks=_VOC_MASKS,
    lists=_VOC_LISTS,
    classes=VOC_CLASSES,
    published=(
        PublishedList("train_aug", 10582, "d1326bd532648d73bc4b1bd275434eba81930982dc7401a65a8cecb26c028e24"),
        PublishedList("train", 1464, "aa623bd2c8ce4443a8aaae51c524c0eb165e8e44caf6aa9e3ad33d7b75a3ef20"),
        PublishedList("val", 1449, "cdc1326d12f69ce5153aa5da04a4d8783e146868d42d19f82f44e74b97ac907d"),
        PublishedList("test", 1456, "5e8fe0c14b2e6633fb2e3a0f5db65fb6b8f5217b574478bb21127a48fd33010f"),
        PublishedList("trainval", 2913, "f8dae64f9e08d8b06ef41286dcd4c516e7d98c8e6ec6d965bc6d29cb11a4de51"),
        PublishedList("trainval_aug", 12031, "fcbcb720c4ab3f4d30e345953563377ef08fc567e1c9ada129bab84f21160bff"),
    ),
    needed=(("train_aug", "train"), ("val",)),
    sources=(
        Source(
            "17,125 photos, 2,913 masks (SegmentationClass) and the lists train, val, trainval",
            "photos",
            ("train_aug", "train", "val", "trainval", "trainval_aug"),
            "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
            "photos under Flickr's terms of use",
        ),
        Source(
            "12,031 masks (SegmentationClassAug), made from SBD (Hariharan et al. 2011)",
            "masks",
            ("train_aug", "train", "val", "trainval", "trainval_aug"),
            "https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip",
            "no open licence is stated",
        ),
        Source(
            "lists train_aug (10,582 ids), train (1,464), val (1,449) and test (1,456)",
            "lists",
            ("train_aug", "train", "val", "test"),
            "https://github.com/jiwoon-ahn/irn/tree/master/voc12",
            "MIT",
        ),
        Source(
            "1,456 photos of the test split; there are no masks, its server scores",
            "photos",
            ("test",),
            "http://host.robots.ox.ac.uk:8080 (wants an account)",
            "photos under Flickr's terms of use",
        ),
    ),
)
"""Lists: jiwoon-ahn/irn (MIT), the same bytes in rulixiang/afa.  Tree: the READMEs of kazuto1011/deeplab-pytorch and of
Big-Brother-Pikachu/Text2Mask.  All lists are sorted, so sorted ids tell a list whatever its lines look like."""

COCO14 = Layout(
    name="coco14",
    homes=("COCO/COCO2014", "COCO2014", ""),
    photos=("JPEGImages/{part}/{id}.jpg", "JPEGImages/{short}/{id}.jpg", "{part}/{id}.jpg"),
    masks=(
        "SegmentationClass/{part}/{id}.png",
        "SegmentationClass/{short}/{id}.png",
        "SegmentationClass/{part}/{number}.png",
        "Annotations/{number}.png",
        "SegmentationClass/{number}.png",
        "SegmentationClass/{id}.png",
    ),
    lists=("ImageSets/SegmentationClass", "ImageSets/Segmentation"),
    classes=COCO_CLASSES,
    published=(
        PublishedList("train", 82081, "2985c4b482da4994"),
        PublishedList("val", 40137, "6f65de2c15126516"),
    ),
    needed=(("train",), ("val",)),
    sources=(
        Source(
            "82,783 photos, for JPEGImages/train2014",
            "photos",
            ("train",),
            "http://images.cocodataset.org/zips/train2014.zip",
            "photos under Flickr's terms of use",
        ),
        Source(
            "40,504 photos, for JPEGImages/val2014",
            "photos",
            ("val",),
            "http://images.cocodataset.org/zips/val2014.zip",
            "photos under Flickr's terms of use",
        ),
        Source(
            "instances_train2014.json and instances_val2014.json; from them `prisbench wsss coco-masks` "
            "makes 82,081 and 40,137 masks, and the lists",
            "masks",
            ("train", "val"),
            "http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
            "CC BY 4.0",
        ),
        Source(
            "lists train (82,081 ids) and val (40,137); or let coco-masks make them",
            "lists",
            ("train", "val"),
            "https://github.com/rulixiang/afa/tree/master/datasets/coco",
            "no licence is stated",
        ),
    ),
)
"""Trees in use: Text2Mask (masks in Annotations, named by the digits), rulixiang/ToCo (SegmentationClass/train2014),
rulixiang/afa (SegmentationClass/train), CLIP-ES (SegmentationClass).  Of the checksums the first digits are known."""

FOLDER = Layout(
    name="folder",
    homes=("",),
    photos=("JPEGImages/{id}.jpg", "JPEGImages/{id}.png"),
    masks=_VOC_MASKS,
    lists=_VOC_LISTS,
)
"""A set of one's own: as VOC's, with classes.txt, one name a line, the first "background"."""

LAYOUTS = {layout.name: layout for layout in (VOC12, COCO14)}
CLASSES_FILE = "classes.txt"


class Item(NamedTuple):
    """One line of a list: an image, where its photo and its mask should be, and where the line stands."""

    id: str
    photo: Path
    mask: Path
    where: str


@dataclass(frozen=True)
class SegmentationSet:
    """A set on disk; nothing of it is in memory.

    ``photos`` and ``masks`` are the patterns of the layout that fit what is there.  ``classes[label]`` is a name.
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

    def list_path(self, split: str) -> Path:
        """The file of a split's list.

        Raises DataError when a published list (or any) is missing, UnknownNameError for a split nobody published.
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

        Raises as ``list_path``, and DataError naming the line for a list that is empty, names an id twice, or has a
        line that is neither an id nor paths of a photo and a mask below the root.
        """
        return read_list(self.list_path(split), self.root, self.photos, self.masks)


def open_set(dataset: str, root: str | os.PathLike[str] = "datasets") -> SegmentationSet:
    """The set called ``dataset``: voc12 or coco14 below ``root``, or a folder.

    Below ``root`` the published trees are looked for (``VOCdevkit/VOC2012``, ``COCO/COCO2014``), then the root itself.
    A folder is a set of one's own when it holds classes.txt, else a tree of VOC 2012 or COCO 2014.

    Raises DataError when it is not there or classes.txt is not sound, UnknownNameError for a name of neither kind.
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
    """Which of voc12, coco14 and folder stand below a root, by their published trees or by classes.txt."""
    found = ["folder"] if (root / CLASSES_FILE).is_file() else []
    for layout in LAYOUTS.values():
        home = find_home(layout, root)
        if home is not None and (home != root or root.resolve().name == layout.homes[1]):
            found.append(layout.name)
    return tuple(found)


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
        lines = read_bytes(path).decode("utf-8", errors="replace").splitlines()
        ids += [_id_of(line.split()[0]) for line in lines if line.strip()][:5]

    def hits(pattern: str) -> int:
        return sum((root / _place(pattern, each)).is_file() for each in ids)

    photos, masks = max(layout.photos, key=hits), max(layout.masks, key=hits)  # of equals, the first
    name = root.resolve().name if layout is FOLDER else layout.name
    return SegmentationSet(name, root, photos, masks, classes, layout)


def _id_of(token: str) -> str:
    """A list's first word is an id, or the path of a photo."""
    return Path(token).stem if "/" in token else token


def _list_files(root: Path, layout: Layout) -> list[Path]:
    return [path for folder in layout.lists for path in sorted((root / folder).glob("*.txt"))]


def _place(pattern: str, image_id: str) -> str:
    pieces = image_id.split("_")
    part = pieces[1] if len(pieces) == 3 else ""
    return pattern.format(id=image_id, part=part, short=part.removesuffix("2014"), number=pieces[-1])


def read_list(path: Path, root: Path, photos: str, masks: str) -> list[Item]:
    """The images of a list file; see ``SegmentationSet.items``.

    A line is an id, a photo's path, or the paths of photo and mask, as kazuto1011/deeplab-pytorch writes them
    ("/JPEGImages/x.jpg /SegmentationClassAug/x.png"); paths are below the root, with or without the slash.
    """
    try:
        text = read_bytes(path).decode("utf-8")
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


def ids_sha256(ids: Sequence[str]) -> str:
    """64 hexadecimal digits of the sorted ids, one a line: the same for every way to write a list."""
    return sha256_bytes("".join(f"{each}\n" for each in sorted(ids)).encode("utf-8"))


def read_classes(path: Path) -> tuple[str, ...]:
    """The names in classes.txt.  Raises DataError unless the first is background, all differ, and 255 suffice."""
    lines = read_bytes(path).decode("utf-8", errors="replace").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or names[0] != BACKGROUND:
        raise DataError(f"{path}: the first line must be {BACKGROUND!r} (label 0), not {names[0] if names else ''!r}")
    twice = [name for n, name in enumerate(names) if name in names[:n]]
    if twice or not 2 <= len(names) <= VOID:
        why = f"{twice[0]!r} stands there twice" if twice else f"{len(names)} names, but labels are 0..254"
        raise DataError(f"{path}: {why}; write one class a line")
    return names


# --- masks ----------------------------------------------------------------------------------------------------------


def voc_palette() -> bytes:
    """VOC's 256 colours as 768 bytes: ``VOClabelcolormap.m`` of the development kit.

    Bits 0, 3 and 6 of a label become the first bits of red, bits 1, 4 and 7 of green, bits 2 and 5 of blue.
    """
    labels = np.arange(256)
    colours = [sum(((labels >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.stack(colours, axis=1).astype(np.uint8).tobytes()


class MaskFile(NamedTuple):
    """What a mask's PNG holds: its labels, how many pixels have each, and, in mode P, the colours of its palette."""

    labels: UInt8[np.ndarray, "h w"]
    counts: Int[np.ndarray, "256"]
    colours: UInt8[np.ndarray, "n 3"] | None


def read_mask(
    path: str | os.PathLike[str], classes: int, size_hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w"]:
    """The labels in a PNG: below ``classes``, or 255.

    Raises DataError naming the file when it is missing, damaged, no PNG, in colour (an RGB mask has lost its labels),
    of another size than ``size_hw``, has a palette that contradicts its labels (``palettes.contradiction``), or holds a
    label outside the classes.
    """
    return read_mask_file(path, classes, size_hw).labels


def read_mask_file(path: str | os.PathLike[str], classes: int, size_hw: tuple[int, int] | None = None) -> MaskFile:
    """The labels in a PNG and their colours.  Raises DataError as ``read_mask``."""
    data = read_bytes(path)
    if not data:
        raise DataError(f"{path} is empty (0 bytes); make it again")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            # Pillow stretches grey of fewer than 8 bits to 0..255, so labels would change.
            mode = f"{image.mode} of {data[24]} bits" if image.mode == "L" and data[24] != 8 else image.mode
            if mode not in ("P", "L"):
                raise DataError(f"{path} has mode {mode}; a mask is a PNG of mode P or L, one label a pixel")
            image.load()
            labels = np.array(image)
            palette = image.getpalette("RGB") if mode == "P" else None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a PNG; a mask is a PNG of mode P or L") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is damaged or cut short ({' '.join(str(error).split())}); make it again") from None
    if size_hw is not None and labels.shape != size_hw:
        (h, w), (height, width) = labels.shape, size_hw
        raise DataError(f"{path} is {h} x {w}, its image {height} x {width} (height x width)")
    colours = np.array(palette, np.uint8).reshape(-1, 3) if palette else None
    counts = np.bincount(labels.ravel(), minlength=256)
    used = [int(label) for label in np.flatnonzero(counts)]
    if colours is not None and (why := contradiction(colours, used, _standard_colours(), classes)):
        raise DataError(f"{path} {why}")
    outside = [label for label in used if classes <= label < VOID]
    if outside:
        more = f" (and {len(outside) - 1} more labels)" if len(outside) > 1 else ""
        raise DataError(
            f"{path} has label {outside[0]} on {counts[outside[0]]} pixels{more}; "
            f"the classes are 0..{classes - 1}, and {VOID} is void{_origin(used, classes)}"
        )
    return MaskFile(labels, counts, colours)


@lru_cache(maxsize=1)
def _standard_colours() -> UInt8[np.ndarray, "256 3"]:
    return np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)


def _origin(used: Sequence[int], classes: int) -> str:
    """Where labels outside the classes may come from, as the end of a sentence; nothing when it cannot be told."""
    luma = {int(n) for n in np.array(Image.fromarray(_standard_colours()[None, : max(classes, 2)]).convert("L"))[0]}
    if classes == len(COCO_CLASSES) and max(label for label in used if label < VOID) <= 90:
        return "; COCO's category ids, 1..90 with gaps? number the classes 1..80, as `prisbench wsss coco-masks` does"
    if classes <= 38 and len(used) > 1 and {label for label in used if label != VOID} <= luma:
        return '; brightness of VOC\'s colours (convert("L"))? save the labels themselves'
    held = [label for label in used if label != VOID]
    if len(held) == 2 and held[0] == 0:
        return f"; save the number of the class instead of {held[1]}"
    if held[0] == 1:
        return "; labels counted from 1? background is 0, the first class 1"
    return ""


def write_mask(path: str | os.PathLike[str], labels: UInt8[np.ndarray, "h w"]) -> Path:
    """Write labels as a PNG of mode P with VOC's colours, whole or not at all.  Raises WriteError."""
    image = Image.fromarray(np.ascontiguousarray(labels))
    image.putpalette(voc_palette())
    out = io.BytesIO()
    image.save(out, format="PNG")
    return write_bytes(path, out.getvalue())


def read_example(dataset: SegmentationSet, item: Item) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Photo and mask of an item.

    Raises DataError naming the list's line when one of them is missing, and the file for the rest of ``load_photo`` and
    ``read_mask``.
    """
    photo = read_photo(item)
    h, w = photo.shape[:2]
    return photo, read_truth(dataset, item, (h, w))


def read_truth(
    dataset: SegmentationSet, item: Item, size_hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w"]:
    """The mask of an item.  Raises DataError as ``read_mask``, and naming the list's line when there is none."""
    if not item.mask.is_file():
        raise DataError(f"{item.where}: {item.id} has no mask {item.mask}")
    return read_mask(item.mask, len(dataset.classes), size_hw)


def read_photo(item: Item) -> UInt8[np.ndarray, "h w 3"]:
    """The photo of an item.  Raises DataError, naming the list's line when there is none."""
    if not item.photo.is_file():
        raise DataError(f"{item.where}: {item.id} has no photo {item.photo}")
    return load_photo(item.photo)


def photo_size(path: Path) -> tuple[int, int]:
    """Height and width of a photo as ``load_photo`` will turn it, from its header.  Raises DataError."""
    try:
        with Image.open(path) as image:
            w, h = image.size
            turned = image.getexif().get(0x0112, 1) >= 5
    except UnidentifiedImageError:
        raise DataError(f"{path} is not a photo that can be read; copy it again") from None
    except OSError as error:
        raise DataError(cannot_read(path, error)) from None
    return (w, h) if turned else (h, w)


# --- image labels ---------------------------------------------------------------------------------------------------


def image_labels(mask: UInt8[np.ndarray, "h w"]) -> tuple[int, ...]:
    """The classes seen in a mask, sorted, without background and void.

    The published protocol takes a training image's labels from its true mask (Text2Mask, ``scripts/SD_seg.py``): an
    oracle, a perfect classifier.
    """
    return tuple(int(label) for label in np.unique(mask) if label not in (0, VOID))


def read_image_labels(path: str | os.PathLike[str], classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Each image's labels, sorted, by id, from what somebody or a classifier wrote; an image may have none.

    JSON: ``{"2007_000032": ["aeroplane", "person"]}``.  CSV: a header ``id,labels``, labels between semicolons:
    ``2007_000032,aeroplane;person``.

    Raises DataError naming file and image for another shape or an id twice, UnknownNameError for an unknown class.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        pairs = list(_csv_pairs(path))
    else:
        record = read_json(path)
        if not isinstance(record, dict):
            raise DataError(f"{path}: an object is wanted that gives each image id its list of class names")
        pairs = list(record.items())
    labels: dict[str, tuple[int, ...]] = {}
    for image_id, names in pairs:
        if image_id in labels:
            raise DataError(f"{path}: image {image_id!r} stands there twice")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path}: image {image_id!r} has {names!r}, not a list of class names")
        for name in names:
            if name not in classes[1:]:
                raise UnknownNameError(f"class of image {image_id} in {path}", name, classes[1:])
        labels[image_id] = tuple(sorted({classes.index(name) for name in names}))
    return labels


def _csv_pairs(path: Path) -> Iterator[tuple[str, list[str]]]:
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(text))
    if next(rows, None) != ["id", "labels"]:
        raise DataError(f"{path}: the first line must be id,labels")
    for row in rows:
        if len(row) not in (0, 2):
            raise DataError(
                f"{path} line {rows.line_num}: {','.join(row)!r} is not an id and labels between semicolons"
            )
        if row:
            yield row[0].strip(), [name.strip() for name in row[1].split(";") if name.strip()]
