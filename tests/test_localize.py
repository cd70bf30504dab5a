"""From attention to answers: the arithmetic by pencil, the answers on a tiny pipeline of the real classes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from prisbench.diffusion.attention import Attention, Recording, transformer_blocks
from prisbench.diffusion.backbone import Backbone, Geometry, load_backbone
from prisbench.diffusion.prompts import TOKEN_GROUPS
from prisbench.errors import BackboneError, UnknownNameError, UsageError
from prisbench.localize import (
    PRESETS,
    Observation,
    Row,
    boxes,
    default_preset,
    locate,
    min_max,
    observe,
    predict,
    preset,
    self_cross,
    with_background,
)
from prisbench.types import Concept, Query

PLAIN = dataclasses.replace(
    preset("embedded"),
    tokens=("subject",),
    timesteps=(150,),
    samples=2,
    cross={"up.1.0": 1.0, "up.1.1": 1.0},
    hops=1,
    tau=0.4,
    refine="none",
)
"""Settings of the test's own, whatever numbers the preset holds today."""


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("localize") / "tiny"))


@pytest.fixture(scope="module")
def concepts(backbone: Backbone) -> dict[str, Concept]:
    vectors = np.random.default_rng(0).normal(0, 0.02, (2, 24)).astype(np.float32)
    learned = Concept("l", "learned", "mug", "textual-inversion", backbone.id, {"vectors": vectors})
    return {"learned": learned, "noun": Concept("n", "noun", "mug", "noun-only")}


def photo(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


QUERIES = [
    Query("a", "learned", "the {subject} on a desk"),
    Query("b", "noun", "the {subject} on a desk"),
    Query("c", "learned", "a {subject} left of the bowl"),
]


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "w"), [(112, 144), (160, 96), (75, 130)])
def test_an_answer_is_the_same_bit_for_bit_whatever_else_is_asked(
    backbone: Backbone, concepts: dict[str, Concept], h: int, w: int
) -> None:
    image = photo(h, w)
    together = locate(backbone, image, QUERIES, concepts, PLAIN)
    locate(backbone, photo(h, w, 1), QUERIES[:1], concepts, PLAIN)
    alone = [locate(backbone, image, [query], concepts, PLAIN)[0] for query in reversed(QUERIES)][::-1]
    assert [p.query_id for p in together] == ["a", "b", "c"]
    for one, other in zip(together, alone, strict=True):
        assert one.mask is not None and one.score is not None and one.seconds is not None
        assert one.mask.shape == one.score.shape == (h, w)
        assert np.array_equal(one.score, other.score) and np.array_equal(one.mask, other.mask)  # type: ignore[arg-type]
        assert one.presence == other.presence and one.peak_yx == other.peak_yx
        assert one.score[one.peak_yx] == one.score.max() <= 1
        assert np.array_equal(one.mask, one.score > PLAIN.tau)
    assert not np.array_equal(together[0].score, together[1].score), "a learned vector changes the map"  # type: ignore[arg-type]


