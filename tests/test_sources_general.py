"""The readers of general layouts, each on small trees drawn here in the layout as it is published."""

from __future__ import annotations

import base64
import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from prisbench.datasets.build import build
from prisbench.datasets.schema import QueryRow, SubjectRow, check_query, check_subject
from prisbench.datasets.seen_rows import SeenRows
from prisbench.datasets.source import Source
from prisbench.datasets.sources import coco, folder, labelme
from prisbench.datasets.sources.public import mug19, voc_instances
from prisbench.errors import DataError, UnknownNameError, UsageError
from tests.drawing import draw_box, draw_scene

SIZE = (24, 40)
READERS = (folder, coco, labelme, voc_instances, mug19)


def save(path: Path, seed: int, size_hw: tuple[int, int] = SIZE) -> Path:
    """A picture, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_scene(seed, size_hw)).save(path)
    return path


def save_mask(path: Path, *box: int, size_hw: tuple[int, int] = SIZE) -> Path:
    """White where the box is (top, left, bottom, right), all black without one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = draw_box(size_hw, *box) if box else np.zeros(size_hw, dtype=bool)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


def rows(source: Source) -> tuple[list[SubjectRow], list[QueryRow]]:
    """All rows, which keep all rules, are as many as was said, and go on from anywhere with the same rows."""
    seen = SeenRows()
    subjects = list(source.subjects())
    for subject in subjects:
        check_subject(subject)
        seen.add_subject(subject)
    queries = list(source.queries(0))
    for query in queries:
        check_query(query)
        seen.add_query(query)
    assert (len(subjects), len(queries)) == (source.n_subjects, source.n_queries)
    assert [query.id for query in source.queries(1)] == [query.id for query in queries[1:]]
    assert list(source.queries(len(queries))) == []
    return subjects, queries


def fails(reader: Any, root: Path, message: str, options: Mapping[str, str] | None = None) -> None:
    """Reading, or giving the rows, raises one line that matches."""
    with pytest.raises((DataError, UsageError), match=message) as caught:
        rows(reader.read(root, options or {}))
    assert "\n" not in str(caught.value)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, bottom, right; the latter two outside."""
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(y[0]), int(x[0]), int(y[-1]) + 1, int(x[-1]) + 1


def test_every_reader_says_what_it_reads() -> None:
    for reader in READERS:
        assert reader.TITLE and reader.LICENCE and reader.HOMEPAGE and reader.LAYOUT.strip() and reader.LIMITS
        assert {"validation_share", "text", "licence", "references"} <= set(reader.OPTIONS)
        assert all(line and "\n" not in line for line in reader.OPTIONS.values())


# --- folder ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """Two mugs: Anna's in two scenes, one of them with Ben's; Ben's in one, and not in another."""
    root = tmp_path / "my-things"
    for n in range(2):
        save(root / f"mug-anna/photos/0{n}.png", n)
        save(root / f"mug-ben/photos/0{n}.jpg", 10 + n)
    save_mask(root / "mug-anna/photos_masks/01.png", 3, 5, 9, 12)
    save(root / "mug-anna/scenes/desk.png", 20, (30, 20))
    save_mask(root / "mug-anna/masks/desk.png", 2, 3, 8, 9, size_hw=(30, 20))
    save(root / "mug-anna/scenes/kitchen.png", 21)
    save_mask(root / "mug-anna/masks/kitchen.png", 4, 6, 10, 11)
    save_mask(root / "mug-anna/masks/kitchen.lookalike-1.png", 4, 26, 10, 31)
    save(root / "mug-ben/scenes/sofa.png", 22)
    save_mask(root / "mug-ben/masks/sofa.png", 1, 1, 6, 6)
    save(root / "mug-ben/scenes/hall.png", 23)
    save_mask(root / "mug-ben/masks/hall.png")
    return root


def test_a_folder_of_photos_and_masks_needs_nothing_else(things: Path) -> None:
    source = folder.read(things, {})
    subjects, queries = rows(source)
    assert [subject.noun for subject in subjects] == ["mug", "mug"]
    assert subjects[0].masks[0] is None and box_of(subjects[0].masks[1]) == (3, 5, 9, 12)
    assert [query.query_type for query in queries] == ["plain", "look-alike", "absent", "plain"]
    assert queries[0].image.shape == (30, 20, 3) and box_of(queries[0].mask) == (2, 3, 8, 9)
    assert box_of(queries[1].look_alikes[0]) == (4, 26, 10, 31)
    assert {query.subject_id for query in queries[:2]} == {subjects[0].id}
    assert queries[0].source == "own photos: mug-anna/scenes/desk.png"
    assert {row.licence for row in (*subjects, *queries)} == {"unknown"}
    assert {query.text for query in queries} == {"a photo of the {subject}"}
    assert queries[0].file == (things / "mug-anna/scenes/desk.png").read_bytes()
    assert not source.left_out and source.name == "folder"


def test_a_folder_takes_facts_from_yaml_and_csv(things: Path) -> None:
    (things / "mug-anna/subject.yaml").write_text("noun: cup\nlicence: CC-BY-4.0\nsource: https://example.org/a\n")
    (things / "subjects.csv").write_text("subject,noun,licence,split\nmug-anna,vase,,\nmug-ben,,CC0-1.0,validation\n")
    subjects, queries = rows(folder.read(things, {"licence": "MIT", "references": "1", "text": "my {subject}"}))
    assert [(row.noun, row.licence, row.split) for row in subjects] == [
        ("cup", "CC-BY-4.0", "test"),
        ("mug", "CC0-1.0", "validation"),
    ]
    assert [len(row.photos) for row in subjects] == [1, 1]
    assert queries[0].source == "https://example.org/a: mug-anna/scenes/desk.png"
    assert {query.text for query in queries} == {"my {subject}"}


def test_a_table_names_folders_by_their_letters_however_these_are_encoded(things: Path) -> None:
    (things / "mug-anna").rename(things / "mug-ann\u0065\u0301")
    (things / "mug-ben").rename(things / "mug-007")
    (things / "subjects.csv").write_text("subject,noun\nmug-ann\u00e9,cup\nmug-007,vase\n")
    assert [subject.noun for subject in folder.read(things, {}).subjects()] == ["vase", "cup"]
    (things / "subjects.csv").write_text("subject,noun\nmug-7,vase\n")
    fails(folder, things, "subjects.csv: unknown subject 'mug-7': did you mean 'mug-007'")


def test_a_mask_belongs_to_its_scene_however_accents_are_stored(things: Path) -> None:
    scene = things / "mug-anna/scenes/kitchen.png"
    before = rows(folder.read(things, {}))[1]
    scene.rename(scene.with_name("Ku\u0308che.png"))
    for mask in (things / "mug-anna/masks").glob("kitchen*"):
        mask.rename(mask.with_name(mask.name.replace("kitchen", "K\u00fcche")))
    after = rows(folder.read(things, {}))[1]
    assert sorted(row.mask.sum() for row in after) == sorted(row.mask.sum() for row in before)


