"""Tabletop: what training sees, who the subjects are, that masks are the truth, and the files of a set."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import multiprocessing
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
from pycocotools import mask as coco

from prisbench.datasets.build import build
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import DIGESTS, NAMES, build_tabletop, find_dataset, tabletop_source
from prisbench.datasets.sources.tabletop import BENCHMARK, SIZES, SMALL, Size
from prisbench.datasets.sources.tabletop import rows as tabletop_rows
from prisbench.embedded.denoiser import mirror
from prisbench.errors import DataError, UnknownNameError
from prisbench.runtime import workers
from prisbench.tabletop import ahead, queries
from prisbench.tabletop.camera import Camera
from prisbench.tabletop.captions import LONGEST, WORLD, ordinary_individuals, ordinary_scene, vocabulary
from prisbench.tabletop.individuals import GRADES, has_look_alike
from prisbench.tabletop.looks import COLOURS, HELD_OUT_PAIRS, NOUNS, SEEN_PATTERNS, UNSEEN_PATTERNS, Individual
from prisbench.tabletop.places import PLACES, RELATIONS, at, holds
from prisbench.tabletop.queries import GROUPS, VERSION, Asked, Group, group, plan
from prisbench.tabletop.render import Placed, meet
from prisbench.tabletop.scenes import LEAST_SHARE, LEAST_TALL, MOST_TALL, SIZES_HW, Scene
from prisbench.tabletop.solids import FAR
from prisbench.tabletop.subjects import PHOTOS, SEED, SPLITS, TabletopSubject, photo_mask, reference_photo, subjects
from prisbench.types import GRADES as KNOWN_GRADES
from prisbench.types import SLOT, Example

FIRST = [s for s in subjects() if s.number < 2]
"""The subjects of the small set: of each split one photographed alone and one among things."""
PAIRS = Size({"validation": 1, "test": 1}, {"plain": 1, "relation": 1, "referred": 1})


@functools.cache
def captioned(i: int) -> tuple[Scene, str]:
    return ordinary_scene(f"test/{i}")


def ordinary(n: int) -> list[Scene]:
    return [captioned(i)[0] for i in range(n)]


@functools.cache
def photos(subject: TabletopSubject) -> list[Scene]:
    return [reference_photo(subject, i) for i in range(PHOTOS)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The configuration ``small``, drawn once."""
    folder = tmp_path_factory.mktemp("tabletop") / "small"
    build_tabletop(folder, SMALL)
    return open_dataset(folder, verify=True)


@pytest.fixture(scope="module")
def asked() -> list[Group]:
    """What the small set asks about its last subject, drawn again."""
    return [group(FIRST[-1], kind, index) for kind, index in plan(SMALL.groups)]


# --- the same everywhere --------------------------------------------------------------------------------------------


def digest(scene: Scene, text: str = "") -> str:
    masks = [np.packbits(mask).tobytes() for mask in scene.masks]
    return hashlib.sha256(b"".join([scene.image.tobytes(), *masks, text.encode()])).hexdigest()[:16]


COMMITTED = {
    "train/0": "59b4e227504020e5",
    "train/1": "a3fa94204e5878bd",
    "held-out/0": "d895a9e4a6fa29a7",
    "photo": "3c78345297e51e2f",
}
"""When one changes, ``captions.WORLD`` must, and the shipped backbone and all learned concepts are void."""


def test_training_and_photos_have_the_same_bytes_on_every_machine() -> None:
    found = {name: digest(*ordinary_scene(name)) for name in ("train/0", "train/1", "held-out/0")}
    found["photo"] = digest(photos(FIRST[-1])[0])
    assert found == COMMITTED
    assert WORLD == VERSION == "3"


