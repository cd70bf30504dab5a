from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.cards import check, croissant
from prisbench.datasets.cards.check import check_card, check_cards, render
from prisbench.datasets.cards.facts import facts, facts_markdown
from prisbench.datasets.cards.front_matter import hub_licence, size_category
from prisbench.datasets.cards.structure import FACTS, HEADINGS, structure
from prisbench.datasets.cards.text import (
    block,
    parse_card,
    read_card,
    readme,
    with_block,
    with_facts,
    write_facts,
    write_readme,
)
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.named import DIGESTS, NAMES, SOURCES, source_module
from prisbench.datasets.samples import SAMPLES
from prisbench.datasets.schema import TABLES, QueryRow, SubjectRow
from prisbench.errors import DataError, UsageError
from prisbench.types import Thing
from tests.drawing import draw_box, draw_scene

CARDS = Path(__file__).parents[1] / "data_cards"
REAL = os.environ.get("PRISBENCH_DATA")

FRONT = """\
pretty_name: Small
license: mit
language: en
task_categories: [image-segmentation]
tags: [prisbench, synthetic]
croissant:
  creator: [Ada, Bob]
  url: https://example.org/small
  published: 2026-11-22
  cite_as: Ada and Bob, 2026
  derived_from: [https://example.org/larger]
"""
PROSE = "".join(f"\n## {heading}\n\nWhat stands under {heading.lower()},\non two lines.\n" for heading in HEADINGS)
BODY = f"# Small\n\nA set of boxes,\ndrawn by the tests.\n\n<!-- facts -->\nold\n<!-- /facts -->\n{PROSE}"
CARD = f"---\n{FRONT}---\n\n{BODY}"
UNKNOWN = "| fact | value | known from |\n| --- | --- | --- |\n" + "".join(
    f"| {fact} | not built here | |\n" for fact in FACTS
)
UNBUILT = CARD.replace("old\n", f"built: no\n\n{UNKNOWN}")