def test_masks_under_another_name_and_things_further_down_are_told(things: Path) -> None:
    mask = things / "mug-anna/masks/kitchen.png"
    for name, why in (("kitchen_mask.png", "a mask has its scene's name"), ("kitchen.jpg", "masks are PNG files")):
        mask = mask.rename(mask.with_name(name))
        fails(folder, things, rf"kitchen\.png has no mask.*; {name} lies there, but {why}$")
    fails(folder, things.parent, rf"has no folder with photos; .*; {things} has such folders: give that one")


def test_a_table_of_queries_asks_otherwise(things: Path) -> None:
    (things / "mug-anna/queries.csv").write_text(
        "scene,text,mask,look_alikes,query_type\n"
        'kitchen.png,"the {subject}, left of the other",,,relation\n'
        "kitchen.png,the {subject},,,\n"
        "mug-ben/scenes/sofa.png,,,mug-ben/masks/sofa.png,absent\n"
    )
    source = folder.read(things, {})
    subjects, queries = rows(source)
    anna = [query for query in queries if query.subject_id == subjects[0].id]
    assert [(query.text, query.query_type) for query in anna] == [
        ("a photo of the {subject}", "plain"),
        ("the {subject}, left of the other", "relation"),
        ("the {subject}", "look-alike"),
        ("a photo of the {subject}", "absent"),
    ]
    assert box_of(anna[-1].look_alikes[0]) == (1, 1, 6, 6)
    assert queries[4].image_id == anna[-1].image_id, "queries about one scene stand together"


PAIR = (
    "scene,text,mask,look_alikes,query_type,landmarks,others,pair\n"
    "desk.png,the {subject} left of the box,desk.png,copy=desk.b.png,referred,box=desk.box.png,desk.lamp.png,1\n"
    "desk.png,the {subject} right of the box,desk.b.png,copy=desk.png,referred,box=desk.box.png,,1\n"
    "kitchen.png,the {subject} on the left,,,referred,,,2\n"
    "kitchen.png,the {subject} far away,,,contradicted,,,2\n"
)


def pairs(things: Path) -> Path:
    for n, name in enumerate(("desk.box.png", "desk.lamp.png", "desk.b.png")):
        save_mask(things / "mug-anna/masks" / name, 12, 1 + 6 * n, 18, 5 + 6 * n, size_hw=(30, 20))
    (things / "mug-anna/queries.csv").write_text(PAIR)
    return things


def test_a_table_of_queries_names_things_grades_and_pairs(things: Path) -> None:
    _, queries = rows(folder.read(pairs(things), {}))
    paired = {query.text: query for query in queries if query.pair_id is not None}
    left, right = paired["the {subject} left of the box"], paired["the {subject} right of the box"]
    assert [(thing.role, thing.noun, thing.grade) for thing in left.all_things] == [
        ("subject", "mug", None),
        ("look-alike", "mug", "copy"),
        ("landmark", "box", None),
        ("other", None, None),
    ]
    assert left.pair_id == right.pair_id and np.array_equal(left.mask, right.look_alikes[0])
    away = paired["the {subject} far away"]
    assert (away.query_type, away.mask.any(), away.meant_thing) == ("contradicted", False, None)
    assert away.all_things[0].role == "subject" and away.all_things[0].mask.any()
    for query in paired.values():
        check_query(query)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("copy=desk.b.png", "twin=desk.b.png", r"line 2: desk\.b\.png: unknown grade 'twin'"),
        ("box=desk.box.png,desk", "box=no.png,desk", r"line 2: .*masks/no\.png does not exist"),
        ("contradicted,,,2", "contradicted,,,", "needs the 'pair_id' it shares with its partner"),
        ("referred,,,2", "referred,,,3", "has no partner: no other has the pair_id"),
        ("kitchen.png,the {subject} far", "mug-ben/scenes/sofa.png,the {subject} far", "sofa.png has no mask; draw"),
    ],
)
def test_a_mistake_in_things_or_pairs_is_one_line(
    old: str, new: str, message: str, things: Path, tmp_path: Path
) -> None:
    table = pairs(things) / "mug-anna/queries.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        build(tmp_path / "built", folder.read(things, {}))


def test_pairs_of_two_subjects_may_have_the_same_number(things: Path) -> None:
    pairs(things)
    (things / "mug-ben/queries.csv").write_text(
        "scene,text,query_type,pair\n"
        "sofa.png,the {subject} here,referred,2\n"
        "sofa.png,the {subject} there,contradicted,2\n"
    )
    _, queries = rows(folder.read(things, {}))
    paired = Counter(query.pair_id for query in queries if query.pair_id is not None)
    assert sorted(paired.values()) == [2, 2, 2]
    assert {pair: len({q.subject_id for q in queries if q.pair_id == pair}) for pair in paired} == dict.fromkeys(
        paired, 1
    )


def test_a_scene_is_in_one_split_whoever_is_asked_about(things: Path) -> None:
    (things / "subjects.csv").write_text("subject,split\nmug-anna,validation\nmug-ben,test\n")
    (things / "mug-anna/queries.csv").write_text("scene,query_type\nmug-ben/scenes/sofa.png,absent\n")
    source = folder.read(things, {})
    _, queries = rows(source)
    assert [query.split for query in queries] == ["validation", "validation", "test", "test"]
    assert source.left_out == Counter({"validation queries about scenes of test queries": 1})


def test_photos_without_scenes_are_read_but_are_no_benchmark(tmp_path: Path) -> None:
    for n, name in enumerate(("dog", "dog2", "red_cartoon")):
        save(tmp_path / name / "00.jpg", n)
    (tmp_path / "papers").mkdir()
    source = folder.read(tmp_path, {})
    assert [row.noun for row in source.subjects()] == ["dog", "dog", "red cartoon"]
    assert source.left_out == Counter({"folders without photos": 1})
    fails(folder, tmp_path, r"photos of 3 subjects but no scenes to look for them in: put other photos into dog/scenes")


def test_what_has_no_role_in_a_folder_is_counted(things: Path) -> None:
    save_mask(things / "mug-anna/masks/desk.png", 2, 3, 8, 9, size_hw=(30, 20))
    (things / "mug-anna/masks/kitchen.lookalike-2.jpg").write_bytes(b"no PNG")
    (things / "mug-anna/photos/notes.txt").write_text("a mug")
    save(things / "mug-anna/03.png", 5)
    (things / "mug-ben/scene").mkdir()
    assert folder.read(things, {}).left_out == {
        "files in masks that are no PNG": 1,
        "files in photos that are no photo": 1,
        "photos that lie beside the folder photos": 1,
        "folders of a subject with a name that has no role": 1,
    }


