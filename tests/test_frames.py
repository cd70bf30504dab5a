"""Masks of photos that EXIF turns: drawn on the photo as it is shown, or on its stored pixels."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prisbench.datasets.build import build
from prisbench.datasets.named import Reports, build_source
from prisbench.datasets.photo_folder import read_own_photos, remarks
from prisbench.datasets.schema import QueryRow
from prisbench.datasets.sources import coco, folder, labelme
from prisbench.datasets.sources.mask_files import mask_file, parse_rule
from prisbench.datasets.sources.public import voc_instances
from prisbench.errors import DataError, UnknownNameError
from prisbench.images.masks import to_rle
from prisbench.images.photos import decode_photo, load_photo, orientation, turned
from tests.drawing import draw_box, draw_scene

SIZE = (40, 56)
BOX = draw_box(SIZE, 5, 8, 17, 40)
"""Where the thing is on the stored pixels: it fits itself in no other orientation."""

TURNS = range(2, 9)
RIGHT_ANGLES = (5, 6, 7, 8)


def photo(path: Path, turn: int, seed: int = 0, suffix: str = "PNG") -> Path:
    """A photo whose stored pixels are bright where the thing is."""
    pixels = draw_scene(seed, SIZE) // 4
    pixels[BOX] += 190
    exif = Image.Exif()
    exif[0x0112] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format=suffix, exif=exif)
    return path


def mask(path: Path, pixels: np.ndarray, turn: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels.astype(np.uint8) * 255).save(path, exif=exif)
    return path


def lies_right(row: QueryRow) -> bool:
    """Whether the mask is the bright part of the scene."""
    return np.array_equal(row.mask, row.image.min(axis=2) >= 190)


# --- what a turn does -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_what_lies_on_stored_pixels_is_turned_as_the_photo_is(turn: int, suffix: str, tmp_path: Path) -> None:
    data = photo(tmp_path / "a", turn, suffix=suffix).read_bytes()
    assert orientation(data, "a") == turn
    shown = decode_photo(data, "a")
    assert ((shown.min(axis=2) > 160) == turned(BOX, turn)).mean() > 0.95, "JPEG and WebP change pixels at the edges"
    assert np.array_equal(turned(np.dstack([BOX] * 3), turn)[:, :, 0], turned(BOX, turn))


def test_a_photo_without_orientation_or_with_none_that_is_known_is_upright(tmp_path: Path) -> None:
    for turn in (0, 9):
        assert orientation(photo(tmp_path / "a.png", turn).read_bytes(), "a") == 1
    Image.fromarray(draw_scene(0, SIZE)).save(tmp_path / "b.jpg")
    assert orientation((tmp_path / "b.jpg").read_bytes(), "b") == 1
    with pytest.raises(DataError, match=r"^c is not a photo that can be read"):
        orientation(b"text", "c")


def test_a_heic_photo_is_given_turned_whatever_it_says(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    exif = Image.Exif()
    exif[0x0112] = 6
    heif.from_pillow(Image.fromarray(draw_scene(0, SIZE))).save(tmp_path / "a.heic", exif=exif.tobytes())
    data = (tmp_path / "a.heic").read_bytes()
    assert orientation(data, "a") == 1 and decode_photo(data, "a").shape == (56, 40, 3)


# --- masks as files -------------------------------------------------------------------------------------------------


def own_set(root: Path, turn: int, drawn: np.ndarray) -> Path:
    photo(root / "mug-anna/photos/01.png", 1, seed=1)
    photo(root / "mug-anna/scenes/kitchen.png", turn)
    mask(root / "mug-anna/masks/kitchen.png", drawn)
    return root


@pytest.mark.parametrize("turn", TURNS)
def test_a_folder_says_for_each_turned_photo_which_frame_it_takes(turn: int, tmp_path: Path) -> None:
    source = folder.read(own_set(tmp_path, turn, turned(BOX, turn)), {})
    (row,) = source.queries(0)
    assert lies_right(row)
    assert source.remarks.lines() == [
        "photos turned by their EXIF orientation, their masks taken as drawn on the photo as it is shown "
        f"(else say mask_frame=raw): mug-anna/scenes/kitchen.png (orientation {turn})"
    ]
    quiet = folder.read(tmp_path, {"mask_frame": "upright"})
    assert lies_right(next(quiet.queries(0))) and quiet.remarks.lines() == []


@pytest.mark.parametrize("turn", TURNS)
def test_masks_drawn_on_stored_pixels_are_turned_when_somebody_says_so(turn: int, tmp_path: Path) -> None:
    own_set(tmp_path, turn, BOX)
    source = folder.read(tmp_path, {"mask_frame": "raw"})
    assert lies_right(next(source.queries(0))) and source.remarks.lines() == []
    if turn in RIGHT_ANGLES:
        with pytest.raises(DataError, match=r"kitchen\.png is 40 x 56, its image 56 x 40 .* then say mask_frame=raw$"):
            next(folder.read(tmp_path, {}).queries(0))
        mask(tmp_path / "mug-anna/masks/kitchen.png", turned(BOX, turn))
        with pytest.raises(DataError, match=r"is 56 x 40, its image 40 x 56 .*; was it .* mask_frame=upright$"):
            next(source.queries(0))
    else:
        assert not lies_right(next(folder.read(tmp_path, {}).queries(0))), "which is why it is said"
    (tmp_path / "mug-anna/subject.yaml").write_text("mask_frame: raw\n")
    mask(tmp_path / "mug-anna/masks/kitchen.png", BOX)
    assert lies_right(next(folder.read(tmp_path, {"mask_frame": "upright"}).queries(0)))


def test_an_upright_photo_is_not_spoken_of(tmp_path: Path) -> None:
    source = folder.read(own_set(tmp_path, 1, BOX), {})
    assert lies_right(next(source.queries(0))) and source.remarks.lines() == []
    mask(tmp_path / "mug-anna/masks/kitchen.png", BOX.T)
    for options in ({}, {"mask_frame": "raw"}):
        with pytest.raises(DataError, match=r"its image 40 x 56 .* by its EXIF orientation, and the mask not\?$"):
            next(folder.read(tmp_path, options).queries(0))


def test_a_mask_with_an_orientation_of_its_own_is_turned_by_that(tmp_path: Path) -> None:
    own_set(tmp_path, 6, BOX)
    mask(tmp_path / "mug-anna/masks/kitchen.png", BOX, turn=6)
    for options in ({}, {"mask_frame": "raw"}):
        source = folder.read(tmp_path, options)
        assert lies_right(next(source.queries(0)))
        line = "masks turned by an EXIF orientation of their own: mug-anna/masks/kitchen.png (orientation 6)"
        assert line in source.remarks.lines()


def test_a_frame_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    own_set(tmp_path, 3, BOX)
    with pytest.raises(UnknownNameError, match=r"unknown frame \(mask_frame\) 'rew': did you mean 'raw'\?"):
        folder.read(tmp_path, {"mask_frame": "rew"})


@pytest.mark.parametrize("turn", TURNS)
def test_masks_beside_own_photos_are_asked_the_same(turn: int, tmp_path: Path) -> None:
    photo(tmp_path / "01.jpg", turn)
    mask(tmp_path / "01.png", turned(BOX, turn))
    own = read_own_photos(tmp_path, parse_rule(None, None, "--mask-value ", "--mask-frame "))
    assert np.array_equal(own.masks[0], turned(BOX, turn))
    assert remarks(own)[0].endswith(f"(else say --mask-frame raw): 01.jpg (orientation {turn})")
    mask(tmp_path / "01.png", BOX)
    own = read_own_photos(tmp_path, parse_rule(None, "raw", "--mask-value ", "--mask-frame "))
    assert np.array_equal(own.masks[0], turned(BOX, turn)) and len(remarks(own)) == 1
    if turn in RIGHT_ANGLES:
        with pytest.raises(DataError, match=r"01\.png is 40 x 56, its image 56 x 40 .* then say --mask-frame raw$"):
            read_own_photos(tmp_path, parse_rule(None, None, "--mask-value ", "--mask-frame "))


# --- annotations ----------------------------------------------------------------------------------------------------


def polygon(drawn: np.ndarray) -> list[float]:
    y, x = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return [*map(float, (x[0], y[0], x[-1] + 1, y[0], x[-1] + 1, y[-1] + 1, x[0], y[-1] + 1))]


def annotated(root: Path, reader: Any, turn: int, drawn: np.ndarray, form: str = "polygon") -> dict[str, str]:
    """Two pictures of one mug, the second turned and annotated on a picture like ``drawn``; the reader's options."""
    h, w = drawn.shape
    if reader is coco:
        photo(root / "1.png", 1, seed=1)
        photo(root / "2.png", turn)
        shapes = [[polygon(BOX)], [polygon(drawn)] if form == "polygon" else to_rle(drawn)]
        value = {
            "images": [
                {"id": 1, "file_name": "1.png", "height": 40, "width": 56},
                {"id": 2, "file_name": "2.png", "height": h, "width": w},
            ],
            "categories": [{"id": 1, "name": "mug"}],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 1, "segmentation": shape, "track_id": 7}
                for n, shape in enumerate(shapes, 1)
            ],
        }
        (root / "set.json").write_text(json.dumps(value))
    elif reader is labelme:
        for name, exif, pixels in (("1", 1, BOX), ("2", turn, drawn)):
            points = np.array(polygon(pixels)).reshape(-1, 2).tolist()
            shape: dict[str, Any] = {"label": "mug:anna's", "points": points, "shape_type": "polygon"}
            if form == "mask":
                out = io.BytesIO()
                Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
                shape |= {"shape_type": "mask", "points": [[0, 0], list(pixels.shape[::-1])]}
                shape["mask"] = base64.b64encode(out.getvalue()).decode()
            data = base64.b64encode(photo(root / f"{name}.png", exif, seed=int(name) % 2).read_bytes()).decode()
            value = {
                "shapes": [shape],
                "imagePath": f"{name}.png",
                "imageData": data if form == "inside" else None,
                "imageHeight": pixels.shape[0],
                "imageWidth": pixels.shape[1],
            }
            (root / f"{name}.json").write_text(json.dumps(value))
    else:
        for name, exif, pixels in (("1", 1, BOX), ("2", turn, drawn)):
            photo(root / f"VOC2012/JPEGImages/{name}.jpg", exif, seed=int(name) % 2)
            for part, label in (("SegmentationObject", 1), ("SegmentationClass", 5)):
                path = root / f"VOC2012/{part}/{name}.png"
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8) * label).save(path)
        (root / "subjects.csv").write_text("image,object,subject\n1,1,anna's\n2,1,anna's\n")
    return {"references": "1"}


