"""Where is it?  Masks that ignore who is asked for.

Knows: masks.  Does not know: how things look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from prisbench.images.regions import iou
from prisbench.tabletop.audit.rows import Row, mean
from prisbench.tabletop.audit.views import Facts

KINDS = ("plain", "other-category", "look-alike", "relation", "referred")
"""Query types that mean a thing."""

_GRID = (48, 48)
"""Rows and columns of the mean mask of the subjects of validation."""


def where(fit: Sequence[Facts], test: Sequence[Facts]) -> Iterator[Row]:
    """mIoU of the mean mask of validation, of all things together, and of a thing by lot."""
    fit, test = ([q for q in some if q.target is not None] for some in (fit, test))
    average = np.mean([_resized(q.truth, _GRID) for q in fit], axis=0)

    def overlap(q: Facts, level: float) -> float:
        return iou(_resized(average >= level, q.truth.shape), q.truth)

    best = max(
        np.quantile(average, np.linspace(0.3, 0.98, 35)), key=lambda level: np.mean([overlap(q, level) for q in fit])
    )
    predictors: dict[str, Callable[[Facts], float]] = {
        "where the subjects of validation stood": lambda q: overlap(q, best),
        "all things": lambda q: iou(np.any(q.masks, axis=0), q.truth),
        "one of the things, by lot": lambda q: 1 / len(q.masks),
    }
    kinds = [kind for kind in KINDS if any(q.kind == kind for q in test)]
    for predictor, score in predictors.items():
        for scope, wanted in [("all that mean a thing", kinds), *((kind, [kind]) for kind in kinds)]:
            some = [q for q in test if q.kind in wanted]
            value, spread = mean([score(q) for q in some], some)
            yield Row("where", predictor, "scene", scope, len(some), value, spread, None, None)


def _resized(mask: Bool[np.ndarray, "_h _w"], size_hw: tuple[int, ...]) -> Bool[np.ndarray, "_h2 _w2"]:
    """Nearest pixels."""
    rows, columns = (np.arange(new) * old // new for old, new in zip(mask.shape, size_hw, strict=True))
    return mask[rows][:, columns]
