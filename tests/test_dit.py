"""The recipe of the embedded DiT, in miniature: the same code, a few steps, tiny channels."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer

from prisbench.diffusion.images import fit
from prisbench.diffusion.loading import EMBEDDED, has_embedded, load_backbone
from prisbench.diffusion.noise import training_target
from prisbench.diffusion.prompts import Words, compose
from prisbench.diffusion.text import condition
from prisbench.embedded.card import _card, weights_of
from prisbench.embedded.denoiser import batches
from prisbench.embedded.dit import BLANK, assemble_sd3, build_dit, read_texts
from prisbench.embedded.files import SceneFolder
from prisbench.embedded.models import WITHOUT, build_autoencoder, samples_sheet
from prisbench.embedded.planned import plan_step
from prisbench.embedded.recipe import ARCHITECTURES, DiTRecipe, Recipe, cost
from prisbench.embedded.rectified_flow import NOISE_STAGE, beginning, flow_loss, go_on_from, noise
from prisbench.embedded.rivals.recipes import RIVALS
from prisbench.embedded.training import PIPELINES, check_start, claim_recipe, train
from prisbench.embedded.words import make_tokenizer, token_ids
from prisbench.errors import DataError, UsageError
from prisbench.localizer.answer import locate
from prisbench.localizer.presets import default_settings
from prisbench.tabletop.captions import vocabulary
from prisbench.tabletop.scenes import SIZES_HW
from prisbench.types import Concept, Query

TINY = DiTRecipe(
    scenes=24,
    positions=48,
    vae_channels=(8, 16, 16),
    vae_steps=2,
    vae_batch=2,
    width=16,
    heads=2,
    text_width=16,
    text_layers=2,
    steps=4,
    batch=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the miniature recipe, uninterrupted."""
    out = tmp_path_factory.mktemp("dit") / "run"
    assert train(out, TINY) == out / "pipeline"
    return out


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer") / "words", vocabulary(), TINY.context)


def weights(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not has_embedded(), reason="the embedded backbone has no weights yet")
def test_the_dit_has_as_many_parameters_as_the_u_net_that_ships(words: CLIPTokenizer) -> None:
    unet, dit = (plan_step(recipe, words) for recipe in (Recipe(), DiTRecipe()))
    assert dit.learned == pytest.approx(unet.learned, rel=0.10)
    assert dit.autoencoder == unet.autoencoder
    shipped = weights_of(load_backbone())
    assert (shipped["denoiser"], shipped["autoencoder"]) == (unet.denoiser, unet.autoencoder)


def test_both_recipes_agree_in_what_is_to_be_the_same() -> None:
    unet, dit = Recipe(), DiTRecipe()
    same = ("scenes", "context", "positions", "vae_channels", "vae_steps", "steps", "batch", "caption_dropout", "ema")
    assert {name: getattr(unet, name) for name in same} == {name: getattr(dit, name) for name in same}
    assert [recipe().architecture for recipe in ARCHITECTURES.values()] == list(ARCHITECTURES) == list(PIPELINES)


def test_the_folder_at_full_size_is_small(words: CLIPTokenizer, tmp_path: Path) -> None:
    recipe = DiTRecipe()
    dit, readers = beginning(recipe, words)
    folder = assemble_sd3(tmp_path / "pipeline", build_autoencoder(recipe), dit, readers, words)
    drawn_and_written = 200_000  # the sheet of samples and the card
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) + drawn_and_written < 12_000_000
    backbone = load_backbone(folder)
    assert backbone.family == "embedded-dit" and backbone.stride == 8
    counted = plan_step(recipe, words)
    assert weights_of(backbone) == {"denoiser": counted.denoiser, "text": counted.text, "autoencoder": 409_863}


def test_the_cost_is_not_made_up() -> None:
    assert "how long it takes was not measured" in cost(DiTRecipe()) and "32000 scenes" in cost(DiTRecipe())
    assert "not measured" not in cost(Recipe()) and "how long on cuda was not measured" in cost(Recipe(), "cuda")


def test_no_stage_of_any_training_shares_its_chance_with_another() -> None:
    others = {1, 2, 3, *(recipe.stage for recipe in RIVALS.values())}
    assert len(others) == 3 + len(RIVALS) and {NOISE_STAGE, *others} == set(range(8))


# --- the line -------------------------------------------------------------------------------------------------------


