"""Masks that cannot be right: 0 and 255, palettes numbered anew, labels shifted or scaled; and those that can be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from typer.testing import CliRunner

from prisbench.cli.wsss import app
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import DataError
from prisbench.wsss import coco, label_checks, palettes, scoring
from prisbench.wsss.evaluate import sweep
from prisbench.wsss.label_checks import CheckedMasks
from prisbench.wsss.labelling import label
from prisbench.wsss.labels import MaskFile, read_mask, read_mask_file, voc_palette, write_mask
from prisbench.wsss.layouts import COCO14, COCO_CLASSES, VOC12, VOC_CLASSES, VOID
from prisbench.wsss.maps import SoftMap, write_soft_map
from prisbench.wsss.mask_faults import interpolated, is_solid
from prisbench.wsss.mask_job import Job
from prisbench.wsss.mask_settings import PRESETS, PseudoMaskSettings, changed, settings_for
from prisbench.wsss.predict import PredictSettings, class_probabilities
from prisbench.wsss.pseudo_masks import make
from prisbench.wsss.samples import samples_of
from prisbench.wsss.scoring import Judged, PredictedVoid
from prisbench.wsss.sets import Item, SegmentationSet, open_set
from tests.drawing import draw_box, draw_scene
from tests.test_wsss_data import instances, write_instances

SIZE = (24, 36)
MUG = draw_box(SIZE, 6, 8, 18, 22)
NAMES = ("background", "mug", "bowl")
COLOURS = np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)
Save = Callable[[Path, int], object]


def grey(labels: np.ndarray) -> Image.Image:
    return Image.fromarray(labels.astype(np.uint8))


def painted(labels: np.ndarray, colours: np.ndarray = COLOURS) -> Image.Image:
    """As a photo of the labels: RGB."""
    return Image.fromarray(colours[labels.astype(np.uint8)])


def indexed(labels: np.ndarray, *colours: tuple[int, int, int]) -> Image.Image:
    image = grey(labels)
    image.putpalette([n for colour in colours for n in colour])
    return image


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Writes a set of four photos of a mug with the masks that a function saves, and perfect predictions."""

    def drawn(save: Save | None = None, names: tuple[str, ...] = NAMES[:2], labels: np.ndarray = MUG) -> Path:
        root = tmp_path / "set"
        for folder in ("JPEGImages", "ImageSets/Segmentation", "SegmentationClass"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "classes.txt").write_text("".join(f"{name}\n" for name in names))
        (root / "ImageSets/Segmentation/val.txt").write_text("".join(f"{n}\n" for n in range(4)))
        for n in range(4):
            Image.fromarray(draw_scene(n, SIZE)).save(root / f"JPEGImages/{n}.png")
            path = root / f"SegmentationClass/{n}.png"
            if save is None:
                grey(labels).save(path)
            else:
                save(path, n)
            write_mask(tmp_path / f"pred/{n}.png", labels.astype(np.uint8))
        return root

    return drawn


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def wrong(root: Path) -> list[str]:
    """What ``check --full`` finds; it is usable when that is nothing."""
    answer = run("check", root, "--full", "--format", "json")
    (report,) = json.loads(answer.stdout)
    assert (answer.exit_code == 0) == report["usable"] == (not report["wrong"])
    return list(report["wrong"])


def evaluate(root: Path, *more: object) -> dict[str, Any]:
    answer = run("evaluate", "--dataset", root, "--pred", root.parent / "pred", "--format", "json", *more)
    if answer.exception is not None:
        raise answer.exception
    return dict(json.loads(answer.stdout))


# --- 0 and 255 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("backbone") / "tiny"))


def plain(backbone: Backbone, found: SegmentationSet) -> PseudoMaskSettings:
    return changed(settings_for(backbone, found), samples=1, refine="none")