def test_the_small_set_has_its_digest_which_no_earlier_drawing_changes(small: Dataset) -> None:
    random.seed(5)
    np.random.seed(5)
    assert (small.id, small.manifest.seed, small.digest) == (NAMES[1], SEED, DIGESTS[NAMES[1]])


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from prisbench.datasets.named import build_tabletop\n"
        "from tests.test_tabletop import PAIRS\n"
        "build_tabletop(sys.argv[1], PAIRS)\n"
    )
    salted = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=salted)
    manifest = build_tabletop(tmp_path / "here", PAIRS)
    files = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*") if path.is_file())
    assert len(files) == 6, "two tables in two splits, manifest and card"
    for name in files:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    assert manifest.id == f"tabletop-custom-v{VERSION}", "no part of the benchmark has its name"


def test_several_processes_draw_the_same_scenes_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    one = list(tabletop_rows(PAIRS)[1])
    monkeypatch.setattr(ahead, "MANY", 1)
    monkeypatch.setattr(ahead, "free_cores", lambda: 3)
    table, several = tabletop_rows(PAIRS)
    for a, b in zip(one, several, strict=True):
        assert (a.text, a.pair_id) == (b.text, b.pair_id) and np.array_equal(a.image, b.image)
        assert np.array_equal(a.mask, b.mask)
    assert [row.id for row in table] == [row.id for row in tabletop_rows(PAIRS)[0]]
    begun = tabletop_rows(PAIRS)[1]
    next(begun)
    begun.close()
    assert not multiprocessing.active_children(), "who stops early leaves nobody behind"


def test_without_semaphores_one_process_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError("no semaphores")

    monkeypatch.setattr(workers, "ProcessPoolExecutor", none)
    with workers.forked_processes(4) as pool:
        assert pool is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere one process draws")
