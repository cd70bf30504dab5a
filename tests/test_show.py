"""Looking at a dataset: what is chosen, how it is drawn, and that a page of hostile rows stays a page."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.load import open_dataset
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.show.choose import (
    LARGEST,
    PHOTOS,
    PIXELS,
    Block,
    ShownQuery,
    Totals,
    _side,
    choose,
    side_by_side,
)
from prisbench.datasets.show.page import MOST, show
from prisbench.datasets.show.picture import LONGEST, UNMEANT, Beside, OutlinedPicture, beside_words, draw, flat, shown
from prisbench.datasets.show.sheet import TILE, draw_sheet, wrap
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.drawing import GREEN, ORANGE, PINK, SKY, VERMILION
from tests.drawing import FIVE_TYPES, draw_box, draw_scene


class Page(HTMLParser):
    """What a browser would see of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        last = self.tags[-1][0] if self.tags else ""
        into = {"script": self.scripts, "style": self.styles}.get(last, self.words)
        into.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def near(image: np.ndarray, colour: tuple[int, int, int], by: int = 40) -> np.ndarray:
    """Where an image has about a colour, ``h w``."""
    found: np.ndarray = np.abs(image.astype(int) - colour).max(axis=2) <= by
    return found


def a_picture(size_hw: tuple[int, int], colour: int) -> OutlinedPicture:
    return OutlinedPicture(np.full((*size_hw, 3), colour, np.uint8), None, "")


def a_block(size_hw: tuple[int, int] = (12, 20), n: int = 1, kind: str = "plain") -> Block:
    asked = tuple(ShownQuery(f"{i}", "the {subject}", kind, "", a_picture(size_hw, 100)) for i in range(n))
    return Block("mug-1", "mug", "", 1, (a_picture((30, 10), 50),), asked)