def small(folder: Path) -> Dataset:
    """Two splits, two nouns, one mask of a photo, look-alikes in a look-alike and in an absent query."""
    mug = SubjectRow("mug", (draw_scene(1, (9, 14)),), "validation", "MIT", "drawn")
    box = SubjectRow(
        "box",
        (draw_scene(2, (9, 14)), draw_scene(3, (10, 16)), draw_scene(4, (10, 16))),
        "test",
        "CC0-1.0",
        "drawn",
        masks=(None, draw_box((10, 16), 2, 2, 5, 9), None),
    )
    other = draw_box((12, 20), 1, 12, 9, 18)

    def ask(about: SubjectRow, seed: int, kind: str, *alike: Any, text: str = "the {subject}") -> QueryRow:
        mask = draw_box((12, 20), 3, 5, 9, 15) & (kind != "absent")
        return QueryRow(
            about.id, about.noun, draw_scene(seed, (12, 20)), text, kind, mask, alike, about.split, "CC0-1.0", "drawn"
        )

    queries = [
        ask(mug, 10, "plain"),
        ask(box, 11, "plain"),
        ask(box, 11, "plain", text="a photo of the {subject}"),
        ask(box, 12, "look-alike", other, ~other),
        ask(box, 13, "absent", other),
        ask(box, 14, "absent"),
    ]
    write_dataset(folder, NewDataset("small", "1.2", [mug, box], queries, "# Small\n\nA few boxes.\n", seed=5))
    return open_dataset(folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small(tmp_path_factory.mktemp("cards") / "small")


def good_card(folder: Path, dataset: Dataset) -> Path:
    path = folder / "small-v1.2.md"
    path.write_text(with_facts(CARD, facts(dataset)))
    return path


# Facts are what the rows say.


def test_facts_are_counted_from_the_rows(built: Dataset) -> None:
    found = facts(built)
    assert (found.id, found.digest, found.seed) == ("small-v1.2", built.digest, 5)
    assert found.licences == ("CC0-1.0", "MIT") and found.n_queries == 6
    test = found.splits["test"]
    assert (test.subjects, dict(test.nouns), dict(test.photos)) == (1, {"box": 1}, {3: 1})
    assert dict(test.photo_sizes) == {(9, 14): 1, (10, 16): 2} and test.photo_masks == 1
    assert test.scenes == 4 and dict(test.scene_sizes) == {(12, 20): 4}
    assert dict(test.queries) == {"plain": 2, "look-alike": 1, "absent": 2} and dict(test.queries_each) == {5: 1}
    assert test.texts == 2 and dict(test.look_alikes) == {2: 1} and test.absent_with_look_alike == 1
    assert dict(test.licences) == {"CC0-1.0": 6} and dict(found.splits["validation"].licences) == {
        "MIT": 1,
        "CC0-1.0": 1,
    }
    area = test.areas["plain"]
    assert (area.n, area.mean, area.sd, area.q50) == (2, 0.25, 0.0, 0.25)
    assert test.centroid_x is not None and test.centroid_x.n == 3
    assert test.centroid_x.mean == 0.5  # columns 5 to 14 of 20
    assert test.centroid_y is not None and test.centroid_y.mean == 0.5  # rows 3 to 8 of 12


def test_a_subject_nobody_asks_about_counts_with_no_queries(tmp_path: Path) -> None:
    rows = [SubjectRow(noun, (draw_scene(n, (9, 14)),), "test", "MIT", "drawn") for n, noun in enumerate(("a", "b"))]
    query = QueryRow(
        rows[0].id,
        "a",
        draw_scene(9),
        "the {subject}",
        "plain",
        draw_box((12, 20), 0, 0, 2, 2),
        (),
        "test",
        "MIT",
        "x",
    )
    write_dataset(tmp_path / "d", NewDataset("lonely", "1", rows, [query], ""))
    assert dict(facts(open_dataset(tmp_path / "d")).splits["test"].queries_each) == {0: 1, 1: 1}


def test_the_block_says_the_facts_in_words(built: Dataset) -> None:
    text = facts_markdown(facts(built))
    assert text.startswith("built: yes\n")
    for line in (
        "| fact | validation | test |",
        "| reference photos a subject | 1 | 3 |",
        "| photo sizes, h x w | 9 x 14 (1) | 9 x 14 (1), 10 x 16 (2) |",
        "| queries, look-alike | 0 | 1 |",
        "| area fraction, plain: mean; 5, 50, 95 % | 0.250; 0.250, 0.250, 0.250 | 0.250; 0.250, 0.250, 0.250 |",
        "| area fraction, look-alike: mean; 5, 50, 95 % | none | 0.250; 0.250, 0.250, 0.250 |",
        "| licences, rows | CC0-1.0 (1), MIT (1) | CC0-1.0 (6) |",
        f"Digest of the content: `{built.digest}`.  Seed: 5.",
    ):
        assert line in text.splitlines()
    assert text == facts_markdown(facts(built))


def test_pairs_and_further_things_are_counted_where_there_are_any(built: Dataset, tmp_path: Path) -> None:
    assert "pairs of queries" not in facts_markdown(facts(built)) and "further" not in facts_markdown(facts(built))
    mug = SubjectRow("mug", (draw_scene(1, (9, 14)),), "test", "MIT", "drawn")
    mask, box = draw_box((12, 20), 3, 5, 6, 8), draw_box((12, 20), 0, 10, 3, 14)
    things = (Thing(mask, "mug", "subject"), Thing(box, "box", "landmark"))
    said = QueryRow(
        mug.id, "mug", draw_scene(9), "the {subject} below the box", "referred", mask, (), "test", "MIT", "x",
        things=things, meant=0, pair_id="1",
    )  # fmt: skip
    denied = dataclasses.replace(
        said, text="the {subject} above the box", query_type="contradicted", mask=np.zeros_like(mask), meant=None
    )
    write_dataset(tmp_path / "d", NewDataset("pairs", "1", [mug], [said, denied], ""))
    lines = facts_markdown(facts(open_dataset(tmp_path / "d"))).splitlines()
    assert "| pairs of queries | 1 |" in lines
    assert "| further things in the scenes of queries | landmark (2) |" in lines


def test_a_damaged_shard_is_named(built: Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built.folder, tmp_path / "copy"))
    shard = folder / "queries/test-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(DataError, match=r"queries/test-00000.parquet is damaged .*; copy it again or rebuild"):
        facts(open_dataset(folder))


