"""The recipe of the embedded backbone, in miniature: the same code, a few steps, tiny channels."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from prisbench.diffusion.loading import EMBEDDED, has_embedded, load_backbone
from prisbench.embedded import card as backbone_card
from prisbench.embedded import scenes as training_scenes
from prisbench.embedded.card import finish, measure_domain, phrases, placed_phrases
from prisbench.embedded.denoiser import _timesteps, averaged_denoiser, batches, beginning, mirror
from prisbench.embedded.files import SceneFolder
from prisbench.embedded.models import (
    alphas_cumprod,
    build_autoencoder,
    build_denoiser,
    build_text_encoder,
    samples_sheet,
)
from prisbench.embedded.recipe import Recipe, cost
from prisbench.embedded.scenes import draw_scenes
from prisbench.embedded.stage import rate_shape
from prisbench.embedded.training import claim_recipe, train
from prisbench.embedded.words import byte_pairs, make_tokenizer, token_ids
from prisbench.errors import DataError, WriteError
from prisbench.tabletop.captions import GRAMMAR, ordinary_scene, vocabulary
from prisbench.tabletop.looks import COLOURS, NOUNS, SEEN_PATTERNS, SURFACES, UNSEEN_PATTERNS, WALLS, Individual
from prisbench.tabletop.places import PLACES, POSITIONS, RELATIONS, at, holds
from prisbench.tabletop.render import Placed
from prisbench.tabletop.scenes import SIZES_HW, Plan, Scene, compose
from prisbench.types import SLOT
from tests.test_tabletop_pixels import CAMERA, MUG

TINY = Recipe(
    scenes=48,
    positions=48,
    context=40,
    vae_channels=(8, 16, 16),
    vae_steps=6,
    vae_batch=2,
    unet_channels=(8, 16, 16),
    text_width=16,
    steps=6,
    batch=2,
)


def clear(folder: Path) -> dict[str, bytes]:
    """What decides a pipeline: its weights and words."""
    wanted = [path for path in folder.rglob("*") if path.suffix == ".safetensors" or path.name == "tokenizer.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in wanted}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the miniature recipe, uninterrupted."""
    out = tmp_path_factory.mktemp("recipe") / "run"
    stages: list[str] = []
    assert train(out, TINY, lambda stage, *_: stages.append(stage)) == out / "pipeline"
    assert list(dict.fromkeys(stages)) == ["scenes", "latents"], "numbers are shown every 50 steps"
    return out


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder, vocabulary(), TINY.context)
    return CLIPTokenizer.from_pretrained(folder)


# --- training -------------------------------------------------------------------------------------------------------


def copy_data(finished: Path, out: Path) -> Path:
    """The drawn scenes of a run, so that only the training is done again."""
    out.mkdir()
    for path in finished.iterdir():
        if path.name.startswith(("scenes", "captions")) or path.name == "recipe.json":
            (out / path.name).write_bytes(path.read_bytes())
    return out


class Interrupt:
    """Stops the n-th call of a function of the recipe as Ctrl-C does."""

    def __init__(self, inner: Callable[..., Any], n: int) -> None:
        self.inner, self.left = inner, n

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.inner(*arguments, **options)


