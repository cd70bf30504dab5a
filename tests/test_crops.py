from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prisbench.datasets.checks import crops
from prisbench.datasets.checks.crops import Place, PointStore, brightness, prove
from prisbench.datasets.checks.gallery import Gallery, PictureRecord
from prisbench.datasets.checks.keypoints import MOST_POINTS, keypoints
from prisbench.datasets.checks.leaks import Audit, audit
from prisbench.images.perceptual import TURNS
from prisbench.images.photos import load_photo

SCENE_HW = (300, 420)


def draw_scene(seed: int, size_hw: tuple[int, int] = SCENE_HW) -> np.ndarray:
    """Coarse and fine detail everywhere, like a photo of foliage: noise of five sizes, ``h w 3``."""
    rng = np.random.default_rng(seed)
    h, w = size_hw
    total = np.zeros((h, w, 3))
    for cells in (5, 12, 27, 60, 110):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells + 2, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC), float) / cells**0.5
    total -= total.min()
    return (255 * total / total.max()).astype(np.uint8)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    h, w = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((round(w * scale), round(h * scale)), Image.Resampling.BICUBIC))


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out).convert("RGB"))


def look(reference: np.ndarray, *scenes: np.ndarray) -> Audit:
    """Audit one subject's reference photo and scenes, which are called 0, 1 ..."""
    gallery = Gallery()
    gallery.add(reference, -1, PictureRecord("photo", "reference", ("mug",), "test", ""))
    for n, scene in enumerate(scenes):
        gallery.add(scene, n, PictureRecord(f"{n}", "scene", ("mug",), "test", ""))
    return audit(gallery, lambda n: reference if n < 0 else scenes[n])


def copies(found: Audit) -> list[tuple[str, str]]:
    return [(leak.b.where, leak.how) for leak in found.leaks]


SCENE = draw_scene(1)
CROP = np.ascontiguousarray(SCENE[150:260, 200:354])  # 13 % of the area


def with_border(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((12, 12), (16, 16), (0, 0)), constant_values=250)


def with_strip(image: np.ndarray) -> np.ndarray:
    changed = image.copy()
    changed[-20:] = 240
    changed[-15:-5, 8:-8:5] = 20
    return changed


def on_white(image: np.ndarray) -> np.ndarray:
    """Only an ellipse of it, as a subject that was cut out by its mask."""
    y, x = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
    return np.where((y**2 + x**2 < 1)[..., None], image, 255).astype(np.uint8)


CROPS = {
    "exact": CROP,
    "half size": resized(CROP, 0.5),
    "twice the size": as_jpeg(resized(CROP, 2), 75),
    "JPEG": as_jpeg(CROP, 50),
    "mirrored": as_jpeg(CROP[:, ::-1], 75),
    "on its side": np.rot90(CROP),
    "darker": (255 * (CROP / 255) ** 1.4).astype(np.uint8),
    "grey": np.asarray(Image.fromarray(CROP).convert("L").convert("RGB")),
    "border": as_jpeg(with_border(CROP), 75),
    "letterbox": np.pad(CROP, ((40, 40), (0, 0), (0, 0))),
    "strip": as_jpeg(with_strip(CROP), 75),
    "on white": as_jpeg(on_white(CROP), 90),
}


def test_reference_photos_cut_out_of_a_scene_are_leaks() -> None:
    shown = {**CROPS, "scene": SCENE, "other": draw_scene(2)}
    gallery = Gallery()
    for name, image in shown.items():
        role = "reference" if name in CROPS else "scene"
        gallery.add(np.ascontiguousarray(image), name, PictureRecord(name, role, ("mug",), "test", ""))
    found = [
        leak for leak in audit(gallery, lambda name: np.ascontiguousarray(shown[name])).leaks if leak.kind == "leak"
    ]
    turned = {"mirrored": ", mirrored", "on its side": ", turned to the right"}
    covered = {"strip": ", partly covered", "on white": ", partly covered"}
    assert {(leak.a.where, leak.b.where): leak.how for leak in found} == {
        (name, "scene"): f"the same picture{turned.get(name, '')}, with more around it{covered.get(name, '')}"
        for name in CROPS
    }
    assert all(0.82 < leak.agreement <= 1 for leak in found)


