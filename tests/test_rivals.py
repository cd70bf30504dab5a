"""The recipes of the small Segment Anything and CLIPSeg, in miniature; the models that ship; methods that use them."""

from __future__ import annotations

import dataclasses
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import ViTImageProcessor

from prisbench.clipseg import model as clipseg_model
from prisbench.clipseg.model import ClipSeg, as_pixels
from prisbench.clipseg.prompts import description, visual_prompt
from prisbench.embedded.files import SceneFolder
from prisbench.embedded.rivals import clipseg, sam
from prisbench.embedded.rivals.card import card
from prisbench.embedded.rivals.phrases import FORMS, looks, meant, phrase, told
from prisbench.embedded.rivals.pools import read_pools
from prisbench.embedded.rivals.quality import quality
from prisbench.embedded.rivals.recipes import RIVALS, ClipSegRecipe, Recipe, ReIdRecipe, SamRecipe, ThingsRecipe, cost
from prisbench.embedded.rivals.training import MODEL, train_rival
from prisbench.embedded.scenes import KINDS, draw_scenes
from prisbench.errors import BackboneError, DataError, UnknownNameError, UsageError
from prisbench.images.regions import distinct, iou
from prisbench.methods import load_method
from prisbench.runtime.files import read_json
from prisbench.runtime.identity import identity
from prisbench.sam import model as sam_model
from prisbench.sam.frame import Frame
from prisbench.sam.model import Prompt, Sam
from prisbench.sam.peaks import peaks
from prisbench.settings import MethodOptions
from prisbench.tabletop.captions import ordinary_individuals, ordinary_scene
from prisbench.tabletop.looks import Individual
from prisbench.tabletop.scenes import SIZES_HW, Plan, compose
from prisbench.tabletop.subjects import subjects
from prisbench.types import GivesCandidates, Query, Subject
from tests.drawing import draw_box

TINY: dict[str, Recipe] = {
    "sam": SamRecipe(
        scenes=12, side=48, width=16, layers=2, heads=2, window=2, whole=(1,), channels=16, steps=4, batch=2, again=1.0
    ),
    "clipseg": ClipSegRecipe(
        scenes=12, side=48, width=16, layers=2, heads=2, extract=(0, 1), reduced=8, steps=4, batch=2, photos=1
    ),
    "things": ThingsRecipe(scenes=12, widths=(8, 8, 16), steps=4, batch=2),
    "reid": ReIdRecipe(scenes=12, widths=(8, 8, 16), size=8, steps=4, batch=2),
}
WEIGHTS = {"sam": sam_model.FOLDER, "clipseg": clipseg_model.FOLDER}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training scenes with masks; beside them those of families."""
    home = tmp_path_factory.mktemp("rivals")
    for kind in KINDS[1:]:
        draw_scenes(home / f"{kind.replace(' ', '-')}-12", TINY["sam"], lambda *_: None, kind)
    return home / "with-masks-12"


def beginning(scenes: Path, out: Path) -> Path:
    """A run's folder in which the scenes are drawn."""
    shutil.copytree(scenes.parent, out)
    return out


# --- what training shows --------------------------------------------------------------------------------------------


def test_each_pixel_is_numbered_by_the_thing_that_it_shows(scenes: Path) -> None:
    pools = {pool.ids.shape[1:]: pool for pool in read_pools(SceneFolder(scenes, SIZES_HW))}
    places = dict.fromkeys(pools, 0)
    for n in range(12):
        scene, _ = ordinary_scene(f"train/{n}")
        hw = scene.image.shape[0], scene.image.shape[1]
        pool, row = pools[hw], places[hw]
        places[hw] += 1
        assert np.array_equal(pool.images[row], scene.image), "the backbone's own scenes, in their order"
        assert len(pool.things[row]["looks"]) == len(scene.masks)
        for number, mask in enumerate(scene.masks, 1):
            assert np.array_equal(pool.ids[row] == number, mask)


def test_no_subject_of_the_benchmark_is_among_training() -> None:
    seen = [one for n in range(400) for one in ordinary_individuals(f"train/{n}")]
    assert len(seen) > 800 and not any(one.held_out for one in seen)
    assert all(one.who.held_out for one in subjects())


