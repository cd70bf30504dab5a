"""Tabletop's queries: every text is true of one thing, or of none, as an independent reading of the scene finds."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from prisbench.tabletop import queries, texts
from prisbench.tabletop.audit.views import shared
from prisbench.tabletop.captions import GRAMMAR
from prisbench.tabletop.individuals import GRADES, grade_between
from prisbench.tabletop.looks import HELD_OUT_PAIRS, UNSEEN_PATTERNS, Individual
from prisbench.tabletop.places import BESIDE, PLACES, POSITIONS, RELATIONS, at, holds, place_among, relation
from prisbench.tabletop.queries import GROUPS, Asked, Group, group, plan, queries_of
from prisbench.tabletop.render import Placed
from prisbench.tabletop.scenes import LEAST_SHARE
from prisbench.tabletop.subjects import subjects
from prisbench.tabletop.things import shape
from prisbench.types import SLOT
from tests.test_tabletop_pixels import CAMERA, MUG

FEW = [s for s in subjects() if (s.split, s.number) in (("validation", 0), ("test", 1), ("test", 2))]
SHARED: Mapping[str, tuple[str, ...]] = {
    "colour": ("noun", "second", "pattern", "build", "shape", "gloss", "mark"),
    "second": ("noun", "main", "pattern", "build", "shape", "gloss", "mark"),
    "pattern": ("noun", "main", "second", "build", "shape", "gloss", "mark"),
    "swap": ("noun", "pattern", "build", "shape", "gloss", "mark"),
    "build": ("noun", "main", "second", "pattern", "gloss", "mark"),
}


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Group]]:
    """Relations, copies and absent subjects in full; of other kinds one scene; about a few subjects."""
    found: dict[str, list[Group]] = {}
    for subject in FEW:
        for kind, index in plan():
            if kind in ("relation", "referred", "absent") or index == 1:
                found.setdefault(kind, []).append(group(subject, kind, index))
    return found


def every(drawn: Mapping[str, Sequence[Group]]) -> list[Group]:
    return [one for groups in drawn.values() for one in groups]


# --- places by pencil -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("xy", "word"),
    [
        ((-1.0, 0.0), "left of"),
        ((1.0, 0.3), "right of"),
        ((0.0, -1.0), "in front of"),
        ((0.2, 1.2), "behind"),
        ((0.45, 0.4), "next to"),
        ((1.6, 1.6), None),
    ],
)
def test_relations_by_pencil(xy: tuple[float, float], word: str | None) -> None:
    a, b = Placed(MUG, *xy, (1.0, 0.0)), Placed(MUG, 0.0, 0.0, (1.0, 0.0))
    assert relation(CAMERA, a, b) == word


def test_a_relation_that_holds_is_false_of_its_opposite_and_the_other_way_round() -> None:
    draw = random.Random(1)
    opposite = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}
    found = Counter[str]()
    for _ in range(400):
        a, b = (Placed(MUG, draw.uniform(-1, 1), draw.uniform(-1, 2), (1.0, 0.0)) for _ in range(2))
        for word, other in opposite.items():
            if holds(CAMERA, word, a, b):
                assert holds(CAMERA, other, a, b) is False and holds(CAMERA, other, b, a)
                found[word] += 1
    assert set(found) == set(opposite) and min(found.values()) > 20


def test_positions_by_pencil() -> None:
    row = [Placed(MUG, x, y, (1.0, 0.0)) for x, y in ((-1.0, 0.3), (0.0, 0.0), (1.0, 0.9))]
    words = [{word for word in POSITIONS if at(CAMERA, word, one, [o for o in row if o is not one])} for one in row]
    assert words == [{"leftmost"}, {"middle"}, {"rightmost", "farthest"}]
    near = Placed(MUG, 1.0, 0.35, (1.0, 0.0))
    assert at(CAMERA, "nearest", row[1], [row[0]]) is None, "0.3 is within the margin"
    assert at(CAMERA, "farthest", near, [row[2]]) is None or at(CAMERA, "farthest", near, [row[2]]) is False
    assert place_among(CAMERA, 1, list(enumerate(row)), random.Random(0)) == "middle"


# --- what a text says, read again -----------------------------------------------------------------------------------


def column(one: Group, thing: Placed) -> float:
    return one.scene.stage.camera.project(thing.x, thing.y, 0.3)[1]


def stands(one: Group, word: str, a: Placed, b: Placed) -> bool:
    """Whether ``a`` stands so to ``b`` with half of the margin at least, from the numbers of the two."""
    dx, dy, right = a.x - b.x, a.y - b.y, column(one, a) - column(one, b)
    if word == "next to":
        reach = shape(a.individual).reach + shape(b.individual).reach
        return (dx * dx + dy * dy) ** 0.5 <= reach + BESIDE
    along = {"left of": -dx, "right of": dx, "in front of": -dy, "behind": dy}[word]
    across = dy if word in ("left of", "right of") else dx
    seen = {"left of": -right, "right of": right}.get(word, 9.0)
    return along >= 0.5 and along >= 1.1 * abs(across) and seen >= 8


def is_at(one: Group, word: str, i: int, copies: Sequence[int]) -> bool:
    """Whether copy ``i`` is the leftmost, ... with half of the margin at least."""
    things = one.scene.things
    key = {
        "leftmost": lambda p: -column(one, p) / 8,
        "rightmost": lambda p: column(one, p) / 8,
        "nearest": lambda p: -p.y / 0.5,
        "farthest": lambda p: p.y / 0.5,
    }
    if word == "middle":
        return not any(is_at(one, side, i, copies) for side in ("leftmost", "rightmost"))
    return all(key[word](things[i]) - key[word](things[n]) >= 1 for n in copies if n != i)


def true_of(one: Group, asked: Asked) -> list[int]:
    """The subject's copies of which a text is true."""
    things, words = one.scene.things, texts.told(asked.text)
    copies = [i for i, role in enumerate(one.roles) if role in ("subject", "copy")]
    if not words:
        return copies
    if words[0] in POSITIONS:
        return [i for i in copies if is_at(one, words[0], i, copies)]
    if not asked.landmarks:
        return []
    pairs = list(zip(words, asked.landmarks, strict=True))
    return [i for i in copies if all(stands(one, word, things[i], things[mark]) for word, mark in pairs)]


