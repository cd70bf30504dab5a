"""Learners on tiny pipelines of the real classes: what moves, that it helps, that an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from prisbench.concepts import class_images, dreambooth, loss
from prisbench.concepts.checkpoints import checkpoint_path
from prisbench.concepts.dreambooth import adapters
from prisbench.concepts.latents import latent_batch, photo_latents
from prisbench.concepts.learners import key, learn
from prisbench.concepts.loop import State, Task, Training, computing, learned_values, steps
from prisbench.concepts.loss import Batch, Objective, captions, chance, denoising_loss, text_condition
from prisbench.concepts.names import placeholders, rare_word, unfamiliar
from prisbench.concepts.recipes import LEARNERS, Loop, Prior, Recipe, as_record, changed, default_recipe
from prisbench.concepts.watch import Watch
from prisbench.concepts.weights import adapted
from prisbench.concepts.wordings import first_vectors, vector_groups, wordings
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import encode_image
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.noise import noise
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import Conditioning, condition, learned_vectors
from prisbench.errors import DataError, UnknownNameError, UsageError, WriteError
from prisbench.localizer.observe import observe
from prisbench.localizer.presets import default_settings
from prisbench.runtime.checkpoints import read_header
from prisbench.runtime.processes import Share
from prisbench.types import Concept, Query, Subject

WITH_WEIGHTS = [learner for learner in LEARNERS if learner != "textual-inversion"]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    folder = tmp_path_factory.mktemp("learners")
    return {kind: load_backbone(tiny.save(folder / kind, kind=kind)) for kind in tiny.KINDS}


def subject(size_hw: tuple[int, int] = (48, 80), photos: int = 2, **more: Any) -> Subject:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for _ in range(photos)]
    return Subject("s", "mug", tuple(images), **more)


def short(learner: str, **more: Any) -> Recipe:
    """A few steps on small pictures, with two class images where the learner takes any; texts are read as they are."""
    numbers = {"steps": 6, "batch": 1, "warmup": 1, "working_size": 64}
    prior = {} if learner == "textual-inversion" else {"prior": Prior(images=2, steps=2)}
    frozen = {"text_encoder": False} if learner.startswith("dreambooth") else {}
    return changed(default_recipe("embedded", learner), **numbers | prior | frozen | more)


def weights(backbone: Backbone) -> dict[str, torch.Tensor]:
    models = {"text_encoder": backbone.text_encoder, "text_encoder_2": backbone.text_encoder_2, "unet": backbone.unet}
    there = {name: model for name, model in models.items() if model is not None}
    return {f"{name}.{key}": value for name, model in there.items() for key, value in model.state_dict().items()}


def heard(backbone: Backbone, concept: Concept) -> Conditioning:
    vectors = learned_vectors(backbone, concept.tensors, concept.id)
    words = Words("mug", len(vectors["vectors"]), str(concept.recipe.get("rare", "")))
    prompt = compose(backbone.tokenizer, "a photo of a {subject}", {"subject": words})
    return condition(backbone, [prompt], {"subject": vectors}, encode_image(backbone, subject().photos[0], 64).geometry)


@torch.no_grad()
def held_out_loss(backbone: Backbone, concept: Concept) -> float:
    """On noise that learning never saw."""
    latents = encode_image(backbone, subject().photos[0], 64).latents.expand(8, -1, -1, -1)
    eps = torch.stack([noise("held out", i, tuple(latents.shape[1:])) for i in range(8)])
    with adapted(backbone, concept):
        text = heard(backbone, concept).rows([0] * 8)
        t = torch.arange(8) * 60 + 450
        return denoising_loss(backbone, Batch(latents, torch.ones(8, *latents.shape[2:]), eps, t), text).item()


# --- the gradients ----------------------------------------------------------------------------------------------------

HALVED = [("embedded", learner) for learner in LEARNERS] + [("sdxl", "textual-inversion"), ("sd2", "dreambooth")]


@pytest.mark.parametrize(("kind", "learner"), HALVED)
def test_two_halves_of_a_batch_teach_what_all_of_it_does(
    kind: str, learner: str, backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones[kind]
    text = {"text_encoder": True} if learner == "dreambooth" else {}
    recipe = short(learner, batch=3, steps=1, average_last=0.0, bfloat16=False, **text)
    moved: dict[str, list[torch.Tensor]] = {}
    step = torch.optim.AdamW.step

    def noted(optimizer: torch.optim.AdamW) -> None:
        moved["last"] = [p.grad.clone() for group in optimizer.param_groups for p in group["params"]]
        step(optimizer)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    halves = learn(backbone, subject(), learner, recipe)
    of_halves = moved["last"]
    monkeypatch.setattr(loss, "_at_once", lambda device, loop: loop.batch)
    whole = learn(backbone, subject(), learner, recipe)
    assert len(of_halves) == len(moved["last"])
    scale = max(float(gradient.abs().max()) for gradient in moved["last"])
    for found, expected in zip(of_halves, moved["last"], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * scale)
    assert scale > 0 and np.allclose(halves.tensors["losses"], whole.tensors["losses"], rtol=1e-5)


def test_learning_twice_on_several_cores_gives_the_same_bits() -> None:
    backbone, before = load_backbone(None), torch.get_num_threads()
    recipe = changed(default_recipe("embedded", "textual-inversion"), steps=2, bfloat16=False)
    torch.set_num_threads(2)
    try:
        concepts = [learn(backbone, subject((112, 144)), "textual-inversion", recipe) for _ in range(4)]
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(concepts[0].tensors["vectors"], other.tensors["vectors"]) for other in concepts[1:])


# --- what moves -------------------------------------------------------------------------------------------------------

CASES = [("embedded", learner) for learner in LEARNERS]
CASES += [("sdxl", "textual-inversion"), ("sdxl", "dreambooth-lora"), ("sdxl", "custom-diffusion")]
CASES += [("sd2", "textual-inversion"), ("sd2", "dreambooth"), ("sd1", "custom-diffusion")]


@pytest.mark.parametrize(("kind", "learner"), CASES)
def test_what_should_move_moves_and_nothing_else(kind: str, learner: str, backbones: dict[str, Backbone]) -> None:
    backbone, recipe = backbones[kind], short(learner, steps=2, learning_rate=0.01)
    before = {name: value.clone() for name, value in weights(backbone).items()}
    chance, attributes = torch.get_rng_state(), set(vars(backbone.unet))
    modules = {name: type(module) for name, module in backbone.unet.named_modules()}
    concept = learn(backbone, subject(), learner, recipe)

    after = weights(backbone)
    assert before.keys() == after.keys() and all(torch.equal(before[name], value) for name, value in after.items())
    assert not any(parameter.requires_grad for parameter in backbone.unet.parameters())
    assert modules == {name: type(module) for name, module in backbone.unet.named_modules()}
    assert attributes == set(vars(backbone.unet))
    assert torch.equal(torch.get_rng_state(), chance), "only the key's own chance is used"

    vectors = {"vectors", "vectors_2"} if kind == "sdxl" else {"vectors"}
    keys = {f"{name}" for name in before if name.startswith("unet.")}
    attention = {
        name for name in keys if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))
    }
    halves = {name.removesuffix("weight") + f"lora_{half}.weight" for name in attention for half in "AB"}
    expected = {
        "textual-inversion": vectors,
        "dreambooth": keys,
        "dreambooth-lora": halves,
        "custom-diffusion": vectors | {n for n in keys if n.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))},
    }[learner]
    assert set(concept.tensors) == expected | {"losses"} and concept.tensors["losses"].shape == (2,)
    for name in expected & before.keys():
        assert not np.array_equal(concept.tensors[name], before[name].numpy()), name
    for name in (name for name in expected if name.endswith("lora_B.weight")):
        assert concept.tensors[name].any(), name
    nothing = dataclasses.replace(concept, tensors={}, recipe={})
    with torch.no_grad():
        latents = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))
        said = []
        for each in (concept, nothing):
            with adapted(backbone, each):
                text = heard(backbone, each)
                said.append(
                    backbone.unet(latents, 500, encoder_hidden_states=text.states, added_cond_kwargs=text.added).sample
                )
    assert (said[0] - said[1]).abs().max() > 1e-5


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learners_concept_changes_the_map(learner: str, backbones: dict[str, Backbone]) -> None:
    backbone = backbones["embedded"]
    concept = learn(backbone, subject(), learner, short(learner, steps=2, learning_rate=0.05, warmup=0))
    settings = dataclasses.replace(default_settings(backbone, "fast"), caption=None)
    photo, query = subject(photos=3).photos[2], Query("q", "s", "the {subject}")
    mine, nouns = (
        observe(backbone, photo, query, each, settings).recording.cross
        for each in (concept, Concept("n", "s", "mug", "noun-only"))
    )
    name = next(iter(mine))
    assert (mine[name] - nouns[name]).abs().max() > 1e-6


@pytest.mark.parametrize("kind", ["embedded", "sdxl"])
def test_the_text_encoders_learn_too_where_the_recipe_says_so(kind: str, backbones: dict[str, Backbone]) -> None:
    backbone = backbones[kind]
    for learner in ("dreambooth", "dreambooth-lora"):
        recipe = short(learner, steps=2, text_encoder=True, prior=Prior())
        before = {name: value.clone() for name, value in weights(backbone).items()}
        concept = learn(backbone, subject(), learner, recipe)
        parts = {name.split(".")[0] for name in concept.tensors}
        assert parts == {"unet", "text_encoder", "losses"} | ({"text_encoder_2"} if kind == "sdxl" else set())
        assert all(torch.equal(before[name], value) for name, value in weights(backbone).items())
        with adapted(backbone, concept):
            changed_text = heard(backbone, concept).states
        assert not torch.allclose(changed_text, heard(backbone, concept).states, atol=1e-6)


# --- that it helps, and says the same as others -----------------------------------------------------------------------


@pytest.mark.parametrize("learner", WITH_WEIGHTS)
def test_learning_lowers_the_loss_on_noise_it_never_saw(learner: str, backbones: dict[str, Backbone]) -> None:
    backbone, rates = backbones["embedded"], {"dreambooth": 2e-3, "dreambooth-lora": 0.05, "custom-diffusion": 0.05}
    recipe = short(learner, steps=12, batch=4, learning_rate=rates[learner], bfloat16=False, prior=Prior())
    concept, start = (learn(backbone, subject(photos=1), learner, changed(recipe, steps=steps)) for steps in (12, 0))
    assert held_out_loss(backbone, concept) < held_out_loss(backbone, start) - 1e-4


def test_an_update_of_low_rank_says_what_it_said_while_it_was_learned(backbones: dict[str, Backbone]) -> None:
    backbone, learner = backbones["embedded"], "dreambooth-lora"
    recipe = short(learner, steps=2, learning_rate=0.05, rank=3, alpha=6.0, targets=("to_k", "conv1"), prior=Prior())
    concept = learn(backbone, subject(), learner, recipe)
    assert {array.shape[0] for name, array in concept.tensors.items() if name.endswith("lora_A.weight")} == {3}
    latents, draw = torch.randn(1, 4, 12, 16), torch.Generator()
    with torch.no_grad():
        text = heard(backbone, concept).states
        with adapted(backbone, concept):
            merged = backbone.unet(latents, 500, encoder_hidden_states=text).sample
        with adapters(backbone.unet, ("to_k", "conv1"), 3, 6.0, draw) as beside:
            first = backbone.unet(latents, 500, encoder_hidden_states=text).sample
            for name, parameter in beside.items():
                parameter.data = torch.from_numpy(concept.tensors[f"unet.{name}"])
            together = backbone.unet(latents, 500, encoder_hidden_states=text).sample
        plain = backbone.unet(latents, 500, encoder_hidden_states=text).sample
    assert torch.equal(first, plain), "it begins as the model was"
    assert torch.allclose(merged, together, atol=1e-5) and not torch.allclose(merged, plain, atol=1e-4)


@pytest.mark.parametrize("kind", ["embedded", "sd2"])
def test_class_images_are_drawn_as_diffusers_draws_them(kind: str, backbones: dict[str, Backbone]) -> None:
    backbone, signal = backbones[kind], backbones[kind].alphas_cumprod
    scheduler = DDIMScheduler(
        trained_betas=(1 - signal / torch.cat([torch.ones(1), signal[:-1]])).tolist(),
        prediction_type=backbone.prediction_type,
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.set_timesteps(5)
    text, geometry = torch.randn(2, 40, 24), encode_image(backbone, subject().photos[0], 64).geometry
    empty = condition(backbone, [compose(backbone.tokenizer, "", {})], None, geometry)
    eps = torch.randn(2, 4, 8, 16)
    latents = eps
    with torch.no_grad():
        for t in scheduler.timesteps:
            with_, without = (
                backbone.unet(latents, t, encoder_hidden_states=states).sample
                for states in (text, empty.states.expand(2, -1, -1))
            )
            latents = scheduler.step(without + 3.0 * (with_ - without), t, latents).prev_sample
    ours = class_images.sample(backbone, Conditioning(text, None), empty, eps, 5, 3.0)
    assert torch.allclose(ours, latents, atol=1e-3, rtol=1e-3)


def test_class_images_are_made_once_for_all_subjects_of_a_noun(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone, lines = backbones["embedded"], []
    recipe = short("custom-diffusion", steps=1, prior=Prior(images=5, steps=2))
    for size in ((48, 80), (80, 48)):
        learn(backbone, subject(size), "custom-diffusion", recipe, 0, Watch(say=lines.append, encodings=tmp_path))
    making = [line for line in lines if line.startswith("making 5 pictures of 'mug', 2 steps each")]
    assert len(making) == 1
    loop = recipe.loop
    for images in (0, 5):
        objectives = class_images.prior_objectives(
            backbone, "mug", Prior(images, steps=2), loop, Watch(encodings=tmp_path)
        )
        assert [len(each.batches[0].latents) for each in objectives] == [5] * bool(images)


def test_the_prior_takes_part_in_what_is_learned(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["embedded"]
    with_, without = (
        learn(backbone, subject(), "custom-diffusion", short("custom-diffusion", steps=2, prior=Prior(n, steps=2)))
        for n in (2, 0)
    )
    assert not np.array_equal(with_.tensors["vectors"], without.tensors["vectors"]) or with_.id != without.id
    assert with_.tensors["losses"][0] > without.tensors["losses"][0] > 0


# --- the loss's options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embedded", "sd2"])
def test_min_snr_bounds_the_weight_of_the_loss_of_clean_latents(kind: str, backbones: dict[str, Backbone]) -> None:
    backbone = backbones[kind]
    latents, eps, everywhere = torch.randn(1, 4, 8, 16), torch.randn(1, 4, 8, 16), torch.ones(1, 8, 16)
    text = Conditioning(torch.randn(1, 40, 24), None)
    for timestep in (20, 900):
        t, signal = torch.tensor([timestep]), backbone.alphas_cumprod[timestep]
        with torch.no_grad():
            plain = denoising_loss(backbone, Batch(latents, everywhere, eps, t), text)
            bounded = denoising_loss(backbone, Batch(latents, everywhere, eps, t), text, min_snr=5.0)
        snr = signal / (1 - signal)
        of_clean = plain / (snr if kind == "embedded" else snr + 1)
        assert torch.isclose(bounded, of_clean * min(float(snr), 5.0))
    assert float(backbone.alphas_cumprod[20]) > 5 / 6, "the first of the two is bounded"


def test_a_mask_says_where_the_loss_counts(backbones: dict[str, Backbone]) -> None:
    backbone, lines = backbones["embedded"], []
    mask = np.zeros((64, 112), bool)
    mask[:32, 100:] = True
    thing = subject((64, 112), 2, masks=(mask, None))
    loop = Loop(working_size=80, masked=True, outside=0.25, flip=True)
    (batch,) = photo_latents(backbone, thing, loop, Watch(say=lines.append))
    assert lines == ["the loss of 1 of 2 photos weighs 0.25 outside of their masks"]
    h, w = (math.ceil(n / 4) for n in batch.geometry.resized_hw)
    assert batch.geometry.resized_hw == (60, 106) and batch.latents.shape[-2:] == (16, 28)
    first, mirrored, second, _ = batch.weights
    assert not first[h:].any() and not first[:, w:].any(), "nothing counts in the padding"
    assert float(first[0, w - 2]) == 1 and float(first[0, 0]) == 0.25 and float(first[h - 1, w - 2]) == 0.25
    assert float(mirrored[0, 1]) == 1 and float(mirrored[0, w - 3]) == 0.25
    assert bool((second[:h, :w] == 1).all())

    recipe = short("textual-inversion", steps=2, masked=True)
    masked = learn(backbone, thing, "textual-inversion", recipe)
    other = dataclasses.replace(thing, masks=(~mask, None))
    assert masked.id != key(backbone, other, "textual-inversion", recipe)
    assert not np.array_equal(
        masked.tensors["vectors"], learn(backbone, other, "textual-inversion", recipe).tensors["vectors"]
    )
    plain = short("textual-inversion", steps=2)
    assert learn(backbone, thing, "textual-inversion", plain).id == masked.id, "masks count where there are some"
    assert masked.recipe["masked"] is True
    words = changed(recipe, photo_vectors=2)
    assert key(backbone, thing, "textual-inversion", words) == masked.id, "masks do what words of photos would"
    without_words = as_record(changed(recipe, photo_vectors=0), 0)
    assert not any(name.startswith("photo_") for name in without_words), "concepts from before keep their keys"
    assert as_record(words, 0)["photo_vectors"] == 2
    without = dataclasses.replace(thing, masks=())
    assert key(backbone, without, "textual-inversion", plain) == key(
        backbone, without, "textual-inversion", changed(plain, masked=False)
    )
    for masks, message in (((), "no photo of 's' has a mask"), ((~mask & mask, None), "a mask of 's' is empty")):
        with pytest.raises(DataError, match=f"learner.masked: {message}"):
            learn(backbone, dataclasses.replace(thing, masks=masks), "textual-inversion", recipe)


def test_the_batches_of_a_step_add_up_and_recomputing_changes_nothing(backbones: dict[str, Backbone]) -> None:
    backbone, recipe = backbones["embedded"], short("dreambooth", steps=2, bfloat16=False, accumulate=2, rare="z")
    thing, task = subject(), Task("key", "versionless", 1, "a test")
    kept, computed_twice = (
        dreambooth.teach(backbone, thing, changed(recipe, checkpointing=wanted), task, Watch())
        for wanted in (False, True)
    )
    for name, tensor in kept.items():
        assert np.allclose(tensor, computed_twice[name], atol=1e-6), name
    assert not backbone.unet.is_gradient_checkpointing
    alone = [chance("k", 0, part).initial_seed() for part in (0, 1)]
    assert len(set(alone)) == 2 and chance("k", 1).initial_seed() not in alone


def test_the_loop_is_a_generator_whose_caller_stops_when_it_likes(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["embedded"]
    recipe = short("textual-inversion", steps=5, bfloat16=False, photo_vectors=0)
    whole = learn(backbone, subject(), "textual-inversion", recipe)
    prompts = captions(backbone, recipe.loop.templates, Words("mug", recipe.vectors))
    vectors = first_vectors(backbone, "mug", recipe.vectors, recipe.spread, whole.id)
    objective = Objective(
        photo_latents(backbone, subject(), recipe.loop, Watch()),
        len(prompts),
        text_condition(backbone, prompts, {"subject": vectors}),
    )
    groups = vector_groups(backbone, vectors, recipe.loop.learning_rate)
    training, state = Training(backbone, Task(whole.id, "", 1, "a test"), [objective], groups, recipe.loop), State()
    seen = []
    with computing(training) as together:
        for loss_of_step in steps(training, state, Share(), together):
            seen.append(loss_of_step)
            if state.step == 3:
                break
        assert state.step == 3 and np.array_equal(np.float32(seen), whole.tensors["losses"][:3])
        seen += steps(training, state, Share(), together)
    assert np.array_equal(np.float32(seen), whole.tensors["losses"]) and seen == state.losses
    assert np.array_equal(learned_values(training, state)["vectors"], whole.tensors["vectors"])


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["embedded", "sdxl"])
@pytest.mark.parametrize("learner", ["textual-inversion", "custom-diffusion"])
def test_what_a_photo_has_for_itself_goes_into_words_that_nobody_keeps(
    learner: str, kind: str, backbones: dict[str, Backbone]
) -> None:
    backbone, thing = backbones[kind], subject(photos=3)
    recipe = short(learner, photo_vectors=2, photo_rate=0.3)
    with_words = learn(backbone, thing, learner, recipe)
    without = learn(backbone, thing, learner, changed(recipe, photo_vectors=0))
    assert with_words.tensors.keys() == without.tensors.keys() and with_words.id != without.id
    assert not np.array_equal(with_words.tensors["vectors"], without.tensors["vectors"])
    assert_same(with_words, learn(backbone, thing, learner, recipe))


def test_each_photo_is_read_with_its_own_words(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["embedded"]
    draw = np.random.default_rng(1)
    sizes = [(48, 80), (80, 48), (48, 80), (80, 48)]
    thing = Subject("s", "mug", tuple(draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes))
    recipe = short("textual-inversion", batch=16, photo_vectors=1)
    photos = photo_latents(backbone, thing, recipe.loop, Watch())
    said = wordings(backbone, thing, recipe, photos, "key")  # type: ignore[arg-type]
    objective = said.objective
    assert [batch.photos for batch in photos] == [(0, 2), (1, 3)] and objective.texts == len(recipe.loop.templates)
    names = [name for group in said.groups for name in group.parameters]
    assert names == ["vectors", *(f"of photo {n}: vectors" for n in range(4))]
    for step in range(8):
        batch, which, geometry = loss._drawn(objective, recipe.loop, chance("k", step))
        at = [int((latents == all_.latents).flatten(1).all(1).nonzero()[0]) for latents, all_ in seen(batch, photos)]
        owner = [all_.photos[place] for place, (_, all_) in zip(at, seen(batch, photos), strict=True)]
        assert [int(n) // objective.texts for n in which] == owner
        assert len(objective.condition(which, geometry).states) == 16
    first, other = (objective.condition(torch.tensor([n * objective.texts]), photos[0].geometry) for n in (0, 2))
    assert not torch.equal(first.states, other.states), "the same template with another photo's words"
    for group in said.groups[1:]:
        assert not any(tensor.grad is not None for tensor in group.parameters.values())
    first.states.sum().backward()
    moved = [
        name for group in said.groups for name, p in group.parameters.items() if p.grad is not None and p.grad.any()
    ]
    assert moved == ["vectors", "of photo 0: vectors"]


def seen(batch: Batch, photos: Any) -> list[tuple[torch.Tensor, Any]]:
    """Each row of a batch, and the latents of its shape."""
    (all_,) = [each for each in photos if each.latents.shape[1:] == batch.latents.shape[1:]]
    return [(row, all_) for row in batch.latents]


class Stop(Exception):
    pass


def stopping(at: int) -> Any:
    def progress(step: int, steps: int, loss: float) -> None:
        if step == at:
            raise Stop

    return progress


def assert_same(one: Concept, other: Concept) -> None:
    assert one.id == other.id and one.tensors.keys() == other.tensors.keys()
    assert all(np.array_equal(other.tensors[name], tensor) for name, tensor in one.tensors.items())


@pytest.mark.parametrize("learner", LEARNERS)
def test_what_was_interrupted_goes_on_as_if_it_had_not_been(
    learner: str, backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    words = {"photo_vectors": 2} if learner == "textual-inversion" else {}
    backbone, recipe, lines = backbones["embedded"], short(learner, average_last=0.5, **words), []
    whole = learn(backbone, subject(), learner, recipe)
    for at in (2, 5):
        with pytest.raises(Stop):
            learn(backbone, subject(), learner, recipe, 0, Watch(stopping(at), store=tmp_path, checkpoint_seconds=0.0))
        assert checkpoint_path(tmp_path, whole.id).is_file()
    resumed = learn(backbone, subject(), learner, recipe, 0, Watch(say=lines.append, store=tmp_path))
    assert any("going on from step 4" in line for line in lines), "the fifth step was not on disk when it stopped"
    assert_same(whole, resumed)
    assert [path.name for path in tmp_path.iterdir()] == [whole.id], "the checkpoint is gone, the concept is there"
    lines.clear()
    assert_same(whole, learn(backbone, subject(), learner, recipe, 0, Watch(say=lines.append, store=tmp_path)))
    assert lines == [], "learned before, nothing is done"
    assert learn(backbone, subject(), learner, recipe, seed=1).id != whole.id


KILLED = """
import sys
from pathlib import Path
import test_learners as t
from prisbench.concepts.learners import learn
from prisbench.concepts.watch import Watch
from prisbench.diffusion.loading import load_backbone