FORMS = [(coco, "polygon"), (coco, "run lengths"), (labelme, "polygon"), (labelme, "mask"), (labelme, "inside")]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("reader", "form"), [*FORMS, (voc_instances, "labels")])
def test_annotations_lie_right_in_either_frame(reader: Any, form: str, turn: int, tmp_path: Path) -> None:
    options = annotated(tmp_path, reader, turn, turned(BOX, turn), form)
    source = reader.read(tmp_path, options)
    (row,) = source.queries(0)
    expected = turned(BOX, turn)
    assert np.array_equal(row.mask, expected)
    by_size = turn in RIGHT_ANGLES and reader is not voc_instances
    why = "the size that is recorded with them is its size" if by_size else "else say mask_frame=raw"
    (line,) = source.remarks.lines()
    assert f"as drawn on the photo as it is shown ({why}): " in line and line.endswith(f"(orientation {turn})")
    options = annotated(tmp_path, reader, turn, BOX, form) | {"mask_frame": "raw"}
    source = reader.read(tmp_path, options)
    (row,) = source.queries(0)
    assert np.array_equal(row.mask, expected) and source.remarks.lines() == []


@pytest.mark.parametrize("turn", RIGHT_ANGLES)
@pytest.mark.parametrize(("reader", "form"), FORMS)
def test_a_recorded_size_says_that_stored_pixels_were_annotated(
    reader: Any, form: str, turn: int, tmp_path: Path
) -> None:
    options = annotated(tmp_path, reader, turn, BOX, form)
    source = reader.read(tmp_path, options)
    (row,) = source.queries(0)
    assert np.array_equal(row.mask, turned(BOX, turn))
    assert "drawn on its stored pixels (the size that is recorded with them is its size)" in source.remarks.lines()[0]
    with pytest.raises(DataError, match=r"40 x 56.*56 x 40|56 x 40.*40 x 56|imageHeight is 40, its photo 56 x 40"):
        list(reader.read(tmp_path, options | {"mask_frame": "upright"}).queries(0))


