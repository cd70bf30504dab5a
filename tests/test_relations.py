"""Queries that say where the subject stands, on layouts whose truth a pencil finds; and in each source that makes them.

In a drawing of 60 x 100 pixels a thing is a box of 10 x 10, named by its top left corner.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prisbench.datasets.build import build
from prisbench.datasets.load import open_dataset
from prisbench.datasets.schema import QueryRow, check_query
from prisbench.datasets.source import Source
from prisbench.datasets.sources import coco, folder
from prisbench.datasets.sources.places import place_of
from prisbench.datasets.sources.public import davis, voc_instances, ycb_video
from prisbench.datasets.sources.relations import MOST_PAIRS, PHRASES, relational, with_relations
from prisbench.errors import UsageError
from prisbench.types import REFERENTLESS, Thing
from tests.drawing import draw_box, draw_scene
from tests.test_sources_general import annotated, coco_box, save, save_coco, save_mask, save_voc
from tests.test_sources_public import BOX, CRACKER, TIN, draw_davis, draw_ycb, labels, photo

HW = (60, 100)


def thing(
    noun: str | None, top: int, left: int, role: str = "other", grade: str | None = None, side: int = 10
) -> Thing:
    return Thing(draw_box(HW, top, left, top + side, left + side), noun, role, grade)


def mug(top: int, left: int, side: int = 10) -> Thing:
    return thing("mug", top, left, "subject", side=side)


def alike(top: int, left: int, grade: str | None = None) -> Thing:
    return thing("mug", top, left, "look-alike", grade)


def scene(*things: Thing, split: str = "validation") -> QueryRow:
    """A row about the first of the things, if that is the subject."""
    there = things[0].role == "subject"
    return QueryRow(
        subject_id="mug-1",
        noun="mug",
        image=draw_scene(5, HW),
        text="a photo of the {subject}",
        query_type="look-alike" if there and len(things) > 1 else "plain" if there else "absent",
        mask=things[0].mask if there else np.zeros(HW, dtype=bool),
        look_alikes=tuple(each.mask for each in things if each.role == "look-alike"),
        split=split,
        licence="CC0-1.0",
        source="drawn",
        things=things,
        meant=0 if there else None,
    )


def made(*things: Thing, split: str = "validation") -> tuple[list[QueryRow], Counter[str]]:
    """The queries of a drawing, each held to the rules, and what is left out, without "relations: "."""
    found = relational(scene(*things, split=split))
    rows = [each for each in found if not isinstance(each, str)]
    for row in rows:
        check_query(row)
    pairs = Counter(row.pair_id for row in rows)
    assert set(pairs.values()) <= {2} and len({row.id for row in rows}) == len(rows)
    return rows, Counter(each.removeprefix("relations: ") for each in found if isinstance(each, str))


def asked(rows: Sequence[QueryRow]) -> set[tuple[str, str]]:
    return {(row.query_type, row.text) for row in rows}


BOWL = thing("bowl", 20, 60)


@pytest.mark.parametrize(
    ("top", "left", "true", "false"),
    [
        (20, 10, "left", "right"),
        (25, 85, "right", "left"),
        (2, 60, "above", "below"),
        (45, 65, "below", "above"),
        (20, 0, "left", "right"),  # at the edge of the frame
    ],
)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_subject_stands_to_a_landmark_and_not_on_the_other_side(
    split: str, top: int, left: int, true: str, false: str
) -> None:
    rows, left_out = made(mug(top, left), BOWL, split=split)
    says = {where: text.replace("{landmark}", "bowl") for where, text in PHRASES[split].items()}
    assert asked(rows) == {("relation", says[true]), ("contradicted", says[false])} and not left_out
    relation, contradicted = rows
    assert place_of(relation.mask)[:2] == (top, left) and not contradicted.mask.any()
    assert (relation.meant_thing is not None, contradicted.meant_thing) == (True, None)
    for row in rows:
        assert sorted((each.role, each.noun) for each in row.all_things) == [("landmark", "bowl"), ("subject", "mug")]


def test_test_and_validation_share_no_words_for_where() -> None:
    assert PHRASES["validation"].keys() == PHRASES["test"].keys()
    assert not set(PHRASES["validation"].values()) & set(PHRASES["test"].values())
    assert all(text.count("{subject}") == 1 for texts in PHRASES.values() for text in texts.values())


NO_LANDMARK = {"subjects in scenes without a landmark": 1}
NOT_ONE = "things whose noun is no landmark's, since it fits the subject or several things"
UNCLEAR = {"landmarks to which a subject stands in no clear way": 1}
SMALL = {"subjects and landmarks that show less than 0.2 % of a scene": 1}


@pytest.mark.parametrize(
    ("things", "left_out"),
    [
        ((mug(20, 10),), NO_LANDMARK),
        ((mug(20, 10), alike(20, 60)), NO_LANDMARK),
        ((mug(20, 10), BOWL, thing(None, 40, 40)), {"scenes with a thing that nobody named, which may be what a "
                                                     "landmark's noun says": 1}),
        ((mug(20, 10), BOWL, thing("bowl", 40, 40)), {NOT_ONE: 2, **NO_LANDMARK}),
        ((mug(20, 10), BOWL, thing("salad Bowl", 40, 40)), {NOT_ONE: 2, **NO_LANDMARK}),
        ((mug(20, 10), thing("beer mug", 20, 60)), {NOT_ONE: 1, **NO_LANDMARK}),
        ((mug(20, 60), BOWL), UNCLEAR),
        ((mug(25, 55), BOWL), UNCLEAR),
        ((mug(50, 90), BOWL), UNCLEAR),
        ((mug(20, 10), thing("pin", 20, 60, side=3)), {**SMALL, **NO_LANDMARK}),
        ((mug(20, 10, side=3), BOWL), SMALL),
        ((mug(20, 10), BOWL, alike(40, 30)), {"pairs of which a look-alike may be meant, too": 1}),
        ((mug(20, 10), BOWL, alike(45, 40)), {"pairs of which a look-alike may be meant, too": 1}),
        ((alike(20, 10), BOWL), {}),
    ],
    ids=["one thing", "no other noun", "a thing without a noun", "two bowls", "a salad bowl is a bowl", "a kind of mug",
         "equal centres", "overlapping", "diagonal", "small landmark", "small subject", "look-alike on that side",
         "look-alike on no clear side", "absent"],
)  # fmt: skip
def test_what_is_not_certain_is_not_asked_but_counted(things: Sequence[Thing], left_out: dict[str, int]) -> None:
    assert made(*things) == ([], Counter(left_out))


def test_a_look_alike_may_stand_where_the_false_text_says() -> None:
    rows, left_out = made(mug(20, 10), BOWL, alike(20, 85))
    assert asked(rows) == {
        ("relation", "the {subject} left of the bowl"),
        ("contradicted", "the {subject} right of the bowl"),
    }
    assert not left_out and {len(row.look_alikes) for row in rows} == {1}


def test_a_neighbour_has_a_false_partner_that_is_far() -> None:
    near, spoon = thing("bowl", 20, 22), thing("spoon", 45, 80)
    rows, left_out = made(mug(20, 10), near, spoon)
    assert asked(rows) == {
        ("relation", "the {subject} next to the bowl"),
        ("contradicted", "the {subject} next to the spoon"),
        ("relation", "the {subject} left of the spoon"),
        ("contradicted", "the {subject} right of the spoon"),
    }, "left of the bowl it is, too, which is a second pair of that kind"
    assert left_out == {f"pairs beyond {MOST_PAIRS} about a subject in a scene": 1}
    named = {row.text: next(each.noun for each in row.all_things if each.role == "landmark") for row in rows}
    assert all(text.endswith(noun or "") for text, noun in named.items())
    rows, _ = made(mug(20, 10), near)
    assert not any("next" in row.text for row in rows), "nothing is far"


def test_pairs_are_few_and_of_different_kinds() -> None:
    others = [thing(noun, 20, 30 + 15 * n) for n, noun in enumerate(("bowl", "spoon", "plate", "pan"))]
    rows, left_out = made(mug(20, 10), *others, thing("lamp", 0, 10, side=8))
    assert len(rows) == 2 * MOST_PAIRS and left_out["pairs beyond 2 about a subject in a scene"] == 3
    assert {"below the lamp" in row.text or "above the lamp" in row.text for row in rows} == {True, False}


def test_copies_are_told_apart_by_their_places() -> None:
    rows, left_out = made(mug(20, 60), alike(20, 10, "copy"))
    assert asked(rows) == {("referred", "the leftmost {subject}"), ("referred", "the rightmost {subject}")}
    left = next(row for row in rows if "leftmost" in row.text)
    assert place_of(left.mask).left == 10 and place_of(left.look_alikes[0]).left == 60
    assert [(each.role, each.grade) for each in left.all_things if each.role == "look-alike"] == [
        ("look-alike", "copy")
    ]
    rows, _ = made(mug(20, 60), alike(20, 10, "copy"), split="test")
    assert {row.text for row in rows} == {"the {subject} farthest to the left", "the {subject} farthest to the right"}
    assert made(mug(0, 60), alike(30, 60, "copy"))[0] == [] and not left_out - Counter(NO_LANDMARK)


def test_of_three_copies_two_are_meant() -> None:
    places = {"leftmost": 10, "rightmost": 70, "middle": 40}
    rows, _ = made(mug(20, 40), alike(20, 10, "copy"), alike(20, 70, "copy"))
    said = {PHRASES["validation"][where]: left for where, left in places.items()}
    assert len(rows) == 2 and all(place_of(row.mask).left == said[row.text] for row in rows)
    assert all(len(row.look_alikes) == 2 for row in rows)


def test_copies_are_told_apart_by_a_landmark_where_each_stands_alone_on_a_side() -> None:
    bowl = thing("bowl", 20, 45)
    rows, _ = made(mug(20, 10), alike(22, 80, "copy"), bowl)
    by_text = {row.text: row for row in rows}
    assert place_of(by_text["the {subject} right of the bowl"].mask).left == 80
    assert place_of(by_text["the {subject} left of the bowl"].mask).left == 10
    _, left_out = made(mug(20, 5), alike(40, 20, "copy"), thing("bowl", 30, 80))
    assert left_out["landmarks that do not tell copies of a subject apart"] == 1, "both on its left"


def test_a_look_alike_that_is_no_copy_is_never_meant_and_never_where_the_text_says() -> None:
    rows, left_out = made(mug(20, 30), alike(20, 60, "copy"), alike(20, 5, "colour"))
    texts = {row.text: place_of(row.mask).left for row in rows}
    assert texts == {"the rightmost {subject}": 60, "the {subject} in the middle": 30}
    assert not left_out - Counter(NO_LANDMARK)


def test_copies_that_stand_in_no_clear_way_are_counted() -> None:
    rows, left_out = made(mug(0, 40), alike(20, 42, "copy"))
    assert rows == []
    assert left_out == {
        "subjects and copies of which none is clearly leftmost, rightmost or in the middle": 1,
        **NO_LANDMARK,
    }


def test_neighbours_tell_copies_apart() -> None:
    rows, _ = made(mug(5, 10), alike(45, 70, "copy"), thing("bowl", 5, 22), thing("spoon", 45, 58), split="test")
    assert {row.text: place_of(row.mask)[:2] for row in rows if "beside" in row.text} == {
        "the {subject} beside the bowl": (5, 10),
        "the {subject} beside the spoon": (45, 70),
    }


def test_a_landmark_near_two_copies_tells_neither() -> None:
    bowl, spoon = thing("bowl", 5, 22), thing("spoon", 5, 47)
    rows, left_out = made(mug(5, 10), alike(5, 35, "copy"), bowl, spoon)
    told = "landmarks that do not tell copies of a subject apart"
    assert len(rows) == 4 and left_out == {told: 2}, "both stand left of the spoon, which alone is one's neighbour"
    assert not any("next" in row.text for row in rows), "3 pixels from the bowl are not far"


def test_only_the_landmark_that_is_named_is_one() -> None:
    rows, _ = made(mug(20, 10), replace(BOWL, role="landmark"), thing("spoon", 0, 60, "landmark"))
    assert {row.text.rpartition(" ")[2] for row in rows} == {"bowl", "spoon"}
    for row in rows:
        assert [each.noun for each in row.all_things if each.role == "landmark"] == [row.text.rpartition(" ")[2]]


def test_the_order_of_things_changes_nothing() -> None:
    things = [mug(20, 10), BOWL, thing("spoon", 45, 80), thing("plate", 0, 40), alike(45, 40)]
    row = scene(*things)
    again = replace(row, things=(*things[:0:-1], things[0]), meant=len(things) - 1)
    first, second = (
        [each if isinstance(each, str) else each.digest for each in relational(each)] for each in (row, again)
    )
    assert first == second and first


def test_every_text_is_true_of_the_thing_it_means_and_of_no_other() -> None:
    """Held to centres alone, over scenes drawn by lot: a relation holds for what is meant and for no thing of its noun;
    a contradicted one not for the subject.
    """
    rng = np.random.default_rng(11)
    n = 0
    for grade in ("copy", "colour"):
        for _ in range(60):
            tops, lefts = rng.integers(0, 50, 6), rng.integers(0, 90, 6)
            kin = [mug(tops[0], lefts[0]), *(alike(tops[k], lefts[k], grade) for k in (1, 2))]
            named = [thing(noun, tops[k], lefts[k]) for k, noun in ((3, "bowl"), (4, "spoon"), (5, "pan"))]
            for row in made(*kin, *named)[0]:
                holds = _holds(row)
                subject = next(place_of(e.mask)[:2] for e in row.all_things if e.role == "subject")
                assert (subject in holds) == (row.query_type not in REFERENTLESS), row.text
                assert row.query_type in REFERENTLESS or holds == {subject}, row.text
                n += 1
    assert n > 100


def _holds(row: QueryRow) -> set[tuple[int, int]]:
    """The corners of the things of the subject's noun for which a text holds, by the boxes' centres."""
    kin = {place_of(e.mask)[:2] for e in row.all_things if e.noun == "mug"}
    mark = next((place_of(e.mask)[:2] for e in row.all_things if e.role == "landmark"), (0, 0))
    lefts = sorted(left for _, left in kin)
    rules = {
        "left of": lambda y, x: mark[1] - x > abs(mark[0] - y),
        "right of": lambda y, x: x - mark[1] > abs(mark[0] - y),
        "above": lambda y, x: mark[0] - y > abs(mark[1] - x),
        "below": lambda y, x: y - mark[0] > abs(mark[1] - x),
        "next to": lambda y, x: max(abs(mark[1] - x), abs(mark[0] - y)) < 14,
        "leftmost": lambda y, x: x == lefts[0],
        "rightmost": lambda y, x: x == lefts[-1],
        "in the middle": lambda y, x: x == lefts[1],
    }
    rule = next(rule for words, rule in rules.items() if words in row.text)
    return {(y, x) for y, x in kin if rule(y, x)}


def test_a_text_that_is_asked_anyway_is_not_asked_twice() -> None:
    row = scene(mug(20, 10), BOWL)
    found = list(with_relations(lambda: row, asked=("the {subject} right of the bowl",)))
    assert found[1:] == ["relations: pairs with a text that is asked about the scene anyway"]
    assert list(with_relations("no mask")) == ["no mask"]
    assert list(with_relations(lambda: row, unclear=("Soup bowl",)))[1:] == [
        "relations: subjects in scenes without a landmark",
        f"relations: {NOT_ONE}",
    ]


# --- sources --------------------------------------------------------------------------------------------------------


def pairs_of(source: Source) -> dict[str, set[str]]:
    """pair -> what its two queries are, of all rows, which keep the rules and go on from anywhere."""
    ids = [subject.id for subject in source.subjects()]
    rows = list(source.queries(0))
    whole = source.left_out.copy()
    assert source.n_queries is None and {row.subject_id for row in rows} <= set(ids)
    for row in rows:
        check_query(row)
    for start in (1, len(rows) // 2, len(rows)):
        assert [row.digest for row in source.queries(start)] == [row.digest for row in rows[start:]]
    source.left_out.clear()
    source.left_out.update(whole)
    found: dict[str, set[str]] = {}
    for row in rows:
        if row.pair_id is not None:
            found.setdefault(row.pair_id, set()).add(f"{row.query_type}: {row.text.replace('{subject}', row.noun)}")
    return found


def test_ycb_says_where_its_objects_stand(tmp_path: Path) -> None:
    draw_ycb(tmp_path)
    off, on = (ycb_video.read(tmp_path, {"absent": "0"} | more) for more in ({}, {"relations": "true"}))
    assert off.key != on.key
    found = pairs_of(on)
    assert {frozenset(each) for each in found.values()} == {
        frozenset({"relation: the box to the left of the mug", "contradicted: the box to the right of the mug"})
    }
    assert len(found) == 3, "one a frame of scene 0049"
    assert len(list(off.queries(0))) == len(list(on.queries(0))) - 6
    build(tmp_path / "built", ycb_video.read(tmp_path, {"absent": "0", "relations": "true"}))
    kinds = Counter(example.query_type for example in open_dataset(tmp_path / "built").examples("test"))
    assert kinds["relation"] == kinds["contradicted"] == 3
    with pytest.raises(UsageError, match="relations='yes': give true or false"):
        ycb_video.read(tmp_path, {"relations": "yes"})


def test_no_box_of_ycb_is_a_landmark(tmp_path: Path) -> None:
    draw_ycb(tmp_path, (1,))
    box, tin = (sorted(ycb_video.NOUNS).index(name) + 1 for name in (BOX, TIN))
    labels(tmp_path / "data/0048/000001-label.png", (box, 3, 1, 20, 12), (tin, 3, 25, 20, 36))
    source = ycb_video.read(tmp_path, {"absent": "0", "relations": "true", "scenes": "0048"})
    assert sorted(each for pair in pairs_of(source).values() for each in pair) == [
        "contradicted: the box to the right of the can",
        "relation: the box to the left of the can",
    ], "and nothing about the can"


def test_davis_says_where_the_things_of_a_clip_stand(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2017, {"boxing": 3})
    (tmp_path / "davis_semantics.json").write_text(json.dumps({"boxing": {"1": "person", "2": "person", "3": "ball"}}))
    found = pairs_of(davis.read(tmp_path, {"allow_same_clip": "true", "relations": "true"}))
    assert sorted(sorted(each) for each in found.values()) == [
        ["contradicted: the ball to the left of the person", "relation: the ball to the right of the person"],
        ["contradicted: the person to the right of the ball", "relation: the person to the left of the ball"],
    ], "in the frame that shows one person; two are no landmark, and the ball does not tell one from the other"


def test_coco_says_where_things_stand_and_knows_what_may_be_several(tmp_path: Path) -> None:
    value = {
        "images": [{"id": n, "file_name": f"{n:012}.png", "height": 24, "width": 40} for n in range(1, 6)],
        "categories": [{"id": 1, "name": "mug"}, {"id": 2, "name": "spoon"}, {"id": 3, "name": "person"}],
        "annotations": [
            annotated(n, n, 1, coco_box(2, 2, 9, 9), subject="anna's") for n in range(1, 6)
        ] + [
            annotated(10, 2, 2, coco_box(2, 20, 9, 27)),
            annotated(11, 3, 2, coco_box(2, 20, 9, 27)), annotated(12, 3, 2, []),
            annotated(13, 4, 3, coco_box(2, 20, 9, 27), iscrowd=0), annotated(14, 4, 2, coco_box(15, 2, 22, 9)),
            annotated(15, 5, 3, coco_box(2, 20, 9, 27)) | {"iscrowd": 1},
        ],
    }  # fmt: skip
    source = coco.read(save_coco(tmp_path, value), {"references": "1", "relations": "true"})
    texts = Counter(text for each in pairs_of(source).values() for text in each)
    assert texts == {
        "relation: the mug to the left of the spoon": 1,
        "contradicted: the mug to the right of the spoon": 1,
        "relation: the mug to the left of the person": 1,
        "contradicted: the mug to the right of the person": 1,
        "relation: the mug higher in the picture than the spoon": 1,
        "contradicted: the mug lower in the picture than the spoon": 1,
    }, "a spoon without a mask in image 3 and the crowd in image 5 are no landmarks"
    assert source.left_out[f"relations: {NOT_ONE}"] == 2


def test_annotations_of_one_identity_may_be_copies_which_relations_tell_apart(tmp_path: Path) -> None:
    value = {
        "images": [{"id": n, "file_name": f"{n:012}.png", "height": 24, "width": 40} for n in range(1, 6)],
        "categories": [{"id": 1, "name": "can"}, {"id": 2, "name": "spoon"}],
        "annotations": [
            annotated(1, 1, 1, coco_box(2, 2, 9, 9), subject="beans"),
            annotated(2, 1, 1, coco_box(2, 20, 9, 27), subject="beans"),
            annotated(3, 2, 1, coco_box(2, 2, 9, 9), subject="beans"),
            annotated(4, 3, 1, coco_box(2, 2, 9, 9), subject="beans"),
            annotated(5, 3, 1, coco_box(4, 30, 11, 37), subject="beans"),
            annotated(6, 3, 2, coco_box(4, 16, 11, 23)),
            annotated(7, 4, 1, coco_box(2, 2, 9, 9), subject="beans"),
        ],
    }
    options = {"references": "1", "copies": "true"}
    source = coco.read(save_coco(tmp_path, value), options | {"relations": "true"})
    assert not source.warnings, "two of one identity are what the option says"
    assert [photo.shape for row in source.subjects() for photo in row.photos] == [(9, 9, 3)], "7, and a quarter around"
    assert {row.source for row in source.subjects()} == {"coco 000000000002.png"}, "the first that shows one"
    assert sorted(sorted(each) for each in pairs_of(source).values()) == [
        ["referred: the can farthest to the left", "referred: the can farthest to the right"],
        ["referred: the can farthest to the left", "referred: the can farthest to the right"],
        ["referred: the can to the left of the spoon", "referred: the can to the right of the spoon"],
    ]
    assert source.left_out["queries with the common text about a scene with copies of the subject"] == 2
    only = coco.read(tmp_path, options)
    assert [(row.query_type, int(row.mask.sum())) for row in only.queries(0)] == [("plain", 49)], "in image 4"
    parts = coco.read(tmp_path, {"references": "1"})
    assert "they are read as parts of one thing" in parts.warnings[0]
    assert max(int(row.mask.sum()) for row in parts.queries(0)) == 98


def test_voc_says_where_things_stand(tmp_path: Path) -> None:
    top = tmp_path / "VOCdevkit/VOC2012"
    save_voc(top, "2007_000032", 1, {1: (12, (2, 3, 12, 13))})
    save_voc(top, "2008_000008", 2, {1: (18, (2, 25, 12, 35)), 2: (12, (2, 3, 12, 13))})
    (tmp_path / "subjects.csv").write_text("image,object,subject\n2007_000032,1,rex\n2008_000008,2,rex\n")
    for share, words in (("0", "to the left of"), ("1", "left of")):
        source = voc_instances.read(tmp_path, {"relations": "true", "validation_share": share})
        assert f"relation: the dog {words} the sofa" in next(iter(pairs_of(source).values()))


def folder_with_copies(root: Path, table: str) -> Path:
    for n in range(2):
        save(root / f"mug-anna/photos/0{n}.png", n)
    save(root / "mug-anna/scenes/desk.png", 20)
    masks = root / "mug-anna/masks"
    save_mask(masks / "desk.png", 8, 2, 14, 8)
    save_mask(masks / "desk.b.png", 8, 32, 14, 38)
    save_mask(masks / "desk.box.png", 8, 17, 14, 23)
    (root / "mug-anna/queries.csv").write_text(f"scene,text,look_alikes,landmarks\n{table}")
    return root


def test_a_folder_tells_the_copies_of_a_subject_apart(tmp_path: Path) -> None:
    root = folder_with_copies(tmp_path / "a", "desk.png,,copy=desk.b.png,box=desk.box.png\n")
    source = folder.read(root, {"relations": "true"})
    assert sorted(sorted(each) for each in pairs_of(source).values()) == [
        ["referred: the mug farthest to the left", "referred: the mug farthest to the right"],
        ["referred: the mug to the left of the box", "referred: the mug to the right of the box"],
    ]
    assert dict(source.left_out) == {"queries with the common text about a scene with copies of the subject": 1}
    build(tmp_path / "built", folder.read(root, {"relations": "true"}))
    said = "desk.png,the {subject} on the left,copy=desk.b.png,box=desk.box.png\n"
    said += "desk.png,the {subject} to the left of the box,copy=desk.b.png,\n"
    own = folder.read(folder_with_copies(tmp_path / "b", said), {"relations": "true"})
    assert sorted(sorted(each) for each in pairs_of(own).values()) == [
        ["referred: the mug farthest to the left", "referred: the mug farthest to the right"],
    ]
    assert dict(own.left_out) == {"relations: pairs with a text that is asked about the scene anyway": 1}


def test_without_the_option_nothing_changes(tmp_path: Path) -> None:
    root = folder_with_copies(tmp_path, "desk.png,,copy=desk.b.png,box=desk.box.png\n")
    plain = folder.read(root, {})
    assert plain.n_queries == 1 and [row.pair_id for row in plain.queries(0)] == [None]


def test_scenes_without_anything_to_say_are_no_error(tmp_path: Path) -> None:
    draw_ycb(tmp_path)
    labels(tmp_path / "data/0049/000001-label.png", (sorted(ycb_video.NOUNS).index(CRACKER) + 1, 0, 0, 30, 44))
    photo(tmp_path / "data/0049/000001-color.png", 4901)
    source = ycb_video.read(tmp_path, {"absent": "0", "relations": "true", "scenes": "0049"})
    assert len(pairs_of(source)) == 2 and source.left_out["relations: subjects in scenes without a landmark"] == 1
