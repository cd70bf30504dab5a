"""Pictures for people: outlines, heat, sheets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from prisbench.images.drawing import GREEN, PINK, heat, outline, png, sheet
from tests.drawing import draw_box, draw_scene

SCENE = draw_scene(0, (12, 20))
MASK = draw_box((12, 20), 3, 4, 9, 12)


def test_an_outline_tints_the_mask_draws_its_inner_edge_and_leaves_the_rest() -> None:
    before = SCENE.copy()
    out = outline(SCENE, MASK, GREEN, fill=0.5)
    assert np.array_equal(SCENE, before), "the photo itself is not painted on"
    assert np.array_equal(out[~MASK], SCENE[~MASK])
    inside = draw_box((12, 20), 4, 5, 8, 11)
    assert (out[MASK & ~inside] == GREEN).all()
    expected = SCENE[inside] * 0.5 + np.array(GREEN) * 0.5
    assert np.abs(out[inside] - expected).max() <= 0.5


def test_an_outline_can_be_wide_and_unfilled() -> None:
    out = outline(SCENE, MASK, PINK, fill=0.0, width=2)
    core = draw_box((12, 20), 5, 6, 7, 10)
    assert (out[MASK & ~core] == PINK).all() and np.array_equal(out[core], SCENE[core])


def test_the_edge_of_a_mask_at_the_frame_is_drawn_too() -> None:
    assert (outline(SCENE, np.ones((12, 20), bool))[[0, -1]] == PINK).all()


def test_no_mask_leaves_the_photo_as_it_is() -> None:
    assert np.array_equal(outline(SCENE, np.zeros((12, 20), bool)), SCENE)


def test_heat_goes_from_dark_to_bright_over_a_grey_photo() -> None:
    ramp = np.tile(np.linspace(0, 1, 20), (12, 1))
    out = heat(np.full((12, 20, 3), 80, np.uint8), ramp).astype(int)
    brightness = out.sum(axis=2)
    assert (np.diff(brightness, axis=1) > 0).all(), "more is brighter, everywhere on the scale"
    assert np.abs(out[0, 0] - [20, 20, 23]).max() <= 1 and np.abs(out[0, -1] - [209, 211, 143]).max() <= 1
    textured = heat(SCENE, np.zeros((12, 20)))
    assert np.array_equal(np.argmax(textured.sum(2)), np.argmax(SCENE.mean(2))), "the photo shows through"


def test_a_sheet_fits_pictures_of_any_shape_and_keeps_their_aspect() -> None:
    wide, tall = np.full((10, 40, 3), 200, np.uint8), np.full((300, 100, 3), 100, np.uint8)
    out = sheet([[("wide", wide), ("tall", tall)], [("alone", wide)]], tile=60)
    assert out.shape == (2 * (60 + 18 + 8) + 8, 2 * 68 + 8, 3)
    assert (out == 200).all(2)[26:41, 8:68].all(), "enlarged without blur"
    assert not (out == 200).all(2)[26 + 15 : 26 + 60, 8:68].any()
    assert (out == 100).all(2).sum() == 60 * 20
    assert (out[94:, 76:] == 255).all(), "a short row ends white"


def test_a_label_too_long_is_cut_with_dots_and_stays_in_its_column() -> None:
    picture = np.zeros((10, 14, 3), np.uint8)
    long = sheet([[("look-alike: " * 9, picture), ("", picture)]], tile=60)
    assert (long[8:26, 8:68] < 255).any() and (long[8:26, 69:] == 255).all()
    assert not np.array_equal(long, sheet([[("look-alike: ", picture), ("", picture)]], tile=60))


@pytest.mark.parametrize("shape", [(12, 20, 3), (1, 3, 3)])
def test_a_png_holds_the_pixels(shape: tuple[int, ...]) -> None:
    image = draw_scene(3, shape[:2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)
