"""Files as annotation tools export them: CVAT, X-AnyLabeling, panoptic COCO, DAVIS; lists and archives as people pack
them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from prisbench.datasets.named import build_source, load_source
from prisbench.datasets.photo_folder import read_own_photos
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source
from prisbench.datasets.sources import coco, folder, labelme
from prisbench.datasets.sources.public import davis
from prisbench.errors import DataError
from prisbench.wsss.sets import read_list
from tests.drawing import draw_box, draw_scene

SIZE = (24, 40)


def rows(source: Source) -> tuple[list[SubjectRow], list[QueryRow]]:
    return list(source.subjects()), list(source.queries(0))


def runs(mask: np.ndarray) -> dict[str, Any]:
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def cvat(home: Path, annotations: list[dict[str, Any]], images: int = 4, name: str = "{n}.png") -> Path:
    """A COCO export of CVAT: images/default, annotations/instances_default.json."""
    (home / "images" / "default").mkdir(parents=True)
    (home / "annotations").mkdir()
    for n in range(1, images + 1):
        Image.fromarray(draw_scene(n, SIZE)).save(home / "images" / "default" / f"{n}.png")
    value = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "categories": [{"id": 1, "name": "mug"}, {"id": 2, "name": "spoon"}],
        "images": [
            {"id": n, "file_name": name.format(n=n), "height": SIZE[0], "width": SIZE[1]} for n in range(1, images + 1)
        ],
        "annotations": [{"id": n, "category_id": 1, "iscrowd": 0} | each for n, each in enumerate(annotations, 1)],
    }
    (home / "annotations" / "instances_default.json").write_text(json.dumps(value))
    return home


def brushed(image: int, left: int, identity: str | None, **more: Any) -> dict[str, Any]:
    mask = draw_box(SIZE, 4, left, 14, left + 12)
    said = {} if identity is None else {"attributes": {"instance_id": identity}}
    return {"image_id": image, "iscrowd": 1, "segmentation": runs(mask)} | said | more


def test_masks_that_cvat_brushed_are_things_where_an_identity_says_which(tmp_path: Path) -> None:
    given = [brushed(n, n, "anna") for n in (1, 2, 3)] + [brushed(3, 25, None), brushed(2, 25, "once")]
    source = coco.read(cvat(tmp_path, given), {"references": "1"})
    subjects, queries = rows(source)
    assert [row.noun for row in subjects] == ["mug"] and len(queries) == 2
    assert (queries[1].mask == draw_box(SIZE, 4, 3, 14, 15)).all() and len(queries[1].look_alikes) == 1
    assert source.left_out["crowd regions without an identity (they count as other things)"] == 1
    assert source.left_out["crowd regions as subjects (they count as other things)"] == 1
    assert any("3 run lengths with iscrowd 1 have an identity" in line for line in source.warnings)


def test_crowds_alone_are_named_when_nothing_is_left(tmp_path: Path) -> None:
    given = [brushed(n, n, f"crowd {n}") for n in (1, 2, 3)]
    with pytest.raises(DataError, match=r"none of 0 subjects in 3 pictures .*left out: 3 \(crowd regions as subjects"):
        coco.read(cvat(tmp_path, given), {})


def test_a_polygon_without_an_inside_is_counted(tmp_path: Path) -> None:
    box = [5, 4, 17, 4, 17, 14, 5, 14]
    drawn = [{"image_id": n, "subject": "a", "segmentation": [box]} for n in (1, 2, 3)]
    drawn[1]["segmentation"] = [box, [1, 1, 5, 5], [2, 2, 2, 2, 2, 2]]
    drawn += [{"image_id": 4, "subject": "a", "segmentation": [[1, 1]]}]
    source = coco.read(cvat(tmp_path, drawn), {"references": "1"})
    assert len(rows(source)[1]) == 2
    assert source.left_out["polygons of under three points"] == 3 and source.left_out["annotations without a mask"] == 1


def test_images_without_annotations_are_scenes_of_absent_queries(tmp_path: Path) -> None:
    given = [brushed(n, n, "anna") for n in (1, 2)]
    home = cvat(tmp_path, given, images=4)
    (home / "images/default/4.png").unlink()
    source = coco.read(home, {"references": "1", "absent": "1"})
    assert [row.query_type for row in rows(source)[1]] == ["plain", "absent"]
    assert source.left_out["images without annotations whose files are not there"] == 1
    source = coco.read(home, {"references": "1"})
    assert source.left_out["images without annotations"] == 2 and len(rows(source)[1]) == 1


def test_a_backslash_in_a_file_name_is_a_folder(tmp_path: Path) -> None:
    home = cvat(tmp_path, [brushed(n, n, "anna") for n in (1, 2)], images=2, name="default\\{n}.png")
    assert len(rows(coco.read(home, {"references": "1"}))[1]) == 1


def anylabeling(folder: Path, n: int, shapes: list[dict[str, Any]]) -> None:
    """A photo and the JSON that X-AnyLabeling writes beside it."""
    Image.fromarray(draw_scene(n, SIZE)).save(folder / f"{n}.png")
    usual: Mapping[str, Any] = {"score": None, "group_id": None, "description": "", "difficult": False, "flags": {}}
    value = {
        "version": "2.4.4",
        "flags": {},
        "shapes": [{**usual, "attributes": {}, "label": "mug:anna", **each} for each in shapes],
        "imagePath": f"{n}.png",
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }
    (folder / f"{n}.json").write_text(json.dumps(value))


def test_what_x_anylabeling_draws_is_read(tmp_path: Path) -> None:
    box = [[5, 4], [17, 4], [17, 14], [5, 14]]
    anylabeling(tmp_path, 1, [{"shape_type": "rectangle", "points": box}])
    anylabeling(tmp_path, 2, [{"shape_type": "rectangle", "points": box}])
    turned = [[10, 2], [14, 6], [10, 10], [6, 6]]
    anylabeling(tmp_path, 3, [{"shape_type": "rotation", "points": turned, "direction": 0.78}])
    source = labelme.read(tmp_path, {"references": "1"})
    first, second = rows(source)[1]
    assert first.mask.sum() == 12 * 10 and second.mask.sum() == pytest.approx(32, abs=8) and source.left_out == {}


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("polygon", [[1, 1], [5, 5]]),
        ("polygon", []),
        ("polygon", [[1, 1], [5, 5], [9, 9]]),
        ("polygon", [[1, 1], [1.1, 1], [1.1, 1.1]]),
        ("rectangle", [[1, 1], [1, 9]]),
        ("rectangle", [[1, 1]]),
        ("circle", [[3, 3], [3, 3]]),
    ],
)
def test_a_shape_that_covers_nothing_is_counted(tmp_path: Path, kind: str, points: list[Any]) -> None:
    box = [[5, 4], [17, 4], [17, 14], [5, 14]]
    for n in (1, 2, 3):
        anylabeling(tmp_path, n, [{"points": box}, *([{"shape_type": kind, "points": points}] if n == 3 else [])])
    source = labelme.read(tmp_path, {"references": "1"})
    assert len(rows(source)[1]) == 2
    assert source.left_out[f"shapes without an inside ({kind}s that cover no pixel)"] == 1


# --- DAVIS, folders, lists, archives --------------------------------------------------------------------------------


@pytest.fixture
def davis_2016(tmp_path: Path) -> Path:
    """A clip of DAVIS 2016: folders by clip, masks of 0 and 255, lists of frames."""
    root = tmp_path / "DAVIS"
    for n in range(3):
        for kind, picture in (
            ("JPEGImages/480p/bmx-trees", Image.fromarray(draw_scene(n, SIZE))),
            ("Annotations/480p/bmx-trees", Image.fromarray(draw_box(SIZE, 4, 5 + n, 14, 17).astype(np.uint8) * 255)),
        ):
            (root / kind).mkdir(parents=True, exist_ok=True)
            picture.save(root / kind / f"{n:05d}.{'jpg' if kind.startswith('JPEG') else 'png'}")
    return root


def test_nouns_of_davis_that_are_names_of_folders_are_told(davis_2016: Path) -> None:
    given = {"allow_same_clip": "true"}
    source = davis.read(davis_2016, given)
    (line,) = source.warnings
    assert rows(source)[0][0].noun == "bmx trees"
    assert "1 nouns are names of folders ('bmx trees' of the clip bmx-trees)" in line and "nouns=FILE" in line
    nouns = davis_2016.parent / "nouns.json"
    nouns.write_text(json.dumps({"bmx-trees": {"1": "bicycle"}}))
    source = davis.read(davis_2016, given | {"nouns": str(nouns), "year": "2016"})
    assert source.warnings == () and rows(source)[0][0].noun == "bicycle"
    with pytest.raises(DataError, match=r"nouns=gone.json: there is no such file"):
        davis.read(davis_2016, given | {"nouns": "gone.json"})


def test_a_list_may_have_a_byte_order_mark(davis_2016: Path) -> None:
    lists = davis_2016 / "ImageSets/480p"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_bytes(b"\xef\xbb\xbf/JPEGImages/480p/bmx-trees/00000.jpg x\r\n")
    assert davis.read(davis_2016, {"allow_same_clip": "true", "clips": "480p/val"}).n_subjects == 1


def test_a_list_may_name_files_and_have_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_bytes(b"\xef\xbb\xbf2007_000032.jpg\r\n2007_000039.JPEG\r\nv1.2\r\n")
    found = read_list(path, tmp_path, "JPEGImages/{id}.jpg", "SegmentationClass/{id}.png")
    assert [item.id for item in found] == ["2007_000032", "2007_000039", "v1.2"]
    assert found[0].photo == tmp_path / "JPEGImages/2007_000032.jpg"


def test_a_set_in_one_wrapping_folder_is_found(tmp_path: Path) -> None:
    cvat(tmp_path / "set" / "task_7" / "export", [brushed(n, n, "anna") for n in (1, 2)], images=2)
    (tmp_path / "set" / "__MACOSX").mkdir()
    assert load_source("coco", tmp_path / "set", {"references": "1"}).n_queries == 1
    archive = shutil.make_archive(str(tmp_path / "cvat"), "zip", tmp_path / "set")
    manifest, _ = build_source("coco", archive, {"references": "1"}, tmp_path / "out")
    assert manifest.n_queries("test") == 1


def test_a_mistake_in_the_only_folder_of_a_root_is_not_hidden(tmp_path: Path) -> None:
    for part in ("photos", "scenes"):
        (tmp_path / "mug-anna" / part).mkdir(parents=True)
        Image.fromarray(draw_scene(len(part), SIZE)).save(tmp_path / "mug-anna" / part / "a.png")
    with pytest.raises(DataError, match=r"scenes/a.png has no mask"):
        load_source("folder", tmp_path, {})


def test_photos_in_folders_inside_are_counted(tmp_path: Path) -> None:
    for n, name in enumerate(("mug/a.png", "mug/2023/b.png", "mug/2023/deep/c.png", "mug/masks/a.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture = draw_scene(n, (48, 64)) if "masks" not in name else draw_box((48, 64), 3, 3, 20, 20)
        Image.fromarray(picture).save(tmp_path / name)
    own = read_own_photos(tmp_path / "mug")
    assert len(own.photos) == 1 and own.masks[0] is not None
    assert "2 photos in folders inside of" in own.noticed[0] and "(2023, 2023/deep); move them up" in own.noticed[0]
    shutil.rmtree(tmp_path / "mug/masks")
    source = folder.read(tmp_path, {})
    assert source.left_out["photos in folders of a subject that have no role"] == 2
    (tmp_path / "mug/a.png").unlink()
    with pytest.raises(DataError, match=r"no photos in .*mug .*; 2 are in folders inside, give .*/2023$"):
        read_own_photos(tmp_path / "mug")


# --- several masks of one picture -----------------------------------------------------------------------------------


def panoptic(home: Path, segments: list[list[dict[str, Any]]], grey: bool = False) -> Path:
    """Images with a panoptic PNG each: segment k of an image is a box further to the right."""
    (home / "annotations" / "panoptic_val").mkdir(parents=True)
    (home / "val").mkdir()
    annotations = []
    for n, given in enumerate(segments, 1):
        numbers = np.zeros(SIZE, np.int64)
        for k, one in enumerate(given):
            numbers[4:14, 2 + 10 * k : 10 + 10 * k] = one["id"]
        colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=2).astype(np.uint8)
        picture = Image.fromarray(numbers.astype(np.uint8)) if grey else Image.fromarray(colours)
        picture.save(home / f"annotations/panoptic_val/{n}.png")
        Image.fromarray(draw_scene(n, SIZE)).save(home / f"val/{n}.jpg")
        info = [{"category_id": 1, "iscrowd": 0, "area": 80} | one for one in given]
        annotations.append({"image_id": n, "file_name": f"{n}.png", "segments_info": info})
    value = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in range(1, n + 1)],
        "categories": [{"id": 1, "name": "mug", "isthing": 1}, {"id": 2, "name": "wall", "isthing": 0}],
        "annotations": annotations,
    }
    (home / "annotations/panoptic_val.json").write_text(json.dumps(value))
    return home


@pytest.mark.parametrize("grey", [False, True])
def test_panoptic_coco_is_read_by_its_colours(tmp_path: Path, grey: bool) -> None:
    many = 70 if grey else 70_000
    segments = [
        [{"id": 5, "subject": "anna's"}, {"id": many}, {"id": 9, "category_id": 2}],
        [{"id": 8, "subject": "anna's"}, {"id": many + 1, "subject": "ben's"}],
        [{"id": many + 2, "iscrowd": 1}],
    ]
    source = load_source("coco-panoptic", panoptic(tmp_path, segments, grey), {"references": "1"})
    subjects, (query,) = rows(source)
    assert [row.noun for row in subjects] == ["mug"] and query.query_type == "look-alike"
    assert (query.mask == draw_box(SIZE, 4, 2, 14, 10)).all()
    assert (query.look_alikes[0] == draw_box(SIZE, 4, 12, 14, 20)).all()
    assert source.left_out["segments of stuff (isthing 0)"] == 1
    assert source.left_out["images where no segment has an identity"] == 1
    assert source.left_out["numbers of a PNG that its segments do not list"] == 0


def test_what_is_wrong_in_panoptic_coco_is_named(tmp_path: Path) -> None:
    home = panoptic(tmp_path / "a", [[{"id": 5}], [{"id": 5}]])
    with pytest.raises(DataError, match="does not say which annotations show the same particular thing"):
        load_source("coco-panoptic", home, {})
    path = home / "annotations/panoptic_val.json"
    path.write_text(path.read_text().replace("segments_info", "segmentation"))
    with pytest.raises(DataError, match="has no list 'segments_info'; COCO's instances are read by the source coco"):
        load_source("coco-panoptic", home, {})
    home = panoptic(tmp_path / "b", [[{"id": 5, "subject": "a"}], [{"id": 5, "subject": "a"}]])
    Image.new("RGB", (9, 9)).save(home / "annotations/panoptic_val/1.png")
    with pytest.raises(DataError, match=r"1.png is 9 x 9, its image 24 x 40"):
        load_source("coco-panoptic", home, {})
    home = panoptic(tmp_path / "c", [[{"id": 5, "subject": "a"}, {"id": 5.0}]])
    with pytest.raises(DataError, match="number 1 of annotations has the segment 5 twice"):
        load_source("coco-panoptic", home, {})
    shutil.rmtree(home / "annotations/panoptic_val")
    path = home / "annotations/panoptic_val.json"
    path.write_text(path.read_text().replace("5.0", "6"))
    with pytest.raises(DataError, match=r"the PNG files should be in .*panoptic_val, which is not there; say masks="):
        load_source("coco-panoptic", home, {})


def scenes_with_masks(home: Path) -> Path:
    """As Break-A-Scene has them: a photo with two masks in one folder, one mask in another."""
    for n, (name, count) in enumerate((("creature", 2), ("kitchen", 1))):
        (home / name).mkdir(parents=True)
        Image.fromarray(draw_scene(n, SIZE)).save(home / name / "img.jpg")
        for k in range(count):
            box = draw_box(SIZE, 4, 2 + 10 * k, 14, 10 + 10 * k)
            Image.fromarray(box.astype(np.uint8) * 255).save(home / name / f"mask{k}.png")
    return home


def test_several_masks_of_one_photo_are_several_things(tmp_path: Path) -> None:
    home = scenes_with_masks(tmp_path)
    with pytest.raises(
        DataError, match=r"has no masks.csv.*'picture,mask,noun,subject' and 'creature,mask0,mug,anna's'"
    ):
        load_source("break-a-scene", home, {})
    lines = "picture,mask,noun,subject\ncreature,mask0,mug,anna's\ncreature,mask1.png,bowl,\nkitchen,mask0,mug,anna's\n"
    (home / "masks.csv").write_text(lines)
    source = load_source("break-a-scene", home, {"references": "1"})
    (subject,), (query,) = rows(source)
    assert subject.noun == "mug" and query.query_type == "plain" and query.mask.sum() == 80 and source.left_out == {}
    (home / "masks.csv").write_text(lines + "kitchen,mask7,mug,x\n")
    with pytest.raises(DataError, match=r"masks.csv, line 5: .*kitchen has no mask 'mask7'; it has mask0"):
        load_source("break-a-scene", home, {})


# --- siblings ---------------------------------------------------------------------------------------------------------


def test_polygons_beside_their_image_and_empty_run_lengths_are_counted(tmp_path: Path) -> None:
    given = [brushed(n, n, "anna") for n in (1, 2, 3)]
    ben = {"attributes": {"instance_id": "ben"}}
    empty = ben | {"image_id": 2, "segmentation": {"size": [*SIZE], "counts": []}}
    beside = ben | {"image_id": 3, "segmentation": [[0, 24, 9, 24, 9, 30]]}
    source = coco.read(cvat(tmp_path / "a", [*given, empty, beside]), {"references": "1"})
    assert len(rows(source)[1]) == 2
    assert (
        source.left_out["polygons outside of their image"] == 1 and source.left_out["annotations without a mask"] == 2
    )
    far = {"image_id": 3, "segmentation": [[0, 240, 9, 240, 9, 300]]}
    with pytest.raises(DataError, match=r"annotation 4: the corner .* is far outside of the image of 24 x 40"):
        rows(coco.read(cvat(tmp_path / "b", [*given, far]), {"references": "1"}))


def test_pictures_in_which_nothing_is_drawn_are_counted_or_scenes_of_absent_queries(tmp_path: Path) -> None:
    home = panoptic(tmp_path / "panoptic", [[{"id": 5, "subject": "a"}], [{"id": 5, "subject": "a"}], [], []])
    path = home / "annotations/panoptic_val.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"annotations": value["annotations"][:3]}))  # one has no record at all
    source = load_source("coco-panoptic", home, {"references": "1"})
    assert source.left_out["images without annotations"] == 2 and source.n_queries == 1
    source = load_source("coco-panoptic", home, {"references": "1", "absent": "2"})
    assert [row.query_type for row in rows(source)[1]].count("absent") == 2
    home = scenes_with_masks(tmp_path / "several")
    (home / "masks.csv").write_text("picture,mask,noun,subject\ncreature,mask0,mug,a\nkitchen,mask0,mug,a\n")
    (home / "garden").mkdir()
    for name in ("garden/img.jpg", "loose.jpg"):
        Image.fromarray(draw_scene(7, SIZE)).save(home / name)
    source = load_source("break-a-scene", home, {"references": "1"})
    assert source.left_out["folders with a photo and no mask"] == source.left_out["photos beside the folders"] == 1
    source = load_source("break-a-scene", home, {"references": "1", "absent": "1"})
    assert [row.query_type for row in rows(source)[1]].count("absent") == 1
    drawn = tmp_path / "labelme"
    drawn.mkdir()
    box = [[5, 4], [17, 4], [17, 14], [5, 14]]
    for n, points in enumerate((box, [*box, box[0]], box)):  # one is closed by its first corner
        anylabeling(drawn, n, [{"shape_type": "rectangle", "points": points}])
    (drawn / "2.json").unlink()
    source = labelme.read(drawn, {"references": "1"})
    assert [row.mask.sum() for row in rows(source)[1]] == [120]
    assert next(iter(source.left_out)).startswith("photos without a JSON file") and source.left_out.total() == 1


def test_a_wrapping_folder_may_have_files_beside_it_and_loose_photos_are_counted(tmp_path: Path) -> None:
    home = tmp_path / "set" / "export"
    for place in ("photos/1.png", "scenes/2.png", "photos/2023/3.png"):
        (home / "mug-anna" / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scene(len(place), (48, 64))).save(home / "mug-anna" / place)
    (home / "mug-anna/masks").mkdir()
    Image.fromarray(draw_box((48, 64), 3, 3, 20, 20).astype(np.uint8) * 255).save(home / "mug-anna/masks/2.png")
    for name in ("README.txt", "Thumbs.db"):
        (tmp_path / "set" / name).write_text("x")
    source = load_source("folder", tmp_path / "set", {})
    assert source.n_queries == 1 and source.left_out == {"photos in folders inside of photos": 1}
    Image.fromarray(draw_scene(9, SIZE)).save(home / "loose.png")
    assert load_source("folder", home, {}).left_out["photos beside the folders of subjects"] == 1
