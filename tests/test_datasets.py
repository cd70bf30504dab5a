from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco

from prisbench.datasets import named, shards
from prisbench.datasets.build import NewDataset, build, write_dataset
from prisbench.datasets.build_notes import build_notes
from prisbench.datasets.load import open_dataset
from prisbench.datasets.manifest import Manifest
from prisbench.datasets.schema import (
    SCHEMA_VERSION,
    TABLES,
    QueryRow,
    SubjectRow,
    check_query,
    features,
    query_id,
    subject_id,
)
from prisbench.datasets.seen_rows import SeenRows
from prisbench.datasets.source import Source
from prisbench.datasets.sources.tabletop import Size
from prisbench.errors import DataError, UnknownNameError, UsageError, WriteError
from prisbench.images.perceptual import perceptual_hash
from prisbench.images.photos import decode_photo
from prisbench.runtime.files import sha256_file
from prisbench.tabletop.queries import VERSION
from prisbench.tabletop.subjects import SEED
from prisbench.types import Thing
from tests.drawing import FIVE_TYPES, draw_box, draw_scene

SIZE_HW = (12, 20)


def subject(seed: int = 0, split: str = "test", noun: str = "mug") -> SubjectRow:
    return SubjectRow(noun, (draw_scene(seed, (9, 14)), draw_scene(seed + 1, (10, 16))), split, "CC0-1.0", "drawn")


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


def write(folder: Path, subjects: list[SubjectRow], queries: list[QueryRow], **options: Any) -> Manifest:
    return write_dataset(folder, NewDataset("tiny", "1", subjects, queries, "# Tiny\n"), **options)


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / "copy"))


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_rows(
    folder: Path, change: Callable[[dict[str, Any]], None], table: str = "queries", checksum: bool = False
) -> None:
    """Edit the first row of a test table, as somebody with another tool might."""
    name = f"{table}/test-00000.parquet"
    rows = pq.read_table(folder / name).to_pylist()
    change(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES[table]), folder / name)
    if checksum:
        files = json.loads((folder / "dataset.json").read_text())["files"]
        change_manifest(folder, files={**files, name: sha256_file(folder / name)})


def as_jpeg(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, format="JPEG")
    return out.getvalue()


# What is written comes back.


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    mug = subject()
    rows = [
        query(mug),
        query(mug, text="the {subject} left of the box", query_type="relation"),
        query(mug, seed=51, query_type="look-alike", look_alikes=(draw_box(SIZE_HW, 1, 12, 9, 18),)),
        query(mug, seed=52, query_type="absent", mask=np.zeros(SIZE_HW, bool)),
    ]
    write(tmp_path / "set", [mug], rows)
    dataset = open_dataset(tmp_path / "set", verify=True)
    (back,) = dataset.subjects("test")
    assert (back.id, back.noun) == (mug.id, "mug")
    for photo, original in zip(back.photos, mug.photos, strict=True):
        np.testing.assert_array_equal(photo, original)
    for example, row in zip(dataset.examples("test"), rows, strict=True):
        assert (example.query.id, example.query.subject_id, example.query.text) == (row.id, mug.id, row.text)
        assert (example.query_type, example.image_id) == (row.query_type, row.image_id)
        np.testing.assert_array_equal(example.image, row.image)
        np.testing.assert_array_equal(example.mask, row.mask)
        for found, expected in zip(example.look_alikes, row.look_alikes, strict=True):
            np.testing.assert_array_equal(found, expected)
    for read, row in zip(dataset.query_rows("test"), rows, strict=True):
        assert (read.licence, read.source, read.split, read.digest) == ("CC0-1.0", "drawn", "test", row.digest)


def test_masks_of_photos_come_back(tmp_path: Path) -> None:
    plain = subject()
    masks = (draw_box((9, 14), 1, 2, 5, 9), None)
    mug = dataclasses.replace(plain, masks=masks)
    write(tmp_path / "set", [mug, subject(20)], [query(mug)])
    dataset = open_dataset(tmp_path / "set", verify=True)
    known, unknown = dataset.subjects("test")
    assert mug.id == plain.id == known.id and unknown.masks == ()
    np.testing.assert_array_equal(known.masks[0], masks[0])
    assert known.masks[1] is None and len(known.masks) == 2
    assert [row.digest for row in dataset.subject_rows("test")] == [mug.digest, subject(20).digest]


def test_files_are_kept_as_they_are(tmp_path: Path) -> None:
    scene, photo = as_jpeg(draw_scene(50, SIZE_HW)), as_jpeg(draw_scene(1, (9, 14)))
    mug = SubjectRow("mug", (decode_photo(photo, ""), draw_scene(2)), "test", "CC0-1.0", "drawn", files=(photo, None))
    row = query(mug, image=decode_photo(scene, ""), file=scene)
    write(tmp_path / "set", [mug], [row])
    stored = pq.read_table(tmp_path / "set/queries/test-00000.parquet").to_pylist()[0]
    assert stored["image"] == {"bytes": scene, "path": None}
    photos = pq.read_table(tmp_path / "set/subjects/test-00000.parquet").to_pylist()[0]["photos"]
    assert photos[0]["bytes"] == photo and photos[1]["bytes"].startswith(b"\x89PNG")
    dataset = open_dataset(tmp_path / "set", verify=True)
    (subject_back,), (back,) = dataset.subject_rows("test"), dataset.query_rows("test")
    assert back.file == scene and subject_back.files[0] == photo
    again = write(tmp_path / "again", [subject_back], [back])
    assert again.files == dataset.manifest.files, "rows that were read write the same bytes"


def test_scenes_carry_their_perceptual_hash(tiny_dataset: Path) -> None:
    records = pq.read_table(tiny_dataset / "queries/test-00000.parquet").to_pylist()
    for record, row in zip(records, open_dataset(tiny_dataset).query_rows("test"), strict=True):
        assert record["perceptual_hash"] == perceptual_hash(row.image) == row.perceptual_hash
    assert list(records[0])[-2:] == ["sha256", "perceptual_hash"]


def test_plain_load_dataset_opens_the_queries_and_images_decode(tiny_dataset: Path, tmp_path: Path) -> None:
    import datasets

    queries = datasets.load_dataset(str(tiny_dataset), cache_dir=str(tmp_path))
    assert {split: rows.num_rows for split, rows in queries.items()} == {"validation": 5, "test": 10}
    assert queries["test"].features == features("queries")
    ours = list(open_dataset(tiny_dataset).query_rows("test"))
    for row, expected in zip(queries["test"], ours, strict=True):
        assert row["image"].size == (20, 12)
        np.testing.assert_array_equal(np.asarray(row["image"]), expected.image)
        np.testing.assert_array_equal(coco.decode(row["mask"]).astype(bool), expected.mask)
        assert (row["height"], row["width"]) == SIZE_HW
        assert row["area_fraction"] == expected.mask.sum() / 240
        assert row["sha256"].startswith(row["image_id"])
    assert [row["query_type"] for row in queries["validation"]] == list(FIVE_TYPES)


def test_load_dataset_opens_the_subjects_by_name(tiny_dataset: Path, tmp_path: Path) -> None:
    import datasets

    subjects = datasets.load_dataset(str(tiny_dataset), "subjects", cache_dir=str(tmp_path))
    assert subjects["test"].features == features("subjects")
    assert [row["noun"] for row in subjects["test"]] == ["mug", "bowl"]
    assert [photo.size for photo in subjects["test"][0]["photos"]] == [(14, 9), (15, 9)]
    assert datasets.get_dataset_config_names(str(tiny_dataset)) == ["queries", "subjects"]


