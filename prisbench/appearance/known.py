"""How like a thing is to a subject: what is counted of it, and how well a network knows it again.

    rows    a subject's looks, regions, their vectors  ->  a row of numbers for each region

Knows: counted likeness, vectors of things.  Does not know: networks, texts, weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

from prisbench.network_free.evidence import Evidence
from prisbench.network_free.likeness import NAMES as COUNTED
from prisbench.network_free.likeness import likeness

KNOWN = ("known again", "known again at best", "known again beside others", "known again at best beside others")
"""The mean and the highest cosine of a region's vector and those of the subject in its photos; and each of them less
that of the region beside it which has most, 0 where there is no other."""

NAMES = (*COUNTED, *KNOWN)

Mask = Bool[np.ndarray, "h w"]


class Looks(NamedTuple):
    """A subject's looks in a scene.  ``vectors``: of the subject in each of its photos, None where none are made."""

    evidence: Evidence
    vectors: Float32[np.ndarray, "p e"] | None = None


class Things(NamedTuple):
    """The things of a scene, none where regions are cut from maps; ``vectors``: of each, None where none are made."""

    masks: Sequence[Mask] = ()
    vectors: Float32[np.ndarray, "n e"] | None = None


def rows(
    looks: Looks, regions: Sequence[Mask], vectors: Float32[np.ndarray, "n e"] | None, map_: str, names: Sequence[str]
) -> Float[np.ndarray, "n f"]:
    """As ``likeness``, with ``KNOWN`` beside it; ``vectors``: of the regions, one each."""
    counted = [name for name in names if name not in KNOWN]
    found = dict(zip(counted, likeness(looks.evidence, regions, map_, counted).T, strict=True))
    if len(counted) < len(names):
        assert vectors is not None and looks.vectors is not None, "these weights want vectors"
        found |= dict(zip(KNOWN, known_again(vectors, looks.vectors).T, strict=True))
    return np.array([found[name] for name in names]).T.reshape(len(regions), len(names))


def known_again(vectors: Float32[np.ndarray, "n e"], photos: Float32[np.ndarray, "p e"]) -> Float[np.ndarray, "n 4"]:
    """Of each thing of a scene, ``KNOWN`` against the subject's photos, of which there is at least one."""
    cosines = vectors.astype(np.float64) @ photos.astype(np.float64).T
    alone = np.stack([cosines.mean(1), cosines.max(1)], 1)
    return np.hstack([alone, np.clip(alone - _best_beside(alone), -1, 1)])


def _best_beside(values: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    """Of each row the highest values among the others; its own, where there is no other."""
    if len(values) < 2:
        return values
    return np.stack([np.delete(values, n, axis=0).max(axis=0) for n in range(len(values))])