# A card and its data agree, or the difference is shown.


def test_a_card_with_the_facts_written_agrees_and_is_left_alone(built: Dataset, tmp_path: Path) -> None:
    path = good_card(tmp_path, built)
    assert check_card(path, built) == []
    before = path.read_bytes()
    assert write_facts(path, built) is False and path.read_bytes() == before
    card = read_card(path)
    assert card.front["license"] == ["cc0-1.0", "mit"] and card.front["size_categories"] == ["n<1K"]
    assert card.front["croissant"]["creator"] == ["Ada", "Bob"]
    assert card.built is True and "What stands under people in it,\non two lines." in card.body


def test_a_front_matter_that_says_the_same_keeps_its_bytes(built: Dataset, tmp_path: Path) -> None:
    path = good_card(tmp_path, built)
    same = path.read_text().replace("license: [cc0-1.0, mit]", "license:  # both\n- cc0-1.0\n- mit")
    path.write_text(same)
    assert check_card(path, built) == [] and path.read_text() == same


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        ("| queries, absent | 0 | 2 |", "| queries, absent | 0 | 3 |", ["-| queries, absent | 0 | 3 |"]),
        ("Seed: 5", "Seed: 6", ["Seed: 6."]),
        ("[n<1K]", "[1K<n<10K]", ["-size_categories: [1K<n<10K]", "+size_categories: [n<1K]"]),
        ("[cc0-1.0, mit]", "mit", ["-license: mit", "+license: [cc0-1.0, mit]"]),
        ("test-*.parquet", "train-*.parquet", ["-  - {split: test, path: queries/train-*.parquet}"]),
    ],
)
def test_what_differs_is_shown_and_mended(built: Dataset, tmp_path: Path, old: str, new: str, lines: list[str]) -> None:
    path = good_card(tmp_path, built)
    good = path.read_text()
    assert old in good
    path.write_text(good.replace(old, new, 1))
    found = check_card(path, built)
    for line in lines:
        assert any(line in one for one in found), found
    assert all(one[0] in "+-" for one in found)
    assert write_facts(path, built) and check_card(path, built) == []


def test_a_card_of_another_version_is_noticed(built: Dataset, tmp_path: Path) -> None:
    path = good_card(tmp_path, built).rename(tmp_path / "small-v1.3.md")
    assert check_card(path, built) == [
        "the card is called small-v1.3, the dataset small-v1.2; one of the two has the wrong version"
    ]


# What every card must have.


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("pretty_name: Small\n", "", "the front matter has no pretty_name"),
        ("license: mit", "license: MIT", "license 'MIT' is no licence of the Hub; write `other` and a license_name"),
        ("license: mit", "license: other", "is `other`, so it must have a license_name"),
        ("license: mit", "license: mit\nsize_categories: [n<2K]", "size category 'n<2K' is none of n<1K"),
        ("  creator: [Ada, Bob]\n", "", "no croissant: creator"),
        ("  published:", "  publishd:", "the front matter's croissant has unknown keys: publishd"),
        ("# Small\n", "", "there is no title"),
        ("## Licences", "## Licence", "there is no heading `## Licences`"),
        (
            "What stands under licences,\non two lines.\n",
            "",
            "nothing stands under `## Licences`",
        ),
        ("on two lines", "[More Information Needed]", "is a placeholder"),
        ("on two lines", "TODO", "'TODO' is a placeholder"),
        ("built: no", "built: maybe", "must begin with `built: yes` or `built: no`"),
        ("built: no", "built: yes", "says `built: yes` without the digest"),
        ("built: no", "built: yes", "the front matter has no configs"),
        ("<!-- /facts -->", "", "there must be one facts block"),
        ("| subjects | not built here | |", "| subjects | 40 | |", "'subjects' must say the address it is known from"),
        (
            "| subjects | not built here | |",
            "| subjects | not built here | https://example.org |",
            "'subjects' is 'not built here' and yet known from",
        ),
        ("| subjects |", "| Subjects |", "the facts block must have the rows subjects, nouns"),
        ("| digest | not built here | |", "| digest | abc | https://example.org |", "nobody knows a digest before"),
        ("| fact | value | known from |", "| fact | value |", "so its table must be | fact | value | known from |"),
    ],
)
def test_a_card_that_lacks_something_is_told_so(old: str, new: str, problem: str) -> None:
    assert structure(UNBUILT, "card") == []
    assert old in UNBUILT
    found = structure(UNBUILT.replace(old, new, 1), "card")
    assert any(problem in line for line in found), found


