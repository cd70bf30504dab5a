"""The readers of public sets: PerSeg and YCB-Video on real files, all six on tiny trees in the published layout."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from prisbench.datasets.build import build
from prisbench.datasets.load import open_dataset
from prisbench.datasets.schema import QueryRow, check_query, check_subject
from prisbench.datasets.source import Source
from prisbench.datasets.sources import perseg
from prisbench.datasets.sources.options import build_key, one_line, query_text, share, whole_number, yes_or_no
from prisbench.datasets.sources.plan import from_nth
from prisbench.datasets.sources.public import davis, permis, perv_ytvos, pods, ycb_video
from prisbench.datasets.sources.reading.files import top
from prisbench.datasets.sources.reference_photos import cut_out, evenly
from prisbench.errors import DataError, UsageError
from tests.drawing import draw_box, draw_scene

HW = (30, 44)
READERS = (perseg, pods, perv_ytvos, permis, ycb_video, davis)


def photo(path: Path, seed: int, size_hw: tuple[int, int] = HW) -> np.ndarray:
    """Writes a drawn photo; what a reader sees of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_scene(seed, size_hw)).save(path)
    return np.asarray(Image.open(path).convert("RGB"))


def labels(path: Path, *boxes: tuple[int, int, int, int, int], size_hw: tuple[int, int] = HW) -> None:
    """Writes a palette PNG, each box (label, top, left, bottom, right) over those before it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.zeros(size_hw, np.uint8)
    for label, *box in boxes:
        drawn[draw_box(size_hw, *box)] = label
    image = Image.fromarray(drawn, mode="P")
    image.putpalette([n * k % 256 for n in range(256) for k in (37, 91, 153)])  # 256 colours: 8 bits in the file
    image.save(path)


def real(name: str) -> Path:
    if "PRISBENCH_DATA" not in os.environ:
        pytest.skip("PRISBENCH_DATA is not set")
    folder = Path(os.environ["PRISBENCH_DATA"]) / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def all_rows(source: Source) -> list[QueryRow]:
    """Every query, each held to the rules; the subjects too."""
    known = {}
    for one in source.subjects():
        check_subject(one)
        assert all(
            mask is not None and mask.shape == shot.shape[:2] for mask, shot in zip(one.masks, one.photos, strict=True)
        )
        known[one.id] = one
    rows = list(source.queries(0))
    for row in rows:
        check_query(row)
        subject = known[row.subject_id]
        assert (row.noun, row.split, row.licence) == (subject.noun, subject.split, subject.licence)
        assert not any(np.array_equal(row.image, shot) for shot in subject.photos)
    assert source.n_subjects == len(known)
    return rows


def ids(rows: list[QueryRow]) -> list[str]:
    return [row.id for row in rows]


# --- what they share ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__.rpartition(".")[2])
def test_every_reader_says_what_it_reads(reader: ModuleType, tmp_path: Path) -> None:
    assert reader.TITLE and reader.LICENCE and reader.HOMEPAGE.startswith("https://") and reader.OPTIONS
    assert all(line == line.strip() and line for line in reader.OPTIONS.values())
    for word in ("icence", "cannot know", "layout"):
        assert word in (reader.__doc__ or "")
    with pytest.raises(DataError, match=f"is not laid out as {reader.TITLE} is: .*<") as caught:
        reader.read(tmp_path, {"allow_same_clip": "true"} if reader is davis else {})
    assert "\n" not in str(caught.value)


def test_option_values_that_make_no_sense_are_told() -> None:
    for value in ("0", "-1", "x", "1e3", "٣", "1" * 10):
        with pytest.raises(UsageError, match=r"references=.*: give a whole number, 1 or more"):
            whole_number({"references": value}, "references", 3)
    assert whole_number({}, "absent", 0, least=0) == 0
    for value in ("1.1", "nan", "-0.1", "", "."):
        with pytest.raises(UsageError, match=r"validation_share=.*: give a share from 0 to 1"):
            share({"validation_share": value})
    assert [share({"validation_share": value}) for value in ("0", "1", "1.0", ".25")] == [0, 1, 1, 0.25]
    with pytest.raises(UsageError, match="cut='yes': give true or false"):
        yes_or_no({"cut": "yes"}, "cut", True)
    for text in ("the thing", "{subject} and {subject}"):
        with pytest.raises(UsageError, match=r"it must have \{subject\} once"):
            query_text({"text": text})
    with pytest.raises(UsageError, match="licence=' MIT': give one line of text"):
        one_line({"licence": " MIT"}, "licence", "CC0-1.0")


def test_the_key_follows_from_options_names_sizes_and_times(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    files = [tmp_path / "a.txt"]
    key = build_key("Set", {"step": "2"}, tmp_path, files)
    assert key == build_key("Set", {"step": "2"}, tmp_path, files)
    assert key != build_key("Set", {"step": "3"}, tmp_path, files)
    os.utime(files[0], (1, 1))
    assert key != build_key("Set", {"step": "2"}, tmp_path, files)
    with pytest.raises(DataError, match=r"b\.txt"):
        build_key("Set", {}, tmp_path, [tmp_path / "b.txt"])


def test_a_set_is_found_one_folder_down_but_not_further(tmp_path: Path) -> None:
    (tmp_path / "data 3" / "Images").mkdir(parents=True)
    assert top(tmp_path, ("Images",), "Set", "Images/<x>") == tmp_path / "data 3"
    with pytest.raises(DataError, match=r"it wants Masks \(Masks/<x>; more\)"):
        top(tmp_path, ("Masks",), "Set", "Masks/<x>\nmore")


def test_items_are_taken_evenly_from_first_to_last() -> None:
    assert evenly("abcdefg", 3) == ["a", "d", "g"]
    assert evenly("abc", 5) == ["a", "b", "c"]
    assert evenly("abc", 1) == ["a"]


def test_a_box_is_cut_with_a_quarter_around_as_far_as_the_photo_goes() -> None:
    scene, mask = draw_scene(1), draw_box((12, 20), 4, 2, 8, 14)
    shot, cut = cut_out(scene, mask)
    assert np.array_equal(shot, scene[3:9, 0:17]) and np.array_equal(cut, mask[3:9, 0:17])
    assert cut_out(scene, mask, margin=0.0).mask.all()


def test_the_nth_query_is_the_same_whoever_asks_and_nothing_before_it_is_read() -> None:
    def unread() -> QueryRow:
        raise AssertionError("read, though it was to be skipped")

    left_out: Counter[str] = Counter()
    candidates = ["hidden", unread, "hidden", unread, "hidden", lambda: "third", "small"]
    assert list(from_nth(2, candidates, left_out)) == ["third"]  # type: ignore[comparison-overlap, arg-type]
    assert left_out == {"hidden": 1, "small": 1}


# --- PerSeg ---------------------------------------------------------------------------------------------------------


def draw_perseg(root: Path) -> None:
    for n, name in enumerate(("cat2", "duck_toy", "garden_gnome", "mug_skulls")):
        for i in range(1 if name == "mug_skulls" else 3):
            photo(root / f"Images/{name}/{i:02d}.jpg", 10 * n + i)
            empty = name == "cat2" and i == 2
            labels(root / f"Annotations/{name}/{i:02d}.png", *(() if empty else ((1, 3, 4 + i, 20, 30),)))


def test_perseg_learns_from_photo_00_and_asks_about_the_others(tmp_path: Path) -> None:
    draw_perseg(tmp_path)
    source = perseg.read(tmp_path, {})
    rows = all_rows(source)
    assert [row.source.rpartition(" ")[2] for row in rows] == [
        "Images/cat2/01.jpg",
        "Images/duck_toy/01.jpg",
        "Images/duck_toy/02.jpg",
        "Images/garden_gnome/01.jpg",
        "Images/garden_gnome/02.jpg",
    ]
    assert [row.noun for row in rows] == ["cat", "toy", "toy", "garden gnome", "garden gnome"]
    assert {row.query_type for row in rows} == {"plain"} and {row.split for row in rows} == {"test"}
    assert np.array_equal(rows[1].mask, draw_box(HW, 3, 5, 20, 30))
    assert rows[1].file == (tmp_path / "Images/duck_toy/01.jpg").read_bytes()
    assert dict(source.left_out) == {"objects with no more than 1 photos": 1, "photos with an empty mask": 1}
    assert ids(list(perseg.read(tmp_path, {}).queries(3))) == ids(rows)[3:]


def test_perseg_takes_more_references_another_text_and_a_share_for_validation(tmp_path: Path) -> None:
    draw_perseg(tmp_path)
    options = {"references": "2", "text": "my {subject}", "validation_share": "1", "licence": "CC0-1.0"}
    source = perseg.read(tmp_path, options)
    assert [len(row.photos) for row in source.subjects()] == [2, 2, 2]
    assert {(row.text, row.split, row.licence) for row in source.queries(0)} == {
        ("my {subject}", "validation", "CC0-1.0")
    }
    assert "`references`: 2" in source.about and source.key != perseg.read(tmp_path, {}).key
    with pytest.raises(DataError, match="has no object with more than 9 photos"):
        perseg.read(tmp_path, {"references": "9"})


def test_perseg_names_the_file_when_a_mask_is_missing_or_of_another_size(tmp_path: Path) -> None:
    draw_perseg(tmp_path)
    labels(tmp_path / "Annotations/duck_toy/01.png", (1, 0, 0, 4, 4), size_hw=(20, 44))
    with pytest.raises(DataError, match=r"duck_toy.01\.png is 20 x 44, its image 30 x 44"):
        list(perseg.read(tmp_path, {}).queries(0))
    (tmp_path / "Annotations/cat2/01.png").unlink()
    with pytest.raises(DataError, match=r"Annotations.cat2.01\.png"):
        list(perseg.read(tmp_path, {}).queries(0))


@pytest.mark.data
def test_perseg_on_its_own_examples() -> None:
    source = perseg.read(real("perseg_examples"), {})
    rows = all_rows(source)
    golden = json.loads((real("golden") / "golden_masks.json").read_text())["perseg"]
    areas = {entry["file"]: entry["fg"] for entry in golden}
    assert len(rows) == 6 and {row.noun for row in rows} == {"cat", "sneaker", "toy"}
    for row in rows:
        name = row.source.rpartition("Images/")[2].replace(".jpg", ".png")
        assert row.mask.sum() == areas[name]
    assert not source.left_out


# --- PODS -----------------------------------------------------------------------------------------------------------


def draw_pods(root: Path) -> None:
    names = {"mugs_red": "test", "mugs_dots": "test", "mugs_val": "val", "totes_paris": "test"}
    info = {"classes": list(names), "class_to_sc": {name: name[:3] for name in names}, "class_to_split": names}
    info["class_to_sc"] = {name: "mug" if name.startswith("mug") else "tote" for name in names}
    root.mkdir(parents=True, exist_ok=True)
    (root / "pods_info.json").write_text(json.dumps(info))
    annotations = {"mugs_red/1": {"class": "mugs_red", "split": "test", "test_split": "pose"}}
    (root / "pods_image_annos.json").write_text(json.dumps(annotations))
    for n, name in enumerate(names):
        for i in range(3):
            photo(root / f"train/{name}/{i}.jpg", 100 * n + i)
            Image.fromarray(draw_box(HW, 2, 3, 20, 30)).convert("L").save(_made(root / f"train_masks/{name}/{i}.jpg"))
        for i in range(2):
            photo(root / f"test_dense/{name}/{i}.jpg", 100 * n + 50 + i)
            Image.fromarray(draw_box(HW, 4, 8, 24, 32)).convert("L").save(
                _made(root / f"test_dense_masks/{name}/{i}.jpg")
            )
        photo(root / f"test/{name}/0.jpg", 100 * n + 90)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_pods_keeps_its_own_splits_and_references(tmp_path: Path) -> None:
    draw_pods(tmp_path / "pods")
    source = pods.read(tmp_path, {})
    rows = all_rows(source)
    assert Counter((row.noun, row.split) for row in rows) == {
        ("mug", "test"): 4,
        ("mug", "validation"): 2,
        ("tote", "test"): 2,
    }
    assert {len(row.photos) for row in source.subjects()} == {3}
    assert np.array_equal(rows[0].mask, draw_box(HW, 4, 8, 24, 32)), "a mask stored as JPEG is cut at half"
    assert sum(row.source.endswith("test_dense/mugs_red/1.jpg (pose)") for row in rows) == 1
    assert source.left_out == {"test photos without a mask (test/)": 4}
    photo(tmp_path / "pods/train/mugs_new/0.jpg", 3)
    assert pods.read(tmp_path, {}).left_out["folders that pods_info.json does not name"] == 1


def test_pods_asks_for_other_objects_of_the_kind_when_told(tmp_path: Path) -> None:
    draw_pods(tmp_path)
    rows = all_rows(pods.read(tmp_path, {"absent": "5"}))
    absent = [row for row in rows if row.query_type == "absent"]
    assert len(absent) == 4, "two mugs of one split, two photos each; the tote has no other"
    source = pods.read(tmp_path, {"absent": "5"})
    assert len(list(source.queries(0))) == 12
    wanted = 5 * 8
    assert source.left_out["absent queries for which there is no other object of the kind"] == wanted - len(absent)
    for row in absent:
        assert not row.mask.any() and np.array_equal(row.look_alikes[0], draw_box(HW, 4, 8, 24, 32))
    assert ids(list(pods.read(tmp_path, {"absent": "5"}).queries(7))) == ids(rows)[7:]


def test_pods_tells_what_is_wrong_with_its_lists(tmp_path: Path) -> None:
    draw_pods(tmp_path)
    path = tmp_path / "pods_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"class_to_split": dict.fromkeys(info["classes"], "dev")}))
    with pytest.raises(
        DataError, match=r"pods_info\.json: the object 'mugs_red' has the kind 'mug' and the split 'dev'"
    ):
        pods.read(tmp_path, {})
    path.write_text("[]")
    with pytest.raises(DataError, match=r"pods_info\.json must map each object"):
        pods.read(tmp_path, {})


# --- PerVL-YouTube-VOS ----------------------------------------------------------------------------------------------

CONCEPTS = {
    "bird_aa11_1": ("an * behind a zebra.", "test"),
    "bird_aa11_2": ("* is nearest.", "test"),
    "giant_panda_bb22_1": ('an *, black and "white".', "val"),
    "zebra_aa11_3": ("the *.", "val"),
    "bird_cc33_1": ("no slot here.", "test"),
    "bird_cc33_2": ("a * that hides.", "test"),
    "bird_cc33_3": ("", None),
}


def draw_pervl(root: Path) -> None:
    entries: list[str] = []
    videos: dict[str, dict[str, dict[str, object]]] = {}
    for name, (caption, _) in CONCEPTS.items():
        noun, clip, label = name.rsplit("_", 2)
        frames = "\n".join(f"  - '{frame:05d}'" for frame in (0, 30, 60, 90))
        entries.append(
            f"{name}:\n  coarse_grained_class: {noun}\n  caption: '{caption}'\n  class_id: {name}\n  scene_id: {clip}\n"
            f"  instance_id: '{label}'\n  test_frame: '00090'\n  train_frames:\n{frames}\n"
        )
        videos.setdefault(clip, {"objects": {}})["objects"][label] = {"category": noun, "frames": []}
    notes = root / "annotations/ytvos"
    notes.mkdir(parents=True)
    (notes / "ytvos_personalization_meta.yaml").write_text("".join(entries))
    for part in ("val", "test"):
        lines = ["image_name,coarse_grained_class,caption,class_id"]
        for name, (caption, wanted) in CONCEPTS.items():
            if wanted == part:
                quoted = caption.replace('"', '""')
                lines.append(f'eval/images/{name}_00090.jpg,{name.rsplit("_", 2)[0]},"{quoted}",{name}')
        (notes / f"cleaned_captions_ytvos_{part}.csv").write_text("\n".join(lines) + "\n")
    train = root / "data/youtube_vos/train"
    for n, clip in enumerate(videos):
        for label in "123":  # what nobody captioned is listed, too
            videos[clip]["objects"].setdefault(label, {"category": "ladder", "frames": []})
        for frame in (0, 30, 60, 90):
            photo(train / f"JPEGImages/{clip}/{frame:05d}.jpg", 1000 * n + frame)
            boxes = [(label, 2, 12 * label - 10, 25, 12 * label) for label in (1, 2, 3)]
            shown = [box for box in boxes if not (clip == "cc33" and frame == 90 and box[0] == 2)]
            labels(train / f"Annotations/{clip}/{frame:05d}.png", *shown)
    (train / "meta.json").write_text(json.dumps({"videos": videos}))


def test_pervl_gives_captions_with_the_slot_and_look_alikes_of_the_same_class(tmp_path: Path) -> None:
    draw_pervl(tmp_path)
    source = perv_ytvos.read(tmp_path, {})
    rows = all_rows(source)
    assert [(row.text, row.noun, row.split, row.query_type, len(row.look_alikes)) for row in rows] == [
        ("an {subject} behind a zebra.", "bird", "test", "look-alike", 1),
        ("{subject} is nearest.", "bird", "test", "look-alike", 1),
        ('an {subject}, black and "white".', "giant panda", "validation", "other-category", 0),
    ]
    assert np.array_equal(rows[0].mask, draw_box(HW, 2, 2, 25, 12))
    assert np.array_equal(rows[0].look_alikes[0], draw_box(HW, 2, 14, 25, 24))
    assert dict(source.left_out) == {
        "concepts without a caption": 1,
        "validation concepts in clips of test concepts": 1,
        "captions without just one *": 1,
        "concepts that are hidden in their test frame": 1,
    }
    assert ids(list(perv_ytvos.read(tmp_path, {}).queries(1))) == ids(rows)[1:]


def test_pervl_learns_from_boxes_of_the_named_frames_and_never_from_a_test_frame(tmp_path: Path) -> None:
    draw_pervl(tmp_path)
    first = next(perv_ytvos.read(tmp_path, {}).subjects())
    assert [shot.shape[:2] for shot in first.photos] == [(30, 14)] * 3, "23 x 10 at (2, 2), and 5 x 2 around it"
    assert first.source.endswith("frames 00000, 00030, 00060"), "00090 is a test frame"
    near = perv_ytvos.read(tmp_path, {"apart": "31"})
    assert next(near.subjects()).source.endswith("frames 00000"), "00030 is too near, 00060 too near to 00090"
    assert near.left_out["reference photos that no frame 31 or more from the others could give"] == 2 * 4
    nearer = next(perv_ytvos.read(tmp_path, {"apart": "91"}).subjects())
    assert nearer.source.endswith("frames 00000"), "where all are too near to the test frame, they are taken"
    assert first.files == () and len(next(perv_ytvos.read(tmp_path, {"references": "1"}).subjects()).photos) == 1


def test_pervl_counts_captions_that_a_later_one_replaces(tmp_path: Path) -> None:
    draw_pervl(tmp_path)
    path = tmp_path / "annotations/ytvos/cleaned_captions_ytvos_test.csv"
    path.write_text(path.read_text() + "x.jpg,bird,the * again.,bird_aa11_2\n")
    source = perv_ytvos.read(tmp_path, {})
    assert "the {subject} again." in {row.text for row in all_rows(source)}
    assert source.left_out["captions of a concept that has another further down"] == 1


def test_pervl_tells_which_lists_do_not_fit(tmp_path: Path) -> None:
    draw_pervl(tmp_path)
    meta = tmp_path / "data/youtube_vos/train/meta.json"
    meta.write_text('{"videos": {}}')
    with pytest.raises(DataError, match=r"meta\.json do not fit together or lack a field .KeyError.'bb22'"):
        perv_ytvos.read(tmp_path, {})


def test_pervl_does_not_leave_its_folder(tmp_path: Path) -> None:
    draw_pervl(tmp_path)
    path = tmp_path / "annotations/ytvos/ytvos_personalization_meta.yaml"
    path.write_text(path.read_text().replace("'00030'", "'../../../../../secret'"))
    with pytest.raises(DataError, match=r"leaves its folder by '\.\.'"):
        perv_ytvos.read(tmp_path, {})


# --- PerMIS ---------------------------------------------------------------------------------------------------------


def runs(top: int, left: int, bottom: int, right: int) -> str:
    encoded = coco.encode(np.asfortranarray(draw_box(HW, top, left, bottom, right).astype(np.uint8)))
    return str(encoded["counts"].decode())


def draw_burst(root: Path) -> None:
    """A video of 40 frames: track 2 is in all, its look-alike 5 in the frames 0 to 38, a dog (7) in every second."""
    frames = []
    for index in range(40):
        side = {20: 12, 5: 11, 3: 10, 36: 9, 39: 18}.get(index, 5)
        tracks = {"7": (20, 30, 28, 40)} if index % 2 else {}
        tracks |= {"2": (1, 1, 1 + side, 1 + side)} | ({"5": (1, 24, 9, 30)} if index < 39 else {})
        frames.append({track: {"rle": runs(*box), "is_gt": True} for track, box in tracks.items()})
    names = [f"frame{index:04d}.jpg" for index in range(40)]
    video = {
        "id": 1, "width": HW[1], "height": HW[0], "seq_name": "v1", "dataset": "BDD", "fps": 1,
        "all_image_paths": names, "annotated_image_paths": names, "neg_category_ids": [],
        "not_exhaustive_category_ids": [], "track_category_ids": {"7": 3, "5": 8, "2": 8}, "segmentations": frames,
    }  # fmt: skip
    lonely = video | {"seq_name": "v2", "segmentations": [{"2": frame["2"]} for frame in frames]}
    barred, missing = video | {"dataset": "HACS"}, video | {"seq_name": "../../v1"}
    categories = [{"id": 3, "name": "dog"}, {"id": 8, "name": "car_(automobile)"}]
    path = root / "annotations/val/all_classes.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps({"split": "val", "categories": categories, "sequences": [barred, lonely, missing, video]})
    )
    for name in ("v1", "v2"):
        for index in (3, 20, 36):
            photo(root / f"images/val/BDD/{name}/frame{index:04d}.jpg", index)


def test_permis_chooses_track_and_frames_by_the_published_rule(tmp_path: Path) -> None:
    draw_burst(tmp_path)
    source = permis.read(tmp_path, {})
    rows = all_rows(source)
    subject = next(source.subjects())
    assert subject.noun == "car" and subject.source.endswith("v1/frame0020.jpg"), "the largest among look-alikes"
    assert [row.source.rpartition("/")[2] for row in rows] == ["frame0003.jpg", "frame0036.jpg"], "17 and 16 away"
    assert [row.query_type for row in rows] == ["look-alike"] * 2
    assert np.array_equal(rows[0].mask, draw_box(HW, 1, 1, 11, 11))
    assert np.array_equal(rows[0].look_alikes[0], draw_box(HW, 1, 24, 9, 30))
    assert dict(source.left_out) == {
        "videos of HACS, AVA, LaSOT": 1,
        "videos whose frames are not there": 1,
        "videos without three frames of one thing among its like, far apart": 1,
    }
    assert subject.photos[0].shape == (16, 16, 3), "12 x 12 at (1, 1), and 3 around it"
    assert next(permis.read(tmp_path, {"cut": "false"}).subjects()).photos[0].shape == (*HW, 3)
    assert ids(list(permis.read(tmp_path, {}).queries(1))) == ids(rows)[1:]


def test_permis_counts_videos_that_come_twice_and_look_alikes_without_a_pixel(tmp_path: Path) -> None:
    draw_burst(tmp_path)
    path = tmp_path / "annotations/val/all_classes.json"
    value = json.loads(path.read_text())
    value["sequences"].append(value["sequences"][3])
    empty = coco.encode(np.zeros(HW, np.uint8, order="F"))["counts"].decode()
    value["sequences"][3]["segmentations"][3]["5"]["rle"] = empty
    path.write_text(json.dumps(value))
    source = permis.read(tmp_path, {})
    assert [row.query_type for row in all_rows(source)] == ["other-category", "look-alike"]
    assert source.left_out["videos that come twice"] == source.left_out["look-alikes without a pixel"] == 1


def test_permis_names_the_video_whose_record_is_corrupt(tmp_path: Path) -> None:
    draw_burst(tmp_path)
    path = tmp_path / "annotations/val/all_classes.json"
    value = json.loads(path.read_text())
    value["sequences"][3]["segmentations"][20]["2"]["rle"] = "~~~"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"all_classes\.json: BDD/v1 frame 20: the RLE's runs do not add up"):
        permis.read(tmp_path, {})
    del value["sequences"][3]["segmentations"]
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=r"BDD/v1 is not as BURST's ANNOTATION_FORMAT\.md says .KeyError"):
        permis.read(tmp_path, {})


# --- YCB-Video ------------------------------------------------------------------------------------------------------

BOX, TIN, TUNA, MUG, CRACKER = "004_sugar_box", "010_potted_meat_can", "007_tuna_fish_can", "025_mug", "003_cracker_box"


def draw_ycb(root: Path, frames: Sequence[int] = (1, 2, 3)) -> None:
    scenes = {"0001": (BOX, CRACKER), "0002": (TIN,), "0048": (BOX, TIN, TUNA), "0049": (CRACKER, MUG)}
    numbers = {name: label for label, name in enumerate(ycb_video.NOUNS, 1)}
    for scene, names in scenes.items():
        for frame in frames:
            stem = root / f"data/{scene}/{frame:06d}"
            photo(stem.with_name(f"{stem.name}-color.png"), 100 * int(scene) + frame)
            shown = names[1:] if (scene, frame) == ("0048", 3) else names
            boxes = [(numbers[name], 3, 14 * names.index(name) + 1, 20, 14 * names.index(name) + 12) for name in shown]
            labels(stem.with_name(f"{stem.name}-label.png"), *boxes)
            lines = [f"{name} 1.00 2.00 3.00 4.00" for name in names]
            stem.with_name(f"{stem.name}-box.txt").write_text("\n".join(lines) + "\n")


def test_ycb_learns_in_some_scenes_and_asks_in_others(tmp_path: Path) -> None:
    draw_ycb(tmp_path)
    source = ycb_video.read(tmp_path, {"absent": "0"})
    rows = all_rows(source)
    asked = Counter((row.noun, row.source.split("/")[-2][-4:], row.query_type) for row in rows)
    assert asked == {
        ("box", "0048", "other-category"): 2,
        ("can", "0048", "look-alike"): 3,
        ("box", "0049", "other-category"): 3,
    }
    subjects = list(source.subjects())
    assert [row.source.rpartition(" ")[2] for row in subjects] == ["0001/000001", "0001/000001", "0002/000001"]
    assert subjects[0].photos[0].shape[:2] == (3 + 17 + 4, 2 + 11 + 2), "17 x 11 at (3, 15), and a quarter around"
    assert dict(source.left_out) == {
        "objects that are only in scenes of one kind": 2,
        "objects hidden in a frame, or showing less than a thousandth of it": 1,
        "reference photos that no frame 30 or more from the others could give": 9,
    }
    assert ids(list(ycb_video.read(tmp_path, {"absent": "0"}).queries(4))) == ids(rows)[4:]


def test_ycb_asks_for_objects_that_are_not_in_the_scene(tmp_path: Path) -> None:
    draw_ycb(tmp_path)
    absent = [row for row in all_rows(ycb_video.read(tmp_path, {})) if row.query_type == "absent"]
    assert len(absent) == 6, "one a frame"
    source = ycb_video.read(tmp_path, {"absent": "3", "step": "2"})
    asked = Counter(row.query_type == "absent" for row in source.queries(0))
    assert asked[True] == 2 * (3 - 2) + 2 * (3 - 1), "of three objects two are in scene 0048 and one in 0049"
    assert source.left_out["absent queries for which there is no object"] == 2 * 2 + 2 * 1
    assert source.left_out["frames that keyframe.txt or step passes over"] == 2
    for row in absent:
        assert not row.mask.any()
        assert {mask.sum() for mask in row.look_alikes} <= {17 * 11}
        assert {thing.role for thing in row.all_things} <= {"look-alike", "other"} and row.meant_thing is None


def test_ycb_and_davis_know_the_other_things_of_a_scene(tmp_path: Path) -> None:
    draw_ycb(tmp_path / "ycb")
    rows = all_rows(ycb_video.read(tmp_path / "ycb", {"absent": "0"}))
    found = Counter(tuple((thing.role, thing.noun) for thing in row.all_things) for row in rows)
    assert found[("subject", "box"), ("other", "can"), ("other", "can")] == 2
    assert found[("subject", "can"), ("look-alike", "can"), ("other", "box")] == 2, "hidden in the third"
    draw_davis(tmp_path / "davis", 2017, {"boxing": 3})
    nouns = {"boxing": {"1": "person", "2": "person", "3": "ball"}}
    (tmp_path / "davis" / "davis_semantics.json").write_text(json.dumps(nouns))
    rows = all_rows(davis.read(tmp_path / "davis", {"allow_same_clip": "true"}))
    found = Counter(tuple((thing.role, thing.noun) for thing in row.all_things) for row in rows)
    assert found[("subject", "ball"), ("other", "person"), ("other", "person")] >= 2
    for row in rows:
        check_query(row)
        assert row.meant_thing == 0 and np.array_equal(row.all_things[0].mask, row.mask)


def test_ycb_takes_keyframes_steps_and_other_scenes(tmp_path: Path) -> None:
    draw_ycb(tmp_path)
    (tmp_path / "image_sets").mkdir()
    (tmp_path / "image_sets/keyframe.txt").write_text("0048/000002\n0049/000001\n")
    rows = all_rows(ycb_video.read(tmp_path, {"absent": "0"}))
    assert {row.source.rpartition(" ")[2] for row in rows} == {"0048/000002-color.png", "0049/000001-color.png"}
    (tmp_path / "image_sets/keyframe.txt").unlink()
    rows = all_rows(ycb_video.read(tmp_path, {"absent": "0", "scenes": "0000-0001", "step": "2"}))
    assert {row.source.rpartition(" ")[2] for row in rows} == {"0001/000001-color.png", "0001/000003-color.png"}
    learned = ycb_video.read(tmp_path, {"scenes": "0000-0001"}).subjects()
    assert [row.source.rpartition(" ")[2] for row in learned] == ["0049/000001", "0048/000001"]
    with pytest.raises(UsageError, match="scenes='48': give scenes of four digits"):
        ycb_video.read(tmp_path, {"scenes": "48"})
    with pytest.raises(DataError, match="no object is both in a scene to learn from and in one to ask about"):
        ycb_video.read(tmp_path, {"scenes": "0090"})


def test_ycb_spreads_photos_over_scenes_and_over_their_frames(tmp_path: Path) -> None:
    numbers = (1, 7, 20, 31, 60, 61, 90, 91, 92)
    draw_ycb(tmp_path, numbers)
    (tmp_path / "data/0000").mkdir()
    for number in numbers:  # a copy of scene 0001 in which the sugar box is hidden after the first frame
        for part in ("color.png", "label.png", "box.txt"):
            name = f"{number:06d}-{part}"
            (tmp_path / "data/0000" / name).write_bytes((tmp_path / "data/0001" / name).read_bytes())
        photo(tmp_path / f"data/0000/{number:06d}-color.png", 7000 + number)
        if number > 1:
            labels(
                tmp_path / f"data/0000/{number:06d}-label.png",
                (sorted(ycb_video.NOUNS).index(CRACKER) + 1, 3, 15, 20, 26),
            )
    wanted = {
        "4": [
            "0000/000001, 0001/000001, 0001/000031, 0001/000091",
            "0000/000001, 0000/000091, 0001/000001, 0001/000091",
        ],
        "2": ["0000/000001, 0001/000001", "0000/000001, 0001/000001"],
        "1": ["0000/000001", "0000/000001"],
    }
    for references, places in wanted.items():
        subjects = list(ycb_video.read(tmp_path, {"references": references}).subjects())
        found = {row.source.split(" ")[1]: row.source.partition(" in ")[2] for row in subjects}
        assert [found[BOX], found[CRACKER]] == places
    source = ycb_video.read(tmp_path, {"references": "9", "apart": "60"})
    assert [len(row.photos) for row in source.subjects()] == [4, 3, 2]
    assert source.left_out["reference photos that no frame 60 or more from the others could give"] == 27 - 9
    for part in ("color", "label"):
        (tmp_path / f"data/0000/000001-{part}.png").rename(tmp_path / f"data/0000/a-{part}.png")
    with pytest.raises(DataError, match=r"a-color.png is no frame of YCB-Video: its name must be a number"):
        all_rows(ycb_video.read(tmp_path, {}))


def test_ycb_tells_an_unknown_object_with_the_nearest_name(tmp_path: Path) -> None:
    draw_ycb(tmp_path)
    (tmp_path / "data/0002/000001-box.txt").write_text("010_potted_meat_cam 1 2 3 4\n")
    with pytest.raises(DataError, match=r"000001-box\.txt: unknown object .* did you mean '010_potted_meat_can'"):
        ycb_video.read(tmp_path, {})


@pytest.mark.data
def test_ycb_on_real_scenes_learns_and_asks_in_different_ones() -> None:
    source = ycb_video.read(real("ycb_video"), {"step": "3"})
    rows = all_rows(source)
    golden = json.loads((real("golden") / "golden_masks.json").read_text())["ycb_objects"]
    areas = {(f"{entry['seq']}/{entry['frame']}", entry["area"]) for entry in golden}
    learned = [row.source.rpartition(" in ")[2] for row in source.subjects()]
    one, both = "0001/000001", "0001/000001, 0002/000001"
    assert sorted(learned) == [one, one, both, "0002/000001", "0002/000001"], "20 frames show one view of a scene"
    there = [row for row in rows if row.query_type != "absent"]
    assert {row.source.split("/")[-2].rpartition(" ")[2] for row in rows} == {"0049", "0050"}
    assert Counter(row.query_type for row in rows) == {"other-category": 8, "look-alike": 2, "absent": 4}
    assert {(row.source.rpartition(" ")[2].removesuffix("-color.png"), int(row.mask.sum())) for row in there} <= areas


# --- DAVIS ----------------------------------------------------------------------------------------------------------


def draw_davis(root: Path, year: int, clips: dict[str, int]) -> None:
    for n, (clip, things) in enumerate(clips.items()):
        for frame in range(4):
            photo(root / f"JPEGImages/480p/{clip}/{frame:05d}.jpg", 100 * n + frame)
            boxes = [(label, 2, 14 * label - 12 + frame, 25, 14 * label - 2) for label in range(1, things + 1)]
            path = root / f"Annotations/480p/{clip}/{frame:05d}.png"
            if year == 2016:
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw_box(HW, *boxes[0][1:]).astype(np.uint8) * 255).save(path)
            else:
                labels(path, *(box for box in boxes if (frame, box[0]) != (2, 1)), (255, 28, 0, 30, 44))


def test_davis_is_not_built_unless_the_same_clip_is_allowed(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2016, {"car-shadow": 1})
    with pytest.raises(UsageError, match="tested in the scene it was learned in; say allow_same_clip=true"):
        davis.read(tmp_path, {})
    source = davis.read(tmp_path, {"allow_same_clip": "true"})
    assert "Reference and queries come from the same clip" in source.about


def test_davis_2016_takes_one_thing_a_clip_from_its_first_frame(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2016, {"car-shadow": 1, "boat": 1})
    (tmp_path / "ImageSets/480p").mkdir(parents=True)
    lines = [f"/JPEGImages/480p/boat/{i:05d}.jpg /Annotations/480p/boat/{i:05d}.png" for i in range(4)]
    (tmp_path / "ImageSets/480p/val.txt").write_text("\n".join(lines) + "\n")
    source = davis.read(tmp_path, {"allow_same_clip": "true", "step": "2"})
    rows = all_rows(source)
    assert source.name == "davis-2016"
    assert [(row.noun, row.source.rpartition("/")[2]) for row in rows] == [
        ("boat", "00001.jpg"), ("boat", "00003.jpg"), ("car shadow", "00001.jpg"), ("car shadow", "00003.jpg"),
    ]  # fmt: skip
    assert np.array_equal(rows[0].mask, draw_box(HW, 2, 3, 25, 12)) and {row.query_type for row in rows} == {"plain"}
    whole = davis.read(tmp_path, {"allow_same_clip": "true", "clips": "480p/val", "cut": "false"})
    assert {row.noun for row in all_rows(whole)} == {"boat"}
    assert next(whole.subjects()).files == ((tmp_path / "JPEGImages/480p/boat/00000.jpg").read_bytes(),)


def test_davis_2017_takes_every_thing_and_its_look_alikes_by_noun(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2017, {"boxing": 3, "bear": 1})
    nouns = {"boxing": {"1": "person", "2": "person", "3": "ball"}, "bear": {"1": "bear"}}
    (tmp_path / "davis_semantics.json").write_text(json.dumps(nouns))
    source = davis.read(tmp_path, {"allow_same_clip": "true"})
    rows = all_rows(source)
    kinds = Counter((row.noun, row.query_type, len(row.look_alikes)) for row in rows)
    assert kinds == {
        ("bear", "plain", 0): 2,
        ("person", "look-alike", 1): 4,
        ("person", "other-category", 0): 1,
        ("ball", "other-category", 0): 3,
    }
    assert source.name == "davis-2017" and source.left_out["things without a pixel in a frame"] == 2
    assert ids(list(davis.read(tmp_path, {"allow_same_clip": "true"}).queries(5))) == ids(rows)[5:]
    whole = davis.read(tmp_path, {"allow_same_clip": "true", "cut": "false"})
    assert Counter((row.noun, row.query_type) for row in all_rows(whole)) == {
        ("bear", "plain"): 2,
        ("ball", "other-category"): 3,
    }
    assert whole.left_out["things of one noun in one frame, which is no photo of either (cut=false)"] == 2
    merged = all_rows(davis.read(tmp_path, {"allow_same_clip": "true", "year": "2016"}))
    assert {row.noun for row in merged} == {"bear", "person and ball"}


def test_davis_does_not_ask_right_after_the_reference_photo_where_a_clip_is_long_enough(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2016, {"boat": 1})
    for distance, frames in (("1", [1, 2, 3]), ("2", [2, 3]), ("3", [3]), ("4", [1, 2, 3])):
        source = davis.read(tmp_path, {"allow_same_clip": "true", "apart": distance})
        assert [row.source[-9:] for row in all_rows(source)] == [f"{frame:05d}.jpg" for frame in frames]
        near = {f"frames less than {distance} after the reference photo": 3 - len(frames)} if len(frames) < 3 else {}
        assert source.left_out == near


def test_davis_takes_a_thing_that_comes_later_for_what_it_is_and_counts_it(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2017, {"boxing": 2})
    nouns = {"boxing": {"1": "person", "2": "ball", "3": "person"}}
    (tmp_path / "davis_semantics.json").write_text(json.dumps(nouns))
    labels(tmp_path / "Annotations/480p/boxing/00003.png", (1, 2, 2, 25, 12), (3, 2, 30, 25, 40))
    source = davis.read(tmp_path, {"allow_same_clip": "true"})
    rows = [row for row in all_rows(source) if row.noun == "person"]
    assert [(row.source[-9:], row.query_type, len(row.look_alikes)) for row in rows] == [
        ("00001.jpg", "other-category", 0),
        ("00003.jpg", "look-alike", 1),
    ]
    assert source.left_out["things that the first frame of their clip does not show"] == 1


def test_davis_does_not_guess_what_several_things_are(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2017, {"boxing": 2})
    options = {"allow_same_clip": "true", "year": "2017"}
    with pytest.raises(DataError, match=r"the clip 'boxing' has 2 things and davis_semantics\.json does not say"):
        davis.read(tmp_path, options)
    (tmp_path / "davis_semantics.json").write_text('{"boxing": {"1": "person"}}')
    with pytest.raises(DataError, match="the clip 'boxing' has no noun for its thing 2"):
        davis.read(tmp_path, options)
    with pytest.raises(UsageError, match="year='17': give 2016 or 2017"):
        davis.read(tmp_path, {"allow_same_clip": "true", "year": "17"})


def test_a_label_of_davis_that_nobody_listed_is_no_background(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2017, {"bear": 1})
    (tmp_path / "davis_semantics.json").write_text('{"bear": {"1": "bear"}}')
    labels(tmp_path / "Annotations/480p/bear/00003.png", (1, 2, 2, 25, 12), (2, 5, 20, 9, 25))
    message = r"DAVIS: .*bear/00003\.png has the label 2 \(20 px\); there are only 0, 1, 255$"
    with pytest.raises(DataError, match=message):
        all_rows(davis.read(tmp_path, {"allow_same_clip": "true"}))


def test_davis_counts_frames_and_clips_without_masks(tmp_path: Path) -> None:
    draw_davis(tmp_path, 2016, {"boat": 1})
    photo(tmp_path / "JPEGImages/480p/boat/00004.jpg", 77)
    photo(tmp_path / "JPEGImages/480p/hidden/00000.jpg", 78)
    source = davis.read(tmp_path, {"allow_same_clip": "true"})
    assert source.left_out == {"frames without a mask": 2, "clips without two frames that have a mask": 1}


# --- written --------------------------------------------------------------------------------------------------------


def test_a_tree_is_written_and_opened_again(tmp_path: Path) -> None:
    draw_pervl(tmp_path / "set")
    source = perv_ytvos.read(tmp_path / "set", {})
    manifest = build(tmp_path / "out", source)
    assert manifest.id == "perv-ytvos-v2" and manifest.queries == {
        "validation": {"other-category": 1},
        "test": {"look-alike": 2},
    }
    examples = list(open_dataset(tmp_path / "out").examples("test"))
    assert sorted(example.query.text for example in examples) == [
        "an {subject} behind a zebra.",
        "{subject} is nearest.",
    ]
    assert (tmp_path / "out/README.md").read_text().count("one clip, as published") == 1
