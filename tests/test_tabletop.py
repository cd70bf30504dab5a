"""Tabletop: who the subjects are, what is asked, and that the drawn masks are the truth."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
from pycocotools import mask as coco
from scipy import ndimage

from prisbench.datasets.load import open_dataset
from prisbench.datasets.named import NAMES, build_tabletop, find_dataset
from prisbench.datasets.sources.tabletop import rows as tabletop_rows
from prisbench.errors import DataError, UnknownNameError
from prisbench.tabletop import render as drawing
from prisbench.tabletop import scenes as tabletop
from prisbench.tabletop.render import COLOURS, UNSEEN_PATTERNS, Individual, Placed, Stage, draw
from prisbench.tabletop.scenes import (
    HELD_OUT_PAIRS,
    LEAST_SHARE,
    NOUNS,
    QUERIES,
    SIZES_HW,
    SPLITS,
    TabletopQuery,
    TabletopSubject,
    is_held_out,
    newness,
    ordinary_individuals,
    ordinary_scene,
    query,
    reference_photo,
    relation,
    subjects,
)
from prisbench.types import SLOT
from tests.drawing import FIVE_TYPES

FEW = [subject for subject in subjects() if subject.number < 4]
"""Two mugs and two other things of each split."""


@functools.cache
def captioned(i: int) -> tuple[tabletop.Scene, str]:
    return ordinary_scene(f"test/{i}")


def ordinary(n: int) -> list[tabletop.Scene]:
    return [captioned(i)[0] for i in range(n)]


@pytest.fixture(scope="module")
def asked() -> dict[str, list[TabletopQuery]]:
    """Three queries of each type about a few subjects, by type."""
    return {kind: [query(subject, kind, i) for subject in FEW for i in range(3)] for kind in FIVE_TYPES}


def nouns(scene: tabletop.Scene) -> list[str]:
    return [thing.individual.noun for thing in scene.things]


# --- the same everywhere --------------------------------------------------------------------------------------------


def digest(scene: tabletop.Scene, text: str) -> str:
    masks = [np.packbits(mask).tobytes() for mask in scene.masks]
    return hashlib.sha256(b"".join([scene.image.tobytes(), *masks, text.encode()])).hexdigest()[:16]


COMMITTED = {
    "train/0": "6c0a1d46ee8ccd7f",
    "train/1": "7db94625ea674790",
    "held-out/0": "799f59ff36a423df",
    "plain": "eca8ea06a3e108f1",
    "other-category": "b695d4cf2151eb27",
    "look-alike": "fa426f152a55baea",
    "relation": "a6684baaf2dbb96e",
    "absent": "27e0189ab9de6dc5",
    "photo": "b0fee896b8c81158",
}
"""When one changes, ``tabletop.DIGEST`` does, and ``tabletop.VERSION`` must.  When one of the first three or the photo
changes, ``tabletop.WORLD`` must, and the shipped backbone and all learned concepts are void."""

SMALL_DIGEST = "a12e83e9a750ae5398001ea3d11435098cf89acf40e49b6075b432c319e22b6c"
"""Of the first subject of each split with one query of each type."""


def test_the_same_seed_gives_the_same_bytes_on_every_machine() -> None:
    subject = subjects()[0]
    found = {name: digest(*ordinary_scene(name)) for name in ("train/0", "train/1", "held-out/0")}
    for kind in FIVE_TYPES:
        one = query(subject, kind, 1)
        found[kind] = digest(one.scene, one.text)
    found["photo"] = hashlib.sha256(reference_photo(subject, 0).tobytes()).hexdigest()[:16]
    assert found == COMMITTED
    assert found["plain"] == digest((again := query(subject, "plain", 1)).scene, again.text)


def test_another_seed_is_another_world() -> None:
    assert [s.who for s in subjects(seed=1)] != [s.who for s in subjects(seed=2)]
    subject = subjects()[0]
    assert not np.array_equal(reference_photo(subject, 0, seed=1), reference_photo(subject, 0, seed=2))
    assert ordinary_scene("train/0")[1] != ordinary_scene("train/1")[1]


def test_a_scene_does_not_depend_on_what_was_drawn_before(asked: dict[str, list[TabletopQuery]]) -> None:
    one = asked["look-alike"][2]
    random.seed(5)
    np.random.seed(5)
    again = query(one.subject, "look-alike", 2)
    assert np.array_equal(one.scene.image, again.scene.image) and one.text == again.text


def test_the_first_subjects_have_the_frozen_digest(small: Path) -> None:
    assert open_dataset(small).digest == SMALL_DIGEST


def test_another_process_writes_the_same_bytes(small: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from prisbench.datasets.named import build_tabletop\n"
        "from prisbench.tabletop.scenes import QUERIES\n"
        "build_tabletop(sys.argv[1], {'validation': 1, 'test': 1}, dict.fromkeys(QUERIES, 1))\n"
    )
    salted = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=salted)
    files = sorted(path.relative_to(small) for path in small.rglob("*") if path.is_file())
    assert len(files) == 6, "two tables in two splits, manifest and card"
    for name in files:
        assert (small / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_rows_from_the_middle_are_those_of_the_whole() -> None:
    counts, each = {"validation": 0, "test": 2}, {"plain": 1, "absent": 2}
    whole = [row.id for row in tabletop_rows(counts, each)[1]]
    assert len(whole) == 6
    assert [row.id for row in tabletop_rows(counts, each, start=2)[1]] == whole[2:]
    assert list(tabletop_rows(counts, each, start=6)[1]) == []


@pytest.mark.slow
def test_the_benchmark_has_its_digest_and_the_same_bytes_twice(tmp_path: Path) -> None:
    manifest = build_tabletop(tmp_path / "one")
    assert manifest.digest == tabletop.DIGEST
    assert manifest.id == f"tabletop-v{tabletop.VERSION}" and manifest.seed == tabletop.SEED
    assert manifest.subjects == SPLITS
    assert manifest.queries["test"] == {kind: 24 * n for kind, n in QUERIES.items()}
    assert build_tabletop(tmp_path / "two").files == manifest.files


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_scenes_have_every_size_and_none_is_square() -> None:
    assert {scene.image.shape[:2] for scene in ordinary(40)} == set(SIZES_HW)
    assert all(h != w and h % 16 == w % 16 == 0 for h, w in SIZES_HW)


def test_masks_are_disjoint_and_everything_named_shows_enough_of_itself() -> None:
    for scene in ordinary(40):
        assert sum(mask.astype(int) for mask in scene.masks).max() <= 1
        assert len(scene.masks) == len(scene.things) == len(scene.shares)
        assert all(LEAST_SHARE <= share <= 1 for share in scene.shares)
        assert all(mask.any() for mask in scene.masks)


def alone(stage: Stage, thing: Placed) -> tuple[np.ndarray, int]:
    """What a thing covers of the twice as large canvas with nothing else there, and how much in the frame and out."""
    h, w = stage.size_hw
    ids = np.full((2 * h, 2 * w), -1, dtype=np.int16)
    covered = drawing._paint(np.zeros((2 * h, 2 * w, 3), np.float32), ids, 0, stage, thing)
    return ids == 0, covered


def test_masks_are_what_is_left_of_each_thing_drawn_alone() -> None:
    hidden = 0
    for scene in ordinary(40):
        silhouettes = [alone(scene.stage, thing) for thing in scene.things]
        left = []
        for i, (silhouette, covered) in enumerate(silhouettes):
            nearer = np.any([other for other, _ in silhouettes[i + 1 :]] or [np.zeros_like(silhouette)], axis=0)
            left.append(silhouette & ~nearer)
            assert scene.shares[i] == left[i].sum() / covered
            hidden += int((silhouette & nearer).sum())
        nothing = ~np.any([silhouette for silhouette, _ in silhouettes], axis=0)
        votes = np.stack([plane[a::2, b::2] for plane in (nothing, *left) for a in (0, 1) for b in (0, 1)])
        votes = votes.reshape(len(left) + 1, 4, *scene.stage.size_hw).sum(axis=1)
        nearest_first = votes[::-1].argmax(axis=0)  # argmax takes the first: the nearer thing on a tie
        for i, mask in enumerate(scene.masks):
            assert np.array_equal(mask, nearest_first == len(left) - 1 - i)
    assert hidden > 300, "some things stand before others"


def test_recolouring_a_thing_changes_its_mask_and_nothing_beyond_its_rim() -> None:
    seen = 0
    for scene in ordinary(60):
        for i, thing in enumerate(scene.things):
            if thing.individual.noun in ("mug", "bowl", "vase", "ball"):
                pictures = []
                for colour in ("black", "white"):
                    plain = dataclasses.replace(thing.individual, main=colour, second=colour, pattern="plain")
                    others = [dataclasses.replace(t, individual=plain) if t is thing else t for t in scene.things]
                    image, ids, _ = draw(scene.stage, others)
                    assert np.array_equal(ids == i, scene.masks[i]), "colours and patterns do not change a shape"
                    pictures.append(image.astype(int))
                changed = (pictures[0] != pictures[1]).any(axis=2)
                assert not (scene.masks[i] & ~changed).any()
                assert not (changed & ~ndimage.binary_dilation(scene.masks[i], np.ones((3, 3)))).any()
                seen += 1
    assert seen > 20


def test_every_pattern_can_be_told_from_every_other_on_every_noun() -> None:
    stage = dataclasses.replace(ordinary(1)[0].stage, size_hw=(112, 144), light=1.0, light_x=0.0, noise=0.0)
    for noun in NOUNS:
        pictures = []
        for pattern in (*drawing.SEEN_PATTERNS, *UNSEEN_PATTERNS):
            who = Individual(noun, "black", "white", pattern, (0.5, 0.5, 0.5, 0.5), (0.0, 0.0))
            image, ids, _ = draw(stage, [Placed(who, 72.0, 104.0, 70.0, 0.2)])
            pictures.append(image[ids == 0].astype(int))
        for i, one in enumerate(pictures):
            for other in pictures[:i]:
                # a plant's pot is so low that "dipped" is one broad stripe: 1.6 % of the plant tell the two apart
                assert (np.abs(one - other).max(axis=1) > 60).mean() > (0.05 if noun != "plant" else 0.01), noun


def test_an_individual_looks_the_same_on_another_stage() -> None:
    """The same shape and colours at the same scale and turn, whatever the surface, the wall and the place."""
    who = FEW[0].who
    stages = [
        dataclasses.replace(scene.stage, size_hw=(112, 144), light=1.0, light_x=0.0, warmth=0.0, noise=0.0)
        for scene in ordinary(2)
    ]
    crops = []
    for stage, x, y in zip(stages, (50.0, 80.0), (90.0, 100.0), strict=True):
        image, ids, _ = draw(stage, [Placed(who, x, y, 60.0, 0.3)])
        inside = ndimage.binary_erosion(ids == 0)
        crops.append(image[inside].astype(int))
    differ = np.abs(crops[0] - crops[1]).max(axis=1) > 1
    assert differ.mean() < 0.002, "a pixel on a pattern's edge may fall to either side"


# --- what training sees ---------------------------------------------------------------------------------------------


def test_training_never_shows_a_pattern_or_a_colour_pair_of_the_subjects() -> None:
    shown = [thing.individual for scene in ordinary(150) for thing in scene.things]
    assert len(shown) > 300 and not any(is_held_out(who) for who in shown)
    pairs = {frozenset((who.main, who.second)) for who in shown}
    assert len(pairs) == 66 - len(HELD_OUT_PAIRS) == 45, "all other pairs are shown"
    assert {who.pattern for who in shown} == set(drawing.SEEN_PATTERNS)
    assert {who.noun for who in shown} == set(NOUNS)
    assert {who.main for who in shown} == set(COLOURS)


def test_who_stands_in_a_training_scene_is_known_without_drawing_it() -> None:
    for i, scene in enumerate(ordinary(60)):
        there = {thing.individual for thing in scene.things}
        assert set(ordinary_individuals(f"test/{i}")) == there and len(ordinary_individuals(f"test/{i}")) == len(
            scene.things
        )


def test_captions_say_what_stands_there() -> None:
    for i in range(60):
        scene, caption = captioned(i)
        there = Counter(nouns(scene))
        words = caption.replace(",", "").split()
        named = Counter(word for word in words if word in NOUNS)
        assert named and named <= there, caption
        known = {thing.individual.main for thing in scene.things} | {t.individual.second for t in scene.things}
        assert {word for word in words if word in COLOURS} <= known, caption
        assert not any(pattern in words for pattern in UNSEEN_PATTERNS)
        assert words[0] in ("a", "an") and " a o" not in f" {caption}".replace(" a of", "")


def test_many_scenes_hold_two_of_a_noun() -> None:
    several = [Counter(nouns(scene)) for scene in ordinary(120) if len(scene.things) > 1]
    assert 0.4 < np.mean([max(count.values()) > 1 for count in several]) < 0.8


# --- subjects -------------------------------------------------------------------------------------------------------


def test_twelve_validation_and_24_test_subjects_a_third_of_them_mugs() -> None:
    found = subjects()
    for split, n in (("validation", 12), ("test", 24)):
        kinds = Counter(s.who.noun for s in found if s.split == split)
        assert sum(kinds.values()) == n and kinds["mug"] == n // 3
        assert set(kinds) >= ({"mug"} if split == "validation" else set(NOUNS))


def test_every_subject_breaks_with_training_in_its_pattern_or_its_colours() -> None:
    for subject in subjects():
        who = subject.who
        assert is_held_out(who)
        assert who.pattern in UNSEEN_PATTERNS or frozenset((who.main, who.second)) in HELD_OUT_PAIRS
    ways = Counter(subject.who.pattern in UNSEEN_PATTERNS for subject in subjects())
    assert min(ways[True], ways[False]) >= 9, "both ways are taken"


def test_subjects_are_apart_from_one_another_and_between_splits() -> None:
    looks = [(s.who.noun, s.who.pattern, s.who.main, s.who.second) for s in subjects()]
    assert len(set(looks)) == len(looks) == 36
    assert len({s.who for s in subjects()}) == 36


def test_a_small_set_is_a_part_of_the_large_one() -> None:
    small = subjects({"validation": 1, "test": 2})
    assert [(s.split, s.number) for s in small] == [("validation", 0), ("test", 0), ("test", 1)]
    assert all(s in subjects() for s in small)


def test_a_subject_is_the_same_individual_wherever_it_appears(asked: dict[str, list[TabletopQuery]]) -> None:
    sizes, turns, lights = set(), set(), set()
    for kind, queries in asked.items():
        for one in queries:
            if kind == "absent":
                assert one.target is None
                assert one.subject.who not in [thing.individual for thing in one.scene.things]
                continue
            assert one.target is not None
            placed = one.scene.things[one.target]
            assert placed.individual == one.subject.who
            assert [t.individual for t in one.scene.things].count(one.subject.who) == 1
            sizes.add(placed.scale)
            turns.add(placed.turn)
            lights.add((one.scene.stage.light, one.scene.stage.light_x))
    assert min(len(sizes), len(turns), len(lights)) > 80, "other scales, sides and lights each time"


def test_reference_photos_differ_and_are_no_scenes(asked: dict[str, list[TabletopQuery]]) -> None:
    photos = [reference_photo(FEW[0], i) for i in range(tabletop.PHOTOS)]
    scenes = [one.scene.image for queries in asked.values() for one in queries]
    assert len({photo.tobytes() for photo in photos} | {scene.tobytes() for scene in scenes}) == 5 + len(scenes)
    assert all(photo.shape[:2] in SIZES_HW for photo in photos)


# --- queries --------------------------------------------------------------------------------------------------------


def test_a_subject_has_at_least_30_queries_over_all_types() -> None:
    assert tuple(QUERIES) == FIVE_TYPES
    assert sum(QUERIES.values()) >= 30
    found = Counter(one.query_type for one in tabletop.queries(FEW[0]))
    assert found == QUERIES


def test_every_text_has_the_slot_once_and_is_plain_words(asked: dict[str, list[TabletopQuery]]) -> None:
    for queries in asked.values():
        for one in queries:
            assert one.text.count(SLOT) == 1 and "{surface}" not in one.text
            assert " ".join(one.text.split()) == one.text


def test_a_plain_scene_holds_the_subject_alone(asked: dict[str, list[TabletopQuery]]) -> None:
    assert all(len(one.scene.things) == 1 for one in asked["plain"])


def test_other_categories_are_one_to_three_things_of_other_nouns(asked: dict[str, list[TabletopQuery]]) -> None:
    for one in asked["other-category"]:
        others = [thing for i, thing in enumerate(one.scene.things) if i != one.target]
        assert 1 <= len(others) <= 3
        assert all(thing.individual.noun != one.subject.who.noun for thing in others)
    assert {len(one.scene.things) for one in asked["other-category"]} == {2, 3, 4}


def test_look_alikes_are_one_to_three_of_the_same_noun_that_look_otherwise(
    asked: dict[str, list[TabletopQuery]],
) -> None:
    counts = set()
    for one in asked["look-alike"]:
        who = one.subject.who
        twins = [t.individual for t in one.scene.things if t.individual.noun == who.noun and t.individual != who]
        counts.add(len(twins))
        for twin in twins:
            assert twin.main != who.main or (twin.pattern != who.pattern and twin.second != who.second)
            assert (twin.pattern, twin.main, twin.second) != (who.pattern, who.second, who.main)
    assert counts == {1, 2, 3}


def test_everything_in_a_scene_is_as_new_to_training_as_the_subject(asked: dict[str, list[TabletopQuery]]) -> None:
    kinds = Counter[tuple[bool, bool]]()
    for queries in asked.values():
        for one in queries:
            kinds.update(newness(thing.individual) for thing in one.scene.things)
            assert {newness(thing.individual) for thing in one.scene.things} == {newness(one.subject.who)}
    assert set(kinds) == {(True, False), (False, True), (True, True)}


def told(text: str) -> tuple[str, list[str]] | None:
    """How a text says the subject stands, and to what: ("left of", ["red", "mug"])."""
    for how in ("left of", "right of", "in front of", "behind"):
        if f" {how} the " in text:
            return how, text.split(f" {how} the ")[1].split()
    return None


def stands(how: str, thing: Placed, mark: Placed) -> bool:
    dx, dy = thing.x - mark.x, thing.y - mark.y
    return {"left of": dx < -18, "right of": dx > 18, "in front of": dy > 14, "behind": dy < -14}[how]


def landmark(one: TabletopQuery, words: list[str]) -> Placed:
    """The only thing of the landmark's noun; the words are true of it, and training's captions have them all."""
    (mark,) = [thing for thing in one.scene.things if thing.individual.noun == words[-1]]
    who = mark.individual
    assert who.noun != one.subject.who.noun
    assert set(words[:-1]) <= {who.main, who.second, who.pattern} and not set(words) & set(UNSEEN_PATTERNS)
    return mark


def test_a_relation_is_true_of_where_things_stand(asked: dict[str, list[TabletopQuery]]) -> None:
    ways = set()
    for one in asked["relation"]:
        said = told(one.text)
        assert said is not None and one.target is not None
        assert stands(said[0], one.scene.things[one.target], landmark(one, said[1])), one.text
        ways.add(said[0])
    assert len(ways) >= 3


@pytest.mark.parametrize(
    ("xy", "how"),
    [
        ((-30, 0), "left of"),
        ((30, 5), "right of"),
        ((0, 20), "in front of"),
        ((5, -20), "behind"),
        ((10, 5), None),
        ((20, 20), None),
    ],
)
def test_relations_by_pencil(xy: tuple[float, float], how: str | None) -> None:
    who = FEW[0].who
    assert relation(Placed(who, 50.0 + xy[0], 60.0 + xy[1], 40.0, 0.0), Placed(who, 50.0, 60.0, 40.0, 0.0)) == how


@pytest.fixture(scope="module")
def absent() -> list[TabletopQuery]:
    """All absent queries about a few subjects."""
    return [query(subject, "absent", i) for subject in FEW for i in range(QUERIES["absent"])]


def test_an_absent_scene_is_made_like_the_others_with_something_else_in_the_subjects_place(
    absent: list[TabletopQuery],
) -> None:
    assert {len(one.scene.things) for one in absent} == {1, 2, 3, 4}
    twins = [nouns(one.scene).count(one.subject.who.noun) for one in absent]
    assert set(twins) >= {0, 1, 2}, "as many things of the noun as in a look-alike query, too"
    assert all(n for i, n in enumerate(twins) if i % QUERIES["absent"] % 2), "every second time a look-alike"
    assert 0.45 < np.mean([n > 0 for n in twins]) < 0.75


def test_an_absent_subject_may_be_asked_for_by_a_relation_that_something_else_fulfils(
    absent: list[TabletopQuery],
) -> None:
    with_relation = [(one, said) for one in absent if (said := told(one.text))]
    assert 6 <= len(with_relation) <= 16, "6 of 29 of the present ones have a relation"
    for one, (how, words) in with_relation:
        mark = landmark(one, words)
        assert any(stands(how, thing, mark) for thing in one.scene.things if thing is not mark)


# --- as files -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("tabletop") / "small"
    build_tabletop(folder, {"validation": 1, "test": 1}, dict.fromkeys(FIVE_TYPES, 1))
    yield folder


def test_a_small_set_opens_with_hugging_face_datasets(small: Path, tmp_path: Path) -> None:
    kept = {"cache_dir": str(tmp_path / "cache")}
    table = datasets.load_dataset(str(small), split="test", **kept)
    assert sorted(table["query_type"]) == sorted(FIVE_TYPES)
    people = datasets.load_dataset(str(small), "subjects", split="test", **kept)
    assert len(people) == 1 and len(people[0]["photos"]) == tabletop.PHOTOS
    subject = TabletopSubject("test", 0, subjects()[12].who)
    assert np.array_equal(np.asarray(people[0]["photos"][0]), reference_photo(subject, 0))
    for row in table:
        one = query(subject, row["query_type"], 0)
        assert np.array_equal(np.asarray(row["image"]), one.scene.image)
        truth = one.scene.masks[one.target] if one.target is not None else np.zeros(one.scene.image.shape[:2], bool)
        assert np.array_equal(coco.decode(row["mask"]).astype(bool), truth)
        assert (row["text"], row["noun"], row["subject_id"]) == (one.text, subject.who.noun, people[0]["id"])
        twins = [
            mask
            for i, (thing, mask) in enumerate(zip(one.scene.things, one.scene.masks, strict=True))
            if thing.individual.noun == subject.who.noun and i != one.target
        ]
        found = [coco.decode(rle).astype(bool) for rle in row["look_alikes"]]
        assert len(found) == len(twins) and all(np.array_equal(a, b) for a, b in zip(found, twins, strict=True))


def test_a_small_set_is_sound_and_says_that_it_is_not_the_benchmark(small: Path) -> None:
    dataset = open_dataset(small, verify=True)
    assert dataset.id == f"tabletop-custom-v{tabletop.VERSION}" and dataset.manifest.seed == tabletop.SEED
    assert dataset.manifest.queries["test"] == dict.fromkeys(FIVE_TYPES, 1)
    assert find_dataset(str(small)).digest == dataset.digest


def test_the_same_set_twice_has_the_same_digest_and_another_seed_another(small: Path, tmp_path: Path) -> None:
    each = dict.fromkeys(FIVE_TYPES, 1)
    again = build_tabletop(tmp_path / "again", {"validation": 1, "test": 1}, each)
    other = build_tabletop(tmp_path / "other", {"validation": 1, "test": 1}, each, seed=1)
    assert again.digest == open_dataset(small).digest != other.digest


def test_an_unknown_dataset_offers_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=rf"unknown dataset.*'tabletop-1': did you mean '{NAMES[0]}'"):
        find_dataset("tabletop-1")


def test_a_stale_benchmark_in_the_cache_is_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / NAMES[0]).symlink_to(small)
    with pytest.raises(DataError, match=rf"{NAMES[0]} has the digest .* remove that folder and it is drawn again"):
        find_dataset(NAMES[0])
