"""The predictors: which map regions are cut from, which numbers of likeness count, and which region is chosen.

    colour            histograms, foreground against background
    colour-texture    colours, and with them directions of change
    patches           nearest small patches, foreground against background
    keypoints         keypoints in one arrangement, their extent by colour
    combined          all of it
    reader            all of it, and what the text says of place

Knows: models, maps, regions, weights, readings of texts.  Does not know: truth, datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from prisbench.errors import MissingExtraError
from prisbench.network_free import keypoints
from prisbench.network_free.evidence import Evidence
from prisbench.network_free.likeness import COLOUR, KEYPOINTS, NAMES, OUTLINE, PATCHES, TEXTURE, likeness
from prisbench.network_free.reader import by_colour, grades
from prisbench.network_free.regions import parts
from prisbench.network_free.weights import Weights
from prisbench.phrases import parse

Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Predictor:
    """``map_``: the map of ``Evidence`` that regions are cut from; ``names``: what of their likeness counts; ``reads``:
    whether it heeds the text.
    """

    name: str
    map_: str
    names: tuple[str, ...]
    reads: bool = False

    @property
    def wants_keypoints(self) -> bool:
        return bool(set(self.names) & set(KEYPOINTS))


PREDICTORS = {
    each.name: each
    for each in (
        Predictor("colour", "colour", (*COLOUR, *OUTLINE)),
        Predictor("colour-texture", "colour_texture", (*COLOUR, *TEXTURE, *OUTLINE)),
        Predictor("patches", "patches", (*PATCHES, *OUTLINE)),
        Predictor("keypoints", "keypoints", (*KEYPOINTS, *OUTLINE)),
        Predictor("combined", "together", NAMES),
        Predictor("reader", "together", NAMES, reads=True),
    )
}


def check_installed(predictor: Predictor) -> None:
    """Raises MissingExtraError where the predictor needs the extra ``network-free`` and it is not there."""
    if predictor.wants_keypoints and not keypoints.available():
        raise MissingExtraError(
            "opencv-python-headless", "network-free", f"the network-free predictor {predictor.name!r}"
        )


class Choice(NamedTuple):
    """The regions that were compared, the score of each in 0..1, and the place of the chosen one, None without any.

    ``outlined``: the regions are outlines of things, which nothing need refine.
    """

    regions: Sequence[Mask]
    scores: Float[np.ndarray, " n"]
    place: int | None
    outlined: bool = False

    @property
    def presence(self) -> float:
        """The score of the chosen one, 0 where there is none."""
        return 0.0 if self.place is None else float(self.scores[self.place])


def choose(
    evidence: Evidence, predictor: Predictor, weights: Weights, text: str, outlines: Sequence[Mask] | None = None
) -> Choice:
    """The region that is likest, of those cut from the map, or of given true outlines."""
    map_ = getattr(evidence, predictor.map_)
    regions = parts(map_) if outlines is None else list(outlines)
    if not regions:
        return Choice((), np.zeros(0), None)
    scores = weights.chance(likeness(evidence, regions, predictor.map_, predictor.names))
    if predictor.reads:
        told = grades(parse(text), regions, scores, by_colour(evidence.scene, outlines))
        scores = scores * told**weights.power
    return Choice(regions, scores, int(np.argmax(scores)))
