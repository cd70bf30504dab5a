"""The one reader of binary masks: which pixels are the thing, and which files do not say so."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from prisbench.cli import main as cli
from prisbench.cli.concepts import DatasetSubjects, chosen_subjects
from prisbench.datasets.load import open_dataset
from prisbench.datasets.photo_folder import read_own_photos, remarks
from prisbench.datasets.remarks import Remarks
from prisbench.datasets.sources import folder, perseg
from prisbench.datasets.sources.mask_files import coloured_mask_file, mask_file, mask_in, parse_rule
from prisbench.datasets.sources.public import ycb_video_frames
from prisbench.errors import DataError, UsageError
from prisbench.wsss.labels import voc_palette
from tests.drawing import draw_box, draw_scene

SIZE = (60, 88)
BOX = draw_box(SIZE, 20, 30, 41, 61)
SAYABLE = parse_rule(None, None, "mask_value=", "mask_frame=")


def disc(scale: int, radius: float = 16.3) -> np.ndarray:
    """A disc, each pixel divided into ``scale`` by ``scale``."""
    h, w = SIZE
    y, x = (np.mgrid[: h * scale, : w * scale] + 0.5) / scale
    return np.hypot(y - 29.7, x - 42.4) < radius


COVERED = disc(8).reshape(60, 8, 88, 8).mean(axis=(1, 3))
"""The share of each pixel that the disc covers."""

EDGED = np.rint(COVERED * 255).astype(np.uint8)
DISC = COVERED >= 0.5
NOISE = np.random.default_rng(0).integers(0, 3, SIZE)
WHITE = np.full((*SIZE, 3), 255, np.uint8)


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def indexed(values: np.ndarray, *colours: int) -> Image.Image:
    image = grey(values)
    image.putpalette(list(colours) or list(voc_palette()))
    return image


def rgba(colours: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([colours, alpha]).astype(np.uint8))


def low_bits(labels: np.ndarray, bits: int) -> bytes:
    """A grey PNG of one, two or four bits, written by hand; its width fills whole bytes."""
    h, w = labels.shape
    each = ((labels[:, :, None].astype(np.uint8) >> np.arange(bits - 1, -1, -1, dtype=np.uint8)) & 1).reshape(h, -1)
    lines = b"".join(b"\0" + np.packbits(row).tobytes() for row in each)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", w, h, bits, 0, 0, 0, 0)), (b"gAMA", struct.pack(">I", 45455))]
    parts += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out)


def saved(path: Path, image: Image.Image | bytes, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, bytes):
        path.write_bytes(image)
    else:
        image.save(path, format="PNG", **how)
    return path


# --- what is clear --------------------------------------------------------------------------------------------------

TWO_VALUES: dict[str, Callable[[], Image.Image | bytes]] = {
    "0 and 255": lambda: grey(BOX * 255),
    "0 and 1": lambda: grey(BOX),
    "0 and 38": lambda: grey(BOX * 38),
    "one bit": lambda: Image.fromarray(BOX),
    "two bits": lambda: low_bits(BOX * 2, 2),
    "four bits": lambda: low_bits(BOX * 15, 4),
    "16 bits": lambda: Image.fromarray((BOX * 65535).astype(np.uint16)),
    "16 bits, 0 and 255": lambda: Image.fromarray((BOX * 255).astype(np.uint16)),
    "16 bits, 0 and 256": lambda: Image.fromarray((BOX * 256).astype(np.uint16)),
    "three channels": lambda: grey(BOX * 255).convert("RGB"),
    "grey and alpha": lambda: grey(BOX * 255).convert("LA"),
    "all of it half transparent": lambda: rgba(WHITE * BOX[:, :, None], np.full(SIZE, 128)),
    "a palette": lambda: indexed(BOX),
    "a palette with transparency": lambda: indexed(BOX, 0, 0, 0, 255, 255, 255),
    "a palette that PIL makes": lambda: grey(BOX * 255).convert("P"),
    "a thing in red on white": lambda: indexed(BOX, 255, 255, 255, 200, 0, 0),
    "alpha alone, on white": lambda: rgba(WHITE, BOX * 200),
    "red on nothing": lambda: rgba(WHITE * BOX[:, :, None] * np.uint8([1, 0, 0]), BOX * 255),
    "alpha alone, on black": lambda: rgba(WHITE * 0, BOX * 255),
    "white on nothing": lambda: rgba(WHITE * BOX[:, :, None], BOX * 255),
    "black on nothing, which is white": lambda: rgba(WHITE * ~BOX[:, :, None], BOX * 255),
    "alpha alone in a palette": lambda: rgba(WHITE, BOX * 255).quantize(4),
}


@pytest.mark.parametrize("form", TWO_VALUES)
def test_of_two_values_the_one_that_is_not_0_is_the_thing(form: str, tmp_path: Path) -> None:
    how = {"transparency": b"\0\xff"} if form == "a palette with transparency" else {}
    said = Remarks()
    path = saved(tmp_path / "a.PNG", TWO_VALUES[form](), **how)
    assert np.array_equal(mask_file(path, SIZE, remarks=said), BOX)
    assert said.lines() == []
    assert np.array_equal(mask_in(path.read_bytes(), "a patch"), BOX)


SOFT: dict[str, Callable[[], Image.Image]] = {
    "anti-aliased": lambda: grey(EDGED),
    "anti-aliased by sixteenths": lambda: grey(np.rint(disc(4).reshape(60, 4, 88, 4).mean(axis=(1, 3)) * 255)),
    "three channels": lambda: grey(EDGED).convert("RGB"),
    "brightest at 254": lambda: grey(np.minimum(EDGED, 254)),
    "brightest at 253": lambda: grey(np.minimum(EDGED, 253)),
    "16 bits": lambda: Image.fromarray(np.rint(COVERED * 65535).astype(np.uint16)),
    "alpha alone": lambda: rgba(WHITE, EDGED),
    "red paint on nothing": lambda: rgba(WHITE * (EDGED > 0)[:, :, None] * np.uint8([1, 0, 0]), EDGED),
    "white paint on nothing": lambda: rgba(WHITE * (EDGED > 0)[:, :, None], EDGED),
    "black paint on nothing, which is white": lambda: rgba(WHITE * (EDGED == 0)[:, :, None], EDGED),
    "a palette of greys in any order": lambda: grey(EDGED).quantize(64),
}


@pytest.mark.parametrize("form", SOFT)
def test_soft_edges_are_cut_at_half_of_what_the_thing_covers(form: str, tmp_path: Path) -> None:
    said = Remarks(tmp_path)
    truth = disc(4).reshape(60, 4, 88, 4).mean(axis=(1, 3)) >= 0.5 if "sixteenths" in form else DISC
    assert np.array_equal(mask_file(saved(tmp_path / "a.png", SOFT[form]()), SIZE, remarks=said), truth)
    half = "32768 and more of 0..65535" if form == "16 bits" else "128 and more of 0..255"
    assert said.lines() == [f"masks with soft edges, cut at half ({half} is the thing): a.png"]


def test_half_is_128_of_255(tmp_path: Path) -> None:
    for level, inside in ((127, False), (128, True)):
        values = np.where(BOX, 255, 0)
        values[20, 30:61] = level  # the upper edge
        mask = mask_file(saved(tmp_path / "a.png", grey(values)), SIZE)
        assert mask[20, 30:61].all() == inside and np.array_equal(mask[21:], BOX[21:])


def test_edges_of_a_blur_and_of_small_things_are_soft_edges(tmp_path: Path) -> None:
    blurred = grey(BOX * 255).filter(ImageFilter.GaussianBlur(2))
    assert np.abs(mask_file(saved(tmp_path / "a.png", blurred), SIZE) ^ BOX).sum() <= 12, "three pixels at each corner"
    small = disc(8, 2.6).reshape(60, 8, 88, 8).mean(axis=(1, 3))
    assert (small == 1).sum() < ((small > 0) & (small < 1)).sum(), "more edge than inside"
    mask = mask_file(saved(tmp_path / "b.png", grey(np.rint(small * 255))), SIZE)
    assert np.array_equal(mask, small >= 0.5)


def test_thin_lines_that_fade_are_soft_edges_where_they_hang_on_the_thing(tmp_path: Path) -> None:
    wire = draw_box(SIZE, 30, 52, 31, 88) & ~DISC
    assert np.array_equal(mask_file(saved(tmp_path / "a.png", grey(np.maximum(EDGED, wire * 60))), SIZE), DISC)
    loose = wire & (np.arange(88) > 66)
    wide = np.add.outer(np.arange(60) % 2 * 9, np.arange(88) % 3 * 5) + 50
    for name, faint in (
        ("loose", loose * 60),
        ("wide", draw_box(SIZE, 28, 52, 31, 75) * wide),
        ("many", (draw_box(SIZE, 20, 42, 40, 88) & (np.arange(60) % 3 == 0)[:, None]) * 60),
    ):
        with pytest.raises(DataError, match=rf"{name}\.png does not say which pixels are the thing"):
            mask_file(saved(tmp_path / f"{name}.png", grey(np.maximum(EDGED, faint))), SIZE)


def test_one_value_is_nothing_or_the_whole_photo(tmp_path: Path) -> None:
    said = Remarks(tmp_path)
    assert not mask_file(saved(tmp_path / "a.png", grey(BOX * 0)), SIZE, remarks=said).any()
    assert said.lines() == []
    for n, image in enumerate((grey(BOX * 0 + 1), grey(BOX * 0 + 255), Image.fromarray(BOX | True))):
        assert mask_file(saved(tmp_path / f"{n}.png", image), SIZE, remarks=said).all()
    assert said.lines() == ["masks that take the whole photo for the thing: 0.png, 1.png, 2.png"]


def test_a_mask_that_may_be_turned_inside_out_is_remarked(tmp_path: Path) -> None:
    said = Remarks(tmp_path)
    path = saved(tmp_path / "a.png", grey(~BOX * 255))
    assert np.array_equal(mask_file(path, SIZE, "", SAYABLE, 1, said), ~BOX)
    assert said.lines() == [
        "masks with the thing in all four corners (if the thing is black on white there, say mask_value=0): a.png"
    ]
    rule = parse_rule("0", None, "mask_value=", "mask_frame=")
    assert np.array_equal(mask_file(path, SIZE, "", rule), BOX)


# --- what is not ----------------------------------------------------------------------------------------------------


def bordered(border: int = 255) -> np.ndarray:
    """VOC's way: a thing of label 1 in a band of another label."""
    return np.where(draw_box(SIZE, 22, 32, 39, 59), 1, np.where(BOX, border, 0))


