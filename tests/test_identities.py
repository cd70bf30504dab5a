"""Who is who in other people's files: values compare by value, and nothing goes uncounted."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prisbench.datasets.build import build
from prisbench.datasets.cards.text import block, write_readme
from prisbench.datasets.schema import QueryRow, check_query, check_subject
from prisbench.datasets.source import Source
from prisbench.datasets.sources import coco, labelme
from prisbench.datasets.sources.identities import (
    MANY_PICTURES,
    Identities,
    Use,
    class_names_warning,
    class_warnings,
    key_of,
)
from prisbench.datasets.sources.public import mug19, voc_instances
from prisbench.datasets.sources.reference_photos import apart, spread
from prisbench.errors import DataError
from tests.drawing import draw_box, draw_scene

SIZE = (24, 40)
LOST = {
    "pictures where a part of the subject has no mask of its own",
    "pictures of subjects that are seen in one place only",
    "reference photos of subjects that no scene shows",
    "scenes that are another subject's reference photo",
    "scenes from the place of the subject's reference photos",
    "validation queries about scenes of test queries",
}
"""The reasons for which a picture of a subject is neither its reference photo nor its scene."""


def outline(top: int, left: int) -> list[list[int]]:
    return [[left, top, left + 6, top, left + 6, top + 5, left, top + 5]]


def two_things(subject: Any = 14, image: int = 1) -> dict[str, Any]:
    """A mug (14) and a spoon (15) in four images: one is learned from, so six queries; one identity is ``subject``."""
    value: dict[str, Any] = {"images": [], "annotations": []}
    value["categories"] = [{"id": 1, "name": "mug"}, {"id": 2, "name": "spoon"}]
    for n in range(1, 5):
        value["images"].append({"id": n, "file_name": f"{n}.png", "height": 24, "width": 40})
        for category, name in ((1, 14), (2, 15)):
            record = {"id": 10 * n + category, "image_id": n, "category_id": category, "iscrowd": 0}
            record |= {"segmentation": outline(2 + n, 20 * category - 18), "subject": name}
            value["annotations"].append(record)
    value["annotations"][2 * (image - 1)]["subject"] = subject
    return value


def read(root: Path, value: Any, **options: str) -> Source:
    root.mkdir(exist_ok=True)
    (root / "set.json").write_text(json.dumps(value))
    for n in range(1, 5):
        if not (root / f"{n}.png").exists():
            Image.fromarray(draw_scene(n, SIZE)).save(root / f"{n}.png")
    return coco.read(root, {"references": "1"} | options)


def rows(source: Source) -> list[QueryRow]:
    for subject in source.subjects():
        check_subject(subject)
    queries = list(source.queries(0))
    for query in queries:
        check_query(query)
    return queries


def asked(queries: list[QueryRow]) -> list[tuple[str, str, str, int]]:
    return [(query.noun, query.source[-5:], query.query_type, len(query.look_alikes)) for query in queries]


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (14, "14"),
        (14.0, "14"),
        ("14", "14"),
        (" 14 ", "14"),
        ("14.0", "14"),
        ("14.", "14."),
        (-0.0, "0"),
        ("-0", "0"),
        (14.5, "14.5"),
        ("14.5", "14.5"),
        ("14.50", "14.50"),
        ("007", "007"),
        ("1e3", "1e3"),
        ("١٤", "١٤"),
        (2**53 + 1, str(2**53 + 1)),
        (str(2**53 + 1), str(2**53 + 1)),
        (float(2**53 - 1), str(2**53 - 1)),
        (float(2**53), None),
        (f"{2**53}.0", None),
        (1e400, None),
        (float("nan"), None),
        (unicodedata.normalize("NFD", "café"), unicodedata.normalize("NFC", "café")),
        ("Anna", "Anna"),
        ("", None),
        (None, None),
        (True, None),
        ([14], None),
        ({"id": 14}, None),
    ],
)
def test_values_compare_by_value_and_names_by_their_letters(value: Any, key: str | None) -> None:
    assert key_of(value) == key


@pytest.mark.parametrize("value", [None, float("nan"), "", "  ", -1, -1.0, "-1", "nan", "None", "<NA>"])
def test_what_stands_for_a_missing_value_is_no_identity(value: Any) -> None:
    assert Identities("subject").read(value, "annotation 3") is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (True, "subject is True, which names no particular thing"),
        ([14], r"subject is \[14\], which is no single number or text"),
        ({"id": 14}, "subject is {'id': 14}, which is no single number or text"),
        (1e400, "subject is inf, which is no finite number"),
        (float(2**53), "subject is 9007199254740992.0, a number so large that a float holds several as one"),
        ("9007199254740993.0", "subject is '9007199254740993.0', a number so large"),
    ],
)
def test_what_cannot_be_an_identity_is_refused_and_the_annotation_named(tmp_path: Path, value: Any, why: str) -> None:
    with pytest.raises(DataError, match=f"set.json: annotation 31: {why}"):
        read(tmp_path, two_things(value, image=3))


# --- COCO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [14.0, "14", "14.0", " 14"])
@pytest.mark.parametrize("image", [1, 3])
@pytest.mark.parametrize("absent", ["0", "1"])
def test_an_identity_that_is_a_number_of_another_kind_changes_no_query(
    tmp_path: Path, value: Any, image: int, absent: str
) -> None:
    plain = read(tmp_path, two_things(), absent=absent)
    wanted = [query.digest for query in rows(plain)]
    assert len(wanted) == 6 and plain.warnings == ()
    source = read(tmp_path, two_things(value, image), absent=absent)
    queries = rows(source)
    assert [query.digest for query in queries] == wanted
    assert {query.query_type for query in queries} == {"other-category"}
    assert source.left_out == plain.left_out
    first, here = (14, value) if image == 3 else (value, 14)
    said = f"{1 if image == 3 else 3} values are written in another way than the same value before"
    assert source.warnings == (
        f"set.json: subject: {said} (set.json: annotation {31 if image == 3 else 21}: {here!r} after {first!r}); they "
        "compare by value, so each pair is one identity",
    )


def test_a_column_that_is_floats_throughout_needs_no_word(tmp_path: Path) -> None:
    value = two_things()
    for record in value["annotations"]:
        record["subject"] = float(record["subject"])
    source = read(tmp_path, value)
    assert len(rows(source)) == 6 and source.warnings == ()


def test_ids_of_images_classes_and_licences_compare_by_value_too(tmp_path: Path) -> None:
    value = two_things() | {"licenses": [{"id": 4, "name": "CC0-1.0"}]}
    for n, image in enumerate(value["images"]):
        image |= {"id": [1, 2.0, "3", 4][n], "license": [4, 4.0, "4", 9][n], "height": 24.0}
    for record in value["annotations"]:
        record |= {"image_id": float(record["image_id"]), "category_id": str(record["category_id"])}
    source = read(tmp_path, value)
    assert [query.licence for query in rows(source)] == ["CC0-1.0"] * 4 + ["unknown"] * 2
    assert source.warnings == (
        "set.json: 1 images have a license that 'licenses' does not list; their rows say 'unknown'",
    )
    value["images"][1]["id"] = 1.0
    with pytest.raises(DataError, match=r"the id 1.0 is in images twice"):
        read(tmp_path, value)
    value["images"][1]["id"] = True
    with pytest.raises(DataError, match="number 2 of images has no id that is a number or a text"):
        read(tmp_path, value)


@pytest.mark.parametrize("value", [1, 1.0, True, "1"])
def test_a_crowd_is_one_however_it_is_written(tmp_path: Path, value: Any) -> None:
    given = two_things()
    given["annotations"][4]["iscrowd"] = value  # the mug of image 3
    source = read(tmp_path, given)
    assert ("mug", "3.png") not in {found[:2] for found in asked(rows(source))}
    assert source.left_out == {"crowd regions as subjects (they count as other things)": 1}
    for nothing in (0, 0.0, False, None, "0", float("nan")):
        given["annotations"][4]["iscrowd"] = nothing
        assert read(tmp_path, given).n_queries == 6
    given["annotations"][4]["iscrowd"] = 2
    with pytest.raises(DataError, match="annotation 31: iscrowd is 2; 0 or 1 is wanted"):
        read(tmp_path, given)


def test_a_thing_without_an_identity_may_be_the_subject_so_absence_is_not_asked(tmp_path: Path) -> None:
    value = two_things()
    for number in (2, 4, 6):  # the mugs of images 2, 3 and 4 are nobody's, other mugs keep their names
        value["annotations"][number]["subject"] = 16
    value["annotations"][4]["subject"] = None
    value["annotations"][0]["image_id"] = 2
    value["annotations"].append(value["annotations"][0] | {"id": 99, "image_id": 4})
    source = read(tmp_path, value, absent="4", identity="subject")
    queries = rows(source)
    # Mug 14 is in images 2 and 4, mug 16 too; image 3 has some mug: of neither it can be said that it is not there.
    assert [found for found in asked(queries) if found[0] == "mug"] == [("mug", "4.png", "look-alike", 1)] * 2
    reason = "scenes for absent queries that have a thing of the subject's noun without an identity"
    assert source.left_out[reason] == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"segmentation": []}, "annotations without a mask"),
        ({"segmentation": None}, "annotations without a mask"),
        ({"iscrowd": 1}, "crowd regions as subjects (they count as other things)"),
    ],
)
def test_a_subject_with_a_part_that_has_no_mask_is_not_asked_about(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    value = two_things()
    value["annotations"].append(value["annotations"][4] | {"id": 99, "segmentation": outline(12, 3)} | change)
    source = read(tmp_path, value, absent="2")
    assert ("mug", "3.png") not in {found[:2] for found in asked(rows(source))}
    assert (
        source.left_out[reason] == source.left_out["pictures where a part of the subject has no mask of its own"] == 1
    )
    # A part too small for a pixel changes no mask, so it costs no query.
    value["annotations"][-1] |= {"segmentation": [[5, 5, 5.1, 5, 5.1, 5.1]], "iscrowd": 0}
    source = read(tmp_path, value)
    assert len(rows(source)) == 6 and source.left_out == {"annotations too small for a pixel": 1}


def test_a_nameless_thing_without_a_mask_may_be_the_subject_too(tmp_path: Path) -> None:
    value = two_things(16, 4)
    value["annotations"][2] |= {"subject": None, "segmentation": []}
    source = read(tmp_path, value, absent="2")
    # The mug 14 is in images 1 and 3; image 2 has a mug that nobody outlined, image 4 the mug 16.
    assert [found for found in asked(rows(source)) if found[2] == "absent"] == [("mug", "4.png", "absent", 1)]


def test_look_alikes_without_an_identity_are_told_of(tmp_path: Path) -> None:
    value = two_things()
    value["annotations"].append(value["annotations"][4] | {"id": 99, "subject": None, "segmentation": outline(12, 3)})
    source = read(tmp_path, value)
    assert ("mug", "3.png", "look-alike", 1) in asked(rows(source))
    assert source.warnings == (
        "set.json: 1 queries count annotations without an identity as look-alikes (first: mug '14' in 3.png); a part "
        "of the subject needs the subject's identity",
    )


def test_every_picture_of_a_subject_is_a_photo_a_scene_or_counted(tmp_path: Path) -> None:
    value = two_things()
    for number, identity in ((1, 21), (3, 21), (5, 22), (7, 23)):  # spoons: 21 twice, 22 and 23 once each
        value["annotations"][number]["subject"] = identity
    value["annotations"].append(value["annotations"][0] | {"id": 99, "segmentation": [], "image_id": 4})
    for options in ({}, {"absent": "3"}, {"validation_share": "0.5"}, {"references": "2"}):
        source = read(tmp_path, value, **options)
        queries = rows(source)
        photos = sum(len(subject.photos) for subject in source.subjects())
        there = sum(query.query_type != "absent" for query in queries)
        lost = sum(n for reason, n in source.left_out.items() if reason in LOST)
        assert photos + there + lost == 8, (options, source.left_out)


def test_images_and_annotations_that_are_not_read_are_counted(tmp_path: Path) -> None:
    value = two_things(None)
    value["annotations"][1]["subject"] = float("nan")
    value["annotations"] = value["annotations"][:6]
    source = read(tmp_path, value)
    assert len(rows(source)) == 2 - 0 and source.left_out == {
        "images where no annotation has an identity": 1,
        "annotations of images where none has an identity": 2,
        "images without annotations": 1,
    }


def test_two_images_cannot_be_one_file(tmp_path: Path) -> None:
    value = two_things()
    value["images"][1]["file_name"] = "./1.png"
    with pytest.raises(DataError, match=r"image 2 has the file_name './1.png', and so has another image"):
        read(tmp_path, value)


@pytest.mark.parametrize("identity", ["image_id", "id"])
def test_an_identity_that_is_another_in_every_image_is_named_in_the_error(tmp_path: Path, identity: str) -> None:
    value = two_things()
    value["annotations"] = value["annotations"][::2]
    with pytest.raises(DataError, match=rf"\(identity={identity}\): none of 4 subjects in 4 pictures is seen in two"):
        read(tmp_path, value, identity=identity)


def test_names_that_are_nearly_one_are_two_and_told_of(tmp_path: Path) -> None:
    value = two_things()
    for number, name in enumerate(["Anna's", "s", "anna's", "s", "Anna's", "s", "anna's", "s"]):
        value["annotations"][number]["subject"] = name
    source = read(tmp_path, value)
    assert source.n_subjects == 3
    assert source.warnings == (
        'set.json: subject: "Anna\'s" and "anna\'s" differ only in case, spaces, underscores or leading zeros and are '
        "taken as two things; write them alike if they are one",
    )
    seen = Identities("subject")
    assert [seen.read(name, "a") for name in ("007", 7, "7")] == ["007", "7", "7"]
    assert len(seen.warnings()) == 2 and "'007' and '7' differ only" in seen.warnings()[1]


def test_texts_for_a_missing_value_are_counted(tmp_path: Path) -> None:
    source = read(tmp_path, two_things("nan", 3))
    assert source.n_queries == 5
    assert source.left_out == {
        "things without an identity, of a noun that subjects have (they count as other things)": 1
    }
    assert source.warnings == (
        "set.json: subject: 1 texts are what tools write for a missing value (set.json: annotation 31: 'nan'); they "
        "are read as no identity",
    )


# --- classes --------------------------------------------------------------------------------------------------------


def test_a_class_is_no_particular_thing(tmp_path: Path) -> None:
    value = two_things()
    for number, (name, spoon) in enumerate([("mug", False), ("Spoon ", True)] * 4):
        value["annotations"][number] |= {"kind": name, "number": 2 if spoon else 1}
    for identity, shown in (("category_id", "1"), ("kind", "mug"), ("number", "1")):
        source = read(tmp_path, value, identity=identity)
        assert source.warnings == (
            f"set.json: identity={identity} names a class, not a particular thing (every 'mug' is {shown!r}); a "
            "subject is a particular thing: say with identity=FIELD which field tells one from another",
        )


def test_one_identity_twice_in_an_image_is_told_of(tmp_path: Path) -> None:
    value = two_things()
    value["annotations"].append(value["annotations"][4] | {"id": 99, "segmentation": outline(12, 3)})
    source = read(tmp_path, value)
    assert len(source.warnings) == 1
    assert source.warnings[0].startswith(
        "set.json: identity=subject: 2 annotations of image 3 share the identity '14' (so in 1 of 4 images); they are "
        "read as parts of one thing; if they are several things, subject names a class, and a subject is a particular"
    )


def test_one_value_for_each_class_in_many_images_is_told_of_and_a_few_are_not() -> None:
    titles = {"1": "sky", "2": "grass"}
    uses = [Use(f"g{kind}", "a", str(n), kind, False) for n in range(MANY_PICTURES) for kind in titles]
    assert class_warnings("attributes.g", uses, titles) == [
        f"identity=attributes.g has one value for each of the 2 categories in all {MANY_PICTURES} images (every 'sky' "
        "is 'g1'); if it names a class, a subject is a particular thing: say with identity=FIELD which field tells one "
        "from another"
    ]
    assert class_warnings("attributes.g", uses[:-2], titles) == []
    assert class_warnings("attributes.g", [*uses, uses[0]._replace(picture="x", identity="other")], titles) == []
    assert class_warnings("attributes.g", [*uses[:4], uses[0]._replace(group=True)], titles) == []


def test_frames_of_a_video_are_told_of_unless_they_are_kept_together(tmp_path: Path) -> None:
    value = two_things()
    for n, image in enumerate(value["images"]):
        image["video_id"] = [5, 5.0, 6, 7][n]
    source = read(tmp_path, value)
    assert source.warnings == (
        "set.json: 2 images share a video_id with another; say scene=video_id, or photos and scenes are its neighbours",
    )
    source = read(tmp_path, value, scene="video_id")
    assert source.warnings == () and len(rows(source)) == 4
    assert source.left_out == {"scenes from the place of the subject's reference photos": 2}


# --- other formats --------------------------------------------------------------------------------------------------


def drawn(root: Path, name: str, seed: int, *shapes: dict[str, Any]) -> None:
    """A photo and labelme's JSON beside it."""
    Image.fromarray(draw_scene(seed, SIZE)).save(root / f"{name}.png")
    value = {"shapes": list(shapes), "imagePath": f"{name}.png", "imageData": None}
    (root / f"{name}.json").write_text(json.dumps(value))