def test_masks_of_0_and_255_are_an_error_in_every_command(
    draw: Callable[..., Path], backbone: Backbone, tmp_path: Path
) -> None:
    root = draw(lambda path, n: grey(MUG * 255).save(path))
    found = open_set(str(root))
    first, whole = wrong(root)
    assert "0.png holds 255 (void) on 19.4% of its pixels, and no class: masks saved as 0 and 255?" in first
    assert first.endswith("(and 3 more like it)")
    assert "none of the 4 masks of val holds a class (mug (1)); they hold 0 on 80.6%, 255 (void) on 19.4%" in whole
    words = r"0\.png holds 255 \(void\) on 19\.4% of its pixels, and no class: masks saved as 0 and 255\?"
    with pytest.raises(DataError, match=words):
        evaluate(root)
    with pytest.raises(DataError, match=words):
        sweep(found, "val", _soft(tmp_path / "maps"))
    with pytest.raises(DataError, match=words):
        samples_of(found, "val")
    with pytest.raises(DataError, match=words):
        make(backbone, Job(found, "val", tmp_path / "out"), plain(backbone, found))
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"none of the 4 masks in .*SegmentationClass holds a class \(mug \(1\)\)"):
        samples_of(found, "val", root / "SegmentationClass")


def _soft(folder: Path) -> Path:
    for n in range(4):
        write_soft_map(folder / f"{n}.safetensors", SoftMap((1,), np.zeros((1, *SIZE), np.float16)))
    return folder


def test_one_mask_of_0_and_255_among_others_is_found(draw: Callable[..., Path]) -> None:
    root = draw(lambda path, n: grey(MUG * (255 if n == 2 else 1)).save(path))
    (line,) = wrong(root)
    assert "/2.png holds 255 (void)" in line and "more like it" not in line
    with pytest.raises(DataError, match=r"/2\.png holds 255 \(void\)"):
        evaluate(root)
    with pytest.raises(DataError, match=r"/2\.png holds 255 \(void\)"):
        samples_of(open_set(str(root)), "val")


def test_masks_of_0_and_1_with_a_void_border_are_right(draw: Callable[..., Path]) -> None:
    border = draw_box(SIZE, 5, 7, 19, 23)
    root = draw(lambda path, n: write_mask(path, np.where(MUG, 1, border * 255).astype(np.uint8)))
    assert wrong(root) == []
    record = evaluate(root)
    assert (record["miou"], record["n_classes"], record["notes"]) == (1.0, 2, [])
    assert record["true_void_share"] == (14 * 16 - 12 * 14) / (24 * 36)


def test_void_without_a_class_is_right_where_it_is_thin_or_the_set_is_cocos(tmp_path: Path) -> None:
    frame = ~draw_box(SIZE, 2, 2, 22, 34)
    crowd = draw_box(SIZE, 2, 2, 12, 14)
    for layout, region, fault in ((VOC12, frame, False), (VOC12, crowd, True), (COCO14, crowd, False)):
        found = SegmentationSet(layout.name, tmp_path, "", "", layout.classes, layout)
        path = write_mask(tmp_path / "m.png", np.where(region, 255, 0).astype(np.uint8))
        checked = CheckedMasks(found, "masks")
        item = Item("m", path, path, "list line 1")
        findings = checked.count(path, item, read_mask_file(path, len(layout.classes)))
        assert [each.kind for each in findings] == ["void"] * fault
        assert checked.counts.void_alone == [str(path)] * (not fault)
    assert "255 (void) and no class, the first is" in _share(1, 50) and _share(1, 200) == ""


def _share(alone: int, masks: int) -> str:
    """The fault of a set of COCO's of which some masks hold void alone; "" without one."""
    found = SegmentationSet("coco14", Path(), "", "", COCO_CLASSES, COCO14)
    counts = label_checks.LabelCounts(found, "masks")
    for _ in range(masks):
        counts.add(_mask(MUG * 3))
    counts.void_alone += ["x.png"] * alone
    return "".join(counts.faults())


def _mask(labels: np.ndarray) -> MaskFile:
    labels = labels.astype(np.uint8)
    return MaskFile(labels, np.bincount(labels.ravel(), minlength=256), None)


