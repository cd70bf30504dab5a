from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prisbench.datasets.build import NewDataset, write_dataset
from prisbench.datasets.checks import findings as telling
from prisbench.datasets.checks import leaks, stored, validate
from prisbench.datasets.checks.findings import CODES, MOST_EACH, Findings, Report, exit_code, render, summary
from prisbench.datasets.schema import SCHEMA_VERSION, TABLES, QueryRow, SubjectRow
from prisbench.errors import DataError, UnknownNameError
from prisbench.images.masks import to_rle
from prisbench.images.photos import encode_png
from prisbench.runtime.files import sha256_file
from tests.drawing import draw_box, draw_scene

Record = dict[str, Any]
SIZE_HW = (40, 56)
SUBJECTS, QUERIES = "subjects/test-00000.parquet", "queries/test-00000.parquet"


def subject(seed: int = 0, split: str = "test", noun: str = "mug", **changes: Any) -> SubjectRow:
    row = SubjectRow(noun, (draw_scene(seed, (33, 48)), draw_scene(seed + 1, (36, 40))), split, "CC0-1.0", "drawn")
    return dataclasses.replace(row, **changes)


def query(about: SubjectRow, seed: int = 50, **changes: Any) -> QueryRow:
    row = QueryRow(
        subject_id=about.id,
        noun=about.noun,
        image=draw_scene(seed, SIZE_HW),
        text="the {subject}",
        query_type="plain",
        mask=draw_box(SIZE_HW, 2, 3, 8, 9),
        look_alikes=(),
        split=about.split,
        licence="CC0-1.0",
        source="drawn",
    )
    return dataclasses.replace(row, **changes)


def write(folder: Path, subjects: list[SubjectRow], queries: list[QueryRow]) -> Path:
    write_dataset(folder, NewDataset("tiny", "1", subjects, queries, "# Tiny\n"))
    return folder


def look(folder: Path, **options: Any) -> Report:
    return validate.validate(folder, **{"leaks": False, **options})


