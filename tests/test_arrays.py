"""Pictures and masks are taken as callers have them; the result depends on the pixels alone."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

from prisbench import counts
from prisbench.concepts.controls import noun_only
from prisbench.datasets.photo_folder import near_duplicates
from prisbench.datasets.schema import QueryRow, SubjectRow
from prisbench.diffusion.backbone import Backbone
from prisbench.diffusion.loading import load_backbone
from prisbench.errors import DataError
from prisbench.images import drawing as pictures
from prisbench.images import masks, outlines, photos, regions
from prisbench.images.arrays import as_image, as_mask
from prisbench.images.perceptual import perceptual_hash
from prisbench.localizer import refine
from prisbench.localizer.answer import locate, predict
from prisbench.localizer.method import AttentionMethod
from prisbench.localizer.observe import observe
from prisbench.localizer.presets import default_settings
from prisbench.localizer.sheet import sheet
from prisbench.settings import MethodOptions
from prisbench.types import SLOT, Query, Subject

needs_crf = pytest.mark.skipif(
    not pytest.importorskip("importlib.util").find_spec("pydensecrf"), reason="the extra 'crf' is not installed"
)


def picture(h: int = 40, w: int = 56) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


def half(h: int = 40, w: int = 56) -> np.ndarray:
    return np.random.default_rng(1).random((h, w)) > 0.5


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def strided(array: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(array, 2, axis=0), 3, axis=1)[::2, ::3]


def reversed_(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "read-only": read_only,
    "strided": strided,
    "reversed": reversed_,
    "Fortran": np.asfortranarray,
    "Pillow": Image.fromarray,
    "as numpy.asarray gives it": lambda array: np.asarray(Image.fromarray(array)),
}


@pytest.fixture(params=LAYOUTS)
def laid(request: pytest.FixtureRequest) -> Callable[[np.ndarray], Any]:
    return LAYOUTS[request.param]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny.save(tmp_path_factory.mktemp("arrays") / "tiny"))


def test_an_array_in_c_order_is_taken_itself_and_any_other_is_copied(laid: Callable[[np.ndarray], Any]) -> None:
    own = picture()
    assert as_image(own) is own
    taken = as_image(laid(own))
    assert taken.flags.c_contiguous and taken.flags.writeable and np.array_equal(taken, own)


def test_a_mask_is_taken_in_any_layout(laid: Callable[[np.ndarray], Any]) -> None:
    taken = as_mask(laid(half()))
    assert taken.dtype == bool and taken.flags.c_contiguous and taken.flags.writeable and np.array_equal(taken, half())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_a_pillow_image_becomes_what_its_file_would(mode: str) -> None:
    whole = Image.fromarray(np.dstack([picture(), picture()[:, :, 0]]))
    grey = picture()[:, :, 0].astype(np.uint16) * 257
    image = Image.fromarray(grey) if mode == "I;16" else whole.convert("RGB").convert(mode)
    image = whole.convert(mode) if mode in ("LA", "RGBA") else image
    out = io.BytesIO()
    image.save(out, format="TIFF" if mode == "CMYK" else "PNG")
    assert image.mode == mode and np.array_equal(as_image(image), photos.decode_photo(out.getvalue(), mode))


@pytest.mark.parametrize("mode", ["PA", "RGBa", "HSV", "YCbCr", "RGBX"])
def test_modes_that_few_files_hold_become_rgb(mode: str) -> None:
    image = Image.fromarray(picture()).convert("RGBA" if mode in ("PA", "RGBa") else "RGB").convert(mode)
    assert as_image(image).shape == (40, 56, 3)


def test_a_pillow_image_is_turned_upright_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(picture()).save(path, exif=exif)
    upright = photos.load_photo(path)
    assert upright.shape == (56, 40, 3)
    with Image.open(path) as image:
        assert np.array_equal(as_image(image), upright)
        assert np.array_equal(as_image(image.convert("RGB")), upright)


def test_a_pillow_image_whose_file_is_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(picture(200, 300)).save(path)
    path.write_bytes(path.read_bytes()[:3000])
    with Image.open(path) as image, pytest.raises(DataError, match=r"^photo 2 cannot be turned to RGB"):
        as_image(image, "photo 2")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (picture() / 255, r"^x is an array of float64 \(40 x 56 x 3\); images are uint8, .*\(image \* 255\)\.round"),
        (picture().astype(np.uint16), r"array of uint16 .*image // 257"),
        (picture().astype(np.int64), r"array of int64 .*image\.astype\(numpy\.uint8\)"),
        (picture() > 9, r"array of bool .*numpy\.uint8\(255\) \* image"),
        (picture()[:, :, 0], r"^x is an array of 40 x 56; images are h x w x 3: give numpy\.stack"),
        (picture()[:, :, :1], r"40 x 56 x 1; .*numpy\.repeat"),
        (np.dstack([picture(), picture()[:, :, 0]]), r"40 x 56 x 4; .*PIL\.Image\.fromarray\(image\)"),
        (picture().transpose(2, 0, 1), r"3 x 40 x 56; .*transpose\(1, 2, 0\)"),
        (picture()[None], r"1 x 40 x 56 x 3; .*one image at a time"),
        (np.uint8(3), r"^x is of type numpy\.uint8"),
        (picture()[:0], r"0 x 56 x 3, without a pixel"),
        ([[1, 2]], r"^x is of type list; give a NumPy array"),
        ("duck.jpg", r"^x is of type str"),
        (Image.fromarray(picture()[:, :, 0].astype(np.float32)), r"^x has floating-point values"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_in_one_line_with_the_cure(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        as_image(given, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (half().astype(np.uint8) * 255, r"^x is an array of uint8 \(40 x 56\); masks are boolean: give mask > 0"),
        (half().astype(np.float32), r"array of float32 .*mask > 0\.5"),
        (half()[None], r"^x is an array of 1 x 40 x 56; masks are h x w"),
        (Image.fromarray(half().astype(np.uint8)), r"^x is a Pillow image of mode 'L'; .*numpy\.asarray\(image\) > 0"),
        (None, r"^x is of type NoneType"),
    ],
)
def test_what_is_no_mask_is_refused_in_one_line_with_the_cure(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        as_mask(given, "x")


def results(of: Callable[[np.ndarray], Any]) -> Iterator[tuple[str, Any]]:
    """What every public function without a model gives of a picture and a mask laid out so."""
    image, mask = of(picture()), of(half())
    yield "image_id", photos.image_id(image)
    yield "encode_png", photos.encode_png(image)
    yield "resize_to", photos.resize_to(image, (20, 31)).tobytes()
    yield "fit_within", photos.fit_within(image, 30).tobytes()
    yield "looks_like_mask", photos.looks_like_mask(image)
    yield "perceptual_hash", perceptual_hash(image)
    yield "near_duplicates", near_duplicates([image, of(picture()[:, ::-1].copy()), of(picture(40, 41))])
    yield "outline", pictures.outline(image, mask).tobytes()
    yield "heat", pictures.heat(image, np.linspace(0, 1, 40 * 56).reshape(40, 56)).tobytes()
    yield "sheet", pictures.sheet([[("one", image)]]).tobytes()
    yield "png", pictures.png(image)
    yield "to_rle", masks.to_rle(mask)
    yield "mask_sha256", masks.mask_sha256(mask)
    yield "to_png", masks.to_png(mask)
    yield "resize_mask", masks.resize_mask(mask, (20, 31)).tobytes()
    found = regions.region(mask)
    yield "band", outlines.band(found, outlines.band_width(found.size_hw)).pixels.tobytes()
    truth, other = of(half() & (np.arange(56) < 20)), of(half() & (np.arange(56) > 40))
    yield "count", counts.count(counts.Answer(mask, (3, 4)), counts.Truth("q", "plain", truth, (other,)))
    soft = np.stack([half(), ~half()]) * 0.8 + 0.1
    yield "adaptive", refine.adaptive(image, soft, refine.TABLETOP_ADAPTIVE).tobytes()
    row = SubjectRow("mug", (image,), "test", "CC0-1.0", "drawn", (mask,))
    yield "SubjectRow", (row.record(), row.digest)
    query = QueryRow(row.id, "mug", image, "the {subject}", "plain", mask, (other,), "test", "CC0-1.0", "drawn")
    yield "QueryRow", (query.record(), query.digest)


def test_every_function_gives_the_same_whatever_the_layout(laid: Callable[[np.ndarray], Any]) -> None:
    for (name, wanted), (_, found) in zip(results(np.ascontiguousarray), results(laid), strict=True):
        assert found == wanted, name


@needs_crf
def test_the_crf_takes_a_read_only_photo(laid: Callable[[np.ndarray], Any]) -> None:
    soft = np.stack([half(), ~half()]) * 0.8 + 0.1
    wanted = refine.dense_crf(picture(), soft, refine.EMBEDDED_CRF)
    assert np.array_equal(refine.dense_crf(laid(picture()), soft, refine.EMBEDDED_CRF), wanted)


@needs_crf
def test_the_method_learns_from_and_looks_at_photos_in_any_layout(backbone: Backbone, tmp_path: Path) -> None:
    settings = {"localizer.refine": "crf", "localizer.samples": 1, "localizer.timesteps": [100], "learner.steps": 1}
    settings |= {"localizer.evidence": {"timesteps": [300], "samples": 1}, "localizer.presence": None}
    settings |= {"localizer.working_size": 64, "learner.working_size": 64, "learner.batch": 1}

    def answer(of: Callable[[np.ndarray], Any], name: str) -> tuple[str, bytes, Any]:
        method = AttentionMethod.make(MethodOptions(settings=settings, store=str(tmp_path / name)), backbone)
        method.encodings = tmp_path / "encodings" / name  # nothing is taken from the others
        concept = method.learn(Subject("mug", "mug", (of(picture(112, 144)),), (of(half(112, 144)),)))
        query = Query("q", "mug", f"the {SLOT}")
        (found,) = method.locate(of(picture(56, 72)), [query], {"mug": concept})
        assert found.mask is not None
        return concept.id, found.mask.tobytes(), (found.presence, dict(concept.calibration))

    wanted = answer(np.ascontiguousarray, "plain")
    for name in ("Fortran", "Pillow", "as numpy.asarray gives it"):
        assert answer(LAYOUTS[name], name.replace(" ", "-")) == wanted, name


def test_the_parts_of_the_localizer_and_the_sheet_take_them_too(backbone: Backbone) -> None:
    settings = dataclasses.replace(default_settings(backbone, "fast"), refine="adaptive")
    concept = noun_only(Subject("mug", "mug", ()))
    query, photo = Query("q", "mug", f"the {SLOT}"), Image.fromarray(picture(56, 72))
    seen = observe(backbone, photo, query, concept, settings)
    mask = predict(seen, photo, "q", settings).mask
    plain = locate(backbone, picture(56, 72), [query], {"mug": concept}, settings)[0].mask
    assert mask is not None and plain is not None and np.array_equal(mask, plain)
    assert sheet(backbone, concept, [photo], settings, samples=0).ndim == 3