def shape(label: str, left: int, **more: Any) -> dict[str, Any]:
    points = [[left, 3], [left + 6, 3], [left + 6, 9], [left, 9]]
    return {"label": label, "points": points, "shape_type": "polygon", "group_id": None, **more}


@pytest.mark.parametrize("group", [3, 3.0, "3", "3.0"])
def test_groups_of_labelme_compare_by_value(tmp_path: Path, group: Any) -> None:
    drawn(tmp_path, "1", 1, shape("mug", 3, group_id=3))
    drawn(tmp_path, "2", 2, shape("mug", 3, group_id=group), shape("mug", 20, group_id=3))
    for identity in ("group_id", "label"):
        if identity == "label":
            drawn(tmp_path, "3", 3, shape("mug:a", 3))
            drawn(tmp_path, "4", 4, shape("mug:a", 3), shape("mug", 15, group_id=group), shape("mug", 28, group_id=3))
        source = labelme.read(tmp_path, {"identity": identity, "references": "1"})
        queries = rows(source)
        assert len(queries) == 1
        parts = queries[0].mask if identity == "group_id" else queries[0].look_alikes[0]
        assert len(queries[0].look_alikes) == (identity == "label")
        assert np.flatnonzero(parts.any(axis=0))[-1] > 20, "two shapes of one group are one thing"
    reasons = {"pictures without a subject": 2}
    reasons |= {"things without an identity, of a noun that subjects have (they count as other things)": 3}
    assert source.left_out == reasons


