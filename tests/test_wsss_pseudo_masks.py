"""Masks from image labels: the words, the maps, the labels cut from them, and a run that may stop anywhere."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from prisbench.bench.crf import bench_crf, render
from prisbench.bench.published import MapJob, reference_maps
from prisbench.concepts.controls import noun_only
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.images import encode_image, to_photo
from prisbench.diffusion.loading import load_backbone
from prisbench.diffusion.noise import noise
from prisbench.diffusion.text import condition
from prisbench.errors import BackboneError, DataError, PrisbenchError, UnknownNameError, UsageError
from prisbench.images.photos import image_id
from prisbench.localizer import answer
from prisbench.localizer.background import with_background
from prisbench.localizer.observe import observe
from prisbench.localizer.presets import PRESETS as LOCALIZERS
from prisbench.localizer.refine import PUBLISHED_CRF, TABLETOP_ADAPTIVE
from prisbench.localizer.settings import Evidence
from prisbench.runtime.workers import in_order, worker_processes
from prisbench.types import Query, Subject
from prisbench.wsss import labelling
from prisbench.wsss.attention_maps import prompts, soft_map
from prisbench.wsss.evaluate import evaluate_masks
from prisbench.wsss.labelling import BEFORE, MASKS, TAUGHT, LabelSettings, label
from prisbench.wsss.labels import read_mask, write_mask
from prisbench.wsss.layouts import COCO_CLASSES, VOC_CLASSES
from prisbench.wsss.maps import SoftMap, labels_at, published_threshold, read_soft_map, write_soft_map
from prisbench.wsss.mask_job import Job
from prisbench.wsss.mask_settings import PRESETS, PseudoMaskSettings, changed, settings_for
from prisbench.wsss.pseudo_masks import earlier_labelling, make, remake
from prisbench.wsss.sets import SegmentationSet, open_set
from tests.drawing import draw_scene

NAMES = ("background", "mug", "bowl", "the cup")
SIZES = ((40, 56), (56, 40), (33, 60), (40, 56))
LABELS = ((1, 2), (3,), (), (1,))
"""Of four images."""


def draw_truth(n: int) -> np.ndarray:
    """Boxes of the labels of image n, one below the other, with some void."""
    h, w = SIZES[n]
    labels = np.zeros((h, w), np.uint8)
    for i, name in enumerate(LABELS[n]):
        labels[2 + 15 * i : 14 + 15 * i, 5:30] = name
    labels[:, :2] = 255
    return labels


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SegmentationSet:
    folder = tmp_path_factory.mktemp("set")
    (folder / "JPEGImages").mkdir()
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    for n, size in enumerate(SIZES):
        Image.fromarray(draw_scene(n, size)).save(folder / f"JPEGImages/image_{n}.png")
        write_mask(folder / f"SegmentationClass/image_{n}.png", draw_truth(n))
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/train.txt").write_text("".join(f"image_{n}\n" for n in range(4)))
    return open_set(str(folder))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("pseudo") / "tiny"))


def quick(**changes: object) -> PseudoMaskSettings:
    """The embedded backbone's settings with one noise and no refinement."""
    few = {"samples": 1, "timesteps": (200,), "refine": "none", "evidence": Evidence()}
    localizer = dataclasses.replace(PRESETS["tabletop"].localizer, **{**few, **changes})
    return dataclasses.replace(PRESETS["tabletop"], localizer=localizer)


def job(dataset: SegmentationSet, out: Path, **changes: object) -> Job:
    return dataclasses.replace(Job(dataset, "train", out, workers=0), **changes)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def stop_after(images: int) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        if done == images:
            raise KeyboardInterrupt

    return report


# --- words ----------------------------------------------------------------------------------------------------------


