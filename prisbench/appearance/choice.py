"""Which region is the subject that a text means: of those that the words' map and the map of looks hold.

Knows: sights, scenes, weights, readings of texts.  Does not know: truth, datasets.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from prisbench.appearance.known import Looks, Things, rows
from prisbench.appearance.sight import Sight
from prisbench.images.regions import distinct
from prisbench.localizer import places
from prisbench.localizer.settings import LocalizerSettings
from prisbench.network_free.evidence import Evidence
from prisbench.network_free.predictors import Choice
from prisbench.network_free.reader import FindLandmark, by_colour, grades
from prisbench.network_free.regions import SAME, parts
from prisbench.network_free.weights import Weights
from prisbench.phrases import Condition, parse

NAME = "attn-features"
MAP = "together"
"""The map of looks that regions are cut from."""

FILE = Path(__file__).with_name("weights.json")
"""Weights fitted on validation, a set for each reference setting."""

NOTHING = Things()

Mask = Bool[np.ndarray, "h w"]


def choose(
    looks: Looks, sight: Sight, settings: LocalizerSettings, weights: Weights, text: str, things: Things = NOTHING
) -> Choice:
    """The region that looks likest the subject, and keeps best what the text says of place; ``things``: as
    ``regions_of``.
    """
    regions = regions_of(looks.evidence, sight, things.masks)
    if not regions:
        return Choice((), np.zeros(0), None)
    scores = weights.chance(rows(looks, regions, things.vectors, MAP, weights.names))
    told = grades(parse(text), regions, scores, landmarks(looks.evidence, sight, settings, things.masks))
    scores = scores * told**weights.power
    return Choice(regions, scores, int(np.argmax(scores)), outlined=len(things.masks) > 0)


def regions_of(evidence: Evidence, sight: Sight, things: Sequence[Mask] = ()) -> list[Mask]:
    """The things that were found in the photo, without any the parts of both maps, each place once."""
    if things:
        return list(things)
    found = parts(getattr(evidence, MAP)) + parts(sight.map_)
    return [found[place] for place in distinct(found, SAME)]


def landmarks(
    evidence: Evidence, sight: Sight, settings: LocalizerSettings, things: Sequence[Mask] = ()
) -> FindLandmark:
    """A landmark by its own words: the things that were found, each by how high the words' map is on it, without any
    the parts of the map.  By its colours where the words show nothing.
    """

    @functools.cache
    def find(condition: Condition) -> Sequence[tuple[Mask, float]]:
        map_ = sight.landmarks.get(condition.landmark or "")
        found: list[tuple[Mask, float]] = []
        if map_ is not None and things:
            heights = [(thing, float(map_[thing].mean())) for thing in things]
            found = [(thing, height) for thing, height in heights if height > 0]
        elif map_ is not None:
            found = [(part.mask, part.peak) for part in places.parts(map_, settings.places)]
        return found or by_colour(evidence.scene, things or None)(condition)

    return find
