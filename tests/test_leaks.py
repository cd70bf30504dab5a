from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from prisbench.datasets.checks import candidates, embedding, hash_index, leaks
from prisbench.datasets.checks.gallery import Gallery, PictureRecord
from prisbench.datasets.checks.hash_index import HashIndex
from prisbench.datasets.checks.leaks import Audit, Leak, audit
from prisbench.datasets.checks.registration import (
    GRID,
    PROBES,
    WINDOWS,
    Window,
    _fine,
    correlation,
    fit,
    probe_hashes,
    thumbnail,
    window_hashes,
)
from prisbench.errors import BackboneError, DataError
from prisbench.images.perceptual import TURNS, hamming, perceptual_hash, turned_hashes

SIZE_HW = (96, 132)


def draw_photo(seed: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    """Something with coarse and fine detail, like a photo: noise of four sizes, ``h w 3``."""
    rng = np.random.default_rng(seed)
    h, w = size_hw
    total = np.zeros((h, w, 3))
    for cells in (4, 9, 20, 45):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells + 2, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((w, h), Image.Resampling.BICUBIC), float) / cells**0.5
    total -= total.min()
    return (255 * total / total.max()).astype(np.uint8)


def as_jpeg(image: np.ndarray, quality: int, scale: float = 1) -> np.ndarray:
    out = io.BytesIO()
    small = Image.fromarray(image).resize((round(image.shape[1] * scale), round(image.shape[0] * scale)))
    small.save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out).convert("RGB"))


def picture(
    where: str, role: str = "reference", subject: str = "mug", split: str = "test", other: str = ""
) -> PictureRecord:
    return PictureRecord(where, role, (subject,), split, other)


def look(*shown: tuple[np.ndarray, PictureRecord], **changes: Any) -> Audit:
    """Audit pictures that are given with what is known of them."""
    gallery = Gallery(changes.get("embed"), parts=changes.get("parts", True))
    images = {}
    for image, about in shown:
        images[about.where] = image
        gallery.add(image, about.where, about)
    return audit(gallery, changes.get("read", images.__getitem__))


def told(found: Audit) -> list[tuple[str, str, str, str]]:
    return [(leak.kind, leak.a.where, leak.b.where, leak.how) for leak in found.leaks]


# The hash.