def said(names: tuple[str, ...], preset: str, length: int = 400) -> list[tuple[str, list[str]]]:
    """Each prompt as text, and what stands at the positions of its classes."""
    words = tiny.tokenizer(length)
    found = []
    for asked in prompts(words, names, PRESETS[preset]):
        ids = asked.prompt.ids
        text = words.decode(ids, skip_special_tokens=True)
        assert ids[: len(words(text).input_ids)] == tuple(words(text).input_ids), "the ids of the whole text"
        spans = [asked.prompt.groups[slot, "noun"] for slot in asked.slots]
        found.append((text, [words.decode([ids[i] for i in span]).strip() for span in spans]))
    return found


def spaced(text: str) -> str:
    """As the tokenizer gives it back."""
    return text.replace(",", " ,").replace(".", " .")


def test_voc_prompts_are_the_published_ones_and_every_class_knows_its_place() -> None:
    assert said(("boat", "person"), "voc12") == [
        (
            spaced(
                "a photo including boat, person with clothes, river, sea, lake, water, mountain, tree, railway, "
                "railroad, track, stone, and rocks."
            ),
            ["boat", "person with clothes"],
        )
    ]
    assert said(("tvmonitor",), "voc12") == [
        (spaced("a photo including tv monitor screen, keyboard, and wall."), ["tv monitor screen"])
    ]
    ten = "tree, river, sea, lake, water, railway, railroad, track, stone, and rocks."
    assert said(("backpack", "tie"), "coco14") == [
        (spaced(f"a photo including backpack, bag, necktie, {ten}"), [spaced("backpack, bag"), "necktie"])
    ]
    assert said(("hot dog", "dog"), "folder") == [
        (spaced(f"a photo including hot dog, dog, {ten}"), ["hot dog", "dog"])
    ]
    assert said(("mug", "orange", "bowl"), "tabletop") == [
        (spaced("a photo of a mug, an orange and a bowl"), ["mug", "orange", "bowl"])
    ]


def test_every_phrase_belongs_to_a_class() -> None:
    for preset, classes in (("voc12", VOC_CLASSES), ("coco14", COCO_CLASSES)):
        wording = PRESETS[preset].wording
        assert set(wording.phrases) | set(wording.backgrounds) <= set(classes[1:])
        assert len({wording.phrase(name) for name in classes}) == len(classes)


def test_a_prompt_too_long_loses_background_words_first_and_is_halved_only_then() -> None:
    names = ("mug", "bowl")
    (full,) = prompts(tiny.tokenizer(400), names, PRESETS["folder"])
    assert (len(full.background), full.wanted) == (10, 10)
    (some,) = prompts(tiny.tokenizer(40), names, PRESETS["folder"])
    assert (some.background, some.wanted) == (("tree", "river", "sea"), 10)
    one, other = prompts(tiny.tokenizer(22), ("mug", "old bowl"), PRESETS["folder"])
    assert (one.names, other.names) == (("mug",), ("old bowl",))
    with pytest.raises(UsageError, match=r"this model reads 22: 'pottery \.' would be lost"):
        prompts(tiny.tokenizer(22), ("mug", "old pottery"), PRESETS["folder"])


def test_the_published_numbers() -> None:
    voc, coco = PRESETS["voc12"].localizer, PRESETS["coco14"].localizer
    assert (voc.tau, voc.samples, voc.theta, coco.tau, coco.samples, coco.theta) == (0.5, 10, 0.2, 0.35, 1, 0.5)
    for each in (voc, coco):
        assert (each.timesteps, each.hops, each.rule, each.refine, each.crf) == (
            (150,),
            2,
            "squared",
            "crf",
            PUBLISHED_CRF,
        )
        assert each.working_size == "paper" and not each.evidence
    assert PRESETS["voc12"].confidence == PRESETS["coco14"].confidence == 0.95


def test_settings_for_a_single_subject_are_refused() -> None:
    for change in ({"caption": "a photo"}, {"share": True}, {"contrast_noun": 1.0}, {"presence": 0.2}):
        with pytest.raises(UsageError, match="ask about one subject; leave them out"):
            quick(**change)


