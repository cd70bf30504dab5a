"""mIoU over a set, its interval, thresholds over soft maps, `evaluate`; the other code is plain loops over pixels."""

from __future__ import annotations

import csv
import io
import json
import math
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from typer.testing import CliRunner

from prisbench.cli.wsss import app
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.wsss import scoring
from prisbench.wsss.evaluate import THRESHOLDS, evaluate_masks
from prisbench.wsss.labels import write_mask
from prisbench.wsss.layouts import VOID
from prisbench.wsss.maps import SoftMap, labels_at, published_threshold, read_soft_map, sweep_maps, write_soft_map
from prisbench.wsss.scoring import Judged, PredictedVoid, confusion, tally
from prisbench.wsss.sets import open_set
from tests.drawing import draw_box, draw_scene

CLASSES = 4
Pair = tuple[np.ndarray, np.ndarray]


def judged(pairs: Sequence[Pair]) -> list[Judged]:
    return [Judged(f"image {n}", truth, predicted) for n, (truth, predicted) in enumerate(pairs)]


def plain_ious(pairs: Sequence[Pair]) -> tuple[list[float | None], float | None]:
    """IoU of every class by sets of (image, y, x), and the mean over the classes in the truth."""
    true: dict[int, set[tuple[int, int, int]]] = {label: set() for label in range(CLASSES)}
    given_: dict[int, set[tuple[int, int, int]]] = {label: set() for label in range(CLASSES)}
    for n, (truth, predicted) in enumerate(pairs):
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                if truth[y, x] != 255:
                    true[truth[y, x]].add((n, y, x))
                    given_[predicted[y, x]].add((n, y, x))
    ious: list[float | None] = []
    for label in range(CLASSES):
        union = true[label] | given_[label]
        ious.append(len(true[label] & given_[label]) / len(union) if union else None)
    present = [iou for label, iou in enumerate(ious) if true[label]]
    return ious, sum(present) / len(present) if present else None  # type: ignore[arg-type]


labels = st.sampled_from([0, 1, 2, 3])
truths = st.sampled_from([0, 1, 2, 3, 255])
shapes = st.tuples(st.integers(1, 4), st.integers(5, 7))


@st.composite
def sets(draw: st.DrawFn) -> list[Pair]:
    """One to four images of any sizes, with void in the truth and often without some classes."""
    pairs = []
    for shape in draw(st.lists(shapes, min_size=1, max_size=4)):
        pairs.append((draw(arrays(np.uint8, shape, elements=truths)), draw(arrays(np.uint8, shape, elements=labels))))
    return pairs


@settings(max_examples=60, deadline=None)
@given(sets())
def test_ious_equal_those_of_plain_sets_of_pixels(pairs: list[Pair]) -> None:
    found = scoring.scores(tally(judged(pairs), CLASSES))
    ious, miou = plain_ious(pairs)
    assert found.ious == pytest.approx(ious)
    assert found.miou == pytest.approx(miou)
    assert found.images == len(pairs)
    seen = [{*truth[truth != 255].tolist()} for truth, _ in pairs]
    assert found.class_images == tuple(sum(label in each for each in seen) for label in range(CLASSES))
    assert found.n_classes == len(set().union(*seen))
    assert found.n_classes + found.n_undefined + found.n_spurious == CLASSES


def test_the_numbers_are_those_of_a_pencil() -> None:
    truth = np.array([[0, 0, 1, 255, 3], [0, 1, 1, 255, 3]], np.uint8)
    predicted = np.array([[0, 1, 1, 1, 3], [0, 0, 1, 2, 2]], np.uint8)
    found = scoring.scores(tally(judged([(truth, predicted)]), CLASSES))
    assert found.ious == (2 / 4, 2 / 4, 0.0, 1 / 2)  # class 2 is predicted only: 0, and not in the mean
    assert (found.miou, found.n_classes, found.n_spurious, found.n_undefined) == (0.5, 3, 1, 0)
    assert found.pixel_accuracy == 5 / 8
    assert found.interval is None


def test_a_set_of_void_has_no_number() -> None:
    void = np.full((2, 5), 255, np.uint8)
    found = scoring.scores(tally(judged([(void, void)] * 3), CLASSES))
    assert (found.miou, found.interval, found.pixel_accuracy, found.n_undefined) == (None, None, None, CLASSES)
    assert scoring.scores(tally([], CLASSES)).miou is None