RED, BLUE = (
    Individual("mug", main, "white", "striped", 0, (0.5, 0.5, 0.5, 0.5), (0.0, 0.0), 0.5) for main in ("red", "blue")
)
PLAIN = dataclasses.replace(RED, noun="ball", pattern="plain", second="black")


def test_a_phrase_means_every_thing_that_agrees_with_what_it_tells() -> None:
    cast = [RED, BLUE, PLAIN, RED]
    assert [meant(cast, RED, form) for form in FORMS] == [[0, 1, 3], [0, 3], [0, 1, 3], [0, 3], [0, 3]]
    assert meant(cast, dataclasses.replace(PLAIN, second="teal"), FORMS[-1]) == [2], "a plain thing shows one colour"
    rng = random.Random(1)
    assert phrase(RED, FORMS[3], rng) == "striped red mug" and phrase(PLAIN, FORMS[0], rng) == "ball"
    assert (looks(RED), looks(PLAIN)) == ("striped red white mug", "plain red ball")


def test_phrases_about_what_is_not_there_mean_nothing() -> None:
    found = told([RED, PLAIN], random.Random(3))
    phrases = dict(found["phrases"])
    absent = [text for text, numbers in phrases.items() if not numbers]
    assert phrases["mug"] == [0] and phrases["red ball"] == [1] and absent
    for text in absent:
        words = set(text.split())
        assert not ({"mug", "red"} == words or {"striped", "mug"} == words or words <= {"plain", "red", "ball"}), text
    assert found == told([RED, PLAIN], random.Random(3))