def test_a_preset_takes_the_blocks_of_its_backbone(
    backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    assert settings_for(backbone, dataset) == PRESETS["tabletop"]
    own = settings_for(backbone, dataset, "voc12").localizer
    assert own.cross == LOCALIZERS["embedded"]["paper"].cross and own.working_size == "native"
    stable = load_backbone(tiny.save(tmp_path / "sd", kind="sd1"))
    assert settings_for(stable, dataset) == PRESETS["folder"]
    with pytest.raises(UsageError, match="the preset tabletop is for the embedded backbone, not for sd@"):
        settings_for(stable, dataset, "tabletop")
    with pytest.raises(UnknownNameError, match="unknown preset of pseudo masks 'voc': did you mean 'voc12'"):
        settings_for(backbone, dataset, "voc")
    with pytest.raises(BackboneError, match="no preset knows this U-Net's blocks"):
        settings_for(dataclasses.replace(backbone, family="other"), dataset)


# --- maps -----------------------------------------------------------------------------------------------------------


def test_the_map_of_a_single_class_is_the_localizers_map_of_that_noun(backbone: Backbone) -> None:
    settings = quick(hops=1, theta=0.3, samples=2)
    photo = draw_scene(3, (112, 144))
    soft = soft_map(backbone, photo, [1], NAMES, settings)
    concept = noun_only(Subject("one", "mug", ()))
    alone = dataclasses.replace(settings.localizer, tokens=("noun",))
    seen = observe(backbone, photo, Query("q", "one", "a {subject}"), concept, alone)
    score, _ = answer.soft_map(seen, alone)
    assert soft.labels == (1,) and soft.scores.shape == (1, 112, 144) and soft.scores.dtype == np.float16
    np.testing.assert_allclose(soft.scores[0], score[0].numpy(), atol=1e-3)
    assert soft.scores.std() > 0.05


def test_the_published_settings_give_the_maps_of_the_published_procedure(tmp_path: Path) -> None:
    stable = load_backbone(tiny.save(tmp_path / "sd", kind="sd1"))
    settings = changed(PRESETS["voc12"], samples=2, working_size=128)
    photo = draw_scene(4, (64, 256))  # needs no padding, which the release leaves in
    soft = soft_map(stable, photo, [1, 2], NAMES, settings)

    (asked,) = prompts(stable.tokenizer, NAMES[1:3], settings)
    encoded = encode_image(stable, photo, 128)
    eps = torch.stack([noise(image_id(photo), k, tuple(encoded.latents.shape[1:])) for k in range(2)])
    text = condition(stable, [asked.prompt], None, encoded.geometry)
    spans = tuple(asked.prompt.groups[slot, "noun"] for slot in asked.slots)
    plain = MapJob(stable.unet, stable.alphas_cumprod, encoded.latents, eps, text, text, spans, settings.localizer)
    maps = reference_maps(plain)
    frame = dataclasses.replace(encoded.geometry, photo_hw=(40, 160))
    expected = to_photo(maps, (int(maps.shape[1]), int(maps.shape[2])), frame)
    np.testing.assert_allclose(soft.scores, expected.numpy(), atol=2e-3)
    assert soft.scores.shape == (2, 40, 160) and np.abs(soft.scores[0] - soft.scores[1]).max() > 0.05


def test_maps_are_kept_small_and_within_their_range(backbone: Backbone) -> None:
    soft = soft_map(backbone, draw_scene(1, (250, 320)), [1, 3], NAMES, quick())
    assert soft.labels == (1, 3) and soft.scores.shape == (2, 125, 160)
    assert soft.scores.min() >= 0 and soft.scores.max() <= 1
    assert not np.array_equal(soft.scores[0], soft.scores[1])
    nothing = soft_map(backbone, draw_scene(1, (250, 320)), [], NAMES, quick())
    assert nothing.labels == () and nothing.scores.shape == (0, 125, 160)


def test_the_mirrored_photo_has_the_mirrored_map_when_both_are_asked(backbone: Backbone) -> None:
    photo = draw_scene(5, (112, 144))
    soft, other = (
        soft_map(backbone, each, [1, 2], NAMES, quick(flip=True))
        for each in (photo, np.ascontiguousarray(photo[:, ::-1]))
    )
    np.testing.assert_allclose(soft.scores, other.scores[..., ::-1], atol=2e-3)


def test_evidence_divides_a_place_among_several_classes_and_leaves_one_alone(backbone: Backbone) -> None:
    photo = draw_scene(6, (112, 144))
    weighing = quick(evidence=Evidence((300,), 1, power=1.0))
    one, plain = (soft_map(backbone, photo, [2], NAMES, each).scores for each in (weighing, quick()))
    np.testing.assert_array_equal(one, plain)
    two, plain = (soft_map(backbone, photo, [1, 2], NAMES, each).scores for each in (weighing, quick()))
    assert two.max() == pytest.approx(1, abs=0.01) and np.abs(two - plain).max() > 0.1
    shares = two.astype(np.float32) / np.maximum(plain.astype(np.float32), 1e-3)
    leads = (shares >= shares.max(axis=(1, 2), keepdims=True) * 0.98).any(axis=0)
    assert leads.mean() > 0.5, "almost everywhere one of the classes keeps all it had"


def test_many_classes_in_several_prompts_keep_their_order(backbone: Backbone) -> None:
    classes = ("background", "purple mug", "yellow bowl", "rectangular box")
    assert len(prompts(backbone.tokenizer, classes[1:], quick())) == 2
    photo = draw_scene(7, (40, 56))
    both = soft_map(backbone, photo, [1, 2, 3], classes, quick())
    last = soft_map(backbone, photo, [3], classes, quick())
    assert both.labels == (1, 2, 3)
    np.testing.assert_array_equal(both.scores[2], last.scores[0])


def test_a_photo_that_cannot_be_looked_at_is_one_line(backbone: Backbone) -> None:
    with pytest.raises(DataError, match=r"a photo of 20 x 400 pixels .* cannot be used"):
        soft_map(backbone, draw_scene(1, (20, 400)), [1], NAMES, quick())


# --- labels ---------------------------------------------------------------------------------------------------------


def settings_of(**changes: object) -> LabelSettings:
    return dataclasses.replace(LabelSettings("squared", 0.5, "none", PUBLISHED_CRF, TABLETOP_ADAPTIVE), **changes)


@pytest.mark.parametrize(("rule", "tau"), [("squared", 0.5), ("squared", 0.35), ("threshold", 0.2)])
def test_the_background_is_the_localizers(rule: str, tau: float) -> None:
    maps = torch.from_numpy(np.random.default_rng(0).random((3, 7, 9)).astype(np.float32))
    highest = maps.amax(0, keepdim=True)
    if rule == "squared":
        expected = torch.cat([(2 * tau - highest) ** 2, maps])
    else:
        bent = torch.where(maps > tau, 0.5 + 0.5 * (maps - tau) / (1 - tau), 0.5 * maps / tau)
        expected = torch.cat([1 - bent.amax(0, keepdim=True), bent])
    np.testing.assert_allclose(with_background(maps.numpy(), rule, tau), expected.numpy(), rtol=1e-6)


def test_labels_before_refinement_are_those_of_the_threshold() -> None:
    rng = np.random.default_rng(1)
    soft = SoftMap((4, 9), rng.random((2, 6, 8)).astype(np.float16))
    photo = draw_scene(0, (12, 16))
    before, after, taught = label(photo, soft, settings_of())
    np.testing.assert_array_equal(before, labels_at(soft, published_threshold(0.5), (12, 16)))
    assert set(np.unique(before)) == {0, 4, 9}
    assert (before == after).all() and (after == taught).all(), "without refinement nothing is void"
    assert labels_at(soft, 0.382, (12, 16)).sum() == before.sum(), "the published cut"


def test_refined_labels_follow_the_photo_and_unsure_pixels_are_void() -> None:
    pytest.importorskip("pydensecrf")
    photo = np.full((16, 24, 3), 30, np.uint8)
    photo[:, 12:] = (220, 200, 60)
    scores = np.full((1, 16, 24), 0.1, np.float16)
    scores[0, :, 12:] = 0.35
    scores[0, 2:14, 14:22] = 0.9
    scores[0, 6:9, 3:5] = 0.45
    before, after, taught = label(photo, SoftMap((7,), scores), settings_of(refine="crf"))
    assert (before[6:9, 3:5] == 7).all() and (before[:, 12:14] == 0).all()
    assert (after[:, 12:] == 7).all() and (after[:, :12] == 0).all(), "each half is of one colour"
    assert ((taught == after) | (taught == 255)).all() and (taught[4:12, 15:21] == 7).all()
    sure = label(photo, SoftMap((7,), scores), settings_of(refine="crf", confidence=0.0))
    strict = label(photo, SoftMap((7,), scores), settings_of(refine="crf", confidence=1.0))
    assert (sure.taught == sure.after).all() and (strict.taught == 255).mean() > 0.9


def test_the_refinement_without_a_compiler_is_offered_too() -> None:
    soft = SoftMap((1,), np.random.default_rng(2).random((1, 12, 20)).astype(np.float16))
    before, after, taught = label(draw_scene(0), soft, settings_of(refine="adaptive", confidence=0.6))
    assert not np.array_equal(before, after) and 0 < (taught == 255).mean() < 1


def test_an_image_without_classes_is_background() -> None:
    answer = label(draw_scene(0), SoftMap((), np.zeros((0, 6, 10), np.float16)), settings_of(refine="crf"))
    assert all(each.shape == (12, 20) and not each.any() for each in answer)


def test_label_settings_that_make_no_sense_are_refused() -> None:
    for change, message in (
        ({"tau": 1.0}, "tau is 1.0; it must lie between 0 and 1"),
        ({"confidence": 1.5}, "the confidence is 1.5; it must lie within 0..1"),
        ({"rule": "square"}, "unknown rule 'square': did you mean 'squared'"),
        ({"refine": "dense"}, "unknown refinement 'dense'"),
    ):
        with pytest.raises(UsageError, match=message):
            settings_of(**change)


def test_label_settings_come_back_from_their_record() -> None:
    settings = settings_of(refine="adaptive", confidence=0.6)
    record = json.loads(json.dumps(labelling.as_record(settings)))
    assert labelling.from_record(record, "here") == settings
    with pytest.raises(DataError, match="here does not say how its masks were made"):
        labelling.from_record({"rule": "squared"}, "here")


# --- a run ----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_maps_and_three_kinds_of_masks(
    backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    heard: list[tuple[int, int]] = []
    lines: list[str] = []
    made = make(backbone, job(dataset, tmp_path), quick(), lambda *now: heard.append(now), lines.append)
    assert (made.images, made.written, made.shortened, made.divided) == (4, 4, 0, 0)
    assert heard == [(n, 4) for n in (1, 2, 3, 4)] and 0 < made.network_seconds < made.seconds
    kinds = [f"{kind}/image_{n}" for kind in (BEFORE, TAUGHT, "maps", MASKS) for n in range(4)]
    assert sorted(tree(tmp_path)) == sorted(
        [f"{each}.{'safetensors' if each[:4] == 'maps' else 'png'}" for each in kinds] + ["run.json"]
    )
    for n, size in enumerate(SIZES):
        soft = read_soft_map(tmp_path / f"maps/image_{n}.safetensors", len(NAMES))
        mask = read_mask(tmp_path / f"masks/image_{n}.png", len(NAMES), size)
        assert soft.labels == LABELS[n] and set(np.unique(mask)) <= {0, *LABELS[n]}
        assert mask.any() == bool(LABELS[n])
    assert evaluate_masks(dataset, "train", tmp_path / MASKS).images == 4
    assert lines[0].startswith("pseudo masks of 4 images by ") and "the true masks (an oracle)" in lines[0]
    assert "1 passes of the network an image in batches of 1, latents 28 x 40" in lines[0]
    assert "s an image: about" in lines[1] and len(lines) == 2


def test_interrupted_sharded_and_turned_round_a_run_is_the_same_bytes(
    backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    settings = quick(samples=2, evidence=Evidence((300,), 1, power=1.0))
    make(backbone, job(dataset, tmp_path / "whole"), settings)
    expected = tree(tmp_path / "whole")

    for stop in (1, 3):
        broken = tmp_path / f"broken-{stop}"
        with pytest.raises(KeyboardInterrupt):
            make(backbone, job(dataset, broken), settings, stop_after(stop))
        assert 0 < len(tree(broken)) < len(expected)
        assert make(backbone, job(dataset, broken), settings).written == 4 - stop
        assert tree(broken) == expected
        (broken / "labels/image_0.png").unlink()
        (broken / "before/image_1.png").unlink()
        made = make(backbone, job(dataset, broken), settings)
        assert (made.written, made.network_seconds) == (2, 0) and tree(broken) == expected, (
            "from the maps that are there"
        )

    parts = tmp_path / "parts"
    for part in (3, 1, 2):
        make(backbone, job(dataset, parts, shard=(part, 3)), settings)
    assert tree(parts) == expected

    turned = dataclasses.replace(dataset, root=tmp_path / "turned")
    (tmp_path / "turned").mkdir()
    for name in ("JPEGImages", "SegmentationClass"):
        (tmp_path / "turned" / name).symlink_to(dataset.root / name)
    (tmp_path / "turned/ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "turned/ImageSets/Segmentation/train.txt").write_text("image_3\nimage_1\nimage_0\nimage_2\n")
    make(backbone, job(turned, tmp_path / "other"), settings)
    assert tree(tmp_path / "other") == expected


def test_a_finished_run_is_left_alone(backbone: Backbone, dataset: SegmentationSet, tmp_path: Path) -> None:
    make(backbone, job(dataset, tmp_path), quick())
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    lines: list[str] = []
    assert make(backbone, job(dataset, tmp_path), quick(), say=lines.append).written == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == times and lines == []


def test_masks_are_made_again_from_maps_without_the_network(
    backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    settings = quick()
    make(backbone, job(dataset, tmp_path / "first"), settings)
    made = remake(tmp_path / "first", job(dataset, tmp_path / "same"), settings.labelling)
    assert (made.images, made.written) == (4, 4)
    expected = {name: data for name, data in tree(tmp_path / "first").items() if not name.startswith("maps/")}
    assert tree(tmp_path / "same") == expected
    assert earlier_labelling(tmp_path / "first") == settings.labelling
    stricter = dataclasses.replace(settings.labelling, tau=0.9)
    remake(tmp_path / "first/maps", job(dataset, tmp_path / "stricter"), stricter)
    again = dataclasses.replace(settings, localizer=dataclasses.replace(settings.localizer, tau=0.9))
    make(backbone, job(dataset, tmp_path / "anew"), again)
    assert {n: d for n, d in tree(tmp_path / "anew").items() if not n.startswith("maps/")} == tree(
        tmp_path / "stricter"
    )
    assert tree(tmp_path / "stricter")["masks/image_0.png"] != expected["masks/image_0.png"]


def test_maps_of_elsewhere_serve_too(dataset: SegmentationSet, tmp_path: Path) -> None:
    maps = tmp_path / "theirs"
    for n in range(4):
        write_soft_map(maps / f"image_{n}.safetensors", SoftMap((1,), np.full((1, 10, 14), 0.1 + 0.2 * n, np.float16)))
    assert earlier_labelling(maps) is None
    remake(maps, job(dataset, tmp_path / "out"), settings_of())
    shares = [read_mask(tmp_path / f"out/masks/image_{n}.png", 4).mean() for n in range(4)]
    assert shares == [0, 0, 1, 1]
    (maps / "image_2.safetensors").unlink()
    with pytest.raises(DataError, match=r"theirs lacks the soft maps of 1 of the 4 images of train; .* image_2.safe"):
        remake(maps, job(dataset, tmp_path / "out"), settings_of())
    with pytest.raises(DataError, match=r"no soft maps in .*/nowhere: there is no such folder"):
        remake(tmp_path / "nowhere", job(dataset, tmp_path / "out"), settings_of())


def test_worker_processes_refine_to_the_same_bytes(
    backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    pytest.importorskip("pydensecrf")
    settings = quick(refine="crf")
    make(backbone, job(dataset, tmp_path / "plain"), settings)
    make(backbone, job(dataset, tmp_path / "workers", workers=1), settings)
    assert tree(tmp_path / "plain") == tree(tmp_path / "workers")


def test_a_worker_that_dies_is_one_line() -> None:
    with (
        worker_processes(1) as pool,
        pytest.raises(UsageError, match=r"a worker process died, .* try --workers 1, or 0"),
    ):
        list(in_order(pool, os._exit, [(1,), (1,)], ahead=1))


def test_image_labels_come_from_the_true_masks_or_from_a_file(
    backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    make(backbone, job(dataset, tmp_path / "oracle"), quick())
    names = {f"image_{n}": [NAMES[label] for label in labels] for n, labels in enumerate(LABELS)}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(names))
    make(backbone, job(dataset, tmp_path / "file", image_labels=path), quick())
    first, second = tree(tmp_path / "oracle"), tree(tmp_path / "file")
    runs = [json.loads(each.pop("run.json"))["maps"]["image_labels"] for each in (first, second)]
    assert first == second
    assert runs[0] == {"from": "true masks (an oracle)"} and runs[1]["from"] == "file"

    del names["image_2"]
    path.write_text(json.dumps(names))
    with pytest.raises(DataError, match=r"labels.json has no labels for 1 images of train; the first is image_2 \("):
        make(backbone, job(dataset, tmp_path / "less", image_labels=path), quick())
    path.write_text(json.dumps({**names, "image_2": ["bowls"]}))
    with pytest.raises(UnknownNameError, match=r"unknown class of image image_2 .*: did you mean 'bowl'"):
        make(backbone, job(dataset, tmp_path / "less", image_labels=path), quick())


def broken_set(dataset: SegmentationSet, folder: Path, change: Callable[[Path], None]) -> SegmentationSet:
    """A copy of the set, changed."""
    for path in dataset.root.rglob("*.*"):
        copy = folder / path.relative_to(dataset.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    change(folder)
    return open_set(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "JPEGImages/image_1.png").unlink(), r"train\.txt line 2: image_1 has no photo .*image_1"),
        (lambda root: (root / "SegmentationClass/image_1.png").unlink(), r"line 2: image_1 has no mask .*image_1.png"),
        (
            lambda root: write_mask(root / "SegmentationClass/image_1.png", draw_truth(0)),
            r"SegmentationClass/image_1.png is 40 x 56, its image 56 x 40",
        ),
        (
            lambda root: write_mask(root / "SegmentationClass/image_1.png", draw_truth(1) * 3),
            "image_1.png has label 9 on 300 pixels",
        ),
        (
            lambda root: Image.fromarray(draw_scene(1, SIZES[1])).save(root / "SegmentationClass/image_1.png"),
            "image_1.png has mode RGB; a mask is a PNG of mode P or L",
        ),
        (
            lambda root: Image.fromarray(draw_scene(1, (20, 300))).save(root / "JPEGImages/image_1.png"),
            "image_1.png is 56 x 40, its image 20 x 300",
        ),
        (lambda root: (root / "ImageSets/Segmentation/train.txt").unlink(), "no list .*Segmentation/train.txt"),
    ],
    ids=["no photo", "no mask", "another size", "label outside", "in colour", "another photo", "no list"],
)
def test_what_is_wrong_with_a_set_is_one_line_with_the_files_name(
    change: Callable[[Path], None], message: str, backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    broken = broken_set(dataset, tmp_path / "set", change)
    with pytest.raises(PrisbenchError, match=message) as raised:
        make(backbone, job(broken, tmp_path / "out"), quick())
    assert "\n" not in str(raised.value)


def test_a_photo_the_network_cannot_look_at_is_named(
    backbone: Backbone, dataset: SegmentationSet, tmp_path: Path
) -> None:
    def narrow(root: Path) -> None:
        Image.fromarray(draw_scene(1, (20, 300))).save(root / "JPEGImages/image_1.png")
        write_mask(root / "SegmentationClass/image_1.png", np.ones((20, 300), np.uint8))

    broken = broken_set(dataset, tmp_path / "set", narrow)
    with pytest.raises(DataError, match=r"JPEGImages/image_1.png: a photo of 20 x 300 pixels"):
        make(backbone, job(broken, tmp_path / "out"), quick())


def test_a_folder_of_another_run_is_left_alone(backbone: Backbone, dataset: SegmentationSet, tmp_path: Path) -> None:
    make(backbone, job(dataset, tmp_path), quick())
    before = tree(tmp_path)
    for settings, difference in (
        (quick(samples=3), "maps.settings.samples is 1, asked for 3"),
        (quick(tau=0.3), "labels.tau is 0.2, asked for 0.3"),
    ):
        with pytest.raises(DataError, match=f"holds another run .{difference}.; choose another folder"):
            make(backbone, job(dataset, tmp_path), settings)
    with pytest.raises(DataError, match=r"labels.confidence is 0.95, asked for 0.6"):
        remake(tmp_path, job(dataset, tmp_path), dataclasses.replace(quick().labelling, confidence=0.6))
    assert tree(tmp_path) == before


def test_a_damaged_map_is_said_not_mended(backbone: Backbone, dataset: SegmentationSet, tmp_path: Path) -> None:
    make(backbone, job(dataset, tmp_path), quick())
    path = tmp_path / "maps/image_0.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    (tmp_path / "labels/image_0.png").unlink()
    with pytest.raises(DataError, match=r"maps/image_0.safetensors is damaged or no soft map .*; make it again"):
        make(backbone, job(dataset, tmp_path), quick())


def test_parts_that_do_not_exist_are_refused(dataset: SegmentationSet, tmp_path: Path) -> None:
    for shard in ((0, 4), (5, 4)):
        with pytest.raises(UsageError, match=f"--shard {shard[0]}/4 makes no sense; of 4 parts there are 1/4"):
            job(dataset, tmp_path, shard=shard)
    assert [len(job(dataset, tmp_path, shard=(i, 3)).items()) for i in (1, 2, 3)] == [2, 1, 1]


# --- how fast -------------------------------------------------------------------------------------------------------


def test_the_crf_bench_compares_processes_with_a_loop() -> None:
    pytest.importorskip("pydensecrf")
    lines: list[str] = []
    record = bench_crf(2, 1, 1, (90, 120), lines.append)
    assert record["same_labels"] is True and record["unit"] == "images per second"
    assert record["ratio"] == pytest.approx(record["ours"] / record["reference"])
    assert all(math.isfinite(record[name]) and record[name] > 0 for name in ("ours", "reference", "adaptive"))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert "2 images of 90 x 120" in lines[0] and "in 1 processes" in render(record)
    with pytest.raises(UsageError, match="0 images, 1 workers, 1 repeats: each must be at least 1"):
        bench_crf(0, 1)
