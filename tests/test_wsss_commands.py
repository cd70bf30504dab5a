"""``prisbench wsss``: from image labels to a trained network by commands, and what is refused, in one line each."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from prisbench.cli.wsss import app
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import BackboneError, DataError, PrisbenchError, UnknownNameError, UsageError
from prisbench.localizer.refine import EMBEDDED_CRF
from prisbench.localizer.settings import Evidence
from prisbench.wsss import demo
from prisbench.wsss.deeplab import SIZES, DeepLabSize, deeplab
from prisbench.wsss.demo_report import errors_of
from prisbench.wsss.labels import read_mask, voc_palette, write_mask
from prisbench.wsss.layouts import VOID
from prisbench.wsss.mask_settings import PRESETS
from prisbench.wsss.networks import fresh_network, load_network, save_network
from prisbench.wsss.samples import samples_of
from prisbench.wsss.schedule import TrainSettings
from prisbench.wsss.scoring import Judged, tally
from prisbench.wsss.sets import open_set
from tests.drawing import draw_scene

NAMES = ("background", "mug", "bowl")
TINY = DeepLabSize("basic", (1, 1, 1, 1), width=4, rates=(1, 2))
SPLITS = {"train": 3, "val": 2}
QUICK = ("--samples", 1, "--no-evidence", "--refine", "none", "--workers", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of five noisy photos with a red mug, a blue bowl or both."""
    root = tmp_path_factory.mktemp("commands") / "set"
    (root / "JPEGImages").mkdir(parents=True)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    for split, number in SPLITS.items():
        names = [f"{split}_{n}" for n in range(number)]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for n, name in enumerate(names):
            image, labels = draw_scene(n, (40, 56)), np.zeros((40, 56), np.uint8)
            for label, left, colour in ((1, 4, (220, 30, 30)), (2, 30, (30, 30, 220))):
                if n in (0, label):
                    image[5:35, left : left + 20], labels[5:35, left : left + 20] = colour, label
            Image.fromarray(image).save(root / f"JPEGImages/{name}.png")
            write_mask(root / f"SegmentationClass/{name}.png", labels)
    return root


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("backbone") / "tiny")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_network(deeplab(TINY, NAMES, seed=3), tmp_path_factory.mktemp("network") / "tiny")


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def run(*arguments: object) -> Any:
    """What a command printed as JSON."""
    done = invoke(*arguments, "--format", "json")
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def refusal(*arguments: object) -> PrisbenchError:
    done = invoke(*arguments)
    assert isinstance(done.exception, PrisbenchError), done.output
    assert "\n" not in str(done.exception)
    return done.exception


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- pseudo masks ---------------------------------------------------------------------------------------------------


def test_pseudo_masks_are_made_evaluated_and_cut_anew(folder: Path, backbone: Path, tmp_path: Path) -> None:
    given = ("pseudo-masks", "--dataset", folder, "--backbone", backbone, *QUICK)
    record = run(*given, "--out", tmp_path / "a")
    assert (record["images"], record["written"], record["image_labels"]) == (3, 3, "true masks (an oracle)")
    assert record["labels"] == str(tmp_path / "a/labels")
    scored = run("evaluate", "--dataset", folder, "--split", "train", "--pred", record["masks"])
    assert scored["images"] == 3 and scored["miou"] > 0
    assert run(*given, "--out", tmp_path / "a")["written"] == 0

    again = run("pseudo-masks", "--dataset", folder, "--from-maps", tmp_path / "a", "--out", tmp_path / "b")
    assert (again["written"], again["network_seconds"], again["image_labels"]) == (3, 0, None)
    same = {name: data for name, data in tree(tmp_path / "a").items() if not name.startswith("maps/")}
    assert tree(tmp_path / "b") == same, "the settings are those of the earlier run"
    run("pseudo-masks", "--dataset", folder, "--from-maps", tmp_path / "a", "--tau", 0.9, "--out", tmp_path / "c")
    assert json.loads((tmp_path / "c/run.json").read_text())["labels"]["tau"] == 0.9
    assert tree(tmp_path / "c/masks") != tree(tmp_path / "a/masks")
    run(
        *("pseudo-masks", "--dataset", folder, "--from-maps", tmp_path / "a", "--out", tmp_path / "d"),
        *("--refine", "adaptive", "--workers", 0),
    )
    assert json.loads((tmp_path / "d/run.json").read_text())["labels"]["confidence"] == 0.6
    sweep = run("evaluate", "--sweep", "--dataset", folder, "--split", "train", "--pred", tmp_path / "a/maps")
    assert len(sweep["sweep"]) == 49


