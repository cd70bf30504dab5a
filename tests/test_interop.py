"""Concepts go to other programs and come back: what plain diffusers makes of them is what they do here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from prisbench.concepts.interop.export import export_concept
from prisbench.concepts.interop.imports import import_concept
from prisbench.concepts.weights import adapted
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import fit
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import condition, learned_vectors
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.localizer.observe import observe
from prisbench.localizer.presets import preset
from prisbench.localizer.settings import Evidence
from prisbench.types import Concept, Query

LOW_RANK = (
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k",
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "unet.up_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj",
    "unet.mid_block.attentions.0.proj_in",
    "text_encoder.encoder.layers.0.self_attn.q_proj",
    "text_encoder.encoder.layers.1.self_attn.out_proj",
)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    """The plain pipelines of ``tiny.KINDS`` have the same weights."""
    folder = tmp_path_factory.mktemp("interop")
    return {kind: load_backbone(tiny.save(folder / kind, kind=kind)) for kind in ("embedded", "sdxl")}


def parameters(backbone: Backbone) -> dict[str, torch.Tensor]:
    parts = {part: getattr(backbone, part) for part in ("unet", "text_encoder", "text_encoder_2")}
    return {f"{part}.{name}": p.data for part, model in parts.items() if model for name, p in model.named_parameters()}


def drawn(backbone: Backbone, learner: str) -> Concept:
    """A concept of random numbers, as that learner would leave it."""
    draw, known = np.random.default_rng(3), parameters(backbone)

    def numbers(*shape: int) -> np.ndarray:
        return draw.standard_normal(shape).astype(np.float32) / 4

    tensors: dict[str, np.ndarray] = {}
    recipe: dict[str, object] = {}
    if learner in ("textual-inversion", "custom-diffusion"):
        tensors |= {name: numbers(2, table.shape[1]) for name, table in backbone.token_tables.items()}
    if learner == "custom-diffusion":
        ends = ("attn2.to_k.weight", "attn2.to_v.weight")
        tensors |= {name: numbers(*p.shape) for name, p in known.items() if name.endswith(ends)}
    if learner == "dreambooth":
        changed = ("unet.conv_in.bias", "unet.mid_block.resnets.0.conv1.weight")
        tensors |= {name: numbers(*known[name].shape) for name in changed}
    if learner == "dreambooth-lora":
        recipe = {"alpha": 3.0}
        two = ("text_encoder_2.encoder.layers.1.self_attn.out_proj",) if backbone.text_encoder_2 else ()
        for module in (
            name for each in (*LOW_RANK, *two) for name in (each, each.replace(".encoder", ".text_model.encoder", 1))
        ):
            if f"{module}.weight" in known:
                out, *into = known[f"{module}.weight"].shape
                tail = (1,) * (len(into) - 1)
                tensors |= {
                    f"{module}.lora_A.weight": numbers(2, *into),
                    f"{module}.lora_B.weight": numbers(out, 2, *tail),
                }
        assert len(tensors) == 2 * (len(LOW_RANK) + len(two))
    return Concept("0123", "my mug", "mug", learner, backbone.id, tensors, recipe)


def heard(backbone: Backbone, concept: Concept, text: str = "the {subject}") -> torch.Tensor:
    """Text states here."""
    vectors = learned_vectors(backbone, concept.tensors, concept.id)
    prompt = compose(backbone.tokenizer, text, {"subject": Words("mug", len(vectors["vectors"]))})
    with torch.no_grad(), adapted(backbone, concept):
        return condition(backbone, [prompt], {"subject": vectors}, fit((64, 80), "native", 64 * 80, 32)).states


def predicted(unet: Any, width: int, added: int = 0) -> torch.Tensor:
    """What a U-Net says of some noise and some text."""
    draw = torch.Generator().manual_seed(5)
    latents, states = torch.randn(1, 4, 16, 24, generator=draw), torch.randn(1, 7, width, generator=draw)
    conditions = {"text_embeds": torch.ones(1, added), "time_ids": torch.ones(1, 6)} if added else None
    with torch.no_grad():
        said = unet(latents, 300, encoder_hidden_states=states, added_cond_kwargs=conditions).sample
    assert isinstance(said, torch.Tensor)
    return said


def same(found: torch.Tensor, here: torch.Tensor, frozen: torch.Tensor) -> None:
    assert not torch.allclose(here, frozen, atol=1e-2)
    torch.testing.assert_close(found, here, rtol=1e-4, atol=1e-4)


def equal(one: Concept, other: Concept) -> None:
    assert set(one.tensors) == set(other.tensors)
    for name, tensor in one.tensors.items():
        np.testing.assert_array_equal(tensor, other.tensors[name], err_msg=name)


def test_plain_diffusers_reads_a_text_with_learned_embeds_as_we_do(
    backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    backbone = backbones["embedded"]
    concept = drawn(backbone, "textual-inversion")
    assert export_concept(concept, "learned-embeds", tmp_path, backbone) == (tmp_path / "learned_embeds.safetensors",)
    pipe = tiny.pipeline()
    pipe.load_textual_inversion(str(tmp_path))
    with torch.no_grad():
        frozen = heard(backbone, dataclasses.replace(concept, tensors={}))
        same(pipe.encode_prompt("the <my-mug> mug", "cpu", 1, False)[0], heard(backbone, concept), frozen)


def test_plain_diffusers_reads_both_encoders_of_an_a1111_file_as_we_do(
    backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    backbone = backbones["sdxl"]
    concept = drawn(backbone, "textual-inversion")
    (file,) = export_concept(concept, "a1111", tmp_path, backbone)
    pipe, held = tiny.sdxl(), load_file(file)
    for key, encoder, words in (
        ("clip_l", pipe.text_encoder, pipe.tokenizer),
        ("clip_g", pipe.text_encoder_2, pipe.tokenizer_2),
    ):
        pipe.load_textual_inversion(held[key], token="<my-mug>", text_encoder=encoder, tokenizer=words)
    with torch.no_grad():
        frozen = heard(backbone, dataclasses.replace(concept, tensors={}))
        found = pipe.encode_prompt("the <my-mug> mug", device="cpu", do_classifier_free_guidance=False)[0]
        same(found, heard(backbone, concept), frozen)


@pytest.mark.parametrize(("kind", "format"), [("embedded", "lora"), ("embedded", "kohya"), ("sdxl", "kohya")])
def test_plain_diffusers_applies_a_lora_as_we_do(
    backbones: dict[str, Backbone], tmp_path: Path, kind: str, format: str
) -> None:
    backbone = backbones[kind]
    concept = drawn(backbone, "dreambooth-lora")
    (file,) = export_concept(concept, format, tmp_path, backbone)
    pipe = tiny.KINDS[kind]()
    pipe.load_lora_weights(str(tmp_path), weight_name=file.name)
    width, added = (56, 20) if kind == "sdxl" else (24, 0)
    frozen = predicted(backbone.unet, width, added)
    with adapted(backbone, concept):
        here = predicted(backbone.unet, width, added)
    same(predicted(pipe.unet, width, added), here, frozen)
    with torch.no_grad():
        found = pipe.encode_prompt("the mug", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    torch.testing.assert_close(found[0], heard(backbone, concept), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], heard(backbone, dataclasses.replace(concept, tensors={})), atol=1e-2)


def test_plain_diffusers_applies_custom_diffusion_as_we_do(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone = backbones["embedded"]
    concept = drawn(backbone, "custom-diffusion")
    file, token = export_concept(concept, "custom-diffusion", tmp_path, backbone)
    pipe = tiny.pipeline()
    pipe.unet.load_attn_procs(str(tmp_path), weight_name=file.name, _pipeline=pipe)
    pipe.load_textual_inversion(str(tmp_path), weight_name=token.name)
    frozen = predicted(backbone.unet, 24)
    with adapted(backbone, concept):
        here = predicted(backbone.unet, 24)
    same(predicted(pipe.unet, 24), here, frozen)
    with torch.no_grad():
        read = pipe.encode_prompt("the <my-mug> mug", "cpu", 1, False)[0]
    torch.testing.assert_close(read, heard(backbone, concept), rtol=1e-4, atol=1e-4)
    pipe.unet.save_attn_procs(tmp_path / "theirs")
    theirs = import_concept(tmp_path / "theirs", backbone, "mug")
    assert len(theirs.tensors) == len(concept.tensors) - 1
    equal(theirs, dataclasses.replace(concept, tensors={n: t for n, t in concept.tensors.items() if n != "vectors"}))


def test_a_lora_made_by_plain_diffusers_and_peft_does_the_same_here(
    backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    backbone, pipe = backbones["embedded"], tiny.pipeline()
    targets = ["to_k", "to_out.0", "proj_in"]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(2)
        pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=5, target_modules=targets, init_lora_weights=False))
    layers, numbers = get_peft_model_state_dict(pipe.unet), pipe.unet.peft_config["default"].to_dict()
    type(pipe).save_lora_weights(tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=numbers)
    concept = import_concept(tmp_path, backbone, "mug", rare="q")
    assert concept.recipe["alpha"] == 5
    frozen = predicted(backbone.unet, 24)
    with adapted(backbone, concept):
        same(predicted(pipe.unet, 24), predicted(backbone.unet, 24), frozen)


def test_plain_diffusers_loads_dreambooths_unet(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone = backbones["embedded"]
    concept = drawn(backbone, "dreambooth")
    (folder,) = export_concept(concept, "folder", tmp_path, backbone)
    frozen = predicted(backbone.unet, 24)
    with adapted(backbone, concept):
        here = predicted(backbone.unet, 24)
    same(predicted(UNet2DConditionModel.from_pretrained(folder, use_safetensors=True), 24), here, frozen)
    equal(concept, import_concept(tmp_path, backbone, "mug"))
    equal(concept, import_concept(folder, backbone, "mug"))
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file({name: each.half() for name, each in weights.items()}, folder / "diffusion_pytorch_model.safetensors")
    assert set(import_concept(folder, backbone, "mug").tensors) == set(concept.tensors)


@pytest.mark.parametrize("kind", ["embedded", "sdxl"])
@pytest.mark.parametrize(
    ("learner", "format"),
    [
        ("textual-inversion", "learned-embeds"),
        ("textual-inversion", "a1111"),
        ("dreambooth-lora", "kohya"),
        ("custom-diffusion", "custom-diffusion"),
    ],
)
def test_what_was_exported_comes_back_equal(
    backbones: dict[str, Backbone], tmp_path: Path, kind: str, learner: str, format: str
) -> None:
    concept = drawn(backbones[kind], learner)
    export_concept(concept, format, tmp_path, backbones[kind])
    back = import_concept(tmp_path, backbones[kind], "mug", "my mug", rare="" if "vectors" in concept.tensors else "q")
    equal(concept, back)
    assert (back.learner, back.subject_id, back.backbone) == (learner, "my mug", backbones[kind].id)
    assert back.recipe.get("alpha") == concept.recipe.get("alpha")
    assert back.recipe.get("rare") == ("q" if learner == "dreambooth-lora" else None)
    assert back.id != import_concept(tmp_path, backbones[kind], "bowl").id


def updates(backbone: Backbone, concept: Concept) -> dict[str, torch.Tensor]:
    with adapted(backbone, concept):
        return {name: p.clone() for name, p in parameters(backbone).items()}


def renamed_as_in_2023(key: str) -> str:
    for last in ("to_k", "to_out.0"):
        key = key.replace(f".{last}.lora_", f".processor.{last.removesuffix('.0')}_lora.lora_")
    key = key if ".processor." in key else key.replace(".lora_", ".lora.lora_")
    return key.replace("lora_A", "down").replace("lora_B", "up").replace("lora.lora", "lora")


def renamed_as_by_the_first_trainers(key: str) -> str:
    """Of 2023: updates of attention processors without "unet.", those of the text encoder as linear layers."""
    if key.startswith("text_encoder"):
        return key.replace("lora_A", "lora_linear_layer.down").replace("lora_B", "lora_linear_layer.up")
    return renamed_as_in_2023(key).removeprefix("unet.")


def renamed_as_the_first_text_encoders(key: str) -> str:
    if key.startswith("text_encoder"):
        for last in ("q_proj", "out_proj"):
            key = key.replace(f".{last}.lora_", f".to_{last.removesuffix('_proj')}_lora.lora_")
        return key.replace("lora.lora_A", "lora.down").replace("lora.lora_B", "lora.up")
    return key


def wrapped_by_peft(key: str) -> str:
    part, _, rest = key.partition(".")
    return f"{'' if part == 'unet' else part + '.'}base_model.model.{rest}".replace(".weight", ".default.weight")


def renamed_as_kohyas_sdxl(key: str) -> str:
    for ours, theirs in (
        ("down_blocks_1_attentions_0_", "input_blocks_4_1_"),
        ("up_blocks_1_attentions_1_", "output_blocks_4_1_"),
        ("mid_block_attentions_0_", "middle_block_1_"),
    ):
        key = key.replace(ours, theirs)
    return key


@pytest.mark.parametrize(
    ("kind", "format", "renamed"),
    [
        ("embedded", "lora", str),
        ("embedded", "lora", renamed_as_in_2023),
        ("embedded", "lora", renamed_as_by_the_first_trainers),
        ("embedded", "lora", renamed_as_the_first_text_encoders),
        ("embedded", "lora", wrapped_by_peft),
        ("sdxl", "kohya", renamed_as_kohyas_sdxl),
    ],
)
def test_updates_under_the_names_of_other_programs_do_the_same(
    backbones: dict[str, Backbone], tmp_path: Path, kind: str, format: str, renamed: Callable[[str], str]
) -> None:
    concept = drawn(backbones[kind], "dreambooth-lora")
    (file,) = export_concept(concept, format, tmp_path, backbones[kind])
    theirs = {renamed(key): tensor for key, tensor in load_file(file).items()}
    assert renamed is str or set(theirs) != set(load_file(file))
    save_file(theirs, file)
    if kind == "sdxl":  # diffusers takes these names as we do
        pipe = tiny.sdxl()
        pipe.load_lora_weights(str(tmp_path), weight_name=file.name)
        with adapted(backbones[kind], concept):
            here = predicted(backbones[kind].unet, 56, 20)
        same(predicted(pipe.unet, 56, 20), here, predicted(backbones[kind].unet, 56, 20))
    expected = updates(backbones[kind], concept)
    for name, found in updates(backbones[kind], import_concept(file, backbones[kind], "mug")).items():
        torch.testing.assert_close(found, expected[name], msg=name)


def test_layers_of_one_file_may_have_alphas_and_ranks_of_their_own(
    backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    backbone, draw = backbones["embedded"], torch.Generator().manual_seed(4)
    held: dict[str, torch.Tensor] = {}
    expected: dict[str, torch.Tensor] = {}
    for module, rank, alpha in ((LOW_RANK[0], 2, 3.0), (LOW_RANK[1], 4, 1.0)):
        own = parameters(backbone)[f"{module}.weight"]
        down, up = torch.randn(rank, own.shape[1], generator=draw), torch.randn(len(own), rank, generator=draw)
        name = "lora_unet_" + module.removeprefix("unet.").replace(".", "_")
        held |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up, f"{name}.alpha": torch.tensor(alpha)}
        expected[f"{module}.weight"] = own + alpha / rank * up @ down
    save_file(held, tmp_path / "two.safetensors")
    found = updates(backbone, import_concept(tmp_path / "two.safetensors", backbone, "mug"))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_an_embedding_made_by_plain_diffusers_localises_here(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone, pipe = backbones["embedded"], tiny.pipeline()
    pipe.tokenizer.add_tokens("<theirs>")
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))
    rows = pipe.text_encoder.get_input_embeddings().weight.detach()
    torch.nn.init.normal_(rows[-1], generator=torch.Generator().manual_seed(1))
    save_file({"<theirs>": rows[-1].clone()}, tmp_path / "learned_embeds.safetensors")
    concept = import_concept(tmp_path, backbone, "mug")
    plain = preset("accurate", "embedded")
    settings = dataclasses.replace(
        plain, tokens=("subject",), timesteps=(150,), samples=1, cross={"up.1.0": 1.0}, hops=0, refine="none",
        evidence=Evidence(), presence=None,
    )  # fmt: skip
    photo = np.random.default_rng(1).integers(0, 256, (56, 72, 3)).astype(np.uint8)
    query = Query("1", "imported", "the {subject}")
    seen = [
        observe(backbone, photo, query, each, settings).recording.cross["up.1.0"]
        for each in (concept, dataclasses.replace(concept, tensors={}))
    ]
    assert torch.isfinite(seen[0]).all()
    assert seen[0].shape != seen[1].shape or not torch.allclose(seen[0], seen[1], rtol=1e-3)


def test_files_that_cannot_be_a_concept_are_refused_in_one_line(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone = backbones["embedded"]
    key = f"{LOW_RANK[0]}.lora_A.weight"
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0")
    (tmp_path / "learned_embeds.bin").write_bytes(b"no")
    for name, held, message in (
        ("learned_embeds.bin", None, "learned_embeds.bin is pickled and could run anything, .* convert"),
        ("cut.safetensors", None, "cut.safetensors is no safetensors file, or was cut short"),
        ("gone.safetensors", None, "gone.safetensors does not exist"),
        ("a.safetensors", {"<t>": torch.ones(2, 7)}, r"'<t>' of shape \(2, 7\) does not fit .* vectors of 24"),
        ("b.safetensors", {"x": torch.ones(1), "y": torch.ones(1)}, "b.safetensors: key 'x' is of no format we know"),
        ("c.safetensors", {"clip_l": torch.ones(1, 24), "clip_g": torch.ones(1, 32)}, "for 2 text encoders, .* has 1"),
        ("d.safetensors", {key: torch.ones(2, 24)}, "attn2.to_k.lora_A.weight' stands alone"),
        ("e.safetensors", {"unet.no.lora_A.weight": torch.ones(2, 24)}, "'unet.no.lora_A.weight' is no low-rank"),
        ("f.safetensors", {key: torch.ones(2, 5), key.replace("_A", "_B"): torch.ones(16, 2)}, r"\(2, 5\) does not"),
        ("g.safetensors", {"no.attn2.processor.to_k_custom_diffusion.weight": torch.ones(2, 5)}, "is no attention of"),
        ("h.safetensors", {"<t>": torch.full((24,), torch.nan)}, "'<t>' holds NaN or infinity"),
    ):  # fmt: skip
        if held is not None:
            save_file(held, tmp_path / name)
        with pytest.raises(DataError, match=message) as caught:
            import_concept(tmp_path / name, backbone, "mug")
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"holds 9 .safetensors files; name the file"):
        import_concept(tmp_path, backbone, "mug")
    with pytest.raises(UsageError, match="is the noun"):
        import_concept(tmp_path / "a.safetensors", backbone, "mug", rare="mug")


def test_what_only_looks_like_a_concept_is_refused_by_name(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone = backbones["embedded"]
    a, b = (f"{LOW_RANK[0]}.lora_{half}.weight" for half in "AB")
    plain = {a: torch.ones(2, 24), b: torch.ones(16, 2)}
    for name, held, message in (
        ("a", plain | {f"{LOW_RANK[0]}.lora_magnitude_vector": torch.ones(16)}, r"a.safetensors is a DoRA \(key 'unet"),
        ("b", plain | {"lora_unet_mid.dora_scale": torch.ones(16)}, "b.safetensors is a DoRA"),
        ("c", {"lora_unet_mid.hada_w1_a": torch.ones(2, 2)}, "c.safetensors is a LoHa of LyCORIS"),
        ("d", {"lora_unet_mid.lokr_w1": torch.ones(2, 2)}, "d.safetensors is a LoKr of LyCORIS"),
        ("e", plain | {b: torch.zeros(16, 2)}, "the second halves of all its updates are zeros"),
        ("f", {"<t>": torch.zeros(2, 24)}, "f.safetensors holds nothing but zeros"),
        ("g", {"<t>": torch.eye(24)[:2] * torch.tensor([[0.0], [1.0]])}, "'<t>' holds a vector of zeros"),
        ("h", {"text_model.norm.weight": torch.ones(24)}, "'text_model.norm.weight' is no token"),
        ("i", {"weight": torch.ones(2, 24)}, "i.safetensors: 'weight' is no token, .* call the file learned_embeds"),
        ("j", {"x": torch.ones(1, 24)}, "j.safetensors: 'x' is no token"),
        ("k", {"<t>": torch.ones(76, 24)}, "'<t>' has 76 vectors, and a prompt"),
        ("l", plain | {a.removeprefix("unet."): torch.ones(2, 24)}, "are updates of one layer"),
        ("m", {"no.attn2.processor.to_k_custom_diffusion.weight": torch.zeros(2, 5)}, "holds nothing but zeros"),
    ):  # fmt: skip
        save_file(held, tmp_path / f"{name}.safetensors")
        with pytest.raises(DataError, match=message) as caught:
            import_concept(tmp_path / f"{name}.safetensors", backbone, "mug")
        assert "\n" not in str(caught.value)
    for file, key in (("my-mug", "my-mug"), ("my-cup", "<my-cup>"), ("a1111", "emb_params"), ("learned_embeds", "sks")):
        save_file({key: torch.ones(1, 24)}, tmp_path / f"{file}.safetensors")
        assert import_concept(tmp_path / f"{file}.safetensors", backbone, "mug").learner == "textual-inversion"


def test_a_format_that_cannot_hold_a_concept_says_which_can(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone = backbones["embedded"]
    with pytest.raises(UnknownNameError, match="did you mean 'kohya'"):
        export_concept(drawn(backbone, "dreambooth"), "kohja", tmp_path)
    for learner, format, message in (
        ("custom-diffusion", "lora", r"lora cannot hold vectors of .* fits into custom-diffusion or folder"),
        ("dreambooth", "custom-diffusion", r"cannot hold unet.conv_in.bias .* fits into folder"),
        ("dreambooth", "folder", "needs the backbone"),
    ):
        with pytest.raises(UsageError, match=message):
            export_concept(drawn(backbone, learner), format, tmp_path)
    with pytest.raises(UsageError, match="has a token 'mug' already"):
        export_concept(drawn(backbone, "textual-inversion"), "a1111", tmp_path, backbone, token="mug")
    with pytest.raises(UsageError, match="without slashes"):
        export_concept(drawn(backbone, "textual-inversion"), "a1111", tmp_path, token="../mug")
    assert not list(tmp_path.iterdir())


def test_how_learning_went_is_no_part_of_what_is_exported(tmp_path: Path) -> None:
    tensors = {"vectors": np.ones((2, 24), np.float32), "losses": np.ones(3, np.float32)}
    concept = Concept("0123", "my mug", "mug", "textual-inversion", "tiny@0", tensors)
    (path,) = export_concept(concept, "learned-embeds", tmp_path)
    assert [value.shape for value in load_file(path).values()] == [(2, 24)]