def test_every_text_is_true_of_the_thing_it_means_and_of_no_other(drawn: dict[str, list[Group]]) -> None:
    words = Counter[str]()
    for one in every(drawn):
        for asked in one.asked:
            assert true_of(one, asked) == ([] if asked.meant is None else [asked.meant]), (one.subset, asked.text)
            words.update(texts.told(asked.text))
    assert {"left of", "right of", "in front of", "behind"} <= set(words) and set(words) & set(POSITIONS)


def test_the_reading_would_notice_another_thing(drawn: dict[str, list[Group]]) -> None:
    for one in drawn["referred"]:
        first, second = one.asked
        assert true_of(one, first) != [second.meant]


def test_contradicted_texts_are_of_the_scene_of_a_true_one(drawn: dict[str, list[Group]]) -> None:
    missing = 0
    for one in drawn["relation"]:
        true, false = one.asked
        assert (true.query_type, false.query_type) == ("relation", "contradicted") and false.meant is None
        assert one.roles[true.meant or 0] == "subject"
        missing += not false.landmarks
        if not false.landmarks:
            noun = false.text.split()[-1]
            assert noun not in [thing.individual.noun for thing in one.scene.things]
    assert missing == len(FEW)


def test_guards_stand_where_the_text_points(drawn: dict[str, list[Group]]) -> None:
    for one in drawn["relation"]:
        assert one.guarded == (one.index % 2 == 0)
        line = one.asked[0 if one.index % 4 == 2 else 1]
        for i, role in enumerate(one.roles):
            if one.guarded and role in GRADES:
                a, b = one.scene.things[i], one.scene.things[one.asked[0].landmarks[0]]
                (word,) = texts.told(line.text)
                side = {"left of": b.x - a.x, "right of": a.x - b.x, "in front of": b.y - a.y, "behind": a.y - b.y}
                assert side[word] > 0, line.text
    guarded = [one for one in drawn["referred"] if one.guarded]
    assert len(guarded) >= 2 * len(FEW) - 1


