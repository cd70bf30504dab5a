"""A concept's sheet shows its photos, where it is seen, how it is drawn with its own weights, and the loss."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import BackboneError
from prisbench.images.drawing import PINK, png
from prisbench.localizer import sheet as concept_sheet
from prisbench.localizer.presets import preset
from prisbench.localizer.settings import LocalizerSettings
from prisbench.localizer.sheet import curve, drawn, sheet
from prisbench.types import Concept, Prediction

TILE, LABEL, GAP = 220, 18, 8


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("sheet") / "tiny"))


@pytest.fixture(scope="module")
def settings() -> LocalizerSettings:
    return dataclasses.replace(preset("fast", "embedded"), refine="none", presence=None)


def photos(*sizes_hw: tuple[int, int]) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes_hw]


def concept(backbone: Backbone, **tensors: np.ndarray) -> Concept:
    vectors = np.random.default_rng(0).normal(0, 0.02, (2, backbone.token_table.shape[1])).astype(np.float32)
    return Concept("abc", "s", "mug", "textual-inversion", backbone.id, {"vectors": vectors, **tensors})


def height(rows: int) -> int:
    return rows * (TILE + LABEL + GAP) + GAP


def test_a_sheet_has_rows_of_photos_maps_masks_and_drawings_with_the_curve(
    backbone: Backbone, settings: LocalizerSettings
) -> None:
    losses = np.linspace(1, 0.5, 30, dtype=np.float32)
    picture = sheet(
        backbone, concept(backbone, losses=losses), photos((112, 144), (900, 400)), settings, samples=2, steps=2
    )
    assert picture.shape == (height(4), 3 * (TILE + GAP) + GAP, 3)
    last = picture[height(3) + LABEL :, 2 * (TILE + GAP) + GAP :][:TILE, :TILE]
    assert np.array_equal(last, curve(losses))
    assert png(picture).startswith(b"\x89PNG")


def test_the_concepts_own_losses_are_taken_and_a_control_has_no_curve(
    backbone: Backbone, settings: LocalizerSettings
) -> None:
    own = concept(backbone, losses=np.asarray([3.0, 2.0], np.float32))
    with_curve = sheet(backbone, own, photos((112, 144)), settings, samples=0)
    assert with_curve.shape[0] == height(4) and np.array_equal(
        with_curve[height(3) + LABEL :, GAP:][:TILE, :TILE], curve(own.tensors["losses"])
    )
    control = Concept("abc", "s", "mug", "noun-only", backbone.id)
    assert sheet(backbone, control, photos((112, 144)), settings, samples=0).shape[0] == height(3)


def test_many_photos_are_shown_by_a_few_spread_over_all(
    backbone: Backbone, settings: LocalizerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tiles(monkeypatch)
    monkeypatch.setattr(concept_sheet, "locate", found_nothing)
    sheet(backbone, concept(backbone), photos(*[(112, 144)] * 11), settings, samples=0)
    assert [label for label, _ in shown[0]] == [f"photo {n} of 11" for n in (1, 3, 5, 7, 9, 11)]


def tiles(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, np.ndarray]]]:
    """The rows that sheets are made of from now on."""
    shown: list[list[tuple[str, np.ndarray]]] = []

    def kept(rows: list[list[tuple[str, np.ndarray]]], tile: int) -> np.ndarray:
        shown.extend(rows)
        return np.zeros((tile, tile, 3), np.uint8)

    monkeypatch.setattr(concept_sheet.drawing, "sheet", kept)
    return shown


def found_nothing(_: object, photo: np.ndarray, *__: object) -> list[Prediction]:
    return [Prediction("q", None, score=np.zeros(photo.shape[:2], np.float32))]


def test_a_concept_that_is_not_found_has_no_outline_and_a_large_photo_is_seen_small(
    backbone: Backbone, settings: LocalizerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tiles(monkeypatch)
    monkeypatch.setattr(concept_sheet, "locate", found_nothing)
    sheet(backbone, concept(backbone), photos((1200, 1600)), settings, samples=0)
    assert [row[0][0] for row in shown] == ["photo 1 of 1", "where", "not found"]
    assert shown[0][0][1].shape == (110, 147, 3) and not (shown[2][0][1] == PINK).all(axis=2).any()


def test_drawings_are_made_with_the_concepts_weights_which_are_gone_afterwards(backbone: Backbone) -> None:
    name = "conv_in.weight"
    before = backbone.unet.state_dict()[name].clone()
    plain, again = drawn(backbone, concept(backbone), 1, 2), drawn(backbone, concept(backbone), 2, 2)
    assert plain[0].shape == (112, 144, 3) and np.array_equal(plain[0], again[0])
    assert not np.array_equal(again[0], again[1])
    changed = concept(backbone, **{f"unet.{name}": before.numpy() * 3})
    assert not np.array_equal(drawn(backbone, changed, 1, 2)[0], plain[0])
    assert torch.equal(backbone.unet.state_dict()[name], before)


def test_what_was_learned_of_words_shows_in_the_drawing(backbone: Backbone) -> None:
    noun = Concept("abc", "s", "mug", "noun-only", backbone.id)
    rare = dataclasses.replace(noun, recipe={"rare": "bowl"})
    of_noun, of_rare, of_vectors = (drawn(backbone, each, 1, 2)[0] for each in (noun, rare, concept(backbone)))
    assert not np.array_equal(of_noun, of_rare) and not np.array_equal(of_noun, of_vectors)


def test_a_concept_of_another_backbone_is_refused(backbone: Backbone, settings: LocalizerSettings) -> None:
    other = dataclasses.replace(concept(backbone), backbone="other@1")
    with pytest.raises(BackboneError, match="was learned on other@1"):
        sheet(backbone, other, photos((112, 144)), settings)


def test_a_curve_falls_where_the_loss_does() -> None:
    def dark(picture: np.ndarray, columns: slice) -> float:
        """Mean height of the vermilion line, in rows below the top of the axis, in these columns."""
        red = (picture[:, columns, 0] > 190) & (picture[:, columns, 1] < 130) & (picture[:, columns, 2] < 60)
        return float(np.nonzero(red[26:])[0].mean())

    falling = curve(np.linspace(1, 0.1, 200, dtype=np.float32))
    assert falling.shape == (220, 220, 3)
    assert dark(falling, slice(60, 90)) + 60 < dark(falling, slice(180, 205))


@pytest.mark.parametrize("losses", [[0.5], [0.0, 0.0], [0.5, float("nan"), 0.4], [1e4] * 3])
def test_short_and_odd_losses_are_drawn_too(losses: list[float]) -> None:
    picture = curve(np.asarray(losses, np.float32))
    assert picture.shape == (220, 220, 3) and (picture < 255).any()