def two_things() -> np.ndarray:
    return np.where(BOX, 1, np.where(draw_box(SIZE, 2, 2, 12, 20), 2, 0))


far = np.hypot(*(np.mgrid[:60, :88] - np.array([29.7, 42.4])[:, None, None])) - 16
UNCLEAR: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "noise": (
        lambda: grey(np.where(BOX, 255, NOISE)),
        r"the values 0 \(\d+ px\), 1 \(\d+ px\), 2 \(\d+ px\) and 255 \(651 px\); save the thing white and all else "
        r"black, or say which value is the thing, like mask_value=255, or mask_value=1,2 for both$",
    ),
    "a little noise": (
        lambda: grey(np.where(BOX, 255, np.where(NOISE + np.roll(NOISE, 9) == 4, 2, 0))),
        r"the values 0 \(\d+ px\), 2 \(\d+ px\) and 255 \(651 px\); ",
    ),
    "soft edges, and dust": (
        lambda: grey(np.where(draw_box(SIZE, 3, 3, 4, 85) & (np.arange(88) % 7 == 3), 60, EDGED)),
        r"values from 0 to 255, most often 0 \(\d+ px\), .*60 \(15 px\)",
    ),
    "a probability of two levels": (
        lambda: grey(np.where(BOX, 240, 6)),
        r"the values 6 \(4629 px\) and 240 \(651 px\); .* like mask_value=240, or mask_value=6,240 for both$",
    ),
    "a probability": (
        lambda: grey(255 / (1 + np.exp(far / 6))),
        r"\d+ values from 0 to \d+, most often .* mask_value=128",
    ),
    "two things": (
        lambda: grey(two_things()),
        r"the values 0 \(4449 px\), 1 \(651 px\) and 2 \(180 px\); .* mask_value=2, or mask_value=1,2 for both$",
    ),
    "two things in colour": (lambda: indexed(two_things()), r"values 0 \(4449 px\), 1 \(651 px\) and 2 \(180 px\)"),
    "three things in greys": (
        lambda: grey(np.array([0, 255, 128])[two_things()]),
        r"the values 0 \(4449 px\), 128 \(180 px\) and 255 \(651 px\)",
    ),
    "a border of VOC": (lambda: indexed(bordered()), r"the values 0 \(4629 px\), 1 \(459 px\) and 255 \(192 px\)"),
    "a border of VOC in grey": (lambda: grey(bordered()), r"the values 0 \(4629 px\), 1 \(459 px\) and 255 \(192 px\)"),
    "a trimap": (lambda: grey(np.where(np.abs(far) < 4, 128, np.where(far < 0, 255, 0))), "0 .*, 128 .* and 255"),
    "a layer of 78 %": (
        lambda: grey(EDGED * 0.78),
        r"values from 0 to 198, .* or say mask_value=128-255, if",
    ),
    "8 bits in a file of 16": (
        lambda: Image.fromarray(EDGED.astype(np.uint16)),
        "values from 0 to 255, .*=32768-65535",
    ),
    "a grey photo": (lambda: grey(draw_scene(3, SIZE)[:, :, 0]), r"256 values from 0 to 255, most often "),
    "a wide blur": (lambda: grey(BOX * 255).filter(ImageFilter.GaussianBlur(9)), r"values from 0 to 173, "),
    "a mask that was a JPEG": (lambda: jpeg(grey(DISC * 255), 97), r"values from 0 to 255, .* mask_value=128-255"),
    "one value": (lambda: grey(BOX * 0 + 6), r"it has the value 6 \(5280 px\); .* like mask_value=6$"),
    "black and white, not numbered so": (
        lambda: indexed(BOX + 1, 9, 9, 9, 0, 0, 0, 255, 255, 255),
        r"the values 1 \(4629 px\) and 2 \(651 px\)",
    ),
}