def test_a_hash_is_the_same_wherever_it_is_computed() -> None:
    y, x = np.mgrid[:30, :47]
    image = np.stack([(7 * y + x * x // 9) % 256, (3 * x + y * y) % 256, (x * y) % 256], axis=2).astype(np.uint8)
    assert perceptual_hash(image) == "6e5a75c59b2952c4"


def test_the_hash_is_zauners_on_area_means() -> None:
    for seed, size_hw in enumerate([(64, 96), (32, 64), (160, 32)]):
        image = draw_photo(seed, size_hw)
        h, w = size_hw
        luma = image @ np.array([0.299, 0.587, 0.114])
        small = luma.reshape(32, h // 32, 32, w // 32).mean(axis=(1, 3))
        low = dctn(small, norm="ortho")[1:9, 1:9].reshape(-1)
        bits = "".join("1" if bit else "0" for bit in low > np.median(low))
        assert hamming(perceptual_hash(image), f"{int(bits, 2):016x}") <= 2  # whole grey levels, 14-bit cosines


def test_hashes_of_turned_pictures_are_those_of_the_turned_pixels() -> None:
    for size_hw in ((37, 53), (20, 31), (70, 33)):
        image = draw_photo(3, size_hw)
        found = turned_hashes(image)
        assert list(found) == list(TURNS)
        assert len(set(found.values())) == 8
        for turn, do in TURNS.items():
            assert found[turn] == perceptual_hash(np.ascontiguousarray(do(image))), turn


def test_a_picture_of_one_colour_hashes_to_nothing() -> None:
    assert perceptual_hash(np.full((40, 51, 3), 77, np.uint8)) == "0" * 16


def test_the_hash_survives_another_size_and_jpeg_but_not_another_picture() -> None:
    image = draw_photo(1)
    assert hamming(perceptual_hash(image), perceptual_hash(as_jpeg(image, 40, 0.5))) <= 4
    assert min(hamming(perceptual_hash(image), perceptual_hash(draw_photo(seed))) for seed in range(2, 12)) >= 14


def test_distances_count_bits() -> None:
    assert hamming("0000000000000000", "8000000000000001") == 2
    with pytest.raises(ValueError, match="invalid literal"):
        hamming("0", "what")


# Registration.


def test_the_first_window_is_the_whole_and_its_hash_that_of_the_whole_probe() -> None:
    thumb = thumbnail(draw_photo(1))
    assert thumb.shape == (GRID, GRID)
    assert WINDOWS[0] == PROBES[0] == Window(0, 0, GRID, GRID)
    windows, loud = window_hashes(thumb)
    probes, _ = probe_hashes(thumb)
    assert len(windows) == len(WINDOWS)
    assert loud.all()
    for probe, found in zip(PROBES, probes, strict=True):
        assert found == windows[WINDOWS.index(probe)]


def test_a_picture_of_one_colour_has_no_loud_window() -> None:
    assert not window_hashes(thumbnail(np.full((40, 51, 3), 90, np.uint8)))[1].any()


def test_a_fit_says_where_a_picture_lies_on_another() -> None:
    image = draw_photo(1, (200, 300))
    a, b = image[:160, :240], image[20:180, 60:300]  # b's middle lies 20 of 160 lower and 60 of 240 to the right
    found = fit(thumbnail(a), thumbnail(b), Window(15, 30, 81, 81), Window(0, 0, 81, 81))
    assert found.agreement > 0.95
    np.testing.assert_allclose(found.shift_yx, (20 / 160, 60 / 240), atol=0.01)
    np.testing.assert_allclose(found.scale_yx, (1, 1), atol=0.02)
    assert found.shared == pytest.approx(140 / 160 * 180 / 240, abs=0.03)


def test_a_fit_says_what_part_a_picture_is_of_another() -> None:
    image = draw_photo(1, (200, 300))
    found = fit(thumbnail(image), thumbnail(image[30:190, 20:260]), Window(18, 9, 99, 99), PROBES[0])
    assert found.agreement > 0.95
    np.testing.assert_allclose(found.scale_yx, (0.8, 0.8), atol=0.02)
    assert found.shared == 1


def test_other_pictures_do_not_agree_nor_do_flat_ones() -> None:
    a, b, flat = thumbnail(draw_photo(1)), thumbnail(draw_photo(2)), thumbnail(np.full((30, 40, 3), 9, np.uint8))
    assert fit(a, b, PROBES[0], PROBES[0]).agreement < 0.5
    assert fit(a, flat, PROBES[0], PROBES[0]).agreement == 0
    assert fit(a, a, Window(0, 0, 20, 20), PROBES[0]).agreement < 0.5


# The audit.


def test_copies_of_reference_photos_are_found_however_they_lie() -> None:
    image = draw_photo(1, (120, 180))
    shown = {
        "jpeg": as_jpeg(image, 50, 0.7),
        "mirrored": image[:, ::-1],
        "on its head": image[::-1, ::-1],
        "on its side": np.rot90(image),
        "part": image[20:110, 10:150],
        "noisy": np.clip(image + np.random.default_rng(0).normal(0, 8, image.shape), 0, 255).astype(np.uint8),
        "dark": (255 * (image / 255) ** 1.6).astype(np.uint8),
        "other": draw_photo(2, (120, 180)),
    }
    scenes = [(np.ascontiguousarray(scene), picture(name, "scene")) for name, scene in shown.items()]
    found = look((image, picture("photo")), *scenes)
    assert {leak.b.where: leak.how for leak in found.leaks} == {
        "jpeg": "the same picture",
        "mirrored": "the same picture, mirrored",
        "on its head": "the same picture, turned by 180 degrees",
        "on its side": "the same picture, turned to the left",
        "part": "the same picture, a part of it",
        "noisy": "the same picture",
        "dark": "the same picture",
    }
    assert {leak.kind for leak in found.leaks} == {"leak"}
    assert all(leak.a.where == "photo" and leak.proven and 0.82 <= leak.agreement <= 1 for leak in found.leaks)
    assert (found.references, found.scenes, found.left_out, found.wide) == (1, 8, 0, True)
    assert found.found == {"leak": 7}


def test_a_shifted_copy_is_found_with_its_shift() -> None:
    wide = draw_photo(5, (120, 240))
    found = look((wide[:, :180], picture("a")), (np.ascontiguousarray(wide[:, 54:234]), picture("b")))
    assert told(found) == [("copy", "a", "b", "the same picture, shifted by 30 % of its width")]


def test_different_pictures_are_no_copies() -> None:
    shown = [(draw_photo(seed), picture(f"{seed}", ["reference", "scene"][seed % 2])) for seed in range(20)]
    assert look(*shown).leaks == ()


def test_one_thing_before_two_plain_walls_is_no_copy() -> None:
    thing = draw_photo(3, (40, 40))
    pictures = []
    for n, (grey, top, left) in enumerate(((200, 30, 40), (90, 32, 60), (140, 44, 22))):
        image = np.full((*SIZE_HW, 3), grey, np.uint8)
        image[80:] = 255 - grey
        image[top : top + 40, left : left + 40] = thing
        pictures.append((image, picture(f"{n}")))
    assert look(*pictures).leaks == ()


def test_one_thing_on_two_carpets_is_no_copy() -> None:
    thing = 160 * (draw_photo(3, (44, 44)) // 128).astype(float) - 80

    def on_carpet(seed: int) -> np.ndarray:
        weave = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 44, 3), dtype=np.uint8))
        image = 120 + 0.08 * np.asarray(weave.resize(SIZE_HW[::-1], Image.Resampling.BICUBIC), float)
        image[20:64, 30:74] += thing
        return image.clip(0, 255).astype(np.uint8)

    one, other = on_carpet(1), on_carpet(2)
    found = fit(thumbnail(one), thumbnail(other), PROBES[0], PROBES[0])
    detail = [_fine(thumbnail(image)) for image in (one, other)]
    assert correlation(*detail) > 0.93  # the thing has nearly all the contrast there is
    assert found.agreement < 0.7
    assert look((one, picture("a")), (other, picture("b"))).leaks == ()


def test_pictures_of_one_colour_are_copies_only_with_the_same_pixels() -> None:
    greys = [(np.full((*SIZE_HW, 3), grey, np.uint8), picture(f"{n}")) for n, grey in enumerate((7, 7, 8))]
    assert told(look(*greys)) == [("copy", "0", "1", "the same pixels")]


def test_what_a_copy_means_follows_from_whose_the_pictures_are() -> None:
    image, mirror = draw_photo(1), np.ascontiguousarray(draw_photo(1)[:, ::-1])

    def kinds(one: PictureRecord, other: PictureRecord, again: np.ndarray = mirror) -> list[str]:
        return [leak.kind for leak in look((image, one), (again, other)).leaks]

    photo = picture("photo")
    assert kinds(photo, picture("b", "scene")) == ["leak"]
    assert kinds(photo, picture("b", "scene", subject="cup")) == ["copy"]
    assert kinds(photo, picture("b", "scene", subject="cup"), image) == ["leak"]
    assert kinds(photo, picture("b", split="validation")) == ["leak"]
    assert kinds(photo, picture("b", subject="cup")) == ["copy"]
    assert kinds(photo, picture("b", other="elsewhere")) == ["shared"]
    assert kinds(picture("a", "scene"), picture("b", "scene", split="validation")) == ["leak"]
    assert kinds(picture("a", "scene"), picture("b", "scene", other="elsewhere")) == ["shared"]
    assert kinds(picture("a", "scene"), picture("b", "scene", subject="cup")) == []
    assert kinds(picture("a", other="elsewhere"), picture("b", other="elsewhere")) == []


def test_a_scene_of_two_queries_is_one_scene_of_two_subjects() -> None:
    scene = draw_photo(1)
    found = look(
        (scene, picture("query 1", "scene", "cup")),
        (scene, picture("query 2", "scene", "mug")),
        (np.ascontiguousarray(scene[::-1]), picture("photo", subject="mug")),
    )
    assert found.scenes == 1
    assert told(found) == [("leak", "photo", "query 1", "the same picture, upside down")]
    assert found.leaks[0].b.subjects == ("cup", "mug")


def test_in_large_sets_shifted_copies_are_sought_within_a_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "WIDE", 0)
    wide = draw_photo(5, (120, 240))
    shifted, mirrored = np.ascontiguousarray(wide[:, 54:234]), np.ascontiguousarray(wide[:, 179::-1])
    found = look(
        (wide[:, :180], picture("photo")),
        (shifted, picture("own", "scene")),
        (shifted[:-1], picture("of another", "scene", "cup")),
        (mirrored, picture("whole of another", "scene", "cup")),
    )
    assert not found.wide
    assert [leak.b.where for leak in found.leaks] == ["own", "whole of another"]


def test_what_was_not_compared_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    image = draw_photo(1)
    copies = [(as_jpeg(image, quality), picture(f"{quality}", "scene")) for quality in (60, 70, 80, 90)]
    monkeypatch.setattr(candidates, "MOST_CANDIDATES", 3)
    found = look((image, picture("photo")), *copies, parts=False)
    assert found.left_out + found.registered == 4
    assert found.left_out > 0
    monkeypatch.undo()

    def unreadable(key: str) -> np.ndarray:
        if key == "70":
            raise DataError("gone")
        return dict((about.where, pixels) for pixels, about in [(image, picture("photo")), *copies])[key]

    found = look((image, picture("photo")), *copies, read=unreadable)
    assert [leak.b.where for leak in found.leaks] == ["60", "80", "90"]
    assert found.left_out == 1


def test_only_so_many_leaks_are_kept_but_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "MOST_LEAKS", 2)
    found = look(*((draw_photo(1), picture(f"{n}")) for n in range(5)))
    assert (len(found.leaks), found.found) == (2, {"copy": 4})


