"""Concepts: what is kept of them on disk, and what learning one moves."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from prisbench.concepts import loop
from prisbench.concepts.controls import another_subject, noun_only, untrained_token
from prisbench.concepts.learners import key, learn
from prisbench.concepts.loss import Batch, denoising_loss
from prisbench.concepts.recipes import TextualInversion, as_record, changed
from prisbench.concepts.store import (
    check_backbone,
    concept_key,
    default_store,
    find_concept,
    read_concept,
    write_concept,
)
from prisbench.concepts.watch import Watch
from prisbench.deaf import other_subject
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import encode_image
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.noise import noise
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import Conditioning, encode_text
from prisbench.errors import BackboneError, DataError, UsageError, WriteError
from prisbench.speed.rounding import frozen_in_bfloat16, rounded, whole
from prisbench.types import Concept, Subject

TI = "textual-inversion"
SHORT = changed(TextualInversion(), steps=6, batch=2, warmup=0)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("concepts") / "tiny"))


def subject(*sizes_hw: tuple[int, int], noun: str = "mug", seed: int = 0) -> Subject:
    draw = np.random.default_rng(seed)
    photos = tuple(draw.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in sizes_hw or ((112, 144), (144, 112)))
    return Subject("s", noun, photos)


def concept() -> Concept:
    tensors = {"vectors": np.arange(6, dtype=np.float32).reshape(2, 3)}
    return Concept("abc", "s", "mug", "textual-inversion", "tiny@1", tensors, {"seed": 0, "templates": ["a {subject}"]})


# --- on disk --------------------------------------------------------------------------------------------------------


def test_a_concept_comes_back_as_it_was(tmp_path: Path) -> None:
    written = concept()
    assert find_concept(tmp_path, "abc") is None
    assert write_concept(written, tmp_path / "abc") == tmp_path / "abc"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["abc", "concept.json", "concept.safetensors"]
    read = find_concept(tmp_path, "abc")
    assert read is not None
    assert {**vars(read), "tensors": None} == {**vars(written), "tensors": None}
    assert np.array_equal(read.tensors["vectors"], written.tensors["vectors"])


def test_the_same_concept_is_the_same_bytes_and_replaces_an_older_one(tmp_path: Path) -> None:
    older = dataclasses.replace(concept(), tensors={"vectors": np.zeros((1, 3), np.float32)})
    write_concept(older, tmp_path / "one")
    for name in ("one", "two"):
        write_concept(concept(), tmp_path / name)
    for file in ("concept.json", "concept.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_control_without_tensors_is_kept_too(tmp_path: Path) -> None:
    control = noun_only(subject())
    write_concept(control, tmp_path / "n")
    assert read_concept(tmp_path / "n").tensors == {} and read_concept(tmp_path / "n").backbone is None


def test_a_folder_of_something_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(WriteError, match="holds something else"):
        write_concept(concept(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_damage_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"concept\.json does not exist"):
        read_concept(tmp_path / "none")
    for name in ("a", "b"):
        write_concept(concept(), tmp_path / name)
    write_concept(dataclasses.replace(concept(), tensors={"vectors": np.ones((1, 3), np.float32)}), tmp_path / "c")
    shutil.copy(tmp_path / "c" / "concept.safetensors", tmp_path / "a")
    with pytest.raises(DataError, match=r"concept\.safetensors is not the file concept\.json speaks of"):
        find_concept(tmp_path, "a")
    (tmp_path / "b" / "concept.safetensors").unlink()
    with pytest.raises(DataError, match=r"concept\.safetensors does not exist"):
        read_concept(tmp_path / "b")
    (tmp_path / "a" / "concept.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match="a: not a prisbench concept"):
        read_concept(tmp_path / "a")
    (tmp_path / "b" / "concept.json").write_text('{"format": 9}')
    with pytest.raises(DataError, match="concept format 9, this version reads 1"):
        read_concept(tmp_path / "b")
    (tmp_path / "b" / "concept.json").write_text('{"for')
    with pytest.raises(DataError, match="is not JSON"):
        read_concept(tmp_path / "b")


def test_the_key_follows_from_all_that_decides_a_concept(backbone: Backbone) -> None:
    base = key(backbone, subject(), TI, SHORT, seed=0)
    assert base == key(backbone, subject(), TI, SHORT, seed=0) and len(base) == 16
    others = [
        key(backbone, subject(), TI, SHORT, seed=1),
        key(backbone, subject(seed=1), TI, SHORT, seed=0),
        key(backbone, subject(noun="bowl"), TI, SHORT, seed=0),
        key(backbone, subject(), TI, changed(SHORT, steps=7), seed=0),
        key(backbone, subject(), TI, changed(SHORT, version=3), seed=0),
        concept_key(subject(), "textual-inversion", "other@1", as_record(SHORT, 0)),
        concept_key(subject(), "dreambooth", backbone.id, as_record(SHORT, 0)),
    ]
    assert len({base, *others}) == 8


def test_a_concept_of_another_backbone_is_refused_naming_both() -> None:
    check_backbone(concept(), "tiny@1")
    check_backbone(noun_only(subject()), "anything@2")
    with pytest.raises(BackboneError, match="concept abc of 's' was learned on tiny@1, not on big@2"):
        check_backbone(concept(), "big@2")


def test_the_store_lies_where_prisbench_home_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path))
    assert default_store() == tmp_path / "concepts"


# --- learning -------------------------------------------------------------------------------------------------------


def weights(backbone: Backbone) -> dict[str, torch.Tensor]:
    models = {"text": backbone.text_encoder, "unet": backbone.unet, "vae": backbone.vae}
    return {f"{m}.{k}": v.clone() for m, model in models.items() for k, v in model.state_dict().items()}


def test_only_the_new_vectors_move_and_everything_is_put_back(backbone: Backbone) -> None:
    before, processors, state = weights(backbone), dict(backbone.unet.attn_processors), torch.get_rng_state()
    learned = learn(backbone, subject(), TI, SHORT)
    start = learn(backbone, subject(), TI, changed(SHORT, steps=0))
    assert np.abs(learned.tensors["vectors"] - start.tensors["vectors"]).min() > 0
    after = weights(backbone)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(backbone.unet.attn_processors[name] is processor for name, processor in processors.items())
    assert torch.equal(torch.get_rng_state(), state), "only the seeded generator is used"


def test_the_same_arguments_give_the_same_bits_and_another_seed_does_not(backbone: Backbone) -> None:
    first, again, other = (learn(backbone, subject(), TI, SHORT, seed) for seed in (0, 0, 1))
    assert first.id == again.id != other.id
    assert np.array_equal(first.tensors["vectors"], again.tensors["vectors"])
    assert not np.array_equal(first.tensors["vectors"], other.tensors["vectors"])
    assert first.recipe["seed"] == 0 and first.backbone == backbone.id and first.learner == "textual-inversion"


def test_learning_lowers_the_loss_on_noise_it_never_saw(backbone: Backbone) -> None:
    thing = subject((112, 144))
    recipe = changed(SHORT, steps=40, batch=4, learning_rate=2.0, bfloat16=False, templates=("the {subject}",))
    latents = encode_image(backbone, thing.photos[0]).latents.expand(16, -1, -1, -1)
    eps = torch.stack([noise("held out", i, (4, 28, 36)) for i in range(16)])
    prompt = compose(backbone.tokenizer, "the {subject}", {"subject": Words("mug", 1)})

    def loss(steps: int) -> float:
        concept = learn(backbone, thing, TI, changed(recipe, steps=steps))
        with torch.no_grad():
            text = encode_text(backbone, [prompt], {"subject": torch.from_numpy(concept.tensors["vectors"])})
            t = torch.arange(16) * 60
            heard = Conditioning(text.expand(16, -1, -1), None)
            return denoising_loss(backbone, Batch(latents, torch.ones(16, 28, 36), eps, t), heard).item()

    assert loss(40) < loss(0) - 1e-4


def test_vectors_start_as_the_noun_and_the_further_ones_a_little_apart(backbone: Backbone) -> None:
    ids = backbone.tokenizer("pot", add_special_tokens=False).input_ids
    noun = backbone.token_table[ids].mean(0).numpy()
    start = learn(backbone, subject(noun="pot"), TI, changed(SHORT, steps=0, vectors=3)).tensors["vectors"]
    assert len(ids) == 3 and start.shape == (3, 24)
    assert np.allclose(start[0], noun)
    assert all(0 < np.abs(v - noun).max() < 0.02 for v in start[1:]) and not np.allclose(start[1], start[2])


def test_padding_takes_no_part_in_the_loss(backbone: Backbone) -> None:
    latents, eps, text = torch.randn(1, 4, 12, 16), torch.randn(1, 4, 12, 16), torch.randn(1, 40, 24)
    t = torch.tensor([500])
    everywhere, left = torch.ones(1, 12, 16), torch.ones(1, 12, 16)
    left[..., 10:] = 0
    whole = denoising_loss(backbone, Batch(latents, everywhere, eps, t), Conditioning(text, None))
    part = denoising_loss(backbone, Batch(latents, left, eps, t), Conditioning(text, None))
    rest = (whole * 16 - part * 10) / 6
    assert rest > 0 and not torch.isclose(part, whole)
    predicted = backbone.unet(
        (a := backbone.alphas_cumprod[500]).sqrt() * latents + (1 - a).sqrt() * eps, t, encoder_hidden_states=text
    ).sample
    assert torch.isclose(part, (predicted - eps)[..., :10].square().mean())


def test_a_velocity_model_is_asked_for_velocity(backbone: Backbone) -> None:
    latents, eps, text = torch.randn(1, 4, 12, 16), torch.randn(1, 4, 12, 16), torch.randn(1, 40, 24)
    t, a = torch.tensor([500]), backbone.alphas_cumprod[500]
    velocity = dataclasses.replace(backbone, prediction_type="v_prediction")
    predicted = backbone.unet(a.sqrt() * latents + (1 - a).sqrt() * eps, t, encoder_hidden_states=text).sample
    target = a.sqrt() * eps - (1 - a).sqrt() * latents
    loss = denoising_loss(velocity, Batch(latents, torch.ones(1, 12, 16), eps, t), Conditioning(text, None))
    assert torch.isclose(loss, (predicted - target).square().mean())


def test_own_photos_of_any_shape_and_their_mirror_images_are_learned_from(backbone: Backbone) -> None:
    thing = subject((60, 41), (200, 333), (112, 144))
    recipe = changed(SHORT, flip=True, vectors=2)
    steps: list[tuple[int, int, float]] = []
    learned = learn(backbone, thing, TI, recipe, watch=Watch(lambda *step: steps.append(step)))
    assert learned.tensors["vectors"].shape == (2, 24) and np.isfinite(learned.tensors["vectors"]).all()
    assert [step[:2] for step in steps] == [(i, 6) for i in range(1, 7)] and all(step[2] > 0 for step in steps)


def test_an_interrupted_learner_leaves_the_backbone_as_it_was(backbone: Backbone) -> None:
    before, processors = weights(backbone), dict(backbone.unet.attn_processors)

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(backbone, subject(), TI, SHORT, watch=Watch(stop))
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(backbone).items())
    assert all(backbone.unet.attn_processors[name] is processor for name, processor in processors.items())
    assert not backbone.text_encoder.get_input_embeddings()._forward_hooks


def test_bad_input_is_one_clear_line(backbone: Backbone) -> None:
    with pytest.raises(DataError, match="subject 's' has no photos"):
        learn(backbone, Subject("s", "mug", ()), TI, SHORT)
    with pytest.raises(UsageError, match="the noun '' is no word"):
        learn(backbone, subject(noun=""), TI, SHORT)
    with pytest.raises(UsageError, match=r"learner\.vectors=0 makes no sense"):
        TextualInversion(vectors=0)
    with pytest.raises(BackboneError, match="textual-inversion of 's' diverged at step"):
        learn(backbone, subject(), TI, changed(SHORT, learning_rate=1e38))


# --- controls -------------------------------------------------------------------------------------------------------


def test_an_untrained_token_is_chance_on_the_scale_of_words(backbone: Backbone) -> None:
    one = untrained_token(backbone, subject(), vectors=2)
    assert np.array_equal(one.tensors["vectors"], untrained_token(backbone, subject(), vectors=2).tensors["vectors"])
    other = untrained_token(backbone, subject(seed=1), vectors=2)
    assert one.id != other.id and not np.allclose(one.tensors["vectors"], other.tensors["vectors"])
    assert one.tensors["vectors"].std() == pytest.approx(float(backbone.token_table.std()), rel=0.5)
    assert (one.learner, one.backbone, noun_only(subject()).learner) == ("untrained-token", backbone.id, "noun-only")


def test_another_subjects_concept_is_of_the_same_noun_where_there_is_one_and_goes_by_its_name() -> None:
    things = [
        dataclasses.replace(subject(noun=noun), id=id) for id, noun in (("a", "mug"), ("b", "bowl"), ("c", "mug"))
    ]
    assert [other_subject(thing, things).id for thing in things] == ["c", "c", "a"]
    with pytest.raises(UsageError, match="another-subject needs a second subject beside 'a'"):
        other_subject(things[0], things[:1])
    lent = another_subject(concept(), things[1])
    assert (lent.subject_id, lent.noun, lent.learner, lent.backbone) == ("b", "bowl", "another-subject", "tiny@1")
    assert lent.tensors is concept().tensors or np.array_equal(lent.tensors["vectors"], concept().tensors["vectors"])
    assert lent.id != concept().id and lent.recipe["learned_of"] == "abc"


def test_weights_rounded_once_teach_what_rounding_them_every_step_does(backbone: Backbone, monkeypatch: Any) -> None:
    recipe = changed(SHORT, steps=3, bfloat16=True)
    before = {name: p.detach().clone() for name, p in backbone.unet.named_parameters()}
    once = learn(backbone, subject(), TI, recipe)
    assert all(torch.equal(p, before[name]) for name, p in backbone.unet.named_parameters()), "back as they were"
    with frozen_in_bfloat16(backbone, (), True):
        assert backbone.unet.conv_in.weight.dtype is torch.bfloat16
        assert backbone.unet.conv_norm_out.weight.dtype is torch.float32, "mixed precision leaves norms alone"
    monkeypatch.setattr(loop, "frozen_in_bfloat16", lambda *_: contextlib.nullcontext())
    every_step = learn(backbone, subject(), TI, recipe)
    assert np.array_equal(once.tensors["vectors"], every_step.tensors["vectors"])


def test_what_rounding_takes_away_gives_the_number_back_bit_for_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    halves = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.float16).float()
    values = torch.cat([torch.randn(50_000, generator=draw), halves[torch.isfinite(halves)], torch.tensor([0.0, -0.0])])
    odd_and_even = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8])  # halfway: down to even, up to even
    values = torch.cat([values, odd_and_even]).repeat(2, 1).T  # not contiguous
    high, remainder = rounded(values)
    assert torch.equal(high, values.to(torch.bfloat16)), "as torch rounds"
    assert remainder.low.element_size() + high.element_size() == 4
    assert 0 < len(remainder.halfway) < values.numel() / 8
    assert torch.equal(whole(high, remainder).view(torch.int32), values.contiguous().view(torch.int32))


def test_what_moves_is_not_rounded(backbone: Backbone) -> None:
    moving = {"w": backbone.unet.conv_in.weight}
    with frozen_in_bfloat16(backbone, moving.values(), True):
        assert backbone.unet.conv_in.weight.dtype is torch.float32
    with frozen_in_bfloat16(backbone, (), False):
        assert backbone.unet.conv_in.weight.dtype is torch.float32
