from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco

from prisbench.datasets.build import write_dataset
from prisbench.datasets.load import open_dataset
from prisbench.datasets.schema import (
    SCHEMA_VERSION,
    TABLES,
    Manifest,
    QueryRow,
    SubjectRow,
    features,
    query_id,
    subject_id,
)
from prisbench.errors import DataError, UnknownNameError, UsageError, WriteError
from prisbench.types import QUERY_TYPES
from tests.drawing import draw_box, draw_scene

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
    return write_dataset(folder, "tiny", "1", subjects, queries, "# Tiny\n", **options)


def copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / "copy"))


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_rows(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit the first row of the test queries, as somebody with another tool might."""
    path = folder / "queries/test-00000.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES["queries"]), path)


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
    assert [row["query_type"] for row in queries["validation"]] == list(QUERY_TYPES)


def test_load_dataset_opens_the_subjects_by_name(tiny_dataset: Path, tmp_path: Path) -> None:
    import datasets

    subjects = datasets.load_dataset(str(tiny_dataset), "subjects", cache_dir=str(tmp_path))
    assert subjects["test"].features == features("subjects")
    assert [row["noun"] for row in subjects["test"]] == ["mug", "bowl"]
    assert [photo.size for photo in subjects["test"][0]["photos"]] == [(14, 9), (15, 9)]
    assert datasets.get_dataset_config_names(str(tiny_dataset)) == ["queries", "subjects"]


def test_both_descriptions_of_the_columns_agree() -> None:
    for table, schema in TABLES.items():
        assert features(table).arrow_schema.remove_metadata() == schema


def test_the_manifest_counts_what_is_there(tiny_dataset: Path) -> None:
    manifest = open_dataset(tiny_dataset).manifest
    assert manifest.id == "tiny-v1"
    assert (manifest.seed, manifest.schema_version) == (7, SCHEMA_VERSION)
    assert manifest.subjects == {"validation": 1, "test": 2}
    assert manifest.queries == {
        "validation": dict.fromkeys(QUERY_TYPES, 1),
        "test": dict.fromkeys(QUERY_TYPES, 2),
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
    assert [example.query.id for example in dataset.examples("test", limit=3)] == everything[:3]
    assert [example.query.id for example in dataset.examples("test", limit=99)] == everything
    chosen = list(dataset.examples("test", subset="look-alike"))
    assert [example.query_type for example in chosen] == ["look-alike", "look-alike"]
    assert len(list(dataset.examples("test", limit=1, subset="absent"))) == 1


def test_many_rows_make_many_shards_and_read_the_same(tmp_path: Path) -> None:
    mug = subject()
    rows = [query(mug, seed) for seed in range(100, 180)]
    one = write(tmp_path / "one", [mug], rows)
    many = write(tmp_path / "many", [mug], rows, shard_bytes=1)
    assert len(one.files) == 2
    assert sorted(many.files) == [f"queries/test-{n:05d}.parquet" for n in range(3)] + ["subjects/test-00000.parquet"]
    assert many.digest == one.digest
    ids = [row.id for row in rows]
    assert [example.query.id for example in open_dataset(tmp_path / "many", verify=True).examples("test")] == ids


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
        import io

        from PIL import Image

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


def test_names_that_are_no_folder_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset name 'My Set': use small letters and digits"):
        write_dataset(tmp_path / "set", "My Set", "1", [], [], "")
    with pytest.raises(UsageError, match=r"dataset version 'v1': use numbers with dots between, like 1 or 1\.2"):
        write_dataset(tmp_path / "set", "set", "v1", [], [], "")


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
        ({"schema_version": 2}, "has schema version 2, this prisbench reads 1; rebuild the dataset or install"),
        ({"extra": 1}, r"is damaged \(missing or unknown: extra\); rebuild"),
        ({"subjects": {"test": "2"}}, r"is damaged \(a field of the wrong kind\)"),
        ({"files": ["x"]}, r"is damaged \(a field of the wrong kind\)"),
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


def test_content_that_was_changed_with_its_checksum_is_found(tiny_dataset: Path, tmp_path: Path) -> None:
    from prisbench.files import sha256_file

    folder = copy(tiny_dataset, tmp_path)
    change_rows(folder, lambda row: row.update(licence="none"))
    files = dict(open_dataset(folder).manifest.files)
    files["queries/test-00000.parquet"] = sha256_file(folder / "queries/test-00000.parquet")
    change_manifest(folder, files=files)
    with pytest.raises(DataError, match=r"the content has another digest than dataset\.json says"):
        open_dataset(folder, verify=True)