def test_images_are_pooled_and_not_averaged() -> None:
    small = (np.array([[1, 0, 0]], np.uint8), np.array([[0, 0, 0]], np.uint8))
    large = (np.ones((3, 5), np.uint8), np.ones((3, 5), np.uint8))
    found = scoring.scores(tally(judged([small, large]), CLASSES))
    assert found.ious[1] == 15 / 16


def test_what_a_void_prediction_counts_as_is_a_choice() -> None:
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    predicted = np.array([[0, 255, 1, 255, 255]], np.uint8)
    pairs = judged([(truth, predicted)])
    with pytest.raises(DataError, match=r"image 0 leaves 2 pixels void \(255\) that have a true label; choose"):
        tally(pairs, CLASSES)
    as_background = scoring.scores(tally(pairs, CLASSES, PredictedVoid.background))
    assert (as_background.ious[:2], as_background.void_share) == ((2 / 3, 1 / 2), 0.5)
    ignored = scoring.scores(tally(pairs, CLASSES, PredictedVoid.ignore))
    assert (ignored.ious[:2], ignored.void_share) == ((1.0, 1.0), 0.5)
    assert scoring.scores(tally(judged([(truth, np.zeros_like(truth))]), CLASSES)).void_share == 0.0


def test_confusion_refuses_other_sizes_and_labels() -> None:
    truth = np.zeros((2, 5), np.uint8)
    with pytest.raises(DataError, match=r"p\.png is 5 x 2, the true mask 2 x 5 \(height x width\)"):
        confusion(truth, truth.T, CLASSES, "p.png")
    with pytest.raises(DataError, match=r"p\.png has label 4; the classes are 0\.\.3"):
        confusion(truth, truth + np.uint8(4), CLASSES, "p.png")
    with pytest.raises(DataError, match=r"the true mask of p\.png has label 9"):
        confusion(truth + np.uint8(9), truth, CLASSES, "p.png")


def test_memory_does_not_grow_with_the_images() -> None:
    def images(n: int) -> Iterator[Judged]:
        rng = np.random.default_rng(0)
        for i in range(n):
            truth = rng.integers(0, 3, (120, 160)).astype(np.uint8)
            yield Judged(f"{i}", truth, truth)

    def peak(n: int) -> int:
        tracemalloc.start()
        try:
            assert tally(images(n), CLASSES).images == n
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert peak(160) - peak(10) < 4 * 19_200  # of 150 images of 2 x 19,200 bytes, less than two


# --- how sure -------------------------------------------------------------------------------------------------------


def drawn(seed: int, images: int = 25, right: float = 0.7) -> list[Pair]:
    """Images with one foreground class each, some harder than others."""
    rng = np.random.default_rng(seed)
    pairs = []
    for n in range(images):
        truth = np.where(draw_box((6, 9), 1, 2, 5, 7), 1 + n % 3, 0).astype(np.uint8)
        flip = rng.random(truth.shape) > np.clip(right + rng.normal(0, 0.15), 0, 1)
        pairs.append((truth, np.where(flip, rng.integers(0, CLASSES, truth.shape), truth).astype(np.uint8)))
    return pairs


