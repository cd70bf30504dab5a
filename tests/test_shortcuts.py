"""Shortcuts: a rigged set is found out, and training shows no subject's looks."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prisbench.tabletop.audit import report, rows, unseen, views, which
from prisbench.tabletop.audit.report import flaws, markdown, measure
from prisbench.tabletop.audit.rows import Row
from prisbench.tabletop.audit.unseen import drawn_captions
from prisbench.tabletop.captions import TRAINING_SCENES, ordinary_individuals, ordinary_scene
from prisbench.tabletop.individuals import article, full_phrase
from prisbench.tabletop.looks import HELD_OUT_PAIRS
from prisbench.tabletop.queries import Asked, Group, group, plan
from prisbench.tabletop.subjects import TabletopSubject, subjects

EACH = {"plain": 1, "other-category": 2, "look-alike:colour": 2, "relation": 2, "referred": 1, "absent": 2}
KINDS = ("other-category", "look-alike", "relation")
DOCS = Path(__file__).parents[1] / "docs" / "shortcuts.md"
OPEN = DOCS.parent / "audit" / "open-gates.json"
"""What is known to give something away; the lists may only shrink."""


@pytest.fixture(scope="module")
def asked() -> list[Group]:
    """Six subjects of test and two of validation, some scenes of the most important kinds about each."""
    few = [one for one in subjects() if one.number < (6 if one.split == "test" else 2)]
    return [group(subject, kind, index) for subject in few for kind, index in plan(EACH)]


@pytest.fixture(scope="module")
def measured(asked: list[Group]) -> list[Row]:
    return measure(asked)


def row(found: list[Row], predictor: str, scope: str) -> Row:
    (one,) = [r for r in found if r.predictor.startswith(predictor) and r.scope == scope]
    return one


def rigged(asked: list[Group], change: Callable[[Group, Asked], Asked]) -> list[Group]:
    return [dataclasses.replace(one, asked=tuple(change(one, each) for each in one.asked)) for one in asked]


def largest(one: Group, each: Asked) -> Asked:
    """Means the largest thing, where the subject stands once."""
    if each.meant is None or each.query_type == "referred":
        return each
    return dataclasses.replace(each, meant=int(np.argmax([mask.sum() for mask in one.scene.masks])))


def test_every_predictor_has_a_row_for_each_kind_of_query(asked: list[Group], measured: list[Row]) -> None:
    scopes = [r.scope for r in measured if r.predictor.startswith("area: ")]
    assert scopes == [which.ALL, "other-category", "look-alike", "look-alike:colour", "relation", "referred"]
    assert len({(r.question, r.predictor, r.scope) for r in measured}) == len(measured)
    for r in measured:
        assert 0 <= r.value <= 1 and r.interval is not None and r.interval[0] <= r.value <= r.interval[1]
        assert (r.gain is None) == (r.chance is None) == (r.question == "where")
    several = [
        len(one.scene.things)
        for one in asked
        for each in one.asked
        if one.subject.split == "test" and each.query_type in KINDS
    ]
    assert row(measured, "area", which.ALL).n == len(several) == 36
    assert row(measured, "area", which.ALL).chance == pytest.approx(np.mean([1 / n for n in several]))
    assert row(measured, "number of things:", "all").n == 6 * (1 + 2 + 2 + 4 + 2 + 2)


def test_what_is_the_same_for_all_things_of_a_scene_is_at_chance_exactly(measured: list[Row]) -> None:
    for predictor in ("a pattern that training never shows", "a pair of colours that training never shows"):
        for scope in (which.ALL, *KINDS, "referred"):
            found = row(measured, f"{predictor}: ", scope)
            assert found.value == pytest.approx(found.chance) and not found.above_chance


def test_scenes_tell_nothing_of_a_contradicted_text(measured: list[Row]) -> None:
    """They are those of true texts."""
    for r in measured:
        if r.scope == "contradicted" and r.needs in ("scene", "training") and "together" not in r.predictor:
            assert r.value == 0.5, r.predictor


def test_a_set_whose_subject_is_always_the_largest_thing_is_found_out(asked: list[Group]) -> None:
    found = measure(rigged(asked, largest))
    for scope in (which.ALL, *KINDS):
        one = row(found, "area: most", scope)
        assert one.value == 1.0 and one.above_chance and one in flaws(found)


def test_texts_that_tell_nothing_from_something_are_found_out(asked: list[Group]) -> None:
    texts = {True: "where is the {subject}", False: "the {subject}"}
    found = measure(rigged(asked, lambda _, each: dataclasses.replace(each, text=texts[each.meant is None])))
    for scope in ("all", "absent", "contradicted"):
        for predictor in ("number of words: less", "all words of the text", "all words, learned from other"):
            assert row(found, predictor, scope).value == 1.0 and row(found, predictor, scope).above_chance


def test_numbers_of_things_that_tell_absent_from_present_are_found_out(asked: list[Group]) -> None:
    few = [one for one in asked if (one.asked[0].meant is None) == (len(one.scene.things) == 1)]
    few += [one for one in asked if one.subset == "absent" and len(one.scene.things) < 2]
    absent = {one.subject.key for one in few if one.subset == "absent"}
    found = [r for r in measure(few) if r.predictor == "number of things: more" and r.scope == "absent"]
    assert not absent or found[0].value == 1.0


def test_the_noun_and_the_relation_are_no_shortcuts_however_good(measured: list[Row]) -> None:
    told = row(measured, "the outermost thing where the text points", "referred")
    assert told.chance is not None and told.value == 1.0
    assert row(measured, "things that the text names", "contradicted").value >= 0.5
    assert not {"noun", "relation"} & {r.needs for r in flaws(measured)}


def test_one_row_above_chance_by_luck_is_no_flaw_and_a_sure_one_is() -> None:
    sure = Row("which", "a", "scene", "all", 9, 0.9, (0.8, 1.0), 0.5, (0.3, 0.5))
    luck = Row("which", "b", "scene", "all", 9, 0.6, (0.51, 0.7), 0.5, (0.01, 0.2))
    nothing = [Row("which", f"{n}", "scene", "all", 9, 0.5, (0.4, 0.6), 0.5, (-0.1, 0.1)) for n in range(50)]
    assert luck.above_chance and flaws([sure, luck, *nothing]) == [sure] and flaws([]) == []
    assert flaws([dataclasses.replace(sure, needs="noun")]) == []


def test_where_by_pencil(measured: list[Row]) -> None:
    lot = "one of the things, by lot"
    assert row(measured, "all things", "plain").value == row(measured, lot, "plain").value == 1.0
    assert row(measured, lot, "relation").value == row(measured, "a mark", "relation").chance
    assert 0.0 < row(measured, "where the subjects of validation stood", "all that mean a thing").value < 0.4


def test_credit_is_divided_among_ties() -> None:
    score = np.asarray([2.0, 1.0, 2.0])
    assert [which.credit(score, i) for i in range(3)] == [0.5, 0.0, 0.5]


def test_shared_looks_by_pencil() -> None:
    who = subjects()[0].who
    assert views.shared(who, who) == 6 and views.shared(who, dataclasses.replace(who, noun="x", build=9)) == 4
    assert (views._lead([3, 5, 4]), views._lead([5, 5, 1]), views._lead([2])) == (1, 0, 0)


def test_logistic_regression_finds_the_side_and_the_strength_of_a_term() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    chance = 1 / (1 + np.exp(-(2.0 * x[:, 0] - 1.0 * x[:, 1])))
    score = rows.logistic(x, rng.random(4000) < chance)
    assert score(np.eye(3)) == pytest.approx([2.0, -1.0, 0.0], abs=0.15)


def test_the_tables_have_a_line_a_predictor_and_bold_what_is_above_chance(measured: list[Row]) -> None:
    text = markdown(measured)
    assert text.count("\n### ") == 2 and text.startswith("### Which of the things is it?")
    for r in measured:
        lines = [line for line in text.splitlines() if line.startswith(f"| {report._name(r)} | {r.needs} |")]
        assert any(f"{r.value:.2f} [" in line for line in lines)
        assert any(f"**{r.value:.2f} [" in line for line in lines) or not r.above_chance
    assert len({line.count("|") for line in text.split("###")[1].splitlines() if line.startswith("|")}) == 1


@pytest.mark.slow
def test_the_benchmark_has_no_shortcut_but_those_listed_and_the_page_says_what_is_measured() -> None:
    found = measure(report.benchmark())
    known = json.loads(OPEN.read_text())["tabletop-v3, without the photos"]
    assert sorted(f"{r.question}: {r.predictor}: {r.scope}" for r in flaws(found)) == known
    for r in flaws(found):
        assert r.chance is not None
        assert r.value - r.chance < 0.2, "small, though sure"
    shown = DOCS.read_text().split("(report.benchmark())) -->\n")[1].split("<!-- end -->")[0]
    assert markdown(found) == shown


# --- what training shows --------------------------------------------------------------------------------------------


def test_no_subjects_looks_are_in_the_first_training_scenes_or_captions() -> None:
    found = unseen.unseen(1500, drawn_captions(12))
    assert found.broken == () and (found.scenes, found.captions, found.subjects) == (1500, 12, 72)
    assert len(found.patterns) == 6 and len(found.pairs) == 26 and found.things > 3000 and found.phrases > 3
    assert min(found.by_pattern, found.by_pair) >= 24 and found.by_pattern + found.by_pair >= 72
    assert "proven: no subject's looks" in found.render()


@pytest.mark.slow
def test_no_subjects_looks_are_in_any_training_scene() -> None:
    found = unseen.unseen()
    assert found.broken == () and found.scenes == TRAINING_SCENES
    text = DOCS.read_text()
    assert all(line in text for line in found.render().splitlines() if "captions" not in line)


def test_a_subject_that_training_shows_is_named() -> None:
    shown = next(who for n in range(9) for who in ordinary_individuals(f"train/{n}") if who.pattern != "plain")
    found = unseen.unseen(200, subjects=[TabletopSubject("test", 7, shown)])
    assert found.broken == (
        f"subject test/7: training shows {shown.pattern} things and {shown.main} with {shown.second}",
    )
    assert "proven" not in found.render() and "subject test/7" in found.render()


def test_a_caption_with_an_unseen_pattern_or_pair_is_named() -> None:
    one, other = sorted(sorted(pair) for pair in HELD_OUT_PAIRS)[0]
    said = [f"a mug with zigzag stripes and a {one} bowl", f"a photo of a striped {one} and {other} mug", "a red mug"]
    found = unseen.unseen(500, said)
    assert found.broken == (
        f"the caption {said[0]!r} names zigzag, which no scene shows",
        f"the caption {said[1]!r} names {one} and {other}, which no scene shows",
    )


@pytest.mark.parametrize(
    ("caption", "pairs"),
    [
        ("a striped red and white mug, a teal box and a pink ball", [("red", "white")]),
        ("a red mug with a blue band and a grey bowl with pink dots", [("blue", "red"), ("grey", "pink")]),
        ("a red mug and a blue bowl on a plain desk", []),
        ("a lamp left of a checked white and black plant", [("black", "white")]),
    ],
)
def test_pairs_are_read_where_they_are_of_one_thing(caption: str, pairs: list[tuple[str, str]]) -> None:
    assert unseen._named(caption)[1] == pairs


def test_every_full_phrase_gives_away_its_pair_of_colours() -> None:
    rng = random.Random(3)
    for n in range(100):
        for who in ordinary_individuals(f"train/{n}"):
            expected = [] if who.pattern == "plain" else [tuple(sorted((who.main, who.second)))]
            assert unseen._named(article(full_phrase(who, rng)))[1] == expected


def test_captions_are_those_of_the_scenes_in_any_number_of_processes() -> None:
    expected = [ordinary_scene(f"train/{n}")[1] for n in range(3)]
    assert list(drawn_captions(3)) == expected == list(drawn_captions(3, processes=2))


def test_the_recipe_trains_on_as_many_scenes_as_are_looked_through() -> None:
    source = (Path(unseen.__file__).parents[2] / "embedded" / "recipe.py").read_text()
    assert f"scenes: int = {TRAINING_SCENES:_}" in source