def test_a_run_interrupted_anywhere_ends_with_the_same_bits(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy_data(finished, tmp_path / "run")
    # A generator is drawn at the start of every step of the autoencoder (6), to measure its scale (1), for the data and
    # for the noise of every step of the denoiser (2 x 6).
    for n in (3, 3, 2, 5):
        with monkeypatch.context() as patch:
            stop = Interrupt(Recipe.generator, n)
            patch.setattr(Recipe, "generator", lambda *arguments, stop=stop: stop(*arguments))
            with pytest.raises(KeyboardInterrupt):
                train(out, TINY)
        assert not (out / "pipeline").exists()
    assert (out / "vae" / "config.json").exists(), "the autoencoder is done by now"
    with safe_open(str(out / "unet-run" / "state.safetensors"), "pt") as file:
        assert file.metadata()["step"] == "2"
    train(out, TINY)
    assert clear(out / "pipeline") == clear(finished / "pipeline")
    for name in ("vae-run", "unet-run"):
        mine, whole = (load_file(folder / name / "state.safetensors") for folder in (out, finished))
        assert mine.keys() == whole.keys() and all(torch.equal(mine[key], whole[key]) for key in whole)
    assert not [path for path in out.rglob("*") if path.suffix in (".tmp", ".new")]
    assert not [path for path in (out / "pipeline").rglob("*.json") if str(tmp_path) in path.read_text()]


def test_an_interruption_inside_an_update_falls_back_to_the_last_saved_state(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy_data(finished, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "_foreach_lerp_", Interrupt(torch._foreach_lerp_, 2))
        with pytest.raises(KeyboardInterrupt):
            train(out, TINY, checkpoint_seconds=0.0)
    train(out, TINY)
    assert clear(out / "pipeline") == clear(finished / "pipeline")


def test_scenes_that_were_drawn_before_an_interruption_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, (whole, parts) = dataclasses.replace(TINY, scenes=9), (tmp_path / "whole", tmp_path / "parts")
    draw_scenes(whole, recipe, lambda *_: None)
    monkeypatch.setattr(training_scenes, "PART", 2)
    with pytest.raises(KeyboardInterrupt):
        draw_scenes(parts, recipe, Interrupt(lambda *_: None, 1))
    for start in (4, 8):  # whether a part that waited was drawn is a matter of luck
        shutil.rmtree(parts / "parts" / f"{start}", ignore_errors=True)
    kept = parts / "parts" / "0" / "captions-112x144.json"
    kept.write_text(json.dumps(["kept as it is"] * len(json.loads(kept.read_text()))))
    told: list[int] = []
    folder = draw_scenes(parts, recipe, lambda stage, done, *_: told.append(done))
    assert told[-2:] == [8, 9] and not (parts / "parts").exists()
    for hw in SIZES_HW:
        one, other = (np.load(out / folder.scenes(hw).name) for out in (whole, parts))
        assert np.array_equal(one, other)
        texts, again = (json.loads((out / folder.captions(hw).name).read_text()) for out in (whole, parts))
        replaced = sum(text == "kept as it is" for text in again)
        assert texts[replaced:] == again[replaced:] and (replaced > 0) == (hw == (112, 144))


def test_half_of_a_stage_is_never_taken_for_the_whole(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy_data(finished, tmp_path / "run")

    def cut_short(file: Any, array: np.ndarray, **options: Any) -> None:
        file.write(b"\x93NUMPY")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", cut_short)
        with pytest.raises(WriteError, match=r"cannot write .*latents-112x144\.npy: the disk is full"):
            train(out, TINY)
    assert not list(out.glob("latents*")) and not list(out.glob("*.tmp"))
    train(out, TINY)
    assert clear(out / "pipeline") == clear(finished / "pipeline")


def test_a_finished_run_does_nothing_again(finished: Path) -> None:
    before = clear(finished / "pipeline")
    state = load_file(finished / "unet-run" / "state.safetensors")
    train(finished, TINY)
    assert clear(finished / "pipeline") == before
    again = load_file(finished / "unet-run" / "state.safetensors")
    assert again.keys() == state.keys() and all(torch.equal(again[key], state[key]) for key in state)


def test_another_recipe_in_the_same_folder_is_refused(finished: Path) -> None:
    for change, message in (
        ({"seed": 1}, "seed is 0, asked for 1"),
        ({"text_width": 32}, "text_width is 16, asked for 32"),
        ({"vae_channels": (8, 8, 8)}, r"vae_channels is \[8, 16, 16\], asked for \[8, 8, 8\]"),
    ):
        with pytest.raises(DataError, match=f"holds another recipe .{message}.; choose an empty --out"):
            train(finished, dataclasses.replace(TINY, **change))
    claim_recipe(finished, dataclasses.replace(TINY, steps=9))
    assert json.loads((finished / "recipe.json").read_text())["steps"] == 9
    claim_recipe(finished, TINY)


def test_a_damaged_recipe_is_told(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(DataError, match=r"recipe\.json is not JSON"):
        train(tmp_path, TINY)


@pytest.mark.usefixtures("without_root")
def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    with pytest.raises(WriteError, match="cannot write /etc/prisbench-run: no permission"):
        train(Path("/etc/prisbench-run"), TINY)


def test_training_changes_the_weights_and_keeps_their_average(finished: Path) -> None:
    state = load_file(finished / "unet-run" / "state.safetensors")
    tokenizer = CLIPTokenizer.from_pretrained(finished / "tokenizer")
    unet, text, step = averaged_denoiser(finished, TINY, tokenizer)
    assert step == TINY.steps
    torch.manual_seed(TINY.seed + 1)
    start = dict(build_denoiser(TINY).named_parameters())
    name = "conv_in.weight"
    assert torch.equal(dict(unet.named_parameters())[name], state[f"average.unet.{name}"])
    assert not torch.equal(state[f"now.unet.{name}"], state[f"average.unet.{name}"])
    assert not torch.equal(state[f"average.unet.{name}"], start[name])
    assert float(state[f"step.unet.{name}"]) == TINY.steps
    assert not text.training and not unet.training


def test_words_stand_apart_from_the_first_step_and_still_do_after_training(finished: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(finished / "tokenizer")
    _, text = beginning(TINY, tokenizer)
    assert text.get_input_embeddings().weight.std().item() == pytest.approx(TINY.token_spread, rel=0.05)
    for encoder in (text, averaged_denoiser(finished, TINY, tokenizer)[1], load_backbone().text_encoder):
        words = token_ids(tokenizer, ["a red mug", "a blue mug"], TINY.context)
        with torch.no_grad():
            red, blue = encoder.eval()(words).last_hidden_state[:, 2]
        assert torch.cosine_similarity(red, blue, dim=0) < 0.9, "a collapsed encoder gives 1.00"


def test_the_text_encoder_learns_at_its_own_rate(finished: Path, tmp_path: Path) -> None:
    out, frozen = copy_data(finished, tmp_path / "run"), dataclasses.replace(TINY, text_rate=0.0, steps=2)
    (out / "recipe.json").unlink(missing_ok=True)
    train(out, frozen)
    state = load_file(out / "unet-run" / "state.safetensors")
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    unet, text = beginning(frozen, tokenizer)
    assert all(torch.equal(state[f"now.text.{name}"], p) for name, p in text.named_parameters())
    moved = [not torch.equal(state[f"now.unet.{name}"], p) for name, p in unet.named_parameters()]
    assert sum(moved) > len(moved) / 2


def test_the_noise_schedule_is_that_of_stable_diffusion(finished: Path) -> None:
    backbone = load_backbone(finished / "pipeline")
    assert torch.allclose(backbone.alphas_cumprod, alphas_cumprod(), atol=1e-6)
    assert float(alphas_cumprod()[-1]) == pytest.approx(0.0047, abs=1e-4)


def test_the_latents_have_unit_scale_and_a_mirror_image_each(finished: Path) -> None:
    for h, w in SIZES_HW:
        scenes = np.load(finished / f"scenes-{h}x{w}.npy", allow_pickle=False)
        latents = np.load(finished / f"latents-{h}x{w}.npy", allow_pickle=False)
        assert scenes.shape[1:] == (h, w, 3) and scenes.dtype == np.uint8
        assert latents.shape == (2 * len(scenes), 4, h // 4, w // 4) and latents.dtype == np.float16
        assert 0.2 < latents.astype(np.float32).std() < 5 and np.isfinite(latents).all()
        captions = json.loads((finished / f"captions-{h}x{w}.json").read_text())
        assert len(captions) == len(scenes)
    assert sum(len(np.load(path, mmap_mode="r")) for path in finished.glob("scenes*.npy")) == TINY.scenes


def test_a_batch_follows_from_its_step_and_pairs_latents_with_their_captions(finished: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(finished / "tokenizer")
    batch = batches(
        SceneFolder(finished, SIZES_HW), dataclasses.replace(TINY, batch=16, caption_dropout=0.3), tokenizer
    )
    empty, dropped = token_ids(tokenizer, [""], TINY.positions)[0], 0
    for step in (0, 1, 2, 3):
        latents, tokens = batch(step)
        h, w = SIZES_HW[step % 3]
        stack = np.load(finished / f"latents-{h}x{w}.npy").astype(np.float32)
        plain = json.loads((finished / f"captions-{h}x{w}.json").read_text())
        known = token_ids(tokenizer, plain + [mirror(caption) for caption in plain], TINY.positions)
        length = TINY.context
        assert tokens.shape == (16, length)
        for one, words in zip(latents, tokens, strict=True):
            (row,) = np.flatnonzero((stack == one.numpy()).all(axis=(1, 2, 3)))
            assert torch.equal(words, known[row, :length]) or torch.equal(words, empty[:length])
            dropped += bool(torch.equal(words, empty[:length]))
        assert all(torch.equal(a, b) for a, b in zip(batch(step), (latents, tokens), strict=True))
    assert 8 <= dropped <= 32


def test_timesteps_lie_in_range_and_mostly_where_noise_is_strong() -> None:
    t = _timesteps(dataclasses.replace(TINY, batch=4000), torch.Generator().manual_seed(0))
    assert 0 <= t.min() < 100 and 900 < t.max() <= 999
    low, high = TINY.strong_noise
    expected = TINY.strong_noise_share + (1 - TINY.strong_noise_share) * (high - low) / 1000
    assert ((t >= low) & (t < high)).float().mean().item() == pytest.approx(expected, abs=0.03)


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [rate_shape(step, 1000, 0.25) for step in range(1001)]
    assert rates[0] == 0.01 and rates[99] == rates[749] == 1.0 and rates[875] == 0.5 and rates[1000] == 0.0


def test_the_cost_is_said_beforehand() -> None:
    said = cost(Recipe(steps=6_000))
    assert "32000 scenes, 3000 + 6000 steps" in said and "hours" in said and "GB" in said


# --- the folder that ships ------------------------------------------------------------------------------------------


def test_the_pipeline_folder_is_plain_diffusers_and_generates(finished: Path) -> None:
    pipeline: Any = StableDiffusionPipeline.from_pretrained(finished / "pipeline", torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(0)
    made = pipeline("a photo of a red mug", height=96, width=160, num_inference_steps=2, generator=g).images[0]
    assert isinstance(made, Image.Image) and made.size == (160, 96)
    assert {path.suffix for path in (finished / "pipeline").rglob("*") if path.is_file()} <= {".json", ".safetensors"}
    tensors = load_file(finished / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_prisbench_loads_the_pipeline_as_one_of_the_embedded_family(finished: Path) -> None:
    backbone = load_backbone(finished / "pipeline")
    assert backbone.family == "embedded" and backbone.stride == 16 and backbone.native_area_px == 112 * 144
    assert backbone.vae.config["scaling_factor"] != 0.18215, "measured, not copied"


def test_the_samples_sheet_has_rows_of_four(finished: Path) -> None:
    out = samples_sheet(finished / "pipeline", ["a red mug"] * 5, (96, 160), steps=1)
    assert out.shape == (2 * 96, 4 * 160, 3) and out.dtype == np.uint8
    assert (out[96:, 160:] == 0).all() and out[:96].any()


def test_the_card_holds_what_was_measured(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydensecrf", reason="the preset of the embedded backbone refines by the extra crf")
    monkeypatch.setattr(backbone_card, "PROMPTS", backbone_card.PROMPTS[:2])
    monkeypatch.setattr(backbone_card, "samples_sheet", lambda *arguments: samples_sheet(*arguments, steps=1))
    monkeypatch.setattr(backbone_card, "measure_domain", lambda folder: measure_domain(folder, 4))
    for name in ("vae", "unet"):  # fifty steps are needed for a row; six were made
        rows = [{"step": 50 * n, "seconds": 36.0 * n, "loss": 1 / n, "l1": 0.1, "l2": 0.01, "kl": 3.0} for n in (1, 2)]
        (tmp_path / f"{name}-run").mkdir()
        (tmp_path / f"{name}-run" / "log.json").write_text(json.dumps(rows))
    folder = finished / "pipeline"
    quality = finish(folder, tmp_path, TINY, scenes=3)
    facts = json.loads((folder / "card.json").read_text())
    assert facts["held_out_phrases"] == quality and quality["n"] >= 3 and 0 <= quality["iou_mean"] <= 1
    assert facts["steps"] == {"vae": 100, "unet": 100} and facts["hours"] == {"vae": 0.02, "unet": 0.02}
    assert facts["backbone"] == load_backbone(folder).id, "the card is no part of what it describes"
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n") and f"**{quality['iou_mean']:.3f}**" in card
    assert "| 100 | 1 | 0.5000 |" in card and "None" not in card
    assert np.asarray(Image.open(folder / "samples.png")).shape == (112, 4 * 144, 3)
    for extra in ("card.json", "README.md", "samples.png"):
        (folder / extra).unlink()


# --- words ----------------------------------------------------------------------------------------------------------


def test_each_word_of_the_world_is_one_token(tokenizer: CLIPTokenizer) -> None:
    words = {*NOUNS, *COLOURS, *SEEN_PATTERNS, *GRAMMAR.split(), *" ".join(SURFACES).split(), *WALLS}
    assert words == set(vocabulary())
    ids = {word: tokenizer(word, add_special_tokens=False).input_ids for word in words}
    assert {word: found for word, found in ids.items() if len(found) != 1} == {}
    assert len({found[0] for found in ids.values()}) == len(words), "and no two share one"
    assert not {i for pattern in UNSEEN_PATTERNS for i in tokenizer(pattern, add_special_tokens=False).input_ids} & {
        ids[pattern][0] for pattern in SEEN_PATTERNS
    }


@pytest.mark.parametrize(
    "text", ["a xylophone", "größer als ein Haus", "日本の茶碗", "emoji 🍵 tea", "<s1> mug", "x" * 20]
)
def test_unknown_text_falls_to_pieces_and_comes_back(text: str, tokenizer: CLIPTokenizer) -> None:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids).replace(" ", "") == text.lower().replace(" ", "")
    assert tokenizer.unk_token_id not in ids[: -1 or None] or tokenizer.unk_token_id == tokenizer.eos_token_id
    assert len(ids) > 1


def test_a_token_can_be_added_and_stands_for_itself(tokenizer: CLIPTokenizer) -> None:
    added = CLIPTokenizer.from_pretrained(tokenizer.name_or_path)
    assert added.add_tokens(["<my-mug>"]) == 1
    assert added("a photo of a <my-mug> mug", add_special_tokens=False).input_ids.count(len(added) - 1) == 1


def test_captions_fit_the_context_and_are_padded_to_it(tokenizer: CLIPTokenizer) -> None:
    captions = [ordinary_scene(f"test/{i}")[1] for i in range(20)]
    ids = token_ids(tokenizer, captions, TINY.context)
    assert ids.shape == (20, TINY.context)
    assert (ids[:, 0] == tokenizer.bos_token_id).all() and (ids[:, -1] == tokenizer.eos_token_id).all()
    assert tokenizer.decode(ids[0], skip_special_tokens=True).replace(" ,", ",").strip() == captions[0]
    with pytest.raises(AssertionError, match="longer than the context"):
        token_ids(tokenizer, ["mug " * 39], TINY.context)


def test_the_same_words_always_get_the_same_ids_and_a_run_keeps_those_it_began_with(tmp_path: Path) -> None:
    first, second = (make_tokenizer(tmp_path / name, vocabulary(), TINY.context).get_vocab() for name in ("one", "two"))
    assert first == second
    one, two = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("one", "two"))
    assert one == two
    path, red, blue = tmp_path / "two" / "tokenizer.json", first["red</w>"], first["blue</w>"]
    turned = json.loads(path.read_text())
    turned["model"]["vocab"] |= {"red</w>": blue, "blue</w>": red}
    path.write_text(json.dumps(turned))
    kept = make_tokenizer(tmp_path / "two", vocabulary(), context=20)
    assert kept("red", add_special_tokens=False).input_ids == [blue] and kept.model_max_length == 20


def test_byte_pairs_by_pencil() -> None:
    assert byte_pairs(["ab", "cab"]) == [("a", "b</w>"), ("c", "ab</w>")]
    assert byte_pairs(["abcb", "bcb"]) == [("b", "c"), ("bc", "b</w>"), ("a", "bcb</w>")]
    assert byte_pairs(["zy", "ba"]) == [("b", "a</w>"), ("z", "y</w>")]


# --- mirror images --------------------------------------------------------------------------------------------------


def test_the_caption_of_a_mirror_image_swaps_left_and_right_only() -> None:
    assert mirror("a mug left of a red box") == "a mug right of a red box"
    assert mirror("a mug right of a box, a bowl left of it") == "a mug left of a box, a bowl right of it"
    assert mirror("the leftmost mug and the rightmost mug") == "the rightmost mug and the leftmost mug"
    for same in (
        "a mug in front of a box",
        "a mug behind a box",
        "a mug next to a box on a wooden table",
        "the mug nearest to the camera and the mug farthest from the camera",
        "the mug in the middle",
    ):
        assert mirror(same) == same


def test_mirroring_a_caption_twice_gives_it_back_and_leaves_its_words_in_place(finished: Path) -> None:
    captions = [text for path in finished.glob("captions-*.json") for text in json.loads(path.read_text())]
    assert len(captions) == TINY.scenes and any(mirror(caption) != caption for caption in captions)
    for caption in captions:
        assert mirror(mirror(caption)) == caption
        changed = {(a, b) for a, b in zip(caption.split(), mirror(caption).split(), strict=True) if a != b}
        assert changed <= {(a, b) for a in MIRRORED for b in MIRRORED}


MIRRORED = {"left", "right", "leftmost", "rightmost", "left,", "right,", "leftmost,", "rightmost,"}


def test_a_mirrored_relation_and_a_mirrored_position_are_true_of_the_mirrored_things() -> None:
    draw, seen = random.Random(4), set()
    for _ in range(200):
        row = [Placed(MUG, draw.uniform(-1, 1), draw.uniform(-1, 2), (1.0, 0.0)) for _ in range(3)]
        (a, *others), (c, *turned) = row, [dataclasses.replace(each, x=-each.x) for each in row]
        for word in RELATIONS:
            assert holds(CAMERA, word, a, others[0]) == holds(CAMERA, mirror(word), c, turned[0])
            seen |= {word} if holds(CAMERA, word, a, others[0]) else set()
        for word in POSITIONS:
            assert at(CAMERA, word, a, others) == at(CAMERA, mirror(word), c, turned)
            assert mirror(PLACES[word]) == PLACES[mirror(word)]
            seen |= {word} if at(CAMERA, word, a, others) else set()
    assert seen == {*RELATIONS, *POSITIONS}


# --- held-out phrases -----------------------------------------------------------------------------------------------


def test_held_out_phrases_single_out_one_thing_of_a_scene() -> None:
    found = list(phrases(12))
    assert len(found) > 12
    for scene, i, words in found:
        who = scene.things[i].individual
        assert words.count(SLOT) == 1 and who.noun not in words.replace(SLOT, "").split()
        assert who.main in words.split()
        same = [t for t in scene.things if (t.individual.noun, t.individual.main, t.individual.pattern)
                == (who.noun, who.main, who.pattern)]  # fmt: skip
        assert same == [scene.things[i]]
    again = [(i, words) for _, i, words in phrases(6)]
    assert again == [(i, words) for _, i, words in found][: len(again)] and again


def composed(who: list[Individual], n: int) -> list[Scene]:
    return [compose(random.Random(seed), who, Plan((28.0, 44.0))) for seed in range(n)]


def test_two_things_that_the_same_words_fit_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    red, other = (dataclasses.replace(MUG, main="red", second=second) for second in ("white", "blue"))
    ball = dataclasses.replace(red, noun="ball")
    (scene,) = composed([red, other, ball], 1)
    monkeypatch.setattr(backbone_card, "ordinary_scene", lambda name: (scene, ""))
    assert [scene.things[i].individual for _, i, _ in phrases(2)] == [ball, ball]


def test_a_placed_phrase_is_true_of_one_copy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ball, book = (dataclasses.replace(MUG, noun=noun, main="red") for noun in ("ball", "book"))
    scenes = composed([MUG, MUG, ball, book], 8)
    monkeypatch.setattr(backbone_card, "ordinary_scene", lambda name: (scenes[int(name.split("/")[1])], ""))
    found = list(placed_phrases(8))
    assert len(found) > 5
    for scene, i, words in found:
        how, _, noun = words.removeprefix(f"blue {SLOT} ").partition(" the red ")
        mark = next(thing for thing in scene.things if thing.individual.noun == noun)
        mugs = [n for n, thing in enumerate(scene.things) if thing.individual == MUG]
        assert {n: holds(scene.stage.camera, how, scene.things[n], mark) for n in mugs} == {n: n == i for n in mugs}
    monkeypatch.setattr(backbone_card, "ordinary_scene", lambda name: (composed([MUG, ball], 1)[0], ""))
    assert list(placed_phrases(1)) == [], "nothing is asked for where there are no copies"


# --- the weights that come along ------------------------------------------------------------------------------------


needs_weights = pytest.mark.skipif(not has_embedded(), reason="the embedded backbone has no weights yet")


@needs_weights
def test_the_embedded_weights_are_the_recipes() -> None:
    backbone = load_backbone()
    for model, built in (
        (backbone.unet, build_denoiser(Recipe())),
        (backbone.text_encoder, build_text_encoder(Recipe(), backbone.tokenizer)),
        (backbone.vae, build_autoencoder(Recipe())),
    ):
        shapes = {name: tuple(p.shape) for name, p in built.named_parameters()}
        assert {name: tuple(p.shape) for name, p in model.named_parameters()} == shapes
    assert backbone.tokenizer.model_max_length == Recipe().context
    words = [*NOUNS, *COLOURS, *SEEN_PATTERNS]
    assert all(len(backbone.tokenizer(word, add_special_tokens=False).input_ids) == 1 for word in words)
    assert sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()) < 12_000_000


@needs_weights
def test_the_embedded_card_speaks_of_the_embedded_weights() -> None:
    facts = json.loads((EMBEDDED / "card.json").read_text())
    assert facts["backbone"] == load_backbone().id
    assert facts["held_out_phrases"]["n"] > 100
    card = (EMBEDDED / "README.md").read_text()
    assert f"**{facts['held_out_phrases']['iou_mean']:.3f}**" in card and (EMBEDDED / "samples.png").is_file()