def test_the_interval_agrees_with_scipys_bootstrap_over_images() -> None:
    pairs = drawn(1)
    matrices = np.stack([confusion(truth, predicted, CLASSES)[:, :CLASSES] for truth, predicted in pairs])

    def miou(index: np.ndarray) -> float:
        pooled = matrices[index.astype(int)].sum(axis=0)
        ious = [pooled[k, k] / (pooled[k].sum() + pooled[:, k].sum() - pooled[k, k]) for k in range(CLASSES)]
        return float(np.mean([iou for k, iou in enumerate(ious) if pooled[k].sum()]))

    reference = scipy.stats.bootstrap(
        (np.arange(len(pairs)),), miou, n_resamples=2000, method="percentile", vectorized=False,
        rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    found = scoring.interval(tally(judged(pairs), CLASSES))
    assert found == pytest.approx((reference.low, reference.high), abs=0.01)
    assert found is not None and found[1] - found[0] > 0.05


def test_the_interval_is_the_same_every_time_and_follows_a_generator() -> None:
    counted = tally(judged(drawn(2)), CLASSES)
    assert scoring.interval(counted) == scoring.interval(counted)
    assert scoring.interval(counted, np.random.default_rng(9)) != scoring.interval(counted)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    pairs = drawn(4)
    better = [(truth, np.where(np.arange(9) < 2, truth, predicted)) for truth, predicted in pairs]
    one, two = (tally(judged(each), CLASSES) for each in (better, pairs))
    gain = scoring.difference(one, two)
    assert gain.value == pytest.approx((scoring.mean_iou(one.confusion) or 0) - (scoring.mean_iou(two.confusion) or 0))
    ends = scoring.interval(one)
    assert gain.interval is not None and ends is not None
    assert 0 < gain.interval[0] < gain.value < gain.interval[1]
    assert gain.interval[1] - gain.interval[0] < (ends[1] - ends[0]) / 2
    assert scoring.difference(one, one).interval == (0.0, 0.0)
    with pytest.raises(UsageError, match="scored on 25 and 24 images; score the same ones"):
        scoring.difference(one, tally(judged(pairs[1:]), CLASSES))


# --- soft maps ------------------------------------------------------------------------------------------------------


def soft_set(images: int = 4) -> list[tuple[str, np.ndarray, SoftMap]]:
    """Scores in fiftieths, so that many lie on a threshold; the last image has no class at all."""
    rng = np.random.default_rng(5)
    rows = []
    for n in range(images):
        names = ((1, 3), (2,), (3, 2, 1), ())[n % 4]
        truth = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (5, 8))
        rows.append((f"image {n}", truth, SoftMap(names, rng.integers(0, 51, (len(names), 5, 8)) / np.float32(50))))
    return rows


def test_a_sweep_equals_an_evaluation_at_every_threshold() -> None:
    rows = soft_set()
    thresholds = (0.0, 0.1, 0.25, 0.5, 0.98)
    matrices = sweep_maps(rows, CLASSES, thresholds)
    for threshold, matrix in zip(thresholds, matrices, strict=True):
        pairs = [(truth, labels_at(soft, threshold)) for _, truth, soft in rows]
        np.testing.assert_array_equal(matrix, tally(judged(pairs), CLASSES).confusion)
        assert scoring.mean_iou(matrix) == pytest.approx(plain_ious(pairs)[1])


def test_labels_at_a_threshold_are_those_of_a_loop() -> None:
    for _, _, soft in soft_set():
        found = labels_at(soft, 0.4)
        for y, x in np.ndindex(5, 8):
            best, label = 0.4, 0
            for row, name in enumerate(soft.labels):
                if soft.scores[row, y, x] > best:
                    best, label = soft.scores[row, y, x], name
            assert found[y, x] == label


@pytest.mark.parametrize(("tau", "cut"), [(0.5, 0.382), (0.35, 0.225)])
def test_the_published_background_score_is_a_threshold(tau: float, cut: float) -> None:
    assert published_threshold(tau) == pytest.approx(cut, abs=5e-4)
    maps = np.random.default_rng(0).random((2, 30, 40))
    published = np.concatenate([(2 * tau - maps.max(axis=0, keepdims=True)) ** 2, maps]).argmax(axis=0)
    ours = labels_at(SoftMap((1, 2), maps.astype(np.float32)), published_threshold(tau))
    np.testing.assert_array_equal(ours, published)


def test_a_smaller_map_is_enlarged_as_the_networks_do_it() -> None:
    values = np.random.default_rng(1).random((1, 3, 4)).astype(np.float32)
    found = labels_at(SoftMap((2,), values), 0.5, (6, 12))
    for y, x in np.ndindex(6, 12):  # bilinear, pixel centres, edges repeated
        at = [min(max((n + 0.5) * size / full - 0.5, 0), size - 1) for n, size, full in ((y, 3, 6), (x, 4, 12))]
        (top, dy), (left, dx) = ((math.floor(a), a - math.floor(a)) for a in at)
        low, right = min(top + 1, 2), min(left + 1, 3)
        upper = values[0, top, left] * (1 - dx) + values[0, top, right] * dx
        lower = values[0, low, left] * (1 - dx) + values[0, low, right] * dx
        score = upper * (1 - dy) + lower * dy
        assert abs(score - 0.5) < 1e-5 or found[y, x] == (2 if score > 0.5 else 0)
    with pytest.raises(DataError, match="the map is 3 x 4, larger than its image 2 x 12"):
        labels_at(SoftMap((2,), values), 0.5, (2, 12))


