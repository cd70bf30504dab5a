from __future__ import annotations

import hashlib
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prisbench.errors import DataError, MissingExtraError
from prisbench.images.photos import (
    decode_photo,
    encode_png,
    fit_within,
    image_id,
    load_photo,
    load_photos,
    looks_like_mask,
    photo_files,
    pixels_sha256,
    resize_to,
)
from tests.drawing import draw_scene


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format=kind, **options)  # type: ignore[arg-type]
    return out.getvalue()


def halves() -> np.ndarray:
    """2 x 4: the left half red, the right half blue."""
    image = np.zeros((2, 4, 3), np.uint8)
    image[:, :2, 0] = 255
    image[:, 2:, 2] = 255
    return image


def test_png_survives_unchanged(tmp_path: Path) -> None:
    scene = draw_scene(0)
    (tmp_path / "a.png").write_bytes(encode_png(scene))
    loaded = load_photo(tmp_path / "a.png")
    assert loaded.dtype == np.uint8
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, scene)


def test_exif_orientation_turns_the_photo_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    photo = decode_photo(saved(Image.fromarray(halves()), "PNG", exif=exif.tobytes()), "x")
    assert photo.shape == (4, 2, 3)
    np.testing.assert_array_equal(photo, np.rot90(halves(), -1))


def test_transparency_is_composited_over_white() -> None:
    rgba = np.dstack([halves(), np.array([[255, 0, 128, 255]] * 2, np.uint8)])
    photo = decode_photo(saved(Image.fromarray(rgba), "PNG"), "x")
    assert photo[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 255], [0, 0, 255]]


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "RGB", "L"])
def test_every_way_to_say_transparent_becomes_white(mode: str) -> None:
    """Alpha channels, and the one colour of PNG and GIF that stands for transparent."""
    grey = np.full((2, 3), 10, np.uint8)
    grey[0, 0] = 200
    if mode.endswith("A"):
        alpha = np.where(grey == 200, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey).convert(mode)
        image.putalpha(Image.fromarray(alpha))
        data = saved(image, "PNG" if mode == "LA" else "TIFF")
    elif mode == "P":
        image = Image.fromarray((grey == 200).astype(np.uint8), mode="P")
        image.putpalette([10, 10, 10, 200, 200, 200])
        data = saved(image, "GIF", transparency=1)
    else:
        key = 200 if mode == "L" else (200, 200, 200)
        data = saved(Image.fromarray(grey).convert(mode), "PNG", transparency=key)
    photo = decode_photo(data, "x")
    assert photo[0, 0].tolist() == [255, 255, 255]
    assert photo[1, 2].tolist() == [10, 10, 10]