def rewritten(folder: Path, table: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of a test shard, as damage or a hostile tool would."""
    path = folder / table / "test-00000.parquet"
    old = pq.read_table(path)
    rows = old.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=old.schema), path)


@pytest.fixture
def folder(tiny_dataset: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    for path in tiny_dataset.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(tiny_dataset)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(tiny_dataset)).write_bytes(path.read_bytes())
    return copy


# --- what is chosen -------------------------------------------------------------------------------------------------


def test_subjects_stand_evenly_apart_and_their_types_take_turns() -> None:
    queries = [(f"s{i}", kind) for i in range(8) for kind in ("plain", "plain", "absent", "look-alike") * 5]
    chosen = [queries[i] for i in choose(queries, 10)]
    kinds = ("plain", "look-alike", "absent", "plain", "look-alike")
    assert chosen == [(subject, kind) for subject in ("s0", "s4") for kind in kinds]


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([20, 20], 3, {"s0": 3}),
        ([20, 20], 7, {"s0": 4, "s1": 3}),
        ([20, 20], 30, {"s0": 15, "s1": 15}),
        ([1, 1, 1, 1], 3, {"s0": 1, "s1": 1, "s2": 1}),
        ([1, 9, 1], 10, {"s0": 1, "s1": 8, "s2": 1}),
        ([2, 1], 400, {"s0": 2, "s1": 1}),
        ([5, 5, 5, 5], 12, {"s0": 3, "s1": 3, "s2": 3, "s3": 3}),
        ([5, 5, 5, 5], 14, {"s0": 4, "s1": 4, "s2": 3, "s3": 3}),
        ([5, 1, 5, 5], 12, {"s0": 4, "s1": 1, "s2": 4, "s3": 3}),
    ],
)
def test_more_of_each_subject_come_in_only_where_subjects_are_too_few(
    sizes: list[int], limit: int, expected: dict[str, int]
) -> None:
    queries = [(f"s{i}", "plain") for i, size in enumerate(sizes) for _ in range(size)]
    assert Counter(queries[i][0] for i in choose(queries, limit)) == expected


def test_the_two_of_a_pair_come_together_and_count_as_one_scene() -> None:
    kinds = ["plain", "relation", "absent", "contradicted", "referred", "relation", "referred"]
    pair_ids = ["", "r", "", "r", "q", "", "q"]
    chosen = choose([("s0", kind) for kind in kinds], 7, pair_ids)
    assert chosen == [0, 1, 3, 4, 6, 2, 5], "by types; each pair where the first of it stands"
    queries = [ShownQuery(f"{i}", "", kinds[i], "", a_picture((4, 4), 0), pair_ids[i]) for i in chosen]
    assert [[query.id for query in scene] for scene in side_by_side(queries)] == [
        ["0"], ["1", "3"], ["4", "6"], ["2"], ["5"],
    ]  # fmt: skip


def test_a_subset_and_a_subject_are_kept_to(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    bowl = dataset.subjects("test")[1].id
    page = Page(show(dataset, tmp_path / "a", subset="absent").page.read_text())
    assert [each["data-type"] for each in page.all("figure")] == ["absent", "absent"]
    assert "2 of 2 queries, 2 of 2 subjects" in "".join(page.words)
    page = Page(show(dataset, tmp_path / "b", subject=bowl).page.read_text())
    assert [each["data-type"] for each in page.all("figure")] == list(FIVE_TYPES)
    assert bowl in "".join(page.words) and "mug" not in "".join(page.words)


# --- one picture ----------------------------------------------------------------------------------------------------


def test_a_large_photo_is_shrunk_with_its_proportions_and_its_mask_follows() -> None:
    picture = draw(np.full((300, 900, 3), 90, np.uint8), draw_box((300, 900), 90, 300, 210, 600), [], 120, "here")
    assert picture.image.shape == (40, 120, 3) and picture.overlay is not None
    rows, columns = np.nonzero(near(flat(picture), PINK))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 27, 40, 79)
    assert picture.seen == "900 × 300 pixels, the subject covers 13%"


def test_a_tiny_scene_is_enlarged_by_a_whole_number_without_blur() -> None:
    scene = draw_scene(3, (7, 10))
    picture = draw(scene, np.zeros((7, 10), bool), [], 64, "here")
    assert picture.image.shape == (42, 60, 3) and picture.overlay is None
    assert np.array_equal(picture.image[::6, ::6], scene) and np.array_equal(picture.image[5::6, 5::6], scene)
    assert picture.seen == "10 × 7 pixels, without the subject"


def test_a_mask_of_one_pixel_in_a_large_photo_is_ringed() -> None:
    mask = np.zeros((2000, 1500), bool)
    mask[1000, 700] = True
    picture = draw(np.zeros((2000, 1500, 3), np.uint8), mask, [], 240, "here")
    rows, columns = np.nonzero(near(flat(picture), PINK))
    assert 20 < np.ptp(rows) < 40 and abs(rows.mean() - 120) < 2 and abs(columns.mean() - 84) < 2
    assert picture.seen.endswith("covers less than 0.01%")


def test_the_subject_is_one_line_in_pink_and_look_alikes_are_dashes_in_blue() -> None:
    size = 120, 200
    mask, other = draw_box(size, 20, 20, 80, 80), draw_box(size, 20, 110, 80, 170)
    image = flat(draw(np.full((*size, 3), 128, np.uint8), mask, [Beside(other)], 200, "here"))
    pink, sky = near(image, PINK, 0), near(image, SKY, 0)
    assert pink[20, 20:80].all() and pink[20:80, 20].all() and not pink[:, 110:].any()
    assert not sky[:, :100].any() and 0.3 < sky[20, 110:170].mean() < 0.7
    assert (image[40:60, 130:150] == 128).all(), "what a look-alike looks like is not tinted"
    assert (image[100:, :] == 128).all() and (image[:, 90:105] == 128).all()


def test_copies_landmarks_and_grades_are_outlined_and_told() -> None:
    size = 120, 200
    boxes = [draw_box(size, 20, x, 80, x + 30) for x in (5, 45, 85, 125, 165)]
    others = [
        *(Beside(boxes[1], grade="swap"), Beside(boxes[2], "copy"), Beside(boxes[3], "landmark")),
        Beside(boxes[4], grade="build"),
    ]
    picture = draw(np.full((*size, 3), 128, np.uint8), boxes[0], others, 200, "here")
    assert picture.beside == "2 look-alikes (swap, build), 1 copy, 1 landmark"
    assert picture.seen.endswith(f", {picture.beside}")
    image = flat(picture)
    for colour, inside in ((PINK, boxes[0]), (ORANGE, boxes[2]), (GREEN, boxes[3]), (SKY, boxes[1] | boxes[4])):
        found = near(image, colour, 0)
        assert found[inside].any() and not found[~inside].any()
    assert beside_words([Beside(boxes[0], UNMEANT)]) == "the subject (not meant)"
    assert beside_words([Beside(boxes[0]), Beside(boxes[1])]) == "2 look-alikes"
    assert beside_words([Beside(boxes[0]), Beside(boxes[1], grade="swap")]) == "2 look-alikes (unknown, swap)"
    assert beside_words([]) == ""


def test_a_mask_of_another_size_is_told_with_its_row() -> None:
    with pytest.raises(DataError, match=r"query 7 is damaged: a mask of \(3, 4\) \(h, w\) on an image of \(4, 3\)"):
        draw(np.zeros((4, 3, 3), np.uint8), np.ones((3, 4), bool), [], 64, "query 7")


@pytest.mark.parametrize("size_hw", [(1, 3000), (3000, 1), (1, 1)])
def test_the_oddest_shapes_can_be_drawn(size_hw: tuple[int, int]) -> None:
    picture = draw(
        np.zeros((*size_hw, 3), np.uint8), np.ones(size_hw, bool), [Beside(np.ones(size_hw, bool))], 96, "here"
    )
    assert max(picture.image.shape) == 96 and flat(picture).any()


def test_more_pictures_are_smaller_pictures() -> None:
    assert _side(1) == LARGEST
    for n in (100, 400, MOST + PHOTOS * MOST):
        assert n * _side(n) ** 2 <= 1.03 * PIXELS


# --- the sheet ------------------------------------------------------------------------------------------------------


def test_a_sheet_keeps_proportions_and_puts_photos_to_the_left() -> None:
    sheet = draw_sheet([a_block((12, 20))], Totals(1, 1), "tiny")
    rows, columns = np.nonzero((sheet == 100).all(axis=2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (132, TILE, 132 * TILE)
    photo_rows, photo_columns = np.nonzero((sheet == 50).all(axis=2))
    assert photo_columns.max() < columns.min() and np.ptp(photo_rows) + 1 == TILE
    assert abs((np.ptp(photo_columns) + 1) - TILE / 3) <= 1


def test_an_absent_query_is_framed_and_named() -> None:
    plain, absent = (draw_sheet([a_block(kind=kind)], Totals(1, 1), "tiny") for kind in ("plain", "absent"))
    assert not near(plain, VERMILION, 0).any()
    assert near(absent, VERMILION, 0).sum() > 2 * (TILE + 132) * 3
    contradicted = draw_sheet([a_block(kind="contradicted")], Totals(1, 1), "tiny")
    assert near(contradicted, VERMILION, 0).sum() > 2 * (TILE + 132) * 3


def test_small_subjects_share_a_row_and_large_ones_go_on_below() -> None:
    one = draw_sheet([a_block()], Totals(1, 1), "tiny").shape
    three = draw_sheet([a_block()] * 3, Totals(3, 3), "tiny").shape
    assert three[0] == one[0] and three[1] > one[1]
    assert draw_sheet([a_block()] * 4, Totals(4, 4), "tiny").shape[1] == three[1]
    seven = draw_sheet([a_block(n=7)], Totals(7, 1), "tiny")
    assert (seven == 100).all(axis=2).sum() == 7 * 132 * TILE and seven.shape[1] <= three[1]


def test_a_pair_is_not_torn_between_two_rows_of_a_sheet() -> None:
    asked = tuple(
        ShownQuery(f"{i}", "", "referred", "", a_picture((20, 20), 100), "p" if i in (4, 5) else "") for i in range(6)
    )
    block = Block("mug-1", "mug", "", 1, (a_picture((30, 10), 50),), asked)
    columns = (draw_sheet([block], Totals(6, 1), "tiny") == 100).all(axis=2)
    tops = [row for row in range(1, len(columns)) if columns[row].any() and not columns[row - 1].any()]
    assert [columns[top].sum() // TILE for top in tops] == [4, 2]


def test_long_texts_are_wrapped_and_end_in_an_ellipsis() -> None:
    text = "the {subject} to the left of the very large wooden box with the broken lid and the two rusty handles " * 2
    lines = wrap(text.strip(), 12, TILE, 3)
    assert len(lines) == 3 and lines[2].endswith("…") and text.startswith(" ".join(lines[:2]))
    assert wrap("the {subject}", 12, TILE, 3) == ["the {subject}"]
    word = wrap("W" * 300, 12, TILE, 3)
    assert len(word) == 3 and len(set(map(len, word[:2]))) == 1 and word[2].endswith("…")
    assert wrap("größer", 12, TILE, 3)[0].startswith("gro")


# --- both files -----------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script> {subject}",
    '"><img src=x onerror=alert(1)> {subject}',
    "{subject} </script></style><!-- --><iframe src='//evil.example'>",
    "{subject} {{ 7 * 7 }} {% raw %} &lt;b&gt; javascript:alert(1)",
    "the {subject} \u202enwod edispu\u2066 \x00\x07 \ud7ff",
    "the {subject} " + "&" * 5000,
]


def test_hostile_texts_are_shown_and_do_nothing(tmp_path: Path) -> None:
    scene, box = draw_scene(1, (12, 20)), draw_box((12, 20), 2, 3, 8, 9)
    subject = SubjectRow("<b>mug</b>", (draw_scene(9, (14, 9)),), "test", "<i>CC0</i>", "javascript:alert(2)")
    queries = [
        QueryRow(subject.id, subject.noun, scene, text, "plain", box, (), "test", "<u>CC0</u>", "'onload='x")
        for text in HOSTILE
    ]
    write_dataset(tmp_path / "set", NewDataset("evil", "1", [subject], queries, "# Evil\n"))
    done = show(open_dataset(tmp_path / "set"), tmp_path / "out")
    text = done.page.read_text()
    page = Page(text)
    said = "".join(page.words)
    for query in HOSTILE[:4]:
        assert query in said
    assert {"iframe", "b", "i", "u"} & {tag for tag, _ in page.tags} == set()
    assert len(page.all("script")) == 1 and "alert" not in page.scripts[0]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(str(image["src"]).startswith("data:image/") for image in page.all("img"))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x09\x0b-\x1f]", text)
    assert len(text) < 60_000, "a text is cut before it is escaped"


def test_nothing_can_be_fetched_and_only_the_page_s_own_script_runs(tiny_dataset: Path, tmp_path: Path) -> None:
    page = Page(show(open_dataset(tiny_dataset), tmp_path).page.read_text())
    policy = next(str(meta["content"]) for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, texts in (("script", page.scripts), ("style", page.styles)):
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in page.tags if {"href", "style", "srcset", "action"} & set(a)]


def test_the_page_can_be_read_without_seeing_it_and_used_without_a_mouse(tiny_dataset: Path, tmp_path: Path) -> None:
    page = Page(show(open_dataset(tiny_dataset), tmp_path).page.read_text())
    assert all("alt" in image for image in page.all("img"))
    scenes = [str(image["alt"]) for image in page.all("img") if str(image["alt"]).startswith("Scene")]
    assert scenes[2] == "Scene: 20 × 12 pixels, the subject covers 12%, 1 look-alike"
    assert scenes[4] == "Scene: 20 × 12 pixels, without the subject"
    labels = {label.get("for") for label in page.all("label")}
    assert {control["id"] for control in page.all("select") + page.all("input")} == labels
    assert [a.get("role") for tag, a in page.tags if tag == "span" and a.get("id") == "shown"] == ["status"]
    assert page.all("html") == [{"lang": "en"}]
    assert [a["hidden"] for _, a in page.tags if a.get("id") == "controls"] == [None], "only with its script"


def test_the_pictures_of_the_page_are_the_scenes_with_outlines_apart(tiny_dataset: Path, tmp_path: Path) -> None:
    page = Page(show(open_dataset(tiny_dataset), tmp_path, subset="look-alike", limit=1).page.read_text())
    scene, lines = (
        Image.open(io.BytesIO(base64.b64decode(str(image["src"]).split(",")[1]))) for image in page.all("img")[-2:]
    )
    assert scene.format == "WEBP" and lines.format == "PNG" and scene.size == lines.size == (480, 288)
    overlay = np.asarray(lines.convert("RGBA"))
    assert near(overlay[..., :3], PINK, 2).any() and near(overlay[..., :3], SKY, 2).any()
    assert (overlay[-1, -1] == 0).all(), "clear where nothing is outlined"


def test_the_same_choice_gives_the_same_files_and_none_beside_them(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    first, second = show(dataset, tmp_path / "a"), show(dataset, tmp_path / "b")
    assert first.sheet.read_bytes() == second.sheet.read_bytes()
    assert first.page.read_bytes() == second.page.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["page.html", "sheet.png"]


def test_masks_of_reference_photos_are_outlined_too(tmp_path: Path) -> None:
    photos = tuple(draw_scene(i, (30, 44)) for i in range(11))
    masks = (draw_box((30, 44), 5, 5, 20, 30), *[None] * 10)
    subject = SubjectRow("mug", photos, "test", "CC0-1.0", "drawn", masks=masks)
    box = draw_box((12, 20), 2, 3, 8, 9)
    query = QueryRow(subject.id, "mug", draw_scene(99), "the {subject}", "plain", box, (), "test", "CC0-1.0", "drawn")
    write_dataset(tmp_path / "set", NewDataset("masked", "1", [subject], [query], "# Masked\n"))
    page = Page(show(open_dataset(tmp_path / "set"), tmp_path / "out").page.read_text())
    alts = [str(image["alt"]) for image in page.all("img") if str(image["alt"]).startswith("Reference")]
    assert len(alts) == PHOTOS and alts[:2] == [
        "Reference photo 1 of 11: 44 × 30 pixels, the subject covers 28%",
        "Reference photo 2 of 11: 44 × 30 pixels",
    ]
    assert "and 2 more photos" in "".join(page.words)
    assert len([image for image in page.all("img") if image.get("class") == "lines"]) == 2


def test_only_the_rows_that_are_shown_are_read(folder: Path, tmp_path: Path) -> None:
    def spoil(rows: list[dict[str, Any]]) -> None:
        rows[-1]["image"] = {"bytes": b"no image", "path": None}

    rewritten(folder, "queries", spoil)
    dataset = open_dataset(folder)
    mug, bowl = (subject.id for subject in dataset.subjects("test"))
    assert show(dataset, tmp_path / "out", subject=mug).page.is_file()
    with pytest.raises(DataError, match=r"test-00000.parquet: query \w+: image is not a photo that can be read"):
        show(dataset, tmp_path / "none", subject=bowl)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("column", "value"), [("mask", None), ("text", None), ("subject_id", "nobody")])
def test_a_damaged_row_is_one_line(folder: Path, tmp_path: Path, column: str, value: Any) -> None:
    rewritten(folder, "queries", lambda rows: rows[0].update({column: value}))
    said = {"mask": "mask is null", "text": "text is null", "subject_id": "'nobody', which is not among the subjects"}
    with pytest.raises(DataError, match=said[column]) as caught:
        show(open_dataset(folder), tmp_path / "out")
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_shard_that_is_no_parquet_is_one_line(folder: Path, tmp_path: Path) -> None:
    (folder / "queries" / "test-00000.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"queries.test-00000.parquet is damaged \(.*\); copy it again"):
        show(open_dataset(folder), tmp_path / "out")


def test_choices_that_make_no_sense_are_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    for limit in (0, MOST + 1):
        with pytest.raises(UsageError, match=f"a limit of {limit} queries: give 1 to {MOST}"):
            show(dataset, tmp_path, limit=limit)
    with pytest.raises(UnknownNameError, match=r"unknown subset 'plane': did you mean 'plain'"):
        show(dataset, tmp_path, subset="plane")
    with pytest.raises(UnknownNameError, match=r"unknown split of tiny-v1 'tests': did you mean 'test'"):
        show(dataset, tmp_path, split="tests")
    mug = dataset.subjects("test")[0].id
    with pytest.raises(UnknownNameError, match=rf"unknown subject of the test split '{mug}x': did you mean '{mug}'"):
        show(dataset, tmp_path, subject=f"{mug}x")
    assert not list(tmp_path.iterdir())


def test_a_choice_that_leaves_nothing_says_so(folder: Path, tmp_path: Path) -> None:
    rewritten(folder, "queries", lambda rows: [row.update(query_type="plain") for row in rows] and None)
    dataset = open_dataset(folder)
    mug = dataset.subjects("test")[0].id
    with pytest.raises(
        DataError, match=rf"tiny-v1 has no queries of the subset absent and about {mug} in its test split"
    ):
        show(dataset, tmp_path, subset="absent", subject=mug)


def test_a_text_is_one_short_line() -> None:
    assert shown("a\tb\r\n c\u2028d") == "a b c d"
    assert shown("die größere 左の瓶 🙂 \u05d0") == "die größere 左の瓶 🙂 \u05d0"
    assert shown("\u202ea\x00") == "\ufffda\ufffd"
    assert len(shown("x" * 10**6)) == LONGEST and shown("x" * LONGEST) == "x" * LONGEST
