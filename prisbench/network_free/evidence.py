"""Where in a scene a subject's colours, textures and patches are: maps in 0..1.

Knows: models of subjects, one scene at its working size.  Does not know: regions, texts, truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8
from scipy import ndimage

from prisbench.network_free import keypoints as points
from prisbench.network_free.colours import codes, histogram, shape_of
from prisbench.network_free.model import SubjectModel
from prisbench.network_free.patches import describe, nearest
from prisbench.network_free.texture import BINS, texture_codes

STRIDE = 2
"""Pixels from one patch that is looked up to the next."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What is read of a scene once, for all its queries."""

    image: UInt8[np.ndarray, "h w 3"]
    balance: str

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    @cached_property
    def colours(self) -> Int32[np.ndarray, "h w"]:
        return codes(self.image, self.balance)

    @cached_property
    def chroma(self) -> Int32[np.ndarray, "h w"]:
        return codes(self.image, "chromaticity")

    @cached_property
    def textures(self) -> list[Int32[np.ndarray, "h w"]]:
        return texture_codes(self.image, self.balance)

    @cached_property
    def patches(self) -> Float32[np.ndarray, "a b d"]:
        return describe(self.image, self.balance)[::STRIDE, ::STRIDE]

    @cached_property
    def keypoints(self) -> tuple[np.ndarray, np.ndarray]:
        return points.described(self.image)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The maps of one subject in a scene; each is made when it is asked for.

    ``patch_own``: the distance of the patches to the subject's nearest, on their own grid.
    """

    scene: Scene
    model: SubjectModel

    @cached_property
    def colour(self) -> Float32[np.ndarray, "h w"]:
        """The subject's share of a colour against the scene's and the photos' own surroundings'."""
        all_ = histogram(self.scene.colours, np.ones(self.scene.size_hw, np.float32), shape_of(self.scene.balance))
        ratio = self.model.colour / (self.model.colour + 0.4 * all_ + 0.15 * self.model.around + 1e-5)
        return _smooth(ratio[self.scene.colours], 1.0)

    @cached_property
    def texture(self) -> Float32[np.ndarray, "h w"]:
        """The same of colour and texture together, the geometric mean of the two sizes."""
        product = np.ones(self.scene.size_hw, dtype=np.float32)
        whole = np.ones(self.scene.size_hw, np.float32)
        for code, own, around in zip(self.scene.textures, self.model.texture, self.model.texture_around, strict=True):
            all_ = histogram(code, whole, BINS, 0.0)
            product *= _smooth((own / (own + 0.4 * all_ + 0.15 * around + 1e-4))[code], 1.5)
        return np.sqrt(product)

    @cached_property
    def colour_texture(self) -> Float32[np.ndarray, "h w"]:
        """The geometric mean of colour and texture."""
        return np.sqrt(self.colour * self.texture)

    @cached_property
    def patch_own(self) -> Float32[np.ndarray, "a b"]:
        seen = self.scene.patches
        return nearest(seen.reshape(-1, seen.shape[-1]), self.model.own).reshape(seen.shape[:2])

    @cached_property
    def patches(self) -> Float32[np.ndarray, "h w"]:
        """How much nearer the nearest patch of the subject is than that of its surroundings; 0.5 is as near."""
        seen = self.scene.patches
        other = nearest(seen.reshape(-1, seen.shape[-1]), self.model.other).reshape(seen.shape[:2])
        share = other / (other + self.patch_own + 1e-6)
        h, w = self.scene.size_hw
        full = np.repeat(np.repeat(share, STRIDE, axis=0), STRIDE, axis=1)[:h, :w]
        # 0.4..0.75 is the range in which it tells; below and above lie noise and copies of the photos.
        return _smooth(np.clip((full - 0.4) / 0.35, 0, 1), 1.5)

    @cached_property
    def agreeing(self) -> Int64[np.ndarray, "n 2"]:
        """Rows and columns of keypoints that the subject's photos have, too (``keypoints.agreeing``)."""
        return points.agreeing(self.model.keypoints, self.scene.keypoints, self.scene.size_hw)

    @cached_property
    def keypoints(self) -> Float32[np.ndarray, "h w"]:
        """How densely such keypoints lie, within the subject's colours; 1 at the densest, 0 everywhere without any."""
        counts = np.zeros(self.scene.size_hw, dtype=np.float32)
        np.add.at(counts, tuple(self.agreeing.T), 1)
        h, w = self.scene.size_hw
        dense = ndimage.gaussian_filter(counts, 0.05 * (h + w) / 2)
        top = float(dense.max())
        return np.sqrt(dense / top * self.colour) if top > 0 else dense

    @cached_property
    def together(self) -> Float32[np.ndarray, "h w"]:
        """The geometric mean of colour, texture and patches."""
        return np.cbrt(self.colour * self.texture * self.patches)


def _smooth(found: np.ndarray, sigma: float) -> Float32[np.ndarray, "h w"]:
    return np.clip(ndimage.gaussian_filter(found.astype(np.float32), sigma), 0, 1)