def test_headings_in_another_order_are_noticed() -> None:
    swapped = (
        UNBUILT.replace("## Licences", "## X")
        .replace("## People in it", "## Licences")
        .replace("## X", "## People in it")
    )
    (line,) = structure(swapped, "card")
    assert line.startswith("the headings stand in another order than Why it exists, ")


def test_a_fact_with_its_source_is_honest() -> None:
    text = UNBUILT.replace("| subjects | not built here | |", "| subjects | 40 | the paper, https://example.org/a |")
    assert structure(text, "card") == []


def test_a_text_that_is_no_card_is_one_clear_line() -> None:
    for text, message in (
        ("---\na: [1\n---\n", r"x.md: the front matter is not YAML \("),
        ("---\n- a\n---\n", r"x.md: the front matter must be a YAML mapping, .* it is \['a'\]"),
        ("---\na: 1\n", "x.md: the front matter has no closing line ---"),
    ):
        with pytest.raises(DataError, match=message) as error:
            parse_card(text, "x.md")
        assert "\n" not in str(error.value)
    assert parse_card("# Only words\n", "x.md").front == {}


def test_a_card_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.md").write_bytes(b"# caf\xe9")
    with pytest.raises(DataError, match=r"x.md is not UTF-8 text \(byte 5\)"):
        read_card(tmp_path / "x.md")


def test_blocks_are_replaced_by_their_markers() -> None:
    text = "a\n<!-- facts -->\n1\n<!-- /facts -->\nb\n<!-- more -->\n2\n<!-- /more -->\n"
    assert block(text, "facts") == "\n1\n"
    assert with_block(text, "more", "3", "x") == text.replace("2", "3")
    assert with_block("a\n", "more", "3", "x") == "a\n\n## More\n\n<!-- more -->\n3\n<!-- /more -->\n"
    with pytest.raises(DataError, match="x: <!-- facts --> and <!-- /facts --> must stand in it once each"):
        with_block(text + "<!-- facts -->", "facts", "3", "x")


def test_names_of_licences_and_sizes_are_the_hubs() -> None:
    assert hub_licence(["CC-BY-4.0"]) == "cc-by-4.0"
    assert hub_licence(["MIT", "Flickr terms of use", "CC0-1.0"]) == ["cc0-1.0", "mit", "other"]
    assert [size_category(n) for n in (0, 999, 1000, 99_999)] == ["n<1K", "n<1K", "1K<n<10K", "10K<n<100K"]


def test_a_licence_without_a_name_on_the_hub_gets_its_own_words(tmp_path: Path) -> None:
    subject = SubjectRow("mug", (draw_scene(1, (9, 14)),), "test", "Flickr terms of use", "drawn")
    mask = draw_box((12, 20), 0, 0, 2, 2)
    query = QueryRow(subject.id, "mug", draw_scene(9), "the {subject}", "plain", mask, (), "test", "MIT", "x")
    write_dataset(tmp_path / "d", NewDataset("flickr", "1", [subject], [query], ""))
    front = parse_card(with_facts(CARD, facts(open_dataset(tmp_path / "d"))), "x").front
    assert (front["license"], front["license_name"]) == (["mit", "other"], "Flickr terms of use; MIT")


# The README.md of a built folder.


def test_the_card_becomes_the_readme_that_load_dataset_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small(tmp_path / "small")
    monkeypatch.setattr("prisbench.datasets.cards.text.cards_folder", lambda: tmp_path / "cards")
    (tmp_path / "cards").mkdir()
    write_readme(dataset.folder)  # no card of that name: the few words that are there
    card = read_card(dataset.folder / "README.md")
    assert card.title == "Small" and card.built and card.front["pretty_name"]
    (tmp_path / "cards" / "small-v1.2.md").write_text(UNBUILT)
    assert write_readme(dataset.folder) == dataset.folder / "README.md"
    card = read_card(dataset.folder / "README.md")
    assert card.front["pretty_name"] == "Small" and "## Who could be harmed" in card.body
    assert check_cards([dataset.folder])[0] == check.CardReport(
        dataset.folder / "README.md", (), "held to the data beside it"
    )
    from datasets import load_dataset

    queries = load_dataset(str(dataset.folder), split="test", cache_dir=str(tmp_path / "cache"))
    assert len(queries) == 5 and queries.column_names == TABLES["queries"].names


