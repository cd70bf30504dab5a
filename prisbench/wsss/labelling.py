"""Class scores of a photo to labels: the background's score, refinement, what is too unsure to be
taught.

Knows: soft maps and photos as arrays, folders of masks, worker processes.  Does not know:
networks, prompts, truth.

Nothing here loads torch (but for the refinement without a compiler, which is made of it), so that
a worker process starts in a moment.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.localizer.background import with_background
from prisbench.localizer.refine import AdaptiveParameters, CrfParameters, adaptive, dense_crf
from prisbench.wsss.labels import write_mask
from prisbench.wsss.layouts import VOID
from prisbench.wsss.maps import SoftMap, enlarged

RULES = ("squared", "threshold")
REFINEMENTS = ("none", "crf", "adaptive")

MASKS, BEFORE, TAUGHT = "masks", "before", "labels"
"""Folders of a run: every pixel labelled, the same before refinement,
and with unsure pixels void: what is taught."""

CONFIDENCES = {"none": 0.95, "crf": 0.95, "adaptive": 0.6}
"""Refinement -> the probability below which a pixel is void.  The CRF's: Text2Mask,
``scripts/SD_seg.py``.  Averages are softer than a CRF's marginals: of Tabletop's pixels 0.95 would
leave out 60 % there, 0.6 leaves out 8 %."""


@dataclass(frozen=True)
class LabelSettings:
    """Every number between a soft map and labels.

    ``rule`` and ``tau``: see ``with_background``.  ``refine``: "none", "crf" or "adaptive", with
    their parameters.
    ``confidence``: a refined pixel whose highest probability is below is void in what is taught.
    Without refinement nothing is void: the scores are no probabilities.
    """

    rule: str
    tau: float
    refine: str
    crf: CrfParameters
    adaptive: AdaptiveParameters
    confidence: float = CONFIDENCES["crf"]

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UnknownNameError("rule", self.rule, RULES)
        if self.refine not in REFINEMENTS:
            raise UnknownNameError("refinement", self.refine, REFINEMENTS)
        if not 0 < self.tau < 1:
            raise UsageError(f"tau is {self.tau}; it must lie between 0 and 1")
        if not 0 <= self.confidence <= 1:
            raise UsageError(f"the confidence is {self.confidence}; it must lie within 0..1")


class Labels(NamedTuple):
    """Of one photo, at its size: labels before refinement, after it,
    and after it with unsure pixels void.
    """

    before: UInt8[np.ndarray, "h w"]
    after: UInt8[np.ndarray, "h w"]
    taught: UInt8[np.ndarray, "h w"]


def label(photo: UInt8[np.ndarray, "h w 3"], soft: SoftMap, settings: LabelSettings) -> Labels:
    """The labels of a photo; a map smaller than it is enlarged bilinearly.  Without classes, all
    is background.

    The published code cuts before refinement on the network's grid and enlarges the labels; here
    the scores are enlarged first, as it does for the CRF.  Raises MissingExtraError for a CRF that
    is not installed.
    """
    photo = np.require(photo, requirements=["C", "W"])  # the CRF takes no other
    h, w = photo.shape[:2]
    if not soft.labels:
        nothing = np.zeros((h, w), np.uint8)
        return Labels(nothing, nothing, nothing)
    fields = with_background(enlarged(soft.scores, (h, w)), settings.rule, settings.tau)
    names = np.array((0, *soft.labels), np.uint8)
    before = names[fields.argmax(axis=0)]
    if settings.refine == "none":
        return Labels(before, before, before)
    if settings.refine == "crf":
        refined = dense_crf(photo, fields, settings.crf)
    else:
        refined = adaptive(photo, fields, settings.adaptive)
    after = names[refined.argmax(axis=0)]
    unsure = refined.max(axis=0) < settings.confidence
    return Labels(before, after, np.where(unsure, np.uint8(VOID), after))


# --- a folder of masks ----------------------------------------------------------------------------------------------


def is_labelled(folder: Path, image_id: str) -> bool:
    """Whether all masks of an image are there; they appear whole or not at all, the last one last."""
    return all((folder / kind / f"{image_id}.png").is_file() for kind in (TAUGHT, MASKS, BEFORE))


def label_into(
    folder: Path, image_id: str, photo: UInt8[np.ndarray, "h w 3"], soft: SoftMap, settings: LabelSettings
) -> str:
    """Write an image's masks; returns its id.  What a worker process does."""
    before, after, taught = label(photo, soft, settings)
    for kind, labels in ((BEFORE, before), (MASKS, after), (TAUGHT, taught)):
        write_mask(folder / kind / f"{image_id}.png", labels)
    return image_id


def as_record(settings: LabelSettings) -> dict[str, Any]:
    """Plain JSON values."""
    return asdict(settings)


def from_record(record: Any, where: str) -> LabelSettings:
    """The settings that ``as_record`` wrote.  Raises DataError naming ``where``."""
    try:
        values = dict(record)
        values["crf"] = CrfParameters(**values["crf"])
        rings = values["adaptive"]
        values["adaptive"] = AdaptiveParameters(**{**rings, "dilations": tuple(rings["dilations"])})
        return LabelSettings(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} does not say how its masks were made ({error!r}); make them again") from None