def test_a_sweep_refuses_what_it_cannot_count() -> None:
    rows = soft_set()
    for thresholds in ((), (0.5, 0.5), (-0.1,), (0.2, 1.0)):
        with pytest.raises(UsageError, match="thresholds must rise within 0 <= t < 1"):
            sweep_maps(rows, CLASSES, thresholds)
    with pytest.raises(DataError, match=r"image 0: map or truth has labels outside the classes 0\.\.2"):
        sweep_maps(rows, 3, (0.5,))
    with pytest.raises(DataError, match="image 0: the map is 5 x 8, larger than its image 2 x 3"):
        sweep_maps([("image 0", np.zeros((2, 3), np.uint8), rows[0][2])], CLASSES, (0.5,))


def test_a_soft_map_survives_the_way_to_disk(tmp_path: Path) -> None:
    for _, _, soft in soft_set():
        path = write_soft_map(tmp_path / "a.safetensors", soft)
        found = read_soft_map(path, CLASSES)
        assert (found.labels, found.scores.dtype) == (soft.labels, np.float16)
        np.testing.assert_allclose(found.scores, soft.scores, atol=5e-4)
        np.savez(tmp_path / "a.npz", scores=found.scores, labels=np.array(soft.labels, int))
        as_npz = read_soft_map(tmp_path / "a.npz", CLASSES)
        assert as_npz.labels == found.labels
        np.testing.assert_array_equal(as_npz.scores, found.scores)


def test_what_is_wrong_with_a_soft_map_is_said(tmp_path: Path) -> None:
    scores = np.zeros((2, 3, 4), np.float16)
    path = tmp_path / "a.npz"
    for arrays_, words in (
        ({"scores": scores}, r"a\.npz is no soft map: it holds \['scores'\], not scores and labels"),
        ({"scores": scores, "labels": np.array([1])}, r"a\.npz is no soft map: scores float16 \(2, 3, 4\) and labels"),
        ({"scores": scores.astype(int), "labels": np.array([1, 2])}, "is no soft map: scores int64"),
        ({"scores": scores, "labels": np.array([1, 4])}, r"a\.npz has the labels \(1, 4\); each of 1\.\.3"),
        ({"scores": scores, "labels": np.array([2, 2])}, r"has the labels \(2, 2\)"),
        ({"scores": scores + np.float16(np.nan), "labels": np.array([1, 2])}, "scores that are not finite"),
        ({"scores": np.array([object()]), "labels": np.array([1])}, r"a\.npz is damaged or no soft map"),
    ):
        np.savez(path, **arrays_)
        with pytest.raises(DataError, match=words):
            read_soft_map(path, CLASSES)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"a\.npz is damaged"):
        read_soft_map(path, CLASSES)
    whole = write_soft_map(tmp_path / "b.safetensors", SoftMap((1, 2), scores)).read_bytes()
    (tmp_path / "b.safetensors").write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"b\.safetensors is damaged or no soft map"):
        read_soft_map(tmp_path / "b.safetensors", CLASSES)


