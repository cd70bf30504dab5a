from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image, ImageFilter

from prisbench.cli.concepts import chosen_subjects
from prisbench.concepts.latents import photo_latents
from prisbench.concepts.learners import learn
from prisbench.concepts.recipes import TextualInversion, changed, default_recipe
from prisbench.concepts.watch import Watch
from prisbench.datasets.photo_folder import OwnPhotos, near_duplicates, read_own_photos, remarks, suggested_noun
from prisbench.diffusion.loading import has_embedded, load_backbone
from prisbench.errors import DataError, UsageError
from prisbench.images.photos import load_photos
from prisbench.types import Subject
from tests.drawing import draw_box, draw_scene

SIZE_HW = (40, 56)
BOX = draw_box(SIZE_HW, 8, 10, 30, 40)


def draw_photo(seed: int, size_hw: tuple[int, int] = (120, 168)) -> np.ndarray:
    """Soft blots of light: unlike noise, it survives being made smaller."""
    h, w = size_hw
    blots = Image.fromarray(draw_scene(seed, (6, 8)))
    return np.asarray(blots.resize((w, h), Image.Resampling.BICUBIC))


def save(path: Path, image: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


@pytest.fixture
def mug(tmp_path: Path) -> Path:
    """Three photos, JPEG and PNG."""
    for n, name in enumerate(("01.jpg", "02.png", "03.jpg")):
        save(tmp_path / "mug" / name, draw_photo(n, SIZE_HW))
    return tmp_path / "mug"


def fails(folder: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_own_photos(folder)
    assert "\n" not in str(caught.value)


# --- masks ----------------------------------------------------------------------------------------------------------


def test_photos_without_masks_have_none(mug: Path) -> None:
    own = read_own_photos(mug)
    assert own.names == ("01.jpg", "02.png", "03.jpg") and own.masks == ()
    assert [photo.shape for photo in own.photos] == [(*SIZE_HW, 3)] * 3


@pytest.mark.parametrize("place", ["01.png", "masks/01.png", "photos_masks/01.png", "masks/01.PNG"])
def test_a_mask_lies_beside_its_photo_or_in_a_folder_of_masks(place: str, mug: Path) -> None:
    save(mug / place, BOX.astype(np.uint8) * 255, format="PNG")
    own = read_own_photos(mug)
    assert own.names == ("01.jpg", "02.png", "03.jpg")
    np.testing.assert_array_equal(own.masks[0], BOX)
    assert own.masks[1:] == (None, None)
    assert [photo.name for photo in load_photos(mug)] == list(own.names), "no mask is taken for a photo"


def test_photos_that_are_png_have_their_masks_in_the_folder(mug: Path) -> None:
    save(mug / "masks/02.png", BOX)
    masks = read_own_photos(mug).masks
    assert masks[0] is None and np.array_equal(masks[1], BOX)


def test_the_layout_of_the_folder_source_is_read(mug: Path, tmp_path: Path) -> None:
    home = tmp_path / "mug-anna"
    home.mkdir()
    mug.rename(home / "photos")
    save(home / "photos_masks/03.png", BOX)
    masks = read_own_photos(home / "photos").masks
    assert masks[:2] == (None, None) and np.array_equal(masks[2], BOX)
    fails(home, r"no photos in .*mug-anna itself; give the folder .*mug-anna/photos")


def test_where_there_are_scenes_the_masks_are_theirs(mug: Path) -> None:
    save(mug / "scenes/kitchen.jpg", draw_photo(9, SIZE_HW))
    save(mug / "masks/kitchen.png", BOX)
    assert read_own_photos(mug).masks == ()


def soft(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(0.5))


def alpha_only(mask: np.ndarray) -> Image.Image:
    picture = np.zeros((*mask.shape, 4), np.uint8)
    picture[:, :, 3] = mask * 255
    return Image.fromarray(picture)


FORMS: dict[str, Callable[[np.ndarray], Image.Image]] = {
    "one bit": lambda mask: Image.fromarray(mask),
    "0 and 1": lambda mask: Image.fromarray(mask.astype(np.uint8)),
    "16 bits": lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535),
    "palette": lambda mask: Image.fromarray(mask.astype(np.uint8) * 255).convert("P"),
    "grey in three channels": lambda mask: Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB"),
    "only alpha": alpha_only,
}


@pytest.mark.parametrize("form", FORMS)
def test_masks_come_in_every_form_that_programs_write(form: str, mug: Path) -> None:
    FORMS[form](BOX).save(mug / "01.png")
    np.testing.assert_array_equal(read_own_photos(mug).masks[0], BOX)


def test_soft_edges_are_cut_at_half(mug: Path) -> None:
    soft(BOX).save(mug / "01.png")
    own = read_own_photos(mug)
    assert np.array_equal(own.masks[0], BOX)
    assert remarks(own)[0].startswith(
        "masks with soft edges, cut at half (128 and more of 0..255 is the thing): 01.png"
    )


def test_a_photo_is_never_taken_for_a_mask(mug: Path) -> None:
    grey = np.asarray(Image.fromarray(draw_photo(5, SIZE_HW)).convert("L"))
    cut_out = np.dstack([draw_photo(0, SIZE_HW), BOX.astype(np.uint8) * 255])
    for picture in (draw_photo(5, SIZE_HW), grey, cut_out, draw_photo(5, (24, 30))):
        save(mug / "01.png", picture)
        fails(mug, r"01\.png .*; save .*black.*; if it is another photo than 01\.jpg, rename it$")
        message = r"01\.png has the name of 01\.jpg but is not black and white, .*; save it so, or rename it if it is"
        with pytest.raises(DataError, match=message):
            load_photos(mug)
    (mug / "01.png").unlink()
    save(mug / "masks/01.png", grey)
    fails(mug, r"masks/01\.png does not say which pixels are the thing: it has \d+ values from ")
    save(mug / "masks/01.png", cut_out[:, :, :3])
    fails(mug, r"masks/01\.png is in colour")


def test_a_mask_is_never_taken_for_a_photo(mug: Path) -> None:
    red = np.zeros((*SIZE_HW, 3), np.uint8)
    red[BOX] = (200, 0, 0)
    for picture in (BOX, soft(BOX), red, BOX & False):
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(mug / "x_mask.png")
        message = r"x_mask\.png looks like a mask .*; put masks into .*mug/masks, each a PNG with its photo's name"
        fails(mug, message)
        with pytest.raises(DataError, match=message):
            load_photos(mug)


def test_a_mask_that_does_not_fit_is_named_with_its_cure(mug: Path) -> None:
    save(mug / "01.png", BOX[:-2])
    fails(mug, r"01\.png is 38 x 56, its image 40 x 56 \(height x width\)")
    save(mug / "01.png", BOX.T)
    fails(mug, r"01\.png is 56 x 40, its image 40 x 56 .*turned by its EXIF orientation, and the mask not\?")
    save(mug / "01.png", BOX & False)
    fails(mug, r"01\.png is all black, but its photo shows the thing; draw it white, or remove the file")
    red = np.zeros((*SIZE_HW, 3), np.uint8)
    red[BOX] = (200, 0, 0)
    save(mug / "01.png", red)
    fails(mug, r"01\.png is in colour \(\(200, 0, 0\) at x 10, y 8\)")
    save(mug / "01.png", BOX)
    save(mug / "masks/01.png", BOX)
    fails(mug, r"01\.jpg in .* has two masks, .*mug/01\.png and .*masks/01\.png; remove one")
    (mug / "masks/01.png").rename(mug / "masks/04.png")
    fails(mug, r"masks/04\.png belongs to no photo: unknown photo '04': did you mean '0[13]'\? known: 01, 02, 03")
    (mug / "masks/04.png").unlink()
    save(mug / "masks/03.jpg", BOX.astype(np.uint8) * 255)
    fails(mug, r"masks/03\.jpg is a JPEG, which changes labels; masks are PNG files")


def test_photos_of_one_name_are_told_apart_only_where_there_is_no_mask(mug: Path) -> None:
    save(mug / "01.webp", draw_photo(7, SIZE_HW))
    assert len(read_own_photos(mug).photos) == 4
    save(mug / "masks/01.png", BOX)
    fails(mug, r"masks/01\.png belongs to 2 photos of that name in .*; rename one of them")
    save(mug / "01.png", BOX)
    fails(mug, r"01\.jpg, 01\.png, 01\.webp in .* have one name, so it is not clear what is whose mask; rename all but")


def test_thirty_photos_may_have_thirty_masks_beside_them(tmp_path: Path) -> None:
    for n in range(30):
        size_hw = SIZE_HW if n % 2 else SIZE_HW[::-1]
        save(tmp_path / f"{n:02}.jpg", draw_scene(n, size_hw))
        save(tmp_path / f"{n:02}.png", draw_box(size_hw, 2, 2, 20, 20))
    own = read_own_photos(tmp_path)
    assert len(own.photos) == 30 and all(mask is not None and mask.sum() == 324 for mask in own.masks)
    save(tmp_path / "30.jpg", draw_scene(30, SIZE_HW))
    fails(tmp_path, r"31 photos in .*: at most 30 of one subject")


def test_a_phones_own_photos_go_with_their_masks(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heic is not installed")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture = heif.from_pillow(Image.fromarray(draw_photo(0, SIZE_HW)))
    picture.save(tmp_path / "IMG_1.HEIC", quality=90, exif=turned.tobytes())
    save(tmp_path / "IMG_1.png", BOX.T)
    own = read_own_photos(tmp_path)
    assert own.photos[0].shape == (56, 40, 3) and np.array_equal(own.masks[0], BOX.T)


# --- photos nearly the same -----------------------------------------------------------------------------------------


def test_photos_nearly_the_same_are_found_and_others_are_not() -> None:
    view = draw_photo(0, (126, 176))
    photo = view[:120, :168]
    again = {
        "smaller": np.asarray(Image.fromarray(photo).resize((84, 60))),
        "lighter": np.minimum(photo.astype(int) + 20, 255).astype(np.uint8),
        "mirrored": photo[:, ::-1],
        "turned": np.rot90(photo),
        "a moment later": view[3:123, 4:172],
        "cut out": photo[:90, 40:],
        "noisy": np.clip(photo + np.random.default_rng(0).normal(0, 8, photo.shape), 0, 255).astype(np.uint8),
    }
    for how, other in again.items():
        assert near_duplicates([draw_photo(1), photo, np.ascontiguousarray(other)]) == [(1, 2)], how
    assert near_duplicates([draw_photo(seed) for seed in range(12)]) == []


def test_groups_of_alike_photos_are_named_in_one_line() -> None:
    pictures = [draw_photo(seed) for seed in (0, 1, 0, 2, 1, 0)]
    own = OwnPhotos(tuple(f"{n}.jpg" for n in range(6)), tuple(pictures), ())
    assert near_duplicates(pictures) == [(0, 2, 5), (1, 4)]
    assert remarks(own) == [
        "nearly the same picture: 0.jpg, 2.jpg and 5.jpg; 1.jpg and 4.jpg; they teach little more than one of them does"
    ]


def test_where_all_photos_are_one_the_learner_says_so_alone() -> None:
    assert near_duplicates([draw_photo(0)] * 4) == near_duplicates([draw_photo(0)]) == near_duplicates([]) == []


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_takes_photos_with_their_masks(mug: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(mug / "01.png", BOX)
    save(mug / "04.jpg", draw_photo(0, SIZE_HW), quality=30)
    (subject,) = chosen_subjects(mug, "mug", None)
    assert subject.noun == "mug" and len(subject.photos) == 4 and re.fullmatch("mug-[0-9a-f]{10}", subject.id)
    assert np.array_equal(subject.masks[0], BOX) and subject.masks[1:] == (None,) * 3
    assert capsys.readouterr().err.splitlines() == [
        "nearly the same picture: 01.jpg and 04.jpg; they teach little more than one of them does",
        "1 of 4 photos have a mask; what lies outside of it is learned little",
    ]


@pytest.mark.parametrize(
    ("name", "noun"),
    [
        ("my_mug", "mug"),
        ("mug-anna", "mug"),
        ("Our-Dog2", "dog"),
        ("grey_sloth_plushie", "plushie"),
        ("red_mug2/photos", "mug"),
        ("photos", None),
        ("IMG_2041", None),
        ("2024-05-01", None),
    ],
)
def test_a_missing_noun_is_asked_for_with_what_the_folder_is_called(
    name: str, noun: str | None, tmp_path: Path
) -> None:
    folder = tmp_path / "x1" / name
    assert suggested_noun(folder) == noun
    message = f"--photos needs --noun, the thing's class word, such as --noun {noun or 'mug'}$"
    with pytest.raises(UsageError, match=message):
        chosen_subjects(folder, None, None)


# --- learning -------------------------------------------------------------------------------------------------------


def test_large_photos_turned_by_exif_are_learned_from_by_their_masks(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / "own/1.jpg", draw_photo(0, (3000, 4000)), exif=turned)
    save(tmp_path / "own/1.png", draw_box((4000, 3000), 900, 800, 3000, 2000))
    save(tmp_path / "own/2.jpg", draw_photo(1, (3000, 4000)))
    save(tmp_path / "own/3.png", draw_photo(2, (70, 50)))
    own = read_own_photos(tmp_path / "own")
    assert [photo.shape[:2] for photo in own.photos] == [(4000, 3000), (3000, 4000), (70, 50)]
    lines: list[str] = []
    recipe = changed(TextualInversion(), steps=2, batch=1, masked=True)
    backbone = load_backbone(tiny.save(tmp_path / "tiny"))
    thing = Subject("s", "mug", own.photos, own.masks)
    concept = learn(backbone, thing, "textual-inversion", recipe, 0, Watch(say=lines.append))
    assert np.isfinite(concept.tensors["losses"]).all() and len(concept.tensors["losses"]) == 2
    assert "the loss of 1 of 3 photos weighs 0.1 outside of their masks" in lines

    wrong = Subject("s", "mug", own.photos, (own.masks[0], None, draw_box((50, 70), 1, 1, 9, 9)))
    for masks, message in (
        (wrong.masks, r"learner\.masked: mask 3 of 's' is 50 x 70, its photo 70 x 50 \(h x w\)"),
        (wrong.masks[:2], r"learner\.masked: 's' has 2 masks for 3 photos; give each photo one, None where there is"),
    ):
        with pytest.raises(DataError, match=message):
            learn(backbone, Subject("s", "mug", own.photos, masks), "textual-inversion", recipe)


@pytest.mark.slow
@pytest.mark.data
def test_the_thirty_subjects_of_dreambooth_go_through_loading_encoding_and_two_steps(tmp_path: Path) -> None:
    root = Path(os.environ.get("PRISBENCH_DATA", "unset")) / "dreambooth512"
    if not root.is_dir():
        pytest.skip("PRISBENCH_DATA names no folder with dreambooth512")
    if not has_embedded():
        pytest.skip("the embedded backbone has no weights yet")
    backbone, watch = load_backbone(), Watch(encodings=tmp_path)
    recipe = changed(default_recipe(backbone.family, "textual-inversion"), steps=2, batch=2)
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    assert len(folders) == 30
    alike = {}
    for folder in folders:
        own = read_own_photos(folder)
        assert 3 <= len(own.photos) <= 30 and own.masks == ()
        noun = suggested_noun(folder)
        assert noun is not None
        thing = Subject(folder.name, noun, own.photos)
        batches = photo_latents(backbone, thing, recipe.loop, watch)
        assert sum(len(batch.latents) for batch in batches) == len(own.photos), folder.name
        assert all(bool(torch.isfinite(batch.latents).all()) for batch in batches), folder.name
        tensors = learn(backbone, thing, "textual-inversion", recipe, 0, watch).tensors
        assert len(tensors["losses"]) == 2 and all(np.isfinite(each).all() for each in tensors.values()), folder.name
        if groups := near_duplicates(own.photos):
            alike[folder.name] = groups
    assert alike == {"cat": [(2, 3)], "dog5": [(2, 3)]}, "one cut out of the other; one mirrored"
