"""Weights that a concept brings are in force while it is asked for, and gone afterwards."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from prisbench.concepts.weights import adapted, text_key, weights_key
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.prompts import Words, compose
from prisbench.errors import BackboneError
from prisbench.localizer.observe import observe, observe_all
from prisbench.localizer.presets import preset
from prisbench.localizer.settings import Evidence
from prisbench.localizer.texts import Reader
from prisbench.types import Concept, Query

SETTINGS = dataclasses.replace(
    preset("accurate", "embedded"),
    tokens=("subject",),
    timesteps=(150,),
    samples=1,
    cross={"up.1.0": 1.0},
    hops=0,
    refine="none",
    evidence=Evidence(),
    presence=None,
)
KEYS = "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("weights") / "tiny"))


def concept(backbone: Backbone, name: str, tensors: dict[str, np.ndarray], **recipe: object) -> Concept:
    return Concept(f"id-{name}", name, "mug", "dreambooth", backbone.id, tensors, recipe)


def parameters(backbone: Backbone) -> dict[str, torch.Tensor]:
    models = {"unet": backbone.unet, "text_encoder": backbone.text_encoder}
    return {f"{part}.{name}": p for part, model in models.items() for name, p in model.named_parameters()}


def test_weights_are_in_place_inside_and_the_backbones_own_are_back_after_an_exception(backbone: Backbone) -> None:
    name = f"unet.{KEYS}.weight"
    before = {key: p.clone() for key, p in parameters(backbone).items()}
    other = np.full(tuple(before[name].shape), 0.5, np.float32)
    with pytest.raises(KeyError), adapted(backbone, concept(backbone, "a", {name: other})):
        assert (parameters(backbone)[name] == 0.5).all()
        raise KeyError
    assert all(torch.equal(p, before[key]) for key, p in parameters(backbone).items())


def test_an_update_of_low_rank_is_added_at_alpha_over_rank(backbone: Backbone) -> None:
    draw = np.random.default_rng(0)
    own = parameters(backbone)[f"unet.{KEYS}.weight"].clone()
    down = draw.standard_normal((2, own.shape[1])).astype(np.float32)
    up = draw.standard_normal((own.shape[0], 2)).astype(np.float32)
    tensors = {f"unet.{KEYS}.lora_A.weight": down, f"unet.{KEYS}.lora_B.weight": up}
    with adapted(backbone, concept(backbone, "a", tensors, alpha=6)):
        inside = parameters(backbone)[f"unet.{KEYS}.weight"].clone()
    np.testing.assert_allclose(inside - own, 3 * up @ down, rtol=1e-4, atol=1e-5)


def test_weights_that_do_not_fit_are_refused_and_nothing_has_changed(backbone: Backbone) -> None:
    name, before = f"unet.{KEYS}.weight", parameters(backbone)[f"unet.{KEYS}.weight"].clone()
    good = np.zeros(tuple(before.shape), np.float32)
    for tensors, message in (
        ({name: good, "unet.no.such": good}, "changes unet.no.such, which .* does not have"),
        ({name: good[:3]}, r"of shape \(3, 24\) does not fit"),
        ({name: good, f"unet.{KEYS}.lora_A.weight": good}, "the two halves of the update .* do not fit"),
    ):
        with pytest.raises(BackboneError, match=message), adapted(backbone, concept(backbone, "a", tensors)):
            raise AssertionError("the body must not run")
        assert torch.equal(parameters(backbone)[name], before)
    stranger = dataclasses.replace(concept(backbone, "a", {name: good}), backbone="another@0")
    with pytest.raises(BackboneError, match="was learned on another@0, not on"), adapted(backbone, stranger):
        pass


def test_queries_about_one_photo_are_each_answered_with_their_own_weights(backbone: Backbone, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    shape = tuple(parameters(backbone)[f"unet.{KEYS}.weight"].shape)
    words = tuple(parameters(backbone)["text_encoder.final_layer_norm.weight"].shape)
    concepts = {
        "plain": concept(backbone, "plain", {}),
        "keys": concept(backbone, "keys", {f"unet.{KEYS}.weight": draw.standard_normal(shape).astype(np.float32)}),
        "text": concept(
            backbone,
            "text",
            {"text_encoder.final_layer_norm.weight": draw.standard_normal(words).astype(np.float32)},
        ),
    }
    assert [weights_key(each) for each in concepts.values()] == [None, "id-keys", "id-text"]
    assert [text_key(each) for each in concepts.values()] == [None, None, "id-text"]
    photo = draw.integers(0, 256, (56, 72, 3)).astype(np.uint8)
    asked = [Query(str(i), name, "the {subject}") for i, name in enumerate(["keys", "plain", "text", "keys", "plain"])]
    together = observe_all(Reader(backbone, SETTINGS, tmp_path), photo, asked, concepts)
    maps = [seen.recording.cross["up.1.0"] for seen in together]
    for query, seen in zip(asked, maps, strict=True):
        alone = observe(backbone, photo, query, concepts[query.subject_id], SETTINGS)
        assert torch.equal(seen, alone.recording.cross["up.1.0"])
    assert len({seen.numpy().tobytes() for seen in maps}) == 3


def test_a_rare_word_stands_before_the_noun_and_its_positions_are_the_tokens() -> None:
    words = Words("mug", vectors=1, rare="bowl")
    prompt = compose(tiny.tokenizer(), "the {subject}", {"subject": words})
    assert prompt.groups["subject", "token"] == (2, 3) and prompt.groups["subject", "noun"] == (4,)
    assert prompt.learned == ((2, "subject", 0),)
    bare = compose(tiny.tokenizer(), "the {subject}", {"subject": Words("mug", rare="bowl")})
    assert bare.ids == compose(tiny.tokenizer(), "the bowl mug", {}).ids and not bare.learned
