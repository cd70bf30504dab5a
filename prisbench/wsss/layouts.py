"""What VOC 2012, COCO 2014 and a folder of one's own look like: classes, places, published lists,
where to get them.

Knows: the names and numbers that were published.  Does not know: what is on this disk (``sets``,
``check``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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
"""COCO's 80 in the order of its category ids, without the ids'
gaps: 1..80, as the published masks have them."""


class Source(NamedTuple):
    """Where a part of a set comes from.

    ``gives`` is photos, masks or lists; ``splits`` those it serves.
    """

    what: str
    gives: str
    splits: tuple[str, ...]
    url: str
    licence: str


class PublishedList(NamedTuple):
    """A list everybody uses: how many ids, and the sha256 (or its
    first digits) of the sorted ids, one a line.
    """

    split: str
    ids: int
    sha256: str


@dataclass(frozen=True)
class Layout:
    """Where a set keeps things, and what should be there.

    ``homes`` are places below a root, the first that is there counts.  ``photos`` and ``masks``
    are patterns below the home, ``lists`` folders, in order of preference.  In patterns ``{id}``
    is an id of a list; of COCO's ids, such as COCO_train2014_000000000009, ``{part}`` is
    train2014, ``{short}`` train and ``{number}`` the digits.  ``needed``: of every group one split
    must be whole for the set to be of use.
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
"""Lists: jiwoon-ahn/irn (MIT), the same bytes in rulixiang/afa.  Tree: the READMEs of
kazuto1011/deeplab-pytorch and of Big-Brother-Pikachu/Text2Mask.  All lists are sorted, so sorted
ids tell a list whatever its lines look like."""


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
"""Trees in use: Text2Mask (masks in Annotations, named by the digits), rulixiang/ToCo
(SegmentationClass/train2014), rulixiang/afa (SegmentationClass/train), CLIP-ES
(SegmentationClass).  Of the checksums the first digits are known."""


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