def test_the_annotation_of_an_image_says_which_class_the_void_is(tmp_path: Path) -> None:
    home = tmp_path / "VOC2012"
    (home / "Annotations").mkdir(parents=True)
    thin = np.zeros(SIZE, np.uint8)
    thin[3] = 255
    write_mask(home / "SegmentationClass/a.png", thin)
    found = SegmentationSet("voc12", home, "", "", VOC_CLASSES, VOC12)
    item = Item("a", home / "a.jpg", home / "SegmentationClass/a.png", "list line 1")

    def read(*objects: tuple[str, int], text: str = "") -> None:
        lines = [f"<object><name>{n}</name><difficult>{d}</difficult></object>" for n, d in objects]
        (home / "Annotations/a.xml").write_text(text or f"<annotation>{''.join(lines)}</annotation>")
        CheckedMasks(found, "masks").read(item.mask, item)

    read(("bottle", 1), ("teapot", 0))  # difficult objects are void in VOC; a teapot is no class
    with pytest.raises(DataError, match=r"a\.png holds 255 .* and no class, and its annotation lists bottle, person:"):
        read(("person", 0), ("bottle", 0), ("sofa", 1))
    with pytest.raises(DataError, match=r"a\.xml is not XML"):
        read(text="<annotation>")
    with pytest.raises(DataError, match=r"a\.xml defines entities"):
        read(text="<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>")


def test_predictions_of_0_and_255_have_no_score_however_void_counts(draw: Callable[..., Path]) -> None:
    root = draw()
    for n in range(4):
        grey(MUG * 255).save(root.parent / f"pred/{n}.png")
    words = (
        r"pred/0\.png leaves 168 pixels void \(255\) that have a true label; it holds no class: masks saved as 0 and"
    )
    with pytest.raises(DataError, match=words):
        evaluate(root)
    for void in ("ignore", "background"):
        with pytest.raises(
            DataError, match=r"none of the 4 masks in .*pred holds a class \(mug \(1\)\); they hold 0 on"
        ):
            evaluate(root, "--void", void)


def test_a_void_that_swallows_most_of_a_set_is_told_loudly(draw: Callable[..., Path]) -> None:
    labels = np.full(SIZE, 255)
    labels[:10] = MUG[:10]
    root = draw(lambda path, n: grey(labels).save(path))
    record = evaluate(root)
    assert record["true_void_share"] == 14 / 24 and record["miou"] == 1.0
    assert record["notes"] == ["MORE THAN HALF of the pixels of the true masks of val are void (255): 58.3%"]
    table = run("evaluate", "--dataset", root, "--pred", root.parent / "pred").stdout
    assert "- mIoU over 2 of 2 classes and 4 images" in table and "- MORE THAN HALF of the pixels of the true" in table
    assert "note: MORE THAN HALF of the pixels of the masks of val are void (255): 58.3%" in run("check", root).stdout


def test_a_class_that_is_void_in_the_truth_is_told(draw: Callable[..., Path]) -> None:
    bowl = draw_box(SIZE, 4, 26, 20, 34)
    root = draw(lambda path, n: grey(np.where(bowl, 255, MUG)).save(path), NAMES, np.where(bowl, 2, MUG))
    record = evaluate(root)
    assert (record["n_classes"], record["classes"][2]["iou"]) == (2, None)
    absent, void = record["notes"]
    assert absent == (
        "bowl (2) is in none of the 4 true masks of val, and 255 (void) fills whole regions in 4 of them: saved as 255?"
    )
    assert void.startswith("512 of the 512 pixels that are predicted to be bowl (2) are void in the truth")


# --- no class, shifted labels ---------------------------------------------------------------------------------------