def texts(tokens: Tensor, output_hidden_states: bool) -> Any:
    assert output_hidden_states
    return SimpleNamespace(hidden_states=(None, torch.zeros(len(tokens), 3, 2), None), text_embeds=torch.zeros(2, 2))


def test_the_loss_is_zero_for_the_lines_own_direction_and_the_square_of_what_is_missing() -> None:
    g = torch.Generator().manual_seed(0)
    latents, eps = torch.randn(2, 4, 6, 8, generator=g), torch.randn(2, 4, 6, 8, generator=g)
    sigma, seen = torch.tensor([0.25, 0.75]), list[Tensor]()

    def knowing(noisy: Tensor, states: Tensor, pooled: Tensor, t: Tensor, return_dict: bool) -> tuple[Tensor]:
        seen.extend((states, pooled, t))
        return ((noisy - latents) / sigma[:, None, None, None] + missing,)

    tokens, loss = torch.zeros(2, 3, dtype=torch.long), flow_loss("cpu")
    missing = 0.0
    assert loss(knowing, texts, texts, latents, tokens, sigma, eps).item() == pytest.approx(0.0, abs=1e-9)
    missing = 0.5
    assert loss(knowing, texts, texts, latents, tokens, sigma, eps).item() == pytest.approx(0.25, rel=1e-4)
    states, pooled, t = seen[:3]
    assert states.shape == (2, 3 + BLANK, 4) and pooled.shape == (2, 4) and t.tolist() == [250.0, 750.0]


def test_learners_and_training_predict_the_same_direction(finished: Path) -> None:
    backbone = load_backbone(finished / "pipeline")
    latents, eps = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 5.0)
    assert (training_target(backbone, latents, eps, torch.tensor([500])) == eps - latents).all()


def test_places_on_the_line_are_logit_normal_and_follow_from_the_step() -> None:
    recipe = dataclasses.replace(TINY, noise_mean=0.5, noise_spread=2.0)
    sigma, eps = noise(recipe, torch.Size((20_000, 1, 1, 1)), 3)
    logits = torch.log(sigma / (1 - sigma))
    assert sigma.min() > 0 and sigma.max() < 1
    assert logits.mean().item() == pytest.approx(0.5, abs=0.06) and logits.std().item() == pytest.approx(2.0, rel=0.03)
    assert eps.std().item() == pytest.approx(1.0, rel=0.03)
    again, other = noise(recipe, eps.shape, 3), noise(recipe, eps.shape, 4)
    assert torch.equal(again[0], sigma) and torch.equal(again[1], eps) and not torch.equal(other[0], sigma)


def test_a_step_shows_both_architectures_the_same_scenes_and_captions(finished: Path, words: CLIPTokenizer) -> None:
    folder = SceneFolder(finished, SIZES_HW)
    unet = Recipe(positions=TINY.positions, batch=TINY.batch)
    for step in (0, 1, 5):
        mine, its = batches(folder, TINY, words)(step), batches(folder, unet, words)(step)
        assert torch.equal(mine.latents, its.latents) and torch.equal(mine.tokens, its.tokens)


def test_it_begins_with_a_prediction_of_zero_and_words_that_stand_apart(words: CLIPTokenizer) -> None:
    dit, readers = beginning(TINY, words)
    tokens = token_ids(words, ["a red mug", "a blue mug"], TINY.context)
    with torch.no_grad():
        states, pooled = read_texts(readers, tokens)
        out = dit(torch.randn(2, 4, 8, 12), states, pooled, torch.tensor([10.0, 900.0]), return_dict=False)[0]
    assert out.shape == (2, 4, 8, 12) and not out.any()
    assert torch.cosine_similarity(states[0, 2], states[1, 2], dim=0) < 0.9
    for reader in readers:
        assert reader.get_input_embeddings().weight.std().item() == pytest.approx(TINY.token_spread, rel=0.05)


# --- a run ----------------------------------------------------------------------------------------------------------