def test_labelme_refuses_what_cannot_be_a_name(tmp_path: Path) -> None:
    drawn(tmp_path, "1", 1, shape("mug", 3, group_id=[3]))
    with pytest.raises(DataError, match=r"1.json: shape 1: identity=group_id is \[3\], which is no single number"):
        labelme.read(tmp_path, {"identity": "group_id"})


def test_a_subject_that_only_a_point_marks_is_not_absent(tmp_path: Path) -> None:
    point = {"shape_type": "point", "points": [[5, 5]]}
    for n in (1, 2):
        drawn(tmp_path, str(n), n, shape("mug:a", 3))
    drawn(tmp_path, "3", 3, shape("mug:a", 3) | point, shape("cup", 20))
    drawn(tmp_path, "4", 4, shape("mug", 3) | point, shape("cup", 20))
    drawn(tmp_path, "5", 5, shape("mug", 3), shape("cup", 20))
    drawn(tmp_path, "6", 6, shape("cup", 20))
    source = labelme.read(tmp_path, {"references": "1", "absent": "9"})
    assert [(query.source[-6:], query.query_type) for query in rows(source)] == [
        ("2.json", "plain"),
        ("6.json", "absent"),
    ]
    assert source.left_out == {
        "shapes without an inside (point)": 2,
        "scenes for absent queries that have a thing of the subject's noun without an identity": 2,
        "absent queries for which there is no scene": 8,
        "things without an identity, of a noun that subjects have (they count as other things)": 1,
        "pictures without a subject": 2,
    }