def test_labels_that_never_hold_a_class_are_an_error(
    draw: Callable[..., Path], backbone: Backbone, tmp_path: Path
) -> None:
    root = draw(lambda path, n: grey(MUG * 0).save(path), NAMES)
    line = (
        r"none of the 4 {}masks of val holds a class \(mug \(1\) and bowl \(2\)\); they hold 0 on 100\.0% of the pixels"
    )
    (found,) = wrong(root)
    assert found.startswith("none of the 4 masks of val holds a class (mug (1) and bowl (2))")
    with pytest.raises(DataError, match=line.format("true ")):
        evaluate(root)
    with pytest.raises(DataError, match=line.format("true ")):
        samples_of(open_set(str(root)), "val")
    with pytest.raises(DataError, match=line.format("true ")):
        sweep(open_set(str(root)), "val", _soft(tmp_path / "maps"))
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({str(n): [] for n in range(4)}))
    job = Job(open_set(str(root)), "val", tmp_path / "out", labels)
    with pytest.raises(DataError, match=r"labels\.json gives none of the 4 images of val a class"):
        make(backbone, job, plain(backbone, job.dataset))


def test_a_class_that_a_small_split_lacks_is_a_note(draw: Callable[..., Path]) -> None:
    root = draw(None, NAMES)
    assert wrong(root) == []
    assert "note: bowl (2) is in none of the 4 masks of val\n" in run("check", root, "--full").stdout
    record = evaluate(root)
    assert record["notes"] == ["bowl (2) is in none of the 4 true masks of val"]
    assert (record["miou"], record["n_classes"], record["n_undefined"], record["classes"][2]["iou"]) == (1, 2, 1, None)


def test_when_a_few_masks_show_no_class_more_are_read(draw: Callable[..., Path], monkeypatch: Any) -> None:
    monkeypatch.setattr(label_checks, "SOME", 1)
    monkeypatch.setattr("prisbench.wsss.check.SOME", 1)
    root = draw(lambda path, n: grey(MUG * (n == 2)).save(path))
    answer = run("check", root)
    assert answer.exit_code == 0 and "3 masks read, 0 things wrong" in answer.stdout
    assert len(samples_of(open_set(str(root)), "val")) == 4


@pytest.mark.parametrize("void_rows", [0, 2])
def test_labels_counted_from_1_are_found_by_a_background_that_is_nowhere(
    draw: Callable[..., Path], void_rows: int
) -> None:
    shifted = MUG + 1
    shifted[:void_rows] = 0
    root = draw(lambda path, n: grey(shifted).save(path), NAMES)
    words = (
        r"in the 4 true masks of val 0 \(background\) is (nowhere|only thin lines); they hold mug \(1\) on \d\d\.\d%"
    )
    with pytest.raises(DataError, match=words):
        evaluate(root)
    assert len(wrong(root)) == 1


def test_photos_full_of_things_need_no_background(draw: Callable[..., Path]) -> None:
    halves = np.where(np.arange(36) < 18, 1, 2) * np.ones(SIZE, int)
    root = draw(lambda path, n: grey(halves if n % 2 else halves[:, ::-1]).save(path), (*NAMES, "plate"))
    assert wrong(root) == []
    assert "note: 0 (background) is in none of the 4 masks of val" in run("check", root, "--full").stdout


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (grey(MUG * 128), r"label 128 on 168 pixels; .*; save the number of the class instead of 128"),
        (grey(MUG + 1), r"label 2 on 168 pixels; .*; labels counted from 1\? background is 0, the first class 1"),
        (painted(MUG).convert("L"), r"label 38 on 168 pixels; .*; brightness of VOC's colours \(convert\(\"L\"\)\)\?"),
        (painted(MUG), r"has mode RGB; a mask is a PNG of mode P or L"),
        (Image.fromarray(MUG.astype(np.uint16)), r"has mode I;16; a mask is a PNG of mode P or L"),
        (Image.fromarray(MUG), r"has mode 1; a mask is a PNG of mode P or L"),
    ],
    ids=["0/128", "from 1", "brightness", "RGB", "16 bits", "1 bit"],
)
def test_other_ways_to_save_a_mask_are_refused_with_the_cure(tmp_path: Path, image: Image.Image, words: str) -> None:
    image.save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png .*" + words):
        read_mask(tmp_path / "m.png", 2)