def test_a_landmark_phrase_fits_exactly_one_thing_in_words_of_the_captions(drawn: dict[str, list[Group]]) -> None:
    seen = 0
    for one in every(drawn):
        things = [thing.individual for thing in one.scene.things]
        for asked in one.asked:
            parts = asked.text.partition(SLOT)[2].split(" and ")
            for part, mark in zip(parts, asked.landmarks, strict=False):
                phrase = part.rpartition(" the ")[2]
                assert [i for i, who in enumerate(things) if texts.fits(phrase, who)] == [mark], asked.text
                assert not set(phrase.split()) & set(UNSEEN_PATTERNS)
                seen += 1
    assert seen > 20


def test_fits_by_pencil() -> None:
    who = Individual("mug", "red", "teal", "dotted", 0, (0.5,) * 4, (0.0, 0.0), 0.0)
    assert all(texts.fits(phrase, who) for phrase in ("mug", "red mug", "teal mug", "dotted red and teal mug"))
    assert not any(texts.fits(phrase, who) for phrase in ("red bowl", "blue mug", "striped red mug", "red"))


def span(one: str, other: str) -> tuple[list[str], list[str]]:
    """What is left of two texts without the words they begin and end with alike."""
    a, b = one.split(), other.split()
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return a, b


def test_the_two_texts_of_a_pair_differ_in_one_phrase(drawn: dict[str, list[Group]]) -> None:
    for one in [*drawn["relation"], *drawn["referred"]]:
        first, second = one.asked
        a, b = span(first.text, second.text)
        assert a and b and max(len(a), len(b)) <= 7, (first.text, second.text)
        assert first.meant != second.meant
        if one.subset == "relation" and not second.landmarks:
            assert texts.told(first.text) == texts.told(second.text), "only the landmark is another"


def test_phrasings_of_test_are_not_those_of_validation_or_of_captions() -> None:
    whole, relations, positions = texts._WHOLE, texts._RELATIONS, texts._POSITIONS
    assert not set(whole["validation"]) & set(whole["test"])
    for table in (relations, positions):
        one, other = ({form for forms in table[split].values() for form in forms} for split in ("validation", "test"))
        assert not one & other and set(table["validation"]) == set(table["test"])
    captions = {*(f"{word} {{}}" for word in RELATIONS), *(form.replace("{}", SLOT) for form in PLACES.values())}
    tested = {form for table in (relations, positions) for forms in table["test"].values() for form in forms}
    assert not tested & captions


def test_told_reads_every_phrasing_back() -> None:
    for split in ("validation", "test"):
        for word, variant in itertools.product(POSITIONS, range(2)):
            assert texts.told(texts.positioned(split, word, variant)) == [word]
        for first, second in itertools.product(RELATIONS, RELATIONS):
            said = texts.related(split, [(first, "red box"), (second, "bottle")], random.Random(3))
            assert texts.told(said) == [first, second], said
        assert texts.told(texts.whole_text(split, "woven mat", random.Random(0))) == []
    assert "left" in GRAMMAR.split()


# --- who stands there -----------------------------------------------------------------------------------------------