def test_a_scene_cut_out_of_a_reference_photo_is_a_leak() -> None:
    assert copies(look(SCENE, resized(CROP, 0.7), draw_scene(3))) == [("0", "the same picture, a part of it")]


def test_cut_out_scenes_of_another_split_are_leaks_and_those_of_the_same_split_are_not_told() -> None:
    for split, kinds in (("validation", ["leak"]), ("test", [])):
        gallery = Gallery()
        gallery.add(CROP, 0, PictureRecord("crop", "scene", ("cup",), split, ""))
        gallery.add(SCENE, 1, PictureRecord("scene", "scene", ("mug",), "test", ""))
        assert [leak.kind for leak in audit(gallery, [CROP, SCENE].__getitem__).leaks] == kinds


def test_what_is_found_does_not_depend_on_order_or_on_how_many_are_looked_at_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = {"crop": CROP, "other": draw_scene(4), "scene": SCENE, "mirrored": SCENE[:, ::-1]}

    def found(names: list[str]) -> set[tuple[str, str, str, float]]:
        gallery = Gallery()
        for name in names:
            role = "reference" if name == "crop" else "scene"
            gallery.add(np.ascontiguousarray(shown[name]), name, PictureRecord(name, role, ("mug",), "test", ""))
        leaks = audit(gallery, lambda name: np.ascontiguousarray(shown[name])).leaks
        return {(leak.a.where, leak.b.where, leak.how, leak.agreement) for leak in leaks}

    first = found(list(shown))
    assert {pair[:2] for pair in first} == {("crop", "scene"), ("crop", "mirrored")}
    assert found(list(shown)[::-1]) == first
    monkeypatch.setattr(crops, "_AT_A_TIME", 1)
    monkeypatch.setattr(crops, "_IN_MEMORY", 1)
    assert found(list(shown)) == first


def test_in_large_sets_crops_are_sought_among_a_subjects_own_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prisbench.datasets.checks.candidates.WIDE", 0)
    found = look(CROP, SCENE)
    assert (copies(found), found.wide) == ([("0", "the same picture, with more around it")], False)


def test_of_too_many_scenes_parts_are_sought_for_reference_photos_only(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"photo": draw_scene(2, (60, 80)), "crop": CROP, "scene": SCENE}
    gallery = Gallery()
    gallery.add(shown["photo"], "photo", PictureRecord("photo", "reference", ("mug",), "test", ""))
    gallery.add(CROP, "crop", PictureRecord("crop", "scene", ("cup",), "validation", ""))
    gallery.add(SCENE, "scene", PictureRecord("scene", "scene", ("mug",), "test", ""))
    assert (found := audit(gallery, shown.__getitem__)).scenes_wide and len(found.leaks) == 1
    gallery.add(draw_scene(3, (60, 80)), "more", PictureRecord("more", "scene", ("cup",), "validation", ""))
    gallery.add(draw_scene(4, (60, 80)), "again", PictureRecord("again", "scene", ("mug",), "test", ""))
    monkeypatch.setattr(
        "prisbench.datasets.checks.candidates.WIDE", 5
    )  # a photo and five pictures; two scenes are asked about
    found = audit(gallery, shown.__getitem__)
    assert (found.wide, found.scenes_wide, found.leaks) == (True, False, ())


def test_one_thing_in_two_photos_is_no_crop() -> None:
    thing = draw_scene(5, (90, 120))
    photos = [draw_scene(seed, (200, 260)) for seed in (6, 7)]
    for photo, (top, left) in zip(photos, ((40, 60), (70, 100)), strict=True):
        photo[top : top + 90, left : left + 120] = thing
    store = PointStore()
    for photo in photos:
        store.add(photo)
    (proposed,) = [some for some in crops.candidates(store, [0], [1], lambda a, b: True) if some]
    assert proposed[0].place.points > 20  # the thing has many points in common
    assert not any(prove(*map(brightness, photos), one.place).fit.agreement >= crops.AGREEMENT for one in proposed)
    assert look(*photos).leaks == ()


