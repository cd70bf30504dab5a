"""``attn-features``: words find the subject in its own photos, its looks there choose among regions."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from prisbench.appearance import fitting, own_photos
from prisbench.appearance.choice import FILE, choose, landmarks, regions_of
from prisbench.appearance.known import KNOWN, Looks, known_again, rows
from prisbench.appearance.method import FeaturesMethod, Own, looks_of
from prisbench.appearance.own_photos import overlaps
from prisbench.appearance.sight import Among, Sight, found_part, outlined, resized
from prisbench.cli.main import app
from prisbench.datasets.load import Dataset
from prisbench.errors import DataError, PrisbenchError, UsageError
from prisbench.localizer.presets import preset
from prisbench.methods import load_method
from prisbench.network_free.evidence import Evidence, Scene
from prisbench.network_free.fitting import Seen
from prisbench.network_free.likeness import COLOUR, NAMES, likeness
from prisbench.network_free.model import learn
from prisbench.network_free.weights import Weights, read_weights
from prisbench.phrases import Condition
from prisbench.settings import MethodOptions
from prisbench.split_subjects import given
from prisbench.types import Query, Subject
from tests.test_network_free import BLUE, RED, SIZE, dataset, photos, put, table

__all__ = ["dataset"]

SHOWN, MASKS = photos(RED)
THING = Subject("red-1", "mug", tuple(SHOWN))
NOWHERE = np.zeros(SIZE, np.float32)
SCENE = Scene(table(1), "none")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> MethodOptions:
    folder = tmp_path_factory.mktemp("features")
    model = str(tiny.save(folder / "tiny"))
    return MethodOptions(concept="noun-only", model=model, store=str(folder / "store"))


@pytest.fixture(scope="module")
def method(options: MethodOptions) -> FeaturesMethod:
    found = load_method("attn-features", options)
    assert type(found).__name__ == "FeaturesMethod"
    return found  # type: ignore[return-value]


def sight(map_: np.ndarray = NOWHERE, **more: Any) -> Sight:
    return Sight(map_, more.get("landmarks", {}))


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo with the red thing and the blue one, and their masks."""
    image = table(7)
    return image, put(image, 30, 8, RED), put(image, 30, 60, BLUE)


def test_a_concept_is_words_and_looks_and_says_what_it_saw(method: FeaturesMethod) -> None:
    concept = method.learn(THING)
    assert concept.learner == "noun-only" and concept.recipe["features"]["reference"] == "photos"
    assert looks_of(SCENE, concept).evidence.model.own.shape[0] > 0
    masked_again = method.learn(Subject("red-1", "mug", tuple(SHOWN), (*MASKS[:2], ~MASKS[2])))
    again, masked = method.learn(THING), method.learn(Subject("red-1", "mug", tuple(SHOWN), tuple(MASKS)))
    assert again.id == concept.id != masked.id and masked.recipe["features"]["reference"] == "photos+masks"
    assert len({concept.id, masked.id, masked_again.id}) == 3, "other masks, other looks"
    true = learn(Subject("red-1", "mug", tuple(SHOWN), tuple(MASKS)))
    assert np.array_equal(looks_of(SCENE, masked).evidence.model.colour, true.colour), (
        "masks that are given are used as they are"
    )
    with pytest.raises(DataError, match="not one of a network-free method"):
        looks_of(SCENE, method.words.learn(THING))


def test_a_given_mask_stays_and_a_missing_one_is_found(method: FeaturesMethod) -> None:
    some = Subject("red-1", "mug", tuple(SHOWN), (MASKS[0], None, MASKS[2]))
    found = outlined(method.reader(), some, method.words.learn(some))
    assert np.array_equal(found.masks[0], MASKS[0]) and np.array_equal(found.masks[2], MASKS[2])  # type: ignore[arg-type]
    assert found.masks[1] is not None and found.masks[1].any()
    assert method.learn(some).recipe["features"]["reference"] == "photos", "not all of its masks came with it"


def test_the_part_with_the_highest_pixel_is_the_subject_in_its_photo() -> None:
    image, red, blue = scene()
    map_ = np.where(red, 1.0, np.where(blue, 0.8, 0.02)).astype(np.float32)
    found = found_part(map_, image, preset("accurate", "embedded"))
    assert found[red].mean() > 0.9 and not found[blue].any()
    flat = np.full(SIZE, 1e-3, np.float32)
    flat[40, 10] = 2e-3  # the refinement leaves nothing of it
    assert found_part(flat, image, preset("accurate", "embedded"))[40, 10]