def test_look_alikes_differ_in_what_their_grade_names_and_in_nothing_else(drawn: dict[str, list[Group]]) -> None:
    seen = Counter[str]()
    for one in every(drawn):
        who = one.subject.who
        for thing, role in zip(one.scene.things, one.roles, strict=True):
            other = thing.individual
            if role in GRADES:
                assert all(getattr(other, name) == getattr(who, name) for name in SHARED[role]), role
                assert other != who and other.newness == who.newness
                if role == "swap":
                    assert (other.main, other.second) == (who.second, who.main)
                seen[role] += 1
            elif role in ("subject", "copy"):
                assert other == who
            elif role == "compound":
                assert other.noun == who.noun and other.newness == who.newness
                assert grade_between(who, other) == "compound"
            else:
                assert role == "other" and other.noun != who.noun and other.newness == who.newness
    assert set(seen) == set(GRADES)


def test_the_kinds_of_groups_hold_what_they_say(drawn: dict[str, list[Group]]) -> None:
    for one in every(drawn):
        roles = Counter(one.roles)
        assert len(one.asked) == queries_of(one.subset)
        if one.subset == "plain":
            assert one.roles == ("subject",)
        elif one.subset == "other-category":
            assert set(roles) == {"subject", "other"}
        elif one.subset == "look-alike:mixed":
            assert roles["subject"] == roles["compound"] == 1 and len(set(roles) & set(GRADES)) == 2
        elif one.subset.startswith("look-alike:"):
            assert set(roles) - {"other"} == {"subject", one.subset.partition(":")[2]}
        elif one.subset == "referred":
            assert roles["copy"] in (2, 3) and not roles["subject"]
        elif one.subset == "absent":
            assert not {"subject", "copy"} & set(roles)
            assert one.subject.who not in [thing.individual for thing in one.scene.things]
            assert texts.told(one.asked[0].text) == [] and not one.asked[0].landmarks


def test_every_subject_breaks_with_training_and_is_photographed_and_asked_for_apart() -> None:
    found = subjects()
    assert Counter(s.split for s in found) == {"validation": 24, "test": 48}
    for subject in found:
        who = subject.who
        assert who.pattern in UNSEEN_PATTERNS or frozenset((who.main, who.second)) in HELD_OUT_PAIRS
    for split in ("validation", "test"):
        looks = [(s.who.noun, s.who.pattern, s.who.main, s.who.second) for s in found if s.split == split]
        assert len(set(looks)) == len(looks)
    assert sum(queries_of(kind) * n for kind, n in GROUPS.items()) == 40


def test_everything_shows_enough_of_itself_and_texts_have_the_slot_once(drawn: dict[str, list[Group]]) -> None:
    for one in every(drawn):
        assert min(one.scene.shares) >= LEAST_SHARE
        assert sum(mask.astype(int) for mask in one.scene.masks).max() == 1
        for asked in one.asked:
            assert asked.text.count(SLOT) == 1 and "{" not in asked.text.replace(SLOT, "")
            assert " ".join(asked.text.split()) == asked.text


# --- none stands in the middle of the others' looks: who is to stand in a scene, before it is drawn -----------------


def casts(kind: str, of: Sequence[int] = range(3)) -> list[list[Individual]]:
    """Who is to stand in scenes of a kind about every subject, the subject first."""
    found = []
    for subject, index in itertools.product(subjects(), of):
        rng = random.Random(f"test/{subject.key}/{kind}/{index}")
        found.append(queries._recipe(rng, subject.who, subject.number, kind, index).cast)
    return found


@pytest.mark.parametrize("grade", GRADES)
def test_look_alikes_of_a_grade_differ_from_each_other_as_they_do_from_the_subject(grade: str) -> None:
    several = 0
    for cast in casts(f"look-alike:{grade}", (0, 1)):
        alike = [who for who in cast if who.noun == cast[0].noun]
        assert {grade_between(a, b) for a, b in itertools.combinations(alike, 2)} == {grade}
        several += len(alike) > 2
    least = {"pattern": 36, "colour": 10, "second": 10}  # of a swap there is one, and of two builds one is kept back
    assert several > least[grade] if grade in least else several == 0