def test_points_say_where_a_crop_lies() -> None:
    scene, crop = keypoints(SCENE), keypoints(as_jpeg(resized(CROP, 0.7)[:, ::-1], 90))
    index = crops.HashIndex(scene.hashes)
    (place, *_) = crops.places(crop, (77, 108), scene, index.likely(crop.hashes))
    assert place.turn == "mirrored" and place.points >= 5
    assert place.scale == pytest.approx(1 / 0.7, rel=0.03)
    np.testing.assert_allclose(place.shift_yx, (150, 200), atol=4)


def test_points_of_a_turned_picture_are_its_turned_points() -> None:
    image = draw_scene(8, (113, 161))  # odd sides, so that halving keeps the same pixels
    straight = keypoints(image)
    for n, (name, turned) in enumerate(TURNS.items()):
        found = keypoints(np.ascontiguousarray(turned(image)))
        index = crops.HashIndex(found.hashes)
        places = crops.places(straight, image.shape[:2], found, index.likely(straight.hashes))
        assert places and places[0].turn == name, name
        assert places[0].scale == pytest.approx(1, abs=0.01)
        np.testing.assert_allclose(places[0].shift_yx, (0, 0), atol=1)
        assert places[0].points > 0.5 * len(straight.hashes)
        assert crops._BETWEEN[n, n] == 0


def test_a_picture_has_few_points_and_one_of_one_colour_has_none() -> None:
    assert 100 < len(keypoints(draw_scene(9)).hashes) <= MOST_POINTS
    for size_hw in ((40, 61), (1, 7), (3, 300)):
        assert len(keypoints(np.full((*size_hw, 3), 77, np.uint8)).hashes) == 0


def test_large_pictures_are_looked_at_in_a_smaller_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "LARGEST", 252)
    store = PointStore()
    store.add(SCENE)
    assert store.size_hw(0) == brightness(SCENE).shape == (180, 252)
    assert copies(look(SCENE[60:240, 100:352].copy(), SCENE)) == [("0", "the same picture, with more around it")]


def test_pictures_that_share_little_do_not_agree() -> None:
    grey = brightness(SCENE)
    assert prove(grey, grey, Place("as it is", 1.0, (0.0, 0.0), 9)).fit.agreement == pytest.approx(1)
    assert prove(grey, grey, Place("as it is", 1.0, (200.0, 0.0), 9)).fit.agreement == 0
    assert prove(grey, grey, Place("as it is", 0.08, (0.0, 0.0), 9)).fit.agreement == 0
    assert prove(grey, grey, Place("as it is", 1.0, (2000.0, 0.0), 9)).fit.agreement == 0


# Real photos.


@pytest.mark.slow
@pytest.mark.data
def test_crops_of_real_photos_are_found() -> None:
    if "PRISBENCH_DATA" not in os.environ:
        pytest.skip("PRISBENCH_DATA is not set")
    photos = sorted(Path(os.environ["PRISBENCH_DATA"], "dreambooth512").glob("*/00.jpg"))
    rng = np.random.default_rng(0)
    found, asked = {"exact": 0, "changed": 0}, 0
    for path in photos[:20]:
        scene = load_photo(path)
        (h, w), side = scene.shape[:2], 0.1**0.5
        top, left = int(rng.integers(h - side * h)), int(rng.integers(w - side * w))
        crop = np.ascontiguousarray(scene[top : top + int(side * h), left : left + int(side * w)])
        asked += 1
        for name, photo in (("exact", crop), ("changed", as_jpeg(resized(crop, 0.7), 75))):
            found[name] += copies(look(photo, scene)) == [("0", "the same picture, with more around it")]
    assert asked == 20
    assert found["exact"] >= 19 and found["changed"] >= 17
