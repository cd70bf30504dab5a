"""Refinement on pictures one can draw by hand."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest

from prisbench.errors import MissingExtraError, UsageError
from prisbench.localizer import refine
from prisbench.localizer.refine import (
    EMBEDDED_CRF,
    PHOTO_ADAPTIVE,
    PUBLISHED_CRF,
    TABLETOP_ADAPTIVE,
    AdaptiveParameters,
    adaptive,
    dense_crf,
)

needs_crf = pytest.mark.skipif(
    not pytest.importorskip("importlib.util").find_spec("pydensecrf"), reason="the extra 'crf' is not installed"
)


def picture() -> tuple[np.ndarray, np.ndarray]:
    """A red rectangle on grey with a little noise, 40 x 60, and its mask."""
    mask = np.zeros((40, 60), bool)
    mask[12:30, 20:45] = True
    image = np.where(mask[..., None], (200, 40, 40), (110, 110, 110))
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return (image + noise).astype(np.uint8), mask


def blurred() -> np.ndarray:
    """Probabilities of a round blob in about the right place."""
    y, x = np.mgrid[:40, :60]
    subject = np.exp(-((y - 20) ** 2 + (x - 31) ** 2) / 150)
    return np.stack([1 - subject, subject]).clip(0.02, 0.98)


def iou(probabilities: np.ndarray, truth: np.ndarray) -> float:
    mask = probabilities[1] > probabilities[0]
    return (mask & truth).sum() / (mask | truth).sum()


@needs_crf
@pytest.mark.parametrize("parameters", [PUBLISHED_CRF, EMBEDDED_CRF])
def test_the_crf_pulls_a_blob_to_the_edges_of_the_thing(parameters: object) -> None:
    image, truth = picture()
    before = blurred()
    after = dense_crf(image, before, parameters)  # type: ignore[arg-type]

    assert after.shape == before.shape
    assert np.allclose(after.sum(0), 1, atol=1e-5)
    assert iou(before, truth) < 0.7 and iou(after, truth) > 0.95


@needs_crf
def test_a_common_factor_of_a_pixels_scores_changes_nothing() -> None:
    image, _ = picture()
    assert np.allclose(
        dense_crf(image, blurred(), EMBEDDED_CRF), dense_crf(image, 3 * blurred(), EMBEDDED_CRF), atol=1e-4
    )


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'prisbench\[crf\]'"):
        dense_crf(picture()[0], blurred(), EMBEDDED_CRF)


# --- without a compiler ---------------------------------------------------------------------------------------------

NEAR = AdaptiveParameters(iterations=3, dilations=(1, 2, 4), contrast=0.1)


def noisy_colours(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def noisy_probabilities(classes: int, h: int, w: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet([1.0] * classes, (h, w)).transpose(2, 0, 1)


def two_colours(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """A dim green left part and a dim brown right part, each with a little noise, and the left part's mask."""
    left = np.broadcast_to(np.arange(w) < w // 3, (h, w))
    image = np.where(left[..., None], (60, 90, 60), (90, 70, 50))
    return (image + np.random.default_rng(2).integers(-3, 4, image.shape)).astype(np.uint8), left


def by_the_formula(image: np.ndarray, probabilities: np.ndarray, parameters: AdaptiveParameters) -> np.ndarray:
    """Pixel by pixel, in double precision, straight from the definition."""
    h, w = image.shape[:2]
    colour = image.astype(np.float64)
    steps = [s for s in itertools.product((-1, 0, 1), repeat=2) if s != (0, 0)]
    for _ in range(parameters.iterations):
        after = np.empty_like(probabilities)
        for y, x in itertools.product(range(h), range(w)):
            places = [
                (min(max(y + d * dy, 0), h - 1), min(max(x + d * dx, 0), w - 1))
                for d in parameters.dilations
                for dy, dx in steps
            ]
            seen = np.stack([colour[place] for place in places])
            spread = np.concatenate([seen, np.stack([colour[y, x]] * len(parameters.dilations))]).std(axis=0, ddof=1)
            apart = np.zeros(len(places))
            for k in range(3):
                if spread[k] > 0:
                    apart += np.abs(seen[:, k] - colour[y, x, k]) / (parameters.contrast * spread[k]) / 3
            weight = np.exp(-apart) / np.exp(-apart).sum()
            after[:, y, x] = sum(m * probabilities[:, *place] for m, place in zip(weight, places, strict=True))
        probabilities = after
    return probabilities


@pytest.mark.parametrize("image", [noisy_colours(7, 9), two_colours(7, 9)[0], np.full((7, 9, 3), 7, np.uint8)])
def test_averaging_agrees_with_the_formula_pixel_by_pixel(image: np.ndarray) -> None:
    before = noisy_probabilities(3, 7, 9)
    assert np.allclose(adaptive(image, before, NEAR), by_the_formula(image, before, NEAR), atol=1e-5)


def test_a_channel_that_never_changes_says_nothing() -> None:
    image = noisy_colours(7, 9)
    image[..., 1] = 200
    before = noisy_probabilities(2, 7, 9)
    assert np.allclose(adaptive(image, before, NEAR), by_the_formula(image, before, NEAR), atol=1e-5)


@pytest.mark.parametrize("image", [noisy_colours(11, 17), np.full((11, 17, 3), 90, np.uint8)])
@pytest.mark.parametrize("parameters", [PHOTO_ADAPTIVE, TABLETOP_ADAPTIVE])
def test_a_constant_map_stays_whatever_the_photo(image: np.ndarray, parameters: AdaptiveParameters) -> None:
    before = np.broadcast_to(np.array([0.2, 0.5, 0.3])[:, None, None], (3, 11, 17))
    assert np.allclose(adaptive(image, before, parameters), before, atol=1e-6)


def test_a_map_stops_at_an_edge_in_colour_and_only_there() -> None:
    image, left = two_colours(24, 36)
    sharp = np.stack([~left, left]).astype(np.float32)
    assert iou(adaptive(image, sharp, TABLETOP_ADAPTIVE), left) == 1
    assert np.abs(adaptive(image, sharp, TABLETOP_ADAPTIVE) - sharp).max() < 0.1
    leaked = adaptive(np.full_like(image, 80), sharp, TABLETOP_ADAPTIVE) - sharp
    assert np.abs(leaked).max() > 0.4


def test_noise_on_a_half_plane_is_smoothed_up_to_the_edge() -> None:
    image, left = two_colours(40, 60)
    noise = np.random.default_rng(3).normal(0, 0.5, left.shape)
    subject = np.clip(0.3 + 0.4 * left + noise, 0, 1).astype(np.float32)
    before = np.stack([1 - subject, subject])
    assert iou(before, left) < 0.4
    assert iou(adaptive(image, before, TABLETOP_ADAPTIVE), left) > 0.98
    assert iou(adaptive(image, before, PHOTO_ADAPTIVE), left) > 0.7  # its low contrast takes the grain for edges


@pytest.mark.parametrize("parameters", [PHOTO_ADAPTIVE, TABLETOP_ADAPTIVE])
def test_averaging_pulls_a_blob_towards_the_edges_of_the_thing(parameters: AdaptiveParameters) -> None:
    image, truth = picture()
    assert iou(blurred(), truth) < 0.7 and iou(adaptive(image, blurred(), parameters), truth) > 0.95


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_answer_sums_to_one_and_a_common_factor_changes_nothing(classes: int, kind: Any) -> None:
    image, before = noisy_colours(13, 21), noisy_probabilities(classes, 13, 21).astype(kind)
    factor = np.linspace(0.5, 4, 13 * 21).reshape(13, 21).astype(kind)
    after = adaptive(image, before, PHOTO_ADAPTIVE)
    assert after.shape == before.shape and after.dtype == np.float32
    assert after.min() >= 0 and np.abs(after.sum(axis=0) - 1).max() < 1e-6
    assert np.allclose(
        adaptive(image, before * factor, PHOTO_ADAPTIVE), after, atol=2e-3 if kind == np.float16 else 1e-6
    )


@pytest.mark.parametrize(
    "image", [noisy_colours(9, 14), np.zeros((9, 14, 3), np.uint8), np.full((9, 14, 3), 255, np.uint8)]
)
def test_a_pixel_without_probabilities_starts_undecided(image: np.ndarray) -> None:
    nothing = np.zeros((4, 9, 14))
    assert np.allclose(adaptive(image, nothing, NEAR), 0.25)
    hole = noisy_probabilities(4, 9, 14)
    hole[:, 3:6, 5] = 0
    filled = hole.copy()
    filled[:, 3:6, 5] = 0.25
    assert np.array_equal(adaptive(image, hole, NEAR), adaptive(image, filled, NEAR))


def test_no_colour_is_too_far_for_a_number() -> None:
    image = np.zeros((9, 14, 3), np.uint8)
    image[4, 7] = 255  # alone, and far from all it hears
    after = adaptive(image, noisy_probabilities(2, 9, 14), AdaptiveParameters(4, (1,), 1e-6))
    assert np.isfinite(after).all() and np.allclose(after.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (33, 2)])