def test_near_hashes_are_found_as_by_comparing_all() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 3000, dtype=np.uint64)
    flips = np.array([sum(1 << int(bit) for bit in rng.choice(64, n, replace=False)) for n in range(13)], np.uint64)
    wanted = np.concatenate([hashes[100:113] ^ flips, rng.integers(0, 2**63, 20, dtype=np.uint64)])
    distances = np.bitwise_count(wanted[:, None] ^ hashes[None])
    expected = {
        (int(distances[:, place].argmin()), int(place), int(distances[:, place].min()))
        for place in np.flatnonzero(distances.min(axis=0) <= hash_index.NEAR)
    }
    assert len(expected) >= 9
    assert set(HashIndex(hashes).near(wanted)) == expected


def test_near_hashes_are_found_a_portion_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_index, "_PAIRS_AT_A_TIME", 7)
    hashes = np.full(50, 5, np.uint64)
    assert sorted(HashIndex(hashes).near(np.array([4, 5, 6], np.uint64))) == [(1, n, 0) for n in range(50)]
    assert list(HashIndex(hashes[:0]).near(hashes)) == []


def test_embeddings_ask_about_pairs_that_no_hash_finds() -> None:
    image, brighter = draw_photo(1), draw_photo(2)
    found = look((image, picture("a")), (brighter, picture("b", "scene")), embed=lambda pixels: np.array([3.0, 4.0]))
    assert found.embedded
    assert told(found) == [("alike", "a", "b", "embedded alike")]
    assert found.leaks[0].agreement == pytest.approx(1, abs=1e-3)
    assert not found.leaks[0].proven
    vectors = iter((np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    far = look((image, picture("a")), (brighter, picture("b", "scene")), embed=lambda pixels: next(vectors))
    assert far.leaks == ()


def test_a_copy_is_not_asked_about_again() -> None:
    image = draw_photo(1)
    found = look(
        (image, picture("a")), (as_jpeg(image, 80), picture("b", "scene")), embed=lambda pixels: np.array([1.0, 0.0])
    )
    assert [leak.kind for leak in found.leaks] == ["leak"]


def test_leaks_come_first_and_in_order() -> None:
    image = draw_photo(1)
    found = look((image, picture("z")), (image, picture("y", "scene")), (image, picture("x")))
    assert [(leak.kind, leak.b.where) for leak in found.leaks] == [("leak", "y"), ("copy", "x")]


@pytest.mark.slow
def test_a_vision_model_from_a_folder_embeds(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=32, patch_size=16, **sizes)).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    embed = embedding.load_embedding(str(tmp_path))
    vector = embed(draw_photo(1))
    assert vector.shape == (16,)
    np.testing.assert_allclose(embed(draw_photo(1)), vector, atol=1e-6)
    assert np.abs(embed(draw_photo(2)) - vector).max() > 1e-3


@pytest.mark.slow
def test_a_missing_vision_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        BackboneError, match=r"no vision model '.*nothing' for embeddings .*such as facebook/dinov2"
    ) as found:
        embedding.load_embedding(str(tmp_path / "nothing"))
    assert "\n" not in str(found.value)