def test_an_interrupted_run_ends_with_the_same_bits(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for path in finished.iterdir():
        if path.name.startswith(("scenes", "captions")):
            (out / path.name).write_bytes(path.read_bytes())
    inner, left = DiTRecipe.generator, [2 + 1 + 2 * 2]  # the autoencoder's steps and scale, two steps of two generators

    def generator(self: DiTRecipe, stage: int, step: int) -> torch.Generator:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return inner(self, stage, step)

    with monkeypatch.context() as patch:
        patch.setattr(DiTRecipe, "generator", generator)
        with pytest.raises(KeyboardInterrupt):
            train(out, TINY)
    assert not (out / "pipeline").exists()
    train(out, TINY)
    assert weights(out / "pipeline") == weights(finished / "pipeline")
    mine, whole = (load_file(folder / "sd3-run" / "state.safetensors") for folder in (out, finished))
    assert mine.keys() == whole.keys() and all(torch.equal(mine[key], whole[key]) for key in whole)
    assert not torch.equal(whole["now.dit.proj_out.weight"], whole["average.dit.proj_out.weight"])
    moved = {name.split(".")[1] for name in whole if name.startswith("now.") and whole[f"average.{name[4:]}"].any()}
    assert moved == {"dit", "text", "text_2"}
    assert not [path for path in (out / "pipeline").rglob("*.json") if str(tmp_path) in path.read_text()]


def test_the_folder_is_plain_diffusers_and_draws(finished: Path) -> None:
    folder = finished / "pipeline"
    pipeline: Any = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32, **WITHOUT)
    assert pipeline.text_encoder_3 is None and pipeline.vae.config["shift_factor"] == 0.0
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".json", ".safetensors"}
    for path in folder.rglob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    sheet = samples_sheet(folder, ["a red mug"], (96, 160), steps=1)
    assert sheet.shape == (96, 4 * 160, 3) and sheet[:, :160].any()


def test_a_text_is_read_as_in_training_by_diffusers_and_by_prisbench(finished: Path) -> None:
    backbone, text = load_backbone(finished / "pipeline"), "a striped red mug"
    readers = (backbone.text_encoder, backbone.text_encoder_2)
    tokens = token_ids(CLIPTokenizer.from_pretrained(finished / "tokenizer"), [text], TINY.context)
    prompt = compose(backbone.tokenizer, "a striped red {subject}", {"subject": Words("mug")})
    folder = finished / "pipeline"
    pipeline: Any = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32, **WITHOUT)
    with torch.no_grad():
        states, pooled = read_texts(readers, tokens)
        mine = condition(backbone, [prompt], None, fit((112, 144), "native", backbone.native_area_px, 8))
        theirs, _, whole, _ = pipeline.encode_prompt(text, None, None, do_classifier_free_guidance=False)
    assert states.shape == (1, TINY.context + BLANK, TINY.text_width) and not states[:, TINY.context :].any()
    assert mine.added is not None
    for rows, vector in ((mine.states, mine.added["pooled"]), (theirs, whole)):
        torch.testing.assert_close(rows, states)
        torch.testing.assert_close(vector, pooled)


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_prisbench_finds_by_it(finished: Path, preset: str) -> None:
    backbone = load_backbone(finished / "pipeline")
    settings = dataclasses.replace(default_settings(backbone, preset), refine="none", presence=None)
    image = np.load(next(finished.glob("scenes-112x144.npy")))[0]
    mug = Concept("noun", "mug", "mug", "noun-only")
    (answer,) = locate(backbone, image, [Query("q", "mug", "the red {subject}")], {"mug": mug}, settings)
    assert answer.score is not None and answer.score.shape == (112, 144) and answer.score.std() > 0


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_folder_of_the_other_architecture_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds another recipe .architecture is 'sd3', asked for 'unet'.; choose an"):
        train(finished, Recipe())
    old = dataclasses.asdict(Recipe())
    for name in ("architecture", "autoencoder"):
        del old[name]
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    claim_recipe(tmp_path, Recipe())
    with pytest.raises(DataError, match="architecture is 'unet', asked for 'sd3'"):
        claim_recipe(tmp_path, DiTRecipe())
    with pytest.raises(DataError, match="autoencoder is '', asked for 'abc'"):
        claim_recipe(tmp_path, Recipe(autoencoder="abc"))
    with pytest.raises(DataError, match="heads is 2, asked for 4"):
        claim_recipe(finished, dataclasses.replace(TINY, heads=4))


def test_a_start_of_the_other_architecture_is_refused(finished: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a StableDiffusion3Pipeline, and unet goes on from a StableDiffusionPipeline"
    ):
        check_start(Recipe(start="abc"), finished / "pipeline")
    with pytest.raises(UsageError, match="--autoencoder takes the autoencoder of any"):
        check_start(DiTRecipe(start="abc"), EMBEDDED)
    check_start(DiTRecipe(start="abc"), finished / "pipeline")