def test_the_readme_has_the_facts_of_its_own_data(built: Dataset) -> None:
    text = readme(CARD.replace("old", "built: yes\n\nDigest of the content: `" + 64 * "0" + "`"), built)
    assert built.digest in text and 64 * "0" not in text


# Checking many.


def test_a_folder_of_cards_is_checked_and_written(built: Dataset, tmp_path: Path) -> None:
    good_card(tmp_path, built)
    (tmp_path / "far-v1.md").write_text(UNBUILT)
    far, near = check_cards([tmp_path])
    assert (far.differences, far.note) == ((), "not built here: its structure alone")
    assert (near.differences, near.note) == (
        (),
        "its data are not here: its structure alone; name them with --dataset",
    )
    near.path.write_text(near.path.read_text().replace("| subjects | 1 | 1 |", "| subjects | 7 | 1 |"))
    (report,) = check_cards([near.path], dataset=str(built.folder))
    assert report.differences == ("-| subjects | 7 | 1 |", "+| subjects | 1 | 1 |")
    assert render([far, report]).splitlines() == [
        f"ok      {far.path}  (not built here: its structure alone)",
        f"differs {report.path}  (held to {built.folder})",
        "        -| subjects | 7 | 1 |",
        "        +| subjects | 1 | 1 |",
        "2 cards: 1 to mend",
    ]
    (report,) = check_cards([near.path], dataset=str(built.folder), write=True)
    assert (report.differences, report.note) == ((), f"written, held to {built.folder}")