def test_the_things_of_a_mixed_scene_differ_from_one_another_as_the_corners_of_a_square() -> None:
    pairs = Counter[frozenset[str]]()
    for cast in casts("look-alike:mixed"):
        assert len(cast) == 4
        sides = [Counter(grade_between(a, b) for b in cast if b is not a) for a in cast]
        assert all(side == sides[0] for side in sides) and sides[0]["compound"] == 1 and len(sides[0]) == 3
        pairs[frozenset(sides[0]) - {"compound"}] += 1
    assert set(pairs) == {frozenset(pair) for pair in queries._PAIRS}


def test_a_colour_twin_is_that_of_any_thing_of_the_scene() -> None:
    """Of four things two are in the same colours and pattern; the subject is as often one of the two as any is."""
    twins = Counter[int]()
    scenes = casts("other-category", range(2, 90, 3))
    for cast in scenes:
        assert len({who.noun for who in cast}) == len(cast) == 4
        pair = [
            (i, j)
            for (i, a), (j, b) in itertools.combinations(enumerate(cast), 2)
            if (a.main, a.second, a.pattern) == (b.main, b.second, b.pattern)
        ]
        assert pair, "two are in the same colours and pattern"
        twins.update(pair[0] if len(pair) == 1 else ())
    shares = [twins[i] / len(scenes) for i in range(4)]
    assert shares == pytest.approx([0.5] * 4, abs=0.04)


@pytest.mark.parametrize("kind", ["other-category", *(kind for kind in GROUPS if kind.startswith("look-alike:"))])
def test_of_the_things_that_may_be_meant_none_shares_more_looks_with_the_others(kind: str) -> None:
    """Among things of different nouns, or among those of the subject's noun, by what the others in the scene share."""
    gains = []
    for cast in casts(kind, range(12)):
        alike = [sum(shared(who, other) for other in cast if other is not who) for who in cast]
        rivals = [i for i, who in enumerate(cast) if kind == "other-category" or who.noun == cast[0].noun]
        for best in (max, min):
            tied = [i for i in rivals if alike[i] == best(alike[n] for n in rivals)]
            gains.append((0 in tied) / len(tied) - 1 / len(rivals))
    assert abs(np.mean(gains[::2])) < 0.04 and abs(np.mean(gains[1::2])) < 0.04


def test_an_absent_scene_is_made_as_one_of_those_in_which_the_subject_stands() -> None:
    """As many things, and as often of each kind, around another thing."""
    numbers, fronts, kinds = Counter[int](), Counter[str](), Counter[str]()
    made = queries._recipe

    def recipe(rng: random.Random, who: Individual, number: int, kind: str, index: int) -> queries._Recipe:
        kinds[f"{kind}/{index}"] += 1
        return made(rng, who, number, kind, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries, "_recipe", recipe)
        for subject, index in itertools.product(subjects(), range(GROUPS["absent"])):
            for trial in range(queries.TRIALS):
                rng = random.Random(f"test/{subject.key}/absent/{index}/{trial}")
                try:
                    found = queries._absent(rng, subject, index, trial)
                except LookupError:
                    continue
                break
            assert [line.query_type for line in found.lines] == ["absent"] and not found.lines[0].conditions
            assert subject.who not in found.cast and not {"subject", "copy"} & set(found.roles)
            numbers[len(found.cast)] += 1
            fronts["look-alike" if found.cast[0].noun == subject.who.noun else "other"] += 1
    present = Counter(
        len(cast) for kind, n in GROUPS.items() if (kind, 0) in queries._PRESENT for cast in casts(kind, range(n))
    )
    assert len(kinds) == len(queries._PRESENT) and min(kinds.values()) > 0.5 * 360 / len(kinds)
    for n in range(1, 5):
        assert numbers[n] / numbers.total() == pytest.approx(present[n] / present.total(), abs=0.06), n
    assert 0.6 < fronts["look-alike"] / fronts.total() < 0.95
