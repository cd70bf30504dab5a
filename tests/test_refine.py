"""The dense CRF on pictures one can draw by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from prisbench.errors import MissingExtraError
from prisbench.refine import EMBEDDED_CRF, PUBLISHED_CRF, dense_crf

needs_crf = pytest.mark.skipif(
    not pytest.importorskip("importlib.util").find_spec("pydensecrf"), reason="the extra 'crf' is not installed"
)


def picture() -> tuple[np.ndarray, np.ndarray]:
    """A red rectangle on grey with a little noise, 40 x 60, and its mask."""
    mask = np.zeros((40, 60), bool)
    mask[12:30, 20:45] = True
    image = np.where(mask[..., None], (200, 40, 40), (110, 110, 110))
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return (image + noise).astype(np.uint8), mask


def blurred() -> np.ndarray:
    """Probabilities of a round blob in about the right place."""
    y, x = np.mgrid[:40, :60]
    subject = np.exp(-((y - 20) ** 2 + (x - 31) ** 2) / 150)
    return np.stack([1 - subject, subject]).clip(0.02, 0.98)


@needs_crf
@pytest.mark.parametrize("parameters", [PUBLISHED_CRF, EMBEDDED_CRF])
def test_the_crf_pulls_a_blob_to_the_edges_of_the_thing(parameters: object) -> None:
    image, truth = picture()
    before = blurred()
    after = dense_crf(image, before, parameters)  # type: ignore[arg-type]

    def iou(p: np.ndarray) -> float:
        mask = p[1] > p[0]
        return (mask & truth).sum() / (mask | truth).sum()

    assert after.shape == before.shape
    assert np.allclose(after.sum(0), 1, atol=1e-5)
    assert iou(before) < 0.7 and iou(after) > 0.95


@needs_crf
def test_a_common_factor_of_a_pixels_scores_changes_nothing() -> None:
    image, _ = picture()
    assert np.allclose(
        dense_crf(image, blurred(), EMBEDDED_CRF), dense_crf(image, 3 * blurred(), EMBEDDED_CRF), atol=1e-4
    )


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'prisbench\[crf\]'"):
        dense_crf(picture()[0], blurred(), EMBEDDED_CRF)