def test_looks_choose_among_the_parts_that_words_show() -> None:
    """Words that show both things alike, weights that trust colours alone."""
    image, red, blue = scene()
    evidence = Evidence(Scene(image, "none"), learn(Subject("red-1", "mug", tuple(SHOWN), tuple(MASKS))))
    looks = Looks(evidence)
    both = sight(np.where(red | blue, 1.0, 0.0).astype(np.float32))
    weight = tuple(5.0 if name in COLOUR else 0.0 for name in NAMES)
    trusting = Weights(NAMES, (0.5,) * len(NAMES), (1.0,) * len(NAMES), weight, 0.0, power=1.0)
    settings = preset("accurate", "embedded")
    found = choose(looks, both, settings, trusting, "the {subject}")
    assert found.place is not None and (found.regions[found.place] & red).sum() > 0.7 * red.sum()
    asked = choose(looks, both, settings, trusting, "the rightmost {subject}")
    assert asked.presence <= found.presence, "what a text says of place can only take away"
    assert choose(looks, sight(), settings, trusting, "the {subject}").presence > 0


def test_a_scene_is_read_without_evidence_and_a_photo_with_it(method: FeaturesMethod) -> None:
    assert not method.reader().settings.evidence and method.reader(evidence=True).settings.evidence
    assert "evidence" not in method.cost((112, 144)) and "1 noises a photo" in method.cost((112, 144))


def test_regions_come_from_both_maps_each_place_once() -> None:
    image, red, blue = scene()
    evidence = Evidence(Scene(image, "none"), learn(Subject("red-1", "mug", tuple(SHOWN), tuple(MASKS))))
    looks = regions_of(evidence, sight())
    both = regions_of(evidence, sight(np.where(blue, 1.0, 0.0).astype(np.float32)))
    assert any((each & red).sum() / (each | red).sum() > 0.7 for each in looks)
    assert len(both) > len(looks) and any((each & blue).sum() / (each | blue).sum() > 0.7 for each in both)
    assert len(regions_of(evidence, sight(np.where(looks[0], 1.0, 0.0).astype(np.float32)))) == len(looks)


def test_a_landmark_is_found_by_its_words_and_else_by_its_colour() -> None:
    image, red, blue = scene()
    evidence = Evidence(Scene(image, "none"), learn(Subject("red-1", "mug", tuple(SHOWN), tuple(MASKS))))
    settings, asked = preset("accurate", "embedded"), Condition("left_of", "a blue box")
    ((mask, _),) = landmarks(
        evidence, sight(landmarks={"a blue box": np.where(red, 1.0, 0.0).astype(np.float32)}), settings
    )(asked)
    assert mask[red].mean() > 0.8, "by its words, whatever its colour is"
    shown, found = sight(landmarks={"a blue box": (0.2 * red + 0.6 * blue).astype(np.float32)}), [red, blue]
    weights = [weight for _, weight in landmarks(evidence, shown, settings, found)(asked)]
    assert weights == pytest.approx([0.2, 0.6]), "things that were found, by the map on each"
    for things in ((), found):
        by_colour = landmarks(evidence, sight(landmarks={"a blue box": NOWHERE}), settings, things)(asked)
        assert blue[max(by_colour, key=lambda each: each[1])[0]].mean() > 0.8