def test_names_that_are_classes_are_told_of_in_labelme_too(tmp_path: Path) -> None:
    for n in range(3):
        drawn(tmp_path, str(n), n, shape("coffee mug:Coffee_mug", 3), shape("cup:cup", 20))
    source = labelme.read(tmp_path, {})
    assert source.warnings == (
        "every subject is called as its class ('Coffee_mug' is a 'coffee mug'); a subject is a particular thing, so "
        "give things of one class that are not the same one names of their own",
    )
    drawn(tmp_path, "0", 0, shape("coffee mug:anna's", 3), shape("cup:cup", 20))
    assert labelme.read(tmp_path, {}).warnings == ()
    assert class_names_warning({"dog": "dog"}, MANY_PICTURES - 1) == []
    assert len(class_names_warning({"dog": "dog"}, MANY_PICTURES)) == 1


def test_the_table_of_voc_compares_by_value(tmp_path: Path) -> None:
    top = tmp_path / "VOC2012"
    for part in ("JPEGImages", "SegmentationObject", "SegmentationClass"):
        (top / part).mkdir(parents=True)
    for n in range(1, 5):
        Image.fromarray(draw_scene(n, SIZE)).save(top / f"JPEGImages/{n}.jpg")
        for part, value in (("SegmentationObject", 1), ("SegmentationClass", 12)):
            labels = draw_box(SIZE, 2, 3, 12, 15).astype(np.uint8) * value
            Image.fromarray(labels).save(top / part / f"{n}.png")
    (tmp_path / "subjects.csv").write_text("image,object,subject\n1,1,14\n2,1.0,14.0\n3,1, 14 \n")
    source = voc_instances.read(tmp_path, {"references": "1"})
    assert len(rows(source)) == 2 and source.left_out == {"images that subjects.csv does not name": 1}
    assert len(source.warnings) == 1 and "subject: 1 values are written in another way" in source.warnings[0]
    (tmp_path / "subjects.csv").write_text("image,object,subject\n1,1,007\n2,1,7\n3,1,007\n4,1,7\n")
    source = voc_instances.read(tmp_path, {"references": "1"})
    assert source.n_subjects == 2 and "'007' and '7' differ only" in source.warnings[0]