def test_an_autoencoder_comes_alone_and_fits(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--start brings its own autoencoder"):
        check_start(DiTRecipe(start="abc", autoencoder="def"), EMBEDDED)
    with pytest.raises(UsageError, match="--autoencoder is taken as it is; leave --vae-steps 7 out"):
        check_start(DiTRecipe(autoencoder="def", vae_steps=7), EMBEDDED)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text('{"block_out_channels": [4, 8, 8, 8], "latent_channels": 16}')
    with pytest.raises(UsageError, match="latent cells of 8 pixels and 16 channels; these recipes have cells of 4"):
        check_start(DiTRecipe(autoencoder="def", vae_steps=0), tmp_path)
    check_start(DiTRecipe(autoencoder="def", vae_steps=0), finished / "pipeline")


def test_a_start_gives_its_weights_and_an_autoencoder_only_itself(
    finished: Path, words: CLIPTokenizer, tmp_path: Path
) -> None:
    dit, readers = beginning(dataclasses.replace(TINY, seed=5), words)
    go_on_from(finished / "pipeline", dit, readers, words)
    former = load_backbone(finished / "pipeline")
    for mine, its in zip((dit, *readers), former.models.values(), strict=True):
        for name, value in its.state_dict().items():
            torch.testing.assert_close(mine.state_dict()[name], value, msg=name)
    out = tmp_path / "run"
    out.mkdir()
    for path in finished.iterdir():
        if path.name.startswith(("scenes", "captions")):
            (out / path.name).write_bytes(path.read_bytes())
    unet = Recipe(
        seed=1, scenes=TINY.scenes, autoencoder="abc", vae_steps=0, unet_channels=(8, 8, 8), text_width=16, steps=1,
        batch=2, positions=48,
    )  # fmt: skip
    folder = train(out, unet, start=finished / "pipeline")
    (mine_vae, its_vae) = (next((each / "vae").glob("*.safetensors")) for each in (folder, finished / "pipeline"))
    assert mine_vae.read_bytes() == its_vae.read_bytes()
    assert load_backbone(folder).vae.config["shift_factor"] is None, "a Stable Diffusion pipeline knows no shift"


# --- the card -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (DiTRecipe(autoencoder="c3c34bc20e20", vae_steps=0), "--architecture sd3 --device cuda --seed 0"),
        (Recipe(), "--architecture unet --device cuda --seed 0"),
    ],
)
def test_the_card_speaks_of_its_architecture(recipe: Recipe | DiTRecipe, said: str) -> None:
    facts = json.loads((EMBEDDED / "card.json").read_text())
    log = facts["losses"]["unet"]
    facts |= {"recipe": dataclasses.asdict(recipe), "device": "cuda", "losses": {recipe.architecture: log}}
    facts["losses"]["vae"] = [{"l1": 0.1, "l2": 0.01}]
    facts |= {"steps": {recipe.architecture: 9000, "vae": 3}, "hours": {recipe.architecture: 0.1, "vae": 0.1}}
    facts["parameters"] = {"denoiser": 4_672_272, "text": 608_256, "autoencoder": 409_863}
    card = _card(facts)
    assert said in card and PIPELINES[recipe.architecture] in card and "hours on cuda" in card
    assert "denoiser 4,672,272" in card and "CPU cores" not in card
    assert "None" not in card.replace("text_encoder_3=None, tokenizer_3=None", "")
    if isinstance(recipe, DiTRecipe):
        assert "The embedded DiT" in card and "8 joint blocks, 4 heads, width 128, patch 2" in card
        assert "--autoencoder FOLDER_OF_c3c34bc20e20" in card and "that of the pipeline c3c34bc20e20, as it is" in card
        assert "untuned for this model" in card and "velocity prediction" in card
    else:
        assert "The embedded backbone" in card and "(32, 64, 128) channels" in card and "noise prediction" in card


def test_a_patch_of_one_has_the_u_nets_grid(words: CLIPTokenizer) -> None:
    fine = dataclasses.replace(DiTRecipe(), patch=1, places=48)
    assert build_dit(fine).pos_embed.pos_embed_max_size == 48
    coarse, dear = plan_step(DiTRecipe(), words), plan_step(fine, words)
    assert dear.training > 3 * coarse.training and dear.learned == pytest.approx(coarse.learned, rel=0.01)
    assert coarse.training > 2.5 * coarse.looking, "gradients are counted"
