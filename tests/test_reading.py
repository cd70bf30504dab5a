"""Reading other people's files: what comes out of good ones.  What bad ones meet is ``test_hostile``'s table."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from prisbench.datasets.sources import archives
from prisbench.datasets.sources.archives import opened
from prisbench.datasets.sources.mask_files import mask_file
from prisbench.datasets.sources.reading.files import folders, inside, listing
from prisbench.datasets.sources.reading.images import colours_file, image_file, label_file
from prisbench.datasets.sources.reading.regions import polygons, rle
from prisbench.datasets.sources.reading.values import json_file, yaml_file
from prisbench.errors import DataError
from prisbench.images.masks import to_rle
from prisbench.images.photos import decode_photo
from tests.drawing import draw_box, draw_scene

SIZE = (12, 20)
BOX = draw_box(SIZE, 3, 4, 9, 15)
LABELS = np.where(BOX, 3, 0).astype(np.uint8)
LABELS[0, 0] = 1


def saved(path: Path, image: np.ndarray | Image.Image, **how: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **how)
    return path


def raw_png(labels: np.ndarray, bits: int, kind: int = 0) -> bytes:
    """A PNG written by hand, one channel of fewer than 8 bits."""
    h, w = labels.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    shifts = np.arange(bits - 1, -1, -1, dtype=np.uint8)
    rows = ((labels[:, :, None] >> shifts) & 1).reshape(h, w * bits)
    lines = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", w, h, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


# --- paths ----------------------------------------------------------------------------------------------------------


def test_a_name_inside_becomes_a_path_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "tasse à café.png").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "a b" / "tasse à café.png")
    assert inside(tmp_path, "a b/tasse à café.png") == tmp_path / "a b" / "tasse à café.png"
    assert inside(tmp_path, "./a b") == tmp_path / "a b"
    assert inside(tmp_path, "link.png") == tmp_path / "link.png"


def test_a_link_out_and_in_again_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(b"x")
    (tmp_path / "set" / "out").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"^list, line 3: .*/set/out is a link that leaves .*/set; put the file itself"):
        inside(tmp_path / "set", "out/set/a.png", "list, line 3")


def test_the_root_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(b"x")
    (tmp_path / "short").symlink_to(tmp_path / "set")
    assert inside(tmp_path / "short", "a.png") == tmp_path / "short" / "a.png"
    assert listing(tmp_path / "short") == [tmp_path / "short" / "a.png"]


def test_a_listing_is_sorted_and_leaves_hidden_files_and_folders_alone(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("z", "y.png", ".git"):
        (tmp_path / name).mkdir()
    assert [path.name for path in listing(tmp_path, {".png", ".jpg"})] == ["a.png", "b.JPG"]
    assert [path.name for path in listing(tmp_path)] == ["a.png", "b.JPG", "notes.txt"]
    assert [path.name for path in folders(tmp_path)] == ["y.png", "z"]


# --- values ---------------------------------------------------------------------------------------------------------


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"caf\xc3\xa9": [1, 2.5, null]}')
    assert json_file(tmp_path / "a.json") == {"café": [1, 2.5, None]}


def test_json_above_a_size_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    assert json_file(tmp_path / "a.json", most_bytes=9) == [1, 2, 3]
    with pytest.raises(DataError, match=r"a\.json has 9 bytes, more than the 8 bytes that are read$"):
        json_file(tmp_path / "a.json", most_bytes=8)


def test_yaml_gives_plain_values(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("noun: mug\nroles:\n  photos: [a, b]\n  share: 0.5\n")
    assert yaml_file(tmp_path / "a.yaml") == {"noun": "mug", "roles": {"photos": ["a", "b"], "share": 0.5}}


# --- photos ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "how"), [("jpg", {"quality": 90}), ("png", {}), ("webp", {"lossless": True}), ("jpg", {"grey": True})]
)
def test_a_plain_photo_comes_with_its_file(tmp_path: Path, suffix: str, how: dict[str, Any]) -> None:
    image = Image.fromarray(draw_scene(1)).convert("L" if how.pop("grey", False) else "RGB")
    path = saved(tmp_path / f"a.{suffix}", image, **how)
    pixels, file = image_file(path)
    assert file == path.read_bytes()
    assert pixels.shape == (12, 20, 3)
    assert np.array_equal(pixels, decode_photo(file, "again"))


def exif(tag: int, value: Any, ifd: int | None = None) -> Image.Exif:
    found = Image.Exif()
    if ifd is None:
        found[tag] = value
    else:
        found.get_ifd(ifd)[tag] = value
        found[ifd] = found.get_ifd(ifd)
    return found


NOT_AS_THEY_ARE = {
    "turned.jpg": lambda path: saved(path, draw_scene(1), exif=exif(0x0112, 6)),
    "taken-at-home.jpg": lambda path: saved(path, draw_scene(1), exif=exif(1, "N", 0x8825)),
    "named-owner.jpg": lambda path: saved(path, draw_scene(1), exif=exif(0xA430, "Anna", 0x8769)),
    "place-in-xmp.jpg": lambda path: saved(path, draw_scene(1), xmp=b"<x exif:GPSLatitude='52,31N'/>"),
    "print.jpg": lambda path: saved(path, Image.fromarray(draw_scene(1)).convert("CMYK")),
    "glass.png": lambda path: saved(path, np.dstack([draw_scene(1), draw_scene(2)[:, :, 0]])),
    "deep.png": lambda path: saved(path, draw_scene(1)[:, :, 0].astype(np.uint16) * 257),
    "film.gif": lambda path: saved(path, draw_scene(1)),
    "film.png": lambda path: saved(
        path, draw_scene(1), save_all=True, append_images=[Image.fromarray(draw_scene(2))], duration=9
    ),
    "heavy.png": lambda path: path.write_bytes(saved(path, draw_scene(1)).read_bytes() + bytes(100_000)),
}


@pytest.mark.parametrize("name", NOT_AS_THEY_ARE)
def test_a_photo_that_is_not_to_be_published_as_it_is_comes_without_its_file(tmp_path: Path, name: str) -> None:
    NOT_AS_THEY_ARE[name](tmp_path / name)
    pixels, file = image_file(tmp_path / name)
    assert file is None
    assert pixels.shape == ((20, 12, 3) if name == "turned.jpg" else (12, 20, 3))


def test_what_a_photo_is_its_content_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", draw_scene(1), format="PNG")
    assert np.array_equal(image_file(path).pixels, draw_scene(1))


# --- labels and masks -----------------------------------------------------------------------------------------------


def palette_image(labels: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(colours)
    return image


def test_labels_are_the_numbers_of_the_file(tmp_path: Path) -> None:
    saved(tmp_path / "grey.png", LABELS)
    saved(tmp_path / "palette.png", palette_image(LABELS, [0, 0, 0, 128, 0, 0, 9, 9, 9, 0, 128, 0]))
    saved(tmp_path / "deep.png", LABELS.astype(np.uint16))
    saved(tmp_path / "alpha.png", Image.fromarray(np.dstack([LABELS, LABELS + 9]), mode="LA"))
    (tmp_path / "two-bits.png").write_bytes(raw_png(LABELS, 2))
    (tmp_path / "four-bits.png").write_bytes(raw_png(LABELS, 4))
    for path in listing(tmp_path):
        found = label_file(path, SIZE)
        assert found.dtype == np.int32
        assert np.array_equal(found, LABELS), path.name


def test_labels_of_16_bits_keep_them(tmp_path: Path) -> None:
    labels = np.where(BOX, 40_000, 256).astype(np.uint16)
    path = saved(tmp_path / "a.png", labels)
    assert np.array_equal(label_file(path, SIZE), labels)


def test_labels_that_a_set_does_not_know_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", LABELS)
    assert np.array_equal(label_file(path, SIZE, "", (0, 1, 3)), LABELS)
    with pytest.raises(
        DataError, match=r"a\.png has the label 1 \(1 px\) and 1 more such labels; there are only 0, 2$"
    ):
        label_file(path, SIZE, "", (0, 2))


def test_a_mask_of_one_bit(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", BOX)
    assert np.array_equal(label_file(path, SIZE), BOX.astype(int))
    assert np.array_equal(mask_file(path, SIZE), BOX)


def test_a_mask_is_turned_as_its_own_orientation_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", LABELS, exif=exif(0x0112, 6))
    assert np.array_equal(label_file(path, (20, 12)), np.rot90(LABELS, -1))


def test_colours_are_given_where_labels_are_not(tmp_path: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[BOX] = (128, 0, 0)
    saved(tmp_path / "rgb.png", colours)
    saved(tmp_path / "rgba.png", np.dstack([colours, draw_scene(5)[:, :, 0]]))
    saved(tmp_path / "palette.png", palette_image(BOX.astype(np.uint8), [0, 0, 0, 128, 0, 0]), transparency=0)
    for path in listing(tmp_path):
        assert np.array_equal(colours_file(path, SIZE), colours), path.name


def test_a_wrong_size_is_told_and_that_it_may_be_turned(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", BOX)
    for read in (label_file, mask_file, colours_file):
        with pytest.raises(
            DataError, match=r"^scene 7: .*a\.png is 12 x 20, its image 12 x 21 \(height x width\); save it at the size"
        ):
            read(path, (12, 21), "scene 7")
        with pytest.raises(DataError, match=r"is 12 x 20, its image 20 x 12 .* turned by its EXIF orientation"):
            read(path, (20, 12))


# --- regions --------------------------------------------------------------------------------------------------------


def test_polygons_are_drawn_as_coco_draws_them_and_cut_off_at_the_border() -> None:
    parts = [[2.0, 2.0, 9.5, 2.0, 9.5, 7.0, 2.0, 7.0], [12, 3, 26, 3, 26, 9]]
    expected = coco.decode(coco.merge(coco.frPyObjects(parts, 12, 20))).astype(bool)
    found = polygons(parts, SIZE, "annotation 1")
    assert np.array_equal(found, expected)
    assert found[:, 12:].any()
    assert found[2:7, 2:9].all()
    # A large canvas shows that nothing but what lies outside is lost.
    assert np.array_equal(found, polygons(parts, (12, 40), "annotation 1")[:, :20])


def test_a_polygon_thinner_than_a_pixel_is_empty() -> None:
    assert not polygons([[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]], SIZE, "annotation 1").any()


def test_run_lengths_are_read_in_all_their_forms() -> None:
    compressed = to_rle(BOX)
    flat = BOX.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    for value in (
        compressed,
        {"size": [12, 20], "counts": compressed["counts"].encode()},
        {"size": [12, 20], "counts": counts},
        {"size": [12, 20], "counts": [float(n) for n in counts]},
    ):
        assert np.array_equal(rle(value, SIZE, "annotation 1"), BOX)
    assert not rle({"size": [12, 20], "counts": [240]}, SIZE, "annotation 1").any()
    assert rle({"size": [12, 20], "counts": [0, 240]}, SIZE, "annotation 1").all()


def test_run_lengths_that_are_printed_bytes_are_told_as_such() -> None:
    value = {"size": [12, 20], "counts": str(to_rle(BOX)["counts"].encode())}
    with pytest.raises(DataError, match=r"^annotation 1: its counts are Python's way to print bytes .* counts\.decode"):
        rle(value, SIZE, "annotation 1")


def test_a_name_is_found_however_its_accents_are_stored(tmp_path: Path) -> None:
    apart, together = "Ku\u0308che", "K\u00fcche"
    (tmp_path / apart).mkdir()
    saved(tmp_path / apart / f"{apart}.png", BOX)
    assert inside(tmp_path, f"{together}/{together}.png") == tmp_path / apart / f"{apart}.png"
    (tmp_path / together).mkdir()
    saved(tmp_path / together / "b.png", BOX)
    assert inside(tmp_path, f"{together}/b.png") == tmp_path / together / "b.png", "the very name comes first"
    with pytest.raises(DataError, match=r"c\.png does not exist"):
        inside(tmp_path, f"{together}/c.png")


@pytest.mark.parametrize("rows", [12, 700])
def test_uncompressed_run_lengths_agree_with_coco(rows: int) -> None:
    mask = np.random.default_rng(rows).random((rows, 20)) < 0.3
    flat = mask.T.ravel()
    starts = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    counts = [0] * bool(flat[0]) + np.diff(starts).tolist()
    value = {"size": [rows, 20], "counts": counts}
    assert np.array_equal(rle(value, (rows, 20), "m"), coco.decode(coco.frPyObjects(value, rows, 20)).astype(bool))


def test_numbers_as_long_as_a_large_image_needs_are_read() -> None:
    mask = np.zeros((5000, 4000), dtype=bool)
    mask[4000:, 3990] = True
    assert np.array_equal(rle(to_rle(mask), (5000, 4000), "m"), mask)


@pytest.mark.data
@pytest.mark.skipif("PRISBENCH_DATA" not in os.environ, reason="PRISBENCH_DATA names no folder with real data")
def test_real_polygons_run_lengths_and_masks_are_what_pycocotools_and_opencv_read() -> None:
    root = Path(os.environ["PRISBENCH_DATA"])
    golden = json_file(root / "golden" / "golden_masks.json")
    regions = {each["id"]: each for each in json_file(root / "lvis_val_100" / "lvis_val_100.json")["annotations"]}
    for each in golden["lvis_rle_first100"]:
        h, w = each["rle"]["size"]
        mask = polygons(regions[each["ann_id"]]["segmentation"], (h, w), f"annotation {each['ann_id']}")
        assert np.array_equal(mask, rle(each["rle"], (h, w), "golden"))
        assert int(mask.sum()) == each["raster_area"]
    for each in golden["perseg"]:
        path = inside(root / "perseg_examples" / "Annotations", each["file"])
        assert int(mask_file(path, (each["h"], each["w"])).sum()) == each["fg"]
    masklet = json_file(root / "sav_rle" / "sav_000001_manual.json")["masklet"]
    for each in golden["sav_manual"]:
        mask = rle(masklet[each["frame"]][each["obj"]], (848, 480), f"frame {each['frame']}")
        assert int(mask.sum()) == each["decoded_sum"]
    for each in golden["ycb_objects"][::9]:
        path = root / "ycb_video" / each["seq"] / f"{each['frame']}-label.png"
        assert int((label_file(path, (480, 640)) == each["id"]).sum()) == each["area"]


# --- archives -------------------------------------------------------------------------------------------------------


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2022, 2, 3, 4, 5, 6)), data, zipfile.ZIP_DEFLATED)
    return path


def tarred(path: Path, files: dict[str, bytes], how: str = "w:gz") -> Path:
    with tarfile.open(path, how) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1643861106
            archive.addfile(member, io.BytesIO(data))
    return path


FILES = {"a.txt": b"one", "b/c.txt": b"two" * 999, "b/inner.zip": b"PK\x03\x04 stays packed"}


@pytest.mark.parametrize("kind", ["set.zip", "set.tar.gz", "set.tgz", "set.tar", "mislabelled.bin"])
def test_an_archive_is_a_folder_while_it_is_read(tmp_path: Path, kind: str) -> None:
    if kind == "set.zip":
        path = zipped(tmp_path / kind, FILES)
    else:
        path = tarred(tmp_path / kind, FILES, "w" if kind == "set.tar" else "w:gz")
    with opened(path) as folder:
        found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")}
        assert found == FILES
        # Name and times are of the archive: so a build goes on after an interruption, and has the same sources.
        assert folder.name == kind.removesuffix(".zip").removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")
        assert (folder / "a.txt").stat().st_mtime == 1643861106
    assert not folder.exists()
    assert [each.name for each in tmp_path.iterdir()] == [kind]


def test_a_folder_is_given_as_it_is(tmp_path: Path) -> None:
    with opened(tmp_path) as folder:
        assert folder == tmp_path
    assert tmp_path.exists()


def test_a_folder_named_like_its_archive_is_the_set(tmp_path: Path) -> None:
    with opened(zipped(tmp_path / "PerSeg.zip", {"perseg/a.txt": b"x", "__MACOSX/perseg/._a.txt": b"y"})) as folder:
        assert [each.name for each in folder.iterdir()] == ["a.txt"]
    with opened(tarred(tmp_path / "v2.tar.gz", {"mug-anna/a.txt": b"x"})) as folder:
        assert [each.name for each in folder.iterdir()] == ["mug-anna"]


def test_a_tar_made_of_the_current_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"x")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(tmp_path / "in", ".")
    with opened(tmp_path / "set.tar") as folder:
        assert (folder / "a.txt").read_bytes() == b"x"


def test_the_unpacked_folder_goes_when_the_reader_fails(tmp_path: Path) -> None:
    seen = []
    with pytest.raises(KeyError), opened(zipped(tmp_path / "set.zip", FILES)) as folder:
        seen.append(folder)
        raise KeyError("the source has a bug")
    assert not seen[0].exists()


def test_what_compresses_well_is_no_bomb_while_it_is_small(tmp_path: Path) -> None:
    path = zipped(tmp_path / "masks.zip", {"black.png": bytes(2_000_000)})
    assert path.stat().st_size * archives.MOST_TIMES < 2_000_000
    with opened(path) as folder:
        assert (folder / "black.png").stat().st_size == 2_000_000


def test_a_long_name_and_a_global_comment_in_a_tar_are_fine(tmp_path: Path) -> None:
    name = "/".join(["a" * 90] * 3) + ".txt"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{kind}.tar"
        with tarfile.open(path, "w", format=kind, pax_headers={"comment": "0" * 40}) as archive:
            archive.addfile(tarfile.TarInfo(name))
        with opened(path) as folder:
            assert (folder / name).read_bytes() == b""


def test_json_is_what_the_sources_read_from_an_archive(tmp_path: Path) -> None:
    with opened(zipped(tmp_path / "s.zip", {"a.json": json.dumps([1]).encode()})) as folder:
        assert json_file(inside(folder, "a.json")) == [1]