@pytest.mark.parametrize("form", UNCLEAR)
def test_a_file_that_does_not_say_which_pixels_are_the_thing_is_refused_with_its_values(
    form: str, tmp_path: Path
) -> None:
    draw, message = UNCLEAR[form]
    with pytest.raises(DataError, match=message) as caught:
        mask_file(saved(tmp_path / "a.png", draw()), SIZE, "", SAYABLE)
    assert re.match(r"\S*a\.png does not say which pixels are the thing: it has ", str(caught.value))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"save the thing white and all else black$"):
        mask_file(tmp_path / "a.png", SIZE)  # where nothing can be said


CONTRADICTIONS: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "colours": (
        lambda: Image.fromarray(WHITE * BOX[:, :, None] * np.uint8([1, 0, 0])),
        r"in colour \(\(255, 0, 0\) at",
    ),
    "a photo cut out": (lambda: rgba(draw_scene(1, SIZE), BOX * 255), "in colour"),
    "transparency over black and white": (
        lambda: rgba(WHITE * BOX[:, :, None], np.where(BOX[:, ::-1], 255, 20)),
        r"has \d+ pixels that are not black but see-through, so it does not say which pixels are meant",
    ),
    "a white layer on which nothing is drawn": (lambda: rgba(WHITE, BOX * 0), "has 5280 pixels that are not black but"),
    "white numbered 0": (
        lambda: indexed(~BOX, 255, 255, 255, 0, 0, 0),
        r"its palette shows index 0 in a colour and index 1 in black, .* like mask_value=0$",
    ),
    "light grey numbered 0": (
        lambda: indexed(BOX, 250, 250, 250, 3, 3, 3),
        "its palette shows index 0 in grey 250 and index 1 in the darker grey 3, so it does not say",
    ),
}