def test_photos_smaller_than_the_rings_are_answered(size_hw: tuple[int, int]) -> None:
    after = adaptive(noisy_colours(*size_hw), noisy_probabilities(2, *size_hw), PHOTO_ADAPTIVE)
    assert after.shape == (2, *size_hw) and np.isfinite(after).all()


def test_tiles_give_what_the_whole_photo_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    image, before = noisy_colours(31, 47), noisy_probabilities(3, 31, 47)
    parameters = AdaptiveParameters(iterations=2, dilations=(1, 3), contrast=0.5)
    whole = adaptive(image, before, parameters)
    seen: list[tuple[int, ...]] = []
    average = refine._average
    monkeypatch.setattr(refine, "TILE_PX", 10)
    monkeypatch.setattr(refine, "_average", lambda i, *rest: seen.append(i.shape) or average(i, *rest))  # type: ignore[func-returns-value]
    tiled = adaptive(image, before, parameters)
    assert np.allclose(tiled, whole, atol=1e-6)
    assert len(seen) == 4 * 5 and max(max(shape) for shape in seen) <= 10 + 2 * 6


def test_the_same_input_gives_the_same_bits_and_is_left_as_it_was() -> None:
    image, before = noisy_colours(15, 22), noisy_probabilities(2, 15, 22).astype(np.float32)
    kept = before.copy()
    image.flags.writeable = before.flags.writeable = False
    first = adaptive(image, before, PHOTO_ADAPTIVE)
    assert np.array_equal(first, adaptive(image, before, PHOTO_ADAPTIVE)) and np.array_equal(before, kept)
    unmoved = adaptive(image, before, AdaptiveParameters(0, (1,), 0.1))
    assert np.allclose(unmoved, before, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-1, (1,), 0.1), r"adaptive.iterations=-1 makes no sense: expected a whole number from 0 up"),
        ((10, (), 0.1), r"adaptive.dilations=\(\) makes no sense: expected whole pixels from 1 up"),
        ((10, (1, 0), 0.1), r"adaptive.dilations=\(1, 0\) makes no sense"),
        ((10, (1,), 0.0), r"adaptive.contrast=0.0 makes no sense: expected a number above 0"),
        ((10, (1,), float("nan")), r"adaptive.contrast=nan makes no sense"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AdaptiveParameters(*values)


def test_a_fraction_of_an_iteration_is_refused_where_types_go_unchecked() -> None:
    setting = object.__new__(AdaptiveParameters)  # past the checks of types that only a test run has
    for name, value in {"iterations": 2.5, "dilations": (1,), "contrast": 0.1}.items():
        object.__setattr__(setting, name, value)
    with pytest.raises(UsageError, match=r"adaptive.iterations=2.5 makes no sense: expected a whole number"):
        setting.__post_init__()


def test_negative_or_undefined_probabilities_are_a_bug_of_the_caller() -> None:
    for bad in (-0.1, float("nan"), float("inf")):
        before = noisy_probabilities(2, 5, 8)
        before[1, 2, 3] = bad
        with pytest.raises(AssertionError, match="non-negative and finite"):
            adaptive(noisy_colours(5, 8), before, NEAR)