def test_who_draws_ahead_ends_with_a_killed_parent() -> None:
    code = (
        "from prisbench.tabletop import ahead\n"
        "from prisbench.tabletop.subjects import SEED, subjects\n"
        "ahead.MANY, ahead.free_cores = 1, lambda: 2\n"
        "one = subjects()[0]\n"
        "found = ahead.all_drawn([(one, 'absent', n, SEED) for n in range(5)] * 1000)\n"
        "next(found)\n"
        "print('drawing', flush=True)\n"
        "list(found)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "drawing\n"
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert len(children) == 2
        parent.kill()
    for _ in range(100):
        if not any(Path(f"/proc/{child}").exists() and _alive(child) for child in children):
            return
        time.sleep(0.1)
    pytest.fail("processes that nobody waits for go on drawing")


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_another_seed_is_another_world() -> None:
    assert [s.who for s in subjects(seed=1)] != [s.who for s in subjects(seed=2)]
    one, two = (reference_photo(FIRST[0], 0, seed) for seed in (1, 2))
    assert digest(one) != digest(two) and tabletop_source(SMALL).key != tabletop_source(SMALL, 1).key


@pytest.mark.slow
def test_the_benchmark_has_its_digest(tmp_path: Path) -> None:
    manifest = build_tabletop(tmp_path / "one")
    assert (manifest.id, manifest.seed, manifest.digest) == (NAMES[0], SEED, DIGESTS[NAMES[0]])
    assert manifest.subjects == SPLITS
    each = {"plain": 3, "other-category": 4, "look-alike": 12, "relation": 4, "contradicted": 4, "referred": 8}
    assert manifest.queries["test"] == {kind: 48 * n for kind, n in (each | {"absent": 5}).items()}


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_scenes_have_every_size_and_none_is_square(asked: list[Group]) -> None:
    assert {scene.image.shape[:2] for scene in ordinary(40)} == set(SIZES_HW)
    assert {one.scene.image.shape[:2] for one in asked} <= set(SIZES_HW)
    assert all(h != w and h % 16 == w % 16 == 0 for h, w in SIZES_HW)


def test_masks_are_disjoint_and_everything_shows_enough_of_itself(asked: list[Group]) -> None:
    for scene in [*ordinary(40), *(one.scene for one in asked)]:
        assert sum(mask.astype(int) for mask in scene.masks).max() == 1
        assert len(scene.masks) == len(scene.things) == len(scene.shares)
        assert all(LEAST_SHARE <= share <= 1 for share in scene.shares)
        assert all(mask.any() for mask in scene.masks)


def longer_side(mask: np.ndarray) -> int:
    return max(int(np.ptp(np.nonzero(mask)[axis])) + 1 for axis in (0, 1))


def test_things_are_large_enough_to_be_known_and_small_enough_for_the_frame(asked: list[Group]) -> None:
    scenes = [*ordinary(40), *photos(FIRST[0]), *photos(FIRST[1]), *(one.scene for one in asked)]
    sides = [
        longer_side(mask)
        for scene in scenes
        for mask, share in zip(scene.masks, scene.shares, strict=True)
        if share > 0.99
    ]
    assert len(sides) > 60
    assert 0.8 * LEAST_TALL <= min(sides) < 1.8 * LEAST_TALL and 0.5 * MOST_TALL < max(sides) <= 1.2 * MOST_TALL


def test_masks_are_what_is_left_of_each_thing_drawn_alone() -> None:
    hidden = 0
    for scene in ordinary(12):
        alone = [meet(scene.stage.camera, [thing]) for thing in scene.things]
        depths = np.stack([one.depth for one in alone])
        nearest = np.where(depths.min(axis=0) < FAR, depths.argmin(axis=0), -1)
        votes = np.stack([nearest == i for i in range(-1, len(alone))])
        votes = sum(votes[:, a::2, b::2].astype(int) for a in (0, 1) for b in (0, 1))
        owner = len(alone) - 1 - votes[::-1].argmax(axis=0)  # argmax takes the first: the later thing on a tie
        for i, (mask, one) in enumerate(zip(scene.masks, alone, strict=True)):
            assert np.array_equal(mask, owner == i)
            whole = (one.hits[0].depth < FAR).sum()  # in the frame and out
            assert scene.shares[i] == pytest.approx((nearest == i).sum() / whole)
            hidden += int(((one.ids == 0) & (nearest != i)).sum())
    assert hidden > 100, "some things stand before others"


# --- what training sees ---------------------------------------------------------------------------------------------


def test_training_never_shows_a_pattern_or_a_colour_pair_of_the_subjects() -> None:
    shown = [who for i in range(1200) for who in ordinary_individuals(f"test/{i}")]
    assert len(shown) > 2500 and not any(who.held_out for who in shown)
    pairs = {frozenset((who.main, who.second)) for who in shown}
    assert len(pairs) == 26 and not pairs & HELD_OUT_PAIRS, "all other pairs that may meet are shown"
    assert {who.pattern for who in shown} == set(SEEN_PATTERNS)
    assert {who.noun for who in shown} == set(NOUNS)
    assert {who.main for who in shown} == set(COLOURS)


def test_who_stands_in_a_training_scene_is_known_without_drawing_it() -> None:
    for i, scene in enumerate(ordinary(40)):
        assert Counter(ordinary_individuals(f"test/{i}")) == Counter(thing.individual for thing in scene.things)


def test_many_scenes_hold_two_of_a_noun_and_some_hold_copies() -> None:
    several = [who for i in range(1200) if len(who := ordinary_individuals(f"test/{i}")) > 1]
    twins, copies = (
        np.mean([max(Counter(key(one) for one in who).values()) > 1 for who in several])
        for key in (lambda one: one.noun, lambda one: one)
    )
    assert 0.5 < twins < 0.8 and 0.12 < copies < 0.20


def test_captions_have_only_words_of_the_vocabulary_and_are_short_enough_for_the_context() -> None:
    words, longest = Counter[str](), 0
    for i in range(60):
        said = re.findall(r"[^\s,]+|,", captioned(i)[1])
        words.update(said)
        longest = max(longest, len(said))
        assert set(re.findall(r"[^\s,]+", mirror(captioned(i)[1]))) <= set(vocabulary())
    assert set(words) <= {*vocabulary(), ","} and LONGEST / 2 < longest <= LONGEST
    assert not set(vocabulary()) & set(UNSEEN_PATTERNS)


PATTERN_OF = {"stripes": "striped", "lines": "lined", "dots": "dotted", "checks": "checked", "band": "banded"}


def describes(words: str, who: Individual) -> bool:
    """Whether all words of a phrase are true of a thing."""
    said = {PATTERN_OF.get(word, word) for word in words.split()} - {"a", "an", "and", "with"}
    return who.noun in said and said <= {who.noun, who.main, who.second, who.pattern}


_PHRASE = r"(?:\ba|\ban) ((?:(?!\ban?\b|\bthe\b|,| and a| on a).)+)"
_RELATION = re.compile(rf"{_PHRASE} ({'|'.join(RELATIONS)}) {_PHRASE}")
_END = r"(?=,| and an? | and the | on an? |$)"
_POSITIONS = {word: re.compile(form.replace("{}", "((?:(?!the |,).)+?)") + _END) for word, form in PLACES.items()}


def claims(caption: str, camera: Camera, things: Sequence[Placed]) -> list[bool]:
    """Whether each place that a caption tells is that of a thing that it describes."""
    caption = re.sub(r"with an? ", "with ", caption)
    found = []
    for one, word, other in _RELATION.findall(caption):
        found.append(
            any(
                describes(one, a.individual) and describes(other, b.individual) and bool(holds(camera, word, a, b))
                for a, b in itertools.permutations(things, 2)
            )
        )
    for word, form in _POSITIONS.items():
        for phrase in form.findall(caption):
            copies = [thing for thing in things if Counter(t.individual for t in things)[thing.individual] > 1]
            found.append(
                any(
                    describes(phrase, one.individual)
                    and bool(at(camera, word, one, [o for o in copies if o is not one]))
                    for one in copies
                )
            )
    return found


def test_captions_say_what_stands_there_and_where_also_of_the_mirror_image() -> None:
    places = confused = 0
    for i in range(60):
        scene, caption = captioned(i)
        there = Counter(thing.individual.noun for thing in scene.things)
        words = caption.replace(",", "").split()
        named = Counter(word for word in words if word in NOUNS)
        assert named and set(named) <= set(there), caption
        copies = len({thing.individual for thing in scene.things}) < len(scene.things)
        assert named <= there or copies, "a thing is named twice only where copies are told apart by it"
        known = {colour for thing in scene.things for colour in (thing.individual.main, thing.individual.second)}
        assert {word for word in words if word in COLOURS} <= known, caption
        assert " a o" not in f" {caption}".replace(" a of", ""), caption
        camera, turned = scene.stage.camera, [dataclasses.replace(thing, x=-thing.x) for thing in scene.things]
        assert all(claims(caption, camera, scene.things)), caption
        assert all(claims(mirror(caption), camera, turned)), caption
        places += len(claims(caption, camera, scene.things))
        confused += not all(claims(mirror(caption), camera, scene.things))
    assert places > 15 and confused > 3, "a wrong side is noticed"


# --- subjects -------------------------------------------------------------------------------------------------------


def test_subjects_are_of_all_nouns_and_new_to_training_in_both_ways() -> None:
    found = subjects()
    for split, n in SPLITS.items():
        nouns = Counter(s.who.noun for s in found if s.split == split)
        assert sum(nouns.values()) == n and set(nouns) == set(NOUNS) and max(nouns.values()) <= n // 10 + 1
    ways = Counter(s.who.newness for s in found)
    assert ways[False, False] == 0 and min(ways[True, False], ways[False, True]) >= 18, "both ways are taken"
    assert len({s.who for s in found}) == 72
    assert all(has_look_alike(s.who, grade) for s in found for grade in GRADES)


def test_a_small_set_is_a_part_of_the_large_one() -> None:
    part = subjects({"validation": 1, "test": 2})
    assert [(s.split, s.number) for s in part] == [("validation", 0), ("test", 0), ("test", 1)]
    assert all(s in subjects() for s in part)
    assert SMALL.groups.keys() == BENCHMARK.groups.keys() and SIZES["small"] is SMALL
    assert all(SMALL.groups[kind] <= GROUPS[kind] for kind in GROUPS) and BENCHMARK.queries_each == 40


def test_nothing_but_the_subject_is_in_all_of_its_photos() -> None:
    for subject in FIRST:
        seen = [[thing.individual for thing in scene.things] for scene in photos(subject)]
        assert [who.count(subject.who) for who in seen] == [1] * PHOTOS
        beside = Counter(one for who in seen for one in set(who) if one != subject.who)
        assert set(beside.values()) <= {1}, "what stands beside it is in no other photo"
        assert all(one.noun != subject.who.noun for one in beside)
        assert {len(who) for who in seen} <= ({3, 4} if subject.among_things else {1})
        assert len({digest(scene) for scene in photos(subject)}) == PHOTOS
        for scene in photos(subject):
            assert scene.things[photo_mask(subject, scene)].individual == subject.who


def test_each_photo_shows_another_side_of_the_subject() -> None:
    for subject in FIRST:
        facing = [scene.things[photo_mask(subject, scene)].facing for scene in photos(subject)]
        turns = sorted(np.arctan2(s, c) / (2 * np.pi) % 1 for c, s in facing)
        gaps = np.diff([*turns, turns[0] + 1])
        assert gaps.min() >= 1 / 5 - 1 / 8 - 1e-4 and gaps.max() <= 1 / 5 + 1 / 8 + 1e-4


def test_a_subject_is_the_same_individual_wherever_it_appears(asked: list[Group]) -> None:
    meant = [(one.scene, each.meant) for one in asked for each in one.asked if each.meant is not None]
    assert all(scene.things[i].individual == FIRST[-1].who for scene, i in meant)
    places = {(scene.stage.seed, scene.stage.light, scene.things[i].x, scene.things[i].facing) for scene, i in meant}
    assert len(places) == len(meant) > 12, "another place, side and light each time"


# --- as files -------------------------------------------------------------------------------------------------------


def known(one: Group, asked: Asked) -> list[tuple[str, str, str | None]]:
    """Noun, role and grade of each thing, by its looks and the text."""
    found = []
    for i, thing in enumerate(one.scene.things):
        who, subject = thing.individual, one.subject.who
        if i == asked.meant or (who == subject and one.subset != "referred"):
            found.append((who.noun, "subject", None))
        elif who.noun == subject.noun:
            found.append((who.noun, "look-alike", one.roles[i] if one.roles[i] in KNOWN_GRADES else None))
        else:
            found.append((who.noun, "landmark" if i in asked.landmarks else "other", None))
    return found


def test_a_small_set_opens_with_hugging_face_datasets(small: Dataset, asked: list[Group], tmp_path: Path) -> None:
    kept = {"cache_dir": str(tmp_path / "cache")}
    table = datasets.load_dataset(str(small.folder), split="test", **kept)
    people = datasets.load_dataset(str(small.folder), "subjects", split="test", **kept)
    assert len(people) == 2 and len(table) == 2 * SMALL.queries_each
    who = people[1]
    for scene, photo, rle in zip(photos(FIRST[-1]), who["photos"], who["masks"], strict=True):
        assert np.array_equal(np.asarray(photo), scene.image)
        assert np.array_equal(coco.decode(rle).astype(bool), scene.masks[photo_mask(FIRST[-1], scene)])
    mine = [row for row in table if row["subject_id"] == who["id"]]
    for row, (one, each) in zip(mine, [(found, each) for found in asked for each in found.asked], strict=True):
        assert np.array_equal(np.asarray(row["image"]), one.scene.image)
        blank = np.zeros(one.scene.image.shape[:2], bool)
        truth = blank if each.meant is None else one.scene.masks[each.meant]
        assert np.array_equal(coco.decode(row["mask"]).astype(bool), truth)
        expected = (each.text, each.query_type, FIRST[-1].who.noun, each.meant)
        assert (row["text"], row["query_type"], row["noun"], row["meant"]) == expected
        things = known(one, each)
        assert [(thing["noun"], thing["role"], thing["grade"]) for thing in row["things"]] == things
        for thing, mask in zip(row["things"], one.scene.masks, strict=True):
            assert np.array_equal(coco.decode(thing).astype(bool), mask)
        alike = [mask for mask, thing in zip(one.scene.masks, things, strict=True) if thing[1] == "look-alike"]
        found = [coco.decode(rle).astype(bool) for rle in row["look_alikes"]]
        assert len(found) == len(alike) and all(np.array_equal(a, b) for a, b in zip(found, alike, strict=True))


def test_every_kind_of_scene_is_a_subset_of_the_set(small: Dataset) -> None:
    for kind, n in SMALL.groups.items():
        found = list(small.examples("test", subset=kind))
        assert len(found) == 2 * n * (2 if kind == "referred" else 1), kind
        assert all(example.query.text.count(SLOT) == 1 for example in found)
    assert len(list(small.examples("test", subset="contradicted"))) == 2 * SMALL.groups["relation"]


def test_the_two_queries_of_a_pair_share_a_scene_and_mean_different_things(small: Dataset) -> None:
    pairs: dict[str, list[Example]] = {}
    for example in small.examples("validation"):
        assert (example.pair_id is not None) == (example.query_type in ("relation", "contradicted", "referred"))
        if example.pair_id is not None:
            pairs.setdefault(example.pair_id, []).append(example)
    assert len(pairs) == 2 * (SMALL.groups["relation"] + SMALL.groups["referred"])
    for one, two in pairs.values():
        assert one.image_id == two.image_id and one.query.text != two.query.text
        assert one.query.subject_id == two.query.subject_id and one.meant != two.meant
        assert {one.query_type, two.query_type} in ({"relation", "contradicted"}, {"referred"})
        assert not (one.mask & two.mask).any()


@pytest.fixture
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Scenes and subjects are drawn once in a test; which scenes were asked for, in order."""
    wanted: list[tuple[str, str, int]] = []
    draw = functools.cache(queries.group)

    def group(subject: TabletopSubject, kind: str, index: int, seed: int) -> Group:
        wanted.append((subject.key, kind, index))
        return draw(subject, kind, index, seed)

    monkeypatch.setattr(queries, "group", group)
    monkeypatch.setattr(ahead, "_photos", functools.cache(ahead._photos))
    return wanted


def test_rows_from_anywhere_are_those_of_the_whole_and_only_their_scenes_are_drawn(
    drawn_once: list[tuple[str, str, int]],
) -> None:
    whole = [row.id for row in tabletop_rows(PAIRS)[1]]
    scenes = [*drawn_once]
    assert len(whole) == len(set(whole)) == 10 and len(scenes) == 6
    first = [0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6]  # the scene of each query, which is drawn anew when it is cut in two
    for start in range(11):
        drawn_once.clear()
        assert [row.id for row in tabletop_rows(PAIRS, start=start)[1]] == whole[start:]
        assert drawn_once == scenes[first[start] :], start


@pytest.mark.usefixtures("drawn_once")
def test_a_build_interrupted_at_any_query_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = build(tmp_path / "whole", tabletop_source(PAIRS), shard_bytes=1)
    assert len(whole.files) == 12, "a shard for each of two subjects and ten queries"
    for n in range(1, 11):

        def stop(table: str, done: int, n: int = n) -> None:
            if (table, done) == ("queries", n):
                raise KeyboardInterrupt

        folder = tmp_path / f"{n}"
        with pytest.raises(KeyboardInterrupt):
            build(folder, tabletop_source(PAIRS), stop, shard_bytes=1)
        again = build(folder, tabletop_source(PAIRS), shard_bytes=1)
        assert (again.digest, again.files) == (whole.digest, whole.files), n


def test_an_unknown_dataset_offers_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match=rf"unknown dataset.*'tabletop-1': did you mean '{NAMES[0]}'"):
        find_dataset("tabletop-1")


def test_a_stale_benchmark_in_the_cache_is_refused(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / NAMES[0]).symlink_to(small.folder)
    with pytest.raises(DataError, match=rf"{NAMES[0]} has the digest .* remove that folder and it is drawn again"):
        find_dataset(NAMES[0])
    assert find_dataset(str(small.folder)).digest == small.digest