@pytest.mark.parametrize("form", CONTRADICTIONS)
def test_a_file_that_contradicts_itself_is_refused(form: str, tmp_path: Path) -> None:
    draw, message = CONTRADICTIONS[form]
    with pytest.raises(DataError, match=rf"a\.png:? .*{message}|a\.png:? {message}"):
        mask_file(saved(tmp_path / "a.png", draw()), SIZE, "", SAYABLE)


def test_other_formats_and_films_are_no_masks(tmp_path: Path) -> None:
    for suffix, why in (
        ("jpg", "a JPEG, which changes labels"),
        ("webp", "no PNG"),
        ("tif", "no PNG"),
        ("gif", "no PNG"),
    ):
        grey(BOX * 255).save(tmp_path / f"a.{suffix}")
        with pytest.raises(DataError, match=rf"a\.{suffix} is {why}; masks are PNG files"):
            mask_file(tmp_path / f"a.{suffix}", SIZE)
    saved(tmp_path / "film.png", grey(BOX * 255), save_all=True, append_images=[grey(BOX)])
    with pytest.raises(DataError, match=r"film\.png is an animation; save the one picture that is meant"):
        mask_file(tmp_path / "film.png", SIZE)


# --- what is said ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "draw", "truth", "others"),
    [
        ("255", lambda: grey(np.where(BOX, 255, NOISE)), BOX, r"1 \(\d+ px\) and 2 \(\d+ px\)"),
        ("128-255", lambda: grey(np.where(BOX, 255, NOISE)), BOX, r"1 \(\d+ px\) and 2 \(\d+ px\)"),
        ("240", lambda: grey(np.where(BOX, 240, 6)), BOX, None),
        ("1", lambda: grey(two_things()), BOX, r"the value 2 \(180 px\)"),
        ("1,2", lambda: grey(two_things()), two_things() > 0, None),
        (" 1 , 2-9 ", lambda: indexed(two_things()), two_things() > 0, None),
        ("1", lambda: indexed(bordered()), bordered() == 1, r"the value 255 \(192 px\)"),
        ("1,255", lambda: indexed(bordered()), BOX, None),
        ("0", lambda: indexed(~BOX, 255, 255, 255, 0, 0, 0), BOX, None),
        ("128-255", lambda: jpeg(grey(DISC * 255), 97), DISC, r"the values 1 \(127 px\), 2 \(48 px\)"),
        ("40000-65535", lambda: Image.fromarray((BOX * 40000 + 7).astype(np.uint16)), BOX, None),
        ("2", lambda: low_bits(two_things(), 2), two_things() == 2, r"the value 1 \(651 px\)"),
        ("1", lambda: grey(BOX * 0), BOX & False, None),
    ],
)
def test_the_values_that_are_said_are_the_thing_and_the_others_are_counted(
    value: str, draw: Callable[[], Image.Image | bytes], truth: np.ndarray, others: str | None, tmp_path: Path
) -> None:
    rule, said = parse_rule(value, None, "mask_value=", "mask_frame="), Remarks(tmp_path)
    assert np.array_equal(mask_file(saved(tmp_path / "a.png", draw()), SIZE, "", rule, 1, said), truth)
    lines = [line for line in said.lines() if "background" in line]
    if others is None:
        assert lines == []
    else:
        assert re.fullmatch(
            rf"masks with values beside 0 and mask_value={value}, which count as background: a\.png \(.*{others}.*\)",
            lines[0],
        )