def test_cocos_ids_with_their_gaps_are_found(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", (MUG * 84).astype(np.uint8))
    with pytest.raises(DataError, match=r"label 84 on 168 pixels; .*COCO's category ids, 1\.\.90 with gaps\?"):
        read_mask(tmp_path / "m.png", 81)
    found = SegmentationSet("coco14", tmp_path, "", "", COCO_CLASSES, COCO14)
    for labels, fault in ((coco.CATEGORY_IDS, True), (tuple(range(1, 81)), False), (coco.CATEGORY_IDS[:40], False)):
        counts = label_checks.LabelCounts(found, "masks of val")
        for one in (each for each in labels if each <= 80):
            counts.add(_mask(MUG * one))
        assert any("saved with the ids' gaps?" in each for each in counts.faults()) == fault


def test_instances_that_give_no_class_are_counted_or_refused(tmp_path: Path) -> None:
    record = instances()
    for each in record["annotations"]:
        if each["image_id"] == 30:
            each["segmentation"] = [[3.0, 3.0, 6.0, 6.0]]
    built = coco.build_masks(write_instances(tmp_path, record), tmp_path / "a")
    assert (built.written, built.empty) == (2, 1)
    record["annotations"] = []
    with pytest.raises(
        DataError, match=r"instances_train2014\.json has 3 images and no annotation, so there is no mask"
    ):
        coco.build_masks(write_instances(tmp_path, record), tmp_path / "b")
    assert not (tmp_path / "b").exists()


# --- palettes -------------------------------------------------------------------------------------------------------


def test_a_prediction_that_was_quantized_is_refused_with_the_colour_that_tells(draw: Callable[..., Path]) -> None:
    root = draw(None, (*NAMES, "plate"), MUG * 2)
    assert evaluate(root)["miou"] == 1.0
    for again in (
        lambda image: image.quantize(8),
        lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE, colors=8),
    ):
        for n in range(4):
            again(painted(MUG * 2)).save(root.parent / f"pred/{n}.png")
        with pytest.raises(
            DataError, match=r"pred/0\.png shows label \d in .*: its palette was numbered anew; save the"
        ):
            evaluate(root)


@pytest.mark.parametrize(
    ("labels", "colours", "words"),
    [
        (MUG, [(128, 0, 0), (0, 0, 0)], r"shows label 0 in \(128, 0, 0\), VOC's colour of label 1"),
        (MUG, [(0, 0, 0), (0, 128, 0)], r"shows label 1 in \(0, 128, 0\), VOC's colour of label 2"),
        (MUG, [(0, 0, 0), (224, 224, 192)], r"shows label 1 in \(224, 224, 192\), VOC's colour of void"),
        (MUG, [(255, 255, 255), (0, 0, 0)], r"shows label 1 in black and 0 in \(255, 255, 255\)"),
        (MUG, [(250, 0, 0), (3, 0, 0)], r"shows label 1 in \(3, 0, 0\), VOC's colour of the background"),
    ],
)  # fmt: skip
def test_colours_that_contradict_the_labels_are_named(
    tmp_path: Path, labels: np.ndarray, colours: list[tuple[int, int, int]], words: str
) -> None:
    indexed(labels, *colours).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png " + words):
        read_mask(tmp_path / "m.png", 3)


@pytest.mark.parametrize(
    "colours",
    [
        [(0, 0, 0), (255, 0, 0), (0, 255, 0)],
        [(n, n, n) for n in range(256)],
        [tuple(each) for each in COLOURS[:21].tolist()],  # the rest is black, as void then is
        [(0, 0, 0), (192, 128, 128), (64, 0, 0)],  # VOC's colours of classes that this set has not
    ],
    ids=["own", "grey ramp", "short", "other classes"],
)
def test_colours_that_say_nothing_are_accepted(tmp_path: Path, colours: list[tuple[int, int, int]]) -> None:
    labels = np.where(MUG, 1, 0)
    labels[0], labels[-1] = 255 if len(colours) > 16 else 0, 2  # of few colours, Pillow writes few bits
    indexed(labels, *colours).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", 3), labels)
    indexed(labels, *colours).save(tmp_path / "small.png", optimize=True)
    np.testing.assert_array_equal(read_mask(tmp_path / "small.png", 3), labels)