def test_shards_by_command_are_one_run(folder: Path, backbone: Path, tmp_path: Path) -> None:
    given = ("pseudo-masks", "--dataset", folder, "--backbone", backbone, *QUICK)
    run(*given, "--out", tmp_path / "whole")
    for part in ("2/2", "1/2"):
        run(*given, "--out", tmp_path / "parts", "--shard", part)
    assert tree(tmp_path / "whole") == tree(tmp_path / "parts")


def test_what_was_made_is_said_in_words(folder: Path, backbone: Path, tmp_path: Path) -> None:
    done = invoke("pseudo-masks", "--dataset", folder, "--backbone", backbone, *QUICK, "--out", tmp_path / "a")
    assert done.exit_code == 0
    assert re.search(r"3 of 3 images made now, in \d+ s, \d+% of them the network's", done.stdout)
    assert "image labels: true masks (an oracle)" in done.stdout
    assert "pseudo masks of 3 images by tiny@" in done.stderr and "interrupt it at will" in done.stderr


def test_pseudo_masks_refuse_what_does_not_go_together(folder: Path, backbone: Path, tmp_path: Path) -> None:
    start = ("pseudo-masks", "--out", tmp_path / "out", "--dataset")
    for arguments, kind, message in (
        ((folder, "--from-maps", tmp_path, "--samples", 2), UsageError, "--samples changes the maps; with --from-maps"),
        ((folder, "--shard", "half"), UsageError, "--shard 'half' makes no sense; write I/N, such as 1/4"),
        ((folder, "--shard", "3/2"), UsageError, "--shard 3/2 makes no sense; of 4 parts"),
        (
            (folder, "--split", "test"),
            UnknownNameError,
            "unknown split of set 'test'.*: did you mean 'train'|known: tra",
        ),
        ((folder, "--device", "cuda:77", "--backbone", backbone), UsageError, "device 'cuda:77' cannot be used here"),
        ((folder, "--backbone", backbone, "--tau", 7), UsageError, "localizer.tau=7.0 makes no sense"),
        ((tmp_path / "none", "--backbone", backbone), DataError, "no dataset at .*none: there is no such folder"),
        (("voc13", "--backbone", backbone), UnknownNameError, "unknown dataset 'voc13': did you mean 'voc12'"),
    ):
        error = refusal(*start, *arguments)
        assert isinstance(error, kind) and re.search(message, str(error)), error
    assert not (tmp_path / "out").exists()


def test_photographs_are_not_shown_to_the_embedded_backbone_unasked(tmp_path: Path) -> None:
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/SegmentationAug"
    lists.mkdir(parents=True)
    (lists / "train_aug.txt").write_text("2007_000032\n")
    error = refusal("pseudo-masks", "--root", tmp_path, "--out", tmp_path / "out")
    assert "the embedded backbone knows Tabletop only, not the photographs of voc12" in str(error)


# --- train and predict ----------------------------------------------------------------------------------------------


def test_a_network_is_trained_asked_and_scored(folder: Path, tmp_path: Path) -> None:
    given = ("train", "--dataset", folder, "--out", tmp_path / "run", "--batch", 2, "--crop", 24, 32, "--device", "cpu")
    given = (*given, "--steps", 2, "--workers", 0)
    first = run(*given)
    assert (first["images"], first["labels"]) == (3, "true masks")
    written = tree(tmp_path / "run/network")
    assert run(*given)["network"] == first["network"] and tree(tmp_path / "run/network") == written
    assert load_network(tmp_path / "run").size == SIZES["laptop"]

    asked = (
        "predict",
        "--network",
        tmp_path / "run",
        "--dataset",
        folder,
        "--out",
        tmp_path / "val",
        "--device",
        "cpu",
    )
    masks = run(*asked, "--workers", 0)["masks"]
    assert masks == str(tmp_path / "val/masks") and sorted(tree(Path(masks))) == ["val_0.png", "val_1.png"]
    assert read_mask(Path(masks) / "val_0.png", 3, (40, 56)).max() <= 2
    assert run("evaluate", "--dataset", folder, "--pred", masks)["images"] == 2


def test_labels_of_a_folder_are_what_is_taught(folder: Path, tmp_path: Path) -> None:
    dataset = open_set(str(folder))
    labels = tmp_path / "labels"
    for n in range(3):
        write_mask(labels / f"train_{n}.png", np.full((40, 56), VOID if n else 2, np.uint8))
    taught = samples_of(dataset, "train", labels)
    assert [sample.id for sample in taught] == ["train_0", "train_1", "train_2"]
    np.testing.assert_array_equal(taught[0].load_labels(), np.full((40, 56), 2))
    np.testing.assert_array_equal(samples_of(dataset, "train")[2].load_labels()[:5], 0)
    assert taught[1].load_image().shape == (40, 56, 3)

    write_mask(labels / "train_1.png", np.zeros((56, 40), np.uint8))
    with pytest.raises(DataError, match=r"labels/train_1.png is 56 x 40, its image 40 x 56"):
        taught[1].load_labels()
    (labels / "train_2.png").unlink()
    with pytest.raises(DataError, match=r"labels lacks 1 of the 3 images of train; the first is train_2.png"):
        samples_of(dataset, "train", labels)
    with pytest.raises(DataError, match=r"no labels in .*/none: there is no such folder"):
        samples_of(dataset, "train", tmp_path / "none")


