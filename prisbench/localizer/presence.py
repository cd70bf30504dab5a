"""When the answer is "not here": which threshold is in use, what it is measured by, and how to get one untuned.

A presence is a share: what a photo shows of the subject, of that and of what the subject's own photos show (0.5: as
much as there).  So a threshold says something about a concept whose own photos were measured under the same settings,
and about no other.

Knows: settings, what a concept holds.  Does not know: the network, photos.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

from prisbench.localizer.settings import Evidence, LocalizerSettings
from prisbench.runtime.files import sha256_json
from prisbench.runtime.source_code import code_sha256
from prisbench.types import Concept

CALIBRATED = "calibrated"
"""The value of ``localizer.presence`` that asks for ``calibrated``."""

UNTUNED = 0.2
"""The threshold of ``calibrated``: that of the preset ``accurate`` for Stable Diffusion, which was not tuned either."""

EVIDENCE = Evidence((300, 500, 700, 850), power=0.0)
"""What ``calibrated`` measures where the settings measure nothing; it leaves the masks as they are."""

TUNED = ("embedded",)
"""The backbone families whose thresholds were chosen on data."""


class Presence(NamedTuple):
    """``threshold`` is None where every photo gets a mask; ``line`` says so, or what it is, for people."""

    threshold: float | None
    line: str


def calibrated(settings: LocalizerSettings) -> LocalizerSettings:
    """The settings with a presence threshold that only the subject's own photos calibrate.

    Settings without evidence gain it for that alone: masks of photos that are not "not here" stay as they were.
    """
    evidence = settings.evidence or EVIDENCE
    return dataclasses.replace(settings, evidence=evidence, presence=settings.presence or UNTUNED)


def in_use(settings: LocalizerSettings, family: str, key: str, concept: Concept | None = None) -> Presence:
    """The threshold that answers about a concept are held against; ``concept`` None: about one that is calibrated.

    ``key`` names the settings, as ``calibration_key``.
    """
    if settings.presence is None:
        return Presence(None, "presence threshold: off (untuned): every photo gets a mask")
    if not settings.evidence:
        return Presence(None, "presence threshold: off: it needs localizer.evidence, which these settings lack")
    line = f"presence threshold: {settings.presence:g}" + ("" if family in TUNED else " (untuned)")
    if concept is not None and concept.calibration.get(key) == 0:
        return Presence(None, "presence threshold: off: the subject's own photos show nothing to hold others against")
    if concept is None or key in concept.calibration:
        return Presence(settings.presence, f"{line}; calibrated on the subject's own photos")
    if not concept.tensors and not concept.recipe.get("rare"):
        return Presence(None, "presence threshold: off: a class word alone has no own photos to calibrate it on")
    return Presence(
        None,
        "presence threshold: off: this concept was not calibrated under these settings; run the same learn-concept "
        "again with the same --set localizer... (it is not learned anew)",
    )


def calibration_key(settings: LocalizerSettings) -> str:
    """Names the settings, and the code, that a calibration holds for."""
    evidence = {name: each for name, each in dataclasses.asdict(settings.evidence).items() if each is not None}
    parts = {"evidence": evidence, "template": settings.template, "version": 3}
    parts |= {"working_size": settings.working_size, "code": code_sha256(Path(__file__).with_name("answer.py"))}
    if settings.evidence.attention:
        names = ("timesteps", "samples", "cross", "weights", "caption")
        parts |= {name: getattr(settings, name) for name in names}
    return sha256_json(parts)[:16]
