"""Diffusion transformers from a folder to an answer: what is refused, flow matching, learners, files of others."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_transformers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from torch import Tensor

from prisbench.concepts.class_images import sample
from prisbench.concepts.interop.export import export_concept
from prisbench.concepts.interop.imports import import_concept
from prisbench.concepts.learners import learn
from prisbench.concepts.loss import Batch, denoising_loss
from prisbench.concepts.names import rare_word
from prisbench.concepts.recipes import RECIPES, Prior, changed, default_recipe
from prisbench.concepts.weights import adapted
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.families import FAMILIES
from prisbench.diffusion.images import encode_image
from prisbench.diffusion.joint import blocks_of
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.noise import add_noise, flow_alphas, noise_error, training_target
from prisbench.diffusion.prompts import CONTENT, Section, Sections, Words, compose
from prisbench.diffusion.text import Conditioning
from prisbench.errors import BackboneError, UsageError
from prisbench.localizer.answer import locate
from prisbench.localizer.observe import observe, observe_all
from prisbench.localizer.presence import in_use
from prisbench.localizer.presets import DEFAULTS, PRESETS, default_settings
from prisbench.localizer.settings import LocalizerSettings
from prisbench.localizer.texts import Reader
from prisbench.types import Concept, Query, Subject

ONE_OF_EACH = ("sd35", "flux-dev", "klein", "pixart-sigma")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tiny_transformers.folders_in(tmp_path_factory.mktemp("pipelines"))


@pytest.fixture(scope="module")
def backbones(folders: Callable[[str], Path]) -> Callable[[str], Backbone]:
    return tiny_transformers.backbones_in(folders)


@pytest.fixture
def copy(folders: Any, tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: Path(shutil.copytree(folders(kind), tmp_path / "harmed"))


def photo(h: int = 80, w: int = 128, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def subject() -> Subject:
    return Subject("my-mug", "mug", (photo(seed=1), photo(96, 64, 2)))


def noun_only() -> Concept:
    return Concept("noun", "my-mug", "mug", "noun-only")


def settings(backbone: Backbone, **changes: Any) -> LocalizerSettings:
    return dataclasses.replace(default_settings(backbone), working_size=128, **changes)


def bits(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# --- what is refused ------------------------------------------------------------------------------------------------


def changed_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_quantised_weights_are_one_line(copy: Any) -> None:
    folder = copy("flux-schnell")
    changed_json(folder / "text_encoder_2" / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(
        BackboneError, match=r"the weights of its text_encoder_2 are quantised \(bitsandbytes\)"
    ) as caught:
        load_backbone(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_t5_is_one_line_where_it_is_needed(copy: Any, backbones: Any) -> None:
    folder = copy("flux-schnell")
    shutil.rmtree(folder / "text_encoder_2")
    with pytest.raises(BackboneError, match=r"no text_encoder_2 folder \(T5\), which it cannot do without"):
        load_backbone(folder)
    without = backbones("sd3-without-t5")
    assert without.text_encoder_3 is None and set(without.token_tables) == {"vectors", "vectors_2"}


def test_a_t5_that_an_index_promises_must_be_there(copy: Any) -> None:
    folder = copy("sd3")
    shutil.rmtree(folder / "text_encoder_3")
    with pytest.raises(BackboneError, match=r"no text_encoder_3 folder \(T5\); model_index.json says that it is there"):
        load_backbone(folder)


def test_noise_of_another_kind_is_one_line(copy: Any) -> None:
    folder = copy("klein")
    changed_json(folder / "scheduler" / "scheduler_config.json", _class_name="EulerDiscreteScheduler")
    with pytest.raises(
        BackboneError, match=r"EulerDiscreteScheduler\) is not supported; a Flux2KleinPipeline has flow"
    ):
        load_backbone(folder)


def test_parts_that_do_not_belong_together_are_one_line(copy: Any) -> None:
    folder = copy("sd3")
    tiny_transformers.sd3(joint_attention_dim=40).transformer.save_pretrained(folder / "transformer")
    with pytest.raises(BackboneError, match="reads text of width 40, its text encoder writes 24"):
        load_backbone(folder)


def test_an_unknown_number_of_blocks_has_no_preset(copy: Any) -> None:
    folder = copy("sd3")
    tiny_transformers.sd3(num_layers=5).transformer.save_pretrained(folder / "transformer")
    backbone = load_backbone(folder)
    assert backbone.family == "other"
    with pytest.raises(BackboneError, match=r"no preset knows this transformer's blocks \(joint.0, joint.1, joint.2"):
        default_settings(backbone)


def test_a_concept_of_another_family_is_one_line(backbones: Any) -> None:
    other = Concept("c", "my-mug", "mug", "textual-inversion", backbones("klein").id, {"vectors": np.ones((1, 8))})
    backbone = backbones("sd35")
    with pytest.raises(BackboneError, match=r"was learned on klein@\w+, not on sd35@\w+; use that backbone or learn"):
        query = Query("q", "my-mug", "the {subject}")
        locate(backbone, photo(), [query], {"my-mug": other}, settings(backbone))


LIMITS = {"sd35": ("CLIP", 77), "flux-dev": ("T5", 512), "flux-schnell": ("T5", 256), "klein": ("Qwen", 512)}
LIMITS |= {"pixart-alpha": ("T5", 120), "pixart-sigma": ("T5", 300)}


@pytest.mark.parametrize("kind", LIMITS)
def test_a_text_past_an_encoders_limit_names_the_words_that_would_be_lost(kind: str, backbones: Any) -> None:
    reader, limit = LIMITS[kind]
    with pytest.raises(UsageError, match=rf"this model's {reader} reads {limit}: '.*lost' would be lost") as caught:
        compose(backbones(kind).tokenizer, "{subject} " + "mug " * limit + "lost", {"subject": Words("mug")})
    assert "\n" not in str(caught.value)


def test_each_reader_has_its_own_limit() -> None:
    words, long = tiny.tokenizer(77), tiny_transformers.t5_tokenizer()
    short = Section(words, ("vectors",), (1,), (2,), (0,), 77, name="CLIP")
    other = Section(long, ("vectors_2",), (), (1,), (0,), 12, name="T5")
    with pytest.raises(UsageError, match=r"16 tokens long and this model's T5 reads 12"):
        compose(Sections((short, other)), "{subject} bananabananan", {"subject": Words("mug")})


# --- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sd35", "flux-dev", "klein", "pixart-alpha"])
def test_content_is_the_text_without_padding_template_and_ends(kind: str, backbones: Any) -> None:
    readers = backbones(kind).tokenizer
    prompt = compose(readers, "the {subject}, a bowl", {"subject": Words("mug", 2)}, "a photo of {text}")
    content, at = set(prompt.groups["subject", CONTENT]), 0
    for section in readers.each:
        before, used = len(section.start), prompt.used[readers.each.index(section)]
        inside = set(range(at + before, at + used - len(section.end)))
        assert (content & set(range(at, at + section.length))) == (inside if section.rows else set())
        assert prompt.ids[at + used :][: section.length - used] == section.paddings[:1] * (section.length - used)
        at += section.length
    rows = [section for section in readers.each if section.rows]
    assert len(prompt.groups["subject", "token"]) == 2 * len(rows), "in each reader that has rows"
    assert len(prompt.learned) == 2 * len(readers.each), "in each reader"


def test_learned_vectors_stand_in_the_rows_of_their_places(backbones: Any) -> None:
    from prisbench.diffusion.images import Geometry
    from prisbench.diffusion.text import condition

    geometry = Geometry((64, 96), (64, 96), (64, 96))
    for kind in ONE_OF_EACH:
        backbone = backbones(kind)
        plain = compose(backbone.tokenizer, "the mug {subject}", {"subject": Words("mug")})
        learned = compose(backbone.tokenizer, "the {subject}", {"subject": Words("mug", 1)})
        rows = {
            name: table[backbone.pieces(name, "mug")].float().mean(0, keepdim=True)
            for name, table in backbone.token_tables.items()
        }
        mine = condition(backbone, [learned], {"subject": rows}, geometry)
        assert torch.allclose(mine.states, condition(backbone, [plain], None, geometry).states, atol=1e-5), kind
        moved = {name: (value + 1).requires_grad_() for name, value in rows.items()}
        other = condition(backbone, [learned], {"subject": moved}, geometry)
        (other.states.sum() + sum(x.float().sum() for x in (other.added or {}).values())).backward()
        assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in moved.values()), kind


def test_a_rare_word_is_one_token_of_the_first_reader(backbones: Any) -> None:
    for kind in ("flux-dev", "sd35"):
        word = rare_word(backbones(kind).tokenizer)
        assert len(backbones(kind).tokenizer(word, add_special_tokens=False).input_ids) == 1


# --- flow matching --------------------------------------------------------------------------------------------------


def test_a_straight_line_leads_to_noise(backbones: Any) -> None:
    backbone = backbones("sd35")
    z, eps, t = torch.full((2, 4, 2, 2), 3.0), torch.ones(2, 4, 2, 2), torch.tensor([250, 900])
    noisy = add_noise(backbone.alphas_cumprod, z, eps, t, backbone.flow)
    assert torch.allclose(noisy[:, 0, 0, 0], torch.tensor([0.75 * 3 + 0.25, 0.1 * 3 + 0.9]))
    assert torch.equal(training_target(backbone, z, eps, t), torch.full_like(z, -2.0))
    share = torch.tensor([0.25, 0.9])
    ratio = flow_alphas(1000)[t] / (1 - flow_alphas(1000)[t])
    assert torch.allclose(ratio, ((1 - share) / share) ** 2, rtol=1e-4)
    # The noise that a direction v says is x + (1 - s) v.
    v = training_target(backbone, z, eps, t) + 0.1
    said = noisy + (1 - share)[:, None, None, None] * v
    wrong = (v - training_target(backbone, z, eps, t)).square().sum(1)
    assert torch.allclose(noise_error(backbone, wrong, t), (said - eps).square().sum(1), atol=1e-6)


def test_diffusers_steps_along_the_same_line(backbones: Any) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[0.5, 0.25])
    z, eps = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    backbone = backbones("sd35")
    x = add_noise(backbone.alphas_cumprod, z, eps, scheduler.timesteps[:1], True)
    v = training_target(backbone, z, eps, scheduler.timesteps[:1])
    after = scheduler.step(v, scheduler.timesteps[0], x).prev_sample
    assert torch.allclose(after, add_noise(backbone.alphas_cumprod, z, eps, scheduler.timesteps[1:], True), atol=1e-6)


class Knows(torch.nn.Module):
    """A model that knows the way from any latents to one picture."""

    def __init__(self, picture: Tensor) -> None:
        super().__init__()
        self.picture = picture

    def forward(self, sample: Tensor, timestep: Tensor, **_: Any) -> tuple[Tensor]:
        return ((sample - self.picture) / (timestep[:, None, None, None] / 1000),)


def test_sampling_and_the_loss_know_the_line(backbones: Any) -> None:
    picture = torch.randn(1, 4, 6, 8)
    backbone = dataclasses.replace(backbones("sd35"), unet=Knows(picture))
    text = Conditioning(torch.zeros(1, 3, 24), None)
    drawn = sample(backbone, text, text, torch.randn(1, 4, 6, 8), 4, 1.0)
    assert torch.allclose(drawn, picture, atol=1e-5)
    batch = Batch(picture, torch.ones(1, 6, 8), torch.randn(1, 4, 6, 8), torch.tensor([700]))
    assert denoising_loss(backbone, batch, text) < 1e-9
    other = dataclasses.replace(backbone, unet=Knows(picture + 0.5))
    # The clean picture is wrong by 0.5; with a bound of 0.1 its squared error weighs 0.1, as the ratio is 0.18.
    assert denoising_loss(other, batch, text, min_snr=0.1).item() == pytest.approx(0.1 * 0.25, rel=1e-3)


# --- answers --------------------------------------------------------------------------------------------------------


def test_presets_speak_of_blocks_that_are_there_and_are_marked_untuned(backbones: Any) -> None:
    assert set(FAMILIES.values()) <= set(PRESETS) & set(RECIPES) & set(DEFAULTS)
    for kind in ONE_OF_EACH:
        backbone = backbones(kind)
        for named in PRESETS[backbone.family].values():
            assert {*named.cross, named.self_block} <= set(blocks_of(backbone.unet))
        assert "(untuned)" in in_use(PRESETS[backbone.family]["accurate"], backbone.family, "").line


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_queries_about_a_photo_are_answered_together_as_alone(kind: str, backbones: Any, tmp_path: Path) -> None:
    backbone = backbones(kind)
    chosen = settings(backbone)
    queries = [Query(f"q{i}", "my-mug", text) for i, text in enumerate(["the {subject}", "a {subject} by the bowl"])]
    reader = Reader(backbone, chosen, tmp_path)
    concepts = {"my-mug": noun_only()}
    together = observe_all(reader, photo(), queries, concepts)
    for query, one in zip(queries, together, strict=True):
        alone = observe(backbone, photo(), query, noun_only(), chosen)
        for name, maps in one.recording.cross.items():
            assert torch.allclose(maps, alone.recording.cross[name], atol=1e-5)
    answers = locate(backbone, photo(), queries, concepts, chosen)
    assert all(answer.mask is not None and answer.mask.shape == (80, 128) for answer in answers)
    assert np.abs(answers[0].score - answers[1].score).max() > 1e-3, "what is asked matters"


def test_evidence_directions_and_kinds_are_settings(backbones: Any) -> None:
    backbone = backbones("klein")
    query, concepts = [Query("q", "my-mug", "the {subject} by the bowl")], {"my-mug": noun_only()}
    scores = []
    for changes in ({}, {"direction": "text", "maps": "attention"}, {"maps": "attention", "share": True}):
        scores.append(locate(backbone, photo(), query, concepts, settings(backbone, **changes))[0].score)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3 < np.abs(scores[1] - scores[2]).max()
    accurate = dataclasses.replace(PRESETS["klein"]["accurate"], working_size=128, refine="none")
    assert locate(backbone, photo(), query, concepts, accurate)[0].presence is not None
    with pytest.raises(UsageError, match=r"localizer.maps='outputs' makes no sense"):
        settings(backbone, direction="text")


# --- learners -------------------------------------------------------------------------------------------------------


def short(backbone: Backbone, learner: str, **changes: Any) -> Any:
    given = {"steps": 2, "batch": 1, "working_size": 128, "bfloat16": False, **changes}
    if learner != "textual-inversion":
        given["prior"] = Prior(images=0)
    return changed(default_recipe(backbone.family, learner), **given)


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_words_are_learned_for_every_reader_and_nothing_else_moves(kind: str, backbones: Any) -> None:
    backbone = backbones(kind)
    before = {name: bits(model) for name, model in backbone.models.items()}
    concept = learn(backbone, subject(), "textual-inversion", short(backbone, "textual-inversion", vectors=2))
    assert set(concept.tensors) == {*backbone.token_tables, "losses"} and concept.recipe["family"] == backbone.family
    for name, table in backbone.token_tables.items():
        start = table[backbone.pieces(name, "mug")].float().mean(0)
        assert concept.tensors[name].shape == (2, table.shape[1])
        assert np.abs(concept.tensors[name][0] - start.numpy()).max() > 1e-6
    for name, model in backbone.models.items():
        assert all(torch.equal(value, before[name][key]) for key, value in bits(model).items())
    answer = locate(backbone, photo(), [Query("q", "my-mug", "the {subject}")], {"my-mug": concept}, settings(backbone))
    assert answer[0].score is not None and answer[0].score.std() > 0


@pytest.mark.parametrize("kind", ["sd35", "klein"])
def test_low_rank_updates_of_joint_blocks_are_learned_and_change_maps(
    kind: str, backbones: Any, tmp_path: Path
) -> None:
    backbone = backbones(kind)
    before = bits(backbone.unet)
    recipe = short(backbone, "dreambooth-lora", rank=2, learning_rate=0.05, rare="z" if kind == "sd35" else "q")
    concept = learn(backbone, subject(), "dreambooth-lora", recipe)
    assert any("add_k_proj.lora_A" in name for name in concept.tensors)
    assert all(name.startswith("transformer.") for name in concept.tensors if name != "losses")
    assert all(torch.equal(value, before[key]) for key, value in bits(backbone.unet).items())
    query, chosen = Query("q", "my-mug", "the {subject}"), settings(backbone)
    plain = dataclasses.replace(concept, tensors={})
    mine, without = (observe(backbone, photo(), query, each, chosen).recording.cross for each in (concept, plain))
    assert any((mine[name] - without[name]).abs().max() > 1e-4 for name in mine)

    (file,) = export_concept(concept, "lora", tmp_path / "lora")
    pipe = tiny_transformers.pipeline(kind)
    pipe.load_lora_weights(file.parent)
    pipe.fuse_lora()
    theirs = dict(pipe.transformer.named_parameters())
    with adapted(backbone, concept):
        for name, value in backbone.unet.model.named_parameters():
            match = theirs.get(name, theirs.get(name.replace(".weight", ".base_layer.weight")))
            match = theirs[name.replace(".bias", ".base_layer.bias")] if match is None else match
            assert torch.allclose(value, match, atol=1e-5), name
    back = import_concept(file, backbone, "mug", rare=recipe.rare)
    with adapted(backbone, concept):
        expected = bits(backbone.unet)
    with adapted(backbone, back):
        assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in bits(backbone.unet).items())
    with pytest.raises(UsageError, match=r"the format kohya cannot hold a concept of \w+: its names of layers"):
        export_concept(concept, "kohya", tmp_path)


def test_learned_words_go_to_diffusers_where_it_loads_them(backbones: Any, tmp_path: Path) -> None:
    backbone = backbones("flux-dev")
    tensors = {name: np.full((1, table.shape[1]), 0.5, np.float32) for name, table in backbone.token_tables.items()}
    record = {"family": "flux"}
    concept = Concept("c", "my-mug", "mug", "textual-inversion", backbone.id, tensors, record)
    files = export_concept(concept, "learned-embeds", tmp_path / "out", backbone)
    pipe = tiny_transformers.pipeline("flux-dev")
    for file, encoder, words in zip(
        files, (pipe.text_encoder, pipe.text_encoder_2), (pipe.tokenizer, pipe.tokenizer_2), strict=True
    ):
        pipe.load_textual_inversion(file, text_encoder=encoder, tokenizer=words)
        place = words.convert_tokens_to_ids("<my-mug>")
        assert (encoder.get_input_embeddings().weight[place] == 0.5).all()
        assert set(load_file(file)) == {"<my-mug>"}
    back = import_concept(tmp_path / "out", backbone, "mug")
    assert all(np.array_equal(back.tensors[name], value) for name, value in tensors.items())
    other = dataclasses.replace(concept, recipe={"family": "sd3"}, backbone=None)
    with pytest.raises(
        UsageError, match=r"learned-embeds cannot hold a concept of sd3: diffusers loads learned tokens"
    ):
        export_concept(other, "learned-embeds", tmp_path / "no")


@pytest.mark.parametrize("kind", ["sd3", "sd35", "sd3-without-t5"])
def test_all_weights_of_joint_attention_are_learned_and_put_back(kind: str, backbones: Any, tmp_path: Path) -> None:
    backbone = backbones(kind)
    before = {name: bits(model) for name, model in backbone.models.items()}
    concept = learn(backbone, subject(), "dreambooth", short(backbone, "dreambooth", learning_rate=1e-3, rare="z"))
    learned = {name for name in concept.tensors if name != "losses"}
    assert learned == {f"transformer.{name}" for name, _ in backbone.unet.model.named_parameters()}
    moved = {name for name in learned if (concept.tensors[name] != before["transformer"][name[12:]].numpy()).any()}
    for part in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
        assert f"transformer.transformer_blocks.0.attn.{part}.weight" in moved
    for name, model in backbone.models.items():
        assert all(torch.equal(value, before[name][key]) for key, value in bits(model).items()), "as they were"
    query, chosen = Query("q", "my-mug", "the z {subject}"), settings(backbone)
    plain = dataclasses.replace(concept, tensors={})
    mine, without = (observe(backbone, photo(), query, each, chosen).recording.cross for each in (concept, plain))
    assert any((mine[name] - without[name]).abs().max() > 1e-4 for name in mine)
    export_concept(concept, "folder", tmp_path / "folder", backbone)
    whole = load_file(next((tmp_path / "folder").rglob("diffusion_pytorch_model.safetensors")))
    with adapted(backbone, concept):
        for name, value in backbone.unet.model.named_parameters():
            torch.testing.assert_close(whole[name].float(), value, msg=name)


def test_what_a_transformer_cannot_learn_is_one_line(backbones: Any) -> None:
    joint, cross = backbones("sd35"), backbones("pixart-sigma")
    with pytest.raises(UsageError, match="custom-diffusion learns the keys and values of cross-attention, which sd35"):
        learn(joint, subject(), "custom-diffusion", short(joint, "custom-diffusion"))
    with pytest.raises(UsageError, match=r"learner.text_encoder: only CLIP's text encoders of U-Nets can be learned"):
        learn(joint, subject(), "dreambooth-lora", short(joint, "dreambooth-lora", text_encoder=True))
    concept = learn(cross, subject(), "custom-diffusion", short(cross, "custom-diffusion", learning_rate=0.01))
    assert any(name.startswith("transformer.transformer_blocks.3.attn2.to_k") for name in concept.tensors)
    whole = learn(cross, subject(), "dreambooth", short(cross, "dreambooth"))
    with adapted(cross, whole):
        assert encode_image(cross, photo(), 128).latents.isfinite().all()