def test_an_answer_has_the_photos_size_and_not_its_company(method: FeaturesMethod) -> None:
    method = FeaturesMethod(method.words, Own(threshold=0.0))  # a random network's finds are not like the photos'
    image, _, _ = scene()
    large = np.repeat(np.repeat(image, 3, axis=0), 3, axis=1)[:, :270]
    other = Subject("blue-1", "mug", tuple(photos(BLUE)[0]))
    concepts = {each.id: method.learn(each) for each in (THING, other)}
    queries = [
        Query("a", "red-1", "the leftmost {subject}"),
        Query("b", "blue-1", "a photo of a {subject}"),
        Query("c", "red-1", "the {subject} left of a blue box"),
    ]
    together, backwards = method.locate(large, queries, concepts), method.locate(large, queries[::-1], concepts)[::-1]
    alone = [method.locate(large, [query], concepts)[0] for query in queries]
    for first, *rest in zip(together, backwards, alone, strict=True):
        assert first.presence is not None and 0 <= first.presence <= 1
        assert first.mask is None or (first.mask.shape == large.shape[:2] and first.mask.any())
        assert first.peak_yx is None or (first.mask is not None and first.peak_yx[0] < 216 and first.peak_yx[1] < 270)
        for again in rest:
            assert first.presence == again.presence and first.peak_yx == again.peak_yx
            assert np.array_equal(first.mask, again.mask) if first.mask is not None else again.mask is None
    assert any(each.mask is not None for each in together)
    found = method.candidates(image, THING)
    assert found and [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_a_map_of_another_size_keeps_its_places() -> None:
    map_ = np.zeros((20, 30), np.float32)
    map_[10:, 15:] = 1
    assert resized(map_, (20, 30)) is not None and resized(map_, (10, 15))[7:, 10:].min() == 1
    assert resized(map_, (40, 60))[:16, :24].max() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tau": 0.3}, r"unknown setting 'tau': those of attn-features begin with 'features\.', 'localizer\.'"),
        ({"features.treshold": 0.3}, "did you mean 'features.threshold'"),
        ({"features.balance": "sepia"}, "unknown balance 'sepia'"),
        ({"features.threshold": "high"}, "of another kind than its default"),
        ({"features.balance": None}, "unknown balance 'None'"),
        ({"features.threshold": 5}, "threshold=5: give a presence in 0..1, or -1"),
        ({"features.threshold": -0.5}, "threshold=-0.5: give a presence in 0..1, or -1"),
        ({"features.threshold": None}, "threshold=None: give a presence in 0..1, or -1"),
        ({"features.looks": "guessed"}, "unknown kind of looks 'guessed'"),
        ({"features.looks": "learned"}, "looks=learned knows things again; it needs features.regions=things"),
        ({"features.reid": "there"}, "reid names a network that knows things again; it needs features.looks=learned"),
        ({"learner.stepz": 3}, "did you mean 'learner.steps'"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(options: MethodOptions, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(PrisbenchError, match=said) as error:
        load_method("attn-features", MethodOptions(model=options.model, store=options.store, settings=settings))
    assert "\n" not in str(error.value)
    with pytest.raises(PrisbenchError, match=said):  # before weights are loaded
        FeaturesMethod.check(MethodOptions(settings=settings))


def test_cues_that_tell_more_are_worth_more() -> None:
    """Colours that know the answer, the rest is chance; a subject's own queries are never fitted on."""
    rng, seen, asked, at = np.random.default_rng(0), [], {}, NAMES.index(COLOUR[0])
    for n in range(80):
        right, kind = int(rng.integers(3)), "absent" if n % 8 == 7 else "plain"
        rows = rng.normal(size=(3, len(NAMES)))
        rows[right, at] += 6
        overlap = np.where(np.arange(3) == right, 0.9, 0.0)
        if kind == "absent":
            rows[:, at], overlap = -6, np.zeros(3)
        seen.append(Seen(f"q{n}", kind, rows, overlap, overlap, None))
        asked[f"q{n}"] = fitting.Asked(f"s{n % 10}", f"p{n // 2}" if n % 8 > 5 else None)
    found = {row.cues: row for row in fitting.worth(seen, asked)}
    assert found["colour"].miou > 0.8 > 0.5 > found["patches"].miou and found["colour"].n == 70
    assert found["all that is counted"].miou > 0.7 and found["colour"].silent == 1.0
    assert found["colour"].pairs == 1.0 > found["patches"].pairs  # type: ignore[operator]
    known = found[fitting.TOLD]
    assert (known.miou, known.silent, known.pairs) == pytest.approx((0.9, 1.0, 1.0)), "nothing but regions is lost"
    assert "| colour | 70 |" in fitting.markdown(list(found.values()))


def test_the_command_fits_and_keeps_weights_of_one_setting(
    dataset: Dataset, options: MethodOptions, tmp_path: Path
) -> None:
    file = tmp_path / "weights.json"
    given = ["--dataset", str(dataset.folder), "--concept", "noun-only", "--backbone", str(options.model)]
    given += ["--limit", "4", "--weights", str(file)]
    for more in ((), ("--fit",), ("--fit", "--reference", "photos+masks")):
        done = CliRunner().invoke(app, ["bench", "attn-features", *given, *more])
        assert done.exit_code == 0, done.output
        assert re.search(r"\| all that is counted \| +\d+ \|", done.output) and file.exists() == bool(more)
    kept = json.loads(file.read_text())
    assert set(kept) == {"photos", "photos+masks", "about"} and kept["about"]["photos"]["concept"] == "noun-only"
    assert set(read_weights(file)["photos"]["found"]) == {"attn-features"}


def test_things_are_compared_where_a_network_finds_them(options: MethodOptions) -> None:
    """The embedded network of another world; what it finds here is set by hand."""
    things = FeaturesMethod.make(dataclasses.replace(options, settings={"features.regions": "things"}))
    assert things.name == "attn-features+things" and "things" in things.weights
    assert things.settings["features"]["regions"] == "things"
    image, red, blue = scene()
    masked = Subject("red-1", "mug", tuple(SHOWN), tuple(MASKS))
    concept, query = things.learn(masked), Query("q", "red-1", "the {subject}")
    asked: list[tuple[int, ...]] = []

    def find(photo: np.ndarray) -> list[np.ndarray]:
        asked.append(photo.shape)
        return [blue, red]

    things.finder = find  # type: ignore[assignment]
    things.threshold = 0.0
    (answer,) = things.locate(image, [query], {"red-1": concept})
    assert asked == [image.shape] and answer.mask is not None
    assert answer.mask[red].mean() > 0.8 and not answer.mask[blue].any()
    listed = things.candidates(image, masked)
    assert len(listed) == 2 and listed[0].mask[red].all() and listed[0].score >= listed[1].score
    among = Among(lambda _: [blue, red], lambda views: [1 if len(each.things) > 1 else 0 for each in views])
    some = Subject("red-1", "mug", (image, SHOWN[0]), (None, MASKS[0]))
    found = outlined(things.reader(), some, concept, among)
    assert np.array_equal(found.masks[0], red) and found.masks[1] is MASKS[0]  # type: ignore[arg-type]
    things.finder = lambda _: []  # type: ignore[assignment]
    (other,) = things.locate(image, [query], {"red-1": concept})
    assert other.presence is not None, "regions of the maps where nothing is found"


def test_a_network_knows_things_again_beside_what_is_counted(options: MethodOptions) -> None:
    """Vectors set by hand: the blue thing is known again, whatever its colours are."""
    given = {"features.regions": "things", "features.looks": "learned"}
    method = FeaturesMethod.make(dataclasses.replace(options, settings=given))
    assert method.name == "attn-features+things+reid" and {"things", "reid"} <= set(method.weights)
    assert method.settings["features"] == {
        "balance": "none",
        "threshold": -1.0,
        "regions": "things",
        "looks": "learned",
    }
    _, red, blue = scene()
    asked: list[int] = []

    def know(photo: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
        asked.append(len(masks))
        own = len(masks) == 1  # a photo of the subject
        return np.array([[1.0, 0.0] if own or each is blue else [0.0, 1.0] for each in masks], np.float32)

    method.finder, method.knower = (lambda _: [red, blue]), know  # type: ignore[assignment]
    concept = method.remember(Subject("red-1", "mug", tuple(SHOWN), tuple(MASKS)))
    assert concept.tensors["features.vectors"].shape == (len(SHOWN), 2) and asked == [1] * len(SHOWN)
    things, looks = method.things(SCENE), looks_of(SCENE, concept)
    assert things.vectors is not None and things.vectors.tolist() == [[0, 1], [1, 0]]
    only = Weights(KNOWN, (0.5,) * 4, (1.0,) * 4, (8.0, 0.0, 0.0, 0.0), 0.0)
    found = choose(looks, sight(), preset("accurate", "embedded"), only, "the {subject}", things)
    assert found.place == 1, "the thing whose vector is that of the photos"
    both = rows(looks, things.masks, things.vectors, "together", (*COLOUR, *KNOWN))
    assert both.shape == (2, len(COLOUR) + 4)
    assert np.array_equal(both[:, : len(COLOUR)], likeness(looks.evidence, things.masks, "together", COLOUR))
    with pytest.raises(DataError, match=r"no weights of 'attn-features' for things, learned regions and sketches"):
        method._fitted("sketches")


def test_how_well_a_thing_is_known_again_is_the_mean_and_the_best_of_the_photos() -> None:
    photos = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    found = known_again(np.array([[1.0, 0.0], [0.6, 0.8]], np.float32), photos)
    np.testing.assert_allclose(found, [[0.5, 1.0, -0.2, 0.2], [0.7, 0.8, 0.2, -0.2]], atol=1e-6)
    np.testing.assert_allclose(known_again(np.array([[1.0, 0.0]], np.float32), photos), [[0.5, 1.0, 0.0, 0.0]])
    assert known_again(np.zeros((0, 2), np.float32), photos).shape == (0, 4)


def test_ways_to_find_a_subject_in_its_own_photos_are_compared(options: MethodOptions) -> None:
    things = FeaturesMethod.make(
        dataclasses.replace(options, settings={"features.regions": "things", "features.wordless": True})
    )
    shown, masks = photos(RED)
    others = [put(photo, 0, 0, ((40 * n, 60, 190), (220, 90 * n, 220)), 14) for n, photo in enumerate(shown)]
    there = {photo.tobytes(): [other, mask] for photo, other, mask in zip(shown, others, masks, strict=True)}
    things.finder = lambda photo: there[photo.tobytes()]  # type: ignore[assignment]
    found = overlaps(things, [Subject("red-1", "mug", tuple(shown), tuple(masks))])
    assert found["by agreement"] == found["the best thing"] == found["the largest thing"] == {"red-1": 1.0}
    assert found["by words"] == {"red-1": 0.0}, "without words the first thing stands"
    assert "| by agreement | 1 | 1.000 |" in own_photos.markdown(found)
    with pytest.raises(UsageError, match="red-1 has photos without masks"):
        overlaps(things, [THING])


def test_things_without_weights_are_refused_before_anything_is_learned(
    options: MethodOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights.json").write_text("{}")
    monkeypatch.setattr("prisbench.appearance.method.FILE", tmp_path / "weights.json")
    things = FeaturesMethod.make(dataclasses.replace(options, settings={"features.regions": "things"}))
    things.words.learn = None  # type: ignore[assignment]  # nothing is asked to learn
    said = r"fit them with `prisbench bench attn-features --reference photos --set features.regions=things --fit`"
    with pytest.raises(DataError, match=said):
        things.learn(THING)
    with pytest.raises(UsageError, match=r"features.things names a network .*; it needs features.regions=things"):
        FeaturesMethod.check(dataclasses.replace(options, settings={"features.things": "there"}))


def test_without_words_nothing_is_asked_of_the_network(
    dataset: Dataset, options: MethodOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: regions are those of looks, the photos agree among themselves, landmarks are found by colour."""
    control = dataclasses.replace(options, settings={"features.wordless": True})
    FeaturesMethod.check(control)
    with pytest.raises(UsageError, match=r"features.wordless=true learns nothing; it needs --concept noun-only"):
        FeaturesMethod.check(dataclasses.replace(control, concept="textual-inversion"))
    monkeypatch.setattr("prisbench.appearance.sight.observe_all", None)
    method = FeaturesMethod.make(control)
    assert method.name == "attn-features-wordless" and method.settings["features"]["wordless"]
    concepts = {subject.id: method.learn(subject) for subject in given(dataset.subjects("validation"), "photos")}
    seen = list(fitting.look_all(dataset, method, concepts))
    assert len(seen) == len(list(dataset.examples("validation"))) and any(len(each.rows) for each in seen)
    things = FeaturesMethod.make(
        dataclasses.replace(control, settings={**control.settings, "features.regions": "things"})
    )
    assert things.name == "attn-features+things-wordless"
    _, red, blue = scene()
    things.finder = lambda _: [blue, red]  # type: ignore[assignment]
    learned = things.remember(Subject("red-1", "mug", tuple(scene()[0] for _ in range(3))))
    assert learned.recipe["features"]["wordless"] and learned.id != method.learn(THING).id


def test_weights_of_things_are_kept_beside_those_of_maps(tmp_path: Path) -> None:
    file, about = tmp_path / "weights.json", {"dataset": "d"}
    rows = np.random.default_rng(0).normal(size=(4, len(NAMES)))
    seen = [Seen("q", "plain", rows, np.array([0.9, 0.1, 0.0, 0.0]), np.zeros(4), None)]
    for regions in ("found", "things"):
        fitting.fit_file(seen, "photos", about, file, regions)
    kept = json.loads(file.read_text())
    assert set(kept["photos"]) == {"found", "things"} and set(kept["about"]) == {"photos", "photos, things"}


def test_shipped_weights_say_on_what_they_were_fitted() -> None:
    about = json.loads(FILE.read_text())["about"]
    kinds = ("", ", things", ", things, learned")
    assert set(about) == {f"{reference}{kind}" for reference in ("photos", "photos+masks") for kind in kinds}
    for each in about.values():
        assert (each["dataset"], each["split"], each["limit"]) == ("tabletop-v3", "validation", None)


def test_weights_that_are_missing_name_the_command(method: FeaturesMethod) -> None:
    concept = method.learn(THING)
    recipe = {**concept.recipe, "features": {**concept.recipe["features"], "reference": "sketches"}}
    odd = {"red-1": dataclasses.replace(concept, recipe=recipe)}
    with pytest.raises(DataError, match="found regions and sketches; fit them with `prisbench bench attn-features"):
        method.locate(scene()[0], [Query("q", "red-1", "the {subject}")], odd)