def test_a_file_without_the_values_that_are_said_is_not_an_empty_mask(tmp_path: Path) -> None:
    rule = parse_rule("1", None, "mask_value=", "mask_frame=")
    path = saved(tmp_path / "a.png", grey(BOX * 255))
    with pytest.raises(DataError, match=r"a\.png has none of mask_value=1: it has .* 0 .* and 255 \(651 px\); give"):
        mask_file(path, SIZE, "", rule)


@pytest.mark.parametrize("value", ["", "white", "1;2", "-1", "9-3", "65536", "1,", "0x1"])
def test_a_value_that_makes_no_sense_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"mask_value='.*': give the values of a mask that are the thing, 0 to 65535"):
        parse_rule(value, None, "mask_value=", "mask_frame=")


def test_many_files_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    said = Remarks(tmp_path)
    for _ in range(2):  # a file that is read again counts once
        for n in range(7):
            said.add("masks with soft edges", tmp_path / f"{n}.png")
    assert said.lines() == ["masks with soft edges: 7 files (0.png, 1.png, 2.png and 4 more)"]
    again = Remarks(tmp_path)
    again.restore(json.loads(json.dumps(said.to_json())))
    assert again.lines() == said.lines()


# --- where masks are read -------------------------------------------------------------------------------------------


def own_set(root: Path, mask: Image.Image) -> Path:
    """A subject of the source folder; its one scene has this mask."""
    for n, name in enumerate(("photos/01.png", "photos/02.png", "scenes/kitchen.png")):
        saved(root / "mug-anna" / name, Image.fromarray(draw_scene(n, SIZE)))
    saved(root / "mug-anna/masks/kitchen.png", mask)
    return root