def step(n, steps, loss):
    print(n, flush=True)

watch = Watch(step, store=Path(sys.argv[2]), checkpoint_seconds=0.0)
learn(load_backbone(sys.argv[1]), t.subject(), "dreambooth-lora", t.short("dreambooth-lora", steps=500), 0, watch)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    folder, store, learner = tiny.save(tmp_path / "tiny"), tmp_path / "store", "dreambooth-lora"
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    threads = str(torch.get_num_threads())
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(store)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads},
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 7:
            break
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    backbone = load_backbone(folder)
    recipe = short(learner, steps=500)
    header = read_header(checkpoint_path(store, key(backbone, subject(), learner, recipe)))
    assert header is not None and int(header["step"]) >= 6, "of the step before at least"
    until = int(header["step"]) + 6
    losses: dict[str, list[float]] = {"whole": [], "resumed": []}
    for name, kept in (("whole", None), ("resumed", store)):

        def note(step: int, steps: int, loss: float, name: str = name) -> None:
            losses[name].append(loss)
            stopping(until)(step, steps, loss)

        with pytest.raises(Stop):
            learn(backbone, subject(), learner, recipe, 0, Watch(note, store=kept))
    assert len(losses["resumed"]) == 6 and losses["whole"][-6:] == losses["resumed"]


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """As on a full disk, a file cannot grow over 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_leaves_the_earlier_checkpoint(
    backbones: dict[str, Backbone], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    backbone, recipe = backbones["embedded"], short("dreambooth-lora", prior=Prior())
    where = Watch(stopping(3), store=tmp_path, checkpoint_seconds=0.0)
    with pytest.raises(Stop):
        learn(backbone, subject(), "dreambooth-lora", recipe, 0, where)
    (path,) = tmp_path.glob(".partial-*/*")
    before = path.read_bytes()
    assert len(before) > 10_000
    request.getfixturevalue("small_files_only")
    with pytest.raises(WriteError, match=r"cannot write .*checkpoint\.safetensors: the disk is full; free some space"):
        learn(backbone, subject(), "dreambooth-lora", recipe, 0, dataclasses.replace(where, progress=None))
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_checkpoint_of_something_else_is_left_alone_and_said(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone, learner = backbones["embedded"], "textual-inversion"
    older, recipe = (short(learner, version=version, steps=4) for version in (1, 2))
    for each in (older, recipe):
        with pytest.raises(Stop):
            learn(backbone, subject(), learner, each, 0, Watch(stopping(3), store=tmp_path, checkpoint_seconds=0.0))
    theirs, ours = (checkpoint_path(tmp_path, key(backbone, subject(), learner, each)) for each in (older, recipe))
    whole = learn(backbone, subject(), learner, recipe)

    def again() -> list[str]:
        lines: list[str] = []
        assert_same(whole, learn(backbone, subject(), learner, recipe, 0, Watch(say=lines.append, store=tmp_path)))
        (tmp_path / whole.id / "concept.json").unlink()
        (tmp_path / whole.id / "concept.safetensors").unlink()
        (tmp_path / whole.id).rmdir()
        return lines

    lines = again()
    assert "is a checkpoint of textual-inversion of 's' by recipe version 1, this is version 2" in lines[0]
    assert theirs.is_file() and "going on from step 2" in lines[1]
    for content, message in (
        (theirs.read_bytes()[:100], "is no checkpoint that can be read"),
        (theirs.read_bytes(), "is of another version of prisbench"),
    ):
        ours.parent.mkdir()
        ours.write_bytes(content)
        lines = again()
        assert any(message in line and line.endswith("learning starts again") for line in lines), lines
    ours.parent.mkdir()
    header = {"format": "1", "key": whole.id, "step": "2"}
    save_file({"value.vectors": torch.zeros(9, 9), "losses": torch.zeros(2)}, ours, header)
    assert any("holds something else" in line for line in again())
    assert load_file(theirs), "never touched"


PROCESS = """
import sys
import numpy as np
import test_learners as t
from prisbench.concepts.learners import learn
from prisbench.diffusion.loading import load_backbone