def test_prompts_lie_where_they_should() -> None:
    recipe, g = SamRecipe(), torch.Generator().manual_seed(4)
    mask = torch.zeros((2, 48, 48), dtype=torch.bool)
    mask[0, 10:20, 5:9] = True
    mask[1, 0, 47] = True
    for kind in sam.KINDS:
        for _ in range(5):
            points, labels, boxes = sam.first_prompts(kind, mask, recipe, g)
            assert points.shape[1] == labels.shape[1] == (0 if kind == "box" else 2 if "ground" in kind else 1)
            assert (boxes is None) == ("box" not in kind)
            for (x, y), label in zip(points.reshape(-1, 2).tolist(), labels.reshape(-1).tolist(), strict=True):
                assert 0 <= x < 144 and 0 <= y < 144 and label in (0, 1)
            for n, each in enumerate(points):
                inside = [bool(mask[n, int(y) // 3, int(x) // 3]) for x, y in each.tolist()]
                assert inside == [bool(label) for label in labels[n]]
    assert sam.boxes_of(mask, 3).tolist() == [[15, 30, 26, 59], [141, 0, 143, 2]]
    again = sam.next_prompts(sam.Prompts(torch.zeros(2, 0, 2), torch.zeros(2, 0), None), mask, mask, recipe, g)
    assert again.labels.tolist() == [[1.0], [1.0]], "where nothing is wrong, a point of the thing"
    wrong = sam.next_prompts(sam.Prompts(torch.zeros(2, 0, 2), torch.zeros(2, 0), None), ~mask, mask, recipe, g)
    assert len(wrong.points) == 2 and set(wrong.labels.flatten().tolist()) <= {0.0, 1.0}


def test_masks_in_cells_are_the_shares_that_they_cover() -> None:
    mask = torch.zeros((1, 96, 160))
    mask[0, :48, :80] = 1
    cells = sam.in_cells(mask, Frame((96, 160), 144), 3)
    assert cells.shape == (1, 48, 48)
    assert float(cells.sum()) * 9 == pytest.approx(0.81 * 48 * 80, rel=0.03) and float(cells[0, 29:].max()) == 0


# --- training -------------------------------------------------------------------------------------------------------


class Interrupt:
    """Stops the n-th call of a function as Ctrl-C does."""

    def __init__(self, inner: Callable[..., Any], n: int) -> None:
        self.inner, self.left = inner, n

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.inner(*arguments, **options)


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_run_interrupted_and_resumed_ends_with_the_same_bits(
    name: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TINY[name]
    whole, parts = (beginning(scenes, tmp_path / each) for each in ("whole", "parts"))
    folder = train_rival(whole, recipe)
    with monkeypatch.context() as patch:
        stop = Interrupt(type(recipe).generator, 3)
        patch.setattr(type(recipe), "generator", lambda *arguments: stop(*arguments))
        with pytest.raises(KeyboardInterrupt):
            train_rival(parts, recipe)
    assert not (parts / name / MODEL).exists()
    train_rival(parts, recipe)
    for place in (f"{MODEL}/model.safetensors", "run/state.safetensors"):
        mine, theirs = (load_file(out / name / place) for out in (parts, whole))
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in theirs)
    assert folder == whole / name / MODEL
    before = {key: value.clone() for key, value in load_file(folder / "model.safetensors").items()}
    assert all(value.dtype == torch.float16 for value in before.values())
    with pytest.raises(DataError, match=r"holds another recipe .seed is 0, asked for 1.; choose an empty --out"):
        train_rival(whole, dataclasses.replace(recipe, seed=1))


def test_a_trained_model_is_read_by_its_method(scenes: Path, tmp_path: Path) -> None:
    out = beginning(scenes, tmp_path / "run")
    small = {name: dataclasses.replace(recipe, steps=1) for name, recipe in TINY.items()}
    scene, _ = ordinary_scene("held-out/0")
    masks = Sam(str(train_rival(out, small["sam"])), "cpu")
    frame, features = masks.encode(scene.image)
    assert masks.decode(frame, features, Prompt((), (), (3, 3, 40, 40)), True).logits.shape[1:] == scene.image.shape[:2]
    words = ClipSeg(str(train_rival(out, small["clipseg"])), "cpu")
    score = words.score(words.encode(scene.image), words.of_text("a photo of a mug"), (112, 144))
    assert score.shape == (112, 144) and 0 <= score.min() <= score.max() <= 1
    pixels = ViTImageProcessor(size={"height": 48, "width": 48}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    mine, theirs = as_pixels([scene.image], 48), words.processor.image_processor([scene.image], return_tensors="pt")
    assert torch.allclose(mine, theirs["pixel_values"], atol=1e-5)
    assert torch.allclose(mine, pixels([scene.image], return_tensors="pt")["pixel_values"], atol=1e-5)


def test_words_of_no_meaning_stand_around_some_phrases_alone(scenes: Path) -> None:
    recipe, g = ClipSegRecipe(), torch.Generator().manual_seed(0)
    found = [clipseg.worded("red mug", recipe, g) for _ in range(200)]
    plain = [text for text in found if text in {each.format("red mug") for each in clipseg.TEMPLATES}]
    assert all("red mug" in text for text in found) and 110 < len(plain) < 170


def test_a_photo_of_a_look_is_of_a_thing_of_that_look(scenes: Path) -> None:
    pools = read_pools(SceneFolder(scenes, SIZES_HW))
    twins, g = clipseg.Twins(pools), torch.Generator().manual_seed(0)
    for look, places in twins.places.items():
        assert all(pools[pool].things[row]["looks"][thing] == look for pool, row, thing in places)
        assert twins.photo(look, g).ndim == 3


def test_cost_is_told_in_hours_and_megabytes() -> None:
    assert cost(SamRecipe(scenes=13_000, steps=6_000)).startswith(
        "training sam: 13000 scenes, 6000 steps; about 1.2 hours of one core, 862 MB of disk; interrupt it at will"
    )


# --- what ships -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_the_card_is_made_of_its_facts_and_tells_the_weights(name: str) -> None:
    folder = WEIGHTS[name]
    facts = read_json(folder / "card.json")
    assert (folder / "README.md").read_text() == card(facts)
    model = {"sam": Sam, "clipseg": ClipSeg}[name]("embedded", "cpu")
    assert (model.folder, model.name) == (str(folder), f"embedded-{name}@{facts['weights']}")
    assert (folder / "model.safetensors").stat().st_size < 6_000_000
    assert set(facts["recipe"]) == {each.name for each in dataclasses.fields(RIVALS[name])}


FLOORS = {"sam": {"point": 0.5, "box": 0.6}, "clipseg": {"photo": 0.25, "phrase": 0.35}}


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_the_weights_do_what_their_card_says(name: str) -> None:
    found = quality(name, WEIGHTS[name], 4)
    for kind, least in FLOORS[name].items():
        assert found[kind]["iou_mean"] > least, (name, kind, found)


# --- methods --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject() -> Subject:
    rng = random.Random(5)
    scenes = [compose(rng, [RED], Plan((60.0, 70.0))) for _ in range(2)]
    return Subject("mine", "mug", tuple(each.image for each in scenes), tuple(each.masks[0] for each in scenes))


SCENE = compose(random.Random(6), [RED, PLAIN, BLUE], Plan((45.0, 50.0)))
QUERIES = [Query("a", "mine", "the {subject}"), Query("b", "mine", "the {subject} left of the ball")]


def test_several_points_are_decoded_as_each_alone() -> None:
    model = Sam("embedded", "cpu")
    frame, features = model.encode(SCENE.image)
    points = [(20, 30), (100, 60)]
    for point, each in zip(points, model.decode_each(frame, features, points), strict=True):
        alone = model.decode(frame, features, Prompt((point,), (1,)), True)
        assert torch.allclose(each.logits, alone.logits, atol=1e-3)
        assert torch.allclose(each.quality, alone.quality, atol=1e-5)
    assert model.decode_each(frame, features, []) == []


def test_peaks_are_higher_than_all_around_them_and_come_highest_first() -> None:
    map_ = np.zeros((6, 9))
    map_[1, 2], map_[1, 3], map_[4, 7] = 3.0, 2.0, 5.0
    assert peaks(map_, 2, 1) == [(7, 4), (2, 1)]
    assert peaks(map_, 1, 1) == [(7, 4)]
    assert (3, 1) not in peaks(map_, 9, 1)
    assert peaks(np.ones((3, 4)), 9, 1) == [(0, 0), (2, 0), (0, 2), (2, 2)], "of a plateau, points that are apart"


def test_of_masks_that_overlap_the_first_is_kept() -> None:
    masks = [draw_box((6, 9), 0, 0, 4, 4), draw_box((6, 9), 0, 0, 4, 5), draw_box((6, 9), 4, 4, 6, 9)]
    assert distinct(masks, 0.8) == [0, 2] and distinct(masks, 0.9) == [0, 1, 2] and distinct(masks, 0.9, 1) == [0]


@pytest.mark.parametrize("name", ["persam", "sam-matching"])
def test_candidates_hold_the_answer_and_texts_choose_among_them(name: str, subject: Subject) -> None:
    method = load_method(name)
    assert isinstance(method, GivesCandidates)
    (answer, same) = method.locate(SCENE.image, QUERIES, {"mine": method.learn(subject)})
    found = method.candidates(SCENE.image, subject)
    assert answer.mask is not None and np.array_equal(answer.mask, same.mask), "it reads no text"
    assert np.array_equal(found[0].mask, answer.mask) and len(found) > 1
    scores = [each.score for each in found]
    assert scores == sorted(scores, reverse=True) and 0 <= min(scores) <= max(scores) <= 1
    for n, one in enumerate(found):
        assert one.mask.any() and all(iou(one.mask, other.mask) < 0.8 for other in found[:n])
    reading = load_method(name, MethodOptions(settings={"text.relations": True}))
    (plain, _) = reading.locate(SCENE.image, QUERIES, {"mine": reading.learn(subject)})
    assert plain.mask is not None and np.array_equal(plain.mask, answer.mask)


@pytest.mark.parametrize("name", ["persam", "persam-f", "sam-matching", "clipseg"])
def test_weights_are_told_by_their_content_wherever_they_lie(name: str) -> None:
    """A row once named the folder in which it was made, and other weights in the same folder were the same row."""
    found = identity(load_method(name, MethodOptions()))["weights"]
    assert found and all(re.fullmatch("[0-9a-f]{16}", value) for value in found.values()), found


def test_no_committed_row_says_where_it_was_made() -> None:
    rows = sorted(Path(__file__).parents[1].glob("leaderboards/*/*.json"))
    told = {
        path.name: str([read_json(path).get(key) for key in ("identity", "settings", "environment")]) for path in rows
    }
    assert len(told) > 30 and [name for name, words in told.items() if re.search(r"['\"]/\w", words)] == []


def test_matching_takes_settings_and_refuses_others(subject: Subject) -> None:
    method = load_method("sam-matching", MethodOptions(settings={"choice": "features", "threshold": 1.0}))
    (answer,) = method.locate(SCENE.image, QUERIES[:1], {"mine": method.learn(subject)})
    assert answer.mask is None and answer.presence is not None and 0 < answer.presence < 1
    with pytest.raises(UnknownNameError, match="unknown choice 'look': did you mean 'looks'"):
        load_method("sam-matching", MethodOptions(settings={"choice": "look"}))
    with pytest.raises(UsageError, match="points=0 makes no sense: expected 1 or more"):
        load_method("sam-matching", MethodOptions(settings={"points": 0}))


def test_matching_learns_from_photos_alone(subject: Subject) -> None:
    method = load_method("sam-matching")
    ids = {method.learn(each).id for each in (subject, Subject("mine", "mug", subject.photos))}
    assert len(ids) == 2


def test_a_description_is_the_noun_with_the_colours_that_the_photos_show() -> None:
    photo = np.full((40, 60, 3), (30, 150, 160), np.uint8)
    photo[10:30, 20:40] = (200, 30, 30)
    mask = draw_box((40, 60), 10, 20, 30, 40)
    assert description(Subject("s", "mug", (photo,), (mask,))) == "red mug"
    photo[10:17, 20:40] = (240, 240, 238)
    assert description(Subject("s", "mug", (photo,), (mask,))) == "red and white mug"


def test_a_visual_prompt_shows_the_subject_light_in_the_dark() -> None:
    photo = np.full((40, 60, 3), 200, np.uint8)
    mask = draw_box((40, 60), 10, 20, 20, 40)
    prompt = visual_prompt(photo, mask)
    assert prompt.shape == (30, 31, 3) and prompt[15, 15, 0] == 200 and prompt[0, 0, 0] == 20
    assert visual_prompt(photo, None) is photo and visual_prompt(photo, np.zeros_like(mask)) is photo


def test_clipseg_is_asked_with_noun_description_or_photos(subject: Subject) -> None:
    scores = {}
    for how in ("query", "noun", "description", "photo"):
        method = load_method("clipseg", MethodOptions(settings={"prompt": how}))
        concept = method.learn(subject)
        first, second = method.locate(SCENE.image, QUERIES, {"mine": concept})
        assert first.score is not None and second.score is not None
        assert np.array_equal(first.score, second.score) == (how in ("noun", "photo")), how
        assert concept.learner == ("noun-only" if how in ("query", "noun") else how)
        scores[how] = first.score
    assert len({each.tobytes() for each in scores.values()}) == 4
    with pytest.raises(UnknownNameError, match="unknown prompt 'foto': did you mean 'photo'"):
        load_method("clipseg", MethodOptions(settings={"prompt": "foto"}))
    with pytest.raises(UsageError, match=r"threshold=2 makes no sense: expected a number in 0\.\.1"):
        load_method("clipseg", MethodOptions(settings={"threshold": 2}))
    with pytest.raises(BackboneError, match=r"reads texts of 64 tokens, and .* has \d+; shorten it"):
        ClipSeg("embedded", "cpu").of_text("mug " * 70)


@pytest.mark.parametrize(("name", "where"), [("persam", "sam.model"), ("clipseg", "clipseg.model")])
def test_weights_that_are_not_installed_are_one_line(
    name: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"prisbench.{where}.FOLDER", tmp_path)
    with pytest.raises(BackboneError, match=r"is not installed; train it with `prisbench train-rival (sam|clipseg) "):
        load_method(name)