@pytest.mark.data
def test_the_photos_of_dreambooth_are_read_as_they_are() -> None:
    root = Path(os.environ.get("PRISBENCH_DATA", "unset")) / "dreambooth512"
    if not root.is_dir():
        pytest.skip("PRISBENCH_DATA names no folder with dreambooth512")
    source = folder.read(root, {"references": "1"})
    assert source.n_subjects == 30 and source.n_queries == 0
    assert next(source.subjects()).noun == "backpack"


def test_another_file_or_option_gives_another_key(things: Path) -> None:
    key = folder.read(things, {}).key
    assert folder.read(things, {}).key == key
    assert folder.read(things, {"text": "{subject}"}).key != key
    save_mask(things / "mug-ben/masks/sofa.png", 1, 1, 20, 6)
    assert folder.read(things, {}).key != key


def test_what_is_wrong_in_a_folder_is_named(things: Path) -> None:
    anna = things / "mug-anna"
    save(anna / "scenes/garden.png", 30)
    save(anna / "scenes/hut.png", 31)
    fails(folder, things, r"scenes/garden.png has no mask \(nor have 1 more scenes\): draw .*masks/garden.png, white")
    save_mask(anna / "masks/gardn.png", 1, 1, 5, 5)
    (anna / "queries.csv").write_text("scene,query_type\ngarden.png,absent\nhut.png,absent\n")
    fails(folder, things, r"masks/gardn.png belongs to no scene: unknown scene 'gardn': did you mean 'garden'")
    (anna / "masks/gardn.png").rename(anna / "masks/garden.png")
    fails(folder, things, r"masks/garden.png shows the subject, but the query about .*garden.png is 'absent'")
    save_mask(anna / "masks/garden.png")
    (anna / "queries.csv").write_text("scene,query_type\ngarden.png,plain\nhut.png,absent\n")
    fails(folder, things, r"masks/garden.png is all black, but the query about .*garden.png is 'plain'")
    (anna / "queries.csv").write_text("scene,query_type\nhut.png,plain\n")
    fails(
        folder, things, r"queries.csv, line 2: .*hut.png has no mask; draw .*hut.png, or say that the query_type is abs"
    )
    (anna / "queries.csv").write_text("scene,query_type\nhut.png,absent\n")
    save_mask(anna / "masks/garden.png", 1, 1, 5, 5, size_hw=(40, 24))
    fails(folder, things, r"masks/garden.png is 40 x 24, its image 24 x 40")
    save_mask(anna / "masks/garden.png", 1, 1, 5, 5)
    save_mask(anna / "masks/garden.lookalike-1.png")
    fails(folder, things, r"garden.lookalike-1.png is all black; draw the look-alike, or remove the file")
    (anna / "masks/garden.lookalike-1.png").unlink()
    save(anna / "scenes/garden.jpg", 32)
    fails(folder, things, r"garden.jpg and garden.png have the same stem")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("queries.csv", "scene,quary_type\n", "unknown column 'quary_type': did you mean 'query_type'"),
        ("queries.csv", "text\n{subject}\n", "has no column 'scene'"),
        ("queries.csv", "scene,text,text\n", "names a column twice"),
        ("queries.csv", "scene,text\n,{subject}\n", "line 2 has no scene"),
        ("queries.csv", "scene,text\ndesk.png,the {subject}, left\n", 'line 2 has 3 cells for 2 columns; put "'),
        ("queries.csv", "scene,text\ndesk.png,a mug\n", r"line 2: text='a mug': it must have \{subject\} once"),
        ("queries.csv", 'scene,text\ndesk.png,"a" mug\n', "line 2 is not CSV"),
        ("queries.csv", "scene\ndeks.png\n", "line 2: unknown scene 'deks.png': did you mean 'desk.png'"),
        ("queries.csv", "scene\n../../x.png\n", r"line 2: the path '../../x.png' leaves its folder"),
        ("queries.csv", "scene,mask\ndesk.png,no.png\n", "line 2: .*masks/no.png does not exist"),
        ("queries.csv", "scene,query_type\ndesk.png,missing\n", "line 2: unknown query type 'missing'"),
        ("queries.csv", "scene,query_type\ndesk.png,look-alike\n", "but there is no mask of a look-alike"),
        (
            "queries.csv",
            "scene,query_type\nmug-ben/photos/00.jpg,absent\n",
            "a reference photo of mug-ben, so it is no",
        ),
        ("queries.csv", b"scene\n\xff\n", "queries.csv is not UTF-8"),
        ("subject.yaml", "nuon: mug\n", "subject.yaml: unknown entry 'nuon': did you mean 'noun'"),
        ("subject.yaml", "noun: [a, b]\n", r"noun is \['a', 'b'\]; one line of text is wanted"),
        ("subject.yaml", "mug\n", "must have lines like 'noun: mug'"),
        ("subject.yaml", "split: train\n", "unknown split 'train'"),
        ("photos_masks/02.png", "", "photos_masks/02.png belongs to no photo: unknown photo '02'"),
        ("../subjects.csv", "subject\nmug-ana\n", "subjects.csv: unknown subject 'mug-ana': did you mean 'mug-anna'"),
        ("../subjects.csv", "subject\nmug-anna\nmug-anna\n", "line 3: the subject mug-anna comes twice"),
        ("../2/00.jpg", "", "its name begins with no noun; write 'noun: mug' into .*2/subject.yaml"),
        ("../cup/photos/x.txt", "", "cup has no reference photos; put 3 to 6 into .*cup/photos"),
    ],
)
def test_a_wrong_table_or_name_in_a_folder_is_named(things: Path, name: str, text: str | bytes, message: str) -> None:
    path = things / "mug-anna" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    fails(folder, things, message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"references": "0"}, "references='0': give a whole number, 1 or more"),
        ({"validation_share": "2"}, "validation_share='2'"),
        ({"text": "a mug"}, r"text='a mug': it must have \{subject\} once"),
        ({"licence": ""}, "licence='': give one line"),
    ],
)
def test_a_wrong_value_of_a_common_option_is_refused(things: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        folder.read(things, options)


def test_a_folder_without_photos_says_what_to_make(tmp_path: Path) -> None:
    fails(folder, tmp_path, "has no folder with photos; make one for each thing, with mug-anna/photos/01.jpg")
    for n in range(31):
        save(tmp_path / f"mug/photos/{n}.png", n)
    fails(folder, tmp_path, "has 31 reference photos; 30 are the most that are learned from.*say references=5")


# --- coco -----------------------------------------------------------------------------------------------------------


def coco_box(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask: np.ndarray, compressed: bool) -> dict[str, Any]:
    """COCO's run lengths of a mask."""
    if compressed:
        rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(rle["size"]), "counts": rle["counts"].decode()}
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, mask.size]).tolist()}