def test_load_dataset_opens_masks_that_are_not_all_known(tmp_path: Path) -> None:
    import datasets

    mask = draw_box((10, 16), 1, 2, 5, 9)
    mug = dataclasses.replace(subject(), masks=(None, mask))
    write(tmp_path / "set", [mug, subject(20)], [query(mug)])
    rows = datasets.load_dataset(str(tmp_path / "set"), "subjects", cache_dir=str(tmp_path / "cache"))["test"]
    assert rows.features == features("subjects")
    assert rows[0]["masks"][0] is None and rows[1]["masks"] == []
    np.testing.assert_array_equal(coco.decode(rows[0]["masks"][1]).astype(bool), mask)


def test_both_descriptions_of_the_columns_agree() -> None:
    for table, schema in TABLES.items():
        assert features(table).arrow_schema.remove_metadata() == schema


def test_the_manifest_counts_what_is_there(tiny_dataset: Path) -> None:
    manifest = open_dataset(tiny_dataset).manifest
    assert manifest.id == "tiny-v1"
    assert (manifest.seed, manifest.schema_version) == (7, SCHEMA_VERSION)
    assert manifest.subjects == {"validation": 1, "test": 2}
    assert manifest.queries == {
        "validation": dict.fromkeys(FIVE_TYPES, 1),
        "test": dict.fromkeys(FIVE_TYPES, 2),
    }
    assert manifest.images == {"validation": 5, "test": 10}
    assert sorted(manifest.files) == sorted(
        path.relative_to(tiny_dataset).as_posix() for path in tiny_dataset.glob("*/*.parquet")
    )
    assert sorted(path.name for path in tiny_dataset.iterdir()) == ["README.md", "dataset.json", "queries", "subjects"]


def test_the_card_keeps_its_text_under_the_front_matter(tiny_dataset: Path) -> None:
    text = (tiny_dataset / "README.md").read_text()
    assert text.endswith("---\n\n# Tiny\n\nDrawn by the tests.\n")
    assert 'license: "cc0-1.0"' in text