recipe = t.short("textual-inversion", steps=3, accumulate=2, bfloat16=False)
concept = learn(load_backbone(sys.argv[1]), t.subject(), "textual-inversion", recipe)
np.savez(sys.argv[2], **concept.tensors)
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "tiny")
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "PYTHONPATH": path, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(folder), str(tmp_path / f"{rank}.npz")],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
        )
        for rank in (0, 1)
    ]
    try:
        assert [process.wait(600) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    recipe = short("textual-inversion", steps=3, accumulate=2, bfloat16=False)
    alone = learn(load_backbone(folder), subject(), "textual-inversion", recipe)
    for rank in (0, 1):
        with np.load(tmp_path / f"{rank}.npz") as theirs:
            for name, tensor in alone.tensors.items():
                assert np.allclose(theirs[name], tensor, atol=1e-5), name


# --- words, numbers, bad input ----------------------------------------------------------------------------------------


def test_the_rare_word_is_a_token_nobody_uses() -> None:
    words = tiny.tokenizer()
    assert rare_word(words) == "z" and rare_word(words, ["a z mug", "the {subject} y"]) == "x"
    assert len(words("z", add_special_tokens=False).input_ids) == 1

    class Large:
        """A vocabulary with as many tokens as CLIP's."""

        vocabulary = {f"{i}": i for i in range(20_000)} | {"sks</w>": 20_000, "mug</w>": 20_001, "ab</w>": 20_002}

        def __len__(self) -> int:
            return len(self.vocabulary)

        def get_vocab(self) -> dict[str, int]:
            return self.vocabulary

        def __call__(self, word: str, add_special_tokens: bool) -> Any:
            return type("Read", (), {"input_ids": [self.vocabulary[f"{word}</w>"]]})

    assert rare_word(Large()) == "mug" and rare_word(Large(), ["a mug"]) == "sks"


def test_a_concepts_recipe_names_the_rare_word(backbones: dict[str, Backbone]) -> None:
    backbone, recipe = backbones["embedded"], short("dreambooth-lora", steps=0, prior=Prior())
    concept = learn(backbone, subject(), "dreambooth-lora", recipe)
    assert concept.recipe["rare"] == "z" and concept.recipe["alpha"] == 8.0
    assert concept.id == key(backbone, subject(), "dreambooth-lora", changed(recipe, rare="z"))
    assert concept.id != key(backbone, subject(), "dreambooth-lora", changed(recipe, rare="q"))
    for word, message in (("mug", "is the noun"), ("my own", "is no single word"), (" ", "is no single word")):
        with pytest.raises(UsageError, match=f"learner.rare='{word}' {message}"):
            learn(backbone, subject(), "dreambooth-lora", changed(recipe, rare=word))


def test_a_noun_that_is_spelled_out_is_said_with_the_nearest_word(backbones: dict[str, Backbone]) -> None:
    words, lines = tiny.tokenizer(), []
    assert unfamiliar(words, "mug") is None and unfamiliar(words, "the mug") is None
    message = "the noun 'bowls' is no word for this tokenizer (bow l s), the model may not know it; "
    message += "the nearest word it knows is 'bowl'"
    assert unfamiliar(words, "bowls") == message
    assert unfamiliar(words, "qqq") == "the noun 'qqq' is no word for this tokenizer (q q q), the model may not know it"
    thing = dataclasses.replace(subject(), noun="bowls")
    recipe = short("textual-inversion", steps=0)
    learn(backbones["embedded"], thing, "textual-inversion", recipe, 0, Watch(say=lines.append))
    assert lines[0] == message


def test_placeholders_are_tokens_of_their_own() -> None:
    words = tiny.tokenizer()
    assert placeholders(words, "<mine>", 3) == ["<mine>", "<mine>_1", "<mine>_2"]
    words.add_tokens(["<cat>_1"])
    for name, message in (
        ("mug", "the tokenizer has a token 'mug' already; choose another name"),
        ("<cat>", "the tokenizer has a token '<cat>_1' already"),
        ("<c", "the token '<c' is the beginning of '<cat>_1'"),
        ("<cat>_12", "the token '<cat>_1' is the beginning of '<cat>_12'"),
        ("my mug", "a token's name must be one word"),
        ("", "a token's name must be one word"),
    ):
        with pytest.raises(UsageError, match=message):
            placeholders(words, name, 2)


def test_photos_nothing_can_be_learned_from_are_one_line(backbones: dict[str, Backbone]) -> None:
    backbone, learner, lines = backbones["embedded"], "textual-inversion", []
    recipe = short(learner, steps=0)
    with pytest.raises(DataError, match="subject 's' has no photos to learn from"):
        learn(backbone, subject(photos=0), learner, recipe)
    small = dataclasses.replace(subject(), photos=(subject().photos[0], np.zeros((20, 41, 3), np.uint8)))
    with pytest.raises(DataError, match=r"photo 2 of 's' is 41 x 20 pixels, too small to learn from; .* at least 32"):
        learn(backbone, small, learner, recipe)
    for photos, message in (
        (subject(photos=1).photos * 4, "all 4 photos of 's' are the same picture: this learns no more than from one"),
        (subject().photos * 2, "2 photos of 's' are copies of others; they count twice"),
    ):
        lines.clear()
        learn(backbone, dataclasses.replace(subject(), photos=photos), learner, recipe, 0, Watch(say=lines.append))
        assert message in lines
    with pytest.raises(UsageError, match=r"learner\.targets: there is no linear layer 'to_x'; attention has to_q"):
        learn(backbone, subject(), "dreambooth-lora", short("dreambooth-lora", targets=("to_q", "to_x")))
    assert all("lora" not in name for name in weights(backbone))


def test_every_family_has_a_recipe_of_every_learner_and_its_numbers_are_checked() -> None:
    for family in ("embedded", "sd", "sdxl", "other"):
        for learner in LEARNERS:
            recipe = default_recipe(family, learner)
            record = as_record(recipe, 3)
            assert record["seed"] == 3 and record["version"] >= 1 and record["steps"] > 0
    with pytest.raises(UnknownNameError, match="unknown learner 'dreamboot': did you mean 'dreambooth'"):
        default_recipe("sd", "dreamboot")
    for learner, wrong, message in (
        ("dreambooth-lora", {"rank": 0}, "learner.rank=0 makes no sense"),
        ("custom-diffusion", {"vector_rate": 0.0}, "learner.vector_rate=0.0 makes no sense"),
        ("textual-inversion", {"accumulate": 0}, "learner.accumulate=0 makes no sense"),
        ("textual-inversion", {"templates": ("a mug",)}, r"learner.templates=\('a mug',\) makes no sense"),
    ):
        with pytest.raises(UsageError, match=message):
            changed(default_recipe("sd", learner), **wrong)
    with pytest.raises(UsageError, match=r"learner.prior.images=-1 makes no sense"):
        Prior(images=-1)


def test_what_it_costs_is_said_before_and_measured_after_the_first_steps(backbones: dict[str, Backbone]) -> None:
    lines: list[str] = []
    recipe = short("textual-inversion", steps=4)
    learn(backbones["embedded"], subject(), "textual-inversion", recipe, 0, Watch(say=lines.append))
    assert (
        lines[0].startswith("textual-inversion of 's' on embedded@") and "4 steps of 1 pictures; 72 numbers" in lines[0]
    )
    assert " s a step, " in lines[1] and " min to go; " in lines[1] and lines[1].endswith("GB of memory at most so far")


def test_pictures_that_are_latents_already_count_where_they_show_anything(backbones: dict[str, Backbone]) -> None:
    geometry = encode_image(backbones["embedded"], subject((60, 41)).photos[0], 64).geometry
    h, w = geometry.padded_hw[0] // 4, geometry.padded_hw[1] // 4
    batch = latent_batch(geometry, torch.zeros(3, 4, h, w))
    assert batch.weights.shape == (3, h, w) and 0 < float(batch.weights.mean()) < 1


def test_a_batch_in_bfloat16_is_computed_in_one_piece() -> None:
    for half, rows in ((False, 3), (True, 5)):
        loop = dataclasses.replace(default_recipe("embedded", "textual-inversion").loop, batch=5, bfloat16=half)
        assert loss._at_once(torch.device("cpu"), loop) == rows
        assert loss._at_once(torch.device("meta"), loop) == 5