def test_the_web_palette_of_pillow_is_known(tmp_path: Path) -> None:
    painted(MUG).convert("P", dither=Image.Dither.NONE).save(tmp_path / "m.png")
    assert set(np.unique(np.array(Image.open(tmp_path / "m.png"))).tolist()) < set(range(21)), "labels of VOC"
    with pytest.raises(
        DataError, match=r"m\.png has the web palette of Pillow's convert\(\"P\"\), which knows no labels"
    ):
        read_mask(tmp_path / "m.png", 21)


def test_masks_of_a_set_share_one_palette(draw: Callable[..., Path]) -> None:
    own = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
    swapped = [own[0], own[2], own[1]]

    def save(path: Path, n: int) -> None:
        image = indexed(MUG * 2, *swapped) if n == 2 else grey(MUG) if n == 3 else indexed(MUG, *own)
        image.save(path)

    root = draw(save, NAMES)
    words = r"/2\.png shows \(255, 0, 0\) for label 2, .*/0\.png for label 1: one of their palettes was numbered anew"
    with pytest.raises(DataError, match=words):
        evaluate(root)
    assert len(wrong(root)) == 1
    shared = palettes.SharedPalette()
    assert shared.disagreement("a", np.array(own, np.uint8), [0, 1]) is None
    why = shared.disagreement("b", np.array(swapped, np.uint8), [0, 1])
    assert why is not None and why.startswith("shows label 1 in (0, 0, 255), a in (255, 0, 0): one of their palettes")
    assert shared.disagreement("c", np.array(own, np.uint8), [0, 2]) is None


def test_predictions_may_have_other_colours_than_the_truth_but_not_its_colours_for_other_labels(
    draw: Callable[..., Path],
) -> None:
    both = MUG.astype(int) + draw_box(SIZE, 8, 10, 12, 16)
    red, blue, black = (255, 0, 0), (0, 0, 255), (0, 0, 0)
    root = draw(lambda path, n: indexed(both, black, red, blue).save(path), NAMES, both)
    assert evaluate(root)["miou"] == 1.0, "VOC's colours"
    for n in range(4):
        indexed(2 * (both == 1) + (both == 2), black, blue, red).save(root.parent / f"pred/{n}.png")
    words = (
        r"pred/0\.png shows \(0, 0, 255\) for label 1, .*SegmentationClass/0\.png for label 2: one of their palettes"
    )
    with pytest.raises(DataError, match=words):
        evaluate(root)


def test_labels_to_learn_from_that_are_void_alone_are_told(draw: Callable[..., Path], tmp_path: Path) -> None:
    root = draw()
    for n in range(4):
        grey(MUG * (255 if n else 1)).save(root.parent / f"pred/{n}.png")
    lines: list[str] = []
    assert len(samples_of(open_set(str(root)), "val", tmp_path / "pred", lines.append)) == 4
    assert [line.split(";")[0] for line in lines] == [
        f"note: 3 of the 4 masks in {tmp_path / 'pred'} hold 255 (void) and no class"
    ]


# --- labels that were scaled ----------------------------------------------------------------------------------------


def scaled(label: int) -> Image.Image:
    half = grey(MUG[::2, ::2] * label)
    return half.resize(SIZE[::-1], Image.Resampling.BILINEAR)


def test_masks_scaled_with_interpolation_are_found_by_their_rims(draw: Callable[..., Path]) -> None:
    root = draw(lambda path, n: scaled(15).save(path), VOC_CLASSES[:17], MUG * 15)
    words = (
        r"0\.png holds .*boat \(4\).* only as thin lines, such as \d+ between \d+ and \d+: scaled with interpolation\?"
    )
    with pytest.raises(DataError, match=words):
        evaluate(root)
    assert any("(and 3 more like it)" in each for each in wrong(root))
    root = draw(None, VOC_CLASSES[:17], MUG * 15)
    for n in range(4):
        scaled(15).save(root.parent / f"pred/{n}.png")
    with pytest.raises(DataError, match=r"pred/0\.png holds .*boat"):
        evaluate(root)