def annotated(number: int, image: int, category: int, region: Any, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": region, "iscrowd": 0} | more


@pytest.fixture
def coco_value() -> dict[str, Any]:
    """Anna's mug in images 1 to 4, Ben's in 4 and 5; a spoon; a crowd of mugs in 5; a box without a mask in 3."""
    return {
        "licenses": [{"id": 4, "name": "Attribution", "url": "http://creativecommons.org/licenses/by/2.0/"}],
        "images": [
            {"id": n, "file_name": f"{n:012}.png", "height": 24, "width": 40, "license": 4, "video_id": n // 2}
            for n in range(1, 6)
        ],
        "categories": [{"id": 1, "name": "mug"}, {"id": 2, "name": "serving_spoon"}],
        "annotations": [
            annotated(1, 1, 1, coco_box(2, 3, 9, 11), track_id=7),
            annotated(2, 2, 1, coco_box(2, 3, 9, 11), track_id=7),
            annotated(3, 3, 1, runs(draw_box(SIZE, 5, 6, 10, 12), True), track_id=7),
            annotated(4, 3, 1, coco_box(15, 6, 20, 12), track_id=7),
            annotated(5, 3, 2, runs(draw_box(SIZE, 5, 20, 10, 30), False)),
            annotated(6, 3, 2, []),
            annotated(7, 4, 1, coco_box(1, 1, 6, 6), track_id=7),
            annotated(8, 4, 1, coco_box(1, 11, 6, 16), track_id=8),
            annotated(9, 5, 1, coco_box(1, 11, 6, 16), track_id=8),
            annotated(10, 5, 1, runs(draw_box(SIZE, 12, 0, 24, 40), False), iscrowd=1, track_id=9),
        ],
    }


def save_coco(root: Path, value: Any, images: str = "val2017") -> Path:
    """The official layout."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations/instances_val2017.json").write_text(json.dumps(value))
    for n in range(1, 6):
        save(root / images / f"{n:012}.png", n)
    return root


def test_coco_makes_subjects_of_what_has_an_identity(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    source = coco.read(save_coco(tmp_path, coco_value), {"references": "2"})
    subjects, queries = rows(source)
    assert [(row.noun, row.licence, len(row.photos)) for row in subjects] == [
        ("mug", "CC-BY-2.0", 2),
        ("mug", "CC-BY-2.0", 1),
    ]
    assert subjects[0].photos[0].shape == (9, 12, 3) and box_of(subjects[0].masks[0]) == (1, 2, 8, 10)
    assert subjects[0].source == "coco 000000000001.png; coco 000000000002.png"
    assert [query.query_type for query in queries] == ["other-category", "look-alike"]
    assert queries[0].mask.sum() == 5 * 6 + 5 * 6, "the parts of one thing are one mask"
    assert box_of(queries[1].mask) == (1, 11, 6, 16)
    assert box_of(queries[1].look_alikes[0]) == (12, 0, 24, 40), "a crowd of its noun is a look-alike"
    assert source.left_out == Counter(
        {
            "annotations without a mask": 1,
            "crowd regions as subjects (they count as other things)": 1,
            "scenes that are another subject's reference photo": 1,
        }
    )


def test_coco_reference_photos_may_stay_whole(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    subjects, _ = rows(coco.read(save_coco(tmp_path, coco_value), {"cut": "false", "references": "1"}))
    assert subjects[0].photos[0].shape == (24, 40, 3) and box_of(subjects[0].masks[0]) == (2, 3, 9, 11)
    assert subjects[0].files[0] == (tmp_path / "val2017/000000000001.png").read_bytes()


def test_coco_divides_no_place_between_photos_and_scenes(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    source = coco.read(save_coco(tmp_path, coco_value), {"scene": "video_id", "references": "2"})
    subjects, queries = rows(source)
    # Images 2 and 3 are of one video, 4 and 5 of another: Ben's mug is seen in one place only.
    assert [row.source for row in subjects] == ["coco 000000000001.png; coco 000000000002.png"]
    assert [query.source for query in queries] == ["coco 000000000004.png"]
    assert source.left_out["scenes from the place of the subject's reference photos"] == 1
    assert source.left_out["subjects without both a reference photo and a scene"] == 1


def test_coco_asks_where_a_subject_is_not(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    _, queries = rows(coco.read(save_coco(tmp_path, coco_value), {"absent": "1", "references": "2"}))
    absent = [query for query in queries if query.query_type == "absent"]
    # A crowd of mugs, as in image 5, may hold the subject.
    assert [(query.source, len(query.look_alikes)) for query in absent] == [("coco 000000000003.png", 1)]


def test_coco_keeps_a_place_in_one_split(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    for annotation in coco_value["annotations"]:
        annotation["subject"] = {7: "b", 8: "a"}.get(annotation.get("track_id"))
    source = coco.read(save_coco(tmp_path, coco_value), {"validation_share": "0.5", "absent": "1", "references": "1"})
    _, queries = rows(source)
    assert len({query.split for query in queries}) == 2, "names of both splits were chosen"
    assert source.left_out["validation queries about scenes of test queries"] == 1


@pytest.mark.parametrize(
    ("json_name", "images"),
    [
        ("annotations.json", "JPEGImages"),
        ("images/_annotations.coco.json", "images"),
        ("annotations/instances_default.json", "images"),
        ("annotations/instances_train.json", "images/train"),
    ],
)
def test_coco_finds_what_other_tools_write(
    tmp_path: Path, coco_value: dict[str, Any], json_name: str, images: str
) -> None:
    save_coco(tmp_path, coco_value, images)
    (tmp_path / json_name).parent.mkdir(exist_ok=True)
    (tmp_path / "annotations/instances_val2017.json").rename(tmp_path / json_name)
    options = {"references": "1"}
    if images == "JPEGImages":
        for image in coco_value["images"]:
            image["file_name"] = f"JPEGImages/{image['file_name']}"
        (tmp_path / json_name).write_text(json.dumps(coco_value))
    if json_name.startswith("images"):
        options["instances"] = json_name
    assert coco.read(tmp_path, options).n_subjects == 2


def change(value: dict[str, Any], path: str, new: Any) -> None:
    """Set what stands at "annotations.0.image_id"; remove it when ``new`` is ...."""
    *keys, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in keys:
        value = value[key]  # type: ignore[index]
    if new is ...:
        del value[last]  # type: ignore[arg-type]
    else:
        value[last] = new  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "new", "message"),
    [
        ("images", ..., "has no list 'images'; is it COCO's instances"),
        ("categories.1", 3, "number 2 of categories has no id"),
        ("categories.1.id", 1, "the id 1 is in categories twice"),
        ("categories.1.name", "", "category 2 has no name"),
        ("annotations.0.id", 2, "the id 2 is in annotations twice"),
        ("annotations.0.image_id", 99, "annotation 1 has the image_id 99, which is not there"),
        ("annotations.0.category_id", [], r"annotation 1 has the category_id \[\], which is not there"),
        ("annotations.0.category_id", 2, "the subject '7' is a 'mug' in .*2.png and a 'serving spoon' before"),
        (
            "annotations.2.segmentation",
            {"size": [40, 24], "counts": "a"},
            r"annotation 3: run lengths of size \[40, 24\]",
        ),
        ("images.0.height", 10**9, "image 1: height 1000000000 and width 40 are no size"),
        ("images.0.width", "40", "image 1: height 24 and width '40' are no size"),
        ("images.0.width", 41, r"000000000001.png is 24 x 40, its annotations 24 x 41 \(height x width\)"),
        ("images.1.file_name", "../secret.png", "image 2: the path '../secret.png' leaves its folder"),
        ("images.1.file_name", "000000000001.png", "image 2 has the file_name '000000000001.png', and so has another"),
        ("images.1.file_name", "000000000009.png", "image 2: .*000000000009.png does not exist"),
        ("images.1.file_name", None, "image 2 has no file_name"),
    ],
)
def test_what_is_wrong_in_coco_is_named(
    tmp_path: Path, coco_value: dict[str, Any], path: str, new: Any, message: str
) -> None:
    change(coco_value, path, new)
    fails(coco, save_coco(tmp_path, coco_value), message, {"references": "1"})


def test_coco_without_masks_says_so(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    n = len(coco_value["annotations"])
    for annotation in coco_value["annotations"]:
        annotation["segmentation"] = []
    fails(coco, save_coco(tmp_path, coco_value), rf"left out: {n} \(annotations without a mask\)")


def test_coco_with_corners_from_0_to_1_is_refused(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    for annotation in coco_value["annotations"]:
        annotation["segmentation"] = [[0.1, 0.2, 0.5, 0.2, 0.5, 1]]
    fails(coco, save_coco(tmp_path, coco_value), r"all corners of all polygons are from 0 to 1, .* multiply x by width")


def test_coco_names_images_however_they_are_stored(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    root = save_coco(tmp_path, coco_value)
    path = next((root / "annotations").iterdir())
    first = coco_value["images"][0]["file_name"]
    file = next(root.rglob(first))
    file.rename(file.with_name(f"u\u0308{first}"))
    path.write_text(json.dumps(coco_value).replace(f'"{first}"', f'"\u00fc{first}"'))
    assert len(rows(coco.read(root, {"references": "1"}))[1]) > 0
    for name, cure in (
        (rf"a\\\\{first}", "write / for"),
        (f"\u00dc{first}".upper(), "make the letters the same"),
        (f"/data/upload/1/\u00fc{first}", "leave the folders before it out of file_name"),
    ):
        path.write_text(json.dumps(coco_value).replace(f'"{first}"', f'"{name}"'))
        fails(coco, root, cure)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identity": "name"}, "no annotation has a 'name'; the annotations have category_id, id, image_id, iscrowd"),
        ({"scene": "clip"}, "image 1 has no 'clip', which scene=clip asks for"),
        ({"images": "train2017"}, "images: .*train2017 does not exist"),
        ({"instances": "../x.json"}, "instances: the path '../x.json' leaves its folder"),
        ({"absent": "-1"}, "absent='-1': give a whole number, 0 or more"),
        ({"cut": "no"}, "cut='no': give true or false"),
        ({"identity": "id"}, "none of 8 subjects in 5 pictures is seen in two places"),
    ],
)
def test_a_wrong_value_of_an_option_of_coco_is_refused(
    tmp_path: Path, coco_value: dict[str, Any], options: dict[str, str], message: str
) -> None:
    if options.get("identity") == "id":
        coco_value["annotations"] = [found for found in coco_value["annotations"] if found["segmentation"]]
    fails(coco, save_coco(tmp_path, coco_value), message, options)


def test_coco_without_its_parts_says_what_is_missing(tmp_path: Path, coco_value: dict[str, Any]) -> None:
    fails(coco, tmp_path, "has no annotations/instances_\\*.json")
    save_coco(tmp_path, coco_value, "elsewhere")
    fails(coco, tmp_path, "the image '000000000001.png' is in none of .*val2017.*; say images=FOLDER")
    (tmp_path / "annotations/instances_train2017.json").write_text("{}")
    fails(coco, tmp_path, "say which one, instances= one of annotations/instances_train2017.json, annotations/inst")


@pytest.mark.data
def test_lvis_has_no_identities_and_its_masks_are_its_areas(tmp_path: Path) -> None:
    path = Path(os.environ.get("PRISBENCH_DATA", "unset")) / "lvis_val_100/lvis_val_100.json"
    if not path.exists():
        pytest.skip("PRISBENCH_DATA names no folder with lvis_val_100")
    value = json.loads(path.read_text())
    largest = {}
    for one in sorted(value["annotations"], key=lambda one: one["area"]):
        largest[one["image_id"]] = one
    value["images"] = [image for image in value["images"] if image["id"] in largest][:12]
    for n, image in enumerate(value["images"]):
        photo = tmp_path / "val2014" / image["file_name"]
        photo.parent.mkdir(exist_ok=True)
        Image.new("RGB", (image["width"], image["height"]), (20 * n, 0, 0)).save(photo)
    shown = {image["id"] for image in value["images"]}
    value["annotations"] = [one for one in value["annotations"] if one["image_id"] in shown]
    (tmp_path / "lvis.json").write_text(json.dumps(value))
    fails(coco, tmp_path, "does not say which annotations show the same.*have area, bbox", {"images": "val2014"})
    # As if the largest thing of each image were one and the same, whatever it is.
    for key in shown:
        largest[key] |= {"subject": "it", "category_id": 1}
    (tmp_path / "lvis.json").write_text(json.dumps(value))
    subjects, queries = rows(coco.read(tmp_path, {"images": "val2014"}))
    assert (len(subjects), len(queries)) == (1, 9)
    assert queries[0].source.startswith("http://farm") and queries[0].licence.startswith("CC-BY")
    found = [float(mask.sum()) for mask in (*subjects[0].masks, *(row.mask for row in queries))]
    assert np.allclose(sorted(found), sorted(largest[key]["area"] for key in shown), rtol=0.05)


# --- labelme --------------------------------------------------------------------------------------------------------


def shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def square(left: int, top: int, side: int = 5) -> list[list[float]]:
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]


def save_labelme(path: Path, seed: int, shapes: Any, **more: Any) -> Path:
    """A photo and the JSON beside it."""
    photo = save(path.with_suffix(".png"), seed)
    value = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": photo.name, "imageData": None}
    path.write_text(json.dumps(value | {"imageHeight": 24, "imageWidth": 40} | more))
    return path


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Anna's mug in three photos, drawn in every way there is."""
    patch = io.BytesIO()
    Image.fromarray(np.ones((4, 6), dtype=bool)).save(patch, format="PNG")
    mask = base64.b64encode(patch.getvalue()).decode()
    save_labelme(tmp_path / "desk/01.json", 1, [shape("mug:anna's", square(3, 2))])
    save_labelme(
        tmp_path / "hall/02.json",
        2,
        [
            shape("mug:anna's", [[3, 2], [9, 12]], "rectangle"),
            shape("mug:anna's", [[30, 2], [35, 7]], "mask", mask=mask),
            shape("mug", square(20, 2), group_id=1),
            shape("mug", square(20, 12), group_id=1),
            shape("mug", [[33, 17], [36, 17]], "circle"),
            shape("spoon", [[1, 1]], "point"),
            shape("_background_", square(0, 0)),
        ],
    )
    photo = io.BytesIO()
    Image.fromarray(draw_scene(3, SIZE)).save(photo, format="PNG")
    inline = base64.b64encode(photo.getvalue()).decode()
    shapes = [
        shape("mug:anna's", [[10, 2], [14, 6], [10, 10], [6, 6]], "oriented_rectangle"),
        shape("spoon", square(20, 2)),
    ]
    save_labelme(tmp_path / "hall/03.json", 4, shapes, imageData=inline)
    return tmp_path


def test_labelme_reads_every_shape_that_has_an_inside(drawn: Path) -> None:
    source = labelme.read(drawn, {"references": "1"})
    subjects, queries = rows(source)
    assert [(row.noun, len(row.photos)) for row in subjects] == [("mug", 1)]
    assert [query.query_type for query in queries] == ["look-alike", "other-category"]
    assert queries[0].mask.sum() == 6 * 10 + 6 * 4
    assert [int(mask.sum()) for mask in queries[0].look_alikes] == [50, pytest.approx(np.pi * 9, abs=4)]
    assert (queries[1].image == draw_scene(3, SIZE)).all(), "a photo in imageData comes first"
    assert queries[1].file is None and queries[0].file == (drawn / "hall/02.png").read_bytes()
    assert queries[1].mask.sum() == pytest.approx(32, abs=8)
    assert queries[0].source == "labelme hall/02.json"
    assert source.left_out == Counter(
        {
            "shapes without an inside (point)": 1,
            "shapes with a label that starts with _": 1,
            "things without an identity, of a noun that subjects have (they count as other things)": 2,
        }
    )


def test_labelme_of_points_alone_says_so(tmp_path: Path) -> None:
    save_labelme(tmp_path / "a.json", 1, [shape("mug:anna", [[3, 4]], "point")])
    fails(labelme, tmp_path, r"no shape of 1 labelme files .*; left out: 1 \(shapes without an inside \(point\)\)$")


def test_labelme_keeps_a_folder_together(drawn: Path) -> None:
    subjects, queries = rows(labelme.read(drawn, {"scene": "folder"}))
    assert len(subjects[0].photos) == 1 and len(queries) == 2
    (drawn / "desk/01.json").rename(drawn / "hall/01.json")
    (drawn / "desk/01.png").rename(drawn / "hall/01.png")
    fails(labelme, drawn, "none of 1 subjects in 3 pictures is seen in two places", {"scene": "folder"})


@pytest.mark.parametrize(
    ("identity", "more"),
    [
        ("group_id", {"group_id": 4}),
        ("description", {"description": "anna's"}),
        ("flags", {"flags": {"anna's": True, "ben's": False}}),
    ],
)
def test_labelme_takes_the_name_from_where_it_stands(tmp_path: Path, identity: str, more: dict[str, Any]) -> None:
    for n in range(2):
        save_labelme(tmp_path / f"{n}.json", n, [shape("mug", square(3, 2), **more), shape("spoon", square(9, 9))])
    subjects, queries = rows(labelme.read(tmp_path, {"identity": identity}))
    assert (len(subjects), [query.query_type for query in queries]) == (1, ["other-category"])
    fails(labelme, tmp_path, 'no shape of 2 labelme files names a subject; label it like "mug:anna\'s"')


def test_labelme_reads_photos_in_a_folder_beside(tmp_path: Path) -> None:
    for n in range(2):
        path = save_labelme(
            tmp_path / f"ann/{n}.json", n, [shape("mug:a", square(3, 2))], imagePath=f"..\\img\\{n}.png"
        )
        save(tmp_path / f"img/{n}.png", n)
        path.with_suffix(".png").unlink()
    assert labelme.read(tmp_path, {}).n_queries == 1


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([{"points": []}], {}, "01.json: shape 1 has no label"),
        ([shape(":a", square(1, 1))], {}, "shape 1: the label ':a' has no noun"),
        ([shape("mug:anna's", [[1, "x"]])], {}, r"its points are not a list of \[x, y\]"),
        ([shape("mug:anna's", [[1, float("nan")]])], {}, r"its points are not a list of \[x, y\]"),
        ([shape("mug:anna's", square(1, 1)[:3], "rectangle")], {}, "a rectangle of 3 points; it has 2"),
        ([shape("mug:anna's", square(100, 1))], {}, "corner .100, 1. is far outside|lie outside"),
        ([shape("mug:anna's", [[1, 1], [9, 9]], "mask", mask="%")], {}, "mask is not base64"),
        ([shape("mug:anna's", [[1, 1], [9, 9]], "mask", mask="aaaa")], {}, "mask is no PNG; masks are PNG files"),
        ([shape("mug:anna's", square(1, 1))], {"imageHeight": 25}, r"imageHeight is 25, its photo 24 x 40"),
        ([shape("mug:anna's", square(1, 1))], {"imagePath": "../../x.png"}, "imagePath: the path '../x.png' leaves"),
        ([shape("mug:anna's", square(1, 1))], {"imagePath": "no.png"}, "desk/no.png does not exist"),
        ([shape("mug:anna's", square(1, 1))], {"imagePath": None}, "neither imageData nor an imagePath"),
        ([shape("mug:anna's", square(1, 1))], {"imageData": "aaaa"}, "imageData is not a photo"),
        ([shape("mug:anna's", square(1, 1))], {"imageData": 3}, "imageData is not base64"),
        (None, {}, "is not labelme's: it has no list 'shapes'"),
    ],
)
def test_what_is_wrong_in_labelme_is_named(drawn: Path, shapes: Any, more: dict[str, Any], message: str) -> None:
    save_labelme(drawn / "desk/01.json", 1, shapes, **more)
    fails(labelme, drawn, message)


