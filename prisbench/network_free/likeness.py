"""How much a region of a scene is like a subject: a row of numbers, each the higher the more alike.

Knows: models of subjects, a scene's maps, masks of regions, whoever drew them.  Does not know: texts, truth, weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from prisbench.network_free.colours import histogram, shape_of
from prisbench.network_free.evidence import STRIDE, Evidence
from prisbench.network_free.model import banded, outline
from prisbench.network_free.patches import nearest, thinned
from prisbench.network_free.texture import BINS

COLOUR = ("colour map", "colours", "colours without light", "layers of colour", "colours that are there")
TEXTURE = ("texture map", "fine textures", "coarse textures", "textures that are there")
PATCHES = ("patch map", "patches known", "patches found", "worst patches found")
KEYPOINTS = ("keypoints that agree", "share of keypoints")
OUTLINE = ("size", "height over width", "filled", "whole", "stands out", "map inside")
"""What is compared, by kind.  ``OUTLINE`` is known to every predictor: a region's own form against the photos', and how
it stands in the predictor's own map."""

NAMES = (*COLOUR, *TEXTURE, *PATCHES, *KEYPOINTS, *OUTLINE)

SOUGHT = 160
"""The subject's patches that are looked up in a region."""


def likeness(
    evidence: Evidence,
    regions: Sequence[Bool[np.ndarray, "h w"]],
    map_: str,
    names: Sequence[str] = NAMES,
) -> Float[np.ndarray, "n f"]:
    """A row for each region, columns as ``names``.  ``map_`` is the predictor's own map, for "map inside".

    Only kinds that are asked for are computed.
    """
    columns: dict[str, list[float]] = {name: [] for name in names}
    wanted = set(names)
    for region in regions:
        values: dict[str, float] = {}
        for kind, measure in ((COLOUR, _colour), (TEXTURE, _texture), (PATCHES, _patches), (KEYPOINTS, _keypoints)):
            if wanted & set(kind):
                values |= dict(zip(kind, measure(evidence, region), strict=True))
        if wanted & set(OUTLINE):
            values |= dict(zip(OUTLINE, _outline(evidence, region, getattr(evidence, map_)), strict=True))
        for name in names:
            columns[name].append(values[name])
    return np.array([columns[name] for name in names], dtype=np.float64).T.reshape(len(regions), len(names))


def _colour(evidence: Evidence, region: np.ndarray) -> tuple[float, ...]:
    scene, model, box = evidence.scene, evidence.model, _box(region)
    weight = region[box].astype(np.float32)
    here = histogram(scene.colours[box], weight, shape_of(scene.balance))
    chroma = histogram(scene.chroma[box], weight, shape_of("chromaticity"))
    layers = banded(scene.colours[box], region[box], scene.balance)
    return (
        float(evidence.colour[region].mean()),
        _overlap(here, model.colour),
        _overlap(chroma, model.chroma),
        float(np.mean([_overlap(a, b) for a, b in zip(layers, model.bands, strict=True)])),
        float(np.minimum(here * 2, model.colour).sum()),
    )


def _texture(evidence: Evidence, region: np.ndarray) -> tuple[float, ...]:
    model, box = evidence.model, _box(region)
    weight = region[box].astype(np.float32)
    here = [histogram(code[box], weight, BINS, 0.0) for code in evidence.scene.textures]
    return (
        float(evidence.texture[region].mean()),
        *(_overlap(a, b) for a, b in zip(here, model.texture, strict=True)),
        float(np.minimum(here[0] * 2, model.texture[0]).sum()),
    )


def _patches(evidence: Evidence, region: np.ndarray) -> tuple[float, ...]:
    """Known: a region's patches are near the subject's.  Found: the subject's patches are near some of the region's."""
    inside = region[::STRIDE, ::STRIDE]
    if not inside.any():
        inside = ndimage.binary_dilation(region, iterations=STRIDE)[::STRIDE, ::STRIDE]
    there = evidence.scene.patches[inside]
    sought = nearest(thinned(evidence.model.own, SOUGHT), thinned(there, 600))
    return (
        float(evidence.patches[region].mean()),
        -float(evidence.patch_own[inside].mean()),
        -float(sought.mean()),
        -float(np.quantile(sought, 0.9)),
    )


def _keypoints(evidence: Evidence, region: np.ndarray) -> tuple[float, ...]:
    agreeing = evidence.agreeing
    inside = int(region[agreeing[:, 0], agreeing[:, 1]].sum()) if len(agreeing) else 0
    return float(np.log1p(inside)), inside / len(agreeing) if len(agreeing) else 0.0


def _outline(evidence: Evidence, region: np.ndarray, map_: np.ndarray) -> tuple[float, ...]:
    ratio, filled = outline(region)
    known = evidence.model.outlines
    edge = np.concatenate([region[0], region[-1], region[:, 0], region[:, -1]])
    ring = _ring(region)
    return (
        float(np.log(region.mean())),
        -float(np.abs(np.log(ratio / known[:, 0])).min()),
        -float(np.abs(filled - known[:, 1]).min()),
        -float(edge.sum() / np.sqrt(region.sum())),
        float(map_[region].mean() - (map_[ring].mean() if ring.any() else 0.0)),
        float(map_[region].sum() / max(float(map_.sum()), 1e-6)),
    )


def _ring(region: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The pixels two to four away from a region."""
    y, x = _box(region)
    near = slice(max(y.start - 5, 0), y.stop + 5), slice(max(x.start - 5, 0), x.stop + 5)
    ring = np.zeros(region.shape, dtype=bool)
    ring[near] = ndimage.binary_dilation(region[near], iterations=4) & ~ndimage.binary_dilation(region[near])
    return ring


def _box(region: Bool[np.ndarray, "h w"]) -> tuple[slice, slice]:
    found: tuple[slice, slice] = ndimage.find_objects(region.astype(np.int8))[0]
    return found


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The Bhattacharyya coefficient of two histograms, 0..1."""
    return float(np.sqrt(a * b).sum())
