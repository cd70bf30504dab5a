"""Shortcuts: a rigged set is found out, the benchmark is not, and training shows no subject's looks."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from prisbench.tabletop import audit as shortcuts
from prisbench.tabletop import scenes as tabletop
from prisbench.tabletop.audit import Row, drawn_captions, flaws, markdown, measure, unseen
from prisbench.tabletop.scenes import TabletopQuery, TabletopSubject, ordinary_individuals, ordinary_scene

SCOPES = ["all with several things", "other-category", "look-alike", "relation"]
DOCS = Path(__file__).parents[1] / "docs" / "shortcuts.md"


@pytest.fixture(scope="module")
def asked() -> list[TabletopQuery]:
    """Six subjects of test and three of validation, two queries of each type about each, seven absent."""
    few = [one for one in tabletop.subjects() if one.number < (6 if one.split == "test" else 3)]
    each = {**dict.fromkeys(tabletop.QUERIES, 2), "absent": 7}
    return [one for subject in few for one in tabletop.queries(subject, counts=each)]


@pytest.fixture(scope="module")
def rows(asked: list[TabletopQuery]) -> list[Row]:
    return measure(asked)


def row(rows: list[Row], predictor: str, scope: str) -> Row:
    (found,) = [r for r in rows if r.predictor.startswith(predictor) and r.scope == scope]
    return found


def test_every_predictor_has_a_row_for_each_kind_of_query(asked: list[TabletopQuery], rows: list[Row]) -> None:
    assert [r.scope for r in rows if r.predictor.startswith("area: ")] == SCOPES
    assert len({(r.question, r.predictor, r.scope) for r in rows}) == len(rows)
    for r in rows:
        assert 0 <= r.value <= 1 and r.interval is not None and r.interval[0] <= r.value <= r.interval[1]
        assert (r.gain is None) == (r.chance is None) == (r.question == "where")
    several = [one for one in asked if one.subject.split == "test" and one.query_type in SCOPES]
    assert row(rows, "area", SCOPES[0]).n == len(several) == 36
    assert row(rows, "area", SCOPES[0]).chance == pytest.approx(np.mean([1 / len(o.scene.things) for o in several]))
    assert row(rows, "number of things:", "all").n == 90


def test_what_is_the_same_for_all_things_of_a_scene_is_at_chance_exactly(rows: list[Row]) -> None:
    for predictor in ("a pattern that training never shows", "either of the two", "patterned"):
        for scope in SCOPES:
            found = row(rows, f"{predictor}: ", scope)
            assert found.value == pytest.approx(found.chance) and not found.above_chance


def test_a_set_whose_subject_is_always_the_largest_thing_is_found_out(asked: list[TabletopQuery]) -> None:
    found = measure(
        [
            one
            if one.target is None
            else dataclasses.replace(one, target=int(np.argmax([mask.sum() for mask in one.scene.masks])))
            for one in asked
        ]
    )
    for scope in SCOPES:
        largest = row(found, "area: most", scope)
        assert largest.value == 1.0 and largest.above_chance and largest in flaws(found)
    assert row(found, "all of the scene's together", SCOPES[0]) in flaws(found)


def test_a_set_whose_subject_is_always_the_farthest_thing_is_found_out(asked: list[TabletopQuery]) -> None:
    found = measure([one if one.target is None else dataclasses.replace(one, target=0) for one in asked])
    assert row(found, "order of painting (the nearest comes last): least", SCOPES[0]).value == 1.0


def test_texts_that_tell_absent_from_present_are_found_out(asked: list[TabletopQuery]) -> None:
    texts = {True: "where is the {subject}", False: "the {subject}"}
    found = measure([dataclasses.replace(one, text=texts[one.target is None]) for one in asked])
    assert row(found, "number of words: less", "all").value == 1.0
    assert row(found, "all words of the text", "all").value == 1.0
    assert {"number of words: less", "all words of the text", "all together, the noun aside"} <= {
        r.predictor for r in flaws(found)
    }


def test_numbers_of_things_that_tell_absent_from_present_are_found_out(asked: list[TabletopQuery]) -> None:
    found = measure([one for one in asked if (one.target is None) == (len(one.scene.things) == 1)])
    number = row(found, "number of things: more", "all")
    assert number.value == 1.0 and number in flaws(found)


def test_the_noun_and_the_relation_are_no_shortcuts_however_good(rows: list[Row]) -> None:
    told = row(rows, "the outermost thing where the text points", "relation")
    assert told.chance is not None and told.value > told.chance
    assert row(rows, "a thing of the subject's noun", "all").value > 0.5
    assert not {"noun", "relation"} & {r.needs for r in flaws(rows)}


def test_where_by_pencil(rows: list[Row]) -> None:
    assert row(rows, "all things", "plain").value == row(rows, "one of the things, by lot", "plain").value == 1.0
    assert row(rows, "one of the things, by lot", "relation").value == row(rows, "patterned", "relation").chance
    assert 0.02 < row(rows, "where the subjects of validation stood", "all but absent").value < 0.4


def test_credit_is_divided_among_ties() -> None:
    score = np.asarray([2.0, 1.0, 2.0])
    assert [shortcuts._credit(score, i) for i in range(3)] == [0.5, 0.0, 0.5]


def test_logistic_regression_finds_the_side_and_the_strength_of_a_term() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    chance = 1 / (1 + np.exp(-(2.0 * x[:, 0] - 1.0 * x[:, 1])))
    score = shortcuts._logistic(x, rng.random(4000) < chance)
    assert score(np.eye(3)) == pytest.approx([2.0, -1.0, 0.0], abs=0.15)


def test_the_tables_have_a_line_a_predictor_and_bold_what_is_above_chance(rows: list[Row]) -> None:
    text = markdown(rows)
    assert text.count("\n### ") == 2 and text.startswith("### Which of the things is it?")
    for r in rows:
        lines = [line for line in text.splitlines() if line.startswith(f"| {r.predictor} | {r.needs} |")]
        assert any(f"{r.value:.2f} [" in line for line in lines)
        assert any(f"**{r.value:.2f} [" in line for line in lines) or not r.above_chance
    assert len({line.count("|") for line in text.split("###")[1].splitlines() if line.startswith("|")}) == 1


@pytest.mark.slow
def test_the_benchmark_has_no_shortcut_and_the_page_says_what_is_measured() -> None:
    rows = measure(shortcuts.benchmark())
    assert flaws(rows) == []
    shown = DOCS.read_text().split("(shortcuts.benchmark())) -->\n")[1].split("<!-- end -->")[0]
    assert markdown(rows) == shown


# --- what training shows --------------------------------------------------------------------------------------------


def test_no_subjects_looks_are_in_the_first_training_scenes_or_captions() -> None:
    found = unseen(2000, drawn_captions(60))
    assert found.broken == () and (found.scenes, found.captions, found.subjects) == (2000, 60, 36)
    assert len(found.patterns) == 6 and len(found.pairs) == 45 and found.things > 4000 and found.phrases > 30
    assert found.by_pattern == found.by_pair == 21
    assert "proven: no subject's looks" in found.render()


@pytest.mark.slow
def test_no_subjects_looks_are_in_any_training_scene() -> None:
    found = unseen()
    assert found.broken == () and found.scenes == 32_000
    text = DOCS.read_text()
    assert all(line in text for line in found.render().splitlines() if "captions" not in line)


def test_a_subject_that_training_shows_is_named() -> None:
    shown = next(who for who in ordinary_individuals("train/1") if who.pattern != "plain")
    found = unseen(200, subjects=[TabletopSubject("test", 7, shown)])
    assert found.broken == (
        f"subject test/7: training shows {shown.pattern} things and {shown.main} with {shown.second}",
    )
    assert "proven" not in found.render() and "subject test/7" in found.render()


def test_a_caption_with_an_unseen_pattern_or_pair_is_named() -> None:
    one, other = sorted(sorted(pair) for pair in tabletop.HELD_OUT_PAIRS)[0]
    said = [f"a mug with zigzag stripes and a {one} bowl", f"a photo of a striped {one} and {other} mug", "a red mug"]
    found = unseen(500, said)
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
    assert shortcuts._named(caption)[1] == pairs


def test_every_full_phrase_gives_away_its_pair_of_colours() -> None:
    rng = random.Random(3)
    for n in range(300):
        for who in ordinary_individuals(f"train/{n}"):
            expected = [] if who.pattern == "plain" else [tuple(sorted((who.main, who.second)))]
            assert shortcuts._named(tabletop.article(tabletop.full_phrase(who, rng)))[1] == expected


def test_captions_are_those_of_the_scenes_in_any_number_of_processes() -> None:
    expected = [ordinary_scene(f"train/{n}")[1] for n in range(6)]
    assert list(drawn_captions(6)) == expected == list(drawn_captions(6, processes=2))


def test_the_recipe_trains_on_as_many_scenes_as_are_looked_through() -> None:
    source = (Path(shortcuts.__file__).parents[1] / "embedded" / "recipe.py").read_text()
    assert f"scenes: int = {tabletop.TRAINING_SCENES:_}" in source or "scenes: int = tabletop.TRAINING_SCENES" in source