def test_splits_nouns_and_ids_are_told_without_reading_images(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    assert (dataset.id, dataset.name, dataset.version) == ("tiny-v1", "tiny", "1")
    assert dataset.splits == ("validation", "test")
    assert dataset.nouns == ("bowl", "mug")


# Choosing and order.


def test_the_queries_of_a_scene_come_together(tmp_path: Path) -> None:
    mug, bowl = subject(0), subject(10, noun="bowl")
    mixed = [query(about, seed) for about in (mug, bowl) for seed in (60, 61, 62)]
    write(tmp_path / "set", [mug, bowl], mixed, shard_bytes=1)
    scenes = [example.image_id for example in open_dataset(tmp_path / "set").examples("test")]
    first, second, third = (query(mug, seed).image_id for seed in (60, 61, 62))
    assert scenes == [first, first, second, second, third, third]


def test_a_limit_and_a_subset_choose(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    everything = [example.query.id for example in dataset.examples("test")]
    parts = [[example.query.id for example in dataset.examples("test", limit=n)] for n in range(1, 8)]
    assert all(set(less) < set(more) for less, more in itertools.pairwise(parts)), "a part holds every smaller one"
    assert all(part == [id for id in everything if id in part] for part in parts), "in the dataset's order"
    kinds = {example.query_type for example in dataset.examples("test", limit=5)}
    assert kinds == {*FIVE_TYPES} and len({e.query.subject_id for e in dataset.examples("test", limit=2)}) == 2
    assert [example.query.id for example in dataset.examples("test", limit=99)] == everything
    chosen = list(dataset.examples("test", subset="look-alike"))
    assert [example.query_type for example in chosen] == ["look-alike", "look-alike"]
    assert len(list(dataset.examples("test", limit=1, subset="absent"))) == 1


def test_many_rows_make_many_shards_and_read_the_same(tmp_path: Path) -> None:
    mug = subject()
    rows = [query(mug, seed) for seed in range(100, 135)]
    one = write(tmp_path / "one", [mug], rows)
    size = sum(len(row.record()["image"]["bytes"]) for row in rows[:10])
    many = write(tmp_path / "many", [mug], rows, shard_bytes=size)
    assert len(one.files) == 2
    assert sorted(many.files) == [f"queries/test-{n:05d}.parquet" for n in range(4)] + ["subjects/test-00000.parquet"]
    assert many.digest == one.digest
    ids = [row.id for row in rows]
    assert [example.query.id for example in open_dataset(tmp_path / "many", verify=True).examples("test")] == ids


def test_shards_of_many_small_rows_are_closed_by_their_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 12)
    mug = subject()
    manifest = write(tmp_path / "set", [mug], [query(mug, seed) for seed in range(100, 130)])
    written = [tmp_path / "set" / path for path in manifest.files if path.startswith("queries/")]
    assert [pq.ParquetFile(path).metadata.num_rows for path in written] == [12, 12, 6]


def test_row_groups_are_small_enough_for_the_viewer_and_have_a_page_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mug = subject()
    rows = [query(mug, seed) for seed in range(100, 225)]
    sizes = []
    for group_bytes in (shards.GROUP_BYTES, 20_000):
        monkeypatch.setattr(shards, "GROUP_BYTES", group_bytes)
        write(tmp_path / "set", [mug], rows, overwrite=True)
        metadata = pq.ParquetFile(tmp_path / "set/queries/test-00000.parquet").metadata
        groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
        assert all(group.column(n).has_offset_index for group in groups for n in range(group.num_columns))
        sizes.append([group.num_rows for group in groups])
    assert sizes[0] == [100, 25]
    assert len(sizes[1]) > 4 and max(sizes[1]) < 40 and sum(sizes[1]) == 125


def test_unknown_choices_fail_before_anything_is_read(tiny_dataset: Path) -> None:
    dataset = open_dataset(tiny_dataset)
    with pytest.raises(UnknownNameError, match=r"unknown split of tiny-v1 'tset': did you mean 'test'\?"):
        dataset.examples("tset")
    with pytest.raises(UnknownNameError, match="unknown split of tiny-v1"):
        dataset.subjects("train")
    with pytest.raises(UnknownNameError, match=r"unknown subset 'lookalike': did you mean 'look-alike'\?"):
        dataset.examples("test", subset="lookalike")
    with pytest.raises(UsageError, match="a limit of 0 examples leaves nothing; give 1 or more"):
        dataset.examples("test", limit=0)


# Ids and the digest follow from content.


def test_ids_follow_from_content_and_not_from_order() -> None:
    mug = subject()
    assert mug.id == subject_id("mug", mug.photos)
    assert re.fullmatch(r"mug-[0-9a-f]{10}", mug.id)
    assert subject_id("Teddy bear", mug.photos).startswith("teddy-bear-")
    assert subject_id("mug", mug.photos[:1]) != mug.id
    row = query(mug)
    assert row.id == query_id(mug.id, row.image_id, "the {subject}")
    assert re.fullmatch(r"[0-9a-f]{16}", row.id)
    assert query(mug, text="a {subject}").id != row.id


def test_the_digest_ignores_order_and_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mug, bowl = subject(0), subject(10, noun="bowl")
    a, b = draw_box(SIZE_HW, 1, 12, 9, 14), draw_box(SIZE_HW, 1, 16, 9, 18)
    rows = [query(mug), query(bowl, 51, query_type="look-alike", look_alikes=(a, b))]
    digest = write(tmp_path / "one", [mug, bowl], rows).digest
    swapped = [dataclasses.replace(rows[1], look_alikes=(b, a)), rows[0]]
    assert write(tmp_path / "two", [bowl, mug], swapped).digest == digest

    def other_encoder(image: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(image).save(out, format="PNG", compress_level=0)
        return out.getvalue()

    monkeypatch.setattr("prisbench.datasets.schema.encode_png", other_encoder)
    again = write(tmp_path / "three", [mug, bowl], rows)
    assert again.digest == digest
    assert open_dataset(tmp_path / "three", verify=True).digest == digest


@pytest.mark.parametrize(
    "change",
    [
        {"image": draw_scene(99, SIZE_HW)},
        {"mask": draw_box(SIZE_HW, 2, 3, 8, 10)},
        {"look_alikes": (draw_box(SIZE_HW, 0, 0, 1, 1),)},
        {"text": "my {subject}"},
        {"query_type": "relation"},
        {"licence": "CC-BY-4.0"},
        {"source": "elsewhere"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_digest_changes_with_any_content(change: dict[str, Any]) -> None:
    mug = subject()
    assert query(mug, **change).digest != query(mug).digest


def test_the_digest_sees_the_masks_of_photos_and_nothing_else_that_is_new() -> None:
    mug = subject()
    box = draw_box((9, 14), 1, 2, 5, 9)
    assert dataclasses.replace(mug, masks=(None, None)).digest == mug.digest
    assert dataclasses.replace(mug, files=(as_jpeg(mug.photos[0]), None)).digest == mug.digest
    assert dataclasses.replace(mug, masks=(box, None)).digest != mug.digest
    assert query(mug, file=as_jpeg(draw_scene(50, SIZE_HW))).digest == query(mug).digest


def test_the_digest_of_a_known_dataset_stays(tiny_dataset: Path) -> None:
    """When this changes, every dataset version in the world has to."""
    assert open_dataset(tiny_dataset).digest == "d2caf7fce3d8b3a95a3a2b13998de522c7b40b4520b07c5eda4163cd5a1d7b7d"


# Rows that break a rule.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "the mug"}, r"the text must have \{subject\} once"),
        ({"text": "the {subject} by the {subject}"}, r"the text must have \{subject\} once"),
        ({"text": " the {subject}"}, "text ' the {subject}' must be one line of text, without spaces around it"),
        ({"licence": ""}, "licence '' must be one line of text"),
        ({"query_type": "lookalike"}, "query type 'lookalike' is none of plain, other-category"),
        ({"split": "train"}, "split 'train' is none of validation, test"),
        ({"mask": np.zeros((20, 12), bool)}, r"a mask of \(20, 12\) \(h, w\) on a scene of \(12, 20\)"),
        ({"mask": np.zeros(SIZE_HW, bool)}, "the mask must be empty exactly when the type is 'absent'; it is 'plain'"),
        ({"query_type": "absent"}, "the mask must be empty exactly when the type is 'absent'; it is 'absent'"),
        ({"query_type": "look-alike"}, "a look-alike query without look-alikes"),
        ({"look_alikes": (np.zeros(SIZE_HW, bool),)}, "a look-alike's mask is empty; leave out what is not visible"),
        ({"subject_id": "mug-none"}, "is about the subject 'mug-none', which is not there"),
        ({"noun": "bowl"}, "is a 'bowl' in 'test', its subject mug-.* a 'mug' in 'test'; they must agree"),
        ({"split": "validation"}, "is a 'mug' in 'validation', its subject .* in 'test'; they must agree"),
        ({"image": "photo"}, "is a reference photo of the subject mug-"),
    ],
)
def test_a_query_that_breaks_a_rule_is_named_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    mug = subject()
    if change.get("image") == "photo":
        h, w = mug.photos[0].shape[:2]
        change = {"image": mug.photos[0], "mask": draw_box((h, w), 0, 0, 2, 2)}
    bad = query(mug, seed=51, **change)
    with pytest.raises(DataError, match=message) as caught:
        write(tmp_path / "set", [mug], [query(mug), bad])
    assert bad.id in str(caught.value) or bad.image_id in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_comes_twice_or_is_in_both_splits_is_named(tmp_path: Path) -> None:
    mug, other = subject(0), subject(10, "validation")
    with pytest.raises(DataError, match=rf"subject {mug.id} comes twice: the same noun and photos"):
        write(tmp_path / "set", [mug, mug], [query(mug)])
    with pytest.raises(DataError, match=r"comes twice: the same subject, scene and text"):
        write(tmp_path / "set", [mug], [query(mug), query(mug)])
    with pytest.raises(DataError, match=r"scene [0-9a-f]{16} is in both splits; a scene may be in one only"):
        write(tmp_path / "set", [mug, other], [query(mug), query(other)])
    with pytest.raises(DataError, match=r"subject mug-.* has no photos"):
        write(tmp_path / "set", [dataclasses.replace(mug, photos=())], [])
    with pytest.raises(DataError, match="the dataset tiny-v1 would have no queries"):
        write(tmp_path / "set", [mug], [])
    with pytest.raises(DataError, match="the dataset tiny-v1 would have no subjects"):
        write(tmp_path / "set", [], [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": (None,)}, "has 1 masks for 2 photos; give one each, or none"),
        ({"files": (None, None, None)}, "has 3 files for 2 photos; give one each, or none"),
        ({"masks": (None, draw_box((16, 10), 1, 1, 3, 3))}, r"a mask of \(16, 10\) \(h, w\) on photo 2 of \(10, 16\)"),
        ({"masks": (np.zeros((9, 14), bool), None)}, "the mask of photo 1 is empty; give None where it is not known"),
        ({"files": (None, as_jpeg(draw_scene(1, (10, 16))))}, "photo 2: the file to keep shows other pixels"),
        ({"files": (b"GIF89a", None)}, "photo 1 is damaged or cut short|photo 1 is not a photo"),
    ],
)
def test_a_subject_that_breaks_a_rule_is_named_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    mug = dataclasses.replace(subject(), **change)
    with pytest.raises(DataError, match=f"subject {mug.id}.*({message})") as caught:
        write(tmp_path / "set", [mug], [query(mug)])
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_file_that_shows_something_else_than_the_scene_is_named(tmp_path: Path) -> None:
    mug = subject()
    bad = query(mug, file=as_jpeg(draw_scene(51, SIZE_HW)))
    with pytest.raises(DataError, match=rf"query {bad.id}: image: the file to keep shows other pixels"):
        write(tmp_path / "set", [mug], [bad])


def test_names_that_are_no_folder_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset name 'My Set': use small letters and digits"):
        write_dataset(tmp_path / "set", NewDataset("My Set", "1", [], [], ""))
    with pytest.raises(UsageError, match=r"dataset version 'v1': use numbers with dots between, like 1 or 1\.2"):
        write_dataset(tmp_path / "set", NewDataset("set", "v1", [], [], ""))


# Writing whole or not at all.


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    mug = subject()

    def interrupt(table: str, done: int) -> None:
        if (table, done) == ("queries", 40):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "set", [mug], [query(mug, n) for n in range(100, 150)], progress=interrupt, shard_bytes=1)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_the_rows_of_each_table(tmp_path: Path) -> None:
    mug = subject()
    seen: list[tuple[str, int]] = []
    write(tmp_path / "set", [mug], [query(mug), query(mug, 51)], progress=lambda *step: seen.append(step))
    assert seen == [("subjects", 1), ("queries", 1), ("queries", 2)]


def test_an_existing_dataset_is_kept_unless_overwritten(tmp_path: Path) -> None:
    mug = subject()
    old = write(tmp_path / "set", [mug], [query(mug)])
    with pytest.raises(WriteError, match="set already exists; choose another folder, or say --overwrite"):
        write(tmp_path / "set", [mug], [query(mug, 51)])
    with pytest.raises(DataError):
        write(tmp_path / "set", [mug], [query(mug, text="no slot")], overwrite=True)
    assert open_dataset(tmp_path / "set", verify=True).digest == old.digest
    new = write(tmp_path / "set", [mug], [query(mug, 51)], overwrite=True)
    assert open_dataset(tmp_path / "set", verify=True).digest == new.digest != old.digest
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(WriteError, match=r"photos holds something else \(no dataset\.json in it\)"):
        write(tmp_path / "photos", [mug], [query(mug)], overwrite=True)


@pytest.mark.usefixtures("without_root")
def test_a_target_without_permission_is_one_line() -> None:
    mug = subject()
    with pytest.raises(WriteError, match="cannot write /etc/set: no permission; choose a place you may write to"):
        write(Path("/etc/set"), [mug], [query(mug)])


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    child = (
        "import resource, sys\nfrom pathlib import Path\nsys.path.insert(0, '.')\n"
        "from tests.test_datasets import subject, query, write\nfrom prisbench.errors import WriteError\n"
        "mug = subject()\nresource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))\n"
        "try:\n    write(Path(sys.argv[1]), [mug], [query(mug)])\nexcept WriteError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, str(tmp_path / "set")],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert re.fullmatch(r"cannot write .*: the disk is full; free some space or choose another place\n", done.stdout)
    assert list(tmp_path.iterdir()) == []


# Folders that are not what they should be.


def test_a_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dataset at .*: there is no such folder; make one with `prisbench build-"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DataError, match=r"is not a dataset: no dataset\.json in it"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 1}, "has schema version 1, this prisbench reads 2 and 3; rebuild the dataset or install"),
        ({"extra": 1}, r"is damaged \(missing or unknown: extra\); rebuild"),
        *(
            ({name: value}, rf"is damaged \({name}: a field of the wrong kind\)")
            for name in ("name", "version", "subjects", "queries", "images", "digest", "files")
            for value in (None, 3, ["x"], {"test": None})
        ),
        ({"seed": "7"}, r"is damaged \(seed: a field of the wrong kind\)"),
        ({"seed": True, "name": "../x"}, r"is damaged \(name, seed: a field of the wrong kind\)"),
        ({"subjects": {"test": "2"}}, r"is damaged \(subjects: a field of the wrong kind\)"),
        ({"images": {"test": True}}, r"is damaged \(images: a field of the wrong kind\)"),
        ({"queries": {"test": {"plain": -1}}}, r"is damaged \(queries: a field of the wrong kind\)"),
        ({"queries": {"test": {"relations": 1}}}, r"is damaged \(queries: a field of the wrong kind\)"),
        ({"queries": {}}, r"is damaged \(subjects, queries and images are not of the same splits\)"),
        ({"subjects": {}}, r"is damaged \(subjects, queries and images are not of the same splits\)"),
        ({"schema_version": [3]}, r"has schema version \[3\]"),
        ({"schema_version": 3.0}, r"is damaged \(schema_version: a field of the wrong kind\)"),
        (
            {"files": {"../../etc/test-0.parquet": ""}},
            "names the file '../../etc/test-0.parquet', which no dataset has",
        ),
        ({"files": {"/queries/test-0.parquet": ""}}, "which no dataset has"),
        ({"files": {"queries/../test-0.parquet": ""}}, "which no dataset has"),
        ({"files": {"../test-0.parquet": ""}}, "which no dataset has"),
        ({"files": {"queries/test-0\\..\\..\\x.parquet": ""}}, "which no dataset has"),
        ({"files": {"queries/test-00009.parquet": ""}}, r"test-00009\.parquet is missing; copy the dataset again"),
        ({"files": {}}, r"\.parquet does not belong to the dataset \(not in dataset\.json\); remove it"),
    ],
)
def test_a_manifest_that_is_wrong_is_named(
    tiny_dataset: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = copy(tiny_dataset, tmp_path)
    change_manifest(folder, **changes)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(folder)
    assert str(folder) in str(caught.value)


def test_a_manifest_that_is_cut_or_something_else_is_named(tiny_dataset: Path, tmp_path: Path) -> None:
    folder = copy(tiny_dataset, tmp_path)
    text = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(text[:50])
    with pytest.raises(DataError, match=r"dataset\.json is not JSON"):
        open_dataset(folder)
    (folder / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"dataset\.json is not JSON"):
        open_dataset(folder)
    (folder / "dataset.json").write_text("[1]")
    with pytest.raises(DataError, match=r"dataset\.json is not a dataset's manifest"):
        open_dataset(folder)


@pytest.mark.parametrize("keep", [0, 3, 600, -200])
def test_a_shard_cut_short_is_named(tiny_dataset: Path, tmp_path: Path, keep: int) -> None:
    folder = copy(tiny_dataset, tmp_path)
    path = folder / "queries/test-00000.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"test-00000\.parquet is damaged \(.*\); copy it again or rebuild") as caught:
        list(open_dataset(folder).examples("test"))
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_found_by_reading_and_by_verify(tiny_dataset: Path, tmp_path: Path) -> None:
    folder = copy(tiny_dataset, tmp_path)
    path = folder / "queries/test-00000.parquet"
    data = bytearray(path.read_bytes())
    data[2000] ^= 0x10  # in the page of the images
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"test-00000\.parquet has changed \(another sha256 than in dataset\.json\)"):
        open_dataset(folder, verify=True)
    with pytest.raises(DataError, match=r"test-00000\.parquet is damaged"):
        list(open_dataset(folder).query_rows("test"))


def test_a_missing_column_and_a_column_of_another_type_are_named(tiny_dataset: Path, tmp_path: Path) -> None:
    folder = copy(tiny_dataset, tmp_path)
    path = folder / "queries/test-00000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["mask"]), path)
    with pytest.raises(DataError, match=r"test-00000\.parquet has no column 'mask'; rebuild the dataset"):
        open_dataset(folder).examples("test")
    column = table.column_names.index("height")
    pq.write_table(table.set_column(column, "height", table["height"].cast(pa.int64())), path)
    with pytest.raises(DataError, match="column 'height' is int64, not int32; rebuild the dataset"):
        open_dataset(folder).examples("test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(text="my {subject}"), "is damaged: its content gives the id [0-9a-f]{16}"),
        (lambda row: row.update(id=None), "None is damaged: id is null"),
        (lambda row: row.update(perceptual_hash=None), "is damaged: perceptual_hash is null"),
        (lambda row: row["image"].update(bytes=None, path="x.png"), "image is null, or only names a file"),
        (lambda row: row.update(look_alikes=[None]), "look-alike 1: not a COCO RLE"),
        (lambda row: row["image"].update(bytes=row["image"]["bytes"][:99]), "image is damaged or cut short"),
        (lambda row: row["mask"].update(counts="~"), "the RLE's runs do not add up to its size 12 x 20"),
        (lambda row: row.update(mask={"size": [1, 2], "counts": "2"}), "a mask has not the scene's size"),
    ],
)
def test_a_damaged_row_is_named(
    tiny_dataset: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder = copy(tiny_dataset, tmp_path)
    change_rows(folder, change)
    with pytest.raises(DataError, match=rf"test-00000\.parquet: query .*{message}"):
        list(open_dataset(folder).examples("test"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(photos=[None]), "photo 1 is null, or only names a file"),
        (lambda row: row.update(masks=None), "is damaged: masks is null"),
        (lambda row: row.update(noun="bowl"), "is damaged: its content gives the id bowl-"),
        (lambda row: row.update(masks=[None]), "its masks do not fit its photos"),
        (lambda row: row.update(masks=[None, {"size": [1, 2], "counts": "2"}]), "its masks do not fit its photos"),
        (lambda row: row.update(masks=[{"size": [9, 14], "counts": "~"}, None]), "the mask of photo 1: the RLE's runs"),
    ],
)
def test_a_damaged_subject_is_named(
    tiny_dataset: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder = copy(tiny_dataset, tmp_path)
    change_rows(folder, change, "subjects")
    with pytest.raises(DataError, match=rf"test-00000\.parquet: subject .*{message}") as caught:
        open_dataset(folder).subjects("test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "none"}, r"the content has another digest than dataset\.json says"),
        ({"sha256": "0" * 64}, "query [0-9a-f]{16} is damaged: sha256 is '0000"),
        (
            {"perceptual_hash": "0" * 16},
            "is damaged: perceptual_hash is '0000000000000000', not '[0-9a-f]{16}'; rebuild",
        ),
        ({"height": 13}, "is damaged: height is 13, not 12; rebuild"),
        ({"area_fraction": 0.5}, r"is damaged: area_fraction is 0\.5, not 0\.125; rebuild"),
        ({"split": "validation"}, "is damaged: split is 'validation', not 'test'"),
        ({"query_type": "look-alike"}, "a look-alike query without look-alikes"),
        ({"noun": "bowl"}, "is a 'bowl' in 'test', its subject mug-.* a 'mug' in 'test'; they must agree"),
    ],
    ids=lambda change: next(iter(change)) if isinstance(change, dict) else None,
)
def test_content_that_was_changed_with_its_checksum_is_found(
    tiny_dataset: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = copy(tiny_dataset, tmp_path)
    change_rows(folder, lambda row: row.update(change), checksum=True)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(folder, verify=True)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_manifest_that_counts_wrongly_is_found(tiny_dataset: Path, tmp_path: Path) -> None:
    folder = copy(tiny_dataset, tmp_path)
    change_manifest(folder, images={"validation": 5, "test": 9})
    with pytest.raises(DataError, match=r"dataset\.json counts other images than there are; rebuild the dataset"):
        open_dataset(folder, verify=True)


# Building from a source, with interruptions.

RECORDS = 40
SHARD = 4_000
"""Bytes: six scenes or so."""


def drawn(
    key: str = "k", starts: list[int] | None = None, read: list[int] | None = None, records: int = RECORDS
) -> Source:
    """Two subjects, and a query about either for each of the records but every seventh, which is too small."""
    mugs = [subject(0), subject(10, "validation")]
    left_out = Counter({"in a crowd": 3})

    def queries(start: int) -> Iterator[QueryRow]:
        if starts is not None:
            starts.append(start)
        row = 0
        for record in range(records):
            if record % 7 == 3:
                left_out["too small"] += row >= start
                continue
            row += 1
            if row > start:
                if read is not None:
                    read.append(record)
                yield query(mugs[record % 3 == 0], 200 + record, text=f"the {{subject}} number {record}")

    return Source("tiny", "1", "# Tiny\n", key, lambda: iter(mugs), queries, left_out=left_out, seed=7)


def hashes(folder: Path) -> dict[str, str]:
    """The sha256 of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def partial_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.partial")


def interrupted(folder: Path, source: Source, after: int, error: BaseException) -> None:
    """Build until so many queries are written, and let the error come."""

    def stop(table: str, rows: int) -> None:
        if (table, rows) == ("queries", after):
            raise error

    with pytest.raises(type(error)):
        build(folder, source, stop, shard_bytes=SHARD)


def test_a_build_is_what_write_dataset_writes_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    source = drawn()
    manifest = build(tmp_path / "built", source, shard_bytes=SHARD)
    card = "# Tiny\n" + build_notes((), source.left_out)
    assert "- Left out: 3 (in a crowd)\n" in card
    new = NewDataset("tiny", "1", source.subjects(), source.queries(0), card, seed=7)
    write_dataset(tmp_path / "written", new, shard_bytes=SHARD)
    assert hashes(tmp_path / "built") == hashes(tmp_path / "written")
    assert open_dataset(tmp_path / "built", verify=True).manifest == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["built", "written"]
    assert len(manifest.files) > 10, "many shards, so that there is something to interrupt"


MOMENTS = [
    *(("draw", n) for n in (0, 9, 30)),
    *(("fsync", n) for n in (0, 2, 4, 5, 9, 18)),
    *(("replace", n) for n in (0, 2, 3, 4, 7, 12)),
    *(("link", n) for n in (0, 5)),
    *(("rename", n) for n in (0, 1)),
]
"""A call, and how often it goes well before the process is killed at it."""


def kill_and_go_on(folder: Path, moment: str, n: int) -> dict[str, Any]:
    """Build twice, each time in a process of its own; the first is killed.  What the second found and made."""

    def child(kill: bool) -> None:
        starts: list[int] = []
        read: list[int] = []
        source = drawn(starts=starts, read=read)
        if kill:
            left = [n]

            def deadly(inner: Callable[..., Any]) -> Callable[..., Any]:
                def call(*arguments: Any, **options: Any) -> Any:
                    if left[0] == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left[0] -= 1
                    return inner(*arguments, **options)

                return call

            if moment == "draw":
                deadly_row = deadly(lambda row: row)
                inner = source.queries
                source = dataclasses.replace(source, queries=lambda start: map(deadly_row, inner(start)))
            else:
                setattr(os, moment, deadly(getattr(os, moment)))
        lines: list[str] = []
        build(folder / "set", source, shard_bytes=SHARD, overwrite=True, say=lines.append)
        found = {"starts": starts, "read": read, "lines": lines, "left_out": source.left_out}
        (folder / "found.json").write_text(json.dumps({**found, "hashes": hashes(folder / "set")}))

    folder.mkdir()
    for kill, expected in ((True, -signal.SIGKILL), (False, 0)):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                child(kill)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == expected, (moment, n, kill)
        if kill:
            journal = partial_of(folder / "set") / "journal.json"
            finished = json.loads(journal.read_text())["rows"] if journal.exists() else None
    return {"finished": finished, **json.loads((folder / "found.json").read_text())}


def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    source = drawn()
    build(tmp_path / "whole", source, shard_bytes=SHARD)
    # A process of its own, without threads, forks the builds: the packages are loaded once.
    code = (
        "import json, sys\nfrom pathlib import Path\nsys.path.insert(0, '.')\n"
        "import datasets, tests.test_datasets as t\n"
        "found = [t.kill_and_go_on(Path(sys.argv[1]) / f'{m}-{n}', m, n) for m, n in t.MOMENTS]\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    went_on = 0
    for moment, found in zip(MOMENTS, json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert found["hashes"] == hashes(tmp_path / "whole"), moment
        assert found["left_out"] == source.left_out == {"in a crowd": 3, "too small": 6}, moment
        assert found["starts"] == [found["finished"] or 0], moment
        assert len(found["read"]) == 34 - (found["finished"] or 0), "nothing that was finished is read again"
        if found["finished"]:
            went_on += 1
            line = f"going on with an interrupted build: {found['finished']} queries are finished"
            assert found["lines"] == [line], moment
    assert went_on > len(MOMENTS) / 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), WriteError("full"), RuntimeError("a bug")], ids=repr)
def test_what_was_finished_is_kept_after_an_interruption(tmp_path: Path, error: BaseException) -> None:
    interrupted(tmp_path / "set", drawn(), 20, error)
    assert [path.name for path in tmp_path.iterdir()] == [".set.partial"]
    starts: list[int] = []
    seen: list[tuple[str, int]] = []
    build(tmp_path / "set", drawn(starts=starts), lambda *step: seen.append(step), shard_bytes=SHARD)
    assert 10 < starts[0] <= 20 and seen[0] == ("queries", starts[0] + 1) and seen[-1] == ("queries", 34)
    build(tmp_path / "whole", drawn(), shard_bytes=SHARD)
    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "whole"]


def test_a_build_that_is_interrupted_again_and_again_goes_on_each_time(tmp_path: Path) -> None:
    for after in (12, 20, 30):
        starts: list[int] = []
        interrupted(tmp_path / "set", drawn(starts=starts), after, KeyboardInterrupt())
        with open(partial_of(tmp_path / "set") / "notes.jsonl", "ab") as file:
            file.write(b'{"of": "rows that were not finished"}\n')
    assert starts[0] > 10
    lines: list[str] = []
    build(tmp_path / "set", drawn(), shard_bytes=SHARD, say=lines.append)
    assert len(lines) == 1 and lines[0].startswith("going on with an interrupted build: ")
    build(tmp_path / "whole", drawn(), shard_bytes=SHARD)
    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")


def test_subjects_that_were_finished_are_not_written_again(tmp_path: Path) -> None:
    people = [subject(seed) for seed in range(0, 100, 10)]
    source = dataclasses.replace(
        drawn(), subjects=lambda: iter(people), queries=lambda start: iter([query(people[0])][start:])
    )

    def stop(table: str, rows: int) -> None:
        if rows == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "set", source, stop, shard_bytes=2_000)
    kept = hashes(partial_of(tmp_path / "set") / "rows")
    seen: list[tuple[str, int]] = []
    manifest = build(tmp_path / "set", source, lambda *step: seen.append(step), shard_bytes=2_000)
    assert kept and kept.items() <= manifest.files.items()
    assert 1 < seen[0][1] <= 7 and seen[-2:] == [("subjects", 10), ("queries", 1)]
    assert [row.id for row in open_dataset(tmp_path / "set", verify=True).subjects("test")] == [
        row.id for row in people
    ]


def test_nothing_is_kept_where_nothing_was_finished(tmp_path: Path) -> None:
    interrupted(tmp_path / "set", drawn(), 1, KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


def test_data_that_must_be_mended_leaves_nothing(tmp_path: Path) -> None:
    interrupted(tmp_path / "set", drawn(), 20, KeyboardInterrupt())
    good = drawn()

    def queries(start: int) -> Iterator[QueryRow]:
        yield from good.queries(start)
        yield query(subject(0), text="no slot")

    with pytest.raises(DataError, match=r"the text must have \{subject\} once"):
        build(tmp_path / "set", dataclasses.replace(good, queries=queries), shard_bytes=SHARD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change", [{"key": "other"}, {"version": "2"}, {"seed": 8}, {"shard_bytes": 5_000}], ids=lambda c: next(iter(c))
)
def test_an_interrupted_build_of_something_else_is_discarded_and_said_to_be(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    interrupted(tmp_path / "set", drawn(), 20, KeyboardInterrupt())
    shard_bytes = change.get("shard_bytes", SHARD)
    starts: list[int] = []
    changes = {name: value for name, value in change.items() if name != "shard_bytes"}
    other, lines = dataclasses.replace(drawn(starts=starts), **changes), list[str]()
    there: list[int] = []

    def look(table: str, rows: int) -> None:
        there.append(len(list(partial_of(tmp_path / "set").rglob("*.parquet"))))

    build(tmp_path / "set", other, look, shard_bytes=shard_bytes, say=lines.append)
    assert there[0] == 0, "the room that the other build took is free again"
    assert starts == [0] and len(lines) == 1
    assert lines[0].endswith(".set.partial is of another build (other data, settings or versions): it is discarded")
    build(tmp_path / "whole", dataclasses.replace(drawn(), **changes), shard_bytes=shard_bytes)
    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("journal.json", b"{"),
        ("journal.json", b"[]"),
        ("notes.jsonl", b""),
        ("notes.jsonl", b"{}\n" * 1000),
        ("rows/queries/test-00000.parquet", None),
    ],
)
def test_a_damaged_partial_build_starts_again_and_says_so(tmp_path: Path, name: str, content: bytes | None) -> None:
    interrupted(tmp_path / "set", drawn(), 20, KeyboardInterrupt())
    path = partial_of(tmp_path / "set") / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    lines: list[str] = []
    source = drawn()
    build(tmp_path / "set", source, shard_bytes=SHARD, say=lines.append)
    assert len(lines) == 1 and lines[0].endswith(".set.partial is damaged: the interrupted build starts again")
    build(tmp_path / "whole", drawn(), shard_bytes=SHARD)
    assert hashes(tmp_path / "set") == hashes(tmp_path / "whole")
    assert source.left_out == {"in a crowd": 3, "too small": 6}


def test_two_builds_into_one_folder_do_not_meet(tmp_path: Path) -> None:
    refused = []

    def second(table: str, rows: int) -> None:
        if (table, rows) == ("queries", 20):
            with pytest.raises(
                WriteError, match=r"cannot write .*set: another process is building it; wait for it, or"
            ):
                build(tmp_path / "set", drawn())
            refused.append(rows)

    build(tmp_path / "set", drawn(), second, shard_bytes=SHARD)
    assert refused == [20]
    open_dataset(tmp_path / "set", verify=True)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_target_that_may_not_be_taken_is_told_before_any_work(tmp_path: Path) -> None:
    starts: list[int] = []
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(WriteError, match="photos already exists; choose another folder, or say --overwrite"):
        build(tmp_path / "photos", drawn(starts=starts))
    with pytest.raises(WriteError, match=r"photos holds something else \(no dataset\.json in it\)"):
        build(tmp_path / "photos", drawn(starts=starts), overwrite=True)
    assert starts == [] and [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_built_dataset_is_replaced_in_one_step(tmp_path: Path) -> None:
    old = build(tmp_path / "set", drawn())
    bad = dataclasses.replace(drawn(), queries=lambda start: iter([query(subject(0), text="no slot")]))
    with pytest.raises(DataError):
        build(tmp_path / "set", bad, overwrite=True)
    assert open_dataset(tmp_path / "set", verify=True).manifest == old
    new = build(tmp_path / "set", drawn(records=20), overwrite=True)
    assert open_dataset(tmp_path / "set", verify=True).manifest == new != old
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_seen_rows_keep_little_of_a_query() -> None:
    mug = subject()
    seen = SeenRows()
    seen.add_subject(mug)
    row = query(mug)
    row.digest  # noqa: B018  hashed now; the copies below only have another id
    tracemalloc.start()
    for n in range(500):
        other = dataclasses.replace(row)
        vars(other).update(id=f"{n * 7_919_111:016x}", sha256=f"{n * 5_555_555:016x}", digest=row.digest)
        seen.add_query(other)
        if n % 100 == 99:
            seen.new_notes()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / 500 < 400, "200,000 queries fit into 80 MB"


# Names.


def perseg_tree(root: Path) -> Path:
    """One object of PerSeg in its public layout, photos of noise."""
    for folder in ("Images", "Annotations"):
        (root / folder / "mug_skulls").mkdir(parents=True)
    for n in range(3):
        Image.fromarray(draw_scene(n, (48, 64))).save(root / f"Images/mug_skulls/{n:02d}.jpg")
        mask = np.where(draw_box((48, 64), 8, 10, 30 + n, 40), 255, 0).astype(np.uint8)
        Image.fromarray(np.repeat(mask[:, :, None], 3, axis=2)).save(root / f"Annotations/mug_skulls/{n:02d}.png")
    return root


def test_a_source_is_built_from_a_folder_or_an_archive_alike(tmp_path: Path) -> None:
    root = perseg_tree(tmp_path / "perseg")
    archive = shutil.make_archive(str(tmp_path / "perseg"), "zip", tmp_path, "perseg")
    manifest, left_out = named.build_source("perseg", root, {}, tmp_path / "a")
    packed, _ = named.build_source("perseg", archive, {"licence": "MIT"}, tmp_path / "b")
    assert manifest.subjects == {"test": 1} and sum(manifest.queries["test"].values()) == 2
    assert isinstance(left_out, Counter)
    assert packed.queries == manifest.queries and packed.digest != manifest.digest, "the licence is another"
    dataset = open_dataset(tmp_path / "a", verify=True)
    (row,) = dataset.subject_rows("test")
    assert row.files[0] == (root / "Images/mug_skulls/00.jpg").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "perseg", "perseg.zip"]


def test_sources_and_options_that_are_not_there_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown source 'persge': did you mean 'perseg'\?"):
        named.load_source("persge", tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown source 'persge': did you mean 'perseg'\?"):
        named.build_source("persge", Path(__file__), {}, tmp_path / "set")
    with pytest.raises(UnknownNameError, match=r"option of the source perseg 'license': did you mean 'licence'\?"):
        named.load_source("perseg", tmp_path, {"license": "MIT"})
    with pytest.raises(UsageError, match="the source perseg reads files: name the folder or archive they are in"):
        named.load_source("perseg")
    with pytest.raises(DataError, match=r"no folder .*none: perseg wants one with PerSeg: 40 objects"):
        named.build_source("perseg", tmp_path / "none", {}, tmp_path / "set")
    with pytest.raises(UsageError, match="the source tabletop draws what it gives: leave out the folder"):
        named.load_source("tabletop", tmp_path)
    with pytest.raises(UsageError, match="test=0: a whole number is wanted, 1 or more"):
        named.load_source("tabletop", None, {"test": "0"})
    with pytest.raises(UsageError, match="seed=x: a whole number is wanted"):
        named.load_source("tabletop", None, {"seed": "x"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(named.SOURCES) - {"tabletop"}))
def test_every_source_says_what_it_is(name: str) -> None:
    text = named.describe_source(name)
    assert text.startswith(f"{name}: {named.SOURCES[name]}\nlicence: ") and "\nlayout:\n  " in text
    for option, line in named.source_options(name).items():
        assert re.fullmatch(r"[a-z0-9_-]+", option) and f"  {option}: {line}" in text and "\n" not in line


def test_every_module_that_reads_a_set_has_a_name() -> None:
    modules = (Path(named.__file__).parent / "sources").rglob("*.py")
    readers = {path.stem.replace("_", "-") for path in modules if "\ndef read(" in path.read_text()}
    assert readers | {"tabletop"} == set(named.SOURCES)


def test_tabletop_is_a_source_too_and_starts_anywhere() -> None:
    source = named.load_source("tabletop", None, {"validation": "1", "test": "1"})
    assert (source.name, source.n_subjects, source.n_queries) == ("tabletop-custom", 2, 80)
    assert source.key == named.tabletop_source(Size({"validation": 1, "test": 1})).key != named.tabletop_source().key
    few = named.tabletop_source(Size({"test": 1}, {"plain": 1, "relation": 1}))
    assert (few.name, few.n_subjects, few.n_queries) == ("tabletop-custom", 1, 3)
    ids = [row.id for row in few.queries(0)]
    assert len(ids) == 3 and [row.id for row in few.queries(2)] == ids[2:], "it starts in the middle of a pair, too"
    whole = named.load_source("tabletop")
    assert (whole.name, whole.version, whole.seed) == ("tabletop", VERSION, SEED)
    small = named.load_source("tabletop", None, {"size": "small"})
    assert small.name == "tabletop-small" and small.n_queries < whole.n_queries and small.key != whole.key
    assert named.load_source("tabletop", None, {"size": "small", "seed": "1"}).name == "tabletop-custom"
    with pytest.raises(UnknownNameError, match=r"unknown size 'smal': did you mean 'small'\?"):
        named.load_source("tabletop", None, {"size": "smal"})
    assert "seed: another world" in named.describe_source("tabletop")


def test_tabletop_of_an_older_schema_in_the_cache_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", str(tmp_path))
    size = Size({"test": 1}, {"plain": 2})
    monkeypatch.setattr(named, "SIZES", {"full": size})
    folder = tmp_path / "datasets" / named.NAMES[0]
    digest = named.build_tabletop(folder, size).digest
    monkeypatch.setattr(named, "DIGESTS", {**named.DIGESTS, named.NAMES[0]: digest})
    lines: list[str] = []
    assert named.find_dataset(named.NAMES[0], say=lines.append).folder == folder
    assert lines == []
    change_manifest(folder, schema_version=1)
    redrawn = named.find_dataset(named.NAMES[0], say=lines.append)
    assert lines == [f"{folder} is from an older prisbench: drawing it again"]
    assert redrawn.manifest.schema_version == SCHEMA_VERSION
    change_manifest(folder, schema_version=1, digest="0" * 64)
    with pytest.raises(
        DataError, match="has schema version 1, this prisbench reads 2 and 3; rebuild the dataset or install"
    ):
        named.find_dataset(named.NAMES[0])


# --- the things of a scene, and pairs ---------------------------------------------------------------------------------


def a_scene(about: SubjectRow, text: str, means: int | None, pair: str | None = "desk", **changes: Any) -> QueryRow:
    """A scene with the subject, a copy of it, a landmark and a thing without a name; the text means one of the first
    two, or nothing.
    """
    places = [draw_box(SIZE_HW, 2, x, 8, x + 4) for x in (1, 6, 11, 16)]
    roles = ["subject", "look-alike"] if means != 1 else ["look-alike", "subject"]
    grades = [None if role == "subject" else "copy" for role in roles]
    things = (
        *(Thing(*each) for each in zip(places, ["mug", "mug"], roles, grades, strict=False)),
        Thing(places[2], "box", "landmark"),
        Thing(places[3], None, "other"),
    )
    return query(
        about,
        text=text,
        query_type="contradicted" if means is None else "referred",
        mask=places[0] & False if means is None else places[means],
        look_alikes=(places[0 if means == 1 else 1],),
        things=things,
        meant=means,
        pair_id=pair,
        **changes,
    )


def test_the_things_of_a_scene_come_back_as_they_were_written(tmp_path: Path) -> None:
    mug = subject()
    rows = [a_scene(mug, "the {subject} left of the box", 0), a_scene(mug, "the {subject} right of the box", 1)]
    rows += [a_scene(mug, "the {subject} on the left", 0, "two"), a_scene(mug, "the {subject} far behind", None, "two")]
    manifest = write(tmp_path / "d", [mug], rows)
    assert manifest.queries == {"test": {"referred": 3, "contradicted": 1}}
    found = list(open_dataset(tmp_path / "d", verify=True).query_rows("test"))
    by_id = {row.id: row for row in found}
    for row in rows:
        back = by_id[row.id]
        assert (back.meant, back.pair_id, back.digest) == (row.meant, row.pair_id, row.digest)
        assert [(t.noun, t.role, t.grade) for t in back.things] == [(t.noun, t.role, t.grade) for t in row.things]
        assert all(np.array_equal(a.mask, b.mask) for a, b in zip(back.things, row.things, strict=True))
    example = next(iter(open_dataset(tmp_path / "d").examples("test", subset="contradicted")))
    assert (example.meant, example.pair_id, example.mask.any()) == (None, "two", False)
    assert [thing.role for thing in example.things] == ["subject", "look-alike", "landmark", "other"]


def test_a_source_that_says_nothing_of_things_knows_the_subject_and_its_look_alikes(tmp_path: Path) -> None:
    mug = subject()
    alike = draw_box(SIZE_HW, 1, 12, 9, 18)
    there = query(mug, look_alikes=(alike,))
    gone = query(mug, seed=60, query_type="absent", mask=draw_box(SIZE_HW, 0, 0, 0, 0), look_alikes=(alike,))
    write(tmp_path / "d", [mug], [there, gone])
    found = {example.query_type: example for example in open_dataset(tmp_path / "d").examples("test")}
    assert [(thing.noun, thing.role, thing.grade) for thing in found["plain"].things] == [
        ("mug", "subject", None),
        ("mug", "look-alike", None),
    ]
    assert (found["plain"].meant, found["absent"].meant) == (0, None)
    assert [thing.role for thing in found["absent"].things] == ["look-alike"]


def test_things_that_say_no_more_than_the_masks_leave_the_digest_as_it_was() -> None:
    row = query(subject(), look_alikes=(draw_box(SIZE_HW, 1, 12, 9, 18),))
    told = dataclasses.replace(row, things=row.all_things[::-1], meant=1)
    assert told.digest == row.digest
    graded = dataclasses.replace(told.things[0], grade="pattern")
    assert dataclasses.replace(told, things=(graded, told.things[1])).digest != row.digest
    assert dataclasses.replace(row, pair_id="a").digest != row.digest


def test_a_dataset_of_schema_version_2_is_read_and_means_the_same(tmp_path: Path) -> None:
    mug = subject()
    rows = [query(mug, look_alikes=(draw_box(SIZE_HW, 1, 12, 9, 18),)), query(mug, seed=60)]
    folder = tmp_path / "d"
    manifest = write(folder, [mug], rows)
    files = {}
    for path in sorted(folder.glob("*/*.parquet")):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns([n for n in ("things", "meant", "pair_id") if n in table.column_names]), path)
        files[path.relative_to(folder).as_posix()] = sha256_file(path)
    change_manifest(folder, schema_version=2, files=files)
    old = open_dataset(folder, verify=True)
    assert old.digest == manifest.digest
    assert [row.digest for row in old.query_rows("test")] == [row.digest for row in rows]
    example = next(old.examples("test"))
    assert [thing.role for thing in example.things] == ["subject", "look-alike"] and example.meant == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meant": 1}, "'meant' is 1; it must be the place of the thing with the role subject"),
        ({"meant": None}, "'meant' is None with the type 'referred'"),
        ({"pair_id": None}, "a query of type 'referred' needs the 'pair_id' it shares with its partner"),
        ({"pair_id": " a"}, "'pair_id' ' a' must be one line of text"),
        ({"mask": draw_box(SIZE_HW, 2, 6, 8, 10)}, "the mask is not that of the thing the text means"),
        ({"look_alikes": ()}, "the look-alikes are not the things with the role look-alike"),
        (
            {"query_type": "absent", "mask": draw_box(SIZE_HW, 0, 0, 0, 0), "meant": None},
            "a thing has the role subject",
        ),
    ],
)
def test_things_that_contradict_their_row_are_refused(changes: dict[str, Any], message: str) -> None:
    row = dataclasses.replace(a_scene(subject(), "the {subject} left of the box", 0), **changes)
    with pytest.raises(DataError, match=re.escape(message)):
        check_query(row)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "thing"}, "thing 3 has the role 'thing', which is none of subject, look-alike, landmark, other"),
        ({"grade": "copy"}, "thing 3 has the grade 'copy' and the role 'landmark'; a look-alike's grade is one of"),
        ({"noun": ""}, "thing 3 has the noun ''"),
        ({"role": "subject"}, "2 things have the role subject; a copy of it is a look-alike"),
        ({"mask": draw_box(SIZE_HW, 0, 0, 0, 0)}, "thing 3 has an empty mask; leave out what is not visible"),
        ({"mask": draw_box((12, 21), 0, 0, 2, 2)}, "thing 3 has a mask of (12, 21) (h, w) on a scene of (12, 20)"),
    ],
)
def test_a_thing_that_breaks_a_rule_is_named(changes: dict[str, Any], message: str) -> None:
    row = a_scene(subject(), "the {subject} left of the box", 0)
    things = [*row.things]
    things[2] = dataclasses.replace(things[2], **changes)
    with pytest.raises(DataError, match=re.escape(message)):
        check_query(dataclasses.replace(row, things=tuple(things)))


def test_a_pair_has_two_members_about_one_scene(tmp_path: Path) -> None:
    mug = subject()
    left, right = a_scene(mug, "the {subject} left of the box", 0), a_scene(mug, "the {subject} right of the box", 1)
    cases = [
        ([left], "has no partner: no other has the pair_id 'desk'"),
        ([left, right, a_scene(mug, "the {subject}", 0)], "is a third member; a pair has two"),
        ([left, a_scene(mug, "the {subject} right", 1, seed=70)], "is about another subject or scene than its partner"),
        (
            [a_scene(mug, "the {subject} above", None), a_scene(mug, "the {subject} below", None)],
            "both mean nothing in the scene",
        ),
    ]
    for n, (rows, message) in enumerate(cases):
        with pytest.raises(DataError, match=re.escape(message)):
            write(tmp_path / str(n), [mug], rows)
        assert not (tmp_path / str(n)).exists()
