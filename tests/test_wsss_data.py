"""VOC 2012, COCO 2014 and folders like them: layouts, lists, palette masks, COCO's masks, and what `check` says."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from typer.testing import CliRunner

from prisbench.cli.wsss import app
from prisbench.errors import DataError, PrisbenchError, UnknownNameError, WriteError
from prisbench.images.photos import encode_png
from prisbench.wsss import coco
from prisbench.wsss.labels import image_labels, read_example, read_image_labels, read_mask, voc_palette, write_mask
from prisbench.wsss.layouts import COCO_CLASSES, LAYOUTS, VOC12, VOC_CLASSES, PublishedList
from prisbench.wsss.sets import ids_sha256, open_set, read_classes
from tests.drawing import draw_box, draw_scene

ROOT = Path(__file__).parents[1]
SIZE = (12, 20)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def draw_labels(label: int, size_hw: tuple[int, int] = SIZE) -> np.ndarray:
    """A box of a label with a void line above it."""
    labels = np.where(draw_box(size_hw, 3, 4, 9, 11), label, 0).astype(np.uint8)
    labels[2] = 255
    return labels


def save_photo(path: Path, seed: int, size_hw: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_scene(seed, size_hw)).save(path)


def save_list(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def voc12(tmp_path: Path) -> Path:
    """``VOCdevkit/VOC2012`` with two training images and one for validation; returns its root."""
    home = tmp_path / "VOCdevkit" / "VOC2012"
    for seed, (name, label) in enumerate((("2007_000032", 1), ("2007_000039", 20), ("2007_000033", 15))):
        size = (12 + seed, 20)
        save_photo(home / f"JPEGImages/{name}.jpg", seed, size)
        write_mask(home / f"SegmentationClassAug/{name}.png", draw_labels(label, size))
    lists = home / "ImageSets" / "SegmentationAug"
    save_list(lists / "train_aug.txt", "2007_000032", "2007_000039")
    save_list(lists / "val.txt", "/JPEGImages/2007_000033.jpg /SegmentationClassAug/2007_000033.png")
    return tmp_path


def home_of(root: Path) -> Path:
    return root / "VOCdevkit" / "VOC2012"


# --- layouts and lists ----------------------------------------------------------------------------------------------


def test_the_published_tree_is_found_below_its_root_and_by_itself(voc12: Path) -> None:
    home = home_of(voc12)
    for found in (open_set("voc12", voc12), open_set("voc12", home), open_set(str(voc12)), open_set(str(home))):
        assert (found.name, found.root, found.classes) == ("voc12", home, VOC_CLASSES)
        assert found.splits == ("train_aug", "val")
        photo, labels = read_example(found, found.items("train_aug")[1])
        assert photo.shape == (13, 20, 3)
        np.testing.assert_array_equal(labels, draw_labels(20, (13, 20)))


def test_ids_and_pairs_of_paths_name_the_same_files(voc12: Path) -> None:
    found = open_set("voc12", voc12)
    by_paths = found.items("val")
    save_list(home_of(voc12) / "ImageSets/SegmentationAug/val.txt", "", "2007_000033")
    by_id = found.items("val")
    assert [each[:3] for each in by_paths] == [each[:3] for each in by_id]
    assert by_id[0].where.endswith("val.txt line 2")
    save_list(home_of(voc12) / "ImageSets/SegmentationAug/test.txt", "/JPEGImages/2007_000033.jpg")
    assert found.items("test")[0][:3] == by_id[0][:3]


def test_the_plain_voc_lists_and_masks_serve_where_the_augmented_ones_are_missing(voc12: Path) -> None:
    home = home_of(voc12)
    (home / "SegmentationClassAug").rename(home / "SegmentationClass")
    save_list(home / "ImageSets/Segmentation/train.txt", "2007_000032")
    found = open_set("voc12", voc12)
    assert found.items("train")[0].mask == home / "SegmentationClass" / "2007_000032.png"


def test_a_folder_of_ones_own_brings_its_classes(tmp_path: Path) -> None:
    save_list(tmp_path / "classes.txt", "background", "mug", "tea pot")
    save_list(tmp_path / "ImageSets/Segmentation/train.txt", "a.b")
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages/a.b.png").write_bytes(encode_png(draw_scene(0)))
    write_mask(tmp_path / "SegmentationClass/a.b.png", draw_labels(2))
    found = open_set(str(tmp_path))
    assert (found.name, found.classes) == (tmp_path.name, ("background", "mug", "tea pot"))
    photo, labels = read_example(found, found.items("train")[0])
    np.testing.assert_array_equal(photo, draw_scene(0))
    assert image_labels(labels) == (2,)


@pytest.mark.parametrize(
    ("photo", "mask"),
    [
        ("JPEGImages/train2014/COCO_train2014_000000000009.jpg", "Annotations/000000000009.png"),
        (
            "JPEGImages/train2014/COCO_train2014_000000000009.jpg",
            "SegmentationClass/train2014/COCO_train2014_000000000009.png",
        ),
        ("JPEGImages/train/COCO_train2014_000000000009.jpg", "SegmentationClass/train/COCO_train2014_000000000009.png"),
    ],
    ids=["Text2Mask", "ToCo", "AFA"],
)
def test_each_tree_in_use_of_coco_is_understood(tmp_path: Path, photo: str, mask: str) -> None:
    home = tmp_path / "COCO" / "COCO2014"
    save_list(home / "ImageSets/SegmentationClass/train.txt", "COCO_train2014_000000000009")
    save_photo(home / photo, 9)
    write_mask(home / mask, draw_labels(80))
    found = open_set("coco14", tmp_path)
    assert (found.items("train")[0].photo, found.items("train")[0].mask) == (home / photo, home / mask)
    assert read_example(found, found.items("train")[0])[1].max() == 255
    assert found.classes[80] == "toothbrush"


def test_what_is_wrong_with_a_list_is_said_with_its_line(voc12: Path) -> None:
    home = home_of(voc12)
    found = open_set("voc12", voc12)
    path = home / "ImageSets/SegmentationAug/val.txt"
    for lines, words in (
        (["a", "b", "a"], r"val\.txt line 3: a stands in the list twice \(first in .*val\.txt line 1\)"),
        (["a b"], r"val\.txt line 1: 'a b' is neither an id nor the paths of a photo and a mask"),
        (["/x/a.jpg /x/a.png /x/b.png"], "neither an id nor the paths"),
        ([""], r"val\.txt is empty"),
    ):
        save_list(path, *lines)
        with pytest.raises(DataError, match=words):
            found.items("val")
    path.write_bytes(b"\xff\xfe1")
    with pytest.raises(DataError, match=r"val\.txt is not text"):
        found.items("val")


def test_a_missing_list_is_named_with_the_way_to_get_it(voc12: Path) -> None:
    found = open_set("voc12", voc12)
    words = (
        r"no list .*SegmentationAug/train\.txt or .*Segmentation/train\.txt; `prisbench wsss check` .*train_aug, val"
    )
    with pytest.raises(DataError, match=words):
        found.items("train")
    with pytest.raises(UnknownNameError, match="unknown split of voc12 'vall': did you mean 'val'"):
        found.items("vall")


def test_an_id_without_photo_or_mask_is_named_with_its_line(voc12: Path) -> None:
    found = open_set("voc12", voc12)
    item = found.items("val")[0]
    item.mask.unlink()
    with pytest.raises(DataError, match=r"val\.txt line 1: 2007_000033 has no mask .*2007_000033\.png"):
        read_example(found, item)
    item.photo.unlink()
    with pytest.raises(DataError, match=r"val\.txt line 1: 2007_000033 has no photo .*2007_000033\.jpg"):
        read_example(found, item)


def test_a_set_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no voc12 in .*VOCdevkit/VOC2012.*wsss check"):
        open_set("voc12", tmp_path)
    with pytest.raises(UnknownNameError, match="unknown dataset 'voc': did you mean 'voc12'"):
        open_set("voc")
    with pytest.raises(DataError, match=r"no dataset at .*/nowhere: there is no such folder"):
        open_set(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"is no segmentation set: no classes\.txt in it"):
        open_set(str(tmp_path))


def test_what_is_wrong_with_classes_txt_is_said(tmp_path: Path) -> None:
    for lines, words in (
        (["mug", "cup"], r"classes\.txt: the first line must be 'background' \(label 0\), not 'mug'"),
        ([], "the first line must be 'background'"),
        (["background"], "1 names, but labels are 0..254"),
        (["background", "mug", "mug"], "'mug' stands there twice"),
    ):
        with pytest.raises(DataError, match=words):
            read_classes(save_list(tmp_path / "classes.txt", *lines))


def test_classes_are_in_the_published_order() -> None:
    assert (len(VOC_CLASSES), len(COCO_CLASSES)) == (21, 81)
    assert [VOC_CLASSES[n] for n in (1, 11, 15, 20)] == ["aeroplane", "diningtable", "person", "tvmonitor"]
    by_id = dict(zip(coco.CATEGORY_IDS, COCO_CLASSES[1:], strict=True))
    assert {n: by_id[n] for n in (1, 13, 27, 31, 46, 67, 70, 90)} == {
        1: "person", 13: "stop sign", 27: "backpack", 31: "handbag",
        46: "wine glass", 67: "dining table", 70: "toilet", 90: "toothbrush",
    }  # fmt: skip


@pytest.mark.data
def test_the_checksums_are_those_of_the_published_lists() -> None:
    if "PRISBENCH_DATA" not in os.environ:
        pytest.skip("PRISBENCH_DATA is not set")
    folder = Path(os.environ["PRISBENCH_DATA"]) / "voc12_lists"
    ids = {each.stem: each.read_text().split() for each in folder.glob("t*.txt")} | {
        "val": (folder / "val.txt").read_text().split()
    }
    ids |= {"trainval": ids["train"] + ids["val"], "trainval_aug": ids["train_aug"] + ids["val"]}
    for published in VOC12.published:
        assert len(ids[published.split]) == published.ids
        assert ids_sha256(ids[published.split]) == published.sha256


# --- masks ----------------------------------------------------------------------------------------------------------


def test_the_palette_is_vocs() -> None:
    colours = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
    for label, colour in ((0, (0, 0, 0)), (1, (128, 0, 0)), (6, (0, 128, 128)), (15, (192, 128, 128))):
        assert tuple(colours[label]) == colour
    assert tuple(colours[255]) == (224, 224, 192)
    for label in range(256):  # the development kit's loop
        rgb, rest = [0, 0, 0], label
        for shift in range(7, -1, -1):
            for channel in range(3):
                rgb[channel] |= ((rest >> channel) & 1) << shift
            rest >>= 3
        assert tuple(colours[label]) == tuple(rgb)


def test_a_mask_survives_the_way_to_disk_and_shows_its_colours(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 22, SIZE).astype(np.uint8)
    labels[labels == 21] = 255
    path = write_mask(tmp_path / "deep" / "m.png", labels)
    np.testing.assert_array_equal(read_mask(path, 21, SIZE), labels)
    image = Image.open(path)
    assert image.mode == "P"
    y, x = np.argwhere(labels == 15)[0]
    assert image.convert("RGB").getpixel((int(x), int(y))) == (192, 128, 128)
    Image.fromarray(labels).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png", 21), labels)


def test_a_mask_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "2007_000032.png"
    colour = Image.fromarray(draw_scene(0))
    colour.save(path)
    with pytest.raises(DataError, match=r"2007_000032\.png has mode RGB; a mask is a PNG of mode P or L"):
        read_mask(path, 21)
    colour.convert("1").save(path)
    with pytest.raises(DataError, match="has mode 1;"):
        read_mask(path, 21)
    colour.save(path, format="JPEG")
    with pytest.raises(DataError, match=r"2007_000032\.png is not a PNG"):
        read_mask(path, 21)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"2007_000032\.png is empty \(0 bytes\)"):
        read_mask(path, 21)
    path.unlink()
    with pytest.raises(DataError, match=r"2007_000032\.png does not exist"):
        read_mask(path, 21)


def test_a_mask_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "m.png", np.random.default_rng(0).integers(0, 21, (40, 60)).astype(np.uint8))
    data = path.read_bytes()
    for length in (len(data) // 2, len(data) - 30):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"m\.png is damaged or cut short"):
            read_mask(path, 21)


def test_grey_of_four_bits_is_refused_because_its_labels_would_be_stretched(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 2, 4, 0, 0, 0, 0)
    rows = zlib.compress(b"\0\x01\x01" * 2)  # labels 0 and 1, which Pillow reads as 0 and 17
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert np.asarray(Image.open(io.BytesIO(png))).max() == 17
    (tmp_path / "m.png").write_bytes(png)
    with pytest.raises(DataError, match="has mode L of 4 bits;"):
        read_mask(tmp_path / "m.png", 21)


def test_a_mask_of_another_size_than_its_photo_is_refused(voc12: Path) -> None:
    found = open_set("voc12", voc12)
    item = found.items("val")[0]
    write_mask(item.mask, draw_labels(1, (20, 14)))
    with pytest.raises(DataError, match=r"2007_000033\.png is 20 x 14, its image 14 x 20 \(height x width\)"):
        read_example(found, item)


def test_labels_outside_the_classes_are_named(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "m.png", draw_labels(21))
    with pytest.raises(DataError, match=r"m\.png has label 21 on 42 pixels; the classes are 0\.\.20, and 255 is void"):
        read_mask(path, 21)
    labels = draw_labels(90)
    labels[-1, -1] = 254
    write_mask(path, labels)
    with pytest.raises(DataError, match=r"label 90 on 42 pixels \(and 1 more labels\)"):
        read_mask(path, 81)


def test_an_interrupted_write_leaves_the_mask_that_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_mask(tmp_path / "m.png", draw_labels(1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match=r"cannot write .*m\.png: the disk is full"):
        write_mask(path, draw_labels(2))
    assert [each.name for each in tmp_path.iterdir()] == ["m.png"]
    assert image_labels(read_mask(path, 21)) == (1,)


def test_labels_of_an_image_come_from_its_mask_without_background_and_void() -> None:
    labels = draw_labels(7)
    labels[-1, 0] = 3
    assert image_labels(labels) == (3, 7)
    assert image_labels(np.full(SIZE, 255, np.uint8)) == ()


def test_labels_of_images_come_from_json_or_csv_alike(tmp_path: Path) -> None:
    expected = {"2007_000032": (1, 15), "2007_000033": ()}
    as_json = tmp_path / "labels.json"
    as_json.write_text(json.dumps({"2007_000032": ["person", "aeroplane"], "2007_000033": []}))
    assert read_image_labels(as_json, VOC_CLASSES) == expected
    as_csv = save_list(tmp_path / "labels.csv", "id,labels", "2007_000032,person;aeroplane", "2007_000033,")
    assert read_image_labels(as_csv, VOC_CLASSES) == expected


def test_what_is_wrong_with_image_labels_is_said(tmp_path: Path) -> None:
    def read(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        read_image_labels(tmp_path / name, VOC_CLASSES)

    words = r"unknown class of image a in .*l\.json 'aeroplan': did you mean 'aeroplane'"
    with pytest.raises(UnknownNameError, match=words):
        read("l.json", '{"a": ["aeroplan"]}')
    with pytest.raises(UnknownNameError, match="'background'"):
        read("l.json", '{"a": ["background"]}')
    with pytest.raises(DataError, match=r"l\.json: image 'a' has 'cat', not a list of class names"):
        read("l.json", '{"a": "cat"}')
    with pytest.raises(DataError, match=r"l\.json: an object is wanted"):
        read("l.json", "[]")
    with pytest.raises(DataError, match=r"l\.csv: the first line must be id,labels"):
        read("l.csv", "a,cat\n")
    with pytest.raises(DataError, match=r"l\.csv line 2: 'a,cat,dog' is not an id and labels between semicolons"):
        read("l.csv", "id,labels\na,cat,dog\n")
    with pytest.raises(DataError, match=r"l\.csv: image 'a' stands there twice"):
        read("l.csv", "id,labels\na,cat\na,dog\n")


# --- COCO's masks ---------------------------------------------------------------------------------------------------

NAME = "COCO_train2014_{:012d}"


def polygon(*box: float) -> list[float]:
    """The corners of left, top, right, bottom."""
    left, top, right, bottom = box
    return [left, top, right, top, right, bottom, left, bottom]


def instances() -> dict[str, Any]:
    """Three images: overlaps, a crowd and both kinds of run lengths; one polygon of two corners; none at all."""
    h, w = SIZE
    crowd = draw_box(SIZE, 0, 0, 3, 20)
    counts = [0, *(len(list(run)) for _, run in itertools.groupby(crowd.T.ravel()))]  # column-major, off first
    small = rle.encode(np.asfortranarray(draw_box(SIZE, 1, 6, 8, 8).astype(np.uint8)))
    small["counts"] = small["counts"].decode()

    def annotation(number: int, image: int, category: int, segmentation: Any, area: float) -> dict[str, Any]:
        fields = {"id": number, "image_id": image, "category_id": category, "area": area, "iscrowd": int(number == 3)}
        return fields | {"segmentation": segmentation, "bbox": [0, 0, 1, 1]}

    return {
        "images": [
            {"id": number, "file_name": NAME.format(number) + ".jpg", "height": h + (number == 30), "width": w}
            for number in (30, 9, 25)
        ],
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(coco.CATEGORY_IDS, COCO_CLASSES[1:], strict=True)
        ],
        "annotations": [
            annotation(1, 9, 1, [polygon(2, 2, 16, 10), polygon(17.5, 3, 19.5, 9)], 120.0),
            annotation(2, 9, 90, [polygon(4, 4, 9, 8)], 20.0),
            annotation(3, 9, 13, {"size": [h, w], "counts": counts}, 60),
            annotation(4, 9, 44, small, 14.0),
            annotation(5, 9, 27, [polygon(5, 5, 7, 11)], 14.0),
            annotation(6, 30, 2, [polygon(1, 1, 5, 12), [3.0, 3.0, 6.0, 6.0]], 44.0),
        ],
    }  # fmt: skip


def write_instances(folder: Path, record: dict[str, Any] | None = None, name: str = "instances_train2014.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(instances() if record is None else record))
    return path


def test_coco_masks_have_the_smallest_instance_on_top_like_a_pixel_by_pixel_answer(tmp_path: Path) -> None:
    built = coco.build_masks(write_instances(tmp_path), tmp_path / "COCO2014")
    assert built == (2, 0, 1, tmp_path / "COCO2014/ImageSets/SegmentationClass/train.txt", 0)
    assert built.list_path.read_text().split() == [NAME.format(9), NAME.format(30)]

    other = COCO()
    other.dataset = instances()
    other.createIndex()
    covers = [(each["area"], n, each) for n, each in enumerate(other.dataset["annotations"]) if each["image_id"] == 9]
    regions = {n: other.annToMask(each) for _, n, each in covers}
    labels = read_mask(tmp_path / f"COCO2014/SegmentationClass/train2014/{NAME.format(9)}.png", 81, SIZE)
    for y, x in np.ndindex(*SIZE):
        on_top = min(((area, n, each["category_id"]) for area, n, each in covers if regions[n][y, x]), default=None)
        assert labels[y, x] == (0 if on_top is None else coco.CATEGORY_IDS.index(on_top[2]) + 1)
    assert set(np.unique(labels)) == {0, 1, 12, 25, 40, 80}  # category ids 1, 13, 27, 44, 90; the crowd is painted


def test_an_interrupted_coco_build_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    path = write_instances(tmp_path)

    def stop(done: int, total: int) -> None:
        assert total == 2
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        coco.build_masks(path, tmp_path / "a", stop)
    assert len(list((tmp_path / "a").rglob("*.png"))) == 1
    assert not (tmp_path / "a/ImageSets").exists()
    heard: list[tuple[int, int]] = []
    built = coco.build_masks(path, tmp_path / "a", lambda *at: heard.append(at))
    assert (built.written, built.kept, heard) == (1, 1, [(1, 2), (2, 2)])
    coco.build_masks(path, tmp_path / "b")
    one, two = (
        {p.relative_to(top): p.read_bytes() for p in top.rglob("*.*")} for top in (tmp_path / "a", tmp_path / "b")
    )
    assert one == two


def test_coco_masks_are_not_mixed_with_others(tmp_path: Path) -> None:
    coco.build_masks(write_instances(tmp_path), tmp_path)
    record = instances()
    record["annotations"].pop()
    with pytest.raises(DataError, match="train2014 holds masks of another file or rule"):
        coco.build_masks(write_instances(tmp_path, record, "other.json"), tmp_path)
    (tmp_path / "SegmentationClass/train2014" / coco.RECORD).unlink()
    with pytest.raises(DataError, match="holds masks that were not made here"):
        coco.build_masks(tmp_path / "other.json", tmp_path)


def test_what_is_wrong_with_an_instances_file_is_said(tmp_path: Path) -> None:
    def build(change: Any) -> None:
        record = instances()
        change(record)
        coco.build_masks(write_instances(tmp_path, record), tmp_path / "out")

    def first(**fields: Any) -> Any:
        return lambda record: record["annotations"][0].update(fields)

    for change, words in (
        (lambda r: r.pop("images"), r"instances_train2014\.json is not an instances file of COCO"),
        (lambda r: r["categories"].pop(), "has 79 categories, which are not COCO's 80"),
        (lambda r: r["images"][0].update(file_name="000000000009.jpg"), "names photos like"),
        (lambda r: r["images"][0].update(file_name="COCO_val2014_000000000030.jpg"), "names photos like"),
        (lambda r: r["images"].pop(1), "annotations of image 9, which the file does not list"),
        (lambda r: r["images"][1].update(width=0), r"image 9 has the size \(12, 0\)"),
        (first(category_id=12), "annotation 1 has category 12, which COCO has not"),
        (first(area=None), "annotation 1 has the area None, not a number"),
        (first(segmentation=None), "annotation 1: its segmentation is neither polygons nor run lengths"),
        (first(segmentation=[[1, 2, 3]]), "annotation 1: its segmentation is neither"),
        (first(segmentation={"size": [20, 12], "counts": [240]}), r"annotation 1: run lengths of size \[20, 12\]"),
        (first(segmentation={"size": [12, 20], "counts": [239]}), "annotation 1: its run lengths do not add up"),
        (first(segmentation={"size": [12, 20], "counts": "11"}), "annotation 1: the RLE's runs do not add up"),
    ):
        with pytest.raises(DataError, match=words):
            build(change)
        for note in tmp_path.glob("out/**/*.json"):
            note.unlink()


# --- the command line -----------------------------------------------------------------------------------------------


def test_check_says_what_is_missing_and_how_to_get_it(voc12: Path) -> None:
    answer = run("check", voc12)
    assert answer.exit_code == 0
    assert "VOC2012: usable" in answer.stdout
    assert "train_aug  2 ids, NOT the published list (10582 ids)" in answer.stdout
    assert "test       no list; 1456 ids are wanted" in answer.stdout
    assert "photos and masks are all there" in answer.stdout
    assert "3 masks read, 0 things wrong" in answer.stdout
    assert "https://github.com/jiwoon-ahn/irn/tree/master/voc12 (MIT)" in answer.stdout
    assert "SegmentationClassAug.zip" not in answer.stdout

    (home_of(voc12) / "SegmentationClassAug/2007_000033.png").unlink()
    answer = run("check", voc12, "--format", "json")
    assert answer.exit_code == 1
    (report,) = json.loads(answer.stdout)
    assert (report["dataset"], report["usable"]) == ("voc12", False)
    val = next(each for each in report["lists"] if each["split"] == "val")
    assert (val["whole"], val["right"], val["masks_missing"]) == (False, False, 1)
    assert val["first_missing"].endswith("2007_000033.png")
    assert any("SegmentationClassAug.zip" in each["url"] for each in report["get"])


def test_check_knows_the_published_lists_by_their_ids_however_they_are_written(
    voc12: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    digest = ids_sha256(["2007_000039", "2007_000032"])
    published = (PublishedList("train_aug", 2, digest), *VOC12.published[1:])
    monkeypatch.setitem(LAYOUTS, "voc12", dataclasses.replace(VOC12, published=published))
    assert "train_aug  2 ids, the published list; photos and masks are all there" in run("check", voc12).stdout
    lines = [f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png" for n in ("2007_000039", "2007_000032")]
    save_list(home_of(voc12) / "ImageSets/SegmentationAug/train_aug.txt", *lines)
    assert "train_aug  2 ids, the published list;" in run("check", voc12, "--dataset", "voc12").stdout
    save_list(home_of(voc12) / "ImageSets/SegmentationAug/train_aug.txt", lines[0])
    assert "train_aug  1 ids, NOT the published list (2 ids)" in run("check", voc12).stdout


def test_check_reads_masks_and_names_the_damaged(voc12: Path) -> None:
    home = home_of(voc12)
    Image.fromarray(draw_scene(0)).save(home / "SegmentationClassAug/2007_000032.png")
    write_mask(home / "SegmentationClassAug/2007_000039.png", draw_labels(1, (20, 13)))
    write_mask(home / "SegmentationClassAug/2007_000033.png", draw_labels(77, (14, 20)))
    answer = run("check", voc12, "--full")
    assert answer.exit_code == 1
    assert "VOC2012: NOT usable" in answer.stdout
    for words in (
        "3 masks read, 3 things wrong:",
        "2007_000032.png has mode RGB",
        "2007_000039.png is 20 x 13, its image 13 x 20",
        "2007_000033.png has label 77 on 42 pixels",
    ):
        assert words in answer.stdout


def test_check_of_nothing_says_how_to_get_both(tmp_path: Path) -> None:
    answer = run("check", tmp_path)
    assert answer.exit_code == 1
    assert "VOCtrainval_11-May-2012.tar" in answer.stdout
    assert "annotations_trainval2014.zip (CC BY 4.0)" in answer.stdout
    assert isinstance(run("check", tmp_path, "--dataset", "folder").exception, DataError)


def test_check_reads_a_folder_of_ones_own(tmp_path: Path) -> None:
    save_list(tmp_path / "classes.txt", "background", "mug")
    assert run("check", tmp_path).exit_code == 1
    save_list(tmp_path / "ImageSets/Segmentation/train.txt", "a", "b")
    for name in "ab":
        save_photo(tmp_path / f"JPEGImages/{name}.jpg", 1)
        write_mask(tmp_path / f"SegmentationClass/{name}.png", draw_labels(1))
    answer = run("check", tmp_path)
    assert (answer.exit_code, "train  2 ids; photos and masks are all there" in answer.stdout) == (0, True)
    (tmp_path / "JPEGImages/b.jpg").unlink()
    assert "1 photos missing; the first is" in run("check", tmp_path).stdout


def test_coco_masks_are_made_by_command_and_then_usable(tmp_path: Path) -> None:
    home = tmp_path / "COCO" / "COCO2014"
    val = json.loads(json.dumps(instances()).replace("train2014", "val2014"))
    paths = [write_instances(tmp_path), write_instances(tmp_path, val, "instances_val2014.json")]
    for part, number in ((p, n) for p in ("train2014", "val2014") for n in (9, 30)):
        save_photo(home / f"JPEGImages/{part}/COCO_{part}_{number:012d}.jpg", number, (12 + (number == 30), 20))
    answer = run("coco-masks", tmp_path, *paths)
    assert answer.exit_code == 0, answer.exception
    assert "2 masks written, 0 were there" in answer.stdout
    assert "1 polygons of under three corners left out" in answer.stdout
    answer = run("check", tmp_path)
    assert answer.exit_code == 0, answer.stdout
    assert "coco14 in" in answer.stdout and "val    2 ids, NOT the published list (40137 ids)" in answer.stdout
    again = run("coco-masks", home, *paths, "--format", "json")
    assert [(each["written"], each["kept"]) for each in json.loads(again.stdout)] == [(0, 2), (0, 2)]
    missing = run("coco-masks", tmp_path / "nowhere", *paths).exception
    assert isinstance(missing, PrisbenchError) and "no folder" in str(missing)


def test_neither_torch_nor_numpy_is_loaded_before_a_command_runs() -> None:
    code = (
        "import sys\nimport prisbench.cli.wsss\nassert 'numpy' not in sys.modules\n"
        "import prisbench.wsss.labels, prisbench.wsss.coco, prisbench.wsss.evaluate\n"
        "assert not {'torch', 'transformers', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