def edit(folder: Path, name: str, change: Callable[[list[Record]], Any], recount: bool = True) -> None:
    """Change the rows of a file as somebody with another tool might, and put its new checksum into the manifest."""
    path = folder / name
    schema = TABLES[name.split("/")[0]]
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    if recount:
        manifest = json.loads((folder / "dataset.json").read_text())
        manifest["files"][name] = sha256_file(path)
        (folder / "dataset.json").write_text(json.dumps(manifest))


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def first(**changes: Any) -> Callable[[list[Record]], None]:
    return lambda rows: rows[0].update(changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two mugs and a bowl with a query of three types each: nothing is wrong with it."""
    things = [subject(0), subject(10), subject(20, noun="bowl"), subject(30, "validation")]
    asked = []
    for n, thing in enumerate(things):
        asked.append(query(thing, 100 + 10 * n))
        asked.append(query(thing, 101 + 10 * n, query_type="absent", mask=np.zeros(SIZE_HW, bool)))
        others = (draw_box(SIZE_HW, 10, 12, 19, 28),)
        asked.append(query(thing, 102 + 10 * n, query_type="look-alike", look_alikes=others))
    return write(tmp_path / "tiny-v1", things, asked)


def test_a_sound_dataset_has_no_findings(folder: Path) -> None:
    report = look(folder, leaks=True)
    assert report.findings == ()
    assert (report.kind, report.id, report.counts) == ("dataset", "tiny-v1", {"subjects": 4, "queries": 12})
    assert report.digest == json.loads((folder / "dataset.json").read_text())["digest"]
    assert exit_code(report) == 0
    assert (report.audit.references, report.audit.scenes) == (8, 12)
    assert summary(report) == (
        f"tiny-v1 in {folder}: 4 subjects, 12 queries; all well; leaks sought among 8 photos and 12 scenes"
    )


def test_the_shared_tiny_dataset_is_sound(tiny_dataset: Path) -> None:
    assert look(tiny_dataset).findings == ()


# Each code has a dataset that shows it.


def shown_by_null(folder: Path) -> None:
    edit(folder, QUERIES, first(licence=None))


def shown_by_parquet(folder: Path) -> None:
    path = folder / QUERIES
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)


def shown_by_columns(folder: Path) -> None:
    path = folder / QUERIES
    pq.write_table(pq.read_table(path).drop_columns(["text"]), path)


def shown_by_unreadable(folder: Path) -> None:
    """Text that is not UTF-8: Arrow keeps it, Python cannot."""
    path = folder / QUERIES
    table = pq.read_table(path)
    place = table.column_names.index("text")
    texts = pa.array([b"the {subject} \xff"] + [b"the {subject}"] * (table.num_rows - 1), pa.binary())
    broken = pa.StringArray.from_buffers(len(texts), texts.buffers()[1], texts.buffers()[2])
    pq.write_table(table.set_column(place, "text", broken), path)


def shown_by_digest(folder: Path) -> None:
    change_manifest(folder, digest="0" * 64)


def shown_by_leak(folder: Path) -> None:
    thing = subject(0)
    mirrored = np.ascontiguousarray(thing.photos[0][:, ::-1])
    write(folder, [thing], [query(thing, image=mirrored, mask=draw_box((33, 48), 2, 3, 8, 9))])


def shown_by_copy(folder: Path) -> None:
    thing = subject(0)
    turned = dataclasses.replace(thing, photos=(thing.photos[0], np.ascontiguousarray(thing.photos[0][::-1])))
    write(folder, [turned], [query(turned)])


def shown_by_mask_tiny(folder: Path) -> None:
    thing, image = subject(0), draw_scene(7, (80, 130))
    write(folder, [thing], [query(thing, image=image, mask=draw_box((80, 130), 5, 5, 6, 7))])


def shown_by_mask_overlap(folder: Path) -> None:
    thing = subject(0)
    others = (draw_box(SIZE_HW, 7, 8, 12, 30),)
    write(folder, [thing], [query(thing, query_type="look-alike", look_alikes=others)])


def shown_by_balance(folder: Path) -> None:
    things = [subject(0), subject(10), subject(20)]
    asked = [query(things[0], 100 + n) for n in range(10)] + [query(things[1]), query(things[2], 51)]
    write(folder, things, asked)


def shown_by_incomplete(folder: Path) -> None:
    edit(folder, QUERIES, first(text="nothing"))


BROKEN: dict[str, Callable[[Path], Any]] = {
    "not-a-dataset": lambda folder: shutil.rmtree(folder),
    "manifest": lambda folder: (folder / "dataset.json").write_text('{"schema_version": '),
    "file-missing": lambda folder: (folder / QUERIES).unlink(),
    "file-stray": lambda folder: shutil.copy(folder / QUERIES, folder / "queries/test-00007.parquet"),
    "checksum": lambda folder: edit(folder, QUERIES, lambda rows: None, recount=False),
    "parquet": shown_by_parquet,
    "columns": shown_by_columns,
    "null": shown_by_null,
    "image": lambda folder: edit(folder, SUBJECTS, lambda rows: rows[0]["photos"][1].update(bytes=b"no photo")),
    "encoding": lambda folder: edit(folder, QUERIES, first(mask={"size": list(SIZE_HW), "counts": "zz~"})),
    "mask-size": lambda folder: edit(folder, QUERIES, first(mask=to_rle(draw_box((10, 20), 1, 2, 5, 6)))),
    "rule": lambda folder: edit(folder, QUERIES, first(text="a mug")),
    "derived": lambda folder: edit(folder, QUERIES, first(area_fraction=0.5)),
    "between-rows": lambda folder: edit(folder, QUERIES, lambda rows: rows.append(rows[0])),
    "counts": lambda folder: change_manifest(folder, images={"test": 99, "validation": 3}),
    "digest": shown_by_digest,
    "unreadable": shown_by_unreadable,
    "leak": shown_by_leak,
    "copy": shown_by_copy,
    "mask-tiny": shown_by_mask_tiny,
    "mask-overlap": shown_by_mask_overlap,
    "unused": lambda folder: write(folder, [subject(0), subject(10)], [query(subject(0))]),
    "balance": shown_by_balance,
    "card": lambda folder: (folder / "README.md").write_text("# Tiny\n"),
    "incomplete": shown_by_incomplete,
}
OTHERWISE = {"shared", "alike", "photo-small"}
"""Shown by tests of their own below."""
FRESH = {"leak", "copy", "mask-tiny", "mask-overlap", "unused", "balance"}
"""Written anew rather than damaged."""


def test_every_code_has_a_dataset_that_shows_it() -> None:
    assert set(BROKEN) | OTHERWISE == set(CODES)
    assert not set(BROKEN) & OTHERWISE


@pytest.mark.parametrize("code", BROKEN)
def test_what_is_wrong_is_found(code: str, folder: Path) -> None:
    if code in FRESH:
        shutil.rmtree(folder)
    BROKEN[code](folder)
    report = look(folder, leaks=code in ("leak", "copy"))
    assert code in report.found, render(report)
    one = next(finding for finding in report.findings if finding.code == code)
    assert one.level == CODES[code][0]
    assert one.message and one.cure
    for text in dataclasses.astuple(one):
        assert text == text.strip() and "\n" not in text
    assert exit_code(report) == {"not-a-dataset": 2}.get(code, int(report.level_count("error") > 0))
    alone = {"digest", "counts", "mask-tiny", "mask-overlap", "unused", "balance", "card", "leak", "copy", "manifest"}
    if code in alone:
        assert set(report.found) == {code}


def test_queries_that_all_lack_a_value_have_no_balance(folder: Path) -> None:
    def spoil(rows: list[Record]) -> None:
        for row in rows:
            row.update(subject_id=None, query_type=None)

    for name in (QUERIES, QUERIES.replace("test", "validation")):
        edit(folder, name, spoil)
    found = look(folder).found
    assert (found["null"], found["unused"]) == (12, 4) and "balance" not in found


MESSAGES: list[tuple[str, str, Callable[[list[Record]], Any], str, str]] = [
    ("null", QUERIES, first(licence=None, text=None), "text, licence are null", "query "),
    ("null", QUERIES, first(image=None), "image is null", "query "),
    ("image", QUERIES, first(image={"bytes": None, "path": "a.png"}), "only names the file 'a.png'", "query "),
    ("image", QUERIES, first(image={"bytes": b"", "path": None}), "is empty (0 bytes)", "query "),
    ("image", SUBJECTS, lambda rows: rows[0]["photos"][1].update(bytes=b"GIF89a"), "not a photo", ", photo 2"),
    ("encoding", QUERIES, first(look_alikes=[{"size": list(SIZE_HW), "counts": "0"}]), "do not add up", "look-alike 1"),
    ("encoding", QUERIES, first(look_alikes=[None]), "not a COCO RLE", "look-alike 1"),
    ("mask-size", QUERIES, first(mask={"size": [10**5, 10**5], "counts": "0"}), "of [100000, 100000]", "mask"),
    ("mask-size", QUERIES, first(mask={"size": [40], "counts": "0"}), "a mask of [40] (h, w)", "mask"),
    ("mask-size", SUBJECTS, first(masks=[to_rle(draw_box((4, 5), 0, 0, 2, 2)), None]), "on a picture of", ", mask 1"),
    ("rule", QUERIES, first(query_type="absent"), "empty exactly when the type is 'absent'", "query "),
    ("rule", QUERIES, first(query_type="unheard"), "query type 'unheard' is none of", "query "),
    ("rule", QUERIES, first(mask=to_rle(np.zeros(SIZE_HW, bool))), "the mask must be empty exactly when", "query "),
    ("rule", QUERIES, first(text="{subject} and {subject}"), "must have {subject} once", "query "),
    ("rule", QUERIES, first(licence=" CC0"), "without spaces around it", "query "),
    ("rule", SUBJECTS, first(photos=[]), "has no photos", "subject mug-"),
    ("rule", SUBJECTS, first(masks=[None]), "1 masks for 2 photos", "subject mug-"),
    ("derived", QUERIES, first(perceptual_hash="0" * 16), "perceptual_hash is '0000000000000000', not '", "query "),
    ("derived", QUERIES, first(height=1), "height is 1, not 40", "query "),
    ("derived", QUERIES, first(id="nonsense"), "id is 'nonsense', not '", "query nonsense"),
    ("derived", QUERIES, first(split="validation"), "split is 'validation', not 'test'", "query "),
    ("derived", SUBJECTS, first(noun="cup"), "id is 'mug-", "subject mug-"),
    ("between-rows", QUERIES, lambda rows: rows.append(rows[0]), "comes twice", "query "),
    ("between-rows", QUERIES, first(subject_id="mug-0"), "'mug-0', which is not there", "query "),
    ("between-rows", QUERIES, first(noun="cup"), "they must agree", "query "),
    ("between-rows", SUBJECTS, lambda rows: rows.append(rows[0]), "comes twice", "subject mug-"),
]


@pytest.mark.parametrize(("code", "name", "change", "message", "record"), MESSAGES)
def test_a_damaged_row_is_told_with_its_file_and_record(
    code: str, name: str, change: Callable[[list[Record]], Any], message: str, record: str, folder: Path
) -> None:
    edit(folder, name, change)
    found = [one for one in look(folder).findings if one.code == code]
    assert any(message in one.message and record in one.record and one.file == name for one in found), found


def test_after_a_problem_the_rest_is_examined(folder: Path) -> None:
    def damage(rows: list[Record]) -> None:
        rows[0]["image"] = {"bytes": b"none", "path": None}
        rows[1]["text"] = None
        rows[2]["mask"] = {"size": [1, 1], "counts": "1"}
        rows[3]["query_type"], rows[3]["sha256"] = "absent", "0"
        rows[4]["area_fraction"] = 2.0

    edit(folder, QUERIES, damage)
    shown_by_parquet_of_validation = folder / "queries/validation-00000.parquet"
    shown_by_parquet_of_validation.write_bytes(b"PAR1 no more")
    report = look(folder, leaks=True)
    assert report.found == {
        "checksum": 1,
        "parquet": 1,
        "image": 1,
        "null": 1,
        "mask-size": 1,
        "rule": 1,
        "derived": 2,
        "unused": 1,
        "incomplete": 1,
    }
    assert report.counts == {"subjects": 4, "queries": 9}
    assert report.audit.scenes == 6
    assert exit_code(report) == 1


def test_the_queries_of_a_damaged_subject_are_not_told_one_by_one(folder: Path) -> None:
    edit(folder, SUBJECTS, lambda rows: rows[0]["photos"][0].update(bytes=b"none"))
    assert look(folder).found == {"image": 1, "incomplete": 1}


def test_only_the_first_of_many_are_kept_but_all_are_counted(folder: Path) -> None:
    edit(folder, QUERIES, lambda rows: [row.update(text="a mug") for row in rows] and rows.extend(rows * 2))
    report = look(folder)
    assert report.found["rule"] == 27
    assert sum(one.code == "rule" for one in report.findings) == MOST_EACH == 20
    assert report.level_count("error") == sum(n for code, n in report.found.items() if CODES[code][0] == "error")
    assert "rule: 7 more of 27 (a row breaks a rule of its table)" in render(report, "github")
    assert "rule: 7 more of 27" in render(report)


def test_scenes_that_are_reference_photos_are_told_once(tmp_path: Path, folder: Path) -> None:
    photo = {"bytes": encode_png(subject(0).photos[0]), "path": None}
    scene = query(subject(0), image=subject(0).photos[0], mask=draw_box((33, 48), 2, 3, 8, 9))
    edit(folder, QUERIES, first(**{**scene.record(), "image": photo}))
    report = look(folder, leaks=True)
    assert report.found == {"between-rows": 1, "incomplete": 1}
    assert "is a reference photo of the subject" in report.findings[0].message


def test_the_manifest_may_not_lead_out_of_the_folder(folder: Path) -> None:
    (folder.parent / "secret.parquet").write_bytes(b"")
    files = json.loads((folder / "dataset.json").read_text())["files"]
    change_manifest(folder, files={**files, "../secret.parquet": "0" * 64})
    (one,) = (finding for finding in look(folder).findings if finding.code == "file-missing")
    assert one.message == "dataset.json names '../secret.parquet'"


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, f'{{"schema_version": {SCHEMA_VERSION}}}', "\xff"])
def test_rows_are_examined_without_a_manifest_that_can_be_read(text: str, folder: Path) -> None:
    (folder / "dataset.json").write_bytes(text.encode("latin-1"))
    report = look(folder)
    assert report.found == {"manifest": 1}
    assert report.counts == {"subjects": 4, "queries": 12}
    assert (report.id, report.digest, exit_code(report)) == (None, None, 1)
    (folder / "dataset.json").unlink()
    assert look(folder).found == {"manifest": 1}


def test_another_schema_version_cannot_be_examined(folder: Path) -> None:
    change_manifest(folder, schema_version=99)
    report = look(folder)
    assert exit_code(report) == 2
    assert report.findings[0].message == "schema version 99; this prisbench knows 2 and 3"


def test_a_table_in_other_types_is_told_and_examined_all_the_same(folder: Path) -> None:
    path = folder / QUERIES
    table = pq.read_table(path)
    place = table.column_names.index("noun")
    pq.write_table(table.set_column(place, "noun", table["noun"].cast(pa.large_string())), path)
    report = look(folder)
    assert report.found == {"checksum": 1, "columns": 1, "incomplete": 1}
    assert "noun is large_string, not string" in render(report, "json")
    assert report.counts["queries"] == 12


def test_a_group_that_says_to_be_huge_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_GROUP_BYTES", 100)
    report = look(folder)
    assert report.found["parquet"] == 4
    assert report.counts == {"subjects": 0, "queries": 0}


def test_a_file_of_no_split_is_told(folder: Path) -> None:
    shutil.copy(folder / QUERIES, folder / "queries/train.parquet")
    found = [one for one in look(folder).findings if one.code == "columns"]
    assert [one.message for one in found] == ["its name begins with no split (validation, test)"]


def test_a_set_without_a_test_split_is_told(tmp_path: Path) -> None:
    thing = subject(0, "validation")
    report = look(write(tmp_path / "set", [thing], [query(thing)]))
    assert [one.message for one in report.findings] == ["there is no test split: nothing can be reported"]


def test_query_types_may_be_lopsided(tmp_path: Path) -> None:
    thing = subject(0)
    absent = query(thing, query_type="absent", mask=np.zeros(SIZE_HW, bool))
    report = look(write(tmp_path / "set", [thing], [absent, *(query(thing, 100 + n) for n in range(10))]))
    assert [one.message for one in report.findings] == ["10 queries are 'plain', only 1 'absent'"]


# What is no dataset.


def test_what_is_no_dataset_gets_a_helpful_answer(tmp_path: Path) -> None:
    def answer(path: Path) -> str:
        report = look(path)
        assert exit_code(report) == 2
        assert report.found == {"not-a-dataset": 1}
        return report.findings[0].message

    assert answer(tmp_path / "nowhere") == f"there is no {tmp_path / 'nowhere'}"
    (tmp_path / "empty").mkdir()
    assert "holds no dataset.json, no Parquet files and no photos" in answer(tmp_path / "empty")
    (tmp_path / "set.zip").write_bytes(b"PK")
    assert "is a file; a dataset is a folder (an archive is read by `prisbench build-dataset`)" in answer(
        tmp_path / "set.zip"
    )
    (tmp_path / "theirs/data").mkdir(parents=True)
    theirs = pa.table({"image": [b"x"], "label": ["mug"]})
    pq.write_table(theirs, tmp_path / "theirs/data/train.parquet")
    said = answer(tmp_path / "theirs")
    assert "train.parquet has the columns image, label, of a table of queries it lacks id, subject_id, noun" in said
    assert "write its rows with prisbench.datasets.build.write_dataset" in said
    assert "has the columns image, label" in answer(tmp_path / "theirs/data/train.parquet")
    (tmp_path / "theirs/data/train.parquet").write_bytes(b"no")
    assert "train.parquet cannot be read" in answer(tmp_path / "theirs")
    (tmp_path / "deep/Images/cat").mkdir(parents=True)
    Image.fromarray(draw_scene(1)).save(tmp_path / "deep/Images/cat/1.png")
    assert answer(tmp_path / "deep").endswith(f"there are photos below {tmp_path / 'deep/Images'}, try that")


# Photos.


def save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_folders_of_photos_are_examined_for_copies(tmp_path: Path) -> None:
    for n, (name, photos) in enumerate({"cat": 3, "dog": 2}.items()):
        for photo in range(photos):
            save(draw_scene(10 * n + photo, (40, 60)), tmp_path / "photos" / name / f"{photo}.png")
    save(np.ascontiguousarray(draw_scene(1, (40, 60))[:, ::-1]), tmp_path / "photos/dog/mirrored.png")
    (tmp_path / "photos/cat/bad.jpg").write_bytes(b"\xff\xd8\xff")
    save(draw_scene(99, (20, 50)), tmp_path / "photos/cat/small.png")
    (tmp_path / "photos/licence.txt").write_text("mine")
    report = look(tmp_path / "photos", leaks=True)
    assert (report.kind, report.counts) == ("photos", {"subjects": 2, "photos": 8})
    told = {one.code: (one.file, one.message) for one in report.findings}
    assert set(told) == {"image", "photo-small", "copy"}
    assert told["photo-small"] == ("cat/small.png", "50 x 20 pixels; the shorter side should have 32")
    assert told["image"][0] == "cat/bad.jpg"
    assert told["copy"][0] == "dog/mirrored.png"
    assert told["copy"][1].startswith("copy of cat/1.png: the same picture, mirrored (agreement 1.000)")
    assert exit_code(report) == 1
    one = look(tmp_path / "photos/dog")
    assert (one.counts, exit_code(one)) == ({"subjects": 1, "photos": 3}, 0)


def test_pictures_of_other_sets_are_found_in_a_dataset(tmp_path: Path, folder: Path) -> None:
    save(subject(0).photos[1], tmp_path / "web/a/photo.png")
    save(np.ascontiguousarray(query(subject(0), 100).image[:, ::-1]), tmp_path / "web/scene.png")
    (tmp_path / "web/broken.png").write_bytes(b"")
    report = look(folder, leaks=True, against=[tmp_path / "web"])
    shared = {one.message: (one.file, one.record) for one in report.findings if one.code == "shared"}
    assert len(shared) == 2
    assert report.found == {"shared": 2, "incomplete": 1}
    assert exit_code(report) == 0
    assert "web/a/photo.png is a copy: the same pixels" in shared
    again = write(tmp_path / "other-v1", [subject(0)], [query(subject(0), 101)])
    both = look(folder, leaks=True, against=[again])
    assert both.found == {"shared": 3}
    with pytest.raises(DataError, match="nowhere holds neither a dataset nor photos"):
        look(folder, leaks=True, against=[tmp_path / "nowhere"])


def test_embeddings_are_compared_when_there_are_some(folder: Path) -> None:
    report = look(folder, leaks=True, embed=lambda image: np.array([1.0, 2.0]))
    assert set(report.found) == {"alike"}
    assert "looks like subjects/test-00000.parquet: subject " in report.findings[0].message
    assert "(cosine 1.000)" in report.findings[0].message


# How it is told.


def test_the_report_as_json_has_everything(folder: Path) -> None:
    edit(folder, QUERIES, first(text="a mug"))
    found = json.loads(render(look(folder, leaks=True), "json"))
    assert (found["exit_code"], found["kind"], found["id"]) == (1, "dataset", "tiny-v1")
    assert found["findings"][0]["code"] == "rule"
    assert set(found["findings"][0]) == {"level", "code", "file", "record", "message", "cure"}
    assert found["audit"]["references"] == 8
    assert found["found"]["rule"] == 1


def test_the_report_for_github_annotates_files() -> None:
    findings = Findings()
    findings.add("rule", "100 % wrong,\nall: of it", "queries/a,b:c.parquet", "query 1", "mend")
    findings.add("balance", "lopsided")
    findings.add("incomplete", "some")
    report = Report("sets/tiny", "dataset", "tiny-v1", None, {"queries": 1}, findings.found, findings.ordered())
    assert render(report, "github").splitlines() == [
        "::error file=sets/tiny/queries/a%2Cb%3Ac.parquet,title=rule::query 1: 100 %25 wrong,\\x0aall: of it; mend",
        "::warning file=sets/tiny,title=balance::lopsided; say so in the card, or sample evenly",
        "::notice file=sets/tiny,title=incomplete::some; mend the rest and run again",
        "tiny-v1 in sets/tiny: 1 queries; 1 error, 1 warning, 1 note",
    ]


def test_the_report_for_people_is_a_table_that_a_hostile_file_cannot_colour(folder: Path) -> None:
    edit(folder, QUERIES, first(text="[red]\x1b[31m", id="[bold]x"))
    plain = render(look(folder))
    assert "\x1b" not in plain and "[red]\\x1b[31m" in plain
    assert plain.splitlines()[0].split() == ["level", "code", "where", "what"]
    assert plain.splitlines()[-1].startswith("tiny-v1 in ")
    assert all(len(line) <= 120 for line in plain.splitlines()[:-1])
    assert "\x1b[31m" in render(look(folder), colour=True)


def test_an_unknown_format_is_told() -> None:
    report = Report("x", "nothing", None, None, {}, {}, ())
    with pytest.raises(UnknownNameError, match="unknown format 'jsn': did you mean 'json'"):
        render(report, "jsn")
    assert exit_code(report) == 2


def test_long_messages_are_cut() -> None:
    findings = Findings()
    findings.add("rule", "x" * 10_000)
    assert len(findings.kept[0].message) == 600


def test_progress_is_told(folder: Path) -> None:
    heard: dict[str, int] = {}
    look(folder, leaks=True, progress=heard.__setitem__)
    parts = 8 + 3  # of reference photos, and of scenes of the smaller split
    assert heard == {
        "checking subjects": 4,
        "checking queries": 12,
        "hashes of reference photos": 8,
        "parts of pictures": parts,
    }


def test_more_leaks_than_are_kept_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "MOST_LEAKS", 1)
    for n in range(3):
        save(draw_scene(1, (40, 60)), tmp_path / f"{n}.png")
    report = look(tmp_path, leaks=True)
    assert report.found == {"copy": 2}
    assert len(report.findings) == 1


def test_levels_and_codes_are_as_documented() -> None:
    assert {level for level, _, _ in CODES.values()} == {telling.ERROR, telling.WARNING, telling.NOTE}
    assert all(about and cure for _, about, cure in CODES.values())


@pytest.mark.slow
@pytest.mark.data
def test_the_photos_of_perseg_are_dreambooths() -> None:
    if "PRISBENCH_DATA" not in os.environ:
        pytest.skip("PRISBENCH_DATA is not set")
    root = Path(os.environ["PRISBENCH_DATA"])
    report = look(root / "perseg_examples/Images", leaks=True, against=[root / "dreambooth512/cat"])
    shared = [(one.file, one.message) for one in report.findings if one.code == "shared"]
    assert [file for file, _ in shared] == ["cat/00.jpg", "cat/01.jpg", "cat/02.jpg", "cat/02.jpg"]
    assert shared[3][1] == "cat/03.jpg is a copy: the same picture, shifted by 28 % of its width (agreement 0.989)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the {subject} near the {box}", "the text has '{box}' beside {subject}"),
        ("the {subject} near the {big box}", "the text has '{' beside {subject}"),
        ("the {subject} near } it", "the text has '}' beside {subject}"),
        ("the {subject} " + "and the cup " * 40, "the text has 123 words and marks or more"),
        ("the {subject} " + "red!" * 40, "words and marks or more"),
    ],
)
def test_texts_that_no_model_can_be_asked_are_found(tmp_path: Path, text: str, message: str) -> None:
    about = subject()
    write(tmp_path / "set", [about], [query(about, 2, text=text.strip())])
    report = look(tmp_path / "set")
    (one,) = [each for each in report.findings if each.code == "rule"]
    assert message in one.message and one.cure and exit_code(report) == 1


def test_texts_of_usual_length_are_fine(tmp_path: Path) -> None:
    about = subject()
    write(tmp_path / "set", [about], [query(about, 2, text="the {subject} " + "left of it " * 20 + "there")])
    assert "rule" not in look(tmp_path / "set").found