def test_a_resnet_wants_its_weights_unless_asked(folder: Path, tmp_path: Path) -> None:
    start = ("train", "--dataset", folder, "--out", tmp_path / "run", "--device", "cpu")
    for arguments, kind, message in (
        (
            ("--size", "resnet101"),
            UsageError,
            "resnet101 begins with ImageNet's weights: give --weights resnet101.safe",
        ),
        (("--preset", "voc12"), UsageError, r"or say --from-scratch, which costs many points"),
        (("--size", "resnet100"), UnknownNameError, "unknown network size 'resnet100': did you mean 'resnet101'"),
        (("--preset", "voc"), UnknownNameError, "unknown training preset 'voc': did you mean 'voc12'"),
        (("--model", tmp_path, "--size", "laptop"), UsageError, "--model brings its own network; leave out --size"),
        (("--model", tmp_path), DataError, r"holds no config.json"),
        (("--weights", tmp_path / "no.safetensors"), DataError, r"no.safetensors does not exist"),
        (("--batch", 3, "--accumulate", 2), UsageError, "a batch of 3 cannot be taken in 2 equal parts"),
    ):
        error = refusal(*start, *arguments)
        assert isinstance(error, kind) and re.search(message, str(error)), error
    save_file(deeplab(TINY, NAMES).backbone.state_dict(), tmp_path / "other.safetensors")
    error = refusal(*start, "--weights", tmp_path / "other.safetensors")
    assert isinstance(error, BackboneError) and "other.safetensors: not torchvision's layout of this ResNet" in str(
        error
    )
    assert fresh_network(NAMES, "resnet18", from_scratch=True).size == SIZES["resnet18"]