def test_a_wrong_value_of_an_option_of_labelme_is_refused(
    drawn: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(UnknownNameError, match="unknown identity 'labels': did you mean 'label'"):
        labelme.read(drawn, {"identity": "labels"})
    with pytest.raises(UnknownNameError, match="unknown scene 'video_id'"):
        labelme.read(drawn, {"scene": "video_id"})
    fails(labelme, tmp_path_factory.mktemp("empty"), "has no .json files")


# --- voc ------------------------------------------------------------------------------------------------------------


def save_voc(root: Path, name: str, seed: int, objects: dict[int, tuple[int, tuple[int, int, int, int]]]) -> None:
    """An image of VOC with ``objects``: number -> class, box.  A border of 255 around each."""
    numbers, classes = np.zeros(SIZE, dtype=np.uint8), np.zeros(SIZE, dtype=np.uint8)
    for number, (kind, (top, left, bottom, right)) in objects.items():
        border = draw_box(SIZE, max(0, top - 1), max(0, left - 1), bottom + 1, right + 1)
        inner = draw_box(SIZE, top, left, bottom, right)
        for labels, value in ((numbers, number), (classes, kind)):
            labels[border], labels[inner] = 255, value
    save(root / f"JPEGImages/{name}.jpg", seed)
    for part, labels in (("SegmentationObject", numbers), ("SegmentationClass", classes)):
        (root / part).mkdir(exist_ok=True)
        image = Image.fromarray(labels)
        image.putpalette([value for n in range(256) for value in (n, 255 - n, n // 2)])
        image.save(root / part / f"{name}.png")


def save_xml(root: Path, name: str, names: list[str], head: str = "") -> None:
    (root / "Annotations").mkdir(exist_ok=True)
    objects = "".join(f"<object><name>{one}</name><bndbox/></object>" for one in names)
    source = "<source><database>The VOC2007 Database</database><flickrid>329145082</flickrid></source>"
    text = f"{head}<annotation><filename>{name}.jpg</filename>{source}{objects}</annotation>"
    (root / f"Annotations/{name}.xml").write_text(text)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """A dog that the table knows in two images, once beside another dog and a sofa."""
    root = tmp_path / "VOCdevkit/VOC2012"
    save_voc(root, "2007_000032", 1, {1: (12, (2, 3, 12, 15))})
    save_voc(root, "2008_000008", 2, {1: (18, (14, 2, 20, 30)), 2: (12, (2, 3, 12, 15)), 3: (12, (2, 22, 12, 34))})
    save_voc(root, "2009_000001", 3, {1: (12, (2, 3, 12, 15))})
    save_xml(root, "2007_000032", ["dog"])
    (tmp_path / "subjects.csv").write_text(
        "image,object,subject,scene\n2007_000032,1,rex,park\n2008_000008,2,rex,\n2008_000008,1,our sofa,\n"
    )
    return tmp_path


def test_voc_makes_subjects_of_what_the_table_names(devkit: Path) -> None:
    source = voc_instances.read(devkit, {})
    subjects, queries = rows(source)
    assert [(row.noun, row.source) for row in subjects] == [("dog", "VOC2012 2007_000032 (Flickr 329145082)")]
    assert [query.query_type for query in queries] == ["look-alike"]
    assert box_of(queries[0].mask) == (2, 3, 12, 15) and box_of(queries[0].look_alikes[0]) == (2, 22, 12, 34)
    assert source.left_out == Counter(
        {
            "images that subjects.csv does not name": 1,
            "things without an identity, of a noun that subjects have (they count as other things)": 1,
            "subjects without both a reference photo and a scene": 1,
            "pictures of subjects that are seen in one place only": 1,
        }
    )
    assert source.n_queries == voc_instances.read(devkit, {"year": "2012"}).n_queries


def test_voc_takes_names_beyond_the_twenty_from_the_xml(devkit: Path) -> None:
    top = devkit / "VOCdevkit/VOC2012"
    for name, seed in (("2007_000032", 1), ("2008_000008", 2)):
        save_voc(top, name, seed, {1: (30, (2, 3, 12, 15)), 2: (30, (14, 2, 20, 30))})
    (devkit / "subjects.csv").write_text("image,object,subject\n2007_000032,1,a\n2008_000008,1,a\n")
    fails(
        voc_instances, devkit, "2007_000032.png: object 2 is of class 30, which is none of VOC's 20; name it in Annot"
    )
    for name in ("2007_000032", "2008_000008"):
        save_xml(top, name, ["coffee_mug", "spoon"])
    subjects, queries = rows(voc_instances.read(devkit, {}))
    assert (subjects[0].noun, queries[0].query_type) == ("coffee mug", "other-category")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,object\n2007_000032,1\n", "has no column 'subject'"),
        ("image,object,subject\n2007_000032,2,rex\n", "line 2: .*2007_000032.png has no object '2'; it has 1"),
        ("image,object,subject\n2007_000032,x,rex\n", "line 2: .*has no object 'x'"),
        (
            "image,object,subject\n2007_000032,1,rex\n2007_000032,1,max\n",
            "line 3: object 1 of 2007_000032 is named twice",
        ),
        ("image,object,subject\n2010_000001,1,rex\n", "line 2: .*2010_000001.jpg does not exist"),
        ("image,object,subject\n../x,1,rex\n", "line 2: the path 'JPEGImages/../x.jpg' leaves its folder"),
        ("image,object,subject,scene\n2008_000008,1,a,x\n2008_000008,2,b,y\n", "is from several scenes: 'x', 'y'"),
        ("image,object,subject\n", "subjects.csv names no objects"),
        (
            "image,object,subject\n2007_000032,1,a\n2008_000008,1,a\n",
            "'a' is a 'sofa' in 2008_000008 and a 'dog' before",
        ),
    ],
)
def test_what_is_wrong_in_the_table_of_voc_is_named(devkit: Path, table: str, message: str) -> None:
    (devkit / "subjects.csv").write_text(table)
    fails(voc_instances, devkit, message)


def test_voc_refuses_xml_that_declares_anything(devkit: Path) -> None:
    top = devkit / "VOCdevkit/VOC2012"
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
    save_xml(top, "2007_000032", ["&c;"], head=bomb)
    fails(voc_instances, devkit, "2007_000032.xml declares a document type, which may define entities")
    text = (top / "Annotations/2007_000032.xml").read_text()
    (top / "Annotations/2007_000032.xml").write_bytes(text.encode("utf-16"))
    fails(voc_instances, devkit, "2007_000032.xml declares a document type")
    (top / "Annotations/2007_000032.xml").write_text("<annotation><object>")
    fails(voc_instances, devkit, "2007_000032.xml is not XML that can be read")
    save_xml(top, "2007_000032", [""])
    fails(voc_instances, devkit, "2007_000032.xml: object 1 has no name")


def test_voc_without_its_parts_says_what_is_missing(devkit: Path) -> None:
    fails(voc_instances, devkit, "has no VOC2007 folder with JPEGImages, Segmentation", {"year": "2007"})
    fails(voc_instances, devkit, "other.csv does not exist", {"subjects": "other.csv"})
    save_voc(devkit / "VOCdevkit/VOC2007", "2007_000032", 1, {1: (12, (2, 3, 12, 15))})
    fails(voc_instances, devkit, "VOC2007, VOC2012; say which one, like year=2012")
    top = devkit / "VOCdevkit/VOC2012"
    save(top / "JPEGImages/2008_000008.jpg", 2, (40, 24))
    fails(voc_instances, devkit, "2008_000008.png is 24 x 40, its image 40 x 24", {"year": "2012"})


# --- mug19 ----------------------------------------------------------------------------------------------------------

LAYOUT = """\
noun: mug
subjects: concepts
photos: concepts/{name}
scenes: images/{name}
masks: labels/{name}
look_alikes: others/{name}
"""


@pytest.fixture
def mugs(tmp_path: Path) -> Path:
    """A made-up layout, since the set's own is not public."""
    for n, name in enumerate(("mug_01", "mug_02")):
        save(tmp_path / f"concepts/{name}/a.jpg", 10 * n)
        save(tmp_path / f"images/{name}/1.jpg", 10 * n + 1)
        save(tmp_path / f"images/{name}/2.jpg", 10 * n + 2)
        save_mask(tmp_path / f"labels/{name}/1.png", 2, 3, 9, 12)
        save_mask(tmp_path / f"labels/{name}/2.png")
        (tmp_path / f"others/{name}").mkdir(parents=True)
    save_mask(tmp_path / "others/mug_02/1.b.png", 2, 23, 9, 32)
    (tmp_path / "layout.yaml").write_text(LAYOUT)
    return tmp_path


def test_mug19_is_read_by_the_map_that_somebody_writes(mugs: Path) -> None:
    source = mug19.read(mugs, {})
    subjects, queries = rows(source)
    assert [row.noun for row in subjects] == ["mug", "mug"]
    assert [query.query_type for query in queries] == ["plain", "absent", "look-alike", "absent"]
    assert source.name == "mug19" and "not public" in source.about and "images/{name}" in source.about
    assert subjects[0].masks == (None,)
    text = LAYOUT.replace("subjects: concepts", "subjects: [mug_02]") + "licence: CC0-1.0\nphoto_masks: pm/{name}\n"
    (mugs / "map.yaml").write_text(text)
    save_mask(mugs / "pm/mug_02/a.png", 1, 2, 3, 4)
    subjects, queries = rows(mug19.read(mugs, {"layout": "map.yaml"}))
    assert (len(subjects), len(queries), subjects[0].licence) == (1, 2, "CC0-1.0")
    assert box_of(subjects[0].masks[0]) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("noun: mug\n", "", "layout.yaml does not say 'noun'"),
        ("noun: mug", "noun: 3", "noun is 3; one line of text is wanted"),
        ("scenes:", "scene:", "unknown entry 'scene': did you mean 'scenes'"),
        ("images/{name}", "images", "scenes is 'images'; put {name} where the subject's name stands"),
        ("images/{name}", "../{name}", "scenes: the path '../mug_01' leaves its folder"),
        ("images/{name}", "nowhere/{name}", "scenes: .*nowhere does not exist|scenes: .*nowhere/mug_01 does not exist"),
        ("images/{name}", "labels/../{name}", "leaves its folder"),
        ("subjects: concepts", "subjects: [mug_01, mug_01]", "one comes twice: mug_01, mug_01"),
        ("subjects: concepts", "subjects: 3", "subjects is 3; a folder or a list of names is wanted"),
        ("labels/{name}", "others/{name}", "1.jpg has no mask .*others/mug_01/1.png; all black says"),
        ("concepts/{name}", "others/{name}", "photos of mug_01: .*others/mug_01 has no photos"),
        ("scenes: images", "scenes: concepts", "a.jpg has no mask"),
    ],
)
def test_what_is_wrong_in_the_map_of_mug19_is_named(mugs: Path, old: str, new: str, message: str) -> None:
    (mugs / "layout.yaml").write_text(LAYOUT.replace(old, new))
    fails(mug19, mugs, message)