def test_labels_of_stored_pixels_do_not_fit_a_photo_turned_by_a_right_angle(tmp_path: Path) -> None:
    options = annotated(tmp_path, voc_instances, 8, BOX)
    with pytest.raises(DataError, match=r"2\.png is 40 x 56, its image 56 x 40 .* then say mask_frame=raw$"):
        list(voc_instances.read(tmp_path, options).queries(0))


# --- in a build -----------------------------------------------------------------------------------------------------


class StopError(Exception):
    """Stands for a kill."""


def test_remarks_survive_an_interruption_and_are_said_once(tmp_path: Path) -> None:
    root = own_set(tmp_path / "set", 3, turned(BOX, 3))
    for n in range(8):
        photo(root / f"mug-anna/scenes/{n}.png", 2, seed=20 + n)
        mask(root / f"mug-anna/masks/{n}.png", turned(BOX, 2))
    whole = folder.read(root, {})
    build(tmp_path / "whole", whole)

    def stop(table: str, rows: int) -> None:
        if (table, rows) == ("queries", 5):
            raise StopError

    with pytest.raises(StopError):
        build(tmp_path / "out", folder.read(root, {}), stop, shard_bytes=1)
    again = folder.read(root, {})
    build(tmp_path / "out", again, shard_bytes=1)
    assert again.remarks.lines() == whole.remarks.lines()
    (line,) = whole.remarks.lines()
    assert "9 files (mug-anna/scenes/0.png (orientation 2), " in line and line.endswith(" and 6 more)")
    assert f"- Note: {line}" in (tmp_path / "out/README.md").read_text()


def test_what_was_noticed_is_said_even_when_a_later_file_is_wrong(tmp_path: Path) -> None:
    root = own_set(tmp_path / "set", 3, turned(BOX, 3))
    photo(root / "mug-anna/scenes/sink.png", 1, seed=5)
    mask(root / "mug-anna/masks/sink.png", BOX[1:])
    said: list[str] = []
    with pytest.raises(DataError, match=r"sink\.png is 39 x 56"):
        build_source("folder", root, {}, tmp_path / "out", Reports(say=said.append))
    assert len(said) == 1 and said[0].startswith("note: photos turned by their EXIF orientation, ")


def test_a_mask_of_the_photos_own_size_is_what_load_photo_shows(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg", 7)
    shown = load_photo(path).shape[:2]
    assert mask_file(mask(tmp_path / "a.png", BOX), (shown[0], shown[1]), turn=7).shape == shown