# Real photos.


@pytest.mark.slow
@pytest.mark.data
def test_the_copies_among_the_dreambooth_photos_are_found_and_nothing_else() -> None:
    if "PRISBENCH_DATA" not in os.environ:
        pytest.skip("PRISBENCH_DATA is not set")
    root = Path(os.environ["PRISBENCH_DATA"])
    gallery = Gallery()
    sets = (("", root / "dreambooth512", "reference"), ("perseg", root / "perseg_examples/Images", "scene"))
    for other, folder, role in sets:
        for path in sorted(folder.glob("*/*.jpg")):
            about = PictureRecord(f"{path.parent.name}/{path.stem}", role, (path.parent.name,), "", other)
            gallery.add(np.asarray(Image.open(path).convert("RGB")), path, about)
    found = audit(gallery, lambda path: np.asarray(Image.open(path).convert("RGB")))
    assert (found.references, found.scenes) == (158, 9)
    own = [leak for leak in found.leaks if leak.kind == "copy"]
    assert [(*sorted((leak.a.where, leak.b.where)), leak.how) for leak in own] == [
        ("cat/02", "cat/03", "the same picture, shifted by 28 % of its width"),
        ("dog5/02", "dog5/03", "the same picture, mirrored"),
    ]
    shared = {(leak.a.where, leak.b.where) for leak in found.leaks if leak.kind == "shared"}
    names = [f"{name}/0{n}" for name in ("cat", "colorful_sneaker", "duck_toy") for n in range(3)]
    assert shared == {(name, name) for name in names} | {("cat/03", "cat/02")}
    assert found.found == {"copy": 2, "shared": 10}


def test_a_leak_is_told_apart_from_what_only_looks_alike() -> None:
    assert Leak(picture("a"), picture("b", "scene"), "embedded alike", 0.99, proven=False).kind == "alike"