def test_names_of_folders_are_texts_also_where_yaml_sees_numbers(tmp_path: Path) -> None:
    (tmp_path / "layout.yaml").write_text(
        "noun: mug\nsubjects: [010]\nphotos: p/{name}\nscenes: s/{name}\nmasks: m/{name}\n"
    )
    with pytest.raises(DataError, match=r"layout.yaml: subjects has 8, which YAML takes for no text; put names in"):
        mug19.read(tmp_path, {})


# --- spreading ------------------------------------------------------------------------------------------------------


def test_photos_are_spread_over_groups_and_evenly_within_them() -> None:
    assert spread(["abcdefg"], 3) == ["a", "d", "g"]
    assert spread(["abcdefg", "hij"], 4) == ["a", "g", "h", "j"]
    assert spread(["a", "hijk", "x"], 5) == ["a", "h", "i", "k", "x"]
    assert spread(["ab"], 5) == ["a", "b"] and spread([], 2) == [] and spread(["ab", "cd", "ef"], 2) == ["a", "c"]


def test_frames_are_taken_so_far_apart() -> None:
    assert apart([1, 7, 13, 20, 31, 40, 61], int, 30) == [1, 31, 61]
    assert apart([], int, 30) == [] and apart([1, 2], int, 1) == [1, 2]