def test_a_rim_is_a_class_unless_it_is_never_anything_else(draw: Callable[..., Path]) -> None:
    def save(path: Path, n: int) -> None:
        (grey(MUG) if n == 0 else scaled(2)).save(path)

    root = draw(save, NAMES, MUG)
    assert wrong(root) == []
    (note,) = evaluate(root)["notes"]
    assert note.startswith("mug (1) is only thin lines between two other labels in 3 of the 4 true masks of val")
    root = draw(lambda path, n: scaled(2).save(path), NAMES, MUG)
    with pytest.raises(
        DataError, match=r"the 4 true masks of val hold mug \(1\) only as thin lines between a lower and"
    ):
        evaluate(root)


def test_things_side_by_side_are_no_interpolation() -> None:
    rng = np.random.default_rng(0)
    for labels in (rng.integers(0, 21, SIZE), np.arange(36)[None] // 6 * np.ones(SIZE, int), rng.integers(0, 3, SIZE)):
        assert interpolated(labels.astype(np.uint8)) == []
    levels = np.minimum(np.arange(36), 5)[None] * np.ones(SIZE, int)  # 0 1 2 3 4 5 5 5 ...
    assert interpolated(levels.astype(np.uint8)) == [(n, 0, 5) for n in (1, 2, 3, 4)]


def test_a_region_is_solid_when_it_holds_a_square() -> None:
    square = draw_box((90, 170), 10, 20, 15, 25)
    line = draw_box((90, 170), 10, 20, 14, 160)
    assert is_solid(square) and not is_solid(line)
    assert not is_solid(draw_box((375, 500), 100, 100, 112, 400))
    assert is_solid(draw_box((375, 500), 100, 100, 113, 400))
    assert not is_solid(np.ones((4, 30), bool))


# --- arrays ---------------------------------------------------------------------------------------------------------


def forms(array: np.ndarray) -> list[np.ndarray]:
    """The same values, read-only, in Fortran's order, with gaps, and from the end."""
    locked = array.copy()
    locked.flags.writeable = False
    apart = np.repeat(array, 2, axis=0)[::2]
    back = tuple(slice(None, None, -1) for _ in array.shape)
    return [locked, np.asfortranarray(array), apart, np.ascontiguousarray(array[back])[back]]


@pytest.mark.parametrize("refine", ["none", "crf", "adaptive"])
def test_labels_do_not_depend_on_how_arrays_lie_in_memory(refine: str) -> None:
    if refine == "crf":
        pytest.importorskip("pydensecrf")
    settings = dataclasses.replace(PRESETS["folder"].labelling, refine=refine)
    photo, scores = draw_scene(1, SIZE), np.random.default_rng(0).random((2, *SIZE)).astype(np.float32)
    expected = label(photo, SoftMap((1, 2), scores), settings)
    for image, values in zip(forms(photo), forms(scores), strict=True):
        for one, other in zip(label(image, SoftMap((1, 2), values), settings), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_scores_and_networks_do_not_depend_on_how_arrays_lie_in_memory() -> None:
    from prisbench.wsss.deeplab import DeepLabSize, deeplab

    network = deeplab(DeepLabSize("basic", (1, 1, 1, 1), width=4, rates=(1, 2)), NAMES, seed=0).eval()
    photo, truth = draw_scene(2, SIZE), (MUG * 2).astype(np.uint8)
    truth[0] = VOID
    expected = class_probabilities(network, photo, PredictSettings(flip=True))
    for image, labels in zip(forms(photo), forms(truth), strict=True):
        np.testing.assert_array_equal(class_probabilities(network, image, PredictSettings(flip=True)), expected)
        counted = scoring.tally([Judged("x", labels, labels)], 3, PredictedVoid.error)
        assert scoring.scores(counted).ious == (1.0, None, 1.0) and counted.true_void == 36