def test_grey_and_bilevel_become_three_channels() -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    assert decode_photo(saved(Image.fromarray(grey), "PNG"), "x")[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]
    bilevel = Image.fromarray(grey > 50)
    assert decode_photo(saved(bilevel, "PNG"), "x")[0].tolist() == [[0] * 3, [255] * 3, [255] * 3]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_is_scaled_and_not_clipped(kind: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    photo = decode_photo(saved(Image.fromarray(values), kind), "x")
    assert photo[0, :, 0].tolist() == [0, 1, 128, 255]
    assert photo.shape == (1, 4, 3)


def test_sixteen_bit_colour_is_scaled() -> None:
    """Pillow writes no 16-bit RGB, so the PNG is put together here."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + struct.pack(">6H", 65535, 32896, 0, 257, 0, 65535)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert decode_photo(data, "x").tolist() == [[[255, 128, 0], [1, 0, 255]]]


def test_values_without_a_known_range_are_refused() -> None:
    with pytest.raises(DataError, match="x has floating-point values; save it as 8-bit PNG"):
        decode_photo(saved(Image.fromarray(np.ones((2, 3), np.float32)), "TIFF"), "x")
    with pytest.raises(DataError, match=r"x has 'I' values outside 0\.\.65535; save it as 8-bit PNG"):
        decode_photo(saved(Image.fromarray(np.full((2, 3), 70000, np.int32)), "TIFF"), "x")


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (3, 2), (0, 255, 255, 0))
    assert decode_photo(saved(cmyk, "TIFF"), "x")[0, 0].tolist() == [255, 0, 0]
    assert decode_photo(saved(cmyk, "JPEG"), "x").shape == (2, 3, 3)


def test_an_animation_gives_its_first_image() -> None:
    frames = [Image.new("RGB", (4, 2), colour) for colour in ("red", "blue")]
    assert decode_photo(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), "x")[0, 0].tolist() == [
        255,
        0,
        0,
    ]


def test_an_empty_file_a_text_and_a_missing_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "zero.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"zero\.jpg is empty \(0 bytes\)"):
        load_photo(tmp_path / "zero.jpg")
    (tmp_path / "text.jpg").write_text("this is no photo")
    with pytest.raises(DataError, match=r"text\.jpg is not a photo that can be read; save it as JPEG or PNG"):
        load_photo(tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"none\.jpg does not exist"):
        load_photo(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="is a folder; a file is wanted"):
        load_photo(tmp_path)


@pytest.mark.usefixtures("without_root")
def test_a_photo_without_permission_is_named() -> None:
    with pytest.raises(DataError, match=r"shadow: no permission to read it"):
        load_photo("/etc/shadow")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_file_cut_short_is_one_line_wherever_it_is_cut(kind: str) -> None:
    data = saved(Image.fromarray(draw_scene(1, (40, 60))), kind)
    for share in (0.02, 0.3, 0.6, 0.9):
        with pytest.raises(DataError, match=r"^cut is (damaged or cut short \(.+\)|not a photo)") as caught:
            decode_photo(data[: int(len(data) * share)], "cut")
        assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (10_000, 60_000):  # Pillow warns at the first and raises at the second
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side + 1, 8, 2, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        with pytest.raises(DataError, match="bomb has more than 89 million pixels; make it smaller first"):
            decode_photo(data, "bomb")


def test_postscript_is_no_photo() -> None:
    """Pillow would hand it to another program."""
    with pytest.raises(DataError, match="is not a photo that can be read"):
        decode_photo(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 2\n", "x")


def test_heic_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    with pytest.raises(MissingExtraError, match=r"a\.heic: a HEIC photo needs pillow-heif, .* 'prisbench\[heic\]'"):
        decode_photo(data, "a.heic")


def test_heic_with_its_package_is_upright_and_close_to_the_original() -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48, 0] = 255
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    heif.from_pillow(Image.fromarray(image)).save(out, quality=95, exif=exif.tobytes())
    photo = decode_photo(out.getvalue(), "x")
    assert photo.shape == (96, 64, 3)
    assert np.abs(photo.astype(int) - np.rot90(image, -1)).mean() < 5


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """Five photos, their names not in the order they were written."""
    for n, name in enumerate(("e.png", "b.JPG", "d.png", "a.png", "c.webp")):
        Image.fromarray(draw_scene(n, (32, 40 + n))).save(tmp_path / name)
    return tmp_path


def test_a_folder_is_read_by_name_and_leaves_other_files_alone(five: Path) -> None:
    (five / "notes.txt").write_text("x")
    (five / ".hidden.png").write_bytes(b"x")
    (five / "more.png").mkdir()
    photos = load_photos(five)
    assert [photo.name for photo in photos] == ["a.png", "b.JPG", "c.webp", "d.png", "e.png"]
    assert [photo.image.shape for photo in photos] == [
        (32, 43, 3),
        (32, 41, 3),
        (32, 44, 3),
        (32, 42, 3),
        (32, 40, 3),
    ]


def test_one_corrupt_photo_among_five_is_named(five: Path) -> None:
    path = five / "d.png"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match=r"d\.png is damaged or cut short"):
        load_photos(five)


def test_a_missing_an_empty_and_an_overfull_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mugs does not exist"):
        load_photos(tmp_path / "mugs")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"no photos in .* \(1 other files\); put 3 to 6 \.jpg or \.png files there"):
        load_photos(tmp_path)
    with pytest.raises(DataError, match=r"notes\.txt is a file; a folder of photos is wanted"):
        load_photos(tmp_path / "notes.txt")
    for n in range(31):
        (tmp_path / f"{n:02}.png").write_bytes(b"never read")
    with pytest.raises(DataError, match=r"31 photos in .*: at most 30 of one subject; 3 to 6 are enough"):
        load_photos(tmp_path)


def test_a_photo_that_is_too_small_is_named_with_its_size(five: Path) -> None:
    Image.fromarray(draw_scene(0, (31, 90))).save(five / "c.webp")
    with pytest.raises(DataError, match=r"c\.webp is 90 x 31 pixels; the shorter side must have at least 32"):
        load_photos(five)


def test_a_png_beside_a_photo_of_its_stem_is_no_photo(five: Path) -> None:
    Image.fromarray(np.eye(32, 41, dtype=np.uint8) * 255).save(five / "b.png")
    found = {file.path.name: file.beside for file in photo_files(five)}
    assert list(found) == ["a.png", "b.JPG", "c.webp", "d.png", "e.png"]
    assert found.pop("b.JPG") == five / "b.png" and set(found.values()) == {None}
    assert [photo.name for photo in load_photos(five)] == ["a.png", "b.JPG", "c.webp", "d.png", "e.png"]


def test_masks_are_told_from_photos_by_their_colours() -> None:
    def grey(levels: np.ndarray) -> np.ndarray:
        return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)

    def looks(image: np.ndarray) -> bool:
        large = np.kron(image, np.ones((20, 20, 1), np.uint8))  # of which only a sample is looked at first
        assert looks_like_mask(large) == looks_like_mask(image)
        return looks_like_mask(image)

    black_and_white = np.repeat([[0, 255]], [6, 14], axis=1) * np.ones((12, 1), int)
    red = grey(black_and_white) * np.array([1, 0, 0], np.uint8)
    assert looks(grey(black_and_white)) and looks(red) and looks(grey(np.full((12, 20), 128)))
    edge = black_and_white.copy()
    edge[:, 5:7] = (100, 200)
    assert looks(grey(edge)), "5 black columns, 2 between, 13 white ones"
    edge[:, 3:5] = (25, 50)
    assert not looks(grey(edge)), "3 black columns, 4 between"
    three = red.copy()
    three[5, 7] = (0, 255, 0)
    assert not looks(three) and not looks(draw_scene(0)) and not looks(grey(draw_scene(0)[:, :, 0]))
    almost = np.zeros((500, 700, 3), np.uint8)
    almost[:, 300:] = (255, 0, 0)
    assert looks_like_mask(almost)
    almost[123, 457] = (0, 0, 255)
    assert not looks_like_mask(almost), "a pixel that the sample misses"


def test_an_images_id_is_a_hash_of_shape_and_pixels() -> None:
    scene = draw_scene(3)
    by_hand = hashlib.sha256(b"12 20 3\n" + scene.tobytes()).hexdigest()
    assert pixels_sha256(scene) == by_hand
    assert image_id(scene) == by_hand[:16]
    assert image_id(np.asfortranarray(scene)) == by_hand[:16]
    assert image_id(scene.reshape(20, 12, 3)) != by_hand[:16]
    other = scene.copy()
    other[0, 0, 0] ^= 1
    assert image_id(other) != by_hand[:16]


def test_resizing_takes_height_first_and_does_not_alias() -> None:
    stripes = np.zeros((30, 60, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_to(stripes, (10, 20))
    assert small.shape == (10, 20, 3)
    assert np.abs(small.astype(int) - 127).max() < 60  # picking pixels would give 0 and 255
    np.testing.assert_array_equal(resize_to(stripes, (30, 60)), stripes)


@pytest.mark.parametrize(
    ("size_hw", "expected"), [((60, 90), (20, 30)), ((90, 60), (30, 20)), ((20, 30), (20, 30)), ((1, 900), (1, 30))]
)
def test_fitting_keeps_the_proportions_and_never_enlarges(size_hw: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_within(draw_scene(0, size_hw), 30).shape[:2] == expected
