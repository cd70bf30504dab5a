"""Files as annotation tools export them: CVAT, X-AnyLabeling, panoptic COCO, DAVIS; lists and archives as people pack
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.datasets.source import Source
from prisbench.datasets.sources import coco, labelme
from prisbench.errors import DataError
from tests.drawing import draw_box, draw_scene

SIZE = (24, 40)


def rows(source: Source) -> tuple[list[SubjectRow], list[QueryRow]]:
    return list(source.subjects()), list(source.queries(0))


def runs(mask: np.ndarray) -> dict[str, Any]:
    found = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def cvat(folder: Path, annotations: list[dict[str, Any]], images: int = 4, name: str = "{n}.png") -> Path:
    """A COCO export of CVAT: images/default, annotations/instances_default.json."""
    (folder / "images" / "default").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for n in range(1, images + 1):
        Image.fromarray(draw_scene(n, SIZE)).save(folder / "images" / "default" / f"{n}.png")
    value = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "categories": [{"id": 1, "name": "mug"}, {"id": 2, "name": "spoon"}],
        "images": [
            {"id": n, "file_name": name.format(n=n), "height": SIZE[0], "width": SIZE[1]} for n in range(1, images + 1)
        ],
        "annotations": [{"id": n, "category_id": 1, "iscrowd": 0} | each for n, each in enumerate(annotations, 1)],
    }
    (folder / "annotations" / "instances_default.json").write_text(json.dumps(value))
    return folder


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
    folder = cvat(tmp_path, given, images=4)
    (folder / "images/default/4.png").unlink()
    source = coco.read(folder, {"references": "1", "absent": "1"})
    assert [row.query_type for row in rows(source)[1]] == ["plain", "absent"]
    assert source.left_out["images without annotations whose files are not there"] == 1
    source = coco.read(folder, {"references": "1"})
    assert source.left_out["images without annotations"] == 2 and len(rows(source)[1]) == 1


def test_a_backslash_in_a_file_name_is_a_folder(tmp_path: Path) -> None:
    folder = cvat(tmp_path, [brushed(n, n, "anna") for n in (1, 2)], images=2, name="default\\{n}.png")
    assert len(rows(coco.read(folder, {"references": "1"}))[1]) == 1


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