def test_reference_photos_are_spread_over_videos_and_their_frames(tmp_path: Path) -> None:
    value: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "mug"}]}
    root = tmp_path / "set"
    root.mkdir()
    for video, frames in ((1, 9), (2, 2)):
        for n in range(frames):
            number = 100 * video + n
            Image.fromarray(draw_scene(number, SIZE)).save(root / f"{number}.png")
            value["images"].append(
                {"id": number, "file_name": f"{number}.png", "height": 24, "width": 40, "video_id": video}
            )
            value["annotations"].append(
                {"id": number, "image_id": number, "category_id": 1, "track_id": 3, "segmentation": outline(3, 4)}
            )
    source = read(root, value, scene="video_id", references="3")
    assert next(source.subjects()).source == "coco 100.png; coco 104.png; coco 108.png"
    for image in value["images"]:
        image["video_id"] = image["id"] // 3
    source = read(root, value, scene="video_id", references="3")
    assert next(source.subjects()).source == "coco 100.png; coco 102.png; coco 105.png", "three of six places"


# --- what is told ---------------------------------------------------------------------------------------------------


def test_warnings_and_what_was_left_out_are_said_and_stay_in_the_card(tmp_path: Path) -> None:
    value = two_things(14.0, 3)
    value["annotations"][0]["segmentation"] = []
    source = read(tmp_path / "set", value)
    told: list[str] = []
    build(tmp_path / "out", source, say=told.append)
    assert told == [f"warning: {source.warnings[0]}"]
    expected = (
        f"\n- Warning: {source.warnings[0]}\n- Left out: 1 (annotations without a mask)\n"
        "- Left out: 1 (scenes that are another subject's reference photo)\n"
    )
    assert block((tmp_path / "out/README.md").read_text(), "build") == expected
    for _ in range(2):
        card = write_readme(tmp_path / "out").read_text()
        assert block(card, "build") == expected and card.count("## Build") == 1
    assert block(card, "facts"), "the facts are there too"
    build(tmp_path / "plain", read(tmp_path / "set", two_things()))
    assert "## Build" not in (tmp_path / "plain/README.md").read_text()