def test_a_path_without_cards_is_an_error_of_its_own(built: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no data card \(\*.md\) and no dataset"):
        check_cards([tmp_path])
    with pytest.raises(DataError, match=r"there\.md does not exist"):
        check_cards([tmp_path / "there.md"])
    for name in ("a-v1.md", "b-v1.md"):
        (tmp_path / name).write_text(UNBUILT)
    with pytest.raises(UsageError, match="a dataset has one card, and here are 2"):
        check_cards([tmp_path], dataset=str(built.folder))


# The cards of this repository.


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.md")), ids=lambda path: path.stem)
def test_every_card_here_is_whole(path: Path) -> None:
    assert structure(path.read_text(), path.name) == []


def test_every_source_has_a_card_that_says_the_readers_licence() -> None:
    there = {path.stem: read_card(path) for path in CARDS.glob("*.md")}
    for name in SOURCES:
        own = {stem: card for stem, card in there.items() if re.fullmatch(rf"{name}(-20\d\d)?-v[\d.]+", stem)}
        assert own, f"data_cards/ has no card of the source {name}"
        for stem, card in own.items():
            if name != "tabletop":
                licence = source_module(name).LICENCE
                assert card.front["license"] == hub_licence([licence]), f"{stem}: its reader writes {licence!r}"
                assert f"`prisbench build-dataset {name}`" in " ".join(card.body.split())


def test_the_benchmarks_card_has_the_digest_of_what_is_drawn() -> None:
    card = read_card(CARDS / f"{NAMES[0]}.md")
    assert f"`{DIGESTS[NAMES[0]]}`" in (block(card.body, "facts") or "")


@pytest.mark.data
@pytest.mark.skipif(REAL is None, reason="PRISBENCH_DATA names no folder with real photos")
def test_the_cards_of_the_small_real_sets_agree_with_the_files() -> None:
    reports = check_cards([CARDS / f"{name}.md" for name in SAMPLES], data=REAL)
    assert [(report.differences, report.note) for report in reports] == 2 * [((), "held to the real files")]


def test_without_the_real_files_only_their_structure_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRISBENCH_DATA", raising=False)
    for report in check_cards([CARDS / f"{name}.md" for name in SAMPLES]):
        assert report.differences == () and report.note.startswith("PRISBENCH_DATA names no folder with ")


# Croissant.


def described(dataset: Dataset, text: str = CARD) -> dict[str, Any]:
    return croissant.croissant(dataset, with_facts(text, facts(dataset)))


def test_every_column_is_described() -> None:
    assert {table: list(columns) for table, columns in croissant.COLUMNS.items()} == {
        table: schema.names for table, schema in TABLES.items()
    }


def test_croissant_is_valid_and_reads_the_rows(tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed (the extra `croissant`)")
    dataset = small(tmp_path / "small")
    write_readme(dataset.folder, CARD)
    path = croissant.write_croissant(dataset.folder)
    assert open_dataset(dataset.folder, verify=True).digest == dataset.digest
    read = mlc.Dataset(jsonld=str(path))
    issues = read.metadata.ctx.issues
    assert (list(issues.errors), list(issues.warnings)) == ([], [])
    assert read.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    assert read.metadata.data_limitations == ["What stands under what it is not for, on two lines."]
    rows = {row["queries/id"].decode(): row for row in read.records("queries")}
    kept = {row.id: row for split in dataset.splits for row in dataset.query_rows(split)}
    assert rows.keys() == kept.keys()
    for name, row in kept.items():
        found = rows[name]
        assert found["queries/image"].size == (20, 12) and found["queries/area_fraction"] == row.area_fraction
        assert found["queries/mask"]["queries/mask/size"] == [12, 20]
        assert len(found["queries/look_alikes"] or []) == len(row.look_alikes)
        assert found["queries/split"].decode() == row.split
    again = mlc.Dataset(jsonld=str(path))  # a second table from the same object comes out as the names of its columns
    photos = {row["subjects/id"].decode(): row["subjects/photos"] for row in again.records("subjects")}
    assert sorted(len(some) for some in photos.values()) == [1, 3]


def test_mlcroissant_would_notice_a_broken_description(built: Dataset, tmp_path: Path) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed (the extra `croissant`)")
    wrong = described(built)
    wrong["recordSet"][1]["field"][0]["source"]["fileSet"]["@id"] = "nothing"
    (tmp_path / "c.json").write_text(json.dumps(wrong))
    with pytest.raises(mlc.ValidationError, match="nothing"):
        mlc.Dataset(jsonld=str(tmp_path / "c.json"))


def test_croissant_has_each_file_with_its_checksum(built: Dataset) -> None:
    files = [one for one in described(built)["distribution"] if one["@type"] == "cr:FileObject"]
    assert {one["contentUrl"]: one["sha256"] for one in files} == dict(built.manifest.files)
    for one in files:
        assert one["contentSize"] == f"{(built.folder / one['contentUrl']).stat().st_size} B"


def test_croissant_says_what_the_card_says(built: Dataset) -> None:
    found = described(built)
    assert (found["name"], found["version"], found["alternateName"]) == ("small-v1.2", "1.2.0", "Small")
    assert found["description"] == "A set of boxes, drawn by the tests."
    assert found["license"] == [f"https://spdx.org/licenses/{name}.html" for name in ("CC0-1.0", "MIT")]
    assert [one["name"] for one in found["creator"]] == ["Ada", "Bob"]
    assert (found["datePublished"], found["url"]) == ("2026-11-22", "https://example.org/small")
    assert found["prov:wasDerivedFrom"] == [{"@id": "https://example.org/larger"}]
    assert built.digest in found["prov:wasGeneratedBy"]["description"]
    assert found["rai:hasSyntheticData"] is True
    for field, headings in croissant.RAI.items():
        assert found[field] == "\n\n".join(f"What stands under {one.lower()}, on two lines." for one in headings)
    assert croissant.croissant(built, CARD, url="https://example.org/there")["url"] == "https://example.org/there"
    assert json.dumps(found) == json.dumps(described(built))


def test_croissant_makes_nothing_up(built: Dataset) -> None:
    found = croissant.croissant(built, "# Small\n\nA few boxes.\n")
    assert found["description"] == "A few boxes."
    assert [key for key in found if key.startswith("rai:")] == []
    assert not {"url", "creator", "datePublished", "citeAs", "prov:wasDerivedFrom"} & set(found)