def test_prediction_goes_on_and_keeps_the_masks_before_the_crf(folder: Path, network: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydensecrf")
    given = (
        "predict",
        "--network",
        network,
        "--dataset",
        folder,
        "--split",
        "train",
        "--device",
        "cpu",
        "--workers",
        0,
    )
    given = (*given, "--scales", "1,0.75", "--flip", "--crf", "small")
    run(*given, "--out", tmp_path / "a")
    expected = tree(tmp_path / "a")
    assert sorted(expected) == sorted(
        [f"{kind}/train_{n}.png" for kind in ("masks", "before") for n in range(3)] + ["run.json"]
    )
    (tmp_path / "a/before/train_1.png").unlink()
    (tmp_path / "a/masks/train_2.png").unlink()
    kept = (tmp_path / "a/masks/train_0.png").stat().st_mtime_ns
    run(*given, "--out", tmp_path / "a")
    assert tree(tmp_path / "a") == expected and (tmp_path / "a/masks/train_0.png").stat().st_mtime_ns == kept
    error = refusal(*given, "--out", tmp_path / "a", "--scales", "1")
    assert re.search(r"holds another run \(settings.scales is \[1.0, 0.75\], asked for \[1.0\]\)", str(error))
    assert dataclasses.asdict(EMBEDDED_CRF) == json.loads(expected["run.json"])["settings"]["crf"]


def test_a_network_of_other_classes_is_refused(folder: Path, tmp_path: Path) -> None:
    save_network(deeplab(TINY, ("background", "mug", "cup")), tmp_path / "other")
    start = ("predict", "--dataset", folder, "--out", tmp_path / "out", "--device", "cpu")
    error = refusal(*start, "--network", tmp_path / "other")
    assert "other was trained for other classes than the 3 of set: 'cup', not 'bowl'" in str(error)
    save_network(deeplab(TINY, NAMES[:2]), tmp_path / "fewer")
    assert "the 3 of set: 2 of them" in str(refusal(*start, "--network", tmp_path / "fewer"))
    assert "--scales 'all' makes no sense" in str(refusal(*start, "--network", tmp_path / "other", "--scales", "all"))


# --- the demonstration ----------------------------------------------------------------------------------------------


SMALL = demo.DemoSettings(
    3, 2, TINY, TrainSettings(steps=2, batch=2, accumulate=1, crop_hw=(48, 64), lr=0.01, log_every=2)
)


@pytest.fixture(scope="module")
def few_passes() -> Any:
    """The preset with one noise and without the CRF, which is not what is tested here."""
    whole = PRESETS["tabletop"]
    localizer = dataclasses.replace(
        whole.localizer, samples=1, timesteps=(200,), evidence=Evidence((300,), 1), refine="adaptive"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tabletop", dataclasses.replace(whole, localizer=localizer, confidence=0.0))
        yield


@pytest.mark.usefixtures("few_passes")
def test_the_demonstration_runs_from_nothing_to_a_table_and_again(backbone: Path, tmp_path: Path) -> None:
    stages: dict[str, tuple[int, int]] = {}
    lines: list[str] = []

    def once(settings: demo.DemoSettings = SMALL) -> demo.Demo:
        def show(stage: str, done: int, total: int) -> None:
            stages[stage] = (done, total)

        return demo.run(
            tmp_path / "demo", settings, load_backbone(backbone), "cpu", 0, demo.Feedback(show, lines.append)
        )

    result = once()
    rows = [re.sub(r"0\.\d\d$", "_", row["what"]) for row in result.record["rows"]]
    assert rows == [
        "map, cut at its best, _",
        "map + self-attention, cut at its best, _",
        "map + self-attention + evidence, cut at its best, _",
        "pseudo masks: CRF",
        "pseudo masks: adaptive refinement instead of the CRF",
        "network trained on pseudo masks",
        "network trained on true masks",
    ]
    taught, ceiling = (row["miou"] for row in result.record["rows"][-2:])
    assert result.record["ratio"] == pytest.approx(taught / ceiling)
    assert all(done == total for done, total in stages.values()) and len(stages) == 9
    assert json.loads((tmp_path / "demo/result.json").read_text())["rows"][0]["images"] == 3
    assert (tmp_path / "demo/result.md").read_text() == result.table + "\n"
    with Image.open(result.sheet) as sheet:
        assert sheet.width > 6 * 220 and sheet.height > 5 * 220

    dataset = open_set(str(tmp_path / "demo/dataset"))
    assert dataset.classes == demo.CLASSES and dataset.splits == ("train", "val")
    before = {name: data for name, data in tree(tmp_path / "demo").items()}
    lines.clear()
    assert once().table == result.table and tree(tmp_path / "demo") == before
    with pytest.raises(DataError, match=r"val.txt is of a demonstration of another size; choose another folder"):
        once(dataclasses.replace(SMALL, val=4))


def test_scenes_have_exact_masks_in_vocs_colours(tmp_path: Path) -> None:
    dataset = demo.write_set(tmp_path, {"train": 2, "val": 2})
    for item in dataset.items("val"):
        labels = read_mask(item.mask, len(dataset.classes))
        scene, _ = demo.ordinary_scene(f"wsss/{item.id}")
        things = {demo.CLASSES.index(thing.individual.noun) for thing in scene.things}
        assert set(np.unique(labels)) == {0, *things}
        with Image.open(item.mask) as image:
            assert image.mode == "P" and bytes(image.getpalette() or ())[:9] == voc_palette()[:9]
    (tmp_path / "JPEGImages/train_00001.png").unlink()
    before = tree(tmp_path)
    demo.write_set(tmp_path, {"train": 2, "val": 2})
    assert tree(tmp_path).keys() - before.keys() == {"JPEGImages/train_00001.png"}


def test_errors_are_told_apart() -> None:
    truth = np.array([[1, 1, 1, 1, 2, 2, 0, 0, 0, 0]], np.uint8)
    answer = np.array([[1, 0, 2, 1, 2, 0, 1, 0, 0, 0]], np.uint8)
    errors = errors_of(tally([Judged("x", truth, answer)], 3))
    assert errors == {"missed": 2 / 6, "swapped": 1 / 6, "spilled": 1 / 6}
    assert errors_of(tally([Judged("x", truth * 0, answer)], 3)) == dict.fromkeys(errors)


@pytest.mark.usefixtures("few_passes")
def test_the_demonstration_is_a_command(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "DemoSettings", lambda train, val: dataclasses.replace(SMALL, train=train, val=val))
    done = invoke(
        *("demo", "--out", tmp_path / "demo", "--train", 2, "--val", 2, "--steps", 1, "--workers", 0),
        *("--device", "cpu", "--backbone", backbone),
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"^network trained on  +2 val .*\ntrue masks$", done.stdout, re.M) and "pictures:" in done.stdout
    assert "of the ceiling, the same network on true masks" in " ".join(done.stdout.split())


def test_help_names_every_command() -> None:
    shown = invoke("--help").stdout
    for name in ("check", "coco-masks", "pseudo-masks", "train", "predict", "evaluate", "demo"):
        assert name in shown
