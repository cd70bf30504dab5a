"""What speaks for a region's being the subject: what its words show there, and how like the subject it looks.

Knows: sights, a scene's maps, masks of regions.  Does not know: texts, truth, weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from prisbench.appearance.sight import Sight
from prisbench.network_free import likeness
from prisbench.network_free.evidence import Evidence

WORDS = (
    "map of the words",
    "peak of the words",
    "words stand out",
    "share of the words",
    "evidence",
    "evidence stands out",
    "share of the evidence",
    "presence of the words",
)
"""What is read of a sight, region by region; the last is the same for all regions of a scene."""

NAMES = (*WORDS, *likeness.NAMES)

MAP = "together"
"""The map of looks that regions are cut from."""


def witnesses(evidence: Evidence, sight: Sight, regions: Sequence[Bool[np.ndarray, "h w"]]) -> Float[np.ndarray, "n f"]:
    """A row for each region, columns as ``NAMES``."""
    if not regions:
        return np.zeros((0, len(NAMES)))
    words = np.array([_words(sight, region) for region in regions])
    return np.column_stack([words, likeness.likeness(evidence, regions, MAP)])


def _words(sight: Sight, region: Bool[np.ndarray, "h w"]) -> tuple[float, ...]:
    ring = likeness.ring(region)

    def stands_out(map_: np.ndarray) -> float:
        return float(map_[region].mean() - (map_[ring].mean() if ring.any() else 0.0))

    def share(map_: np.ndarray) -> float:
        return float(map_[region].sum() / max(float(map_.sum()), 1e-6))

    return (
        float(sight.map_[region].mean()),
        float(sight.map_[region].max()),
        stands_out(sight.map_),
        share(sight.map_),
        float(sight.evidence[region].mean()),
        stands_out(sight.evidence),
        share(np.maximum(sight.evidence, 0)),
        float(np.log((0.5 if sight.presence is None else sight.presence) + 1e-4)),
    )