def run(command: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit code of a command."""
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


THE_FIVE: dict[str, tuple[Callable[[], Image.Image], np.ndarray, str | None]] = {
    "noise of 0 to 2": (lambda: grey(np.where(DISC, 255, NOISE)), DISC, "255"),
    "a probability map of 6 and 240": (lambda: grey(np.where(DISC, 240, 6)), DISC, "240"),
    "two instances": (lambda: grey(two_things()), BOX, "1"),
    "a VOC palette with its border": (lambda: indexed(bordered()), bordered() == 1, "1"),
    "an anti-aliased edge": (lambda: grey(EDGED), DISC, None),
}
"""Each was taken for all that is not 0: of a truth of 20,385 pixels, an IoU of 0.096, 0.066, 0.474, 0.872 and 0.9."""


@pytest.mark.parametrize("form", THE_FIVE)
def test_what_is_not_0_is_no_longer_the_thing_in_a_folder_or_beside_a_photo(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw, truth, value = THE_FIVE[form]
    root, out = own_set(tmp_path / "set", draw()), tmp_path / "out"
    assert (np.array(draw()) > 0).sum() > truth.sum(), "what is not 0 is too much"
    command = ["prisbench", "build-dataset", "folder", "--root", str(root), "--out", str(out)]
    photos = tmp_path / "own"
    saved(photos / "01.png", Image.fromarray(draw_scene(0, SIZE)))
    saved(photos / "masks/01.png", draw())
    if value is None:
        assert "masks with soft edges, cut at half" in remarks(read_own_photos(photos))[0]
        own = read_own_photos(photos)
    else:
        assert run(command, monkeypatch) == 1 and not out.exists()
        error = capsys.readouterr().err
        assert re.search(r"kitchen\.png does not say which pixels are the thing: .*\d+ px.* mask_value=", error)
        with pytest.raises(DataError, match=r"masks/01\.png does not say .* like --mask-value \d+"):
            read_own_photos(photos, parse_rule(None, None, "--mask-value ", "--mask-frame "))
        command += ["--set", f"mask_value={value}"]
        own = read_own_photos(photos, parse_rule(value, None, "--mask-value ", "--mask-frame "))
    assert run(command, monkeypatch) == 0
    (example,) = open_dataset(out).examples("test")
    assert np.array_equal(example.mask, truth)
    assert own.masks[0] is not None and np.array_equal(own.masks[0], truth)


def test_each_subject_can_say_which_values_are_it(tmp_path: Path) -> None:
    for name, value in (("mug-anna", "1"), ("mug-ben", "2")):
        own_set(tmp_path, indexed(two_things()))
        if name == "mug-ben":
            for n, file in enumerate(("photos/01.png", "photos/02.png")):
                saved(tmp_path / name / file, Image.fromarray(draw_scene(7 + n, SIZE)))
            saved(tmp_path / name / "scenes/hall.png", Image.fromarray(draw_scene(9, SIZE)))
            saved(tmp_path / name / "masks/hall.png", indexed(two_things()))
        (tmp_path / name / "subject.yaml").write_text(f"mask_value: {value}\n")
    (tmp_path / "mug-anna/queries.csv").write_text(
        "scene,look_alikes,query_type\nmug-ben/scenes/hall.png,mug-ben/masks/hall.png,absent\n"
    )
    asked = {(row.source, row.query_type): row for row in folder.read(tmp_path, {"mask_value": "9"}).queries(0)}
    assert np.array_equal(asked["own photos: mug-anna/scenes/kitchen.png", "plain"].mask, BOX)
    assert np.array_equal(asked["own photos: mug-ben/scenes/hall.png", "plain"].mask, two_things() == 2)
    absent = asked["own photos: mug-ben/scenes/hall.png", "absent"]
    assert np.array_equal(absent.look_alikes[0], two_things() == 2), "a mask is read as its own subject says"
    (tmp_path / "mug-ben/subject.yaml").unlink()
    (tmp_path / "subjects.csv").write_text("subject,mask_value\nmug-ben,1-0\n")
    with pytest.raises(DataError, match=r"mug-ben: mask_value='1-0': give the values of a mask"):
        folder.read(tmp_path, {})


def test_a_value_that_a_mask_lacks_is_an_absent_subject_only_where_a_table_says_so(tmp_path: Path) -> None:
    own_set(tmp_path, indexed(np.where(two_things() == 2, 2, 0)))
    with pytest.raises(DataError, match=r"kitchen\.png has none of mask_value=1: .* 0 .* and 2 \(180 px\)"):
        list(folder.read(tmp_path, {"mask_value": "1"}).queries(0))
    (tmp_path / "mug-anna/queries.csv").write_text("scene,query_type\nkitchen.png,absent\n")
    (row,) = folder.read(tmp_path, {"mask_value": "1"}).queries(0)
    assert row.query_type == "absent" and not row.mask.any()


def test_something_said_of_masks_that_are_not_there_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path / "own/01.png", Image.fromarray(draw_scene(0, SIZE)))
    with pytest.raises(UsageError, match=r"^--mask-value is said of masks, but no photo in .*own has one$"):
        chosen_subjects(tmp_path / "own", "mug", None, ("1", None))
    with pytest.raises(UsageError, match=r"^--mask-value, --mask-frame and --mask-name are said of masks"):
        chosen_subjects(None, None, DatasetSubjects("tabletop-v2", None, "test", "photos"), ("1", None))


def test_the_masks_of_a_set_that_paints_in_colour_are_as_strict(tmp_path: Path) -> None:
    red = np.uint8([128, 0, 0])
    path = saved(tmp_path / "a.png", Image.fromarray(BOX[:, :, None] * red))
    assert np.array_equal(coloured_mask_file(path, SIZE), BOX)
    saved(path, Image.fromarray((np.where(BOX, 255, NOISE)[:, :, None] * [1, 0, 0]).astype(np.uint8)))
    with pytest.raises(DataError, match=r"a\.png does not say .* 0 \(\d+ px\), 1 \(\d+ px\), 2 \(\d+ px\) and 255 \("):
        coloured_mask_file(path, SIZE)
    saved(path, Image.fromarray(np.where(two_things()[:, :, None] == 2, red[[1, 0, 1]], BOX[:, :, None] * red)))
    with pytest.raises(
        DataError, match=r"a\.png has things in the colours \(0, 128, 0\) and \(128, 0, 0\); save one of"
    ):
        coloured_mask_file(path, SIZE)
    for n in range(2):
        saved(tmp_path / f"set/Images/mug/0{n}.png", Image.fromarray(draw_scene(n, SIZE)))
        saved(tmp_path / f"set/Annotations/mug/0{n}.png", grey(np.where(BOX, 255, NOISE)))
    with pytest.raises(DataError, match=r"PerSeg: .*0[01]\.png does not say which pixels are the thing"):
        list(perseg.read(tmp_path / "set", {}).subjects())


def test_a_label_that_a_set_does_not_have_is_no_background(tmp_path: Path) -> None:
    path = saved(tmp_path / "000001-label.png", grey(BOX * 21))
    assert np.array_equal(ycb_video_frames.labels(tmp_path / "000001-color.png"), BOX * 21)
    saved(path, grey(BOX * 22))
    with pytest.raises(DataError, match=r"000001-label\.png has the label 22 \(651 px\); there are only 0, 1, 2, 3"):
        ycb_video_frames.labels(tmp_path / "000001-color.png")