# --- the command line -----------------------------------------------------------------------------------------------


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def evaluate(folder: Path, *arguments: object) -> Any:
    return run("evaluate", "--dataset", folder, "--split", "train", *arguments)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A set of six images of mugs and bowls, ``good`` and ``poor`` predictions and ``soft`` maps of them."""
    (tmp_path / "classes.txt").write_text("background\nmug\nbowl\nnobody\n")
    (tmp_path / "JPEGImages").mkdir()
    names = ["a", "b", "c", "d", "e", "f"]
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("".join(f"{name}\n" for name in names))
    for n, name in enumerate(names):
        size, label = (10 + n, 16), 1 + n % 2
        truth = np.where(draw_box(size, 2, 3, 7, 9), label, 0).astype(np.uint8)
        good = np.where(draw_box(size, 2, 3, 7, 10), label, 0).astype(np.uint8)
        poor = np.where(draw_box(size, 2, 3 + n, 7, 14), label, 0).astype(np.uint8)
        truth[1] = VOID
        write_mask(tmp_path / f"SegmentationClass/{name}.png", truth)
        write_mask(tmp_path / f"good/{name}.png", good)
        write_mask(tmp_path / f"poor/{name}.png", poor)
        soft = SoftMap((label,), np.where(good > 0, 0.75, np.where(poor > 0, 0.25, 0.0))[None].astype(np.float32))
        write_soft_map(tmp_path / f"soft/{name}.safetensors", soft)
    return tmp_path


def pairs_of(folder: Path, name: str) -> list[Pair]:
    return [
        (np.array(Image.open(folder / "SegmentationClass" / path.name)), np.array(Image.open(path)))
        for path in sorted((folder / name).glob("*.png"))
    ]


def test_evaluate_prints_every_class_and_the_mean_with_its_interval(tiny: Path) -> None:
    answer = evaluate(tiny, "--pred", tiny / "good", "--format", "json")
    assert answer.exit_code == 0, answer.exception
    record = json.loads(answer.stdout)
    ious, miou = plain_ious(pairs_of(tiny, "good"))
    assert [each["iou"] for each in record["classes"]] == pytest.approx(ious)
    assert [each["images"] for each in record["classes"]] == [6, 3, 3, 0]
    assert (record["miou"], record["images"], record["n_classes"], record["n_undefined"]) == (
        pytest.approx(miou),
        6,
        3,
        1,
    )
    assert record["interval"][0] < record["miou"] < record["interval"][1] + 1e-9

    table = evaluate(tiny, "--pred", tiny / "good").stdout
    assert f"| mug | 3 | {ious[1]:.3f} |" in table
    assert "| nobody | 0 | – |" in table
    assert f"| **mIoU** | 6 | {miou:.3f} [" in table
    assert "1 classes occur in no pixel that counts, neither true nor predicted" in table
    assert f"mIoU over 3 of 4 classes and 6 images of {tiny.name} train" in table

    rows = list(csv.DictReader(io.StringIO(evaluate(tiny, "--pred", tiny / "good", "--format", "csv").stdout)))
    assert [row["class"] for row in rows] == ["background", "mug", "bowl", "nobody", "mIoU"]
    assert float(rows[-1]["iou"]) == pytest.approx(miou)
    assert float(rows[-1]["iou_low"]) == pytest.approx(record["interval"][0])
    assert rows[3]["iou"] == ""


def test_fewer_than_six_images_give_no_interval_and_the_table_says_why(tiny: Path) -> None:
    (tiny / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc\nd\ne\n")
    both = ("--pred", tiny / "good", "--before", tiny / "poor")
    record = json.loads(evaluate(tiny, *both, "--format", "json").stdout)
    assert record["miou"] > 0.5
    assert (record["interval"], record["before"]["interval"], record["gain"]["interval"]) == (None, None, None)
    table = evaluate(tiny, *both).stdout
    assert "no interval: 5 images; at least 6 are needed for one that can be trusted." in table and "[" not in table
    last = list(csv.DictReader(io.StringIO(evaluate(tiny, *both, "--format", "csv").stdout)))[-1]
    assert float(last["iou"]) > 0.5 and {last[key] for key in last if key.endswith(("_low", "_high"))} == {""}


def test_masks_that_are_right_everywhere_are_not_said_to_be_right_for_sure(tiny: Path) -> None:
    record = json.loads(
        evaluate(tiny, "--pred", tiny / "SegmentationClass", "--void", "ignore", "--format", "json").stdout
    )
    assert record["miou"] == 1.0 and record["interval"] == pytest.approx([0.05 ** (1 / 6), 1.0])


def test_evaluate_compares_two_folders(tiny: Path) -> None:
    record = json.loads(evaluate(tiny, "--pred", tiny / "good", "--before", tiny / "poor", "--format", "json").stdout)
    before, after = plain_ious(pairs_of(tiny, "poor"))[1], plain_ious(pairs_of(tiny, "good"))[1]
    assert (record["miou"], record["before"]["miou"]) == (pytest.approx(after), pytest.approx(before))
    assert before is not None and after is not None
    assert record["gain"]["miou"] == pytest.approx(after - before)
    assert record["gain"]["interval"][0] > 0
    table = evaluate(tiny, "--pred", tiny / "good", "--before", tiny / "poor").stdout
    assert "| class | images | before | after | gain |" in table
    assert f"{after - before:+.3f} [+" in table
    text = evaluate(tiny, "--pred", tiny / "good", "--before", tiny / "poor", "--format", "csv").stdout
    last = list(csv.DictReader(io.StringIO(text)))[-1]
    assert float(last["gain"]) == pytest.approx(after - before)


def test_evaluate_sweeps_thresholds_over_soft_maps(tiny: Path) -> None:
    record = json.loads(evaluate(tiny, "--pred", tiny / "soft", "--sweep", "--format", "json").stdout)
    by_threshold = {each["threshold"]: each["miou"] for each in record["sweep"]}
    assert by_threshold[0.5] == pytest.approx(plain_ious(pairs_of(tiny, "good"))[1])
    assert record["best"] == {"threshold": 0.26, "miou": by_threshold[0.26]}  # the lowest of equals
    assert by_threshold[0.24] < by_threshold[0.26] == by_threshold[0.74] > by_threshold[0.76]
    table = evaluate(tiny, "--pred", tiny / "soft", "--sweep").stdout
    assert "on the images it is chosen on" in table and "| 0.50 | " in table
    rows = list(
        csv.DictReader(io.StringIO(evaluate(tiny, "--pred", tiny / "soft", "--sweep", "--format", "csv").stdout))
    )
    assert [float(row["threshold"]) for row in rows] == list(THRESHOLDS)


def test_evaluate_hears_of_progress(tiny: Path) -> None:
    heard: list[tuple[int, int]] = []
    evaluate_masks(open_set(str(tiny)), "train", tiny / "good", progress=lambda *at: heard.append(at))
    assert heard == [(n, 6) for n in range(1, 7)]


def test_every_mistake_with_predictions_is_one_line_with_the_files_name(tiny: Path) -> None:
    def error(*arguments: object) -> str:
        found = evaluate(tiny, *arguments).exception
        assert isinstance(found, DataError | UsageError), found
        assert "\n" not in str(found)
        return str(found)

    pred = ("--pred", tiny / "good")
    assert "there is no such folder" in error("--pred", tiny / "nowhere")
    assert "lacks 6 of the 6 images of train; the first is a.safetensors (or .npz)" in error(*pred, "--sweep")
    assert "leave it out with --sweep" in error(*pred, "--before", tiny / "poor", "--sweep")
    (tiny / "soft/b.safetensors").write_bytes(b"12345678")
    assert "soft/b.safetensors is damaged or no soft map" in error("--pred", tiny / "soft", "--sweep")

    (tiny / "good/b.png").rename(tiny / "b.png")
    assert "good lacks 1 of the 6 images of train; the first is b.png" in error(*pred)
    write_mask(tiny / "good/b.png", np.zeros((16, 11), np.uint8))
    assert "good/b.png is 16 x 11, the true mask 11 x 16 (height x width)" in error(*pred)
    write_mask(tiny / "good/b.png", np.full((11, 16), 4, np.uint8))
    assert "good/b.png has label 4 on 176 pixels; the classes are 0..3, and 255 is void" in error(*pred)
    Image.fromarray(draw_scene(0, (11, 16))).save(tiny / "good/b.png")
    assert "good/b.png has mode RGB; a mask is a PNG of mode P or L" in error(*pred)
    (tiny / "good/b.png").write_bytes((tiny / "b.png").read_bytes()[:60])
    assert "good/b.png is" in error(*pred)
    write_mask(tiny / "good/b.png", np.full((11, 16), VOID, np.uint8))
    assert "good/b.png leaves 160 pixels void (255)" in error(*pred)
    (tiny / "SegmentationClass/a.png").unlink()
    assert "train.txt line 1: a has no mask" in error(*pred)
    (tiny / "ImageSets/Segmentation/train.txt").rename(tiny / "ImageSets/Segmentation/val.txt")
    assert "unknown split of" in error(*pred)
    (tiny / "ImageSets/Segmentation/val.txt").unlink()
    assert "no list " in error(*pred) and "wsss check" in error(*pred)


def test_void_predictions_are_counted_as_asked_and_said(tiny: Path) -> None:
    for path in (tiny / "good").glob("*.png"):
        labels = np.array(Image.open(path))
        labels[-1] = VOID
        write_mask(path, labels)
    answer = evaluate(tiny, "--pred", tiny / "good", "--void", "ignore")
    assert "of the pixels with a true label are void in the masks: counted as ignore" in answer.stdout
    record = json.loads(evaluate(tiny, "--pred", tiny / "good", "--void", "background", "--format", "json").stdout)
    assert record["void_share"] == pytest.approx(6 * 16 / (sum(range(9, 15)) * 16))


def test_an_unknown_dataset_is_offered_the_nearest(tiny: Path) -> None:
    found = run("evaluate", "--dataset", "voc21", "--pred", tiny / "good").exception
    assert isinstance(found, UnknownNameError) and "did you mean 'voc12'" in str(found)