def test_mug19_counts_masks_that_belong_to_nothing(mugs: Path) -> None:
    save_mask(mugs / "labels/mug_01/3.png", 2, 3, 9, 12)
    save_mask(mugs / "others/mug_01/1_b.png", 2, 23, 9, 32)
    (mugs / "layout.yaml").write_text(LAYOUT + "photo_masks: pm/{name}\n")
    for name, stem in (("mug_01", "a"), ("mug_02", "b")):
        save_mask(mugs / f"pm/{name}/{stem}.png", 1, 2, 3, 4)
    source = mug19.read(mugs, {})
    assert source.left_out == {
        "masks of no scene": 1,
        "look_alikes of no scene": 1,
        "photo_masks of no reference photo": 1,
    }


def test_mug19_without_a_map_asks_for_one(mugs: Path) -> None:
    (mugs / "layout.yaml").unlink()
    fails(mug19, mugs, r"layout \(the map that says which folders are what\): .*layout.yaml does not exist")


# --- a reader of one's own ------------------------------------------------------------------------------------------


def test_the_reader_in_the_documents_reads_its_set(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs/dataset.md").read_text()
    code = text.split("### Write a reader")[1].split("```python\n")[1].split("```")[0]
    scope: dict[str, Any] = {"__name__": "toys"}
    exec(compile(code, "docs/dataset.md", "exec", dont_inherit=True), scope)
    root = tmp_path / "toys"
    for n, name in enumerate(("bear", "car")):
        for i in range(4):
            save(root / f"{name}/0{i}.jpg", 10 * n + i)
    save_mask(root / "bear/01.png", 3, 5, 9, 12)
    save_mask(root / "bear/03.png")
    save_mask(root / "car/02.png", 4, 6, 10, 11)
    source = scope["read"](root)
    manifest = build(tmp_path / "out", source)
    assert manifest.id == "toys-v1" and manifest.subjects == {"test": 2}
    assert manifest.queries["test"] == {"plain": 2, "absent": 1}
    assert source.left_out == {"photos without a mask": 3}
    queries = list(scope["read"](root).queries(0))
    assert [row.source for row in queries] == ["toys bear/01.jpg", "toys bear/03.jpg", "toys car/02.jpg"]
    assert box_of(queries[2].mask) == (4, 6, 10, 11)
    rest = scope["read"](root)
    assert [row.id for row in rest.queries(2)] == [queries[2].id] and rest.left_out == {"photos without a mask": 2}