def test_one_observation_of_all_blocks_serves_many_settings(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    image, wide = photo(112, 144), dataclasses.replace(PLAIN, timesteps=(50, 150), samples=3)
    blocks = list(transformer_blocks(backbone.unet))
    seen = observe(backbone, image, QUERIES[0], concepts["learned"], wide, blocks)
    assert seen.rows[:4] == (Row(50, 0), Row(50, 1), Row(50, 2), Row(150, 0))
    for settings in (
        PLAIN,
        dataclasses.replace(PLAIN, cross={"up.2.1": 2.0, "mid.0": 1.0}, hops=0),
        dataclasses.replace(PLAIN, tokens=("token", "phrase"), self_block="down.2.0", hops=2, theta=0.3),
        dataclasses.replace(PLAIN, timesteps=(50,), samples=3, rule="squared"),
    ):
        ours = predict(seen, image, "a", settings)
        (expected,) = locate(backbone, image, QUERIES[:1], concepts, settings)
        assert ours.score is not None and np.allclose(ours.score, expected.score, atol=1e-5)  # type: ignore[arg-type]
        assert ours.presence == pytest.approx(expected.presence, abs=1e-6)
    with pytest.raises(AssertionError, match="were not observed"):
        predict(seen, image, "a", dataclasses.replace(PLAIN, timesteps=(300,)))


def test_without_vectors_every_group_of_the_subject_is_the_noun(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    maps = observe(backbone, photo(112, 144), QUERIES[1], concepts["noun"], PLAIN).recording.cross["up.1.0"]
    token, noun, subject, phrase = (maps[:, TOKEN_GROUPS.index(group)] for group in TOKEN_GROUPS)
    assert torch.equal(token, noun) and torch.equal(subject, noun)
    assert not torch.allclose(phrase, noun), "the phrase holds the desk too"


def test_several_groups_are_multiplied(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    image = photo(112, 144)
    seen = observe(backbone, image, QUERIES[0], concepts["learned"], PLAIN)
    maps = self_cross(seen.recording, PLAIN, seen.geometry).score[[0, 3]]
    both = predict(seen, image, "a", dataclasses.replace(PLAIN, tokens=("token", "phrase")))
    product = torch.nn.functional.interpolate((maps[0] * maps[1]).sqrt()[None, None], size=(112, 144), mode="bilinear")
    assert both.score is not None and np.allclose(both.score, product[0, 0], atol=1e-5)


def test_below_the_presence_threshold_the_answer_is_not_here(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    image = photo(112, 144)
    (there,) = locate(backbone, image, QUERIES[:1], concepts, PLAIN)
    assert there.presence is not None and 0 < there.presence < 1
    for threshold, found in ((there.presence - 1e-6, True), (there.presence + 1e-6, False)):
        (answer,) = locate(backbone, image, QUERIES[:1], concepts, dataclasses.replace(PLAIN, presence=threshold))
        assert (answer.mask is not None) is found
        assert answer.presence == there.presence and answer.peak_yx == there.peak_yx


def test_presence_is_attention_before_any_scaling() -> None:
    image, geometry = photo(40, 60), Geometry((40, 60), (40, 60), (48, 64))
    settings = dataclasses.replace(PLAIN, cross={"x": 1.0}, hops=0, samples=2)
    cross = torch.zeros(2, len(TOKEN_GROUPS), 6, 8)
    cross[:, TOKEN_GROUPS.index("subject"), 2, 3] = torch.tensor([0.4, 0.2])
    cross[:, :, -1] = 9.0  # the row of padding
    rows = (Row(150, 0), Row(150, 1))
    strong, faint = (
        predict(Observation(Recording({"x": cross * factor}), rows, geometry), image, "q", settings)
        for factor in (1, 0.1)
    )
    assert strong.presence == pytest.approx(0.3) and faint.presence == pytest.approx(0.03)
    assert strong.mask is not None and strong.mask.any() and np.array_equal(strong.mask, faint.mask)  # type: ignore[arg-type]


def test_the_crf_refines_the_mask_and_leaves_the_map(backbone: Backbone, concepts: dict[str, Concept]) -> None:
    pytest.importorskip("pydensecrf", reason="the extra 'crf' is not installed")
    image = photo(112, 144)
    (plain,) = locate(backbone, image, QUERIES[:1], concepts, PLAIN)
    (refined,) = locate(backbone, image, QUERIES[:1], concepts, dataclasses.replace(PLAIN, refine="crf"))
    assert np.array_equal(plain.score, refined.score) and plain.peak_yx == refined.peak_yx  # type: ignore[arg-type]
    assert not np.array_equal(plain.mask, refined.mask)  # type: ignore[arg-type]


def test_a_concept_of_another_backbone_is_refused_naming_both(backbone: Backbone) -> None:
    foreign = Concept("f", "learned", "mug", "textual-inversion", "sd@123", {"vectors": np.zeros((1, 24), np.float32)})
    with pytest.raises(BackboneError, match=rf"concept f of 'learned' was learned on sd@123, not on {backbone.id}"):
        locate(backbone, photo(112, 144), QUERIES[:1], {"learned": foreign}, PLAIN)
    narrow = dataclasses.replace(foreign, backbone=backbone.id, tensors={"vectors": np.zeros((1, 9), np.float32)})
    with pytest.raises(BackboneError, match=r"concept f: vectors of shape \(1, 9\) do not fit"):
        locate(backbone, photo(112, 144), QUERIES[:1], {"learned": narrow}, PLAIN)


def test_a_preset_for_other_blocks_and_a_text_without_slot_are_refused(
    backbone: Backbone, concepts: dict[str, Concept]
) -> None:
    assert default_preset(backbone) == "embedded"
    other = dataclasses.replace(PLAIN, cross={"up.3.0": 1.0})
    with pytest.raises(BackboneError, match=rf"{backbone.id} has no block up.3.0; its blocks: down.1.0, .*up.2.1"):
        locate(backbone, photo(112, 144), QUERIES[:1], concepts, other)
    with pytest.raises(UsageError, match=r"'a mug' must hold \{subject\} once"):
        locate(backbone, photo(112, 144), [Query("q", "noun", "a mug")], concepts, PLAIN)


# --- arithmetic -----------------------------------------------------------------------------------------------------


def test_min_max_scales_each_map_and_a_flat_map_is_zero() -> None:
    maps = torch.tensor([[[1.0, 3.0, 5.0]], [[7.0, 7.0, 7.0]]])
    assert min_max(maps).tolist() == [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]]]


def test_boxes_hold_each_connected_part_and_the_published_ones_lack_the_last_row_and_column() -> None:
    rows = ["1.....", ".1....", "......", "...1.1", "...111"]
    maps = torch.tensor([[float(cell == "1") for cell in row] for row in rows])[None, None]
    ours = ["11....", "11....", "......", "...111", "...111"]
    published = ["11....", "11....", "......", "...11.", "......"]
    for quirk, expected in ((False, ours), (True, published)):
        drawn = ["".join("1" if v else "." for v in row) for row in boxes(maps, 0.2, quirk)[0, 0].tolist()]
        assert drawn == expected
    levels = torch.tensor([[[[0.0, 0.19, 0.3, 1.0]]]])
    assert boxes(levels, 0.2, False)[0, 0].tolist() == [[0, 0, 1, 1]]


def test_the_threshold_rule_cuts_at_tau_and_the_squared_rule_where_the_paper_does() -> None:
    maps = torch.linspace(0, 1, 1001)[None, None]
    for tau in (0.2, 0.4, 0.7):
        scores = with_background(maps, dataclasses.replace(PLAIN, tau=tau))
        assert torch.equal(scores[1] > scores[0], maps[0] > tau)
        assert torch.allclose(scores.sum(0), torch.ones(1)) and scores.min() >= 0
    for tau, cut in ((0.5, 0.382), (0.35, 0.225)):
        scores = with_background(maps, dataclasses.replace(PLAIN, rule="squared", tau=tau))
        assert maps[0][scores[1] > scores[0]].min() == pytest.approx(cut, abs=2e-3)


def test_padding_takes_no_attention_and_no_part_in_scaling() -> None:
    torch.manual_seed(0)
    grid, valid = (4, 6), (3, 5)
    attention = Attention(torch.randn(1, 2, 24, 4), torch.randn(1, 2, 24, 4), 0.5, grid)
    cross = torch.rand(1, 1, *grid)
    cross[..., -1] = 100
    settings = dataclasses.replace(PLAIN, cross={"x": 1.0}, self_block="s")
    geometry = Geometry((40, 75), (24, 40), (32, 48))
    assert geometry.valid_hw(grid) == valid
    inside = torch.zeros(grid, dtype=torch.bool)
    inside[:3, :5] = True
    logits = (attention.queries @ attention.keys.mT * 0.5).masked_fill(~inside.flatten(), -torch.inf)
    expected = (logits.softmax(-1).mean(1) @ min_max(cross[..., :3, :5]).new_zeros(24).masked_scatter(
        inside.flatten(), min_max(cross[..., :3, :5])
    )).unflatten(-1, grid)[:, :3, :5]  # fmt: skip
    maps = self_cross(Recording({"x": cross}, {"s": attention}), settings, geometry)
    assert maps.grid_hw == grid
    assert torch.allclose(maps.score, min_max(expected), atol=1e-5)


def test_block_weights_are_shares_and_coarse_blocks_are_enlarged() -> None:
    settings = dataclasses.replace(PLAIN, cross={"fine": 3.0, "coarse": 1.0}, hops=0)
    recording = Recording({"fine": torch.zeros(1, 1, 4, 6), "coarse": torch.full((1, 1, 2, 3), 0.8)})
    maps = self_cross(recording, settings)
    assert maps.grid_hw == (4, 6)
    assert torch.allclose(maps.raw, torch.full((1, 1, 4, 6), 0.2))


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 1.5},
        {"tokens": ("mug",)},
        {"tokens": ()},
        {"samples": 0},
        {"timesteps": ()},
        {"cross": {}},
        {"rule": "otsu"},
        {"refine": "sam"},
        {"template": "a photo"},
        {"working_size": "huge"},
        {"theta": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(UsageError, match=rf"localizer.{name}=.* makes no sense"):
        dataclasses.replace(PLAIN, **change)


def test_presets_are_plain_data_and_an_unknown_one_offers_the_nearest() -> None:
    import json

    for settings in PRESETS.values():
        assert json.loads(json.dumps(settings.as_record()))["timesteps"] == list(settings.timesteps)
    with pytest.raises(UnknownNameError, match="unknown localizer preset 'papr': did you mean 'paper'"):
        preset("papr")
